"""Fits of a search that are so near each other that a pass at one of them tells of the others.

Fits of the same rows have the same loss, and differ in their penalty. Where penalties are weak beside the rows, as most
of a grid over many orders are, their minima lie close together. The sums at one are then those at another, up to what
third derivatives change on the way, which grows with the square of the distance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from ..kernels.base import Sums
from ..model.penalties import is_nonsmooth
from ..solvers.newton.corrected import curved
from ..solvers.vectors import dot
from .fold_track import FoldTrack
from .prospect import MARGIN
from .track import Evaluated

#: The share of the tolerance by which the gradient of a follower may be wrong.
SHARE = 0.25

T = TypeVar("T")


def leaders_of(items: Sequence[T], is_near: Callable[[T, T], bool]) -> list[int]:
    """Return for each item the first leader that it is near; those that are near none lead themselves."""
    found: list[int] = []
    for i, item in enumerate(items):
        leader = i
        for j in sorted(set(found)):
            if is_near(item, items[j]):
                leader = j
                break
        found.append(leader)
    return found


def moved(sums: Sums, move: np.ndarray, curvature: np.ndarray) -> Sums:
    """Return the sums at the end of a move (q, k, 1) from the query, by their curvature (q, q, k or 1) there."""
    change = curved(curvature, move)
    return sums._replace(
        loss=sums.loss + dot(move, sums.gradient + 0.5 * change),
        gradient=sums.gradient + change,
    )


def distance(move: np.ndarray, curvature: np.ndarray) -> float:
    """Return the length of a move (q, k, 1) in the scale of a curvature (q, q, k or 1)."""
    return float(np.sqrt(max(0.0, dot(move, curved(curvature, move))[0])))


def may_follow(track: FoldTrack) -> bool:
    """Return whether a track's query has the curvature next to it, from steps on a sample."""
    correction = track.correction
    if correction is None or not correction.is_told or correction.iteration != track.iteration:
        return False
    return track.state.query.shape[2] == 1 and not is_nonsmooth(track.penalty)


def blur(track: FoldTrack, leader: FoldTrack) -> float:
    """Return a bound of the error of the gradient at a track's query, as `Track.norm` measures it, if told by a leader.

    Third derivatives grow with the square of the distance, and the error of the curvature, of which the correction has
    told, with the distance.
    """
    if track.fold != leader.fold or not (may_follow(track) and may_follow(leader)):
        return np.inf
    assert leader.correction is not None
    move = track.state.query - leader.state.query
    length = np.sqrt(2 * leader.correction.promise)
    share = distance(move, leader.state.curvature) / length
    return MARGIN * share * (2 * leader.correction.error + leader.correction.third * share)


def followed(tracks: list[FoldTrack], tol: float) -> list[int]:
    """Return for each track the number of the one whose look tells of it, which may be its own."""

    def is_near(track: FoldTrack, leader: FoldTrack) -> bool:
        if not blur(track, leader) <= SHARE * tol:
            return False
        return track.tells_holdout(track.state.query - leader.state.query)

    return leaders_of(tracks, is_near)


def told_by(leader: FoldTrack, found: Evaluated, track: FoldTrack) -> Evaluated:
    """Return what a look at the leader's query tells of a track's; a score takes a look of its own."""
    assert found.holdout is not None
    assert found.holdout_slope is not None
    move = track.state.query - leader.state.query
    seen = leader.state.curvature * leader.weight
    p = leader.engine.width
    every = np.arange(p)
    seen[every, every] -= (np.zeros(p) + leader.penalty.curvature())[:, None] * leader.weight

    # The loss of the rows held out, by the curvature that they had at the start.
    holdout = found.holdout.copy()
    slope = found.holdout_slope
    if track.holdout_curvature is not None:
        change = curved(track.holdout_curvature, move)
        holdout[0] += dot(move, slope + 0.5 * change)
        slope = slope + change
        holdout[1] = np.nan
    return Evaluated(moved(found.sums, move, seen), holdout=holdout, holdout_slope=slope)
