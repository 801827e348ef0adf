"""Sums over the rows at a fit's parameters from which its standard errors follow: see `results.inference`.

The loss is minus the logarithm of a generalised linear model's likelihood, but for a factor and a constant (McCullagh
and Nelder, "Generalized Linear Models", 1989). Its second derivative, with the target at its mean, is the expected one,
as it is linear in the target: Fisher's information.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .base import Kernel, add_moments_of_outputs
from .block import Block
from .products import BLOCK_BYTES
from .sums import Part, Sums

#: Outputs at least whose sums a block takes together: fewer would make more of Python's work than of the rows'.
OUTPUTS = 16


class Likelihood(NamedTuple):
    """A request for the information, the deviance and Pearson's statistic at the first candidate of a query."""

    def make(self, part: Part) -> Kernel:
        return LikelihoodKernel(part)


class Statistics(NamedTuple):
    """Sums over rows that say how well a model fits, (k,) each."""

    deviance: np.ndarray
    pearson: np.ndarray
    #: The sum of what losses have of the targets alone, see `saturated` of a loss; NaN if it is not known. For a
    #: quadratic loss half the squares about a constant.
    saturated: np.ndarray
    constant: np.ndarray
    #: The part of the log likelihood that the losses lack, see `log_likelihood_base` of a loss; NaN if it is not known.
    base: np.ndarray

    def plus(self, other: Statistics) -> Statistics:
        """Return the sums over the rows of both."""
        return Statistics(
            deviance=self.deviance + other.deviance,
            pearson=self.pearson + other.pearson,
            saturated=self.saturated + other.saturated,
            constant=self.constant,
            base=self.base + other.base,
        )


class LikelihoodSums(NamedTuple):
    """The sums at the first candidate, whose curvature is the information, and statistics of each output."""

    at_query: Sums
    statistics: Statistics

    def plus(self, other: LikelihoodSums) -> LikelihoodSums:
        """Return the sums over the rows of both."""
        return LikelihoodSums(
            at_query=self.at_query.plus(other.at_query),
            statistics=self.statistics.plus(other.statistics),
        )


class LikelihoodKernel(Kernel):
    """The kernel of `Likelihood`."""

    def __init__(self, part: Part):
        super().__init__(part)
        self.begin_sums(part.query[:, :, :1])
        k = part.query.shape[1]
        constant = np.zeros(k)
        if self.constant is not None:
            constant = self.constant[:, 0]
        self.statistics = Statistics(
            deviance=np.zeros(k),
            pearson=np.zeros(k),
            saturated=np.zeros(k),
            constant=constant,
            base=np.zeros(k),
        )
        # What losses other than quadratic ones have of the targets alone.
        self.base_of = getattr(self.loss, "log_likelihood_base", _unknown)
        self.saturated_of = getattr(self.loss, "saturated", _unknown)

    def _add_block(self, rows, target, s, offset) -> None:
        """Add the sums over the rows of one cache block, for as many outputs at a time as stay in the cache."""
        block = self.workspace.block(rows)
        if self.total.moments is not None:
            self._add_moments_of_features(rows, block, len(target), s, offset)
        step = max(OUTPUTS, BLOCK_BYTES // (8 * len(target)))
        add = self._add_outputs
        if self.loss.quadratic:
            add = self._add_outputs_of_quadratic
        for start in range(0, target.shape[1], step):
            outputs = slice(start, start + step)
            add(block, target[:, outputs], outputs, s, offset)

    def _add_outputs(self, block: Block, target, outputs: slice, s, offset) -> None:
        """Add the sums over the rows of a block for these outputs, of which ``target`` (rows, outputs) has the values.

        All arrays here are (rows, outputs).
        """
        loss = self.loss
        z = self._predicted_outputs(block, outputs, offset)
        value, slope = loss.value_and_slope(z, target)
        # The curvature at the targets' means is the information.
        information = loss.curvature(z, loss.inverse_link(z))
        if self.total.moments is not None:
            self._add_moments_of_outputs(outputs, target, z, slope, s)
        self._add_scores(block, slope, outputs, s, information)
        self._add_information(block, self._summed_curvature(z, target, information), outputs, s)

        # Slope and information are both divided by the variance: (mean - y) mean' / V and mean'^2 / V. Where no
        # information is left in floating point, the slope is 0 as well, or the residual is beyond all bounds.
        pearson = slope**2
        pearson /= np.maximum(information, np.finfo(float).tiny)

        if s is not None:
            value = s[:, None] * value
            slope = s[:, None] * slope
            pearson *= s[:, None]
        self._add_statistics(outputs, value.sum(axis=0), pearson.sum(axis=0))
        self.statistics.base[outputs] += _weighted_sum(self.base_of(target), s)
        self.statistics.saturated[outputs] += _weighted_sum(self.saturated_of(target), s)
        self.add_gradient(block, slope[:, :, None], outputs)

    def _add_outputs_of_quadratic(self, block: Block, target, outputs: slice, s, offset) -> None:
        """Add the same sums for a quadratic loss, whose information is 1, and whose slope is the residual.

        All statistics are the sum of its squares, so that few arrays of this size are made.
        """
        residual = self._predicted_outputs(block, outputs, offset)
        residual -= target
        weight = np.ones(len(target))
        weighted = residual
        if s is not None:
            weight = s
            weighted = s[:, None] * residual
        squares = np.einsum("nk,nk->k", residual, weighted)
        if self.total.moments is not None:
            self.total.moments.slopes[outputs] += squares
            self.total.moments.targets[outputs] += weight @ target
        information = np.ones((len(target), 1))
        self._add_scores(block, residual, outputs, s, information)
        self._add_information(block, information, outputs, s)
        about_constant = target - self.statistics.constant[outputs]
        about_constant *= about_constant
        self._add_statistics(outputs, 0.5 * squares, squares)
        self.statistics.saturated[outputs] += 0.5 * (weight @ about_constant)
        self.add_gradient(block, weighted[:, :, None], outputs)

    def _summed_curvature(self, z, target, information) -> np.ndarray:
        """Return the second derivatives of which the curvature is the sum: the expected ones."""
        return information

    def _add_scores(self, block: Block, slope, outputs: slice, s, information) -> None:
        """Add what a kernel sums of the rows' scores, of which ``slope`` (rows, outputs) is unweighted: nothing."""

    def _add_statistics(self, outputs: slice, losses: np.ndarray, pearson: np.ndarray) -> None:
        """Add losses and Pearson's statistic of these outputs."""
        self.total.loss[:] += losses.sum()
        self.statistics.deviance[outputs] += 2.0 * losses
        self.statistics.pearson[outputs] += pearson

    def _predicted_outputs(self, block: Block, outputs: slice, offset) -> np.ndarray:
        """Return ``x w + b`` and the offset at the first candidate for these outputs, (rows, outputs)."""
        z = block.times(self.workspace.weights(self.query[: self.p, outputs, 0]))
        if self.constant is not None:
            z += self.constant[outputs, 0]
        if offset is not None:
            z += offset[:, None]
        return z

    def _add_moments_of_outputs(self, outputs: slice, target, z, slope, s) -> None:
        """Add a block's moments of these outputs."""
        moments = self.total.moments
        assert moments is not None
        of_outputs = moments._replace(
            slopes=moments.slopes[outputs],
            targets=moments.targets[outputs],
            curvatures=moments.curvatures[outputs],
        )
        curvature = None
        if self.loss.curvature_bound is None:
            curvature = self.loss.curvature(z, target)
        add_moments_of_outputs(of_outputs, target, slope, curvature, s)

    def _add_information(self, block: Block, information, outputs: slice, s) -> None:
        """Add the information of these outputs, or where all outputs share it that of the first."""
        curvature_sums = self.curvature_sums[outputs]
        h = information[:, : len(curvature_sums)]
        if s is not None:
            h = h * s[:, None]
        for output, curvature_sum in enumerate(curvature_sums):
            curvature_sum.add(block, h[:, output])

    def sums(self) -> LikelihoodSums:  # type: ignore[override]
        return LikelihoodSums(super().sums(), self.statistics)


def _unknown(y: np.ndarray) -> np.ndarray:
    """Return NaN for each target."""
    return np.full(y.shape, np.nan)


def _weighted_sum(values: np.ndarray, s: np.ndarray | None) -> np.ndarray:
    """Return the sums over rows of values (n, k), (k,)."""
    if s is None:
        return values.sum(axis=0)
    return s @ values
