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
    """What a fit must have in common with the one that it goes on from."""
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
    run.store, run.spec, run.processors = store, spec_of(run), Processors()
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
    query, partitions, curvature, stored, alone = run.seen
    used = tuple(partitions.tolist()) or None
    request = Request(curvature=curvature, shift=run.shift)
    # Its keys are those of no other pass: these are numbered from 1.
    sums = passes.evaluate(run.source, query, run.loss, request, run.name, 0, used)
    rounding = rounding_of_sums(run.history["loss"][0], run.moments, run.weight, stored, run.rounding)
    now = summary(sums)
    if alone or not agree(stored, now, rounding):
        check_unchanged(stored, now, rounding, partial(run.processors.are, run.before), run.store.path)


def restore(run: FitState, stored: Checkpoint, path: Path) -> None:
    """Take up what is stored at ``path``."""
    check_format(stored, path)
    check_same(stored.attributes["dask_gd"]["spec"], run.spec, path)
    arrays = {name: array for name, (_, array) in stored.arrays.items()}
    if not np.array_equal(arrays["fit/start"], run.asked):
        check_same({"initial_weights": "others"}, {"initial_weights": "these"}, path)
    run.turn = int(arrays.get("fit/turn", 0))
    shift = arrays.get("fit/shift")
    take_shift(run, shift if shift is not None and shift.any() else None)
    begun = run.solver.init(run.start, run.rounding)
    run.state = type(begun)(**{name: arrays[f"state/{name}"] for name in begun._fields})
    run.history = {name: arrays[name].tolist() for name in HISTORY}
    run.moments = Moments(*(arrays[f"fit/{name}"] for name in Moments._fields))
    run.weight = float(arrays["fit/weight"])
    run.since = int(arrays["fit/since"])
    run.ended_without_pass = bool(arrays["fit/unseen"])
    run.drawn = arrays["fit/drawn"]
    if run.smoothing is not None:
        kept = [arrays[f"smoothing/{name}"] for name in run.smoothing.arrays()]
        run.smoothing = Smoothing(run.smoothing.quantile, *kept)
        run.smoothed = run.smoothing.loss()
    run.dropped = int(arrays.get("dropped", 0))
    run.callbacks.restore({n.partition("/")[2]: a for n, a in arrays.items() if n.startswith("callbacks/")})
    run.samples = []
    if left := int(arrays["fit/samples"]):
        run.samples = plan_samples(run)[-left:]
    fields = stored.attributes["dask_gd"]["seen"]
    query, partitions, sums = (arrays[f"seen/{name}"] for name in ("query", "partitions", "sums"))
    run.seen = Seen(query, partitions, fields["how"]["curvature"], sums, fields["how"]["alone"])
    run.before = fields["processors"]
    run.resumed_from = stored.iteration
    run.reason = stored.attributes["dask_gd"]["reason"]


def checkpoint(run: FitState) -> Checkpoint:
    """All that is needed to go on, and all that a reader wants, as arrays and JSON."""
    own = isinstance(run.loss, Model)
    p = run.width
    outputs = None
    if not own:
        outputs = classes_of(run.loss) or run.source.outputs
    w = unshifted((run.state.query if run.ended_without_pass else run.state.weights)[:, :, 0], run.shift)
    coefficients = w[:p]
    if len(w) > p:
        intercept = w[p]
    else:
        intercept = np.zeros(w.shape[1])
    output_names = run.source.output_names
    present = run.source.present
    if present is not None and not own:
        coefficients = present.spread(coefficients)
        intercept = present.spread(intercept)
        output_names = present.names
    output = () if outputs is None else ("output",)
    arrays: dict[str, tuple[tuple[str, ...], np.ndarray]] = {
        "weights": (("feature", *output), coefficients if outputs else coefficients[:, 0]),
        "intercept": (output, intercept if outputs else intercept[0].reshape(())),
        "dropped": ((), np.array(run.dropped)),
    }
    for name, names in (("feature", run.source.feature_names), ("output", output_names)):
        if names is not None and not own and not (name == "output" and outputs != run.source.outputs):
            arrays[name] = ((name,), np.array(names, dtype=object))
    for name, values in run.history.items():
        arrays[name] = (("iteration",), np.array(values, dtype=float))
    for name, array in run.state._asdict().items():
        arrays[f"state/{name}"] = (tuple(f"{name}_{i}" for i in range(array.ndim)), array)
    assert run.moments is not None
    counts = {"since": run.since, "samples": len(run.samples), "unseen": int(run.ended_without_pass), "turn": run.turn}
    kept = {**run.moments._asdict(), "weight": np.array(run.weight), "start": run.asked, "drawn": run.drawn}
    if run.shift is None:
        kept["shift"] = np.zeros(p)
    else:
        kept["shift"] = run.shift
    kept |= {name: np.array(count) for name, count in counts.items()}
    groups = {"fit": kept, "callbacks": run.callbacks.state()}
    if run.smoothing is not None:
        groups["smoothing"] = run.smoothing.arrays()
    seen = None
    if run.seen is not None:
        assert run.processors is not None
        how = {"curvature": run.seen.curvature, "alone": run.seen.alone}
        seen = {"how": how, "processors": run.processors.known()}
        groups["seen"] = {"query": run.seen.query, "partitions": run.seen.partitions, "sums": run.seen.sums}
    for group, members in groups.items():
        for name, array in members.items():
            arrays[f"{group}/{name}"] = (tuple(f"{name}_{i}" for i in range(array.ndim)), array)
    # Not found again for each commit, since every byte of a function of the user's own is looked at.
    if run.spec:
        described = run.spec["loss"]
    else:
        described = parameters_of(run.loss)
    parameters = {name: value for name, value in described.items() if name != "name"}
    attributes = {
        "format": FORMAT,
        "seen": seen,
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
