"""Variables of a Dataset fit and predict as the table would that they are never made into."""

import logging
import re
from itertools import permutations

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from dask.distributed import Client
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import dask_gd
from dask_gd.errors import InvalidArgumentError, InvalidTypeError, NonFiniteError, StoreMismatchError
from dask_gd.sources import as_source, fields, partitions
from dask_gd.sources.packing import packing_of

DIMS = ("time", "lat", "lon")
SIZES = {"time": 11, "lat": 5, "lon": 4}
FEATURES = ["wind", "co2", "height", "lat"]
NAMES = {"features": FEATURES, "target": "t2m", "sample_dims": DIMS}
chunks = st.fixed_dictionaries({d: st.integers(1, n) for d, n in SIZES.items()})


@pytest.fixture(autouse=True)
def _short_windows(monkeypatch):
    """A few rows at a time, so that a window ends anywhere in the grid."""
    monkeypatch.setattr(fields, "READ_BYTES", 7 * 8 * len(FEATURES))
    monkeypatch.setattr(fields, "READ_ROWS", 1)


def climate(order=DIMS):
    """A field, a series, a map and a coordinate; the field's dimensions in this order."""
    rng = np.random.default_rng(0)
    ds = xr.Dataset(
        {
            "wind": (DIMS, rng.normal(size=tuple(SIZES.values()))),
            "co2": ("time", rng.normal(size=SIZES["time"])),
            "height": (("lon", "lat"), rng.normal(size=(SIZES["lon"], SIZES["lat"]))),
        },
        coords={
            "time": np.datetime64("2000-01-01") + 30 * np.arange(SIZES["time"]).astype("m8[D]"),
            "lat": np.linspace(-60, 60, SIZES["lat"]),
        },
    )
    noise = xr.zeros_like(ds.wind) + rng.normal(size=ds.wind.shape)
    ds["t2m"] = (300 + 2 * ds.wind + ds.co2 - 3 * ds.height - 0.2 * ds.lat + noise).transpose(*order)
    ds["wind"] = ds.wind.transpose(*order)
    ds["area"] = np.cos(np.deg2rad(ds.lat))
    ds.t2m.attrs = {"units": "K", "long_name": "air temperature", "history": "made up"}
    return ds


def stacked(ds, names=(*FEATURES, "t2m"), dims=DIMS):
    """The table, as one would make it in memory: x and the last name's y."""
    columns = [a.transpose(*dims).values.ravel() for a in xr.broadcast(*(ds[name] for name in names))]
    return np.stack(columns[:-1], axis=1), columns[-1]


def pieces_of(column, source):
    """A column's pieces for each partition, as Delayed."""
    return np.broadcast_to(column.blocks().to_delayed(), source.x.fields.grid).ravel().tolist()


def table(source):
    """All rows of a source, as its tasks see them."""
    blocks = dask.compute(*(pieces_of(column, source) for column in source.materialised))
    parts = []
    for i in range(source.partitions):
        parts += [(r.x.copy(), r.y.copy()) for _, r in source.reader((i,), *(block[i] for block in blocks))]
    return tuple(np.concatenate(a) for a in zip(*parts, strict=True))


# The same as the table


@given(chunks=chunks, order=st.permutations(DIMS), dims=st.permutations(DIMS))
def test_any_chunks_and_order_of_dimensions_give_the_coefficients_of_the_table(chunks, order, dims):
    ds = climate(order)
    x, y = stacked(ds)
    run = dask_gd.fit(ds.chunk(chunks), **{**NAMES, "sample_dims": dims})
    expected = dask_gd.fit(x, y)
    assert_allclose(run.weights, expected.weights, rtol=1e-10, atol=1e-10)
    assert_allclose(run.intercept, expected.intercept, rtol=1e-10)
    assert run.weights.feature.values.tolist() == FEATURES


@pytest.mark.parametrize("dims", list(permutations(DIMS)), ids="-".join)
def test_rows_are_in_the_order_of_the_sample_dimensions(dims):
    ds = climate()
    for chunked in (ds, ds.chunk({dims[0]: 2, dims[1]: -1, dims[2]: -1})):
        x, y = table(as_source(chunked, **{**NAMES, "sample_dims": dims}))
        assert_array_equal(x, stacked(ds, dims=dims)[0])
        assert_array_equal(y[:, 0], stacked(ds, dims=dims)[1])


@given(start=st.integers(0, 24), rows=st.integers(0, 24), shape=st.permutations([4, 3, 2, 1]))
def test_boxes_are_the_rows_in_their_order(start, rows, shape):
    grid, stop = np.arange(24).reshape(shape), min(24, start + rows)
    found = [grid[box].ravel() for box in fields.boxes(tuple(shape), start, stop)]
    assert_array_equal(np.concatenate([*found, np.zeros(0, int)]), np.arange(start, stop))
    assert len(found) <= 2 * len(shape) - 1


@pytest.mark.parametrize("chunk", [{}, {"time": 3, "lat": 2}], ids=["memory", "chunked"])
def test_several_targets_and_weights_are_those_of_the_table(chunk):
    ds = climate()
    ds["dew"] = 0.5 * ds.wind - ds.co2
    x, y = stacked(ds)
    y = np.stack([y, stacked(ds, (*FEATURES, "dew"))[1]], axis=1)
    weight = stacked(ds, (*FEATURES, "t2m", "area"))[1]
    expected = dask_gd.fit(x, y, sample_weight=weight)
    for given_weight in ("area", ds.area):
        options = {**NAMES, "target": ["t2m", "dew"], "sample_weight": given_weight}
        run = dask_gd.fit(ds.chunk(chunk) if chunk else ds, **options)
        assert_allclose(run.weights, expected.weights, rtol=1e-9, atol=1e-10)
        assert run.weights.output.values.tolist() == ["t2m", "dew"]
        prediction = run.predict(ds)
        assert prediction.dims == (*DIMS, "output")
        assert_allclose(prediction.values.reshape(y.shape), expected.predict(x), rtol=1e-9)


@pytest.mark.parametrize("loss", ["logistic", "poisson"])
@pytest.mark.parametrize("chunk", [{}, {"time": 2, "lon": 3}], ids=["memory", "chunked"])
def test_other_losses_and_solvers_see_the_same_rows(loss, chunk):
    ds = climate()
    ds["wet"] = (ds.t2m > ds.t2m.mean()).astype("int8")
    x, y = stacked(ds, (*FEATURES, "wet"))
    for solver in ("newton", "lbfgs"):
        options = {"loss": loss, "solver": solver, "penalty": dask_gd.L2(1e-2), "tol": 1e-11}
        run = dask_gd.fit(ds.chunk(chunk) if chunk else ds, **{**NAMES, "target": "wet"}, **options)
        assert_allclose(run.weights, dask_gd.fit(x, y, **options).weights, rtol=1e-8, atol=1e-8)


def test_float32_variables_make_float32_rows_and_others_float64():
    ds = climate().astype(np.float32)
    assert as_source(ds, **NAMES).dtype == np.float64  # the coordinate is float64
    assert as_source(ds, **{**NAMES, "features": ["wind", "co2"]}).dtype == np.float32
    assert as_source(ds.astype(int), **{**NAMES, "features": ["wind", "co2"]}).dtype == np.float64


def test_what_has_no_dimension_of_its_own_is_broadcast_too():
    """Neither a feature nor the target has all of the sample dimensions, and one has none."""
    ds = climate()[["co2", "lat"]].assign(one=2.0)
    ds["y"] = ds.co2 + 3
    for chunked in (ds, ds.chunk(time=4)):
        x, y = table(as_source(chunked, features=["lat", "one"], target="y", sample_dims=("time", "lat")))
        expected = stacked(ds, ("lat", "one", "y"), ("time", "lat"))
        assert_array_equal(x, expected[0])
        assert_array_equal(y[:, 0], expected[1])


def test_parts_of_a_time_and_dimensions_without_labels_are_features():
    ds = climate()
    run = dask_gd.fit(ds, features=["time.month", "lon"], target="t2m", sample_dims=DIMS)
    ds = ds.assign(month=ds.time.dt.month, east=("lon", np.arange(SIZES["lon"])))
    x, y = stacked(ds, ("month", "east", "t2m"))
    assert_allclose(run.weights, dask_gd.fit(x, y).weights, rtol=1e-9)
    assert run.predict(ds).shape == ds.t2m.shape


def test_samples_are_some_of_the_partitions():
    rng = np.random.default_rng(0)
    ds = xr.Dataset({"a": (("t", "u"), rng.normal(size=(64, 40))), "b": ("u", rng.normal(size=40))})
    ds["y"] = (ds.a + ds.b + rng.normal(size=ds.a.shape) > 0).astype(int)
    options = {"loss": "logistic", "tol": 1e-10}
    run = dask_gd.fit(ds.chunk(t=4, u=20), features=["a", "b"], target="y", sample_dims=("u", "t"), **options)
    assert run.history.passes[0] < 1
    assert run.history.rows[0] == 64 * 40 * run.history.passes[0]
    x, y = stacked(ds, ("a", "b", "y"), ("u", "t"))
    assert_allclose(run.weights, dask_gd.fit(x, y, **options).weights, rtol=1e-8)


# Partitions and memory


def test_partitions_are_the_blocks_of_the_largest_variable():
    source = as_source(climate().chunk(time=4, lat=3).chunk(), **NAMES)
    assert source.x.fields.chunks == ((4, 4, 3), (3, 2), (4,))
    ds = climate()
    ds["co2"] = ds.co2.chunk(time=1)
    ds["wind"] = ds.wind.chunk(time=5, lat=2)
    assert as_source(ds, **NAMES).x.fields.chunks[:2] == ((5, 5, 1), (2, 2, 1))


def test_small_chunks_are_put_together_and_what_is_in_memory_is_cut(monkeypatch):
    monkeypatch.setattr(partitions, "PARTITIONS", 2)
    small = as_source(climate().chunk(time=1, lat=1, lon=1), **NAMES)
    assert small.partitions <= 2 * 3
    monkeypatch.setattr(partitions, "PARTITION_BYTES", 40 * 8 * len(FEATURES))
    assert as_source(climate(), **NAMES).x.fields.chunks == ((2, 2, 2, 2, 2, 1), (5,), (4,))


def test_a_file_opened_without_dask_is_not_read_whole(tmp_path):
    climate().chunk(time=4, lat=-1, lon=-1).to_zarr(tmp_path / "ds.zarr", zarr_format=2, consolidated=False)
    ds = xr.open_zarr(tmp_path / "ds.zarr", chunks=None, consolidated=False)
    source = as_source(ds, **NAMES)
    assert source.x.in_memory[0] is None
    assert source.x.fields.chunks == ((4, 4, 3), (5,), (4,))
    assert_array_equal(table(source)[0], stacked(climate())[0])
    assert run_of(ds).predict(ds).chunks is not None


def test_a_part_of_a_file_opened_without_dask_has_the_chunks_that_are_left(tmp_path):
    climate().chunk(time=4).to_zarr(tmp_path / "ds.zarr", zarr_format=2, consolidated=False)
    ds = xr.open_zarr(tmp_path / "ds.zarr", chunks=None, consolidated=False).isel(lat=0)
    assert as_source(ds, **{**NAMES, "sample_dims": ("time", "lon")}).x.fields.chunks == ((4, 4, 3), (4,))


def run_of(ds, **options):
    return dask_gd.fit(ds, **{**NAMES, **options})


def test_a_task_makes_no_more_rows_than_a_window(monkeypatch):
    monkeypatch.setattr(fields, "READ_BYTES", 1 << 16)
    n, rng = 400, np.random.default_rng(0)
    ds = xr.Dataset({name: (dim, rng.normal(size=n)) for name, dim in (("a", "t"), ("b", "u"), ("y", "t"))})
    source = as_source(ds.chunk(t=n), features=["a", "b"], target="y", sample_dims=("t", "u"))
    # What is read is three series, and not the table of n * n rows.
    assert source.nbytes == source.plan().bytes_read == 3 * 8 * n
    assert source.x.read_rows == (1 << 16) // 16
    assert source.plan().memory < 8 * 3 * n * n
    pieces = dask.compute(*(pieces_of(column, source)[0] for column in source.materialised))
    assert max(len(rows.x) for _, rows in source.reader((0,), *pieces)) == source.x.read_rows


# Packed integers


def packed(ds, name, dtype="int16", fill=-999, scale=0.01, offset=1.5):
    """The dataset with one variable in integers, and xarray's own decoding of it."""
    raw = np.round((ds[name] - offset) / scale).astype(dtype)
    attrs = {"scale_factor": scale, "add_offset": offset, "_FillValue": np.array(fill, dtype)[()]}
    return ds.assign({name: raw.assign_attrs(attrs)})


@pytest.mark.parametrize("chunk", [{}, {"time": 3}], ids=["memory", "chunked"])
def test_packed_integers_are_decoded_in_the_task(chunk):
    ds = packed(packed(climate(), "wind"), "t2m", "int32")
    decoded = xr.decode_cf(ds)
    ds = ds.chunk(chunk) if chunk else ds
    source = as_source(ds, **NAMES)
    assert source.x.arrays[0].dtype == np.int16
    assert_allclose(table(source)[0], stacked(decoded.astype(float))[0], rtol=1e-6)
    x, y = stacked(climate().assign({n: ds[n] * ds[n].scale_factor + ds[n].add_offset for n in ("wind", "t2m")}))
    run = dask_gd.fit(ds, **NAMES)
    assert_allclose(run.weights, dask_gd.fit(x, y).weights, rtol=1e-10)
    assert_allclose(run.predict(ds).values.ravel(), run.predict(x), rtol=1e-12)


def test_the_fill_value_of_packed_integers_is_nan():
    ds = packed(climate(), "wind")
    ds["wind"][3, 2, 1] = -999
    with pytest.raises(NonFiniteError, match=r"nan in row 69, column 0 .*'wind' at index time=3, lat=2, lon=1"):
        dask_gd.fit(ds, **NAMES)
    assert dask_gd.fit(ds, nan="drop", **NAMES).dropped == 1
    assert np.isnan(dask_gd.fit(ds, nan="drop", **NAMES).predict(ds)).sum() == 1


@pytest.mark.parametrize(
    ("stored", "attrs", "values"),
    [
        (np.array([-1, 3], "i1"), {"_Unsigned": "true"}, [255, 3]),
        (np.array([-1, 3], "i1"), {"_Unsigned": "true", "_FillValue": np.int8(-1)}, [np.nan, 3]),
        (np.array([200, 3], "u1"), {"missing_value": [3, 4]}, [200, np.nan]),
        (np.array([255, 3], "u1"), {"_Unsigned": "false"}, [-1, 3]),
        (np.array([255, 3], "u1"), {"_Unsigned": "false", "_FillValue": np.uint8(255)}, [np.nan, 3]),
        (np.array([255, 3], "u1"), {"_Unsigned": "false", "_FillValue": np.int8(-1)}, [np.nan, 3]),
        (np.array([2, 3], "i2"), {"scale_factor": [0.5], "add_offset": np.array([1.0])}, [2, 2.5]),
        (np.array([1e20, 3], "f4"), {"_FillValue": 1e20}, [np.nan, 3]),
        (np.array([2, 3], ">i2"), {"scale_factor": 0.5}, [1, 1.5]),
        (np.array([2, 3], "i8"), {"units": "K"}, [2, 3]),
    ],
)
def test_attributes_say_how_to_decode(stored, attrs, values):
    packing = packing_of("v", attrs, stored.dtype)
    assert_array_equal(stored if packing is None else packing.decode(stored), values)


def test_attributes_that_are_no_numbers_are_refused():
    ds = climate()
    for given_scale in ("a tenth", [0.1, 0.2]):
        ds.wind.attrs["scale_factor"] = given_scale
        with pytest.raises(InvalidArgumentError, match="'wind' must be numbers"):
            as_source(ds, **NAMES)


# Prediction


@pytest.mark.parametrize("chunk", [{"time": 3}, {"time": 4, "lat": 2, "lon": 1}], ids=str)
def test_prediction_is_lazy_and_has_dims_coordinates_chunks_and_attributes(chunk):
    ds = climate()
    run = run_of(ds)
    expected = run.predict(stacked(ds)[0]).reshape(tuple(SIZES.values()))
    lazy = ds.chunk(chunk)
    with dask.config.set(scheduler=lambda *a, **k: pytest.fail("predict computed something")):
        prediction = run.predict(lazy)
        other = run.predict(as_source(lazy, **NAMES))
    assert prediction.dims == DIMS
    assert dict(prediction.chunksizes) == dict(lazy.wind.chunksizes)
    assert prediction.attrs == {"units": "K", "long_name": "air temperature"}
    xr.testing.assert_equal(prediction.coords.to_dataset(), ds.coords.to_dataset())
    assert_allclose(prediction, expected, rtol=1e-12)
    assert_allclose(other, expected, rtol=1e-12)
    now = run.predict(ds)
    assert isinstance(now.data, np.ndarray)
    assert_allclose(now, expected, rtol=1e-12)


def test_prediction_follows_the_dimensions_of_the_data():
    ds = climate()
    run = run_of(ds)
    whole = run.predict(ds)
    assert_allclose(run.predict(ds.isel(time=3)), whole.isel(time=3), rtol=1e-12)
    assert_allclose(run.predict(ds.isel(time=3, lat=1, lon=2)), whole[3, 1, 2], rtol=1e-12)
    for empty in (ds.isel(time=slice(0, 0)), ds.chunk(lat=2).isel(time=slice(0, 0))):
        assert run.predict(empty).compute().shape == (0, 5, 4)
    members = ds.expand_dims(member=2).assign(co2=ds.co2)
    assert run.predict(members.chunk(time=2)).dims == (*DIMS, "member")
    # What no feature depends on.
    flat = dask_gd.fit(ds, features=["lat", "co2"], target="t2m", sample_dims=DIMS)
    for data in (ds, ds.chunk(time=4)):
        prediction = flat.predict(data)
        assert prediction.sizes == dict(zip(DIMS, SIZES.values(), strict=True))
        assert_allclose(prediction.values.ravel(), flat.predict(stacked(ds, ("lat", "co2", "t2m"))[0]), rtol=1e-12)


@pytest.mark.parametrize("chunk", [{}, {"time": 4, "lat": 2}], ids=["memory", "chunked"])
def test_dimensions_and_coordinates_that_no_feature_has_are_those_of_the_dataset(chunk):
    ds = climate().assign_coords(month=lambda ds: ds.time.dt.month)
    ds = ds.chunk(chunk) if chunk else ds
    names = {"features": ["area"], "target": "co2", "sample_dims": ("time", "lat")}
    run = dask_gd.fit(ds, **names)
    prediction = run.predict(ds)
    assert prediction.dims == ("time", "lat")
    assert set(prediction.coords) == {"time", "lat", "month"}
    assert dict(prediction.chunksizes) == ({"time": (4, 4, 3), "lat": (2, 2, 1)} if chunk else {})
    assert_allclose(prediction.values.ravel(), run.predict(stacked(ds, ("area", "co2"), ("time", "lat"))[0]))
    source = dask_gd.open(ds, **names)
    del ds["month"]  # the caller's dataset, and not the source's
    xr.testing.assert_identical(run.predict(source), prediction)


def test_a_dimension_called_as_that_of_the_outputs_is_refused():
    ds = climate().rename(lat="output")
    ds["dew"] = 0.5 * ds.wind - ds.co2
    names = {"features": ["wind", "co2"], "sample_dims": ("time", "output", "lon")}
    with pytest.raises(InvalidArgumentError, match=r"dimension 'output'.*rename"):
        dask_gd.fit(ds, target=["t2m", "dew"], **names)
    run = dask_gd.fit(ds.rename(output="lat"), features=["wind", "co2"], target=["t2m", "dew"], sample_dims=DIMS)
    with pytest.raises(InvalidArgumentError, match=r"dimension 'output'.*rename"):
        run.predict(ds)
    assert dask_gd.fit(ds, target="t2m", **names).predict(ds).dims == names["sample_dims"]


def test_a_loaded_run_predicts_the_same(tmp_path):
    ds = climate()
    run = run_of(ds, store=tmp_path / "run")
    loaded = dask_gd.load(tmp_path / "run")
    xr.testing.assert_identical(loaded.predict(ds), run.predict(ds))
    assert loaded.sample_dims == DIMS


def test_a_run_on_named_columns_predicts_a_dataset_and_one_without_names_does_not():
    ds = climate()
    x, y = stacked(ds)
    named = xr.DataArray(x, dims=("row", "feature"), coords={"feature": FEATURES})
    prediction = dask_gd.fit(named, y).predict(ds).transpose(*DIMS)
    assert_allclose(prediction, run_of(ds).predict(ds), rtol=1e-8)
    with pytest.raises(InvalidArgumentError, match="have no names"):
        dask_gd.fit(x, y).predict(ds)
    with pytest.raises(InvalidArgumentError, match="no variable 'co2'"):
        run_of(ds).predict(ds.drop_vars("co2"))


# Refused before any task


BEFORE = {
    "unknown feature": ({"features": ["wind", "snow"]}, InvalidArgumentError, "no variable 'snow'; it has .*'wind'"),
    "unknown target": ({"target": "snow"}, InvalidArgumentError, "target: the dataset has no variable 'snow'"),
    "no features": ({"features": None}, InvalidArgumentError, "needs features"),
    "empty features": ({"features": []}, InvalidArgumentError, "at least one"),
    "no target": ({"target": None}, InvalidArgumentError, "needs target"),
    "no sample_dims": ({"sample_dims": None}, InvalidArgumentError, "needs sample_dims.*'time', 'lat', 'lon'"),
    "unknown dimension": ({"sample_dims": ("time", "x")}, InvalidArgumentError, "no dimension 'x'"),
    "dimension twice": ({"sample_dims": ("time", "time")}, InvalidArgumentError, "each of them once"),
    "no name": ({"features": ["lat", 3]}, InvalidTypeError, "3 is no name"),
    "an array": ({"target": np.ones(3)}, InvalidTypeError, "is no name; names are strings"),
    "feature twice": ({"features": ["lat", "lat"]}, InvalidArgumentError, "'lat' twice"),
    "target as feature": ({"features": ["lat", "t2m"]}, InvalidArgumentError, "'t2m' is among the features"),
    "not covered": (
        {"features": ["wind"], "target": "co2", "sample_dims": "time"},
        InvalidArgumentError,
        r"'wind' has the dimension 'lat'.*isel",
    ),
    "times": ({"features": ["lat", "time"]}, InvalidTypeError, r"'time' has dtype datetime64.*timedelta64.*dayofyear"),
    "durations": ({"features": ["age"]}, InvalidTypeError, "'age' has dtype timedelta64.*divide"),
    "strings": ({"features": ["place"]}, InvalidTypeError, "'place' has dtype <U1.*real numbers"),
    "weights by number": ({"sample_weight": np.ones(220)}, InvalidTypeError, "ndarray.*name of a variable"),
    "unknown weight": ({"sample_weight": "mass"}, InvalidArgumentError, "sample_weight: .*no variable 'mass'"),
    "other nan": ({"nan": "ignore"}, InvalidArgumentError, "nan='ignore': choose 'error' or 'drop'"),
}


@pytest.mark.parametrize("name", BEFORE)
@pytest.mark.parametrize("chunk", [False, True], ids=["memory", "chunked"])
def test_what_cannot_be_fitted_is_refused_before_any_task(name, chunk):
    changed, error, message = BEFORE[name]
    ds = climate()
    ds = ds.assign(age=ds.time - ds.time[0], place=("lat", list("abcde")))
    with (
        dask.config.set(scheduler=lambda *a, **k: pytest.fail("something was computed")),
        pytest.raises(error, match=f"(?s){message}"),
    ):
        dask_gd.fit(ds.chunk(time=2) if chunk else ds, **{**NAMES, **changed})


def test_what_makes_a_number_of_a_time_does_so_of_a_single_one_too():
    ds = climate().isel(time=1)
    with pytest.raises(InvalidTypeError) as refused:
        dask_gd.fit(ds, features=["lat", "time"], target="t2m", sample_dims=("lat", "lon"))
    remedy = re.search(r"dataset\.assign\(.*?'D'\)\)", str(refused.value))[0]
    assert eval(remedy, {"dataset": ds, "np": np}).days == 30
    assert dask_gd.fit(ds, features=["lat", "time.dayofyear"], target="t2m", sample_dims=("lat", "lon")).converged


def test_weights_with_other_labels_are_refused():
    ds = climate()
    with pytest.raises(InvalidArgumentError, match="differ along 'lat'"):
        run_of(ds, sample_weight=ds.area.assign_coords(lat=ds.lat + 1))
    with pytest.raises(InvalidArgumentError, match="differ along 'lat'"):
        run_of(ds, sample_weight=ds.area[1:])


def test_names_belong_to_a_dataset_and_a_target_array_does_not():
    ds = climate()
    x, y = stacked(ds)
    with pytest.raises(InvalidArgumentError, match=r"target='\.\.\.'"):
        dask_gd.fit(ds, y, **NAMES)
    with pytest.raises(InvalidArgumentError, match=r"features=.*the data is a "):
        dask_gd.fit(x, y, features=["a"])
    with pytest.raises(InvalidArgumentError, match="'time' has no points"):
        run_of(ds.isel(time=slice(0, 0)))


def test_open_makes_a_source_of_a_dataset():
    ds = climate().chunk(time=4)
    source = dask_gd.open(ds, **NAMES, sample_weight="area")
    assert repr(source) == "<dask_gd.Source 220 rows x 4 features float64, 3 partitions, variables of a Dataset>"
    assert_array_equal(dask_gd.fit(source).weights, run_of(ds, sample_weight="area").weights)
    for options, message in (
        ({"x": "wind"}, "are for Zarr groups"),
        ({"rows": slice(3)}, "isel"),
    ):
        with pytest.raises(InvalidArgumentError, match=message):
            dask_gd.open(ds, **NAMES, **options)
    with pytest.raises(InvalidArgumentError, match="beside the Dataset"):
        dask_gd.fit(source, sample_weight=np.ones(220))
    with pytest.raises(InvalidArgumentError, match=r"features=.*the data is a "):
        dask_gd.open("data/flights.zarr", **NAMES)
    with pytest.raises(InvalidArgumentError, match="needs the names of its arrays"):
        dask_gd.open("data/flights.zarr", y="late")


# Rows with NaN


def holed(kind):
    """The table with NaN in some rows of each column, in this kind of array, and the rows that have none."""
    x, y = stacked(climate())
    weight = np.random.default_rng(2).uniform(0.5, 2, len(y))
    x[[3, 4, 100, 219], [0, 1, 3, 2]] = np.nan
    y[[4, 50]] = np.nan
    weight[77] = np.nan
    x[30:50] = np.nan  # more than one block
    good = np.isfinite(x).all(axis=1) & np.isfinite(y) & np.isfinite(weight)
    return [kind(a) for a in (x, y, weight)], (x[good], y[good], weight[good])


def in_zarr(a):
    import zarr

    return zarr.create_array(zarr.storage.MemoryStore(), data=a, chunks=(13, *a.shape[1:]))


KINDS = {
    "numpy": np.asarray,
    "dask": lambda a: da.from_array(a, chunks=(9, *(-1,) * (a.ndim - 1))),
    "zarr": in_zarr,
    "xarray": lambda a: xr.DataArray(da.from_array(a, chunks=20)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"solver": "lbfgs"}, {"loss": "huber"}], ids=str)
def test_rows_with_nan_are_dropped_as_if_deleted_by_hand(kind, options, caplog):
    (x, y, weight), (good_x, good_y, good_weight) = holed(KINDS[kind])
    options = {**options, "tol": 1e-10}
    with caplog.at_level(logging.WARNING, "dask_gd"):
        run = dask_gd.fit(x, y, sample_weight=weight, nan="drop", **options)
    by_hand = dask_gd.fit(good_x, good_y, sample_weight=good_weight, **options)
    assert_allclose(run.weights, by_hand.weights, rtol=1e-9, atol=1e-10)
    assert run.dropped == 220 - len(good_y) == 26
    said = [r.getMessage() for r in caplog.records if "NaN" in r.getMessage()]
    assert said == ["26 of 220 rows hold NaN and are left out."]
    assert set(run.history.rows.values[run.history.passes == 1]) == {len(good_y)}
    assert by_hand.dropped == 0


@pytest.mark.parametrize("kind", KINDS)
def test_rows_with_nan_are_an_error_by_default_that_names_the_remedy(kind):
    (x, y, weight), _ = holed(KINDS[kind])
    with pytest.raises(NonFiniteError, match="nan='drop'"):
        dask_gd.fit(x, y, sample_weight=weight)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("row", [[np.inf, 0, 0, 0], [np.inf, -np.inf, 0, 0]], ids=str)
def test_infinity_is_not_dropped_and_is_named_by_its_row(kind, row):
    (x, y, weight), _ = holed(np.asarray)
    x[111] = row
    with pytest.raises(NonFiniteError, match="inf in row 111, column 0 of 'x'"):
        dask_gd.fit(KINDS[kind](x), KINDS[kind](y), sample_weight=weight, nan="drop")


def test_points_with_nan_are_dropped_from_a_dataset():
    ds = climate()
    ds["height"] = ds.height.where(ds.height > 0)
    x, y = stacked(ds)
    good = np.isfinite(x).all(axis=1)
    expected = dask_gd.fit(x[good], y[good])
    for chunked in (ds, ds.chunk(time=2, lat=1)):
        run = run_of(chunked, nan="drop")
        assert_allclose(run.weights, expected.weights, rtol=1e-10)
        assert run.dropped == (~good).sum() > 0


def test_targets_of_a_narrow_range_may_lack_too():
    """What stands in a dropped row's place must be nothing that the loss refuses."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(500, 3)), rng.gamma(2.0, size=500)
    y[::7] = np.nan
    good = np.isfinite(y)
    run = dask_gd.fit(x, y, loss="gamma", nan="drop", tol=1e-10)
    assert_allclose(run.weights, dask_gd.fit(x[good], y[good], loss="gamma", tol=1e-10).weights, rtol=1e-8)


def test_nothing_but_nan_is_refused():
    x, y = stacked(climate())
    with pytest.raises(NonFiniteError, match=r"All 220 rows hold NaN"):
        dask_gd.fit(x, y * np.nan, nan="drop")


def test_samples_count_what_they_dropped():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6400, 3))
    y = (x[:, 0] + rng.normal(size=6400) > 0).astype(float)
    x[::10, 1] = np.nan
    good = np.isfinite(x[:, 1])
    source = as_source(da.from_array(x, chunks=(100, 3)), y)
    run = dask_gd.fit(source, loss="logistic", nan="drop", tol=1e-10)
    assert run.history.passes[0] < 1
    assert set(run.history.passes.values) >= {1.0}
    assert run.dropped == 640
    assert_allclose(run.weights, dask_gd.fit(x[good], y[good], loss="logistic", tol=1e-10).weights, rtol=1e-8)


# Resuming


@pytest.mark.parametrize("chunk", [{}, {"time": 3, "lat": 2}], ids=["memory", "chunked"])
def test_a_run_resumes_from_its_store_to_the_same_bits(tmp_path, chunk):
    ds = climate()
    ds["height"] = ds.height.where(ds.height < 1)
    ds = ds.chunk(chunk) if chunk else ds
    options = {"solver": "adam", "nan": "drop", "loss": "huber", "tol": 1e-12}
    whole = run_of(ds, max_iter=8, **options)
    run_of(ds, max_iter=4, store=tmp_path / "run", **options)
    resumed = run_of(ds.copy(deep=True), max_iter=8, store=tmp_path / "run", **options)
    assert_array_equal(resumed.parameters, whole.parameters)
    assert resumed.history.passes.sum() == 9
    assert resumed.dropped == whole.dropped > 0


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda ds: ({"wind": ds.wind + 1}, {}), "x"),
        (lambda ds: ({"t2m": ds.t2m + 1}, {}), "y"),
        (lambda ds: ({}, {"features": FEATURES[::-1]}), "x"),
        (lambda ds: ({}, {"sample_dims": DIMS[::-1]}), "partitions"),
        (lambda ds: ({}, {"nan": "drop"}), "nan"),
    ],
    ids=["feature", "target", "order", "dimensions", "nan"],
)
@pytest.mark.parametrize("chunk", [False, True], ids=["memory", "chunked"])
def test_other_data_is_not_resumed(tmp_path, change, what, chunk):
    ds = climate().chunk(time=4) if chunk else climate()
    run_of(ds, max_iter=1, store=tmp_path / "run")
    variables, options = change(ds)
    with pytest.raises(StoreMismatchError, match=what):
        run_of(ds.assign(variables), max_iter=2, store=tmp_path / "run", **options)


# On a cluster


@pytest.mark.slow
def test_a_cluster_gives_the_same_bits(tmp_path, monkeypatch, clusters):
    monkeypatch.undo()  # which workers would not know
    climate().chunk(time=2, lat=3).to_zarr(tmp_path / "ds.zarr", zarr_format=2, consolidated=False)
    stored = xr.open_zarr(tmp_path / "ds.zarr", consolidated=False)
    data = climate(), climate().chunk(time=2, lat=3), stored, packed(stored, "wind")
    expected = [run_of(ds) for ds in data]
    with Client(clusters(2)):
        for ds, local in zip(data, expected, strict=True):
            run = run_of(ds)
            assert_array_equal(run.parameters, local.parameters)
            assert_array_equal(run.predict(ds).compute(), local.predict(ds))


def test_the_accessor_is_the_same_from_the_data_s_side():
    ds = climate()
    run, own = dask_gd.fit(ds, **NAMES), ds.gd.fit(**NAMES)
    assert_array_equal(own.parameters, run.parameters)
    xr.testing.assert_identical(ds.gd.predict(own), run.predict(ds))
