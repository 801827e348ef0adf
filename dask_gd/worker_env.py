"""Set up the process in which a task runs, whichever process that is, before the task computes.

The task itself does so, on every cluster, also a cluster that somebody else started, and on workers that join later.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import mmap
import os
import threading
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import psutil
from distributed import Worker, get_worker
from distributed.system import MEMORY_LIMIT
from distributed.worker import WORKER_ANY_RUNNING
from threadpoolctl import ThreadpoolController

#: Bytes of an array from which it has a mapping of its own, see `mapped`.
SMALL = 1 << 16

_lock = threading.Lock()
#: Tasks and solver steps of this process that need BLAS to have a single thread.
_users = 0
#: Threads of each BLAS library without them.
_threads_before = [0]


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold BLAS to one thread while any task (or solver step) of this process runs.

    Dask runs a task on every core already; and BLAS splits its sums by the number of its threads, so that weights
    would depend on the machine. Each task that enters sets the limit, since in some libraries a thread has its own
    limit; the last to leave lifts it.
    """
    global _users, _threads_before
    # The first to enter remembers the numbers of threads.
    with _lock:
        if _users == 0:
            _threads_before = [library.get_num_threads() for library in _blas()]
        _set_threads([1] * len(_blas()))
        _users += 1
    try:
        yield
    finally:
        # The last to leave restores them.
        with _lock:
            _users -= 1
            if _users == 0:
                _set_threads(_threads_before)


@lru_cache(maxsize=1)
def _blas() -> list[Any]:
    """Return the BLAS libraries of this process."""
    return ThreadpoolController().select(user_api="blas").lib_controllers


def _set_threads(threads: list[int]) -> None:
    """Set the number of threads of each BLAS library."""
    for library, number in zip(_blas(), threads, strict=True):
        # threadpoolctl 3.8 heeds only the thread that first set OpenBLAS's limit, which is the whole process's. Here
        # any task may set it, so that the claim is dropped before and after.
        release = getattr(library, "clear_controlling_thread", lambda force: None)
        release(force=True)
        library.set_num_threads(number)
        release(force=True)


#: Share of a Dask worker's memory limit above which its free pages are given back; at 0.7 Dask begins to spill, at 0.8
#: it pauses the worker.
RELIEVE = 0.6


def relieve(share: float = RELIEVE) -> bool:
    """Give back the pages that `keep_pages` kept where this process has a share of its worker's limit; True if it did.

    Dask counts them as used, and would pause the worker for them, for ever.
    """
    limit = memory_limit()
    if limit is None or resident() <= share * limit:
        return False
    return give_back_pages()


def resident() -> int:
    """Return the bytes of memory that this process has."""
    return _process(os.getpid()).memory_info().rss


@lru_cache(maxsize=1)
def _process(pid: int) -> psutil.Process:
    """Return a process, which takes as long to find as all that is asked of it."""
    return psutil.Process(pid)


def give_back_pages() -> bool:
    """Give back the pages that `keep_pages` kept; True where that could be done."""
    try:
        return bool(ctypes.CDLL(None).malloc_trim(0))
    except (OSError, AttributeError, TypeError):
        return False


class Peak:
    """The most memory that this process had where it was noted, since somebody set it back."""

    def __init__(self) -> None:
        self.bytes = 0

    def note(self) -> None:
        """Take the memory of this moment into account."""
        self.bytes = max(self.bytes, resident())


#: The peak of this process.
peak = Peak()


def memory_limit() -> int | None:
    """Return the limit in bytes of the Dask worker that runs this task; None without a worker or a limit."""
    try:
        return get_worker().memory_manager.memory_limit
    except (ValueError, AttributeError):
        return None


def memory_of_process() -> int:
    """Return the bytes of memory that this process may use: its Dask worker's limit, else the machine's memory.

    The machine's is less where a control group or a resource limit says so.
    """
    return memory_limit() or MEMORY_LIMIT


def process_name() -> str:
    """Name this process for errors: by its worker's address, if it has one worker."""
    try:
        return f"worker {get_worker().address}"
    except ValueError:
        # Not a thread of Dask's, but a thread that prefetches for it.
        addresses = {worker.address for worker in Worker._instances if worker.status in WORKER_ANY_RUNNING}
        if len(addresses) == 1:
            return f"worker {addresses.pop()}"
        return f"process {os.getpid()}"


@lru_cache(maxsize=1)
def keep_pages() -> bool:
    """Tell malloc to keep the memory of freed chunks for the next chunks; True where that could be done.

    Most of the cost of decoding a chunk is its memory: an array of some megabytes is mapped, faulted in page by page,
    and unmapped when it is freed. With these thresholds it comes from, and goes back to, memory that the process
    keeps; the process holds its peak and no more. For glibc; elsewhere nothing is done. Overrides Dask's
    MALLOC_TRIM_THRESHOLD_, in this process only.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD and M_TOP_PAD of malloc.h keep the pages; M_ARENA_MAX, so that they are kept
    # once and not by each of the threads that zarr reads with.
    settings = ((-3, 1 << 30), (-1, (1 << 31) - 1), (-2, 64 << 20), (-8, 1))
    # All are set, also where malloc refuses the first.
    return all([mallopt(parameter, value) == 1 for parameter, value in settings])


def mapped(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return memory of zeros that the system gets back when the array is gone, in huge pages where it has them."""
    private = {}
    if hasattr(mmap, "MAP_ANONYMOUS"):
        private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS}
    nbytes = math.prod(shape) * dtype.itemsize
    # Less than some pages is not worth a mapping.
    if nbytes < SMALL:
        return np.zeros(shape, dtype)
    memory = mmap.mmap(-1, nbytes, **private)
    # Small pages would cost the first pass a fault for each.
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):
            memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, dtype).reshape(shape)
