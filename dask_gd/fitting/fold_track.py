"""The track of one candidate of a search on all rows but a fold's."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import StalledWarning, warn
from ..model.penalties import Penalty
from ..solvers import Solver
from ..solvers.newton.corrected import curved
from ..solvers.vectors import dot
from .correction import Correction
from .forecast import gradient_bound
from .track import Evaluated, Stopping, Track

#: More learning rates than this are halved now and then, down to half of this number.
MANY_RATES = 8
#: Steps after which they are halved for the first time; then after twice, four times, ... as many.
RUNG = 8

#: What a track that sees every row has for a fold.
ALL = -2

#: The loss of the rows held out is foretold where its second derivatives change it by no more than this share: the
#: third ones, and what these may be wrong by, are then rounding.
FORETOLD = 1e-9

#: A gradient over its scale that no score tells from 0: a tenth of the default tolerance.
UNTOLD = 1e-7


class FoldTrack(Track):
    """A solver of one candidate on all rows but a fold's."""

    def __init__(
        self,
        engine: Any,
        penalty: Penalty,
        solver: Solver,
        start: np.ndarray,
        candidate: int,
        fold: int,
        weight: float,
    ):
        super().__init__(engine, penalty, (solver,), start)
        self.engine: Any = engine
        self.history["grad_norm"] = []
        self.candidate = candidate
        self.fold = fold
        #: Of the rows that it sees.
        self.weight = weight
        #: The sums of loss and score over the rows held out, at the weights; and of the loss after each step.
        self.holdout = np.full(2, np.nan)
        self.holdout_losses: list[float] = []
        #: The gradient of that loss at the weights, and its curvature near there, if they are known.
        self.holdout_slope = np.full(start.shape, np.nan)
        self.holdout_curvature: np.ndarray | None = None
        #: What a sample has told of the first step.
        self.correction: Correction | None = None
        #: Whether its curvature has been computed again, for all folds where the fit to all rows is: what such steps
        #: leave depends on their direction, and nothing is foretold of them.
        self.is_borrowed = False
        #: A bound of what is wrong with the gradient at the weights, as a look at another track's has told it.
        self.blur = 0.0
        #: A bound of the gradient at the query, infinite where nothing is foretold.
        self.bound = np.inf
        #: The score that a pass after the fits has found, and a bound of its error; see `score_summaries`.
        self.score = np.nan
        self.score_error = 0.0

    @property
    def weights(self) -> np.ndarray:
        """The parameters, (q, k)."""
        return self.state.weights[:, :, 0]

    @property
    def n_iter(self) -> int:
        """The steps taken."""
        return max(0, self.iteration)

    def foresees_end(self, tol: float) -> bool:
        """Return whether the step to the query is the last, and needs no look: a sample has told of where it ends."""
        self.bound = np.inf
        if self.correction is not None and self.correction.is_told and not self.is_borrowed:
            self.bound = gradient_bound(self) + self.blur
        return self.bound <= tol

    def advance(self, found: Evaluated | None, stopping: Stopping) -> None:
        """Take a step from the sums at the query over the rows that it sees, and set the reason if it was the last.

        Without sums it is taken unseen, and is the last.
        """
        if found is None:
            self._end(self.state.loss - self.state.promise, self.bound, self._foretold_holdout())
            return
        assert found.holdout is not None
        query = self.state.query
        at_query, finite = self.objective_at(found)
        # The basis of ill-conditioned least squares takes passes of its own.
        at_query = at_query._replace(quadratic=False)

        # End where no value is finite, but for a line search, which can take a shorter step.
        can_shorten = self.solver.searches and self.losses
        if not finite.any() and not can_shorten:
            self.reason = "diverged"
            return

        # End at a query that is a minimum; else have the solver choose among the finite values.
        may_end = finite.all() and query.shape[2] == 1 and not self.batched
        if may_end and self.ends(at_query.loss, at_query.gradient, found.holdout[:, 0], stopping.tol):
            return
        # The first pass has the curvature of each fit, and later ones that of the fits to all rows.
        if self.iteration >= 0 and found.sums.curvature is not None:
            self.is_borrowed = True
        self.step(at_query, finite)

        # Loss and score are those at the new weights, if the solver has accepted a part of the query.
        is_accepted = (query == self.state.weights).all(axis=(0, 1))
        accepted = np.flatnonzero(is_accepted)
        if accepted.size:
            self.holdout = found.holdout[:, accepted[0]]
            if found.holdout_slope is not None:
                self.holdout_slope = found.holdout_slope[:, :, accepted[:1]]
        self.grad_norm = self.norm(self.state.gradient, self.state.weights) + self.blur
        self.record()
        self.reason = self.reason_to_stop(stopping)

    def foretells_holdout(self, has_score: bool) -> bool:
        """Return whether nothing of the rows held out takes a look at the query."""
        if self.fold == ALL:
            return True
        return not has_score and bool(np.isfinite(self._foretold_holdout()[0]))

    def _foretold_holdout(self) -> np.ndarray:
        """Return the sums of loss and score over the rows held out at the query, NaN where they take a look."""
        holdout = np.full(2, np.nan)
        move = self.state.query - self.state.weights
        if self.fold == ALL:
            holdout[0] = 0.0
        elif self.tells_holdout(move):
            assert self.holdout_curvature is not None
            change = curved(self.holdout_curvature, move)
            holdout[0] = self.holdout[0] + dot(move, self.holdout_slope + 0.5 * change)[0]
        return holdout

    def tells_holdout(self, move: np.ndarray) -> bool:
        """Return whether the loss of the rows held out is known after a move (q, k, 1), from its derivatives before."""
        if self.fold == ALL:
            return True
        if self.holdout_curvature is None:
            return False
        own = self.engine.folds[self.fold]
        half = dot(move, curved(self.holdout_curvature, move))[0] / 2
        # As large as the curvature is by now, if it has grown since.
        size = own.weight * dot(move, curved(self.state.curvature, move))[0] / 2
        return bool(max(half, size) <= FORETOLD * abs(own.loss[0]))

    def ends(
        self,
        loss: np.ndarray,
        gradient: np.ndarray,
        holdout: np.ndarray,
        tol: float,
    ) -> bool:
        """End at the query if the gradient (q, k, 1) of the objective is within the tolerance; return whether it is.

        The solver is not asked for a step then.
        """
        norm = self.norm(gradient, self.state.query) + self.blur
        if not norm <= tol:
            return False
        self.state = self.state._replace(gradient=gradient)
        self._end(loss, norm, holdout)
        return True

    def _end(self, loss: np.ndarray, norm: float, holdout: np.ndarray) -> None:
        """End at the query, as converged."""
        self.state = self.state._replace(weights=self.state.query, loss=loss)
        self.holdout = holdout
        self.grad_norm = norm
        self.reason = "converged"
        self.record()

    def record(self) -> None:
        """Append the present losses, of the rows that it sees and of those held out, and the gradient's size."""
        self.losses.append(float(self.state.loss[0]))
        self.history["grad_norm"].append(float(self.grad_norm))
        self.holdout_losses.append(float(self.holdout[0]))

    def lacks_holdout(self, has_score: bool) -> bool:
        """Return whether no pass has summed the loss, or the score if there is one, of the rows held out."""
        if self.fold == ALL or self.reason == "diverged":
            return False
        return bool(np.isnan(self.holdout[: 1 + has_score]).any())

    def take_holdout(self, holdout: np.ndarray) -> None:
        """Take the sums of loss and score over the rows held out at the weights, from a pass after the fits."""
        self.holdout = holdout
        if self.holdout_losses and np.isnan(self.holdout_losses[-1]):
            self.holdout_losses[-1] = float(holdout[0])


def halve(tracks: list[FoldTrack], weights: list[float]) -> None:
    """Drop the worse half of many learning rates now and then (successive halving; Jamieson and Talwalkar, 2016).

    Those remain that have the least loss on the rows held out, of which folds have these weights, after `RUNG` steps,
    twice that, four times, ...
    """
    # Only where there are many rates, and when the number of steps is a power of two times `RUNG`.
    candidates = {track.candidate for track in tracks}
    left = [track for track in tracks if track.reason is None]
    running = sorted({track.candidate for track in left})
    steps = max((track.n_iter for track in left), default=0)
    rung = steps // RUNG
    is_power_of_two = rung > 0 and not rung & (rung - 1)
    if len(candidates) <= MANY_RATES or len(running) <= MANY_RATES // 2:
        return
    if steps % RUNG or not is_power_of_two:
        return

    # The mean loss on the rows held out, the mean over folds.
    mean_loss: dict[int, float] = {}
    for c in running:
        means = []
        for track in tracks:
            if track.candidate == c and track.fold != ALL:
                # A track that diverged at its start has no loss.
                last = track.holdout_losses[-1] if track.holdout_losses else np.inf
                means.append(last / weights[track.fold])
        mean_loss[c] = float(np.mean(means))

    # The better half stays, and no fewer than half of what counts as many.
    half = -(-len(running) // 2)
    kept = max(MANY_RATES // 2, half)
    worse = sorted(running, key=lambda c: mean_loss[c])[kept:]
    for track in left:
        if track.candidate in worse:
            track.reason = "dropped"


def warn_of_stalled(tracks: list[FoldTrack]) -> None:
    """Warn of tracks that stalled so far short of a minimum that their scores may tell."""
    stalled = [track for track in tracks if track.reason == "stalled" and track.grad_norm > UNTOLD]
    if stalled:
        norm = max(track.grad_norm for track in stalled)
        warn(
            f"{len(stalled)} of {len(tracks)} fits stalled: no step lowers the loss any more, and yet the gradient is "
            f"up to {norm:.1e} of its scale. Their scores may be far from those of the minimum. Scale and centre the "
            "features, or try another solver.",
            StalledWarning,
        )
