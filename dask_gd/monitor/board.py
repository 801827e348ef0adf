"""What the scheduler remembers of fits and searches: a plugin that hears the events which clients log there.

The page `/gd` draws it, and `/metrics` has its last values. Neither costs a fit more than one message each iteration.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from distributed import Scheduler
from distributed.diagnostics.plugin import SchedulerPlugin

#: The topic under which clients log events.
TOPIC = "dask_gd"

#: Fits and searches remembered, the newest; and points of each, of which every other goes when there are more.
FITS, POINTS = 20, 2_000

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
        return self.heard if self.started["store"] is not None and self.count else None

    def last(self, name: str) -> float:
        values = self.curves.get(name)
        return values[-1] if values else float("nan")

    def hear(self, message: dict[str, Any]) -> None:
        """Take up one of its events but the first."""
        kind, self.heard = message["event"], message["time"]
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
        gradients, seconds = np.array(self.curves.get("grad_norm", [])[-RECENT:]), self.curves.get("seconds", [])
        if not self.running or len(gradients) < 3:
            return None
        left = self.started["max_iter"] - self.last("iteration")
        tol = self.started["tol"]
        if tol > 0 and (gradients > 0).all():
            fall = np.polyfit(np.arange(len(gradients)), np.log(gradients), 1)[0]
            if fall < 0:
                left = min(left, max(0.0, np.ceil(np.log(tol / gradients[-1]) / fall)))
        return float(max(0.0, left * np.median(seconds[-RECENT:]) - (now - self.heard)))


class Board(SchedulerPlugin):
    """The fits and searches that a scheduler has heard of, the newest last; and the page that shows them."""

    name = "dask_gd"
    idempotent = True

    def __init__(self) -> None:
        self.watched: dict[str, Watched] = {}

    async def start(self, scheduler: Scheduler) -> None:
        """On the scheduler: add the page to the dashboard, if that runs."""
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
        prefix, found = f"gd-gradient-{run}-", None
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
        watched, spans = self.watched[run], self.scheduler.extensions.get("spans")
        kind = "search" if watched.is_search else "fit"
        own = spans.spans_search_by_tag.get(f"gd-{kind}-{run}", []) if spans is not None else []
        total = {("read", "bytes"): 0.0, ("read", "seconds"): 0.0, ("decode", "seconds"): 0.0}
        for span in own:
            for key, value in span.cumulative_worker_metrics.items():
                if key[0] == "execute" and key[-2:] in total:
                    total[key[-2:]] += value
        nbytes, *seconds = total.values()
        threads = sum(worker.nthreads for worker in self.scheduler.workers.values())
        return nbytes * threads / sum(seconds) if nbytes and sum(seconds) > 0 else None


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


def now() -> float:
    """Seconds since the epoch, as events have them."""
    return time.time()
