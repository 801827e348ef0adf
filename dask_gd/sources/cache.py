"""Decoded rows that a worker keeps from one pass to the next, as far as its memory allows.

Every pass reads all rows in the same order, so that the rows read last are wanted last: rows are kept as they come
until the room is used up, and the rest is read again each time. In proportion to the room, nothing does better. Rows
are kept in memory of their own, given back to the system as soon as they are dropped, never in memory that Dask
manages and would spill.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..worker_env import RELIEVE, mapped, memory_limit, resident

#: Share of the worker's memory limit up to which rows are kept: below `RELIEVE`, at which they are dropped, and well
#: below 0.7, at which Dask begins to spill.
KEEP = 0.5
#: Seconds after which the rows of a fit that does not use them are dropped. A fit that ends has its rows dropped; a fit
#: whose client was killed cannot.
IDLE = 60.0


@dataclass
class Kept:
    """Rows that are kept, with the pass and the time of their last use."""

    #: An array, or a tuple of arrays and of such tuples, of which some may be None.
    rows: Any
    step: int
    used: float

    @property
    def nbytes(self) -> int:
        """The bytes of the rows."""
        return _nbytes(self.rows)


class Cache:
    """The rows that this process keeps. ``run`` names the fit, ``step`` its pass."""

    def __init__(self) -> None:
        self.kept: dict[tuple, Kept] = {}
        #: The share of the memory limit up to which rows of a run are kept, where it is not `KEEP`.
        self.shares: dict[str, float] = {}
        self.lock = threading.Lock()
        self.timer: threading.Timer | None = None

    def get(self, run: str, step: int, key: tuple) -> Any:
        """Return the rows kept under this key, or None."""
        kept = self.kept.get((run, *key))
        if kept is None:
            return None
        kept.step = step
        kept.used = time.monotonic()
        return kept.rows

    def room(
        self,
        run: str,
        step: int,
        shape: tuple[int, ...],
        dtype: np.dtype,
    ) -> np.ndarray | None:
        """Return memory for rows to keep, or None if none is left.

        Rows that the last passes did not use make room.
        """
        limit = memory_limit()
        nbytes = math.prod(shape) * dtype.itemsize
        # Without a limit there is no telling how much is too much.
        if limit is None or nbytes == 0:
            return None
        with self.lock:
            excess = resident() + nbytes - self.shares.get(run, KEEP) * limit

            # Rows that neither this pass nor the last has used are not wanted any more.
            if excess > 0:
                stale = [key for key, kept in self.kept.items() if key[0] == run and kept.step < step - 1]
                for key in stale:
                    excess -= self.kept.pop(key).nbytes
            if excess > 0:
                return None
            return mapped(shape, dtype)

    def put(
        self,
        run: str,
        step: int,
        key: tuple,
        rows: Any,
    ) -> None:
        """Keep rows that were read into memory from `room`."""
        with self.lock:
            self.kept[(run, *key)] = Kept(rows, step, used=time.monotonic())
            # Nobody else drops the rows of a fit whose client has died.
            if self.timer is None:
                self._start_timer()

    def shrink(self, share: float = RELIEVE) -> None:
        """Drop rows, the last ones first, while this process has more than a share of its worker's limit."""
        limit = memory_limit()
        with self.lock:
            while self.kept and limit is not None and resident() > share * limit:
                self.kept.popitem()

    def drop(self, run: str) -> None:
        """Drop all rows of a fit."""
        with self.lock:
            self.shares.pop(run, None)
            keys = [key for key in self.kept if key[0] == run]
            for key in keys:
                del self.kept[key]

    def expire(self) -> None:
        """Drop the rows of fits that have not used them for `IDLE` seconds: their clients may be gone."""
        with self.lock:
            # A fit uses its rows in turns: the last use of any of them counts for all.
            latest: dict[str, float] = {}
            for key, kept in self.kept.items():
                run = key[0]
                latest[run] = max(kept.used, latest.get(run, 0.0))

            for key in list(self.kept):
                if latest[key[0]] < time.monotonic() - IDLE:
                    del self.kept[key]

    def _expire(self) -> None:
        """Drop idle rows, and come back later if there are others."""
        self.expire()
        with self.lock:
            self.timer = None
            if self.kept:
                self._start_timer()

    def _start_timer(self) -> None:
        """Have idle rows looked for after a while, by a thread that keeps no process alive."""
        self.timer = threading.Timer(IDLE, self._expire)
        self.timer.daemon = True
        self.timer.start()


#: The cache of this process.
cache = Cache()


def _nbytes(rows: Any) -> int:
    """Return the bytes of all arrays."""
    if rows is None:
        return 0
    if isinstance(rows, tuple):
        return sum(map(_nbytes, rows))
    # A value that is repeated is in memory once.
    if rows.strides == (0,):
        return rows.itemsize
    return rows.nbytes
