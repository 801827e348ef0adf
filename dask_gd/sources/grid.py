"""Where the chunks of a Zarr array begin: at even steps, or on a rectilinear grid anywhere.

Along each dimension the edges are an ascending sequence of positions: chunk i reaches from ``edges[i]`` to
``edges[i + 1]``. The last edge may lie beyond the array. The edges of a regular grid are a `range`, however many they
are.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import zarr

#: Positions along one dimension.
Edges = Sequence[int]


def chunk_edges(array: zarr.Array) -> tuple[Edges, ...]:
    """Return the edges of the chunks that are decoded, inside shards if there are shards, along each dimension."""
    try:
        return _even(array.shape, array.chunks)
    except NotImplementedError:
        return _uneven(array.read_chunk_sizes)  # type: ignore[attr-defined]


def key_edges(array: zarr.Array) -> tuple[Edges, ...]:
    """Return the edges of the pieces with keys in the store, shards or else chunks, along each dimension."""
    try:
        return _even(array.shape, array.shards or array.chunks)
    except NotImplementedError:
        return _uneven(array.write_chunk_sizes)  # type: ignore[attr-defined]


def is_regular(array: zarr.Array) -> bool:
    """Return whether all chunks, and all shards, have the same shape."""
    both = (*chunk_edges(array), *key_edges(array))
    return all(isinstance(edges, range) for edges in both)


def _even(shape: tuple[int, ...], sides: tuple[int, ...]) -> tuple[Edges, ...]:
    """Return the edges of a regular grid."""
    return tuple(map(even_edges, shape, sides))


def even_edges(n: int, side: int) -> Edges:
    """Return the edges of chunks of one size along a dimension of length ``n``."""
    side = max(1, side)
    count = -(-n // side)
    return range(0, count * side + 1, side)


def _uneven(sizes: Any) -> tuple[Edges, ...]:
    """Return the edges of chunks with these sizes along each dimension."""
    edges = [tuple(accumulate(along, initial=0)) for along in sizes]
    return tuple(edges)


def find(edges: Edges, position: int) -> int:
    """Return the number of the chunk that holds a position."""
    return bisect_right(edges, position) - 1


def overlapping(edges: Edges, start: int, stop: int) -> range:
    """Return the numbers of the chunks that hold positions from ``start`` to ``stop``."""
    first = find(edges, start)
    return range(first, bisect_left(edges, stop))


def all_of(edges: Edges) -> range:
    """Return the numbers of all chunks."""
    return range(len(edges) - 1)


def longest(edges: Edges) -> int:
    """Return the largest distance of two edges."""
    if isinstance(edges, range):
        return edges.step
    distances = (b - a for a, b in pairwise(edges))
    return max(distances, default=1)


def grouped(edges: Edges, most: int, fewest: int = 1) -> Edges:
    """Return the edges of runs of whole chunks.

    Runs are as long as they can be up to ``most``, and yet at least ``fewest`` long, and at least a chunk.
    """
    # On a regular grid all runs have one length.
    if isinstance(edges, range):
        chunks = max(1, most // edges.step, -(-fewest // edges.step))
        step = edges.step * chunks
        first = edges[0]
        last = edges[-1]
        runs = -((first - last) // step)
        return range(first, first + runs * step + 1, step)

    # Else each run goes as far as it may from the end of the run before it.
    cuts = [edges[0]]
    last = len(edges) - 1
    while cuts[-1] < edges[-1]:
        start = cuts[-1]
        longest_run = find(edges, start + most)
        shortest_run = bisect_left(edges, start + fewest)
        one_chunk = bisect_right(edges, start)
        end = max(longest_run, shortest_run, one_chunk)
        cuts.append(edges[min(end, last)])
    return tuple(cuts)
