"""Rows that arrive as materialised blocks: the blocks of a Dask array, or a NumPy array cut into some.

The blocks come to the task as its arguments; this class only says what they are called and how to read one as if
it were streamed, so that both kinds of rows end in the same loop.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import dask.array as da
import numpy as np


@dataclass(frozen=True)
class BlockRows:
    """A Dask array of rows whose row chunks are the source's partitions."""

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

    def aligned(self, row_chunks: tuple[int, ...]) -> BlockRows:
        """The same rows with these row chunks and one column chunk: blocks are paired by number ever after."""
        chunks = (row_chunks, *(-1,) * (self.array.ndim - 1))
        return BlockRows(self.array.rechunk(chunks), self.role, self.memory)

    def blocks(self) -> da.Array:
        """The array as map_blocks takes it, 2-D; by map_blocks too, so that it becomes part of the same task."""
        if self.array.ndim == 2:
            return self.array
        return da.map_blocks(_column, self.array, new_axis=1, dtype=self.dtype, meta=np.empty((0, 0), self.dtype))

    def content(self) -> str:
        """A hash of the data: all of it in memory, else of the first, middle and last block."""
        if self.memory is not None:
            return _digest(self.memory)
        blocks = self.array.blocks
        last = self.array.numblocks[0] - 1
        return "-".join(_digest(blocks[i].compute()) for i in sorted({0, last // 2, last}))


@dataclass(frozen=True)
class BoundRows:
    """One materialised block inside a task, addressed by the rows of the whole array."""

    block: np.ndarray
    role: str
    start: int

    @property
    def name(self) -> str:
        return self.role

    def where(self, row: int, column: int = 0) -> str:
        return f"{self.role!r}, the block with rows {self.start}-{self.start + len(self.block) - 1}"

    def read(self, start: int, stop: int) -> np.ndarray:
        return self.block[start - self.start : stop - self.start]

    def windows(self, start: int, stop: int):
        if start < stop:
            yield start, stop


def _column(block: np.ndarray) -> np.ndarray:
    return block[:, None]


def _digest(array: np.ndarray) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for start in range(0, len(array), 1 << 16):
        digest.update(np.ascontiguousarray(array[start : start + (1 << 16)]).data)
    return digest.hexdigest()
