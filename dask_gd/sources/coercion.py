"""Numbers and labels from whatever holds columns: the only place where one kind of data becomes another.

`numbers` serves features, targets, weights, offsets and folds; `labels` serves classes and groups. Missing values are
NaN, never a level and never a number. What the declared kind of a column tells is decided before the first task; what
only its values tell, of objects and of categories that Dask does not know yet, is decided in the task.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

import dask
import dask.array as da
import numpy as np
import zarr

from ..errors import InvalidTypeError
from .gate import gated, without_mask
from .kinds import (
    FLOAT,
    NUMBERS,
    OBJECT,
    are_numbers,
    columns_not_numbers,
    dtype_name,
    is_missing,
    is_plain,
    is_sparse_column,
    not_numbers,
    number_dtype,
    remedy,
    value_dtype,
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
        floats keep their size. All that may lack values otherwise becomes float64.

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
    a = _entered(a, role)
    names = getattr(a, "columns", None)
    if is_lazy_frame(a):
        return _frame_numbers(a, role)
    if _is_pandas(a):
        dtype = _common_dtype(a, role)
        if _has_columns(a):
            return _frame_values(a, dtype, role)
        return _column_values(a, dtype, role)
    if not isinstance(a, zarr.Array | da.Array | np.ndarray):
        a = np.asarray(a)
    if is_plain(a.dtype):
        return a
    if a.dtype != OBJECT or isinstance(a, zarr.Array):
        raise not_numbers(role, a.dtype)
    if isinstance(a, da.Array):
        return da.map_blocks(_object_values, a, role=role, dtype=FLOAT, meta=np.empty((0,) * a.ndim))
    return _object_values(a, role, names)


def labels(a: Any, role: str) -> Any:
    """Return labels of classes or groups: numbers as `numbers` has them, or strings.

    Categories are their labels, integers stay integers, and strings of any kind become objects or stay NumPy's.

    Raises
    ------
    InvalidTypeError
        Where rows have no label, or labels are neither numbers nor strings.

    Examples
    --------
    >>> import pandas as pd
    >>> labels(pd.Series(["b", "a"], dtype="category"), "y")
    array(['b', 'a'], dtype=object)
    """
    a = _entered(a, role)
    if is_lazy_frame(a):
        return _frame_labels(a, role)
    if _is_pandas(a):
        a = _only_column(a, role)
        return _label_values(a, role)
    if not isinstance(a, zarr.Array | da.Array | np.ndarray):
        a = np.asarray(a)
    if a.dtype.kind in NUMBERS or a.dtype.kind == "U":
        return a
    if a.dtype.kind not in "OT":
        raise _no_labels(role, a.dtype)
    if isinstance(a, da.Array):
        return da.map_blocks(_label_objects, a, role=role, dtype=object, meta=np.empty((0,) * a.ndim, object))
    return _unboxed(_label_objects(a, role))


def checkable(a: Any, role: str, values: Callable = numbers) -> Any:
    """Return data in memory as scikit-learn's checks take it; a pandas frame of numbers stays one, with its names.

    ``values`` is `numbers` or `labels`.
    """
    a = without_mask(from_arrow(a))
    if not hasattr(a, "__array__") or (isinstance(a, np.ndarray) and a.dtype.kind in NUMBERS + "cV"):
        return a
    if _is_pandas(a) and _has_columns(a) and values is numbers:
        if _is_plain_frame(a):
            return a
        return type(a)(numbers(a, role), columns=a.columns, index=a.index)
    found = values(a, role)
    # scikit-learn reads the names of other libraries' frames, whose values are now known to be numbers.
    return a if hasattr(a, "columns") and values is numbers else found


def _entered(a: Any, role: str) -> Any:
    """Return data whose blocks are what they were declared to be, and without masks."""
    if isinstance(a, da.Array):
        return gated(a, role)
    return without_mask(from_arrow(a))


def from_arrow(a: Any) -> Any:
    """Return pandas for pyarrow's tables and arrays, in which NumPy takes a missing category for the last one."""
    if type(a).__module__.partition(".")[0] == "pyarrow" and hasattr(a, "to_pandas"):
        return a.to_pandas()
    return a


def is_lazy_frame(a: Any) -> bool:
    """Return whether this is a Dask DataFrame or Series."""
    return dask.is_dask_collection(a) and hasattr(a, "to_dask_array")


# pandas


def _is_pandas(a: Any) -> bool:
    """Return whether this is a pandas frame, Series, Index or array of an extension dtype."""
    return type(a).__module__.partition(".")[0] == "pandas" and hasattr(a, "shape")


def _has_columns(a: Any) -> bool:
    return getattr(a, "ndim", 0) == 2 and hasattr(a, "columns")


def _is_plain_frame(frame: Any) -> bool:
    """Return whether NumPy makes numbers of a frame as they should be: all of NumPy's dtypes, no bool beside others."""
    if not all(map(is_plain, frame.dtypes)):
        return False
    bools = sum(dtype.kind == "b" for dtype in frame.dtypes)
    return bools in (0, len(frame.dtypes))


def _only_column(a: Any, role: str) -> Any:
    """Return the column of a frame that has one."""
    if not _has_columns(a):
        return a
    if a.shape[1] != 1:
        raise InvalidTypeError(f"{role} should be a 1d array of labels; it has {a.shape[1]} columns.")
    return a.iloc[:, 0]


def _common_dtype(data: Any, role: str) -> np.dtype:
    """Return the dtype of the numbers of a pandas column, or of all columns of a frame together."""
    if not _has_columns(data):
        found = number_dtype(data.dtype)
        if found is None:
            raise not_numbers(role, data.dtype)
        return found
    dtypes = {j: number_dtype(dtype) for j, dtype in enumerate(data.dtypes)}
    bad = [(data.columns[j], data.dtypes.iloc[j]) for j, dtype in dtypes.items() if dtype is None]
    if bad:
        raise columns_not_numbers(role, [(name, dtype_name(dtype), dtype) for name, dtype in bad])
    return np.result_type(FLOAT if not dtypes else np.bool_, *(dtype for dtype in dtypes.values() if dtype is not None))


def _frame_values(frame: Any, dtype: np.dtype, role: str) -> np.ndarray:
    """Return a pandas frame's numbers, (n, p)."""
    if _is_plain_frame(frame):
        return frame.to_numpy(dtype=dtype)
    out = np.empty(frame.shape, dtype)
    for j, name in enumerate(frame.columns):
        out[:, j] = _column_values(frame.iloc[:, j], dtype, role, name)
    return out


def _column_values(column: Any, dtype: np.dtype, role: str, name: Any = None) -> np.ndarray:
    """Return a pandas column's numbers, (n,)."""
    own = column.dtype
    if is_plain(own) or is_sparse_column(own):
        return np.asarray(column, dtype)
    if hasattr(own, "categories"):
        accessor = getattr(column, "cat", column)
        levels = _object_column(np.asarray(accessor.categories, object), role, name)
        # Missing ones have code -1, the place of the last.
        return np.append(levels, np.nan).astype(dtype)[np.asarray(accessor.codes)]
    if own.kind in NUMBERS:
        return column.to_numpy(dtype=dtype, na_value=np.nan)
    return _object_column(column.to_numpy(dtype=object), role, name).astype(dtype)


def _object_values(block: np.ndarray, role: str, names: Any = None) -> np.ndarray:
    """Return the numbers in an array of objects, (n,) or (n, p); ``names`` are those of its columns."""
    if block.ndim != 2:
        return _object_column(block, role)
    out = np.empty(block.shape, FLOAT)
    for j in range(block.shape[1]):
        out[:, j] = _object_column(block[:, j], role, j if names is None else names[j])
    return out


def _object_column(values: np.ndarray, role: str, name: Any = None) -> np.ndarray:
    """Return the numbers in objects; None and pandas.NA are NaN."""
    flat = np.ravel(values)
    if are_numbers(flat):
        missing = np.array([is_missing(type(value)) for value in flat], bool)
        with contextlib.suppress(OverflowError):
            return np.where(missing, np.nan, flat).astype(FLOAT).reshape(values.shape)
    row, value = next((i, value) for i, value in enumerate(flat) if not _is_float(value))
    found = f"{type(value).__name__} {str(value)[:40]!r} at position {row}"
    if name is not None:
        raise columns_not_numbers(role, [(name, f"object: {found}", value_dtype(value))])
    raise InvalidTypeError(
        f"{role} has dtype object and holds {found}; values of this argument must be real, and strings are not read as "
        f"numbers. {remedy(value_dtype(value), role)}"
    )


def _is_float(value: Any) -> bool:
    """Return whether an object is a number that float64 can hold, or missing."""
    if not are_numbers([value]):
        return False
    with contextlib.suppress(OverflowError):
        return is_missing(type(value)) or isinstance(float(value), float)
    return False


# Labels


def _label_values(column: Any, role: str) -> np.ndarray:
    """Return the labels in a pandas column, (n,)."""
    dtype = column.dtype
    if hasattr(dtype, "categories") and not np.any(column.isna()):
        values = np.asarray(column)
    elif dtype != OBJECT and (found := number_dtype(dtype)) is not None:
        values = _column_values(column, found, role)
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
        return _object_column(block, role).astype(object)
    for row, value in enumerate(flat):
        if is_missing(type(value)) or (isinstance(value, float) and np.isnan(value)):
            raise InvalidTypeError(f"{role} has no label at position {row}: it is {value}. Leave such rows out.")
        if not isinstance(value, str):
            raise InvalidTypeError(
                f"{role} holds {type(value).__name__} {str(value)[:40]!r} at position {row}; labels are all strings, "
                f"or all numbers: {role}.astype(str) makes strings."
            )
    return block


def _unboxed(values: np.ndarray) -> np.ndarray:
    """Return objects that are numbers as float64."""
    if values.size and not isinstance(values.ravel()[0], str):
        return values.astype(FLOAT)
    return values


# Dask


def _frame_numbers(frame: Any, role: str) -> da.Array:
    """Return the numbers of a Dask frame or Series, partition by partition."""
    meta = frame._meta
    dtype = _common_dtype(meta, role)
    if _has_columns(meta):
        plain = _is_plain_frame(meta)
    else:
        plain = is_plain(meta.dtype)
    if not plain:
        empty = _relabelled(meta, np.empty(meta.shape, dtype))
        frame = frame.map_partitions(partial(_numeric, dtype=dtype, role=role), meta=empty)
    return gated(frame.to_dask_array(), role)


def _numeric(part: Any, dtype: np.dtype, role: str) -> Any:
    """Return a pandas frame or Series with numbers in the place of what its columns hold."""
    if _has_columns(part):
        values = _frame_values(part, dtype, role)
    else:
        values = _column_values(part, dtype, role)
    return _relabelled(part, values)


def _relabelled(part: Any, values: np.ndarray) -> Any:
    """Return a pandas frame or Series of other values."""
    if _has_columns(part):
        return type(part)(values, index=part.index, columns=part.columns)
    return type(part)(values, index=part.index, name=part.name)


def _frame_labels(frame: Any, role: str) -> da.Array:
    """Return the labels in a Dask Series, or in the only column of a Dask frame."""
    meta = _only_column(frame._meta, role)
    series = frame
    if _has_columns(frame):
        series = frame[frame.columns[0]]
    if is_plain(meta.dtype):
        return gated(series.to_dask_array(), role)
    if number_dtype(meta.dtype) is not None and meta.dtype != OBJECT and not hasattr(meta.dtype, "categories"):
        return _frame_numbers(series, role)
    _label_values(meta, role)  # which refuses dates
    objects = type(meta)(np.empty(len(meta), object), index=meta.index, name=meta.name, dtype=object)
    return series.map_partitions(partial(_boxed, role=role), meta=objects).to_dask_array()


def _boxed(part: Any, role: str) -> Any:
    """Return a pandas Series of labels as objects."""
    return type(part)(_label_values(part, role).astype(object), index=part.index, name=part.name, dtype=object)
