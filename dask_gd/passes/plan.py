"""The plan of a pass: which partitions are read together, in which task, and on which worker."""

from __future__ import annotations

import logging
from itertools import pairwise
from typing import Any

import numpy as np

from ..cluster import active_client
from ..sources import Source
from ..sources.plan import PARTITION_BYTES

logger = logging.getLogger("dask_gd")


#: A query up to this size is part of every task, which costs less than the message that fetches it; and tasks that
#: depend on nothing are spread evenly, where a few with a common dependency would be sent to the worker that has it.
LITERAL_BYTES = 64 << 10

#: Tasks for each of the cluster's threads, where partitions are so small that a task may handle several: enough for
#: threads that are done early to help the others. The sums keep their order, one for each partition.
TASKS_EACH = 4

#: Sums of a pass, at least, where several partitions are summed as one: enough to share out among threads.
FEWEST_SUMS = 8

#: Bytes of the sums of all partitions from which it is worth to send fewer of them.
LARGE_SUMS = 8 << 20
#: Bytes of a partition's sums, and their share of the bytes of its rows, from which each thread has a single task, if
#: all have as many partitions: to send more sums takes longer than threads that are done early could make up for.
HEAVY_SUMS = 4 << 20
HEAVY_SHARE = 1 / 8

#: Tasks at most, and bytes of their sums, that the client adds up itself: another task would wait for the last of them,
#: and the client for that.
CLIENT_TASKS = 64
CLIENT_BYTES = 4 << 20


def are_for_client(tasks: int, nbytes: int) -> bool:
    """Return whether the client adds up the sums of tasks, of ``nbytes`` each."""
    return tasks <= CLIENT_TASKS and tasks * nbytes <= CLIENT_BYTES


def group_into_tasks(
    source: Source,
    partitions: tuple[int, ...],
    threads: int,
    sums_bytes: int = 0,
    together: int = 1,
) -> tuple[tuple[int, ...], ...]:
    """Return the partitions of each task.

    There are as few tasks as give every thread the same number of them, and no task too many bytes. Where the sums of a
    partition, of ``sums_bytes``, are large, tasks have whole parts of the tree over all partitions (`summation`), so
    that each gives a single sum on. Partitions that are summed ``together`` stay together.
    """
    threads = max(1, threads)  # there may be no worker yet
    nbytes = source.nbytes / source.partitions * len(partitions)
    sums = -(-len(partitions) // together)
    are_heavy = sums_bytes >= max(HEAVY_SUMS, HEAVY_SHARE * source.nbytes / source.partitions)
    fewest = TASKS_EACH
    if are_heavy and _is_power_of_two(sums / threads):
        fewest = 1
    tasks_each = max(fewest, int(nbytes / (PARTITION_BYTES * threads)))
    tasks = min(sums, threads * tasks_each)
    if sums_bytes * sums > LARGE_SUMS:
        size = 1 << round(np.log2(sums / tasks))
        edges = [*range(0, sums, size), sums]
    else:
        edges = np.linspace(0, sums, tasks + 1).astype(int).tolist()
    return tuple(partitions[start * together : stop * together] for start, stop in pairwise(edges))


def summed_together(source: Source, partitions: int, entries: int) -> int:
    """Return how many partitions are summed as one: so many that their rows outnumber the entries of a curvature.

    Where rows are narrow a partition may have fewer, and to make, to add up and to send its curvature would cost more
    than to sum over its rows. The number depends on the data alone, as the bits of the sums do on it.
    """
    rows = source.shape[0] / source.partitions
    together = 1
    while together * rows < entries and -(-partitions // (2 * together)) >= FEWEST_SUMS:
        together *= 2
    return together


def _is_power_of_two(count: float) -> bool:
    """Return whether tasks of so many partitions each are whole parts of the tree over all of them."""
    return count >= 1 and float(np.log2(count)).is_integer()


def preferred_workers(threads: dict[str, int], tasks: int) -> dict[int, str]:
    """Return the worker that runs each task if it can.

    It is the same in every pass as long as the workers are the same: it may have kept the rows.
    """
    # A worker has a place for each of its threads, in an order that does not depend on who came first.
    places: list[str] = []
    for address, count in sorted(threads.items()):
        places.extend([address] * count)
    if not places:
        return {}
    return {i: places[i * len(places) // tasks] for i in range(tasks)}


def place(preferred: dict[int, str], key: tuple) -> str | None:
    """Return the worker on which a task of a pass should run; Dask calls this with the task's key."""
    return preferred.get(key[1])


def draw_partitions(seed: int, step: int, batch: float, count: int) -> tuple[int, ...]:
    """Return the partitions of all ``count`` that a step reads: drawn by the seed, each once in a pass."""
    size = max(1, round(batch * count))
    # Steps that read each partition once have one order, which is drawn anew for the next.
    steps_in_order = -(-count // size)
    orders, position = divmod(step, steps_in_order)
    order = np.random.default_rng([seed, orders]).permutation(count)
    drawn = order[position * size : (position + 1) * size]
    return tuple(sorted(drawn.tolist()))


def note_memory(source: Source) -> None:
    """Say which workers may lack the memory for a task, before the first."""
    client = active_client()
    plan = source.plan()
    if client is None:
        return
    # The first such worker is named, and no other: the remedy is the same.
    workers = client.scheduler_info()["workers"]
    for address, worker in workers.items():
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
    """Return the bytes of an array, or of all arrays in a tuple, however deep."""
    if isinstance(value, tuple):
        return sum(map(nbytes_of, value))
    return getattr(value, "nbytes", 0)
