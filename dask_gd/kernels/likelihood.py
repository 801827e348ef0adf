"""Sums over the rows at a fit's parameters from which its standard errors follow: see `results.inference`.

The loss is minus the logarithm of a generalised linear model's likelihood, but for a factor and a constant (McCullagh
and Nelder, "Generalized Linear Models", 1989). Its second derivative, with the target at its mean, is the expected one,
as it is linear in the target: Fisher's information.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .base import Kernel
from .sums import Part, Sums


class Likelihood(NamedTuple):
    """A request for the information, the deviance and Pearson's statistic at the first candidate of a query."""

    def make(self, part: Part) -> Kernel:
        return LikelihoodKernel(part)


class LikelihoodSums(NamedTuple):
    """The sums at the first candidate, whose curvature is the information, and two statistics of each output."""

    at_query: Sums
    deviance: np.ndarray  # (k,)
    pearson: np.ndarray  # (k,)

    def plus(self, other: LikelihoodSums) -> LikelihoodSums:
        """Return the sums over the rows of both."""
        return LikelihoodSums(
            at_query=self.at_query.plus(other.at_query),
            deviance=self.deviance + other.deviance,
            pearson=self.pearson + other.pearson,
        )


class LikelihoodKernel(Kernel):
    """The kernel of `Likelihood`."""

    def __init__(self, part: Part):
        super().__init__(part)
        self.begin_sums(part.query[:, :, :1])
        k = part.query.shape[1]
        self.deviance = np.zeros(k)
        self.pearson = np.zeros(k)

    def _add_block(self, rows, target, s, offset) -> None:
        """Add the sums over the rows of one cache block."""
        block = self.workspace.block(rows)
        z = self.predicted(block, offset)[:, :, :1]
        value, slope = self.loss.value_and_slope(z, target[:, :, None])

        # The curvature at the targets' means is the information.
        mean = self.loss.inverse_link(z)
        if self.total.moments is not None:
            self._add_moments(rows, block, target, z, slope, s, offset)
        self._add_curvature(block, mean[:, :, 0], z, s)

        # Slope and information are both divided by the variance: (mean - y) mean' / V and mean'^2 / V. Where no
        # information is left in floating point, the slope is 0 as well, or the residual is beyond all bounds.
        information = np.maximum(self.loss.curvature(z, mean), np.finfo(float).tiny)
        pearson = slope**2
        pearson /= information

        if s is not None:
            value = s[:, None, None] * value
            slope = s[:, None, None] * slope
            pearson *= s[:, None, None]
        self.total.loss[:] += value.sum(axis=(0, 1))
        self.add_gradient(block, slope)
        self.deviance += 2.0 * value.sum(axis=0)[:, 0]
        self.pearson += pearson.sum(axis=0)[:, 0]

    def sums(self) -> LikelihoodSums:  # type: ignore[override]
        return LikelihoodSums(super().sums(), self.deviance, self.pearson)
