"""Penalties that bend: the minimum of a quadratic, and the coefficients of other packages, zeros included."""

import dask.array as da
import numpy as np
import pytest
from helpers import EVERY, REAL, problem_of, quadratic, same_bits, to_zarr
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import make_classification
from sklearn.linear_model import ElasticNet, LogisticRegression

import dask_gd
from dask_gd import Logistic, Squared
from dask_gd.errors import InvalidArgumentError
from dask_gd.model.penalties import nonsmooth
from dask_gd.model.prox import NonSmooth, Prox
from dask_gd.model.quadratic import active_set
from dask_gd.model.quadratic.lasso import minimise


def alone(absolute):
    return NonSmooth(np.reshape(absolute, (-1, 1, 1)), np.zeros(0, int))


def residual(h, linear, absolute, u):
    slope = alone(absolute).steepest(u[:, None, None], (h @ u - linear)[:, None, None])[:, 0, 0]
    return np.abs(slope / np.sqrt(np.diagonal(h))).max()


@given(
    q=st.integers(1, 12),
    rank=st.integers(1, 20),
    free=st.integers(0, 3),
    seed=st.integers(0, 50),
    units=st.sampled_from([0.0, 3.0]),
)
def test_no_subgradient_is_left_at_the_minimum(q, rank, free, seed, units):
    h, linear, absolute, start = quadratic(q, rank, min(free, q), seed, units)
    u = minimise(h, linear, alone(absolute), start)
    assert residual(h, linear, absolute, u) <= 1e-8 * np.abs(linear / np.sqrt(np.diagonal(h))).max()


@given(seed=st.integers(0, 50))
def test_the_minimum_is_the_same_from_any_start(seed):
    h, linear, absolute, start = quadratic(8, 20, 1, seed)
    one, other = (minimise(h, linear, alone(absolute), u) for u in (start, np.zeros(8)))
    assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def test_a_minimum_is_not_given_up_on_the_way():
    """There are fewer rows than features, so that most ways fall for long, and the value is not strictly convex."""
    for seed in range(60):
        rng = np.random.default_rng(seed)
        q = int(rng.integers(5, 40))
        a = rng.normal(size=(int(rng.integers(q // 2, q)), q))
        a /= np.linalg.norm(a, axis=0)
        linear, absolute = a.T @ rng.normal(size=len(a)), np.full(q, 10.0 ** rng.uniform(-9, 0))
        found = minimise(a.T @ a, linear, alone(absolute), np.zeros(q))
        assert residual(a.T @ a, linear, absolute, found) <= 1e-12 * np.abs(linear).max()
        # A minimum has no more weights than there are independent columns.
        assert np.count_nonzero(found) <= len(a)


def columns_that_depend(seed):
    """Return a quadratic of columns that are the same, sums of others, 0, constant but for rounding, or all alike."""
    rng = np.random.default_rng(seed)
    q = int(rng.integers(5, 30))
    x = rng.normal(size=(int(rng.integers(3, 40)), q)) + rng.integers(0, 2) * 3.0
    x[:, 1] = x[:, 0]
    x[:, 2] = x[:, 3] - 2 * x[:, 4]
    if seed % 3 == 0:
        x[:, 4] = 0.0
    if seed % 4 == 0:
        x = np.round(x)
    if seed % 5 == 0:
        x[:, 1:] = x[:, :1] + 1e-7 * x[:, 1:]
    if seed % 7 == 0:
        x[:, 3] = 7.1
    # The first column is an intercept, which is not penalised.
    x = np.column_stack([np.ones(len(x)), x])
    strength = np.full(q + 1, 10.0 ** rng.uniform(-9, 1))
    strength[0] = 0.0
    return x.T @ x, x.T @ rng.normal(size=len(x)), strength, rng.normal(size=q + 1) * rng.integers(0, 2, q + 1)


@pytest.mark.parametrize("seed", range(70))
def test_columns_that_depend_on_each_other_leave_no_subgradient(seed):
    h, linear, absolute, start = columns_that_depend(seed)
    u = minimise(h, linear, alone(absolute), start)
    size = np.sqrt(np.diagonal(h))
    used = size > 0
    slope = alone(absolute).steepest(u[:, None, None], (h @ u - linear)[:, None, None])[:, 0, 0]
    rounding = 1e-12 * (np.abs(linear[used] / size[used]).max() + np.abs(u * size).sum())
    assert np.abs(slope[used] / size[used]).max() <= rounding
    assert (u[~used] == start[~used] * (absolute[~used] == 0)).all()


@pytest.mark.parametrize("seed", range(6))
def test_the_least_value_is_that_of_many_slow_steps(seed):
    """Of accelerated proximal gradient, which knows nothing of active sets."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(12, 8 + 2 * seed))
    x[:, 1] = x[:, 0] + x[:, 2]
    h, linear = x.T @ x / 12, x.T @ rng.normal(size=12) / 12
    part = alone(np.full(len(h), 0.02))
    fast, slow = (f(part, h, linear, np.zeros(len(h))) for f in (NonSmooth.minimise, Prox.minimise))

    def value(u):
        return u @ (h @ u / 2 - linear) + part.value(u[:, None, None])[0]

    assert_allclose(value(fast), value(slow), rtol=1e-11)


def test_what_has_no_minimum_is_given_up_at_once(monkeypatch):
    """Along a direction without curvature the linear term gains more than the penalty takes."""
    direction = np.array([1.0, 2.0, -1.0])
    h = np.eye(3) - np.outer(direction, direction) / 6
    steps, direct = [], active_set._direction
    monkeypatch.setattr(active_set, "_direction", lambda *given: (steps.append(1), direct(*given))[1])
    start = np.array([0.0, 1.0, 0.0])
    assert_array_equal(minimise(h, direction, alone([0.1, 0.1, 0.1]), start), start)
    assert 0 < len(steps) < 10


def test_the_minimum_of_an_orthogonal_quadratic_is_known():
    linear, absolute = np.array([3.0, -3.0, 0.5, 2.0]), np.array([1.0, 1.0, 1.0, 0.0])
    assert_allclose(minimise(2 * np.eye(4), linear, alone(absolute), np.zeros(4)), [1.0, -1.0, 0.0, 1.0])


def test_what_has_no_curvature_stays_at_zero():
    h = np.diag([1.0, 0.0])
    assert_array_equal(minimise(h, np.array([2.0, 0.0]), alone([1.0, 1.0]), np.ones(2)), [1.0, 0.0])
    for linear in (0.0, 2.0):  # every value is a minimum, or none
        assert_array_equal(minimise(h, np.array([2.0, linear]), alone([1.0, 0.0]), np.ones(2)), [1.0, 1.0])


def fit(x, y, loss="squared", alpha=0.1, l1_ratio=1.0, **options):
    return dask_gd.fit(x, y, loss=loss, penalty=dask_gd.ElasticNet(alpha, l1_ratio), **{"tol": 1e-10, **options})


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("l1_ratio", [1.0, 0.5])
@pytest.mark.parametrize("alpha", [1e-3, 0.1, 0.5, 5.0])
def test_the_elastic_net_is_scikit_learns_in_one_pass(alpha, l1_ratio, weighted, fit_intercept):
    x, y = problem_of(Squared(), p=20)
    s = np.random.default_rng(1).integers(0, 3, len(y)).astype(float) if weighted else None
    run = fit(x, y, "squared", alpha, l1_ratio, fit_intercept=fit_intercept, sample_weight=s)
    model = ElasticNet(alpha=alpha, l1_ratio=l1_ratio, fit_intercept=fit_intercept, tol=1e-14, max_iter=100_000)
    model.fit(x, y, sample_weight=s)
    assert_allclose(run.parameters[:, 0], np.append(model.coef_, model.intercept_), rtol=1e-6, atol=1e-9)
    assert_array_equal(run.weights == 0, model.coef_ == 0)
    assert (run.reason, run.history.passes.sum()) == ("converged", 1)


@pytest.mark.parametrize("l1_ratio", [1.0, 0.5])
@pytest.mark.parametrize("alpha", [1e-3, 0.03])
def test_logistic_coefficients_are_scikit_learns(alpha, l1_ratio):
    x, y = problem_of(Logistic(), p=10)
    run = fit(x, y, "logistic", alpha, l1_ratio)
    model = LogisticRegression(C=1 / (len(y) * alpha), l1_ratio=l1_ratio, solver="saga", tol=1e-11, max_iter=50_000)
    model.fit(x, y)
    assert_allclose(run.parameters[:, 0], np.append(model.coef_, model.intercept_), rtol=1e-6, atol=1e-7)
    assert_array_equal(run.weights == 0, model.coef_[0] == 0)


@pytest.mark.parametrize("loss", EVERY, ids=repr)
@pytest.mark.parametrize("l1_ratio", [1.0, 0.4])
@pytest.mark.parametrize("tol", [1e-3, 1e-10])
def test_no_subgradient_is_left_by_any_loss(loss, l1_ratio, tol):
    """Some have no curvature at the start, or none for targets that are far from it."""
    for seed in range(2):
        x, y = problem_of(loss, p=(20, 60)[seed % 2], seed=seed)
        y = y + 50.0 * (loss in REAL)
        penalty = dask_gd.ElasticNet(0.1, l1_ratio)
        run = dask_gd.fit(da.from_array(x, chunks=(600, -1)), y, loss=loss, penalty=penalty, tol=tol)
        assert run.reason == "converged"
        assert abs(run.history.loss[-1] - run.history.loss[0]) > 0
        w, z = run.weights.values[:, None, None], x @ run.weights.values + float(run.intercept)
        slope = loss.value_and_slope(z, y)[1]
        centred = (x - x.mean(axis=0)).T @ slope / len(y) + penalty.gradient(w)[:, 0, 0]
        left = nonsmooth(penalty, len(w), len(w)).steepest(w, centred[:, None, None])[:, 0, 0]
        at_start = loss.link(y.mean()) if loss.curvature_bound is None else 0.0
        size = np.sqrt((loss.value_and_slope(np.full(len(y), at_start), y)[1] ** 2).mean())
        assert (np.abs(left) <= 1.01 * tol * x.std(axis=0) * size).all()
        assert (w == 0).any()


def test_correlated_features_take_one_pass_too():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1000, 120)) + rng.normal(size=(1000, 1))
    y = x @ rng.normal(size=120) + rng.normal(size=1000)
    run = fit(x, y, alpha=1e-3)
    assert (run.reason, run.history.passes.sum()) == ("converged", 1)
    model = ElasticNet(alpha=1e-3, l1_ratio=1.0, tol=1e-12, max_iter=100_000).fit(x, y)
    assert_allclose(run.weights, model.coef_, rtol=1e-6, atol=1e-6)


def test_beyond_the_largest_useful_strength_every_weight_is_zero():
    """Which is the largest component of the gradient there."""
    x, y = problem_of(Logistic())
    largest = np.abs((x - x.mean(axis=0)).T @ (y - y.mean())).max() / len(y)
    assert (fit(x, y, "logistic", 1.001 * largest).weights == 0).all()
    assert (fit(x, y, "logistic", 0.999 * largest).weights != 0).sum() == 1


def test_several_outputs_are_each_alone():
    x, y = problem_of(Squared(), p=12)
    both = np.column_stack([y, y[::-1]])
    together = fit(x, both)
    for j in range(2):
        assert_allclose(together.parameters[:, j], fit(x, both[:, j]).parameters[:, 0], rtol=1e-9, atol=1e-12)


@pytest.fixture
def stored(tmp_path):
    """64 chunks in 64 partitions, enough to sample from."""
    x, y = problem_of(Logistic(), n=6400, p=60)
    return to_zarr(x, 100, tmp_path / "x"), to_zarr(y, 100, tmp_path / "y"), x, y


def test_a_lasso_that_starts_on_samples_ends_where_one_without_ends(stored):
    x, y, *memory = stored
    run = fit(x, y, "logistic", 0.01)
    assert run.history.rows[0] < 6400
    assert_allclose(run.parameters, fit(*memory, "logistic", 0.01).parameters, rtol=1e-7, atol=1e-10)


def test_a_lasso_is_resumed_to_the_same_bits(stored, tmp_path):
    x, y, *_ = stored

    def interrupt(event):
        if getattr(event, "iteration", -1) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(x, y, "logistic", 0.01, store=tmp_path / "run", callbacks=[interrupt])
    same_bits(fit(x, y, "logistic", 0.01), fit(x, y, "logistic", 0.01, store=tmp_path / "run"))


@pytest.mark.parametrize("loss", [loss for loss in EVERY if loss.smooth], ids=repr)
@pytest.mark.parametrize("l1_ratio", [1.0, 0.4])
def test_both_solvers_end_at_the_same_weights_and_zeros(loss, l1_ratio):
    x, y = problem_of(loss, p=20)
    newton, lbfgs = (
        fit(x, y, loss, 0.05, l1_ratio, solver=solver, tol=1e-8, max_iter=500) for solver in ("newton", "lbfgs")
    )
    assert lbfgs.reason in ("converged", "precision")  # losses tell less of small steps than Newton's curvature
    assert_allclose(lbfgs.parameters, newton.parameters, rtol=1e-5, atol=1e-6)
    assert_array_equal(lbfgs.weights == 0, newton.weights == 0)
    assert (lbfgs.weights == 0).any()


def test_wide_data_take_lbfgs():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 5000))
    y = (x[:, :3] @ [1.0, -1.0, 0.5] + 0.3 * rng.logistic(size=200) > 0).astype(float)
    run = fit(x, y, "logistic", 0.05, tol=1e-5, max_iter=500)
    assert run.converged
    slope = Logistic().value_and_slope(x @ run.weights.values + float(run.intercept), y)[1]
    w, g = run.weights.values[:, None, None], (x.T @ slope / 200)[:, None, None]
    assert np.abs(nonsmooth(dask_gd.L1(0.05), 5000, 5000).steepest(w, g)).max() < 1e-5
    assert 1 < (run.weights != 0).sum() < 200


def test_an_orthantwise_fit_is_resumed_to_the_same_bits(tmp_path):
    x, y = problem_of(Logistic(), p=20)
    options = {"loss": "logistic", "alpha": 0.03, "solver": "lbfgs", "tol": 1e-8, "max_iter": 500}
    through = fit(x, y, **options)
    fit(x, y, **{**options, "max_iter": 4}, store=tmp_path)
    assert_array_equal(fit(x, y, **options, store=tmp_path).weights, through.weights)


@pytest.mark.parametrize("solver", [dask_gd.Momentum(), "adam"], ids=repr)
def test_a_solver_that_needs_a_smooth_penalty_is_refused_before_any_task(solver):
    x, y = problem_of(Squared())
    with pytest.raises(InvalidArgumentError, match=r"does not serve.*auto, newton, lbfgs, nesterov"):
        fit(x, y, solver=solver)
    fit(x, y, solver=solver, l1_ratio=0.0, max_iter=1)


def test_a_quadratic_that_is_flat_but_for_rounding_is_left_quietly():
    """Few rows are within so little smoothing that at first nothing but rounding is left of the curvature."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 5)) * np.linspace(0.5, 2, 5) + np.linspace(-1, 1, 5)
    y = x @ rng.normal(size=5) / 5 + 0.3 * rng.standard_t(3, 300)
    run = dask_gd.fit(x, y, loss=dask_gd.Quantile(0.7, smoothing=0.01), penalty=dask_gd.L1(0.02), tol=1e-8)
    assert run.converged


def slope_left(run, x, y, loss, alpha):
    """Return the largest component of the subgradient of least norm at the weights of a run, from the rows."""
    w = run.weights.values
    slope = loss.value_and_slope(x @ w + float(run.intercept), y)[1] / len(y)
    part = nonsmooth(dask_gd.L1(alpha), len(w), len(w))
    left = part.steepest(w[:, None, None], (x.T @ slope)[:, None, None])
    return max(np.abs(left).max(), abs(slope.sum()))


def test_collinear_columns_with_next_to_no_penalty_take_few_steps():
    """Two columns are sums of two others; which of them has a weight only the penalty tells."""
    x, y = make_classification(500, random_state=0)
    x, y, alpha = x[:375], y[:375].astype(float), 1 / (375 * 1e6)
    run = fit(x, y, "logistic", alpha)
    assert run.converged
    assert run.n_iter <= 10
    assert slope_left(run, x, y, Logistic(), alpha) < alpha / 10
    assert (run.weights != 0).sum() <= np.linalg.matrix_rank(x)


@pytest.mark.parametrize("C", [1e4, 1e6])
def test_rows_that_a_plane_separates_take_few_steps(C):
    """The curvature falls to a millionth of its bound on the way, and so must the damping."""
    x, y = make_classification(200, 20, random_state=0)
    x, y, alpha = x[100:], y[100:].astype(float), 1 / (100 * C)
    run = fit(x, y, "logistic", alpha)
    assert run.converged
    assert run.n_iter <= 40
    assert slope_left(run, x, y, Logistic(), alpha) < alpha / 10
    assert (((x @ run.weights.values + float(run.intercept)) > 0) == y).all()


def test_more_features_than_rows_take_few_steps():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 200))
    y = rng.poisson(np.exp(0.3 * x[:, 0])).astype(float)
    run = fit(x, y, "poisson", 0.01)
    assert run.converged
    assert run.n_iter <= 20
    assert slope_left(run, x, y, dask_gd.Poisson(), 0.01) < 1e-8
    assert 1 < (run.weights != 0).sum() < 100


def test_a_start_with_many_weights_that_become_zero_takes_few_factorisations(monkeypatch):
    """Where the end of a step is no good a shorter one is looked at, which costs a product in place of two factors."""
    factorisations = []
    regular_step = active_set._regular_step

    def counted(*arguments):
        factorisations.append(arguments)
        return regular_step(*arguments)

    monkeypatch.setattr(active_set, "_regular_step", counted)
    rng = np.random.default_rng(0)
    a = rng.normal(size=(200, 400))
    a /= np.linalg.norm(a, axis=0)
    linear = a.T @ rng.normal(size=200)
    absolute = np.full(400, 0.02 * np.abs(linear).max())
    found = active_set.minimise_absolute(a.T @ a, linear, absolute, start=rng.normal(size=400))
    assert residual(a.T @ a, linear, absolute, found) <= 1e-12
    # With whole steps alone it was 131.
    assert len(factorisations) <= 100
