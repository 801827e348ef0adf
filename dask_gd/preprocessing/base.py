"""The base of the transformers: checks of their input, a pass over its rows, and the form of their output."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import dask
import numpy as np
import xarray as xr
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.validation import check_is_fitted, validate_data

from .. import passes
from ..errors import InvalidArgumentError, InvalidTypeError
from ..sources import Source
from ..sources.coercion import checkable, is_lazy_frame, numbers
from ..sources.column import Column
from ..sources.columns import as_rows, check_shapes, check_stored, feature_names_of, holds_sparse
from ..sources.lazy import is_lazy
from ..sources.source import task_input
from ..validate import is_whole


class Transformer(TransformerMixin, BaseEstimator):
    """A transformer whose `fit` learns the parameters by which `transform` changes each row."""

    def _refuse_loading(self, X: Any) -> None:
        """Refuse lazy rows where `set_output` asks for a data frame in memory: scikit-learn would load them whole."""
        container = _get_output_config("transform", self)["dense"]
        is_in_memory = isinstance(X, xr.DataArray) and X.variable._in_memory
        if container == "default" or is_in_memory or not is_lazy(X):
            return
        owner = type(self).__name__
        raise InvalidTypeError(
            f"{owner} is set to give a frame of {container} (set_output, or sklearn.set_config(transform_output=...)), "
            f"which would load all rows of X, a lazy {type(X).__name__}. Call set_output(transform='default'): a lazy "
            "array gives a lazy array, and a Dask frame a Dask frame with names; or give rows in memory."
        )

    def _rows(
        self,
        X: Any,
        reset: bool = False,
        lengths: bool = True,
        **checks: Any,
    ) -> Column:
        """Return X, checked. Its width and names are learnt if ``reset``, else compared.

        ``checks`` are arguments of scikit-learn's validation of arrays in memory.
        """
        if not reset:
            check_is_fitted(self)
        # scikit-learn validates data in memory.
        if not is_lazy(X):
            array = validate_data(self, checkable(X, "X"), reset=reset, **checks)
            return as_rows(array, "X")
        owner = type(self).__name__
        if isinstance(X, Source):
            raise InvalidTypeError(f"{owner} was given a Source; give its features, such as group['X'].")
        if holds_sparse(X):
            raise InvalidTypeError(f"{owner} was given sparse rows; it takes dense ones, such as X[:1000].toarray().")
        rows = as_rows(X, "X", lengths=lengths)
        if len(rows.shape) != 2:
            raise InvalidArgumentError(
                f"{owner}: X must be 2-D, (rows, features); it has shape {rows.shape}. "
                "Of a single column make one with dask_array[:, None]."
            )
        # scikit-learn's validation does the same for arrays in memory.
        names = feature_names_of(X)
        if reset:
            self._learn_features(rows.shape[1], names)
        else:
            self._compare_features(rows.shape[1], names)
        check_stored(rows, "error", 0, rows.shape[0])
        return rows

    def _learn_features(self, width: int, names: tuple[str, ...] | None) -> None:
        """Set the number of features and their names, as scikit-learn's validation does."""
        self.n_features_in_ = width
        # Names of an earlier fit must not outlive it.
        if names is not None:
            self.feature_names_in_ = np.array(names, dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_

    def _compare_features(self, width: int, names: tuple[str, ...] | None) -> None:
        """Refuse features of another number than in the fit, or of other names."""
        owner = type(self).__name__
        if width != self.n_features_in_:
            raise InvalidArgumentError(f"{owner}: X has {width} features; it had {self.n_features_in_} in the fit.")
        # Names are compared only where both have them.
        if names is None:
            return
        fitted_names = tuple(getattr(self, "feature_names_in_", names))
        if fitted_names != names:
            i = next(i for i in range(width) if names[i] != fitted_names[i])
            raise InvalidArgumentError(
                f"{owner}: feature {i} is named {names[i]!r} but the fit had {fitted_names[i]!r} there; "
                "select and order the features as in the fit."
            )

    def _positions(self, columns: Any) -> np.ndarray:
        """Return the positions of columns, which may be named by position or name; None is all columns."""
        p = self.n_features_in_
        names = list(getattr(self, "feature_names_in_", ()))
        if columns is None:
            requested = list(range(p))
        else:
            requested = np.ravel(np.array(columns, dtype=object)).tolist()
        # Names become positions.
        positions = []
        for column in requested:
            if isinstance(column, str) and column in names:
                positions.append(names.index(column))
            else:
                positions.append(column)
        # A text that is the name of no column is refused like any other value that is no position.
        for position in positions:
            if not is_whole(position, least=0) or position >= p:
                or_names = ""
                if names:
                    or_names = f", or names of {', '.join(names)}"
                raise InvalidArgumentError(f"columns={columns!r}: {position!r} is none of 0 to {p - 1}{or_names}.")
        if not positions or len(set(positions)) < len(positions):
            raise InvalidArgumentError(f"columns={columns!r}: at least one column, and each once.")
        return np.array(positions, dtype=int)


def array_of(rows: Column) -> Any:
    """Return NumPy where the rows are in memory, else Dask, in blocks that have all columns."""
    if rows.memory is not None:
        return rows.memory
    return rows.lazy_rows(0, rows.shape[0]).rechunk({1: -1})


def transformed(
    X: Any,
    rows: Column,
    function: Callable,
    names: Any,
    dtype: np.dtype,
    most_rows: int | None = None,
) -> Any:
    """Return ``function`` of each row, in the form of X, with these names: lazy for lazy X.

    A frame gives a frame, a DataArray or a Zarr array that names its features a DataArray, any other input an array.
    Blocks have ``most_rows`` rows at most, but the blocks of a Dask frame are its partitions.
    """
    # A Dask frame keeps its partitions, and needs an empty frame as an example of the result.
    if is_lazy_frame(X):
        of_partition = partial(_frame_transformed, function=function, names=names)
        empty = np.empty((0, len(names)), dtype)
        frame_type = type(X._meta)
        meta = frame_type(empty, columns=list(names), index=X._meta.index[:0])
        return X.map_partitions(of_partition, meta=meta)
    # Data in memory is transformed at once.
    array = array_of(rows)
    if isinstance(array, np.ndarray):
        return labelled(X, function(array), names)
    # A lazy array keeps its blocks, unless the result's would be too large.
    if most_rows is not None:
        array = array.rechunk({0: _cut(array.chunks[0], most_rows)})
    lazy = array.map_blocks(
        function,
        chunks=(array.chunks[0], (len(names),)),
        dtype=dtype,
        meta=np.empty((0, 0), dtype),
        name=None,
    )
    return labelled(X, lazy, names)


def _frame_transformed(part: Any, function: Callable, names: Any) -> Any:
    """Return a partition of a frame, transformed."""
    values = function(numbers(part, "X"))
    return type(part)(values, columns=list(names), index=part.index)


def _cut(sizes: tuple[int, ...], most_rows: int) -> tuple[int, ...]:
    """Return the sizes of blocks that are cut into as few as have ``most_rows`` rows at most; unknown sizes stay."""
    if any(np.isnan(size) for size in sizes):
        return sizes
    pieces = []
    for size in sizes:
        # The pieces of a block are of the same size, or differ by a row.
        count = max(1, -(-size // most_rows))
        edges = np.linspace(0, size, count + 1).astype(int)
        pieces.append(np.diff(edges))
    return tuple(np.concatenate(pieces).tolist())


def labelled(X: Any, data: Any, names: Any) -> Any:
    """Return ``data`` with the labels of the rows of X and the names of its features, if X is labelled."""
    # A pandas frame or a Series.
    if hasattr(X, "iloc"):
        return type(X)(data, columns=list(names), index=X.index)
    if not isinstance(X, xr.DataArray):
        return data
    # The coordinates of the rows stay; the features are others now.
    features = X.dims[1]
    coords = X.coords.to_dataset().drop_dims([features], errors="ignore").coords
    array = xr.DataArray(data, dims=X.dims, coords=coords, name=X.name)
    return array.assign_coords({features: list(names)})


def one_pass(
    x: Column,
    weight: Column | None,
    summary: Callable,
    add: Callable,
) -> Any:
    """Return the sum of ``summary(rows, columns)`` over all rows, a window at a time, added up in a fixed tree.

    The partitions are those of a fit, so that the result has the same bits wherever it is computed. ``columns`` are
    as `check_values` takes them.
    """
    check_shapes(x, x, weight)
    check_stored(weight, "error", 0, x.shape[0])
    # The features decide the partitions, and weights follow.
    bounds = x.partition_bounds(0, x.shape[0])
    columns = {"x": x.aligned(bounds)}
    if weight is not None:
        columns["weight"] = weight.aligned(bounds)
    # Tasks read stored columns themselves, and are given the blocks of others.
    reader, blocks = task_input(columns, bounds, x.row_format(x.dtype))
    each_alone = tuple((i,) for i in range(len(bounds) - 1))
    summation = partial(summed, summary=summary, add=add)
    work = passes.Work(reader, summation, each_alone, key=uuid.uuid4().hex, add=add)
    # Rows in memory are not sent to a cluster.
    settings = {}
    if x.memory is not None:
        settings = {"scheduler": "threads"}
    with dask.config.set(settings):
        return passes.reduce_rows(work, blocks, name="gd-rows", data=x.name, what="a pass over X")


def summed(rows_of_partition: passes.PartitionRows, summary: Callable, add: Callable) -> Any:
    """Return the summary of a partition, added up window by window."""
    columns = rows_of_partition.columns()
    return reduce(add, (summary(rows, columns) for _, rows in rows_of_partition.windows))
