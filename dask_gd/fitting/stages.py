"""Where a fit begins again from its weights: on more rows, with less smoothing, or with another solver."""

from __future__ import annotations

import numpy as np

from ..errors import NonFiniteError
from ..kernels.base import Sums
from ..kernels.shift import better_shift, shifted, unshifted
from ..model.losses import Model
from ..solvers import STALLED
from .fit_state import FitState
from .smoothing import summary_of

#: Shares of the partitions on which a solver that can starts, and the steps it may take on each.
SHARES, STEPS_EACH = (1 / 16, 1 / 4), 8
#: Partitions, and rows for each parameter in a sample, from which sampling is worth it.
SAMPLED_PARTITIONS, ROWS_EACH = 16, 10
#: A smoothed loss is at its minimum for the next, with less smoothing, to begin where the gradient is this small.
SMOOTHED_TOL = 1e-3


def plan_samples(track: FitState) -> list[tuple[int, ...]]:
    """Return the samples to start on, a few partitions and then more, if the solver can and the data is large enough.

    Far from the solution a step needs no more rows than tell its direction: a few partitions, drawn with the
    seed, each sample within the next (Mokhtari and Ribeiro, 2017, "First-order adaptive sample size methods";
    Derezinski et al., 2018, arXiv:1704.06731). The last steps are always on all rows, so that nothing is lost
    where the data's order makes the samples poor.
    """
    count = track.source.partitions
    if not track.solver.samples or track.loss.quadratic or isinstance(track.loss, Model) or count < SAMPLED_PARTITIONS:
        return []
    order = np.random.default_rng(track.seed).permutation(count).tolist()
    # Even numbers, which more numbers of workers share evenly.
    sizes = [2 * int(np.ceil(share * count / 2)) for share in SHARES]
    samples = [tuple(sorted(order[:size])) for size in sizes]
    rows = np.diff(track.source.bounds)
    return [s for s in samples if rows[list(s)].sum() >= ROWS_EACH * track.start.size]


def advance(track: FitState, rows: int, tol: float) -> None:
    """After a step on so many rows: begin again where this stage of the fit is done."""
    if track.batched:
        return
    stalled = track.state.stalled[0] >= STALLED
    smoothing = track.smoothing
    unsettled = smoothing is not None and not smoothing.settled
    if unsettled and track.history["grad_norm"][-1] <= max(SMOOTHED_TOL, tol):
        sharpen(track)
    elif track.samples:
        steps = track.iteration - track.since
        if not unsettled or stalled or steps >= 4 * STEPS_EACH:
            take_more_rows(track, rows)
    elif stalled and not track.at_rounding():
        hand_over(track)


def restart(track: FitState) -> None:
    """Begin again at the weights."""
    track.since = track.iteration + 1
    track.state = track.solver.init(track.state.weights, track.engine.rounding)


def go_on_smoothing(track: FitState, widths: tuple[float, ...] | None) -> None:
    """Begin with the widths that another fit ended with, whose weights are the start."""
    if track.smoothing is not None and widths is not None and len(widths) == len(track.smoothing.widths):
        track.smoothing = track.smoothing.again(np.array(widths), track.source.dtype)
        track.engine.smoothed = track.smoothing.loss()


def begin_smoothing(track: FitState) -> None:
    """Find the first widths from the residuals at the start, and begin at the mean of the targets."""
    assert track.smoothing is not None
    centred = track.fit_intercept and not track.given
    seen = summary_of(track.read_residuals(track.start))
    if not all(np.isfinite(part).all() for part in seen):
        raise NonFiniteError("The residuals at the start are not finite, or their squares overflow; scale y down.")
    track.smoothing = track.smoothing.begin(seen, track.fit_intercept, track.source.dtype, track.batched)
    track.engine.smoothed = track.smoothing.loss()
    if centred:
        start = track.start.copy()
        start[track.engine.width] = seen.mean[:, None]
        track.state = track.solver.init(start, track.engine.rounding)


def sharpen(track: FitState) -> None:
    """At the minimum of a smoothed loss: smooth less and begin again, or settle for it."""
    assert track.smoothing is not None
    seen = summary_of(track.read_residuals(track.state.weights))
    track.smoothing = track.smoothing.sharpen(seen, len(track.start))
    if not track.smoothing.settled:
        track.engine.smoothed = track.smoothing.loss()
        restart(track)


def take_more_rows(track: FitState, rows: int) -> None:
    """Go on to more rows once the next step, taken unseen, promises less than these rows can tell, or little.

    A minimiser over n rows is within about (parameters) / (2 n) of the minimum over all, in log-likelihood.
    """
    state = track.state
    noise = track.start.size / (2 * rows)
    rough = track.solver.samples[-len(track.samples)] * abs(state.loss[0])
    steps = track.iteration - track.since
    if state.promise[0] <= max(noise, rough) or steps >= STEPS_EACH or state.stalled[0]:
        if state.query.shape[2] == 1:
            weights = state.query
        else:
            weights = state.weights
        track.samples = track.samples[1:]
        track.since = track.iteration + 1
        begun = track.solver.carry(state, weights, track.engine.rounding, not track.samples)  # type: ignore[attr-defined]
        # The weights remain those whose loss is known, until the next pass.
        track.state = begun._replace(weights=state.weights)
        if track.smoothing is not None:
            track.smoothing = track.smoothing._replace(settled=np.array(0.0))


def hand_over(track: FitState) -> None:
    """Go on with the next solver, if there is one, from the weights."""
    if track.turn + 1 < len(track.solvers):
        track.turn += 1
        restart(track)


def shift_columns(track: FitState, sums: Sums) -> bool:
    """Go over to a shift where a first look tells that columns are far from 0; return whether it does.

    What a solver has carried along from fewer rows is of the rows as they were, and dropped.
    """
    if isinstance(track.loss, Model):
        return False
    better = better_shift(sums, track.engine.shift, track.engine.width, track.fit_intercept, track.source.dtype)
    if better is None:
        return False
    at_start = track.state.query is track.start
    here = unshifted(track.state.query, track.engine.shift)
    take_shift(track, better)
    track.state = track.solver.init(track.start if at_start else shifted(here, better), track.engine.rounding)
    track.quadratic = None
    return True


def take_shift(track: FitState, shift: np.ndarray | None) -> None:
    """Subtract it from the rows of a fit from now on."""
    track.engine.shift = shift
    track.start = shifted(track.asked, shift)
