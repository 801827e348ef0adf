"""A progress line in the terminal or notebook, drawn by tqdm."""

from __future__ import annotations

from tqdm.auto import tqdm

from ..events import Event, FitEnded, FitStarted, IterationEnded


class Progress:
    """A callback that keeps one line up to date: iteration, loss, gradient, rows/s and MB/s.

    Parameters
    ----------
    **options
        Passed to `tqdm.auto.tqdm`, for example ``file`` or ``disable``.

    Examples
    --------
    >>> x = np.array([[0.0], [1.0], [2.0]])
    >>> run = dask_gd.fit(x, np.array([1.0, 3.0, 5.0]), callbacks=[dask_gd.Progress(disable=True)])
    """

    def __init__(self, **options):
        self.options = options

    def __call__(self, event: Event) -> None:
        """Draw what the event says."""
        if isinstance(event, FitStarted):
            self.line = tqdm(total=event.max_iter, desc=f"fit {event.run}", unit="it", **self.options)
        elif isinstance(event, IterationEnded):
            self.line.n = event.iteration
            self.line.set_postfix_str(
                f"loss {event.loss:.6g}, gradient {event.grad_norm:.1e}, "
                f"{event.rows_per_second:.3g} rows/s, {event.megabytes_per_second:.0f} MB/s"
            )
        elif isinstance(event, FitEnded):
            self.line.set_description_str(event.reason)
            self.line.close()
