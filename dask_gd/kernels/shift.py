"""The shift, which is subtracted from each column before products are taken, so that these keep their digits.

A product of float32 features with a mean of 10,000 spreads keeps three digits of the differences between rows, and in
float64 a curvature of features 3,000,000 spreads from 0 keeps as few. With c near the means nothing is lost:
``x w + b = (x - c) w + (b + c w)``. The data is never rewritten: the kernels subtract c from the rows in the cache.

With an intercept the solvers work with these rows, and with the intercept ``b + c w`` that goes with them: the same
objective at the same weights, as the intercept is not penalised. Without one they see the parameters of the rows as
they are, and the kernels add what c contributes to predictions, gradients and curvatures, in float64.

The first reading of the rows has the moments that tell whether a shift is needed. Only then are they read again, so
that features near 0 cost nothing, and the means are those of all rows that are used, whatever their order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .block import RowFormat
from .sums import Sums

#: Means that are more spreads than this from 0 are shifted. In float32 a gradient has then lost a digit; in float64 a
#: curvature, whose digits go twice as fast, has lost six of sixteen.
FAR = {np.dtype(np.float32): 8.0, np.dtype(np.float64): 1e3}


def shifted(parameters: np.ndarray, shift: np.ndarray | None) -> np.ndarray:
    """Return parameters (q, ...) as those of the rows less the shift (p,), which has an effect on intercepts only."""
    if shift is None or len(parameters) == len(shift):
        return parameters
    p = len(shift)
    parameters = parameters.copy()
    parameters[p] += np.tensordot(shift, parameters[:p], axes=1)
    return parameters


def unshifted(parameters: np.ndarray, shift: np.ndarray | None) -> np.ndarray:
    """Return parameters (q, ...) of the rows less the shift (p,) as those of the rows as they are."""
    if shift is None:
        return parameters
    return shifted(parameters, -shift)


def better_shift(sums: Sums, shift: np.ndarray | None, row_format: RowFormat, fit_intercept: bool) -> np.ndarray | None:
    """Return the shift (p,) to take in place of the present one, or None where the present one serves.

    Where one column's mean, less the present shift, is far from 0 beside its spread, all get their means that are
    more than a spread away; others keep what they have. ``sums`` have moments, of the rows less the present shift, or
    without an intercept of the rows as they are.
    """
    p = row_format.features
    # Without an intercept the curvature is that of the rows as they are, so that in float64 there is nothing to gain.
    gains = row_format.dtype in FAR and (fit_intercept or row_format.dtype == np.float32)
    if not gains or sums.moments is None or not sums.weight > 0:
        return None
    mean = sums.moments.sums[:p] / sums.weight
    mean_square = sums.moments.features[:p] / sums.weight
    is_far, better = shift_of_means(mean, mean_square, shift, row_format, fit_intercept)
    if not is_far:
        return None
    return better


def shift_of_means(
    mean: np.ndarray,
    mean_square: np.ndarray,
    shift: np.ndarray | None,
    row_format: RowFormat,
    fit_intercept: bool,
) -> tuple[bool, np.ndarray]:
    """Return whether a mean is too far from the present shift, and the shift (p,) to take in its place if one is."""
    dtype = row_format.dtype
    present = shift
    if present is None:
        present = np.zeros(row_format.features)

    # How far each mean is from the present shift, and the spread to measure that by.
    spread = np.sqrt(np.maximum(mean_square - mean**2, 0.0))
    away = mean
    if not fit_intercept:
        away = mean - present

    # Of a constant column there may be no more than rounding left, which is no reason for a shift.
    rounding = 4 * np.finfo(dtype).eps * np.abs(present + away)
    counts = row_format.can_shift & np.isfinite(spread) & (np.abs(away) > rounding)
    away = np.where(counts, away, 0.0)
    is_far = bool((np.abs(away) > FAR[dtype] * spread).any())

    # In the dtype of the rows, so that subtracting it from values near it is exact.
    better = np.where(np.abs(away) > spread, present + away, present)
    return is_far, better.astype(dtype).astype(float)


def read_shifted(
    read: Callable[[np.ndarray, np.ndarray | None], Any],
    parameters: np.ndarray,
    shift: np.ndarray | None,
    row_format: RowFormat,
) -> tuple[Any, np.ndarray | None]:
    """Return the sums at these parameters (q, k, m) of the rows as they are, and the shift that they were taken with.

    ``read`` takes the query and a shift, and gives `PartitionSums` with moments at the query. It is called again where
    the shift does not serve.
    """
    sums = read(shifted(parameters, shift), shift)
    # The moments of this reading tell whether products have lost digits.
    fit_intercept = len(parameters) > row_format.features
    better = better_shift(sums.at_query, shift, row_format, fit_intercept)
    if better is None:
        return sums, shift
    sums = read(shifted(parameters, better), better)
    return sums, better
