"""Numbers and labels from whatever holds columns: the only place where one kind of data becomes another.

`numbers` serves features, targets, weights, offsets and folds; `labels` serves classes and groups. Missing values are
NaN, never a level and never a number. What the declared kind of a column tells is decided before the first task; what
only its values tell, of objects and of categories that Dask does not know yet, is decided in the task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from functools import partial
from numbers import Real
from typing import Any

import dask
import dask.array as da
import numpy as np
import zarr

from ..errors import InvalidTypeError
from .gate import gated, without_mask

FLOAT = np.dtype(np.float64)
#: NumPy's kinds of real numbers.
NUMBERS = "fiub"
#: Columns that a message names at most.
NAMED = 5


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
        return _frame_values(a, dtype, role) if _has_columns(a) else _column_values(a, dtype, role)
    if not isinstance(a, zarr.Array | da.Array | np.ndarray):
        a = np.asarray(a)
    if isinstance(a.dtype, np.dtype) and a.dtype.kind in NUMBERS:
        return a
    if a.dtype != object or isinstance(a, zarr.Array):
        raise InvalidTypeError(
            f"{role} has dtype {a.dtype}; only real numbers can be fitted (float, int, uint, bool). "
            f"{remedy(a.dtype, role)}"
        )
    if isinstance(a, da.Array):
        return a.map_blocks(_object_values, role=role, dtype=FLOAT, meta=np.empty((0,) * a.ndim))
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
        raise InvalidTypeError(f"{role} has dtype {a.dtype}; labels are numbers or strings. {remedy(a.dtype, role)}")
    if isinstance(a, da.Array):
        return a.map_blocks(_label_objects, role=role, dtype=object, meta=np.empty((0,) * a.ndim, object))
    return _unboxed(_label_objects(a, role))


def checkable(a: Any, role: str, values: Callable = numbers) -> Any:
    """Return data in memory as scikit-learn's checks take it; a pandas frame of numbers stays one, with its names.

    ``values`` is `numbers` or `labels`.
    """
    a = from_arrow(a)
    if not hasattr(a, "__array__") or (isinstance(a, np.ndarray) and a.dtype.kind in NUMBERS + "cV"):
        return a
    if _is_pandas(a) and _has_columns(a) and values is numbers:
        return a if _is_plain(a) else type(a)(numbers(a, role), columns=a.columns, index=a.index)
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


def remedy(dtype: Any, role: str = "", this: str = "column") -> str:
    """Return what to do about values of a dtype that is none of numbers; ``this`` is what code calls them."""
    kind = getattr(dtype, "kind", "O")
    if kind == "M":
        return f"Make a number of time first: ({this} - np.datetime64('2000-01-01')) / np.timedelta64(1, 'D')."
    if kind == "m":
        return f"Divide by a unit first: {this} / np.timedelta64(1, 'D')."
    if kind == "c":
        return "Give real and imaginary parts as columns of their own."
    if role == "y":
        return "Labels of classes are for the classifiers of dask_gd.estimators; dask_gd.fit takes the classes' numbers."
    return (
        f"Encode categories as numbers first: {this}.astype('category').cat.codes are codes, of which "
        "dask_gd.preprocessing.OneHotEncoder makes indicators. Text of numbers becomes numbers with astype(float); Dask "
        "makes text of objects unless its setting dataframe.convert-string is False."
    )


# Kinds


def number_dtype(dtype: Any) -> np.dtype | None:
    """Return the dtype of the numbers that a column of this dtype holds; None if it holds others.

    Of objects and of unknown categories the values decide; for these it is float64.
    """
    if isinstance(dtype, np.dtype):
        return dtype if dtype.kind in NUMBERS else FLOAT if dtype == object else None
    inner: Any = getattr(dtype, "numpy_dtype", None)
    if hasattr(dtype, "categories"):
        inner = _categories_dtype(dtype.categories)
    elif hasattr(dtype, "pyarrow_dtype"):
        inner = _arrow_dtype(dtype.pyarrow_dtype, inner)
    elif hasattr(dtype, "fill_value"):  # pandas' sparse columns lack nothing
        return number_dtype(dtype.subtype)
    if inner is None or (inner.kind not in NUMBERS and inner != object):
        return None
    return inner if inner.kind == "f" else FLOAT


def _categories_dtype(categories: Any) -> np.dtype | None:
    """Return the dtype of categories that are numbers, None if they are others."""
    if categories is None or not len(categories) or "__UNKNOWN_CATEGORIES__" in categories:
        return np.dtype(object)
    if categories.dtype == object and not _are_numbers(categories):
        return None
    return number_dtype(categories.dtype)


def _arrow_dtype(kind: Any, plain: np.dtype | None) -> np.dtype | None:
    """Return the NumPy dtype for a type of Arrow's: objects for decimals and for columns without any value."""
    if hasattr(kind, "value_type") and hasattr(kind, "index_type"):
        return _arrow_dtype(kind.value_type, np.dtype(kind.value_type.to_pandas_dtype()))
    if str(kind).startswith(("decimal", "null")):
        return np.dtype(object)
    return plain if plain is not None and plain.kind in NUMBERS else None


def _are_numbers(values: Iterable[Any]) -> bool:
    """Return whether objects are real numbers or missing. Text that could be read as a number is none."""
    return all(issubclass(kind, Real | Decimal | np.bool_) or _is_missing(kind) for kind in set(map(type, values)))


def _is_missing(kind: type) -> bool:
    """Return whether this is the class of None, pandas.NA or NumPy's masked."""
    return kind is type(None) or kind.__name__ in ("NAType", "MaskedConstant")


def _common_dtype(frame: Any, role: str) -> np.dtype:
    """Return the dtype of the numbers of a pandas column or of all columns of a frame together."""
    if not _has_columns(frame):
        found = number_dtype(frame.dtype)
        if found is None:
            raise InvalidTypeError(
                f"{role} has dtype {frame.dtype}; only real numbers can be fitted (float, int, uint, bool). "
                f"{remedy(frame.dtype, role)}"
            )
        return found
    dtypes = list(frame.dtypes)
    found_dtypes = [number_dtype(dtype) for dtype in dtypes]
    bad = [i for i, dtype in enumerate(found_dtypes) if dtype is None]
    if bad:
        raise _no_numbers(role, [(frame.columns[i], _dtype_name(dtypes[i]), dtypes[i]) for i in bad])
    return np.result_type(*found_dtypes) if found_dtypes else FLOAT


def _no_numbers(role: str, columns: list[tuple[Any, str, Any]]) -> InvalidTypeError:
    """Return the error that names columns, what they hold, and what to do about each kind of it."""
    shown = [f"{name!r} ({what})" for name, what, _ in columns[:NAMED]]
    if len(columns) > NAMED:
        shown.append(f"{len(columns) - NAMED} more")
    listed = " and ".join([", ".join(shown[:-1]), shown[-1]] if shown[1:] else shown)
    first_of_kind = {getattr(dtype, "kind", "O"): (name, dtype) for name, _, dtype in reversed(columns)}
    remedies = dict.fromkeys(remedy(dtype, role, f"frame[{name!r}]") for name, dtype in first_of_kind.values())
    are = "columns" if shown[1:] else "column"
    return InvalidTypeError(
        f"{role}: {are} {listed} {'hold' if shown[1:] else 'holds'} no numbers; only real numbers can be fitted (float, "
        f"int, uint, bool). {' '.join(remedies)}"
    )


def _dtype_name(dtype: Any) -> str:
    """Return a dtype's name for messages, with the kind of its categories."""
    categories = getattr(dtype, "categories", None)
    return f"{dtype} of {categories.dtype}" if categories is not None else str(dtype)


# pandas


def _is_pandas(a: Any) -> bool:
    """Return whether this is a pandas frame, Series, Index or array of an extension dtype."""
    return type(a).__module__.partition(".")[0] == "pandas" and hasattr(a, "shape")


def _has_columns(a: Any) -> bool:
    return getattr(a, "ndim", 0) == 2 and hasattr(a, "columns")


def _is_plain(frame: Any) -> bool:
    """Return whether NumPy makes numbers of a frame as they should be: all of NumPy's dtypes, no bool beside others."""
    kinds = {dtype.kind if isinstance(dtype, np.dtype) else "O" for dtype in frame.dtypes}
    return kinds <= set(NUMBERS) and ("b" not in kinds or len(kinds) == 1)


def _only_column(a: Any, role: str) -> Any:
    """Return the column of a frame that has one."""
    if not _has_columns(a):
        return a
    if a.shape[1] != 1:
        raise InvalidTypeError(f"{role} should be a 1d array of labels; it has {a.shape[1]} columns.")
    return a.iloc[:, 0]


def _frame_values(frame: Any, dtype: np.dtype, role: str) -> np.ndarray:
    """Return a pandas frame's numbers, (n, p)."""
    if _is_plain(frame):
        return frame.to_numpy(dtype=dtype)
    out = np.empty(frame.shape, dtype)
    for j, name in enumerate(frame.columns):
        out[:, j] = _column_values(frame.iloc[:, j], dtype, role, name)
    return out


def _column_values(column: Any, dtype: np.dtype, role: str, name: Any = None) -> np.ndarray:
    """Return a pandas column's numbers, (n,)."""
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in NUMBERS:
        return np.asarray(column, dtype)
    if hasattr(column.dtype, "categories"):
        cat = getattr(column, "cat", column)
        levels = _object_column(np.asarray(cat.categories, object), role, name)
        return np.append(levels, np.nan).astype(dtype)[np.asarray(cat.codes)]
    if getattr(column.dtype, "kind", "O") in NUMBERS and not hasattr(column.dtype, "fill_value"):
        return column.to_numpy(dtype=dtype, na_value=np.nan)
    if hasattr(column.dtype, "fill_value"):
        return np.asarray(column, dtype)
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
    """Return the numbers in objects (n,); None and pandas.NA are NaN."""
    flat = np.ravel(values)
    if _are_numbers(flat):
        missing = np.array([_is_missing(type(v)) for v in flat], bool)
        try:
            return np.where(missing, np.nan, flat).astype(FLOAT).reshape(values.shape)
        except OverflowError:
            pass
    row, value = next((i, v) for i, v in enumerate(flat) if not _is_float(v))
    found = f"{type(value).__name__} {str(value)[:40]!r} at position {row}"
    if name is None:
        raise InvalidTypeError(
            f"{role} has dtype object and holds {found}; values of this argument must be real numbers, and no strings "
            f"that could be read as numbers. "
            f"{remedy(_value_dtype(value), role)}"
        )
    raise _no_numbers(role, [(name, f"object: {found}", _value_dtype(value))])


def _is_float(value: Any) -> bool:
    if not _are_numbers([value]):
        return False
    try:
        return _is_missing(type(value)) or float(value) is not None
    except OverflowError:
        return False


def _value_dtype(value: Any) -> Any:
    """Return the dtype that the remedy for a value is that of: dates of any library are times."""
    is_date = hasattr(value, "isoformat") or type(value).__module__.partition(".")[0] == "cftime"
    return np.dtype("M8[ns]") if is_date else np.asarray(value).dtype


# Labels


def _label_values(column: Any, role: str) -> np.ndarray:
    """Return the labels in a pandas column, (n,)."""
    dtype, missing = column.dtype, column.isna()
    is_categorical = hasattr(dtype, "categories")
    if number_dtype(dtype) is not None and dtype != object and not (is_categorical and not np.any(missing)):
        return _column_values(column, number_dtype(dtype), role)  # type: ignore[arg-type]
    if getattr(dtype, "kind", "O") in "mMc":
        raise InvalidTypeError(f"{role} has dtype {dtype}; labels are numbers or strings. {remedy(dtype, role)}")
    values = np.asarray(column) if is_categorical else column.to_numpy(dtype=object)
    return values if values.dtype.kind in NUMBERS else _unboxed(_label_objects(values, role))


def _label_objects(block: np.ndarray, role: str) -> np.ndarray:
    """Return labels in an array of objects, numbers as floats."""
    block = block.astype(object)
    kinds = set(map(type, block.ravel()))
    if all(issubclass(kind, str) for kind in kinds):
        return block
    if any(map(_is_missing, kinds)) or any(isinstance(v, float) and np.isnan(v) for v in block.ravel()):
        if not _are_numbers(block.ravel()):
            row = next(i for i, v in enumerate(block.ravel()) if not isinstance(v, str))
            raise InvalidTypeError(f"{role} has no label at position {row}: it is {block.ravel()[row]}. Leave it out.")
    if any(issubclass(kind, str) for kind in kinds):
        raise InvalidTypeError(f"{role} holds numbers and strings; labels are all numbers, or all strings.")
    return _object_column(block, role).astype(object)


def _unboxed(values: np.ndarray) -> np.ndarray:
    """Return objects that are numbers as float64."""
    return values.astype(FLOAT) if values.size and not isinstance(values.ravel()[0], str) else values


# Dask


def _frame_numbers(frame: Any, role: str) -> da.Array:
    """Return the numbers of a Dask frame or Series, partition by partition."""
    meta = frame._meta
    dtype = _common_dtype(meta, role)
    plain = _is_plain(meta) if _has_columns(meta) else isinstance(meta.dtype, np.dtype) and meta.dtype.kind in NUMBERS
    if not plain:
        empty = _relabelled(meta, np.empty(meta.shape, dtype))
        frame = frame.map_partitions(partial(_numeric, dtype=dtype, role=role), meta=empty)
    return gated(frame.to_dask_array(), role)


def _numeric(part: Any, dtype: np.dtype, role: str) -> Any:
    """Return a pandas frame or Series with numbers in the place of what its columns hold."""
    values = _frame_values(part, dtype, role) if _has_columns(part) else _column_values(part, dtype, role)
    return _relabelled(part, values)


def _relabelled(part: Any, values: np.ndarray) -> Any:
    """Return a pandas frame or Series of other values."""
    if _has_columns(part):
        return type(part)(values, index=part.index, columns=part.columns)
    return type(part)(values, index=part.index, name=part.name)


def _frame_labels(frame: Any, role: str) -> da.Array:
    """Return the labels in a Dask Series, or in the only column of a Dask frame."""
    meta = _only_column(frame._meta, role)
    series = frame[frame.columns[0]] if _has_columns(frame) else frame
    dtype = number_dtype(meta.dtype)
    if isinstance(meta.dtype, np.dtype) and meta.dtype.kind in NUMBERS:
        return gated(series.to_dask_array(), role)
    if dtype is not None and meta.dtype != object and not hasattr(meta.dtype, "categories"):
        return _frame_numbers(series, role)
    _label_values(meta, role)  # which refuses dates
    objects = type(meta)(np.empty(len(meta), object), index=meta.index, name=meta.name, dtype=object)
    return series.map_partitions(partial(_boxed, role=role), meta=objects).to_dask_array()


def _boxed(part: Any, role: str) -> Any:
    """Return a pandas Series of labels as objects."""
    return type(part)(_label_values(part, role).astype(object), index=part.index, name=part.name, dtype=object)
