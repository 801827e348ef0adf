"""The scheduler's side of `/gd`: a plugin that hears the events which clients log there.

The page draws what it remembers, and `/metrics` has its last values. Neither costs a fit more than one message each
iteration.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from distributed import Scheduler
from distributed.diagnostics.plugin import SchedulerPlugin

from .watched import Watched

#: The topic under which clients log events.
TOPIC = "dask_gd"

#: Fits and searches that are remembered, the newest.
FITS = 20


class Board(SchedulerPlugin):
    """The fits and searches that a scheduler has heard of, the newest last; and the page that shows them."""

    name = "dask_gd"
    idempotent = True

    def __init__(self) -> None:
        self.watched: dict[str, Watched] = {}

    async def start(self, scheduler: Scheduler) -> None:
        """On the scheduler: add the page to the dashboard, if that runs."""
        # Only there: Bokeh takes its time.
        from .page import add_page

        self.scheduler = scheduler
        add_page(self, scheduler)

    def log_event(self, topic: str, msg: Any) -> None:
        """Dask calls this with every event."""
        if topic != TOPIC:
            return
        run = msg["run"]
        if msg["event"] in ("FitStarted", "SearchStarted"):
            self.watched[run] = Watched(run, msg, msg["client"], msg["time"], msg["time"])
            while len(self.watched) > FITS:
                oldest = min(self.watched.values(), key=lambda watched: (watched.running, watched.began))
                del self.watched[oldest.run]
                forget(oldest.run)
        elif run in self.watched:
            self.watched[run].hear(msg)
            if msg["event"] == "IterationEnded":
                show(run, msg)

    def remove_client(self, scheduler: Scheduler, client: str) -> None:
        """Dask calls this when a client goes: its fits do not run any more."""
        for watched in self.watched.values():
            if watched.client == client and watched.running:
                watched.status = "its client is gone"

    def pass_done(self, run: str) -> tuple[int, float] | None:
        """Of the pass that a fit's tasks on the scheduler are of: its number, and the share of them that are done."""
        prefix = f"gd-gradient-{run}-"
        found = None
        for name, group in self.scheduler.task_groups.items():
            at = name.find(prefix)
            if at >= 0 and (number := name[at + len(prefix) :]).isdigit():
                left = sum(group.states[state] for state in ("waiting", "queued", "no-worker", "processing"))
                total = sum(group.states.values())
                if total and (found is None or int(number) > found[0]):
                    found = int(number), 1 - left / total
        return found

    def reading_speed(self, run: str) -> float | None:
        """Bytes per second if the cluster's threads did nothing but read and decode, at the speed at which they did so
        in the fit's tasks: the floor of a pass. None before it is known, and where rows come otherwise: from Dask's own
        tasks, or asked ahead of a distant store.
        """
        watched = self.watched[run]
        spans = self.scheduler.extensions.get("spans")
        kind = "search" if watched.is_search else "fit"
        own = []
        if spans is not None:
            own = spans.spans_search_by_tag.get(f"gd-{kind}-{run}", [])
        total = {("read", "bytes"): 0.0, ("read", "seconds"): 0.0, ("decode", "seconds"): 0.0}
        for span in own:
            for key, value in span.cumulative_worker_metrics.items():
                if key[0] == "execute" and key[-2:] in total:
                    total[key[-2:]] += value
        nbytes, *seconds = total.values()
        threads = sum(worker.nthreads for worker in self.scheduler.workers.values())
        if nbytes and sum(seconds) > 0:
            return nbytes * threads / sum(seconds)
        return None


@lru_cache(maxsize=1)
def gauges() -> dict[str, Any]:
    """Prometheus gauges in the registry that Dask serves at ``/metrics``; none where prometheus_client is absent."""
    try:
        from prometheus_client import Gauge
    except ImportError:
        return {}
    told = {
        "loss": "Objective of the fit's last iteration",
        "iteration": "Last finished iteration of the fit",
        "grad_norm": "Largest component of the gradient over its scale",
        "rows_per_second": "Rows used per second in the fit's last iteration",
    }
    return {name: Gauge(f"dask_gd_{name}", said, ["fit"]) for name, said in told.items()}


def show(run: str, message: dict[str, Any]) -> None:
    """Set a fit's gauges."""
    values = {**message, "rows_per_second": message["rows"] / max(message["seconds"], 1e-9)}
    for name, gauge in gauges().items():
        gauge.labels(fit=run).set(values[name])


def forget(run: str) -> None:
    """Remove a fit's gauges."""
    for gauge in gauges().values():
        gauge.remove(run)
