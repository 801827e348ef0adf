"""Write the chunks and the metadata of an array or a Dataset, and count the chunks that the client sees."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, cast

import dask.array as da
import numpy as np
import xarray as xr
import zarr
from zarr.abc.store import Store
from zarr.codecs import Crc32cCodec
from zarr.core.array import AsyncArray
from zarr.core.metadata import ArrayV3Metadata
from zarr.core.sync import sync
from zarr.storage import LocalStore, StorePath

from ..cluster import active_client
from ..errors import ClusterError, InvalidTypeError
from ..sources.gate import gated
from ..worker_env import process_name

#: Name of a variable that has none.
NAME = "prediction"

#: Bytes of the chunks of an array in memory.
CHUNK = "16MiB"


@dataclass(frozen=True)
class Where:
    """A place as the user knows it, and a file that every worker must see before it writes there."""

    place: str
    marker: str | None


@dataclass(frozen=True)
class Target:
    """A Zarr array into which `dask.array.store` writes blocks, in workers."""

    array: zarr.Array
    where: Where

    def __setitem__(self, region: tuple[slice, ...], block: np.ndarray) -> None:
        """Write a chunk, in a worker."""
        place = self.where.place
        marker = self.where.marker
        # A worker on another disk would write where nobody looks.
        if marker is not None and not os.path.exists(marker):
            raise _error_here(
                f"does not see {os.path.dirname(marker)}, where {place} is being written; is it on a disk that all "
                "workers share? Nothing was written."
            )
        try:
            self.array[region] = block
        except OSError as error:
            raise _error_here(f"cannot write a chunk of {place}: {error}") from error
        if marker is not None and not os.path.exists(marker):
            # The client has given up meanwhile, and removed everything else.
            shutil.rmtree(os.path.dirname(marker), ignore_errors=True)


def _error_here(message: str) -> ClusterError:
    """Return an error about this process, whose name begins the sentence."""
    name = process_name()
    return ClusterError(f"{name[0].upper()}{name[1:]} {message}")


def fill(data: Any, store: Store, template: Store, where: Where) -> None:
    """Write the metadata and arrays in memory to the template, and lazy arrays to the store."""
    # Metadata comes first, and refuses types that Zarr does not have.
    try:
        if isinstance(data, np.ndarray | da.Array):
            lazy = _array(data, template)
        else:
            lazy = _dataset(data, template)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise InvalidTypeError(f"write: Zarr cannot hold this prediction: {error}") from error
    # Blocks are chunks, so that no two tasks write to the same chunk.
    targets = [Target(at(array, store), where) for array, _ in lazy]
    if lazy:
        da.store([blocks for _, blocks in lazy], targets, lock=False)  # type: ignore[arg-type]
    count_chunks([target.array for target in targets], where)
    if isinstance(data, xr.Dataset):
        with warnings.catch_warnings():
            # Consolidated metadata is no part of the specification yet; zarr and xarray know it.
            warnings.simplefilter("ignore")
            zarr.consolidate_metadata(template)


def _array(data: np.ndarray | da.Array, template: Store) -> list[tuple[zarr.Array, da.Array]]:
    """Make the array, and return it with its blocks if these are not computed yet."""
    # Chunks are blocks that are all of a size.
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
    # An array in memory is written at once.
    if isinstance(data, da.Array):
        return [(array, data)]
    array[...] = data
    return []


def _dataset(dataset: xr.Dataset, template: Store) -> list[tuple[zarr.Array, da.Array]]:
    """Make the group, and return the arrays whose blocks are not computed yet, with their blocks."""
    dataset = dataset.drop_encoding()
    # Strings of fixed width have no type in Zarr's specification, and xarray has to see all strings of a lazy array.
    strings = {}
    for name, variable in dataset.variables.items():
        if variable.dtype.kind in "UO":
            strings[name] = variable.compute().astype(object)
    dataset = _with(dataset, strings)
    # Chunks of a single size, and checksums.
    lazy: dict[str, xr.Variable] = {}
    encoding: dict[str, dict[str, Any]] = {}
    for name, variable in dataset.variables.items():
        encoding[str(name)] = {"compressors": (Crc32cCodec(),)}
        if variable.chunks is not None:
            lazy[str(name)] = variable.copy(data=regular(variable.data))  # type: ignore[arg-type]
            encoding[str(name)]["chunks"] = _largest(lazy[str(name)].chunks)
    # xarray writes the metadata and everything that is in memory.
    _with(dataset, lazy).to_zarr(
        template,  # type: ignore[arg-type]
        mode="w",
        encoding=encoding,
        zarr_format=3,
        consolidated=False,
        compute=False,
        write_empty_chunks=True,
    )
    # Blocks are written as xarray encodes them.
    group = zarr.open_group(template, mode="r")
    pairs = []
    for name, variable in lazy.items():
        encoded = xr.conventions.encode_cf_variable(variable, name=name)
        pairs.append((cast(zarr.Array, group[name]), encoded.data))
    return pairs


def _with(dataset: xr.Dataset, variables: Mapping[Any, xr.Variable]) -> xr.Dataset:
    """Return the dataset with its variables and coordinates replaced by these, by name."""
    coords = {}
    others = {}
    for name, variable in variables.items():
        if name in dataset.coords:
            coords[name] = variable
        else:
            others[name] = variable
    return dataset.assign(others).assign_coords(coords)


def regular(array: da.Array) -> da.Array:
    """Return the array in chunks of a single size, but for the last along each dimension; check each block first."""
    # Sizes that are unknown are NaN. They are computed for a copy, since the array is the user's.
    if np.isnan([size for sizes in array.chunks for size in sizes]).any():
        copy = da.map_blocks(_same, array, dtype=array.dtype, meta=array._meta)
        array = copy.compute_chunk_sizes()
    # A block that is not as it was declared is refused.
    if array.dtype.kind in "fiub":
        array = gated(array, NAME)
    return array.rechunk(_largest(array.chunks))


def _same(block: np.ndarray) -> np.ndarray:
    """Return the block itself."""
    return block


def _largest(chunks: Any) -> tuple[int, ...]:
    """Return the largest size along each dimension, at least 1."""
    return tuple(max(1, *sizes) for sizes in chunks)


def at(array: zarr.Array, store: Store) -> zarr.Array:
    """Return the same array in another store, which need not have its metadata yet."""
    place = StorePath(store, array.path)
    metadata = cast(ArrayV3Metadata, array.metadata)
    return zarr.Array(
        AsyncArray(
            metadata=metadata,
            store_path=place,
            config={"write_empty_chunks": True},
        )
    )


def count_chunks(arrays: list[zarr.Array], where: Where) -> None:
    """Refuse an array that lacks chunks, as this client sees it."""
    for array in arrays:
        # The keys of all chunks.
        counts = [-(-length // size) for length, size in zip(array.shape, array.chunks, strict=True)]
        keys = [array.metadata.encode_chunk_key(index) for index in product(*map(range, counts))]
        if array.path:
            keys = [f"{array.path}/{key}" for key in keys]
        # The keys that the store has.
        store = array.store
        if isinstance(store, LocalStore):
            # Each is looked up: a network's disk may list an old state.
            absent = [key for key in keys if not _has_bytes(store.root / key)]
        else:
            present = set(sync(keys_of(store)))
            absent = [key for key in keys if key not in present]
        if absent:
            raise ClusterError(
                f"{len(absent)} of {len(keys)} chunks of {where.place} were written and are not there, the first of "
                f"them {absent[0]}{_writer_of(store, absent[0])}. Nothing is left at {where.place}; give a place that "
                "this client and all workers share."
            )


async def keys_of(store: Store) -> list[str]:
    """List all keys of a store."""
    return [key async for key in store.list_prefix("")]


def _has_bytes(file: Path) -> bool:
    """Return whether a file exists and is not empty."""
    try:
        return file.stat().st_size > 0
    except OSError:
        return False


def _writer_of(store: Store, key: str) -> str:
    """Name a worker that sees the chunk where it has written it, for an error."""
    client = active_client()
    if client is None:
        return ""
    sees_key = client.run(_sees, store, key, on_error="ignore")
    for address, sees in sees_key.items():
        if sees is True:
            return f": worker {address} wrote it to a disk, or a memory, that this client cannot see"
    return ""


def _sees(store: Store, key: str) -> bool:
    """Return whether a store has a key, as this process sees it."""
    return bool(sync(store.exists(key)))
