"""Scores of numbers that follow from sums of the targets and of the errors, with scikit-learn's names.

Means and sums of squares about them are merged (Chan, Golub and LeVeque, 1983, "Algorithms for computing the sample
variance"), so that targets far from 0 lose no digits. With several outputs each has a score, and theirs is the mean.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import xlogy

from .score_summaries import Summary, ones_unless

#: Scores (k,) of the outputs, from `ErrorSums`.
OfErrors = Callable[["ErrorSums"], np.ndarray]


class ErrorSums(NamedTuple):
    """The weight of the rows, means of targets and errors with squares about these, and the largest error: each (k,).

    ``row_losses`` is the sum of a score of rows, where one is asked for.
    """

    weight: float
    mean: np.ndarray
    squares: np.ndarray
    error_mean: np.ndarray
    error_squares: np.ndarray
    largest: np.ndarray
    row_losses: np.ndarray

    def plus(self, other: ErrorSums) -> ErrorSums:
        """Return the sums over the rows of both."""
        weight = self.weight + other.weight
        if not weight > 0:
            return self
        share = other.weight / weight
        both = self.weight * share
        of_mean = other.mean - self.mean
        of_error = other.error_mean - self.error_mean
        return ErrorSums(
            weight=weight,
            mean=self.mean + share * of_mean,
            squares=self.squares + other.squares + both * of_mean**2,
            error_mean=self.error_mean + share * of_error,
            error_squares=self.error_squares + other.error_squares + both * of_error**2,
            largest=np.maximum(self.largest, other.largest),
            row_losses=self.row_losses + other.row_losses,
        )


@dataclass(frozen=True)
class Errors(Summary):
    """The sums of targets and errors, and the score of them."""

    outputs: int
    of_errors: OfErrors
    #: From linear predictions to those of the target.
    inverse_link: Callable[[np.ndarray], np.ndarray]
    #: Targets and predictions (n, k) to losses of the same shape.
    row_loss: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None

    def begin(self) -> ErrorSums:
        nothing = np.zeros(self.outputs)
        return ErrorSums(0.0, *[nothing] * 6)

    def add(self, sums: ErrorSums, y: np.ndarray, z: np.ndarray, weight: np.ndarray | None) -> ErrorSums:
        row_weight = ones_unless(weight, len(y))
        total = float(row_weight.sum())
        # Rows without weight count for nothing, the largest error among them.
        if not total > 0:
            return sums
        predicted = self.inverse_link(z)
        error = y - predicted
        mean = row_weight @ y / total
        error_mean = row_weight @ error / total
        row_losses = np.zeros(self.outputs)
        if self.row_loss is not None:
            row_losses = row_weight @ self.row_loss(y, predicted)
        return sums.plus(
            ErrorSums(
                weight=total,
                mean=mean,
                squares=row_weight @ (y - mean) ** 2,
                error_mean=error_mean,
                error_squares=row_weight @ (error - error_mean) ** 2,
                largest=np.abs(error[row_weight > 0]).max(axis=0),
                row_losses=row_losses,
            )
        )

    def score(self, sums: ErrorSums) -> float:
        return float(np.mean(self.of_errors(sums)))

    def bytes_of_sums(self, rows: int, k: int) -> int:
        return 8 * (6 * k + 1)


def _explained(left: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return ``1 - left / whole``; of constant targets 1 if nothing is left, else 0."""
    of_constant = np.where(left <= 0, 0.0, 1.0)
    return 1.0 - np.divide(left, whole, out=of_constant, where=whole > 0)


def _mean_squares(sums: ErrorSums) -> np.ndarray:
    """Return the mean squared errors."""
    return sums.error_squares / sums.weight + sums.error_mean**2


def r2(sums: ErrorSums) -> np.ndarray:
    """Return R^2."""
    return _explained(sums.weight * _mean_squares(sums), sums.squares)


def explained_variance(sums: ErrorSums) -> np.ndarray:
    """Return the share of the variance that the errors, about their mean, do not have."""
    return _explained(sums.error_squares, sums.squares)


def squared(sums: ErrorSums) -> np.ndarray:
    """Return the negative of the mean squared error."""
    return -_mean_squares(sums)


def root_squared(sums: ErrorSums) -> np.ndarray:
    """Return the negative of the root of the mean squared error."""
    return -np.sqrt(_mean_squares(sums))


def largest(sums: ErrorSums) -> np.ndarray:
    """Return the negative of the largest error."""
    return -sums.largest


def row_mean(sums: ErrorSums) -> np.ndarray:
    """Return the negative of the mean loss of rows."""
    return -sums.row_losses / sums.weight


def absolute(y: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the sizes of the errors."""
    return np.abs(y - predicted)


def absolute_percentage(y: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the sizes of the errors over those of the targets."""
    least = np.finfo(float).eps
    return np.abs(y - predicted) / np.maximum(np.abs(y), least)


def poisson_deviance(y: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the deviances of Poisson's distribution."""
    return 2.0 * (xlogy(y, y / predicted) - y + predicted)


def gamma_deviance(y: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the deviances of the gamma distribution."""
    return 2.0 * (np.log(predicted / y) + y / predicted - 1.0)


#: Of all numbers: the score of the sums, and the loss of rows that it needs, if it needs one.
OF_NUMBERS: dict[str, tuple[OfErrors, Callable | None]] = {
    "explained_variance": (explained_variance, None),
    "neg_max_error": (largest, None),
    "neg_mean_absolute_error": (row_mean, absolute),
    "neg_mean_absolute_percentage_error": (row_mean, absolute_percentage),
    "neg_mean_squared_error": (squared, None),
    "neg_root_mean_squared_error": (root_squared, None),
    "r2": (r2, None),
}

#: Of amounts, whose predictions are above 0.
OF_AMOUNTS: dict[str, tuple[OfErrors, Callable | None]] = {
    "neg_mean_poisson_deviance": (row_mean, poisson_deviance),
    "neg_mean_gamma_deviance": (row_mean, gamma_deviance),
}
