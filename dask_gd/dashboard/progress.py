"""Draw progress in the terminal or notebook with tqdm: a bar for the iterations and a bar for the running pass."""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import Any

from tqdm.auto import tqdm

from ..cluster import active_client
from ..display.texts import readings, sampled
from ..events import (
    Ended,
    Event,
    Failed,
    FitStarted,
    IterationEnded,
    Listener,
    RoundEnded,
    SearchStarted,
    Started,
    Stepped,
)
from ..passes import pass_done
from .plugin import Board

#: Seconds between looks at how far the pass is.
INTERVAL = 0.25

#: Seconds that the end of a fit waits for an answer to the last look.
JOINED_WITHIN = 5.0

#: Modules that are imported in a notebook's kernel.
NOTEBOOK = {"ipykernel"}


class Progress(Listener):
    """A callback that draws two bars: the iterations, with loss, gradient, rows/s and MB/s, and the running pass.

    For a search the first bar counts the fits that have ended. Nothing is drawn where standard error is neither a
    terminal nor a notebook's.

    Parameters
    ----------
    **options
        Passed to `tqdm.auto.tqdm`, for example ``file``, or ``disable=False`` to draw in any case.

    Examples
    --------
    >>> x = np.array([[0.0], [1.0], [2.0]])
    >>> run = dask_gd.fit(x, np.array([1.0, 3.0, 5.0]), callbacks=[dask_gd.Progress()])
    """

    def __init__(self, **options: Any):
        self.options = options
        self.bar: tqdm | None = None
        self.passing: PassBar | None = None
        self.speed = ""
        # Of the fit since it began or was resumed.
        self.full_passes = 0.0
        self.passes = 0.0

    def __call__(self, event: Event) -> None:
        """Draw the state after an event."""
        try:
            super().__call__(event)
        except BaseException:
            self._close()
            raise

    def started(self, event: Started) -> None:
        """Open the bars."""
        name = f"{event.kind} {event.run}"
        if isinstance(event, FitStarted):
            self._open(event.run, name, total=event.max_iter, unit="it", done=event.resumed_from or 0)
        elif isinstance(event, SearchStarted):
            self._open(event.run, name, total=event.fits, unit="fit", done=0)

    def stepped(self, event: Stepped) -> None:
        """Move the first bar."""
        if self.bar is None:
            return
        if isinstance(event, IterationEnded):
            self.bar.n = event.iteration
            loss = f"loss {event.loss:.6g} {sampled(event.passes, event.full_passes)}".rstrip()
            self.full_passes += event.full_passes
            self.passes += event.passes
            # A step without a pass says nothing of its speed.
            if event.rows:
                self.speed = f", {event.rows_per_second:.3g} rows/s, {event.megabytes_per_second:.0f} MB/s"
            read = readings(self.full_passes, self.passes)
            self.bar.set_postfix_str(f"{loss}, gradient {event.grad_norm:.1e}, {read}{self.speed}")
        elif isinstance(event, RoundEnded):
            self.bar.n = event.fits - event.running
            full = f"{event.full_passes} over all rows"
            self.bar.set_postfix_str(f"pass {event.passes}, {full}, {event.candidates} candidates running")

    def ended(self, event: Ended) -> None:
        """Close the bars, with the outcome. All fits of a search have ended, also those that took no pass."""
        if self.bar is not None and event.kind == "search":
            self.bar.n = self.bar.total
        self._close(event.outcome)

    def failed(self, event: Failed) -> None:
        """Close the bars, with the kind of the error, which is raised with all that it says."""
        kind, _, _ = event.error.partition(":")
        self._close(f"failed, {kind}")

    def _open(self, run: str, name: str, *, total: int, unit: str, done: int) -> None:
        """Open the bars of a run, and close those of another."""
        self._close()
        self.speed = ""
        self.full_passes = 0.0
        self.passes = 0.0
        # The user's options take precedence.
        options = {"disable": not shown(self.options.get("file")), **self.options}
        if not NOTEBOOK & sys.modules.keys():
            options["file"] = Lasting(options.get("file") or sys.stderr)
        self.bar = tqdm(total=total, desc=name, unit=unit, initial=done, **options)
        if self.bar.disable:
            self.passing = None
        else:
            self.passing = PassBar(run, options)

    def _close(self, reason: str | None = None) -> None:
        """Close the bars and forget them, so that an object with this callback can be copied."""
        # They are forgotten first, whatever closing raises.
        bar = self.bar
        passing = self.passing
        self.bar = None
        self.passing = None
        if passing is not None:
            passing.close()
        if bar is not None and reason is not None:
            # To close a bar draws it.
            bar.set_description_str(reason, refresh=False)
            bar.close()


def shown(file: Any = None) -> bool:
    """Return whether somebody may be looking, at a terminal or at a notebook."""
    if file is None:
        file = sys.stderr
    is_notebook = bool(NOTEBOOK & sys.modules.keys())
    return is_notebook or bool(getattr(file, "isatty", bool)())


class Lasting:
    """A file whose other end may go away: text that can no longer be written is left out.

    Where a write raises, tqdm keeps its lock for ever, and other threads' bars wait for it.
    """

    def __init__(self, file: Any):
        self.file = file

    def write(self, text: str) -> None:
        """Write a text, if that is still possible."""
        with contextlib.suppress(OSError, ValueError):
            self.file.write(text)

    def flush(self) -> None:
        """Flush the file, if that is still possible."""
        with contextlib.suppress(OSError, ValueError):
            self.file.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


class PassBar:
    """A bar for the tasks of a fit's running pass, in this process or on a cluster; a thread draws it."""

    def __init__(self, run: str, options: dict[str, Any]):
        self.run = run
        self.client = active_client()
        self.ended = threading.Event()
        self.number = 0
        options = {"bar_format": "{desc}: {percentage:3.0f}%|{bar}| {elapsed}", **options}
        self.bar = tqdm(total=1.0, desc="pass", leave=False, **options)
        self.thread = threading.Thread(target=self._follow, daemon=True)
        self.thread.start()

    def close(self) -> None:
        """End the thread and close the bar."""
        self.ended.set()
        self.thread.join(JOINED_WITHIN)
        self.bar.close()

    def _follow(self) -> None:
        """Draw the share of tasks that are done, until the run ends."""
        # Where the scheduler is gone or lacks this package, and where the terminal is gone, there is nothing to draw.
        with contextlib.suppress(Exception):
            while not self.ended.wait(INTERVAL):
                done = pass_done(self.run)
                if done is None and self.client is not None:
                    done = self.client.run_on_scheduler(pass_on_scheduler, run=self.run)
                if done is not None:
                    number, share = done
                    self._draw(number, share)

    def _draw(self, number: int, share: float) -> None:
        """Draw the share of the tasks of a pass that are done."""
        # Each pass begins at 0.
        if number != self.number:
            self.number = number
            self.bar.reset()
            self.bar.set_description_str(f"pass {number}", refresh=False)
        self.bar.update(share - self.bar.n)


def pass_on_scheduler(run: str, dask_scheduler: Any = None) -> tuple[int, float] | None:
    """Return what `Board.pass_done` returns; this runs on the scheduler."""
    board = dask_scheduler.plugins.get(Board.name)
    if board is None:
        return None
    return board.pass_done(run)
