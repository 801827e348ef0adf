"""Which rows are held out together.

A row's fold follows from its number in the whole array, or from a column of the source, so that it is the same whatever
the chunks and the workers are, and no row is moved or copied to disk. `fold_kernels` has the kernels that keep folds
apart within a pass, and `fold_assignment` makes an assignment from a search's arguments.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import Any, NamedTuple

import dask.array as da
import numpy as np

from ..cluster import compute
from ..errors import DataError, InvalidArgumentError
from ..sources.fields import DatasetSpec
from ..sources.row_hash import hashes, mixed
from ..validate import choose, is_whole

#: So that folds and `preprocessing.train_test_split` with the same seed are independent of each other.
FOLD_SEED = 0x5EA4C4


@dataclass(frozen=True)
class Folds:
    """A rule that shares out rows to folds.

    Parameters
    ----------
    count : int
        2 or more.
    by : {"hash", "class", "block"}
        "hash": of each ``count`` consecutive rows every fold has one row, in an order that a hash decides. "class": the
        same among the rows of each class, so that folds have as many rows of a class, up to one; takes a pass over the
        targets. "block": consecutive rows, as many in each fold, up to one: for series in time.
    seed : int
        Of the hashes.

    Examples
    --------
    >>> dask_gd.Folds(3).of_rows(np.arange(8), 8)
    array([0, 1, 2, 0, 2, 1, 0, 2])
    >>> dask_gd.Folds(3, by="block").of_rows(np.arange(8), 8)
    array([0, 0, 0, 1, 1, 1, 2, 2])
    """

    count: int = 5
    by: str = "hash"
    seed: int = 0

    def __post_init__(self):
        if not is_whole(self.count, least=2):
            raise InvalidArgumentError(f"Folds(count={self.count!r}): a whole number of folds, 2 or more.")
        if not is_whole(self.seed, least=0):
            raise InvalidArgumentError(f"Folds(seed={self.seed!r}): a whole number, 0 or more.")
        choose("Folds(by=...)", self.by, {"hash": None, "class": None, "block": None})

    def of_rows(self, numbers: np.ndarray, total: int) -> np.ndarray:
        """Return the folds of the rows with these numbers, of ``total``: (n,) int -> (n,) int."""
        if self.by == "block":
            return numbers * self.count // total
        return deal(self.seed ^ FOLD_SEED, numbers, self.count)

    def of_groups(self, groups: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Return the folds of rows whose groups are among those ``known``, sorted: (n,), (groups,) -> (n,) int."""
        positions = np.searchsorted(known, groups)
        return deal(self.seed ^ FOLD_SEED, positions, self.count)


class SplitFolds(Folds):
    """The folds of splits, which a column of the source numbers. There may be a single one."""

    def __post_init__(self):
        """Take any count."""


def deal(seed: int, positions: np.ndarray, count: int) -> np.ndarray:
    """Return the folds of positions in an endless sequence, (n,) -> (n,): each fold once in every ``count`` positions.

    The i-th position of such a run is in fold ``(stride i + shift) modulo count``. The hash of the run's number decides
    the shift, and the stride among those that have no divisor in common with count.
    """
    runs, i = np.divmod(positions, count)
    random = hashes(seed, runs)
    coprime = [stride for stride in range(1, count + 1) if gcd(stride, count) == 1]
    strides = np.array(coprime)[scale_hashes(random, len(coprime))]
    shifts = scale_hashes(mixed(random), count)
    return (strides * i + shifts) % count


def scale_hashes(random: np.ndarray, count: int) -> np.ndarray:
    """Return a number from 0 to ``count - 1`` for each random uint64, all of them as likely."""
    upper = random >> np.uint64(32)
    product = upper * np.uint64(count)
    return (product >> np.uint64(32)).astype(int)


class Assignment(NamedTuple):
    """The folds as a task needs to know them: called with rows, it returns each row's fold."""

    folds: Folds
    #: Rows of the source, and the number of the first.
    total: int
    first: int
    #: What the source's column ``fold`` holds: "folds", "splits", "groups", or nothing where there is none. Of splits
    #: the number after the last fold's is that of rows which fits to all rows see, and no other.
    column: str = ""
    #: Of folds by class: (partitions, classes) the rows of each class before each partition.
    before: np.ndarray | None = None
    #: Of a Dataset, whose rows are numbered by its dimensions' points, whatever the chunks.
    fields: DatasetSpec | None = None
    #: All of them, sorted, where rows are shared out by their groups.
    groups: np.ndarray | None = None

    @property
    def parts(self) -> int:
        """The number of parts that rows are in: the folds, that of rows in no fold, and of splits one more."""
        return self.folds.count + 1 + (self.column == "splits")

    def is_unseen(self, part: int, fold: int) -> bool:
        """Return whether a fit without a fold does not see a part, by its number among ``parts``; ALL sees each."""
        if fold < 0:
            return False
        is_in_neither = self.column == "splits" and part == self.folds.count
        return part == fold or is_in_neither

    def in_partition(self, partition: int) -> Assignment | ByClass | InGrid:
        """Return what takes the rows of a partition, in their order, and returns their folds."""
        if self.before is not None:
            # A copy, since it counts the rows of each class on from here.
            return ByClass(self.folds, self.before[partition].copy())
        if self.fields is None or self.column:
            return self
        return InGrid(self, partition)

    def __call__(self, rows: Any) -> np.ndarray:
        """Return the folds of rows, (n,) int; -1 is in no fold, and is never held out."""
        if self.column == "groups":
            assert self.groups is not None
            return self.folds.of_groups(rows.fold, self.groups)
        if self.column == "folds":
            return self._checked(rows)
        if self.column == "splits":
            return rows.fold.astype(int)
        return self.folds.of_rows(rows.numbers - self.first, self.total)

    def _checked(self, rows: Any) -> np.ndarray:
        """Return the folds that a column holds, (n,) int; refuse those that are no fold's number."""
        fold = rows.fold.astype(int)
        bad = fold != rows.fold
        bad |= (fold < -1) | (fold >= self.folds.count)
        if bad.any():
            row = int(np.argmax(bad))
            raise DataError(
                f"folds: {rows.fold[row]:g} in row {rows.number(row)}; a row's fold is one of the whole numbers 0 "
                f"to {self.folds.count - 1}, or -1 where it is never held out."
            )
        return fold


class InGrid:
    """The folds of the rows of one of a Dataset's partitions, by the rows' numbers in the whole grid."""

    def __init__(self, assignment: Assignment, partition: int):
        assert assignment.fields is not None
        self.assignment = assignment
        self.sizes = tuple(map(sum, assignment.fields.chunks))
        self.block = assignment.fields.bind((), partition, 0)
        self.first = -1

    def __call__(self, rows: Any) -> np.ndarray:
        # The partition begins with the first rows that come.
        if self.first < 0:
            self.first = rows.start
        # From numbers within the partition's box to numbers within the grid.
        within = np.unravel_index(rows.numbers - self.first, self.block.box)
        index = []
        for i, origin in zip(within, self.block.origin, strict=True):
            index.append(i + origin)
        numbers = np.ravel_multi_index(tuple(index), self.sizes)
        return self.assignment.folds.of_rows(numbers, self.assignment.total)


class ByClass:
    """The folds of rows by their class, and by how many rows of that class came before."""

    def __init__(self, folds: Folds, before: np.ndarray):
        self.folds = folds
        self.before = before

    def __call__(self, rows: Any) -> np.ndarray:
        folds = np.empty(len(rows.y), int)
        count = self.folds.count
        for c in range(len(self.before)):
            # Each class is a sequence of its own, with a seed of its own.
            members = np.flatnonzero(rows.y[:, 0] == c)
            positions = self.before[c] + np.arange(len(members))
            seed = (self.folds.seed ^ FOLD_SEED) + c + 1
            folds[members] = deal(seed, positions, count)
            # The next rows of the class go on from here.
            self.before[c] += len(members)
        return folds


def classes_before(y: da.Array, bounds: tuple[int, ...], classes: int) -> np.ndarray:
    """Count the rows of each class before each partition, (partitions, classes), in lazy targets (n,) of 0, 1, ..."""
    # A block for each partition, so that a block's counts are a partition's.
    sizes = tuple(np.diff(bounds).tolist())
    y = y.reshape(len(y)).rechunk((sizes,))
    chunks = ((1,) * y.npartitions, (classes,))
    lazy = da.map_blocks(
        _count_classes,
        y,
        classes,
        dtype=int,
        new_axis=1,
        chunks=chunks,
    )
    [counts] = compute(lazy, what="the count of the classes in each block")
    return np.cumsum(counts, axis=0) - counts


def _count_classes(y: np.ndarray, classes: int) -> np.ndarray:
    """Return the number of rows of each class, (1, classes)."""
    is_of_class = y[:, None] == np.arange(classes)
    return is_of_class.sum(axis=0)[None]
