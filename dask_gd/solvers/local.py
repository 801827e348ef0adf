"""Solvers whose partitions take steps of their own within a pass: fewer passes where steps matter more than reading."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..kernels.base import BOUND, Request
from ..kernels.own_steps import STEP_ROWS, Consensus, Descent, least_norm
from ..validate import positive
from .base import curvature_request, lipschitz
from .first_order import SCHEDULES, GradientDescent, safe_rate
from .objective import Objective

#: Primal and dual residual are kept within this factor of each other, by changes of rho by this factor, in the first
#: iterations, this many.
APART, ADAPTED, ADAPTS = 5.0, 2.0, 50


def ends_and_shares(local: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where the partitions ended, (q, k, partitions), and their shares of the weight, (partitions,)."""
    ends = local[:-1]
    weights = local[-1, 0]
    return ends, weights / weights.sum()


class LocalState(NamedTuple):
    """The state of `LocalSGD`."""

    weights: np.ndarray  # (q, k, 1)
    query: np.ndarray  # (q, k, 1)
    loss: np.ndarray  # (1,)
    gradient: np.ndarray  # (q, k, 1)
    step_size: np.ndarray  # (1,)
    rate: np.ndarray  # (1,) the learning rate; NaN until "auto" is resolved
    ridge: np.ndarray  # (q, 1, 1)
    taken: np.ndarray  # ()
    stalled: np.ndarray  # (1,)


@dataclass(frozen=True)
class LocalSGD(GradientDescent):
    """Local SGD: in each pass every partition goes down its own rows from the common weights, a step for each 256
    of them; then the ends are averaged (Zinkevich et al., 2010; Stich, 2019, "Local SGD converges fast and
    communicates little").

    A pass takes partitions of many rows as far as many passes of `GradientDescent`, but not to the minimum: the rest
    falls with the rate, and is more where partitions differ. The loss and the gradient in the history are those of
    the averages, over all rows, so that the fit tells when it is there. Penalties must be smooth. Weights must be one
    NumPy array, which the tasks take; other `vectors` are not served.

    Parameters
    ----------
    learning_rate, decay, schedule
        As for `GradientDescent`; t counts passes.

    Examples
    --------
    >>> source = dask_gd.open("data/flights.zarr", x="X", y="late")
    >>> run = dask_gd.fit(source, loss="logistic", solver=dask_gd.LocalSGD(decay=1.0), max_iter=5)
    >>> bool(run.history.loss[-1] < 0.5)
    True
    """

    name = "local_sgd"
    from_statistics = False
    needs = "smooth"

    def init(self, weights, rounding):
        if self.learning_rate == "auto":
            rate = np.nan
        else:
            rate = float(self.learning_rate)
        return LocalState(
            weights=weights,
            query=weights,
            loss=np.full(1, np.inf),
            gradient=np.zeros_like(weights),
            step_size=np.zeros(1),
            rate=np.full(1, rate),
            ridge=np.zeros((len(weights), 1, 1)),
            taken=np.zeros(()),
            stalled=np.zeros(1),
        )

    def request(self, state):
        # The first pass finds the scale of the steps; the partitions go from the second on.
        if np.isinf(state.loss[0]):
            if np.isnan(state.rate).any():
                return curvature_request(len(state.weights))
            return Request()
        return Request(kernel=Descent(float(state.step_size[0]), state.ridge))

    def step(self, state, objective):
        rate = state.rate
        if np.isnan(rate).any():
            assert objective.diagonal is not None
            # The curvature of a few rows is above the curvature of all by about the last term.
            bound = lipschitz(objective) + float(objective.diagonal.sum()) / STEP_ROWS
            rate = np.full(1, safe_rate(bound))

        # The common weights go on from the average of the ends; after the first pass by a step of gradient descent.
        if objective.own is None:
            query = state.query - rate * objective.gradient
        else:
            ends, shares = ends_and_shares(objective.own.ends)
            query = (ends @ shares)[:, :, None]

        factor = SCHEDULES[self.schedule](1.0 + self.decay * state.taken)
        return state._replace(
            weights=state.query,
            query=query,
            loss=objective.loss,
            gradient=objective.gradient,
            step_size=rate * factor,
            rate=rate,
            ridge=objective.ridge,
            taken=np.array(state.taken + 1),
        )


class ADMMState(NamedTuple):
    """The state of `ADMM`."""

    weights: np.ndarray  # (q, k, 1)
    query: np.ndarray  # (q, k, 1)
    loss: np.ndarray  # (1,)
    gradient: np.ndarray  # (q, k, 1)
    step_size: np.ndarray  # (1,) rho
    own: np.ndarray  # (q, k, partitions), or 1 at the start, when all are the same
    dual: np.ndarray  # the same: the scaled dual variables
    metric: np.ndarray  # (q, q) J's curvature bound
    taken: np.ndarray  # ()
    stalled: np.ndarray  # (1,)


@dataclass(frozen=True)
class ADMM:
    """Consensus by the alternating direction method of multipliers (Boyd et al., 2011, sections 7.1 and 8.2), for
    narrow data.

    Each partition i has parameters ``x_i`` of its own, and steps to the least of its mean loss plus
    ``rho / 2 ||x_i - z + u_i||^2``; z is the least of the penalty plus ``rho / 2 ||z - mean(x_i + u_i)||^2``, and
    ``u_i <- u_i + x_i - z``. Means are weighted by the partitions' row weights, and norms are taken in J's curvature
    bound, so that neither the units of the features nor their means matter. One pass is one iteration: each local
    problem takes a single step, to the least of a quadratic above it, as good in the limit (Ling et al., 2015,
    "DLM"). rho follows the ratio of the primal and the dual residual (section 3.4.1).

    The fit stops by the gradient at z over all rows, or the subgradient of least norm, as all do. It takes tens to
    hundreds of passes, each as costly as one of Newton's method, which takes a few. Weights must be one NumPy array, of
    which there is a matrix; other `vectors` are not served.

    Parameters
    ----------
    rho : float
        To start with.

    Examples
    --------
    >>> source = dask_gd.open("data/flights.zarr", x="X", y="late", rows=slice(0, 60_000))
    >>> dask_gd.fit(source, loss="logistic", penalty=dask_gd.L1(1e-3), solver=dask_gd.ADMM(), tol=1e-4).reason
    'converged'
    """

    rho: float = 1.0
    name = "admm"
    from_statistics = False
    searches = False
    samples = ()
    needs = "prox"

    def __post_init__(self):
        positive("ADMM", rho=self.rho)

    def init(self, weights, rounding):
        q = len(weights)
        return ADMMState(
            weights=weights,
            query=weights,
            loss=np.full(1, np.inf),
            gradient=np.zeros_like(weights),
            step_size=np.full(1, float(self.rho)),
            own=weights,
            dual=np.zeros_like(weights),
            metric=np.zeros((q, q)),
            taken=np.zeros(()),
            stalled=np.zeros(1),
        )

    def request(self, state):
        if np.isinf(state.loss[0]):
            return Request(curvature=BOUND)
        target = state.query - state.dual
        metric = state.step_size[0] * state.metric
        return Request(kernel=Consensus(state.own, target, metric))

    def step(self, state, objective):
        state = state._replace(weights=state.query, loss=objective.loss, gradient=objective.gradient)
        if objective.own is None:
            # A Newton step to start from. It is no step of the method, but the pass has all that it needs.
            state = state._replace(metric=objective.curvature[:, :, 0])
            move = least_norm(state.metric, state.gradient[:, :, 0])[:, :, None]
            start = self._agreed(state.weights - move, state, objective)
            return state._replace(query=start, own=start)

        # z is the least of the penalty and of the distance to the mean; the duals add up the disagreement.
        own, shares = ends_and_shares(objective.own.ends)
        mean = ((own + state.dual) @ shares)[:, :, None]
        z = self._agreed(mean, state, objective)
        dual = state.dual + own - z

        # rho follows the ratio of the residuals; the scaled duals change with it.
        rho = state.step_size[0]
        if state.taken < ADAPTS:
            primal = np.sqrt(np.sum(shares * _square(own - z, state.metric)))
            change = np.sqrt(_square(z - state.weights, state.metric)[0])
            if primal > APART * change:
                rho *= ADAPTED
            elif change > APART * primal:
                rho *= 1 / ADAPTED
        return state._replace(
            query=z,
            own=own,
            dual=dual * (state.step_size[0] / rho),
            step_size=np.full(1, rho),
            taken=np.array(state.taken + 1),
        )

    def _agreed(self, mean: np.ndarray, state: ADMMState, objective: Objective) -> np.ndarray:
        """Return the least of the penalty and of the distance to the mean, (q, k, 1)."""
        metric = state.step_size[0] * state.metric
        h = metric + np.diag(objective.ridge[:, 0, 0])
        minimum = np.empty_like(mean)
        for j in range(mean.shape[1]):
            linear = metric @ mean[:, j, 0]
            if objective.nonsmooth.is_nonsmooth:
                minimum[:, j, 0] = objective.nonsmooth.minimise(h, linear, state.weights[:, j, 0])
            else:
                minimum[:, j, 0] = least_norm(h, linear)
        return minimum


def _square(a: np.ndarray, metric: np.ndarray) -> np.ndarray:
    """Return squared norms in the metric: (q, k, m), (q, q) -> (m,)."""
    squares = np.einsum("qkm,qr,rkm->m", a, metric, a)
    return np.maximum(squares, 0.0)
