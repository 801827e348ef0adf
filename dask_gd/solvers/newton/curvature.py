"""The curvature of `Newton`: taken over from a sample, made safer, corrected by a step; and the step it gives."""

from __future__ import annotations

import numpy as np

from ...kernels.least_squares import shortest
from .state import NewtonState

#: Directions tried together, in one pass, when the full step fails.
DAMPED = 12


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


def solve(
    curvature: np.ndarray,
    gradient: np.ndarray,
    diagonal: np.ndarray,
    damping: np.ndarray,
    features: int,
) -> np.ndarray:
    """Return ``(H + c D)^-1 g`` for each output and each damping c.

    Shapes: (q, q, k or 1), (q, k, 1), (q, 1, 1), (m,) -> (q, k, m).

    The system is scaled to D first, so that the units of the features do not matter. Where c is 0, directions without
    curvature are left out, so that the weights of all but the intercepts, which come after the features, move the
    least.
    """
    root = np.sqrt(diagonal[:, 0])
    undamped = damping == 0.0
    solutions = []
    for j in range(gradient.shape[1]):
        # One decomposition serves all dampings.
        shared = curvature[:, :, min(j, curvature.shape[2] - 1)]
        h = shared / (root * root.T)
        values, vectors = np.linalg.eigh(h)

        # An infinite curvature leaves a direction out.
        largest = max(values[-1], 0.0)
        flat = values <= len(h) * np.finfo(float).eps * largest
        damped = np.maximum(values, 0.0)[:, None] + damping
        damped[np.ix_(flat, undamped)] = np.inf

        rotated = vectors.T @ (gradient[:, j] / root)
        solution = vectors @ (rotated / damped)
        solution[:, undamped] = shortest(solution[:, undamped], vectors[:, flat], features)
        solutions.append(solution / root)
    return np.stack(solutions, axis=1)


def dampings(q: int, shortest: bool = False) -> np.ndarray:
    """Return dampings, (1 + DAMPED,): 0 for the full step, then from a safe damping down to a slight damping.

    A safe damping is always enough. For the ``shortest`` steps, where no damping always is, they go from there up.
    """
    powers = DAMPED * shortest - np.arange(DAMPED)
    return np.append(0.0, q * 4.0**powers)
