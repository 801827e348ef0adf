"""The encoding of a table: which of its columns are numbers, which are factors, and the levels of each factor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..errors import DataError
from ..kernels.codes import CodedRows
from ..kernels.factors import Factor

#: A level of a factor. They are kept as they are, and named by ``str``.
Level = str | int | float | bool | None


#: The names of rare levels together, and of missing values, where they are levels.
INFREQUENT = "infrequent"
MISSING = "missing"


@dataclass(frozen=True)
class FactorColumn:
    """A column of codes: its name, and the level that each code from 0 on stands for."""

    name: str
    #: None is a missing value that counts as a level.
    levels: tuple[Level, ...]
    #: The first level has no feature: it is the reference that the others are compared with.
    drop_first: bool = False
    #: Rare levels that share a code, that of the last level, `INFREQUENT`.
    pooled: tuple[Level, ...] = ()
    #: The treatment of a level that is none of these, see `categories.Categories`.
    unknown: str = "error"
    #: Whether the levels are the names of features, as those of a formula are.
    are_features: bool = False

    @property
    def factor(self) -> Factor:
        """The factor as kernels know it."""
        return Factor(len(self.levels), self.drop_first)

    @property
    def feature_names(self) -> list[str]:
        """The names of the features, such as ``origin=ATL``."""
        if self.are_features:
            return [str(level) for level in self.levels[self.drop_first :]]
        return [f"{self.name}={level_name(level)}" for level in self.levels[self.drop_first :]]


@dataclass(frozen=True)
class NumberColumn:
    """A column of numbers, which is a feature as it is."""

    name: str
    factor = None

    @property
    def feature_names(self) -> list[str]:
        """The name of the feature."""
        return [self.name]


@dataclass(frozen=True)
class Encoding:
    """How the columns of a table become features: numbers as they are, a factor as one indicator for each level."""

    columns: tuple[NumberColumn | FactorColumn, ...]

    @cached_property
    def row_format(self) -> CodedRows:
        """The format in which kernels take encoded rows: numbers, and codes in place of levels."""
        return CodedRows(tuple(column.factor for column in self.columns))

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """The names of all features."""
        return tuple(name for column in self.columns for name in column.feature_names)

    @property
    def has_factors(self) -> bool:
        """Return whether there is a factor among the columns."""
        return any(column.factor is not None for column in self.columns)

    @property
    def has_missing_level(self) -> list[bool]:
        """Return of each column whether a missing value is a level of it."""
        found = []
        for column in self.columns:
            found.append(isinstance(column, FactorColumn) and None in (*column.levels, *column.pooled))
        return found

    def as_attributes(self) -> list[dict[str, Any]]:
        """Return the encoding as JSON holds it; `encoding_of` reads it back."""
        found: list[dict[str, Any]] = []
        for column in self.columns:
            if not isinstance(column, FactorColumn):
                found.append({"name": column.name})
                continue
            described = {"name": column.name, "levels": list(column.levels), "drop_first": column.drop_first}
            # What only factors of data frames have.
            if column.pooled:
                described["pooled"] = list(column.pooled)
            if column.unknown != "error":
                described["unknown"] = column.unknown
            if column.are_features:
                described["are_features"] = True
            found.append(described)
        return found


def level_name(level: Level) -> str:
    """Return the name of a level, as features have it."""
    if level is None:
        return MISSING
    return str(level)


def encoding_of(attributes: Sequence[dict[str, Any]]) -> Encoding:
    """Return the encoding that `Encoding.as_attributes` has written.

    Raises
    ------
    DataError
        If the attributes are something else.
    """
    columns: list[NumberColumn | FactorColumn] = []
    try:
        # Numbers have no levels.
        for column in attributes:
            if "levels" in column:
                columns.append(
                    FactorColumn(
                        column["name"],
                        levels=tuple(column["levels"]),
                        drop_first=bool(column["drop_first"]),
                        pooled=tuple(column.get("pooled", ())),
                        unknown=str(column.get("unknown", "error")),
                        are_features=bool(column.get("are_features", False)),
                    )
                )
            else:
                columns.append(NumberColumn(column["name"]))
    except (KeyError, TypeError) as error:
        raise DataError(f"{attributes!r:.80} is no encoding of columns.") from error
    return Encoding(tuple(columns))
