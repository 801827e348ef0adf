"""Dense rows: arrays, which NumPy multiplies."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np

from .block import BadValue, Memory
from .mostly_zero import EntriesSum, entries_of, sums_and_squares
from .products import Near, block_rows, narrow, scaled_back
from .sparse_products import Compressed


class DenseRows(NamedTuple):
    """The format of rows that are an array (n, p)."""

    dtype: np.dtype
    features: int

    @property
    def cheap_gram(self) -> bool:
        """A gram costs as many gradients as there are features, or half as many."""
        return False

    @property
    def can_shift(self) -> np.ndarray:
        """All features can be shifted."""
        return np.ones(self.features, bool)

    @property
    def block_rows(self) -> int:
        """The rows of a cache block."""
        return block_rows(self.features, self.dtype.itemsize)

    def nbytes(self, count: int) -> int:
        """Return the bytes of this number of rows."""
        return count * self.features * self.dtype.itemsize

    def cast(self, stored: np.ndarray, memory: Memory) -> np.ndarray:
        """Return rows in the dtype of the products."""
        return cast(stored, self.dtype, memory)

    def take(self, rows: np.ndarray, which: slice | np.ndarray, room: np.ndarray | None = None) -> np.ndarray:
        """Return consecutive rows as they lie, or a copy of rows at ascending positions."""
        if room is None:
            return rows[which]
        assert isinstance(which, np.ndarray)
        # Without a look at the positions, which are known to be within the rows.
        return np.take(rows, which, axis=0, out=room[: len(which)], mode="clip")

    def room(self, count: int) -> np.ndarray:
        """Return memory for this number of rows."""
        return np.empty((count, self.features), self.dtype)

    def with_nan(self, rows: np.ndarray) -> np.ndarray:
        """Return which rows have NaN, (n,) bool."""
        return with_nan(rows)

    def first_bad(self, rows: np.ndarray) -> BadValue | None:
        """Return the first value that is not finite, or None."""
        return first_bad(rows)

    def dense(self, rows: np.ndarray) -> np.ndarray:
        """Return the rows themselves."""
        return rows

    def workspace(self, shift: np.ndarray | None) -> DenseWorkspace:
        """Return what a kernel needs to multiply rows less a shift (p,)."""
        return DenseWorkspace(self, shift)


class DenseWorkspace:
    """The memory for the shifted rows of a block, and for its rows times the roots of a curvature."""

    def __init__(self, row_format: DenseRows, shift: np.ndarray | None):
        self.row_format = row_format
        self.near: Near | None = None
        if shift is not None:
            self.near = Near(shift, row_format.dtype)
        self.scratch = row_format.room(0)
        self.rough_scratch = np.empty((0, row_format.features), np.float32)

    def weights(self, columns: np.ndarray) -> tuple[np.ndarray, float]:
        """Return weights (p, c) in the dtype of the products, and their unit."""
        return narrow(columns, self.row_format.dtype)

    def block(self, rows: np.ndarray) -> DenseBlock:
        """Return rows less the shift, valid until the next."""
        if self.near is not None:
            rows = self.near(rows)
        return DenseBlock(rows, self)

    def gram_sum(self, gram: np.ndarray, sums: np.ndarray | None) -> DenseGramSum:
        """Return what adds ``X^T diag(h) X`` and ``X^T h``."""
        return DenseGramSum(gram, sums)

    def rough_gram_sum(self, gram: np.ndarray, sums: np.ndarray | None) -> DenseGramSum:
        """Return what adds the same to six digits."""
        return DenseGramSum(gram, sums, is_rough=True)

    def scratch_of(self, count: int) -> np.ndarray:
        """Return memory for this number of rows, the same each time."""
        if len(self.scratch) < count:
            self.scratch = self.row_format.room(count)
        return self.scratch[:count]

    def rough_scratch_of(self, count: int) -> np.ndarray:
        """Return memory of float32 for this number of rows, the same each time."""
        if len(self.rough_scratch) < count:
            self.rough_scratch = np.empty((count, self.row_format.features), np.float32)
        return self.rough_scratch[:count]


class DenseBlock:
    """Rows of an array. Products are taken in the rows' precision, and scaled back in float64."""

    def __init__(self, rows: np.ndarray, workspace: DenseWorkspace):
        self.rows = rows
        self.workspace = workspace
        self._in_float64: np.ndarray | None = None

    @cached_property
    def entries(self) -> Compressed | None:
        """The entries that are not 0, or None where these are not few."""
        return entries_of(self.rows)

    def times(self, weights: tuple[np.ndarray, float]) -> np.ndarray:
        """Return ``X w``, (n, c)."""
        narrowed, unit = weights
        return scaled_back(self.rows @ narrowed, unit)

    def add_transposed_times(self, slopes: np.ndarray, total: np.ndarray) -> None:
        """Add ``X^T s`` to a total (p, c)."""
        narrowed, unit = narrow(slopes, self.rows.dtype)
        total += scaled_back(self.rows.T @ narrowed, unit)

    def sums(self, s: np.ndarray) -> np.ndarray:
        """Return ``X^T s``, (p,)."""
        return s @ self.in_float64

    def sums_and_squares(self, s: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Return the sums of the columns and of their squares, (p,) each."""
        if self.entries is not None:
            return sums_and_squares(self.entries, s, self.rows.shape[1])
        values = self.in_float64
        # Without weights there is no need of a block of squares.
        if s is None:
            return self.sums(np.ones(len(values))), np.einsum("ij,ij->j", values, values)
        return self.sums(s), s @ (values * values)

    @property
    def in_float64(self) -> np.ndarray:
        """The rows in float64."""
        if self._in_float64 is None:
            self._in_float64 = self.rows.astype(np.float64, copy=False)
        return self._in_float64


class DenseGramSum:
    """The sums of ``X^T diag(h) X`` and ``X^T h``, block by block, both from the rows times the roots of h."""

    def __init__(self, gram: np.ndarray, sums: np.ndarray | None, is_rough: bool = False):
        self.gram = gram
        self.sums = sums
        self.is_rough = is_rough
        self.of_entries = EntriesSum(gram, sums)
        self.of_all = 0

    @property
    def products(self) -> int:
        """The products of two features that were taken, or as many as take the time."""
        return self.of_all + self.of_entries.products

    def add(self, block: DenseBlock, h: np.ndarray) -> None:
        """Add a block's."""
        if block.entries is not None:
            self.of_entries.add(block.entries, h)
            return
        self.of_all += len(h) * len(self.gram) ** 2
        if self.is_rough and block.rows.dtype == np.float64:
            root, unit = narrow(np.sqrt(h), np.dtype(np.float32))
            scaled = block.workspace.rough_scratch_of(len(block.rows))
            np.copyto(scaled, block.rows, casting="same_kind")
            scaled *= root[:, None]
        else:
            root, unit = narrow(np.sqrt(h), block.rows.dtype)
            scratch = block.workspace.scratch_of(len(block.rows))
            scaled = np.multiply(block.rows, root[:, None], out=scratch)
        # NumPy recognises A.T @ A and does half the work (a symmetric rank-k update).
        self.gram += scaled_back(scaled.T @ scaled, unit**2)
        if self.sums is not None:
            self.sums += scaled_back(scaled.T @ root, unit**2)

    def flush(self) -> None:
        """Add the blocks whose entries wait to be multiplied together; all others are in the sums."""
        self.of_entries.flush()


def cast(a: np.ndarray, dtype: np.dtype, memory: Memory) -> np.ndarray:
    """Return values C-contiguous, aligned and of the kernel's dtype.

    BLAS gives the same bits only for the same layout.
    """
    if a.dtype == dtype:
        return np.require(a, requirements=["C", "A"])
    # Into memory that the thread keeps, so that no window needs fresh memory.
    out = memory(a.shape, dtype)
    np.copyto(out, a, casting="unsafe")
    return out


def with_nan(values: np.ndarray) -> np.ndarray:
    """Return which rows of values (n, width) have NaN, (n,) bool."""
    # A sum takes a fraction of the time of a look at every value, and is NaN if a value is. It may be NaN too where no
    # value is: infinity less infinity.
    row_sums = values @ np.ones(values.shape[1], values.dtype)
    found = np.isnan(row_sums)
    suspects = np.flatnonzero(found)
    found[suspects] = np.isnan(values[suspects]).any(axis=1)
    return found


def first_bad(values: np.ndarray) -> BadValue | None:
    """Return the first of values (n,) or (n, width) that is not finite, or None."""
    is_finite = np.isfinite(values)
    if is_finite.all():
        return None
    # Narrow columns have no axis of features, and a single feature needs no number.
    row, *feature = np.argwhere(~is_finite)[0].tolist()
    column = None
    if feature and values.shape[1] > 1:
        column = feature[0]
    return BadValue(row, column, values[(row, *feature)])
