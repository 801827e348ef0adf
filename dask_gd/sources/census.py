"""The census of a data frame: which levels its columns have, and how many rows its partitions have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dask

from ..cluster import compute
from ..errors import DataError, InvalidArgumentError
from .categories import Categories
from .coercion import is_lazy_frame
from .dask_frames import partitions_of
from .encoding import Encoding, FactorColumn, NumberColumn
from .frames import Interaction, columns_of, empty_of, kind_of
from .levels import Found, column_of, declared_levels, factor_of, found_in, is_factor
from .pandas_values import common_dtype
from .room import check_counted

#: Partitions whose counts are added up at once.
FAN_IN = 16


@dataclass
class Census:
    """What occurs in some of the rows of a frame: the columns' levels, and the numbers of rows of partitions."""

    columns: dict[Any, Found]
    rows: tuple[int, ...]
    #: The rows that were looked at: all, or those that lack no value in some columns.
    looked_at: int = 0

    def plus(self, other: Census) -> Census:
        """Return what occurs in the rows of both, those of the other after one's own."""
        columns = {}
        for name, found in self.columns.items():
            columns[name] = found.plus(other.columns[name])
            check_counted(name, columns[name].counts)
        return Census(columns, self.rows + other.rows, self.looked_at + other.looked_at)


def census_of(
    part: Any,
    labels: list[Any],
    where: str = "",
    complete: tuple[Any, ...] = (),
) -> Census:
    """Return what occurs in a frame of pandas, in its rows that lack no value in the columns ``complete``."""
    rows = len(part)
    if complete:
        part = part[part[list(complete)].notna().all(axis=1)]
    columns = {}
    for label in labels:
        column = column_of(part, label)
        columns[label] = found_in(column, label, where)
        check_counted(label, columns[label].counts)
    return Census(columns, (rows,), len(part))


def added(*parts: Census) -> Census:
    """Return what occurs in the rows of all parts, in their order."""
    total = parts[0]
    for part in parts[1:]:
        total = total.plus(part)
    return total


def taken(frame: Any, labels: list[Any], complete: tuple[Any, ...] = ()) -> Census:
    """Return the levels in these columns of a frame: of Dask's in one reduction over its partitions, as it is read.

    Only rows count that lack no value in the columns ``complete``.
    """
    if not is_lazy_frame(frame):
        return census_of(frame, labels, complete=complete)
    # A single column of those that are read at any rate tells the numbers of rows.
    needed = columns_of([*labels, *complete]) or [frame.columns[0]]
    parts = partitions_of(frame[needed])
    census = dask.delayed(census_of, pure=True)
    counted = [census(part, labels, f" of partition {i}", complete) for i, part in enumerate(parts)]
    return total_of(counted, added, "the levels of the frame's columns")


def total_of(parts: list[Any], add: Any, what: str) -> Any:
    """Return the total of delayed parts, which ``add`` adds up in their order, `FAN_IN` at once."""
    while len(parts) > 1:
        groups = [parts[i : i + FAN_IN] for i in range(0, len(parts), FAN_IN)]
        parts = [dask.delayed(add, pure=True)(*group) for group in groups]
    [total] = compute(*parts, what=what)
    return total


def encoding_of_frame(
    frame: Any,
    labels: list[Any],
    options: Categories,
    declared_order: bool = True,
    complete: tuple[Any, ...] = (),
) -> tuple[Encoding | None, tuple[int, ...]]:
    """Return the encoding of a frame's columns, None where all are numbers, and the partitions' numbers of rows.

    Without ``declared_order`` categories are sorted as all else is. Only rows count that lack no value in the columns
    ``complete``, if there are any.

    Raises
    ------
    DataError, InvalidTypeError
        Naming a column that holds neither numbers nor levels, or both.
    """
    dtypes = empty_of(frame).dtypes
    kinds = kinds_of(frame, labels, options)
    # Dates and the like are refused before any row is read.
    plain = [label for label in labels if kinds[label] == "number"]
    common_dtype(empty_of(frame)[plain], "x")

    # All others are counted, and what their dtypes leave open their values decide.
    counted = [label for label in labels if kinds[label] != "number"]
    if not counted:
        complete = ()
    census = taken(frame, counted, complete)
    if complete and not census.looked_at:
        # All rows would be left out, of which the fit will say so.
        census = taken(frame, counted)
    total = census.looked_at
    columns: list[NumberColumn | FactorColumn] = []
    for label in labels:
        if kinds[label] == "undecided" and not is_factor(census.columns[label], label):
            kinds[label] = "number"
        if kinds[label] == "number":
            columns.append(NumberColumn(str(label)))
            continue
        declared = None
        if declared_order and not isinstance(label, Interaction):
            declared = declared_levels(dtypes[label])
        factor = factor_of(census.columns[label], str(label), declared, options, total)
        columns.append(factor)
    encoding = Encoding(tuple(columns))
    check_names(encoding)
    if not encoding.has_factors:
        return None, census.rows
    return encoding, census.rows


def kinds_of(frame: Any, labels: list[Any], options: Categories) -> dict[Any, str]:
    """Return what each of the features is, see `kind_of`.

    Raises
    ------
    InvalidArgumentError
        For a column that is named as a factor and is none of the features, and for interactions of numbers.
    """
    dtypes = empty_of(frame).dtypes
    parts = columns_of(labels)
    unnamed = [name for name in options.columns if name not in parts]
    if unnamed:
        raise InvalidArgumentError(f"categorical: {unnamed[0]!r} is none of the features {listed(labels)}.")
    # A column is what its dtype says, or what the user says.
    kinds = {label: kind_of(dtypes[label]) for label in parts}
    for name in options.columns:
        kinds[name] = "factor"
    # An interaction is of levels only.
    for label in labels:
        if isinstance(label, Interaction):
            kinds[label] = "factor"
            for part in label.labels:
                if kinds[part] == "number":
                    raise InvalidArgumentError(
                        f"features: {str(label)!r} is an interaction of levels, and {part!r} holds numbers "
                        f"({dtypes[part]}); if they are levels, say categorical=[{part!r}]."
                    )
    return kinds


def check_names(encoding: Encoding) -> None:
    """Refuse features of one name, which could not be told apart."""
    names = encoding.feature_names
    if len(set(names)) == len(names):
        return
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(f"Two features are named {name!r}: rename a column, or a level.")
        seen.add(name)


def listed(labels: list[Any], most: int = 10) -> str:
    """Return names in words, the first of them where there are many."""
    shown = ", ".join(map(repr, labels[:most]))
    if len(labels) > most:
        shown += f" and {len(labels) - most} more"
    return shown
