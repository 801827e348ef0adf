"""Logistic regression whose penalty is chosen by cross-validation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import dask.array as da
import numpy as np

from ..errors import InvalidArgumentError
from ..fitting.scores import score_of
from ..fitting.search_result import SearchResult
from ..results.fit_result import FitResult
from ..sources import Source
from ..sources.columns import as_rows
from ..sources.lazy import column, dask_rows, label_rows
from .classification import OfProbabilities
from .lazy import score_of_blocks, to_score
from .parameters import Hidden, Liblinear, StrOptions, WithJobs
from .rowwise import codes_of, rowwise
from .scoring import needs_rows, score_in_search, scorer_of
from .search import Searched, floats


@dataclass(kw_only=True, repr=False, eq=False)
class LogisticRegressionCV(WithJobs, Liblinear, Searched, OfProbabilities):
    """`LogisticRegression` with the C of the best mean score over folds.

    All folds and values share each pass. A hash decides the fold of each row, whatever its class.

    Other parameters, and the attributes, are those of `dask_gd.estimators.base.Estimator`,
    `dask_gd.estimators.search.Searched`; and ``classes_``.

    Parameters
    ----------
    Cs : int or floats
        A number of Cs from 1e-4 to 1e4, evenly in logarithms; or the Cs themselves.
    l1_ratios : floats
    scoring : str or callable
        Any name of scikit-learn's, or a callable ``(estimator, X, y)``. Names that `dask_gd.search` knows are summed,
        out of core. Other names, and scorers that ``sklearn.metrics.make_scorer`` returns, are given the predictions of
        a fold's rows in memory. Other callables are given the fold's rows, lazy ones if the data is lazy. Rows have
        their ``sample_weight``, if the scorer takes weights, and not the weights of their classes. `score` is this
        score too.
    class_weight : dict, "balanced" or None
    penalty : {"l1", "l2"}
        scikit-learn's former way to say that l1_ratios is (1.0,) or (0.0,).
    refit : bool
        False is refused: the coefficients are always those of a fit to all rows.
    use_legacy_attributes : bool
        Give the attributes the shapes that they had in scikit-learn before 1.10: a dict by class of arrays (folds, Cs,
        l1_ratios, ...), and an array for each number.

    Attributes
    ----------
    C_, l1_ratio_ : float
    n_iter_ : array (folds, l1_ratios, Cs)
    Cs_, l1_ratios_ : array
    scores_ : array (folds, l1_ratios, Cs)
    coefs_paths_ : array (folds, l1_ratios, Cs, 1 or classes, p + 1)
        Without the last column if there is no intercept.

    Examples
    --------
    >>> from dask_gd.estimators import LogisticRegressionCV
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(200, 3))
    >>> model = LogisticRegressionCV(Cs=[1e-3, 1.0]).fit(x, x[:, 0] + rng.normal(size=200) > 0)
    >>> model.C_, model.scores_.shape
    (1.0, (5, 1, 2))
    """

    Cs: Any = 10
    l1_ratios: Any = (0.0,)
    scoring: Any = "accuracy"
    penalty: str | None = "deprecated"
    refit: bool = True
    use_legacy_attributes: bool = False

    def constraints(self) -> dict[str, Any]:
        """Return what parameters may be."""
        return {"penalty": [StrOptions({"l1", "l2", "elasticnet"}), Hidden(StrOptions({"deprecated"}))]}

    def _ratios(self) -> np.ndarray:
        """Return the l1_ratios of the candidates."""
        named = {"l1": 1.0, "l2": 0.0}
        if self.penalty in named:
            return floats(named[self.penalty])
        if self.penalty == "elasticnet":
            given = self.l1_ratios
            are_ratios = given is not None and np.ndim(given) == 1 and len(given) > 0
            if not are_ratios or not all(isinstance(r, int | float | np.number) and 0 <= r <= 1 for r in given):
                raise InvalidArgumentError(
                    f"l1_ratios must be an array-like of numbers between 0 and 1; got (l1_ratios={given!r})."
                )
        return floats(0.0 if self.l1_ratios is None else self.l1_ratios)

    def _encoded(self, x: Any, y: Any, weight: Any, goes_on: bool) -> tuple:
        own_weight = weight
        if isinstance(x, Source):
            own_weight = column(x, "weight")
        self._own_weight = own_weight
        return super()._encoded(x, y, weight, goes_on)

    def _with_score_weights(self, source: Source) -> Source:
        # An estimator does not keep rows.
        own_weight = self._own_weight
        del self._own_weight
        if self.class_weight is None:
            return source
        # Scores are of the rows as they are given, as scikit-learn's are: classes have no weights there.
        if own_weight is None:
            own_weight = da.ones(source.shape[0])
        weights = as_rows(dask_rows(own_weight, "sample_weight"), "sample_weight")
        first = source.bounds[0]
        return source.with_columns(score_weight=weights.aligned(tuple(bound - first for bound in source.bounds)))

    def _grid(self) -> dict[str, Any]:
        if not self.refit:
            raise InvalidArgumentError(
                "LogisticRegressionCV(refit=False) is not served: the best candidate is fitted to all rows."
            )
        Cs = self.Cs
        if isinstance(Cs, int | np.integer):
            Cs = np.geomspace(1e-4, 1e4, Cs)
        return {"Cs": Cs, "l1_ratios": self._ratios()}

    def _scoring(self) -> Any:
        return self.scoring or "accuracy"

    def _set_choice(self, candidates: SearchResult, best: dict[str, Any]) -> None:
        self.C_: Any = best["C"]
        self.l1_ratio_: Any = best["l1_ratio"]
        self.l1_ratios_ = self._ratios()
        # Candidates are in the order of the l1_ratios, then of the Cs.
        data = candidates.data
        ratios = len(self.l1_ratios_)
        self.Cs_ = data.C.values[: data.sizes["candidate"] // ratios]

        def by_fold(values: np.ndarray) -> np.ndarray:
            """Return (candidates, folds, ...) as (folds, l1_ratios, Cs, ...)."""
            on_grid = values.reshape(ratios, len(self.Cs_), *values.shape[1:])
            return np.moveaxis(on_grid, 2, 0)

        self.scores_: Any = by_fold(data.score.values)
        self._steps_of_folds = by_fold(data.n_iter.values)
        weights = by_fold(data.weights.values)
        intercept = by_fold(data.intercept.values)
        # Two classes have a single column of coefficients, and no axis for it.
        if len(self.classes_) == 2:
            weights = weights[..., None]
            intercept = intercept[..., None]
        # scikit-learn has the classes before the features, and the intercept as the last feature.
        self.coefs_paths_: Any = np.moveaxis(weights, -1, -2)
        if self.fit_intercept:
            last_feature = intercept[..., None]
            self.coefs_paths_ = np.concatenate([self.coefs_paths_, last_feature], axis=-1)

    def score(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        offset: Any = None,
    ) -> float:
        """Return the score that ``scoring`` names, as scikit-learn's does: by default the share of right predictions.

        For lazy rows it is a reduction, unless the scorer has no name that `dask_gd.search` knows: it is then given all
        predictions, or the lazy rows if it is a callable of one's own.
        """
        scorer = scorer_of(self._scoring(), type(self).__name__)
        if scorer == "accuracy":
            return super().score(X, y, sample_weight, offset)
        if needs_rows(scorer):
            return float(scorer(self, X, y))
        z, targets, weight = to_score(X, self._linear(X, offset, "score"), y, sample_weight, targets=label_rows)
        codes = rowwise(partial(codes_of, classes=self.classes_), targets, float)
        score = score_of(score_in_search(self, scorer), self._loss(), 1, has_own_weights=True)
        assert score.summary is not None
        return score_of_blocks(score.summary, codes, z, weight)

    def _set_attributes(self, result: FitResult, source: Source) -> None:
        super()._set_attributes(result, source)
        self.n_iter_ = self._steps_of_folds
        if self.use_legacy_attributes:
            self._set_legacy_attributes()

    def _set_legacy_attributes(self) -> None:
        """Give the attributes the shapes that they had before scikit-learn 1.10."""
        # The separations: one of two classes, else one for each class.
        classes = self.classes_
        if len(classes) == 2:
            classes = classes[1:]
        self.C_ = np.full(len(classes), self.C_)
        self.l1_ratio_ = np.full(len(classes), self.l1_ratio_)
        self.n_iter_ = self._steps_of_folds.swapaxes(1, 2)[None]
        paths = self.coefs_paths_.swapaxes(1, 2)
        scores = self.scores_.swapaxes(1, 2)
        self.coefs_paths_ = {name: paths[..., i, :] for i, name in enumerate(classes)}
        self.scores_ = dict.fromkeys(classes, scores)
