"""Weights in blocks on all rows but a fold's: rows held out have a weight of 0, and predictions of their own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
from dask import delayed
from distributed import Client

from ..model.losses import Loss
from ..sources import Rows, Source
from ..sources.column_grid import ColumnGrid
from ..sources.lazy import column as column_of
from ..sources.lazy import dask_rows
from ..weight_blocks import row_tasks
from ..weight_blocks.handles import Handle
from ..weight_blocks.row_tasks import Totals, Values
from ..weight_blocks.space import BlockSpace
from ..weight_blocks.vector import BlockVector
from .fold_checks import FoldSums
from .fold_track import ALL
from .folds import Assignment, classes_before
from .score_summaries import Summary

# Row tasks.


def folds_of(
    values: Values,
    assignment: Assignment,
    segment: int,
    start: int,
    fold: np.ndarray | None = None,
) -> np.ndarray:
    """Return the folds of the rows of a segment, from ``start`` on, (n,) int; ``fold`` is the column that decides."""
    others = {}
    if fold is not None:
        others["fold"] = np.asarray(fold, float).reshape(-1)
    rows = Rows(x=None, y=values.y, others=others, start=start, row_format=None)  # type: ignore[arg-type]
    return assignment.in_partition(segment)(rows)


def without_fold(values: Values, folds: np.ndarray, assignment: Assignment, fold: int) -> Values:
    """Return the rows with a weight of 0 for those that a fit without the fold does not see."""
    is_unseen = folds == fold
    if assignment.is_unseen(assignment.folds.count, fold):
        is_unseen |= folds == assignment.folds.count
    return _weighted(values, ~is_unseen)


def _weighted(values: Values, is_in: np.ndarray) -> Values:
    """Return the rows with a weight of 0 for those that are not in."""
    weight = 1.0
    if values.weight is not None:
        weight = values.weight  # type: ignore[assignment]
    return values._replace(weight=np.where(is_in, weight, 0.0))


def sums_of_folds(
    values: Values,
    folds: np.ndarray,
    assignment: Assignment,
    loss: Loss,
) -> list[tuple[Totals, Totals]]:
    """Return for each fold the sums of its own rows, and of those that a fit without it sees."""
    found = []
    for fold in range(assignment.folds.count):
        own = _weighted(values, folds == fold)
        others = without_fold(values, folds, assignment, fold)
        found.append((row_tasks.totals(own, loss), row_tasks.totals(others, loss)))
    return found


def summarise(
    values: Values,
    weight: np.ndarray | None,
    folds: np.ndarray,
    fold: int,
    summaries: tuple[Summary, ...],
    intercept: np.ndarray,
    number: int,
    step: float | None,
    z: np.ndarray,
    direction: np.ndarray | None = None,
) -> list[Any]:
    """Return the summaries of the rows of a fold, which have these weights (n,), at predictions as `look` has."""
    where = np.flatnonzero(folds == fold)
    at = z[where, :, number]
    if direction is not None:
        at = at + step * direction[where, :, 0]
    at = at + intercept[:, :, 0]
    if values.offset is not None:
        at = at + values.offset[where, None]
    if weight is not None:
        weight = weight[where]
    with np.errstate(all="ignore"):
        return [summary.add(summary.begin(), y=values.y[where], z=at, weight=weight) for summary in summaries]


class FoldSpace(BlockSpace):
    """The blocks of a search, whose fits go on one after the other, each without the rows of a fold."""

    def __init__(
        self,
        client: Client,
        grid: ColumnGrid,
        source: Source,
        outputs: int,
        fit_intercept: bool,
        run: str,
        assignment: Assignment,
    ):
        super().__init__(client, grid, source, outputs, fit_intercept, run)
        self.assignment = assignment
        #: The fold that the rows are loaded without, and the sums of those that are left.
        self.without: int | None = None
        self.totals: Totals | None = None
        #: Of all rows, by segment.
        self.all_values: list[Handle] = []
        self.all_weights: list[Handle] = []
        self.folds: list[Handle] = []
        self.fold = ALL

    def hold_out(self, fold: int) -> None:
        """Have the rows of another fold held out by the fits from now on; ALL for none."""
        self.fold = fold

    def load_rows(self, loss: Loss) -> Totals:
        """Read what the rows have beside their features, once, and return the sums of those that a fit sees."""
        if not self.all_values:
            self.totals = super().load_rows(loss)
            self.all_values = self.values
            self.all_weights = self.weights
            self.folds = self._load_folds()
            self.without = ALL
        if self.without != self.fold:
            self.values = self.all_values
            if self.fold != ALL:
                self.values = self._of_segments("seen", without_fold, self.folds, self.assignment, self.fold)
            self.weights = self._of_segments("row-weights", row_tasks.weight_of)
            found = self.owners.results(self._of_segments("totals", row_tasks.totals, loss))
            self.totals = reduce(_plus, found)
            self.without = self.fold
        assert self.totals is not None
        return self.totals

    def _load_folds(self) -> list[Handle]:
        """Return handles of the folds of each segment's rows."""
        numbers = list(range(self.segments))
        starts = list(self.grid.segments[:-1])
        column = column_of(self.source, "fold")
        if column is None:
            return self._of_segments("folds", folds_of, self._assignment(), numbers, starts)
        read = []
        for s in numbers:
            task = delayed(np.asarray)(self._rows(column, s), dask_key_name=(self.owners.name("fold-column"), s))
            read.append(self.owners.compute(task, self.owners.of_segment(s)))
        return self._of_segments("folds", folds_of, self.assignment, numbers, starts, read)

    def _assignment(self) -> Assignment:
        """Return the assignment for segments: of folds by class, the rows of each class are counted before these."""
        before = self.assignment.before
        if before is None:
            return self.assignment
        y = dask_rows(column_of(self.source, "y"))
        return self.assignment._replace(before=classes_before(y, self.grid.segments, before.shape[1]))

    def sums_of_folds(self, loss: Loss) -> list[tuple[FoldSums, FoldSums]]:
        """Return for each fold the sums of its own rows, and of those that a fit without it sees."""
        assert self.without == ALL
        by_segment = self.owners.results(
            self._of_segments("folds-sums", sums_of_folds, self.folds, self.assignment, loss)
        )
        found = []
        for of_fold in zip(*by_segment, strict=True):
            own, others = (reduce(_plus, sums) for sums in zip(*of_fold, strict=True))
            found.append((FoldSums(own.weight, own.targets), FoldSums(others.weight, others.targets)))
        return found

    def summaries(self, v: BlockVector, fold: int, summaries: Sequence[Summary]) -> list[Any]:
        """Return the summaries of the rows of a fold at some weights, which are stored."""
        if v.predicted is None:
            v.predicted = self.predict(v)
        predicted = v.predicted
        arguments = [self.all_weights, self.folds, fold, tuple(summary.for_tasks() for summary in summaries)]
        arguments += [v.constant, predicted.number, predicted.step, predicted.pieces]
        if predicted.direction is not None:
            arguments.append(predicted.direction)
        by_segment = self.owners.results(self._of_segments("summaries", summarise, *arguments))
        return [reduce(lambda a, b: a.plus(b), of_summary) for of_summary in zip(*by_segment, strict=True)]


def _plus(a: Totals, b: Totals) -> Totals:
    """Return the sums over the rows of both."""
    return Totals(a.rows + b.rows, a.weight + b.weight, a.targets + b.targets, a.offsets + b.offsets)
