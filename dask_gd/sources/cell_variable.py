"""The values of a variable for a piece of the samples and a column of the cells, in a task.

A variable that xarray has opened from Zarr, and that nothing was done to since, is read from its chunks as a fit of
Zarr arrays reads them, and decoded by xarray's own functions. Others are arrays in memory, or blocks that Dask makes.
All of them come as rows of samples and columns of cells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any, Protocol

import dask.array as da
import numpy as np
import xarray as xr
import zarr
from dask.blockwise import Blockwise
from distributed.metrics import context_meter

from .cell_grid import Box, CellGrid
from .chunk_files import ChunkError, thread_buffer
from .grid import Edges, chunk_edges, longest
from .kinds import is_plain
from .packing import Packing
from .variables import variable_packing
from .zarr_column import ZarrColumn

#: xarray's wrappers that change no value and no position.
PASSED_THROUGH = ("ImplicitToExplicitIndexingAdapter", "MemoryCachedArray", "CopyOnWriteArray")


class CellReader(Protocol):
    """Reads a variable in a task."""

    def read(self, grid: CellGrid, samples: Box, cells: Box, given: tuple[np.ndarray, ...]) -> np.ndarray:
        """Return the values of a piece in a column, with all dimensions of the grid or size 1 in their place."""
        ...


@dataclass(frozen=True)
class InMemory:
    """An array with all dimensions of the grid, of size 1 along those that the variable does not have."""

    array: np.ndarray
    packing: Packing | None

    def read(self, grid: CellGrid, samples: Box, cells: Box, given: tuple[np.ndarray, ...]) -> np.ndarray:
        """Return a part of the array."""
        index = []
        for (start, stop), size in zip((*samples, *cells), self.array.shape, strict=True):
            index.append(slice(None) if size == 1 else slice(start, stop))
        return decoded(self.array[tuple(index)], self.packing)


@dataclass(frozen=True)
class Given:
    """Blocks that Dask makes, of which a task is given those of its pieces."""

    #: Which of the blocks that a task is given.
    number: int
    packing: Packing | None

    def read(self, grid: CellGrid, samples: Box, cells: Box, given: tuple[np.ndarray, ...]) -> np.ndarray:
        """Return the block."""
        return decoded(given[self.number], self.packing)


@dataclass(frozen=True)
class Stored:
    """A Zarr array, or a part of it, that xarray has opened."""

    column: ZarrColumn
    dims: tuple[str, ...]
    #: Where the variable begins in the array.
    origin: tuple[int, ...]
    shape: tuple[int, ...]
    #: xarray's functions that make values of the stored numbers.
    functions: tuple[Callable[[np.ndarray], np.ndarray], ...] = field(repr=False)
    packing: Packing | None = None

    @property
    def array(self) -> zarr.Array:
        """The stored array."""
        return self.column.array

    @property
    def edges(self) -> dict[str, Edges]:
        """Where chunks begin along each dimension of the variable."""
        found: dict[str, Edges] = {}
        for d, edges, first, size in zip(self.dims, chunk_edges(self.array), self.origin, self.shape, strict=True):
            if first == 0:
                found[d] = edges
            else:
                found[d] = (0, *(edge - first for edge in edges if 0 < edge - first < size), size)
        return found

    @property
    def chunk_bytes(self) -> int:
        """The bytes of a chunk, decoded."""
        return prod(map(longest, chunk_edges(self.array))) * self.array.dtype.itemsize

    def read(self, grid: CellGrid, samples: Box, cells: Box, given: tuple[np.ndarray, ...]) -> np.ndarray:
        """Read a box of the chunks, into memory that this thread keeps for the variable."""
        box = dict(zip(grid.dims, (*samples, *cells), strict=True))
        shape = tuple(box[d][1] - box[d][0] for d in self.dims)
        origin = tuple(first + box[d][0] for d, first in zip(self.dims, self.origin, strict=True))
        out = thread_buffer(self.column.role, shape, self.array.dtype)
        self._read_into(out, origin)
        values: np.ndarray = out
        for function in self.functions:
            values = np.asarray(function(values))
        return expanded(decoded(values, self.packing), self.dims, grid.dims)

    @context_meter.meter("read")
    def _read_into(self, out: np.ndarray, origin: tuple[int, ...]) -> None:
        context_meter.digest_metric("read", out.nbytes, "bytes")
        column = self.column
        try:
            (column.files or column.marked).read_box(origin, out, self.array.fill_value or 0)
        except ChunkError as error:
            refused = column.refused(error)
        else:
            return
        # Not from the error, parts of which may not be sendable.
        raise refused


def decoded(values: np.ndarray, packing: Packing | None) -> np.ndarray:
    """Return the values that packed numbers stand for."""
    if packing is None:
        return values
    return packing.decode(values)


def expanded(values: np.ndarray, dims: tuple[str, ...], of_grid: tuple[str, ...]) -> np.ndarray:
    """Return values with the dimensions of a grid in their order, of size 1 along those that they do not have."""
    order = [dims.index(d) for d in of_grid if d in dims]
    index = tuple(slice(None) if d in dims else np.newaxis for d in of_grid)
    return values.transpose(order)[index]


def as_rows(values: np.ndarray, samples: Box, cells: Box) -> np.ndarray:
    """Return values over the dimensions of a grid as (samples, cells)."""
    shape = tuple(stop - start for start, stop in (*samples, *cells))
    if values.shape != shape:
        values = np.broadcast_to(values, shape)
    return values.reshape(prod(shape[: len(samples)]), -1)


def stored_in(name: str, variable: xr.Variable) -> Stored | None:
    """Return the Zarr array that holds a variable as xarray has opened it; None where there is none, or more to it."""
    lazy = _opened(variable)
    if lazy is None or not is_plain(variable.dtype):
        return None
    functions: list[Callable[[np.ndarray], np.ndarray]] = []
    key: tuple | None = None
    # xarray's wrappers, one inside the other; others than these are read by Dask.
    while type(lazy).__name__ != "ZarrArrayWrapper":
        kind = type(lazy).__name__
        if kind == "_ElementwiseFunctionArray":
            functions.insert(0, lazy.func)
        elif kind == "LazilyIndexedArray" and key is None:
            key = lazy.key.tuple
        elif kind not in PASSED_THROUGH:
            return None
        lazy = lazy.array
    array = getattr(lazy, "_array", None)
    if not isinstance(array, zarr.Array) or key is None or array.ndim != variable.ndim:
        return None
    origin = []
    for part, size, length in zip(key, array.shape, variable.shape, strict=True):
        if not isinstance(part, slice):
            return None
        start, stop, step = part.indices(size)
        if step != 1 or stop - start != length:
            return None
        origin.append(start)
    return Stored(
        ZarrColumn(array, f"cells {name}", missing="fill"),
        dims=tuple(map(str, variable.dims)),
        origin=tuple(origin),
        shape=variable.shape,
        functions=tuple(functions),
        packing=variable_packing(name, variable),
    )


def _opened(variable: xr.Variable) -> Any:
    """Return xarray's lazy array behind a variable, in a Dask array of nothing else or by itself; else None."""
    data = variable._data
    if not isinstance(data, da.Array):
        return None if variable._in_memory else data
    layers = getattr(data.dask, "layers", {})
    original = f"original-{data.name}"
    if set(layers) != {original, data.name} or not isinstance(layers[data.name], Blockwise):
        return None
    node = layers[original][original]
    found = getattr(node, "value", node)
    if getattr(found, "shape", None) != data.shape or getattr(found, "dtype", None) != data.dtype:
        return None
    return found
