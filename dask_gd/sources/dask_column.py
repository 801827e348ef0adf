"""Rows that arrive as materialised blocks: the blocks of a Dask array, or a NumPy array cut into blocks.

The blocks come to the task as its arguments. The classes here name them, and read a block as if it were streamed, so
that both kinds of rows end in the same loop.
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

#: Bytes up to which a Dask array is hashed whole.
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
        """The bytes of memory that a thread needs at most: a block, and the blocks that it is made of."""
        rows = max(self.array.chunks[0])
        return 2 * rows * int(np.prod(self.shape[1:])) * self.dtype.itemsize

    @property
    def read_rows(self) -> int:
        """The rows of the largest block, which is whole in memory."""
        return max(self.array.chunks[0])

    def partition_bounds(self, start: int, stop: int) -> tuple[int, ...]:
        """Return where partitions begin: at the blocks."""
        sizes = self.array.chunks[0]
        return bounds_of_blocks(sizes, self.nbytes(self.shape[0]))

    def is_aligned(self, bounds: tuple[int, ...]) -> bool:
        """Return whether tasks find the rows of these partitions in it."""
        return self.array.chunks[0] == tuple(np.diff(bounds).tolist())

    def aligned(self, bounds: tuple[int, ...]) -> DaskColumn:
        """Return the rows of these partitions, a block for each; blocks are paired by number ever after."""
        sizes = tuple(int(size) for size in np.diff(bounds))
        array = self.array[bounds[0] : bounds[-1]]
        # A row is never split.
        whole = (-1,) * (array.ndim - 1)
        return replace(self, array=array.rechunk((sizes, *whole)))

    def for_tasks(self, in_process: bool = False) -> ColumnInTasks:
        """Return the NumPy array if tasks of this process can read it where it is, else a substitute for blocks."""
        if in_process and self.memory is not None:
            return BoundRows(self.memory, self.role, 0, whole=True)
        return GivenBlocks(self.role)

    def blocks(self) -> da.Array:
        """Return the array as `map_blocks` takes it, 2-D."""
        if self.array.ndim == 2:
            return self.array
        # By `map_blocks` too, so that it becomes part of the same task.
        return da.map_blocks(
            _with_axis,
            self.array,
            new_axis=1,
            dtype=self.dtype,
            meta=np.empty((0, 0), self.dtype),
        )

    def nbytes(self, rows: int) -> int:
        """Return the bytes of this number of rows."""
        return rows * int(np.prod(self.shape[1:])) * self.dtype.itemsize

    @property
    def chunk_bytes(self) -> int:
        """The bytes of the largest block."""
        return self.nbytes(max(self.array.chunks[0]))

    def lazy_rows(self, start: int, stop: int) -> da.Array:
        """Return the array, which has these rows once it is aligned."""
        return self.array

    def persisted(self) -> DaskColumn | None:
        """Return the column with its NumPy array sent to the cluster; None if there is no NumPy array."""
        if self.memory is None:
            return None
        return replace(self, array=self.array.persist())

    @property
    def persistent(self) -> list[da.Array]:
        if self.memory is None:
            return []
        return [self.array]

    def check(self, missing: str, start: int, stop: int) -> None:
        """Refuse nothing: the faults of blocks show when they are there."""

    def check_sendable(self) -> None:
        """Refuse nothing: blocks can be sent."""

    def content(self) -> str:
        """Return a hash of all data in memory or of a small array, else of the first, middle and last block."""
        if self.memory is None:
            return dask_digest(self.array)
        return digest(self.memory)

    @property
    def known_whole(self) -> bool:
        """Return whether `content` has all of the values."""
        return self.memory is not None or self.array.nbytes <= WHOLE_BYTES


@dataclass(frozen=True)
class GivenBlocks:
    """The substitute that travels to tasks in place of a Dask array, whose blocks they are given."""

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

    def nbytes(self, rows: int) -> int:
        """Return the bytes of this number of rows."""
        return rows * self.block.nbytes // max(1, len(self.block))

    def room(self, rows: int, memory: Any) -> None:
        """Return nothing: the rows are in memory."""

    @property
    def shape(self) -> tuple[int, ...]:
        return self.block.shape

    def bind(self, block: Any, partition: int, start: int) -> BoundRows:
        """Return the array itself, which has the rows of all partitions."""
        return self

    def where(self, row: int, column: int = 0) -> str:
        """Return the block of a value, for messages about it."""
        if self.whole:
            return repr(self.role)
        last = self.start + len(self.block) - 1
        return f"{self.role!r}, the block with rows {self.start}-{last}"

    def read(self, start: int, stop: int, out: np.ndarray | None = None) -> np.ndarray:
        """Return rows as they are in memory; there is nothing to copy to ``out``."""
        return self.block[start - self.start : stop - self.start]

    def windows(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield all rows at once: they are in memory."""
        if start < stop:
            yield start, stop


def _with_axis(block: np.ndarray) -> np.ndarray:
    return block[:, None]


def digest(array: np.ndarray) -> str:
    """Return a hash of all values."""
    total = hashlib.blake2b(digest_size=16)
    # A part at a time, since a part that is not contiguous is copied.
    step = 1 << 16
    for start in range(0, len(array), step):
        part = np.ascontiguousarray(array[start : start + step])
        total.update(part.data)
    return total.hexdigest()


def dask_digest(array: da.Array) -> str:
    """Return hashes of all blocks, each made where the block is; of a large array those of three blocks."""
    if array.nbytes <= WHOLE_BYTES:
        hashes = da.map_blocks(
            _digest_block,
            array,
            chunks=tuple((1,) * count for count in array.numblocks),
            dtype=object,
            meta=np.empty((0,) * array.ndim, object),
        ).compute()
        text = "".join(hashes.ravel().tolist())
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    # The first, the middle and the last block of a large array, fetched one after the other.
    last = array.npartitions - 1
    digests = []
    for number in sorted({0, last // 2, last}):
        index = tuple(map(int, np.unravel_index(number, array.numblocks)))
        digests.append(digest(array.blocks[index].compute()))
    return "-".join(digests)


def _digest_block(block: Any) -> np.ndarray:
    """Return the hash of a block. An object that is no array is not looked at: the first pass refuses it by name."""
    if isinstance(block, np.ndarray):
        about = f"{block.shape} {block.dtype} {digest(block)}"
    else:
        about = type(block).__name__
    # The values below a mask do not tell where it is.
    if isinstance(block, np.ma.MaskedArray):
        about += digest(np.ma.getmaskarray(block))
    shape = (1,) * getattr(block, "ndim", 1)
    return np.full(shape, about, object)
