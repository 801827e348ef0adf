"""Predict tables by the formula of a fit, with the levels, means and knots that it has learnt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from ..errors import InvalidArgumentError
from ..sources import Source
from ..sources.coded_table import CodedTable
from ..sources.formula.data import DatasetData, FrameData, data_of
from ..sources.formula.design import Design
from ..sources.formula.expressions import labels_by_name
from ..sources.formula.source import Beside, Maker, lazy_arrays
from ..sources.frames import column_named


def predict_by_formula(run: Any, x: Any, offset: Any) -> Any:
    """Return the predictions of a table, see `FitResult.predict`.

    Raises
    ------
    InvalidArgumentError, InvalidTypeError, DataError
        As in `FitResult.predict`.
    """
    formula = run.formula
    if isinstance(x, Source):
        raise InvalidArgumentError(
            f"predict(x): the fit was of the formula {formula.text!r}; give a table, whose columns it names."
        )
    table = data_of(x, None, formula.sample_dims)
    parsed = formula.parsed
    names = tuple(dict.fromkeys(name for each in parsed.expressions for name in each.columns))
    table = table.with_columns(names)
    if parsed.offsets and offset is not None:
        raise InvalidArgumentError("predict(x, offset): the formula has an offset(...) of its own.")
    labels = labels_by_name(table.empty, names)
    maker = Maker(Design(formula, table.empty.iloc[:0], labels), Beside((), offsets=parsed.offsets))
    # What is left is a fit to rows of the design.
    plain = replace(run, formula=None)
    if isinstance(table, DatasetData):
        return _of_dataset(OfParts(plain, maker), table, offset)
    assert isinstance(table, FrameData)
    frame_offset = column_named(table.frame, offset, "offset")
    if table.memory is not None:
        return OfParts(plain, maker)(table.memory, frame_offset)
    rows, others = lazy_arrays(maker, table.parts([labels[name] for name in names]), None)
    if parsed.offsets:
        frame_offset = others[:, 0]
    return _predicted(plain, maker.design, rows, frame_offset)


def _predicted(run: Any, design: Design, rows: Any, offset: Any) -> Any:
    """Return the predictions of rows of a design."""
    if design.encoding is not None:
        rows = CodedTable(rows, design.encoding, np.dtype(float))
    return run.predict(rows, offset)


@dataclass(frozen=True)
class OfParts:
    """Predicts the rows of frames of pandas."""

    run: Any
    maker: Maker

    def __call__(self, part: Any, offset: Any = None) -> np.ndarray:
        """Return the predictions of a frame."""
        design = self.maker.design
        rows = design.rows(part)
        if self.maker.beside.offsets:
            offset = self.maker.beside.of(rows, design.formula)[:, 0]
        return _predicted(self.run, design, design.of(part), offset)


@dataclass(frozen=True)
class OfPieces:
    """Predicts a block of the grid of a Dataset, whose variables are pieces."""

    predict: OfParts
    frame: Any
    names: tuple[str, ...]
    has_offset: bool
    outputs: tuple[int, ...]

    def __call__(self, *pieces: np.ndarray) -> np.ndarray:
        """Return the predictions, over the dimensions of the block and the outputs."""
        shape = np.broadcast_shapes(*(piece.shape for piece in pieces))
        part = self.frame(shape, *pieces)
        offset = None
        if self.has_offset:
            offset = part.iloc[:, -1].to_numpy(float)
        return self.predict(part, offset).reshape((*shape, *self.outputs))


def _of_dataset(predict: OfParts, table: DatasetData, offset: Any) -> xr.DataArray:
    """Return the predictions of a Dataset, over its sample dimensions, not computed if a variable is lazy."""
    run = predict.run
    names = table.chosen
    if offset is not None:
        if not isinstance(offset, str):
            raise InvalidArgumentError("predict(dataset, offset): with a formula, offset is the name of a variable.")
        names = (*names, offset)
        table = table.with_columns(tuple(dict.fromkeys(names)))
    outputs = tuple(run.weights.shape[1:])
    arrays = table.arrays(names)
    pieces = OfPieces(predict, table.frame_maker(names), names, offset is not None, outputs)
    chunks = (*table.grid, *((k,) for k in outputs))
    dims = table.sample_dims
    whole = tuple(sum(sizes) for sizes in table.grid)
    # Along dimensions that no variable has, predictions are the same.
    computed_chunks = []
    for axis, sizes in enumerate(table.grid):
        has_it = any(array.shape[axis] == sum(sizes) for array in arrays)
        computed_chunks.append(sizes if has_it else (1,))
    new_axis = {}
    if outputs:
        new_axis = {"new_axis": len(dims)}
    values = da.map_blocks(
        pieces,
        *arrays,
        chunks=(*computed_chunks, *((k,) for k in outputs)),
        dtype=float,
        meta=np.empty((0,) * len(chunks)),
        **new_axis,
    )
    values = da.broadcast_to(values, (*whole, *outputs), chunks=chunks)
    if all(isinstance(variable.data, np.ndarray) for variable in table.variables.values()):
        values = values.compute(scheduler="synchronous")
    coords: dict[Any, Any] = {
        name: coord for name, coord in table.dataset.coords.items() if set(coord.dims) <= set(dims)
    }
    if "output" in run.weights.coords:
        coords["output"] = run.weights.coords["output"]
    names_of_dims = (*dims, *run.weights.dims[1:])
    return xr.DataArray(values, dims=names_of_dims, coords=coords, name="prediction", attrs=run.target_attrs)
