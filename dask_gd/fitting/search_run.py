"""A search's run around its tracks: passes that they share, what is committed after each, and squared losses."""

from __future__ import annotations

import time
from functools import partial

import numpy as np

from ..events import Callbacks, RoundEnded, SearchStarted
from ..kernels.base import Sums
from ..kernels.shift import shifted
from ..model.penalties import L2, Penalty
from ..solvers.objective import Quadratic, ridge_path
from ..store.store import Checkpoint, Store
from ..worker_env import one_blas_thread
from .drive import drive
from .fold_track import ALL, FoldTrack, halve
from .grid import strongest_first
from .search_checkpoint import check_data, checkpoint, restore, spec_of, start_of, stored_round, take_sample
from .search_correction import correct
from .search_engine import SearchEngine
from .track import Evaluated
from .unchanged import Processors


class SearchRun:
    """The run of a search: its tracks from their start, or where a store has them, to their end."""

    def __init__(self, engine: SearchEngine, callbacks: Callbacks, scoring: str):
        self.engine = engine
        self.callbacks = callbacks
        self.scoring = scoring
        #: Where the tracks begin, parameters of the rows as they are; and what a store holds of them.
        self.start = np.empty(0)
        self.stored: Checkpoint | None = None
        self.tracks: list[FoldTrack] = []
        #: Rounds that have ended, those of a stored search among them, and when the present one began.
        self.rounds = 0
        self.round_began = time.perf_counter()

    def open(self, store: Store) -> None:
        """Take the store, and what it holds of this search."""
        engine = self.engine
        engine.store = store
        engine.spec = spec_of(engine, self.scoring)
        engine.processors = Processors()
        self.stored = stored_round(engine, store)

    def run(self, start: np.ndarray) -> list[FoldTrack]:
        """Return all tracks at their end.

        They begin at a start (q, k, 1), parameters of the rows as they are, or where the store has them.
        """
        # The first pass, unless a path's alphas have taken it, and its sums against the stored ones.
        engine = self.engine
        if self.stored is not None:
            start = start_of(self.stored)
            take_sample(engine, self.stored)
        if not engine.readings:
            engine.begin(start)
        if self.stored is not None:
            check_data(engine, self.stored)

        # A squared loss needs no more, if each step reads all rows.
        self.start = start
        start = shifted(start, engine.shift)
        if engine.loss.quadratic and not engine.batched:
            self.run_on_statistics(start)
        else:
            self.run_in_passes(start)

        # Scores that no pass has summed at the weights where tracks ended.
        self.score_unseen()
        if engine.summary is not None:
            held_out = [track for track in self.tracks if track.fold != ALL]
            at_end = [track for track in held_out if track.reason not in ("diverged", "dropped")]
            if at_end:
                engine.summarise_holdout(at_end)
        engine.check_stamps("search")
        return self.tracks

    @property
    def fits(self) -> int:
        """The tracks that there will be: each candidate's, without each fold and of all rows."""
        return len(self.engine.candidates) * (self.engine.count + 1)

    def committed(self) -> str:
        """Return a sentence on what has been committed, for errors of the cluster."""
        iteration = -1
        if self.rounds or self.stored:
            iteration = self.rounds
        return self.engine.said_of(iteration)

    def started(self) -> SearchStarted:
        """Return the event of the search's start."""
        engine = self.engine
        path = None
        if engine.store is not None:
            path = str(engine.store.path)
        resumed_from = None
        if self.stored is not None:
            resumed_from = self.stored.iteration
        return SearchStarted(
            run=engine.name,
            data=repr(engine.source),
            loss=repr(engine.loss),
            candidates=len(engine.candidates),
            folds=engine.count,
            fits=self.fits,
            rows=engine.source.shape[0],
            nbytes=engine.source.nbytes,
            store=path,
            resumed_from=resumed_from,
            label=engine.source.label,
        )

    # Tracks that take passes.

    def run_in_passes(self, start: np.ndarray) -> None:
        """Take all tracks to their end, those of a batch in passes that they share."""
        engine = self.engine
        if self.stored is not None:
            self.tracks = restore(engine, self.stored, start)
            self.rounds = self.stored.iteration
        begun = {track.candidate for track in self.tracks}
        # What each fold's fit sees, and what the fit to all rows sees.
        folds = (ALL, *range(engine.count))
        weights = {fold: engine.weight_without(fold) for fold in folds}
        for batch in engine.batches(start):
            for c in batch:
                if c not in begun:
                    self.tracks += [engine.track(c, fold, start, weights[fold]) for fold in folds]
            of_batch = [track for track in self.tracks if track.candidate in batch]
            drive(of_batch, engine.evaluate, engine.stopping, partial(self.end_round, of_batch))

    def score_unseen(self) -> None:
        """Give tracks that have ended without a look their loss and score on the rows held out, by a pass."""
        engine = self.engine
        unscored = [track for track in self.tracks if engine.batched or track.lacks_holdout(engine.score is not None)]
        if unscored:
            engine.score_holdout(unscored)

    def end_round(self, of_batch: list[FoldTrack]) -> None:
        """Drop learning rates that are not worth another step, commit a round, and tell of it."""
        engine = self.engine
        if all(engine.candidates[track.candidate].learning_rate is not None for track in of_batch):
            halve(of_batch, [sums.weight for sums in engine.folds])
        self.rounds += 1
        correct(engine, of_batch)
        running = [track.candidate for track in self.tracks if track.reason is None]
        if len(self.tracks) == self.fits and not running:
            self.score_unseen()
            # The last round is committed only if the data has stayed as it was.
            engine.check_stamps("search")
        if engine.store is not None:
            engine.store.commit(checkpoint(engine, self.rounds, self.start, self.tracks))
        began = self.round_began
        self.round_began = time.perf_counter()
        self.callbacks.tell(
            RoundEnded(
                passes=engine.readings,
                running=len(running),
                fits=self.fits,
                candidates=len(set(running)),
                seconds=self.round_began - began,
                run=engine.name,
                full_passes=engine.whole,
            )
        )

    # Tracks of a squared loss, which need no pass but the first.

    def run_on_statistics(self, start: np.ndarray) -> None:
        """Take all tracks of a squared loss to their end, from each fold's sufficient statistics.

        They run from the strongest penalty down, each from where the one before has ended, if its solver does not
        depend on where it begins. Those with L2 alone end where `ridge_path` says, if that is within ``tol``.
        """
        for fold in (ALL, *range(self.engine.count)):
            with one_blas_thread():
                self.tracks += self.run_fold(fold, FoldStatistics(self.engine, start, fold))

    def run_fold(self, fold: int, statistics: FoldStatistics) -> list[FoldTrack]:
        """Return a fold's tracks at their end."""
        engine = self.engine
        weight = statistics.others.sums.weight
        start = statistics.others.center
        penalties = [candidate.of(weight) for candidate in engine.candidates]

        strengths = np.array([np.max(penalty.curvature()) for penalty in penalties])

        # The minima of all with L2 alone.
        ridge, loss, gradient = statistics.ridge_minima(strengths, engine.width)
        holdout = statistics.holdout(ridge)

        tracks = []
        last_weights = start
        for c in strongest_first(penalties):
            # Where it begins: at its minimum, at that of the penalty before, or where all begin.
            of_candidate = slice(c, c + 1)
            begin = start
            is_known = False
            if engine.solvers[c].searches:
                begin = last_weights
                is_known = is_ridge(penalties[c]) and bool(np.isfinite(loss[c]))
            if is_known:
                begin = ridge[:, :, of_candidate]
            track = engine.track(c, fold, begin, weight, penalties[c])
            tracks.append(track)

            # A minimum that is known is a single step from the start.
            if is_known:
                track.losses.append(statistics.start_loss)
                track.holdout_losses.append(statistics.start_holdout_loss)
                is_end = track.ends(
                    loss[of_candidate],
                    gradient=gradient[:, :, of_candidate],
                    holdout=holdout[:, c],
                    tol=engine.stopping.tol,
                )
                if is_end:
                    continue

            # Others iterate on the statistics.
            drive([track], statistics.evaluate, engine.stopping)
            if np.isfinite(track.state.weights).all():
                last_weights = track.state.weights
        return tracks


def is_ridge(penalty: Penalty) -> bool:
    """Return whether a penalty is L2 alone, with one strength for all features."""
    return isinstance(penalty, L2) and not np.ndim(penalty.curvature())


class FoldStatistics:
    """A squared loss on the rows of a fold and on all others, from their sums at the start of the search."""

    def __init__(self, engine: SearchEngine, start: np.ndarray, fold: int):
        sums: Sums = engine.all_but(engine.folds, fold)
        self.others = Quadratic(start, sums)
        self.own: Quadratic | None = None
        #: At the start: the mean loss over the others, and the sum of the loss over the fold.
        self.start_loss = float(sums.loss[0]) / sums.weight
        self.start_holdout_loss = 0.0
        if fold != ALL:
            self.own = Quadratic(start, engine.folds[fold])
            self.start_holdout_loss = float(engine.folds[fold].loss[0])

    def evaluate(self, tracks: list[FoldTrack]) -> list[Evaluated]:
        """Return for each track the sums at its query over the rows that it sees, and loss and score over the fold."""
        evaluated = []
        for track in tracks:
            query = track.state.query
            evaluated.append(Evaluated(self.others(query), holdout=self.holdout(query)))
        return evaluated

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
