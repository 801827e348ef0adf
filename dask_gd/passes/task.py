"""The task of a pass: read some partitions, a few chunks at a time, and sum over each."""

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

#: Of the passes that this process has asked for: the number of tasks, and one entry for each that has ended in it.
_running: dict[str, tuple[int, list[None]]] = {}


def gradient(work: Work, number: int, blocks: tuple = ()) -> list[PartitionSums]:
    """The task: sums over each of some partitions, a few chunks at a time."""
    reader = work.reader
    found = []
    keep_pages()
    # What overflows or is undefined shows in the sums, and `check` says it better than a warning.
    # The reader is closed whatever happens: it may be reading ahead into this thread's buffers.
    rows_of = reader(work.groups[number], *blocks, keep=work.keep)
    with one_blas_thread(), np.errstate(all="ignore"), contextlib.closing(rows_of) as windows:
        for partition, several in groupby(windows, itemgetter(0)):
            kernel = make_kernel(partition, work.query, work.loss, work.request, reader.dtype, reader.features)
            for _, rows in several:
                with context_meter.meter("compute"):
                    kernel.add_rows(rows)
                    check(rows, kernel.total, work, partition, blocks)
            found.append(kernel.sums())
    if work.keep is not None:
        cache.shrink()
    relieve()
    if work.key in _running:
        _running[work.key][1].append(None)
    return found


def pass_done(run: str) -> tuple[int, float] | None:
    """Of the pass that a fit makes on this process's threads: its number, and the share of its tasks that are done."""
    for key, (tasks, ended) in list(_running.items()):
        if key.startswith(f"{run}-") and ended:
            return int(key.removeprefix(f"{run}-")), min(1.0, len(ended) / tasks)
    return None


def drop(run: str) -> None:
    """In a worker: `release`."""
    cache.drop(run)
