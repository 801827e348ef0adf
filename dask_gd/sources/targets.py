"""Targets that have no value in any row, such as the sea in a map of the land: they are left out of a fit."""

from __future__ import annotations

import logging
from dataclasses import replace

import dask
import dask.array as da
import numpy as np

from .column import Column
from .lazy import column
from .present import Present
from .source import Source

logger = logging.getLogger("dask_gd")

#: Targets that a warning names at most.
NAMED = 10


def with_values(source: Source) -> Source:
    """Return the source without the targets that are NaN in all rows, where rows with NaN are dropped.

    Each of them would have every row dropped. The coefficients of the other targets are the same without them. The
    first rows are read, and the rest only of targets that are NaN in all of these.
    """
    # A single target is never left out, nor are targets where rows with NaN are refused.
    total = 1
    if len(source.y.shape) == 2:
        total = source.y.shape[1]
    if source.nan != "drop" or source.present is not None or total == 1:
        return source
    absent = _absent(source)
    if not absent or len(absent) == total:
        return source
    # The source fits the other targets, and remembers all of them for the coefficients.
    names = source.output_names
    columns = tuple(j for j in range(total) if j not in set(absent))
    _note_absent(absent, names, len(columns))
    present_names = None
    if names is not None:
        present_names = tuple(names[j] for j in columns)
    return replace(source, present=Present(columns, total, names), output_names=present_names)


def _note_absent(absent: list[int], names: tuple | None, others: int) -> None:
    """Warn of the targets that are left out, by name or else by number."""
    # A few names are enough to find the others.
    labels = []
    for j in absent[:NAMED]:
        if names:
            labels.append(repr(names[j]))
        else:
            labels.append(str(j))
    more = ""
    if len(absent) > NAMED:
        more = f" and {len(absent) - NAMED} more"
    logger.warning(
        "Targets %s%s are NaN in all rows: their coefficients are NaN, and the other %d are fitted without them.",
        ", ".join(labels),
        more,
        others,
    )


def _absent(source: Source) -> list[int]:
    """Return the columns of the target that are NaN in all rows."""
    if source.y.fields is not None:
        return _absent_variables(source.y)
    y = column(source, "y")
    if y.dtype.kind != "f":
        return []
    # The first partition clears nearly all targets, so that the others are read only of those that remain.
    first = y[: source.bounds[1] - source.bounds[0]]
    suspects = np.flatnonzero(_computed(np.isnan(first).all(axis=0)))
    if not len(suspects):
        return []
    is_absent = _computed(np.isnan(y[:, suspects]).all(axis=0))
    return suspects[is_absent].tolist()


def _absent_variables(y: Column) -> list[int]:
    """Return the numbers of the variables that are NaN at all points."""
    variables = []
    for array, packing in zip(y.arrays, y.fields.packings, strict=True):
        if packing is not None:
            array = da.map_blocks(packing.decode, array)
        variables.append(array)
    # The first point clears nearly all variables, so that only those that remain are read.
    first_points = [v[(slice(1),) * v.ndim] for v in variables]
    first = dask.compute(*map(_all_nan, first_points))
    suspects = [j for j, is_nan in enumerate(first) if is_nan]
    all_points = dask.compute(*(_all_nan(variables[j]) for j in suspects))
    return [j for j, is_nan in zip(suspects, all_points, strict=True) if is_nan]


def _all_nan(values: da.Array) -> da.Array:
    return da.isnan(values).all()


def _computed(values: da.Array | np.ndarray) -> np.ndarray:
    if isinstance(values, da.Array):
        values = values.compute()
    return np.asarray(values)
