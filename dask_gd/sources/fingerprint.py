"""A hash of the content of a Zarr array, the same wherever it lies."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from itertools import islice
from math import prod

import numpy as np
import zarr
from zarr.abc.store import Store, SuffixByteRequest
from zarr.core.sync import sync

from .grid import all_of, key_edges
from .metadata import MANY_CHUNKS
from .packing import Packing
from .presence import AT_ONCE, chunk_key, fetch_all

#: Size up to which a fingerprint reads an array's stored bytes whole.
WHOLE_BYTES = 64 << 20
#: Chunks of a larger array that it reads at most, and the bytes that it reads at the end of each.
SAMPLED_CHUNKS = 1024
TAIL_BYTES = 4096


def content(array: zarr.Array, packing: Packing | None) -> str:
    """Return a hash of the stored bytes: all of them where they are few, else the ends of evenly spaced chunks.

    The packing is hashed too. A checksum codec puts its sum at a chunk's end, so that there the sample covers whole
    chunks. The keys follow from the array's shape, since not every store can list its keys.
    """
    return sync(_content(array, packing))


def is_whole(array: zarr.Array) -> bool:
    """Return whether `content` is a hash of all the stored bytes."""
    count = prod(len(edges) - 1 for edges in key_edges(array))
    return array.nbytes <= WHOLE_BYTES and count <= MANY_CHUNKS


async def _content(array: zarr.Array, packing: Packing | None) -> str:
    # The same bytes are other values under another shape, dtype, fill value or packing.
    fill = np.asarray(array.fill_value or 0, array.dtype)
    meaning: tuple = (array.shape, str(array.dtype), fill.tolist())
    if packing is not None:
        meaning = (*meaning, packing)
    digest = hashlib.blake2b(repr(meaning).encode(), digest_size=16)

    part = None
    whole = is_whole(array)
    if not whole:
        part = SuffixByteRequest(TAIL_BYTES)
    # Many keys at once, since a store behind a network takes long to answer.
    keys = _keys(array, whole)
    while group := list(islice(keys, AT_ONCE)):
        for data in await fetch_all(array.store, group, part):
            if data is None:
                digest.update(b"absent")
            else:
                digest.update(b"%d " % len(data) + data)

        # An end alone does not tell a chunk's length.
        if not whole:
            sizes = await asyncio.gather(*(_size(array.store, key) for key in group))
            digest.update(repr(sizes).encode())
    return digest.hexdigest()


def _keys(array: zarr.Array, whole: bool) -> Iterator[str]:
    """Yield the keys of all chunks or shards, or of evenly spaced chunks where not the ``whole`` is wanted."""
    grid = tuple(len(all_of(edges)) for edges in key_edges(array))
    count = prod(grid)
    step = 1
    if not whole:
        step = max(1, -(-count // SAMPLED_CHUNKS))
    for number in range(0, count, step):
        index = np.unravel_index(number, grid)
        yield chunk_key(array, tuple(map(int, index)))


async def _size(store: Store, key: str) -> int | None:
    """Return the stored size of a chunk; None if it is absent, or if the store does not say."""
    try:
        return await store.getsize(key)
    except Exception:
        return None
