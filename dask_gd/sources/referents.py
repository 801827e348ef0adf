"""What an object leads to."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from distributed import Future


def referents(roots: Iterable[Any]) -> Iterator[Any]:
    """Yield everything that objects hold, but for classes, modules, what functions have from their modules, and what is
    on a cluster.
    """
    left = list(roots)
    # The objects themselves, so that none of them is made anew under the number of one that is gone.
    seen: dict[int, Any] = {}
    while left:
        thing = left.pop()
        if id(thing) in seen or isinstance(thing, type | ModuleType | BuiltinFunctionType | Future):
            continue
        seen[id(thing)] = thing
        yield thing
        if isinstance(thing, FunctionType):
            left += [*(thing.__closure__ or ()), *(thing.__defaults__ or ())]
        else:
            left += gc.get_referents(thing)
