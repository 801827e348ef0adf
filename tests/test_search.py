"""A search: its trials are the fits that they would be alone, its scores scikit-learn's, whatever the chunks."""

from itertools import pairwise
from types import SimpleNamespace

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from dask.distributed import Client
from helpers import to_zarr
from sklearn import linear_model
from sklearn.linear_model import ElasticNet, Lasso, LogisticRegression, PoissonRegressor, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    PredefinedSplit,
    StratifiedKFold,
)

import dask_gd
from dask_gd import estimators
from dask_gd.errors import DataError, InvalidArgumentError, InvalidTypeError, StoreMismatchError
from dask_gd.events import RoundEnded, SearchEnded
from dask_gd.fitting.folds import ByClass, Folds
from dask_gd.fitting.search_result import SearchResult
from dask_gd.model.penalties import L1, L2

TARGETS = {
    "squared": lambda z, rng: z + rng.normal(size=len(z)),
    "huber": lambda z, rng: z + rng.standard_t(2, size=len(z)),
    "quantile": lambda z, rng: z + rng.standard_t(2, size=len(z)),
    "logistic": lambda z, rng: (z + rng.logistic(size=len(z)) > 0) * 1.0,
    "squared_hinge": lambda z, rng: (z + rng.logistic(size=len(z)) > 0) * 1.0,
    "poisson": lambda z, rng: rng.poisson(np.exp(0.5 * z)) * 1.0,
    "gamma": lambda z, rng: rng.gamma(2.0, np.exp(0.5 * z) / 2.0),
    "softmax": lambda z, rng: np.digitize(z + rng.logistic(size=len(z)), [-1.0, 1.0]) * 1.0,
}


def problem(loss="logistic", n=600, p=5, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p)) + 0.3
    return x, TARGETS[loss](x @ rng.normal(size=p), rng)


def fold_of(n, count, seed=0):
    return Folds(count, seed=seed).of_rows(np.arange(n), n)


@pytest.fixture
def sums_of_folds(monkeypatch):
    """The sums over each fold of every search, of which its result has nothing."""
    seen, of = [], SearchResult.of

    def spied(trials, shared, scoring):
        seen.append(shared.folds)
        return of(trials, shared, scoring)

    monkeypatch.setattr(SearchResult, "of", spied)
    return seen


# Together = alone


@pytest.mark.parametrize("solver", ["auto", "lbfgs"])
@pytest.mark.parametrize("loss", TARGETS)
def test_each_trial_is_the_fit_to_the_other_rows(loss, solver):
    x, y = problem(loss)
    rng = np.random.default_rng(1)
    s, offset = rng.uniform(0.5, 2.0, len(x)), None if loss == "softmax" else rng.normal(size=len(x)) / 4
    # Alone, each fit would find a smoothing of its own.
    same = dask_gd.Quantile(smoothing=1.0) if loss == "quantile" else loss
    options = {"loss": same, "solver": solver, "tol": 1e-9}
    alphas = [3.0, 0.1, 1e-3]
    found = dask_gd.search(x, y, alphas=alphas, folds=3, sample_weight=s, offset=offset, **options)
    fold = fold_of(len(x), 3)
    for c, alpha in enumerate(alphas):
        for f in (0, 1, 2):
            seen = fold != f
            added = None if offset is None else offset[seen]
            alone = dask_gd.fit(x[seen], y[seen], penalty=L2(alpha), sample_weight=s[seen], offset=added, **options)
            trial = found.data.isel(candidate=c, fold=f)
            np.testing.assert_allclose(trial.weights, alone.weights, rtol=1e-6, atol=1e-7)
            np.testing.assert_allclose(trial.intercept, alone.intercept, rtol=1e-6, atol=1e-7)
            out = dask_gd.fit(
                x[~seen],
                y[~seen],
                loss=alone.loss,
                initial_weights=alone,
                sample_weight=s[~seen],
                offset=None if offset is None else offset[~seen],
                max_iter=0,
            )
            np.testing.assert_allclose(trial.loss, out.history.loss[0], rtol=1e-6)
            assert trial.score == -trial.loss
        whole = dask_gd.fit(x, y, penalty=L2(alpha), sample_weight=s, offset=offset, **options)
        np.testing.assert_allclose(found.data.all_weights[c], whole.weights, rtol=1e-6, atol=1e-7)
    assert set(found.data.reason.values.ravel()) <= {"converged", "precision"}


@pytest.mark.parametrize("loss", ["squared", "logistic", "softmax"])
@pytest.mark.parametrize("solver", ["auto", "lbfgs"])
def test_penalties_that_bend_end_where_they_do_alone(loss, solver):
    x, y = problem(loss)
    found = dask_gd.search(x, y, loss=loss, alphas=[0.2, 0.02], l1_ratios=[0.5, 1.0], folds=3, tol=1e-8, solver=solver)
    assert found.data.sizes["candidate"] == 4
    fold = fold_of(len(x), 3)
    for c in range(4):
        alpha, ratio = found.data.alpha.values[c], found.data.l1_ratio.values[c]
        seen = fold != 1
        penalty = dask_gd.ElasticNet(alpha, ratio)
        alone = dask_gd.fit(x[seen], y[seen], loss=loss, penalty=penalty, tol=1e-8, solver=solver)
        np.testing.assert_allclose(found.data.weights[c, 1], alone.weights, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(found.data.weights[c, 1] == 0, alone.weights == 0)


@pytest.mark.parametrize("loss", ["squared", "logistic", "poisson"])
@pytest.mark.parametrize("solver", ["gradient_descent", "momentum", "nesterov", "adam"])
def test_learning_rates_take_the_steps_that_they_take_alone(loss, solver):
    x, y = problem(loss)
    rates = [0.01, 0.1]
    found = dask_gd.search(x, y, loss=loss, learning_rates=rates, solver=solver, folds=2, max_iter=5, tol=0.0)
    fold = fold_of(len(x), 2)
    owner = {"gradient_descent": "GradientDescent", "momentum": "Momentum", "nesterov": "Nesterov", "adam": "Adam"}
    for c, rate in enumerate(rates):
        how = getattr(dask_gd, owner[solver])(learning_rate=rate)
        start = None
        if loss == "poisson":
            start = np.append(np.zeros(x.shape[1]), np.log(y.mean()))
        alone = dask_gd.fit(
            x[fold != 0], y[fold != 0], loss=loss, solver=how, max_iter=5, tol=0.0, initial_weights=start
        )
        np.testing.assert_allclose(found.data.weights[c, 0], alone.weights, rtol=1e-10)
        assert found.data.n_iter[c, 0] == 5
    assert found.data.history.sizes["iteration"] == 6


def test_a_rate_that_diverges_is_told_and_not_chosen():
    x, y = problem("squared")
    found = dask_gd.search(x, y, learning_rates=[0.1, 1e3], solver="gradient_descent", folds=3, max_iter=2000, tol=1e-6)
    assert found.data.reason.values.tolist() == [["converged"] * 3, ["diverged"] * 3]
    assert np.isnan(found.scores[1]).all()
    assert found.best == {"learning_rate": 0.1}
    assert found.rates.values.tolist() == ["good", "diverges"]


def test_stochastic_descent_draws_the_same_partitions_for_all_rates():
    x, y = problem("logistic")
    data = da.from_array(x, chunks=(50, -1)), da.from_array(y, chunks=50)
    options = {"loss": "logistic", "folds": 2, "max_iter": 30, "seed": 3}
    found, again = (
        dask_gd.search(*data, learning_rates=[0.05, 0.5], solver=dask_gd.SGD(batch=0.25), **options) for _ in range(2)
    )
    assert found.data.identical(again.data)
    other = dask_gd.search(*data, learning_rates=[0.05], solver=dask_gd.SGD(batch=0.25), **{**options, "seed": 4})
    assert (other.data.weights != found.data.weights[:1]).any()
    # Scores are those of all rows held out, at the last weights.
    fold = fold_of(len(x), 2)
    trial = found.data.isel(candidate=1, fold=0)
    own = {"loss": "logistic", "max_iter": 0, "initial_weights": np.append(trial.weights, trial.intercept)}
    held = dask_gd.fit(x[fold == 0], y[fold == 0], **own)
    np.testing.assert_allclose(trial.loss, held.history.loss[0], rtol=1e-9)
    assert (found.data.n_iter == 30).all()
    # On the way it is estimated from the partitions drawn.
    np.testing.assert_allclose(found.data.history[..., -1], found.data.loss, rtol=0.4)
    # A batch of everything is gradient descent.
    whole, plain = (
        dask_gd.search(*data, learning_rates=[0.5], solver=solver, **{**options, "tol": 0.0})
        for solver in (dask_gd.SGD(batch=1.0), "gradient_descent")
    )
    np.testing.assert_allclose(whole.scores, plain.scores, rtol=1e-12)


def test_many_rates_are_halved_and_the_best_is_kept():
    x, y = problem("logistic")
    rates = np.geomspace(1e-6, 1.0, 12)
    options = {"loss": "logistic", "solver": "gradient_descent", "folds": 2, "max_iter": 60, "tol": 0.0}
    found = dask_gd.search(x, y, learning_rates=rates, **options)
    dropped = (found.data.reason == "dropped").any("fold").values
    assert dropped.tolist() == [True] * 8 + [False] * 4
    assert found.data.n_iter.max("fold").values.tolist() == [8] * 6 + [16] * 2 + [60] * 4
    assert found.rates.values[-1] == "good"
    assert set(found.rates.values[:8]) == {"crawls"}
    # The objective is that of the fit; it falls.
    assert (np.diff(found.data.objective[8:], axis=-1) <= 0).all()
    whole = dask_gd.search(x, y, learning_rates=rates[8:], **options)
    np.testing.assert_allclose(found.scores[8:], whole.scores, rtol=1e-12)
    assert found.best == whole.best


# scikit-learn


SKLEARN = [
    ("logistic", LogisticRegression(tol=1e-10, max_iter=10_000), "C", "neg_log_loss"),
    ("logistic", LogisticRegression(tol=1e-10, max_iter=10_000), "C", "accuracy"),
    ("softmax", LogisticRegression(tol=1e-10, max_iter=10_000), "C", "neg_log_loss"),
    ("softmax", LogisticRegression(tol=1e-10, max_iter=10_000), "C", "accuracy"),
    ("squared", Ridge(), "ridge", "r2"),
    ("squared", Ridge(), "ridge", "neg_mean_squared_error"),
    ("squared", Ridge(), "ridge", "neg_mean_absolute_error"),
    ("squared", Lasso(tol=1e-12, max_iter=100_000), "alpha", "r2"),
    ("squared", ElasticNet(tol=1e-12, max_iter=100_000), "alpha", "neg_mean_squared_error"),
]


@pytest.mark.parametrize(("loss", "peer", "parameter", "scoring"), SKLEARN, ids=lambda v: str(v)[:20])
def test_scores_and_choice_are_those_of_scikit_learns_grid_search(loss, peer, parameter, scoring):
    x, y = problem(loss)
    values = [100.0, 1.0, 0.01]
    grid = {"C": {"C": values}}.get(parameter, {"alpha": values})
    theirs = GridSearchCV(peer, grid, cv=PredefinedSplit(fold_of(len(x), 4)), scoring=scoring).fit(x, y)
    ours: dict = {"alphas": values}
    if parameter == "C":
        ours = {"Cs": values}
    elif parameter == "ridge":
        ours = {"Cs": [1 / v for v in values]}
    elif isinstance(peer, ElasticNet):
        ours["l1_ratios"] = [1.0 if isinstance(peer, Lasso) else 0.5]
    found = dask_gd.search(x, y, loss=loss, folds=4, scoring=scoring, tol=1e-9, **ours)
    expected = np.array([theirs.cv_results_[f"split{f}_test_score"] for f in range(4)]).T
    np.testing.assert_allclose(found.scores, expected, rtol=1e-6, atol=1e-7)
    assert found.best_index == theirs.best_index_
    run = found.refit()
    np.testing.assert_allclose(
        np.squeeze(run.weights.values.T), np.squeeze(theirs.best_estimator_.coef_), rtol=1e-5, atol=1e-6
    )


def test_poisson_is_scikit_learns():
    x, y = problem("poisson")
    alphas = [1.0, 0.1, 1e-3]
    peer = PoissonRegressor(tol=1e-10, max_iter=10_000, solver="newton-cholesky")
    theirs = GridSearchCV(peer, {"alpha": alphas}, cv=PredefinedSplit(fold_of(len(x), 3))).fit(x, y)
    found = dask_gd.search(x, y, loss="poisson", alphas=alphas, folds=3, tol=1e-9)
    assert found.best_index == theirs.best_index_
    np.testing.assert_allclose(found.refit().weights, theirs.best_estimator_.coef_, rtol=1e-6)


# The same for any chunks, kind of data and cluster


@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_chunks_and_kinds_of_data_change_nothing(loss, tmp_path):
    x, y = problem(loss)
    options = {"loss": loss, "alphas": [1.0, 1e-3], "folds": 3, "scoring": "neg_loss", "tol": 1e-10}
    expected = dask_gd.search(x, y, **options).scores
    kinds = {
        "dask": (da.from_array(x, chunks=(77, 2)), da.from_array(y, chunks=101)),
        "zarr": (to_zarr(x, 50, tmp_path / "x"), to_zarr(y, 99, tmp_path / "y")),
        "pandas": (pd.DataFrame(x), y),
    }
    for a, b in kinds.values():
        np.testing.assert_allclose(dask_gd.search(a, b, **options).scores, expected, rtol=1e-9)


def test_threads_and_workers_give_the_same_bits(tmp_path, clusters):
    x, y = problem("logistic")
    data = to_zarr(x, 50, tmp_path / "x"), to_zarr(y, 99, tmp_path / "y")
    options = {"loss": "logistic", "alphas": [1.0, 1e-3], "folds": 3, "scoring": "accuracy"}
    with dask.config.set(scheduler="threads"):
        threads = dask_gd.search(*data, **options)
    with Client(clusters(2)):
        workers = dask_gd.search(*data, **options)
    assert threads.data.identical(workers.data)


def test_rows_with_nan_are_left_out_of_all_folds():
    x, y = problem("logistic")
    holes = x.copy()
    holes[::7, 2] = np.nan
    kept = np.arange(len(x)) % 7 != 0
    options = {"loss": "logistic", "alphas": [0.1], "tol": 1e-9}
    found = dask_gd.search(holes, y, nan="drop", folds=3, **options)
    plain = dask_gd.search(x[kept], y[kept], folds=fold_of(len(x), 3)[kept], **options)
    np.testing.assert_allclose(found.scores, plain.scores, rtol=1e-7)


def test_a_source_of_some_rows_has_the_folds_of_these():
    source = dask_gd.open("data/flights.zarr", x="X", y="late", rows=slice(1_000, 21_000))
    x, y = source.x.array[1_000:21_000], source.y.array[1_000:21_000]
    options = {"loss": "logistic", "alphas": [1e-2], "folds": 3, "tol": 1e-4}
    found = dask_gd.search(source, **options)
    np.testing.assert_allclose(found.scores, dask_gd.search(x, y, **options).scores, rtol=1e-4)
    assert found.data.feature.values.tolist() == list(source.feature_names)


@pytest.mark.parametrize("by", ["hash", "block"])
def test_a_datasets_folds_are_those_of_its_points_whatever_the_chunks(by):
    rng = np.random.default_rng(0)
    dims = ("time", "lat", "lon")
    data = xr.Dataset(
        {"a": (dims, rng.normal(size=(12, 10, 7))), "b": ("time", rng.normal(size=12))},
        coords={"lat": np.linspace(-1.0, 1.0, 10)},
    )
    data["y"] = data.a + data.b * data.lat + 0.3 * xr.DataArray(rng.normal(size=(12, 10, 7)), dims=dims)
    options = {"features": ["a", "b", "lat"], "target": "y", "sample_dims": dims, "alphas": [0.1, 1e-3]}
    folds = Folds(3, by=by)
    flat = np.column_stack([v.values.ravel() for v in xr.broadcast(data.a, data.b, data.lat)])
    expected = dask_gd.search(flat, data.y.values.ravel(), alphas=[0.1, 1e-3], folds=folds)
    for chunks in ({}, {"time": 5}, {"time": 4, "lat": 3, "lon": 2}):
        found = dask_gd.search(data.chunk(chunks), folds=folds, **options)
        np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-9)
    assert found.data.feature.values.tolist() == ["a", "b", "lat"]
    run = found.refit()
    assert run.predict(data).dims == dims
    # By a variable, and row by row.
    data["year"] = ("time", np.repeat(np.arange(6.0), 2))
    by_year = dask_gd.search(data.chunk(time=5), folds=3, groups="year", **options)
    years = Folds(3).of_groups(data.year.values, np.arange(6.0))
    own = np.broadcast_to(years[:, None, None], data.a.shape).ravel()
    plain = dask_gd.search(flat, data.y.values.ravel(), alphas=[0.1, 1e-3], folds=own)
    np.testing.assert_allclose(by_year.scores, plain.scores, rtol=1e-9)
    given = xr.DataArray(years, dims="time")
    np.testing.assert_allclose(dask_gd.search(data, folds=given, **options).scores, plain.scores, rtol=1e-9)
    with pytest.raises(InvalidArgumentError, match="the name of a variable, or a DataArray"):
        dask_gd.search(data, folds=own, **options)


@pytest.mark.parametrize(
    "penalty", [None, L2([0.1, 0.0, 1.0, 0.2, 0.0]), L1(0.05), dask_gd.GroupLasso(0.1, list("aabbb"))]
)
@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_any_penalty_may_be_a_candidate(loss, penalty):
    x, y = problem(loss)
    found = dask_gd.search(x, y, loss=loss, penalty_grid=[penalty, L2(3.0)], folds=3, tol=1e-8)
    seen = fold_of(len(x), 3) != 2
    alone = dask_gd.fit(x[seen], y[seen], loss=loss, penalty=penalty, tol=1e-8)
    np.testing.assert_allclose(found.data.weights[0, 2], alone.weights, rtol=1e-5, atol=1e-6)
    assert found.data.penalty.values[1] == repr(L2(3.0))
    assert repr(L2(3.0)) in str(found)


def test_a_loss_of_ones_own_and_float32_and_wide_data():
    x, y = problem("squared")

    def value(z, y):
        return np.log(np.cosh(z - y))

    pair = (value, lambda z, y: np.tanh(z - y))
    found = dask_gd.search(x, y, loss=pair, alphas=[0.1], folds=3, tol=1e-8)
    seen = fold_of(len(x), 3) != 0
    alone = dask_gd.fit(x[seen], y[seen], loss=pair, penalty=L2(0.1), tol=1e-8)
    np.testing.assert_allclose(found.data.weights[0, 0], alone.weights, rtol=1e-6)
    single = dask_gd.search(x.astype(np.float32), y, alphas=[0.1, 1.0], folds=3, tol=1e-5)
    np.testing.assert_allclose(single.scores, dask_gd.search(x, y, alphas=[0.1, 1.0], folds=3).scores, rtol=1e-4)
    rng = np.random.default_rng(1)
    wide = rng.normal(size=(200, 1500))
    target = (wide[:, 0] + rng.normal(size=200) > 0) * 1.0
    found = dask_gd.search(wide, target, loss="logistic", alphas=[0.3, 3.0], folds=2, tol=1e-6)
    seen = fold_of(200, 2) != 1
    alone = dask_gd.fit(wide[seen], target[seen], loss="logistic", penalty=L2(0.3), tol=1e-6)
    np.testing.assert_allclose(found.data.weights[0, 1], alone.weights, rtol=1e-3, atol=1e-5)


# Passes


def test_a_squared_loss_takes_one_pass_for_all_candidates():
    x, y = problem("squared")
    assert dask_gd.search(x, y, alphas=np.geomspace(1e-4, 1e2, 30), scoring="r2").passes == 1
    rates = dask_gd.search(x, y, learning_rates=[0.1, 0.2], solver="gradient_descent", max_iter=50)
    assert rates.passes == 1
    assert dask_gd.search(x, y, alphas=[0.1], scoring="neg_mean_absolute_error").passes == 2


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("k", [1, 2])
def test_ridges_closed_form_is_a_single_step(fit_intercept, k):
    x, y = problem("squared")
    y = np.column_stack([y, y**2])[:, :k]
    found = dask_gd.search(x, y, alphas=[1.0, 1e-2, 1e-6, 0.0], fit_intercept=fit_intercept, tol=1e-12, folds=3)
    assert (found.data.n_iter == 1).all()
    assert (found.data.reason == "converged").all()
    alone = dask_gd.fit(x, y, penalty=L2(1e-2), fit_intercept=fit_intercept)
    np.testing.assert_allclose(found.data.all_weights[1], alone.weights, rtol=1e-9)


def test_ridges_closed_form_says_where_there_is_none():
    x, y = problem("squared")
    x = np.column_stack([x, x[:, 0]])
    found = dask_gd.search(x, y, alphas=[1e-3, 0.0], folds=3)
    alone = dask_gd.fit(x, y)
    np.testing.assert_allclose(found.data.all_weights[1], alone.weights, rtol=1e-6)


# Folds


def to_memory(a):
    return zarr.create_array({}, data=a, chunks=(70,))


@pytest.mark.parametrize("n", [10, 1000])
@pytest.mark.parametrize("count", [2, 7])
def test_folds_are_numbers_that_depend_on_the_row_alone(n, count):
    folds = Folds(count, seed=3)
    of = folds.of_rows(np.arange(n), n)
    assert set(of) <= set(range(count))
    np.testing.assert_array_equal(folds.of_rows(np.arange(4, 9), n), of[4:9])
    np.testing.assert_array_equal(folds.of_rows(np.arange(n), 2 * n), of)
    whole = of[: n // count * count].reshape(-1, count)
    np.testing.assert_array_equal(np.sort(whole, axis=1), np.tile(np.arange(count), (len(whole), 1)))
    assert (Folds(count, seed=4).of_rows(np.arange(n), n) != of).any()
    blocks = Folds(count, by="block").of_rows(np.arange(n), n)
    assert (np.diff(blocks) >= 0).all()
    sizes = np.bincount(blocks, minlength=count)
    assert sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize("count", [2, 5, 6])
def test_hashed_folds_know_no_period(count):
    """At whatever distance beyond a run, two rows share a fold as often as by chance."""
    of = Folds(count).of_rows(np.arange(60_000), 60_000)
    for distance in (count, 2 * count, 7 * count + 1, 1000):
        together = np.mean(of[distance:] == of[:-distance])
        assert abs(together - 1 / count) < 5 * np.sqrt(1 / count / 20_000)
    place = [np.bincount(of[i::count], minlength=count) for i in range(count)]
    assert np.abs(np.array(place) * count * count / 60_000 - 1).max() < 0.1


def test_groups_stay_together_and_are_spread():
    groups = np.repeat(np.arange(3002.0) - 1500, 2)
    of = Folds(4).of_groups(groups, np.unique(groups))
    np.testing.assert_array_equal(of[::2], of[1::2])
    assert np.ptp(np.bincount(of)) <= 2


@pytest.mark.parametrize(
    "kind", [np.asarray, np.ndarray.tolist, pd.Series, lambda a: da.from_array(a, chunks=70), lambda a: to_memory(a)]
)
def test_groups_and_folds_of_the_users_own(kind):
    x, y = problem("logistic")
    groups = np.random.default_rng(5).integers(0, 40, len(x))
    of = Folds(3).of_groups(groups, np.unique(groups))
    options = {"loss": "logistic", "alphas": [0.1, 1e-3], "tol": 1e-8}
    given = [kind(a) for a in (groups, of)]
    by_group = dask_gd.search(x, y, folds=3, groups=given[0], **options)
    by_fold = dask_gd.search(x, y, folds=given[1], **options)
    np.testing.assert_allclose(by_group.scores, by_fold.scores, rtol=1e-9)
    splits = [np.flatnonzero(of == f) for f in range(3)]
    assert all(len(set(groups[a]) & set(groups[b])) == 0 for a in splits for b in splits if a is not b)
    # Rows that are never held out.
    kept = of.copy()
    kept[:100] = -1
    with_all = dask_gd.search(x, y, folds=kept, **options)
    alone = dask_gd.fit(x[kept != 2], y[kept != 2], loss="logistic", penalty=L2(0.1), tol=1e-8)
    np.testing.assert_allclose(with_all.data.weights[0, 2], alone.weights, rtol=1e-6)


# Bad input, before or in the first pass


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs candidates"),
        ({"alphas": []}, "at least one number"),
        ({"alphas": [-1.0]}, "each 0 or more"),
        ({"alphas": [np.nan]}, "each 0 or more"),
        ({"alphas": "auto"}, "each 0 or more"),
        ({"alphas": [[1.0], [1.0, 2.0]]}, "each 0 or more"),
        ({"Cs": [0.0]}, "each above 0"),
        ({"alphas": [1.0], "Cs": [1.0]}, "alternatives"),
        ({"alphas": [1.0], "l1_ratios": [1.5]}, "at most 1"),
        ({"l1_ratios": [0.5]}, "l1_ratios go with"),
        ({"penalty_grid": []}, "penalty_grid is empty"),
        ({"penalty_grid": ["l2"]}, "penalty='l2'"),
        ({"alphas": [1.0], "folds": 1}, "2 or more"),
        ({"alphas": [1.0], "folds": "5"}, "a number, dask_gd.Folds"),
        ({"alphas": [1.0], "folds": 700}, "700 folds need as many rows"),
        ({"alphas": [1.0], "scoring": "r2"}, "choose one of accuracy, average_precision, bal"),
        ({"alphas": [1.0], "scoring": "neg_mean_gamma_deviance"}, "does not suit"),
        ({"alphas": [1.0], "solver": "local_sgd"}, "search takes newton"),
        ({"alphas": [1.0], "solver": "admm"}, "search takes newton"),
        ({"learning_rates": [0.1]}, "solvers that have one"),
        ({"alphas": [1.0], "folds": np.zeros(5)}, "600 rows"),
        ({"alphas": [1.0], "folds": np.full(600, 0.5)}, "0.5 in row 0"),
        ({"alphas": [1.0], "folds": np.full(600, np.nan)}, "folds holds NaN"),
        ({"alphas": [1.0], "folds": True}, "a number, dask_gd.Folds"),
        ({"alphas": [1.0], "groups": ["a"] * 600}, "groups has 1 different ones; 5 folds need"),
        ({"alphas": [1.0], "groups": [0, 1, 2] * 200}, "3 different ones; 5 folds need"),
        ({"alphas": [1.0], "folds": np.zeros(600)}, "no row with a positive weight left"),
        ({"alphas": [1.0], "folds": Folds(3, by="block"), "groups": np.zeros(600)}, "shared out by a hash"),
        ({"penalty_grid": [L1([1.0, 2.0])]}, "2 values"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_bad_input_is_refused_by_name(options, message):
    x, y = problem("logistic")
    with pytest.raises((InvalidArgumentError, InvalidTypeError, DataError), match=message):
        dask_gd.search(x, y, loss="logistic", **options)


def test_a_fold_that_leaves_one_class_is_named():
    x, y = problem("logistic")
    y = (np.arange(600) < 100) * 1.0
    with pytest.raises(DataError, match="Without the rows of fold 0 there is nothing to tell apart"):
        dask_gd.search(x, y, loss="logistic", alphas=[1.0], folds=Folds(5, by="block"))


def test_a_search_that_ends_too_soon_says_so(caplog):
    x, y = problem("logistic")
    rates = [0.1, 0.2]
    found = dask_gd.search(x, y, loss="logistic", learning_rates=rates, solver="gradient_descent", folds=3, max_iter=2)
    assert "8 of 8 fits of the search took max_iter=2" in caplog.text
    assert (found.data.reason == "max_iter").all()


# Folds by class, and of scikit-learn's splitters


@pytest.mark.parametrize("loss", ["logistic", "softmax"])
def test_folds_by_class_have_as_many_of_each_whatever_the_chunks(loss, tmp_path, sums_of_folds):
    x, y = problem(loss)
    options = {"loss": loss, "alphas": [0.1], "folds": Folds(4, by="class", seed=2), "tol": 1e-9}
    found = dask_gd.search(x, y, **options)
    for chunk in (64, 333):
        again = dask_gd.search(da.from_array(x, chunks=(chunk, -1)), da.from_array(y, chunks=90), **options)
        np.testing.assert_allclose(again.scores, found.scores, rtol=1e-9)
    stored = dask_gd.search(to_zarr(x, 70, tmp_path / "x"), to_zarr(y, 41, tmp_path / "y"), **options)
    np.testing.assert_allclose(stored.scores, found.scores, rtol=1e-9)
    # What the kernels see, from the sums over each fold.
    rows = np.array([part.rows for part in sums_of_folds[0][:4]])
    assert rows.sum() == len(x)
    classes = len(np.unique(y))
    assert rows.max() - rows.min() <= classes
    assert not np.allclose(found.scores, dask_gd.search(x, y, **{**options, "folds": 4}).scores)


def test_folds_by_class_do_not_depend_on_how_rows_come():
    y = np.random.default_rng(0).integers(0, 3, 200)
    folds, nothing = Folds(4, by="class"), np.zeros(3, int)

    def dealt(*edges):
        own = ByClass(folds, nothing.copy())
        return np.concatenate([own(SimpleNamespace(y=y[a:b, None])) for a, b in pairwise((0, *edges, 200))])

    np.testing.assert_array_equal(dealt(3, 50, 51, 120), dealt())
    counts = np.array([[np.sum(dealt()[y == c] == f) for f in range(4)] for c in range(3)])
    assert np.ptp(counts, axis=1).max() <= 1


def test_a_rare_class_is_in_every_fold(sums_of_folds):
    x, _ = problem("logistic")
    y = np.zeros(600)
    y[[5, 100, 333, 590]] = 1.0
    dask_gd.search(x, y, loss="logistic", alphas=[0.1], folds=Folds(4, by="class"))
    assert [float(part.moments.targets[0]) for part in sums_of_folds[0][:4]] == [1.0] * 4


@pytest.mark.parametrize("splitter", [KFold(3), KFold(3, shuffle=True, random_state=1), StratifiedKFold(4)], ids=repr)
def test_splitters_of_scikit_learn_give_its_scores(splitter):
    x, y = problem("logistic")
    peer = GridSearchCV(LogisticRegression(tol=1e-10), {"C": [0.1, 10.0]}, cv=splitter, scoring="neg_log_loss").fit(
        x, y
    )
    found = dask_gd.search(x, y, loss="logistic", Cs=[0.1, 10.0], folds=splitter, tol=1e-9)
    for f in range(splitter.get_n_splits()):
        np.testing.assert_allclose(found.scores[:, f], peer.cv_results_[f"split{f}_test_score"], rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": Folds(3, by="class"), "nan": "drop"}, "without rows to drop"),
        ({"folds": Folds(3, by="class"), "loss": "squared"}, "losses of classes"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_folds_that_cannot_be_had_are_refused(options, message):
    x, y = problem("logistic")
    with pytest.raises(InvalidArgumentError, match=message):
        dask_gd.search(x, y, alphas=[1.0], **{"loss": "logistic", **options})


def test_a_splitter_needs_data_in_memory():
    x, y = problem("logistic")
    with pytest.raises(InvalidArgumentError, match="for data in memory"):
        dask_gd.search(da.from_array(x), da.from_array(y), loss="logistic", alphas=[1.0], folds=KFold(3))


# Paths


@pytest.mark.parametrize("loss", ["squared", "logistic", "softmax"])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_a_path_begins_where_the_first_weight_leaves_zero(loss, fit_intercept):
    x, y = problem(loss)
    found = dask_gd.search(
        x, y, loss=loss, alphas=6, l1_ratios=[1.0], eps=1e-2, folds=2, tol=1e-8, fit_intercept=fit_intercept
    )
    alphas = found.data.alpha.values
    np.testing.assert_allclose(alphas, np.geomspace(alphas[0], alphas[0] / 100, 6))
    options = {"loss": loss, "tol": 1e-8, "fit_intercept": fit_intercept}
    above, below = (dask_gd.fit(x, y, penalty=L1(c * alphas[0]), **options).weights for c in (1.001, 0.98))
    assert not above.any()
    assert below.any()
    if loss == "squared":
        assert found.passes == 1


def test_a_path_needs_absolute_values():
    x, y = problem("squared")
    for options in ({}, {"l1_ratios": [0.0]}, {"l1_ratios": [0.5], "eps": 2.0}):
        with pytest.raises(InvalidArgumentError, match="a path has 1 or more alphas"):
            dask_gd.search(x, y, alphas=10, **options)


# The store, callbacks, memory


class Stop(BaseException):
    pass


@pytest.mark.parametrize("solver", ["newton", "lbfgs", "nesterov"])
@pytest.mark.parametrize("after", [1, 3])
def test_a_search_that_was_stopped_goes_on_to_the_same_bits(solver, after, tmp_path):
    x, y = problem("logistic")
    options = {"loss": "logistic", "alphas": [1.0, 1e-2, 1e-4], "folds": 3, "solver": solver, "scoring": "accuracy"}
    whole = dask_gd.search(x, y, **options)
    events = []

    def stop(event):
        if isinstance(event, RoundEnded):
            events.append(event)
        if len(events) == after:
            raise Stop

    with pytest.raises(Stop):
        dask_gd.search(x, y, store=tmp_path, callbacks=[stop], **options)
    resumed = dask_gd.search(x, y, store=tmp_path, callbacks=[events.append], **options)
    assert resumed.data.identical(whole.data)
    assert isinstance(events[-1], SearchEnded)
    assert (events[-2].running, events[-2].candidates, events[-2].fits) == (0, 0, 12)
    again = dask_gd.search(x, y, store=tmp_path, **options)
    assert again.passes == 1
    assert again.data.identical(whole.data)
    with pytest.raises(StoreMismatchError, match="scoring: stored accuracy, now neg_loss"):
        dask_gd.search(x, y, store=tmp_path, **{**options, "scoring": "neg_loss"})
    with pytest.raises(InvalidArgumentError, match="holds a search"):
        dask_gd.load(tmp_path)


def test_curvatures_are_taken_as_many_together_as_fit_in_memory(monkeypatch):
    x, y = problem("softmax")
    options = {"loss": "softmax", "alphas": [1.0, 1e-2, 1e-4], "folds": 3, "tol": 1e-9}
    whole = dask_gd.search(x, y, **options)
    monkeypatch.setattr(
        "dask_gd.fitting.search_engine.SearchEngine.in_memory", lambda self, candidates, kind: [[c] for c in candidates]
    )
    found = dask_gd.search(x, y, **options)
    assert found.passes > whole.passes
    np.testing.assert_allclose(found.scores, whole.scores, rtol=1e-8)


def test_batches_that_fit_in_memory_end_where_all_do(monkeypatch, caplog, tmp_path):
    x, y = problem("logistic")
    options = {"loss": "logistic", "alphas": [1.0, 1e-2, 1e-4], "folds": 3, "tol": 1e-9}
    whole = dask_gd.search(x, y, **options)
    monkeypatch.setattr("dask_gd.fitting.search_engine.BATCH_BYTES", 1)
    found = dask_gd.search(x, y, store=tmp_path, **options)
    assert "3 candidates do not fit in memory together; 1 are tried at a time" in caplog.text
    np.testing.assert_allclose(found.scores, whole.scores, rtol=1e-8)
    assert found.data.candidate.size == 3


# What is found


def test_the_table_says_which_is_best():
    x, y = problem("logistic")
    found = dask_gd.search(x, y, loss="logistic", Cs=[1e-3, 1.0], l1_ratios=[0.0, 1.0], folds=3)
    lines = str(found).splitlines()
    assert lines[0] == "search of 4 candidates on 3 folds by neg_loss"
    assert [word for word in lines[1].split()] == ["C", "l1_ratio", "score", "spread", "steps", "ended"]
    assert len(lines) == 6
    assert [line.startswith("*") for line in lines[2:]] == [c == found.best_index for c in range(4)]
    assert f"{float(found.scores[found.best_index].mean()):.6g}" in lines[2 + found.best_index]


@pytest.mark.parametrize("rates", [False, True])
def test_the_picture_is_drawn(rates, tmp_path):
    x, y = problem("logistic")
    options = {"learning_rates": [0.1, 1.0], "solver": "gradient_descent"} if rates else {"alphas": [1e-3, 1.0]}
    found = dask_gd.search(x, y, loss="logistic", folds=3, max_iter=20, **options)
    axes = found.plot()
    assert axes.get_xlabel() == ("iteration" if rates else "alpha")
    assert len(axes.lines) >= (2 if rates else 1)
    axes.figure.savefig(tmp_path / "search.png")
    assert (tmp_path / "search.png").stat().st_size > 5_000


# Estimators


def test_lasso_cv_is_scikit_learns():
    x, y = problem("squared")
    cv = PredefinedSplit(fold_of(len(x), 5))
    peer = linear_model.LassoCV(alphas=30, cv=cv, tol=1e-12, max_iter=100_000).fit(x, y)
    model = estimators.LassoCV(alphas=30).fit(x, y)
    np.testing.assert_allclose(model.alphas_, peer.alphas_, rtol=1e-9)
    np.testing.assert_allclose(model.mse_path_, peer.mse_path_, rtol=1e-7)
    assert model.alpha_ == pytest.approx(peer.alpha_)
    np.testing.assert_allclose(model.coef_, peer.coef_, rtol=1e-6, atol=1e-9)


def test_elastic_net_cv_is_scikit_learns():
    x, y = problem("squared")
    cv = PredefinedSplit(fold_of(len(x), 5))
    options = {"l1_ratio": [0.3, 0.9], "alphas": 10}
    peer = linear_model.ElasticNetCV(cv=cv, tol=1e-12, max_iter=100_000, **options).fit(x, y)
    model = estimators.ElasticNetCV(**options).fit(x, y)
    np.testing.assert_allclose(model.alphas_, peer.alphas_, rtol=1e-9)
    np.testing.assert_allclose(model.mse_path_, peer.mse_path_, rtol=1e-7)
    assert (model.alpha_, model.l1_ratio_) == pytest.approx((peer.alpha_, peer.l1_ratio_))


@pytest.mark.parametrize("scoring", [None, "neg_mean_squared_error"])
def test_ridge_cv_is_scikit_learns(scoring):
    x, y = problem("squared")
    alphas = [0.1, 10.0, 1000.0]
    cv = PredefinedSplit(fold_of(len(x), 5))
    peer = linear_model.RidgeCV(alphas, cv=cv, scoring=scoring).fit(x, y)
    model = estimators.RidgeCV(alphas, cv=5, scoring=scoring).fit(x, y)
    assert model.alpha_ == peer.alpha_
    assert model.best_score_ == pytest.approx(peer.best_score_, rel=1e-7)
    np.testing.assert_allclose(model.coef_, peer.coef_, rtol=1e-6)


@pytest.mark.parametrize("loss", ["logistic", "softmax"])
@pytest.mark.parametrize("scoring", ["accuracy", "neg_log_loss", "neg_brier_score"])
def test_logistic_regression_cv_is_scikit_learns(loss, scoring):
    x, y = problem(loss)
    cv = PredefinedSplit(fold_of(len(x), 4))
    options = {"Cs": [1e-3, 0.1, 10.0], "l1_ratios": (0.0,), "scoring": scoring}
    peer = linear_model.LogisticRegressionCV(
        cv=cv, tol=1e-10, max_iter=10_000, use_legacy_attributes=False, **options
    ).fit(x, y)
    model = estimators.LogisticRegressionCV(cv=4, **options).fit(x, y)
    assert model.C_ == peer.C_
    np.testing.assert_allclose(model.scores_, peer.scores_, rtol=1e-6)
    np.testing.assert_array_equal(model.Cs_, peer.Cs_)
    np.testing.assert_allclose(model.coef_, peer.coef_, rtol=1e-5, atol=1e-6)
    assert model.coefs_paths_.shape == peer.coefs_paths_.shape
    np.testing.assert_allclose(model.coefs_paths_, peer.coefs_paths_, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(model.predict_proba(x), peer.predict_proba(x), rtol=1e-5, atol=1e-7)


def test_estimators_that_choose_take_sources_and_lazy_rows():
    x, y = problem("logistic")
    lazy = estimators.LogisticRegressionCV(Cs=3).fit(da.from_array(x, chunks=(90, -1)), da.from_array(y, chunks=100))
    plain = estimators.LogisticRegressionCV(Cs=3).fit(x, y)
    np.testing.assert_allclose(lazy.scores_, plain.scores_, rtol=1e-9)
    assert isinstance(lazy.predict(da.from_array(x, chunks=(90, -1))), da.Array)
    source = dask_gd.open("data/flights.zarr", x="X", y="late", rows=slice(0, 20_000))
    model = estimators.LogisticRegressionCV(Cs=[1e-4, 1e-2], cv=3, scoring="neg_log_loss").fit(source)
    assert model.scores_.shape == (3, 1, 2)
    assert tuple(model.feature_names_in_) == source.feature_names


@pytest.mark.filterwarnings("ignore:.*diverged")
def test_a_fold_without_the_row_that_overflows_goes_on_and_has_not_converged():
    """Moments of all rows that have overflowed would make every gradient 0."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2))
    x[7] = 900.0, 0.0
    y = rng.poisson(2.0, 60).astype(float)
    rates = np.geomspace(1e-6, 1e-2, 12)
    options = {"loss": "poisson", "learning_rates": rates, "solver": "gradient_descent", "max_iter": 20}
    found = dask_gd.search(x, y, folds=5, initial_weights=np.array([1.0, 0.0]), **options)
    reasons = found.data.reason
    assert (found.data.all_reason == "diverged").all()
    (fold,) = np.flatnonzero((reasons != "diverged").all("candidate"))
    assert not (reasons == "converged").any()
    assert (found.data.n_iter.isel(fold=fold) >= 8).all()


@pytest.mark.parametrize("solver", ["newton", "lbfgs", "nesterov"])
def test_a_search_goes_on_where_more_steps_are_asked_for(tmp_path, solver):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3))
    y = (x @ [1.0, -1.0, 0.5] + rng.logistic(size=400) > 0).astype(float)
    options = {"loss": "logistic", "Cs": [0.1, 1.0], "folds": 3, "solver": solver}
    few = dask_gd.search(x, y, max_iter=2, store=tmp_path / "run", **options)
    assert (few.data.reason == "max_iter").any()
    more = dask_gd.search(x, y, max_iter=200, store=tmp_path / "run", **options)
    once = dask_gd.search(x, y, max_iter=200, **options)
    assert (more.data.reason == "converged").all()
    for name in ("weights", "all_weights", "score", "n_iter"):
        np.testing.assert_array_equal(more.data[name], once.data[name])
