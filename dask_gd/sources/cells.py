"""What a model for each cell reads of a Dataset: the target, features shared by all cells and of each cell, weights."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
import xarray as xr

from ..cluster import active_client, compute
from ..errors import DataError, InvalidArgumentError, NonFiniteError
from .blocks import Blocks, paired
from .cell_grid import CellGrid, cells_in, grid_of
from .cell_variable import CellReader, Given, InMemory, Stored, decoded, stored_in
from .dask_column import dask_digest, digest
from .variables import (
    checked,
    dims_in,
    expand,
    in_grid,
    names_in,
    variable_of_rows,
    variable_packing,
)


@dataclass(frozen=True)
class CellSource:
    """The variables of a fit with a model for each cell."""

    grid: CellGrid
    #: The features' names.
    names: tuple[str, ...]
    #: Features that all cells share, by number: (samples, number of them) float64.
    shared: np.ndarray = field(repr=False)
    order: tuple[int, ...]
    #: Features that vary by cell, by number.
    varying: tuple[int, ...]
    #: Row weights that all cells share, (samples,).
    weights: np.ndarray | None = field(repr=False)
    #: What tasks read: the target, the features that vary by cell, and weights that do.
    readers: tuple[CellReader, ...] = field(repr=False)
    #: Names of these, for messages.
    titles: tuple[str, ...]
    weighs_cells: bool
    target: xr.DataArray = field(repr=False)
    #: Dask arrays of which tasks are given blocks.
    arrays: tuple[da.Array, ...] = field(repr=False)
    #: Those of them that were in memory.
    in_memory: tuple[da.Array, ...] = field(repr=False)
    drop: bool

    @property
    def has_own(self) -> bool:
        """Whether features or weights vary by cell."""
        return bool(self.varying) or self.weighs_cells

    @property
    def cells(self) -> int:
        """The number of cells."""
        return prod(self.grid.cell_shape)

    @property
    def samples(self) -> int:
        """The number of samples of a cell."""
        return prod(self.grid.sample_shape)

    @property
    def piece_bytes(self) -> int:
        """The bytes of the largest piece of all variables, as float64 where they are decoded, with their chunks."""
        rows = max(cells_in(box) for box in self.grid.pieces)
        cells = max(cells_in(box) for box in self.grid.columns)
        total = 0
        for reader in self.readers:
            values = rows * cells
            if isinstance(reader, Stored):
                total += values * reader.array.dtype.itemsize + 2 * reader.chunk_bytes
                if reader.functions or reader.packing is not None:
                    total += 3 * 8 * values
            else:
                total += 2 * 8 * values
        return total

    @property
    def given_bytes(self) -> int:
        """The bytes of the blocks of a piece that a task is given."""
        return sum(prod(map(max, array.chunks)) * array.dtype.itemsize for array in self.arrays)

    def blocks(self) -> da.Array:
        """Return the blocks of all arrays that tasks are given, as tuples: see `sources.blocks.paired`."""
        meta = np.empty((0,) * len(self.grid.dims), object)
        return da.map_blocks(_as_tuple, *self.arrays, dtype=object, meta=meta)

    def given(self) -> tuple[Blocks | None, tuple[int, ...]]:
        """Return the blocks that tasks are given, and how many there are along each dimension."""
        if not self.arrays:
            return None, ()
        counts = np.broadcast_shapes(*(array.numblocks for array in self.arrays))
        return paired([self]), tuple(map(int, counts))  # type: ignore[list-item]

    def content(self) -> str:
        """Return a hash of what is read: of large arrays that of a sample."""
        total = hashlib.blake2b(digest_size=16)
        total.update(digest(self.shared).encode())
        if self.weights is not None:
            total.update(digest(self.weights).encode())
        for reader in self.readers:
            if isinstance(reader, Stored):
                total.update(repr((reader.column.content(), reader.origin, reader.shape, reader.packing)).encode())
            elif isinstance(reader, InMemory):
                total.update(repr((digest(reader.array), reader.packing)).encode())
            else:
                total.update(dask_digest(self.arrays[reader.number]).encode())  # type: ignore[attr-defined]
        return total.hexdigest()

    def persisted(self) -> CellSource:
        """Return the source with arrays in memory sent to the cluster, once."""
        if active_client() is None or not self.in_memory:
            return self
        arrays = []
        kept = []
        for array in self.arrays:
            if any(array is each for each in self.in_memory):
                array = array.persist()
                kept.append(array)
            arrays.append(array)
        return replace(self, arrays=tuple(arrays), in_memory=tuple(kept))


def _as_tuple(*pieces: np.ndarray) -> tuple[np.ndarray, ...]:
    return pieces


def has_cells(x: Any, target: Any, sample_dims: Any) -> bool:
    """Return whether a Dataset's target has dimensions outside of the sample dimensions: a model for each cell."""
    if not isinstance(x, xr.Dataset) or not isinstance(target, str) or sample_dims is None:
        return False
    try:
        dims = x[target].dims
    except (KeyError, TypeError, AttributeError):
        return False
    samples = (sample_dims,) if isinstance(sample_dims, str) else tuple(sample_dims)
    return bool(set(dims) - set(samples)) and set(samples) <= set(x.sizes)


def cell_source(
    dataset: xr.Dataset,
    features: Any,
    target: str,
    sample_dims: Any,
    sample_weight: Any,
    drop: bool,
) -> CellSource:
    """Return what a model for each cell reads, after all checks that need no values of the target.

    Raises
    ------
    InvalidArgumentError, InvalidTypeError
        For names, dimensions and dtypes that cannot be served.
    NonFiniteError
        For infinity, or NaN that is not to be dropped, in features that all cells share.
    """
    names = names_in("features", features)
    if target in names:
        raise InvalidArgumentError(f"{target!r} is among the features and is the target.")
    wanted = dims_in(dataset, sample_dims)
    array = dataset[target]
    if lacking := [d for d in wanted if d not in array.dims]:
        raise InvalidArgumentError(
            f"target={target!r} has the dimensions {array.dims!r}, and not {lacking[0]!r}, which is among "
            f"sample_dims={sample_dims!r}. Every cell has all samples: leave {lacking[0]!r} out."
        )
    if empty := [d for d in array.dims if array.sizes[d] == 0]:
        raise InvalidArgumentError(f"There is nothing to fit: dimension {empty[0]!r} has no points.")
    if odd := [d for d in array.dims if not isinstance(d, str) or d in ("feature", "parameter")]:
        raise InvalidArgumentError(f"Dimension {odd[0]!r} of {target!r} is to be a dimension of the result; rename it.")

    # The target decides how everything is read.
    sample = tuple(str(d) for d in array.dims if d in wanted)
    cell = tuple(str(d) for d in array.dims if d not in wanted)
    sizes = {str(d): int(size) for d, size in array.sizes.items()}
    y = _column(dataset, "target", target, array.dims)
    grid = grid_of(sample, cell, sizes, y.edges, y.variable.dtype.itemsize)

    # Features with a dimension of the cells vary by cell.
    columns = [_column(dataset, "features", name, array.dims) for name in names]
    for column in columns:
        if not set(column.dims) & set(sample):
            raise InvalidArgumentError(
                f"features: {column.name!r} has the dimensions {column.dims!r}, none of sample_dims={sample_dims!r}: "
                "it is the same in all samples of a cell, as the intercept is. Leave it out."
            )
    varying = tuple(i for i, column in enumerate(columns) if set(column.dims) & set(cell))
    order = tuple(i for i in range(len(columns)) if i not in varying)
    shared = _shared(grid, [columns[i] for i in order], drop)
    weight = None
    own_weight = []
    if sample_weight is not None:
        [(title, variable)] = variable_of_rows(dataset, "sample_weight", sample_weight, grid.dims).items()
        column = CellColumn(str(title), variable)
        if set(variable.dims) & set(cell):
            own_weight = [column]
        else:
            weight = _shared_weights(grid, column, drop)

    of_tasks = [y, *(columns[i] for i in varying), *own_weight]
    readers, arrays, in_memory = _readers(grid, of_tasks)
    return CellSource(
        grid,
        names=names,
        shared=shared,
        order=order,
        varying=varying,
        weights=weight,
        readers=readers,
        titles=tuple(column.name for column in of_tasks),
        weighs_cells=bool(own_weight),
        target=array,
        arrays=arrays,
        in_memory=in_memory,
        drop=drop,
    )


class CellColumn(NamedTuple):
    """A variable over dimensions of the target, and the Zarr array that holds it if it is read from there."""

    name: str
    variable: xr.Variable
    stored: Stored | None = None

    @property
    def dims(self) -> tuple[Hashable, ...]:
        """The dimensions of the variable."""
        return self.variable.dims

    @property
    def edges(self) -> dict[str, Any] | None:
        """Where chunks begin along each dimension; None for a variable in memory."""
        if self.stored is not None:
            return self.stored.edges
        if self.variable.chunks is None:
            return None
        sizes = zip(self.dims, self.variable.chunks, strict=True)
        return {str(d): tuple(np.cumsum([0, *along]).tolist()) for d, along in sizes}


def _column(dataset: xr.Dataset, argument: str, name: str, dims: tuple[Hashable, ...]) -> CellColumn:
    """Return a variable of numbers over some of the dimensions."""
    try:
        variable = dataset[name].variable
    except (KeyError, TypeError, AttributeError) as error:
        have = ", ".join(map(repr, dataset.variables)) or "none"
        raise InvalidArgumentError(f"{argument}: the dataset has no variable {name!r}; it has {have}.") from error
    if other := [d for d in variable.dims if d not in dims]:
        raise InvalidArgumentError(
            f"{argument}: {name!r} has the dimension {other[0]!r}, which the target does not have. "
            f"Select one point with dataset.isel({other[0]}=0), or make variables of its points."
        )
    stored = stored_in(name, variable)
    if stored is not None:
        return CellColumn(name, variable, stored)
    return CellColumn(name, checked(variable, argument, name, None))


def _readers(
    grid: CellGrid, columns: list[CellColumn]
) -> tuple[tuple[CellReader, ...], tuple[da.Array, ...], tuple[da.Array, ...]]:
    """Return a reader for each column, the Dask arrays of which tasks are given blocks, and those in memory."""
    is_local = active_client() is None
    readers: list[CellReader] = []
    arrays: list[da.Array] = []
    in_memory: list[da.Array] = []
    for column in columns:
        if column.stored is not None:
            column.stored.column.check_sendable()
            readers.append(column.stored)
            continue
        packing = variable_packing(column.name, column.variable)
        array = expand(column.variable, grid.dims)
        # Tasks in threads of this process take arrays where they are.
        if isinstance(array, np.ndarray) and is_local:
            readers.append(InMemory(array, packing))
            continue
        readers.append(Given(len(arrays), packing))
        arrays.append(in_grid(array, grid.chunks))
        if isinstance(array, np.ndarray):
            in_memory.append(arrays[-1])
    return tuple(readers), tuple(arrays), tuple(in_memory)


def _values(grid: CellGrid, columns: list[CellColumn], argument: str) -> list[np.ndarray]:
    """Return variables over sample dimensions as values of all samples, each (samples,) float64."""
    # Lazy variables are computed together.
    variables = [checked(column.variable, argument, column.name, None) for column in columns]
    computed = compute(*(variable.data for variable in variables), what="the features that all cells share")
    found = []
    for column, variable, values in zip(columns, variables, computed, strict=True):
        values = decoded(np.asarray(values), variable_packing(column.name, variable))
        whole = expand(xr.Variable(column.dims, values), grid.sample_dims)
        found.append(np.broadcast_to(whole, grid.sample_shape).reshape(-1).astype(float))
    return found


def _shared(grid: CellGrid, columns: list[CellColumn], drop: bool) -> np.ndarray:
    """Return features that all cells share, (samples, features); refuse infinity, and NaN unless it is dropped."""
    found = _values(grid, columns, "features")
    for column, values in zip(columns, found, strict=True):
        _check_finite(grid, "features", column.name, values, drop)
    if not found:
        return np.zeros((prod(grid.sample_shape), 0))
    return np.stack(found, axis=1)


def _shared_weights(grid: CellGrid, column: CellColumn, drop: bool) -> np.ndarray:
    """Return row weights that all cells share, (samples,), 0 where they are missing."""
    [values] = _values(grid, [column], "sample_weight")
    _check_finite(grid, "sample_weight", column.name, values, drop)
    if (values < 0).any():
        row = int(np.argmax(values < 0))
        raise DataError(f"Negative weight {values[row]:g} at {_position(grid, row)} of {column.name!r}.")
    if not (values > 0).any():
        raise DataError(f"sample_weight: no weight of {column.name!r} is above 0.")
    return np.nan_to_num(values)


def _check_finite(grid: CellGrid, argument: str, name: str, values: np.ndarray, drop: bool) -> None:
    """Refuse infinity, and NaN unless it is dropped."""
    is_bad = np.isinf(values) if drop else ~np.isfinite(values)
    if not is_bad.any():
        return
    row = int(np.argmax(is_bad))
    remedy = "Remove or fill it before fitting"
    if np.isnan(values[row]):
        remedy += ", or leave such samples out with nan='drop'"
    raise NonFiniteError(f"{argument}: {values[row]} at {_position(grid, row)} of {name!r}. {remedy}.")


def _position(grid: CellGrid, row: int) -> str:
    """Return the indices of a sample, in words."""
    index = np.unravel_index(row, grid.sample_shape)
    return ", ".join(f"{d}={int(i)}" for d, i in zip(grid.sample_dims, index, strict=True))
