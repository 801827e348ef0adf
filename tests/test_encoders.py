"""Encoders of strings and categories have scikit-learn's numbers, and read no more than some rows at a time."""

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import linear_model
from sklearn import preprocessing as peers
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from dask_gd.errors import DataError, InvalidArgumentError, InvalidTypeError, NonFiniteError
from dask_gd.estimators import LogisticRegression
from dask_gd.preprocessing import OneHotEncoder, OrdinalEncoder, TargetEncoder
from dask_gd.preprocessing.target_encoder import folds_of
from dask_gd.sources.coded_table import CodedTable

N = 400
COLUMNS = ["origin", "size"]


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(2)
    origin = rng.choice(["ATL", "BOS", "JFK", None], N, p=[0.5, 0.3, 0.15, 0.05])
    origin[-1] = "ZRH"
    data = pd.DataFrame({"origin": origin, "size": rng.integers(1, 4, N), "x": rng.normal(size=N)})
    data["y"] = data["size"] + (data.origin == "BOS") * 2.0 + rng.normal(size=N)
    return data


def kinds_of(frame):
    """Return a frame in memory, of Dask, and of Arrow."""
    yield frame
    yield dd.from_pandas(frame, npartitions=5)
    yield pa.table(frame)


def computed(a):
    return a.compute() if hasattr(a, "compute") else a


# OrdinalEncoder


def test_ordinal_numbers_are_scikit_learns(frame):
    theirs = peers.OrdinalEncoder().fit(frame[COLUMNS])
    later = pd.DataFrame({"origin": ["JFK", None, "new"], "size": [2, 9, 1]})
    lenient = {"handle_unknown": "use_encoded_value", "unknown_value": -1, "encoded_missing_value": -2}
    expected = peers.OrdinalEncoder(**lenient).fit(frame[COLUMNS]).transform(later)
    for data in kinds_of(frame[COLUMNS]):
        encoder = OrdinalEncoder().fit(data)
        for own, of_theirs in zip(encoder.categories_, theirs.categories_, strict=True):
            pd.testing.assert_series_equal(pd.Series(own), pd.Series(of_theirs), check_dtype=False)
        out = encoder.transform(data)
        assert isinstance(out, dd.DataFrame if isinstance(data, dd.DataFrame) else pd.DataFrame)
        assert_array_equal(computed(out), theirs.transform(frame[COLUMNS]))
        assert_array_equal(OrdinalEncoder(**lenient).fit(data).transform(later), expected)
        with pytest.raises(DataError, match="'origin' has 'new' in row 2"):
            encoder.transform(later)
    assert_array_equal(clone(encoder).fit(frame[COLUMNS]).transform(frame[COLUMNS]), out)


def test_columns_are_chosen_and_levels_have_the_order_that_is_given(frame):
    encoder = OrdinalEncoder(categories=[[3, 2, 1]], columns=["size"]).fit(frame)
    for data in (frame, dd.from_pandas(frame, npartitions=2)):
        out = computed(encoder.transform(data))
        assert_array_equal(out["size"], 3 - frame["size"])
        pd.testing.assert_frame_equal(out.drop(columns="size"), frame.drop(columns="size"), check_dtype=False)
    assert encoder.get_feature_names_out().tolist() == frame.columns.tolist()


def test_arrays_of_strings_give_arrays():
    rows = np.array([["b", "x"], ["a", "y"], ["b", "y"]])
    expected = peers.OrdinalEncoder().fit_transform(rows)
    assert_array_equal(OrdinalEncoder().fit_transform(rows), expected)
    lazy = OrdinalEncoder().fit_transform(da.from_array(rows.astype(object), chunks=(2, 1)))
    assert isinstance(lazy, da.Array)
    assert_array_equal(lazy, expected)


# TargetEncoder


@pytest.mark.parametrize("smooth", ["auto", 0.0, 7.5])
def test_target_means_are_scikit_learns_and_those_of_a_fold_are_of_the_other_rows(smooth, frame):
    theirs = peers.TargetEncoder(smooth=smooth, target_type="continuous").fit(frame[COLUMNS], frame.y)
    # What scikit-learn finds without each fold, in turn.
    own = TargetEncoder(smooth=smooth, cv=4, random_state=3)
    fold = folds_of(own._seed, 0, N, 4)
    crossed = np.empty((N, 2))
    for k in range(4):
        out = fold == k
        peer = clone(theirs).fit(frame.loc[~out, COLUMNS], frame.y[~out])
        crossed[out] = peer.transform(frame.loc[out, COLUMNS])
    for data in kinds_of(frame[COLUMNS]):
        encoder = clone(own)
        assert_allclose(computed(encoder.fit_transform(data, frame.y)), crossed, rtol=1e-10)
        assert encoder.target_mean_ == pytest.approx(theirs.target_mean_, rel=1e-12)
        for mine, of_theirs in zip(encoder.encodings_, theirs.encodings_, strict=True):
            assert_allclose(mine, of_theirs, rtol=1e-10)
        assert_allclose(computed(encoder.transform(data)), theirs.transform(frame[COLUMNS]), rtol=1e-10)
        later = pd.DataFrame({"origin": ["new", None], "size": [1, 77]})
        assert_allclose(encoder.transform(later), theirs.transform(later), rtol=1e-10)


def test_two_classes_are_binary_and_counts_are_no_classes(frame):
    labels = np.where(frame.y > 2, "late", "early")
    theirs = peers.TargetEncoder().fit(frame[["origin"]], labels)
    for y in (labels, labels == "late", da.from_array(labels, chunks=100)):
        encoder = TargetEncoder().fit(dd.from_pandas(frame[["origin"]], npartitions=3), y)
        assert_allclose(encoder.encodings_[0], theirs.encodings_[0], rtol=1e-10)
    assert encoder.classes_.tolist() == ["early", "late"]
    counts = TargetEncoder(smooth=0.0).fit(frame[["origin"]], frame["size"])
    assert_allclose(counts.encodings_[0][0], frame["size"][frame.origin == "ATL"].mean())
    with pytest.raises(InvalidArgumentError, match=r"y has 3 classes.*choose 'multiclass'"):
        TargetEncoder(target_type="binary").fit(frame[["origin"]], frame["size"].astype(str))
    with pytest.raises(InvalidArgumentError, match="y has a single class"):
        TargetEncoder().fit(frame[["origin"]], np.repeat("late", N))


@pytest.mark.parametrize("smooth", ["auto", 3.0])
def test_several_classes_have_a_column_each_with_scikit_learns_numbers(smooth, frame):
    labels = np.array(["on time", "early", "late"])[frame["size"] - 1]
    x = frame[COLUMNS]
    theirs = peers.TargetEncoder(smooth=smooth).fit(x, labels)
    own = TargetEncoder(smooth=smooth, cv=3, random_state=5)
    # What scikit-learn finds without each fold, in turn.
    fold = folds_of(own._seed, 0, N, 3)
    crossed = np.empty((N, 6))
    for k in range(3):
        out = fold == k
        crossed[out] = clone(theirs).fit(x[~out], labels[~out]).transform(x[out])
    later = pd.DataFrame({"origin": ["new", None], "size": [1, 77]})
    for data in kinds_of(x):
        for y in (labels, da.from_array(labels, chunks=90)):
            encoder = clone(own)
            out = computed(encoder.fit_transform(data, y))
            assert_allclose(out, crossed, rtol=1e-10)
            assert list(out.columns) == encoder.get_feature_names_out().tolist()
        assert encoder.get_feature_names_out().tolist() == theirs.get_feature_names_out().tolist()
        assert (encoder.target_type_, encoder.classes_.tolist()) == ("multiclass", ["early", "late", "on time"])
        assert_allclose(encoder.target_mean_, theirs.target_mean_, rtol=1e-12)
        for mine, of_theirs in zip(encoder.encodings_, theirs.encodings_, strict=True):
            assert_allclose(mine, of_theirs, rtol=1e-10)
        assert_allclose(computed(encoder.transform(data)), theirs.transform(x), rtol=1e-10)
        assert_allclose(encoder.transform(later), theirs.transform(later), rtol=1e-10)


def test_columns_of_classes_stand_in_the_place_of_theirs(frame):
    x = frame[["x", "origin", "size"]]
    y = frame["size"].to_numpy()
    encoder = TargetEncoder(columns=["origin"], target_type="multiclass", smooth=1.0, dtype="float32")
    out = encoder.fit_transform(x, y)
    assert list(out.columns) == ["x", "origin_1", "origin_2", "origin_3", "size"]
    assert out["origin_1"].dtype == np.float32
    assert_allclose(out[["origin_1", "origin_2", "origin_3"]].sum(axis=1), 1.0, rtol=1e-6)
    pd.testing.assert_frame_equal(out[["x", "size"]], x[["x", "size"]])
    # Arrays give arrays, lazy for lazy ones.
    strings = x[["origin"]].fillna("none").to_numpy()
    encoder = TargetEncoder(target_type="multiclass")
    in_memory = encoder.fit_transform(strings, y)
    lazy = encoder.fit_transform(da.from_array(strings, chunks=(110, 1)), y)
    assert isinstance(lazy, da.Array)
    assert_allclose(lazy, in_memory, rtol=1e-12)
    with pytest.raises(InvalidArgumentError, match="two columns would be named 'origin_1'"):
        TargetEncoder(columns=["origin"], target_type="multiclass").fit(x.rename(columns={"x": "origin_1"}), y)
    with pytest.raises(NonFiniteError, match="a label of y is NaN"):
        encoder.fit(strings, np.where(y == 1, np.nan, y))


def test_partitions_and_folds_do_not_depend_on_each_other(frame):
    def values(partitions):
        lazy = dd.from_pandas(frame, npartitions=partitions)
        return TargetEncoder(columns=["origin"]).fit_transform(lazy, lazy.y).compute()

    expected = values(1)
    pd.testing.assert_frame_equal(values(6), expected, rtol=1e-12)
    assert_array_equal(expected["size"], frame["size"])
    assert_array_equal(expected.index, frame.index)


def test_a_pipeline_cross_fits_and_ends_in_an_estimator(frame):
    labels = frame.y > 2
    model = make_pipeline(TargetEncoder(columns=["origin"]), LogisticRegression())
    x = frame[["origin", "x"]]
    in_memory = model.fit(x, labels).predict_proba(x)
    lazy = clone(model).fit(dd.from_pandas(x, npartitions=3), dd.from_pandas(labels, npartitions=3))
    assert_allclose(lazy.predict_proba(x), in_memory, rtol=1e-6)


@pytest.mark.parametrize("lazy", [False, True], ids=["pandas", "dask"])
def test_targets_and_parameters_that_cannot_be_are_refused(lazy, frame):
    x = dd.from_pandas(frame[COLUMNS], npartitions=2) if lazy else frame[COLUMNS]
    with pytest.raises(NonFiniteError, match="nan in row 7 of 'y'"):
        TargetEncoder().fit(x, frame.y.where(frame.index != 7))
    with pytest.raises(DataError, match="X has 400 rows but y has 399"):
        TargetEncoder().fit(x, frame.y[1:])
    for options in ({"smooth": -1}, {"smooth": "much"}, {"cv": 1}, {"target_type": "count"}, {"random_state": -1}):
        with pytest.raises(InvalidArgumentError, match=next(iter(options))):
            TargetEncoder(**options).fit(x, frame.y)
    for options in ({"handle_unknown": "ignore"}, {"unknown_value": 3}, {"categories": "all"}, {"columns": ["z"]}):
        with pytest.raises(InvalidArgumentError, match=next(iter(options))):
            OrdinalEncoder(**options).fit(x)
    encoder = OrdinalEncoder().fit(x)
    with pytest.raises(InvalidArgumentError, match="feature 0 is named 'size' but the fit had 'origin'"):
        encoder.transform(x[["size", "origin"]])
    dates = frame.assign(origin=pd.Timestamp("2000"))
    with pytest.raises(InvalidTypeError, match="'origin' holds Timestamp"):
        encoder.fit(dd.from_pandas(dates, npartitions=2) if lazy else dates)


# OneHotEncoder of levels


OPTIONS = [{}, {"drop": "first"}, {"handle_unknown": "ignore"}, {"min_frequency": 60}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_indicators_of_levels_are_scikit_learns_and_stay_codes_in_a_pipeline(options, frame, monkeypatch):
    x = frame[["origin"]].assign(size=frame["size"].map({1: "s", 2: "m", 3: "l"}).astype("category"))
    late = frame.y > 2
    theirs = peers.OneHotEncoder(sparse_output=False, **options).fit(x)
    expected = theirs.transform(x)
    for data in kinds_of(x):
        one_hot = OneHotEncoder(**options).fit(data)
        table = one_hot.transform(data)
        assert_array_equal(np.asarray(table), expected)
        assert_array_equal(table.to_dask_array(), expected)
        assert one_hot.get_feature_names_out().tolist() == theirs.get_feature_names_out().tolist()
        for own, of_theirs in zip(one_hot.categories_, theirs.categories_, strict=True):
            pd.testing.assert_series_equal(pd.Series(own), pd.Series(of_theirs), check_dtype=False)
    # Estimators of scikit-learn get the array, those of dask_gd the codes.
    peer = make_pipeline(OneHotEncoder(**options), linear_model.LogisticRegression(tol=1e-10)).fit(x, late)
    monkeypatch.setattr(CodedTable, "written_out", lambda *_: pytest.fail("indicators were written out"))
    model = make_pipeline(OneHotEncoder(**options), LogisticRegression()).fit(x, late)
    assert model[-1].coef_.shape == peer[-1].coef_.shape
    assert_allclose(model[-1].coef_, peer[-1].coef_, atol=1e-3)
    lazy = dd.from_pandas(x, npartitions=3)
    other = clone(model).fit(lazy, dd.from_pandas(late, npartitions=3))
    assert_allclose(other[-1].coef_, model[-1].coef_, rtol=1e-8)
    assert isinstance(other.predict(lazy), da.Array)
    assert_array_equal(other.predict(lazy), model.predict(x))
    assert other.score(x, late) == model.score(x, late)


def test_numbers_beside_levels_stay_and_unknown_levels_are_refused(frame):
    x = frame[["x", "origin"]].dropna()
    one_hot = OneHotEncoder(columns=["origin"]).fit(x)
    assert_array_equal(np.asarray(one_hot.transform(x))[:, 0], x.x)
    assert one_hot.get_feature_names_out().tolist() == [
        "x",
        *(f"origin_{name}" for name in ["ATL", "BOS", "JFK", "ZRH"]),
    ]
    with pytest.raises(DataError, match="'origin' has 'Q' in row 0"):
        one_hot.transform(x.assign(origin="Q"))
    strings = np.array([["a", "x"], ["b", "y"]])
    assert_array_equal(OneHotEncoder().fit_transform(strings), [[1, 0, 1, 0], [0, 1, 0, 1]])
    with pytest.raises(InvalidArgumentError, match="integer codes are not pooled"):
        OneHotEncoder(min_frequency=3).fit(frame[["size"]])
    model = LogisticRegression().fit(one_hot.transform(x), x.x > 0)
    with pytest.raises(InvalidArgumentError, match="column 'origin' has 3 levels"):
        model.predict(OneHotEncoder(columns=["origin"]).fit(x[x.origin != "ATL"]).transform(x[x.origin != "ATL"]))


@pytest.mark.parametrize("lazy", [False, True])
def test_a_missing_value_that_the_fit_did_not_have_is_an_unknown_level(lazy, frame):
    x = frame[["origin"]]
    known = x.dropna()
    if lazy:
        x, known = dd.from_pandas(x, npartitions=3), dd.from_pandas(known, npartitions=3)
    with pytest.raises(DataError, match=r"'origin' has (None|nan) in row"):
        np.asarray(OneHotEncoder().fit(known).transform(x))
    for drop in (None, "first"):
        encoder = OneHotEncoder(handle_unknown="ignore", drop=drop).fit(known)
        indicators = np.asarray(encoder.transform(x))
        assert_array_equal(indicators.sum(axis=1) == 0, frame.origin.isna() | ((frame.origin == "ATL") & bool(drop)))


def test_a_table_of_codes_is_a_frame_where_pandas_is_asked_for(frame):
    known = frame[["origin", "size"]].dropna()
    out = OneHotEncoder(columns=["origin"]).set_output(transform="pandas").fit_transform(known)
    assert out.columns.tolist() == ["origin_ATL", "origin_BOS", "origin_JFK", "origin_ZRH", "size"]
    assert_array_equal(out, OneHotEncoder(columns=["origin"]).fit_transform(known))
    assert_array_equal(out.index, known.index)
