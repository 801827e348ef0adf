"""Rows made in a task from its pieces of several variables, which are decoded a few rows at a time.

`dataset_column` says where the pieces come from. Here they are NumPy arrays, each with all of the grid's dimensions
and size 1 along the dimensions that it does not depend on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from .chunk_files import thread_buffer
from .column import Room
from .packing import Packing
from .zarr_column import READ_BYTES, READ_ROWS


@dataclass(frozen=True)
class DatasetSpec:
    """The description of variables that a task needs to make rows of its pieces of them."""

    takes_block = True
    worth_keeping = False
    needs_zarr = False

    role: str
    #: The dimensions of the samples; ``chunks`` are the grid's.
    dims: tuple[str, ...]
    chunks: tuple[tuple[int, ...], ...]
    names: tuple[str, ...]
    packings: tuple[Packing | None, ...]
    dtype: np.dtype

    @property
    def read_rows(self) -> int:
        """Return how many rows are put together at a time."""
        row_bytes = len(self.names) * self.dtype.itemsize
        return max(READ_ROWS, READ_BYTES // row_bytes)

    @property
    def grid(self) -> tuple[int, ...]:
        """Return how many partitions there are along each dimension."""
        return tuple(len(sizes) for sizes in self.chunks)

    def bind(self, pieces: tuple[np.ndarray, ...], partition: int, start: int) -> BoundFields:
        """Return the pieces as rows of a partition that begins at row ``start``."""
        index = [int(i) for i in np.unravel_index(partition, self.grid)]
        # The partition's size, and its first index, along each dimension.
        shape = []
        origin = []
        for sizes, i in zip(self.chunks, index, strict=True):
            shape.append(sizes[i])
            origin.append(sum(sizes[:i]))
        return BoundFields(
            fields=self,
            pieces=pieces,
            box=tuple(shape),
            origin=tuple(origin),
            start=start,
        )


@dataclass(frozen=True)
class BoundFields:
    """The pieces of one partition inside its task, addressed by the rows of the whole grid."""

    ahead = 0

    fields: DatasetSpec
    pieces: tuple[np.ndarray, ...]
    box: tuple[int, ...]
    #: The partition's first index along each sample dimension, and its first row.
    origin: tuple[int, ...]
    start: int

    @property
    def name(self) -> str:
        """Return the name of the only variable, or else the role."""
        if len(self.fields.names) == 1:
            return self.fields.names[0]
        return self.fields.role

    def where(self, row: int, column: int = 0) -> str:
        """Return the variable and the index of a value, for messages."""
        # The index in the whole grid; the block's own index begins at the origin.
        index = np.unravel_index(row - self.start, self.box)
        positions = []
        for dim, first, i in zip(self.fields.dims, self.origin, index, strict=True):
            positions.append(f"{dim}={first + int(i)}")
        at = ", ".join(positions)
        shape = " x ".join(map(str, self.box))
        return f"{self.fields.role!r}, variable {self.fields.names[column]!r} at index {at}, in a block of {shape}"

    @property
    def role(self) -> str:
        """The role that the variables have."""
        return self.fields.role

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the rows."""
        return self.fields.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the rows of the partition."""
        return prod(self.box), len(self.pieces)

    def nbytes(self, rows: int) -> int:
        """Return the bytes of this number of rows."""
        return rows * len(self.pieces) * self.dtype.itemsize

    def room(self, rows: int, memory: Room) -> Any:
        """Return memory for this number of rows."""
        return memory((rows, len(self.pieces)), self.dtype)

    def read(self, start: int, stop: int, out: np.ndarray | None = None) -> np.ndarray:
        """Return the rows ``start`` to ``stop``, valid until this thread next reads the same role, or in ``out``."""
        if out is None:
            shape = (stop - start, len(self.pieces))
            out = thread_buffer(self.fields.role, shape, self.fields.dtype)
        fill(out, self.pieces, self.fields.packings, shape=self.box, start=start - self.start)
        return out

    def windows(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield the rows ``start`` to ``stop`` in spans that are put together at a time."""
        step = self.fields.read_rows
        for first in range(start, stop, step):
            yield first, min(first + step, stop)


def fill(
    out: np.ndarray,
    pieces: Sequence[np.ndarray],
    packings: Sequence[Packing | None],
    shape: tuple[int, ...],
    start: int,
) -> None:
    """Fill ``out`` (rows, p) with the rows from ``start`` on of a grid of this shape.

    Each piece has the grid's dimensions, with size 1 along the dimensions that it does not depend on.
    """
    # Boxes cover the rows in their order, and each piece is decoded one box at a time.
    done = 0
    for box in boxes(shape, start, start + len(out)):
        size = tuple(span.stop - span.start for span in box)
        count = prod(size)
        rows = out[done : done + count].reshape(*size, len(pieces))
        for column, (piece, packing) in enumerate(zip(pieces, packings, strict=True)):
            part = piece[_within(box, piece)]
            if packing is not None:
                part = packing.decode(part)
            rows[..., column] = part
        done += count


def _within(box: tuple[slice, ...], piece: np.ndarray) -> Any:
    """Return the index of a box in a piece: all of the dimensions that it does not depend on, which are broadcast."""
    spans = []
    for span, length in zip(box, piece.shape, strict=True):
        if length <= 1:
            span = slice(None)
        spans.append(span)
    return (*spans, ...)


def boxes(shape: tuple[int, ...], start: int, stop: int) -> Iterator[tuple[slice, ...]]:
    """Yield the rows ``start`` to ``stop`` of a grid, the last dimension fastest, as the fewest boxes in order."""
    # Along a single dimension rows are one box.
    if len(shape) < 2:
        yield (slice(start, stop),) * len(shape)
        return
    inner = prod(shape[1:])
    rest = tuple(slice(0, n) for n in shape[1:])
    while start < stop:
        # Whole slabs along the first dimension are one box; the ends of the rows are boxes in a slab.
        slab, within = divmod(start, inner)
        whole = (stop - start) // inner
        if within == 0 and whole:
            yield (slice(slab, slab + whole), *rest)
            start += whole * inner
        else:
            end = min(stop, (slab + 1) * inner)
            for box in boxes(shape[1:], within, within + end - start):
                yield (slice(slab, slab + 1), *box)
            start = end


def predict_block(
    *pieces: np.ndarray,
    packings: Sequence[Packing | None],
    dtype: np.dtype,
    mean: Callable[[np.ndarray], np.ndarray],
    outputs: int | None,
) -> np.ndarray:
    """Return ``mean`` of the rows that the pieces make, over the grid's dimensions and the outputs."""
    shape = np.broadcast_shapes(*(piece.shape for piece in pieces))
    rest: tuple[int, ...] = ()
    if outputs is not None:
        rest = (outputs,)
    out = np.empty((prod(shape), *rest), dtype)

    # A few rows at a time, so that the block's rows are never in memory as a whole.
    row_bytes = len(pieces) * dtype.itemsize
    step = max(READ_ROWS, READ_BYTES // row_bytes)
    for start in range(0, len(out), step):
        count = min(step, len(out) - start)
        rows = np.empty((count, len(pieces)), dtype)
        fill(rows, pieces, packings, shape=shape, start=start)
        out[start : start + step] = mean(rows)
    return out.reshape((*shape, *rest))
