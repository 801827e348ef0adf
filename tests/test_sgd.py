"""Steps on some partitions: the seed decides which, whatever runs them, and they lead to the minimum."""

import dask.array as da
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import dask_gd
from dask_gd.errors import DataError, InvalidArgumentError

STEPS = 30


def problem(n=4000, p=4):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, p))
    z = x @ rng.normal(size=p) + 0.5
    return da.from_array(x, chunks=(200, p)), (z + rng.logistic(size=n) > 0).astype(float)


def fit(x, y, seed=0, loss="logistic", max_iter=STEPS, **options):
    solver = dask_gd.SGD(**{"batch": 0.1, "decay": 0.02, **options.pop("solver", {})})
    return dask_gd.fit(x, y, loss=loss, solver=solver, seed=seed, max_iter=max_iter, **options)


def test_a_step_reads_its_share_of_the_partitions():
    run = fit(*problem())
    assert_allclose(run.history.passes, 0.1)
    assert (run.reason, run.n_iter) == ("max_iter", STEPS)


def test_every_partition_is_read_once_in_a_pass():
    x, y = problem()
    n = 20 * [0]

    def counted(block, block_info=None):
        n[block_info[0]["chunk-location"][0]] += 1
        return block

    fit(x.map_blocks(counted, dtype=x.dtype), y, max_iter=9, solver={"batch": 0.1})
    assert n == 20 * [1]


def test_neither_weights_nor_sizes_of_partitions_bias_it():
    """Where they are drawn one by one: heavy ones count for more, and rows of small ones for no more than others."""
    x = np.random.default_rng(0).normal(size=(2000, 2))
    y = np.where(np.arange(2000) < 1000, 0.0, 10.0)
    s = np.where(np.arange(2000) < 1000, 1.0, 0.1)
    for chunks, weight in (((1000,) + 10 * (100,), None), (100, s)):
        options = {"loss": "squared", "sample_weight": weight, "max_iter": 600}
        solver = {"batch": 0.05, "learning_rate": 0.5, "decay": 0.2}
        run = fit(da.from_array(x, chunks=(chunks, -1)), y, solver=solver, **options)
        exact = np.average(y, weights=weight)
        assert abs(float(run.intercept) - exact) < 0.15 * exact + 0.1


def test_the_seed_decides():
    x, y = problem()
    assert_array_equal(fit(x, y).weights, fit(x, y).weights)
    assert np.abs(fit(x, y).weights - fit(x, y, seed=1).weights).max() > 1e-4


@pytest.mark.parametrize("loss", ["logistic", "squared", "poisson"])
def test_it_leads_to_the_minimum(loss):
    x, y = problem()
    rate = {"learning_rate": 0.3} if loss == "poisson" else {}
    run, exact = fit(x, y, loss=loss, max_iter=400, solver=rate), dask_gd.fit(x, y, loss=loss)
    assert_allclose(run.weights, exact.weights, atol=0.05)
    start, near = (
        dask_gd.fit(x, y, loss=loss, initial_weights=w, max_iter=0).history.loss[0] for w in (np.zeros(4), run)
    )
    least = exact.history.loss[-1]
    assert near - least < 0.01 * (start - least)


def test_all_partitions_at_once_are_gradient_descent():
    x, y = problem()
    whole = fit(x, y, solver={"batch": 1.0})
    plain = dask_gd.fit(x, y, loss="logistic", solver=dask_gd.GradientDescent(decay=0.02), max_iter=STEPS)
    assert_array_equal(whole.weights, plain.weights)


@pytest.mark.parametrize(("schedule", "power"), [("constant", 0.0), ("sqrt", 0.5), ("inverse", 1.0)])
def test_the_rate_falls_by_schedule(schedule, power):
    run = fit(*problem(), solver={"learning_rate": 0.5, "decay": 0.3, "schedule": schedule})
    steps = run.history.step_size.values
    assert_allclose(steps, 0.5 / (1 + 0.3 * np.arange(len(steps))) ** power, rtol=1e-12)


def test_absolute_values_make_weights_zero():
    x, y = problem(p=12)
    penalty = dask_gd.L1(0.02)
    run = fit(x, y, penalty=penalty, max_iter=400, solver={"decay": 0.05})
    exact = dask_gd.fit(x, y, loss="logistic", penalty=penalty)
    assert_allclose(run.weights, exact.weights, atol=0.06)
    assert (run.weights == 0).any()


def test_a_resumed_fit_has_the_bits_of_one_that_ran_through(tmp_path):
    x, y = problem()
    fit(x, y, store=tmp_path, max_iter=7)
    assert_array_equal(fit(x, y, store=tmp_path).weights, fit(x, y).weights)


def test_classes_that_the_first_partitions_lack_are_no_fault():
    x, y = problem()
    y = np.sort(y)
    assert 0 < float(fit(x, y, max_iter=3).history.loss[-1]) < np.inf


@pytest.mark.parametrize(
    "options",
    [{"batch": 0.0}, {"batch": 1.5}, {"decay": -1.0}, {"learning_rate": "fast"}, {"schedule": "slow"}],
    ids=repr,
)
def test_what_makes_no_step_is_refused(options):
    with pytest.raises(InvalidArgumentError, match="SGD"):
        dask_gd.SGD(**options)


@pytest.mark.parametrize("lost", ["weight", "rows"])
def test_partitions_may_lack_weight_but_not_all_of_them(lost):
    x, y = problem()
    s = np.zeros(len(y))
    if lost == "rows":
        x, s = x * np.nan, None
    with pytest.raises(
        (InvalidArgumentError, DataError), match="sum to 0" if lost == "weight" else "All .* rows hold NaN"
    ):
        fit(x, y, sample_weight=s, nan="drop")
    if lost == "weight":
        s[-200:] = 1.0
        assert np.isfinite(fit(x, y, sample_weight=s).weights).all()
