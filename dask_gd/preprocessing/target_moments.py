"""The moments of targets by level and fold, from which the numbers of levels follow."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from ..errors import DataError, NonFiniteError
from ..sources.coding import CodedFactor
from ..sources.row_hash import row_hashes


class TargetMoments(NamedTuple):
    """The number, the mean and the sum of squares about the mean of targets: (outputs, folds, levels) each.

    Of several classes there is an output for each, whose target is 1 in the rows of the class and 0 in others.
    """

    rows: np.ndarray
    mean: np.ndarray
    squares: np.ndarray

    def plus(self, other: TargetMoments) -> TargetMoments:
        """Return those of the rows of both (Chan, Golub and LeVeque, "Updating formulae", 1979)."""
        total = self.rows + other.rows
        share = np.divide(other.rows, total, out=np.zeros_like(total), where=total > 0)
        apart = other.mean - self.mean
        mean = self.mean + share * apart
        squares = self.squares + other.squares + self.rows * share * apart**2
        return TargetMoments(total, mean, squares)


def moments_of(
    part: Any,
    y: Any,
    start: int,
    coders: list[CodedFactor],
    folds: int,
    seed: int,
    classes: int | None = None,
) -> TargetMoments:
    """Return the moments of the targets of each level of each column, and of all rows last, for each fold.

    Targets are numbers, or with a number of ``classes`` the numbers of these.
    """
    y = np.asarray(y, float)
    if len(y) != len(part):
        raise DataError(f"TargetEncoder: rows {start} on of X are {len(part)}, of y {len(y)}; they must agree.")
    is_finite = np.isfinite(y)
    if not is_finite.all():
        row = int(np.argmin(is_finite))
        raise NonFiniteError(f"{y[row]} in row {start + row} of 'y'. Remove or fill it before fitting.")
    # A row counts for its fold and its level, and for all rows, as of a column with a single level.
    fold = folds_of(seed, start, len(y), folds)
    keys = []
    for i, coder in enumerate(coders):
        codes = coder.encoded(part.iloc[:, i], part.columns[i], "").astype(np.intp)
        levels = len(coder.column.levels)
        keys.append((fold * levels + codes, levels))
    keys.append((fold, 1))
    # The columns side by side, for each output.
    outputs = []
    for target in targets_of(y, classes):
        found = [_by_key(key, target, folds, levels) for key, levels in keys]
        outputs.append([np.concatenate(values, axis=1) for values in zip(*found, strict=True)])
    return TargetMoments(*(np.stack(values) for values in zip(*outputs, strict=True)))


def targets_of(y: np.ndarray, classes: int | None) -> Iterator[np.ndarray]:
    """Yield the targets of each output, (n,): numbers, or the indicator of each class."""
    if classes is None:
        yield y
        return
    for number in range(classes):
        yield (y == number).astype(float)


def _by_key(key: np.ndarray, y: np.ndarray, folds: int, levels: int) -> TargetMoments:
    """Return the moments of the targets of each key, (folds, levels)."""
    size = folds * levels
    count = np.bincount(key, minlength=size).astype(float)
    total = np.bincount(key, y, size)
    mean = np.divide(total, count, out=np.zeros(size), where=count > 0)
    # About each mean, so that no large squares are subtracted.
    deviation = y - mean[key]
    squares = np.bincount(key, deviation**2, size)
    by_fold = [values.reshape(folds, levels) for values in (count, mean, squares)]
    return TargetMoments(*by_fold)


def added(*parts: TargetMoments) -> TargetMoments:
    """Return the moments of the rows of all parts."""
    return reduce(TargetMoments.plus, parts)


def folds_of(seed: int, start: int, count: int, folds: int) -> np.ndarray:
    """Return the fold of each of the rows from ``start`` on, (n,)."""
    hashes = row_hashes(seed, start, start + count)
    return (hashes % np.uint64(folds)).astype(np.intp)


def smoothed(own: TargetMoments, mean: np.ndarray, variance: np.ndarray, smooth: Any) -> np.ndarray:
    """Return the numbers of levels, (outputs, levels): their means, drawn to the mean of all, (outputs, 1)."""
    if smooth == "auto":
        with np.errstate(divide="ignore", invalid="ignore"):
            weight = variance * own.rows
            share = weight / (weight + own.squares / own.rows)
    else:
        with np.errstate(invalid="ignore"):
            share = own.rows / (own.rows + float(smooth))
    # A level without rows, and any where all targets are the same, has the mean of all.
    share = np.where(np.isfinite(share), share, 0.0)
    return share * own.mean + (1.0 - share) * mean
