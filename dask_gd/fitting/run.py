"""One fit while it runs: its state, how a query is evaluated, and when to stop.

The loop itself, which calls this, is in `fit`; what is committed is in `checkpoint`.
"""

from __future__ import annotations

import logging
import time
import warnings
from typing import Any, NamedTuple

import numpy as np

from ..errors import DivergenceWarning, InvalidArgumentError, NonFiniteError, StalledWarning
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


class Evaluated(NamedTuple):
    """The sums at a query, and how they were found."""

    sums: Sums
    own: Any  # those of the solver's own kernel, if it has asked for one
    passed: bool  # that took a pass over the data


class Run(FitState):
    """A fit's loop: evaluate the query, take a step, commit it, and tell whether to stop."""

    def iterate(self, *stop: Any) -> IterationEnded | None:
        """One evaluation of the query, one step, one commit; None, and the same weights, if nothing is finite."""
        began = time.perf_counter()
        if self.ended_without_pass:
            # More is asked of a finished run: have a look after all.
            self.ended_without_pass = False
            for values in self.history.values():
                values.pop()
        if self.smoothing is not None and not self.smoothing.begun:
            stages.begin_smoothing(self)
        if (foretold := gradient_bound(self)) <= stop[1]:
            return self.finish_without_pass(foretold, began, *stop)
        query = self.state.query
        sums, own, passed = self.evaluate(query)
        again = stages.shift_columns(self, sums)
        again |= self.begin_at_mean(sums)
        if again:
            query = self.state.query
            sums, own, _ = self.evaluate(query)
        if self.batched:
            sums = self.as_all(sums)
        if sums.weight <= 0 and not self.samples:
            if sums.rows == 0:
                raise NonFiniteError(f"All {self.source.shape[0]:,} rows hold NaN; nan='drop' leaves none to fit.")
            raise InvalidArgumentError("The row weights sum to 0; at least one row needs a positive weight.")
        with np.errstate(divide="ignore", invalid="ignore"):
            seen = objective(sums, query, self.penalty, self.smoothed, self.width, own)
        finite = np.isfinite(seen.loss) & np.isfinite(seen.gradient).all(axis=(0, 1))
        # A solver that searches takes the step back, if it has come from somewhere.
        lost = not finite.any() and not (self.solver.searches and np.isfinite(self.state.loss[0]))
        carried = 0 < self.since == self.iteration + 1 and query is not self.start and not again
        if lost and (self.samples or carried):
            # Nothing to be had from this sample, or where it led: begin again, with all rows.
            self.samples, self.since = [], self.iteration + 1
            self.state = self.solver.init(self.start, self.rounding)
            return self.iterate(*stop)
        if lost:
            self.fault = divergence.not_finite(self, query)
            return None
        if sums.moments is not None:
            if not self.samples and not self.batched:
                self.loss.check_target_mean(sums.moments.targets / sums.weight)
            if self.turn == 0:
                self.moments = sums.moments
                self.weight = sums.weight
        with one_blas_thread():
            self.state = self.solver.step(self.state, seen._replace(loss=np.where(finite, seen.loss, np.inf)))
        share = self.size * (passed + again) / self.source.shape[0]
        read = sums.rows * (passed + again), share * self.source.nbytes
        row = (
            self.state.loss[0],
            self.grad_norm(self.state.gradient, self.state.weights),
            self.state.step_size[0],
            share,
            *read,
        )
        for name, value in zip(HISTORY, (*row, time.perf_counter() - began), strict=True):
            self.history[name].append(value)
        stages.advance(self, sums.rows, stop[1])
        return self.end_iteration(*stop)

    def as_all(self, sums: Sums) -> Sums:
        """Of the partitions drawn, with the weight that so many have of all, not their own: else rows would count more
        where there are few, or of little weight.
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

    def end_iteration(self, *stop: Any) -> IterationEnded:
        self.reason = self.stop(*stop)
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
        """What callbacks hear of the last iteration."""
        row = {name: float(values[-1]) for name, values in self.history.items()}
        return IterationEnded(self.iteration, **row, run=self.name)

    def snapshot(self) -> tuple[Checkpoint, Loss]:
        """Return the fit as it is at the moment."""
        return checkpoint(self), self.loss

    def finish_without_pass(self, foretold: float, began: float, *stop: Any) -> IterationEnded:
        """The last step without a pass to look where it ends. The state stays before it, should more be asked."""
        self.ended_without_pass = True
        row = (self.state.loss[0] - self.state.promise[0], foretold, 1.0, 0.0, 0, 0.0, time.perf_counter() - began)
        for name, value in zip(HISTORY, row, strict=True):
            self.history[name].append(value)
        return self.end_iteration(*stop)

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
        return self.loss.quadratic and self.solver.from_statistics and len(self.start) <= GRAM_LIMIT

    def stop(self, max_iter: int, tol: float, target_loss: float | None) -> str | None:
        """Why to stop now, or None to go on."""
        losses = self.history["loss"][self.since :]
        if self.samples or not losses:
            return "max_iter" if self.iteration >= max_iter else None
        if self.history["grad_norm"][-1] <= tol and not self.batched:
            return "converged"
        if target_loss is not None and losses[-1] <= target_loss and not self.batched:
            return "target_loss"
        if self.state.stalled[0] >= STALLED:
            return "precision" if stages.at_rounding(self) else "stalled"
        if divergence.runs_away(losses):
            return "diverged"
        return "max_iter" if self.iteration >= max_iter else None

    def finish(self, reason: str) -> FitResult:
        """The result; a reason that the last commit did not know is committed too."""
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
            warnings.warn(divergence.message(self), DivergenceWarning, stacklevel=3)
        if reason == "stalled":
            warnings.warn(divergence.stall(self), StalledWarning, stacklevel=3)
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

    def started(self, max_iter: int, tol: float) -> FitStarted:
        names = repr(self.loss), repr(self.penalty) if self.penalised else "none", repr(self.solver)
        where = None
        if self.store is not None:
            where = str(self.store.path)
        size = (self.source.shape[0], self.source.nbytes)
        shape = (self.source.shape[1], self.source.outputs or 1)
        return FitStarted(self.name, repr(self.source), *names, max_iter, self.resumed_from, *size, where, tol, *shape)
