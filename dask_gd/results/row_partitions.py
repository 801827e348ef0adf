"""Rows that are to be cut into column blocks, in partitions: of memory, Dask blocks, stored columns and text."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import dask
import dask.array as da
import numpy as np
import zarr
from scipy.sparse import csr_array

from ..cluster import active_client, compute
from ..errors import InvalidArgumentError, InvalidTypeError
from ..kernels.sparse_products import Compressed
from ..sources import side_by_side_column, sparse_group
from ..sources.column import Column
from ..sources.columns import as_rows, holds_sparse, sized
from ..sources.compressed import is_scipy, memory_rows
from ..sources.side_by_side_column import SideBySideColumn
from ..sources.source import Source
from ..sources.sparse_gate import gated_rows
from ..sources.sparse_group import SparseGroup
from ..sources.sparse_layout import ENTRY_BYTES, window_bytes
from ..sources.table_column import TableColumn
from ..sources.zarr_column import ZarrColumn
from .svmlight import parse_piece
from .text_files import Piece, pieces_of

CALLER = "block_columns"
#: Entries of a partition, about, where they are not Dask's blocks.
ENTRIES = 1 << 21
#: Partitions of which results are in this process's memory at a time.
AT_ONCE = 64
#: Names of arrays for what stands beside the features of a source, by role.
BESIDE = {"y": "y", "weight": "sample_weight", "offset": "offset"}


class StoredRows(NamedTuple):
    """Consecutive rows of a stored column."""

    column: SparseGroup | SideBySideColumn
    start: int
    stop: int


class MemoryRows(NamedTuple):
    """Consecutive rows of a matrix in memory."""

    rows: Compressed
    features: int

    def matrix(self) -> csr_array:
        """Return the rows as a matrix of its own."""
        return self.rows.compact.matrix(self.features)


class RowPartitions(NamedTuple):
    """All rows that are to be cut into column blocks."""

    partitions: list[Any]
    #: The number of rows and of features; None for text, of which all has to be read to know.
    shape: tuple[int, int] | None
    dtype: np.dtype
    #: The arrays and columns that the rows are read from, which may not be replaced.
    read_from: list[Any]

    @property
    def in_memory(self) -> bool:
        """Return whether the values are here, so that they are to be sent to tasks."""
        return isinstance(self.partitions[0], MemoryRows)

    @property
    def of_text(self) -> bool:
        """Return whether the rows are lines of text, which have the targets too."""
        return isinstance(self.partitions[0], Piece)

    def run(self, function: Callable, arguments: list[tuple[Any, ...]]) -> Iterator[Any]:
        """Yield what tasks return that call a function with a partition and its arguments, in order."""
        at_once = AT_ONCE
        client = active_client()
        if self.in_memory and client is not None:
            at_once = 2 * max(1, sum(client.nthreads().values()))
        for first in range(0, len(self.partitions), at_once):
            tasks = []
            for number in range(first, min(first + at_once, len(self.partitions))):
                values = self.partitions[number]
                if isinstance(values, MemoryRows):
                    values = values.matrix()
                # Dask looks into tuples and dataclasses for tasks; these have none.
                if not dask.is_dask_collection(values):
                    values = dask.delayed(values, traverse=False, pure=False)
                tasks.append(dask.delayed(function, pure=False)(values, *arguments[number]))
            # Rows in memory are sent a few partitions at a time; Dask advises against graphs that hold them.
            with dask.config.set({"distributed.admin.large-graph-warning-threshold": 1 << 40}):
                yield from compute(*tasks, what=CALLER)


def read_partition(values: Any, features: int | None) -> tuple[csr_array, dict[str, np.ndarray]]:
    """Return the rows of a partition, and what stands beside them in the same file, in a task."""
    if isinstance(values, Piece):
        matrix, y = parse_piece(values, features, False, np.dtype(float))
        return matrix, {"y": y}
    if not isinstance(values, StoredRows):
        return values, {}
    column, start, stop = values
    if isinstance(column, SparseGroup):
        return sparse_group.read_block(column, start, stop), {}
    # A level that is the reference has no entry, and neither has a number that is 0.
    matrix = side_by_side_column.read_block(column, start, stop)
    matrix.eliminate_zeros()
    return matrix, {}


def stored_column(x: Any) -> Column | None:
    """Return the column of a source or of a member of a Zarr group; None where it is neither."""
    if isinstance(x, Source):
        return x.x
    if isinstance(x, zarr.Array | zarr.Group):
        column = as_rows(x, "x")
        column.check("error", 0, column.shape[0])
        return column
    return None


def bounds_of(x: Any, column: Column) -> tuple[int, int]:
    """Return the first and the last row of a source, or of all of a column."""
    if isinstance(x, Source):
        return x.bounds[0], x.bounds[-1]
    return 0, column.shape[0]


def beside_source(x: Any) -> dict[str, da.Array]:
    """Return the targets, weights and offsets of a source as Dask arrays, by the names they are written under."""
    if not isinstance(x, Source):
        return {}
    found = {}
    for role, name in BESIDE.items():
        if role in x.by_role:
            found[name] = x.by_role[role].lazy_rows(x.bounds[0], x.bounds[-1])
    return found


def rows_to_block(x: Any) -> RowPartitions:
    """Return sparse rows in partitions.

    Raises
    ------
    InvalidArgumentError, InvalidTypeError, DataError
        For what is no sparse rows, and for rows in memory whose columns do not ascend or are out of range.
    """
    column = stored_column(x)
    if column is not None:
        return _of_column(column, *bounds_of(x, column))
    if isinstance(x, str | os.PathLike) or (isinstance(x, list | tuple) and x and isinstance(x[0], str | os.PathLike)):
        return _of_text(x)
    if not holds_sparse(x):
        raise InvalidTypeError(
            f"{CALLER}(x): a {type(x).__name__}; give sparse rows of scipy, a Dask array of such blocks, a Source of "
            "dask_gd.open(path, x=...), or the path of an svmlight file. Dense rows are read from Zarr alone: write "
            "them there first."
        )
    if is_scipy(x):
        return _of_memory(x)
    return _of_dask(gated_rows(sized(x, "x"), "x"), [x])


def _of_memory(x: Any) -> RowPartitions:
    """Return a matrix in memory, cut at entries."""
    rows = memory_rows(x, "x")
    own = rows.entries
    wanted = np.arange(own.start + ENTRIES, own.stop, ENTRIES)
    inside = np.searchsorted(rows.indptr, wanted)
    cuts = np.unique([0, *inside.tolist(), rows.length]).tolist()
    features = int(x.shape[1])
    partitions = []
    for start, stop in pairwise(cuts):
        part = rows._replace(indptr=rows.indptr[start : stop + 1])
        partitions.append(MemoryRows(part, features))
    return _checked(partitions, (rows.length, features), rows.data.dtype, [])


def _of_dask(x: da.Array, read_from: list[Any]) -> RowPartitions:
    """Return a Dask array of sparse blocks, a partition for each."""
    partitions = x.to_delayed().ravel().tolist()
    return _checked(partitions, (int(x.shape[0]), int(x.shape[1])), x.dtype, read_from)


def _of_text(x: Any) -> RowPartitions:
    """Return the lines of svmlight files."""
    files = x
    if isinstance(x, str | os.PathLike):
        files = [x]
    for file in files:
        # A path of Zarr does not say which of its members are the features.
        if Path(file).is_dir() or "://" in os.fspath(file):
            raise InvalidArgumentError(
                f"{CALLER}({os.fspath(file)!r}): a path is that of an svmlight file, a text file on this machine. Open "
                "Zarr first: block_columns(dask_gd.open(path, x=..., y=...), new_path)."
            )
    pieces = [piece for file in files for piece in pieces_of(file, CALLER)]
    return RowPartitions(_some(pieces), None, np.dtype(float), [])


def _of_column(column: Column, start: int, stop: int) -> RowPartitions:
    """Return the rows of a stored column, some windows in each partition."""
    read_from = [part.stored for part in column.parts if part.stored is not None]
    shape = (stop - start, column.shape[1])
    if isinstance(column, TableColumn):
        # Names of features are none of the values.
        beside = SideBySideColumn((column,), None)
        ranges = _ranges(list(column.windows(start, stop)), 1, len(column.encoding.columns))
        partitions = [StoredRows(beside, *each) for each in ranges]
        return _checked(partitions, shape, column.dtype, read_from)
    if isinstance(column, SparseGroup | SideBySideColumn):
        column.check_sendable()
        layout = column.layout_of(start, stop)
        together = max(1, ENTRY_BYTES * ENTRIES // window_bytes(column.shape[1]))
        ranges = _ranges(list(layout.windows(start, stop)), together, _row_entries(column))
        dtype = column.dtype
        if isinstance(column, SparseGroup):
            dtype = column.data.dtype
            bare: SparseGroup | SideBySideColumn = replace(column, cuts=None)
        else:
            bare = replace(column, feature_names=None)
        partitions = [StoredRows(bare, *each) for each in ranges]
        return _checked(partitions, shape, dtype, read_from)
    rows = None
    if not isinstance(column, ZarrColumn):
        rows = column.lazy_rows(start, stop)
    if rows is None or not holds_sparse(rows):
        raise InvalidTypeError(
            f"{CALLER}(x): a source whose features are {column.kind}. Give a source of Zarr; data frames are written "
            "there by dask_gd.write_table."
        )
    return _of_dask(rows, [rows])


def _row_entries(column: SparseGroup | SideBySideColumn) -> int:
    """Return the entries of a row on average."""
    if isinstance(column, SparseGroup):
        return column.row_entries
    total = 0
    for part in column.side_by_side:
        if isinstance(part, SparseGroup):
            total += part.row_entries
        else:
            total += len(part.encoding.columns)
    return total


def _ranges(windows: list[tuple[int, int]], together: int, row_entries: int) -> list[tuple[int, int]]:
    """Return the rows of partitions: some windows together, cut to about `ENTRIES` entries."""
    most = max(1, ENTRIES // row_entries)
    ranges: list[tuple[int, int]] = []
    for first in range(0, len(windows), together):
        group = windows[first : first + together]
        start = group[0][0]
        stop = group[-1][1]
        pieces = -(-(stop - start) // most)
        cuts = np.linspace(start, stop, pieces + 1).astype(int).tolist()
        ranges.extend(pairwise(cuts))
    return ranges


def _checked(partitions: list[Any], shape: tuple[int, int], dtype: Any, read_from: list[Any]) -> RowPartitions:
    """Return the partitions, unless there is nothing in them."""
    if 0 in shape:
        raise InvalidArgumentError(f"{CALLER}(x): the shape is {shape}; there is nothing to write.")
    return RowPartitions(_some(partitions), shape, np.dtype(dtype), read_from)


def _some(partitions: list[Any]) -> list[Any]:
    """Return the partitions, of which there must be one."""
    if not partitions:
        raise InvalidArgumentError(f"{CALLER}(x): there are no rows.")
    return partitions
