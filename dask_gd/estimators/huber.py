"""Huber's regression, with the scale of the residuals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from sklearn.exceptions import ConvergenceWarning

from ..cluster import compute
from ..errors import InvalidArgumentError, warn
from ..model.losses import Huber, Squared
from ..model.penalties import L2, Penalty
from ..results.fit_result import FitResult
from ..sources import Source
from ..sources.levels_in_fit import with_all_levels
from ..store.store import Store
from ..validate import positive
from .lazy import to_score
from .of_rows import outliers
from .regression import Penalised

#: The number of scales that are tried at most.
SCALES = 50
#: The smallest scale, as a share of the residuals' size after least squares.
SMALLEST = 1e-6
#: The largest change from a scale to the next, a factor of 10, in logarithms.
FURTHEST = np.log(10.0)
#: The divisor of the tolerance of each fit where the scale is found. An error of the coefficients moves the scale, and
#: the scale moves the coefficients several times as far.
SHARPER = 10.0
#: The reasons for which a fit ends at its minimum. If it ends elsewhere, no other scale is tried.
AT_ITS_MINIMUM = ("converged", "precision", "target_loss")
#: Residuals of this share of the targets are rounding: least squares meets every row.
ROUNDING = 1e-6


def residual_size(least_squares: FitResult) -> float:
    """Return the root mean square of the residuals of a fit of least squares; 0 where they are rounding."""
    losses = least_squares.history.loss.values[[0, -1]]
    target_size, size = np.sqrt(2 * np.maximum(losses, 0.0)).tolist()
    if size <= ROUNDING * target_size:
        return 0.0
    return size


@dataclass(kw_only=True, repr=False, eq=False)
class HuberRegressor(Penalised):
    """Least squares near the prediction, a straight line for residuals beyond ``epsilon scale``.

    It minimises ``sum s (scale + H(r / scale) scale) + alpha sum(w^2)``; r are the residuals and s the row weights.
    ``H(u)`` is ``u^2`` up to ``epsilon`` and ``2 epsilon abs(u) - epsilon^2`` beyond (Huber, "Robust Statistics", 1981,
    section 7.7).

    The minimum is over the scale too, unless ``scale`` is set. That takes a sequence of fits at different scales, each
    from the coefficients of the last fit, and a pass over the residuals between two fits. At the best coefficients the
    objective's derivative by the scale, ``1 - mean(min(abs(r) / scale, epsilon)^2)``, increases with the scale. It is 0
    at the minimum, which the secant method finds. Where more than about half of the rows are met exactly there is no
    minimum but at scale 0. The scale is then a millionth of the size of the residuals of least squares, and 0 where
    least squares leaves no residuals.

    Other parameters, and the attributes, are those of `dask_gd.estimators.base.Estimator`. Where the scale is found,
    ``n_iter_`` counts the steps of all fits, ``history_`` and ``result_`` are those of the last fit, and ``store`` is a
    path, with a directory for each fit.

    Parameters
    ----------
    epsilon : float
        In units of the scale; at least 1 where the scale is found.
    alpha : float
        As scikit-learn's, with the sum over rows: it is ``L2(alpha scale / sum s)`` on the mean loss.
    scale : float, optional
        In the target's units; by default the scale of the minimum is found.

    Attributes
    ----------
    scale_ : float
    outliers_ : array of bool (n,)
        The rows beyond ``epsilon scale_``, for rows in memory only.

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
        """Return the loss at the scale; at an infinite scale it is least squares."""
        if np.isfinite(self.scale_):
            return Huber(self.epsilon * self.scale_)
        return Squared()

    def _penalty(self, total: Callable[[], float]) -> Penalty:
        if np.isfinite(self.scale_):
            return L2(self.alpha * self.scale_ / total())
        return L2(0.0)

    def _minimise(
        self,
        source: Source,
        start: FitResult | None,
        store: Any,
    ) -> FitResult:
        """Return the fit at ``scale``, or at the scale of the minimum."""
        positive("HuberRegressor", epsilon=self.epsilon)
        if self.scale is not None:
            positive("HuberRegressor", scale=self.scale)
            self.scale_: float = self.scale
            return super()._minimise(source, start, store)
        # With a smaller epsilon the derivative by the scale is above 0 at every scale.
        if self.epsilon < 1:
            raise InvalidArgumentError(f"HuberRegressor(epsilon={self.epsilon!r}): at least 1, or give the scale.")
        # A store has a single fit in it.
        if isinstance(store, Store):
            raise InvalidArgumentError("HuberRegressor(store=Store(...)): give its path, or the scale.")
        return self._minimise_over_scale(source, start, store)

    def _minimise_over_scale(
        self,
        source: Source,
        start: FitResult | None,
        store: Any,
    ) -> FitResult:
        """Return the fit at the scale where the objective's derivative by the scale is 0."""
        results: list[FitResult] = []
        self._is_at_minimum = False
        self._total_steps = 0
        tol = SHARPER * self._tolerance(source)
        # At an infinite scale there is no penalty, and the fits that follow begin there.
        if self.alpha:
            source = with_all_levels(source)

        def fit_at(scale: float, start: FitResult | None) -> FitResult:
            """Return the fit at a scale, with a store of its own, and count its steps."""
            self.scale_ = scale
            fit_store = None
            if store is not None:
                fit_store = Path(store) / f"fit-{len(results):02}"
            results.append(super(HuberRegressor, self)._minimise(source, start, fit_store))
            self._total_steps = sum(result.n_iter for result in results)
            return results[-1]

        # The first scale is the size of the residuals of least squares, or the scale of the last fit.
        if start is None or not 0 < self.scale_ < np.inf:
            start = fit_at(np.inf, None)
            if start.reason not in AT_ITS_MINIMUM:
                return start
            scale = residual_size(start)
            if scale == 0:
                self.scale_ = 0.0
                self._is_at_minimum = True
                return start
        else:
            scale = self.scale_
        # The scale of the minimum is between ``low`` and ``high``.
        low = 0.0
        high = np.inf
        smallest = SMALLEST * scale
        points = []
        for _ in range(SCALES):
            start = fit_at(scale, start)
            ratio = self._clipped_mean_square(source, start)
            if ratio > 1:
                low = scale
            else:
                high = scale
            # Where the smallest scale is too large there is no minimum; rounding keeps the two ends apart.
            is_zero = abs(1 - ratio) <= tol
            is_without_minimum = high == smallest
            is_precise = high - low <= tol * low
            self._is_at_minimum = is_zero or is_without_minimum or is_precise
            if self._is_at_minimum or start.reason not in AT_ITS_MINIMUM:
                break
            # A ratio of 0, of residuals that are all 0, has no logarithm.
            positive_ratio = max(ratio, np.finfo(float).tiny)
            points.append(np.log([scale, positive_ratio]))
            scale = self._next_scale(points, low=low, high=high, smallest=smallest)
        else:
            warn(
                f"HuberRegressor tried {SCALES} scales, and the derivative by it is still {1 - ratio:.1e}; scale_ is "
                "the last. Give the scale, or raise tol.",
                ConvergenceWarning,
            )
        return start

    def _set_attributes(self, result: FitResult, source: Source) -> None:
        super()._set_attributes(result, source)
        # The last fit has its own steps and its sharper tolerance.
        if self.scale is None:
            self.n_iter_ = self._total_steps
            gradient = float(result.history.grad_norm[-1])
            self.converged_ = self._is_at_minimum and gradient <= SHARPER * self._tolerance(source)
        if self._rows is not None:
            self.outliers_ = outliers(self._rows, self.coef_, self.intercept_, self.epsilon * self.scale_)

    def _tolerance(self, source: Source) -> float:
        """Return the tolerance of each fit."""
        sharper = 1.0
        if self.scale is None:
            sharper = SHARPER
        return super()._tolerance(source) / sharper

    def _next_scale(
        self,
        points: list[np.ndarray],
        *,
        low: float,
        high: float,
        smallest: float,
    ) -> float:
        """Return the scale to try next, by the secant of the ratio's logarithm against the scale's.

        Each point has the two logarithms. Above the minimum the curve bends the way that keeps the secant from leading
        too far.
        """
        log_scale, log_ratio = points[-1]
        # Where no residual is clipped the ratio falls with the square of the scale.
        slope = -2.0
        if len(points) > 1:
            (a, at_a), (b, at_b) = points[-2:]
            slope = (at_b - at_a) / (b - a)
        scale = 0.0
        if slope < 0:
            scale = np.exp(log_scale - np.clip(log_ratio / slope, -FURTHEST, FURTHEST))
        # A secant that leads out of the bounds is replaced by bisection, or by the slope of -2.
        if not low < scale < high:
            if low > 0 and high < np.inf:
                scale = np.sqrt(low * high)
            else:
                scale = np.exp(log_scale + log_ratio / 2)
        return max(smallest, float(scale))

    def _clipped_mean_square(self, source: Source, result: FitResult) -> float:
        """Return ``mean(min(abs(r) / scale, epsilon)^2)`` of a fit: 1 at the best scale, less above it."""
        prediction, y, weight = to_score(source, result.predict(source), None, None)
        size = da.fabs((y - prediction).astype(float)) / self.scale_
        # Rows without a value are left out.
        row_weight = 1.0 if weight is None else weight
        row_weight = da.where(da.isnan(size), 0.0, row_weight)
        clipped = da.where(size <= self.epsilon, size, self.epsilon)
        squares, total = compute(
            (row_weight * clipped**2).sum(),
            row_weight.sum(),
            what="the scale",
        )
        return float(squares) / float(total)
