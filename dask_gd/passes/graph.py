"""The graph of one pass: a task for each group of partitions, and a tree over their sums whose shape is fixed.

The nodes that give a partition's blocks are a part of its task, and made once for a source, see `sources.blocks`. Every
key carries the run and the step: Dask would otherwise hand back an old result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import dask
import numpy as np
from dask._task_spec import DataNode, GraphNode, List, Task, TaskRef
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.typing import Key

from ..sources.blocks import Blocks
from .summation import added_up


def sum_of_tasks(
    key: str,
    task: Callable,
    work: Any,
    numbers: Sequence[int],
    blocks: Blocks | None,
    count: int,
    width: int,
    literal: bool,
    at_once: bool,
    annotations: dict[str, Any],
    add: Callable,
    name: str,
) -> Delayed:
    """Return the sum of the results of ``task(work, i, blocks)`` for the i-th of the numbers: a list with one item.

    Parameters
    ----------
    key : str
        Names the pass.
    task : callable
        Returns a list with the sums of its partitions, as `summation.Subtree`.
    work : Any
        The part that all tasks have in common. It is a node of the graph, which each worker gets once, or with
        ``literal`` a part of every task.
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
    annotations : dict
        Dask's, for these tasks, beside those that hold where this is called.
    add : callable
        Adds up two of the tasks' sums.
    name : str
        Of the tasks, on Dask's dashboard.
    """
    shared: dict[Key, GraphNode] = {}
    if blocks is not None:
        shared = blocks.needed(numbers)

    # The common part, in every task or as a node that all of them refer to.
    common = f"gd-weights-{key}"
    if literal:
        work_node: Any = DataNode(None, work)
    else:
        work_node = TaskRef(common)
        shared[common] = DataNode(common, work)

    # The tasks, and the tree that adds up what they return.
    of_tasks = f"{name}-{key}"
    parts: dict[Key, GraphNode] = {}
    for i, number in enumerate(numbers):
        node: Any = ()
        if blocks is not None:
            node = blocks.nodes[number]
        parts[of_tasks, i] = Task((of_tasks, i), task, work_node, i, node)
    if at_once:
        width = max(2, len(parts))
    sums, root = tree(list(parts), key, count, width, add)

    # Annotations are the tasks' alone, so that these have a layer of their own.
    of_blocks = f"gd-blocks-{key}"
    of_sums = f"gd-sum-{key}"
    all_annotations = {**dask.get_annotations(), **annotations}
    layers = {
        of_blocks: MaterializedLayer(shared),
        of_tasks: MaterializedLayer(parts, annotations=all_annotations),
        of_sums: MaterializedLayer(sums),
    }
    below: dict[str, set[str]] = {
        of_blocks: set(),
        of_tasks: {of_blocks},
        of_sums: {of_tasks},
    }
    return Delayed(root, HighLevelGraph(layers, below), layer=of_sums)


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
