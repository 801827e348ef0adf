"""Partitions of Dask's data frames, as many as a frame says that it has, with the rows that belong to each.

When a frame is computed, Dask joins partitions of Parquet of which few columns are read: fewer partitions are computed
than the frame has, and other ones for each choice of columns. What is known of a partition, such as the number of its
rows, would then be of other rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph


def partitions_of(frame: Any) -> list[Any]:
    """Return the partitions of a Dask frame or Series, delayed; only the columns that it has are read."""
    # Columns are chosen where files are read, and nothing else is rearranged.
    return frame.simplify().to_delayed(optimize_graph=False)


def with_fixed_partitions(frame: Any) -> Any:
    """Return a Dask frame or Series whose partitions stay what they are, whatever is done with it."""
    from dask.dataframe import from_graph

    # The partitions are a graph that Dask leaves as it is.
    simple = frame.simplify()
    return from_graph(
        dict(simple.__dask_graph__()),
        _meta=frame._meta,
        divisions=frame.divisions,
        keys=simple.__dask_keys__(),
        name_prefix="dask_gd-partitions",
    )


def array_of_partitions(
    frame: Any,
    function: Callable[[Any], np.ndarray],
    width: int,
    lengths: tuple[int, ...] | None,
) -> da.Array:
    """Return an array (n, width) in float64 with a block for each partition, which ``function`` makes of it.

    The partitions' numbers of rows are unknown without ``lengths``.
    """
    return array_of_parts(partitions_of(frame), function, width, lengths)


def array_of_parts(
    parts: list[Any],
    function: Callable[[Any], np.ndarray],
    width: int,
    lengths: tuple[int, ...] | None,
) -> da.Array:
    """Return an array (n, width) in float64 of delayed parts, see `array_of_partitions`."""
    if lengths is None:
        chunks: tuple[float, ...] = (np.nan,) * len(parts)
    else:
        chunks = lengths
    # A task for each partition.
    name = f"dask_gd-partitions-{tokenize(function, [part.key for part in parts])}"
    tasks: dict[Any, Any] = {(name, number, 0): (function, part.key) for number, part in enumerate(parts)}
    graph = HighLevelGraph.from_collections(name, tasks, dependencies=parts)
    return da.Array(
        graph,
        name,
        (chunks, (width,)),
        meta=np.empty((0, 0)),
        dtype=float,
    )
