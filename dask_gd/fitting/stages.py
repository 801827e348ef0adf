"""Where a fit begins again from its weights: on more rows, with less smoothing, or with another solver."""

from __future__ import annotations

import numpy as np

from ..errors import NonFiniteError
from ..kernels.base import Sums
from ..kernels.shift import better_shift, shifted, unshifted
from ..model.losses import Model
from ..solvers import STALLED
from .forecast import is_rounding, rounding_bound, unit_of
from .smoothing import summary_of
from .state import FitState

#: Shares of the partitions on which a solver that can starts, and the steps it may take on each.
SHARES, STEPS_EACH = (1 / 16, 1 / 4), 8
#: Partitions, and rows for each parameter in a sample, from which sampling is worth it.
SAMPLED_PARTITIONS, ROWS_EACH = 16, 10
#: A smoothed loss is at its minimum for the next, with less smoothing, to begin where the gradient is this small.
SMOOTHED_TOL = 1e-3


def plan_samples(run: FitState) -> list[tuple[int, ...]]:
    """Return the samples to start on, a few partitions and then more, if the solver can and the data is large enough.

    Far from the solution a step needs no more rows than tell its direction: a few partitions, drawn with the
    seed, each sample within the next (Mokhtari and Ribeiro, 2017, "First-order adaptive sample size methods";
    Derezinski et al., 2018, arXiv:1704.06731). The last steps are always on all rows, so that nothing is lost
    where the data's order makes the samples poor.
    """
    count = run.source.partitions
    if not run.solver.samples or run.loss.quadratic or isinstance(run.loss, Model) or count < SAMPLED_PARTITIONS:
        return []
    order = np.random.default_rng(run.seed).permutation(count).tolist()
    # Even numbers, which more numbers of workers share evenly.
    sizes = [2 * int(np.ceil(share * count / 2)) for share in SHARES]
    samples = [tuple(sorted(order[:size])) for size in sizes]
    rows = np.diff(run.source.bounds)
    return [s for s in samples if rows[list(s)].sum() >= ROWS_EACH * run.start.size]


def advance(run: FitState, rows: int, tol: float) -> None:
    """After a step on so many rows: begin again where this stage of the fit is done."""
    if run.batched:
        return
    stalled = run.state.stalled[0] >= STALLED
    smoothing = run.smoothing
    unsettled = smoothing is not None and not smoothing.settled
    if unsettled and run.history["grad_norm"][-1] <= max(SMOOTHED_TOL, tol):
        sharpen(run)
    elif run.samples:
        steps = run.iteration - run.since
        if not unsettled or stalled or steps >= 4 * STEPS_EACH:
            take_more_rows(run, rows)
    elif stalled and not at_rounding(run):
        hand_over(run)


def restart(run: FitState) -> None:
    """Begin again at the weights."""
    run.since = run.iteration + 1
    run.state = run.solver.init(run.state.weights, run.rounding)


def go_on_smoothing(run: FitState, widths: tuple[float, ...] | None) -> None:
    """Begin with the widths that another fit ended with, whose weights are the start."""
    if run.smoothing is not None and widths is not None and len(widths) == len(run.smoothing.widths):
        run.smoothing = run.smoothing.again(np.array(widths), run.source.dtype)
        run.smoothed = run.smoothing.loss()


def begin_smoothing(run: FitState) -> None:
    """Find the first widths from the residuals at the start, and begin at the mean of the targets."""
    assert run.smoothing is not None
    centred = run.fit_intercept and not run.given
    seen = summary_of(run.read_residuals(run.start))
    if not all(np.isfinite(part).all() for part in seen):
        raise NonFiniteError("The residuals at the start are not finite, or their squares overflow; scale y down.")
    run.smoothing = run.smoothing.begin(seen, run.fit_intercept, run.source.dtype, run.batched)
    run.smoothed = run.smoothing.loss()
    if centred:
        start = run.start.copy()
        start[run.width] = seen.mean[:, None]
        run.state = run.solver.init(start, run.rounding)


def sharpen(run: FitState) -> None:
    """At the minimum of a smoothed loss: smooth less and begin again, or settle for it."""
    assert run.smoothing is not None
    seen = summary_of(run.read_residuals(run.state.weights))
    run.smoothing = run.smoothing.sharpen(seen, len(run.start))
    if not run.smoothing.settled:
        run.smoothed = run.smoothing.loss()
        restart(run)


def take_more_rows(run: FitState, rows: int) -> None:
    """Go on to more rows once the next step, taken unseen, promises less than these rows can tell, or little.

    A minimiser over n rows is within about (parameters) / (2 n) of the minimum over all, in log-likelihood.
    """
    state = run.state
    noise = run.start.size / (2 * rows)
    rough = run.solver.samples[-len(run.samples)] * abs(state.loss[0])
    steps = run.iteration - run.since
    if state.promise[0] <= max(noise, rough) or steps >= STEPS_EACH or state.stalled[0]:
        if state.query.shape[2] == 1:
            weights = state.query
        else:
            weights = state.weights
        run.samples = run.samples[1:]
        run.since = run.iteration + 1
        begun = run.solver.carry(state, weights, run.rounding, not run.samples)  # type: ignore[attr-defined]
        # The weights remain those whose loss is known, until the next pass.
        run.state = begun._replace(weights=state.weights)
        if run.smoothing is not None:
            run.smoothing = run.smoothing._replace(settled=np.array(0.0))


def hand_over(run: FitState) -> None:
    """Go on with the next solver, if there is one, from the weights."""
    if run.turn + 1 < len(run.solvers):
        run.turn += 1
        restart(run)


def at_rounding(run: FitState) -> bool:
    """Return whether the gradient at the weights is 0 as far as the arithmetic can tell."""
    assert run.moments is not None
    unit = unit_of(run.source, run.rounding)
    bound = run.grad_norm(rounding_bound(run.state, run.moments, run.weight, unit, run.smoothed))
    return is_rounding(run.history["grad_norm"][-1], bound)


def shift_columns(run: FitState, sums: Sums) -> bool:
    """Go over to a shift where a first look tells that columns are far from 0; return whether it does.

    What a solver has carried along from fewer rows is of the rows as they were, and dropped.
    """
    if isinstance(run.loss, Model):
        return False
    better = better_shift(sums, run.shift, run.width, run.fit_intercept, run.source.dtype)
    if better is None:
        return False
    at_start = run.state.query is run.start
    here = unshifted(run.state.query, run.shift)
    take_shift(run, better)
    run.state = run.solver.init(run.start if at_start else shifted(here, better), run.rounding)
    run.quadratic = None
    return True


def take_shift(run: FitState, shift: np.ndarray | None) -> None:
    """Subtract it from the rows of a fit from now on."""
    run.shift = shift
    run.start = shifted(run.asked, shift)
