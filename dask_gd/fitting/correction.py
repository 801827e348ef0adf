"""One pass and a little: after a pass over all rows, steps on a sample that this pass has corrected.

A pass at the optimum of a sample gives gradient and curvature of all rows. The sample's objective with both of these in
place of its own (`solvers.newton.corrected`) has a minimum much nearer to that of all rows than the Newton step is. It
is found by passes over the sample alone, and how far it still is from a minimum of all rows can be told from how the
halves of the sample differ. `docs/one_pass.md` says more.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..kernels.base import EXACT, Request, Sums
from ..kernels.grouped import Grouped, GroupedSums
from ..model.losses import Model, classes_of
from ..model.penalties import is_nonsmooth
from ..solvers.newton.corrected import Centre, beyond_quadratic, corrected, curved, spread
from ..solvers.newton.curvature import NARROW, is_cheap
from ..solvers.objective import Objective
from .prospect import FIRST_MARGIN, MARGIN, halves_of, is_finite, is_misled, looks, objectives_of

#: Parameters up to which the curvature of all rows is worth its cost: it saves about three passes.
WIDEST = 192
#: Passes over the sample after one over all rows.
MOST = 2
#: The third derivatives of all rows are foretold from a sample whose curvature differs by no more than this share, and
#: near the optimum: where they change no more than this share of the gradient.
LIKE_ALL = 0.4
NEAR = 0.3
#: The gradient of all rows is as expected if it is no more than this many times what the halves of the sample tell.
AS_EXPECTED = 4.0
#: Passes over the sample end where the gradient that they leave is this share of the error that they cannot see.
ENOUGH = 0.3
#: Products of float32 leave this share of a curvature wrong at most, along any step.
ROUGHNESS = 1e-5
#: The root mean square of features between this and its reciprocal has squares in float32.
SMALLEST = 1e-12
#: The share of the error foretold that there is in the median of trials.
TYPICAL = 0.4


class Correction(NamedTuple):
    """What a correction has told; gradients are as `Track.norm` measures them. A checkpoint has it as an array."""

    error: float  # of the gradient at the minimum of the corrected sample
    third: float  # the gradient that third derivatives have added on the way there
    promise: float  # of the full step, which leads about there
    iteration: int  # the step that was corrected
    is_told: bool  # whether the sample can tell

    @classmethod
    def of_numbers(cls, numbers: np.ndarray) -> Correction:
        """Return the correction that a checkpoint has as an array."""
        error, third, promise, iteration, is_told = numbers.tolist()
        return cls(error, third, promise, int(iteration), bool(is_told))


class Extra(NamedTuple):
    """Passes over a sample, in passes over all rows, and the rows that they have read."""

    passes: float = 0.0
    rows: int = 0


def may_correct(track: Any) -> bool:
    """Return whether a fit's steps may be corrected by a sample: by loss, solver and width."""
    return not why_uncorrected(track)


def why_uncorrected(track: Any) -> str:
    """Return why no step is corrected by a sample, by loss, solver and width, in words; "" where one may be."""
    loss = track.loss
    if loss.quadratic or isinstance(loss, Model):
        return "its loss has no use for it"
    if classes_of(loss):
        return "a loss of classes has a curvature for each two of them, which is made of some of the rows instead"
    if track.smoothing is not None:
        return "its loss is smoothed, less and less"
    if not getattr(track.solver, "corrects", False):
        return "its solver takes no curvature of all rows"
    if len(track.start) > WIDEST:
        return f"the curvature of all rows costs too much beyond {WIDEST} parameters"
    # Where the curvature jumps nothing is foretold: passes are saved on the way, by the larger sample, or not at all.
    if not loss.smooth and (is_cheap(len(track.start)) or len(track.samples) > 1):
        return "its loss has a curvature that jumps"
    return ""


def request_for(track: Any, request: Request) -> Request:
    """Return a request with the sums over the halves of the sample, where these are of use."""
    if request.kernel is not None or track.state.query.shape[2] > 1:
        return request
    sample = None
    is_first_whole = not track.samples and track.iteration < track.since
    is_rough = not is_cheap(len(track.start)) and fits_float32(track)
    if len(track.samples) > 1 and may_correct(track):
        # The first sample: whether it is like all rows shows in its halves.
        sample = track.samples[0]
        request = request._replace(curvature=EXACT)
    elif is_first_whole or (not track.samples and request.curvature == EXACT):
        sample = track.correcting
    if sample is None:
        return request
    is_rough &= is_first_whole or bool(track.samples)
    return request._replace(kernel=Grouped(halves_of(sample)), is_rough=is_rough)


def fits_float32(track: Any) -> bool:
    """Return whether the squares of the features are numbers of float32, with room for those of rare rows."""
    moments = track.engine.moments
    if moments is None or not track.engine.weight > 0:
        return False
    sizes = np.sqrt(moments.features / track.engine.weight)
    return bool(((sizes > SMALLEST) & (sizes < 1 / SMALLEST)).all())


def correct(
    track: Any,
    query: np.ndarray,
    whole: Objective,
    groups: tuple[Sums | None, ...] | None,
    tol: float,
) -> Extra:
    """Lead the step from a pass over all rows to the minimum of the corrected sample, where that is nearer.

    ``whole`` is the objective at the query (q, k, 1) of that pass, and ``groups`` are the sums over the halves there.
    """
    state = track.state
    is_full = np.array_equal(state.weights, query) and state.query.shape[2] == 1
    halves = objectives_of(track, groups, query)
    if groups is None or halves is None or not is_full or not state.promise[0] > 0:
        return Extra()
    if is_misled(track, groups, query):
        return Extra()
    sums = groups[0].plus(groups[1])  # type: ignore[union-attr,arg-type]
    centre = Centre(query, whole, sample=track.objective_of(sums, query), halves=halves)
    unlike = _unlike(centre)
    if not (unlike < 1.0 and _may_save_a_pass(track, unlike, tol)):
        return Extra()
    if whole.curvature is None:
        # The sample's has to do.
        whole = whole._replace(curvature=centre.sample.curvature)
        centre = centre._replace(whole=whole, has_curvature=False)

    # Where the steps on the sample lead nearer, the next query is there.
    on_sample, correction, extra = _steps_on_sample(track, centre, unlike)
    if on_sample is not None and correction is not None:
        track.correction = correction
        serves_again = not whole.cheap_curvature and _serves_again(track, tol)
        track.state = track.solver.go_to(state, on_sample, serves_again)
    return extra


def _steps_on_sample(track: Any, centre: Centre, unlike: float) -> tuple[Any, Correction | None, Extra]:
    """Return the solver's state after steps on the sample alone, what they have told, and the passes that they took.

    The state is None where they lead nowhere.
    """
    sample = track.correcting
    on_sample = track.solver.on_sample(track.state)
    correction = None
    passes = 0.0
    rows = 0
    for _ in range(MOST):
        at = on_sample.query
        request = Request(curvature=EXACT, kernel=Grouped(halves_of(sample)), is_rough=track.is_rough)
        found: GroupedSums = track.engine.read(at, request, sample)
        passes += track.rows_of(sample) / track.source.shape[0]
        rows += found.at_query.rows
        of_sample = track.objective_of(found.at_query, at)
        halves = objectives_of(track, found.groups, at)
        if halves is None or not is_finite(of_sample):
            return None, None, Extra(passes, rows)

        # What the sample cannot see must be less than what it corrects.
        correction = told(track, centre, of_sample, halves, at - centre.weights, unlike)
        gained = correction.third
        if not centre.has_curvature:
            gained = track.norm(centre.whole.gradient - centre.sample.gradient) / 2
        if not correction.error < gained:
            return None, None, Extra(passes, rows)
        on_sample = track.solver.step(on_sample, corrected(of_sample, at, centre))
        is_taken = np.array_equal(on_sample.weights, at) and on_sample.query.shape[2] == 1
        if not is_taken or not on_sample.promise[0] >= 0:
            return None, None, Extra(passes, rows)

        # What a step with its own curvature leaves falls with the square of the step.
        left = correction.third * float(on_sample.promise[0]) / correction.promise
        correction = correction._replace(error=correction.error + left)
        if left <= ENOUGH * correction.error:
            break
    return on_sample, correction, Extra(passes, rows)


def _unlike(centre: Centre) -> float:
    """Return by which share the sample's curvature is wrong, or as far as its halves tell."""
    whole = centre.whole
    sample = centre.sample
    assert sample.curvature is not None
    if whole.curvature is not None:
        return spread(sample.curvature, whole.curvature, whole.ridge)
    first, second = centre.halves
    assert first.curvature is not None
    assert second.curvature is not None
    return spread(first.curvature, second.curvature, whole.ridge) / 2


def _serves_again(track: Any, tol: float) -> bool:
    """Return whether the corrected curvature serves the next step too, or is better computed again.

    With it steps fall by a share, and without faster and faster; but it costs further readings for each `NARROW`
    parameters.
    """
    q = len(track.start)
    if is_cheap(q):
        return False
    gradient = track.norm(track.state.gradient, track.state.weights)
    third = track.correction.third
    error = TYPICAL * track.correction.error
    saved = looks(gradient, third, tol, error, carried=True) - looks(gradient, third, tol, error)
    return saved < q / NARROW - 1


def _may_save_a_pass(track: Any, unlike: float, tol: float) -> bool:
    """Return whether a correction may save a pass over all rows, as far as that can be foreseen."""
    before = track.correction
    if before is not None:
        # Steps converge fast by now. The one after a correction has to be the last.
        fall = float(track.state.promise[0]) / before.promise
        return before.is_told and FIRST_MARGIN * before.error * fall <= tol < MARGIN * before.third * fall
    if track.iteration >= track.since:
        # The first step over all rows was not worth it, or could not be corrected.
        return False
    if not is_cheap(len(track.start)):
        # Without, the next passes would have this curvature too, or that of a sample.
        return True
    if is_nonsmooth(track.penalty):
        return False
    # Third derivatives show in the last step on a sample, and grow with the square of the step.
    gradient = track.norm(track.state.gradient, track.state.weights)
    norms = track.history["grad_norm"]
    if len(norms) < 2:
        return False
    third = min(gradient, norms[-1] * (gradient / norms[-2]) ** 2)
    error = 2 * unlike * third
    return looks(gradient, third, tol, error) < looks(gradient, third, tol)


def told(
    track: Any,
    centre: Centre,
    of_sample: Objective,
    halves: tuple[Objective, Objective],
    move: np.ndarray,
    unlike: float,
) -> Correction:
    """Return what a sample at the end of a move (q, k, 1) tells of the error of its third derivatives.

    It is the sum of two estimates. One is the difference between the halves of the sample, and at least what the error
    of the sample's curvature is along the move. The other is the share by which its curvature is wrong where that is
    most. In trials on 2,000 random problems ten times this was more than the error in all, see `docs/one_pass.md`.
    """
    whole = centre.whole
    assert whole.curvature is not None
    assert centre.sample.curvature is not None
    third = track.norm(beyond_quadratic(of_sample, centre.sample, move))
    first, second = (beyond_quadratic(at, half, move) for at, half in zip(halves, centre.halves, strict=True))
    between_halves = track.norm((first - second) / 2)
    expected = track.norm(curved(whole.curvature, move))
    wrong = track.norm(curved(whole.curvature - centre.sample.curvature, move))
    along = third * wrong / expected
    error = max(between_halves, along) + unlike * third + ROUGHNESS * expected
    gradient = track.norm(whole.gradient)
    is_told = unlike <= LIKE_ALL and third <= NEAR * gradient
    if not centre.has_curvature:
        # The error of the sample's curvature adds to it; and the gradient has to be what the halves let expect.
        before, after = centre.halves
        assert before.curvature is not None
        assert after.curvature is not None
        error += track.norm(curved((before.curvature - after.curvature) / 2, move))
        found_gradient = track.norm(whole.gradient - centre.sample.gradient)
        is_told = is_told and found_gradient <= AS_EXPECTED * track.norm((before.gradient - after.gradient) / 2)
    return Correction(
        error=error,
        third=third,
        promise=float(track.state.promise[0]),
        iteration=track.iteration + 1,
        is_told=is_told,
    )
