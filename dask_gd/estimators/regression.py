"""Estimators of real targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import xarray as xr
from sklearn.base import RegressorMixin

from ..errors import InvalidArgumentError
from ..model import penalties
from ..model.losses import Quantile, Squared
from ..model.penalties import L1, L2, Penalty
from ..results.fit_result import FitResult
from ..sources import Source
from ..sources.coercion import checkable
from ..sources.lazy import is_lazy
from .base import Estimator
from .lazy import explained, to_score


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
        if prediction.ndim == self.coef_.ndim:
            return prediction
        # A single column that counts as several has an axis of outputs, which the fit does not know.
        if isinstance(prediction, xr.DataArray):
            return prediction.expand_dims("output", axis=1)
        return prediction[:, None]

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

    #: True if a single column counts as several, as in scikit-learn's `LinearRegression` only.
    column_alone = False

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


@dataclass(kw_only=True, repr=False, eq=False)
class Penalised(Regressor):
    """A regressor whose penalty has a strength, alpha."""

    alpha: float = field(default=1.0, kw_only=False)


class LinearRegression(SeveralTargets):
    """Least squares: it minimises the mean of ``(y - x w - b)^2 / 2`` over rows.

    It takes one pass over the data, or two. It differs from scikit-learn's where columns are collinear, also if there
    are more columns than rows: then it finds the solution of least norm after the columns are scaled.

    Other parameters, and the attributes, are those of `dask_gd.estimators.base.Estimator`.

    Examples
    --------
    >>> from dask_gd.estimators import LinearRegression
    >>> model = LinearRegression().fit([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0])
    >>> model.coef_.round(6).tolist(), round(float(model.intercept_), 6)
    ([2.0], 1.0)
    """

    column_alone = True


class Ridge(SeveralTargets, Penalised):
    """Least squares with squares of the weights.

    It minimises ``sum s (y - x w - b)^2 + alpha sum(w^2)``; s are the row weights. That is ``L2(alpha / sum s)`` on the
    mean loss; the sum takes a reduction where the weights are lazy. All targets have the same alpha.

    Other parameters, and the attributes, are those of `dask_gd.estimators.base.Estimator`.

    Parameters
    ----------
    alpha : float

    Examples
    --------
    >>> from dask_gd.estimators import Ridge
    >>> model = Ridge(alpha=1.0).fit([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0])
    >>> model.coef_.round(6).tolist()
    [1.333333]
    """

    def _penalty(self, total: Callable[[], float]) -> Penalty:
        # scikit-learn's alpha is for the sum of the losses, not for their mean.
        return L2(self.alpha / total())


@dataclass(kw_only=True, repr=False, eq=False)
class ElasticNet(SeveralTargets, Penalised):
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

    Examples
    --------
    >>> from dask_gd.estimators import ElasticNet
    >>> model = ElasticNet(alpha=0.5).fit([[0.0, 1.0], [1.0, 0.0], [2.0, 1.0]], [1.0, 3.0, 5.0])
    >>> model.coef_.round(6).tolist()
    [1.181818, 0.0]
    """

    alpha: float = field(default=1.0, kw_only=False)
    l1_ratio: float = 0.5

    def _penalty(self, total: Callable[[], float]) -> Penalty:
        # scikit-learn's alpha is for the mean of the losses here.
        return penalties.ElasticNet(self.alpha, self.l1_ratio)


class Lasso(SeveralTargets, Penalised):
    """Least squares with absolute values of the weights.

    It minimises the mean of ``(y - x w - b)^2 / 2`` plus ``alpha sum(abs(w))``.

    alpha means the same as scikit-learn's, with row weights too. It takes one pass over the data, or two, and more for
    above 4,096 features. Each column of targets is fitted by itself.

    Other parameters, and the attributes, are those of `dask_gd.estimators.base.Estimator`.

    Parameters
    ----------
    alpha : float

    Examples
    --------
    >>> from dask_gd.estimators import Lasso
    >>> model = Lasso(alpha=0.5).fit([[0.0, 1.0], [1.0, 0.0], [2.0, 1.0]], [1.0, 3.0, 5.0])
    >>> model.coef_.round(6).tolist()
    [1.25, 0.0]
    """

    def _penalty(self, total: Callable[[], float]) -> Penalty:
        return L1(self.alpha)


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

    def _loss(self) -> Any:
        return Quantile(self.quantile, self.smoothing)

    def _penalty(self, total: Callable[[], float]) -> Penalty:
        return L1(self.alpha)

    def _set_attributes(self, result: FitResult, source: Source) -> None:
        super()._set_attributes(result, source)
        # A fit begins at the targets' mean, which may be the minimum; scikit-learn counts that as a step.
        self.n_iter_ = max(1, result.n_iter)
