"""Predictions on disk: `write`, whose Zarr array or Dataset is there once it is complete.

What is promised, and what keeps it:

- It appears whole or not at all. A path is written beside its place and renamed; at a URL, where nothing can be
  renamed, the root's metadata comes last. What a writer left that was killed does not stand in the way of the next.
- No chunk is lost without a word. Paths are absolute before they leave the client; a worker that does not see the place
  says so; and every chunk is counted, as the client sees it, before the result appears.
- No two tasks write to one chunk: blocks are brought to the chunks of the result first.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import warnings
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, cast

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr
import zarr
from zarr.abc.store import Store
from zarr.codecs import Crc32cCodec
from zarr.core.array import AsyncArray
from zarr.core.buffer import default_buffer_prototype
from zarr.core.metadata import ArrayV3Metadata
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore, MemoryStore, StorePath

from ..cluster import active_client
from ..errors import ClusterError, InvalidArgumentError, InvalidTypeError
from ..sources.gate import gated
from .beside import beside, check_not_read, check_place

#: What a variable is called that has no name.
NAME = "prediction"

#: Bytes of the chunks of what is in memory.
CHUNK = "16MiB"

#: A key at a URL from before the first chunk to after the last metadata.
UNFINISHED = ".dask_gd-unfinished"

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
#: What `pathlib.Path` makes of a URL.
COLLAPSED = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/[^/]")


def write(
    prediction: Any, path: str | os.PathLike, *, overwrite: bool = False, storage_options: dict[str, Any] | None = None
) -> str:
    """Write a prediction to Zarr, complete or not at all, a block at a time.

    Parameters
    ----------
    prediction : array, xarray.DataArray or xarray.Dataset
        What `FitResult.predict` gives: NumPy or Dask, of any chunks, also of unknown sizes (which are computed first,
        in a pass of their own). A DataArray becomes the variable of a Dataset, by its name or as "prediction", with
        its coordinates and attributes.
    path : path or URL
        Where the array or the group of the Dataset is to be. On a cluster all workers must see it.
    overwrite : bool
        Replace the Zarr that is there. Nothing else is replaced, nothing at a URL, and nothing that the prediction is
        read from.
    storage_options : dict, optional
        For a URL, as fsspec takes them.

    Returns
    -------
    str
        The absolute path, or the URL.

    Raises
    ------
    InvalidArgumentError, InvalidTypeError
        Before anything is computed: a place that is taken, or a prediction that Zarr cannot hold.
    DataError
        Of a block that is not as it was declared.
    ClusterError
        A worker that does not see the place, cannot write there, or whose chunks this client does not see.

    Notes
    -----
    Chunks have the size of the largest block along each dimension, and checksums (crc32c). Metadata is consolidated. A
    chunk that holds nothing but the fill value is written like any other, so that an absent one is an error.

    Examples
    --------
    >>> import tempfile
    >>> x = da.from_array(np.array([[0.0], [1.0], [2.0]]), chunks=(2, 1))
    >>> run = dask_gd.fit(x, np.array([1.0, 3.0, 5.0]))
    >>> path = dask_gd.write(run.predict(x), f"{tempfile.mkdtemp()}/prediction.zarr")
    >>> zarr.open_array(path, mode="r")[:].round(6).tolist()
    [1.0, 3.0, 5.0]
    """
    data = as_data(prediction)
    place = os.fspath(path)
    if place.startswith("file://"):
        place = place.removeprefix("file://")
    if URL.match(place):
        _write_at_url(data, place, overwrite, storage_options)
        return place
    if COLLAPSED.match(place):
        raise InvalidArgumentError(f"write(path={path!r}): a Path is no URL; give a str, with two slashes.")
    if storage_options is not None:
        raise InvalidArgumentError("write(storage_options=...) is for URLs; a path on this machine has none.")
    target = Path(os.path.abspath(place))
    check_place(target, overwrite)
    if os.path.lexists(target):
        check_not_read(data, target)
    with beside(target, overwrite) as (directory, marker):
        store = LocalStore(directory)
        fill(data, store, store, Where(str(target), str(marker)))
    return str(target)


def as_data(prediction: Any) -> np.ndarray | da.Array | xr.Dataset:
    """Return what is to be written: an array, or the Dataset of a DataArray."""
    if isinstance(prediction, np.ma.MaskedArray):
        return np.ma.filled(prediction.astype(np.result_type(prediction, np.float32)), np.nan)
    if isinstance(prediction, np.ndarray | da.Array):
        return prediction
    if isinstance(prediction, xr.DataArray):
        # xarray takes the name of a Dask array, which is a hash, for one that was not given.
        unnamed = prediction.name is None or prediction.name == getattr(prediction.data, "name", None)
        if unnamed:
            name: Hashable = NAME
        else:
            name = prediction.name
        if name in prediction.coords:
            raise InvalidArgumentError(f"write: {name!r} is the name of the DataArray and of a coordinate; rename one.")
        prediction = prediction.to_dataset(name=name)
    if not isinstance(prediction, xr.Dataset):
        raise InvalidTypeError(
            f"write(prediction=...): a {type(prediction).__name__}; give what predict gives, a NumPy or Dask array, a "
            "DataArray or a Dataset."
        )
    for name in (*prediction.variables, *prediction.dims):
        if not isinstance(name, str):
            raise InvalidArgumentError(f"write: {name!r} is no name for Zarr; rename it to a str.")
    for name, index in prediction.indexes.items():
        if isinstance(index, pd.MultiIndex):
            raise InvalidArgumentError(
                f"write: {name!r} is a level of a MultiIndex, which Zarr cannot hold; write prediction.unstack(), or "
                "prediction.reset_index(...) to keep its levels as coordinates."
            )
    return prediction


# At a URL


def _write_at_url(data: Any, url: str, overwrite: bool, storage_options: dict[str, Any] | None) -> None:
    """Write chunks, count them, then write the metadata, the root's last: until then no reader finds anything."""
    if overwrite:
        raise InvalidArgumentError(f"write({url!r}, overwrite=True): nothing at a URL is replaced; delete it first.")
    store = FsspecStore.from_url(url, storage_options=storage_options)
    present = set(sync(_keys(store)))
    if present and UNFINISHED not in present:
        raise InvalidArgumentError(f"write: there is something at {url}, such as {min(present)}; choose another place.")
    # What a writer left that was killed.
    sync(_delete(store, present))
    template = MemoryStore()
    try:
        sync(_put(store, {UNFINISHED: b""}))
        fill(data, store, template, Where(url, None))
        items = {key: value.to_bytes() for key, value in template._store_dict.items()}
        sync(_put(store, {key: value for key, value in items.items() if key != "zarr.json"}))
        lacking = items.keys() - {"zarr.json"} - set(sync(_keys(store)))
        if lacking:
            raise ClusterError(f"{min(lacking)} was written to {url} and is not there.")
        sync(_put(store, {"zarr.json": items["zarr.json"]}))
    except BaseException:
        with contextlib.suppress(Exception):
            sync(_delete(store, set(sync(_keys(store)))))
        raise
    sync(_delete(store, {UNFINISHED}))


async def _keys(store: Store) -> list[str]:
    return [key async for key in store.list_prefix("")]


async def _put(store: Store, items: dict[str, bytes]) -> None:
    for key, value in items.items():
        await store.set(key, default_buffer_prototype().buffer.from_bytes(value))


async def _delete(store: Store, keys: set[str]) -> None:
    for key in keys:
        await store.delete(key)


# What is written there


@dataclass(frozen=True)
class Where:
    """A place as the user knows it, and a file that every worker must see before it writes there."""

    place: str
    marker: str | None


@dataclass(frozen=True)
class Target:
    """Where `dask.array.store` puts the blocks of an array."""

    array: zarr.Array
    where: Where

    def __setitem__(self, region: tuple[slice, ...], block: np.ndarray) -> None:
        """Write a chunk, in a worker."""
        place = self.where.place
        marker = self.where.marker
        if marker is not None and not os.path.exists(marker):
            raise ClusterError(
                f"{_this_process()} does not see {os.path.dirname(marker)}, where {place} is being written; is it on a "
                "disk that all workers share? Nothing was written."
            )
        try:
            self.array[region] = block
        except OSError as error:
            raise ClusterError(f"{_this_process()} cannot write a chunk of {place}: {error}") from error
        if marker is not None and not os.path.exists(marker):
            # The client has given up meanwhile, and removed what there was.
            shutil.rmtree(os.path.dirname(marker), ignore_errors=True)


def _this_process() -> str:
    from distributed import get_worker

    try:
        return f"Worker {get_worker().address}"
    except ValueError:
        return "This process"


def fill(data: Any, store: Store, template: Store, where: Where) -> None:
    """Write everything: the metadata and what is in memory to the template, and what is lazy to the store."""
    try:
        if isinstance(data, np.ndarray | da.Array):
            lazy = _array(data, template)
        else:
            lazy = _dataset(data, template)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise InvalidTypeError(f"write: Zarr cannot hold this prediction: {error}") from error
    targets = [Target(_at(array, store), where) for array, _ in lazy]
    if lazy:
        # Blocks are chunks, so that no two tasks write to the same.
        da.store([blocks for _, blocks in lazy], targets, lock=False)  # type: ignore[arg-type]
    count_chunks([target.array for target in targets], where)
    if isinstance(data, xr.Dataset):
        with warnings.catch_warnings():
            # It is no part of the specification yet; zarr and xarray know it.
            warnings.simplefilter("ignore")
            zarr.consolidate_metadata(template)


def _array(data: np.ndarray | da.Array, template: Store) -> list[tuple[zarr.Array, da.Array]]:
    """Make the array, and return it with its blocks if these are still to be computed."""
    if isinstance(data, np.ndarray):
        sizes = da.core.normalize_chunks("auto", data.shape, limit=CHUNK, dtype=data.dtype)
    else:
        data = regular(data)
        sizes = data.chunks
    array = zarr.create_array(
        template,
        shape=data.shape,
        chunks=_largest(sizes),
        dtype=data.dtype,
        compressors=[Crc32cCodec()],
        config={"write_empty_chunks": True},
    )
    if isinstance(data, da.Array):
        return [(array, data)]
    array[...] = data
    return []


def _dataset(dataset: xr.Dataset, template: Store) -> list[tuple[zarr.Array, da.Array]]:
    """Make the group, and return its arrays whose blocks are still to be computed, with these."""
    dataset = dataset.drop_encoding()
    # Strings of one width have no type in Zarr's specification, and of lazy ones xarray has to see all.
    words = {name: v.compute().astype(object) for name, v in dataset.variables.items() if v.dtype.kind in "UO"}
    dataset = _with(dataset, words)
    lazy: dict[str, xr.Variable] = {}
    encoding: dict[str, dict[str, Any]] = {}
    for name, variable in dataset.variables.items():
        encoding[str(name)] = {"compressors": (Crc32cCodec(),)}
        if variable.chunks is not None:
            lazy[str(name)] = variable.copy(data=regular(variable.data))  # type: ignore[arg-type]
            encoding[str(name)]["chunks"] = _largest(lazy[str(name)].chunks)
    _with(dataset, lazy).to_zarr(
        template,  # type: ignore[arg-type]
        mode="w",
        encoding=encoding,
        zarr_format=3,
        consolidated=False,
        compute=False,
        write_empty_chunks=True,
    )
    group = zarr.open_group(template, mode="r")
    encoded = {name: xr.conventions.encode_cf_variable(variable, name=name) for name, variable in lazy.items()}
    return [(cast(zarr.Array, group[name]), variable.data) for name, variable in encoded.items()]


def _with(dataset: xr.Dataset, variables: Mapping[Any, xr.Variable]) -> xr.Dataset:
    """Return the dataset with these variables in the places of its own."""
    coords = {name: v for name, v in variables.items() if name in dataset.coords}
    return dataset.assign({name: v for name, v in variables.items() if name not in coords}).assign_coords(coords)


def regular(array: da.Array) -> da.Array:
    """Return the array in chunks of one size, but for the last along each dimension; each block is checked first."""
    if np.isnan([size for sizes in array.chunks for size in sizes]).any():
        # Not in place: the array is the user's.
        array = da.map_blocks(_same, array, dtype=array.dtype, meta=array._meta).compute_chunk_sizes()
    if array.dtype.kind in "fiub":
        array = gated(array, NAME)
    return array.rechunk(_largest(array.chunks))


def _same(block: np.ndarray) -> np.ndarray:
    return block


def _largest(chunks: Any) -> tuple[int, ...]:
    return tuple(max(1, *sizes) for sizes in chunks)


def _at(array: zarr.Array, store: Store) -> zarr.Array:
    """Return the array in a store that need not have its metadata yet."""
    place = StorePath(store, array.path)
    metadata = cast(ArrayV3Metadata, array.metadata)
    return zarr.Array(AsyncArray(metadata=metadata, store_path=place, config={"write_empty_chunks": True}))


def count_chunks(arrays: list[zarr.Array], where: Where) -> None:
    """Refuse an array that lacks chunks, as this client sees it."""
    for array in arrays:
        grid = product(*(range(-(-n // size)) for n, size in zip(array.shape, array.chunks, strict=True)))
        keys = [array.metadata.encode_chunk_key(index) for index in grid]
        keys = [f"{array.path}/{key}" if array.path else key for key in keys]
        store = array.store
        if isinstance(store, LocalStore):
            # One by one: what a network's disk lists may be old.
            absent = [key for key in keys if not _has_bytes(store.root / key)]
        else:
            present = set(sync(_keys(store)))
            absent = [key for key in keys if key not in present]
        if absent:
            raise ClusterError(
                f"{len(absent)} of {len(keys)} chunks of {where.place} were written and are not there, the first of "
                f"them {absent[0]}{_writer_of(store, absent[0])}. Nothing is left at {where.place}; give a place that "
                "this client and all workers share."
            )


def _has_bytes(file: Path) -> bool:
    try:
        return file.stat().st_size > 0
    except OSError:
        return False


def _writer_of(store: Store, key: str) -> str:
    """Name a worker that sees the chunk where it has written it."""
    client = active_client()
    if client is None:
        return ""
    found = client.run(_sees, store, key, on_error="ignore")
    for address, sees in found.items():
        if sees is True:
            return f": worker {address} wrote it to a disk, or a memory, that this client cannot see"
    return ""


def _sees(store: Store, key: str) -> bool:
    return bool(sync(store.exists(key)))
