"""Every loss, fitted: the coefficients of other packages, from zeros and from afar, in few and in many chunks."""

import dask.array as da
import numpy as np
import pytest
from helpers import EVERY, problem_of, same_bits, to_zarr
from scipy.optimize import minimize
from sklearn.linear_model import GammaRegressor, PoissonRegressor, TweedieRegressor
from sklearn.svm import LinearSVC

import dask_gd
from dask_gd import Gamma, Poisson, SquaredHinge, Tweedie
from dask_gd.errors import DataError, InvalidArgumentError
from dask_gd.kernels.base import Request, sums_of_rows
from dask_gd.solvers.objective import gradient_cosine, objective

REGRESSORS = {
    Poisson(): PoissonRegressor,
    Gamma(): GammaRegressor,
    Tweedie(1.5): lambda **options: TweedieRegressor(power=1.5, link="log", **options),
}


def fit(x, y, loss, alpha=0.0, **options):
    options = {"tol": 1e-10, "max_iter": 400, **options}
    return dask_gd.fit(x, y, loss=loss, penalty=dask_gd.L2(alpha), **options)


def reference(x, y, loss, alpha, fit_intercept=True):
    """The minimum as SciPy finds it, in few dimensions, to the last digits."""
    design = np.column_stack([x, np.ones(len(x))]) if fit_intercept else x
    p = x.shape[1]

    def value_and_gradient(w):
        value, slope = loss.value_and_slope(design @ w, y)
        penalised = alpha * np.append(w[:p], np.zeros(len(w) - p))
        return value.mean() + penalised @ w / 2, design.T @ slope / len(x) + penalised

    # BFGS ends with precision lost before it ends within its tolerance; the last digits are its own affair.
    return minimize(value_and_gradient, np.zeros(design.shape[1]), jac=True, method="BFGS", options={"gtol": 1e-10}).x


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("alpha", [0.0, 1e-2])
@pytest.mark.parametrize("loss", REGRESSORS, ids=repr)
def test_generalised_linear_models_are_scikit_learns(loss, alpha, weighted, fit_intercept, solver):
    x, y = problem_of(loss)
    s = np.random.default_rng(1).integers(0, 3, len(y)).astype(float) if weighted else None
    run = fit(x, y, loss, alpha, solver=solver, fit_intercept=fit_intercept, sample_weight=s)
    options = {"alpha": alpha, "tol": 1e-11, "max_iter": 1000, "solver": "newton-cholesky"}
    model = REGRESSORS[loss](fit_intercept=fit_intercept, **options).fit(x, y, sample_weight=s)
    assert run.reason == "converged"
    np.testing.assert_allclose(run.parameters[:, 0], np.append(model.coef_, model.intercept_), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(run.predict(x), model.predict(x), rtol=1e-6)


@pytest.mark.parametrize("alpha", [1e-3, 1e-1])
def test_the_squared_hinge_is_scikit_learns_support_vector_machine(alpha):
    x, y = problem_of(SquaredHinge())
    model = LinearSVC(C=1 / (alpha * len(y)), dual=False, fit_intercept=False, tol=1e-12, max_iter=10_000).fit(x, y)
    run = fit(x, y, "squared_hinge", alpha, fit_intercept=False)
    np.testing.assert_allclose(run.weights, model.coef_[0], rtol=1e-6)
    np.testing.assert_array_equal(run.predict(x), model.predict(x))


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
@pytest.mark.parametrize("loss", EVERY, ids=repr)
def test_every_loss_is_minimised(loss, solver):
    x, y = problem_of(loss)
    run = fit(da.from_array(x, chunks=(400, 3)), y, loss, 1e-2, solver=solver)
    assert run.reason == "converged"
    np.testing.assert_allclose(run.parameters[:, 0], reference(x, y, loss, 1e-2), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("tol", [1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-8])
@pytest.mark.parametrize("loss", EVERY, ids=repr)
def test_where_a_converged_fit_ends_the_gradient_is_within_the_tolerance(loss, tol):
    """Also where the last step was not looked at, although some curvatures jump."""
    for seed in range(2):
        x, y = problem_of(loss, n=900, p=(5, 60)[seed % 2], seed=seed)
        penalty, query = dask_gd.L2(1e-3), np.zeros((x.shape[1] + 1, 1, 1))
        run = dask_gd.fit(x, y, loss=loss, solver="newton", penalty=penalty, tol=tol)
        assert run.reason == "converged"
        if loss.curvature_bound is None:
            query[-1] = loss.link(y.mean())
        start = sums_of_rows(x, y[:, None], None, query, loss, Request(moments=True)).moments
        end = run.parameters[:, :, None]
        seen = objective(sums_of_rows(x, y[:, None], None, end, loss, Request()), end, penalty, loss, x.shape[1])
        assert gradient_cosine(seen.gradient[:, :, 0], start, float(len(x)), x.shape[1]) <= tol


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
@pytest.mark.parametrize("loss", REGRESSORS, ids=repr)
@pytest.mark.parametrize("size", [1e-4, 1e4])
def test_amounts_of_any_size_are_fitted_from_their_mean(loss, size, solver):
    x, y = problem_of(loss, size=size * (1e3 if loss == Poisson() and size < 1 else 1))
    run = fit(x, y, loss, solver=solver)
    assert run.reason == "converged"
    assert run.n_iter <= 25
    slope = loss.value_and_slope(np.log(run.predict(x)), y)[1]
    for feature in (*x.T, np.ones(len(x))):
        assert abs(feature @ slope) < 1e-6 * abs(feature) @ abs(slope)


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
@pytest.mark.parametrize("size", [100.0, 1e4])
def test_counts_far_from_the_start_are_reached_without_an_intercept(solver, size):
    """From zeros the first steps overflow, at every length that would do for a bounded curvature."""
    x, y = problem_of(Poisson(), size=size)
    run = fit(x, y, "poisson", solver=solver, fit_intercept=False, tol=1e-7)
    assert run.reason == "converged"
    assert np.isfinite(run.history.loss).all()
    assert (np.diff(run.history.loss) <= 1e-9 * run.history.loss[:-1].values).all()
    slope = Poisson().value_and_slope(x @ run.weights.values, y)[1]
    assert abs(x.T @ slope).max() < 1e-5 * abs(x.T @ (1 - y)).max()


@pytest.fixture
def stored(tmp_path):
    """64 chunks in 64 partitions, enough to sample from."""
    x, y = problem_of(Poisson(), n=6400, size=50.0)
    return to_zarr(x, 100, tmp_path / "x"), to_zarr(y, 100, tmp_path / "y"), x, y


def test_counts_start_on_samples_and_at_their_mean(stored):
    x, y, *memory = stored
    run, whole = fit(x, y, "poisson", 1e-3), fit(*memory, "poisson", 1e-3, initial_weights=np.zeros(6))
    assert run.history.rows[0] == 2 * 400  # once at zeros and once at the mean
    assert run.history.passes.sum() < whole.history.passes.sum()
    np.testing.assert_allclose(run.parameters, whole.parameters, rtol=1e-7)


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
def test_a_row_that_no_sample_held_and_that_overflows_begins_the_fit_again(tmp_path, solver):
    """Where the samples' steps lead, it predicts e^1000 counts."""
    x, y = problem_of(Poisson(), n=6400)
    w = fit(x, y, "poisson").weights.values
    last = np.random.default_rng(0).permutation(64)[-1]  # in neither sample
    x[100 * last], y[100 * last] = 1000 * np.sign(w) / abs(w).sum(), 0.0
    run = fit(
        to_zarr(x, 100, tmp_path / "x"), to_zarr(y, 100, tmp_path / "y"), "poisson", 1e-3, solver=solver, tol=1e-7
    )
    assert run.history.rows[0] == 800
    assert run.reason == "converged"
    np.testing.assert_allclose(run.parameters, fit(x, y, "poisson", 1e-3, tol=1e-9).parameters, rtol=1e-3, atol=1e-4)


def test_a_fit_from_the_mean_is_resumed_to_the_same_bits(stored, tmp_path):
    x, y, *_ = stored

    def interrupt(event):
        if getattr(event, "iteration", -1) == at:
            raise KeyboardInterrupt

    expected = fit(x, y, "poisson", 1e-3)
    for at in range(expected.n_iter):
        store = tmp_path / f"run-{at}"
        with pytest.raises(KeyboardInterrupt):
            fit(x, y, "poisson", 1e-3, store=store, callbacks=[interrupt])
        same_bits(expected, fit(x, y, "poisson", 1e-3, store=store))
        assert dask_gd.load(store).loss == Poisson()


@pytest.mark.parametrize("solver", ["gradient_descent", dask_gd.Momentum(), "nesterov"])
def test_no_automatic_rate_is_promised_where_none_is_safe(solver):
    x, y = problem_of(Poisson())
    with pytest.raises(InvalidArgumentError, match=r"no step is safe.*choose auto"):
        fit(x, y, "poisson", solver=solver)
    run = fit(x, y, "poisson", solver=dask_gd.Nesterov(learning_rate=0.05), max_iter=3000, tol=1e-7)
    np.testing.assert_allclose(run.parameters, fit(x, y, "poisson").parameters, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("loss", "bad", "message"),
    [
        ("poisson", -1.0, "takes targets numbers of 0 or more; found -1"),
        ("gamma", 0.0, "takes targets numbers above 0; found 0"),
        ("hinge", 2.0, "takes targets 0 and 1"),
    ],
)
def test_a_target_that_a_loss_does_not_know_is_refused_by_its_row(loss, bad, message):
    x, y = problem_of(Gamma() if loss == "gamma" else SquaredHinge())
    y[17] = bad
    with pytest.raises(DataError, match=rf"{message}.* in row 17 of 'y'"):
        fit(x, y, loss)


def test_counts_that_are_all_zero_are_refused():
    with pytest.raises(DataError, match="every target with a positive weight is 0"):
        fit(np.ones((40, 1)), np.zeros(40), "poisson")
