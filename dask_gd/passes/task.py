"""The task of a pass: read a group of partitions, a few chunks at a time, and sum over each."""

from __future__ import annotations

import contextlib
from itertools import groupby
from operator import itemgetter

import numpy as np
from distributed.metrics import context_meter

from ..kernels.base import PartitionSums, make_kernel
from ..sources.cache import cache
from ..worker_env import keep_pages, one_blas_thread, relieve
from .checks import check
from .plan import Work

#: The passes that this process has asked for: the number of tasks, and an entry for each task that has ended in it.
_running: dict[str, tuple[int, list[None]]] = {}


def gradient(work: Work, number: int, blocks: tuple = ()) -> list[PartitionSums]:
    """Return the sums over each partition of a group, whose rows are read a few chunks at a time: the task."""
    reader = work.reader
    sums = []
    keep_pages()
    # A value that overflows or is undefined shows in the sums, and `check` says it better than a warning.
    # The reader is closed whatever happens: it may be reading ahead into this thread's buffers.
    rows_of_group = reader(work.groups[number], *blocks, keep=work.keep)
    with one_blas_thread(), np.errstate(all="ignore"), contextlib.closing(rows_of_group) as windows:
        for partition, windows_of_partition in groupby(windows, itemgetter(0)):
            kernel = make_kernel(
                partition,
                query=work.query,
                loss=work.loss,
                request=work.request,
                dtype=reader.dtype,
                p=reader.features,
            )
            for _, rows in windows_of_partition:
                with context_meter.meter("compute"):
                    kernel.add_rows(rows)
                    check(rows, kernel.total, work, partition, blocks)
            sums.append(kernel.sums())
    # The worker's memory is given back before the next task.
    if work.keep is not None:
        cache.shrink()
    relieve()
    # Where this process has asked for the pass, its progress can be asked for here.
    if work.key in _running:
        _, ended = _running[work.key]
        ended.append(None)
    return sums


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
