"""Tests and intervals of the coefficients of all cells, from what their fit knows."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from ..errors import InvalidArgumentError
from .cell_fit import CellFit


def infer_cells(run: CellFit, level: float) -> xr.Dataset:
    """Return ``coefficient``, ``standard_error``, ``statistic``, ``p_value``, ``lower`` and ``upper`` by parameter.

    They are over "parameter" and the cells, lazy where the run's estimates are. Student's t of the cell's degrees of
    freedom.
    """
    if not 0 < level < 1:
        raise InvalidArgumentError(f"infer(level={level!r}): a number between 0 and 1, such as 0.95.")
    error = run.standard_error
    # Features and the intercept along one dimension, in the chunks of the errors.
    coefficient = run.weights.rename(feature="parameter").variable
    if run.fit_intercept:
        intercept = run.intercept.variable.expand_dims("parameter")
        coefficient = xr.Variable.concat([coefficient, intercept], "parameter")
    values = xr.DataArray(coefficient, coords=error.coords, dims=error.dims)
    if error.chunks is not None:
        values = values.chunk(dict(zip(error.dims, error.chunks, strict=True)))
    found = xr.apply_ufunc(
        _tested,
        values,
        error,
        run.dof,
        kwargs={"level": level},
        output_core_dims=[[], [], [], []],
        output_dtypes=[float] * 4,
        dask="parallelized",
    )
    names = ("statistic", "p_value", "lower", "upper")
    arrays = {"coefficient": values, "standard_error": error, **dict(zip(names, found, strict=True))}
    return xr.Dataset({name: array.drop_attrs() for name, array in arrays.items()}, attrs={"level": level})


def _tested(coefficient: np.ndarray, error: np.ndarray, dof: np.ndarray, level: float) -> tuple[Any, ...]:
    """Return the statistics, their p-values, and the ends of the intervals."""
    # Not imported at the top: that takes half a second.
    from scipy.special import stdtr, stdtrit

    freedom = np.broadcast_to(dof, coefficient.shape).astype(float)
    with np.errstate(all="ignore"):
        statistic = coefficient / error
        p_value = 2.0 * stdtr(freedom, -np.abs(statistic))
        tails, inverse = np.unique(freedom, return_inverse=True)
        width = -stdtrit(tails, (1.0 - level) / 2.0)[inverse].reshape(freedom.shape)
        return statistic, p_value, coefficient - width * error, coefficient + width * error
