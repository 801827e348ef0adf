"""Rows that arrive as materialised blocks: the blocks of a Dask array, or a NumPy array cut into some.

The blocks come to the task as its arguments; this class only says what they are called and how to read one as if
it were streamed, so that both kinds of rows end in the same loop.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import dask.array as da
import numpy as np

from .column import ArrayColumn, ColumnInTasks
from .partitions import bounds_of_blocks

#: A Dask array of up to so many bytes is hashed whole.
WHOLE_BYTES = 64 << 20


@dataclass(frozen=True)
class DaskColumn(ArrayColumn):
    """A Dask array of rows whose row chunks are the source's partitions."""

    kind = "Dask blocks"

    array: da.Array = field(repr=False)
    role: str
    #: The NumPy array behind it, which a cluster should receive once and keep.
    memory: np.ndarray | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        return self.role

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype

    @property
    def buffer_bytes(self) -> int:
        """Memory that a thread needs at most: a block, and what it is cut or put together from."""
        rows = max(self.array.chunks[0])
        return 2 * rows * int(np.prod(self.shape[1:])) * self.dtype.itemsize

    @property
    def read_rows(self) -> int:
        """Rows of the largest block, which is whole in memory."""
        return max(self.array.chunks[0])

    def partition_bounds(self, start: int, stop: int) -> tuple[int, ...]:
        """Return where partitions begin: at the blocks."""
        return bounds_of_blocks(self.array.chunks[0], self.nbytes(self.shape[0]))

    def aligned(self, bounds: tuple[int, ...]) -> DaskColumn:
        """Return the rows of these partitions, a block for each; blocks are paired by number ever after."""
        sizes = tuple(int(size) for size in np.diff(bounds))
        array = self.array[bounds[0] : bounds[-1]]
        return replace(self, array=array.rechunk((sizes, *(-1,) * (array.ndim - 1))))

    def for_tasks(self, in_process: bool = False) -> ColumnInTasks:
        """Return the NumPy array where tasks of this process can read it where it is, else that blocks are given."""
        if in_process and self.memory is not None:
            return BoundRows(self.memory, self.role, 0, whole=True)
        return GivenBlocks(self.role)

    def blocks(self) -> da.Array:
        """The array as map_blocks takes it, 2-D; by map_blocks too, so that it becomes part of the same task."""
        if self.array.ndim == 2:
            return self.array
        return da.map_blocks(_column, self.array, new_axis=1, dtype=self.dtype, meta=np.empty((0, 0), self.dtype))

    def nbytes(self, rows: int) -> int:
        """Bytes of so many rows."""
        return rows * int(np.prod(self.shape[1:])) * self.dtype.itemsize

    @property
    def chunk_bytes(self) -> int:
        """Of the largest block."""
        return self.nbytes(max(self.array.chunks[0]))

    def lazy_rows(self, start: int, stop: int) -> da.Array:
        """Return the array, which has these rows once it is aligned."""
        return self.array

    def persisted(self) -> DaskColumn | None:
        """Return the column with the NumPy array given to the cluster, if there is one."""
        if self.memory is None:
            return None
        return replace(self, array=self.array.persist())

    @property
    def persistent(self) -> list[da.Array]:
        if self.memory is None:
            return []
        return [self.array]

    def check(self, missing: str, start: int, stop: int) -> None:
        """Refuse nothing: what is wrong with blocks shows when they are there."""

    def check_sendable(self) -> None:
        """Refuse nothing: blocks can be sent."""

    def content(self) -> str:
        """A hash of the data: all of it in memory or if it is small, else of the first, middle and last block."""
        if self.memory is None:
            return dask_digest(self.array)
        return digest(self.memory)

    @property
    def known_whole(self) -> bool:
        """Whether `content` has all of the values."""
        return self.memory is not None or self.array.nbytes <= WHOLE_BYTES


@dataclass(frozen=True)
class GivenBlocks:
    """What travels to tasks in place of a Dask array: that they are given its blocks, and what these are called."""

    role: str
    takes_block = True
    worth_keeping = False
    needs_zarr = False

    def bind(self, block: np.ndarray, partition: int, start: int) -> BoundRows:
        """Return a partition's block as the rows from ``start`` on."""
        return BoundRows(block, self.role, start)


@dataclass(frozen=True)
class BoundRows:
    """One materialised block inside a task, or a whole array, addressed by the rows of the whole array."""

    takes_block = False
    worth_keeping = False
    needs_zarr = False
    ahead = 0

    block: np.ndarray
    role: str
    start: int
    whole: bool = False

    @property
    def name(self) -> str:
        return self.role

    @property
    def dtype(self) -> np.dtype:
        return self.block.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.block.shape

    def bind(self, block: Any, partition: int, start: int) -> BoundRows:
        """Return the array itself, which has the rows of all partitions."""
        return self

    def where(self, row: int, column: int = 0) -> str:
        if self.whole:
            return repr(self.role)
        return f"{self.role!r}, the block with rows {self.start}-{self.start + len(self.block) - 1}"

    def read(self, start: int, stop: int, out: np.ndarray | None = None) -> np.ndarray:
        return self.block[start - self.start : stop - self.start]

    def windows(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        if start < stop:
            yield start, stop


def _column(block: np.ndarray) -> np.ndarray:
    return block[:, None]


def digest(array: np.ndarray) -> str:
    """A hash of all values."""
    total = hashlib.blake2b(digest_size=16)
    for start in range(0, len(array), 1 << 16):
        total.update(np.ascontiguousarray(array[start : start + (1 << 16)]).data)
    return total.hexdigest()


def dask_digest(array: da.Array) -> str:
    """Return hashes of all blocks, each made where the block is; of a large array those of three of them."""
    if array.nbytes <= WHOLE_BYTES:
        ones = tuple((1,) * count for count in array.numblocks)
        meta = np.empty((0,) * array.ndim, object)
        hashes = da.map_blocks(_digest_block, array, chunks=ones, dtype=object, meta=meta).compute()
        return hashlib.blake2b("".join(hashes.ravel().tolist()).encode(), digest_size=16).hexdigest()
    last = array.npartitions - 1
    index = (np.unravel_index(i, array.numblocks) for i in sorted({0, last // 2, last}))
    return "-".join(digest(array.blocks[tuple(map(int, i))].compute()) for i in index)


def _digest_block(block: Any) -> np.ndarray:
    """Return the hash of a block. What is no array is not looked at: the first pass refuses it by name."""
    if isinstance(block, np.ndarray):
        found = f"{block.shape} {block.dtype} {digest(block)}"
    else:
        found = type(block).__name__
    if isinstance(block, np.ma.MaskedArray):
        found += digest(np.ma.getmaskarray(block))
    return np.full((1,) * getattr(block, "ndim", 1), found, object)
