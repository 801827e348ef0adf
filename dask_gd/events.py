"""What a fit tells its callbacks: typed events, each of which prints as one readable line.

A callback is any callable of one event; ``callbacks=[print]`` follows a fit. Callbacks are called on the
client, after the iteration they hear about has been committed. What one raises before the first pass is the fit's
error; later it is warned of, and the callback is not called again: the fit goes on. One that raises `StopFit` ends the
fit, with the weights of the iteration it has heard about.

A callback may have a memory that a resumed fit needs: a method ``state()`` that gives a dict of arrays, and
``restore(arrays)`` that takes them back. They are stored with each iteration. A fit that resumes tells such a callback
of its last iteration once more, which it may or may not have heard of.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from .errors import CallbackWarning, InvalidArgumentError, warn
from .model.losses import Loss
from .results.fit_result import FitResult, result_of
from .store.store import Checkpoint


class StopFit(Exception):
    """Raised by a callback to end a fit after the iteration that it has heard about, which is its result.

    Parameters
    ----------
    reason : str
        Becomes the result's ``reason``.
    """

    def __init__(self, reason: str = "stopped"):
        super().__init__(reason)
        self.reason = reason


#: Gives a fit's checkpoint and loss as they are at the moment.
Snapshot = Callable[[], "tuple[Checkpoint, Loss]"]


class Event:
    """What callbacks are called with: numbers and words, in the fields of a dataclass.

    A callback that raises at a start ends the fit or the search before anything is done. `StopFit` is heard where the
    weights of an iteration, or of a round, are the result then.
    """

    is_start = False
    may_stop = False

    def as_message(self) -> dict[str, Any]:
        """Return the event's name and its fields as plain values, which can be sent and written anywhere.

        Examples
        --------
        >>> FitEnded("converged", n_iter=3, loss=np.float64(0.5)).as_message()
        {'event': 'FitEnded', 'reason': 'converged', 'n_iter': 3, 'loss': 0.5, 'run': ''}
        """
        message: dict[str, Any] = {"event": type(self).__name__}
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, np.generic):
                value = value.item()
            message[field.name] = value
        return message


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
class FitStarted(Event):
    """A fit is about to make its first pass; ``resumed_from`` is the stored iteration it goes on from, or None.

    ``run`` names it in its other events and its tasks; ``rows`` and ``nbytes`` are those of a pass over all data,
    ``store`` is where iterations are committed, or None, and ``tol`` the gradient that ends it, 0 if none does.
    """

    is_start = True

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

    def __str__(self) -> str:
        went_on = ""
        if self.resumed_from is not None:
            went_on = f", resumed after iteration {self.resumed_from}"
        return f"fit {self.run}: {self.data}, loss {self.loss}, penalty {self.penalty}, solver {self.solver}{went_on}"


@dataclass(frozen=True)
class IterationEnded(OfIteration):
    """An iteration has been committed. Iteration 0 is the start itself, before any step.

    ``loss`` and ``grad_norm`` are those of the iteration's weights; ``passes``, ``rows``, ``bytes_read`` (decoded) and
    ``seconds`` are what this iteration took.
    """

    may_stop = True

    iteration: int
    loss: float
    grad_norm: float
    step_size: float
    passes: float
    rows: float
    bytes_read: float
    seconds: float
    run: str = ""

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
        some = ""
        if 0 < self.passes < 1:
            some = f"  on {self.passes:.0%} of the rows"
        return f"iteration {self.iteration:4d}  loss {self.loss:.10g}  gradient {self.grad_norm:.2e}  {speed}{some}"


@dataclass(frozen=True)
class FitEnded(OfIteration):
    """The fit has stopped, and why: see `FitResult.reason`."""

    reason: str
    n_iter: int
    loss: float
    run: str = ""

    def __str__(self) -> str:
        return f"stopped after {self.n_iter} iterations: {self.reason}, loss {self.loss:.10g}"


@dataclass(frozen=True)
class Failed(Event):
    """A fit or a search ends with an error, or was interrupted; what was committed before is intact."""

    run: str
    error: str

    def __str__(self) -> str:
        return f"{self.run} failed: {self.error}"


@dataclass(frozen=True)
class SearchStarted(Event):
    """A search is about to begin; its ``fits`` are each candidate's, one without each fold and one with all rows.

    ``resumed_from`` is the number of rounds that the store holds, or None.
    """

    is_start = True

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

    def __str__(self) -> str:
        return f"search {self.run}: {self.data}, loss {self.loss}, {self.candidates} candidates, {self.folds} folds"


@dataclass(frozen=True)
class RoundEnded(Event):
    """The running fits of a search have taken the step that a pass has shown them; see `dask_gd.search`.

    ``candidates`` still run, in ``running`` of all ``fits``; the round has taken ``seconds``.
    """

    may_stop = True

    passes: int
    running: int
    fits: int
    candidates: int = 0
    seconds: float = 0.0
    run: str = ""

    def __str__(self) -> str:
        return f"pass {self.passes:4d}  {self.running} of {self.fits} fits still running"


@dataclass(frozen=True)
class SearchEnded(Event):
    """All fits of a search have ended; ``best`` are the parameters of the best candidate."""

    run: str
    best: str
    passes: float

    def __str__(self) -> str:
        return f"search {self.run} ended after {self.passes:.3g} passes, best {self.best}"


Callback = Callable[[Event], object]


class Callbacks:
    """The callbacks of a fit or a search."""

    def __init__(self, callbacks: Iterable[Callback] = ()):
        self.given = tuple(callbacks)
        self.raised: set[int] = set()

    def tell(self, event: Event, only_with_memory: bool = False, snapshot: Snapshot | None = None) -> None:
        """Call each with the event, which meanwhile has the model so far at hand.

        Raises StopFit, if one of them did of an iteration, when all have heard of it.
        """
        with event.showing(snapshot) if isinstance(event, OfIteration) else contextlib.nullcontext():
            stop = self._call_each(event, only_with_memory)
        if stop is not None and event.may_stop:
            raise stop

    def _call_each(self, event: Event, only_with_memory: bool) -> StopFit | None:
        stop = None
        for i, callback in enumerate(self.given):
            if i in self.raised or (only_with_memory and not remembers(callback)):
                continue
            if event.is_start:
                # Nothing has been done that could be lost.
                callback(event)
                continue
            try:
                callback(event)
            except StopFit as error:
                stop = error
            except Exception as error:
                self._give_up(i, error, f"of: {event}")
        return stop

    @contextlib.contextmanager
    def hear_of_failure(self, run: str) -> Iterator[None]:
        """Tell them if what follows ends with an error, or is interrupted."""
        try:
            yield
        except BaseException as error:
            said = str(error).partition("\n")[0]
            failed = Failed(run, f"{type(error).__name__}: {said}" if said else type(error).__name__)
            for i, callback in enumerate(self.given):
                # What these raise now is not the error to hear of.
                with contextlib.suppress(Exception):
                    if i not in self.raised:
                        callback(failed)
            raise

    def state(self) -> dict[str, np.ndarray]:
        """Return the memories of the callbacks that have one, as arrays by name."""
        found: dict[str, np.ndarray] = {}
        for i, callback in enumerate(self.given):
            if remembers(callback) and i not in self.raised:
                try:
                    found |= {f"{i}-{name}": np.asarray(array) for name, array in callback.state().items()}  # type: ignore[attr-defined]
                except Exception as error:
                    self._give_up(i, error, "when asked for its state")
        return found

    def _give_up(self, i: int, error: Exception, when: str) -> None:
        self.raised.add(i)
        warn(
            f"The callback {self.given[i]!r} raised {type(error).__name__}: {error}; it is not called again, and the "
            f"fit goes on. To end a fit raise dask_gd.events.StopFit. It was told {when}",
            CallbackWarning,
        )

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Give them back, to the callbacks in the same places."""
        for i, callback in enumerate(self.given):
            own: dict[str, Any] = {n.partition("-")[2]: a for n, a in arrays.items() if n.partition("-")[0] == str(i)}
            if own and remembers(callback):
                callback.restore(own)  # type: ignore[attr-defined]


def remembers(callback: Callback) -> bool:
    """Return whether a callback has a memory that is stored with each iteration."""
    return callable(getattr(callback, "state", None)) and callable(getattr(callback, "restore", None))
