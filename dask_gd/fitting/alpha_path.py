"""The alphas of a path: from the least with which every weight is 0 downwards."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .. import passes
from ..kernels.base import Request, Sums
from ..kernels.shift import read_shifted, shifted
from ..model.penalties import L1, ElasticNet
from ..solvers.objective import Quadratic
from .fit import fit
from .grid import Candidate
from .shared import Shared

#: A strength with which every weight is 0.
ALL_BUT_INFINITE = 1e100


def scale_path(shared: Shared, start: np.ndarray) -> None:
    """Multiply the alphas with the least alpha that makes every weight 0.

    That is the largest slope of the mean loss by a weight, where all are 0 and the intercept is the best, over
    l1_ratio (Friedman, Hastie and Tibshirani, 2010, "Regularization paths for generalized linear models via
    coordinate descent", section 2.5).
    """
    if shared.loss.quadratic:
        shared.begin(start)
        slope = _slope_of_quadratic(shared, start)
        weight = shared.all_rows.weight
    else:
        slope, weight = _slope_with_intercept(shared, start)
    largest = float(np.abs(slope).max() / weight)
    shared.candidates = [_scale(candidate, largest) for candidate in shared.candidates]


def _slope_of_quadratic(shared: Shared, start: np.ndarray) -> np.ndarray:
    """Return the slope of a squared loss by the weights where these are 0, (p, k), from the first pass."""
    p = shared.source.shape[1]
    at_start = Quadratic(shifted(start, shared.shift), shared.all_rows)
    sums = at_start(np.zeros_like(start))
    assert sums.curvature is not None
    h = sums.curvature[:, :, 0]
    g = sums.gradient[:, :, 0]
    # At the best intercept, which is linear in the weights.
    intercept = g[p:] / h[p:, p:].reshape(-1, 1)
    return g[:p] - h[:p, p:] @ intercept


def _slope_with_intercept(shared: Shared, start: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the slope of a loss by the weights where these are 0, (p, k), and the weight of the rows.

    A fit with a penalty that keeps every weight at 0 has the best intercept.
    """
    p = shared.source.shape[1]
    run = fit(
        shared.source,
        loss=shared.loss,
        penalty=L1(ALL_BUT_INFINITE),
        fit_intercept=shared.fit_intercept,
        tol=shared.tol,
    )
    query = np.zeros_like(start)
    query[p:] = run.parameters[p : len(start), :, None]

    def read(query: np.ndarray, shift: np.ndarray | None) -> Sums:
        request = Request(moments=True, shift=shift)
        # Numbers that no pass of the search has.
        step = -1
        if shift is not None:
            step = -2
        return passes.evaluate(shared.source, query, shared.loss, request, shared.name, step)

    sums, _ = read_shifted(read, query, None, p, shared.source.dtype)
    return sums.gradient[:p, :, 0], sums.weight


def _scale(candidate: Candidate, largest: float) -> Candidate:
    """Return a candidate of a path, with its share of the least alpha that makes every weight 0."""
    assert candidate.alpha is not None
    assert candidate.l1_ratio is not None
    alpha = candidate.alpha * largest / candidate.l1_ratio
    penalty = ElasticNet(alpha, candidate.l1_ratio)
    return replace(candidate, alpha=alpha, penalty=penalty)
