"""A line search in one pass: all trial steps along a direction are evaluated together, and the best is taken.

Out of core a rejected trial would cost a reading of the data, while another candidate costs one more column in a
product. Shared by `LBFGS` and `Newton`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..kernels.base import candidates
from . import vectors
from .objective import Objective
from .vectors import Vector, dot, largest

#: Fraction of the decrease promised by the slope that a step must deliver (Armijo; Nocedal and Wright, 2006, eq. 3.4).
SUFFICIENT = 1e-4
#: Steps in a row without progress beyond rounding after which a solver has exhausted the arithmetic.
STALLED = 3.0


def scale(objective: Objective) -> Vector:
    """Return the size of J's curvature along each weight, (q, 1, 1), from the bound that comes with the first pass."""
    diagonal = objective.diagonal
    if diagonal is None:
        return vectors.zeros_by_weight(objective.gradient) + 1.0
    # A weight without curvature is given the largest, so that its steps are short.
    most = largest(diagonal)[0] or 1.0
    return vectors.where(diagonal > 0, diagonal, most)


def trial_steps(q: int) -> np.ndarray:
    """Return trial steps along the gradient divided by `scale`, from a safe one up.

    So scaled, J's curvature is at most q in any direction: 1 / q is safe. More than 1 is useful only where the
    curvature is far below its bound. Very wide weights have fewer trials, further apart.
    """
    powers = int(np.ceil(np.log(q) / np.log(4.0)))
    rungs = min(16, powers + 5)
    longest = 4.0 ** (rungs - 1)
    count = min(rungs, candidates(q))
    return (1.0 / q) * np.geomspace(1.0, longest, count)


def accept(state: Any, slopes: np.ndarray, objective: Objective) -> int | None:
    """Return the number of the trial to take, or None if no trial lowers the loss enough.

    ``slopes`` (m,) are the decreases that the gradient promises, negative. Among the trials whose losses cannot be told
    apart in this arithmetic it is the one with the smallest gradient (Hager and Zhang, 2005, too accept steps near
    convergence by gradients where losses say nothing).
    """
    # Trials that deliver a share of the promise, but for rounding.
    loss = state.loss[0]
    slack = state.rounding * abs(loss)
    enough = objective.loss <= loss + SUFFICIENT * slopes + slack
    good = np.isfinite(objective.loss) & enough
    if not good.any():
        return None

    # Among equal losses the gradients decide.
    least = objective.loss[good].min()
    ties = good & (objective.loss <= least + slack)
    if ties.sum() == 1:
        return int(np.argmax(ties))
    sizes = np.full(len(ties), np.inf)
    for i in np.flatnonzero(ties).tolist():
        gradient = vectors.candidate(objective.gradient, i)
        slope = objective.nonsmooth.steepest(vectors.candidate(state.query, i), gradient)
        sizes[i] = dot(slope / state.diagonal, slope)[0]
    return int(np.argmin(sizes))


def rounding_margin(state: Any) -> float:
    """Return the least change of the loss that is no rounding."""
    loss = abs(float(state.loss[0]))
    return 100 * float(state.rounding) * loss


def at_precision(state: Any, objective: Objective, taken: int) -> bool:
    """Return whether neither loss nor gradient improve beyond rounding, so that the arithmetic is exhausted."""
    loss = state.loss[0]
    if loss - objective.loss[taken] > state.rounding * abs(loss):
        return False
    steepest = objective.nonsmooth.steepest
    old_slope = steepest(state.weights, state.gradient) / state.diagonal
    gradient = vectors.candidate(objective.gradient, taken)
    new_slope = steepest(vectors.candidate(state.query, taken), gradient) / state.diagonal
    old = largest(np.abs(old_slope))[0]
    new = largest(np.abs(new_slope))[0]
    return bool(new > 0.5 * old)
