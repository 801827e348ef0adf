"""Files of blocks beside the iterations of a run: an array each, whole or not there, with a checksum.

An iteration names the files that it is made of, and holds their checksums. A file that no iteration names is no part of
the run: what a killed commit has left, or what has been replaced.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import DataError, StoreError

#: The directory of the files within a store.
DIRECTORY = "blocks"
SUFFIX = ".npy"


class BlockFile(NamedTuple):
    """A file of one block: its name in the directory, its bytes and their checksum (CRC-32), and the array's shape."""

    name: str
    nbytes: int
    checksum: int
    shape: tuple[int, ...]
    dtype: str

    @classmethod
    def of(cls, fields: Any) -> BlockFile:
        """Return what an iteration has stored of a file.

        Raises
        ------
        ValueError
            If that names no file.
        """
        try:
            name, nbytes, checksum, shape, dtype = fields
            file = cls(str(name), int(nbytes), int(checksum), tuple(map(int, shape)), np.dtype(dtype).str)
        except (TypeError, ValueError) as error:
            raise ValueError(f"it names a block as {fields!r:.80}") from error
        is_plain = file.name.endswith(SUFFIX) and Path(file.name).name == file.name
        expected = np.dtype(dtype).itemsize * int(np.prod(file.shape))
        if not is_plain or file.nbytes < expected:
            raise ValueError(f"it names a block as {fields!r:.80}")
        return file


def write_block(directory: str, name: str, array: np.ndarray) -> BlockFile:
    """Write the file of a block, whole or not at all: under another name, flushed to the disk, and renamed.

    Raises
    ------
    StoreError
        If it cannot be written.
    """
    target = Path(directory) / (name + SUFFIX)
    temporary = target.with_name(f".{name}.tmp")
    array = np.ascontiguousarray(array)
    try:
        with open(temporary, "wb") as file:
            np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
            values = array.reshape(-1).view(np.uint8).data
            checksum = zlib.crc32(values)
            file.write(values)
            nbytes = file.tell()
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise StoreError(
            f"Cannot write block {target}: {error.strerror}. The iterations before are intact; make room and fit again "
            "to resume."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return BlockFile(target.name, nbytes, checksum, array.shape, array.dtype.str)


def sync(directory: str) -> None:
    """Flush a directory, in which files were renamed, to the disk."""
    if os.name == "posix":
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_block(directory: str, file: BlockFile) -> np.ndarray:
    """Return the array of a block.

    Raises
    ------
    DataError
        Naming the file, where it is not there, or not as it was written.
    """
    path = Path(directory) / file.name
    try:
        size = path.stat().st_size
        if size != file.nbytes:
            raise ValueError(f"it has {size:,} bytes in place of {file.nbytes:,}")
        array = np.load(path, allow_pickle=False)
        if array.shape != file.shape or array.dtype.str != file.dtype:
            raise ValueError(f"it holds {array.dtype} {array.shape} in place of {file.dtype} {file.shape}")
        if zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data) != file.checksum:
            raise ValueError("its checksum is another")
    except FileNotFoundError as error:
        raise DataError(
            f"Block {path} of {file.nbytes:,} bytes is not there, or this process does not see it."
        ) from error
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"Block {path} of {file.nbytes:,} bytes is damaged: {error}.") from error
    return array


def remove_others(directory: str, names: Iterable[str]) -> None:
    """Remove all files of blocks but those of these names, and the leftovers of killed commits."""
    named = set(names)
    for path in Path(directory).iterdir():
        is_block = path.name.endswith(SUFFIX) and path.name not in named
        if is_block or (path.name.startswith(".") and path.name.endswith(".tmp")):
            with contextlib.suppress(OSError):
                path.unlink()
