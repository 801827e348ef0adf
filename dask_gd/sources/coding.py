"""Numbers and codes in place of the columns of a data frame, a partition at a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..errors import DataError, InvalidTypeError
from .encoding import Encoding, FactorColumn, Level, NumberColumn
from .kinds import FLOAT, is_plain
from .levels import TEXT, column_of, factorized, level_of, place
from .pandas_values import column_values, common_dtype

#: The code of a level that the encoding does not have.
NO_LEVEL = -2.0
#: Levels that a message names at most.
NAMED = 5


@dataclass(frozen=True)
class CodedFactor:
    """The codes of a factor's levels.

    Where it ``predicts`` a level may be one that the fit did not have; in a fit all levels are known by then.
    """

    column: FactorColumn
    predicts: bool = False
    #: Whether a missing value, where it is no level, is an unknown level.
    refuses_missing: bool = False

    @cached_property
    def codes(self) -> dict[Level, float]:
        """The code of each level; rare levels have that of the last."""
        codes: dict[Level, float] = {}
        levels = self.column.levels
        if self.column.pooled:
            # It is a name that no row has.
            levels = levels[:-1]
        for code, level in enumerate(levels, self.first):
            codes[level] = float(code)
        for level in self.column.pooled:
            codes[level] = self.last
        return codes

    @property
    def first(self) -> int:
        """The code of the first level: 1 where the levels that are ignored have code 0, see `lenient`."""
        return int(self.predicts and has_code_of_ignored(self.column))

    @property
    def last(self) -> float:
        """The code of the last level."""
        return float(self.first + len(self.column.levels) - 1)

    @property
    def is_text(self) -> bool:
        """Return whether the levels are strings."""
        return any(isinstance(level, str) for level in self.codes)

    @property
    def code_of_unknown(self) -> float:
        """The code of levels that are not there; `NO_LEVEL` where they are refused."""
        unknown = self.column.unknown
        if unknown == "error" or not self.predicts:
            return NO_LEVEL
        if unknown == "infrequent_if_exist" and self.column.pooled:
            return self.last
        # The code that has no feature.
        return 0.0

    def encoded(
        self,
        values: Any,
        label: Any,
        where: str,
        left_out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return the codes of a pandas column, (n,), NaN where a value is missing.

        What rows (n,) that are ``left_out`` have counts as missing.

        Raises
        ------
        DataError
            Naming a level that is not there, its column and its row.
        """
        # A code for each value that occurs, which is looked up by all rows.
        codes, uniques = factorized(values)
        if left_out is not None:
            codes = np.where(left_out, -1, codes)
        table = np.full(len(uniques) + 1, self.code_of_unknown)
        # The last entry is that of code -1.
        table[-1] = self.codes.get(None, np.nan)
        if self.refuses_missing and None not in self.codes:
            table[-1] = self.code_of_unknown
            if self.code_of_unknown == NO_LEVEL and (codes == -1).any():
                row = place(values, int(np.argmax(codes == -1)))
                raise self.unknown_level(None, label, f"{row}{where}")
        refused: list[int] = []
        for i, value in enumerate(uniques):
            try:
                level, kind = level_of(value)
            except InvalidTypeError:
                refused.append(i)
                continue
            code = self.codes.get(level)
            if code is not None:
                table[i] = code
            elif self.code_of_unknown == NO_LEVEL or (kind == TEXT) != self.is_text:
                refused.append(i)
        # A category may be one that no row has.
        for i in refused:
            has_it = codes == i
            if has_it.any():
                row = place(values, int(np.argmax(has_it)))
                raise self.unknown_level(uniques[i], label, f"{row}{where}")
        return table[codes]

    def unknown_level(self, value: Any, label: Any, row: str) -> DataError:
        """Return the error about a value that is no level, with its row in words."""
        levels = [level for level in self.codes if level is not None]
        shown = ", ".join(map(repr, levels[:NAMED]))
        if len(levels) > NAMED:
            shown += f" and {len(levels) - NAMED} more"
        advice = (
            "Fit rows that have it too, or say in the fit what becomes of levels that it does not have: "
            "handle_unknown=..., an option of dask_gd.Categories and of encoders."
        )
        if not self.predicts:
            advice = "Levels are those of an earlier fit, or of an earlier reading: leave out rows with others."
        if value is not None and isinstance(value, str) != self.is_text:
            advice = "Strings and numbers are never the same level: read the column as it was read for the fit."
        return DataError(
            f"Column {str(label)!r} has {value!r:.60} in {row}, which is none of its levels {shown}. {advice}"
        )


@dataclass(frozen=True)
class FrameCoder:
    """Makes an array of a frame: numbers as they are, codes in place of levels."""

    encoding: Encoding
    #: The labels of the encoding's columns in the frame.
    labels: tuple[Any, ...]
    #: Whether levels may be unknown, see `CodedFactor`.
    predicts: bool = False
    #: The labels of further columns, of numbers: targets, row weights, offsets, with the names of their arguments.
    others: tuple[tuple[Any, str], ...] = ()
    #: The labels of columns in which a missing value leaves its row out; the row's levels may be any.
    complete: tuple[Any, ...] = ()
    #: Whether a missing value is an unknown level, see `CodedFactor`.
    refuses_missing: bool = False

    @cached_property
    def factors(self) -> list[CodedFactor | None]:
        """The factors among the columns."""
        factors: list[CodedFactor | None] = []
        for column in self.encoding.columns:
            if isinstance(column, FactorColumn):
                factors.append(CodedFactor(column, self.predicts, self.refuses_missing))
            else:
                factors.append(None)
        return factors

    def __call__(self, part: Any, where: str = "") -> np.ndarray:
        """Return the columns of a frame of pandas, (n, columns) in float64; ``where`` names the part for messages."""
        width = len(self.labels) + len(self.others)
        out = np.empty((len(part), width))
        left_out = None
        if self.complete:
            left_out = part[list(self.complete)].isna().any(axis=1).to_numpy(bool)
        for j, (label, factor) in enumerate(zip(self.labels, self.factors, strict=True)):
            if factor is None:
                out[:, j] = number_values(part[label], label, "x")
            else:
                out[:, j] = factor.encoded(column_of(part, label), label, where, left_out)
        # Targets, row weights and offsets behind the features.
        for j, (label, role) in enumerate(self.others, len(self.labels)):
            out[:, j] = number_values(part[label], label, role)
        return out

    def partition(self, part: Any) -> np.ndarray:
        """Return the columns of a partition of a frame of Dask's."""
        return self(part, " of its partition")


def number_values(column: Any, label: Any, role: str) -> np.ndarray:
    """Return the numbers in a pandas column in float64, NaN where they are missing.

    Raises
    ------
    InvalidTypeError
        Naming a column that holds something else.
    """
    if is_plain(column.dtype):
        return column.to_numpy(dtype=FLOAT)
    # The frame of a single column names it in errors.
    common_dtype(column.to_frame(label), role)
    return column_values(column, FLOAT, role, label)


def lenient(encoding: Encoding) -> Encoding:
    """Return the encoding for prediction, in which levels that are ignored have a code without a feature.

    That is the code of the first level where this has no feature, else a code before it. The features are the same.
    """
    columns: list[NumberColumn | FactorColumn] = []
    for column in encoding.columns:
        if isinstance(column, FactorColumn) and has_code_of_ignored(column):
            columns.append(FactorColumn(column.name, levels=(None, *column.levels), drop_first=True))
        else:
            columns.append(column)
    return Encoding(tuple(columns))


def has_code_of_ignored(column: FactorColumn) -> bool:
    """Return whether levels that are ignored need a code of their own."""
    ignores = column.unknown == "ignore" or (column.unknown == "infrequent_if_exist" and not column.pooled)
    return ignores and not column.drop_first
