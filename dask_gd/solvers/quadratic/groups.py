"""The minimum of a quadratic and norms of groups of weights, for `lasso`."""

from __future__ import annotations

import numpy as np

from ...model.prox import NonSmooth

#: Rounds of block coordinate descent at most, and sweeps in each, all but the first over the groups that are not 0.
ROUNDS, SWEEPS = 500, 10
#: Steps of Newton's method: for the norm of a group, and for all groups that are not 0 together.
STEPS = 30
#: Slope left at the minimum, as a share of the largest linear term: by descent, and by Newton's method, of which the
#: rest is rounding.
DESCENDED, SOLVED = 1e-13, 1e-9


def residual(h: np.ndarray, linear: np.ndarray, bent: NonSmooth, u: np.ndarray) -> float:
    """The largest component of the subgradient of least norm."""
    slope = bent.steepest(u[:, None, None], (h @ u - linear)[:, None, None])
    return float(np.abs(slope).max(initial=0.0))


def minimise_groups(h: np.ndarray, linear: np.ndarray, bent: NonSmooth, start: np.ndarray) -> np.ndarray:
    """The minimum of ``u^T h u / 2 - linear^T u + sum_g a_g ||u_g||``, (q,); ``start`` where there is none.

    Descent group by group (Qin, Scheinberg and Goldfarb, 2013, "Efficient block-coordinate descent algorithms for the
    group lasso") finds those that are not 0. Among these everything is smooth, and Newton's method ends it.
    """
    absolute = bent.strength[:, 0, 0]
    members = [np.flatnonzero(bent.groups == g) for g in np.unique(bent.groups)]
    decomposed = [np.linalg.eigh(h[np.ix_(g, g)]) for g in members]
    scale = max(np.abs(linear).max(initial=0.0), absolute.max(initial=0.0))
    u = start.copy()
    left = linear - h @ start
    for _ in range(ROUNDS):
        for sweep in range(SWEEPS):
            for g, (values, vectors) in zip(members, decomposed, strict=True):
                if sweep and not u[g].any():
                    continue
                slope = vectors.T @ (left[g] + h[np.ix_(g, g)] @ u[g])
                new = vectors @ group_minimum(np.maximum(values, 0.0), slope, absolute[g[0]])
                if not np.isfinite(new).all():
                    return start
                left -= h[:, g] @ (new - u[g])
                u[g] = new
        for found, tolerance in ((_polished(h, linear, bent, u), SOLVED), (u, DESCENDED)):
            if residual(h, linear, bent, found) <= tolerance * scale:
                return found
        left = linear - h @ u
    return u


def group_minimum(values: np.ndarray, slope: np.ndarray, a: float) -> np.ndarray:
    """The u of least ``u^T D u / 2 - slope^T u + a ||u||``, D the diagonal of ``values``; not finite if there is none.

    It is 0, or its norm t solves ``||(t D + a)^-1 slope|| = 1``, whose left side falls with t. The reciprocal of that
    norm is nearly straight in t, so that Newton's method for it, begun below t, finds it in a few steps (as for trust
    regions; Nocedal and Wright, 2006, section 4.3).
    """
    if np.linalg.norm(slope) <= a:
        return np.zeros_like(slope)
    if np.linalg.norm(slope[values <= 0]) >= a:
        return np.full_like(slope, np.inf)
    t = 0.0
    if values.any():
        t = float((np.linalg.norm(slope) - a) / values.max())
    for _ in range(STEPS):
        shifted = t * values + a
        ratios = slope / shifted
        norm = float(np.linalg.norm(ratios))
        before = t
        t = t + (norm - 1.0) * norm**2 / float(ratios**2 @ (values / shifted))
        if t <= before * (1 + 1e-15):
            break
    return t * slope / (t * values + a)


def _polished(h: np.ndarray, linear: np.ndarray, bent: NonSmooth, u: np.ndarray) -> np.ndarray:
    """Newton's method for the groups that are not 0, or u where it leads nowhere."""
    on = np.flatnonzero(u)
    part = NonSmooth(bent.strength[on], bent.groups[on])
    a = part.strength[:, 0, 0]
    same = part.groups[:, None] == part.groups
    v = u[on].copy()
    inner = h[np.ix_(on, on)]
    for _ in range(STEPS if on.size else 0):
        norms = part.norms(v[:, None, None])[:, 0, 0]
        if not (norms > 0).all():
            return u
        across = np.where(same, np.outer(v, v) * (a / norms**3), 0.0)
        step = np.linalg.lstsq(inner + np.diag(a / norms) - across, linear[on] - inner @ v - a * v / norms)[0]
        v += step
        if not np.isfinite(v).all() or np.abs(step).max() <= 1e-15 * np.abs(v).max():
            break
    found = np.zeros_like(u)
    found[on] = v
    return found if np.isfinite(v).all() else u
