"""Arrays as scikit-learn's callers give them: whether they are lazy, and functions to calculate with them."""

from __future__ import annotations

from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr
import zarr

from ..cluster import compute
from ..errors import InvalidTypeError
from .coded_table import CodedTable
from .coercion import is_lazy_frame, labels, numbers
from .column import Column
from .columns import as_rows, check_shapes, check_stored, dimension_names, feature_names_of
from .dataset_column import decoded
from .kinds import is_plain
from .source import Source
from .sparse_group import is_sparse_group
from .zarr_column import ZarrColumn

LAZY = (Source, da.Array, zarr.Array, xr.DataArray)


def is_lazy(*arrays: Any) -> bool:
    """Return whether an array is lazy, so that scikit-learn's checks would load it.

    Raises
    ------
    InvalidTypeError
        For a Dataset, a Source of a Dataset, and Dask collections that are no arrays or data frames.
    """
    for a in arrays:
        # Variables are no columns of an array.
        if isinstance(a, xr.Dataset) or (isinstance(a, Source) and a.sample_dims is not None):
            if isinstance(a, Source):
                kind = "Source of a Dataset"
            else:
                kind = "Dataset"
            raise InvalidTypeError(
                f"A {kind} was given; estimators take 2-D "
                "arrays (NumPy, pandas, Dask, Zarr, DataArray), or a Source of some. Use dask_gd.fit(dataset, "
                "features=..., target=..., sample_dims=...), or make a 2-D DataArray of the dataset."
            )
        # A Bag, or a Delayed, has no shape.
        if dask.is_dask_collection(a) and not isinstance(a, LAZY) and not is_lazy_frame(a):
            raise InvalidTypeError(
                f"A lazy {type(a).__name__} was given; give arrays, such as frame.to_dask_array(lengths=True)."
            )
    return any(isinstance(a, LAZY) or is_lazy_frame(a) or is_sparse_group(a) or _has_lazy_codes(a) for a in arrays)


def _has_lazy_codes(a: Any) -> bool:
    """Return whether this is a table of codes that are not computed yet."""
    return isinstance(a, CodedTable) and a.is_lazy


def opened(a: Any, role: str = "rows") -> Any:
    """Return an array that can be indexed by rows.

    It is a Dask array for Zarr, whose chunks must be there, and for lazy DataArrays.
    """
    if isinstance(a, xr.DataArray):
        return decoded(a, role).data
    if isinstance(a, zarr.Array):
        stored = ZarrColumn(a, role)
        check_stored(stored, "error", 0, a.shape[0])
        # Numbers are read as a fit reads them, and text by zarr.
        if is_plain(a.dtype):
            return stored.lazy
        return _text(stored)
    return a


def _text(stored: ZarrColumn) -> da.Array:
    """Return a Zarr array of strings as Dask's. Whoever reads a block looks first whether its chunks are there."""
    stored.check_sendable()
    whole = (-1,) * (len(stored.shape) - 1)
    chunks = da.core.normalize_chunks((stored.read_rows, *whole), stored.shape)
    meta = np.empty((0,) * len(stored.shape), stored.dtype)
    return da.map_blocks(_read_text, stored=stored, chunks=chunks, dtype=stored.dtype, meta=meta)


def _read_text(stored: ZarrColumn, block_info: Any) -> np.ndarray:
    start, stop = block_info[None]["array-location"][0]
    stored.check_chunks(start, stop)
    return np.asarray(stored.array[start:stop])


def named(a: Any, role: str = "rows") -> Any:
    """Return a Zarr array that names its features as a lazy DataArray, which keeps the names.

    Anything else is returned as it is.
    """
    # DataArrays and data frames have their names already.
    names = None
    if isinstance(a, zarr.Array):
        names = feature_names_of(a)
    if names is None:
        return a
    dims = dimension_names(a) or ("row", "feature")
    coords = {dims[1]: list(names)}
    return xr.DataArray(opened(a, role), dims=dims, coords=coords)


def rows(a: Any, role: str = "rows") -> Any:
    """Return numbers to calculate with: a Dask array for lazy data, else a NumPy array."""
    return numbers(opened(a, role), role)


def label_rows(a: Any, role: str = "y") -> Any:
    """Return labels of rows: a Dask array for lazy data, else a NumPy array."""
    return labels(opened(a, role), role)


def in_dask(a: Any) -> da.Array:
    """Return an array as Dask's. An array in memory, of any dtype, is one block."""
    if isinstance(a, da.Array):
        return a
    return da.from_array(a, chunks=-1)


def dask_rows(a: Any, role: str = "rows") -> da.Array:
    """Return numbers as a Dask array."""
    return in_dask(rows(a, role))


def unique(values: Any) -> np.ndarray:
    """Return the distinct labels, sorted; those of lazy data by a reduction over its blocks."""
    if isinstance(values, da.Array):
        parts = [dask.delayed(np.unique)(block) for block in values.to_delayed().ravel()]
        values = np.concatenate(compute(*parts, what="the distinct labels"))
    labels = np.unique(values)
    # Objects that are numbers get a dtype of numbers, in which labels can be compared.
    if labels.dtype == object and not any(isinstance(label, str) for label in labels):
        return np.array(labels.tolist())
    return labels


def column(source: Source, role: str) -> Any:
    """Return the column of a source with this role, such as "x" or "weight", as `rows`; None if there is none."""
    column_of_source = source.by_role.get(role)
    if column_of_source is None:
        return None
    # The NumPy array itself, where the source has all of its rows.
    memory = column_of_source.memory
    if memory is not None and len(memory) == source.shape[0]:
        return memory
    return column_of_source.lazy_rows(source.bounds[0], source.bounds[-1])


def in_partitions(source: Source, values: Any, role: str) -> Column:
    """Return a column in the source's partitions, from values of the source's rows or of all rows of its arrays."""
    rows = as_rows(values, role)
    first = source.bounds[0]
    if rows.shape[0] != source.shape[0]:
        check_shapes(source.x, source.y, **{"weight": rows})
    elif first > 0:
        # They are counted from the source's first row, and paired with it block by block.
        in_blocks = as_rows(dask_rows(values, role), role)
        return in_blocks.aligned(tuple(bound - first for bound in source.bounds))
    return rows.aligned(source.bounds)
