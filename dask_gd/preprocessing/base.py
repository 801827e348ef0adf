"""What the transformers share: checks of their input, one pass over its rows, and the form of their output."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable
from functools import partial, reduce
from typing import Any, NamedTuple

import dask
import numpy as np
import xarray as xr
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from ..cluster import compute
from ..errors import InvalidArgumentError, InvalidTypeError
from ..kernels.base import FAN_IN
from ..passes.graph import sum_of_tasks
from ..sources import Reader, Source
from ..sources.blocks import paired
from ..sources.coercion import checkable, is_lazy_frame, numbers
from ..sources.columns import as_rows, check_shapes, check_stored, feature_names_of
from ..sources.dask_column import DaskColumn
from ..sources.lazy import is_lazy
from ..sources.zarr_column import ZarrColumn
from ..worker_env import keep_pages, one_blas_thread, relieve

#: X as streamed or materialised rows.
Columns = ZarrColumn | DaskColumn


class Transformer(TransformerMixin, BaseEstimator):
    """Learns in `fit` what `transform` applies to each row."""

    def _rows(self, X: Any, reset: bool = False, lengths: bool = True, **checks: Any) -> Columns:
        """X checked; its width and names are learnt if ``reset``, else compared. ``checks`` are scikit-learn's."""
        if not reset:
            check_is_fitted(self)
        if not is_lazy(X):
            return as_rows(validate_data(self, checkable(X, "X"), reset=reset, **checks), "X")
        if isinstance(X, Source):
            raise InvalidTypeError(f"{type(self).__name__} was given a Source; give its features, such as group['X'].")
        rows = as_rows(X, "X", lengths=lengths)
        owner = type(self).__name__
        if len(rows.shape) != 2:
            raise InvalidArgumentError(
                f"{owner}: X must be 2-D, (rows, features); it has shape {rows.shape}. "
                "Of a single column make one with dask_array[:, None]."
            )
        names = feature_names_of(X)
        width = rows.shape[1]
        if reset:
            self.n_features_in_ = width
            if names is not None:
                self.feature_names_in_ = np.array(names, dtype=object)
            elif hasattr(self, "feature_names_in_"):
                del self.feature_names_in_
        elif width != self.n_features_in_:
            raise InvalidArgumentError(f"{owner}: X has {width} features; it had {self.n_features_in_} in the fit.")
        elif names is not None and (fitted := tuple(getattr(self, "feature_names_in_", names))) != names:
            i = next(i for i in range(width) if names[i] != fitted[i])
            raise InvalidArgumentError(
                f"{owner}: feature {i} is named {names[i]!r} but the fit had {fitted[i]!r} there; "
                "select and order the features as in the fit."
            )
        check_stored(rows, "error", 0, rows.shape[0])
        return rows

    def _positions(self, columns: Any) -> np.ndarray:
        """Of columns given by position or name; None is all of them."""
        p = self.n_features_in_
        names = list(getattr(self, "feature_names_in_", ()))
        if columns is None:
            asked = list(range(p))
        else:
            asked = np.ravel(np.array(columns, dtype=object)).tolist()
        found = [names.index(c) if isinstance(c, str) and c in names else c for c in asked]
        for column in found:
            if not isinstance(column, int | np.integer) or isinstance(column, bool) or not 0 <= column < p:
                known = ""
                if names:
                    known = f", or names of {', '.join(names)}"
                raise InvalidArgumentError(f"columns={columns!r}: {column!r} is none of 0 to {p - 1}{known}.")
        if not found or len(set(found)) < len(found):
            raise InvalidArgumentError(f"columns={columns!r}: at least one column, and each once.")
        return np.array(found, dtype=int)


def array_of(rows: Columns) -> Any:
    """NumPy where the rows are in memory, else Dask, in blocks that have all columns."""
    if isinstance(rows, DaskColumn) and rows.memory is not None:
        return rows.memory
    return (rows.lazy if isinstance(rows, ZarrColumn) else rows.array).rechunk({1: -1})


def transformed(X: Any, rows: Columns, function: Callable, names: Any, dtype: np.dtype, most: int | None = None) -> Any:
    """Return ``function`` of each row, in the form of X, with these names: lazy for lazy X.

    A frame gives a frame, a DataArray or a Zarr array that names its features a DataArray, all else an array. Blocks of
    ``most`` rows at most, but those of a Dask frame are its partitions.
    """
    if is_lazy_frame(X):
        frame = partial(_frame_transformed, function=function, names=names)
        meta = type(X._meta)(np.empty((0, len(names)), dtype), columns=list(names), index=X._meta.index[:0])
        return X.map_partitions(frame, meta=meta)
    array = array_of(rows)
    if isinstance(array, np.ndarray):
        found = function(array)
    else:
        if most is not None:
            array = array.rechunk({0: _cut(array.chunks[0], most)})
        chunks = (array.chunks[0], (len(names),))
        found = array.map_blocks(function, chunks=chunks, dtype=dtype, meta=np.empty((0, 0), dtype), name=None)
    return labelled(X, found, names)


def _frame_transformed(part: Any, function: Callable, names: Any) -> Any:
    """Return a partition of a frame, transformed."""
    return type(part)(function(numbers(part, "X")), columns=list(names), index=part.index)


def _cut(sizes: tuple[int, ...], most: int) -> tuple[int, ...]:
    """Return the sizes of blocks cut into as few as have at most so many rows; unknown ones stay."""
    if any(np.isnan(size) for size in sizes):
        return sizes
    pieces = [np.diff(np.linspace(0, size, max(1, -(-size // most)) + 1).astype(int)) for size in sizes]
    return tuple(np.concatenate(pieces).tolist())


def labelled(X: Any, data: Any, names: Any) -> Any:
    """Return ``data`` with the labels of the rows of X and these features, if X has such."""
    if hasattr(X, "iloc"):
        return type(X)(data, columns=list(names), index=X.index)
    if not isinstance(X, xr.DataArray):
        return data
    coords = X.coords.to_dataset().drop_dims([X.dims[1]], errors="ignore").coords
    return xr.DataArray(data, dims=X.dims, coords=coords, name=X.name).assign_coords({X.dims[1]: list(names)})


def one_pass(x: Columns, weight: Columns | None, summary: Callable, add: Callable) -> Any:
    """``summary(rows, columns)`` of some rows at a time, added up in a fixed tree.

    The partitions are those of a fit, so that the result has the same bits wherever it is computed. ``columns`` are
    as `check_values` takes them.
    """
    check_shapes(x, x, weight)
    check_stored(weight, "error", 0, x.shape[0])
    bounds = x.partition_bounds(0, x.shape[0])
    given = {"x": x, "weight": weight}
    columns = {role: column.aligned(bounds) for role, column in given.items() if column is not None}
    in_tasks = {role: column.for_tasks() for role, column in columns.items()}
    reader = Reader(bounds, x.dtype, features=x.shape[1], outputs=0, columns=in_tasks)
    in_blocks = [column for role, column in columns.items() if in_tasks[role].takes_block]
    total = sum_of_tasks(
        uuid.uuid4().hex,
        summed,
        Summary(reader, summary, add),
        numbers=range(len(bounds) - 1),
        blocks=paired(in_blocks),
        width=FAN_IN,
        literal=True,
        at_once=False,
        add=add,
        name="gd-rows",
    )
    # Rows in memory are not sent to a cluster.
    here = isinstance(x, DaskColumn) and x.memory is not None
    with dask.config.set({"scheduler": "threads"} if here else {}):
        [[found]] = compute(total, what="a pass over X")
    return found


class Summary(NamedTuple):
    """What every task of a pass over X has in common."""

    reader: Reader
    summary: Callable
    add: Callable


def summed(work: Summary, number: int, blocks: tuple = ()) -> list:
    """The task: a partition's summary."""
    reader, summary, add = work
    keep_pages()
    with one_blas_thread(), contextlib.closing(reader((number,), *blocks)) as windows:
        columns = reader.bind(number, blocks)
        found = [reduce(add, (summary(rows, columns) for _, rows in windows))]
    relieve()
    return found
