"""The events of fits and searches: numbers and words, each of which prints as one readable line."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from ..display.texts import readings, sampled
from ..errors import InvalidArgumentError
from ..model.losses import Loss
from ..results.fit_result import FitResult, result_of
from ..store.store import Checkpoint

#: Gives a fit's checkpoint and loss as they are at the moment.
Snapshot = Callable[[], "tuple[Checkpoint, Loss]"]


class Event:
    """What callbacks are called with: numbers and words, in the fields of a dataclass.

    Attributes
    ----------
    kind : str
        Of the run: "fit" or "search".
    run : str
        Name of the run.
    """

    kind: str
    run: str

    def as_message(self) -> dict[str, Any]:
        """Return the event's name, its kind and its fields as plain values, which can be sent and written anywhere.

        Examples
        --------
        >>> RoundEnded(passes=2, running=np.int64(7), fits=18).as_message()["running"]
        7
        >>> SearchEnded("a", best="C=1", passes=np.float64(2.5)).as_message()
        {'event': 'SearchEnded', 'kind': 'search', 'run': 'a', 'best': 'C=1', 'passes': 2.5, 'full_passes': 2.0}
        """
        message: dict[str, Any] = {"event": type(self).__name__, "kind": self.kind}
        for each in fields(self):  # type: ignore[arg-type]
            value = getattr(self, each.name)
            if isinstance(value, np.generic):
                value = value.item()
            message[each.name] = value
        return message


# The fields of the following are those of the dataclasses below, which order them each in its own way.


class Started(Event):
    """A run is about to begin. A callback that raises now ends it before anything is done.

    Attributes
    ----------
    data, loss : str
        The rows, and the loss.
    label : str
        The names of the targets and the features, and where they are stored.
    rows, nbytes : int
        Of a pass over all data.
    store : str or None
        Where iterations or rounds are committed.
    resumed_from : int or None
        The stored iteration of a fit, or the number of stored rounds of a search, from which the run goes on.
    """

    data: str
    loss: str
    rows: int
    nbytes: int
    store: str | None
    resumed_from: int | None
    label: str


class Stepped(Event):
    """A step has been committed: an iteration of a fit, or a round of a search. `StopFit` ends a fit here.

    Attributes
    ----------
    seconds : float
        Duration of the step.
    """

    seconds: float


class Ended(Event):
    """A run has stopped, other than by an error."""

    @property
    def outcome(self) -> str:
        """Return in a line why a fit has stopped, or what a search has found."""
        raise NotImplementedError


class OfIteration(Event):
    """Events that have the model so far at hand, while callbacks are called with them.

    An event holds numbers and words only. What leads to the fit is lent to it for the time of the call: a list of
    events, a copy or a pickle of one holds nothing of the fit or of its data.
    """

    _snapshot: Snapshot | None = None

    @property
    def checkpoint(self) -> Checkpoint:
        """What a store holds of the iteration; to be asked for while the callback is called."""
        return self._now()[0]

    @property
    def result(self) -> FitResult:
        """What the fit would give back if it ended here; to be asked for while the callback is called."""
        return result_of(*self._now())

    def _now(self) -> tuple[Checkpoint, Loss]:
        if self._snapshot is None:
            iteration = getattr(self, "iteration", None)
            if iteration is None:
                iteration = self.n_iter  # type: ignore[attr-defined]
            raise InvalidArgumentError(
                f"The fit has left iteration {iteration}: ask for event.result while the callback is called."
            )
        return self._snapshot()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_snapshot"}

    @contextlib.contextmanager
    def showing(self, snapshot: Snapshot | None) -> Iterator[None]:
        """Lend the event a look at the fit."""
        object.__setattr__(self, "_snapshot", snapshot)
        try:
            yield
        finally:
            object.__delattr__(self, "_snapshot")


@dataclass(frozen=True)
class FitStarted(Started):
    """A fit is about to make its first pass; ``resumed_from`` is the stored iteration it goes on from, or None.

    ``run`` names it in its other events and its tasks; ``rows`` and ``nbytes`` are those of a pass over all data,
    ``store`` is where iterations are committed, or None, and ``tol`` the gradient that ends it, 0 if none does.
    """

    kind = "fit"

    run: str
    data: str
    loss: str
    penalty: str
    solver: str
    max_iter: int
    resumed_from: int | None
    rows: int = 0
    nbytes: int = 0
    store: str | None = None
    tol: float = 0.0
    #: Of x, and of y.
    features: int = 0
    outputs: int = 1
    label: str = ""
    #: Of weights in blocks: how many there are, the features of the widest, the workers that own them, and the bytes
    #: that a worker was planned to need.
    blocks: int = field(default=0, repr=False)
    width: int = field(default=0, repr=False)
    workers: int = field(default=0, repr=False)
    memory: int = field(default=0, repr=False)

    def __str__(self) -> str:
        went_on = ""
        if self.resumed_from is not None:
            went_on = f", resumed after iteration {self.resumed_from}"
        return f"fit {self.run}: {self.data}, loss {self.loss}, penalty {self.penalty}, solver {self.solver}{went_on}"


@dataclass(frozen=True)
class IterationEnded(OfIteration, Stepped):
    """An iteration has been committed. Iteration 0 is the start itself, before any step.

    ``loss`` and ``grad_norm`` are those of the iteration's weights; ``passes``, ``rows``, ``bytes_read`` (decoded) and
    ``seconds`` are what this iteration took. ``full_passes`` of the passes were over all rows, by default those of them
    that are whole, and the rest readings of samples; where none was over all rows, loss and gradient are those of a
    sample, and not comparable with others.
    """

    kind = "fit"

    iteration: int
    loss: float
    grad_norm: float
    step_size: float
    passes: float
    rows: float
    bytes_read: float
    seconds: float
    run: str = ""
    full_passes: float = math.nan

    def __post_init__(self) -> None:
        if math.isnan(self.full_passes):
            object.__setattr__(self, "full_passes", float(math.floor(self.passes)))

    @property
    def rows_per_second(self) -> float:
        return self.rows / self.seconds

    @property
    def megabytes_per_second(self) -> float:
        return self.bytes_read / 1e6 / self.seconds

    def __str__(self) -> str:
        speed = "no pass needed"
        if self.rows:
            speed = f"{self.rows_per_second:.3g} rows/s  {self.megabytes_per_second:.0f} MB/s"
        rows = sampled(self.passes, self.full_passes)
        if rows:
            rows = f"  {rows}"
        elif self.passes > self.full_passes:
            rows = f"  {readings(self.full_passes, self.passes)}"
        return f"iteration {self.iteration:4d}  loss {self.loss:.10g}  gradient {self.grad_norm:.2e}  {speed}{rows}"


@dataclass(frozen=True)
class FitEnded(OfIteration, Ended):
    """The fit has stopped, and why: see `FitResult.reason`."""

    kind = "fit"

    reason: str
    n_iter: int
    loss: float
    run: str = ""
    #: Of weights in blocks: bytes that came on top of a worker's process at the most, and that moved between workers.
    memory: int = field(default=0, repr=False)
    bytes_moved: int = field(default=0, repr=False)

    @property
    def outcome(self) -> str:
        """Return the reason."""
        return self.reason

    def __str__(self) -> str:
        return f"stopped after {self.n_iter} iterations: {self.reason}, loss {self.loss:.10g}"


@dataclass(frozen=True)
class Failed(Event):
    """A fit or a search ends with an error, or was interrupted; what was committed before is intact."""

    run: str
    error: str
    kind: str = field(default="fit", repr=False)

    def __str__(self) -> str:
        return f"{self.run} failed: {self.error}"


@dataclass(frozen=True)
class SearchStarted(Started):
    """A search is about to begin; its ``fits`` are each candidate's, one without each fold and one with all rows.

    ``resumed_from`` is the number of rounds that the store holds, or None.
    """

    kind = "search"

    run: str
    data: str
    loss: str
    candidates: int
    folds: int
    fits: int
    rows: int = 0
    nbytes: int = 0
    store: str | None = None
    resumed_from: int | None = None
    label: str = ""

    def __str__(self) -> str:
        return f"search {self.run}: {self.data}, loss {self.loss}, {self.candidates} candidates, {self.folds} folds"


@dataclass(frozen=True)
class RoundEnded(Stepped):
    """The running fits of a search have taken the step that a pass has shown them; see `dask_gd.search`.

    ``candidates`` still run, in ``running`` of all ``fits``; the round has taken ``seconds``. Of the ``passes`` so far,
    those over samples counted, ``full_passes`` were over all rows.
    """

    kind = "search"

    passes: int
    running: int
    fits: int
    candidates: int = 0
    seconds: float = 0.0
    run: str = ""
    full_passes: int = -1

    def __post_init__(self) -> None:
        if self.full_passes < 0:
            object.__setattr__(self, "full_passes", self.passes)

    def __str__(self) -> str:
        full = f"{self.full_passes} over all rows"
        return f"pass {self.passes:4d}, {full}  {self.running} of {self.fits} fits still running"


@dataclass(frozen=True)
class SearchEnded(Ended):
    """All fits of a search have ended; ``best`` are the parameters of the best candidate.

    ``passes`` are rows read over all rows, of which ``full_passes`` were over all rows and the rest over samples.
    """

    kind = "search"

    run: str
    best: str
    passes: float
    full_passes: float = math.nan

    def __post_init__(self) -> None:
        if math.isnan(self.full_passes):
            object.__setattr__(self, "full_passes", float(math.floor(self.passes)))

    @property
    def outcome(self) -> str:
        """Return the parameters of the best candidate."""
        return f"best {self.best}"

    def __str__(self) -> str:
        return f"search {self.run} ended after {readings(self.full_passes, self.passes)}, best {self.best}"


ALL = (FitStarted, IterationEnded, FitEnded, SearchStarted, RoundEnded, SearchEnded, Failed)

#: The events by the name that their messages have.
EVENTS: dict[str, type[Event]] = {event_type.__name__: event_type for event_type in ALL}


def event_of(message: Mapping[str, Any]) -> Event:
    """Return the event of which this is the message; what a sender has put beside its fields is left out.

    Examples
    --------
    >>> ended = FitEnded("converged", n_iter=3, loss=0.5)
    >>> event_of({**ended.as_message(), "time": 12.0}) == ended
    True
    """
    event_type = EVENTS[message["event"]]
    names = {each.name for each in fields(event_type)}  # type: ignore[arg-type]
    return event_type(**{name: value for name, value in message.items() if name in names})
