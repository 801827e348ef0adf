"""The state of Newton's method: all that it remembers from step to step."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

#: The kinds of a query, as a state stores them: the full step, damped steps, still shorter ones, and the weights
#: themselves, of which a pass is to tell more.
FULL = 0.0
SHORTER = 1.0
SAME = 2.0
SHORTEST = 3.0

#: The value of `NewtonState.own_curvature` where the curvature is that next to the query, and not of the weights.
AHEAD = 2.0


class NewtonState(NamedTuple):
    """The iterate, the query, and the curvature with all that decides whether it serves the next step.

    A checkpoint has an array for each field. Where a field is renamed, `store.former_names` has its former name.
    """

    weights: np.ndarray  # (q, k, 1)
    query: np.ndarray  # (q, k, m)
    loss: np.ndarray  # (1,)
    gradient: np.ndarray  # (q, k, 1)
    step_size: np.ndarray  # (1,) 1 / (1 + damping); 0 where no step was taken
    promise: np.ndarray  # (1,) the decrease that the full step promises, half the Newton decrement squared
    # (q, q, k or 1) of the last pass that computed it, corrected by the steps since; see `flatten_outputs`
    curvature: np.ndarray
    restrained: np.ndarray  # () steps in a row for which it is `restrained`
    stale: np.ndarray  # () 1 if the next pass need not compute it again
    own_curvature: np.ndarray  # () 1 if the query is a full step with the curvature of its own point, or `AHEAD`
    order: np.ndarray  # () how the next step converges: 1 linearly, 2 quadratically, 0 there is no telling
    asked: np.ndarray  # () the kind of the query: a FULL, SHORTER or the SHORTEST steps, or the SAME point again
    diagonal: np.ndarray  # (q, 1, 1) scale of the curvature, from the first pass
    together: np.ndarray  # () outputs that share the curvature, see `flatten_outputs`; else 1
    rounding: np.ndarray  # ()
    stalled: np.ndarray  # (1,)
    basis: np.ndarray  # (q, q) in which least squares are solved where the curvature is `ILL_CONDITIONED`, else (0, 0)
    refines: np.ndarray  # () 1 if the basis has given a solution, which another pass in it refines
