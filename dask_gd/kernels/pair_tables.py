"""Sparse tables with a sum for each pair of levels that occurs, from the codes of rows.

Their memory is that of the distinct pairs of the rows, whatever the number of levels.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

#: Rows whose codes are collected before they are added to the tables, or as many as the largest factor has levels.
COLLECTED = 1 << 17
#: Rows that are collected at most.
MOST_COLLECTED = 1 << 20


def pairs_of(factors: int) -> list[tuple[int, int]]:
    """Return the pairs of so many factors, the first number below the second, in the order of their tables."""
    return [(first, second) for second in range(factors) for first in range(second)]


def pair_table(
    first: np.ndarray,
    second: np.ndarray,
    h: np.ndarray,
    shape: tuple[int, int],
) -> csr_array:
    """Return the sums of h (n,) for each pair of codes (n,), (n,) that occurs; columns ascend within each row."""
    every = np.arange(len(h) + 1, dtype=np.int32)
    # Two sorts by counting, the second of which keeps the order of the first.
    by_second = csr_array((h, second, every), shape=(len(h), shape[1])).tocsc()
    order = by_second.indices
    sorted_second = np.repeat(np.arange(shape[1], dtype=np.int32), np.diff(by_second.indptr))
    by_first = csr_array((by_second.data, first[order], every), shape=(len(h), shape[0])).tocsc()
    columns = sorted_second[by_first.indices]
    table = csr_array((by_first.data, columns, by_first.indptr), shape=shape)
    # Equal pairs lie side by side.
    table.has_sorted_indices = True
    table.sum_duplicates()
    return table


class PairTables:
    """The sums of a curvature h for the pairs of levels of each two factors, over rows that come block by block."""

    def __init__(self, sizes: tuple[int, ...], block_rows: int):
        self.sizes = sizes
        self.pairs = pairs_of(len(sizes))
        self.tables = [csr_array((sizes[i], sizes[j])) for i, j in self.pairs]
        self.count = 0
        if not self.pairs:
            return
        # Rows are collected until the memory may be too small for another block.
        room = min(max(COLLECTED, max(sizes)), MOST_COLLECTED) + block_rows
        self.full = room - block_rows
        self.codes = np.empty((len(sizes), room), np.int32)
        self.h = np.empty(room)

    def add(self, codes: list[np.ndarray], h: np.ndarray) -> None:
        """Add the rows of a block, with their codes for each factor; rows with h of 0 have no part."""
        if not self.pairs:
            return
        if not h.all():
            counted = h != 0
            codes = [column[counted] for column in codes]
            h = h[counted]
        # Behind the rows that are there already.
        rows = slice(self.count, self.count + len(h))
        for memory, column in zip(self.codes, codes, strict=True):
            memory[rows] = column
        self.h[rows] = h
        self.count = rows.stop
        if self.count >= self.full:
            self.flush()

    def flush(self) -> None:
        """Add the rows that have been collected to the tables."""
        if not self.count:
            return
        # The rows make a table for each pair of factors, which is added to that of the rows before.
        rows = slice(self.count)
        for number, (i, j) in enumerate(self.pairs):
            shape = (self.sizes[i], self.sizes[j])
            found = pair_table(self.codes[i, rows], self.codes[j, rows], self.h[rows], shape)
            if self.tables[number].nnz:
                found = self.tables[number] + found
            self.tables[number] = found
        self.count = 0
