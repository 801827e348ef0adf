"""FOUND 5, FAULTS 61: CF packing is decoded wherever its attributes are at hand."""

import logging

import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from numpy.testing import assert_array_equal

import dask_gd
from dask_gd.errors import InvalidArgumentError, NonFiniteError
from dask_gd.estimators import LinearRegression, LogisticRegression
from dask_gd.preprocessing import OneHotEncoder, StandardScaler, train_test_split
from dask_gd.sources.packing import packing_of

N, P, CHUNK = 90, 3, 40
DIMS = ("row", "feature")

# What is stored, and how it is packed, by role. Targets and weights have attributes of their own.
RNG = np.random.default_rng(0)
STORED = {
    "x": RNG.integers(-500, 500, (N, P)).astype("i2"),
    "y": RNG.integers(-100, 100, N).astype("i1"),
    "weight": RNG.integers(0, 256, N).astype("u1").view("i1"),
    "offset": RNG.integers(-50, 50, N).astype(">i4"),
}
ATTRS = {
    "x": {"scale_factor": 0.01, "add_offset": 1.5, "_FillValue": -999},
    "y": {"scale_factor": 0.25, "missing_value": -128},
    "weight": {"_Unsigned": "true"},
    "offset": {"add_offset": -3.5},
}
VALUES = {
    "x": STORED["x"] * 0.01 + 1.5,
    "y": STORED["y"] * 0.25,
    "weight": STORED["weight"].view("u1").astype(float),
    "offset": STORED["offset"] - 3.5,
}


def data_array(role, stored=None, lazy=False):
    """A role's stored numbers with their attributes, as xarray leaves them with mask_and_scale=False."""
    stored = STORED[role] if stored is None else stored
    data = da.from_array(stored, chunks=(CHUNK, *stored.shape[1:])) if lazy else stored
    return xr.DataArray(data, dims=DIMS[: stored.ndim], attrs=ATTRS[role], name=role)


def zarr_array(role, stored=None, zarr_format=3, store=None):
    """The same in a Zarr array that some other writer made."""
    stored = STORED[role] if stored is None else stored
    array = zarr.create_array(
        zarr.storage.MemoryStore() if store is None else store,
        name=role,
        data=stored,
        chunks=(CHUNK, *stored.shape[1:]),
        zarr_format=zarr_format,
        config={"write_empty_chunks": True},
    )
    array.attrs.update(ATTRS[role])
    return array


FORMS = {
    "DataArray": data_array,
    "Zarr array": zarr_array,
    "Zarr array of version 2": lambda role, stored=None: zarr_array(role, stored, zarr_format=2),
    "lazy DataArray": lambda role, stored=None: data_array(role, stored, lazy=True),
}
every_form = pytest.mark.parametrize("form", FORMS)


def all_of(form):
    """Every role in this form."""
    return {role: FORMS[form](role) for role in STORED}


@every_form
def test_packed_arrays_are_decoded_by_fit_in_every_role(form):
    given = all_of(form)
    run = dask_gd.fit(given["x"], given["y"], sample_weight=given["weight"], offset=given["offset"])
    expected = dask_gd.fit(VALUES["x"], VALUES["y"], sample_weight=VALUES["weight"], offset=VALUES["offset"])
    np.testing.assert_allclose(run.weights, expected.weights, rtol=1e-10)
    predicted = run.predict(given["x"], offset=given["offset"])
    np.testing.assert_allclose(predicted, expected.predict(VALUES["x"], offset=VALUES["offset"]), rtol=1e-10)


@every_form
def test_packed_arrays_are_decoded_by_infer_and_search(form):
    given = all_of(form)
    found = dask_gd.infer(dask_gd.fit(given["x"], given["y"]), given["x"], given["y"])
    expected = dask_gd.infer(dask_gd.fit(VALUES["x"], VALUES["y"]), VALUES["x"], VALUES["y"])
    np.testing.assert_allclose(found.covariance, expected.covariance, rtol=1e-8)
    found, expected = (
        dask_gd.search(x, y, alphas=[0.01, 1.0], folds=2)
        for x, y in ((given["x"], given["y"]), (VALUES["x"], VALUES["y"]))
    )
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-8)


@every_form
def test_packed_arrays_are_decoded_by_estimators_and_their_scores(form):
    given = all_of(form)
    model, expected = LinearRegression(), LinearRegression()
    model.fit(given["x"], given["y"], sample_weight=given["weight"])
    expected.fit(VALUES["x"], VALUES["y"], sample_weight=VALUES["weight"])
    np.testing.assert_allclose(model.coef_, expected.coef_, rtol=1e-10)
    assert model.score(given["x"], given["y"], given["weight"]) == pytest.approx(
        expected.score(VALUES["x"], VALUES["y"], VALUES["weight"]), rel=1e-10
    )


@every_form
def test_packed_labels_are_the_classes(form):
    labels = np.where(STORED["x"][:, 0] > 0, -1, 3).astype("i1")
    given = FORMS[form]("weight", labels)
    model = LogisticRegression().fit(FORMS[form]("x"), given)
    assert_array_equal(model.classes_, [3, 255])
    assert model.score(FORMS[form]("x"), given) > 0.9


@every_form
def test_transformers_see_decoded_values(form):
    x = FORMS[form]("x")
    scaler = StandardScaler().fit(x)
    np.testing.assert_allclose(scaler.mean_, VALUES["x"].mean(axis=0), rtol=1e-12)
    scaled = np.asarray(scaler.transform(x))
    np.testing.assert_allclose(scaled, StandardScaler().fit_transform(VALUES["x"]), rtol=1e-9, atol=1e-12)
    codes = np.tile(np.array([-1, 3], "i1"), N // 2)[:, None]
    assert_array_equal(OneHotEncoder().fit(FORMS[form]("weight", codes)).categories_[0], [3, 255])


@every_form
def test_split_arrays_are_decoded_once(form):
    train, test, *_ = train_test_split(FORMS[form]("x"), FORMS[form]("y"), seed=1)
    own = train_test_split(VALUES["x"], VALUES["y"], seed=1)
    assert_array_equal(np.asarray(train), own[0])
    assert_array_equal(np.asarray(test), own[1])
    model, expected = dask_gd.fit(train, train[:, 0]), dask_gd.fit(own[0], own[0][:, 0])
    np.testing.assert_allclose(model.weights, expected.weights, atol=1e-10)


@every_form
def test_fill_values_are_nan(form):
    stored = STORED["x"].copy()
    stored[71, 2] = -999
    x, y = FORMS[form]("x", stored), FORMS[form]("y")
    with pytest.raises(NonFiniteError, match="nan in row 71, column 2"):
        dask_gd.fit(x, y)
    run = dask_gd.fit(x, y, nan="drop")
    assert run.dropped == 1
    assert_array_equal(np.flatnonzero(np.isnan(np.asarray(run.predict(x)))), [71])
    y = FORMS[form]("y", np.where(np.arange(N) == 5, -128, STORED["y"]).astype("i1"))
    assert dask_gd.fit(x, y, nan="drop").dropped == 2


def test_what_xarray_has_decoded_is_not_decoded_again(caplog):
    decoded = xr.decode_cf(data_array("x").to_dataset()).x
    assert decoded.encoding["scale_factor"] == 0.01
    run = dask_gd.fit(decoded, data_array("y"))
    np.testing.assert_allclose(run.weights, dask_gd.fit(VALUES["x"], VALUES["y"]).weights, rtol=1e-10)
    assert not caplog.records


def test_floats_that_may_have_been_decoded_by_hand_are_named(caplog):
    caplog.set_level(logging.WARNING, "dask_gd")
    x = data_array("x")
    by_hand = x * x.scale_factor + x.add_offset
    assert "scale_factor" in by_hand.attrs, "xarray's arithmetic keeps attributes"
    dask_gd.fit(by_hand, data_array("y"))
    (record,) = caplog.records
    assert "'x' holds float64 and is decoded" in record.getMessage()
    assert "drop_attrs" in record.getMessage()


def test_a_fill_value_of_nan_costs_nothing():
    assert packing_of("v", {"_FillValue": np.float32(np.nan), "missing_value": None}, np.dtype("f4")) is None


@pytest.mark.parametrize("key", ["scale_factor", "add_offset", "_FillValue", "missing_value"])
def test_an_attribute_that_is_no_number_is_refused_by_name(key):
    x = data_array("x").assign_attrs({key: "about a tenth"})
    with pytest.raises(InvalidArgumentError, match=f"{key}.* of variable 'x' must be numbers"):
        dask_gd.fit(x, data_array("y"))


def test_open_decodes_every_role_of_a_group(tmp_path):
    group = zarr.open_group(tmp_path / "packed.zarr", mode="w")
    for role in STORED:
        zarr_array(role, store=group.store)
    source = dask_gd.open(tmp_path / "packed.zarr", x="x", y="y", sample_weight="weight", offset="offset")
    assert source.dtype == np.float64
    expected = dask_gd.fit(VALUES["x"], VALUES["y"], sample_weight=VALUES["weight"], offset=VALUES["offset"])
    run = dask_gd.fit(source)
    np.testing.assert_allclose(run.weights, expected.weights, rtol=1e-10)
    predicted = expected.predict(VALUES["x"], offset=VALUES["offset"])
    np.testing.assert_allclose(run.predict(source), predicted, rtol=1e-10)
    # The part of a Source too, read in a worker's own way.
    part = dask_gd.open(tmp_path / "packed.zarr", x="x", y="y", offset="offset", rows=slice(17, 77))
    np.testing.assert_allclose(run.predict(part), predicted[17:77], rtol=1e-10)


def test_what_a_writer_left_out_is_the_fill_value_and_then_decoded(tmp_path):
    group = zarr.open_group(tmp_path / "packed.zarr", mode="w")
    for role in ("x", "y"):
        stored = STORED[role]
        array = group.create_array(role, shape=stored.shape, chunks=(30, *stored.shape[1:]), dtype=stored.dtype)
        array.attrs.update(ATTRS[role])
        array[:60] = stored[:60]
    source = dask_gd.open(tmp_path / "packed.zarr", x="x", y="y", missing="fill")
    x = np.vstack([VALUES["x"][:60], np.full((30, P), 1.5)])
    assert_array_equal(source.x.lazy.compute(), x)


def test_a_fill_value_that_nobody_meant_is_named_where_it_is_met(tmp_path):
    # zarr's own fill value is 0; beside names of dimensions it is xarray's _FillValue in format 2.
    x = zarr_array("x", zarr_format=2)
    del x.attrs["_FillValue"]
    x.attrs["_ARRAY_DIMENSIONS"] = list(DIMS)
    x[5, 1] = 0
    with pytest.raises(
        NonFiniteError, match=r"row 5, column 1 .* \(where 0 is stored, the fill value, the value is NaN"
    ):
        dask_gd.fit(x, zarr_array("y"))


def test_fill_values_in_base64_are_numbers():
    text = "AAAAgB2vFUQ="
    assert packing_of("v", {"_FillValue": text}, np.dtype("f4")).fills == (float(np.float32(1e20)),)


def test_other_attributes_are_other_data(tmp_path):
    x, y = zarr_array("x", store=zarr.storage.LocalStore(tmp_path / "x")), zarr_array("y")
    before = dask_gd.sources.as_source(x, y).fingerprint()
    x.attrs["scale_factor"] = 0.02
    after = dask_gd.sources.as_source(x, y).fingerprint()
    assert {role for role in before if before[role] != after[role]} == {"x"}
