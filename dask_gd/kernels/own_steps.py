"""Partitions' own steps: within a pass each partition takes steps by itself, beside the sums.

A solver asks for them by ``Request.kernel``, one of the classes here, which makes each partition's kernel. The
parameters at which the partitions end come back as `OwnSteps`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .base import Kernel, take
from .sums import BOUND, Part, Request, Sums

#: Rows of a step of `Descent`. With fewer rows the arithmetic costs less than the call.
STEP_ROWS = 256


class OwnSteps(NamedTuple):
    """The sums at the query, and the parameters at which each partition has ended."""

    at_query: Sums
    ends: np.ndarray  # (q + 1, k, partitions), the parameters, and below them the partition's weight

    def plus(self, other: OwnSteps) -> OwnSteps:
        """Add up the sums, and put the ends side by side."""
        sums = self.at_query.plus(other.at_query)
        ends = np.concatenate([self.ends, other.ends], axis=2)
        return OwnSteps(sums, ends)

    def finalize(self, weight: float) -> OwnSteps:
        """Return the ends as they are: there is nothing to divide."""
        return self


def with_weight(parameters: np.ndarray, weight: float) -> np.ndarray:
    """Return parameters (q, k, 1) with the partition's weight below them, (q + 1, k, 1)."""
    row = np.full((1, *parameters.shape[1:]), weight)
    return np.concatenate([parameters, row])


def least_norm(h: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Solve ``h u = b`` for symmetric h (q, q), its columns scaled; where h is singular, u is the shortest solution."""
    size = np.sqrt(np.diagonal(h))
    size = np.where(size > 0, size, 1.0)
    scaled_h = h / np.outer(size, size)
    scaled_b = (b.T / size).T
    solution = np.linalg.pinv(scaled_h, hermitian=True) @ scaled_b
    return (solution.T / size).T


class Descent(NamedTuple):
    """Gradient steps with the rows as they come, from the query on, `STEP_ROWS` each (`LocalSGD`)."""

    rate: float
    ridge: np.ndarray  # (q, 1, 1) the penalty's curvature

    def make(self, part: Part) -> Kernel:
        return DescentKernel(self, part)


class DescentKernel(Kernel):
    """Sums at the query, and steps away from it."""

    def __init__(self, spec: Descent, part: Part):
        super().__init__(part)
        self.rate = spec.rate
        self.ridge = spec.ridge
        self.parameters = part.query

    def add(self, x, y, weight, offset=None) -> None:
        """Add the sums over more rows at the query, and take steps with these rows."""
        super().add(x, y, weight, offset)
        plain = self.part._replace(request=Request(shift=self.request.shift))
        for start in range(0, len(y), STEP_ROWS):
            rows = slice(start, start + STEP_ROWS)
            # The gradient of these rows alone, at the parameters that the steps have reached.
            kernel = Kernel(plain._replace(query=self.parameters), self.workspace)
            kernel.add(
                self.row_format.take(x, rows),
                y[rows],
                weight=take(weight, rows),
                offset=take(offset, rows),
            )
            sums = kernel.total
            if sums.weight > 0:
                slope = sums.gradient / sums.weight + self.ridge * self.parameters
                self.parameters = self.parameters - self.rate * slope

    def sums(self) -> OwnSteps:  # type: ignore[override]
        """Return the sums at the query, and the parameters after the last step."""
        return OwnSteps(super().sums(), with_weight(self.parameters, self.total.weight))


class Consensus(NamedTuple):
    """A step to the minimum of ``mean loss + penalty + ||x - centre||_metric^2 / 2`` over a partition (`ADMM`)."""

    own: np.ndarray  # (q, k, partitions or 1) the parameters of each
    centres: np.ndarray  # (q, k, partitions or 1)
    metric: np.ndarray  # (q, q)

    def make(self, part: Part) -> Kernel:
        parameters = parameters_of(self.own, part.partition)
        centre = parameters_of(self.centres, part.partition)
        return ConsensusKernel(parameters, centre, self.metric, part)


def parameters_of(each: np.ndarray, partition: int) -> np.ndarray:
    """Return the parameters (q, k, 1) of a partition from (q, k, partitions), or from (q, k, 1) for all partitions."""
    last = each.shape[2] - 1
    return each[:, :, min(partition, last), None]


class ConsensusKernel(Kernel):
    """Sums at the query, and at the partition's own parameters, with the bound of the curvature there.

    With the bound in place of the curvature a step never goes too far (Hunter and Lange, 2004, on majorisation).
    """

    def __init__(
        self,
        parameters: np.ndarray,
        centre: np.ndarray,
        metric: np.ndarray,
        part: Part,
    ):
        # The partition's own parameters are the first candidate, at which the curvature is taken.
        both = np.concatenate([parameters, part.query], axis=2)
        bound = Request(BOUND, shift=part.request.shift)
        super().__init__(part._replace(query=both, request=bound))
        self.parameters = parameters
        self.centre = centre
        self.metric = metric

    def sums(self) -> OwnSteps:  # type: ignore[override]
        """Return the sums at the query, and the partition's parameters after its step."""
        sums = super().sums()
        parameters = self.parameters
        assert sums.curvature is not None
        # A Newton step of the partition's objective; without rows that weigh anything it stays where it is.
        if sums.weight > 0:
            pull = self.metric @ (parameters - self.centre)[:, :, 0]
            slope = sums.gradient[:, :, 0] / sums.weight + pull
            curvature = sums.curvature[:, :, 0] / sums.weight + self.metric
            parameters = parameters - least_norm(curvature, slope)[:, :, None]
        # Without the first candidate these are the sums that the solver asked for.
        at_query = sums._replace(
            loss=sums.loss[1:],
            gradient=sums.gradient[:, :, 1:],
            curvature=None,
        )
        return OwnSteps(at_query, with_weight(parameters, sums.weight))
