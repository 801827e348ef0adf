"""Splits of rows into those to fit and those held out: of a splitter of scikit-learn, or listed.

A search holds each row out once at most, and fits all others. Splits whose test sets overlap are shared out to sets of
splits, in each of which they do not, and there is a search for each set. A split that leaves rows out of both sides is
a set of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ..errors import InvalidArgumentError
from ..sources import Source
from ..sources.lazy import column as column_of


class Split(NamedTuple):
    """The numbers of the rows to fit, and of those held out."""

    train: np.ndarray
    test: np.ndarray


class SplitSet(NamedTuple):
    """Splits that one search serves."""

    #: The number of the split that each fold is.
    numbers: tuple[int, ...]
    #: (n,) each row's fold; -1 where it is never held out, and the count of folds where it is in neither side.
    fold: np.ndarray
    #: Whether each row is in one side of each split.
    is_whole: bool


def is_splits(folds: Any) -> bool:
    """Return whether this is a splitter of scikit-learn, or pairs of train and test rows."""
    if hasattr(folds, "get_n_splits") or isinstance(folds, Iterator):
        return True
    return isinstance(folds, list | tuple) and all(map(_is_pair, folds))


def _is_pair(entry: Any) -> bool:
    """Return whether this is a pair of lists of rows."""
    if not isinstance(entry, list | tuple) or len(entry) != 2:
        return False
    return all(hasattr(part, "__len__") for part in entry)


def splits_of(folds: Any, source: Source, groups: Any) -> list[Split]:
    """Return the splits of a splitter, or those listed, checked."""
    n = source.shape[0]
    pairs: Iterable = folds
    if hasattr(folds, "get_n_splits"):
        y = column_of(source, "y")
        if not isinstance(y, np.ndarray):
            raise InvalidArgumentError(
                f"folds={folds!r} lists rows, for data in memory; of lazy data give dask_gd.Folds, or the list of its "
                "splits, pairs of the numbers of train and test rows."
            )
        pairs = folds.split(y, y, groups)
    splits = []
    for number, (train, test) in enumerate(pairs):
        split = Split(_numbers(train, n), _numbers(test, n))
        _check(split, number, n)
        splits.append(split)
    if not splits:
        raise InvalidArgumentError(f"folds={folds!r} has no split; give one at least.")
    return splits


def _numbers(rows: Any, n: int) -> np.ndarray:
    """Return the numbers of rows, which may be given as marks of each row."""
    values = np.asarray(rows)
    if values.dtype == bool and len(values) == n:
        return np.flatnonzero(values)
    return values


def _check(split: Split, number: int, n: int) -> None:
    """Refuse rows that are not there, that are twice in a split, or on both of its sides."""
    for side, rows in split._asdict().items():
        if rows.ndim != 1 or rows.dtype.kind not in "iu" or not len(rows):
            raise InvalidArgumentError(
                f"folds: the {side} rows of split {number} are {rows!r}; give the numbers of rows, one at least."
            )
        if rows.min() < 0 or rows.max() >= n:
            raise InvalidArgumentError(
                f"folds: the {side} rows of split {number} are {rows.min()} to {rows.max()}; there are the rows 0 to "
                f"{n - 1}."
            )
    both = np.concatenate(split)
    times = np.bincount(both, minlength=n)
    if times.max() > 1:
        row = int(times.argmax())
        raise InvalidArgumentError(
            f"folds: row {row} is {times[row]} times in split {number}; a row is to be fitted or held out, once. Rows "
            "that count more than once are given by sample_weight."
        )


def sets_of(splits: list[Split], n: int) -> list[SplitSet]:
    """Return the splits of n rows in sets, each of as many as one search serves."""
    sets: list[SplitSet] = []
    for number, split in enumerate(splits):
        is_whole = len(split.train) + len(split.test) == n
        if is_whole:
            # Into the first set where no row of it is held out.
            for i, known in enumerate(sets):
                if known.is_whole and (known.fold[split.test] < 0).all():
                    known.fold[split.test] = len(known.numbers)
                    sets[i] = known._replace(numbers=(*known.numbers, number))
                    break
            else:
                fold = np.full(n, -1)
                fold[split.test] = 0
                sets.append(SplitSet((number,), fold, is_whole=True))
        else:
            # 1 is the count of folds: rows in neither side.
            fold = np.full(n, 1)
            fold[split.train] = -1
            fold[split.test] = 0
            sets.append(SplitSet((number,), fold, is_whole=False))
    return sets
