"""One pass over the data: a task for some partitions each, and a tree reduction with a fixed fan-in.

What a task needs to know (query, loss, needs, reader) is one node of the graph, so that it travels once to each worker
and can be computed again if a worker dies with it.

The scheduler is Dask's choice: the active `distributed.Client`, or its local threads.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Any, NamedTuple

import dask
import dask.array as da
import numpy as np
from dask.base import get_scheduler
from dask.system import CPU_COUNT
from dask.typing import Key
from distributed import futures_of, span
from distributed.metrics import context_meter

from .cluster import IN_THREADS, active_client, compare_versions, compute, telling_commits, threads_of
from .errors import DataError, InvalidArgumentError, NonFiniteError
from .graph import sum_of_tasks
from .losses import Loss
from .process import keep_pages, one_blas_thread, relieve
from .sources import Reader, Rows, Source
from .sources.cache import cache
from .sources.dask import BlockRows
from .sources.plan import PARTITION_BYTES
from .sources.xarray import FieldRows
from .sources.zarr import ZarrRows
from .stats import FAN_IN_BYTES, Needs, Stats, coupled, curvatures, fan_in, make_kernel, stats_bytes

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
    needs: Needs
    #: The partitions of each task.
    groups: tuple[tuple[int, ...], ...]
    #: The run and the number of its pass, if rows are to be kept for the next.
    keep: tuple[str, int] | None
    #: Names the pass.
    key: str


#: Of the passes that this process has asked for: the number of tasks, and one entry for each that has ended in it.
_running: dict[str, tuple[int, list[None]]] = {}


def pass_done(run: str) -> tuple[int, float] | None:
    """Of the pass that a fit makes on this process's threads: its number, and the share of its tasks that are done."""
    for key, (tasks, ended) in list(_running.items()):
        if key.startswith(f"{run}-") and ended:
            return int(key.removeprefix(f"{run}-")), min(1.0, len(ended) / tasks)
    return None


def hold(source: Source) -> Source:
    """Give a cluster the NumPy arrays behind a source once, where each pass would send them again.

    They stay on the workers as results of graph nodes that the scheduler keeps, so that a dead worker's share is
    sent again. Without a cluster this does nothing.
    """
    if active_client() is None:
        return source
    columns: dict[str, Any] = {name: getattr(source, name) for name in ("x", "y", "weight", "offset", "fold")}
    held: dict[str, Any] = {
        name: column.held() for name, column in columns.items() if isinstance(column, BlockRows | FieldRows)
    }
    held = {name: column for name, column in held.items() if column is not None}
    return replace(source, **held) if held else source


def let_go(source: Source) -> None:
    """Take back what `hold` has given to the cluster, whoever still has this source: an error's traceback may."""
    for column in source.materialised:
        for future in futures_of(column.given):
            future.release()


def note_memory(source: Source) -> None:
    """Say which workers may lack the memory for a task, before the first."""
    client, plan = active_client(), source.plan()
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


#: The spans of the fits and searches that run, as Dask annotates tasks with them.
_spans: dict[str, dict[str, Any]] = {}


@contextlib.contextmanager
def passes_of(kind: str, run: str, committed: Callable[[], str]) -> Iterator[None]:
    """Name the passes of a fit or a search: a span on Dask's dashboard, and what errors say has been committed.

    The span is not put around it all: Dask does not fuse a layer with others that were made outside of it.
    """
    if active_client() is None:
        yield
        return
    with span(f"gd-{kind}-{run}"):
        _spans[run] = {"span": dask.get_annotations()["span"]}
    try:
        with telling_commits(run, committed):
            yield
    finally:
        del _spans[run]


def release(source: Source, run: str) -> None:
    """Let the workers drop the rows that they keep for a run."""
    client = active_client()
    if client is not None and client.status == "running" and source.reader.keeps:
        try:
            client.run(drop, run, on_error="ignore")
        except Exception:
            # The fit has its result, or its own error: neither is lost for this.
            logger.warning("Could not tell the workers to drop what they keep for fit %s.", run, exc_info=True)


def drop(run: str) -> None:
    """In a worker: `release`."""
    cache.drop(run)


def places(threads: dict[str, int], tasks: int) -> dict[int, str]:
    """The worker that runs each task if it can, the same in every pass as long as the workers are: it may have kept the
    rows.
    """
    workers = [address for address, count in sorted(threads.items()) for _ in range(count)]
    return {i: workers[i * len(workers) // tasks] for i in range(tasks)} if workers else {}


def grouped(source: Source, partitions: tuple[int, ...], threads: int) -> tuple[tuple[int, ...], ...]:
    """Partitions as tasks: as few as give every thread the same number of some, and none too many bytes."""
    threads = max(1, threads)  # there may be no worker yet
    each = max(TASKS_EACH, int(source.nbytes / source.partitions * len(partitions) / (PARTITION_BYTES * threads)))
    edges = np.linspace(0, len(partitions), min(len(partitions), threads * each) + 1).astype(int)
    return tuple(partitions[start:stop] for start, stop in pairwise(edges.tolist()))


def evaluate(
    source: Source,
    query: np.ndarray,
    loss: Loss,
    needs: Needs,
    run: str,
    step: int,
    partitions: tuple[int, ...] | None = None,
    keep: bool = False,
) -> Stats:
    """The sums over the rows of some partitions, or of all, at ``query``: one pass.

    Parameters
    ----------
    source : Source
    query : (q, k, m) float64
    loss, needs
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
    key, client = f"{run}-{step}", active_client()
    reader, blocks = source.local_tasks if client is None and in_threads() else source.tasks
    keep = keep and partitions is None and client is not None and blocks is None and reader.keeps
    if partitions is None:
        partitions = tuple(range(source.partitions))
    q, k, m = query.shape
    copies = needs.kernel.copies(m) if hasattr(needs.kernel, "copies") else 1
    nbytes = copies * stats_bytes(q, k, m + bool(needs.kernel), curvatures(k, loss, needs))
    threads = threads_of(client, run) if client is not None else {"": CPU_COUNT}
    if client is not None:
        compare_versions(client, threads, run, ("zarr",) if reads_zarr(reader) else ())
    groups: tuple[tuple[int, ...], ...] = tuple((i,) for i in partitions)
    if blocks is None and len(partitions) * nbytes <= FAN_IN_BYTES:
        groups = grouped(source, partitions, sum(threads.values()))
    near = places(threads, len(groups)) if keep else {}
    _running[key] = len(groups), []
    total = sum_of_tasks(
        key,
        gradient,
        Work(reader, query, loss, needs, groups, (run, step) if keep else None, key),
        numbers=range(len(groups)) if blocks is None else partitions,
        blocks=blocks,
        width=fan_in(nbytes),
        literal=query.nbytes + nbytes_of(needs.kernel) <= LITERAL_BYTES,
        at_once=len(groups) < len(partitions),
        annotations={"workers": partial(place, near), "allow_other_workers": True} if near else {},
    )
    try:
        # Dask advises against graphs that hold this much; here it is sent once.
        large = {"distributed.admin.large-graph-warning-threshold": 4 * query.nbytes + (10 << 20)}
        with dask.config.set(large), dask.annotate(**_spans.get(run, {})):
            [[sums]] = compute(
                total,
                run=run,
                what=f"pass {key}",
                named=partial(_rows_named, source, groups),
                one_task=blocks is None and len(groups) == 1,
            )
            return coupled(sums, loss, needs)
    finally:
        del _running[key]


def in_threads() -> bool:
    """Return whether Dask would run tasks in threads of this process."""
    return get_scheduler() in (None, *IN_THREADS)


def reads_zarr(reader: Reader) -> bool:
    """Return whether tasks get Zarr arrays, which another version of zarr cannot load."""
    return any(isinstance(column, ZarrRows) for column in reader.columns)


def nbytes_of(value: Any) -> int:
    """Of the arrays in tuples of some."""
    return sum(map(nbytes_of, value)) if isinstance(value, tuple) else getattr(value, "nbytes", 0)


def largest_target(source: Source) -> int:
    """The largest of the targets, rounded down, at least 1: a pass over these alone."""
    y = source.y
    if isinstance(y, FieldRows):
        raise InvalidArgumentError("Of a Dataset's variable the classes are not counted: give Softmax(classes=...).")
    rows = y.lazy[source.bounds[0] : source.bounds[-1]] if isinstance(y, ZarrRows) else y.array
    [largest] = compute(da.where(da.isfinite(rows), rows, 0).max(), what="the count of the classes")
    return max(1, int(largest))


def place(near: dict[int, str], key: tuple) -> str | None:
    """Where a task of `gradient` should run; Dask calls this with its key."""
    return near.get(key[1])


def gradient(work: Work, number: int, blocks: tuple = ()) -> list[Stats]:
    """The task: sums over each of some partitions, a few chunks at a time."""
    reader, found = work.reader, []
    keep_pages()
    # What overflows or is undefined shows in the sums, and `check` says it better than a warning.
    # The reader is closed whatever happens: it may be reading ahead into this thread's buffers.
    rows_of = reader(work.groups[number], *blocks, keep=work.keep)
    with one_blas_thread(), np.errstate(all="ignore"), contextlib.closing(rows_of) as windows:
        for partition, several in groupby(windows, itemgetter(0)):
            kernel = make_kernel(partition, work.query, work.loss, work.needs, reader.dtype, reader.features)
            for _, rows in several:
                with context_meter.meter("compute"):
                    kernel.add_rows(rows)
                    check(rows, kernel.stats, work, partition, blocks)
            found.append(kernel.sums())
    if work.keep is not None:
        cache.shrink()
    relieve()
    if work.key in _running:
        _running[work.key][1].append(None)
    return found


def check(rows: Rows, stats: Stats, work: Work, partition: int, blocks: tuple) -> None:
    """Refuse NaN and infinity, and in the first pass over these rows targets that the loss does not know.

    ``stats`` are the sums up to these rows. No row is inspected unless one of them is non-finite: 0 * NaN and
    0 * infinity are NaN, so that a bad value in any row makes the gradient, or in the first pass the sum of squares,
    non-finite whatever the weights are.
    """
    sums = (stats.gradient, stats.loss, stats.weight, stats.curvature, *(stats.scale or ()))
    good = all(s is None or np.isfinite(s).all() for s in sums) and (rows.weight is None or (rows.weight >= 0).all())
    first = work.needs.scale or work.needs.targets
    if good and not first:
        return
    x, y, *narrow = work.reader.bind(partition, blocks)
    if not good:
        check_values(rows, (x, y, *narrow))
        squares = stats.scale.features if stats.scale else np.zeros(0)
        if stats.curvature is not None and stats.scale is not None and work.loss.curvature_bound is not None:
            squares = squares + np.diagonal(stats.curvature[:, :, 0])
        if not np.isfinite(squares).all():
            feature = int(np.argmin(np.isfinite(squares)))
            raise NonFiniteError(f"The squares of column {feature} of {x.name!r} overflow; scale it down.")
        # The data is finite, so that the targets are at fault, or the weights are too large: the loop's business.
        if not first:
            return
    bad = work.loss.bad_target(rows.y)
    if bad is not None and bad.any():
        assert y is not None
        row, output = np.argwhere(bad)[0]
        raise DataError(
            f"The {work.loss.name} loss takes targets {work.loss.targets}; found {rows.y[row, output]:g} "
            f"in row {rows.number(row)} of {y.name!r}."
        )


def check_values(rows: Rows, columns: tuple[Any, ...], drop: bool = True) -> None:
    """Refuse NaN and infinity in x, y, weight and offset, and negative weights, with their row.

    ``columns`` say where these are from; ``drop``: they may be left out with ``nan="drop"``.
    """
    for column, a in zip(columns, (rows.x, rows.y, rows.weight, rows.offset, rows.fold), strict=True):
        if column is not None and a is not None and not np.isfinite(a).all():
            row, *feature = np.argwhere(~np.isfinite(a))[0].tolist()
            at = f", column {feature[0]}" if feature and a.shape[1] > 1 else ""
            where = column.where(rows.number(row), *feature)
            value = a[(row, *feature)]
            remedy = ", or leave such rows out with nan='drop'" if np.isnan(value) else ""
            remedy = remedy if drop else ": there is no mean of NaN and infinity"
            raise NonFiniteError(
                f"{value} in row {rows.number(row)}{at} of {where}. Remove or fill it before fitting{remedy}."
            )
    weight = columns[2]
    if weight is not None and rows.weight is not None and (rows.weight < 0).any():
        row = int(np.argmax(rows.weight < 0))
        raise DataError(f"Negative weight {rows.weight[row]} in row {rows.number(row)} of {weight.name!r}.")


def _rows_named(source: Source, groups: tuple[tuple[int, ...], ...], task: Key) -> str:
    """Return what the task of this key sums over, in words."""
    if not (isinstance(task, tuple) and "gd-gradient" in str(task[0]) and isinstance(task[1], int)):
        return f"Task {task}"
    group = groups[task[1]]
    first, last = group[0], group[-1]
    rows = f"(rows {source.bounds[first]}-{source.bounds[last + 1] - 1}) of {source.x.name!r}"
    return f"Partition {first} {rows}" if first == last else f"One of partitions {first} to {last} {rows}"
