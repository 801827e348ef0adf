"""Arrays as estimators meet them: which are lazy, and the few sums over rows that are taken outside a fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dask.array as da
import numpy as np

from ..cluster import compute
from ..errors import InvalidArgumentError, NonFiniteError
from ..sources import Source, as_source
from ..sources.columns import as_rows, sized
from ..sources.lazy import column, dask_rows, in_dask, is_lazy, label_rows, rows, unique  # noqa: F401


def source_of(x: Any, y: Any, weight: Any, offset: Any = None) -> Source:
    """Rows to fit; beside a Source, targets and weights that are given take the place of its own."""
    if not isinstance(x, Source):
        return as_source(x, y, weight, offset=offset)
    # Targets and weights are those of the source's rows, counted from its first.
    bounds = tuple(bound - x.bounds[0] for bound in x.bounds)
    given: dict[str, Any] = {role: as_rows(a, role) for role, a in (("y", y), ("weight", weight)) if a is not None}
    aligned: dict[str, Any] = {role: a.aligned(bounds) for role, a in given.items()}
    return x.with_columns(**aligned)


def kept(source: Source) -> da.Array | None:
    """Which rows the fit keeps where it drops those with NaN, (n,) and lazy; None where it drops none."""
    if source.nan != "drop":
        return None
    columns = [column(source, role) for role in ("x", "y", "weight", "offset")]
    if source.present is not None:
        columns[1] = columns[1][:, list(source.present.columns)]
    blocks = [dask_rows(a) for a in columns if a is not None]
    return sum(da.isnan(a.reshape(len(a), -1)).sum(axis=1) for a in blocks) == 0


def total_weight(source: Source) -> float:
    """The sum of the row weights, the number of rows without any. Of lazy weights it takes a reduction over them, and
    where rows with NaN are dropped one over all columns.

    1 where there is no such sum: the fit will say what is wrong, and in which row.
    """
    weight = column(source, "weight")
    used = kept(source)
    if used is not None:
        weight = da.where(used, 1.0 if weight is None else weight, 0.0)
    total = float(source.shape[0] if weight is None else weight.sum(dtype=float))
    return total if 0 < total < np.inf else 1.0


def mean(values: da.Array, weight: da.Array | None) -> da.Array:
    """Over rows."""
    if weight is None:
        return values.mean(axis=0)
    return (values * (weight if values.ndim == 1 else weight[:, None])).sum(axis=0) / weight.sum()


def to_score(x: Any, prediction: Any, y: Any, weight: Any, targets: Callable = rows) -> list:
    """Predictions, targets and weights (or None) as Dask arrays with the same blocks of rows.

    ``targets`` makes arrays of predictions and targets: `rows` of numbers, `label_rows` of labels.
    """
    if isinstance(x, Source):
        if y is not None:
            raise InvalidArgumentError("y was given beside a Source, which has its own target; leave y out.")
        y = column(x, "y")
        if weight is None:
            weight = column(x, "weight")
    if y is None:
        raise InvalidArgumentError("score(X, y) needs a target y, or a Source.")
    prediction = sized(in_dask(targets(prediction, "X")), "X")
    found = [prediction]
    for name, a, values in (("y", y, targets), ("sample_weight", weight, rows)):
        if a is not None:
            a = sized(in_dask(values(a, name)), name)
            if a.ndim == 2 and prediction.ndim == 1:
                a = a.reshape(len(a))
            if len(a) != len(prediction):
                raise InvalidArgumentError(f"X has {len(prediction)} rows but {name} has {len(a)}; they must agree.")
            a = a.rechunk({0: prediction.chunks[0]})
        found.append(a)
    return found


def explained(loss: Any, z: da.Array, y: da.Array, weight: da.Array | None) -> float:
    """The share of the loss of the best constant that predictions ``z`` do away with, the mean over outputs.

    R^2 with the squared loss, D^2 with a deviance. Two reductions: the first is over the targets alone. Of targets that
    are all the same it is 1 if the predictions are right, else 0.
    """
    y = y.reshape(z.shape)
    [average] = compute(mean(y, weight), what="the mean of the targets")
    constant = loss.link(average)
    own = da.map_blocks(_value, z, y, loss, dtype=float)
    worst = da.map_blocks(lambda block: _value(np.broadcast_to(constant, block.shape), block, loss), y, dtype=float)
    left, whole = map(np.atleast_1d, compute(mean(own, weight), mean(worst, weight), what="the score"))
    if not (np.isfinite(left).all() and np.isfinite(whole).all()):
        refuse_missing("score", y=y, sample_weight=weight, X=z)
    share = np.divide(left, whole, out=np.where(left <= 0, 0.0, 1.0), where=~(whole <= 0))
    return float(np.mean(1.0 - share))


def without_value(a: Any) -> da.Array:
    """Return which rows hold NaN or infinity, (n,) and lazy. Blocks are asked: what was masked makes them floats."""
    axes = list(range(1, a.ndim))
    return da.map_blocks(_without_value, in_dask(a), dtype=bool, drop_axis=axes, meta=np.empty(0, bool))


def _without_value(block: np.ndarray) -> np.ndarray:
    if block.dtype.kind != "f":
        return np.zeros(len(block), bool)
    return ~np.isfinite(block.reshape(len(block), -1)).all(axis=1)


def refuse_missing(what: str, **columns: Any) -> None:
    """Raise `NonFiniteError` with the first row of the first of these columns that holds NaN or infinity."""
    for name, a in columns.items():
        if a is None:
            continue
        [bad] = compute(without_value(a), what=f"the rows of {name} without a value")
        if bad.any():
            raise NonFiniteError(
                f"There is no {what}: {name} is NaN or infinite in {bad.sum():,} rows, first in row {bad.argmax()} "
                "(masked values are NaN). Leave such rows out."
            )


def _value(z: np.ndarray, y: np.ndarray, loss: Any) -> np.ndarray:
    return loss.value_and_slope(z.astype(float), y.astype(float))[0]
