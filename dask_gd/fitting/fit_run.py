"""A fit's run around its track: what is committed after each step and told of it, and the result at its end."""

from __future__ import annotations

import logging

from ..errors import DivergenceWarning, InvalidArgumentError, StalledWarning, warn
from ..events import FitEnded, FitStarted, IterationEnded, StopFit
from ..model.losses import Loss
from ..results.fit_result import FitResult, result_of
from ..store.store import Checkpoint
from . import divergence
from .checkpoint import check_data, checkpoint
from .drive import drive
from .fit_track import FitTrack
from .track import Evaluated, Stopping

logger = logging.getLogger("dask_gd")


class FitRun:
    """The run of a track to its end: its loop, its commits and its events."""

    def __init__(self, track: FitTrack, stopping: Stopping):
        self.track = track
        self.stopping = stopping

    def run(self) -> FitResult:
        """Return the result at the end of the track, of which its callbacks hear."""
        track = self.track
        heard = track.callbacks
        heard.tell(self.started())
        check_data(track)
        track.reason = track.reason_to_stop(self.stopping)
        try:
            if track.resumed_from is not None:
                heard.tell(self.ended(), only_with_memory=True, snapshot=self.snapshot)
            drive([track], self.evaluate, self.stopping, self.end_round)
        except StopFit as stop:
            track.reason = track.reason or stop.reason
        return self.tell_end(self.finish())

    def tell_end(self, result: FitResult) -> FitResult:
        """Tell the callbacks that the fit has ended with a result, and return it."""
        self.track.callbacks.tell(self.fit_ended(result), snapshot=self.snapshot)
        return result

    def fit_ended(self, result: FitResult) -> FitEnded:
        """Return the event of the fit's end."""
        last_loss = float(result.history.loss[-1])
        return FitEnded(result.reason, result.n_iter, last_loss, self.track.engine.name)

    def evaluate(self, tracks: list[FitTrack]) -> list[Evaluated | None]:
        """Return the sums at the track's query."""
        return [track.evaluate(self.stopping) for track in tracks]

    def end_round(self) -> None:
        """Commit a step, and tell of it; a look that led to none leaves nothing."""
        track = self.track
        if not track.has_stepped:
            return
        # The end is committed only if the data has stayed as it was.
        if track.reason is not None:
            track.engine.check_stamps("fit")
        self.commit(checkpoint(track))
        track.callbacks.tell(self.ended(), snapshot=self.snapshot)

    def commit(self, stored: Checkpoint) -> None:
        """Write a checkpoint to the store, if there is one."""
        track = self.track
        if track.engine.store is not None:
            track.engine.store.commit(stored)
        track.committed_reason = track.reason

    def snapshot(self) -> tuple[Checkpoint, Loss]:
        """Return the fit as it is at the moment."""
        return checkpoint(self.track), self.track.loss

    def started(self) -> FitStarted:
        """Return the event of the fit's start."""
        track = self.track
        source = track.source
        store = None
        if track.engine.store is not None:
            store = str(track.engine.store.path)
        return FitStarted(
            run=track.engine.name,
            data=repr(source),
            loss=repr(track.loss),
            penalty=repr(track.penalty) if track.penalised else "none",
            solver=repr(track.solver),
            max_iter=self.stopping.max_iter,
            resumed_from=track.resumed_from,
            rows=source.shape[0],
            nbytes=source.nbytes,
            store=store,
            tol=0.0 if track.batched else self.stopping.tol,
            features=source.shape[1],
            outputs=source.outputs or 1,
            label=source.label,
        )

    def ended(self) -> IterationEnded:
        """Return the event of the last step's end."""
        track = self.track
        row = {name: float(values[-1]) for name, values in track.history.items()}
        return IterationEnded(track.iteration, **row, run=track.engine.name)

    def finish(self) -> FitResult:
        """Return the result; a reason that the last commit did not know is committed too."""
        self.conclude()
        track = self.track
        last = checkpoint(track)
        if track.reason != track.committed_reason:
            self.commit(last)
        return result_of(last, track.loss)

    def conclude(self) -> None:
        """Settle the reason of the end, and say what the user should know of it."""
        track = self.track
        if not track.losses:
            raise InvalidArgumentError(f"{track.fault or 'There is no step.'} Give smaller initial_weights.")
        if track.reason == "max_iter" and divergence.has_risen(track, track.losses[track.since :]):
            track.reason = "diverged"
        track.engine.check_stamps("fit")
        self.note_unread()
        if track.reason == "diverged":
            warn(divergence.message(track), DivergenceWarning)
        if track.reason == "stalled":
            warn(divergence.stall(track), StalledWarning)

    def note_unread(self) -> None:
        """Say which partitions a batched solver has never read; nothing of theirs has been checked."""
        track = self.track
        count = track.source.partitions
        step = track.partitions_of(0)
        read = count
        if step is not None:
            read = min(count, (track.iteration + 1) * len(step))
        if read < count and track.iteration > 0:
            logger.warning(
                "%s read %d of %d partitions; the rows of the others had no part in the fit and have not been checked.",
                track.solver,
                read,
                count,
            )
