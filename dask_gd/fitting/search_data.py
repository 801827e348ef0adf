"""The Dataset of a search's result: the scores, losses and coefficients of its tracks."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any, Protocol

import numpy as np
import xarray as xr

from ..kernels.shift import unshifted
from ..model.losses import classes_of
from .fold_track import ALL, FoldTrack
from .grid import PARAMETERS, Candidate
from .scores import OF_SQUARES
from .search_engine import SearchEngine

#: Dimensions and values, as xarray takes them.
Variable = tuple[tuple[str, ...], np.ndarray]


def dataset_of(tracks: list[FoldTrack], engine: SearchEngine, scoring: str) -> xr.Dataset:
    """Return the Dataset of all tracks, see `SearchResult`."""
    by_fold = Values(tracks, engine, range(engine.count))
    of_all = Values(tracks, engine, None)
    # Coefficients have a dimension for outputs, unless the targets are a vector.
    output: tuple[str, ...] = ("output",)
    if output_count(engine) is None:
        output = ()
    data = xr.Dataset(
        {
            # On the rows held out.
            "score": by_fold.variable(lambda track: score(track, engine, scoring)),
            "loss": by_fold.variable(lambda track: holdout_loss(track, engine)),
            # The fits to the other rows.
            "n_iter": by_fold.variable(attrgetter("n_iter")),
            "grad_norm": by_fold.variable(attrgetter("grad_norm")),
            "reason": by_fold.variable(attrgetter("reason")),
            "weights": by_fold.variable(by_fold.coefficients, "feature", *output),
            "intercept": by_fold.variable(by_fold.intercept, *output),
            # The fits to all rows.
            "all_weights": of_all.variable(of_all.coefficients, "feature", *output),
            "all_intercept": of_all.variable(of_all.intercept, *output),
            "all_reason": of_all.variable(attrgetter("reason")),
            "all_n_iter": of_all.variable(attrgetter("n_iter")),
            "all_grad_norm": of_all.variable(attrgetter("grad_norm")),
            "all_objective": of_all.variable(of_all.objective, "iteration"),
            # Iteration by iteration.
            "history": by_fold.variable(by_fold.history, "iteration"),
            "objective": by_fold.variable(by_fold.objective, "iteration"),
        },
        coords={
            "fold": list(range(engine.count)),
            **coordinates_of(engine),
        },
    )
    # Where an order has joined rows.
    error = max(track.score_error for track in tracks)
    if error:
        data["score"].attrs["error"] = error
    return data.assign_coords(names_of(engine))


class Values:
    """The values of tracks as arrays: over candidates and folds, or over candidates for the fits to all rows."""

    def __init__(self, tracks: list[FoldTrack], engine: SearchEngine, folds: range | None):
        self.engine = engine
        self.folds = folds
        self.track_of = {(track.candidate, track.fold): track for track in tracks}
        self.longest = max(len(track.losses) for track in tracks)

    def variable(self, value: Callable[[FoldTrack], Any], *dims: str) -> Variable:
        """Return a variable of each track's value, which has these dimensions."""
        values: list[Any] = []
        if self.folds is None:
            for c in range(len(self.engine.candidates)):
                track = self.track_of[c, ALL]
                values.append(value(track))
            return ("candidate", *dims), np.array(values)
        for c in range(len(self.engine.candidates)):
            tracks = [self.track_of[c, fold] for fold in self.folds]
            values.append([value(track) for track in tracks])
        return ("candidate", "fold", *dims), np.array(values)

    def coefficients(self, track: FoldTrack) -> np.ndarray:
        """Return the weights of the features, (p,) or (p, outputs)."""
        p = self.engine.source.shape[1]
        return self._of_outputs(track.weights[:p])

    def intercept(self, track: FoldTrack) -> Any:
        """Return the intercept that goes with the rows as they are, a number or (outputs,); 0 where there is none."""
        p = self.engine.source.shape[1]
        weights = unshifted(track.weights, self.engine.shift)
        intercept = np.zeros(weights.shape[1])
        if len(weights) > p:
            intercept = weights[p]
        return self._of_outputs(intercept)

    def _of_outputs(self, values: np.ndarray) -> Any:
        """Return values (..., k) for all outputs, with NaN for absent targets, or those of the only one, (...)."""
        if output_count(self.engine) is None:
            return values[..., 0]
        present = self.engine.source.present
        if present is None:
            return values
        return present.spread(values)

    def objective(self, track: FoldTrack) -> np.ndarray:
        """Return the objective at each iteration, NaN after the last."""
        return self._padded(np.array(track.losses))

    def history(self, track: FoldTrack) -> np.ndarray:
        """Return the mean loss of the rows held out at each iteration, NaN after the last."""
        weight = self.engine.folds[track.fold].weight
        return self._padded(np.array(track.holdout_losses) / weight)

    def _padded(self, values: np.ndarray) -> np.ndarray:
        """Return values with NaN up to the iterations of the longest track."""
        missing = self.longest - len(values)
        return np.append(values, np.full(missing, np.nan))


class Searched(Protocol):
    """What names the candidates, the features and the outputs of a search."""

    source: Any
    loss: Any
    candidates: list[Candidate]


def output_count(engine: Searched) -> int | None:
    """Return the number of classes or of outputs, or None where targets are a vector."""
    return classes_of(engine.loss) or engine.source.outputs


def names_of(engine: Searched) -> dict[str, list[str]]:
    """Return the names of features and outputs, where the data has them."""
    source = engine.source
    names = {}
    if source.feature_names is not None:
        names["feature"] = list(source.feature_names)
    output_names = source.output_names
    if source.present is not None:
        output_names = source.present.names
    # Of classes the name of the target is not theirs.
    if output_names is not None and output_count(engine) == source.outputs:
        names["output"] = list(output_names)
    return names


def coordinates_of(engine: Searched) -> dict[str, Any]:
    """Return the candidates' coordinates: those parameters that any candidate has."""
    coordinates = {}
    for name in PARAMETERS:
        values = [getattr(candidate, name) for candidate in engine.candidates]
        if name == "penalty":
            values = _penalties(engine)
        if any(value is not None for value in values):
            coordinates[name] = ("candidate", values)
    return coordinates


def _penalties(engine: Searched) -> list[str | None]:
    """Return the reprs of penalties given as such, None for others; an empty list where all are the same."""
    reprs: list[str | None] = []
    for candidate in engine.candidates:
        if candidate.alpha is None and candidate.C is None:
            reprs.append(repr(candidate.penalty))
        else:
            reprs.append(None)
    if len(set(reprs)) == 1:
        return []
    return reprs


def holdout_loss(track: FoldTrack, engine: SearchEngine) -> float:
    """Return the mean loss of a track on the rows of its fold."""
    return track.holdout[0] / engine.folds[track.fold].weight


def score(track: FoldTrack, engine: SearchEngine, scoring: str) -> float:
    """Return the score of a track on the rows of its fold, NaN if it has not come to an end."""
    if track.reason in ("diverged", "dropped"):
        return np.nan
    if engine.summary is not None:
        return track.score
    weight = engine.folds[track.fold].weight
    mean = track.holdout[1] / weight
    if engine.score is None:
        # The score follows from the mean loss.
        mean = -track.holdout[0] / weight
        if scoring in OF_SQUARES:
            # Half the squared error is the loss, summed over outputs.
            mean = mean * (2 / track.weights.shape[1])
    if scoring != "r2":
        return mean
    # The mean squared error over the variance of the fold's targets.
    total, squares = engine.fold_targets[track.fold, :, 0] / weight
    return 1 + mean / (squares - total**2)
