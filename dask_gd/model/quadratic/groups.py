"""The minimum of a quadratic and norms of groups of weights, for `lasso`."""

from __future__ import annotations

import numpy as np

from ..norms import Norms

#: Rounds of block coordinate descent at most.
ROUNDS = 500
#: Sweeps in a round, all but the first over the groups that are not 0.
SWEEPS = 10
#: Steps of Newton's method: for the norm of a group, and for all groups that are not 0 together.
STEPS = 30
#: Slope that descent leaves at the minimum, as a share of the largest linear term.
DESCENDED = 1e-13
#: Slope that Newton's method leaves there, which is rounding.
SOLVED = 1e-9


def residual(
    h: np.ndarray,
    linear: np.ndarray,
    nonsmooth: Norms,
    u: np.ndarray,
) -> float:
    """Return the largest component of the subgradient of least norm."""
    weights = u[:, None, None]
    gradient = h @ u - linear
    slope = nonsmooth.steepest(weights, gradient[:, None, None])
    return float(np.abs(slope).max(initial=0.0))


def minimise_groups(
    h: np.ndarray,
    linear: np.ndarray,
    nonsmooth: Norms,
    start: np.ndarray,
) -> np.ndarray:
    """Return the minimum of ``u^T h u / 2 - linear^T u + sum_g a_g ||u_g||``, (q,); ``start`` where there is none.

    Descent group by group (Qin, Scheinberg and Goldfarb, 2013, "Efficient block-coordinate descent algorithms for the
    group lasso") finds the groups that are not 0. Among these the objective is smooth, and Newton's method ends the
    search.
    """
    strength = nonsmooth.strength[:, 0, 0]
    largest_linear = np.abs(linear).max(initial=0.0)
    scale = max(largest_linear, strength.max(initial=0.0))

    # Each group's block is decomposed once, so that a group's minimum costs two small products.
    numbers = np.unique(nonsmooth.groups)
    members = [np.flatnonzero(nonsmooth.groups == number) for number in numbers]
    decomposed = [np.linalg.eigh(h[np.ix_(group, group)]) for group in members]

    u = start.copy()
    downhill = linear - h @ start
    for _ in range(ROUNDS):
        # Descent finds the groups that are not 0.
        for sweep in range(SWEEPS):
            for group, (values, vectors) in zip(members, decomposed, strict=True):
                if sweep and not u[group].any():
                    continue
                inner = h[np.ix_(group, group)] @ u[group]
                slope = vectors.T @ (downhill[group] + inner)
                rotated = group_minimum(np.maximum(values, 0.0), slope, strength[group[0]])
                new = vectors @ rotated
                if not np.isfinite(new).all():
                    return start
                downhill -= h[:, group] @ (new - u[group])
                u[group] = new

        # Newton's method ends the search where it arrives; else descent itself may have.
        polished = _polished(h, linear, nonsmooth, u)
        if residual(h, linear, nonsmooth, polished) <= SOLVED * scale:
            return polished
        if residual(h, linear, nonsmooth, u) <= DESCENDED * scale:
            return u

        # Computed anew, so that rounding does not pile up over the rounds.
        downhill = linear - h @ u
    return u


def group_minimum(values: np.ndarray, slope: np.ndarray, a: float) -> np.ndarray:
    """Return the u of least ``u^T D u / 2 - slope^T u + a ||u||``, D the diagonal of ``values``.

    It is not finite if there is no minimum.

    It is 0, or its norm t solves ``||(t D + a)^-1 slope|| = 1``, whose left side falls with t. The reciprocal of that
    norm is nearly straight in t, so that Newton's method for it, begun below t, finds it in a few steps (as for trust
    regions; Nocedal and Wright, 2006, section 4.3).
    """
    if np.linalg.norm(slope) <= a:
        return np.zeros_like(slope)

    # Along directions without curvature the slope alone decides: there may be no minimum.
    straight = slope[values <= 0]
    if np.linalg.norm(straight) >= a:
        return np.full_like(slope, np.inf)

    # This start is below the root, from where Newton's method rises to it.
    t = 0.0
    if values.any():
        t = float((np.linalg.norm(slope) - a) / values.max())
    for _ in range(STEPS):
        shifted = t * values + a
        ratios = slope / shifted
        norm = float(np.linalg.norm(ratios))
        fall = float(ratios**2 @ (values / shifted))
        before = t
        t = t + (norm - 1.0) * norm**2 / fall
        if t <= before * (1 + 1e-15):
            break
    return t * slope / (t * values + a)


def _polished(
    h: np.ndarray,
    linear: np.ndarray,
    nonsmooth: Norms,
    u: np.ndarray,
) -> np.ndarray:
    """Return the end of Newton's method for the groups that are not 0, or u where it leads nowhere."""
    active = np.flatnonzero(u)
    if not active.size:
        return np.zeros_like(u)

    # The problem among these groups alone, where norms are smooth.
    part = Norms(nonsmooth.strength[active], nonsmooth.groups[active])
    strength = part.strength[:, 0, 0]
    same_group = part.groups[:, None] == part.groups
    inner = h[np.ix_(active, active)]
    v = u[active].copy()

    for _ in range(STEPS):
        norms = part.norms(v[:, None, None])[:, 0, 0]
        if not (norms > 0).all():
            return u
        # The curvature of a norm: the same in all directions, but none in the direction of v.
        radial = np.where(same_group, np.outer(v, v) * (strength / norms**3), 0.0)
        curvature = inner + np.diag(strength / norms) - radial
        downhill = linear[active] - inner @ v - strength * v / norms
        step = np.linalg.lstsq(curvature, downhill)[0]
        v += step
        if not np.isfinite(v).all():
            break
        if np.abs(step).max() <= 1e-15 * np.abs(v).max():
            break

    if not np.isfinite(v).all():
        return u
    polished = np.zeros_like(u)
    polished[active] = v
    return polished
