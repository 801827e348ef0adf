"""What a checkpoint of a fit or a search must hold, checked before any of it is used.

A checksum says that a file is what was written, not that what was written is a fit.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .checkpoint_file import Checkpoint
from .errors import StoreMismatchError
from .losses import loss_of
from .stats import BOUND, EXACT

if TYPE_CHECKING:
    from .run import Run

#: What checkpoints hold, and how data and losses are recognised: a run goes on only from its own. Those of format 1 had
#: no number.
FORMAT = 2

#: Variables of the history, one value for each iteration.
HISTORY = ("loss", "grad_norm", "step_size", "passes", "rows", "bytes_read", "seconds")


def check_content(checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint that is neither a fit's nor a search's.

    Raises
    ------
    ValueError
        Saying what is not there, or is of another kind.
    """
    fields = checkpoint.attributes.get("dask_gd")
    if not isinstance(fields, dict):
        raise ValueError("it is not dask_gd's")
    _require(isinstance(fields.get("spec"), dict), "it does not say how it was made")
    # A fit without a store, which `callbacks.Checkpoint` has kept, says nothing: no fit goes on from there.
    for name in ("loss", "data") if fields["spec"] else ():
        _require(isinstance(fields["spec"].get(name), dict), f"it does not say what its {name} was")
    if "trials" in fields:
        _check_search(checkpoint, fields)
    else:
        _check_fit(checkpoint, fields)


def _check_fit(checkpoint: Checkpoint, fields: dict[str, Any]) -> None:
    # How it was made, and ended.
    _require(isinstance(fields.get("reason"), str | None), "its reason is no text")
    for name in ("fit_intercept", "penalised"):
        _require(isinstance(fields.get(name), bool), f"{name} is neither true nor false")
    _check_loss(fields.get("loss"))
    dims, attrs = fields.get("sample_dims"), fields.get("target_attrs", {})
    _require(dims is None or _texts(dims), "its sample_dims are no names")
    _require(isinstance(attrs, dict) and _texts([*attrs, *attrs.values()]), "its target_attrs are no texts")
    # The model.
    weights = _numbers(checkpoint, "weights")
    _require(weights.ndim in (1, 2), f"its weights have the shape {weights.shape}")
    intercept = _numbers(checkpoint, "intercept", weights.shape[1:])
    _require(intercept.ndim < 2, f"its intercept has the shape {intercept.shape}")
    names = ("feature", "output")[: weights.ndim]
    for name, size in zip(names, weights.shape, strict=True):
        if name in checkpoint.arrays:
            found = checkpoint.arrays[name][1]
            _require(found.shape == (size,), f"it has {found.size} names of the {size} dimensions {name!r}")
    for name, own in (("weights", names), ("intercept", names[1:])):
        _require(checkpoint.arrays[name][0] == own, f"{name} has the dimensions {checkpoint.arrays[name][0]}")
    # How it went.
    for name in HISTORY:
        _numbers(checkpoint, name, (checkpoint.iteration + 1,))
        _require(checkpoint.arrays[name][0] == ("iteration",), f"{name} has no dimension 'iteration'")
    if "dropped" in checkpoint.arrays:
        _numbers(checkpoint, "dropped", ())


def _check_loss(loss: Any) -> None:
    named = isinstance(loss, dict) and isinstance(loss.get("name"), str) and isinstance(loss.get("parameters"), dict)
    _require(named, "it does not say what its loss was")
    try:
        loss_of(loss)
    except Exception as error:
        raise ValueError(f"its loss is none: {error}") from error


def _check_search(checkpoint: Checkpoint, fields: dict[str, Any]) -> None:
    start = _numbers(checkpoint, "start")
    _require(start.ndim == 3, f"its start has the shape {start.shape}")
    for name, kind in (("candidates", list), ("folds", str), ("scoring", str)):
        _require(isinstance(fields["spec"].get(name), kind), f"it does not say what its {name} were")
    trials = fields["trials"]
    _require(isinstance(trials, list), "its trials are no list")
    for i, trial in enumerate(trials):
        _require(isinstance(trial, list) and len(trial) == 4, f"trial {i} is {trial!r:.50}")
        candidate, fold, reason, norm = trial
        whole = type(candidate) is int and type(fold) is int and 0 <= candidate < len(fields["spec"]["candidates"])
        _require(whole and isinstance(reason, str | None) and isinstance(norm, float | int), f"trial {i} is {trial}")
        _numbers(checkpoint, f"trials/{i}-held", (2,))
        losses = _numbers(checkpoint, f"trials/{i}-losses")
        _require(losses.ndim == 1, f"the losses of trial {i} have the shape {losses.shape}")
        _numbers(checkpoint, f"trials/{i}-held_losses", losses.shape)


def check_state(checkpoint: Checkpoint, prefix: str, state: Any) -> None:
    """Refuse a solver's state that lacks an array, or has one that cannot have come from this, the first one.

    Along the last axis are candidates or partitions, of which there is one at first; others may be as many times longer
    as there are outputs.
    """
    outputs = state.query.shape[1]
    for name, first in state._asdict().items():
        shape = _numbers(checkpoint, f"{prefix}{name}").shape
        known = len(shape) == np.ndim(first)
        for i, (size, begun) in enumerate(zip(shape, np.shape(first), strict=False)):
            known &= size in (begun, begun * outputs) or begun == 0 or (begun == 1 and i == len(shape) - 1)
        _require(known, f"{prefix}{name} has the shape {shape} where a fit begins with {np.shape(first)}")
    for name in ("weights", "query"):
        shape = checkpoint.arrays[f"{prefix}{name}"][1].shape[:2]
        _require(shape == state.query.shape[:2], f"{prefix}{name} has the shape {shape}")


def check_resumable(run: Run, checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint of this very fit from which it cannot go on."""
    check_content(checkpoint)
    fields = checkpoint.attributes["dask_gd"]
    if fields.get("format") != FORMAT or fields["spec"] != run.spec:
        return  # `check_format` or `check_same` says why.
    turn = _numbers(checkpoint, "fit/turn", ())
    _require(int(turn) in range(len(run.solvers)), f"its solver is number {turn} of {len(run.solvers)}")
    check_state(checkpoint, "state/", run.solvers[int(turn)].init(run.start, run.rounding))
    if run.smoothing is not None:
        for name, first in run.smoothing.arrays().items():
            _numbers(checkpoint, f"smoothing/{name}", first.shape)
    _numbers(checkpoint, "fit/start", run.start.shape)
    _numbers(checkpoint, "fit/drawn", run.drawn.shape)
    for name in ("weight", "since", "unseen", "samples"):
        _numbers(checkpoint, f"fit/{name}", ())
    _check_seen(checkpoint, fields, run.source.partitions)


def _check_seen(checkpoint: Checkpoint, fields: dict[str, Any], count: int) -> None:
    """Refuse a last pass that cannot be taken again."""
    seen: Any = fields.get("seen")
    _require(isinstance(seen, dict) and _texts(seen.get("processors")), "it does not say what made its last pass")
    how = seen.get("how")
    said = isinstance(how, dict) and how.keys() == {"curvature", "alone"} and isinstance(how["alone"], bool)
    _require(said and how["curvature"] in (None, BOUND, EXACT), "it does not say how its last pass was made")
    query = _numbers(checkpoint, "seen/query")
    outer = checkpoint.arrays["state/query"][1].shape[:2]
    _require(query.ndim == 3 and query.shape[:2] == outer, f"seen/query has the shape {query.shape}")
    _numbers(checkpoint, "seen/sums", (3, query.shape[2]))
    partitions = _numbers(checkpoint, "seen/partitions")
    known = partitions.ndim == 1 and partitions.dtype.kind == "i" and all(0 <= i < count for i in partitions.tolist())
    _require(known, "seen/partitions are no partitions")


def check_format(checkpoint: Checkpoint, path: Path) -> None:
    """Refuse to go on from what another version of dask_gd has written.

    Raises
    ------
    StoreMismatchError
    """
    found = checkpoint.attributes["dask_gd"].get("format", 1)
    if found != FORMAT:
        raise StoreMismatchError(
            f"{path} holds a run in format {found!r}, of another version of dask_gd; this one goes on from format "
            f"{FORMAT} only. dask_gd.load({str(path)!r}) reads it: give that as initial_weights, with another store."
        )


def _numbers(checkpoint: Checkpoint, name: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Return an array of real numbers."""
    if name not in checkpoint.arrays:
        raise ValueError(f"it has no {name}")
    found = checkpoint.arrays[name][1]
    _require(found.dtype.kind in "fiub", f"{name} has the dtype {found.dtype}")
    _require(shape in (None, found.shape), f"{name} has the shape {found.shape} in place of {shape}")
    return found


def _texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ValueError(otherwise)
