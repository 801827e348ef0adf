"""One fit's moving parts: what it was asked for, where it has come to, and how it reads its rows."""

from __future__ import annotations

import logging
import uuid
from typing import Any

import numpy as np

from .. import passes
from ..events import Callbacks
from ..kernels.base import Moments, Request, Sums
from ..kernels.products import rounding_of
from ..model.losses import Loss, Model
from ..model.penalties import Penalty
from ..solvers import Solver, reliefs
from ..solvers.objective import Quadratic, about_mean, gradient_cosine
from ..sources import Source
from ..sources.stamps import Stamps
from ..store.content import HISTORY
from ..store.store import Store, said_of
from .smoothing import smoothing_of
from .unchanged import Processors, Seen, summary

logger = logging.getLogger("dask_gd")

#: Passes over all rows after which workers keep what they read: a fit that has taken so many will take more, and the
#: first of them pays for the memory.
KEEP_AFTER = 3


class FitState:
    """One fit's moving parts. The state, the history and the moments are all that a checkpoint has to hold."""

    def __init__(
        self,
        source: Source,
        loss: Loss,
        penalty: Penalty,
        solver: Solver,
        start: np.ndarray,
        seed: int,
        given: bool = False,
        callbacks: Callbacks | None = None,
    ):
        # What was asked for. With ``given`` the start is the user's, and not to be bettered.
        self.source = source
        self.loss = loss
        self.penalty = penalty
        self.seed = seed
        self.given = given
        self.callbacks = callbacks or Callbacks()
        self.name = uuid.uuid4().hex[:8]

        # Where the fit was asked to begin, and the same as parameters of the rows less the shift, as the state's are.
        self.asked = start
        self.start = start
        self.shift: np.ndarray | None = None

        # The solvers that the fit goes on with should the first stall, which of them has its turn, and its state.
        self.rounding = rounding_of(source.dtype)
        self.solvers = (solver, *reliefs(solver, loss, penalty, start.size))
        self.turn = 0
        self.state = solver.init(start, self.rounding)
        # The loss that passes evaluate: of a quantile a smoothed one.
        self.smoothing = smoothing_of(loss, start.shape[1])
        self.smoothed: Any = loss

        # The samples still to be worked through, the present one first, and the iteration at which it began.
        self.samples: list[tuple[int, ...]] = []
        self.since = 0
        # Rows and weight of the partitions that a batched solver has drawn, of all steps.
        self.drawn = np.zeros(2)

        # What was found.
        self.history: dict[str, list[float]] = {name: [] for name in HISTORY}
        self.moments: Moments | None = None
        self.weight = 0.0
        self.quadratic: Quadratic | None = None
        # The last step was taken without a look: the weights are the state's query.
        self.ended_without_pass = False
        self.reason: str | None = None
        # Where nothing was finite, in words.
        self.fault: str | None = None

        # Passes, those over all rows, and how many of the rows read last were left out.
        self.reads = 0
        self.whole = 0
        self.dropped = 0
        # Partitions whose targets' values have not been checked.
        self.unchecked = set(range(source.partitions))
        self.stamps: Stamps | None = None

        # The store; the last pass of a run that has one, the processors now, and those that made that pass.
        self.store: Store | None = None
        self.spec: dict[str, Any] = {}
        self.resumed_from: int | None = None
        self.seen: Seen | None = None
        self.processors: Processors | None = None
        self.before: list[str] = []

    @property
    def solver(self) -> Any:
        """The solver whose turn it is."""
        return self.solvers[self.turn]

    @property
    def iteration(self) -> int:
        """The last finished iteration; -1 before the start has been evaluated."""
        return len(self.history["loss"]) - 1

    @property
    def batched(self) -> bool:
        """Each step reads some partitions only, see `SGD`."""
        return getattr(self.solver, "batch", 1.0) < 1.0

    @property
    def partitions(self) -> tuple[int, ...] | None:
        """The partitions in use in this step: a sample, or drawn by the seed, each once in a pass; None for all."""
        if self.samples:
            return self.samples[0]
        return self.partitions_of(self.iteration + 1)

    def partitions_of(self, step: int) -> tuple[int, ...] | None:
        """Return the partitions that a step of a batched solver reads; None for all."""
        if not self.batched:
            return None
        return passes.draw_partitions(self.seed, step, self.solver.batch, self.source.partitions)

    @property
    def fit_intercept(self) -> bool:
        """There is an intercept, the last of the parameters."""
        return len(self.start) > self.width

    @property
    def width(self) -> int:
        """The parameters that are no intercepts: of a model all of them, else one for each feature."""
        if isinstance(self.loss, Model):
            return len(self.start)
        return self.source.shape[1]

    @property
    def penalised(self) -> bool:
        """There is a penalty with a strength above 0."""
        return bool(np.any(self.penalty.curvature()) or np.any(self.penalty.absolute()))

    def committed(self) -> str:
        """Return a sentence on what has been committed, for errors of the cluster."""
        return said_of(self.store, self.iteration)

    def read(self, query: np.ndarray, request: Request) -> tuple[Sums, Any]:
        """Return the sums at the query from a pass over the rows in use, and those of the request's kernel, if any."""
        partitions = self.partitions
        reading = set(range(self.source.partitions))
        if partitions is not None:
            reading = set(partitions)
        # Rows that no pass has read have their targets checked.
        request = request._replace(targets=not self.unchecked.isdisjoint(reading), shift=self.shift)
        self.unchecked.difference_update(reading)
        self.reads += 1
        self.whole += partitions is None
        found = passes.evaluate(
            self.source,
            query,
            self.smoothed,
            request,
            run=self.name,
            step=self.reads,
            partitions=partitions,
            keep=self.keeps,
        )
        sums = found.at_query
        self.dropped = self.size - sums.rows
        if self.store is not None:
            self.seen = Seen(
                query=query,
                partitions=np.array(partitions or (), dtype=int),
                curvature=request.curvature,
                sums=summary(sums),
                alone=request.kernel is None,
            )
        if self.dropped and self.whole == 1 and partitions is None:
            logger.warning("%s of %s rows hold NaN and are left out.", f"{self.dropped:,}", f"{self.size:,}")
        own = None
        if request.kernel is not None:
            own = found
        return about_mean(sums, self.loss, self.width), own

    def read_residuals(self, query: np.ndarray) -> np.ndarray:
        """Return sums over the residuals at the query, see `smoothing`, from a pass over the rows in use."""
        assert self.smoothing is not None
        _, own = self.read(query, Request(kernel=self.smoothing.asked()))
        return own.residuals

    @property
    def size(self) -> int:
        """Rows of the partitions in use."""
        rows = np.diff(self.source.bounds)
        if self.partitions is not None:
            rows = rows[list(self.partitions)]
        return int(rows.sum())

    @property
    def keeps(self) -> bool:
        """The workers keep what they read."""
        return self.whole > KEEP_AFTER

    def release(self) -> None:
        """Have the workers drop what they keep."""
        if self.keeps:
            passes.release(self.source, self.name)

    def grad_norm(self, gradient: np.ndarray, weights: np.ndarray | None = None) -> float:
        """Return the largest component of a gradient (q, k, 1) over its scale.

        Where the penalty has a corner at these weights (q, k, 1), it is that of the subgradient of least norm.
        """
        assert self.moments is not None
        at = None
        if weights is not None:
            at = weights[:, :, 0]
        return gradient_cosine(gradient[:, :, 0], self.moments, self.weight, self.width, at, self.penalty)
