"""The penalty on weights in blocks: the same strength for all features, as a vector that solvers use."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import InvalidArgumentError
from ..model.penalties import Penalty, has_own_part
from ..model.prox import Prox
from ..solvers import vectors
from .block_sums import know_sums, squares_of, sum_of
from .expression import Sum, applied, constant
from .vector import BlockVector, Space, same


def is_served(penalty: Penalty) -> bool:
    """Return whether a penalty is the same for all features, weight by weight: weights in blocks take no other."""
    strengths = (penalty.curvature(), penalty.absolute())
    is_plain = not has_own_part(penalty) and getattr(penalty, "groups", None) is None
    return is_plain and all(np.ndim(strength) == 0 for strength in strengths)


def check_penalty(penalty: Penalty) -> None:
    """Refuse a penalty that weights in blocks do not take.

    Raises
    ------
    InvalidArgumentError
    """
    if not is_served(penalty):
        raise InvalidArgumentError(
            f"penalty={penalty!r} with weights in blocks: these take None, L2, L1 and ElasticNet with one number for "
            "all features. Choose one of them, or weights='whole'."
        )


class BlockProx(Prox):
    """Absolute values of all weights, with one strength, but for the intercepts."""

    def __init__(self, space: Space, strength: float):
        self.strength = strength
        #: The intercepts have none.
        self.strengths = same(space, strength, 0.0)

    @property
    def is_nonsmooth(self) -> bool:
        """True if the strength is above 0."""
        return self.strength > 0

    @property
    def free(self) -> BlockVector:  # type: ignore[override]
        """True for the intercepts, or for all weights where nothing is penalised."""
        return self.strengths == 0

    def value(self, u: Any) -> np.ndarray:
        """Return the value: (q, k, m) -> (m,)."""
        [found] = u.space.compute([], self.sums(u))()
        return self.strength * found.sum(axis=0)

    def sums(self, u: BlockVector) -> list[Sum]:
        """Return the sums of which the value is made."""
        return [Sum(applied(np.abs, u.node), constant(np.ones((1, 1))))]

    def prox(self, u: Any, rate: Any) -> Any:
        """Return the weights nearer to 0 by ``rate * strength``: (q, k, m), (m,) -> (q, k, m)."""
        if not self.is_nonsmooth:
            return u
        return np.sign(u) * np.maximum(np.abs(u) - rate * self.strengths, 0.0)

    def steepest(self, u: Any, gradient: Any) -> Any:
        """Return the sum of the gradient and the subgradient at u that is least: (q, k, m), (q, k, m) -> (q, k, m)."""
        if not self.is_nonsmooth:
            return gradient
        elsewhere = gradient + self.strengths * np.sign(u)
        return vectors.where(u == 0, self.prox(gradient, 1.0), elsewhere)


def value_of(penalty: Penalty, query: BlockVector) -> np.ndarray:
    """Return the penalty at the candidates of a query, (m,)."""
    curvature = float(penalty.curvature())
    m = query.node.shape[1]
    value = np.zeros(m)
    if curvature:
        value = value + 0.5 * curvature * _squares(query)
    prox = BlockProx(query.space, float(penalty.absolute()))
    if prox.is_nonsmooth:
        value = value + prox.value(query)
    return value


def _squares(query: BlockVector) -> np.ndarray:
    """Return the sum of the squares of the weights, without the intercepts, (m,)."""
    know_sums(query.space, squares_of(query))
    if query.line is None:
        return sum_of(query, query).sum(axis=0)
    # Along a line it is a polynomial of the step.
    start, direction, steps = query.line
    at_start = sum_of(start, start).sum(axis=0)
    mixed = sum_of(start, direction).sum(axis=0)
    along = sum_of(direction, direction).sum(axis=0)
    return at_start + 2.0 * steps * mixed + steps**2 * along
