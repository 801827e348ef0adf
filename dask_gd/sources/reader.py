"""How a task iterates over its partition: rows aligned by number, a few chunks at a time, in the kernel's dtypes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .cache import cache
from .dask import BoundRows
from .files import thread_buffer
from .zarr import ZarrRows

#: A column as a task reads it.
Column = ZarrRows | BoundRows


class Rows(NamedTuple):
    """Some consecutive rows in the shapes and dtypes that the kernel takes."""

    x: np.ndarray  # (n, p) float32 or float64
    y: np.ndarray  # (n, k) float64
    weight: np.ndarray | None  # (n,) float64
    start: int


@dataclass(frozen=True)
class Reader:
    """What a task needs to iterate over its partition; small, and pickled once for each worker and pass."""

    bounds: tuple[int, ...]
    dtype: np.dtype
    features: int
    outputs: int
    #: x, y and weight; a str stands for a materialised block, which comes as an argument of the task.
    columns: tuple[ZarrRows | str | None, ...]

    def bind(self, partition: int, blocks: tuple[np.ndarray, ...]) -> tuple[Column, Column, Column | None]:
        """The columns of one partition, materialised ones bound to their block."""
        start, waiting = self.bounds[partition], iter(blocks)
        x, y, weight = (BoundRows(next(waiting), c, start) if isinstance(c, str) else c for c in self.columns)
        assert x is not None
        assert y is not None
        return x, y, weight

    @property
    def keeps(self) -> bool:
        """The features' rows are worth keeping between passes."""
        x = self.columns[0]
        return isinstance(x, ZarrRows) and x.worth_keeping

    def __call__(self, partition: int, *blocks: np.ndarray, keep: tuple[str, int] | None = None) -> Iterator[Rows]:
        """The partition's rows, a few chunks at a time; each Rows is valid until the next.

        ``keep`` is a run and the number of its pass: rows worth keeping are kept for the run's next passes.
        """
        start, stop = self.bounds[partition : partition + 2]
        x, y, weight = self.bind(partition, blocks)
        target, row_weight = _Window(y), weight and _Window(weight)
        for a, b in x.windows(start, stop):
            yield Rows(
                _cast(x.read(a, b) if keep is None else _kept(x, a, b, *keep), self.dtype, "x"),
                _cast(target.read(a, b, stop), np.dtype(float), "y").reshape(b - a, self.outputs),
                _cast(row_weight.read(a, b, stop), np.dtype(float), "weight").reshape(b - a) if row_weight else None,
                a,
            )


def _kept(x: Column, start: int, stop: int, run: str, step: int) -> np.ndarray:
    """Rows from the `cache`, or read, and kept if there is room."""
    assert isinstance(x, ZarrRows)
    rows = cache.get(run, step, (start, stop))
    if rows is None:
        room = cache.room(run, step, (stop - start, *x.shape[1:]), x.dtype)
        rows = x.read(start, stop, out=room)
        if room is not None:
            cache.put(run, step, (start, stop), room)
    return rows


class _Window:
    """Reads a narrow column in its own chunks and keeps the last: a chunk longer than x's is decoded once."""

    def __init__(self, column: Column):
        self.column, self.start, self.stop = column, 0, 0

    def read(self, start: int, stop: int, limit: int) -> np.ndarray:
        if start < self.start or stop > self.stop:
            ends = (end for _, end in self.column.windows(start, limit))
            self.start, self.stop = start, next(end for end in ends if end >= stop)
            self.data = self.column.read(start, self.stop)
        return self.data[start - self.start : stop - self.start]


def _cast(a: np.ndarray, dtype: np.dtype, role: str) -> np.ndarray:
    """C-contiguous, aligned and of the kernel's dtype: BLAS gives the same bits only for the same layout."""
    if a.dtype == dtype:
        return np.require(a, requirements=["C", "A"])
    out = thread_buffer(f"{role} cast", a.shape, dtype)
    np.copyto(out, a, casting="unsafe")
    return out
