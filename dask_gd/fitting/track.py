"""One solver on some of the rows: request, sums, objective, step, history and reason.

A fit is one track and a search has many. `drive` takes them to their end; what a kind of track adds to this is how its
sums are found, and what it remembers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..kernels.base import Sums
from ..model.penalties import Penalty
from ..solvers import STALLED, Solver
from ..solvers.newton.curvature import NARROW
from ..solvers.objective import Objective, gradient_cosine, objective
from .engine import Engine
from .rounding import is_rounding, rounding_bound, unit_of

#: A loss that has risen this many steps in a row, to this many times the first, will not come back.
RISES = 10
BLOWN_UP = 1e3


class Stopping(NamedTuple):
    """When a track is to end."""

    max_iter: int
    tol: float
    target_loss: float | None = None


class Evaluated(NamedTuple):
    """The sums at a track's query, and how they were found."""

    sums: Sums
    own: Any = None  # those of the solver's own kernel, if it has asked for one
    holdout: np.ndarray | None = None  # (2, m) the sums of loss and score over the rows held out
    holdout_slope: np.ndarray | None = None  # (q, k, m) the gradient of that loss
    passes: int = 0  # over the data, that this took
    groups: tuple[Sums | None, ...] | None = None  # the sums over groups of partitions, see `Grouped`
    restarted: bool = False  # these sums are of another query, or of rows less another shift, than the first looked at


class Track:
    """One solver on some of the rows, and where it has come to; ``state.query`` is evaluated next."""

    def __init__(self, engine: Engine, penalty: Penalty, solvers: tuple[Solver, ...], start: np.ndarray):
        self.engine = engine
        self.penalty = penalty
        # The solvers that it goes on with should the first stall, and which of them has its turn.
        self.solvers = solvers
        self.turn = 0
        self.state: Any = solvers[0].init(start, engine.rounding)
        # The samples still to be worked through, the present one first, and the step at which it began.
        self.samples: list[tuple[int, ...]] = []
        self.since = 0
        # After each step, and at the start.
        self.history: dict[str, list[float]] = {"loss": []}
        self.grad_norm = np.inf
        self.reason: str | None = None

    @property
    def solver(self) -> Any:
        """The solver whose turn it is."""
        return self.solvers[self.turn]

    @property
    def batched(self) -> bool:
        """Whether each step reads some partitions only, see `SGD`."""
        return is_batched(self.solver)

    @property
    def losses(self) -> list[float]:
        """The objective after each step, and at the start."""
        return self.history["loss"]

    @property
    def iteration(self) -> int:
        """The last finished step; -1 before the start has been evaluated."""
        return len(self.losses) - 1

    def objective_at(self, found: Evaluated) -> tuple[Objective, np.ndarray]:
        """Return the objective at the query, and at which of its candidates (m,) it is finite."""
        at_query = self.objective_of(found.sums, self.state.query, found.own)
        finite = np.isfinite(at_query.loss) & np.isfinite(at_query.gradient).all(axis=(0, 1))
        return at_query, finite

    def objective_of(self, sums: Sums, query: np.ndarray, own: Any = None) -> Objective:
        """Return the objective at a query, from the sums over any rows."""
        engine = self.engine
        with np.errstate(divide="ignore", invalid="ignore"):
            return objective(
                sums,
                query=query,
                penalty=self.penalty,
                loss=engine.smoothed,
                p=engine.width,
                own=own,
                cheap_curvature=engine.source.row_format.cheap_gram or has_few_products(sums, engine.width),
            )

    def step(self, at_query: Objective, finite: np.ndarray) -> None:
        """Take the solver's step, which chooses among the candidates that are finite."""
        loss = np.where(finite, at_query.loss, np.inf)
        self.state = self.solver.step(self.state, at_query._replace(loss=loss))

    def norm(self, gradient: np.ndarray, weights: np.ndarray | None = None) -> float:
        """Return the largest component of a gradient (q, k, 1) over its scale, see `gradient_cosine`.

        Where the penalty is nonsmooth at these weights (q, k, 1), it is that of the subgradient of least norm.
        """
        engine = self.engine
        assert engine.moments is not None
        at = None
        if weights is not None:
            at = weights[:, :, 0]
        return gradient_cosine(
            gradient[:, :, 0],
            moments=engine.moments,
            weight=engine.weight,
            p=engine.width,
            weights=at,
            penalty=self.penalty,
        )

    def at_rounding(self) -> bool:
        """Return whether the gradient at the weights is 0 as far as the arithmetic can tell."""
        engine = self.engine
        assert engine.moments is not None
        bound = rounding_bound(
            self.state,
            moments=engine.moments,
            weight=engine.weight,
            unit=unit_of(engine.source, engine.rounding),
            loss=engine.smoothed,
        )
        return is_rounding(self.grad_norm, self.norm(bound))

    def reason_to_stop(self, stopping: Stopping) -> str | None:
        """Return why to stop at the weights, or None to go on."""
        losses = self.losses[self.since :]
        # Neither a sample nor partitions that are drawn anew for each step tell of a minimum over all rows.
        if losses and not self.samples:
            if self.grad_norm <= stopping.tol and not self.batched:
                return "converged"
            if stopping.target_loss is not None and losses[-1] <= stopping.target_loss and not self.batched:
                return "target_loss"
            if self.state.stalled[0] >= STALLED:
                return "precision" if self.at_rounding() else "stalled"
            if runs_away(losses):
                return "diverged"
        if self.iteration >= stopping.max_iter:
            return "max_iter"
        return None


def has_few_products(sums: Sums, features: int) -> bool:
    """Return whether the curvature in sums is known to have cost no more than to read the rows again."""
    return 0 < sums.products < NARROW * features * sums.rows


def is_batched(solver: Solver) -> bool:
    """Return whether each step of a solver reads some partitions only."""
    return getattr(solver, "batch", 1.0) < 1.0


def runs_away(losses: list[float]) -> bool:
    """Return whether the loss has risen for so long, and so far, that it will not come back."""
    recent = losses[-RISES - 1 :]
    is_long = len(recent) > RISES
    return is_long and bool(np.all(np.diff(recent) > 0)) and losses[-1] > BLOWN_UP * abs(losses[0])
