"""How well a model fits: its log likelihood, and that of a model without features, from the sums of `infer`'s pass."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..model.losses import likelihood_of
from ..sources import Source
from .covariance_type import CovarianceType
from .fit_result import FitResult


class Goodness(NamedTuple):
    """What says how well a model fits, (k,) each; NaN where it is not known."""

    deviance: np.ndarray
    pearson: np.ndarray
    null_deviance: np.ndarray
    log_likelihood: np.ndarray
    null_log_likelihood: np.ndarray


def goodness_of(
    run: FitResult,
    source: Source,
    sums: Any,
    dispersion: np.ndarray,
    n: float,
    kind: CovarianceType,
) -> Goodness:
    """Return how well a fit to these rows fits, from the sums at its parameters."""
    statistics = sums.statistics
    null_deviance = _null_deviance(run, source, sums)
    has_weights = "weight" in source.by_role

    # Analytic weights are part of each row's dispersion, which only the rows know.
    is_known = likelihood_of(run.loss) == "known dispersion"
    of_sums = getattr(run.loss, "log_likelihood_of", None)
    if of_sums is None or (kind.analytic and has_weights and not is_known):
        of_sums = _unknown
    return Goodness(
        deviance=statistics.deviance,
        pearson=statistics.pearson,
        null_deviance=null_deviance,
        log_likelihood=of_sums(statistics.deviance, statistics.base, n, dispersion),
        null_log_likelihood=of_sums(null_deviance, statistics.base, n, dispersion),
    )


def _unknown(deviance: np.ndarray, *others: Any) -> np.ndarray:
    """Return NaN for each output."""
    return np.full(len(deviance), np.nan)


def _null_deviance(run: FitResult, source: Source, sums: Any) -> np.ndarray:
    """Return the deviance of the mean for all rows, or of 0 for all rows of least squares without an intercept.

    The loss of a mean m is ``c(y) - c(m) - c'(m) (y - m)`` with c what the loss has of the target alone, a divergence
    of Bregman's, so that losses of the targets' own mean add up to the sum of ``c(y)`` less that of c of the mean
    (Banerjee, Merugu, Dhillon and Ghosh, "Clustering with Bregman divergences", 2005).
    """
    statistics = sums.statistics
    if source.offset is not None:
        return _unknown(statistics.deviance)
    weight = sums.at_query.weight
    mean = sums.at_query.moments.targets / weight
    if run.loss.quadratic:
        # About a constant near the targets, where squares keep their digits.
        center = statistics.constant
        if not run.fit_intercept:
            center = statistics.constant - mean
            return 2.0 * statistics.saturated + weight * (mean**2 - center**2)
        return 2.0 * statistics.saturated - weight * (mean - center) ** 2
    saturated = getattr(run.loss, "saturated", _unknown)
    return 2.0 * (statistics.saturated - weight * saturated(mean))
