"""What a checkpoint holds of a run, and how a run goes on from one."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import passes
from ..kernels.base import BOUND, EXACT, Moments, Request
from ..kernels.level_counts import features_of, marks_of
from ..kernels.shift import unshifted
from ..model import penalties
from ..model.identity import code_of
from ..model.losses import Model, classes_of, parameters_of
from ..store.content import FORMAT, HISTORY, check_content, check_format, check_state, numbers, require, texts
from ..store.store import Checkpoint, Store, check_same
from .correction import Correction
from .fit_state import FitState
from .smoothing import Smoothing
from .stages import plan_samples, take_shift
from .thinning import rechecked
from .unchanged import Processors, Seen, agree, check_unchanged, rounding_of_sums, summary


def spec_of(track: FitState) -> dict[str, Any]:
    """Return what a fit must have in common with the one that it goes on from."""
    loss = track.loss
    penalty = track.penalty
    solver: Any = track.solvers[0]
    return {
        "loss": {"name": loss.name, **parameters_of(loss)},
        "penalty": {"name": penalty.name, **penalties.parameters_of(penalty), **code_of(penalty)},
        "solver": {"name": solver.name, **asdict(solver), **code_of(solver)},
        "fit_intercept": track.fit_intercept,
        "seed": track.seed,
        "data": track.source.fingerprint(),
    }


def take(track: FitState, store: Store) -> None:
    """Commit the run's iterations to the store from now on, and go on from what it holds."""
    engine = track.engine
    engine.store = store
    engine.spec = spec_of(track)
    engine.processors = Processors()
    stored = store.latest(partial(check_resumable, track))
    if stored is not None:
        restore(track, stored, store.path)


def check_resumable(track: FitState, stored: Checkpoint) -> None:
    """Refuse a checkpoint of this very fit from which it cannot go on."""
    engine = track.engine
    check_content(stored)
    fields = stored.attributes["dask_gd"]
    if fields.get("format") != FORMAT or fields["spec"] != engine.spec:
        return  # `check_format` or `check_same` says why.

    # The state of its solver, and of its smoothing.
    turn = int(numbers(stored, "fit/turn", ()))
    solvers = track.solvers
    require(turn in range(len(solvers)), f"its solver is number {turn} of {len(solvers)}")
    check_state(stored, "state/", solvers[turn].init(track.start, engine.rounding))
    if track.smoothing is not None:
        for name, first in track.smoothing.arrays().items():
            numbers(stored, f"smoothing/{name}", first.shape)

    # What the fit remembers beside it.
    numbers(stored, "fit/start", track.start.shape)
    numbers(stored, "fit/drawn", track.drawn.shape)
    for name in ("weight", "since", "unseen", "samples"):
        numbers(stored, f"fit/{name}", ())
    _check_seen(stored, fields, track.source.partitions)


def _check_seen(checkpoint: Checkpoint, fields: dict[str, Any], count: int) -> None:
    """Refuse a last pass that cannot be taken again."""
    # What made it, and how.
    seen: Any = fields.get("seen")
    is_told = isinstance(seen, dict) and texts(seen.get("processors"))
    require(is_told, "it does not say what made its last pass")
    how = seen.get("how")
    is_told = isinstance(how, dict) and how.keys() == {"curvature", "alone"}
    is_told = is_told and isinstance(how["alone"], bool) and how["curvature"] in (None, BOUND, EXACT)
    require(is_told, "it does not say how its last pass was made")

    # Where it was, what it added up, and over which rows.
    query = numbers(checkpoint, "seen/query")
    outer = checkpoint.arrays["state/query"][1].shape[:2]
    require(query.ndim == 3 and query.shape[:2] == outer, f"seen/query has the shape {query.shape}")
    numbers(checkpoint, "seen/sums", (3, query.shape[2]))
    partitions = numbers(checkpoint, "seen/partitions")
    are_numbers = partitions.ndim == 1 and partitions.dtype.kind == "i"
    are_numbers = are_numbers and all(0 <= i < count for i in partitions.tolist())
    require(are_numbers, "seen/partitions are no partitions")


def check_data(track: FitState) -> None:
    """Read once more what the last pass of a resumed run has read, and refuse other data, see `unchanged`.

    Data that is so small that the fingerprint has all of it needs no pass.
    """
    engine = track.engine
    if track.seen is None or track.resumed_from is None or track.source.known_whole:
        return
    # While a loss is being smoothed less and less, the last pass was of another one.
    if track.smoothing is not None:
        return
    assert engine.store is not None
    assert engine.moments is not None
    assert engine.processors is not None

    # The last pass, with keys of no other: these are numbered from 1.
    last = track.seen
    request = rechecked(track, Request(curvature=last.curvature, shift=engine.shift, left_out=engine.left_out))
    sums = passes.evaluate(
        track.source,
        query=last.query,
        loss=track.loss,
        request=request,
        run=engine.name,
        step=0,
        partitions=tuple(last.partitions.tolist()) or None,
    )
    now = summary(sums)
    rounding = rounding_of_sums(
        track.losses[0],
        moments=engine.moments,
        weight=engine.weight,
        sums=last.sums,
        unit=engine.rounding,
    )
    if last.alone or not agree(last.sums, now, rounding):
        same = partial(engine.processors.are, track.before)
        check_unchanged(last.sums, now, rounding, same, engine.store.path)


def restore(track: FitState, stored: Checkpoint, path: Path) -> None:
    """Take up what is stored at ``path``, a fit's that was made with the same data and arguments."""
    engine = track.engine
    check_format(stored, path)
    check_same(stored.attributes["dask_gd"]["spec"], engine.spec, path)
    arrays = {name: array for name, (_, array) in stored.arrays.items()}
    if not np.array_equal(arrays["fit/start"], track.asked):
        check_same({"initial_weights": "others"}, {"initial_weights": "these"}, path)

    # The solver, and the rows that its parameters are of.
    track.turn = int(arrays.get("fit/turn", 0))
    shift = arrays.get("fit/shift")
    if shift is not None and not shift.any():
        shift = None
    take_shift(track, shift)
    begun = track.solver.init(track.start, engine.rounding)
    track.state = type(begun)(**{name: arrays[f"state/{name}"] for name in begun._fields})

    # What the fit has found.
    track.history = {name: arrays[name].tolist() for name in HISTORY}
    track.grad_norm = track.history["grad_norm"][-1]
    engine.moments = Moments(*(arrays[f"fit/{name}"] for name in Moments._fields))
    engine.weight = float(arrays["fit/weight"])
    track.since = int(arrays["fit/since"])
    track.ended_without_pass = bool(arrays["fit/unseen"])
    track.drawn = arrays["fit/drawn"]
    track.dropped = int(arrays.get("dropped", 0))
    if "dropped_levels" in arrays:
        engine.left_out = marks_of(track.source.row_format, arrays["dropped_levels"])  # type: ignore[arg-type]
    if track.smoothing is not None:
        stored_smoothing = [arrays[f"smoothing/{name}"] for name in track.smoothing.arrays()]
        track.smoothing = Smoothing(track.smoothing.quantile, *stored_smoothing)
        engine.smoothed = track.smoothing.loss()
    track.callbacks.restore(memories_of(arrays))
    # Its samples follow from the seed; those that are left are the last.
    track.samples = []
    if left := int(arrays["fit/samples"]):
        track.samples = plan_samples(track)[-left:]
    # Likewise the sample that corrects, by its number of partitions.
    size = int(arrays.get("fit/correcting", 0))
    track.correcting = next((sample for sample in plan_samples(track) if len(sample) == size), None)
    told = arrays.get("fit/correction", np.zeros(0))
    if told.size:
        error, third, promise, iteration, is_told = told.tolist()
        track.correction = Correction(error, third, promise, int(iteration), bool(is_told))

    # Its last pass, by which data that has changed is known.
    fields = stored.attributes["dask_gd"]["seen"]
    track.seen = Seen(
        query=arrays["seen/query"],
        partitions=arrays["seen/partitions"],
        curvature=fields["how"]["curvature"],
        sums=arrays["seen/sums"],
        alone=fields["how"]["alone"],
    )
    track.before = fields["processors"]
    track.resumed_from = stored.iteration
    track.committed_reason = stored.attributes["dask_gd"]["reason"]


def memories_of(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return what callbacks remember, of the arrays of a checkpoint."""
    memories = {}
    for name, array in arrays.items():
        group, _, member = name.partition("/")
        if group == "callbacks":
            memories[member] = array
    return memories


#: Arrays of a checkpoint by name, each with the names of its dimensions.
Arrays = dict[str, tuple[tuple[str, ...], np.ndarray]]


def checkpoint(track: FitState) -> Checkpoint:
    """Return all that is needed to go on, and all that a reader wants, as arrays and JSON."""
    engine = track.engine
    arrays = {**_arrays_of_model(track), **_arrays_of_run(track)}
    last_pass = None
    if track.seen is not None:
        assert engine.processors is not None
        how = {"curvature": track.seen.curvature, "alone": track.seen.alone}
        last_pass = {"how": how, "processors": engine.processors.known()}
    # The loss is not described again for each commit: every byte of a function of the user's own is looked at.
    described = engine.spec["loss"] if engine.spec else parameters_of(track.loss)
    parameters = {name: value for name, value in described.items() if name != "name"}
    attributes = {
        "format": FORMAT,
        "seen": last_pass,
        "spec": engine.spec,
        "reason": track.reason,
        "loss": {"name": track.loss.name, "parameters": parameters},
        "fit_intercept": track.fit_intercept,
        "penalised": track.penalised,
        "encoding": track.source.x.encoding and track.source.x.encoding.as_attributes(),
        "formula": track.source.formula and track.source.formula.as_attributes(),
        "sample_dims": track.source.sample_dims,
        "target_attrs": track.source.target_attrs,
        "roles": track.source.roles,
    }
    return Checkpoint(track.iteration, {"dask_gd": attributes}, arrays)


def _arrays_of_model(track: FitState) -> Arrays:
    """Return what a reader wants: weights and intercept of the rows as they are, names, and the history."""
    engine = track.engine
    is_model = isinstance(track.loss, Model)
    source = track.source
    present = source.present
    outputs = None
    if not is_model:
        outputs = classes_of(track.loss) or source.outputs
    # The weights, of all targets, also of those that were left out.
    query = track.state.query if track.ended_without_pass else track.state.weights
    parameters = unshifted(query[:, :, 0], engine.shift)
    coefficients = parameters[: engine.width]
    # No rows determine the coefficients of levels that are left out.
    dropped_levels = track.dropped_levels
    if len(dropped_levels):
        coefficients = coefficients.copy()
        coefficients[features_of(source.row_format, dropped_levels)] = np.nan  # type: ignore[arg-type]
    intercept = np.zeros(parameters.shape[1])
    if len(parameters) > engine.width:
        intercept = parameters[engine.width]
    output_names = source.output_names
    if present is not None and not is_model:
        coefficients = present.spread(coefficients)
        intercept = present.spread(intercept)
        output_names = present.names
    arrays: Arrays = {"dropped": ((), np.array(track.dropped))}
    if len(dropped_levels):
        arrays["dropped_levels"] = (("dropped_level", "place"), dropped_levels)
    if outputs is None:
        arrays["weights"] = (("feature",), coefficients[:, 0])
        arrays["intercept"] = ((), intercept[0].reshape(()))
    else:
        arrays["weights"] = (("feature", "output"), coefficients)
        arrays["intercept"] = (("output",), intercept)
    # Names of features and outputs; the classes of a loss are not the targets' names.
    if source.feature_names is not None and not is_model:
        arrays["feature"] = (("feature",), np.array(source.feature_names, dtype=object))
    if output_names is not None and not is_model and outputs == source.outputs:
        arrays["output"] = (("output",), np.array(output_names, dtype=object))
    for name, values in track.history.items():
        arrays[name] = (("iteration",), np.array(values, dtype=float))
    return arrays


def _arrays_of_run(track: FitState) -> Arrays:
    """Return what is needed to go on, in groups: the solver's state, the fit's, callbacks', and the last pass."""
    engine = track.engine
    assert engine.moments is not None
    shift = engine.shift
    if shift is None:
        shift = np.zeros(engine.width)
    groups = {
        "state": track.state._asdict(),
        "fit": {
            **engine.moments._asdict(),
            "weight": np.array(engine.weight),
            "start": track.asked,
            "shift": shift,
            "drawn": track.drawn,
            "since": np.array(track.since),
            "samples": np.array(len(track.samples)),
            "unseen": np.array(int(track.ended_without_pass)),
            "turn": np.array(track.turn),
            "correcting": np.array(len(track.correcting or ())),
            "correction": np.array(track.correction or (), dtype=float),
        },
        "callbacks": track.callbacks.state(),
    }
    if track.smoothing is not None:
        groups["smoothing"] = track.smoothing.arrays()
    if track.seen is not None:
        groups["seen"] = {"query": track.seen.query, "partitions": track.seen.partitions, "sums": track.seen.sums}
    arrays: Arrays = {}
    for group, members in groups.items():
        for name, array in members.items():
            dims = tuple(f"{name}_{i}" for i in range(array.ndim))
            arrays[f"{group}/{name}"] = (dims, array)
    return arrays
