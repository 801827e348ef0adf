"""Features that are stored in blocks of columns, each of which is read by itself: `ColumnGrid`.

Sparse rows, codes and numbers side by side have a block for each part; a 2-D Zarr array whose chunks cut its columns
has blocks of whole chunks. Whoever has the weights of a single block reads only this block.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from ..errors import InvalidArgumentError
from ..kernels.block import RowFormat
from ..kernels.sparse import SparseRows
from .column import Column
from .grid import Edges, grouped, key_edges
from .reader import Reader
from .side_by_side_column import Part, SideBySideColumn
from .source import Source, task_input
from .sparse_group import SparseGroup
from .zarr_column import ZarrColumn

#: Row segments at most, and rows of a segment at least. Constants: sums over rows are taken segment by segment.
SEGMENTS = 16
SEGMENT_ROWS = 1 << 18
#: Blocks that the columns of an array are cut into at most, unless these are so many that blocks would be wider than
#: this: 16 MB of weights in float64.
BLOCKS = 16
BLOCK_FEATURES = 1 << 21


@dataclass(frozen=True)
class ColumnSlice(ZarrColumn):
    """Some columns of a 2-D Zarr array, whose chunks begin and end with them: no other chunk is read."""

    #: The first column in the array, and the end of the last.
    span: tuple[int, int] = (0, 0)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the properties that are made of the array where it is read."""
        return {**super().__getstate__(), "span": self.span}

    @property
    def shape(self) -> tuple[int, ...]:
        first, last = self.span
        return self.array.shape[0], last - first

    @property
    def first_column(self) -> int:
        """The number in the array of the first column that is read."""
        return self.span[0]


@dataclass(frozen=True)
class ColumnGrid:
    """Features in blocks of columns, and rows in segments.

    A thread reads one column block at a time: the memory that rows are read into is the same for all blocks.

    Attributes
    ----------
    edges : tuple of int
        Column block j has the features ``edges[j]`` to ``edges[j + 1]``.
    columns : tuple of Column
        The column of each block, (rows, features of the block), with feature numbers of its own.
    segments : tuple of int
        The rows where row segments begin, and the end of the last: they follow from the data alone.
    dtype : numpy.dtype
        In which products are taken.
    """

    edges: tuple[int, ...]
    columns: tuple[Column, ...]
    segments: tuple[int, ...]
    dtype: np.dtype

    @cached_property
    def formats(self) -> tuple[RowFormat, ...]:
        """The row format of each column block: sparse rows are multiplied a whole window at a time."""
        found = []
        for column in self.columns:
            row_format = column.row_format(self.dtype)
            if isinstance(row_format, SparseRows):
                row_format = row_format._replace(whole=True)
            found.append(row_format)
        return tuple(found)

    def reader(self, j: int) -> Reader:
        """Return the reader of a column block, whose partitions are the segments.

        ``reader((s,), keep=(run, step))`` yields the rows of segment s, some at a time. What it keeps has a key of the
        block's own: the blocks of a run may be kept in one process, and are dropped together with the run.
        """
        task = task_input({"x": self.columns[j]}, self.segments, self.formats[j])
        return replace(task.reader, kept_as=f"x {j}")


def is_in_columns(source: Source) -> bool:
    """Return whether the features of a source are stored in blocks of columns."""
    x = source.x
    if isinstance(x, SideBySideColumn):
        return True
    return type(x) is ZarrColumn and len(x.shape) == 2 and len(_block_edges(x)) > 2


def grid_of(source: Source, most: int = SEGMENTS) -> ColumnGrid:
    """Return the column blocks of a source, and its row segments, at most this number.

    Raises
    ------
    InvalidArgumentError
        If the features are not stored in blocks of columns.
    """
    x = source.x
    start = source.bounds[0]
    stop = source.bounds[-1]
    if isinstance(x, SideBySideColumn):
        # Sparse rows and small columns are cut at any row.
        segments = segments_of(range(start, stop + 1), start, stop, most)
        columns = tuple(_streamed(part, segments) for part in x.side_by_side)
        edges = tuple(accumulate((column.shape[1] for column in columns), initial=0))
    elif is_in_columns(source):
        assert isinstance(x, ZarrColumn)
        # Chunks are decoded as a whole: a segment has whole ones.
        segments = segments_of(x.units, start, stop, most)
        edges = _block_edges(x)
        columns = tuple(ColumnSlice(x.array, x.role, x.missing, span=span) for span in pairwise(edges))
    else:
        raise InvalidArgumentError(
            f"x ({x.name!r}, {x.shape[0]:,} rows x {x.shape[1]:,} features) is not stored by columns, but "
            f"{source.kind}: weights in blocks need features in blocks. Write them with dask_gd.block_columns(...), or "
            "give a Zarr array whose chunks cut its columns."
        )
    return ColumnGrid(edges, columns, segments, source.dtype)


def segments_of(units: Edges, start: int, stop: int, most: int = SEGMENTS) -> tuple[int, ...]:
    """Return where the segments of some rows begin, and the end of the last: at some of ``units``, ascending rows.

    There are at most ``most``, of at least `SEGMENT_ROWS`, or a single one.

    Examples
    --------
    >>> segments_of(range(0, 10_000_001), 0, 1_000_000)
    (0, 333333, 666666, 1000000)
    >>> segments_of(range(0, 1_000_001, 1000), 500, 2000)
    (500, 2000)
    """
    count = max(1, min(most, (stop - start) // SEGMENT_ROWS))
    rows = (stop - start) // count
    cuts = [start]
    while len(cuts) < count:
        # Each segment ends with a unit, and leaves enough rows for the next.
        number = bisect_left(units, cuts[-1] + rows)
        if number == len(units) or stop - units[number] < SEGMENT_ROWS:
            break
        cuts.append(units[number])
    return (*cuts, stop)


def _streamed(part: Part, segments: tuple[int, ...]) -> Column:
    """Return a part of rows side by side as a column that is read by itself."""
    if not isinstance(part, SparseGroup):
        return part
    # Blocks are read one after the other, into the same memory.
    arrays = {name: replace(getattr(part, name), role=f"x {name}") for name in ("data", "indices", "indptr")}
    return replace(part, role="x", **arrays).aligned(segments)


def _block_edges(x: ZarrColumn) -> tuple[int, ...]:
    """Return where blocks of whole column chunks, or shards, begin, and the end of the last."""
    features = x.shape[1]
    units = key_edges(x.array)[1]
    # As wide as that there are not too many of them, and not wider than they may be.
    most = min(BLOCK_FEATURES, -(-features // BLOCKS))
    runs = grouped(units, most)
    if len(runs) > BLOCKS + 1:
        # Chunks that do not fill a run leave more runs than there should be.
        chunks = -(-(len(units) - 1) // BLOCKS)
        most = min(BLOCK_FEATURES, max(units[i + chunks] - units[i] for i in range(len(units) - chunks)))
        runs = grouped(units, most)
    inside = (edge for edge in runs if edge < features)
    return (*inside, features)
