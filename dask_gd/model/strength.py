"""The strength of a penalty: a number for all features, or a number for each feature."""

from __future__ import annotations

import contextlib
import reprlib
from dataclasses import fields
from typing import Any

import numpy as np

from ..errors import InvalidArgumentError

#: A number for all features, or a number for each feature.
Strength = float | tuple[float, ...]

#: How many values of a penalty are written out in messages at most.
SHOWN = 8


def check_strength(owner: str, alpha: object) -> Strength:
    """Return the strength as a float or as a tuple of floats; refuse any other value."""
    values = np.array(np.nan)
    # NumPy would take the text of a number for the number.
    if not isinstance(alpha, str):
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            values = np.array(alpha, dtype=float)
    is_strength = np.isfinite(values) & (values >= 0)
    if values.ndim > 1 or not values.size or not is_strength.all():
        raise InvalidArgumentError(
            f"{owner}(alpha={reprlib.repr(alpha)}): alpha must be a finite number, 0 or more, or one such for each "
            "feature."
        )
    if values.ndim:
        # A tuple, so that penalties can be compared and hashed.
        return tuple(values.tolist())
    return float(values)


def by_feature(alpha: Strength) -> float | np.ndarray:
    """Return the strength in the shape in which it multiplies coefficients (p, k, m)."""
    if isinstance(alpha, tuple):
        return np.array(alpha)[:, None, None]
    return alpha


def shown(penalty: Any) -> str:
    """Return a repr that counts the values of a parameter where they are too many to write out."""
    arguments = []
    for field in fields(penalty):
        value = getattr(penalty, field.name)
        if isinstance(value, tuple) and len(value) > SHOWN:
            text = f"<{len(value)} values>"
        else:
            text = repr(value)
        arguments.append(f"{field.name}={text}")
    return f"{type(penalty).__name__}({', '.join(arguments)})"
