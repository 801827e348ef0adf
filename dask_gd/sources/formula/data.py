"""Tables that formulas are of, data frames of any library, Parquet, and Datasets: as parts that are pandas frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numpy as np
import xarray as xr
from dask.base import tokenize
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph

from ...errors import InvalidArgumentError, InvalidTypeError
from ..coercion import is_lazy_frame
from ..dask_frames import partitions_of
from ..fields import fill
from ..frames import empty_of, frame_of, frame_of_parquet
from ..packing import Packing
from ..partitions import grid_chunks
from ..variables import chunked, dims_in, expand, in_grid, variable, variable_packing


@dataclass(frozen=True)
class FrameData:
    """A data frame of pandas or Dask."""

    frame: Any
    sample_dims = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(map(str, self.empty.columns))

    @property
    def empty(self) -> Any:
        """A frame of pandas with the columns and, of Dask's, no rows."""
        return empty_of(self.frame)

    @property
    def memory(self) -> Any:
        """The frame of pandas; None where it is lazy."""
        if is_lazy_frame(self.frame):
            return None
        return self.frame

    def parts(self, labels: Sequence[Any]) -> list[Any]:
        """Return the partitions, delayed, with these columns only, or one that is read at any rate."""
        chosen = list(dict.fromkeys(labels)) or [self.frame.columns[0]]
        return partitions_of(self.frame[chosen])

    def with_columns(self, names: Sequence[str]) -> FrameData:
        """Return the data itself: its parts are the same for all columns."""
        return self


@dataclass(frozen=True)
class DatasetData:
    """Variables of a Dataset: every point of the sample dimensions is a row."""

    dataset: xr.Dataset
    sample_dims: tuple[str, ...]
    #: The variables that formulas may be of: their chunks make the grid.
    chosen: tuple[str, ...] = ()
    memory = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the variables, and coordinates, over the sample dimensions."""
        return tuple(str(name) for name in self.dataset.variables if self._is_over_samples(name))

    def _is_over_samples(self, name: Any) -> bool:
        """Return whether a variable has no other dimensions."""
        return set(self.dataset[name].dims) <= set(self.sample_dims)

    def variable(self, name: str) -> xr.Variable:
        """Return a variable of numbers or texts, chunked or in memory."""
        if name in self.dataset.variables:
            column = self.dataset[name].variable
            if column.dtype.kind in "OSUT":
                if not self._is_over_samples(name):
                    raise InvalidArgumentError(f"formula: {name!r} has dimensions that are no sample_dims.")
                return chunked(column)
        return variable(self.dataset, "formula", name, self.sample_dims)

    def with_columns(self, names: Sequence[str]) -> DatasetData:
        """Return the data with the grid of these variables."""
        return DatasetData(self.dataset, self.sample_dims, tuple(names))

    @property
    def variables(self) -> dict[str, xr.Variable]:
        """The variables by name."""
        return {name: self.variable(name) for name in self.chosen}

    @property
    def grid(self) -> tuple[tuple[int, ...], ...]:
        """The chunks of the grid, whose blocks are the parts."""
        sizes = tuple(self.dataset.sizes[d] for d in self.sample_dims)
        every = list(self.variables.values())
        return grid_chunks(every, self.sample_dims, sizes, width=max(1, len(every)), together=True)

    @property
    def empty(self) -> Any:
        """A frame of pandas with a column for each variable, and no rows."""
        import pandas as pd

        return pd.DataFrame({name: pd.Series([], dtype=self._dtype(name)) for name in self.chosen})

    def _dtype(self, name: str) -> Any:
        """Return the dtype that a variable has in a frame."""
        column = self.variable(name)
        if column.dtype.kind in "OSUT":
            return object
        packing = variable_packing(name, column)
        if packing is not None:
            return packing.dtype(column.dtype)
        return column.dtype

    def parts(self, labels: Sequence[Any]) -> list[Any]:
        """Return the blocks of the grid as frames, delayed, with these variables only."""
        names = tuple(dict.fromkeys(labels)) or self.chosen[:1]
        arrays = self.arrays(names)
        make = self.frame_maker(names)
        grid = self.grid
        shapes = list(product(*grid))
        numbers = list(product(*(range(len(sizes)) for sizes in grid)))
        name = f"dask_gd-formula-rows-{tokenize(names, grid, [array.name for array in arrays])}"
        graph: dict[Any, Any] = {}
        for i, (shape, index) in enumerate(zip(shapes, numbers, strict=True)):
            # Along dimensions that a variable does not depend on it has a single block.
            keys = [
                (array.name, *(min(at, blocks - 1) for at, blocks in zip(index, array.numblocks, strict=True)))
                for array in arrays
            ]
            graph[name, i] = (make, shape, *keys)
        layer = HighLevelGraph.from_collections(name, graph, dependencies=list(arrays))
        return [Delayed((name, i), layer, layer=name) for i in range(len(shapes))]

    def arrays(self, names: Sequence[str]) -> list[Any]:
        """Return the variables in the chunks of the grid."""
        grid = self.grid
        return [in_grid(expand(self.variable(name), self.sample_dims), grid) for name in names]

    def frame_maker(self, names: Sequence[str]) -> Callable[..., Any]:
        """Return the function that makes a frame of a block's shape and its pieces."""
        packings = tuple(self._packing(name) for name in names)
        return FrameOfPieces(tuple(names), packings)

    def _packing(self, name: str) -> Packing | None:
        """Return the packing of a variable of numbers."""
        column = self.variable(name)
        if column.dtype.kind in "OSUT":
            return None
        return variable_packing(name, column)


@dataclass(frozen=True)
class FrameOfPieces:
    """Makes a frame of pandas of the pieces of a block of a grid."""

    names: tuple[str, ...]
    packings: tuple[Packing | None, ...]

    def __call__(self, shape: tuple[int, ...], *pieces: np.ndarray) -> Any:
        """Return the frame of the rows, the last dimension fastest."""
        import pandas as pd

        columns = {}
        for name, piece, packing in zip(self.names, pieces, self.packings, strict=True):
            if packing is None:
                columns[name] = np.broadcast_to(piece, shape).ravel()
                if piece.dtype.kind not in "biuf":
                    columns[name] = columns[name].astype(object)
            else:
                out = np.empty((prod(shape), 1), packing.dtype(piece.dtype))
                fill(out, [piece], [packing], shape=shape, start=0)
                columns[name] = out[:, 0]
        return pd.DataFrame(columns)


Data = FrameData | DatasetData


def data_of(data: Any, sample_dims: Any, of_fit: tuple[str, ...] | None = None) -> Data:
    """Return the table that a formula is of; a Dataset without ``sample_dims`` has those ``of_fit``.

    Raises
    ------
    InvalidArgumentError, InvalidTypeError
        For anything that is no table.
    """
    if isinstance(data, xr.Dataset):
        return DatasetData(data, dims_in(data, sample_dims or of_fit))
    if sample_dims is not None:
        raise InvalidArgumentError(f"sample_dims={sample_dims!r} is for an xarray.Dataset; the data is none.")
    frame = frame_of_parquet(data)
    if frame is None:
        frame = frame_of(data)
    if frame is None:
        raise InvalidTypeError(
            f"A formula is of a table, whose columns it names: a data frame (pandas, Dask, pyarrow, polars), the path "
            f"of Parquet, or an xarray.Dataset; the data is a {type(data).__name__}."
        )
    return FrameData(frame)
