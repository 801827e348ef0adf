"""Gradient descent and its accelerations: one gradient for each step, a fixed rule for the step size.

All are written for m candidates with their own learning rates at once; a single fit is m = 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..errors import InvalidArgumentError
from ..kernels.base import Request
from ..validate import choose, positive
from . import vectors
from .base import curvature_request, lipschitz
from .objective import Objective
from .vectors import Vector

Rate = float | str


class DescentState(NamedTuple):
    """The state of all these solvers.

    ``memory`` and ``second`` hold a method's memory of earlier steps: a velocity, an earlier point, moments.
    """

    weights: Vector  # (q, k, m)
    query: Vector  # (q, k, m)
    loss: np.ndarray  # (m,)
    gradient: Vector  # (q, k, m)
    step_size: np.ndarray  # (m,)
    rate: np.ndarray  # (m,) the learning rate; NaN until "auto" is resolved
    taken: np.ndarray  # (m,) steps taken (since the last restart)
    memory: Vector  # (q, k, m)
    second: Vector  # (q, k, m)
    stalled: np.ndarray  # (m,)


def _init(weights: Vector, learning_rate: Rate) -> DescentState:
    """Return the state before the first pass."""
    m = vectors.count_candidates(weights)
    if learning_rate == "auto":
        rate = np.nan
    else:
        rate = float(learning_rate)
    # The first query is the start itself. An infinite loss stands for no pass made yet.
    nothing = vectors.zeros_like(weights)
    return DescentState(
        weights=weights,
        query=weights,
        loss=np.full(m, np.inf),
        gradient=nothing,
        step_size=np.zeros(m),
        rate=np.full(m, rate),
        taken=np.zeros(m),
        memory=nothing,
        second=nothing,
        stalled=np.zeros(m),
    )


def _request(state: DescentState) -> Request:
    """Return the request for a curvature bound while "auto" is not resolved, else for nothing more."""
    if np.isnan(state.rate).any():
        return curvature_request(vectors.length(state.weights))
    return Request()


def _arrive(state: DescentState, objective: Objective) -> DescentState:
    """Return the state with the queried point as the iterate, and "auto" as the reciprocal of the curvature bound."""
    rate = state.rate
    if np.isnan(rate).any():
        rate = np.full_like(rate, safe_rate(lipschitz(objective)))
    return state._replace(
        weights=state.query,
        loss=objective.loss,
        gradient=objective.gradient,
        rate=rate,
    )


def safe_rate(bound: float) -> float:
    """Return the largest learning rate that is safe under a bound of the curvature; 1 where nothing is curved."""
    if bound > 0:
        return 1.0 / bound
    return 1.0


def _check_rate(owner: str, learning_rate: Rate) -> None:
    """Refuse a learning rate that is neither "auto" nor a number above 0."""
    if learning_rate == "auto":
        return
    if isinstance(learning_rate, str):
        raise InvalidArgumentError(f"{owner}(learning_rate={learning_rate!r}): a number above 0, or 'auto'.")
    positive(owner, learning_rate=learning_rate)


def _check_fraction(owner: str, **values: float) -> None:
    """Refuse numbers that are below 0, or 1 and more."""
    for name, value in values.items():
        if not 0 <= value < 1:
            raise InvalidArgumentError(f"{owner}({name}={value!r}): {name} must be at least 0 and below 1.")


#: The factor of the learning rate, as a function of ``1 + decay * t``.
SCHEDULES = {
    "constant": lambda slowed: 1.0,
    "inverse": lambda slowed: 1.0 / slowed,
    "sqrt": lambda slowed: 1.0 / np.sqrt(slowed),
}


@dataclass(frozen=True)
class GradientDescent:
    """Steepest descent: ``w <- w - rate * f(t) * grad J(w)``.

    Where the penalty is nonsmooth its proximal operator follows each step (Daubechies, Defrise and De Mol, 2004).

    Parameters
    ----------
    learning_rate : float or "auto"
        "auto" is 1 / L with L a bound of the curvature of J, computed in the first pass: the largest rate that is
        safe for every start (Nesterov, "Lectures on Convex Optimization", 2018, section 2.1.5).
    decay : float
        How fast the rate falls with the step number t = 0, 1, ...; 0 keeps it constant.
    schedule : {"inverse", "sqrt", "constant"}
        ``f(t)``: ``1 / (1 + decay * t)``, the root of that, or 1.

    Examples
    --------
    >>> x = np.array([[0.0], [1.0], [2.0]])
    >>> run = dask_gd.fit(x, np.array([1.0, 3.0, 5.0]), solver=dask_gd.GradientDescent(), max_iter=2000)
    >>> run.weights.values.round(4).tolist(), round(float(run.intercept), 4)
    ([2.0], 1.0)
    """

    learning_rate: Rate = "auto"
    decay: float = 0.0
    schedule: str = "inverse"
    name = "gradient_descent"
    from_statistics = True
    searches = False
    samples = ()
    needs = "prox"

    def __post_init__(self):
        owner = type(self).__name__
        _check_rate(owner, self.learning_rate)
        choose(f"{owner}(schedule=...)", self.schedule, SCHEDULES)
        if not 0 <= self.decay < float("inf"):
            raise InvalidArgumentError(f"{owner}(decay={self.decay!r}): decay must be finite, 0 or more.")

    def init(self, weights, rounding):
        return _init(weights, self.learning_rate)

    def request(self, state):
        return _request(state)

    def step(self, state, objective):
        state = _arrive(state, objective)
        factor = SCHEDULES[self.schedule](1.0 + self.decay * state.taken)
        step_size = state.rate * factor
        query = objective.nonsmooth.prox(state.weights - step_size * state.gradient, step_size)
        return state._replace(query=query, step_size=step_size, taken=state.taken + 1)


@dataclass(frozen=True)
class Momentum:
    """Heavy ball: ``v <- momentum * v - rate * grad J(w)``, ``w <- w + v`` (Polyak, 1964).

    Parameters
    ----------
    learning_rate : float or "auto"
        "auto" is 1 / L, as for `GradientDescent`.
    momentum : float
        At least 0, below 1.
    """

    learning_rate: Rate = "auto"
    momentum: float = 0.9
    name = "momentum"
    from_statistics = True
    searches = False
    samples = ()
    needs = "smooth"

    def __post_init__(self):
        _check_rate("Momentum", self.learning_rate)
        _check_fraction("Momentum", momentum=self.momentum)

    def init(self, weights, rounding):
        return _init(weights, self.learning_rate)

    def request(self, state):
        return _request(state)

    def step(self, state, objective):
        state = _arrive(state, objective)
        velocity = self.momentum * state.memory - state.rate * state.gradient
        query = state.weights + velocity
        return state._replace(
            query=query,
            step_size=state.rate,
            memory=velocity,
            taken=state.taken + 1,
        )


@dataclass(frozen=True)
class Nesterov:
    """Accelerated gradient descent with restarts; where the penalty is nonsmooth, FISTA (Beck and Teboulle, 2009).

    From the point y: ``x_new = prox(y - rate * grad J(y))``, ``y <- x_new + c / (c + 3) * (x_new - x)`` with c the
    steps since the last restart (Nesterov, 1983; the coefficient of Su, Boyd and Candes, 2016); c returns to 0
    whenever the step points uphill (O'Donoghue and Candes, 2015). The iterates recorded are the points y, where
    J is evaluated.

    Parameters
    ----------
    learning_rate : float or "auto"
        "auto" is 1 / L, as for `GradientDescent`; for more than 1,024 parameters L is a sum over all of them, and far
        from tight: a larger number may take fewer passes by far.
    """

    learning_rate: Rate = "auto"
    name = "nesterov"
    from_statistics = True
    searches = False
    samples = ()
    needs = "prox"

    def __post_init__(self):
        _check_rate("Nesterov", self.learning_rate)

    def init(self, weights, rounding):
        return _init(weights, self.learning_rate)._replace(memory=weights)

    def request(self, state):
        return _request(state)

    def step(self, state, objective):
        state = _arrive(state, objective)
        new = objective.nonsmooth.prox(state.weights - state.rate * state.gradient, state.rate)
        change = new - state.memory
        # A step that points uphill restarts the acceleration.
        uphill = vectors.dot(state.weights - new, change) > 0
        taken = np.where(uphill, 0.0, state.taken)
        query = new + taken / (taken + 3.0) * change
        return state._replace(query=query, step_size=state.rate, memory=new, taken=taken + 1)


@dataclass(frozen=True)
class Adam:
    """Adaptive moments: each weight's step is scaled by its gradient's recent size (Kingma and Ba, 2015, algorithm 1).

    Parameters
    ----------
    learning_rate : float
        Roughly the largest change of a weight in one step.
    beta1, beta2 : float
        Decay of the running mean of the gradient and of its square.
    epsilon : float
        Added to the root of the second moment.
    """

    learning_rate: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    name = "adam"
    from_statistics = True
    searches = False
    samples = ()
    needs = "smooth"

    def __post_init__(self):
        positive("Adam", learning_rate=self.learning_rate, epsilon=self.epsilon)
        _check_fraction("Adam", beta1=self.beta1, beta2=self.beta2)

    def init(self, weights, rounding):
        return _init(weights, self.learning_rate)

    def request(self, state):
        return Request()

    def step(self, state, objective):
        state = _arrive(state, objective)
        taken = state.taken + 1
        first = self.beta1 * state.memory + (1 - self.beta1) * state.gradient
        second = self.beta2 * state.second + (1 - self.beta2) * state.gradient**2
        # Both means begin at 0; the divisors take out that start.
        mean = first / (1 - self.beta1**taken)
        square = second / (1 - self.beta2**taken)
        query = state.weights - state.rate * mean / (np.sqrt(square) + self.epsilon)
        return state._replace(
            query=query,
            step_size=state.rate,
            memory=first,
            second=second,
            taken=taken,
        )


@dataclass(frozen=True)
class SGD(GradientDescent):
    """Stochastic gradient descent: each step reads some partitions only, drawn anew (Robbins and Monro, 1951).

    It takes a step of `GradientDescent`, with the gradient of J over the rows of the partitions drawn. That is the
    gradient of all rows up to chance, whatever the partitions' sizes and weights. Each partition is drawn once in a
    pass, in an order that depends on the seed of the fit and the number of the pass, and on nothing else. Useful where
    a first impression of very large data is enough: the other solvers end nearer to the minimum after fewer passes.

    Losses and gradients in the history are those of the partitions drawn, so that the fit does not tell when it is near
    the minimum: it takes ``max_iter`` steps. With ``decay=0`` it ends at a distance that the rate decides.

    Parameters
    ----------
    learning_rate, decay, schedule
        As for `GradientDescent`; "auto" is computed from the first partitions drawn.
    batch : float
        Share of the partitions that a step reads, above 0 and at most 1; at least one is read.

    Examples
    --------
    >>> source = dask_gd.open("data/flights.zarr", x="X", y="late")
    >>> run = dask_gd.fit(source, loss="logistic", solver=dask_gd.SGD(batch=0.1, decay=0.1), max_iter=20)
    >>> run.reason, float(run.history.passes.sum().round(1))
    ('max_iter', 2.1)
    """

    batch: float = 0.1
    name = "sgd"
    from_statistics = False

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.batch <= 1:
            raise InvalidArgumentError(f"SGD(batch={self.batch!r}): a share of the partitions, above 0 and at most 1.")
