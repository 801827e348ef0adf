"""The kernels that sum over the rows held out alone, after the fits: loss and score, or summaries of predictions."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..kernels.base import Kernel, Part, Request, Sums, take
from .fold_kernels import FoldRows, HoldOut, over_outputs, weighted_sum
from .folds import Assignment
from .score_summaries import Summary

#: Bytes of the predictions that a task has at a time.
AT_ONCE_BYTES = 16 << 20


class HoldOutOnly(NamedTuple):
    """A request for the loss and the score of each candidate over the rows of its fold, and no others.

    A row is predicted for the candidates of its own fold alone, so that the sums cost little more than the reading.
    """

    held_out: HoldOut

    def make(self, part: Part) -> HoldOutOnlyKernel:
        return HoldOutOnlyKernel(self.held_out, part)


class HoldOutOnlySums(NamedTuple):
    """Rows and weight of all rows, and each candidate's loss and score over the rows of its fold."""

    at_query: Sums
    holdout: np.ndarray  # (2, m)

    def plus(self, other: HoldOutOnlySums) -> HoldOutOnlySums:
        """Return the sums over the rows of both."""
        return HoldOutOnlySums(
            at_query=self.at_query.plus(other.at_query),
            holdout=self.holdout + other.holdout,
        )


class HoldOutOnlyKernel(Kernel):
    """The kernel of `HoldOutOnly`."""

    def __init__(self, spec: HoldOut, part: Part):
        super().__init__(part._replace(request=Request(shift=part.request.shift)))
        self.spec = spec
        self.fold_of = spec.assignment.in_partition(part.partition)
        count = spec.assignment.folds.count
        self.holdout = np.zeros((2, part.query.shape[2]))
        self.taken = FoldRows(part.row_format, count, self.step)
        # A kernel for each fold multiplies by the weights of its candidates. There is no gradient.
        self.of_fold: list[Kernel] = []
        for fold in range(count):
            query = np.ascontiguousarray(part.query[:, :, spec.candidates_of(fold)])
            self.of_fold.append(Kernel(part._replace(query=query, request=self.request), self.workspace))
        self.begin_sums(part.query[:1, :1, :1])

    def add_rows(self, rows: Any) -> None:
        for f, x, where in self.taken.by_fold(rows, self.fold_of(rows)):
            held_out = self.spec.candidates_of(f)
            if held_out.start < held_out.stop:
                self._add_part(
                    f,
                    x,
                    target=rows.y[where],
                    weight=take(rows.weight, where),
                    offset=take(rows.offset, where),
                )
        self.total = self.total._replace(rows=self.total.rows + len(rows.y))

    def _add_part(self, fold, x, target, weight, offset) -> None:
        """Add rows of a fold that a sweep of the kernel takes at once."""
        if self.classes:
            target = self.loss.indicators(target)  # type: ignore[attr-defined]
        target = target[:, :, None]
        held_out = self.spec.candidates_of(fold)
        z = self.of_fold[fold].predicted(self.workspace.block(x), offset)
        value, _ = self.loss.value_and_slope(z, target)
        self.holdout[0, held_out] += weighted_sum(over_outputs(value), weight)
        if self.spec.score is not None:
            self.holdout[1, held_out] += weighted_sum(self.spec.score(target, z), weight)

    def sums(self) -> HoldOutOnlySums:  # type: ignore[override]
        return HoldOutOnlySums(self.total, self.holdout)


class Summarise(NamedTuple):
    """A request for each candidate's summary over the rows of its fold."""

    assignment: Assignment
    of: np.ndarray  # (m,) each candidate's fold
    summary: Summary
    #: How many times larger the sums are than those at the query.
    times: int = 1

    def copies(self, m: int) -> int:
        """Return how many times larger the sums are than those at the query."""
        return self.times

    def make(self, part: Part) -> SummariseKernel:
        return SummariseKernel(self, part)


class SummarySums(NamedTuple):
    """The weight of all rows, and each candidate's summary."""

    at_query: Sums
    summaries: tuple[Any, ...]

    def plus(self, other: SummarySums) -> SummarySums:
        """Return the sums over the rows of both."""
        pairs = zip(self.summaries, other.summaries, strict=True)
        return SummarySums(
            at_query=self.at_query.plus(other.at_query),
            summaries=tuple(mine.plus(theirs) for mine, theirs in pairs),
        )


class SummariseKernel(Kernel):
    """The kernel of `Summarise`."""

    def __init__(self, spec: Summarise, part: Part):
        super().__init__(part._replace(request=Request(shift=part.request.shift)))
        # There is no gradient.
        self.begin_sums(part.query[:1, :1, :1])
        self.spec = spec
        self.fold_of = spec.assignment.in_partition(part.partition)
        self.summaries = [spec.summary.begin() for _ in spec.of]

    def add_rows(self, rows: Any) -> None:
        fold = self.fold_of(rows)
        weight = rows.others.get("score_weight", rows.weight)
        n = len(rows.y)
        # As many blocks of the kernel together as their predictions have room for.
        _, k, m = self.query.shape
        blocks = max(1, AT_ONCE_BYTES // (8 * k * m * self.step))
        size = blocks * self.step
        for start in range(0, n, size):
            together = range(start, min(start + size, n), self.step)
            z = np.concatenate([self._predictions(rows, first) for first in together])
            part = slice(start, start + size)
            self._summarise(rows.y[part], z, take(weight, part), fold[part])
        self.total = self.total._replace(rows=self.total.rows + n)

    def _predictions(self, rows: Any, first: int) -> np.ndarray:
        """Return the predictions (rows, k, m) of a block of rows, from the first on."""
        of_block = slice(first, first + self.step)
        block = self.workspace.block(self.row_format.take(rows.x, of_block))
        return self.predicted(block, take(rows.offset, of_block))

    def _summarise(self, y: np.ndarray, z: np.ndarray, weight: np.ndarray | None, fold: np.ndarray) -> None:
        """Add rows to the summaries of the candidates whose fold has them."""
        for f in np.unique(self.spec.of):
            where = np.flatnonzero(fold == f)
            if not len(where):
                continue
            of_fold = None
            if weight is not None:
                of_fold = weight[where]
            for i in np.flatnonzero(self.spec.of == f):
                self.summaries[i] = self.spec.summary.add(
                    self.summaries[i],
                    y=y[where],
                    z=z[where, :, i],
                    weight=of_fold,
                )

    def sums(self) -> SummarySums:  # type: ignore[override]
        return SummarySums(self.total, tuple(self.summaries))
