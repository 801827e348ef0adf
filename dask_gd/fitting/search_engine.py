"""The engine of a search: passes that its tracks share."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import reduce

import numpy as np

from ..errors import InvalidArgumentError
from ..kernels.base import (
    BOUND,
    EXACT,
    Request,
    Sums,
    combine,
    curvatures,
    expand_class_pairs,
    sums_bytes,
)
from ..kernels.base import candidates as widest
from ..kernels.shift import read_shifted
from ..model.losses import Loss, classes_of
from ..model.penalties import Penalty
from ..passes import draw_partitions
from ..solvers import Newton, Solver
from ..solvers.objective import about_mean
from ..sources import Source
from .engine import Engine
from .fold_checks import FoldSums, check_fold
from .fold_kernels import ByFold, HoldOut
from .fold_track import ALL, FoldTrack
from .folds import Assignment
from .grid import Candidate
from .holdout_kernel import HoldOutOnly, Summarise
from .score_summaries import PREDICTIONS_BYTES, Predictions, Summary
from .scores import Score
from .search_followers import blur, followed, told_by
from .track import Evaluated, Stopping, is_batched

logger = logging.getLogger("dask_gd")

#: Bytes that the tracks of one batch may hold on the client; candidates beyond that are tried after these.
BATCH_BYTES = 1 << 30
#: Bytes that the sums of one pass may have; the same goes for candidates beyond that.
SUMS_BYTES = 64 << 20
#: The mean of targets over their spread above which the sum of their squares has lost more than four of 16 digits.
FAR = 1e2
#: Bytes that the summaries of the rows held out may have in one pass, unless those of a single track are more.
SUMMARY_BYTES = 256 << 20


class SearchEngine(Engine):
    """The engine of a search: its arguments, and passes that evaluate all of its tracks together."""

    def __init__(
        self,
        source: Source,
        loss: Loss,
        assignment: Assignment,
        score: Score,
        candidates: list[Candidate],
        solvers: list[Solver],
        stopping: Stopping,
        fit_intercept: bool,
        seed: int,
    ):
        super().__init__(source, loss)
        self.assignment = assignment
        self.score = score.of_rows
        self.summary = score.summary
        self.summary_if_far = score.if_far
        self.candidates = candidates
        self.solvers = solvers
        self.stopping = stopping
        self.fit_intercept = fit_intercept
        self.seed = seed
        self.count = assignment.folds.count
        # The sample at whose minimum the tracks begin and which corrects their first step, if there is one; and whether
        # the curvature there is computed in float32.
        self.sample: tuple[int, ...] | None = None
        self.is_rough = False
        # Sums of the targets and of their squares in each fold, (parts, 2, k).
        self.fold_targets = np.empty((0, 2, 0))

    @property
    def batched(self) -> bool:
        """Whether each step reads a sample of the partitions, see `SGD`."""
        return any(is_batched(solver) for solver in self.solvers)

    def begin(self, start: np.ndarray) -> None:
        """Take the first pass: the sums of each fold at the start, parameters of the rows as they are."""
        self.persist()
        curvature: str | None = EXACT
        if not self.loss.quadratic:
            curvature = _curvature(self.solvers, start)
        request = Request(curvature=curvature, moments=True, is_rough=self.is_rough)

        def read(query: np.ndarray, shift: np.ndarray | None) -> Sums:
            self.shift = shift
            self.folds = self.by_fold(query, request)[0]
            return reduce(combine, self.folds)

        p = self.source.shape[1]
        sums, _ = read_shifted(read, start, None, self.source.row_format)
        self.all_rows = about_mean(sums, self.loss, p)
        self.moments = self.all_rows.moments
        self.weight = self.all_rows.weight
        self.check_folds()
        if self.summary_if_far is not None and self.targets_are_far():
            self.summary = self.summary_if_far

    def batches(self, start: np.ndarray) -> list[list[int]]:
        """Return the candidates in lists that fit in memory together."""
        q, k, _ = start.shape
        n = len(self.candidates)
        # A state has curvatures, or else some vectors.
        numbers = q * k * 40
        if any(isinstance(solver, Newton) for solver in self.solvers):
            numbers = (q * k) ** 2 * 3
        state_bytes = 8 * (self.count + 1) * numbers
        # A first step may try several lengths.
        query_bytes = 8 * q * k * (self.count + 1) * widest(q)
        size = max(1, min(BATCH_BYTES // state_bytes, SUMS_BYTES // query_bytes))
        if size < n:
            logger.warning("%d candidates do not fit in memory together; %d are tried at a time.", n, size)
        return _in_lists(list(range(n)), size)

    def track(
        self,
        candidate: int,
        fold: int,
        start: np.ndarray,
        weight: float,
        penalty: Penalty | None = None,
    ) -> FoldTrack:
        """Return a new track, from a start (q, k, 1), on rows of this weight."""
        track = FoldTrack(
            self,
            penalty=penalty or self.candidates[candidate].of(weight),
            solver=self.solvers[candidate],
            start=start,
            candidate=candidate,
            fold=fold,
            weight=weight,
        )
        if fold != ALL:
            # Where classes share a matrix it has other rows than the weights.
            matrices = self.folds[fold].curvature
            if matrices is not None and len(matrices) == len(start):
                track.holdout_curvature = matrices
        return track

    def evaluate(self, tracks: list[FoldTrack]) -> Sequence[Evaluated | None]:
        """Return for each track the sums at its query over the rows that it sees, and loss and score over the others.

        It is None for those whose step there is the last and needs no look. The first step is taken from the first
        pass, which has evaluated the start. Others take a pass, and another one for curvatures, where tracks ask for
        them. Steps that read a sample of the partitions take none from all.
        """
        if not self.batched and not any(track.losses for track in tracks):
            return self._from_first_pass(tracks)
        looking = self._looking(tracks)
        if not looking:
            return [None] * len(tracks)
        # The candidates of a fold are neighbours, and a look at one tells of those near it.
        looking.sort(key=lambda track: track.fold)
        leader_of = [looking[i] for i in followed(looking, self.stopping.tol)]
        leading = [track for track, leader in zip(looking, leader_of, strict=True) if track is leader]
        found = dict(zip(map(id, leading), self._from_pass(leading), strict=True))
        for track, leader in zip(looking, leader_of, strict=True):
            track.blur = 0.0
            if track is not leader:
                track.blur = blur(track, leader)
                found[id(track)] = told_by(leader, found[id(leader)], track)
        return [found.get(id(track)) for track in tracks]

    def _looking(self, tracks: list[FoldTrack]) -> list[FoldTrack]:
        """Return the tracks that need a look at their query: all but those whose end is foretold.

        Those of whose rows held out nothing is foretold take part in a look that others need.
        """
        foreseeing = [track.foresees_end(self.stopping.tol) for track in tracks]
        if all(foreseeing):
            return []
        looking = []
        for track, ends in zip(tracks, foreseeing, strict=True):
            if not (ends and track.foretells_holdout(self.score is not None)):
                track.bound = np.inf
                looking.append(track)
        return looking

    def _from_pass(self, tracks: list[FoldTrack]) -> list[Evaluated]:
        """Return for each track, fold by fold, what a pass sums at its query."""
        # One query of all, over a sample of the partitions where solvers take one.
        queries = [track.state.query for track in tracks]
        sizes = [query.shape[2] for query in queries]
        query = np.ascontiguousarray(np.concatenate(queries, axis=2))
        fold_of_query = np.repeat([track.fold for track in tracks], sizes)
        # With Newton's method the loss held out is foretold from its gradient where a step is taken unseen.
        has_slopes = all(isinstance(track.solver, Newton) for track in tracks)
        kernel = HoldOut(self.assignment, fold_of_query, self.score, has_slopes)
        partitions = None
        share = 1.0
        if self.batched:
            batch = self.solvers[0].batch  # type: ignore[attr-defined]
            step = len(tracks[0].losses)
            partitions = draw_partitions(self.seed, step, batch, self.source.partitions)
            share = len(partitions) / self.source.partitions
        read = self.read(query, Request(kernel=kernel), partitions)

        # Each track's part of the sums. The rows held out count as if all of them had been read.
        found = []
        edges = np.cumsum([0, *sizes])
        for i, track in enumerate(tracks):
            of_track = slice(edges[i], edges[i + 1])
            sums = Sums(
                rows=0,
                weight=track.weight * share,
                loss=read.at_query.loss[of_track],
                gradient=read.at_query.gradient[:, :, of_track],
                curvature=None,
                moments=None,
            )
            evaluated = Evaluated(sums, holdout=read.holdout[:, of_track] / share)
            if has_slopes:
                evaluated = evaluated._replace(holdout_slope=read.slopes[:, :, of_track])
            found.append(evaluated)

        # Another pass for those that ask for a curvature.
        asking = []
        for i, track in enumerate(tracks):
            if track.solver.request(track.state).curvature:
                asking.append(i)
        if asking:
            matrices = self._curvatures([tracks[i] for i in asking])
            for i, matrix in zip(asking, matrices, strict=True):
                found[i] = found[i]._replace(sums=found[i].sums._replace(curvature=matrix))
        return found

    def _from_first_pass(self, tracks: list[FoldTrack]) -> list[Evaluated]:
        """Return for each track what the first pass has summed over the rows that it sees, and the loss over others."""
        sums = {fold: self.all_but(self.folds, fold) for fold in {track.fold for track in tracks}}
        evaluated = []
        for track in tracks:
            holdout = np.array([[0.0], [np.nan]])
            if track.fold != ALL:
                holdout[0] = self.folds[track.fold].loss
            evaluated.append(Evaluated(sums[track.fold], holdout=holdout))
        return evaluated

    def _curvatures(self, tracks: list[FoldTrack]) -> list[np.ndarray | None]:
        """Return the curvature of each track over the rows that it sees, of the kind that they ask for."""
        # One point for all folds of a candidate: where the fit to all rows is, or any other that still runs.
        points: dict[int, FoldTrack] = {}
        for track in reversed(tracks):
            points[track.candidate] = track
        first = tracks[0]
        kind = first.solver.request(first.state).curvature
        request = Request(curvature=kind)
        by_fold: dict[int, list[Sums]] = {}
        for candidates in self.in_memory(list(points), kind):
            queries = [points[c].state.query[:, :, :1] for c in candidates]
            parts = self.by_fold(np.concatenate(queries, axis=2), request)
            by_fold |= zip(candidates, parts, strict=True)
        # A track's is the sum over the rows that it sees.
        matrices = []
        for track in tracks:
            sums = self.all_but(by_fold[track.candidate], track.fold)
            matrices.append(sums.curvature)
        return matrices

    def in_memory(self, candidates: list[int], kind: str | None) -> list[list[int]]:
        """Return the candidates in lists, each of as many as a pass may compute curvatures for."""
        assert self.all_rows.gradient is not None
        q, k, _ = self.all_rows.gradient.shape
        matrices = curvatures(k, self.loss, Request(curvature=kind))
        candidate_bytes = self.assignment.parts * sums_bytes(q, k, 1, matrices)
        size = max(1, SUMS_BYTES // candidate_bytes)
        return _in_lists(candidates, size)

    def by_fold(self, query: np.ndarray, request: Request) -> list[list[Sums]]:
        """Return for each candidate in the query (q, k, m) the sums over each fold, and over the rows in no fold."""
        kernel = ByFold(self.assignment)
        read = self.read(query, request._replace(kernel=kernel))
        self.fold_targets = read.targets
        by_candidate = []
        for parts in read.parts:
            expanded = [expand_class_pairs(part, self.loss, request) for part in parts]
            by_candidate.append(expanded)
        return by_candidate

    def all_but(self, parts: list[Sums], fold: int) -> Sums:
        """Return the sums over the rows that a fit without the fold sees."""
        others = [part for f, part in enumerate(parts) if not self.assignment.is_unseen(f, fold)]
        return reduce(combine, others)

    def weight_without(self, fold: int) -> float:
        """Return the weight of the rows that a fit without the fold sees."""
        return sum(part.weight for f, part in enumerate(self.folds) if not self.assignment.is_unseen(f, fold))

    def score_holdout(self, tracks: list[FoldTrack]) -> None:
        """Give tracks that took no pass at their weights their loss and score on the rows held out, by a pass."""
        of_folds = sorted((track for track in tracks if track.fold != ALL), key=lambda track: track.fold)
        query = np.concatenate([track.state.weights for track in of_folds], axis=2)
        fold_of_query = np.array([track.fold for track in of_folds])
        held_out = HoldOut(self.assignment, fold_of_query, self.score)
        read = self.read(query, Request(kernel=HoldOutOnly(held_out)))
        for track, holdout in zip(of_folds, read.holdout.T, strict=True):
            track.take_holdout(holdout)

    def summarise_holdout(self, tracks: list[FoldTrack]) -> None:
        """Set the scores of tracks that take more than the passes of the fits have, which takes a pass or more."""
        summary = self.summary
        assert summary is not None
        _, k, _ = tracks[0].state.weights.shape
        rows = max(self.folds[track.fold].rows for track in tracks)
        nbytes = summary.bytes_of_sums(rows, k)
        size = max(1, SUMMARY_BYTES // nbytes)
        for numbers in _in_lists(list(range(len(tracks))), size):
            of_pass = [tracks[i] for i in numbers]
            query = np.concatenate([track.state.weights for track in of_pass], axis=2)
            kernel = Summarise(
                self.assignment,
                of=np.array([track.fold for track in of_pass]),
                summary=summary.for_tasks(),
                times=1 + len(of_pass) * nbytes // query.nbytes,
            )
            read = self.read(query, Request(kernel=kernel))
            for track, sums in zip(of_pass, read.summaries, strict=True):
                track.score = summary.score(sums)
                track.score_error = summary.error(sums)

    def targets_are_far(self) -> bool:
        """Return whether the mean of the targets in any fold is far above their spread."""
        weights = np.array([sums.weight for sums in self.folds[: self.count]])
        means, squares = np.moveaxis(self.fold_targets[: self.count], 1, 0) / weights[:, None]
        return bool((means**2 > FAR**2 * (squares - means**2)).any())

    def check_folds(self) -> None:
        """Refuse a fold without rows, and one without which the others cannot be fitted."""
        for fold in range(self.count):
            own = self.folds[fold]
            others = self.all_but(self.folds, fold)
            assert own.moments is not None
            assert others.moments is not None
            check_fold(
                fold,
                self.count,
                own=FoldSums(own.weight, own.moments.targets),
                others=FoldSums(others.weight, others.moments.targets),
                loss=self.loss,
                needs_both_classes=self.summary is not None and self.summary.needs_both_classes,
            )


def check_room_for_predictions(summary: Summary | None, loss: Loss, source: Source, folds: int) -> None:
    """Refuse a function of predictions where those of a fold's rows are too many for the client.

    Raises
    ------
    InvalidArgumentError
    """
    if not isinstance(summary, Predictions):
        return
    k = classes_of(loss) or source.outputs or 1
    rows = -(-source.shape[0] // folds)
    nbytes = summary.bytes_of_sums(rows, k)
    if nbytes > PREDICTIONS_BYTES:
        raise InvalidArgumentError(
            f"scoring by a function takes the predictions of all rows of a fold, some {rows:,}, which are "
            f"{nbytes / 2**30:.1f} GiB; at most {PREDICTIONS_BYTES / 2**30:g} GiB are taken. Give the name of a "
            "score that dask_gd.search sums, such as roc_auc, f1 or r2, or take more folds."
        )


def _curvature(solvers: list[Solver], start: np.ndarray) -> str | None:
    """Return the kind of curvature that the first pass must compute, or None."""
    kinds = set()
    for solver in solvers:
        state = solver.init(start, 0.0)
        kinds.add(solver.request(state).curvature)
    # The exact one serves in place of a bound.
    for kind in (EXACT, BOUND):
        if kind in kinds:
            return kind
    return None


def _in_lists(candidates: list[int], size: int) -> list[list[int]]:
    """Return the candidates in lists of this size, the last of which may be shorter."""
    return [candidates[i : i + size] for i in range(0, len(candidates), size)]
