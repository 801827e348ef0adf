"""Start the worker processes of a command: Ctrl-C is for the command alone, and they end with it."""

from __future__ import annotations

import contextlib
import logging
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
from distributed.diagnostics.plugin import WorkerPlugin
from distributed.utils import LoopRunner

from .. import interrupt


@contextlib.contextmanager
def worker_processes(**options: Any) -> Iterator[Client]:
    """Start a cluster of processes on this machine, with a temporary directory of its own, and yield its client.

    A terminal sends Ctrl-C to all processes. The workers, also those that are started again, inherit a signal mask
    that blocks it from the thread that starts them; the main thread receives it all the while.
    """
    parent = dask.config.get("temporary-directory") or tempfile.gettempdir()
    scratch = Path(parent) / f"dask-gd-{uuid.uuid4().hex}"
    with contextlib.ExitStack() as stack:
        # The directory goes at the end, also where the process is ended at once.
        stack.callback(shutil.rmtree, scratch, ignore_errors=True)
        stack.enter_context(interrupt.cleaned_up_by(partial(discard, scratch)))
        scratch.mkdir(mode=0o700, parents=True)
        stack.enter_context(dask.config.set({"temporary-directory": str(scratch)}))
        # The processes, which the loop's thread starts.
        runner = deaf_loop()
        stack.callback(runner.stop)
        try:
            cluster = stack.enter_context(LocalCluster(loop=runner.loop, **options))
            client = stack.enter_context(Client(cluster))
            client.register_plugin(QuietFailures())
            yield client
        finally:
            # Closing may take long where workers are busy, starting or killed.
            interrupt.end_if_interrupted()


class QuietFailures(WorkerPlugin):
    """Keep a worker from logging the errors of tasks: they are raised in the command, which says them once."""

    name = "dask-gd-quiet-failures"

    def setup(self, worker: Any) -> None:
        """Filter the log of this process's worker."""
        logging.getLogger("distributed.worker").addFilter(is_no_failed_task)


def is_no_failed_task(record: logging.LogRecord) -> bool:
    """Return whether a log record is of anything but a task that has failed."""
    return not str(record.msg).startswith("Compute Failed")


def deaf_loop() -> LoopRunner:
    """Start an event loop whose thread does not receive SIGINT, nor do the processes that it starts."""
    runner = LoopRunner()
    if not hasattr(signal, "pthread_sigmask"):  # pragma: no cover - Windows
        runner.start()
        return runner
    # The tracker is started first, since its start lifts the mask of SIGINT.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        runner.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return runner


def discard(scratch: Path) -> None:
    """Kill the workers, and remove their directory and semaphores, as the end of a Python process would."""
    kill_workers()
    multiprocessing.util._run_finalizers(0)  # type: ignore[attr-defined]
    shutil.rmtree(scratch, ignore_errors=True)


def kill_workers(seconds: float = 2.0) -> None:
    """Kill the processes that this process has started, but for Python's resource tracker, which ends by itself."""
    # A nanny that is closing starts no other worker.
    for nanny in list(Nanny._instances):
        nanny.close_gracefully()
    # Workers may start processes while they are killed.
    deadline = time.monotonic() + seconds
    while True:
        workers = [process for process in psutil.Process().children(recursive=True) if _is_worker(process)]
        if not workers or time.monotonic() >= deadline:
            return
        for process in workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(0.01)


def _is_worker(process: psutil.Process) -> bool:
    """Return whether a process is alive and not Python's resource tracker."""
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return not any("resource_tracker" in argument for argument in process.cmdline())
    except psutil.NoSuchProcess:
        return False
