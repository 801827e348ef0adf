"""Checks of the rows in a task: finite values, weights of 0 or more, targets that the loss knows.

Errors name the array and the row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import DataError, NonFiniteError
from ..kernels.base import Kernel, Part, Request, Sums, take
from ..kernels.block import BadValue
from ..model.losses import Loss, Model
from ..sources import Rows
from ..sources.column import TaskColumn

#: Columns whose values enter the sums, so that a value that is not finite shows there.
SUMMED = ("weight", "offset")

#: Losses and slopes that are larger have begun to overflow, and a curvature may have overflowed before them.
LARGE = 1e150


def check(
    rows: Rows,
    total: Sums,
    part: Part,
    columns_of_rows: Callable[[], dict[str, TaskColumn]],
) -> None:
    """Refuse NaN and infinity, and in the first pass over these rows targets that the loss does not know.

    ``total`` are the sums of the part up to these rows, and ``columns_of_rows`` returns where the values are from. No
    row is inspected unless one of the sums is non-finite: 0 * NaN and 0 * infinity are NaN, so that a bad value in any
    row makes the gradient, or in the first pass the sum of squares, non-finite whatever the weights are.
    """
    loss = part.loss
    request = part.request
    is_good = _all_finite(rows, total)
    if rows.weight is not None:
        is_good = is_good and bool((rows.weight >= 0).all())
    is_first = request.moments or request.targets
    if is_good and not is_first:
        return
    columns = columns_of_rows()
    if not is_good:
        # A bad value is named by its row, and so is a curvature that no loss may have. Without either, squares have
        # overflowed, which is a matter of units.
        check_values(rows, columns)
        _check_curvature(rows, part)
        _check_squares(total, loss, columns)
        # The data is finite, so that the targets are at fault, or the weights are too large: the loop's business.
        if not is_first:
            return
    # Later passes read the same targets.
    bad = loss.bad_target(rows.y)
    if bad is not None and bad.any():
        row, output = np.argwhere(bad)[0]
        raise DataError(
            f"The {loss.name} loss takes targets {loss.targets}; found {rows.y[row, output]:g} "
            f"in row {rows.number(row)} of {columns['y'].name!r}."
        )


def _all_finite(rows: Rows, total: Sums) -> bool:
    """Return whether all sums are finite, of columns that enter no sum too."""
    sums: list[Any] = [total.gradient, total.loss, total.weight]
    # A value that is not finite is squared on the diagonal of a curvature, whose other entries need no look.
    if total.curvature is not None:
        sums.append(np.diagonal(total.curvature))
    sums.extend(total.moments or ())
    for role, values in rows.others.items():
        if role not in SUMMED:
            sums.append(values.sum())
    return all(each is None or np.isfinite(each).all() for each in sums)


def _check_squares(total: Sums, loss: Loss, columns: dict[str, TaskColumn]) -> None:
    """Refuse a feature whose sum of squares overflows."""
    if total.moments is None:
        return
    squares = total.moments.features
    if total.curvature is not None and loss.curvature_bound is not None:
        squares = squares + np.diagonal(total.curvature[:, :, 0])
    if not np.isfinite(squares).all():
        feature = int(np.argmin(np.isfinite(squares)))
        raise NonFiniteError(f"The squares of column {feature} of {columns['x'].name!r} overflow; scale it down.")


def _check_curvature(rows: Rows, part: Part) -> None:
    """Refuse a loss whose curvature is negative, NaN or infinite in a row where its value and slope are no such."""
    loss = part.loss
    request = part.request
    if isinstance(loss, Model) or not (request.curvature or request.moments):
        return
    # The predictions are those of the pass, whatever its kernel sums.
    kernel = Kernel(part._replace(request=Request(shift=request.shift)))
    for start in range(0, len(rows.y), kernel.step):
        which = slice(start, start + kernel.step)
        block = kernel.workspace.block(kernel.row_format.take(rows.x, which))
        z = kernel.predicted(block, take(rows.offset, which))
        target = rows.y[which]
        if kernel.classes:
            target = loss.indicators(target)  # type: ignore[attr-defined]
        for candidate in range(z.shape[2]):
            bad = bad_curvature(loss, z[:, :, candidate], target)
            if bad is not None:
                row, value = bad
                raise DataError(
                    f"The {loss.name} loss has a curvature of {value:g} in row {rows.number(start + row)}, where its "
                    "value and its slope are finite. Its method `curvature` must return the second derivative with "
                    "respect to the prediction, finite and 0 or more."
                )


def bad_curvature(loss: Loss, z: np.ndarray, target: np.ndarray) -> tuple[int, float] | None:
    """Return the first row whose curvature alone is bad, and this, or None; ``z`` and ``target`` are (n, k)."""
    curvature = loss.curvature(z, target)
    is_bad = ~(np.isfinite(curvature) & (curvature >= 0))
    if not is_bad.any():
        return None
    # Where the loss is large the predictions are too far out, which is the solver's business.
    value, slope = loss.value_and_slope(z[:, :, None], target[:, :, None])
    is_near = (np.abs(value) < LARGE).all(axis=(1, 2)) & (np.abs(slope) < LARGE).all(axis=(1, 2))
    found = np.argwhere(is_bad & is_near[:, None])
    if not len(found):
        return None
    row, output = found[0].tolist()
    return row, float(curvature[row, output])


def check_values(rows: Rows, columns: dict[str, TaskColumn], drop: bool = True) -> None:
    """Refuse NaN and infinity in any column, and negative weights, with their row.

    ``columns`` say by role where the values are from; ``drop``: the rows may be left out with ``nan="drop"``.
    """
    for role, bad in rows.first_bad():
        if role in columns:
            raise _not_finite(rows.number(bad.row), bad, columns[role], drop)
    weight = rows.weight
    if weight is not None and (weight < 0).any():
        row = int(np.argmax(weight < 0))
        raise DataError(f"Negative weight {weight[row]} in row {rows.number(row)} of {columns['weight'].name!r}.")


def _not_finite(row: int, bad: BadValue, column: TaskColumn, drop: bool) -> NonFiniteError:
    """Return the error that names the row of a value that is not finite, or is no code, and says what to do."""
    at = ""
    if bad.column is not None:
        # Of some columns of an array the number is the array's.
        at = f", column {bad.column + getattr(column, 'first_column', 0)}"
    # Only NaN can be dropped, and only where a caller may leave out rows.
    remedy = "Remove or fill it before fitting"
    if not drop:
        remedy += ": there is no mean of NaN and infinity"
    elif np.isnan(bad.value):
        remedy += ", or leave such rows out with nan='drop'"
    where = column.where(row, bad.column or 0)
    if bad.why:
        return NonFiniteError(f"{bad.value} in row {row}{at} of {where} {bad.why}.")
    return NonFiniteError(f"{bad.value} in row {row}{at} of {where}. {remedy}.")
