"""Scores of two classes that need an order over all rows: the areas under the curves, with scikit-learn's names.

The weights of both classes are summed by prediction. Predictions that agree in 12 digits count as ties, since equal
rows may have predictions that differ by rounding. Up to `MOST` different predictions the score is exact; beyond that,
neighbouring ones are joined, a bit of their number at a time, and the error that this may make is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .score_summaries import Summary, ones_unless

#: Different predictions that are kept apart in a fold, for each candidate.
MOST = 1 << 18

#: Lowest bits of a prediction that are rounding: of its 53 digits 42 remain.
ROUNDING_BITS = 11


class OrderSums(NamedTuple):
    """The weights of both classes by prediction, whose numbers rise: see `keys_of`."""

    #: (c,) int64, the predictions' keys without their lowest bits.
    keys: np.ndarray
    #: (2, c), the weights of the first and of the second class.
    weights: np.ndarray
    #: The lowest bits of the keys that are left out.
    bits: int

    def plus(self, other: OrderSums) -> OrderSums:
        """Return the sums over the rows of both."""
        # Both at the coarser keys.
        bits = max(self.bits, other.bits)
        keys = np.concatenate([self.keys >> (bits - self.bits), other.keys >> (bits - other.bits)])
        weights = np.concatenate([self.weights, other.weights], axis=1)
        return joined(keys, weights, bits)


def keys_of(z: np.ndarray) -> np.ndarray:
    """Return whole numbers that are in the order of the predictions, (n,) float64 -> (n,) int64."""
    # Without a negative 0. Of numbers below 0 all bits but the sign are turned round.
    bits = (z + 0.0).view(np.int64)
    return bits ^ ((bits >> 63) & np.int64(0x7FFFFFFFFFFFFFFF))


def joined(keys: np.ndarray, weights: np.ndarray, bits: int) -> OrderSums:
    """Return sums with equal keys joined, and as many of the lowest bits left out as there are too many keys."""
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    weights = weights[:, order]
    while True:
        is_first = np.ones(len(keys), bool)
        is_first[1:] = keys[1:] != keys[:-1]
        starts = np.flatnonzero(is_first)
        if len(starts) < len(keys):
            keys = keys[starts]
            weights = np.add.reduceat(weights, starts, axis=1)
        if len(keys) <= MOST:
            return OrderSums(keys, weights, bits)
        keys = keys >> 1
        bits += 1


@dataclass(frozen=True)
class Order(Summary):
    """The weights of both classes by prediction, and an area under a curve of them."""

    #: "roc_auc" or "average_precision".
    name: str

    needs_both_classes = True

    def begin(self) -> OrderSums:
        return OrderSums(np.empty(0, np.int64), np.empty((2, 0)), ROUNDING_BITS)

    def add(self, sums: OrderSums, y: np.ndarray, z: np.ndarray, weight: np.ndarray | None) -> OrderSums:
        row_weight = ones_unless(weight, len(y))
        is_second = y[:, 0] > 0
        weights = np.where(is_second, [[0.0], [1.0]], [[1.0], [0.0]]) * row_weight
        keys = keys_of(np.ascontiguousarray(z[:, 0])) >> ROUNDING_BITS
        return sums.plus(joined(keys, weights, ROUNDING_BITS))

    def score(self, sums: OrderSums) -> float:
        if self.name == "roc_auc":
            return roc_auc(*sums.weights)
        return average_precision(*sums.weights)

    def error(self, sums: OrderSums) -> float:
        if sums.bits == ROUNDING_BITS:
            return 0.0
        if self.name == "roc_auc":
            return roc_auc_error(*sums.weights)
        return average_precision_error(*sums.weights)

    def bytes_of_sums(self, rows: int, k: int) -> int:
        return 24 * min(rows, MOST)


def roc_auc(first: np.ndarray, second: np.ndarray) -> float:
    """Return the share of pairs of a row of each class whose predictions are in their order; ties count half.

    ``first`` and ``second`` (c,) are the weights of the classes by prediction, which rises.
    """
    below = np.cumsum(first) - 0.5 * first
    return float(second @ below / (first.sum() * second.sum()))


def roc_auc_error(first: np.ndarray, second: np.ndarray) -> float:
    """Return how far `roc_auc` may be from that of predictions that are joined."""
    return float(0.5 * (first @ second) / (first.sum() * second.sum()))


def average_precision(first: np.ndarray, second: np.ndarray) -> float:
    """Return the mean, over the rows of the second class, of the share of it from their prediction on."""
    second_from, first_from = _from_the_top(first, second)
    taken = second_from + first_from
    precision = np.divide(second_from, taken, out=np.zeros_like(taken), where=taken > 0)
    return float(second @ precision / second.sum())


def average_precision_error(first: np.ndarray, second: np.ndarray) -> float:
    """Return how far `average_precision` may be from that of predictions that are joined."""
    second_from, first_from = _from_the_top(first, second)
    # Where all rows of the second class come first among those that are joined, and where they come last.
    most = second_from + first_from - first
    best = np.divide(second_from, most, out=np.zeros_like(most), where=most > 0)
    before = second_from - second
    least = before + first_from
    worst = np.divide(before, least, out=np.zeros_like(least), where=least > 0)
    exact = average_precision(first, second)
    total = second.sum()
    return float(max(second @ best / total - exact, exact - second @ worst / total))


def _from_the_top(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights of the second and of the first class from each prediction on, upwards."""
    second_from = np.cumsum(second[::-1])[::-1]
    first_from = np.cumsum(first[::-1])[::-1]
    return second_from, first_from
