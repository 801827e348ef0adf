"""The minimum of a quadratic and of what bends: what `Newton` solves where others solve a linear system."""

from __future__ import annotations

import numpy as np

from ...model.prox import NonSmooth
from .groups import minimise_groups, residual

#: Rounds of coordinate descent at most, and sweeps in each, all but the first over the weights that are not 0.
ROUNDS, SWEEPS = 200, 10
#: Where the line of a round's step falls for so many times the length of the weights, there is no minimum.
ENDLESS = 1e6
#: Weights that become 0 between them, at most.
DROPPED = 32
#: Slope left at the minimum, as a share of the largest linear term: by coordinate descent, and by a linear system, of
#: which the rest is rounding.
DESCENDED, SOLVED = 1e-13, 1e-9


def minimise(h: np.ndarray, linear: np.ndarray, bent: NonSmooth, start: np.ndarray) -> np.ndarray:
    """The minimum of ``u^T h u / 2 - linear^T u + bent(u)``.

    Coordinate descent (Friedman, Hastie and Tibshirani, 2010) finds which weights are not 0 and their signs; with
    these known the rest is a linear system (the last step of Osborne, Presnell and Turlach, 2000). Groups are served by
    `minimise_groups`.

    Parameters
    ----------
    h : (q, q)
        Symmetric, without negative eigenvalues up to rounding.
    linear, start : (q,)
        Where there is no minimum, for lack of curvature, ``start`` is returned.
    bent : NonSmooth

    Returns
    -------
    array (q,)
        Exactly 0 where it is 0.
    """
    absolute = bent.strength[:, 0, 0]
    size = np.sqrt(np.diagonal(h))
    used = size > 0
    # Without curvature 0 is the minimum, or every value, or there is none.
    u = np.where((absolute > 0) & (np.abs(linear) <= absolute), 0.0, start)
    if used.any():
        # Weights of a group share their unit.
        if bent.grouped:
            size = np.where(absolute > 0, 1.0, size)[used]
        else:
            size = size[used]
        scaled = h[np.ix_(used, used)] / (size * size[:, None])
        if bent.grouped:
            groups = bent.groups[used]
        else:
            groups = bent.groups
        part = NonSmooth((absolute[used] / size)[:, None, None], groups)
        u[used] = _scaled_minimum(scaled, linear[used] / size, part, start[used] * size) / size
    return u


def _scaled_minimum(h: np.ndarray, linear: np.ndarray, part: NonSmooth, u: np.ndarray) -> np.ndarray:
    """`minimise` where no diagonal of h is 0, and what does not bend has a diagonal of 1, as has all without groups."""
    absolute = part.strength[:, 0, 0]
    free = np.flatnonzero(absolute == 0)
    bent = np.flatnonzero(absolute > 0)
    # What is not bent is eliminated: its best value is linear in the others.
    inverse = np.linalg.pinv(h[np.ix_(free, free)], hermitian=True)
    across = h[np.ix_(bent, free)]
    reduced = h[np.ix_(bent, bent)] - across @ inverse @ across.T
    target = linear[bent] - across @ inverse @ linear[free]
    u = u.copy()
    rest = NonSmooth(part.strength[bent], part.groups[bent] if part.grouped else part.groups)
    u[bent] = (minimise_groups if part.grouped else _descend)(reduced, target, rest, u[bent])
    u[free] = inverse @ (linear[free] - across.T @ u[bent])
    return u


def _descend(h: np.ndarray, linear: np.ndarray, bent: NonSmooth, u: np.ndarray) -> np.ndarray:
    absolute = bent.strength[:, 0, 0]
    scale = max(np.abs(linear).max(initial=0.0), absolute.max(initial=0.0))
    tolerance = DESCENDED * scale
    diagonal = np.maximum(np.diagonal(h), np.finfo(float).eps)
    start = u
    u = u.copy()
    for _ in range(ROUNDS):
        before = u.copy()
        polished = _polished(h, linear, absolute, u)
        # Where h is singular the way may lead uphill.
        if -np.inf < _value(h, linear, absolute, polished) <= _value(h, linear, absolute, u):
            u = polished
            if residual(h, linear, bent, u) <= SOLVED * scale:
                return u
        left = linear - h @ u
        # Where the curvature is none but for rounding, there is no minimum, and u runs away.
        with np.errstate(over="ignore", invalid="ignore"):
            for sweep in range(SWEEPS):
                largest = 0.0
                for j in range(len(u)) if sweep == 0 else np.flatnonzero(u).tolist():
                    along = left[j] + diagonal[j] * u[j]
                    new = np.sign(along) * max(abs(along) - absolute[j], 0.0) / diagonal[j]
                    if new != u[j]:
                        left -= (new - u[j]) * h[j]
                        largest = max(largest, diagonal[j] * abs(new - u[j]))
                        u[j] = new
                if largest <= tolerance:
                    break
        if not (np.isfinite(u).all() and np.isfinite(left).all()):
            return start
        if residual(h, linear, bent, u) <= tolerance or _falls_for_ever(h, linear, absolute, u, u - before):
            break
    return u


def _falls_for_ever(h: np.ndarray, linear: np.ndarray, absolute: np.ndarray, u: np.ndarray, step: np.ndarray) -> bool:
    """Return whether the line along a step falls when all signs are the step's, and has its minimum nowhere near."""
    if not step.any():
        return False
    with np.errstate(over="ignore", invalid="ignore"):
        slope = (linear - h @ u) @ step - absolute @ np.abs(step)
        rounding = SOLVED * (np.abs(linear) + absolute) @ np.abs(step)
        curvature = np.abs(step @ h @ step) * np.abs(u).max() / np.abs(step).max()
        return bool(slope > max(rounding, ENDLESS * curvature))


def _value(h: np.ndarray, linear: np.ndarray, absolute: np.ndarray, u: np.ndarray) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        return float(u @ (0.5 * (h @ u) - linear) + absolute @ np.abs(u))


def _polished(h: np.ndarray, linear: np.ndarray, absolute: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Towards the minimum among weights of these signs, and there if it has them.

    A weight that would change its sign on the way becomes 0, and the way goes on without it, `DROPPED` times at most.
    """
    u = u.copy()
    for _ in range(DROPPED):
        on = np.flatnonzero(u)
        found = np.linalg.lstsq(h[np.ix_(on, on)], (linear - absolute * np.sign(u))[on])[0]
        turned = np.flatnonzero(np.sign(found) != np.sign(u[on]))
        if not np.isfinite(found).all():
            break
        if not turned.size:
            u[on] = found
            break
        shares = u[on][turned] / (u[on][turned] - found[turned])
        first = int(np.argmin(shares))
        u[on] += shares[first] * (found - u[on])
        u[on[turned[first]]] = 0.0
    return u
