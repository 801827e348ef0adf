"""Weights in blocks from and to the arrays that users see."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import dask.array as da
import numpy as np

from ..errors import InvalidArgumentError
from ..model.losses import classes_of
from ..results.fit_result import FitResult
from ..results.stored_blocks import lazy_weights
from ..store.store import Checkpoint
from ..weight_blocks.expression import stored
from ..weight_blocks.space import BlockSpace
from ..weight_blocks.vector import BlockVector
from .block_track import BlockTrack


def with_weights(checkpoint: Checkpoint, track: BlockTrack) -> Checkpoint:
    """Return a checkpoint with lazy weights: of files that the run has committed, else of what the workers have."""
    v = track.state.weights
    outputs = classes_of(track.loss) or track.source.outputs
    dims, _ = checkpoint.arrays["intercept"]
    edges = list(track.space.grid.edges)
    node = v.node
    if node.is_constant:
        chunks = (tuple(np.diff(edges).tolist()), *((size,) for size in checkpoint.arrays["intercept"][1].shape))
        shape = (edges[-1], *checkpoint.arrays["intercept"][1].shape)
        weights = da.full(shape, float(np.ravel(node.value)[0]), chunks=chunks)
    else:
        pieces = track.pieces_of_weights(node)
        weights = lazy_weights(pieces, edges, outputs)
    return checkpoint._replace(arrays={**checkpoint.arrays, "weights": (("feature", *dims), weights)})


def start_in_blocks(
    initial_weights: Any,
    p: int,
    k: int,
    fit_intercept: bool,
) -> Callable[[BlockSpace], BlockVector]:
    """Return what makes the first weights on the workers of a space.

    Raises
    ------
    InvalidArgumentError
        For weights of another shape, or that are not finite.
    """
    constant = np.zeros((1, k, 1))
    values = initial_weights
    if isinstance(initial_weights, FitResult):
        values = initial_weights.weights.data
        # Levels that the other fit has left out.
        if len(initial_weights.dropped_levels):
            values = np.nan_to_num(values)
        if fit_intercept:
            constant[0, :, 0] = initial_weights.intercept.values.reshape(-1)
    # Weights that are lazy, as another fit's may be, are not looked at here.
    if not isinstance(values, da.Array) and not np.isfinite(np.asarray(values, float)).all():
        raise InvalidArgumentError("initial_weights holds NaN or infinity.")
    array = da.asarray(values)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim == 2 and array.shape == (p + 1, k) and fit_intercept:
        constant[0, :, 0] = np.asarray(array[p], float)
        array = array[:p]
    if array.shape != (p, k):
        raise InvalidArgumentError(
            f"initial_weights has shape {np.shape(values)}; this fit has {p} features and {k} outputs."
        )
    # Weights that are lazy are looked at where they are, a block at a time.
    if not (np.isfinite(constant).all() and bool(da.isfinite(array).all().compute())):
        raise InvalidArgumentError("initial_weights holds NaN or infinity.")

    def start(space: BlockSpace) -> BlockVector:
        blocks = [array[first:stop].rechunk(-1).astype(float)[:, :, None] for first, stop in pairwise(space.grid.edges)]
        node = stored(space.given(blocks), (k, 1), np.dtype(float))
        return BlockVector(space, node, constant)

    return start
