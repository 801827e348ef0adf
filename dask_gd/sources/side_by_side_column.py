"""Sparse rows in Zarr beside columns of numbers and codes, as features in the order in which they are named."""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import dask.array as da
import numpy as np
import zarr
from scipy.sparse import csr_array

from ..errors import DataError, InvalidArgumentError
from ..kernels.codes import CodedRows
from ..kernels.side_by_side import SideBySide, matrix_of
from .column import StreamedColumn
from .columns import feature_names_of
from .levels import with_reference_levels
from .sequential import Sequential
from .sparse_group import SparseGroup, is_sparse_group, sparse_group
from .sparse_layout import Layout
from .table_column import TableColumn
from .zarr_column import ZarrColumn

#: A part: columns of numbers and codes, or sparse rows.
Part = TableColumn | SparseGroup


@dataclass(frozen=True)
class SideBySideColumn(StreamedColumn):
    """Columns of numbers and codes, and groups of sparse rows, side by side; each is streamed as it is stored."""

    kind = "streamed from Zarr, sparse rows among others"
    worth_keeping = True

    side_by_side: tuple[Part, ...]
    #: None where features have no names.
    feature_names: tuple[str, ...] | None
    role: str = "x"

    @property
    def name(self) -> str:
        return ", ".join(part.name for part in self.side_by_side)

    @property
    def parts(self) -> tuple[ZarrColumn, ...]:
        return tuple(array for part in self.side_by_side for array in part.parts)  # type: ignore[misc]

    @property
    def shape(self) -> tuple[int, ...]:
        rows = self.side_by_side[0].shape[0]
        if self.feature_names is None:
            return rows, sum(part.shape[1] for part in self.side_by_side)
        return rows, len(self.feature_names)

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the products."""
        return np.dtype(float)

    def row_format(self, dtype: np.dtype) -> SideBySide:
        """Return the format of the parts side by side."""
        return SideBySide(tuple(part.row_format(dtype) for part in self.side_by_side))

    @property
    def drops(self) -> bool:
        """Return whether factors have a reference level if there is no penalty."""
        return any(isinstance(part, TableColumn) and part.drops for part in self.side_by_side)

    def with_all_levels(self) -> SideBySideColumn:
        """Return the columns with a feature for each level."""
        parts: list[Part] = []
        for part in self.side_by_side:
            if isinstance(part, TableColumn):
                part = part.with_levels(part.encoding)
            parts.append(part)
        return replace(self, side_by_side=tuple(parts))

    def with_reference_levels(self, fit_intercept: bool) -> SideBySideColumn:
        """Return the columns with a reference level for each factor, see `levels.with_reference_levels`."""
        # Features without names are none of levels.
        if self.feature_names is None:
            return self
        parts: list[Part] = []
        features: list[str] = []
        start = 0
        for part in self.side_by_side:
            stop = start + part.shape[1]
            own = self.feature_names[start:stop]
            start = stop
            if isinstance(part, TableColumn):
                part = part.with_levels(with_reference_levels(part.encoding, fit_intercept))
                own = part.encoding.feature_names
                # The first of all factors stands for the intercept, where there is none.
                fit_intercept = fit_intercept or part.encoding.has_factors
            parts.append(part)
            features.extend(own)
        return replace(self, side_by_side=tuple(parts), feature_names=tuple(features))

    # The largest sparse part says how many rows are read at a time.

    @property
    def leading(self) -> SparseGroup:
        """The sparse rows with the most bytes."""
        sparse = [part for part in self.side_by_side if isinstance(part, SparseGroup)]
        return max(sparse, key=lambda part: part.nbytes(part.shape[0]))

    @property
    def read_rows(self) -> int:
        """The largest number of rows that are read at a time."""
        return self.leading.read_rows

    @property
    def chunk_bytes(self) -> int:
        """The bytes of the largest chunks, decoded."""
        return sum(part.chunk_bytes for part in self.side_by_side)

    @property
    def buffer_bytes(self) -> int:
        """The bytes of memory that a thread needs at most, but for rows that are larger than a window."""
        windows = sum(array.window_bytes for array in self.parts)
        return windows + sum(part.buffer_bytes for part in self.side_by_side)

    def nbytes(self, rows: int) -> int:
        """Return the decoded bytes of this number of rows."""
        return sum(part.nbytes(rows) for part in self.side_by_side)

    def layout_of(self, start: int, stop: int) -> Layout:
        """Return where partitions and windows of rows begin: at bytes of the leading part's entries."""
        return self.leading.layout_of(start, stop)

    def partition_bounds(self, start: int, stop: int) -> tuple[int, ...]:
        """Return where partitions begin."""
        return self.layout_of(start, stop).bounds

    def windows(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield the windows of rows that a task reads: those of the leading part."""
        return self.leading.bind(None, 0, 0).windows(start, stop)

    def aligned(self, bounds: tuple[int, ...]) -> SideBySideColumn:
        """Return the column with the windows of these rows."""
        leading = self.leading
        parts: list[Part] = []
        for part in self.side_by_side:
            if part is leading:
                parts.append(leading.aligned(bounds))
            else:
                parts.append(part)
        return replace(self, side_by_side=tuple(parts))

    def where_feature(self, feature: int) -> str:
        """Return the place of a feature's values, for messages about them."""
        if self.feature_names is None:
            return f"{self.name!r}, the feature {feature}"
        return f"{self.name!r}, the feature {self.feature_names[feature]!r}"

    # The ways in which tasks and callers get its values.

    def bind(self, block: Any, partition: int, start: int) -> BoundSideBySide:
        """Return the rows as a task reads them."""
        return BoundSideBySide(self)

    def lazy_rows(self, start: int, stop: int) -> da.Array:
        """Return rows as a Dask array of sparse blocks, in which a code is the indicator of its level."""
        self.check_sendable()
        layout = self.layout_of(start, stop)
        windows = list(layout.windows(start, stop))
        name = f"dask_gd-side-by-side-{uuid.uuid4().hex}"
        graph = {(name, number, 0): (read_block, self, *window) for number, window in enumerate(windows)}
        sizes = tuple(end - first for first, end in windows)
        features = self.shape[1]
        return da.Array(
            graph,
            name,
            (sizes, (features,)),
            meta=csr_array((0, features)),
            dtype=float,
        )

    def check(self, missing: str, start: int, stop: int) -> None:
        """Refuse stores that cannot be sent, and absent chunks, before any is decoded."""
        for part in self.side_by_side:
            part.check(missing, start, stop)

    def check_sendable(self) -> None:
        """Raise `UnreachableStoreError` if the active cluster's workers cannot be sent a store."""
        for part in self.side_by_side:
            part.check_sendable()

    def content(self) -> str:
        """Return a hash of the stored bytes of all parts."""
        parts = "".join(part.content() for part in self.side_by_side)
        return hashlib.blake2b(parts.encode(), digest_size=16).hexdigest()

    @property
    def known_whole(self) -> bool:
        """Return whether `content` has all of the bytes."""
        return all(part.known_whole for part in self.side_by_side)


class BoundSideBySide:
    """The rows of all parts inside a task, which reads them in their order."""

    takes_block = False
    dtype = np.dtype(float)
    ahead = 0

    def __init__(self, column: SideBySideColumn):
        self.column = column
        self.role = column.role
        self.name = column.name
        self.shape = column.shape
        # Each part is read in its order, into memory of its own.
        self.readers: list[Callable[[int, int], Any]] = []
        for part in column.side_by_side:
            if isinstance(part, SparseGroup):
                self.readers.append(part.bind(None, 0, 0).read)
            else:
                self.readers.append(InOrder(part).read)

    def nbytes(self, rows: int) -> int:
        """Return the bytes of this number of rows."""
        return self.column.nbytes(rows)

    def room(self, rows: int, memory: Any) -> None:
        """Return nothing: how much memory sparse rows take is not known before they are read."""

    def windows(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield the windows of the column."""
        return self.column.windows(start, stop)

    def read(self, start: int, stop: int, out: Any = None) -> tuple:
        """Return each part's rows, valid until this thread next reads the same role."""
        return tuple(read(start, stop) for read in self.readers)

    def where(self, row: int, column: int = 0) -> str:
        """Return the name of the feature, for messages about its values."""
        return self.column.where_feature(column)


class InOrder:
    """Arrays of numbers and codes, whose chunks begin at other rows than the windows."""

    def __init__(self, column: TableColumn):
        self.arrays = [Sequential(array) for array in column.arrays_in_order]

    def read(self, start: int, stop: int) -> tuple[np.ndarray, ...]:
        """Return the rows of each array."""
        return tuple(array.read(start, stop) for array in self.arrays)


def read_block(column: SideBySideColumn, start: int, stop: int) -> csr_array:
    """Return rows as a sparse matrix.

    Raises
    ------
    DataError
        Naming the row and the column of a code that stands for no level.
    """
    bound = column.bind(None, 0, start)
    # The rows of each part, as a fit reads and casts them.
    row_format = column.row_format(column.dtype)
    rows = row_format.cast(bound.read(start, stop), np.empty)
    for part, own, features in zip(row_format.parts, rows, row_format.features_of, strict=True):
        # What is not finite is not finite in what is predicted; a code that is none would stand for a level.
        if not isinstance(part, CodedRows):
            continue
        bad = part.first_bad(own)
        if bad is not None and bad.why:
            feature = features.start + part.starts[bad.column or 0]
            raise DataError(f"{bad.value} in row {start + bad.row} of {bound.where(bad.row, feature)} {bad.why}.")
    return matrix_of(row_format, rows, None).copy()


def side_by_side(
    group: zarr.Group,
    names: Sequence[str],
    table: Callable[[list[str]], TableColumn],
    missing: str = "error",
) -> SideBySideColumn:
    """Return the columns of these names, among them groups of sparse rows; ``table`` returns those of the others.

    Raises
    ------
    InvalidArgumentError
        Where parts differ in their number of rows, or a feature's name is there twice.
    """
    if len(set(names)) < len(names):
        raise InvalidArgumentError(f"x={list(names)!r}: a name occurs twice.")
    parts: list[Part] = []
    features: list[str] = []
    # Neighbours that are no sparse rows are a part together.
    for is_sparse, together in groupby(names, key=lambda name: is_sparse_group(group.get(name))):
        if not is_sparse:
            columns = table(list(together))
            parts.append(columns)
            features.extend(columns.encoding.feature_names)
            continue
        # Each group of sparse rows is a part of its own.
        for name in together:
            member = group[name]
            assert isinstance(member, zarr.Group)
            rows = sparse_group(member, f"x {name}", missing)
            parts.append(rows)
            features.extend(feature_names_of(member) or (f"{name}[{i}]" for i in range(rows.shape[1])))
    # All have the same rows, and no two features the same name.
    for part in parts[1:]:
        if part.shape[0] != parts[0].shape[0]:
            raise InvalidArgumentError(
                f"{parts[0].name!r} has {parts[0].shape[0]} rows but {part.name!r} has {part.shape[0]}."
            )
    if len(set(features)) < len(features):
        [(twice, _)] = Counter(features).most_common(1)
        raise InvalidArgumentError(f"Two features are named {twice!r}; give the columns names of their own.")
    return SideBySideColumn(tuple(parts), tuple(features))
