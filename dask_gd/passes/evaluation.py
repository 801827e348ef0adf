"""One pass over the data at a query: loss, gradient, and whatever else a solver asks for, summed over all rows.

The scheduler is Dask's choice: the active `distributed.Client`, or its local threads.
"""

from __future__ import annotations

import logging
from typing import Any

import dask
import dask.array as da
import numpy as np
from dask.base import get_scheduler
from dask.system import CPU_COUNT
from distributed import futures_of

from ..cluster import IN_THREADS, active_client, compare_versions, compute, threads_of
from ..errors import InvalidArgumentError
from ..kernels.base import (
    FAN_IN_BYTES,
    Request,
    Sums,
    combine,
    copies_of,
    curvatures,
    expand_class_pairs,
    fan_in,
    sums_bytes,
)
from ..kernels.riding import RidingSums
from ..model.losses import Loss
from ..sources import Reader, Source
from ..sources.column import Column
from .plan import LITERAL_BYTES, are_for_client, group_into_tasks, nbytes_of, preferred_workers, summed_together
from .reduction import reduce_rows
from .task import AtQuery, Work, drop

logger = logging.getLogger("dask_gd")


def evaluate(
    source: Source,
    query: np.ndarray,
    loss: Loss,
    request: Request,
    run: str,
    step: int,
    partitions: tuple[int, ...] | None = None,
    keep: bool = False,
) -> Any:
    """Return the sums over the rows of partitions, or of all, at ``query``: one pass.

    These are `Sums`, or the sums of the request's kernel.

    Parameters
    ----------
    source : Source
    query : (q, k, m) float64
    loss, request
    run : str
        Names the fit.
    step : int
        Numbers its passes; run and step are part of every task's name.
    partitions : tuple of int, optional
        In ascending order.
    keep : bool
        The workers keep rows for the next passes of this run, where that is worth it and as far as they have room.

    Raises
    ------
    DataError
        From a worker, naming array, chunk and row.
    ClusterError
        When a partition's task keeps killing its workers.
    """
    key = f"{run}-{step}"
    client = active_client()
    # Tasks in threads of this process read NumPy arrays where they are.
    if client is None and in_threads():
        reader, blocks = source.local_tasks
    else:
        reader, blocks = source.tasks
    keep = keep and partitions is None and client is not None and blocks is None and reader.keeps
    if partitions is None:
        partitions = tuple(range(source.partitions))
    nbytes = _nbytes_of_sums(query, loss, request)

    # The cluster must be able to load what it is sent.
    if client is None:
        threads = {"": CPU_COUNT}
    else:
        threads = threads_of(client, run)
        compare_versions(client, threads, run, ("zarr",) if reads_zarr(reader) else ())

    # Small partitions share a task, which adds up their sums as far as they are neighbours.
    groups: tuple[tuple[int, ...], ...] = tuple((i,) for i in partitions)
    together = 1
    if blocks is None:
        together = _summed_together(source, len(partitions), query, loss, request)
        groups = group_into_tasks(source, partitions, sum(threads.values()), nbytes, together)

    # Rows that a worker has kept are read there again. And tasks that all need one node, with the query, would go where
    # that is: they are shared out before.
    literal = query.nbytes + nbytes_of(request.kernel) <= LITERAL_BYTES
    preferred: dict[int, str] = {}
    if keep or (blocks is None and client is not None and not literal):
        preferred = preferred_workers(threads, len(groups))

    work = Work(
        reader,
        AtQuery(query, loss, request),
        groups=groups,
        key=key,
        add=combine,
        together=together,
    )
    if keep:
        work = work._replace(keep=(run, step))
    # Dask advises against graphs that hold this much; here it is sent once.
    large = {"distributed.admin.large-graph-warning-threshold": 4 * query.nbytes + (10 << 20)}
    with dask.config.set(large):
        sums = reduce_rows(
            work,
            blocks,
            name="gd-gradient",
            data=source.x.name,
            what=f"pass {key}",
            run=run,
            width=fan_in(nbytes),
            at_once=blocks is None and len(groups) * nbytes <= FAN_IN_BYTES,
            on_client=blocks is None and are_for_client(len(groups), nbytes),
            literal=literal,
            preferred=preferred,
        )
    return _with_whole_curvature(sums, loss, request)


def _summed_together(source: Source, partitions: int, query: np.ndarray, loss: Loss, request: Request) -> int:
    """Return how many partitions are summed as one."""
    # Sums by key cost as much to add up as the rows of as many keys do.
    entries = getattr(request.kernel, "entries", 0)
    if entries:
        return summed_together(source, partitions, entries)
    # Where the curvature costs more than the rows, its entries do not.
    if request.kernel is not None or not source.row_format.cheap_gram:
        return 1
    q, k, _ = query.shape
    return summed_together(source, partitions, q * q * curvatures(k, loss, request))


def _with_whole_curvature(sums: Any, loss: Loss, request: Request) -> Any:
    """Return sums whose curvature is that of all weights, where those at the query are what a solver asked for."""
    if isinstance(sums, RidingSums):
        return sums._replace(first=_with_whole_curvature(sums.first, loss, request))
    if isinstance(sums, Sums):
        return expand_class_pairs(sums, loss, request)
    return sums


def _nbytes_of_sums(query: np.ndarray, loss: Loss, request: Request) -> int:
    """Return the bytes of a partition's sums."""
    q, k, m = query.shape
    # A kernel may add a candidate of its own.
    candidates = m + bool(request.kernel)
    nbytes = sums_bytes(q, k, candidates, curvatures(k, loss, request))
    return copies_of(request.kernel, m) * nbytes


def persist(source: Source) -> Source:
    """Give a cluster the NumPy arrays behind a source once, where each pass would send them again.

    They stay on the workers as results of graph nodes that the scheduler keeps, so that a dead worker's share is
    sent again. Without a cluster this does nothing.
    """
    if active_client() is None:
        return source
    persisted: dict[str, Column | None] = {}
    for role, column in source.by_role.items():
        on_cluster = column.persisted()
        if on_cluster is not None:
            persisted[role] = on_cluster
    return source.with_columns(**persisted)


def unpersist(source: Source) -> None:
    """Take back the arrays that `persist` has given to the cluster.

    The source may still be referred to, by an error's traceback for example.
    """
    for column in source.columns:
        for future in futures_of(column.persistent):
            future.release()


def release(source: Source, run: str) -> None:
    """Let the workers drop the rows that they keep for a run."""
    client = active_client()
    if client is not None and client.status == "running" and source.reader.keeps:
        try:
            client.run(drop, run, on_error="ignore")
        except Exception:
            # The fit has its result, or its own error: neither is lost for this.
            logger.warning("Could not tell the workers to drop what they keep for fit %s.", run, exc_info=True)


def in_threads() -> bool:
    """Return whether Dask would run tasks in threads of this process."""
    return get_scheduler() in (None, *IN_THREADS)


def reads_zarr(reader: Reader) -> bool:
    """Return whether tasks get Zarr arrays, which another version of zarr cannot load."""
    return any(column.needs_zarr for column in reader.columns.values())


def largest_target(source: Source) -> int:
    """Return the largest of the targets, rounded down, at least 1, by a pass over the targets alone."""
    if source.sample_dims is not None:
        raise InvalidArgumentError("Of a Dataset's variable the classes are not counted: give Softmax(classes=...).")
    targets = source.y.lazy_rows(source.bounds[0], source.bounds[-1])
    finite = da.where(da.isfinite(targets), targets, 0)
    [largest] = compute(finite.max(), what="the count of the classes")
    return max(1, int(largest))
