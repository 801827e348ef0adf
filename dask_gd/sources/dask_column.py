"""Rows that arrive as materialised blocks: the blocks of a Dask array, or a NumPy array cut into blocks.

What they have in common with sparse blocks is in `block_column`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import dask.array as da
import numpy as np

from .block_column import WHOLE_BYTES, BlockColumn, BoundColumn, GivenColumn
from .column import ColumnInTasks


@dataclass(frozen=True)
class DaskColumn(BlockColumn):
    """A Dask array of rows whose row chunks are the source's partitions."""

    kind = "Dask blocks"

    array: da.Array = field(repr=False)
    role: str
    #: The NumPy array behind it, which a cluster should receive once and keep.
    memory: np.ndarray | None = field(default=None, repr=False)

    @property
    def is_in_memory(self) -> bool:
        """Return whether there is a NumPy array."""
        return self.memory is not None

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype

    def nbytes(self, rows: int) -> int:
        """Return the bytes of this number of rows."""
        return rows * int(np.prod(self.shape[1:])) * self.dtype.itemsize

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

    def content(self) -> str:
        """Return a hash of all data in memory or of a small array, else of the first, middle and last block."""
        if self.memory is None:
            return dask_digest(self.array)
        return digest(self.memory)

    @property
    def known_whole(self) -> bool:
        """Return whether `content` has all of the values."""
        return self.is_in_memory or self.array.nbytes <= WHOLE_BYTES


@dataclass(frozen=True)
class GivenBlocks(GivenColumn):
    """The substitute that travels to tasks in place of a Dask array."""

    role: str

    def bind(self, block: np.ndarray, partition: int, start: int) -> BoundRows:
        """Return a partition's block as the rows from ``start`` on."""
        return BoundRows(block, self.role, start)


@dataclass(frozen=True)
class BoundRows(BoundColumn):
    """Dense rows of a block inside a task, or of a whole array."""

    block: np.ndarray
    role: str
    start: int
    whole: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return self.block.shape

    @property
    def dtype(self) -> np.dtype:
        return self.block.dtype

    def nbytes(self, rows: int) -> int:
        """Return the bytes of this number of rows."""
        return rows * self.block.nbytes // max(1, len(self.block))

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
