"""The columns of a source, features, targets and weights, from users' arrays; and the checks of these arrays."""

from __future__ import annotations

import logging
import os
from itertools import pairwise
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
import zarr

from ..errors import DataError, InvalidArgumentError, InvalidTypeError
from .coercion import from_arrow, is_lazy_frame, numbers
from .column import Column
from .compressed import is_scipy
from .dask_column import DaskColumn
from .dataset_column import decoded
from .gate import is_sparse
from .metadata import attributes_of, check_metadata
from .plan import PARTITION_BYTES, PARTITIONS
from .sparse_column import SparseColumn, sparse_column
from .sparse_group import SparseGroup, is_sparse_group, shape_of_group, sparse_group
from .zarr_column import ZarrColumn

logger = logging.getLogger("dask_gd")


def as_rows(
    a: Any,
    role: str,
    missing: str = "error",
    lengths: bool = True,
) -> ZarrColumn | DaskColumn | SparseColumn | SparseGroup:
    """Return an array as a column of streamed or materialised rows, its dtype checked.

    Without ``lengths`` the sizes of chunks need not be known.
    """
    # Arrays and data frames of all libraries become arrays of numbers.
    if isinstance(a, xr.DataArray):
        a = decoded(a, role).data
    if holds_sparse(a):
        return _sparse_rows(a, role, missing, lengths)
    if isinstance(a, str | os.PathLike):
        raise InvalidTypeError(f"{role} is a path, {str(a)!r}: open it with dask_gd.open(path, x=..., y=...).")
    if not (isinstance(a, da.Array) or hasattr(a, "__array__") or is_lazy_frame(a)):
        raise InvalidTypeError(
            f"{role} is a {type(a).__name__}; it must be a dask, NumPy, xarray or Zarr array, a data frame, or a "
            "dask_gd.Source; features may be sparse rows of scipy too."
        )
    a = numbers(a, role)
    # Zarr is streamed by the tasks; all else comes to them as blocks.
    if isinstance(a, zarr.Array):
        check_metadata(a, role)
        return ZarrColumn(a, role, missing)
    if isinstance(a, np.ndarray):
        return DaskColumn(_in_blocks(a), role, a)
    if lengths:
        a = sized(a, role)
    return DaskColumn(a, role)


def holds_sparse(a: Any) -> bool:
    """Return whether these are sparse rows: SciPy's, blocks that are declared as sparse, or a group in Zarr."""
    if isinstance(a, da.Array):
        return is_sparse(a._meta)
    return is_scipy(a) or is_sparse_group(a)


def _sparse_rows(a: Any, role: str, missing: str, lengths: bool) -> SparseColumn | SparseGroup:
    """Return sparse rows as a column; only features can be sparse."""
    if role != "x" and not role.startswith("x "):
        raise InvalidTypeError(
            f"{role} is sparse; only features x can be. Make it dense with toarray(), or array.map_blocks(lambda "
            "block: block.toarray())."
        )
    if isinstance(a, zarr.Group):
        return sparse_group(a, role, missing)
    if isinstance(a, da.Array) and lengths:
        a = sized(a, role)
    return sparse_column(a, role)


def _in_blocks(a: np.ndarray) -> da.Array:
    """Return a NumPy array as Dask's, in blocks of the rows of a partition."""
    width = int(np.prod(a.shape[1:]))
    row_bytes = max(1, width * a.dtype.itemsize)
    # In memory there are no chunks to respect; a partition of 1 MiB is still much larger than its task.
    nbytes = min(PARTITION_BYTES, max(1 << 20, a.nbytes // PARTITIONS))
    rows = max(1, nbytes // row_bytes)
    whole = (-1,) * (a.ndim - 1)
    return da.from_array(a, chunks=(rows, *whole), name=False)


def sized(a: da.Array, role: str) -> da.Array:
    """Return a Dask array with its chunk sizes, which are computed if they are unknown."""
    if not any(np.isnan(size) for axis in a.chunks for size in axis):
        return a
    logger.warning(
        "The chunk sizes of %s are unknown, and now computed, which reads it once more. To do so only once "
        "call compute_chunk_sizes() on an array, or to_dask_array(lengths=True) on a data frame.",
        role,
    )
    return a.copy().compute_chunk_sizes()


def check_coordinates(**columns: Any) -> None:
    """Refuse labelled rows that are not the same rows in the same order; they are paired by position."""
    labelled = {}
    for role, a in columns.items():
        if isinstance(a, xr.DataArray) and a.ndim and a.dims[0] in a.coords:
            labelled[role] = a.coords[a.dims[0]]
    # Rows of different numbers are refused elsewhere, with or without labels.
    for (role, rows), (other, other_rows) in pairwise(labelled.items()):
        if rows.shape == other_rows.shape and not _same_labels(rows, other_rows):
            raise InvalidArgumentError(
                f"The rows of {role} and {other} have different labels ({rows.dims[0]!r}, {other_rows.dims[0]!r}); "
                "align them first, for example with xarray.align."
            )


def _same_labels(rows: xr.DataArray, other_rows: xr.DataArray) -> bool:
    """Return whether two coordinates of the same shape have the same values."""
    index = rows.indexes.get(rows.name)
    other_index = other_rows.indexes.get(other_rows.name)
    # Levels of a MultiIndex are compared by their codes; its values would be a tuple for each row.
    if index is not None and other_index is not None and index.equals(other_index):
        return True
    return np.array_equal(rows, other_rows)


def check_shapes(x, y, weight=None, offset=None) -> None:
    """Refuse columns of a wrong number of dimensions, without values, or of different numbers of rows."""
    # Each column by itself.
    if len(x.shape) != 2:
        raise InvalidArgumentError(f"x must be 2-D, (rows, features); it has shape {x.shape}.")
    if len(y.shape) not in (1, 2):
        raise InvalidArgumentError(f"y must have shape (n,) or (n, outputs); it has {y.shape}.")
    if 0 in x.shape or 0 in y.shape:
        raise InvalidArgumentError(f"There is nothing to fit: x has shape {x.shape}, y {y.shape}.")
    for name, column in (("sample_weight", weight), ("offset", offset)):
        if column is not None and len(column.shape) != 1:
            raise InvalidArgumentError(f"{name} must have shape (n,); it has {column.shape}.")
    # All of them beside the features.
    for name, column in (("y", y), ("sample_weight", weight), ("offset", offset)):
        if column is not None and column.shape[0] != x.shape[0]:
            raise InvalidArgumentError(f"x has {x.shape[0]} rows but {name} has {column.shape[0]}; they must agree.")


def check_stored(column: Column | None, missing: str, start: int, stop: int) -> None:
    """Refuse a column, if there is one, for faults that show before a value is read."""
    if column is not None:
        column.check(missing, start, stop)


def feature_names_of(x: Any) -> tuple | None:
    """Return the names along the second axis of a Zarr or xarray array, or of a data frame's columns.

    Return None where there are none.
    """
    x = from_arrow(x)
    names: Any = None
    width = 0
    if len(getattr(x, "shape", ())) == 2:
        width = x.shape[1]
    if isinstance(x, zarr.Group):
        names = x.attrs.get("feature_names")
        _, width = shape_of_group(x)
    elif isinstance(x, zarr.Array):
        names = stored_names(x)
    elif isinstance(x, xr.DataArray):
        if x.ndim == 2 and x.dims[1] in x.coords:
            names = x.coords[x.dims[1]].values.tolist()
    elif len(getattr(x, "shape", ())) == 2:
        names = getattr(x, "columns", None)
    if names is None:
        return None
    # Attributes of a file may be anything.
    if isinstance(names, str) or not np.iterable(names):
        raise DataError(f"The feature names are {names!r:.80}; there must be a list of them, one for each feature.")
    names = tuple(str(name) for name in names)
    # A file's names may belong to another version of the array.
    if len(names) != width:
        raise DataError(f"There are {len(names)} feature names for {width} features.")
    return names


def stored_names(x: zarr.Array) -> Any:
    """Return the names of a Zarr array's columns: its attribute ``feature_names``, or the coordinate beside it.

    xarray writes a coordinate as an array called as the dimension is, in the same group.
    """
    dims = dimension_names(x)
    attributes = attributes_of(x)
    if "feature_names" in attributes or dims is None:
        return attributes.get("feature_names")
    # The coordinate, if there is an array of that name.
    folder = "/".join(x.path.split("/")[:-1])
    path = f"{folder}/{dims[1]}".strip("/")
    try:
        coordinate = zarr.open_array(x.store, path=path, mode="r")
    except (FileNotFoundError, KeyError, TypeError, ValueError, zarr.errors.BaseZarrError):
        return None
    # Text, or plain numbers. Never objects, which may be pickles.
    is_text = coordinate.dtype.kind in "UT"
    is_plain_number = coordinate.dtype.kind in "iu" and not {"units", "scale_factor"} & set(coordinate.attrs)
    if not (is_text or is_plain_number) or coordinate.shape != x.shape[1:]:
        return None
    check_metadata(coordinate, coordinate.path)
    return np.asarray(coordinate[:]).tolist()


def dimension_names(x: zarr.Array) -> tuple[str, str] | None:
    """Return xarray's names of the two dimensions of a Zarr array, or None where it has none."""
    # Zarr format 3 has a place for them, and in format 2 xarray writes them into an attribute.
    names: Any = getattr(x.metadata, "dimension_names", None) or attributes_of(x).get("_ARRAY_DIMENSIONS")
    if len(x.shape) != 2 or not names or len(names) != 2:
        return None
    if not all(isinstance(name, str) and name for name in names):
        return None
    return names[0], names[1]
