"""Chunks read through zarr, with absent chunks told from chunks that hold the fill value.

Zarr reads a chunk that is not there as its fill value. So the array is read as if its fill value were another number,
the mark, which no data holds: where the mark comes out, nothing was there. This is so for chunks, shards and chunks
inside shards, for both formats, for any codec, and for both decoders, zarr and the package zarrs; and it asks nothing
more of the store. Should data hold the mark after all, a second reading with another mark decides.
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
from typing import Any

import numpy as np
import zarr
from zarr.abc.codec import ArrayArrayCodec
from zarr.abc.store import Store
from zarr.buffer.cpu import NDBuffer
from zarr.codecs import ShardingCodec, TransposeCodec
from zarr.core.sync import sync
from zarr.storage import LocalStore, StorePath

from ..errors import CorruptChunkError, MissingChunkError, UnreadableChunkError
from .chunk_files import ChunkError
from .grid import Edges, chunk_edges, even_edges, find, key_edges, overlapping
from .presence import chunk_key
from .store_errors import RecordingStore, described, may_pass
from .stores import Key, ask, sees_array

logger = logging.getLogger("dask_gd")

#: zarr's settings that make it leave the decoding to zarrs: in one thread, since Dask has a task on every core, and
#: with an error, not a warning at every read, about what zarrs cannot decode.
ZARRS = {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline", "codec_pipeline.strict": True, "threading.max_workers": 1}
#: Settings that make zarr decode by itself, whatever the user's are.
ZARR = {"codec_pipeline.path": "zarr.core.codec_pipeline.BatchedCodecPipeline"}

#: Seconds to wait before a chunk that the store did not give is asked for again.
WAITS = (0.2, 1.0, 3.0)
#: Seconds after which it is not asked for again.
PATIENCE = 30.0

#: Bits of the two marks, the numbers that stand for an absent chunk; as floats they are finite, of every size.
MARKS = (0x8A5AC33CA55A3CC3, 0x0B6D36C95A93C5A1)

#: A position, or a number of cells, along each dimension.
Cells = tuple[int, ...]

_setting = threading.Lock()
_settling: set[asyncio.Task] = set()
_noted: set[str] = set()


@dataclass(frozen=True)
class MarkedChunks:
    """The chunks of an array, read through zarr; see `read`."""

    array: zarr.Array

    @cached_property
    def markable(self) -> bool:
        """Return whether a mark comes out as it is: not through a codec that changes values in a shard."""
        codecs: Any = getattr(self.array.metadata, "codecs", ())
        # Shards may lie in shards.
        while shards := [codec for codec in codecs if isinstance(codec, ShardingCodec)]:
            if any(isinstance(c, ArrayArrayCodec) and not isinstance(c, TransposeCodec) for c in codecs):
                return False
            codecs = shards[0].codecs
        return True

    @cached_property
    def sharded(self) -> bool:
        """Return whether chunks lie in shards."""
        codecs = getattr(self.array.metadata, "codecs", ())
        return any(isinstance(codec, ShardingCodec) for codec in codecs)

    @cached_property
    def chunks(self) -> tuple[Edges, ...]:
        """Return where chunks begin along each dimension."""
        return chunk_edges(self.array)

    @cached_property
    def keys(self) -> tuple[Edges, ...]:
        """Return where the pieces with keys in the store begin, shards or else chunks."""
        return key_edges(self.array)

    @cached_property
    def smallest(self) -> tuple[Edges, ...]:
        """Return where the smallest chunks begin, which may be in inner shards."""
        codecs = getattr(self.array.metadata, "codecs", ())
        edges = self.chunks
        while shards := [codec for codec in codecs if isinstance(codec, ShardingCodec)]:
            codecs = shards[0].codecs
            edges = tuple(map(even_edges, self.array.shape, shards[0].chunk_shape))
        return edges

    def corners(self, origin: Cells, shape: Cells) -> tuple[Any, ...]:
        """Return the index, among cells from ``origin`` on, of all rows in the first columns of the smallest chunks."""
        index: list[Any] = [slice(None)]
        for along, low, size in zip(self.smallest[1:], origin[1:], shape[1:], strict=True):
            # Even steps are a slice, which copies nothing.
            if isinstance(along, range) and low % along.step == 0:
                index.append(slice(None, None, along.step))
                continue
            inside = (edge - low for edge in along if low < edge < low + size)
            index.append([0, *inside])
        return tuple(index)

    def mark(self, number: int) -> Any:
        """Return a mark, by its number, in the array's dtype; the fill value where the array is not markable."""
        dtype = self.array.dtype.newbyteorder("=")
        if not self.markable:
            return dtype.type(self.array.fill_value or 0)
        if dtype.kind == "b":
            return np.bool_(number == 0)
        bits = MARKS[number] >> (64 - 8 * dtype.itemsize)
        return np.array(bits, f"u{dtype.itemsize}").view(dtype)[()]

    @cached_property
    def by_zarr(self) -> zarr.Array:
        """Return the array with the first mark as fill value, decoded by zarr itself."""
        return self._filled(self.mark(0))

    @cached_property
    def fast(self) -> zarr.Array:
        """Return the array for zarrs to decode, where that is installed and can; else `by_zarr`."""
        # zarrs opens files of this machine itself.
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
        """Return the array with another fill value."""
        metadata: Any = replace(self.array.metadata, fill_value=value)  # type: ignore[type-var]
        # Nothing is read: the metadata are the array's but for the fill value.
        path = StorePath(store or self.array.store, self.array.path)
        # zarr's settings are the process's: two threads that set them at the same time would leave them set.
        with _setting, zarr.config.set(settings):
            return zarr.Array(zarr.AsyncArray(metadata=metadata, store_path=path))

    def __getstate__(self) -> dict[str, Any]:
        return {"array": self.array}

    def read(self, start: int, out: np.ndarray, fill: Any = None, column: int = 0) -> None:
        """Fill ``out`` with rows and columns from ``start`` and ``column`` on; absent chunks with ``fill``, if any.

        Raises
        ------
        ChunkError
        """
        self.read_box((start, column, *[0] * out.ndim)[: out.ndim], out, fill)

    def read_box(self, origin: Cells, out: np.ndarray, fill: Any = None) -> None:
        """Fill ``out`` with cells from ``origin`` on, as `read` does."""
        # All chunks at once. Where that fails, each by itself, to name the chunk, or to ask a busy store again.
        cells = tuple(slice(low, low + size) for low, size in zip(origin, out.shape, strict=True))
        try:
            self.fast.get_basic_selection(cells, out=NDBuffer.from_numpy_array(out))
        except MemoryError:
            raise
        except Exception:
            sync(_settle())
            for index, box in self._boxes(self.chunks, origin, out.shape):
                out[box] = self._read_again(index, origin, box, mark=0)

        # A chunk that is absent is so as a whole, its first column included.
        if self._is_mark(out[self.corners(origin, out.shape)]).any():
            self._settle_marks(origin, out, fill)

    def _read_again(
        self,
        index: tuple[int, ...],
        origin: Cells,
        box: tuple[slice, ...],
        mark: int,
    ) -> np.ndarray:
        """Return a box of cells that begins in a chunk, read with a mark, repeatedly if the store may be busy."""
        cells = tuple(slice(s.start + low, s.stop + low) for s, low in zip(box, origin, strict=True))
        for attempt, last in enumerate(attempts()):
            store = RecordingStore(self.array.store)
            try:
                array = self._filled(self.mark(mark), store)
                return np.asarray(array.get_basic_selection(cells))
            except MemoryError:
                raise
            except Exception as error:
                self._refuse(index, error, store.failure, last=last, again=attempt > 0)
        raise AssertionError

    def _refuse(
        self,
        index: tuple[int, ...],
        error: Exception,
        failure: Exception | None,
        last: bool,
        again: bool,
    ) -> None:
        """Raise the error for a chunk that cannot be read, unless the store may give it later.

        ``failure`` is the store's own error, if it has raised any; else the chunk's bytes could not be decoded.
        """
        # The store has refused it, for good or for now.
        if failure is not None and not isinstance(failure, FileNotFoundError):
            if not last and may_pass(failure):
                return
            if self._is_empty(index):
                raise ChunkError(index, "it has no bytes", CorruptChunkError) from error
            raise ChunkError(index, described(failure), UnreadableChunkError) from error

        # It is not there, or cannot be decoded. A second reading decides, since a writer may have been at work.
        answer = self._ask(index)
        if answer is Key.ABSENT:
            raise ChunkError(index, "it is not in the store", MissingChunkError) from error
        if answer is Key.EMPTY:
            raise ChunkError(index, "it has no bytes", CorruptChunkError) from error
        if answer is Key.WHOLE and self.sharded:
            reason = "its store does not give parts of a shard, which are needed, but the whole"
            raise ChunkError(index, reason, UnreadableChunkError) from error
        if again:
            raise ChunkError(index, described(error), CorruptChunkError) from error

    def _settle_marks(self, origin: Cells, out: np.ndarray, fill: Any) -> None:
        """Refuse absent chunks, or fill them, where ``out`` holds the mark."""
        marked = self._is_mark(out)
        array_is_seen = False
        for _, box in self._boxes(self.keys, origin, out.shape):
            part = marked[box]
            if not part.any():
                continue

            # Whether the chunk, or the shard around it, is there.
            chunk = self._chunk(origin, box, part)
            answer = self._ask(chunk)
            if answer is Key.EMPTY:
                raise ChunkError(chunk, "it has no bytes", CorruptChunkError)
            if answer is Key.ABSENT:
                # Where the array's metadata are gone too, the store is, and not the chunk.
                if fill is not None and not array_is_seen:
                    array_is_seen = self._sees_array(chunk)
                if not array_is_seen:
                    raise ChunkError(chunk, "it is not in the store", MissingChunkError)
                out[box][part] = fill
            elif self.markable:
                self._settle_box(chunk, origin, out, box, part, fill=fill)
            elif self.sharded:
                self._note_unmarkable()

    def _settle_box(
        self,
        chunk: tuple[int, ...],
        origin: Cells,
        out: np.ndarray,
        box: tuple[slice, ...],
        part: np.ndarray,
        fill: Any,
    ) -> None:
        """Read a box that is in the store with the other mark: data that happens to be the first mark stays."""
        again = self._read_again(chunk, origin, box, mark=1)
        absent = part & ~self._is_mark(again)
        if not absent.any():
            return
        if fill is None:
            reason = "it was not in the store"
            if self.sharded:
                reason = "its shard leaves it out"
            raise ChunkError(self._chunk(origin, box, absent), reason, MissingChunkError)
        values = np.where(again == self.mark(1), fill, again)
        out[box][absent] = values[absent]

    def _is_mark(self, values: np.ndarray) -> np.ndarray:
        """Return where values are the first mark, also if that is NaN, as a fill value in its place may be."""
        mark = self.mark(0)
        if mark == mark:
            return values == mark
        return values != values

    def _ask(self, chunk: tuple[int, ...]) -> Key:
        """Return the store's answer about a chunk, or about the shard that holds it."""
        for last in attempts():
            try:
                return ask(self.array.store, self._key(chunk))
            except Exception as refusal:
                if last or not may_pass(refusal):
                    raise ChunkError(chunk, described(refusal), UnreadableChunkError) from refusal
        raise AssertionError

    def _sees_array(self, chunk: tuple[int, ...]) -> bool:
        """Return whether this process can see the array; ``chunk`` is named if the store does not answer."""
        try:
            return sees_array(self.array)
        except Exception as refusal:
            raise ChunkError(chunk, described(refusal), UnreadableChunkError) from refusal

    def _is_empty(self, chunk: tuple[int, ...]) -> bool:
        """Return whether the store says that a chunk, or the shard that holds it, has no bytes."""
        try:
            return ask(self.array.store, self._key(chunk)) is Key.EMPTY
        except Exception:
            return False

    def _key(self, chunk: tuple[int, ...]) -> str:
        """Return the key in the store of a chunk, or of the shard that holds it."""
        corner = [along[i] for i, along in zip(chunk, self.chunks, strict=True)]
        index = map(find, self.keys, corner)
        return chunk_key(self.array, tuple(index))

    def _chunk(self, origin: Cells, box: tuple[slice, ...], part: np.ndarray) -> tuple[int, ...]:
        """Return the index of the chunk with the first cell of a part of a box."""
        # The first cell as it is numbered in the array.
        first = np.argwhere(part)[0].tolist()
        cells = (i + s.start + low for i, s, low in zip(first, box, origin, strict=True))
        return tuple(map(find, self.chunks, cells))

    def _boxes(
        self, edges: tuple[Edges, ...], origin: Cells, shape: Cells
    ) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
        """Yield the chunks between these edges with cells from ``origin`` on, and their boxes among these cells."""
        spans = zip(edges, origin, shape, strict=True)
        ranges = [overlapping(along, low, low + size) for along, low, size in spans]
        for index in product(*ranges):
            box = []
            # Cells are counted from the first that is read, and the first chunk may begin before it.
            for i, along, low, size in zip(index, edges, origin, shape, strict=True):
                box.append(slice(max(along[i] - low, 0), min(along[i + 1] - low, size)))
            yield index, tuple(box)

    def _note_unmarkable(self) -> None:
        """Log, once for each array, that absent chunks cannot be told from others."""
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


def attempts() -> Iterator[bool]:
    """Yield for each attempt whether it is the last, and wait before the next."""
    began = time.monotonic()
    for wait in WAITS:
        # A store that took long to refuse is not asked again.
        last = time.monotonic() - began > PATIENCE
        yield last
        time.sleep(wait)
    yield True


async def _settle() -> None:
    """Wait for the reads that zarr left running when a read failed: they write to memory that is used again."""
    this_task = asyncio.current_task()
    assert this_task is not None
    # Two tasks that wait here would wait for each other.
    _settling.add(this_task)
    try:
        others = asyncio.all_tasks() - _settling
        if others:
            await asyncio.wait(others, timeout=60)
    finally:
        _settling.discard(this_task)
