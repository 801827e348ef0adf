"""Variables of a Dataset as users name them: looked up, checked, decoded, and cut into the chunks of a grid."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Sequence
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from ..errors import InvalidArgumentError, InvalidTypeError
from .coercion import numbers
from .gate import gated
from .kinds import OBJECT, is_plain, value_dtype, variable_remedy
from .metadata import check_variable
from .packing import Packing, packing_of, without_packing

logger = logging.getLogger("dask_gd")


def names_in(argument: str, value: Any) -> tuple:
    """Return the names in an argument that takes a single name or several names."""
    if value is None:
        raise InvalidArgumentError(
            f"fit(dataset, ...) needs {argument}: the name, or names, of variables or coordinates of the dataset."
        )
    # A string is a name, and not the names of its letters.
    if np.iterable(value) and not isinstance(value, str):
        names = tuple(value)
    else:
        names = (value,)
    # Each name once, so that every feature has a coefficient of its own.
    if not names:
        raise InvalidArgumentError(f"{argument}={value!r}: name at least one variable.")
    if other := [name for name in names if not isinstance(name, str)]:
        raise InvalidTypeError(f"{argument}: {other[0]!r} is no name; names are strings.")
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise InvalidArgumentError(f"{argument} names {twice[0]!r} twice.")
    return names


def dims_in(dataset: xr.Dataset, sample_dims: Any) -> tuple[str, ...]:
    """Return the sample dimensions of an argument, which the dataset must have."""
    have = ", ".join(map(repr, dataset.sizes)) or "none"
    if sample_dims is None:
        raise InvalidArgumentError(
            "fit(dataset, ...) needs sample_dims: the dimensions whose points are the rows, in the rows' order. "
            f"The dataset has {have}."
        )
    if isinstance(sample_dims, str):
        dims = (sample_dims,)
    else:
        dims = tuple(sample_dims)
    # Their points in this order are the rows.
    if not dims or len(set(dims)) < len(dims):
        raise InvalidArgumentError(f"sample_dims={sample_dims!r}: name at least one dimension, and each of them once.")
    for d in dims:
        if d not in dataset.sizes:
            raise InvalidArgumentError(f"sample_dims: the dataset has no dimension {d!r}; it has {have}.")
    return dims


def refuse_output_dim(dims: tuple[Hashable, ...]) -> None:
    """Refuse a dimension with the name of the dimension of several outputs."""
    if "output" in dims:
        raise InvalidArgumentError(
            "The dataset has a dimension 'output', as the predictions of several outputs have; "
            "rename the dataset's: dataset.rename(output='...')."
        )


def variable(
    dataset: xr.Dataset,
    argument: str,
    name: Hashable,
    dims: tuple[str, ...] | None = None,
) -> xr.Variable:
    """Return a variable or coordinate with real numbers over sample dimensions, chunked or in memory."""
    try:
        column = dataset[name].variable
    except (KeyError, TypeError, AttributeError) as error:
        have = ", ".join(map(repr, dataset.variables)) or "none"
        raise InvalidArgumentError(f"{argument}: the dataset has no variable {name!r}; it has {have}.") from error
    return checked(column, argument, name, dims)


def checked(
    column: xr.Variable,
    argument: str,
    name: Hashable,
    dims: tuple[str, ...] | None,
) -> xr.Variable:
    """Return a variable as real numbers, chunked or in memory; refuse other dimensions than these."""
    if not is_plain(column.dtype):
        column = _as_numbers(column, argument, name)
    if dims is not None and (other := [d for d in column.dims if d not in dims]):
        raise InvalidArgumentError(
            f"{argument}: {name!r} has the dimension {other[0]!r}, which is not among sample_dims={dims!r}. "
            f"Add it there, select one point with dataset.isel({other[0]}=0), or make variables of its points."
        )
    # Blocks that are read later are checked when they are there.
    column = chunked(column)
    data: Any = column.data
    if isinstance(data, da.Array):
        data = gated(data, str(name))
    else:
        data = np.asarray(data)
    return xr.Variable(column.dims, data, column.attrs, column.encoding)


def _as_numbers(column: xr.Variable, argument: str, name: Hashable) -> xr.Variable:
    """Return a variable of objects, or of pandas' own kinds, as numbers; missing values are NaN."""
    data = chunked(column).data
    if not isinstance(data, da.Array):
        data = np.asarray(data)
    # Dates may be objects, which show it in memory only.
    first = None
    if not isinstance(data, da.Array) and data.size:
        first = data.ravel()[0]
    is_date = data.dtype == OBJECT and value_dtype(first).kind == "M"
    if is_date:
        fault = f"holds dates ({type(first).__name__})"
    else:
        fault = f"has dtype {column.dtype}"
    if is_date or not (data.dtype == OBJECT or is_plain(data.dtype)):
        raise InvalidTypeError(f"{argument}: {name!r} {fault}; {variable_remedy(name, column.dtype, is_date)}")
    values = numbers(data, f"{argument}: {name!r}")
    return xr.Variable(column.dims, values, column.attrs, column.encoding)


def chunked(column: xr.Variable) -> xr.Variable:
    """Return the variable in chunks, if it was opened without Dask: it is not to be read whole."""
    if column.chunks is not None or column._in_memory:
        return column
    check_variable(column, column.dims)
    # The file's chunks, but for those along dimensions that have been selected away.
    preferred = column.encoding.get("preferred_chunks") or {}
    chunks = {d: size for d, size in preferred.items() if d in column.dims}
    return column.chunk(chunks or "auto")


def variable_packing(name: Hashable, column: xr.Variable) -> Packing | None:
    """Return the packing that a variable's attributes describe.

    Arithmetic keeps attributes and drops the file's encoding, so that floats may have been decoded by hand.
    """
    packing = packing_of(name, column.attrs, column.dtype)
    if packing is not None and packing.scales and column.dtype.kind == "f" and not column.encoding:
        logger.warning(
            "Variable %r holds %s and is decoded by its attributes scale_factor and add_offset. Arithmetic keeps "
            "attributes: if it has been decoded already, drop them with drop_attrs(), or let xarray.decode_cf decode.",
            name,
            column.dtype,
        )
    return packing


def decoded(array: xr.DataArray, role: str) -> xr.DataArray:
    """Return a DataArray with the values that its attributes describe, and without these attributes.

    An array in memory stays there. An array that was opened from a file is in chunks.
    """
    column = chunked(array.variable)
    name = array.name
    if name is None:
        name = role
    packing = variable_packing(name, column)
    data = column.data
    attrs = array.attrs
    if packing is not None:
        attrs = without_packing(attrs)
        # Lazy values are decoded where they are read.
        if isinstance(data, da.Array):
            dtype = packing.dtype(data.dtype)
            meta = np.empty((0,) * data.ndim, dtype)
            data = da.map_blocks(packing.decode, gated(data, role), dtype=dtype, meta=meta)
        else:
            data = packing.decode(np.asarray(data))
    # The coordinates are not copied: there may be a label for each row.
    result = array.copy(deep=False, data=data).drop_encoding()
    result.attrs = dict(attrs)
    return result


def variable_of_rows(
    dataset: xr.Dataset,
    role: str,
    value: Any,
    dims: tuple[str, ...],
) -> dict[Hashable, xr.Variable]:
    """Return row weights, offsets or folds by name: a variable of the dataset, or a DataArray with its coordinates."""
    if isinstance(value, str):
        return {value: variable(dataset, role, value, dims)}
    if not isinstance(value, xr.DataArray):
        raise InvalidTypeError(
            f"{role} is a {type(value).__name__}; beside a dataset it must be the name of a variable or a "
            "DataArray over some of the sample dimensions."
        )
    column = checked(value.variable, role, role, dims)
    # Rows are paired by position, so that labels must agree where both have labels.
    for d in value.dims:
        labels = [a.indexes[d] for a in (value, dataset) if d in a.indexes]
        differ = len(labels) == 2 and not labels[0].equals(labels[1])
        if value.sizes[d] != dataset.sizes[d] or differ:
            raise InvalidArgumentError(
                f"{role} and the dataset differ along {d!r}; align them first, for example with xarray.align."
            )
    return {role: column}


def x_dtype(variables: Any, packings: Sequence[Packing | None]) -> np.dtype:
    """Return the dtype of the features' rows: float32 if no value needs more, else float64."""
    for v, packing in zip(variables, packings, strict=True):
        dtype = v.dtype
        if packing is not None:
            dtype = packing.dtype(v.dtype)
        if dtype.kind != "f" or dtype.itemsize > 4:
            return np.dtype(np.float64)
    return np.dtype(np.float32)


def expand(v: xr.Variable, dims: tuple[Hashable, ...]) -> Any:
    """Return the variable's array with all of the dimensions, in their order, of size 1 along those it has not."""
    # The dimensions it has, in their order, and then an axis for each of the others.
    in_order = v.transpose(*(d for d in dims if d in v.dims))
    index: list[slice | None] = []
    for d in dims:
        if d in v.dims:
            index.append(slice(None))
        else:
            index.append(np.newaxis)
    return in_order.data[tuple(index)]


def in_grid(array: Any, chunks: tuple[tuple[int, ...], ...]) -> da.Array:
    """Return the array in the grid's chunks, but for dimensions of size 1."""
    # A variable that does not depend on a dimension is broadcast along it.
    own_chunks: list[tuple[int, ...]] = []
    for n, along in zip(array.shape, chunks, strict=True):
        if n == 1:
            own_chunks.append((1,))
        else:
            own_chunks.append(along)
    if isinstance(array, da.Array):
        return array.rechunk(tuple(own_chunks))
    return da.from_array(array, chunks=tuple(own_chunks), name=False)
