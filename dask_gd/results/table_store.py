"""Write columns of a data frame to Zarr, codes in place of levels: `write_table`."""

from __future__ import annotations

import os
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from ..errors import InvalidArgumentError, InvalidTypeError
from ..sources.categories import Categories, as_categories
from ..sources.census import encoding_of_frame
from ..sources.coding import FrameCoder
from ..sources.coercion import is_lazy_frame
from ..sources.encoding import Encoding, FactorColumn, Level, NumberColumn, level_name
from ..sources.frame_source import coded
from ..sources.frames import features_named, frame_of, frame_of_parquet
from .beside import check_place
from .places import place_of
from .prediction import write_data

#: The dimension of the rows.
ROWS = "row"
#: The dtypes of codes, the narrowest first; all of them hold -1.
CODES = (np.int8, np.int16, np.int32, np.int64)


def write_table(
    frame: Any,
    path: str | os.PathLike,
    *,
    columns: Any = None,
    categorical: Any = None,
    overwrite: bool = False,
    storage_options: dict[str, Any] | None = None,
) -> str:
    """Write columns of a data frame to a Zarr group, complete or not at all: numbers, and codes in place of levels.

    Parameters
    ----------
    frame : data frame or path
        Of pandas, Dask, pyarrow or polars, or the path of Parquet files. Of Dask's and of files a partition is read at
        a time, twice: for the levels, and for the codes.
    path : path or URL
        Where the group is to be, as for `write`.
    columns : names, optional
        All by default. "origin:destination" is an interaction, see `fit`.
    categorical : names or Categories, optional
        Columns of numbers that are factors too, and what becomes of rare and missing levels; see `Categories`.
    overwrite : bool
        Replace the Zarr that is there, as `write` does.
    storage_options : dict, optional
        For a URL, as fsspec takes them.

    Returns
    -------
    str
        The absolute path, or the URL.

    Raises
    ------
    InvalidArgumentError, InvalidTypeError
        A column that is not there, or holds neither numbers nor levels; a place that is taken.
    DataError
        Naming a column with a single level, or with strings and numbers.

    Notes
    -----
    The group has an array (n,) for each column, in chunks of the largest partition: numbers in float64, codes in the
    narrowest dtype of whole numbers, -1 where a value is missing, with the levels as their attribute ``levels``.
    ``dask_gd.open(path, x=[...], y=...)`` and ``xarray.open_zarr`` read it.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> flights = pd.DataFrame({"origin": ["ATL", "BOS", "ATL", "JFK"] * 5, "delay": [1.0, 4.0, 1.0, 2.0] * 5})
    >>> path = dask_gd.write_table(flights, f"{tempfile.mkdtemp()}/flights.zarr")
    >>> run = dask_gd.fit(dask_gd.open(path, x=["origin"], y="delay"))
    >>> run.weights.round(6).values.tolist(), run.weights.feature.values.tolist()
    ([3.0, 1.0], ['origin=BOS', 'origin=JFK'])
    """
    found = frame_of_parquet(frame)
    if found is None:
        found = frame_of(frame)
    if found is None:
        raise InvalidTypeError(
            f"write_table(frame): a {type(frame).__name__}; give a data frame of pandas, Dask, pyarrow or polars, or "
            "the path of Parquet files."
        )
    # Before the rows are read, which takes long.
    target = place_of(path, "write_table", storage_options)
    if not isinstance(target, str):
        check_place(target, overwrite, "write_table")
    options = as_categories(categorical)
    check_options(options)
    if columns is None:
        columns = [str(label) for label in found.columns]
    labels = features_named(found, columns, "columns")

    # The levels of all rows, and then the codes.
    encoding, rows = encoding_of_frame(found, labels, options)
    if encoding is None:
        encoding = Encoding(tuple(NumberColumn(str(label)) for label in labels))
    coder = FrameCoder(encoding, tuple(labels))
    values: Any
    if is_lazy_frame(found):
        values = coded(found, coder, rows)
    else:
        values = coder(found)
    return write_data(
        dataset_of_codes(values, encoding),
        target,
        caller="write_table",
        overwrite=overwrite,
        storage_options=storage_options,
    )


def check_options(options: Categories) -> None:
    """Refuse options that say what a fit or a prediction does, and not what is written."""
    plain = Categories()
    for name in ("handle_unknown", "drop"):
        if getattr(options, name) != getattr(plain, name):
            raise InvalidArgumentError(
                f"write_table(categorical=Categories({name}=...)): that is for a fit; give dask_gd.open(..., drop=...)."
            )


def dataset_of_codes(values: np.ndarray | da.Array, encoding: Encoding) -> xr.Dataset:
    """Return a Dataset with a variable for each column of an array (n, columns) of numbers and codes."""
    variables = {}
    for i, column in enumerate(encoding.columns):
        array: Any = values[:, i]
        attributes: dict[str, Any] = {}
        if isinstance(column, FactorColumn):
            dtype = dtype_of_codes(len(column.levels))
            if isinstance(array, da.Array):
                array = array.map_blocks(whole_codes, codes=dtype, dtype=dtype, meta=np.empty(0, dtype))  # type: ignore
            else:
                array = whole_codes(array, codes=dtype)
            attributes["levels"] = [named(level) for level in column.levels]
        variables[column.name] = xr.Variable((ROWS,), array, attributes)
    return xr.Dataset(variables)


def named(level: Level) -> str | int | float | bool:
    """Return a level as an attribute holds it: a missing value that counts as one by its name."""
    if level is None:
        return level_name(level)
    return level


def dtype_of_codes(levels: int) -> np.dtype:
    """Return the narrowest dtype that holds the codes of so many levels, and -1."""
    return next(np.dtype(dtype) for dtype in CODES if levels - 1 <= np.iinfo(dtype).max)


def whole_codes(values: np.ndarray, codes: np.dtype) -> np.ndarray:
    """Return codes as whole numbers of this dtype, -1 where they are NaN."""
    return np.where(np.isnan(values), -1, values).astype(codes)
