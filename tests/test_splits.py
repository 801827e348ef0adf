"""Splits whose test sets overlap, or that leave out rows: against scikit-learn's own classes."""

import dask.array as da
import numpy as np
import pytest
from helpers import problem, to_zarr
from sklearn import linear_model
from sklearn.model_selection import (
    GroupShuffleSplit,
    KFold,
    RepeatedKFold,
    RepeatedStratifiedKFold,
    ShuffleSplit,
    TimeSeriesSplit,
)

import dask_gd
from dask_gd import Store
from dask_gd.errors import InvalidArgumentError
from dask_gd.estimators import ElasticNetCV, LassoCV, LogisticRegressionCV, RidgeCV
from dask_gd.fitting.fold_splits import Split, sets_of

SPLITTERS = [
    ShuffleSplit(3, test_size=0.3, random_state=0),
    ShuffleSplit(1, random_state=0),
    ShuffleSplit(2, test_size=0.2, train_size=0.5, random_state=1),
    RepeatedKFold(n_splits=3, n_repeats=2, random_state=0),
    TimeSeriesSplit(3),
]


def name_of(splitter):
    return type(splitter).__name__


def right(estimator, X, y):
    return float(np.mean(np.asarray(estimator.predict(X)) == y))


@pytest.mark.parametrize("cv", SPLITTERS, ids=name_of)
def test_a_path_on_splits_is_scikit_learns(cv):
    x, y, _ = problem(n=200, p=4)
    peer = linear_model.LassoCV(alphas=8, cv=cv, tol=1e-12, max_iter=100_000).fit(x, y)
    model = LassoCV(alphas=8, cv=cv).fit(x, y)
    np.testing.assert_allclose(model.alphas_, peer.alphas_, rtol=1e-9)
    np.testing.assert_allclose(model.mse_path_, peer.mse_path_, rtol=1e-7)
    assert model.alpha_ == pytest.approx(peer.alpha_)
    np.testing.assert_allclose(model.coef_, peer.coef_, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("cv", SPLITTERS, ids=name_of)
@pytest.mark.parametrize("scoring", ["r2", "neg_median_absolute_error"])
def test_ridge_on_splits_is_scikit_learns(cv, scoring):
    x, y, _ = problem(n=200, p=4)
    options = {"alphas": [0.1, 10.0, 1000.0], "cv": cv, "scoring": scoring}
    peer = linear_model.RidgeCV(**options).fit(x, y)
    model = RidgeCV(**options).fit(x, y)
    assert model.alpha_ == peer.alpha_
    assert model.best_score_ == pytest.approx(peer.best_score_, rel=1e-7)
    assert model.search_.data.sizes["fold"] == cv.get_n_splits()


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("scoring", ["neg_log_loss", "roc_auc", right], ids=lambda v: getattr(v, "__name__", v))
@pytest.mark.parametrize(
    "cv", [SPLITTERS[0], SPLITTERS[2], RepeatedStratifiedKFold(n_splits=2, n_repeats=2)], ids=name_of
)
def test_logistic_regression_on_splits_is_scikit_learns(cv, scoring):
    x, _, y = problem(n=200, p=4)
    splits = list(cv.split(x, y))
    options = {"Cs": [1e-2, 1.0], "l1_ratios": (0.0,), "cv": splits, "scoring": scoring}
    peer = linear_model.LogisticRegressionCV(
        **options, tol=1e-11, max_iter=1000, use_legacy_attributes=False, solver="newton-cholesky"
    ).fit(x, y)
    model = LogisticRegressionCV(**options, tol=1e-9).fit(x, y)
    np.testing.assert_allclose(model.scores_, peer.scores_, rtol=1e-6)
    np.testing.assert_allclose(model.coefs_paths_, peer.coefs_paths_, rtol=1e-5, atol=1e-6)
    assert model.C_ == peer.C_
    np.testing.assert_allclose(model.coef_, peer.coef_, rtol=1e-5)


@pytest.mark.parametrize("scoring", ["accuracy", right], ids=lambda v: getattr(v, "__name__", v))
def test_lazy_rows_take_listed_splits(scoring, tmp_path):
    x, _, y = problem(n=200, p=4)
    splits = list(SPLITTERS[2].split(x))
    options = {"Cs": [1e-2, 1.0], "scoring": scoring}
    expected = LogisticRegressionCV(cv=splits, **options).fit(x, y).scores_
    for a, b in (
        (da.from_array(x, chunks=(70, -1)), y),
        (to_zarr(x, 50, tmp_path / "x"), to_zarr(y, 90, tmp_path / "y")),
    ):
        found = LogisticRegressionCV(cv=iter(splits), **options).fit(a, b)
        np.testing.assert_allclose(found.scores_, expected, rtol=1e-8)


def test_splits_that_share_a_search_have_its_scores():
    x, _, y = problem(n=200, p=4)
    options = {"loss": "logistic", "Cs": [0.1, 1.0]}
    cv = RepeatedKFold(n_splits=3, n_repeats=2, random_state=0)
    splits = [Split(*pair) for pair in cv.split(x)]
    # Mixed up: the sets are those of the rows, and the folds are in the order given.
    order = [4, 0, 3, 1, 5, 2]
    assert [of_set.numbers for of_set in sets_of(splits, 200)] == [(0, 1, 2), (3, 4, 5)]
    found = dask_gd.search(x, y, folds=cv, **options)
    mixed = dask_gd.search(x, y, folds=[tuple(splits[i]) for i in order], **options)
    np.testing.assert_allclose(mixed.scores, found.scores[:, order], rtol=1e-4)
    first = dask_gd.search(x, y, folds=[tuple(split) for split in splits[:3]], **options)
    np.testing.assert_array_equal(found.scores[:, :3], first.scores)
    assert found.data.fold.values.tolist() == list(range(6))
    assert found.data.history.dims == ("candidate", "fold", "iteration")
    assert found.passes > first.passes


def test_marks_of_rows_are_splits_too_and_groups_are_heeded():
    x, y, _ = problem(n=200, p=4)
    groups = np.arange(200) % 7
    cv = GroupShuffleSplit(2, random_state=0)
    splits = list(cv.split(x, y, groups))
    marks = [tuple(np.isin(np.arange(200), side) for side in split) for split in splits]
    found = [
        dask_gd.search(x, y, alphas=[0.1], folds=cv, groups=groups).scores,
        dask_gd.search(x, y, alphas=[0.1], folds=splits).scores,
        dask_gd.search(x, y, alphas=[0.1], folds=marks).scores,
    ]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_a_store_has_a_directory_for_each_set(tmp_path):
    x, _, y = problem(n=200, p=4)
    options = {"loss": "logistic", "Cs": [0.1, 1.0], "folds": SPLITTERS[2]}
    dask_gd.search(x, y, max_iter=2, store=tmp_path / "run", **options)
    more = dask_gd.search(x, y, store=tmp_path / "run", **options)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["splits-00", "splits-01"]
    np.testing.assert_array_equal(more.scores, dask_gd.search(x, y, **options).scores)
    with pytest.raises(InvalidArgumentError, match="take 2: give its path"):
        dask_gd.search(x, y, store=Store(tmp_path / "other"), **options)


def test_the_fit_to_all_rows_sees_those_that_no_split_has():
    x, y, _ = problem(n=200, p=4)
    cv = [(np.arange(0, 50), np.arange(50, 80))]
    model = ElasticNetCV(alphas=[0.1], cv=cv).fit(x, y)
    peer = linear_model.ElasticNetCV(alphas=[0.1], cv=cv, tol=1e-12, max_iter=100_000).fit(x, y)
    np.testing.assert_allclose(model.mse_path_, peer.mse_path_, rtol=1e-8)
    np.testing.assert_allclose(model.coef_, peer.coef_, rtol=1e-7)
    alone = dask_gd.fit(x, y, penalty=dask_gd.penalties.ElasticNet(0.1, 0.5), tol=1e-9)
    np.testing.assert_allclose(model.search_.data.all_weights.values[0], alone.weights, rtol=1e-5)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ([], "has no split"),
        ([([0, 1, 2], [2, 3])], "row 2 is 2 times in split 0"),
        ([([0, 1, 1], [2, 3])], "row 1 is 2 times in split 0"),
        ([([0, 1], [2, 3]), ([0, 1], [2, 900])], "test rows of split 1 are 2 to 900; there are the rows 0 to 199"),
        ([([0, 1], [])], "test rows of split 0 are"),
        ([([0.5, 1], [2])], "train rows of split 0 are"),
    ],
    ids=str,
)
def test_splits_that_are_none_are_refused(splits, message):
    x, y, _ = problem(n=200, p=4)
    with pytest.raises(InvalidArgumentError, match=message):
        dask_gd.search(x, y, alphas=[1.0], folds=splits)


def test_disjoint_splits_are_one_search():
    x, y, _ = problem(n=200, p=4)
    assert dask_gd.search(x, y, alphas=[1.0], folds=KFold(4)).passes == 1
    assert dask_gd.search(x, y, alphas=[1.0], folds=RepeatedKFold(n_splits=4, n_repeats=2)).passes == 2
