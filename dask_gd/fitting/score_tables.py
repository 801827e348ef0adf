"""Scores of classes that follow from a table of the true and the predicted class, with scikit-learn's names.

The table is a sum over rows, and the scores are exact. Averages are over all classes of the loss, as those of
scikit-learn's ``LogisticRegressionCV`` are; a quotient without rows is 0, as there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from .score_summaries import Summary, ones_unless

#: A table of weights (true class, predicted class) to the score.
OfTable = Callable[[np.ndarray], float]


class TableSums(NamedTuple):
    """The weights of the rows by their true and their predicted class, (classes, classes)."""

    weights: np.ndarray

    def plus(self, other: TableSums) -> TableSums:
        """Return the sums over the rows of both."""
        return TableSums(self.weights + other.weights)


@dataclass(frozen=True)
class Table(Summary):
    """The table of true and predicted classes, and the score of it."""

    classes: int
    of_table: OfTable

    def begin(self) -> TableSums:
        return TableSums(np.zeros((self.classes, self.classes)))

    def add(self, sums: TableSums, y: np.ndarray, z: np.ndarray, weight: np.ndarray | None) -> TableSums:
        true = y[:, 0].astype(int)
        # Two classes have a single prediction, above 0 for the second.
        if z.shape[1] == 1:
            predicted = (z[:, 0] > 0).astype(int)
        else:
            predicted = z.argmax(axis=1)
        cell = true * self.classes + predicted
        counted = np.bincount(
            cell,
            weights=ones_unless(weight, len(y)),
            minlength=self.classes**2,
        )
        return TableSums(sums.weights + counted.reshape(self.classes, self.classes))

    def score(self, sums: TableSums) -> float:
        return float(self.of_table(sums.weights))

    def bytes_of_sums(self, rows: int, k: int) -> int:
        return 8 * self.classes**2


def quotient(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return ``a / b``, 0 where b is 0."""
    return np.divide(a, b, out=np.zeros_like(a), where=b != 0)


def precision(right: np.ndarray, true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the share of the rows predicted as each class that are of it."""
    return quotient(right, predicted)


def recall(right: np.ndarray, true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the share of the rows of each class that are predicted as it."""
    return quotient(right, true)


def f1(right: np.ndarray, true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the harmonic mean of precision and recall of each class."""
    return quotient(2.0 * right, true + predicted)


def jaccard(right: np.ndarray, true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the rows that are of each class and predicted as it, over those that are either."""
    return quotient(right, true + predicted - right)


def averaged(of_classes: Callable, average: str, table: np.ndarray) -> float:
    """Return a score of classes as an average over them, or as that of the second of two."""
    right = np.diagonal(table).copy()
    true = table.sum(axis=1)
    predicted = table.sum(axis=0)
    if average == "micro":
        sums = [np.array([values.sum()]) for values in (right, true, predicted)]
        return float(of_classes(*sums)[0])
    scores = of_classes(right, true, predicted)
    if average == "binary":
        return float(scores[1])
    if average == "weighted":
        return float(np.average(scores, weights=true))
    return float(scores.mean())


def balanced_accuracy(table: np.ndarray) -> float:
    """Return the mean recall of the classes that have rows."""
    true = table.sum(axis=1)
    has_rows = true > 0
    return float((np.diagonal(table)[has_rows] / true[has_rows]).mean())


def matthews_corrcoef(table: np.ndarray) -> float:
    """Return the correlation of the true and the predicted class (Gorodkin, 2004), 0 where one of them is constant."""
    true = table.sum(axis=1)
    predicted = table.sum(axis=0)
    total = table.sum()
    covariance = np.trace(table) * total - true @ predicted
    spread = (total**2 - predicted @ predicted) * (total**2 - true @ true)
    if not spread > 0:
        return 0.0
    return float(covariance / np.sqrt(spread))


def scores_of_tables(classes: int) -> dict[str, OfTable]:
    """Return the scores of this number of classes by name."""
    scores: dict[str, OfTable] = {
        "balanced_accuracy": balanced_accuracy,
        "matthews_corrcoef": matthews_corrcoef,
    }
    for of_classes in (precision, recall, f1, jaccard):
        name = of_classes.__name__
        for average in ("macro", "micro", "weighted"):
            scores[f"{name}_{average}"] = partial(averaged, of_classes, average)
        # The second of two classes; of more there is none.
        if classes == 2:
            scores[name] = partial(averaged, of_classes, "binary")
    return scores
