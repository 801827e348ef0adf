"""The options of factors do what scikit-learn's OneHotEncoder does, where the names are its own."""

import warnings

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.preprocessing import OneHotEncoder

import dask_gd
from dask_gd import Categories
from dask_gd.callbacks import EarlyStopping
from dask_gd.errors import DataError, InvalidArgumentError, InvalidTypeError
from dask_gd.estimators import SGDRegressor

N = 300
L2 = dask_gd.L2(1e-2)


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(1)
    counts = {"a": 120, "b": 90, "c": 40, "d": 30, "e": 15, "f": 5}
    level = rng.permutation(np.repeat(list(counts), list(counts.values())))
    data = pd.DataFrame({"level": level, "x": rng.normal(size=N), "hour": rng.integers(0, 3, N)})
    data["y"] = data.level.map({"a": 1.0, "b": 2.0, "c": -1.0, "d": 0.5, "e": 3.0, "f": -2.0}) + rng.normal(size=N)
    return data


def fitted(frame, categories, **options):
    options = {"features": ["level", "x"], "target": "y", "penalty": L2, **options}
    return dask_gd.fit(frame, categorical=categories, **options)


def both(frame):
    return frame, dd.from_pandas(frame, npartitions=4)


@pytest.mark.parametrize("least", [1, 20, 41, 0.1, 0.35, 1000])
@pytest.mark.parametrize("missing", [False, True])
def test_rare_levels_are_pooled_as_scikit_learn_pools_them(least, missing, frame):
    data = frame.copy()
    if missing:
        data.loc[data.index[:12], "level"] = None
    if least == 1000:
        with pytest.raises(DataError, match="'level' has a single level, 'infrequent'"):
            fitted(data, Categories(min_frequency=least, missing="level"))
        return
    encoder = OneHotEncoder(min_frequency=least, sparse_output=False)
    indicators = encoder.fit_transform(data[["level"]])
    names = [name.removeprefix("level_") for name in encoder.get_feature_names_out()]
    names = [
        {"infrequent_sklearn": "infrequent", "nan": "missing", "None": "missing"}.get(name, name) for name in names
    ]
    dense = dask_gd.fit(np.column_stack([indicators, data.x]), data.y.to_numpy(), penalty=L2)
    for each in both(data):
        run = fitted(each, Categories(min_frequency=least, missing="level"))
        assert run.weights.feature.values.tolist() == [*(f"level={name}" for name in names), "x"]
        assert_allclose(run.parameters, dense.parameters, rtol=1e-7)
        assert_allclose(run.predict(each), dense.predict(np.column_stack([indicators, data.x])), rtol=1e-7)


@pytest.mark.parametrize("drop", [None, "first"])
@pytest.mark.parametrize("least", [None, 20])
@pytest.mark.parametrize("handle", ["ignore", "infrequent_if_exist"])
def test_unknown_levels_have_the_indicators_that_scikit_learn_gives_them(handle, least, drop, frame):
    encoder = OneHotEncoder(min_frequency=least, handle_unknown=handle, drop=drop, sparse_output=False)
    indicators = encoder.fit_transform(frame[["level"]])
    dense = dask_gd.fit(np.column_stack([indicators, frame.x]), frame.y.to_numpy(), penalty=L2)
    later = pd.DataFrame({"level": ["a", "new", "f", "b", "newer"], "x": np.arange(5.0)})
    with warnings.catch_warnings():
        # It says that unknown levels are those that are dropped.
        warnings.simplefilter("ignore")
        later_rows = np.column_stack([encoder.transform(later[["level"]]), later.x])
    for each in both(frame):
        run = fitted(each, Categories(min_frequency=least, handle_unknown=handle, drop=drop))
        for rows in (later, dd.from_pandas(later, npartitions=2)):
            assert_allclose(run.predict(rows), dense.predict(later_rows), rtol=1e-7)


def test_an_unknown_level_is_refused_by_its_name_column_and_row(frame):
    run = fitted(frame, None)
    later = pd.DataFrame({"level": ["a", "new"], "x": [0.0, 1.0]}, index=[10, 11])
    message = r"Column 'level' has 'new' in row 1 \(index 11\), which is none of its levels 'a', 'b'.* and 1 more\. Fit"
    with pytest.raises(DataError, match=message):
        run.predict(later)
    lazy = run.predict(dd.from_pandas(later, npartitions=1))
    with pytest.raises(DataError, match=r"'new' in row 1 \(index 11\) of its partition"):
        lazy.compute()
    # A category that no row has is none.
    unused = later.assign(level=pd.Categorical(["a", "b"], ["a", "b", "new"]))
    assert np.isfinite(run.predict(unused)).all()


LENIENT = [
    ("ignore", None, None),
    ("ignore", "first", None),
    ("infrequent_if_exist", None, 20),
    ("infrequent_if_exist", "first", 20),
]


@pytest.mark.parametrize("lazy", [False, True], ids=["pandas", "dask"])
@pytest.mark.parametrize(("handle", "drop", "least"), LENIENT)
def test_rows_that_are_read_after_a_fit_may_have_the_unknown_levels_of_a_prediction(handle, drop, least, lazy, frame):
    """As partial_fit, EarlyStopping and infer read them."""
    options = Categories(handle_unknown=handle, drop=drop, min_frequency=least)
    encoder = OneHotEncoder(handle_unknown=handle, drop=drop, min_frequency=least, sparse_output=False)
    encoder.fit(frame[["level"]])
    later = frame.assign(level=frame.level.where(np.arange(N) % 7 > 0, "new"))
    parts = [frame, later]
    given = [both(part)[lazy] for part in parts]
    with warnings.catch_warnings():
        # scikit-learn says which columns have unknown levels.
        warnings.simplefilter("ignore")
        dense = [np.column_stack([encoder.transform(part[["level"]]), part.x]) for part in parts]

    # A later part of the rows.
    model = SGDRegressor(categorical=options)
    peer = SGDRegressor()
    for part, x, data in zip(given, dense, parts, strict=True):
        model.partial_fit(part[["level", "x"]], part.y)
        if lazy:
            x = da.from_array(x, chunks=(N // 4, -1))
        peer.partial_fit(x, data.y.to_numpy() if not lazy else da.from_array(data.y.to_numpy(), chunks=N // 4))
    assert_allclose(model.coef_, peer.coef_, rtol=1e-7)
    assert_allclose(model.predict(later[["level", "x"]]), peer.predict(dense[1]), rtol=1e-7)

    # Rows held out.
    held_out = EarlyStopping(given[1], target="y", features=["level", "x"])
    run = fitted(given[0], options, callbacks=[held_out])
    assert held_out.losses[-1] == pytest.approx(((run.predict(later) - later.y) ** 2).mean() / 2)

    # The rows of a fit without a penalty, and others without weight.
    if drop == "first":
        run = fitted(given[0], options, penalty=None)
        rows = pd.concat([frame, later]).assign(weight=np.repeat([1.0, 0.0], N))
        found = dask_gd.infer(run, both(rows)[lazy], sample_weight="weight")
        assert_allclose(found.covariance, dask_gd.infer(run, given[0]).covariance, rtol=1e-7)


@pytest.mark.parametrize("handle", ["error", "ignore"])
def test_numbers_are_never_levels_of_strings_nor_strings_of_numbers(handle, frame):
    options = Categories(["hour"], handle_unknown=handle)
    of_numbers = fitted(frame, options, features=["hour", "x"])
    of_text = fitted(frame.astype({"hour": str}), Categories(handle_unknown=handle), features=["hour", "x"])
    assert_array_equal(of_numbers.parameters, of_text.parameters)
    assert of_numbers.weights.feature.values.tolist() == of_text.weights.feature.values.tolist()
    with pytest.raises(DataError, match="Strings and numbers are never the same level"):
        of_numbers.predict(frame.astype({"hour": str}))
    with pytest.raises(DataError, match="Strings and numbers are never the same level"):
        of_text.predict(frame)


@pytest.mark.parametrize("kind", ["float", "Int64", "bool", "category", "object", "int8", "double[pyarrow]"])
def test_equal_numbers_are_the_same_level_whatever_their_dtype(kind, frame):
    values = (frame.hour > 0).astype(int)
    run = fitted(frame.assign(hour=values), ["hour"], features=["hour", "x"])
    assert run.weights.feature.values.tolist() == ["hour=0", "hour=1", "x"]
    other = frame.assign(hour=values.astype(kind))
    again = fitted(other, ["hour"], features=["hour", "x"])
    assert_array_equal(again.parameters, run.parameters)
    assert_array_equal(run.predict(other), run.predict(frame.assign(hour=values)))
    assert_array_equal(again.predict(frame.assign(hour=values)), run.predict(frame.assign(hour=values)))


def test_zeros_of_either_sign_and_fractions_are_levels(frame):
    values = np.where(np.arange(N) % 2, -0.0, 0.0)
    values[:50] = 0.5
    run = fitted(frame.assign(hour=values), ["hour"], features=["hour", "x"])
    assert run.weights.feature.values.tolist() == ["hour=0", "hour=0.5", "x"]
    booleans = fitted(frame.assign(hour=frame.hour > 1), ["hour"], features=["hour", "x"])
    assert booleans.weights.feature.values.tolist() == ["hour=False", "hour=True", "x"]
    # Without being named they are numbers.
    assert fitted(frame.assign(hour=frame.hour > 1), None, features=["hour", "x"]).encoding is None
    large = frame.assign(hour=np.where(frame.hour > 1, 2**60, 2**60 + 1))
    assert fitted(large, ["hour"], features=["hour"]).weights.sizes["feature"] == 2


def test_numbers_with_gaps_are_the_same_levels_as_without(frame):
    data = frame.copy()
    data.loc[:20, "hour"] = np.nan
    run = fitted(data, ["hour"], features=["hour", "x"], nan="drop")
    assert run.weights.feature.values.tolist() == ["hour=0", "hour=1", "hour=2", "x"]
    assert run.dropped == 21
    assert np.isfinite(run.predict(frame)).all()


def test_the_reference_level_follows_from_the_penalty_unless_it_is_told(frame):
    def levels(categories, **options):
        names = fitted(frame, categories, **options).weights.feature.values.tolist()
        return [name.removeprefix("level=") for name in names[:-1]]

    assert levels(None) == list("abcdef")
    assert levels(None, penalty=None) == list("bcdef")
    assert levels(Categories(drop="first")) == list("bcdef")
    assert levels(Categories(drop=None), penalty=None) == list("abcdef")
    assert levels(None, penalty=None, fit_intercept=False) == list("abcdef")
    source = dask_gd.open(frame, features=["level", "x"], target="y")
    assert dask_gd.fit(source).weights.sizes["feature"] == 6
    assert dask_gd.fit(source, penalty=L2).weights.sizes["feature"] == 7
    # All ways without a penalty predict the same, and the coefficients of all levels are finite.
    expected = fitted(frame, None, penalty=None).predict(frame)
    for options in ({"categories": Categories(drop=None)}, {"categories": None, "fit_intercept": False}):
        run = fitted(frame, penalty=None, **options)
        assert np.isfinite(run.parameters).all()
        assert_allclose(run.predict(frame), expected, rtol=1e-6)
    run = fitted(frame, Categories(drop=None), penalty=None)
    with pytest.raises(InvalidArgumentError, match=r"do not determine the coefficients of level=a, level=b"):
        dask_gd.infer(run, frame)


def test_levels_in_one_partition_only_are_found(frame):
    ordered = frame.sort_values("level")
    run = fitted(ordered, None)
    lazy = dd.from_pandas(ordered.reset_index(drop=True), npartitions=6)
    other = fitted(lazy, None)
    assert other.encoding == run.encoding
    assert_allclose(other.parameters, run.parameters, rtol=1e-9)


@settings(max_examples=10)
@given(st.lists(st.sampled_from(["x", "y", "z", "", "ä", "missing"]), min_size=12, max_size=12), st.integers(1, 5))
def test_levels_are_those_that_occur_in_order_whatever_the_partitions(values, partitions):
    data = pd.DataFrame({"level": values, "y": np.arange(12.0)})
    if len(set(values)) == 1:
        with pytest.raises(DataError, match="a single level"):
            dask_gd.open(data, target="y")
        return
    [column] = dask_gd.open(data, target="y").x.encoding.columns
    assert list(column.levels) == sorted(set(values))
    [of_lazy] = dask_gd.open(dd.from_pandas(data, npartitions=partitions), target="y").x.encoding.columns
    assert of_lazy == column


# Bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"handle_unknown": "drop"}, "handle_unknown='drop'.*'ignore'"),
        ({"missing": "ignore"}, "missing='ignore'.*'level'"),
        ({"drop": "last"}, "drop='last'.*'auto', 'first', None"),
        ({"min_frequency": 0}, "min_frequency=0"),
        ({"min_frequency": 1.5}, "min_frequency=1.5"),
        ({"min_frequency": True}, "min_frequency=True"),
        ({"min_frequency": "rare"}, "min_frequency='rare'"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        Categories(**options)


def test_columns_that_are_no_factors_are_refused_by_name(frame):
    with pytest.raises(DataError, match="'level' has a single level, 'a'"):
        fitted(frame.assign(level="a"), None)
    with pytest.raises(DataError, match="'level' has no level, all of its values are missing"):
        fitted(frame.assign(level=pd.Series([None] * N, dtype="str")), None)
    dates = frame.assign(level=pd.Categorical(pd.date_range("2000", periods=N)))
    with pytest.raises(InvalidTypeError, match=r"'level' holds Timestamp '2000-01-01.* in row 0 .*a number of time"):
        fitted(dates, None)
    with pytest.raises(InvalidTypeError, match="'x' holds float 'inf' in row 3"):
        fitted(frame.assign(x=frame.x.where(frame.index != 3, np.inf)), ["x"])
    with pytest.raises(InvalidTypeError, match="'level' holds tuple"):
        fitted(frame.assign(level=pd.Categorical([(1, 2), (3, 4)] * (N // 2))), None)
    with pytest.raises(DataError, match=r"'level' holds strings .* and numbers"):
        fitted(frame.assign(level=pd.Categorical([1, "a"] * (N // 2))), None)


def test_coefficients_of_other_levels_are_no_start(frame):
    run = fitted(frame, None)
    assert fitted(frame, None, initial_weights=run).n_iter == 0
    other = frame.assign(level=frame.level.replace("a", "z"))
    with pytest.raises(InvalidArgumentError, match=r"initial_weights: column 'level' has 6 levels.* code 0 is 'b'"):
        fitted(other, None, initial_weights=run)


def test_names_that_cannot_be_told_apart_are_refused(frame):
    with pytest.raises(DataError, match="Two features are named 'level=a'"):
        fitted(frame.assign(**{"level=a": 1.0}), None, features=["level", "level=a"])
    gaps = frame.assign(level=frame.level.replace("a", "missing"))
    gaps.loc[0, "level"] = None
    with pytest.raises(DataError, match="Two features are named 'level=missing'"):
        fitted(gaps, Categories(missing="level"))
    rare = frame.assign(level=frame.level.replace("a", "infrequent"))
    with pytest.raises(DataError, match="has a level named 'infrequent'"):
        fitted(rare, Categories(min_frequency=20))


@pytest.mark.parametrize("kind", ["pandas", "dask"])
def test_a_table_that_is_written_is_the_frame(kind, tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"a": rng.normal(size=400), "b": rng.choice(["x", "y", "z"], 400), "h": rng.integers(0, 200, 400)}
    )
    frame["y"] = frame.a + (frame.b == "z") + 0.01 * frame.h
    given = frame if kind == "pandas" else dd.from_pandas(frame, npartitions=3)
    path = dask_gd.write_table(given, tmp_path / "t.zarr", categorical=["h"])
    group = zarr.open_group(path, mode="r")
    assert (group["b"].dtype, group["h"].dtype) == (np.int8, np.int16)
    options = {"penalty": dask_gd.L2(1e-3), "tol": 1e-9}
    expected = dask_gd.fit(frame, features=["a", "b", "h"], target="y", categorical=["h"], **options)
    run = dask_gd.fit(dask_gd.open(path, x=["a", "b", "h"], y="y"), **options)
    assert run.weights.feature.values.tolist() == expected.weights.feature.values.tolist()
    assert_allclose(run.weights, expected.weights, atol=1e-8)


def test_missing_values_are_written_as_such_or_as_a_level(tmp_path):
    frame = pd.DataFrame({"b": ["x", "y", None, "x"] * 20, "y": np.arange(80.0)})
    plain = zarr.open_group(dask_gd.write_table(frame, tmp_path / "plain"), mode="r")
    assert plain["b"][:4].tolist() == [0, 1, -1, 0]
    options = dask_gd.Categories(missing="level")
    level = zarr.open_group(dask_gd.write_table(frame, tmp_path / "level", categorical=options), mode="r")
    assert level["b"].attrs["levels"] == ["x", "y", "missing"]
    for refused in (
        lambda: dask_gd.write_table(frame, tmp_path / "plain"),
        lambda: dask_gd.write_table([1], tmp_path / "l"),
    ):
        with pytest.raises(dask_gd.DaskGDError):
            refused()
    assert not (tmp_path / "l").exists()
