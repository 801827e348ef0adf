"""Sums of rows by key: of the rows of each group, of which there may be as many as rows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .sparse_products import HAS_ROUTINES, routines


class KeyedSums(NamedTuple):
    """The sums by those keys that occur, of all keys ``0`` to ``size - 1``."""

    size: int
    keys: np.ndarray  # (m,) ascending
    sums: np.ndarray  # (k, m, q)

    def plus(self, other: KeyedSums) -> KeyedSums:
        """Return the sums of both by all keys that occur in either."""
        if np.array_equal(self.keys, other.keys):
            return self._replace(sums=self.sums + other.sums)
        occurs = np.zeros(self.size, bool)
        occurs[self.keys] = True
        occurs[other.keys] = True
        keys = np.flatnonzero(occurs)
        # Where each key is among those that occur.
        mine = self.keys
        theirs = other.keys
        if len(keys) < self.size:
            places = np.cumsum(occurs) - 1
            mine = places[mine]
            theirs = places[theirs]
        k, _, q = self.sums.shape
        total = np.zeros((k, len(keys), q))
        for of_output, of_mine, of_theirs in zip(total, self.sums, other.sums, strict=True):
            of_output[mine] = of_mine
            of_output[theirs] += of_theirs
        return KeyedSums(self.size, keys, total)


class KeyedTotal:
    """The sums by key of weighted rows over the blocks of a partition, for each output.

    Only the memory of keys that occur is touched.
    """

    def __init__(self, size: int, outputs: int, width: int):
        self.sums = np.zeros((outputs, size, width))
        self.occurs = np.zeros(size, bool)

    def add(self, output: int, keys: np.ndarray, rows: np.ndarray, weights: np.ndarray) -> None:
        """Add rows (n, q), which are contiguous, times weights (n,) to the sums of an output at their keys (n,)."""
        total = self.sums[output]
        if not HAS_ROUTINES:
            np.add.at(total, keys, rows * weights[:, None])
            return
        # The rows are multiplied by the matrix that has the weight of each at its key, which comes to each key once:
        # sums column by column would come to it as often as there are columns, from afar each time.
        n, q = rows.shape
        positions = np.arange(n + 1, dtype=keys.dtype)
        routines.csc_matvecs(len(total), n, q, positions, keys, weights, rows.ravel(), total.ravel())

    def mark(self, keys: np.ndarray) -> None:
        """Note that keys occur, of rows that may be all 0."""
        self.occurs[keys] = True

    def result(self) -> KeyedSums:
        """Return the sums by the keys that occur."""
        size = len(self.occurs)
        if self.occurs.all():
            return KeyedSums(size, np.arange(size), self.sums)
        keys = np.flatnonzero(self.occurs)
        return KeyedSums(size, keys, np.take(self.sums, keys, axis=1))
