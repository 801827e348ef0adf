"""A curvature of some of the rows in place of all: of a few rows of every so many cache blocks of a partition."""

from __future__ import annotations

import numpy as np

from .block import Block

#: Rows of a block that are taken at least: with fewer their products would take longer for each row.
LEAST_ROWS = 128


class Thinning:
    """Which rows' curvatures (q, q, outputs) are summed, and what makes up for those that are not.

    One row in about ``thin`` is taken, of blocks of ``step`` rows: the first rows of a block, and none of the next.

    All rows tell what each feature's share of the trace is, ``sum_i h_i x_ij^2`` with h summed over the outputs. The
    curvature is scaled to these. So a feature that is rare keeps its size, also where the few rows that have it are not
    taken.
    """

    def __init__(self, thin: int, step: int, parameters: int):
        self.rows = min(step, max(LEAST_ROWS, -(-step // thin)))
        self.every = max(1, thin * self.rows // step)
        self.blocks = 0
        self.squares = np.zeros(parameters)

    def takes(self, block: Block, h: np.ndarray) -> bool:
        """Return whether rows of a block are taken, whose second derivatives are h (n, outputs)."""
        total = h.sum(axis=1)
        _, squares = block.sums_and_squares(total)
        p = len(squares)
        self.squares[:p] += squares
        # The intercept, if there is one, is a feature that is 1 in every row.
        self.squares[p:] += total.sum()
        self.blocks += 1
        return (self.blocks - 1) % self.every == 0

    def of_all_rows(self, curvature: np.ndarray) -> np.ndarray:
        """Return the sum over the rows that were taken, (q, q, outputs), as that over all rows."""
        features = np.arange(len(curvature))
        found = curvature[features, features].sum(axis=1)
        is_there = found > 0
        root = np.sqrt(np.divide(self.squares, found, out=np.ones_like(found), where=is_there))
        curvature = curvature * root[:, None, None]
        curvature *= root[:, None]
        # Of a feature that none of these rows has nothing else is known: all outputs have the same.
        absent = features[~is_there]
        curvature[absent, absent] = self.squares[absent, None] / curvature.shape[2]
        return curvature
