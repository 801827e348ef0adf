"""Tabulate coefficients with their standard errors, tests and intervals: the result of `infer`."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from dask.system import CPU_COUNT

from ..model.losses import Loss
from .covariance_type import KINDS, CovarianceType
from .fit_result import FitResult

INTERCEPT = "(intercept)"

#: Values of a distribution from which on they are worth a thread for each core: they take 2 ms or more.
MANY = 10_000


@dataclass(frozen=True, eq=False, repr=False)
class Inference:
    """Coefficients of a fit with their standard errors, tests and intervals. Printed, it is a table.

    Attributes
    ----------
    table : xarray.Dataset
        Over "parameter", features by name (x0, x1, ... without names) and then "(intercept)", if there is one; and over
        "output" for a target with columns. ``coefficient``, ``standard_error``, ``statistic`` (their ratio),
        ``p_value`` (two-sided, of a coefficient of 0), ``lower`` and ``upper`` (the interval).
    covariance : xarray.DataArray
        Of the coefficients, dims ("parameter", "other_parameter"[, "output"]).
    dispersion : xarray.DataArray
        Of the target about its mean, dims () or ("output",), as are the next two: 1 for logistic and Poisson losses,
        else ``pearson / degrees_of_freedom``. For the squared loss it is the variance, in the target's units squared.
    deviance : xarray.DataArray
        Twice the sum of the losses.
    pearson : xarray.DataArray
        ``sum s (y - mean)^2 / variance(mean)``, Pearson's statistic. Counts whose ratio of this to the degrees of
        freedom is far above 1 vary more than Poisson's do.
    n : float
        Observations: the sum of the row weights.
    degrees_of_freedom : float
        Of the residuals: n less the number of parameters of an output.
    level : float
        Of the intervals.
    loss : Loss
    cov_type : str
        The kind of the covariance.
    t_degrees_of_freedom : float or None
        Of Student's t, by which tests and intervals are; None where they are by the normal distribution.
    """

    table: xr.Dataset
    covariance: xr.DataArray
    dispersion: xr.DataArray
    deviance: xr.DataArray
    pearson: xr.DataArray
    n: float
    degrees_of_freedom: float
    level: float
    loss: Loss
    cov_type: str = "nonrobust"
    t_degrees_of_freedom: float | None = None

    @property
    def statistic(self) -> str:
        """Name of the distribution if a coefficient is 0: "t", Student's, or "z", the normal."""
        if self.t_degrees_of_freedom is None:
            return "z"
        return "t"

    def __str__(self) -> str:
        lines = [f"{self.loss!r} loss, {self.n:,.12g} observations, {self.degrees_of_freedom:,.12g} degrees of freedom"]
        if self.cov_type != "nonrobust":
            lines.append(f"errors {KINDS[self.cov_type]}")
        # A table for each output.
        for output in range(self.table.sizes.get("output", 1)):
            position: dict[str, Any] = {}
            label = ""
            if "output" in self.table.dims:
                position = {"output": output}
                label = f"output {self.table.output.values[output]}, "
            dispersion = float(self.dispersion.isel(position))
            deviance = float(self.deviance.isel(position))
            lines.append(f"{label}dispersion {dispersion:.6g}, deviance {deviance:.6g}")
            lines += self._lines(self.table.isel(position))
        return "\n".join(lines)

    __repr__ = __str__

    def _lines(self, table: xr.Dataset) -> list[str]:
        """Format the table of an output, a line for each parameter."""
        tail = 50 * (1 - self.level)
        kind = self.statistic
        heads = ("coefficient", "std. error", kind, f"P>|{kind}|", f"{tail:.4g}%", f"{100 - tail:.4g}%")
        digits = (6, 4, 4, 3, 6, 6)
        # Text by column, to find the width of each.
        columns = [["", *table.parameter.values]]
        for head, name, count in zip(heads, table.data_vars, digits, strict=True):
            cells = [f"{value:.{count}g}" for value in table[name].values]
            columns.append([head, *cells])
        widths = [max(map(len, column)) for column in columns]
        # Names to the left, numbers to the right.
        lines = []
        for name, *cells in zip(*columns, strict=True):
            aligned = map(str.rjust, cells, widths[1:])
            lines.append("  ".join([f"{name:{widths[0]}}", *aligned]))
        return lines


def tabulated(
    run: FitResult,
    names: list[str],
    covariance: np.ndarray,
    totals: tuple[np.ndarray, ...],
    n: float,
    df: float,
    level: float,
    kind: CovarianceType,
    t_df: float | None,
    coefficient: np.ndarray | None = None,
) -> Inference:
    """Return coefficients and covariances by name, with tests and intervals.

    ``totals`` are the dispersion, the deviance and Pearson's statistic of each output, n the observations, and ``t_df``
    the degrees of freedom of Student's t, None for the normal distribution. The coefficients (q, k) are by default the
    first of the fit.
    """
    # Not imported at the top: that takes half a second, and a fit has no need of it.
    from scipy.special import ndtr, ndtri, stdtr, stdtrit

    # The statistic, its p-value, and the half width of the interval in standard errors.
    if coefficient is None:
        coefficient = run.parameters[: len(names)]
    error = np.sqrt(np.einsum("qqk->qk", covariance))
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = coefficient / error
    tail = (1.0 - level) / 2.0
    if t_df is not None:
        p_value = 2.0 * in_threads(partial(stdtr, t_df), -np.abs(statistic))
        width = -stdtrit(t_df, tail)
    else:
        p_value = 2.0 * in_threads(ndtr, -np.abs(statistic))
        width = -ndtri(tail)
    columns = {
        "coefficient": coefficient,
        "standard_error": error,
        "statistic": statistic,
        "p_value": p_value,
        "lower": coefficient - width * error,
        "upper": coefficient + width * error,
    }
    # Names of parameters and outputs; without a dimension of outputs the last axis goes.
    output = tuple(map(str, run.weights.dims[1:]))
    coords: dict[str, Any] = {"parameter": names, "other_parameter": names}
    if "output" in run.weights.coords:
        coords["output"] = run.weights.coords["output"].values
    elif output:
        coords["output"] = np.arange(covariance.shape[2])

    def labelled(array: np.ndarray, *parameters: str) -> xr.DataArray:
        dims = (*parameters, *output)
        if not output:
            array = array[..., 0]
        return xr.DataArray(array, dims=dims, coords={dim: coords[dim] for dim in dims})

    dispersion, deviance, pearson = totals
    return Inference(
        table=xr.Dataset({name: labelled(column, "parameter") for name, column in columns.items()}),
        covariance=labelled(covariance, "parameter", "other_parameter"),
        dispersion=labelled(dispersion),
        deviance=labelled(deviance),
        pearson=labelled(pearson),
        n=n,
        degrees_of_freedom=df,
        level=level,
        loss=run.loss,
        cov_type=kind.kind,
        t_degrees_of_freedom=t_df,
    )


def in_threads(function: Callable[[np.ndarray], np.ndarray], values: np.ndarray) -> np.ndarray:
    """Return a function of each of the values, computed on all cores where there are many."""
    if values.size < MANY:
        return function(values)
    parts = np.array_split(values.ravel(), CPU_COUNT)
    with ThreadPoolExecutor(CPU_COUNT) as pool:
        found = list(pool.map(function, parts))
    return np.concatenate(found).reshape(values.shape)
