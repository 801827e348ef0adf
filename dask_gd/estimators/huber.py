"""Huber's regression, with the scale of the residuals."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from sklearn.exceptions import ConvergenceWarning

from ..cluster import compute
from ..errors import InvalidArgumentError, positive
from ..model.losses import Huber, Squared
from ..model.penalties import L2, Penalty
from ..results.fit_result import FitResult
from ..sources import Source
from ..store.store import Store
from .lazy import to_score
from .regression import Penalised

#: Scales tried at most, and the smallest, as a share of the residuals' size after least squares.
SCALES, SMALLEST = 50, 1e-6
#: A scale is followed by one that is at most so many times as large or small, in logarithms.
FURTHEST = np.log(10.0)
#: Where the scale is found each fit is to a tolerance of 1/so much: an error of its coefficients moves the scale, and
#: that these, several times as far.
SHARPER = 10.0
#: Why a fit ends that has come to its minimum; at another scale one that has not is not asked for.
AT_ITS_MINIMUM = ("converged", "precision", "target_loss")
#: Residuals of this share of the targets are rounding: least squares meets every row.
EXACT = 1e-6


@dataclass(kw_only=True, repr=False, eq=False)
class HuberRegressor(Penalised):
    """Least squares, straight for residuals beyond ``epsilon scale``: with r the residuals, s the row weights,
    ``sum s (scale + H(r / scale) scale) + alpha sum(w^2)`` is minimised, where ``H(u)`` is ``u^2`` up to ``epsilon``
    and ``2 epsilon abs(u) - epsilon^2`` beyond (Huber, "Robust Statistics", 1981, section 7.7).

    The minimum is over the scale too, unless it is given. That takes a fit for each of some scales, each from the
    coefficients of the one before, and a pass over the residuals between: of the best coefficients the objective's
    derivative by the scale, ``1 - mean(min(abs(r) / scale, epsilon)^2)``, increases with the scale, and is 0 at the
    minimum, which the secant method finds. Where more than about half of the rows are met exactly there is none but at
    scale 0; the scale is then a millionth of the size of the residuals that least squares leaves, and 0 where it
    leaves none.

    Other parameters, and the attributes, are those of `dask_gd.estimators.base.Estimator`. Where the scale is found,
    ``n_iter_`` counts the steps of all fits, ``history_`` and ``result_`` are those of the last, and ``store`` is a
    path, with a directory for each fit.

    Parameters
    ----------
    epsilon : float
        In units of the scale; at least 1 where the scale is found.
    alpha : float
        As scikit-learn's, with the sum over rows: it is ``L2(alpha scale / sum s)`` on the mean loss.
    scale : float, optional
        In the target's units; by default it is found.

    Attributes
    ----------
    scale_ : float

    Examples
    --------
    >>> from dask_gd.estimators import HuberRegressor
    >>> x, y = np.arange(10.0)[:, None], np.arange(10.0) + np.tile([0.1, -0.1], 5)
    >>> y[9] = 1000.0
    >>> model = HuberRegressor().fit(x, y)
    >>> model.coef_.round(1).tolist(), round(model.scale_, 1)
    ([1.0], 0.1)
    """

    epsilon: float = 1.35
    alpha: float = 0.0001
    scale: float | None = None

    def _loss(self) -> Any:
        if np.isfinite(self.scale_):
            return Huber(self.epsilon * self.scale_)
        return Squared()

    def _penalty(self, total: Callable[[], float]) -> Penalty:
        if np.isfinite(self.scale_):
            return L2(self.alpha * self.scale_ / total())
        return L2(0.0)

    def _minimise(self, source: Source, start: FitResult | None, store: Any) -> FitResult:
        positive("HuberRegressor", epsilon=self.epsilon)
        if self.scale is not None:
            positive("HuberRegressor", scale=self.scale)
            self.scale_: float = self.scale
            return super()._minimise(source, start, store)
        if self.epsilon < 1:
            raise InvalidArgumentError(f"HuberRegressor(epsilon={self.epsilon!r}): at least 1, or give the scale.")
        if isinstance(store, Store):
            raise InvalidArgumentError("HuberRegressor(store=Store(...)): give its path, or the scale.")
        return self._with_scale(source, start, store)

    def _with_scale(self, source: Source, start: FitResult | None, store: Any) -> FitResult:
        """The fit at the scale where the objective's derivative by it is 0, which is between ``low`` and ``high``."""
        results: list[FitResult] = []
        self._found = False
        self._steps = 0
        tol = SHARPER * self._tolerance(source)

        def fit_at(scale: float, start: FitResult | None) -> FitResult:
            self.scale_ = scale
            own = None
            if store is not None:
                own = Path(store) / f"fit-{len(results):02}"
            results.append(super(HuberRegressor, self)._minimise(source, start, own))
            self._steps = sum(result.n_iter for result in results)
            return results[-1]

        if start is None or self.scale_ == 0:
            start = fit_at(np.inf, None)
            if start.reason not in AT_ITS_MINIMUM:
                return start
            first, scale = np.sqrt(2 * np.maximum(start.history.loss.values[[0, -1]], 0.0)).tolist()
            if scale <= EXACT * first:
                self.scale_ = 0.0
                self._found = True
                return start
        else:
            scale = self.scale_
        low = 0.0
        high = np.inf
        least = SMALLEST * scale
        points = []
        for _ in range(SCALES):
            start = fit_at(scale, start)
            ratio = self._clipped(source, start)
            low, high = (scale, high) if ratio > 1 else (low, scale)
            # The last two: there is none, and rounding lets it be no nearer.
            self._found = abs(1 - ratio) <= tol or high == least or high - low <= tol * low
            if self._found or start.reason not in AT_ITS_MINIMUM:
                break
            points.append(np.log([scale, max(ratio, np.finfo(float).tiny)]))
            scale = self._next(points, low, high, least)
        else:
            warnings.warn(
                f"HuberRegressor tried {SCALES} scales, and the derivative by it is still {1 - ratio:.1e}; scale_ is "
                "the last. Give the scale, or raise tol.",
                ConvergenceWarning,
                stacklevel=5,
            )
        return start

    def _take(self, result: FitResult, source: Source) -> None:
        super()._take(result, source)
        if self.scale is None:
            self.n_iter_ = self._steps
            steep = float(result.history.grad_norm[-1])
            self.converged_ = self._found and steep <= SHARPER * self._tolerance(source)

    def _tolerance(self, source: Source) -> float:
        return super()._tolerance(source) / (SHARPER if self.scale is None else 1.0)

    def _next(self, points: list[np.ndarray], low: float, high: float, least: float) -> float:
        """The scale to try after these, by the secant of the ratio's logarithm against the scale's.

        Above the minimum that bends the way that keeps the secant from leading too far.
        """
        (_, last), slope = points[-1], -2.0
        if len(points) > 1:
            (a, at_a), (b, at_b) = points[-2:]
            slope = (at_b - at_a) / (b - a)
        scale = 0.0
        if slope < 0:
            scale = np.exp(points[-1][0] - np.clip(last / slope, -FURTHEST, FURTHEST))
        if not low < scale < high:
            if low > 0 and high < np.inf:
                scale = np.sqrt(low * high)
            else:
                scale = np.exp(points[-1][0] + last / 2)
        return max(least, float(scale))

    def _clipped(self, source: Source, result: FitResult) -> float:
        """``mean(min(abs(r) / scale, epsilon)^2)`` at these coefficients: 1 at the best scale, less above it."""
        prediction, y, weight = to_score(source, result.predict(source), None, None)
        size = da.fabs((y - prediction).astype(float)) / self.scale_
        weight = da.where(da.isnan(size), 0.0, 1.0 if weight is None else weight)  # those rows are left out
        near = da.where(size <= self.epsilon, size, self.epsilon)
        clipped, total = compute((weight * near**2).sum(), weight.sum(), what="the scale")
        return float(clipped) / float(total)
