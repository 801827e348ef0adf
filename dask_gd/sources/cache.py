"""Decoded rows that a worker keeps from one pass to the next, as far as its memory allows.

Every pass reads all rows in the same order, so that what was read last is what is wanted last: rows are kept as they
come until the room is used up, and the rest is read again each time. In proportion to the room, that is the best there
is. Rows are kept in memory of their own, given back to the system as soon as they are dropped, never in memory that
Dask manages and would spill.
"""

from __future__ import annotations

import contextlib
import mmap
import threading
import time
from dataclasses import dataclass

import numpy as np
import psutil

from ..worker_env import RELIEVE, memory_limit

#: Share of the worker's memory limit up to which rows are kept: below `RELIEVE`, at which they are dropped, and well
#: below 0.7, at which Dask begins to spill.
KEEP = 0.5
#: Seconds after which the rows of a fit that does not use them are dropped. A fit that ends has its own dropped; one
#: whose client was killed cannot.
IDLE = 60.0


@dataclass
class Kept:
    rows: np.ndarray
    step: int
    used: float


class Cache:
    """The rows that this process keeps. ``run`` names the fit, ``step`` its pass."""

    def __init__(self) -> None:
        self.kept: dict[tuple, Kept] = {}
        self.lock = threading.Lock()
        self.timer: threading.Timer | None = None

    def get(self, run: str, step: int, key: tuple) -> np.ndarray | None:
        """Rows kept under this key, or None."""
        found = self.kept.get((run, *key))
        if found is None:
            return None
        found.step = step
        found.used = time.monotonic()
        return found.rows

    def room(self, run: str, step: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray | None:
        """Memory for rows to keep, if there is some left. What the last passes did not use makes room."""
        limit = memory_limit()
        nbytes = int(np.prod(shape)) * dtype.itemsize
        if limit is None or nbytes == 0:
            return None
        with self.lock:
            over = _resident() + nbytes - KEEP * limit
            if over > 0:
                stale = [k for k, v in self.kept.items() if k[0] == run and v.step < step - 1]
                over -= sum(self.kept.pop(k).rows.nbytes for k in stale)
            if over > 0:
                return None
            return _mapped(shape, dtype)

    def put(self, run: str, step: int, key: tuple, rows: np.ndarray) -> None:
        """Keep rows that were read into memory from `room`."""
        with self.lock:
            self.kept[(run, *key)] = Kept(rows, step, time.monotonic())
            if self.timer is None:
                self.timer = threading.Timer(IDLE, self._expire)
                self.timer.daemon = True
                self.timer.start()

    def shrink(self) -> None:
        """Drop rows, the last ones first, while this process is too near its worker's limit."""
        limit = memory_limit()
        with self.lock:
            while self.kept and limit is not None and _resident() > RELIEVE * limit:
                self.kept.popitem()

    def drop(self, run: str) -> None:
        """Drop all rows of a fit."""
        with self.lock:
            for key in [key for key in self.kept if key[0] == run]:
                del self.kept[key]

    def expire(self) -> None:
        """Drop the rows of fits that have not used them for `IDLE` seconds: their clients may be gone."""
        with self.lock:
            latest: dict[str, float] = {}
            for key, kept in self.kept.items():
                latest[key[0]] = max(kept.used, latest.get(key[0], 0.0))
            for key in [key for key in self.kept if latest[key[0]] < time.monotonic() - IDLE]:
                del self.kept[key]

    def _expire(self) -> None:
        self.expire()
        with self.lock:
            if self.kept:
                self.timer = threading.Timer(IDLE, self._expire)
            else:
                self.timer = None
            if self.timer is not None:
                self.timer.daemon = True
                self.timer.start()


#: The one of this process.
cache = Cache()


def _resident() -> int:
    return psutil.Process().memory_info().rss


def _mapped(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Uninitialised memory that the system gets back when the array is gone, in huge pages where it has them."""
    private = {}
    if hasattr(mmap, "MAP_ANONYMOUS"):
        private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS}
    memory = mmap.mmap(-1, int(np.prod(shape)) * dtype.itemsize, **private)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):
            memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, dtype).reshape(shape)
