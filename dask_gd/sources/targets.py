"""Targets that have no value in any row, such as the sea in a map of the land: they are left out of a fit."""

from __future__ import annotations

import logging
from dataclasses import replace

import dask
import dask.array as da
import numpy as np

from .dataset_column import DatasetColumn
from .lazy import column
from .present import Present
from .source import Source

logger = logging.getLogger("dask_gd")

#: Targets that a warning names at most.
NAMED = 10


def with_values(source: Source) -> Source:
    """Return the source without the targets that are NaN in all rows, where rows with NaN are dropped.

    Each of them would have every row dropped. The coefficients of the others are what they are without them. Looks at
    the first rows, and at the rest only of targets that are NaN in all of these.
    """
    total = 1
    if len(source.y.shape) == 2:
        total = source.y.shape[1]
    if source.nan != "drop" or source.present is not None or total == 1:
        return source
    absent = _absent(source)
    if not absent or len(absent) == total:
        return source
    names = source.output_names
    columns = tuple(j for j in range(total) if j not in set(absent))
    said = [repr(names[j]) if names else str(j) for j in absent[:NAMED]]
    more = ""
    if len(absent) > NAMED:
        more = f" and {len(absent) - NAMED} more"
    logger.warning(
        "Targets %s%s are NaN in all rows: their coefficients are NaN, and the other %d are fitted without them.",
        ", ".join(said),
        more,
        len(columns),
    )
    own = None
    if names is not None:
        own = tuple(names[j] for j in columns)
    return replace(source, present=Present(columns, total, names), output_names=own)


def _absent(source: Source) -> list[int]:
    """Return the columns of the target that are NaN in all rows."""
    if isinstance(source.y, DatasetColumn):
        pairs = zip(source.y.arrays, source.y.fields.packings, strict=True)
        variables = [array if packing is None else da.map_blocks(packing.decode, array) for array, packing in pairs]
        first = dask.compute(*(_all_nan(v[(slice(1),) * v.ndim]) for v in variables))
        suspects = [j for j, is_absent in enumerate(first) if is_absent]
        found = dask.compute(*(_all_nan(variables[j]) for j in suspects))
        return [j for j, is_absent in zip(suspects, found, strict=True) if is_absent]
    y = column(source, "y")
    if y.dtype.kind != "f":
        return []
    unfilled = np.flatnonzero(_computed(np.isnan(y[: source.bounds[1] - source.bounds[0]]).all(axis=0)))
    if not len(unfilled):
        return []
    return unfilled[_computed(np.isnan(y[:, unfilled]).all(axis=0))].tolist()


def _all_nan(values: da.Array) -> da.Array:
    return da.isnan(values).all()


def _computed(values: da.Array | np.ndarray) -> np.ndarray:
    return np.asarray(values.compute() if isinstance(values, da.Array) else values)
