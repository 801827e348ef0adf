"""A directory that is there once it is complete, in the place of another one if it may be replaced."""

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


def check_place(target: Path, overwrite: bool) -> None:
    """Refuse a path where something is that may not be replaced."""
    if not target.name:
        raise InvalidArgumentError(f"write: {target} is no name of a new directory.")
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise InvalidArgumentError(f"write: {target} exists; overwrite=True replaces it.")
    if not any((target / name).is_file() for name in ROOTS):
        raise InvalidArgumentError(f"write: {target} exists and is not Zarr; overwrite=True replaces nothing else.")


def check_not_read(data: Any, target: Path) -> None:
    """Refuse to replace what the prediction is read from."""
    target = target.resolve()
    if isinstance(data, xr.Dataset):
        arrays = [v._data for v in data.variables.values()]
    else:
        arrays = [data]
    for thing in referents(arrays):
        location = _location(thing, target.name)
        if location is not None and location.resolve().is_relative_to(target):
            raise InvalidArgumentError(f"write: the prediction is read from {target}; write elsewhere.")


def _location(thing: Any, name: str) -> Path | None:
    """Return where an object reads from, if it is a path or a Zarr store on this machine."""
    if isinstance(thing, StorePath):
        root = _location(thing.store, name)
        if root is None:
            return None
        return root / thing.path
    if isinstance(thing, LocalStore):
        return thing.root
    if isinstance(thing, FsspecStore):
        # Dask reads local files through fsspec too.
        local = isinstance(getattr(thing.fs, "sync_fs", thing.fs), LocalFileSystem)
        if local:
            return Path(thing.path)
        return None
    if isinstance(thing, Path):
        return thing
    # Most strings of a graph are names of its tasks.
    if isinstance(thing, str) and name in thing and len(thing) < 4096 and "\0" not in thing:
        return Path(thing.removeprefix("file://"))
    return None


@contextlib.contextmanager
def beside(target: Path, overwrite: bool) -> Iterator[tuple[Path, Path]]:
    """Yield a directory that takes the target's place at the end, and a file that is there until then.

    Whatever goes wrong leaves what was there. All is in one directory beside the target, with a lock that ends with
    this process, so that others know what a killed writer has left.
    """
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
    with open(marker, "w") as lock:
        _locked(lock)
        try:
            yield new, marker
            if os.path.lexists(target) and not overwrite:
                raise InvalidArgumentError(f"write: {target} has appeared meanwhile; it is left as it is.")
            swap(new, target, old)
        finally:
            # The only copy of what was there is never removed.
            if os.path.lexists(target) or not os.path.lexists(old):
                # First, so that a worker that still writes a chunk removes it.
                marker.unlink(missing_ok=True)
                shutil.rmtree(temporary, ignore_errors=True)


def swap(new: Path, target: Path, old: Path) -> None:
    """Put the new in the target's place, and what was there aside."""
    try:
        if os.path.lexists(target):
            os.rename(target, old)
        os.rename(new, target)
    except BaseException:
        if os.path.lexists(old) and not os.path.lexists(target):
            os.rename(old, target)
        raise


def remove_leftovers(target: Path) -> None:
    """Remove what killed writers of this target have left; put back what one of them had just put aside."""
    if fcntl is None:
        return
    own = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{12}}\.tmp")
    for temporary in [Path(entry.path) for entry in os.scandir(target.parent) if own.fullmatch(entry.name)]:
        new = temporary / "new"
        old = temporary / "old"
        marker = temporary / "lock"
        with contextlib.suppress(OSError):
            if new.exists() and not marker.exists() and not os.path.lexists(old):
                # A worker's last chunk, from after its writer had given up.
                shutil.rmtree(temporary)
                continue
            with open(marker, "r+") as lock:
                if not _locked(lock):
                    continue
                if os.path.lexists(old) and not os.path.lexists(target):
                    os.rename(old, target)
                shutil.rmtree(temporary)


def _locked(file: Any) -> bool:
    """Lock a file until it is closed; False if another has it, or the disk knows no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (OSError, AttributeError):
        return False
    return True
