"""Check what a checkpoint of a fit or a search must hold, before any of it is used.

A checksum says that a file has the bytes that were written, not that these are a fit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import StoreMismatchError
from ..model.losses import loss_of
from .checkpoint_file import Checkpoint

#: Version of the fields in a checkpoint, and of the fingerprints of data and losses: a run goes on only from its own
#: version. Checkpoints of format 1 had no number.
FORMAT = 2

#: Variables of the history, one value for each iteration.
HISTORY = ("loss", "grad_norm", "step_size", "passes", "rows", "bytes_read", "seconds", "full_passes")


def check_content(checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint that is neither a fit's nor a search's.

    Raises
    ------
    ValueError
        It names the field that is not there, or is of another kind.
    """
    # Fields of both.
    fields = checkpoint.attributes.get("dask_gd")
    if not isinstance(fields, dict):
        raise ValueError("it is not dask_gd's")
    spec = fields.get("spec")
    if not isinstance(spec, dict):
        raise ValueError("it does not say how it was made")
    # The specification is empty for a fit without a store that `callbacks.Checkpoint` has kept: no fit goes on from it.
    if spec:
        for name in ("loss", "data"):
            require(isinstance(spec.get(name), dict), f"it does not say what its {name} was")
    # Fields of a search, or of a fit.
    if "trials" in fields:
        _check_search(checkpoint, fields)
    else:
        _check_fit(checkpoint, fields)


def _check_fit(checkpoint: Checkpoint, fields: dict[str, Any]) -> None:
    """Refuse a checkpoint without the fields and arrays of a fit."""
    # How it was made, and how it ended.
    require(isinstance(fields.get("reason"), str | None), "its reason is no text")
    for name in ("fit_intercept", "penalised"):
        require(isinstance(fields.get(name), bool), f"{name} is neither true nor false")
    _check_loss(fields.get("loss"))
    encoding = fields.get("encoding")
    is_encoding = encoding is None or (isinstance(encoding, list) and all(isinstance(each, dict) for each in encoding))
    require(is_encoding, "its encoding is no list of columns")
    require(isinstance(fields.get("formula"), dict | None), "its formula is none")
    sample_dims = fields.get("sample_dims")
    attrs = fields.get("target_attrs", {})
    require(sample_dims is None or texts(sample_dims), "its sample_dims are no names")
    are_texts = isinstance(attrs, dict) and texts([*attrs, *attrs.values()])
    require(are_texts, "its target_attrs are no texts")
    # The weights and the intercept, whose shapes agree.
    if "edges" in fields:
        shape = _shape_in_blocks(checkpoint, fields)
    else:
        shape = numbers(checkpoint, "weights").shape
    require(len(shape) in (1, 2), f"its weights have the shape {shape}")
    intercept = numbers(checkpoint, "intercept", shape[1:])
    require(intercept.ndim < 2, f"its intercept has the shape {intercept.shape}")
    # The names of features and outputs.
    dims = ("feature", "output")[: len(shape)]
    for dim, size in zip(dims, shape, strict=True):
        if dim in checkpoint.arrays:
            names = checkpoint.arrays[dim][1]
            require(names.shape == (size,), f"it has {names.size} names of the {size} dimensions {dim!r}")
    expected_dims = {"intercept": dims[1:]}
    if "edges" not in fields:
        expected_dims["weights"] = dims
    for name, expected in expected_dims.items():
        stored = checkpoint.arrays[name][0]
        require(stored == expected, f"{name} has the dimensions {stored}")
    # The history, from the start to this iteration.
    for name in HISTORY:
        numbers(checkpoint, name, (checkpoint.iteration + 1,))
        require(checkpoint.arrays[name][0] == ("iteration",), f"{name} has no dimension 'iteration'")
    if "dropped" in checkpoint.arrays:
        numbers(checkpoint, "dropped", ())
    if "dropped_levels" in checkpoint.arrays:
        levels = numbers(checkpoint, "dropped_levels")
        are_levels = levels.ndim == 2 and levels.shape[1] == 2 and levels.dtype.kind == "i"
        require(are_levels and bool((levels >= 0).all()), "its dropped_levels are none")


def _shape_in_blocks(checkpoint: Checkpoint, fields: dict[str, Any]) -> tuple[int, ...]:
    """Return the shape of weights that are in blocks, which are in files of their own."""
    edges = fields["edges"]
    are_numbers = isinstance(edges, list) and all(isinstance(edge, int) for edge in edges)
    require(are_numbers and edges[:1] == [0] and sorted(set(edges)) == edges, "its edges are none")
    require(isinstance(fields.get("blocks"), dict), "it does not say where its blocks are")
    return (edges[-1], *numbers(checkpoint, "intercept").shape)


def _check_loss(loss: Any) -> None:
    """Refuse a loss without name and parameters, or with parameters that its class refuses."""
    # The fields.
    message = "it does not say what its loss was"
    require(isinstance(loss, dict), message)
    require(isinstance(loss.get("name"), str), message)
    require(isinstance(loss.get("parameters"), dict), message)
    # Their values.
    try:
        loss_of(loss)
    except Exception as error:
        raise ValueError(f"its loss is none: {error}") from error


def _check_search(checkpoint: Checkpoint, fields: dict[str, Any]) -> None:
    """Refuse a checkpoint without the fields and arrays of a search."""
    # How it was made.
    start = numbers(checkpoint, "start")
    require(start.ndim == 3, f"its start has the shape {start.shape}")
    spec = fields["spec"]
    kinds = {"candidates": list, "folds": str, "scoring": str}
    for name, kind in kinds.items():
        require(isinstance(spec.get(name), kind), f"it does not say what its {name} were")
    # Each trial has a candidate, a fold, a reason and a norm, and losses of training and held-out rows.
    trials = fields["trials"]
    require(isinstance(trials, list), "its trials are no list")
    for i, trial in enumerate(trials):
        require(isinstance(trial, list) and len(trial) == 4, f"trial {i} is {trial!r:.50}")
        candidate, fold, reason, norm = trial
        has_numbers = type(candidate) is int and type(fold) is int
        is_trial = (
            has_numbers
            and 0 <= candidate < len(spec["candidates"])
            and isinstance(reason, str | None)
            and isinstance(norm, float | int)
        )
        require(is_trial, f"trial {i} is {trial}")
        numbers(checkpoint, f"trials/{i}-held", (2,))
        losses = numbers(checkpoint, f"trials/{i}-losses")
        require(losses.ndim == 1, f"the losses of trial {i} have the shape {losses.shape}")
        numbers(checkpoint, f"trials/{i}-held_losses", losses.shape)


def check_state(checkpoint: Checkpoint, prefix: str, state: Any) -> None:
    """Refuse a solver's state that lacks an array, or has an array that cannot have come from this first state.

    The last axis has the candidates or partitions, of which there is a single one at first; other axes may be as many
    times longer as there are outputs.
    """
    outputs = state.query.shape[1]
    for name, first in state._asdict().items():
        shape = numbers(checkpoint, f"{prefix}{name}").shape
        first_shape = np.shape(first)
        fits = len(shape) == len(first_shape)
        for i, (size, first_size) in enumerate(zip(shape, first_shape, strict=False)):
            is_last = i == len(shape) - 1
            is_same = size in (first_size, first_size * outputs)
            may_be_any = first_size == 0 or (first_size == 1 and is_last)
            fits &= is_same or may_be_any
        require(fits, f"{prefix}{name} has the shape {shape} where a fit begins with {first_shape}")
    # Features and outputs are those of the query.
    for name in ("weights", "query"):
        shape = checkpoint.arrays[f"{prefix}{name}"][1].shape[:2]
        require(shape == state.query.shape[:2], f"{prefix}{name} has the shape {shape}")


def check_format(checkpoint: Checkpoint, path: Path) -> None:
    """Refuse to resume a run of another version of dask_gd.

    Raises
    ------
    StoreMismatchError
    """
    stored = checkpoint.attributes["dask_gd"].get("format", 1)
    if stored != FORMAT:
        raise StoreMismatchError(
            f"{path} holds a run in format {stored!r}, of another version of dask_gd; this one goes on from format "
            f"{FORMAT} only. dask_gd.load({str(path)!r}) reads it: give that as initial_weights, with another store."
        )


def numbers(checkpoint: Checkpoint, name: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Return an array of real numbers; refuse another kind of array, or another shape."""
    if name not in checkpoint.arrays:
        raise ValueError(f"it has no {name}")
    array = checkpoint.arrays[name][1]
    require(array.dtype.kind in "fiub", f"{name} has the dtype {array.dtype}")
    require(shape in (None, array.shape), f"{name} has the shape {array.shape} in place of {shape}")
    return array


def texts(values: Any) -> bool:
    """Return whether the values are a list of strings."""
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def require(condition: bool, otherwise: str) -> None:
    """Raise a ValueError with this message unless the condition holds."""
    if not condition:
        raise ValueError(otherwise)
