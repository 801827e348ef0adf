"""What a task does with its pieces of several variables: decodes them and makes rows, some at a time.

Where the pieces come from is in `xarray`. Here they are NumPy arrays, each with all of the grid's dimensions and size 1
along those that it does not depend on.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ..errors import InvalidArgumentError
from .files import thread_buffer
from .zarr import READ_BYTES, READ_ROWS

#: Where an attribute of a packed variable says how to unpack it.
FILLS, SCALES = ("_FillValue", "missing_value"), ("scale_factor", "add_offset")


@dataclass(frozen=True)
class Packing:
    """How stored numbers become values: ``stored * scale + offset``, and NaN where they are one of ``fills``."""

    scale: float = 1.0
    offset: float = 0.0
    fills: tuple[float, ...] = ()
    #: Signed integers stand for unsigned ones, or unsigned for signed.
    other_sign: bool = False

    def dtype(self, stored: np.dtype) -> np.dtype:
        scaled = (self.scale, self.offset) != (1.0, 0.0) or stored.kind != "f"
        return np.dtype(float) if scaled else stored

    def decode(self, stored: np.ndarray) -> np.ndarray:
        if self.other_sign:
            kind = "u" if stored.dtype.kind == "i" else "i"
            stored = stored.view(f"{stored.dtype.byteorder}{kind}{stored.dtype.itemsize}")
        values = stored.astype(self.dtype(stored.dtype))
        missing = [values == self._stored(fill, stored.dtype) for fill in self.fills]
        if self.scale != 1.0:
            values *= self.scale
        if self.offset != 0.0:
            values += self.offset
        for where in missing:
            values[where] = np.nan
        return values

    def _stored(self, fill: float, dtype: np.dtype) -> float:
        """A fill value as it is read: rounded to float32, or as the integer of the other sign that it stands for."""
        if dtype.kind == "f":
            return float(np.array(fill, dtype))
        if not self.other_sign:
            return fill
        around = 256.0**dtype.itemsize
        return fill + around if fill < np.iinfo(dtype).min else fill - around if fill > np.iinfo(dtype).max else fill


def packing_of(name: Hashable, attrs: Mapping, dtype: np.dtype) -> Packing | None:
    """What the attributes of a variable that xarray has not decoded say, or None."""
    try:
        fills = tuple(float(v) for key in FILLS if key in attrs for v in np.ravel(attrs[key]))
        # A file may hold one number as an array of one.
        scale, offset = (float(np.asarray(attrs.get(key, v)).item()) for key, v in zip(SCALES, (1.0, 0.0), strict=True))
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(
            f"The attributes {', '.join(FILLS + SCALES)} of variable {name!r} must be numbers: {error}."
        ) from error
    other_sign = (dtype.kind, str(attrs.get("_Unsigned")).lower()) in (("i", "true"), ("u", "false"))
    packing = Packing(scale, offset, fills, other_sign)
    return None if packing == Packing() else packing


@dataclass(frozen=True)
class Fields:
    """What a task needs to know to make rows of its pieces of some variables."""

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

    fields: Fields
    pieces: tuple[np.ndarray, ...]
    shape: tuple[int, ...]
    #: The partition's first index along each sample dimension, and its first row.
    origin: tuple[int, ...]
    start: int

    @property
    def name(self) -> str:
        return self.fields.names[0] if len(self.fields.names) == 1 else self.fields.role

    def where(self, row: int, column: int = 0) -> str:
        index = np.unravel_index(row - self.start, self.shape)
        at = ", ".join(f"{d}={o + int(i)}" for d, o, i in zip(self.fields.dims, self.origin, index, strict=True))
        shape = " x ".join(map(str, self.shape))
        return f"{self.fields.role!r}, variable {self.fields.names[column]!r} at index {at}, in a block of {shape}"

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows ``start`` to ``stop``, valid until this thread next reads the same role."""
        out = thread_buffer(self.fields.role, (stop - start, len(self.pieces)), self.fields.dtype)
        fill(out, self.pieces, self.fields.packings, self.shape, start - self.start)
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
            rows[..., j] = part if packing is None else packing.decode(part)
        done += prod(size)


def boxes(shape: tuple[int, ...], start: int, stop: int) -> Iterator[tuple[slice, ...]]:
    """Rows ``start`` to ``stop`` of a grid, the last dimension fastest, as the fewest boxes in their order."""
    if len(shape) < 2:
        yield (slice(start, stop),) * len(shape)
        return
    inner, rest = prod(shape[1:]), tuple(slice(0, n) for n in shape[1:])
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
    out = np.empty((prod(shape), *rest))
    step = max(READ_ROWS, READ_BYTES // (len(pieces) * dtype.itemsize))
    for start in range(0, len(out), step):
        rows = np.empty((min(step, len(out) - start), len(pieces)), dtype)
        fill(rows, pieces, packings, shape, start)
        out[start : start + step] = mean(rows)
    return out.reshape((*shape, *rest))
