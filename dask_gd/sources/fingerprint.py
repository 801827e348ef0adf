"""What identifies the content of a Zarr array, wherever it lies."""

from __future__ import annotations

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
from .presence import AT_ONCE, chunk_key, gathered

#: A fingerprint reads an array's stored bytes whole up to this size, beyond it the ends of at most this many chunks.
WHOLE_BYTES, SAMPLED_CHUNKS, TAIL_BYTES = 64 << 20, 1024, 4096


def content(array: zarr.Array, packing: Packing | None) -> str:
    """Return a hash of the stored bytes: all of them where they are few, else the ends of evenly spaced chunks.

    How they are unpacked belongs to it. A checksum codec puts its sum at a chunk's end, so that there the sample covers
    whole chunks. The keys are those that the array's shape promises: not every store can list what it holds.
    """
    return sync(_content(array, packing))


def is_whole(array: zarr.Array) -> bool:
    """Whether `content` is a hash of all the stored bytes."""
    count = prod(len(edges) - 1 for edges in key_edges(array))
    return array.nbytes <= WHOLE_BYTES and count <= MANY_CHUNKS


async def _content(array: zarr.Array, packing: Packing | None) -> str:
    about: tuple = array.shape, str(array.dtype), np.asarray(array.fill_value or 0, array.dtype).tolist()
    if packing is not None:
        about = (*about, packing)
    digest = hashlib.blake2b(repr(about).encode(), digest_size=16)
    whole = is_whole(array)
    keys = _keys(array, whole)
    while some := list(islice(keys, AT_ONCE)):
        for data in await gathered(array.store, some, None if whole else SuffixByteRequest(TAIL_BYTES)):
            digest.update(b"absent" if data is None else b"%d " % len(data) + data)
        if not whole:
            digest.update(repr([await _size(array.store, key) for key in some]).encode())
    return digest.hexdigest()


def _keys(array: zarr.Array, whole: bool) -> Iterator[str]:
    """Yield the keys of all chunks or shards, or of some, evenly spaced."""
    grid = tuple(len(all_of(edges)) for edges in key_edges(array))
    step = 1
    if not whole:
        step = max(1, -(-prod(grid) // SAMPLED_CHUNKS))
    for i in range(0, prod(grid), step):
        yield chunk_key(array, tuple(map(int, np.unravel_index(i, grid))))


async def _size(store: Store, key: str) -> int | None:
    """Return the stored size of a chunk; None if it is absent, or if the store does not say."""
    try:
        return await store.getsize(key)
    except Exception:
        return None
