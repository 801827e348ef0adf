"""What a checkpoint of a fit or a search must hold, checked before any of it is used.

A checksum says that a file is what was written, not that what was written is a fit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import StoreMismatchError
from ..model.losses import loss_of
from .checkpoint_file import Checkpoint

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
    require(isinstance(fields.get("spec"), dict), "it does not say how it was made")
    # A fit without a store, which `callbacks.Checkpoint` has kept, says nothing: no fit goes on from there.
    for name in ("loss", "data") if fields["spec"] else ():
        require(isinstance(fields["spec"].get(name), dict), f"it does not say what its {name} was")
    if "trials" in fields:
        _check_search(checkpoint, fields)
    else:
        _check_fit(checkpoint, fields)


def _check_fit(checkpoint: Checkpoint, fields: dict[str, Any]) -> None:
    # How it was made, and ended.
    require(isinstance(fields.get("reason"), str | None), "its reason is no text")
    for name in ("fit_intercept", "penalised"):
        require(isinstance(fields.get(name), bool), f"{name} is neither true nor false")
    _check_loss(fields.get("loss"))
    dims = fields.get("sample_dims")
    attrs = fields.get("target_attrs", {})
    require(dims is None or texts(dims), "its sample_dims are no names")
    require(isinstance(attrs, dict) and texts([*attrs, *attrs.values()]), "its target_attrs are no texts")
    # The model.
    weights = numbers(checkpoint, "weights")
    require(weights.ndim in (1, 2), f"its weights have the shape {weights.shape}")
    intercept = numbers(checkpoint, "intercept", weights.shape[1:])
    require(intercept.ndim < 2, f"its intercept has the shape {intercept.shape}")
    names = ("feature", "output")[: weights.ndim]
    for name, size in zip(names, weights.shape, strict=True):
        if name in checkpoint.arrays:
            found = checkpoint.arrays[name][1]
            require(found.shape == (size,), f"it has {found.size} names of the {size} dimensions {name!r}")
    for name, own in (("weights", names), ("intercept", names[1:])):
        require(checkpoint.arrays[name][0] == own, f"{name} has the dimensions {checkpoint.arrays[name][0]}")
    # How it went.
    for name in HISTORY:
        numbers(checkpoint, name, (checkpoint.iteration + 1,))
        require(checkpoint.arrays[name][0] == ("iteration",), f"{name} has no dimension 'iteration'")
    if "dropped" in checkpoint.arrays:
        numbers(checkpoint, "dropped", ())


def _check_loss(loss: Any) -> None:
    named = isinstance(loss, dict) and isinstance(loss.get("name"), str) and isinstance(loss.get("parameters"), dict)
    require(named, "it does not say what its loss was")
    try:
        loss_of(loss)
    except Exception as error:
        raise ValueError(f"its loss is none: {error}") from error


def _check_search(checkpoint: Checkpoint, fields: dict[str, Any]) -> None:
    start = numbers(checkpoint, "start")
    require(start.ndim == 3, f"its start has the shape {start.shape}")
    for name, kind in (("candidates", list), ("folds", str), ("scoring", str)):
        require(isinstance(fields["spec"].get(name), kind), f"it does not say what its {name} were")
    trials = fields["trials"]
    require(isinstance(trials, list), "its trials are no list")
    for i, trial in enumerate(trials):
        require(isinstance(trial, list) and len(trial) == 4, f"trial {i} is {trial!r:.50}")
        candidate, fold, reason, norm = trial
        whole = type(candidate) is int and type(fold) is int and 0 <= candidate < len(fields["spec"]["candidates"])
        require(whole and isinstance(reason, str | None) and isinstance(norm, float | int), f"trial {i} is {trial}")
        numbers(checkpoint, f"trials/{i}-held", (2,))
        losses = numbers(checkpoint, f"trials/{i}-losses")
        require(losses.ndim == 1, f"the losses of trial {i} have the shape {losses.shape}")
        numbers(checkpoint, f"trials/{i}-held_losses", losses.shape)


def check_state(checkpoint: Checkpoint, prefix: str, state: Any) -> None:
    """Refuse a solver's state that lacks an array, or has one that cannot have come from this, the first one.

    Along the last axis are candidates or partitions, of which there is one at first; others may be as many times longer
    as there are outputs.
    """
    outputs = state.query.shape[1]
    for name, first in state._asdict().items():
        shape = numbers(checkpoint, f"{prefix}{name}").shape
        known = len(shape) == np.ndim(first)
        for i, (size, begun) in enumerate(zip(shape, np.shape(first), strict=False)):
            known &= size in (begun, begun * outputs) or begun == 0 or (begun == 1 and i == len(shape) - 1)
        require(known, f"{prefix}{name} has the shape {shape} where a fit begins with {np.shape(first)}")
    for name in ("weights", "query"):
        shape = checkpoint.arrays[f"{prefix}{name}"][1].shape[:2]
        require(shape == state.query.shape[:2], f"{prefix}{name} has the shape {shape}")


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


def numbers(checkpoint: Checkpoint, name: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Return an array of real numbers."""
    if name not in checkpoint.arrays:
        raise ValueError(f"it has no {name}")
    found = checkpoint.arrays[name][1]
    require(found.dtype.kind in "fiub", f"{name} has the dtype {found.dtype}")
    require(shape in (None, found.shape), f"{name} has the shape {found.shape} in place of {shape}")
    return found


def texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ValueError(otherwise)
