"""The index of a shard: where it lies, and where it says that the shard's chunks lie."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import google_crc32c
import numpy as np
import zarr
from zarr.codecs import ShardingCodec

from .grid import is_regular

#: Offset and length, in a shard's index, of a chunk that the shard does not hold.
ABSENT = 2**64 - 1


@dataclass(frozen=True)
class ShardIndex:
    """The index of each shard of an array: an (offset, length) for each chunk.

    Attributes
    ----------
    per_shard : tuple of int
        Chunks of a shard along each axis.
    dtype : str
        "<u8" or ">u8".
    checksum : bool
        A crc32c follows it.
    at_start : bool
        It is at the start of the shard, else at its end.
    """

    per_shard: tuple[int, ...]
    dtype: str
    checksum: bool
    at_start: bool

    @property
    def nbytes(self) -> int:
        """Return the size of the index in bytes."""
        return 16 * prod(self.per_shard) + 4 * self.checksum

    def entries(self, stored: np.ndarray) -> np.ndarray:
        """Return the decoded bytes of an index, an array with the shape (*per_shard, 2).

        Raises
        ------
        ValueError
            If bytes are missing, or do not fit their checksum.
        """
        # A file that was cut short ends before its index does.
        if len(stored) != self.nbytes:
            raise ValueError(f"the index of its shard has {len(stored)} bytes in place of {self.nbytes}")
        if self.checksum:
            stored = without_crc32c(stored, stored)
        return stored.view(self.dtype).reshape(*self.per_shard, 2)


def shard_index(array: zarr.Array) -> ShardIndex | None:
    """Return how to read the array's shards; None without shards, or if these, their index or codecs are unusual."""
    codecs: Any = getattr(array.metadata, "codecs", ())
    # Codecs around a shard hide its index.
    if len(codecs) != 1 or not isinstance(codecs[0], ShardingCodec) or not is_regular(array):
        return None

    # Plain numbers, with a checksum or without, are read here; all else is left to zarr.
    configuration: Any = codecs[0].to_dict()["configuration"]
    first, *rest = configuration["index_codecs"]
    checks = [codec["name"] for codec in rest]
    if first["name"] != "bytes" or checks not in ([], ["crc32c"]):
        return None
    dtype = "<u8"
    if first.get("configuration", {}).get("endian") == "big":
        dtype = ">u8"

    sides = zip(array.shards or (), array.chunks, strict=True)
    return ShardIndex(
        per_shard=tuple(shard // chunk for shard, chunk in sides),
        dtype=dtype,
        checksum=bool(checks),
        at_start=configuration["index_location"] == "start",
    )


def without_crc32c(stored: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Return the bytes before the checksum in the last four; ``out`` is for decoders that copy.

    Raises
    ------
    ValueError
        If the checksum does not fit them.
    """
    data = stored[:-4]
    checksum = int.from_bytes(stored[-4:].tobytes(), "little")
    if len(stored) < 4 or google_crc32c.value(data) != checksum:
        raise ValueError("its crc32c checksum does not fit its bytes")
    return data
