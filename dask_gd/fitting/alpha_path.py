"""The alphas of a path: from the least with which every weight is 0 downwards."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .. import passes
from ..kernels.base import Request, Sums
from ..kernels.shift import read_shifted, shifted
from ..model.non_negative import NonNegative
from ..model.penalties import L1
from ..solvers.objective import Quadratic
from .fit import fit
from .grid import Candidate
from .search_engine import SearchEngine

#: A strength with which every weight is 0.
ALL_BUT_INFINITE = 1e100


def scale_path(engine: SearchEngine, start: np.ndarray) -> None:
    """Multiply the alphas with the least alpha that makes every weight 0.

    That is the largest slope of the mean loss by a weight, where all are 0 and the intercept is the best, over
    l1_ratio (Friedman, Hastie and Tibshirani, 2010, "Regularization paths for generalized linear models via
    coordinate descent", section 2.5).
    """
    if engine.loss.quadratic:
        engine.begin(start)
        slope = _slope_of_quadratic(engine, start)
        weight = engine.all_rows.weight
    else:
        slope, weight = _slope_with_intercept(engine, start)
    if isinstance(engine.candidates[0].penalty, NonNegative):
        # Weights that may only grow leave 0 where that leads down.
        slope = np.minimum(slope, 0.0)
    largest = float(np.abs(slope).max() / weight)
    engine.candidates = [_scale(candidate, largest) for candidate in engine.candidates]


def _slope_of_quadratic(engine: SearchEngine, start: np.ndarray) -> np.ndarray:
    """Return the slope of a squared loss by the weights where these are 0, (p, k), from the first pass."""
    p = engine.source.shape[1]
    at_start = Quadratic(shifted(start, engine.shift), engine.all_rows)
    sums = at_start(np.zeros_like(start))
    assert sums.curvature is not None
    h = sums.curvature[:, :, 0]
    g = sums.gradient[:, :, 0]
    # At the best intercept, which is linear in the weights.
    intercept = g[p:] / h[p:, p:].reshape(-1, 1)
    return g[:p] - h[:p, p:] @ intercept


def _slope_with_intercept(engine: SearchEngine, start: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the slope of a loss by the weights where these are 0, (p, k), and the weight of the rows.

    A fit with a penalty that keeps every weight at 0 has the best intercept.
    """
    p = engine.source.shape[1]
    run = fit(
        engine.source,
        loss=engine.loss,
        penalty=L1(ALL_BUT_INFINITE),
        fit_intercept=engine.fit_intercept,
        tol=engine.stopping.tol,
    )
    query = np.zeros_like(start)
    query[p:] = run.parameters[p : len(start), :, None]

    def read(query: np.ndarray, shift: np.ndarray | None) -> Sums:
        request = Request(moments=True, shift=shift)
        # Numbers that no pass of the search has.
        step = -1
        if shift is not None:
            step = -2
        return passes.evaluate(engine.source, query, engine.loss, request, engine.name, step)

    sums, _ = read_shifted(read, query, None, engine.source.row_format)
    return sums.gradient[:p, :, 0], sums.weight


def _scale(candidate: Candidate, largest: float) -> Candidate:
    """Return a candidate of a path, with its share of the least alpha that makes every weight 0."""
    assert candidate.alpha is not None
    assert candidate.l1_ratio is not None
    alpha = candidate.alpha * largest / candidate.l1_ratio
    penalty = replace(candidate.penalty, alpha=alpha)  # type: ignore[type-var]
    return replace(candidate, alpha=alpha, penalty=penalty)
