"""Checks of arguments that many functions have in common."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

from .errors import InvalidArgumentError


def choose(what: str, name: str, choices: dict[str, Any]) -> Any:
    """Look ``name`` up in ``choices``, or raise an error that lists them."""
    if name not in choices:
        raise InvalidArgumentError(f"{what}={name!r} is not known; choose one of {', '.join(sorted(choices))}.")
    return choices[name]


def one_of(what: str, value: Any, allowed: tuple[Any, ...]) -> None:
    """Refuse a value that is none of those that are allowed, which the error lists."""
    if any(value is each or value == each for each in allowed):
        return
    shown = list(map(repr, allowed))
    listed = f"{', '.join(shown[:-1])} or {shown[-1]}"
    raise InvalidArgumentError(f"{what}={value!r}: choose {listed}.")


def positive(owner: str, **values: float) -> None:
    """Refuse NaN, infinity, zero and negative values, naming the parameter and its owner."""
    for name, value in values.items():
        if not (isinstance(value, Real) and 0 < value < float("inf")):
            raise InvalidArgumentError(f"{owner}({name}={value!r}): {name} must be a finite number above 0.")


def is_whole(value: Any, least: int) -> bool:
    """Return whether a value is a whole number of Python's or NumPy's, no boolean, and at least ``least``."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least
