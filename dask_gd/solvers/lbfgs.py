"""Limited-memory BFGS: a few vectors stand for the curvature, so that it serves any width.

Where absolute values of the weights are penalised, orthant by orthant (OWL-QN).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import Any, NamedTuple

import numpy as np

from ..errors import InvalidArgumentError
from ..kernels.base import Request
from ..model.prox import Prox
from ..validate import positive
from . import line_search as line
from . import vectors
from .objective import Objective
from .vectors import Vector, dot

#: Trial steps along a quasi-Newton direction, until 1 has been the best. From then on 1 nearly always is, and is tried
#: alone, since four trials take three times the arithmetic of a single trial.
STEPS = np.array([1.0, 2.0, 0.5, 0.125])
#: The trial steps that follow where 1 alone has failed.
SHORTER = 0.5 ** np.array([1.0, 3.0, 5.0, 8.0])

#: Where the loss rises at all steps, shorter steps are tried, down to this length.
LEAST = 1e-30


class LBFGSState(NamedTuple):
    """The iterate, the trials in the query, and the remembered changes."""

    weights: Vector  # (q, k, 1)
    query: Vector  # (q, k, m)
    loss: np.ndarray  # (1,)
    gradient: Vector  # (q, k, 1)
    step_size: np.ndarray  # (1,)
    promise: np.ndarray  # (1,) the decrease that the next step promises, half of slope times step
    direction: Vector  # (q, k, 1)
    steps: np.ndarray  # (m,) the trials in the query
    diagonal: Vector  # (q, 1, 1) scale of the curvature of the centred data, from the first pass
    means: Vector  # (q, 1, 1) of the features, zeros without an intercept
    pairs: Any  # (2, memory, q, k) changes of weights and of gradient, newest last; see `vectors.no_pairs`
    stored: np.ndarray  # () pairs in use
    rounding: np.ndarray  # ()
    stalled: np.ndarray  # (1,)


@dataclass(frozen=True)
class LBFGS:
    """Limited-memory BFGS (Nocedal, 1980; Nocedal and Wright, 2006, algorithm 7.4) with a one-pass line search.

    A step of 1 is tried alone where the last step was 1; should it fail, shorter steps take a second pass. Steps of
    very wide weights (more than 2^18) are tried one by one, but for the first.

    The first curvature estimate is the diagonal of J's curvature bound for centred features, so that features in
    different units and off centre are no harder than standardised ones. The first step tries lengths from a safe one
    upwards, all in one pass.

    Where absolute values are penalised (`L1`, `ElasticNet`), a step goes down the subgradient of least norm and stays
    in its orthant: weights that would change their sign become 0 (Andrew and Gao, 2007, "Scalable training of
    L1-regularized log-linear models"). Weights that are 0 in the minimum become exactly 0, mostly long before it.

    Parameters
    ----------
    memory : int
        Pairs of changes kept.
    """

    memory: int = 10
    name = "lbfgs"
    #: Near an exact fit the loss is far below the start's, of which statistics keep only sixteen digits.
    from_statistics = False
    searches = True
    samples = (0.0, 0.0)
    needs = "orthants"

    def __post_init__(self):
        positive("LBFGS", memory=self.memory)
        if int(self.memory) != self.memory:
            raise InvalidArgumentError(f"LBFGS(memory={self.memory!r}): memory must be a whole number.")
        object.__setattr__(self, "memory", int(self.memory))

    def init(self, weights, rounding):
        # The first query is the start itself. An infinite loss stands for no pass made yet.
        return LBFGSState(
            weights=weights,
            query=weights,
            loss=np.full(1, np.inf),
            gradient=vectors.zeros_like(weights),
            step_size=np.zeros(1),
            promise=np.full(1, np.inf),
            direction=vectors.zeros_like(weights),
            steps=np.zeros(1),
            diagonal=vectors.zeros_by_weight(weights) + 1.0,
            means=vectors.zeros_by_weight(weights),
            pairs=vectors.no_pairs(weights, self.memory),
            stored=np.zeros(()),
            rounding=np.array(rounding),
            stalled=np.zeros(1),
        )

    def carry(self, state, weights, rounding, last):
        """Begin again on more rows with the changes that fewer have shown."""
        return self.init(weights, rounding)._replace(pairs=state.pairs, stored=state.stored)

    def request(self, state):
        return Request()

    def step(self, state, objective):
        nonsmooth = objective.nonsmooth
        if np.isinf(state.loss[0]):
            begun = _begun(state, objective)
            return self._aim(begun, nonsmooth, nonsmooth.steepest(begun.weights, begun.gradient))

        i = line.accept(state, _slopes(state, nonsmooth), objective)
        if i is None:
            return self._without_progress(state, objective)

        # Go to the accepted trial, and remember the changes on the way, which show the curvature.
        stalled = line.at_precision(state, objective, i)
        weights = vectors.at_hand(vectors.candidate(state.query, i))
        move = vectors.compact(vectors.change(state.weights, weights))
        reached = state._replace(
            weights=weights,
            gradient=vectors.at_hand(vectors.candidate(objective.gradient, i)),
            loss=objective.loss[i : i + 1],
            step_size=state.steps[i : i + 1],
            stalled=(state.stalled + 1) * stalled,
        )
        slope = nonsmooth.steepest(reached.weights, reached.gradient)
        return self._aim(self._remember(state, reached, move, slope), nonsmooth, slope)

    def _without_progress(self, state: LBFGSState, objective: Objective) -> LBFGSState:
        """Return the state with other trials after all of them have failed, or stalled if there are none left."""
        nonsmooth = objective.nonsmooth
        shorter = SHORTER[state.steps.min() > SHORTER]
        shorter = shorter[: vectors.most_trials(state.weights, len(STEPS), not nonsmooth.is_nonsmooth)]
        if len(state.steps) == 1 and len(shorter):
            query = _trials(state, nonsmooth, state.direction, shorter)
            return state._replace(query=query, steps=shorter)
        if state.stored:
            # The remembered curvature misled: forget it and go down the gradient.
            slope = nonsmooth.steepest(state.weights, state.gradient)
            return self._aim(state._replace(stored=np.zeros(())), nonsmooth, slope)
        rises = objective.loss.min() > state.loss[0] + line.rounding_margin(state)
        if rises and state.steps.min() > LEAST:
            # The curvature has no bound: no step is safe until it has been tried.
            shortest = state.steps.min()
            longest = state.steps.max()
            steps = state.steps * shortest / (4.0 * longest)
            query = _trials(state, nonsmooth, state.direction, steps)
            return state._replace(query=query, steps=steps)
        return state._replace(stalled=np.full(1, line.STALLED), query=state.weights)

    def _remember(self, before: LBFGSState, state: LBFGSState, move: Vector, slope: Vector) -> LBFGSState:
        """Return the state with the last change of weights and gradient among its pairs; the slope is the new one."""
        pairs = vectors.with_room(before.pairs, self.memory)
        state = state._replace(pairs=pairs)
        change = vectors.compact(vectors.change(before.gradient, state.gradient))
        older = vectors.newest_pairs(pairs, min(int(before.stored), self.memory - 1))
        announce(slope, [*older, (move, change)], state.diagonal, state.means)
        # A pair without positive curvature is rounding (J is convex) and would spoil the estimate.
        [curved], [moved], [changed] = vectors.dots(move, change, move, move, change, change)
        # All is made of them that will be.
        vectors.spent(before.gradient, change)
        vectors.spent(before.weights, state.weights, move)
        vectors.spent(before.direction, move)
        if not curved > 1e-14 * np.sqrt(moved * changed):
            return state
        pairs = vectors.remember(pairs, move, change, self.memory)
        stored = min(before.stored + 1.0, float(self.memory))
        return state._replace(pairs=pairs, stored=np.array(stored))

    def _aim(self, state: LBFGSState, nonsmooth: Prox, slope: Vector) -> LBFGSState:
        """Return the state with the next direction, down the slope, and its trial steps."""
        pairs = vectors.newest_pairs(state.pairs, int(state.stored))
        direction = -inverse_curvature(slope, pairs, state.diagonal, state.means)
        if nonsmooth.is_nonsmooth:
            # The estimate may turn single weights uphill: these stay where they are.
            downhill = nonsmooth.free | (direction * slope < 0)
            direction = vectors.where(downhill, direction, 0.0)
        direction = vectors.compact(direction)

        # Without pairs the length of the step is unknown; with them it is mostly 1.
        if not state.stored:
            steps = line.trial_steps(vectors.length(state.weights))
        elif state.step_size[0] == 1.0:
            steps = STEPS[:1]
        else:
            steps = STEPS[: vectors.most_trials(state.weights, len(STEPS), not nonsmooth.is_nonsmooth)]
        query = vectors.foresee(_trials(state, nonsmooth, direction, steps))
        promise = vectors.promised(direction, slope)
        return state._replace(
            direction=direction,
            steps=steps,
            query=query,
            promise=promise,
        )


def _begun(state: LBFGSState, objective: Objective) -> LBFGSState:
    """Return the state at the start, with the scale of the curvature for centred features where means are known."""
    diagonal = line.scale(objective)
    means = state.means
    if objective.diagonal is not None and objective.means is not None:
        # c E (x - mean)^2 where the diagonal is c E x^2, c being the intercept's curvature bound.
        means = objective.means
        bound = vectors.intercept(objective.diagonal)
        spread = objective.diagonal - bound * means**2
        diagonal = np.maximum(spread, 1e-12 * diagonal)
    return state._replace(
        weights=state.query,
        loss=objective.loss,
        gradient=objective.gradient,
        diagonal=vectors.compact(diagonal),
        means=means,
    )


def _trials(
    state: LBFGSState,
    nonsmooth: Prox,
    direction: Vector,
    steps: np.ndarray,
) -> Vector:
    """Return the query: steps along the direction, (q, k, m), each up to where a penalised weight changes its sign."""
    query = vectors.along(state.weights, direction, steps)
    if not nonsmooth.is_nonsmooth:
        return query

    # A weight that is 0 goes where the subgradient sends it.
    slope = nonsmooth.steepest(state.weights, state.gradient)
    orthant = vectors.where(state.weights == 0, -np.sign(slope), np.sign(state.weights))
    stays = nonsmooth.free | (query * orthant > 0)
    return vectors.where(stays, query, 0.0)


def _slopes(state: LBFGSState, nonsmooth: Prox) -> np.ndarray:
    """Return the decreases that the gradient, or the subgradient, promises for the trials, negative: (m,)."""
    if not nonsmooth.is_nonsmooth:
        return state.steps * dot(state.direction, state.gradient)
    moves = state.query - state.weights
    slope = nonsmooth.steepest(state.weights, state.gradient)
    return dot(moves, slope)


@singledispatch
def inverse_curvature(
    v: Vector,
    pairs: Sequence[tuple[Vector, Vector]],
    diagonal: Vector,
    means: Vector,
) -> Vector:
    """Return the inverse curvature estimate times v, (q, k, 1), by the two-loop recursion (algorithm 7.4).

    ``pairs`` are the changes of weights and gradient, the newest last; the others are the state's.
    """
    # From the newest pair to the oldest.
    curved: list[np.ndarray] = []
    shares: list[np.ndarray] = []
    for s, y in reversed(pairs):
        curved.append(dot(s, y))
        share = dot(s, v) / curved[-1]
        # The first has memory of its own, in which the others change it.
        v = vectors.add_multiple(v, -share, y) if shares else v - share * y
        shares.append(share)

    # The diagonal, in the size that the newest pair shows.
    v = first_estimate(v, diagonal, means)
    if pairs:
        s, y = pairs[-1]
        estimated = dot(y, first_estimate(y, diagonal, means))
        v = v * (curved[0] / estimated)

    # And back to the newest.
    for (s, y), share, along in zip(pairs, reversed(shares), reversed(curved), strict=True):
        rest = share - dot(y, v) / along
        v = vectors.add_multiple(v, rest, s)
    return v


@singledispatch
def announce(v: Vector, pairs: Sequence[tuple[Vector, Vector]], diagonal: Vector, means: Vector) -> None:
    """Take note that `inverse_curvature` of these comes next: some of it may be computed beside what comes before."""


def first_estimate(v: Vector, diagonal: Vector, means: Vector) -> Vector:
    """Return the inverse of the scale of J's curvature, times v, as if the features were centred.

    In the parameters (w, b + means . w) the intercept and the features are nearly independent, so that there the
    curvature is near its diagonal. The gradient is taken to them, divided, and the step taken back.
    """
    step = (v - means * vectors.intercept(v)) / diagonal
    return vectors.lower_intercept(step, means)
