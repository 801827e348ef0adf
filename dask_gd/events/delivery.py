"""Deliver the events of a run to its callbacks, and bear what these raise."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ..errors import CallbackWarning, warn
from .event import Event, Failed, OfIteration, Snapshot, Started, Stepped
from .listener import Callback, StopFit


class Callbacks:
    """The callbacks of a fit or a search."""

    def __init__(self, callbacks: Iterable[Callback] = ()):
        self.given = tuple(callbacks)
        self.raised: set[int] = set()

    def tell(self, event: Event, only_with_memory: bool = False, snapshot: Snapshot | None = None) -> None:
        """Call each with the event, which meanwhile has the model so far at hand.

        Raises StopFit, if one of them did of an iteration, when all have heard of it.
        """
        context: contextlib.AbstractContextManager = contextlib.nullcontext()
        if isinstance(event, OfIteration):
            context = event.showing(snapshot)
        with context:
            stop = self._call_each(event, only_with_memory)
        # At an end there is nothing left to stop.
        if stop is not None and isinstance(event, Stepped):
            raise stop

    def _call_each(self, event: Event, only_with_memory: bool) -> StopFit | None:
        stop = None
        for i, callback in enumerate(self.given):
            if i in self.raised or (only_with_memory and not remembers(callback)):
                continue
            if isinstance(event, Started):
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
    def hear_of_failure(self, run: str, kind: str) -> Iterator[None]:
        """Tell them if what follows, a run of this name and kind, ends with an error, or is interrupted."""
        try:
            yield
        except BaseException as error:
            description = type(error).__name__
            first_line = str(error).partition("\n")[0]
            if first_line:
                description += f": {first_line}"
            failed = Failed(run, description, kind)
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
