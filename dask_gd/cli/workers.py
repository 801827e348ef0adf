"""Worker processes of a command: Ctrl-C is for the command alone, and they end with it."""

from __future__ import annotations

import contextlib
import multiprocessing.util
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Iterator
from functools import partial
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import dask
import psutil
from distributed import Client, LocalCluster, Nanny
from distributed.utils import LoopRunner

from .. import interrupt


@contextlib.contextmanager
def worker_processes(**options: Any) -> Iterator[Client]:
    """Start a cluster of processes on this machine, with a temporary directory of its own, and yield its client.

    A terminal sends Ctrl-C to all processes. The workers inherit a signal mask without it, from the thread that starts
    them, also those that are started again; the main thread hears it all the while.
    """
    scratch = Path(dask.config.get("temporary-directory") or tempfile.gettempdir()) / f"dask-gd-{uuid.uuid4().hex}"
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, scratch, ignore_errors=True)
        stack.enter_context(interrupt.cleaned_up_by(partial(discard, scratch)))
        scratch.mkdir(mode=0o700, parents=True)
        stack.enter_context(dask.config.set({"temporary-directory": str(scratch)}))
        runner = deaf_loop()
        stack.callback(runner.stop)
        try:
            cluster = stack.enter_context(LocalCluster(loop=runner.loop, **options))
            yield stack.enter_context(Client(cluster))
        finally:
            # Closing may take long where workers are busy, starting or killed.
            interrupt.end_if_interrupted("interrupted")


def deaf_loop() -> LoopRunner:
    """Start an event loop whose thread, and so the processes that it starts, do not get SIGINT."""
    runner = LoopRunner()
    if not hasattr(signal, "pthread_sigmask"):  # pragma: no cover - Windows
        runner.start()
        return runner
    # Whoever starts it lifts the mask of SIGINT.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        runner.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return runner


def discard(scratch: Path) -> None:
    """Kill the workers, and remove their directory and semaphores, as would be done at the end of a Python process."""
    kill_workers()
    multiprocessing.util._run_finalizers(0)  # type: ignore[attr-defined]
    shutil.rmtree(scratch, ignore_errors=True)


def kill_workers(seconds: float = 2.0) -> None:
    """Kill the processes that this one has started, but for Python's resource tracker, which ends by itself."""
    for nanny in list(Nanny._instances):
        # So that it starts no other.
        nanny.close_gracefully()
    deadline = time.monotonic() + seconds
    while (workers := [p for p in psutil.Process().children(recursive=True) if _is_worker(p)]) and (
        time.monotonic() < deadline
    ):
        for process in workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(0.01)


def _is_worker(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and not any("resource_tracker" in a for a in process.cmdline())
    except psutil.NoSuchProcess:
        return False
