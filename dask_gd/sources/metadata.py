"""Limits of a Zarr array's metadata: they may claim nothing that takes a machine's memory, or hours, to disprove.

A store is somebody else's file. Its shape and chunks are checked before anything is counted or made of them.
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

#: The most bytes of a chunk, of a row, and of an array, when decoded.
CHUNK_BYTES = 16 << 30
ROW_BYTES = 1 << 30
ARRAY_BYTES = 1 << 47

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
        # zarr raises errors of any class about damaged metadata.
        if isinstance(error, (DaskGDError, *expected)):
            raise
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"The metadata of {what} cannot be read: {type(error).__name__}: {reason}. Write it again."
        ) from error


def named_array(
    group: zarr.Group,
    argument: str,
    name: str,
    path: Any,
) -> zarr.Array:
    """Return an array of the group, by its name."""
    with understood(f"array {name!r} in {path}", OSError):
        member = group.get(name)
    if isinstance(member, zarr.Array):
        return member
    if isinstance(member, zarr.Group):
        raise InvalidTypeError(f"{argument}={name!r} is a group in {path}: {group_remedy(member, name)}")
    # There is nothing of that name: say which arrays there are beside it.
    inside, _, _ = name.rpartition("/")
    with understood(f"an array in {path}", OSError):
        place = group.get(inside) if inside else group
        if not isinstance(place, zarr.Group):
            inside, place = "", group
        prefix = f"{inside}/" if inside else ""
        names = sorted(f"{prefix}{key}" for key, _ in place.arrays())
    raise InvalidArgumentError(f"{argument}={name!r}: no such array in {path}; it has {', '.join(names) or 'none'}.")


def attributes_of(array: zarr.Array) -> Mapping[str, Any]:
    """Return the attributes of an array.

    Raises
    ------
    DataError
        If they are not names with values.
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
        Naming the array, its metadata, and what is allowed.
    """
    name = array.path or role
    with understood(f"array {name!r}"):
        shape = array.shape
        itemsize = array.dtype.itemsize
        chunks, shards = _sides(array)

    # There is no array with fewer than no rows, or with empty chunks.
    if len(shape) != len(chunks) or any(size < 0 for size in shape) or any(size < 1 for size in chunks):
        raise DataError(
            f"Array {name!r} has the shape {_short(shape)} and chunks of {_short(chunks)}: there is no such array. "
            "Its metadata are damaged; write it again."
        )

    # The index of a shard is read whole.
    inside = prod(shard // chunk for shard, chunk in zip(shards, chunks, strict=True))
    if inside > IN_SHARD:
        raise DataError(
            f"Array {name!r} has shards of {_short(shards)} and chunks of {_short(chunks)}: {inside:.3g} chunks in one "
            f"shard, at most {IN_SHARD:,} are served. Are its metadata damaged? Else write it in smaller shards."
        )

    # Nothing that a pass decodes at once may be larger than a machine's memory.
    limits = (
        ("a chunk", chunks, CHUNK_BYTES),
        ("a row", shape[1:], ROW_BYTES),
        ("the array", shape, ARRAY_BYTES),
    )
    for what, sizes, limit in limits:
        nbytes = prod(sizes) * itemsize
        if nbytes > limit:
            raise DataError(
                f"Array {name!r} has the shape {_short(shape)} and chunks of {_short(chunks)}: {what} would take "
                f"{nbytes:.3g} bytes, at most {limit:.3g} are served. Are its metadata damaged? Else write it in "
                "smaller chunks, or open it in parts."
            )


def check_variable(variable: xr.Variable, name: Any) -> None:
    """Refuse a lazy variable that is too large to be read, or whose stored chunks are too many to be listed."""
    # The chunks in which it is stored, the largest where they differ; whole along dimensions without any.
    preferred = variable.encoding.get("preferred_chunks") or {}
    shape = variable.shape
    sides = []
    for dim, size in variable.sizes.items():
        side = preferred.get(dim, max(1, size))
        sides.append(int(np.max(side)))
    chunks = tuple(sides)
    if any(size < 1 for size in chunks):
        raise DataError(f"Variable {name!r} has chunks of {_short(chunks)}; its metadata are damaged.")

    count = prod(-(-size // side) for size, side in zip(shape, chunks, strict=True))
    itemsize = variable.dtype.itemsize
    large = prod(shape) * itemsize > ARRAY_BYTES or prod(chunks) * itemsize > CHUNK_BYTES
    if large or count > LISTED_CHUNKS:
        raise DataError(
            f"Variable {name!r} has the shape {_short(shape)} in {count:.3g} chunks of {_short(chunks)}: more than can "
            "be listed or read. Are its metadata damaged? Else write it in other chunks, or select a part of it."
        )


def _sides(array: zarr.Array) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shapes of a chunk and of a shard, the largest where their sizes differ."""
    try:
        chunks = tuple(array.chunks)
        shards = tuple(array.shards or array.chunks)
    except NotImplementedError:
        chunks = tuple(map(longest, chunk_edges(array)))
        shards = tuple(map(longest, key_edges(array)))
    return chunks, shards


def _short(sizes: tuple[int, ...]) -> str:
    """Return a shape for messages, cut where it has very many dimensions."""
    text = str(tuple(sizes))
    if len(text) <= 80:
        return text
    return f"{text[:80]}..."
