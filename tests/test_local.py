"""Partitions that take steps of their own: consensus ends at the minimum, averaged descent does what it says."""

import dask.array as da
import numpy as np
import pytest
from helpers import problem_of, same_bits
from numpy.testing import assert_allclose, assert_array_equal

import dask_gd
from dask_gd import ADMM, LocalSGD, Logistic, Squared
from dask_gd.errors import InvalidArgumentError
from dask_gd.kernels.own_steps import STEP_ROWS, least_norm

GROUPS = np.arange(8) // 3
BOUNDED = [Squared(), Logistic(), dask_gd.Huber(1.0), dask_gd.SquaredHinge()]


def chunked(x, rows=100):
    return da.from_array(x, chunks=(rows, -1))


@pytest.mark.parametrize("loss", BOUNDED, ids=repr)
@pytest.mark.parametrize(
    "penalty",
    [dask_gd.L2(0.1), dask_gd.L1(0.05), dask_gd.GroupLasso(0.05, GROUPS), dask_gd.L1(0.05 * GROUPS)],
    ids=repr,
)
def test_consensus_is_the_minimum(loss, penalty):
    x, y = problem_of(loss, p=8)
    exact = dask_gd.fit(x, y, loss=loss, penalty=penalty, tol=1e-10)
    run = dask_gd.fit(chunked(x, 300), y, loss=loss, penalty=penalty, solver=ADMM(), tol=1e-6, max_iter=1000)
    assert run.reason == "converged"
    assert_allclose(run.parameters, exact.parameters, rtol=1e-4, atol=1e-4)
    assert_array_equal(run.weights == 0, exact.weights == 0)


@pytest.mark.parametrize("rows", [40, 90, 300])
@pytest.mark.parametrize("units", [0.0, 2.0])
def test_neither_the_order_nor_units_nor_means_nor_row_weights_matter(rows, units):
    """Sorted by a feature partitions have little in common, and one has no weight at all."""
    x, y = problem_of(Logistic(), n=300, p=6)
    order = np.argsort(x[:, 0])
    x, y = x[order] * 10.0 ** np.linspace(-units, units, 6) + 5.0 * units, y[order]
    s = np.random.default_rng(1).integers(0, 3, 300).astype(float)
    s[:40] = 0.0
    options = {"loss": "logistic", "penalty": dask_gd.L2(1e-3), "sample_weight": s}
    exact = dask_gd.fit(x, y, tol=1e-11, **options)
    run = dask_gd.fit(chunked(x, rows), y, solver="admm", tol=1e-8, max_iter=2000, **options)
    assert run.converged
    assert_allclose(run.predict(x), exact.predict(x), atol=1e-5)


def test_collinear_columns_are_no_obstacle():
    x, y = problem_of(Squared(), p=4)
    run = dask_gd.fit(chunked(np.column_stack([x, x[:, 0]])), y, solver="admm", tol=1e-8, max_iter=500)
    assert run.converged
    assert_allclose(run.predict(np.column_stack([x, x[:, 0]])), dask_gd.fit(x, y, tol=1e-12).predict(x), atol=1e-6)


def test_outputs_and_classes_come_to_consensus_too():
    x, y = problem_of(Squared(), p=5)
    both = np.column_stack([y, y[::-1]])
    run = dask_gd.fit(chunked(x), both, solver="admm", tol=1e-8, max_iter=500)
    assert_allclose(run.parameters, dask_gd.fit(x, both, tol=1e-12).parameters, atol=1e-6)
    classes = np.digitize(y, np.quantile(y, [0.3, 0.6]))
    options = {"loss": "softmax", "penalty": dask_gd.L2(0.01)}
    run = dask_gd.fit(chunked(x), classes, solver="admm", tol=1e-7, max_iter=2000, **options)
    assert_allclose(run.predict(x), dask_gd.fit(x, classes, tol=1e-11, **options).predict(x), atol=1e-5)


def by_hand(x, y, w, b, rate, ridge, rows):
    """One pass of `LocalSGD`, logistic: the mean of where the partitions end."""
    ends = []
    for start in range(0, len(x), rows):
        v, c = w.copy(), b
        for first in range(start, min(start + rows, len(x)), STEP_ROWS):
            block = slice(first, min(first + STEP_ROWS, start + rows))
            slope = 1 / (1 + np.exp(-(x[block] @ v + c))) - y[block]
            v, c = v - rate * (x[block].T @ slope / len(slope) + ridge * v), c - rate * slope.mean()
        ends.append(np.append(v, c))
    return np.average(ends, axis=0, weights=[len(x[i : i + rows]) for i in range(0, len(x), rows)])


def test_a_pass_of_local_descent_is_the_mean_of_where_partitions_end():
    x, y = problem_of(Logistic(), n=3000, p=4)
    run = dask_gd.fit(
        chunked(x, 700), y, loss="logistic", penalty=dask_gd.L2(0.1), solver=LocalSGD(0.3, decay=1.0), max_iter=3
    )
    w = -0.3 * np.append(x.T @ (0.5 - y), (0.5 - y).sum()) / 3000  # the first step is one of gradient descent
    for t in range(2):
        w = by_hand(x, y, w[:4], w[4], 0.3 / (1 + t), 0.1, 700)
    assert_allclose(run.parameters[:, 0], w, rtol=1e-10)
    assert_allclose(run.history.step_size, 0.3 / (1 + np.arange(4)))


def test_a_pass_of_it_is_worth_many_of_gradient_descent():
    x, y = problem_of(Logistic(), n=20_000, p=6)
    least = dask_gd.fit(x, y, loss="logistic").history.loss[-1]
    local, descent = (
        dask_gd.fit(chunked(x, 5000), y, loss="logistic", solver=solver, max_iter=4).history.loss[-1] - least
        for solver in (LocalSGD(), dask_gd.GradientDescent())
    )
    assert 0 < local < 0.2 * descent


@pytest.mark.parametrize("solver", [ADMM(), LocalSGD()], ids=lambda s: s.name)
def test_a_resumed_fit_has_the_bits_of_one_that_ran_through(solver, tmp_path):
    x, y = problem_of(Logistic(), p=5)
    options = {"loss": "logistic", "solver": solver, "tol": 1e-12}
    dask_gd.fit(chunked(x), y, **options, max_iter=4, store=tmp_path)
    same_bits(
        dask_gd.fit(chunked(x), y, **options, max_iter=9),
        dask_gd.fit(chunked(x), y, **options, max_iter=9, store=tmp_path),
    )


def test_a_model_of_ones_own_goes_down_locally():
    def least_squares(params, x, y, weight):
        left = x @ params["w"] - y
        return 0.5 * left @ left, {"w": x.T @ left}

    x, y = problem_of(Squared(), n=2000, p=3)
    y = y - y.mean()
    model = dask_gd.Model(least_squares, {"w": np.zeros(3)})
    run = dask_gd.fit(chunked(x, 500), y, loss=model, solver=LocalSGD(0.1), max_iter=50)
    assert_allclose(run.parameters[:3, 0], np.linalg.lstsq(x, y)[0], atol=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "poisson", "solver": "admm"}, "has no bound, and so no step is safe"),
        ({"penalty": dask_gd.L1(0.1), "solver": "local_sgd"}, "does not serve"),
        ({"solver": "admm", "loss": dask_gd.Model(lambda *_: None, np.zeros(3))}, "needs a curvature"),
    ],
    ids=["loss", "penalty", "model"],
)
def test_what_they_do_not_serve_is_refused(options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        dask_gd.fit(np.ones((4, 2)), np.ones(4), **options)


@pytest.mark.parametrize("rho", [0.0, -1.0, np.nan])
def test_an_impossible_rho_is_refused(rho):
    with pytest.raises(InvalidArgumentError, match=r"ADMM\(rho="):
        ADMM(rho)


def test_the_least_solution_of_a_singular_system():
    h = np.array([[4.0, 4.0, 0.0], [4.0, 4.0, 0.0], [0.0, 0.0, 0.0]])
    assert_allclose(least_norm(h, np.array([2.0, 2.0, 0.0])), [0.25, 0.25, 0.0])
