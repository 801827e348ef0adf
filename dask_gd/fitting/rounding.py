"""How exact sums over rows are, and what their rounding may have done to a gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..kernels.base import Moments
from ..model.losses import Loss
from ..sources import Source

#: A gradient within this many times the bound of its rounding is 0 as far as can be told, if it is no more than
#: `LARGEST_ROUNDING`.
MARGIN_OF_ROUNDING = 10.0
LARGEST_ROUNDING = 1e-3
#: A gradient over its scale that is rounding in any case: sums over many rows in float64 keep no more digits, and a
#: step along it changes the loss by its square, far below the loss's own rounding.
SMALLEST_TOLD = 1e-10


class Unit(NamedTuple):
    """The share of a sum of products, and of a weight, that rounding takes; and the number of features."""

    sums: float
    weights: float
    features: int


def unit_of(source: Source, rounding: float) -> Unit:
    """Return how exact sums over the rows are: as exact as their many blocks average out."""
    n, p = source.shape
    blocks = max(1.0, n / source.row_format.block_rows)
    eps = float(np.finfo(source.dtype).eps)
    of_sums = max(rounding, 4 * eps / np.sqrt(blocks))
    return Unit(sums=of_sums, weights=eps, features=p)


def rounding_bound(
    state: Any,
    moments: Moments,
    weight: float,
    unit: Unit,
    loss: Loss,
) -> np.ndarray:
    """Return what rounding may have done to the gradient at the weights, (q, k, 1), by a bound of the curvature.

    By Cauchy and Schwarz no entry of the curvature is above the root of its diagonal's two.
    """
    bound = loss.curvature_bound
    if bound is None:
        bound = float(moments.curvatures.max() / weight)
    root = np.sqrt(moments.features / weight)[:, None]

    def curved(values: np.ndarray) -> np.ndarray:
        return bound * root * (root * values).sum(axis=0)

    return uncertainty(state, moments, weight, unit, curved)


def uncertainty(
    state: Any,
    moments: Moments,
    weight: float,
    unit: Unit,
    curved: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Return what rounding may have done to the gradient, (q, k, 1); ``curved`` is a product with absolute curvatures.

    The weights' own rounding to the data's dtype is the same in all sums.
    """
    # The rounding of weights, which changes the gradient by the curvature. The intercept is added in float64.
    weights = np.abs(state.weights[:, :, 0])
    query = np.abs(state.query).max(axis=2)
    rounded = unit.sums * query + unit.weights * weights
    p = unit.features
    rounded[p:] = state.rounding * query[p:]
    size = curved(rounded)

    # The rounding of the sums.
    products = moments.features[:, None] * moments.slopes[None, :]
    size += unit.sums * np.sqrt(products) / weight

    # So that centring does not cancel what rounding may have added.
    if len(size) > p:
        signs = np.where(moments.sums[:p] > 0, -1.0, 1.0)
        size[:p] *= signs[:, None]
    return size[:, :, None]


def is_rounding(norm: float, bound: float) -> bool:
    """Return whether a gradient is 0 as far as can be told, both as `gradient_cosine` measures them."""
    tellable = min(MARGIN_OF_ROUNDING * bound, LARGEST_ROUNDING)
    return norm <= max(SMALLEST_TOLD, tellable)
