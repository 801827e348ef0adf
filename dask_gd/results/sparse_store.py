"""Write sparse rows to Zarr in the layout that anndata reads: `write_sparse`.

Blocks are computed some at a time, in their order, and written by this process: where a block's entries begin only the
blocks before it tell. What is written appears whole or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import zarr
from scipy.sparse import csr_array
from zarr.abc.store import Store
from zarr.codecs import Crc32cCodec

from ..cluster import active_client, compute
from ..errors import DataError, InvalidArgumentError, InvalidTypeError
from ..kernels.sparse import SparseRows
from ..sources.coercion import numbers
from ..sources.columns import holds_sparse, sized
from ..sources.compressed import is_scipy, memory_rows, rows_of
from ..sources.lazy import in_dask
from ..sources.sparse_gate import gated_rows
from ..sources.sparse_group import CSR, TYPE, VERSION
from .chunks import at, count_chunks
from .places import new_store, place_of

#: Entries and rows of a chunk: 2 MB of values. Where a partition begins or ends within a chunk, two tasks decode it.
CHUNK_ENTRIES = 1 << 18
CHUNK_ROWS = 1 << 17
#: Rows of a matrix in memory that are written at a time.
ROWS_AT_ONCE = 1 << 16


def write_sparse(
    x: Any,
    path: str | os.PathLike,
    *,
    name: str = "X",
    overwrite: bool = False,
    storage_options: dict[str, Any] | None = None,
    **columns: Any,
) -> str:
    """Write sparse rows to a Zarr group, complete or not at all, in the layout that anndata reads and writes.

    Parameters
    ----------
    x : sparse matrix (n, p)
        SciPy's, or a Dask array of such blocks, which are computed a few at a time.
    path : path or URL
        Where the group is to be. This process alone writes there.
    name : str
        Of the group of the rows within it.
    overwrite : bool
        Replace the Zarr that is there. Nothing else is replaced, and nothing at a URL.
    storage_options : dict, optional
        For a URL, as fsspec takes them.
    **columns : array (n,) or (n, k)
        Arrays to stand beside the rows, by name: targets, weights, offsets.

    Returns
    -------
    str
        The absolute path, or the URL.

    Raises
    ------
    InvalidArgumentError, InvalidTypeError
        Before anything is computed: a place that is taken, columns of other lengths or blocks, values that are no
        real numbers.
    DataError
        Naming row and column, where columns of a row do not ascend, are there twice, or are out of range.

    Notes
    -----
    The group has arrays ``data``, ``indices`` and ``indptr`` (int64), and attributes ``encoding-type`` "csr_matrix",
    ``encoding-version`` "0.1.0" and ``shape``. ``dask_gd.open(path, x="X", y=...)`` and ``anndata.io.read_elem`` read
    it. Chunks have checksums (crc32c), and are there also where they hold nothing but zeros.

    Examples
    --------
    >>> import tempfile
    >>> import scipy.sparse
    >>> x = scipy.sparse.csr_array(np.array([[0.0, 2.0], [1.0, 0.0], [0.0, 0.0]]))
    >>> path = dask_gd.write_sparse(x, f"{tempfile.mkdtemp()}/rows.zarr", y=np.array([3.0, 2.0, 1.0]))
    >>> run = dask_gd.fit(dask_gd.open(path, x="X", y="y"))
    >>> run.predict(x).round(6).tolist()
    [3.0, 2.0, 1.0]
    """
    if not holds_sparse(x) or isinstance(x, zarr.Group):
        raise InvalidTypeError(
            f"write_sparse(x): a {type(x).__name__}; give a sparse matrix of scipy, or a Dask array of such blocks. Of "
            "dense rows make some with array.map_blocks(scipy.sparse.csr_array)."
        )
    target = place_of(path, "write_sparse", storage_options)
    check_name(name, columns, "write_sparse")
    # Rows and what stands beside them in the same blocks.
    if is_scipy(x):
        rows: Any = memory_rows(x, "x").matrix(x.shape[1])
    else:
        rows = gated_rows(sized(x, "x"), "x")
    beside_rows = {key: _column_in_blocks(values, key, rows) for key, values in columns.items()}

    data = [rows, *beside_rows.values()]
    with new_store(target, "write_sparse", overwrite, storage_options, data) as store:
        group = zarr.open_group(store.metadata, mode="w", zarr_format=3)
        _write(group, name, rows, beside_rows, store.chunks)
        count_chunks([at(array, store.chunks) for array in arrays_in(group)], store.where)
    return str(target)


def check_name(name: str, columns: dict[str, Any], caller: str) -> None:
    """Refuse a name of the group of the rows that is no name, or that of a column beside them."""
    if name in columns or "/" in name or not name:
        raise InvalidArgumentError(f"{caller}(name={name!r}): a name of its own, without a slash.")


def column_beside(values: Any, name: str, rows: int | None, caller: str) -> Any:
    """Return a column beside the rows as an array of numbers; ``rows`` is their number, where it is known."""
    array = numbers(values, name)
    if isinstance(array, zarr.Array):
        array = da.from_zarr(array)
    if isinstance(array, da.Array):
        array = sized(array, name)
    if array.ndim not in (1, 2):
        raise InvalidArgumentError(f"{caller}: {name} has the shape {array.shape}; it must be (n,) or (n, k).")
    if rows is not None:
        check_length(array, name, rows, caller)
    return array


def check_length(array: Any, name: str, rows: int, caller: str) -> None:
    """Refuse a column of another number of rows."""
    if array.shape[0] != rows:
        raise InvalidArgumentError(
            f"{caller}: {name} has the shape {array.shape}, and there are {rows} rows; each has a value or a row of "
            "them."
        )


def _column_in_blocks(values: Any, name: str, rows: Any) -> Any:
    """Return a column beside the rows in their blocks."""
    array = column_beside(values, name, rows.shape[0], "write_sparse")
    # Blocks of both are computed together.
    if isinstance(rows, da.Array):
        return in_dask(array).rechunk((rows.chunks[0], *(-1,) * (array.ndim - 1)))
    return array


def arrays_in(group: zarr.Group) -> list[zarr.Array]:
    """Return all arrays of a group and of the groups in it."""
    return [member for _, member in group.members(max_depth=None) if isinstance(member, zarr.Array)]


def _write(group: zarr.Group, name: str, rows: Any, columns: dict[str, Any], chunks: Store) -> None:
    """Write rows and the columns beside them, block by block; ``chunks`` is where their chunks go."""
    n, _ = rows.shape
    like = {key: np.empty((0, *values.shape[1:]), values.dtype) for key, values in columns.items()}
    written = write_blocks(group, name, rows.shape, rows.dtype, like, _blocks(rows, columns), chunks=chunks)
    if written != n:
        raise DataError(f"x has {n} rows, but its blocks have {written}; call compute_chunk_sizes().")


def write_blocks(
    group: zarr.Group,
    name: str,
    shape: tuple[int, int],
    dtype: Any,
    like: dict[str, np.ndarray],
    blocks: Iterable[tuple[csr_array, dict[str, np.ndarray]]],
    attributes: dict[str, Any] | None = None,
    chunks: Store | None = None,
) -> int:
    """Write blocks of rows, with the values beside them, and return how many rows they have.

    Parameters
    ----------
    group : zarr.Group
        Where the group of the rows and the columns beside it are to be.
    name : str
        Of the group of the rows.
    shape : (rows, features)
    dtype : numpy.dtype
        Of the entries.
    like : dict of array (0, ...)
        The dtype and the width of each column beside the rows.
    blocks : iterable
        Rows, and the values beside them, in their order.
    attributes : dict, optional
        Of the group of the rows, beside those of the layout.
    chunks : Store, optional
        Where chunks go, if not to the store of the group, which then has the metadata alone.
    """
    n, p = shape
    layout = {TYPE: CSR, "encoding-version": VERSION, "shape": [int(n), int(p)]}
    of_rows = group.create_group(name, attributes={**layout, **(attributes or {})})
    growing = partial(Growing, chunks=chunks)
    data = growing(of_rows, "data", dtype, CHUNK_ENTRIES)
    indices = growing(of_rows, "indices", SparseRows(p).index_dtype, CHUNK_ENTRIES)
    indptr = growing(of_rows, "indptr", np.dtype(np.int64), CHUNK_ROWS)
    arrays = {key: growing(group, key, values.dtype, CHUNK_ROWS, values.shape[1:]) for key, values in like.items()}
    indptr.append(np.zeros(1, np.int64))
    written = 0
    for block, parts in blocks:
        own = rows_of(block).compact
        data.append(own.data)
        indices.append(own.indices)
        indptr.append(written + own.indptr[1:].astype(np.int64))
        written += len(own.data)
        for key, values in parts.items():
            arrays[key].append(values)
    for array in (data, indices, indptr, *arrays.values()):
        array.finish()
    return indptr.length - 1


def write_columns(
    group: zarr.Group,
    like: dict[str, np.ndarray],
    pieces: Iterable[dict[str, np.ndarray]],
) -> None:
    """Write columns that stand beside rows, some rows at a time; see `write_blocks`."""
    arrays = {key: Growing(group, key, values.dtype, CHUNK_ROWS, values.shape[1:]) for key, values in like.items()}
    for piece in pieces:
        for key, values in piece.items():
            arrays[key].append(values)
    for array in arrays.values():
        array.finish()


def write_arrays_beside(group: zarr.Group, arrays: dict[str, Any], caller: str) -> None:
    """Write arrays of `column_beside`, in memory or Dask's, a chunk of their rows at a time."""
    for key, array in arrays.items():
        lazy = in_dask(array)
        like = {key: np.empty((0, *array.shape[1:]), array.dtype)}
        pieces = (
            _computed(lazy[start : start + CHUNK_ROWS], key, caller) for start in range(0, len(array), CHUNK_ROWS)
        )
        write_columns(group, like, pieces)


def _computed(rows: da.Array, name: str, caller: str) -> dict[str, np.ndarray]:
    """Return rows of a column by its name."""
    [values] = compute(rows, what=f"{caller}, {name}")
    return {name: np.asarray(values)}


def _blocks(rows: Any, columns: dict[str, Any]) -> Iterator[tuple[csr_array, dict[str, np.ndarray]]]:
    """Yield blocks of rows, with the values beside them, in their order."""
    # In memory some rows at a time.
    if not isinstance(rows, da.Array):
        for start in range(0, rows.shape[0], ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            yield rows[part], {key: np.asarray(values[part]) for key, values in columns.items()}
        return
    # As many blocks at once as there are threads to compute them.
    count = rows.numblocks[0]
    at_once = 2
    client = active_client()
    if client is not None:
        at_once = max(at_once, sum(client.nthreads().values()))
    for first in range(0, count, at_once):
        wanted: list[Any] = []
        numbers_of_blocks = range(first, min(first + at_once, count))
        for number in numbers_of_blocks:
            wanted.append(rows.blocks[number, 0])
            for values in columns.values():
                wanted.append(values.blocks[(number, *(0,) * (values.ndim - 1))])
        found = iter(compute(*wanted, what="the blocks of write_sparse"))
        for _ in numbers_of_blocks:
            block = next(found)
            yield block, {key: np.asarray(next(found)) for key in columns}


class Growing:
    """An array to which values are appended; each chunk is written once, and the length is set at the end."""

    def __init__(
        self,
        group: zarr.Group,
        name: str,
        dtype: Any,
        chunk: int,
        shape: tuple[int, ...] = (),
        chunks: Store | None = None,
    ):
        self.array = group.create_array(
            name,
            shape=(0, *shape),
            chunks=(chunk, *(max(1, size) for size in shape)),
            dtype=stored_dtype(dtype),
            attributes={TYPE: "array", "encoding-version": "0.2.0"},
            compressors=[Crc32cCodec()],
            config={"write_empty_chunks": True},
        )
        self.chunk = chunk
        self.store = chunks or group.store
        self.length = 0
        self.waiting: list[np.ndarray] = []

    def append(self, values: np.ndarray) -> None:
        """Append values; whole chunks are written."""
        # What the caller has may be a view into memory that is used again.
        self.waiting.append(values.astype(self.array.dtype, copy=True))
        self.length += len(values)
        if sum(map(len, self.waiting)) >= self.chunk:
            self._write_chunks(keep=True)

    def finish(self) -> None:
        """Write the rest."""
        self._write_chunks(keep=False)

    def _write_chunks(self, keep: bool) -> None:
        """Write what waits, and keep what does not fill a chunk."""
        if not self.waiting:
            return
        values = np.concatenate(self.waiting)
        written = len(values)
        if keep:
            written = len(values) // self.chunk * self.chunk
        start = self.array.shape[0]
        self.array.resize((start + written, *self.array.shape[1:]))
        if written:
            at(self.array, self.store)[start : start + written] = values[:written]
        self.waiting = [values[written:]]


def stored_dtype(dtype: Any) -> np.dtype:
    """Return the dtype in which numbers are stored: NumPy's own in the machine's byte order."""
    dtype = np.dtype(dtype)
    if dtype == np.float16:
        return np.dtype(np.float32)
    return dtype.newbyteorder("=")
