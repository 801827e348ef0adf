"""Put the estimates of columns of cells together: in memory as they come, or lazily from files."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import dask.array as da
import numpy as np

from .kept_parts import read_arrays

#: Estimates as tasks give them.
Estimates = dict[str, np.ndarray]


class Shapes(NamedTuple):
    """What a fit has of each cell."""

    features: int
    fit_intercept: bool
    penalised: bool
    #: Observations are sums of weights, and not counts.
    is_weighted: bool

    @property
    def parameters(self) -> int:
        """The number of coefficients of a cell."""
        return self.features + self.fit_intercept

    def dtypes(self) -> dict[str, tuple[np.dtype, int | None]]:
        """Return the dtype of each array, and how many of it a cell has; None for one without an axis."""
        number = np.dtype(float)
        count = number if self.is_weighted else np.dtype(np.int32)
        found: dict[str, tuple[np.dtype, int | None]] = {"weights": (number, self.features)}
        if self.fit_intercept:
            found["intercept"] = (number, None)
        if not self.penalised:
            found["standard_error"] = (number, self.parameters)
            found["dispersion"] = (number, None)
            found["dof"] = (count, None)
        found |= {"loss": (number, None), "rsquared": (number, None), "nobs": (count, None)}
        found["status"] = (np.dtype(np.int8), None)
        return found


def arrays_of(estimates: Estimates, shapes: Shapes) -> Estimates:
    """Return the arrays of a result, by name, from the estimates of a column: last axes are cells."""
    coefficient = estimates["coefficient"]
    found = {"weights": coefficient[: shapes.features], "intercept": coefficient[-1], **estimates}
    return {name: found[name].astype(dtype, copy=False) for name, (dtype, _) in shapes.dtypes().items()}


def empty(shapes: Shapes, cells: tuple[int, ...]) -> Estimates:
    """Return arrays for cells of this shape."""
    arrays = {}
    for name, (dtype, axis) in shapes.dtypes().items():
        first = () if axis is None else (axis,)
        arrays[name] = np.empty((*first, *cells), dtype)
    return arrays


def put(arrays: Estimates, box: tuple[tuple[int, int], ...], estimates: Estimates, shapes: Shapes) -> None:
    """Put the estimates of a column in their place."""
    region = tuple(slice(*span) for span in box)
    shape = tuple(stop - start for start, stop in box)
    for name, values in arrays_of(estimates, shapes).items():
        whole: Any = (..., *region)
        arrays[name][whole] = values.reshape(*values.shape[:-1], *shape)


def file_of(directory: Path, column: int) -> Path:
    """Return the file with the estimates of a column."""
    return directory / f"column-{column}.npz"


def columns_in(directory: Path) -> set[int]:
    """Return the columns of which there are estimates."""
    return {int(file.stem.removeprefix("column-")) for file in directory.glob("column-*.npz")}


def from_files(
    directory: Path, shapes: Shapes, chunks: tuple[tuple[int, ...], ...], caller: str
) -> dict[str, da.Array]:
    """Return lazy arrays of the estimates in files, in chunks that are columns of cells."""
    arrays = {}
    counts = tuple(map(len, chunks))
    for name, (dtype, axis) in shapes.dtypes().items():
        first: tuple[Any, ...] = () if axis is None else ((axis,),)
        whole = (*first, *chunks)
        read = partial(
            _block, directory=directory, name=name, shapes=shapes, counts=counts, chunks=whole, caller=caller
        )
        arrays[name] = da.map_blocks(read, chunks=whole, dtype=dtype, meta=np.empty((0,) * len(whole), dtype))
    return arrays


def _block(
    directory: Path,
    name: str,
    shapes: Shapes,
    counts: tuple[int, ...],
    chunks: tuple[tuple[int, ...], ...],
    caller: str,
    block_id: tuple[int, ...] = (),
) -> np.ndarray:
    """Return the estimates of a column from its file."""
    column = int(np.ravel_multi_index(block_id[-len(counts) :], counts))
    estimates = read_arrays(file_of(directory, column), caller)
    shape = tuple(along[i] for along, i in zip(chunks, block_id, strict=True))
    return arrays_of(estimates, shapes)[name].reshape(shape)
