"""One candidate of a search on all rows but a fold's: a solver and where it has come to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import StalledWarning, warn
from ..kernels.base import Moments, Sums
from ..model.losses import Loss
from ..model.penalties import Penalty
from ..solvers import STALLED, Solver
from ..solvers.objective import gradient_cosine, objective
from .divergence import runs_away
from .forecast import Unit, is_rounding, rounding_bound

#: More learning rates than this are halved now and then, down to half of this number.
MANY_RATES = 8
#: Steps after which they are halved for the first time; then after twice, four times, ... as many.
RUNG = 8

#: What a trial that sees every row has for a fold.
ALL = -2

#: A gradient over its scale that no score tells from 0: a tenth of the default tolerance.
UNTOLD = 1e-7


@dataclass
class Trial:
    """A solver of one candidate on all rows but a fold's; ``state.query`` is what the next pass is to evaluate."""

    candidate: int
    fold: int
    loss: Loss
    penalty: Penalty
    solver: Solver
    state: Any
    #: Features; the moments and the weight of all rows, which make the tolerance free of units; and the weight of those
    #: that it sees.
    width: int
    moments: Moments
    total: float
    weight: float
    #: How exact sums over the rows are.
    unit: Unit
    reason: str | None = None
    #: Sums of loss and score over the rows held out, at the weights.
    holdout: np.ndarray = field(default_factory=lambda: np.full(2, np.nan))
    #: After each step, and at the start: the objective, and the sum of the loss over the rows held out.
    losses: list[float] = field(default_factory=list)
    holdout_losses: list[float] = field(default_factory=list)
    grad_norm: float = np.inf

    @property
    def done(self) -> bool:
        return self.reason is not None

    @property
    def weights(self) -> np.ndarray:
        """The parameters, (q, k)."""
        return self.state.weights[:, :, 0]

    @property
    def n_iter(self) -> int:
        return max(0, len(self.losses) - 1)

    def advance(
        self,
        sums: Sums,
        holdout: np.ndarray,
        max_iter: int,
        tol: float,
    ) -> None:
        """Take a step from the sums at its query over the rows that it sees.

        ``holdout`` (2, m) are the sums of loss and score over the others.
        """
        query = self.state.query
        values = objective(sums, query, self.penalty, self.loss, self.width)
        # The basis of ill-conditioned least squares takes passes of its own.
        values = values._replace(quadratic=False)

        # End where no value is finite, but for a line search, which can take a shorter step.
        finite = np.isfinite(values.gradient).all(axis=(0, 1))
        finite &= np.isfinite(values.loss)
        can_shorten = self.solver.searches and self.losses
        if not finite.any() and not can_shorten:
            self.reason = "diverged"
            return

        # End at a query that is a minimum; else have the solver choose among the finite values.
        may_end = finite.all() and query.shape[2] == 1
        if may_end and self.ends(values.loss, values.gradient, holdout[:, 0], tol):
            return
        loss = np.where(finite, values.loss, np.inf)
        self.state = self.solver.step(self.state, values._replace(loss=loss))

        # Loss and score are those at the new weights, if the solver has accepted a part of the query.
        is_accepted = (query == self.state.weights).all(axis=(0, 1))
        accepted = np.flatnonzero(is_accepted)
        if accepted.size:
            self.holdout = holdout[:, accepted[0]]
        self.grad_norm = self.norm(self.state.gradient, self.state.weights)
        self.record_losses()
        if self.grad_norm <= tol:
            self.reason = "converged"
        else:
            self.reason = self.reason_to_stop(max_iter)

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

    def norm(self, gradient: np.ndarray, weights: np.ndarray | None = None) -> float:
        """Return the norm of a gradient (q, k, 1), at these weights where the penalty is nonsmooth there.

        See `gradient_cosine`.
        """
        at = None
        if weights is not None:
            at = weights[:, :, 0]
        return gradient_cosine(
            gradient[:, :, 0],
            moments=self.moments,
            weight=self.total,
            p=self.width,
            weights=at,
            penalty=self.penalty,
        )

    def reason_to_stop(self, max_iter: int) -> str | None:
        """Return why to stop short of the tolerance, or None to go on."""
        if self.state.stalled[0] >= STALLED:
            bound = rounding_bound(
                self.state,
                moments=self.moments,
                weight=self.total,
                unit=self.unit,
                loss=self.loss,
            )
            if is_rounding(self.grad_norm, self.norm(bound)):
                return "precision"
            return "stalled"
        if runs_away(self.losses):
            return "diverged"
        if self.n_iter >= max_iter:
            return "max_iter"
        return None


def halve(trials: list[Trial], weights: list[float]) -> None:
    """Drop the worse half of many learning rates now and then (successive halving; Jamieson and Talwalkar, 2016).

    Those remain that have the least loss on the rows held out, of which folds have these weights, after `RUNG` steps,
    twice that, four times, ...
    """
    # Only where there are many rates, and when the number of steps is a power of two times `RUNG`.
    candidates = {trial.candidate for trial in trials}
    left = [trial for trial in trials if not trial.done]
    running = sorted({trial.candidate for trial in left})
    steps = max((trial.n_iter for trial in left), default=0)
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
        for trial in trials:
            if trial.candidate == c and trial.fold != ALL:
                # A trial that diverged at its start has no loss.
                last = trial.holdout_losses[-1] if trial.holdout_losses else np.inf
                means.append(last / weights[trial.fold])
        mean_loss[c] = float(np.mean(means))

    # The better half stays, and no fewer than half of what counts as many.
    half = -(-len(running) // 2)
    kept = max(MANY_RATES // 2, half)
    worse = sorted(running, key=lambda c: mean_loss[c])[kept:]
    for trial in left:
        if trial.candidate in worse:
            trial.reason = "dropped"


def warn_of_stalled(trials: list[Trial]) -> None:
    """Warn of trials that stalled so far short of a minimum that their scores may tell."""
    stalled = [trial for trial in trials if trial.reason == "stalled" and trial.grad_norm > UNTOLD]
    if stalled:
        norm = max(trial.grad_norm for trial in stalled)
        warn(
            f"{len(stalled)} of {len(trials)} fits stalled: no step lowers the loss any more, and yet the gradient is "
            f"up to {norm:.1e} of its scale. Their scores may be far from those of the minimum. Scale and centre the "
            "features, or try another solver.",
            StalledWarning,
        )
