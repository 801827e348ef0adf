"""Compute standard errors, tests and intervals of a fit's coefficients, from a pass at the solution.

The model is a generalised linear one (McCullagh and Nelder, "Generalized Linear Models", 1989): the coefficients
that maximise its likelihood have the covariance ``dispersion * inverse(sum s h x x^T)``, with h the expected second
derivative of the loss, Fisher's information.
"""

from __future__ import annotations

import inspect
import uuid
from dataclasses import fields, replace
from itertools import count as counted
from typing import Any

import numpy as np

from .. import passes
from ..errors import InvalidArgumentError, InvalidTypeError
from ..kernels.base import EXACT, Request, Sums
from ..kernels.likelihood import Likelihood, LikelihoodSums
from ..kernels.shift import read_shifted, shifted
from ..model.losses import classes_of, likelihood_of
from ..sources import Source, as_source
from ..sources.targets import with_values
from ..worker_env import one_blas_thread
from .features import source_of_fit
from .fit_result import FitResult
from .inference_data import as_in_fit, check_data, differing_roles, parameter_names, refuse_unknown, with_targets
from .inference_levels import AWAY, AWAY_MESSAGE, check_observations, infer_in_parts, infers_in_parts
from .inference_table import Inference, tabulated
from .lazy_weights import described, is_in_blocks, is_lazy

#: Numbers in the covariances of all outputs: of one output with 4096 parameters, 128 MiB.
LARGEST = 4096**2

#: Least eigenvalue of the information scaled to a unit diagonal. Rounding to float64 moves it by about 1e-15, so that
#: from there on standard errors keep three digits. Features that depend on each other but for their own rounding to
#: float32 have eigenvalues as small.
SINGULAR = 1e-12

#: Singular values below this share of the root of SINGULAR are rounding.
SLIGHT = 1e-4


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
    """Compute standard errors, tests and confidence intervals of the coefficients of a fit without a penalty.

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
        The row weights of the fit. A weight repeats its row, as statsmodels' ``freq_weights`` do: n is the sum of the
        weights, and weights twice as large have standard errors smaller by about the root of 2.
    offset : array (n,), optional
        The offset of the fit, which is needed again where the fit had an offset.
    features, target, sample_dims
        Of a Dataset or a data frame; by default those of the fit, as are variables or columns named as weights and
        offset.
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
        For a loss that is no likelihood, a penalty, covariances of more than 128 MiB, data of other features or
        outputs; no more observations than parameters; coefficients that are a tenth of a standard error or more away
        from the optimum of these rows; features whose coefficients the rows do not determine.
    InvalidTypeError
        Where ``run`` is no FitResult, and for an argument that `infer` does not have.
    DataError
        As in `fit`.

    Notes
    -----
    ``covariance = dispersion * inverse(sum_i s_i h_i [x_i 1]^T [x_i 1])``, where h is the expected second derivative of
    the loss with respect to ``z = x w + b``, Fisher's information. The dispersion is 1 for logistic and Poisson
    losses, else Pearson's statistic by ``n - q`` (McCullagh and Nelder, "Generalized Linear Models", 1989). This
    takes the variance's dependence on the mean, and the rows' independence, from the model: there are no robust or
    clustered standard errors.

    Of rows with factors of very many levels the largest factor is eliminated from the information: the table has the
    coefficients of all else, numbers and other factors' levels (numbers alone where these are more than 4,096), with
    the errors that they have beside its levels; of its levels there are none. Those of the intercept, and of levels
    that the rows do not determine, are NaN, see `docs/levels.md`.

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
    # Check the arguments, and that the data are those of the fit.
    if unknown:
        # The last parameter takes whatever is unknown.
        *known, _ = inspect.signature(infer).parameters
        refuse_unknown(next(iter(unknown)), known)
    _check_run(run, level)
    if is_lazy(run.weights):
        run = replace(run, weights=run.weights.compute())
    arguments = {
        "sample_weight": sample_weight,
        "offset": offset,
        "features": features,
        "target": target,
        "sample_dims": sample_dims,
    }
    rows = with_values(as_source(x, y, **as_in_fit(run, x, y, arguments), nan=nan))
    rows = source_of_fit(rows, run.encoding, run.column_names, "infer")
    columns = {field.name: getattr(rows, field.name) for field in fields(rows)}
    source: Source = InDoubles(**columns)
    if source.present is not None:
        run = with_targets(run, list(source.present.columns))
    check_data(run, source)
    if infers_in_parts(run, source):
        return infer_in_parts(run, source, level)
    _check_size(run)
    # Sum over the rows at the fit's parameters.
    names = parameter_names(run, source)
    source = passes.persist(source)
    try:
        found, shift = _sums_at(run, source)
    finally:
        passes.unpersist(source)
    sums = found.at_query
    check_observations(sums.weight, len(names))
    assert sums.curvature is not None
    if not (np.isfinite(sums.curvature).all() and np.isfinite(sums.gradient).all()):
        raise InvalidArgumentError(AWAY_MESSAGE.format("the loss is not finite", run.reason, ""))
    # The dispersion of the logistic loss and of Poisson's is known, as others may be; else it is estimated.
    df = sums.weight - len(names)
    if likelihood_of(run.loss) == "known dispersion":
        dispersion = np.ones(source.outputs or 1)
    else:
        dispersion = found.pearson / df
    with one_blas_thread():
        inverse, step, noise = _normal_equations(sums, shifted(run.parameters, shift), shift, names)
    # Only at the optimum of these rows do standard errors follow from the information.
    error = np.sqrt(dispersion * np.einsum("qqk->qk", inverse))
    is_away = np.abs(step) > AWAY * error + noise
    if is_away.any():
        i, output = np.argwhere(is_away)[0]
        distance = abs(step[i, output] / error[i, output])
        finding = f"a step to it moves the coefficient of {names[i]} by {distance:.2g} standard errors"
        raise InvalidArgumentError(AWAY_MESSAGE.format(finding, run.reason, differing_roles(run, source)))
    return tabulated(
        run,
        names,
        covariance=dispersion * _unshifted(inverse, shift),
        totals=(dispersion, found.deviance, found.pearson),
        n=sums.weight,
        df=df,
        level=level,
    )


def _sums_at(run: FitResult, source: Source) -> tuple[LikelihoodSums, np.ndarray | None]:
    """Return the sums at the fit's parameters, always with an intercept, and the shift that they were taken with."""
    key = f"infer-{uuid.uuid4().hex[:8]}"
    pass_numbers = counted()

    def read(query: np.ndarray, shift: np.ndarray | None) -> LikelihoodSums:
        request = Request(EXACT, moments=True, shift=shift, kernel=Likelihood())
        return passes.evaluate(source, query, run.loss, request, key, next(pass_numbers))

    return read_shifted(read, run.parameters[:, :, None], None, source.row_format)


def _normal_equations(
    sums: Sums, parameters: np.ndarray, shift: np.ndarray | None, names: list[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the inverse of the information (q, q, k), the step to the optimum (q, k), and its rounding (q, k).

    All belong to the rows less the shift, as do the parameters (p + 1, k).
    """
    assert sums.curvature is not None
    p = len(parameters) - 1
    k = parameters.shape[1]
    # The ties map the parameters of the fit to those of the rows less the shift, which always have an intercept: in a
    # fit without an intercept, it is the contribution of the shift.
    ties = np.eye(p + 1, len(names))
    if shift is not None and len(names) == p:
        ties[p] = shift
    informations = np.moveaxis(sums.curvature, 2, 0)
    solved = [inverted(information, ties, names) for information in informations]
    # A quadratic loss has a single information for all outputs.
    repeats = k // len(informations)
    inverse = np.stack([matrix for matrix, _ in solved], axis=2).repeat(repeats, axis=2)
    # A step of Newton's method leads to the optimum.
    step = np.einsum("qrk,rk->qk", inverse, ties.T @ sums.gradient[:, :, 0])
    # Rounding of predictions and sums moves the step by this much: where the residuals are 0, there is nothing else.
    information = np.broadcast_to(sums.curvature, (p + 1, p + 1, k))
    squares = np.einsum("qk,qrk,rk->k", parameters, information, parameters)
    unit = 8 * np.finfo(float).eps * np.sqrt(squares)
    sizes = np.stack([size for _, size in solved], axis=1).repeat(repeats, axis=1)
    noise = unit * np.einsum("qrk,rk->qk", np.abs(inverse), sizes)
    return inverse, step, noise


def _unshifted(covariance: np.ndarray, shift: np.ndarray | None) -> np.ndarray:
    """Return the covariance (q, q, k) for the rows as they are from the covariance for the rows less the shift.

    Both are the same without an intercept, since no other parameter depends on the shift.
    """
    q = len(covariance)
    if shift is None or q == len(shift):
        return covariance
    back = np.eye(q)
    back[-1, :-1] = -shift
    return np.einsum("ai,ijk,bj->abk", back, covariance, back)


class InDoubles(Source):
    """A source whose products are taken in float64: the inverse of float32 sums has too few digits."""

    @property
    def dtype(self) -> np.dtype:
        """Float64, whatever the dtype of the features."""
        return np.dtype(float)


def inverted(information: np.ndarray, ties: np.ndarray, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the inverse (q, q) of ``ties^T information ties``, whatever the units, and the roots of its diagonal (q,).

    The product is never formed: columns far from 0 without an intercept are nearly multiples of each other, and the
    singular values of a factor of it have twice as many digits.

    Raises
    ------
    InvalidArgumentError
        Where there is no inverse; it names the parameters.
    """
    # Factor the information, scaled to a unit diagonal.
    root = np.sqrt(np.diagonal(information))
    unit = np.where(root > 0, root, 1.0)
    values, vectors = np.linalg.eigh(information / np.outer(unit, unit))
    values = np.where(values > SINGULAR, values, 0.0)
    factor = (np.sqrt(values)[:, None] * vectors.T * root) @ ties
    # Columns of the factor that are 0, or a combination of the others, leave parameters undetermined.
    size = np.sqrt((factor**2).sum(axis=0))
    if (size == 0).any():
        _refuse_undetermined(names, size == 0)
    _, singular, right = np.linalg.svd(factor / size, full_matrices=False)
    if singular[-1] <= np.sqrt(SINGULAR) * SLIGHT:
        shares = np.abs(right[-1])
        _refuse_undetermined(names, shares > 0.1 * shares.max())
    inverse = (right.T / singular**2) @ right / np.outer(size, size)
    return inverse, size


def _refuse_undetermined(names: list[str], is_undetermined: np.ndarray) -> None:
    """Refuse rows that do not determine these coefficients, and name the first of them."""
    undetermined = [names[i] for i in np.flatnonzero(is_undetermined)]
    shown = ", ".join(undetermined[:10])
    if len(undetermined) > 10:
        shown += f" and {len(undetermined) - 10} more"
    raise InvalidArgumentError(
        f"infer: these rows do not determine the coefficients of {shown}: a combination of them is constant (0 without "
        "an intercept), or so nearly that rounding hides the rest. Leave one of them out and fit again."
    )


def _check_run(run: FitResult, level: float) -> None:
    """Refuse a fit without standard errors, and a level that is no probability."""
    # Only the coefficients of greatest likelihood have these standard errors.
    if not isinstance(run, FitResult):
        raise InvalidTypeError(f"infer(run, x, y): run is a {type(run).__name__}; give the FitResult of dask_gd.fit.")
    if likelihood_of(run.loss) is None or classes_of(run.loss):
        raise InvalidArgumentError(
            "infer: standard errors follow from squared, logistic, poisson, gamma and tweedie losses; "
            f"{run.loss!r} is no likelihood, or not served."
        )
    if run.penalised:
        raise InvalidArgumentError(
            "infer: the fit has a penalty, which draws coefficients to 0, and standard errors hold only for those of "
            "greatest likelihood. Fit with penalty=None."
        )
    if is_in_blocks(run.weights):
        q = len(run.weights) + run.fit_intercept
        raise InvalidArgumentError(
            f"infer: the fit has its weights in blocks, {described(run.weights)}; standard errors need the matrix of "
            f"all of them with each other, {q:,} x {q:,} values. Fit fewer features."
        )
    if not 0 < level < 1:
        raise InvalidArgumentError(f"infer(level={level!r}): a number between 0 and 1, such as 0.95.")


def _check_size(run: FitResult) -> None:
    """Refuse covariances that are too large: each partition has sums of their size."""
    q = len(run.weights) + run.fit_intercept
    k = run.weights.sizes.get("output", 1)
    if q * q * k > LARGEST:
        raise InvalidArgumentError(
            f"infer: covariances of {q:,} parameters for each of {k:,} outputs take {8e-9 * q * q * k:.1f} GB a "
            f"partition; at most {8e-9 * LARGEST:.2f} GB are served. Fit fewer features, or the outputs some at a time."
        )
