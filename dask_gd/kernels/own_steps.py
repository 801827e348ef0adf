"""What partitions can do by themselves within a pass, beside the sums: take steps of their own.

A solver asks for it by ``Request.kernel``, one of the classes here, which makes each partition's kernel. Where the
partitions end comes back as `OwnSteps`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..model.losses import Loss
from .base import BOUND, Kernel, Request, Sums

#: Rows of a step of `Descent`. Of fewer the arithmetic costs less than the call.
STEP_ROWS = 256


class OwnSteps(NamedTuple):
    """The sums at the query, and where each partition has ended."""

    at_query: Sums
    ends: np.ndarray  # (q + 1, k, partitions), the parameters, and below them the partition's weight

    def plus(self, other: OwnSteps) -> OwnSteps:
        """Add up the sums, and put the ends side by side."""
        return OwnSteps(self.at_query.plus(other.at_query), np.concatenate([self.ends, other.ends], axis=2))

    def finalize(self, weight: float) -> OwnSteps:
        """Return the ends as they are: there is nothing to divide."""
        return self


def ended(parameters: np.ndarray, weight: float) -> np.ndarray:
    """(q, k, 1) -> (q + 1, k, 1)."""
    return np.concatenate([parameters, np.full((1, *parameters.shape[1:]), weight)])


def least_norm(h: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``h u = b`` for symmetric h (q, q), its columns scaled; of all u the least, where h is singular."""
    size = np.sqrt(np.diagonal(h))
    size = np.where(size > 0, size, 1.0)
    scaled = (b.T / size).T
    return ((np.linalg.pinv(h / np.outer(size, size), hermitian=True) @ scaled).T / size).T


class Descent(NamedTuple):
    """Gradient steps with the rows as they come, from the query on, `STEP_ROWS` each (`LocalSGD`)."""

    rate: float
    ridge: np.ndarray  # (q, 1, 1) the penalty's curvature

    def make(self, partition: int, query: np.ndarray, loss: Loss, request: Request, dtype: np.dtype, p: int) -> Kernel:
        return DescentKernel(self, query, loss, request, dtype, p)


class DescentKernel(Kernel):
    """Sums at the query, and steps away from it."""

    def __init__(self, how: Descent, query: np.ndarray, loss: Loss, request: Request, dtype: np.dtype, p: int):
        super().__init__(query, loss, request, dtype, p)
        self.how = how
        self.at = query

    def add(self, x, y, weight, offset=None) -> None:
        super().add(x, y, weight, offset)
        for start in range(0, len(x), STEP_ROWS):
            rows = slice(start, start + STEP_ROWS)
            block = Kernel(self.at, self.loss, Request(shift=self.request.shift), x.dtype, self.p)
            block.add(*(None if a is None else a[rows] for a in (x, y, weight, offset)))
            if block.total.weight > 0:
                slope = block.total.gradient / block.total.weight + self.how.ridge * self.at
                self.at = self.at - self.how.rate * slope

    def sums(self) -> OwnSteps:  # type: ignore[override]
        return OwnSteps(self.total, ended(self.at, self.total.weight))


class Consensus(NamedTuple):
    """One step to the least of ``mean loss + penalty + ||x - centre||_metric^2 / 2`` over a partition (`ADMM`)."""

    own: np.ndarray  # (q, k, partitions or 1) where each is
    centres: np.ndarray  # (q, k, partitions or 1)
    metric: np.ndarray  # (q, q)

    def make(self, partition: int, query: np.ndarray, loss: Loss, request: Request, dtype: np.dtype, p: int) -> Kernel:
        own, centre = (a[:, :, min(partition, a.shape[2] - 1), None] for a in (self.own, self.centres))
        return ConsensusKernel(own, centre, self.metric, query, loss, Request(BOUND, shift=request.shift), dtype, p)


class ConsensusKernel(Kernel):
    """Sums at the query, and at the partition's own parameters, with the bound of the curvature there.

    With the bound in place of the curvature a step never goes too far (Hunter and Lange, 2004, on majorisation).
    """

    def __init__(self, own, centre, metric, query: np.ndarray, loss: Loss, request: Request, dtype: np.dtype, p: int):
        super().__init__(np.concatenate([own, query], axis=2), loss, request, dtype, p)
        self.own = own
        self.centre = centre
        self.metric = metric

    def sums(self) -> OwnSteps:  # type: ignore[override]
        s = self.total
        own = self.own
        assert s.curvature is not None
        if s.weight > 0:
            slope = s.gradient[:, :, 0] / s.weight + self.metric @ (own - self.centre)[:, :, 0]
            own = own - least_norm(s.curvature[:, :, 0] / s.weight + self.metric, slope)[:, :, None]
        ends = ended(own, s.weight)
        at_query = s._replace(loss=s.loss[1:], gradient=s.gradient[:, :, 1:], curvature=None)
        return OwnSteps(at_query, ends)
