"""What a fit ends with where the data does not tell: each row of the table in docs/models.md."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LinearRegression

import dask_gd
from dask_gd.errors import DataError
from dask_gd.estimators import LogisticRegression


@pytest.mark.parametrize("loss", ["squared", "logistic", "poisson", "softmax"])
def test_a_constant_column_has_no_weight(loss):
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.normal(size=(300, 3)), np.full(300, 7.0)])
    y = rng.integers(0, 3 if loss == "softmax" else 2, 300)
    run = dask_gd.fit(x, y, loss=loss, solver="newton", tol=1e-9)
    without = dask_gd.fit(x[:, :3], y, loss=loss, solver="newton", tol=1e-9)
    assert_allclose(run.weights[3], 0.0, atol=1e-7)
    assert_allclose(run.weights[:3], without.weights, atol=1e-7)


def test_collinear_columns_share_a_weight_and_more_columns_than_rows_interpolate():
    """The shortest solution of the centred problem, after scaling, is scikit-learn's for columns scaled alike."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 4))
    y = x @ rng.normal(size=4) + rng.normal(size=100)
    twice = dask_gd.fit(np.column_stack([x, x[:, 0] * 10.0]), y)
    once = dask_gd.fit(x, y)
    assert_allclose(twice.weights[0], once.weights[0] / 2, rtol=1e-6)
    assert_allclose(twice.weights[4], once.weights[0] / 20, rtol=1e-6)
    wide = rng.normal(size=(20, 50)) + 3.0
    wide /= np.sqrt((wide**2).mean(axis=0))
    run, model = dask_gd.fit(wide, y[:20]), LinearRegression().fit(wide, y[:20])
    assert_allclose(run.weights, model.coef_, atol=1e-6)
    assert_allclose(run.intercept, model.intercept_, atol=1e-6)
    assert run.converged
    assert run.history.passes.sum() == 2  # the second tells collinear columns from nearly collinear ones


@pytest.mark.parametrize("row", [[3.0, -2.0], [0.0, 0.0]])
def test_of_one_row_the_intercept_is_the_target(row):
    run = dask_gd.fit(np.array([row]), np.array([5.0]))
    assert_allclose(run.weights, 0.0, atol=1e-9)
    assert_allclose(run.intercept, 5.0)
    many = dask_gd.fit(np.random.default_rng(0).normal(size=(9, 2)), np.arange(9.0), sample_weight=np.eye(9)[4])
    assert_allclose(many.weights, 0.0, atol=1e-9)
    assert_allclose(many.intercept, 4.0)


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
def test_separable_classes_are_told_apart_and_the_fit_ends(solver):
    """There is no minimum: the loss falls to 0, and the weights grow, until the gradient is small."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 3))
    y = (x[:, 0] > 0).astype(float)
    run = dask_gd.fit(x, y, loss="logistic", solver=solver)
    assert run.converged
    assert run.history.loss[-1] < 1e-4
    assert_array_equal(run.predict(x) > 0.5, y == 1)
    tighter = dask_gd.fit(x, y, loss="logistic", solver=solver, tol=1e-9)
    assert np.abs(tighter.weights).max() > np.abs(run.weights).max()
    assert dask_gd.fit(x, y, loss="logistic", solver=solver, penalty=dask_gd.L2(1e-3), tol=1e-9).converged


def test_more_columns_than_rows_separate_classes():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 50)), np.arange(20) % 2
    run = dask_gd.fit(x, y, loss="logistic")
    assert run.converged
    assert_array_equal(run.predict(x) > 0.5, y == 1)


@pytest.mark.parametrize("loss", ["logistic", "hinge", "squared_hinge", "softmax"])
@pytest.mark.parametrize("rows", [1, 10])
def test_one_class_is_refused(loss, rows):
    x, y = np.random.default_rng(0).normal(size=(rows, 2)), np.ones(rows)
    with pytest.raises(DataError, match="class"):
        dask_gd.fit(x, y, loss=loss)
    with pytest.raises(ValueError, match=r"needs two classes|one class"):
        LogisticRegression().fit(x, y)


@pytest.mark.parametrize("loss", ["poisson", "tweedie"])
def test_counts_that_are_all_zero_are_refused(loss):
    with pytest.raises(DataError, match="needs a target above 0"):
        dask_gd.fit(np.random.default_rng(0).normal(size=(10, 2)), np.zeros(10), loss=loss)


@pytest.mark.parametrize("loss", ["poisson", "gamma", "tweedie", "huber", "quantile"])
def test_of_one_row_the_mean_is_the_target(loss):
    run = dask_gd.fit(np.array([[3.0, -2.0]]), np.array([5.0]), loss=loss, tol=1e-9)
    if loss not in ("huber", "quantile"):  # whose first steps know of no curvature
        assert_allclose(run.weights, 0.0, atol=1e-6)
    assert_allclose(run.predict(np.array([[3.0, -2.0]])), 5.0, rtol=1e-6)


def test_a_target_that_does_not_vary_is_the_intercept():
    run = dask_gd.fit(np.random.default_rng(0).normal(size=(30, 2)), np.full(30, 4.0))
    assert_allclose(run.weights, 0.0, atol=1e-12)
    assert_allclose(run.intercept, 4.0)
