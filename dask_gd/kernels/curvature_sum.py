"""The curvature of one output, summed over blocks: that of the features, and what the intercept and a shift add."""

from __future__ import annotations

import numpy as np

from .block import Block, Workspace


class CurvatureSum:
    """The sum of ``[x 1]^T diag(h) [x 1]``, (q, q), over blocks, which are x less the shift, if there is one.

    Without an intercept it is ``x^T diag(h) x`` of the rows as they are. See `Request` for ``is_rough``.
    """

    def __init__(
        self,
        total: np.ndarray,
        workspace: Workspace,
        p: int,
        shift: np.ndarray | None,
        in_float64: bool,
        is_rough: bool = False,
    ):
        self.total = total
        self.p = p
        self.shift = shift
        self.in_float64 = in_float64
        self.has_intercept = len(total) > p
        # The intercept's row and the shift's products both need the weighted column sums ``x^T h``.
        self.sums: np.ndarray | None = None
        if self.has_intercept or shift is not None:
            self.sums = np.zeros(p)
        self.weight = 0.0
        summed = self.sums
        if in_float64:
            summed = None
        gram_sum = workspace.gram_sum
        # Formats that have no sum of fewer digits take the exact one.
        if is_rough:
            gram_sum = getattr(workspace, "rough_gram_sum", gram_sum)
        self.gram_sum = gram_sum(total[:p, :p], summed)

    @property
    def products(self) -> int:
        """The products of two features that were taken, or as many as take the time; 0 where a format counts none."""
        return getattr(self.gram_sum, "products", 0)

    def add(self, block: Block, h: np.ndarray) -> None:
        """Add the sums over the rows of a block, with second derivatives h (n,)."""
        self.gram_sum.add(block, h)
        if self.sums is None:
            return
        self.weight += h.sum()
        if self.in_float64:
            self.sums += block.sums(h)

    def flush(self) -> None:
        """Bring the total up to date."""
        self.gram_sum.flush()
        if self.sums is None:
            return
        p = self.p
        if self.has_intercept:
            self.total[:p, p] = self.sums
            self.total[p, :p] = self.sums
            self.total[p, p] = self.weight
            return
        assert self.shift is not None
        half = np.outer(self.shift, self.sums + 0.5 * self.weight * self.shift)
        self.total[:p, :p] += half + half.T
        self.sums[:] = 0.0
        self.weight = 0.0
