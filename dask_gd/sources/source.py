"""`Source`, and the ways to make one."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
import zarr

from ..errors import InvalidArgumentError
from ..kernels.base import FAN_IN_BYTES, GRAM_LIMIT, block_rows, candidates, fan_in, sums_bytes
from .blocks import Blocks, paired
from .column import Column
from .columns import as_rows, check_coordinates, check_shapes, feature_names_of
from .dataset_column import dataset_columns
from .kinds import product_dtype
from .metadata import named_array, understood
from .plan import Plan
from .present import Present
from .reader import Reader


class TaskInput(NamedTuple):
    """What the tasks of a source's passes need: how to read its partitions, and blocks that are not read but given."""

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

    #: The columns by role: "x", "y", and where they are given "weight", "offset", "fold" and any others.
    by_role: dict[str, Column]
    bounds: tuple[int, ...]
    feature_names: tuple | None = None
    output_names: tuple | None = None
    #: What a row with NaN is: an "error", or one to "drop".
    nan: str = "error"
    #: The targets that are fitted, where others are NaN in all rows, see `targets`.
    present: Present | None = None

    @property
    def x(self) -> Column:
        """The features."""
        return self.by_role["x"]

    @property
    def y(self) -> Column:
        """The targets."""
        return self.by_role["y"]

    @property
    def offset(self) -> Column | None:
        """What is added to the rows' predictions."""
        return self.by_role.get("offset")

    @property
    def columns(self) -> tuple[Column, ...]:
        """All columns, the features first."""
        return tuple(self.by_role.values())

    def with_columns(self, **columns: Column | None) -> Source:
        """Return the source with these columns in place of its own, by role; None takes a column away."""
        changed = {**self.by_role, **columns}
        return replace(self, by_role={role: column for role, column in changed.items() if column is not None})

    @property
    def shape(self) -> tuple[int, int]:
        return self.bounds[-1] - self.bounds[0], self.x.shape[1]

    @property
    def dtype(self) -> np.dtype:
        return product_dtype(self.x.dtype)

    @property
    def outputs(self) -> int | None:
        if self.present is not None:
            return len(self.present.columns)
        if len(self.y.shape) == 2 and self.y.shape[1] > 1:
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
        """What there is beside the features, by its argument of `fit`: the names of a Dataset's variables, or True."""
        arguments = {"y": "target", "weight": "sample_weight", "offset": "offset"}
        return {arguments[role]: column.variables for role, column in self.by_role.items() if role in arguments}

    @property
    def target_attrs(self) -> dict[str, str]:
        """What the only target of a Dataset is called, and its units."""
        return self.y.attrs

    @property
    def nbytes(self) -> int:
        """Decoded bytes that one pass reads."""
        return sum(column.nbytes(self.shape[0]) for column in self.columns)

    @property
    def materialised(self) -> tuple[Column, ...]:
        """The columns whose blocks are given to the tasks, in the order in which tasks take them."""
        return tuple(column for column in self.columns if column.for_tasks().takes_block)

    @cached_property
    def tasks(self) -> TaskInput:
        """What tasks need, wherever they run."""
        return self._tasks(in_process=False)

    @cached_property
    def local_tasks(self) -> TaskInput:
        """What tasks need that run in threads of this process: they read NumPy arrays where they are."""
        return self._tasks(in_process=True)

    def _tasks(self, in_process: bool) -> TaskInput:
        in_tasks = {role: column.for_tasks(in_process) for role, column in self.by_role.items()}
        reader = Reader(
            bounds=self.bounds,
            dtype=self.dtype,
            features=self.shape[1],
            outputs=self.outputs or 1,
            columns=in_tasks,
            drop=self.nan == "drop",
            present=None if self.present is None else self.present.columns,
        )
        given = [column for role, column in self.by_role.items() if in_tasks[role].takes_block]
        return TaskInput(reader, paired(given))

    @property
    def reader(self) -> Reader:
        """How tasks read the partitions, wherever they run."""
        return self.tasks.reader

    def plan(self) -> Plan:
        """What one pass takes: tasks, bytes read, and memory, for the most demanding of the solvers.

        Of a loss with a single prediction for each target. Sums of k classes are k times as large, and with their
        curvature, ``8 (p + 1)^2 k (k - 1) / 2`` bytes, larger still.

        Examples
        --------
        >>> print(dask_gd.open("data/flights.zarr", x="X", y="late").plan())
        30 partitions of at most 10,000 rows, at most 33 tasks a pass, 132.3 MB read in chunks of 4.4 MB,
        at most 23.0 MB of memory for each thread
        """
        p = self.shape[1]
        k = self.outputs or 1
        q = p + 1
        rows = int(np.diff(self.bounds).max())
        # A first step tries several lengths at once, of wide weights the fewest.
        sums = sums_bytes(q, k, candidates(q), k if q <= GRAM_LIMIT else 0)
        width = fan_in(sums)
        tasks = self.partitions
        level = self.partitions
        while level > 1 or tasks == self.partitions:
            level = -(-level // width)
            tasks += level
        window = self.x.read_rows
        cast = 0
        if self.x.dtype != self.dtype:
            cast = min(window, rows) * p * self.dtype.itemsize
        block = block_rows(p, self.dtype.itemsize) * p * self.dtype.itemsize
        # Sums that wait to be added up: those of a node of the tree, their copies from other workers, or all if few.
        waiting = max(2 * fan_in(sums) * sums, min(self.partitions * sums, 2 * FAN_IN_BYTES))
        memory = sum(column.buffer_bytes for column in self.columns) + cast + 2 * block + 8 * sums + waiting
        return Plan(self.partitions, tasks, rows, self.nbytes, self.x.chunk_bytes, memory)

    def fingerprint(self) -> dict[str, str]:
        """What identifies the data, by field. Paths and times are no part of it: a copy has the same fingerprint."""
        partitions = f"{self.partitions}:{_short(self.x.layout(self.bounds))}"
        fields = {"shape": str(self.shape), "dtype": str(self.x.dtype), "partitions": partitions}
        if self.nan != "error":
            fields["nan"] = self.nan
        for column in self.columns:
            fields[column.role] = column.content()
        return fields

    @property
    def known_whole(self) -> bool:
        """Whether the fingerprint has every byte of the data, and not a sample of it."""
        return all(column.known_whole for column in self.columns)

    @property
    def kind(self) -> str:
        """Where the rows come from, in words."""
        return self.x.kind

    def __repr__(self) -> str:
        n, p = self.shape
        return f"<dask_gd.Source {n:,} rows x {p:,} features {self.dtype}, {self.partitions} partitions, {self.kind}>"

    def _repr_html_(self) -> str:
        from ..display.html import html_of_source

        return html_of_source(self)


def _short(cut: tuple) -> str:
    import hashlib

    return hashlib.blake2b(repr(cut).encode(), digest_size=8).hexdigest()


def open(
    path: str | os.PathLike | zarr.Group | xr.Dataset,
    *,
    x: str | None = None,
    y: str | None = None,
    features: Any = None,
    target: Any = None,
    sample_dims: Any = None,
    sample_weight: Any = None,
    offset: Any = None,
    rows: slice = slice(None),
    missing: str = "error",
) -> Source:
    """A source of rows from the arrays of a Zarr group, or the variables of an xarray Dataset.

    Parameters
    ----------
    path : path, URL, zarr.Group or xarray.Dataset
    x, y, sample_weight, offset : str
        Names of the arrays in the group: features (n, p), targets (n,) or (n, k), row weights (n,), offsets (n,).
    features, target, sample_dims, sample_weight, offset
        Of a Dataset, see `fit`. The arguments below are for groups; of a Dataset select with its own ``isel``.
    rows : slice
        Consecutive rows to use, such as ``slice(0, 240_000)`` for training and the rest for testing.
    missing : {"error", "fill"}
        What to do about a chunk that is not in the store: refuse, or take it as the array's fill value, which is right
        where the writer dropped chunks that hold nothing else.

    Returns
    -------
    Source
        Features are named by ``x``'s attribute ``feature_names``, where it has one.

    Raises
    ------
    InvalidArgumentError
        A name that is not in the group or the Dataset, lengths that differ, dimensions that are no sample dimensions.
    InvalidTypeError
        A variable that holds no real numbers.
    MissingChunkError
        With ``missing="error"``, where chunks are absent.

    Examples
    --------
    >>> source = dask_gd.open("data/flights.zarr", x="X", y="late", rows=slice(0, 240_000))
    >>> source.shape[0], source.dtype
    (240000, dtype('float32'))
    """
    if isinstance(path, xr.Dataset):
        if (x, y, rows, missing) != (None, None, slice(None), "error"):
            raise InvalidArgumentError(
                "x, y, rows and missing are for Zarr groups; of a Dataset give features, target and sample_dims, and "
                "select with dataset.isel(...)."
            )
        return dataset_source(path, features, target, sample_dims, sample_weight, offset)
    _only_beside_dataset(features=features, target=target, sample_dims=sample_dims)
    if x is None or y is None:
        raise InvalidArgumentError("open(group, ...) needs the names of its arrays: x='...', y='...'.")
    try:
        with understood(f"group {path}", OSError, ImportError, zarr.errors.ContainsArrayError):
            if isinstance(path, zarr.Group):
                group = path
            else:
                group = zarr.open_group(_location(path), mode="r")
    except (FileNotFoundError, zarr.errors.ContainsArrayError) as error:
        raise InvalidArgumentError(f"{path} is not a Zarr group.") from error
    if missing not in ("error", "fill"):
        raise InvalidArgumentError(f"missing={missing!r}: choose 'error' or 'fill'.")
    arrays = []
    for argument, name in (("x", x), ("y", y), ("sample_weight", sample_weight), ("offset", offset)):
        arrays.append(None if name is None else named_array(group, argument, name, path))
    return make_source(*arrays, rows=rows, missing=missing)


def _location(path: str | os.PathLike) -> str:
    if "://" in str(path):
        return str(path)
    if not Path(path).exists():
        raise InvalidArgumentError(f"{path}: no such Zarr group.")
    # Workers may run in another directory.
    return os.path.abspath(path)


def as_source(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    features: Any = None,
    target: Any = None,
    sample_dims: Any = None,
    offset: Any = None,
    nan: str = "error",
    fold: Any = None,
) -> Source:
    """A source from whatever `fit` accepts; see `fit`. ``fold`` is for a Dataset, as ``sample_weight`` is."""
    if nan not in ("error", "drop"):
        raise InvalidArgumentError(f"nan={nan!r}: choose 'error' or 'drop'.")
    if isinstance(x, xr.Dataset):
        if y is not None:
            raise InvalidArgumentError("y was given beside a Dataset; name its variable: target='...'.")
        source = dataset_source(x, features, target, sample_dims, sample_weight, offset, fold)
    else:
        _only_beside_dataset(features=features, target=target, sample_dims=sample_dims)
        source = _as_source(x, y, sample_weight, offset)
        for column in source.columns:
            column.check_sendable()
    if nan == "drop":
        return replace(source, nan="drop")
    return source


def dataset_source(
    dataset: xr.Dataset,
    features: Any,
    target: Any,
    sample_dims: Any,
    sample_weight: Any,
    offset: Any,
    fold: Any = None,
) -> Source:
    """A source from the variables of a dataset, see `fit`."""
    columns = dataset_columns(dataset, features, target, sample_dims, sample_weight, offset, fold)
    x = columns["x"]
    targets = columns["y"].fields.names
    return Source(
        {**columns},
        bounds=x.partition_bounds(0, x.shape[0]),
        feature_names=x.fields.names,
        output_names=None if isinstance(target, str) else targets,
    )


def _only_beside_dataset(**given: Any) -> None:
    for name, value in given.items():
        if value is not None:
            raise InvalidArgumentError(f"{name}={value!r} is for an xarray.Dataset; the data is none.")


def _as_source(x: Any, y: Any, sample_weight: Any, offset: Any) -> Source:
    if isinstance(x, Source):
        if y is not None:
            raise InvalidArgumentError("y was given beside a Source, which has its own target; leave y out.")
        beside = {"weight": ("sample_weight", sample_weight), "offset": ("offset", offset)}
        for role, (argument, values) in beside.items():
            if values is not None:
                x = x.with_columns(**{role: _beside_source(x, role, argument, values)})
        return x
    if y is None:
        raise InvalidArgumentError("fit(x, y) needs a target y, or a Source from dask_gd.open(path, x=..., y=...).")
    return make_source(x, y, sample_weight, offset)


def make_source(x, y, sample_weight=None, offset=None, *, rows: slice = slice(None), missing: str = "error") -> Source:
    """Check shapes and dtypes, align the columns and fix the partitions."""
    names = feature_names_of(x)
    output_names = None
    check_coordinates(x=x, y=y, sample_weight=sample_weight, offset=offset)
    if (isinstance(y, xr.DataArray) and y.ndim == 2) or (hasattr(y, "columns") and len(y.shape) == 2):
        output_names = feature_names_of(y)
    # Each role with the values that were given for it, and what its argument is called.
    given = {"x": (x, "x"), "y": (y, "y"), "weight": (sample_weight, "sample_weight"), "offset": (offset, "offset")}
    columns: dict[str, Column] = {
        role: as_rows(values, argument, missing) for role, (values, argument) in given.items() if values is not None
    }
    rows_of_x = columns["x"].shape[0]
    check_shapes(columns["x"], columns["y"], columns.get("weight"), columns.get("offset"))
    start, stop, step = rows.indices(rows_of_x)
    if step != 1 or start >= stop:
        raise InvalidArgumentError(f"rows={rows}: must be consecutive rows of {rows_of_x}, at least one.")
    for column in columns.values():
        column.check(missing, start, stop)
    # The features decide where partitions begin, and the other columns follow.
    bounds = columns["x"].partition_bounds(start, stop)
    aligned = {role: column.aligned(bounds) for role, column in columns.items()}
    return Source(aligned, bounds, feature_names=names, output_names=output_names)


def _beside_source(source: Source, role: str, argument: str, values: Any) -> Column:
    """Return row weights or offsets that were given beside a source as a column of it."""
    if source.sample_dims is not None:
        raise InvalidArgumentError(f"{argument} beside a Source of a Dataset: give it beside the Dataset.")
    rows = source.x.shape[0]
    if source.bounds[0] != 0 or source.bounds[-1] != rows:
        raise InvalidArgumentError(f"{argument} beside a Source of some rows: name it in dask_gd.open(...).")
    column: Column = as_rows(values, argument)
    check_shapes(source.x, source.y, **{role: column})
    column.check("error", 0, rows)
    return column.aligned(source.bounds)
