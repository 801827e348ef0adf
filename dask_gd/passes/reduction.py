"""Reduce rows to sums: a task for each group of partitions, and a tree over their sums with a fixed fan-in.

Whatever is summed over rows goes this way: the passes of a fit, and those of a transformer. The part that all tasks
need is one node of the graph, so that it travels once to each worker and can be computed again if a worker dies with
it; or a part of every task, where it is small.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import dask
from dask.typing import Key
from distributed import span

from ..cluster import active_client, compute, telling_commits
from ..kernels.base import FAN_IN
from ..sources.blocks import Blocks
from .graph import add_up, sums_of_tasks
from .task import Work, _running, sums_of_group

#: The spans of the fits and searches that run, as Dask annotates tasks with them.
_spans: dict[str, dict[str, Any]] = {}


def reduce_rows(
    work: Work,
    blocks: Blocks | None,
    *,
    name: str,
    data: str,
    what: str,
    run: str = "",
    width: int = FAN_IN,
    at_once: bool = False,
    on_client: bool = False,
    literal: bool = True,
    preferred: dict[int, str] | None = None,
) -> Any:
    """Return the sums over the rows of all partitions of the groups, added up in a fixed tree.

    Parameters
    ----------
    work : Work
        The rows, the function that sums over a partition, and the function that adds up the sums of two. Its groups
        may have several partitions where no blocks are given.
    blocks : Blocks or None
        Values that the tasks do not read but are given.
    name : str
        Of the tasks, on Dask's dashboard.
    data, what : str
        Of the features and of the pass, for messages.
    run : str
        The fit or search whose span the tasks belong to, see `passes_of`.
    width, at_once, on_client, literal, preferred
        See `sums_of_tasks`.

    Raises
    ------
    DataError
        From a worker, naming array, chunk and row.
    ClusterError
        When a partition's task keeps killing its workers.
    """
    groups = work.groups
    _running[work.key] = len(groups), []
    sums = sums_of_tasks(
        work.key,
        task=sums_of_group,
        work=work,
        numbers=[group[0] for group in groups],
        blocks=blocks,
        count=work.sums,
        width=width,
        literal=literal,
        at_once=at_once,
        on_client=on_client,
        preferred=preferred or {},
        add=work.add,
        name=name,
    )
    try:
        with dask.annotate(**span_of(run)):
            found = compute(
                *sums,
                run=run,
                what=what,
                named=partial(_rows_named, work=work, name=name, data=data),
                one_task=blocks is None and len(groups) == 1,
            )
    finally:
        del _running[work.key]
    [subtree] = add_up(list(found), work.sums, work.add)
    return subtree.sums


def span_of(run: str) -> dict[str, Any]:
    """Return the span of a fit or a search, as Dask annotates tasks with it; nothing outside of `passes_of`."""
    return _spans.get(run, {})


@contextlib.contextmanager
def passes_of(kind: str, run: str, committed: Callable[[], str]) -> Iterator[None]:
    """Name the passes of a fit or a search: a span on Dask's dashboard, and in errors the last commit.

    The span is not put around it all: Dask does not fuse a layer with others that were made outside of it.
    """
    if active_client() is None:
        yield
        return
    # A span's annotation, for each pass to put around its own tasks.
    with span(f"gd-{kind}-{run}"):
        _spans[run] = {"span": dask.get_annotations()["span"]}
    try:
        with telling_commits(run, committed):
            yield
    finally:
        del _spans[run]


def _rows_named(task: Key, work: Work, name: str, data: str) -> str:
    """Return the rows that the task of this key sums over, in words."""
    if not (isinstance(task, tuple) and name in str(task[0]) and isinstance(task[1], int)):
        return f"Task {task}"
    # A group's partitions are those between its first and its last, all of them or a sample.
    group = work.groups[task[1]]
    bounds = work.reader.bounds
    first = group[0]
    last = group[-1]
    rows = f"(rows {bounds[first]}-{bounds[last + 1] - 1}) of {data!r}"
    if first == last:
        return f"Partition {first} {rows}"
    return f"One of partitions {first} to {last} {rows}"
