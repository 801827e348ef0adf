"""Losses of real targets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...errors import InvalidArgumentError
from ...validate import positive


class RealTargets:
    """The base of losses of any finite target: the predicted value is ``z``."""

    targets = "any finite numbers"
    target_kind: str | None = "real"

    def inverse_link(self, z):
        """Return ``z``."""
        return z

    def link(self, mean):
        """Return the mean."""
        return mean

    def bad_target(self, y):
        """Return None: every finite target is allowed."""
        return None

    def check_target_mean(self, mean):
        """Allow every mean."""


@dataclass(frozen=True)
class Squared(RealTargets):
    """Half the squared error, ``L(y, z) = (z - y)^2 / 2``: least squares.

    Examples
    --------
    >>> value, slope = Squared().value_and_slope(np.array([3.0]), np.array([1.0]))
    >>> float(value[0]), float(slope[0])
    (2.0, 2.0)
    """

    name = "squared"
    likelihood = "estimated dispersion"
    quadratic = True
    smooth = True
    curvature_bound = 1.0

    def value_and_slope(self, z, y):
        """Return ``(z - y)^2 / 2`` and ``z - y``, in the broadcast shape of ``z`` and ``y``."""
        residual = z - y
        return 0.5 * residual * residual, residual

    def curvature(self, z, y):
        """Return 1 everywhere."""
        return np.ones_like(z)

    def log_likelihood_of(self, deviance, base, n, dispersion):
        """Return the log likelihood of n targets from the sum of their squares, with the variance that maximises it."""
        return -0.5 * n * (np.log(2.0 * np.pi * deviance / n) + 1.0)


@dataclass(frozen=True)
class Huber(RealTargets):
    """The squared loss near the target, a straight line beyond.

    With ``r = z - y`` it is ``r^2 / 2`` for ``|r| <= delta``, else ``delta (|r| - delta / 2)`` (Huber, "Robust
    estimation of a location parameter", 1964).

    Parameters
    ----------
    delta : float
        In the target's units. scikit-learn's HuberRegressor has ``epsilon`` in place of it, in units of a scale of the
        residuals that it estimates too.

    Examples
    --------
    >>> value, slope = Huber(delta=1.0).value_and_slope(np.array([0.5, 10.0]), np.array([0.0, 0.0]))
    >>> value.tolist(), slope.tolist()
    ([0.125, 9.5], [0.5, 1.0])
    """

    delta: float = 1.35
    name = "huber"
    quadratic = False
    smooth = False
    curvature_bound = 1.0

    def __post_init__(self):
        positive("Huber", delta=self.delta)

    def value_and_slope(self, z, y):
        """Return the loss, and ``r`` clipped to ``-delta`` and ``delta``."""
        residual = z - y
        slope = np.clip(residual, -self.delta, self.delta)
        # With the slope in it, one formula holds near the target and beyond.
        value = slope * (residual - 0.5 * slope)
        return value, slope

    def curvature(self, z, y):
        """Return 1 for ``|r| <= delta``, else 0."""
        return (np.abs(z - y) <= self.delta).astype(float)


@dataclass(frozen=True)
class Quantile(RealTargets):
    """The pinball loss: quantile regression (Koenker and Bassett, "Regression quantiles", 1978).

    With ``r = y - z`` it is ``quantile r`` for ``r > 0`` and ``(quantile - 1) r`` below. By default `dask_gd.fit`
    minimises it through a sequence of losses with rounded corners, whose widths it finds from the residuals. The first
    width is their spread. The last is so narrow that the pinball loss is within 0.05 % of its minimum, and the share of
    rows below the prediction within 0.3 % of the quantile, unless the rows are too few for that. Solvers that read a
    sample of the partitions for each step take a quarter of the targets' spread.

    If ``smoothing`` is set, the loss is the Moreau envelope of the pinball loss,
    ``min_u pinball(u) + (r - u)^2 / (2 smoothing)``: ``r^2 / (2 smoothing)`` for r between
    ``-smoothing (1 - quantile)`` and ``smoothing quantile``, and straight beyond. It is below the pinball loss by
    ``smoothing max(quantile, 1 - quantile)^2 / 2`` at most, and so is its minimum.

    Parameters
    ----------
    quantile : float
        Between 0 and 1.
    smoothing : float, optional
        In the target's units. The smaller it is, the nearer the loss is to the pinball loss, and the harder to
        minimise. If it is not small beside the residuals, the mean is fitted and not a quantile. By default it is
        found from the residuals.

    Examples
    --------
    >>> value, slope = Quantile(0.9).value_and_slope(np.array([0.0, 0.0]), np.array([1.0, -1.0]))
    >>> value.round(4).tolist(), slope.round(4).tolist()
    ([0.9, 0.1], [-0.9, 0.1])
    >>> value, slope = Quantile(0.9, smoothing=0.1).value_and_slope(np.array([0.0, 0.0]), np.array([1.0, -1.0]))
    >>> value.round(4).tolist(), slope.round(4).tolist()
    ([0.8595, 0.0995], [-0.9, 0.1])
    """

    quantile: float = 0.5
    smoothing: float | None = None
    name = "quantile"
    quadratic = False
    smooth = False

    def __post_init__(self):
        if self.smoothing is not None:
            positive("Quantile", smoothing=self.smoothing)
        if not 0 < self.quantile < 1:
            raise InvalidArgumentError(f"Quantile(quantile={self.quantile!r}): a number between 0 and 1.")

    @property
    def curvature_bound(self):
        """``1 / smoothing``, or infinity where the corner is not rounded."""
        if self.smoothing is None:
            return np.inf
        return 1.0 / self.smoothing

    def value_and_slope(self, z, y):
        """Return the loss, and ``(z - y) / smoothing`` clipped to ``-quantile`` and ``1 - quantile``."""
        residual = z - y
        if self.smoothing is None:
            value = pinball(-residual, self.quantile)
            slope = np.where(residual < 0, -self.quantile, 1 - self.quantile)
            return value, slope
        slope = np.clip(residual / self.smoothing, -self.quantile, 1 - self.quantile)
        # With the slope in it, one formula holds on the rounded corner and beyond.
        value = slope * (residual - 0.5 * self.smoothing * slope)
        return value, slope

    def curvature(self, z, y):
        """Return ``1 / smoothing`` on the rounded corner, else 0."""
        if self.smoothing is None:
            return np.zeros_like(z - y)
        scaled = (z - y) / self.smoothing
        on_corner = (scaled >= -self.quantile) & (scaled <= 1 - self.quantile)
        return on_corner / self.smoothing


def pinball(residual: np.ndarray, quantile: float) -> np.ndarray:
    """Return the pinball loss of residuals ``y - z``."""
    return np.maximum(quantile * residual, (quantile - 1) * residual)


@dataclass(frozen=True, eq=False)
class SmoothedPinball(RealTargets):
    """The mean of the pinball loss over a window around the residual: `fit` minimises it on the way to `Quantile`.

    Each output has a width of its window. The window lies evenly around the residual, so that as many rows near the
    prediction count as above it as count as below, whatever the quantile (Fernandes, Guerre and Horta, 2021, "Smoothing
    quantile regressions"). The loss is above the pinball loss by an eighth of the width at most.

    Parameters
    ----------
    quantile : float
    widths : array (k,)
    """

    quantile: float
    widths: np.ndarray
    name = "quantile"
    quadratic = False
    smooth = False

    @property
    def curvature_bound(self):
        """1 over the least width."""
        return 1.0 / float(self.widths.min())

    def value_and_slope(self, z, y):
        """Return the loss, and its slope between ``-quantile`` and ``1 - quantile``."""
        residual = z - y
        width = self._along(residual)
        # The place within the window, from one of its ends to the other.
        place = np.clip(residual / width, -0.5, 0.5)
        slope = place + (0.5 - self.quantile)
        value = width * (0.5 * place * place + 0.125) + (0.5 - self.quantile) * residual
        # Beyond the window the loss goes on as a straight line.
        return value + place * (residual - width * place), slope

    def curvature(self, z, y):
        """Return ``1 / width`` within the window, else 0."""
        residual = z - y
        width = self._along(residual)
        is_within = np.abs(residual) <= 0.5 * width
        return is_within / width

    def _along(self, residual: np.ndarray) -> np.ndarray:
        """Return the widths along the outputs of (rows, k) or (rows, k, m)."""
        axes_after_outputs = residual.ndim - 2
        return self.widths.reshape(-1, *(1,) * axes_after_outputs)
