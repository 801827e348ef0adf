"""Columns of a table in Zarr, numbers and codes side by side, each array streamed by the tasks as it is stored."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import dask.array as da
import numpy as np

from ..kernels.codes import CodedRows
from .column import Column, Room, StreamedColumn
from .encoding import Encoding
from .partitions import bounds_of_units
from .zarr_column import ZarrColumn


@dataclass(frozen=True)
class TableColumn(StreamedColumn):
    """Arrays (n,) or (n, columns) of a Zarr group side by side, whose columns are numbers or codes of levels.

    Tasks get a tuple of the arrays' rows, as they are stored.
    """

    kind = "streamed from Zarr, numbers and codes"

    arrays_in_order: tuple[ZarrColumn, ...]
    described: Encoding
    role: str = "x"
    #: Whether there is a reference level in each factor if there is no penalty.
    drops: bool = False

    @property
    def encoding(self) -> Encoding:
        return self.described

    def with_levels(self, encoding: Encoding) -> TableColumn:
        """Return the column with the encoding of a fit, which has decided which levels have a feature."""
        return replace(self, described=encoding, drops=False)

    @property
    def name(self) -> str:
        return ", ".join(part.name for part in self.arrays_in_order)

    @property
    def parts(self) -> tuple[Column, ...]:
        return self.arrays_in_order

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and features, which are not stored."""
        return self.arrays_in_order[0].shape[0], self.row_format(self.dtype).features

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the products."""
        return np.dtype(float)

    def row_format(self, dtype: np.dtype) -> CodedRows:
        """Return the format of numbers and codes."""
        return self.encoding.row_format

    @property
    def longest(self) -> ZarrColumn:
        """The array with the longest windows: it decides how many rows are read at a time."""
        return max(self.arrays_in_order, key=lambda part: part.read_rows)

    @property
    def read_rows(self) -> int:
        """The largest number of rows that are decoded at a time."""
        return self.longest.read_rows

    @property
    def chunk_bytes(self) -> int:
        """The bytes of the largest chunks, decoded."""
        return sum(part.chunk_bytes for part in self.arrays_in_order)

    @property
    def buffer_bytes(self) -> int:
        """The bytes of memory that a thread needs at most."""
        # Arrays with shorter chunks than the longest are read into a buffer for its windows.
        windows = sum(part.nbytes(self.read_rows) for part in self.arrays_in_order)
        return windows + sum(part.buffer_bytes for part in self.arrays_in_order)

    def nbytes(self, rows: int) -> int:
        """Return the decoded bytes of this number of rows."""
        return sum(part.nbytes(rows) for part in self.arrays_in_order)

    def partition_bounds(self, start: int, stop: int) -> tuple[int, ...]:
        """Return where partitions begin: runs of whole chunks, or shards, of the array with the longest windows."""
        return bounds_of_units(self.longest.units, self.nbytes(1), self.shape[1], start, stop)

    # Inside a task.

    @property
    def ahead(self) -> int:
        """The number of windows to read before they are needed; 0 where all arrays are at hand."""
        return max(part.ahead for part in self.arrays_in_order)

    @property
    def worth_keeping(self) -> bool:
        """Return whether reading an array costs more than to keep a copy."""
        return any(part.worth_keeping for part in self.arrays_in_order)

    def windows(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield the windows of the array with the longest windows."""
        return self.longest.windows(start, stop)

    def room(self, rows: int, memory: Room) -> tuple[np.ndarray, ...] | None:
        """Return memory for rows of each array; None where there is none for one of them."""
        found = []
        for part in self.arrays_in_order:
            of_part = part.room(rows, memory)
            if of_part is None:
                return None
            found.append(of_part)
        return tuple(found)

    def read(self, start: int, stop: int, out: Any = None) -> tuple[np.ndarray, ...]:
        """Return the rows of each array, in ``out`` or valid until this thread next reads the same role."""
        if out is None:
            return tuple(part.read(start, stop) for part in self.arrays_in_order)
        pairs = zip(self.arrays_in_order, out, strict=True)
        return tuple(part.read(start, stop, of_part) for part, of_part in pairs)

    def where(self, row: int, column: int = 0) -> str:
        """Return the chunk that holds a row and a stored column, for messages about its values."""
        for part in self.arrays_in_order:
            width = width_of(part)
            if column < width:
                return part.where(row, column)
            column -= width
        raise IndexError(column)

    # On the client.

    def lazy_rows(self, start: int, stop: int) -> da.Array:
        """Return rows as a Dask array (n, columns) of numbers and codes in float64."""
        # Each array as numbers (n, columns).
        columns = []
        for part in self.arrays_in_order:
            rows = part.lazy_rows(start, stop).astype(float)
            if rows.ndim == 1:
                rows = rows[:, None]
            columns.append(rows)
        # Blocks of all arrays are those of the array with the longest.
        longest = max(columns, key=lambda rows: max(rows.chunks[0]))
        aligned = [rows.rechunk((longest.chunks[0], -1)) for rows in columns]
        return da.concatenate(aligned, axis=1).rechunk({1: -1})

    def check(self, missing: str, start: int, stop: int) -> None:
        """Refuse stores that cannot be sent, and absent chunks, before any is decoded."""
        for part in self.arrays_in_order:
            part.check(missing, start, stop)

    def check_sendable(self) -> None:
        """Raise `UnreachableStoreError` if the active cluster's workers cannot be sent an array's store."""
        for part in self.arrays_in_order:
            part.check_sendable()

    def content(self) -> str:
        """Return a hash of the stored bytes, and of the levels that the codes stand for."""
        total = hashlib.blake2b(digest_size=16)
        total.update(repr(self.encoding).encode())
        for part in self.arrays_in_order:
            total.update(part.content().encode())
        return total.hexdigest()

    @property
    def known_whole(self) -> bool:
        """Return whether `content` has all of the bytes."""
        return all(part.known_whole for part in self.arrays_in_order)


def width_of(column: Column) -> int:
    """Return the number of columns of an array (n,) or (n, columns)."""
    if len(column.shape) == 1:
        return 1
    return column.shape[1]
