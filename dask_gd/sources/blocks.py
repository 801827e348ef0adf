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
    #: The other nodes that these depend on, which Dask does not run within them.
    graph: dict[Key, GraphNode]

    def needed(self, numbers: Sequence[int]) -> dict[Key, GraphNode]:
        """Return the nodes of the graph that the nodes of these partitions depend on."""
        if not self.graph or len(numbers) == len(self.nodes):
            return dict(self.graph)
        # From the partitions' nodes down, each dependency once.
        needed: dict[Key, GraphNode] = {}
        open_keys: set[Key] = set()
        for number in numbers:
            open_keys |= self.nodes[number].dependencies
        while open_keys:
            key = open_keys.pop()
            if key in self.graph:
                needed[key] = self.graph[key]
                open_keys |= needed[key].dependencies - needed.keys()
        return needed


def paired(columns: Sequence[Column]) -> Blocks | None:
    """Return the blocks of columns, paired by their number; None without any."""
    blocks = []
    for column in columns:
        array = column.blocks()
        if array is not None:
            blocks.append(array)
    if not blocks:
        return None
    # An array whose blocks are tuples, so that Dask fuses all that a partition needs.
    grid = np.broadcast_shapes(*(array.numblocks for array in blocks))
    tuples = da.map_blocks(
        as_tuple,
        *blocks,
        chunks=tuple((1,) * count for count in grid),
        dtype=object,
        meta=np.empty((0,) * len(grid), dtype=object),
    )
    # The tuples' nodes become part of the pass's tasks; the rest of the graph goes beside them.
    keys = list(flatten(tuples.__dask_keys__()))
    graph = convert_legacy_graph(optimized(tuples, keys))
    nodes = tuple(in_order(pop_node(graph, key)) for key in keys)
    return Blocks(nodes, graph)


def optimized(array: da.Array, keys: list[Key]) -> dict[Key, Any]:
    """Return the array's graph, with the tasks that make a block fused into one where Dask does so."""
    if hasattr(array, "__dask_optimize__"):
        return dict(array.__dask_optimize__(array.__dask_graph__(), keys))
    # An array of Dask's query planner.
    return dict(array.optimize().__dask_graph__())  # type: ignore[attr-defined]


def pop_node(graph: dict[Key, GraphNode], key: Key) -> GraphNode:
    """Take the node of a key out of the graph; no other node depends on it."""
    # Where Dask has fused a chain, the key is an alias of the chain's node.
    node = graph.pop(key)
    while isinstance(node, Alias) and node.target in graph:
        node = graph.pop(node.target)
    return node


def in_order(node: GraphNode) -> GraphNode:
    """Return a fused task whose steps are in order.

    Dask would find their order anew whenever the task runs, which takes longer than the steps if blocks are small.
    """
    if not (isinstance(node, Task) and node.has_subgraph()):
        return node
    inner, last, names, *inputs = node.args
    priority = order(inner)
    # From the last step back, where the first use of a value that is met is its last: after it the value can go.
    steps: list[tuple[Key, GraphNode, tuple[Key, ...]]] = []
    used = {last}
    for key in sorted(inner, key=priority.__getitem__, reverse=True):
        needed = inner[key].dependencies
        done_after = tuple(needed - used)
        steps.append((key, in_order(inner[key]), done_after))
        used |= needed
    steps.reverse()
    return Task(node.key, run_steps, tuple(steps), last, names, *inputs)


def run_steps(steps: tuple, last: Key, names: tuple[Key, ...], *inputs: Any) -> Any:
    """Run steps, each a key, a node, and the keys that no later step needs; return the result of the last."""
    values = dict(zip(names, inputs, strict=True))
    for key, node, done_after in steps:
        values[key] = node(values)
        # Values that nothing needs any more do not stay in memory.
        for done in done_after:
            del values[done]
    return values[last]


def as_tuple(*blocks: Any) -> tuple:
    """Return the blocks as they are."""
    return blocks
