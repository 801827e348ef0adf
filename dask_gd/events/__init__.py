"""What a fit or a search tells its callbacks: typed events, each of which prints as one readable line.

An event says that a run has `Started`, `Stepped`, `Ended` or `Failed`, and by its ``kind`` whether that is a fit or a
search. A callback is any callable of one event; ``callbacks=[print]`` follows a fit. A `Listener` is a callback with a
method for each of the four.

Callbacks are called on the client, after the iteration they hear about has been committed. What one raises before the
first pass is the fit's error; later it is warned of, and the callback is not called again: the fit goes on. One that
raises `StopFit` ends the fit, with the weights of the iteration it has heard about.

A callback may have a memory that a resumed fit needs: a method ``state()`` that gives a dict of arrays, and
``restore(arrays)`` that takes them back. They are stored with each iteration. A fit that resumes tells such a callback
of its last iteration once more, which it may or may not have heard of.
"""

from .delivery import Callbacks
from .event import (
    Ended,
    Event,
    Failed,
    FitEnded,
    FitStarted,
    IterationEnded,
    OfIteration,
    RoundEnded,
    SearchEnded,
    SearchStarted,
    Started,
    Stepped,
    event_of,
)
from .listener import Callback, Listener, StopFit

__all__ = [
    "Callback",
    "Callbacks",
    "Ended",
    "Event",
    "Failed",
    "FitEnded",
    "FitStarted",
    "IterationEnded",
    "Listener",
    "OfIteration",
    "RoundEnded",
    "SearchEnded",
    "SearchStarted",
    "Started",
    "Stepped",
    "StopFit",
    "event_of",
]
