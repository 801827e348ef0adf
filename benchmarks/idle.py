"""What do the processes of a Dask cluster take while they do nothing, and which settings lower it?

    python benchmarks/idle.py [--workers 4] [--seconds 12]

CPU milliseconds in a second of waiting, of a worker (the median of all) and of the process with client, scheduler and
nannies. The settings are Dask's: samples of what tasks do every 10 ms, a look at the event loop every 20 ms, and one at
the memory every 100 ms.

No target: what others measure by iterations that wait for each other has this in it.
"""

from __future__ import annotations

import time
from statistics import median

import dask
from common import arguments, cluster, finish

TICK = {"distributed.admin.tick.interval": "1s"}
NO_PROFILE = {"distributed.worker.profile.enabled": False}
MEMORY = {"distributed.worker.memory.monitor-interval": "500ms"}
SETTINGS = {
    "as they are": {},
    "tick 1s": TICK,
    "tick 1s, no profile": {**TICK, **NO_PROFILE},
    "tick 1s, no profile, memory 500ms": {**TICK, **NO_PROFILE, **MEMORY},
}


def used() -> float:
    return time.process_time()


def idle(workers: int, seconds: float) -> tuple[float, float]:
    """Return CPU milliseconds in a second of an idle worker, and of this process."""
    with cluster(workers, "1GB") as client:
        client.run(used)
        time.sleep(2)
        before = client.run(used)
        own = used()
        began = time.perf_counter()
        time.sleep(seconds)
        after = client.run(used)
        waited = time.perf_counter() - began
        of_workers = [(after[address] - before[address]) / waited * 1e3 for address in before]
        return median(of_workers), (used() - own) / waited * 1e3


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=12.0)
    args = parser.parse_args()
    table = []
    for name, settings in SETTINGS.items():
        with dask.config.set(settings):
            worker, own = idle(args.workers, args.seconds)
        table.append((name, round(worker, 1), round(own, 1)))
    finish("Idle processes (CPU ms a second)", ("settings", "worker", "client and scheduler"), table, {}, args.output)


if __name__ == "__main__":
    main()
