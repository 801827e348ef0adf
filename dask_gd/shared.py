"""The passes that the trials of a search share."""

from __future__ import annotations

import logging
import time
import uuid
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np

from . import passes
from .errors import DataError
from .events import Callbacks, RoundEnded, SearchStarted
from .folds import Assigned, ByFold, Unseen, apart
from .grid import Candidate
from .loop import fit
from .losses import Loss
from .objective import Quadratic, about_mean, ridge_path
from .penalties import L1, L2, ElasticNet, Penalty
from .process import one_blas_thread
from .products import rounding_of
from .run import KEEP_AFTER
from .scores import OfRows
from .search_store import check_data, checkpoint, restore, spec_of, stored_start
from .shift import read_shifted, shifted
from .solvers import Newton, Solver
from .sources import Source
from .sources.stamps import Stamps
from .stages import drawn
from .stats import BOUND, EXACT, Needs, Stats, combine, coupled, curvatures, stats_bytes
from .stats import candidates as widest
from .store import Checkpoint, Store, said_of
from .trials import ALL, Trial, halve
from .unchanged import Processors
from .unseen import unit_of

logger = logging.getLogger("dask_gd")

#: What the trials of one batch may hold on the client, and what the sums of one pass may be: candidates beyond that are
#: tried after these.
BATCH_BYTES, SUMS_BYTES = 1 << 30, 64 << 20

#: A strength with which every weight is 0.
ALL_BUT_INFINITE = 1e100


class Shared:
    """The passes that the trials share."""

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
        self.source, self.loss, self.assigned, self.score = source, loss, assigned, score
        # What passes evaluate: of a quantile's loss one that is smoothed.
        self.smoothed: Any = loss
        self.candidates, self.solvers, self.max_iter, self.tol = candidates, solvers, max_iter, tol
        self.count, self.name, self.passes = assigned.folds.count, uuid.uuid4().hex[:8], 0
        self.callbacks = Callbacks()
        self.began = time.perf_counter()
        self.store: Store | None = None
        self.stamps: Stamps | None = None
        self.stored: tuple[Checkpoint, np.ndarray] | None = None
        # Subtracted from the rows: the trials' parameters are those of such rows.
        self.shift: np.ndarray | None = None
        self.asked = np.empty(0)
        self.spec: dict[str, Any] = {}
        self.processors: Processors | None = None
        self.rounds, self.taken = 0, 0.0

    def open(self, store: Store, scoring: str) -> None:
        """Take the store, and what it holds of this search."""
        self.store, self.spec = store, spec_of(self, scoring)
        self.processors = Processors()
        self.stored = stored_start(self, store)

    def committed(self) -> str:
        """Return a sentence on what has been committed, for errors of the cluster."""
        return said_of(self.store, self.rounds if self.rounds or self.stored else -1)

    def release(self) -> None:
        """Have the workers drop what they keep."""
        if self.passes > KEEP_AFTER:
            passes.release(self.source, self.name)
        passes.let_go(self.source)

    def run(self, start: np.ndarray) -> list[Trial]:
        """All trials, from a start (q, k, 1), parameters of the rows as they are, or from where the store has them."""
        if self.stored is not None:
            start = self.stored[1]
        if not self.passes:
            self.begin(start)
        if self.stored is not None:
            check_data(self)
        self.asked, start = start, shifted(start, self.shift)
        free = self.loss.quadratic and not self.batched
        trials = self.without_passes(start) if free else self.with_passes(start)
        if self.batched or (self.score is not None and any(np.isnan(trial.held[1]) for trial in trials)):
            self.score_held(trials)
        self.check_stamps()
        return trials

    def check_stamps(self) -> None:
        """Raise `DataError` if stored data has been overwritten since the search began."""
        if self.stamps is not None:
            self.stamps.check(self.passes, "search", self.store and self.store.path)

    @property
    def batched(self) -> bool:
        """Each step reads some partitions only, see `SGD`."""
        return any(getattr(solver, "batch", 1.0) < 1.0 for solver in self.solvers)

    def begin(self, start: np.ndarray) -> None:
        """The first pass: the sums of each fold at the start, parameters of the rows as they are."""
        self.source = passes.hold(self.source)
        needs = Needs(curvature=EXACT if self.loss.quadratic else _curvature(self.solvers, start), scale=True)

        def read(query: np.ndarray, shift: np.ndarray | None) -> Stats:
            self.shift = shift
            self.folds = self.by_fold(query, needs)[0]
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

            def read(query: np.ndarray, shift: np.ndarray | None) -> Stats:
                needs, step = Needs(scale=True, shift=shift), -1 if shift is None else -2
                return passes.evaluate(self.source, query, self.loss, needs, self.name, step)

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

    def with_passes(self, start: np.ndarray) -> list[Trial]:
        """All trials, those of a batch in passes that they share."""
        trials: list[Trial] = []
        if self.stored is not None:
            trials, self.rounds = restore(self, self.stored[0], start), self.stored[0].iteration
        begun = {trial.candidate for trial in trials}
        for batch in self.batches(start):
            if not begun.issuperset(batch):
                trials += self.begun(batch, start)
                self.end_round(trials)
            while left := [trial for trial in trials if not trial.done]:
                told = self.evaluate(left)
                with one_blas_thread():
                    for trial, sums in zip(left, told, strict=True):
                        trial.tell(sums, self.max_iter, -1.0 if self.batched else self.tol)
                if all(self.candidates[c].learning_rate is not None for c in batch):
                    halve([t for t in trials if t.candidate in batch], [part.weight for part in self.folds])
                self.end_round(trials)
        return trials

    def end_round(self, trials: list[Trial]) -> None:
        self.rounds += 1
        if len(trials) == len(self.candidates) * (self.count + 1) and all(trial.done for trial in trials):
            self.check_stamps()
        if self.store is not None:
            self.store.commit(checkpoint(self, self.asked, trials))
        left = [trial.candidate for trial in trials if not trial.done]
        began, self.began = self.began, time.perf_counter()
        of = len(self.candidates) * (self.count + 1), len(set(left)), self.began - began
        self.callbacks.tell(RoundEnded(self.passes, len(left), *of, self.name))

    def started(self) -> SearchStarted:
        where = None if self.store is None else str(self.store.path)
        n, size = len(self.candidates), (self.source.shape[0], self.source.nbytes)
        of = repr(self.source), repr(self.loss), n, self.count, n * (self.count + 1)
        resumed = None if self.stored is None else self.stored[0].iteration
        return SearchStarted(self.name, *of, *size, where, resumed)

    def begun(self, batch: list[int], start: np.ndarray) -> list[Trial]:
        """The trials of some candidates, after the first pass, which has evaluated the point where all begin."""
        seen = {fold: self.seen(self.folds, fold) for fold in (ALL, *range(self.count))}
        trials = [self.trial(c, fold, start, seen[fold].weight) for c in batch for fold in seen]
        with one_blas_thread():
            for trial in trials if not self.batched else ():
                held = np.array([[0.0], [np.nan]])
                if trial.fold != ALL:
                    held[0] = self.folds[trial.fold].loss
                trial.tell(seen[trial.fold]._replace(held=held), self.max_iter, self.tol)
        return trials

    def without_passes(self, start: np.ndarray) -> list[Trial]:
        """All trials of a squared loss, from each fold's sufficient statistics.

        From the strongest penalty down, each where the one before has ended, if its solver does not depend on where it
        begins; those with L2 alone end where `ridge_path` says, if that is within ``tol``.
        """
        trials: list[Trial] = []
        for fold in (ALL, *range(self.count)):
            with one_blas_thread():
                trials += self.of_statistics(start, fold, self.seen(self.folds, fold))
        return trials

    def of_statistics(self, start: np.ndarray, fold: int, sums: Stats) -> list[Trial]:
        """A fold's trials, from the sums over the other rows at the start."""
        trials, at, p = [], start, self.source.shape[1]
        seen, held = Quadratic(start, sums), None if fold == ALL else Quadratic(start, self.folds[fold])
        penalties = [candidate.of(sums.weight) for candidate in self.candidates]
        strengths = np.array([np.max(penalty.curvature()) for penalty in penalties])
        order = np.argsort([-np.max(penalty.absolute()) for penalty in penalties] - strengths, kind="stable")
        ridge = ridge_path(start, sums, p, strengths)
        there = seen(ridge)
        loss, slope = there.loss / sums.weight, there.gradient / sums.weight
        loss, slope[:p] = loss + 0.5 * strengths * (ridge[:p] ** 2).sum(axis=(0, 1)), slope[:p] + strengths * ridge[:p]
        out = np.full((2, len(strengths)), np.nan)
        out[0] = 0.0 if held is None else held(ridge).loss
        for c in order.tolist():
            begin, searches, one = start, self.solvers[c].searches, slice(c, c + 1)
            plain = isinstance(penalties[c], L2) and not np.ndim(penalties[c].curvature())
            plain = plain and searches and bool(np.isfinite(loss[c]))
            if searches:
                begin = ridge[:, :, one] if plain else at
            trial = self.trial(c, fold, begin, sums.weight, penalties[c])
            trials.append(trial)
            if plain:
                # A single step from the start.
                trial.losses.append(float(sums.loss[0]) / sums.weight)
                trial.held_losses.append(0.0 if fold == ALL else float(self.folds[fold].loss[0]))
            if plain and trial.ends(loss[one], slope[:, :, one], out[:, c], self.tol):
                continue
            while not trial.done:
                query = trial.state.query
                left = np.full((2, query.shape[2]), np.nan)
                left[0] = 0.0 if held is None else held(query).loss
                trial.tell(seen(query)._replace(held=left), self.max_iter, self.tol)
            at = trial.state.weights if np.isfinite(trial.state.weights).all() else at
        return trials

    def trial(
        self, candidate: int, fold: int, start: np.ndarray, weight: float, penalty: Penalty | None = None
    ) -> Trial:
        solver, penalty = self.solvers[candidate], penalty or self.candidates[candidate].of(weight)
        state = solver.init(start, rounding_of(self.source.dtype))
        moments = self.everything.scale
        assert moments is not None
        width = self.source.shape[1]
        of_all = width, moments, self.everything.weight
        unit = unit_of(self.source, rounding_of(self.source.dtype))
        return Trial(candidate, fold, self.smoothed, penalty, solver, state, *of_all, weight, unit)

    def evaluate(self, trials: list[Trial]) -> list[Stats]:
        """The sums at the trials' queries, in a pass; and in another one curvatures, where some are asked for."""
        queries = [trial.state.query for trial in trials]
        sizes = [query.shape[2] for query in queries]
        of = np.repeat([trial.fold for trial in trials], sizes)
        query = np.ascontiguousarray(np.concatenate(queries, axis=2))
        partitions, share = None, 1.0
        if self.batched:
            batch = self.solvers[0].batch  # type: ignore[attr-defined]
            partitions = drawn(self.seed, len(trials[0].losses), batch, self.source.partitions)
            share = len(partitions) / self.source.partitions
        sums = self.read(query, Needs(kernel=Unseen(self.assigned, of, self.score)), partitions)
        assert sums.held is not None
        edges = np.cumsum([0, *sizes])
        found = []
        for i, trial in enumerate(trials):
            own = slice(edges[i], edges[i + 1])
            held = sums.held[:, own] / share
            weight = trial.weight * share
            found.append(Stats(0, weight, sums.loss[own], sums.gradient[:, :, own], None, None, held=held))
        asking = [i for i, trial in enumerate(trials) if trial.solver.needs(trial.state).curvature]
        if not asking:
            return found
        # One point for all folds of a candidate: where the fit to all rows is, or any other that still runs.
        points: dict[int, Trial] = {}
        for i in reversed(asking):
            points[trials[i].candidate] = trials[i]
        kind = trials[asking[0]].solver.needs(trials[asking[0]].state).curvature
        by_fold: dict[int, list[Stats]] = {}
        for some in self.in_memory(list(points), kind):
            query = np.concatenate([points[c].state.query[:, :, :1] for c in some], axis=2)
            by_fold |= zip(some, self.by_fold(query, Needs(curvature=kind)), strict=True)
        for i in asking:
            curvature = self.seen(by_fold[trials[i].candidate], trials[i].fold).curvature
            found[i] = found[i]._replace(curvature=curvature)
        return found

    def in_memory(self, candidates: list[int], kind: str | None) -> list[list[int]]:
        """As many of them together as a pass may compute curvatures for."""
        assert self.everything.gradient is not None
        q, k, _ = self.everything.gradient.shape
        each = (self.count + 1) * stats_bytes(q, k, 1, curvatures(k, self.loss, Needs(curvature=kind)))
        some = max(1, SUMS_BYTES // each)
        return [candidates[i : i + some] for i in range(0, len(candidates), some)]

    def by_fold(self, query: np.ndarray, needs: Needs) -> list[list[Stats]]:
        """For each candidate in the query (q, k, m) the sums over each fold's rows, and over those in none."""
        sums = self.read(query, needs._replace(kernel=ByFold(self.assigned)))
        parts = [coupled(part, self.loss, needs) for part in apart(sums)]
        size = self.count + 1
        return [parts[i : i + size] for i in range(0, len(parts), size)]

    def seen(self, parts: list[Stats], fold: int) -> Stats:
        """The sums over all rows but the fold's."""
        return reduce(combine, [part for f, part in enumerate(parts) if f != fold])

    def score_held(self, trials: list[Trial]) -> None:
        """Scores of trials that took no pass."""
        query = np.concatenate([trial.state.weights for trial in trials], axis=2)
        of = np.array([trial.fold for trial in trials])
        sums = self.read(query, Needs(kernel=Unseen(self.assigned, of, self.score)))
        assert sums.held is not None
        for trial, held in zip(trials, sums.held.T, strict=True):
            trial.held = held

    def read(self, query: np.ndarray, needs: Needs, partitions: tuple[int, ...] | None = None) -> Stats:
        self.passes += 1
        self.taken += 1.0 if partitions is None else len(partitions) / self.source.partitions
        keep = self.passes > KEEP_AFTER
        needs = needs._replace(shift=self.shift)
        return passes.evaluate(self.source, query, self.smoothed, needs, self.name, self.passes, partitions, keep)

    def check_folds(self) -> None:
        """Every fold has rows, and what is left without it can be fitted."""
        for fold in range(self.count):
            if not self.folds[fold].weight > 0:
                raise DataError(f"Fold {fold} of {self.count} holds no row with a positive weight; take fewer folds.")
            seen = self.seen(self.folds, fold)
            assert seen.scale is not None
            if not seen.weight > 0:
                raise DataError(f"Without fold {fold} there is no row with a positive weight left to fit.")
            try:
                self.loss.check_target_mean(seen.scale.targets / seen.weight)
            except DataError as error:
                raise DataError(f"Without the rows of fold {fold} there is nothing to tell apart: {error}") from error


def _curvature(solvers: list[Solver], start: np.ndarray) -> str | None:
    """What the first pass must compute."""
    asked = {s.needs(s.init(start, 0.0)).curvature for s in solvers}
    return EXACT if EXACT in asked else BOUND if BOUND in asked else None
