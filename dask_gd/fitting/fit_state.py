"""What a fit's track remembers beside its solver's state, and how it reads its rows."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

import numpy as np

from .. import passes
from ..events import Callbacks
from ..kernels.base import Request, Sums
from ..kernels.level_counts import levels_of
from ..model.penalties import Penalty, penalises
from ..solvers import Solver, reliefs
from ..solvers.objective import Quadratic, about_mean
from ..sources import Source
from ..store.content import HISTORY
from .correction import Correction
from .engine import Engine
from .smoothing import smoothing_of
from .track import Track
from .unchanged import Seen, summary

logger = logging.getLogger("dask_gd")


class ReadSums(NamedTuple):
    """The sums of a pass at its query, and those of the request's kernel, if it had one."""

    sums: Sums
    own: Any


class FitState(Track):
    """The track of a fit: the state, the history and the moments are all that a checkpoint has to hold."""

    def __init__(
        self,
        engine: Engine,
        penalty: Penalty,
        solver: Solver,
        start: np.ndarray,
        seed: int,
        given: bool = False,
        callbacks: Callbacks | None = None,
    ):
        solvers = (solver, *reliefs(solver, engine.loss, penalty, start.size))
        super().__init__(engine, penalty, solvers, start)
        # What was asked for. With ``given`` the start is the user's, and not to be bettered.
        self.seed = seed
        self.given = given
        self.callbacks = callbacks or Callbacks()
        # Where the fit was asked to begin, and the same as parameters of the rows less the shift, as the state's are.
        self.asked = start
        self.start = start

        # What was found.
        self.history = {name: [] for name in HISTORY}
        self.smoothing = smoothing_of(engine.loss, start.shape[1])
        self.quadratic: Quadratic | None = None
        # The sample by which steps over all rows are corrected, and what the last correction has told.
        self.correcting: tuple[int, ...] | None = None
        self.correction: Correction | None = None
        # Whether the last pass has computed the curvature in float32.
        self.is_rough = False
        # Rows and weight of the partitions that a batched solver has drawn, of all steps.
        self.drawn = np.zeros(2)
        # The last step was taken without a look: the weights are the state's query.
        self.ended_without_pass = False
        # How many of the rows read last were left out.
        self.dropped = 0
        # Where nothing was finite, in words.
        self.fault: str | None = None

        # Of a run with a store: the last pass, what made it, where the run went on from, and the reason stored last.
        self.seen: Seen | None = None
        self.before: list[str] = []
        self.resumed_from: int | None = None
        self.committed_reason: str | None = None

    @property
    def source(self) -> Source:
        """The rows."""
        return self.engine.source

    @property
    def loss(self) -> Any:
        """The loss that was asked for, which may be smoothed where passes evaluate it."""
        return self.engine.loss

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
    def size(self) -> int:
        """The rows of the partitions in use."""
        return self.rows_of(self.partitions)

    def rows_of(self, partitions: tuple[int, ...] | None) -> int:
        """Return the rows of partitions; None for all."""
        rows = np.diff(self.source.bounds)
        if partitions is not None:
            rows = rows[list(partitions)]
        return int(rows.sum())

    @property
    def fit_intercept(self) -> bool:
        """Whether there is an intercept, the last of the parameters."""
        return len(self.start) > self.engine.width

    @property
    def dropped_levels(self) -> np.ndarray:
        """The column and the code of each level that is left out, (levels, 2), see `separation`."""
        if self.engine.left_out is None:
            return np.zeros((0, 2), int)
        return levels_of(self.source.row_format, self.engine.left_out)  # type: ignore[arg-type]

    @property
    def penalised(self) -> bool:
        """Whether there is a penalty with a strength above 0."""
        return penalises(self.penalty)

    def committed(self) -> str:
        """Return a sentence on what has been committed, for errors of the cluster."""
        return self.engine.said_of(self.iteration)

    def read(self, query: np.ndarray, request: Request) -> ReadSums:
        """Return the sums at the query from a pass over the rows in use."""
        engine = self.engine
        partitions = self.partitions
        found = engine.read(query, request, partitions)
        sums = found.at_query

        # Rows with NaN, which are told of once.
        self.dropped = self.size - sums.rows
        if self.dropped and engine.whole == 1 and partitions is None:
            logger.warning("%s of %s rows hold NaN and are left out.", f"{self.dropped:,}", f"{self.size:,}")

        # What a resumed run takes again, to find out whether the data is the same.
        if engine.store is not None:
            self.seen = Seen(
                query=query,
                partitions=np.array(partitions or (), dtype=int),
                curvature=request.curvature,
                sums=summary(sums),
                alone=request.kernel is None,
            )

        own = None
        if request.kernel is not None:
            own = found
        return ReadSums(about_mean(sums, self.loss, engine.width), own)

    def read_residuals(self, query: np.ndarray) -> np.ndarray:
        """Return sums over the residuals at the query, see `smoothing`, from a pass over the rows in use."""
        assert self.smoothing is not None
        request = Request(kernel=self.smoothing.asked())
        return self.read(query, request).own.residuals
