"""Rows of a Zarr array, decoded inside the task into a buffer that the thread keeps.

Reading is the cost of out-of-core work, and most of that cost is memory: a fresh array for every chunk is mapped,
faulted in and unmapped again. So one buffer for each thread and role is reused for every chunk it decodes; files of
this machine are read without zarr, see `files`.
Zarr itself reads an absent chunk as its fill value, so presence is checked here, against the store's own keys.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import dask.array as da
import numpy as np
import zarr
from distributed.metrics import context_meter
from zarr.abc.store import SuffixByteRequest
from zarr.buffer.cpu import NDBuffer
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import LocalStore, MemoryStore, ZipStore

from ..errors import CorruptChunkError, DataError, MissingChunkError
from .files import ABSENT, ChunkError, ChunkFiles, chunk_files, thread_buffer, usual_index

logger = logging.getLogger("dask_gd")

#: Decoded bytes read in one call where chunks are smaller: enough that the call's own cost disappears. And rows, where
#: these are wide: enough that the cost of adding up gradients, which are as wide, does.
READ_BYTES, READ_ROWS = 4 << 20, 64
#: Windows, and decoded bytes of them, asked of a store at the other end of a network before they are needed.
AHEAD, AHEAD_BYTES = 8, 32 << 20
#: A fingerprint reads an array's stored bytes whole up to this size, beyond it the ends of at most this many chunks.
WHOLE_BYTES, SAMPLED_CHUNKS, TAIL_BYTES = 64 << 20, 1024, 4096

#: zarr's settings that make it leave the decoding to zarrs: in one thread, since Dask has a task on every core, and
#: with an error, not a warning at every read, about what zarrs cannot decode.
ZARRS = {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline", "codec_pipeline.strict": True, "threading.max_workers": 1}

#: What codecs and stores raise about bytes that they cannot make sense of.
UNREADABLE = (ValueError, RuntimeError, TypeError, OSError, EOFError, zlib.error)

_noted: set[str] = set()
_setting = threading.Lock()


@dataclass(frozen=True)
class ZarrRows:
    """A Zarr array of rows, one of the roles of a source: features, targets or weights."""

    array: zarr.Array
    role: str
    #: What an absent chunk is: an "error", or the "fill" value.
    missing: str = "error"

    @property
    def name(self) -> str:
        return self.array.path or self.role

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype

    @property
    def unit(self) -> int:
        """Rows that must be read together: a shard's, or a chunk's where there are no shards."""
        return (self.array.shards or self.array.chunks)[0]

    @cached_property
    def files(self) -> ChunkFiles | None:
        """The array's files, where it has some that can be read without zarr."""
        return chunk_files(self.array)

    @cached_property
    def through_zarr(self) -> zarr.Array:
        """The array for zarr to read: of this machine, by the package zarrs where that is installed and can do it."""
        try:
            from zarrs.pipeline import UnsupportedMetadataError
        except ImportError:
            return self.array
        if not isinstance(self.array.store, LocalStore) or not self.array.dtype.isnative:
            return self.array
        # zarr's settings are the process's: threads that set them at once would leave them set.
        with _setting, zarr.config.set(ZARRS):
            try:
                return zarr.open_array(self.array.store_path, mode="r")
            except UnsupportedMetadataError:  # a codec that it lacks
                return self.array

    @property
    def read_rows(self) -> int:
        """Rows decoded at a time: as many whole chunks as make up READ_BYTES, at least one.

        Of chunks that are stored as they are, no more than that.
        """
        chunk = self.array.chunks[0]
        row_bytes = int(np.prod(self.array.shape[1:])) * self.array.dtype.itemsize
        if self.files is not None and self.files.plain and chunk * row_bytes > READ_BYTES:
            return min(chunk, max(READ_ROWS, READ_BYTES // row_bytes))
        return max(1, READ_BYTES // max(1, chunk * row_bytes), -(-min(READ_ROWS, self.shape[0]) // chunk)) * chunk

    @property
    def lazy(self) -> da.Array:
        """The array as Dask's, in blocks of `read_rows`."""
        return da.from_array(self.array, chunks=(self.read_rows, *(-1,) * (len(self.shape) - 1)))

    @property
    def window_bytes(self) -> int:
        return self.read_rows * int(np.prod(self.array.shape[1:])) * self.array.dtype.itemsize

    def nbytes(self, rows: int) -> int:
        """Decoded bytes of so many rows."""
        return rows * int(np.prod(self.shape[1:])) * self.dtype.itemsize

    @property
    def chunk_bytes(self) -> int:
        """Of a chunk, decoded."""
        return int(np.prod(self.array.chunks)) * self.dtype.itemsize

    @property
    def ahead(self) -> int:
        """Windows to read before they are needed, see `Ahead`; 0 where they are at hand."""
        if isinstance(self.array.store, LocalStore | MemoryStore | ZipStore):
            return 0
        return min(AHEAD, max(1, AHEAD_BYTES // self.window_bytes))

    @property
    def buffer_bytes(self) -> int:
        """Memory that a thread needs at most to read: the window, and where chunks have to be decoded, those."""
        array = self.array
        chunk = int(np.prod(array.chunks)) * array.dtype.itemsize
        window = self.window_bytes
        if self.files is None:
            # Zarr decodes all chunks of a window at once, each in fresh memory beside its stored bytes.
            return (1 + self.ahead) * window + max(1, self.ahead) * 2 * max(window, chunk)
        return window if self.files.plain else window + 2 * chunk + (chunk >> 8)

    def where(self, row: int, column: int = 0) -> str:
        """The chunk that holds ``row`` and ``column``, for messages."""
        chunk, *columns = self.array.chunks
        first = row // chunk * chunk
        index = (row // chunk, *(column // c for c in columns))
        return f"{self.name!r}, chunk {index}, rows {first}-{min(first + chunk, self.shape[0]) - 1}"

    @property
    def worth_keeping(self) -> bool:
        """Reading costs more than a copy of what the system keeps of its files anyway."""
        return self.files is None or not self.files.plain

    @context_meter.meter("read")
    def read(self, start: int, stop: int, out: np.ndarray | None = None) -> np.ndarray:
        """Rows ``start`` to ``stop``, in ``out`` or valid until this thread next reads the same role."""
        if out is None:
            out = thread_buffer(self.role, (stop - start, *self.shape[1:]), self.dtype)
        context_meter.digest_metric("read", out.nbytes, "bytes")
        if self.files is not None:
            try:
                self.files.read(start, out, (self.array.fill_value or 0) if self.missing == "fill" else None)
            except ChunkError as error:
                corner = [i * c for i, c in zip(error.index, self.array.chunks, strict=True)]
                raise self._unreadable(
                    corner, error, MissingChunkError if error.absent else CorruptChunkError
                ) from error
            return out
        rows, buffer = (slice(start, stop), ...), NDBuffer.from_numpy_array(out)
        try:
            self.through_zarr.get_basic_selection(rows, out=buffer)
        except UNREADABLE as error:
            try:
                # Where zarr's own way is another, it has the last word on whether the data is damaged.
                self.array.get_basic_selection(rows, out=buffer)
            except UNREADABLE:
                raise self._corrupt(start, stop, error) from error
        return out

    def windows(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """``start`` to ``stop`` cut at multiples of `read_rows`, so that no chunk is decoded twice."""
        while start < stop:
            end = min((start // self.read_rows + 1) * self.read_rows, stop)
            yield start, end
            start = end

    def _corrupt(self, start: int, stop: int, error: Exception) -> DataError:
        """Find the chunk in the window that cannot be read."""
        chunks, (_, *columns) = self.array.chunks, self.shape
        corners = product(
            range(start // chunks[0] * chunks[0], stop, chunks[0]),
            *(range(0, n, c) for n, c in zip(columns, chunks[1:], strict=True)),
        )
        for corner in corners:
            try:
                self.array.get_basic_selection(tuple(slice(a, a + c) for a, c in zip(corner, chunks, strict=True)))
            except UNREADABLE as exact:
                return self._unreadable(corner, exact, CorruptChunkError)
        return CorruptChunkError(f"Array {self.name!r}, rows {start}-{stop - 1} could not be read once: {error}.")

    def _unreadable(self, corner, reason: Exception, kind: type) -> DataError:
        return kind(
            f"Cannot decode array {self.where(*corner)}: {reason}. The chunk is damaged; write it again. "
            "Iterations already stored are intact."
        )

    def check_chunks(self, start: int, stop: int) -> None:
        """Raise `MissingChunkError` where rows need a chunk (or shard) that the store does not hold."""
        present = set(sync(_list(self.array.store, self.array.path)))
        prefix = f"{self.array.path}/" if self.array.path else ""
        side = self.array.shards or self.array.chunks
        grid = [range(-(-n // c)) for n, c in zip(self.shape, side, strict=True)]
        grid[0] = range(start // side[0], -(-stop // side[0]))
        missing: Iterator = (
            i for i in product(*grid) if prefix + self.array.metadata.encode_chunk_key(i) not in present
        )
        first = next(missing, None)
        if first is None and self.array.shards is not None:
            side, missing = self.array.chunks, iter(sync(self._absent_in_shards(sorted(product(*grid)), start, stop)))
            first = next(missing, None)
        if first is None:
            return
        rows = first[0] * side[0], min((first[0] + 1) * side[0], self.shape[0]) - 1
        raise MissingChunkError(
            f"Array {self.name!r} lacks chunk {first} (rows {rows[0]}-{rows[1]}) and {sum(1 for _ in missing)} more; "
            f"Zarr would read them as {self.array.fill_value!r}. Write the chunks again, or, if the writer dropped "
            "chunks that hold nothing but the fill value, accept them with dask_gd.open(..., missing='fill')."
        )

    async def _absent_in_shards(self, shards: list[tuple[int, ...]], start: int, stop: int) -> list[tuple[int, ...]]:
        """Chunks that present shards leave out: the shard's index, at its end, gives them the offset `ABSENT`.

        Only the usual index is read, see `usual_index`.
        """
        usual = usual_index(self.array.metadata.codecs[0])  # type: ignore[union-attr,arg-type]
        chunk, shard_shape = np.array(self.array.chunks), np.array(self.array.shards)
        per_shard = shard_shape // chunk
        nbytes = 16 * int(per_shard.prod())
        # Chunks that hold no row in use, or lie beyond the array's edge, need not be there.
        first, last = start // chunk[0], -(-stop // chunk[0])
        grid = -(-np.array(self.shape) // chunk)
        absent = []
        for shard in shards if usual else []:
            key = f"{self.array.path}/{self.array.metadata.encode_chunk_key(shard)}".removeprefix("/")
            index: Any = await self.array.store.get(
                key, default_buffer_prototype(), byte_range=SuffixByteRequest(nbytes + 4)
            )
            if len(index) != nbytes + 4:
                continue  # Damaged: reading it will say so.
            offsets = np.frombuffer(index.to_bytes()[:nbytes], "<u8").reshape(*per_shard, 2)[..., 0]
            for inner in np.argwhere(offsets == ABSENT) + np.array(shard) * per_shard:
                if first <= inner[0] < last and (inner < grid).all():
                    absent.append(tuple(inner.tolist()))
        return absent

    def note_unchecked(self) -> None:
        """Say once for each array that its codecs cannot tell a flipped bit from data."""
        codecs = getattr(self.array.metadata, "codecs", ())
        if "crc32c" in repr(codecs).lower() or (key := f"{self.array.store_path}") in _noted:
            return
        _noted.add(key)
        logger.warning(
            "Array %r has no checksums: corruption of its chunks would be read as data. "
            "Add zarr.codecs.Crc32cCodec() to its compressors to detect it.",
            self.name,
        )

    def content(self) -> str:
        """A hash of the stored bytes: all of them where they are few, else the ends of evenly spaced chunks.

        A checksum codec puts its sum at a chunk's end, so that there the sample covers whole chunks.
        """
        return sync(self._content())

    async def _content(self) -> str:
        store, path = self.array.store, self.array.path
        keys = sorted(key for key in await _list(store, path) if not key.endswith(("zarr.json", ".zarray", ".zattrs")))
        digest = hashlib.blake2b("\n".join(key.removeprefix(path) for key in keys).encode(), digest_size=16)
        whole = self.array.nbytes <= WHOLE_BYTES
        sample = keys if whole else keys[:: max(1, -(-len(keys) // SAMPLED_CHUNKS))]
        for first in range(0, len(sample), 64):
            for data in await asyncio.gather(*(_tail(store, key, whole) for key in sample[first : first + 64])):
                digest.update(data)
        return digest.hexdigest()


async def _list(store: Any, path: str) -> list[str]:
    return [key async for key in store.list_prefix(f"{path}/" if path else "")]


async def _tail(store: Any, key: str, whole: bool) -> bytes:
    prototype = default_buffer_prototype()
    size = b"" if whole else str(await store.getsize(key)).encode()
    value = await store.get(key, prototype, byte_range=None if whole else SuffixByteRequest(TAIL_BYTES))
    return size + (value.to_bytes() if value is not None else b"")
