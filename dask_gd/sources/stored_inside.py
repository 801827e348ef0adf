"""Zarr arrays inside Dask arrays: `da.from_zarr`, `da.from_array` of a Zarr array, xarray's lazy variables.

Dask reads them in its own tasks, where Zarr takes whatever it does not find for the fill value: an absent chunk, and
every chunk of a store that the worker cannot see. So they are looked for where a Dask array enters. Their paths are
made absolute, the gate has every task look whether its process can see them, and a note says which chunks are absent.
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
from zarr.storage import LocalStore, WrapperStore, ZipStore

from ..errors import DaskGDError, UnreachableStoreError
from ..worker_env import process_name
from . import presence, stores
from .packing import zarr_packing
from .referents import referents
from .zarr_column import ZarrColumn

logger = logging.getLogger("dask_gd")

#: Tasks of a layer that are looked at, since each of them holds what reads the array; and objects that these lead to.
SOME_TASKS, SOME_OBJECTS = 8, 20_000


def made_safe(array: da.Array, role: str) -> tuple[str, ...]:
    """Make the paths of the Zarr arrays inside absolute, note what they lack, and return the files that show them.

    Returns
    -------
    tuple of str
        The absolute path of each local array's metadata, which a process that can read the array can see.

    Raises
    ------
    UnreachableStoreError
        If this process cannot see one.
    """
    seen_by = []
    for stored in zarr_arrays(array):
        _make_absolute(stored.store)
        _note(stored, role)
        inner = _innermost(stored.store)
        if isinstance(inner, LocalStore):
            seen_by.append(os.path.join(inner.root, stores.metadata_key(stored)))
    check_seen(seen_by, role)
    return tuple(seen_by)


def check_seen(paths: Iterable[str], what: str) -> None:
    """Raise `UnreachableStoreError` if this process cannot see the metadata of an array that it is to read."""
    for path in paths:
        if not os.path.exists(path):
            raise UnreachableStoreError(
                f"{process_name()} cannot see {path}, from which {what} is read; is it on a disk that all workers "
                "share? Zarr would read it as the fill value."
            )


def zarr_arrays(array: da.Array) -> list[zarr.Array]:
    """Return the Zarr arrays that a Dask array's graph reads, but for those that it reads as we do."""
    things = list(islice(referents(_readers(array.__dask_graph__())), SOME_OBJECTS))
    ours = {id(thing.array) for thing in things if isinstance(thing, ZarrColumn)}
    return [thing for thing in things if isinstance(thing, zarr.Array) and id(thing) not in ours]


def _readers(graph: Any) -> Iterator[Any]:
    """Yield what the layers of a graph hold: of layers with a task for each block some tasks."""
    layers = [graph]
    if isinstance(graph, HighLevelGraph):
        layers = list(graph.layers.values())
    for layer in layers:
        if isinstance(layer, Blockwise):
            yield layer.task
            yield [argument for argument, dims in layer.indices if dims is None]
        else:
            yield [layer[key] for key in islice(iter(layer), SOME_TASKS)]


def _innermost(store: Any) -> Any:
    while isinstance(store, WrapperStore):
        store = store._store
    return store


def _make_absolute(store: Any) -> None:
    """Make the path of a store that a graph holds absolute, in place: it is the same place, for other processes too."""
    inner = _innermost(store)
    if isinstance(inner, LocalStore):
        inner.root = Path(os.path.abspath(inner.root))
    elif isinstance(inner, ZipStore):
        inner.path = Path(os.path.abspath(inner.path))


def _note(stored: zarr.Array, role: str) -> None:
    """Log what Dask reads otherwise than dask_gd would."""
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
