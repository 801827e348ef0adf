"""What a checkpoint holds of a run, and how a run goes on from one."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import passes
from ..kernels.base import BOUND, EXACT, Moments, Request
from ..kernels.shift import unshifted
from ..model import penalties
from ..model.identity import code_of
from ..model.losses import Model, classes_of, parameters_of
from ..store.content import FORMAT, HISTORY, check_content, check_format, check_state, numbers, require, texts
from ..store.store import Checkpoint, Store, check_same
from .smoothing import Smoothing
from .stages import plan_samples, take_shift
from .state import FitState
from .unchanged import Processors, Seen, agree, check_unchanged, rounding_of_sums, summary


def spec_of(run: FitState) -> dict[str, Any]:
    """Return what a fit must have in common with the one that it goes on from."""
    first = run.solvers[0]
    return {
        "loss": {"name": run.loss.name, **parameters_of(run.loss)},
        "penalty": {"name": run.penalty.name, **penalties.parameters_of(run.penalty), **code_of(run.penalty)},
        "solver": {"name": first.name, **asdict(first), **code_of(first)},  # type: ignore[call-overload]
        "fit_intercept": run.fit_intercept,
        "seed": run.seed,
        "data": run.source.fingerprint(),
    }


def take(run: FitState, store: Store) -> None:
    """Commit the run's iterations to the store from now on, and go on from what it holds."""
    run.store = store
    run.spec = spec_of(run)
    run.processors = Processors()
    stored = store.latest(partial(check_resumable, run))
    if stored is not None:
        restore(run, stored, store.path)


def check_resumable(run: FitState, stored: Checkpoint) -> None:
    """Refuse a checkpoint of this very fit from which it cannot go on."""
    check_content(stored)
    fields = stored.attributes["dask_gd"]
    if fields.get("format") != FORMAT or fields["spec"] != run.spec:
        return  # `check_format` or `check_same` says why.
    turn = numbers(stored, "fit/turn", ())
    require(int(turn) in range(len(run.solvers)), f"its solver is number {turn} of {len(run.solvers)}")
    check_state(stored, "state/", run.solvers[int(turn)].init(run.start, run.rounding))
    if run.smoothing is not None:
        for name, first in run.smoothing.arrays().items():
            numbers(stored, f"smoothing/{name}", first.shape)
    numbers(stored, "fit/start", run.start.shape)
    numbers(stored, "fit/drawn", run.drawn.shape)
    for name in ("weight", "since", "unseen", "samples"):
        numbers(stored, f"fit/{name}", ())
    _check_seen(stored, fields, run.source.partitions)


def _check_seen(checkpoint: Checkpoint, fields: dict[str, Any], count: int) -> None:
    """Refuse a last pass that cannot be taken again."""
    seen: Any = fields.get("seen")
    require(isinstance(seen, dict) and texts(seen.get("processors")), "it does not say what made its last pass")
    how = seen.get("how")
    said = isinstance(how, dict) and how.keys() == {"curvature", "alone"} and isinstance(how["alone"], bool)
    require(said and how["curvature"] in (None, BOUND, EXACT), "it does not say how its last pass was made")
    query = numbers(checkpoint, "seen/query")
    outer = checkpoint.arrays["state/query"][1].shape[:2]
    require(query.ndim == 3 and query.shape[:2] == outer, f"seen/query has the shape {query.shape}")
    numbers(checkpoint, "seen/sums", (3, query.shape[2]))
    partitions = numbers(checkpoint, "seen/partitions")
    known = partitions.ndim == 1 and partitions.dtype.kind == "i" and all(0 <= i < count for i in partitions.tolist())
    require(known, "seen/partitions are no partitions")


def check_data(run: FitState) -> None:
    """Read once more what the last pass of a resumed run has read, and refuse other data, see `unchanged`.

    Data that is so small that the fingerprint has all of it needs no pass.
    """
    # While a loss is being smoothed less and less, the last pass was of another one.
    if run.seen is None or run.resumed_from is None or run.source.known_whole or run.smoothing is not None:
        return
    assert run.store is not None
    assert run.moments is not None
    assert run.processors is not None
    last = run.seen
    sums = passes.evaluate(
        run.source,
        last.query,
        run.loss,
        Request(curvature=last.curvature, shift=run.shift),
        run.name,
        # Its keys are those of no other pass: these are numbered from 1.
        step=0,
        partitions=tuple(last.partitions.tolist()) or None,
    )
    now = summary(sums)
    rounding = rounding_of_sums(run.history["loss"][0], run.moments, run.weight, last.sums, run.rounding)
    if last.alone or not agree(last.sums, now, rounding):
        same = partial(run.processors.are, run.before)
        check_unchanged(last.sums, now, rounding, same, run.store.path)


def restore(run: FitState, stored: Checkpoint, path: Path) -> None:
    """Take up what is stored at ``path``, a fit's that was made with the same data and arguments."""
    check_format(stored, path)
    check_same(stored.attributes["dask_gd"]["spec"], run.spec, path)
    arrays = {name: array for name, (_, array) in stored.arrays.items()}
    if not np.array_equal(arrays["fit/start"], run.asked):
        check_same({"initial_weights": "others"}, {"initial_weights": "these"}, path)

    # The solver, and the rows that its parameters are of.
    run.turn = int(arrays.get("fit/turn", 0))
    shift = arrays.get("fit/shift")
    if shift is not None and not shift.any():
        shift = None
    take_shift(run, shift)
    begun = run.solver.init(run.start, run.rounding)
    run.state = type(begun)(**{name: arrays[f"state/{name}"] for name in begun._fields})

    # What the fit has found.
    run.history = {name: arrays[name].tolist() for name in HISTORY}
    run.moments = Moments(*(arrays[f"fit/{name}"] for name in Moments._fields))
    run.weight = float(arrays["fit/weight"])
    run.since = int(arrays["fit/since"])
    run.ended_without_pass = bool(arrays["fit/unseen"])
    run.drawn = arrays["fit/drawn"]
    run.dropped = int(arrays.get("dropped", 0))
    if run.smoothing is not None:
        stored_smoothing = [arrays[f"smoothing/{name}"] for name in run.smoothing.arrays()]
        run.smoothing = Smoothing(run.smoothing.quantile, *stored_smoothing)
        run.smoothed = run.smoothing.loss()
    run.callbacks.restore({n.partition("/")[2]: a for n, a in arrays.items() if n.startswith("callbacks/")})
    # Its samples follow from the seed; those that are left are the last.
    run.samples = []
    if left := int(arrays["fit/samples"]):
        run.samples = plan_samples(run)[-left:]

    # Its last pass, by which data that has changed is known.
    fields = stored.attributes["dask_gd"]["seen"]
    run.seen = Seen(
        query=arrays["seen/query"],
        partitions=arrays["seen/partitions"],
        curvature=fields["how"]["curvature"],
        sums=arrays["seen/sums"],
        alone=fields["how"]["alone"],
    )
    run.before = fields["processors"]
    run.resumed_from = stored.iteration
    run.reason = stored.attributes["dask_gd"]["reason"]


#: Arrays of a checkpoint by name, each with the names of its dimensions.
Arrays = dict[str, tuple[tuple[str, ...], np.ndarray]]


def checkpoint(run: FitState) -> Checkpoint:
    """Return all that is needed to go on, and all that a reader wants, as arrays and JSON."""
    arrays = {**_arrays_of_model(run), **_arrays_of_run(run)}
    last_pass = None
    if run.seen is not None:
        assert run.processors is not None
        how = {"curvature": run.seen.curvature, "alone": run.seen.alone}
        last_pass = {"how": how, "processors": run.processors.known()}
    # The loss is not described again for each commit: every byte of a function of the user's own is looked at.
    described = run.spec["loss"] if run.spec else parameters_of(run.loss)
    parameters = {name: value for name, value in described.items() if name != "name"}
    attributes = {
        "format": FORMAT,
        "seen": last_pass,
        "spec": run.spec,
        "reason": run.reason,
        "loss": {"name": run.loss.name, "parameters": parameters},
        "fit_intercept": run.fit_intercept,
        "penalised": run.penalised,
        "sample_dims": run.source.sample_dims,
        "target_attrs": run.source.target_attrs,
        "roles": run.source.roles,
    }
    return Checkpoint(run.iteration, {"dask_gd": attributes}, arrays)


def _arrays_of_model(run: FitState) -> Arrays:
    """Return what a reader wants: weights and intercept of the rows as they are, names, and the history."""
    is_model = isinstance(run.loss, Model)
    source = run.source
    present = source.present
    outputs = None
    if not is_model:
        outputs = classes_of(run.loss) or source.outputs
    # The weights, of all targets, also of those that were left out.
    query = run.state.query if run.ended_without_pass else run.state.weights
    parameters = unshifted(query[:, :, 0], run.shift)
    coefficients = parameters[: run.width]
    intercept = np.zeros(parameters.shape[1])
    if len(parameters) > run.width:
        intercept = parameters[run.width]
    output_names = source.output_names
    if present is not None and not is_model:
        coefficients = present.spread(coefficients)
        intercept = present.spread(intercept)
        output_names = present.names
    arrays: Arrays = {"dropped": ((), np.array(run.dropped))}
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
    for name, values in run.history.items():
        arrays[name] = (("iteration",), np.array(values, dtype=float))
    return arrays


def _arrays_of_run(run: FitState) -> Arrays:
    """Return what is needed to go on, in groups: the solver's state, the fit's, callbacks', and the last pass."""
    assert run.moments is not None
    shift = run.shift
    if shift is None:
        shift = np.zeros(run.width)
    groups = {
        "state": run.state._asdict(),
        "fit": {
            **run.moments._asdict(),
            "weight": np.array(run.weight),
            "start": run.asked,
            "shift": shift,
            "drawn": run.drawn,
            "since": np.array(run.since),
            "samples": np.array(len(run.samples)),
            "unseen": np.array(int(run.ended_without_pass)),
            "turn": np.array(run.turn),
        },
        "callbacks": run.callbacks.state(),
    }
    if run.smoothing is not None:
        groups["smoothing"] = run.smoothing.arrays()
    if run.seen is not None:
        groups["seen"] = {"query": run.seen.query, "partitions": run.seen.partitions, "sums": run.seen.sums}
    arrays: Arrays = {}
    for group, members in groups.items():
        for name, array in members.items():
            dims = tuple(f"{name}_{i}" for i in range(array.ndim))
            arrays[f"{group}/{name}"] = (dims, array)
    return arrays
