"""The protocol of all solvers, and the few operations they share.

A solver is a pair of pure functions over a State, a NamedTuple of arrays and nothing else, so that saving a State is
generic. Every State has

- ``weights`` (q, k, m or 1), the current iterate, at which ``loss`` and ``gradient`` are known,
- ``query`` (q, k, m), the candidates that the next pass evaluates,
- ``step_size``, and ``stalled``, the steps in a row without progress beyond rounding.

A State may have ``curvature``, and ``order`` (), 1 or 2 if the gradient at the query should be to the last one as that
to the one before, or as its square.

So iteration t of a fit is: one pass at ``query``, one ``step``, one commit. Weights are touched by the operations of
`vectors` only, so that a solver can run on weights that live in blocks. `Newton`, `ADMM` and `LocalSGD` need the whole
array.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..kernels.base import BOUND, GRAM_LIMIT, Request
from . import vectors
from .objective import Objective
from .vectors import Vector


@runtime_checkable
class Solver(Protocol):
    """``init(weights, rounding) -> State``, ``step(state, objective) -> State``.

    A solver that serves nonsmooth penalties has an attribute ``needs``, the name of what it needs of a penalty, see
    `model.penalties.capabilities`; without, it is served smooth penalties only.
    """

    name: str
    #: May be fed from the sufficient statistics of a quadratic loss in place of passes.
    from_statistics: bool
    #: Takes back a step at which the loss is not finite, and tries shorter ones.
    searches: bool

    @property
    def samples(self) -> tuple[float, ...]:
        """Return a share of the loss for each sample of the rows that the solver may start on; empty for none.

        The solver goes on to more rows when the next step, taken without a pass, promises no more than the sample's
        share of the loss. Its State then has ``promise`` (1,), the decrease that the next step promises, and
        ``carry(state, weights, rounding, last) -> State`` begins again on more rows. With ``last`` these are all rows,
        and the curvature of fewer may serve, where to compute it costs more than to read them again.
        """
        ...

    def init(self, weights: Vector, rounding: float) -> Any: ...
    def request(self, state: Any) -> Request: ...
    def step(self, state: Any, objective: Objective) -> Any: ...


def curvature_request(q: int) -> Request:
    """Return the request of the sums that `lipschitz` needs."""
    # For wide data the diagonal has to do, which comes with the first pass anyway.
    if q > GRAM_LIMIT:
        return Request()
    return Request(curvature=BOUND)


def lipschitz(objective: Objective) -> float:
    """Return a bound of the curvature of J in any direction at any weights.

    It is the largest eigenvalue of the curvature bound where the matrix was formed (narrow data), else its trace, which
    is never smaller.
    """
    if objective.curvature is not None:
        matrices = np.moveaxis(objective.curvature, 2, 0)
        return float(max(np.linalg.eigvalsh(h)[-1] for h in matrices))
    assert objective.diagonal is not None
    return vectors.total(objective.diagonal)
