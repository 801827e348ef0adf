"""What `Newton` makes of a curvature: that of other rows, a safer one, a newer one, and the step."""

from __future__ import annotations

import numpy as np

from ...kernels.least_squares import shortest
from .state import NewtonState


def rescaled(curvature: np.ndarray, old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """A sample's curvature as that of all rows: (q, q, k or 1), its scale and theirs, both (q, 1, 1).

    The scale is the bound of the curvature's diagonal, so that features rare in the sample, or in the rest, get the
    size that they have. Those that the sample lacks altogether get the bound itself.
    """
    root = np.sqrt(new / old)
    curvature = curvature * root * root[:, :, 0].T[:, :, None]
    every = np.arange(len(curvature))
    lacking = curvature[every, every] <= 0
    curvature[every, every] = np.where(lacking, new[:, 0], curvature[every, every])
    return curvature


def restrained(curvature: np.ndarray, diagonal: np.ndarray, least: float, together: int = 1) -> np.ndarray:
    """The curvature, nowhere on its diagonal far below its bound: (q, q, k or 1), (q, 1, 1).

    Where a feature is rare its rows may all be predicted with certainty; the curvature along it is then next to
    nothing, and the full step would throw its weight as far to the other side, while the loss falls for other reasons.
    So its share of the bound is taken to be at least ``least`` times the median feature's, of the same class.
    """
    every = np.arange(len(curvature))
    curvature = curvature.copy()
    share = (curvature[every, every] / diagonal[:, 0]).reshape(-1, together, curvature.shape[2])
    share = np.maximum(share, least * np.median(share, axis=0)).reshape(len(every), -1)
    curvature[every, every] = share * diagonal[:, 0]
    return curvature


def corrected(state: NewtonState, before: NewtonState) -> np.ndarray:
    """The BFGS update of the curvature by the last step, for each output that has its own."""
    s = state.weights - before.weights
    y = state.gradient - before.gradient
    curvature = state.curvature.copy()
    for j in range(curvature.shape[2]):
        h = curvature[:, :, j]
        move = s[:, j, 0]
        change = y[:, j, 0]
        image = h @ move
        inner = move @ image
        seen = move @ change
        # J is convex: less than this is rounding.
        if curvature.shape[2] == s.shape[1] and inner > 0 and seen > 1e-8 * inner:
            curvature[:, :, j] = h + np.outer(change, change) / seen - np.outer(image, image) / inner
    return curvature


def solve(
    curvature: np.ndarray, gradient: np.ndarray, diagonal: np.ndarray, damping: np.ndarray, features: int
) -> np.ndarray:
    """``(H + c D)^-1 g`` for each output and each damping c: (q, q, k or 1), (q, k, 1), (q, 1, 1), (m,) -> (q, k, m).

    Scaled to D first, so that the units of the features do not matter. Where c is 0, directions without curvature are
    left out, so that the weights of all but the intercepts, which come after the features, move the least.
    """
    root = np.sqrt(diagonal[:, 0])
    solutions = []
    for j in range(gradient.shape[1]):
        h = curvature[:, :, min(j, curvature.shape[2] - 1)] / (root * root.T)
        values, vectors = np.linalg.eigh(h)
        flat = values <= len(h) * np.finfo(float).eps * max(values[-1], 0.0)
        inverse = np.maximum(values, 0.0)[:, None] + damping
        inverse[np.ix_(flat, damping == 0.0)] = np.inf
        solution = vectors @ ((vectors.T @ (gradient[:, j] / root)) / inverse)
        solution[:, damping == 0.0] = shortest(solution[:, damping == 0.0], vectors[:, flat], features)
        solutions.append(solution / root)
    return np.stack(solutions, axis=1)
