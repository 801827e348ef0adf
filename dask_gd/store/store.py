"""Keep a run on disk: commit each iteration whole or not at all, and read it back.

An iteration is a file, a zipped Zarr group ``iteration-00000012.zarr.zip`` that zarr and xarray open by
themselves. It is written beside its place, flushed to the disk and renamed, so that a crash at any moment
leaves either the old files, or the old files and the new file. A checksum of the whole file, the zip's comment,
refuses a flipped bit. Nothing is pickled; everything but arrays is JSON in the group's attributes. Every file has
the whole history, so that removing older files loses nothing but their weights.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import ClusterError, CorruptCheckpointWarning, InvalidArgumentError, StoreError, StoreMismatchError, warn
from . import locking
from .checkpoint_file import Checkpoint, decode, encode
from .former_names import with_present_names

logger = logging.getLogger("dask_gd")

SUFFIX = ".zarr.zip"
FILE = re.compile(r"iteration-(\d{8,})\.zarr\.zip")
#: Name of a file until its commit is whole.
UNFINISHED = re.compile(r"\.iteration-\d{8,}\.zarr\.zip\.tmp")

#: A function that raises an error for a checkpoint that is not whole.
Check = Callable[[Checkpoint], None]


class Store:
    """The iterations of one run in a directory.

    Parameters
    ----------
    path : path
        A directory, made if it does not exist.
    keep : int or None
        Iterations kept on disk, counted from the newest; None keeps all. At least 2, so that there is an iteration to
        go back to when the newest is damaged. Damaged iterations do not count.
    strict : bool
        Refuse to go on if the newest iteration is damaged, in place of a warning and the iteration before it.

    Examples
    --------
    >>> import tempfile
    >>> x = np.array([[0.0], [1.0], [2.0]])
    >>> store = dask_gd.Store(tempfile.mkdtemp(), keep=None)
    >>> run = dask_gd.fit(x, np.array([1.0, 3.0, 5.0]), store=store)
    >>> store.iterations() == list(range(run.n_iter + 1))
    True
    """

    def __init__(self, path: str | os.PathLike, keep: int | None = 3, strict: bool = False):
        # Refuse arguments before anything is on disk.
        if "://" in str(path):
            raise InvalidArgumentError(f"store={str(path)!r}: a run is stored in a local directory, not at a URL.")
        if keep is not None and not (isinstance(keep, int) and keep >= 2):
            raise InvalidArgumentError(f"Store(keep={keep!r}): keep at least 2 iterations, or None for all.")
        if not isinstance(strict, bool):
            raise InvalidArgumentError(f"Store(strict={strict!r}): True or False.")
        self.path = Path(path)
        self.keep = keep
        self.strict = strict
        self._lock: int | None = None
        self._check: Check = _accept
        # Whether an iteration can be read, where that is known.
        self._readable: dict[int, bool] = {}

    def __enter__(self) -> Store:
        """Lock the store for writing: make the directory, refuse a second fit, remove unfinished files."""
        # The lock file is in the directory, which may not exist yet.
        if self._lock is not None:
            raise StoreError(f"Another fit is writing to {self.path}, through this same Store.")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise self._unwritable(error) from error
        # Only the process with the lock may change the directory.
        try:
            locking.take(lock, self.path)
            locking.sign(lock)
            self._clear_unfinished()
            self._try_to_write()
        except OSError as error:
            os.close(lock)
            raise self._unwritable(error) from error
        except BaseException:
            os.close(lock)
            raise
        self._lock = lock
        self._readable = {}
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Unlock the store, and forget the fit that has used it."""
        self._check = _accept
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _clear_unfinished(self) -> None:
        """Remove the leftovers of a killed commit. A directory of another name is removed only if it is empty."""
        for stale in self.path.glob(".*.tmp"):
            with contextlib.suppress(OSError):
                if stale.is_symlink() or not stale.is_dir():
                    stale.unlink()
                elif UNFINISHED.fullmatch(stale.name):
                    shutil.rmtree(stale)
                else:
                    stale.rmdir()

    def _try_to_write(self) -> None:
        """Make and remove a file, as a commit does: the lock may be writable where the directory is not."""
        trial = self.path / f".{os.getpid()}.tmp"
        try:
            trial.touch()
            trial.unlink()
        except OSError as error:
            raise self._unwritable(error) from error
        finally:
            with contextlib.suppress(OSError):
                trial.unlink(missing_ok=True)

    def _unwritable(self, error: OSError) -> StoreError:
        """Return the error for a directory that cannot be written."""
        return StoreError(f"Cannot write the store {self.path}: {error.strerror}. Choose a writable directory.")

    def iterations(self) -> list[int]:
        """Return the numbers of the iterations on disk, oldest first."""
        matches = (FILE.fullmatch(file.name) for file in self.path.glob(f"*{SUFFIX}"))
        return sorted(int(match[1]) for match in matches if match)

    def file(self, iteration: int) -> Path:
        """Return the path of an iteration."""
        return self.path / f"iteration-{iteration:08d}{SUFFIX}"

    def is_in_use(self) -> bool:
        """Return whether a live process has the store locked, as a fit or a search has from its start to its end."""
        return locking.is_held(self.path / "lock")

    def committed_at(self) -> float | None:
        """Return when the newest iteration was committed, in seconds since the epoch; None without an iteration."""
        iterations = self.iterations()
        for iteration in reversed(iterations):
            with contextlib.suppress(FileNotFoundError):
                return self.file(iteration).stat().st_mtime
        # A fit that runs has removed them all, and committed newer iterations.
        if self.iterations() != iterations:
            return self.committed_at()
        return None

    def commit(self, checkpoint: Checkpoint) -> None:
        """Write an iteration, whole or not at all, then remove the iterations that `keep` does not cover."""
        target = self.file(checkpoint.iteration)
        temporary = self.path / f".{target.name}.tmp"
        # The file has its name only once all its bytes are on disk.
        try:
            with open(temporary, "wb") as file:
                file.write(encode(checkpoint))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
            self._sync_directory()
        except OSError as error:
            raise StoreError(
                f"Cannot commit iteration {checkpoint.iteration} to {target}: {error.strerror}. "
                "The iterations before it are intact; make room and fit again to resume."
            ) from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        # Older iterations go only after the new one is safe.
        self._readable[checkpoint.iteration] = True
        if self.keep is not None:
            self._remove_old(self.keep)

    def _remove_old(self, keep: int) -> None:
        """Remove iterations older than the newest ``keep`` that can be read; damaged iterations do not count."""
        readable = 0
        for iteration in reversed(self.iterations()):
            if readable < keep:
                readable += self._is_readable(iteration)
                continue
            try:
                self.file(iteration).unlink(missing_ok=True)
            except OSError as error:
                logger.warning("Cannot remove %s, which is no longer needed: %s.", self.file(iteration), error.strerror)

    def _is_readable(self, iteration: int) -> bool:
        """Return whether an iteration can be read; a file that this fit has not written is read once to find out."""
        if iteration not in self._readable:
            try:
                self.read(iteration)
                self._readable[iteration] = True
            except ClusterError:
                raise
            except Exception:
                self._readable[iteration] = False
        return self._readable[iteration]

    def read(self, iteration: int) -> Checkpoint:
        """Read an iteration and check its content."""
        checkpoint = with_present_names(decode(self.file(iteration), iteration))
        self._check(checkpoint)
        return checkpoint

    def _sync_directory(self) -> None:
        """Flush the directory: a rename is on disk only when its directory is."""
        if os.name == "posix":
            descriptor = os.open(self.path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def latest(self, check: Check | None = None) -> Checkpoint | None:
        """Return the newest readable iteration, or None for an empty store.

        Parameters
        ----------
        check : callable, optional
            Takes a checkpoint, and raises an error if it is not whole.

        Raises
        ------
        StoreError
            If there are iterations but none is readable; for a strict store, if the newest is not.

        Warns
        -----
        CorruptCheckpointWarning
            For each iteration that is passed over.
        """
        self._check = check or _accept
        iterations = self.iterations()
        # The newest first.
        for iteration in reversed(iterations):
            try:
                return self.read(iteration)
            except FileNotFoundError:
                # A fit that runs has removed it, and committed newer iterations.
                if self.iterations() != iterations:
                    return self.latest(check)
            except ClusterError:
                # Workers read a part of it, and these are at fault.
                raise
            except Exception as error:
                self._pass_over(iteration, error)
        if iterations:
            raise StoreError(f"None of the {len(iterations)} iterations in {self.path} is readable.")
        return None

    def _pass_over(self, iteration: int, error: Exception) -> None:
        """Warn that an iteration cannot be read; refuse to go on without it if the store is strict."""
        if isinstance(error, ValueError | OSError):
            reason = str(error)
        else:
            reason = f"{type(error).__name__}: {error}"
        damaged = f"{self.file(iteration)} is damaged ({reason:.200})"
        if self.strict:
            raise StoreError(
                f"{damaged}, and the store is strict. Restore the file; or remove it, or open the store without "
                "strict=True, to use the iteration before it."
            ) from error
        warn(
            f"{damaged}; using the iteration before it.",
            CorruptCheckpointWarning,
        )


def _accept(checkpoint: Checkpoint) -> None:
    """Accept a checkpoint as it is."""


def check_same(stored: dict[str, Any], asked: dict[str, Any], path: Path) -> None:
    """Refuse to resume a run with another specification, and name each field that differs."""
    differences = []
    for field in sorted(stored.keys() | asked.keys()):
        old = stored.get(field)
        new = asked.get(field)
        if isinstance(old, dict) and isinstance(new, dict):
            # Fields of a loss or a solver are named by themselves.
            for name in sorted(old | new):
                if old.get(name) != new.get(name):
                    differences.append(f"{field}.{name}: stored {old.get(name)}, now {new.get(name)}")
        elif old != new:
            differences.append(f"{field}: stored {old}, now {new}")
    if differences:
        raise StoreMismatchError(
            f"{path} holds a run made otherwise: {'; '.join(differences)}. "
            "Use the same data and arguments to resume it, or another store for a new run."
        )


def said_of(store: Store | None, iteration: int) -> str:
    """Return a sentence on the content of a store after this iteration, for errors that end a fit or a search."""
    if store is None:
        return "Nothing was stored: with store=... every iteration would be."
    if iteration < 0:
        return f"Nothing has been committed yet to {store.path}."
    return f"Iteration {iteration} is committed in {store.path}; the same call goes on from there."
