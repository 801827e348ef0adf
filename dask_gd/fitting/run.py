"""One fit while it runs: its state, how a query is evaluated, and when to stop.

The loop itself, which calls this, is in `fit`; what is committed is in `checkpoint`.
"""

from __future__ import annotations

import logging
import time
from typing import Any, NamedTuple

import numpy as np

from ..errors import DivergenceWarning, InvalidArgumentError, NonFiniteError, StalledWarning, warn
from ..events import FitStarted, IterationEnded
from ..kernels.base import EXACT, GRAM_LIMIT, Sums
from ..model.losses import Loss
from ..results.fit_result import FitResult, result_of
from ..solvers import STALLED
from ..solvers.objective import Quadratic, objective
from ..store.content import HISTORY
from ..store.store import Checkpoint
from ..worker_env import one_blas_thread
from . import divergence, stages
from .checkpoint import checkpoint
from .forecast import gradient_bound
from .state import FitState

logger = logging.getLogger("dask_gd")


class Stopping(NamedTuple):
    """When a fit is to end."""

    max_iter: int
    tol: float
    target_loss: float | None = None


class Evaluated(NamedTuple):
    """The sums at a query, and how they were found."""

    sums: Sums
    own: Any  # those of the solver's own kernel, if it has asked for one
    passed: bool  # that took a pass over the data


class Run(FitState):
    """A fit's loop: evaluate the query, take a step, commit it, and tell whether to stop."""

    def iterate(self, stopping: Stopping) -> IterationEnded | None:
        """Evaluate the query, take a step and commit it; return None, with the same weights, if nothing is finite."""
        began = time.perf_counter()
        if self.ended_without_pass:
            self._look_after_all()
        if self.smoothing is not None and not self.smoothing.begun:
            stages.begin_smoothing(self)
        # The last step of some solvers needs no look at where it ends.
        bound = gradient_bound(self)
        if bound <= stopping.tol:
            return self.finish_without_pass(bound, began, stopping)

        # The first look at the rows may tell that the fit should begin elsewhere, or with other rows: look again then.
        query = self.state.query
        sums, own, passed = self.evaluate(query)
        again = stages.shift_columns(self, sums)
        again |= self.begin_at_mean(sums)
        if again:
            query = self.state.query
            sums, own, _ = self.evaluate(query)
        if self.batched:
            sums = self.as_all(sums)
        self._check_weight(sums)

        # What is not finite is a step too far for solvers that search, a poor sample, or the end.
        with np.errstate(divide="ignore", invalid="ignore"):
            at_query = objective(sums, query, self.penalty, self.smoothed, self.width, own)
        finite = np.isfinite(at_query.loss) & np.isfinite(at_query.gradient).all(axis=(0, 1))
        can_go_back = self.solver.searches and np.isfinite(self.state.loss[0])
        if not finite.any() and not can_go_back:
            carried = 0 < self.since == self.iteration + 1 and query is not self.start and not again
            if not self.samples and not carried:
                self.fault = divergence.not_finite(self, query)
                return None
            self._begin_with_all_rows()
            return self.iterate(stopping)

        # The step.
        if sums.moments is not None:
            self._take_moments(sums)
        with one_blas_thread():
            self.state = self.solver.step(self.state, at_query._replace(loss=np.where(finite, at_query.loss, np.inf)))
        passes_made = passed + again
        share = self.size * passes_made / self.source.shape[0]
        self._note(
            loss=self.state.loss[0],
            grad_norm=self.grad_norm(self.state.gradient, self.state.weights),
            step_size=self.state.step_size[0],
            passes=share,
            rows=sums.rows * passes_made,
            bytes_read=share * self.source.nbytes,
            seconds=time.perf_counter() - began,
        )
        stages.advance(self, sums.rows, stopping.tol)
        return self.end_iteration(stopping)

    def _look_after_all(self) -> None:
        """Take back the last row of the history: more is asked of a fit that had ended without a pass."""
        self.ended_without_pass = False
        for values in self.history.values():
            values.pop()

    def _check_weight(self, sums: Sums) -> None:
        """Refuse rows that have no weight together; of a sample that may be."""
        if not sums.weight <= 0 or self.samples:
            return
        if sums.rows == 0:
            raise NonFiniteError(f"All {self.source.shape[0]:,} rows hold NaN; nan='drop' leaves none to fit.")
        raise InvalidArgumentError("The row weights sum to 0; at least one row needs a positive weight.")

    def _begin_with_all_rows(self) -> None:
        """Begin again: nothing is to be had from this sample, or from where it led."""
        self.samples = []
        self.since = self.iteration + 1
        self.state = self.solver.init(self.start, self.rounding)

    def _take_moments(self, sums: Sums) -> None:
        """Keep the moments that make the tolerance free of units, those that the first solver saw last."""
        assert sums.moments is not None
        if not self.samples and not self.batched:
            self.loss.check_target_mean(sums.moments.targets / sums.weight)
        if self.turn == 0:
            self.moments = sums.moments
            self.weight = sums.weight

    def _note(self, **row: float) -> None:
        """Append an iteration to the history."""
        for name in HISTORY:
            self.history[name].append(row[name])

    def as_all(self, sums: Sums) -> Sums:
        """Return the sums over partitions drawn with the weight that so many rows of all would have.

        With their own weight rows would count more where there are few, or of little weight.
        """
        assert self.partitions is not None
        self.drawn = self.drawn + np.array([self.size, sums.weight])
        each = self.drawn[1] / self.drawn[0]  # as far as is known
        share = len(self.partitions) / self.source.partitions
        weight = float(each * share * self.source.shape[0])
        # Those drawn may have none; not so all of them.
        return sums._replace(weight=weight or float(self.drawn[0] < self.source.shape[0]))

    def begin_at_mean(self, sums: Sums) -> bool:
        """Begin at the targets' mean in place of zeros, where the loss cannot begin just anywhere; True if it does.

        From far below the targets, where the curvature is next to nothing, a step ends far above them.
        """
        p = self.width
        at_zero = self.state.query is self.start and not self.given
        if self.loss.curvature_bound is not None or not at_zero or len(self.start) == p:
            return False
        assert sums.moments is not None
        with np.errstate(divide="ignore", invalid="ignore"):
            constant = self.loss.link(sums.moments.targets / sums.weight) - sums.moments.offsets / sums.weight
        if not np.isfinite(constant).all():
            return False
        start = self.start.copy()
        start[p] = constant[:, None]
        self.state = self.solver.init(start, self.rounding)
        return True

    def end_iteration(self, stopping: Stopping) -> IterationEnded:
        """Decide whether to stop, and commit the iteration."""
        self.reason = self.stop(stopping)
        if self.reason is not None:
            self.check_stamps()
        if self.store is not None:
            self.store.commit(checkpoint(self))
        return self.ended()

    def check_stamps(self) -> None:
        """Raise `DataError` if stored data has been overwritten since the fit began, before its end is committed."""
        if self.stamps is not None:
            self.stamps.check(self.reads, "fit", self.store and self.store.path)

    def ended(self) -> IterationEnded:
        """Return what callbacks hear of the last iteration."""
        row = {name: float(values[-1]) for name, values in self.history.items()}
        return IterationEnded(self.iteration, **row, run=self.name)

    def snapshot(self) -> tuple[Checkpoint, Loss]:
        """Return the fit as it is at the moment."""
        return checkpoint(self), self.loss

    def finish_without_pass(self, bound: float, began: float, stopping: Stopping) -> IterationEnded:
        """Take the last step without a look at where it ends. The state stays before it, should more be asked."""
        self.ended_without_pass = True
        self._note(
            loss=self.state.loss[0] - self.state.promise[0],
            grad_norm=bound,
            step_size=1.0,
            passes=0.0,
            rows=0,
            bytes_read=0.0,
            seconds=time.perf_counter() - began,
        )
        return self.end_iteration(stopping)

    def evaluate(self, query: np.ndarray) -> Evaluated:
        """Return the sums at the query, from a pass over the data or from what earlier passes have found."""
        request = self.solver.request(self.state)._replace(moments=bool(np.isinf(self.state.loss[0])))
        if not self.loss.quadratic:
            return Evaluated(*self.read(query, request), passed=True)
        # A quadratic loss has one curvature, for every query and every solver.
        passed = False
        wanted = request.curvature or self.by_statistics or hasattr(self.state, "curvature")
        if self.quadratic is None and wanted:
            # A resumed fit takes the pass again that it began with, so that the sums have the same bits.
            center = query
            if self.by_statistics or not request.moments:
                center = self.start
            sums, own = self.read(center, request._replace(curvature=EXACT, moments=True))
            self.quadratic = Quadratic(center, sums)
            passed = True
            if center is query:
                return Evaluated(sums, own, passed=True)
        if self.by_statistics:
            assert self.quadratic is not None
            return Evaluated(self.quadratic(query), None, passed)
        sums, own = self.read(query, request._replace(curvature=None))
        if self.quadratic is not None:
            sums = sums._replace(curvature=self.quadratic.sums.curvature)
        return Evaluated(sums, own, passed=True)

    @property
    def by_statistics(self) -> bool:
        """The solver's steps follow from the sums of one pass, see `Quadratic`."""
        return self.loss.quadratic and self.solver.from_statistics and len(self.start) <= GRAM_LIMIT

    def stop(self, stopping: Stopping) -> str | None:
        """Return why to stop now, or None to go on."""
        losses = self.history["loss"][self.since :]
        at_the_end = self.iteration >= stopping.max_iter
        if losses and not self.samples:
            if self.history["grad_norm"][-1] <= stopping.tol and not self.batched:
                return "converged"
            if stopping.target_loss is not None and losses[-1] <= stopping.target_loss and not self.batched:
                return "target_loss"
            if self.state.stalled[0] >= STALLED:
                return "precision" if stages.at_rounding(self) else "stalled"
            if divergence.runs_away(losses):
                return "diverged"
        return "max_iter" if at_the_end else None

    def finish(self, reason: str) -> FitResult:
        """Return the result; a reason that the last commit did not know is committed too."""
        losses = self.history["loss"][self.since :]
        if not self.history["loss"]:
            raise InvalidArgumentError(f"{self.fault or 'There is no step.'} Give smaller initial_weights.")
        if reason == "max_iter" and divergence.has_risen(self, losses):
            reason = "diverged"
        self.check_stamps()
        changed = reason != self.reason
        self.reason = reason
        self.note_unread()
        if reason == "diverged":
            warn(
                divergence.message(self),
                DivergenceWarning,
            )
        if reason == "stalled":
            warn(
                divergence.stall(self),
                StalledWarning,
            )
        last = checkpoint(self)
        if self.store is not None and changed:
            self.store.commit(last)
        return result_of(last, self.loss)

    def note_unread(self) -> None:
        """Say which partitions a batched solver has never read; nothing of theirs has been checked."""
        count = self.source.partitions
        step = self.partitions_of(0)
        read = count
        if step is not None:
            read = min(count, (self.iteration + 1) * len(step))
        if read < count and self.iteration > 0:
            logger.warning(
                "%s read %d of %d partitions; the rows of the others had no part in the fit and have not been checked.",
                self.solver,
                read,
                count,
            )

    def started(self, stopping: Stopping) -> FitStarted:
        """Return what callbacks hear before the first pass."""
        store = None
        if self.store is not None:
            store = str(self.store.path)
        return FitStarted(
            run=self.name,
            data=repr(self.source),
            loss=repr(self.loss),
            penalty=repr(self.penalty) if self.penalised else "none",
            solver=repr(self.solver),
            max_iter=stopping.max_iter,
            resumed_from=self.resumed_from,
            rows=self.source.shape[0],
            nbytes=self.source.nbytes,
            store=store,
            tol=0.0 if self.batched else stopping.tol,
            features=self.source.shape[1],
            outputs=self.source.outputs or 1,
        )
