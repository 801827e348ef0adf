"""The file of one committed iteration: a zipped Zarr group of arrays and JSON, with a checksum of it all.

Nothing is pickled, and reading takes nothing on trust: a file that holds anything but what `encode` writes is refused
before memory is taken for it.
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

#: What arrays of numbers are stored as, in Zarr's words.
NUMBERS = ("bool", *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)))
NUMBERS += ("float16", "float32", "float64")
#: NumPy has no arrays of more dimensions in all its versions.
MOST_DIMS = 32


class Checkpoint(NamedTuple):
    """One committed iteration. Keys of ``arrays`` are paths in the group; values are (dimension names, array)."""

    iteration: int
    attributes: dict[str, Any]
    arrays: dict[str, tuple[tuple[str, ...], np.ndarray]]


def encode(checkpoint: Checkpoint) -> bytes:
    """The file of one iteration: a zip of the group's keys whose comment is a checksum of all that precedes it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for key, data in keys_of(checkpoint).items():
            archive.writestr(zipfile.ZipInfo(key), data)
        archive.comment = b"0" * DIGEST
    content = file.getvalue()[:-DIGEST]
    return content + _digest(content)


def decode(file: Path, iteration: int) -> Checkpoint:
    """Read one file back.

    Nothing is believed that `encode` does not write: the memory that this takes is a small multiple of the file.

    Raises
    ------
    ValueError
        If a bit of the file is not as it was written, or it holds something else than a commit does.
    """
    content = file.read_bytes()
    if len(content) < DIGEST or _digest(content[:-DIGEST]) != content[-DIGEST:]:
        raise ValueError("its checksum does not match")
    keys = _entries(content)
    if "zarr.json" not in keys:
        raise ValueError("it has no zarr.json")
    nodes = {key.removesuffix("zarr.json").rstrip("/"): json.loads(keys[key]) for key in keys if KEY.fullmatch(key)}
    attributes = nodes[""].get("attributes")
    if not isinstance(attributes, dict):
        raise ValueError("it has no attributes")
    arrays = {path: _array(path, node, keys) for path, node in nodes.items() if node.get("node_type") == "array"}
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


def _array(path: str, metadata: dict[str, Any], keys: dict[str, bytes]) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the dimension names and the values of one array of the group."""
    shape = metadata["shape"]
    dims = tuple(metadata.get("dimension_names") or ())
    codecs = [codec["name"] for codec in metadata["codecs"]]
    if len(shape) > MOST_DIMS or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"array {path!r} has the shape {shape}")
    if dims and (len(dims) != len(shape) or not all(isinstance(dim, str) for dim in dims)):
        raise ValueError(f"array {path!r} has the shape {shape} and the dimensions {dims}")
    kind = metadata["data_type"]
    if kind == "string" and codecs == ["vlen-utf8"] and len(shape) == 1:
        return dims, _texts(path, metadata, keys)
    if kind not in NUMBERS or codecs != ["bytes"]:
        raise ValueError(f"array {path!r} has the data type {kind} and the codecs {codecs}")
    data = keys.get(f"{path}/" + "/".join(["c", *"0" * len(shape)]), b"")
    dtype = np.dtype(kind).newbyteorder("<")
    if metadata["chunk_grid"]["configuration"]["chunk_shape"] != shape or len(data) != prod(shape) * dtype.itemsize:
        raise ValueError(f"array {path!r} of shape {shape} has {len(data)} bytes of {kind}")
    return dims, np.frombuffer(bytearray(data), dtype).astype(dtype.newbyteorder("="), copy=False).reshape(shape)


def _texts(path: str, metadata: dict[str, Any], keys: dict[str, bytes]) -> np.ndarray:
    """Return the strings of an array: in each chunk their number, and then the length and the bytes of each."""
    (count,) = metadata["shape"]
    found: list[str] = []
    for i in range(len(keys)):
        data = keys.get(f"{path}/c/{i}", b"")
        if len(found) >= count or not data:
            break
        at = 4
        for _ in range(int.from_bytes(data[:4], "little")):
            if at + 4 > len(data):
                raise ValueError(f"array {path!r} ends early")
            length = int.from_bytes(data[at : at + 4], "little")
            found.append(data[at + 4 : at + 4 + length].decode())
            at += 4 + length
    if len(found) < count:
        raise ValueError(f"array {path!r} has {len(found)} of {count} strings")
    return np.array(found[:count], dtype=np.dtypes.StringDType())


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=DIGEST // 2).hexdigest().encode()


def keys_of(checkpoint: Checkpoint) -> dict[str, bytes]:
    """The keys and values of the Zarr group, every array one raw little-endian chunk.

    Zarr itself writes the metadata, once for each kind of array; a commit then costs a few milliseconds, where
    creating some twenty arrays through the library costs forty.
    """
    items = {"zarr.json": _group(checkpoint.attributes)}
    for group in sorted({key.rpartition("/")[0] for key in checkpoint.arrays} - {""}):
        items[f"{group}/zarr.json"] = _group({})
    for key, (dims, array) in checkpoint.arrays.items():
        if array.dtype.kind in "OUT":
            items |= {f"{key}/{k}": v for k, v in _strings(tuple(map(str, array)), dims).items()}
            continue
        array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(array.shape)
        metadata = json.loads(_metadata(array.dtype.str, array.ndim))
        metadata["shape"] = metadata["chunk_grid"]["configuration"]["chunk_shape"] = list(array.shape)
        metadata["dimension_names"] = list(dims)
        items[f"{key}/zarr.json"] = json.dumps(metadata).encode()
        items[f"{key}/" + "/".join(["c", *"0" * array.ndim])] = array.tobytes()
    return items


def _group(attributes: dict[str, Any]) -> bytes:
    return json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attributes}, default=_plain).encode()


def _plain(value: Any) -> Any:
    """A NumPy scalar among a solver's parameters, as JSON knows it."""
    return value.item()


def _written(**arguments: Any) -> dict[str, bytes]:
    """What zarr writes for one array."""
    memory: dict[str, Any] = {}
    zarr.create_array(MemoryStore(memory), compressors=None, **arguments)
    return {key: value.to_bytes() for key, value in memory.items()}


@lru_cache
def _metadata(dtype: str, ndim: int) -> bytes:
    ones = (1,) * ndim
    return _written(shape=ones, chunks=ones or "auto", dtype=dtype, dimension_names=("",) * ndim)["zarr.json"]


@lru_cache(maxsize=8)
def _strings(values: tuple[str, ...], dims: tuple[str, ...]) -> dict[str, bytes]:
    data = np.array(values, dtype=np.dtypes.StringDType())
    return _written(data=data, dimension_names=dims)
