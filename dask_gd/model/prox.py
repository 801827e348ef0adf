"""The nonsmooth part of a penalty, as solvers see it."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

from .norms import Norms
from .quadratic.lasso import minimise

#: Steps of the accelerated proximal gradient at most.
STEPS = 10_000
#: Slope that it leaves at the minimum, as a share of the largest linear term.
SOLVED = 1e-13


@runtime_checkable
class Prox(Protocol):
    """The nonsmooth part of a penalty: a convex function of all parameters, intercepts included, (q, k, m) -> (m,).

    It is the sum over the k outputs of the same function of each output's parameters. A penalty of one's own derives
    its part from this class and defines `value`, `prox` and `steepest`; the others have defaults. See `Penalty` for a
    whole penalty.
    """

    @property
    def is_nonsmooth(self) -> bool:
        """True if there is any such part."""
        return True

    @property
    def free(self) -> np.ndarray | bool:
        """True for each weight that has no part in it, such as an intercept: (q, 1, 1), or False for all."""
        return False

    def value(self, u: np.ndarray) -> np.ndarray:
        """Return the value: (q, k, m) -> (m,)."""
        ...

    def prox(self, u: np.ndarray, rate: np.ndarray | float) -> np.ndarray:
        """Return the v of least ``||v - u||^2 / 2 + rate * value(v)``: (q, k, m), (m,) -> (q, k, m)."""
        ...

    def steepest(self, u: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """Return the least of all sums of the gradient and a subgradient at u: (q, k, m), (q, k, m) -> (q, k, m).

        Where the gradient is that of a smooth function at u, it is 0 at the minimum of the sum of both: the fit ends by
        its size.
        """
        ...

    def change(self, u: np.ndarray, moves: np.ndarray) -> np.ndarray:
        """Return how much the moves add to the value: (q, k, 1), (q, k, m) -> (m,)."""
        return self.value(u + moves) - self.value(u)

    def minimise(self, h: np.ndarray, linear: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Return the minimum of ``u^T h u / 2 - linear^T u + value(u)``, for one output: (q, q), (q,), (q,) -> (q,).

        Where there is no minimum, for lack of curvature, any finite point may be returned. The default is accelerated
        proximal gradient with restarts, as in `Nesterov`. A step costs a product with h, and many are taken where
        directions have different curvatures.
        """
        return _descend(self, h, linear, start)

    def flat(self, k: int) -> Prox:
        """Return the same function of the parameters of k outputs in one column, feature by feature."""
        return Flat(self, k)


class NonSmooth(Norms):
    """`Norms` as a `Prox`, without its defaults: their form allows better."""

    __slots__ = ()

    def change(self, u: np.ndarray, moves: np.ndarray) -> np.ndarray:
        """Return how much the moves add to the value, from differences of the terms, which lose fewer digits."""
        added = self.shares(u + moves) - self.shares(u)
        return added.sum(axis=(0, 1))

    def minimise(self, h: np.ndarray, linear: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Return the minimum of a quadratic and the norms, exactly 0 where it is 0; see `quadratic.lasso`."""
        return minimise(h, linear, self, start)

    def flat(self, k: int) -> NonSmooth:
        """Return the same sum for weights of k outputs in one column, feature by feature."""
        # The groups of each output have numbers of their own.
        groups = k * self.groups[:, None] + np.arange(k)
        strength = np.repeat(self.strength, k, axis=0)
        return NonSmooth(strength, groups.ravel())


class Flat(Prox):
    """A nonsmooth part for the parameters of k outputs in one column, (q k, 1, m)."""

    def __init__(self, part: Prox, k: int):
        self.part = part
        self.k = k

    @property
    def is_nonsmooth(self) -> bool:
        """True if there is any such part."""
        return self.part.is_nonsmooth

    def value(self, u: np.ndarray) -> np.ndarray:
        """Return the value: (q k, 1, m) -> (m,)."""
        return self.part.value(self._by_output(u))

    def prox(self, u: np.ndarray, rate: np.ndarray | float) -> np.ndarray:
        """Return the proximal point: (q k, 1, m), (m,) -> (q k, 1, m)."""
        return self.part.prox(self._by_output(u), rate).reshape(u.shape)

    def steepest(self, u: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """Return the least sum of the gradient and a subgradient: (q k, 1, m), (q k, 1, m) -> (q k, 1, m)."""
        slope = self.part.steepest(self._by_output(u), self._by_output(gradient))
        return slope.reshape(gradient.shape)

    def _by_output(self, u: np.ndarray) -> np.ndarray:
        """Return the parameters with an axis for the outputs: (q k, 1, m) -> (q, k, m)."""
        return u.reshape(-1, self.k, u.shape[2])


def _descend(
    part: Prox,
    h: np.ndarray,
    linear: np.ndarray,
    start: np.ndarray,
) -> np.ndarray:
    """Return the minimum of ``u^T h u / 2 - linear^T u + part(u)``, (q,), by accelerated proximal gradient.

    It is FISTA (Beck and Teboulle, 2009) with restarts (O'Donoghue and Candes, 2015). It ends where the slope is
    `SOLVED`, or a step changes nothing beyond rounding.
    """
    curvature = float(np.linalg.eigvalsh(h)[-1])
    rate = 1.0
    if curvature > 0:
        rate = 1.0 / curvature
    tolerance = SOLVED * np.abs(linear).max(initial=0.0)

    u = start
    point = start
    taken = 0
    for _ in range(STEPS):
        # Without a minimum the way leads to infinity.
        with np.errstate(over="ignore", invalid="ignore"):
            downhill = linear - h @ point
            new = part.prox((point + rate * downhill)[:, None, None], rate)[:, 0, 0]
        if not np.isfinite(new).all():
            return start

        # A step that points uphill restarts the acceleration.
        change = new - u
        if (point - new) @ change > 0:
            taken = 0
        point = new + taken / (taken + 3.0) * change
        taken += 1
        u = new

        # The slope is looked at where the step is small.
        rounding = np.finfo(float).eps * np.abs(u).max()
        if np.abs(change).max() <= rounding:
            break
        if curvature * np.abs(change).max() <= 1e3 * tolerance:
            gradient = h @ u - linear
            slope = part.steepest(u[:, None, None], gradient[:, None, None])
            if np.abs(slope).max() <= tolerance:
                break
    return u
