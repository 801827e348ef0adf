"""Numbers from pandas' frames and columns, and from arrays of objects."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from ..errors import InvalidTypeError
from .kinds import (
    FLOAT,
    NUMBERS,
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


def is_pandas(a: Any) -> bool:
    """Return whether this is a pandas frame, Series, Index or array of an extension dtype."""
    return package_of(a) == "pandas" and hasattr(a, "shape")


def package_of(a: Any) -> str:
    """Return the name of the package that an object's class is from."""
    package, _, _ = type(a).__module__.partition(".")
    return package


def has_columns(a: Any) -> bool:
    """Return whether this is a frame."""
    return getattr(a, "ndim", 0) == 2 and hasattr(a, "columns")


def is_plain_frame(frame: Any) -> bool:
    """Return whether NumPy makes numbers of a frame as they should be: all of NumPy's dtypes, no bool beside others."""
    if not all(map(is_plain, frame.dtypes)):
        return False
    # Of bools beside other numbers NumPy makes objects.
    bools = sum(dtype.kind == "b" for dtype in frame.dtypes)
    return bools in (0, len(frame.dtypes))


def only_column(a: Any, role: str) -> Any:
    """Return a column as it is, or the only column of a frame."""
    if not has_columns(a):
        return a
    if a.shape[1] != 1:
        raise InvalidTypeError(f"{role} should be a 1d array of labels; it has {a.shape[1]} columns.")
    return a.iloc[:, 0]


def common_dtype(data: Any, role: str) -> np.dtype:
    """Return the dtype of the numbers of a pandas column, or of all columns of a frame together."""
    if not has_columns(data):
        dtype = number_dtype(data.dtype)
        if dtype is None:
            raise not_numbers(role, data.dtype)
        return dtype

    # All columns without numbers are named in one error.
    dtypes = []
    refused = []
    for j, declared in enumerate(data.dtypes):
        dtype = number_dtype(declared)
        if dtype is None:
            refused.append((data.columns[j], dtype_name(declared), declared))
        else:
            dtypes.append(dtype)
    if refused:
        raise columns_not_numbers(role, refused)
    # A frame without columns has no dtype of its own.
    if not dtypes:
        return FLOAT
    return np.result_type(np.bool_, *dtypes)


def frame_values(frame: Any, dtype: np.dtype, role: str) -> np.ndarray:
    """Return a pandas frame's numbers, (n, p)."""
    if is_plain_frame(frame):
        return frame.to_numpy(dtype=dtype)
    # Else each column by its kind.
    out = np.empty(frame.shape, dtype)
    for j, name in enumerate(frame.columns):
        out[:, j] = column_values(frame.iloc[:, j], dtype, role, name)
    return out


def column_values(
    column: Any,
    dtype: np.dtype,
    role: str,
    name: Any = None,
) -> np.ndarray:
    """Return a pandas column's numbers, (n,)."""
    declared = column.dtype
    # NumPy itself reads its own dtypes, and pandas' sparse columns.
    if is_plain(declared) or is_sparse_column(declared):
        return np.asarray(column, dtype)
    if hasattr(declared, "categories"):
        accessor = getattr(column, "cat", column)
        categories = np.asarray(accessor.categories, object)
        levels = object_column(categories, role, name)
        # Missing values have code -1, the place of the last level.
        levels = np.append(levels, np.nan).astype(dtype)
        return levels[np.asarray(accessor.codes)]
    # Nullable numbers say what stands for a missing value.
    if declared.kind in NUMBERS:
        return column.to_numpy(dtype=dtype, na_value=np.nan)
    # Of objects the values decide.
    values = column.to_numpy(dtype=object)
    return object_column(values, role, name).astype(dtype)


def object_values(block: np.ndarray, role: str, names: Any = None) -> np.ndarray:
    """Return the numbers in an array of objects, (n,) or (n, p); ``names`` are its columns' names."""
    if block.ndim != 2:
        return object_column(block, role)
    out = np.empty(block.shape, FLOAT)
    for j in range(block.shape[1]):
        # Errors name a column, by its number where it has no name.
        name = j
        if names is not None:
            name = names[j]
        out[:, j] = object_column(block[:, j], role, name)
    return out


def object_column(values: np.ndarray, role: str, name: Any = None) -> np.ndarray:
    """Return the numbers in objects; None and pandas.NA are NaN."""
    flat = np.ravel(values)
    if are_numbers(flat):
        missing = np.array([is_missing(type(value)) for value in flat], bool)
        with contextlib.suppress(OverflowError):
            return np.where(missing, np.nan, flat).astype(FLOAT).reshape(values.shape)

    # The first value that is no number, or too large a number, is named.
    row, value = next((i, value) for i, value in enumerate(flat) if not _is_float(value))
    shown = f"{type(value).__name__} {str(value)[:40]!r} at position {row}"
    if name is not None:
        raise columns_not_numbers(role, [(name, f"object: {shown}", value_dtype(value))])
    raise InvalidTypeError(
        f"{role} has dtype object and holds {shown}; values of this argument must be real, and strings are not read as "
        f"numbers. {remedy(value_dtype(value), role)}"
    )


def _is_float(value: Any) -> bool:
    """Return whether an object is a number that float64 can hold, or missing."""
    if not are_numbers([value]):
        return False
    with contextlib.suppress(OverflowError):
        return is_missing(type(value)) or isinstance(float(value), float)
    return False
