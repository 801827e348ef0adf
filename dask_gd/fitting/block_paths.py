"""The fits of a search with weights in blocks: for each fold a path from the strongest penalty on."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..cluster import active_client
from ..errors import ClusterError
from ..events import Callbacks, RoundEnded, SearchEnded, SearchStarted
from ..model.losses import Loss, classes_of
from ..model.penalties import Penalty
from ..results.stored_blocks import lazy_weights
from ..solvers import Solver
from ..sources.column_grid import grid_of
from ..sources.stamps import Stamps
from ..store.block_files import DIRECTORY
from ..store.store import Store
from ..weight_blocks.expression import stored
from ..weight_blocks.owners import OwnerLost
from ..weight_blocks.vector import BlockVector
from . import divergence
from .block_checkpoint import BlockCommits, spec_of
from .block_fit import MOST_LOST, WAIT_FOR_WORKERS, BlockRun
from .block_folds import FoldSpace
from .block_table import Ended, Table, dataset_of
from .block_track import BlockTrack
from .block_weights import start_in_blocks
from .engine import Engine
from .fold_assignment import Assigned
from .fold_checks import check_fold
from .fold_track import ALL, warn_of_stalled
from .grid import Candidate, strongest_first
from .score_summaries import RowMeans, Summary
from .scores import log_loss, score_of
from .search_checkpoint import spec_of as spec_of_search
from .search_data import output_count
from .search_engine import check_room_for_predictions
from .search_result import SearchResult
from .track import Stopping

logger = logging.getLogger("dask_gd")


class PathRun(BlockRun):
    """The run of one fit of a search: it tells nobody, and what it leaves is its track."""

    def _recover(self, lost: OwnerLost) -> None:
        """Go on from the last commit; without one the path begins again, as the weights before this fit are gone."""
        if self.commits is None:
            raise lost
        super()._recover(lost)

    def finish(self) -> Any:
        """Settle the reason of the end, and commit it."""
        track = self.track
        if track.losses and track.reason == "max_iter" and divergence.has_risen(track, track.losses):
            track.reason = "diverged"
        if track.losses and track.reason != track.committed_reason:
            self._commit()

    def tell_end(self, result: Any) -> Any:
        """Tell nobody."""


class BlockSearch:
    """A search with weights in blocks, from its start or from what a store has of it to its end."""

    def __init__(
        self,
        assigned: Assigned,
        loss: Loss,
        candidates: list[Candidate],
        solvers: list[Solver],
        scoring: Any,
        stopping: Stopping,
        fit_intercept: bool,
        initial_weights: Any,
        seed: int,
        callbacks: Callbacks,
        stamps: Stamps,
    ):
        self.source = assigned.source
        self.assignment = assigned.assignment
        self.count = self.assignment.folds.count
        self.loss = loss
        self.candidates = candidates
        self.solvers = solvers
        self.stopping = stopping
        self.fit_intercept = fit_intercept
        self.seed = seed
        self.callbacks = callbacks
        self.outputs = classes_of(loss) or self.source.outputs or 1
        self.grid = grid_of(self.source)
        self.engine = Engine(self.source, loss)
        self.engine.stamps = stamps
        self.given: Callable[[FoldSpace], BlockVector] | None = None
        if initial_weights is not None:
            self.given = start_in_blocks(initial_weights, self.source.shape[1], self.outputs, fit_intercept)
        # The score, and the mean loss beside it, from predictions of the rows held out.
        score = score_of(scoring, loss, self.source.outputs or 1, has_own_weights=True)
        assert score.summary is not None
        self.scoring = score.name
        self.score: Summary = score.summary
        indicators = None
        if classes_of(loss):
            indicators = loss.indicators  # type: ignore[attr-defined]
        self.mean_loss = RowMeans(log_loss(loss), indicators)
        check_room_for_predictions(self.score, loss, self.source, self.count)

        self.table = Table(list(self.grid.edges), output_count(self))
        self.space: FoldSpace | None = None
        self.weight = 0.0
        self.dropped = 0
        self.began = time.perf_counter()

    def open(self, store: Store) -> None:
        """Take the store, and the fits that it holds."""
        spec = {
            **spec_of_search(self, self.scoring),
            "weights": "blocks",
            "given": self.given is not None,
            "edges": str(self.grid.edges),
        }
        self.engine.store = store
        self.engine.spec = spec
        self.table.open(store, spec, self.stopping.max_iter)

    # The workers.

    def make_space(self) -> FoldSpace:
        """Return the blocks on the workers that there are now."""
        client = active_client()
        assert client is not None
        self.space = FoldSpace(
            client, self.grid, self.source, self.outputs, self.fit_intercept, self.engine.name, self.assignment
        )
        return self.space

    def make_space_without(self, fold: int) -> FoldSpace:
        """Return the same for fits without a fold."""
        space = self.make_space()
        space.hold_out(fold)
        return space

    def _loaded(self) -> FoldSpace:
        """Return the blocks, with the rows beside them read and the folds checked."""
        if self.space is not None:
            return self.space
        space = self.make_space()
        totals = space.load_rows(self.loss)
        self.weight = totals.weight
        self.dropped = self.source.shape[0] - totals.rows
        for fold, (own, others) in enumerate(space.sums_of_folds(self.loss)):
            check_fold(fold, self.count, own, others, self.loss, self.score.needs_both_classes)
        return space

    # The fits.

    def run(self) -> SearchResult:
        """Return the result: a path of fits for each fold, and the fit to all rows of the best candidate."""
        self.callbacks.tell(self._started())
        order = strongest_first([candidate.of(float(self.source.shape[0])) for candidate in self.candidates])
        for fold in range(self.count):
            self._end_path(fold, order)
        scores = np.array(
            [[self.table.ended[c, f].score for f in range(self.count)] for c in range(len(self.candidates))]
        )
        means = scores.mean(axis=1)
        best = None
        if not np.isnan(means).all():
            best = int(np.nanargmax(means))
            self._end_path(ALL, [best])
        self.engine.check_stamps("search")
        warn_of_stalled(list(self.table.ended.values()))  # type: ignore[arg-type]
        result = self._result()
        described = "none"
        if best is not None:
            described = f"{result.best}"
        self.callbacks.tell(SearchEnded(self.engine.name, described, result.passes, result.full_passes))
        return result

    def _best(self) -> int | None:
        """Return the candidate with the best mean score, None where each diverged in some fold."""
        means = []
        for c in range(len(self.candidates)):
            means.append(np.mean([self.table.ended[c, fold].score for fold in range(self.count)]))
        if np.isnan(means).all():
            return None
        return int(np.nanargmax(means))

    def _end_path(self, fold: int, order: list[int]) -> None:
        """Take a fold's fits to their end; where workers are lost, from what the store has, or all of them again."""
        lost = 0
        while True:
            known = len(self.table.ended)
            try:
                self._follow_path(fold, order)
            except OwnerLost as error:
                if self.table.store is not None and len(self.table.ended) > known:
                    lost = 0
                lost += 1
                if lost >= MOST_LOST:
                    raise ClusterError(
                        f"Workers were lost {lost} times in the fits without fold {fold} ({error}). Look at their logs "
                        f"and memory: more or larger workers have more room for blocks. {self.committed()}"
                    ) from error
                self._wait_for_workers(error)
            else:
                return
            if self.table.store is None:
                for key in [key for key in self.table.ended if key[1] == fold]:
                    del self.table.ended[key]

    def _wait_for_workers(self, error: OwnerLost) -> None:
        """Wait for as many workers as there were, for a while."""
        logger.warning("%s The fits of search %s go on on the other workers.", error, self.engine.name)
        assert self.space is not None
        owners = self.space.owners
        until = time.monotonic() + WAIT_FOR_WORKERS
        while time.monotonic() < until and len(owners.client.nthreads()) < len(owners.workers):
            time.sleep(0.2)
        self.space = None

    def _follow_path(self, fold: int, order: list[int]) -> None:
        """Make the fits of a fold that have not ended, each from the weights of the one before it."""
        self._loaded()
        before: Ended | None = None
        for c in order:
            fit = self.table.ended.get((c, fold))
            if fit is None:
                start = self.given
                if before is not None and self.solvers[c].searches:
                    start = partial(self.table.weights_of, before)
                fit = self._fit(c, fold, start)
                self._commit(fit)
            if fit.reason == "diverged":
                continue
            # Nothing but the next fit has a use for these.
            if before is not None:
                before.vector = None
            before = fit
        if before is not None:
            before.vector = None

    def _fit(self, candidate: int, fold: int, start: Callable[[FoldSpace], BlockVector] | None) -> Ended:
        """Return a fit at its end, scored on the rows of its fold."""
        space = self._loaded()
        space.hold_out(fold)
        weight = space.load_rows(self.loss).weight
        penalty: Penalty = self.candidates[candidate].of(weight)
        engine = Engine(self.source, self.loss)
        engine.name = self.engine.name
        readings = space.readings
        track = BlockTrack(
            engine,
            penalty=penalty,
            solver=self.solvers[candidate],
            space=space,
            start=start,  # type: ignore[arg-type]
            seed=self.seed,
        )
        with contextlib.ExitStack() as stack:
            commits = None
            if self.table.store is not None:
                own = self.table.store_of(candidate, fold)
                engine.store = stack.enter_context(own)
                engine.spec = {**spec_of(track), "candidate": candidate, "fold": fold}
                (own.path / DIRECTORY).mkdir(exist_ok=True)
                commits = BlockCommits(track, own)
            PathRun(track, self.stopping, commits, partial(self.make_space_without, fold)).run()
            assert self.space is not None
            ended = self._ended(track, candidate, fold, self.space)
            ended.passes = sum(track.history["passes"]) or max(0, self.space.readings - readings) / 2
        track.release()
        return ended

    def _ended(self, track: BlockTrack, candidate: int, fold: int, space: FoldSpace) -> Ended:
        """Return what is left of a fit: its score, and its weights in files or where they are."""
        v = track.state.weights
        space.store(v)
        ended = Ended(
            candidate,
            fold,
            track.reason or "interrupted",
            grad_norm=track.grad_norm,
            losses=list(track.losses),
            intercept=track.intercept(),
            passes=0.0,
            dropped=track.dropped,
        )
        if fold != ALL and ended.reason != "diverged":
            sums, of_loss = space.summaries(v, fold, (self.score, self.mean_loss))
            ended.score = self.score.score(sums)
            ended.score_error = self.score.error(sums)
            ended.holdout_loss = -self.mean_loss.score(of_loss)

        # The weights alone, without what the fit has found out of them.
        node = v.node
        if not node.is_constant:
            node = stored(space.alone(node), node.shape, node.dtype)
        alone = BlockVector(space, node, ended.intercept[None, :, None])
        if self.table.store is not None:
            # Of each candidate's fits the last is that to all rows.
            number = fold
            if fold == ALL:
                number = self.count
            ended.described = self.table.write(alone, candidate * (self.count + 1) + number)
            return ended
        ended.vector = alone
        if fold == ALL and not node.is_constant:
            pieces = track.pieces_of_weights(node)
            ended.lazy = lazy_weights(pieces, list(self.grid.edges), output_count(self))
        return ended

    def _commit(self, fit: Ended) -> None:
        """Commit the table with a fit that has ended, remove what was needed to go on with it, and tell of it."""
        self.engine.check_stamps("search")
        self.table.add(fit)
        began = self.began
        self.began = time.perf_counter()
        running = len({c for c in range(len(self.candidates)) if (c, self.count - 1) not in self.table.ended})
        self.callbacks.tell(
            RoundEnded(
                passes=round(self.passes),
                running=self.fits - len(self.table.ended),
                fits=self.fits,
                candidates=running,
                seconds=self.began - began,
                run=self.engine.name,
            )
        )

    # What is told of it.

    @property
    def fits(self) -> int:
        """The fits that there will be: each candidate's without each fold, and the best one's to all rows."""
        return len(self.candidates) * self.count + 1

    @property
    def passes(self) -> float:
        """The passes over the data of all fits that have ended."""
        return sum(fit.passes for fit in self.table.ended.values())

    def committed(self) -> str:
        """Return a sentence on what has been committed, for errors of the cluster."""
        return self.engine.said_of(len(self.table.ended) or -1)

    def _started(self) -> SearchStarted:
        """Return the event of the search's start."""
        path = None
        if self.table.store is not None:
            path = str(self.table.store.path)
        return SearchStarted(
            run=self.engine.name,
            data=repr(self.source),
            loss=repr(self.loss),
            candidates=len(self.candidates),
            folds=self.count,
            fits=self.fits,
            rows=self.source.shape[0],
            nbytes=self.source.nbytes,
            store=path,
            resumed_from=self.table.resumed_from,
            label=self.source.label,
        )

    def _result(self) -> SearchResult:
        """Return the result of all fits."""
        unfinished = sum(fit.reason == "max_iter" for fit in self.table.ended.values())
        if unfinished:
            logger.warning(
                "%d of %d fits of the search took max_iter=%d steps without coming to an end, see data.reason.",
                unfinished,
                len(self.table.ended),
                self.stopping.max_iter,
            )
        return SearchResult(
            data=dataset_of(self, self.table.ended, self.count, self.table.edges),
            scoring=self.scoring,
            passes=self.passes,
            loss=self.loss,
            penalties=tuple(candidate.of(self.weight) for candidate in self.candidates),
            solvers=tuple(self.solvers),
            fit_intercept=self.fit_intercept,
            max_iter=self.stopping.max_iter,
            tol=self.stopping.tol,
            described=repr(self.source),
            dropped=self.dropped,
            sample_dims=self.source.sample_dims,
            full_passes=self.passes,
            target_attrs=self.source.target_attrs,
        )
