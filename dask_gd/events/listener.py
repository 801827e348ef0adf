"""Follow runs: the base class of callbacks that have a method for each thing that happens, and how one ends a fit."""

from __future__ import annotations

from collections.abc import Callable

from .event import Ended, Event, Failed, Started, Stepped

#: What is called with each event of a run.
Callback = Callable[[Event], object]


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


class Listener:
    """A callback with a method for each event, of fits and of searches. Override those of interest.

    Events that fits and searches have in common need no other check; ``event.kind`` tells them apart.

    Examples
    --------
    >>> class Steps(dask_gd.events.Listener):
    ...     def started(self, event):
    ...         self.count = 0
    ...
    ...     def stepped(self, event):
    ...         self.count += 1
    ...
    ...     def ended(self, event):
    ...         print(f"{event.kind}: {self.count} events, {event.outcome}")
    >>> x, y = np.array([[0.0], [1.0], [2.0]]), np.array([1.0, 3.0, 5.0])
    >>> run = dask_gd.fit(x, y, solver="adam", max_iter=3, callbacks=[Steps()])
    fit: 4 events, max_iter
    """

    def __call__(self, event: Event) -> None:
        """Call the method of the event."""
        if isinstance(event, Started):
            self.started(event)
        elif isinstance(event, Stepped):
            self.stepped(event)
        elif isinstance(event, Ended):
            self.ended(event)
        elif isinstance(event, Failed):
            self.failed(event)

    def started(self, event: Started) -> None:
        """Hear that a run is about to begin. What this raises ends the run."""

    def stepped(self, event: Stepped) -> None:
        """Hear that a step has been committed. `StopFit` ends a fit with it."""

    def ended(self, event: Ended) -> None:
        """Hear that a run has stopped, and why."""

    def failed(self, event: Failed) -> None:
        """Hear that a run has ended with an error. What this raises is left out, for that error."""
