"""Attributes of scikit-learn's that take another reading of the rows: they are there for rows in memory only."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy import sparse


class RowsInMemory(NamedTuple):
    """Rows as they were checked: features (n, p), targets (n,) or (n, k), and weights (n,) or None."""

    x: Any
    y: np.ndarray
    weight: np.ndarray | None


def outliers(
    rows: RowsInMemory,
    coef: np.ndarray,
    intercept: Any,
    cut: float,
) -> np.ndarray:
    """Return which residuals are larger than ``cut``, (n,)."""
    residual = np.asarray(rows.y) - (_features(rows) @ coef + intercept)
    return np.abs(residual) > cut


def dual_gap(
    rows: RowsInMemory,
    coef: np.ndarray,
    intercept: np.ndarray,
    *,
    alpha: float,
    l1_ratio: float,
    positive: bool,
) -> np.ndarray:
    """Return how far an elastic net is above the best value of its dual, (k,), for coefficients (k, p).

    The objective is that of the mean over rows. The dual variable is the residual, shrunk until it is feasible (Kim and
    others, 2007, "An interior-point method for large-scale l1-regularized least squares", section III).
    """
    x = _features(rows)
    n = x.shape[0]
    y = np.asarray(rows.y, dtype=float).reshape(n, -1)
    share = np.full(n, 1.0 / n)
    if rows.weight is not None:
        share = rows.weight / rows.weight.sum()

    # The residuals sum to 0 where there is an intercept, and nothing needs to be centred.
    w = coef.T.astype(float)
    fitted = np.asarray(x @ w)
    residual = y - fitted - intercept
    weighted = share[:, None] * residual
    squares = (weighted * residual).sum(axis=0)
    with_target = squares + (weighted * fitted).sum(axis=0)

    # The largest slope of the absolute values that the residual stands for.
    absolute = alpha * l1_ratio
    square = alpha * (1.0 - l1_ratio)
    slope = x.T @ weighted - square * w
    if not positive:
        slope = np.abs(slope)
    largest = slope.max(axis=0, initial=0.0)
    shrunk = np.ones_like(largest)
    np.divide(absolute, largest, out=shrunk, where=largest > absolute)
    gap = 0.5 * (1.0 + shrunk**2) * squares - shrunk * with_target
    gap += absolute * np.abs(w).sum(axis=0) + 0.5 * square * (1.0 + shrunk**2) * (w * w).sum(axis=0)
    return gap


def _features(rows: RowsInMemory) -> Any:
    """Return the features as an array or a sparse matrix, without their names."""
    if sparse.issparse(rows.x):
        return rows.x
    return np.asarray(rows.x)
