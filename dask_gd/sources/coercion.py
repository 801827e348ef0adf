"""Numbers and labels from all that holds columns: the only place where one kind of data becomes another.

`numbers` serves features, targets, weights, offsets and folds; `labels` serves classes and groups. Missing values are
NaN, never a level and never a number. The declared kind of a column decides before the first task where it can. Where
only values can decide, for objects and for categories that Dask does not know yet, the task decides.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import dask
import dask.array as da
import numpy as np
import zarr

from ..errors import InvalidTypeError
from .gate import gated, without_mask
from .kinds import FLOAT, NUMBERS, OBJECT, are_numbers, is_missing, is_plain, not_numbers, number_dtype
from .pandas_values import (
    column_values,
    common_dtype,
    frame_values,
    has_columns,
    is_pandas,
    is_plain_frame,
    object_column,
    object_values,
    only_column,
    package_of,
)


def numbers(a: Any, role: str) -> Any:
    """Return real numbers for anything that holds columns of them; missing values are NaN.

    Parameters
    ----------
    a : array, data frame, Series or column
        NumPy, Dask, Zarr, pandas, pyarrow, polars, or anything with ``__array__``.
    role : str
        The name of the argument, for messages.

    Returns
    -------
    zarr.Array, dask.array.Array or numpy.ndarray
        Of a dtype of kind f, i, u or b. Numbers of NumPy's own dtypes are returned as they are. Nullable and Arrow
        floats keep their size. Everything else that may lack values becomes float64.

    Raises
    ------
    InvalidTypeError
        Naming the columns that hold no numbers.

    Examples
    --------
    >>> import pandas as pd
    >>> numbers(pd.Series([1, None, 3], dtype="Int64"), "y")
    array([ 1., nan,  3.])
    """
    # Frames and columns have dtypes that say what they hold.
    a = _admitted(a, role)
    names = getattr(a, "columns", None)
    if is_lazy_frame(a):
        return _frame_numbers(a, role)
    if is_pandas(a):
        dtype = common_dtype(a, role)
        if has_columns(a):
            return frame_values(a, dtype, role)
        return column_values(a, dtype, role)

    # Arrays are numbers as they are, or hold objects.
    if not isinstance(a, zarr.Array | da.Array | np.ndarray):
        a = np.asarray(a)
    if is_plain(a.dtype):
        return a
    if a.dtype != OBJECT or isinstance(a, zarr.Array):
        raise not_numbers(role, a.dtype)
    if isinstance(a, da.Array):
        empty = np.empty((0,) * a.ndim)
        return da.map_blocks(object_values, a, role=role, dtype=FLOAT, meta=empty)
    return object_values(a, role, names)


def labels(a: Any, role: str) -> Any:
    """Return labels of classes or groups: numbers as `numbers` has them, or strings.

    Categories are their labels, integers stay integers, and strings of any kind become objects or stay NumPy's.

    Raises
    ------
    InvalidTypeError
        If rows have no label, or labels are neither numbers nor strings.

    Examples
    --------
    >>> import pandas as pd
    >>> labels(pd.Series(["b", "a"], dtype="category"), "y")
    array(['b', 'a'], dtype=object)
    """
    a = _admitted(a, role)
    if is_lazy_frame(a):
        return _frame_labels(a, role)
    if is_pandas(a):
        column = only_column(a, role)
        return _label_values(column, role)

    # Numbers and NumPy's strings are labels as they are; objects have to be looked at.
    if not isinstance(a, zarr.Array | da.Array | np.ndarray):
        a = np.asarray(a)
    if a.dtype.kind in NUMBERS or a.dtype.kind == "U":
        return a
    if a.dtype.kind not in "OT":
        raise _no_labels(role, a.dtype)
    if isinstance(a, da.Array):
        empty = np.empty((0,) * a.ndim, object)
        return da.map_blocks(_label_objects, a, role=role, dtype=object, meta=empty)
    return _unboxed(_label_objects(a, role))


def checkable(a: Any, role: str, values: Callable = numbers) -> Any:
    """Return data in memory as scikit-learn's checks take it; a pandas frame of numbers stays a frame, with its names.

    ``values`` is `numbers` or `labels`.
    """
    # scikit-learn's checks take lists, and NumPy's arrays of numbers, as they are.
    a = without_mask(from_arrow(a))
    if not hasattr(a, "__array__"):
        return a
    if isinstance(a, np.ndarray) and a.dtype.kind in NUMBERS + "cV":
        return a

    # A frame stays a frame, from which scikit-learn reads the names.
    if is_pandas(a) and has_columns(a) and values is numbers:
        if is_plain_frame(a):
            return a
        return type(a)(numbers(a, role), columns=a.columns, index=a.index)
    converted = values(a, role)
    if hasattr(a, "columns") and values is numbers:
        # Another library's frame, whose values are now known to be numbers.
        return a
    return converted


def _admitted(a: Any, role: str) -> Any:
    """Return data whose blocks are as they were declared, and without masks."""
    if isinstance(a, da.Array):
        return gated(a, role)
    return without_mask(from_arrow(a))


def from_arrow(a: Any) -> Any:
    """Return pandas for pyarrow's tables and arrays, in which NumPy takes a missing category for the last category."""
    if package_of(a) == "pyarrow" and hasattr(a, "to_pandas"):
        return a.to_pandas()
    return a


def is_lazy_frame(a: Any) -> bool:
    """Return whether this is a Dask DataFrame or Series."""
    return dask.is_dask_collection(a) and hasattr(a, "to_dask_array")


# Labels


def _label_values(column: Any, role: str) -> np.ndarray:
    """Return the labels in a pandas column, (n,)."""
    dtype = column.dtype
    numeric = None
    if dtype != OBJECT:
        numeric = number_dtype(dtype)

    # Numbers of any kind, or objects. Dates and complex numbers are no labels.
    if hasattr(dtype, "categories") and not np.any(column.isna()):
        values = np.asarray(column)
    elif numeric is not None:
        values = column_values(column, numeric, role)
    elif getattr(dtype, "kind", "O") in "mMc":
        raise _no_labels(role, dtype)
    else:
        values = column.to_numpy(dtype=object)
    if is_plain(values.dtype):
        return values
    return _unboxed(_label_objects(values, role))


def _no_labels(role: str, dtype: Any) -> InvalidTypeError:
    """Return the error for a dtype that holds no labels."""
    return InvalidTypeError(f"{role} has dtype {dtype}; labels are numbers or strings: {role}.astype(str) makes some.")


def _label_objects(block: np.ndarray, role: str) -> np.ndarray:
    """Return labels in an array of objects, strings or floats."""
    block = block.astype(object)
    flat = block.ravel()
    if are_numbers(flat):
        return object_column(block, role).astype(object)

    # Labels that are not all numbers are all strings.
    for row, value in enumerate(flat):
        is_nan = isinstance(value, float) and np.isnan(value)
        if is_nan or is_missing(type(value)):
            raise InvalidTypeError(f"{role} has no label at position {row}: it is {value}. Leave such rows out.")
        if not isinstance(value, str):
            raise InvalidTypeError(
                f"{role} holds {type(value).__name__} {str(value)[:40]!r} at position {row}; labels are all strings, "
                f"or all numbers: {role}.astype(str) makes strings."
            )
    return block


def _unboxed(values: np.ndarray) -> np.ndarray:
    """Return objects that are numbers as float64; strings stay objects."""
    if values.size and not isinstance(values.ravel()[0], str):
        return values.astype(FLOAT)
    return values


# Dask


def _frame_numbers(frame: Any, role: str) -> da.Array:
    """Return the numbers of a Dask frame or Series, partition by partition."""
    # The meta is an empty frame with the columns' dtypes, which decide before any task.
    meta = frame._meta
    dtype = common_dtype(meta, role)
    if has_columns(meta):
        plain = is_plain_frame(meta)
    else:
        plain = is_plain(meta.dtype)
    if not plain:
        empty = _relabelled(meta, np.empty(meta.shape, dtype))
        frame = frame.map_partitions(partial(_numeric, dtype=dtype, role=role), meta=empty)
    return gated(frame.to_dask_array(), role)


def _numeric(part: Any, dtype: np.dtype, role: str) -> Any:
    """Return a pandas frame or Series with numbers in the place of its columns' values."""
    if has_columns(part):
        values = frame_values(part, dtype, role)
    else:
        values = column_values(part, dtype, role)
    return _relabelled(part, values)


def _relabelled(part: Any, values: np.ndarray) -> Any:
    """Return a pandas frame or Series of other values, with the same labels."""
    if has_columns(part):
        return type(part)(values, index=part.index, columns=part.columns)
    return type(part)(values, index=part.index, name=part.name)


def _frame_labels(frame: Any, role: str) -> da.Array:
    """Return the labels in a Dask Series, or in the only column of a Dask frame."""
    meta = only_column(frame._meta, role)
    series = frame
    if has_columns(frame):
        series = frame[frame.columns[0]]

    # Numbers by their dtype need no look at the values.
    if is_plain(meta.dtype):
        return gated(series.to_dask_array(), role)
    undecided = meta.dtype == OBJECT or hasattr(meta.dtype, "categories")
    if number_dtype(meta.dtype) is not None and not undecided:
        return _frame_numbers(series, role)

    # All else becomes objects, partition by partition.
    _label_values(meta, role)  # which refuses dates
    empty = np.empty(len(meta), object)
    objects = type(meta)(empty, index=meta.index, name=meta.name, dtype=object)
    return series.map_partitions(partial(_boxed, role=role), meta=objects).to_dask_array()


def _boxed(part: Any, role: str) -> Any:
    """Return a pandas Series of labels as objects."""
    values = _label_values(part, role).astype(object)
    return type(part)(values, index=part.index, name=part.name, dtype=object)
