"""How a task iterates over its partition: rows aligned by number, a few chunks at a time, in the kernel's dtypes."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from distributed.metrics import context_meter

from .cache import cache
from .chunk_files import thread_buffer
from .dask_column import BoundRows
from .fields import BoundFields, DatasetSpec
from .prefetch import Ahead
from .zarr_column import READ_BYTES, READ_ROWS, ZarrColumn

#: A column as a task reads it.
Column = ZarrColumn | BoundRows | BoundFields


class Rows(NamedTuple):
    """Some consecutive rows in the shapes and dtypes that the kernel takes."""

    x: np.ndarray  # (n, p) float32 or float64
    y: np.ndarray  # (n, k) float64; k is 0 without a target
    weight: np.ndarray | None  # (n,) float64
    offset: np.ndarray | None  # (n,) float64
    fold: np.ndarray | None  # (n,) float64
    start: int
    kept: np.ndarray | None = None  # (n,) where they are from ``start`` on, if some between them were dropped

    def number(self, i: int) -> int:
        """The number in the whole array of the i-th row."""
        return self.start + (i if self.kept is None else int(self.kept[i]))

    @property
    def numbers(self) -> np.ndarray:
        """The numbers in the whole array of all of them, (n,)."""
        return self.start + (np.arange(len(self.x)) if self.kept is None else self.kept)


@dataclass(frozen=True)
class Reader:
    """What a task needs to iterate over its partition; small, and pickled once for each worker and pass."""

    bounds: tuple[int, ...]
    dtype: np.dtype
    features: int
    outputs: int
    #: x, y (None with 0 outputs), weight, offset and fold; a str or Fields stands for a materialised block, or pieces
    #: of several variables, which come as an argument of the task.
    columns: tuple[ZarrColumn | str | DatasetSpec | None, ...]
    #: Leave out rows with NaN.
    drop: bool = False
    #: The columns of y to read, None for all.
    present: tuple[int, ...] | None = None

    def bind(
        self, partition: int, blocks: tuple[Any, ...]
    ) -> tuple[Column, Column | None, Column | None, Column | None, Column | None]:
        """The columns of one partition, materialised ones bound to their block."""
        start = self.bounds[partition]
        waiting = iter(blocks)
        x, y, weight, offset, fold = (
            BoundRows(next(waiting), c, start)
            if isinstance(c, str)
            else c.bind(next(waiting), partition, start)
            if isinstance(c, DatasetSpec)
            else c
            for c in self.columns
        )
        assert x is not None
        return x, y, weight, offset, fold

    @property
    def keeps(self) -> bool:
        """The features' rows are worth keeping between passes."""
        x = self.columns[0]
        return isinstance(x, ZarrColumn) and x.worth_keeping

    def __call__(
        self, partitions: tuple[int, ...], *blocks: Any, keep: tuple[str, int] | None = None
    ) -> Generator[tuple[int, Rows]]:
        """The rows of some partitions (of one, where there are blocks), a few chunks at a time, and which one's.

        Each Rows is valid until the next. ``keep`` is a run and the number of its pass: rows worth keeping are kept for
        the run's next passes.
        """
        x, y, *more = self.bind(partitions[0], blocks)
        windows = [(i, *window) for i in partitions for window in x.windows(*self.bounds[i : i + 2])]
        with contextlib.ExitStack() as stack:

            def reading(column: Column, spans: list[tuple[int, int]]) -> Callable[..., np.ndarray]:
                far = isinstance(column, ZarrColumn) and column.ahead
                if not far:
                    return column.read
                return context_meter.meter("read")(stack.enter_context(Ahead(column, spans)).read)  # type: ignore[arg-type]

            def narrow(column: Column) -> _Narrow:
                spans = [span for i in partitions for span in self._spans(column, i, windows)]
                return _Narrow(reading(column, spans), spans)

            target = y and narrow(y)
            others = [column and narrow(column) for column in more]
            lacking = [(a, b) for _, a, b in windows if keep is None or cache.get(*keep, (a, b)) is None]
            read = reading(x, lacking)
            for partition, a, b in windows:
                row_weight, row_offset, row_fold = (
                    _cast(column.read(a, b), np.dtype(float), role).reshape(b - a) if column else None
                    for role, column in zip(("weight", "offset", "fold"), others, strict=True)
                )
                rows = Rows(
                    _cast(read(a, b) if keep is None else _kept(x, read, a, b, *keep), self.dtype, "x"),
                    self._targets(_cast(target.read(a, b), np.dtype(float), "y")) if target else np.empty((b - a, 0)),
                    row_weight,
                    row_offset,
                    row_fold,
                    a,
                )
                for some in without_nan(rows) if self.drop else (rows,):
                    yield partition, some

    def _targets(self, y: np.ndarray) -> np.ndarray:
        """Return targets as (n, outputs), without those that have no values."""
        if self.present is not None:
            y = y[:, list(self.present)]
        return y.reshape(len(y), self.outputs)

    def _spans(self, column: Column, partition: int, windows: list[tuple[int, int, int]]) -> Iterator[tuple[int, int]]:
        """What to read of a narrow column for a partition: its own chunks, or more where the features' are longer."""
        stop = -1
        end = self.bounds[partition + 1]
        for _, a, b in (window for window in windows if window[0] == partition):
            if b > stop:
                stop = next(last for _, last in column.windows(a, end) if last >= b)
                yield a, stop


def without_nan(rows: Rows) -> Iterator[Rows]:
    """The rows that have no NaN in any column, some at a time: where there are others, these are copied."""
    step = max(READ_ROWS, READ_BYTES // (rows.x.shape[1] * rows.x.itemsize))
    for first in range(0, len(rows.x), step):
        x = rows.x[first : first + step]
        y = rows.y[first : first + step]
        weight, offset, fold = (
            None if a is None else a[first : first + step] for a in (rows.weight, rows.offset, rows.fold)
        )
        good = np.ones(len(x), bool)
        for a in (x, y, *(column[:, None] for column in (weight, offset, fold) if column is not None)):
            # A sum takes a fraction of the time of a look at every value, and is NaN if one is. It may be so too where
            # none is: infinity less infinity.
            suspects = np.flatnonzero(np.isnan(a @ np.ones(a.shape[1], a.dtype)))
            good[suspects] &= ~np.isnan(a[suspects]).any(axis=1)
        if good.all():
            yield Rows(x, y, weight, offset, fold, rows.start + first)
        else:
            kept = np.flatnonzero(good)
            weight, offset, fold = (None if a is None else a[kept] for a in (weight, offset, fold))
            yield Rows(x[kept], y[kept], weight, offset, fold, rows.start + first, kept)


def _kept(x: Column, read: Callable[..., np.ndarray], start: int, stop: int, run: str, step: int) -> np.ndarray:
    """Rows from the `cache`, or read, and kept if there is room."""
    assert isinstance(x, ZarrColumn)
    rows = cache.get(run, step, (start, stop))
    if rows is None:
        room = cache.room(run, step, (stop - start, *x.shape[1:]), x.dtype)
        rows = read(start, stop, out=room)
        if room is not None:
            cache.put(run, step, (start, stop), room)
    return rows


class _Narrow:
    """A narrow column, read some spans at a time, of which the last is at hand: a chunk longer than x's is decoded
    once."""

    def __init__(self, read: Callable[[int, int], np.ndarray], spans: list[tuple[int, int]]):
        self.fetch = read
        self.spans = deque(spans)
        self.start = 0
        self.stop = -1

    def read(self, start: int, stop: int) -> np.ndarray:
        if stop > self.stop:
            self.start, self.stop = self.spans.popleft()
            self.data = self.fetch(self.start, self.stop)
        return self.data[start - self.start : stop - self.start]


def _cast(a: np.ndarray, dtype: np.dtype, role: str) -> np.ndarray:
    """C-contiguous, aligned and of the kernel's dtype: BLAS gives the same bits only for the same layout."""
    if a.dtype == dtype:
        return np.require(a, requirements=["C", "A"])
    out = thread_buffer(f"{role} cast", a.shape, dtype)
    np.copyto(out, a, casting="unsafe")
    return out
