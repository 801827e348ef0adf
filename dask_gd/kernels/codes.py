"""Rows of numbers and of codes: a code stands for a level of a factor, and its indicator columns are never formed.

A factor with L levels is L features, of which each row has a single one. A product with such rows is a look-up in a
table with an entry for each level, and its transpose adds to the entries of a table. Curvatures are tables with an
entry for each pair of levels.

`coded_block` multiplies them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .block import BadValue, Memory
from .coded_block import CodedWorkspace
from .coded_parts import CodedPartsSum
from .factors import CodedColumns, Factor


class CodedRows(CodedColumns):
    """The format of rows with columns of numbers and columns of codes, in any order.

    Stored rows are an array (n, columns), or a tuple of such arrays, or of arrays (n,), side by side. A missing code is
    -1, or NaN among floats.
    """

    dtype = np.dtype(float)
    cheap_gram = True

    @property
    def can_shift(self) -> np.ndarray:
        """Which features may be shifted, (p,) bool: numbers only, as nothing is formed of which to subtract."""
        able = np.zeros(self.features, bool)
        able[[self.starts[i] for i in self.numbers]] = True
        return able

    def nbytes(self, count: int) -> int:
        """Return the bytes of this number of rows, as a block has them."""
        return count * 8 * len(self.columns)

    def cast(self, stored: Any, memory: Memory) -> tuple[np.ndarray, ...]:
        """Return rows as they are stored: a block takes from them what it needs."""
        if not isinstance(stored, tuple):
            stored = (stored,)
        return tuple(array.reshape(len(array), math.prod(array.shape[1:])) for array in stored)

    def take(self, rows: tuple[np.ndarray, ...], which: Any, room: Any = None) -> tuple[np.ndarray, ...]:
        """Return consecutive rows as they lie, or a copy of rows at ascending positions."""
        return tuple(array[which] for array in rows)

    def room(self, count: int) -> None:
        """Return nothing: rows of codes are so narrow that a copy costs little."""

    def with_nan(self, rows: tuple[np.ndarray, ...]) -> np.ndarray:
        """Return which rows lack a value: NaN, or a code of -1."""
        found = np.zeros(len(rows[0]), bool)
        for i, factor in enumerate(self.columns):
            values = self.column(rows, i)
            if values.dtype.kind == "f":
                found |= np.isnan(values)
            elif factor is not None and values.dtype.kind == "i":
                found |= values == -1
        return found

    def first_bad(self, rows: tuple[np.ndarray, ...]) -> BadValue | None:
        """Return the first number that is not finite, or the first code that is none; None where all are good."""
        first: BadValue | None = None
        for i, factor in enumerate(self.columns):
            values = self.column(rows, i)
            if factor is None:
                is_bad = ~np.isfinite(values)
            else:
                is_bad = ~((values >= 0) & (values < factor.levels))
            if not is_bad.any():
                continue
            row = int(np.argmax(is_bad))
            if first is None or row < first.row:
                first = bad_value(row, i, values[row].item(), factor)
        return first

    def dense(self, rows: tuple[np.ndarray, ...]) -> np.ndarray:
        """Return rows written out, (n, p): for a few of them."""
        out = np.zeros((len(rows[0]), self.features))
        every = np.arange(len(out))
        for i, factor in enumerate(self.columns):
            values = self.column(rows, i)
            first = self.starts[i]
            if factor is None:
                out[:, first] = values
                continue
            codes = values.astype(np.intp) - factor.drop_first
            known = codes >= 0
            out[every[known], first + codes[known]] = 1.0
        return out

    def workspace(self, shift: np.ndarray | None) -> CodedWorkspace:
        """Return what a kernel needs to multiply rows less a shift (p,), which only numbers have."""
        return CodedWorkspace(self, shift)

    def parts_sum(self, workspace: CodedWorkspace) -> CodedPartsSum:
        """Return what adds up the curvature of a workspace's blocks in parts, see `curvature_parts`."""
        return CodedPartsSum(workspace)

    def without_levels(self, rows: tuple[np.ndarray, ...], weight: np.ndarray | None, marks: np.ndarray) -> np.ndarray:
        """Return the weights of rows, 0 where a row has a level that is marked, see `level_counts`."""
        is_out = np.zeros(len(rows[0]), bool)
        start = 0
        for i in self.factors:
            size = self.columns[i].levels + 1  # type: ignore[union-attr]
            of_factor = marks[start : start + size]
            start += size
            if of_factor.any():
                is_out |= of_factor[self.codes_of(rows, i).astype(np.intp)]
        if weight is None:
            weight = np.ones(len(is_out))
        return np.where(is_out, 0.0, weight)


def bad_value(row: int, column: int, value: float, factor: Factor | None) -> BadValue:
    """Return a number that is not finite, or a code that is none; a missing code counts as NaN."""
    if factor is None or np.isnan(value):
        return BadValue(row, column, value)
    if value == -1:
        return BadValue(row, column, float("nan"))
    why = f"is no code of a level; codes are 0 to {factor.levels - 1}, and -1 where a value is missing"
    return BadValue(row, column, value, why)
