"""What runs where: which partitions are read together, in which task, and on which worker."""

from __future__ import annotations

import logging
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ..cluster import active_client
from ..kernels.base import Request
from ..model.losses import Loss
from ..sources import Reader, Source
from ..sources.plan import PARTITION_BYTES

logger = logging.getLogger("dask_gd")


#: A query up to this size is part of every task, which costs less than the message that fetches it; and tasks that
#: depend on nothing are spread evenly, where a few with one dependency would be sent to the worker that holds it.
LITERAL_BYTES = 64 << 10

#: Tasks for each of the cluster's threads, where partitions are so small that a task may handle several: enough for
#: threads that are done early to help the others. The sums keep their order, one for each partition.
TASKS_EACH = 4


class Work(NamedTuple):
    """What every task of one pass has in common."""

    reader: Reader
    query: np.ndarray
    loss: Loss
    request: Request
    #: The partitions of each task.
    groups: tuple[tuple[int, ...], ...]
    #: The run and the number of its pass, if rows are to be kept for the next.
    keep: tuple[str, int] | None
    #: Names the pass.
    key: str


def group_into_tasks(source: Source, partitions: tuple[int, ...], threads: int) -> tuple[tuple[int, ...], ...]:
    """Partitions as tasks: as few as give every thread the same number of some, and none too many bytes."""
    threads = max(1, threads)  # there may be no worker yet
    each = max(TASKS_EACH, int(source.nbytes / source.partitions * len(partitions) / (PARTITION_BYTES * threads)))
    edges = np.linspace(0, len(partitions), min(len(partitions), threads * each) + 1).astype(int)
    return tuple(partitions[start:stop] for start, stop in pairwise(edges.tolist()))


def preferred_workers(threads: dict[str, int], tasks: int) -> dict[int, str]:
    """The worker that runs each task if it can, the same in every pass as long as the workers are: it may have kept the
    rows.
    """
    workers = [address for address, count in sorted(threads.items()) for _ in range(count)]
    if workers:
        return {i: workers[i * len(workers) // tasks] for i in range(tasks)}
    return {}


def place(near: dict[int, str], key: tuple) -> str | None:
    """Where a task of `gradient` should run; Dask calls this with its key."""
    return near.get(key[1])


def draw_partitions(seed: int, step: int, batch: float, count: int) -> tuple[int, ...]:
    """Return the partitions of all ``count`` that a step reads: drawn by the seed, each once in a pass."""
    size = max(1, round(batch * count))
    taken, place = divmod(step, -(-count // size))
    order = np.random.default_rng([seed, taken]).permutation(count)
    return tuple(sorted(order[place * size : (place + 1) * size].tolist()))


def note_memory(source: Source) -> None:
    """Say which workers may lack the memory for a task, before the first."""
    client = active_client()
    plan = source.plan()
    for address, worker in client.scheduler_info()["workers"].items() if client is not None else ():
        need = plan.memory * worker["nthreads"]
        if 0 < worker["memory_limit"] < need:
            logger.warning(
                "Worker %s has %.0f MB of memory for %d threads that may need %.0f MB of it each, and for itself. "
                "Give it more, or fewer threads, or write the data in smaller chunks than %.0f MB.",
                address,
                worker["memory_limit"] / 1e6,
                worker["nthreads"],
                plan.memory / 1e6,
                plan.chunk_bytes / 1e6,
            )
            return


def nbytes_of(value: Any) -> int:
    """Of the arrays in tuples of some."""
    if isinstance(value, tuple):
        return sum(map(nbytes_of, value))
    return getattr(value, "nbytes", 0)
