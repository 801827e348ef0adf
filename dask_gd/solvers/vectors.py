"""The operations on weights that solvers use, and no others.

A vector is a solver's weights, query, gradient or direction, or a diagonal of the curvature: (q, k, m), where k and m
may be 1, with the intercept last. NumPy arrays are vectors. Any other type, such as weights that live in blocks on
workers, becomes a vector by two things:

- ``__array_ufunc__`` serves NumPy's elementwise functions and the operators (`numpy.lib.mixins.NDArrayOperatorsMixin`
  has these), between vectors, and between a vector and an array that is the same for all weights: a number, (m,), or
  what `intercept` returns.
- Each function of this module has the type's version registered, as ``dot.register(Blocks, ...)``. Those of the
  remembered pairs have a default for all vectors that are no arrays.

The objective's fields are of that type too, and its nonsmooth part is a `model.prox.Prox` that takes it.

`GradientDescent`, `Momentum`, `Nesterov`, `Adam` and `LBFGS` run on any vectors. `Newton`, `ADMM` and `LocalSGD` need
the whole array.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from typing import Any

import numpy as np

#: Weights that are added at a time, of those of an array.
AT_A_TIME = 1 << 16

#: Weights of an output above which steps are tried one after the other, but for the first.
WIDE = 1 << 18

#: A NumPy array (q, k, m), or a type of one's own with these operations. They have no class in common.
Vector = Any


@singledispatch
def length(v: Vector) -> int:
    """Return q, the number of weights of an output."""
    return v.shape[0]


@singledispatch
def count_candidates(v: Vector) -> int:
    """Return m, the number of candidates."""
    return v.shape[2]


@singledispatch
def zeros_like(v: Vector) -> Vector:
    """Return a vector of zeros of the same shape."""
    return np.zeros_like(v)


@singledispatch
def zeros_by_weight(v: Vector) -> Vector:
    """Return a zero for each weight that all outputs and candidates share: (q, k, m) -> (q, 1, 1)."""
    return np.zeros((length(v), 1, 1))


@singledispatch
def where(condition: Vector, a: Vector | float, b: Vector | float) -> Vector:
    """Return a where the condition holds, else b; each is a vector or a number."""
    return np.where(condition, a, b)


@singledispatch
def dot(a: Vector, b: Vector) -> np.ndarray:
    """Return inner products over features and outputs, for each candidate: (q, k, m), (q, k, m or 1) -> (m,)."""
    a, b = np.broadcast_arrays(a, b)
    return np.einsum("qkm,qkm->m", a, b)


@singledispatch
def dots(first: Vector, *others: Vector) -> list[np.ndarray]:
    """Return inner products of one candidate's vectors, two and two: of a and b, c and d for ``dots(a, b, c, d)``."""
    several = (first, *others)
    return [dot(a, b) for a, b in zip(several[::2], several[1::2], strict=True)]


@singledispatch
def largest(v: Vector) -> np.ndarray:
    """Return the largest component, for each candidate: (q, k, m) -> (m,)."""
    return v.max(axis=(0, 1))


@singledispatch
def total(v: Vector) -> float:
    """Return the sum of all components."""
    return float(v.sum())


@singledispatch
def along(start: Vector, direction: Vector, steps: np.ndarray) -> Vector:
    """Return the query ``start + t direction`` for each step t: (q, k, 1), (q, k, 1), (m,) -> (q, k, m)."""
    return start + direction * steps


@singledispatch
def foresee(query: Vector) -> Vector:
    """Return the query, which will be the next: what it needs may be computed beside what is asked for before."""
    return query


@singledispatch
def promised(direction: Vector, slope: Vector) -> np.ndarray:
    """Return the decrease that a step down the slope promises if its curvature is right, (1,)."""
    return -0.5 * dot(direction, slope)


@singledispatch
def change(before: Vector, after: Vector) -> Vector:
    """Return ``after - before``."""
    return after - before


@singledispatch
def most_trials(v: Vector, most: int, on_line: bool) -> int:
    """Return how many trial steps one pass should have, of ``most`` that would be useful.

    ``on_line``: they are all along a direction, and not turned aside where weights change their sign.
    """
    # To send very wide weights and their gradient costs about as much as another pass, for each trial.
    if length(v) > WIDE:
        return 1
    return most


@singledispatch
def at_hand(v: Vector) -> Vector:
    """Return the vector, which will be used several times, in memory."""
    return v


@singledispatch
def compact(v: Vector) -> Vector:
    """Return a vector that is kept for long and need not be exact: where memory is short it has fewer digits."""
    return v


@singledispatch
def spent(v: Vector, *made: Vector) -> None:
    """Take note that a vector will not be used any more, but for what others are ``made`` of it: it may be dropped."""


@singledispatch
def candidate(v: Vector, i: int) -> Vector:
    """Return candidate i alone: (q, k, m) -> (q, k, 1)."""
    return v[:, :, i : i + 1]


@singledispatch
def intercept(v: Vector) -> np.ndarray:
    """Return the intercepts, which come last, as an array: (q, k, m) -> (1, k, m).

    Of weights without an intercept it may be any finite numbers: these are multiplied by means, which are 0 then.
    """
    return v[-1:]


@singledispatch
def lower_intercept(v: Vector, means: Vector) -> Vector:
    """Return the vector with ``sum_j means_j v_j`` taken from the intercept of each output and candidate.

    Shapes: (q, k, m), (q, 1, 1) -> (q, k, m).
    """
    lowered = v.copy()
    lowered[-1] -= np.einsum("qij,qkm->km", means, v)
    return lowered


@singledispatch
def add_multiple(v: Vector, factor: np.ndarray, a: Vector) -> Vector:
    """Return ``v + factor * a`` for one candidate, (q, k, 1), in the memory of v where that can be."""
    return v + factor * a


@add_multiple.register
def _(v: np.ndarray, factor: np.ndarray, a: np.ndarray) -> np.ndarray:
    # Some weights at a time, so that their products stay in the cache.
    products = np.empty((min(len(v), AT_A_TIME), *v.shape[1:]))
    for start in range(0, len(v), AT_A_TIME):
        some = slice(start, start + AT_A_TIME)
        of_some = products[: len(v[some])]
        np.multiply(factor, a[some], out=of_some)
        v[some] += of_some
    return v


@singledispatch
def no_pairs(v: Vector, memory: int) -> Any:
    """Return memory for as many pairs of vectors like v, (q, k, 1). For arrays it is an array (2, memory, q, k)."""
    return ()


@no_pairs.register
def _(v: np.ndarray, memory: int) -> np.ndarray:
    q, k, _ = v.shape
    return Longer(np.zeros((2, memory + memory // 2 + 1, q, k)), memory, memory).pairs


@singledispatch
def remember(pairs: Any, a: Vector, b: Vector, memory: int) -> Any:
    """Return the pairs with (a, b) as the newest, of which there are ``memory`` at most; the oldest is dropped."""
    return (*pairs, (a, b))[-memory:]


@singledispatch
def with_room(pairs: Any, memory: int) -> Any:
    """Return pairs with room for one more among ``memory``: the oldest may be dropped, before the new one is there."""
    count = max(0, len(pairs) + 1 - memory)
    for dropped in pairs[:count]:
        for v in dropped:
            spent(v)
    return pairs[count:]


@with_room.register
def _(pairs: np.ndarray, memory: int) -> np.ndarray:
    return pairs


class Growing(np.ndarray):
    """Pairs (2, memory, q, k) that are a part of a longer array: up to its pair number ``end``."""

    longer: Longer | None = None
    end = 0


class Longer:
    """Memory for more pairs than are remembered, so that not all of them are moved for each new one."""

    def __init__(self, array: np.ndarray, memory: int, used: int):
        self.array = array
        self.memory = memory
        self.used = used

    @property
    def pairs(self) -> Growing:
        """The newest pairs."""
        pairs = self.array[:, self.used - self.memory : self.used].view(Growing)
        pairs.longer = self
        pairs.end = self.used
        return pairs

    def has_room_behind(self, pairs: Growing) -> bool:
        """Return whether these are the newest pairs, with memory left behind them."""
        return pairs.end == self.used < self.array.shape[1]

    def append(self, a: np.ndarray, b: np.ndarray) -> None:
        """Put a pair behind the others. No pairs that were given out before are touched."""
        self.array[0, self.used] = a[:, :, 0]
        self.array[1, self.used] = b[:, :, 0]
        self.used += 1


@remember.register
def _(pairs: np.ndarray, a: np.ndarray, b: np.ndarray, memory: int) -> np.ndarray:
    longer = None
    # Anew where there is no memory left, or where something else has been put behind these pairs.
    if isinstance(pairs, Growing) and pairs.longer is not None and pairs.longer.has_room_behind(pairs):
        longer = pairs.longer
    if longer is None:
        longer = Longer(np.empty((2, memory + memory // 2 + 1, *pairs.shape[2:])), memory, memory - 1)
        longer.array[:, : memory - 1] = pairs[:, 1:]
    longer.append(a, b)
    return longer.pairs


@singledispatch
def newest_pairs(pairs: Any, count: int) -> Sequence[tuple[Vector, Vector]]:
    """Return the last ``count`` pairs of vectors, or all if there are fewer, the newest last."""
    return pairs[max(0, len(pairs) - count) :]


@newest_pairs.register
def _(pairs: np.ndarray, count: int) -> Sequence[tuple[Vector, Vector]]:
    oldest = pairs.shape[1] - count
    a, b = np.asarray(pairs)[:, oldest:, :, :, None]
    return list(zip(a, b, strict=True))
