"""The minimum of a quadratic and absolute values of weights, for `lasso`.

An active-set method: with the signs of the weights that are not 0 known, the minimum is a linear system. The signs are
those of feature-sign search (Lee, Battle, Raina and Ng, 2006, "Efficient sparse coding algorithms"), which lowers the
objective with each step and so ends; as long as that lowers it more, several weights enter or leave together, as in
projected Newton (Bertsekas, 1982, "Projected Newton methods for optimization problems with simple constraints").
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import lapack

#: Steps at most, and those for each weight.
STEPS = 200
STEPS_EACH = 4
#: Steps in a row that gain nothing beyond rounding after which it is all that is left.
PATIENCE = 8
#: Slope that is left at the minimum, as a share of the largest linear term.
SOLVED = 1e-13
#: What is rounding of the slopes, as a share of the sum of absolute weights.
ROUNDING = 4 * np.finfo(float).eps
#: A pivot is rounding if it is no more than this many times the number of weights, where curvatures are 1.
FLAT = 8 * np.finfo(float).eps
#: There is no minimum where the way leads this many times as far as curvatures of 1 would have it.
ENDLESS = 1e9
#: The share of its promise that a step of many weights must deliver, and the lengths of it that are tried.
DELIVERED = 0.1
LENGTHS: tuple[float, ...] = (1.0, 0.5, 0.25, 0.125)
#: Damping, where curvatures are 1: what it is multiplied by after a step that fails, the least other than
#: 0 that it then has, and that below which it is 0.
FACTOR = 8.0
DAMPED = 1e-3
UNDAMPED = 1e-8
#: Weights that are few: their factors cost no more than a look at shorter steps, and a product with all of the
#: curvature no more than a choice of its rows.
SMALL = 64
#: Weights that enter together at most: twice as many after a step that goes well, a quarter after one that fails.
ENTER = 16


class Problem(NamedTuple):
    """``u^T h u / 2 - linear^T u + sum_i strength_i |u_i|``."""

    h: np.ndarray  # (q, q) symmetric, without negative eigenvalues up to rounding
    linear: np.ndarray  # (q,)
    strength: np.ndarray  # (q,)
    pivot: float  # the largest pivot of h that is rounding

    def gradient(self, u: np.ndarray) -> np.ndarray:
        """Return the gradient of the quadratic at u, (q,)."""
        # Small products cost less than to look for zeros.
        if len(u) > SMALL and 4 * np.count_nonzero(u) < len(u):
            # The matrix is symmetric, and its rows lie together in memory.
            active = u.nonzero()[0]
            return u[active] @ self.h[active] - self.linear
        return self.h @ u - self.linear

    def slope(self, u: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """Return the subgradient of least norm, (q,)."""
        at_zero = np.sign(gradient) * np.maximum(np.abs(gradient) - self.strength, 0.0)
        return np.where(u == 0, at_zero, gradient + self.strength * np.sign(u))


class Caution(NamedTuple):
    """How steps of many weights are taken after those before."""

    damping: float = 0.0
    #: Weights that enter together at most.
    most: int = ENTER
    #: The last step was of many weights, and shorter than whole.
    was_short: bool = False
    #: What the last damped step of many weights gained.
    gained: float = np.inf

    def lengths(self, u: np.ndarray) -> tuple[float, ...]:
        """Return the lengths of a step to try.

        Shorter ones are for many weights, whose factors cost much. After one the next is whole, so that single weights
        get their turn where they gain more.
        """
        if self.was_short or np.count_nonzero(u) <= SMALL:
            return LENGTHS[:1]
        return LENGTHS

    def after(self, length: float, gain: float) -> Caution:
        """Return that of the next step, after a step of many weights of this length, or of single ones: 0."""
        damping, most, _, gained = self
        if length > 0 and damping > 0:
            gained = gain
        if length == 1.0:
            damping = _less(damping)
            most = 2 * most
        elif length < 0.5:
            damping = max(FACTOR * damping, DAMPED)
            most = max(ENTER, most // 4)
        # Damped steps of many weights are no use where single steps gain more, along what has no curvature.
        if length == 0 and gained < gain:
            damping = 0.0
        return Caution(damping, most, 0.0 < length < 1.0, gained)


class Point(NamedTuple):
    """Weights and the gradient of the quadratic there."""

    u: np.ndarray
    gradient: np.ndarray


def minimise_absolute(
    h: np.ndarray,
    linear: np.ndarray,
    strength: np.ndarray,
    start: np.ndarray,
    rounding: float = 0.0,
) -> np.ndarray:
    """Return the minimum of ``u^T h u / 2 - linear^T u + sum_i strength_i |u_i|``, (q,); ``start`` if there is none.

    It ends by the subgradient of least norm, which is ``rounding`` or less, or a share of the largest term. Where
    columns are collinear there are several minima. That which is returned has a regular curvature among the weights
    that are not 0.

    Parameters
    ----------
    h : (q, q)
        Symmetric, without negative eigenvalues up to rounding, in units in which no curvature is far above 1.
    linear, strength, start : (q,)
    rounding : float
        The rounding of ``linear``.
    """
    problem = Problem(h, linear, strength, pivot=len(h) * FLAT)
    largest_term = max(np.abs(linear).max(initial=0.0), strength.max(initial=0.0))
    smallest = max(SOLVED * largest_term, rounding)
    largest = np.diagonal(h).max(initial=0.0)
    far = ENDLESS * (largest_term + np.abs(start).max(initial=0.0))
    point = Point(start, problem.gradient(start))
    if not np.isfinite(point.gradient).all():
        return start
    best = start
    least = np.inf
    caution = Caution()
    idle = 0
    for _ in range(STEPS + STEPS_EACH * len(start)):
        # The end: no slope is left that is not rounding.
        slope = problem.slope(*point)
        tolerance = smallest + ROUNDING * largest * np.abs(point.u).sum()
        size = np.abs(slope).max(initial=0.0)
        if size < least:
            best = point.u
            least = size
        if size <= tolerance:
            break

        # Many weights at a time, else one more than those that are not 0.
        after, length = _fast_step(problem, point, slope, tolerance, caution)
        if after is None:
            after = _safe_step(problem, point, slope, tolerance)
        if after is None:
            break
        if not np.abs(after.u).max() <= far:
            return start
        gain = -_change(problem, point, after)
        caution = caution.after(length, gain)

        # The end of the arithmetic.
        idle += 1
        if gain > ROUNDING * _size(problem, point):
            idle = 0
        if idle > PATIENCE:
            break
        point = after
    return best


def _less(damping: float) -> float:
    """Return the damping after a step that went well."""
    less = damping / FACTOR
    if less < UNDAMPED:
        return 0.0
    return less


def _size(problem: Problem, point: Point) -> float:
    """Return the size of the terms of the objective, of which its rounding is a share."""
    absolute = np.abs(point.u)
    return float(absolute @ (np.abs(problem.linear) + np.abs(point.gradient) + problem.strength))


def _change(problem: Problem, before: Point, after: Point) -> float:
    """Return by how much the objective grows from one point to another, without the cancellation of its values."""
    mean = 0.5 * (before.gradient + after.gradient)
    grown = np.abs(after.u) - np.abs(before.u)
    return float(mean @ (after.u - before.u) + problem.strength @ grown)


def _fast_step(
    problem: Problem,
    point: Point,
    slope: np.ndarray,
    tolerance: float,
    caution: Caution,
) -> tuple[Point | None, float]:
    """Return the point after a step of the weights that are not 0 and many that leave 0, and the step's length.

    A step of length 1 leads to the minimum that the damped quadratic has where the signs are kept. Weights that would
    have other signs become 0, at each length. Without a length that is any good the point is None.
    """
    # The steepest of the weights that leave 0. Where columns are alike, many at a time go too far together.
    u = point.u
    is_zero = u == 0
    entering = (is_zero & (np.abs(slope) > tolerance)).nonzero()[0]
    support = u.nonzero()[0]
    if len(entering) > caution.most:
        steepest = np.argpartition(-np.abs(slope[entering]), caution.most)[: caution.most]
        entering = entering[steepest]
    active = np.concatenate([support, entering])

    # The damped step, and what it promises: with (h + damping) move = downhill no product with h is needed.
    damped = _square(problem.h, active)
    if caution.damping:
        damped.flat[:: len(damped) + 1] += caution.damping
    downhill = -slope[active]
    move = _regular_step(damped, downhill, problem.pivot)
    if move is None:
        return None, 0.0
    promise = -0.5 * float(move @ downhill) - 0.5 * caution.damping * float(move @ move)

    # Weights that would change their signs become 0: the way is bent, and a shorter one may lead lower.
    before = u[active]
    signs = np.sign(np.where(before == 0, downhill, before))
    for length in caution.lengths(u):
        end = before + length * move
        kept = end * signs > 0
        projected = np.zeros_like(u)
        projected[active] = np.where(kept, end, 0.0)
        after = Point(projected, problem.gradient(projected))
        if kept.all() and length == 1.0:
            return after, length
        if _change(problem, point, after) <= DELIVERED * length * promise:
            return after, length
    return None, 0.0


def _square(h: np.ndarray, active: np.ndarray) -> np.ndarray:
    """Return rows and columns of a matrix, as a copy: one after the other, which is quicker than both at once."""
    return h.take(active, axis=0).take(active, axis=1)


def _safe_step(
    problem: Problem,
    point: Point,
    slope: np.ndarray,
    tolerance: float,
) -> Point | None:
    """Return the point after a step that lowers the objective, None if there is none.

    Where the weights that are not 0 are at their best, one more, the steepest, takes part.
    """
    is_zero = point.u == 0
    active = point.u.nonzero()[0]
    if np.abs(slope[active]).max(initial=0.0) <= tolerance:
        steepest = np.argmax(np.abs(slope) * is_zero)
        active = np.append(active, steepest)
    move = _direction(problem, active, -slope[active], tolerance)
    return _line_step(problem, point, slope, active, move)


def _direction(
    problem: Problem,
    active: np.ndarray,
    downhill: np.ndarray,
    tolerance: float,
) -> np.ndarray:
    """Return the way to the minimum of ``m^T h m / 2 - downhill^T m``, or a way along which it falls for ever: (a,)."""
    # The common case: the curvature is regular.
    h = _square(problem.h, active)
    regular_step = _regular_step(h, downhill, problem.pivot)
    if regular_step is not None:
        return regular_step

    # Else columns are linear in others: those that a factorisation with pivots comes to last.
    factor, pivots, rank, _ = lapack.dpstrf(h, tol=problem.pivot, lower=False)
    order = pivots - 1
    regular = order[:rank]
    rest = order[rank:]
    triangle = np.asfortranarray(factor[:rank, :rank])
    combined = factor[:rank, rank:]
    if rank:
        combined = lapack.dtrtrs(triangle, combined, lower=False)[0]

    # What is gained by moving a column's weight to those that it is linear in.
    gained = downhill[rest] - combined.T @ downhill[regular]
    move = np.zeros(len(h))
    if np.abs(gained).max(initial=0.0) > tolerance:
        move[rest] = gained
        move[regular] = -(combined @ gained)
    elif rank:
        move[regular] = lapack.dpotrs(triangle, downhill[regular], lower=False)[0]
    return move


def _regular_step(h: np.ndarray, downhill: np.ndarray, pivot: float) -> np.ndarray | None:
    """Return ``h^-1 downhill``, or None where h is singular: a pivot is no larger than this."""
    # A symmetric matrix is its transpose, which lies in memory as LAPACK has it.
    factor, failed = lapack.dpotrf(h.T, lower=False, clean=False)
    if failed or not np.diagonal(factor).min(initial=np.inf) ** 2 > pivot:
        return None
    return lapack.dpotrs(factor, downhill, lower=False)[0]


def _line_step(
    problem: Problem,
    point: Point,
    slope: np.ndarray,
    active: np.ndarray,
    move: np.ndarray,
) -> Point | None:
    """Return the point where the objective is least on a line, None if it does not fall."""
    u = point.u
    strength = problem.strength[active]
    image = move @ problem.h[active]
    # Where there is no curvature, rounding is left of it.
    curvature = max(float(move @ image[active]), ROUNDING * float(move @ move))
    falls = float(slope[active] @ move)
    if not falls < 0:
        return None

    # The slope grows with the curvature, and by a jump where a weight changes its sign.
    crossing = (u[active] * move < 0).nonzero()[0]
    at = -u[active][crossing] / move[crossing]
    order = np.argsort(at, kind="stable")
    crossing = crossing[order]
    at = at[order]
    jumps = np.cumsum(2 * strength[crossing] * np.abs(move[crossing]))
    rising = falls + curvature * at + jumps >= -ROUNDING * (np.abs(falls) + jumps)
    number = len(at)
    if rising.any():
        number = int(np.argmax(rising))
    before = falls
    if number:
        before += jumps[number - 1]

    # The least value is before the first sign after whose change the slope is up, or at it.
    length = max(-before / curvature, 0.0)
    is_at_corner = number < len(at) and at[number] <= length
    if is_at_corner:
        length = at[number]
    after = u.copy()
    after[active] += length * move
    if is_at_corner:
        after[active[crossing[number]]] = 0.0
    return Point(after, problem.gradient(after))
