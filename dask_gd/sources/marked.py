"""Chunks read through zarr, absent ones told from those that hold the fill value.

Zarr reads a chunk that is not there as its fill value. So the array is read as if its fill value were another, a number
that no data holds: where that comes out, nothing was there. This holds of chunks, shards and chunks inside shards, of
both formats, of any codec, and of whoever decodes, zarr or the package zarrs; and it asks nothing more of the store.
Should data hold the number after all, a second reading with yet another fill value tells.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from textwrap import shorten
from typing import Any

import numpy as np
import zarr
from zarr.abc.codec import ArrayArrayCodec
from zarr.abc.store import Store
from zarr.buffer.cpu import NDBuffer
from zarr.codecs import ShardingCodec, TransposeCodec
from zarr.core.sync import sync
from zarr.storage import LocalStore, StorePath, WrapperStore

from ..errors import CorruptChunkError, MissingChunkError, UnreadableChunkError
from .chunk_files import ChunkError
from .grid import Edges, all_of, chunk_edges, even_edges, find, key_edges, overlapping
from .presence import chunk_key
from .stores import Key, ask, sees_array

logger = logging.getLogger("dask_gd")

#: zarr's settings that make it leave the decoding to zarrs: in one thread, since Dask has a task on every core, and
#: with an error, not a warning at every read, about what zarrs cannot decode.
ZARRS = {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline", "codec_pipeline.strict": True, "threading.max_workers": 1}
#: And those that make it decode by itself, whatever the user's are.
ZARR = {"codec_pipeline.path": "zarr.core.codec_pipeline.BatchedCodecPipeline"}

#: Seconds to wait before a chunk that the store did not give is asked for again; and seconds after which it is not.
WAITS, PATIENCE = (0.2, 1.0, 3.0), 30.0

#: Bits of the two numbers that stand for an absent chunk; as floats they are finite, of every size.
MARKS = (0x8A5AC33CA55A3CC3, 0x0B6D36C95A93C5A1)

_setting = threading.Lock()
_settling: set[asyncio.Task] = set()
_noted: set[str] = set()


@dataclass(frozen=True)
class MarkedChunks:
    """The chunks of an array, read through zarr; see `read`."""

    array: zarr.Array

    @cached_property
    def markable(self) -> bool:
        """Return whether another fill value comes out as it is: not through a codec that changes values in a shard."""
        codecs: Any = getattr(self.array.metadata, "codecs", ())
        while shards := [codec for codec in codecs if isinstance(codec, ShardingCodec)]:
            if any(isinstance(c, ArrayArrayCodec) and not isinstance(c, TransposeCodec) for c in codecs):
                return False
            codecs = shards[0].codecs
        return True

    @cached_property
    def sharded(self) -> bool:
        """Return whether chunks lie in shards."""
        return any(isinstance(codec, ShardingCodec) for codec in getattr(self.array.metadata, "codecs", ()))

    @cached_property
    def chunks(self) -> tuple[Edges, ...]:
        """Return where chunks begin along each dimension."""
        return chunk_edges(self.array)

    @cached_property
    def keys(self) -> tuple[Edges, ...]:
        """Return where begins what has a key of its own in the store."""
        return key_edges(self.array)

    @cached_property
    def corners(self) -> tuple[Any, ...]:
        """Return the index of every row, in the first column of the smallest chunks, those in inner shards too."""
        codecs = getattr(self.array.metadata, "codecs", ())
        edges = self.chunks
        while shards := [codec for codec in codecs if isinstance(codec, ShardingCodec)]:
            codecs = shards[0].codecs
            edges = tuple(map(even_edges, self.array.shape, shards[0].chunk_shape))
        firsts = (slice(None, None, along.step) if isinstance(along, range) else along[:-1] for along in edges[1:])
        return slice(None), *firsts

    def mark(self, number: int) -> Any:
        """Return what stands for absent chunks, as a number of the array's dtype."""
        dtype = self.array.dtype.newbyteorder("=")
        if not self.markable:
            return dtype.type(self.array.fill_value or 0)
        if dtype.kind == "b":
            return np.bool_(number == 0)
        return np.array(MARKS[number] >> (64 - 8 * dtype.itemsize), f"u{dtype.itemsize}").view(dtype)[()]

    @cached_property
    def by_zarr(self) -> zarr.Array:
        """Return the array with the first mark as fill value, decoded by zarr itself."""
        return self._filled(self.mark(0))

    @cached_property
    def fast(self) -> zarr.Array:
        """Return the array for zarrs to decode, on this machine, where that is installed and can; else `by_zarr`."""
        if not isinstance(self.array.store, LocalStore) or not self.array.dtype.isnative:
            return self.by_zarr
        try:
            from zarrs.pipeline import UnsupportedMetadataError
        except ImportError:
            return self.by_zarr
        try:
            return self._filled(self.mark(0), settings=ZARRS)
        except UnsupportedMetadataError:  # a codec that it lacks
            return self.by_zarr

    def _filled(self, value: Any, store: Store | None = None, settings: dict = ZARR) -> zarr.Array:
        metadata: Any = replace(self.array.metadata, fill_value=value)  # type: ignore[type-var]
        path = StorePath(store or self.array.store, self.array.path)
        # zarr's settings are the process's: threads that set them at once would leave them set.
        with _setting, zarr.config.set(settings):
            return zarr.Array(zarr.AsyncArray(metadata=metadata, store_path=path))

    def __getstate__(self) -> dict[str, Any]:
        return {"array": self.array}

    def read(self, start: int, out: np.ndarray, fill: Any = None) -> None:
        """Fill ``out`` with the rows from ``start`` on; absent chunks with ``fill``, if that is not None.

        Raises
        ------
        ChunkError
        """
        try:
            self.fast.get_basic_selection((slice(start, start + len(out)), ...), out=NDBuffer.from_numpy_array(out))
        except MemoryError:
            raise
        except Exception:
            sync(_settle())
            for index, box in self._boxes(self.chunks, start, len(out)):
                out[box] = self._read_again(index, start, box, 0)
        # A chunk that is absent is so as a whole, its first column included.
        if self._is_mark(out[self.corners]).any():
            self._look(start, out, fill)

    def _read_again(self, index: tuple[int, ...], start: int, box: tuple[slice, ...], number: int) -> np.ndarray:
        """Read a box of rows that begins in a chunk with this mark, several times if the store may be busy."""
        rows = (slice(box[0].start + start, box[0].stop + start), *box[1:])
        for attempt, last in enumerate(attempts()):
            store = _Noting(self.array.store)
            try:
                return np.asarray(self._filled(self.mark(number), store).get_basic_selection(rows))
            except MemoryError:
                raise
            except Exception as error:
                self._refuse(index, error, store.failure, last, again=attempt > 0)
        raise AssertionError

    def _refuse(
        self, index: tuple[int, ...], error: Exception, failure: Exception | None, last: bool, again: bool
    ) -> None:
        """Raise what is wrong with a chunk that cannot be read, unless the store may give it later.

        ``failure`` is the store's own error, if it has raised one; else its bytes could not be decoded.
        """
        if failure is not None and not isinstance(failure, FileNotFoundError):
            if not last and may_pass(failure):
                return
            if self._is_empty(index):
                raise ChunkError(index, "it has no bytes", CorruptChunkError) from error
            raise ChunkError(index, _named(failure), UnreadableChunkError) from error
        found = self._asked(index)
        if found is Key.ABSENT:
            raise ChunkError(index, "it is not in the store", MissingChunkError) from error
        if found is Key.EMPTY:
            raise ChunkError(index, "it has no bytes", CorruptChunkError) from error
        if found is Key.WHOLE and self.sharded:
            reason = "its store does not give parts of a shard, which are needed, but the whole"
            raise ChunkError(index, reason, UnreadableChunkError) from error
        if again:
            raise ChunkError(index, _named(error), CorruptChunkError) from error

    def _look(self, start: int, out: np.ndarray, fill: Any) -> None:
        """Refuse absent chunks, or fill them, where ``out`` holds the mark."""
        marked = self._is_mark(out)
        seen = False
        for _, box in self._boxes(self.keys, start, len(out)):
            part = marked[box]
            if not part.any():
                continue
            chunk = self._chunk(start, box, part)
            found = self._asked(chunk)
            if found is Key.EMPTY:
                raise ChunkError(chunk, "it has no bytes", CorruptChunkError)
            if found is Key.ABSENT:
                seen = seen or (fill is not None and self._sees_array(chunk))
                if not seen:
                    raise ChunkError(chunk, "it is not in the store", MissingChunkError)
                out[box][part] = fill
            elif self.markable:
                self._look_again(chunk, start, out, box, part, fill)
            elif self.sharded:
                self._note_unmarkable()

    def _look_again(
        self, chunk: tuple[int, ...], start: int, out: np.ndarray, box: tuple[slice, ...], part: np.ndarray, fill: Any
    ) -> None:
        """Read what is in the store under another fill value: data that happens to be the mark stays as it is."""
        again = self._read_again(chunk, start, box, 1)
        absent = part & ~self._is_mark(again)
        if not absent.any():
            return
        if fill is None:
            reason = "its shard leaves it out" if self.sharded else "it was not in the store"
            raise ChunkError(self._chunk(start, box, absent), reason, MissingChunkError)
        out[box][absent] = np.where(again == self.mark(1), fill, again)[absent]

    def _is_mark(self, values: np.ndarray) -> np.ndarray:
        mark = self.mark(0)
        if mark == mark:
            return values == mark
        return values != values

    def _asked(self, chunk: tuple[int, ...]) -> Key:
        """Ask the store for a chunk, or for the shard that holds it."""
        for last in attempts():
            try:
                return ask(self.array.store, self._key(chunk))
            except Exception as refusal:
                if last or not may_pass(refusal):
                    raise ChunkError(chunk, _named(refusal), UnreadableChunkError) from refusal
        raise AssertionError

    def _sees_array(self, chunk: tuple[int, ...]) -> bool:
        try:
            return sees_array(self.array)
        except Exception as refusal:
            raise ChunkError(chunk, _named(refusal), UnreadableChunkError) from refusal

    def _is_empty(self, chunk: tuple[int, ...]) -> bool:
        try:
            return ask(self.array.store, self._key(chunk)) is Key.EMPTY
        except Exception:
            return False

    def _key(self, chunk: tuple[int, ...]) -> str:
        """Return the key in the store of a chunk, or of the shard that holds it."""
        index = tuple(find(keys, along[i]) for i, along, keys in zip(chunk, self.chunks, self.keys, strict=True))
        return chunk_key(self.array, index)

    def _chunk(self, start: int, box: tuple[slice, ...], part: np.ndarray) -> tuple[int, ...]:
        """Return the index of the chunk with the first cell of a part of a box."""
        first = np.argwhere(part)[0].tolist()
        offsets = (start, *(0,) * (len(first) - 1))
        cells = (i + s.start + offset for i, s, offset in zip(first, box, offsets, strict=True))
        return tuple(map(find, self.chunks, cells))

    def _boxes(
        self, edges: tuple[Edges, ...], start: int, count: int
    ) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
        """Yield the chunks between these edges that hold rows from ``start`` on, and what of these rows they are."""
        shape = (start + count, *self.array.shape[1:])
        ranges = [overlapping(edges[0], start, shape[0]), *map(all_of, edges[1:])]
        for index in product(*ranges):
            spans = [(along[i], min(along[i + 1], n)) for i, along, n in zip(index, edges, shape, strict=True)]
            rows = slice(max(spans[0][0] - start, 0), spans[0][1] - start)
            yield index, (rows, *(slice(*span) for span in spans[1:]))

    def _note_unmarkable(self) -> None:
        key = f"{self.array.store_path}"
        if key in _noted:
            return
        _noted.add(key)
        logger.warning(
            "Array %r has shards inside a codec that changes its values: chunks that a shard leaves out cannot be told "
            "from those that hold the fill value, %r, and are read as such.",
            self.array.path,
            self.array.fill_value,
        )


class _Noting(WrapperStore):
    """A store that keeps its last error: codecs raise others, which are of the same classes."""

    failure: Exception | None = None

    async def get(self, *arguments: Any, **options: Any) -> Any:
        try:
            return await self._store.get(*arguments, **options)
        except Exception as error:
            self.failure = error
            raise

    async def get_ranges(self, *arguments: Any, **options: Any) -> Any:
        try:
            async for group in self._store.get_ranges(*arguments, **options):
                yield group
        except Exception as error:
            self.failure = error
            raise


def may_pass(error: Exception) -> bool:
    """Return whether what a store refuses it may give a little later: it is busy or far, not forbidden."""
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return status in (408, 425, 429) or status >= 500
    words = ("Permission", "Credential", "Unauthenticated", "Forbidden", "NotImplemented", "NotSupported")
    return not any(word in base.__name__ for base in type(error).__mro__ for word in words)


def attempts() -> Iterator[bool]:
    """Yield for each attempt whether it is the last, and wait before the next."""
    began = time.monotonic()
    for wait in WAITS:
        last = time.monotonic() - began > PATIENCE
        yield last
        time.sleep(wait)
    yield True


def _named(error: Exception) -> str:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    # Servers answer with whole pages.
    return f"{type(error).__name__}: {shorten(str(error), 500)}"


async def _settle() -> None:
    """Wait for the reads that zarr left running when one of them failed: they write to memory that is used again."""
    own = asyncio.current_task()
    assert own is not None
    _settling.add(own)
    try:
        others = asyncio.all_tasks() - _settling
        if others:
            await asyncio.wait(others, timeout=60)
    finally:
        _settling.discard(own)
