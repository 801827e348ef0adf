"""Estimators of classes, of any labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from ..cluster import compute
from ..errors import InvalidArgumentError, choose
from ..model import penalties
from ..model.losses import Hinge, Logistic, Softmax, Squared, SquaredHinge
from ..model.penalties import L2, Penalty
from ..sources import Source
from ..sources.coercion import checkable, labels
from ..sources.columns import sized
from .base import Estimator, TakesOffset, strength
from .lazy import (
    column,
    in_dask,
    is_lazy,
    kept,
    label_rows,
    mean,
    refuse_missing,
    rows,
    to_score,
    unique,
    without_value,
)


@dataclass(kw_only=True, repr=False, eq=False)
class Classifier(ClassifierMixin, Estimator):
    """A model of classes, of any labels: ``classes_`` holds them in order; of two the second is the positive one."""

    class_weight: dict | str | None = None

    _target_values = staticmethod(labels)

    #: Takes more than two classes.
    multiclass = False

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = self.multiclass
        return tags

    def _encoded(self, x: Any, y: Any, weight: Any, more: bool) -> tuple:
        """The classes' numbers for labels, and class weights as row weights. Lazy if the labels are."""
        if y is None and not isinstance(x, Source):
            raise InvalidArgumentError("fit(X, y) needs a target y, or a Source.")
        if isinstance(x, Source):
            given = column(x, "y")
        else:
            given = label_rows(y)
        if given.ndim == 2 and given.shape[1] == 1:
            given = given[:, 0]
        if given.ndim != 1:
            raise InvalidArgumentError(f"{type(self).__name__}: y should be a 1d array; it has shape {given.shape}.")
        used = None
        if isinstance(x, Source):
            used = kept(x)
        found = unique(given if used is None else in_dask(given)[used])
        if found.dtype.kind == "f" and np.isnan(found).any():
            refuse_missing("label", y=given)
        self._take_classes(found, more)
        codes = rowwise(partial(_codes, classes=self.classes_), given, float if given.dtype.kind == "f" else int)
        if self.class_weight is not None:
            own = weight
            if isinstance(x, Source):
                own = column(x, "weight")
            if own is not None:
                # The two are paired row by row, which takes blocks of known sizes.
                own = rows(own, "sample_weight")
                codes, own = (sized(a, "y") if isinstance(a, da.Array) else a for a in (codes, own))
            weight = self._class_weights(codes, own, used)
        return self._targets(y, codes), weight

    def _targets(self, y: Any, codes: Any) -> Any:
        """The classes' numbers; labels that are these are read as they are, chunk by chunk."""
        coded = self.classes_.dtype.kind in "fiub" and np.array_equal(self.classes_, np.arange(len(self.classes_)))
        return y if coded else codes

    def _take_classes(self, found: np.ndarray, more: bool) -> None:
        """The classes are those found; or, of more rows, these must be known."""
        if not more:
            self.classes_: np.ndarray = found
        elif unknown := sorted(set(found.tolist()) - set(self.classes_.tolist())):
            raise InvalidArgumentError(f"y holds {unknown}; the classes are {self.classes_.tolist()}.")
        check_classification_targets(self.classes_)
        if len(self.classes_) < 2:
            raise InvalidArgumentError(
                f"{type(self).__name__} needs two classes; y has one class, {self.classes_.tolist()}."
            )
        if len(self.classes_) > 2 and not self.multiclass:
            raise InvalidArgumentError(
                "Only binary classification is supported. The type of the target is multiclass; "
                f"it has {len(self.classes_)} classes."
            )

    def _class_weights(self, codes: Any, weight: Any, used: Any) -> Any:
        """Row weights times those of the classes; "balanced" takes a reduction where the labels are lazy."""
        own = 1.0 if weight is None else weight
        counts = np.ones(len(self.classes_))
        if self.class_weight == "balanced":
            counted = own
            if used is not None:
                counted = da.where(used, own, 0.0)
            of_class: list[Any] = [np.where(codes == c, counted, 0.0).sum() for c in range(len(self.classes_))]
            counts = np.array(compute(*of_class, what="the weights of the classes"))
            if not counts.all():
                lacking = self.classes_[counts == 0].tolist()
                raise InvalidArgumentError(
                    f"class_weight='balanced': the rows of {lacking} have no weight; leave them out, or give the "
                    "classes' weights as a dict."
                )
        each = compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_, sample_weight=counts)
        return rowwise(partial(_take, each), codes, float) * own

    def _set_coefficients(self, coef: np.ndarray, intercept: np.ndarray, several: bool) -> None:
        self.coef_ = coef
        self.intercept_ = intercept

    def decision_function(self, X: Any) -> Any:
        """``x w + b``: Dask, not computed, for Dask, Zarr and Source.

        Of two classes (n,), above 0 for the second; of more (n, classes), the largest for the class that is predicted.
        """
        return self._predicted(X, Squared())

    def predict(self, X: Any) -> Any:
        """The class of each row, (n,): Dask, not computed, for Dask, Zarr and Source."""
        return self._labelled(self.decision_function(X))

    def _labelled(self, z: Any) -> Any:
        """The classes for linear predictions, (n,)."""
        return like(z, rowwise(partial(_labels, classes=self.classes_), rows(z), self.classes_.dtype))

    def _probability(self, z: Any, function: Callable) -> Any:
        """A function of linear predictions, (n, classes)."""
        z_rows = rows(z)
        of_block = partial(_in_doubles, function)
        return like(z, rowwise(of_block, z_rows, z_rows.dtype, len(self.classes_)), **{"class": self.classes_})

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """The share of rows that are given their class. Of lazy rows by a reduction: no prediction is kept."""
        return self._accuracy(self.predict(X), X, y, sample_weight)

    def _accuracy(self, predicted: Any, X: Any, y: Any, sample_weight: Any) -> float:
        if not is_lazy(predicted, X, y, sample_weight):
            y = checkable(y, "y", labels)
            weight = checkable(sample_weight, "sample_weight")
            return accuracy_score(y, predicted, sample_weight=weight)
        predicted, y, weight = to_score(X, predicted, y, sample_weight, label_rows)
        right, lacking = compute(mean((predicted == y).astype(float), weight), without_value(y).any(), what="the score")
        if lacking or not np.isfinite(right):
            refuse_missing("score", y=y, sample_weight=weight)
        return float(right)


def rowwise(function: Callable, z: Any, dtype: Any, width: int | None = None) -> Any:
    """A function of predictions (n,) or (n, classes), of each block of lazy ones; it returns (n,), or (n, width)."""
    if not isinstance(z, da.Array):
        return function(z)
    axes = {}
    if z.ndim == 2 and width is None:
        axes = {"drop_axis": 1}
    elif z.ndim == 1 and width is not None:
        axes = {"new_axis": 1}
    chunks = z.chunks[:1]
    if width is not None:
        chunks = (z.chunks[0], (width,))
    return da.map_blocks(function, z, dtype=dtype, chunks=chunks, **axes)


def _in_doubles(function: Callable, z: np.ndarray) -> np.ndarray:
    """Return a function of predictions, taken in float64, in their dtype."""
    return function(z.astype(float)).astype(z.dtype, copy=False)


def _codes(labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The labels' places among the classes; NaN stays NaN, of a row that the fit leaves out."""
    if labels.dtype == object and classes.dtype.kind in "fiub":
        labels = labels.astype(classes.dtype)
    found = np.searchsorted(classes, labels)
    if labels.dtype.kind == "f":
        return np.where(np.isnan(labels), np.nan, found)
    return found


def _take(each: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """The codes' values; 1 for NaN."""
    return np.append(each, 1.0)[np.nan_to_num(codes, nan=len(each)).astype(int)]


def _labels(z: np.ndarray, classes: np.ndarray) -> np.ndarray:
    return classes[z.argmax(axis=1) if z.ndim == 2 else (z > 0).astype(int)]


def like(z: Any, data: Any, **columns: Any) -> Any:
    """A DataArray if the predictions are one, with their coordinates."""
    if not isinstance(z, xr.DataArray):
        return data
    row = z
    if "output" in z.dims:
        row = z.isel(output=0, drop=True)
    return xr.DataArray(data, dims=(*row.dims, *columns), coords={**row.coords, **columns}, name="prediction")


class OfProbabilities(TakesOffset, Classifier):
    """Logistic regression of two classes or more, whatever its penalty."""

    multiclass = True

    def _loss(self) -> Any:
        if len(self.classes_) == 2:
            return Logistic()
        return Softmax(len(self.classes_))

    def _source(self, *data: Any, **more: Any) -> Source:
        source = super()._source(*data, **more)
        self._check_offset(source.offset)
        return source

    def _check_offset(self, offset: Any) -> None:
        if offset is not None and len(self.classes_) > 2:
            raise InvalidArgumentError(
                f"{type(self).__name__}: an offset moves all {len(self.classes_)} classes alike, and so none; "
                "leave it out, or fit two classes."
            )

    def decision_function(self, X: Any, offset: Any = None) -> Any:
        """``x w + b``, with the offset (n,) of the rows, if it is given: Dask, not computed, for Dask, Zarr and Source.

        Of two classes (n,), above 0 for the second; of more (n, classes), the largest for the class that is predicted.
        """
        check_is_fitted(self)
        self._check_offset(offset)
        return self._predicted(X, Squared(), offset)

    def predict(self, X: Any, offset: Any = None) -> Any:
        """The class of each row, (n,): Dask, not computed, for Dask, Zarr and Source."""
        return self._labelled(self.decision_function(X, offset))

    def predict_proba(self, X: Any, offset: Any = None) -> Any:
        """The probability of each class, (n, classes): Dask, not computed, for Dask, Zarr and Source."""
        return self._probability(self.decision_function(X, offset), _probabilities)

    def predict_log_proba(self, X: Any, offset: Any = None) -> Any:
        """Their logarithms, (n, classes)."""
        return np.log(self.predict_proba(X, offset))

    def score(self, X: Any, y: Any = None, sample_weight: Any = None, offset: Any = None) -> float:
        """The share of rows that are given their class. Of lazy rows by a reduction: no prediction is kept."""
        return self._accuracy(self.predict(X, offset), X, y, sample_weight)


@dataclass(kw_only=True, repr=False, eq=False)
class LogisticRegression(OfProbabilities):
    """Logistic regression: ``C sum s log(1 + exp(-(2 y - 1) (x w + b)))`` plus
    ``l1_ratio sum(abs(w)) + (1 - l1_ratio) / 2 sum(w^2)`` is minimised, s being the row weights, times those of the
    classes. Of more than two classes the loss is that of `dask_gd.Softmax`, all classes together.

    C and l1_ratio mean the same as scikit-learn's; the penalty of the mean loss is ``1 / (C sum s)`` times theirs, and
    the sum takes a reduction where the weights are lazy. ``C=np.inf`` is no penalty. Of more than two classes the
    intercepts sum to 0.

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

    C: float = 1.0
    l1_ratio: float = 0.0

    def _penalty(self, total: Callable[[], float]) -> Penalty:
        return penalties.ElasticNet(strength(self, self.C, total), self.l1_ratio)


def _probabilities(z: np.ndarray) -> np.ndarray:
    if z.ndim == 2:
        return Softmax().inverse_link(z)
    return two_classes(z)


def two_classes(z: np.ndarray) -> np.ndarray:
    """The probabilities of the first and the second class, (n,) -> (n, 2)."""
    return np.stack([Logistic().inverse_link(-z), Logistic().inverse_link(z)], axis=1)


#: By name.
HINGES = {"hinge": Hinge, "squared_hinge": SquaredHinge}


@dataclass(kw_only=True, repr=False, eq=False)
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

    loss: str = "squared_hinge"
    C: float = 1.0

    def _loss(self) -> Any:
        return choose("loss", self.loss, HINGES)()

    def _penalty(self, total: Callable[[], float]) -> Penalty:
        return L2(strength(self, self.C, total))
