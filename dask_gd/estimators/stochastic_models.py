"""Models that are fitted by stochastic gradient descent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call

from ..errors import InvalidArgumentError
from ..model.losses import Hinge, Huber, Logistic, Squared, SquaredHinge
from ..validate import choose
from .classification import Classifier
from .linear_prediction import SparseCoefficients
from .parameters import WithJobs
from .regression import Regressor
from .rowwise import two_classes
from .stochastic import Stochastic


@dataclass(kw_only=True, repr=False, eq=False)
class SGDClassifier(WithJobs, Stochastic, Classifier):
    """Classes by stochastic gradient descent.

    It approaches the minimum of the mean loss plus ``alpha (l1_ratio sum(abs(w)) + (1 - l1_ratio) / 2 sum(w^2))``.

    The objective is scikit-learn's, but that the hinge's corner is rounded (see `dask_gd.Hinge`) and that the mean is
    over the sum of the row weights, times the weights of the classes. With more than two classes each is separated from
    all others, in the same passes; class weights are then the rows' weights for each class.

    Other parameters, and the attributes, are those of `dask_gd.estimators.stochastic.Stochastic` and
    `dask_gd.estimators.base.Estimator`; and ``classes_``.

    Parameters
    ----------
    loss : {"hinge", "log_loss", "squared_hinge"}
        With "log_loss" there is `predict_proba`. Other losses of scikit-learn are refused.
    class_weight : dict, "balanced" or None

    Examples
    --------
    >>> from dask_gd.estimators import SGDClassifier
    >>> model = SGDClassifier(tol=None).fit([[0.0], [1.0], [2.0], [3.0]], ["no", "no", "yes", "yes"])
    >>> model.predict([[0.5], [2.5]]).tolist()
    ['no', 'yes']
    """

    loss: str = field(default="hinge", kw_only=False)

    one_against_all = True

    def partial_fit(self, X: Any, y: Any = None, classes: Any = None, sample_weight: Any = None):
        """Take one pass over rows, from where the last call ended; the steps' sizes go on from there too.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`. ``store`` is for `fit` only.
        classes : array-like (classes,)
            All classes that any call will have; for the first call.

        Returns
        -------
        self
        """
        self._check_served(in_parts=True)
        # The share of each class is not known from the rows of this call.
        if self.class_weight == "balanced":
            raise InvalidArgumentError(
                "partial_fit: class_weight='balanced' needs all rows; give the weights, as a dict or as sample_weight."
            )
        # The first call has set the classes; they are checked as those of a fit.
        if _check_partial_fit_first_call(self, classes):
            self._set_classes(self.classes_, goes_on=False)
        return self._continue(X, y, sample_weight)

    def _loss(self) -> Any:
        losses = {"hinge": Hinge, "log_loss": Logistic, "squared_hinge": SquaredHinge}
        return choose("loss", self.loss, losses)()

    @available_if(lambda self: self.loss == "log_loss")
    def predict_proba(self, X: Any) -> Any:
        """Return the probability of each class, (n, classes), with the log loss.

        For more than two classes it is the probability against all others, over the sum of these. It is Dask, not
        computed, for Dask, Zarr and Source.
        """
        return self._probability(self.decision_function(X), _each_over_sum)

    @available_if(lambda self: self.loss == "log_loss")
    def predict_log_proba(self, X: Any) -> Any:
        """Return the logarithm of the probability of each class, (n, classes)."""
        return np.log(self.predict_proba(X))


def _each_over_sum(z: np.ndarray) -> np.ndarray:
    """Return the probabilities of classes for linear predictions (n,) of two classes, or (n, classes)."""
    if z.ndim == 1:
        return two_classes(z)
    # Bounded from below, so that they do not all vanish.
    share = Logistic().inverse_link(np.maximum(z, -700.0))
    return share / share.sum(axis=1, keepdims=True)


@dataclass(kw_only=True, repr=False, eq=False)
class SGDRegressor(SparseCoefficients, Stochastic, Regressor):
    """Real targets by stochastic gradient descent.

    It approaches the minimum of the mean loss plus ``alpha (l1_ratio sum(abs(w)) + (1 - l1_ratio) / 2 sum(w^2))``.

    The objective is scikit-learn's, but that the mean is over the sum of the row weights.

    Other parameters, and the attributes, are those of `dask_gd.estimators.stochastic.Stochastic` and
    `dask_gd.estimators.base.Estimator`.

    Parameters
    ----------
    loss : {"squared_error", "huber"}
        ``(y - x w - b)^2 / 2``; for "huber" it goes on as a straight line beyond ``epsilon``.
    epsilon : float
        In the target's units.

    Examples
    --------
    >>> from dask_gd.estimators import SGDRegressor
    >>> model = SGDRegressor(tol=None).fit([[-1.0], [0.0], [1.0]], [1.0, 3.0, 5.0])
    >>> model.coef_.round(2).tolist(), model.intercept_.round(2).tolist()
    ([2.0], [3.0])
    """

    loss: str = field(default="squared_error", kw_only=False)

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None):
        """Take one pass over rows, from where the last call ended; the steps' sizes go on from there too.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`. ``store`` is for `fit` only.

        Returns
        -------
        self
        """
        return self._continue(X, y, sample_weight)

    def _loss(self) -> Any:
        losses: dict[str, Any] = {"squared_error": Squared()}
        if self.epsilon:
            losses["huber"] = Huber(self.epsilon)
        elif self.loss == "huber":
            raise InvalidArgumentError("SGDRegressor(loss='huber', epsilon=0): epsilon must be above 0.")
        return choose("loss", self.loss, losses)

    def _set_coefficients(self, coef: np.ndarray, intercept: np.ndarray, is_table: bool) -> None:
        """Set (p,) and (1,), as scikit-learn has them."""
        self.coef_ = coef[0]
        self.intercept_ = intercept
