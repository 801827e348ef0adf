"""Where a fit begins: at zeros, at weights of the user's, or at another fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import InvalidArgumentError
from ..model.losses import Model
from ..results.features import check_encoding
from ..results.fit_result import FitResult
from ..sources import Source
from ..sources.present import Present


def start_of_model(model: Model, source: Source, initial_weights: Any) -> np.ndarray:
    """Return the first query's parameters of a `Model`, (q, 1, 1)."""
    if source.offset is not None:
        raise InvalidArgumentError("offset is added to linear predictions; give it to a Model among its features.")
    if isinstance(initial_weights, Mapping):
        initial_weights = model.packed(initial_weights)
    if initial_weights is None:
        initial_weights = model.start
    return start_of(initial_weights, len(model.start), 1, fit_intercept=False)


def check_levels(initial_weights: Any, source: Source) -> None:
    """Refuse the coefficients of another fit if they are those of other levels."""
    before = getattr(initial_weights, "encoding", None)
    if before is not None and source.x.encoding is not None:
        check_encoding(source.x.encoding, before, "initial_weights")


def start_of(initial_weights: Any, p: int, k: int, fit_intercept: bool, present: Present | None = None) -> np.ndarray:
    """Return the first query's parameters, (q, k, 1).

    Of initial weights of all targets they are those of the ``present`` ones.
    """
    start = np.zeros((p + bool(fit_intercept), k, 1))
    if initial_weights is None:
        return start
    of_result = isinstance(initial_weights, FitResult)
    if of_result:
        values = initial_weights.parameters[: len(start)]
        # Levels that the other fit has left out.
        if len(initial_weights.dropped_levels):
            values = np.nan_to_num(values)
    else:
        values = np.asarray(initial_weights, dtype=float)
        if values.ndim == 1:
            values = values[:, None]
    if present is not None and values.ndim == 2 and values.shape[1] == present.total:
        values = values[:, list(present.columns)]
    if values.ndim != 2 or values.shape[1] != k or len(values) not in (p, len(start)):
        raise InvalidArgumentError(
            f"initial_weights has shape {values.shape}; this fit has {p} features and {k} outputs."
        )
    if of_result and len(initial_weights.weights) != p:
        raise InvalidArgumentError(f"initial_weights has {len(initial_weights.weights)} features; x has {p}.")
    if not np.isfinite(values).all():
        raise InvalidArgumentError("initial_weights holds NaN or infinity.")
    # Without an intercept among them it begins at 0.
    start[: len(values), :, 0] = values
    return start
