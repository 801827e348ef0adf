"""The kinds of columns that hold real numbers, by their dtypes, and the errors about columns that do not."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import zarr

from ..errors import InvalidTypeError

FLOAT = np.dtype(np.float64)
OBJECT = np.dtype(object)
#: NumPy's kinds of real numbers.
NUMBERS = "fiub"
#: Integers up to this size are floats.
LARGEST_INTEGER = 2.0**53
#: Columns that a message names at most.
NAMED = 5
#: The only category of a column of Dask's whose categories are not known yet.
UNKNOWN = "__UNKNOWN_CATEGORIES__"


def number_dtype(dtype: Any) -> np.dtype | None:
    """Return the dtype of the numbers that a column of this dtype holds; None if it holds no numbers.

    NumPy's own dtypes stay as they are. Floats of pandas and Arrow keep their size, and all else that may lack values
    becomes float64. For objects and for unknown categories the values decide; the dtype of these is float64 too.
    """
    if isinstance(dtype, np.dtype):
        if dtype.kind == "O":
            return FLOAT
        if dtype.kind in NUMBERS:
            return dtype
        return None

    # Extension dtypes have a dtype of NumPy's inside.
    inner: Any = getattr(dtype, "numpy_dtype", None)
    if hasattr(dtype, "categories"):
        inner = _categories_dtype(dtype.categories)
    elif hasattr(dtype, "pyarrow_dtype"):
        inner = _arrow_dtype(dtype.pyarrow_dtype, inner)
    elif is_sparse_column(dtype):
        return number_dtype(dtype.subtype)
    if inner is None or inner.kind not in NUMBERS + "O":
        return None
    if inner.kind == "f":
        return inner
    return FLOAT


def product_dtype(dtype: np.dtype) -> np.dtype:
    """Return the dtype in which products of rows are taken: float32 for float32 and float16, else float64."""
    if dtype.kind == "f" and dtype.itemsize <= 4:
        return np.dtype(np.float32)
    return np.dtype(np.float64)


def is_sparse_column(dtype: Any) -> bool:
    """Return whether this is the dtype of pandas' sparse columns."""
    return hasattr(dtype, "subtype") and hasattr(dtype, "fill_value")


def is_plain(dtype: Any) -> bool:
    """Return whether this is a dtype of NumPy's real numbers."""
    return isinstance(dtype, np.dtype) and dtype.kind in NUMBERS


def _categories_dtype(categories: Any) -> np.dtype | None:
    """Return the dtype of categories that are numbers, None if they are no numbers."""
    # Where the categories are not known yet, the values decide.
    if categories is None or len(categories) == 0 or UNKNOWN in categories:
        return OBJECT
    if categories.dtype == OBJECT and not are_numbers(categories):
        return None
    return number_dtype(categories.dtype)


def _arrow_dtype(kind: Any, plain: np.dtype | None) -> np.dtype | None:
    """Return the NumPy dtype for a type of Arrow's: objects for decimals and for columns without any value."""
    # A dictionary holds values of another type.
    if hasattr(kind, "value_type") and hasattr(kind, "index_type"):
        values = kind.value_type
        return _arrow_dtype(values, np.dtype(values.to_pandas_dtype()))
    if str(kind).startswith(("decimal", "null")):
        return OBJECT
    if is_plain(plain):
        return plain
    return None


def are_numbers(values: Iterable[Any]) -> bool:
    """Return whether objects are real numbers or missing. Text that could be read as a number is no number."""
    kinds = set(map(type, values))
    return all(issubclass(kind, Real | Decimal | np.bool_) or is_missing(kind) for kind in kinds)


def is_missing(kind: type) -> bool:
    """Return whether this is the class of None, pandas.NA or NumPy's masked."""
    return kind is type(None) or kind.__name__ in ("NAType", "MaskedConstant")


def not_numbers(role: str, dtype: Any) -> InvalidTypeError:
    """Return the error for a column without a name."""
    return InvalidTypeError(
        f"{role} has dtype {dtype}; only real numbers can be fitted (float, int, uint, bool). {remedy(dtype, role)}"
    )


def columns_not_numbers(role: str, columns: list[tuple[Any, str, Any]]) -> InvalidTypeError:
    """Return the error that names columns, says what they hold, and what to do about each kind of values.

    ``columns`` are names, descriptions and dtypes.
    """
    # The first columns by name, the rest by their number.
    shown = [f"{name!r} ({description})" for name, description, _ in columns[:NAMED]]
    if len(columns) > NAMED:
        shown.append(f"{len(columns) - NAMED} more")
    subject = f"column {shown[0]} holds"
    if len(shown) > 1:
        subject = f"columns {', '.join(shown[:-1])} and {shown[-1]} hold"

    # A remedy for each kind, with the first column of that kind as its example.
    first_of_kind = {}
    for name, _, dtype in reversed(columns):
        first_of_kind[getattr(dtype, "kind", "O")] = (name, dtype)
    remedies = dict.fromkeys(remedy(dtype, role, f"frame[{name!r}]") for name, dtype in first_of_kind.values())
    return InvalidTypeError(
        f"{role}: {subject} no numbers; values of this argument must be real, and strings are not read as numbers. "
        + " ".join(remedies)
    )


def dtype_name(dtype: Any) -> str:
    """Return a dtype's name for messages, with the kind of its categories."""
    categories = getattr(dtype, "categories", None)
    if categories is None:
        return str(dtype)
    return f"{dtype} of {categories.dtype}"


def value_dtype(value: Any) -> np.dtype:
    """Return the dtype whose remedy serves an object: dates of any library are times."""
    package, _, _ = type(value).__module__.partition(".")
    if hasattr(value, "isoformat") or package == "cftime":
        return np.dtype("M8[ns]")
    return np.asarray(value).dtype


def remedy(dtype: Any, role: str = "", this: str = "column") -> str:
    """Return what to do about values that are no numbers; ``this`` is their name in the code of the example."""
    kind = getattr(dtype, "kind", "O")
    if kind == "M":
        return f"Make a number of time first: ({this} - np.datetime64('2000-01-01')) / np.timedelta64(1, 'D')."
    if kind == "m":
        return f"Divide by a unit first: {this} / np.timedelta64(1, 'D')."
    if kind == "c":
        return "Give real and imaginary parts as columns of their own."
    if role in ("y", "target"):
        return "Labels of classes are for the classifiers of dask_gd.estimators; dask_gd.fit takes the classes' codes."
    return (
        "Fits take strings and categories as levels in the columns of a data frame. Encode them as numbers elsewhere, "
        "by OneHotEncoder, OrdinalEncoder or TargetEncoder of dask_gd.preprocessing. Text of numbers becomes numbers "
        f"with {this}.astype(float); Dask makes text of objects unless its setting dataframe.convert-string is False."
    )


def variable_remedy(name: Any, dtype: Any, is_date: bool = False) -> str:
    """Return what to do about a Dataset's variable that holds no numbers; dates may be objects, such as cftime's."""
    # Dates of a calendar other than NumPy's have differences among themselves only.
    if is_date or dtype.kind == "M":
        since = "np.datetime64('2000-01-01')"
        if is_date:
            since = f"dataset[{name!r}][0]"
        return (
            f"make a number of time first, for example dataset.assign(days=(dataset[{name!r}] - "
            f"{since}) / np.timedelta64(1, 'D')), or name a part of it, such as '{name}.dayofyear'."
        )
    if dtype.kind == "m":
        return f"divide it by a unit first, for example dataset[{name!r}] / np.timedelta64(1, 'D')."
    return "only real numbers can be fitted (float, int, uint, bool). Encode categories and times as numbers first."


def group_remedy(group: zarr.Group, name: str) -> str:
    """Return what to do about a group in the place of an array, by the conventions of anndata and of others."""
    members = {key for key, _ in group.members()}

    # Sparse matrices and categorical columns are groups of arrays with known names.
    if {"data", "indices", "indptr"} <= members:
        form = str(group.attrs.get("encoding-type", "csr_matrix or csc_matrix"))
        if form != "csr_matrix":
            return (
                f"a sparse matrix ({form}: data, indices, indptr). dask_gd reads rows, a group whose encoding-type is "
                "csr_matrix: write matrix.tocsr() with dask_gd.write_sparse."
            )
        return "sparse rows, which only features x can be, by themselves."
    if {"codes", "categories"} <= members:
        return f"a categorical column; its numbers are x='{name}/codes', with -1 where a value is missing."
    if {"values", "mask"} <= members:
        return (
            "a column that may lack values, and its mask says where. Write it as one array of floats, with NaN where a "
            "value is missing."
        )
    columns = ", ".join(sorted(members)) or "nothing"
    return f"it holds {columns}. Name one of its arrays: '{name}/...'."
