"""Newton's method for factors of very many levels: the largest factor is eliminated from each step's linear system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ...kernels.base import Request, candidates
from ...kernels.curvature_parts import InParts
from .. import line_search as line
from ..objective import Objective
from ..vectors import dot
from .elimination import Elimination

#: The kinds of a query, as a state stores them: the first point, whose step begins at the targets where that is safer;
#: the full step; the full step that is expected to be the last; the weights again, for their curvature; shorter steps;
#: and still shorter ones.
START = 0.0
FULL = 1.0
LAST = 2.0
SAME = 3.0
SHORTER = 4.0
SHORTEST = 5.0

#: A step that promises less than this share of the loss is expected to be the last: the gradient after it is about the
#: square of what it is before.
NEARLY = 1e-8


class SchurState(NamedTuple):
    """The iterate and the query. The curvature is never kept: it is as large as the distinct pairs of levels."""

    weights: np.ndarray  # (q, k, 1)
    query: np.ndarray  # (q, k, m)
    loss: np.ndarray  # (1,)
    gradient: np.ndarray  # (q, k, 1)
    step_size: np.ndarray  # (1,) the share of the full step; 0 where no step was taken
    promise: np.ndarray  # (1,) the decrease that the full step promises
    asked: np.ndarray  # () the kind of the query
    steps: np.ndarray  # (m,) the shares of the full step that the query has
    diagonal: np.ndarray  # (q, 1, 1) scale of the curvature, from the first pass
    rounding: np.ndarray  # ()
    stalled: np.ndarray  # (1,)


@dataclass(frozen=True)
class NewtonSchur:
    """Newton's method for rows of numbers and codes, with factors of very many levels (fixed effects).

    A pass computes loss, gradient and the curvature in parts, see `kernels.curvature_parts`: sums by level, and sums
    for each pair of levels that occurs. The client eliminates the largest factor, whose block of the curvature is
    diagonal, and solves for all else, see `elimination`. The steps are those of Newton's method with the whole
    curvature (Boyd and Vandenberghe, 2004, section 9.5), however badly the factors are connected.

    The full step is tried first. Should the loss not fall, shorter steps along it are tried together in one pass. Where
    the loss has no bound of its curvature (Poisson, Gamma, Tweedie) the first step is that of iteratively reweighted
    least squares, from halfway between the targets and their mean.

    It serves smooth penalties, and several outputs for the squared loss. A checkpoint has the weights and the gradient,
    and no curvature.
    """

    name = "newton_schur"
    from_statistics = False
    searches = True
    #: A sample has too few rows of each level.
    samples = ()
    needs = "smooth"

    def init(self, weights, rounding):
        return SchurState(
            weights=weights,
            query=weights,
            loss=np.full(1, np.inf),
            gradient=np.zeros_like(weights),
            step_size=np.zeros(1),
            promise=np.full(1, np.inf),
            asked=np.array(START),
            steps=np.ones(1),
            diagonal=np.ones((len(weights), 1, 1)),
            rounding=np.array(rounding),
            stalled=np.zeros(1),
        )

    def request(self, state):
        if state.asked in (LAST, SHORTER, SHORTEST):
            return Request()
        # A start that is no more than an intercept tells less than the targets do.
        is_blank = np.count_nonzero(state.weights) <= state.weights.shape[1]
        from_targets = bool(state.asked == START) and bool(is_blank)
        return Request(kernel=InParts(from_targets=from_targets))

    def step(self, state, objective):
        is_first = bool(np.isinf(state.loss[0]))
        if is_first:
            state = state._replace(diagonal=line.scale(objective))

        # Take the trial that lowers the loss most, or ask for shorter steps.
        accepted: int | None = 0
        if not is_first and state.asked != SAME:
            moves = state.query - state.weights
            gradient = np.broadcast_to(state.gradient, moves.shape)
            slopes = np.minimum(dot(moves, gradient), 0.0)
            accepted = line.accept(state, slopes, objective)
        if accepted is None:
            return shorter_steps(state)
        state = take(state, objective, accepted)

        # The step needs the curvature there.
        if objective.own is None:
            return state._replace(query=state.weights, asked=np.array(SAME), steps=np.zeros(1))
        return full_step(state, objective)


def take(state: SchurState, objective: Objective, accepted: int) -> SchurState:
    """Return the state at the accepted trial."""
    stalled = state.stalled
    step_size = np.zeros(1)
    if np.isfinite(state.loss[0]) and state.asked != SAME:
        stalled = (state.stalled + 1) * line.at_precision(state, objective, accepted)
        step_size = state.steps[accepted : accepted + 1]
    return state._replace(
        weights=state.query[:, :, accepted : accepted + 1],
        loss=objective.loss[accepted : accepted + 1],
        gradient=objective.gradient[:, :, accepted : accepted + 1],
        step_size=step_size,
        stalled=stalled,
    )


def full_step(state: SchurState, objective: Objective) -> SchurState:
    """Return the state that asks for the full step."""
    own = objective.own
    system = Elimination(own.parts, objective.ridge[:, 0, 0])
    gradient = state.gradient[:, :, 0] + own.correction
    move = -system.solve(gradient)[:, :, None]
    promise = -0.5 * dot(move, state.gradient)
    asked = FULL
    # A quadratic loss is at its minimum after a step.
    if objective.quadratic or promise[0] <= NEARLY * abs(state.loss[0]):
        asked = LAST
    return state._replace(
        query=state.weights + move,
        promise=promise,
        asked=np.array(asked),
        steps=np.ones(1),
    )


def shorter_steps(state: SchurState) -> SchurState:
    """Return the state that asks for shorter steps along the one that failed, or has exhausted the arithmetic."""
    if state.asked == SHORTEST:
        return state._replace(
            query=state.weights,
            asked=np.array(SAME),
            steps=np.zeros(1),
            stalled=np.full(1, line.STALLED),
        )
    asked = SHORTER
    if state.asked == SHORTER:
        asked = SHORTEST
    shortest = state.steps[-1]
    move = state.query[:, :, -1:] - state.weights
    shares = 0.25 ** np.arange(1.0, 1 + candidates(len(move)))
    return state._replace(
        query=state.weights + move * shares,
        asked=np.array(asked),
        steps=shortest * shares,
    )
