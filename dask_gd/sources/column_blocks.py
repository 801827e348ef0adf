"""Features in column blocks: a Zarr group whose members "0", "1", ... are sparse rows of consecutive features.

The attributes of the group are ``encoding-type`` ("dask_gd_column_blocks"), ``encoding-version`` ("0.1.0"), ``shape``
and ``edges``: block j has the features ``edges[j]`` to ``edges[j + 1]``. Each block is a group in the layout of
`sparse_group`, with all rows, whose columns are numbered from the block's first feature on.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import zarr

from ..errors import DataError, InvalidArgumentError
from .compressed import check_indptr
from .metadata import understood
from .side_by_side_column import SideBySideColumn
from .sparse_column import mean_entries
from .sparse_group import TYPE, SparseGroup, is_sparse_group, shape_of_group, sparse_group
from .sparse_layout import ENTRY_BYTES, ROW_BYTES, Layout, layout_of, window_bytes, windows_of

#: The attributes of the group.
COLUMN_BLOCKS = "dask_gd_column_blocks"
COLUMN_BLOCKS_VERSION = "0.1.0"
EDGES = "edges"


@dataclass(frozen=True)
class ColumnBlocks(SideBySideColumn):
    """Column blocks of sparse rows side by side; partitions and windows are those of the whole rows."""

    kind = "column blocks of sparse rows streamed from Zarr"

    group: str = "x"
    #: Where windows begin, once the partitions are known.
    cuts: np.ndarray | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        return self.group

    @property
    def edges(self) -> tuple[int, ...]:
        """Where blocks begin, and the number of features."""
        widths = [block.shape[1] for block in self.side_by_side]
        return tuple(np.cumsum([0, *widths]).tolist())

    @property
    def blocks_of_columns(self) -> tuple[SparseGroup, ...]:
        """The column blocks."""
        return self.side_by_side  # type: ignore[return-value]

    @property
    def entries(self) -> int:
        """The number of stored entries of all rows."""
        return sum(block.data.shape[0] for block in self.blocks_of_columns)

    @property
    def read_rows(self) -> int:
        """The largest number of rows that are read at a time, as far as known."""
        if self.cuts is not None:
            return int(np.diff(self.cuts).max())
        row_bytes = ENTRY_BYTES * mean_entries(self.entries, self.shape[0]) + ROW_BYTES
        return max(1, window_bytes(self.shape[1]) // row_bytes)

    @property
    def buffer_bytes(self) -> int:
        """The bytes of memory that a thread needs at most, but for rows that are larger than a window."""
        window = min(window_bytes(self.shape[1]), self.nbytes(self.shape[0]))
        return window + sum(array.buffer_bytes + array.window_bytes for array in self.parts)

    def layout_of(self, start: int, stop: int) -> Layout:
        """Return where partitions and windows of rows begin: where they would without blocks.

        Raises
        ------
        DataError
            Naming block and row, where the positions do not ascend from 0 to the number of values.
        """
        ends = [block.entries_of(start, stop) for block in self.blocks_of_columns]
        return layout_of(
            self._pieces(start, stop),
            start,
            stop - start,
            first=sum(first for first, _ in ends),
            last=sum(last for _, last in ends),
            features=self.shape[1],
        )

    def _pieces(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """Yield the number of entries of all blocks up to the end of each row, some rows at a time."""
        blocks = self.blocks_of_columns
        # The position before the first of a piece is that where its first row begins.
        before = [block.entries_of(start, start)[0] for block in blocks]
        for first, end in blocks[0].indptr.windows(start + 1, stop + 1):
            total = np.zeros(end - first, np.int64)
            for number, block in enumerate(blocks):
                positions = np.empty(end - first + 1, block.indptr.dtype)
                positions[0] = before[number]
                block.indptr.read(first, end, positions[1:])
                check_indptr(positions, block.data.shape[0], repr(block.name), first - 1)
                before[number] = int(positions[-1])
                total += positions[1:].astype(np.int64)
            yield total

    def aligned(self, bounds: tuple[int, ...]) -> ColumnBlocks:
        """Return the column with the windows of these rows."""
        return replace(self, cuts=self.layout_of(bounds[0], bounds[-1]).cuts)

    def windows(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield the windows of rows that a task reads, of nearly the same bytes each."""
        if self.cuts is None:
            yield start, stop
        else:
            yield from windows_of(self.cuts, start, stop)

    def where_feature(self, feature: int) -> str:
        """Return the block and the column in it of a feature, for messages about its values."""
        edges = self.edges
        number = bisect_right(edges, feature) - 1
        name = self.side_by_side[number].name
        return f"{name!r}, column {feature - edges[number]} of the block (the feature {feature})"


def is_column_blocks(group: Any) -> bool:
    """Return whether this is a Zarr group of column blocks."""
    return isinstance(group, zarr.Group) and group.attrs.get(TYPE) == COLUMN_BLOCKS


def check_none_in_blocks(members: Mapping[str, Any]) -> None:
    """Refuse column blocks among the members of a group that are to be features side by side, by name."""
    for name, member in members.items():
        if is_column_blocks(member):
            raise InvalidArgumentError(
                f"x={list(members)!r:.80}: {name!r} has its features in column blocks, which are not read beside "
                "others. Write all of them together: dask_gd.block_columns(dask_gd.open(path, x=[...]), new_path)."
            )


def column_blocks(group: zarr.Group, missing: str = "error") -> ColumnBlocks:
    """Return the column of a group of column blocks. Its features have no names.

    Raises
    ------
    DataError
        Where the edges do not reach from 0 to the number of features, ascending, or a block is not there, has another
        width than between its edges, or another number of rows.
    """
    name = group.path or "x"
    rows, features = shape_of_group(group)
    version: Any = group.attrs.get("encoding-version")
    if version != COLUMN_BLOCKS_VERSION:
        raise DataError(
            f"Group {name!r} has column blocks of the encoding-version {version!r:.40}; this dask_gd reads "
            f"{COLUMN_BLOCKS_VERSION!r}. Write it again with dask_gd.block_columns, or use a later dask_gd."
        )
    edges = checked_edges(group.attrs.get(EDGES), features, name)
    blocks = []
    for number, (start, stop) in enumerate(pairwise(edges)):
        blocks.append(_block(group, name, number, start, stop, rows, missing))
    # Edges that lack the last blocks would be those of another matrix.
    if str(len(blocks)) in group:
        raise DataError(
            f"Group {name!r} has edges of {len(blocks)} column blocks, and a block {f'{name}/{len(blocks)}'!r} after "
            "these. Write it again with dask_gd.block_columns."
        )
    return ColumnBlocks(tuple(blocks), None, group=name)


def checked_edges(edges: Any, features: int, name: str) -> list[int]:
    """Return the edges of column blocks, which must tile the features of the group ``name``.

    Raises
    ------
    DataError
        Saying which edge is wrong.
    """
    remedy = "Column blocks tile the features: edges ascend from 0 to their number. Write them again."
    # The attribute is whatever another program has written.
    is_list = isinstance(edges, list | tuple) and len(edges) > 1
    if not is_list or not all(type(edge) is int for edge in edges):
        raise DataError(f"Group {name!r} has the attribute edges={edges!r:.60}, no list of whole numbers. {remedy}")
    if edges[0] != 0:
        raise DataError(
            f"Group {name!r}: edges begin with {edges[0]}, so that features before it have no block. {remedy}"
        )
    for number, (start, stop) in enumerate(pairwise(edges)):
        if start >= stop:
            raise DataError(
                f"Group {name!r}: edges[{number + 1}] = {stop} is not above edges[{number}] = {start}, so that block "
                f"{number} overlaps others, or has no features. {remedy}"
            )
    if edges[-1] != features:
        raise DataError(f"Group {name!r}: edges end with {edges[-1]}, and its shape has {features} features. {remedy}")
    return list(edges)


def _block(
    group: zarr.Group,
    name: str,
    number: int,
    start: int,
    stop: int,
    rows: int,
    missing: str,
) -> SparseGroup:
    """Return a block, which has the features ``start`` to ``stop`` of all rows."""
    place = f"{name}/{number}"
    remedy = "Write the column blocks again with dask_gd.block_columns."
    with understood(f"column block {place!r}", OSError):
        member = group.get(str(number))
    if member is None:
        raise DataError(f"Column block {place!r}, of the features {start} to {stop - 1}, is not there. {remedy}")
    if not isinstance(member, zarr.Group) or not is_sparse_group(member):
        raise DataError(
            f"Column block {place!r} is no group of sparse rows: data, indices and indptr, and the encoding-type "
            f"'csr_matrix'. {remedy}"
        )
    block = sparse_group(member, f"x {place}", missing)
    if block.shape[1] != stop - start:
        raise DataError(
            f"Column block {place!r} has {block.shape[1]} columns, and its edges {start} and {stop} are "
            f"{stop - start} apart. {remedy}"
        )
    if block.shape[0] != rows:
        raise DataError(f"Column block {place!r} has {block.shape[0]} rows, and {name!r} has {rows}. {remedy}")
    return block
