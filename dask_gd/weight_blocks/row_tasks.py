"""What a worker does to its segments of rows: what they have beside their features, losses and slopes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ..errors import DataError, NonFiniteError
from ..kernels.dense import first_bad
from ..model.losses import Loss, classes_of
from .tasks import working

#: Rows whose losses are taken at a time, if they have one output: their vectors stay in the cache.
ROWS = 1 << 14


class Values(NamedTuple):
    """What the rows of a segment have beside their features."""

    y: np.ndarray  # (n, k), or (n, 1) of classes
    weight: np.ndarray | None  # (n,)
    offset: np.ndarray | None  # (n,)
    dropped: int


class Looked(NamedTuple):
    """Sums over the rows of a segment at one candidate, (k,) each but the loss."""

    loss: float
    slopes: np.ndarray
    squares: np.ndarray
    curvatures: np.ndarray


class Totals(NamedTuple):
    """Sums over the rows of a segment that no weights change."""

    rows: int
    weight: float
    targets: np.ndarray  # (k,)
    offsets: float


def values_of(
    names: dict[str, str],
    loss: Loss,
    start: int,
    drop: bool,
    outputs: int,
    present: tuple[int, ...] | None,
    y: Any,
    weight: Any = None,
    offset: Any = None,
) -> Values:
    """Return the checked targets, weights and offsets of rows from ``start`` on; names are those of the arrays.

    Rows to drop have a weight of 0.
    """
    values = np.asarray(y, float)
    if present is not None:
        values = values[:, list(present)]
    values = values.reshape(len(values), outputs)
    others = {"weight": weight, "offset": offset}
    found: dict[str, np.ndarray] = {"y": values}
    for role, array in others.items():
        if array is not None:
            found[role] = np.array(array, float).reshape(-1)
    # Rows with NaN are left out, or refused.
    is_bad = np.zeros(len(values), bool)
    if drop:
        for array in found.values():
            is_bad |= np.isnan(array.reshape(len(array), -1)).any(axis=1)
    if is_bad.any():
        good = np.flatnonzero(~is_bad)
        values = values.copy()
        values[is_bad] = values[good[0]] if len(good) else 0.0
        found["y"] = values
        found["weight"] = np.where(is_bad, 0.0, found.get("weight", 1.0))
        if "offset" in found:
            found["offset"] = np.where(is_bad, 0.0, found["offset"])
    for role, array in found.items():
        bad = first_bad(array)
        if bad is not None:
            at = "" if bad.column is None else f", column {bad.column}"
            raise NonFiniteError(
                f"{bad.value} in row {start + bad.row}{at} of {names[role]!r}. Remove or fill it before fitting, or "
                "leave such rows out with nan='drop' where it is NaN."
            )
    weights = found.get("weight")
    if weights is not None and (weights < 0).any():
        row = int(np.argmax(weights < 0))
        raise DataError(f"Negative weight {weights[row]} in row {start + row} of {names['weight']!r}.")
    bad_target = loss.bad_target(found["y"])
    if bad_target is not None and bad_target.any():
        row, output = np.argwhere(bad_target)[0]
        raise DataError(
            f"The {loss.name} loss takes targets {loss.targets}; found {values[row, output]:g} "
            f"in row {start + row} of {names['y']!r}."
        )
    return Values(found["y"], weights, found.get("offset"), int(is_bad.sum()))


def weight_of(values: Values) -> np.ndarray | None:
    """Return the rows' weights, None where each is 1."""
    return values.weight


def totals(values: Values, loss: Loss) -> Totals:
    """Return the sums that no weights change."""
    s = values.weight
    if s is None:
        s = np.ones(len(values.y))
    y = values.y
    if classes_of(loss):
        y = loss.indicators(y)  # type: ignore[attr-defined]
    offsets = 0.0
    if values.offset is not None:
        offsets = float(s @ values.offset)
    return Totals(len(s) - values.dropped, float(s.sum()), s @ y, offsets)


def zeros(values: Values, k: int) -> np.ndarray:
    """Return the predictions of weights of 0, (n, k, 1)."""
    return np.zeros((len(values.y), k, 1))


def losses(
    values: Values,
    loss: Loss,
    intercepts: np.ndarray,
    steps: np.ndarray | None,
    z: np.ndarray,
    direction: np.ndarray | None = None,
) -> np.ndarray:
    """Return the sums of the losses of m candidates, (m,), whose intercepts are (1, k, m).

    Their predictions without intercept and offset are z (n, k, m), or ``z + t direction`` for the steps t.
    """
    m = intercepts.shape[2]
    sums = np.zeros(m)
    with working():
        for which in _pieces(values, intercepts.shape[1]):
            for i in range(m):
                if direction is None:
                    at = z[which, :, i : i + 1].copy()
                else:
                    assert steps is not None
                    at = z[which] + steps[i] * direction[which]
                value, _ = _value_and_slope(values, loss, which, at, intercepts[:, :, i : i + 1])
                sums[i] += float(value.sum())
    return sums


def look(
    values: Values,
    loss: Loss,
    of_all: float,
    intercept: np.ndarray,
    step: float | None,
    number: int,
    with_moments: bool,
    z: np.ndarray,
    direction: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, Looked]:
    """Return the predictions (n, k, 1) of one candidate without intercept and offset, its slopes, and their sums.

    The slopes are weighted, and divided by the weight of all rows. The candidate is the one of this number of z
    (n, k, m), or ``z + step direction``.
    """
    k = intercept.shape[1]
    if direction is None:
        at_candidate = np.ascontiguousarray(z[:, :, number : number + 1])
    else:
        at_candidate = z + step * direction
    slopes = np.empty_like(at_candidate)
    total = Looked(0.0, np.zeros(k), np.zeros(k), np.zeros(k))
    with working():
        for which in _pieces(values, k):
            z_of_piece = at_candidate[which].copy()
            value, slope = _value_and_slope(values, loss, which, z_of_piece, intercept)
            s = values.weight[which, None, None] if values.weight is not None else None
            weighted = slope if s is None else s * slope
            np.divide(weighted, of_all, out=slopes[which])
            total = total._replace(
                loss=total.loss + float(value.sum()),
                slopes=total.slopes + weighted[:, :, 0].sum(axis=0),
            )
            if with_moments:
                total = total._replace(squares=total.squares + (weighted * slope)[:, :, 0].sum(axis=0))
                if loss.curvature_bound is None:
                    curvature = loss.curvature(z_of_piece[:, :, 0], _targets(values, loss, which))
                    if s is not None:
                        curvature = np.where(s[:, :, 0] > 0, s[:, :, 0] * curvature, 0.0)
                    total = total._replace(curvatures=total.curvatures + curvature.sum(axis=0))
    return at_candidate, slopes, total


def _pieces(values: Values, k: int) -> Iterator[slice]:
    """Yield the rows whose losses are taken at a time."""
    step = max(16, ROWS // k)
    for start in range(0, len(values.y), step):
        yield slice(start, min(start + step, len(values.y)))


def _targets(values: Values, loss: Loss, which: slice) -> np.ndarray:
    """Return targets as the loss takes them, (n, k)."""
    y = values.y[which]
    if classes_of(loss):
        y = loss.indicators(y)  # type: ignore[attr-defined]
    return y


def _value_and_slope(
    values: Values,
    loss: Loss,
    which: slice,
    z: np.ndarray,
    intercept: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the weighted losses and the slopes at z (n, k, 1), to which intercept and offset are added in place."""
    z += intercept
    if values.offset is not None:
        z += values.offset[which, None, None]
    value, slope = loss.value_and_slope(z, _targets(values, loss, which)[:, :, None])
    if values.weight is not None:
        s = values.weight[which, None, None]
        value = s * value
        # Rows without weight count for nothing, also where they have no finite loss: they may be held out of a fit.
        if not s.all():
            value = np.where(s > 0, value, 0.0)
            slope = np.where(s > 0, slope, 0.0)
    return value, slope
