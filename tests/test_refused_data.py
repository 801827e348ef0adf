"""Data that cannot be fitted is refused by name, with what to do (FOUND 24)."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from numpy.testing import assert_array_equal

import dask_gd
from dask_gd.errors import DataError, InvalidTypeError


class DatetimeNoLeap:
    """Stands for cftime's dates, which are objects."""

    __module__ = "cftime"


def test_a_sparse_group_says_that_it_is_one_found_24(tmp_path):
    group = zarr.open_group(tmp_path / "adata.zarr", mode="w")
    sparse = group.create_group("X", attributes={"encoding-type": "csc_matrix"})
    for name in ("data", "indices", "indptr"):
        sparse.create_array(name, data=np.arange(3))
    kind = group.create_group("kind", attributes={"encoding-type": "categorical"})
    kind.create_array("codes", data=np.arange(3))
    kind.create_array("categories", data=np.arange(3))
    group.create_array("y", data=np.ones(3))
    with pytest.raises(
        InvalidTypeError, match=r"x='X' is a group .*a sparse matrix \(csc_matrix.*dask_gd.write_sparse"
    ):
        dask_gd.open(tmp_path / "adata.zarr", x="X", y="y")
    with pytest.raises(InvalidTypeError, match=r"categorical column; its numbers are x='kind/codes', with -1"):
        dask_gd.open(tmp_path / "adata.zarr", x="y", y="kind")


@pytest.mark.parametrize("loss", ["logistic", "hinge"])
def test_proportions_as_targets_have_a_remedy_that_works_found_24(loss):
    rng = np.random.default_rng(0)
    x, p = rng.normal(size=(50, 2)), rng.uniform(0.1, 0.9, 50)
    with pytest.raises(DataError, match=r"two rows, targets 1 and 0, whose sample_weight is p and 1 - p"):
        dask_gd.fit(x, p, loss=loss)
    rows, y = np.concatenate([x, x]), np.repeat([1, 0], 50)
    assert dask_gd.fit(rows, y, loss=loss, sample_weight=np.concatenate([p, 1 - p])).weights.notnull().all()


def test_dates_of_other_calendars_have_the_hint_of_times_found_24():
    dates = np.array([DatetimeNoLeap() for _ in range(4)], dtype=object)
    ds = xr.Dataset({"y": ("time", np.arange(4.0)), "when": ("time", dates)})
    with pytest.raises(InvalidTypeError, match=r"'when' holds dates \(DatetimeNoLeap\); make a number of time first"):
        dask_gd.fit(ds, features="when", target="y", sample_dims="time")


def test_nullable_variables_of_a_dataset_are_numbers_found_17():
    x = np.array([1.0, 2.0, 4.0, 7.0])
    plain = xr.Dataset({"x": ("i", x), "y": ("i", 2 * x)})
    run = dask_gd.fit(plain, features="x", target="y", sample_dims="i")
    kinds = {"objects": ("i", x.astype(int).astype(object)), "nullable": ("i", pd.array(x.astype(int), dtype="Int64"))}
    for column in kinds.values():
        ds = plain.assign(x=column)
        # xarray does not chunk pandas' own kinds.
        for data in (ds, *([ds.chunk(i=2)] if ds.x.dtype == object else [])):
            other = dask_gd.fit(data, features="x", target="y", sample_dims="i")
            np.testing.assert_allclose(other.weights, run.weights, rtol=1e-12)
    with pytest.raises(InvalidTypeError, match="features: 'x' has dtype object and holds str 'a' at position 0"):
        dask_gd.fit(plain.assign(x=("i", np.array(list("abcd"), object))), features="x", target="y", sample_dims="i")
    assert_array_equal(run.predict(ds), run.predict(plain))
