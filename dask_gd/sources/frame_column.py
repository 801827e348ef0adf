"""Columns of a data frame as columns of a source: numbers, and codes in place of levels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..kernels.block import RowFormat
from ..kernels.dense import DenseRows
from .column import ColumnInTasks
from .dask_column import BoundRows, DaskColumn, GivenBlocks
from .encoding import Encoding
from .levels import with_reference_levels


@dataclass(frozen=True)
class FrameColumn(DaskColumn):
    """Some columns of a data frame, of all their rows: an array (n, columns) or (n,)."""

    kind = "columns of a data frame"

    #: The columns' names.
    names: tuple[str, ...] = ()
    #: Whether the frame has texts for names, as features that are told apart by names have.
    has_names: bool = True
    #: The levels that codes stand for; None where all are numbers.
    levels: Encoding | None = field(default=None, repr=False)
    #: The encoding of the codes, where this has a code for unknown levels beside the levels, see `coding.lenient`.
    coded_as: Encoding | None = field(default=None, repr=False)
    #: Whether there is a reference level in each factor if there is no penalty, see `Categories`.
    drops: bool = False

    @property
    def encoding(self) -> Encoding | None:
        return self.levels

    def with_levels(self, encoding: Encoding) -> FrameColumn:
        """Return the column with the encoding of a fit, which has decided which levels have a feature."""
        return replace(self, levels=encoding, drops=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and features, which are not written out."""
        if self.levels is None:
            return self.array.shape
        return self.array.shape[0], self.levels.row_format.features

    @property
    def width(self) -> int:
        """The columns of the array."""
        return int(np.prod(self.array.shape[1:]))

    @property
    def variables(self) -> Any:
        """The names of the columns, or the name where there is a single one without an axis."""
        if self.array.ndim == 1:
            return self.names[0]
        return list(self.names)

    def row_format(self, dtype: np.dtype) -> RowFormat:
        """Return the format of numbers and codes, or of dense rows where all are numbers."""
        if self.levels is None:
            return DenseRows(dtype, self.shape[1])
        if self.coded_as is not None:
            return self.coded_as.row_format
        return self.levels.row_format

    def nbytes(self, rows: int) -> int:
        """Return the bytes of this number of rows."""
        return rows * self.width * self.dtype.itemsize

    @property
    def buffer_bytes(self) -> int:
        """The bytes of memory that a thread needs at most: a block, and the frame's columns that it is made of."""
        return 3 * self.nbytes(max(self.array.chunks[0]))

    def for_tasks(self, in_process: bool = False) -> ColumnInTasks:
        """Return the NumPy array if tasks of this process can read it where it is, else a substitute for blocks."""
        if in_process and self.memory is not None:
            return NamedRows(self.memory, self.role, 0, whole=True, names=self.names)
        return NamedBlocks(self.role, self.names)

    def content(self) -> str:
        """Return a hash of the values, and of the levels that codes stand for."""
        # The same codes stand for other rows where the levels are others.
        total = hashlib.blake2b(digest_size=16)
        total.update(repr((self.names, self.levels)).encode())
        total.update(super().content().encode())
        return total.hexdigest()


@dataclass(frozen=True)
class NamedBlocks(GivenBlocks):
    """The substitute that travels to tasks in place of a frame's blocks, with the names of its columns."""

    names: tuple[str, ...] = ()

    def bind(self, block: np.ndarray, partition: int, start: int) -> NamedRows:
        """Return a partition's block as the rows from ``start`` on."""
        return NamedRows(block, self.role, start, names=self.names)


@dataclass(frozen=True)
class NamedRows(BoundRows):
    """Rows of a frame in a task, whose columns have names."""

    names: tuple[str, ...] = ()

    def where(self, row: int, column: int = 0) -> str:
        """Return the block and the name of a value's column, for messages about it."""
        return f"{super().where(row, column)} ({self.names[column]!r})"


def encoding_in_fit(column: Any, is_penalised: bool, fit_intercept: bool) -> Encoding | None:
    """Return the encoding of features in a fit: with a reference level for each factor where there is no penalty."""
    encoding = column.encoding
    if encoding is None or is_penalised or not getattr(column, "drops", False):
        return encoding
    return with_reference_levels(encoding, fit_intercept)
