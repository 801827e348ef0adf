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
from .column import ColumnInTasks, TaskColumn
from .prefetch import Ahead
from .zarr_column import READ_BYTES, READ_ROWS


class Rows(NamedTuple):
    """Consecutive rows in the shapes and dtypes that kernels take."""

    x: np.ndarray  # (n, p) float32 or float64
    y: np.ndarray  # (n, k) float64; k is 0 without a target
    others: dict[str, np.ndarray]  # by role, (n,) float64: "weight", "offset", "fold" and any others
    start: int
    kept: np.ndarray | None = None  # (n,) where they are from ``start`` on, if rows between them were dropped

    @property
    def weight(self) -> np.ndarray | None:
        """The row weights, (n,); None where each is 1."""
        return self.others.get("weight")

    @property
    def offset(self) -> np.ndarray | None:
        """What is added to the predictions, (n,)."""
        return self.others.get("offset")

    @property
    def fold(self) -> np.ndarray | None:
        """What decides the folds, (n,)."""
        return self.others.get("fold")

    def by_role(self) -> dict[str, np.ndarray]:
        """Return the values of all columns."""
        return {"x": self.x, "y": self.y, **self.others}

    def number(self, i: int) -> int:
        """Return the number in the whole array of the i-th row."""
        if self.kept is None:
            return self.start + i
        return self.start + int(self.kept[i])

    @property
    def numbers(self) -> np.ndarray:
        """The numbers in the whole array of all rows, (n,)."""
        if self.kept is None:
            return self.start + np.arange(len(self.x))
        return self.start + self.kept


@dataclass(frozen=True)
class Reader:
    """What a task needs to iterate over its partition; small, and pickled once for each worker and pass."""

    bounds: tuple[int, ...]
    dtype: np.dtype
    features: int
    outputs: int
    #: By role, the features first; there may be no "y", with 0 outputs.
    columns: dict[str, ColumnInTasks]
    #: Leave out rows with NaN.
    drop: bool = False
    #: The columns of y to read, None for all.
    present: tuple[int, ...] | None = None

    def bind(self, partition: int, blocks: tuple[Any, ...]) -> dict[str, TaskColumn]:
        """Return the columns of one partition, by role; ``blocks`` are those of the columns that take one, in order."""
        start = self.bounds[partition]
        waiting = iter(blocks)
        bound: dict[str, TaskColumn] = {}
        for role, column in self.columns.items():
            block = next(waiting) if column.takes_block else None
            bound[role] = column.bind(block, partition, start)
        return bound

    @property
    def keeps(self) -> bool:
        """The features' rows are worth keeping between passes."""
        return self.columns["x"].worth_keeping

    def __call__(
        self, partitions: tuple[int, ...], *blocks: Any, keep: tuple[str, int] | None = None
    ) -> Generator[tuple[int, Rows]]:
        """Yield the rows of partitions (of one, where there are blocks), a few chunks at a time, with its number.

        Each Rows is valid until the next. ``keep`` is a run and the number of its pass: rows worth keeping are kept for
        the run's next passes.
        """
        columns = self.bind(partitions[0], blocks)
        x = columns.pop("x")
        windows = [(i, *window) for i in partitions for window in x.windows(*self.bounds[i : i + 2])]
        with contextlib.ExitStack() as stack:

            def reading(column: TaskColumn, spans: list[tuple[int, int]]) -> Callable[..., np.ndarray]:
                if not column.ahead:
                    return column.read
                ahead = stack.enter_context(Ahead(column, spans))
                return context_meter.meter("read")(ahead.read)  # type: ignore[arg-type]

            def narrow(column: TaskColumn) -> _Narrow:
                spans = [span for i in partitions for span in self._spans(column, i, windows)]
                return _Narrow(reading(column, spans), spans)

            # The features are read window by window, and the other columns by their own chunks where these are longer.
            others = {role: narrow(column) for role, column in columns.items()}
            target = others.pop("y", None)
            lacking = [(a, b) for _, a, b in windows if keep is None or cache.get(*keep, (a, b)) is None]
            read = reading(x, lacking)
            for partition, a, b in windows:
                of_rows = {
                    role: _cast(column.read(a, b), np.dtype(float), role).reshape(b - a)
                    for role, column in others.items()
                }
                features = read(a, b) if keep is None else _kept(x, read, a, b, *keep)
                features = _cast(features, self.dtype, "x")
                y = np.empty((b - a, 0))
                if target is not None:
                    y = self._targets(_cast(target.read(a, b), np.dtype(float), "y"))
                rows = Rows(features, y, of_rows, a)
                for part in without_nan(rows) if self.drop else (rows,):
                    yield partition, part

    def _targets(self, y: np.ndarray) -> np.ndarray:
        """Return targets as (n, outputs), without those that have no values."""
        if self.present is not None:
            y = y[:, list(self.present)]
        return y.reshape(len(y), self.outputs)

    def _spans(
        self, column: TaskColumn, partition: int, windows: list[tuple[int, int, int]]
    ) -> Iterator[tuple[int, int]]:
        """Yield what to read of a narrow column for a partition: its own chunks, or more where x's are longer."""
        stop = -1
        end = self.bounds[partition + 1]
        for _, a, b in (window for window in windows if window[0] == partition):
            if b > stop:
                stop = next(last for _, last in column.windows(a, end) if last >= b)
                yield a, stop


def without_nan(rows: Rows) -> Iterator[Rows]:
    """Yield the rows that have no NaN in any column, a part at a time: where there are others, these are copied."""
    step = max(READ_ROWS, READ_BYTES // (rows.x.shape[1] * rows.x.itemsize))
    for first in range(0, len(rows.x), step):
        part = slice(first, first + step)
        x = rows.x[part]
        y = rows.y[part]
        others = {role: values[part] for role, values in rows.others.items()}
        good = np.ones(len(x), bool)
        for a in (x, y, *(values[:, None] for values in others.values())):
            # A sum takes a fraction of the time of a look at every value, and is NaN if one is. It may be so too where
            # none is: infinity less infinity.
            suspects = np.flatnonzero(np.isnan(a @ np.ones(a.shape[1], a.dtype)))
            good[suspects] &= ~np.isnan(a[suspects]).any(axis=1)
        if good.all():
            yield Rows(x, y, others, rows.start + first)
        else:
            kept = np.flatnonzero(good)
            others = {role: values[kept] for role, values in others.items()}
            yield Rows(x[kept], y[kept], others, rows.start + first, kept)


def _kept(x: TaskColumn, read: Callable[..., np.ndarray], start: int, stop: int, run: str, step: int) -> np.ndarray:
    """Return rows from the `cache`, or read them, and keep them if there is room."""
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
