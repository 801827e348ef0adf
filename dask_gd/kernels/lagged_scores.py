"""Sums of the products of scores that are up to some rows apart: Newey and West's meat, see `scores`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .scores import RobustKernel, Scores


class Lags(NamedTuple):
    """The sum of ``w(i - j) score_i score_j^T`` over rows up to ``most`` apart, ``w(d) = 1 - |d| / (most + 1)``."""

    most: int

    def make(self, kernel: RobustKernel) -> LagTotal:
        return LagTotal(self, kernel)

    def nbytes(self, q: int, k: int) -> int:
        """Return the bytes of the matrices, and of the scores at both ends of a partition."""
        return 8 * k * q * (q + 2 * self.most)


class LagSums(NamedTuple):
    """The matrices over the pairs within some consecutive rows, and the scores of their first and last rows."""

    most: int
    matrix: np.ndarray  # (k, q, q)
    first: np.ndarray  # (k, rows, q), at most ``most`` rows
    last: np.ndarray  # (k, rows, q), at most ``most`` rows

    def plus(self, other: LagSums) -> LagSums:
        """Return the sums over the rows of both, of which those of ``other`` follow."""
        matrix = self.matrix + other.matrix
        for of_output, before, after in zip(matrix, self.last, other.first, strict=True):
            of_output += across(before, after, self.most)
        first = np.concatenate([self.first, other.first], axis=1)[:, : self.most]
        last = ending(np.concatenate([self.last, other.last], axis=1), self.most)
        return LagSums(self.most, matrix, first, last)


class LagTotal:
    """The sums of `Lags` over the blocks of a partition, in their order."""

    def __init__(self, spec: Lags, kernel: RobustKernel):
        q, k, _ = kernel.query.shape
        self.most = spec.most
        self.matrix = np.zeros((k, q, q))
        empty = np.zeros((0, q))
        self.first = [empty] * k
        self.last = [empty] * k

    def add(self, scores: Scores) -> None:
        """Add those of a block."""
        most = self.most
        for i, output in enumerate(range(*scores.outputs.indices(len(self.matrix)))):
            rows = scores.kernel.rows_of(scores, i)
            self.matrix[output] += within(rows, most) + across(self.last[output], rows[:most], most)
            if len(self.first[output]) < most:
                self.first[output] = np.concatenate([self.first[output], rows[:most]])[:most]
            self.last[output] = ending(np.concatenate([self.last[output], ending(rows, most)]), most).copy()

    def result(self) -> LagSums:
        return LagSums(self.most, self.matrix, np.stack(self.first), np.stack(self.last))


def weights_of(most: int) -> np.ndarray:
    """Return Bartlett's weights of the distances 0 to ``most``, (most + 1,)."""
    return 1.0 - np.arange(most + 1) / (most + 1)


def ending(rows: np.ndarray, count: int) -> np.ndarray:
    """Return the last ``count`` of rows (..., n, q), or all where there are no more."""
    return rows[..., max(0, rows.shape[-2] - count) :, :]


def within(rows: np.ndarray, most: int) -> np.ndarray:
    """Return the sum over the pairs of consecutive rows (n, q), each with itself included: (q, q)."""
    # Each row is multiplied by the weighted sum of those before it, so that the cost of a lag is a sum.
    before = np.zeros_like(rows)
    for lag, weight in enumerate(weights_of(most)):
        if 0 < lag < len(rows):
            before[lag:] += weight * rows[:-lag]
    half = rows.T @ before
    return rows.T @ rows + half + half.T


def across(before: np.ndarray, after: np.ndarray, most: int) -> np.ndarray:
    """Return the sum over the pairs of a row before (n, q) and a row after (m, q), which follow each other: (q, q)."""
    weights = weights_of(most)
    # Row j after is j + 1 rows from the last before.
    distance = np.arange(len(after))[:, None] + np.arange(len(before), 0, -1)
    near = np.where(distance <= most, weights[np.minimum(distance, most)], 0.0)
    half = after.T @ near @ before
    return half + half.T
