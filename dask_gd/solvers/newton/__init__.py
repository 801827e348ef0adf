"""Newton's method, whole and with curvatures that are kept."""

from .newton import Newton

__all__ = ["Newton"]
