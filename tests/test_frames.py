"""Columns of data frames are features by their names; those of strings and categories are factors."""

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import same_bits
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression as Theirs
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

import dask_gd
from dask_gd.errors import DataError, InvalidArgumentError, InvalidTypeError, NonFiniteError
from dask_gd.estimators import (
    HuberRegressor,
    LinearRegression,
    LogisticRegression,
    LogisticRegressionCV,
    Ridge,
    SGDClassifier,
)
from dask_gd.preprocessing import StandardScaler

N = 600
FEATURES = ["distance", "hour", "origin", "dest"]
L2 = dask_gd.L2(1e-2)
MODEL = {"features": FEATURES, "target": "late", "loss": "logistic"}

# A warning of pandas about Dask's reader of Parquet.
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword:pandas.errors.Pandas4Warning")


@pytest.fixture(scope="module")
def flights():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "distance": rng.normal(5, 2, N),
            "hour": rng.integers(0, 6, N),
            "origin": rng.choice(["ATL", "BOS", "JFK", "SFO"], N),
            "dest": rng.choice(["LAX", "ORD", "SEA"], N),
            "weight": rng.uniform(1, 2, N),
        }
    )
    z = 0.2 * frame.distance + (frame.origin == "BOS") - (frame.dest == "SEA") + 0.3 * (frame.hour == 2) - 1.0
    frame["late"] = (z + rng.logistic(size=N) > 0).astype(int)
    # A level of the last rows only.
    frame.loc[N - 20 :, "origin"] = "ZRH"
    return frame


@pytest.fixture(scope="module")
def run(flights):
    return dask_gd.fit(flights, **MODEL, penalty=L2)


def indicators(frame, names=FEATURES):
    return pd.get_dummies(frame[names]).astype(float)


class FromArrow:
    """A data frame of another library, which is served by Arrow's interface."""

    def __init__(self, table):
        self.table = table
        self.columns = table.column_names

    def __arrow_c_stream__(self, requested_schema=None):
        return self.table.__arrow_c_stream__(requested_schema)


def with_text(frame, change):
    return frame.assign(origin=change(frame.origin), dest=change(frame.dest))


def in_arrow(frame, change=lambda column: column):
    table = pa.Table.from_pandas(frame, preserve_index=False)
    for name in ("origin", "dest"):
        table = table.set_column(table.column_names.index(name), name, change(pa.array(frame[name])))
    return table


def arrow_column(column, change):
    return pd.Series(pd.arrays.ArrowExtensionArray(change(pa.array(column))), index=column.index)


KINDS = {
    "objects": lambda frame: with_text(frame, lambda c: c.astype(object)),
    "str": lambda frame: frame,
    "string": lambda frame: with_text(frame, lambda c: c.astype("string")),
    "string[python]": lambda frame: with_text(frame, lambda c: c.astype("string[python]")),
    "category": lambda frame: with_text(frame, lambda c: c.astype("category")),
    "ordered": lambda frame: with_text(frame, lambda c: c.astype("category").cat.as_ordered()),
    "unused categories": lambda frame: with_text(frame, lambda c: c.astype("category").cat.add_categories(["Q"])),
    "arrow strings": lambda frame: with_text(frame, lambda c: arrow_column(c, lambda a: a.cast(pa.large_string()))),
    "arrow dictionary": lambda frame: with_text(frame, lambda c: arrow_column(c, lambda a: a.dictionary_encode())),
    "table": in_arrow,
    "table of dictionaries": lambda frame: in_arrow(frame, lambda a: a.dictionary_encode()),
    "record batch": lambda frame: in_arrow(frame).to_batches()[0],
    "Arrow's interface": lambda frame: FromArrow(in_arrow(frame, lambda a: a.cast(pa.string_view()))),
}


@pytest.mark.parametrize("kind", KINDS)
def test_frames_of_all_kinds_give_the_same_bits_and_names(kind, flights, run):
    frame = KINDS[kind](flights)
    other = dask_gd.fit(frame, **MODEL, penalty=L2)
    same_bits(other, run)
    assert other.encoding == run.encoding
    assert_array_equal(other.predict(frame), run.predict(flights))


def test_a_fit_of_levels_is_that_of_their_indicators_and_of_scikit_learn(flights, run):
    x = indicators(flights)
    dense = dask_gd.fit(x, flights.late, loss="logistic", penalty=L2)
    assert run.weights.feature.values.tolist() == [name.replace("_", "=") for name in x.columns]
    assert_allclose(run.parameters, dense.parameters, rtol=1e-9)
    assert_allclose(run.predict(flights), dense.predict(x), rtol=1e-12)
    theirs = make_pipeline(
        make_column_transformer((OneHotEncoder(), ["origin", "dest"]), remainder="passthrough"),
        Theirs(C=1 / (1e-2 * N), tol=1e-12, solver="newton-cholesky"),
    ).fit(flights[FEATURES], flights.late)
    ours = dask_gd.fit(flights, **MODEL, penalty=L2, tol=1e-10)
    assert_allclose(ours.predict(flights), theirs.predict_proba(flights[FEATURES])[:, 1], rtol=1e-6)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("kind", ["str", "category"])
def test_partitions_change_no_level_and_nothing_beyond_rounding(kind, known, flights, run):
    frame = KINDS[kind](flights)
    for partitions in (2, 7):
        lazy = dd.from_pandas(frame, npartitions=partitions)
        if kind == "category" and not known:
            lazy["origin"] = lazy.origin.cat.as_unknown()
            lazy["dest"] = lazy.dest.cat.as_unknown()
        other = dask_gd.fit(lazy, **MODEL, penalty=L2)
        assert other.encoding == run.encoding
        assert_allclose(other.parameters, run.parameters, rtol=1e-10)
        prediction = other.predict(lazy)
        assert isinstance(prediction, da.Array)
        assert_allclose(prediction, run.predict(flights), rtol=1e-10)


@pytest.fixture(scope="module")
def in_threads(flights):
    """Return a fit to a frame of Dask's without workers, made before a test has any."""
    return dask_gd.fit(dd.from_pandas(flights, npartitions=3), **MODEL)


def test_workers_change_no_bit(flights, in_threads, two):
    same_bits(dask_gd.fit(dd.from_pandas(flights, npartitions=3), **MODEL), in_threads)
    same_bits(dask_gd.fit(flights, **MODEL), dask_gd.fit(KINDS["category"](flights), **MODEL))


@pytest.mark.parametrize("rows", [200, 9])
def test_partitions_are_read_once_for_their_levels_and_once_for_each_pass(rows, flights):
    reads = []

    def read(i):
        reads.append(i)
        return flights.iloc[i * rows : (i + 1) * rows]

    count = -(-N // rows)
    lazy = dd.from_map(read, range(count), meta=flights.iloc[:0])
    with dask.config.set(scheduler="sync"):
        run = dask_gd.fit(lazy, **MODEL, sample_weight="weight", penalty=L2, max_iter=1)
    assert len(reads) == pytest.approx(count * (1 + run.history.passes.values.sum()))


def test_partitions_without_rows_change_nothing(flights, run):
    lazy = dd.from_pandas(flights, npartitions=4)
    gap = lazy.partitions[1:2]
    with_gap = dd.concat([lazy.partitions[:2], gap[gap.distance > 1e9], lazy.partitions[2:]])
    other = dask_gd.fit(with_gap, **MODEL, penalty=L2)
    assert_allclose(other.parameters, run.parameters, rtol=1e-10)
    assert_allclose(other.predict(with_gap), run.predict(flights), rtol=1e-10)


def test_categories_keep_the_order_that_is_declared(flights):
    order = ["ZRH", "SFO", "nowhere", "JFK", "BOS", "ATL"]
    frame = flights.assign(origin=pd.Categorical(flights.origin, order, ordered=True))
    expected = ["origin=ZRH", "origin=SFO", "origin=JFK", "origin=BOS", "origin=ATL"]
    ordered = pa.DictionaryArray.from_arrays(pa.array(frame.origin.cat.codes), pa.array(order), ordered=True)
    table = pa.table({"origin": ordered, "late": flights.late})
    for data in (frame, dd.from_pandas(frame, npartitions=3), table):
        run = dask_gd.fit(data, features=["origin"], target="late", penalty=L2)
        assert run.weights.feature.values.tolist() == expected


def test_frames_and_targets_beside_them_are_fitted_too(flights, run):
    lazy = dd.from_pandas(flights, npartitions=3)
    for frame, y in ((flights, flights.late), (lazy, lazy.late), (lazy, flights.late), (flights, flights.late.values)):
        other = dask_gd.fit(frame[FEATURES], y, loss="logistic", penalty=L2)
        assert_allclose(other.parameters, run.parameters, rtol=1e-10)
        assert other.encoding == run.encoding


def test_columns_without_another_role_are_features(flights):
    run = dask_gd.fit(flights, target="late", sample_weight="weight", loss="logistic", max_iter=1)
    assert [column.name for column in run.encoding.columns] == FEATURES
    assert run.roles == {"target": "late", "sample_weight": "weight"}


def test_names_alone_serve_for_numbers_too(flights):
    names = ["distance", "hour"]
    plain = dask_gd.fit(flights[names].to_numpy(), flights.late.to_numpy())
    for frame in (flights, dd.from_pandas(flights, npartitions=1)):
        run = dask_gd.fit(frame, features=names, target="late")
        assert_array_equal(run.parameters, plain.parameters)
        assert run.encoding is None
        assert_array_equal(run.predict(frame), run.predict(frame[names[::-1]]))
    narrow = flights.astype({"distance": "f4", "weight": "f4"})
    lazy = dask_gd.open(dd.from_pandas(narrow, npartitions=2), features=["distance", "weight"], target="late")
    assert lazy.dtype == np.float32


def test_weights_offsets_and_several_targets_are_columns(flights):
    frame = flights.assign(other=flights.distance * 2, exposure=np.log(flights.weight))
    lazy = dd.from_pandas(frame, npartitions=4)
    x = indicators(flights)
    dense = dask_gd.fit(
        x, flights.late, loss="poisson", sample_weight=flights.weight, offset=frame.exposure, penalty=L2
    )
    model = {"features": FEATURES, "penalty": L2}
    for data in (frame, lazy):
        run = dask_gd.fit(
            data, **model, target="late", loss="poisson", sample_weight="weight", offset="exposure", tol=1e-8
        )
        assert_allclose(run.parameters, dense.parameters, rtol=1e-5)
        expected = dense.predict(x, frame.exposure.to_numpy())
        assert_allclose(run.predict(data, offset="exposure"), expected, rtol=1e-5)
        several = dask_gd.fit(data, **model, target=["late", "other"])
        assert several.weights.output.values.tolist() == ["late", "other"]
        assert_allclose(
            several.weights.sel(output="late"), dask_gd.fit(data, **model, target="late").weights, rtol=1e-9
        )


def test_predictions_find_columns_by_name(flights, run):
    shuffled = flights[["dest", "late", "hour", "weight", "distance", "origin"]]
    assert_array_equal(run.predict(shuffled), run.predict(flights))
    with pytest.raises(InvalidArgumentError, match=r"predict: the frame has no column 'origin'"):
        run.predict(flights.drop(columns="origin"))


# Search and inference


def test_a_search_of_levels_is_that_of_their_indicators(flights):
    options = {"loss": "logistic", "alphas": [1e-3, 1e-1], "folds": 3}
    dense = dask_gd.search(indicators(flights), flights.late, **options)
    for frame in (flights, dd.from_pandas(flights, npartitions=1)):
        found = dask_gd.search(frame, features=FEATURES, target="late", **options)
        assert_allclose(found.scores, dense.scores, rtol=1e-8)
        run = found.refit(frame, features=FEATURES, target="late")
        assert_allclose(run.parameters, dense.refit(indicators(flights), flights.late).parameters, rtol=1e-6)
        assert_allclose(found.refit().predict(frame), run.predict(frame), rtol=1e-4)
    by_hour = dask_gd.search(flights, features=["origin"], target="late", groups="hour", alphas=[0.1], folds=3)
    assert by_hour.scores.shape == (1, 3)


def test_inference_without_a_penalty_has_reference_levels(flights):
    import statsmodels.formula.api as smf

    run = dask_gd.fit(flights, **MODEL, tol=1e-10)
    found = dask_gd.infer(run, flights)
    theirs = smf.logit("late ~ distance + hour + C(origin) + C(dest)", flights).fit(disp=0)
    for name in found.table.parameter.values:
        own = found.table.sel(parameter=name)
        column, _, level = str(name).partition("=")
        key = {"(intercept)": "Intercept"}.get(str(name), f"C({column})[T.{level}]" if level else column)
        assert_allclose(own.coefficient, theirs.params[key], rtol=1e-6, atol=1e-8)
        assert_allclose(own.standard_error, theirs.bse[key], rtol=1e-6)
    assert "origin=ATL" not in found.table.parameter.values
    assert "origin=BOS" in str(found)
    lazy = dd.from_pandas(flights, npartitions=3)
    source = dask_gd.open(lazy, features=FEATURES, target="late")
    for data in (lazy, source):
        assert_allclose(dask_gd.infer(run, data).covariance, found.covariance, rtol=1e-7)
    # Predictions are those of all levels.
    assert_allclose(run.predict(flights), theirs.predict(flights), rtol=1e-6)


def test_inference_takes_the_columns_of_the_fit(flights):
    frame = flights.assign(exposure=np.log(flights.weight))
    columns = {"sample_weight": "weight", "offset": "exposure"}
    run = dask_gd.fit(frame, features=["origin", "hour"], target="late", loss="poisson", **columns)
    found = dask_gd.infer(run, frame)
    names = run.weights.feature.values.tolist()
    x = pd.get_dummies(frame[["origin", "hour"]]).astype(float)[[name.replace("=", "_") for name in names]]
    beside = {"sample_weight": frame.weight, "offset": frame.exposure}
    dense = dask_gd.fit(x, frame.late, loss="poisson", **beside)
    assert_allclose(found.covariance, dask_gd.infer(dense, x, frame.late, **beside).covariance, rtol=1e-5)
    with pytest.raises(InvalidArgumentError, match=r"features: these are 'hour'; the fit had 'origin', 'hour'"):
        dask_gd.infer(run, frame, features=["hour"])


def test_without_an_intercept_the_first_factor_keeps_all_levels(flights):
    run = dask_gd.fit(flights, features=["origin", "dest"], target="distance", fit_intercept=False)
    names = run.weights.feature.values.tolist()
    assert names[:2] == ["origin=ATL", "origin=BOS"]
    assert names[-2:] == ["dest=ORD", "dest=SEA"]
    assert (dask_gd.infer(run, flights).table.standard_error > 0).all()
    # What is fitted is the same as with an intercept.
    other = dask_gd.fit(flights, features=["origin", "dest"], target="distance")
    assert_allclose(run.predict(flights), other.predict(flights), rtol=1e-8)


# Stores and files


def test_a_stored_fit_has_its_levels_and_goes_on(flights, tmp_path):
    options = dask_gd.Categories(["hour"], handle_unknown="ignore", min_frequency=40)
    model = {**MODEL, "categorical": options, "penalty": L2}
    run = dask_gd.fit(flights, **model)
    dask_gd.fit(flights, **model, store=tmp_path, max_iter=2)
    same_bits(dask_gd.fit(flights, **model, store=tmp_path), run)
    loaded = dask_gd.load(tmp_path)
    assert loaded.encoding == run.encoding
    frame = flights.assign(origin="elsewhere")
    assert_array_equal(loaded.predict(frame), run.predict(frame))
    # The same codes of other levels are other data.
    renamed = flights.assign(origin="x" + flights.origin)
    with pytest.raises(dask_gd.errors.StoreError, match="other"):
        dask_gd.fit(renamed, **model, store=tmp_path)


def test_parquet_is_opened_by_its_path_and_levels_of_row_groups_are_not_mixed_up(flights, run, tmp_path):
    pieces = [flights.iloc[i : i + 150] for i in range(0, N, 150)]
    (tmp_path / "parts").mkdir()
    for i in (0, 2):
        path = tmp_path / "parts" / f"{i}.parquet"
        # Dictionaries that are made for each row group alone.
        groups = [in_arrow(piece, lambda a: a.dictionary_encode()) for piece in pieces[i : i + 2]]
        with pq.ParquetWriter(path, groups[0].schema) as writer:
            for group in groups:
                writer.write_table(group)
    for path in (tmp_path / "parts", str(tmp_path / "parts" / "*.parquet")):
        source = dask_gd.open(path, features=FEATURES, target="late")
        assert source.shape == (N, 2 + 5 + 3)
        other = dask_gd.fit(source, loss="logistic", penalty=L2)
        assert other.encoding == run.encoding
        assert_allclose(other.parameters, run.parameters, rtol=1e-10)
    by_group = dd.read_parquet(tmp_path / "parts", split_row_groups=1)
    assert_allclose(dask_gd.fit(by_group, **MODEL, penalty=L2).parameters, run.parameters, rtol=1e-10)
    # New rows are read with the levels of the fit, and not with their own.
    later = flights[flights.origin != "ATL"]
    later.to_parquet(tmp_path / "later.parquet")
    predicted = other.predict(dd.read_parquet(tmp_path / "later.parquet"))
    assert_allclose(predicted, run.predict(later), rtol=1e-9)
    of_later = dask_gd.open(tmp_path / "later.parquet", features=FEATURES, target="late")
    with pytest.raises(InvalidArgumentError, match=r"'origin' has 4 levels.*Give the data frame itself"):
        other.predict(of_later)
    with pytest.raises(InvalidArgumentError, match="no such Parquet file"):
        dask_gd.open(tmp_path / "none.parquet", features=FEATURES, target="late")


def test_a_column_of_the_frame_that_is_not_asked_for_may_be_there_twice(flights, run):
    twice = flights.copy()
    twice.columns = [{"weight": "late"}.get(name, name) for name in flights.columns]
    assert_array_equal(run.predict(twice), run.predict(flights))
    numbers = dask_gd.fit(flights, features=["distance", "hour"], target="late")
    assert_array_equal(numbers.predict(twice), numbers.predict(flights))


# Estimators


def test_estimators_take_frames_as_scikit_learn_does(flights):
    x = flights[FEATURES]
    labels = np.where(flights.late == 1, "late", "on time")
    model = LogisticRegression().fit(x, labels)
    theirs = make_pipeline(
        make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["origin", "dest"]), remainder="passthrough"),
        Theirs(tol=1e-12, solver="newton-cholesky"),
    ).fit(x, labels)
    assert_allclose(model.predict_proba(x), theirs.predict_proba(x), rtol=1e-6)
    assert model.score(x, labels) == theirs.score(x, labels)
    assert model.n_features_in_ == theirs.n_features_in_ == 4
    assert_array_equal(model.feature_names_in_, theirs.feature_names_in_)
    assert model.coef_.shape == theirs[-1].coef_.shape
    # Some folds lack a level.
    lenient = LogisticRegression(categorical=dask_gd.Categories(handle_unknown="ignore"))
    assert_allclose(cross_val_score(lenient, x, labels), cross_val_score(theirs, x, labels))
    lazy = dd.from_pandas(x, npartitions=3)
    other = LogisticRegression().fit(lazy, da.from_array(labels, chunks=200))
    assert_allclose(other.coef_, model.coef_, rtol=1e-9)
    assert isinstance(other.predict(lazy), da.Array)
    assert_array_equal(other.predict(lazy), model.predict(x))
    # Other columns than those of the fit, by the same errors.
    for wrong in (x[FEATURES[::-1]], x[FEATURES[:3]], x.rename(columns={"origin": "from"})):
        with pytest.raises(ValueError, match="feature names should match"):
            model.predict(wrong)
        with pytest.raises(InvalidArgumentError, match=r"is named|features, but"):
            model.predict(dd.from_pandas(wrong, npartitions=1))
    with pytest.raises(InvalidTypeError, match=r"takes such frames; X is a ndarray"):
        model.predict(np.zeros((3, 4)))


def test_other_estimators_take_levels_too(flights):
    x, y = flights[FEATURES], flights.late
    dense = indicators(flights)
    assert_allclose(Ridge().fit(x, y).coef_, Ridge().fit(dense, y).coef_, rtol=1e-7, atol=1e-9)
    assert_allclose(LinearRegression().fit(x, y).predict(x), LinearRegression().fit(dense, y).predict(dense), rtol=1e-7)
    # A scale that is found has a fit without a penalty before those with one.
    distance = flights.distance + flights.hour
    huber, theirs = HuberRegressor(alpha=0.1).fit(x, distance), HuberRegressor(alpha=0.1).fit(dense, distance)
    assert_allclose(huber.predict(x), theirs.predict(dense), rtol=1e-5)
    assert len(HuberRegressor(alpha=0.0).fit(x, distance).coef_) == len(huber.coef_) - 2
    ours = LogisticRegressionCV(Cs=[1e-2, 1.0], cv=3).fit(x, y)
    assert_array_equal(ours.scores_, LogisticRegressionCV(Cs=[1e-2, 1.0], cv=3).fit(dense, y).scores_)
    by_hour = LogisticRegression(categorical=["hour"]).fit(x, y)
    assert by_hour.coef_.shape == (1, 1 + 6 + 5 + 3)
    with pytest.raises(InvalidTypeError, match=r"categorical=\['hour'\]\) is for data frames; X is a ndarray"):
        LogisticRegression(categorical=["hour"]).fit(dense.to_numpy(), y)
    # A fit that goes on has the levels of the first.
    model = SGDClassifier().partial_fit(x, y, classes=[0, 1]).partial_fit(x[:100], y[:100])
    assert model.coef_.shape == (1, 10)
    with pytest.raises(DataError, match="Column 'origin' has 'Q' in row 0"):
        model.partial_fit(x[:9].assign(origin="Q"), y[:9])
    assert LogisticRegression(warm_start=True).fit(x, y).fit(x, y).n_iter_ == 0


def test_columns_without_names_are_numbered(flights):
    x = flights[["distance", "origin"]]
    unnamed = x.set_axis([0, 1], axis=1)
    model = LogisticRegression().fit(unnamed, flights.late)
    assert_array_equal(model.coef_, LogisticRegression().fit(x, flights.late).coef_)
    assert not hasattr(model, "feature_names_in_")
    assert model.n_features_in_ == 2
    assert model.result_.weights.feature.values[1] == "1=ATL"
    assert_array_equal(model.predict(unnamed), LogisticRegression().fit(x, flights.late).predict(x))


# Bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": ["distance", "Origin"]}, r"features: the frame has no column 'Origin'; similar are 'origin'"),
        ({"features": []}, "give at least one column"),
        ({"features": ["origin", "origin"]}, "a column is named twice"),
        ({"features": ["origin", "late"]}, "'late' is the target"),
        ({"target": None}, r"needs a target: target='\.\.\.', the name of its column"),
        ({"target": "lateness"}, "target: the frame has no column 'lateness'"),
        ({"sample_weight": "heavy"}, "sample_weight: the frame has no column 'heavy'"),
        ({"sample_dims": "time"}, "is for an xarray.Dataset"),
        ({"categorical": ["weight"]}, "categorical: 'weight' is none of the features"),
        ({"categorical": 3}, "give the names of columns whose numbers are levels"),
    ],
)
def test_arguments_that_cannot_be_are_refused_before_a_task(change, message, flights):
    for frame in (flights, dd.from_pandas(flights, npartitions=2)):
        with (
            dask.config.set(scheduler=lambda *a, **k: pytest.fail("a task ran")),
            pytest.raises(InvalidArgumentError, match=message),
        ):
            dask_gd.fit(frame, **{**MODEL, **change})


def test_names_and_options_without_a_frame_are_refused(flights):
    x = flights[["distance", "hour"]].to_numpy()
    with pytest.raises(InvalidArgumentError, match=r"columns of a data frame .* the data is a ndarray"):
        dask_gd.fit(x, features=["distance"], target="late")
    with pytest.raises(InvalidArgumentError, match=r"categorical=\['hour'\] is for a data frame"):
        dask_gd.fit(x, flights.late, categorical=["hour"])
    with pytest.raises(InvalidArgumentError, match="y was given beside target='late'"):
        dask_gd.fit(flights, flights.late, target="late")
    twice = pd.concat([flights, flights.origin], axis=1)
    with pytest.raises(InvalidArgumentError, match="2 columns named 'origin'"):
        dask_gd.fit(twice, **MODEL)


@pytest.mark.parametrize("lazy", [False, True], ids=["pandas", "dask"])
def test_text_beside_numbers_is_refused_with_the_place_of_both(lazy, flights):
    frame = flights.assign(origin=[1, *flights.origin[1:]]).astype({"origin": object})
    with dask.config.set({"dataframe.convert-string": False}):
        if lazy:
            frame = dd.from_pandas(frame, npartitions=3)
        with pytest.raises(DataError, match=r"'origin' holds strings \('\w+' in row 1 .*\) and numbers \(1 in row 0"):
            dask_gd.fit(frame, **MODEL)


@pytest.mark.parametrize("lazy", [False, True], ids=["pandas", "dask"])
def test_a_missing_level_is_refused_by_its_place_or_dropped(lazy, flights):
    frame = flights.copy()
    frame.loc[[7, 500], "origin"] = None
    expected = dask_gd.fit(flights.drop(index=[7, 500]), **MODEL, penalty=L2)
    if lazy:
        frame = dd.from_pandas(frame, npartitions=3)
    with pytest.raises(NonFiniteError, match=r"nan in row (7|500), column 2 of 'x'.* \('origin'\)\. .*nan='drop'"):
        dask_gd.fit(frame, **MODEL)
    run = dask_gd.fit(frame, **MODEL, penalty=L2, nan="drop")
    assert run.dropped == 2
    assert_allclose(run.parameters, expected.parameters, rtol=1e-9)
    assert np.isnan(np.asarray(run.predict(frame))[[7, 500]]).all()


@pytest.mark.parametrize("lazy", [False, True], ids=["pandas", "dask"])
@pytest.mark.parametrize("lacks", ["distance", "dest", "late", "weight"])
def test_a_level_of_rows_that_are_left_out_is_none(lazy, lacks, flights):
    """It would be a reference that nothing is compared with, and leave the others undetermined."""
    frame = flights.astype({"late": float})
    is_out = (frame.origin == "ATL") | (frame.index % 7 == 0)
    frame.loc[is_out, lacks] = None
    model = {**MODEL, "sample_weight": "weight", "categorical": dask_gd.Categories(min_frequency=25)}
    kept = flights[~is_out]
    expected = dask_gd.fit(kept, **model)
    if lazy:
        frame = dd.from_pandas(frame, npartitions=3)
    run = dask_gd.fit(frame, **model, nan="drop")
    assert run.dropped == is_out.sum()
    assert run.encoding == expected.encoding
    assert_allclose(run.parameters, expected.parameters, rtol=1e-7)
    table = dask_gd.infer(run, frame, nan="drop").table
    assert_allclose(table.standard_error, dask_gd.infer(expected, kept).table.standard_error, rtol=1e-6)
    found = dask_gd.search(frame, **model, nan="drop", alphas=[0.1, 1.0], folds=3)
    roles = {"features": FEATURES, "target": "late", "sample_weight": "weight"}
    again = found.refit(frame, **roles, nan="drop")
    assert_allclose(again.parameters, found.refit().parameters, atol=1e-5)
    if lacks in FEATURES:
        assert_array_equal(np.isnan(np.asarray(run.predict(frame))), is_out)


def test_scalers_still_refuse_strings(flights):
    with pytest.raises(InvalidTypeError, match="columns 'origin'"):
        StandardScaler().fit(flights[FEATURES])


def test_the_result_shows_levels_by_name(flights, run):
    assert "origin=BOS" in run._repr_html_()
    source = dask_gd.open(flights, features=FEATURES, target="late")
    assert "columns of a data frame" in repr(source)
    assert source.plan().bytes_read == 5 * 8 * N


# Interactions


def test_an_interaction_has_the_combinations_that_occur(flights):
    pairs = flights.assign(pair=flights.origin + ":" + flights.dest)
    expected = dask_gd.fit(pairs, features=["distance", "pair"], target="late", loss="logistic", penalty=L2)
    for frame in (
        flights,
        KINDS["category"](flights),
        KINDS["table of dictionaries"](flights),
        KINDS["objects"](flights),
    ):
        run = dask_gd.fit(frame, features=["distance", "origin:dest"], target="late", loss="logistic", penalty=L2)
        assert_array_equal(run.parameters, expected.parameters)
        assert run.weights.feature.values[1] == "origin:dest=ATL:LAX"
        assert_array_equal(run.predict(flights[["dest", "distance", "origin"]]), expected.predict(pairs))
    lazy = dd.from_pandas(flights, npartitions=3)
    of_hours = dask_gd.fit(
        lazy,
        features=["dest:hour", "hour"],
        target="late",
        categorical=["hour"],
        penalty=L2,
    )
    assert of_hours.weights.sizes["feature"] == 3 * 6 + 6
    with pytest.raises(DataError, match="Column 'dest:hour' has 'LAX:9' in row 0"):
        of_hours.predict(flights.assign(dest="LAX", hour=9))
    with pytest.raises(InvalidArgumentError, match="an interaction is named twice"):
        dask_gd.fit(flights, features=["origin:dest", "dest:origin"], target="late")
    with pytest.raises(InvalidArgumentError, match=r"'dest:hour' is an interaction .* categorical=\['hour'\]"):
        dask_gd.fit(lazy, features=["dest:hour"], target="late")
    with pytest.raises(InvalidArgumentError, match="no column 'hours'"):
        dask_gd.fit(lazy, features=["dest:hours"], target="late")


def test_names_of_combinations_cannot_be_taken_for_each_other():
    data = pd.DataFrame({"a": ["x:y", "x", "x", None], "b": ["z", "y:z", "y", "z"], "y": [1.0, 2.0, 3.0, 4.0]})
    run = dask_gd.fit(data, features=["a:b"], target="y", nan="drop", penalty=dask_gd.L2(1e-9))
    assert run.dropped == 1
    assert run.weights.sizes["feature"] == 3
    assert_allclose(run.predict(data)[:3], [1.0, 2.0, 3.0], rtol=1e-6)
    # A column of that name is itself.
    assert dask_gd.open(data.assign(**{"a:b": [1, 2, 3, 4]}), features=["a:b"], target="y").x.encoding is None
