"""Rows asked of a store before they are needed, where it takes long to answer.

A file of this machine is in memory sooner than another thread could begin to read it. A store at the other end of a
network answers after tens of milliseconds, and many questions at once as soon as a single question.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from typing import Any

import numpy as np

from ..kernels.block import Memory
from .chunk_files import thread_buffer
from .column import TaskColumn
from .zarr_column import AHEAD_BYTES


class Ahead:
    """A streamed column whose spans of rows are read in their order, a few at a time.

    ``spans`` are the (start, stop) that `read` will be called with, in ascending order. Spans may be passed over. Other
    spans are read when `read` asks for them.
    """

    def __init__(self, column: TaskColumn, spans: list[tuple[int, int]]):
        self.column = column
        self.left = deque(enumerate(spans))
        self.waiting: deque[tuple[tuple[int, int], Future]] = deque()

        # As many at once as the store answers together, and memory allows.
        lengths = (stop - start for start, stop in spans)
        largest = max(1, column.nbytes(max(lengths, default=1)))
        fitting = max(1, AHEAD_BYTES // largest)
        self.count = min(column.ahead, fitting)
        self.pool = ThreadPoolExecutor(self.count)

    def read(self, start: int, stop: int, out: Any = None) -> Any:
        """Return rows, as `ZarrColumn.read` does."""
        # Spans that were passed over are waited for, so that their memory can be used again.
        self._ask()
        while self.waiting and self.waiting[0][0] < (start, stop):
            self._next()
            self._ask()
        if not self.waiting or self.waiting[0][0] != (start, stop):
            return self.column.read(start, stop, out)
        rows = self._next()
        # The rows returned before are no longer in use: their memory takes the next span.
        self._ask()
        if out is None:
            return rows
        if isinstance(out, tuple):
            for of_part, values in zip(out, rows, strict=True):
                np.copyto(of_part, values)
        else:
            np.copyto(out, rows)
        return out

    def _ask(self) -> None:
        """Ask the store for the next spans, as many as may be on their way at once."""
        column = self.column
        while self.left and len(self.waiting) < self.count:
            number, (start, stop) = self.left.popleft()
            # A buffer more than there are spans on their way: the last rows returned are still in use.
            buffer = number % (self.count + 1)
            memory = column.room(stop - start, _buffers(f"{column.role} {buffer}"))
            rows = self.pool.submit(column.read, start, stop, memory)
            self.waiting.append(((start, stop), rows))

    def _next(self) -> Any:
        """Return the rows of the oldest span on its way."""
        _, rows = self.waiting.popleft()
        return rows.result()

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *error: object) -> None:
        self.pool.shutdown(cancel_futures=True)


def _buffers(name: str) -> Memory:
    """Return what gives this thread's memory, other memory at each call."""
    numbers = count()

    def memory(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        return thread_buffer(f"{name} {next(numbers)}", shape, dtype)

    return memory
