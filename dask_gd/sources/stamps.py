"""Stamps of stored chunks, which show whether the chunks stay as they are while a fit reads them.

A chunk that is overwritten between two passes, or during a pass, leaves old rows mixed with new ones, and nothing in
the bytes shows it. So the sizes, versions and times that stores have of chunks are compared: before the first chunk is
read, and at the end.
"""

from __future__ import annotations

import logging
import os
import zipfile
from collections.abc import Iterator, Sequence
from itertools import islice, product
from math import prod
from typing import Any

import zarr
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore, MemoryStore, ObjectStore, ZipStore

from ..errors import DataError
from .column import Column
from .grid import all_of, key_edges, overlapping
from .presence import chunk_key
from .source import Source
from .stores import innermost, place

logger = logging.getLogger("dask_gd")

#: Files that are asked one by one, at most.
MOST_FILES = 100_000
#: Names in listings of values that change with an object, the best first: a time may change where no byte does.
VERSIONS = (
    "generation",
    "ETag",
    "etag",
    "e_tag",
    "mtime",
    "LastModified",
    "last_modified",
    "modified",
    "updated",
    "created",
)


class Stamps:
    """The sizes, and versions or times, that stores have of the chunks and shards with a source's rows.

    Files of this machine are asked one by one for size and time. Of an array with more files than `MOST_FILES` that
    many are asked, evenly spaced, so that a whole array that is overwritten shows, but perhaps not a single chunk.
    Objects behind a network are listed, once, for sizes and ETags, or times where the listing gives no ETags. A file
    with a new time counts as overwritten, since nobody keeps its old bytes to compare; for chunks in a zip file or in
    memory the content counts.

    Not compared are stores that cannot be listed, such as a store behind plain HTTP; snapshots of icechunk, which never
    change; other stores that only zarr knows how to ask; and the data behind Dask arrays and Datasets.

    Parameters
    ----------
    source : Source
    """

    def __init__(self, source: Source):
        self.start = source.bounds[0]
        self.stop = source.bounds[-1]
        self.columns: list[tuple[Column, Sequence[Any]]] = []
        # Passes that had been made at the last comparison.
        self.passes = 0

        # A store that does not answer cannot be compared; reading it will name the fault.
        parts = [part for column in source.columns for part in column.parts]
        columns = [part for part in parts if part.stored is not None]
        forget_listings(columns)
        for column in columns:
            try:
                stamps = stamps_of(column.stored, *column.positions(self.start, self.stop))
            except Exception as error:
                logger.debug("What holds the chunks of array %r cannot be listed: %s", column.name, error)
                stamps = ()
            if any(stamp is not None for stamp in stamps):
                self.columns.append((column, stamps))
            else:
                logger.debug("Array %r: its store is not asked whether chunks are overwritten.", column.name)

    def check(self, passes: int, what: str, kept: Any = None) -> None:
        """Compare the stamps with the stores' answers now, unless no pass has been made since the last comparison.

        Parameters
        ----------
        passes : int
            The number of passes that have been made.
        what : str
            The reader of the source: a "fit" or a "search".
        kept : path, optional
            The store in which it is committed.

        Raises
        ------
        DataError
            Naming an array, its first chunk that has changed, and its rows.
        """
        if passes == self.passes:
            return
        self.passes = passes

        # The first column with a change is named; a store that does not answer now is no reason to fail.
        forget_listings([column for column, _ in self.columns])
        for column, before in self.columns:
            try:
                now = stamps_of(column.stored, *column.positions(self.start, self.stop))
            except Exception as error:
                logger.warning(
                    "Array %r: whether chunks have been overwritten in the %s could not be seen, since its store "
                    "answered %s: %s",
                    column.name,
                    what,
                    type(error).__name__,
                    error,
                )
                continue
            # Chunks in memory are compared by their bytes, unless they are the same object.
            pairs = zip(before, now, strict=True)
            changed = [i for i, (old, new) in enumerate(pairs) if old is not new and old != new]
            if changed:
                gone = now[changed[0]] is None
                raise DataError(self._message(column, changed, gone=gone, what=what, kept=kept))

    def _message(
        self,
        column: Column,
        changed: list[int],
        gone: bool,
        what: str,
        kept: Any,
    ) -> str:
        """Say which chunks have changed, what became of the fit, and what to do."""
        # Which chunk, and which rows it holds.
        array = column.stored
        positions = column.positions(self.start, self.stop)
        index = next(islice(chunks_of(array, *positions), changed[0], None))
        edges = key_edges(array)[0]
        first = edges[index[0]]
        last = min(edges[index[0] + 1], array.shape[0]) - 1
        rows = f"{first}-{last}"
        kind = "shard" if array.shards else "chunk"
        done = "removed" if gone else "overwritten"

        # Other chunks, and the store of the fit, are named where there are any.
        more = ""
        if len(changed) > 1:
            more = f" ({len(changed) - 1} more changed too)"
        where = ""
        again = ""
        if kept is not None:
            where = f"; {kept} keeps what was committed before, which may be of both"
            again = f", with a store that is new to the {what}"
        return (
            f"Array {column.name!r}, {kind} {index}, rows {rows}: it was {done} while the {what} read the array, in "
            f"{place(array)}{more}. What it found is of old rows and new ones together, and is not committed as "
            f"finished{where}. See that nobody writes to the data, or take a copy or a snapshot of it, and begin "
            f"again{again}."
        )


def forget_listings(columns: Sequence[Column]) -> None:
    """Let fsspec's file systems list anew, since the objects that they have listed before may have changed.

    Do it for all of them before the first is listed: where a file system knows an object from a listing it reads it
    without a question of its own.
    """
    for column in columns:
        store = innermost(column.stored.store)
        if isinstance(store, FsspecStore):
            # A file system that is not asynchronous is wrapped in an asynchronous one.
            file_system = getattr(store.fs, "sync_fs", store.fs)
            file_system.invalidate_cache()


def stamps_of(array: zarr.Array, start: int, stop: int) -> Sequence[Any]:
    """Return the store's stamp of each object with the rows ``start`` to ``stop``, None for objects that are absent.

    It is empty where the store is of a kind that is not asked.

    Raises
    ------
    Exception
        The store's own, if it refuses or fails.
    """
    store = innermost(array.store)
    keys = (chunk_key(array, index) for index in chunks_of(array, start, stop))
    if isinstance(store, LocalStore):
        return [_of_file(f"{store.root}/{key}") for key in keys]
    if isinstance(store, MemoryStore):
        return [store._store_dict.get(key) for key in keys]

    # Other stores are listed once, for all keys.
    if isinstance(store, ZipStore):
        listing = _in_zip(store)
    elif isinstance(store, FsspecStore):
        listing = sync(_listed_by_fsspec(store, array.path))
    elif isinstance(store, ObjectStore):
        listing = sync(_listed_by_obstore(store, array.path))
    else:
        return ()
    return [listing.get(key) for key in keys]


def chunks_of(array: zarr.Array, start: int, stop: int) -> Iterator[tuple[int, ...]]:
    """Yield the indices of the chunks or shards with the rows ``start`` to ``stop``; of very many files, a part."""
    rows, *columns = key_edges(array)
    grid = [overlapping(rows, start, stop), *map(all_of, columns)]
    step = 1
    if isinstance(innermost(array.store), LocalStore):
        count = prod(map(len, grid))
        step = max(1, -(-count // MOST_FILES))
    return islice(product(*grid), 0, None, step)


def _of_file(path: str) -> int | None:
    """Return a number for a file's size and time; not for its inode, which network file systems may invent."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return hash((status.st_size, status.st_mtime_ns))


def _in_zip(store: ZipStore) -> dict[str, int]:
    """Return a number for the size and the checksum of each file in a zip file; nothing if that is gone or broken."""
    try:
        # The store's own listing is from when it was opened.
        with zipfile.ZipFile(store.path) as file:
            return {info.filename: hash((info.file_size, info.CRC)) for info in file.infolist()}
    except (FileNotFoundError, zipfile.BadZipFile):
        return {}


async def _listed_by_fsspec(store: FsspecStore, path: str) -> dict[str, int]:
    """Return a number for each object under a path."""
    listing = await store.fs._find(f"{store.path}/{path}", detail=True, maxdepth=None, withdirs=False)
    prefix = f"{store.path}/"
    return {name.removeprefix(prefix): _of_object(entry) for name, entry in listing.items()}


async def _listed_by_obstore(store: ObjectStore, path: str) -> dict[str, int]:
    """Return a number for each object under a path."""
    import obstore

    numbers = {}
    async for page in obstore.list(store.store, prefix=path):
        for entry in page:
            numbers[entry["path"]] = _of_object(entry)
    return numbers


def _of_object(entry: Any) -> int:
    """Return a number for an object's entry in a listing."""
    # Each kind of store has its own name for the version.
    version = next((entry[name] for name in VERSIONS if entry.get(name) is not None), None)
    return hash((entry.get("size"), str(version)))
