"""Rows that are to be hashed, in partitions: from files, data frames, bags, arrays and lists."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import dask
import dask.array as da
import numpy as np
import xarray as xr
import zarr

from ..errors import DataError, InvalidArgumentError, InvalidTypeError
from ..sources.coercion import is_lazy_frame, numbers
from ..sources.gate import is_sparse
from ..sources.lazy import opened
from ..sources.pandas_values import has_columns, is_pandas
from .hashers import is_text_hasher
from .hashing import Hashing, Place, check_categories, list_of
from .places import URL
from .text_files import Piece, lines_of, pieces_of

#: Rows of a partition, where they are in memory.
ROWS_AT_ONCE = 1 << 14
#: Rows of which a digest is taken at a time.
DIGESTED_ROWS = 1 << 10
#: Names of files that are Parquet; so is a directory.
PARQUET = (".parquet", ".parq", ".pq")


class Partition(NamedTuple):
    """Consecutive rows as a task takes them: in memory, a Dask collection's partition, or a piece of a file."""

    values: Any
    place: Place


class HashedRows(NamedTuple):
    """All rows that are to be hashed."""

    partitions: list[Partition]
    #: How many they are, where that is known before they are read.
    length: int | None
    #: The columns of a frame that are written beside the hashed rows, and their dtypes, by the names of their arrays.
    beside: dict[str, tuple[str, np.dtype]]

    @property
    def in_memory(self) -> bool:
        """Return whether the values are here, so that they are to be sent to tasks."""
        return self.length is not None


def rows_to_hash(rows: Any, hashing: Hashing, beside: Mapping[str, str]) -> HashedRows:
    """Return rows in partitions.

    ``beside`` are columns of a frame that stand beside the hashed rows, by the names of their arrays.

    Raises
    ------
    InvalidArgumentError, InvalidTypeError
        For columns that are not there or hold no categories, and for rows of a kind that cannot be hashed.
    """
    needed = hashing.columns
    files = _files(rows)
    if files and not _is_parquet(files):
        return _of_text(files, hashing, beside)
    if files:
        rows = _parquet(files, hashing, beside)
    rows = _understood(rows)

    # Frames have columns, and everything else has none.
    if has_columns(rows):
        if needed is None:
            raise InvalidArgumentError(
                "hash_features(features=...): rows are a data frame; name its columns: features={'text': hasher}, of "
                f"{_some(rows.columns)}."
            )
        return _of_frame(rows, needed, hashing, beside)
    _check_without_columns(needed, beside, type(rows).__name__)
    if dask.is_dask_collection(rows):
        return _of_blocks(rows)
    return _of_memory(rows)


def read_partition(values: Any) -> Any:
    """Return the rows of a partition as a frame or a list, in a task."""
    if isinstance(values, Piece):
        return lines_of(values)
    if has_columns(values):
        return values
    return list_of(values)


def values_beside(frame: Any, beside: Mapping[str, tuple[str, np.dtype]], place: Place) -> dict[str, np.ndarray]:
    """Return the columns of a partition that are written beside the hashed rows.

    Raises
    ------
    DataError
        Naming column and partition, where a partition has another dtype than its frame declares.
    """
    columns = {}
    for key, (name, dtype) in beside.items():
        values = np.asarray(numbers(frame[name], key))
        # Whole numbers that do not fit would become others.
        if len(values) and not np.can_cast(values.dtype, dtype, casting="safe"):
            raise DataError(
                f"hash_features: the column {name!r} has dtype {values.dtype} in {place.name}, and its frame declares "
                f"{dtype}. Give all partitions the same by frame.astype."
            )
        columns[key] = values.astype(dtype)
    return columns


def digest_of(rows: Any, hashed: list[str] | None, beside: Mapping[str, np.ndarray]) -> str:
    """Return a hash of all that a partition's part is made of."""
    digest = hashlib.blake2b(digest_size=16)
    if hashed is None:
        columns = [[_spelled(row) for row in rows]]
    else:
        columns = [list_of(rows[name]) for name in hashed]
    for column in columns:
        for start in range(0, len(column), DIGESTED_ROWS):
            part = column[start : start + DIGESTED_ROWS]
            digest.update(repr(part).encode(errors="surrogatepass"))
    for values in beside.values():
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def _spelled(row: Any) -> Any:
    """Return a row as what is written out whole."""
    if isinstance(row, str | dict | list | tuple) or not np.iterable(row):
        return row
    return list(row)


# Files


def _files(rows: Any) -> list[Path]:
    """Return the files that rows are given as: a path, or a list of `pathlib.Path`; a list of str is text."""
    if isinstance(rows, str | os.PathLike):
        if URL.match(os.fspath(rows)):
            raise InvalidArgumentError(
                f"hash_features(rows={rows!r}): paths are those of this machine; read others by "
                "dask.dataframe.read_parquet(...) or dask.bag.read_text(...).map(str.rstrip, '\\n')."
            )
        return [Path(os.path.abspath(rows))]
    if isinstance(rows, list | tuple) and rows and all(isinstance(row, os.PathLike) for row in rows):
        return [Path(os.path.abspath(row)) for row in rows]
    return []


def _is_parquet(files: list[Path]) -> bool:
    """Return whether files are Parquet, by their names."""
    for file in files:
        if not file.exists():
            raise InvalidArgumentError(f"hash_features(rows=...): {file} is not there. Give text itself as a list.")
    kinds = {file.is_dir() or file.suffix in PARQUET for file in files}
    if len(kinds) > 1:
        raise InvalidArgumentError("hash_features(rows=[...]): some files are Parquet, and some are not.")
    return kinds == {True}


def _parquet(files: list[Path], hashing: Hashing, beside: Mapping[str, str]) -> Any:
    """Return the columns of Parquet files that are needed, as a Dask frame."""
    import dask.dataframe

    whole = dask.dataframe.read_parquet([str(file) for file in files])
    wanted = list(dict.fromkeys([*(hashing.columns or ()), *beside.values()]))
    there = [name for name in wanted if name in whole.columns]
    # What is not there is refused with all that is.
    if hashing.columns is None or len(there) < len(wanted):
        return whole
    return whole[there]


def _of_text(files: list[Path], hashing: Hashing, beside: Mapping[str, str]) -> HashedRows:
    """Return the lines of text files."""
    _check_without_columns(hashing.columns, beside, "lines of text")
    pieces = [piece for file in files for piece in pieces_of(file, "hash_features")]
    return HashedRows([Partition(piece, Place(str(piece))) for piece in pieces], None, {})


# Data frames


def _of_frame(frame: Any, needed: list[str], hashing: Hashing, beside: Mapping[str, str]) -> HashedRows:
    """Return the columns of a frame, of pandas or Dask."""
    for name in [*needed, *beside.values()]:
        if name not in frame.columns:
            raise InvalidArgumentError(
                f"hash_features: there is no column {name!r} in rows, but {_some(frame.columns)}."
            )
        if list(frame.columns).count(name) > 1:
            raise InvalidArgumentError(f"hash_features: rows have more than one column {name!r}.")
    for group in hashing.groups:
        for name in [name for entry in group.entries or () for name in entry]:
            if not is_text_hasher(group.hasher):
                check_categories(frame[name].dtype, name)
    dtypes = {key: (name, np.dtype(numbers(frame[name], key).dtype)) for key, name in beside.items()}
    frame = frame[list(dict.fromkeys([*needed, *beside.values()]))]
    if is_lazy_frame(frame):
        return _of_blocks(frame)._replace(beside=dtypes)
    return _of_memory(frame)._replace(beside=dtypes)


def _check_without_columns(needed: list[str] | None, beside: Mapping[str, str], kind: str) -> None:
    """Refuse names of columns where rows have none."""
    if needed is not None:
        raise InvalidArgumentError(
            f"hash_features(features={{{needed[0]!r}: ...}}): rows are a {kind}, without columns; give a hasher alone."
        )
    for key, name in beside.items():
        raise InvalidArgumentError(
            f"hash_features({key}={name!r}): rows are a {kind}, without columns; give an array of numbers."
        )


# Everything else


def _understood(rows: Any) -> Any:
    """Return rows as a frame of pandas or Dask, or as what has no columns: a Dask collection, an array or a list."""
    if isinstance(rows, xr.DataArray | zarr.Array):
        rows = opened(rows)
    # Tables of Arrow and of polars.
    if not is_pandas(rows) and hasattr(rows, "to_pandas"):
        rows = rows.to_pandas()
    has_partitions = dask.is_dask_collection(rows) and hasattr(rows, "to_delayed")
    if not (has_partitions or is_pandas(rows) or isinstance(rows, list | tuple | np.ndarray)):
        raise InvalidTypeError(
            f"hash_features(rows=...): a {type(rows).__name__}; give a data frame or a bag of Dask, a frame or a "
            "column of pandas, an array or a list of text, or the path of Parquet or text files."
        )
    if has_columns(rows):
        return rows
    if getattr(rows, "ndim", 1) != 1:
        raise InvalidArgumentError(f"hash_features(rows=...): the shape is {rows.shape}; rows are (n,).")
    if isinstance(rows, da.Array) and is_sparse(rows._meta):
        raise InvalidTypeError("hash_features(rows=...): rows are sparse already; write them with write_sparse.")
    return rows


def _of_blocks(rows: Any) -> HashedRows:
    """Return the partitions of a Dask collection."""
    parts = rows.to_delayed()
    if isinstance(parts, np.ndarray):
        parts = parts.ravel().tolist()
    partitions = [Partition(values, Place(f"partition {i}")) for i, values in enumerate(parts)]
    return HashedRows(partitions, None, {})


def _of_memory(rows: Any) -> HashedRows:
    """Return rows in memory, some in each partition."""
    partitions = []
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        values = rows[part]
        if is_pandas(rows):
            values = rows.iloc[part]
        partitions.append(Partition(values, Place("rows", start)))
    return HashedRows(partitions, len(rows), {})


def _some(names: Any) -> str:
    """Return names for messages, the first ones."""
    listed = [repr(name) for name in names]
    if len(listed) > 10:
        listed = [*listed[:10], f"{len(listed) - 10} more"]
    return ", ".join(listed)
