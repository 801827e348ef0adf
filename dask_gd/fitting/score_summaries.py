"""What a pass after the fits of a search sums over the rows held out, for scores that are no means over rows.

A `Summary` begins with sums over no rows, adds rows of a partition, and makes a score of the sums over all rows of a
fold. Sums of two partitions are added by ``plus``, so that any partitions give the same. `score_tables`, `score_errors`
and `score_order` have those of scikit-learn's names; here are what they share, weighted means and all predictions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

#: Takes the targets of a fold's rows, their linear predictions and their weights (or None); the greater the better.
OfPredictions = Callable[[np.ndarray, np.ndarray, np.ndarray | None], float]

#: Bytes of the predictions of a fold's rows that the client takes for a candidate.
PREDICTIONS_BYTES = 2 << 30


class Summary(ABC):
    """Sums over the rows held out, and the score that follows from them."""

    #: Whether the score needs rows of both classes in each fold.
    needs_both_classes: ClassVar[bool] = False

    def for_tasks(self) -> Summary:
        """Return what of it travels to the tasks, which begin and add."""
        return self

    @abstractmethod
    def begin(self) -> Any:
        """Return the sums over no rows, which have a method ``plus``."""

    @abstractmethod
    def add(self, sums: Any, y: np.ndarray, z: np.ndarray, weight: np.ndarray | None) -> Any:
        """Return the sums with more rows: targets (n, k), linear predictions (n, k), weights (n,) or None.

        Targets of several classes are (n, 1), and the predictions (n, classes).
        """

    @abstractmethod
    def score(self, sums: Any) -> float:
        """Return the score of all rows of a fold, greater for better."""

    def error(self, sums: Any) -> float:
        """Return a bound of the score's error, 0 where it is exact but for rounding."""
        return 0.0

    @abstractmethod
    def bytes_of_sums(self, rows: int, k: int) -> int:
        """Return the bytes of the sums over this many rows with k predictions each, at most."""


def ones_unless(weight: np.ndarray | None, rows: int) -> np.ndarray:
    """Return the weights, 1 for each row where there are none."""
    if weight is None:
        return np.ones(rows)
    return weight


class MeanSums(NamedTuple):
    """The sum of the rows' weights, and of their scores times these."""

    weight: float
    total: float

    def plus(self, other: MeanSums) -> MeanSums:
        """Return the sums over the rows of both."""
        return MeanSums(self.weight + other.weight, self.total + other.total)


@dataclass(frozen=True)
class RowMeans(Summary):
    """The weighted mean of a score of rows."""

    #: Targets (n, k, 1) and predictions (n, k, 1) to scores (n, 1), as the passes of the fits have them.
    of_rows: Callable[[np.ndarray, np.ndarray], np.ndarray]
    #: Makes indicators of the targets of several classes.
    indicators: Callable[[np.ndarray], np.ndarray] | None = None

    def begin(self) -> MeanSums:
        return MeanSums(0.0, 0.0)

    def add(self, sums: MeanSums, y: np.ndarray, z: np.ndarray, weight: np.ndarray | None) -> MeanSums:
        targets = y
        if self.indicators is not None:
            targets = self.indicators(y)
        scores = self.of_rows(targets[:, :, None], z[:, :, None])[:, 0]
        row_weight = ones_unless(weight, len(y))
        return sums.plus(MeanSums(float(row_weight.sum()), float(row_weight @ scores)))

    def score(self, sums: MeanSums) -> float:
        return sums.total / sums.weight

    def bytes_of_sums(self, rows: int, k: int) -> int:
        return 16


class AllRows(NamedTuple):
    """Rows in their order, as lists of arrays: targets, linear predictions, and weights where there are any."""

    parts: tuple[tuple[np.ndarray, np.ndarray, np.ndarray | None], ...]

    def plus(self, other: AllRows) -> AllRows:
        """Return the rows of both."""
        return AllRows(self.parts + other.parts)


@dataclass(frozen=True)
class Predictions(Summary):
    """The predictions of all rows of a fold, which the client gives to a function."""

    function: OfPredictions | None

    def for_tasks(self) -> Predictions:
        # Functions stay here.
        return Predictions(None)

    def begin(self) -> AllRows:
        return AllRows(())

    def add(self, sums: AllRows, y: np.ndarray, z: np.ndarray, weight: np.ndarray | None) -> AllRows:
        return AllRows((*sums.parts, (y, z, weight)))

    def score(self, sums: AllRows) -> float:
        assert self.function is not None
        targets = np.concatenate([y for y, _, _ in sums.parts])
        predictions = np.concatenate([z for _, z, _ in sums.parts])
        weights = None
        if sums.parts[0][2] is not None:
            weights = np.concatenate([weight for _, _, weight in sums.parts if weight is not None])
        # A single column is a vector.
        if targets.shape[1] == 1:
            targets = targets[:, 0]
        if predictions.shape[1] == 1:
            predictions = predictions[:, 0]
        return float(self.function(targets, predictions, weights))

    def bytes_of_sums(self, rows: int, k: int) -> int:
        return 8 * rows * (2 * k + 1)
