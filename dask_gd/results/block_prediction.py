"""Predictions of weights in blocks, which never come together: block after block is multiplied, and added up.

The products of a row with the column blocks are added in the order of the blocks. For rows that are not in memory each
product is a task of its own, which takes the sum of those before it: its memory is that of some rows and of one chunk
of the weights, and Dask moves the sums, which are small, to where the weights are.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

import dask.array as da
import numpy as np
from dask.highlevelgraph import HighLevelGraph
from scipy.sparse import csr_array, issparse

from ..errors import DataError
from ..kernels.codes import CodedRows
from ..kernels.dense import DenseRows
from ..kernels.products import linear
from ..model.losses import Loss
from ..sources import Reader, Source
from ..sources.column_grid import grid_of
from ..sources.gate import is_sparse
from ..worker_env import one_blas_thread
from .features import prediction_dtype

#: Batches of rows that are predicted together, at most: all that their size asks for.
BATCHES = 1 << 30


def predict_in_blocks(x: Any, weights: da.Array, intercept: np.ndarray, loss: Loss) -> Any:
    """Return the mean of the target for each row, for weights (p,) or (p, k) in chunks.

    Parameters
    ----------
    x : Source, dask.array, numpy.ndarray or sparse matrix
        Features: a Source that is stored by columns, whose column blocks are read by themselves; or rows, dense or
        sparse, which are cut where chunks of the weights begin.

    Returns
    -------
    array
        NumPy for rows in memory, else Dask, not yet computed.
    """
    # The outputs are never cut.
    if weights.ndim == 2:
        weights = weights.rechunk({1: -1})
    if isinstance(x, Source):
        dtype = x.dtype
        z = _linear_of_columns(x, weights)
    else:
        dtype = prediction_dtype(x)
        if not isinstance(x, da.Array):
            return mean_of(_linear_in_memory(x, weights), intercept, loss, dtype)
        z = _linear_of_rows(x, weights)
    mean = partial(mean_of, intercept=intercept, loss=loss, dtype=dtype)
    return da.map_blocks(mean, z, dtype=dtype, meta=np.empty((0,) * z.ndim, dtype))


def mean_of(z: np.ndarray, intercept: np.ndarray, loss: Loss, dtype: np.dtype) -> np.ndarray:
    """Return the mean of the target from the linear predictions without an intercept."""
    return loss.inverse_link(z + intercept).astype(dtype, copy=False)


def _linear_in_memory(x: Any, weights: da.Array) -> np.ndarray:
    """Return ``x w`` for rows in memory: one chunk of the weights is there at a time."""
    edges = list(accumulate(weights.chunks[0], initial=0))
    pieces = cut(x, edges)
    z = np.zeros((x.shape[0], *weights.shape[1:]))
    for j, piece in enumerate(pieces):
        of_block = weights.blocks[j].compute()
        z += linear(piece, of_block, np.zeros(()))
    return z


def _linear_of_rows(x: da.Array, weights: da.Array) -> da.Array:
    """Return ``x w`` for blocks of rows, each cut where chunks of the weights begin."""
    edges = list(accumulate(weights.chunks[0], initial=0))
    name = _new_name()
    pieces: dict[tuple, tuple] = {}
    if is_sparse(x._meta):
        # A block's pieces lie behind one another once.
        x = x.rechunk({1: -1})
        for i in range(x.numblocks[0]):
            pieces[(f"{name}-cut", i)] = (cut, (x.name, i, 0), edges)
    else:
        x = x.rechunk({1: weights.chunks[0]})
    graph: dict[tuple, Any] = dict(pieces)
    for i in range(x.numblocks[0]):
        before: tuple | None = None
        for j in range(len(edges) - 1):
            chunk = (weights.name, j, *[0] * (weights.ndim - 1))
            key = (f"{name}-sum", i, j)
            if pieces:
                graph[key] = (_add_piece, before, (f"{name}-cut", i), j, chunk)
            else:
                graph[key] = (_add_rows, before, (x.name, i, j), chunk)
            before = key
        graph[(name, i, *[0] * (weights.ndim - 1))] = before
    return _array(graph, name, [x, weights], x.chunks[0], weights)


def _linear_of_columns(source: Source, weights: da.Array) -> da.Array:
    """Return ``x w`` for features that are stored by columns, of which a task reads one block."""
    grid = grid_of(source, BATCHES)
    # As the weights lie after a fit to the same features.
    sizes = tuple(np.diff(grid.edges).tolist())
    weights = weights.rechunk({0: sizes})
    name = _new_name()
    graph: dict[tuple, Any] = {}
    # Whoever reads a block gets its reader once.
    for j in range(len(sizes)):
        graph[(f"{name}-reader", j)] = grid.reader(j)
    for s in range(len(grid.segments) - 1):
        before: tuple | None = None
        for j in range(len(sizes)):
            chunk = (weights.name, j, *[0] * (weights.ndim - 1))
            key = (f"{name}-sum", s, j)
            graph[key] = (_add_block, before, (f"{name}-reader", j), s, chunk)
            before = key
        graph[(name, s, *[0] * (weights.ndim - 1))] = before
    batches = tuple(np.diff(grid.segments).tolist())
    return _array(graph, name, [weights], batches, weights)


def _new_name() -> str:
    """Return a name for the tasks of a prediction."""
    return f"dask_gd-predict-{uuid.uuid4().hex}"


def _array(
    graph: dict,
    name: str,
    dependencies: Sequence[Any],
    rows: tuple[int, ...],
    weights: da.Array,
) -> da.Array:
    """Return linear predictions, of these numbers of rows, as a Dask array."""
    layers = HighLevelGraph.from_collections(name, graph, dependencies=dependencies)
    chunks = (rows, *weights.chunks[1:])
    return da.Array(layers, name, chunks, dtype=float, meta=np.empty((0,) * weights.ndim))


# The tasks.


def _add_rows(before: np.ndarray | None, x: Any, weights: np.ndarray) -> np.ndarray:
    """Return the product of rows of a column block with its weights, added to the sum of the blocks before it."""
    product = linear(x, weights, np.zeros(()))
    if before is None:
        return product
    # What another task has returned is its own.
    return before + product


def _add_piece(before: np.ndarray | None, pieces: list, j: int, weights: np.ndarray) -> np.ndarray:
    """Return the same of a piece of sparse rows."""
    return _add_rows(before, pieces[j], weights)


def _add_block(before: np.ndarray | None, reader: Reader, segment: int, weights: np.ndarray) -> np.ndarray:
    """Return the same of a column block, whose rows are read.

    Raises
    ------
    DataError
        Naming the row and the column of a code that stands for no level.
    """
    row_format = reader.row_format
    workspace = row_format.workspace(None)
    prepared = workspace.weights(weights.reshape(len(weights), -1))
    start = reader.bounds[segment]
    product = np.empty((reader.bounds[segment + 1] - start, *weights.shape[1:]))
    with one_blas_thread():
        for _, rows in reader((segment,)):
            count = len(rows.y)
            own = product[rows.start - start : rows.start - start + count]
            # Predictions are taken in float64.
            if isinstance(row_format, DenseRows):
                own[:] = linear(rows.x, weights, np.zeros(()))
                continue
            if isinstance(row_format, CodedRows):
                _check_codes(reader, segment, rows)
            for first in range(0, count, row_format.block_rows):
                part = slice(first, min(first + row_format.block_rows, count))
                block = workspace.block(row_format.take(rows.x, part))
                own[part] = block.times(prepared).reshape(own[part].shape)
    if before is not None:
        product += before
    return product


def _check_codes(reader: Reader, segment: int, rows: Any) -> None:
    """Refuse codes that stand for no level; a missing one makes the prediction NaN."""
    bad = reader.row_format.first_bad(rows.x)
    if bad is not None and bad.why:
        place = reader.bind(segment, ())["x"].where(rows.start + bad.row, bad.column or 0)
        raise DataError(f"predict(x): {bad.value:g} in row {rows.start + bad.row} of {place} {bad.why}.")


def cut(rows: Any, edges: Sequence[int]) -> list:
    """Return rows, dense or sparse, in pieces that have the columns between each two edges.

    Examples
    --------
    >>> rows = csr_array(np.array([[1.0, 0.0, 2.0], [0.0, 3.0, 4.0]]))
    >>> [piece.toarray().tolist() for piece in cut(rows, [0, 1, 3])]
    [[[1.0], [0.0]], [[0.0, 2.0], [3.0, 4.0]]]
    """
    if not issparse(rows):
        return [rows[:, start:stop] for start, stop in pairwise(edges)]
    rows = csr_array(rows)
    # The entries of each piece in their order: sorted by piece, which leaves their order as it is.
    piece_of = np.searchsorted(edges, rows.indices, side="right") - 1
    if len(edges) <= np.iinfo(np.int16).max:
        # Numbers so small are sorted in a few sweeps.
        piece_of = piece_of.astype(np.int16)
    order = np.argsort(piece_of, kind="stable")
    ends = np.searchsorted(piece_of[order], np.arange(len(edges)))
    pieces = []
    for (first, last), (start, stop) in zip(pairwise(ends), pairwise(edges), strict=True):
        entries = order[first:last]
        indptr = np.searchsorted(entries, rows.indptr)
        own = (rows.data[entries], rows.indices[entries] - start, indptr)
        pieces.append(csr_array(own, shape=(rows.shape[0], stop - start)))
    return pieces
