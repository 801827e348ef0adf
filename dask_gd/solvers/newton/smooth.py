"""The smooth step, a `newton.Step`: a linear system leads to the minimum of the quadratic with J's derivatives."""

from __future__ import annotations

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
    near: np.ndarray | None = None,
) -> np.ndarray:
    """Return ``-(H + c D)^-1 g`` for each damping c: (q, q, k or 1), (m,) -> (q, k, m)."""
    if state.together > 1 and not damping.any():
        curvature = anchored(curvature, state.diagonal, objective.ridge, int(state.together))
    return -solve(curvature, state.gradient, state.diagonal, damping, objective.features)


def anchored(curvature: np.ndarray, diagonal: np.ndarray, ridge: np.ndarray, together: int) -> np.ndarray:
    """Return the curvature (q, q, 1) with some along a number added to all classes, which has none without a penalty.

    Gradients have no part along it, and so steps have none, and the matrix is not singular.
    """
    curvature = curvature.copy()
    for row in np.flatnonzero(ridge[:, 0, 0] == 0).tolist():
        block = slice(row * together, (row + 1) * together)
        curvature[block, block] += diagonal[block][:, :1] / together
    return curvature


def promise(
    state: NewtonState,
    objective: Objective,
    curvature: np.ndarray,
    move: np.ndarray,
) -> np.ndarray:
    """Return by how much the quadratic is less at the end of the full step (q, k, 1): (1,)."""
    return -0.5 * dot(move, state.gradient)


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
    scaled = gradient[:, :, 0] / root
    outputs = curvature.shape[2]
    solutions = []
    for j in range(outputs):
        h = curvature[:, :, j] / root
        h /= root.T
        # Outputs that share their curvature are solved together.
        right = scaled
        if outputs > 1:
            right = scaled[:, j : j + 1]
        solution = None
        if len(root) > NARROW and not damping.any():
            solution = by_cholesky(h, right)
        if solution is None:
            found = by_eigenvectors(h, right, damping, features)
        else:
            found = solution[:, :, None].repeat(len(damping), axis=2)
        solutions.append(found)
    return np.concatenate(solutions, axis=1) / root[:, :, None]


def by_cholesky(h: np.ndarray, right: np.ndarray) -> np.ndarray | None:
    """Return ``h^-1 r`` of right sides r (q, c), or None where h (q, q) is not well conditioned."""
    # A symmetric matrix is its transpose, which lies in memory as LAPACK has it.
    factor, failed = lapack.dpotrf(h.T, lower=True)
    norm = lapack.dlange("1", h.T)
    if failed or not lapack.dpocon(factor, norm, uplo="L")[0] > WELL_CONDITIONED:
        return None
    return lapack.dpotrs(factor, right, lower=True)[0]


def by_eigenvectors(
    h: np.ndarray,
    right: np.ndarray,
    damping: np.ndarray,
    features: int,
) -> np.ndarray:
    """Return ``(h + c)^-1 r`` of right sides r (q, c) for each damping, (q, c, m), see `solve`."""
    undamped = damping == 0.0
    # One decomposition serves all dampings.
    values, vectors = np.linalg.eigh(h)
    # An infinite curvature leaves a direction out.
    largest = max(values[-1], 0.0)
    flat = values <= len(h) * np.finfo(float).eps * largest
    damped = np.maximum(values, 0.0)[:, None] + damping
    damped[np.ix_(flat, undamped)] = np.inf

    rotated = (vectors.T @ right)[:, :, None] / damped[:, None, :]
    solution = (vectors @ rotated.reshape(len(h), -1)).reshape(rotated.shape)
    if flat.any() and undamped.any():
        moves = solution[:, :, undamped]
        shortened = shortest(moves.reshape(len(h), -1), vectors[:, flat], features)
        solution[:, :, undamped] = shortened.reshape(moves.shape)
    return solution
