"""Groups of weights that are 0 together: the minimum of the quadratic, the coefficients, and who serves them."""

import dask.array as da
import numpy as np
import pytest
from helpers import EVERY, problem_of, quadratic, same_bits
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import MultiTaskLasso

import dask_gd
from dask_gd import GroupLasso, Logistic, Squared
from dask_gd.errors import InvalidArgumentError
from dask_gd.model.penalties import nonsmooth
from dask_gd.model.prox import NonSmooth
from dask_gd.model.quadratic.groups import group_minimum, residual
from dask_gd.model.quadratic.lasso import minimise

GROUPS = np.arange(20) // 3


def grouped(strength, groups):
    strength = np.where(strength > 0, np.abs(strength).mean(), 0.0)  # the same within each
    return NonSmooth(strength[:, None, None], groups)


@given(q=st.integers(1, 12), rank=st.integers(1, 20), free=st.integers(0, 3), seed=st.integers(0, 50))
def test_no_subgradient_is_left_at_the_minimum(q, rank, free, seed):
    h, linear, absolute, start = quadratic(q, rank, min(free, q), seed)
    groups = np.where(np.arange(q) < free, 100 + np.arange(q), np.arange(q) // 3)
    bent = grouped(absolute, groups)
    u = minimise(h, linear, bent, start)
    assert residual(h, linear, bent, u) <= 1e-8 * np.abs(linear).max()


@given(seed=st.integers(0, 50), size=st.integers(1, 5), share=st.floats(0.01, 1.5))
def test_the_minimum_of_one_group_has_no_slope(seed, size, share):
    rng = np.random.default_rng(seed)
    values, slope = rng.uniform(0.0, 3.0, size), rng.normal(size=size)
    a = share * np.linalg.norm(slope)
    u = group_minimum(values, slope, a)
    norm = np.linalg.norm(u)
    assert (norm == 0) == (share >= 1)
    if norm:
        assert_allclose(values * u + a * u / norm, slope, atol=1e-12)


def test_a_group_without_curvature_has_no_minimum():
    assert not np.isfinite(group_minimum(np.array([0.0, 1.0]), np.array([2.0, 0.0]), 1.0)).any()
    assert_array_equal(group_minimum(np.array([0.0, 1.0]), np.array([0.5, 0.0]), 1.0), [0.0, 0.0])


def fit(x, y, loss="squared", alpha=0.1, groups=GROUPS, **options):
    return dask_gd.fit(x, y, loss=loss, penalty=GroupLasso(alpha, groups), **{"tol": 1e-10, **options})


@pytest.mark.parametrize("alpha", [0.01, 0.1, 0.4])
def test_it_is_scikit_learns_lasso_of_several_tasks(alpha):
    """Of k targets as one, with the weights of a feature for all of them as a group."""
    x, _ = problem_of(Squared(), n=150, p=8)
    truth = np.random.default_rng(1).normal(size=(8, 3)) * (np.arange(8) < 4)[:, None]
    y = x @ truth / 4 + np.random.default_rng(2).normal(size=(150, 3))
    wide, target = np.kron(x, np.eye(3)), y.ravel()
    run = fit(wide, target, alpha=alpha / 3**1.5, groups=np.arange(24) // 3, fit_intercept=False)
    model = MultiTaskLasso(alpha=alpha, fit_intercept=False, tol=1e-14, max_iter=100_000).fit(x, y)
    assert_allclose(run.weights.values.reshape(8, 3), model.coef_.T, rtol=1e-6, atol=1e-9)
    assert_array_equal(run.weights.values.reshape(8, 3) == 0, model.coef_.T == 0)
    assert (run.reason, run.history.passes.sum()) == ("converged", 1)


@pytest.mark.parametrize("loss", EVERY, ids=repr)
def test_no_subgradient_is_left_by_any_loss(loss):
    x, y = problem_of(loss, p=20)
    b = fit(x, y, loss, alpha=1e6).intercept.item()
    slope = x.T @ loss.value_and_slope(np.full(len(y), b), y)[1] / len(y)
    largest = max(np.linalg.norm(slope[g == GROUPS]) / np.sqrt((g == GROUPS).sum()) for g in range(7))
    for share, zeros in ((1.001, 7), (0.999, 6), (0.5, None)):
        run = fit(da.from_array(x, chunks=(600, -1)), y, loss, alpha=share * largest, tol=1e-8)
        assert run.reason == "converged"
        w = run.weights.values
        zero = np.add.reduceat(np.abs(w), np.arange(0, 20, 3)) == 0
        assert_array_equal(w == 0, zero[GROUPS])  # all of a group, or none
        assert zero.sum() == zeros or (zeros is None and 0 < zero.sum() < 6)
        slope = x.T @ loss.value_and_slope(x @ w + run.intercept.item(), y)[1] / len(y)
        bent = nonsmooth(GroupLasso(share * largest, GROUPS), 20, 20)
        assert_allclose(bent.steepest(w[:, None, None], slope[:, None, None]), 0.0, atol=1e-6 * largest)


@pytest.mark.parametrize("loss", [Squared(), Logistic()], ids=repr)
def test_both_solvers_end_at_the_same_weights(loss):
    x, y = problem_of(loss, p=20)
    newton, fista = (fit(x, y, loss, 0.03, solver=s, tol=1e-9, max_iter=5000) for s in ("newton", "nesterov"))
    assert fista.reason in ("converged", "precision")
    assert_allclose(fista.parameters, newton.parameters, rtol=1e-6, atol=1e-7)
    assert_array_equal(fista.weights == 0, newton.weights == 0)
    if loss == Squared():
        assert fista.history.passes.sum() == 1


def test_next_to_no_penalty_changes_next_to_nothing():
    x, y = problem_of(Squared(), p=20)
    assert_allclose(fit(x, y, alpha=1e-200).weights, dask_gd.fit(x, y, tol=1e-10).weights, rtol=1e-8)


def test_without_strength_groups_are_no_matter():
    x, y = problem_of(Logistic(), p=20)
    for solver in ("auto", "lbfgs", "adam"):
        fit(x, y, "logistic", 0.0, solver=solver, max_iter=1)


def test_groups_of_one_are_a_lasso():
    x, y = problem_of(Logistic(), p=20)
    lasso = dask_gd.fit(x, y, loss="logistic", penalty=dask_gd.L1(0.03), tol=1e-10)
    assert_allclose(fit(x, y, "logistic", 0.03, np.arange(20)).parameters, lasso.parameters, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("solver", ["newton", "nesterov"])
def test_several_outputs_are_each_alone(solver):
    x, y = problem_of(Squared(), p=20)
    both = np.column_stack([y, y[::-1]])
    together = fit(x, both, solver=solver, max_iter=3000, tol=1e-9)
    for j in range(2):
        alone = fit(x, both[:, j], solver=solver, max_iter=3000, tol=1e-9)
        assert_allclose(together.parameters[:, j], alone.parameters[:, 0], rtol=1e-6, atol=1e-7)


def test_softmax_has_groups_for_each_class():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 6))
    y = (x @ np.vstack([rng.normal(size=(3, 3)), np.zeros((3, 3))]) + rng.gumbel(size=(600, 3))).argmax(axis=1)
    groups, options = np.arange(6) // 3, {"alpha": 0.02, "tol": 1e-8}
    newton = fit(x, y, "softmax", groups=groups, **options)
    fista = fit(x, y, "softmax", groups=groups, solver="nesterov", max_iter=3000, **options)
    assert newton.converged
    assert_allclose(newton.weights, fista.weights, atol=1e-5)
    assert (newton.weights == 0).any()


def test_a_strength_for_each_feature_is_a_change_of_units():
    """A weight of twice the strength is one of a feature of half the size."""
    x, y = problem_of(Logistic(), p=6)
    strength = np.array([0.01, 0.02, 0.0, 0.05, 0.01, 0.03])
    some = strength > 0
    scaled = x / np.where(some, strength / 0.01, 1.0)
    for make, power in ((dask_gd.L1, 1), (dask_gd.L2, 0.5)):
        run = dask_gd.fit(x, y, loss="logistic", penalty=make(strength), tol=1e-11)
        x_scaled = x / np.where(some, (strength / 0.01) ** power, 1.0) if power != 1 else scaled
        same = dask_gd.fit(x_scaled, y, loss="logistic", penalty=make(0.01 * some), tol=1e-11)
        units = np.where(some, (strength / 0.01) ** power, 1.0)
        assert_allclose(run.weights, same.weights / units, rtol=1e-7, atol=1e-10)


def test_a_resumed_fit_has_the_bits_of_one_that_ran_through(tmp_path):
    x, y = problem_of(Logistic(), p=20)
    options = {"loss": "logistic", "alpha": 0.03}
    fit(x, y, **options, max_iter=2, store=tmp_path)
    same_bits(fit(x, y, **options), fit(x, y, **options, store=tmp_path))
    with pytest.raises(dask_gd.errors.StoreMismatchError, match=r"penalty\.groups"):
        fit(x, y, **options, groups=np.arange(20) // 4, store=tmp_path)


@pytest.mark.parametrize("solver", ["lbfgs", "momentum"])
def test_who_does_not_serve_groups_is_refused(solver):
    x, y = problem_of(Squared(), p=20)
    with pytest.raises(InvalidArgumentError, match=r"does not serve GroupLasso.*auto, newton, nesterov"):
        fit(x, y, solver=solver)


def test_groups_for_other_features_are_refused_before_any_task():
    x, y = problem_of(Squared(), p=6)
    with pytest.raises(InvalidArgumentError, match="groups has 20 values, one for each feature, but there are 6"):
        fit(x, y)
