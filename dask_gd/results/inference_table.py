"""What `infer` gives back: a table of coefficients with their standard errors, tests and intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from ..model.losses import Loss
from .fit_result import FitResult

INTERCEPT = "(intercept)"


@dataclass(frozen=True, eq=False, repr=False)
class Inference:
    """How sure a fit's coefficients are. Printed, it is a table.

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

    @property
    def statistic(self) -> str:
        """What the statistics follow if a coefficient is 0: "t" for the squared loss, else "z", a normal one."""
        return "t" if self.loss.quadratic else "z"

    def __str__(self) -> str:
        lines = [f"{self.loss!r} loss, {self.n:,.12g} observations, {self.degrees_of_freedom:,.12g} degrees of freedom"]
        for output in range(self.table.sizes.get("output", 1)):
            at: dict[str, Any] = {"output": output} if "output" in self.table.dims else {}
            dispersion = float(self.dispersion.isel(at))
            deviance = float(self.deviance.isel(at))
            name = ""
            if at:
                name = f"output {self.table.output.values[output]}, "
            lines += [f"{name}dispersion {dispersion:.6g}, deviance {deviance:.6g}", *self._lines(self.table.isel(at))]
        return "\n".join(lines)

    __repr__ = __str__

    def _lines(self, table: xr.Dataset) -> list[str]:
        tail = 50 * (1 - self.level)
        kind = self.statistic
        heads = ("coefficient", "std. error", kind, f"P>|{kind}|", f"{tail:.4g}%", f"{100 - tail:.4g}%")
        digits = dict(zip(table.data_vars, (6, 4, 4, 3, 6, 6), strict=True))
        columns = [["", *table.parameter.values]]
        for head, (name, count) in zip(heads, digits.items(), strict=True):
            columns.append([head, *(f"{value:.{count}g}" for value in table[name].values)])
        widths = [max(map(len, column)) for column in columns]
        rows = zip(*columns, strict=True)
        return ["  ".join([f"{row[0]:{widths[0]}}", *map(str.rjust, row[1:], widths[1:])]) for row in rows]


def tabulated(
    run: FitResult,
    names: list[str],
    covariance: np.ndarray,
    totals: tuple[np.ndarray, ...],
    n: float,
    df: float,
    level: float,
) -> Inference:
    """Return coefficients and covariances by name, with tests and intervals."""
    # Not at the top: it takes half a second, and a fit has no need of it.
    from scipy.special import ndtr, ndtri, stdtr, stdtrit

    coefficient = run.parameters[: len(names)]
    error = np.sqrt(np.einsum("qqk->qk", covariance))
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = coefficient / error
    tail = (1.0 - level) / 2.0
    if run.loss.quadratic:
        p_value = 2.0 * stdtr(df, -np.abs(statistic))
        width = -stdtrit(df, tail)
    else:
        p_value = 2.0 * ndtr(-np.abs(statistic))
        width = -ndtri(tail)
    columns = {
        "coefficient": coefficient,
        "standard_error": error,
        "statistic": statistic,
        "p_value": p_value,
        "lower": coefficient - width * error,
        "upper": coefficient + width * error,
    }
    output = tuple(map(str, run.weights.dims[1:]))
    coords: dict[str, Any] = {"parameter": names, "other_parameter": names}
    if output:
        known = "output" in run.weights.coords
        if known:
            coords["output"] = run.weights.coords["output"].values
        else:
            coords["output"] = np.arange(covariance.shape[2])

    def named(a: np.ndarray, *of: str) -> xr.DataArray:
        dims = (*of, *output)
        return xr.DataArray(a if output else a[..., 0], dims=dims, coords={dim: coords[dim] for dim in dims})

    table = xr.Dataset({name: named(column, "parameter") for name, column in columns.items()})
    dispersion, deviance, pearson = (named(total) for total in totals)
    covariances = named(covariance, "parameter", "other_parameter")
    return Inference(table, covariances, dispersion, deviance, pearson, n, df, level, run.loss)
