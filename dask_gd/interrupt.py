"""End the process of ``dask-gd`` on Ctrl-C, whatever it is doing.

This module is imported before all others, so that it works while they are imported, and needs nothing but Python. A
process that is not the command's own keeps its handlers. On SIGINT the command's process

- ends at once, while there is nothing to put in order: it imports, or has done its work;
- raises KeyboardInterrupt, once, while a command runs (`unwinding`): half-written files are removed on the way out.
  It ends at the latest after `PATIENCE`, also if a library has swallowed the exception.
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

#: The exit status that a shell reports for a program that Ctrl-C has ended: 128 and the signal's number.
INTERRUPTED = 130

#: Seconds from Ctrl-C to the end of the process, where unwinding hangs.
PATIENCE = 10.0


class _Process:
    """The state of this process, for the handler."""

    #: A command runs.
    in_command = False
    #: Ctrl-C has come while it ran.
    interrupted = False
    #: Functions to call before the process ends.
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
    """End the process, or raise KeyboardInterrupt once while a command runs."""
    if not _Process.in_command:
        end("interrupted")
    if _Process.interrupted:
        return
    # Imported here, since this module is imported before all others.
    import logging

    _Process.interrupted = True
    # Not a Thread: the signal may have come while a thread is being started, which holds a lock.
    _thread.start_new_thread(_end_later, ())
    # Code that is cut off would log errors.
    logging.disable()
    _clean_up()
    raise KeyboardInterrupt


def _end_later() -> None:
    """End the process where unwinding takes too long."""
    time.sleep(PATIENCE)
    end("interrupted")


def end(message: str | None) -> None:
    """End this process now, with a message on stderr if there is one."""
    if message is not None:
        line = f"dask-gd: {message}\n"
        # A terminal has shown ^C.
        if os.isatty(2):
            line = f"\n{line}"
        # Not through a buffer, which may be in the middle of a line.
        with contextlib.suppress(OSError):
            os.write(2, line.encode())
    _clean_up()
    os._exit(INTERRUPTED)


def end_if_interrupted(message: str | None = None) -> None:
    """End this process if Ctrl-C has begun to end it."""
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
    """Call ``cleanup`` where Ctrl-C cuts off the code of this context: first of all, and before the process ends."""
    _Process.cleanups.append(cleanup)
    try:
        yield
    finally:
        _Process.cleanups.remove(cleanup)


def _clean_up() -> None:
    """Call all cleanups, whatever they raise."""
    for cleanup in list(_Process.cleanups):
        with contextlib.suppress(Exception):
            cleanup()


take()
