"""Dense rows that are mostly zeros, such as categories written out: products of the entries that are not 0.

A curvature multiplies each two features of every row, whatever they are. Rows of 500 features of which five are not 0
have 25 products that matter in place of 250,000.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from .sparse_products import Compressed

#: Rows are taken as entries where at most one value in so many is not 0, of this number of features or more. To find
#: the entries and to multiply them takes less time then than the products of all features.
FEW = 32
FEATURES = 100
#: The products of all features that take the time of a product of entries, and those that take the time of looking at a
#: value.
PRODUCT = 320
LOOK = 20
#: Rows of a block that are looked at first: most blocks of others are known by these.
LOOKED_AT = 16
#: Entries that are multiplied together: each product has the overhead of a matrix (p, p).
TOGETHER = 1 << 16


def entries_of(rows: np.ndarray) -> Compressed | None:
    """Return the entries of rows (n, p) that are not 0, or None where these are not few."""
    n, p = rows.shape
    if p < FEATURES:
        return None
    first = rows[:LOOKED_AT]
    if FEW * np.count_nonzero(first) > first.size:
        return None
    places = np.flatnonzero(rows != 0)
    if FEW * len(places) > rows.size:
        return None
    row_of = places // p
    return Compressed(
        data=rows.reshape(-1)[places],
        indices=(places - row_of * p).astype(np.int32),
        indptr=np.searchsorted(row_of, np.arange(n + 1)),
    )


def sums_and_squares(entries: Compressed, s: np.ndarray | None, features: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the sums of the columns of rows as their entries and of their squares, with row weights s (n,)."""
    data = entries.data.astype(float, copy=False)
    weighted = data
    if s is not None:
        weighted = data * np.repeat(s, np.diff(entries.indptr))
    sums = np.bincount(entries.indices, weighted, minlength=features)
    return sums, np.bincount(entries.indices, weighted * data, minlength=features)


class EntriesSum:
    """The sums of ``X^T diag(h) X`` and ``X^T h`` over rows as their entries, of many blocks at a time."""

    def __init__(self, gram: np.ndarray, sums: np.ndarray | None):
        self.gram = gram
        self.sums = sums
        #: The products of all features that would have taken the same time.
        self.products = 0
        self.waiting: list[tuple[Compressed, np.ndarray]] = []
        self.entries = 0

    def add(self, entries: Compressed, h: np.ndarray) -> None:
        """Add the sums over rows with second derivatives h (n,)."""
        counts = np.diff(entries.indptr)
        self.products += PRODUCT * int((counts**2).sum()) + LOOK * len(h) * len(self.gram)
        self.waiting.append((entries, h))
        self.entries += len(entries.data)
        if self.entries >= TOGETHER:
            self.flush()

    def flush(self) -> None:
        """Bring gram and sums up to date."""
        if not self.waiting:
            return
        # The rows of all blocks as one matrix, and the same times h.
        h = np.concatenate([of_rows for _, of_rows in self.waiting])
        data = np.concatenate([entries.data for entries, _ in self.waiting]).astype(float, copy=False)
        indices = np.concatenate([entries.indices for entries, _ in self.waiting])
        counts = np.concatenate([np.diff(entries.indptr) for entries, _ in self.waiting])
        indptr = np.append(0, np.cumsum(counts)).astype(indices.dtype)
        shape = (len(h), len(self.gram))
        rows = csr_array((data, indices, indptr), shape=shape)
        weighted = csr_array((data * np.repeat(h, counts), indices, indptr), shape=shape)

        self.gram += (weighted.T.tocsr() @ rows).toarray()
        if self.sums is not None:
            self.sums += weighted.T @ np.ones(len(h))
        self.waiting = []
        self.entries = 0
