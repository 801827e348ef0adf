"""Gradient descent and its accelerations: one gradient for each step, a fixed rule for the step size.

All are written for m candidates with their own learning rates at once; a single fit is m = 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..errors import InvalidArgumentError, choose, positive
from ..kernels.base import Request
from .base import curvature_request, dot, lipschitz
from .objective import Objective

Rate = float | str


class DescentState(NamedTuple):
    """``memory`` and ``second`` are what the method remembers of earlier steps: a velocity, an earlier point,
    moments."""

    weights: np.ndarray  # (q, k, m)
    query: np.ndarray  # (q, k, m)
    loss: np.ndarray  # (m,)
    gradient: np.ndarray  # (q, k, m)
    step_size: np.ndarray  # (m,)
    rate: np.ndarray  # (m,) the learning rate; NaN until "auto" is resolved
    taken: np.ndarray  # (m,) steps taken (since the last restart)
    memory: np.ndarray  # (q, k, m)
    second: np.ndarray  # (q, k, m)
    stalled: np.ndarray  # (m,)


def _init(weights: np.ndarray, learning_rate: Rate) -> DescentState:
    m = weights.shape[2]
    rate = np.full(m, np.nan if learning_rate == "auto" else float(learning_rate))
    nothing = np.zeros_like(weights)
    infinite = np.full(m, np.inf)
    return DescentState(
        weights, weights, infinite, nothing, np.zeros(m), rate, np.zeros(m), nothing, nothing, np.zeros(m)
    )


def _needs(state: DescentState) -> Request:
    if np.isnan(state.rate).any():
        return curvature_request(state.weights.shape[0])
    return Request()


def _arrive(state: DescentState, objective: Objective) -> DescentState:
    """The queried point becomes the iterate, and "auto" becomes the reciprocal of the curvature bound."""
    rate = state.rate
    if np.isnan(rate).any():
        bound = lipschitz(objective)
        rate = np.full_like(rate, 1.0 / bound if bound > 0 else 1.0)
    return state._replace(weights=state.query, loss=objective.loss, gradient=objective.gradient, rate=rate)


def _check_rate(owner: str, learning_rate: Rate) -> None:
    if learning_rate != "auto":
        if isinstance(learning_rate, str):
            raise InvalidArgumentError(f"{owner}(learning_rate={learning_rate!r}): a number above 0, or 'auto'.")
        positive(owner, learning_rate=learning_rate)


def _check_fraction(owner: str, **values: float) -> None:
    for name, value in values.items():
        if not 0 <= value < 1:
            raise InvalidArgumentError(f"{owner}({name}={value!r}): {name} must be at least 0 and below 1.")


SCHEDULES = {
    "constant": lambda fallen: 1.0,
    "inverse": lambda fallen: 1.0 / fallen,
    "sqrt": lambda fallen: 1.0 / np.sqrt(fallen),
}


@dataclass(frozen=True)
class GradientDescent:
    """Steepest descent: ``w <- w - rate * f(t) * grad J(w)``.

    Where the penalty bends its proximal operator follows each step (Daubechies, Defrise and De Mol, 2004).

    Parameters
    ----------
    learning_rate : float or "auto"
        "auto" is 1 / L with L a bound of the curvature of J, found in the first pass: the largest rate that is
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

    def __post_init__(self):
        owner = type(self).__name__
        _check_rate(owner, self.learning_rate)
        choose(f"{owner}(schedule=...)", self.schedule, SCHEDULES)
        if not 0 <= self.decay < float("inf"):
            raise InvalidArgumentError(f"{owner}(decay={self.decay!r}): decay must be finite, 0 or more.")

    def init(self, weights, rounding):
        return _init(weights, self.learning_rate)

    def request(self, state):
        return _needs(state)

    def step(self, state, objective):
        state = _arrive(state, objective)
        step_size = state.rate * SCHEDULES[self.schedule](1.0 + self.decay * state.taken)
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

    def __post_init__(self):
        _check_rate("Momentum", self.learning_rate)
        _check_fraction("Momentum", momentum=self.momentum)

    def init(self, weights, rounding):
        return _init(weights, self.learning_rate)

    def request(self, state):
        return _needs(state)

    def step(self, state, objective):
        state = _arrive(state, objective)
        velocity = self.momentum * state.memory - state.rate * state.gradient
        query = state.weights + velocity
        return state._replace(query=query, step_size=state.rate, memory=velocity, taken=state.taken + 1)


@dataclass(frozen=True)
class Nesterov:
    """Accelerated gradient descent with restarts; where the penalty bends, FISTA (Beck and Teboulle, 2009).

    From the point y: ``x_new = prox(y - rate * grad J(y))``, ``y <- x_new + c / (c + 3) * (x_new - x)`` with c the
    steps since the last restart (Nesterov, 1983; the coefficient of Su, Boyd and Candes, 2016); c returns to 0
    whenever the step points uphill (O'Donoghue and Candes, 2015). The iterates recorded are the points y, where
    J is evaluated.

    Parameters
    ----------
    learning_rate : float or "auto"
        "auto" is 1 / L, as for `GradientDescent`; of more than 1,024 parameters L is a sum over all of them, and far
        from tight: a larger number may take fewer passes by far.
    """

    learning_rate: Rate = "auto"
    name = "nesterov"
    from_statistics = True
    searches = False
    samples = ()

    def __post_init__(self):
        _check_rate("Nesterov", self.learning_rate)

    def init(self, weights, rounding):
        return _init(weights, self.learning_rate)._replace(memory=weights)

    def request(self, state):
        return _needs(state)

    def step(self, state, objective):
        state = _arrive(state, objective)
        new = objective.nonsmooth.prox(state.weights - state.rate * state.gradient, state.rate)
        change = new - state.memory
        taken = np.where(dot(state.weights - new, change) > 0, 0.0, state.taken)
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
        mean = first / (1 - self.beta1**taken)
        square = second / (1 - self.beta2**taken)
        query = state.weights - state.rate * mean / (np.sqrt(square) + self.epsilon)
        return state._replace(query=query, step_size=state.rate, memory=first, second=second, taken=taken)


@dataclass(frozen=True)
class SGD(GradientDescent):
    """Stochastic gradient descent: each step reads some partitions only, drawn anew (Robbins and Monro, 1951).

    A step of `GradientDescent`, with the gradient of J over the rows of the partitions drawn, which is that of all rows
    up to chance, whatever the partitions' sizes and weights. Each is drawn once in a pass, in an order that depends on
    the seed of the fit and the number of the pass, and on nothing else. Useful where a first impression of very large
    data is enough: the other solvers end nearer to the minimum after fewer passes.

    Losses and gradients in the history are those of the partitions drawn, so that the fit does not tell when it is near
    the minimum: it takes ``max_iter`` steps. With ``decay=0`` it ends at a distance that the rate decides.

    Parameters
    ----------
    learning_rate, decay, schedule
        Of `GradientDescent`; "auto" is found on the first partitions drawn.
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
