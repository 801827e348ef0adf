"""Rows from the variables of an xarray Dataset: every point of its sample dimensions is one.

The variables stay as they are, each with its own dimensions: a latitude, a series in time, a field over both. A task
gets the pieces of them that its partition needs and broadcasts some rows of them at a time into a buffer that its
thread keeps, so that the wide table is nowhere, neither in memory nor on disk. Integers packed after the CF conventions
are decoded there too.

Partitions are the blocks of the grid that the variables' chunks cut the sample dimensions into. Rows are in the order
of the sample dimensions, the last of them fastest, within a block; and so are the blocks.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from math import prod
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from ..errors import InvalidArgumentError, InvalidTypeError
from .coercion import numbers
from .dask_column import WHOLE_BYTES, dask_digest, digest
from .fields import DatasetSpec, predict_block
from .gate import gated
from .kinds import OBJECT, is_plain, value_dtype, variable_remedy
from .metadata import check_variable
from .packing import Packing, packing_of, without_packing
from .partitions import grid_chunks

logger = logging.getLogger("dask_gd")

#: Attributes that hold of a prediction as of its target.
DESCRIBE = ("long_name", "standard_name", "units")


@dataclass(frozen=True)
class DatasetColumn:
    """Variables of a Dataset as the columns of one of the roles of a source."""

    kind = "variables of a Dataset"

    fields: DatasetSpec
    #: One for each variable, with the grid's dimensions and chunks, and size 1 where it does not depend on one.
    arrays: tuple[da.Array, ...] = field(repr=False)
    #: The NumPy arrays behind those that are in memory, which a cluster should receive once and keep.
    in_memory: tuple[np.ndarray | None, ...] = field(repr=False)
    #: Rows are (n,) and not (n, p).
    flat: bool = False
    #: Whose variables they are; it has all of the sample dimensions, and their coordinates.
    dataset: xr.Dataset = field(default_factory=xr.Dataset, repr=False)

    @property
    def role(self) -> str:
        return self.fields.role

    @property
    def name(self) -> str:
        return self.role

    @property
    def dtype(self) -> np.dtype:
        return self.fields.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        rows = prod(sum(c) for c in self.fields.chunks)
        if self.flat:
            return (rows,)
        return (rows, len(self.arrays))

    @property
    def read_rows(self) -> int:
        return self.fields.read_rows

    @property
    def sample_dims(self) -> tuple[str, ...]:
        return self.fields.dims

    @property
    def variables(self) -> Any:
        if self.flat:
            return self.fields.names[0]
        return list(self.fields.names)

    @property
    def attrs(self) -> dict[str, str]:
        """What the variable is called, and its units, if there is only one."""
        if not self.flat:
            return {}
        attrs = self.dataset[self.fields.names[0]].attrs
        return {key: str(attrs[key]) for key in DESCRIBE if key in attrs}

    def nbytes(self, rows: int) -> int:
        """Bytes of the variables, which one pass reads: far fewer than those of the rows that they make."""
        return sum(prod(array.shape) * array.dtype.itemsize for array in self.arrays)

    @property
    def chunk_bytes(self) -> int:
        """Of the largest pieces of one partition together."""
        return sum(prod(map(max, array.chunks)) * array.dtype.itemsize for array in self.arrays)

    @property
    def buffer_bytes(self) -> int:
        """Memory that a thread needs at most: its pieces, what they are cut or put together from, and a window."""
        row = len(self.arrays) * self.dtype.itemsize
        return 2 * self.chunk_bytes + min(self.read_rows, prod(max(c) for c in self.fields.chunks)) * row

    def blocks(self) -> da.Array:
        """The partitions' pieces as map_blocks takes them: in the grid, each block a tuple of arrays."""
        meta = np.empty((0,) * len(self.fields.dims), object)
        return da.map_blocks(_together, *self.arrays, dtype=object, meta=meta)

    def partition_bounds(self, start: int, stop: int) -> tuple[int, ...]:
        """Return where partitions begin: at the blocks of the grid."""
        sizes = map(prod, product(*self.fields.chunks))
        return tuple(np.cumsum([0, *sizes]).tolist())

    def layout(self, bounds: tuple[int, ...]) -> tuple:
        """Return the chunks of the grid, within whose blocks the rows are in order."""
        return self.fields.chunks

    def aligned(self, bounds: tuple[int, ...]) -> DatasetColumn:
        """Return the column as it is: all variables are cut into one grid."""
        return self

    def for_tasks(self, in_process: bool = False) -> DatasetSpec:
        """Return how tasks make rows of the pieces that they are given."""
        return self.fields

    @property
    def memory(self) -> None:
        return None

    def lazy_rows(self, start: int, stop: int) -> da.Array:
        """Refuse to be one array of rows.

        Raises
        ------
        InvalidArgumentError
        """
        raise InvalidArgumentError(
            f"{self.role} are variables of a Dataset, not an array of rows; give an array, or what was to be found."
        )

    def persisted(self) -> DatasetColumn | None:
        """Return the column with the variables that are in memory given to the cluster, if there are any."""
        if not any(isinstance(memory, np.ndarray) for memory in self.in_memory):
            return None
        pairs = zip(self.arrays, self.in_memory, strict=True)
        return replace(self, arrays=tuple(a if memory is None else a.persist() for a, memory in pairs))

    @property
    def persistent(self) -> list[da.Array]:
        return [a for a, memory in zip(self.arrays, self.in_memory, strict=True) if memory is not None]

    def check(self, missing: str, start: int, stop: int) -> None:
        """Refuse nothing: variables were checked when the column was made."""

    def check_sendable(self) -> None:
        """Refuse nothing: variables can be sent."""

    def content(self) -> str:
        """A hash of the variables, their names and their packing: of all that is in memory, else of some blocks."""
        total = hashlib.blake2b(digest_size=16)
        for i, (array, memory) in enumerate(zip(self.arrays, self.in_memory, strict=True)):
            if memory is not None:
                data = digest(memory)
            else:
                data = dask_digest(array)
            about = self.fields.names[i], array.shape, str(array.dtype), self.fields.packings[i], data
            total.update(repr(about).encode())
        return total.hexdigest()

    @property
    def known_whole(self) -> bool:
        """Whether `content` has all of the values."""
        return all(m is not None or a.nbytes <= WHOLE_BYTES for a, m in zip(self.arrays, self.in_memory, strict=True))


def _together(*pieces: np.ndarray) -> tuple[np.ndarray, ...]:
    return pieces


def dataset_columns(
    dataset: xr.Dataset,
    features: Any,
    target: Any,
    sample_dims: Any,
    sample_weight: Any = None,
    offset: Any = None,
    fold: Any = None,
) -> dict[str, DatasetColumn]:
    """Return columns by role, features, targets, row weights, offsets and folds, after all checks that need no data."""
    names = _names("features", features)
    targets = _names("target", target)
    dims = _sample_dims(dataset, sample_dims)
    if both := [name for name in names if name in targets]:
        raise InvalidArgumentError(f"{', '.join(map(repr, both))} is among the features and is the target.")
    if len(targets) > 1:
        _not_output(dims)
    roles = {
        "x": {name: variable(dataset, "features", name, dims) for name in names},
        "y": {name: variable(dataset, "target", name, dims) for name in targets},
    }
    narrow = {"sample_weight": sample_weight, "offset": offset, "fold": fold}
    for role, given in narrow.items():
        if given is not None:
            roles[role] = _of_rows(dataset, role, given, dims)
    if empty := [d for d in dims if dataset.sizes[d] == 0]:
        raise InvalidArgumentError(f"There is nothing to fit: dimension {empty[0]!r} has no points.")
    variables = [v for role in roles.values() for v in role.values()]
    sizes = tuple(dataset.sizes[d] for d in dims)
    chunks = grid_chunks(variables, dims, sizes, len(names), together=True)
    # What the caller does to theirs does not change ours.
    held = dataset.copy()

    def rows(role: str, flat: bool) -> DatasetColumn:
        columns = roles[role]
        packings = tuple(variable_packing(name, v) for name, v in columns.items())
        if role == "x":
            dtype = x_dtype(columns.values(), packings)
        else:
            dtype = np.dtype(float)
        fields = DatasetSpec(role, dims, chunks, tuple(map(str, columns)), packings, dtype)
        expanded = [expand(v, dims) for v in columns.values()]
        memory = tuple(a if isinstance(a, np.ndarray) else None for a in expanded)
        return DatasetColumn(fields, tuple(in_grid(a, chunks) for a in expanded), memory, flat, held)

    columns = {"x": rows("x", False), "y": rows("y", isinstance(target, str))}
    for name, argument in (("weight", "sample_weight"), ("offset", "offset"), ("fold", "fold")):
        if argument in roles:
            columns[name] = rows(argument, True)
    return columns


def _names(argument: str, given: Any) -> tuple:
    """The names in an argument that takes one or several."""
    if given is None:
        raise InvalidArgumentError(
            f"fit(dataset, ...) needs {argument}: the name, or names, of variables or coordinates of the dataset."
        )
    if np.iterable(given) and not isinstance(given, str):
        names = tuple(given)
    else:
        names = (given,)
    if not names:
        raise InvalidArgumentError(f"{argument}={given!r}: name at least one variable.")
    if other := [name for name in names if not isinstance(name, str)]:
        raise InvalidTypeError(f"{argument}: {other[0]!r} is no name; names are strings.")
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise InvalidArgumentError(f"{argument} names {twice[0]!r} twice.")
    return names


def _sample_dims(dataset: xr.Dataset, sample_dims: Any) -> tuple[str, ...]:
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
    if not dims or len(set(dims)) < len(dims):
        raise InvalidArgumentError(f"sample_dims={sample_dims!r}: name at least one dimension, and each of them once.")
    for d in dims:
        if d not in dataset.sizes:
            raise InvalidArgumentError(f"sample_dims: the dataset has no dimension {d!r}; it has {have}.")
    return dims


def _not_output(dims: tuple[Hashable, ...]) -> None:
    if "output" in dims:
        raise InvalidArgumentError(
            "The dataset has a dimension 'output', as the predictions of several outputs have; "
            "rename the dataset's: dataset.rename(output='...')."
        )


def variable(dataset: xr.Dataset, argument: str, name: Hashable, dims: tuple[str, ...] | None = None) -> xr.Variable:
    """A variable or coordinate with real numbers over some of the sample dimensions, chunked or in memory."""
    try:
        found = dataset[name].variable
    except (KeyError, TypeError, AttributeError) as error:
        have = ", ".join(map(repr, dataset.variables)) or "none"
        raise InvalidArgumentError(f"{argument}: the dataset has no variable {name!r}; it has {have}.") from error
    return checked(found, argument, name, dims)


def checked(found: xr.Variable, argument: str, name: Hashable, dims: tuple[str, ...] | None) -> xr.Variable:
    if not is_plain(found.dtype):
        found = _as_numbers(found, argument, name)
    if dims is not None and (other := [d for d in found.dims if d not in dims]):
        raise InvalidArgumentError(
            f"{argument}: {name!r} has the dimension {other[0]!r}, which is not among sample_dims={dims!r}. "
            f"Add it there, select one point with dataset.isel({other[0]}=0), or make variables of its points."
        )
    found = chunked(found)
    if not isinstance(found.data, da.Array):
        return xr.Variable(found.dims, np.asarray(found.data), found.attrs, found.encoding)
    return xr.Variable(found.dims, gated(found.data, str(name)), found.attrs, found.encoding)


def _as_numbers(found: xr.Variable, argument: str, name: Hashable) -> xr.Variable:
    """Return a variable of objects, or of pandas' own kinds, as numbers; missing values are NaN."""
    data = chunked(found).data
    said = f"has dtype {found.dtype}"
    if not isinstance(data, da.Array):
        data = np.asarray(data)
    if isinstance(data, da.Array) or not data.size:
        first = None
    else:
        first = data.ravel()[0]
    is_date = data.dtype == OBJECT and value_dtype(first).kind == "M"
    if is_date:
        said = f"holds dates ({type(first).__name__})"
    if is_date or not (data.dtype == OBJECT or is_plain(data.dtype)):
        raise InvalidTypeError(f"{argument}: {name!r} {said}; {variable_remedy(name, found.dtype, is_date)}")
    return xr.Variable(found.dims, numbers(data, f"{argument}: {name!r}"), found.attrs, found.encoding)


def chunked(found: xr.Variable) -> xr.Variable:
    """The variable in chunks, if it was opened without Dask: it is not to be read whole."""
    if found.chunks is not None or found._in_memory:
        return found
    check_variable(found, found.dims)
    preferred = found.encoding.get("preferred_chunks") or {}
    return found.chunk({d: size for d, size in preferred.items() if d in found.dims} or "auto")


def variable_packing(name: Hashable, found: xr.Variable) -> Packing | None:
    """Return the packing that a variable's attributes describe.

    Arithmetic keeps attributes and drops what is known of the file, so that floats may have been decoded by hand.
    """
    packing = packing_of(name, found.attrs, found.dtype)
    if packing is not None and packing.scales and found.dtype.kind == "f" and not found.encoding:
        logger.warning(
            "Variable %r holds %s and is decoded by its attributes scale_factor and add_offset. Arithmetic keeps "
            "attributes: if it has been decoded already, drop them with drop_attrs(), or let xarray.decode_cf decode.",
            name,
            found.dtype,
        )
    return packing


def decoded(array: xr.DataArray, role: str) -> xr.DataArray:
    """Return a DataArray with the values that its attributes describe, and without these attributes.

    What is in memory stays there. What was opened from a file is in chunks.
    """
    found = chunked(array.variable)
    packing = variable_packing(role if array.name is None else array.name, found)
    data = found.data
    if packing is not None and isinstance(data, da.Array):
        dtype = packing.dtype(data.dtype)
        meta = np.empty((0,) * data.ndim, dtype)
        data = da.map_blocks(packing.decode, gated(data, role), dtype=dtype, meta=meta)
    elif packing is not None:
        data = packing.decode(np.asarray(data))
    if packing is None:
        attrs = array.attrs
    else:
        attrs = without_packing(array.attrs)
    return xr.DataArray(data, dims=array.dims, coords=array.coords, name=array.name, attrs=attrs)


def _of_rows(dataset: xr.Dataset, role: str, given: Any, dims: tuple[str, ...]) -> dict[Hashable, xr.Variable]:
    """Row weights or offsets: the name of a variable, or a DataArray with the dataset's coordinates."""
    if isinstance(given, str):
        return {given: variable(dataset, role, given, dims)}
    if not isinstance(given, xr.DataArray):
        raise InvalidTypeError(
            f"{role} is a {type(given).__name__}; beside a dataset it must be the name of a variable or a "
            "DataArray over some of the sample dimensions."
        )
    column = checked(given.variable, role, role, dims)
    for d in given.dims:
        labels = [a.indexes[d] for a in (given, dataset) if d in a.indexes]
        if given.sizes[d] != dataset.sizes[d] or (len(labels) == 2 and not labels[0].equals(labels[1])):
            raise InvalidArgumentError(
                f"{role} and the dataset differ along {d!r}; align them first, for example with xarray.align."
            )
    return {role: column}


def x_dtype(variables: Any, packings: Sequence[Packing | None]) -> np.dtype:
    """Of the rows: float32 if no value needs more, else float64."""
    pairs = zip(variables, packings, strict=True)
    dtypes = [v.dtype if packing is None else packing.dtype(v.dtype) for v, packing in pairs]
    small = all(dtype.kind == "f" and dtype.itemsize <= 4 for dtype in dtypes)
    return np.dtype(np.float32 if small else np.float64)


def expand(v: xr.Variable, dims: tuple[Hashable, ...]) -> Any:
    """The variable's array with all of the dimensions, in their order, of size 1 where it has none."""
    ordered = v.transpose(*(d for d in dims if d in v.dims)).data
    return ordered[tuple(slice(None) if d in v.dims else None for d in dims)]


def in_grid(array: Any, chunks: tuple[tuple[int, ...], ...]) -> da.Array:
    """The array in the grid's chunks, but for dimensions of size 1."""
    own = tuple((1,) if n == 1 else c for c, n in zip(chunks, array.shape, strict=True))
    if isinstance(array, da.Array):
        return array.rechunk(own)
    return da.from_array(array, chunks=own, name=False)


def predicted(
    dataset: xr.Dataset,
    names: Sequence[str],
    sample_dims: Sequence[str] | None,
    mean: Callable[[np.ndarray], np.ndarray],
    outputs: int | None,
) -> tuple[tuple[Hashable, ...], Any]:
    """``mean`` of the rows of a dataset: its sample dimensions and the others that its features have, and an array over
    them (and the outputs), not computed where a feature is lazy.

    Along sample dimensions that no feature has it is the same, in the chunks of the largest variable that has them.
    """
    variables = [variable(dataset, "predict", name) for name in names]
    have = dict.fromkeys(d for v in variables for d in v.dims)
    dims = tuple(dict.fromkeys((*(d for d in sample_dims or () if d in dataset.sizes), *have)))
    if outputs is not None:
        _not_output(dims)
    sizes = tuple(dataset.sizes[d] for d in dims)
    rest = () if outputs is None else (outputs,)
    packings = tuple(variable_packing(name, v) for name, v in zip(names, variables, strict=True))
    arrays = [expand(v, dims) for v in variables]
    dtype = x_dtype(variables, packings)
    block = partial(predict_block, packings=packings, dtype=dtype, mean=mean, outputs=outputs)
    if not any(isinstance(a, da.Array) for a in arrays):
        found = block(*arrays)
        return dims, found if found.shape == (*sizes, *rest) else np.broadcast_to(found, (*sizes, *rest))
    chunks = grid_chunks(variables, dims, sizes, len(names), together=False)
    new = {}
    if outputs is not None:
        new = {"new_axis": len(dims)}
    own = (*(c if d in have else (1,) for d, c in zip(dims, chunks, strict=True)), *((k,) for k in rest))
    arrays = [in_grid(a, chunks) for a in arrays]
    meta = np.empty((0,) * len(own), dtype)
    found = da.map_blocks(block, *arrays, chunks=own, dtype=dtype, meta=meta, **new)
    by_size = sorted((v for v in dataset.variables.values() if v.chunks), key=lambda v: v.nbytes)
    along = {d: c for v in by_size for d, c in v.chunksizes.items()}
    whole = tuple(c if d in have else along.get(d, c) for d, c in zip(dims, chunks, strict=True))
    return dims, da.broadcast_to(found, (*sizes, *rest), chunks=(*whole, *((k,) for k in rest)))
