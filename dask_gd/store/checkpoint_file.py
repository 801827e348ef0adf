"""Encode a committed iteration as a file: a zipped Zarr group of arrays and JSON, with a checksum of it all.

Nothing is pickled, and nothing is read on trust: a file with other content than `encode` writes is refused before
memory is taken for it.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr
from zarr.storage import MemoryStore

#: Hexadecimal digits of the checksum at the end of a file, the zip's comment.
DIGEST = 32
#: The key of a group's or an array's metadata.
KEY = re.compile(r"(.*/)?zarr\.json")

#: Data types of arrays of numbers, in Zarr's words.
NUMBERS = (
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
)
#: Dimensions that arrays have at most in every version of NumPy.
MOST_DIMS = 32


class Checkpoint(NamedTuple):
    """A committed iteration. Keys of ``arrays`` are paths in the group; values are (dimension names, array)."""

    iteration: int
    attributes: dict[str, Any]
    arrays: dict[str, tuple[tuple[str, ...], np.ndarray]]


def encode(checkpoint: Checkpoint) -> bytes:
    """Return the file of an iteration: a zip of the group's keys, its comment a checksum of all bytes before it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for key, data in keys_of(checkpoint).items():
            archive.writestr(zipfile.ZipInfo(key), data)
        archive.comment = b"0" * DIGEST
    content = file.getvalue()[:-DIGEST]
    return content + _digest(content)


def decode(file: Path, iteration: int) -> Checkpoint:
    """Read the file of an iteration.

    Anything that `encode` does not write is refused: the memory that this takes is a small multiple of the file.

    Raises
    ------
    ValueError
        If a bit of the file is not as it was written, or its content is not that of a commit.
    """
    # The bytes are as they were written.
    content = file.read_bytes()
    digest = content[-DIGEST:]
    if len(content) < DIGEST or _digest(content[:-DIGEST]) != digest:
        raise ValueError("its checksum does not match")
    entries = _entries(content)
    if "zarr.json" not in entries:
        raise ValueError("it has no zarr.json")
    # The metadata of groups and arrays, by their paths.
    nodes = {}
    for key, value in entries.items():
        if KEY.fullmatch(key):
            path = key.removesuffix("zarr.json").rstrip("/")
            nodes[path] = json.loads(value)
    attributes = nodes[""].get("attributes")
    if not isinstance(attributes, dict):
        raise ValueError("it has no attributes")
    # The values of the arrays.
    arrays = {}
    for path, node in nodes.items():
        if node.get("node_type") == "array":
            arrays[path] = _array(path, node, entries)
    return Checkpoint(iteration, attributes, arrays)


def _entries(content: bytes) -> dict[str, bytes]:
    """Read the files in a zip, which must be stored as they are and no longer than the zip."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        infos = archive.infolist()
        if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
            raise ValueError("its entries are compressed")
        if sum(info.file_size for info in infos) > len(content):
            raise ValueError("its entries are longer than the file")
        return {info.filename: archive.read(info) for info in infos}


def _array(path: str, metadata: dict[str, Any], entries: dict[str, bytes]) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the dimension names and the values of an array of the group."""
    shape = metadata["shape"]
    dims = tuple(metadata.get("dimension_names") or ())
    codecs = [codec["name"] for codec in metadata["codecs"]]
    # A shape, and names for it.
    are_sizes = all(type(size) is int and size >= 0 for size in shape)
    if len(shape) > MOST_DIMS or not are_sizes:
        raise ValueError(f"array {path!r} has the shape {shape}")
    are_names = all(isinstance(dim, str) for dim in dims)
    if dims and (len(dims) != len(shape) or not are_names):
        raise ValueError(f"array {path!r} has the shape {shape} and the dimensions {dims}")
    # Strings have lengths of their own.
    data_type = metadata["data_type"]
    if data_type == "string" and codecs == ["vlen-utf8"] and len(shape) == 1:
        return dims, _texts(path, metadata, entries)
    if data_type not in NUMBERS or codecs != ["bytes"]:
        raise ValueError(f"array {path!r} has the data type {data_type} and the codecs {codecs}")
    # Numbers are a single chunk, of as many bytes as the shape needs.
    data = entries.get(_only_chunk(path, len(shape)), b"")
    dtype = np.dtype(data_type).newbyteorder("<")
    chunk_shape = metadata["chunk_grid"]["configuration"]["chunk_shape"]
    if chunk_shape != shape or len(data) != prod(shape) * dtype.itemsize:
        raise ValueError(f"array {path!r} of shape {shape} has {len(data)} bytes of {data_type}")
    values = np.frombuffer(bytearray(data), dtype)
    native = values.astype(dtype.newbyteorder("="), copy=False)
    return dims, native.reshape(shape)


def _only_chunk(path: str, ndim: int) -> str:
    """Return the key of the only chunk of an array."""
    index = ["0"] * ndim
    return f"{path}/" + "/".join(["c", *index])


def _texts(path: str, metadata: dict[str, Any], entries: dict[str, bytes]) -> np.ndarray:
    """Return the strings of an array. A chunk has their number, then the length and the bytes of each string."""
    (count,) = metadata["shape"]
    strings: list[str] = []
    # Chunks are read until there are enough strings: the last may be filled up.
    for i in range(len(entries)):
        data = entries.get(f"{path}/c/{i}", b"")
        if len(strings) >= count or not data:
            break
        start = 4
        for _ in range(int.from_bytes(data[:4], "little")):
            if start + 4 > len(data):
                raise ValueError(f"array {path!r} ends early")
            length = int.from_bytes(data[start : start + 4], "little")
            stop = start + 4 + length
            strings.append(data[start + 4 : stop].decode())
            start = stop
    if len(strings) < count:
        raise ValueError(f"array {path!r} has {len(strings)} of {count} strings")
    return np.array(strings[:count], dtype=np.dtypes.StringDType())


def _digest(content: bytes) -> bytes:
    """Return the checksum of a file's content, as hexadecimal digits."""
    return hashlib.blake2b(content, digest_size=DIGEST // 2).hexdigest().encode()


def keys_of(checkpoint: Checkpoint) -> dict[str, bytes]:
    """Return the keys and values of the Zarr group, every array of numbers a raw little-endian chunk.

    Zarr itself writes the metadata, once for each kind of array; a commit then costs a few milliseconds, where
    creating some twenty arrays through the library costs forty.
    """
    # The root, and a group for each prefix of a key.
    items = {"zarr.json": _group(checkpoint.attributes)}
    prefixes = {key.rpartition("/")[0] for key in checkpoint.arrays} - {""}
    for prefix in sorted(prefixes):
        items[f"{prefix}/zarr.json"] = _group({})
    for path, (dims, array) in checkpoint.arrays.items():
        # Strings, as zarr encodes them.
        if array.dtype.kind in "OUT":
            encoded = _strings(tuple(map(str, array)), dims)
            for key, value in encoded.items():
                items[f"{path}/{key}"] = value
            continue
        # Numbers, with zarr's metadata for their dtype and this shape.
        little_endian = array.dtype.newbyteorder("<")
        array = np.ascontiguousarray(array, dtype=little_endian).reshape(array.shape)
        metadata = json.loads(_metadata(array.dtype.str, array.ndim))
        metadata["shape"] = list(array.shape)
        metadata["chunk_grid"]["configuration"]["chunk_shape"] = list(array.shape)
        metadata["dimension_names"] = list(dims)
        items[f"{path}/zarr.json"] = json.dumps(metadata).encode()
        items[_only_chunk(path, array.ndim)] = array.tobytes()
    return items


def _group(attributes: dict[str, Any]) -> bytes:
    """Return the metadata of a group."""
    metadata = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    return json.dumps(metadata, default=_as_number).encode()


def _as_number(value: Any) -> Any:
    """Return a NumPy scalar, which a solver's parameters may have, as the number that JSON knows."""
    return value.item()


def _write_array(**arguments: Any) -> dict[str, bytes]:
    """Return the keys and values that zarr writes for an array."""
    memory: dict[str, Any] = {}
    zarr.create_array(MemoryStore(memory), compressors=None, **arguments)
    return {key: value.to_bytes() for key, value in memory.items()}


@lru_cache
def _metadata(dtype: str, ndim: int) -> bytes:
    """Return the metadata of an array of numbers, with sizes of 1 and empty names."""
    ones = (1,) * ndim
    empty = ("",) * ndim
    items = _write_array(shape=ones, chunks=ones or "auto", dtype=dtype, dimension_names=empty)
    return items["zarr.json"]


@lru_cache(maxsize=8)
def _strings(values: tuple[str, ...], dims: tuple[str, ...]) -> dict[str, bytes]:
    """Return the keys and values of an array of strings."""
    data = np.array(values, dtype=np.dtypes.StringDType())
    return _write_array(data=data, dimension_names=dims)
