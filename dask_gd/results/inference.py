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
from typing import Any, NamedTuple

import numpy as np

from .. import passes
from ..errors import InvalidArgumentError, InvalidTypeError
from ..kernels.base import EXACT, KernelSpec, Request
from ..kernels.likelihood import Likelihood
from ..kernels.shift import read_shifted, shifted
from ..model.losses import classes_of, likelihood_of
from ..sources import Source, as_source
from ..sources.targets import with_values
from ..worker_env import one_blas_thread
from .cell_fit import CellFit
from .cell_inference import infer_cells
from .covariance_type import CovarianceType, covariance_type
from .features import source_of_fit
from .fit_result import FitResult
from .goodness import goodness_of
from .inference_data import as_in_fit, check_data, differing_roles, parameter_names, refuse_unknown, with_targets
from .inference_levels import (
    AWAY,
    AWAY_MESSAGE,
    check_observations,
    infer_in_parts,
    infers_in_parts,
    observations,
)
from .inference_table import tabulated
from .information import NormalEquations, normal_equations, unshifted
from .lazy_weights import described, is_in_blocks, is_lazy
from .robust import likelihood_with, prepared, sandwich, terms_of, with_leverages

#: Numbers in the covariances of all outputs: of one output with 4096 parameters, 128 MiB.
LARGEST = 4096**2


def infer(
    run: Any,
    x: Any = None,
    y: Any = None,
    sample_weight: Any = None,
    *,
    offset: Any = None,
    features: Any = None,
    target: Any = None,
    sample_dims: Any = None,
    nan: str = "error",
    level: float = 0.95,
    cov_type: str = "nonrobust",
    groups: Any = None,
    maxlags: int | None = None,
    time: Any = None,
    cov_kwds: dict[str, Any] | None = None,
    use_t: bool | None = None,
    small_sample: str = "statsmodels",
    weights: str = "frequency",
    **unknown: Any,
) -> Any:
    """Compute standard errors, tests and confidence intervals of the coefficients of a fit without a penalty.

    Takes one pass over the rows of the fit; a second where columns are far from 0, and for HC2 and HC3. The numbers
    are those of statsmodels: of ``OLS`` for the squared loss, by default with Student's t of ``n - q`` degrees of
    freedom (q parameters), of ``GLM`` with the normal distribution for logistic, Poisson, Gamma and Tweedie losses.

    Parameters
    ----------
    run : FitResult, CellFit or fitted estimator
        With loss "squared", "logistic", "poisson", "gamma" or "tweedie" and ``penalty=None``. The result of a fit with
        a model for each cell knows all that is needed: no data is to be given.
    x : Source or array (n, p)
    y : array (n,) or (n, k)
        The data of the fit, of any kind that `fit` takes; the classes of a classifier as 0 and 1. Leave y out with a
        Source.
    sample_weight : array (n,), optional
        The row weights of the fit, see ``weights``.
    offset : array (n,), optional
        The offset of the fit, which is needed again where the fit had an offset.
    features, target, sample_dims
        Of a Dataset or a data frame; by default those of the fit, as are variables or columns named as weights and
        offset.
    nan : {"error", "drop"}
        That of the fit.
    level : float
        How often intervals hold the true coefficient, between 0 and 1.
    cov_type : {"nonrobust", "HC0", "HC1", "HC2", "HC3", "cluster", "HAC"}
        What errors are robust to: nothing but what the model says; variances that are not those of the model; rows that
        depend on each other within groups; rows in time that depend on those up to ``maxlags`` before.
    groups : array (n,), str, or list of several
        For "cluster": the group of each row, told by numbers, strings or dates; the name of a column of the frame, of a
        variable of the Dataset (which may have some of the sample dimensions), or of an array beside the features of a
        Zarr group. At most four of them; of several, rows depend on each other if they are together in any.
    maxlags : int
        For "HAC": the largest lag, in rows, or in points in time.
    time : array (n,) or str
        For "HAC" with several rows at a time: the points in time, told like groups. Lags are then counted in points
        that occur, in the order of their values.
    cov_kwds : dict, optional
        statsmodels' way to give ``groups``, ``maxlags`` and ``time``, and ``use_correction``: True or False for the
        factor of small samples where statsmodels leaves it out or takes it.
    use_t : bool, optional
        Whether tests are by Student's t, of ``n - q`` degrees of freedom, or by groups or points in time one less than
        there are of these (the fewest of several groupings). By default, as in statsmodels, only for a squared loss and
        "nonrobust".
    small_sample : {"statsmodels", "fixest"}
        Whose factors of covariances, and distribution, are the default. The table in `docs/inference.md` has both.
    weights : {"frequency", "analytic"}
        What row weights are. "frequency": a weight repeats its row, as statsmodels' ``freq_weights`` do; n is the sum
        of the weights, and weights twice as large have standard errors smaller by about the root of 2. "analytic": the
        inverse of the row's variance, but for a factor, as statsmodels' ``WLS`` and ``var_weights`` take it; n is the
        number of rows.

    Returns
    -------
    Inference, or xarray.Dataset
        Of a fit with a model for each cell a Dataset over "parameter" and the cells, with the variables of
        `Inference.table`; lazy where the fit is.

    Raises
    ------
    InvalidArgumentError
        For a loss that is no likelihood, a penalty, covariances of more than 128 MiB, data of other features or
        outputs; no more observations than parameters; coefficients that are a tenth of a standard error or more away
        from the optimum of these rows; features whose coefficients the rows do not determine. For an unknown
        ``cov_type``, arguments that do not go with it, a single group, groups of another length, as many lags as rows,
        and sums by group that workers have no memory for: ``8 q k`` bytes a group in a few copies.
    InvalidTypeError
        Where ``run`` is no result of a fit, for an argument that `infer` does not have, and for groups that cannot be
        compared with each other.
    DataError
        As in `fit`, and where a row has no group.

    Warns
    -----
    IndefiniteWarning
        Where the covariance by several groupings has a negative variance of some combination of coefficients. Of a
        coefficient itself, negative eigenvalues are set to 0; else the covariance is as it is.

    Notes
    -----
    "nonrobust": ``covariance = dispersion * inverse(sum_i s_i h_i [x_i 1]^T [x_i 1])``, where h is the expected second
    derivative of the loss with respect to ``z = x w + b``, Fisher's information. The dispersion is 1 for logistic and
    Poisson losses, else Pearson's statistic by ``n - q`` (McCullagh and Nelder, "Generalized Linear Models", 1989).
    This takes the variance's dependence on the mean, and the rows' independence, from the model.

    All others: ``covariance = inverse(H) M inverse(H)``, where H has the second derivative at the targets themselves,
    and M is what scores ``u_i = s_i dL/dz [x_i 1]`` vary by:

    - HC0, HC1: ``sum_i u_i u_i^T`` (White, 1980), HC1 with the factor ``n / (n - q)`` for the squared loss. A weight
      that repeats its row counts so many scores.
    - HC2, HC3: the same by ``1 - leverage_i``, or by its square (MacKinnon and White, 1985).
    - "cluster": ``sum_g U_g U_g^T`` with the sums of scores of each group (Liang and Zeger, 1986), with the factor
      ``G / (G - 1) (n - 1) / (n - q)``. Of several columns the sums by each, less those by each pair of columns, and so
      on (Cameron, Gelbach and Miller, "Robust inference with multiway clustering", 2011).
    - "HAC": ``sum_{|i - j| <= maxlags} (1 - |i - j| / (maxlags + 1)) u_i u_j^T`` (Newey and West, 1987); with ``time``
      the same of the sums of scores at each point in time (Driscoll and Kraay, 1998). Rows are in their order, and rows
      that are left out leave no gap.

    Of rows with factors of very many levels the largest factor is eliminated from the information: the table has the
    coefficients of all else, numbers and other factors' levels (numbers alone where these are more than 4,096), with
    the errors that they have beside its levels; of its levels there are none. Those of the intercept, and of levels
    that the rows do not determine, are NaN, see `docs/levels.md`. Robust errors are refused there.

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

    Errors that are robust to unequal variances:

    >>> robust = dask_gd.infer(dask_gd.fit(x, y), x, y, cov_type="HC1")
    >>> float(robust.table.standard_error.sel(parameter="x0").round(6)), robust.statistic
    (0.084853, 'z')
    """
    # Check the arguments, and that the data are those of the fit.
    if unknown:
        # The last parameter takes whatever is unknown.
        *known, _ = inspect.signature(infer).parameters
        refuse_unknown(next(iter(unknown)), known)
    # A fitted estimator has the result of its fit.
    run = getattr(run, "result_", run)
    if isinstance(run, CellFit):
        if x is not None or y is not None:
            raise InvalidArgumentError("infer(run): a fit by cell knows all that is needed; give no data.")
        if cov_type != "nonrobust":
            raise InvalidArgumentError(
                f"infer(cov_type={cov_type!r}): the standard errors of a fit by cell are those of the model, "
                "cov_type='nonrobust'."
            )
        return infer_cells(run, level)
    _check_run(run, level)
    if x is None:
        raise InvalidArgumentError("infer(run, x, y): give the rows of the fit, which its result does not hold.")
    kind = covariance_type(
        cov_type,
        cov_kwds,
        {"groups": groups, "maxlags": maxlags, "time": time},
        use_t=use_t,
        small_sample=small_sample,
        weights=weights,
    )
    arguments = {
        "sample_weight": sample_weight,
        "offset": offset,
        "features": features,
        "target": target,
        "sample_dims": sample_dims,
    }
    run, source = _of_the_same_rows(run, x, y, arguments, nan)
    if infers_in_parts(run, source):
        return infer_in_parts(run, source, level, kind)
    _check_size(run)
    # Sum over the rows at the fit's parameters.
    found = _sums_and_inverses(run, source, x, kind)
    n = observations(found.sums.at_query, kind)
    q = len(found.names)
    is_linear = run.loss.quadratic
    # The dispersion of the logistic loss and of Poisson's is known, as others may be; else it is estimated.
    if likelihood_of(run.loss) == "known dispersion":
        dispersion = np.ones(source.outputs or 1)
    else:
        dispersion = found.sums.statistics.pearson / (n - q)
    covariance = dispersion * found.equations.inverse
    error = np.sqrt(np.einsum("qqk->qk", covariance))
    smallest = 0
    if kind.is_robust:
        terms = terms_of(kind, found.sums.meat, found.signs)
        smallest = min(term.groups for term in terms)
        with one_blas_thread():
            covariance = sandwich(kind, terms, found.equations, n, is_linear)
        error = np.minimum(error, np.sqrt(np.einsum("qqk->qk", covariance)))
    else:
        covariance = kind.factor(n, q, 0, is_linear) * covariance
    _check_optimum(run, source, found, error)
    return tabulated(
        run,
        found.names,
        covariance=unshifted(covariance, found.shift),
        dispersion=dispersion,
        goodness=goodness_of(run, source, found.sums, dispersion, n, kind),
        n=n,
        df=n - q,
        level=level,
        kind=kind,
        t_df=kind.degrees_of_freedom(n, q, smallest, is_linear),
    )


def _of_the_same_rows(
    run: FitResult,
    x: Any,
    y: Any,
    arguments: dict[str, Any],
    nan: str,
) -> tuple[FitResult, Source]:
    """Return a fit with the targets that have values, and the source of its rows, which multiplies in float64."""
    if is_lazy(run.weights):
        run = replace(run, weights=run.weights.compute())
    rows = with_values(as_source(x, y, **as_in_fit(run, x, y, arguments), nan=nan))
    rows = source_of_fit(rows, run.encoding, run.column_names, "infer")
    columns = {field.name: getattr(rows, field.name) for field in fields(rows)}
    source: Source = InDoubles(**columns)
    if source.present is not None:
        run = with_targets(run, list(source.present.columns))
    check_data(run, source)
    return run, source


def _check_optimum(run: FitResult, source: Source, found: Found, error: np.ndarray) -> None:
    """Refuse coefficients that are not at the optimum: only there do standard errors (q, k) follow from the sums."""
    step = found.equations.step
    is_away = np.abs(step) > AWAY * error + found.equations.noise
    if not is_away.any():
        return
    i, output = np.argwhere(is_away)[0]
    distance = abs(step[i, output] / error[i, output])
    finding = f"a step to it moves the coefficient of {found.names[i]} by {distance:.2g} standard errors"
    raise InvalidArgumentError(AWAY_MESSAGE.format(finding, run.reason, differing_roles(run, source)))


class Found(NamedTuple):
    """The sums over the rows at a fit's parameters, and the inverses of the information, of the rows less a shift."""

    sums: Any
    signs: tuple[int, ...]
    equations: NormalEquations
    shift: np.ndarray | None
    names: list[str]


def _sums_and_inverses(run: FitResult, source: Source, x: Any, kind: CovarianceType) -> Found:
    """Return the sums at the fit's parameters, in one pass, or two where rows are weighed by their leverages."""
    q = len(run.weights) + 1
    k = source.outputs or 1
    names = parameter_names(run, source)
    spec: Any = Likelihood()
    signs: tuple[int, ...] = ()
    if kind.is_robust:
        source, meat, signs = prepared(kind, source, x, q, k)
        spec = likelihood_with(kind, meat, q, k)
    source = passes.persist(source)
    try:
        found, shift = _sums_at(run, source, spec)
        sums = found.at_query
        check_observations(observations(sums, kind), len(names), kind)
        if not (np.isfinite(sums.curvature).all() and np.isfinite(sums.gradient).all()):
            raise InvalidArgumentError(AWAY_MESSAGE.format("the loss is not finite", run.reason, ""))
        with one_blas_thread():
            equations = normal_equations(sums, shifted(run.parameters, shift), shift, names)
        # What is weighed by leverages is summed when the information is known.
        second = with_leverages(kind, equations)
        if second is not None:
            spec = likelihood_with(kind, second, q, k)
            found, shift = _sums_at(run, source, spec, shift)
    finally:
        passes.unpersist(source)
    return Found(found, signs, equations, shift, names)


def _sums_at(
    run: FitResult,
    source: Source,
    spec: KernelSpec,
    shift: np.ndarray | None = None,
) -> tuple[Any, np.ndarray | None]:
    """Return the sums at the fit's parameters, always with an intercept, and the shift that they were taken with."""
    key = f"infer-{uuid.uuid4().hex[:8]}"
    pass_numbers = counted()

    def read(query: np.ndarray, shift: np.ndarray | None) -> Any:
        request = Request(EXACT, moments=True, shift=shift, kernel=spec)
        return passes.evaluate(source, query, run.loss, request, key, next(pass_numbers))

    return read_shifted(read, run.parameters[:, :, None], shift, source.row_format)


class InDoubles(Source):
    """A source whose products are taken in float64: the inverse of float32 sums has too few digits."""

    @property
    def dtype(self) -> np.dtype:
        """Float64, whatever the dtype of the features."""
        return np.dtype(float)


def _check_run(run: FitResult, level: float) -> None:
    """Refuse a fit without standard errors, and a level that is no probability."""
    # Only the coefficients of greatest likelihood have these standard errors.
    if not isinstance(run, FitResult):
        raise InvalidTypeError(
            f"infer(run, x, y): run is a {type(run).__name__}; give the FitResult of dask_gd.fit, or an estimator that "
            "is fitted."
        )
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
