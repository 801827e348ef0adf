"""Rows asked of a store before they are needed, where it takes long to answer.

A file of this machine is in memory sooner than another thread could be told to read it. A store at the other end of a
network answers after some tens of milliseconds, and many questions at once as soon as one.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from .chunk_files import thread_buffer
from .column import TaskColumn
from .zarr_column import AHEAD_BYTES


class Ahead:
    """A streamed column whose spans of rows are read in their order, some of them at a time.

    ``spans`` are the (start, stop) that `read` will be called with, in ascending order. It may pass some over, or be
    asked for others, which are then read as they are asked for.
    """

    def __init__(self, column: TaskColumn, spans: list[tuple[int, int]]):
        self.column = column
        self.left = deque(enumerate(spans))
        row = int(np.prod(column.shape[1:])) * column.dtype.itemsize
        largest = max((stop - start for start, stop in spans), default=1) * row
        self.count = min(column.ahead, max(1, AHEAD_BYTES // largest))
        self.waiting: deque[tuple[tuple[int, int], Future]] = deque()
        self.pool = ThreadPoolExecutor(self.count)

    def read(self, start: int, stop: int, out: np.ndarray | None = None) -> np.ndarray:
        """As `ZarrColumn.read`."""
        self._ask()
        while self.waiting and self.waiting[0][0] < (start, stop):
            self._next()
            self._ask()
        if not self.waiting or self.waiting[0][0] != (start, stop):
            return self.column.read(start, stop, out)
        rows = self._next()
        # What has been returned before is no longer in use.
        self._ask()
        if out is None:
            return rows
        np.copyto(out, rows)
        return out

    def _ask(self) -> None:
        while self.left and len(self.waiting) < self.count:
            i, (start, stop) = self.left.popleft()
            shape = (stop - start, *self.column.shape[1:])
            memory = thread_buffer(f"{self.column.role} {i % (self.count + 1)}", shape, self.column.dtype)
            self.waiting.append(((start, stop), self.pool.submit(self.column.read, start, stop, memory)))

    def _next(self) -> np.ndarray:
        return self.waiting.popleft()[1].result()

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *error: object) -> None:
        self.pool.shutdown(cancel_futures=True)
