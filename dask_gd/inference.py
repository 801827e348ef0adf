"""Standard errors, tests and intervals of a fit's coefficients, from one pass at the solution.

The model is a generalised linear one (McCullagh and Nelder, "Generalized Linear Models", 1989): the coefficients
that maximise its likelihood have the covariance ``dispersion * inverse(sum s h x x^T)``, with h the expected second
derivative of the loss, Fisher's information.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from . import passes
from .errors import InvalidArgumentError, InvalidTypeError
from .losses import Logistic, Loss, Squared, Tweedie
from .process import one_blas_thread
from .result import FitResult
from .sources import Source, as_source
from .stats import EXACT, Needs

#: Numbers in the covariances of all outputs: of one output with 4096 parameters, 128 MiB.
LARGEST = 4096**2

#: Least eigenvalue of the information scaled to a unit diagonal. Rounding to float64 moves it by some 1e-15, so that
#: from there on standard errors keep three digits; of features that depend on each other but for their own rounding to
#: float32 it is as small.
SINGULAR = 1e-12

#: Standard errors by which the optimum may be away: a test or an interval would not show it.
AWAY = 0.1

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
            dispersion, deviance = float(self.dispersion.isel(at)), float(self.deviance.isel(at))
            name = f"output {self.table.output.values[output]}, " if at else ""
            lines += [f"{name}dispersion {dispersion:.6g}, deviance {deviance:.6g}", *self._lines(self.table.isel(at))]
        return "\n".join(lines)

    __repr__ = __str__

    def _lines(self, table: xr.Dataset) -> list[str]:
        tail, kind = 50 * (1 - self.level), self.statistic
        heads = ("coefficient", "std. error", kind, f"P>|{kind}|", f"{tail:.4g}%", f"{100 - tail:.4g}%")
        digits = dict(zip(table.data_vars, (6, 4, 4, 3, 6, 6), strict=True))
        columns = [["", *table.parameter.values]]
        for head, (name, count) in zip(heads, digits.items(), strict=True):
            columns.append([head, *(f"{value:.{count}g}" for value in table[name].values)])
        widths = [max(map(len, column)) for column in columns]
        rows = zip(*columns, strict=True)
        return ["  ".join([f"{row[0]:{widths[0]}}", *map(str.rjust, row[1:], widths[1:])]) for row in rows]


def infer(
    run: FitResult, x: Any, y: Any = None, sample_weight: Any = None, *, level: float = 0.95, **data: Any
) -> Inference:
    """Standard errors, tests and confidence intervals of the coefficients of a fit without a penalty.

    Takes one pass over the rows of the fit. The numbers are those of statsmodels: of ``OLS`` for the squared loss,
    with Student's t of ``n - q`` degrees of freedom (q parameters), of ``GLM`` with the normal distribution for
    logistic, Poisson, Gamma and Tweedie losses.

    Parameters
    ----------
    run : FitResult
        With loss "squared", "logistic", "poisson", "gamma" or "tweedie" and ``penalty=None``.
    x : Source or array (n, p)
    y : array (n,) or (n, k)
        The data of the fit, of any kind that `fit` takes. Leave y out with a Source.
    sample_weight : array (n,), optional
        Those of the fit. A weight repeats its row, as statsmodels' ``freq_weights`` do: n is the sum of the weights,
        and weights twice as large have standard errors smaller by about the root of 2.
    data
        ``features``, ``target``, ``sample_dims`` and ``nan``, those of the fit.
    level : float
        How often intervals hold the true coefficient, between 0 and 1.

    Returns
    -------
    Inference

    Raises
    ------
    InvalidArgumentError
        A loss that is no likelihood, a penalty, covariances of more than 128 MiB, data of other features or outputs;
        no more observations than parameters; coefficients that are a tenth of a standard error or more away from the
        optimum of these rows; features whose coefficients the rows do not determine.
    InvalidTypeError
        Where ``run`` is no FitResult.
    DataError
        As in `fit`.

    Notes
    -----
    ``covariance = dispersion * inverse(sum_i s_i h_i [x_i 1]^T [x_i 1])``, where h is the expected second derivative of
    the loss with respect to ``z = x w + b``, Fisher's information. The dispersion is 1 for logistic and Poisson
    losses, else Pearson's statistic by ``n - q`` (McCullagh and Nelder, "Generalized Linear Models", 1989). This
    takes the variance's dependence on the mean, and the rows' independence, from the model.

    Products are taken in float64, also of float32 features.

    Examples
    --------
    >>> x = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> y = np.array([1.0, 2.0, 4.0, 5.0])
    >>> result = dask_gd.infer(dask_gd.fit(x, y), x, y)
    >>> print(result)
    Squared() loss, 4 observations, 2 degrees of freedom
    dispersion 0.1, deviance 0.2
                 coefficient  std. error      t   P>|t|       2.5%    97.5%
    x0                   1.4      0.1414  9.899  0.0101   0.791513  2.00849
    (intercept)          0.9      0.2646  3.402  0.0766  -0.238375  2.03837
    >>> float(result.table.standard_error.sel(parameter="x0").round(6))
    0.141421
    """
    _check_run(run, level)
    source: Source = InDoubles(**vars(as_source(x, y, sample_weight, **data)))
    _check_data(run, source)
    p, k = source.shape[1], source.outputs or 1
    q, parameters = p + run.fit_intercept, run.parameters
    names = _names(run, source)
    query = np.repeat(parameters[:, :, None], SUMMED, axis=2)
    needs = Needs(curvature=EXACT, scale=True)
    source = passes.hold(source)
    try:
        sums = passes.evaluate(source, query, AtOptimum(run.loss), needs, f"infer-{uuid.uuid4().hex[:8]}", 0)
    finally:
        passes.let_go(source)
    if not sums.weight > q:
        raise InvalidArgumentError(
            f"infer: {sums.weight:g} observations (the sum of the row weights) for {q} parameters; there must be more "
            "observations than parameters. A row weight counts repetitions of its row."
        )
    assert sums.curvature is not None
    information, score = sums.curvature[:q, :q], sums.gradient[:q, :, 0]
    deviance, pearson = sums.gradient[p, :, 1], sums.gradient[p, :, 2]
    if not (np.isfinite(information).all() and np.isfinite(score).all()):
        raise InvalidArgumentError(_AWAY.format("the loss is not finite", run.reason))
    known = isinstance(run.loss, Logistic) or run.loss == Tweedie(1.0)
    df = sums.weight - q
    dispersion = np.ones(k) if known else pearson / df
    with one_blas_thread():
        # A quadratic loss has one information for all outputs.
        inverse = np.stack([inverted(matrix, names) for matrix in np.moveaxis(information, 2, 0)], axis=2)
        information, inverse = (np.broadcast_to(matrix, (q, q, k)) for matrix in (information, inverse))
        step = np.einsum("qrk,rk->qk", inverse, score)
        noise = _noise(information, inverse, parameters[:q])
    covariance = dispersion * inverse
    error = np.sqrt(np.einsum("qqk->qk", covariance))
    away = np.abs(step) > AWAY * error + noise
    if away.any():
        i, output = np.argwhere(away)[0]
        found = f"a step to it moves the coefficient of {names[i]} by {abs(step[i, output] / error[i, output]):.2g}"
        raise InvalidArgumentError(_AWAY.format(f"{found} standard errors", run.reason))
    return _tabulated(run, names, covariance, (dispersion, deviance, pearson), sums.weight, df, level)


_AWAY = (
    "infer: the coefficients are not at the optimum of these rows: {}. The fit ended with the reason {!r}. Give the "
    "rows and row weights of the fit; if they are, fit again with a smaller tol or a larger max_iter, or float32 "
    "features in float64."
)

#: What `AtOptimum` sums.
SUMMED = 3


class InDoubles(Source):
    """A source whose products are taken in float64: the inverse of float32 sums has too few digits."""

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(float)


class AtOptimum:
    """A loss as the kernel sees it in the one pass of `infer`: sums over rows, for each output.

    The curvature is the expected one. Every candidate has the same parameters and, for a slope, something else to be
    summed: the slope, the deviance, Pearson's residual squared. Their plain sums over the rows are in the
    intercept's row of the gradient, which is therefore always asked for.
    """

    def __init__(self, loss: Loss):
        self.loss, self.name, self.targets = loss, loss.name, loss.targets
        self.quadratic, self.smooth, self.curvature_bound = loss.quadratic, loss.smooth, loss.curvature_bound
        self.inverse_link, self.link = loss.inverse_link, loss.link
        self.bad_target, self.check_target_mean = loss.bad_target, loss.check_target_mean

    def value_and_slope(self, z: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The loss, (n, k, 1), and what to sum, (n, k, SUMMED)."""
        z = z[:, :, :1]
        value, slope = self.loss.value_and_slope(z, y)
        # Slope and information are both divided by the variance: (mean - y) mean' / V and mean'^2 / V. Where no
        # information is left in floating point, the slope is 0 as well, or the residual is beyond all bounds.
        pearson = slope**2 / np.maximum(self.curvature(z, y), np.finfo(float).tiny)
        return value, np.concatenate([slope, 2.0 * value, pearson], axis=2)

    def curvature(self, z: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The expected second derivative: it is linear in the target, and so the one at the target's mean."""
        return self.loss.curvature(z, self.loss.inverse_link(z))


def inverted(information: np.ndarray, names: list[str]) -> np.ndarray:
    """The inverse of a symmetric (q, q) matrix, whatever the units of its rows.

    Raises
    ------
    InvalidArgumentError
        Naming the parameters, where it has none.
    """
    root = np.sqrt(np.diagonal(information))
    if (root == 0).any():
        _refuse_undetermined([name for name, size in zip(names, root, strict=True) if size == 0])
    scale = np.outer(root, root)
    values, vectors = np.linalg.eigh(information / scale)
    if values[0] <= SINGULAR:
        part = np.abs(vectors[:, 0])
        _refuse_undetermined([name for name, size in zip(names, part, strict=True) if size > 0.1 * part.max()])
    return (vectors / values) @ vectors.T / scale


def _refuse_undetermined(names: list[str]) -> None:
    shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    raise InvalidArgumentError(
        f"infer: these rows do not determine the coefficients of {shown}: a combination of them is constant (0 without "
        "an intercept), or so nearly that rounding hides the rest. Leave one of them out and fit again, or "
        "store features that are far from 0 beside their spread centred."
    )


def _noise(information: np.ndarray, inverse: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    """What rounding of predictions and sums may do to a step, (q, k): all there is where the residuals are 0."""
    size = np.sqrt(np.einsum("qk,qrk,rk->k", parameters, information, parameters))
    unit = 8 * np.finfo(float).eps * size
    return unit * np.einsum("qrk,rk->qk", np.abs(inverse), np.sqrt(np.einsum("qqk->qk", information)))


def _check_run(run: FitResult, level: float) -> None:
    if not isinstance(run, FitResult):
        raise InvalidTypeError(f"infer(run, x, y): run is a {type(run).__name__}; give the FitResult of dask_gd.fit.")
    if not isinstance(run.loss, Squared | Logistic | Tweedie):
        raise InvalidArgumentError(
            "infer: standard errors follow from squared, logistic, poisson, gamma and tweedie losses; "
            f"{run.loss!r} is no likelihood, or not served."
        )
    if run.penalised:
        raise InvalidArgumentError(
            "infer: the fit has a penalty, which draws coefficients to 0, and standard errors hold only for those of "
            "greatest likelihood. Fit with penalty=None."
        )
    if not 0 < level < 1:
        raise InvalidArgumentError(f"infer(level={level!r}): a number between 0 and 1, such as 0.95.")
    q, k = len(run.weights) + run.fit_intercept, run.weights.sizes.get("output", 1)
    if q * q * k > LARGEST:
        raise InvalidArgumentError(
            f"infer: covariances of {q:,} parameters for each of {k:,} outputs take {8e-9 * q * q * k:.1f} GB a "
            f"partition; at most {8e-9 * LARGEST:.2f} GB are served. Fit fewer features, or the outputs some at a time."
        )


def _check_data(run: FitResult, source: Source) -> None:
    fitted = (len(run.weights), run.weights.sizes.get("output"))
    found = (source.shape[1], source.outputs)
    for what, was, now in zip(("features", "columns of the target"), fitted, found, strict=True):
        if was != now:
            raise InvalidArgumentError(
                f"infer: the fit had {was or 1} {what}, these data have {now or 1}; give the data of the fit."
            )
    for dim, names in (("feature", source.feature_names), ("output", source.output_names)):
        if names is not None and dim in run.weights.coords:
            known = run.weights.coords[dim].values.tolist()
            for i, (was, now) in enumerate(zip(known, names, strict=True)):
                if was != now:
                    raise InvalidArgumentError(
                        f"infer: {dim} {i} is named {now!r} but the fit had {was!r} there; give the data of the fit."
                    )


def _names(run: FitResult, source: Source) -> list[str]:
    """Of the parameters, the intercept last."""
    if "feature" in run.weights.coords:
        names = run.weights.coords["feature"].values.tolist()
    else:
        names = list(source.feature_names or (f"x{i}" for i in range(source.shape[1])))
    return [*names, INTERCEPT] if run.fit_intercept else names


def _tabulated(
    run: FitResult,
    names: list[str],
    covariance: np.ndarray,
    totals: tuple[np.ndarray, ...],
    n: float,
    df: float,
    level: float,
) -> Inference:
    """Named, with tests and intervals."""
    # Not at the top: it takes half a second, and a fit has no need of it.
    from scipy.special import ndtr, ndtri, stdtr, stdtrit

    coefficient, error = run.parameters[: len(names)], np.sqrt(np.einsum("qqk->qk", covariance))
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = coefficient / error
    tail = (1.0 - level) / 2.0
    if run.loss.quadratic:
        p_value, width = 2.0 * stdtr(df, -np.abs(statistic)), -stdtrit(df, tail)
    else:
        p_value, width = 2.0 * ndtr(-np.abs(statistic)), -ndtri(tail)
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
        coords["output"] = run.weights.coords["output"].values if known else np.arange(covariance.shape[2])

    def named(a: np.ndarray, *of: str) -> xr.DataArray:
        dims = (*of, *output)
        return xr.DataArray(a if output else a[..., 0], dims=dims, coords={dim: coords[dim] for dim in dims})

    table = xr.Dataset({name: named(column, "parameter") for name, column in columns.items()})
    dispersion, deviance, pearson = (named(total) for total in totals)
    covariances = named(covariance, "parameter", "other_parameter")
    return Inference(table, covariances, dispersion, deviance, pearson, n, df, level, run.loss)
