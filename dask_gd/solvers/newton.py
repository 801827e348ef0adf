"""Newton's method: the whole (q, q) curvature each pass, and very few passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..stats import EXACT, Needs
from . import line
from .base import dot

#: Tried together, in one pass, when the full step fails.
BACKTRACKING = 0.5 ** np.arange(1, 13)


class NewtonState(NamedTuple):
    weights: np.ndarray  # (q, k, 1)
    query: np.ndarray  # (q, k, m)
    loss: np.ndarray  # (1,)
    gradient: np.ndarray  # (q, k, 1)
    step_size: np.ndarray  # (1,)
    direction: np.ndarray  # (q, k, 1)
    steps: np.ndarray  # (m,) the trials in the query; 0 is the current point again
    rounding: np.ndarray  # ()
    stalled: np.ndarray  # (1,)


@dataclass(frozen=True)
class Newton:
    """Newton's method with exact curvature (Boyd and Vandenberghe, 2004, section 9.5), for narrow data.

    Each pass computes loss, gradient and the (q, q) curvature, q the number of features and the intercept; the
    client solves ``H d = -g``. The full step is tried first. Should it fail, twelve shorter ones are tried in one pass.
    For the squared loss the curvature is computed once, the first step solves the normal equations and later
    ones refine the solution with residuals computed from the rows. A singular curvature (collinear columns)
    gives the step of least norm after scaling the columns.
    """

    name = "newton"
    from_statistics = False

    def init(self, weights, rounding):
        return NewtonState(
            weights=weights,
            query=weights,
            loss=np.full(1, np.inf),
            gradient=np.zeros_like(weights),
            step_size=np.zeros(1),
            direction=np.zeros_like(weights),
            steps=np.zeros(1),
            rounding=np.array(rounding),
            stalled=np.zeros(1),
        )

    def needs(self, state):
        return Needs(curvature=EXACT if len(state.steps) == 1 else None)

    def step(self, state, objective):
        rounding = float(state.rounding)
        i, stalled = 0, False
        if np.isfinite(state.loss[0]) and state.steps[0] != 0.0:
            slope = float(dot(state.direction, state.gradient)[0])
            best = line.best(float(state.loss[0]), slope, state.steps, rounding, state.direction, objective)
            if best is None and len(state.steps) > 1:
                return state._replace(stalled=np.full(1, line.STALLED), query=state.weights, steps=np.zeros(1))
            if best is None:
                query = line.trials(state.weights, state.direction, BACKTRACKING)
                return state._replace(steps=BACKTRACKING, query=query)
            i, stalled = (
                best,
                line.stuck(state.loss[0], objective.loss[i], state.gradient, objective.gradient[:, :, i], rounding),
            )
        state = state._replace(
            weights=state.query[:, :, i : i + 1],
            loss=objective.loss[i : i + 1],
            gradient=objective.gradient[:, :, i : i + 1],
            step_size=state.steps[i : i + 1],
            stalled=(state.stalled + 1) * stalled,
        )
        if objective.curvature is None:
            # A shorter step was taken from a pass without curvature: look at the same point again.
            return state._replace(query=state.weights, steps=np.zeros(1))
        direction = -solve(objective.curvature, state.gradient)
        return state._replace(direction=direction, steps=np.ones(1), query=state.weights + direction)


def solve(curvature: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """``H^-1 g`` for each output: (q, q, k or 1), (q, k, 1) -> (q, k, 1)."""
    k = gradient.shape[1]
    columns = [_solve(curvature[:, :, min(j, curvature.shape[2] - 1)], gradient[:, j, 0]) for j in range(k)]
    return np.stack(columns, axis=1)[:, :, None]


def _solve(h: np.ndarray, g: np.ndarray) -> np.ndarray:
    """One symmetric positive semidefinite system, scaled to a unit diagonal first."""
    root = np.sqrt(np.diag(h))
    scale = np.where(root > 0, root, 1.0)
    h, g = h / np.outer(scale, scale), g / scale
    values, vectors = np.linalg.eigh(h)
    keep = values > len(g) * np.finfo(float).eps * max(values[-1], 0.0)
    return vectors[:, keep] @ ((vectors[:, keep].T @ g) / values[keep]) / scale
