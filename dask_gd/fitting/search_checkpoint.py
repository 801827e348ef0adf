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
from ..store.content import FORMAT, check_content, check_format, check_state
from ..store.store import Checkpoint, Store, check_same
from .shared import Shared
from .trials import ALL, Trial
from .unchanged import check_unchanged, rounding_of_sums, summary


def spec_of(shared: Shared, scoring: str) -> dict[str, Any]:
    """What a search must have in common with the one that it goes on from."""
    source = shared.source
    total = float(source.shape[0])
    tried = [candidate.of(total) for candidate in shared.candidates]
    grid = [{"name": p.name, **penalties.parameters_of(p), **code_of(p)} for p in tried]
    return {
        "loss": {"name": shared.loss.name, **parameters_of(shared.loss)},
        "candidates": [repr(sorted(p.items())) for p in grid],
        "solvers": [repr({"name": s.name, **asdict(s), **code_of(s)}) for s in shared.solvers],  # type: ignore[call-overload]
        "folds": repr(shared.assigned.folds) + shared.assigned.column,
        "scoring": scoring,
        "fit_intercept": shared.fit_intercept,
        "data": source.fingerprint(),
    }


def check_data(shared: Shared) -> None:
    """Refuse other data than a stored search's: the sums of its first pass were others, see `unchanged`."""
    assert shared.stored is not None
    assert shared.store is not None
    assert shared.processors is not None
    stored = shared.stored[0]
    was = stored.arrays["seen"][1]
    moments = shared.everything.moments
    weight = shared.everything.weight
    assert moments is not None
    rounding = rounding_of_sums(was[0, 0] / weight, moments, weight, was, rounding_of(shared.source.dtype))
    same = partial(shared.processors.are, stored.attributes["dask_gd"]["processors"])
    check_unchanged(was, summary(shared.everything), rounding, same, shared.store.path)


def checkpoint(shared: Shared, start: np.ndarray, trials: list[Trial]) -> Checkpoint:
    """All that is needed to go on."""
    arrays: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}

    def add(path: str, array: Any) -> None:
        array = np.asarray(array, dtype=float)
        arrays[path] = tuple(f"{path.rpartition('/')[2]}_{i}" for i in range(array.ndim)), array

    add("start", start)
    if shared.smoothed is not shared.loss:
        add("widths", shared.smoothed.widths)
    add("seen", summary(shared.everything))
    told = []
    for i, trial in enumerate(trials):
        for name, array in trial.state._asdict().items():
            add(f"trials/{i}-state-{name}", array)
        add(f"trials/{i}-held", trial.holdout)
        add(f"trials/{i}-losses", trial.losses)
        add(f"trials/{i}-held_losses", trial.held_losses)
        told.append([trial.candidate, trial.fold, trial.reason, float(trial.grad_norm)])
    assert shared.processors is not None
    fields = {"format": FORMAT, "processors": shared.processors.known(), "spec": shared.spec, "trials": told}
    return Checkpoint(shared.rounds, {"dask_gd": fields}, arrays)


def stored_start(shared: Shared, store: Store) -> tuple[Checkpoint, np.ndarray] | None:
    """The newest round of the same search and where its trials began, or None for an empty store."""
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
    if stored.arrays["seen"][1].shape != (3, 1) or not isinstance(fields["processors"], list):
        raise ValueError("it does not say what its first pass added up")
    start = stored.arrays["start"][1]
    for i, (candidate, fold, _, _) in enumerate(fields["trials"]):
        if not (fold == ALL or 0 <= fold < shared.count):
            raise ValueError(f"trial {i} is of fold {fold}")
        check_state(stored, f"trials/{i}-state-", shared.solvers[candidate].init(start, 0.0))


def restore(shared: Shared, stored: Checkpoint, start: np.ndarray) -> list[Trial]:
    """The trials as they were."""
    trials = []
    arrays = {name: array for name, (_, array) in stored.arrays.items()}
    for i, (candidate, fold, reason, grad_norm) in enumerate(stored.attributes["dask_gd"]["trials"]):
        trial = shared.trial(candidate, fold, start, shared.seen(shared.folds, fold).weight)
        fields = trial.state._fields
        trial.state = type(trial.state)(**{name: arrays[f"trials/{i}-state-{name}"] for name in fields})
        trial.holdout = arrays[f"trials/{i}-held"]
        trial.losses = arrays[f"trials/{i}-losses"].tolist()
        trial.held_losses = arrays[f"trials/{i}-held_losses"].tolist()
        trial.reason = reason
        trial.grad_norm = grad_norm
        trials.append(trial)
    return trials
