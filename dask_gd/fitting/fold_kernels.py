"""The kernels that keep folds apart within a pass.

`ByFold` sums each fold by itself, at points that all folds share. The rows that a fold's fit sees are then all the
others, and one curvature serves all folds, since each row's belongs to exactly one. `HoldOut` has a fold for each
candidate: the fold's rows are not among the candidate's, and their loss and score are summed beside them.

Both take the rows of a fold together: what each candidate sees of them is then a matter of whole columns, and the
gradient of the rows held out comes with that of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from ..kernels.base import Kernel, Part, Request, Sums, combine, take
from ..kernels.block import RowFormat
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
        self.taken = FoldRows(part.row_format, spec.assignment.folds.count, self.step)

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
        for f, x, where in self.taken.by_fold(rows, self.fold_of(rows)):
            self._add_fold(f, rows, x, where)

    def _add_fold(self, f: int, rows: Any, x: Any, where: np.ndarray) -> None:
        """Add rows x of a fold, those at the positions ``where``."""
        y = rows.y[where]
        weight = take(rows.weight, where)
        offset = take(rows.offset, where)
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


class FoldRows:
    """Takes the rows of each fold together, into memory that stays in the processor's cache.

    ``sweep`` is the number of rows that a kernel takes at once.
    """

    def __init__(self, row_format: RowFormat, folds: int, sweep: int):
        self.row_format = row_format
        self.folds = folds
        self.sweep = sweep
        self.room: Any = None
        self.room_rows = 0

    def by_fold(self, rows: Any, fold: np.ndarray) -> Iterator[tuple[int, Any, np.ndarray]]:
        """Return a fold, rows of it, valid until the next, and their positions, until all rows have been taken.

        Of rows in no fold it is -1; of splits there is one more.
        """
        n = len(rows.y)
        most = min(self.sweep, n)
        if self.room_rows < most:
            self.room = self.row_format.room(most)
            self.room_rows = most
        # So many that those of a fold nearly fill one sweep, and seldom need another.
        step = self.folds * self.sweep * 7 // 8
        for start in range(0, n, step):
            of_step = fold[start : start + step]
            for f in range(-1, self.folds + 1):
                of_fold = start + np.flatnonzero(of_step == f)
                for first in range(0, len(of_fold), self.sweep):
                    where = of_fold[first : first + self.sweep]
                    yield f, self.row_format.take(rows.x, where, self.room), where


class HoldOut(NamedTuple):
    """A request for each candidate's sums over the rows that are not of its fold, see `HoldOutSums`."""

    assignment: Assignment
    of: np.ndarray  # (m,) each candidate's fold, which rise; -2: it sees all rows
    score: Callable | None  # (targets, predictions z) -> (rows, m)
    has_slopes: bool = False  # the gradient of the loss held out is of interest

    def make(self, part: Part) -> Kernel:
        return HoldOutKernel(self, part)

    def candidates_of(self, fold: int) -> slice:
        """Return the candidates of a fold, which are neighbours."""
        if fold < 0:
            return slice(0, 0)
        first, after = np.searchsorted(self.of, [fold, fold + 1]).tolist()
        return slice(first, after)

    def candidates_unseeing(self, fold: int) -> slice:
        """Return the candidates that do not see the rows of a fold."""
        if fold == self.assignment.folds.count:
            # Rows in neither side of a split are seen by fits to all rows only.
            return slice(int(np.searchsorted(self.of, 0)), None)
        return self.candidates_of(fold)

    def copies(self, m: int) -> int:
        """Return how many times larger the sums are than those at the query."""
        return 1 + self.has_slopes


class HoldOutSums(NamedTuple):
    """Each candidate's sums over the rows that are not of its fold, and its loss and score over the others."""

    at_query: Sums
    holdout: np.ndarray  # (2, m)
    slopes: np.ndarray | None  # (q, k, m) the gradient of that loss, if it was asked for

    def plus(self, other: HoldOutSums) -> HoldOutSums:
        """Return the sums over the rows of both."""
        slopes = None
        if self.slopes is not None and other.slopes is not None:
            slopes = self.slopes + other.slopes
        return HoldOutSums(
            at_query=self.at_query.plus(other.at_query),
            holdout=self.holdout + other.holdout,
            slopes=slopes,
        )


class HoldOutKernel(Kernel):
    """The kernel of `HoldOut`."""

    def __init__(self, spec: HoldOut, part: Part):
        super().__init__(part._replace(request=Request(shift=part.request.shift)))
        self.spec = spec
        self.fold_of = spec.assignment.in_partition(part.partition)
        count = spec.assignment.folds.count
        self.taken = FoldRows(part.row_format, count, self.step)
        q, k, m = part.query.shape
        self.holdout = np.zeros((2, m))
        # Those of each fold's candidates, in one piece.
        self.slopes: list[np.ndarray] = []
        if spec.has_slopes:
            for fold in range(count):
                self.slopes.append(np.zeros((q, k, len(spec.of[spec.candidates_of(fold)]))))

    def add_rows(self, rows: Any) -> None:
        for f, x, where in self.taken.by_fold(rows, self.fold_of(rows)):
            self._add_part(
                f,
                x,
                target=rows.y[where],
                weight=take(rows.weight, where),
                offset=take(rows.offset, where),
            )
        # Rows and weight are those of all rows: each candidate knows the weight of its own.
        n = len(rows.y)
        weight = float(n)
        if rows.weight is not None:
            weight = float(rows.weight.sum())
        self.total = self.total._replace(
            rows=self.total.rows + n,
            weight=self.total.weight + weight,
        )

    def _add_part(self, fold, x, target, weight, offset) -> None:
        """Add rows of a fold that a sweep of the kernel takes at once."""
        if self.classes:
            target = self.loss.indicators(target)  # type: ignore[attr-defined]
        target = target[:, :, None]

        # The loss of each row at every candidate, and its score at those whose fold it is of.
        block = self.workspace.block(x)
        z = self.predicted(block, offset)
        held_out = self.spec.candidates_of(fold)
        is_held_out = held_out.start < held_out.stop
        if self.spec.score is not None and is_held_out:
            score = self.spec.score(target, z[:, :, held_out])
            self.holdout[1, held_out] += weighted_sum(score, weight)
        value, slope = self.loss.value_and_slope(z, target)
        if weight is not None:
            slope = weight[:, None, None] * slope

        # It is a candidate's either on the rows held out or on the others: what overflows there shows here in neither.
        loss = weighted_sum(over_outputs(value), weight)
        self.holdout[0, held_out] += loss[held_out]
        if self.slopes and is_held_out:
            self.add_gradient(block, np.ascontiguousarray(slope[:, :, held_out]), into=self.slopes[fold])
        unseeing = self.spec.candidates_unseeing(fold)
        loss[unseeing] = 0.0
        slope[:, :, unseeing] = 0.0
        self.total.loss[:] += loss
        self.add_gradient(block, slope)

    def sums(self) -> HoldOutSums:  # type: ignore[override]
        slopes = None
        if self.slopes:
            slopes = np.zeros_like(self.total.gradient)
            for fold, of_fold in enumerate(self.slopes):
                slopes[:, :, self.spec.candidates_of(fold)] = of_fold
        return HoldOutSums(self.total, self.holdout, slopes)


def weighted_sum(values: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """Return the sum over rows of values (n, m), with their weights (n,), if they have any."""
    if weight is None:
        return values.sum(axis=0)
    return weight @ values


def over_outputs(values: np.ndarray) -> np.ndarray:
    """Return the sums over outputs of values (n, k, m), (n, m)."""
    # A sum of single values takes as long as one of many.
    if values.shape[1] == 1:
        return values[:, 0]
    return values.sum(axis=1)
