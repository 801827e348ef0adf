"""Least squares in an orthogonal basis: the decision to go there, the request, and the steps.

A squared loss is solved by its normal equations. Where these have lost too many digits, a second pass sums products in
a basis that is nearly orthogonal, see `kernels.least_squares`, and the step in it is the solution. Where the basis was
far from orthogonal a third pass refines that solution. Then there is nothing better to be had.
"""

from __future__ import annotations

import numpy as np

from ...kernels.base import EXACT, Request
from ...kernels.least_squares import Basis, basis_of, shortest_step, to_orthogonal
from .. import line_search as line
from ..objective import Objective
from ..vectors import dot
from .state import FULL, SAME, NewtonState


def go_over(state: NewtonState, objective: Objective) -> NewtonState:
    """Return the state after a step of the normal equations, which goes over to a basis where it is worth it.

    A state that has been there ends at the basis's solution.
    """
    if state.basis.size:
        # There is nothing better to be had from the normal equations.
        return state._replace(query=state.weights, stalled=np.full(1, line.STALLED))

    # Data in float32 tells no more than its curvature does.
    in_double = state.rounding < np.finfo(np.float32).eps ** 1.5
    is_least_squares = objective.quadratic and not objective.nonsmooth.is_nonsmooth
    if not (is_least_squares and in_double) or objective.curvature is None:
        return state
    basis = basis_of(objective.curvature[:, :, 0])
    if basis is None:
        return state
    return state._replace(
        basis=basis,
        query=state.weights,
        asked=np.array(SAME),
        own_curvature=np.array(0.0),
        refines=np.array(0.0),
    )


def request(state: NewtonState) -> Request | None:
    """Return the request of the products that the next step in the basis needs; None where there is no such step."""
    if not state.basis.size or state.asked != SAME:
        return None
    kernel = Basis(state.basis, refines=bool(state.refines))
    return Request(curvature=EXACT, kernel=kernel)


def step(state: NewtonState, objective: Objective) -> NewtonState:
    """Return the state with the step to the minimum of least squares; or with the second step, which refines it."""
    weights = state.query
    r = state.basis
    ridge = objective.ridge[:, 0, 0]
    sums = objective.own.basis

    # The slope at the weights, in the basis: from the pass's gradient once the weights are near the minimum.
    if state.refines:
        slope = to_orthogonal(r, objective.gradient[:, :, 0])
    else:
        products = sums[:, len(r) :]
        penalty_slope = ridge[:, None] * weights[:, :, 0]
        slope = products + to_orthogonal(r, penalty_slope)

    # The weights move the least along directions that the data does not decide.
    move, may_refine = shortest_step(r, sums, slope, ridge, objective.features)
    move = move[:, :, None]
    gradient = objective.gradient.astype(float)

    # A first solution may need another pass in the basis, which refines it.
    asked = FULL
    if may_refine and not state.refines:
        asked = SAME
    return state._replace(
        weights=weights,
        query=weights + move,
        loss=objective.loss,
        gradient=gradient,
        # The first pass in the basis looked at the same weights again.
        step_size=state.refines.reshape(1),
        promise=-0.5 * dot(move, gradient),
        asked=np.array(asked),
        own_curvature=np.array(1.0),
        refines=np.array(1.0),
    )
