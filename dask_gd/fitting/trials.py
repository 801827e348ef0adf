"""One candidate of a search on all rows but a fold's: a solver and where it has come to."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import StalledWarning
from ..kernels.base import Moments, Sums
from ..model.losses import Loss
from ..model.penalties import Penalty
from ..solvers import STALLED, Solver
from ..solvers.objective import gradient_cosine, objective
from .divergence import runs_away
from .forecast import Unit, is_rounding, rounding_bound

#: More learning rates than this are halved after so many steps, and after twice, four times, ... as many, down to half
#: of it.
MANY_RATES, RUNG = 8, 8

#: What a trial that sees every row has for a fold.
ALL = -2


@dataclass
class Trial:
    """``state.query`` is what the next pass is to evaluate for it."""

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
    losses: list[float] = field(default_factory=list)
    held_losses: list[float] = field(default_factory=list)
    grad_norm: float = np.inf

    @property
    def done(self) -> bool:
        return self.reason is not None

    @property
    def weights(self) -> np.ndarray:
        """(q, k)."""
        return self.state.weights[:, :, 0]

    @property
    def n_iter(self) -> int:
        return max(0, len(self.losses) - 1)

    def tell(self, sums: Sums, holdout: np.ndarray, max_iter: int, tol: float) -> None:
        """Take a step from the sums at its query over the rows that it sees.

        ``holdout`` (2, m) are the sums of loss and score over the others.
        """
        query = self.state.query
        # The basis of ill-conditioned least squares takes passes of its own.
        seen = objective(sums, query, self.penalty, self.loss, self.width)._replace(quadratic=False)
        finite = np.isfinite(seen.loss) & np.isfinite(seen.gradient).all(axis=(0, 1))
        if not finite.any() and not (self.solver.searches and self.losses):
            self.reason = "diverged"
            return
        if finite.all() and query.shape[2] == 1 and self.ends(seen.loss, seen.gradient, holdout[:, 0], tol):
            return
        self.state = self.solver.step(self.state, seen._replace(loss=np.where(finite, seen.loss, np.inf)))
        taken = np.flatnonzero((query == self.state.weights).all(axis=(0, 1)))
        if taken.size:
            self.holdout = holdout[:, taken[0]]
        self.grad_norm = self.norm(self.state.gradient, self.state.weights)
        self.note()
        if self.grad_norm <= tol:
            self.reason = "converged"
        else:
            self.reason = self.stop(max_iter)

    def ends(self, loss: np.ndarray, gradient: np.ndarray, holdout: np.ndarray, tol: float) -> bool:
        """At the query, if the gradient (q, k, 1) of the objective is within the tolerance; nobody asks for a step."""
        norm = self.norm(gradient, self.state.query)
        if norm > tol:
            return False
        self.state = self.state._replace(weights=self.state.query, loss=loss, gradient=gradient)
        self.holdout = holdout
        self.grad_norm = norm
        self.reason = "converged"
        self.note()
        return True

    def note(self) -> None:
        self.losses.append(float(self.state.loss[0]))
        self.held_losses.append(float(self.holdout[0]))

    def norm(self, gradient: np.ndarray, weights: np.ndarray | None = None) -> float:
        """Of the gradient (q, k, 1), at these weights where the penalty bends there, see `gradient_cosine`."""
        at = None
        if weights is not None:
            at = weights[:, :, 0]
        return gradient_cosine(gradient[:, :, 0], self.moments, self.total, self.width, at, self.penalty)

    def stop(self, max_iter: int) -> str | None:
        """Why to stop short of the tolerance, or None to go on."""
        if self.state.stalled[0] >= STALLED:
            bound = rounding_bound(self.state, self.moments, self.total, self.unit, self.loss)
            return "precision" if is_rounding(self.grad_norm, self.norm(bound)) else "stalled"
        if runs_away(self.losses):
            return "diverged"
        return "max_iter" if self.n_iter >= max_iter else None


def halve(trials: list[Trial], weights: list[float]) -> None:
    """Of many learning rates drop the worse half now and then (successive halving; Jamieson and Talwalkar, 2016).

    Those remain that have the least loss on the rows held out, of which folds have these weights, after `RUNG` steps,
    twice that, four times, ...
    """
    running = sorted({t.candidate for t in trials if not t.done})
    steps = max((t.n_iter for t in trials if not t.done), default=0)
    rung = steps // RUNG
    few = len({t.candidate for t in trials}) <= MANY_RATES or len(running) <= MANY_RATES // 2
    if few or steps % RUNG or rung & (rung - 1) or not rung:
        return
    own: dict[int, float] = {}
    for c in running:
        means = [t.held_losses[-1] / weights[t.fold] for t in trials if t.candidate == c and t.fold != ALL]
        own[c] = float(np.mean(means))
    worse = sorted(running, key=lambda c: own[c])[max(MANY_RATES // 2, -(-len(running) // 2)) :]
    for trial in trials:
        if trial.candidate in worse and not trial.done:
            trial.reason = "dropped"


#: A gradient over its scale that no score tells from 0: a tenth of the default tolerance.
UNTOLD = 1e-7


def warn_of_stalled(trials: list[Trial]) -> None:
    """Warn of trials that stalled so far short of a minimum that their scores may tell."""
    stalled = [trial for trial in trials if trial.reason == "stalled" and trial.grad_norm > UNTOLD]
    if stalled:
        norm = max(trial.grad_norm for trial in stalled)
        warnings.warn(
            f"{len(stalled)} of {len(trials)} fits stalled: no step lowers the loss any more, and yet the gradient is "
            f"up to {norm:.1e} of its scale. Their scores may be far from those of the minimum. Scale and centre the "
            "features, or try another solver.",
            StalledWarning,
            stacklevel=3,
        )
