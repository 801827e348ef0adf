"""Scores in the folds of searches: names, scikit-learn's scorers, callables; against scikit-learn's own classes."""

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from dask.distributed import Client
from helpers import problem, to_zarr
from scipy import sparse
from sklearn import config_context, linear_model
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    fbeta_score,
    get_scorer,
    make_scorer,
    median_absolute_error,
    roc_auc_score,
)
from sklearn.model_selection import GridSearchCV, KFold, PredefinedSplit, StratifiedKFold

import dask_gd
from dask_gd.errors import DataError, InvalidArgumentError
from dask_gd.estimators import LogisticRegressionCV, RidgeCV
from dask_gd.fitting import score_order, search_engine
from dask_gd.fitting.score_order import ROUNDING_BITS, Order
from dask_gd.fitting.scores import name_of

OF_TWO = ["roc_auc", "average_precision", "f1", "precision", "recall", "jaccard"]
OF_CLASSES = ["balanced_accuracy", "matthews_corrcoef"]
OF_NUMBERS = [
    "explained_variance",
    "neg_mean_absolute_percentage_error",
    "neg_median_absolute_error",
    "neg_root_mean_squared_error",
    "r2",
]


def right(estimator, X, y):
    """Return the share of right predictions, as a callable of a user's."""
    return float(np.mean(np.asarray(estimator.predict(X)) == y))


def classes(k, n=240):
    rng = np.random.default_rng(k)
    x = rng.normal(size=(n, 4))
    return x, (x @ rng.normal(size=(4, k)) + rng.gumbel(size=(n, k))).argmax(axis=1)


def lazy(a):
    return da.from_array(a, chunks=(70, -1) if a.ndim > 1 else 90)


# Estimators, against scikit-learn's


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("scoring", [*OF_TWO, *OF_CLASSES, right], ids=name_of)
def test_scores_of_two_classes_are_scikit_learns(scoring):
    x, y = classes(2)
    options = {"Cs": [1e-2, 1.0], "l1_ratios": (0.0,), "cv": StratifiedKFold(3), "scoring": scoring}
    peer = linear_model.LogisticRegressionCV(**options, tol=1e-10, max_iter=1000, use_legacy_attributes=False)
    peer.fit(x, y)
    model = LogisticRegressionCV(**options).fit(x, y)
    np.testing.assert_allclose(model.scores_, peer.scores_, rtol=1e-6)
    assert model.C_ == peer.C_
    assert model.score(x, y) == pytest.approx(peer.score(x, y), rel=1e-6)
    assert model.score(lazy(x), lazy(y)) == pytest.approx(peer.score(x, y), rel=1e-6)


@pytest.mark.parametrize("k", [2, 3])
def test_names_are_those_of_scikit_learn_for_predictions_of_a_fold(k):
    """scikit-learn's LogisticRegressionCV cannot take averages; its search can, and has no folds that lack a class."""
    x, y = classes(k)
    names = ["f1_macro", "f1_micro"]
    if k > 2:
        names = ["f1_weighted", "precision_macro", "recall_weighted", "jaccard_macro"]
    peer = linear_model.LogisticRegression(tol=1e-10, max_iter=1000)
    cv = StratifiedKFold(3)
    scorers = [*names, *OF_CLASSES, "roc_auc_ovr"]
    theirs = GridSearchCV(peer, {"C": [0.1]}, cv=cv, scoring=scorers, refit=False).fit(x, y).cv_results_
    for name in scorers:
        model = LogisticRegressionCV(Cs=[0.1], cv=cv, scoring=name).fit(x, y)
        expected = [theirs[f"split{f}_test_{name}"][0] for f in range(3)]
        np.testing.assert_allclose(model.scores_.ravel(), expected, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    "scoring", [*OF_NUMBERS, make_scorer(median_absolute_error, greater_is_better=False)], ids=name_of
)
@pytest.mark.parametrize("outputs", [1, 2])
def test_scores_of_numbers_are_scikit_learns(scoring, outputs):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4))
    y = x @ rng.normal(size=(4, outputs)) + 1e4 + rng.normal(size=(200, outputs))
    y = y if outputs > 1 else y[:, 0]
    options = {"alphas": [0.1, 10.0, 100.0], "cv": KFold(4), "scoring": scoring}
    peer = linear_model.RidgeCV(**options).fit(x, y)
    model = RidgeCV(**options).fit(x, y)
    assert model.best_score_ == pytest.approx(peer.best_score_, rel=1e-11)
    assert model.alpha_ == peer.alpha_


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("scoring", ["accuracy", "neg_log_loss", "f1", make_scorer(fbeta_score, beta=2.0)], ids=name_of)
def test_rows_are_scored_with_their_weights_and_not_with_those_of_their_classes(scoring):
    x, y = classes(2)
    s = np.random.default_rng(0).uniform(0.1, 3.0, len(y))
    options = {"Cs": [1e-2, 1.0], "l1_ratios": (0.0,), "cv": StratifiedKFold(3), "scoring": scoring}
    options["class_weight"] = {0: 5.0, 1: 1.0}
    peer = linear_model.LogisticRegressionCV(**options, tol=1e-10, max_iter=1000, use_legacy_attributes=False)
    for weight in (None, s):
        model = LogisticRegressionCV(**options).fit(x, y, sample_weight=weight)
        peer.fit(x, y, sample_weight=weight)
        np.testing.assert_allclose(model.scores_, peer.scores_, rtol=1e-6)
        np.testing.assert_allclose(model.coef_, peer.coef_, rtol=1e-5)
    assert not any(name.startswith("_own") for name in vars(model))


def test_with_routing_a_scorer_is_given_the_weights_that_it_asks_for():
    x, y = classes(2)
    s = np.random.default_rng(0).uniform(0.1, 3.0, len(y))
    with config_context(enable_metadata_routing=True):
        scores = []
        for asks in (True, False):
            scorer = make_scorer(f1_score).set_score_request(sample_weight=asks)
            scores.append(LogisticRegressionCV(Cs=[1.0], cv=3, scoring=scorer).fit(x, y, sample_weight=s).scores_)
    named = LogisticRegressionCV(Cs=[1.0], cv=3, scoring="f1").fit(x, y, sample_weight=s)
    np.testing.assert_allclose(scores[0], named.scores_, rtol=1e-12)
    assert not np.allclose(*scores)


def test_labels_of_any_kind_are_scored_and_callables_see_them():
    x, y = classes(2)
    texts = np.array(["no", "yes"])[y]
    frame = pd.DataFrame(x, columns=list("abcd"))
    for scoring in ("f1", right, make_scorer(fbeta_score, beta=2.0)):
        codes = LogisticRegressionCV(Cs=[0.1, 1.0], cv=3, scoring=scoring).fit(x, y)
        named = LogisticRegressionCV(Cs=[0.1, 1.0], cv=3, scoring=scoring).fit(frame, texts)
        np.testing.assert_allclose(named.scores_, codes.scores_, rtol=1e-12)


@pytest.mark.parametrize("scoring", ["roc_auc", "roc_auc_ovr", "f1", right], ids=name_of)
def test_lazy_rows_have_the_scores_of_those_in_memory(scoring, tmp_path):
    x, y = classes(2)
    options = {"Cs": [1e-2, 1.0], "cv": 3, "scoring": scoring, "class_weight": "balanced"}
    expected = LogisticRegressionCV(**options).fit(x, y).scores_
    kinds = [(lazy(x), lazy(y)), (to_zarr(x, 50, tmp_path / "x"), to_zarr(y, 90, tmp_path / "y"))]
    for a, b in kinds:
        np.testing.assert_allclose(LogisticRegressionCV(**options).fit(a, b).scores_, expected, rtol=1e-8)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (LogisticRegressionCV(scoring="f2"), "no score has this name"),
        (LogisticRegressionCV(scoring="r2"), "does not suit the logistic loss"),
        (LogisticRegressionCV(scoring=3), "the name of a score, or a callable"),
        (RidgeCV(cv=3, scoring="roc_auc"), "does not suit the squared loss"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_scores_that_cannot_be_had_are_refused(model, message):
    x, y = classes(2)
    with pytest.raises(InvalidArgumentError, match=message):
        model.fit(x, y)


def test_a_callable_of_rows_refuses_what_is_no_array():
    x, y = classes(2)
    model = LogisticRegressionCV(Cs=[1.0], cv=3, scoring=right)
    with pytest.raises(InvalidArgumentError, match=r"right.* an offset"):
        model.fit(x, y, offset=np.ones(len(y)))
    with pytest.raises(InvalidArgumentError, match=r"right.* columns of levels"):
        model.fit(pd.DataFrame({"a": x[:, 0], "b": np.where(x[:, 1] > 0, "u", "v")}), y)


# `search`


@pytest.mark.parametrize("scoring", ["neg_mean_poisson_deviance", "r2", "neg_mean_squared_error"])
def test_scores_of_counts_are_scikit_learns(scoring):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 4))
    y = rng.poisson(np.exp(0.3 * x @ rng.normal(size=4))).astype(float)
    fold = np.arange(300) % 3
    peer = linear_model.PoissonRegressor(tol=1e-10, max_iter=1000)
    peer = GridSearchCV(peer, {"alpha": [0.1, 1.0]}, cv=PredefinedSplit(fold), scoring=scoring).fit(x, y)
    found = dask_gd.search(x, y, loss="poisson", alphas=[0.1, 1.0], folds=fold, scoring=scoring, tol=1e-9)
    np.testing.assert_allclose(found.scores.mean("fold"), peer.cv_results_["mean_test_score"], rtol=1e-6)


def test_scores_after_the_fits_do_not_depend_on_chunks_or_workers(tmp_path, clusters):
    x, _, y = problem()
    options = {"loss": "logistic", "alphas": [1.0, 1e-3], "folds": 3, "scoring": "roc_auc", "tol": 1e-10}
    data = to_zarr(x, 50, tmp_path / "x"), to_zarr(y, 99, tmp_path / "y")
    here = dask_gd.search(*data, **options)
    with Client(clusters(2)):
        there = dask_gd.search(*data, **options)
    assert here.data.identical(there.data)
    np.testing.assert_allclose(dask_gd.search(x, y, **options).scores, here.scores, rtol=1e-9)


def test_a_function_is_given_the_rows_of_a_fold_in_their_order():
    x, _, y = problem()
    s = np.random.default_rng(0).uniform(size=len(y))
    fold = np.arange(len(y)) % 4
    given = []

    def score(targets, z, weights):
        given.append((targets, weights))
        return roc_auc_score(targets, z, sample_weight=weights)

    options = {"loss": "logistic", "alphas": [1.0, 1e-3], "folds": fold, "sample_weight": s, "tol": 1e-9}
    found = dask_gd.search(lazy(x), y, scoring=score, **options)
    for i, (targets, weights) in enumerate(given):
        np.testing.assert_array_equal(targets, y[fold == i % 4])
        np.testing.assert_array_equal(weights, s[fold == i % 4])
    assert found.scoring == "score"
    named = dask_gd.search(x, y, scoring="roc_auc", **options)
    np.testing.assert_allclose(named.scores, found.scores, rtol=1e-9)
    assert "error" not in named.scores.attrs


def test_a_search_that_was_cut_short_goes_on_to_the_same_scores(tmp_path):
    x, _, y = problem()
    options = {"loss": "logistic", "alphas": [1.0, 1e-3], "folds": 3, "scoring": "roc_auc"}
    dask_gd.search(x, y, max_iter=2, store=tmp_path / "run", **options)
    more = dask_gd.search(x, y, store=tmp_path / "run", **options)
    np.testing.assert_array_equal(more.scores, dask_gd.search(x, y, **options).scores)


@pytest.mark.parametrize("name", ["roc_auc", "average_precision"])
@pytest.mark.parametrize("ties", [False, True])
def test_an_order_of_few_predictions_is_exact_and_of_many_within_its_error(name, ties, monkeypatch):
    rng = np.random.default_rng(1)
    z = np.append(rng.normal(size=5000), [0.0, -0.0, 1e300, -1e-300])
    if ties:
        z = z.round(1)
    y = (rng.random(len(z)) < 1 / (1 + np.exp(-z))).astype(float)
    s = rng.integers(0, 3, len(z)).astype(float)
    reference = {"roc_auc": roc_auc_score, "average_precision": average_precision_score}[name]
    order = Order(name)

    def sums():
        total = order.begin()
        for part in np.array_split(np.arange(len(z)), 7):
            total = total.plus(order.add(order.begin(), y[part, None], z[part, None], s[part]))
        return total

    exact = reference(y, z, sample_weight=s)
    assert order.score(sums()) == pytest.approx(exact, rel=1e-12)
    assert order.error(sums()) == 0.0
    # Any order of the parts has the same.
    monkeypatch.setattr(score_order, "MOST", 50)
    joined = sums()
    assert len(joined.keys) <= 50
    if not ties:
        assert joined.bits > ROUNDING_BITS
        assert 0 < abs(order.score(joined) - exact) <= order.error(joined) < 0.2


def test_joined_predictions_are_said_with_their_error(monkeypatch):
    x, _, y = problem()
    options = {"loss": "logistic", "alphas": [1e-3], "folds": 3, "scoring": "roc_auc"}
    exact = dask_gd.search(x, y, **options).scores
    monkeypatch.setattr(score_order, "MOST", 30)
    found = dask_gd.search(x, y, **options).scores
    assert 0 < float(np.abs(found - exact).max()) <= found.attrs["error"]


def test_a_fold_of_one_class_has_no_area_under_a_curve():
    x, _, y = problem()
    fold = np.where(y > 0, np.arange(len(y)) % 2, 2 * (np.arange(len(y)) % 2))
    with pytest.raises(DataError, match="Fold 1 of 3 holds rows of class 1 only"):
        dask_gd.search(x, y, loss="logistic", alphas=[1.0], folds=fold, scoring="roc_auc")


def test_predictions_without_room_are_refused_before_the_first_pass(monkeypatch):
    x, _, y = problem()
    monkeypatch.setattr(search_engine, "PREDICTIONS_BYTES", 1000)
    with pytest.raises(InvalidArgumentError, match="predictions of all rows of a fold"):
        dask_gd.search(x, y, loss="logistic", alphas=[1.0], scoring=lambda y, z, s: 0.0)


def test_r2_of_targets_far_from_zero_keeps_its_digits():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 3))
    y = x.sum(axis=1) + rng.normal(size=300)
    options = {"alphas": [1e-3], "folds": 3, "scoring": "r2"}
    near = dask_gd.search(x, y, **options)
    far = dask_gd.search(x, y + 1e7, **options)
    np.testing.assert_allclose(far.scores, near.scores, rtol=1e-6)
    assert near.passes == 1


def test_each_name_that_a_search_knows_is_scikit_learns_of_the_same_name():
    assert get_scorer("f1") is not None
    x, _, y = problem()
    with pytest.raises(InvalidArgumentError) as error:
        dask_gd.search(x, y, loss="logistic", alphas=[1.0], scoring="nothing")
    names = str(error.value).rpartition("choose one of ")[2].rstrip(".").split(", ")
    for name in set(names) - {"neg_loss"}:
        get_scorer(name)


# Rows of a source, and sparse rows


def test_a_source_of_some_rows_is_scored_as_its_rows_are():
    source = dask_gd.open("data/flights.zarr", x="X", y="late", rows=slice(1_000, 4_000))
    x, y = source.x.array[1_000:4_000].astype(float), source.y.array[1_000:4_000]
    fold = np.arange(3_000) % 3
    for scoring in ("roc_auc", right):
        options = {"Cs": [1e-3], "cv": fold, "scoring": scoring, "class_weight": {0: 1.0, 1: 3.0}, "tol": 1e-6}
        model = LogisticRegressionCV(**options).fit(source)
        expected = LogisticRegressionCV(**options).fit(x, y)
        np.testing.assert_allclose(model.scores_, expected.scores_, rtol=2e-3)
    splits = [(np.arange(1_000, 3_000), np.arange(0, 1_000)), (np.arange(0, 2_000), np.arange(1_000, 3_000)[1_000:])]
    found = dask_gd.search(source, loss="logistic", alphas=[1e-2], folds=splits, tol=1e-5)
    plain = dask_gd.search(x, y, loss="logistic", alphas=[1e-2], folds=splits, tol=1e-5)
    np.testing.assert_allclose(found.scores, plain.scores, rtol=1e-4)


@pytest.mark.parametrize("cv", [dask_gd.Folds(3, by="class"), dask_gd.Folds(3, by="block")], ids=lambda v: v.by)
def test_a_callable_of_rows_is_given_sparse_ones_as_they_are(cv):
    x, y = classes(2)
    x = np.where(np.abs(x) > 0.5, x, 0.0)
    kinds = []

    def seen(estimator, X, y):
        kinds.append(type(X))
        return right(estimator, X, y)

    options = {"Cs": [1.0], "cv": cv}
    expected = LogisticRegressionCV(scoring="accuracy", **options).fit(x, y).scores_
    blocks = lazy(x).map_blocks(sparse.csr_array)
    for a, b in ((sparse.csr_array(x), y), (blocks, lazy(y))):
        np.testing.assert_allclose(LogisticRegressionCV(scoring=seen, **options).fit(a, b).scores_, expected, rtol=1e-9)
    assert set(kinds[:3]) == {sparse.csr_array}
    assert set(kinds[3:]) == {da.Array}


def test_targets_that_are_absent_are_left_out_of_the_scores():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4))
    y = x @ rng.normal(size=(4, 3)) + rng.normal(size=(200, 3))
    holes = y.copy()
    holes[:, 1] = np.nan
    for scoring in ("r2", "explained_variance"):
        options = {"alphas": [0.1, 1.0], "folds": 3, "scoring": scoring}
        found = dask_gd.search(x, holes, nan="drop", **options)
        np.testing.assert_allclose(found.scores, dask_gd.search(x, y[:, [0, 2]], **options).scores, rtol=1e-9)
