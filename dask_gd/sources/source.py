"""`Source`: rows of features, targets and weights, with fixed partitions. The ways to make one are in `opening`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ..errors import InvalidArgumentError
from ..kernels.base import FAN_IN_BYTES, GRAM_LIMIT, candidates, fan_in, sums_bytes
from ..kernels.block import RowFormat
from . import stores
from .blocks import Blocks, paired
from .column import Column
from .kinds import product_dtype
from .plan import Plan
from .present import Present
from .reader import Reader

#: Variables that a label names.
NAMED = 3


class TaskInput(NamedTuple):
    """The input of a source's tasks: the reader of its partitions, and blocks that are not read but given."""

    reader: Reader
    blocks: Blocks | None


@dataclass(frozen=True)
class Source:
    """Rows of features, targets and weights, with fixed partitions.

    Attributes
    ----------
    shape : (int, int)
        Rows and features.
    dtype : numpy.dtype
        In which products are taken: float32 for float32 and float16 features, else float64.
    outputs : int or None
        Columns of the target; None for a 1-D target (or one of shape (n, 1)).
    feature_names, output_names : tuple or None
    bounds : tuple of int
        Partition i holds rows ``bounds[i]`` to ``bounds[i + 1]``.
    """

    #: The columns by role: "x", and where there are such columns "y", "weight", "offset", "fold" and any others.
    by_role: dict[str, Column]
    bounds: tuple[int, ...]
    feature_names: tuple | None = None
    output_names: tuple | None = None
    #: The treatment of rows with NaN: "error" refuses them, "drop" leaves them out.
    nan: str = "error"
    #: The targets that are fitted, where others are NaN in all rows, see `targets`.
    present: Present | None = None
    #: The formula that the features are of, a `formula.design.Formula`; None where they are named or given.
    formula: Any = None

    @property
    def x(self) -> Column:
        """The features."""
        return self.by_role["x"]

    @property
    def y(self) -> Column:
        """The targets."""
        return self.by_role["y"]

    @property
    def has_target(self) -> bool:
        """Whether there are targets: rows to predict may come without."""
        return "y" in self.by_role

    @property
    def offset(self) -> Column | None:
        """The offsets, which are added to the rows' predictions."""
        return self.by_role.get("offset")

    @property
    def columns(self) -> tuple[Column, ...]:
        """All columns, the features first."""
        return tuple(self.by_role.values())

    def with_columns(self, **columns: Column | None) -> Source:
        """Return the source with these columns in place of its own, by role; None takes a column away.

        Raises
        ------
        InvalidArgumentError
            If tasks would not find the rows of the source's partitions in a column.
        """
        by_role: dict[str, Column] = {}
        for role, column in columns.items():
            # Blocks are paired by their number: others would give wrong rows without a word.
            if column is not None and not column.is_aligned(self.bounds):
                raise InvalidArgumentError(
                    f"The column {role!r} has the shape {column.shape} and other blocks than the source's "
                    f"{self.partitions} partitions of {self.shape[0]} rows: give column.aligned(source.bounds)."
                )
        for role, column in {**self.by_role, **columns}.items():
            if column is not None:
                by_role[role] = column
        return replace(self, by_role=by_role)

    @property
    def shape(self) -> tuple[int, int]:
        return self.bounds[-1] - self.bounds[0], self.x.shape[1]

    @property
    def dtype(self) -> np.dtype:
        return product_dtype(self.x.dtype)

    @property
    def row_format(self) -> RowFormat:
        """The format in which kernels take the features."""
        return self.x.row_format(self.dtype)

    @property
    def column_names(self) -> tuple | None:
        """The names of the columns that the features stand for: those of the features unless there are levels."""
        encoding = self.x.encoding
        if not getattr(self.x, "has_names", True):
            return None
        if encoding is None:
            return self.feature_names
        return tuple(column.name for column in encoding.columns)

    @property
    def outputs(self) -> int | None:
        if self.present is not None:
            return len(self.present.columns)
        if self.has_target and len(self.y.shape) == 2 and self.y.shape[1] > 1:
            return self.y.shape[1]
        return None

    @property
    def partitions(self) -> int:
        return len(self.bounds) - 1

    @property
    def sample_dims(self) -> tuple[str, ...] | None:
        """The dimensions whose points are the rows, of a Dataset."""
        return self.x.sample_dims

    @property
    def roles(self) -> dict[str, Any]:
        """The roles beside the features, by their arguments of `fit`: the names of a Dataset's variables, or True."""
        arguments = {"y": "target", "weight": "sample_weight", "offset": "offset"}
        roles = {}
        for role, column in self.by_role.items():
            if role in arguments:
                roles[arguments[role]] = column.variables
        return roles

    @property
    def target_attrs(self) -> dict[str, str]:
        """The attributes that describe the only target of a Dataset, its names and units."""
        return self.y.attrs

    @property
    def nbytes(self) -> int:
        """The decoded bytes that one pass reads."""
        return sum(column.nbytes(self.shape[0]) for column in self.columns)

    @property
    def materialised(self) -> tuple[Column, ...]:
        """The columns whose blocks are given to the tasks, in the order in which tasks take them."""
        return tuple(column for column in self.columns if column.for_tasks().takes_block)

    @cached_property
    def tasks(self) -> TaskInput:
        """The input of tasks, wherever they run."""
        return self._tasks(in_process=False)

    @cached_property
    def local_tasks(self) -> TaskInput:
        """The input of tasks that run in threads of this process: they read NumPy arrays where they are."""
        return self._tasks(in_process=True)

    def _tasks(self, in_process: bool) -> TaskInput:
        """Return the input of tasks, which may be in this process."""
        present = None
        if self.present is not None:
            present = self.present.columns
        return task_input(
            self.by_role,
            self.bounds,
            self.row_format,
            outputs=self.outputs or 1,
            drop=self.nan == "drop",
            present=present,
            in_process=in_process,
        )

    @property
    def reader(self) -> Reader:
        """The reader of the partitions for tasks, wherever they run."""
        return self.tasks.reader

    def plan(self) -> Plan:
        """Return the plan of one pass: tasks, bytes read, and memory, for the most demanding of the solvers.

        It is for a loss with a single prediction for each target. Sums of k classes are k times as large, and with
        their curvature, ``8 (p + 1)^2 k (k - 1) / 2`` bytes, larger still.

        Examples
        --------
        >>> print(dask_gd.open("data/flights.zarr", x="X", y="late").plan())
        30 partitions of at most 10,000 rows, at most 33 tasks a pass, 132.3 MB read in chunks of 4.4 MB,
        at most 24.1 MB of memory for each thread
        """
        p = self.shape[1]
        k = self.outputs or 1
        q = p + 1
        rows = int(np.diff(self.bounds).max())
        # The most candidates are those of a first step, which tries several lengths at once.
        curvatures = 0
        if q <= GRAM_LIMIT:
            curvatures = k
        sums = sums_bytes(q, k, candidates(q), curvatures)

        # The tasks of the partitions, and those of each level of the tree that adds up their sums.
        width = fan_in(sums)
        tasks = self.partitions
        level = self.partitions
        # A single partition has a node above it too.
        while level > 1 or tasks == self.partitions:
            level = -(-level // width)
            tasks += level

        # A thread's memory: the columns' buffers, the features in the dtype of the products, the kernel's blocks.
        buffers = sum(column.buffer_bytes for column in self.columns)
        row_format = self.row_format
        cast = 0
        if self.x.dtype != self.dtype:
            cast = row_format.nbytes(min(self.x.read_rows, rows))
        block = row_format.nbytes(row_format.block_rows)
        # Sums that wait to be added up: those of a node of the tree, their copies from other workers, or all if few.
        waiting = max(2 * width * sums, min(self.partitions * sums, 2 * FAN_IN_BYTES))
        return Plan(
            partitions=self.partitions,
            tasks=tasks,
            rows=rows,
            bytes_read=self.nbytes,
            chunk_bytes=self.x.chunk_bytes,
            memory=buffers + cast + 2 * block + 8 * sums + waiting,
        )

    def fingerprint(self) -> dict[str, str]:
        """Return strings that identify the data, by field.

        Paths and times are no part of them: a copy has the same fingerprint.
        """
        # The rows' shape and partitions decide the order of the sums, and with it their bits.
        fields = {
            "shape": str(self.shape),
            "dtype": str(self.x.dtype),
            "partitions": f"{self.partitions}:{_short(self.x.layout(self.bounds))}",
        }
        if self.nan != "error":
            fields["nan"] = self.nan
        for column in self.columns:
            fields[column.role] = column.content()
        return fields

    @property
    def known_whole(self) -> bool:
        """Return whether the fingerprint has every byte of the data, and not a sample of it."""
        return all(column.known_whole for column in self.columns)

    @property
    def kind(self) -> str:
        """The origin of the rows, in words."""
        return self.x.kind

    @property
    def label(self) -> str:
        """The names of the targets and the features, and where these are stored, as far as they have any.

        Examples
        --------
        >>> dask_gd.open("data/flights.zarr", x="X", y="late").label.partition(" in ")[0]
        'late from X'
        """
        names = [_names_of(column) for column in self.columns if column.role in ("y", "x")]
        text = " from ".join(reversed(names))
        if self.x.stored is not None:
            text += f" in {stores.place(self.x.stored)}"
        return text

    def __repr__(self) -> str:
        n, p = self.shape
        return f"<dask_gd.Source {n:,} rows x {p:,} features {self.dtype}, {self.partitions} partitions, {self.kind}>"

    def _repr_html_(self) -> str:
        from ..display.html import html_of_source

        return html_of_source(self)


def _names_of(column: Column) -> str:
    """Return the names of a column's variables, the first of many, or else of its array."""
    variables = column.variables
    if variables is True:
        return column.name
    if isinstance(variables, str):
        return variables
    names = ", ".join(map(str, variables[:NAMED]))
    if len(variables) > NAMED:
        names += f" and {len(variables) - NAMED:,} more"
    return names


def _short(layout: tuple) -> str:
    """Return a hash of a layout, which may have very many chunks."""
    return hashlib.blake2b(repr(layout).encode(), digest_size=8).hexdigest()


def task_input(
    by_role: dict[str, Column],
    bounds: tuple[int, ...],
    row_format: RowFormat,
    *,
    outputs: int = 0,
    drop: bool = False,
    present: tuple[int, ...] | None = None,
    in_process: bool = False,
) -> TaskInput:
    """Return the input of tasks that read the partitions of these columns, see `Reader`.

    ``in_process``: the tasks run in threads of this process.
    """
    in_tasks = {role: column.for_tasks(in_process) for role, column in by_role.items()}
    reader = Reader(
        bounds=bounds,
        row_format=row_format,
        outputs=outputs,
        columns=in_tasks,
        drop=drop,
        present=present,
    )
    # The reader takes the blocks in the order of the roles.
    given_as_blocks = [column for role, column in by_role.items() if in_tasks[role].takes_block]
    return TaskInput(reader, paired(given_as_blocks))
