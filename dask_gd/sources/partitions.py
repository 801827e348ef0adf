"""Where partitions begin and end: decided by the data and not by the cluster, so that sums have the same bits."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import prod

import numpy as np
import xarray as xr

from .grid import Edges, grouped, overlapping
from .plan import PARTITION_BYTES, PARTITIONS, SMALL_BLOCK


def bounds_of_units(units: Edges, row_bytes: int, width: int, start: int, stop: int) -> tuple[int, ...]:
    """Return where partitions begin: at runs of whole units, the chunks or shards of a Zarr array (rows, width)."""
    needed = overlapping(units, start, stop)
    edges = units[needed.start : needed.stop + 1]
    # Of wide rows there are so many that the gradient, which is as wide, is small beside them.
    fewest = -(-min(PARTITION_BYTES, 16 * 8 * width) // row_bytes)
    most = min(PARTITION_BYTES // row_bytes, (edges[-1] - edges[0]) // PARTITIONS)
    return (start, *(edge for edge in grouped(edges, most, fewest) if start < edge < stop), stop)


def bounds_of_blocks(sizes: tuple[int, ...], nbytes: int) -> tuple[int, ...]:
    """Return where partitions begin: at blocks of these rows, which have so many bytes together."""
    edges = np.cumsum([0, *(size for size in sizes if size)])
    # Blocks so small that their tasks cost more than they do are put together.
    count = len(edges) - 1
    together = min(count // PARTITIONS, SMALL_BLOCK // max(1, nbytes // count))
    if together > 1:
        edges = np.append(edges[:-1:together], edges[-1])
    return tuple(int(edge) for edge in edges)


def grid_chunks(
    variables: Sequence[xr.Variable], dims: tuple[Hashable, ...], sizes: tuple[int, ...], width: int, together: bool
) -> tuple[tuple[int, ...], ...]:
    """The grid of partitions: along each dimension the chunks of the largest chunked variable that has it.

    Dimensions that no chunked variable has are cut so that blocks of rows, were they in memory, would be those of a
    NumPy array. ``together`` puts chunks that are so small that their tasks cost more than they do together.
    """
    n = max(1, prod(sizes))
    chunks = dict[Hashable, tuple[int, ...]]()
    row_bytes = 8 * width
    for v in sorted(variables, key=lambda v: -v.nbytes):
        for d, c in zip(v.dims, v.chunks or (), strict=bool(v.chunks)):
            chunks.setdefault(d, tuple(size for size in c if size) or (0,))
    blocks = prod(len(c) for c in chunks.values())
    some = 1
    if together:
        some = min(blocks // PARTITIONS, SMALL_BLOCK * blocks // (n * row_bytes))
    for d in reversed(dims):
        if d in chunks and some > 1:
            count = min(some, len(chunks[d]))
            edges = np.cumsum([0, *chunks[d]])
            chunks[d] = tuple(np.diff(np.append(edges[:-1:count], edges[-1])).tolist())
            some //= count
    wanted = min(PARTITION_BYTES, max(1 << 20, n * row_bytes // PARTITIONS)) // row_bytes
    rows = max(1, prod(max(c) for c in chunks.values()))
    had = {d for v in variables for d in v.dims}
    for d, size in zip(reversed(dims), reversed(sizes), strict=True):
        if d not in chunks:
            step = max(1, min(size, wanted // rows) if d in had else size)
            chunks[d] = (step,) * (size // step) + ((size % step,) if size % step or not size else ())
            rows *= step
    return tuple(chunks[d] for d in dims)
