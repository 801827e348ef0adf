"""What a stored search holds: its tracks after a round, and how a search goes on from them."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any, Protocol

import numpy as np

from ..model import penalties
from ..model.identity import code_of
from ..model.losses import parameters_of
from ..solvers import Solver
from ..store.content import FORMAT, check_content, check_format, check_state, numbers
from ..store.store import Checkpoint, Store, check_same
from .correction import Correction
from .fold_track import ALL, FoldTrack
from .grid import Candidate
from .search_engine import SearchEngine
from .smoothing import smoothing_of
from .unchanged import check_unchanged, rounding_of_sums, summary


class Described(Protocol):
    """What a search says of itself."""

    source: Any
    loss: Any
    assignment: Any
    candidates: list[Candidate]
    solvers: list[Solver]
    fit_intercept: bool


def spec_of(engine: Described, scoring: str) -> dict[str, Any]:
    """Return what a search must have in common with the stored one that it goes on from."""
    source = engine.source
    total = float(source.shape[0])
    return {
        "loss": {"name": engine.loss.name, **parameters_of(engine.loss)},
        "candidates": [_describe_penalty(candidate.of(total)) for candidate in engine.candidates],
        "solvers": [_describe_solver(solver) for solver in engine.solvers],
        "folds": repr(engine.assignment.folds) + engine.assignment.column,
        "scoring": scoring,
        "fit_intercept": engine.fit_intercept,
        "data": source.fingerprint(),
    }


def _describe_penalty(penalty: penalties.Penalty) -> str:
    """Return the name, the parameters and the code of a penalty, by name."""
    parameters = penalties.parameters_of(penalty)
    described = {"name": penalty.name, **parameters, **code_of(penalty)}
    return repr(sorted(described.items()))


def _describe_solver(solver: Solver) -> str:
    """Return the name, the parameters and the code of a solver, in their order."""
    parameters = asdict(solver)  # type: ignore[call-overload]
    return repr({"name": solver.name, **parameters, **code_of(solver)})


def check_data(engine: SearchEngine, stored: Checkpoint) -> None:
    """Refuse other data than a stored search's: the sums of its first pass were others, see `unchanged`."""
    assert engine.store is not None
    assert engine.processors is not None
    stored_sums = stored.arrays["seen"][1]
    # Sums of another processor may differ by their rounding.
    moments = engine.all_rows.moments
    weight = engine.all_rows.weight
    assert moments is not None
    rounding = rounding_of_sums(
        stored_sums[0, 0] / weight,
        moments=moments,
        weight=weight,
        sums=stored_sums,
        unit=engine.rounding,
    )
    same_processors = partial(
        engine.processors.are,
        stored.attributes["dask_gd"]["processors"],
    )
    check_unchanged(
        stored=stored_sums,
        now=summary(engine.all_rows),
        rounding=rounding,
        same=same_processors,
        path=engine.store.path,
    )


def checkpoint(
    engine: SearchEngine,
    rounds: int,
    start: np.ndarray,
    tracks: list[FoldTrack],
) -> Checkpoint:
    """Return all that is needed to go on: where tracks began, what the first pass added up, and each track."""
    arrays: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}

    def add(path: str, values: Any) -> None:
        array = np.asarray(values, dtype=float)
        name = path.rpartition("/")[2]
        dims = tuple(f"{name}_{i}" for i in range(array.ndim))
        arrays[path] = dims, array

    # What all tracks share.
    add("start", start)
    if engine.smoothed is not engine.loss:
        add("widths", engine.smoothed.widths)
    add("seen", summary(engine.all_rows))
    add("sample", engine.sample or ())
    add("is_rough", engine.is_rough)

    # Each track's state and history; the rest of it are attributes.
    attributes = []
    for i, track in enumerate(tracks):
        for name, array in track.state._asdict().items():
            add(f"trials/{i}-state-{name}", array)
        add(f"trials/{i}-held", track.holdout)
        add(f"trials/{i}-losses", track.losses)
        add(f"trials/{i}-held_losses", track.holdout_losses)
        add(f"trials/{i}-norms", track.history["grad_norm"])
        add(f"trials/{i}-held_slope", track.holdout_slope)
        add(f"trials/{i}-correction", track.correction or ())
        add(f"trials/{i}-borrowed", track.is_borrowed)
        add(f"trials/{i}-blur", track.blur)
        attributes.append(
            [
                track.candidate,
                track.fold,
                track.reason,
                float(track.grad_norm),
            ]
        )
    assert engine.processors is not None
    fields = {
        "format": FORMAT,
        "processors": engine.processors.known(),
        "spec": engine.spec,
        "trials": attributes,
    }
    return Checkpoint(rounds, {"dask_gd": fields}, arrays)


def stored_round(engine: SearchEngine, store: Store) -> Checkpoint | None:
    """Return the newest round of the same search, or None for an empty store."""
    stored = store.latest(partial(_check_resumable, engine))
    if stored is None:
        return None
    check_format(stored, store.path)
    check_same(stored.attributes["dask_gd"]["spec"], engine.spec, store.path)
    return stored


def take_sample(engine: SearchEngine, stored: Checkpoint) -> None:
    """Have the engine correct first steps by the sample of a stored round, if it had one."""
    # Former stores have none.
    if "sample" in stored.arrays and stored.arrays["sample"][1].size:
        engine.sample = tuple(stored.arrays["sample"][1].astype(int).tolist())
        engine.is_rough = bool(stored.arrays["is_rough"][1])


def start_of(stored: Checkpoint) -> np.ndarray:
    """Return where the tracks of a stored round began, (q, k, 1)."""
    return stored.arrays["start"][1]


def _check_resumable(engine: SearchEngine, stored: Checkpoint) -> None:
    """Refuse a round of this very search from which it cannot go on."""
    check_content(stored)
    fields = stored.attributes["dask_gd"]
    if fields.get("format") != FORMAT or fields["spec"] != engine.spec:
        return  # `check_format` or `check_same` says why.
    # What `check_data` needs.
    stored_sums = numbers(stored, "seen")
    if stored_sums.shape != (3, 1) or not isinstance(fields["processors"], list):
        raise ValueError("it does not say what its first pass added up")
    # What `restore` needs: states as their solvers have them.
    start = stored.arrays["start"][1]
    if smoothing_of(engine.loss, start.shape[1]) is not None:
        numbers(stored, "widths", start.shape[1:2])
    for i, (candidate, fold, _, _) in enumerate(fields["trials"]):
        if not (fold == ALL or 0 <= fold < engine.count):
            raise ValueError(f"trial {i} is of fold {fold}")
        state = engine.solvers[candidate].init(start, 0.0)
        check_state(stored, f"trials/{i}-state-", state)


def restore(engine: SearchEngine, stored: Checkpoint, start: np.ndarray) -> list[FoldTrack]:
    """Return the tracks as they were after a stored round."""
    tracks = []
    arrays = {name: array for name, (_, array) in stored.arrays.items()}
    attributes = stored.attributes["dask_gd"]["trials"]
    for i, (candidate, fold, reason, grad_norm) in enumerate(attributes):
        # A new track has all that the store does not, and the names of its state.
        weight = engine.weight_without(fold)
        track = engine.track(candidate, fold, start, weight)
        state = {}
        for name in track.state._fields:
            state[name] = arrays[f"trials/{i}-state-{name}"]
        track.state = type(track.state)(**state)
        track.holdout = arrays[f"trials/{i}-held"]
        track.history["loss"] = arrays[f"trials/{i}-losses"].tolist()
        track.holdout_losses = arrays[f"trials/{i}-held_losses"].tolist()
        # Former stores have no norms, and nothing is foretold of steps that they do not know.
        norms = arrays.get(f"trials/{i}-norms", np.full(len(track.losses), np.inf))
        track.history["grad_norm"] = norms.tolist()
        track.holdout_slope = arrays.get(f"trials/{i}-held_slope", track.holdout_slope)
        told = arrays.get(f"trials/{i}-correction", np.zeros(0))
        if told.size:
            track.correction = Correction.of_numbers(told)
        track.blur = float(arrays.get(f"trials/{i}-blur", 0.0))
        track.is_borrowed = bool(arrays.get(f"trials/{i}-borrowed", False))
        track.reason = reason
        # A track that had taken all its steps goes on where more are asked for now.
        if reason == "max_iter" and track.n_iter < engine.stopping.max_iter:
            track.reason = None
        track.grad_norm = grad_norm
        tracks.append(track)
    return tracks
