"""The kernel that sums the curvatures at several candidates of a query, beside the loss and the gradient of all."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .base import Kernel
from .block import Block
from .curvature_sum import CurvatureSum
from .sums import Part, zero_sums


class SeveralCurvatures(NamedTuple):
    """A request for `Sums` whose curvature is (q, q, k n), that of the outputs at each of n candidates in turn."""

    #: The candidates, by their numbers in the query.
    at: tuple[int, ...]

    def copies(self, m: int) -> int:
        """Return how many times the sums at a query are summed."""
        return len(self.at)

    def make(self, part: Part) -> SeveralKernel:
        """Return the kernel of a partition."""
        return SeveralKernel(self, part)


class SeveralKernel(Kernel):
    """The kernel of one partition."""

    def __init__(self, spec: SeveralCurvatures, part: Part):
        self.at = spec.at
        super().__init__(part)

    def begin_sums(self, query: np.ndarray) -> None:
        """Begin with sums of 0."""
        q, k, _ = query.shape
        # The axis of the matrices lies first in memory, so that each is in one piece.
        curvature = np.zeros((k * len(self.at), q, q)).transpose(1, 2, 0)
        self.total = zero_sums(query, self.loss, self.request._replace(curvature=None))._replace(curvature=curvature)
        self.curvature_sums = []
        for matrix in range(curvature.shape[2]):
            self.curvature_sums.append(
                CurvatureSum(
                    curvature[:, :, matrix],
                    self.workspace,
                    self.p,
                    shift=self.request.shift,
                    in_float64=self.sums_in_float64,
                    is_rough=self.request.is_rough,
                )
            )

    def _add_curvature(self, rows, block: Block, target, z, s) -> None:
        """Add a block's curvatures."""
        sums = iter(self.curvature_sums)
        for i in self.at:
            h = self.loss.curvature(z[:, :, i], target)
            if s is not None:
                h = h * s[:, None]
            for of_output in h.T:
                next(sums).add(block, np.ascontiguousarray(of_output))
