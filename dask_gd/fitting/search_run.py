"""A search's loop: trials take their steps from passes that they share, round by round."""

from __future__ import annotations

import time

import numpy as np

from ..events import RoundEnded, SearchStarted
from ..kernels.base import Sums
from ..kernels.shift import shifted
from ..model.penalties import L2
from ..solvers.objective import Quadratic, ridge_path
from ..store.store import Store
from ..worker_env import one_blas_thread
from .search_checkpoint import check_data, checkpoint, restore, spec_of, stored_start
from .shared import Shared
from .trials import ALL, Trial, halve
from .unchanged import Processors


class SearchRun(Shared):
    """The trials of a search, from their start or where a store has them to their end."""

    def open(self, store: Store, scoring: str) -> None:
        """Take the store, and what it holds of this search."""
        self.store, self.spec = store, spec_of(self, scoring)
        self.processors = Processors()
        self.stored = stored_start(self, store)

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
        if free:
            trials = self.without_passes(start)
        else:
            trials = self.with_passes(start)
        if self.batched or (self.score is not None and any(np.isnan(trial.holdout[1]) for trial in trials)):
            self.score_held(trials)
        self.check_stamps()
        return trials

    def check_stamps(self) -> None:
        """Raise `DataError` if stored data has been overwritten since the search began."""
        if self.stamps is not None:
            self.stamps.check(self.passes, "search", self.store and self.store.path)

    def with_passes(self, start: np.ndarray) -> list[Trial]:
        """All trials, those of a batch in passes that they share."""
        trials: list[Trial] = []
        if self.stored is not None:
            trials = restore(self, self.stored[0], start)
            self.rounds = self.stored[0].iteration
        begun = {trial.candidate for trial in trials}
        for batch in self.batches(start):
            if not begun.issuperset(batch):
                trials += self.begun(batch, start)
                self.end_round(trials)
            while left := [trial for trial in trials if not trial.done]:
                told = self.evaluate(left)
                with one_blas_thread():
                    for trial, (sums, holdout) in zip(left, told, strict=True):
                        trial.tell(sums, holdout, self.max_iter, -1.0 if self.batched else self.tol)
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
        began = self.began
        self.began = time.perf_counter()
        of = len(self.candidates) * (self.count + 1), len(set(left)), self.began - began
        self.callbacks.tell(RoundEnded(self.passes, len(left), *of, self.name))

    def started(self) -> SearchStarted:
        where = None
        if self.store is not None:
            where = str(self.store.path)
        n = len(self.candidates)
        size = (self.source.shape[0], self.source.nbytes)
        of = repr(self.source), repr(self.loss), n, self.count, n * (self.count + 1)
        resumed = None
        if self.stored is not None:
            resumed = self.stored[0].iteration
        return SearchStarted(self.name, *of, *size, where, resumed)

    def begun(self, batch: list[int], start: np.ndarray) -> list[Trial]:
        """The trials of some candidates, after the first pass, which has evaluated the point where all begin."""
        seen = {fold: self.seen(self.folds, fold) for fold in (ALL, *range(self.count))}
        trials = [self.trial(c, fold, start, seen[fold].weight) for c in batch for fold in seen]
        with one_blas_thread():
            for trial in trials if not self.batched else ():
                holdout = np.array([[0.0], [np.nan]])
                if trial.fold != ALL:
                    holdout[0] = self.folds[trial.fold].loss
                trial.tell(seen[trial.fold], holdout, self.max_iter, self.tol)
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

    def of_statistics(self, start: np.ndarray, fold: int, sums: Sums) -> list[Trial]:
        """A fold's trials, from the sums over the other rows at the start."""
        trials = []
        at = start
        p = self.source.shape[1]
        seen = Quadratic(start, sums)
        held = None
        if fold != ALL:
            held = Quadratic(start, self.folds[fold])
        penalties = [candidate.of(sums.weight) for candidate in self.candidates]
        strengths = np.array([np.max(penalty.curvature()) for penalty in penalties])
        order = np.argsort([-np.max(penalty.absolute()) for penalty in penalties] - strengths, kind="stable")
        ridge = ridge_path(start, sums, p, strengths)
        there = seen(ridge)
        loss = there.loss / sums.weight
        slope = there.gradient / sums.weight
        loss = loss + 0.5 * strengths * (ridge[:p] ** 2).sum(axis=(0, 1))
        slope[:p] = slope[:p] + strengths * ridge[:p]
        out = np.full((2, len(strengths)), np.nan)
        if held is None:
            out[0] = 0.0
        else:
            out[0] = held(ridge).loss
        for c in order.tolist():
            begin = start
            searches = self.solvers[c].searches
            one = slice(c, c + 1)
            plain = isinstance(penalties[c], L2) and not np.ndim(penalties[c].curvature())
            plain = plain and searches and bool(np.isfinite(loss[c]))
            if searches:
                begin = at
                if plain:
                    begin = ridge[:, :, one]
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
                if held is None:
                    left[0] = 0.0
                else:
                    left[0] = held(query).loss
                trial.tell(seen(query), left, self.max_iter, self.tol)
            if np.isfinite(trial.state.weights).all():
                at = trial.state.weights
        return trials
