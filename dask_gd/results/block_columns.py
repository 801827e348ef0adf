"""Write features to Zarr in column blocks, out of core: `block_columns`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from ..errors import InvalidArgumentError
from ..sources.column_blocks import COLUMN_BLOCKS, COLUMN_BLOCKS_VERSION, EDGES
from ..sources.sparse_group import TYPE
from ..sources.zarr_column import ZarrColumn
from .beside import beside, check_not_read, check_place
from .chunks import Where, count_chunks
from .column_edges import BLOCKS, choose_edges
from .column_parts import ColumnParts, count_entries, write_column_blocks
from .dense_columns import write_dense
from .kept_parts import directory_of, kept_directory
from .places import place_of
from .row_partitions import CALLER, RowPartitions, beside_source, bounds_of, rows_to_block, stored_column
from .sparse_store import arrays_in, check_length, check_name, column_beside, write_arrays_beside, write_columns


def block_columns(
    x: Any,
    path: str | os.PathLike,
    *,
    name: str = "X",
    width: int = 1 << 21,
    resume: bool = True,
    overwrite: bool = False,
    **columns: Any,
) -> str:
    """Write features to a Zarr group in blocks of columns, out of core, so that a fit can share out the features.

    Parameters
    ----------
    x : Source, sparse matrix, Zarr array or path
        A source that `open` gives, of sparse rows, columns of numbers and codes (a code is an entry 1.0 in the column
        of its level), several of these side by side, or dense rows (n, p); a sparse matrix of SciPy (n, p), or a Dask
        array of such blocks; a Zarr array (n, p) or group of sparse rows; or the path of an svmlight file, or a list
        of paths, see `convert_svmlight`, whose targets become the array ``y``.
    path : path
        Where the group is to be, on a disk that all workers share.
    name : str
        Of the features within the group.
    width : int
        Columns of a block at most.
    resume : bool
        Go on from the parts that a call with the same arguments has left that did not end. Rows are read again. False:
        begin anew.
    overwrite : bool
        Replace the Zarr that is there; nothing else is replaced.
    **columns : array (n,) or (n, k)
        What is to stand beside the features, by name: targets, weights, offsets. Those of a source are written as
        ``y``, ``sample_weight`` and ``offset``, unless there is an argument of that name: None leaves them out.

    Returns
    -------
    str
        The absolute path.

    Raises
    ------
    InvalidArgumentError, InvalidTypeError
        Before anything is read: a place that is taken, columns of other lengths, features that are no such rows, more
        than 4,096 blocks. After the entries have been counted: parts there of other arguments, by name.
    DataError
        Naming row and column, where columns of a row do not ascend, are there twice, or are out of range; and where
        rows change while they are read.

    Notes
    -----
    *Sparse* features become a group with the attributes ``encoding-type`` "dask_gd_column_blocks", ``shape`` and
    ``edges``. Block j has the columns ``edges[j]`` to ``edges[j + 1]``, and is a group of sparse rows named by its
    number, as `write_sparse` writes them. Edges follow from the number of entries of each column: blocks have about
    as many entries, and there are at least 4 of 2^18 columns or more. Names of features are not kept.

    Rows are read twice, to count and to cut; blocks of a Dask array that take long to compute are better written with
    `write_sparse` first. A task cuts some 2 million entries, or a Dask block, with 40 bytes each: 80 MB. The client has
    32 MB of counts at most, whatever the number of columns.

    *Dense* features become an array (n, p), in 2 to 8 columns of chunks of about 16 MB. A task reads the rows of a
    chunk, of all columns, once, and writes their chunks: it has 128 MB of them at most, and what reading its rows
    takes, such as a chunk of a compressed array. Tall compressed chunks are decoded for every band of rows.

    On a cluster tasks read and write. The store is complete or not there; the same features give the same bytes,
    whatever the workers, the chunks and the interruptions. Parts are kept in the directory ``.NAME.parts`` beside the
    store NAME until it is there; the disk needs room for the features twice meanwhile.

    Examples
    --------
    >>> import tempfile
    >>> import scipy.sparse
    >>> x = scipy.sparse.csr_array(np.array([[0.0, 2.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 4.0, 5.0]]))
    >>> path = dask_gd.block_columns(x, f"{tempfile.mkdtemp()}/blocks.zarr", width=2, y=np.array([3.0, 2.0, 1.0]))
    >>> source = dask_gd.open(path, x="X", y="y")
    >>> source.shape, source.x.edges
    ((3, 4), (0, 2, 4))
    >>> dask_gd.fit(source, penalty=dask_gd.L2(1e-9)).predict(x).round(3).tolist()
    [3.0, 2.0, 1.0]
    """
    target = place_of(path, CALLER)
    if isinstance(target, str):
        raise InvalidArgumentError(
            f"{CALLER}(path={target!r}): parts that a later call can go on from are files on a disk that all workers "
            "share. Give a path, and copy the store to the URL when it is there."
        )
    if isinstance(width, bool) or not isinstance(width, int | np.integer) or width < 1:
        raise InvalidArgumentError(f"{CALLER}(width={width!r}): a whole number of columns, at least 1.")
    check_place(target, overwrite, CALLER)
    # What stands beside the features: a source's own, and what is given.
    given = {key: values for key, values in {**beside_source(x), **columns}.items() if values is not None}
    check_name(name, given, CALLER)

    # Dense rows are chunked anew, sparse rows are cut.
    column = stored_column(x)
    if isinstance(column, ZarrColumn):
        start, stop = bounds_of(x, column)
        arrays = _arrays_beside(given, stop - start)
        _check_not_replaced(target, [column.stored, *arrays.values()])
        write_dense(column, start, stop, target, name, int(width), resume, overwrite, arrays)
        return str(target)
    rows = rows_to_block(x)
    length = None
    if rows.shape is not None:
        length = rows.shape[0]
        _check_width(width, rows.shape[1])
    arrays = _arrays_beside(given, length)
    _check_not_replaced(target, [*rows.read_from, *arrays.values()])
    _write_sparse(rows, target, name, int(width), resume, overwrite, arrays)
    return str(target)


def _arrays_beside(columns: dict[str, Any], rows: int | None) -> dict[str, Any]:
    """Return what stands beside the features as arrays; ``rows`` is their number, where it is known."""
    return {key: column_beside(values, key, rows, CALLER) for key, values in columns.items()}


def _check_not_replaced(target: Path, data: list[Any]) -> None:
    """Refuse to replace what is read."""
    if os.path.lexists(target):
        for each in data:
            check_not_read(each, target, CALLER)


def _check_width(width: int, features: int) -> None:
    """Refuse so narrow blocks that they are too many."""
    narrowest = -(-features // BLOCKS)
    if width < narrowest:
        raise InvalidArgumentError(
            f"{CALLER}(width={width}): {features} columns would be more than {BLOCKS:,} blocks; give {narrowest} or "
            "more."
        )


def _write_sparse(
    rows: RowPartitions,
    target: Path,
    name: str,
    width: int,
    resume: bool,
    overwrite: bool,
    arrays: dict[str, Any],
) -> None:
    """Count the entries of the rows, cut them at the edges that follow, and put the parts into the store."""
    counts = count_entries(rows)
    n = sum(counts.lengths)
    if not n:
        raise InvalidArgumentError(f"{CALLER}(x): there are no rows.")
    _check_width(width, counts.features)
    for key, array in arrays.items():
        check_length(array, key, n, CALLER)
    edges = choose_edges(counts.counts, counts.shift, counts.features, width)
    identity = {"edges": edges, "dtype": str(rows.dtype), "of_text": rows.of_text}
    directory = directory_of(target)
    with kept_directory(directory, identity, resume, CALLER) as settings:
        parts = ColumnParts(str(directory), settings, tuple(edges), tuple(counts.digests))
        parts.cut(rows)
        with beside(target, overwrite, CALLER) as (new, marker):
            root = zarr.open_group(new, mode="w", zarr_format=3)
            layout = {
                TYPE: COLUMN_BLOCKS,
                "encoding-version": COLUMN_BLOCKS_VERSION,
                "shape": [n, counts.features],
                EDGES: edges,
            }
            root.create_group(name, attributes=layout)
            write_column_blocks(parts, new, name, n, rows.dtype)
            write_arrays_beside(root, arrays, CALLER)
            # Text has targets, which are in the parts.
            if rows.of_text and "y" not in arrays:
                write_columns(root, {"y": np.empty(0)}, ({"y": values} for values in parts.beside("y")))
            count_chunks(arrays_in(root), Where(str(target), str(marker)))
