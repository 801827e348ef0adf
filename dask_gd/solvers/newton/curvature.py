"""The curvature of `Newton`: taken over from a sample, made safer, corrected by a step, and when it serves again."""

from __future__ import annotations

import numpy as np

from ...model.prox import Prox
from ..objective import Objective
from ..vectors import dot
from .state import NewtonState

#: The curvature of the last pass serves the next while the step promises less than this share of the loss: the
#: curvature of a logistic loss changes by about the root of that.
FLAT = 1e-2

#: Parameters up to which the curvature costs next to nothing beside the reading, and is computed in every pass. Beyond,
#: it adds the cost of another reading for each `NARROW` more.
NARROW = 48

#: A step with the curvature of its own point is expected to leave this share of the gradient's square. Steps with an
#: older curvature are worth as much if each leaves a root of this share, the ratio of the costs being the degree of the
#: root, see `share_left`.
LEFT = 1e-3

#: The least curvature along a feature in a restrained step, as a share of the median feature's.
SHARE = 0.5

#: Restrained steps in a row after which that share falls.
PATIENCE = 8


def is_cheap(parameters: int) -> bool:
    """Return whether the curvature of so many parameters costs next to nothing beside the reading."""
    return parameters <= NARROW


def rescaled(curvature: np.ndarray, old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Return a sample's curvature (q, q, k or 1) as that of all rows, from the scales of both, each (q, 1, 1).

    The scale is the bound of the curvature's diagonal, so that features rare in the sample, or in the rest, get the
    size that they have. Features that the sample lacks altogether get the bound itself.
    """
    root = np.sqrt(new / old)
    across = root[:, :, 0].T[:, :, None]
    curvature = curvature * root * across

    # A feature without curvature in the sample would get an endless step.
    every = np.arange(len(curvature))
    diagonal = curvature[every, every]
    curvature[every, every] = np.where(diagonal <= 0, new[:, 0], diagonal)
    return curvature


def restrained(
    curvature: np.ndarray,
    diagonal: np.ndarray,
    least: float,
    together: int = 1,
) -> np.ndarray:
    """Return the curvature (q, q, k or 1), nowhere on its diagonal far below its bound (q, 1, 1).

    Where a feature is rare its rows may all be predicted with certainty; the curvature along it is then next to
    nothing, and the full step would throw its weight as far to the other side, while the loss falls for other reasons.
    So its share of the bound is taken to be at least ``least`` times the median feature's, of the same class.
    """
    every = np.arange(len(curvature))
    curvature = curvature.copy()
    share = curvature[every, every] / diagonal[:, 0]

    # The median is over the features, for each class that shares the matrix.
    share = share.reshape(-1, together, curvature.shape[2])
    floor = least * np.median(share, axis=0)
    share = np.maximum(share, floor).reshape(len(every), -1)
    curvature[every, every] = share * diagonal[:, 0]
    return curvature


def corrected(state: NewtonState, before: NewtonState) -> np.ndarray:
    """Return the BFGS update of the curvature by the last step, for each output that has its own."""
    s = state.weights - before.weights
    y = state.gradient - before.gradient
    curvature = state.curvature.copy()
    if curvature.shape[2] != s.shape[1]:
        return curvature
    for j in range(curvature.shape[2]):
        h = curvature[:, :, j]
        move = s[:, j, 0]
        change = y[:, j, 0]
        image = h @ move
        expected = move @ image
        observed = move @ change
        # J is convex: less than this is rounding.
        if expected > 0 and observed > 1e-8 * expected:
            gained = np.outer(change, change) / observed
            replaced = np.outer(image, image) / expected
            curvature[:, :, j] = h + gained - replaced
    return curvature


def step_curvature(state: NewtonState) -> np.ndarray:
    """Return the curvature that the next step is taken with, (q, q, k or 1)."""
    if not state.restrained:
        return state.curvature
    excess = max(0.0, float(state.restrained) - PATIENCE)
    share = SHARE * 0.25**excess
    return restrained(state.curvature, state.diagonal, share, int(state.together))


def serves_again(state: NewtonState, before: NewtonState, objective: Objective) -> bool:
    """Return whether the next pass need not compute the curvature, which costs more than the reading.

    It serves again while the gradient still falls fast from state to state.
    """
    q = len(state.weights)
    is_flat = state.promise[0] <= FLAT * abs(state.loss[0])
    if is_cheap(q) or objective.cheap_curvature or not is_flat:
        return False
    is_first = np.isinf(before.loss[0])
    if is_first or objective.curvature is not None:
        return True
    now = gradient_size(state, objective.nonsmooth)
    return bool(now <= share_left(q) * gradient_size(before, objective.nonsmooth))


def gradient_size(state: NewtonState, nonsmooth: Prox) -> float:
    """Return the square of the subgradient of least norm, in the scale of the curvature."""
    slope = nonsmooth.steepest(state.weights, state.gradient)
    return dot(slope / state.diagonal, slope)[0]


def share_left(q: int) -> float:
    """Return the share of the gradient's square that a step may leave for its curvature to serve the next one too."""
    return LEFT ** (1 / (1 + q / NARROW))
