"""The sums over rows that estimators take outside a fit: of weights, and of losses for a score."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dask
import dask.array as da
import numpy as np
from sklearn.exceptions import UndefinedMetricWarning

from ..cluster import compute
from ..errors import DataError, InvalidArgumentError, NonFiniteError, warn
from ..fitting.score_summaries import Summary
from ..kernels.sparse import SparseRows
from ..sources import Source, as_source
from ..sources.columns import as_rows, holds_sparse, sized
from ..sources.compressed import rows_of
from ..sources.lazy import column, dask_rows, in_dask, rows


def source_of(x: Any, y: Any, weight: Any, offset: Any = None) -> Source:
    """Return rows to fit. Beside a Source, targets and weights that are not None take the place of the source's."""
    if not isinstance(x, Source):
        return as_source(x, y, weight, offset=offset)
    columns: dict[str, Any] = {}
    if y is not None:
        columns["y"] = as_rows(y, "y")
    if weight is not None:
        columns["weight"] = as_rows(weight, "weight")
    # They are of the source's rows, counted from its first, and get its partitions.
    bounds = tuple(bound - x.bounds[0] for bound in x.bounds)
    return x.with_columns(**{role: values.aligned(bounds) for role, values in columns.items()})


def kept_rows(source: Source) -> da.Array | None:
    """Return which rows the fit keeps where it drops rows with NaN, (n,) and lazy; None where it keeps all."""
    if source.nan != "drop":
        return None
    columns = {role: column(source, role) for role in ("x", "y", "weight", "offset")}
    # Targets without any value are left out before, and drop no row.
    if source.present is not None:
        present = list(source.present.columns)
        columns["y"] = columns["y"][:, present]
    missing: Any = 0
    for values in columns.values():
        if values is None:
            continue
        if holds_sparse(values):
            is_missing = da.map_blocks(
                _with_nan,
                values,
                drop_axis=1,
                dtype=bool,
                meta=np.empty(0, bool),
            )
            missing = missing + is_missing
        else:
            array = dask_rows(values)
            missing = missing + da.isnan(array.reshape(len(array), -1)).sum(axis=1)
    return missing == 0


def _with_nan(block: Any) -> np.ndarray:
    """Return which rows of a sparse block have NaN, (n,)."""
    return SparseRows(block.shape[1]).with_nan(rows_of(block))


def total_weight(source: Source) -> float:
    """Return the sum of the row weights; without weights, the number of rows.

    For lazy weights it takes a reduction over them, and where rows with NaN are dropped, a reduction over all columns.
    It is 1 where the sum is not finite or not above 0: the fit will say what is wrong, and in which row.
    """
    weight = column(source, "weight")
    kept = kept_rows(source)
    if kept is not None:
        # A row that is dropped counts for nothing.
        row_weight = 1.0 if weight is None else weight
        weight = da.where(kept, row_weight, 0.0)
    if weight is None:
        total = float(source.shape[0])
    else:
        total = float(weight.sum(dtype=float))
    return total if 0 < total < np.inf else 1.0


def weighted(values: da.Array, weight: da.Array | None) -> da.Array:
    """Return the weighted sum over rows."""
    if weight is None:
        return values.sum(axis=0)
    # Rows of several outputs have one weight each.
    row_weight = weight
    if values.ndim != 1:
        row_weight = weight[:, None]
    return (values * row_weight).sum(axis=0)


def sum_of_weights(values: da.Array, weight: da.Array | None) -> da.Array:
    """Return the sum of the weights of these rows; without weights, their number."""
    if weight is None:
        return da.full((), len(values))
    return weight.sum()


def check_sum_of_weights(total: float) -> None:
    """Refuse to divide by weights that sum to 0."""
    if total == 0:
        raise InvalidArgumentError(
            "sample_weight: the weights sum to 0, and there is no score; at least one must be above."
        )


def to_score(
    x: Any,
    prediction: Any,
    y: Any,
    weight: Any,
    targets: Callable = rows,
) -> list:
    """Return predictions, targets and weights (or None) as Dask arrays with the same blocks of rows.

    ``targets`` makes arrays of predictions and targets: it is `rows` for numbers, `label_rows` for labels.
    """
    if isinstance(x, Source):
        if y is not None:
            raise InvalidArgumentError("y was given beside a Source, which has its own target; leave y out.")
        y = column(x, "y")
        if weight is None:
            weight = column(x, "weight")
    if y is None:
        raise InvalidArgumentError("score(X, y) needs a target y, or a Source.")
    # Predictions set the blocks: they are the result of the larger computation.
    prediction = sized(in_dask(targets(prediction, "X")), "X")
    if not len(prediction):
        raise InvalidArgumentError("There is no score: X has no rows.")
    y = _in_blocks_of(prediction, targets(y, "y"), "y")
    if weight is not None:
        weight = _in_blocks_of(prediction, rows(weight, "sample_weight"), "sample_weight")
    return [prediction, y, weight]


def _in_blocks_of(prediction: da.Array, values: Any, name: str) -> da.Array:
    """Return a column as a Dask array in the blocks of the predictions; refuse another number of rows."""
    array = sized(in_dask(values), name)
    # A single column of targets is as good as (n,).
    if array.ndim == 2 and prediction.ndim == 1:
        array = array.reshape(len(array))
    if len(array) != len(prediction):
        raise InvalidArgumentError(f"X has {len(prediction)} rows but {name} has {len(array)}; they must agree.")
    return array.rechunk({0: prediction.chunks[0]})


def explained(
    loss: Any,
    z: da.Array,
    y: da.Array,
    weight: da.Array | None,
) -> float:
    """Return the share by which predictions ``z`` reduce the loss of the best constant, the mean over outputs.

    It is R^2 with the squared loss, D^2 with a deviance. It takes two reductions, the first over the targets alone. For
    targets that are all the same it is 1 if the predictions are right, else 0. Targets that the loss does not take are
    refused.
    """
    y = y.reshape(z.shape)
    # As scikit-learn's scores do.
    if len(y) < 2:
        warn("R^2 and D^2 are not well-defined with less than two rows.", UndefinedMetricWarning)
        return float("nan")
    # The targets' mean determines the best constant.
    is_bad = da.map_blocks(_is_bad, y, loss, dtype=bool)
    of_targets, total, has_bad = compute(
        weighted(y, weight),
        sum_of_weights(y, weight),
        is_bad.any(),
        what="the mean of the targets",
    )
    if has_bad:
        _refuse_targets(loss, y, is_bad)
    check_sum_of_weights(total)
    constant = loss.link(of_targets / total)
    # Both losses are taken in the same reading of the rows.
    losses = da.map_blocks(_value, z, y, loss, dtype=float)
    constant_losses = da.map_blocks(
        lambda block: _value(np.broadcast_to(constant, block.shape), block, loss),
        y,
        dtype=float,
    )
    sums = compute(weighted(losses, weight), weighted(constant_losses, weight), what="the score")
    left, whole = (np.atleast_1d(each / total) for each in sums)
    if not (np.isfinite(left).all() and np.isfinite(whole).all()):
        refuse_missing("score", y=y, sample_weight=weight, X=z)
    # A constant without any loss leaves nothing to divide by.
    without_division = np.where(left <= 0, 0.0, 1.0)
    share = np.divide(left, whole, out=without_division, where=~(whole <= 0))
    return float(np.mean(1.0 - share))


def score_of_blocks(summary: Summary, y: da.Array, z: da.Array, weight: da.Array | None) -> float:
    """Return the score of targets and linear predictions in the same blocks: the sums of each, added up."""
    columns = [y, z]
    if weight is not None:
        columns.append(weight)
    by_column = [array.rechunk({i: -1 for i in range(1, array.ndim)}).to_delayed().ravel() for array in columns]
    parts = []
    for blocks in zip(*by_column, strict=True):
        parts.append(dask.delayed(_sums_of_block)(summary.for_tasks(), *blocks))
    sums = summary.begin()
    for part in compute(*parts, what="the score"):
        sums = sums.plus(part)
    score = summary.score(sums)
    if not np.isfinite(score):
        refuse_missing("score", y=y, sample_weight=weight, X=z)
    return score


def _sums_of_block(summary: Summary, y: np.ndarray, z: np.ndarray, weight: np.ndarray | None = None) -> Any:
    """Return what a score sums over the rows of a block."""
    n = len(y)
    return summary.add(
        summary.begin(),
        y=y.reshape(n, -1).astype(float),
        z=z.reshape(n, -1).astype(float),
        weight=weight,
    )


def _is_bad(y: np.ndarray, loss: Any) -> np.ndarray:
    """Return where a block of targets has values that the loss does not take."""
    bad = loss.bad_target(y)
    if bad is None:
        return np.zeros(y.shape, bool)
    return bad


def _refuse_targets(loss: Any, y: da.Array, is_bad: da.Array) -> None:
    """Raise `DataError` with the first target that the loss does not take."""
    # Another pass, which is taken only where there is an error to report.
    values, bad = compute(y.reshape(len(y)), is_bad.reshape(len(y)), what="the targets")
    row = int(bad.argmax())
    raise DataError(f"The {loss.name} loss takes targets {loss.targets}; found {values[row]:g} in row {row} of 'y'.")


def without_value(a: Any) -> da.Array:
    """Return which rows hold NaN or infinity, (n,) and lazy."""
    axes = list(range(1, a.ndim))
    # Each block is asked for its dtype: masked values make floats of it, whatever the dtype of the array.
    return da.map_blocks(
        _without_value,
        in_dask(a),
        dtype=bool,
        drop_axis=axes,
        meta=np.empty(0, bool),
    )


def _without_value(block: np.ndarray) -> np.ndarray:
    """Return which rows of a block hold NaN or infinity, (n,)."""
    # Integers and texts always have a value.
    if block.dtype.kind != "f":
        return np.zeros(len(block), bool)
    is_finite = np.isfinite(block.reshape(len(block), -1))
    return ~is_finite.all(axis=1)


def refuse_missing(what: str, **columns: Any) -> None:
    """Raise `NonFiniteError` with the first row of the first of these columns that holds NaN or infinity."""
    for name, values in columns.items():
        if values is None:
            continue
        # Another pass, which is taken only where there is an error to report.
        [is_missing] = compute(without_value(values), what=f"the rows of {name} without a value")
        if is_missing.any():
            raise NonFiniteError(
                f"There is no {what}: {name} is NaN or infinite in {is_missing.sum():,} rows, first in row "
                f"{is_missing.argmax()} (masked values are NaN). Leave such rows out."
            )


def _value(z: np.ndarray, y: np.ndarray, loss: Any) -> np.ndarray:
    """Return the loss of a block, taken in float64."""
    value, _ = loss.value_and_slope(z.astype(float), y.astype(float))
    return value
