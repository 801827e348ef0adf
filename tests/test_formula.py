"""Formulas make the columns that formulaic makes of the whole table in memory, whatever the chunks."""

import pickle
import re
import sys

import dask.dataframe as dd
import formulaic
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import statsmodels.api as sm
import xarray as xr
from numpy.testing import assert_allclose

import dask_gd
from dask_gd.errors import DataError, InvalidArgumentError, InvalidTypeError
from dask_gd.sources.coded_table import CodedTable
from dask_gd.sources.formula import spread, transforms
from dask_gd.sources.opening import as_source

N = 400
# A warning of pandas about Dask's reader of Parquet.
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword:pandas.errors.Pandas4Warning")


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(
        {
            "x": rng.normal(5, 2, N),
            "z": rng.lognormal(size=N),
            "a": rng.choice(["p", "q", "r"], N),
            "b": rng.choice(["u", "v"], N),
            "hour": rng.integers(0, 5, N),
            "half": rng.integers(0, 3, N) / 2,
            "flag": rng.random(N) < 0.3,
            "my col": rng.normal(size=N),
            "late": rng.choice(["no", "yes"], N),
            "count": rng.poisson(2, N),
            "exposure": rng.uniform(1, 3, N),
            "weight": rng.uniform(1, 2, N),
        }
    )
    frame["size"] = pd.Categorical(rng.choice(["s", "m"], N), categories=["s", "m", "l"])
    frame["y"] = 0.3 * frame.x - 0.1 * frame.hour + (frame.a == "q") + rng.normal(size=N)
    # A level of the last rows only, which no other chunk has.
    frame.loc[N - 9 :, "a"] = "o"
    return frame


def in_parts(table, count=5):
    """Return the table as Dask's, in parts of which some lack levels."""
    return dd.from_pandas(table, npartitions=count, sort=False)


def rows_of(formula, data, **options):
    """Return the names and the values of the columns that a formula makes of data."""
    source = as_source(formula, data, **options)
    values = source.x.lazy_rows(0, source.shape[0])
    if source.x.encoding is not None:
        values = np.asarray(CodedTable(values, source.x.encoding, np.dtype(float)))
    values = values.compute() if hasattr(values, "compute") else values
    return list(source.feature_names), getattr(values, "toarray", lambda: values)()


RIGHT = [
    "x + hour",
    "x:z + x*hour",
    "a",
    "C(a) + C(hour)",
    "0 + a + b",
    "a*b",
    "0 + a:b",
    "a:b",
    "b*a*x",
    "C(hour, contr.treatment(3)) + C(a, Treatment(reference='r'))",
    "C(a, contr.SAS) + C(b, contr.sum)",
    "C(a, contr.sum)*x + C(hour, contr.helmert)",
    "C(hour, contr.poly) + C(a, contr.diff):b",
    "C(hour, {'late': [0, 0, 0, 1, 1], 'odd': [0, 1, 0, 1, 0]})",
    "C(a, levels=['r', 'q', 'p', 'o'])",
    "C(half) + C(flag) + flag + size",
    "C(x > 5):b + C(hour % 2) + C(half * 2)",
    "bs(x, 5)",
    "bs(z, df=6, degree=2) + bs(hour, knots=[1, 2], degree=1)",
    "bs(x, 5, include_intercept=True) + a",
    "0 + bs(x, 5, include_intercept=True)",
    "bs(x, df=4, lower_bound=2, upper_bound=8, extrapolation='clip')",
    "cr(x, df=4) + cs(hour, 3) + cc(z, df=4)",
    "cr(x, df=4, constraints='center') + cc(hour, df=3, constraints='center')",
    "center(x) + scale(z) + standardize(hour)",
    "scale(x, center=False) + scale(z, scale=False)",
    "center(np.log(z)) + scale(center(x)) + poly(center(z), 2)",
    "poly(x, 3) + poly(hour, 2, raw=True)",
    "np.log(z) + log10(z) + np.maximum(x, 3) + I(x**2) + {x / z} + np.where(x > 4, x, 0)",
    "{x > 5} + I((x > 5) & (z < 1)) + {a == 'p'} + {hour % 2}",
    "`my col` + np.exp(`my col`) + Q('my col')",
    "(a + b + x)**2 - a:x",
    "a/b + 2:x",
    "center(x):a + bs(x, 4):b",
    "x - 1",
    "a %in% b",
]


@pytest.mark.parametrize("right", RIGHT)
def test_columns_are_those_of_formulaic(table, right):
    expected = formulaic.model_matrix(right, table)
    theirs = [name for name in expected.columns if name != "Intercept"]
    for data in (table, in_parts(table)):
        names, values = rows_of(f"y ~ {right}", data)
        assert names == theirs
        assert_allclose(values, expected[theirs].to_numpy(float), rtol=1e-12, atol=1e-12)


def test_a_dot_is_all_columns_without_another_role(table):
    frame = table[["y", "x", "a", "weight"]]
    names, _ = rows_of("y ~ .", frame, sample_weight="weight")
    assert names == ["x", "a[T.p]", "a[T.q]", "a[T.r]"]
    names, _ = rows_of("y ~ . - x", in_parts(frame))
    assert names == ["a[T.p]", "a[T.q]", "a[T.r]", "weight"]


@pytest.mark.parametrize("right", ["bs(z, 6) + poly(x, 3)", "scale(poly_of) + bs(x, 4)"])
def test_more_distinct_values_than_are_kept_make_the_same_columns(table, right, monkeypatch):
    monkeypatch.setattr(spread, "MOST", 50)
    monkeypatch.setattr(spread, "CUTS", 256)
    # Values far apart, ties, and both signs of zero.
    frame = table.assign(poly_of=np.where(table.x > 5, 1e100, -0.0) * table.z)
    frame["z"] = np.where(frame.hour < 2, 0.0, frame.z * 10.0 ** (3 * frame.hour - 6))
    expected = formulaic.model_matrix(right, frame).drop(columns="Intercept")
    _, values = rows_of(f"y ~ {right}", in_parts(frame))
    scale = np.abs(expected).max().to_numpy()
    assert_allclose(values / scale, expected / scale, rtol=1e-12, atol=1e-12)


def test_too_many_distinct_values_for_quantiles_of_them_are_refused(table, monkeypatch):
    monkeypatch.setattr(spread, "MOST", 50)
    with pytest.raises(InvalidArgumentError, match="Give knots"):
        rows_of("y ~ cr(x, df=4)", table)


def test_wide_products_with_numbers_are_sparse_rows(table):
    frame = table.assign(wide=[f"w{i % 70}" for i in range(N)])
    right = "wide:x + wide:a + hour"
    expected = formulaic.model_matrix(right, frame).drop(columns="Intercept")
    for data in (frame, in_parts(frame)):
        source = as_source(f"y ~ {right}", data)
        assert source.x.kind == "sparse blocks"
        names, values = rows_of(f"y ~ {right}", data)
        assert names == list(expected.columns)
        assert_allclose(values, expected, rtol=1e-12, atol=1e-12)


def test_a_wide_factor_costs_a_code_for_each_row(table):
    frame = table.assign(wide=[f"w{i % 70}" for i in range(N)])
    source = as_source("y ~ wide * a + x", frame)
    assert source.x.array.shape == (N, 4)
    assert source.shape == (N, 69 + 3 + 69 * 3 + 1)


def test_a_fit_is_that_of_statsmodels(table):
    right = "x + C(a) * hour + bs(z, 4)"
    design = formulaic.model_matrix(right, table)
    theirs = sm.GLM(table.late == "yes", design, family=sm.families.Binomial()).fit()
    runs = [dask_gd.fit(f"late ~ {right}", data, family="binomial", tol=1e-10) for data in (table, in_parts(table))]
    for run in runs:
        assert_allclose(run.intercept, theirs.params["Intercept"], rtol=1e-6)
        assert_allclose(run.weights, theirs.params[run.weights.feature.values], rtol=1e-5, atol=1e-7)
        assert run.formula.target_levels == ("no", "yes")
    found = dask_gd.infer(runs[1], in_parts(table))
    errors = found.table.standard_error.sel(parameter="C(a)[T.q]:hour")
    assert_allclose(errors, theirs.bse["C(a)[T.q]:hour"], rtol=1e-6)


def test_predictions_know_what_the_fit_has_learnt(table, tmp_path):
    formula = "np.log(exposure) ~ bs(x, 4) * b + center(z) + size + a:hour"
    run = dask_gd.fit(formula, in_parts(table), store=tmp_path / "run", tol=1e-10)
    expected = run.predict(table)
    design = formulaic.model_matrix(formula.partition("~")[2], table).drop(columns="Intercept")
    assert_allclose(expected, design @ run.weights.values + run.intercept.item(), rtol=1e-10)
    # Some rows, without most levels, in another order of columns, and without a target.
    some = table.drop(columns="exposure").iloc[[7, 3], ::-1]
    assert_allclose(run.predict(some), expected[[7, 3]], rtol=1e-14)
    assert_allclose(run.predict(in_parts(table, 3)).compute(), expected, rtol=1e-14)
    for other in (pickle.loads(pickle.dumps(run)), dask_gd.load(tmp_path / "run")):
        assert other.formula == run.formula
        assert_allclose(other.predict(some), expected[[7, 3]], rtol=1e-14)
    # Of a missing value nothing is known.
    assert np.isnan(run.predict(some.assign(b=[None, "u"]))).tolist() == [True, False]
    with pytest.raises(DataError, match=r"Column 'b' has 'w' in row 1.*none of its levels 'u', 'v'"):
        run.predict(some.assign(b=["u", "w"]))
    with pytest.raises(DataError, match="extrapolation='clip'"):
        run.predict(some.assign(x=100.0))
    with pytest.raises(InvalidArgumentError, match="no column 'z'"):
        run.predict(some.drop(columns="z"))


def test_sparse_rows_are_predicted(table):
    frame = table.assign(wide=[f"w{i % 70}" for i in range(N)])
    run = dask_gd.fit("y ~ wide:x", in_parts(frame), penalty=dask_gd.L2(1e-2))
    expected = formulaic.model_matrix("wide:x - 1", frame).to_numpy() @ run.weights.values + run.intercept.item()
    assert_allclose(run.predict(frame), expected, rtol=1e-10)
    assert_allclose(run.predict(in_parts(frame)).compute(), expected, rtol=1e-10)


def test_offsets_and_weights_are_columns(table):
    options = {"family": "poisson", "sample_weight": "weight", "tol": 1e-10}
    run = dask_gd.fit("count ~ x + offset(log(exposure))", in_parts(table), **options)
    frame = table.assign(known=np.log(table.exposure))
    same = dask_gd.fit("count ~ x", frame, offset="known", **options)
    assert_allclose(run.weights, same.weights, rtol=1e-9)
    assert_allclose(run.predict(table), same.predict(frame, offset="known"), rtol=1e-9)
    assert_allclose(run.predict(in_parts(table)).compute(), run.predict(table), rtol=1e-12)
    errors = [dask_gd.infer(each, data).table.standard_error for each, data in ((run, in_parts(table)), (same, frame))]
    assert_allclose(*errors, rtol=1e-8)
    with pytest.raises(InvalidArgumentError, match="give one of them"):
        dask_gd.fit("count ~ x + offset(exposure)", table, offset="exposure")


def test_rows_that_lack_a_value_are_refused_or_left_out(table):
    frame = table.copy()
    frame.loc[3, "x"] = np.nan
    frame.loc[7, "a"] = None
    frame.loc[11, "y"] = np.nan
    # Levels that only such rows have.
    frame.loc[7, "b"] = "rare"
    frame.loc[3, "late"] = "perhaps"
    formula = "y ~ a + b + bs(x, 4) + {x > 5} + scale(z)"
    with pytest.raises(DataError):
        dask_gd.fit(formula, frame)
    complete = frame.dropna(subset=["x", "a", "y"])
    expected = dask_gd.fit(formula, complete)
    for data in (frame, in_parts(frame)):
        run = dask_gd.fit(formula, data, nan="drop")
        assert run.dropped == 3
        assert_allclose(run.weights, expected.weights, rtol=1e-8, atol=1e-12)
        classes = dask_gd.fit("late ~ x", data, family="binomial", nan="drop")
        assert classes.formula.target_levels == ("no", "yes")


def test_a_dataset_has_a_row_for_each_point(table):
    rng = np.random.default_rng(0)
    cube = xr.Dataset(
        {
            "t2m": (("time", "lat"), rng.normal(size=(12, 5))),
            "co2": ("time", rng.normal(size=12)),
            "zone": ("lat", ["n", "n", "e", "s", "s"]),
        },
        coords={"lat": np.linspace(-60, 60, 5), "time": np.arange(12.0)},
    )
    frame = cube.to_dataframe().reset_index()
    formula = "t2m ~ co2 * zone + bs(lat, 4) + poly(time, 2)"
    expected = dask_gd.fit(formula, frame)
    for chunks in ({"time": 5}, {"lat": 2, "time": 7}, None):
        data = cube
        if chunks is not None:
            data = cube.chunk(chunks)
        run = dask_gd.fit(formula, data, sample_dims=("time", "lat"))
        assert_allclose(run.weights, expected.weights, rtol=1e-8, atol=1e-12)
        predicted = run.predict(data)
        assert predicted.dims == ("time", "lat")
        shaped = expected.predict(frame).reshape(predicted.transpose("time", "lat").shape)
        assert_allclose(predicted, shaped, rtol=1e-8, atol=1e-12)
    by_accessor = cube.gd.fit(formula, sample_dims=("time", "lat"))
    assert_allclose(by_accessor.weights, expected.weights, rtol=1e-8, atol=1e-12)
    # Terms of one dimension are the same along the other.
    assert dask_gd.fit("t2m ~ co2", cube, sample_dims=["time", "lat"]).predict(cube).shape == (12, 5)


def test_parquet_is_read_by_its_path(table, tmp_path):
    path = tmp_path / "rows.parquet"
    table.to_parquet(path, row_group_size=100)
    run = dask_gd.fit("y ~ a + x", str(path))
    assert_allclose(run.weights, dask_gd.fit("y ~ a + x", table).weights, rtol=1e-10)
    assert_allclose(run.predict(str(path)).compute(), run.predict(table), rtol=1e-12)


def test_several_targets_are_outputs(table):
    run = dask_gd.fit("y + np.log(z) ~ x + a", in_parts(table))
    assert run.weights.output.values.tolist() == ["y", "np.log(z)"]
    assert_allclose(run.weights[:, 0], dask_gd.fit("y ~ x + a", table).weights, rtol=1e-9)
    assert run.predict(table).shape == (N, 2)


def test_classes_of_several_levels_are_for_the_multinomial_family(table):
    run = dask_gd.fit("a ~ x + z", in_parts(table), family="multinomial")
    codes = table.a.astype("category").cat.codes.to_numpy()
    assert_allclose(run.weights, dask_gd.fit(table[["x", "z"]], codes, loss="softmax").weights, rtol=1e-6, atol=1e-9)
    assert run.formula.target_levels == ("o", "p", "q", "r")


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("~ x", "give a target"),
        ("y ~ x | z", "several parts"),
        ("y ~ x +", "cannot be parsed"),
        ("y ~ x.mean()", "none that formulas have"),
        ("y ~ I(x - x.mean())", "none that formulas have"),
        ("y ~ I(__import__('os'))", "none that formulas have|cannot be parsed"),
        ("y ~ np.cumsum(x)", "none that formulas have"),
        ("y ~ np.add.reduce(x)", "none that formulas have"),
        ("y ~ {[v for v in x]}", "not evaluated"),
        ("y ~ np.log(x, z)", "takes 1 argument"),
        ("y ~ lag(x)", "other rows"),
        ("y ~ exp10(x)", "whichever is meant"),
        ("y ~ bs(x, 4) + np.log(bs(x, 4))", "factor of its own"),
        ("y ~ bs(x, df=z)", "a number, a text"),
        ("y ~ bs(x, 4, knots=[1])", "not both"),
        ("y ~ bs(x, 2)", "df must be 3"),
        ("y ~ bs(x, wrong=2)", "wrong"),
        ("y ~ C(a, contr.treatment('nobody'))", "nobody"),
        ("y ~ {x > 1 & z}", "conditions"),
        ("y ~ nobody", "no column 'nobody'"),
        ("y ~ 1", "no term but an intercept"),
        ("late ~ x", "family='binomial'"),
        ("y ~ x:offset(z)", "term of its own"),
    ],
)
def test_what_formulas_do_not_have_is_refused(table, formula, message):
    with pytest.raises(InvalidArgumentError, match=message):
        dask_gd.fit(formula, table)


def test_arguments_that_a_formula_replaces_are_refused(table):
    for option, message in (
        ({"features": ["x"]}, "beside a formula"),
        ({"categorical": ["hour"]}, "C(column)"),
        ({"fit_intercept": False}, "0 +"),
        ({"family": "binomial", "loss": "logistic"}, "give one of them"),
        ({"family": "nobody"}, "choose one of binomial"),
    ):
        with pytest.raises(InvalidArgumentError, match=re.escape(message)):
            dask_gd.fit("y ~ x", table, **option)
    with pytest.raises(InvalidArgumentError, match="needs a table"):
        dask_gd.fit("y ~ x")
    with pytest.raises(InvalidTypeError, match="is of a table"):
        dask_gd.fit("y ~ x", table.to_numpy())


def test_transforms_keep_what_a_store_can_hold(table):
    run = dask_gd.fit("y ~ cr(x, 4, constraints='center') + poly(z, 2) + scale(hour)", table)
    for state in run.formula.states.values():
        assert all(isinstance(value, int | float | list | None) for value in state.values())
    assert set(transforms.functions()) >= {"bs", "cr", "cc", "cs", "poly", "scale", "center", "standardize"}


def test_tables_of_arrow_and_any_dtypes_make_the_same_columns(table):
    formula = "y ~ a * hour + C(hour) + C(half) + flag + x"
    names, values = rows_of(formula, table)
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    nullable = table.convert_dtypes()
    # A file read in parts: one part without a value missing, and so of whole numbers.
    for data in (arrow, nullable, in_parts(table.astype({"a": "category"}))):
        other_names, other = rows_of(formula, data)
        assert other_names == names
        assert_allclose(other, values, rtol=1e-14)


def test_a_stored_fit_goes_on(table, tmp_path):
    formula = "late ~ bs(x, 4) + a * hour"
    whole = dask_gd.fit(formula, in_parts(table), family="binomial", solver="lbfgs", max_iter=12, tol=0)
    for steps in (5, 12):
        options = {"family": "binomial", "solver": "lbfgs", "max_iter": steps, "tol": 0, "store": tmp_path / "run"}
        run = dask_gd.fit(formula, in_parts(table), **options)
    assert run.weights.identical(whole.weights)
    with pytest.raises(dask_gd.errors.StoreError):
        dask_gd.fit(formula + " + z", in_parts(table), **options)


def test_the_package_that_parses_formulas_is_named(table, monkeypatch):
    monkeypatch.setitem(sys.modules, "formulaic", None)
    with pytest.raises(InvalidArgumentError, match=r"dask_gd\[formula\]"):
        dask_gd.fit("y ~ x + x:hour", table)
    with pytest.raises(InvalidArgumentError, match="a search takes no formula"):
        dask_gd.search("y ~ x", table, alphas=[0.1])


def test_early_stopping_reads_held_out_rows_by_the_formula(table):
    held_out = table.iloc[300 : N - 9]
    stop = dask_gd.callbacks.EarlyStopping(held_out, patience=2)
    dask_gd.fit("y ~ poly(x, 3) + a", table.iloc[:300], solver="adam", max_iter=5, callbacks=[stop])
    assert len(stop.losses) == 6
