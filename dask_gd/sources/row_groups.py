"""The groups of rows, such as those whose errors depend on each other: the number of each row's group.

Groups are told by whatever has a value in each row, numbers, strings or dates. The client has their numbers, four bytes
a row; of lazy values it reads a block at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import prod
from typing import Any, NamedTuple

import dask
import dask.array as da
import numpy as np
import xarray as xr
import zarr

from ..cluster import compute
from ..errors import DataError, InvalidArgumentError, InvalidTypeError
from .coercion import from_arrow, is_lazy_frame
from .dataset_column import DatasetColumn
from .fields import DatasetSpec
from .frames import column_named, frame_of
from .lazy import in_partitions, opened
from .metadata import named_array
from .pandas_values import has_columns, is_pandas
from .source import Source
from .variables import chunked, expand, in_grid

#: Kinds of NumPy's values that can be told apart and sorted: numbers, dates, strings, and objects if they can.
KINDS = "biufMmUSTO"
#: Bytes of lazy numbers or dates that are loaded: of more, blocks have numbers of their own, which is slower.
WHOLE = 256 << 20
#: Keys from which on a row's is looked up by its hash, and not by halving.
MANY_KEYS = 1 << 16
#: Bits of the hash that tells most keys that are not known: of a table that stays in the cache.
HASH_BITS = 20


class Groups(NamedTuple):
    """The number of each row's group, ``0`` to ``size - 1`` in the order of their values."""

    #: Of rows (n,), or of a Dataset's variable over ``dims``; -1 where a row is a group of its own, see `intersection`.
    codes: np.ndarray
    size: int
    dims: tuple[str, ...] | None = None
    has_single: bool = False


def groups_of(source: Source, x: Any, given: Any, argument: str) -> list[Groups]:
    """Return the groups that columns tell, a `Groups` for each of them.

    Parameters
    ----------
    source : Source
    x : Any
        The data that the source was made of, in which names are looked up.
    given : Any
        An array (n,) of any values, the name of a column, variable or array; a list of such, or an array or a frame
        with columns.
    argument : str
        Its name, for messages.

    Raises
    ------
    InvalidArgumentError
        For a name that is not there, and for another number of rows than the source's.
    InvalidTypeError
        For values that cannot be compared with each other.
    DataError
        Where a row has no value.
    """
    found = []
    for value in _columns(given, source.shape[0]):
        label = argument
        if isinstance(value, str):
            label = f"{argument} {value!r}"
        values, dims = _values(source, x, value, argument)
        codes, count = _coded(values, label)
        if dims is None:
            codes = _of_rows(source, codes, argument)
        found.append(Groups(codes, count, dims))
    return found


def intersection(source: Source, groups: Sequence[Groups]) -> Groups:
    """Return the groups of rows that are together in all of these groupings.

    Where most combinations have a single row, these have no number, and their rows have the code -1.
    """
    dims = None
    arrays = [each.codes for each in groups]
    of_all_rows = True
    if groups[0].dims is not None:
        variables = [xr.Variable(each.dims, each.codes) for each in groups]
        sizes = reduce(dict.__or__, (dict(variable.sizes) for variable in variables))
        dims = tuple(str(dim) for dim in sizes)
        arrays = [variable.set_dims(sizes).transpose(*dims).values for variable in variables]
        of_all_rows = set(dims) == set(source.x.fields.dims)
    # Numbers of the combinations so far, and then of these with the next, stay below the product of two counts.
    shape = arrays[0].shape
    keys = arrays[0].ravel().astype(np.int64)
    last = len(arrays) - 1
    for number, (codes, each) in enumerate(zip(arrays[1:], groups[1:], strict=True), start=1):
        keys = keys * each.size + codes.ravel()
        if number < last:
            _, keys = np.unique(keys, return_inverse=True)
    repeated = _repeated(keys)
    if not of_all_rows:
        repeated = np.unique(keys)
    codes = _places(repeated, keys)
    has_single = bool(len(codes) and codes.min() < 0)
    return Groups(codes.reshape(shape), len(repeated), dims, has_single)


def with_groups(source: Source, role: str, groups: Groups) -> Source:
    """Return the source with the numbers of groups as a column of this role."""
    if groups.dims is None:
        return source.with_columns(**{role: in_partitions(source, groups.codes, role)})
    spec = source.x.fields
    array = expand(xr.Variable(groups.dims, groups.codes), spec.dims)
    column = DatasetColumn(
        fields=DatasetSpec(role, spec.dims, spec.chunks, (role,), (None,), np.dtype(float)),
        arrays=(in_grid(array, spec.chunks),),
        in_memory=(array,),
        flat=True,
        dataset=source.x.dataset,  # type: ignore[arg-type]
    )
    return source.with_columns(**{role: column})


# What was given


def _columns(given: Any, n: int) -> list[Any]:
    """Return the columns of groups that were given, each by itself."""
    given = from_arrow(given)
    if is_lazy_frame(given) or is_pandas(given):
        if has_columns(getattr(given, "_meta", given)):
            return [given[name] for name in given.columns]
        return [given]
    if isinstance(given, list | tuple):
        # Names and columns, or else the values of the rows.
        are_columns = all(isinstance(each, str) or np.ndim(each) > 0 for each in given)
        are_labels = len(given) == n and all(isinstance(each, str) for each in given)
        if given and are_columns and not are_labels:
            return list(given)
        return [np.asarray(given)]
    if len(getattr(given, "shape", ())) == 2 and not isinstance(given, xr.DataArray):
        return [given[:, column] for column in range(given.shape[1])]
    return [given]


def _values(source: Source, x: Any, value: Any, argument: str) -> tuple[Any, tuple[str, ...] | None]:
    """Return the values of a column as an array or a pandas column, and their dimensions in a Dataset."""
    dataset = source.x.dataset
    if dataset is not None:
        variable = _variable(source, dataset, value, argument)
        return variable.data, tuple(map(str, variable.dims))
    frame = frame_of(x)
    if isinstance(value, str) and frame is not None:
        return column_named(frame, value, argument), None
    if isinstance(value, str):
        return opened(_beside_features(source, value, argument), argument), None
    if isinstance(value, xr.DataArray):
        return chunked(value.variable).data, None
    if is_lazy_frame(value) or is_pandas(value):
        return value, None
    if isinstance(value, zarr.Array):
        return opened(value, argument), None
    if not isinstance(value, da.Array):
        value = np.asarray(value)
    return value, None


def _variable(source: Source, dataset: xr.Dataset, value: Any, argument: str) -> xr.Variable:
    """Return a variable of a Dataset by its name, or a DataArray, in chunks where it is not in memory."""
    name = value
    if isinstance(value, xr.DataArray):
        array = value
        name = value.name
    elif isinstance(value, str):
        try:
            array = dataset[value]
        except (KeyError, TypeError, AttributeError) as error:
            have = ", ".join(map(repr, dataset.variables))
            raise InvalidArgumentError(f"{argument}: the dataset has no variable {value!r}; it has {have}.") from error
    else:
        raise InvalidTypeError(
            f"{argument} is a {type(value).__name__}; beside a dataset it must be the name of a variable, a DataArray "
            "over some of the sample dimensions, or a list of these."
        )
    of_rows = source.x.fields.dims
    sizes = dict(zip(of_rows, map(sum, source.x.fields.chunks), strict=True))
    for dim, size in array.sizes.items():
        if sizes.get(dim) != size:
            raise InvalidArgumentError(
                f"{argument}: {name!r} has the dimension {dim!r} of {size}; the sample dimensions are {sizes!r}."
            )
    return chunked(array.variable)


def _beside_features(source: Source, name: str, argument: str) -> zarr.Array:
    """Return the array of this name in the Zarr group in which the features or the target are."""
    parts = [part for column in source.columns for part in column.parts]
    stored = [part.stored for part in parts if isinstance(part.stored, zarr.Array)]
    if not stored:
        raise InvalidArgumentError(
            f"{argument}={name!r} is a name, and the data has none: give the values of the rows, an array (n,)."
        )
    folder = stored[0].path.rpartition("/")[0]
    group = zarr.open_group(stored[0].store, path=folder, mode="r")
    return named_array(group, argument, name, folder or "the group")


def _of_rows(source: Source, codes: np.ndarray, argument: str) -> np.ndarray:
    """Return the numbers of the source's rows, from those of its rows or of all rows of its arrays."""
    n = source.shape[0]
    if codes.ndim != 1:
        raise InvalidArgumentError(f"{argument} must have shape (n,), a value for each row; it has {codes.shape}.")
    if len(codes) == n:
        return codes
    if len(codes) == source.x.shape[0]:
        return codes[source.bounds[0] : source.bounds[-1]]
    raise InvalidArgumentError(f"{argument} has {len(codes)} rows but the data has {n}; they must agree.")


# Numbers


def _coded(values: Any, label: str) -> tuple[np.ndarray, int]:
    """Return the number of each value among those that occur, sorted, in the shape of the values; and their count."""
    parts, shape = _factorized(values, label)
    known = [uniques for _, uniques in parts]
    if len(parts) > 1:
        # Pieces have numbers of their own, which become those of all.
        _, every = _factorize(np.concatenate(known))
    else:
        every = known[0]
    try:
        ranks = np.argsort(every, kind="stable")
        every = every[ranks]
        codes = [np.searchsorted(every, uniques).astype(np.int32)[own] for own, uniques in parts]
    except TypeError as error:
        kinds = sorted({type(value).__name__ for value in every})
        raise InvalidTypeError(
            f"{label} holds values that cannot be compared with each other, {' and '.join(kinds)}; give values of one "
            "kind, such as strings."
        ) from error
    return np.concatenate(codes).reshape(shape), len(every)


def _factorized(values: Any, label: str) -> tuple[list[tuple[np.ndarray, np.ndarray]], tuple[int, ...]]:
    """Return numbers and values, of all or of each block of lazy rows, and the shape of the values."""
    is_small = isinstance(values, da.Array) and values.dtype.kind in "biufMm" and values.nbytes <= WHOLE
    if is_small or (isinstance(values, da.Array) and values.ndim > 1):
        # Few enough to be numbered at once, or a variable over several dimensions.
        [values] = compute(values, what=f"the values of {label}")
    shape = getattr(values, "shape", ())
    if isinstance(values, da.Array) or is_lazy_frame(values):
        lazy = [dask.delayed(_factorize)(block) for block in np.ravel(values.to_delayed())]
        parts = list(compute(*lazy, what=f"the values of {label}"))
        shape = (sum(len(own) for own, _ in parts),)
    else:
        if not shape:
            raise InvalidTypeError(f"{label} is a single value; give an array (n,), a value for each row.")
        if not is_pandas(values):
            values = np.ravel(values)
        parts = [_factorize(values)]
    start = 0
    for own, uniques in parts:
        if uniques.dtype.kind not in KINDS:
            raise InvalidTypeError(f"{label} has dtype {uniques.dtype}; groups are told by numbers, strings or dates.")
        if len(own) and own.min() < 0:
            row = start + int(np.argmax(own < 0))
            raise DataError(f"{label} has no value in row {row}: each row belongs to a group. Leave such rows out.")
        start += len(own)
    if prod(shape) == 0:
        raise InvalidArgumentError(f"{label} has no rows.")
    return parts, shape


def _factorize(values: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of each value among those that occur, -1 where there is none, and these values."""
    import pandas as pd

    if getattr(values, "dtype", None) is not None and getattr(values.dtype, "kind", "") in "VcT":
        if values.dtype.kind != "T":
            return np.zeros(0, int), np.zeros(0, values.dtype)
        values = values.astype(object)
    codes, uniques = pd.factorize(values)
    return codes, np.asarray(uniques)


def _repeated(keys: np.ndarray) -> np.ndarray:
    """Return the keys that occur more than once, ascending."""
    ordered = np.sort(keys)
    return np.unique(ordered[1:][ordered[1:] == ordered[:-1]])


def _places(known: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Return where each key is among those known, ascending; -1 where it is not."""
    import pandas as pd

    if len(known) > MANY_KEYS:
        return pd.Index(known).get_indexer(keys).astype(np.int32)
    places = np.full(len(keys), -1, np.int32)
    if not len(known):
        return places
    # Of most keys a bit of their hash says that they are not among those known.
    may_occur = np.zeros(1 << HASH_BITS, bool)
    may_occur[_hashed(known)] = True
    candidates = np.flatnonzero(may_occur[_hashed(keys)])
    found = np.minimum(np.searchsorted(known, keys[candidates]), len(known) - 1)
    is_known = known[found] == keys[candidates]
    places[candidates[is_known]] = found[is_known]
    return places


def _hashed(keys: np.ndarray) -> np.ndarray:
    """Return hashes of keys, of `HASH_BITS` bits: the high bits of a product (Knuth, volume 3, section 6.4)."""
    return (keys.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - HASH_BITS)
