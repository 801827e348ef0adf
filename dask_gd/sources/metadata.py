"""What a Zarr array's metadata may claim: nothing that would take a machine's memory, or hours, to find out about.

A store is somebody else's file. Its shape and chunks are looked at before anything is counted or made of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

import numpy as np
import xarray as xr
import zarr

from ..errors import DaskGDError, DataError, InvalidArgumentError, InvalidTypeError
from .grid import chunk_edges, key_edges, longest
from .kinds import group_remedy

#: The most that one chunk, or one row, may be when decoded, and an array in all.
CHUNK_BYTES, ROW_BYTES, ARRAY_BYTES = 16 << 30, 1 << 30, 1 << 47

#: Chunks of an array up to which each of them may be asked for by itself before a fit.
MANY_CHUNKS = 100_000
#: Chunks of a lazy variable, each of which Dask makes a task of.
LISTED_CHUNKS = 10_000_000
#: Chunks in one shard, whose index is read whole.
IN_SHARD = 4_000_000


@contextlib.contextmanager
def understood(what: str, *expected: type[Exception]) -> Iterator[None]:
    """Say which metadata zarr could not make sense of. Errors that are ``expected`` pass as they are.

    Raises
    ------
    DataError
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, (DaskGDError, *expected)):
            raise
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"The metadata of {what} cannot be read: {type(error).__name__}: {reason}. Write it again."
        ) from error


def named_array(group: zarr.Group, argument: str, name: str, path: Any) -> zarr.Array:
    """Return an array of the group, by its name."""
    with understood(f"array {name!r} in {path}", OSError):
        found = group.get(name)
    if isinstance(found, zarr.Array):
        return found
    if isinstance(found, zarr.Group):
        raise InvalidTypeError(f"{argument}={name!r} is a group in {path}: {group_remedy(found, name)}")
    with understood(f"an array in {path}", OSError):
        names = sorted(key for key, _ in group.arrays())
    raise InvalidArgumentError(f"{argument}={name!r}: no such array in {path}; it has {', '.join(names) or 'none'}.")


def attributes_of(array: zarr.Array) -> Mapping[str, Any]:
    """Return the attributes of an array.

    Raises
    ------
    DataError
        If they are no names with values.
    """
    attributes = array.metadata.attributes
    if not isinstance(attributes, Mapping):
        raise DataError(
            f"Array {array.path!r} has attributes that are a {type(attributes).__name__}; they must be names with "
            "values. Its metadata are damaged; write it again."
        )
    return attributes


def check_metadata(array: zarr.Array, role: str) -> None:
    """Refuse a shape or chunks that cannot be.

    Raises
    ------
    DataError
        Naming the array, what its metadata say, and what is allowed.
    """
    name = array.path or role
    with understood(f"array {name!r}"):
        shape = array.shape
        itemsize = array.dtype.itemsize
        chunks, shards = _sides(array)
    if len(shape) != len(chunks) or any(size < 0 for size in shape) or any(size < 1 for size in chunks):
        raise DataError(
            f"Array {name!r} has the shape {_short(shape)} and chunks of {_short(chunks)}: there is no such array. "
            "Its metadata are damaged; write it again."
        )
    limits = (
        ("a chunk", chunks, CHUNK_BYTES),
        ("a row", shape[1:], ROW_BYTES),
        ("the array", shape, ARRAY_BYTES),
    )
    inside = prod(n // c for n, c in zip(shards, chunks, strict=True))
    if inside > IN_SHARD:
        raise DataError(
            f"Array {name!r} has shards of {_short(shards)} and chunks of {_short(chunks)}: {inside:.3g} chunks in one "
            f"shard, at most {IN_SHARD:,} are served. Are its metadata damaged? Else write it in smaller shards."
        )
    for what, sizes, limit in limits:
        if (nbytes := prod(sizes) * itemsize) > limit:
            raise DataError(
                f"Array {name!r} has the shape {_short(shape)} and chunks of {_short(chunks)}: {what} would take "
                f"{nbytes:.3g} bytes, at most {limit:.3g} are served. Are its metadata damaged? Else write it in "
                "smaller chunks, or open it in parts."
            )


def check_variable(variable: xr.Variable, name: Any) -> None:
    """Refuse a lazy variable of so many bytes, or stored chunks, that it cannot be read, or they cannot be listed."""
    preferred = variable.encoding.get("preferred_chunks") or {}
    shape = variable.shape
    chunks = tuple(int(np.max(preferred.get(d, max(1, n)))) for d, n in variable.sizes.items())
    if any(size < 1 for size in chunks):
        raise DataError(f"Variable {name!r} has chunks of {_short(chunks)}; its metadata are damaged.")
    count = prod(-(-n // c) for n, c in zip(shape, chunks, strict=True))
    itemsize = variable.dtype.itemsize
    large = prod(shape) * itemsize > ARRAY_BYTES or prod(chunks) * itemsize > CHUNK_BYTES
    if large or count > LISTED_CHUNKS:
        raise DataError(
            f"Variable {name!r} has the shape {_short(shape)} in {count:.3g} chunks of {_short(chunks)}: more than can "
            "be listed or read. Are its metadata damaged? Else write it in other chunks, or select a part of it."
        )


def _sides(array: zarr.Array) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shapes of a chunk and of a shard; in a grid of chunks of several sizes, of the largest."""
    try:
        return tuple(array.chunks), tuple(array.shards or array.chunks)
    except NotImplementedError:
        return tuple(map(longest, chunk_edges(array))), tuple(map(longest, key_edges(array)))


def _short(sizes: tuple[int, ...]) -> str:
    text = str(tuple(sizes))
    if len(text) <= 80:
        return text
    return f"{text[:80]}..."
