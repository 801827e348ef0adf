"""Factors, whose levels are codes, and the features that stand for them among columns of numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

#: Rows of a block: its keys, predictions and slopes stay in the second-level cache, and 100,000 rows are three blocks.
#: There are more rows where factors have so many levels that a block's table would cost more than its rows.
BLOCK = 35_000
LARGEST_BLOCK = 1 << 17


class Factor(NamedTuple):
    """A column of codes, 0 to ``levels - 1``."""

    levels: int
    #: The first level has no feature: it is the reference that the others are compared with.
    drop_first: bool = False

    @property
    def features(self) -> int:
        """The features that stand for the levels."""
        return self.levels - self.drop_first


@dataclass(frozen=True)
class CodedColumns:
    """Columns of numbers and columns of codes, in any order, and the features that stand for them.

    Rows are a tuple of arrays (n, columns) side by side.
    """

    #: For each column its factor; None for a column of numbers.
    columns: tuple[Factor | None, ...]

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """The number of the first feature of each column, and at the end that of all features."""
        widths = []
        for factor in self.columns:
            if factor is None:
                widths.append(1)
            else:
                widths.append(factor.features)
        return tuple(np.cumsum([0, *widths]).tolist())

    @property
    def features(self) -> int:
        """The number of features, p."""
        return self.starts[-1]

    @property
    def block_rows(self) -> int:
        """The rows of a block."""
        whole_blocks = self.features // BLOCK * BLOCK
        return min(max(BLOCK, whole_blocks), LARGEST_BLOCK)

    @cached_property
    def numbers(self) -> tuple[int, ...]:
        """The columns of numbers."""
        return tuple(i for i, factor in enumerate(self.columns) if factor is None)

    @cached_property
    def factors(self) -> tuple[int, ...]:
        """The columns of codes."""
        return tuple(i for i, factor in enumerate(self.columns) if factor is not None)

    def column(self, rows: tuple[np.ndarray, ...], i: int) -> np.ndarray:
        """Return a column as it is stored, (n,)."""
        # Arrays lie side by side, so that a column's number goes on from one to the next.
        for array in rows:
            if i < array.shape[1]:
                return array[:, i]
            i -= array.shape[1]
        raise IndexError(i)

    def codes_of(self, rows: tuple[np.ndarray, ...], i: int) -> np.ndarray:
        """Return the codes of a column; all that are none are those of the last entry."""
        values = self.column(rows, i)
        factor = self.columns[i]
        assert factor is not None
        if values.dtype.kind == "f":
            # NaN and too large a number, then numbers below 0.
            codes = np.fmin(values, factor.levels)
            return np.where(codes < 0, factor.levels, codes)
        # A missing code is negative, and would be a level's, were there so many, as a number without a sign.
        unsigned = np.dtype(f"u{values.dtype.itemsize}").newbyteorder(values.dtype.byteorder)
        if values.dtype.kind == "i" and factor.levels > np.iinfo(unsigned).max:
            return np.where(values < 0, factor.levels, values.astype(np.intp))
        # As whole numbers without a sign those below 0 are the largest.
        values = values.view(unsigned)
        # Mostly all are codes of levels, which takes a tenth of the time to see that it takes to make them so.
        if values.max(initial=0) <= factor.levels:
            return values
        return np.minimum(values, values.dtype.type(factor.levels))
