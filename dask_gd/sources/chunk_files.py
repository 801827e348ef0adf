"""Chunks read straight from this machine's files, into memory that the thread keeps.

Zarr's own way to a chunk makes fresh memory at every step, which costs several times as much as the disk does. Where an
array lies in plain files, with the usual codecs and in the machine's byte order, a task opens the files itself;
everything else is read through zarr, with the same result (`ZarrColumn.read` chooses).
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numcodecs
import numpy as np
import zarr
from distributed.metrics import context_meter
from numcodecs import blosc, zstd
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, ZstdCodec
from zarr.storage import LocalStore

from ..errors import CorruptChunkError, DataError, MissingChunkError, UnreadableChunkError
from .grid import is_regular
from .shard_index import ABSENT, ShardIndex, shard_index, without_crc32c
from .stores import METADATA

_thread = threading.local()


def thread_buffer(role: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return an uninitialised C-contiguous array on memory that this thread keeps for ``role``.

    The memory grows and never shrinks.
    """
    # Fresh memory for every chunk would cost more than reading it.
    buffers = _thread.__dict__.setdefault("buffers", {})
    nbytes = math.prod(shape) * dtype.itemsize
    memory = buffers.get(role)
    if memory is None or memory.nbytes < nbytes:
        memory = np.empty(nbytes, np.uint8)
        buffers[role] = memory
    return memory[:nbytes].view(dtype).reshape(shape)


def drop_thread_buffers() -> bool:
    """Let go of the memory that `thread_buffer` keeps for this thread; return whether there was any."""
    return bool(_thread.__dict__.pop("buffers", None))


class ChunkError(Exception):
    """A chunk, by its grid index, that is absent, damaged, or that the store does not give; ``kind`` says which."""

    def __init__(self, index: tuple[int, ...], reason: str, kind: type[DataError]):
        super().__init__(reason)
        self.index = index
        self.kind = kind

    @property
    def absent(self) -> bool:
        """Return whether the chunk is not in the store."""
        return issubclass(self.kind, MissingChunkError)


class _LeftOut(FileNotFoundError):
    """A shard is there, but not the chunk in it."""


def from_blosc(stored: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Decompress a chunk of Blosc's, whose header has the sizes before and after.

    Blosc itself reads a file cut short as if it were whole.
    """
    size = _uint32(stored, 4)
    length = _uint32(stored, 12)
    complete = len(stored) > 16 and length == len(stored)
    return _decompress(blosc.decompress, stored, size, out, complete=complete)


def _uint32(stored: np.ndarray, at: int) -> int:
    return int.from_bytes(stored[at : at + 4].tobytes(), "little")


def from_zstd(stored: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Decompress a frame of zstd's, of the size that its header has (RFC 8878, 3.1.1.1).

    A header may be without the size of the content; zarr writes frames that have it.
    """
    flags = 0
    if len(stored) > 5:
        flags = int(stored[4])

    # After the flags: a window byte unless the frame is a single segment, a dictionary's number, the size.
    single = flags >> 5 & 1
    dictionary = (0, 1, 2, 4)[flags & 3]
    at = 6 - single + dictionary
    width = (single, 2, 4, 8)[flags >> 6]
    if width == 0:
        size = out.nbytes
    else:
        size = int.from_bytes(stored[at : at + width].tobytes(), "little")
        if width == 2:
            size += 256
    return _decompress(zstd.decompress, stored, size, out)


def _decompress(
    function: Callable,
    stored: np.ndarray,
    size: int,
    out: np.ndarray,
    complete: bool = True,
) -> np.ndarray:
    """Decompress a chunk if its header promises as many bytes as a chunk has: ``function`` may write beyond them."""
    if not complete or size != out.nbytes:
        raise ValueError(f"its {len(stored)} bytes are not a whole chunk of {out.nbytes}")
    function(stored, out)
    return out


#: Codecs read here, by the class that zarr (format 3) or numcodecs (format 2) has for them. A decoder takes the stored
#: bytes and, should it have to copy, the memory to decode into.
DECODERS: dict[type, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    Crc32cCodec: without_crc32c,
    BloscCodec: from_blosc,
    numcodecs.Blosc: from_blosc,
    ZstdCodec: from_zstd,
    numcodecs.Zstd: from_zstd,
}


def chunk_files(array: zarr.Array) -> ChunkFiles | None:
    """Return the files of an array, or None if it has to be read through zarr."""
    # Objects, and numbers in another machine's order, are zarr's to read.
    if type(array.store) is not LocalStore or array.dtype.hasobject or sys.byteorder != "little":
        return None
    if not is_regular(array):
        return None
    index = shard_index(array)
    # So are codecs that have no decoder here.
    codecs = _compressors(array, index)
    if codecs is None or any(type(codec) not in DECODERS for codec in codecs):
        return None
    if any(type(codec) is not Crc32cCodec for codec in codecs[1:]):
        return None  # A compressor takes a chunk, as far as its decoder here knows.
    metadata: Any = array.metadata
    return ChunkFiles(
        directory=os.path.join(array.store.root, array.path),
        metadata=METADATA[metadata.zarr_format],
        shape=array.shape,
        chunks=array.chunks,
        index=index,
        dtype=array.dtype,
        decoders=tuple(DECODERS[type(codec)] for codec in reversed(codecs)),
        key=metadata.encode_chunk_key,
    )


def _compressors(array: zarr.Array, index: ShardIndex | None) -> list[Any] | None:
    """Return the codecs that come after plain numbers in C order; None if the numbers are not plain."""
    metadata: Any = array.metadata
    if metadata.zarr_format == 3:
        # The codec that makes bytes of numbers comes first; a shard's chunks have codecs of their own.
        codecs = metadata.codecs
        if index is not None:
            codecs = codecs[0].codecs
        first, *rest = codecs
        # As it is written in the metadata: versions of zarr differ in how they keep it.
        endian = first.to_dict().get("configuration", {}).get("endian", "little")
        plain = isinstance(first, BytesCodec) and endian == "little"
    else:
        plain = metadata.order == "C" and not metadata.filters and array.dtype.isnative
        rest = []
        if metadata.compressor is not None:
            rest = [metadata.compressor]
    if not plain:
        return None
    return rest


@dataclass(frozen=True)
class ChunkFiles:
    """The chunks of a local Zarr array."""

    directory: str
    #: The name of the file with the array's metadata.
    metadata: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    #: The index of a shard, or None where each chunk is a file.
    index: ShardIndex | None
    dtype: np.dtype
    #: They undo the writer's codecs, in this order.
    decoders: tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], ...]
    key: Callable[[tuple[int, ...]], str]

    @property
    def plain(self) -> bool:
        """Return whether numbers are stored as they are, so that rows can be read without the rest of their chunk."""
        return not self.decoders

    def read(self, start: int, out: np.ndarray, fill: Any = None, column: int = 0) -> None:
        """Fill ``out`` with rows and columns from ``start`` and ``column`` on, see `read_box`."""
        self.read_box((start, column, *[0] * out.ndim)[: out.ndim], out, fill)

    def read_box(self, origin: tuple[int, ...], out: np.ndarray, fill: Any = None) -> None:
        """Fill ``out`` with cells from ``origin`` on; absent chunks with ``fill``, if any, else raise `ChunkError`."""
        decoding = 0.0
        # The file stays open for the next chunks of the same shard.
        with _Files(self) as files:
            for index in self._indices(origin, out.shape):
                target, skipped = self._part(index, origin, out)
                try:
                    decoding += self._read_chunk(files, index, target, skipped)
                except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
                    # Where the array's metadata are gone too, the store is, and not the chunk.
                    if fill is None or not os.path.exists(os.path.join(self.directory, self.metadata)):
                        reason = "it is not in the store"
                        if isinstance(error, _LeftOut):
                            reason = "its shard leaves it out"
                        raise ChunkError(index, reason, MissingChunkError) from None
                    target[...] = fill
                except (ValueError, RuntimeError) as error:
                    raise ChunkError(index, f"{error}", CorruptChunkError) from error
                except OSError as error:
                    raise ChunkError(index, f"{type(error).__name__}: {error}", UnreadableChunkError) from error
        context_meter.digest_metric("decode", decoding, "seconds")

    def _indices(self, origin: tuple[int, ...], shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        """Yield the indices of the chunks with the cells from ``origin`` on."""
        ranges = []
        for low, size, side in zip(origin, shape, self.chunks, strict=True):
            ranges.append(range(low // side, -(-(low + size) // side)))
        return product(*ranges)

    def _part(self, index: tuple[int, ...], origin: tuple[int, ...], out: np.ndarray) -> tuple[np.ndarray, list[int]]:
        """Return the part of ``out``, cells from ``origin`` on, that a chunk fills; and where in it that begins."""
        part = []
        skipped = []
        for i, side, low, size in zip(index, self.chunks, origin, out.shape, strict=True):
            # Positions as they are numbered in the array, then in the memory and in the chunk.
            first = max(i * side, low)
            last = min((i + 1) * side, low + size)
            part.append(slice(first - low, last - low))
            skipped.append(first - i * side)
        return out[tuple(part)], skipped

    def _read_chunk(
        self,
        files: _Files,
        index: tuple[int, ...],
        target: np.ndarray,
        skipped: list[int],
    ) -> float:
        """Read the part of a chunk from ``skipped`` on into ``target``, and return the seconds that decoding took."""
        file, offset, nbytes = files.find(index)
        if not self.plain:
            return self.decode(file, offset, nbytes, target, skipped)
        self.check_size(nbytes)
        # Rows that are stored as they are go straight to their place, if they have it to themselves.
        own = target.flags.c_contiguous and target.shape[1:] == self.chunks[1:]
        rows = target
        if not own:
            rows = thread_buffer("chunk", (len(target), *self.chunks[1:]), self.dtype)
        row_bytes = rows.nbytes // len(rows)
        _fill(rows.reshape(-1).view(np.uint8), file, offset + skipped[0] * row_bytes)
        if not own:
            columns = [slice(begin, begin + size) for begin, size in zip(skipped[1:], target.shape[1:], strict=True)]
            target[...] = rows[(slice(None), *columns)]
        return 0.0

    def check_size(self, nbytes: int) -> None:
        """Refuse a decoded chunk of another size than the array's chunks.

        Raises
        ------
        ValueError
        """
        expected = math.prod(self.chunks) * self.dtype.itemsize
        if nbytes != expected:
            raise ValueError(f"it has {nbytes} bytes in place of {expected}")

    def decode(
        self,
        file: int,
        offset: int,
        nbytes: int,
        target: np.ndarray,
        skipped: list[int],
    ) -> float:
        """Read a whole chunk, put its part from ``skipped`` on into ``target``; return the seconds after reading."""
        # Where the chunk is wanted as a whole it is decoded in its place.
        whole = target.shape == self.chunks and target.flags.c_contiguous
        chunk = target
        if not whole:
            chunk = thread_buffer("chunk", self.chunks, self.dtype)
        memory = chunk.reshape(-1).view(np.uint8)
        if self.decoders:
            data = thread_buffer("stored", (nbytes,), np.dtype(np.uint8))
        else:
            data = memory[:nbytes]
        _fill(data, file, offset)
        read = time.perf_counter()

        for decoder in self.decoders:
            data = decoder(data, memory)
        self.check_size(data.nbytes)

        # A decoder that needs no copy returns a part of its input.
        if data.ctypes.data != memory.ctypes.data:
            memory[...] = data
        if not whole:
            part = [slice(begin, begin + size) for begin, size in zip(skipped, target.shape, strict=True)]
            target[...] = chunk[tuple(part)]
        return time.perf_counter() - read


class _Files:
    """The file opened last, and its index if it is a shard, for further chunks in the same file."""

    def __init__(self, chunks: ChunkFiles):
        self.chunks = chunks
        self.file = -1
        self.shard: tuple[int, ...] | None = None

    def find(self, index: tuple[int, ...]) -> tuple[int, int, int]:
        """Return the file that holds a chunk, and where in it the chunk lies: offset and length in bytes."""
        table = self.chunks.index
        if table is None:
            if index != self.shard:
                self._open(index, table)
            return self.file, 0, self.size

        # Chunks of a shard mostly come one after the other: its index is read once.
        shard = tuple(i // count for i, count in zip(index, table.per_shard, strict=True))
        if shard != self.shard:
            self._open(shard, table)
        # The index has a chunk's place in the shard, if the shard holds it.
        inside = tuple(i % count for i, count in zip(index, table.per_shard, strict=True))
        offset, nbytes = self.entries[inside].tolist()
        if offset == ABSENT:
            raise _LeftOut
        if offset + nbytes > self.size:
            raise ValueError(f"its shard ends after {self.size} bytes")
        return self.file, offset, nbytes

    def _open(self, shard: tuple[int, ...], table: ShardIndex | None) -> None:
        """Open a shard and read its index, or the file of a chunk that is in no shard."""
        self.close()
        path = os.path.join(self.chunks.directory, self.chunks.key(shard))
        self.file = os.open(path, os.O_RDONLY)
        self.size = os.fstat(self.file).st_size
        if table is not None:
            stored = np.empty(table.nbytes, np.uint8)
            # The index is at the start of the shard or at its end.
            offset = 0
            if not table.at_start:
                offset = self.size - table.nbytes
            _fill(stored, self.file, offset)
            self.entries = table.entries(stored)
        self.shard = shard

    def close(self) -> None:
        """Close the file, if one is open."""
        if self.file >= 0:
            os.close(self.file)
        self.file = -1
        self.shard = None

    def __enter__(self) -> _Files:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _fill(memory: np.ndarray, file: int, offset: int) -> None:
    """Read until the memory is full: a single call may give less.

    Raises
    ------
    ValueError
        If the file ends before.
    """
    done = 0
    while done < len(memory):
        count = 0
        if offset >= 0:
            count = os.preadv(file, [memory[done:].data], offset + done)
        if not count:
            raise ValueError(f"its file ends {len(memory) - done} bytes early")
        done += count
