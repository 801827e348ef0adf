"""Write dense rows to a Zarr array that is chunked by columns too, a band of rows at a time."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from pathlib import Path
from typing import Any, cast

import dask
import numpy as np
import zarr
from zarr.codecs import Crc32cCodec
from zarr.storage import LocalStore

from ..cluster import compute
from ..sources.columns import feature_names_of
from ..sources.zarr_column import ZarrColumn
from .beside import beside
from .chunks import Where, at, count_chunks
from .kept_parts import check_seen_here, directory_of, error_here, kept_directory, write_whole
from .row_partitions import CALLER
from .sparse_store import arrays_in, stored_dtype, write_arrays_beside

logger = logging.getLogger("dask_gd")

#: Bytes of a chunk, about, and its columns; column blocks at least and at most.
CHUNK_BYTES = 16 << 20
CHUNK_COLUMNS = 4096
FEWEST = 2
MOST = 8
#: Within the directory of the parts: the store, and the ends of the names of files that say that a band is written.
STORE = "store"
WRITTEN = ".written"


def chunks_of(rows: int, features: int, itemsize: int, width: int) -> tuple[int, int]:
    """Return the rows and the columns of a chunk."""
    blocks = min(MOST, max(FEWEST, -(-features // CHUNK_COLUMNS)))
    columns = -(-features // max(blocks, -(-features // width)))
    return min(rows, max(1, CHUNK_BYTES // (columns * itemsize))), columns


def write_dense(
    column: ZarrColumn,
    start: int,
    stop: int,
    target: Path,
    name: str,
    width: int,
    resume: bool,
    overwrite: bool,
    arrays: dict[str, Any],
) -> None:
    """Write the rows ``start`` to ``stop`` of a column, and arrays beside them; tasks write bands of rows."""
    column.check_sendable()
    shape = (stop - start, column.shape[1])
    dtype = stored_dtype(column.dtype)
    chunks = chunks_of(*shape, dtype.itemsize, width)
    identity = {"shape": list(shape), "chunks": list(chunks), "dtype": str(dtype), "name": name}
    directory = directory_of(target)
    directory = directory_of(target)
    with kept_directory(directory, identity, resume, CALLER, parts=f"*{WRITTEN}", beside=STORE):
        # The store is written among the parts, and comes to its place at the end.
        root = zarr.open_group(LocalStore(directory / STORE), mode="a", zarr_format=3)
        for key in sorted(set(root.keys()) - {name}):
            del root[key]
        array = _array(root, name, shape, chunks, dtype, feature_names_of(column.array))
        rows = dask.delayed(column, traverse=False, pure=False)
        bands = range(0, shape[0], chunks[0])
        tasks = [dask.delayed(write_band, pure=False)(rows, array, start, first) for first in bands]
        made = compute(*tasks, what=CALLER)
        there = made.count(False)
        if there:
            logger.info("%s went on: %d of %d bands of rows were there.", CALLER, there, len(made))
        write_arrays_beside(root, arrays, CALLER)
        with beside(target, overwrite, CALLER) as (new, marker):
            count_chunks(arrays_in(root), Where(str(target), str(marker)))
            os.rename(directory / STORE, new)


def _array(
    root: zarr.Group,
    name: str,
    shape: tuple[int, int],
    chunks: tuple[int, int],
    dtype: np.dtype,
    feature_names: tuple | None,
) -> zarr.Array:
    """Return the array that is written: that of the writer that was killed, or a new one."""
    attributes: dict[str, Any] = {}
    if feature_names is not None:
        attributes["feature_names"] = list(feature_names)
    # The settings of the parts are those of this call.
    found = root.get(name)
    if isinstance(found, zarr.Array):
        return found.update_attributes(attributes)
    return root.create_array(
        name,
        shape=shape,
        chunks=chunks,
        dtype=dtype,
        attributes=attributes,
        compressors=[Crc32cCodec()],
        config={"write_empty_chunks": True},
    )


def write_band(column: ZarrColumn, array: zarr.Array, start: int, first: int) -> bool:
    """Write rows from ``first`` on to their chunks, in a task, unless the same are there; return if they were not.

    ``start`` is the row of the column that is the array's first.
    """
    store = cast(LocalStore, array.store).root
    check_seen_here(store.parent, CALLER)
    # Rows are read once, some windows of them after the other.
    rows, width = array.chunks
    end = min(first + rows, array.shape[0])
    values = np.empty((end - first, array.shape[1]), column.dtype)
    for begin, stop in column.windows(start + first, start + end):
        column.read(begin, stop, values[begin - start - first : stop - start - first])
    digest = hashlib.blake2b(values.data, digest_size=16).hexdigest()
    written = store.parent / f"{first:012d}{WRITTEN}"
    columns = range(0, array.shape[1], width)
    keys = [array.metadata.encode_chunk_key((first // rows, block)) for block in range(len(columns))]
    with contextlib.suppress(OSError):
        has_all = all((store / array.path / key).stat().st_size for key in keys)
        if has_all and written.read_text() == digest:
            return False
    try:
        written.unlink(missing_ok=True)
        target = at(array, array.store)
        for column_start in columns:
            part = slice(column_start, column_start + width)
            target[first:end, part] = values[:, part]
        write_whole(written, lambda file: file.write(digest.encode()))
    except OSError as error:
        raise error_here(f"cannot write a chunk of {store}: {error}. What is there already is kept.") from error
    return True
