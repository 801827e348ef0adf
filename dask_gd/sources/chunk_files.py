"""Chunks read straight from this machine's files, into memory that the thread keeps.

Zarr's own way to a chunk makes fresh memory at every step, which costs several times what the disk does. Where an array
lies in plain files, with the usual codecs and in the machine's byte order, a task opens the files itself; everything
else is read through zarr, with the same result (`ZarrColumn.read` chooses).
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
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
    """An uninitialised C-contiguous array on memory this thread keeps for ``role``; it grows and never shrinks."""
    buffers = _thread.__dict__.setdefault("buffers", {})
    nbytes = int(np.prod(shape)) * dtype.itemsize
    memory = buffers.get(role)
    if memory is None or memory.nbytes < nbytes:
        memory = buffers[role] = np.empty(nbytes, np.uint8)
    return memory[:nbytes].view(dtype).reshape(shape)


class ChunkError(Exception):
    """A chunk, by its grid index, that is absent, damaged, or that the store does not give; ``kind`` says which."""

    def __init__(self, index: tuple[int, ...], reason: str, kind: type[DataError]):
        super().__init__(reason)
        self.index = index
        self.kind = kind

    @property
    def absent(self) -> bool:
        return issubclass(self.kind, MissingChunkError)


class _LeftOut(FileNotFoundError):
    """A shard is there, but not the chunk in it."""


def from_blosc(stored: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Blosc's header has the sizes before and after. Blosc itself reads a file cut short as if it were whole."""
    size, length = (int.from_bytes(stored[i : i + 4].tobytes(), "little") for i in (4, 12))
    return _decompress(blosc.decompress, stored, size, out, complete=length == len(stored) > 16)


def from_zstd(stored: np.ndarray, out: np.ndarray) -> np.ndarray:
    """A frame's header may have the size of its content (RFC 8878, 3.1.1.1); zarr writes frames that do."""
    flags = 0
    if len(stored) > 5:
        flags = int(stored[4])
    single = int(len(stored) > 5 and stored[4] >> 5 & 1)
    at = 6 - single + (0, 1, 2, 4)[flags & 3]
    width = (single, 2, 4, 8)[flags >> 6]
    if width:
        size = int.from_bytes(stored[at : at + width].tobytes(), "little") + 256 * (width == 2)
    else:
        size = out.nbytes
    return _decompress(zstd.decompress, stored, size, out)


def _decompress(
    function: Callable, stored: np.ndarray, size: int, out: np.ndarray, complete: bool = True
) -> np.ndarray:
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
    """The files of an array, or None if it has to be read through zarr."""
    metadata: Any = array.metadata
    if type(array.store) is not LocalStore or array.dtype.hasobject or sys.byteorder != "little":
        return None
    if not is_regular(array):
        return None
    index = shard_index(array)
    if metadata.zarr_format == 3:
        if index is None:
            codecs = metadata.codecs
        else:
            codecs = metadata.codecs[0].codecs
        first, *rest = codecs
        # As it is written in the metadata: versions of zarr differ in how they hold it.
        endian = first.to_dict().get("configuration", {}).get("endian", "little")
        plain = isinstance(first, BytesCodec) and endian == "little"
    else:
        plain = metadata.order == "C" and not metadata.filters and array.dtype.isnative
        rest = []
        if metadata.compressor is not None:
            rest = [metadata.compressor]
    if not plain or any(type(codec) not in DECODERS for codec in rest):
        return None
    if any(type(codec) is not Crc32cCodec for codec in rest[1:]):
        return None  # What a compressor takes is a chunk, as far as its decoder here knows.
    return ChunkFiles(
        directory=os.path.join(array.store.root, array.path),
        metadata=METADATA[metadata.zarr_format],
        shape=array.shape,
        chunks=array.chunks,
        index=index,
        dtype=array.dtype,
        decoders=tuple(DECODERS[type(codec)] for codec in reversed(rest)),
        key=metadata.encode_chunk_key,
    )


@dataclass(frozen=True)
class ChunkFiles:
    """The chunks of a local Zarr array."""

    directory: str
    #: The name of the file with the array's metadata.
    metadata: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    #: Of a shard, or None where each chunk is a file.
    index: ShardIndex | None
    dtype: np.dtype
    #: In the order in which they undo what the writer did.
    decoders: tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], ...]
    key: Callable[[tuple[int, ...]], str]

    @property
    def plain(self) -> bool:
        """Rows are stored as they are, one after the other: any of them can be read without the rest of their chunk."""
        return not self.decoders and self.chunks[1:] == self.shape[1:]

    def read(self, start: int, out: np.ndarray, fill: Any = None) -> None:
        """Fill ``out`` with the rows from ``start`` on; absent chunks with ``fill``, if that is not None.

        Raises
        ------
        ChunkError
        """
        stop = start + len(out)
        ranges = [range(start // self.chunks[0], -(-stop // self.chunks[0]))]
        ranges += [range(-(-n // c)) for n, c in zip(self.shape[1:], self.chunks[1:], strict=True)]
        decoding = 0.0
        with _Files(self) as files:
            for index in product(*ranges):
                # The rows and columns that are wanted of this chunk, as they are numbered in the array.
                lows = [i * c for i, c in zip(index, self.chunks, strict=True)]
                first = (max(lows[0], start), *lows[1:])
                last = [min(a + c, n) for a, c, n in zip(lows, self.chunks, (stop, *self.shape[1:]), strict=True)]
                target = out[(slice(first[0] - start, last[0] - start), *map(slice, first[1:], last[1:]))]
                try:
                    file, offset, nbytes = files.find(index)
                    if self.plain:
                        self.check_size(nbytes)
                        skipped = (first[0] - lows[0]) * (target.nbytes // len(target))
                        _fill(target.reshape(-1).view(np.uint8), file, offset + skipped)
                    else:
                        skip = [f - low for f, low in zip(first, lows, strict=True)]
                        decoding += self.decode(file, offset, nbytes, target, skip)
                except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
                    if fill is None or not os.path.exists(os.path.join(self.directory, self.metadata)):
                        inside = isinstance(error, _LeftOut)
                        reason = "its shard leaves it out" if inside else "it is not in the store"
                        raise ChunkError(index, reason, MissingChunkError) from None
                    target[...] = fill
                except (ValueError, RuntimeError) as error:
                    raise ChunkError(index, f"{error}", CorruptChunkError) from error
                except OSError as error:
                    raise ChunkError(index, f"{type(error).__name__}: {error}", UnreadableChunkError) from error
        context_meter.digest_metric("decode", decoding, "seconds")

    def check_size(self, nbytes: int) -> None:
        expected = int(np.prod(self.chunks)) * self.dtype.itemsize
        if nbytes != expected:
            raise ValueError(f"it has {nbytes} bytes in place of {expected}")

    def decode(self, file: int, offset: int, nbytes: int, target: np.ndarray, skipped: list[int]) -> float:
        """Read a whole chunk and put the part of it from ``skipped`` on into ``target``; the seconds after reading."""
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
        if data.ctypes.data != memory.ctypes.data:
            memory[...] = data
        if not whole:
            target[...] = chunk[tuple(slice(s, s + n) for s, n in zip(skipped, target.shape, strict=True))]
        return time.perf_counter() - read


class _Files:
    """The file opened last, and its index if it is a shard, for the chunks of one reading that lie in it."""

    def __init__(self, chunks: ChunkFiles):
        self.chunks = chunks
        self.file = -1
        self.shard: tuple[int, ...] | None = None

    def find(self, index: tuple[int, ...]) -> tuple[int, int, int]:
        """The file that holds a chunk, and where in it the chunk lies: offset and length in bytes."""
        table = self.chunks.index
        shard = index
        if table is not None:
            shard = tuple(i // n for i, n in zip(index, table.per_shard, strict=True))
        if shard != self.shard:
            self.close()
            self.file = os.open(os.path.join(self.chunks.directory, self.chunks.key(shard)), os.O_RDONLY)
            self.size = os.fstat(self.file).st_size
            if table is not None:
                stored = np.empty(table.nbytes, np.uint8)
                _fill(stored, self.file, 0 if table.at_start else self.size - table.nbytes)
                self.entries = table.entries(stored)
            self.shard = shard
        if table is None:
            return self.file, 0, self.size
        offset, nbytes = self.entries[tuple(i % n for i, n in zip(index, table.per_shard, strict=True))].tolist()
        if offset == ABSENT:
            raise _LeftOut
        if offset + nbytes > self.size:
            raise ValueError(f"its shard ends after {self.size} bytes")
        return self.file, offset, nbytes

    def close(self) -> None:
        if self.file >= 0:
            os.close(self.file)
        self.file = -1
        self.shard = None

    def __enter__(self) -> _Files:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _fill(memory: np.ndarray, file: int, offset: int) -> None:
    """Read until the memory is full."""
    done = 0
    while done < len(memory):
        if offset < 0 or not (got := os.preadv(file, [memory[done:].data], offset + done)):
            raise ValueError(f"its file ends {len(memory) - done} bytes early")
        done += got
