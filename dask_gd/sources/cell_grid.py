"""The grid by which a target with a model for each cell is read: columns of cells, and pieces of the samples.

A column is a block of cells through all samples, and is read a piece after the other. Both follow from the chunks of
the target, so that no chunk is decoded twice: chunks of a few cells are read side by side, and chunks of a few samples
one after the other until there are rows enough to multiply.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product
from math import prod

import numpy as np

from .grid import Edges, grouped, longest

#: Rows of a piece: fewer cost more for the sums, which are read and written with each, than for the values.
FEWEST_ROWS = 24
MOST_ROWS = 96
#: Bytes of a piece of many cells, beyond which it has no more rows than it must.
PIECE_BYTES = 16 << 20
#: Cells of a column, at least.
FEWEST_CELLS = 4096
#: Cells of a column of a target in memory.
CELLS_IN_MEMORY = 1 << 16
#: Tasks, at least, as far as these have enough to do: with fewer columns the samples are cut into segments.
FEWEST_TASKS = 16
#: Bytes of a segment, at least: beside the time that these take, segments are added up in no time.
SEGMENT_BYTES = 256 << 20

#: Positions from and to along each of some dimensions.
Box = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class CellGrid:
    """Where columns and pieces begin."""

    sample_dims: tuple[str, ...]
    cell_dims: tuple[str, ...]
    sample_edges: tuple[tuple[int, ...], ...]
    cell_edges: tuple[tuple[int, ...], ...]
    #: Bytes of a value of the target.
    itemsize: int

    @property
    def dims(self) -> tuple[str, ...]:
        """All dimensions: those of the samples, then those of the cells."""
        return (*self.sample_dims, *self.cell_dims)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The sizes of the sample dimensions."""
        return tuple(edges[-1] for edges in self.sample_edges)

    @property
    def cell_shape(self) -> tuple[int, ...]:
        """The sizes of the cells' dimensions."""
        return tuple(edges[-1] for edges in self.cell_edges)

    @property
    def chunks(self) -> tuple[tuple[int, ...], ...]:
        """The sizes of pieces and columns along each dimension, as Dask has them."""
        return tuple(tuple(np.diff(edges).tolist()) for edges in (*self.sample_edges, *self.cell_edges))

    @cached_property
    def columns(self) -> list[Box]:
        """The box of each column."""
        return list(product(*(pairwise(edges) for edges in self.cell_edges)))

    @cached_property
    def pieces(self) -> list[Box]:
        """The box of each piece, in the order in which they are added up."""
        return list(product(*(pairwise(edges) for edges in self.sample_edges)))

    @cached_property
    def segments(self) -> list[tuple[int, int]]:
        """The pieces from and to that a task adds up of a column."""
        count = -(-FEWEST_TASKS // len(self.columns))
        nbytes = self.itemsize * prod(self.sample_shape) * max(map(cells_in, self.columns))
        count = max(1, min(count, nbytes // SEGMENT_BYTES, len(self.pieces) // 2))
        edges = np.linspace(0, len(self.pieces), count + 1).astype(int).tolist()
        return list(pairwise(edges))

    def rows(self, piece: int) -> np.ndarray | slice:
        """Return the numbers of the samples of a piece."""
        box = self.pieces[piece]
        if len(box) == 1:
            return slice(*box[0])
        index = np.ix_(*(np.arange(*span) for span in box))
        return np.ravel_multi_index(index, self.sample_shape).ravel()

    def block(self, piece: int, column: int, blocks: tuple[int, ...]) -> int:
        """Return the number of a block in a grid of this many blocks along each dimension, 1 where all share it."""
        pieces = np.unravel_index(piece, [len(edges) - 1 for edges in self.sample_edges])
        columns = np.unravel_index(column, [len(edges) - 1 for edges in self.cell_edges])
        index = []
        for i, count in zip((*pieces, *columns), blocks, strict=True):
            index.append(int(i) if count > 1 else 0)
        return int(np.ravel_multi_index(index, blocks))


def cells_in(box: Box) -> int:
    """Return the number of points of a box."""
    return prod(stop - start for start, stop in box)


def grid_of(
    sample_dims: tuple[str, ...],
    cell_dims: tuple[str, ...],
    sizes: dict[str, int],
    edges: dict[str, Edges] | None,
    itemsize: int,
) -> CellGrid:
    """Return the grid for a target whose chunks have these edges; None for one in memory."""
    if edges is None:
        edges = {d: range(size + 1) for d, size in sizes.items()}
        cells = together(cell_dims, edges, sizes, CELLS_IN_MEMORY, CELLS_IN_MEMORY)
    else:
        cells = together(cell_dims, edges, sizes, FEWEST_CELLS, FEWEST_CELLS)
    row_bytes = itemsize * max(1, prod(max(np.diff(along)) for along in cells))
    most = int(np.clip(PIECE_BYTES // row_bytes, FEWEST_ROWS, MOST_ROWS))
    samples = together(sample_dims, edges, sizes, FEWEST_ROWS, most)
    return CellGrid(sample_dims, cell_dims, samples, cells, itemsize)


def together(
    dims: tuple[str, ...],
    edges: dict[str, Edges],
    sizes: dict[str, int],
    fewest: int,
    most: int,
) -> tuple[tuple[int, ...], ...]:
    """Return edges along dimensions with chunks put together, the last dimension's first.

    There are ``fewest`` points between them at least, and no more than ``most`` unless a chunk has more.
    """
    inner = 1
    found = []
    for d in reversed(dims):
        size = sizes[d]
        need = min(size, -(-fewest // inner))
        along = grouped(edges[d], max(1, most // inner), need)
        inner *= min(size, longest(along))
        inside = [edge for edge in along if 0 < edge < size]
        found.append((0, *inside, size))
    return tuple(reversed(found))
