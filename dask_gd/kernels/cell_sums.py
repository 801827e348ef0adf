"""Sums of a block of cells over the samples, in float64 about each cell's first value.

Of every cell there are ``X'y`` and ``y'y``. ``X'X`` is the same for all cells that have a value in every row, and a
cell with gaps has the products of its missing rows, which are taken from the common ones. A cell without a value has
no sums at all: it enters with its first.

Sums of float32 values near 273 would be off by percents of the residuals. Of the differences from a value of the cell
itself no digit is lost, in float64, and two such sums are added up exactly whatever value each is about.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .cell_design import Design, DesignRows

#: Cells that are summed over together: their sums and some rows of them stay in the processor's cache.
BLOCK = 4096
#: Rows that are multiplied at a time, at most.
ROWS = 96
#: Share of a block's cells from which on gaps are looked for in all of them.
MANY_GAPS = 0.3
#: Values whose differences are larger overflow when they are squared.
LARGEST = 1e150


class BadCell(Exception):
    """A value that cannot be served, by its row and its cell among those that were added, and which value it is."""

    def __init__(self, row: int, cell: int, values: int = 0):
        super().__init__(row, cell, values)
        self.row = row
        self.cell = cell
        #: The number of the array: 0 for the target, then features that vary by cell, then weights.
        self.values = values


class SharedSums:
    """Sums of a block of cells whose features and row weights are the same in every cell.

    Where a cell has had no value yet, its sums are whatever they are: they begin anew with its first.
    """

    def __init__(self, design: Design, cells: int, drop: bool):
        q = design.width
        self.drop = drop
        self.centred = design.fit_intercept
        #: Which cells have had a value.
        self.has_value = np.zeros(cells, bool)
        #: The first value of each cell.
        self.reference = np.zeros(cells)
        self.products = np.zeros((q, cells))
        self.squares = np.zeros(cells)
        #: Products of the rows that cells lack, and which cells; None as long as no cell with a value lacks any.
        self.missing: np.ndarray | None = None
        self.cells = np.zeros(0, np.int64)
        #: Products of all rows.
        self.total = np.zeros(q * (q + 1) // 2 + 2)

    @property
    def nbytes(self) -> int:
        """The bytes of the sums."""
        arrays = (self.has_value, self.reference, self.products, self.squares, self.missing, self.cells)
        return sum(a.nbytes for a in arrays if a is not None)

    def copied(self) -> SharedSums:
        """Return a copy, to which rows can be added."""
        return copied(self)

    def add(self, rows: DesignRows, values: tuple[np.ndarray, ...], weight: np.ndarray | None = None) -> None:
        """Add rows of the target, (rows, cells), NaN where a value is missing.

        Raises
        ------
        BadCell
            For infinity, and for NaN where it is not to be dropped.
        """
        (y,) = values
        is_gone = np.isnan(y)
        if is_gone.any():
            if not self.drop:
                raise BadCell(*np.argwhere(is_gone)[0].tolist())
            self._add_with_gaps(rows, y, is_gone)
        else:
            self._admit(y, ~self.has_value)
            self._add(rows, y)
        self.total += rows.totals

    def _add(self, rows: DesignRows, y: np.ndarray) -> None:
        """Add rows that no cell with a value lacks."""
        difference = np.subtract(y, self.reference, dtype=float)
        squares = sum_of_squares(difference, rows.weights)
        self._check(squares, difference, self.has_value)
        self.products += rows.weighted @ difference
        self.squares += squares

    def _add_with_gaps(self, rows: DesignRows, y: np.ndarray, is_gone: np.ndarray) -> None:
        """Add rows that some cells lack."""
        is_empty = is_gone.all(axis=0)
        if is_empty.all() and not self.has_value.any():
            return
        self._admit(y, ~self.has_value & ~is_empty, is_gone)
        has_gaps = is_gone.any(axis=0) & self.has_value
        count = np.count_nonzero(has_gaps)
        if count == 0:
            self._add(rows, y)
            return
        if self.missing is None:
            self._begin_missing(np.flatnonzero(self.has_value))
        # Where most cells have gaps these are looked for in all of them; else the others are added as they are.
        if count > MANY_GAPS * len(has_gaps):
            self._add_filled(rows, y, is_gone, slice(None))
            return
        which = np.flatnonzero(has_gaps)
        difference = np.subtract(y, self.reference, dtype=float)
        difference[:, which] = 0.0
        squares = sum_of_squares(difference, rows.weights)
        self._check(squares, difference, self.has_value)
        self.products += rows.weighted @ difference
        self.squares += squares
        self._add_filled(rows, y[:, which], is_gone[:, which], which)

    def _add_filled(self, rows: DesignRows, y: np.ndarray, is_gone: np.ndarray, which: Any) -> None:
        """Add rows of some cells, with their first value in place of a missing one, which adds nothing."""
        reference = self.reference[which]
        filled = np.where(is_gone, reference.astype(y.dtype), y)
        difference = np.subtract(filled, reference, dtype=float)
        squares = sum_of_squares(difference, rows.weights)
        self._check(squares, difference, np.True_, which)
        self.products[:, which] += rows.weighted @ difference
        self.squares[which] += squares
        assert self.missing is not None
        if isinstance(which, slice):
            # Only cells that have a value: the sea's sums would cost as much.
            if len(self.cells) < is_gone.shape[1]:
                is_gone = np.take(is_gone, self.cells, axis=1)
            self.missing += rows.products @ is_gone.astype(float)
        else:
            self.missing[:, np.searchsorted(self.cells, which)] += rows.products @ is_gone.astype(float)

    def _admit(self, y: np.ndarray, new: np.ndarray, is_gone: np.ndarray | None = None) -> None:
        """Begin the sums of the new cells, which have their first value among these rows."""
        which = np.flatnonzero(new)
        if not len(which):
            return
        first = np.zeros(len(which), int)
        if is_gone is not None:
            first = (~is_gone[:, which]).argmax(axis=0)
        reference = y[first, which].astype(float)
        is_bad = ~np.isfinite(reference)
        if is_bad.any():
            at = int(np.argmax(is_bad))
            raise BadCell(int(first[at]), int(which[at]))
        # Without an intercept nothing may be taken from the values.
        self.reference[which] = reference if self.centred else 0.0
        self.products[:, which] = 0.0
        self.squares[which] = 0.0
        self.has_value[which] = True
        # All rows before are missing in these cells, and none in the others if there has been no gap.
        if self.missing is None and self.total[-1] > 0:
            self._begin_missing(np.flatnonzero(self.has_value & ~new))
        if self.missing is not None:
            self._widen_missing()

    def _begin_missing(self, which: np.ndarray) -> None:
        """Let these cells have missing rows, which are none so far."""
        self.cells = which
        self.missing = np.zeros((len(self.total), len(which)))

    def _widen_missing(self) -> None:
        """Let all cells with a value have missing rows: all rows so far in those that had none before."""
        whole = np.repeat(self.total[:, None], len(self.squares), axis=1)
        whole[:, self.cells] = self.missing
        self.cells = np.flatnonzero(self.has_value)
        self.missing = whole[:, self.cells]

    def _check(self, squares: np.ndarray, difference: np.ndarray, which_count: Any, which: Any = slice(None)) -> None:
        """Refuse infinity, and what overflows, in cells that have a value."""
        is_bad = ~np.isfinite(squares) & which_count
        if not is_bad.any():
            return
        cell = int(np.argmax(is_bad))
        row = int(np.argmax(~(np.abs(difference[:, cell]) < LARGEST)))
        raise BadCell(row, int(np.arange(len(self.squares))[which][cell]))

    def plus(self, other: SharedSums, design: Design) -> SharedSums:
        """Return the sums over these rows and those of the other, which come after them."""
        mine = _Known.of(self)
        theirs = _Known.of(other)
        new = copied(self)
        new.total = self.total + other.total
        new.has_value = self.has_value | other.has_value
        new.reference = np.where(self.has_value, self.reference, other.reference)

        # The other's sums are about another value of the cell.
        moved = np.where(other.has_value, other.reference - new.reference, 0.0)
        ones = np.zeros(design.width)
        if design.fit_intercept:
            ones = design.ones
        gram = other.total[:-2, None] - theirs.missing[:-2]
        products, squares = about(theirs.products, theirs.squares, gram, ones, moved)
        new.products = mine.products + products
        new.squares = mine.squares + squares
        new.cells = np.flatnonzero(new.has_value)
        new.missing = (mine.missing + theirs.missing)[:, new.cells]
        if not (new.missing[-1] > 0).any():
            new.missing = None
            new.cells = np.zeros(0, np.int64)
        return new


class _Known(NamedTuple):
    """Sums of all cells of a block, also of those without a value, which are 0 and lack all rows."""

    products: np.ndarray
    squares: np.ndarray
    missing: np.ndarray

    @classmethod
    def of(cls, sums: SharedSums) -> _Known:
        """Return what is known of each cell."""
        missing = np.where(sums.has_value, 0.0, sums.total[:, None])
        if sums.missing is not None:
            missing[:, sums.cells] = sums.missing
        return cls(
            np.where(sums.has_value, sums.products, 0.0),
            np.where(sums.has_value, sums.squares, 0.0),
            missing,
        )


def copied(sums: Any) -> Any:
    """Return a copy of sums, to which rows can be added."""
    new = object.__new__(type(sums))
    for name, value in vars(sums).items():
        if isinstance(value, np.ndarray):
            value = value.copy()
        setattr(new, name, value)
    return new


def sum_of_squares(difference: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Return the weighted sum of squares of each column."""
    if weights is None:
        return np.einsum("rc,rc->c", difference, difference)
    return weights @ (difference * difference)


def about(
    products: np.ndarray,
    squares: np.ndarray,
    gram: np.ndarray,
    ones: np.ndarray,
    moved: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return sums (q, cells), (cells,) of values that all grow by ``moved`` (cells,); ``gram`` is (pairs, cells)."""
    of_ones = symmetric_times(gram, ones)
    new_squares = squares + 2.0 * moved * (ones @ products) + moved**2 * (ones @ of_ones)
    return products + moved * of_ones, new_squares


def symmetric_times(packed: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Return the product of symmetric matrices (pairs, cells), by their upper triangles, and a vector (q,)."""
    q = len(vector)
    result = np.zeros((q, packed.shape[1]))
    for pair, (i, j) in enumerate(zip(*np.triu_indices(q), strict=True)):
        result[i] += packed[pair] * vector[j]
        if i != j:
            result[j] += packed[pair] * vector[i]
    return result
