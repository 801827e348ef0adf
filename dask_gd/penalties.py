"""Penalties on the weights. They never see data and never touch the intercept.

Each takes the coefficients ``w`` of shape (p, k, m), candidate last, without the intercept's row.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Protocol, runtime_checkable

import numpy as np

from .errors import InvalidArgumentError, choose


@runtime_checkable
class Penalty(Protocol):
    """A smooth part, of which there is a gradient, and a multiple of the sum of absolute values, which bends at 0."""

    name: str

    def value(self, w: np.ndarray) -> np.ndarray:
        """All of it, (m,)."""
        ...

    def gradient(self, w: np.ndarray) -> np.ndarray:
        """Of the smooth part, (p, k, m)."""
        ...

    def curvature(self) -> float:
        """Of the smooth part: its Hessian is this times the identity."""
        ...

    def absolute(self) -> float:
        """What the sum of absolute values is multiplied with; 0 for a smooth penalty."""
        ...


def _check_strength(owner: str, alpha: object) -> float:
    if not (isinstance(alpha, int | float | np.number) and 0 <= alpha < float("inf")):
        raise InvalidArgumentError(f"{owner}(alpha={alpha!r}): alpha must be a finite number, 0 or more.")
    return float(alpha)


@dataclass(frozen=True)
class L2:
    """``alpha / 2 * ||w||^2``, added to the *mean* loss (ridge, weight decay).

    scikit-learn's ``Ridge(alpha=a)`` is ``L2(a / n)`` with n the sum of the row weights, and
    ``LogisticRegression(C=c)`` is ``L2(1 / (n c))``.

    Parameters
    ----------
    alpha : float
        Strength, at least 0.

    Examples
    --------
    >>> L2(0.5).value(np.array([[[2.0]]])).tolist()
    [1.0]
    """

    alpha: float
    name = "l2"

    def __post_init__(self):
        object.__setattr__(self, "alpha", _check_strength("L2", self.alpha))

    def value(self, w):
        """``alpha / 2 * sum(w^2)`` over features and outputs, shape (m,)."""
        return 0.5 * self.alpha * np.einsum("pkm,pkm->m", w, w)

    def gradient(self, w):
        """``alpha * w``, shape (p, k, m)."""
        return self.alpha * w

    def curvature(self):
        """``alpha``: the Hessian is alpha times the identity."""
        return self.alpha

    def absolute(self):
        """0: it is smooth."""
        return 0.0


@dataclass(frozen=True)
class ElasticNet:
    """``alpha (l1_ratio ||w||_1 + (1 - l1_ratio) / 2 ||w||^2)``, added to the *mean* loss (Zou and Hastie, 2005).

    scikit-learn's ``ElasticNet(alpha=a, l1_ratio=r)`` minimises the same, its ``LogisticRegression(C=c, l1_ratio=r)``
    with a = 1 / (n c). ``||w||_1`` makes weights exactly 0.

    Parameters
    ----------
    alpha : float
        Strength, at least 0.
    l1_ratio : float
        Share of the absolute values, from 0 to 1.

    Examples
    --------
    >>> ElasticNet(2.0, l1_ratio=0.25).value(np.array([[[2.0]], [[-2.0]]])).tolist()
    [8.0]
    """

    alpha: float
    l1_ratio: float = 0.5
    name = "elastic_net"

    def __post_init__(self):
        object.__setattr__(self, "alpha", _check_strength("ElasticNet", self.alpha))
        if not (isinstance(self.l1_ratio, Real) and 0 <= self.l1_ratio <= 1):
            raise InvalidArgumentError(f"ElasticNet(l1_ratio={self.l1_ratio!r}): l1_ratio must be from 0 to 1.")
        object.__setattr__(self, "l1_ratio", float(self.l1_ratio))

    def value(self, w):
        """Over features and outputs, shape (m,)."""
        squares, sizes = np.einsum("pkm,pkm->m", w, w), np.abs(w).sum(axis=(0, 1))
        return 0.5 * self.curvature() * squares + self.absolute() * sizes

    def gradient(self, w):
        """``alpha (1 - l1_ratio) w``, of the squares, shape (p, k, m)."""
        return self.curvature() * w

    def curvature(self):
        """``alpha (1 - l1_ratio)``, of the squares."""
        return self.alpha * (1.0 - self.l1_ratio)

    def absolute(self):
        """``alpha l1_ratio``."""
        return self.alpha * self.l1_ratio


def L1(alpha: float) -> ElasticNet:
    """``alpha ||w||_1``, added to the *mean* loss: ``ElasticNet(alpha, l1_ratio=1)``, the lasso (Tibshirani, 1996).

    scikit-learn's ``Lasso(alpha=a)`` minimises the same.

    Examples
    --------
    >>> L1(0.5).value(np.array([[[2.0]], [[-3.0]]])).tolist()
    [2.5]
    """
    return ElasticNet(alpha, 1.0)


def steepest(weights: np.ndarray, gradient: np.ndarray, absolute: np.ndarray) -> np.ndarray:
    """The subgradient of least norm, 0 where the objective is least: (q, k, m), (q, k, m), (q, 1, 1) -> (q, k, m).

    ``g + a sign(w)``, and where w is 0 what a cannot make up for of g. It is g where there are no absolute values.
    """
    if not absolute.any():
        return gradient
    at_zero = np.sign(gradient) * np.maximum(np.abs(gradient) - absolute, 0.0)
    return np.where(weights == 0, at_zero, gradient + absolute * np.sign(weights))


def as_penalty(penalty: Penalty | None) -> Penalty:
    """A penalty from itself or None (no penalty). Names are refused: every penalty needs its strength."""
    if penalty is None:
        return L2(0.0)
    if isinstance(penalty, type) or not isinstance(penalty, Penalty):
        choices = ("None", "dask_gd.L2(alpha)", "dask_gd.L1(alpha)", "dask_gd.ElasticNet(alpha, l1_ratio)")
        choose("penalty", penalty if isinstance(penalty, str) else repr(penalty), dict.fromkeys(choices))
    return penalty
