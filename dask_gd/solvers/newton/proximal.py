"""The proximal step, a `newton.Step`: it leads to the minimum of the quadratic and the penalty's nonsmooth part.

That minimum is computed on the client (proximal Newton; Lee, Sun and Saunders, 2014, "Proximal Newton-type methods for
minimizing composite functions").
"""

from __future__ import annotations

import numpy as np

from ..objective import Objective
from ..vectors import dot
from .state import NewtonState


def moves(
    state: NewtonState,
    objective: Objective,
    curvature: np.ndarray,
    damping: np.ndarray,
    near: np.ndarray | None = None,
) -> np.ndarray:
    """Return the ways from the weights to the minimum, for each damping: (q, q, k or 1), (m,) -> (q, k, m)."""
    # Each output has a minimum of its own, for each damping.
    q, k, _ = state.weights.shape
    found = np.empty((q, k, len(damping)))
    for j in range(k):
        w = state.weights[:, j, 0]
        g = state.gradient[:, j, 0]
        own_curvature = curvature[:, :, min(j, curvature.shape[2] - 1)]
        # A minimum is found soonest from another one near it, such as that of another damping.
        start = w
        if near is not None:
            start = w + near[:, j, 0]
        for i, c in enumerate(damping):
            h = own_curvature
            if c:
                h = h.copy()
                h.flat[:: q + 1] += c * state.diagonal[:, 0, 0]
            linear = h @ w - g
            start = objective.nonsmooth.minimise(h, linear, start)
            found[:, j, i] = start - w
    return found


def promise(
    state: NewtonState,
    objective: Objective,
    curvature: np.ndarray,
    move: np.ndarray,
) -> np.ndarray:
    """Return by how much quadratic and penalty are less at the end of the full step (q, k, 1): (1,)."""
    q, k, _ = move.shape
    curved = np.einsum("qrk,rkm->qkm", np.broadcast_to(curvature, (q, q, k)), move)
    change = dot(move, state.gradient + 0.5 * curved)
    return -(change + objective.nonsmooth.change(state.weights, move))
