"""The columns of a source, features, targets and weights, from what users give; and what is refused of them."""

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
from .dask_column import DaskColumn
from .dataset_column import decoded
from .metadata import attributes_of, check_metadata
from .plan import PARTITION_BYTES, PARTITIONS
from .zarr_column import ZarrColumn

logger = logging.getLogger("dask_gd")


def as_rows(a: Any, role: str, missing: str = "error", lengths: bool = True) -> ZarrColumn | DaskColumn:
    """One column as streamed or materialised rows, its dtype checked; without ``lengths`` they need not be known."""
    if isinstance(a, xr.DataArray):
        a = decoded(a, role).data
    if isinstance(a, str | os.PathLike):
        raise InvalidTypeError(f"{role} is a path, {str(a)!r}: open it with dask_gd.open(path, x=..., y=...).")
    if not (isinstance(a, da.Array) or hasattr(a, "__array__") or is_lazy_frame(a)):
        raise InvalidTypeError(
            f"{role} is a {type(a).__name__}; it must be a dask, NumPy, xarray or Zarr array, a data frame, or a "
            "dask_gd.Source."
        )
    a = numbers(a, role)
    if isinstance(a, zarr.Array):
        check_metadata(a, role)
        return ZarrColumn(a, role, missing)
    if isinstance(a, np.ndarray):
        row_bytes = max(1, int(np.prod(a.shape[1:])) * a.dtype.itemsize)
        # In memory there are no chunks to respect; a partition of 1 MiB is still much larger than its task.
        size = max(1, min(PARTITION_BYTES, max(1 << 20, a.nbytes // PARTITIONS)) // row_bytes)
        chunks = (size, *(-1,) * (a.ndim - 1))
        return DaskColumn(da.from_array(a, chunks=chunks, name=False), role, a)
    return DaskColumn(sized(a, role) if lengths else a, role)


def sized(a: da.Array, role: str) -> da.Array:
    """With its chunk sizes, which are computed if they are unknown."""
    if not any(np.isnan(size) for axis in a.chunks for size in axis):
        return a
    logger.warning(
        "The chunk sizes of %s are unknown, and now computed, which reads it once more. To do so only once "
        "call compute_chunk_sizes() on an array, or to_dask_array(lengths=True) on a data frame.",
        role,
    )
    return a.copy().compute_chunk_sizes()


def check_coordinates(**columns: Any) -> None:
    """Labelled rows must be the same rows in the same order; they are paired by position."""
    labelled = {
        role: a.coords[a.dims[0]]
        for role, a in columns.items()
        if isinstance(a, xr.DataArray) and a.ndim and a.dims[0] in a.coords
    }
    for (role, rows), (other, own) in pairwise(labelled.items()):
        if rows.shape == own.shape and not np.array_equal(rows, own):
            raise InvalidArgumentError(
                f"The rows of {role} and {other} have different labels ({rows.dims[0]!r}, {own.dims[0]!r}); "
                "align them first, for example with xarray.align."
            )


def check_shapes(x, y, weight=None, offset=None) -> None:
    if len(x.shape) != 2:
        raise InvalidArgumentError(f"x must be 2-D, (rows, features); it has shape {x.shape}.")
    if len(y.shape) not in (1, 2):
        raise InvalidArgumentError(f"y must have shape (n,) or (n, outputs); it has {y.shape}.")
    if 0 in x.shape or 0 in y.shape:
        raise InvalidArgumentError(f"There is nothing to fit: x has shape {x.shape}, y {y.shape}.")
    for name, column in (("sample_weight", weight), ("offset", offset)):
        if column is not None and len(column.shape) != 1:
            raise InvalidArgumentError(f"{name} must have shape (n,); it has {column.shape}.")
    for name, column in (("y", y), ("sample_weight", weight), ("offset", offset)):
        if column is not None and column.shape[0] != x.shape[0]:
            raise InvalidArgumentError(f"x has {x.shape[0]} rows but {name} has {column.shape[0]}; they must agree.")


def check_stored(column: Column | None, missing: str, start: int, stop: int) -> None:
    """Refuse what can be known to be wrong with a column, if there is one, before a value is read."""
    if column is not None:
        column.check(missing, start, stop)


def feature_names_of(x: Any) -> tuple | None:
    """Names along the second axis: of a Zarr or xarray array, or a data frame's columns."""
    x = from_arrow(x)
    if isinstance(x, zarr.Array):
        names: Any = stored_names(x)
    elif isinstance(x, xr.DataArray):
        names = None
        if x.ndim == 2 and x.dims[1] in x.coords:
            names = x.coords[x.dims[1]].values.tolist()
    else:
        names = None
        if len(getattr(x, "shape", ())) == 2:
            names = getattr(x, "columns", None)
    if names is None:
        return None
    if isinstance(names, str) or not np.iterable(names):
        raise DataError(f"The feature names are {names!r:.80}; there must be a list of them, one for each feature.")
    names = tuple(str(name) for name in names)
    width = 0
    if len(x.shape) == 2:
        width = x.shape[1]
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
    folder = "/".join(x.path.split("/")[:-1])
    try:
        found = zarr.open_array(x.store, path=f"{folder}/{dims[1]}".strip("/"), mode="r")
    except (FileNotFoundError, KeyError, TypeError, ValueError, zarr.errors.BaseZarrError):
        return None
    # Text, or plain numbers. Never objects, which may be pickles.
    plain = found.dtype.kind in "UT" or (found.dtype.kind in "iu" and not {"units", "scale_factor"} & set(found.attrs))
    if not plain or found.shape != x.shape[1:]:
        return None
    check_metadata(found, found.path)
    return np.asarray(found[:]).tolist()


def dimension_names(x: zarr.Array) -> tuple[str, str] | None:
    """Return what xarray calls the two dimensions of a Zarr array, None if it does not."""
    names: Any = getattr(x.metadata, "dimension_names", None) or attributes_of(x).get("_ARRAY_DIMENSIONS")
    if len(x.shape) != 2 or not names or len(names) != 2 or not all(isinstance(name, str) and name for name in names):
        return None
    return names[0], names[1]
