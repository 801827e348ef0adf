"""Newton's method: the whole (q, q) curvature each pass, and very few passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..stats import EXACT, Needs
from . import line
from .base import dot

#: Directions tried together, in one pass, when the full step fails.
DAMPED = 12

#: The curvature of the last pass serves the next while the step promises less than this share of the loss: the
#: curvature of a logistic loss changes by about the root of that, and each pass still gains two digits.
FLAT = 1e-3

FULL, SHORTER, SAME = 0.0, 1.0, 2.0


class NewtonState(NamedTuple):
    weights: np.ndarray  # (q, k, 1)
    query: np.ndarray  # (q, k, m)
    loss: np.ndarray  # (1,)
    gradient: np.ndarray  # (q, k, 1)
    step_size: np.ndarray  # (1,) 1 / (1 + damping); 0 where no step was taken
    promise: np.ndarray  # (1,) the decrease that the full step promises, half the Newton decrement squared
    directions: np.ndarray  # (q, k, 1 + DAMPED) from the weights: the full step, then the damped ones
    curvature: np.ndarray  # (q, q, k or 1) of the last pass that computed it
    stale: np.ndarray  # () 1 if the next pass need not compute it again
    asked: np.ndarray  # () what the query is: FULL or SHORTER steps, or the SAME point again
    diagonal: np.ndarray  # (q, 1, 1) scale of the curvature, from the first pass
    rounding: np.ndarray  # ()
    stalled: np.ndarray  # (1,)


@dataclass(frozen=True)
class Newton:
    """Newton's method with exact curvature (Boyd and Vandenberghe, 2004, section 9.5), for narrow data.

    A pass computes loss, gradient and the (q, q) curvature H, q the number of features and the intercept; the client
    solves ``H d = -g``. Near the solution H is kept for as long as each step still gains a digit. The full step
    is tried first. Should it fail, ``(H + c D) d = -g`` for twelve dampings c are tried together in one pass
    (Levenberg, 1944; Marquardt, 1963), with D the diagonal of the curvature bound; since ``q D`` bounds the
    curvature everywhere, one of them lowers the loss.

    For the squared loss the curvature is computed once: the first step solves the normal equations, and later ones
    refine the solution with residuals computed from the rows. A singular curvature (collinear columns) gives the
    step of least norm after scaling the columns; in float32 it is singular up to rounding only, and the weights along
    such columns are arbitrary.
    """

    name = "newton"
    from_statistics = False
    samples = True

    def init(self, weights, rounding):
        q, k, _ = weights.shape
        return NewtonState(
            weights=weights,
            query=weights,
            loss=np.full(1, np.inf),
            gradient=np.zeros_like(weights),
            step_size=np.zeros(1),
            promise=np.full(1, np.inf),
            directions=np.zeros((q, k, 1 + DAMPED)),
            curvature=np.zeros((q, q, 1)),
            stale=np.array(0.0),
            asked=np.array(SAME),
            diagonal=np.ones((q, 1, 1)),
            rounding=np.array(rounding),
            stalled=np.zeros(1),
        )

    def needs(self, state):
        return Needs(curvature=None if state.asked == SHORTER or state.stale else EXACT)

    def step(self, state, objective):
        if np.isinf(state.loss[0]):
            state = state._replace(diagonal=line.scale(objective))
        taken, stalled, damping = 0, False, dampings(len(state.weights))[1 if state.asked == SHORTER else 0 :]
        if state.asked != SAME:
            moves = state.query - state.weights
            slopes = dot(moves, np.broadcast_to(state.gradient, moves.shape))
            best = line.best(state, slopes, objective)
            if best is None:
                return self._shorter(state)
            taken, stalled = best, line.stuck(state, objective, best)
        state = state._replace(
            weights=state.query[:, :, taken : taken + 1],
            loss=objective.loss[taken : taken + 1],
            gradient=objective.gradient[:, :, taken : taken + 1],
            step_size=np.zeros(1) if state.asked == SAME else 1 / (1 + damping[taken : taken + 1]),
            stalled=(state.stalled + 1) * stalled,
        )
        if objective.curvature is not None:
            state = state._replace(curvature=objective.curvature)
        elif not state.stale:
            # A shorter step was taken from a pass without curvature: look at the same point again.
            return state._replace(query=state.weights, asked=np.array(SAME))
        every = dampings(len(state.weights))
        state = state._replace(directions=-solve(state.curvature, state.gradient, state.diagonal, every))
        full = state.directions[:, :, :1]
        promise = -0.5 * dot(full, state.gradient)
        gained = objective.curvature is not None or promise[0] <= 0.1 * state.promise[0]
        flat = gained and promise[0] <= FLAT * abs(state.loss[0])
        state = state._replace(promise=promise, stale=np.array(float(flat)))
        if state.promise[0] <= 0 and state.gradient.any():
            # The curvature has vanished: so far from the solution the loss is a straight line.
            return self._shorter(state._replace(asked=np.array(FULL)))
        return state._replace(query=state.weights + full, asked=np.array(FULL))

    def _shorter(self, state: NewtonState) -> NewtonState:
        """The full step failed: try the damped ones. They failed: the arithmetic is exhausted."""
        state = state._replace(stale=np.array(0.0))
        if state.asked == FULL:
            return state._replace(query=state.weights + state.directions[:, :, 1:], asked=np.array(SHORTER))
        return state._replace(query=state.weights, asked=np.array(SAME), stalled=np.full(1, line.STALLED))


def dampings(q: int) -> np.ndarray:
    """None for the full step, then from one that is always enough down to a slight one, (1 + DAMPED,)."""
    return np.append(0.0, q * 4.0 ** -np.arange(DAMPED))


def solve(curvature: np.ndarray, gradient: np.ndarray, diagonal: np.ndarray, damping: np.ndarray) -> np.ndarray:
    """``(H + c D)^-1 g`` for each output and each damping c: (q, q, k or 1), (q, k, 1), (q, 1, 1), (m,) -> (q, k, m).

    Scaled to D first, so that the units of the features do not matter. Where c is 0, directions without curvature are
    left out.
    """
    root = np.sqrt(diagonal[:, 0])
    solutions = []
    for j in range(gradient.shape[1]):
        h = curvature[:, :, min(j, curvature.shape[2] - 1)] / (root * root.T)
        values, vectors = np.linalg.eigh(h)
        flat = values <= len(h) * np.finfo(float).eps * max(values[-1], 0.0)
        inverse = np.maximum(values, 0.0)[:, None] + damping
        inverse[np.ix_(flat, damping == 0.0)] = np.inf
        solutions.append(vectors @ ((vectors.T @ (gradient[:, j] / root)) / inverse) / root)
    return np.stack(solutions, axis=1)
