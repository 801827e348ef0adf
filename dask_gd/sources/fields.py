"""What a task does with its pieces of several variables: decodes them and makes rows, some at a time.

Where the pieces come from is in `dataset_column`. Here they are NumPy arrays, each with all of the grid's dimensions
and size 1 along those that it does not depend on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from .chunk_files import thread_buffer
from .packing import Packing
from .zarr_column import READ_BYTES, READ_ROWS


@dataclass(frozen=True)
class DatasetSpec:
    """What a task needs to know to make rows of its pieces of some variables."""

    takes_block = True
    worth_keeping = False
    needs_zarr = False

    role: str
    #: Those of the samples; ``chunks`` are the grid's.
    dims: tuple[str, ...]
    chunks: tuple[tuple[int, ...], ...]
    names: tuple[str, ...]
    packings: tuple[Packing | None, ...]
    dtype: np.dtype

    @property
    def read_rows(self) -> int:
        """Rows that are put together at a time."""
        return max(READ_ROWS, READ_BYTES // (len(self.names) * self.dtype.itemsize))

    @property
    def grid(self) -> tuple[int, ...]:
        """How many partitions there are along each dimension."""
        return tuple(len(c) for c in self.chunks)

    def bind(self, pieces: tuple[np.ndarray, ...], partition: int, start: int) -> BoundFields:
        index = [int(i) for i in np.unravel_index(partition, self.grid)]
        shape = tuple(c[i] for c, i in zip(self.chunks, index, strict=True))
        origin = tuple(sum(c[:i]) for c, i in zip(self.chunks, index, strict=True))
        return BoundFields(self, pieces, shape, origin, start)


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
        if len(self.fields.names) == 1:
            return self.fields.names[0]
        return self.fields.role

    def where(self, row: int, column: int = 0) -> str:
        index = np.unravel_index(row - self.start, self.box)
        at = ", ".join(f"{d}={o + int(i)}" for d, o, i in zip(self.fields.dims, self.origin, index, strict=True))
        shape = " x ".join(map(str, self.box))
        return f"{self.fields.role!r}, variable {self.fields.names[column]!r} at index {at}, in a block of {shape}"

    @property
    def role(self) -> str:
        return self.fields.role

    @property
    def dtype(self) -> np.dtype:
        return self.fields.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return prod(self.box), len(self.pieces)

    def read(self, start: int, stop: int, out: np.ndarray | None = None) -> np.ndarray:
        """Rows ``start`` to ``stop``, valid until this thread next reads the same role."""
        if out is None:
            out = thread_buffer(self.fields.role, (stop - start, len(self.pieces)), self.fields.dtype)
        fill(out, self.pieces, self.fields.packings, self.box, start - self.start)
        return out

    def windows(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
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

    Each piece has the grid's dimensions, with size 1 where it does not depend on one.
    """
    done = 0
    for box in boxes(shape, start, start + len(out)):
        size = tuple(s.stop - s.start for s in box)
        rows = out[done : done + prod(size)].reshape(*size, len(pieces))
        for j, (piece, packing) in enumerate(zip(pieces, packings, strict=True)):
            index: Any = (*(s if n > 1 else slice(None) for s, n in zip(box, piece.shape, strict=True)), ...)
            part = piece[index]
            if packing is None:
                rows[..., j] = part
            else:
                rows[..., j] = packing.decode(part)
        done += prod(size)


def boxes(shape: tuple[int, ...], start: int, stop: int) -> Iterator[tuple[slice, ...]]:
    """Rows ``start`` to ``stop`` of a grid, the last dimension fastest, as the fewest boxes in their order."""
    if len(shape) < 2:
        yield (slice(start, stop),) * len(shape)
        return
    inner = prod(shape[1:])
    rest = tuple(slice(0, n) for n in shape[1:])
    while start < stop:
        i, j = divmod(start, inner)
        whole = (stop - start) // inner
        if j == 0 and whole:
            yield (slice(i, i + whole), *rest)
            start += whole * inner
        else:
            end = min(stop, (i + 1) * inner)
            for box in boxes(shape[1:], j, j + end - start):
                yield (slice(i, i + 1), *box)
            start = end


def predict_block(
    *pieces: np.ndarray,
    packings: Sequence[Packing | None],
    dtype: np.dtype,
    mean: Callable[[np.ndarray], np.ndarray],
    outputs: int | None,
) -> np.ndarray:
    """``mean`` of the rows that the pieces make, over the grid's dimensions and the outputs, some rows at a time."""
    shape = np.broadcast_shapes(*(piece.shape for piece in pieces))
    rest = () if outputs is None else (outputs,)
    out = np.empty((prod(shape), *rest), dtype)
    step = max(READ_ROWS, READ_BYTES // (len(pieces) * dtype.itemsize))
    for start in range(0, len(out), step):
        rows = np.empty((min(step, len(out) - start), len(pieces)), dtype)
        fill(rows, pieces, packings, shape, start)
        out[start : start + step] = mean(rows)
    return out.reshape((*shape, *rest))
