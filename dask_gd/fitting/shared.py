"""The passes that the trials of a search share."""

from __future__ import annotations

import logging
import time
import uuid
from functools import reduce
from typing import Any

import numpy as np

from .. import passes
from ..errors import DataError
from ..events import Callbacks
from ..kernels.base import (
    BOUND,
    EXACT,
    Request,
    Sums,
    combine,
    curvatures,
    expand_class_pairs,
    sums_bytes,
)
from ..kernels.base import candidates as widest
from ..kernels.products import rounding_of
from ..kernels.shift import read_shifted
from ..model.losses import Loss
from ..model.penalties import Penalty
from ..passes import draw_partitions
from ..solvers import Newton, Solver
from ..solvers.objective import about_mean
from ..sources import Source
from ..sources.stamps import Stamps
from ..store.store import Checkpoint, Store, said_of
from .fold_kernels import ByFold, HoldOut
from .folds import Assignment
from .forecast import unit_of
from .grid import Candidate
from .scores import OfRows
from .state import KEEP_AFTER
from .trials import Trial
from .unchanged import Processors

logger = logging.getLogger("dask_gd")

#: Bytes that the trials of one batch may hold on the client; candidates beyond that are tried after these.
BATCH_BYTES = 1 << 30
#: Bytes that the sums of one pass may have; the same goes for candidates beyond that.
SUMS_BYTES = 64 << 20


class Shared:
    """What the trials of a search share: its arguments, and passes that evaluate all of them together."""

    def __init__(
        self,
        source: Source,
        loss: Loss,
        assignment: Assignment,
        score: OfRows | None,
        candidates: list[Candidate],
        solvers: list[Solver],
        max_iter: int,
        tol: float,
        fit_intercept: bool,
        seed: int,
    ):
        # The search's arguments.
        self.source = source
        self.loss = loss
        self.assignment = assignment
        self.score = score
        self.candidates = candidates
        self.solvers = solvers
        self.max_iter = max_iter
        self.tol = tol
        self.fit_intercept = fit_intercept
        self.seed = seed
        self.count = assignment.folds.count
        # What passes evaluate: of a quantile's loss one that is smoothed.
        self.smoothed: Any = loss
        # The run: its name, its listeners and its store.
        self.name = uuid.uuid4().hex[:8]
        self.callbacks = Callbacks()
        self.store: Store | None = None
        self.stamps: Stamps | None = None
        self.stored: tuple[Checkpoint, np.ndarray] | None = None
        self.spec: dict[str, Any] = {}
        self.processors: Processors | None = None
        # Where the trials begin, as parameters of the rows as they are.
        self.start = np.empty(0)
        # Subtracted from the rows: the trials' parameters are those of such rows.
        self.shift: np.ndarray | None = None
        # Sums of the targets and of their squares in each fold, (folds + 1, 2, k).
        self.fold_targets = np.empty((0, 2, 0))
        # Readings so far, whole or not; the same in passes over all rows; and rounds.
        self.passes = 0
        self.passes_taken = 0.0
        self.rounds = 0
        self.round_began = time.perf_counter()

    def committed(self) -> str:
        """Return a sentence on what has been committed, for errors of the cluster."""
        iteration = -1
        if self.rounds or self.stored:
            iteration = self.rounds
        return said_of(self.store, iteration)

    def release(self) -> None:
        """Have the workers drop what they keep."""
        if self.passes > KEEP_AFTER:
            passes.release(self.source, self.name)
        passes.unpersist(self.source)

    @property
    def batched(self) -> bool:
        """Whether each step reads a sample of the partitions, see `SGD`."""
        return any(getattr(solver, "batch", 1.0) < 1.0 for solver in self.solvers)

    def begin(self, start: np.ndarray) -> None:
        """Take the first pass: the sums of each fold at the start, parameters of the rows as they are."""
        self.source = passes.persist(self.source)
        curvature: str | None = EXACT
        if not self.loss.quadratic:
            curvature = _curvature(self.solvers, start)
        request = Request(curvature=curvature, moments=True)

        def read(query: np.ndarray, shift: np.ndarray | None) -> Sums:
            self.shift = shift
            self.folds = self.by_fold(query, request)[0]
            return reduce(combine, self.folds)

        p = self.source.shape[1]
        sums, _ = read_shifted(read, start, None, p, self.source.dtype)
        self.all_rows = about_mean(sums, self.loss, p)
        self.check_folds()

    def batches(self, start: np.ndarray) -> list[list[int]]:
        """Return the candidates in lists that fit in memory together."""
        q, k, _ = start.shape
        n = len(self.candidates)
        # A state has curvatures, or else some vectors.
        numbers = q * k * 40
        if any(isinstance(solver, Newton) for solver in self.solvers):
            numbers = (q * k) ** 2 * 3
        state_bytes = 8 * (self.count + 1) * numbers
        # A first step may try several lengths.
        query_bytes = 8 * q * k * (self.count + 1) * widest(q)
        size = max(1, min(BATCH_BYTES // state_bytes, SUMS_BYTES // query_bytes))
        if size < n:
            logger.warning("%d candidates do not fit in memory together; %d are tried at a time.", n, size)
        return _in_lists(list(range(n)), size)

    def trial(
        self,
        candidate: int,
        fold: int,
        start: np.ndarray,
        weight: float,
        penalty: Penalty | None = None,
    ) -> Trial:
        """Return a new trial, from a start (q, k, 1), on rows of this weight."""
        rounding = rounding_of(self.source.dtype)
        moments = self.all_rows.moments
        assert moments is not None
        solver = self.solvers[candidate]
        return Trial(
            candidate=candidate,
            fold=fold,
            loss=self.smoothed,
            penalty=penalty or self.candidates[candidate].of(weight),
            solver=solver,
            state=solver.init(start, rounding),
            width=self.source.shape[1],
            moments=moments,
            total=self.all_rows.weight,
            weight=weight,
            unit=unit_of(self.source, rounding),
        )

    def evaluate(self, trials: list[Trial]) -> list[tuple[Sums, np.ndarray]]:
        """Return for each trial the sums at its query over the rows that it sees, and loss and score over the others.

        That takes a pass, and another one for curvatures, where trials ask for them.
        """
        # One query of all, over a sample of the partitions where solvers take one.
        queries = [trial.state.query for trial in trials]
        sizes = [query.shape[2] for query in queries]
        query = np.ascontiguousarray(np.concatenate(queries, axis=2))
        fold_of_query = np.repeat([trial.fold for trial in trials], sizes)
        kernel = HoldOut(self.assignment, fold_of_query, self.score)
        partitions = None
        share = 1.0
        if self.batched:
            batch = self.solvers[0].batch  # type: ignore[attr-defined]
            step = len(trials[0].losses)
            partitions = draw_partitions(self.seed, step, batch, self.source.partitions)
            share = len(partitions) / self.source.partitions
        read = self.read(query, Request(kernel=kernel), partitions)

        # Each trial's part of the sums. The rows held out count as if all of them had been read.
        sums = []
        holdouts = []
        edges = np.cumsum([0, *sizes])
        for i, trial in enumerate(trials):
            of_trial = slice(edges[i], edges[i + 1])
            holdouts.append(read.holdout[:, of_trial] / share)
            sums.append(
                Sums(
                    rows=0,
                    weight=trial.weight * share,
                    loss=read.at_query.loss[of_trial],
                    gradient=read.at_query.gradient[:, :, of_trial],
                    curvature=None,
                    moments=None,
                )
            )

        # Another pass for those that ask for a curvature.
        asking = []
        for i, trial in enumerate(trials):
            if trial.solver.request(trial.state).curvature:
                asking.append(i)
        if asking:
            matrices = self._curvatures([trials[i] for i in asking])
            for i, matrix in zip(asking, matrices, strict=True):
                sums[i] = sums[i]._replace(curvature=matrix)
        return list(zip(sums, holdouts, strict=True))

    def _curvatures(self, trials: list[Trial]) -> list[np.ndarray | None]:
        """Return the curvature of each trial over the rows that it sees, of the kind that they ask for."""
        # One point for all folds of a candidate: where the fit to all rows is, or any other that still runs.
        points: dict[int, Trial] = {}
        for trial in reversed(trials):
            points[trial.candidate] = trial
        first = trials[0]
        kind = first.solver.request(first.state).curvature
        request = Request(curvature=kind)
        by_fold: dict[int, list[Sums]] = {}
        for candidates in self.in_memory(list(points), kind):
            queries = [points[c].state.query[:, :, :1] for c in candidates]
            parts = self.by_fold(np.concatenate(queries, axis=2), request)
            by_fold |= zip(candidates, parts, strict=True)
        # A trial's is the sum over the rows that it sees.
        matrices = []
        for trial in trials:
            sums = self.all_but(by_fold[trial.candidate], trial.fold)
            matrices.append(sums.curvature)
        return matrices

    def in_memory(self, candidates: list[int], kind: str | None) -> list[list[int]]:
        """Return the candidates in lists, each of as many as a pass may compute curvatures for."""
        assert self.all_rows.gradient is not None
        q, k, _ = self.all_rows.gradient.shape
        matrices = curvatures(k, self.loss, Request(curvature=kind))
        candidate_bytes = (self.count + 1) * sums_bytes(q, k, 1, matrices)
        size = max(1, SUMS_BYTES // candidate_bytes)
        return _in_lists(candidates, size)

    def by_fold(self, query: np.ndarray, request: Request) -> list[list[Sums]]:
        """Return for each candidate in the query (q, k, m) the sums over each fold, and over the rows in no fold."""
        kernel = ByFold(self.assignment)
        read = self.read(query, request._replace(kernel=kernel))
        self.fold_targets = read.targets
        by_candidate = []
        for parts in read.parts:
            expanded = [expand_class_pairs(part, self.loss, request) for part in parts]
            by_candidate.append(expanded)
        return by_candidate

    def all_but(self, parts: list[Sums], fold: int) -> Sums:
        """Return the sums over all rows but the fold's."""
        others = [part for f, part in enumerate(parts) if f != fold]
        return reduce(combine, others)

    def score_holdout(self, trials: list[Trial]) -> None:
        """Give trials that took no pass their loss and score on the rows held out, which takes a pass."""
        query = np.concatenate([trial.state.weights for trial in trials], axis=2)
        fold_of_query = np.array([trial.fold for trial in trials])
        kernel = HoldOut(self.assignment, fold_of_query, self.score)
        read = self.read(query, Request(kernel=kernel))
        for trial, holdout in zip(trials, read.holdout.T, strict=True):
            trial.holdout = holdout

    def read(
        self,
        query: np.ndarray,
        request: Request,
        partitions: tuple[int, ...] | None = None,
    ) -> Any:
        """Return the sums of one pass, those of the request's kernel."""
        self.passes += 1
        if partitions is None:
            self.passes_taken += 1.0
        else:
            self.passes_taken += len(partitions) / self.source.partitions
        return passes.evaluate(
            self.source,
            query=query,
            loss=self.smoothed,
            request=request._replace(shift=self.shift),
            run=self.name,
            step=self.passes,
            partitions=partitions,
            keep=self.passes > KEEP_AFTER,
        )

    def check_folds(self) -> None:
        """Refuse a fold without rows, and one without which the others cannot be fitted."""
        for fold in range(self.count):
            if not self.folds[fold].weight > 0:
                raise DataError(f"Fold {fold} of {self.count} holds no row with a positive weight; take fewer folds.")
            others = self.all_but(self.folds, fold)
            assert others.moments is not None
            if not others.weight > 0:
                raise DataError(f"Without fold {fold} there is no row with a positive weight left to fit.")
            try:
                self.loss.check_target_mean(others.moments.targets / others.weight)
            except DataError as error:
                raise DataError(f"Without the rows of fold {fold} there is nothing to tell apart: {error}") from error


def _curvature(solvers: list[Solver], start: np.ndarray) -> str | None:
    """Return the kind of curvature that the first pass must compute, or None."""
    kinds = set()
    for solver in solvers:
        state = solver.init(start, 0.0)
        kinds.add(solver.request(state).curvature)
    # The exact one serves in place of a bound.
    for kind in (EXACT, BOUND):
        if kind in kinds:
            return kind
    return None


def _in_lists(candidates: list[int], size: int) -> list[list[int]]:
    """Return the candidates in lists of this size, the last of which may be shorter."""
    return [candidates[i : i + size] for i in range(0, len(candidates), size)]
