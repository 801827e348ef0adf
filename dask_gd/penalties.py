"""Penalties on the weights: value, gradient and curvature. They never see data and never touch the intercept.

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
    """What the objective asks of a smooth penalty."""

    name: str

    def value(self, w: np.ndarray) -> np.ndarray: ...
    def gradient(self, w: np.ndarray) -> np.ndarray: ...
    def curvature(self) -> float: ...


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
        if not (isinstance(self.alpha, Real) and 0 <= self.alpha < float("inf")):
            raise InvalidArgumentError(f"L2(alpha={self.alpha!r}): alpha must be a finite number, 0 or more.")
        object.__setattr__(self, "alpha", float(self.alpha))

    def value(self, w):
        """``alpha / 2 * sum(w^2)`` over features and outputs, shape (m,)."""
        return 0.5 * self.alpha * np.einsum("pkm,pkm->m", w, w)

    def gradient(self, w):
        """``alpha * w``, shape (p, k, m)."""
        return self.alpha * w

    def curvature(self):
        """``alpha``: the Hessian is alpha times the identity."""
        return self.alpha


def as_penalty(penalty: str | Penalty | None) -> L2:
    """A penalty from itself or None (no penalty). Names are refused: every penalty needs its strength."""
    if penalty is None:
        return L2(0.0)
    if not isinstance(penalty, L2):
        choose(
            "penalty", penalty if isinstance(penalty, str) else repr(penalty), {"None": None, "dask_gd.L2(alpha)": None}
        )
    return penalty  # type: ignore[return-value]
