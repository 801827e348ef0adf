"""Zarr arrays that Dask reads: what zarr would take for the fill value is not taken without a word (FOUND 1, 36)."""

import logging
import os
import shutil

import dask.array as da
import helpers
import numpy as np
import pytest
import xarray as xr
import zarr
from dask.distributed import Client

import dask_gd
from dask_gd.errors import UnreachableStoreError
from dask_gd.estimators import LinearRegression
from dask_gd.preprocessing import StandardScaler

ROWS = 40


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A directory that is this process's, with a group of x and y = 2 x + 1 in chunks of ten rows."""
    monkeypatch.chdir(tmp_path)
    x = np.arange(1.0, ROWS + 1)[:, None]
    group = zarr.create_group("data.zarr")
    for name, a in (("x", x), ("y", 2 * x[:, 0] + 1)):
        group.create_array(name, data=a, chunks=(10, *a.shape[1:]), dimension_names=("row", "feature")[: a.ndim])
    return tmp_path


@pytest.fixture
def elsewhere(tmp_path_factory):
    """A cluster of a process that works in another directory."""
    here = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("elsewhere"))
    try:
        cluster = helpers.cluster(1)
    finally:
        os.chdir(here)
    with cluster, Client(cluster) as client:
        yield client


def arrays(kind):
    group = zarr.open_group("data.zarr", mode="r")
    if kind == "from_zarr":
        return da.from_zarr(group["x"]), da.from_zarr(group["y"])
    if kind == "from_array":
        return da.from_array(group["x"], chunks=(20, 1)), da.from_array(group["y"], chunks=10)
    if kind == "calculated with":
        return da.from_array(group["x"], chunks=(20, 1))[:30] + 0, da.from_zarr(group["y"])[:30]
    dataset = xr.open_zarr("data.zarr", consolidated=False, chunks={} if kind == "xarray" else None)
    return dataset.x, dataset.y


KINDS = ["from_zarr", "from_array", "calculated with", "xarray", "xarray without chunks"]


def test_relative_paths_are_read_by_workers_elsewhere_and_stores_they_cannot_see_are_named(folder, elsewhere):
    for kind in KINDS:
        x, y = arrays(kind)
        run = dask_gd.fit(x, y)
        np.testing.assert_allclose(run.parameters[:, 0], [2.0, 1.0], rtol=1e-9, err_msg=kind)
        np.testing.assert_allclose(np.asarray(run.predict(x))[:3], [3.0, 5.0, 7.0], rtol=1e-9, err_msg=kind)
        assert StandardScaler().fit(x).mean_ > 10
        assert LinearRegression().fit(x, y).intercept_ == pytest.approx(1.0)
    given = [arrays(kind) for kind in KINDS]
    shutil.rmtree("data.zarr")
    for kind, (x, y) in zip(KINDS, given, strict=True):
        if kind != "xarray without chunks":
            with pytest.raises((UnreachableStoreError, ValueError, OSError)):
                dask_gd.fit(x, y)


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_that_goes_in_mid_fit_is_named_by_the_worker(folder, kind):
    x, y = arrays(kind)

    def remove(event):
        if getattr(event, "iteration", None) == 0:
            shutil.rmtree("data.zarr")

    with pytest.raises(
        UnreachableStoreError, match=r"cannot see .*zarr\.json, from which block .* of '[xy]' .*is read"
    ):
        dask_gd.fit(x, y, loss="huber", callbacks=[remove], solver="gradient_descent")


@pytest.mark.parametrize("kind", KINDS)
def test_absent_chunks_that_dask_reads_as_the_fill_value_are_said(folder, kind, caplog):
    os.remove("data.zarr/x/c/2/0")
    x, y = arrays(kind)
    with caplog.at_level(logging.WARNING, "dask_gd"):
        dask_gd.fit(x, y)
    assert "which lacks chunk (2, 0)" in caplog.text


def test_packed_arrays_that_dask_reads_as_they_are_stored_are_said(tmp_path, caplog):
    x = helpers.to_zarr(np.arange(20, dtype="i2")[:, None], 10, tmp_path / "x")
    zarr.open_array(tmp_path / "x", mode="r+").attrs["scale_factor"] = 0.1
    x = zarr.open_array(tmp_path / "x", mode="r")
    with caplog.at_level(logging.WARNING, "dask_gd"):
        dask_gd.fit(da.from_zarr(x), np.arange(20.0))
    assert "whose attributes say that it is packed" in caplog.text


def test_whole_arrays_are_not_remarked_on(folder, caplog):
    for kind in KINDS:
        x, y = arrays(kind)
        dask_gd.fit(x, y).predict(x)
    assert "is read by Dask" not in caplog.text
