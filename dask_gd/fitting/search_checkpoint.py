"""What a stored search holds: its trials after a round, and how a search goes on from them."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from ..kernels.products import rounding_of
from ..model import penalties
from ..model.identity import code_of
from ..model.losses import parameters_of
from ..solvers import Solver
from ..store.content import FORMAT, check_content, check_format, check_state, numbers
from ..store.store import Checkpoint, Store, check_same
from .shared import Shared
from .smoothing import smoothing_of
from .trials import ALL, Trial
from .unchanged import check_unchanged, rounding_of_sums, summary


def spec_of(shared: Shared, scoring: str) -> dict[str, Any]:
    """Return what a search must have in common with the stored one that it goes on from."""
    source = shared.source
    total = float(source.shape[0])
    return {
        "loss": {"name": shared.loss.name, **parameters_of(shared.loss)},
        "candidates": [_describe_penalty(candidate.of(total)) for candidate in shared.candidates],
        "solvers": [_describe_solver(solver) for solver in shared.solvers],
        "folds": repr(shared.assignment.folds) + shared.assignment.column,
        "scoring": scoring,
        "fit_intercept": shared.fit_intercept,
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


def check_data(shared: Shared) -> None:
    """Refuse other data than a stored search's: the sums of its first pass were others, see `unchanged`."""
    assert shared.stored is not None
    assert shared.store is not None
    assert shared.processors is not None
    stored_round, _ = shared.stored
    stored_sums = stored_round.arrays["seen"][1]
    # Sums of another processor may differ by their rounding.
    moments = shared.all_rows.moments
    weight = shared.all_rows.weight
    assert moments is not None
    rounding = rounding_of_sums(
        stored_sums[0, 0] / weight,
        moments=moments,
        weight=weight,
        sums=stored_sums,
        unit=rounding_of(shared.source.dtype),
    )
    same_processors = partial(
        shared.processors.are,
        stored_round.attributes["dask_gd"]["processors"],
    )
    check_unchanged(
        stored=stored_sums,
        now=summary(shared.all_rows),
        rounding=rounding,
        same=same_processors,
        path=shared.store.path,
    )


def checkpoint(
    shared: Shared,
    start: np.ndarray,
    trials: list[Trial],
) -> Checkpoint:
    """Return all that is needed to go on: where trials began, what the first pass added up, and each trial."""
    arrays: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}

    def add(path: str, values: Any) -> None:
        array = np.asarray(values, dtype=float)
        name = path.rpartition("/")[2]
        dims = tuple(f"{name}_{i}" for i in range(array.ndim))
        arrays[path] = dims, array

    # What all trials share.
    add("start", start)
    if shared.smoothed is not shared.loss:
        add("widths", shared.smoothed.widths)
    add("seen", summary(shared.all_rows))

    # Each trial's state and history; the rest of it are attributes.
    attributes = []
    for i, trial in enumerate(trials):
        for name, array in trial.state._asdict().items():
            add(f"trials/{i}-state-{name}", array)
        add(f"trials/{i}-held", trial.holdout)
        add(f"trials/{i}-losses", trial.losses)
        add(f"trials/{i}-held_losses", trial.holdout_losses)
        attributes.append(
            [
                trial.candidate,
                trial.fold,
                trial.reason,
                float(trial.grad_norm),
            ]
        )
    assert shared.processors is not None
    fields = {
        "format": FORMAT,
        "processors": shared.processors.known(),
        "spec": shared.spec,
        "trials": attributes,
    }
    return Checkpoint(shared.rounds, {"dask_gd": fields}, arrays)


def stored_start(shared: Shared, store: Store) -> tuple[Checkpoint, np.ndarray] | None:
    """Return the newest round of the same search and where its trials began, or None for an empty store."""
    stored = store.latest(partial(_check_resumable, shared))
    if stored is None:
        return None
    check_format(stored, store.path)
    check_same(stored.attributes["dask_gd"]["spec"], shared.spec, store.path)
    return stored, stored.arrays["start"][1]


def _check_resumable(shared: Shared, stored: Checkpoint) -> None:
    """Refuse a round of this very search from which it cannot go on."""
    check_content(stored)
    fields = stored.attributes["dask_gd"]
    if fields.get("format") != FORMAT or fields["spec"] != shared.spec:
        return  # `check_format` or `check_same` says why.
    # What `check_data` needs.
    stored_sums = numbers(stored, "seen")
    if stored_sums.shape != (3, 1) or not isinstance(fields["processors"], list):
        raise ValueError("it does not say what its first pass added up")
    # What `restore` needs: states as their solvers have them.
    start = stored.arrays["start"][1]
    if smoothing_of(shared.loss, start.shape[1]) is not None:
        numbers(stored, "widths", start.shape[1:2])
    for i, (candidate, fold, _, _) in enumerate(fields["trials"]):
        if not (fold == ALL or 0 <= fold < shared.count):
            raise ValueError(f"trial {i} is of fold {fold}")
        state = shared.solvers[candidate].init(start, 0.0)
        check_state(stored, f"trials/{i}-state-", state)


def restore(shared: Shared, stored: Checkpoint, start: np.ndarray) -> list[Trial]:
    """Return the trials as they were after a stored round."""
    trials = []
    arrays = {name: array for name, (_, array) in stored.arrays.items()}
    attributes = stored.attributes["dask_gd"]["trials"]
    for i, (candidate, fold, reason, grad_norm) in enumerate(attributes):
        # A new trial has all that the store does not, and the names of its state.
        weight = shared.all_but(shared.folds, fold).weight
        trial = shared.trial(candidate, fold, start, weight)
        state = {}
        for name in trial.state._fields:
            state[name] = arrays[f"trials/{i}-state-{name}"]
        trial.state = type(trial.state)(**state)
        trial.holdout = arrays[f"trials/{i}-held"]
        trial.losses = arrays[f"trials/{i}-losses"].tolist()
        trial.holdout_losses = arrays[f"trials/{i}-held_losses"].tolist()
        trial.reason = reason
        # A trial that had taken all its steps goes on where more are asked for now.
        if reason == "max_iter" and trial.n_iter < shared.max_iter:
            trial.reason = None
        trial.grad_norm = grad_norm
        trials.append(trial)
    return trials
