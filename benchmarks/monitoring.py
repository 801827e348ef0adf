"""What does it cost to watch a fit?

    python benchmarks/monitoring.py --repeat 15

Gradient descent on 250,000 x 50 float64 rows in Zarr, 2 workers, some tens of iterations of some tens of milliseconds
each, in turns: unwatched (no events to the scheduler, no span, no metering inside the tasks, no callbacks) and watched
(all of these, two bars drawn to a file, and a log of every iteration); and a third time watched while a Bokeh session,
in a process of its own, has the page /gd open. With a store, every iteration committed, and without.

Target: watched takes at most 3 % longer.
"""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from unittest import mock

import dask
from common import cluster, in_turns, make_problem
from distributed import Client

import dask_gd
from dask_gd import passes
from dask_gd.sources import chunk_files as files
from dask_gd.sources import reader

TARGET, ROWS, FEATURES, CHUNK_ROWS, STEPS = 1.03, 250_000, 50, 12_500, 40
TITLE = f"Gradient descent, {STEPS} steps on {ROWS:,} x {FEATURES}, watched and not"
HEADER = ("store", "fit", "median s", "median of the ratios to unwatched", "ratios")

#: Keeps a page open as a browser does, and asks for nothing else.
VIEWER = (
    "import sys, time; from bokeh.client import pull_session; s = pull_session(url=sys.argv[1]); print(1, flush=True)\n"
)
VIEWER += "while True: time.sleep(0.05); s.document.roots"


class Unmetered:
    """In place of Dask's meter."""

    def meter(self, label: str):
        return contextlib.nullcontext()

    def digest_metric(self, *metric) -> None:
        pass


def set_metering(on: bool) -> None:
    """In a worker: meter tasks, or not."""
    from distributed.metrics import context_meter

    for module in (passes, reader, files):
        module.context_meter = context_meter if on else Unmetered()


@contextlib.contextmanager
def unwatched(client: Client):
    client.run(set_metering, False)
    with dask.config.set({"dask_gd.dashboard": False}), mock.patch.object(passes, "span_of") as span:
        span.return_value = contextlib.nullcontext()
        yield ()
    client.run(set_metering, True)


@contextlib.contextmanager
def watched(directory: Path):
    yield (
        dask_gd.Progress(file=io.StringIO(), disable=False),
        dask_gd.callbacks.LogFile(directory / "fit.csv"),
    )


@contextlib.contextmanager
def viewed(client: Client, directory: Path):
    url = client.dashboard_link.replace("status", "gd")
    viewer = subprocess.Popen([sys.executable, "-c", VIEWER, url], stdout=subprocess.PIPE)
    try:
        assert viewer.stdout is not None
        viewer.stdout.readline()
        with watched(directory) as callbacks:
            yield callbacks
    finally:
        viewer.kill()
        viewer.wait()


def measure(directory: Path, repeat: int) -> tuple[list[tuple], dict[str, bool]]:
    """The table's rows and the verdict."""
    path = make_problem(directory, ROWS, FEATURES, CHUNK_ROWS, "lz4")
    source = dask_gd.open(path, x="x", y="y")

    def seconds(callbacks, store) -> float:
        began = time.perf_counter()
        options = {"solver": "gradient_descent", "max_iter": STEPS, "tol": 0.0, "store": store}
        dask_gd.fit(source, loss="logistic", **options, callbacks=callbacks)
        return time.perf_counter() - began

    rows, verdicts = [], {}
    with cluster(2, "1GB") as client:
        seconds((), None)
        for stored in (False, True):
            taken: dict[str, list[float]] = {"unwatched": [], "watched": [], "watched, page open": []}
            for i in range(repeat):
                ways = [
                    ("unwatched", unwatched(client)),
                    ("watched", watched(directory)),
                    ("watched, page open", viewed(client, directory)),
                ]
                # Who is first takes turns too.
                for name, way in ways[i % 3 :] + ways[: i % 3]:
                    store = directory / f"run-{time.time_ns()}" if stored else None
                    with way as callbacks:
                        taken[name].append(seconds(callbacks, store))
            for name, times in taken.items():
                ratios = [t / u for t, u in zip(times, taken["unwatched"], strict=True)]
                shown = " ".join(f"{r:.3f}" for r in ratios) if name != "unwatched" else ""
                where = "on disk" if stored else "none"
                rows.append((where, name, median(times), median(ratios), shown))
                if name == "watched":
                    verdicts[f"store {where}: watched takes {median(ratios):.3f} times, target <= {TARGET}"] = (
                        median(ratios) <= TARGET
                    )
    return rows, verdicts


if __name__ == "__main__":
    in_turns(__doc__, TITLE, HEADER, measure, repeat=15)
