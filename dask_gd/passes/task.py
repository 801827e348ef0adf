"""The task of a pass: read a group of partitions, a few chunks at a time, and sum over each."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any, NamedTuple, Protocol

import numpy as np
from distributed.metrics import context_meter

from ..kernels.base import Part, PartitionSums, Request, make_kernel
from ..model.losses import Loss
from ..sources import Reader, Rows
from ..sources.cache import cache
from ..sources.column import TaskColumn
from ..worker_env import keep_pages, one_blas_thread, relieve
from .checks import check
from .summation import Subtree, added_up

#: The passes that this process has asked for: the number of tasks, and an entry for each task that has ended in it.
_running: dict[str, tuple[int, list[None]]] = {}


class PartitionRows(NamedTuple):
    """The rows of a partition, or of several that are summed as one, as their task reads them."""

    #: The number of the first.
    partition: int
    #: The number of the partition with rows of it, a few chunks at a time. Each Rows is valid until the next.
    windows: Iterator[tuple[int, Rows]]
    reader: Reader
    blocks: tuple

    def columns(self) -> dict[str, TaskColumn]:
        """Return where the values are from, by role."""
        return self.reader.bind(self.partition, self.blocks)


class Summation(Protocol):
    """What a pass sums over the rows of a partition; it travels to the tasks."""

    def __call__(self, rows_of_partition: PartitionRows, /) -> Any:
        """Return the sums."""
        ...


class Work(NamedTuple):
    """The part of a pass that all of its tasks have in common."""

    reader: Reader
    summation: Summation
    #: The partitions of each task.
    groups: tuple[tuple[int, ...], ...]
    #: Names the pass.
    key: str
    #: Adds up the sums of two partitions.
    add: Callable[[Any, Any], Any]
    #: The run and the number of its pass, if rows are to be kept for the next.
    keep: tuple[str, int] | None = None
    #: Partitions that are summed as one. A group has a multiple of them, but the last.
    together: int = 1

    @property
    def sums(self) -> int:
        """The number of sums that are added up."""
        return self.sums_before(len(self.groups))

    def sums_before(self, number: int) -> int:
        """Return the number of sums of the groups before this one."""
        return -(-sum(map(len, self.groups[:number])) // self.together)


def sums_of_group(work: Work, number: int, blocks: tuple = ()) -> list:
    """Return the sums over the partitions of a group, whose rows are read a few chunks at a time: the task.

    They are `Subtree`, as few as the group's part of the tree over all partitions has.
    """
    reader = work.reader
    group = work.groups[number]
    count = work.sums
    first = work.sums_before(number)
    number_of = {partition: first + i // work.together for i, partition in enumerate(group)}
    sums: list[Subtree] = []
    keep_pages()
    # A value that overflows or is undefined shows in the sums, and checks of these say it better than a warning.
    # The reader is closed whatever happens: it may be reading ahead into this thread's buffers.
    rows_of_group = reader(group, *blocks, keep=work.keep)
    with one_blas_thread(), np.errstate(all="ignore"), contextlib.closing(rows_of_group) as windows:
        for position, summed_as_one in groupby(windows, lambda window: number_of[window[0]]):
            partition = group[(position - first) * work.together]
            rows = PartitionRows(partition, summed_as_one, reader, blocks)
            of_rows = Subtree(0, position, work.summation(rows))
            sums = added_up([*sums, of_rows], count, work.add)
    # The worker's memory is given back before the next task. Dask counts memory that is kept as used, and may pause
    # the worker for it.
    if work.keep is not None:
        cache.shrink()
    relieve()
    # Where this process has asked for the pass, its progress can be asked for here.
    if work.key in _running:
        _, ended = _running[work.key]
        ended.append(None)
    return sums


class AtQuery(NamedTuple):
    """The sums of a kernel over the rows of a partition, at a query: loss and gradient, and what a request asks for."""

    query: np.ndarray
    loss: Loss
    request: Request

    def __call__(self, rows_of_partition: PartitionRows) -> PartitionSums:
        """Return the sums, whose rows have been checked."""
        part = Part(
            rows_of_partition.partition,
            query=self.query,
            loss=self.loss,
            request=self.request,
            row_format=rows_of_partition.reader.row_format,
        )
        kernel = make_kernel(part)
        for _, rows in rows_of_partition.windows:
            with context_meter.meter("compute"):
                kernel.add_rows(rows)
                check(rows, kernel.total, part, rows_of_partition.columns)
        return kernel.sums()


def pass_done(run: str) -> tuple[int, float] | None:
    """Return the number of the pass that a fit makes on this process's threads, and the share of its tasks done.

    Return None where there is no such pass, or none of its tasks has ended.
    """
    # A copy: passes of other threads begin and end meanwhile.
    for key, (tasks, ended) in list(_running.items()):
        if key.startswith(f"{run}-") and ended:
            number = int(key.removeprefix(f"{run}-"))
            return number, min(1.0, len(ended) / tasks)
    return None


def drop(run: str) -> None:
    """Drop the rows that this worker keeps for a run, see `release`."""
    cache.drop(run)
