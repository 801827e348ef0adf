"""Rows from the variables of an xarray Dataset: every point of its sample dimensions is a row.

The variables stay as they are, each with its own dimensions: a latitude, a series in time, a field over both. A task
gets the pieces of them that its partition needs and broadcasts a few rows of them at a time into a buffer that its
thread keeps, so that the wide table is nowhere, neither in memory nor on disk. Integers packed after the CF conventions
are decoded there too.

Partitions are the blocks of the grid that the variables' chunks cut the sample dimensions into. Rows are in the order
of the sample dimensions, the last of them fastest, within a block; and so are the blocks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from math import prod
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from ..errors import InvalidArgumentError
from ..kernels.dense import DenseRows
from .block_column import WHOLE_BYTES
from .dask_column import dask_digest, digest
from .fields import DatasetSpec, predict_block
from .partitions import grid_chunks
from .variables import (
    decoded,
    dims_in,
    expand,
    in_grid,
    names_in,
    refuse_output_dim,
    variable,
    variable_of_rows,
    variable_packing,
    x_dtype,
)

__all__ = ["DatasetColumn", "dataset_columns", "decoded", "predicted"]

#: Attributes that hold of a prediction as of its target.
DESCRIBE = ("long_name", "standard_name", "units")


@dataclass(frozen=True)
class DatasetColumn:
    """Variables of a Dataset as a column of a source: a role's values, (rows,) or (rows, variables)."""

    kind = "variables of a Dataset"

    fields: DatasetSpec
    #: Each variable's array, with the grid's dimensions and chunks, and size 1 along those that it does not depend on.
    arrays: tuple[da.Array, ...] = field(repr=False)
    #: The NumPy arrays behind those that are in memory, which a cluster should receive once and keep.
    in_memory: tuple[np.ndarray | None, ...] = field(repr=False)
    #: Rows are (n,) and not (n, p).
    flat: bool = False
    #: The variables' Dataset, which has all of the sample dimensions, and their coordinates.
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
    def stored(self) -> None:
        return None

    @property
    def encoding(self) -> None:
        return None

    @property
    def parts(self) -> tuple[DatasetColumn, ...]:
        return (self,)

    def positions(self, start: int, stop: int) -> tuple[int, int]:
        """Return the rows' numbers."""
        return start, stop

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
        """The attributes that describe the variable, its names and units, if there is only one variable."""
        # Several variables have no name in common.
        if not self.flat:
            return {}
        attrs = self.dataset[self.variables].attrs
        return {key: str(attrs[key]) for key in DESCRIBE if key in attrs}

    def row_format(self, dtype: np.dtype) -> DenseRows:
        """Return the format of dense rows, which tasks make of the variables."""
        return DenseRows(dtype, self.shape[1])

    def nbytes(self, rows: int) -> int:
        """Return the bytes of the variables, which one pass reads: far fewer than those of the rows that they make."""
        return sum(prod(array.shape) * array.dtype.itemsize for array in self.arrays)

    @property
    def chunk_bytes(self) -> int:
        """The bytes of the largest pieces of one partition together."""
        return sum(prod(map(max, array.chunks)) * array.dtype.itemsize for array in self.arrays)

    @property
    def buffer_bytes(self) -> int:
        """The bytes of memory that a thread needs at most: its pieces, the chunks they are made of, and a window."""
        row_bytes = len(self.arrays) * self.dtype.itemsize
        largest = prod(max(c) for c in self.fields.chunks)
        return 2 * self.chunk_bytes + min(self.read_rows, largest) * row_bytes

    def blocks(self) -> da.Array:
        """Return the partitions' pieces as `map_blocks` takes them: in the grid, each block a tuple of arrays."""
        meta = np.empty((0,) * len(self.fields.dims), object)
        return da.map_blocks(_as_tuple, *self.arrays, dtype=object, meta=meta)

    def partition_bounds(self, start: int, stop: int) -> tuple[int, ...]:
        """Return where partitions begin: at the blocks of the grid."""
        sizes = map(prod, product(*self.fields.chunks))
        return tuple(np.cumsum([0, *sizes]).tolist())

    def layout(self, bounds: tuple[int, ...]) -> tuple:
        """Return the chunks of the grid, within whose blocks the rows are in order."""
        return self.fields.chunks

    def is_aligned(self, bounds: tuple[int, ...]) -> bool:
        """Return whether tasks find the rows of these partitions in it."""
        return self.shape[0] == bounds[-1] - bounds[0]

    def aligned(self, bounds: tuple[int, ...]) -> DatasetColumn:
        """Return the column as it is: all variables are cut into one grid."""
        return self

    def for_tasks(self, in_process: bool = False) -> DatasetSpec:
        """Return the description with which tasks make rows of the pieces that they are given."""
        return self.fields

    @property
    def memory(self) -> None:
        return None

    def lazy_rows(self, start: int, stop: int) -> da.Array:
        """Refuse to be an array of rows.

        Raises
        ------
        InvalidArgumentError
        """
        raise InvalidArgumentError(
            f"{self.role} are variables of a Dataset, not an array of rows; give an array, or what was to be found."
        )

    def persisted(self) -> DatasetColumn | None:
        """Return the column with its variables in memory sent to the cluster; None if no variable is in memory."""
        if not any(isinstance(memory, np.ndarray) for memory in self.in_memory):
            return None
        # Lazy variables stay lazy: they may not fit into the workers' memory.
        arrays = []
        for array, memory in zip(self.arrays, self.in_memory, strict=True):
            if memory is not None:
                array = array.persist()
            arrays.append(array)
        return replace(self, arrays=tuple(arrays))

    @property
    def persistent(self) -> list[da.Array]:
        pairs = zip(self.arrays, self.in_memory, strict=True)
        return [array for array, memory in pairs if memory is not None]

    def check(self, missing: str, start: int, stop: int) -> None:
        """Refuse nothing: variables were checked when the column was made."""

    def check_sendable(self) -> None:
        """Refuse nothing: variables can be sent."""

    def content(self) -> str:
        """Return a hash of the variables, their names and their packing.

        It has all values of variables in memory and of small arrays, else those of the first, middle and last block.
        """
        total = hashlib.blake2b(digest_size=16)
        for i, (array, memory) in enumerate(zip(self.arrays, self.in_memory, strict=True)):
            if memory is not None:
                data = digest(memory)
            else:
                data = dask_digest(array)
            # The text is hashed, so that its parts and their order are fixed.
            about = (
                self.fields.names[i],
                array.shape,
                str(array.dtype),
                self.fields.packings[i],
                data,
            )
            total.update(repr(about).encode())
        return total.hexdigest()

    @property
    def known_whole(self) -> bool:
        """Return whether `content` has all of the values."""
        for array, memory in zip(self.arrays, self.in_memory, strict=True):
            if memory is None and array.nbytes > WHOLE_BYTES:
                return False
        return True


def _as_tuple(*pieces: np.ndarray) -> tuple[np.ndarray, ...]:
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
    names = names_in("features", features)
    targets = names_in("target", target)
    dims = dims_in(dataset, sample_dims)
    if both := [name for name in names if name in targets]:
        raise InvalidArgumentError(f"{', '.join(map(repr, both))} is among the features and is the target.")
    if len(targets) > 1:
        refuse_output_dim(dims)

    # The variables of each argument, which must be there and hold numbers.
    variables = {
        "x": {name: variable(dataset, "features", name, dims) for name in names},
        "y": {name: variable(dataset, "target", name, dims) for name in targets},
    }
    narrow = {"weight": ("sample_weight", sample_weight), "offset": ("offset", offset), "fold": ("fold", fold)}
    for role, (argument, value) in narrow.items():
        if value is not None:
            variables[role] = variable_of_rows(dataset, argument, value, dims)
    if empty := [d for d in dims if dataset.sizes[d] == 0]:
        raise InvalidArgumentError(f"There is nothing to fit: dimension {empty[0]!r} has no points.")

    # All of them are cut into one grid, whose blocks are the partitions.
    every = [v for by_name in variables.values() for v in by_name.values()]
    sizes = tuple(dataset.sizes[d] for d in dims)
    chunks = grid_chunks(every, dims, sizes, width=len(names), together=True)

    # A copy, which does not change with the caller's.
    copy = dataset.copy()
    columns = {}
    for role, by_name in variables.items():
        argument = role
        if role in narrow:
            argument, _ = narrow[role]
        is_flat = role in narrow or (role == "y" and isinstance(target, str))
        columns[role] = _column_of(copy, argument, by_name, dims, chunks, is_flat)
    return columns


def _column_of(
    dataset: xr.Dataset,
    role: str,
    variables: dict[Hashable, xr.Variable],
    dims: tuple[str, ...],
    chunks: tuple[tuple[int, ...], ...],
    is_flat: bool,
) -> DatasetColumn:
    """Return variables of a dataset by name as a column, in the chunks of the grid."""
    packings = tuple(variable_packing(name, v) for name, v in variables.items())
    # Features may be multiplied in float32; all else is float64.
    dtype = np.dtype(float)
    if role == "x":
        dtype = x_dtype(variables.values(), packings)
    arrays = []
    in_memory: list[np.ndarray | None] = []
    for v in variables.values():
        array = expand(v, dims)
        arrays.append(in_grid(array, chunks))
        if isinstance(array, np.ndarray):
            in_memory.append(array)
        else:
            in_memory.append(None)
    names = tuple(map(str, variables))
    return DatasetColumn(
        fields=DatasetSpec(role, dims, chunks, names, packings, dtype),
        arrays=tuple(arrays),
        in_memory=tuple(in_memory),
        flat=is_flat,
        dataset=dataset,
    )


def predicted(
    dataset: xr.Dataset,
    names: Sequence[str],
    sample_dims: Sequence[str] | None,
    mean: Callable[[np.ndarray], np.ndarray],
    outputs: int | None,
) -> tuple[tuple[Hashable, ...], Any]:
    """Return ``mean`` of the rows of a dataset: dimensions, and an array over them and the outputs.

    The dimensions are the dataset's sample dimensions and the others that its features have. The array is not computed
    where a feature is lazy. Along sample dimensions that no feature has it is the same, in the chunks of the largest
    variable that has them.
    """
    # The sample dimensions in their order, and any others of the features after them.
    variables = [variable(dataset, "predict", name) for name in names]
    of_features = dict.fromkeys(d for v in variables for d in v.dims)
    of_samples = [d for d in sample_dims or () if d in dataset.sizes]
    dims = tuple(dict.fromkeys((*of_samples, *of_features)))
    sizes = tuple(dataset.sizes[d] for d in dims)
    of_outputs: tuple[int, ...] = ()
    new_axis = {}
    if outputs is not None:
        refuse_output_dim(dims)
        of_outputs = (outputs,)
        new_axis = {"new_axis": len(dims)}

    # Features in memory are predicted at once.
    packings = tuple(variable_packing(name, v) for name, v in zip(names, variables, strict=True))
    arrays = [expand(v, dims) for v in variables]
    dtype = x_dtype(variables, packings)
    block = partial(predict_block, packings=packings, dtype=dtype, mean=mean, outputs=outputs)
    shape = (*sizes, *of_outputs)
    if not any(isinstance(a, da.Array) for a in arrays):
        values = block(*arrays)
        if values.shape == shape:
            return dims, values
        return dims, np.broadcast_to(values, shape)

    # Lazy features are predicted block by block of their grid, with a single point along other dimensions.
    chunks = grid_chunks(variables, dims, sizes, width=len(names), together=False)
    along = _chunks_along(dataset)
    computed_chunks: list[tuple[int, ...]] = []
    whole_chunks: list[tuple[int, ...]] = []
    for d, c in zip(dims, chunks, strict=True):
        if d in of_features:
            computed_chunks.append(c)
            whole_chunks.append(c)
        else:
            computed_chunks.append((1,))
            whole_chunks.append(along.get(d, c))
    chunks_of_outputs = [(k,) for k in of_outputs]
    # The outputs are in one block, and last.
    computed_chunks += chunks_of_outputs
    whole_chunks += chunks_of_outputs
    computed = da.map_blocks(
        block,
        *(in_grid(a, chunks) for a in arrays),
        chunks=tuple(computed_chunks),
        dtype=dtype,
        meta=np.empty((0,) * len(computed_chunks), dtype),
        **new_axis,
    )
    return dims, da.broadcast_to(computed, shape, chunks=tuple(whole_chunks))


def _chunks_along(dataset: xr.Dataset) -> dict[Hashable, tuple[int, ...]]:
    """Return the chunks along each dimension of the largest chunked variable that has it."""
    chunked = [v for v in dataset.variables.values() if v.chunks]
    # The largest comes last, and so prevails.
    along: dict[Hashable, tuple[int, ...]] = {}
    for v in sorted(chunked, key=lambda v: v.nbytes):
        along.update(v.chunksizes)
    return along
