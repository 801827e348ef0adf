"""The rows of a run and its passes over them: of a fit's track, or of all tracks of a search."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np

from .. import passes
from ..kernels.base import Moments, Request
from ..kernels.products import rounding_of
from ..model.losses import Loss, Model
from ..sources import Source
from ..sources.stamps import Stamps
from ..store.store import Store, said_of
from .unchanged import Processors

#: Passes over all rows after which workers keep what they read: a run that has taken so many will take more, and the
#: first of them pays for the memory.
KEEP_AFTER = 3


class Engine:
    """The rows of a run, how they are evaluated, and how many passes there were."""

    def __init__(self, source: Source, loss: Loss):
        self.source = source
        self.loss = loss
        # The loss that passes evaluate: of a quantile a smoothed one.
        self.smoothed: Any = loss
        # Subtracted from the rows: the tracks' parameters are those of such rows.
        self.shift: np.ndarray | None = None
        # Marks of the levels whose rows have no weight, see `separation`.
        self.left_out: np.ndarray | None = None
        # The share of a loss that is rounding.
        self.rounding = rounding_of(source.dtype, source.shape[0])
        # The moments and the weight of all rows, which make the tolerance free of units.
        self.moments: Moments | None = None
        self.weight = 0.0

        # Names the run's passes, which are numbered; those over all rows, and all of them in passes over all rows.
        self.name = uuid.uuid4().hex[:8]
        self.readings = 0
        self.whole = 0
        self.passes = 0.0
        # Partitions whose targets' values have not been checked.
        self.unchecked = set(range(source.partitions))

        # The store, what a run must have in common with a stored one to go on from it, and what adds up its sums.
        self.store: Store | None = None
        self.spec: dict[str, Any] = {}
        self.processors: Processors | None = None
        self.stamps: Stamps | None = None

    @property
    def width(self) -> int:
        """The parameters that are no intercepts: of a model all of them, else one for each feature."""
        if isinstance(self.loss, Model):
            return len(self.loss.start)
        return self.source.shape[1]

    @property
    def keeps(self) -> bool:
        """Whether the workers keep what they read."""
        return self.whole > KEEP_AFTER

    def persist(self) -> None:
        """Give rows in memory to the cluster, once."""
        self.source = passes.persist(self.source)

    def read(
        self,
        query: np.ndarray,
        request: Request,
        partitions: tuple[int, ...] | None = None,
    ) -> Any:
        """Return the sums of one more pass, over partitions or over all: `Sums`, or those of the request's kernel."""
        count = self.source.partitions
        reading = set(range(count))
        if partitions is not None:
            reading = set(partitions)
        # Rows that no pass has read have their targets checked.
        unchecked = not self.unchecked.isdisjoint(reading)
        self.unchecked.difference_update(reading)
        self.readings += 1
        self.passes += len(reading) / count
        self.whole += partitions is None
        return passes.evaluate(
            self.source,
            query=query,
            loss=self.smoothed,
            request=request._replace(targets=unchecked, shift=self.shift, left_out=self.left_out),
            run=self.name,
            step=self.readings,
            partitions=partitions,
            keep=self.keeps,
        )

    def release(self) -> None:
        """Have the workers drop what they keep for the run, and take back the rows that were in memory."""
        if self.keeps:
            passes.release(self.source, self.name)
        passes.unpersist(self.source)

    def check_stamps(self, kind: str) -> None:
        """Raise `DataError` if stored data has been overwritten since the run, a fit or a search, began."""
        if self.stamps is not None:
            self.stamps.check(self.readings, kind, self.store and self.store.path)

    def said_of_store(self) -> str:
        """Return a sentence on what the store has, wherever the run is between two commits."""
        iterations: list[int] = []
        if self.store is not None:
            iterations = self.store.iterations()
        return self.said_of(max(iterations, default=-1))

    def said_of(self, iteration: int) -> str:
        """Return a sentence on what has been committed up to this iteration, for errors of the cluster."""
        return said_of(self.store, iteration)
