"""Sums of a block of cells that have features, or weights, of their own."""

from __future__ import annotations

import numpy as np

from .cell_design import Design, DesignRows
from .cell_sums import BadCell, SharedSums, copied, symmetric_times


class OwnSums:
    """Sums of a block of cells whose features or weights vary by cell.

    The target and the features that vary by cell are ``values`` (v + 1), each about the cell's first value of it. A row
    counts for a cell if it has all of them.
    """

    def __init__(self, design: Design, cells: int, drop: bool):
        q = design.width
        v = len(design.varying)
        self.drop = drop
        self.centred = design.fit_intercept
        #: The first of the values of each cell, NaN as long as there is none.
        self.reference = np.full((v + 1, cells), np.nan)
        #: Products of the basis with the values.
        self.products = np.zeros((q, v + 1, cells))
        #: Products of the values with each other.
        self.values = np.zeros((v + 1, v + 1, cells))
        #: Products of the basis with itself, packed, the weight and the count.
        self.gram = np.zeros((q * (q + 1) // 2 + 2, cells))

    @property
    def nbytes(self) -> int:
        """The bytes of the sums."""
        return self.reference.nbytes + self.products.nbytes + self.values.nbytes + self.gram.nbytes

    def copied(self) -> OwnSums:
        """Return a copy, to which rows can be added."""
        return copied(self)

    def add(self, rows: DesignRows, values: tuple[np.ndarray, ...], weight: np.ndarray | None = None) -> None:
        """Add rows of the values, each (rows, cells), and the cells' weights (rows, cells).

        Raises
        ------
        BadCell
            For infinity, for a weight below 0, and for NaN where it is not to be dropped.
        """
        is_there = self._there(values, weight)
        is_there &= rows.counted[:, None] > 0
        self._refer(values, is_there)
        scale = is_there.astype(float)
        if rows.weights is not None:
            scale *= rows.weights[:, None]
        if weight is not None:
            scale *= np.where(is_there, weight, 0.0)
        # The rows' weights are in the scale.
        self.gram[:-2] += _pairs(rows.plain) @ scale
        self.gram[-2] += scale.sum(axis=0)
        self.gram[-1] += (scale > 0).sum(axis=0)

        differences = []
        reference = np.nan_to_num(self.reference)
        for number, array in enumerate(values):
            difference = np.subtract(array, reference[number], dtype=float)
            np.copyto(difference, 0.0, where=~is_there)
            differences.append(difference)
        for number, difference in enumerate(differences):
            scaled = difference * scale
            self.products[:, number] += rows.plain @ scaled
            for other in range(number + 1):
                self.values[number, other] += np.einsum("rc,rc->c", scaled, differences[other])
                self.values[other, number] = self.values[number, other]

    def _there(self, values: tuple[np.ndarray, ...], weight: np.ndarray | None) -> np.ndarray:
        """Return where a row has all values, (rows, cells); refuse what no row may have."""
        is_there = np.ones(values[0].shape, bool)
        for number, array in enumerate((*values, *(() if weight is None else (weight,)))):
            is_good = np.isfinite(array)
            if not is_good.all():
                is_bad = ~is_good
                if self.drop:
                    is_bad = np.isinf(array)
                if is_bad.any():
                    row, cell = np.argwhere(is_bad)[0].tolist()
                    raise BadCell(row, cell, number)
                is_there &= is_good
        if weight is not None and (weight < 0).any():
            row, cell = np.argwhere(weight < 0)[0].tolist()
            raise BadCell(row, cell, len(values))
        return is_there

    def _refer(self, values: tuple[np.ndarray, ...], is_there: np.ndarray) -> None:
        """Begin the sums of cells that have their first values among these rows."""
        new = np.flatnonzero(np.isnan(self.reference[0]) & is_there.any(axis=0))
        if not len(new):
            return
        first = is_there[:, new].argmax(axis=0)
        for number, array in enumerate(values):
            self.reference[number, new] = array[first, new] if self.centred else 0.0

    def plus(self, other: OwnSums, design: Design) -> OwnSums:
        """Return the sums over these rows and those of the other, which come after them."""
        new = self.copied()
        is_new = np.isnan(self.reference[0])
        new.reference = np.where(is_new, other.reference, self.reference)
        moved = np.nan_to_num(other.reference - new.reference)
        ones = design.ones if design.fit_intercept else np.zeros(design.width)
        # Products of the other's rows with 1: of the basis, of the values, of 1.
        of_ones = symmetric_times(other.gram[:-2], ones)
        of_values = np.einsum("q,qvc->vc", ones, other.products)
        of_one = ones @ of_ones
        new.products += other.products + of_ones[:, None] * moved
        crossed = moved[:, None] * of_values
        new.values += other.values + crossed + crossed.transpose(1, 0, 2) + moved[:, None] * moved * of_one
        new.gram += other.gram
        return new


def _pairs(plain: np.ndarray) -> np.ndarray:
    """Return the products of pairs of the basis (q, rows): (pairs, rows)."""
    first, second = np.triu_indices(len(plain))
    return plain[first] * plain[second]


def make_sums(design: Design, cells: int, drop: bool, has_own: bool) -> SharedSums | OwnSums:
    """Return the sums of a block of cells, before any row."""
    if has_own:
        return OwnSums(design, cells, drop)
    return SharedSums(design, cells, drop)
