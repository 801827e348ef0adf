"""Positions of a Zarr array that are read in their order, some at a time, without decoding a chunk twice."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np

from .chunk_files import thread_buffer
from .grid import find
from .zarr_column import ZarrColumn


class Sequential:
    """The rows of a streamed column, whole windows of it at hand; what is asked for may end anywhere between them.

    Its memory is the thread's, so that a thread reads one of these of a role at a time.
    """

    def __init__(self, column: ZarrColumn):
        self.column = column
        self.start = 0
        self.values = np.empty((0, *column.shape[1:]), column.dtype)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return rows, valid until the next are read. They ascend from call to call, or are read anew."""
        if start >= stop:
            return self.values[:0]
        if start < self.start or stop > self.start + len(self.values):
            self._fetch(start, stop)
        return self.values[start - self.start : stop - self.start]

    def _fetch(self, start: int, stop: int) -> None:
        """Read up to the end of the window in which ``stop`` is, and keep what is at hand from ``start`` on."""
        # What is to be read begins behind what is at hand, or anew with the window of ``start``.
        cuts = self.column.cuts
        next_cut = cuts[bisect_left(cuts, stop)]
        end = min(next_cut, self.column.shape[0])
        kept = self.values[:0]
        begin = cuts[find(cuts, start)]
        if self.start <= start < self.start + len(self.values):
            kept = self.values[start - self.start :]
            begin = self.start + len(self.values)
            self.start = start
        else:
            self.start = begin
        # What is kept comes to the front: it may lie in the same memory.
        shape = (len(kept) + end - begin, *self.column.shape[1:])
        memory = thread_buffer(f"{self.column.role} in order", shape, self.column.dtype)
        memory[: len(kept)] = kept
        self.column.read(begin, end, memory[len(kept) :])
        self.values = memory
