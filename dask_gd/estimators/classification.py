"""Estimators of two classes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr
from sklearn.base import ClassifierMixin
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets

from .. import penalties
from ..errors import InvalidArgumentError, choose
from ..losses import Hinge, Logistic, Squared, SquaredHinge
from ..penalties import L2, Penalty
from ..sources import Source
from .base import Estimator, strength
from .lazy import column, is_lazy, mean, rows, to_score, unique


class Classifier(ClassifierMixin, Estimator):
    """A model of two classes, of any labels: ``classes_`` holds them in order, the second is the positive one."""

    def __init__(
        self,
        *,
        C=1.0,
        fit_intercept=True,
        class_weight=None,
        max_iter=100,
        tol=None,
        warm_start=False,
        solver="auto",
        store=None,
        callbacks=(),
    ):
        super().__init__(
            fit_intercept=fit_intercept,
            max_iter=max_iter,
            tol=tol,
            warm_start=warm_start,
            solver=solver,
            store=store,
            callbacks=callbacks,
        )
        self.C = C
        self.class_weight = class_weight

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def _encoded(self, x: Any, y: Any, weight: Any) -> tuple:
        """Codes 0 and 1 for labels, and class weights as row weights. Lazy if the labels are."""
        if y is None and not isinstance(x, Source):
            raise InvalidArgumentError("fit(X, y) needs a target y, or a Source.")
        labels = column(x, "y") if isinstance(x, Source) else rows(y)
        if labels.ndim == 2 and labels.shape[1] == 1:
            labels = labels[:, 0]
        if labels.ndim != 1:
            raise InvalidArgumentError(f"{type(self).__name__}: y should be a 1d array; it has shape {labels.shape}.")
        self.classes_ = unique(labels)
        check_classification_targets(self.classes_)
        if len(self.classes_) < 2:
            raise InvalidArgumentError(
                f"{type(self).__name__} needs two classes; y has one class, {self.classes_.tolist()}."
            )
        if len(self.classes_) > 2:
            # The place for dask_gd.Softmax: codes 0 to K - 1, and a loss that knows K.
            raise InvalidArgumentError(
                "Only binary classification is supported. The type of the target is multiclass; "
                f"it has {len(self.classes_)} classes."
            )
        second = labels == self.classes_[1]
        if self.class_weight is not None:
            own = column(x, "weight") if isinstance(x, Source) else None if weight is None else rows(weight)
            weight = self._class_weights(second, own)
        # Targets that are 0 and 1 are read as they are, chunk by chunk.
        coded = self.classes_.dtype.kind in "fiub" and np.array_equal(self.classes_, [0, 1])
        return (y if coded else second), weight

    def _class_weights(self, second: Any, weight: Any) -> Any:
        """Row weights times those of the classes; "balanced" takes a reduction where the labels are lazy."""
        sizes = [np.where(of_class, 1.0 if weight is None else weight, 0.0) for of_class in (~second, second)]
        counts = dask.compute(*(size.sum() for size in sizes)) if self.class_weight == "balanced" else (1.0, 1.0)
        first, last = compute_class_weight(
            self.class_weight, classes=self.classes_, y=self.classes_, sample_weight=np.array(counts)
        )
        return first * sizes[0] + last * sizes[1]

    def _set_coefficients(self, coef: np.ndarray, intercept: np.ndarray, several: bool) -> None:
        self.coef_, self.intercept_ = coef, intercept

    def decision_function(self, X: Any) -> Any:
        """``x w + b``, (n,), above 0 for the second class: Dask, not computed, for Dask, Zarr and Source."""
        return self._predicted(X, Squared())

    def predict(self, X: Any) -> Any:
        """The class of each row, (n,): Dask, not computed, for Dask, Zarr and Source."""
        z = self.decision_function(X)
        return like(z, rowwise(partial(_labels, classes=self.classes_), rows(z), self.classes_.dtype))

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """The share of rows that are given their class. Of lazy rows by a reduction: no prediction is kept."""
        if not is_lazy(X, y, sample_weight):
            return super().score(X, y, sample_weight)
        predicted, y, weight = to_score(X, self.predict(X), y, sample_weight)
        return float(mean((predicted == y).astype(float), weight))


def rowwise(function: Callable, z: Any, dtype: Any, width: int | None = None) -> Any:
    """A function of predictions (n,), of each block of lazy ones; it returns (n,), or (n, width)."""
    if not isinstance(z, da.Array):
        return function(z)
    wide: dict[str, Any] = {} if width is None else {"new_axis": 1, "chunks": (z.chunks[0], (width,))}
    return da.map_blocks(function, z, dtype=dtype, **wide)


def _labels(z: np.ndarray, classes: np.ndarray) -> np.ndarray:
    return classes[(z > 0).astype(int)]


def like(z: Any, data: Any, **columns: Any) -> Any:
    """A DataArray if the predictions are one, with their coordinates."""
    if not isinstance(z, xr.DataArray):
        return data
    return xr.DataArray(data, dims=(*z.dims, *columns), coords={**z.coords, **columns}, name="prediction")


class LogisticRegression(Classifier):
    """Logistic regression of two classes: ``C sum s log(1 + exp(-(2 y - 1) (x w + b)))`` plus
    ``l1_ratio sum(abs(w)) + (1 - l1_ratio) / 2 sum(w^2)`` is minimised, s being the row weights, times those of the
    classes.

    C and l1_ratio mean the same as scikit-learn's; the penalty of the mean loss is ``1 / (C sum s)`` times theirs, and
    the sum takes a reduction where the weights are lazy. ``C=np.inf`` is no penalty. With ``l1_ratio`` above 0 up to
    4,096 features. Two classes only.

    Other parameters, and the attributes, are those of `dask_gd.estimators.base.Estimator`; and ``classes_``.

    Parameters
    ----------
    C : float
    l1_ratio : float
        From 0 (squares only) to 1 (absolute values only).
    class_weight : dict, "balanced" or None

    Examples
    --------
    >>> from dask_gd.estimators import LogisticRegression
    >>> model = LogisticRegression().fit([[0.0], [1.0], [2.0], [3.0]], ["no", "no", "yes", "yes"])
    >>> model.predict([[0.5], [2.5]]).tolist()
    ['no', 'yes']
    """

    def __init__(
        self,
        *,
        C=1.0,
        l1_ratio=0.0,
        fit_intercept=True,
        class_weight=None,
        max_iter=100,
        tol=None,
        warm_start=False,
        solver="auto",
        store=None,
        callbacks=(),
    ):
        super().__init__(
            C=C,
            fit_intercept=fit_intercept,
            class_weight=class_weight,
            max_iter=max_iter,
            tol=tol,
            warm_start=warm_start,
            solver=solver,
            store=store,
            callbacks=callbacks,
        )
        self.l1_ratio = l1_ratio

    def _loss(self) -> Any:
        return Logistic()

    def _penalty(self, total: Callable[[], float]) -> Penalty:
        return penalties.ElasticNet(strength(self, self.C, total), self.l1_ratio)

    def predict_proba(self, X: Any) -> Any:
        """The probability of each class, (n, 2): Dask, not computed, for Dask, Zarr and Source."""
        z = self.decision_function(X)
        return like(z, rowwise(_probabilities, rows(z), float, 2), **{"class": self.classes_})

    def predict_log_proba(self, X: Any) -> Any:
        """Their logarithms, (n, 2)."""
        return np.log(self.predict_proba(X))


def _probabilities(z: np.ndarray) -> np.ndarray:
    return np.stack([Logistic().inverse_link(-z), Logistic().inverse_link(z)], axis=1)


#: By name.
HINGES = {"hinge": Hinge, "squared_hinge": SquaredHinge}


class LinearSVC(Classifier):
    """A linear support vector machine of two classes: ``C sum s L + sum(w^2) / 2`` is minimised, s being the row
    weights, times those of the classes, and L the squared hinge ``max(0, 1 - (2 y - 1) (x w + b))^2`` or the hinge.

    Differs from scikit-learn's in two ways. It penalises the intercept, the less the larger ``intercept_scaling``;
    this does not, so that coefficients agree exactly only without an intercept. The hinge's corner is rounded (see
    `dask_gd.Hinge`); the squared hinge is as it is. Two classes only.

    Other parameters, and the attributes, are those of `dask_gd.estimators.base.Estimator`; and ``classes_``.

    Parameters
    ----------
    loss : {"squared_hinge", "hinge"}
    C : float
    class_weight : dict, "balanced" or None

    Examples
    --------
    >>> from dask_gd.estimators import LinearSVC
    >>> model = LinearSVC().fit([[0.0], [1.0], [2.0], [3.0]], [False, False, True, True])
    >>> model.predict([[0.5], [2.5]]).tolist()
    [False, True]
    """

    def __init__(
        self,
        *,
        loss="squared_hinge",
        C=1.0,
        fit_intercept=True,
        class_weight=None,
        max_iter=100,
        tol=None,
        warm_start=False,
        solver="auto",
        store=None,
        callbacks=(),
    ):
        super().__init__(
            C=C,
            fit_intercept=fit_intercept,
            class_weight=class_weight,
            max_iter=max_iter,
            tol=tol,
            warm_start=warm_start,
            solver=solver,
            store=store,
            callbacks=callbacks,
        )
        self.loss = loss

    def _loss(self) -> Any:
        return choose("loss", self.loss, HINGES)()

    def _penalty(self, total: Callable[[], float]) -> Penalty:
        return L2(strength(self, self.C, total))
