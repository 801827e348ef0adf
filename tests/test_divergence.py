"""Fits that cannot be right say so: bad targets wherever they are, rates far too large, losses that are not finite."""

import logging
import warnings

import dask.array as da
import numpy as np
import pytest

import dask_gd
from dask_gd.errors import DataError, DivergenceWarning, InvalidArgumentError

PARTITIONS = 12


def problem(n=1200, p=3):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, p))
    y = (x[:, 0] + rng.logistic(size=n) > 0).astype(float)
    return da.from_array(x, chunks=(n // PARTITIONS, p)), y


@pytest.mark.parametrize("solver", [dask_gd.SGD(batch=0.1), "newton", "lbfgs", "gradient_descent"], ids=str)
def test_a_bad_target_is_found_whatever_the_solver_reads_first(solver):
    """FOUND 28."""
    x, y = problem()
    for partition in range(PARTITIONS):
        bad = y.copy()
        bad[100 * partition + 37] = 7.0
        with pytest.raises(DataError, match=f"found 7 in row {100 * partition + 37} of 'y'"):
            dask_gd.fit(x, bad, loss="logistic", solver=solver, max_iter=PARTITIONS)


def test_partitions_that_were_never_read_are_said(caplog):
    """FOUND 28."""
    x, y = problem()
    with caplog.at_level(logging.WARNING, "dask_gd"):
        dask_gd.fit(x, y, loss="logistic", solver=dask_gd.SGD(batch=1 / PARTITIONS), max_iter=3)
    assert "read 4 of 12 partitions" in caplog.text
    caplog.clear()
    dask_gd.fit(x, y, loss="logistic", solver=dask_gd.SGD(batch=1 / PARTITIONS), max_iter=PARTITIONS - 1)
    assert not caplog.text


@pytest.mark.parametrize("rate", [10.0, 1e3, 1e20, 1e150])
@pytest.mark.parametrize("loss", ["logistic", "squared", "squared_hinge", "poisson"])
def test_a_rate_far_too_large_is_divergence(rate, loss):
    """FOUND 28, FAULTS 43."""
    x, y = problem()
    solver = dask_gd.SGD(batch=0.1, learning_rate=rate)
    with pytest.warns(DivergenceWarning, match=r"solver='auto'"):
        run = dask_gd.fit(x * 10, y, loss=loss, solver=solver, max_iter=20)
    assert (run.reason, run.converged) == ("diverged", False)
    assert np.isfinite(run.weights).all()


@pytest.mark.parametrize("solver", [dask_gd.GradientDescent, dask_gd.Momentum, dask_gd.Nesterov, dask_gd.LocalSGD])
def test_a_few_steps_are_enough_to_diverge(solver):
    """FAULTS 43."""
    x, y = problem()
    with pytest.warns(DivergenceWarning, match="learning rate of"):
        run = dask_gd.fit(x, y, loss="logistic", solver=solver(learning_rate=1e100), max_iter=5)
    assert run.reason == "diverged"


def test_estimators_warn_of_divergence_too():
    """FOUND 9, FOUND 28."""
    from sklearn.datasets import load_iris
    from sklearn.preprocessing import scale

    from dask_gd.estimators import SGDClassifier

    x, y = load_iris(return_X_y=True)
    model = SGDClassifier(alpha=1e5, learning_rate="constant", eta0=0.1, penalty="l2", tol=None, max_iter=6)
    with pytest.warns(DivergenceWarning, match="learning rate of"):
        model.fit(scale(x), y)


@pytest.mark.parametrize("rate", [0.5, 2.0])
def test_noise_is_no_divergence(rate):
    """Partitions that differ, and steps from near the minimum, are no reason to warn."""
    x, y = problem()
    order = np.argsort(y)
    x, y = x.compute()[order], y[order]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        near = dask_gd.fit(x, y, loss="logistic")
        solver = dask_gd.SGD(batch=0.1, learning_rate=rate)
        x = da.from_array(x, chunks=(100, -1))
        run = dask_gd.fit(x, y, loss="logistic", solver=solver, initial_weights=near, max_iter=30)
    assert run.reason == "max_iter"


def overflowing(n=400, at=(250,)):
    """Rows of which some make the loss overflow once the weights are large."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(n, 2))
    y = np.exp(rng.normal(size=n))
    x[list(at)] = 1e80
    return da.from_array(x, chunks=(100, 2)), y


def test_a_loss_that_is_not_finite_names_step_and_partitions():
    """FOUND 35, FAULTS 38."""
    x, y = overflowing()
    solver = dask_gd.GradientDescent(learning_rate=1e-78)
    with pytest.warns(DivergenceWarning) as told:
        run = dask_gd.fit(x, y, loss="poisson", solver=solver, initial_weights=np.zeros(2), max_iter=50)
    said = str(told[0].message)
    assert "At step 4 the loss or its gradient is not finite, in 1 of the 4 partitions read" in said
    assert "partition 2 (rows 200-299)" in said
    assert "The weights kept are those of iteration 3, with a loss of " in said
    assert run.n_iter == 3
    assert np.isfinite(run.weights).all()


def test_a_start_that_is_not_finite_names_the_partitions():
    """FAULTS 38."""
    x, y = overflowing()
    with pytest.raises(InvalidArgumentError, match=r"At the start .* partition 2 \(rows 200-299\).*initial_weights"):
        dask_gd.fit(x, y, loss="poisson", initial_weights=np.array([1.0, 1.0]))


def test_a_rate_is_suggested_that_is_safe():
    """FAULTS 38, FAULTS 43."""
    x, y = problem()
    with pytest.warns(DivergenceWarning) as told:
        dask_gd.fit(x, y, loss="logistic", solver=dask_gd.GradientDescent(learning_rate=1e200), max_iter=3)
    rate = float(str(told[0].message).split("A learning rate of ")[1].split()[0])
    run = dask_gd.fit(x, y, loss="logistic", solver=dask_gd.GradientDescent(learning_rate=rate), max_iter=30)
    assert (np.diff(run.history.loss) < 0).all()
