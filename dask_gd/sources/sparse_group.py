"""Sparse rows in Zarr, in the layout that anndata writes: a group with the arrays data, indices and indptr.

The attributes of the group are ``encoding-type`` ("csr_matrix"), ``encoding-version`` ("0.1.0") and ``shape``. Tasks
read the entries of some rows at a time, through the readers of the three arrays.
"""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import dask.array as da
import numpy as np
import zarr
from scipy.sparse import csr_array

from ..errors import DataError, InvalidTypeError
from ..kernels.sparse import SparseRows
from ..kernels.sparse_products import Compressed
from .column import StreamedColumn
from .compressed import check_entries, check_indptr
from .kinds import NUMBERS
from .metadata import check_metadata, named_array
from .sequential import Sequential
from .sparse_column import mean_entries
from .sparse_layout import ENTRY_BYTES, ROW_BYTES, Layout, layout_of, window_bytes, windows_of
from .zarr_column import ZarrColumn

#: The attributes by which anndata knows the layout.
TYPE = "encoding-type"
CSR = "csr_matrix"
VERSION = "0.1.0"
#: The arrays of the group.
ARRAYS = ("data", "indices", "indptr")


@dataclass(frozen=True)
class EntriesColumn(ZarrColumn):
    """Values or columns of entries: where those of some rows are, only the positions of the rows tell."""

    def positions(self, start: int, stop: int) -> tuple[int, int]:
        """Return the positions in the array that rows may have: all."""
        return 0, self.shape[0]


@dataclass(frozen=True)
class SparseGroup(StreamedColumn):
    """Sparse rows of a Zarr group, streamed: tasks read the entries of some rows at a time."""

    kind = "sparse rows streamed from Zarr"
    #: Whatever the codec: rows are checked when they are read, and those that are kept are multiplied sooner.
    worth_keeping = True

    name: str
    rows_and_features: tuple[int, int]
    data: ZarrColumn
    indices: ZarrColumn
    indptr: ZarrColumn
    role: str = "x"
    #: Where windows begin, once the partitions are known.
    cuts: np.ndarray | None = field(default=None, repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.rows_and_features

    @property
    def dtype(self) -> np.dtype:
        """The dtype in which values are multiplied."""
        return np.dtype(float)

    @property
    def parts(self) -> tuple[ZarrColumn, ...]:
        return (self.indptr, self.indices, self.data)

    @property
    def row_entries(self) -> int:
        """Entries of a row on average."""
        return mean_entries(self.data.shape[0], self.shape[0])

    def row_format(self, dtype: np.dtype) -> SparseRows:
        """Return the format of sparse rows."""
        return SparseRows(self.shape[1], self.row_entries)

    # The layout of rows in windows and partitions.

    @property
    def read_rows(self) -> int:
        """The largest number of rows that are read at a time, as far as known."""
        if self.cuts is not None:
            return int(np.diff(self.cuts).max())
        row_bytes = ENTRY_BYTES * self.row_entries + ROW_BYTES
        return max(1, window_bytes(self.shape[1]) // row_bytes)

    @property
    def chunk_bytes(self) -> int:
        """The bytes of the largest chunks, decoded."""
        return sum(part.chunk_bytes for part in self.parts)

    @property
    def buffer_bytes(self) -> int:
        """The bytes of memory that a thread needs at most, but for rows that are larger than a window."""
        window = min(window_bytes(self.shape[1]), self.nbytes(self.shape[0]))
        of_parts = sum(part.buffer_bytes + part.window_bytes for part in self.parts)
        # Of rows that are read ahead there are copies, of those in use and of the next.
        return (1 + 2 * self.ahead) * window + of_parts

    @property
    def ahead(self) -> int:
        """The number of windows to read before they are needed: 1 where the store takes long to answer."""
        return int(any(part.ahead for part in self.parts))

    def nbytes(self, rows: int) -> int:
        """Return the stored bytes of this number of rows, decoded."""
        entry = self.data.dtype.itemsize + self.indices.dtype.itemsize
        of_entries = rows * entry * self.data.shape[0] // self.shape[0]
        return of_entries + rows * self.indptr.dtype.itemsize

    def layout_of(self, start: int, stop: int) -> Layout:
        """Return where partitions and windows of rows begin; all their positions are read, some at a time.

        Raises
        ------
        DataError
            Naming the row, where the positions do not ascend from 0 to the number of values.
        """
        first, last = self.entries_of(start, stop)
        pieces = self._pieces(start, stop)
        return layout_of(
            pieces,
            start,
            stop - start,
            first=first,
            last=last,
            features=self.shape[1],
        )

    def entries_of(self, start: int, stop: int) -> tuple[int, int]:
        """Return the positions of the first entry of rows, and after their last."""
        # Two positions tell how many entries there are between them.
        found = []
        for position in (start, stop):
            [value] = self.indptr.read(position, position + 1, np.empty(1, self.indptr.dtype)).tolist()
            found.append(int(value))
        first, last = found
        # All rows have all entries, and some rows have a part of them.
        entries = self.data.shape[0]
        whole = (start, stop) == (0, self.shape[0])
        if not 0 <= first <= last <= entries or (whole and (first, last) != (0, entries)):
            raise DataError(
                f"{self.name!r}: indptr reaches from {first} at row {start} to {last} after row {stop - 1}; it must "
                f"ascend from 0 to {entries}, the number of values. Write the rows again."
            )
        return first, last

    def _pieces(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """Yield the positions where rows end, checked, some rows at a time."""
        indptr = Sequential(self.indptr)
        for first, end in self.indptr.windows(start, stop):
            positions = indptr.read(first, end + 1)
            check_indptr(positions, self.data.shape[0], repr(self.name), first)
            yield positions[1:]

    def partition_bounds(self, start: int, stop: int) -> tuple[int, ...]:
        """Return where partitions begin: at bytes of entries."""
        return self.layout_of(start, stop).bounds

    def aligned(self, bounds: tuple[int, ...]) -> SparseGroup:
        """Return the column with the windows of these rows."""
        return replace(self, cuts=self.layout_of(bounds[0], bounds[-1]).cuts)

    # The ways in which tasks and callers get its values.

    def bind(self, block: Any, partition: int, start: int) -> BoundGroup:
        """Return the rows as a task reads them."""
        return BoundGroup(self)

    def lazy_rows(self, start: int, stop: int) -> da.Array:
        """Return rows as a Dask array of sparse blocks, each read as a fit reads it."""
        self.check_sendable()
        # Blocks are windows, which the tasks are told.
        layout = self.layout_of(start, stop)
        windows = list(layout.windows(start, stop))
        column = replace(self, cuts=None)
        name = f"dask_gd-sparse-rows-{uuid.uuid4().hex}"
        graph = {(name, number, 0): (read_block, column, *window) for number, window in enumerate(windows)}
        sizes = tuple(end - first for first, end in windows)
        return da.Array(
            graph,
            name,
            (sizes, (self.shape[1],)),
            meta=csr_array((0, self.shape[1])),
            dtype=float,
        )

    # Checks that need no values, and the identity of the values.

    def check(self, missing: str, start: int, stop: int) -> None:
        """Refuse stores that cannot be sent, and absent chunks, before any entry is read."""
        self.indptr.check(missing, start, stop + 1)
        first, last = self.entries_of(start, stop)
        for part in (self.indices, self.data):
            if first < last:
                part.check(missing, first, last)

    def check_sendable(self) -> None:
        """Raise `UnreachableStoreError` if the active cluster's workers cannot be sent the store."""
        self.indptr.check_sendable()

    def content(self) -> str:
        """Return a hash of the stored bytes of the three arrays."""
        parts = [str(self.shape), *(part.content() for part in self.parts)]
        return hashlib.blake2b("".join(parts).encode(), digest_size=16).hexdigest()

    @property
    def known_whole(self) -> bool:
        """Return whether `content` has all of the bytes."""
        return all(part.known_whole for part in self.parts)


class BoundGroup:
    """The rows of a group inside a task, which reads them in their order."""

    takes_block = False
    dtype = np.dtype(float)

    def __init__(self, column: SparseGroup):
        self.ahead = column.ahead
        self.lock = threading.Lock()
        self.column = column
        self.role = column.role
        self.name = column.name
        self.shape = column.shape
        self.indptr = Sequential(column.indptr)
        self.indices = Sequential(column.indices)
        self.data = Sequential(column.data)

    def nbytes(self, rows: int) -> int:
        """Return the bytes of this number of rows."""
        return self.column.nbytes(rows)

    def room(self, rows: int, memory: Any) -> None:
        """Return nothing: how much memory rows take is not known before they are read."""

    def windows(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield the windows of rows, of nearly the same bytes each."""
        if self.column.cuts is None:
            yield start, stop
        else:
            yield from windows_of(self.column.cuts, start, stop)

    def read(self, start: int, stop: int, out: Any = None) -> Compressed:
        """Return rows, checked, valid until this thread next reads the same role; or in memory of their own.

        Raises
        ------
        DataError
            Naming row and column, where the entries are out of order or out of range.
        """
        if not self.ahead:
            return self._read(start, stop)
        # The next rows are read while these are in use.
        with self.lock:
            data, indices, indptr, _ = self._read(start, stop)
            return Compressed(data.copy(), indices.copy(), indptr)

    def _read(self, start: int, stop: int) -> Compressed:
        """Return rows, checked, valid until the next are read."""
        # Positions first: they tell which entries the rows have.
        name = repr(self.name)
        indptr = self.indptr.read(start, stop + 1)
        check_indptr(indptr, self.column.data.shape[0], name, start)
        first = int(indptr[0])
        last = int(indptr[-1])
        rows = Compressed(
            self.data.read(first, last),
            self.indices.read(first, last),
            indptr.astype(np.int64) - first,
        )
        check_entries(rows, self.shape[1], name, start)
        return rows

    def where(self, row: int, column: int = 0) -> str:
        """Return the name of the group, for messages about its values."""
        return repr(self.name)


def read_block(column: SparseGroup, start: int, stop: int) -> csr_array:
    """Return rows as a matrix in memory of its own."""
    data, indices, indptr, _ = column.bind(None, 0, start).read(start, stop)
    return Compressed(data.copy(), indices.copy(), indptr).matrix(column.shape[1])


def is_sparse_group(group: Any) -> bool:
    """Return whether this is a Zarr group in the layout of sparse rows."""
    if not isinstance(group, zarr.Group):
        return False
    return group.attrs.get(TYPE) == CSR and all(name in group for name in ARRAYS)


def sparse_group(group: zarr.Group, role: str, missing: str = "error") -> SparseGroup:
    """Return a column of the sparse rows in a Zarr group.

    Raises
    ------
    DataError
        Where shape, arrays and their lengths do not belong together.
    InvalidTypeError
        For values that are no real numbers.
    """
    name = group.path or role
    rows, features = shape_of_group(group)
    # Each array is read into memory of its own.
    columns = {}
    for part in ARRAYS:
        array = named_array(group, role, part, name)
        check_metadata(array, part)
        if array.ndim != 1:
            raise DataError(f"Array {array.path!r} has the shape {array.shape}; it must be (n,).")
        kind = ZarrColumn
        if part != "indptr":
            kind = EntriesColumn
        columns[part] = kind(array, f"{role} {part}", missing)
    if columns["data"].dtype.kind not in NUMBERS:
        raise InvalidTypeError(f"{name!r} has values of {columns['data'].dtype}; only real numbers can be fitted.")
    # The arrays belong together if their lengths do.
    lengths = {part: column.shape[0] for part, column in columns.items()}
    if lengths["data"] != lengths["indices"] or lengths["indptr"] != rows + 1:
        raise DataError(
            f"Group {name!r} has the shape {rows} x {features}, {lengths['data']} values, {lengths['indices']} columns "
            f"of values and {lengths['indptr']} positions of rows; there must be as many columns as values, and "
            f"{rows + 1} positions. Write it again."
        )
    for part in ("indices", "indptr"):
        if columns[part].dtype.kind not in "iu":
            raise DataError(f"Array '{name}/{part}' has dtype {columns[part].dtype}; it must have whole numbers.")
    return SparseGroup(
        name,
        (rows, features),
        data=columns["data"],
        indices=columns["indices"],
        indptr=columns["indptr"],
        role=role,
    )


def shape_of_group(group: zarr.Group) -> tuple[int, int]:
    """Return the numbers of rows and features of a group.

    Raises
    ------
    DataError
        If its attribute is none.
    """
    # The attribute is whatever another program has written.
    shape: Any = group.attrs.get("shape")
    is_pair = isinstance(shape, list | tuple) and len(shape) == 2
    if not is_pair or not all(isinstance(size, int) and size >= 0 for size in shape):
        raise DataError(
            f"Group {group.path!r} has the attribute shape={shape!r:.60}; sparse rows have two whole numbers there, "
            "those of rows and features. Write it again."
        )
    return shape[0], shape[1]
