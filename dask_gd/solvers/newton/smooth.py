"""The smooth step, a `newton.Step`: a linear system leads to the minimum of the quadratic with J's derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import lapack

from ...kernels.least_squares import shortest
from ..objective import Objective
from ..vectors import dot
from .curvature import NARROW
from .state import NewtonState

#: Systems whose condition is at most the reciprocal of this lose no more than half of the digits.
WELL_CONDITIONED = 1e-8


def moves(
    state: NewtonState,
    objective: Objective,
    curvature: np.ndarray,
    damping: np.ndarray,
) -> np.ndarray:
    """Return ``-(H + c D)^-1 g`` for each damping c: (q, q, k or 1), (m,) -> (q, k, m)."""
    return -solve(curvature, state.gradient, state.diagonal, damping, objective.features)


def promise(
    state: NewtonState,
    objective: Objective,
    curvature: np.ndarray,
    move: np.ndarray,
) -> np.ndarray:
    """Return by how much the quadratic is less at the end of the full step (q, k, 1): (1,)."""
    return -0.5 * dot(move, state.gradient)


def by_cholesky(h: np.ndarray, gradient: np.ndarray) -> np.ndarray | None:
    """Return ``h^-1 g`` for each output, (q, k), or None where an h (q, q, k or 1) is not well conditioned."""
    solutions = []
    factor: Any = None
    for j in range(gradient.shape[1]):
        if j < h.shape[2]:
            factor, failed = lapack.dpotrf(h[:, :, j], lower=True)
            norm = np.abs(h[:, :, j]).sum(axis=0).max()
            if failed or not lapack.dpocon(factor, norm, uplo="L")[0] > WELL_CONDITIONED:
                return None
        solutions.append(lapack.dpotrs(factor, gradient[:, j], lower=True)[0])
    return np.stack(solutions, axis=1)


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
    if len(root) > NARROW and not damping.any():
        solution = by_cholesky(curvature / (root * root.T)[:, :, None], gradient[:, :, 0] / root)
        if solution is not None:
            return (solution / root)[:, :, None].repeat(len(damping), axis=2)
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
