"""Hear, on the scheduler, the events that clients log there: the plugin behind the page `/gd`.

The page draws what the plugin remembers, and `/metrics` has the last values. Together they cost a fit a message for
each iteration.
"""

from __future__ import annotations

import contextlib
import re
from functools import lru_cache
from typing import Any

from distributed import Scheduler
from distributed.diagnostics.plugin import SchedulerPlugin

from ..events import FitStarted, IterationEnded, SearchStarted, event_of
from .watched import Watched

#: The topic under which clients log events.
TOPIC = "dask_gd"

#: Fits and searches that are remembered, counted from the newest.
FITS = 20


class Board(SchedulerPlugin):
    """A plugin with the fits and searches that a scheduler has heard of, the newest last, and their page."""

    name = "dask_gd"
    idempotent = True

    def __init__(self) -> None:
        self.watched: dict[str, Watched] = {}

    async def start(self, scheduler: Scheduler) -> None:
        """Add the page to the scheduler's dashboard, if that runs."""
        # Imported only on the scheduler: Bokeh takes its time.
        from .page import add_page

        self.scheduler = scheduler
        add_page(self, scheduler)

    def log_event(self, topic: str, msg: Any) -> None:
        """Take up an event of dask_gd; Dask calls this for every event."""
        if topic != TOPIC:
            return
        event = event_of(msg)
        time = msg["time"]
        run = event.run
        if isinstance(event, FitStarted | SearchStarted):
            self.watched[run] = Watched(event, client=msg["client"], began=time, last_event=time)
            # Runs that have ended are forgotten before runs that have not.
            while len(self.watched) > FITS:
                oldest = min(self.watched.values(), key=lambda watched: (watched.running, watched.began))
                del self.watched[oldest.run]
                forget(oldest.run)
        elif run in self.watched:
            self.watched[run].hear(event, time)
            if isinstance(event, IterationEnded):
                show(event)

    def remove_client(self, scheduler: Scheduler, client: str) -> None:
        """Note that the fits of a client that has gone do not run any more; Dask calls this for every client."""
        for watched in self.watched.values():
            if watched.client == client and watched.running:
                watched.status = "its client is gone"

    def pass_done(self, run: str) -> tuple[int, float] | None:
        """Return the number of a fit's newest pass that has tasks on the scheduler, and the share of them done.

        With weights in blocks it is half a pass: the predictions, or the gradient.
        """
        # Dask may put words before the name. Tasks of blocks have the name of their owners, too.
        pattern = re.compile(rf"gd-(?:gradient-{run}|(?:forward|backward)-{run}-[0-9a-f]+)-([0-9]+)$")
        newest = None
        for name, group in self.scheduler.task_groups.items():
            match = pattern.search(name)
            if match is None:
                continue
            number = match[1]
            left = sum(group.states[state] for state in ("waiting", "queued", "no-worker", "processing"))
            total = sum(group.states.values())
            if total and (newest is None or int(number) > newest[0]):
                newest = (int(number), 1 - left / total)
        return newest

    def memory_of_workers(self) -> list[tuple[str, int, int]]:
        """Return the address of each worker, the bytes of its process, and its limit, 0 for none."""
        found = []
        for address, worker in sorted(self.scheduler.workers.items()):
            found.append((address, int(worker.metrics.get("memory", 0)), worker.memory_limit or 0))
        return found

    def reading_speed(self, run: str) -> float | None:
        """Return the bytes per second of threads that do nothing but read and decode: the floor of a pass.

        All of the cluster's threads would read at the speed at which they did so in the fit's tasks. None before it is
        known, and where rows come otherwise: from Dask's own tasks, or asked ahead of a distant store.
        """
        # The spans that Dask keeps of the run's tasks.
        kind = self.watched[run].beginning.kind
        spans = []
        extension = self.scheduler.extensions.get("spans")
        if extension is not None:
            spans = extension.spans_search_by_tag.get(f"gd-{kind}-{run}", [])
        # Add up what the workers have measured in the run's tasks.
        totals = {("read", "bytes"): 0.0, ("read", "seconds"): 0.0, ("decode", "seconds"): 0.0}
        for span in spans:
            for key, value in span.cumulative_worker_metrics.items():
                if key[0] == "execute" and key[-2:] in totals:
                    totals[key[-2:]] += value
        nbytes = totals["read", "bytes"]
        seconds = totals["read", "seconds"] + totals["decode", "seconds"]
        threads = sum(worker.nthreads for worker in self.scheduler.workers.values())
        if nbytes and seconds > 0:
            return nbytes * threads / seconds
        return None


@lru_cache(maxsize=1)
def gauges() -> dict[str, Any]:
    """Return Prometheus gauges in the registry that Dask serves at ``/metrics``; none without prometheus_client."""
    try:
        from prometheus_client import Gauge
    except ImportError:
        return {}
    descriptions = {
        "loss": "Objective of the fit's last iteration",
        "iteration": "Last finished iteration of the fit",
        "grad_norm": "Largest component of the gradient over its scale",
        "rows_per_second": "Rows used per second in the fit's last iteration that has read rows",
    }
    return {name: Gauge(f"dask_gd_{name}", description, ["fit"]) for name, description in descriptions.items()}


def show(event: IterationEnded) -> None:
    """Set a fit's gauges."""
    values = event.as_message()
    # A step without a pass says nothing of the speed.
    if event.rows:
        values["rows_per_second"] = event.rows / max(event.seconds, 1e-9)
    for name, gauge in gauges().items():
        if name in values:
            gauge.labels(fit=event.run).set(values[name])


def forget(run: str) -> None:
    """Remove a fit's gauges, as far as it has any."""
    for gauge in gauges().values():
        with contextlib.suppress(KeyError):
            gauge.remove(run)
