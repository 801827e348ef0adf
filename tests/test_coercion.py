"""Every kind of column gives what its numbers in float64 give, at every entrance; or is refused by its name."""

import functools

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import zarr
from numpy.testing import assert_allclose, assert_array_equal

import dask_gd
from dask_gd.errors import DataError, InvalidTypeError, NonFiniteError
from dask_gd.estimators import LogisticRegression, PoissonRegressor, Ridge
from dask_gd.preprocessing import OneHotEncoder, StandardScaler
from dask_gd.sources.coercion import labels, numbers

N = 120
PARTITIONS = 3


def arrow(values, kind=None) -> pd.Series:
    """Return a pandas column of one of Arrow's types."""
    return pd.Series(pd.arrays.ArrowExtensionArray(pa.array(values, kind)))


def dictionary(values) -> pd.Series:
    return pd.Series(pd.arrays.ArrowExtensionArray(pa.array(values).dictionary_encode()))


#: Columns of whole numbers, from a list in which None is missing.
NUMBERS = {
    "Int64": lambda v: pd.Series(v, dtype="Int64"),
    "Int8": lambda v: pd.Series(v, dtype="Int8"),
    "Float64": lambda v: pd.Series(v, dtype="Float64"),
    "arrow int": lambda v: arrow(v, pa.int64()),
    "arrow float": lambda v: arrow(v, pa.float64()),
    "arrow decimal": lambda v: arrow(v, pa.decimal128(9, 2)),
    "arrow dictionary": dictionary,
    "category": lambda v: pd.Series(v, dtype=object).astype("category"),
    "category of int": lambda v: pd.Series(pd.Categorical(v)),
    "object": lambda v: pd.Series(v, dtype=object),
}
#: Those whose values are numbers, and no levels, where they are features.
FEATURES = {kind: made for kind, made in NUMBERS.items() if not kind.startswith(("category", "arrow dictionary"))}
KINDS_OF_LABELS = {
    "Int64": lambda y: pd.Series(y, dtype="Int64"),
    "boolean": lambda y: pd.Series(y, dtype="Int64").astype("boolean"),
    "arrow int": lambda y: arrow(y, pa.int64()),
    "arrow bool": lambda y: arrow(y == 1, pa.bool_()),
    "category": lambda y: pd.Series(y).astype("category"),
    "str": lambda y: pd.Series(word(y)),
    "string": lambda y: pd.Series(word(y), dtype="string"),
    "arrow string": lambda y: arrow(word(y), pa.string()),
    "arrow dictionary": lambda y: dictionary(word(y)),
    "category of str": lambda y: pd.Series(word(y)).astype("category"),
    "StringDType": lambda y: word(y).astype(np.dtypes.StringDType()),
    "fixed strings": lambda y: word(y),
    "objects": lambda y: word(y).astype(object),
    "numbers as objects": lambda y: y.astype(object),
    "bool": lambda y: y == 1,
    "float32": lambda y: y.astype("f4"),
}


def word(y):
    return np.where(y == 1, "yes", "no")


@pytest.fixture(autouse=True)
def objects_stay_objects():
    # Dask's default makes text of them.
    with dask.config.set({"dataframe.convert-string": False}):
        yield


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    x = rng.integers(-9, 9, (N, 2)).astype(float)
    return x, x[:, 0] + rng.normal(size=N), rng.integers(1, 4, N).astype(float)


@pytest.fixture(scope="module")
def fit_of_codes(problem):
    x, y, _ = problem
    codes = (y > 0).astype(int)
    return functools.cache(lambda lazy: LogisticRegression().fit(in_dask(x) if lazy else x, codes))


def frame_of(kind, x):
    return pd.DataFrame({name: NUMBERS[kind](x[:, j].astype(int).tolist()) for j, name in enumerate("ab")})


def in_dask(data):
    """Return a Dask frame, Series or array of what is in memory."""
    if isinstance(data, pd.DataFrame | pd.Series):
        return dd.from_pandas(data, npartitions=PARTITIONS)
    return da.from_array(data, chunks=N // PARTITIONS)


@pytest.mark.parametrize("kind", FEATURES)
def test_features_of_any_kind_give_the_bits_of_float64_found_17(kind, problem):
    x, y, weight = problem
    frame, plain = frame_of(kind, x), dask_gd.fit(x, y, sample_weight=weight)
    run = dask_gd.fit(frame, y, sample_weight=weight)
    assert_array_equal(run.weights.values, plain.weights.values)
    assert run.weights.feature.values.tolist() == ["a", "b"]
    assert_array_equal(run.predict(frame), plain.predict(x))
    assert_array_equal(dask_gd.infer(run, frame, y, weight).covariance, dask_gd.infer(plain, x, y, weight).covariance)
    model, expected = Ridge().fit(frame, y, weight), Ridge().fit(x, y, weight)
    assert_array_equal(model.coef_, expected.coef_)
    assert model.score(frame, y) == expected.score(x, y)


@pytest.mark.parametrize("kind", FEATURES)
def test_lazy_features_of_any_kind_give_the_bits_of_float64_found_17(kind, problem):
    x, y, weight = problem
    lazy = in_dask(frame_of(kind, x))
    plain = da.from_array(x, chunks=(tuple(lazy.map_partitions(len).compute()), 2))
    assert_array_equal(dask_gd.fit(lazy, y).weights.values, dask_gd.fit(plain, y).weights.values)
    assert_array_equal(Ridge().fit(lazy, y, weight).coef_, Ridge().fit(plain, y, weight).coef_)
    assert_array_equal(StandardScaler().fit(lazy).mean_, StandardScaler().fit(plain).mean_)


@pytest.mark.parametrize("lazy", [False, True], ids=["pandas", "dask"])
@pytest.mark.parametrize("kind", NUMBERS)
def test_targets_weights_and_offsets_of_any_kind_found_17(kind, lazy, problem):
    x, _, weight = problem
    counts = (x[:, 0] > 0).astype(float) + 1

    def column(values):
        made = NUMBERS[kind](values.astype(int).tolist())
        return in_dask(made) if lazy else made

    rows = in_dask(x) if lazy else x
    plain = dask_gd.fit(rows, counts, loss="poisson", sample_weight=weight, offset=counts)
    run = dask_gd.fit(rows, column(counts), loss="poisson", sample_weight=column(weight), offset=column(counts))
    assert_array_equal(run.weights.values, plain.weights.values)
    model, expected = PoissonRegressor(), PoissonRegressor()
    model.fit(rows, column(counts), column(weight), offset=column(counts))
    expected.fit(rows, counts, weight, offset=counts)
    assert_allclose(model.coef_, expected.coef_, rtol=1e-12)
    score = model.score(rows, column(counts), column(weight), offset=column(counts))
    assert_allclose(score, expected.score(rows, counts, weight, offset=counts), rtol=1e-12)


@pytest.mark.parametrize("lazy", [False, True], ids=["memory", "lazy"])
@pytest.mark.parametrize("kind", KINDS_OF_LABELS)
def test_classes_and_predictions_are_those_of_scikit_learn_for_labels_of_any_kind_found_17(
    kind, lazy, problem, fit_of_codes
):
    from sklearn.linear_model import LogisticRegression as Theirs

    x, y, _ = problem
    codes = (y > 0).astype(int)
    given = KINDS_OF_LABELS[kind](codes)
    rows, column = (in_dask(x), in_dask(given)) if lazy else (x, given)
    model, plain = LogisticRegression().fit(rows, column), fit_of_codes(lazy)
    if kind not in ("StringDType", "numbers as objects"):  # which scikit-learn refuses
        theirs = Theirs().fit(x, given)
        assert model.classes_.dtype == theirs.classes_.dtype
        assert_array_equal(model.classes_, theirs.classes_)
    assert_array_equal(model.coef_, plain.coef_)
    assert_array_equal(np.asarray(model.predict(rows)), model.classes_[np.asarray(plain.predict(rows))])
    assert model.score(rows, column) == plain.score(rows, codes)


@pytest.mark.parametrize("lazy", [False, True], ids=["memory", "lazy"])
@pytest.mark.parametrize("kind", ["boolean", "arrow dictionary"])
@pytest.mark.parametrize("weights", ["balanced", (1.0, 2.0)], ids=str)
def test_class_weights_of_labels_of_any_kind(weights, kind, lazy, problem):
    x, y, weight = problem
    codes = (y > 0).astype(int)
    given = KINDS_OF_LABELS[kind](codes)
    rows, column = (in_dask(x), in_dask(given)) if lazy else (x, given)

    def fitted(y, classes):
        each = weights if weights == "balanced" else dict(zip(classes, weights, strict=True))
        return LogisticRegression(class_weight=each, max_iter=3, tol=1.0).fit(rows, y, weight)

    names = np.unique(labels(given, "y")).tolist()
    assert_array_equal(fitted(column, names).coef_, fitted(codes, [0, 1]).coef_)


def test_categories_that_dask_does_not_know_yet_are_their_values(problem):
    x, y, _ = problem
    codes = pd.Series((y > 0).astype(int)).astype("category")
    unknown = in_dask(codes).cat.as_unknown()
    assert LogisticRegression().fit(in_dask(x), unknown).classes_.dtype == int


def test_strings_in_zarr_are_labels(tmp_path, problem):
    x, y, _ = problem
    group = zarr.open_group(tmp_path / "g.zarr", mode="w")
    rows = group.create_array("x", data=x, chunks=(40, 2))
    column = zarr.create_array(
        tmp_path / "y.zarr", shape=(N,), chunks=(40,), dtype=np.dtypes.StringDType(), zarr_format=2
    )
    column[:] = word(y > 0)
    model = LogisticRegression().fit(rows, column)
    assert model.classes_.tolist() == ["no", "yes"]
    assert model.score(rows, column) == LogisticRegression().fit(x, word(y > 0)).score(x, word(y > 0))


@pytest.mark.parametrize("lazy", [False, True], ids=["pandas", "dask"])
@pytest.mark.parametrize("kind", FEATURES)
def test_missing_values_are_nan_and_never_a_level_faults_62(kind, lazy, problem):
    x, y, _ = problem
    gaps = x[:, 0].astype(int).tolist()
    gaps[5] = gaps[50] = None
    frame = pd.DataFrame({"a": NUMBERS[kind](gaps), "b": x[:, 1]})
    frame = in_dask(frame) if lazy else frame
    with pytest.raises(NonFiniteError, match="nan in row 5"):
        dask_gd.fit(frame, y)
    run = dask_gd.fit(frame, y, nan="drop")
    assert run.dropped == 2
    kept = np.delete(np.arange(N), [5, 50])
    assert_allclose(run.weights, dask_gd.fit(x[kept], y[kept]).weights, rtol=1e-12)
    column = frame["a"]
    assert dask_gd.fit(x, column, nan="drop").dropped == 2
    with pytest.raises(NonFiniteError, match="nan in row 5"):
        dask_gd.fit(x, y, sample_weight=column)


@pytest.mark.parametrize("lazy", [False, True], ids=["memory", "lazy"])
@pytest.mark.parametrize("kind", ["Int64", "str", "string", "arrow dictionary", "category of str", "objects"])
def test_rows_without_a_label_are_refused_faults_62(kind, lazy, problem):
    x, y, _ = problem
    column = pd.Series(KINDS_OF_LABELS[kind]((y > 0).astype(int)))
    column[7] = None
    rows, column = (in_dask(x), in_dask(column)) if lazy else (x, column)
    with pytest.raises((InvalidTypeError, ValueError), match=r"no label|NaN"):
        LogisticRegression().fit(rows, column)


Y = np.ones(N)
RUN = dask_gd.fit(np.eye(3), np.ones(3))
ENTRANCES = {
    "fit": lambda frame: dask_gd.fit(frame, Y),
    "search": lambda frame: dask_gd.search(frame, Y, alphas=[1.0]),
    "infer": lambda frame: dask_gd.infer(RUN, frame, Y),
    "predict": lambda frame: RUN.predict(frame),
    "Ridge": lambda frame: Ridge().fit(frame, Y),
    "StandardScaler": lambda frame: StandardScaler().fit(frame),
    "OneHotEncoder": lambda frame: OneHotEncoder(columns=["a"]).fit(frame),
}
#: Columns that hold no numbers, and what the message says of each.
NONE = {
    "when": (pd.date_range("2000", periods=N), r"datetime64\[\w+\]"),
    "span": (pd.to_timedelta(np.arange(N), "D"), r"timedelta64\[\w+\]"),
    "who": (np.array(["x"] * N), "str(ing)?"),
    "arrow": (arrow(["1"] * N), "string.*"),
    "level": (pd.Categorical(["x"] * N), "category of (str|object)"),
    "z": (np.ones(N) + 1j, "complex128"),
}


#: Entrances at which strings are levels.
OF_LEVELS = ("fit", "search", "infer", "Ridge")


@pytest.mark.parametrize("lazy", [False, True], ids=["pandas", "dask"])
@pytest.mark.parametrize("entrance", ENTRANCES)
def test_columns_that_hold_no_numbers_are_refused_by_name_before_a_task_found_24(entrance, lazy):
    frame = pd.DataFrame({"a": np.arange(N), "when": NONE["when"][0], "who": NONE["who"][0]})
    frame = in_dask(frame.astype({"who": "string"})) if lazy else frame
    refused = r"[xX]: columns 'when' \(datetime.*\) and 'who' \(str(ing)?\) hold no"
    if entrance in OF_LEVELS:
        refused = r"x: column 'when' \(datetime.*\) holds no"
    with (
        dask.config.set(scheduler=lambda *a, **k: pytest.fail("a task ran")),
        pytest.raises(InvalidTypeError, match=refused),
    ):
        ENTRANCES[entrance](frame)


@pytest.mark.parametrize("name", NONE)
def test_each_refused_kind_has_its_remedy_found_24(name):
    values, kind = NONE[name]
    frame = pd.DataFrame({"a": np.arange(N), name: values})
    remedies = {"when": "number of time", "span": "Divide by a unit", "z": "imaginary"}
    with pytest.raises(InvalidTypeError, match=rf"X: column '{name}' \({kind}\).*{remedies.get(name, 'Encode')}"):
        StandardScaler().fit(frame)
    if name in remedies:
        with pytest.raises(InvalidTypeError, match=rf"x: column '{name}' \({kind}\).*{remedies[name]}"):
            dask_gd.fit(frame, np.ones(N))
    with pytest.raises(InvalidTypeError, match=f"y has dtype.*{remedies.get(name, 'classifiers')}"):
        dask_gd.fit(np.ones((N, 1)), frame[name])


@pytest.mark.parametrize("lazy", [False, True], ids=["memory", "lazy"])
@pytest.mark.parametrize("value", ["1.5", b"1", 1j, [2], pd.NaT, 10**400], ids=repr)
def test_objects_that_are_no_numbers_are_refused_with_their_column(value, lazy):
    x = np.ones((N, 2), object)
    x[7, 1] = value
    with pytest.raises((InvalidTypeError, DataError), match=r"column 1 \(object: .* at position"):
        dask_gd.fit(in_dask(x) if lazy else x, np.ones(N))
    if not lazy:
        mixed = r"'b' holds strings \('1.5' in row 7 .* and numbers"
        with pytest.raises((InvalidTypeError, DataError), match=rf"column 'b' \(object: .* at position 7|{mixed}"):
            dask_gd.fit(pd.DataFrame(x, columns=["a", "b"]), np.ones(N))


def test_a_float32_column_stays_float32():
    for kind in ("Float32", "float32", "float[pyarrow]"):
        column = pd.Series([1.0, 2.0], dtype=kind)
        assert numbers(column, "y").dtype == np.float32
        assert numbers(pd.DataFrame({"a": column, "b": [True, False]}), "x").dtype == np.float32
    assert numbers(pd.DataFrame({"a": column, "b": pd.array([1, 2], "Int64")}), "x").dtype == np.float64


def test_arrow_and_polars_tables_are_frames(problem):
    x, y, _ = problem
    columns = {"a": x[:, 0], "b": x[:, 1].astype(int)}
    tables = [pa.table(columns), pa.RecordBatch.from_pydict(columns)]
    plain = dask_gd.fit(x, y)
    for table in tables:
        run = dask_gd.fit(table, pa.array(y))
        assert_array_equal(run.weights.values, plain.weights.values)
        assert run.weights.feature.values.tolist() == ["a", "b"]
        assert_array_equal(Ridge().fit(table, y).coef_, Ridge().fit(x, y).coef_)
    gap = pa.array(["a", None, "b"]).dictionary_encode()
    with pytest.raises(InvalidTypeError, match="no label at position 1"):
        labels(gap, "y")


def test_groups_may_be_strings(problem):
    x, y, weight = problem
    names = pd.Series(weight).map({1.0: "a", 2.0: "b", 3.0: "c"})
    expected = dask_gd.search(x, y, alphas=[0.1, 1.0], folds=2, groups=weight).scores
    for groups in (names, names.astype("category"), in_dask(names), names.to_numpy(str)):
        assert_array_equal(dask_gd.search(x, y, alphas=[0.1, 1.0], folds=2, groups=groups).scores, expected)
