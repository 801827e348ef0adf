"""The kernel that adds up summaries of the rows held out, after the fits: see `score_summaries`."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..kernels.base import Kernel, Part, Request, Sums, take
from .folds import Assignment
from .score_summaries import Summary

#: Bytes of the predictions that a task has at a time.
AT_ONCE_BYTES = 16 << 20


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
