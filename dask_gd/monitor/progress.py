"""Progress in the terminal or notebook, drawn by tqdm: a bar for the iterations and one for the running pass."""

from __future__ import annotations

import sys
import threading
from typing import Any

import dask.callbacks
from tqdm.auto import tqdm

from ..events import Event, Failed, FitEnded, FitStarted, IterationEnded, RoundEnded, SearchEnded, SearchStarted
from ..passes import active_client
from .board import Board

#: Seconds between questions to a cluster's scheduler how far the pass is.
INTERVAL = 0.5


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

    def __call__(self, event: Event) -> None:
        """Draw what the event says."""
        if isinstance(event, FitStarted):
            self._open(event.run, f"fit {event.run}", event.max_iter, "it", event.resumed_from or 0)
        elif isinstance(event, SearchStarted):
            self._open(event.run, f"search {event.run}", event.fits, "fit", 0)
        elif isinstance(event, IterationEnded):
            self.bar.n = event.iteration
            self.bar.set_postfix_str(
                f"loss {event.loss:.6g}, gradient {event.grad_norm:.1e}, "
                f"{event.rows_per_second:.3g} rows/s, {event.megabytes_per_second:.0f} MB/s"
            )
        elif isinstance(event, RoundEnded):
            self.bar.n = event.fits - event.running
            self.bar.set_postfix_str(f"pass {event.passes}, {event.candidates} candidates running")
        elif isinstance(event, FitEnded):
            self._close(event.reason)
        elif isinstance(event, SearchEnded):
            self.bar.n = self.bar.total
            self._close(f"best {event.best}")
        elif isinstance(event, Failed) and hasattr(self, "bar"):
            self._close(event.error)

    def _open(self, run: str, name: str, total: int, unit: str, done: int) -> None:
        options = {"disable": not shown(self.options.get("file")), **self.options}
        self.bar = tqdm(total=total, desc=name, unit=unit, initial=done, **options)
        self.passing = None if self.bar.disable else PassBar(run, options)

    def _close(self, reason: str) -> None:
        if self.passing is not None:
            self.passing.close()
        self.bar.set_description_str(reason)
        self.bar.close()


def shown(file: Any = None) -> bool:
    """Somebody may be looking: at a terminal, or at a notebook."""
    file = sys.stderr if file is None else file
    return "ipykernel" in sys.modules or bool(getattr(file, "isatty", bool)())


class PassBar(dask.callbacks.Callback):
    """A bar for the tasks of a fit's running pass: those of Dask's threads as they end, or what the scheduler says."""

    def __init__(self, run: str, options: dict[str, Any]):
        self.prefix, self.run, self.number = f"gd-gradient-{run}-", run, 0
        form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}"
        self.bar = tqdm(total=1.0, desc="pass", leave=False, **{"bar_format": form, **options})
        self.tasks = self.done = 0
        self.ended, self.client = threading.Event(), active_client()
        self.register()
        if self.client is not None:
            threading.Thread(target=self._ask, daemon=True).start()

    def close(self) -> None:
        """Stop looking."""
        self.ended.set()
        self.unregister()
        self.bar.close()

    def _draw(self, number: int, share: float) -> None:
        if number != self.number:
            self.number = number
            self.bar.reset()
            self.bar.set_description_str(f"pass {number}", refresh=False)
        self.bar.update(share - self.bar.n)

    def _ask(self) -> None:
        while not self.ended.wait(INTERVAL):
            try:
                told = self.client.run_on_scheduler(pass_done, run=self.run)  # type: ignore[union-attr]
            except Exception:
                return  # The scheduler is gone, or lacks this package: there is nothing to draw.
            if told is not None and not self.ended.is_set():
                self._draw(*told)

    def _ours(self, key: Any) -> bool:
        return isinstance(key, tuple) and str(key[0]).startswith(self.prefix)

    def _start(self, dsk: dict) -> None:
        if own := [key for key in dsk if self._ours(key)]:
            self.tasks, self.done = len(own), 0
            self._draw(int(own[0][0].removeprefix(self.prefix)), 0.0)

    def _posttask(self, key: Any, result: Any, dsk: dict, state: dict, worker: Any) -> None:
        if self._ours(key):
            self.done += 1
            self._draw(self.number, self.done / self.tasks)


def pass_done(run: str, dask_scheduler: Any = None) -> tuple[int, float] | None:
    """On the scheduler: see `Board.pass_done`."""
    board = dask_scheduler.plugins.get(Board.name)
    return None if board is None else board.pass_done(run)
