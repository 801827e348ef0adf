"""What a feature is called that has no name."""

from __future__ import annotations


def default_name(i: int) -> str:
    """Return the name of the i-th feature where one is needed: x0, x1, ... as in scikit-learn."""
    return f"x{i}"
