"""FOUND 5: what a Zarr array's attributes and fill value say is decoded as xarray decodes it, in both formats."""

import base64
import struct
import warnings

import numpy as np
import xarray as xr
import zarr
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from dask_gd.sources.columns import as_rows
from dask_gd.sources.dataset_column import decoded

DTYPES = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "?", ">i2", ">f4"]


def stored(store, values, zarr_format, attrs, fill_value=None):
    """An array "v" over dimensions "row" and "feature", as a group that xarray can open."""
    group = zarr.open_group(store, mode="w", zarr_format=zarr_format)
    dims, options = ["row", "feature"], {}
    if zarr_format == 3:
        options["dimension_names"] = dims
    else:
        attrs = {**attrs, "_ARRAY_DIMENSIONS": dims}
    array = group.create_array(
        "v",
        shape=values.shape,
        chunks=(2, values.shape[1]),
        dtype=values.dtype,
        fill_value=fill_value,
        config={"write_empty_chunks": True},
        **options,
    )
    array[:] = values
    array.attrs.update(attrs)
    return zarr.open_group(store, mode="r")


def as_written(fill, dtype, zarr_format):
    """A fill value as xarray writes it to an attribute."""
    if dtype.kind == "f" and zarr_format == 3:
        return base64.standard_b64encode(struct.pack("<d", float(fill))).decode()
    return fill.item()


@st.composite
def packed_arrays(draw):
    dtype, zarr_format = np.dtype(draw(st.sampled_from(DTYPES))), draw(st.sampled_from([2, 3]))
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        numbers = st.integers(limits.min, limits.max) | st.sampled_from([limits.min, limits.max, 0])
    else:
        numbers = st.sampled_from([0, 1]) if dtype.kind == "b" else st.sampled_from([-7.5, 0.0, 0.25, 1e4, np.nan])
    values = np.array(draw(st.lists(numbers, min_size=6, max_size=6)), dtype).reshape(3, 2)
    attrs, fill_value = {}, None
    for key in ("scale_factor", "add_offset"):
        if draw(st.booleans()):
            attrs[key] = draw(st.sampled_from([0.5, 0.1, -2.0, 1.0, 0.0, 1e-3]))
    sign = draw(st.sampled_from([None, "true", "false"])) if dtype.kind in "iu" else None
    if sign is not None:
        attrs["_Unsigned"] = sign
    if draw(st.booleans()):
        # In format 2 the fill value itself is the attribute.
        if zarr_format == 2:
            fill_value = values[0, 0]
        else:
            attrs["_FillValue"] = as_written(values[0, 0], dtype, zarr_format)
    if draw(st.booleans()) and dtype.kind != "b":
        missing = values[1, 1]
        other = {("i", "true"): "u", ("u", "false"): "i"}.get((dtype.kind, sign))
        if other is not None:
            missing = missing.astype(dtype.newbyteorder("=")).view(f"{other}{dtype.itemsize}")
        attrs["missing_value"] = missing.item()
    return values, zarr_format, attrs, fill_value


@given(packed=packed_arrays())
def test_zarr_arrays_have_the_values_that_xarray_decodes(packed):
    store = zarr.storage.MemoryStore()
    group = stored(store, *packed)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            expected = xr.open_zarr(store, consolidated=False, decode_times=False)["v"].values.astype(float)
        except (ValueError, OverflowError):
            # A fill value in the other sign than the data's, which xarray cannot convert.
            assume(False)
        as_stored = xr.open_zarr(store, consolidated=False, mask_and_scale=False, decode_times=False)["v"]
    column = as_rows(group["v"], "x")
    values = column.lazy.compute()
    assert values.dtype == column.dtype
    assert_array_equal(values.astype(float), expected)
    # To the last bit what the same variable is in a Dataset.
    of_dataset = decoded(as_stored, "x").compute().values
    assert of_dataset.astype(column.dtype).tobytes() == np.ascontiguousarray(values).tobytes()
