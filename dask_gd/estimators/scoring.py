"""scikit-learn's scorers within the folds of a search.

A name that `dask_gd.search` knows is summed by it. Any other scorer that scikit-learn makes is given the predictions of
a fold's rows, through an estimator of predictions, and never their features. Any other callable is given the fold's
estimator and rows, lazy ones if the rows are lazy.
"""

from __future__ import annotations

from copy import copy
from inspect import signature
from typing import Any

import numpy as np
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.metrics import get_scorer, get_scorer_names, make_scorer
from sklearn.metrics._scorer import _BaseScorer
from sklearn.utils.metadata_routing import get_routing_for_object

from ..errors import InvalidArgumentError
from ..fitting.fold_assignment import assign_by_rows, fold_numbers
from ..fitting.fold_splits import is_splits, splits_of
from ..fitting.score_summaries import OfPredictions
from ..fitting.scores import is_known, name_of
from ..fitting.search_result import SearchResult
from ..sources import Source
from ..sources.columns import holds_sparse
from ..sources.lazy import column, dask_rows
from .rowwise import labels_of, probabilities


class Predicted(RegressorMixin, BaseEstimator):
    """An estimator of predictions, which are its features, for scorers of scikit-learn."""

    def fit(self, X: Any, y: Any = None):
        """Do nothing."""
        return self

    def predict(self, X: Any) -> Any:
        """Return the predictions."""
        return X


class PredictedClasses(ClassifierMixin, BaseEstimator):
    """An estimator whose features are linear predictions, (n,) or (n, classes), for scorers of scikit-learn."""

    def __init__(self, classes: Any = None):
        self.classes = classes
        self.classes_ = classes

    def fit(self, X: Any, y: Any = None):
        """Do nothing."""
        return self

    def decision_function(self, X: Any) -> Any:
        """Return the linear predictions."""
        return X

    def predict_proba(self, X: Any) -> Any:
        """Return the probabilities, (n, classes)."""
        return probabilities(X)

    def predict(self, X: Any) -> Any:
        """Return the classes, (n,)."""
        return labels_of(X, self.classes)


def scorer_of(scoring: Any, owner: str) -> Any:
    """Return the name of a score that a search sums, a scorer that scikit-learn makes, or another callable.

    A scorer of scikit-learn that a search knows by name is returned as that name.
    """
    if isinstance(scoring, str):
        if is_known(scoring):
            return scoring
        if scoring not in get_scorer_names():
            raise InvalidArgumentError(
                f"{owner}(scoring={scoring!r}): no score has this name; see sklearn.metrics.get_scorer_names()."
            )
        return get_scorer(scoring)
    if not callable(scoring):
        raise InvalidArgumentError(
            f"{owner}(scoring={scoring!r}): the name of a score, or a callable (estimator, X, y) such as "
            "sklearn.metrics.make_scorer returns."
        )
    if not isinstance(scoring, _BaseScorer) or get_config()["enable_metadata_routing"]:
        return scoring
    for name in get_scorer_names():
        if is_known(name) and is_same(scoring, get_scorer(name)):
            return name
    return scoring


def is_same(a: _BaseScorer, b: _BaseScorer) -> bool:
    """Return whether two scorers of scikit-learn take the same function of the same predictions."""
    parts = ("_score_func", "_sign", "_response_method")
    return all(getattr(a, part) == getattr(b, part) for part in parts) and options_of(a) == options_of(b)


def options_of(scorer: _BaseScorer) -> dict[str, Any]:
    """Return the options of a scorer that have an effect."""
    options = dict(scorer._kwargs)
    # Averages over classes have no positive class.
    if options.get("average", "binary") != "binary":
        options.pop("pos_label", None)
    return options


def needs_rows(scorer: Any) -> bool:
    """Return whether a scorer is given the features, and not predictions alone."""
    return not isinstance(scorer, str | _BaseScorer)


def of_predictions(scorer: _BaseScorer, classes: np.ndarray | None = None) -> OfPredictions:
    """Return the function of targets, linear predictions and weights that a scorer of scikit-learn stands for."""
    name = name_of(scorer)
    if classes is not None:
        scorer = with_labels(scorer, classes)
    takes_weights = is_weighted(scorer)

    def score(y: np.ndarray, z: np.ndarray, weight: np.ndarray | None) -> float:
        """Return the score of a fold's predictions."""
        estimator: Any = Predicted()
        targets = y
        if classes is not None:
            estimator = PredictedClasses(classes)
            targets = classes[y.astype(int)]
        options = {}
        if weight is not None and takes_weights:
            options["sample_weight"] = weight
        return scorer(estimator, z, targets, **options)

    score.__name__ = name
    return score


def of_left_out(scorer: Any) -> str | OfPredictions:
    """Return what scores predictions of rows that are left out one by one, for any scorer, which is given no features.

    As in scikit-learn's RidgeCV, an estimator whose features are predictions stands for the fits.
    """
    if isinstance(scorer, str):
        return scorer
    if isinstance(scorer, _BaseScorer):
        return of_predictions(scorer)

    def score(y: np.ndarray, z: np.ndarray, weight: np.ndarray | None) -> float:
        """Return the score that a callable gives the predictions."""
        options = {}
        if weight is not None:
            options["sample_weight"] = weight
        return scorer(Predicted(), z, y, **options)

    return score


def with_labels(scorer: _BaseScorer, classes: np.ndarray) -> _BaseScorer:
    """Return a scorer that knows all classes, as scikit-learn's LogisticRegressionCV makes it: a fold may lack some."""
    known = signature(scorer._score_func).parameters
    given = scorer._kwargs
    options: dict[str, Any] = {}
    if "labels" in known and "labels" not in given:
        options["labels"] = classes
        if len(classes) == 2 and "pos_label" in known and "pos_label" not in given:
            options["pos_label"] = classes[-1]
    if not options:
        return scorer
    made = make_scorer(
        scorer._score_func,
        greater_is_better=scorer._sign > 0,
        response_method=scorer._response_method,
        **options,
        **given,
    )
    # What metadata it asks for is its own.
    if hasattr(scorer, "_metadata_request"):
        made._metadata_request = scorer._metadata_request
    return made


def is_weighted(scorer: _BaseScorer) -> bool:
    """Return whether a scorer is given the weights of rows: with metadata routing if it asks for them."""
    if get_config()["enable_metadata_routing"]:
        request = get_routing_for_object(scorer).score.requests
        return request.get("sample_weight") is True
    return "sample_weight" in signature(scorer._score_func).parameters


class RowsOfFolds:
    """The rows of each fold, for callables that are given them."""

    def __init__(self, estimator: Any, source: Source, folds: Any):
        owner = type(estimator).__name__
        self.estimator = estimator
        reason = None
        if source.offset is not None:
            reason = "an offset, which such a callable has no place for"
        elif source.x.encoding is not None or source.x.fields is not None:
            reason = "columns of levels or the variables of a Dataset, which are no rows of an array"
        elif source.nan == "drop":
            reason = "nan='drop', which leaves out rows"
        if reason is not None:
            raise InvalidArgumentError(
                f"{owner}(scoring={name_of(estimator.scoring)}) is given the rows of each fold, and the data has "
                f"{reason}. Give the name of a score, or a scorer of sklearn.metrics.make_scorer."
            )
        #: The rows of each fold, and the folds as the search takes them.
        self.tests: list[np.ndarray]
        self.folds: Any
        if is_splits(folds):
            self.folds = splits_of(folds, source, None)
            self.tests = [split.test for split in self.folds]
        else:
            self.folds = fold_numbers(*assign_by_rows(source, folds, None, estimator._loss()))
            self.tests = [np.flatnonzero(self.folds == fold) for fold in range(self.folds.max() + 1)]
        rows = estimator._rows
        if rows is None:
            self.x = column(source, "x")
            # Sparse blocks stay so.
            if not holds_sparse(self.x):
                self.x = dask_rows(self.x)
            self.y = np.asarray(dask_rows(column(source, "y")))
            classes = getattr(estimator, "classes_", None)
            if classes is not None:
                self.y = classes[self.y.ravel().astype(int)]
        else:
            self.x = rows.x
            self.y = np.asarray(rows.y)

    def scored(self, found: SearchResult, scoring: Any) -> SearchResult:
        """Return the result with the scores that a callable gives each candidate in each fold."""
        sizes = found.data.sizes
        scores = np.full((sizes["candidate"], sizes["fold"]), np.nan)
        failed = found.data.reason.isin(["diverged", "dropped"]).values
        for fold in range(sizes["fold"]):
            x = self.x[self.tests[fold]]
            y = self.y[self.tests[fold]]
            for candidate in np.flatnonzero(~failed[:, fold]):
                fitted = self._fitted(found, int(candidate), fold)
                scores[candidate, fold] = float(scoring(fitted, x, y))
        return found.with_scores(scores, name_of(scoring))

    def _fitted(self, found: SearchResult, candidate: int, fold: int) -> Any:
        """Return the estimator as it is when fitted to all rows but the fold's."""
        fitted = copy(self.estimator)
        result = found.fit_without(candidate, fold)
        fitted.result_ = result
        fitted.n_features_in_ = self.x.shape[1]
        # The rows that it is given have no names.
        fitted.__dict__.pop("feature_names_in_", None)
        parameters = result.parameters
        fitted._set_coefficients(parameters[:-1].T, parameters[-1], result.weights.ndim == 2)
        return fitted


def score_in_search(estimator: Any, scorer: Any) -> Any:
    """Return what `dask_gd.search` takes for a scorer that is given predictions: a name, or a function of them."""
    if isinstance(scorer, str):
        return scorer
    return of_predictions(scorer, getattr(estimator, "classes_", None))
