"""Tabulate coefficients with their standard errors, tests and intervals: the result of `infer`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from ..model.losses import Loss
from ..validate import choose
from .covariance_type import KINDS, CovarianceType
from .fit_result import FitResult
from .goodness import Goodness
from .hypotheses import contrast, table_columns, wald_test

INTERCEPT = "(intercept)"


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
    null_deviance : xarray.DataArray
        The deviance of the model without features, the mean of the targets for all rows; of least squares without an
        intercept 0 for all rows. NaN where there is an offset.
    log_likelihood, null_log_likelihood : xarray.DataArray
        Of the model, and of that without features, with the dispersion of the model; of least squares each with the
        variance that maximises it. statsmodels' ``llf`` and ``llnull``. NaN for a Tweedie loss between Poisson's and
        Gamma's, for a likelihood of your own without a method ``log_likelihood_of``, and for analytic weights where the
        dispersion is estimated.
    n : float
        Observations: the sum of the row weights, or the rows where weights are analytic.
    degrees_of_freedom : float
        Of the residuals: n less the number of parameters of an output.
    level : float
        Of the intervals.
    loss : Loss
    cov_type : str
        The kind of the covariance.
    t_degrees_of_freedom : float or None
        Of Student's t, by which tests and intervals are; None where they are by the normal distribution.
    has_intercept : bool
        Whether the model has one.
    """

    table: xr.Dataset
    covariance: xr.DataArray
    dispersion: xr.DataArray
    deviance: xr.DataArray
    pearson: xr.DataArray
    null_deviance: xr.DataArray
    log_likelihood: xr.DataArray
    null_log_likelihood: xr.DataArray
    n: float
    degrees_of_freedom: float
    level: float
    loss: Loss
    cov_type: str = "nonrobust"
    t_degrees_of_freedom: float | None = None
    has_intercept: bool = True

    @property
    def statistic(self) -> str:
        """Name of the distribution if a coefficient is 0: "t", Student's, or "z", the normal."""
        if self.t_degrees_of_freedom is None:
            return "z"
        return "t"

    @property
    def aic(self) -> xr.DataArray:
        """Akaike's criterion, ``-2 log_likelihood + 2 q``, of q coefficients (Akaike, 1974)."""
        return -2.0 * self.log_likelihood + 2.0 * self._q

    @property
    def bic(self) -> xr.DataArray:
        """Schwarz's criterion, ``-2 log_likelihood + q log n`` (Schwarz, 1978); statsmodels' ``bic_llf``."""
        return -2.0 * self.log_likelihood + np.log(self.n) * self._q

    @property
    def rsquared(self) -> xr.DataArray:
        """``1 - deviance / null_deviance``: of the squared loss R^2, else the share of the deviance explained."""
        return 1.0 - self.deviance / self.null_deviance

    @property
    def rsquared_adj(self) -> xr.DataArray:
        """``1 - (1 - rsquared) (n - 1) / (n - q)``, or with n in place of n - 1 without an intercept."""
        return 1.0 - (1.0 - self.rsquared) * (self.n - self.has_intercept) / self.degrees_of_freedom

    @property
    def _q(self) -> float:
        """Number of coefficients of an output, those that the table has not included."""
        return self.n - self.degrees_of_freedom

    def pseudo_rsquared(self, kind: str = "cs") -> xr.DataArray:
        """Return the pseudo R^2 of the log likelihoods.

        Parameters
        ----------
        kind : {"cs", "mcf"}
            "cs" is ``1 - exp(2 (null - full) / n)`` (Cox and Snell, 1989), "mcf" ``1 - full / null`` (McFadden, 1974).

        Returns
        -------
        xarray.DataArray
            Dims () or ("output",).

        Raises
        ------
        InvalidArgumentError
            For another kind.

        Examples
        --------
        >>> x, y = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0.0, 1.0, 0.0, 1.0])
        >>> result = dask_gd.infer(dask_gd.fit(x, y, loss="logistic"), x, y)
        >>> float(result.pseudo_rsquared("mcf").round(4))
        0.1533
        """
        choose("kind", kind, {"cs": None, "mcf": None})
        if kind == "mcf":
            return 1.0 - self.log_likelihood / self.null_log_likelihood
        gain = self.log_likelihood - self.null_log_likelihood
        return 1.0 - xr.apply_ufunc(np.exp, -2.0 / self.n * gain)

    def wald_test(self, hypothesis: Any, value: Any = 0.0) -> xr.Dataset:
        """Test whether combinations of coefficients all have given values (Wald, 1943).

        Parameters
        ----------
        hypothesis : array (r, q) or (q,), or list of str
            The combinations, a row each, or names of parameters.
        value : float or array (r,)
            Their values.

        Returns
        -------
        xarray.Dataset
            Over "output" if there is such a dimension: ``statistic``, ``p_value``, ``df`` (r) and ``df_residual``. The
            statistic is F of r and ``t_degrees_of_freedom`` where tests are by Student's t, else chi-squared of r.

        Raises
        ------
        InvalidArgumentError
            For unknown names, another number of columns, combinations that depend on each other, and for combinations
            whose covariance is indefinite or not known.

        Examples
        --------
        >>> x, y = np.array([[0.0, 1], [1, 0], [2, 3], [3, 1], [4, 2]]), np.array([1.0, 2.0, 4.0, 5.0, 5.0])
        >>> result = dask_gd.infer(dask_gd.fit(x, y), x, y)
        >>> result.wald_test(["x0", "x1"]).p_value.round(4).item()
        0.0691
        """
        return wald_test(self, hypothesis, value)

    def contrast(self, combination: Any) -> xr.Dataset:
        """Return the estimate of a combination of coefficients, with its error, test and interval.

        Parameters
        ----------
        combination : dict, array (q,) or array (r, q)
            Factors by the names of parameters, or of all parameters; of several combinations a row each.

        Returns
        -------
        xarray.Dataset
            The variables of ``table``, over "contrast" if there are several, and over "output".

        Raises
        ------
        InvalidArgumentError
            For unknown names, and another number of columns.

        Examples
        --------
        >>> x, y = np.array([[0.0, 1], [1, 0], [2, 3], [3, 1], [4, 2]]), np.array([1.0, 2.0, 4.0, 5.0, 5.0])
        >>> result = dask_gd.infer(dask_gd.fit(x, y), x, y)
        >>> found = result.contrast({"x0": 1, "x1": -1})
        >>> float(found.coefficient.round(4)), float(found.standard_error.round(4))
        (0.8279, 0.4741)
        """
        return contrast(self, combination)

    def to_dataframe(self) -> Any:
        """Return the table as a pandas frame, a row for each parameter, or for each output and parameter.

        Examples
        --------
        >>> x, y = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([1.0, 2.0, 4.0, 5.0])
        >>> frame = dask_gd.infer(dask_gd.fit(x, y), x, y).to_dataframe()
        >>> float(frame.loc["x0", "standard_error"].round(4))
        0.1414
        """
        order = ["parameter"]
        if "output" in self.table.dims:
            order = ["output", "parameter"]
        return self.table.to_dataframe(dim_order=order)

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
    dispersion: np.ndarray,
    goodness: Goodness,
    n: float,
    df: float,
    level: float,
    kind: CovarianceType,
    t_df: float | None,
    coefficient: np.ndarray | None = None,
) -> Inference:
    """Return coefficients and covariances by name, with tests and intervals.

    ``t_df`` are the degrees of freedom of Student's t, None for the normal distribution. The coefficients (q, k) are by
    default the first of the fit.
    """
    if coefficient is None:
        coefficient = run.parameters[: len(names)]
    error = np.sqrt(np.einsum("qqk->qk", covariance))
    columns = table_columns(coefficient, error, t_df, level)
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

    return Inference(
        table=xr.Dataset({name: labelled(column, "parameter") for name, column in columns.items()}),
        covariance=labelled(covariance, "parameter", "other_parameter"),
        dispersion=labelled(dispersion),
        **{name: labelled(values) for name, values in goodness._asdict().items()},
        n=n,
        degrees_of_freedom=df,
        level=level,
        loss=run.loss,
        cov_type=kind.kind,
        t_degrees_of_freedom=t_df,
        has_intercept=run.fit_intercept,
    )
