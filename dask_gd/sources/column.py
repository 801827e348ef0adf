"""A column of a source: where the values of one role come from, and how tasks get them.

A source has a column for each role: the features, the targets, row weights, and whatever else there is a value of for
each row. What is asked of a column is here, so that nothing else needs to know which kind of column it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import dask.array as da
import numpy as np
import xarray as xr


class TaskColumn(Protocol):
    """A column inside a task, addressed by the row numbers of the whole array."""

    @property
    def role(self) -> str:
        """What it is to the user, which names the memory that its rows are read into."""
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
        """How many windows to ask for before they are needed; 0 where they are at hand."""
        ...

    def windows(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield ``start`` to ``stop`` cut into rows that are read at a time."""
        ...

    def read(self, start: int, stop: int, out: np.ndarray | None = None) -> np.ndarray:
        """Return rows, valid until this thread next reads the same role; or those in ``out``, if it is given."""
        ...

    def where(self, row: int, column: int = 0) -> str:
        """Return the place of a value, for messages about it."""
        ...


class ColumnInTasks(Protocol):
    """What travels to the tasks in place of a column: how a task makes a `TaskColumn` of it."""

    @property
    def takes_block(self) -> bool:
        """The values come to the task as a block, one for each partition."""
        ...

    @property
    def worth_keeping(self) -> bool:
        """Reading the values costs more than to keep a copy between passes."""
        ...

    @property
    def needs_zarr(self) -> bool:
        """It holds a Zarr array, which another version of zarr cannot load."""
        ...

    def bind(self, block: Any, partition: int, start: int) -> TaskColumn:
        """Return the column of one partition, whose first row is ``start``; ``block`` is None if it takes none."""
        ...


class Column(Protocol):
    """One column of a source, on the client."""

    @property
    def kind(self) -> str:
        """Where the values come from, in words."""
        ...

    @property
    def role(self) -> str:
        """What it is to the user: "x", "y", "sample_weight", ..."""
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

    # How it is laid out.

    @property
    def read_rows(self) -> int:
        """Rows that a task has in memory at a time, at most."""
        ...

    @property
    def chunk_bytes(self) -> int:
        """Bytes of the largest chunk or block, decoded."""
        ...

    @property
    def buffer_bytes(self) -> int:
        """Memory that a thread needs to read it, at most."""
        ...

    def nbytes(self, rows: int) -> int:
        """Return the decoded bytes that a pass over so many rows reads."""
        ...

    def partition_bounds(self, start: int, stop: int) -> tuple[int, ...]:
        """Return where partitions of these rows begin, and the end of the last, if this column decides."""
        ...

    def layout(self, bounds: tuple[int, ...]) -> tuple:
        """Return what the order of the rows and the partitions follow from."""
        ...

    def aligned(self, bounds: tuple[int, ...]) -> Column:
        """Return the column with the rows of these partitions."""
        ...

    # How tasks and callers get its values.

    def for_tasks(self, in_process: bool = False) -> ColumnInTasks:
        """Return what travels to the tasks; ``in_process``: they run in threads of this process."""
        ...

    def blocks(self) -> da.Array | None:
        """Return the values as blocks for `map_blocks`, one for each partition; None where tasks read them."""
        ...

    @property
    def memory(self) -> np.ndarray | None:
        """The NumPy array behind it, with all of its rows; None if there is none."""
        ...

    def lazy_rows(self, start: int, stop: int) -> da.Array:
        """Return the rows of an aligned column as a Dask array."""
        ...

    def persisted(self) -> Column | None:
        """Return the column with what is in memory given to the cluster; None where nothing is."""
        ...

    @property
    def persistent(self) -> list[da.Array]:
        """The arrays that `persisted` gives to the cluster."""
        ...

    # What is known of it.

    def check(self, missing: str, start: int, stop: int) -> None:
        """Refuse what can be known to be wrong before a value is read; ``missing`` says whether chunks may be."""
        ...

    def check_sendable(self) -> None:
        """Refuse a store that the workers of the active cluster cannot be sent."""
        ...

    def content(self) -> str:
        """Return a hash that identifies the values."""
        ...

    @property
    def known_whole(self) -> bool:
        """Whether `content` has all of the values."""
        ...

    # Of variables of a Dataset.

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
        """What the variable is called, and its units, where it is the only one."""
        ...


class ArrayColumn:
    """What columns have in common that are arrays, and no variables of a Dataset."""

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

    def layout(self, bounds: tuple[int, ...]) -> tuple:
        return bounds
