"""A run on disk: each iteration committed whole or not at all, and read back.

One iteration is one file, a zipped Zarr group ``iteration-00000012.zarr.zip`` that zarr and xarray open by
themselves. It is written beside its place, flushed to the disk and renamed, so that a crash at any moment
leaves the old files or the old files and a new one. A checksum of the whole file, the zip's comment, refuses
a flipped bit. Nothing is pickled; what is not an array is JSON in the group's attributes. Every file holds the
whole history, so that removing older ones loses nothing but their weights.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import warnings
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr
from zarr.storage import MemoryStore, ZipStore

from .errors import CorruptCheckpointWarning, InvalidArgumentError, StoreError, StoreMismatchError

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has no advisory locks; two fits into one store are then not noticed
    fcntl = None  # type: ignore[assignment]

SUFFIX = ".zarr.zip"
FILE = re.compile(r"iteration-(\d{8,})\.zarr\.zip")

#: Hexadecimal digits of the checksum at the end of a file, the zip's comment.
DIGEST = 32


class Checkpoint(NamedTuple):
    """One committed iteration. Keys of ``arrays`` are paths in the group; values are (dimension names, array)."""

    iteration: int
    attributes: dict[str, Any]
    arrays: dict[str, tuple[tuple[str, ...], np.ndarray]]


class Store:
    """The iterations of one run in a directory.

    Parameters
    ----------
    path : path
        A directory, made if it does not exist.
    keep : int or None
        Iterations kept on disk, counted from the newest; None keeps all. At least 2, so that there is one to go back to
        when the newest is damaged.

    Examples
    --------
    >>> import tempfile
    >>> x = np.array([[0.0], [1.0], [2.0]])
    >>> store = dask_gd.Store(tempfile.mkdtemp(), keep=None)
    >>> run = dask_gd.fit(x, np.array([1.0, 3.0, 5.0]), store=store)
    >>> store.iterations() == list(range(run.n_iter + 1))
    True
    """

    def __init__(self, path: str | os.PathLike, keep: int | None = 3):
        if "://" in str(path):
            raise InvalidArgumentError(f"store={str(path)!r}: a run is stored in a local directory, not at a URL.")
        if keep is not None and not (isinstance(keep, int) and keep >= 2):
            raise InvalidArgumentError(f"Store(keep={keep!r}): keep at least 2 iterations, or None for all.")
        self.path, self.keep = Path(path), keep
        self._lock: int | None = None

    def __enter__(self) -> Store:
        """Take the store for writing: make the directory, refuse a second fit, clear away unfinished files."""
        if self._lock is not None:
            raise StoreError(f"Another fit is writing to {self.path}, through this same Store.")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StoreError(
                f"Cannot write the store {self.path}: {error.strerror}. Choose a writable directory."
            ) from error
        if fcntl is not None:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(self._lock)
                self._lock = None
                raise StoreError(
                    f"Another fit is writing to {self.path}. Wait for it to end, or choose another store."
                ) from error
        for stale in self.path.glob(".*.tmp"):
            stale.unlink()
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def iterations(self) -> list[int]:
        """Numbers of the iterations on disk, oldest first."""
        names = (FILE.fullmatch(file.name) for file in self.path.glob(f"*{SUFFIX}"))
        return sorted(int(name[1]) for name in names if name)

    def file(self, iteration: int) -> Path:
        return self.path / f"iteration-{iteration:08d}{SUFFIX}"

    def commit(self, checkpoint: Checkpoint) -> None:
        """Write one iteration, whole or not at all, then drop what `keep` does not cover."""
        target = self.file(checkpoint.iteration)
        temporary = self.path / f".{target.name}.tmp"
        try:
            with open(temporary, "wb") as file:
                file.write(encode(checkpoint))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
            self._sync_directory()
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise StoreError(
                f"Cannot commit iteration {checkpoint.iteration} to {target}: {error.strerror}. "
                "The iterations before it are intact; make room and fit again to resume."
            ) from error
        if self.keep is not None:
            for old in self.iterations()[: -self.keep]:
                self.file(old).unlink(missing_ok=True)

    def _sync_directory(self) -> None:
        """A rename is on disk only when its directory is."""
        if os.name == "posix":
            descriptor = os.open(self.path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def latest(self) -> Checkpoint | None:
        """The newest readable iteration, or None for an empty store. Damaged ones are passed over with a warning."""
        iterations = self.iterations()
        for iteration in reversed(iterations):
            try:
                return decode(self.file(iteration), iteration)
            except (ValueError, OSError) as error:
                warnings.warn(
                    f"{self.file(iteration)} is damaged ({error}); using the iteration before it.",
                    CorruptCheckpointWarning,
                    stacklevel=3,
                )
        if iterations:
            raise StoreError(f"None of the {len(iterations)} iterations in {self.path} is readable.")
        return None


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
    """Read one file back through zarr. Raises ValueError if any bit of it is not as it was written."""
    content = file.read_bytes()
    if len(content) < DIGEST or _digest(content[:-DIGEST]) != content[-DIGEST:]:
        raise ValueError("its checksum does not match")
    with ZipStore(file, mode="r") as zipped:
        group = zarr.open_group(zipped, mode="r")
        arrays = {
            path: (tuple(a.metadata.dimension_names or ()), np.asarray(a[...]))  # type: ignore[union-attr]
            for path, a in group.members(max_depth=None)
            if isinstance(a, zarr.Array)
        }
        return Checkpoint(iteration, dict(group.attrs), arrays)


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


def check_same(stored: dict[str, Any], asked: dict[str, Any], path: Path) -> None:
    """Refuse to resume a run that was made otherwise, naming each field that differs."""
    differences = []
    for field in sorted(stored.keys() | asked.keys()):
        old, new = stored.get(field), asked.get(field)
        if isinstance(old, dict) and isinstance(new, dict):
            differences += [
                f"{field}.{k}: stored {old.get(k)}, now {new.get(k)}"
                for k in sorted(old | new)
                if old.get(k) != new.get(k)
            ]
        elif old != new:
            differences.append(f"{field}: stored {old}, now {new}")
    if differences:
        raise StoreMismatchError(
            f"{path} holds a run made otherwise: {'; '.join(differences)}. "
            "Use the same data and arguments to resume it, or another store for a new run."
        )
