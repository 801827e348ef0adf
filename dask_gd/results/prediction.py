"""Write predictions to disk: `write`, whose Zarr array or Dataset exists only once it is complete.

The guarantees, and what keeps them:

- The result appears whole or not at all. A path is written beside its place and renamed; at a URL, where nothing can
  be renamed, the root's metadata comes last. Leftovers of a killed writer do not stand in the way of the next.
- No chunk is lost without a word. Paths are absolute before they leave the client; a worker that does not see the place
  says so; and every chunk is counted, as the client sees it, before the result appears.
- No two tasks write to the same chunk: blocks are brought to the chunks of the result first.
"""

from __future__ import annotations

import os
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr

from ..errors import InvalidArgumentError, InvalidTypeError
from .chunks import NAME, fill
from .places import new_store, place_of


def write(
    prediction: Any, path: str | os.PathLike, *, overwrite: bool = False, storage_options: dict[str, Any] | None = None
) -> str:
    """Write a prediction to Zarr, complete or not at all, a block at a time.

    Parameters
    ----------
    prediction : array, xarray.DataArray or xarray.Dataset
        The value of `FitResult.predict`: NumPy or Dask, in chunks of any size. Unknown sizes are computed first, in a
        pass of their own. A DataArray becomes the variable of a Dataset, by its name or as "prediction", with its
        coordinates and attributes.
    path : path or URL
        Where the array or the group of the Dataset is to be. On a cluster all workers must see it.
    overwrite : bool
        Replace the Zarr that is there. Nothing else is replaced, nothing at a URL, and nothing that the prediction is
        read from.
    storage_options : dict, optional
        For a URL, as fsspec takes them.

    Returns
    -------
    str
        The absolute path, or the URL.

    Raises
    ------
    InvalidArgumentError, InvalidTypeError
        Before anything is computed: a place that is taken, or a prediction that Zarr cannot hold.
    DataError
        Of a block that is not as it was declared.
    ClusterError
        A worker that does not see the place, cannot write there, or whose chunks this client does not see.

    Notes
    -----
    Chunks have the size of the largest block along each dimension, and checksums (crc32c). Metadata is consolidated. A
    chunk that holds nothing but the fill value is written like any other, so that an absent one is an error.

    Examples
    --------
    >>> import tempfile
    >>> import zarr
    >>> x = da.from_array(np.array([[0.0], [1.0], [2.0]]), chunks=(2, 1))
    >>> run = dask_gd.fit(x, np.array([1.0, 3.0, 5.0]))
    >>> path = dask_gd.write(run.predict(x), f"{tempfile.mkdtemp()}/prediction.zarr")
    >>> zarr.open_array(path, mode="r")[:].round(6).tolist()
    [1.0, 3.0, 5.0]
    """
    data = as_data(prediction)
    target = place_of(path, "write", storage_options)
    return write_data(
        data,
        target,
        caller="write",
        overwrite=overwrite,
        storage_options=storage_options,
    )


def write_data(
    data: np.ndarray | da.Array | xr.Dataset,
    target: Path | str,
    caller: str,
    overwrite: bool,
    storage_options: dict[str, Any] | None,
) -> str:
    """Write an array or a Dataset to a place of `place_of`, and return this; ``caller`` is the function called."""
    with new_store(target, caller, overwrite, storage_options, [data]) as store:
        fill(data, store.chunks, store.metadata, store.where)
    return str(target)


def as_data(prediction: Any) -> np.ndarray | da.Array | xr.Dataset:
    """Return the array to write, or the Dataset of a DataArray; refuse anything that Zarr cannot hold."""
    # Arrays are written without a name.
    if isinstance(prediction, np.ma.MaskedArray):
        floating = np.result_type(prediction, np.float32)
        return np.ma.filled(prediction.astype(floating), np.nan)
    if isinstance(prediction, np.ndarray | da.Array):
        return prediction
    # A DataArray is the only variable of a Dataset.
    if isinstance(prediction, xr.DataArray):
        # Without a name, xarray takes that of the Dask array, which is a hash.
        unnamed = prediction.name is None or prediction.name == getattr(prediction.data, "name", None)
        if unnamed:
            name: Hashable = NAME
        else:
            name = prediction.name
        if name in prediction.coords:
            raise InvalidArgumentError(f"write: {name!r} is the name of the DataArray and of a coordinate; rename one.")
        prediction = prediction.to_dataset(name=name)
    if not isinstance(prediction, xr.Dataset):
        raise InvalidTypeError(
            f"write(prediction=...): a {type(prediction).__name__}; give what predict gives, a NumPy or Dask array, a "
            "DataArray or a Dataset."
        )
    # Names and indexes that Zarr cannot hold.
    for name in (*prediction.variables, *prediction.dims):
        if not isinstance(name, str):
            raise InvalidArgumentError(f"write: {name!r} is no name for Zarr; rename it to a str.")
    for name, index in prediction.indexes.items():
        if isinstance(index, pd.MultiIndex):
            raise InvalidArgumentError(
                f"write: {name!r} is a level of a MultiIndex, which Zarr cannot hold; write prediction.unstack(), or "
                "prediction.reset_index(...) to keep its levels as coordinates."
            )
    return prediction
