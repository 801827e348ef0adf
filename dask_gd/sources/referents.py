"""The objects that an object leads to."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from distributed import Future


def referents(roots: Iterable[Any]) -> Iterator[Any]:
    """Yield every object that the roots lead to.

    Classes, modules, the globals of functions, and objects on a cluster are left out.
    """
    waiting = list(roots)
    # The objects themselves, so that none of them is made anew under the number of an object that is gone.
    visited: dict[int, Any] = {}
    while waiting:
        thing = waiting.pop()
        if id(thing) in visited or isinstance(thing, type | ModuleType | BuiltinFunctionType | Future):
            continue
        visited[id(thing)] = thing
        yield thing

        # A function refers to its module's globals, which are not the object's.
        if isinstance(thing, FunctionType):
            waiting += thing.__closure__ or ()
            waiting += thing.__defaults__ or ()
        else:
            waiting += gc.get_referents(thing)
