"""`Source`, the ways to make one, and the checks that need no data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
import xarray as xr
import zarr

from ..errors import DataError, InvalidArgumentError, InvalidTypeError
from .dask import BlockRows, BoundRows
from .zarr import ZarrRows, thread_buffer

#: A partition is a task: large enough that the task's own cost is small beside it, small enough that
#: there are some tens of them to share out and to repeat after a worker's death.
PARTITION_BYTES = 128 << 20
PARTITIONS = 32


#: A column as a task reads it.
Column = ZarrRows | BoundRows


class Rows(NamedTuple):
    """Some consecutive rows in the shapes and dtypes that the kernel takes."""

    x: np.ndarray  # (n, p) float32 or float64
    y: np.ndarray  # (n, k) float64
    weight: np.ndarray | None  # (n,) float64
    start: int


@dataclass(frozen=True)
class Reader:
    """What a task needs to iterate over its partition; small, and pickled once for each worker and pass."""

    bounds: tuple[int, ...]
    dtype: np.dtype
    outputs: int
    #: x, y and weight; a str stands for a materialised block, which comes as an argument of the task.
    columns: tuple[ZarrRows | str | None, ...]

    def bind(self, partition: int, blocks: tuple[np.ndarray, ...]) -> tuple[Column, Column, Column | None]:
        """The columns of one partition, materialised ones bound to their block."""
        start, waiting = self.bounds[partition], iter(blocks)
        x, y, weight = (BoundRows(next(waiting), c, start) if isinstance(c, str) else c for c in self.columns)
        assert x is not None
        assert y is not None
        return x, y, weight

    def __call__(self, partition: int, *blocks: np.ndarray) -> Iterator[Rows]:
        """The partition's rows, a few chunks at a time; each Rows is valid until the next."""
        start, stop = self.bounds[partition : partition + 2]
        x, y, weight = self.bind(partition, blocks)
        target, row_weight = _Window(y), weight and _Window(weight)
        for a, b in x.windows(start, stop):
            yield Rows(
                _cast(x.read(a, b), self.dtype, "x"),
                _cast(target.read(a, b, stop), np.dtype(float), "y").reshape(b - a, self.outputs),
                _cast(row_weight.read(a, b, stop), np.dtype(float), "weight").reshape(b - a) if row_weight else None,
                a,
            )


class _Window:
    """Reads a narrow column in its own chunks and keeps the last: a chunk longer than x's is decoded once."""

    def __init__(self, column: Column):
        self.column, self.start, self.stop = column, 0, 0

    def read(self, start: int, stop: int, limit: int) -> np.ndarray:
        if start < self.start or stop > self.stop:
            ends = (end for _, end in self.column.windows(start, limit))
            self.start, self.stop = start, next(end for end in ends if end >= stop)
            self.data = self.column.read(start, self.stop)
        return self.data[start - self.start : stop - self.start]


def _cast(a: np.ndarray, dtype: np.dtype, role: str) -> np.ndarray:
    """C-contiguous, aligned and of the kernel's dtype: BLAS gives the same bits only for the same layout."""
    if a.dtype == dtype:
        return np.require(a, requirements=["C", "A"])
    out = thread_buffer(f"{role} cast", a.shape, dtype)
    np.copyto(out, a, casting="unsafe")
    return out


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

    x: ZarrRows | BlockRows
    y: ZarrRows | BlockRows
    weight: ZarrRows | BlockRows | None
    bounds: tuple[int, ...]
    feature_names: tuple | None = None
    output_names: tuple | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return self.bounds[-1] - self.bounds[0], self.x.shape[1]

    @property
    def dtype(self) -> np.dtype:
        kind, size = self.x.dtype.kind, self.x.dtype.itemsize
        return np.dtype(np.float32 if kind == "f" and size <= 4 else np.float64)

    @property
    def outputs(self) -> int | None:
        return self.y.shape[1] if len(self.y.shape) == 2 and self.y.shape[1] > 1 else None

    @property
    def partitions(self) -> int:
        return len(self.bounds) - 1

    @property
    def nbytes(self) -> int:
        """Decoded bytes that one pass reads."""
        return sum(
            self.shape[0] * int(np.prod(c.shape[1:])) * c.dtype.itemsize for c in (self.x, self.y, self.weight) if c
        )

    @property
    def blocks(self) -> tuple[BlockRows, ...]:
        """The materialised columns, in the order in which tasks take them."""
        return tuple(c for c in (self.x, self.y, self.weight) if isinstance(c, BlockRows))

    @property
    def reader(self) -> Reader:
        columns = tuple(c.role if isinstance(c, BlockRows) else c for c in (self.x, self.y, self.weight))
        return Reader(self.bounds, self.dtype, self.outputs or 1, columns)

    def fingerprint(self) -> dict[str, str]:
        """What identifies the data, by field. Paths and times are no part of it: a copy has the same fingerprint."""
        fields = {"shape": str(self.shape), "dtype": str(self.x.dtype), "partitions": _short(self.bounds)}
        for column in (self.x, self.y, self.weight):
            if column is not None:
                fields[column.role] = column.content()
        return fields

    def __repr__(self) -> str:
        n, p = self.shape
        kind = "streamed from Zarr" if isinstance(self.x, ZarrRows) else "Dask blocks"
        return f"<dask_gd.Source {n:,} rows x {p:,} features {self.dtype}, {self.partitions} partitions, {kind}>"


def _short(bounds: tuple[int, ...]) -> str:
    import hashlib

    return f"{len(bounds) - 1}:{hashlib.blake2b(repr(bounds).encode(), digest_size=8).hexdigest()}"


def open(
    path: str | os.PathLike | zarr.Group,
    *,
    x: str,
    y: str,
    sample_weight: str | None = None,
    rows: slice = slice(None),
    missing: str = "error",
) -> Source:
    """A source of rows from the arrays of a Zarr group.

    Parameters
    ----------
    path : path, URL or zarr.Group
    x, y, sample_weight : str
        Names of the arrays in the group: features (n, p), targets (n,) or (n, k), row weights (n,).
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
        A name that is not in the group, or lengths that differ.
    MissingChunkError
        With ``missing="error"``, where chunks are absent.

    Examples
    --------
    >>> source = dask_gd.open("data/flights.zarr", x="X", y="late", rows=slice(0, 240_000))
    >>> source.shape[0], source.dtype
    (240000, dtype('float32'))
    """
    try:
        group = path if isinstance(path, zarr.Group) else zarr.open_group(_location(path), mode="r")
    except (FileNotFoundError, zarr.errors.ContainsArrayError) as error:
        raise InvalidArgumentError(f"{path} is not a Zarr group.") from error
    if missing not in ("error", "fill"):
        raise InvalidArgumentError(f"missing={missing!r}: choose 'error' or 'fill'.")
    arrays = []
    for argument, name in (("x", x), ("y", y), ("sample_weight", sample_weight)):
        if name is not None and not isinstance(group.get(name), zarr.Array):
            names = sorted(key for key, _ in group.arrays())
            raise InvalidArgumentError(
                f"{argument}={name!r}: no such array in {path}; it has {', '.join(names) or 'none'}."
            )
        arrays.append(None if name is None else group[name])
    return make_source(*arrays, rows=rows, missing=missing)


def _location(path: str | os.PathLike) -> str:
    if "://" in str(path):
        return str(path)
    if not Path(path).exists():
        raise InvalidArgumentError(f"{path}: no such Zarr group.")
    return str(path)


def as_source(x: Any, y: Any = None, sample_weight: Any = None) -> Source:
    """A source from whatever `fit` accepts; see `fit`."""
    if isinstance(x, Source):
        if y is not None:
            raise InvalidArgumentError("y was given beside a Source, which has its own target; leave y out.")
        if sample_weight is None:
            return x
        if x.bounds[0] != 0 or x.bounds[-1] != x.x.shape[0]:
            raise InvalidArgumentError("sample_weight beside a Source of some rows: name it in dask_gd.open(...).")
        weight = as_rows(sample_weight, "sample_weight")
        _check_shapes(x.x, x.y, weight)
        _check_stored(weight, "error")
        return replace(x, weight=_align(weight, x.bounds))
    if y is None:
        raise InvalidArgumentError("fit(x, y) needs a target y, or a Source from dask_gd.open(path, x=..., y=...).")
    return make_source(x, y, sample_weight)


def make_source(x, y, sample_weight=None, *, rows: slice = slice(None), missing: str = "error") -> Source:
    """Check shapes and dtypes, align the columns and fix the partitions."""
    names, output_names = feature_names_of(x), None
    if isinstance(y, xr.DataArray) and y.ndim == 2:
        output_names = feature_names_of(y)
    columns = (
        as_rows(x, "x"),
        as_rows(y, "y"),
        None if sample_weight is None else as_rows(sample_weight, "sample_weight"),
    )
    x, y, weight = columns
    _check_shapes(x, y, weight)
    start, stop, step = rows.indices(x.shape[0])
    if step != 1 or start >= stop:
        raise InvalidArgumentError(f"rows={rows}: must be consecutive rows of {x.shape[0]}, at least one.")
    for column in columns:
        _check_stored(column, missing)
    bounds = _bounds(x, start, stop)
    if isinstance(x, BlockRows):
        x = _align(x, bounds)
    return Source(x, _align(y, bounds), weight and _align(weight, bounds), bounds, names, output_names)


def as_rows(a: Any, role: str) -> ZarrRows | BlockRows:
    """One column as streamed or materialised rows, its dtype checked."""
    if isinstance(a, xr.DataArray):
        a = a.data
    if isinstance(a, str | os.PathLike):
        raise InvalidTypeError(f"{role} is a path, {str(a)!r}: open it with dask_gd.open(path, x=..., y=...).")
    if not isinstance(a, zarr.Array | da.Array | np.ndarray):
        if not hasattr(a, "__array__"):
            raise InvalidTypeError(
                f"{role} is a {type(a).__name__}; it must be a dask, NumPy, xarray or Zarr array, or a dask_gd.Source."
            )
        a = np.asarray(a)
    if isinstance(a, np.ma.MaskedArray):
        raise InvalidTypeError(f"{role} is a masked array; give masked rows the sample_weight 0 and a finite value.")
    if a.dtype.kind not in "fiub":
        raise InvalidTypeError(
            f"{role} has dtype {a.dtype}; only real numbers can be fitted (float, int, uint, bool). "
            "Encode categories and times as numbers first."
        )
    if isinstance(a, zarr.Array):
        return ZarrRows(a, role)
    if isinstance(a, np.ndarray):
        row_bytes = max(1, int(np.prod(a.shape[1:])) * a.dtype.itemsize)
        # In memory there are no chunks to respect; a partition of 1 MiB is still much larger than its task.
        size = max(1, min(PARTITION_BYTES, max(1 << 20, a.nbytes // PARTITIONS)) // row_bytes)
        chunks = (size, *(-1,) * (a.ndim - 1))
        return BlockRows(da.from_array(a, chunks=chunks, name=False), role, a)
    if any(np.isnan(size) for axis in a.chunks for size in axis):
        raise InvalidArgumentError(
            f"{role} is a dask array with unknown chunk sizes; call {role}.compute_chunk_sizes() first."
        )
    return BlockRows(a, role)


def _check_shapes(x, y, weight) -> None:
    if len(x.shape) != 2:
        raise InvalidArgumentError(f"x must be 2-D, (rows, features); it has shape {x.shape}.")
    if len(y.shape) not in (1, 2):
        raise InvalidArgumentError(f"y must have shape (n,) or (n, outputs); it has {y.shape}.")
    if 0 in x.shape or 0 in y.shape:
        raise InvalidArgumentError(f"There is nothing to fit: x has shape {x.shape}, y {y.shape}.")
    if weight is not None and len(weight.shape) != 1:
        raise InvalidArgumentError(f"sample_weight must have shape (n,); it has {weight.shape}.")
    for name, column in (("y", y), ("sample_weight", weight)):
        if column is not None and column.shape[0] != x.shape[0]:
            raise InvalidArgumentError(f"x has {x.shape[0]} rows but {name} has {column.shape[0]}; they must agree.")


def _check_stored(column: ZarrRows | BlockRows | None, missing: str) -> None:
    """What can be known of stored chunks without decoding any."""
    if isinstance(column, ZarrRows):
        if missing == "error":
            column.check_chunks()
        column.note_unchecked()


def _bounds(x: ZarrRows | BlockRows, start: int, stop: int) -> tuple[int, ...]:
    """Rows at which partitions begin: runs of whole chunks or shards of a Zarr array, the blocks of a Dask array."""
    if isinstance(x, BlockRows):
        edges = np.cumsum([0, *(size for size in x.array.chunks[0] if size)])
        return tuple(int(edge) for edge in edges)
    first, last = start // x.unit, -(-stop // x.unit)
    unit_bytes = x.unit * x.shape[1] * x.dtype.itemsize
    units = max(1, min(PARTITION_BYTES // unit_bytes, (last - first) // PARTITIONS))
    return (start, *range((first + units) * x.unit, stop, units * x.unit), stop)


def _align(column: ZarrRows | BlockRows, bounds: tuple[int, ...]) -> ZarrRows | BlockRows:
    """The column with the partitions' rows: streamed rows are read by row anyway, blocks are rechunked."""
    if isinstance(column, ZarrRows):
        return column
    column = replace(column, array=column.array[bounds[0] : bounds[-1]])
    return column.aligned(tuple(int(size) for size in np.diff(bounds)))


def feature_names_of(x: Any) -> tuple | None:
    """Names along the second axis: a Zarr attribute, an xarray coordinate or a data frame's columns."""
    if isinstance(x, zarr.Array):
        names: Any = x.attrs.get("feature_names")
    elif isinstance(x, xr.DataArray):
        names = x.coords[x.dims[1]].values.tolist() if x.ndim == 2 and x.dims[1] in x.coords else None
    else:
        names = getattr(x, "columns", None)
    if names is None:
        return None
    names = tuple(str(name) for name in names)
    width = x.shape[1] if len(x.shape) == 2 else 0
    if len(names) != width:
        raise DataError(f"There are {len(names)} feature names for {width} features.")
    return names
