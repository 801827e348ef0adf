"""What columns have in common whose rows arrive as materialised blocks: of dense rows, and of sparse rows.

The blocks come to the task as its arguments. A column in a task names its block, and reads it as if it were streamed,
so that both kinds of rows end in the same loop.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any, Self

import dask.array as da

from .column import ArrayColumn
from .partitions import bounds_of_blocks

#: Bytes up to which a Dask array is hashed whole.
WHOLE_BYTES = 64 << 20


class BlockColumn(ArrayColumn):
    """The part that columns have in common that are Dask arrays, whose blocks of rows are the source's partitions."""

    array: da.Array
    role: str

    @property
    def is_in_memory(self) -> bool:
        """Return whether the rows are in this process's memory; a cluster should receive them once and keep them."""
        raise NotImplementedError

    def nbytes(self, rows: int) -> int:
        """Return the bytes of this number of rows, as far as known."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        return self.role

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def read_rows(self) -> int:
        """The rows of the largest block, which is whole in memory."""
        return max(self.array.chunks[0])

    @property
    def chunk_bytes(self) -> int:
        """The bytes of the largest block."""
        return self.nbytes(self.read_rows)

    @property
    def buffer_bytes(self) -> int:
        """The bytes of memory that a thread needs at most: a block, and the blocks that it is made of."""
        return 2 * self.chunk_bytes

    def partition_bounds(self, start: int, stop: int) -> tuple[int, ...]:
        """Return where partitions begin: at the blocks."""
        sizes = self.array.chunks[0]
        return bounds_of_blocks(sizes, self.nbytes(self.shape[0]))

    def is_aligned(self, bounds: tuple[int, ...]) -> bool:
        """Return whether tasks find the rows of these partitions in it."""
        return self.array.chunks[0] == sizes_of(bounds)

    def aligned(self, bounds: tuple[int, ...]) -> Self:
        """Return the rows of these partitions, a block for each; blocks are paired by number ever after."""
        rows = self.array[bounds[0] : bounds[-1]]
        # A row is never split.
        whole = (-1,) * (rows.ndim - 1)
        blocks = rows.rechunk((sizes_of(bounds), *whole))
        return replace(self, array=blocks)  # type: ignore[type-var]

    def lazy_rows(self, start: int, stop: int) -> da.Array:
        """Return the array, which has these rows once it is aligned."""
        return self.array

    def persisted(self) -> Self | None:
        """Return the column with its rows in memory sent to the cluster; None if there are none in memory."""
        if not self.is_in_memory:
            return None
        return replace(self, array=self.array.persist())  # type: ignore[type-var]

    @property
    def persistent(self) -> list[da.Array]:
        if not self.is_in_memory:
            return []
        return [self.array]

    def check(self, missing: str, start: int, stop: int) -> None:
        """Refuse nothing: the faults of blocks show when they are there, those of rows in memory before."""

    def check_sendable(self) -> None:
        """Refuse nothing: blocks can be sent."""


class GivenColumn:
    """The substitute that travels to tasks in place of a column, whose blocks they are given."""

    takes_block = True
    worth_keeping = False
    needs_zarr = False


class BoundColumn:
    """A materialised block inside a task, or all rows in memory, addressed by the rows of the whole array."""

    takes_block = False
    worth_keeping = False
    needs_zarr = False
    ahead = 0

    role: str
    start: int
    whole: bool

    @property
    def shape(self) -> tuple[int, ...]:
        raise NotImplementedError

    @property
    def name(self) -> str:
        return self.role

    def room(self, rows: int, memory: Any) -> None:
        """Return nothing: the rows are in memory."""

    def bind(self, block: Any, partition: int, start: int) -> Self:
        """Return the rows themselves, which are those of all partitions."""
        return self

    def where(self, row: int, column: int = 0) -> str:
        """Return the block of a value, for messages about it."""
        if self.whole:
            return repr(self.role)
        last = self.start + self.shape[0] - 1
        return f"{self.role!r}, the block with rows {self.start}-{last}"


def sizes_of(bounds: tuple[int, ...]) -> tuple[int, ...]:
    """Return the rows of each partition."""
    return tuple(stop - start for start, stop in pairwise(bounds))
