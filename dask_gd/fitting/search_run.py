"""A search's loop: trials take their steps from passes that they share, round by round."""

from __future__ import annotations

import time

import numpy as np

from ..events import RoundEnded, SearchStarted
from ..kernels.base import Sums
from ..kernels.shift import shifted
from ..model.penalties import L2, Penalty
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
        self.store = store
        self.spec = spec_of(self, scoring)
        self.processors = Processors()
        self.stored = stored_start(self, store)

    def run(self, start: np.ndarray) -> list[Trial]:
        """Return all trials at their end.

        They begin at a start (q, k, 1), parameters of the rows as they are, or where the store has them.
        """
        # The first pass, unless a path's alphas have taken it, and its sums against the stored ones.
        if self.stored is not None:
            _, start = self.stored
        if not self.passes:
            self.begin(start)
        if self.stored is not None:
            check_data(self)

        # A squared loss needs no more, if each step reads all rows.
        self.start = start
        start = shifted(start, self.shift)
        if self.loss.quadratic and not self.batched:
            trials = self.run_on_statistics(start)
        else:
            trials = self.run_in_passes(start)

        # Scores that no pass has summed at the weights where trials ended.
        lacks_scores = False
        if self.score is not None:
            lacks_scores = any(np.isnan(trial.holdout[1]) for trial in trials)
        if self.batched or lacks_scores:
            self.score_holdout(trials)
        self.check_stamps()
        return trials

    def check_stamps(self) -> None:
        """Raise `DataError` if stored data has been overwritten since the search began."""
        if self.stamps is not None:
            self.stamps.check(self.passes, "search", self.store and self.store.path)

    def started(self) -> SearchStarted:
        """Return the event of the search's start."""
        candidates = len(self.candidates)
        path = None
        if self.store is not None:
            path = str(self.store.path)
        resumed_from = None
        if self.stored is not None:
            resumed_from = self.stored[0].iteration
        return SearchStarted(
            run=self.name,
            data=repr(self.source),
            loss=repr(self.loss),
            candidates=candidates,
            folds=self.count,
            fits=candidates * (self.count + 1),
            rows=self.source.shape[0],
            nbytes=self.source.nbytes,
            store=path,
            resumed_from=resumed_from,
        )

    # Trials that take passes.

    def run_in_passes(self, start: np.ndarray) -> list[Trial]:
        """Return all trials at their end, those of a batch run in passes that they share."""
        trials: list[Trial] = []
        if self.stored is not None:
            stored_round, _ = self.stored
            trials = restore(self, stored_round, start)
            self.rounds = stored_round.iteration
        begun = {trial.candidate for trial in trials}
        for batch in self.batches(start):
            # The first round takes its step from the first pass, which all batches share.
            if not begun.issuperset(batch):
                trials += self.begin_batch(batch, start)
                self.end_round(trials)
            while running := [trial for trial in trials if not trial.done]:
                self.advance(running)
                if all(self.candidates[c].learning_rate is not None for c in batch):
                    of_batch = [trial for trial in trials if trial.candidate in batch]
                    halve(of_batch, [sums.weight for sums in self.folds])
                self.end_round(trials)
        return trials

    def begin_batch(self, batch: list[int], start: np.ndarray) -> list[Trial]:
        """Return the trials of these candidates, with a step from the first pass, which has evaluated the start."""
        # What each fold's fit sees, and what the fit to all rows sees.
        sums: dict[int, Sums] = {}
        for fold in (ALL, *range(self.count)):
            sums[fold] = self.all_but(self.folds, fold)
        trials = []
        for c in batch:
            for fold in sums:
                weight = sums[fold].weight
                trials.append(self.trial(c, fold, start, weight))
        # Steps that read a sample of the partitions take none from all of them.
        if self.batched:
            return trials
        with one_blas_thread():
            for trial in trials:
                holdout = np.array([[0.0], [np.nan]])
                if trial.fold != ALL:
                    holdout[0] = self.folds[trial.fold].loss
                trial.advance(sums[trial.fold], holdout, self.max_iter, self.tol)
        return trials

    def advance(self, trials: list[Trial]) -> None:
        """Have trials take a step, from a pass at all their queries."""
        # The gradient of a sample is no sign of an end.
        tol = self.tol
        if self.batched:
            tol = -1.0
        evaluated = self.evaluate(trials)
        with one_blas_thread():
            for trial, (sums, holdout) in zip(trials, evaluated, strict=True):
                trial.advance(sums, holdout, self.max_iter, tol)

    def end_round(self, trials: list[Trial]) -> None:
        """Commit a round, and tell of it."""
        self.rounds += 1
        fits = len(self.candidates) * (self.count + 1)
        running = [trial.candidate for trial in trials if not trial.done]
        # The last round is committed only if the data has stayed as it was.
        if len(trials) == fits and not running:
            self.check_stamps()
        if self.store is not None:
            self.store.commit(checkpoint(self, self.start, trials))
        began = self.round_began
        self.round_began = time.perf_counter()
        self.callbacks.tell(
            RoundEnded(
                passes=self.passes,
                running=len(running),
                fits=fits,
                candidates=len(set(running)),
                seconds=self.round_began - began,
                run=self.name,
            )
        )

    # Trials of a squared loss, which need no pass but the first.

    def run_on_statistics(self, start: np.ndarray) -> list[Trial]:
        """Return all trials of a squared loss at their end, from each fold's sufficient statistics.

        They run from the strongest penalty down, each from where the one before has ended, if its solver does not
        depend on where it begins. Those with L2 alone end where `ridge_path` says, if that is within ``tol``.
        """
        trials: list[Trial] = []
        for fold in (ALL, *range(self.count)):
            with one_blas_thread():
                trials += self.run_fold(fold, FoldStatistics(self, start, fold))
        return trials

    def run_fold(self, fold: int, statistics: FoldStatistics) -> list[Trial]:
        """Return a fold's trials at their end."""
        weight = statistics.others.sums.weight
        start = statistics.others.center
        penalties = [candidate.of(weight) for candidate in self.candidates]

        # The strongest first: by the absolute values, and by the squares beside them.
        absolute = [-np.max(penalty.absolute()) for penalty in penalties]
        squares = [np.max(penalty.curvature()) for penalty in penalties]
        strengths = np.array(squares)
        order = np.argsort(np.array(absolute) - strengths, kind="stable")

        # The minima of all with L2 alone.
        p = self.source.shape[1]
        ridge, loss, gradient = statistics.ridge_minima(strengths, p)
        holdout = statistics.holdout(ridge)

        trials = []
        last_weights = start
        for c in order.tolist():
            # Where it begins: at its minimum, at that of the penalty before, or where all begin.
            of_candidate = slice(c, c + 1)
            begin = start
            is_known = False
            if self.solvers[c].searches:
                begin = last_weights
                is_known = is_ridge(penalties[c]) and bool(np.isfinite(loss[c]))
            if is_known:
                begin = ridge[:, :, of_candidate]
            trial = self.trial(c, fold, begin, weight, penalties[c])
            trials.append(trial)

            # A minimum that is known is a single step from the start.
            if is_known:
                trial.losses.append(statistics.start_loss)
                trial.holdout_losses.append(statistics.start_holdout_loss)
                is_end = trial.ends(
                    loss[of_candidate],
                    gradient=gradient[:, :, of_candidate],
                    holdout=holdout[:, c],
                    tol=self.tol,
                )
                if is_end:
                    continue

            # Others iterate on the statistics.
            while not trial.done:
                query = trial.state.query
                trial.advance(
                    statistics.others(query),
                    holdout=statistics.holdout(query),
                    max_iter=self.max_iter,
                    tol=self.tol,
                )
            if np.isfinite(trial.state.weights).all():
                last_weights = trial.state.weights
        return trials


def is_ridge(penalty: Penalty) -> bool:
    """Return whether a penalty is L2 alone, with one strength for all features."""
    return isinstance(penalty, L2) and not np.ndim(penalty.curvature())


class FoldStatistics:
    """A squared loss on the rows of a fold and on all others, from their sums at the start of the search."""

    def __init__(self, shared: Shared, start: np.ndarray, fold: int):
        sums: Sums = shared.all_but(shared.folds, fold)
        self.others = Quadratic(start, sums)
        self.own: Quadratic | None = None
        #: At the start: the mean loss over the others, and the sum of the loss over the fold.
        self.start_loss = float(sums.loss[0]) / sums.weight
        self.start_holdout_loss = 0.0
        if fold != ALL:
            self.own = Quadratic(start, shared.folds[fold])
            self.start_holdout_loss = float(shared.folds[fold].loss[0])

    def holdout(self, query: np.ndarray) -> np.ndarray:
        """Return the sums of loss and score over the fold's rows, (2, m); scores are NaN, as they need predictions."""
        holdout = np.full((2, query.shape[2]), np.nan)
        holdout[0] = 0.0
        if self.own is not None:
            holdout[0] = self.own(query).loss
        return holdout

    def ridge_minima(
        self,
        strengths: np.ndarray,
        p: int,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the minima with these L2 strengths (m,), (q, k, m), and the objective's values (m,) and gradients."""
        sums = self.others.sums
        weights = ridge_path(self.others.center, sums, p, strengths)
        # Means of the loss, and the penalty, which has no part in the intercept.
        at_minima = self.others(weights)
        squares = (weights[:p] ** 2).sum(axis=(0, 1))
        loss = at_minima.loss / sums.weight
        loss = loss + 0.5 * strengths * squares
        gradient = at_minima.gradient / sums.weight
        gradient[:p] = gradient[:p] + strengths * weights[:p]
        return weights, loss, gradient
