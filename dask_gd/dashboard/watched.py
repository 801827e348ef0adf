"""What the scheduler remembers of one fit or search."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

#: Points that are remembered of each, of which every other goes when there are more.
POINTS = 2_000

#: Iterations from which the next ones' time and the gradient's fall are foretold.
RECENT = 10

#: What is remembered of each iteration of a fit, and of each round of a search.
CURVES = {
    "IterationEnded": ("iteration", "loss", "grad_norm", "step_size", "rows", "bytes_read", "seconds"),
    "RoundEnded": ("passes", "running", "candidates", "seconds"),
}


@dataclass
class Watched:
    """A fit, or a search."""

    run: str
    started: dict[str, Any]
    client: str
    #: Seconds since the epoch of its first and its last event.
    began: float
    heard: float = 0.0
    status: str = "running"
    curves: dict[str, list[float]] = field(default_factory=dict)
    count: int = 0

    @property
    def running(self) -> bool:
        return self.status == "running"

    @property
    def is_search(self) -> bool:
        return "candidates" in self.started

    @property
    def committed(self) -> float | None:
        """When its last iteration was committed, seconds since the epoch."""
        if self.started["store"] is not None and self.count:
            return self.heard
        return None

    def last(self, name: str) -> float:
        values = self.curves.get(name)
        if values:
            return values[-1]
        return float("nan")

    def hear(self, message: dict[str, Any]) -> None:
        """Take up one of its events but the first."""
        kind = message["event"]
        self.heard = message["time"]
        if kind in CURVES:
            self.count += 1
            for name in CURVES[kind]:
                self.curves.setdefault(name, []).append(message[name])
            if len(next(iter(self.curves.values()))) > POINTS:
                self.curves = {name: values[::2] for name, values in self.curves.items()}
        elif kind == "FitEnded":
            self.status = message["reason"]
        elif kind == "SearchEnded":
            self.status = f"best {message['best']}"
        else:
            self.status = message["error"]

    def seconds_left(self, now: float) -> float | None:
        """Until ``tol`` at the rate at which the gradient has fallen, or ``max_iter``, whichever is first; None where
        nothing can be said yet, or the fit has ended.
        """
        gradients = np.array(self.curves.get("grad_norm", [])[-RECENT:])
        seconds = self.curves.get("seconds", [])
        if not self.running or len(gradients) < 3:
            return None
        left = self.started["max_iter"] - self.last("iteration")
        tol = self.started["tol"]
        if tol > 0 and (gradients > 0).all():
            fall = np.polyfit(np.arange(len(gradients)), np.log(gradients), 1)[0]
            if fall < 0:
                left = min(left, max(0.0, np.ceil(np.log(tol / gradients[-1]) / fall)))
        return float(max(0.0, left * np.median(seconds[-RECENT:]) - (now - self.heard)))


class Board(Protocol):
    """What the page is drawn from: the scheduler's plugin, or what a test has in its place."""

    watched: dict[str, Watched]

    def pass_done(self, run: str) -> tuple[int, float] | None:
        """Return the number of the pass that a fit's tasks are of, and the share of them that are done."""
        ...

    def reading_speed(self, run: str) -> float | None:
        """Return bytes per second of reading and decoding alone."""
        ...


def now() -> float:
    """Seconds since the epoch, as events have them."""
    return time.time()
