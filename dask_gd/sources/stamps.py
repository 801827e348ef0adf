"""Whether stored chunks stay as they are while a fit reads them.

A chunk that is overwritten between two passes, or in one, leaves old rows mixed with new ones, and nothing in the bytes
shows it. So what stores say of the chunks without giving them is compared: before the first is read, and at the end.
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
from zarr.storage import FsspecStore, LocalStore, MemoryStore, ObjectStore, WrapperStore, ZipStore

from ..errors import DataError
from .grid import all_of, key_edges, overlapping
from .presence import chunk_key
from .source import Source
from .stores import place
from .zarr_column import ZarrColumn

logger = logging.getLogger("dask_gd")

#: Files that are asked one by one, at most.
MOST_FILES = 100_000
#: What listings call that which changes with an object, the best first: a time may change where no byte does.
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
    """What their stores say of the chunks and shards that hold a source's rows: sizes, and versions or times.

    Files of this machine are asked one by one for size and time; of an array with more than `MOST_FILES` so many of
    them, evenly spaced, so that a whole array that is overwritten is found, but perhaps not a single chunk. What lies
    behind a network is listed, once, for sizes and ETags, or times where the listing gives no ETags. A file that has
    got a new time counts as overwritten, since nobody keeps its old bytes to compare; of chunks in a zip file or in
    memory the content counts.

    Not compared are stores that cannot be listed, such as one behind plain HTTP; snapshots of icechunk, which never
    change; other stores of which only zarr knows how to ask them; and what lies behind Dask arrays and Datasets.

    Parameters
    ----------
    source : Source
    """

    def __init__(self, source: Source):
        self.start = source.bounds[0]
        self.stop = source.bounds[-1]
        self.columns: list[tuple[ZarrColumn, Sequence[Any]]] = []
        # Passes that had been made when they were compared last.
        self.passes = 0
        columns = [column for column in source.columns if isinstance(column, ZarrColumn)]
        forget_listings(columns)
        for column in columns:
            try:
                stamps = stamps_of(column.array, self.start, self.stop)
            except Exception as error:
                logger.debug("What holds the chunks of array %r cannot be listed: %s", column.name, error)
                stamps = ()
            if any(stamp is not None for stamp in stamps):
                self.columns.append((column, stamps))
            else:
                logger.debug("Array %r: its store is not asked whether chunks are overwritten.", column.name)

    def check(self, passes: int, what: str, kept: Any = None) -> None:
        """Compare them with what the stores say now, unless no pass has been made since that was done.

        Parameters
        ----------
        passes : int
            That have been made.
        what : str
            Reads the source: a "fit" or a "search".
        kept : path, optional
            Where it is committed.

        Raises
        ------
        DataError
            Naming an array, the first chunk of it that has changed, and its rows.
        """
        if passes == self.passes:
            return
        self.passes = passes
        forget_listings([column for column, _ in self.columns])
        for column, before in self.columns:
            try:
                now = stamps_of(column.array, self.start, self.stop)
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
            # What is in memory is compared by its bytes.
            changed = [i for i, (a, b) in enumerate(zip(before, now, strict=True)) if a is not b and a != b]
            if changed:
                raise DataError(self._said(column, changed, now[changed[0]] is None, what, kept))

    def _said(self, column: ZarrColumn, changed: list[int], gone: bool, what: str, kept: Any) -> str:
        """Say which chunks have changed, what became of the fit, and what to do."""
        array = column.array
        index = next(islice(chunks_of(array, self.start, self.stop), changed[0], None))
        edges = key_edges(array)[0]
        rows = f"{edges[index[0]]}-{min(edges[index[0] + 1], array.shape[0]) - 1}"
        kind = "shard" if array.shards else "chunk"
        done = "removed" if gone else "overwritten"
        more = ""
        if len(changed) > 1:
            more = f" ({len(changed) - 1} more changed too)"
        where = ""
        if kept is not None:
            where = f"; {kept} keeps what was committed before, which may be of both"
        again = ""
        if kept is not None:
            again = f", with a store that is new to the {what}"
        return (
            f"Array {column.name!r}, {kind} {index}, rows {rows}: it was {done} while the {what} read the array, in "
            f"{place(array)}{more}. What it found is of old rows and new ones together, and is not committed as "
            f"finished{where}. See that nobody writes to the data, or take a copy or a snapshot of it, and begin "
            f"again{again}."
        )


def forget_listings(columns: Sequence[ZarrColumn]) -> None:
    """Let fsspec's file systems list anew, since what they have listed before may have changed.

    All of them before the first is listed: where a file system knows an object from a listing it reads it without a
    question of its own.
    """
    for column in columns:
        store = _innermost(column.array.store)
        if isinstance(store, FsspecStore):
            # One that is not asynchronous is wrapped in one that is.
            getattr(store.fs, "sync_fs", store.fs).invalidate_cache()


def stamps_of(array: zarr.Array, start: int, stop: int) -> Sequence[Any]:
    """Return what the store says of each object with the rows ``start`` to ``stop``, None for those that are absent.

    Empty where the store is of a kind that is not asked.

    Raises
    ------
    Exception
        The store's own, if it refuses or fails.
    """
    store = _innermost(array.store)
    keys = (chunk_key(array, index) for index in chunks_of(array, start, stop))
    if isinstance(store, LocalStore):
        return [_of_file(f"{store.root}/{key}") for key in keys]
    if isinstance(store, MemoryStore):
        return [store._store_dict.get(key) for key in keys]
    if isinstance(store, ZipStore):
        found = _in_zip(store)
    elif isinstance(store, FsspecStore):
        found = sync(_listed_by_fsspec(store, array.path))
    elif isinstance(store, ObjectStore):
        found = sync(_listed_by_obstore(store, array.path))
    else:
        return ()
    return [found.get(key) for key in keys]


def chunks_of(array: zarr.Array, start: int, stop: int) -> Iterator[tuple[int, ...]]:
    """Yield the indices of the chunks or shards with the rows ``start`` to ``stop``; of many files only some."""
    rows, *columns = key_edges(array)
    grid = [overlapping(rows, start, stop), *map(all_of, columns)]
    step = 1
    if isinstance(_innermost(array.store), LocalStore):
        step = -(-prod(map(len, grid)) // MOST_FILES)
    return islice(product(*grid), 0, None, max(1, step))


def _innermost(store: Any) -> Any:
    """Return the store without what is wrapped around it."""
    while isinstance(store, WrapperStore):
        store = store._store
    return store


def _of_file(path: str) -> int | None:
    """Return a number for a file's size and time; not for its inode's, which some network file systems invent."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return hash((found.st_size, found.st_mtime_ns))


def _in_zip(store: ZipStore) -> dict[str, int]:
    """Return a number for the size and the checksum of each file in a zip file, as it is now; none if it is no more."""
    try:
        with zipfile.ZipFile(store.path) as file:
            return {info.filename: hash((info.file_size, info.CRC)) for info in file.infolist()}
    except (FileNotFoundError, zipfile.BadZipFile):
        return {}


async def _listed_by_fsspec(store: FsspecStore, path: str) -> dict[str, int]:
    found = await store.fs._find(f"{store.path}/{path}", detail=True, maxdepth=None, withdirs=False)
    return {name.removeprefix(f"{store.path}/"): _of_object(about) for name, about in found.items()}


async def _listed_by_obstore(store: ObjectStore, path: str) -> dict[str, int]:
    import obstore

    found = obstore.list(store.store, prefix=path)
    return {about["path"]: _of_object(about) for some in [s async for s in found] for about in some}


def _of_object(about: Any) -> int:
    """Return a number for what a listing says of an object."""
    version = next((about[name] for name in VERSIONS if about.get(name) is not None), None)
    return hash((about.get("size"), str(version)))
