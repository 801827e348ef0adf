"""Which of an array's chunks a store lists, before any is read.

What a store lists is looked at once, so that an absent chunk is refused before the first task. A chunk that goes later,
a store that a worker cannot see, or one that lists nothing, is found where chunks are read.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from math import prod
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import ByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from ..errors import UnreachableStoreError
from .grid import Edges, all_of, chunk_edges, key_edges, overlapping
from .shard_index import ABSENT, ShardIndex, shard_index
from .stores import Key, ask, metadata_key, sees_store, unseen

logger = logging.getLogger("dask_gd")

#: Requests that a store is asked at once.
AT_ONCE = 64

_noted: set[str] = set()


def absent_chunks(array: zarr.Array, start: int, stop: int) -> Iterator[tuple[tuple[int, ...], Edges]]:
    """Yield the absent chunks and shards that rows ``start`` to ``stop`` need: the index, and where rows of such begin.

    Nothing where the store's listing cannot be relied on.

    Raises
    ------
    UnreachableStoreError
        If the store itself is not there.
    """
    keys = listed(array)
    if keys is None:
        if not sees_store(array):
            raise UnreachableStoreError(unseen(array, array.path))
        return
    rows, *columns = key_edges(array)
    grid = [overlapping(rows, start, stop), *map(all_of, columns)]
    missing = (index for index in cells(grid) if chunk_key(array, index) not in keys)
    first = next(missing, None)
    if first is not None:
        # A listing may be short, of a server that gives it by the page.
        if ask(array.store, chunk_key(array, first)) is Key.ABSENT:
            yield from ((index, rows) for index in chain([first], missing))
        return
    index = shard_index(array)
    if index is not None:
        for chunk in sync(_left_out(array, index, sorted(cells(grid)), start, stop)):
            yield chunk, chunk_edges(array)[0]


def cells(grid: Sequence[range]) -> Iterator[tuple[int, ...]]:
    """Yield the indices in a grid, the last fastest: as `itertools.product`, but holding none of them."""
    for i in range(prod(map(len, grid))):
        index = []
        for axis in reversed(grid):
            i, at = divmod(i, len(axis))
            index.append(axis[at])
        yield tuple(reversed(index))


def listed(array: zarr.Array) -> set[str] | None:
    """Return the keys under the array's path; None if the store cannot list them, such as one behind plain HTTP."""
    try:
        keys = set(sync(_list(array.store, array.path)))
    except Exception as error:
        logger.debug("The keys of array %r cannot be listed: %s", array.path, error)
        return None
    # What lists nothing, not even what the array was opened by, cannot list.
    return keys if metadata_key(array) in keys else None


def chunk_key(array: zarr.Array, index: tuple[int, ...]) -> str:
    """Return the key in the store of a shard, or of a chunk that is in none."""
    return f"{array.path}/{array.metadata.encode_chunk_key(index)}".removeprefix("/")


async def _list(store: Store, path: str) -> list[str]:
    return [key async for key in store.list_prefix(f"{path}/" if path else "")]


async def _left_out(
    array: zarr.Array, index: ShardIndex, shards: list[tuple[int, ...]], start: int, stop: int
) -> list[tuple[int, ...]]:
    """Return the chunks that present shards leave out: their indices have the offset `ABSENT`."""
    chunk = np.array(array.chunks)
    # Chunks that hold no row in use, or lie beyond the array's edge, need not be there.
    first = start // chunk[0]
    last = -(-stop // chunk[0])
    grid = -(-np.array(array.shape) // chunk)
    if index.at_start:
        where: ByteRequest = RangeByteRequest(0, index.nbytes)
    else:
        where = SuffixByteRequest(index.nbytes)
    absent = []
    left = iter(shards)
    while some := list(islice(left, AT_ONCE)):
        keys = [chunk_key(array, shard) for shard in some]
        for shard, stored in zip(some, await gathered(array.store, keys, where), strict=True):
            try:
                offsets = index.entries(np.frombuffer(stored or b"", np.uint8))[..., 0]
            except ValueError:
                continue  # Damaged: reading it will say so.
            for inner in np.argwhere(offsets == ABSENT) + np.array(shard) * np.array(index.per_shard):
                if first <= inner[0] < last and (inner < grid).all():
                    absent.append(tuple(inner.tolist()))
    return absent


async def gathered(store: Store, keys: list[str], where: Any) -> list[bytes | None]:
    """Return the bytes of some keys, or of a part of each; None for those that are absent."""

    async def one(key: str) -> bytes | None:
        found = await store.get(key, default_buffer_prototype(), byte_range=where)
        if found is None:
            return None
        return found.to_bytes()

    return await asyncio.gather(*map(one, keys))


def note_unchecked(array: zarr.Array, name: str) -> None:
    """Say once for each array that its codecs cannot tell a flipped bit from data."""
    codecs = getattr(array.metadata, "codecs", ())
    if "crc32c" in repr(codecs).lower() or (key := f"{array.store_path}") in _noted:
        return
    _noted.add(key)
    logger.warning(
        "Array %r has no checksums: corruption of its chunks would be read as data. "
        "Add zarr.codecs.Crc32cCodec() to its compressors to detect it.",
        name,
    )
