"""Losses of two classes, 0 and 1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...errors import DataError
from ...validate import positive


class TwoClasses:
    """The base of losses of targets 0 and 1: checks of the targets."""

    name: str
    targets = (
        "0 and 1 (or False and True); encode two other classes with (y == positive_class), and give a proportion p as "
        "two rows, targets 1 and 0, whose sample_weight is p and 1 - p (times the trials)"
    )
    target_kind = "two classes"

    def bad_target(self, y):
        """Return where the target is neither 0 nor 1."""
        return (y != 0) & (y != 1)

    def check_target_mean(self, mean):
        """Refuse data with one class: its intercept would be infinite, or arbitrary."""
        for value in (0.0, 1.0):
            # The mean of 0/1 targets, up to the rounding of weighted sums.
            if np.any(np.abs(mean - value) <= 1e-12):
                raise DataError(
                    f"The {self.name} loss needs both classes; every target with a positive weight is {value:g}. "
                    "Check the encoding of y, or that the rows selected hold both classes."
                )


class Margin(TwoClasses):
    """The base of losses of the margin ``s z``; s is -1 for a target of 0 and 1 for a target of 1."""

    def inverse_link(self, z):
        """Return the class, 0.0 or 1.0: these losses know no probabilities."""
        return (z > 0) * 1.0

    def link(self, mean):
        """Return the sign of the larger class."""
        return np.where(mean > 0.5, 1.0, -1.0)


@dataclass(frozen=True)
class Logistic(TwoClasses):
    """Negative log-likelihood of a 0/1 target, ``L(y, z) = log(1 + exp(z)) - y z``: logistic regression.

    Evaluated as ``log1p(exp(-|z|)) + (max(z, 0) - y z)``, which neither overflows nor loses digits for any finite
    ``z`` (Mächler, "Accurately computing log(1 - exp(-|a|))", 2012).

    Examples
    --------
    >>> value, slope = Logistic().value_and_slope(np.array([0.0, 1e4]), np.array([1.0, 1.0]))
    >>> value.round(6).tolist(), slope.tolist()
    ([0.693147, 0.0], [-0.5, 0.0])
    """

    name = "logistic"
    likelihood = "known dispersion"
    quadratic = False
    smooth = True
    curvature_bound = 0.25

    def value_and_slope(self, z, y):
        """Return ``log(1 + exp(z)) - y z`` and ``sigmoid(z) - y``, in the broadcast shape of ``z`` and ``y``."""
        # exp(-|z|) never overflows, and serves both the value and the sigmoid of the slope.
        small = np.abs(z)
        np.negative(small, out=small)
        np.exp(small, out=small)
        # 1 where z is 0 or more: arithmetic with it takes a fraction of the time of a choice for each row.
        is_up = (z >= 0).astype(small.dtype)
        value = is_up - y
        value *= z
        value += np.log1p(small)
        slope = np.maximum(is_up, small)
        small += 1.0
        slope /= small
        slope -= y
        return value, slope

    def curvature(self, z, y):
        """Return ``sigmoid(z) (1 - sigmoid(z))``, at most 1/4."""
        small = np.exp(-np.abs(z))
        square = 1.0 + small
        square *= square
        small /= square
        return small

    def saturated(self, y):
        """Return ``y log y + (1 - y) log(1 - y)``, 0 for both classes: the part of the loss of a share y alone."""
        both = np.stack([np.asarray(y, float), 1.0 - np.asarray(y, float)])
        return (both * np.log(np.where(both > 0, both, 1.0))).sum(axis=0)

    def log_likelihood_base(self, y):
        """Return 0: the log likelihood is minus the loss."""
        return np.zeros(np.shape(y))

    def log_likelihood_of(self, deviance, base, n, dispersion):
        """Return the log likelihood of n targets, minus half their deviance."""
        return -0.5 * deviance

    def inverse_link(self, z):
        """Return the sigmoid, the probability of class 1. Lazy for Dask arrays."""
        # Operators and `exp` alone leave Dask arrays lazy, and DataArrays their labels.
        small = np.exp(-abs(z))
        return ((z >= 0) + (z < 0) * small) / (1.0 + small)

    def link(self, mean):
        """Return ``log(mean / (1 - mean))``."""
        return np.log(mean / (1.0 - mean))


@dataclass(frozen=True)
class SquaredHinge(Margin):
    """``L(y, z) = max(0, 1 - s z)^2`` with ``s = 2 y - 1``: a linear support vector machine that is smooth.

    scikit-learn's ``LinearSVC(C=c)`` minimises this with ``L2(1 / (n c))``, and penalises its intercept.

    Examples
    --------
    >>> value, slope = SquaredHinge().value_and_slope(np.array([0.5, -1.0]), np.array([1.0, 1.0]))
    >>> value.tolist(), slope.tolist()
    ([0.25, 4.0], [-1.0, -4.0])
    """

    name = "squared_hinge"
    quadratic = False
    smooth = False
    curvature_bound = 2.0

    def value_and_slope(self, z, y):
        """Return ``m^2`` and ``-2 s m`` with ``m = max(0, 1 - s z)``."""
        sign = 2.0 * y - 1.0
        missing = np.maximum(1.0 - sign * z, 0.0)
        return missing * missing, -2.0 * sign * missing

    def curvature(self, z, y):
        """Return 2 within the margin, else 0."""
        sign = 2.0 * y - 1.0
        return 2.0 * (sign * z < 1.0)


@dataclass(frozen=True)
class Hinge(Margin):
    """``max(0, 1 - s z)`` with ``s = 2 y - 1``, its corner rounded: a linear support vector machine.

    With ``m = 1 - s z`` it is 0 for ``m <= 0``, ``m^2 / (2 smoothing)`` up to ``m = smoothing``, and
    ``m - smoothing / 2`` beyond (Chapelle, "Training a support vector machine in the primal", 2007). It is below the
    hinge by half of ``smoothing`` at most, and so is its minimum.

    Parameters
    ----------
    smoothing : float
        The smaller it is, the nearer the loss is to the hinge, and the harder to minimise.

    Examples
    --------
    >>> value, slope = Hinge(smoothing=0.5).value_and_slope(np.array([0.75, -1.0]), np.array([1.0, 1.0]))
    >>> value.tolist(), slope.tolist()
    ([0.0625, 1.75], [-0.5, -1.0])
    """

    smoothing: float = 0.5
    name = "hinge"
    quadratic = False
    smooth = False

    def __post_init__(self):
        positive("Hinge", smoothing=self.smoothing)

    @property
    def curvature_bound(self):
        """``1 / smoothing``."""
        return 1.0 / self.smoothing

    def value_and_slope(self, z, y):
        """Return the loss, and ``-s`` times ``m / smoothing`` clipped to 0 and 1."""
        sign = 2.0 * y - 1.0
        missing = 1.0 - sign * z
        share = np.clip(missing / self.smoothing, 0.0, 1.0)
        # With the share in it, one formula holds below, on and beyond the rounded corner.
        value = share * (missing - 0.5 * self.smoothing * share)
        return value, -sign * share

    def curvature(self, z, y):
        """Return ``1 / smoothing`` on the rounded corner, else 0."""
        sign = 2.0 * y - 1.0
        missing = 1.0 - sign * z
        on_corner = (missing > 0.0) & (missing <= self.smoothing)
        return on_corner / self.smoothing
