"""The directory beside a store in which a writer keeps the parts that it has, for a later call to go on from."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ClusterError, DataError, InvalidArgumentError
from ..worker_env import process_name

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has no advisory locks
    fcntl = None  # type: ignore[assignment]

SETTINGS = "settings.json"
#: What a file raises that is no whole part.
NOT_WHOLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


def directory_of(target: Path) -> Path:
    """Return the directory of the parts of a store that is being written."""
    return target.parent / f".{target.name}.parts"


@contextlib.contextmanager
def kept_directory(
    directory: Path,
    identity: dict[str, Any],
    resume: bool,
    caller: str,
    parts: str = "*.npz",
    beside: str = "",
) -> Iterator[str]:
    """Yield a digest of the identity of a call, while its directory of parts is there and no other process writes it.

    The directory is that of a writer that was killed, or a new one. It is removed at the end. After an error it stays
    if there are parts, to go on from. ``parts`` is a pattern of their names; all else is removed, but for the entry
    ``beside``.

    Raises
    ------
    InvalidArgumentError
        Naming what differs, if the parts there are of other settings; and if another process writes them.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidArgumentError(f"Cannot write {directory}: {error.strerror}. Choose a writable place.") from error
    with open(directory / "lock", "w") as lock:
        if not _is_ours(lock):
            raise InvalidArgumentError(
                f"{caller}: another process is writing {directory}. Wait for it, or end it and call again."
            )
        _prepare(directory, identity, resume, caller, (parts, beside))
        try:
            spelled = json.dumps(identity, sort_keys=True).encode()
            yield hashlib.blake2b(spelled, digest_size=6).hexdigest()
        except BaseException:
            if not any(directory.glob(parts)):
                shutil.rmtree(directory, ignore_errors=True)
            raise
        shutil.rmtree(directory, ignore_errors=True)


def _prepare(directory: Path, identity: dict[str, Any], resume: bool, caller: str, kept: tuple[str, ...]) -> None:
    """Refuse parts of something else, and remove what is no part."""
    settings = directory / SETTINGS
    before = None
    if resume:
        with contextlib.suppress(OSError, ValueError):
            before = json.loads(settings.read_text())
    if before is not None:
        found = difference(before, json.loads(json.dumps(identity)))
        if found:
            raise InvalidArgumentError(
                f"{caller}: {directory} has parts of a call that did not end, with {found}. Call with the same to go "
                "on, or with resume=False to begin anew."
            )
    for entry in list(directory.iterdir()):
        is_part = before is not None and any(pattern and entry.match(pattern) for pattern in kept)
        if is_part or entry.name in ("lock", SETTINGS):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink(missing_ok=True)
    if before is None:
        write_whole(settings, lambda file: file.write(json.dumps(identity, indent=1).encode()))


def difference(before: Any, now: Any, name: str = "") -> str:
    """Return the first difference of two settings, with its name; an empty text if there is none."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*before, *(key for key in now if key not in before)]:
            found = difference(before.get(key), now.get(key), f"{name}.{key}".strip("."))
            if found:
                return found
        return ""
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for i, (old, new) in enumerate(zip(before, now, strict=True)):
            found = difference(old, new, f"{name}[{i}]")
            if found:
                return found
        return ""
    if before == now:
        return ""
    return f"{name} = {before!r:.200} where this call has {now!r:.200}"


def check_seen_here(directory: Path, caller: str) -> None:
    """Refuse, in a task, to write parts where the client does not see them: a worker may have another disk."""
    if not (directory / SETTINGS).exists():
        raise error_here(
            f"does not see {directory}, where {caller} writes its parts; it must be on a disk that all workers share."
        )


def error_here(message: str) -> ClusterError:
    """Return an error about this process, whose name begins the sentence."""
    name = process_name()
    return ClusterError(f"{name[0].upper()}{name[1:]} {message}")


def write_arrays(file: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays to a part, in a task.

    Raises
    ------
    ClusterError
        Naming the file and what the disk answered.
    """
    try:
        write_whole(file, lambda opened: np.savez(opened, **arrays))  # type: ignore[arg-type]
    except OSError as error:
        raise error_here(f"cannot write {file}: {error}. What is there already is kept.") from error


def write_whole(file: Path, write: Any) -> None:
    """Write a file that is there whole or not at all, after a loss of power too."""
    temporary = file.with_name(f"{file.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        with open(temporary, "wb") as opened:
            write(opened)
            opened.flush()
            os.fsync(opened.fileno())
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def read_arrays(file: Path, caller: str, names: tuple[str, ...] | None = None) -> dict[str, np.ndarray]:
    """Return arrays of a part, by default all; checksums are compared.

    Raises
    ------
    DataError
        Naming the file.
    """
    try:
        # What np.load opens itself stays open if it is no part.
        with open(file, "rb") as opened, np.load(opened, allow_pickle=False) as stored:
            return {name: stored[name] for name in names or stored.files}
    except NOT_WHOLE as error:
        raise unreadable(file, error, caller) from error


def unreadable(file: Path, error: BaseException, caller: str) -> DataError:
    """Return the error that a part cannot be read."""
    return DataError(f"{file} cannot be read any more: {error}. Call {caller} again.")


def _is_ours(lock: Any) -> bool:
    """Return whether no other process has the lock; where a disk knows no locks, nobody can tell."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
