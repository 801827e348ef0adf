"""Newton's method: the whole (q, q) curvature each pass, and very few passes.

This is its loop: which trial of a query is taken, and what is asked next. Where a step leads is the business of
`smooth`, `proximal` and `least_squares`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ...kernels.base import EXACT, Request
from .. import line_search as line
from ..objective import Objective
from ..vectors import dot
from . import least_squares, proximal, smooth
from .curvature import corrected, is_cheap, rescaled, serves_again, step_curvature
from .outputs import flatten_outputs, separate_outputs
from .state import AHEAD, FULL, SAME, SHORTER, SHORTEST, NewtonState

#: A step that promises more than this share of the loss is restrained along single features, see `restrained`.
NEAR = 1e-4

#: Share of its bound below which the curvature is so flat that dampings must be slighter, see `dampings`.
FLATTENED = 1e-3

#: Directions tried together, in one pass, when the full step fails.
DAMPED = 12


@dataclass(frozen=True)
class Newton:
    """Newton's method with exact curvature (Boyd and Vandenberghe, 2004, section 9.5), for narrow data.

    A pass computes loss, gradient and the (q, q) curvature H, q the number of features and the intercept; the client
    solves ``H d = -g``. Near the solution H is not computed again for as long as the gradient still falls fast: each
    step corrects it by the change of the gradient along it (the BFGS update; Nocedal and Wright, 2006, eq. 6.19).
    The last sample's H begins the passes over all rows in this way. A last step needs no pass where the steps before
    foretell that it ends within the tolerance (Hairer and Wanner, 1996, section IV.8, stop simplified Newton
    iterations by the share of the error that the last one left).

    The full step is tried first. Should it fail, ``(H + c D) d = -g`` for twelve dampings c are tried together in one
    pass (Levenberg, 1944; Marquardt, 1963), with D the diagonal of the curvature bound;
    since ``q D`` bounds the curvature everywhere, one of them lowers the loss. A loss whose curvature has no bound may
    rise at all of them; then still shorter ones are tried.

    Where the penalty is nonsmooth (`L1`, `ElasticNet`, `GroupLasso`) each step goes to the minimum of the quadratic
    and the nonsmooth part, computed on the client (proximal Newton; Lee, Sun and Saunders, 2014): weights are exactly 0
    where they are in that minimum.

    For the squared loss the curvature is computed once: the first step solves the normal equations, and later ones
    refine the solution with residuals computed from the rows. Where these equations have lost too many digits, a second
    pass solves them in a basis that is nearly orthogonal, see `kernels.least_squares`. A singular curvature (collinear
    columns) gives the weights of least norm after scaling the columns; in float32 it is singular up to rounding only,
    and the weights along such columns are arbitrary.

    Weights must be one NumPy array, of which there is a matrix; other `vectors` are not served.
    """

    name = "newton"
    from_statistics = False
    searches = True
    #: A step that promises little of the loss lands where the next is much smaller.
    samples = (0.2, 0.03)
    #: After a pass over all rows its steps go to the minimum of a sample's objective, corrected by that pass.
    corrects = True
    needs = "prox"

    def init(self, weights, rounding):
        q = len(weights)
        # The first query is the start itself. An infinite loss stands for no pass made yet.
        return NewtonState(
            weights=weights,
            query=weights,
            loss=np.full(1, np.inf),
            gradient=np.zeros_like(weights),
            step_size=np.zeros(1),
            promise=np.full(1, np.inf),
            curvature=np.zeros((q, q, 1)),
            restrained=np.array(0.0),
            stale=np.array(0.0),
            own_curvature=np.array(0.0),
            order=np.array(0.0),
            asked=np.array(SAME),
            diagonal=np.ones((q, 1, 1)),
            together=np.array(1.0),
            rounding=np.array(rounding),
            stalled=np.zeros(1),
            basis=np.zeros((0, 0)),
            refines=np.array(0.0),
        )

    def carry(self, state, weights, rounding, last):
        """Begin again on more rows, on all of them with the curvature of fewer, where it is worth keeping."""
        fresh = self.init(weights, rounding)
        if not last or is_cheap(weights.size):
            return fresh
        return fresh._replace(
            curvature=state.curvature,
            diagonal=state.diagonal,
            together=state.together,
            stale=np.array(1.0),
        )

    def on_sample(self, state):
        """Return the state for steps on a corrected sample, whose passes compute the curvature."""
        return state._replace(stale=np.array(0.0))

    def go_to(self, state, on_sample, serves_again):
        """Return the state with the query that steps on a corrected sample lead to, and the curvature next to it.

        From the weights on it is a step like any other: it is taken only if the loss of all rows falls.
        """
        return state._replace(
            query=on_sample.query,
            promise=state.loss - (on_sample.loss - on_sample.promise),
            curvature=on_sample.curvature,
            stale=np.array(float(serves_again)),
            own_curvature=np.array(AHEAD),
            order=np.array(0.0),
        )

    def request(self, state):
        in_basis = least_squares.request(state)
        if in_basis is not None:
            return in_basis
        if state.asked in (SHORTER, SHORTEST) or state.stale:
            return Request()
        return Request(curvature=EXACT)

    def step(self, state, objective):
        if objective.own is not None:
            return least_squares.step(state, objective)

        # The steps know one column of parameters for each curvature.
        q, k, _ = state.weights.shape
        after = after_pass(*flatten_outputs(state, objective))
        after = separate_outputs(after, q, k, objective)
        return least_squares.go_over(after, objective)


def after_pass(state: NewtonState, objective: Objective) -> NewtonState:
    """Return the state after a pass: take a trial, update the curvature, and set out on the next full step."""
    is_first = bool(np.isinf(state.loss[0]))
    if is_first:
        state = with_scale(state, objective)

    # Take the trial that lowers the loss most, or ask for shorter steps.
    accepted: int | None = 0
    if state.asked != SAME:
        accepted = line.accept(state, slopes_of(state, objective), objective)
    if accepted is None:
        is_far = bool(objective.loss.min() > state.loss[0] + line.rounding_margin(state))
        return shorter_steps(state, objective, is_far)
    before = state
    state = take(state, objective, accepted)

    # The curvature is the pass's, or the last curvature, corrected by the step.
    if objective.curvature is not None:
        state = state._replace(curvature=objective.curvature)
    elif not state.stale:
        # A shorter step was taken from a pass without curvature: look at the same point again.
        return state._replace(query=state.weights, asked=np.array(SAME))
    elif not is_first and before.own_curvature != AHEAD:
        state = state._replace(curvature=corrected(state, before))

    # Set out on the full step, with what is known of the next pass and of how the step converges.
    state, move = full_step(state, objective)
    was_full = not is_first and not damping_of(before, accepted)[0]
    is_near = state.promise[0] <= NEAR * abs(state.loss[0])
    # After a correction the step is near in any case, unless it is restrained.
    is_near |= before.own_curvature == AHEAD and not state.restrained
    own_curvature = objective.curvature is not None and bool(is_near)
    state = state._replace(
        stale=np.array(float(serves_again(state, before, objective))),
        own_curvature=np.array(float(own_curvature)),
    )
    state = state._replace(order=np.array(order_of(state, before, was_full)))
    slope = objective.nonsmooth.steepest(state.weights, state.gradient)
    if state.promise[0] <= 0 and slope.any():
        # The curvature has vanished: so far from the solution the loss is a straight line.
        return shorter_steps(state._replace(asked=np.array(FULL)), objective, is_far=False)
    return state._replace(query=state.weights + move, asked=np.array(FULL))


def with_scale(state: NewtonState, objective: Objective) -> NewtonState:
    """Return the state with the scale of the first pass, and a sample's curvature in it."""
    diagonal = line.scale(objective)
    if state.stale:
        state = state._replace(curvature=rescaled(state.curvature, state.diagonal, diagonal))
    return state._replace(diagonal=diagonal)


def slopes_of(state: NewtonState, objective: Objective) -> np.ndarray:
    """Return the decreases that the gradient and the penalty promise for the trials, negative: (m,)."""
    moves = state.query - state.weights
    gradient = np.broadcast_to(state.gradient, moves.shape)
    return dot(moves, gradient) + objective.nonsmooth.change(state.weights, moves)


def take(state: NewtonState, objective: Objective, accepted: int) -> NewtonState:
    """Return the state at the accepted trial."""
    stalled = False
    step_size = np.zeros(1)
    if state.asked != SAME:
        stalled = line.at_precision(state, objective, accepted)
        step_size = 1 / (1 + damping_of(state, accepted))
    return state._replace(
        weights=state.query[:, :, accepted : accepted + 1],
        loss=objective.loss[accepted : accepted + 1],
        gradient=objective.gradient[:, :, accepted : accepted + 1],
        step_size=step_size,
        stalled=(state.stalled + 1) * stalled,
    )


def dampings(state: NewtonState, asked: float) -> np.ndarray:
    """Return dampings, (1 + DAMPED,): 0 for the full step, then from a safe damping down to a slight damping.

    A safe damping is always enough. For the `SHORTEST` steps, where no damping always is, they go from there up. They
    are shares of the curvature's bound. Where all of the curvature is far below it, as of rows that a plane separates,
    a slight damping is so much less.
    """
    q = len(state.weights)
    powers = -np.arange(float(DAMPED))
    if asked == SHORTEST:
        powers += DAMPED
        return np.append(0.0, q * 4.0**powers)
    every = np.arange(q)
    share = float((state.curvature[every, every] / state.diagonal[:, 0]).max())
    if 0 < share < FLATTENED:
        powers *= 1 - np.log(share) / np.log(4.0) / (DAMPED - 1)
    return np.append(0.0, q * 4.0**powers)


def damping_of(state: NewtonState, accepted: int) -> np.ndarray:
    """Return the damping of the accepted trial, (1,)."""
    damping = dampings(state, float(state.asked))
    if state.asked != FULL:
        damping = damping[1:]
    return damping[accepted : accepted + 1]


class Step(Protocol):
    """Where a curvature (q, q, k or 1) leads: to the minimum of the model of J that has it. `smooth` or `proximal`."""

    def moves(
        self,
        state: NewtonState,
        objective: Objective,
        curvature: np.ndarray,
        damping: np.ndarray,
        near: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return the ways from the weights to the minimum, for each damping (m,) of the curvature: (q, k, m).

        The way ``near`` (q, k, 1) leads near the first minimum, and may make it quicker to find.
        """
        ...

    def promise(
        self,
        state: NewtonState,
        objective: Objective,
        curvature: np.ndarray,
        move: np.ndarray,
    ) -> np.ndarray:
        """Return by how much the model is less at the end of the undamped move (q, k, 1): (1,)."""
        ...


def step_for(objective: Objective) -> Step:
    """Return the step that the penalty needs."""
    if objective.nonsmooth.is_nonsmooth:
        return proximal
    return smooth


def full_step(state: NewtonState, objective: Objective) -> tuple[NewtonState, np.ndarray]:
    """Return the state with the promise of the full step, and the step, (q, k, 1).

    A step that promises much is taken with a curvature that is `restrained`.
    """
    in_a_row = state.restrained + 1.0
    state = state._replace(restrained=np.array(0.0))
    state, move = undamped_step(state, objective)
    if state.promise[0] > NEAR * abs(state.loss[0]):
        state = state._replace(restrained=np.array(in_a_row))
        # Where no feature is restrained the step is the same.
        if not np.array_equal(step_curvature(state), state.curvature):
            state, move = undamped_step(state, objective, near=move)
    return state, move


def undamped_step(
    state: NewtonState,
    objective: Objective,
    near: np.ndarray | None = None,
) -> tuple[NewtonState, np.ndarray]:
    """Return the state with the promise of the step that its curvature leads to, and the step, (q, k, 1)."""
    step = step_for(objective)
    curvature = step_curvature(state)
    move = step.moves(state, objective, curvature, np.zeros(1), near)
    promise = step.promise(state, objective, curvature, move)
    return state._replace(promise=promise), move


def order_of(state: NewtonState, before: NewtonState, was_full: bool) -> float:
    """Return how the next step converges: 1 linearly, 2 quadratically, 0 where there is no telling.

    It can be told only at the end of a full step. Steps with the curvature of their own point square the error; others
    leave the same share of it each time.
    """
    if not was_full:
        return 0.0
    if state.own_curvature and before.own_curvature:
        return 2.0
    return 1.0


def shorter_steps(state: NewtonState, objective: Objective, is_far: bool) -> NewtonState:
    """Return the state that tries shorter steps after a failure.

    Where the full step failed the damped steps are tried. Where these failed too, still shorter steps are tried if
    they went too far; else the arithmetic is exhausted.
    """
    state = state._replace(
        stale=np.array(0.0),
        own_curvature=np.array(0.0),
        order=np.array(0.0),
    )
    if state.asked == FULL:
        asked = SHORTER
    elif state.asked == SHORTER and is_far:
        asked = SHORTEST
    else:
        return state._replace(
            query=state.weights,
            asked=np.array(SAME),
            stalled=np.full(1, line.STALLED),
        )
    damping = dampings(state, asked)[1:]
    moves = step_for(objective).moves(state, objective, step_curvature(state), damping)
    return state._replace(query=state.weights + moves, asked=np.array(asked))
