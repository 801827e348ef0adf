"""The levels of a data frame's columns: what occurs in a partition, and the encoding that follows from all of them.

Levels are counted in one reduction over the partitions. They are the same, and in the same order, whatever the
partitions and whatever library the frame is of: numbers and strings are sorted, and categories that are declared for
the whole frame keep their order. A level that is declared and does not occur in any row is left out, since the rows say
nothing about its coefficient.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import numpy as np

from ..errors import DataError, InvalidTypeError
from .categories import Categories
from .encoding import INFREQUENT, Encoding, FactorColumn, Level, NumberColumn, level_name
from .frames import Interaction
from .kinds import LARGEST_INTEGER, OBJECT, UNKNOWN, columns_not_numbers, remedy, value_dtype

#: The kinds of values that are levels.
TEXT = "strings"
NUMBER = "numbers"
BOOLEAN = "booleans"


@dataclass
class Found:
    """What occurs in a column, in some of its rows."""

    #: The rows that have each level; None is a missing value.
    counts: dict[Level, int] = field(default_factory=dict)
    #: A place of a value of each kind, in words.
    kinds: dict[str, str] = field(default_factory=dict)

    def plus(self, other: Found) -> Found:
        """Return what occurs in the rows of both."""
        counts = dict(self.counts)
        for level, count in other.counts.items():
            counts[level] = counts.get(level, 0) + count
        return Found(counts, {**other.kinds, **self.kinds})


@dataclass
class Crossed:
    """The columns of an interaction, in a frame of pandas."""

    columns: list[Any]
    dtype = None

    @property
    def index(self) -> Any:
        """The labels of the rows."""
        return self.columns[0].index


def column_of(part: Any, label: Any) -> Any:
    """Return a column of a frame of pandas, or the columns of an interaction."""
    if isinstance(label, Interaction):
        return Crossed([part[each] for each in label.labels])
    return part[label]


def _crossed(columns: list[Any]) -> tuple[np.ndarray, list[Any]]:
    """Return the code of each row's combination of levels, -1 where one is missing, and the combinations' names.

    The names of levels are joined by colons; colons in names have a backslash before them, so that no two are the same.
    """
    codes = np.zeros(len(columns[0]), np.intp)
    names = [""]
    for column in columns:
        own, values = factorized(column)
        # Only the combinations that occur: those of all levels could be far more.
        pair = codes * len(values) + own
        pair[(codes == -1) | (own == -1)] = -1
        pairs, codes = np.unique(pair, return_inverse=True)
        last = _names_of(column, values, np.unique(pairs[pairs >= 0] % max(1, len(values))))
        joined = []
        for each in pairs.tolist():
            if each == -1:
                codes -= 1
            else:
                joined.append(f"{names[each // len(values)]}:{last[each % len(values)]}")
        names = joined
    return codes, [name.removeprefix(":") for name in names]


def _names_of(column: Any, values: list[Any], occurring: np.ndarray) -> dict[int, str]:
    """Return the names of the values of a column in an interaction, of those that occur, by their codes."""
    names = {}
    kinds = set()
    for i in occurring.tolist():
        try:
            level, kind = level_of(values[i])
        except InvalidTypeError as error:
            raise _no_level(column.name, str(error), "an interaction", values[i]) from None
        kinds.add(kind == TEXT)
        names[i] = level_name(level).replace("\\", "\\\\").replace(":", "\\:")
    if len(kinds) > 1:
        raise DataError(
            f"Column {column.name!r} holds strings and numbers; the levels of an interaction are of one kind."
        )
    return names


def factorized(column: Any) -> tuple[np.ndarray, list[Any]]:
    """Return the code of each row of a pandas column, (n,), -1 where a value is missing, and what each code stands for.

    Not all that codes stand for need occur, and equal values may have several codes.
    """
    import pandas as pd

    if isinstance(column, Crossed):
        return _crossed(column.columns)
    dtype = column.dtype
    if hasattr(dtype, "categories"):
        return column.cat.codes.to_numpy(), dtype.categories.tolist()
    arrow: Any = getattr(dtype, "pyarrow_dtype", None)
    if hasattr(arrow, "value_type") and hasattr(arrow, "index_type"):
        return _of_dictionary(column)
    try:
        codes, uniques = pd.factorize(column, use_na_sentinel=True)
    except TypeError:
        # A list, or another object that is compared with nothing, has a code of its own.
        values = column.to_numpy(dtype=object)
        missing = np.asarray(column.isna())
        return np.where(missing, -1, np.arange(len(values))), values.tolist()
    return codes, uniques.tolist()


def _of_dictionary(column: Any) -> tuple[np.ndarray, list[Any]]:
    """Return the code of each row of Arrow's dictionary, and what codes stand for: each chunk has codes of its own."""
    import pyarrow as pa

    arrow: Any = pa.array(column.array)
    chunks = getattr(arrow, "chunks", [arrow])
    values: list[Any] = []
    codes = [np.empty(0, np.intp)]
    for chunk in chunks:
        # Codes may be numbers without a sign.
        is_missing = np.array(chunk.indices.is_null())
        of_chunk = chunk.indices.fill_null(0).to_numpy(zero_copy_only=False).astype(np.intp)
        # A dictionary may hold a null too.
        own = chunk.dictionary.to_pylist()
        for i, value in enumerate(own):
            if value is None:
                is_missing |= of_chunk == i
        codes.append(np.where(is_missing, -1, of_chunk + len(values)))
        values += own
    return np.concatenate(codes), values


def level_of(value: Any) -> tuple[Level, str]:
    """Return the level that a value is, and its kind: 1, 1.0 and True are the same number, "1" is a string.

    Raises
    ------
    InvalidTypeError
        For a value that is no level, such as a date or a tuple.
    """
    if isinstance(value, str):
        return str(value), TEXT
    if isinstance(value, bool | np.bool_):
        return bool(value), BOOLEAN
    if isinstance(value, Integral):
        return int(value), NUMBER
    if isinstance(value, Real | Decimal) and np.isfinite(number := float(value)):
        # Whole numbers are floats where the column has missing values.
        if number.is_integer() and abs(number) <= LARGEST_INTEGER:
            return int(number), NUMBER
        return number, NUMBER
    raise InvalidTypeError(f"{type(value).__name__} {str(value)[:40]!r}")


def found_in(column: Any, name: Any, where: str = "") -> Found:
    """Return what occurs in a pandas column; ``where`` names the partition for messages.

    Raises
    ------
    InvalidTypeError
        Naming the column and the row of a value that is no level.
    """
    codes, values = factorized(column)
    counts = np.bincount(codes.astype(np.intp) + 1, minlength=len(values) + 1)
    found = Found()
    if counts[0]:
        found.counts[None] = int(counts[0])
    for i in np.flatnonzero(counts[1:]).tolist():
        try:
            level, kind = level_of(values[i])
        except InvalidTypeError as error:
            row = int(np.argmax(codes == i))
            if column.dtype == OBJECT and TEXT not in found.kinds:
                described = f"object: {error} at position {row}{where}"
                raise columns_not_numbers("x", [(name, described, value_dtype(values[i]))]) from None
            raise _no_level(name, str(error), f"{place(column, row)}{where}", values[i]) from None
        found.counts[level] = found.counts.get(level, 0) + int(counts[i + 1])
        if kind not in found.kinds:
            found.kinds[kind] = f"{values[i]!r:.40} in {place(column, int(np.argmax(codes == i)))}{where}"
    return found


def _no_level(name: Any, described: str, where: str, value: Any) -> InvalidTypeError:
    """Return the error about a value that is no level."""
    advice = ""
    if value_dtype(value).kind in "mMc":
        advice = f" {remedy(value_dtype(value), 'x', f'frame[{name!r}]')}"
    return InvalidTypeError(
        f"Column {str(name)!r} holds {described} in {where}; levels are strings, booleans and finite numbers: "
        f"frame[{name!r}].astype(str) makes strings of values.{advice}"
    )


def place(column: Any, row: int) -> str:
    """Return a row of a column in words, with its label in the frame's index."""
    label = column.index[row]
    if isinstance(label, np.generic):
        label = label.item()
    return f"row {row} (index {label!r:.40})"


def declared_levels(dtype: Any) -> tuple[Level, ...] | None:
    """Return the levels that a dtype declares for the whole frame, in their order; None where it declares none."""
    categories = getattr(dtype, "categories", None)
    if categories is None or len(categories) == 0 or UNKNOWN in categories:
        # Of categories that Dask does not know some readers say that they are known, and that there are none.
        return None
    try:
        return tuple(level_of(value)[0] for value in categories.tolist())
    except InvalidTypeError:
        # The rows that have them will say which.
        return None


def is_factor(found: Found, name: Any) -> bool:
    """Return whether values are strings, and not numbers, where the dtype does not say so.

    Raises
    ------
    DataError
        If they are of several kinds.
    """
    check_kinds(found, name)
    return TEXT in found.kinds


def check_kinds(found: Found, name: Any) -> None:
    """Refuse strings beside numbers: which of them are the same level is not known."""
    if TEXT in found.kinds and len(found.kinds) > 1:
        other = next(kind for kind in found.kinds if kind != TEXT)
        raise DataError(
            f"Column {str(name)!r} holds {TEXT} ({found.kinds[TEXT]}) and {other} ({found.kinds[other]}): a file that "
            "is read in parts may give numbers in one part and text in another. Read it with a dtype, or make all of "
            f"them strings (frame[{name!r}].astype(str)) or numbers."
        )


def factor_of(
    found: Found,
    name: str,
    declared: tuple[Level, ...] | None,
    options: Categories,
    rows: int,
) -> FactorColumn:
    """Return the factor of a column's levels, in this number of rows.

    Raises
    ------
    DataError
        For levels of several kinds, and a single level or none.
    """
    check_kinds(found, name)
    counts: dict[Level, int] = {}
    for level, count in found.counts.items():
        # Booleans beside numbers are numbers.
        if isinstance(level, bool) and NUMBER in found.kinds:
            level = int(level)
        counts[level] = count
    has_missing = counts.pop(None, 0) > 0 and options.missing == "level"

    # Those that are declared first, then the others, then the missing one.
    levels: list[Level] = [level for level in declared or () if level in counts]
    # A declared level has the type of those that occur.
    own = {level: level for level in counts}
    levels = [own[level] for level in levels]
    known = set(levels)
    levels += sorted(level for level in counts if level not in known)  # type: ignore[type-var]
    if has_missing:
        levels.append(None)
        counts[None] = found.counts[None]

    # Rare ones share the last level.
    least = options.least_rows(rows)
    pooled = tuple(level for level in levels if counts[level] < least)
    if pooled:
        rare = set(pooled)
        levels = [level for level in levels if level not in rare]
        if INFREQUENT in levels:
            raise DataError(
                f"Column {name!r} has a level named {INFREQUENT!r}, which is the name of rare levels together "
                "(min_frequency); rename it."
            )
        levels.append(INFREQUENT)
    if len(levels) < 2:
        raise DataError(
            f"Column {name!r} has {_counted(levels)}: its coefficient cannot be told from the intercept. Leave the "
            "column out of the features, or see whether it was read as it should be."
        )
    return FactorColumn(
        name,
        levels=tuple(levels),
        drop_first=options.drop == "first",
        pooled=pooled,
        unknown=options.handle_unknown,
    )


def _counted(levels: list[Level]) -> str:
    """Return how many levels there are, of one or none, in words."""
    if not levels:
        return "no level, all of its values are missing"
    return f"a single level, {levels[0]!r}"


def with_reference_levels(encoding: Encoding, fit_intercept: bool) -> Encoding:
    """Return the encoding in which the first level of each factor has no feature.

    Without an intercept the first of the factors keeps all of its levels: they stand for it.
    """
    columns: list[NumberColumn | FactorColumn] = []
    keeps_all = not fit_intercept
    for column in encoding.columns:
        if isinstance(column, FactorColumn):
            column = FactorColumn(
                column.name,
                levels=column.levels,
                drop_first=not keeps_all,
                pooled=column.pooled,
                unknown=column.unknown,
            )
            keeps_all = False
        columns.append(column)
    return Encoding(tuple(columns))
