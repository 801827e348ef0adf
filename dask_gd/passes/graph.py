"""The graph of one pass: a task for each group of partitions, and a tree over their sums whose shape is fixed.

The nodes that give a partition's blocks are a part of its task, and made once for a source, see `sources.blocks`. Every
key carries the run and the step: Dask would otherwise hand back an old result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import dask
import numpy as np
from dask._task_spec import DataNode, GraphNode, List, Task, TaskRef
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.typing import Key

from ..sources.blocks import Blocks
from .plan import place
from .summation import added_up

#: Workers at most that each get the common part of a pass's tasks from the scheduler, at once. More of them get it from
#: each other: the scheduler would be the last to have sent it.
MOST_COPIES = 4


def sums_of_tasks(
    key: str,
    task: Callable,
    work: Any,
    numbers: Sequence[int],
    blocks: Blocks | None,
    count: int,
    width: int,
    literal: bool,
    at_once: bool,
    on_client: bool,
    preferred: dict[int, str],
    add: Callable,
    name: str,
) -> list[Delayed]:
    """Return the sum of the results of ``task(work, i, blocks)`` for the i-th of the numbers: a list with one item.

    With ``on_client`` return the results themselves, which are still to be added up.

    Parameters
    ----------
    key : str
        Names the pass.
    task : callable
        Returns a list with the sums of its partitions, as `summation.Subtree`.
    work : Any
        The part that all tasks have in common. It is a node of the graph, which each worker gets once, or one for each
        worker, or with ``literal`` a part of every task.
    numbers : sequence of int
        Of the tasks; with ``blocks`` those of the partitions.
    blocks : Blocks or None
        Values that the tasks do not read but are given.
    count : int
        The number of partitions, of all tasks.
    width : int
        Of how many tasks the sums are added up at a time.
    at_once : bool
        Add up in a single task.
    on_client : bool
        Add up in no task.
    preferred : dict
        The worker that runs each task if it can; without any, Dask decides.
    add : callable
        Adds up two of the tasks' sums.
    name : str
        Of the tasks, on Dask's dashboard.
    """
    shared: dict[Key, GraphNode] = {}
    if blocks is not None:
        shared = blocks.needed(numbers)

    # The common part, in every task or in nodes that they refer to: of few workers each has a node of its own.
    workers = sorted(set(preferred.values()))
    if len(workers) > MOST_COPIES:
        workers = []
    common = f"gd-weights-{key}"
    copies: dict[Key, GraphNode] = {}
    if not literal:
        copies = {(common, i): DataNode((common, i), work) for i in range(max(1, len(workers)))}

    # The tasks, and the tree that adds up what they return.
    of_tasks = f"{name}-{key}"
    parts: dict[Key, GraphNode] = {}
    for i, number in enumerate(numbers):
        node: Any = ()
        if blocks is not None:
            node = blocks.nodes[number]
        work_node: Any = DataNode(None, work)
        if not literal:
            copy = 0
            if workers:
                copy = workers.index(preferred[i])
            work_node = TaskRef((common, copy))
        parts[of_tasks, i] = Task((of_tasks, i), task, work_node, i, node)
    if at_once:
        width = max(2, len(parts))
    roots = list(parts)
    sums: dict[Key, GraphNode] = {}
    if not on_client:
        sums, root = tree(roots, key, count, width, add)
        roots = [root]

    # Annotations are of a layer each.
    of_blocks = f"gd-blocks-{key}"
    of_sums = f"gd-sum-{key}"
    layers = {
        of_blocks: MaterializedLayer(shared),
        common: MaterializedLayer(copies, annotations=_placed(dict(enumerate(workers)))),
        of_tasks: MaterializedLayer(parts, annotations=_placed(preferred)),
        of_sums: MaterializedLayer(sums),
    }
    below: dict[str, set[str]] = {
        of_blocks: set(),
        common: set(),
        of_tasks: {of_blocks, common},
        of_sums: {of_tasks},
    }
    graph = HighLevelGraph(layers, below)
    layer = of_sums
    if on_client:
        layer = of_tasks
    return [Delayed(root, graph, layer=layer) for root in roots]


def _placed(workers: dict[int, str]) -> dict[str, Any]:
    """Return the annotations by which nodes, by number, run on these workers if they can, beside those that hold."""
    annotations: dict[str, Any] = {}
    if workers:
        annotations = {"workers": partial(place, workers), "allow_other_workers": True}
    return {**dask.get_annotations(), **annotations}


def tree(
    level: list[Key],
    key: str,
    count: int,
    width: int,
    add: Callable,
) -> tuple[dict[Key, GraphNode], Key]:
    """Return the nodes that add up sums, those of ``width`` nodes at a time, and the key of the last of them."""
    nodes: dict[Key, GraphNode] = {}
    depth = 0
    # Once also over a single task, whose partitions' sums may still be apart.
    while len(level) > 1 or depth == 0:
        above: list[Key] = []
        for i in range(0, len(level), width):
            root = (f"gd-sum-{key}-{depth}", i // width)
            parts = List(*(TaskRef(part) for part in level[i : i + width]))
            nodes[root] = Task(root, add_up, parts, count, add)
            above.append(root)
        level = above
        depth += 1
    return nodes, level[0]


def add_up(parts: list[list], count: int, add: Callable) -> list:
    """Return the sums of partitions, added up as far as they are neighbours in the tree over all of them."""
    # Sums that have overflowed show what they are in their total, and checks of that say it better than a warning.
    with np.errstate(all="ignore"):
        return added_up((subtree for part in parts for subtree in part), count, add)
