"""Pointwise losses of (prediction, target): value, first and second derivative, inverse link.

They know nothing of X, chunks or weights, so that a loss is a few lines of array arithmetic and everything else
in the package works for it unchanged. ``z`` is the linear prediction ``x w + b``; ``y`` broadcasts against it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from .errors import DataError, choose


@runtime_checkable
class Loss(Protocol):
    """What the kernel and the solvers ask of a loss."""

    name: str
    #: What targets it takes, in words.
    targets: str
    #: The second derivative is 1 everywhere, so that one pass of sufficient statistics describes the objective.
    quadratic: bool
    #: Upper bound of the second derivative, or None where there is none.
    curvature_bound: float | None

    def value_and_slope(self, z: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]: ...
    def curvature(self, z: np.ndarray, y: np.ndarray) -> np.ndarray: ...
    def inverse_link(self, z): ...
    def bad_target(self, y: np.ndarray) -> np.ndarray | None: ...
    def check_target_mean(self, mean: np.ndarray) -> None: ...


@dataclass(frozen=True)
class Squared:
    """Half the squared error, ``L(y, z) = (z - y)^2 / 2``: least squares.

    Examples
    --------
    >>> value, slope = Squared().value_and_slope(np.array([3.0]), np.array([1.0]))
    >>> float(value[0]), float(slope[0])
    (2.0, 2.0)
    """

    name = "squared"
    quadratic = True
    curvature_bound = 1.0
    targets = "any finite numbers"

    def value_and_slope(self, z, y):
        """``(z - y)^2 / 2`` and ``z - y``, in the broadcast shape of ``z`` and ``y``."""
        residual = z - y
        return 0.5 * residual * residual, residual

    def curvature(self, z, y):
        """1 everywhere."""
        return np.ones_like(z)

    def inverse_link(self, z):
        """The identity: the mean of the target is the linear prediction."""
        return z

    def bad_target(self, y):
        """Every finite target is good: None."""
        return None

    def check_target_mean(self, mean):
        """Every mean is good."""


@dataclass(frozen=True)
class Logistic:
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
    quadratic = False
    curvature_bound = 0.25
    targets = "0 and 1 (or False and True); encode two other classes with (y == positive_class)"

    def value_and_slope(self, z, y):
        """``log(1 + exp(z)) - y z`` and ``sigmoid(z) - y``, in the broadcast shape of ``z`` and ``y``."""
        # exp(-|z|) serves the value, the slope's sigmoid and never overflows.
        small = np.exp(-np.abs(z))
        value = np.log1p(small) + (np.maximum(z, 0.0) - y * z)
        return value, np.where(z >= 0, 1.0, small) / (1.0 + small) - y

    def curvature(self, z, y):
        """``sigmoid(z) (1 - sigmoid(z))``, at most 1/4."""
        small = np.exp(-np.abs(z))
        return small / (1.0 + small) ** 2

    def inverse_link(self, z):
        """The sigmoid: the probability of class 1. Lazy for Dask arrays."""
        small = np.exp(-abs(z))
        return ((z >= 0) + (z < 0) * small) / (1.0 + small)

    def bad_target(self, y):
        """Where the target is neither 0 nor 1."""
        return (y != 0) & (y != 1)

    def check_target_mean(self, mean):
        """Refuse data with one class: its intercept would be infinite."""
        for value in (0.0, 1.0):
            # The mean of 0/1 targets, up to the rounding of weighted sums.
            if np.any(np.abs(mean - value) <= 1e-12):
                raise DataError(
                    f"The logistic loss needs both classes; every target with a positive weight is {value:g}. "
                    "Check the encoding of y, or that the rows selected hold both classes."
                )


LOSSES: dict[str, Any] = {"squared": Squared, "logistic": Logistic}


def as_loss(loss: str | Loss) -> Loss:
    """A loss from its name or itself."""
    if isinstance(loss, str):
        return choose("loss", loss, LOSSES)()
    if isinstance(loss, type) or not isinstance(loss, Loss):
        choose("loss", repr(loss), LOSSES)
    return loss
