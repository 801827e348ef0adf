"""Outputs that share one curvature, as the classes of a softmax do, in one column of parameters."""

from __future__ import annotations

import numpy as np

from ..objective import Objective
from .state import NewtonState


def flatten_outputs(state: NewtonState, objective: Objective) -> tuple[NewtonState, Objective]:
    """Return both as if the outputs were features, where these share their curvature: (q, k, m) as (q k, 1, m)."""
    # Outputs with curvatures of their own stay as they are.
    q, k, _ = state.weights.shape
    curvature = state.curvature
    if objective.curvature is not None:
        curvature = objective.curvature
    if len(curvature) == q:
        return state, objective

    if len(state.curvature) == q:  # the first pass: the state's curvature has the shape of one output
        state = state._replace(
            curvature=curvature,
            diagonal=np.ones((q * k, 1, 1)),
            together=np.array(float(k)),
        )
    state = state._replace(
        weights=state.weights.reshape(q * k, 1, -1),
        query=state.query.reshape(q * k, 1, -1),
        gradient=state.gradient.reshape(q * k, 1, -1),
    )

    # A feature's scale is the same for all outputs that share the curvature.
    diagonal = None
    if objective.diagonal is not None:
        diagonal = np.repeat(objective.diagonal, k, axis=0)
    objective = objective._replace(
        gradient=objective.gradient.reshape(q * k, 1, -1),
        diagonal=diagonal,
        nonsmooth=objective.nonsmooth.flat(k),
        features=objective.features * k,
    )
    return state, objective


def separate_outputs(
    state: NewtonState,
    q: int,
    k: int,
    objective: Objective,
) -> NewtonState:
    """Return the state with a column of q parameters for each of k outputs, as it was before `flatten_outputs`.

    ``objective`` is the one that was not flattened.
    """
    query = state.query.reshape(q, k, -1)
    if state.together > 1:
        # A number added to all classes changes nothing but the penalty's share; the steps need not know.
        free = objective.nonsmooth.free
        common = query.mean(axis=1, keepdims=True)
        query = query - free * common
    return state._replace(
        weights=state.weights.reshape(q, k, -1),
        query=query,
        gradient=state.gradient.reshape(q, k, -1),
    )
