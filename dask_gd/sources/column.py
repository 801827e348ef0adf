"""A column of a source: the origin of the values of a role, and the ways in which tasks get them.

A source has a column for each role: the features, the targets, row weights, and whatever else has a value in each row.
The protocols of a column are here, so that no other module needs to know which kind of column it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol, Self

import dask.array as da
import numpy as np
import xarray as xr

from ..kernels.block import RowFormat
from ..kernels.dense import DenseRows
from .encoding import Encoding

#: Gives memory of a shape and a dtype in which rows may stay; None where there is none left.
Room = Callable[[tuple[int, ...], np.dtype], np.ndarray | None]


class TaskColumn(Protocol):
    """A column inside a task, addressed by the row numbers of the whole array."""

    @property
    def role(self) -> str:
        """The role in the source, which also names the memory that the rows are read into."""
        ...

    @property
    def name(self) -> str:
        """The name of the array, for messages."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the values."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array, of which only the row's is used: ``shape[1:]``."""
        ...

    @property
    def ahead(self) -> int:
        """The number of windows to ask for before they are needed; 0 where they are at hand."""
        ...

    def windows(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield the windows, rows that are read at a time, that ``start`` to ``stop`` are cut into."""
        ...

    def nbytes(self, rows: int) -> int:
        """Return the bytes of this number of rows, as they are read."""
        ...

    def room(self, rows: int, memory: Room) -> Any:
        """Return memory for this number of rows, which `read` takes as ``out``; None where ``memory`` has none."""
        ...

    def read(self, start: int, stop: int, out: Any = None) -> Any:
        """Return rows, in ``out`` if it is given; else they are valid until this thread next reads the same role.

        They are an array, or what the column's row format takes in its place.
        """
        ...

    def where(self, row: int, column: int = 0) -> str:
        """Return the place of a value, for messages about it."""
        ...


class ColumnInTasks(Protocol):
    """A column's substitute that travels to the tasks, where a `TaskColumn` is made of it."""

    @property
    def takes_block(self) -> bool:
        """Return whether the values come to the task as a block, one for each partition."""
        ...

    @property
    def worth_keeping(self) -> bool:
        """Return whether reading the values costs more than to keep a copy between passes."""
        ...

    @property
    def needs_zarr(self) -> bool:
        """Return whether it holds a Zarr array, which another version of zarr cannot load."""
        ...

    def bind(self, block: Any, partition: int, start: int) -> TaskColumn:
        """Return the column of a partition, whose first row is ``start``; ``block`` is None if it takes no block."""
        ...


class Column(Protocol):
    """One column of a source, on the client."""

    @property
    def kind(self) -> str:
        """The origin of the values, in words."""
        ...

    @property
    def role(self) -> str:
        """The name of the role as users know it: "x", "y", "sample_weight", ..."""
        ...

    @property
    def name(self) -> str:
        """The name of the array, for messages."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows,) or (rows, width)."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the values."""
        ...

    def row_format(self, dtype: np.dtype) -> RowFormat:
        """Return how tasks have its rows where they are the features, and products are taken in this dtype."""
        ...

    @property
    def encoding(self) -> Encoding | None:
        """The columns of numbers and codes that it reads; None where it reads the features themselves."""
        ...

    @property
    def parts(self) -> tuple[Column, ...]:
        """The columns that it is made of, itself if it is not made of others."""
        ...

    # The layout of the rows in chunks and partitions.

    @property
    def read_rows(self) -> int:
        """The largest number of rows that a task has in memory at a time."""
        ...

    @property
    def chunk_bytes(self) -> int:
        """The bytes of the largest chunk or block, decoded."""
        ...

    @property
    def buffer_bytes(self) -> int:
        """The bytes of memory that a thread needs to read it, at most."""
        ...

    def nbytes(self, rows: int) -> int:
        """Return the decoded bytes that a pass over this number of rows reads."""
        ...

    def partition_bounds(self, start: int, stop: int) -> tuple[int, ...]:
        """Return where partitions of these rows begin, and the end of the last, if this column decides."""
        ...

    def layout(self, bounds: tuple[int, ...]) -> tuple:
        """Return the sizes from which the order of the rows and the partitions follow."""
        ...

    def is_aligned(self, bounds: tuple[int, ...]) -> bool:
        """Return whether tasks find the rows of these partitions in it."""
        ...

    def aligned(self, bounds: tuple[int, ...]) -> Column:
        """Return the column with the rows of these partitions."""
        ...

    # The ways in which tasks and callers get its values.

    def for_tasks(self, in_process: bool = False) -> ColumnInTasks:
        """Return the substitute that travels to the tasks; ``in_process``: they run in threads of this process."""
        ...

    def blocks(self) -> da.Array | None:
        """Return the values as blocks for `map_blocks`, one for each partition; None where tasks read them."""
        ...

    @property
    def memory(self) -> np.ndarray | None:
        """The NumPy array behind it, with all of its rows; None if the values are no NumPy array."""
        ...

    @property
    def stored(self) -> Any:
        """The Zarr array that tasks read; None if they read none."""
        ...

    def positions(self, start: int, stop: int) -> tuple[int, int]:
        """Return where in the stored array the values of rows are, first and end."""
        ...

    def lazy_rows(self, start: int, stop: int) -> da.Array:
        """Return the rows of an aligned column as a Dask array."""
        ...

    def persisted(self) -> Column | None:
        """Return the column with its arrays in memory sent to the cluster; None where no array is in memory."""
        ...

    @property
    def persistent(self) -> list[da.Array]:
        """The arrays that `persisted` gives to the cluster."""
        ...

    # Checks that need no values, and the identity of the values.

    def check(self, missing: str, start: int, stop: int) -> None:
        """Refuse faults that show before a value is read; ``missing`` says whether chunks may be absent."""
        ...

    def check_sendable(self) -> None:
        """Refuse a store that the workers of the active cluster cannot be sent."""
        ...

    def content(self) -> str:
        """Return a hash that identifies the values."""
        ...

    @property
    def known_whole(self) -> bool:
        """Return whether `content` has all of the values."""
        ...

    # Properties of a Dataset's variables, with values that stand for none where it is another column.

    @property
    def sample_dims(self) -> tuple[str, ...] | None:
        """The dimensions whose points are the rows; None if it is no Dataset's."""
        ...

    @property
    def variables(self) -> Any:
        """The name of the variable, or a list of names; True if it is no Dataset's."""
        ...

    @property
    def dataset(self) -> xr.Dataset | None:
        """The Dataset with all of the sample dimensions and their coordinates; None if it is no Dataset's."""
        ...

    @property
    def attrs(self) -> dict[str, str]:
        """The attributes that describe the variable, its names and units, where it is the only variable."""
        ...

    @property
    def fields(self) -> Any:
        """The layout of the variables in the grid of the sample dimensions, a `DatasetSpec`; None if it is none's."""
        ...

    @property
    def arrays(self) -> tuple[da.Array, ...]:
        """The variables as they lie in their own dimensions, packed where they are; none if it is no Dataset's."""
        ...


class ArrayColumn:
    """The part that columns have in common that are arrays, and no variables of a Dataset."""

    @property
    def shape(self) -> tuple[int, ...]:
        raise NotImplementedError

    @property
    def dtype(self) -> np.dtype:
        raise NotImplementedError

    @property
    def sample_dims(self) -> tuple[str, ...] | None:
        return None

    @property
    def variables(self) -> Any:
        return True

    @property
    def dataset(self) -> xr.Dataset | None:
        return None

    @property
    def attrs(self) -> dict[str, str]:
        return {}

    @property
    def fields(self) -> Any:
        return None

    @property
    def arrays(self) -> tuple[da.Array, ...]:
        return ()

    @property
    def stored(self) -> Any:
        return None

    @property
    def encoding(self) -> Encoding | None:
        return None

    @property
    def parts(self) -> tuple[Any, ...]:
        return (self,)

    def positions(self, start: int, stop: int) -> tuple[int, int]:
        """Return the rows' numbers."""
        return start, stop

    def room(self, rows: int, memory: Room) -> Any:
        """Return memory for rows of an array."""
        return memory((rows, *self.shape[1:]), self.dtype)

    def layout(self, bounds: tuple[int, ...]) -> tuple:
        return bounds

    def row_format(self, dtype: np.dtype) -> RowFormat:
        """Return the format of dense rows."""
        return DenseRows(dtype, self.shape[1])


class StreamedColumn(ArrayColumn):
    """The part that columns have in common whose rows tasks read from Zarr themselves, by their numbers."""

    takes_block = False
    needs_zarr = True

    def is_aligned(self, bounds: tuple[int, ...]) -> bool:
        """Return whether tasks find the rows of these partitions in it."""
        return self.shape[0] >= bounds[-1]

    def aligned(self, bounds: tuple[int, ...]) -> Self:
        """Return the column as it is: its rows are read by their numbers."""
        return self

    def for_tasks(self, in_process: bool = False) -> Self:
        """Return the column itself, which tasks read."""
        return self

    def bind(self, block: Any, partition: int, start: int) -> Any:
        """Return the column itself: it is the same in all partitions."""
        return self

    def blocks(self) -> None:
        """Return nothing: tasks read the chunks."""
        return None

    @property
    def memory(self) -> None:
        return None

    def persisted(self) -> None:
        """Return nothing: there is nothing in memory."""
        return None

    @property
    def persistent(self) -> list[da.Array]:
        return []
