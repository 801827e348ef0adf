"""Where a step ends that nobody has looked at: a bound of the gradient there, from what earlier steps have shown."""

from __future__ import annotations

import numpy as np

from ..model.losses import classes_of
from ..model.penalties import is_nonsmooth
from .rounding import uncertainty, unit_of
from .track import Track

#: The gradient after a step is foreseen to be at most this many times what the steps before suggest. In trials on
#: random problems once it was enough for all but two steps of 181, and three times for all.
MARGIN = 5.0


def gradient_bound(track: Track) -> float:
    """Return a bound of the gradient at the query, as `Track.norm` measures it, or infinity where there is no telling.

    For a quadratic loss it is known, for others the solver foretells it; in either case but for the rounding of what
    it is computed from, which no look would get below.
    """
    if not is_foretold(track):
        return np.inf
    engine = track.engine
    state = track.state
    q, k, _ = state.query.shape
    curvature = np.broadcast_to(state.curvature, (q, q, k))

    # The gradient of a quadratic loss is linear; else the last steps show how it falls.
    if engine.loss.quadratic:
        change = np.einsum("qrk,rkm->qkm", curvature, state.query - state.weights)
        expected = track.norm(state.gradient + change, state.query)
    else:
        norms = track.history["grad_norm"][track.since :]
        if len(norms) < 2 or not state.order or is_nonsmooth(track.penalty):
            return np.inf
        ratio = norms[-1] / norms[-2]
        expected = MARGIN * norms[-1] * ratio ** float(state.order)

    # What rounding may add.
    size = np.abs(curvature)

    def curved(values: np.ndarray) -> np.ndarray:
        return np.einsum("qrk,rk->qk", size, values)

    assert engine.moments is not None
    rounding = uncertainty(
        state,
        moments=engine.moments,
        weight=engine.weight,
        unit=unit_of(engine.source, engine.rounding),
        curved=curved,
    )
    return expected + track.norm(rounding)


def is_foretold(track: Track) -> bool:
    """Return whether the steps so far may tell where the next ends."""
    engine = track.engine
    state = track.state
    # Nothing is foretold of samples, of a first step, or where several steps are tried.
    if track.samples or engine.moments is None:
        return False
    if np.isinf(state.loss[0]) or state.query.shape[2] != 1:
        return False
    # Nor by solvers that do not know how they converge, or of losses whose curvature jumps or couples the outputs.
    if not hasattr(state, "order") or not engine.loss.smooth or classes_of(engine.loss):
        return False
    return track.solver.request(state).kernel is None
