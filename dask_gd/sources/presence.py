"""The chunks of an array that a store lists, before any is read.

A store's listing is looked at once, so that an absent chunk is refused before the first task. A chunk that goes later,
a store that a worker cannot see, or a store that lists nothing, shows where chunks are read.
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
    """Yield the absent chunks and shards that rows ``start`` to ``stop`` need: the index, and the edges of rows.

    Nothing comes where the store's listing cannot be relied on.

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

    # Chunks and shards without a key.
    rows, *columns = key_edges(array)
    grid = [overlapping(rows, start, stop), *map(all_of, columns)]
    missing = (index for index in cells(grid) if chunk_key(array, index) not in keys)
    first = next(missing, None)
    if first is not None:
        # A listing may be short, of a server that gives it by the page.
        if ask(array.store, chunk_key(array, first)) is Key.ABSENT:
            for index in chain([first], missing):
                yield index, rows
        return

    # Chunks that present shards leave out.
    table = shard_index(array)
    if table is not None:
        shards = sorted(cells(grid))
        for index in sync(_left_out(array, table, shards, start=start, stop=stop)):
            yield index, chunk_edges(array)[0]


def cells(grid: Sequence[range]) -> Iterator[tuple[int, ...]]:
    """Yield the indices in a grid, the last fastest: as `itertools.product`, but without keeping the axes in memory."""
    for number in range(prod(map(len, grid))):
        index = []
        # As digits come from a number, the last first.
        for axis in reversed(grid):
            number, position = divmod(number, len(axis))
            index.append(axis[position])
        yield tuple(reversed(index))


def listed(array: zarr.Array) -> set[str] | None:
    """Return the keys under the array's path; None if the store, such as plain HTTP, cannot list them."""
    try:
        keys = set(sync(_list(array.store, array.path)))
    except Exception as error:
        logger.debug("The keys of array %r cannot be listed: %s", array.path, error)
        return None
    # A store that does not even list the metadata, by which the array was opened, cannot list.
    if metadata_key(array) not in keys:
        return None
    return keys


def chunk_key(array: zarr.Array, index: tuple[int, ...]) -> str:
    """Return the key in the store of a shard, or of a chunk that is in none."""
    return f"{array.path}/{array.metadata.encode_chunk_key(index)}".removeprefix("/")


async def _list(store: Store, path: str) -> list[str]:
    """Return the keys under a path."""
    prefix = ""
    if path:
        prefix = f"{path}/"
    return [key async for key in store.list_prefix(prefix)]


async def _left_out(
    array: zarr.Array,
    table: ShardIndex,
    shards: list[tuple[int, ...]],
    start: int,
    stop: int,
) -> list[tuple[int, ...]]:
    """Return the chunks that present shards leave out: their indices have the offset `ABSENT`."""
    # Chunks that hold no row in use, or lie beyond the array's edge, need not be there.
    chunk = np.array(array.chunks)
    first = start // chunk[0]
    last = -(-stop // chunk[0])
    grid = -(-np.array(array.shape) // chunk)

    # Of each shard only the index is fetched, of many shards at once.
    part: ByteRequest
    if table.at_start:
        part = RangeByteRequest(0, table.nbytes)
    else:
        part = SuffixByteRequest(table.nbytes)
    absent = []
    waiting = iter(shards)
    while group := list(islice(waiting, AT_ONCE)):
        keys = [chunk_key(array, shard) for shard in group]
        tables = await fetch_all(array.store, keys, part)
        for shard, stored in zip(group, tables, strict=True):
            try:
                offsets = table.entries(np.frombuffer(stored or b"", np.uint8))[..., 0]
            except ValueError:
                continue  # Damaged: reading it will say so.
            # Indices in the shard become indices in the array.
            corner = np.array(shard) * np.array(table.per_shard)
            for index in np.argwhere(offsets == ABSENT) + corner:
                if first <= index[0] < last and (index < grid).all():
                    absent.append(tuple(index.tolist()))
    return absent


async def fetch_all(store: Store, keys: list[str], part: Any) -> list[bytes | None]:
    """Return the bytes of keys, or of a part of each; None for keys that are absent."""

    async def fetch(key: str) -> bytes | None:
        data = await store.get(key, default_buffer_prototype(), byte_range=part)
        if data is None:
            return None
        return data.to_bytes()

    return await asyncio.gather(*map(fetch, keys))


def note_unchecked(array: zarr.Array, name: str) -> None:
    """Say once for each array that its codecs cannot tell a flipped bit from data."""
    codecs = getattr(array.metadata, "codecs", ())
    # The codec may be inside a shard, or around it: its name is looked for anywhere.
    if "crc32c" in repr(codecs).lower():
        return
    key = f"{array.store_path}"
    if key in _noted:
        return
    _noted.add(key)
    logger.warning(
        "Array %r has no checksums: corruption of its chunks would be read as data. "
        "Add zarr.codecs.Crc32cCodec() to its compressors to detect it.",
        name,
    )
