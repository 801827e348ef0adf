"""Parts of hashed rows on disk: each partition's matrix in a file, which is there whole or not at all.

Where the entries of a partition begin in the store only the partitions before it tell. So tasks write parts, at once
and in any order, and the client puts these one after the other into the store. A part knows of which rows it was made:
a writer that goes on where another was killed reads the rows again, but hashes only those that have no part, or have
changed since.
"""

from __future__ import annotations

import contextlib
import logging
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import dask
import numpy as np
from scipy.sparse import csr_array

from ..cluster import active_client, compute
from ..errors import DataError
from .hash_rows import HashedRows, digest_of, read_partition, values_beside
from .hashing import Hashing, Place
from .kept_parts import NOT_WHOLE, check_seen_here, kept_directory, read_arrays, unreadable, write_arrays

logger = logging.getLogger("dask_gd")

CALLER = "hash_features"
#: Before the name of a column beside the rows, in a part.
BESIDE = "beside "
#: The array of a part that says of which rows it was made.
SOURCE = "source"


class Part(NamedTuple):
    """The rows of a partition: their matrix, and the values beside them."""

    matrix: csr_array
    beside: dict[str, np.ndarray]


class Parts:
    """The directory of the parts of a store that is being written.

    ``settings`` is a digest of the settings. Workers may end a task after their client was killed: what they write is
    never taken for a part of other settings, or of other rows.
    """

    def __init__(self, directory: Path, settings: str, count: int):
        self.directory = directory
        self.settings = settings
        self.count = count
        #: The digests of the rows of all partitions, once they are hashed.
        self.digests: list[str] = []

    def file(self, number: int) -> Path:
        """Return the file of a partition's part."""
        return self.directory / f"{self.settings}-{number:07d}.npz"

    def hash(self, rows: HashedRows, hashing: Hashing) -> None:
        """Hash the partitions, on the cluster, but for those whose parts are there already."""
        # Rows in memory are sent, some partitions at a time; Dask advises against graphs that hold them.
        at_once = self.count
        client = active_client()
        if rows.in_memory and client is not None:
            at_once = 2 * max(1, sum(client.nthreads().values()))
        made: list[tuple[str, bool]] = []
        for first in range(0, self.count, at_once):
            tasks = []
            for number in range(first, min(first + at_once, self.count)):
                values, place = rows.partitions[number]
                # Dask looks into lists for tasks; rows are none.
                if rows.in_memory:
                    values = dask.delayed(values, traverse=False, pure=False)
                file = str(self.file(number))
                tasks.append(dask.delayed(make_part)(values, place, hashing, rows.beside, file))
            with dask.config.set({"distributed.admin.large-graph-warning-threshold": 1 << 40}):
                made += compute(*tasks, what="hash_features")
        self.digests = [digest for digest, _ in made]
        there = sum(not is_new for _, is_new in made)
        if there:
            logger.info("hash_features went on: %d of %d parts were there.", there, self.count)

    def lengths(self) -> list[int]:
        """Return the numbers of rows of all parts, which are read from the heads of their files."""
        return [rows_in(self.file(number)) for number in range(self.count)]

    def read(self) -> Iterator[Part]:
        """Yield the parts, in the order of the partitions.

        Raises
        ------
        DataError
            Naming the file, where a part is not whole, or of other rows.
        """
        for number, digest in enumerate(self.digests):
            yield read_part(self.file(number), digest)


@contextlib.contextmanager
def parts_at(directory: Path, identity: dict[str, Any], count: int, resume: bool) -> Iterator[Parts]:
    """Yield the directory of the parts: that of a writer that was killed, or a new one, see `kept_directory`."""
    with kept_directory(directory, identity, resume, CALLER) as settings:
        yield Parts(directory, settings, count)


def make_part(values: Any, place: Place, hashing: Hashing, beside: dict, path: str) -> tuple[str, bool]:
    """Hash a partition and write its part, in a task, unless the part of the same rows is there.

    Return a digest of its rows, and whether the part is new.
    """
    file = Path(path)
    check_seen_here(file.parent, CALLER)
    rows = read_partition(values)
    columns = values_beside(rows, beside, place)
    digest = digest_of(rows, hashing.columns, columns)
    # Where nothing was missing, it does not matter what would have been done about it.
    if _source(file) in ((digest, "error"), (digest, hashing.missing)):
        return digest, False
    matrix = hashing.matrix(rows, place)
    arrays = {"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr}
    for key, column in columns.items():
        arrays[BESIDE + key] = column
    arrays[SOURCE] = np.array([digest, hashing.missing])
    write_arrays(file, arrays)
    return digest, True


def read_part(file: Path, digest: str) -> Part:
    """Return the part of the rows that have this digest; its checksums are compared.

    Raises
    ------
    DataError
        Naming the file.
    """
    arrays = read_arrays(file, CALLER)
    if arrays[SOURCE].tolist()[0] != digest:
        raise DataError(f"{file} has been written anew meanwhile, by a task of an earlier call. Call again.")
    beside = {name.removeprefix(BESIDE): arrays[name] for name in arrays if name.startswith(BESIDE)}
    indptr = arrays["indptr"]
    # As wide as it need be: the whole matrix has the number of features.
    width = int(arrays["indices"].max(initial=-1)) + 1
    matrix = csr_array((arrays["data"], arrays["indices"], indptr), shape=(len(indptr) - 1, width))
    return Part(matrix, beside)


def rows_in(file: Path) -> int:
    """Return the number of rows of a part."""
    try:
        with open(file, "rb") as opened, zipfile.ZipFile(opened) as stored, stored.open("indptr.npy") as array:
            np.lib.format.read_magic(array)
            (length,), _, _ = np.lib.format.read_array_header_1_0(array)
    except NOT_WHOLE as error:
        raise unreadable(file, error, CALLER) from error
    return length - 1


def _source(file: Path) -> tuple[str, str] | None:
    """Return the digest of the rows that a part was made of, and how missing values were treated.

    Return None if it is not there, or not whole: it is read, and its checksums are compared.
    """
    try:
        digest, missing = read_arrays(file, CALLER)[SOURCE].tolist()
    except (DataError, *NOT_WHOLE):
        return None
    return digest, missing
