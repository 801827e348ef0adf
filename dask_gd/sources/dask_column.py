"""Rows that arrive as materialised blocks: the blocks of a Dask array, or a NumPy array cut into some.

The blocks come to the task as its arguments; this class only says what they are called and how to read one as if
it were streamed, so that both kinds of rows end in the same loop.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

import dask.array as da
import numpy as np

#: A Dask array of up to so many bytes is hashed whole.
WHOLE_BYTES = 64 << 20


@dataclass(frozen=True)
class DaskColumn:
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

    def aligned(self, row_chunks: tuple[int, ...]) -> DaskColumn:
        """The same rows with these row chunks and one column chunk: blocks are paired by number ever after."""
        chunks = (row_chunks, *(-1,) * (self.array.ndim - 1))
        return DaskColumn(self.array.rechunk(chunks), self.role, self.memory)

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

    def in_process(self) -> BoundRows | None:
        """Return the NumPy array as tasks of this process read it, where it is; None if there is none."""
        if self.memory is None:
            return None
        return BoundRows(self.memory, self.role, 0, whole=True)

    def held(self) -> DaskColumn | None:
        """With the NumPy array given to the cluster, if there is one."""
        if self.memory is None:
            return None
        return replace(self, array=self.array.persist())

    @property
    def given(self) -> list[da.Array]:
        """Return the arrays that `held` gives to the cluster."""
        if self.memory is None:
            return []
        return [self.array]

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
class BoundRows:
    """One materialised block inside a task, or a whole array, addressed by the rows of the whole array."""

    block: np.ndarray
    role: str
    start: int
    whole: bool = False

    @property
    def name(self) -> str:
        return self.role

    def where(self, row: int, column: int = 0) -> str:
        if self.whole:
            return repr(self.role)
        return f"{self.role!r}, the block with rows {self.start}-{self.start + len(self.block) - 1}"

    def read(self, start: int, stop: int) -> np.ndarray:
        return self.block[start - self.start : stop - self.start]

    def windows(self, start: int, stop: int):
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
