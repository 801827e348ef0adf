"""Errors of stores: kept where a codec would hide them, judged by whether they pass, and put in words."""

from __future__ import annotations

from textwrap import shorten
from typing import Any

from zarr.storage import WrapperStore


class RecordingStore(WrapperStore):
    """A store that keeps its last error: codecs raise errors of the same classes."""

    failure: Exception | None = None

    async def get(self, *arguments: Any, **options: Any) -> Any:
        try:
            return await self._store.get(*arguments, **options)
        except Exception as error:
            self.failure = error
            raise

    async def get_ranges(self, *arguments: Any, **options: Any) -> Any:
        try:
            async for group in self._store.get_ranges(*arguments, **options):
                yield group
        except Exception as error:
            self.failure = error
            raise


def may_pass(error: Exception) -> bool:
    """Return whether a store may give a little later what it refuses now: it is busy or far, not forbidden."""
    # Servers answer with a number, libraries raise errors with speaking names.
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return status in (408, 425, 429) or status >= 500
    words = ("Permission", "Credential", "Unauthenticated", "Forbidden", "NotImplemented", "NotSupported")
    names = [base.__name__ for base in type(error).__mro__]
    return not any(word in name for name in names for word in words)


def described(error: Exception) -> str:
    """Return an error's class and text, of a group the first error's, for messages."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    # Servers answer with whole pages.
    return f"{type(error).__name__}: {shorten(str(error), 500)}"
