"""Data frames of any library: pandas' and Dask's as they are, all others by way of Arrow."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidArgumentError
from .coercion import is_lazy_frame
from .kinds import OBJECT
from .pandas_values import has_columns, is_pandas, package_of

#: The ends of the names of Parquet files.
PARQUET = (".parquet", ".pq")
#: Columns that a message names at most.
NAMED = 10


def frame_of(a: Any) -> Any:
    """Return a frame of pandas or Dask for a data frame of any library; None for anything that is none.

    Tables of pyarrow, and all frames that Arrow's interface is served by, such as polars', are read by that.
    """
    if is_lazy_frame(a) and has_columns(a._meta):
        return a
    if is_pandas(a) and has_columns(a):
        return a
    is_table = package_of(a) == "pyarrow" and hasattr(a, "column_names")
    if is_table or (hasattr(a, "__arrow_c_stream__") and hasattr(a, "columns")):
        return _from_arrow(a)
    return None


def frame_of_parquet(path: Any) -> Any:
    """Return a frame of Dask for the path of Parquet files; None for anything else.

    Raises
    ------
    InvalidArgumentError
        Where there is no such file.
    """
    if not isinstance(path, str | os.PathLike):
        return None
    place = os.fspath(path)
    # A directory of such files counts as well.
    is_parquet = place.rstrip("/").endswith(PARQUET)
    if not is_parquet and "://" not in place and os.path.isdir(place):
        is_parquet = any(name.endswith(PARQUET) for name in os.listdir(place))
    if not is_parquet:
        return None
    import dask.dataframe as dd

    try:
        return dd.read_parquet(place)
    except FileNotFoundError as error:
        raise InvalidArgumentError(f"{place}: no such Parquet file.") from error


def _from_arrow(table: Any) -> Any:
    """Return a frame of pandas with Arrow's own columns, in which nothing is rounded and a missing value stays one."""
    import pandas as pd
    import pyarrow as pa

    if not isinstance(table, pa.Table):
        table = pa.table(table)
    frame = table.to_pandas(types_mapper=pd.ArrowDtype)
    # An ordered dictionary declares its levels; any other lists them in the order in which they first occur.
    for name, kind in zip(table.schema.names, table.schema.types, strict=True):
        if pa.types.is_dictionary(kind) and kind.ordered and name in frame.columns:
            frame[name] = table.column(name).to_pandas()
    return frame


def empty_of(frame: Any) -> Any:
    """Return a frame of pandas with the columns of a frame and, of Dask's, no rows."""
    return getattr(frame, "_meta", frame)


def may_have_factors(frame: Any) -> bool:
    """Return whether a frame has columns that are factors, or that are factors if their values say so."""
    return any(kind_of(dtype) in ("factor", "undecided") for dtype in empty_of(frame).dtypes)


def kind_of(dtype: Any) -> str:
    """Return what a column of this dtype is: a "factor", a "number", or "undecided", where the values decide."""
    if dtype == OBJECT:
        return "undecided"
    if hasattr(dtype, "categories") or is_text(dtype):
        return "factor"
    arrow = getattr(dtype, "pyarrow_dtype", None)
    if hasattr(arrow, "value_type") and hasattr(arrow, "index_type"):
        return "factor"
    return "number"


def is_text(dtype: Any) -> bool:
    """Return whether this is a dtype of strings, of pandas or Arrow."""
    arrow = str(getattr(dtype, "pyarrow_dtype", ""))
    return str(dtype) in ("str", "string") or arrow in ("string", "large_string", "string_view")


@dataclass(frozen=True)
class Interaction:
    """Columns whose levels are taken together: each combination that occurs is a level."""

    labels: tuple[Any, ...]

    def __str__(self) -> str:
        return ":".join(map(str, self.labels))


def columns_of(labels: Sequence[Any]) -> list[Any]:
    """Return the labels of the columns that are needed, each once; those of an interaction in its place."""
    needed: dict[Any, None] = {}
    for label in labels:
        if isinstance(label, Interaction):
            needed.update(dict.fromkeys(label.labels))
        else:
            needed[label] = None
    return list(needed)


def features_named(frame: Any, names: Any, argument: str) -> list[Any]:
    """Return the labels of features, which may be interactions, such as "origin:destination".

    Raises
    ------
    InvalidArgumentError
        Naming a column that is not there.
    """
    if isinstance(names, str) or not isinstance(names, Sequence):
        names = [names]
    # A name with a colon is an interaction, unless there is a column of this name.
    columns = {str(column) for column in empty_of(frame).columns}
    labels: list[Any] = []
    plain: list[Any] = []
    for name in names:
        parts = str(name).split(":")
        if str(name) in columns or len(parts) == 1 or not all(parts):
            plain.append(name)
            labels.append(None)
        else:
            labels.append(Interaction(tuple(labels_of(frame, parts, argument))))
    # The others are there, and named once.
    found = iter(())
    if plain or not labels:
        found = iter(labels_of(frame, plain, argument))
    labels = [next(found) if label is None else label for label in labels]
    # The same columns in another order are the same interaction.
    crossed = [frozenset(label.labels) for label in labels if isinstance(label, Interaction)]
    if len(set(crossed)) < len(crossed):
        raise InvalidArgumentError(f"{argument}={list(names)!r}: an interaction is named twice.")
    return labels


def labels_of(frame: Any, names: Any, argument: str) -> list[Any]:
    """Return the labels of the columns that are named, which must be there and be the only ones of their name.

    Raises
    ------
    InvalidArgumentError
        Naming the column, and columns of the frame with a similar name.
    """
    if isinstance(names, str) or not isinstance(names, Sequence):
        names = [names]
    if not names:
        raise InvalidArgumentError(f"{argument}={names!r}: give at least one column.")
    columns = empty_of(frame).columns.tolist()
    # Columns that have numbers for labels are named by these.
    by_name = {str(column): column for column in columns}
    names = [name if name in columns else by_name.get(name, name) for name in names]
    # Each is there once.
    for name in names:
        if name not in columns:
            raise InvalidArgumentError(f"{argument}: the frame has no column {name!r}{_similar(name, columns)}.")
        if columns.count(name) > 1:
            raise InvalidArgumentError(f"{argument}: the frame has {columns.count(name)} columns named {name!r}.")
    if len(set(names)) < len(names):
        raise InvalidArgumentError(f"{argument}={list(names)!r}: a column is named twice.")
    return list(names)


def _similar(name: Any, columns: list[Any]) -> str:
    """Return which columns there are, those of similar names first, in words."""
    near = difflib.get_close_matches(str(name), [str(column) for column in columns], 3)
    if near:
        return f"; similar are {', '.join(map(repr, near))}"
    shown = ", ".join(map(repr, columns[:NAMED]))
    if len(columns) > NAMED:
        shown += f" and {len(columns) - NAMED} more"
    return f"; it has {shown}"


def column_named(frame: Any, name: Any, argument: str) -> Any:
    """Return a column of a frame for its name; anything that is no name is returned as it is."""
    if not isinstance(name, str):
        return name
    [label] = labels_of(frame, name, argument)
    return frame[label]


def with_columns_of_fit(frame: Any, names: tuple[str, ...] | None) -> Any:
    """Return the columns of a frame that the fit had, in its order; the frame as it is if it has not all of them."""
    columns = empty_of(frame).columns.tolist()
    if names is None or any(columns.count(name) != 1 for name in names):
        return frame
    return frame[list(names)]
