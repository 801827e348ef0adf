"""Estimators of classes, of any labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets

from ..cluster import compute
from ..errors import InvalidArgumentError, warn
from ..model import penalties
from ..model.losses import Logistic, Softmax, Squared
from ..model.penalties import L2, Penalty
from ..results.fit_result import FitResult
from ..sources import Source
from ..sources.coercion import checkable, labels
from ..sources.columns import sized
from ..sources.lazy import column, in_dask, is_lazy, label_rows, rows, unique
from .base import Estimator, strength
from .lazy import (
    check_sum_of_weights,
    kept_rows,
    refuse_missing,
    sum_of_weights,
    to_score,
    weighted,
    without_value,
)
from .linear_prediction import SparseCoefficients
from .offset import TakesOffset
from .parameters import CONSTRAINTS, SHARE, Hidden, Liblinear, StrOptions, WithJobs
from .rowwise import codes_of, in_doubles, indicators, labels_of, like, probabilities, rowwise, weights_of


@dataclass(kw_only=True, repr=False, eq=False)
class Classifier(ClassifierMixin, SparseCoefficients, Estimator):
    """A model of classes with any labels: ``classes_`` holds them in order. The second of two is the positive class."""

    class_weight: dict | str | None = None

    _target_values = staticmethod(labels)

    #: True if each of more than two classes is separated from all others, by an output of its own.
    one_against_all = False

    def _encoded(self, x: Any, y: Any, weight: Any, goes_on: bool) -> tuple:
        """Return the classes' numbers for labels, and class weights as row weights. They are lazy if the labels are."""
        if y is None and not isinstance(x, Source):
            raise InvalidArgumentError("fit(X, y) needs a target y, or a Source.")
        if isinstance(x, Source):
            row_labels = column(x, "y")
        else:
            row_labels = label_rows(y)
        # A single column of labels is as good as (n,).
        if row_labels.ndim == 2 and row_labels.shape[1] == 1:
            row_labels = row_labels[:, 0]
        if row_labels.ndim != 1:
            raise InvalidArgumentError(
                f"{type(self).__name__}: y should be a 1d array; it has shape {row_labels.shape}."
            )
        # The classes are those of the rows that the fit keeps.
        kept = None
        if isinstance(x, Source):
            kept = kept_rows(x)
        if kept is None:
            classes = unique(row_labels)
        else:
            classes = unique(in_dask(row_labels)[kept])
        if classes.dtype.kind == "f" and np.isnan(classes).any():
            refuse_missing("label", y=row_labels)
        self._set_classes(classes, goes_on)
        # Codes of labels that may be NaN may be NaN too.
        dtype: type = int
        if row_labels.dtype.kind == "f":
            dtype = float
        codes = rowwise(partial(codes_of, classes=self.classes_), row_labels, dtype)
        if self.class_weight is not None:
            row_weight = weight
            if isinstance(x, Source):
                row_weight = column(x, "weight")
            if row_weight is not None:
                # Codes and weights are paired row by row, which takes blocks of known sizes.
                row_weight = rows(row_weight, "sample_weight")
                codes = _sized_if_lazy(codes)
                row_weight = _sized_if_lazy(row_weight)
            weight = self._class_weights(codes, row_weight, kept)
        return self._targets(y, codes), weight

    def _targets(self, y: Any, codes: Any) -> Any:
        """Return the classes' numbers. Labels that are these numbers are read as they are, chunk by chunk.

        Where each class is separated from all others, it is a column of 0 and 1 for each class.
        """
        k = len(self.classes_)
        if self.one_against_all and k > 2:
            return rowwise(partial(indicators, classes=k), codes, float, width=k)
        numbers = np.arange(len(self.classes_))
        if self.classes_.dtype.kind in "fiub" and np.array_equal(self.classes_, numbers):
            return y
        return codes

    def _set_classes(self, classes: np.ndarray, goes_on: bool) -> None:
        """Set the classes to those of the rows; refuse rows of unknown classes if the fit goes on."""
        if goes_on:
            unknown = sorted(set(classes.tolist()) - set(self.classes_.tolist()))
            if unknown:
                raise InvalidArgumentError(f"y holds {unknown}; the classes are {self.classes_.tolist()}.")
        else:
            self.classes_: np.ndarray = classes
        # Real numbers are no labels.
        check_classification_targets(self.classes_)
        if len(self.classes_) < 2:
            raise InvalidArgumentError(
                f"{type(self).__name__} needs two classes; y has one class, {self.classes_.tolist()}."
            )

    def _class_weights(self, codes: Any, weight: Any, kept: Any) -> Any:
        """Return row weights times the classes' weights; "balanced" takes a reduction where the labels are lazy."""
        row_weight = 1.0 if weight is None else weight
        totals = np.ones(len(self.classes_))
        if self.class_weight == "balanced":
            # Rows that the fit drops count for nothing.
            counted = row_weight
            if kept is not None:
                counted = da.where(kept, row_weight, 0.0)
            class_totals: list[Any] = []
            for code in range(len(self.classes_)):
                class_totals.append(np.where(codes == code, counted, 0.0).sum())
            totals = np.array(compute(*class_totals, what="the weights of the classes"))
            if not totals.all():
                without_weight = self.classes_[totals == 0].tolist()
                raise InvalidArgumentError(
                    f"class_weight='balanced': the rows of {without_weight} have no weight; leave them out, or give "
                    "the classes' weights as a dict."
                )
        # Each class stands for all its rows, with their total weight, as in scikit-learn.
        if self.class_weight == "balanced":
            class_weights = totals.sum() / (len(totals) * totals)
        else:
            class_weights = compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_)
        if not (np.isfinite(class_weights).all() and (class_weights >= 0).all()):
            raise InvalidArgumentError(
                f"{type(self).__name__}(class_weight={self.class_weight!r}): the classes' weights are finite numbers, "
                "0 or more."
            )
        if not class_weights.all():
            raise InvalidArgumentError(
                f"{type(self).__name__}(class_weight={self.class_weight!r}): the rows of "
                f"{self.classes_[class_weights == 0].tolist()} have the weight 0, and nothing can be learned of them; "
                "leave them out."
            )
        return rowwise(partial(weights_of, class_weights), codes, float) * row_weight

    def _set_coefficients(self, coef: np.ndarray, intercept: np.ndarray, is_table: bool) -> None:
        """Set (k, p) and (k,) whatever the number of outputs, as scikit-learn's classifiers have them."""
        self.coef_: Any = coef
        self.intercept_: Any = intercept

    def decision_function(self, X: Any) -> Any:
        """Return ``x w + b``: Dask, not computed, for Dask, Zarr and Source.

        For two classes it is (n,), above 0 for the second class. For more it is (n, classes), largest for the class
        that is predicted.
        """
        # The squared loss predicts ``x w + b`` itself.
        return self._predicted(X, Squared())

    def predict(self, X: Any) -> Any:
        """Return the class of each row, (n,): Dask, not computed, for Dask, Zarr and Source."""
        return self._labelled(self.decision_function(X))

    def _labelled(self, z: Any) -> Any:
        """Return the classes for linear predictions, (n,)."""
        of_block = partial(labels_of, classes=self.classes_)
        return like(z, rowwise(of_block, rows(z), self.classes_.dtype))

    def _probability(self, z: Any, function: Callable) -> Any:
        """Return a function of linear predictions, (n, classes)."""
        # Predictions of float32 give probabilities of float32, with the digits of float64 until then.
        z_rows = rows(z)
        of_block = partial(in_doubles, function)
        by_class = rowwise(of_block, z_rows, z_rows.dtype, width=len(self.classes_))
        return like(z, by_class, **{"class": self.classes_})

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the share of rows whose class is predicted. For lazy rows it is a reduction: no prediction is kept."""
        return self._accuracy(self.predict(X), X, y, sample_weight)

    def _accuracy(self, predicted: Any, X: Any, y: Any, sample_weight: Any) -> float:
        """Return the share of predicted classes that are those of the targets."""
        if not is_lazy(predicted, X, y, sample_weight):
            # The score that scikit-learn's classifiers have.
            y = checkable(y, "y", labels)
            weight = checkable(sample_weight, "sample_weight")
            return accuracy_score(y, predicted, sample_weight=weight)
        predicted, y, weight = to_score(X, predicted, y, sample_weight, targets=label_rows)
        # A label without a value equals no class, and would count as an error of the model.
        is_right = da.map_blocks(_is_right, predicted, y, dtype=float, meta=np.empty(0))
        right, total, is_missing = compute(
            weighted(is_right, weight),
            sum_of_weights(y, weight),
            without_value(y).any(),
            what="the score",
        )
        if is_missing or not np.isfinite(right):
            refuse_missing("score", y=y, sample_weight=weight)
        check_sum_of_weights(total)
        return float(right / total)


def _is_right(predicted: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return 1 where a predicted class is the label, else 0; refuse labels of another kind, which never are."""
    if len(y) and _is_text(predicted) != _is_text(y):
        raise InvalidArgumentError(
            f"score: the classes of the fit are of the kind of {predicted[:1].tolist()[0]!r}, and y holds "
            f"{y[:1].tolist()[0]!r}; strings and numbers are never equal. Give labels of the same kind."
        )
    return (predicted == y).astype(float)


def _is_text(labels: np.ndarray) -> bool:
    """Return whether there are strings among the labels."""
    if labels.dtype.kind == "O":
        return any(isinstance(label, str) for label in labels)
    return labels.dtype.kind in "UT"


def _sized_if_lazy(array: Any) -> Any:
    """Return a Dask array with blocks of known sizes; an array in memory stays as it is."""
    if isinstance(array, da.Array):
        return sized(array, "y")
    return array


class OfProbabilities(TakesOffset, Classifier):
    """Logistic regression of two classes or more, whatever its penalty."""

    solvers_of_scikit_learn = ("lbfgs", "liblinear", "newton-cg", "newton-cholesky", "sag", "saga")

    def _loss(self) -> Any:
        """Return the loss of two classes, or of more together."""
        if len(self.classes_) == 2:
            return Logistic()
        return Softmax(len(self.classes_))

    def _source(self, *data: Any, **options: Any) -> Source:
        """Return the rows to fit; refuse an offset of more than two classes."""
        source = super()._source(*data, **options)
        # The classes are known now.
        self._check_offset(source.offset)
        return source

    def _check_offset(self, offset: Any) -> None:
        """Refuse an offset of more than two classes."""
        if offset is not None and len(self.classes_) > 2:
            raise InvalidArgumentError(
                f"{type(self).__name__}: an offset moves all {len(self.classes_)} classes alike, and so none; "
                "leave it out, or fit two classes."
            )

    def decision_function(self, X: Any, offset: Any = None) -> Any:
        """Return ``x w + b``, plus the offset (n,) of the rows if given: Dask, not computed, for Dask, Zarr and Source.

        For two classes it is (n,), above 0 for the second class. For more it is (n, classes), largest for the class
        that is predicted.
        """
        return self._linear(X, offset, "decision_function")

    def _linear(self, X: Any, offset: Any, method: str) -> Any:
        """Return ``x w + b``, plus the offset of the rows if given, for a method of this name."""
        self._warn_without_offset(X, offset, method)
        self._check_offset(offset)
        return self._predicted(X, Squared(), offset)

    def predict(self, X: Any, offset: Any = None) -> Any:
        """Return the class of each row, (n,): Dask, not computed, for Dask, Zarr and Source."""
        return self._labelled(self._linear(X, offset, "predict"))

    def predict_proba(self, X: Any, offset: Any = None) -> Any:
        """Return the probability of each class, (n, classes): Dask, not computed, for Dask, Zarr and Source."""
        return self._probability(self._linear(X, offset, "predict_proba"), probabilities)

    def predict_log_proba(self, X: Any, offset: Any = None) -> Any:
        """Return the logarithm of the probability of each class, (n, classes)."""
        z = self._linear(X, offset, "predict_log_proba")
        return np.log(self._probability(z, probabilities))

    def score(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        offset: Any = None,
    ) -> float:
        """Return the share of rows whose class is predicted. For lazy rows it is a reduction: no prediction is kept."""
        predicted = self._labelled(self._linear(X, offset, "score"))
        return self._accuracy(predicted, X, y, sample_weight)


@dataclass(kw_only=True, repr=False, eq=False)
class LogisticRegression(WithJobs, Liblinear, OfProbabilities):
    """Logistic regression of two classes or more.

    It minimises ``C sum s log(1 + exp(-(2 y - 1) (x w + b)))`` plus
    ``l1_ratio sum(abs(w)) + (1 - l1_ratio) / 2 sum(w^2)``; s are the row weights, times the weights of the classes. For
    more than two classes the loss is `dask_gd.Softmax`, of all classes together.

    C and l1_ratio mean the same as scikit-learn's; the penalty of the mean loss is ``1 / (C sum s)`` times theirs, and
    the sum takes a reduction where the weights are lazy. ``C=np.inf`` is no penalty. The intercepts of more than two
    classes sum to 0.

    Other parameters, and the attributes, are those of `dask_gd.estimators.base.Estimator`; and ``classes_``.

    Parameters
    ----------
    C : float
    l1_ratio : float
        From 0 (squares only) to 1 (absolute values only).
    penalty : {"l1", "l2", "elasticnet"} or None
        scikit-learn's former way to say it: "l1" is an l1_ratio of 1, "l2" of 0, and None is ``C=np.inf``.
    class_weight : dict, "balanced" or None

    Attributes
    ----------
    n_iter_ : array (1,)
        Steps taken; an array as in scikit-learn.

    Examples
    --------
    >>> from dask_gd.estimators import LogisticRegression
    >>> model = LogisticRegression().fit([[0.0], [1.0], [2.0], [3.0]], ["no", "no", "yes", "yes"])
    >>> model.predict([[0.5], [2.5]]).tolist()
    ['no', 'yes']
    """

    C: float = 1.0
    l1_ratio: float | None = 0.0
    penalty: str | None = field(default="deprecated", kw_only=False)

    def constraints(self) -> dict[str, Any]:
        """Return what parameters may be."""
        return {
            "l1_ratio": [SHARE, None],
            "penalty": [*CONSTRAINTS["penalty"], Hidden(StrOptions({"deprecated"}))],
        }

    def _penalty(self, total: Callable[[], float]) -> Penalty:
        if self.penalty is None:
            if self.C != 1.0:
                warn(f"Setting penalty=None will ignore the C that is given, {self.C!r}.", UserWarning)
            return L2(0.0)
        # The former names of some ratios.
        ratios: dict[str, Any] = {"l1": 1.0, "l2": 0.0}
        ratio = ratios.get(self.penalty, self.l1_ratio)
        if ratio != self.l1_ratio and self.l1_ratio:
            warn(
                f"Inconsistent values: penalty={self.penalty} with l1_ratio={self.l1_ratio}; l1_ratio parameter is "
                f"only used when penalty is 'elasticnet'. Got (penalty={self.penalty}).",
                UserWarning,
            )
        if self.penalty == "elasticnet" and ratio is None:
            raise InvalidArgumentError("l1_ratio must be specified when penalty is elasticnet.")
        alpha = strength(self, self.C, total)
        return penalties.ElasticNet(alpha, ratio or 0.0)

    def _set_attributes(self, result: FitResult, source: Source) -> None:
        super()._set_attributes(result, source)
        self.n_iter_ = np.array([result.n_iter], dtype=np.int32)
