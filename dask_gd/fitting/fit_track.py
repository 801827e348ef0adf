"""The track of a fit: how its query is evaluated, and what a step does beside the solver's."""

from __future__ import annotations

import time

import numpy as np

from ..errors import InvalidArgumentError, NonFiniteError
from ..kernels.base import EXACT, GRAM_LIMIT, Sums
from ..kernels.grouped import GroupedSums
from ..solvers.objective import Quadratic
from ..store.content import HISTORY
from . import correction, divergence, separation, stages
from .correction import Extra
from .fit_state import FitState
from .forecast import gradient_bound
from .thinning import thinned
from .track import Evaluated, Stopping


class FitTrack(FitState):
    """The track of a fit, which begins on samples where it can, and ends without a look where that is safe."""

    #: When the present step began.
    began = 0.0
    #: The gradient's bound at the query, infinite where nothing is foretold.
    bound = np.inf
    #: The last round has led to a step, and not only away from a query where nothing is finite.
    has_stepped = False

    # Find the sums at the query.

    def evaluate(self, stopping: Stopping) -> Evaluated | None:
        """Return the sums at the query, or None where the step there is the last and needs no look."""
        self.began = time.perf_counter()
        self.has_stepped = False
        if self.ended_without_pass:
            self._look_after_all()
        if self.smoothing is not None and not self.smoothing.begun:
            stages.begin_smoothing(self)
        if self.iteration < 0 and self.engine.left_out is None and separation.may_separate(self):
            separation.leave_out_separated(self)
        # The last step of some solvers needs no look at where it ends.
        self.bound = gradient_bound(self)
        if self.bound <= stopping.tol:
            return None

        # The first look at the rows may tell that the fit should begin elsewhere, or with other rows: look again then.
        # A look that only tells where to begin needs no curvature.
        is_for_mean = self._may_begin_at_mean() and self._has_link()
        found = self._sums_at_query(has_curvature=not is_for_mean)
        restarted = stages.shift_columns(self, found.sums)
        restarted |= self._begin_at_mean(found.sums)
        if restarted or is_for_mean:
            again = self._sums_at_query()
            found = again._replace(passes=found.passes + 1, restarted=True)
        if self.batched:
            found = found._replace(sums=self._as_all(found.sums))
        self._check_weight(found.sums)
        return found

    def _look_after_all(self) -> None:
        """Take back the last row of the history: more is asked of a fit that had ended without a pass."""
        self.ended_without_pass = False
        for values in self.history.values():
            values.pop()
        self.grad_norm = self.history["grad_norm"][-1]

    def _sums_at_query(self, has_curvature: bool = True) -> Evaluated:
        """Return the sums at the query, from a pass over the data or from what earlier passes have found."""
        query = self.state.query
        is_first = bool(np.isinf(self.state.loss[0]))
        request = self.solver.request(self.state)._replace(moments=is_first)
        if not self.loss.quadratic and not has_curvature:
            sums, own = self.read(query, request._replace(curvature=None))
            return Evaluated(sums, own, passes=1)
        if not self.loss.quadratic:
            request = correction.request_for(self, thinned(self, request))
            self.is_rough = request.is_rough
            sums, own = self.read(query, request)
            if isinstance(own, GroupedSums):
                return Evaluated(sums, passes=1, groups=own.groups)
            return Evaluated(sums, own, passes=1)

        # A quadratic loss has one curvature, for every query and every solver.
        passes = 0
        wanted = request.curvature or self.by_statistics or hasattr(self.state, "curvature")
        if self.quadratic is None and wanted:
            # A resumed fit takes the pass again that it began with, so that the sums have the same bits.
            center = query
            if self.by_statistics or not request.moments:
                center = self.start
            sums, own = self.read(center, request._replace(curvature=EXACT, moments=True))
            self.quadratic = Quadratic(center, sums)
            passes = 1
            if center is query:
                return Evaluated(sums, own, passes=1)
        if self.by_statistics:
            assert self.quadratic is not None
            return Evaluated(self.quadratic(query), passes=passes)

        # The loss and the gradient are those of the rows, which lose no digits.
        sums, own = self.read(query, request._replace(curvature=None))
        if self.quadratic is not None:
            sums = sums._replace(curvature=self.quadratic.sums.curvature)
        return Evaluated(sums, own, passes=1)

    @property
    def by_statistics(self) -> bool:
        """Whether the solver's steps follow from the sums of one pass, see `Quadratic`."""
        return self.loss.quadratic and self.solver.from_statistics and len(self.start) <= GRAM_LIMIT

    def _may_begin_at_mean(self) -> bool:
        """Return whether the query is zero, where the loss cannot begin just anywhere."""
        if self.loss.curvature_bound is not None or len(self.start) == self.engine.width:
            return False
        return self.state.query is self.start and not self.given

    def _has_link(self) -> bool:
        """Return whether the loss knows the prediction of a mean, of a probability too."""
        with np.errstate(all="ignore"):
            return bool(np.isfinite(self.loss.link(np.full(1, 0.5))).all())

    def _begin_at_mean(self, sums: Sums) -> bool:
        """Begin at the targets' mean in place of zeros, where the loss cannot begin just anywhere; True if it does.

        From far below the targets, where the curvature is next to nothing, a step ends far above them.
        """
        if not self._may_begin_at_mean():
            return False
        p = self.engine.width
        assert sums.moments is not None
        with np.errstate(divide="ignore", invalid="ignore"):
            constant = self.loss.link(sums.moments.targets / sums.weight) - sums.moments.offsets / sums.weight
        if not np.isfinite(constant).all():
            return False
        start = self.start.copy()
        start[p] = constant[:, None]
        self.state = self.solver.init(start, self.engine.rounding)
        return True

    def _as_all(self, sums: Sums) -> Sums:
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

    def _check_weight(self, sums: Sums) -> None:
        """Refuse rows that have no weight together; of a sample that may be."""
        if not sums.weight <= 0 or self.samples:
            return
        if sums.rows == 0:
            raise NonFiniteError(f"All {self.source.shape[0]:,} rows hold NaN; nan='drop' leaves none to fit.")
        raise InvalidArgumentError("The row weights sum to 0; at least one row needs a positive weight.")

    # Take the step.

    def advance(self, found: Evaluated | None, stopping: Stopping) -> None:
        """Take a step from the sums at the query, or without them, and set the reason if it was the last.

        Where nothing is finite there, the fit begins again on all rows, or ends with the weights that it has.
        """
        if found is None:
            self._finish_without_pass()
            self.reason = self.reason_to_stop(stopping)
            return

        # What is not finite is a step too far for solvers that search, a poor sample, or the end.
        at_query, finite = self.objective_at(found)
        can_go_back = self.solver.searches and np.isfinite(self.state.loss[0])
        if not finite.any() and not can_go_back:
            self._leave(found)
            return

        # The step, from the shares of all rows that it took.
        if found.sums.moments is not None:
            self._take_moments(found.sums)
        share = self.size * found.passes / self.source.shape[0]
        full_passes = 0.0
        if self.size == self.source.shape[0]:
            full_passes = float(found.passes)
        query = self.state.query
        self.step(at_query, finite)
        norm = self.norm(self.state.gradient, self.state.weights)
        extra = Extra()
        if not self.samples and norm > stopping.tol:
            extra = correction.correct(self, query, at_query, found.groups, stopping.tol)
        if self.is_rough and (self.correction is None or self.correction.iteration != self.iteration + 1):
            # Nothing is foretold from a curvature of six digits, but where a correction has taken these into account.
            self.state = self.state._replace(own_curvature=np.array(0.0), order=np.array(0.0))
        self._note(
            loss=self.state.loss[0],
            grad_norm=norm,
            step_size=self.state.step_size[0],
            passes=share + extra.passes,
            rows=found.sums.rows * found.passes + extra.rows,
            bytes_read=(share + extra.passes) * self.source.nbytes,
            full_passes=full_passes,
        )
        stages.advance(self, found, query, stopping.tol)
        self.reason = self.reason_to_stop(stopping)

    def _finish_without_pass(self) -> None:
        """Take the last step without a look at where it ends. The state stays before it, should more be asked."""
        self.ended_without_pass = True
        self._note(
            loss=self.state.loss[0] - self.state.promise[0],
            grad_norm=self.bound,
            step_size=1.0,
            passes=0.0,
            rows=0,
            bytes_read=0.0,
            full_passes=0.0,
        )

    def _leave(self, found: Evaluated) -> None:
        """Leave a query where nothing is finite: for all rows if that may help, else end there."""
        query = self.state.query
        is_carried = 0 < self.since == self.iteration + 1 and query is not self.start and not found.restarted
        if self.samples or is_carried:
            # Nothing is to be had from this sample, or from where it led.
            self.samples = []
            self.correcting = None
            self.correction = None
            self.since = self.iteration + 1
            self.state = self.solver.init(self.start, self.engine.rounding)
            return
        self.fault = divergence.not_finite(self, query)
        self.reason = "diverged"

    def _take_moments(self, sums: Sums) -> None:
        """Keep the moments that make the tolerance free of units, those that the first solver saw last.

        The slopes are the smallest that were seen: where a sample has led astray they are large, and beside them any
        gradient would be small.
        """
        assert sums.moments is not None
        if not self.samples and not self.batched:
            self.loss.check_target_mean(sums.moments.targets / sums.weight)
        if self.turn == 0:
            moments = sums.moments
            before = self.engine.moments
            if before is not None and self.engine.weight > 0 and sums.weight > 0:
                slopes = before.slopes * (sums.weight / self.engine.weight)
                smaller = np.minimum(moments.slopes, np.where(slopes > 0, slopes, np.inf))
                moments = moments._replace(slopes=smaller)
            self.engine.moments = moments
            self.engine.weight = sums.weight

    def _note(self, **row: float) -> None:
        """Append a step to the history, and the seconds that it has taken."""
        self.has_stepped = True
        row["seconds"] = time.perf_counter() - self.began
        for name in HISTORY:
            self.history[name].append(row[name])
        self.grad_norm = self.history["grad_norm"][-1]
