"""What a fit tells its callbacks: typed events, each of which prints as one readable line.

A callback is any callable of one event; ``callbacks=[print]`` follows a fit. Callbacks are called on the
client, after the iteration they hear about has been committed, so that one that raises loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class FitStarted:
    """A fit is about to make its first pass; ``resumed_from`` is the stored iteration it goes on from, or None."""

    run: str
    data: str
    loss: str
    penalty: str
    solver: str
    max_iter: int
    resumed_from: int | None

    def __str__(self) -> str:
        went_on = "" if self.resumed_from is None else f", resumed after iteration {self.resumed_from}"
        return f"fit {self.run}: {self.data}, loss {self.loss}, penalty {self.penalty}, solver {self.solver}{went_on}"


@dataclass(frozen=True)
class IterationEnded:
    """An iteration has been committed. Iteration 0 is the start itself, before any step.

    ``loss`` and ``grad_norm`` are those of the iteration's weights; ``passes``, ``rows``, ``bytes_read`` (decoded) and
    ``seconds`` are what this iteration took.
    """

    iteration: int
    loss: float
    grad_norm: float
    step_size: float
    passes: float
    rows: float
    bytes_read: float
    seconds: float

    @property
    def rows_per_second(self) -> float:
        return self.rows / self.seconds

    @property
    def megabytes_per_second(self) -> float:
        return self.bytes_read / 1e6 / self.seconds

    def __str__(self) -> str:
        speed = (
            f"{self.rows_per_second:.3g} rows/s  {self.megabytes_per_second:.0f} MB/s"
            if self.rows
            else "no pass needed"
        )
        some = f"  on {self.passes:.0%} of the rows" if 0 < self.passes < 1 else ""
        return f"iteration {self.iteration:4d}  loss {self.loss:.10g}  gradient {self.grad_norm:.2e}  {speed}{some}"


@dataclass(frozen=True)
class FitEnded:
    """The fit has stopped, and why: see `FitResult.reason`."""

    reason: str
    n_iter: int
    loss: float

    def __str__(self) -> str:
        return f"stopped after {self.n_iter} iterations: {self.reason}, loss {self.loss:.10g}"


@dataclass(frozen=True)
class RoundEnded:
    """The running fits of a search have taken the step that a pass has shown them; see `dask_gd.search`."""

    passes: int
    running: int
    fits: int

    def __str__(self) -> str:
        return f"pass {self.passes:4d}  {self.running} of {self.fits} fits still running"


class StopFit(Exception):
    """Raised by a callback: the fit ends with the iteration that has just been committed, and with this reason."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


Event = FitStarted | IterationEnded | FitEnded | RoundEnded
Callback = Callable[[Event], object]
