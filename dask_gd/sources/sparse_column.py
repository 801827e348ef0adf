"""Sparse rows that arrive as blocks: Dask arrays of SciPy's sparse matrices, and such a matrix in memory."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import dask.array as da
import numpy as np
from scipy.sparse import csr_array

from ..errors import InvalidTypeError
from ..kernels.sparse import ROW_ENTRIES, SparseRows
from ..kernels.sparse_products import Compressed
from .block_column import WHOLE_BYTES, BlockColumn, BoundColumn, GivenColumn
from .column import ColumnInTasks
from .compressed import memory_rows, rows_of
from .dask_column import digest
from .sparse_gate import gated_rows
from .sparse_layout import ENTRY_BYTES, ROW_BYTES, Layout, layout_of, windows_of


@dataclass(frozen=True)
class SparseColumn(BlockColumn):
    """Sparse rows in blocks, which are the source's partitions: of a Dask array, or of a matrix in memory."""

    kind = "sparse blocks"
    memory = None

    #: Its blocks are of SciPy's class csr_array, with checked rows.
    array: da.Array = field(repr=False)
    role: str
    #: The rows in memory, which a cluster should receive once and keep.
    held: Compressed | None = field(default=None, repr=False)
    #: Where the windows of the rows in memory begin.
    cuts: np.ndarray | None = field(default=None, repr=False)

    @property
    def is_in_memory(self) -> bool:
        """Return whether the rows are in memory."""
        return self.held is not None

    @property
    def dtype(self) -> np.dtype:
        """The dtype in which values are multiplied."""
        return np.dtype(float)

    @cached_property
    def row_entries(self) -> int:
        """Entries of a row on average; of a Dask array nobody knows before its blocks are there."""
        if self.held is None:
            return ROW_ENTRIES
        own = self.held.entries
        return mean_entries(own.stop - own.start, self.held.length)

    def row_format(self, dtype: np.dtype) -> SparseRows:
        """Return the format of sparse rows."""
        return SparseRows(self.shape[1], self.row_entries)

    def nbytes(self, rows: int) -> int:
        """Return the bytes of this number of rows, as far as known."""
        return rows * (ENTRY_BYTES * self.row_entries + ROW_BYTES)

    def partition_bounds(self, start: int, stop: int) -> tuple[int, ...]:
        """Return where partitions begin: at the blocks, which of rows in memory follow from their entries."""
        if self.is_in_memory:
            return tuple(np.cumsum([0, *self.array.chunks[0]]).tolist())
        return super().partition_bounds(start, stop)

    def aligned(self, bounds: tuple[int, ...]) -> SparseColumn:
        """Return the rows of these partitions, a block for each; blocks are paired by number ever after."""
        if bounds[0] == 0 and self.is_aligned(bounds):
            return self
        # Blocks of Dask's are cut and joined where the partitions are others.
        if self.held is None:
            return super().aligned(bounds)
        indptr = self.held.indptr[bounds[0] : bounds[-1] + 1]
        rows = self.held._replace(indptr=indptr)
        own_bounds = tuple(bound - bounds[0] for bound in bounds)
        return in_memory(rows, self.shape[1], self.role, own_bounds)

    def for_tasks(self, in_process: bool = False) -> ColumnInTasks:
        """Return the rows if tasks of this process can read them where they are, else a substitute for blocks."""
        if in_process and self.held is not None:
            return BoundSparse(
                self.held,
                self.shape[1],
                self.role,
                0,
                self.cuts,
                whole=True,
            )
        return GivenSparse(self.shape[1], self.role, self.cuts)

    def blocks(self) -> da.Array:
        """Return the array as `map_blocks` takes it."""
        return self.array

    def content(self) -> str:
        """Return a hash of all rows in memory or of a small array, else of the first, middle and last block."""
        if self.held is not None:
            return digest_of(self.held)
        # A large array is known by three of its blocks.
        blocks = list(range(self.array.numblocks[0]))
        if not self.known_whole:
            blocks = sorted({0, len(blocks) // 2, len(blocks) - 1})
        found = []
        for number in blocks:
            block = self.array.blocks[number].compute()
            found.append(digest_of(rows_of(block)))
        return hashlib.blake2b("".join(found).encode(), digest_size=16).hexdigest()

    @property
    def known_whole(self) -> bool:
        """Return whether `content` has all of the values."""
        return self.is_in_memory or self.nbytes(self.shape[0]) <= WHOLE_BYTES


@dataclass(frozen=True)
class GivenSparse(GivenColumn):
    """The substitute that travels to tasks in place of sparse blocks."""

    features: int
    role: str
    cuts: np.ndarray | None = None

    def bind(self, block: Any, partition: int, start: int) -> BoundSparse:
        """Return a partition's block as the rows from ``start`` on."""
        return BoundSparse(rows_of(block), self.features, self.role, start, self.cuts)


@dataclass(frozen=True)
class BoundSparse(BoundColumn):
    """The sparse rows of a block inside a task, or all rows in memory."""

    dtype = np.dtype(float)

    block: Compressed
    features: int
    role: str
    start: int
    #: Where windows begin; None: at the bytes of this block.
    cuts: np.ndarray | None = None
    whole: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return self.block.length, self.features

    def nbytes(self, rows: int) -> int:
        """Return the bytes of this number of rows."""
        row_entries = mean_entries(len(self.block.data), self.block.length)
        return rows * (ENTRY_BYTES * row_entries + ROW_BYTES)

    def read(self, start: int, stop: int, out: Any = None) -> Compressed:
        """Return rows as they are in memory."""
        indptr = self.block.indptr[start - self.start : stop - self.start + 1]
        return self.block._replace(indptr=indptr)

    def windows(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield the windows, which are those of the same rows in a store."""
        # A block of Dask's has windows that follow from its own entries.
        cuts = self.cuts
        if cuts is None:
            cuts = layout_of_rows(self.block, self.features, self.start).cuts
        return windows_of(cuts, start, stop)


def mean_entries(entries: int, rows: int) -> int:
    """Return the entries of a row on average, rounded up, at least 1."""
    return max(1, -(-entries // max(1, rows)))


def layout_of_rows(rows: Compressed, features: int, start: int = 0) -> Layout:
    """Return where partitions and windows of rows in memory begin."""
    own = rows.entries
    return layout_of(
        [rows.indptr[1:]],
        start,
        rows.length,
        first=own.start,
        last=own.stop,
        features=features,
    )


def sparse_column(a: Any, role: str) -> SparseColumn:
    """Return a column of a SciPy matrix in memory, or of a Dask array of such blocks.

    Raises
    ------
    InvalidTypeError, DataError
        Where the matrix in memory is none that can be fitted, see `memory_rows`, or the Dask array's dtype is not.
    """
    if isinstance(a, da.Array):
        return SparseColumn(gated_rows(a, role), role)
    return in_memory(memory_rows(a, role), a.shape[1], role)


def in_memory(
    rows: Compressed,
    features: int,
    role: str,
    bounds: tuple[int, ...] | None = None,
) -> SparseColumn:
    """Return a column of rows in memory, in partitions that follow from their entries, or in these."""
    if not rows.length:
        raise InvalidTypeError(f"{role} is a sparse matrix without rows.")
    # Partitions follow from the entries, unless they are those of another column.
    layout = layout_of_rows(rows, features)
    if bounds is None:
        bounds = layout.bounds
    # A block is a part of the memory, not a copy.
    name = f"dask_gd-sparse-{uuid.uuid4().hex}"
    graph = {}
    for number, (start, stop) in enumerate(pairwise(bounds)):
        part = rows._replace(indptr=rows.indptr[start : stop + 1])
        graph[name, number, 0] = part.matrix(features)
    chunks = (tuple(np.diff(bounds).tolist()), (features,))
    array = da.Array(graph, name, chunks, meta=csr_array((0, features)), dtype=float)
    return SparseColumn(array, role, rows, layout.cuts)


def digest_of(rows: Compressed) -> str:
    """Return a hash of all entries of rows, and of where they are."""
    # The same rows have the same hash, whatever the dtype of their positions.
    own = rows.compact
    columns = own.indices.astype(np.int64)
    lengths = np.diff(own.indptr).astype(np.int64)
    parts = (str(rows.data.dtype), digest(own.data), digest(columns), digest(lengths))
    return hashlib.blake2b("".join(parts).encode(), digest_size=16).hexdigest()
