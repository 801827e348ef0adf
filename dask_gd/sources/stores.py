"""Questions to an array's store besides its chunks: where it is, whether it can be seen, whether it has a key."""

from __future__ import annotations

import enum
import os
from pathlib import Path
from typing import Any

import zarr
from distributed.protocol.pickle import dumps
from zarr.abc.store import RangeByteRequest, Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore, MemoryStore, WrapperStore, ZipStore

from ..cluster import active_client
from ..errors import InvalidArgumentError, UnreachableStoreError
from ..worker_env import process_name

#: The key of an array's metadata under its path, by format.
METADATA = {2: ".zarray", 3: "zarr.json"}
#: Keys of which a store has at least one at its root, if a group is there.
ROOTS = ("zarr.json", ".zgroup", ".zmetadata")
#: Stores that are known to travel to workers.
SENDABLE = (LocalStore, ZipStore, FsspecStore, MemoryStore)


class Key(enum.Enum):
    """A store's answer about a key."""

    ABSENT = "absent"
    EMPTY = "empty"
    THERE = "there"
    #: There, but the store sends the whole where a part was asked for.
    WHOLE = "whole"


def absolute(array: zarr.Array) -> zarr.Array:
    """Return the array with an absolute path, since workers may run in another directory."""
    store = _absolute(array.store)
    if store is array.store:
        return array
    path = zarr.storage.StorePath(store, array.path)
    return zarr.Array(zarr.AsyncArray(metadata=array.metadata, store_path=path))


def _absolute(store: Any) -> Any:
    """Return the store with an absolute path; the store itself where there is nothing to change."""
    if isinstance(store, WrapperStore):
        inner = _absolute(store._store)
        if inner is store._store:
            return store
        return type(store)(inner)
    if type(store) is LocalStore and not store.root.is_absolute():
        return LocalStore(os.path.abspath(store.root), read_only=store.read_only)
    if type(store) is ZipStore and not os.path.isabs(store.path):
        # Opened, since before that zarr 3.1 cannot list it.
        return sync(ZipStore.open(os.path.abspath(store.path), mode="r"))
    return store


def innermost(store: Any) -> Any:
    """Return the store without the stores that are wrapped around it."""
    while isinstance(store, WrapperStore):
        store = store._store
    return store


def place(array: zarr.Array) -> str:
    """Return the absolute path of the array's store, or its URL."""
    store = innermost(array.store)
    if isinstance(store, LocalStore):
        return str(store.root)
    if isinstance(store, ZipStore):
        return str(store.path)
    if isinstance(store, FsspecStore):
        return store.fs.unstrip_protocol(store.path)
    return " ".join(str(store).split())


def metadata_key(array: zarr.Array) -> str:
    """Return the key of the array's metadata."""
    return f"{array.path}/{METADATA[array.metadata.zarr_format]}".removeprefix("/")


def sees_array(array: zarr.Array) -> bool:
    """Return whether this process can see the array's metadata."""
    return _has(array.store, metadata_key(array))


def sees_store(array: zarr.Array) -> bool:
    """Return whether this process can see the store that holds the array."""
    return sees_array(array) or any(_has(array.store, key) for key in ROOTS)


def _has(store: Store, key: str) -> bool:
    """Return whether the store holds a key."""
    try:
        return sync(store.get(key, default_buffer_prototype())) is not None
    except (FileNotFoundError, NotADirectoryError):
        return False


def ask(store: Store, key: str) -> Key:
    """Ask the store for the first byte of a key.

    Raises
    ------
    Exception
        The store's own, if it refuses or fails.
    """
    try:
        first = sync(store.get(key, default_buffer_prototype(), byte_range=RangeByteRequest(0, 1)))
    except (FileNotFoundError, NotADirectoryError):
        return Key.ABSENT
    except Exception:
        # Stores may give no parts, or refuse the first byte of a key without bytes.
        whole = sync(store.get(key, default_buffer_prototype()))
        if whole is not None and len(whole) == 0:
            return Key.EMPTY
        return Key.WHOLE

    # A store may send more than the byte that was asked for.
    if first is None:
        return Key.ABSENT
    if len(first) == 0:
        return Key.EMPTY
    if len(first) == 1:
        return Key.THERE
    return Key.WHOLE


def check_sendable(array: zarr.Array) -> None:
    """Refuse a store that cannot be sent to the workers of the active client.

    Raises
    ------
    UnreachableStoreError
    """
    if type(array.store) in SENDABLE or active_client() is None:
        return
    # Whether another store can be sent shows when it is tried.
    try:
        dumps(array.store)
    except Exception as error:
        raise UnreachableStoreError(
            f"The store of array {array.path!r}, {array.store!r}, cannot be sent to the cluster's workers: {error}. "
            "Open it in a way that can: an icechunk repository by readonly_session, other data by a path or URL that "
            "all workers can open. Or close the client: threads of this process can read it."
        ) from error


def unseen(array: zarr.Array, name: str) -> str:
    """Say that this process cannot see the array's store."""
    where = place(array)
    who = process_name()
    # The usual causes differ with the kind of store and of process.
    if "://" in where:
        hint = "is it there, and open to all workers under this URL? What one process holds in memory no other can see."
    elif who.startswith("worker"):
        hint = "is it on a disk that all workers share?"
    else:
        hint = "has it been moved or deleted?"
    return f"Array {name!r}: {who} cannot see {where}; {hint}"


def group_location(path: str | os.PathLike) -> str:
    """Return the URL of a group, or its absolute path, which must exist."""
    if "://" in str(path):
        return str(path)
    if not Path(path).exists():
        raise InvalidArgumentError(f"{path}: no such Zarr group.")
    # Workers may run in another directory.
    return os.path.abspath(path)
