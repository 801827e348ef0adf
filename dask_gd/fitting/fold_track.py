"""The track of one candidate of a search on all rows but a fold's."""

from __future__ import annotations

import numpy as np

from ..errors import StalledWarning, warn
from ..model.penalties import Penalty
from ..solvers import Solver
from .engine import Engine
from .track import Evaluated, Stopping, Track

#: More learning rates than this are halved now and then, down to half of this number.
MANY_RATES = 8
#: Steps after which they are halved for the first time; then after twice, four times, ... as many.
RUNG = 8

#: What a track that sees every row has for a fold.
ALL = -2

#: A gradient over its scale that no score tells from 0: a tenth of the default tolerance.
UNTOLD = 1e-7


class FoldTrack(Track):
    """A solver of one candidate on all rows but a fold's."""

    def __init__(
        self,
        engine: Engine,
        penalty: Penalty,
        solver: Solver,
        start: np.ndarray,
        candidate: int,
        fold: int,
        weight: float,
    ):
        super().__init__(engine, penalty, (solver,), start)
        self.candidate = candidate
        self.fold = fold
        #: Of the rows that it sees.
        self.weight = weight
        #: The sums of loss and score over the rows held out, at the weights; and of the loss after each step.
        self.holdout = np.full(2, np.nan)
        self.holdout_losses: list[float] = []
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

    def advance(self, found: Evaluated, stopping: Stopping) -> None:
        """Take a step from the sums at the query over the rows that it sees, and set the reason if it was the last."""
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
        self.step(at_query, finite)

        # Loss and score are those at the new weights, if the solver has accepted a part of the query.
        is_accepted = (query == self.state.weights).all(axis=(0, 1))
        accepted = np.flatnonzero(is_accepted)
        if accepted.size:
            self.holdout = found.holdout[:, accepted[0]]
        self.grad_norm = self.norm(self.state.gradient, self.state.weights)
        self.record_losses()
        self.reason = self.reason_to_stop(stopping)

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
        norm = self.norm(gradient, self.state.query)
        if not norm <= tol:
            return False
        self.state = self.state._replace(
            weights=self.state.query,
            loss=loss,
            gradient=gradient,
        )
        self.holdout = holdout
        self.grad_norm = norm
        self.reason = "converged"
        self.record_losses()
        return True

    def record_losses(self) -> None:
        """Append the present losses, of the rows that it sees and of those held out."""
        self.losses.append(float(self.state.loss[0]))
        self.holdout_losses.append(float(self.holdout[0]))


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
