"""Conjugate gradients, scaled by a diagonal, for a matrix that is known by its products only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

#: The residual, as a share of the right side's, at which the steps end.
RESIDUAL = 1e-11


def conjugate_gradients(
    times: Callable[[np.ndarray], np.ndarray],
    diagonal: np.ndarray,
    right: np.ndarray,
    most_steps: int,
) -> tuple[np.ndarray, bool]:
    """Return ``S^-1 b`` of b (n,), and whether the residual is small enough (Nocedal and Wright, 2006, algorithm 5.3).

    S is positive semi-definite, and b in its range. ``diagonal`` (n,) scales it.
    """
    solution = np.zeros_like(right)
    residual = right.copy()
    scaled = residual / diagonal
    direction = scaled.copy()
    size = residual @ scaled
    enough = RESIDUAL**2 * size
    for _ in range(most_steps):
        if size <= enough:
            return solution, True
        image = times(direction)
        curved = direction @ image
        # Rounding has used up all that there is.
        if not curved > 0:
            return solution, False
        step = size / curved
        solution += step * direction
        residual -= step * image
        scaled = residual / diagonal
        before = size
        size = residual @ scaled
        direction *= size / before
        direction += scaled
    return solution, bool(size <= enough)
