"""Talk with the user of the command line: tables and JSON, warnings and errors of a line, and Ctrl-C."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import shlex
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import click
import numpy as np

from .. import interrupt
from ..errors import DaskGDError
from ..events import Ended, Listener, Started, Stepped, StopFit
from ..interrupt import INTERRUPTED
from ..store.store import Store


class Interrupted(KeyboardInterrupt):
    """A search was asked to end; its last round is committed."""


class Command(click.Command):
    """A command with ``--debug``, whose errors and warnings are a line each."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.params.append(click.Option(["--debug"], is_flag=True, help="Show where an error comes from."))

    def invoke(self, context: click.Context) -> Any:
        """Run the command, with a line on stderr and an exit status for an error or an interruption."""
        debug = context.params.pop("debug")
        with lines_on_stderr():
            try:
                with interrupt.unwinding():
                    return super().invoke(context)
            except KeyboardInterrupt:
                say("interrupted")
                context.exit(INTERRUPTED)
            except BrokenPipeError:
                # click ends without a word.
                raise
            except (DaskGDError, OSError, ImportError) as error:
                if debug:
                    raise
                say(f"error: {' '.join(str(error).split()) or type(error).__name__}")
                context.exit(1)


def say(message: str) -> None:
    """Write a line to stderr."""
    click.echo(f"dask-gd: {message}", err=True)


@contextlib.contextmanager
def lines_on_stderr() -> Iterator[None]:
    """Write warnings and log records as lines to stderr, without where in the code they come from."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            say(f"{record.levelname.lower()}: {record.getMessage()}")

    # Log records of this package, which no other handler shows a second time.
    logger = logging.getLogger("dask_gd")
    handler = Handler(logging.WARNING)
    propagate = logger.propagate
    logger.propagate = False
    logger.addHandler(handler)
    # asyncio logs tasks that Ctrl-C has left without anybody to ask for them.
    asyncio_logger = logging.getLogger("asyncio")
    level = asyncio_logger.level
    asyncio_logger.setLevel(logging.CRITICAL)
    # Warnings, for as long as the command runs.
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: say(f"warning: {message}")  # type: ignore[assignment]
            yield
    finally:
        asyncio_logger.setLevel(level)
        logger.propagate = propagate
        logger.removeHandler(handler)


def table(rows: Sequence[Sequence[str]], indent: str = "") -> str:
    """Set columns side by side, the first aligned to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0]), *map(str.rjust, others, widths[1:])]
        lines.append(indent + "  ".join(cells).rstrip())
    return "\n".join(lines)


def facts(rows: dict[str, str]) -> str:
    """Set names and their texts in two columns; names without a text are left out."""
    width = max(map(len, rows))
    return "\n".join(f"{name.ljust(width)}  {text}" for name, text in rows.items() if text)


def as_json(value: Any) -> str:
    """Write a value as JSON that every reader knows: NaN and infinity, which JSON lacks, are null."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {str(key): plain(content) for key, content in value.items()}
        if isinstance(value, np.ndarray | np.generic):
            value = value.tolist()
        if isinstance(value, list | tuple):
            return [plain(content) for content in value]
        if isinstance(value, float) and not math.isfinite(value):
            return None
        return value

    return json.dumps(plain(value), indent=2, ensure_ascii=False)


def command_line() -> str:
    """Return this command, for a shell."""
    program, *rest = sys.argv
    if Path(program).name == "__main__.py":
        name = [sys.executable, "-m", "dask_gd"]
    else:
        name = [program]
    return shlex.join([*name, *rest])


class CtrlC(Listener):
    """A callback that ends a fit or a search with a store after Ctrl-C, once the iteration that runs is committed.

    It is also a context that handles SIGINT. Without a store, and at a second Ctrl-C, the run ends at once.
    """

    def __init__(self, store: str | os.PathLike | None, quiet: bool = False):
        self.store = store
        self.quiet = quiet
        #: Whether a fit or a search runs now.
        self.running = False
        #: Whether the user has asked to end it.
        self.asked = False

    def __enter__(self) -> CtrlC:
        """Handle SIGINT, which only the main thread can."""
        self.handles_sigint = threading.current_thread() is threading.main_thread()
        if self.handles_sigint:
            self.handler_before = signal.signal(signal.SIGINT, self.handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Restore the handler of SIGINT; after an interruption say how to go on, and end the command."""
        if self.handles_sigint:
            signal.signal(signal.SIGINT, self.handler_before)
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self.advise()
            # At once, without waiting for threads to end their reading.
            interrupt.end_if_interrupted(quietly=True)
            raise click.exceptions.Exit(INTERRUPTED)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Note the first Ctrl-C of a run with a store; leave any other to the handler before."""
        if self.store is None or not self.running or self.asked:
            if callable(self.handler_before):
                handler = self.handler_before
            else:
                handler = signal.default_int_handler
            handler(number, frame)
            return
        self.asked = True
        # Not through a buffer, which may be in the middle of a line.
        os.write(2, b"\ndask-gd: stopping after this iteration is stored; Ctrl-C again to stop at once\n")

    def started(self, event: Started) -> None:
        """Follow a fit from its start. A search, which stores nothing before its first round, may end at once."""
        if event.kind == "search":
            return
        self.running = True
        if event.resumed_from is not None and not self.quiet:
            say(f"resumed after iteration {event.resumed_from}")

    def stepped(self, event: Stepped) -> None:
        """End the run after a commit if the user has asked for that."""
        self.running = True
        if not self.asked:
            return
        if event.kind == "search":
            raise Interrupted
        raise StopFit("interrupted")

    def ended(self, event: Ended) -> None:
        """End the command of a search if the user has asked for that; that of a fit is ended by `end_if_asked`."""
        self.running = False
        if self.asked and event.kind == "search":
            raise Interrupted

    def end_if_asked(self) -> None:
        """End the command of a fit that has ended after Ctrl-C, also where Ctrl-C came with the last iteration."""
        if self.asked:
            self.advise()
            raise click.exceptions.Exit(INTERRUPTED)

    def advise(self) -> None:
        """Say what is safe and how to go on."""
        if self.store is None:
            say(f"{interrupt.said()}; nothing was stored: --store DIR keeps every iteration")
            return
        iterations = Store(self.store).iterations()
        if iterations:
            cut = f"{interrupt.said()}; iteration {iterations[-1]} is safe in {self.store}."
            say(f"{cut} To go on:\n  {command_line()}")
        else:
            say(f"{interrupt.said()}; nothing was stored")
