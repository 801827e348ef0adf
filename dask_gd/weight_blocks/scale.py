"""The natural size of a gradient in blocks: what makes the tolerance free of units, see `solvers.objective`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..solvers import vectors
from .block_sums import sum_of
from .expression import Node
from .prox import BlockProx
from .space import BlockSpace
from .vector import BlockVector, same, stored_node

#: A share of a column's square that is no spread.
NO_SPREAD = 1e-12


@dataclass(frozen=True)
class Scale:
    """Means and spreads of the columns, and the size of the slopes, from the first look at all rows.

    The spread of a column is the root of its mean square about its mean, or without an intercept about 0. That of the
    intercept is 1.
    """

    means: BlockVector  # (q, 1, 1); 0 without an intercept
    inverse_spreads: BlockVector  # (q, 1, 1)
    inverse_slopes: np.ndarray  # (1, k, 1), of the root mean square
    curvature: float  # a bound of the loss's second derivative, or about that

    @property
    def squares(self) -> BlockVector:
        """The mean squares of the columns, (q, 1, 1)."""
        return self.inverse_spreads**-2.0 + self.means**2

    def shares(self, gradient: BlockVector, weights: BlockVector, prox: BlockProx) -> BlockVector:
        """Return the gradient at the weights over its size, see `gradient_cosine`."""
        slope = gradient - self.means * vectors.intercept(gradient)
        return self._shares(prox.steepest(weights, slope))

    def norm_of_bound(self, bound: BlockVector) -> float:
        """Return the largest component of a bound (q, k, 1), of which none cancels another, over its size."""
        return largest_of(self._shares(bound + np.abs(self.means) * vectors.intercept(bound)))

    def _shares(self, slope: BlockVector) -> Any:
        """Return components over their sizes."""
        return np.abs(slope) * self.inverse_spreads * self.inverse_slopes

    def rounding_of(self, weights: BlockVector, of_sums: float, of_weights: float, rounding: float) -> BlockVector:
        """Return what rounding may have done to the gradient at the weights, (q, k, 1), see `fitting.rounding`.

        ``of_sums`` and ``of_weights`` are the shares of a sum of products and of a weight that rounding takes.
        """
        root: Any = np.sqrt(self.squares)
        size: Any = np.abs(weights)
        rounded = (of_sums + of_weights) * size
        rounded = BlockVector(weights.space, rounded.node, rounding * size.constant)
        along = sum_of(root, rounded)
        if weights.space.fit_intercept:
            along = along + (root.constant * rounded.constant)[0]
        return self.curvature * root * along[None] + of_sums * root / self.inverse_slopes


def largest_of(shares: BlockVector) -> float:
    """Return the largest component of any output."""
    return float(vectors.largest(shares).max())


def scale_of(
    space: BlockSpace,
    sums: Node,
    squares: Node,
    weight: float,
    slopes: np.ndarray,
    curvature: float,
) -> Scale:
    """Return the scale from the sums of the columns and of their squares, and those of the squared slopes (k,)."""
    mean_squares = BlockVector(space, squares, np.full((1, 1, 1), weight)) / weight
    means = same(space, 0.0, 0.0)
    variances = mean_squares
    if space.fit_intercept:
        means = BlockVector(space, sums, np.zeros((1, 1, 1))) / weight
        variances = np.maximum(mean_squares - means**2, NO_SPREAD * mean_squares)
    # A column of zeros is measured by the others' size.
    largest = float(vectors.largest(variances)[0]) or 1.0
    inverse_spreads = vectors.where(variances > 0, variances, largest) ** -0.5
    means = vectors.compact(means)
    inverse_spreads = vectors.compact(inverse_spreads)
    # What is compact is stored as such alone.
    space.compute([stored_node(v) for v in (means, inverse_spreads)], [])
    for v in (means, inverse_spreads):
        v.node.lasts = True
    roots = np.sqrt(slopes / weight)
    roots[roots <= 0] = roots.max() or 1.0
    return Scale(means, inverse_spreads, 1.0 / roots[None, :, None], curvature)
