"""Estimators of real targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from scipy import sparse
from sklearn.base import RegressorMixin

from ..errors import InvalidArgumentError
from ..model import penalties
from ..model.losses import Quantile, Squared
from ..model.non_negative import NonNegative
from ..model.penalties import L1, L2, Penalty
from ..results.fit_result import FitResult
from ..sources import Source
from ..sources.coercion import checkable
from ..sources.lazy import is_lazy
from .base import Estimator
from .lazy import explained, to_score
from .of_rows import dual_gap
from .parameters import ByCoordinates, Copied, WithJobs

#: The default tolerance of a loss whose corner is rounded.
SMOOTHED_TOL = 1e-6


class Regressor(RegressorMixin, Estimator):
    """A model of real targets."""

    def _source(self, *data: Any, **options: Any) -> Source:
        """Return the rows to fit; refuse several columns of targets if the estimator takes one only."""
        source = super()._source(*data, **options)
        # Arrays in memory are checked already, lazy ones are not.
        if source.outputs and not self.__sklearn_tags__().target_tags.multi_output:
            raise InvalidArgumentError(
                f"{type(self).__name__}: y should be a 1d array; it has {source.outputs} columns."
            )
        return source

    def predict(self, X: Any) -> Any:
        """Return the prediction for each row, (n,) or (n, k): Dask, not computed, for Dask, Zarr and Source."""
        prediction = self._predicted(X)
        if prediction.ndim == self.coef_.ndim or sparse.issparse(self.coef_):
            return prediction
        # A single column that counts as several has an axis of outputs, which the fit does not know.
        if isinstance(prediction, xr.DataArray):
            return prediction.expand_dims("output", axis=1)
        return prediction[:, None]

    def _set_coefficients(self, coef: np.ndarray, intercept: np.ndarray, is_table: bool) -> None:
        """Set coefficients and intercepts; a table of a single column has an intercept (1,), as in scikit-learn."""
        self.coef_: Any = coef
        self.intercept_: Any = intercept
        if len(coef) == 1:
            self.coef_ = coef[0]
            if not is_table:
                self.intercept_ = intercept[0]
        # Without an intercept scikit-learn has a number.
        if not self.fit_intercept:
            self.intercept_ = 0.0

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return R^2, as scikit-learn defines it. For lazy rows it takes reductions: no prediction is kept."""
        if not is_lazy(X, y, sample_weight):
            # The score that scikit-learn's regressors have.
            y = checkable(y, "y")
            weight = checkable(sample_weight, "sample_weight")
            return super().score(X, y, weight)
        columns = to_score(X, self.predict(X), y, sample_weight)
        return explained(Squared(), *columns)


class SeveralTargets(Regressor):
    """A regressor that takes targets with several columns."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


@dataclass(kw_only=True, repr=False, eq=False)
class Penalised(Regressor):
    """A regressor whose penalty has a strength, alpha."""

    alpha: float = field(default=1.0, kw_only=False)


def bounded(estimator: Any, penalty: penalties.ElasticNet | L2 | None) -> Penalty | None:
    """Return the penalty, with the weights at least 0 where ``positive`` is set."""
    if not estimator.positive:
        return penalty
    if penalty is None:
        return NonNegative()
    # L2 is an elastic net without absolute values.
    return NonNegative(penalty.alpha, getattr(penalty, "l1_ratio", 0.0))


@dataclass(kw_only=True, repr=False, eq=False)
class LinearRegression(Copied, WithJobs, SeveralTargets):
    """Least squares: it minimises the mean of ``(y - x w - b)^2 / 2`` over rows.

    It takes one pass over the data, or two. It differs from scikit-learn's where columns are collinear, also if there
    are more columns than rows: then it finds the solution of least norm after the columns are scaled.

    Other parameters, and the attributes, are those of `dask_gd.estimators.base.Estimator`.

    Parameters
    ----------
    positive : bool
        Keep the weights at 0 or above.

    Examples
    --------
    >>> from dask_gd.estimators import LinearRegression
    >>> model = LinearRegression().fit([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0])
    >>> model.coef_.round(6).tolist(), round(float(model.intercept_), 6)
    ([2.0], 1.0)
    """

    positive: bool = False

    def _penalty(self, total: Callable[[], float]) -> Penalty | None:
        return bounded(self, None)

    def _set_coefficients(self, coef: np.ndarray, intercept: np.ndarray, is_table: bool) -> None:
        """Set coefficients; a table of a single column counts as several targets, in scikit-learn's too."""
        super()._set_coefficients(coef, intercept, is_table)
        if is_table:
            self.coef_ = coef


class CoordinateDescent(ByCoordinates, SeveralTargets, Penalised):
    """What scikit-learn fits by coordinate descent."""

    positive: bool

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        check_input: bool = True,
    ):
        """Fit to rows, as `dask_gd.estimators.base.Estimator.fit`; ``check_input`` has no effect.

        ``dual_gap_`` is how far the objective is above the best value of its dual, for rows in memory only: it takes
        another reading of the rows.
        """
        return self._fit(X, y, sample_weight)

    def _set_attributes(self, result: FitResult, source: Source) -> None:
        super()._set_attributes(result, source)
        if self._rows is None:
            return
        gap = dual_gap(
            self._rows,
            result.parameters[:-1].T,
            result.parameters[-1],
            alpha=self.alpha,
            l1_ratio=getattr(self, "l1_ratio", 1.0),
            positive=self.positive,
        )
        self.dual_gap_: Any = gap
        if len(gap) == 1:
            self.dual_gap_ = float(gap[0])

    @property
    def sparse_coef_(self) -> sparse.csr_matrix:
        """The coefficients as a sparse matrix."""
        return sparse.csr_matrix(self.coef_)


@dataclass(kw_only=True, repr=False, eq=False)
class ElasticNet(CoordinateDescent):
    """Least squares with absolute values and squares of the weights.

    It minimises the mean of ``(y - x w - b)^2 / 2`` plus
    ``alpha (l1_ratio sum(abs(w)) + (1 - l1_ratio) / 2 sum(w^2))``.

    alpha means the same as scikit-learn's, with row weights too. It takes one pass over the data, or two, and more for
    above 4,096 features. Each column of targets is fitted by itself.

    Other parameters, and the attributes, are those of `dask_gd.estimators.base.Estimator`.

    Parameters
    ----------
    alpha : float
    l1_ratio : float
        From 0 to 1.
    positive : bool
        Keep the weights at 0 or above.

    Examples
    --------
    >>> from dask_gd.estimators import ElasticNet
    >>> model = ElasticNet(alpha=0.5).fit([[0.0, 1.0], [1.0, 0.0], [2.0, 1.0]], [1.0, 3.0, 5.0])
    >>> model.coef_.round(6).tolist()
    [1.181818, 0.0]
    """

    alpha: float = field(default=1.0, kw_only=False)
    l1_ratio: float = 0.5
    positive: bool = False

    def _penalty(self, total: Callable[[], float]) -> Penalty | None:
        # scikit-learn's alpha is for the mean of the losses here.
        return bounded(self, penalties.ElasticNet(self.alpha, self.l1_ratio))


@dataclass(kw_only=True, repr=False, eq=False)
class Lasso(CoordinateDescent):
    """Least squares with absolute values of the weights.

    It minimises the mean of ``(y - x w - b)^2 / 2`` plus ``alpha sum(abs(w))``.

    alpha means the same as scikit-learn's, with row weights too. It takes one pass over the data, or two, and more for
    above 4,096 features. Each column of targets is fitted by itself.

    Other parameters, and the attributes, are those of `dask_gd.estimators.base.Estimator`.

    Parameters
    ----------
    alpha : float
    positive : bool
        Keep the weights at 0 or above.

    Examples
    --------
    >>> from dask_gd.estimators import Lasso
    >>> model = Lasso(alpha=0.5).fit([[0.0, 1.0], [1.0, 0.0], [2.0, 1.0]], [1.0, 3.0, 5.0])
    >>> model.coef_.round(6).tolist()
    [1.25, 0.0]
    """

    positive: bool = False

    def _penalty(self, total: Callable[[], float]) -> Penalty | None:
        return bounded(self, L1(self.alpha))


@dataclass(kw_only=True, repr=False, eq=False)
class QuantileRegressor(Penalised):
    """A quantile of the target: it minimises the mean pinball loss plus ``alpha sum(abs(w))``.

    alpha means the same as scikit-learn's, which solves a linear programme with all rows in memory. Here the corner of
    the loss is rounded, less and less, until the objective is within 0.05 % of its minimum and the share of rows below
    the prediction is the quantile, see `dask_gd.Quantile`. Coefficients agree with scikit-learn's within that.

    Other parameters, and the attributes, are those of `dask_gd.estimators.base.Estimator`.

    Parameters
    ----------
    quantile : float
        Between 0 and 1.
    alpha : float
    smoothing : float, optional
        In the target's units: the loss is then a parabola for residuals within it, see `dask_gd.Quantile`. If it is
        larger than the residuals, the mean is fitted and not a quantile. By default it is found from the residuals.
    tol : float, optional
        By default 1e-6, as rounding the corner leaves more of the objective than that does.

    Examples
    --------
    >>> from dask_gd.estimators import QuantileRegressor
    >>> x, y = np.arange(100.0)[:, None], np.arange(100.0) + np.tile([0.0, 0.0, 0.0, 10.0], 25)
    >>> model = QuantileRegressor(quantile=0.5, alpha=0.0).fit(x, y)
    >>> model.coef_.round(2).tolist()
    [1.0]
    """

    quantile: float = 0.5
    alpha: float = 1.0
    smoothing: float | None = None
    solver_options: dict | None = None

    solvers_of_scikit_learn = ("highs-ds", "highs-ipm", "highs", "interior-point", "revised simplex")

    def _tolerance(self, source: Source) -> float:
        """Return ``tol``, by default 1e-6: the objective is no nearer to its minimum with less."""
        if self.tol is None:
            return SMOOTHED_TOL
        return self.tol

    def _loss(self) -> Any:
        return Quantile(self.quantile, self.smoothing)

    def _penalty(self, total: Callable[[], float]) -> Penalty:
        return L1(self.alpha)

    def _set_attributes(self, result: FitResult, source: Source) -> None:
        super()._set_attributes(result, source)
        # A fit begins at the targets' mean, which may be the minimum; scikit-learn counts that as a step.
        self.n_iter_ = max(1, result.n_iter)
