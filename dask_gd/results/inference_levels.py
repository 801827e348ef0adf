"""Compute standard errors beside the levels of a factor that is eliminated, see `solvers.newton.elimination`."""

from __future__ import annotations

import uuid
from itertools import count as counted

import numpy as np

from .. import passes
from ..errors import InvalidArgumentError
from ..kernels.base import Request
from ..kernels.curvature_parts import LikelihoodInParts, LikelihoodSumsInParts, has_parts
from ..kernels.level_counts import marks_of
from ..kernels.shift import read_shifted
from ..kernels.sums import Sums
from ..model.losses import likelihood_of
from ..names import default_name
from ..solvers.newton.elimination import Elimination
from ..sources import Source
from ..worker_env import one_blas_thread
from .covariance_type import CovarianceType
from .fit_result import FitResult
from .goodness import goodness_of
from .inference_data import differing_roles
from .inference_table import INTERCEPT, Inference, tabulated

#: Distance from the optimum, in standard errors, that a test or an interval would not show.
AWAY = 0.1

#: Parameters up to which rows with factors have one information of all of them.
WIDE = 512

#: The share of a coefficient that is rounding, where all residuals are 0.
ROUNDING = 1e-9

AWAY_MESSAGE = (
    "infer: the coefficients are not at the optimum of these rows: {}. The fit ended with the reason {!r}. Give the "
    "rows, row weights and offset of the fit; if they are, fit again with a smaller tol or a larger max_iter, or "
    "float32 features in float64.{}"
)


def infers_in_parts(run: FitResult, source: Source) -> bool:
    """Return whether the largest factor of the rows is eliminated from the information."""
    is_wide = len(run.weights) > WIDE or len(run.dropped_levels) > 0
    return is_wide and has_parts(source.row_format)


def infer_in_parts(run: FitResult, source: Source, level: float, kind: CovarianceType) -> Inference:
    """Return the coefficients of all but the largest factor, with their errors; see `inference.infer`."""
    if kind.is_robust:
        raise InvalidArgumentError(
            f"infer(cov_type={kind.kind!r}): these factors have more than {WIDE} levels, or levels that were left out, "
            "and the largest factor is eliminated from the information. Robust errors need all of it. Pool rare levels "
            "(dask_gd.Categories(min_frequency=...)), or take cov_type='nonrobust'."
        )
    if run.weights.ndim > 1:
        raise InvalidArgumentError("infer: beside factors of very many levels there may be a single output.")
    # The sums at the coefficients, which count as 0 where a level was left out.
    p = len(run.weights)
    parameters = np.nan_to_num(run.parameters[: p + run.fit_intercept])
    source = passes.persist(source)
    try:
        found, shift = _sums_at(run, source, parameters)
    finally:
        passes.unpersist(source)
    sums = found.at_query
    if not (np.isfinite(sums.gradient).all() and np.isfinite(found.parts.numbers).all()):
        raise InvalidArgumentError(AWAY_MESSAGE.format("the loss is not finite", run.reason, ""))
    # The inverse of the information, and a step of Newton's method.
    with one_blas_thread():
        system = Elimination(found.parts, np.zeros(len(parameters)))
        rank = system.rank
        features, inverse = system.inverse()
        step = system.solve(sums.gradient[:, :, 0])[features, 0]
    n = observations(sums, kind)
    check_observations(n, rank, kind)
    # The dispersion is known, or estimated by Pearson's statistic.
    df = n - rank
    dispersion = found.statistics.pearson / df
    if likelihood_of(run.loss) == "known dispersion":
        dispersion = np.ones(1)

    # In order of the features, and of the rows as they are: the intercept follows from the shift.
    order = np.argsort(features)
    features = features[order]
    inverse = inverse[np.ix_(order, order)]
    if shift is not None and run.fit_intercept:
        back = np.eye(len(features))
        back[-1, :-1] = -shift[features[:-1]]
        unknown = np.isnan(np.diagonal(inverse))
        known = np.where(np.isnan(inverse), 0.0, inverse)
        inverse = back @ known @ back.T
        inverse[unknown] = np.nan
        inverse[:, unknown] = np.nan
    # An error tells nothing of coefficients that are not at the optimum.
    names = _names(run, source, features)
    coefficient = parameters[features]
    error = np.sqrt(dispersion * np.diagonal(inverse))
    distance = np.abs(step[order])
    is_away = distance > AWAY * error + ROUNDING * np.abs(coefficient[:, 0])
    if is_away.any():
        i = int(np.argmax(is_away))
        finding = f"a step to it moves the coefficient of {names[i]} by {distance[i] / error[i]:.2g} standard errors"
        raise InvalidArgumentError(AWAY_MESSAGE.format(finding, run.reason, differing_roles(run, source)))
    return tabulated(
        run,
        names,
        covariance=kind.factor(n, rank, 0, run.loss.quadratic) * (dispersion * inverse)[:, :, None],
        dispersion=dispersion,
        goodness=goodness_of(run, source, found, dispersion, n, kind),
        n=n,
        df=df,
        level=level,
        kind=kind,
        t_df=kind.degrees_of_freedom(n, rank, 0, run.loss.quadratic),
        coefficient=coefficient,
    )


def observations(sums: Sums, kind: CovarianceType) -> float:
    """Return the number of observations: the sum of weights that repeat rows, or else the number of rows."""
    if kind.analytic:
        return float(sums.rows)
    return sums.weight


def check_observations(n: float, parameters: int, kind: CovarianceType) -> None:
    """Refuse no more observations than parameters."""
    if n > parameters:
        return
    what = "the sum of the row weights"
    advice = " A row weight counts repetitions of its row; weights='analytic' says that it does not."
    if kind.analytic:
        what = "the rows"
        advice = ""
    raise InvalidArgumentError(
        f"infer: {n:g} observations ({what}) for {parameters} parameters; there must be more observations than "
        f"parameters.{advice}"
    )


def _sums_at(run: FitResult, source: Source, parameters: np.ndarray) -> tuple[LikelihoodSumsInParts, np.ndarray | None]:
    """Return the sums at the fit's parameters (q, 1), and the shift that they were taken with."""
    key = f"infer-{uuid.uuid4().hex[:8]}"
    pass_numbers = counted()
    left_out = None
    if len(run.dropped_levels):
        left_out = marks_of(source.row_format, run.dropped_levels)  # type: ignore[arg-type]

    def read(query: np.ndarray, shift: np.ndarray | None) -> LikelihoodSumsInParts:
        request = Request(
            moments=True,
            shift=shift,
            kernel=LikelihoodInParts(),
            left_out=left_out,
        )
        return passes.evaluate(source, query, run.loss, request, key, next(pass_numbers))

    return read_shifted(read, parameters[:, :, None], None, source.row_format)


def _names(run: FitResult, source: Source, features: np.ndarray) -> list[str]:
    """Return the names of features, of which the intercept is the last."""
    p = len(run.weights)
    of_features = features[features < p].tolist()
    if "feature" in run.weights.coords:
        names = run.weights.coords["feature"].values[of_features].tolist()
    elif source.feature_names is not None:
        names = [source.feature_names[i] for i in of_features]
    else:
        names = [default_name(i) for i in of_features]
    if len(of_features) < len(features):
        return [*names, INTERCEPT]
    return names
