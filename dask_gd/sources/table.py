"""Columns of a Zarr group as features: arrays of numbers, and codes with the levels that they stand for.

Codes are whole numbers from 0 on, with -1 where a value is missing. They are stored in one of three ways:

- an array (n,) with the attribute ``levels``, a list;
- an array (n, columns) with the attribute ``levels``, a list that has a list for each column of codes and null for each
  column of numbers;
- a group as anndata writes a categorical column: arrays ``codes`` (n,) and ``categories`` (levels,).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import zarr

from ..errors import DataError, InvalidArgumentError, InvalidTypeError
from ..validate import one_of
from .categories import DROPS
from .columns import as_rows, feature_names_of
from .encoding import Encoding, FactorColumn, NumberColumn, level_name
from .metadata import attributes_of, check_metadata, named_array, understood
from .packing import zarr_packing
from .room import check_stored
from .table_column import TableColumn, width_of
from .zarr_column import ZarrColumn


def table_of(
    group: zarr.Group,
    names: str | Sequence[str],
    path: Any,
    drop: str | None = "auto",
    missing: str = "error",
) -> TableColumn | None:
    """Return the columns of these names as features; None for a single array of numbers, which has no codes.

    Raises
    ------
    InvalidArgumentError, InvalidTypeError, DataError
        For names that are not in the group, lengths that differ, and codes whose levels are not told, or not as they
        should be.
    """
    one_of("drop", drop, DROPS)
    # A list names each array once.
    is_single = isinstance(names, str)
    if isinstance(names, str):
        listed = [names]
    else:
        listed = list(names)
    if not listed or not all(isinstance(name, str) for name in listed):
        raise InvalidArgumentError(f"x={names!r}: give the name of an array, or a list of such names.")
    if len(set(listed)) < len(listed):
        raise InvalidArgumentError(f"x={names!r}: a name occurs twice.")

    arrays: list[ZarrColumn] = []
    columns: list[NumberColumn | FactorColumn] = []
    for name in listed:
        array, described = described_columns(group, name, path, drop == "first")
        # Each array is read into memory of its own.
        column = as_rows(array, f"x {name}", missing)
        assert isinstance(column, ZarrColumn)
        arrays.append(column)
        columns.extend(described)
    # A single array of numbers is read as such.
    encoding = Encoding(tuple(columns))
    if is_single and not encoding.has_factors:
        return None
    check_lengths(arrays, listed)
    check_names(columns)
    return TableColumn(tuple(arrays), encoding, drops=drop == "auto")


def described_columns(
    group: zarr.Group,
    name: str,
    path: Any,
    drop_first: bool,
) -> tuple[zarr.Array, list[NumberColumn | FactorColumn]]:
    """Return the array of a name, and what its columns are."""
    with understood(f"array {name!r} in {path}", OSError):
        member = group.get(name)
    # A categorical column as anndata writes it.
    if isinstance(member, zarr.Group) and {"codes", "categories"} <= {key for key, _ in member.members()}:
        codes = named_array(member, "x", "codes", path)
        levels = levels_of_categories(member, name)
        check_codes(codes, name)
        return codes, [factor_column(name, levels, drop_first)]

    array = named_array(group, "x", name, path)
    check_metadata(array, name)
    if array.ndim not in (1, 2):
        raise InvalidArgumentError(f"x={name!r} has the shape {array.shape}; columns are (n,), or (n, columns).")
    told = attributes_of(array).get("levels")
    if array.ndim == 1:
        if told is None:
            return array, [NumberColumn(name)]
        check_codes(array, name)
        return array, [factor_column(name, told, drop_first)]

    # A column of a 2-D array is named by the array's names, or by its number.
    width = array.shape[1]
    names = feature_names_of(array) or tuple(f"{name}[{i}]" for i in range(width))
    if told is None:
        return array, [NumberColumn(own) for own in names]
    if not isinstance(told, list) or len(told) != width:
        raise DataError(
            f"Array {name!r} has {width} columns; its attribute 'levels' must be a list with a list of levels for each "
            f"column of codes, and null for each column of numbers. It is {told!r:.80}."
        )
    columns: list[NumberColumn | FactorColumn] = []
    for own, levels in zip(names, told, strict=True):
        if levels is None:
            columns.append(NumberColumn(own))
        else:
            check_codes(array, name)
            columns.append(factor_column(own, levels, drop_first))
    return array, columns


def check_codes(array: zarr.Array, name: str) -> None:
    """Refuse codes that are no whole numbers."""
    if array.dtype.kind not in "iu":
        raise InvalidTypeError(
            f"Array {name!r} has levels and dtype {array.dtype}; codes are whole numbers (uint8, int16, ...) from 0 "
            "on, -1 where a value is missing."
        )
    packing = zarr_packing(array, name)
    if packing is not None and packing.scales:
        raise InvalidTypeError(
            f"Array {name!r} has levels and the attributes scale_factor or add_offset; codes are stored as they are, "
            "from 0 on. Remove these attributes."
        )


def factor_column(name: str, levels: Any, drop_first: bool) -> FactorColumn:
    """Return a factor, whose levels must be a list of different names or numbers."""
    if not isinstance(levels, list | tuple) or not levels:
        raise DataError(f"The levels of {name!r} are {levels!r:.80}; there must be a list of them, at least one.")
    if not all(isinstance(level, str | int | float | bool | None) for level in levels):
        raise DataError(f"The levels of {name!r} must be names or numbers; they are {levels!r:.80}.")
    if any(isinstance(level, float) and not math.isfinite(level) for level in levels):
        raise DataError(f"The levels of {name!r} must be names or finite numbers; they are {levels!r:.80}.")
    # 1 and "1" are two levels, whose features would have one name.
    seen: set[str] = set()
    for text in map(level_name, levels):
        if text in seen:
            raise DataError(f"The levels of {name!r} have {text!r} more than once; each level has one code.")
        seen.add(text)
    if len(levels) == 1:
        raise DataError(
            f"{name!r} has a single level, {str(levels[0])!r}: its coefficient cannot be told from the intercept. "
            "Leave the column out."
        )
    return FactorColumn(name, tuple(levels), drop_first)


def levels_of_categories(group: zarr.Group, name: str) -> list[Any]:
    """Return the categories of a categorical column that is stored as anndata does."""
    categories = named_array(group, "x", "categories", name)
    check_metadata(categories, f"{name}/categories")
    if categories.ndim != 1:
        raise DataError(f"The categories of {name!r} have the shape {categories.shape}; there must be a list of them.")
    check_stored(name, categories.shape[0])
    with understood(f"array '{name}/categories'"):
        values = np.asarray(categories[:])
    return values.tolist()


def check_lengths(arrays: Sequence[ZarrColumn], names: Sequence[str]) -> None:
    """Refuse arrays of different numbers of rows."""
    rows = arrays[0].shape[0]
    for array, name in zip(arrays, names, strict=True):
        if array.shape[0] != rows:
            raise InvalidArgumentError(f"{names[0]!r} has {rows} rows but {name!r} has {array.shape[0]}.")
        if width_of(array) == 0:
            raise InvalidArgumentError(f"{name!r} has the shape {array.shape}: there is nothing to fit.")


def check_names(columns: Sequence[NumberColumn | FactorColumn]) -> None:
    """Refuse two columns, or two features, of one name, which could not be told apart."""
    names = Counter(column.name for column in columns)
    for name, count in names.items():
        if count > 1:
            raise InvalidArgumentError(f"Two columns are named {name!r}; give them names of their own.")
    # A column of numbers may have the name of a level.
    features = Counter(Encoding(tuple(columns)).feature_names)
    for name, count in features.items():
        if count > 1:
            raise InvalidArgumentError(f"Two features are named {name!r}; give the columns names of their own.")
