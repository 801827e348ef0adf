"""Parts of rows cut into column blocks: a file for each partition of the rows, with its entries in each block.

Entries are counted first, in bins of columns: where blocks begin, all of the rows decide. Then tasks read the rows once
more and cut them, at once and in any order. At last tasks put the parts of each block one after the other. A part knows
of which rows it was made: a writer that goes on where another was killed counts again, and cuts only rows without one.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import dask
import numpy as np
import zarr
from scipy.sparse import csr_array

from ..cluster import compute
from ..errors import DataError
from ..kernels.sparse import SparseRows
from ..sources.compressed import rows_of
from ..sources.sparse_column import digest_of
from .column_edges import add_counts, count_columns, shift_of
from .kept_parts import check_seen_here, error_here, read_arrays, write_arrays
from .row_partitions import CALLER, RowPartitions, read_partition
from .sparse_store import write_blocks

logger = logging.getLogger("dask_gd")

#: Before the name of a column beside the rows, in a part.
BESIDE = "beside "
#: The array of a part that says of which rows it was made.
SOURCE = "source"


class Counted(NamedTuple):
    """The entries of a partition."""

    digest: str
    rows: int
    features: int
    shift: int
    counts: np.ndarray


class Counts(NamedTuple):
    """The entries of all partitions: digests of their rows, their numbers of rows, and entries in bins of columns."""

    digests: list[str]
    lengths: list[int]
    features: int
    shift: int
    counts: np.ndarray


def count_entries(rows: RowPartitions) -> Counts:
    """Return the number of entries in each bin of columns, on the cluster, a few partitions at a time."""
    features = None
    if rows.shape is not None:
        _, features = rows.shape
    digests: list[str] = []
    lengths: list[int] = []
    # Bins become wider where text turns out to have more features.
    widest = features or 1
    shift = shift_of(widest)
    total = np.zeros(0, np.int64)
    for part in rows.run(count_partition, [(features,)] * len(rows.partitions)):
        digests.append(part.digest)
        lengths.append(part.rows)
        widest = max(widest, part.features)
        wider = np.zeros(-(-widest >> shift_of(widest)), np.int64)
        add_counts(wider, shift_of(widest), total, shift)
        shift = shift_of(widest)
        add_counts(wider, shift, part.counts, part.shift)
        total = wider
    return Counts(digests, lengths, widest, shift, total)


def count_partition(values: Any, features: int | None) -> Counted:
    """Return the number of entries of a partition in each bin of columns, in a task."""
    matrix, beside = read_partition(values, features)
    found = matrix.shape[1]
    shift = shift_of(found)
    return Counted(_digest(matrix, beside), matrix.shape[0], found, shift, count_columns(matrix.indices, shift))


def _digest(matrix: csr_array, beside: dict[str, np.ndarray]) -> str:
    """Return a hash of all that a part is made of."""
    digest = hashlib.blake2b(digest_of(rows_of(matrix)).encode(), digest_size=16)
    for values in beside.values():
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


class ColumnParts(NamedTuple):
    """The files of the parts. Workers may end a task after their client was killed: ``settings`` tells its parts."""

    directory: str
    settings: str
    edges: tuple[int, ...]
    #: Of the rows of each partition.
    digests: tuple[str, ...]

    def file(self, number: int) -> Path:
        """Return the file of a partition's part."""
        return Path(self.directory) / f"{self.settings}-{number:07d}.npz"

    def cut(self, rows: RowPartitions) -> None:
        """Cut the partitions, on the cluster, but for those whose parts are there already."""
        edges = np.array(self.edges)
        arguments = [(str(self.file(number)), edges, digest) for number, digest in enumerate(self.digests)]
        made = list(rows.run(cut_partition, arguments))
        there = made.count(False)
        if there:
            logger.info("%s went on: %d of %d parts were there.", CALLER, there, len(made))

    def read(self, number: int, *names: str) -> dict[str, np.ndarray]:
        """Return arrays of a part by name; its checksums are compared.

        Raises
        ------
        DataError
            Naming the file, where the part is not whole, or of other rows.
        """
        file = self.file(number)
        arrays = read_arrays(file, CALLER, (SOURCE, *names))
        if arrays.pop(SOURCE).item() != self.digests[number]:
            raise DataError(f"{file} has been written anew meanwhile, by a task of an earlier call. Call again.")
        return arrays

    def beside(self, name: str) -> Iterator[np.ndarray]:
        """Yield the values beside the rows of each part, in the order of the partitions."""
        for number in range(len(self.digests)):
            yield from self.read(number, BESIDE + name).values()

    def blocks(self, block: int) -> Iterator[tuple[csr_array, dict[str, np.ndarray]]]:
        """Yield the rows of a column block in each part, in the order of the partitions."""
        width = self.edges[block + 1] - self.edges[block]
        for number in range(len(self.digests)):
            data, indices, indptr = self.read(number, *_names(block)).values()
            yield csr_array((data, indices, indptr), shape=(len(indptr) - 1, width)), {}


def _names(block: int) -> tuple[str, str, str]:
    """Return the names of a column block's arrays in a part."""
    return f"{block} data", f"{block} indices", f"{block} indptr"


def cut_partition(values: Any, path: str, edges: np.ndarray, digest: str) -> bool:
    """Cut a partition and write its part, in a task; return False where the part of the same rows is there."""
    file = Path(path)
    check_seen_here(file.parent, CALLER)
    # All of its checksums are compared.
    with contextlib.suppress(DataError):
        if read_arrays(file, CALLER)[SOURCE].item() == digest:
            return False
    matrix, beside = read_partition(values, int(edges[-1]))
    if _digest(matrix, beside) != digest:
        raise DataError(
            f"{CALLER}: the rows of {file.stem} are not those that were counted; something changes them meanwhile, or "
            "they are random. Write them first, with dask_gd.write_sparse."
        )
    arrays = {BESIDE + key: column for key, column in beside.items()}
    for block, own in enumerate(cut_columns(matrix, edges)):
        arrays.update(zip(_names(block), own, strict=True))
    arrays[SOURCE] = np.array(digest)
    write_arrays(file, arrays)
    return True


def cut_columns(matrix: csr_array, edges: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield data, indices and indptr of each column block of rows, with columns numbered from the block's first on."""
    count = matrix.shape[0]
    indices = matrix.indices
    # Entries in the order of the blocks, and within each as they are: by rows, and columns that ascend.
    of_block = (np.searchsorted(edges, indices, side="right") - 1).astype(np.uint16)
    sizes = np.bincount(of_block, minlength=len(edges) - 1)
    order = np.argsort(of_block, kind="stable")
    del of_block
    rows = np.repeat(np.arange(count, dtype=np.int32), np.diff(matrix.indptr))
    ends = np.concatenate([[0], np.cumsum(sizes)]).tolist()
    for (start, stop), (first, end) in zip(pairwise(edges.tolist()), pairwise(ends), strict=True):
        own = order[first:end]
        indptr = np.zeros(count + 1, np.int64)
        np.cumsum(np.bincount(rows[own], minlength=count), out=indptr[1:])
        local = (indices[own] - start).astype(SparseRows(stop - start).index_dtype)
        yield matrix.data[own], local, indptr


def write_column_blocks(
    parts: ColumnParts,
    place: Path,
    name: str,
    rows: int,
    dtype: np.dtype,
) -> None:
    """Write all column blocks to the group ``name`` of a new store, each by a task of its own."""
    tasks = []
    known = dask.delayed(parts, traverse=False, pure=False)
    for block in range(len(parts.edges) - 1):
        tasks.append(dask.delayed(write_column_block, pure=False)(known, block, str(place), name, rows, dtype))
    compute(*tasks, what=CALLER)


def write_column_block(parts: ColumnParts, block: int, place: str, name: str, rows: int, dtype: np.dtype) -> None:
    """Write a column block, part after part, in a task."""
    shape = (rows, parts.edges[block + 1] - parts.edges[block])
    try:
        group = zarr.open_group(place, path=name, mode="r+")
        # A worker that died has left a part of it.
        if str(block) in group:
            del group[str(block)]
        written = write_blocks(group, str(block), shape, dtype, {}, parts.blocks(block))
    except (OSError, zarr.errors.BaseZarrError) as error:
        raise error_here(f"cannot write the column block {block} of {name!r} to {place}: {error}") from error
    if written != rows:
        raise DataError(f"{CALLER}: {written} rows were written of {rows}; its parts have changed meanwhile.")
