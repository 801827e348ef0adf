"""The kernels that keep folds apart within a pass.

`ByFold` sums each fold by itself, at points that all folds share. The rows that a fold's fit sees are then all the
others, and one curvature serves all folds, since each row's belongs to exactly one. `HoldOut` has a fold for each
candidate: the fold's rows are not among the candidate's, and their loss and score are summed beside them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from ..kernels.base import Kernel, Part, Request, Sums, combine
from .folds import Assignment


class ByFold(NamedTuple):
    """A request for the sums of each fold apart, and for those of the rows in no fold: see `FoldSums`.

    With several candidates in the query a curvature is computed at each of them.
    """

    assignment: Assignment

    def copies(self, m: int) -> int:
        """Return how many times larger the sums are than those at one candidate, with m candidates."""
        return m * self.assignment.parts

    def make(self, part: Part) -> ByFoldKernel:
        return ByFoldKernel(self, part)


class FoldSums(NamedTuple):
    """The sums of each fold, those of the rows in no fold last, at each candidate of a query."""

    parts: tuple[tuple[Sums, ...], ...]  # [candidate][part]
    targets: np.ndarray  # (parts, 2, k), the sums of the targets and of their squares

    @property
    def at_query(self) -> Sums:
        """The sums of all folds at the first candidate."""
        return reduce(combine, self.parts[0])

    def plus(self, other: FoldSums) -> FoldSums:
        """Return the sums over the rows of both, fold by fold."""
        parts = []
        for mine, theirs in zip(self.parts, other.parts, strict=True):
            pairs = zip(mine, theirs, strict=True)
            parts.append(tuple(a.plus(b) for a, b in pairs))
        return FoldSums(tuple(parts), self.targets + other.targets)


class ByFoldKernel(Kernel):
    """The kernel of `ByFold`: a `Kernel` for each candidate and fold."""

    def __init__(self, spec: ByFold, part: Part):
        self.fold_of = spec.assignment.in_partition(part.partition)
        count = spec.assignment.parts

        # One fold after the other: they can do with the same memory.
        workspace = part.row_format.workspace(part.request.shift)

        def kernels(at: np.ndarray) -> list[Kernel]:
            return [Kernel(part._replace(query=at), workspace) for _ in range(count)]

        _, k, m = part.query.shape
        self.parts = [kernels(part.query[:, :, i, None]) for i in range(m)]
        super().__init__(part._replace(request=Request()))
        self.targets = np.zeros((count, 2, k))
        self.room: Any = None
        self.room_rows = 0

    @property
    def total(self) -> Sums:
        """The sums of all folds at the first candidate, which is what `passes.check` looks at.

        They are without the curvature: what is not finite shows in the gradient and the moments.
        """
        sums = [part.total._replace(curvature=None) for part in self.parts[0]]
        return reduce(combine, sums)

    @total.setter
    def total(self, _: Sums) -> None:
        """Ignore the sums that all kernels begin with, which are not needed."""

    def add_rows(self, rows: Any) -> None:
        fold = self.fold_of(rows)
        n = len(rows.y)
        # So many that those of a fold nearly fill one sweep of its kernel, and seldom need another.
        folds = len(self.parts[0]) - 1
        step = folds * self.step * 7 // 8
        # Room for the rows of a fold, which may be all rows of a step.
        most = min(step, n)
        if self.room_rows < most:
            self.room = self.row_format.room(most)
            self.room_rows = most
        # -1 is the last of all: the rows in no fold.
        for start in range(0, n, step):
            of_step = fold[start : start + step]
            for f in range(-1, len(self.targets) - 1):
                where = start + np.flatnonzero(of_step == f)
                if len(where):
                    self._add_fold(f, rows, where)

    def _add_fold(self, f: int, rows: Any, where: np.ndarray) -> None:
        """Add rows of a fold, those at the positions ``where``."""
        # Into memory that stays in the processor's cache.
        x = self.row_format.take(rows.x, where, self.room)
        y = rows.y[where]
        weight = _at(rows.weight, where)
        offset = _at(rows.offset, where)
        for parts in self.parts:
            parts[f].add(x, y, weight, offset)
        # For R^2: the spread of a fold's targets.
        weighted = y
        if weight is not None:
            weighted = y * weight[:, None]
        self.targets[f, 0] += weighted.sum(axis=0)
        self.targets[f, 1] += np.einsum("nk,nk->k", weighted, y)

    def sums(self) -> FoldSums:  # type: ignore[override]
        by_candidate = []
        for parts in self.parts:
            by_candidate.append(tuple(part.sums() for part in parts))
        return FoldSums(tuple(by_candidate), self.targets)


class HoldOut(NamedTuple):
    """A request for each candidate's sums over the rows that are not of its fold, see `HoldOutSums`."""

    assignment: Assignment
    of: np.ndarray  # (m,) each candidate's fold; -2: it sees all rows
    score: Callable | None  # (targets, predictions z) -> (rows, m)

    def make(self, part: Part) -> Kernel:
        return HoldOutKernel(self, part)


class HoldOutSums(NamedTuple):
    """Each candidate's sums over the rows that are not of its fold, and its loss and score over the others."""

    at_query: Sums
    holdout: np.ndarray  # (2, m)

    def plus(self, other: HoldOutSums) -> HoldOutSums:
        """Return the sums over the rows of both."""
        return HoldOutSums(
            at_query=self.at_query.plus(other.at_query),
            holdout=self.holdout + other.holdout,
        )


class HoldOutKernel(Kernel):
    """The kernel of `HoldOut`."""

    def __init__(self, spec: HoldOut, part: Part):
        super().__init__(part._replace(request=Request(shift=part.request.shift)))
        self.spec = spec
        self.fold_of = spec.assignment.in_partition(part.partition)
        self.holdout = np.zeros((2, part.query.shape[2]))

    def add_rows(self, rows: Any) -> None:
        fold = self.fold_of(rows)
        n = len(rows.y)
        for start in range(0, n, self.step):
            part = slice(start, start + self.step)
            self._add_part(
                self.row_format.take(rows.x, part),
                target=rows.y[part],
                weight=_at(rows.weight, part),
                offset=_at(rows.offset, part),
                fold=fold[part],
            )
        # Rows and weight are those of all rows: each candidate knows the weight of its own.
        if rows.weight is None:
            weight = float(n)
        else:
            weight = float(rows.weight.sum())
        self.total = self.total._replace(
            rows=self.total.rows + n,
            weight=self.total.weight + weight,
        )

    def _add_part(self, x, target, weight, offset, fold) -> None:
        """Add rows that a sweep of the kernel takes at once."""
        if self.classes:
            target = self.loss.indicators(target)  # type: ignore[attr-defined]
        target = target[:, :, None]
        held_out = fold[:, None] == self.spec.of
        # Rows in neither side of a split are seen by fits to all rows only.
        unseen = held_out
        if self.spec.assignment.column == "splits":
            in_neither = fold == self.spec.assignment.folds.count
            unseen = held_out | (in_neither[:, None] & (self.spec.of >= 0))

        # Score and loss of each row at each candidate.
        block = self.workspace.block(x)
        z = self.predicted(block, offset)
        if self.spec.score is not None:
            score = self.spec.score(target, z)
        value, slope = self.loss.value_and_slope(z, target)
        value = value.sum(axis=1)
        if weight is not None:
            value = weight[:, None] * value
            slope = weight[:, None, None] * slope

        # The loss of a row is a candidate's either on the rows held out or on the others.
        holdout_loss = np.where(held_out, value, 0.0).sum(axis=0)
        self.holdout[0] += holdout_loss
        seen_loss = value.sum(axis=0) - holdout_loss
        if unseen is not held_out or not np.isfinite(holdout_loss).all():
            # What has overflowed cannot be taken away again.
            seen_loss = np.where(unseen, 0.0, value).sum(axis=0)
        self.total.loss[:] += seen_loss
        if self.spec.score is not None:
            if weight is not None:
                score = weight[:, None] * score
            self.holdout[1] += np.where(held_out, score, 0.0).sum(axis=0)

        # Rows held out are no part of the gradient.
        slope[np.broadcast_to(unseen[:, None], slope.shape)] = 0.0
        self.add_gradient(block, slope)

    def sums(self) -> HoldOutSums:  # type: ignore[override]
        return HoldOutSums(self.total, self.holdout)


def _at(values: np.ndarray | None, rows: np.ndarray | slice) -> np.ndarray | None:
    """Return the values of some rows, or None where there are none."""
    if values is None:
        return None
    return values[rows]
