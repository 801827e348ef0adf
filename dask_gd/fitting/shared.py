"""The passes that the trials of a search share."""

from __future__ import annotations

import logging
import time
import uuid
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np

from .. import passes
from ..errors import DataError
from ..events import Callbacks
from ..kernels.base import BOUND, EXACT, Request, Sums, combine, curvatures, expand_class_pairs, sums_bytes
from ..kernels.base import candidates as widest
from ..kernels.products import rounding_of
from ..kernels.shift import read_shifted, shifted
from ..model.losses import Loss
from ..model.penalties import L1, ElasticNet, Penalty
from ..passes import draw_partitions
from ..solvers import Newton, Solver
from ..solvers.objective import Quadratic, about_mean
from ..sources import Source
from ..sources.stamps import Stamps
from ..store.store import Checkpoint, Store, said_of
from .fit import fit
from .folds import Assigned, ByFold, HoldOut
from .forecast import unit_of
from .grid import Candidate
from .scores import OfRows
from .state import KEEP_AFTER
from .trials import Trial
from .unchanged import Processors

logger = logging.getLogger("dask_gd")

#: What the trials of one batch may hold on the client, and what the sums of one pass may be: candidates beyond that are
#: tried after these.
BATCH_BYTES, SUMS_BYTES = 1 << 30, 64 << 20

#: A strength with which every weight is 0.
ALL_BUT_INFINITE = 1e100


class Shared:
    """What the trials of a search share: its arguments, and passes that evaluate all of them together."""

    def __init__(
        self,
        source: Source,
        loss: Loss,
        assigned: Assigned,
        score: OfRows | None,
        candidates: list[Candidate],
        solvers: list[Solver],
        max_iter: int,
        tol: float,
        fit_intercept: bool,
        seed: int,
    ):
        self.seed = seed
        self.fit_intercept = fit_intercept
        self.source = source
        self.loss = loss
        self.assigned = assigned
        self.score = score
        # What passes evaluate: of a quantile's loss one that is smoothed.
        self.smoothed: Any = loss
        self.candidates = candidates
        self.solvers = solvers
        self.max_iter = max_iter
        self.tol = tol
        self.count = assigned.folds.count
        self.name = uuid.uuid4().hex[:8]
        self.passes = 0
        self.callbacks = Callbacks()
        self.began = time.perf_counter()
        self.store: Store | None = None
        self.stamps: Stamps | None = None
        self.stored: tuple[Checkpoint, np.ndarray] | None = None
        # Subtracted from the rows: the trials' parameters are those of such rows.
        self.shift: np.ndarray | None = None
        # Sums of the targets and of their squares in each fold, (folds + 1, 2, k).
        self.fold_targets = np.empty((0, 2, 0))
        self.asked = np.empty(0)
        self.spec: dict[str, Any] = {}
        self.processors: Processors | None = None
        self.rounds = 0
        self.taken = 0.0

    def committed(self) -> str:
        """Return a sentence on what has been committed, for errors of the cluster."""
        return said_of(self.store, self.rounds if self.rounds or self.stored else -1)

    def release(self) -> None:
        """Have the workers drop what they keep."""
        if self.passes > KEEP_AFTER:
            passes.release(self.source, self.name)
        passes.unpersist(self.source)

    @property
    def batched(self) -> bool:
        """Each step reads some partitions only, see `SGD`."""
        return any(getattr(solver, "batch", 1.0) < 1.0 for solver in self.solvers)

    def begin(self, start: np.ndarray) -> None:
        """The first pass: the sums of each fold at the start, parameters of the rows as they are."""
        self.source = passes.persist(self.source)
        request = Request(curvature=EXACT if self.loss.quadratic else _curvature(self.solvers, start), moments=True)

        def read(query: np.ndarray, shift: np.ndarray | None) -> Sums:
            self.shift = shift
            self.folds = self.by_fold(query, request)[0]
            return reduce(combine, self.folds)

        p = self.source.shape[1]
        found, _ = read_shifted(read, start, None, p, self.source.dtype)
        self.everything = about_mean(found, self.loss, p)
        self.check_folds()

    def scale_path(self, start: np.ndarray) -> None:
        """Multiply the alphas with the least that makes every weight 0: the largest slope of the mean loss by a weight,
        where all are 0 and the intercept is the best, over l1_ratio (Friedman, Hastie and Tibshirani, 2010,
        "Regularization paths for generalized linear models via coordinate descent", section 2.5).
        """
        p = self.source.shape[1]
        nothing = np.zeros_like(start)
        if self.loss.quadratic:
            self.begin(start)
            sums = Quadratic(shifted(start, self.shift), self.everything)(nothing)
            assert sums.curvature is not None
            h = sums.curvature[:, :, 0]
            slope = sums.gradient[:p, :, 0] - h[:p, p:] @ (sums.gradient[p:, :, 0] / h[p:, p:].reshape(-1, 1))
        else:
            without = L1(ALL_BUT_INFINITE)
            run = fit(self.source, loss=self.loss, penalty=without, fit_intercept=self.fit_intercept, tol=self.tol)
            nothing[p:] = run.parameters[p : len(start), :, None]

            def read(query: np.ndarray, shift: np.ndarray | None) -> Sums:
                request = Request(moments=True, shift=shift)
                step = -1 if shift is None else -2
                return passes.evaluate(self.source, query, self.loss, request, self.name, step)

            sums, _ = read_shifted(read, nothing, None, p, self.source.dtype)
            slope = sums.gradient[:p, :, 0]
        top = float(np.abs(slope).max() / sums.weight)

        def scaled(candidate: Candidate) -> Candidate:
            assert candidate.alpha is not None
            assert candidate.l1_ratio is not None
            alpha = candidate.alpha * top / candidate.l1_ratio
            return replace(candidate, alpha=alpha, penalty=ElasticNet(alpha, candidate.l1_ratio))

        self.candidates = [scaled(candidate) for candidate in self.candidates]

    def batches(self, start: np.ndarray) -> list[list[int]]:
        """Candidates that fit in memory together."""
        q, k, _ = start.shape
        newton = any(isinstance(s, Newton) for s in self.solvers)
        each = 8 * (self.count + 1) * ((q * k) ** 2 * 3 if newton else q * k * 40)
        # A first step may try several lengths.
        sums = 8 * q * k * (self.count + 1) * widest(q)
        some = max(1, min(BATCH_BYTES // each, SUMS_BYTES // sums))
        n = len(self.candidates)
        if some < n:
            logger.warning("%d candidates do not fit in memory together; %d are tried at a time.", n, some)
        return [list(range(i, min(i + some, n))) for i in range(0, n, some)]

    def trial(
        self, candidate: int, fold: int, start: np.ndarray, weight: float, penalty: Penalty | None = None
    ) -> Trial:
        solver = self.solvers[candidate]
        penalty = penalty or self.candidates[candidate].of(weight)
        state = solver.init(start, rounding_of(self.source.dtype))
        moments = self.everything.moments
        assert moments is not None
        width = self.source.shape[1]
        of_all = width, moments, self.everything.weight
        unit = unit_of(self.source, rounding_of(self.source.dtype))
        return Trial(candidate, fold, self.smoothed, penalty, solver, state, *of_all, weight, unit)

    def evaluate(self, trials: list[Trial]) -> list[tuple[Sums, np.ndarray]]:
        """Return for each trial the sums at its query over the rows that it sees, and loss and score over the others.

        That takes a pass, and another one for curvatures, where trials ask for some.
        """
        queries = [trial.state.query for trial in trials]
        sizes = [query.shape[2] for query in queries]
        of = np.repeat([trial.fold for trial in trials], sizes)
        query = np.ascontiguousarray(np.concatenate(queries, axis=2))
        partitions = None
        share = 1.0
        if self.batched:
            batch = self.solvers[0].batch  # type: ignore[attr-defined]
            partitions = draw_partitions(self.seed, len(trials[0].losses), batch, self.source.partitions)
            share = len(partitions) / self.source.partitions
        read = self.read(query, Request(kernel=HoldOut(self.assigned, of, self.score)), partitions)
        sums = read.at_query
        edges = np.cumsum([0, *sizes])
        found = []
        holdouts = []
        for i, trial in enumerate(trials):
            own = slice(edges[i], edges[i + 1])
            holdouts.append(read.holdout[:, own] / share)
            found.append(
                Sums(
                    rows=0,
                    weight=trial.weight * share,
                    loss=sums.loss[own],
                    gradient=sums.gradient[:, :, own],
                    curvature=None,
                    moments=None,
                )
            )
        asking = [i for i, trial in enumerate(trials) if trial.solver.request(trial.state).curvature]
        if not asking:
            return list(zip(found, holdouts, strict=True))
        # One point for all folds of a candidate: where the fit to all rows is, or any other that still runs.
        points: dict[int, Trial] = {}
        for i in reversed(asking):
            points[trials[i].candidate] = trials[i]
        kind = trials[asking[0]].solver.request(trials[asking[0]].state).curvature
        by_fold: dict[int, list[Sums]] = {}
        for some in self.in_memory(list(points), kind):
            query = np.concatenate([points[c].state.query[:, :, :1] for c in some], axis=2)
            by_fold |= zip(some, self.by_fold(query, Request(curvature=kind)), strict=True)
        for i in asking:
            curvature = self.seen(by_fold[trials[i].candidate], trials[i].fold).curvature
            found[i] = found[i]._replace(curvature=curvature)
        return list(zip(found, holdouts, strict=True))

    def in_memory(self, candidates: list[int], kind: str | None) -> list[list[int]]:
        """As many of them together as a pass may compute curvatures for."""
        assert self.everything.gradient is not None
        q, k, _ = self.everything.gradient.shape
        each = (self.count + 1) * sums_bytes(q, k, 1, curvatures(k, self.loss, Request(curvature=kind)))
        some = max(1, SUMS_BYTES // each)
        return [candidates[i : i + some] for i in range(0, len(candidates), some)]

    def by_fold(self, query: np.ndarray, request: Request) -> list[list[Sums]]:
        """For each candidate in the query (q, k, m) the sums over each fold's rows, and over those in none."""
        read = self.read(query, request._replace(kernel=ByFold(self.assigned)))
        self.fold_targets = read.targets
        return [[expand_class_pairs(part, self.loss, request) for part in parts] for parts in read.parts]

    def seen(self, parts: list[Sums], fold: int) -> Sums:
        """The sums over all rows but the fold's."""
        return reduce(combine, [part for f, part in enumerate(parts) if f != fold])

    def score_held(self, trials: list[Trial]) -> None:
        """Scores of trials that took no pass."""
        query = np.concatenate([trial.state.weights for trial in trials], axis=2)
        of = np.array([trial.fold for trial in trials])
        read = self.read(query, Request(kernel=HoldOut(self.assigned, of, self.score)))
        for trial, holdout in zip(trials, read.holdout.T, strict=True):
            trial.holdout = holdout

    def read(self, query: np.ndarray, request: Request, partitions: tuple[int, ...] | None = None) -> Any:
        """Return the sums of one pass, those of the request's kernel."""
        self.passes += 1
        if partitions is None:
            self.taken += 1.0
        else:
            self.taken += len(partitions) / self.source.partitions
        keep = self.passes > KEEP_AFTER
        request = request._replace(shift=self.shift)
        return passes.evaluate(self.source, query, self.smoothed, request, self.name, self.passes, partitions, keep)

    def check_folds(self) -> None:
        """Every fold has rows, and what is left without it can be fitted."""
        for fold in range(self.count):
            if not self.folds[fold].weight > 0:
                raise DataError(f"Fold {fold} of {self.count} holds no row with a positive weight; take fewer folds.")
            seen = self.seen(self.folds, fold)
            assert seen.moments is not None
            if not seen.weight > 0:
                raise DataError(f"Without fold {fold} there is no row with a positive weight left to fit.")
            try:
                self.loss.check_target_mean(seen.moments.targets / seen.weight)
            except DataError as error:
                raise DataError(f"Without the rows of fold {fold} there is nothing to tell apart: {error}") from error


def _curvature(solvers: list[Solver], start: np.ndarray) -> str | None:
    """What the first pass must compute."""
    asked = {s.request(s.init(start, 0.0)).curvature for s in solvers}
    if EXACT in asked:
        return EXACT
    return BOUND if BOUND in asked else None
