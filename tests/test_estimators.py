"""Estimators are scikit-learn's, in names, checks and coefficients, and lazy where the data is."""

import subprocess
import sys

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from sklearn import config_context, linear_model, svm
from sklearn.base import clone, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import dask_gd
from dask_gd import estimators, preprocessing
from dask_gd.errors import InvalidArgumentError, InvalidTypeError, NonFiniteError
from dask_gd.estimators import (
    ElasticNet,
    GammaRegressor,
    HuberRegressor,
    Lasso,
    LinearRegression,
    LinearSVC,
    LogisticRegression,
    PoissonRegressor,
    QuantileRegressor,
    Ridge,
    TweedieRegressor,
)
from dask_gd.estimators.lazy import dask_rows, explained
from dask_gd.sources import as_source

# Those of stochastic gradient descent have tests of their own.
NAMES = [name for name in estimators.__all__ if not name.startswith("SGD")]
# Fits of the same rows in another order end within tol of the same minimum, not at the same point.
TOL = {"LogisticRegression": {"tol": 1e-10}}
EVERY = [getattr(estimators, name)(**TOL.get(name, {})) for name in NAMES if not name.endswith("CV")]
CHOOSING = [
    estimators.RidgeCV(),
    estimators.LassoCV(alphas=4, cv=3),
    estimators.ElasticNetCV(alphas=4, cv=3),
    # Two searches end within tol of the same minimum, not at the same point.
    estimators.LogisticRegressionCV(Cs=[0.1, 1.0], cv=2, tol=1e-10),
]
VARIANTS = [
    LogisticRegression(C=0.1, l1_ratio=0.5),
    TweedieRegressor(power=1.5),
    LinearSVC(loss="hinge"),
]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks([*EVERY, *VARIANTS, *CHOOSING])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


# Coefficients


def problem(model, n=300, p=5, seed=0, several=False, classes=2):
    """Features off centre, and targets that the model takes."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p)) * np.linspace(0.5, 2, p) + np.linspace(-1, 1, p)
    z = (x - x.mean(axis=0)) @ rng.normal(size=(p, 2)) / p
    z = z if several else z[:, 0]
    if is_classifier(model) and classes == 3:
        return x, np.array(["late", "early", "never"])[np.digitize(z + 0.3 * rng.logistic(size=z.shape), [-0.3, 0.4])]
    if is_classifier(model):
        return x, np.where(z + 0.3 * rng.logistic(size=z.shape) > 0, "late", "early")
    if isinstance(model, PoissonRegressor):
        return x, rng.poisson(np.exp(z)).astype(float)
    if isinstance(model, GammaRegressor | TweedieRegressor):
        return x, rng.gamma(2.0, np.exp(z) / 2)
    return x, z + 1 + 0.3 * rng.standard_t(3, size=z.shape)


def fitted(model, x, y, s=None):
    """Coefficients and intercept; of several classes only the intercepts' differences are determined."""
    model = clone(model).fit(x, y, sample_weight=s)
    intercept = model.intercept_ - np.mean(model.intercept_) if np.size(model.intercept_) > 1 else model.intercept_
    return np.append(model.coef_, intercept)


def tight(peer):
    """scikit-learn's model, solved to the last digits."""
    closest = {"tol": 1e-12, "max_iter": 100_000}
    return peer.set_params(**{name: value for name, value in closest.items() if name in peer.get_params()})


PEERS = {
    "linear": (LinearRegression(), linear_model.LinearRegression()),
    "linear without intercept": (
        LinearRegression(fit_intercept=False),
        linear_model.LinearRegression(fit_intercept=False),
    ),
    "ridge": (Ridge(alpha=3.0), linear_model.Ridge(alpha=3.0)),
    "lasso": (Lasso(alpha=0.05), linear_model.Lasso(alpha=0.05)),
    "elastic net": (ElasticNet(alpha=0.1, l1_ratio=0.3), linear_model.ElasticNet(alpha=0.1, l1_ratio=0.3)),
    "elastic net without intercept": (
        ElasticNet(alpha=0.1, fit_intercept=False),
        linear_model.ElasticNet(alpha=0.1, fit_intercept=False),
    ),
    "logistic": (LogisticRegression(C=0.3), linear_model.LogisticRegression(C=0.3, solver="newton-cholesky")),
    "logistic unpenalised": (
        LogisticRegression(C=np.inf),
        linear_model.LogisticRegression(C=np.inf, solver="newton-cholesky"),
    ),
    "multinomial": (
        LogisticRegression(C=0.3),
        linear_model.LogisticRegression(C=0.3, solver="newton-cg"),
    ),
    "multinomial l1": (
        LogisticRegression(C=0.3, l1_ratio=1.0),
        linear_model.LogisticRegression(C=0.3, l1_ratio=1.0, solver="saga"),
    ),
    "logistic l1": (
        LogisticRegression(C=0.3, l1_ratio=1.0),
        linear_model.LogisticRegression(C=0.3, l1_ratio=1.0, solver="saga"),
    ),
    "logistic elastic net": (
        LogisticRegression(C=0.3, l1_ratio=0.4),
        linear_model.LogisticRegression(C=0.3, l1_ratio=0.4, solver="saga"),
    ),
    "logistic, balanced": (
        LogisticRegression(class_weight="balanced"),
        linear_model.LogisticRegression(class_weight="balanced", solver="newton-cholesky"),
    ),
    "logistic, classes weighted": (
        LogisticRegression(class_weight={"late": 3.0}),
        linear_model.LogisticRegression(class_weight={"late": 3.0}, solver="newton-cholesky"),
    ),
    "poisson": (PoissonRegressor(alpha=0.1), linear_model.PoissonRegressor(alpha=0.1, solver="newton-cholesky")),
    "gamma": (GammaRegressor(alpha=0.1), linear_model.GammaRegressor(alpha=0.1, solver="newton-cholesky")),
    "tweedie": (
        TweedieRegressor(power=1.3, alpha=0.1),
        linear_model.TweedieRegressor(power=1.3, alpha=0.1, solver="newton-cholesky"),
    ),
    "tweedie of power 0": (
        TweedieRegressor(alpha=0.1),
        linear_model.TweedieRegressor(alpha=0.1, solver="newton-cholesky"),
    ),
    "squared hinge": (
        LinearSVC(C=0.3, fit_intercept=False),
        svm.LinearSVC(C=0.3, fit_intercept=False, dual=False),
    ),
    "squared hinge, balanced": (
        LinearSVC(fit_intercept=False, class_weight="balanced"),
        svm.LinearSVC(fit_intercept=False, class_weight="balanced", dual=False),
    ),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", PEERS)
def test_coefficients_are_scikit_learns(name, weighted):
    model, peer = PEERS[name]
    x, y = problem(model, classes=3 if "multinomial" in name else 2)
    s = np.random.default_rng(1).uniform(0, 2, len(y)) if weighted else None
    np.testing.assert_allclose(fitted(model, x, y, s), fitted(tight(peer), x, y, s), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", PEERS)
def test_predictions_and_scores_are_scikit_learns(name):
    model, peer = PEERS[name]
    x, y = problem(model, classes=3 if "multinomial" in name else 2)
    s = np.random.default_rng(1).uniform(0, 2, len(y))
    model, peer = clone(model).fit(x, y), tight(clone(peer)).fit(x, y)
    assert model.score(x, y, s) == pytest.approx(peer.score(x, y, s), rel=1e-6)
    assert np.shape(model.intercept_) == np.shape(peer.intercept_) or not peer.fit_intercept
    assert model.coef_.shape == peer.coef_.shape
    for method in ("predict", "decision_function", "predict_proba", "predict_log_proba"):
        assert hasattr(model, method) == hasattr(peer, method)
        if hasattr(model, method):
            ours, theirs = getattr(model, method)(x), getattr(peer, method)(x)
            if ours.dtype.kind == "U":
                np.testing.assert_array_equal(ours, theirs)
                continue
            if method == "decision_function" and ours.ndim == 2:
                ours, theirs = (z - z.mean(axis=1, keepdims=True) for z in (ours, theirs))
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("weights", [None, "balanced", {"early": 2.0}], ids=str)
def test_several_classes_lazily(weights):
    x, y = problem(LogisticRegression(), classes=3)
    peer = linear_model.LogisticRegression(class_weight=weights, solver="newton-cg", tol=1e-12).fit(x, y)
    lazy = da.from_array(x, chunks=(70, 2)), da.from_array(y, chunks=110)
    model = LogisticRegression(class_weight=weights).fit(*lazy)
    np.testing.assert_allclose(model.coef_, peer.coef_, rtol=1e-6, atol=1e-6)
    for method, width in (("predict", ()), ("predict_proba", (3,)), ("decision_function", (3,))):
        found = getattr(model, method)(lazy[0])
        assert isinstance(found, da.Array)
        assert found.shape == (len(x), *width)
        np.testing.assert_array_equal(found, getattr(model, method)(x))
    assert model.score(*lazy) == peer.score(x, y)
    named = xr.DataArray(x, dims=("row", "feature"), coords={"row": np.arange(len(x))})
    shares = model.predict_proba(named)
    assert shares.dims == ("row", "class")
    assert shares["class"].values.tolist() == ["early", "late", "never"]
    np.testing.assert_array_equal(shares, model.predict_proba(x))
    assert model.predict(named).dims == ("row",)


def test_huber_finds_its_scale_after_a_fit_that_ended_before_it_had_one():
    x, y = problem(HuberRegressor())
    y[::10] += 50
    cold = HuberRegressor().fit(x, y)
    warm = HuberRegressor(warm_start=True, solver="lbfgs", max_iter=1)
    with pytest.warns(ConvergenceWarning):
        warm.fit(x, y)
    assert warm.scale_ == np.inf
    assert not warm.converged_
    warm.set_params(max_iter=100).fit(x, y)
    np.testing.assert_allclose(warm.scale_, cold.scale_, rtol=1e-6)
    np.testing.assert_allclose(warm.coef_, cold.coef_, rtol=1e-5)


def test_huber_is_scikit_learns_where_the_scale_is_what_it_found():
    """To what scikit-learn's L-BFGS leaves undone."""
    x, y = problem(HuberRegressor())
    y = 10 * y
    peer = linear_model.HuberRegressor(alpha=5.0, tol=1e-9, max_iter=10_000).fit(x, y)
    model = HuberRegressor(alpha=5.0, scale=peer.scale_).fit(x, y)
    theirs = np.append(peer.coef_, peer.intercept_)
    np.testing.assert_allclose(np.append(model.coef_, model.intercept_), theirs, rtol=1e-3)
    loss, penalty = dask_gd.Huber(1.35 * peer.scale_), dask_gd.L2(5.0 * peer.scale_ / len(y))
    ours, start = (
        dask_gd.fit(x, y, loss=loss, penalty=penalty, initial_weights=w, max_iter=0).history.loss[0]
        for w in (model.result_, theirs[:, None])
    )
    assert ours <= start <= ours * (1 + 1e-7)


@pytest.mark.parametrize(("epsilon", "alpha", "freedom"), [(1.35, 5.0, 3.0), (1.1, 1e-4, 1.5), (1.9, 1.0, 2.0)])
def test_huber_finds_its_scale_with_the_coefficients(epsilon, alpha, freedom):
    """All of scikit-learn's gradient is 0; its own minimum is as near as its L-BFGS gets, and no lower."""
    rng = np.random.default_rng(1)
    x, s = rng.normal(size=(400, 5)), rng.uniform(0.5, 2.0, 400)
    y = x @ rng.normal(size=5) + 2 + 3 * rng.standard_t(freedom, size=400)
    peer = linear_model.HuberRegressor(epsilon=epsilon, alpha=alpha, tol=1e-10, max_iter=10_000).fit(x, y, s)
    model = HuberRegressor(epsilon=epsilon, alpha=alpha).fit(x, y, s)
    ours, theirs = (np.concatenate([m.coef_, [m.intercept_, m.scale_]]) for m in (model, peer))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    value, slope = huber_objective(ours, x, y, epsilon, alpha, s)
    assert np.abs(slope).max() <= 1e-7 * s.sum()
    assert value <= huber_objective(theirs, x, y, epsilon, alpha, s)[0] * (1 + 1e-12)
    lazy = [da.from_array(a, chunks=(90, *a.shape[1:])) for a in (x, y, s)]
    again = HuberRegressor(epsilon=epsilon, alpha=alpha).fit(*lazy)
    np.testing.assert_allclose([*again.coef_, again.scale_], [*model.coef_, model.scale_], rtol=1e-7)


def huber_objective(w, x, y, epsilon, alpha, s):
    """Its value and gradient by coefficients, intercept and scale."""
    scale, r = w[-1], y - x @ w[:-2] - w[-2]
    u = np.abs(r) / scale
    clipped = np.minimum(u, epsilon)
    value = (s * scale * (1 + clipped * (2 * u - clipped))).sum() + alpha * w[:-2] @ w[:-2]
    slope = -2 * s * np.sign(r) * clipped
    return value, np.concatenate([slope @ x + 2 * alpha * w[:-2], [slope.sum(), (s * (1 - clipped**2)).sum()]])


def test_hubers_scale_where_rows_are_met_exactly():
    """All of them: 0, but for rounding. Most of them: next to nothing, and the coefficients are those of these rows."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(200, 3))
    y = x @ [1.0, 2.0, 3.0] + 1
    model = HuberRegressor(warm_start=True)
    for _ in range(2):
        model.fit(x, y)
        assert model.scale_ == 0
        assert model.converged_
        np.testing.assert_allclose(model.coef_, [1.0, 2.0, 3.0], rtol=1e-9)
    y[:40] += 50.0
    model = HuberRegressor(alpha=0.0).fit(x, y)
    assert 0 < model.scale_ <= 1e-4
    np.testing.assert_allclose(model.coef_, [1.0, 2.0, 3.0], rtol=1e-5)


def test_hubers_scale_goes_on_from_the_last_and_resumes_from_its_store(tmp_path):
    x, y = problem(HuberRegressor())
    model = HuberRegressor(warm_start=True, store=tmp_path / "run").fit(x, y)
    steps, scale, files = model.n_iter_, model.scale_, sorted((tmp_path / "run").iterdir())
    assert HuberRegressor(store=tmp_path / "run").fit(x, y).scale_ == scale
    assert sorted((tmp_path / "run").iterdir()) == files
    assert steps > 0
    model.store = None
    assert model.fit(x, y).n_iter_ <= 1
    assert abs(model.scale_ / scale - 1) <= 1e-7
    with pytest.raises(InvalidArgumentError, match="give its path, or the scale"):
        HuberRegressor(store=dask_gd.Store(tmp_path / "other")).fit(x, y)
    with pytest.raises(InvalidArgumentError, match=r"epsilon=0.5.*at least 1"):
        HuberRegressor(epsilon=0.5).fit(x, y)


@pytest.mark.parametrize("labels", [[0.0, 1.0], [3.0, 7.0], [1.0, 2.0, 5.0]], ids=str)
@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_classes_are_those_of_the_rows_that_are_kept(labels, class_weight):
    """Rows with NaN in a feature or in the label count for nothing, though they hold labels of their own."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(300, 3))
    y = np.array(labels)[np.digitize(x[:, 0] + rng.normal(size=300), np.linspace(-0.5, 0.5, len(labels) - 1))]
    bad = np.arange(300) % 5 == 2
    holes, told = x.copy(), y.copy()
    holes[bad, 1], told[bad] = np.nan, 9.0
    told[7] = np.nan
    bad[7] = True
    model, plain = LogisticRegression(class_weight=class_weight), LogisticRegression(class_weight=class_weight)
    model.fit(as_source(holes, told, nan="drop"))
    plain.fit(x[~bad], y[~bad])
    assert model.classes_.tolist() == labels
    np.testing.assert_allclose(model.coef_, plain.coef_, rtol=1e-6, atol=1e-7)


def test_quantiles_are_scikit_learns_as_smoothing_vanishes():
    x, y = problem(QuantileRegressor())
    peer = fitted(linear_model.QuantileRegressor(quantile=0.7, alpha=0.02), x, y)
    far, near = (
        np.abs(fitted(QuantileRegressor(quantile=0.7, alpha=0.02, smoothing=smoothing), x, y) - peer).max()
        for smoothing in (0.3, 0.03)
    )
    assert near < 0.01
    assert near < far / 5


@pytest.mark.parametrize("model", [LinearRegression(), Ridge(), Lasso(alpha=0.02), ElasticNet(alpha=0.02)], ids=repr)
def test_several_targets(model):
    x, y = problem(model, several=True)
    options = {"alpha": model.alpha} if hasattr(model, "alpha") else {}
    peer = tight(getattr(linear_model, type(model).__name__)(**options))
    model, peer = clone(model).fit(x, y), peer.fit(x, y)
    np.testing.assert_allclose(model.coef_, peer.coef_, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(model.intercept_, peer.intercept_, rtol=1e-6, atol=1e-6)
    assert model.score(x, y) == pytest.approx(peer.score(x, y), rel=1e-6)
    lazy = da.from_array(x, chunks=(70, 2))
    assert model.score(lazy, y) == pytest.approx(peer.score(x, y), rel=1e-6)
    np.testing.assert_allclose(model.predict(lazy).compute(), peer.predict(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("name", ["LinearRegression", "Ridge"])
def test_a_target_of_one_column(name, lazy):
    x, y = problem(Ridge())
    y = y[:, None]
    peer = getattr(linear_model, name)().fit(x, y)
    features = da.from_array(x, chunks=(50, 5)) if lazy else x
    model = getattr(estimators, name)().fit(features, y)
    assert model.coef_.shape == peer.coef_.shape
    np.testing.assert_allclose(model.predict(features), peer.predict(x), rtol=1e-6)
    assert model.score(features, y) == pytest.approx(peer.score(x, y))


# What holds for every model

MODELS = [*EVERY, *VARIANTS]
every_model = pytest.mark.parametrize("model", [*MODELS, *CHOOSING], ids=repr)
# Folds depend on the rows' numbers, and a fit from a search begins near its end.
with_its_own_penalty = pytest.mark.parametrize("model", MODELS, ids=repr)


def test_every_estimator_is_tested():
    tested = {type(model).__name__ for model in [*MODELS, *CHOOSING]}
    assert tested == set(NAMES)


@with_its_own_penalty
def test_weights_are_repetitions_and_none_is_no_row(model):
    x, y = problem(model)
    s = np.random.default_rng(2).integers(0, 3, len(y))
    repeated = fitted(model, np.repeat(x, s, axis=0), np.repeat(y, s))
    np.testing.assert_allclose(fitted(model, x, y, s), repeated, rtol=1e-6, atol=1e-7)


@with_its_own_penalty
def test_where_the_penalty_is_of_the_sum_stacking_needs_a_stronger_one(model):
    """The mean does not change if every row is there twice; what multiplies a sum has to follow."""
    x, y = problem(model)
    twice = clone(model)
    if isinstance(model, Ridge | HuberRegressor):
        twice.alpha *= 2
    if is_classifier(model):
        twice.C /= 2
    stacked = fitted(twice, np.vstack([x, x]), np.concatenate([y, y]))
    # How far a quantile's loss is smoothed depends on how many rows there are to tell a quantile by.
    within = 1e-2 if isinstance(model, QuantileRegressor) else 1e-6
    np.testing.assert_allclose(stacked, fitted(model, x, y), rtol=within, atol=1e-7)


@every_model
def test_chunks_and_kinds_of_arrays_do_not_matter(model, tmp_path):
    x, y = problem(model)
    s = np.random.default_rng(3).uniform(0.5, 2, len(y))
    expected = fitted(model, x, y, s)
    group = zarr.open_group(tmp_path, mode="w")
    stored = group.create_array("x", data=x, chunks=(64, 3)), group.create_array("s", data=s, chunks=(50,))
    blocks = da.from_array(x, chunks=(47, 2))
    for features, targets, weights in (
        (blocks, y, s),
        (stored[0], y, s),
        (xr.DataArray(x, dims=("row", "feature")), y, s),
        (x.tolist(), y, pd.Series(s)),
        (blocks, da.from_array(y, chunks=130), da.from_array(s, chunks=41)),
        (pd.DataFrame(x), da.from_array(y, chunks=130), stored[1]),
    ):
        np.testing.assert_allclose(fitted(model, features, targets, weights), expected, rtol=1e-6, atol=1e-7)


@every_model
def test_lazy_rows_stay_lazy(model):
    x, y = problem(model)
    model = clone(model).fit(x, y)

    def read(block):
        raise AssertionError("a block was computed")

    unread = da.from_array(x, chunks=(40, 5)).map_blocks(read, dtype=float, meta=np.empty((0, 0)))
    for method in ("predict", "decision_function", "predict_proba", "predict_log_proba"):
        if hasattr(model, method):
            found = getattr(model, method)(unread)
            assert isinstance(found, da.Array)
            now = getattr(model, method)(x)
            assert (found.shape, found.dtype) == (now.shape, now.dtype)
            blocks = getattr(model, method)(da.from_array(x, chunks=(40, 2))).compute()
            if now.dtype.kind == "U":
                np.testing.assert_array_equal(blocks, now)
            else:
                np.testing.assert_allclose(blocks, now, rtol=1e-9)


@every_model
def test_lazy_rows_are_never_loaded_whole(model, monkeypatch):
    x, y = problem(model)
    s = np.random.default_rng(3).uniform(0.5, 2, len(y))
    model = clone(model).fit(x, y)
    expected = model.score(x, y, s)

    def load(self, *args, **options):
        raise AssertionError("a Dask array was turned into a NumPy array")

    monkeypatch.setattr(da.Array, "__array__", load)
    features, targets, weights = (
        da.from_array(x, chunks=(40, 5)),
        da.from_array(y, chunks=70),
        da.from_array(s, chunks=90),
    )
    assert model.score(features, targets, weights) == pytest.approx(expected)
    clone(model).fit(features, targets, weights)


@every_model
def test_float32_gives_float32(model):
    x, y = problem(model)
    single = clone(model).fit(x.astype(np.float32), y)
    assert single.coef_.dtype == np.float32
    np.testing.assert_allclose(np.append(single.coef_, single.intercept_), fitted(model, x, y), rtol=1e-5, atol=1e-5)
    assert single.result_.reason in ("converged", "precision")
    assert clone(model).fit(da.from_array(x.astype(np.float32), chunks=50), y).coef_.dtype == np.float32


@every_model
def test_a_warm_start_begins_where_the_last_fit_ended(model):
    x, y = problem(model)
    warm = clone(model).set_params(warm_start=True).fit(x, y)
    coef = warm.coef_
    assert np.max(warm.n_iter_) > 0
    warm.fit(x, y)
    # Of a search's steps it is the last fit's that count.
    assert (warm.n_iter_ if np.size(warm.n_iter_) == 1 else warm.result_.n_iter) <= 1
    np.testing.assert_allclose(warm.coef_, coef, rtol=1e-6, atol=1e-9)


@with_its_own_penalty
def test_an_interrupted_fit_goes_on_from_its_store(model, tmp_path):
    x, y = problem(model)
    if isinstance(model, HuberRegressor):  # which otherwise has a store for each scale that it tries
        model = clone(model).set_params(scale=0.3)
    stored = clone(model).set_params(store=tmp_path).fit(x, y)
    events = []
    again = clone(stored).set_params(callbacks=(events.append,)).fit(x, y)
    assert events[0].resumed_from == stored.n_iter_
    np.testing.assert_array_equal(again.coef_, stored.coef_)
    assert dask_gd.load(tmp_path).weights.identical(stored.result_.weights)


# Sources


def flights(**options):
    return dask_gd.open("data/flights.zarr", x="X", y="late", rows=slice(0, 60_000), **options)


def test_a_source_is_streamed_and_scored():
    source = flights()
    model = LogisticRegression(C=1.0).fit(source)
    n, p = source.shape
    run = dask_gd.fit(source, loss="logistic", penalty=dask_gd.L2(1 / n), tol=1e-6)
    np.testing.assert_array_equal(model.coef_[0], run.weights.astype(np.float32))
    assert model.n_features_in_ == p
    assert tuple(model.feature_names_in_) == source.feature_names
    assert model.history_.loss.size == model.n_iter_ + 1
    assert model.converged_
    probability = model.predict_proba(source)
    assert isinstance(probability, da.Array)
    assert probability.shape == (n, 2)
    late = np.asarray(zarr.open_group("data/flights.zarr", mode="r")["late"][: source.shape[0]])
    assert model.score(source) == np.mean(model.predict(source).compute() == late)
    with pytest.raises(InvalidArgumentError, match="has its own target"):
        model.fit(source, late)
    with pytest.raises(InvalidArgumentError, match="has its own target"):
        model.score(source, late)


def test_a_source_has_its_labels_encoded_and_its_classes_weighted(tmp_path):
    x, y = problem(LogisticRegression())
    s = np.random.default_rng(4).uniform(0.5, 2, len(y))
    group = zarr.open_group(tmp_path, mode="w")
    group.create_array("x", data=x, chunks=(64, 5))
    group.create_array("y", data=np.where(y == "late", 7, 3), chunks=(50,))
    group.create_array("s", data=s, chunks=(30,))
    source = dask_gd.open(group, x="x", y="y", sample_weight="s", rows=slice(20, 290))
    model = LogisticRegression(class_weight="balanced").fit(source)
    rows = slice(20, 290)
    np.testing.assert_allclose(
        np.append(model.coef_, model.intercept_),
        fitted(LogisticRegression(class_weight="balanced"), x[rows], y[rows], s[rows]),
        rtol=1e-6,
    )
    assert model.classes_.tolist() == [3, 7]
    assert set(model.predict(source).compute()) == {3, 7}
    plain = LogisticRegression().fit(dask_gd.open(group, x="x", y="y"), sample_weight=s)
    np.testing.assert_allclose(
        np.append(plain.coef_, plain.intercept_), fitted(LogisticRegression(), x, y, s), rtol=1e-6
    )


def test_rows_that_a_source_drops_do_not_count_in_the_penalty():
    x, y = problem(Ridge())
    s = np.random.default_rng(4).uniform(0.5, 2, len(y))
    x[:100:3, 1], y[150:200], s[7] = np.nan, np.nan, np.nan
    good = np.isfinite(x).all(axis=1) & np.isfinite(y)
    for rows in (x, da.from_array(x, chunks=(70, 2))):
        expected = fitted(Ridge(alpha=30.0), x[good], y[good])
        np.testing.assert_allclose(fitted(Ridge(alpha=30.0), as_source(rows, y, nan="drop"), None), expected, rtol=1e-6)
        weighted = good & np.isfinite(s)
        expected = fitted(Ridge(alpha=30.0), x[weighted], y[weighted], s[weighted])
        source = as_source(rows, y, s, nan="drop")
        np.testing.assert_allclose(fitted(Ridge(alpha=30.0), source, None), expected, rtol=1e-6)


def test_data_arrays_keep_their_coordinates():
    x, y = problem(LogisticRegression())
    coords = {"row": np.arange(len(x)) + 5, "feature": list("abcde")}
    labelled = xr.DataArray(x, dims=("row", "feature"), coords=coords)
    model = LogisticRegression().fit(labelled, xr.DataArray(y, dims="row", coords={"row": coords["row"]}))
    assert model.feature_names_in_.tolist() == coords["feature"]
    predicted, probability = model.predict(labelled), model.predict_proba(labelled)
    np.testing.assert_array_equal(predicted, model.predict(pd.DataFrame(x, columns=coords["feature"])))
    assert predicted.dims == ("row",)
    assert probability.sel({"class": "late"}).coords["row"].values.tolist() == coords["row"].tolist()
    column = LinearRegression().fit(labelled, x[:, :1]).predict(labelled)
    assert column.shape == (len(x), 1)


def test_a_data_array_opened_without_dask_is_not_read_whole(tmp_path):
    x, y = problem(Ridge())
    xr.Dataset({"x": (("t", "f"), x)}).chunk(t=70).to_zarr(tmp_path / "x", zarr_format=2, consolidated=False)
    opened = xr.open_zarr(tmp_path / "x", chunks=None, consolidated=False).x
    assert dask_rows(opened).npartitions == 5
    model = Ridge().fit(opened, y)
    assert model.predict(opened).chunks == ((70, 70, 70, 70, 20),)
    assert model.score(opened, y) == pytest.approx(model.score(x, y))


@pytest.mark.parametrize("labels", [("early", "late"), (0, 1)], ids=str)
def test_targets_and_weights_beside_lazy_rows_may_be_objects_or_lists(labels):
    x, y = problem(LogisticRegression())
    y, s = np.where(y == "late", labels[1], labels[0]), np.random.default_rng(4).uniform(0.5, 2, len(y))
    rows = da.from_array(x, chunks=(70, 5))
    expected = LogisticRegression().fit(x, y, s)
    for targets in (y.tolist(), y.astype(object if y.dtype.kind == "U" else float), pd.Series(y)):
        model = LogisticRegression().fit(rows, targets, s.tolist())
        np.testing.assert_allclose(model.coef_, expected.coef_, rtol=1e-6)
        assert model.score(rows, targets, s.tolist()) == pytest.approx(expected.score(x, y, s))
    z = x[:, 0].tolist()
    np.testing.assert_allclose(fitted(Ridge(), rows, z, s.tolist()), fitted(Ridge(), x, z, s), rtol=1e-6, atol=1e-9)


def test_rows_of_unknown_number_are_scored(caplog):
    x, y = problem(Ridge())
    rows, good = da.from_array(x, chunks=(70, 5)), x[:, 0] > -1
    model = Ridge().fit(x, y)
    unknown = rows[rows[:, 0] > -1]
    assert model.score(unknown, y[good]) == pytest.approx(model.score(x[good], y[good]))
    assert [r.getMessage()[:21] for r in caplog.records] == ["The chunk sizes of X "]
    with pytest.raises(InvalidArgumentError, match=f"X has {good.sum()} rows but y has 300"):
        model.score(unknown, y)


def test_constant_targets_are_scored_as_in_scikit_learn():
    z = np.arange(6.0)
    y, z = np.stack([z**2, np.full(6, 3.0), np.full(6, 3.0)], axis=1), np.stack([z, z, np.full(6, 3.0)], axis=1)
    for columns in ([0], [1], [2], [0, 1, 2]):
        blocks = (da.from_array(a[:, columns], chunks=(4, 3)) for a in (z, y))
        score = explained(dask_gd.Squared(), *blocks, None)
        assert score == pytest.approx(r2_score(y[:, columns], z[:, columns]))
    ones = da.ones(6, chunks=4)
    assert explained(dask_gd.Poisson(), 0 * ones, ones, ones) == 1
    assert explained(dask_gd.Poisson(), ones, ones, ones) == 0
    with pytest.raises(dask_gd.errors.NonFiniteError, match="no score: y is NaN"):
        explained(dask_gd.Squared(), ones, np.nan * ones, None)


# In scikit-learn's tools


def test_in_a_pipeline_and_a_grid_search():
    x, y = problem(LogisticRegression())
    grid = {"logisticregression__C": [0.01, 1.0]}
    ours = GridSearchCV(make_pipeline(StandardScaler(), LogisticRegression()), grid, cv=3).fit(x, y)
    theirs = GridSearchCV(make_pipeline(StandardScaler(), linear_model.LogisticRegression()), grid, cv=3).fit(x, y)
    np.testing.assert_allclose(ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"])
    assert ours.best_params_ == theirs.best_params_


def test_sample_weight_is_routed():
    x, y = problem(Ridge())
    s = np.random.default_rng(5).uniform(0, 2, len(y))
    with config_context(enable_metadata_routing=True):
        model = Ridge().set_fit_request(sample_weight=True)
        pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), model)
        weighted = pipeline.fit(x, y, sample_weight=s)[-1].coef_
    np.testing.assert_allclose(weighted, fitted(Ridge(), StandardScaler().fit_transform(x), y, s)[:-1])


def test_frames_name_the_features():
    x, y = problem(Ridge())
    frame = pd.DataFrame(x, columns=list("abcde"))
    model = Ridge().fit(frame, pd.Series(y))
    assert model.feature_names_in_.tolist() == list("abcde")
    assert model.result_.weights.coords["feature"].values.tolist() == list("abcde")
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame[list("bacde")])
    model.fit(da.from_array(x), y)
    assert not hasattr(model, "feature_names_in_")


def test_scikit_learn_is_asked_for_by_the_estimators_alone():
    code = "import sys; sys.modules['sklearn'] = None; import dask_gd; import dask_gd.estimators"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].startswith("ImportError: dask_gd.estimators needs scikit-learn")


# What is refused


@pytest.mark.parametrize("power", [-1, 0.5, 3])
def test_powers_that_the_library_lacks_are_refused(power):
    with pytest.raises(InvalidArgumentError, match="0, or from 1 to 2"):
        TweedieRegressor(power=power).fit([[1.0], [2.0]], [1.0, 2.0])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (TweedieRegressor(power=1.5, link="identity"), "choose 'auto' or 'log'"),
        (TweedieRegressor(link="log"), "choose 'auto' or 'identity'"),
        (Ridge(alpha=-1.0), "alpha"),
        (Lasso(alpha=np.nan), "alpha"),
        (ElasticNet(l1_ratio=1.5), "l1_ratio"),
        (HuberRegressor(scale=0.0), "scale"),
        (QuantileRegressor(quantile=1.0), "quantile"),
        (LinearRegression(tol=-1.0), "tol"),
        (LinearRegression(solver="sag"), "The 'solver' parameter of LinearRegression must be"),
    ],
    ids=repr,
)
def test_parameters_are_checked_in_the_fit(model, message):
    with pytest.raises(InvalidArgumentError, match=message):
        model.fit([[1.0], [2.0]], [1.0, 2.0])


@pytest.mark.parametrize("model", [LogisticRegression(C=0.0), LinearSVC(C=-1.0), LinearSVC(loss="log")], ids=repr)
def test_parameters_of_classifiers_are_checked_in_the_fit(model):
    with pytest.raises(InvalidArgumentError, match=r"The '(C|loss)' parameter of .* must be"):
        model.fit([[1.0], [2.0]], [0, 1])


def test_what_cannot_be_fitted_is_refused_with_its_reason(tmp_path):
    x, y = problem(Ridge())
    lazy = da.from_array(x, chunks=(50, 5))
    with pytest.raises(InvalidArgumentError, match="x has 300 rows but y has 299"):
        Ridge().fit(lazy, y[1:])
    with pytest.raises(InvalidArgumentError, match="X has 300 rows but y has 299"):
        Ridge().fit(lazy, y).score(lazy, y[1:])
    with pytest.raises(InvalidArgumentError, match="should be a 1d array"):
        PoissonRegressor().fit(lazy, np.ones((300, 2)))
    with pytest.raises(InvalidArgumentError, match="should be a 1d array"):
        LogisticRegression().fit(lazy, np.ones((300, 2)))
    with pytest.raises(InvalidArgumentError, match="one class"):
        LogisticRegression().fit(lazy, np.ones(300))
    with pytest.raises(ValueError, match="continuous"):
        LogisticRegression().fit(lazy, da.from_array(y))
    for model in (Ridge(), LogisticRegression()):
        with pytest.raises(InvalidArgumentError, match="needs a target y"):
            model.fit(lazy)
    with pytest.raises(InvalidArgumentError, match="needs a target y"):
        Ridge().fit(lazy, y).score(lazy)
    with pytest.raises(NonFiniteError, match="'sample_weight'"):
        Ridge().fit(lazy, y, np.append(np.ones(299), np.nan))
    with pytest.raises(InvalidArgumentError, match="sum to 0"):
        Ridge().fit(lazy, y, np.zeros(300))
    with pytest.raises(InvalidArgumentError, match="shape"):
        Ridge().fit(lazy, y).predict(lazy[:, 1:])


@pytest.mark.parametrize("model", [Ridge(), LogisticRegression(), PoissonRegressor()], ids=repr)
def test_datasets_are_refused_with_what_to_do(model):
    ds = xr.Dataset({"a": ("t", np.arange(6.0)), "y": ("t", [0, 0, 1, 0, 1, 1])})
    fitted_model = clone(model).fit(ds.a.values[:, None], ds.y.values)
    for data in (ds, ds.chunk(), dask_gd.open(ds, features="a", target="y", sample_dims="t")):
        for method in (model.fit, fitted_model.predict, fitted_model.score):
            with pytest.raises(InvalidTypeError, match=r"Dataset was given; .*dask_gd\.fit"):
                method(data)


def test_dask_frames_are_served_as_their_arrays_are(monkeypatch):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(300, 3)), columns=list("abc"))
    frame["z"] = frame.a + rng.normal(size=300)
    frame["y"], frame["s"] = (frame.z > 0).astype(int), rng.uniform(1, 2, 300)
    lazy, names = dd.from_pandas(frame, npartitions=4), list("abc")
    for refused in (dd.DataFrame, dd.Series):
        monkeypatch.setattr(refused, "__array__", lambda self, *_: pytest.fail("loaded whole"))
    plain = Ridge().fit(frame[names], frame.z, frame.s)
    model = Ridge().fit(lazy[names], lazy.z, lazy.s)
    np.testing.assert_allclose(model.coef_, plain.coef_, rtol=1e-12)
    assert model.feature_names_in_.tolist() == names
    assert isinstance(model.predict(lazy[names]), da.Array)
    assert model.score(lazy[names], lazy.z, lazy.s) == pytest.approx(plain.score(frame[names], frame.z, frame.s))
    plain = LogisticRegression(class_weight="balanced").fit(frame[names], frame.y, frame.s)
    model = LogisticRegression(class_weight="balanced").fit(lazy[names], lazy.y, lazy.s)
    np.testing.assert_allclose(model.coef_, plain.coef_, rtol=1e-9)
    np.testing.assert_array_equal(model.predict(lazy[names]).compute(), plain.predict(frame[names]))
    assert model.score(lazy[names], lazy.y) == plain.score(frame[names], frame.y)
    with pytest.raises(InvalidArgumentError, match="feature 0 is named 'b'"):
        model.predict(lazy[["b", "a", "c"]])
    scaled = preprocessing.StandardScaler().fit(lazy[names]).transform(lazy[names])
    assert isinstance(scaled, dd.DataFrame)
    np.testing.assert_allclose(scaled.compute(), StandardScaler().fit_transform(frame[names]), rtol=1e-9)
    split = preprocessing.train_test_split
    for part, own in zip(split(lazy[names], lazy.y), split(frame[names], frame.y), strict=True):
        np.testing.assert_array_equal(part.compute(), own)


def test_a_lazy_thing_of_no_known_kind_is_refused_and_not_loaded():
    class Frame:
        def __dask_graph__(self):
            return {"a": 1}

    with pytest.raises(InvalidTypeError, match="to_dask_array"):
        Ridge().fit(Frame(), np.ones(3))


def test_too_few_steps_are_told():
    x, y = problem(LogisticRegression())
    with pytest.warns(ConvergenceWarning, match="max_iter=1 steps"):
        model = LogisticRegression(max_iter=1).fit(x, y)
    assert not model.converged_
    assert model.n_iter_ == 1


def test_absolute_values_are_served_for_wide_data_too():
    x = np.random.default_rng(0).normal(size=(30, 5000))
    model = Lasso(alpha=0.5, tol=1e-3).fit(da.from_array(x, chunks=(30, 5000)), x[:, 0] * 3)
    assert model.coef_[0] > 2
    assert (model.coef_ != 0).sum() < 30
