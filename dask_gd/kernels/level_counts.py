"""Counts of the rows of each level, by which levels are known whose coefficients no rows determine.

Marks of levels, and counts, have an entry for each level of each factor, and after those of each factor an entry for
codes that are none.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .base import Kernel
from .factors import CodedColumns
from .sums import Part, Sums


class LevelCounts(NamedTuple):
    """A request for the rows of each level with a weight above 0, and for those of them with a target of 0."""

    def make(self, part: Part) -> LevelCountsKernel:
        return LevelCountsKernel(part)


class LevelCountSums(NamedTuple):
    """The sums at the query, the rows of each level, and those with a target of 0, (entries,) each."""

    at_query: Sums
    rows: np.ndarray
    zeros: np.ndarray

    def plus(self, other: LevelCountSums) -> LevelCountSums:
        """Return the counts of both."""
        return LevelCountSums(
            at_query=self.at_query.plus(other.at_query),
            rows=self.rows + other.rows,
            zeros=self.zeros + other.zeros,
        )


class LevelCountsKernel(Kernel):
    """The kernel of `LevelCounts`, for a single output."""

    def __init__(self, part: Part):
        super().__init__(part)
        ends = ends_of(part.row_format)  # type: ignore[arg-type]
        self.rows = np.zeros(ends[-1], int)
        self.zeros = np.zeros(ends[-1], int)
        self.firsts = [0, *ends[:-1].tolist()]

    def _add_curvature(self, rows, block, target, z, s) -> None:
        """Count a block's rows: there is no curvature."""
        counts = np.ones(len(target), int)
        if s is not None:
            counts = (s > 0).astype(int)
        # Both counts are sums of whole numbers by code.
        is_zero = counts * (target[:, 0] == 0)
        for first, codes in zip(self.firsts, block.codes_by_factor(), strict=True):
            np.add.at(self.rows[first:], codes, counts)
            np.add.at(self.zeros[first:], codes, is_zero)

    def sums(self) -> LevelCountSums:  # type: ignore[override]
        """Return the sums at the query and the counts."""
        return LevelCountSums(self.total, self.rows, self.zeros)


def ends_of(columns: CodedColumns) -> np.ndarray:
    """Return where the entries of each factor end."""
    entries = [columns.columns[i].levels + 1 for i in columns.factors]  # type: ignore[union-attr]
    return np.cumsum(entries)


def levels_of(columns: CodedColumns, marks: np.ndarray) -> np.ndarray:
    """Return the column and the code of each level that is marked, (levels, 2)."""
    ends = ends_of(columns)
    entries = np.flatnonzero(marks)
    # The factor in whose entries each mark lies.
    factors = np.searchsorted(ends, entries, side="right")
    firsts = np.concatenate([[0], ends[:-1]])
    of_columns = np.array(columns.factors)[factors]
    codes = entries - firsts[factors]
    return np.column_stack([of_columns, codes])


def marks_of(columns: CodedColumns, levels: np.ndarray) -> np.ndarray:
    """Return the marks of levels that `levels_of` has named."""
    ends = ends_of(columns)
    marks = np.zeros(ends[-1], bool)
    # Columns of numbers have no entries, and nobody asks for theirs.
    firsts = np.zeros(len(columns.columns), int)
    firsts[list(columns.factors)] = np.concatenate([[0], ends[:-1]])
    entries = firsts[levels[:, 0]] + levels[:, 1]
    marks[entries] = True
    return marks


def features_of(columns: CodedColumns, levels: np.ndarray) -> np.ndarray:
    """Return the features of levels (levels, 2), of a column and a code each, that have a feature."""
    starts = np.array(columns.starts)
    drops = np.array([factor is not None and factor.drop_first for factor in columns.columns])
    # Behind a reference level, which has no feature, all others move up by one.
    of_columns = levels[:, 0]
    places = levels[:, 1] - drops[of_columns]
    features = starts[of_columns] + places
    return features[places >= 0]
