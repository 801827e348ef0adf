"""RidgeCV where lazy rows are left out one by one: against scikit-learn's, which has them in memory."""

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from dask.distributed import Client
from helpers import to_zarr
from sklearn import linear_model
from sklearn.metrics import make_scorer, median_absolute_error

from dask_gd.errors import InvalidArgumentError
from dask_gd.estimators import RidgeCV
from dask_gd.fitting import leave_one_out_passes as passes
from dask_gd.sources import as_source

ALPHAS = [0.1, 1.0, 10.0, 100.0]


def data(n=60, p=4, far=0.0, k=1):
    rng = np.random.default_rng(n)
    x = rng.normal(size=(n, p))
    y = x @ rng.normal(size=(p, k)) + rng.normal(size=(n, k)) + far
    return x + far, y if k > 1 else y[:, 0], rng.uniform(0.5, 2.0, n)


def lazy(a):
    return None if a is None else da.from_array(a, chunks=(7, -1) if a.ndim > 1 else 11)


def check(model, peer):
    np.testing.assert_array_equal(model.alpha_, peer.alpha_)
    np.testing.assert_allclose(model.best_score_, peer.best_score_, rtol=1e-7)
    np.testing.assert_allclose(model.coef_, peer.coef_, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(model.intercept_, peer.intercept_, rtol=1e-6)


@pytest.mark.parametrize("shape", [(60, 4), (20, 30)])
@pytest.mark.parametrize("far", [0.0, 1e4])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"fit_intercept": False},
        {"alpha_per_target": True},
        {"scoring": "r2"},
        {"scoring": "explained_variance", "alpha_per_target": True},
        {"scoring": make_scorer(median_absolute_error, greater_is_better=False)},
    ],
    ids=lambda options: "-".join(options) or "default",
)
def test_lazy_rows_are_left_out_as_in_scikit_learn(shape, far, weighted, options):
    # Without an intercept targets far from 0 are nothing that scikit-learn's own digits can tell.
    far = far if options.get("fit_intercept", True) else far / 1e3
    x, y, s = data(*shape, far=far, k=2)
    s = s if weighted else None
    peer = linear_model.RidgeCV(alphas=ALPHAS, **options).fit(x, y, sample_weight=s)
    check(RidgeCV(alphas=ALPHAS, **options).fit(lazy(x), lazy(y), lazy(s)), peer)


def test_one_target_and_rows_in_zarr(tmp_path):
    x, y, _ = data(far=10.0)
    peer = linear_model.RidgeCV(alphas=ALPHAS).fit(x, y)
    model = RidgeCV(alphas=ALPHAS).fit(to_zarr(x, 13, tmp_path / "x"), to_zarr(y, 20, tmp_path / "y"))
    check(model, peer)
    assert isinstance(model.alpha_, float)
    assert not hasattr(model, "search_")


@pytest.mark.parametrize("scoring", [None, "r2"])
def test_sparse_rows_and_factors_are_left_out_too(scoring):
    x, y, s = data()
    x = np.where(np.abs(x) > 0.7, x, 0.0)
    options = {"alphas": ALPHAS, "scoring": scoring}
    rows = da.from_array(x, chunks=(7, -1)).map_blocks(scipy.sparse.csr_matrix)
    check(RidgeCV(**options).fit(rows, lazy(y), lazy(s)), linear_model.RidgeCV(**options).fit(x, y, sample_weight=s))
    # Levels of a data frame, beside the same written out.
    frame = pd.DataFrame({"a": x[:, 0], "b": np.array(list("uvw"))[np.arange(len(y)) % 3]})
    written = np.column_stack([x[:, 0], np.arange(len(y))[:, None] % 3 == np.arange(3)])
    peer = linear_model.RidgeCV(**options).fit(written, y)
    model = RidgeCV(**options).fit(frame, y)
    assert model.alpha_ == peer.alpha_
    assert model.best_score_ == pytest.approx(peer.best_score_, rel=1e-7)


def test_chunks_and_workers_change_nothing(tmp_path, clusters):
    x, y, _ = data(n=300)
    files = to_zarr(x, 50, tmp_path / "x"), to_zarr(y, 99, tmp_path / "y")
    here = RidgeCV(alphas=ALPHAS, scoring="r2").fit(*files)
    with Client(clusters(2)):
        there = RidgeCV(alphas=ALPHAS, scoring="r2").fit(*files)
    assert here.best_score_ == there.best_score_
    others = RidgeCV(alphas=ALPHAS, scoring="r2").fit(lazy(x), y)
    assert others.best_score_ == pytest.approx(here.best_score_, rel=1e-12)


def test_rows_with_nan_are_left_out_of_all():
    x, y, _ = data()
    holes = x.copy()
    holes[::7, 2] = np.nan
    kept = np.arange(len(x)) % 7 != 0
    source = as_source(lazy(holes), lazy(y), nan="drop")
    peer = linear_model.RidgeCV(alphas=ALPHAS).fit(x[kept], y[kept])
    check(RidgeCV(alphas=ALPHAS).fit(source), peer)


def test_alphas_in_several_passes_have_the_same_scores(monkeypatch):
    x, y, _ = data()
    scoring = make_scorer(median_absolute_error, greater_is_better=False)
    whole = RidgeCV(alphas=ALPHAS, scoring=scoring).fit(lazy(x), y)
    monkeypatch.setattr(passes, "SUMMARY_BYTES", 1)
    assert RidgeCV(alphas=ALPHAS, scoring=scoring).fit(lazy(x), y).best_score_ == whole.best_score_


def test_what_is_not_served_is_refused_by_name(monkeypatch):
    x, y, _ = data()
    with pytest.raises(InvalidArgumentError, match=r"store_cv_results=True.* for rows in memory"):
        RidgeCV(store_cv_results=True).fit(lazy(x), y)
    with pytest.raises(InvalidArgumentError, match=r"alphas\[0\] == 1e-30 is nothing beside the features' products"):
        RidgeCV(alphas=[1e-30, 1.0]).fit(lazy(np.hstack([x, x])), y)
    monkeypatch.setattr(passes, "PREDICTIONS_BYTES", 100)
    with pytest.raises(InvalidArgumentError, match="takes the predictions of all 60 rows"):
        RidgeCV(scoring="neg_median_absolute_error").fit(lazy(x), y)
    monkeypatch.setattr(passes, "WIDEST", 3)
    with pytest.raises(InvalidArgumentError, match=r"there are 4, and at most 3 are served.*cv=5"):
        RidgeCV().fit(lazy(x), y)


def test_a_row_that_has_a_feature_to_itself_is_warned_of():
    x, y, _ = data()
    x = np.column_stack([x, np.arange(len(y)) == 7]) * 1.0
    x[:, -1] *= 1e6
    with pytest.warns(UserWarning, match="A row's leverage is 1 but for"):
        RidgeCV(alphas=[1e-3]).fit(lazy(x), y)
