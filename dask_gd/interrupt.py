"""End the process of ``dask-gd`` on Ctrl-C, whatever it is doing.

This is imported before all else, so that it holds while the rest is imported, and needs nothing but Python. A process
that is not the command's own keeps its handlers. On SIGINT the command's process

- ends at once, while there is nothing to put in order: it imports, or has done its work;
- raises KeyboardInterrupt, once, while a command runs (`unwinding`): what is half-written is removed on the way out.
  It ends at the latest after `PATIENCE`, also if some library has swallowed the exception.
"""

from __future__ import annotations

import _thread
import contextlib
import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import ClassVar

#: The exit status that a shell reports of a program that Ctrl-C has ended: 128 and the signal's number.
INTERRUPTED = 130

#: Seconds from Ctrl-C to the end of the process, where unwinding hangs.
PATIENCE = 10.0


class _Process:
    """What this process is doing, as the handler must know it."""

    in_command = False
    interrupted = False
    cleanups: ClassVar[list[Callable[[], None]]] = []


def take() -> None:
    """Let Ctrl-C end this process, if it is the command's own."""
    if is_command(sys.argv, sys.orig_argv) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _handle)


def is_command(argv: list[str], orig_argv: list[str]) -> bool:
    """Return whether a process was started as ``dask-gd`` or ``python -m dask_gd``.

    A worker process has the arguments of the process that started it, but not its original ones.

    >>> is_command(["/bin/dask-gd", "show"], ["/bin/python", "/bin/dask-gd", "show"])
    True
    >>> is_command(["-m", "show"], ["/bin/python", "-m", "dask_gd", "show"])
    True
    >>> is_command(["/bin/dask-gd", "show"], ["/bin/python", "-c", "..."])
    False
    """
    program = ""
    if argv:
        program = argv[0]
    if program == "-m":
        return ("-m", "dask_gd") in itertools.pairwise(orig_argv)
    return os.path.basename(program) == "dask-gd" and program in orig_argv


def _handle(*_: object) -> None:
    if not _Process.in_command:
        end("interrupted")
    if _Process.interrupted:
        return
    import logging

    _Process.interrupted = True
    # Not a Thread: this may have come while one is being started, which holds a lock.
    _thread.start_new_thread(_end_later, ())
    # What is cut off complains.
    logging.disable()
    _clean_up()
    raise KeyboardInterrupt


def _end_later() -> None:
    time.sleep(PATIENCE)
    end("interrupted")


def end(message: str | None) -> None:
    """End this process now."""
    if message is not None:
        start = "\n" if os.isatty(2) else ""
        # Not through a buffer, which may be in the middle of a line.
        with contextlib.suppress(OSError):
            os.write(2, f"{start}dask-gd: {message}\n".encode())
    _clean_up()
    os._exit(INTERRUPTED)


def end_if_interrupted(message: str | None = None) -> None:
    """End this process if Ctrl-C has begun to."""
    if _Process.interrupted:
        end(message)


@contextlib.contextmanager
def unwinding() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt meanwhile, and end the process when it arrives here."""
    _Process.in_command = True
    try:
        yield
    finally:
        _Process.in_command = False
        end_if_interrupted("interrupted")


@contextlib.contextmanager
def cleaned_up_by(cleanup: Callable[[], None]) -> Iterator[None]:
    """Call ``cleanup`` where Ctrl-C cuts off what runs meanwhile: first of all, and before the process ends."""
    _Process.cleanups.append(cleanup)
    try:
        yield
    finally:
        _Process.cleanups.remove(cleanup)


def _clean_up() -> None:
    for cleanup in list(_Process.cleanups):
        with contextlib.suppress(Exception):
            cleanup()


take()
