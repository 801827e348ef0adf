"""`RidgeCV`: the alpha of a ridge regression, by rows that are left out one by one, or by folds."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.metrics import check_scoring

from ..errors import InvalidArgumentError
from ..fitting.leave_one_out_passes import leave_one_out_scores
from ..fitting.scores import score_of
from ..fitting.search_result import SearchResult
from ..results.fit_result import FitResult
from ..sources import Source
from .base import Estimator
from .leave_one_out import WIDEST, LeftOut, leave_one_out
from .of_rows import RowsInMemory
from .parameters import ABOVE_0
from .ridge import ByAlpha
from .scoring import Predicted, of_left_out, scorer_of
from .search import Searched, floats


@dataclass(kw_only=True, repr=False, eq=False)
class RidgeCV(ByAlpha, Searched):
    """`Ridge` with the alpha of the best score on rows held out.

    Rows are left out one by one, as in scikit-learn, if ``cv`` is None. The errors of rows in memory follow from one
    decomposition of the features. Lazy rows take two passes for all alphas, whatever their number, and may have 4,096
    features. With ``cv`` the rows are held out by folds, and a single pass over the data serves all folds and alphas.

    Other parameters, and the attributes, are those of `dask_gd.estimators.base.Estimator` and
    `dask_gd.estimators.search.Searched`; ``search_`` is there with folds only.

    Parameters
    ----------
    alphas : floats
        Above 0.
    scoring : str or callable, optional
        Any name of scikit-learn's, or a callable ``(estimator, X, y)``. With folds it is as for `LogisticRegressionCV`,
        by default R2. Where rows are left out one by one, a scorer is given their predictions, and the default is the
        mean squared error.
    store_cv_results : bool
        Keep ``cv_results_``, of rows in memory. It and ``alpha_per_target`` are for rows that are left out one by one.
    alpha_per_target : bool
        Choose an alpha for each target.

    Attributes
    ----------
    alpha_ : float, or array (k,) with ``alpha_per_target``
    best_score_ : float
    cv_results_ : array (n, alphas) or (n, k, alphas)
        The squared errors of the rows that are left out, times their weights; with ``scoring`` their predictions.

    Examples
    --------
    >>> from dask_gd.estimators import RidgeCV
    >>> x = np.arange(20.0)[:, None]
    >>> model = RidgeCV(alphas=(1.0, 100.0)).fit(x, 2 * x[:, 0] + np.tile([0.5, -0.5], 10))
    >>> model.alpha_
    1.0
    """

    alphas: Any = field(default=(0.1, 1.0, 10.0), kw_only=False)
    scoring: Any = None
    gcv_mode: str | None = None
    store_cv_results: bool = False
    alpha_per_target: bool = False

    def constraints(self) -> dict[str, Any]:
        """Return what parameters may be."""
        return {"alphas": ["array-like", ABOVE_0]}

    def _minimise(
        self,
        source: Source,
        start: FitResult | None,
        store: Any,
    ) -> FitResult:
        """Return the fit with the best alpha to all rows."""
        alphas = floats(self.alphas)
        for i, alpha in enumerate(alphas):
            if not alpha > 0:
                raise InvalidArgumentError(f"RidgeCV: alphas[{i}] == {alpha:g}, must be > 0.0.")
        if self.cv is not None:
            for name in ("store_cv_results", "alpha_per_target"):
                if getattr(self, name):
                    raise InvalidArgumentError(
                        f"RidgeCV: cv!=None and {name}=True are incompatible: no row is left out by itself."
                    )
            return super()._minimise(source, start, store)

        # Rows are left out one by one: from a decomposition of the rows, or of products that passes have summed.
        if self._rows is None:
            scores = self._score_alphas_lazily(alphas, source)
        else:
            self._check_rows(self._rows)
            scores = self._score_alphas(alphas, self._rows)
        best = scores.argmax(axis=0)
        self.best_score_: Any = scores.max(axis=0)
        chosen = alphas[best]
        self.alpha_: Any = chosen
        if not np.ndim(chosen):
            self.alpha_ = float(chosen)
            self.best_score_ = float(self.best_score_)
        return self._minimise_by_alpha(source, start, store, np.atleast_1d(chosen))

    def _check_rows(self, rows: RowsInMemory) -> None:
        """Refuse rows in memory whose decomposition is too large."""
        if min(rows.x.shape) > WIDEST:
            raise InvalidArgumentError(
                f"RidgeCV(cv=None) leaves rows out one by one, which takes a decomposition of {rows.x.shape} "
                f"features; that is for at most {WIDEST:,} rows or features. Give cv=5."
            )
        if self.gcv_mode == "svd" and sparse.issparse(rows.x):
            warnings.warn(
                "The 'svd' mode is not supported for sparse X; gcv_mode has no effect.",
                FutureWarning,
                stacklevel=2,
            )

    def _score_alphas_lazily(self, alphas: np.ndarray, source: Source) -> np.ndarray:
        """Return the scores of the alphas on lazy rows, as `_score_alphas` does on those in memory."""
        if self.store_cv_results:
            raise InvalidArgumentError(
                "RidgeCV(store_cv_results=True) keeps numbers of every row, and is for rows in memory; leave it out."
            )
        outputs = source.outputs or 1
        per_target = self.alpha_per_target and outputs > 1
        summary = None
        if self.scoring is not None:
            scored_together = 1 if per_target else outputs
            scoring = of_left_out(scorer_of(self.scoring, type(self).__name__))
            summary = score_of(scoring, self._loss(), scored_together, has_own_weights=True).summary
        return leave_one_out_scores(source, alphas, self.fit_intercept, summary, per_target)

    def _score_alphas(self, alphas: np.ndarray, rows: RowsInMemory) -> np.ndarray:
        """Return the score of each alpha, (alphas,), or of each alpha for each target, (alphas, k)."""
        scorer = None
        if self.scoring is not None:
            scorer = check_scoring(Predicted(), scoring=self.scoring)
        several = self.alpha_per_target and np.ndim(rows.y) == 2 and rows.y.shape[1] > 1
        scores = []
        kept = []
        for left_out in leave_one_out(rows, alphas, self.fit_intercept):
            scores.append(_score(left_out, rows, scorer, several))
            if self.store_cv_results:
                values = left_out.errors**2
                if scorer is not None:
                    values = left_out.predictions
                kept.append(values.reshape(np.shape(rows.y)).astype(rows.x.dtype))
        if self.store_cv_results:
            self.cv_results_ = np.stack(kept, axis=-1)
        return np.array(scores)

    def _set_attributes(self, result: FitResult, source: Source) -> None:
        if self.cv is not None:
            super()._set_attributes(result, source)
        else:
            Estimator._set_attributes(self, result, source)

    def _grid(self) -> dict[str, Any]:
        # `search` takes Cs for a penalty of the sum of the losses, which Ridge has.
        return {"Cs": 1 / floats(self.alphas)}

    def _scoring(self) -> Any:
        return self.scoring or "r2"

    def _set_choice(self, candidates: SearchResult, best: dict[str, Any]) -> None:
        # The alpha itself: 1 over C has a rounding error.
        self.alpha_ = float(floats(self.alphas)[candidates.best_index])


def _score(left_out: LeftOut, rows: RowsInMemory, scorer: Any, several: bool) -> Any:
    """Return the score of an alpha, or with several targets of each of them."""
    y = rows.y
    if scorer is None:
        axis = 0 if several else None
        return -np.mean(left_out.errors**2, axis=axis)
    weight = {}
    if rows.weight is not None:
        weight["sample_weight"] = rows.weight
    predictions = left_out.predictions.reshape(np.shape(y))
    if not several:
        return scorer(Predicted(), predictions, y, **weight)
    return [scorer(Predicted(), predictions[:, j], y[:, j], **weight) for j in range(y.shape[1])]
