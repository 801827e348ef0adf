"""Where partitions begin and end: decided by the data and not by the cluster, so that sums have the same bits."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import prod

import numpy as np
import xarray as xr

from .grid import Edges, grouped, overlapping
from .plan import PARTITION_BYTES, PARTITIONS, SMALL_BLOCK


def bounds_of_units(
    units: Edges,
    row_bytes: int,
    width: int,
    start: int,
    stop: int,
) -> tuple[int, ...]:
    """Return where partitions begin: at runs of whole units, the chunks or shards of a Zarr array (rows, width)."""
    needed = overlapping(units, start, stop)
    edges = units[needed.start : needed.stop + 1]
    # A partition of wide rows has enough of them that the gradient, which is as wide, is small beside them.
    fewest_bytes = min(PARTITION_BYTES, 16 * 8 * width)
    fewest = -(-fewest_bytes // row_bytes)
    # And no more than leave `PARTITIONS` of them to share out.
    most = min(PARTITION_BYTES // row_bytes, (edges[-1] - edges[0]) // PARTITIONS)
    inside = [edge for edge in grouped(edges, most, fewest) if start < edge < stop]
    return (start, *inside, stop)


def bounds_of_blocks(sizes: tuple[int, ...], nbytes: int) -> tuple[int, ...]:
    """Return where partitions begin: at blocks of these sizes in rows, which have ``nbytes`` together."""
    edges = np.cumsum([0, *(size for size in sizes if size)])
    # Blocks so small that their tasks cost more than they do are put together.
    count = len(edges) - 1
    together = min(count // PARTITIONS, SMALL_BLOCK // max(1, nbytes // count))
    if together > 1:
        edges = np.append(edges[:-1:together], edges[-1])
    return tuple(int(edge) for edge in edges)


def grid_chunks(
    variables: Sequence[xr.Variable],
    dims: tuple[Hashable, ...],
    sizes: tuple[int, ...],
    width: int,
    together: bool,
) -> tuple[tuple[int, ...], ...]:
    """Return the grid of partitions: along each dimension the chunks of the largest chunked variable that has it.

    Dimensions that no chunked variable has are cut so that blocks of rows, were they in memory, would be those of a
    NumPy array. ``together`` puts chunks that are so small that their tasks cost more than they do together.
    """
    points = max(1, prod(sizes))
    row_bytes = 8 * width
    chunks = _chunks_of_largest(variables)

    # Small chunks are put together along the last dimensions, whose points are neighbours in the rows' order.
    blocks = prod(len(c) for c in chunks.values())
    to_merge = 1
    if together:
        to_merge = min(blocks // PARTITIONS, SMALL_BLOCK * blocks // (points * row_bytes))
    for d in reversed(dims):
        if d in chunks and to_merge > 1:
            count = min(to_merge, len(chunks[d]))
            edges = np.cumsum([0, *chunks[d]])
            merged = np.append(edges[:-1:count], edges[-1])
            chunks[d] = tuple(np.diff(merged).tolist())
            to_merge //= count

    # The other dimensions are cut until a block has the rows of a partition. A dimension that no variable has costs
    # nothing to read, and stays whole.
    wanted = min(PARTITION_BYTES, max(1 << 20, points * row_bytes // PARTITIONS)) // row_bytes
    rows = max(1, prod(max(c) for c in chunks.values()))
    of_variables = {d for v in variables for d in v.dims}
    for d, size in zip(reversed(dims), reversed(sizes), strict=True):
        if d in chunks:
            continue
        step = size
        if d in of_variables:
            step = min(size, wanted // rows)
        step = max(1, step)
        chunks[d] = _cut(size, step)
        rows *= step
    return tuple(chunks[d] for d in dims)


def _chunks_of_largest(variables: Sequence[xr.Variable]) -> dict[Hashable, tuple[int, ...]]:
    """Return the chunks along each dimension of the largest chunked variable that has it, without empty chunks."""
    chunks: dict[Hashable, tuple[int, ...]] = {}
    # The largest comes first, and later variables do not replace its chunks.
    for v in sorted(variables, key=lambda v: -v.nbytes):
        if not v.chunks:
            continue
        for d, sizes in zip(v.dims, v.chunks, strict=True):
            nonempty = tuple(size for size in sizes if size)
            chunks.setdefault(d, nonempty or (0,))
    return chunks


def _cut(size: int, step: int) -> tuple[int, ...]:
    """Return the chunks of a dimension of this size, all but the last with ``step`` points."""
    rest = size % step
    chunks = (step,) * (size // step)
    if rest or not size:
        chunks += (rest,)
    return chunks
