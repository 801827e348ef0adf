"""Quantile regression: as good as the linear programme, calibrated, and free of the target's units."""

import dask.array as da
import numpy as np
import pytest
import zarr
from numpy.testing import assert_array_equal
from scipy.optimize import linprog

import dask_gd
from dask_gd.estimators import QuantileRegressor
from dask_gd.events import IterationEnded, StopFit

#: The most by which the objective may be above the linear programme's.
WITHIN = 1e-3


def pinball(residual, quantile):
    return np.maximum(quantile * residual, (quantile - 1) * residual)


def objective(x, y, w, b, quantile, alpha=0.0, weight=None):
    return np.average(pinball(y - x @ w - b, quantile), weights=weight) + alpha * np.abs(w).sum()


def least(x, y, quantile, alpha=0.0, weight=None):
    """Return the minimum, by the linear programme of weights, intercept and both signs of the residuals."""
    n, p = x.shape
    share = np.full(n, 1 / n) if weight is None else weight / weight.sum()
    cost = np.concatenate([np.full(2 * p, alpha), [0.0, 0.0], quantile * share, (1 - quantile) * share])
    ones = np.ones((n, 1))
    rows = np.hstack([x, -x, ones, -ones, np.eye(n), -np.eye(n)])
    return linprog(cost, A_eq=rows, b_eq=y, method="highs").fun


def data(name):
    if name == "diabetes":
        from sklearn.datasets import load_diabetes

        return load_diabetes(return_X_y=True)
    import statsmodels.api as sm

    found = getattr(sm.datasets, name).load_pandas()
    return found.exog.to_numpy(dtype=float), found.endog.to_numpy(dtype=float)


@pytest.mark.parametrize("name", ["diabetes", "stackloss", "engel"])
@pytest.mark.parametrize("quantile", [0.1, 0.5, 0.9])
def test_it_is_as_good_as_the_linear_programme(name, quantile):
    """FOUND 7, FOUND 8, FAULTS 64: with and without a penalty, by `fit` and by the estimator."""
    x, y = data(name)
    for alpha in (0.0, 0.1):
        run = dask_gd.fit(x, y, loss=dask_gd.Quantile(quantile), penalty=dask_gd.L1(alpha) if alpha else None)
        model = QuantileRegressor(quantile=quantile, alpha=alpha).fit(x, y)
        exact = least(x, y, quantile, alpha)
        for w, b in ((run.weights.values, float(run.intercept)), (model.coef_, model.intercept_)):
            assert objective(x, y, w, b, quantile, alpha) <= (1 + WITHIN) * exact
        assert (run.reason, model.converged_) == ("converged", True)


def rain(n=20_000, p=4):
    """Targets of 0 and more, skewed, of the size of 3e-5."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, p))
    return x, 3e-5 * np.exp(0.3 * x[:, 0]) * rng.gamma(0.8, size=n)


def spread(n=20_000, p=4):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(n, p))
    return x, x @ np.arange(p) + (1 + 0.5 * np.abs(x[:, 0])) * rng.standard_t(3, size=n)


TARGETS = {
    "rain of 3e-5": rain,
    "unit spread": spread,
    "of size 1e9": lambda: (spread()[0], 1e9 * spread()[1]),
    "1e9 off": lambda: (spread()[0], 1e9 + spread()[1]),
    "an outlier": lambda: (spread()[0], np.where(np.arange(20_000) == 7, 1e8, spread()[1])),
}


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("quantile", [0.1, 0.5, 0.9])
def test_the_share_of_rows_below_is_the_quantile_in_any_unit(name, quantile):
    """FOUND 8."""
    x, y = TARGETS[name]()
    run = dask_gd.fit(x, y, loss=dask_gd.Quantile(quantile))
    assert run.converged
    assert abs((y < run.predict(x)).mean() - quantile) < 0.01


def test_the_unit_changes_nothing_but_the_unit():
    """FOUND 8."""
    x, y = spread(2000)
    runs = [dask_gd.fit(x, unit * y, loss=dask_gd.Quantile(0.8)) for unit in (1.0, 2.0**-40, 2.0**40)]
    for unit, run in zip((1.0, 2.0**-40, 2.0**40), runs, strict=True):
        np.testing.assert_allclose(run.weights / unit, runs[0].weights, rtol=1e-6)
        assert run.n_iter == runs[0].n_iter


def test_heavy_ties_are_as_good_as_the_linear_programme():
    """FOUND 8: counts, most of them 0, of a feature that has few values."""
    rng = np.random.default_rng(2)
    x = rng.integers(0, 4, size=(300, 2)).astype(float)
    y = rng.poisson(np.exp(0.5 * x[:, 0] - 1.0)).astype(float)
    for quantile in (0.3, 0.5, 0.9):
        run = dask_gd.fit(x, y, loss=dask_gd.Quantile(quantile))
        found = objective(x, y, run.weights.values, float(run.intercept), quantile)
        assert found <= (1 + WITHIN) * least(x, y, quantile)


def test_an_exact_fit_is_found():
    """FOUND 8: nothing is left to measure a smoothing by."""
    x = np.random.default_rng(3).normal(size=(50, 2))
    run = dask_gd.fit(x, x @ [1.0, 2.0] + 3.0, loss="quantile")
    np.testing.assert_allclose(run.weights, [1.0, 2.0], atol=1e-6)
    constant = dask_gd.fit(x, np.full(50, 7.0), loss="quantile")
    np.testing.assert_allclose([*constant.weights.values, float(constant.intercept)], [0, 0, 7], atol=1e-6)


def test_outputs_are_smoothed_each_by_its_own_spread():
    """FOUND 8."""
    x, y = spread(4000)
    several = np.stack([y, 1e-3 * rain(4000)[1] / 3e-5, 100 * y[::-1]], axis=1)
    run = dask_gd.fit(x, several, loss=dask_gd.Quantile(0.9))
    below = (several < run.predict(x)).mean(axis=0)
    assert np.abs(below - 0.9).max() < 0.01
    for j, column in enumerate(several.T):
        alone = dask_gd.fit(x, column, loss=dask_gd.Quantile(0.9))
        best = objective(x, column, alone.weights.values, float(alone.intercept), 0.9)
        assert objective(x, column, run.weights.values[:, j], run.intercept[j].item(), 0.9) <= (1 + WITHIN) * best


def test_row_weights_count():
    """FOUND 8."""
    x, y = data("engel")
    weight = np.random.default_rng(4).gamma(1.0, size=len(y))
    run = dask_gd.fit(x, y, loss=dask_gd.Quantile(0.25), sample_weight=weight)
    found = objective(x, y, run.weights.values, float(run.intercept), 0.25, weight=weight)
    assert found <= (1 + WITHIN) * least(x, y, 0.25, weight=weight)


def test_without_an_intercept_it_is_as_good_too():
    x, y = data("stackloss")
    run = dask_gd.fit(np.hstack([x, np.ones((len(x), 1))]), y, loss=dask_gd.Quantile(0.5), fit_intercept=False)
    found = objective(x, y, run.weights.values[:-1], float(run.weights[-1]), 0.5)
    assert found <= (1 + WITHIN) * least(x, y, 0.5)


@pytest.mark.parametrize("solver", ["lbfgs", "nesterov", "sgd"])
def test_other_solvers_are_calibrated_too(solver):
    x, y = spread(4000)
    x = da.from_array(x, chunks=(400, -1))
    run = dask_gd.fit(x, y, loss=dask_gd.Quantile(0.9), solver=solver, max_iter=300)
    assert abs((y < run.predict(x).compute()).mean() - 0.9) < 0.03


def test_on_zarr_it_takes_few_passes(tmp_path):
    """FOUND 8: most steps are on samples."""
    x, y = spread(32_000)
    group = zarr.create_group(tmp_path / "data.zarr")
    group.create_array("X", data=x, chunks=(1000, 4))
    group.create_array("y", data=y, chunks=(1000,))
    source = dask_gd.open(tmp_path / "data.zarr", x="X", y="y")
    run = dask_gd.fit(source, loss=dask_gd.Quantile(0.9))
    assert run.converged
    assert float(run.history.passes.sum()) < 12
    assert abs((y < run.predict(x)).mean() - 0.9) < 0.005


def stop_at(iteration):
    def callback(event):
        if isinstance(event, IterationEnded) and event.iteration == iteration:
            raise StopFit("enough")

    return callback


def test_a_resumed_fit_has_the_bits_of_one_that_ran_through(tmp_path):
    """FOUND 8: whatever stage it stopped in."""
    x, y = spread(3200)
    x = da.from_array(x, chunks=(800, -1))
    options = {"loss": dask_gd.Quantile(0.9), "tol": 1e-9, "max_iter": 60}
    whole = dask_gd.fit(x, y, **options)
    for stop in (0, 2, 5, 8, 11, 14):
        store = tmp_path / str(stop)
        assert dask_gd.fit(x, y, store=store, callbacks=[stop_at(stop)], **options).reason == "enough"
        run = dask_gd.fit(x, y, store=store, **options)
        assert_array_equal(run.weights, whole.weights)
        assert_array_equal(run.history.loss, whole.history.loss)
        assert dask_gd.load(store).loss == dask_gd.Quantile(0.9)


def test_a_smoothing_of_ones_own_keeps_its_meaning():
    x, y = data("engel")
    run = dask_gd.fit(x, y, loss=dask_gd.Quantile(0.5, smoothing=50.0))
    model = QuantileRegressor(alpha=0.0, smoothing=50.0).fit(x, y)
    residual = y - run.predict(x)
    smoothed = np.clip(residual / 50.0, -0.5, 0.5)
    assert abs(smoothed.mean()) < 1e-6
    np.testing.assert_allclose(model.coef_, run.weights, rtol=1e-4)


def test_a_search_is_scored_by_the_pinball_loss():
    """FOUND 8: as `fit` is, without a choice of smoothing."""
    x, y = rain(2000)
    found = dask_gd.search(x, y, loss=dask_gd.Quantile(0.9), alphas=[1e-12, 1e3], folds=3)
    run = found.refit()
    assert abs((y < run.predict(x)).mean() - 0.9) < 0.01
    assert found.best["alpha"] == 1e-12
    loss = float(found.data.loss.sel(candidate=0).mean())
    assert loss == pytest.approx(pinball(y - run.predict(x), 0.9).mean(), rel=0.05)
