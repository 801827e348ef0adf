"""Where a step ends that nobody has looked at: a bound of the gradient there, from what earlier steps have shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .losses import classes_of
from .stats import block_rows

if TYPE_CHECKING:
    from .run import Run

#: The gradient after a step is foreseen to be at most this many times what the steps before suggest. In trials on
#: random problems once it was enough for all but two steps of 181, and three times for all.
MARGIN = 5.0


def expected(run: Run) -> float:
    """A bound of the gradient at the query, as `grad_norm` measures it, or infinity where there is no telling.

    Of a quadratic loss it is known, of others foretold by the solver; in either case but for the rounding of what
    it is computed from, which no look would get below.
    """
    state = run.state
    unknown = run.samples or run.moments is None or not hasattr(state, "order") or not run.loss.smooth
    unknown = unknown or run.solver.needs(state).kernel is not None
    if unknown or classes_of(run.loss) or state.query.shape[2] != 1 or np.isinf(state.loss[0]):
        return np.inf
    q, k, _ = state.query.shape
    curvature = np.broadcast_to(state.curvature, (q, q, k))
    if run.loss.quadratic:
        change = np.einsum("qrk,rkm->qkm", curvature, state.query - state.weights)
        found = run.grad_norm(state.gradient + change, state.query)
    else:
        seen = run.history["grad_norm"][run.since :]
        if len(seen) < 2 or not state.order or np.any(run.penalty.absolute()):
            return np.inf
        found = MARGIN * seen[-1] * (seen[-1] / seen[-2]) ** float(state.order)
    return found + run.grad_norm(uncertainty(run, np.abs(curvature)))


def uncertainty(run: Run, curvature: np.ndarray) -> np.ndarray:
    """What rounding may have done to the gradient, (q, k, 1); ``curvature`` (q, q, k) is that of absolute values.

    Sums of products are as exact as their many blocks average out. The weights' own rounding to the data's dtype
    is the same in all of them.
    """
    assert run.moments is not None
    p, dtype = run.source.shape[1], run.source.dtype
    blocks = max(1.0, run.source.shape[0] / block_rows(p, dtype.itemsize))
    eps = float(np.finfo(dtype).eps)
    unit = max(run.rounding, 4 * eps / np.sqrt(blocks))
    query, weights = (np.abs(w[:, :, 0]) for w in (run.state.query, run.state.weights))
    rounded = unit * query + eps * weights
    # The intercept is added in float64.
    rounded[p:] = run.rounding * query[p:]
    size = np.einsum("qrk,rk->qk", curvature, rounded)
    size += unit * np.sqrt(run.moments.features[:, None] * run.moments.slopes[None, :]) / run.weight
    if len(size) > p:
        # So that centring does not cancel what rounding may have added.
        size[:p] *= np.where(run.moments.sums[:p] > 0, -1.0, 1.0)[:, None]
    return size[:, :, None]
