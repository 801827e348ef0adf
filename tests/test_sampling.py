"""A fit that starts on some of the rows ends on all of them, at the same place, whatever the samples are like."""

from pathlib import Path

import numpy as np
import pytest
from helpers import problem, sklearn_logistic, to_zarr

import dask_gd


def fit(x, y=None, **options):
    options = {"loss": "logistic", "penalty": dask_gd.L2(1e-3), "tol": 1e-10, **options}
    return dask_gd.fit(x, y, **options)


FLIGHTS = Path(__file__).parents[1] / "data" / "flights.zarr"


@pytest.fixture
def stored(tmp_path):
    """64 chunks in 64 partitions, enough to sample from, and what is in them."""
    x, _, y = problem(6400, 5)

    def store(order=slice(None), name="data"):
        return to_zarr(x[order], 100, tmp_path / name / "x"), to_zarr(y[order], 100, tmp_path / name / "y")

    return x, y, store


def test_the_first_steps_read_some_rows_and_the_last_all(stored):
    x, y, store = stored
    run = fit(*store())
    rows = run.history.rows.values
    rows = rows[: len(rows) - int(rows[-1] == 0)]  # the last step may have been taken unseen
    assert rows[0] == 400
    # A pass over all rows may be followed by others over the first sample, which are of the same step.
    assert set(rows[:2]) <= {400, 1600}
    assert set(rows) <= {400, 1600, 6400, 6800}
    assert (np.diff(rows // 800) >= 0).all()
    np.testing.assert_array_equal(run.history.passes[: len(rows)], rows / 6400)
    assert float(run.history.passes.sum()) < fit(x, y, initial_weights=np.zeros(5)).history.passes.sum()
    np.testing.assert_allclose(run.parameters[:, 0], sklearn_logistic(x, y, 1e-3), rtol=1e-7)


def test_features_too_rare_for_a_sample_do_not_mislead_newton():
    """An airport in a handful of the sample's rows: a weight thrown far to one side would take many passes back."""
    source = dask_gd.open(FLIGHTS, x="X", y="late")
    sampled = fit(source, penalty=None, tol=1e-6)
    whole = fit(source, penalty=None, tol=1e-6, initial_weights=np.zeros(source.shape[1]))
    assert sampled.history.rows[0] < whole.history.rows[0]
    assert sampled.history.passes.sum() < whole.history.passes.sum() + 2
    np.testing.assert_allclose(sampled.parameters, whole.parameters, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
@pytest.mark.parametrize("order", ["as it comes", "by target", "by feature", "by prediction"])
def test_the_rows_order_only_costs_time(stored, order, solver):
    x, y, store = stored
    keys = {"as it comes": np.zeros(6400), "by target": y, "by feature": x[:, 0], "by prediction": x @ np.ones(5)}
    run = fit(*store(np.argsort(keys[order], kind="stable"), order), solver=solver)
    assert run.history.rows[0] == 400
    assert run.converged
    np.testing.assert_allclose(run.parameters[:, 0], sklearn_logistic(x, y, 1e-3), rtol=1e-7)


def test_rows_without_weight_only_cost_time(stored):
    x, y, store = stored
    s = np.zeros(6400)
    s[1000:2000] = 1.0
    run = fit(*store(), sample_weight=s)
    np.testing.assert_allclose(run.parameters[:, 0], sklearn_logistic(x, y, 1e-3, s), rtol=1e-7)


def test_a_seed_draws_the_same_rows_and_another_others(stored):
    data = stored[2]()
    a, b, other = fit(*data, seed=1), fit(*data, seed=1), fit(*data, seed=2)
    np.testing.assert_array_equal(a.history.loss, b.history.loss)
    assert a.history.loss[1] != other.history.loss[1]
    np.testing.assert_allclose(a.parameters, other.parameters, rtol=1e-7)


def test_faults_in_rows_that_no_sample_reads_are_found(stored):
    _, y, store = stored
    for index in range(6400 - 100, 6400, 7):
        y[index] = 2.0
    with pytest.raises(dask_gd.errors.DataError, match="found 2"):
        fit(*store())


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
def test_a_fit_interrupted_while_it_samples_resumes_to_the_same_bits(stored, tmp_path, solver):
    class Stop(BaseException):
        pass

    data = stored[2]()
    whole = fit(*data, solver=solver)
    # L-BFGS takes several steps on each sample, Newton's method one or two.
    for n in range(0, min(12, whole.n_iter + 1), {"newton": 1, "lbfgs": 2}[solver]):

        def interrupt(event, n=n):
            if getattr(event, "iteration", None) == n:
                raise Stop

        store = tmp_path / f"run-{n}"
        with pytest.raises(Stop):
            fit(*data, solver=solver, store=store, callbacks=[interrupt])
        resumed = fit(*data, solver=solver, store=store)
        np.testing.assert_array_equal(resumed.parameters, whole.parameters)
        for name in ("loss", "grad_norm", "rows"):
            np.testing.assert_array_equal(resumed.history[name], whole.history[name])
