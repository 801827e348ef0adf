"""Arrays as scikit-learn's callers give them: which are lazy, and how to calculate with them."""

from __future__ import annotations

from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr
import zarr

from ..cluster import compute
from ..errors import InvalidTypeError
from .coercion import is_lazy_frame, labels, numbers
from .columns import check_stored, dimension_names, feature_names_of
from .dataset_column import decoded
from .kinds import is_plain
from .source import Source
from .zarr_column import ZarrColumn

LAZY = (Source, da.Array, zarr.Array, xr.DataArray)


def is_lazy(*arrays: Any) -> bool:
    """One of them must not be looked at: scikit-learn's checks would load it."""
    for a in arrays:
        if isinstance(a, xr.Dataset) or (isinstance(a, Source) and a.sample_dims is not None):
            raise InvalidTypeError(
                f"A {'Source of a Dataset' if isinstance(a, Source) else 'Dataset'} was given; estimators take 2-D "
                "arrays (NumPy, pandas, Dask, Zarr, DataArray), or a Source of some. Use dask_gd.fit(dataset, "
                "features=..., target=..., sample_dims=...), or make a 2-D DataArray of the dataset."
            )
        if dask.is_dask_collection(a) and not isinstance(a, LAZY) and not is_lazy_frame(a):
            raise InvalidTypeError(
                f"A lazy {type(a).__name__} was given; give arrays, such as frame.to_dask_array(lengths=True)."
            )
    return any(isinstance(a, LAZY) or is_lazy_frame(a) for a in arrays)


def opened(a: Any, role: str = "rows") -> Any:
    """Return what can be indexed by rows: Dask for Zarr, whose chunks must be there, and for lazy DataArrays."""
    if isinstance(a, xr.DataArray):
        return decoded(a, role).data
    if isinstance(a, zarr.Array):
        stored = ZarrColumn(a, role)
        check_stored(stored, "error", 0, a.shape[0])
        if is_plain(a.dtype):
            return stored.lazy
        return _text(stored)
    return a


def _text(stored: ZarrColumn) -> da.Array:
    """Return a Zarr array of strings as Dask's. Whoever reads a block looks first whether its chunks are there."""
    stored.check_sendable()
    chunks = da.core.normalize_chunks((stored.read_rows, *(-1,) * (len(stored.shape) - 1)), stored.shape)
    meta = np.empty((0,) * len(stored.shape), stored.dtype)
    return da.map_blocks(_read_text, stored=stored, chunks=chunks, dtype=stored.dtype, meta=meta)


def _read_text(stored: ZarrColumn, block_info: Any) -> np.ndarray:
    start, stop = block_info[None]["array-location"][0]
    stored.check_chunks(start, stop)
    return np.asarray(stored.array[start:stop])


def named(a: Any, role: str = "rows") -> Any:
    """Return a Zarr array that names its features as a lazy DataArray, which keeps the names; all else as it is."""
    names = None
    if isinstance(a, zarr.Array):
        names = feature_names_of(a)
    if names is None:
        return a
    dims = dimension_names(a) or ("row", "feature")
    return xr.DataArray(opened(a, role), dims=dims, coords={dims[1]: list(names)})


def rows(a: Any, role: str = "rows") -> Any:
    """Return numbers to calculate with: Dask for what is lazy, else NumPy."""
    return numbers(opened(a, role), role)


def label_rows(a: Any, role: str = "y") -> Any:
    """Return labels of rows: Dask for what is lazy, else NumPy."""
    return labels(opened(a, role), role)


def in_dask(a: Any) -> da.Array:
    """Return an array as Dask's. What is in memory, of any dtype, is one block."""
    if isinstance(a, da.Array):
        return a
    return da.from_array(a, chunks=-1)


def dask_rows(a: Any, role: str = "rows") -> da.Array:
    """Return numbers as a Dask array."""
    return in_dask(rows(a, role))


def unique(values: Any) -> np.ndarray:
    """Return the distinct labels, sorted; of lazy ones by a reduction over their blocks."""
    if isinstance(values, da.Array):
        parts = [dask.delayed(np.unique)(block) for block in values.to_delayed().ravel()]
        values = np.concatenate(compute(*parts, what="the distinct labels"))
    found = np.unique(values)
    if found.dtype == object and not any(isinstance(label, str) for label in found):
        return np.array(found.tolist())
    return found


def column(source: Source, role: str) -> Any:
    """Return one of a source's columns, "x", "y", "weight" or "offset", as `rows`; None if it has none."""
    found = source.by_role.get(role)
    if found is None:
        return None
    if found.memory is not None and len(found.memory) == source.shape[0]:
        return found.memory
    return found.lazy_rows(source.bounds[0], source.bounds[-1])
