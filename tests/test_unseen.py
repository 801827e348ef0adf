"""Steps taken without a pass to look where they end: they end within the tolerance, and the loss is as foretold."""

import dask.array as da
import numpy as np
import pytest
from helpers import problem

import dask_gd
from dask_gd.kernels.base import Request, sums_of_rows
from dask_gd.model.losses import as_loss
from dask_gd.solvers.objective import gradient_cosine, objective


def measured(x, y, loss, penalty, parameters):
    """Loss and gradient at the parameters, the latter over its scale as `fit` has it."""
    loss, query = as_loss(loss), np.zeros((x.shape[1] + 1, 1, 1))
    start = sums_of_rows(x, y[:, None], None, query, loss, Request(moments=True))
    query = parameters[:, :, None]
    sums = sums_of_rows(x, y[:, None], None, query, loss, Request())
    seen = objective(sums, query, penalty, loss, x.shape[1])
    return seen.loss[0], gradient_cosine(seen.gradient[:, :, 0], start.moments, start.weight, x.shape[1])


@pytest.mark.parametrize("tol", [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9])
@pytest.mark.parametrize("loss", ["squared", "logistic"])
@pytest.mark.parametrize(("n", "p", "alpha"), [(600, 7, 1e-3), (600, 7, 1e-6), (3000, 60, 1e-3), (300, 60, 1e-2)])
def test_where_a_converged_fit_ends_the_gradient_is_within_the_tolerance(loss, n, p, alpha, tol):
    for seed in range(1):
        x, *targets = problem(n, p, seed)
        y, penalty = targets[loss == "logistic"], dask_gd.L2(alpha)
        blocks = da.from_array(x, chunks=(n // 6, p))
        run = dask_gd.fit(blocks, y, loss=loss, solver="newton", penalty=penalty, tol=tol)
        assert run.reason == "converged"
        end, cosine = measured(x, y, loss, penalty, run.parameters)
        assert cosine <= tol
        np.testing.assert_allclose(run.history.loss[-1], end, rtol=tol)
        if run.history.passes[-1] == 0:
            assert (run.history.passes[:-1] > 0).all()
            assert cosine <= run.history.grad_norm[-1] + 1e-15


def test_a_step_is_saved_where_it_can_be_foretold():
    x, z, y = problem(3000, 60)
    for loss, target in (("squared", z), ("logistic", y)):
        run = dask_gd.fit(x, target, loss=loss, penalty=dask_gd.L2(1e-3))
        assert run.history.passes[-1] == 0
        assert run.history.rows[-1] == run.history.bytes_read[-1] == 0


def test_a_squared_loss_takes_one_pass():
    x, y, _ = problem(3000, 10)
    run = dask_gd.fit(x, y)
    assert (run.history.passes.sum(), run.reason) == (1, "converged")


@pytest.mark.parametrize("tol", [1e-3, 1e-5, 1e-6, 1e-7, 1e-9])
@pytest.mark.parametrize("loss", ["squared", "logistic"])
@pytest.mark.parametrize(("n", "p", "offset"), [(2000, 5, 0), (2000, 5, 5), (2000, 5, 100), (20_000, 60, 5)])
def test_no_step_is_certain_beyond_the_rounding_of_the_data(loss, n, p, offset, tol):
    x, *targets = problem(n, p, dtype=np.float32)
    x += np.float32(offset)
    y, penalty = targets[loss == "logistic"], dask_gd.L2(1e-3)
    run = dask_gd.fit(x, y, loss=loss, solver="newton", penalty=penalty, tol=tol)
    if run.reason == "converged" and run.history.passes[-1] == 0:
        assert measured(x.astype(float), y, loss, penalty, run.parameters)[1] <= tol


def test_a_step_is_looked_at_where_rounding_could_exceed_the_tolerance():
    x, y, _ = problem(600, 5, dtype=np.float32)
    assert dask_gd.fit(x + np.float32(1000), y).history.passes.sum() > 1


def test_first_order_steps_are_all_looked_at():
    x, _, y = problem()
    for solver in ("lbfgs", "nesterov"):
        assert (dask_gd.fit(x, y, loss="logistic", solver=solver, tol=1e-3).history.passes > 0).all()


def test_a_look_at_where_a_fit_had_ended_without_is_committed_and_told(tmp_path):
    """More is asked of a fit that had ended without a pass: its last iteration is looked at, under the same number."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 6))
    y = (x @ [0.5, -1.0, 0.0, 0.0, 0.25, 1.5] + rng.logistic(size=4000) > 0).astype(float)
    x = da.from_array(x, chunks=(200, -1))
    first = dask_gd.fit(x, y, loss="logistic", store=tmp_path)
    assert first.history.passes[-1] == 0
    told = []
    tol = float(first.history.grad_norm[-1]) / 2
    again = dask_gd.fit(x, y, loss="logistic", store=tmp_path, tol=tol, callbacks=[told.append])
    steps = [event for event in told if isinstance(event, dask_gd.events.IterationEnded)]
    assert [step.iteration for step in steps] == list(range(first.n_iter, again.n_iter + 1))
    assert steps[0].passes == 1
    assert again.history.passes[first.n_iter] == 1
    stored = dask_gd.load(tmp_path)
    assert stored.history.identical(again.history)
    assert stored.weights.identical(again.weights)
