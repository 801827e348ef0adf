"""Rows of a Zarr array, decoded inside the task into a buffer that the thread keeps.

Reading is the cost of out-of-core work, and most of that cost is memory: a fresh array for every chunk is mapped,
faulted in and unmapped again. So one buffer for each thread and role is reused for every chunk it decodes; files of
this machine are read without zarr, see `chunk_files`, all else through zarr, see `marked`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from math import prod
from typing import Any

import dask.array as da
import numpy as np
import zarr
from distributed.metrics import context_meter
from zarr.storage import LocalStore, MemoryStore, ZipStore

from ..errors import CorruptChunkError, DataError, MissingChunkError, UnreachableStoreError, UnreadableChunkError
from . import fingerprint, presence, stores
from .chunk_files import ChunkError, ChunkFiles, chunk_files, thread_buffer
from .column import StreamedColumn
from .grid import Edges, chunk_edges, even_edges, find, grouped, key_edges, longest
from .marked import MarkedChunks
from .metadata import MANY_CHUNKS
from .packing import Packing, zarr_packing
from .partitions import bounds_of_units

#: Decoded bytes read in one call where chunks are smaller: enough that the call's own cost disappears.
READ_BYTES = 4 << 20
#: Rows read in one call where they are wide: enough that adding up gradients, which are as wide, costs little.
READ_ROWS = 64
#: Windows asked of a store at the other end of a network before they are needed, and their decoded bytes at most.
AHEAD = 8
AHEAD_BYTES = 32 << 20


@dataclass(frozen=True)
class ZarrColumn(StreamedColumn):
    """A Zarr array of rows, streamed: tasks read it chunk by chunk."""

    kind = "streamed from Zarr"

    array: zarr.Array
    role: str
    #: The treatment of an absent chunk: an "error", or the "fill" value in its place.
    missing: str = "error"

    def __post_init__(self) -> None:
        # Workers may run in another directory.
        object.__setattr__(self, "array", stores.absolute(self.array))
        # Attributes that make no sense are refused here, and not in a task.
        _ = self.packing

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the properties that are made of the array where it is read."""
        return {"array": self.array, "role": self.role, "missing": self.missing}

    @property
    def name(self) -> str:
        return self.array.path or self.role

    @property
    def stored(self) -> zarr.Array:
        return self.array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def first_column(self) -> int:
        """The number in the array of the first column that is read."""
        return 0

    @cached_property
    def packing(self) -> Packing | None:
        """The packing by which stored numbers become values; None where they are the values."""
        return zarr_packing(self.array, self.name)

    @cached_property
    def dtype(self) -> np.dtype:
        """The dtype of the values."""
        if self.packing is None:
            return self.array.dtype
        return self.packing.dtype(self.array.dtype)

    @cached_property
    def chunk_edges(self) -> tuple[Edges, ...]:
        """The positions where chunks begin, along each dimension."""
        return chunk_edges(self.array)

    @cached_property
    def units(self) -> Edges:
        """The rows where shards begin, or chunks where there are no shards: these are read together."""
        return key_edges(self.array)[0]

    @cached_property
    def files(self) -> ChunkFiles | None:
        """The array's files, if they can be read without zarr, else None."""
        return chunk_files(self.array)

    @cached_property
    def marked(self) -> MarkedChunks:
        """The array's chunks as zarr, or zarrs, reads them."""
        return MarkedChunks(self.array)

    @property
    def reader(self) -> str:
        """The reader of the chunks, in words."""
        if self.files is not None:
            return "dask_gd's own reader"
        return "zarr" if self.marked.fast is self.marked.by_zarr else "zarrs"

    @cached_property
    def cuts(self) -> Edges:
        """The rows where windows begin, which are decoded at a time: as many whole chunks as make up READ_BYTES.

        Windows of chunks that are stored as they are have no more than that, whatever the chunks' length.
        """
        n = self.shape[0]
        edges = self.chunk_edges[0]
        row_bytes = max(1, prod(self.shape[1:]) * self.dtype.itemsize)
        most = READ_BYTES // row_bytes
        # Parts of a plain chunk can be read; all else is decoded as a whole.
        if self.files is not None and self.files.plain and longest(edges) > most:
            return even_edges(n, min(longest(edges), max(READ_ROWS, most)))
        return grouped(edges, most, min(READ_ROWS, n))

    @property
    def read_rows(self) -> int:
        """The largest number of rows that are decoded at a time."""
        return longest(self.cuts)

    @property
    def lazy(self) -> da.Array:
        """The array as Dask's, in blocks of `read_rows`, each read as a fit reads it."""
        self.check_sendable()
        windows = self.windows(0, self.shape[0])
        sizes = tuple(stop - start for start, stop in windows)
        chunks = (sizes or (0,), *self.shape[1:])
        return da.from_array(LazyRows(self), chunks=chunks, asarray=False, fancy=False)

    @property
    def window_bytes(self) -> int:
        """The decoded bytes of the largest window."""
        return self.nbytes(self.read_rows)

    def nbytes(self, rows: int) -> int:
        """Return the decoded bytes of this number of rows."""
        return rows * prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def chunk_bytes(self) -> int:
        """The bytes of the largest chunk, decoded."""
        return prod(map(longest, self.chunk_edges)) * self.dtype.itemsize

    @property
    def ahead(self) -> int:
        """The number of windows to read before they are needed, see `Ahead`; 0 where they are at hand."""
        if isinstance(self.array.store, LocalStore | MemoryStore | ZipStore):
            return 0
        return min(AHEAD, max(1, AHEAD_BYTES // self.window_bytes))

    @property
    def buffer_bytes(self) -> int:
        """The bytes of memory that a thread needs at most: the window, and the chunks that have to be decoded."""
        chunk = prod(map(longest, self.chunk_edges)) * self.array.dtype.itemsize
        window = self.window_bytes
        # The stored numbers, and a mark for each that is missing.
        packed = 0
        if self.packing is not None:
            packed = window // self.dtype.itemsize * (self.array.dtype.itemsize + 2)
        # Zarr decodes all chunks of a window at once, each in fresh memory beside its stored bytes.
        if self.files is None:
            decoding = 2 * max(window, chunk) + packed
            return (1 + self.ahead) * window + max(1, self.ahead) * decoding
        # Rows that are stored as they are need no memory beside the window, unless their chunks have some columns.
        if self.files.plain:
            beside = 0
            if self.files.chunks[1:] != self.shape[1:]:
                beside = self.read_rows * prod(self.files.chunks[1:]) * self.array.dtype.itemsize
            return packed + window + beside
        return packed + window + 2 * chunk + (chunk >> 8)

    def where(self, row: int, column: int = 0) -> str:
        """Return the chunk that holds ``row`` and ``column``, for messages about its values."""
        where = self._chunk_at(row, self.first_column + column)
        if self.packing is not None:
            where += self.packing.note
        return where

    def _chunk_at(self, row: int, column: int = 0) -> str:
        """Return the array, the chunk's index and its rows, in words."""
        pairs = zip(self.chunk_edges, (row, column), strict=False)
        index = tuple(find(edges, position) for edges, position in pairs)
        first, last = self._rows_of(self.chunk_edges[0], index[0])
        return f"{self.name!r}, chunk {index}, rows {first}-{last}"

    def _rows_of(self, edges: Edges, i: int) -> tuple[int, int]:
        """Return the first and the last row of a chunk or shard."""
        return edges[i], min(edges[i + 1], self.shape[0]) - 1

    @property
    def worth_keeping(self) -> bool:
        """Return whether reading costs more than a copy of the files' bytes that the system keeps anyway."""
        return self.files is None or not self.files.plain

    @context_meter.meter("read")
    def read(self, start: int, stop: int, out: np.ndarray | None = None) -> np.ndarray:
        """Return rows ``start`` to ``stop``, in ``out`` or valid until this thread next reads the same role."""
        if out is None:
            out = thread_buffer(self.role, (stop - start, *self.shape[1:]), self.dtype)
        context_meter.digest_metric("read", out.nbytes, "bytes")
        # Packed numbers have memory of their own, from which they are decoded.
        stored = out
        if self.packing is not None:
            stored = thread_buffer(f"{self.role} packed", out.shape, self.array.dtype)
        fill = None
        if self.missing == "fill":
            fill = self.array.fill_value or 0
        try:
            (self.files or self.marked).read(start, stored, fill, self.first_column)
        except ChunkError as error:
            refused = self.refused(error)
        else:
            if self.packing is None:
                return out
            return self.packing.decode(stored, out)
        # Not from the error: stores' errors have parts that cannot be sent to the client, which would hide this error.
        raise refused

    def windows(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield the windows of ``start`` to ``stop``, cut at `cuts`, so that no chunk is decoded twice."""
        # The first window may begin within a chunk.
        i = find(self.cuts, start)
        while start < stop:
            i += 1
            end = min(self.cuts[i], stop)
            yield start, end
            start = end

    def refused(self, error: ChunkError) -> DataError:
        """Return the error that says of a chunk that it is absent, damaged, or not given, and what to do."""
        corner: Any = [edges[i] for edges, i in zip(self.chunk_edges, error.index, strict=True)]
        where = f"Array {self._chunk_at(*corner[:2])}"
        intact = "Iterations already stored are intact."
        # An absent chunk may also be a store that this machine does not see.
        if error.absent:
            try:
                sees_store = stores.sees_store(self.array)
            except Exception as refusal:
                return self._unanswered(refusal)
            if not sees_store:
                return UnreachableStoreError(f"{stores.unseen(self.array, self.name)} {intact}")
            return MissingChunkError(
                f"{where}: {error}, {stores.place(self.array)}. Write it again, or, if the writer dropped chunks that "
                f"hold nothing but the fill value, accept them with dask_gd.open(..., missing='fill'). {intact}"
            )
        # A chunk that the store does not give may be good; a chunk that cannot be decoded is not.
        if error.kind is UnreadableChunkError:
            return UnreadableChunkError(
                f"{where}: the store did not give it, {error}. Its bytes may be good: see that this process may read "
                f"{stores.place(self.array)}, and try again. {intact}"
            )
        return CorruptChunkError(
            f"Cannot decode {where[0].lower()}{where[1:]}: {error}. The chunk is damaged; write it again. {intact}"
        )

    def check_chunks(self, start: int, stop: int) -> None:
        """Raise `MissingChunkError` where rows need a chunk (or shard) that the store does not hold."""
        # Listed up to the number that the message counts.
        try:
            absent = list(islice(presence.absent_chunks(self.array, start, stop), MANY_CHUNKS + 1))
        except DataError:
            raise
        except Exception as error:
            raise self._unanswered(error) from error
        if not absent:
            return
        first, edges = absent[0]
        more = f"more than {MANY_CHUNKS - 1:,}"
        if len(absent) <= MANY_CHUNKS:
            more = f"{len(absent) - 1:,}"
        first_row, last_row = self._rows_of(edges, first[0])
        raise MissingChunkError(
            f"Array {self.name!r} lacks chunk {first} (rows {first_row}-{last_row}) and {more} more; "
            f"Zarr would read them as {self.array.fill_value!r}. Write the chunks again, or, if the writer dropped "
            "chunks that hold nothing but the fill value, accept them with dask_gd.open(..., missing='fill')."
        )

    def partition_bounds(self, start: int, stop: int) -> tuple[int, ...]:
        """Return where partitions begin: runs of whole chunks, or shards."""
        return bounds_of_units(self.units, self.nbytes(1), self.shape[1], start, stop)

    def lazy_rows(self, start: int, stop: int) -> da.Array:
        """Return rows as a Dask array, each block read as a fit reads it."""
        return self.lazy[start:stop]

    def check(self, missing: str, start: int, stop: int) -> None:
        """Refuse a store that cannot be sent, and absent chunks, before any is decoded."""
        self.check_sendable()
        if missing == "error":
            self.check_chunks(start, stop)
        self.note_unchecked()

    def check_sendable(self) -> None:
        """Raise `UnreachableStoreError` if the active cluster's workers cannot be sent the array's store."""
        stores.check_sendable(self.array)

    def note_unchecked(self) -> None:
        """Say once for each array that its codecs cannot tell a flipped bit from data."""
        presence.note_unchecked(self.array, self.name)

    def content(self) -> str:
        """Return a hash of the stored bytes, see `fingerprint`."""
        try:
            return fingerprint.content(self.array, self.packing)
        except Exception as error:
            raise self._unanswered(error) from error

    @property
    def known_whole(self) -> bool:
        """Return whether `content` has all of the bytes."""
        return fingerprint.is_whole(self.array)

    def _unanswered(self, error: Exception) -> DataError:
        """Return the error that says that the store answered with another error."""
        return UnreadableChunkError(
            f"Array {self.name!r}: its store, {stores.place(self.array)}, answered {type(error).__name__}: {error}"
        )


class LazyRows:
    """Rows that Dask takes for an array, which `ZarrColumn.read` reads, in memory of their own."""

    def __init__(self, rows: ZarrColumn):
        self.rows = rows
        self.shape = rows.shape
        self.dtype = rows.dtype
        self.ndim = len(rows.shape)

    def __getitem__(self, index: Any) -> np.ndarray:
        """Return rows and columns: consecutive rows are read, and those that are asked for are taken of them."""
        if not isinstance(index, tuple):
            index = (index,)
        first, *rest = index
        # The consecutive rows, and the positions within them.
        within: Any = 0
        if isinstance(first, slice):
            wanted = range(*first.indices(self.shape[0]))
            start = min(wanted, default=0)
            stop = max(wanted, default=-1) + 1
            within = slice(None)
            if wanted.step != 1:
                within = np.array(wanted) - start
        else:
            start = int(first)
            stop = start + 1
        out = np.empty((stop - start, *self.shape[1:]), self.dtype)
        if stop > start:
            self.rows.read(start, stop, out)
        # A part would keep all of the rows in memory.
        part = out[(within, *rest)]
        if part.nbytes == out.nbytes:
            return part
        return part.copy()

    def __dask_tokenize__(self) -> tuple:
        return "dask_gd.LazyRows", self.rows.array, self.rows.missing
