"""What the loop asks of every solver, and the few operations they share.

A solver is a pair of pure functions over a State, a NamedTuple of arrays and nothing else, so that saving one is
generic. Every State has

- ``weights`` (q, k, m or 1), the current iterate, at which ``loss`` and ``gradient`` are known,
- ``query`` (q, k, m), the candidates that the next pass evaluates,
- ``step_size``, and ``stalled``, the steps in a row without progress beyond rounding.

A State may have ``curvature``, and ``order`` (), 1 or 2 if the gradient at the query should be to the last one as that
to the one before, or as its square.

So iteration t of a fit is: one pass at ``query``, one ``step``, one commit. Inner products are taken in `dot` only, and
everything else is elementwise, so that a solver can run on weights that live in blocks. `Newton` needs the
whole matrix.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..kernels.base import BOUND, GRAM_LIMIT, Request
from .objective import Objective


@runtime_checkable
class Solver(Protocol):
    """``init(weights, rounding) -> State``, ``step(state, objective) -> State``."""

    name: str
    #: May be fed from the sufficient statistics of a quadratic loss in place of passes.
    from_statistics: bool
    #: Takes back a step at which the loss is not finite, and tries shorter ones.
    searches: bool

    @property
    def samples(self) -> tuple[float, ...]:
        """Empty, or the solver may start on some of the rows.

        It goes on to more when the next step, taken unseen, promises no more than these shares of the loss, one for
        each sample. Its State then has ``promise`` (1,), the decrease that the next step promises, and
        ``carry(state, weights, rounding, last) -> State`` begins again on more rows, or, if ``last``, on all.
        """
        ...

    def init(self, weights: np.ndarray, rounding: float) -> Any: ...
    def request(self, state: Any) -> Request: ...
    def step(self, state: Any, objective: Objective) -> Any: ...


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Inner products over features and outputs, one for each candidate: (q, k, m), (q, k, m) -> (m,)."""
    return np.einsum("qkm,qkm->m", a, b)


def curvature_request(q: int) -> Request:
    """What a pass must compute for `lipschitz`."""
    return Request(curvature=BOUND if q <= GRAM_LIMIT else None)


def lipschitz(objective: Objective) -> float:
    """A bound of the curvature of J in any direction at any weights.

    The largest eigenvalue of the curvature bound where the matrix was formed (narrow data), else its trace, which is
    never smaller.
    """
    if objective.curvature is not None:
        return float(max(np.linalg.eigvalsh(h)[-1] for h in np.moveaxis(objective.curvature, 2, 0)))
    assert objective.diagonal is not None
    return float(objective.diagonal.sum())
