"""Where a step ends that nobody has looked at: a bound of the gradient there, from what earlier steps have shown."""

from __future__ import annotations

import numpy as np

from ..model.losses import classes_of
from ..model.penalties import is_nonsmooth
from .prospect import FIRST_MARGIN, MARGIN
from .rounding import uncertainty, unit_of
from .track import Track

#: A feature has lost curvature where its share of the curvature's bound is less than this part of the median's.
LOST = 0.5
#: Half of a short step's length, as it changes predictions, is what third derivatives leave of the gradient along it; a
#: step of length 1, which a weight that grows without end takes, leaves 1 / e.
HALF = 0.5
#: Steps that change predictions by less than this are short: they leave next to nothing, also with an older curvature.
SHORT = 0.05
#: Steps and sums of squares beyond this overflow when they are multiplied.
LONGEST = 1e200


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
        if is_nonsmooth(track.penalty):
            return np.inf
        after_correction = _after_correction(track)
        expected = _after_steps(track) if after_correction is None else after_correction
        expected = max(expected, _along_lost(track))

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


def _after_steps(track: Track) -> float:
    """Return the bound of the gradient at the query that the last two steps tell."""
    norms = track.history["grad_norm"][track.since :]
    order = float(track.state.order)
    if len(norms) < 2 or not order:
        return np.inf
    ratio = norms[-1] / norms[-2]
    return MARGIN * norms[-1] * ratio**order


def _along_lost(track: Track) -> float:
    """Return a bound of the gradient along features that have lost curvature, for which steps may still be long.

    If all targets of a feature's rows are 0, its weight falls by about 1 in each step, and so the gradient along it to
    1 / e of what it was: by a share that does not fall, however fast all other features converge.
    """
    state = track.state
    moments = track.engine.moments
    assert moments is not None
    every = np.arange(len(state.weights))
    curvature = state.curvature[every, every]
    squares = moments.features
    p = track.engine.width
    has_intercept = len(every) > p
    if has_intercept:
        # About the mean of each feature: what all rows have of it is the intercept's.
        with np.errstate(over="ignore", invalid="ignore"):
            squares = np.append(squares[:p] - moments.sums[:p] ** 2 / track.engine.weight, squares[p])
            curvature[:p] -= state.curvature[:p, p] ** 2 / state.curvature[p, p]
    squares = np.nan_to_num(np.abs(squares), nan=LONGEST, posinf=LONGEST)
    # A feature that is the same everywhere has none to lose.
    bound = np.zeros_like(squares)
    np.divide(squares, moments.features, out=bound, where=moments.features > 0)
    bound *= state.diagonal[:, 0, 0]
    share = np.full_like(curvature, np.inf)
    np.divide(curvature, bound[:, None], out=share, where=bound[:, None] > 0)
    has_lost = share < LOST * np.median(share, axis=0)

    # How far the step moves predictions: no value is further from its feature's mean than this.
    size = np.sqrt(squares * track.engine.source.shape[0] / track.engine.weight)
    if has_intercept:
        size[p] = 1.0
    move = np.abs(state.query - state.weights)[:, :, 0]
    length = np.minimum(move, LONGEST) * size[:, None]
    if float(state.order) == 2:
        left = HALF * np.where(length > SHORT, 1.0, length)
    else:
        left = np.where(length > SHORT, 1.0, 0.0)
    return track.norm(np.where(has_lost, left, 0.0)[:, :, None] * state.gradient)


def _after_correction(track: Track) -> float | None:
    """Return the bound of the gradient at the query that the last correction tells, or None where there was none.

    Right after it that is the error of the sample's third derivatives. A later step leads as far as its promise says,
    in the curvature's scale. It leaves what third derivatives add, as that grows with the square of the step, and with
    the corrected curvature twice that error, as it grows with the step.
    """
    correction = getattr(track, "correction", None)
    if correction is None:
        return None
    if not correction.is_told:
        # The sample is unlike the rest; steps that have been looked at since then tell.
        return np.inf if track.iteration < correction.iteration + 2 else None
    if correction.iteration == track.iteration:
        return FIRST_MARGIN * correction.error
    order = float(track.state.order)
    if not order:
        return np.inf
    fall = float(track.state.promise[0]) / correction.promise
    left = correction.third * fall
    if order < 2:
        looked_at = track.history["grad_norm"][correction.iteration + 1]
        left += 2 * max(correction.error, looked_at) * float(np.sqrt(fall))
    return MARGIN * left


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
