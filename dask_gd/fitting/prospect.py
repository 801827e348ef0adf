"""What a sample lets expect of all rows, as its halves tell: whether it is like them, and how many passes follow.

Gradients are as `Track.norm` measures them. `correction` has the steps that a sample corrects.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..kernels.base import Sums
from ..solvers.newton.corrected import curved, solved, spread
from ..solvers.objective import Objective
from .track import Track

#: Halves of a sample are alike if their curvatures differ by less than this share in every direction, and the square of
#: their gradients' difference by less than this many times what it is for rows in random order and of a likelihood.
ALIKE = 1.2
ALIKE_SLOPES = 25.0
#: The curvature of a sample may do if its error along the step is at most this share of the gradient.
EXACT_ENOUGH = 0.08
#: That error may be this many times what the halves of the sample tell: without, a Poisson fit took a pass more.
CAUTION = 3.0
#: And it does at the price of a pass more if it is at most this share.
VERY_EXACT = 0.02
#: A sample whose gradient is so many times less than that of all rows tells nothing of them.
MISLED = 10.0
#: Bounds are this many times what the steps before suggest. In trials on random problems once five times was enough for
#: all but two steps of 181, and three times for all.
MARGIN = 5.0
#: The same for the first step after a correction, of which no look has told anything. In 1,500 trials it was 4.4 times.
FIRST_MARGIN = 10.0
#: Passes up to which they are counted ahead.
MOST_LOOKS = 6


def halves_of(sample: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the halves of a sample of an even number of partitions."""
    middle = len(sample) // 2
    return sample[:middle], sample[middle:]


def are_alike(track: Any, groups: tuple[Sums | None, ...] | None, query: np.ndarray) -> bool:
    """Return whether the halves of a sample are like random rows of the same data."""
    halves = objectives_of(track, groups, query)
    if halves is None or groups is None:
        return False
    first, second = halves
    assert first.curvature is not None
    assert second.curvature is not None
    one_way = spread(first.curvature, second.curvature, first.ridge)
    other_way = spread(second.curvature, first.curvature, first.ridge)
    if not max(one_way, other_way) < ALIKE:
        return False
    # Of rows in random order the square of the difference, in the curvature's scale, is about 4 q / rows.
    gap = first.gradient - second.gradient
    square = _square(gap, (first.curvature + second.curvature) / 2)
    rows = sum(sums.rows for sums in groups if sums is not None)
    return square * rows / (4.0 * gap.size) < ALIKE_SLOPES


class Prospect(NamedTuple):
    """What the halves of a sample let expect of a pass over all rows at its optimum; as `Track.norm` measures it."""

    gradient: float  # of all rows
    third: float  # after a Newton step from there
    of_third: float  # the error of a sample's third derivatives along that step
    of_curvature: float  # the error of the sample's curvature along it

    def looks_with_curvature(self, tol: float) -> int:
        """Return how many more passes over all rows follow that with their curvature."""
        return looks(self.gradient, self.third, tol, self.of_third)

    def spares_curvature(self, tol: float) -> bool:
        """Return whether the sample's curvature is so exact that it serves in place of that of all rows.

        It costs no more passes then; or one more, which takes less time than that curvature does.
        """
        if self.of_curvature > EXACT_ENOUGH * self.gradient:
            return False
        # The sample's curvature is carried on.
        error = self.of_curvature + self.of_third
        without = looks(self.gradient, self.third, tol, error, carried=True, caution=CAUTION)
        more = int(self.of_curvature <= VERY_EXACT * self.gradient)
        return without <= self.looks_with_curvature(tol) + more

    def looks_from_larger(self, tol: float, times: float) -> int:
        """Return how many more follow from the optimum of a sample so many times as large, whose curvature is kept."""
        third = self.third / times
        error = self.of_curvature / times + third
        return looks(self.gradient / np.sqrt(times), third, tol, error, carried=True, is_told=False)


def prospect(track: Any, groups: tuple[Sums | None, ...] | None, query: np.ndarray) -> Prospect | None:
    """Return what the halves of a sample let expect, or None where its steps have not told enough."""
    norms = track.history["grad_norm"][track.since :]
    halves = objectives_of(track, groups, query)
    if halves is None or len(norms) < 2:
        return None
    first, second = halves
    assert first.curvature is not None
    assert second.curvature is not None
    expected = (first.gradient - second.gradient) / 2
    move = solved((first.curvature + second.curvature) / 2, expected)
    gradient = track.norm(expected)
    # Third derivatives show in the last step on the sample, and grow with the square of the step.
    third = min(gradient, norms[-1] * (gradient / norms[-2]) ** 2)
    return Prospect(
        gradient=gradient,
        third=third,
        of_third=spread(first.curvature, second.curvature, first.ridge) * third,
        of_curvature=track.norm(curved((first.curvature - second.curvature) / 2, move)),
    )


def _square(gradient: np.ndarray, curvature: np.ndarray) -> float:
    """Return the square of a gradient (q, k, 1) in the scale of a curvature (q, q, k or 1) that is not singular."""
    return float((gradient * solved(curvature, gradient)).sum())


def looks(
    gradient: float,
    third: float,
    tol: float,
    error: float | None = None,
    carried: bool = False,
    is_told: bool = True,
    caution: float = 1.0,
) -> int:
    """Return how many passes over all rows follow the first, whose gradient is this, until the end is foretold.

    Each Newton step leaves ``third`` times the square of the gradient's fall. With an ``error`` that is what the first
    leaves, at most ``caution`` times as much, which may be foretold; and where its curvature is carried on, later ones
    leave twice that error times the gradient's fall too.
    """
    if not gradient > 0:
        return 0
    left = third
    if error is not None:
        left = caution * error
        if is_told and FIRST_MARGIN * left <= tol:
            return 0
    count = 1
    while left > tol and count < MOST_LOOKS:
        fall = left / gradient
        left = third * fall**2
        if carried and error is not None:
            left += 2 * error * fall
        if MARGIN * left <= tol:
            break
        count += 1
    return count


def is_misled(track: Any, groups: tuple[Sums | None, ...] | None, query: np.ndarray) -> bool:
    """Return whether a pass over all rows has found another gradient than the halves of the sample tell."""
    halves = objectives_of(track, groups, query)
    if halves is None:
        return False
    first, second = halves
    found = track.norm(track.state.gradient - (first.gradient + second.gradient) / 2)
    return found > MISLED * track.norm((first.gradient - second.gradient) / 2)


def objectives_of(
    track: Track,
    groups: tuple[Sums | None, ...] | None,
    query: np.ndarray,
) -> tuple[Objective, Objective] | None:
    """Return the objectives of both halves, or None where one of them has no rows or is not finite."""
    found = []
    for sums in groups or (None,):
        if sums is None or not sums.weight > 0:
            return None
        found.append(track.objective_of(sums, query))
    if not all(map(is_finite, found)):
        return None
    return found[0], found[1]


def is_finite(objective: Objective) -> bool:
    """Return whether an objective and its derivatives are finite."""
    parts = (objective.loss, objective.gradient, objective.curvature)
    return all(part is not None and bool(np.isfinite(part).all()) for part in parts)
