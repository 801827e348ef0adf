"""The materialised blocks of a source's partitions as nodes of a Dask graph.

`map_blocks` pairs the columns' blocks, and Dask optimises that graph, once for a source. Each pass puts its own work on
top, within the same tasks: to have Dask build and optimise all of it again costs more than a pass over small data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
from dask._task_spec import Alias, GraphNode, Task, convert_legacy_graph
from dask.core import flatten
from dask.order import order
from dask.typing import Key

from .column import Column


@dataclass(frozen=True)
class Blocks:
    """The materialised blocks of a source's partitions, as nodes of a graph."""

    #: For each partition the node that gives the tuple of its blocks; they are run within the pass's tasks.
    nodes: tuple[GraphNode, ...]
    #: All else that they need: what Dask does not run within them.
    graph: dict[Key, GraphNode]

    def needed(self, numbers: Sequence[int]) -> dict[Key, GraphNode]:
        """Return what the nodes of these partitions need."""
        if not self.graph or len(numbers) == len(self.nodes):
            return dict(self.graph)
        found: dict[Key, GraphNode] = {}
        open_keys = {key for number in numbers for key in self.nodes[number].dependencies}
        while open_keys:
            key = open_keys.pop()
            if key in self.graph:
                found[key] = self.graph[key]
                open_keys |= found[key].dependencies - found.keys()
        return found


def paired(columns: Sequence[Column]) -> Blocks | None:
    """Return the blocks of columns, paired by their number; None without any."""
    blocks = [block for column in columns if (block := column.blocks()) is not None]
    if not blocks:
        return None
    grid = np.broadcast_shapes(*(array.numblocks for array in blocks))
    tuples = da.map_blocks(
        as_tuple,
        *blocks,
        chunks=tuple((1,) * count for count in grid),
        dtype=object,
        meta=np.empty((0,) * len(grid), dtype=object),
    )
    keys = list(flatten(tuples.__dask_keys__()))
    graph = convert_legacy_graph(optimized(tuples, keys))
    return Blocks(tuple(ordered(taken(graph, key)) for key in keys), graph)


def optimized(array: da.Array, keys: list[Key]) -> dict[Key, Any]:
    """Return the array's graph, with what makes a block fused into one task where Dask does so."""
    if hasattr(array, "__dask_optimize__"):
        return dict(array.__dask_optimize__(array.__dask_graph__(), keys))
    # An array of Dask's query planner.
    return dict(array.optimize().__dask_graph__())  # type: ignore[attr-defined]


def taken(graph: dict[Key, GraphNode], key: Key) -> GraphNode:
    """Take the node of a key out of the graph, which is no other's: of a fused chain Dask makes an alias."""
    node = graph.pop(key)
    while isinstance(node, Alias) and node.target in graph:
        node = graph.pop(node.target)
    return node


def ordered(node: GraphNode) -> GraphNode:
    """Return a fused task whose steps are in order.

    Dask would find their order anew whenever the task runs, which takes longer than the steps if blocks are small.
    """
    if not (isinstance(node, Task) and node.has_subgraph()):
        return node
    inner, last, names, *given = node.args
    priority = order(inner)
    steps: list[tuple[Key, GraphNode, tuple[Key, ...]]] = []
    used = {last}
    for key in sorted(inner, key=priority.__getitem__, reverse=True):
        needed = inner[key].dependencies
        steps.append((key, ordered(inner[key]), tuple(needed - used)))
        used |= needed
    return Task(node.key, run_steps, tuple(reversed(steps)), last, names, *given)


def run_steps(steps: tuple, last: Key, names: tuple[Key, ...], *given: Any) -> Any:
    """Run steps, each a key, a node, and the keys that no later step needs; return the result of the last."""
    values = dict(zip(names, given, strict=True))
    for key, node, done in steps:
        values[key] = node(values)
        for each in done:
            del values[each]
    return values[last]


def as_tuple(*blocks: Any) -> tuple:
    """Return the blocks as they are."""
    return blocks
