"""Standard errors, tests and intervals of a fit's coefficients, from one pass at the solution.

The model is a generalised linear one (McCullagh and Nelder, "Generalized Linear Models", 1989): the coefficients
that maximise its likelihood have the covariance ``dispersion * inverse(sum s h x x^T)``, with h the expected second
derivative of the loss, Fisher's information.
"""

from __future__ import annotations

import difflib
import inspect
import uuid
from dataclasses import fields, replace
from itertools import count as counted
from typing import Any

import numpy as np
import xarray as xr

from .. import passes
from ..errors import InvalidArgumentError, InvalidTypeError
from ..kernels.base import EXACT, Request, Sums
from ..kernels.shift import read_shifted, shifted
from ..model.losses import Logistic, Loss, Squared, Tweedie
from ..names import default_name
from ..sources import Source, as_source
from ..sources.targets import with_values
from ..worker_env import one_blas_thread
from .fit_result import FitResult
from .inference_table import INTERCEPT, Inference, tabulated

#: Numbers in the covariances of all outputs: of one output with 4096 parameters, 128 MiB.
LARGEST = 4096**2

#: Least eigenvalue of the information scaled to a unit diagonal. Rounding to float64 moves it by some 1e-15, so that
#: from there on standard errors keep three digits; of features that depend on each other but for their own rounding to
#: float32 it is as small.
SINGULAR = 1e-12

#: Singular values below this share of the root of that are rounding.
SLIGHT = 1e-4

#: Standard errors by which the optimum may be away: a test or an interval would not show it.
AWAY = 0.1


def infer(
    run: FitResult,
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    offset: Any = None,
    features: Any = None,
    target: Any = None,
    sample_dims: Any = None,
    nan: str = "error",
    level: float = 0.95,
    **unknown: Any,
) -> Inference:
    """Standard errors, tests and confidence intervals of the coefficients of a fit without a penalty.

    Takes one pass over the rows of the fit, and a second where columns are far from 0. The numbers are those of
    statsmodels: of ``OLS`` for the squared loss, with Student's t of ``n - q`` degrees of freedom (q parameters), of
    ``GLM`` with the normal distribution for logistic, Poisson, Gamma and Tweedie losses.

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
    offset : array (n,), optional
        That of the fit, which has to be given again where it had one.
    features, target, sample_dims
        Of a Dataset; by default those of the fit, as are variables named as weights and offset.
    nan : {"error", "drop"}
        That of the fit.
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
        Where ``run`` is no FitResult; an argument that there is not.
    DataError
        As in `fit`.

    Notes
    -----
    ``covariance = dispersion * inverse(sum_i s_i h_i [x_i 1]^T [x_i 1])``, where h is the expected second derivative of
    the loss with respect to ``z = x w + b``, Fisher's information. The dispersion is 1 for logistic and Poisson
    losses, else Pearson's statistic by ``n - q`` (McCullagh and Nelder, "Generalized Linear Models", 1989). This
    takes the variance's dependence on the mean, and the rows' independence, from the model: there are no robust or
    clustered standard errors.

    Products are taken in float64, also of float32 features, and of columns far from 0 less their means.

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
    _refuse_unknown(unknown)
    _check_run(run, level)
    given = {"sample_weight": sample_weight, "offset": offset}
    given |= {"features": features, "target": target, "sample_dims": sample_dims}
    rows = with_values(as_source(x, y, **as_in_fit(run, x, given), nan=nan))
    source: Source = InDoubles(**{field.name: getattr(rows, field.name) for field in fields(rows)})
    if source.present is not None:
        run = with_targets(run, list(source.present.columns))
    _check_data(run, source)
    p = source.shape[1]
    k = source.outputs or 1
    parameters = run.parameters
    names = _names(run, source)
    source = passes.persist(source)
    try:
        sums, shift = _sums_at(run, source)
    finally:
        passes.unpersist(source)
    if not sums.weight > len(names):
        raise InvalidArgumentError(
            f"infer: {sums.weight:g} observations (the sum of the row weights) for {len(names)} parameters; there must "
            "be more observations than parameters. A row weight counts repetitions of its row."
        )
    assert sums.curvature is not None
    deviance = sums.gradient[p, :, 1]
    pearson = sums.gradient[p, :, 2]
    if not (np.isfinite(sums.curvature).all() and np.isfinite(sums.gradient[:, :, 0]).all()):
        raise InvalidArgumentError(_AWAY.format("the loss is not finite", run.reason, ""))
    known = isinstance(run.loss, Logistic) or run.loss == Tweedie(1.0)
    df = sums.weight - len(names)
    if known:
        dispersion = np.ones(k)
    else:
        dispersion = pearson / df
    with one_blas_thread():
        inverse, step, noise = _normal_equations(sums, shifted(parameters, shift), shift, names)
    error = np.sqrt(dispersion * np.einsum("qqk->qk", inverse))
    away = np.abs(step) > AWAY * error + noise
    if away.any():
        i, output = np.argwhere(away)[0]
        found = f"a step to it moves the coefficient of {names[i]} by {abs(step[i, output] / error[i, output]):.2g}"
        raise InvalidArgumentError(_AWAY.format(f"{found} standard errors", run.reason, _lacking(run, source)))
    covariance = dispersion * _unshifted(inverse, shift)
    return tabulated(run, names, covariance, (dispersion, deviance, pearson), sums.weight, df, level)


def _sums_at(run: FitResult, source: Source) -> tuple[Sums, np.ndarray | None]:
    """Return the sums at the fit's parameters, always with an intercept, and the shift that they were taken with."""
    key = f"infer-{uuid.uuid4().hex[:8]}"
    steps = counted()

    def read(query: np.ndarray, shift: np.ndarray | None) -> Sums:
        query = np.repeat(query, SUMMED, axis=2)
        request = Request(EXACT, moments=True, shift=shift)
        return passes.evaluate(source, query, AtOptimum(run.loss), request, key, next(steps))

    return read_shifted(read, run.parameters[:, :, None], None, source.shape[1], source.dtype)


def _normal_equations(
    sums: Sums, parameters: np.ndarray, shift: np.ndarray | None, names: list[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the inverse of the information (q, q, k), the step to the optimum (q, k), and its rounding (q, k).

    All are of the rows less the shift, whose parameters (p + 1, k) are given.
    """
    assert sums.curvature is not None
    p = len(parameters) - 1
    k = parameters.shape[1]
    # Without an intercept its place is taken by what the shift contributes: of the parameters as they are those of rows
    # less it, with an intercept.
    ties = np.eye(p + 1, len(names))
    if shift is not None and len(names) == p:
        ties[p] = shift
    informations = np.moveaxis(sums.curvature, 2, 0)
    # A quadratic loss has one information for all outputs.
    solved = [inverted(information, ties, names) for information in informations] * (k // len(informations))
    inverse = np.stack([a for a, _ in solved], axis=2)
    step = np.einsum("qrk,rk->qk", inverse, ties.T @ sums.gradient[:, :, 0])
    # What rounding of predictions and sums may do to a step: all there is where the residuals are 0.
    information = np.broadcast_to(sums.curvature, (p + 1, p + 1, k))
    unit = 8 * np.finfo(float).eps * np.sqrt(np.einsum("qk,qrk,rk->k", parameters, information, parameters))
    sizes = np.stack([size for _, size in solved], axis=1)
    return inverse, step, unit * np.einsum("qrk,rk->qk", np.abs(inverse), sizes)


def _unshifted(covariance: np.ndarray, shift: np.ndarray | None) -> np.ndarray:
    """Return a covariance (q, q, k) of parameters of the rows less the shift as that of those of the rows as they are.

    It is the same without an intercept, which alone depends on where the rows begin.
    """
    q = len(covariance)
    if shift is None or q == len(shift):
        return covariance
    back = np.eye(q)
    back[-1, :-1] = -shift
    return np.einsum("ai,ijk,bj->abk", back, covariance, back)


def _refuse_unknown(unknown: dict[str, Any]) -> None:
    """Refuse arguments that there are not, and say what there is."""
    if not unknown:
        return
    name = next(iter(unknown))
    known = list(inspect.signature(infer).parameters)[:-1]
    near = difflib.get_close_matches(name, known, 1)
    hint = ""
    if near:
        hint = f" Did you mean {near[0]!r}?"
    if name.startswith("cov"):
        hint = " Standard errors are those of the model; robust and clustered ones are not served."
    raise InvalidTypeError(f"infer({name}=...): there is no such argument.{hint} It takes {', '.join(known)}.")


def as_in_fit(run: FitResult, x: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Return what `as_source` takes: what is given, and of a Dataset else what the fit had.

    Raises
    ------
    InvalidArgumentError
        Where the fit had an offset, and there is none.
    """
    given = dict(given)
    if isinstance(x, xr.Dataset):
        features = None
        if "feature" in run.weights.coords:
            features = run.weights.coords["feature"].values.tolist()
        before = {**run.roles, "features": features, "sample_dims": run.sample_dims}
        for name, value in before.items():
            if given.get(name) is None and value is not True:
                given[name] = value
    has_own = isinstance(x, Source) and x.offset is not None
    if "offset" in run.roles and given["offset"] is None and not has_own:
        raise InvalidArgumentError(
            "infer: the fit had an offset, and its coefficients are those of the rest: give it again, offset=..."
        )
    return given


def _lacking(run: FitResult, source: Source) -> str:
    """Return what the fit had and these data have not, or the other way round, in words."""
    if not run.roles:
        return ""
    lacking = [role for role in run.roles if role not in source.roles]
    added = [role for role in source.roles if role not in run.roles]
    found = [f" The fit had {role}, these data have none." for role in lacking]
    return "".join(found + [f" The fit had no {role}." for role in added])


_AWAY = (
    "infer: the coefficients are not at the optimum of these rows: {}. The fit ended with the reason {!r}. Give the "
    "rows, row weights and offset of the fit; if they are, fit again with a smaller tol or a larger max_iter, or "
    "float32 features in float64.{}"
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
        self.loss = loss
        self.name = loss.name
        self.targets = loss.targets
        self.quadratic = loss.quadratic
        self.smooth = loss.smooth
        self.curvature_bound = loss.curvature_bound
        self.inverse_link = loss.inverse_link
        self.link = loss.link
        self.bad_target = loss.bad_target
        self.check_target_mean = loss.check_target_mean

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


def inverted(information: np.ndarray, ties: np.ndarray, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the inverse (q, q) of ``ties^T information ties``, whatever the units, and the roots of its diagonal (q,).

    The product is never formed: columns far from 0 without an intercept are nearly multiples of each other, and the
    singular values of a factor of it have twice as many digits.

    Raises
    ------
    InvalidArgumentError
        Naming the parameters, where there is none.
    """
    root = np.sqrt(np.diagonal(information))
    unit = np.where(root > 0, root, 1.0)
    values, vectors = np.linalg.eigh(information / np.outer(unit, unit))
    values = np.where(values > SINGULAR, values, 0.0)
    factor = (np.sqrt(values)[:, None] * vectors.T * root) @ ties
    size = np.sqrt((factor**2).sum(axis=0))
    if (size == 0).any():
        _refuse_undetermined([name for name, length in zip(names, size, strict=True) if length == 0])
    _, singular, right = np.linalg.svd(factor / size, full_matrices=False)
    if singular[-1] <= np.sqrt(SINGULAR) * SLIGHT:
        part = np.abs(right[-1])
        _refuse_undetermined([name for name, share in zip(names, part, strict=True) if share > 0.1 * part.max()])
    return (right.T / singular**2) @ right / np.outer(size, size), size


def _refuse_undetermined(names: list[str]) -> None:
    shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    raise InvalidArgumentError(
        f"infer: these rows do not determine the coefficients of {shown}: a combination of them is constant (0 without "
        "an intercept), or so nearly that rounding hides the rest. Leave one of them out and fit again."
    )


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
    q = len(run.weights) + run.fit_intercept
    k = run.weights.sizes.get("output", 1)
    if q * q * k > LARGEST:
        raise InvalidArgumentError(
            f"infer: covariances of {q:,} parameters for each of {k:,} outputs take {8e-9 * q * q * k:.1f} GB a "
            f"partition; at most {8e-9 * LARGEST:.2f} GB are served. Fit fewer features, or the outputs some at a time."
        )


def with_targets(run: FitResult, columns: list[int]) -> FitResult:
    """Return a fit with some of its targets only, numbered as before where they have no names."""
    if "output" in run.weights.coords:
        known = run.weights.coords["output"].values
    else:
        known = np.arange(run.weights.shape[1])
    weights, intercept = (
        a.isel(output=columns).assign_coords(output=known[columns]) for a in (run.weights, run.intercept)
    )
    return replace(run, weights=weights, intercept=intercept)


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
        names = list(source.feature_names or map(default_name, range(source.shape[1])))
    if run.fit_intercept:
        return [*names, INTERCEPT]
    return names
