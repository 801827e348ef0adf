"""Which rows are held out together, and the kernels that keep folds apart within a pass.

A row's fold follows from its number in the whole array, or from a column of the source, so that it is the same whatever
the chunks and the workers are, and no row is moved or copied to disk.

Two kernels serve a search. `ByFold` sums each fold by itself at points that all share: the rows that a fold's fit sees
are then all the others, and one curvature serves all folds, since each row's belongs to exactly one. `HoldOut` has a
fold for each candidate, which is not among its rows and whose loss and score are summed beside them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from math import gcd
from typing import Any, NamedTuple

import dask.array as da
import numpy as np

from ..cluster import compute
from ..errors import DataError, InvalidArgumentError
from ..kernels.base import Kernel, Request, Sums, combine
from ..model.losses import Loss
from ..sources.fields import DatasetSpec
from ..sources.row_hash import hashes, mixed
from ..validate import choose

#: So that folds and `preprocessing.train_test_split` with the same seed are independent of each other.
APART = 0x5EA4C4


@dataclass(frozen=True)
class Folds:
    """How rows are shared out to folds.

    Parameters
    ----------
    count : int
        2 or more.
    by : {"hash", "class", "block"}
        "hash": of each ``count`` consecutive rows one for each fold, in an order that a hash decides. "class": the same
        among the rows of each class, so that folds have as many of a class, up to one; takes a pass over the targets.
        "block": consecutive rows, as many in each fold, up to one: for series in time.
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
        if isinstance(self.count, bool) or not isinstance(self.count, int | np.integer) or self.count < 2:
            raise InvalidArgumentError(f"Folds(count={self.count!r}): a whole number of folds, 2 or more.")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int | np.integer) or self.seed < 0:
            raise InvalidArgumentError(f"Folds(seed={self.seed!r}): a whole number, 0 or more.")
        choose("Folds(by=...)", self.by, {"hash": None, "class": None, "block": None})

    def of_rows(self, numbers: np.ndarray, total: int) -> np.ndarray:
        """The folds of the rows with these numbers, of ``total``: (n,) int -> (n,) int."""
        if self.by == "block":
            return numbers * self.count // total
        return dealt(self.seed ^ APART, numbers, self.count)

    def of_groups(self, groups: np.ndarray, known: np.ndarray) -> np.ndarray:
        """The folds of rows whose groups are among those ``known``, sorted: (n,), (groups,) -> (n,) int."""
        return dealt(self.seed ^ APART, np.searchsorted(known, groups), self.count)


def dealt(seed: int, places: np.ndarray, count: int) -> np.ndarray:
    """The folds of places in an endless row, (n,) -> (n,): each once in every ``count`` of them.

    The i-th of such a run is in fold ``(stride i + shift) modulo count``, with a shift and a stride, which has no
    divisor in common with count, by the hash of the run's number.
    """
    runs, i = np.divmod(places, count)
    random = hashes(seed, runs)
    strides = np.array([s for s in range(1, count + 1) if gcd(s, count) == 1])
    return (strides[shared_out(random, len(strides))] * i + shared_out(mixed(random), count)) % count


def shared_out(random: np.ndarray, count: int) -> np.ndarray:
    """Random uint64 as one of ``count`` numbers, all as likely."""
    return ((random >> np.uint64(32)) * np.uint64(count) >> np.uint64(32)).astype(int)


class Assigned(NamedTuple):
    """What a task needs to know of the folds."""

    folds: Folds
    #: Rows of the source, and the number of the first.
    total: int
    first: int
    #: What the source's column ``fold`` holds: "folds", "groups", or nothing where there is none.
    column: str = ""
    #: Of folds by class: (partitions, classes) the rows of each class before each partition.
    before: np.ndarray | None = None
    #: Of a Dataset, whose rows are numbered by its dimensions' points, whatever the chunks.
    fields: DatasetSpec | None = None
    #: All of them, sorted, where rows are shared out by their groups.
    groups: np.ndarray | None = None

    def in_partition(self, partition: int) -> Assigned | ByClass | InGrid:
        """Of the rows of a partition, as they come, the folds."""
        if self.before is not None:
            return ByClass(self.folds, self.before[partition].copy())
        if self.fields is None or self.column:
            return self
        return InGrid(self, partition)

    def __call__(self, rows: Any) -> np.ndarray:
        """(n,) int; -1 is in no fold: always seen."""
        if self.column == "groups":
            assert self.groups is not None
            return self.folds.of_groups(rows.fold, self.groups)
        if self.column == "folds":
            fold = rows.fold.astype(int)
            bad = (fold != rows.fold) | (fold < -1) | (fold >= self.folds.count)
            if bad.any():
                row = int(np.argmax(bad))
                raise DataError(
                    f"folds: {rows.fold[row]:g} in row {rows.number(row)}; a row's fold is one of the whole numbers 0 "
                    f"to {self.folds.count - 1}, or -1 where it is never held out."
                )
            return fold
        return self.folds.of_rows(rows.numbers - self.first, self.total)


class InGrid:
    """The folds of the rows of one of a Dataset's partitions, as they come."""

    def __init__(self, assigned: Assigned, partition: int):
        assert assigned.fields is not None
        self.assigned = assigned
        self.sizes = tuple(map(sum, assigned.fields.chunks))
        self.block = assigned.fields.bind((), partition, 0)
        self.first = -1

    def __call__(self, rows: Any) -> np.ndarray:
        if self.first < 0:
            self.first = rows.start
        within = np.unravel_index(rows.numbers - self.first, self.block.box)
        index = tuple(i + origin for i, origin in zip(within, self.block.origin, strict=True))
        numbers = np.ravel_multi_index(index, self.sizes)
        return self.assigned.folds.of_rows(numbers, self.assigned.total)


class ByClass:
    """The folds of rows by their class and their place among those of the same, as they come."""

    def __init__(self, folds: Folds, before: np.ndarray):
        self.folds = folds
        self.before = before

    def __call__(self, rows: Any) -> np.ndarray:
        found = np.empty(len(rows.y), int)
        count = self.folds.count
        for c in range(len(self.before)):
            own = np.flatnonzero(rows.y[:, 0] == c)
            places = self.before[c] + np.arange(len(own))
            found[own] = dealt((self.folds.seed ^ APART) + c + 1, places, count)
            self.before[c] += len(own)
        return found


def classes_before(y: da.Array, bounds: tuple[int, ...], classes: int) -> np.ndarray:
    """The rows of each class before each partition, (partitions, classes), from lazy targets (n,) of 0, 1, ..."""
    y = y.reshape(len(y)).rechunk((tuple(np.diff(bounds).tolist()),))
    chunks = ((1,) * y.npartitions, (classes,))
    counted = da.map_blocks(_counted, y, classes, dtype=int, new_axis=1, chunks=chunks)
    [counts] = compute(counted, what="the count of the classes in each block")
    return np.cumsum(counts, axis=0) - counts


def _counted(y: np.ndarray, classes: int) -> np.ndarray:
    return (y[:, None] == np.arange(classes)).sum(axis=0)[None]


class ByFold(NamedTuple):
    """Asks for the sums of each fold, and of the rows in none, apart: see `FoldSums`.

    With several candidates in the query a curvature is computed at each of them.
    """

    assigned: Assigned

    def copies(self, m: int) -> int:
        """Return how many times the sums at one candidate there are, of so many candidates."""
        return m * (self.assigned.folds.count + 1)

    def make(
        self, partition: int, query: np.ndarray, loss: Loss, request: Request, dtype: np.dtype, p: int
    ) -> ByFoldKernel:
        return ByFoldKernel(self, partition, query, loss, request, dtype, p)


class FoldSums(NamedTuple):
    """The sums of each fold, those of the rows in none last, at each candidate of a query."""

    parts: tuple[tuple[Sums, ...], ...]  # [candidate][fold]
    targets: np.ndarray  # (folds + 1, 2, k), the sums of the targets and of their squares

    @property
    def at_query(self) -> Sums:
        """The sums of all folds at the first candidate."""
        return reduce(combine, self.parts[0])

    def plus(self, other: FoldSums) -> FoldSums:
        """Return the sums over the rows of both, fold by fold."""
        parts = tuple(
            tuple(mine.plus(theirs) for mine, theirs in zip(a, b, strict=True))
            for a, b in zip(self.parts, other.parts, strict=True)
        )
        return FoldSums(parts, self.targets + other.targets)


class ByFoldKernel(Kernel):
    def __init__(self, how: ByFold, partition: int, query: np.ndarray, loss: Loss, request: Request, dtype, p: int):
        self.fold_of = how.assigned.in_partition(partition)
        points = range(query.shape[2])
        count = how.assigned.folds.count + 1
        self.parts = [[Kernel(query[:, :, i, None], loss, request, dtype, p) for _ in range(count)] for i in points]
        super().__init__(query, loss, Request(), dtype, p)
        # One fold after the other: they can do with the same memory.
        near = self.parts[0][0].near
        for part in (part for parts in self.parts for part in parts):
            part.near = near
        self.targets = np.zeros((count, 2, query.shape[1]))
        self.room: np.ndarray | None = None

    @property
    def total(self) -> Sums:
        """Of all folds at the first candidate, which is what `passes.check` looks at; what is not finite shows in the
        gradient and the moments."""
        return reduce(combine, (part.total._replace(curvature=None) for part in self.parts[0]))

    @total.setter
    def total(self, _: Sums) -> None:
        """What all kernels begin with is not needed."""

    def add_rows(self, rows: Any) -> None:
        fold = self.fold_of(rows)
        # So many that those of a fold nearly fill one sweep of its kernel, and seldom need another.
        step = (len(self.parts[0]) - 1) * self.step * 7 // 8
        if self.room is None or len(self.room) < min(step, len(rows.x)):
            self.room = np.empty((min(step, len(rows.x)), self.p), rows.x.dtype)
        for start in range(0, len(rows.x), step):
            own = fold[start : start + step]
            for f in range(-1, len(self.targets) - 1):
                where = start + np.flatnonzero(own == f)
                if not len(where):
                    continue
                # Into memory that stays in the processor's cache.
                x = np.take(rows.x, where, axis=0, out=self.room[: len(where)], mode="clip")
                y = rows.y[where]
                s, offset = (None if a is None else a[where] for a in (rows.weight, rows.offset))
                for parts in self.parts:
                    parts[f].add(x, y, s, offset)
                weighted = y
                if s is not None:
                    weighted = y * s[:, None]
                self.targets[f, 0] += weighted.sum(axis=0)
                self.targets[f, 1] += np.einsum("nk,nk->k", weighted, y)

    def sums(self) -> FoldSums:  # type: ignore[override]
        return FoldSums(tuple(tuple(part.total for part in parts) for parts in self.parts), self.targets)


class HoldOut(NamedTuple):
    """Asks for each candidate's sums over the rows that are not of its fold, see `HoldOutSums`."""

    assigned: Assigned
    of: np.ndarray  # (m,) each candidate's fold; -2: it sees all rows
    score: Callable | None  # (targets, predictions z) -> (rows, m)

    def make(self, partition: int, query: np.ndarray, loss: Loss, request: Request, dtype: np.dtype, p: int) -> Kernel:
        return HoldOutKernel(self, partition, query, loss, request, dtype, p)


class HoldOutSums(NamedTuple):
    """Each candidate's sums over the rows that are not of its fold, and its loss and score over the others."""

    at_query: Sums
    holdout: np.ndarray  # (2, m)

    def plus(self, other: HoldOutSums) -> HoldOutSums:
        """Return the sums over the rows of both."""
        return HoldOutSums(self.at_query.plus(other.at_query), self.holdout + other.holdout)


class HoldOutKernel(Kernel):
    def __init__(self, how: HoldOut, partition: int, query: np.ndarray, loss: Loss, request: Request, dtype, p: int):
        super().__init__(query, loss, Request(shift=request.shift), dtype, p)
        self.how = how
        self.fold_of = how.assigned.in_partition(partition)
        self.holdout = np.zeros((2, query.shape[2]))

    def add_rows(self, rows: Any) -> None:
        fold = self.fold_of(rows)
        for start in range(0, len(rows.x), self.step):
            some = slice(start, start + self.step)
            s, offset = (None if a is None else a[some] for a in (rows.weight, rows.offset))
            self._add_some(rows.x[some], rows.y[some], s, offset, fold[some])
        if rows.weight is None:
            weight = float(len(rows.x))
        else:
            weight = float(rows.weight.sum())
        self.total = self.total._replace(rows=self.total.rows + len(rows.x), weight=self.total.weight + weight)

    def _add_some(self, block, target, s, offset, fold) -> None:
        if self.classes:
            target = self.loss.indicators(target)  # type: ignore[attr-defined]
        block = self.shifted(block)
        z = self.predicted(block, offset)
        out = fold[:, None] == self.how.of
        if self.how.score is not None:
            score = self.how.score(target[:, :, None], z)
        value, slope = self.loss.value_and_slope(z, target[:, :, None])
        value = value.sum(axis=1)
        if s is not None:
            value = s[:, None] * value
            slope = s[:, None, None] * slope
        left = np.where(out, value, 0.0).sum(axis=0)
        self.holdout[0] += left
        self.total.loss[:] += value.sum(axis=0) - left
        if self.how.score is not None:
            self.holdout[1] += np.where(out, score if s is None else s[:, None] * score, 0.0).sum(axis=0)
        slope[np.broadcast_to(out[:, None], slope.shape)] = 0.0
        self.add_gradient(block, slope)

    def sums(self) -> HoldOutSums:  # type: ignore[override]
        return HoldOutSums(self.total, self.holdout)
