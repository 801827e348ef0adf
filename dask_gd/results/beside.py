"""Replace a directory in a single step: the new directory is complete before it takes the place of the old."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import xarray as xr
from fsspec.implementations.local import LocalFileSystem
from zarr.storage import FsspecStore, LocalStore, StorePath

from ..errors import InvalidArgumentError
from ..sources.referents import referents

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has no advisory locks; what a killed writer left then stays
    fcntl = None  # type: ignore[assignment]

#: One of these is at the root of all that is Zarr.
ROOTS = ("zarr.json", ".zarray", ".zgroup")


def check_place(target: Path, overwrite: bool, caller: str) -> None:
    """Refuse a path that is taken and may not be replaced; ``caller`` is the function that was called."""
    if not target.name:
        raise InvalidArgumentError(f"{caller}: {target} is no name of a new directory.")
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise InvalidArgumentError(f"{caller}: {target} exists; overwrite=True replaces it.")
    if not any((target / name).is_file() for name in ROOTS):
        raise InvalidArgumentError(f"{caller}: {target} exists and is not Zarr; overwrite=True replaces nothing else.")


def check_not_read(data: Any, target: Path, caller: str) -> None:
    """Refuse to replace what the data is read from."""
    target = target.resolve()
    if isinstance(data, xr.Dataset):
        arrays = [variable._data for variable in data.variables.values()]
    else:
        arrays = [data]
    # Whatever the arrays refer to may be the place that they are read from.
    for referent in referents(arrays):
        location = _location(referent, target.name)
        if location is not None and location.resolve().is_relative_to(target):
            raise InvalidArgumentError(f"{caller}: what is written is read from {target}; write elsewhere.")


def _location(referent: Any, name: str) -> Path | None:
    """Return the path that an object reads from, if the object is a path or a Zarr store on this machine."""
    # Zarr stores.
    if isinstance(referent, StorePath):
        root = _location(referent.store, name)
        if root is None:
            return None
        return root / referent.path
    if isinstance(referent, LocalStore):
        return referent.root
    if isinstance(referent, FsspecStore):
        # Dask reads local files through fsspec too.
        file_system = getattr(referent.fs, "sync_fs", referent.fs)
        if isinstance(file_system, LocalFileSystem):
            return Path(referent.path)
        return None
    # Paths, and strings that may be paths.
    if isinstance(referent, Path):
        return referent
    if isinstance(referent, str):
        # Most strings of a graph are names of its tasks.
        may_be_path = name in referent and len(referent) < 4096 and "\0" not in referent
        if may_be_path:
            return Path(referent.removeprefix("file://"))
    return None


@contextlib.contextmanager
def beside(target: Path, overwrite: bool, caller: str) -> Iterator[tuple[Path, Path]]:
    """Yield a directory that takes the target's place at the end, and a file that exists until then.

    Any failure leaves the target as it was. Everything is in one directory beside the target, with a lock that ends
    with this process, so that others recognise what a killed writer has left.
    """
    # Make the temporary directory, on the disk of the target.
    temporary = target.parent / f".{target.name}.{uuid.uuid4().hex[:12]}.tmp"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(target)
        temporary.mkdir()
    except OSError as error:
        raise InvalidArgumentError(f"Cannot write {target}: {error.strerror}. Choose a writable place.") from error
    new = temporary / "new"
    old = temporary / "old"
    marker = temporary / "lock"
    # The caller writes while the lock is taken; then the new directory takes the place of the old.
    with open(marker, "w") as lock:
        _try_lock(lock)
        try:
            yield new, marker
            if os.path.lexists(target) and not overwrite:
                raise InvalidArgumentError(f"{caller}: {target} has appeared meanwhile; it is left as it is.")
            swap(new, target, old)
        finally:
            # The only copy of the old directory is never removed.
            is_only_copy = os.path.lexists(old) and not os.path.lexists(target)
            if not is_only_copy:
                # The marker goes first, so that a worker that still writes a chunk removes it.
                marker.unlink(missing_ok=True)
                shutil.rmtree(temporary, ignore_errors=True)


def swap(new: Path, target: Path, old: Path) -> None:
    """Rename the target to the old path, and the new path to the target."""
    try:
        if os.path.lexists(target):
            os.rename(target, old)
        os.rename(new, target)
    except BaseException:
        # The second rename failed: the old directory goes back.
        if os.path.lexists(old) and not os.path.lexists(target):
            os.rename(old, target)
        raise


def remove_leftovers(target: Path) -> None:
    """Remove the directories that killed writers of this target have left, and restore a target put aside by them."""
    if fcntl is None:
        return
    name = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{12}}\.tmp")
    leftovers = [Path(entry.path) for entry in os.scandir(target.parent) if name.fullmatch(entry.name)]
    for temporary in leftovers:
        new = temporary / "new"
        old = temporary / "old"
        marker = temporary / "lock"
        with contextlib.suppress(OSError):
            # A worker wrote its last chunk after the writer had given up.
            if new.exists() and not marker.exists() and not os.path.lexists(old):
                shutil.rmtree(temporary)
                continue
            # A lock that can be taken belonged to a writer that has ended.
            with open(marker, "r+") as lock:
                if not _try_lock(lock):
                    continue
                if os.path.lexists(old) and not os.path.lexists(target):
                    os.rename(old, target)
                shutil.rmtree(temporary)


def _try_lock(file: Any) -> bool:
    """Lock a file until it is closed; return False if another process has the lock, or the disk knows no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (OSError, AttributeError):
        return False
    return True
