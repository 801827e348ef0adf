"""The graph of one pass: one task for some partitions, and a tree over their sums whose shape is fixed.

What gives a partition's blocks is a part of its task, and made once for a source, see `sources.blocks`. Every key
carries the run and the step: Dask would otherwise hand back an old result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import dask
from dask._task_spec import DataNode, GraphNode, List, Task, TaskRef
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.typing import Key

from ..kernels.base import combine
from ..sources.blocks import Blocks


def sum_of_tasks(
    key: str,
    task: Callable,
    work: Any,
    numbers: Sequence[int],
    blocks: Blocks | None,
    width: int,
    literal: bool,
    at_once: bool,
    annotations: dict[str, Any] | None = None,
    add: Callable = combine,
    name: str = "gd-gradient",
) -> Delayed:
    """Return the sum of what ``task(work, i, blocks)`` gives for the i-th of the numbers: a list of one.

    Parameters
    ----------
    key : str
        Names the pass.
    task : callable
        Returns a list, of what each of some partitions sums.
    work : Any
        What all tasks have in common. It is a node of the graph, which each worker gets once, or with ``literal`` a
        part of every task.
    numbers : sequence of int
        Of the tasks; with ``blocks`` those of the partitions.
    blocks : Blocks or None
        What is not read by the tasks but given to them.
    width : int
        How many sums are added up at a time, in the order of the tasks.
    at_once : bool
        Add up in a single task, in the same order.
    annotations : dict, optional
        Dask's, for these tasks, beside those that hold where this is called.
    add : callable
        Adds up two of what the tasks sum.
    name : str
        Of the tasks, on Dask's dashboard.
    """
    shared: dict[Key, GraphNode] = {} if blocks is None else blocks.needed(numbers)
    name = f"{name}-{key}"
    common = f"gd-weights-{key}"
    if literal:
        given: Any = DataNode(None, work)
    else:
        given = TaskRef(common)
        shared[common] = DataNode(common, work)
    parts: dict[Key, GraphNode] = {}
    for i, number in enumerate(numbers):
        node = () if blocks is None else blocks.nodes[number]
        parts[name, i] = Task((name, i), task, given, i, node)
    sums, root = tree(list(parts), key, width, at_once, add)
    layers = {
        f"gd-blocks-{key}": MaterializedLayer(shared),
        name: MaterializedLayer(parts, annotations={**dask.get_annotations(), **(annotations or {})}),
        f"gd-sum-{key}": MaterializedLayer(sums),
    }
    below: dict[str, set[str]] = {f"gd-blocks-{key}": set(), name: {f"gd-blocks-{key}"}, f"gd-sum-{key}": {name}}
    return Delayed(root, HighLevelGraph(layers, below), layer=f"gd-sum-{key}")


def tree(level: list[Key], key: str, width: int, at_once: bool, add: Callable) -> tuple[dict[Key, GraphNode], Key]:
    """Return the nodes that add up sums, ``width`` at a time in their order, and the key of the last of them."""
    nodes: dict[Key, GraphNode] = {}
    depth = 0
    while len(level) > 1 or depth == 0:
        size = width
        if at_once:
            size = len(level)
        above: list[Key] = []
        for i in range(0, len(level), size):
            root = (f"gd-sum-{key}-{depth}", i // size)
            parts = List(*(TaskRef(part) for part in level[i : i + size]))
            nodes[root] = Task(root, add_up, parts, width, add)
            above.append(root)
        level = above
        depth += 1
    return nodes, level[0]


def add_up(parts: list[list], width: int, add: Callable) -> list:
    """Return what partitions sum, added up ``width`` at a time, left to right."""
    level = [total for part in parts for total in part]
    while len(level) > 1:
        level = [reduce(add, level[i : i + width]) for i in range(0, len(level), width)]
    return level
