"""Names for features without a name."""

from __future__ import annotations


def default_name(i: int) -> str:
    """Return the name of the i-th feature where its data has none: x0, x1, ... as in scikit-learn."""
    return f"x{i}"
