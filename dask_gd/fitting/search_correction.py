"""The first steps of a search's tracks, corrected by a sample: one pass and a little for all folds and candidates.

The first pass has gradient and curvature of each fold at one point, the minimum of a sample. Each track's objective is
then that of the sample, corrected by what the pass has told of the rows that the track sees, and with the track's
penalty (`correction`, `docs/one_pass.md`). All tracks take their steps on the sample together, of which each reading
serves all. It need not be split by folds: it stands for the third derivatives of any of them.

Curvatures of the sample are computed for the fits to all rows, of each candidate, and for all fits of the middle
candidate. That of any other is its candidate's, and what its fold has changed in the middle one's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..kernels.base import EXACT, Request, Sums
from ..kernels.grouped import Grouped, GroupedSums
from ..kernels.several_curvatures import SeveralCurvatures
from ..solvers.newton.corrected import Centre, corrected, spread
from ..solvers.objective import Objective
from ..worker_env import one_blas_thread
from .correction import Correction, told
from .fold_track import FoldTrack
from .prospect import halves_of, is_finite, is_misled
from .search_engine import SearchEngine
from .search_followers import distance, leaders_of, moved

#: Passes over the sample after that at its minimum.
MOST = 3
#: Steps are told of by one that is no further away than this share of its own length.
NEAR = 1e-2


def correct(engine: SearchEngine, tracks: list[FoldTrack]) -> None:
    """Lead the first steps of tracks to the minima of their corrected objectives, where these are nearer."""
    if engine.sample is None:
        return
    tracks = [track for track in tracks if _has_set_out(track)]
    if not tracks:
        return
    with one_blas_thread():
        steps = _begin(engine, tracks)
        for _ in range(MOST):
            going_on = [step for step in steps if not step.is_done]
            if not going_on:
                break
            _step(engine, going_on)
        for step in steps:
            step.end()


def _has_set_out(track: FoldTrack) -> bool:
    """Return whether a track has set out on its first full step."""
    is_first = track.reason is None and track.iteration == 0 and track.correction is None
    return is_first and track.state.query.shape[2] == 1 and bool(track.state.promise[0] > 0)


def _read(engine: SearchEngine, query: np.ndarray, at: tuple[int, ...]) -> GroupedSums:
    """Return the sums over the sample and its halves at candidates (q, k, m), with the curvatures at some of these."""
    assert engine.sample is not None
    kernel = Grouped(halves_of(engine.sample), SeveralCurvatures(at))
    request = Request(curvature=EXACT, kernel=kernel, is_rough=engine.is_rough)
    return engine.read(query, request, engine.sample)


def _begin(engine: SearchEngine, tracks: list[FoldTrack]) -> list[StepOnSample]:
    """Return the steps of tracks from their start, which the first pass has read, and now one over the sample."""
    start = tracks[0].state.weights
    found = _read(engine, start, (0,))
    if any(half is None or not half.weight > 0 for half in found.groups):
        return []
    sums = {fold: engine.all_but(engine.folds, fold) for fold in {track.fold for track in tracks}}
    # The share by which the curvature of the sample is wrong is the largest where the penalty has the least.
    weakest = {track.fold: track for track in sorted(tracks, key=_strength, reverse=True)}
    unlike = {}
    for fold, track in weakest.items():
        centre = _centre(track, start, sums[fold], found)
        assert centre.sample.curvature is not None
        assert centre.whole.curvature is not None
        unlike[fold] = np.inf
        if all(map(is_finite, (centre.whole, centre.sample, *centre.halves))):
            unlike[fold] = spread(centre.sample.curvature, centre.whole.curvature, centre.whole.ridge)
    steps = []
    for track in tracks:
        if unlike[track.fold] < 1.0 and not is_misled(track, found.groups, start):
            centre = _centre(track, start, sums[track.fold], found)
            steps.append(StepOnSample(track, centre, unlike[track.fold]))
    return steps


def _strength(track: FoldTrack) -> float:
    """Return the largest curvature of a track's penalty."""
    return float(np.max(track.penalty.curvature()))


def _centre(track: FoldTrack, start: np.ndarray, sums: Sums, found: GroupedSums) -> Centre:
    """Return the objective of a track at its start: over the rows that it sees, over the sample and over its halves."""
    first, second = (track.objective_of(half, start) for half in found.groups if half is not None)
    return Centre(
        start,
        whole=track.objective_of(sums, start),
        sample=track.objective_of(found.at_query, start),
        halves=(first, second),
    )


def _step(engine: SearchEngine, steps: list[StepOnSample]) -> None:
    """Read the sample at the queries of all steps, and take them on from there."""
    # One reading for those that are near each other.
    leader_of = leaders_of(steps, _is_near)
    columns = {leader: column for column, leader in enumerate(sorted(set(leader_of)))}
    leading = [steps[leader] for leader in columns]
    queries = [step.on_sample.query for step in steps]
    query = np.concatenate([queries[leader] for leader in columns], axis=2)
    plan = Curvatures(leading)
    found = _read(engine, query, plan.at)

    # Each track's part of the sums, moved to its own query.
    of_leaders = plan.of_all(found.at_query)
    for i, step in enumerate(steps):
        leader = leader_of[i]
        column = columns[leader]
        move = queries[i] - queries[leader]
        parts = []
        for sums in (found.at_query, *found.groups):
            assert sums is not None
            share = sums.weight / found.at_query.weight
            curvature = of_leaders[column] * share
            parts.append(moved(_of_candidate(sums, column, curvature), move, curvature))
        step.take(parts[0], parts[1:])


def _is_near(step: StepOnSample, leader: StepOnSample) -> bool:
    """Return whether a step's query is so near another's that the sums there tell of it."""
    if step.track.fold != leader.track.fold:
        return False
    curvature = leader.centre.whole.curvature
    assert curvature is not None
    at = leader.on_sample.query
    length = distance(at - leader.centre.weights, curvature)
    return distance(step.on_sample.query - at, curvature) <= NEAR * length


class Curvatures:
    """The curvatures that a pass over the sample computes for the queries of steps, and what follows for the others."""

    def __init__(self, steps: list[StepOnSample]):
        self.keys = [(step.track.candidate, step.track.fold) for step in steps]
        numbers = {key: i for i, key in enumerate(self.keys)}
        candidates = sorted({candidate for candidate, _ in self.keys})
        middle = candidates[len(candidates) // 2]
        # Those of each fold of the middle candidate, and of each candidate for the same fold where there is one.
        self.of_fold = {fold: i for (candidate, fold), i in numbers.items() if candidate == middle}
        self.fold = next(iter(self.of_fold))
        self.of_candidate: dict[int, int] = {}
        for (candidate, fold), i in numbers.items():
            if fold == self.fold or candidate not in self.of_candidate:
                self.of_candidate[candidate] = i
        #: The numbers of the queries at which they are computed.
        self.at = tuple(sorted({*self.of_candidate.values(), *self.of_fold.values()}))

    def of_all(self, sums: Sums) -> list[np.ndarray]:
        """Return the curvature (q, q, k) at each query, from sums with those that were computed."""
        assert sums.curvature is not None
        computed = dict(zip(self.at, np.split(sums.curvature, len(self.at), axis=2), strict=True))
        base = computed[self.of_fold[self.fold]]
        found = []
        for i, (candidate, fold) in enumerate(self.keys):
            curvature = computed.get(i)
            if curvature is None:
                curvature = computed[self.of_candidate[candidate]]
                if fold in self.of_fold:
                    curvature = curvature + computed[self.of_fold[fold]] - base
            found.append(curvature)
        return found


def _of_candidate(sums: Sums | None, i: int, curvature: np.ndarray | None = None) -> Sums:
    """Return the sums at a single candidate of a query, with a curvature."""
    assert sums is not None
    return sums._replace(
        loss=sums.loss[i : i + 1],
        gradient=sums.gradient[:, :, i : i + 1],
        curvature=curvature,
    )


class StepOnSample:
    """The step of a track from its start, as steps on the sample lead it on."""

    def __init__(self, track: FoldTrack, centre: Centre, unlike: float):
        self.track = track
        self.centre = centre
        #: The share by which the sample's curvature is wrong.
        self.unlike = unlike
        #: The solver's state on the sample, and what the steps have told, if they lead anywhere.
        self.on_sample: Any = track.solver.on_sample(track.state)
        self.correction: Correction | None = None
        self.is_done = False
        #: The corrected gradient at the last query.
        self.norm = track.norm(centre.whole.gradient, centre.weights)

    def take(self, sums: Sums, halves: list[Sums]) -> None:
        """Take a step from the sums over the sample, and over its halves, at the query."""
        track = self.track
        at = self.on_sample.query
        of_sample = track.objective_of(sums, at)
        first, second = (track.objective_of(half, at) for half in halves)
        if not is_finite(of_sample):
            self._fail()
            return

        # What the sample cannot see must be less than what it corrects.
        move = at - self.centre.weights
        correction = told(track, self.centre, of_sample, (first, second), move, self.unlike)
        if not correction.error < correction.third:
            self._fail()
            return
        on_all: Objective = corrected(of_sample, at, self.centre)
        self.on_sample = track.solver.step(self.on_sample, on_all)
        is_taken = np.array_equal(self.on_sample.weights, at) and self.on_sample.query.shape[2] == 1
        if not is_taken or not self.on_sample.promise[0] >= 0:
            self._fail()
            return

        # Steps leave the same share each time, or less: the curvature is that of a point nearby.
        norm = track.norm(on_all.gradient, at)
        left = norm * norm / self.norm
        self.norm = norm
        self.correction = correction._replace(error=correction.error + left, iteration=track.iteration)
        self.is_done = left <= correction.error

    def _fail(self) -> None:
        """Leave the track as it was."""
        self.correction = None
        self.is_done = True

    def end(self) -> None:
        """Lead the track's step to where the steps on the sample have come."""
        track = self.track
        if self.correction is None:
            return
        track.correction = self.correction
        track.state = track.solver.go_to(track.state, self.on_sample, serves_again=True)
