"""A fit with weights in blocks: when it is chosen, what it refuses, and its run around its track."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from .. import passes
from ..cluster import active_client, threads_of
from ..dashboard.publish import watching
from ..display.texts import size
from ..errors import ClusterError, DataError, InvalidArgumentError
from ..events import Callback, Callbacks, FitEnded, FitStarted, StopFit
from ..interrupt import exiting_on_sigterm
from ..model.losses import Loss, Model, classes_of
from ..model.penalties import Penalty
from ..results.fit_result import FitResult, result_of
from ..solvers import LBFGS, Adam, GradientDescent, Momentum, Nesterov, Solver
from ..sources import Source
from ..sources.column_grid import grid_of, is_in_columns
from ..sources.stamps import Stamps
from ..store.store import Checkpoint, Store
from ..validate import choose
from ..weight_blocks.measured import Meter
from ..weight_blocks.owners import OwnerLost
from ..weight_blocks.prox import check_penalty, is_served
from ..weight_blocks.space import BlockSpace
from ..worker_env import memory_of_process
from .block_checkpoint import BlockCommits, checkpoint, probe, spec_of
from .block_plan import BlockPlan, check_block_room, limits_of, plan_of
from .block_track import BlockTrack
from .block_weights import start_in_blocks, with_weights
from .drive import drive
from .engine import Engine
from .fit_run import FitRun
from .smoothing import smoothing_of
from .track import Stopping

logger = logging.getLogger("dask_gd")

#: Share of a process's memory that whole weights and the state of a solver may take.
SHARE = 0.25
#: Vectors that a solver has beside what it remembers.
VECTORS = 6
#: Workers lost without a step in between, after which a fit gives up.
MOST_LOST = 3
#: Seconds that a fit waits for as many workers as it had, once it has lost some.
WAIT_FOR_WORKERS = 15.0


def vectors_of(solver: Solver) -> int:
    """Return how many vectors as large as the weights a fit takes."""
    if isinstance(solver, LBFGS):
        return 2 * solver.memory + VECTORS
    return VECTORS


def in_blocks(
    weights: str,
    source: Source,
    loss: Loss,
    penalty: Penalty,
    solver: Solver,
    fit_intercept: bool,
) -> bool:
    """Return whether the weights of a fit are to be in blocks; refuse what cannot be had.

    Raises
    ------
    InvalidArgumentError
        Where blocks are asked for, and cluster, features, loss, penalty or solver do not allow it.
    """
    choose("weights", weights, dict.fromkeys(("auto", "whole", "blocks")))
    if weights == "whole" or (weights == "auto" and not _is_too_wide(source, loss, solver, fit_intercept)):
        return False
    refusal = _refusal(source, loss, solver)
    if weights == "auto":
        if refusal is not None or not is_served(penalty) or not is_in_columns(source):
            return False
        return _has_room(source, loss, penalty, solver)
    if refusal is not None:
        raise InvalidArgumentError(f"weights='blocks': {refusal}.")
    check_penalty(penalty)
    grid_of(source)
    return True


def _has_room(source: Source, loss: Loss, penalty: Penalty, solver: Solver) -> bool:
    """Return whether the workers have memory for blocks of weights."""
    limits = limits_of(active_client())
    try:
        check_block_room(_plan_of(source, loss, penalty, solver, limits), limits, logger.debug)
    except DataError:
        return False
    return True


def _plan_of(
    source: Source, loss: Loss, penalty: Penalty, solver: Solver, limits: dict[str, int], has_store: bool = True
) -> BlockPlan:
    """Return the plan of a fit on the workers with these limits."""
    return plan_of(
        grid_of(source),
        source,
        penalty=penalty,
        solver=solver,
        outputs=classes_of(loss) or source.outputs or 1,
        workers=max(1, len(limits)),
        threads=max(threads_of(active_client(), "").values(), default=1),
        has_store=has_store,
    )


def _is_too_wide(source: Source, loss: Loss, solver: Solver, fit_intercept: bool) -> bool:
    """Return whether whole weights and the solver's state take more than a share of a process's memory."""
    client = active_client()
    if client is None or isinstance(loss, Model):
        return False
    outputs = classes_of(loss) or source.outputs or 1
    needed = 8 * vectors_of(solver) * (source.shape[1] + fit_intercept) * outputs
    limits: list[float] = [memory_of_process()]
    for worker in client.scheduler_info(n_workers=-1)["workers"].values():
        limits.append(worker["memory_limit"] or needed / SHARE)
    return needed > SHARE * min(limits)


def _refusal(source: Source, loss: Loss, solver: Solver) -> str | None:
    """Return why weights cannot be in blocks, in words; None where they can."""
    if active_client() is None:
        return "they live on the workers of a cluster, and there is none: start a dask.distributed.Client"
    if isinstance(loss, Model):
        return "a Model takes its parameters whole"
    if smoothing_of(loss, 1) is not None:
        return f"{loss!r} is smoothed in stages, which weights in blocks do not have; give it a smoothing"
    if type(solver) not in (LBFGS, GradientDescent, Momentum, Nesterov, Adam):
        return (
            f"solver={solver!r} needs all weights in one place; choose lbfgs, nesterov, gradient_descent, momentum or "
            "adam"
        )
    return None


def fit_in_blocks(
    source: Source,
    loss: Loss,
    *,
    penalty: Penalty,
    solver: Solver,
    fit_intercept: bool,
    stopping: Stopping,
    initial_weights: Any,
    seed: int,
    store: Any,
    callbacks: Iterable[Callback],
    stamps: Stamps,
) -> FitResult:
    """Return the result of a fit whose weights are in blocks on the workers."""
    engine = Engine(source, loss)
    engine.stamps = stamps
    outputs = classes_of(loss) or source.outputs or 1
    client = active_client()
    assert client is not None
    grid = grid_of(source)
    # Nothing is on the workers yet. A cluster without workers is refused by who shares the blocks out.
    limits = limits_of(client)
    plan = _plan_of(source, loss, penalty, solver, limits, has_store=store is not None)
    if limits:
        check_block_room(plan, limits, logger.warning)
    logger.info("Fit %s has weights in blocks, by its plan: %s.", engine.name, plan)
    meter = Meter(client, list(limits))

    def make_space() -> BlockSpace:
        return BlockSpace(client, grid, source, outputs, fit_intercept, engine.name)

    start = None
    if initial_weights is not None:
        start = start_in_blocks(initial_weights, source.shape[1], outputs, fit_intercept)
    track = BlockTrack(
        engine,
        penalty=penalty,
        solver=solver,
        space=make_space(),
        start=start,
        seed=int(seed),
        callbacks=Callbacks((*callbacks, *watching())),
    )
    with contextlib.ExitStack() as stack:
        commits = None
        if store is not None:
            engine.store = stack.enter_context(store if isinstance(store, Store) else Store(store))
            engine.spec = spec_of(track)
            commits = BlockCommits(track, engine.store)
            probe(track.space.owners, engine.name, engine.store)
        else:
            logger.warning(
                "Without a store the weights of fit %s are in the workers' memory alone: if one dies, the fit begins "
                "again. store=... keeps every iteration.",
                engine.name,
            )
        stack.callback(passes.release, source, engine.name)
        stack.callback(track.release)
        stack.enter_context(track.callbacks.hear_of_failure(engine.name, kind="fit"))
        stack.enter_context(exiting_on_sigterm("fit", engine.said_of_store))
        stack.enter_context(passes.passes_of("fit", engine.name, track.committed))
        return BlockRun(track, stopping, commits, make_space, plan, meter).run()


class BlockRun(FitRun):
    """The run of a track in blocks: it goes on where workers die, from its last commit or from its start.

    A run that callbacks hear of has a plan, and a meter of what it takes.
    """

    def __init__(
        self,
        track: BlockTrack,
        stopping: Stopping,
        commits: BlockCommits | None,
        make_space: Any,
        plan: BlockPlan | None = None,
        meter: Meter | None = None,
    ):
        super().__init__(track, stopping)  # type: ignore[arg-type]
        self.plan = plan
        self.meter = meter
        self.track: Any = track
        self.commits = commits
        self.make_space = make_space
        #: The iteration at which workers were lost last, and how often in a row.
        self.lost_at = -2
        self.lost = 0

    def run(self) -> FitResult:
        """Return the result at the end of the track, of which its callbacks hear."""
        track = self.track
        heard = track.callbacks
        has_begun = False
        while True:
            try:
                self._take_up()
                if not has_begun:
                    heard.tell(self.started())
                has_begun = True
                track.reason = track.reason_to_stop(self.stopping)
                self.drive()
                break
            except OwnerLost as lost:
                self._recover(lost)
            except StopFit as stop:
                track.reason = track.reason or stop.reason
                break
        return self.tell_end(self.finish())

    def started(self) -> FitStarted:
        """Return the event of the fit's start, which tells of its blocks."""
        plan = self.plan
        if plan is None:
            return super().started()
        return replace(
            super().started(), blocks=plan.blocks, width=plan.width, workers=plan.workers, memory=plan.memory
        )

    def fit_ended(self, result: FitResult) -> FitEnded:
        """Return the event of the fit's end, with what it has taken of the workers, which goes to the log too."""
        assert self.meter is not None
        assert self.plan is not None
        taken = self.meter.read().values()
        memory = max((each.memory for each in taken), default=0)
        moved = sum(each.sent for each in taken)
        logger.info(
            "Fit %s, measured: a worker needed at most %s beside its process, of %s planned; %s moved between workers "
            "in %d iterations, of %s planned.",
            self.track.engine.name,
            size(memory),
            size(self.plan.memory + self.plan.kept_bytes),
            size(moved),
            result.n_iter,
            size(self.plan.bytes_moved * result.n_iter),
        )
        return replace(super().fit_ended(result), memory=memory, bytes_moved=moved)

    def _take_up(self) -> None:
        """Read the rows' targets, and go on from the last commit, if there is one."""
        track = self.track
        track.load_rows()
        if self.commits is None:
            return
        stored = self.commits.latest()
        if stored is not None:
            self.commits.restore(stored)

    def drive(self) -> None:
        """Take the track to its end."""
        drive([self.track], lambda tracks: [track.evaluate() for track in tracks], self.stopping, self.end_round)

    def _recover(self, lost: OwnerLost) -> None:
        """Begin again with the workers that there are, or give up where that has led nowhere."""
        track = self.track
        self.lost = self.lost + 1 if track.iteration == self.lost_at else 1
        self.lost_at = track.iteration
        if self.lost >= MOST_LOST:
            raise ClusterError(
                f"Workers were lost {self.lost} times at iteration {track.iteration} ({lost}). Look at their logs and "
                f"memory: more or larger workers have more room for blocks. {track.committed()}"
            ) from lost
        owners = track.space.owners
        logger.warning(
            "%s The blocks of fit %s go to the other workers. %s", lost, track.engine.name, track.committed()
        )
        wanted = len(owners.workers)
        client = owners.client
        until = time.monotonic() + WAIT_FOR_WORKERS
        while time.monotonic() < until and len(client.nthreads()) < wanted:
            time.sleep(0.2)
        track.release()
        track.begin(self.make_space())

    def end_round(self) -> None:
        """Commit a step, and tell of it."""
        track = self.track
        if not track.has_stepped:
            return
        if track.reason is not None:
            track.engine.check_stamps("fit")
        self._commit()
        track.callbacks.tell(self.ended(), snapshot=self.snapshot)

    def _commit(self) -> None:
        """Commit the track as it is, if there is a store."""
        if self.commits is not None:
            self.commits.commit()
        self.track.committed_reason = self.track.reason

    def snapshot(self) -> tuple[Checkpoint, Loss]:
        """Return the fit as it is at the moment, with lazy weights."""
        return with_weights(checkpoint(self.track, None), self.track), self.track.loss

    def finish(self) -> FitResult:
        """Return the result; a reason that the last commit did not know is committed too."""
        self.conclude()
        if self.track.reason != self.track.committed_reason:
            self._commit()
        return result_of(*self.snapshot())
