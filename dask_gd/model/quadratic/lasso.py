"""The minimum of a quadratic and a nonsmooth penalty: `Newton` solves this where others solve a linear system."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..norms import Norms
from .groups import minimise_groups, residual

#: Rounds of coordinate descent at most.
ROUNDS = 200
#: Sweeps in a round, all but the first over the weights that are not 0.
SWEEPS = 10
#: Where the line of a round's step falls for this many times the length of the weights, there is no minimum.
ENDLESS = 1e6
#: Weights that become 0 between them, at most.
DROPPED = 32
#: Slope that coordinate descent leaves at the minimum, as a share of the largest linear term.
DESCENDED = 1e-13
#: Slope that a linear system leaves there, which is rounding.
SOLVED = 1e-9


def minimise(
    h: np.ndarray,
    linear: np.ndarray,
    nonsmooth: Norms,
    start: np.ndarray,
) -> np.ndarray:
    """Return the minimum of ``u^T h u / 2 - linear^T u + nonsmooth(u)``.

    Coordinate descent (Friedman, Hastie and Tibshirani, 2010) finds which weights are not 0 and their signs; with
    these known the rest is a linear system (the last step of Osborne, Presnell and Turlach, 2000). Groups are served by
    `minimise_groups`.

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
    scaled = h[np.ix_(used, used)] / (size * size[:, None])
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
    inverse = np.linalg.pinv(h[np.ix_(free, free)], hermitian=True)
    across = h[np.ix_(penalised, free)]
    inner = h[np.ix_(penalised, penalised)]
    reduced = inner - across @ inverse @ across.T
    target = linear[penalised] - across @ inverse @ linear[free]

    u = u.copy()
    if nonsmooth.grouped:
        rest = Norms(nonsmooth.strength[penalised], nonsmooth.groups[penalised])
        u[penalised] = minimise_groups(reduced, target, rest, u[penalised])
    else:
        rest = Norms(nonsmooth.strength[penalised], nonsmooth.groups)
        u[penalised] = _descend(reduced, target, rest, u[penalised])
    u[free] = inverse @ (linear[free] - across.T @ u[penalised])
    return u


def _descend(
    h: np.ndarray,
    linear: np.ndarray,
    nonsmooth: Norms,
    start: np.ndarray,
) -> np.ndarray:
    """Return the minimum where absolute values are penalised; ``start`` if there is none."""
    strength = nonsmooth.strength[:, 0, 0]
    largest_linear = np.abs(linear).max(initial=0.0)
    scale = max(largest_linear, strength.max(initial=0.0))
    tolerance = DESCENDED * scale
    diagonal = np.maximum(np.diagonal(h), np.finfo(float).eps)

    u = start.copy()
    for _ in range(ROUNDS):
        before = u.copy()

        # With the right signs known a linear system ends it. Where h is singular the way may lead uphill.
        polished = _polished(h, linear, strength, u)
        if -np.inf < _value(h, linear, strength, polished) <= _value(h, linear, strength, u):
            u = polished
            if residual(h, linear, nonsmooth, u) <= SOLVED * scale:
                return u

        # Where the curvature is none but for rounding, there is no minimum, and u runs away.
        downhill = linear - h @ u
        with np.errstate(over="ignore", invalid="ignore"):
            _sweep(h, diagonal, strength, u=u, downhill=downhill, tolerance=tolerance)
        if not (np.isfinite(u).all() and np.isfinite(downhill).all()):
            return start

        if residual(h, linear, nonsmooth, u) <= tolerance:
            break
        if _falls_for_ever(h, linear, strength, u, step=u - before):
            break
    return u


def _sweep(
    h: np.ndarray,
    diagonal: np.ndarray,
    strength: np.ndarray,
    u: np.ndarray,
    downhill: np.ndarray,
    tolerance: float,
) -> None:
    """Take each weight to its own minimum, again and again, until no slope changes by more than the tolerance.

    ``u`` and the negative gradient of the quadratic, ``downhill``, are changed in place.
    """
    for sweep in range(SWEEPS):
        # Weights that are 0 mostly stay so: only the first sweep looks at them.
        columns: Iterable[int] = range(len(u))
        if sweep > 0:
            columns = np.flatnonzero(u).tolist()

        largest = 0.0
        for j in columns:
            along = downhill[j] + diagonal[j] * u[j]
            shrunk = max(abs(along) - strength[j], 0.0)
            new = np.sign(along) * shrunk / diagonal[j]
            if new != u[j]:
                change = new - u[j]
                downhill -= change * h[j]
                largest = max(largest, diagonal[j] * abs(change))
                u[j] = new
        if largest <= tolerance:
            break


def _falls_for_ever(
    h: np.ndarray,
    linear: np.ndarray,
    strength: np.ndarray,
    u: np.ndarray,
    step: np.ndarray,
) -> bool:
    """Return whether the line along a step falls when all signs are the step's, and has its minimum nowhere near."""
    if not step.any():
        return False
    with np.errstate(over="ignore", invalid="ignore"):
        length = np.abs(step)
        slope = (linear - h @ u) @ step - strength @ length
        rounding = SOLVED * (np.abs(linear) + strength) @ length
        curvature = np.abs(step @ h @ step) * np.abs(u).max() / length.max()
        return bool(slope > max(rounding, ENDLESS * curvature))


def _value(
    h: np.ndarray,
    linear: np.ndarray,
    strength: np.ndarray,
    u: np.ndarray,
) -> float:
    """Return the objective at u; it may be infinite or NaN."""
    with np.errstate(over="ignore", invalid="ignore"):
        return float(u @ (0.5 * (h @ u) - linear) + strength @ np.abs(u))


def _polished(
    h: np.ndarray,
    linear: np.ndarray,
    strength: np.ndarray,
    u: np.ndarray,
) -> np.ndarray:
    """Return weights on the way to the minimum among weights of these signs, or that minimum if it has them.

    A weight that would change its sign on the way becomes 0, and the way goes on without it, `DROPPED` times at most.
    """
    u = u.copy()
    for _ in range(DROPPED):
        # With the signs fixed the penalty is linear.
        active = np.flatnonzero(u)
        target = (linear - strength * np.sign(u))[active]
        minimum = np.linalg.lstsq(h[np.ix_(active, active)], target)[0]
        if not np.isfinite(minimum).all():
            break
        turned = np.flatnonzero(np.sign(minimum) != np.sign(u[active]))
        if not turned.size:
            u[active] = minimum
            break

        # Go as far as the first weight that would change its sign.
        begin = u[active][turned]
        shares = begin / (begin - minimum[turned])
        first = int(np.argmin(shares))
        u[active] += shares[first] * (minimum - u[active])
        u[active[turned[first]]] = 0.0
    return u
