"""The reader, with which a task iterates over its partitions.

Rows are aligned by number, a few chunks at a time, in the kernel's dtypes.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from distributed.metrics import context_meter

from ..kernels.block import BadValue, Memory, RowFormat
from ..kernels.dense import cast, first_bad, with_nan
from .cache import cache
from .chunk_files import thread_buffer
from .column import ColumnInTasks, TaskColumn
from .prefetch import Ahead
from .zarr_column import READ_BYTES, READ_ROWS


class Rows(NamedTuple):
    """Consecutive rows in the shapes and dtypes that kernels take."""

    x: Any  # (n, p) as ``row_format`` takes it: an array of float32 or float64, or another
    y: np.ndarray  # (n, k) float64; k is 0 without a target
    others: dict[str, np.ndarray]  # by role, (n,) float64: "weight", "offset", "fold" and any others
    start: int
    row_format: RowFormat
    kept: np.ndarray | None = None  # (n,) the rows' positions from ``start`` on, if rows between them were dropped

    @property
    def weight(self) -> np.ndarray | None:
        """The row weights, (n,); None where each is 1."""
        return self.others.get("weight")

    @property
    def offset(self) -> np.ndarray | None:
        """The offsets, which are added to the predictions, (n,)."""
        return self.others.get("offset")

    @property
    def fold(self) -> np.ndarray | None:
        """The values that decide the folds, (n,)."""
        return self.others.get("fold")

    def first_bad(self) -> Iterator[tuple[str, BadValue]]:
        """Yield each role that has a value that is not finite, and its first such value."""
        found = self.row_format.first_bad(self.x)
        if found is not None:
            yield "x", found
        for role, values in {"y": self.y, **self.others}.items():
            found = first_bad(values)
            if found is not None:
                yield role, found

    def number(self, i: int) -> int:
        """Return the number in the whole array of the i-th row."""
        if self.kept is None:
            return self.start + i
        return self.start + int(self.kept[i])

    @property
    def numbers(self) -> np.ndarray:
        """The numbers in the whole array of all rows, (n,)."""
        if self.kept is None:
            return self.start + np.arange(len(self.y))
        return self.start + self.kept


class Window(NamedTuple):
    """The rows of a partition that are read at a time."""

    partition: int
    start: int
    stop: int


@dataclass(frozen=True)
class Reader:
    """The description with which a task iterates over its partitions: small, pickled once for a worker and a pass."""

    bounds: tuple[int, ...]
    #: How kernels take the features.
    row_format: RowFormat
    outputs: int
    #: By role, the features first; there may be no "y", with 0 outputs.
    columns: dict[str, ColumnInTasks]
    #: Leave out rows with NaN.
    drop: bool = False
    #: The columns of y to read, None for all.
    present: tuple[int, ...] | None = None
    #: The name under which features are kept: those of each column block have their own.
    kept_as: str = "x"

    def bind(self, partition: int, blocks: tuple[Any, ...]) -> dict[str, TaskColumn]:
        """Return the columns of a partition by role; ``blocks`` are for the columns that take a block, in order."""
        start = self.bounds[partition]
        remaining = iter(blocks)
        bound: dict[str, TaskColumn] = {}
        # Blocks come in the order of the columns that take a block.
        for role, column in self.columns.items():
            block = None
            if column.takes_block:
                block = next(remaining)
            bound[role] = column.bind(block, partition, start)
        return bound

    @property
    def keeps(self) -> bool:
        """Return whether the features' rows are worth keeping between passes."""
        return self.columns["x"].worth_keeping

    def __call__(
        self,
        partitions: tuple[int, ...],
        *blocks: Any,
        keep: tuple[str, int] | None = None,
    ) -> Generator[tuple[int, Rows]]:
        """Yield the number of a partition and rows of it, a few chunks at a time, for each of the partitions.

        Where there are blocks, they are those of a single partition. Each Rows is valid until the next. ``keep`` is a
        run and the number of its pass: what is read is kept for the run's next passes, of all columns.
        """
        # Streamed columns are the same in all partitions, and of blocks there is a single partition.
        columns = self.bind(partitions[0], blocks)
        x = columns.pop("x")
        # The features decide how many rows are read at a time.
        windows: list[Window] = []
        for i in partitions:
            for start, stop in x.windows(self.bounds[i], self.bounds[i + 1]):
                windows.append(Window(i, start, stop))

        with contextlib.ExitStack() as stack:
            # The features are read window by window, and the other columns by their own chunks where these are longer.
            others: dict[str, _NarrowColumn] = {}
            for role, column in columns.items():
                spans = [span for i in partitions for span in self._spans(column, i, windows)]
                others[role] = _NarrowColumn(_reading(stack, column, role, spans, keep), spans)
            target = others.pop("y", None)
            of_windows = [(start, stop) for _, start, stop in windows]
            # Some formats know only after the reading how much memory rows take, and keep them in another form.
            copy_to_keep = getattr(self.row_format, "kept", None)
            read = _reading(stack, x, self.kept_as, of_windows, keep, copy_to_keep)

            # All columns of a window, in the shapes and dtypes that kernels take.
            for partition, start, stop in windows:
                of_rows = {}
                for role, narrow in others.items():
                    values = cast(narrow.read(start, stop), np.dtype(float), _memory(role))
                    of_rows[role] = values.reshape(stop - start)
                features = self.row_format.cast(read(start, stop), _memory("x"))
                y = np.empty((stop - start, 0))
                if target is not None:
                    targets = cast(target.read(start, stop), np.dtype(float), _memory("y"))
                    y = self._targets(targets)
                rows = Rows(features, y, of_rows, start, self.row_format)
                # A window comes as a whole, or in parts without the rows that have NaN.
                parts: Iterable[Rows] = (rows,)
                if self.drop:
                    parts = without_nan(rows)
                for part in parts:
                    yield partition, part

    def _targets(self, y: np.ndarray) -> np.ndarray:
        """Return targets as (n, outputs), without those that have no values."""
        if self.present is not None:
            y = y[:, list(self.present)]
        return y.reshape(len(y), self.outputs)

    def _spans(
        self,
        column: TaskColumn,
        partition: int,
        windows: list[Window],
    ) -> Iterator[tuple[int, int]]:
        """Yield the spans of a narrow column to read for a partition: its own chunks, or more where x's are longer."""
        read_up_to = -1
        end = self.bounds[partition + 1]
        for window in windows:
            if window.partition == partition and window.stop > read_up_to:
                # Up to the end of the column's chunk in which the window ends.
                stops = (stop for _, stop in column.windows(window.start, end))
                read_up_to = next(stop for stop in stops if stop >= window.stop)
                yield window.start, read_up_to


def _reading(
    stack: contextlib.ExitStack,
    column: TaskColumn,
    role: str,
    spans: list[tuple[int, int]],
    keep: tuple[str, int] | None,
    copy_to_keep: Callable[..., Any] | None = None,
) -> Callable[..., Any]:
    """Return the function that reads spans of a column: those that are kept from memory, and others ahead of their use.

    They are read ahead where the store takes long to answer.
    """
    if keep is not None:
        spans = [span for span in spans if cache.get(*keep, (role, *span)) is None]
    read: Callable[..., Any] = column.read
    if column.ahead:
        ahead = stack.enter_context(Ahead(column, spans))
        read = context_meter.meter("read")(ahead.read)
    if keep is None:
        return read
    return partial(_kept, column, role, read, copy_to_keep, *keep)


def _kept(
    column: TaskColumn,
    role: str,
    read: Callable[..., Any],
    copy_to_keep: Callable[..., Any] | None,
    run: str,
    step: int,
    start: int,
    stop: int,
) -> Any:
    """Return rows of a column from the `cache`, or read them, and keep them if there is room."""
    key = (role, start, stop)
    kept = cache.get(run, step, key)
    if kept is not None:
        return kept
    # Rows to keep are read where they stay, and all else into the thread's buffer.
    memory = partial(cache.room, run, step)
    room = column.room(stop - start, memory)
    rows = read(start, stop, out=room)
    to_keep = None
    if copy_to_keep is not None:
        to_keep = copy_to_keep(rows, memory)
    elif room is not None:
        to_keep = rows
    if to_keep is None:
        return rows
    cache.put(run, step, key, to_keep)
    return to_keep


def without_nan(rows: Rows) -> Iterator[Rows]:
    """Yield the rows that have no NaN in any column, a part at a time.

    A part is copied if rows of it are left out.
    """
    row_format = rows.row_format
    step = max(READ_ROWS, READ_BYTES // row_format.nbytes(1))
    for first in range(0, len(rows.y), step):
        part = slice(first, first + step)
        x = row_format.take(rows.x, part)
        y = rows.y[part]
        others = {role: values[part] for role, values in rows.others.items()}
        is_bad = row_format.with_nan(x) | with_nan(y)
        for values in others.values():
            is_bad |= with_nan(values[:, None])
        # Mostly no row has NaN, and nothing needs to be copied.
        start = rows.start + first
        if not is_bad.any():
            yield Rows(x, y, others, start, row_format)
        else:
            kept = np.flatnonzero(~is_bad)
            others = {role: values[kept] for role, values in others.items()}
            yield Rows(row_format.take(x, kept), y[kept], others, start, row_format, kept)


class _NarrowColumn:
    """A narrow column, read span by span. The last span is at hand: a chunk longer than x's is decoded once."""

    def __init__(
        self,
        fetch: Callable[[int, int], np.ndarray],
        spans: list[tuple[int, int]],
    ):
        self.fetch = fetch
        self.spans = deque(spans)
        self.start = 0
        self.stop = -1

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return rows, from the span at hand or from the next."""
        if stop > self.stop:
            self.start, self.stop = self.spans.popleft()
            self.data = self.fetch(self.start, self.stop)
        return self.data[start - self.start : stop - self.start]


def _memory(role: str) -> Memory:
    """Return what gives memory for the values of a role in the dtype of the kernels."""
    return partial(thread_buffer, f"{role} cast")
