"""Remember the events of a fit or a search, on the scheduler."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from ..display.texts import is_sampled
from ..events import Ended, Event, Failed, FitStarted, IterationEnded, Listener, SearchStarted, Stepped

#: Points of a curve that are remembered; when there are more, every other point goes.
POINTS = 2_000

#: Iterations from which the time and the gradient of the next iterations are forecast.
RECENT = 10

#: Numbers that are remembered of each iteration of a fit, and of each round of a search.
CURVES = {
    "fit": ("iteration", "loss", "grad_norm", "step_size", "passes", "rows", "bytes_read", "seconds", "full_passes"),
    "search": ("passes", "running", "candidates", "seconds", "full_passes"),
}


@dataclass
class Watched(Listener):
    """A fit or a search, as its events describe it."""

    #: The first event, with the arguments.
    beginning: FitStarted | SearchStarted
    client: str
    #: Seconds since the epoch of the first event, and of the last.
    began: float
    last_event: float = 0.0
    status: str = "running"
    #: Numbers of the iterations or rounds, thinned.
    curves: dict[str, list[float]] = field(default_factory=dict)
    #: Iterations or rounds.
    count: int = 0
    has_failed: bool = False
    #: Rows/s and MB/s of a fit's last iteration that has read rows: the last of all may take no pass.
    speed: tuple[float, float] | None = None
    #: Passes since it began or was resumed, those over all rows, and all with the readings of samples.
    full_passes: float = 0.0
    passes: float = 0.0

    @property
    def run(self) -> str:
        """Return the name of the run."""
        return self.beginning.run

    @property
    def running(self) -> bool:
        """Return whether it still runs."""
        return self.status == "running"

    @property
    def is_search(self) -> bool:
        """Return whether it is a search."""
        return self.beginning.kind == "search"

    @property
    def committed(self) -> float | None:
        """Time of the last commit, in seconds since the epoch; None without a commit."""
        if self.beginning.store is not None and self.count:
            return self.last_event
        return None

    @property
    def samples(self) -> np.ndarray:
        """Return for each iteration of the curves of a fit whether it has read samples only; of a search nothing."""
        if self.is_search:
            return np.zeros(0, bool)
        return is_sampled(np.array(self.curves.get("passes", [])), np.array(self.curves.get("full_passes", [])))

    def last(self, name: str) -> float:
        """Return the last number of a curve, NaN if it has none."""
        values = self.curves.get(name)
        if values:
            return values[-1]
        return float("nan")

    def hear(self, event: Event, now: float) -> None:
        """Take up an event other than the first, at its time."""
        self.last_event = now
        self(event)

    def stepped(self, event: Stepped) -> None:
        """Remember the numbers of an iteration or a round."""
        self.count += 1
        for name in CURVES[event.kind]:
            self.curves.setdefault(name, []).append(getattr(event, name))
        if isinstance(event, IterationEnded):
            self.full_passes += event.full_passes
            self.passes += event.passes
        if isinstance(event, IterationEnded) and event.rows and event.seconds:
            self.speed = event.rows_per_second, event.megabytes_per_second
        # All curves have the same length.
        length = len(next(iter(self.curves.values())))
        if length > POINTS:
            self.curves = {name: values[::2] for name, values in self.curves.items()}

    def ended(self, event: Ended) -> None:
        """Remember why the run has ended, or what it has found."""
        self.status = event.outcome

    def failed(self, event: Failed) -> None:
        """Remember the error."""
        self.status = event.error
        self.has_failed = True

    def seconds_left(self, now: float) -> float | None:
        """Forecast the seconds until the fit reaches ``tol`` or ``max_iter``, whichever is first.

        The gradient is taken to fall further at its present rate. None where there are too few iterations, also on all
        rows after those on samples, or the fit has ended, and for a search.
        """
        samples = np.flatnonzero(self.samples)
        begin = 0
        if len(samples):
            begin = samples[-1] + 1
        gradients = np.array(self.curves.get("grad_norm", [])[begin:][-RECENT:])
        fit = self.beginning
        if not isinstance(fit, FitStarted) or not self.running or len(gradients) < 3:
            return None
        # Steps that are left until either.
        steps = fit.max_iter - self.last("iteration")
        if fit.tol > 0 and (gradients > 0).all():
            rate = np.polyfit(np.arange(len(gradients)), np.log(gradients), 1)[0]
            if rate < 0:
                steps_to_tol = np.ceil(np.log(fit.tol / gradients[-1]) / rate)
                steps = min(steps, max(0.0, steps_to_tol))
        # Each takes as long as the last ones; the step that runs has begun with the last event.
        seconds = self.curves.get("seconds", [])[begin:]
        elapsed = now - self.last_event
        return float(max(0.0, steps * np.median(seconds[-RECENT:]) - elapsed))


class Board(Protocol):
    """The source of the page: the scheduler's plugin, or a test's substitute."""

    watched: dict[str, Watched]

    def pass_done(self, run: str) -> tuple[int, float] | None:
        """Return the number of a fit's newest pass that has tasks, and the share of them done."""
        ...

    def memory_of_workers(self) -> list[tuple[str, int, int]]:
        """Return the address of each worker, the bytes of its process, and its limit, 0 for none."""
        ...

    def reading_speed(self, run: str) -> float | None:
        """Return bytes per second of reading and decoding alone."""
        ...


def now() -> float:
    """Return the seconds since the epoch, as events have them."""
    return time.time()
