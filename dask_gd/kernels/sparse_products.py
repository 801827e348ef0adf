"""Products of compressed sparse rows (CSR) that add to memory which is there.

SciPy's own operators return a new array, which for ``X^T s`` is as wide as the features: of a million of them, to make
and to add it costs more than the rows of a block do. The routines below the operators add to what they are given. They
are not public: where a version of SciPy has none, the operators serve.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array

try:
    from scipy.sparse import _sparsetools as routines
except ImportError:  # pragma: no cover - every SciPy so far has them
    routines = None

#: Entries whose columns are looked up at a time.
INDEXED = 1 << 14
#: Entries that are multiplied at a time where all have one value, which is then repeated so often, in the cache.
REPEATED = 1 << 17
#: The routines that are used.
NEEDED = ("csr_matvec", "csr_matvecs", "csc_matvec", "csc_matvecs", "csr_todense")
HAS_ROUTINES = all(hasattr(routines, name) for name in NEEDED)


class Compressed(NamedTuple):
    """Sparse rows (n, p): row i has ``data[indptr[i]:indptr[i + 1]]`` in the columns ``indices[...]``.

    The columns of a row ascend, and none is there twice. ``indptr`` (n + 1,) may begin anywhere in data and indices.
    Where there are ``columns``, ascending, the indices are places among these: rows that lack most of the columns have
    the others close together, which is what products with them cost. Where all entries have one value, as of categories
    that were written out, data may repeat it without memory, see `repeated`.
    """

    data: np.ndarray
    indices: np.ndarray
    indptr: np.ndarray
    #: The columns that the rows have any entry in.
    columns: np.ndarray | None = None

    @property
    def length(self) -> int:
        """The number of rows."""
        return len(self.indptr) - 1

    @property
    def entries(self) -> slice:
        """The entries of these rows among data and indices."""
        return slice(int(self.indptr[0]), int(self.indptr[-1]))

    @property
    def repeats(self) -> bool:
        """Whether the data is one value, which is in memory once."""
        return len(self.data) > 0 and self.data.strides == (0,)

    @property
    def compact(self) -> Compressed:
        """The rows with their own entries alone, the first at 0, and positions in the dtype of the indices."""
        own = self.entries
        indptr = self.indptr
        if own.start:
            indptr = indptr - own.start
        indices = self.indices[own]
        return Compressed(self.data[own], indices, indptr.astype(indices.dtype, copy=False), self.columns)

    def used_columns(self, features: int) -> np.ndarray:
        """Return the columns that these rows, which are compact, have any entry in, ascending."""
        is_used = np.zeros(features, bool)
        for some in parts_of(self.indices):
            is_used[some] = True
        return np.flatnonzero(is_used)

    def write_places(self, columns: np.ndarray, features: int, out: np.ndarray) -> None:
        """Write the places of the entries' columns among these columns."""
        places = np.empty(features, out.dtype)
        places[columns] = np.arange(len(columns), dtype=out.dtype)
        for some, of_some in zip(parts_of(self.indices), parts_of(out), strict=True):
            of_some[:] = places[some]

    @property
    def of_all_columns(self) -> Compressed:
        """The rows whose indices are columns."""
        if self.columns is None:
            return self
        return Compressed(self.data, self.columns[self.indices], self.indptr)

    def matrix(self, features: int) -> csr_array:
        """Return the rows as SciPy has them, without a copy of data and indices if these are columns."""
        data, indices, indptr, _ = self.compact.of_all_columns
        return csr_array((data, indices, indptr.astype(indices.dtype, copy=False)), shape=(self.length, features))


def repeated(data: np.ndarray) -> np.ndarray | None:
    """Return values as one that is repeated without memory; None if they are not one, or none, or it is not finite."""
    if not len(data) or not np.isfinite(data[0]) or not (data == data[0]).all():
        return None
    return np.broadcast_to(data[:1].astype(float), len(data))


def runs_of(rows: Compressed) -> Iterator[tuple[slice, Compressed]]:
    """Yield consecutive rows of compact rows, with values of float64.

    They come all at once; or as many at a time as share what is there of a repeated value, or of values of float32.
    """
    if rows.data.dtype == float and not rows.repeats:
        yield slice(0, rows.length), rows
        return
    # The first row of each run, and the end of the last.
    # In the dtype of the positions, which would be copied otherwise.
    starts = np.arange(0, len(rows.indices), REPEATED, dtype=rows.indptr.dtype)
    edges = np.unique([*np.searchsorted(rows.indptr, starts), rows.length])
    entries = rows.indptr[edges]
    values = np.empty(np.diff(entries).max(initial=0))
    if rows.repeats:
        values[:] = rows.data[0]
    for (first, last), (start, stop) in zip(pairwise(edges), pairwise(entries), strict=True):
        indptr = rows.indptr[first : last + 1] - start
        if not rows.repeats:
            values[: stop - start] = rows.data[start:stop]
        yield slice(first, last), Compressed(values[: stop - start], rows.indices[start:stop], indptr)


def parts_of(a: np.ndarray) -> Iterator[np.ndarray]:
    """Yield consecutive parts: NumPy makes a copy of indices in another dtype, which should stay in the cache."""
    for start in range(0, len(a), INDEXED):
        yield a[start : start + INDEXED]


def add_times(rows: Compressed, weights: np.ndarray, total: np.ndarray) -> None:
    """Add ``X w`` of compact rows, for weights (p, c), to a total (n, c). Both are C-contiguous and of float64."""
    if rows.columns is not None:
        # The weights of the rows' own columns.
        weights = np.take(weights, rows.columns, axis=0)
        rows = rows._replace(columns=None)
    features, columns = weights.shape
    if not HAS_ROUTINES:
        total += rows.matrix(features) @ weights
        return
    for which, run in runs_of(rows):
        if columns == 1:
            routines.csr_matvec(
                run.length,
                features,
                run.indptr,
                run.indices,
                run.data,
                weights[:, 0],
                total[which, 0],
            )
        else:
            routines.csr_matvecs(
                run.length,
                features,
                columns,
                run.indptr,
                run.indices,
                run.data,
                weights.ravel(),
                total[which].ravel(),
            )


def add_transposed_times(rows: Compressed, slopes: np.ndarray, total: np.ndarray) -> None:
    """Add ``X^T s`` of compact rows, for slopes (n, c), to a total (p, c), both of float64, row after row."""
    if rows.columns is not None:
        # Added to what is there, in the same order and so to the same bits as in the memory of all columns.
        own = np.take(total, rows.columns, axis=0)
        add_transposed_times(rows._replace(columns=None), slopes, own)
        # A single column as the line that it is, which takes a third of the time.
        if own.shape[1] == 1:
            total[:, 0][rows.columns] = own[:, 0]
        else:
            total[rows.columns] = own
        return
    features, columns = total.shape
    slopes = np.ascontiguousarray(slopes)
    if not HAS_ROUTINES:
        total += rows.matrix(features).T @ slopes
        return
    # A view with gaps is no memory that can be added to.
    if not total.flags.c_contiguous:
        own = np.zeros(total.shape)
        add_transposed_times(rows, slopes, own)
        total += own
        return
    for which, run in runs_of(rows):
        # The rows are the columns of their transpose.
        if columns == 1:
            routines.csc_matvec(
                features,
                run.length,
                run.indptr,
                run.indices,
                run.data,
                slopes[which].reshape(-1),
                total.reshape(-1),
            )
        else:
            routines.csc_matvecs(
                features,
                run.length,
                columns,
                run.indptr,
                run.indices,
                run.data,
                slopes[which].reshape(-1),
                total.reshape(-1),
            )


def add_product(left: csr_array, right: csr_array, total: np.ndarray) -> None:
    """Add the product of two sparse matrices to a dense total, C-contiguous and of float64."""
    product = left @ right
    if HAS_ROUTINES:
        routines.csr_todense(*total.shape, product.indptr, product.indices, product.data, total)
    else:
        total += product.toarray()


def cross_product(
    left: csr_array,
    h: np.ndarray,
    right: csr_array,
    total: np.ndarray,
) -> None:
    """Add ``A^T diag(h) B`` of rows A (n, a) and B (n, b), with h (n,), to a dense total (a, b)."""
    # Each entry is weighted by the h of its row.
    data = left.data * np.repeat(h, np.diff(left.indptr))
    weighted = csr_array((data, left.indices, left.indptr), left.shape)
    add_product(weighted.T.tocsr(), right, total)
