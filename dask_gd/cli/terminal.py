"""What the command line shares with its user: tables and JSON, one-line warnings and errors, and Ctrl-C."""

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
from ..events import Event, FitEnded, FitStarted, IterationEnded, RoundEnded, SearchEnded, StopFit
from ..interrupt import INTERRUPTED
from ..store.store import Store


class Interrupted(KeyboardInterrupt):
    """A search was asked to end; its last round is committed."""


class Command(click.Command):
    """A command with ``--debug``, whose errors are one line and whose warnings are too."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.params.append(click.Option(["--debug"], is_flag=True, help="Show where an error comes from."))

    def invoke(self, context: click.Context) -> Any:
        debug = context.params.pop("debug")
        with lines_on_stderr():
            try:
                with interrupt.unwinding():
                    return super().invoke(context)
            except KeyboardInterrupt:
                say("interrupted")
                context.exit(INTERRUPTED)
            except BrokenPipeError:
                raise  # click ends without a word
            except (DaskGDError, OSError, ImportError) as error:
                if debug:
                    raise
                say(f"error: {' '.join(str(error).split()) or type(error).__name__}")
                context.exit(1)


def say(message: str) -> None:
    """A line on stderr."""
    click.echo(f"dask-gd: {message}", err=True)


@contextlib.contextmanager
def lines_on_stderr() -> Iterator[None]:
    """Warnings and log records as lines on stderr, each without where in the code it comes from."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            say(f"{record.levelname.lower()}: {record.getMessage()}")

    logger = logging.getLogger("dask_gd")
    handler = Handler(logging.WARNING)
    propagate = logger.propagate
    logger.propagate = False
    logger.addHandler(handler)
    # Of tasks that Ctrl-C has left without anybody to ask for them.
    tasks = logging.getLogger("asyncio")
    level = tasks.level
    tasks.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: say(f"warning: {message}")  # type: ignore[assignment]
            yield
    finally:
        tasks.setLevel(level)
        logger.propagate = propagate
        logger.removeHandler(handler)


def table(rows: Sequence[Sequence[str]], indent: str = "") -> str:
    """Columns side by side, the first to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows)
    return "\n".join(indent + "  ".join(line).rstrip() for line in lines)


def facts(rows: dict[str, str]) -> str:
    """Names and what is to be said of each, in two columns."""
    width = max(map(len, rows))
    return "\n".join(f"{name.ljust(width)}  {text}" for name, text in rows.items() if text)


def as_json(value: Any) -> str:
    """JSON as every reader knows it: NaN and infinity, which it lacks, are null."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {str(k): plain(v) for k, v in value.items()}
        if isinstance(value, np.ndarray | np.generic):
            value = value.tolist()
        if isinstance(value, list | tuple):
            return [plain(v) for v in value]
        if isinstance(value, float) and not math.isfinite(value):
            return None
        return value

    return json.dumps(plain(value), indent=2, ensure_ascii=False)


def command_line() -> str:
    """This very command, for a shell."""
    program, *rest = sys.argv
    if Path(program).name == "__main__.py":
        name = [sys.executable, "-m", "dask_gd"]
    else:
        name = [program]
    return shlex.join([*name, *rest])


class CtrlC:
    """Ends a fit or a search that has a store after the iteration that runs; without a store, or asked again, at once.

    A callback, and a context in which SIGINT is its own.
    """

    def __init__(self, store: str | os.PathLike | None, quiet: bool = False):
        self.store = store
        self.quiet = quiet
        self.running = self.asked = False

    def __enter__(self) -> CtrlC:
        self.ours = threading.current_thread() is threading.main_thread()
        if self.ours:
            self.before = signal.signal(signal.SIGINT, self.handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.ours:
            signal.signal(signal.SIGINT, self.before)
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self.advise()
            # At once, and not when threads have read what they are reading.
            interrupt.end_if_interrupted()
            raise click.exceptions.Exit(INTERRUPTED)

    def handle(self, number: int, frame: FrameType | None) -> None:
        if self.store is None or not self.running or self.asked:
            if callable(self.before):
                before = self.before
            else:
                before = signal.default_int_handler
            before(number, frame)
            return
        self.asked = True
        # Not through a buffer, which may be in the middle of a line.
        os.write(2, b"\ndask-gd: stopping after this iteration is stored; Ctrl-C again to stop at once\n")

    def __call__(self, event: Event) -> None:
        if isinstance(event, FitStarted):
            self.running = True
            if event.resumed_from is not None and not self.quiet:
                say(f"resumed after iteration {event.resumed_from}")
        elif isinstance(event, FitEnded):
            self.running = False
        elif isinstance(event, RoundEnded | SearchEnded):
            self.running = isinstance(event, RoundEnded)
            if self.asked:
                raise Interrupted
        elif isinstance(event, IterationEnded) and self.asked:
            raise StopFit("interrupted")

    def end_if_asked(self) -> None:
        """End a command whose fit has ended after Ctrl-C, also where it came with the last iteration."""
        if self.asked:
            self.advise()
            raise click.exceptions.Exit(INTERRUPTED)

    def advise(self) -> None:
        """Say what is safe and how to go on."""
        stored = []
        if self.store is not None:
            stored = Store(self.store).iterations()
        if not stored:
            say("interrupted; nothing was stored" + (": --store DIR keeps every iteration" * (self.store is None)))
        else:
            say(f"interrupted; iteration {stored[-1]} is safe in {self.store}. To go on:\n  {command_line()}")
