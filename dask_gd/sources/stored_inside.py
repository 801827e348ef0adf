"""Zarr arrays inside Dask arrays: `da.from_zarr`, `da.from_array` of a Zarr array, xarray's lazy variables.

Dask reads them in its own tasks, where Zarr takes a chunk that is not there for the fill value: an absent chunk, and
every chunk of a store that the worker cannot see. So these arrays are looked for where a Dask array enters. Their paths
are made absolute, the gate has every task check that its process can see them, and a log message names absent chunks.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import zarr
from dask.blockwise import Blockwise
from dask.highlevelgraph import HighLevelGraph
from zarr.storage import LocalStore, ZipStore

from ..errors import DaskGDError, UnreachableStoreError
from ..worker_env import process_name
from . import presence, stores
from .packing import zarr_packing
from .referents import referents
from .zarr_column import ZarrColumn

logger = logging.getLogger("dask_gd")

#: Tasks of a layer that are looked at: each of them holds the object that reads the array.
SOME_TASKS = 8
#: Objects that are looked at, of those that these tasks lead to.
SOME_OBJECTS = 20_000


def made_safe(array: da.Array, role: str) -> tuple[str, ...]:
    """Make the paths of the Zarr arrays inside absolute, log what they lack, and return the files that show them.

    Returns
    -------
    tuple of str
        The absolute path of each local array's metadata, which a process that can read the array can see.

    Raises
    ------
    UnreachableStoreError
        If this process cannot see an array.
    """
    metadata_files = []
    for stored in zarr_arrays(array):
        # The graph's own arrays are changed, since its tasks read these.
        _make_absolute(stored.store)
        _log_packed(stored, role)
        _log_absent(stored, role)
        # Files can be looked for at once; other stores would have to be asked.
        store = stores.innermost(stored.store)
        if isinstance(store, LocalStore):
            metadata_files.append(os.path.join(store.root, stores.metadata_key(stored)))
    check_seen(metadata_files, role)
    return tuple(metadata_files)


def check_seen(paths: Iterable[str], what: str) -> None:
    """Raise `UnreachableStoreError` if this process cannot see the metadata of an array that it is to read."""
    for path in paths:
        if not os.path.exists(path):
            raise UnreachableStoreError(
                f"{process_name()} cannot see {path}, from which {what} is read; is it on a disk that all workers "
                "share? Zarr would read it as the fill value."
            )


def zarr_arrays(array: da.Array) -> list[zarr.Array]:
    """Return the Zarr arrays that a Dask array's graph reads, but for those that it reads through a `ZarrColumn`."""
    roots = _readers(array.__dask_graph__())
    things = list(islice(referents(roots), SOME_OBJECTS))
    # A `ZarrColumn` refuses absent chunks itself.
    through_columns = {id(thing.array) for thing in things if isinstance(thing, ZarrColumn)}
    return [thing for thing in things if isinstance(thing, zarr.Array) and id(thing) not in through_columns]


def _readers(graph: Any) -> Iterator[Any]:
    """Yield the objects that the layers of a graph hold: a few tasks of a layer with a task for each block."""
    layers = [graph]
    if isinstance(graph, HighLevelGraph):
        layers = list(graph.layers.values())
    for layer in layers:
        # A blockwise layer has one task for all blocks, and arguments that all of them share.
        if isinstance(layer, Blockwise):
            yield layer.task
            yield [argument for argument, dims in layer.indices if dims is None]
        else:
            yield [layer[key] for key in islice(iter(layer), SOME_TASKS)]


def _make_absolute(store: Any) -> None:
    """Make the path of a store that a graph holds absolute, in place: it is the same place, for other processes too."""
    inner = stores.innermost(store)
    if isinstance(inner, LocalStore):
        inner.root = Path(os.path.abspath(inner.root))
    elif isinstance(inner, ZipStore):
        inner.path = Path(os.path.abspath(inner.path))


def _log_packed(stored: zarr.Array, role: str) -> None:
    """Log that Dask reads packed numbers as they are stored."""
    name = stored.path or role
    with contextlib.suppress(DaskGDError):
        if zarr_packing(stored, name) is not None and stored.dtype.kind in "iu":
            logger.warning(
                "%s is read by Dask from the Zarr array %r, whose attributes say that it is packed (scale_factor, "
                "add_offset, _FillValue). Dask gives its numbers as they are stored. If they are not unpacked in the "
                "graph, give the Zarr array itself, or open it with xarray.",
                role,
                name,
            )


def _log_absent(stored: zarr.Array, role: str) -> None:
    """Log that Dask reads absent chunks as the fill value, unless that is NaN."""
    name = stored.path or role
    with contextlib.suppress(Exception):  # a store that does not answer is the reader's to name
        absent = None
        if stored.ndim:
            absent = next(iter(presence.absent_chunks(stored, 0, stored.shape[0])), None)
        if absent is not None and not _is_nan(stored.fill_value):
            logger.warning(
                "%s is read by Dask from the Zarr array %r, which lacks chunk %s and perhaps others. They are taken "
                "for the fill value %r. Give the Zarr array itself to have absent chunks refused.",
                role,
                name,
                absent[0],
                stored.fill_value,
            )


def _is_nan(value: Any) -> bool:
    return isinstance(value, float | np.floating) and bool(np.isnan(value))
