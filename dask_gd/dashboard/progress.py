"""Progress in the terminal or notebook, drawn by tqdm: a bar for the iterations and one for the running pass."""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import Any

from tqdm.auto import tqdm

from ..cluster import active_client
from ..events import Event, Failed, FitEnded, FitStarted, IterationEnded, RoundEnded, SearchEnded, SearchStarted
from ..passes import pass_done
from .plugin import Board

#: Seconds between looks at how far the pass is.
INTERVAL = 0.25

#: Seconds that the end of a fit waits for an answer to the last of them.
JOINED_WITHIN = 5.0

#: What is imported in a notebook's kernel.
NOTEBOOK = {"ipykernel"}


class Progress:
    """A callback that draws two bars: the iterations, with loss, gradient, rows/s and MB/s, and the running pass.

    Of a search the first bar counts the fits that have ended. Nothing is drawn where standard error is neither a
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

    def __call__(self, event: Event) -> None:
        """Draw what the event says."""
        try:
            self._draw(event)
        except BaseException:
            self._close()
            raise

    def _draw(self, event: Event) -> None:
        if isinstance(event, FitStarted):
            self._open(event.run, f"fit {event.run}", event.max_iter, "it", event.resumed_from or 0)
        elif isinstance(event, SearchStarted):
            self._open(event.run, f"search {event.run}", event.fits, "fit", 0)
        elif self.bar is None:
            return
        elif isinstance(event, IterationEnded):
            self.bar.n = event.iteration
            self.bar.set_postfix_str(
                f"loss {event.loss:.6g}, gradient {event.grad_norm:.1e}, "
                f"{event.rows_per_second:.3g} rows/s, {event.megabytes_per_second:.0f} MB/s"
            )
        elif isinstance(event, RoundEnded):
            self.bar.n = event.fits - event.running
            self.bar.set_postfix_str(f"pass {event.passes}, {event.candidates} candidates running")
        else:
            if isinstance(event, SearchEnded):
                self.bar.n = self.bar.total
            self._close(ending(event))

    def _open(self, run: str, name: str, total: int, unit: str, done: int) -> None:
        self._close()
        options = {"disable": not shown(self.options.get("file")), **self.options}
        if not NOTEBOOK & sys.modules.keys():
            options["file"] = Lasting(options.get("file") or sys.stderr)
        self.bar = tqdm(total=total, desc=name, unit=unit, initial=done, **options)
        if self.bar.disable:
            self.passing = None
        else:
            self.passing = PassBar(run, options)

    def _close(self, reason: str | None = None) -> None:
        """Nothing is left of the bars, so that whoever has this callback can be copied."""
        bar = self.bar
        passing = self.passing
        self.bar = None
        self.passing = None
        if passing is not None:
            passing.close()
        if bar is not None and reason is not None:
            bar.set_description_str(reason)
            bar.close()


def ending(event: FitEnded | SearchEnded | Failed) -> str:
    """Why, in a word or a line."""
    if isinstance(event, FitEnded):
        return event.reason
    if isinstance(event, SearchEnded):
        return f"best {event.best}"
    return event.error


def shown(file: Any = None) -> bool:
    """Somebody may be looking: at a terminal, or at a notebook."""
    if file is None:
        file = sys.stderr
    return bool(NOTEBOOK & sys.modules.keys()) or bool(getattr(file, "isatty", bool)())


class Lasting:
    """A file whose other end may go away: what can no longer be written is left out.

    Where a write raises, tqdm keeps its lock for ever, and other threads' bars wait for it.
    """

    def __init__(self, file: Any):
        self.file = file

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self.file.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self.file.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


class PassBar:
    """A bar for the tasks of a fit's running pass, of this process or as a cluster's scheduler says; a thread draws."""

    def __init__(self, run: str, options: dict[str, Any]):
        self.run = run
        self.client = active_client()
        self.ended = threading.Event()
        self.number = 0
        form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}"
        self.bar = tqdm(total=1.0, desc="pass", leave=False, **{"bar_format": form, **options})
        self.thread = threading.Thread(target=self._follow, daemon=True)
        self.thread.start()

    def close(self) -> None:
        """Stop looking."""
        self.ended.set()
        self.thread.join(JOINED_WITHIN)
        self.bar.close()

    def _follow(self) -> None:
        # Where the scheduler is gone or lacks this package, and where the terminal is, there is nothing to draw.
        with contextlib.suppress(Exception):
            while not self.ended.wait(INTERVAL):
                told = pass_done(self.run)
                if told is None and self.client is not None:
                    told = self.client.run_on_scheduler(pass_on_scheduler, run=self.run)
                if told is not None:
                    self._draw(*told)

    def _draw(self, number: int, share: float) -> None:
        if number != self.number:
            self.number = number
            self.bar.reset()
            self.bar.set_description_str(f"pass {number}", refresh=False)
        self.bar.update(share - self.bar.n)


def pass_on_scheduler(run: str, dask_scheduler: Any = None) -> tuple[int, float] | None:
    """On the scheduler: see `Board.pass_done`."""
    board = dask_scheduler.plugins.get(Board.name)
    if board is None:
        return None
    return board.pass_done(run)
