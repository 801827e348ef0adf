"""Weights that are at least 0: a penalty, and the minimum of a quadratic under that bound."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .penalties import ElasticNet, Penalty
from .prox import Prox

#: The slope that the minimum leaves, as a share of the largest linear term.
SOLVED = 1e-13
#: Exchanges of the active set for each weight, at most.
EXCHANGES = 10


@dataclass(frozen=True, repr=False)
class NonNegative(ElasticNet):
    """`ElasticNet` with all weights at least 0: with ``alpha=0`` nothing else is asked of them.

    scikit-learn's ``positive=True`` minimises the same. The intercept may have either sign. `Newton` and `Nesterov`
    serve it.

    Parameters
    ----------
    alpha : float or array-like (p,)
        Strength, at least 0: a number for all features, or a number for each feature.
    l1_ratio : float
        Share of the absolute values, from 0 to 1.

    Examples
    --------
    >>> from dask_gd.penalties import NonNegative
    >>> x = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 1.0], [3.0, 0.0]])
    >>> run = dask_gd.fit(x, np.array([0.0, 3.0, 4.0, 7.0]), penalty=NonNegative())
    >>> run.weights.values.round(4).tolist()
    [2.2, 0.0]
    """

    alpha: float | tuple[float, ...] = 0.0
    name = "non_negative"

    def absolute(self):
        """Return 0: the penalty makes its nonsmooth part itself."""
        return 0.0

    def nonsmooth(self, p: int, q: int) -> NonNegativePart:
        """Return the bound and the absolute values, on the first p of q parameters."""
        strength = np.zeros((q, 1, 1))
        strength[:p, 0, 0] = super().absolute()
        return NonNegativePart(strength, p)


class NonNegativePart(Prox):
    """The bound and the absolute values, of the first p parameters; the others are intercepts."""

    def __init__(self, strength: np.ndarray, p: int):
        self.strength = strength
        self.is_bounded = (np.arange(len(strength)) < p)[:, None, None]

    @property
    def free(self) -> np.ndarray:
        """True for the intercepts."""
        return ~self.is_bounded

    def value(self, u: np.ndarray) -> np.ndarray:
        """Return the sum of the absolute values, (m,). Solvers do not leave the bound."""
        return (self.strength * np.abs(u)).sum(axis=(0, 1))

    def prox(self, u: np.ndarray, rate: np.ndarray | float) -> np.ndarray:
        """Return the nearest weights at least 0, shrunk by the absolute values."""
        return np.where(self.is_bounded, np.maximum(u - rate * self.strength, 0.0), u)

    def steepest(self, u: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """Return the slope where a weight is above 0, and where it is 0 the slope that leads above."""
        slope = gradient + self.strength
        is_at_bound = self.is_bounded & (u <= 0)
        return np.where(is_at_bound, np.minimum(slope, 0.0), slope)

    def flat(self, k: int) -> NonNegativePart:
        """Return the same part for weights of k outputs in one column, feature by feature."""
        bounded = int(self.is_bounded.sum())
        return NonNegativePart(np.repeat(self.strength, k, axis=0), bounded * k)

    def minimise(self, h: np.ndarray, linear: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Return the minimum of ``u^T h u / 2 - linear^T u`` and the part, exactly 0 where it is 0.

        It is the active set method of Lawson and Hanson (1974, chapter 23), on products, as by Bro and de Jong (1997).
        """
        is_bounded = self.is_bounded[:, 0, 0]
        linear = linear - self.strength[:, 0, 0]

        # Slopes of weights in unlike units are compared as if each weight had a curvature of 1.
        unit = np.ones(len(h))
        is_curved = h.diagonal() > 0
        unit[is_curved] /= np.sqrt(h.diagonal()[is_curved])
        h = h * unit[:, None] * unit
        linear = linear * unit
        start = start / unit
        tolerance = SOLVED * np.abs(linear).max(initial=0.0)

        # The weights that are not at the bound; the start may be beyond it.
        u = np.where(is_bounded, np.maximum(start, 0.0), start)
        is_inside = ~is_bounded | (u > 0)
        u = _inside(h, linear, u, is_inside, is_bounded)
        for _ in range(EXCHANGES * len(u)):
            # The weight at the bound that leads down the most is let in.
            downhill = linear - h @ u
            leads = np.where(is_inside, -np.inf, downhill)
            best = int(leads.argmax())
            if not leads[best] > tolerance:
                break
            is_inside[best] = True
            u = _inside(h, linear, u, is_inside, is_bounded)
            # Rounding lets a weight in that does not stay.
            if not is_inside[best]:
                break
        return u * unit


def within_bounds(weights: np.ndarray, p: int, penalties: Iterable[Penalty]) -> np.ndarray:
    """Return weights (q, k, m) with the first p at least 0 if one of the penalties asks for it.

    A fit must not begin beyond the bound: solvers stay within it, and do not look for it.
    """
    if not any(isinstance(penalty, NonNegative) for penalty in penalties):
        return weights
    bounded = weights.copy()
    bounded[:p] = np.maximum(bounded[:p], 0.0)
    return bounded


def _inside(
    h: np.ndarray,
    linear: np.ndarray,
    u: np.ndarray,
    is_inside: np.ndarray,
    is_bounded: np.ndarray,
) -> np.ndarray:
    """Return the minimum over the weights inside, from u.

    Those that come to the bound on the way leave ``is_inside``.
    """
    while is_inside.any():
        aim = np.zeros_like(u)
        aim[is_inside] = _solved(h[np.ix_(is_inside, is_inside)], linear[is_inside])
        is_beyond = is_inside & is_bounded & (aim <= 0)
        if not is_beyond.any():
            return aim
        # As far as the first bound; what is there stays there.
        way = u[is_beyond] - aim[is_beyond]
        share = np.divide(u[is_beyond], way, out=np.zeros_like(way), where=way > 0).min()
        u = np.where(is_inside, u + share * (aim - u), 0.0)
        is_at_bound = is_beyond & (u <= np.finfo(float).eps * np.abs(u).max())
        if not is_at_bound.any():
            first = np.flatnonzero(is_beyond)[np.argmin(u[is_beyond])]
            is_at_bound[first] = True
        is_inside &= ~is_at_bound
        u[is_at_bound] = 0.0
    return np.zeros_like(u)


def _solved(h: np.ndarray, linear: np.ndarray) -> np.ndarray:
    """Return the solution of least norm."""
    try:
        root = np.linalg.cholesky(h)
    except np.linalg.LinAlgError:
        return np.linalg.lstsq(h, linear, rcond=None)[0]
    return np.linalg.solve(root.T, np.linalg.solve(root, linear))
