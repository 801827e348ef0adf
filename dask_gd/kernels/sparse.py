"""Sparse rows: of each row only the values that are not 0, which SciPy multiplies; nowhere written out as a whole."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .block import BadValue, Memory
from .sparse_products import Compressed, add_times, add_transposed_times, cross_product, repeated

#: Entries of a block at least: its values and columns stay in the second-level cache. Wide rows have larger blocks, of
#: some entries for each feature: a product with the weights and one with the slopes take turns, and each time what is
#: as wide as the features comes into the cache anew. And the entries of a block at most.
BLOCK_ENTRIES = 1 << 17
ENTRIES_A_FEATURE = 5
MOST_ENTRIES = 1 << 22
#: Bytes of weights that are near enough, in the second-level cache. Wider rows, if they are kept, name their columns.
NEAR_BYTES = 1 << 20
#: The rows of a block.
FEWEST_ROWS = 64
MOST_ROWS = 1 << 17
#: More rows than are read at a time.
ALL_ROWS = 1 << 30
#: Entries of a row where nobody knows how many there are.
ROW_ENTRIES = 32

FLOAT = np.dtype(float)


class SparseRows(NamedTuple):
    """The format of compressed sparse rows (CSR): `Compressed`, in float64. Columns are never shifted."""

    features: int
    #: Entries of a row on average, as far as known, at least 1. A constant of the data: the blocks follow from it.
    row_entries: int = ROW_ENTRIES
    #: Whether a block has all rows that are read at a time. For rows whose products with weights and with slopes do not
    #: take turns: what is as wide as the features then comes into the cache once for all of them.
    whole: bool = False

    @property
    def dtype(self) -> np.dtype:
        """Products are taken in float64, whatever the dtype of the values."""
        return FLOAT

    @property
    def index_dtype(self) -> np.dtype:
        """The dtype of the entries' columns."""
        if self.features <= np.iinfo(np.int32).max:
            return np.dtype(np.int32)
        return np.dtype(np.int64)

    @property
    def cheap_gram(self) -> bool:
        """A gram costs a product of each two entries of a row."""
        return False

    @property
    def can_shift(self) -> np.ndarray:
        """No feature can be shifted: less a shift, no value would be 0."""
        return np.zeros(self.features, bool)

    @property
    def block_rows(self) -> int:
        """The rows of a block: a multiple of 16, or more than there are."""
        if self.whole:
            return ALL_ROWS
        entries = max(BLOCK_ENTRIES, min(ENTRIES_A_FEATURE * self.features, MOST_ENTRIES))
        # As many rows as have these entries, if there are neither very few nor very many.
        rows = entries // self.row_entries
        return min(max(FEWEST_ROWS, rows // 16 * 16), MOST_ROWS)

    def nbytes(self, count: int) -> int:
        """Return the bytes of this number of rows, as a block has them."""
        entry = FLOAT.itemsize + self.index_dtype.itemsize
        return count * (8 + entry * self.row_entries)

    def cast(self, stored: Compressed, memory: Memory) -> Compressed:
        """Return rows with values of float64, and with their own entries alone."""
        # Rows that were kept are as they are multiplied.
        if stored.columns is not None:
            return stored
        own = stored.entries
        data = stored.data[own]
        indices = stored.indices[own]
        indptr = stored.indptr
        if own.start:
            indptr = indptr - own.start
        index_dtype = self.index_dtype
        # Values and columns of the right dtypes are taken as they are.
        if data.dtype == self.kept_dtype(data) and indices.dtype == index_dtype:
            if not stored.repeats:
                data = np.require(data, requirements=["C", "A"])
            indices = np.require(indices, requirements=["C", "A"])
            return Compressed(data, indices, indptr)
        # Both into one piece of memory that the thread keeps, the values first.
        count = len(data)
        room = memory((count * (FLOAT.itemsize + index_dtype.itemsize),), np.dtype(np.uint8))
        values = room[: count * FLOAT.itemsize].view(FLOAT)
        columns = room[count * FLOAT.itemsize :].view(index_dtype)
        np.copyto(values, data, casting="unsafe")
        np.copyto(columns, indices, casting="unsafe")
        return Compressed(values, columns, indptr)

    def kept(self, rows: Compressed, memory: Memory) -> Compressed | None:
        """Return a copy of rows as `cast` gives them, for many products; None where there is no memory.

        Of wide rows it names the columns that have entries, and of entries that have one value this alone, see
        `Compressed`: the products have the same bits.
        """
        own = rows.compact.of_all_columns
        entries = len(own.indices)
        positions = len(own.indptr)
        most_columns = 0
        if self.features * FLOAT.itemsize > NEAR_BYTES:
            most_columns = min(entries, self.features)
        data = repeated(own.data)
        values = 0
        if data is None:
            values = entries
        # One piece of memory, before anything is done for it: columns, values, places and positions, in this order.
        index_dtype = self.index_dtype
        dtype = self.kept_dtype(own.data)
        nbytes = most_columns * 8 + values * dtype.itemsize + (entries + positions) * index_dtype.itemsize
        room = memory((nbytes,), np.dtype(np.uint8))
        if room is None:
            return None
        columns = room[: most_columns * 8].view(np.int64)
        of_values = room[most_columns * 8 :][: values * dtype.itemsize].view(dtype)
        of_index = room[most_columns * 8 + of_values.nbytes :].view(index_dtype)
        indices = of_index[:entries]
        indptr = of_index[entries:]
        if data is None:
            data = of_values
            np.copyto(data, own.data, casting="unsafe")
        np.copyto(indptr, own.indptr, casting="unsafe")

        # Of columns that are not used the memory is never touched. Where most are used, they are near enough.
        if most_columns:
            used = own.used_columns(self.features)
            if self.few_columns * len(used) <= self.features:
                columns = columns[: len(used)]
                columns[:] = used
                own.write_places(columns, self.features, indices)
                return Compressed(data, indices, indptr, columns)
        np.copyto(indices, own.indices, casting="unsafe")
        return Compressed(data, indices, indptr)

    @property
    def few_columns(self) -> int:
        """The part of the features that rows may use to be kept with columns of their own: one in so many.

        Whole windows use more of them, and their memory is beside that of blocks of weights.
        """
        if self.whole:
            return 8
        return 2

    def kept_dtype(self, data: np.ndarray) -> np.dtype:
        """Return the dtype in which values are kept: of whole windows float32 if they have it, which is as exact."""
        if self.whole and data.dtype == np.float32 and self.index_dtype.itemsize == 4:
            return data.dtype
        return FLOAT

    def take(
        self,
        rows: Compressed,
        which: slice | np.ndarray,
        room: Any = None,
    ) -> Compressed:
        """Return consecutive rows as they lie, or a copy of rows at ascending positions."""
        # Consecutive rows need their positions only.
        if isinstance(which, slice):
            start, stop, _ = which.indices(rows.length)
            return rows._replace(indptr=rows.indptr[start : max(start, stop) + 1])
        if not len(which):
            return rows._replace(indptr=rows.indptr[:1])
        # No more of the rows than lie between the first and the last.
        first = int(which[0])
        between = self.take(rows, slice(first, int(which[-1]) + 1))
        taken = between._replace(columns=None).matrix(self.features)[which - first]
        return Compressed(taken.data, taken.indices, taken.indptr, rows.columns)

    def room(self, count: int) -> None:
        """Return nothing: how much memory rows take is not known before they are there."""

    def with_nan(self, rows: Compressed) -> np.ndarray:
        """Return which rows have NaN, (n,) bool."""
        found = np.zeros(rows.length, bool)
        own = rows.entries
        missing = own.start + np.flatnonzero(np.isnan(rows.data[own]))
        found[row_of(rows, missing)] = True
        return found

    def first_bad(self, rows: Compressed) -> BadValue | None:
        """Return the first stored value that is not finite, or None."""
        own = rows.entries
        is_finite = np.isfinite(rows.data[own])
        if is_finite.all():
            return None
        entry = own.start + int(np.argmin(is_finite))
        row = int(row_of(rows, entry))
        column = int(rows.indices[entry])
        if rows.columns is not None:
            column = int(rows.columns[column])
        return BadValue(row, column, float(rows.data[entry]))

    def dense(self, rows: Compressed) -> np.ndarray:
        """Return rows written out, (n, p): for a few of them."""
        data, indices, indptr, _ = rows.compact.of_all_columns
        out = np.zeros((rows.length, self.features))
        rows_of_entries = np.repeat(np.arange(rows.length), np.diff(indptr))
        out[rows_of_entries, indices] = data
        return out

    def workspace(self, shift: np.ndarray | None) -> SparseWorkspace:
        """Return what a kernel needs to multiply rows; the shift is 0."""
        return SparseWorkspace(self)


def row_of(rows: Compressed, entries: Any) -> Any:
    """Return the rows that have these entries, counted from the first row."""
    return np.searchsorted(rows.indptr, entries, side="right") - 1


class SparseWorkspace:
    """The constants of the products of sparse rows."""

    def __init__(self, row_format: SparseRows):
        self.row_format = row_format

    def weights(self, columns: np.ndarray) -> np.ndarray:
        """Return weights (p, c) as SciPy takes them."""
        return np.ascontiguousarray(columns, FLOAT)

    def block(self, rows: Compressed) -> SparseBlock:
        """Return rows as they are multiplied."""
        return SparseBlock(rows.compact, self.row_format.features)

    def gram_sum(self, gram: np.ndarray, sums: np.ndarray | None) -> SparseGramSum:
        """Return what adds ``X^T diag(h) X`` and ``X^T h``."""
        return SparseGramSum(gram, sums)


class SparseBlock:
    """Sparse rows, multiplied in float64."""

    def __init__(self, rows: Compressed, features: int):
        self.rows = rows
        self.features = features

    def times(self, weights: np.ndarray) -> np.ndarray:
        """Return ``X w``, (n, c)."""
        product = np.zeros((self.rows.length, weights.shape[1]))
        self.add_times(weights, product)
        return product

    def add_times(self, weights: np.ndarray, total: np.ndarray) -> None:
        """Add ``X w`` to a total (n, c)."""
        add_times(self.rows, weights, total)

    def add_transposed_times(self, slopes: np.ndarray, total: np.ndarray) -> None:
        """Add ``X^T s`` to a total (p, c), row after row: the same bits for rows in any blocks."""
        add_transposed_times(self.rows, slopes, total)

    def sums(self, s: np.ndarray) -> np.ndarray:
        """Return ``X^T s``, (p,)."""
        total = np.zeros((self.features, 1))
        add_transposed_times(self.rows, s[:, None], total)
        return total[:, 0]

    def sums_and_squares(self, s: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Return the sums of the columns and of their squares, (p,) each."""
        if s is None:
            s = np.ones(self.rows.length)
        total = np.zeros((self.features, 1))
        # The sums of columns whose values are squares.
        squared = self.rows._replace(data=np.square(self.rows.data, dtype=float))
        add_transposed_times(squared, s[:, None], total)
        return self.sums(s), total[:, 0]


class SparseGramSum:
    """The sums of ``X^T diag(h) X`` and ``X^T h``: a sparse product for each block, added up in memory of its own."""

    def __init__(self, gram: np.ndarray, sums: np.ndarray | None):
        self.gram = gram
        self.sums = sums
        self.total = np.zeros(gram.shape)

    def add(self, block: SparseBlock, h: np.ndarray) -> None:
        """Add a block's."""
        matrix = block.rows.matrix(block.features)
        cross_product(matrix, h, matrix, self.total)
        if self.sums is not None:
            self.sums += block.sums(h)

    def flush(self) -> None:
        """Add what has been added up, and begin anew."""
        self.gram += self.total
        self.total[:] = 0.0
