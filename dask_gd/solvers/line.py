"""A line search in one pass: all trial steps along a direction are evaluated together, and the best is taken.

Out of core a rejected trial would cost a reading of the data, while another candidate costs one more column in a
product. Shared by `LBFGS` and `Newton`.
"""

from __future__ import annotations

import numpy as np

from ..stats import Objective
from .base import dot

#: Fraction of the decrease promised by the slope that a step must deliver (Armijo; Nocedal and Wright, 2006, eq. 3.4).
SUFFICIENT = 1e-4
#: Steps in a row without progress beyond rounding after which a solver has exhausted the arithmetic.
STALLED = 3.0


def trials(weights: np.ndarray, direction: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """The query ``w + t d`` for each step t: (q, k, 1), (q, k, 1), (m,) -> (q, k, m)."""
    return weights + direction * steps


def best(loss: float, slope: float, steps: np.ndarray, rounding: float, direction, objective: Objective) -> int | None:
    """The trial to take, or None if none lowers the loss enough.

    Among the trials whose losses cannot be told apart in this arithmetic, the one nearest to the minimum along the
    line, where the slope is smallest (after Hager and Zhang, 2005, who accept steps near convergence by slopes).
    """
    slack = rounding * abs(loss)
    good = np.isfinite(objective.loss) & (objective.loss <= loss + SUFFICIENT * steps * slope + slack)
    if not good.any():
        return None
    ties = good & (objective.loss <= objective.loss[good].min() + slack)
    slopes = np.abs(dot(np.broadcast_to(direction, objective.gradient.shape), objective.gradient))
    return int(np.argmin(np.where(ties, slopes, np.inf)))


def stuck(loss: float, new_loss: float, gradient: np.ndarray, new_gradient: np.ndarray, rounding: float) -> bool:
    """Neither loss nor gradient improve beyond rounding: the arithmetic is exhausted."""
    return bool(loss - new_loss <= rounding * abs(loss) and np.abs(new_gradient).max() > 0.5 * np.abs(gradient).max())
