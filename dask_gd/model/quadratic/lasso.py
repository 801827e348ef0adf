"""The minimum of a quadratic and a nonsmooth penalty: `Newton` solves this where others solve a linear system."""

from __future__ import annotations

import numpy as np

from ..norms import Norms
from .active_set import minimise_absolute
from .groups import minimise_groups


def minimise(
    h: np.ndarray,
    linear: np.ndarray,
    nonsmooth: Norms,
    start: np.ndarray,
) -> np.ndarray:
    """Return the minimum of ``u^T h u / 2 - linear^T u + nonsmooth(u)``.

    Absolute values are served by `minimise_absolute`, groups by `minimise_groups`.

    Parameters
    ----------
    h : (q, q)
        Symmetric, without negative eigenvalues up to rounding.
    linear, start : (q,)
        Where there is no minimum, for lack of curvature, ``start`` is returned.
    nonsmooth : Norms

    Returns
    -------
    array (q,)
        Exactly 0 where it is 0.
    """
    strength = nonsmooth.strength[:, 0, 0]
    size = np.sqrt(np.diagonal(h))
    used = size > 0

    # Without curvature 0 is the minimum, or every value is, or there is none.
    is_zero = (strength > 0) & (np.abs(linear) <= strength)
    u = np.where(is_zero, 0.0, start)
    if not used.any():
        return u

    # The rest is solved in units in which every curvature is 1, so that the features' units do not matter.
    size = size[used]
    groups = nonsmooth.groups
    if nonsmooth.grouped:
        # Weights of a group share their unit.
        size = np.where(strength[used] > 0, 1.0, size)
        groups = groups[used]
    positions = np.flatnonzero(used)
    scaled = _block(h, positions, positions) / size
    scaled /= size[:, None]
    scaled_strength = strength[used] / size
    part = Norms(scaled_strength[:, None, None], groups)
    minimum = _scaled_minimum(scaled, linear[used] / size, part, start[used] * size)
    u[used] = minimum / size
    return u


def _scaled_minimum(
    h: np.ndarray,
    linear: np.ndarray,
    nonsmooth: Norms,
    u: np.ndarray,
) -> np.ndarray:
    """Return the minimum, as `minimise`, where no diagonal of h is 0.

    The diagonal is 1 where weights are not penalised, and everywhere if there are no groups.
    """
    strength = nonsmooth.strength[:, 0, 0]
    free = np.flatnonzero(strength == 0)
    penalised = np.flatnonzero(strength > 0)

    # Weights without a penalty are eliminated: their best values are linear in the others.
    curved = _block(h, free, free)
    if len(free) == 1:
        # Mostly it is an intercept alone.
        inverse = 1.0 / curved
    else:
        inverse = np.linalg.pinv(curved, hermitian=True)
    across = _block(h, penalised, free)
    reduced = across @ inverse @ across.T
    np.subtract(_block(h, penalised, penalised), reduced, out=reduced)
    target = linear[penalised] - across @ inverse @ linear[free]

    u = u.copy()
    if nonsmooth.grouped:
        rest = Norms(nonsmooth.strength[penalised], nonsmooth.groups[penalised])
        u[penalised] = minimise_groups(reduced, target, rest, u[penalised])
    else:
        rounding = np.finfo(float).eps * np.abs(linear).max(initial=0.0)
        u[penalised] = minimise_absolute(reduced, target, strength[penalised], u[penalised], rounding)
    u[free] = inverse @ (linear[free] - across.T @ u[penalised])
    return u


def _block(h: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return a matrix's entries in these rows and columns, both ascending: a view where neither has gaps."""
    if _without_gaps(rows) and _without_gaps(columns):
        return h[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return h[np.ix_(rows, columns)]


def _without_gaps(ascending: np.ndarray) -> bool:
    """Return whether ascending positions, of which there is at least one, follow each other."""
    return len(ascending) > 0 and ascending[-1] - ascending[0] + 1 == len(ascending)
