"""Lock a store for the process that writes it, say whose a lock is, and find out whether there is one."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import time
from pathlib import Path

from ..errors import StoreError

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has no advisory locks; two fits into one store are then not noticed
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger("dask_gd")

#: Seconds for which a lock must be held to count as another fit's: to look at a lock takes it for a moment.
HELD_FOR = 0.2


def take(lock: int, path: Path) -> None:
    """Lock the open lock file of the store at ``path`` for this process.

    Raises
    ------
    StoreError
        If another process has it, or this one through another file. Without locks in the file system that is not known.
    """
    if fcntl is None:
        return
    deadline = time.monotonic() + HELD_FOR
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                raise StoreError(
                    f"Another fit is writing to {path}{owner_of(lock)}. Wait for it to end, or choose another store."
                ) from error
            time.sleep(HELD_FOR / 10)
        except OSError as error:
            logger.warning(
                "The file system of %s has no locks (%s): take care that no other fit writes there.",
                path,
                error.strerror,
            )
            return


def sign(lock: int) -> None:
    """Write into the open lock file which process has the lock, for the error of a second fit."""
    owner = {"process": os.getpid(), "host": socket.gethostname()}
    os.ftruncate(lock, 0)
    os.pwrite(lock, json.dumps(owner).encode(), 0)


def is_held(file: Path) -> bool:
    """Return whether a live process has the lock; False where the file system cannot tell.

    A process that has ended may have left a child that still has the open file, and with it the lock.
    """
    if fcntl is None:
        return False
    # Without a lock file, or the right to read it, nothing is known.
    try:
        lock = os.open(file, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = _owner(lock)
        return owner is None or not _has_ended(*owner)
    except OSError:
        return False
    finally:
        os.close(lock)
    return False


def owner_of(lock: int) -> str:
    """Say which process has written itself into the open lock file; return an empty text if that cannot be read."""
    owner = _owner(lock)
    if owner is None:
        return ""
    process, host = owner
    if host != socket.gethostname():
        return f": process {process} on {host}"
    if process == os.getpid():
        return ": this process"
    if _has_ended(process, host):
        return f": process {process} on this machine, which has ended and has left a child process that holds the lock"
    return f": process {process} on this machine"


def _owner(lock: int) -> tuple[int, str] | None:
    """Return the process that has written itself into the open lock file, and its host; None for anything else."""
    # Another version, or a crash, may have left anything in the file.
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        owner = json.loads(os.pread(lock, 4096, 0))
        return int(owner["process"]), str(owner["host"])
    return None


def _has_ended(process: int, host: str) -> bool:
    """Return whether a process is known to have ended: one of this machine, where that can be looked up."""
    is_here = host == socket.gethostname() and os.path.exists("/proc/self")
    return is_here and not os.path.exists(f"/proc/{process}")
