"""End the process of ``dask-gd`` on Ctrl-C or SIGTERM, whatever it is doing, and a fit of a script on SIGTERM.

This module is imported before all others, so that it works while they are imported, and needs nothing but Python. A
process that is not the command's own keeps its handlers. On SIGINT, and on SIGTERM, which is what Slurm and Kubernetes
send some seconds before they kill, the command's process

- ends at once, while there is nothing to put in order: it imports, or has done its work;
- raises KeyboardInterrupt, once, while a command runs (`unwinding`): half-written files are removed on the way out.
  It ends at the latest after `PATIENCE`, also if a library has swallowed the exception.

A script that runs a fit or a search has SIGTERM raise SystemExit meanwhile (`exiting_on_sigterm`).
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

#: The exit status that a shell reports for a program that a signal has ended is the signal's number and this.
BY_SIGNAL = 128
#: That of one that Ctrl-C has ended.
INTERRUPTED = BY_SIGNAL + signal.SIGINT

#: Seconds from Ctrl-C to the end of the process, where unwinding hangs.
PATIENCE = 10.0


class _Process:
    """The state of this process, for the handler."""

    #: A command runs.
    in_command = False
    #: The signal that has come while it ran, the first of them.
    signal: ClassVar[int | None] = None
    #: Functions to call before the process ends.
    cleanups: ClassVar[list[Callable[[], None]]] = []


class Terminated(SystemExit):
    """SIGTERM has come while a fit or a search of a script ran; the process exits with the status 143."""

    def __init__(self) -> None:
        super().__init__(BY_SIGNAL + signal.SIGTERM)

    def __str__(self) -> str:
        return "SIGTERM"


def take() -> None:
    """Let Ctrl-C and SIGTERM end this process, if it is the command's own."""
    if is_command(sys.argv, sys.orig_argv) and threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _handle)


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


def _handle(number: int, _: object) -> None:
    """End the process, or raise KeyboardInterrupt once while a command runs."""
    if _Process.signal is not None:
        return
    _Process.signal = number
    if not _Process.in_command:
        end(said())
    # Imported here, since this module is imported before all others.
    import logging

    # Not a Thread: the signal may have come while a thread is being started, which holds a lock.
    _thread.start_new_thread(_end_later, ())
    # Code that is cut off would log errors.
    logging.disable()
    _clean_up()
    raise KeyboardInterrupt


def said() -> str:
    """Return a word for what has ended the process."""
    if _Process.signal == signal.SIGTERM:
        return "terminated"
    return "interrupted"


def _end_later() -> None:
    """End the process where unwinding takes too long."""
    time.sleep(PATIENCE)
    end(said())


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
    os._exit(BY_SIGNAL + (_Process.signal or signal.SIGINT))


def end_if_interrupted(quietly: bool = False) -> None:
    """End this process if a signal has begun to end it, with a word on stderr unless it is to be ``quietly``."""
    if _Process.signal is not None:
        end(None if quietly else said())


@contextlib.contextmanager
def unwinding() -> Iterator[None]:
    """Let a signal raise KeyboardInterrupt meanwhile, and end the process when that arrives here."""
    _Process.in_command = True
    try:
        yield
    finally:
        _Process.in_command = False
        end_if_interrupted()


@contextlib.contextmanager
def cleaned_up_by(cleanup: Callable[[], None]) -> Iterator[None]:
    """Call ``cleanup`` where a signal cuts off the code of this context: first of all, and before the process ends."""
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


@contextlib.contextmanager
def exiting_on_sigterm(kind: str, committed: Callable[[], str]) -> Iterator[None]:
    """Let SIGTERM raise `Terminated` meanwhile, where it would end the process without a word.

    So contexts are left and clusters closed on the way out. A log record says what of the run, a fit or a search, is
    ``committed``. A process that has a handler of its own keeps it; a second SIGTERM ends the process at once.
    """
    is_ours = threading.current_thread() is threading.main_thread()
    if not is_ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _exit)
    try:
        yield
    except Terminated:
        import logging

        logging.getLogger("dask_gd").warning("SIGTERM ends the %s. %s", kind, committed())
        raise
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _exit(*_: object) -> None:
    """Raise `Terminated`, once."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise Terminated


take()
