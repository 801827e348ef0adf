"""Where a fit begins again from its weights: on more rows, with less smoothing, or with another solver."""

from __future__ import annotations

import numpy as np

from ..errors import NonFiniteError
from ..kernels.base import Sums
from ..kernels.shift import better_shift, shifted, unshifted
from ..model.losses import Model
from ..solvers import STALLED
from ..solvers.newton.curvature import is_cheap
from .correction import may_correct
from .fit_state import FitState
from .prospect import Prospect, are_alike, is_misled, prospect
from .smoothing import summary_of
from .track import Evaluated, has_few_products

#: Shares of the partitions on which a solver that can starts, and the steps it may take on each.
SHARES = (1 / 16, 1 / 4)
STEPS_EACH = 8
#: Steps allowed, partitions, and rows for each parameter in a sample, from which sampling is worth it.
WORTH_SAMPLING = 25
SAMPLED_PARTITIONS = 16
ROWS_EACH = 10
#: Rows for each parameter in the first sample, where it corrects, beyond which more tell next to nothing new: what its
#: third derivatives are wrong by is less than `tol` by then.
ENOUGH_EACH = 2000
#: Steps converge quadratically where each promises less than this share of what the last has gained.
FAST = 0.1
#: A smoothed loss is at its minimum for the next, with less smoothing, to begin where the gradient is this small.
SMOOTHED_TOL = 1e-3


def plan_samples(track: FitState) -> list[tuple[int, ...]]:
    """Return the samples to start on, a few partitions and then more, if the solver can and the data is large enough.

    Far from the solution a step needs no more rows than tell its direction: a few partitions, drawn with the
    seed, each sample within the next (Mokhtari and Ribeiro, 2017, "First-order adaptive sample size methods";
    Derezinski et al., 2018, arXiv:1704.06731). The last steps are always on all rows, so that nothing is lost
    where the data's order makes the samples poor.
    """
    if _why_whole(track):
        return []
    count = track.source.partitions
    order = np.random.default_rng(track.seed).permutation(count).tolist()
    rows = np.diff(track.source.bounds)
    samples: list[tuple[int, ...]] = []
    for share in SHARES:
        wanted = share * count
        if not samples and may_correct(track) and not is_cheap(len(track.start)):
            wanted = min(wanted, ENOUGH_EACH * track.start.size / rows.mean())
        # An even number of partitions, which more numbers of workers share evenly.
        size = 2 * int(np.ceil(wanted / 2))
        sample = tuple(sorted(order[:size]))
        # A sample of few rows tells no direction.
        if rows[list(sample)].sum() >= ROWS_EACH * track.start.size:
            samples.append(sample)
    return samples


def begin_on_samples(track: FitState, max_iter: int) -> str:
    """Have the fit begin on samples, or return why it begins on all rows, in words."""
    why = _why_whole(track)
    if not why and track.given:
        why = "it begins at initial_weights"
    if not why and max_iter < WORTH_SAMPLING:
        why = f"max_iter is less than {WORTH_SAMPLING}"
    if why:
        return why
    track.samples = plan_samples(track)
    if not track.samples:
        why = f"samples have fewer than {ROWS_EACH} rows for each of {track.start.size:,} parameters"
    return why


def _why_whole(track: FitState) -> str:
    """Return why a fit does not begin on samples: by its loss, its solver or its partitions; "" where it may."""
    if track.loss.quadratic:
        return "its loss is squared"
    if isinstance(track.loss, Model):
        return "its loss is a model of its own"
    if not track.solver.samples:
        return "its solver takes none"
    if track.source.partitions < SAMPLED_PARTITIONS:
        return f"the rows have fewer than {SAMPLED_PARTITIONS} partitions"
    return ""


def advance(track: FitState, found: Evaluated, query: np.ndarray, tol: float) -> None:
    """After a step from what was found at the query: begin again where this stage of the fit is done."""
    if track.batched:
        return
    stalled = track.state.stalled[0] >= STALLED
    smoothing = track.smoothing
    unsettled = smoothing is not None and not smoothing.settled
    if unsettled and track.grad_norm <= max(SMOOTHED_TOL, tol):
        sharpen(track)
    elif track.samples:
        steps = track.iteration - track.since
        if not unsettled or stalled or steps >= 4 * STEPS_EACH:
            take_more_rows(track, found, query, tol)
    elif _was_led_away(track):
        begin_again(track)
    elif track.iteration == track.since and _began_badly(track, found, query, tol):
        draw_again(track)
    elif stalled and not track.at_rounding():
        hand_over(track)


def restart(track: FitState) -> None:
    """Begin again at the weights."""
    track.since = track.iteration + 1
    track.correction = None
    track.state = track.solver.init(track.state.weights, track.engine.rounding)


def go_on_smoothing(track: FitState, widths: tuple[float, ...] | None) -> None:
    """Begin with the widths that another fit ended with, whose weights are the start."""
    if track.smoothing is None or widths is None:
        return
    if len(widths) == len(track.smoothing.widths):
        track.smoothing = track.smoothing.again(np.array(widths), track.source.dtype)
        track.engine.smoothed = track.smoothing.loss()


def begin_smoothing(track: FitState) -> None:
    """Find the first widths from the residuals at the start, and begin at the mean of the targets."""
    assert track.smoothing is not None
    engine = track.engine
    may_move = track.fit_intercept and not track.given
    residuals = summary_of(track.read_residuals(track.start))
    if not all(np.isfinite(part).all() for part in residuals):
        raise NonFiniteError("The residuals at the start are not finite, or their squares overflow; scale y down.")
    track.smoothing = track.smoothing.begin(
        residuals,
        centred=track.fit_intercept,
        dtype=track.source.dtype,
        batched=track.batched,
    )
    engine.smoothed = track.smoothing.loss()
    if may_move:
        start = track.start.copy()
        start[engine.width] = residuals.mean[:, None]
        track.state = track.solver.init(start, engine.rounding)


def sharpen(track: FitState) -> None:
    """At the minimum of a smoothed loss: smooth less and begin again, or settle for it."""
    assert track.smoothing is not None
    residuals = summary_of(track.read_residuals(track.state.weights))
    track.smoothing = track.smoothing.sharpen(residuals, len(track.start))
    if not track.smoothing.settled:
        track.engine.smoothed = track.smoothing.loss()
        restart(track)


def take_more_rows(track: FitState, found: Evaluated, query: np.ndarray, tol: float) -> None:
    """Go on to more rows once the next step, taken unseen, promises less than these rows can tell, or little.

    A minimiser over n rows is within about (parameters) / (2 n) of the minimum over all, in log-likelihood. Where the
    curvature costs more than to read the rows, a sample that is like all rows is worked through to that, and then all
    are read: it corrects what follows.
    """
    state = track.state
    noise = track.start.size / (2 * found.sums.rows)
    rough = track.solver.samples[-len(track.samples)] * abs(state.loss[0])
    promise = state.promise[0]
    is_wide = not is_cheap(len(track.start))
    is_first = len(track.samples) > 1
    corrects = may_correct(track) and (is_first or is_wide)
    expected = None
    if corrects and is_first:
        corrects = are_alike(track, found.groups, query)
    if corrects and is_first and is_wide:
        expected = prospect(track, found.groups, query)
        corrects = expected is None or _is_worth(track, expected, tol)
    is_last_sample = not is_first or (is_wide and corrects)
    if is_first and is_last_sample:
        # Where steps converge quadratically, the one after the next promises less by the square of what this does.
        losses = track.losses[track.since :]
        rough = 0.0
        if len(losses) > 1 and promise < FAST * (losses[-2] - losses[-1]):
            promise *= (promise / (losses[-2] - losses[-1])) ** 2
    steps = track.iteration - track.since
    is_done = promise <= max(noise, rough) or steps >= STEPS_EACH or state.stalled[0]
    if not is_done:
        return
    if corrects:
        track.correcting = track.samples[0]
    if is_last_sample:
        track.samples = track.samples[:1]
    # The curvature is taken along where to compute it costs more than to read the rows.
    takes_along = not (track.source.row_format.cheap_gram or has_few_products(found.sums, track.engine.width))
    if corrects and is_wide:
        takes_along &= expected is not None and expected.spares_curvature(tol)

    # A step that is the only one to try is taken unseen.
    weights = state.weights
    if state.query.shape[2] == 1:
        weights = state.query
    track.samples = track.samples[1:]
    track.since = track.iteration + 1
    begun = track.solver.carry(
        state,
        weights=weights,
        rounding=track.engine.rounding,
        last=not track.samples and takes_along,
    )
    # The weights remain those whose loss is known, until the next pass.
    track.state = begun._replace(weights=state.weights)
    if track.smoothing is not None:
        track.smoothing = track.smoothing._replace(settled=np.array(0.0))


def _is_worth(track: FitState, expected: Prospect, tol: float) -> bool:
    """Return whether to read all rows after the first sample, and correct, takes fewer passes than a larger sample."""
    first, second = (track.rows_of(sample) / track.source.shape[0] for sample in track.samples[:2])
    later = second + expected.looks_from_larger(tol, second / first)
    return first + expected.looks_with_curvature(tol) <= later


def _began_badly(track: FitState, found: Evaluated, query: np.ndarray, tol: float) -> bool:
    """Return whether all rows were read after the first sample, which has led away from what they have."""
    if track.correcting is None or is_cheap(len(track.start)) or track.grad_norm <= tol:
        return False
    samples = plan_samples(track)
    return len(samples) > 1 and track.correcting == samples[0] and is_misled(track, found.groups, query)


def _was_led_away(track: FitState) -> bool:
    """Return whether the loss of all rows where a sample has led is more than twice that of its rows at the start.

    Targets that a sample lacks may have exponential losses there, from which steps do not find back.
    """
    if not track.iteration == track.since > 0:
        return False
    # All rows may have begun again already.
    rows = track.history["rows"]
    if not rows[-2] < rows[-1]:
        return False
    first = track.losses[0]
    return track.losses[-1] - first > abs(first)


def begin_again(track: FitState) -> None:
    """Go back to the start, with all rows."""
    track.correcting = None
    track.correction = None
    track.since = track.iteration + 1
    track.state = track.solver.init(track.start, track.engine.rounding)


def draw_again(track: FitState) -> None:
    """Go back to the larger sample: the first has led away from what all rows have."""
    track.correcting = None
    track.correction = None
    track.samples = plan_samples(track)[1:]
    restart(track)


def hand_over(track: FitState) -> None:
    """Go on with the next solver, if there is one, from the weights."""
    if track.turn + 1 < len(track.solvers):
        track.turn += 1
        restart(track)


def shift_columns(track: FitState, sums: Sums) -> bool:
    """Go over to a shift where a first look tells that columns are far from 0; return whether it does.

    What a solver has carried along from fewer rows is of the rows as they were, and dropped.
    """
    engine = track.engine
    if isinstance(track.loss, Model):
        return False
    better = better_shift(
        sums,
        shift=engine.shift,
        row_format=track.source.row_format,
        fit_intercept=track.fit_intercept,
    )
    if better is None:
        return False

    # The same query, as parameters of the rows less the shift; the start remains the start itself.
    query = track.state.query
    at_start = query is track.start
    query = shifted(unshifted(query, engine.shift), better)
    take_shift(track, better)
    if at_start:
        query = track.start
    track.state = track.solver.init(query, engine.rounding)
    track.quadratic = None
    track.correction = None
    return True


def take_shift(track: FitState, shift: np.ndarray | None) -> None:
    """Subtract it from the rows of a fit from now on."""
    track.engine.shift = shift
    track.start = shifted(track.asked, shift)
