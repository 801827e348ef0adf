"""Estimators that choose their penalty by cross-validation, all candidates and folds in shared passes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from ..errors import warn
from ..fitting.scores import LOSS
from ..fitting.search import search
from ..fitting.search_result import SearchResult
from ..results.fit_result import FitResult
from ..sources import Source
from .base import Estimator
from .parameters import ABOVE_0_WHOLE, CONSTRAINTS, SHARE, ByCoordinates, Hidden, StrOptions, Verbose, WithJobs
from .regression import SeveralTargets
from .scoring import RowsOfFolds, needs_rows, score_in_search, scorer_of


def floats(values: Any) -> np.ndarray:
    """Return a number or numbers as an array of one dimension."""
    return np.atleast_1d(np.asarray(values, dtype=float))


@dataclass(kw_only=True, repr=False, eq=False)
class Searched(Estimator):
    """The base of estimators that choose their penalty by `dask_gd.search`.

    Parameters
    ----------
    cv : int, Folds, array (n,), splitter of scikit-learn or iterable of splits
        As ``folds`` of `dask_gd.search`: a number of folds by a hash of the row's number, 5 by default; any
        `dask_gd.Folds`; each row's fold; of data in memory a splitter; or its splits, pairs of the numbers of the rows
        to fit and of those held out. Splits may overlap, or leave out rows; they then take more passes.

    Attributes
    ----------
    search_ : SearchResult
        All candidates on all folds.
    n_iter_ : int
        Steps of the best candidate's fit to all rows.
    best_score_ : float
        The mean over folds of the best candidate.
    """

    cv: Any = None

    def _minimise(
        self,
        source: Source,
        start: FitResult | None,
        store: Any,
    ) -> FitResult:
        """Return the fit of the best candidate to all rows."""
        folds: Any = 5
        if self.cv is not None:
            folds = self.cv
        # Splits that can be read once only are read now.
        if isinstance(folds, Iterator):
            folds = list(folds)
        # A callable that is given rows scores the fits when they are there.
        scorer = scorer_of(self._scoring(), type(self).__name__)
        rows_of_folds = None
        scoring: Any = LOSS
        if needs_rows(scorer):
            rows_of_folds = RowsOfFolds(self, source, folds)
            folds = rows_of_folds.folds
        else:
            scoring = score_in_search(self, scorer)
        # All candidates are fitted without each of the folds and on all rows, in shared passes.
        candidates = search(
            self._with_score_weights(source),
            loss=self._loss(),
            folds=folds,
            scoring=scoring,
            solver=self._solver(),
            fit_intercept=self.fit_intercept,
            max_iter=self._steps(),
            tol=self._tolerance(source),
            initial_weights=start,
            # Estimators have arrays of coefficients, of all candidates' fits.
            weights="whole",
            **self._grid(),
        )
        if rows_of_folds is not None:
            candidates = rows_of_folds.scored(candidates, scorer)
        self.search_: SearchResult = candidates
        self.best_score_ = float(candidates.scores[candidates.best_index].mean())
        self._set_choice(candidates, candidates.best)
        # It goes on from the candidate's fit to all rows, which is part of the search.
        reasons = np.append(candidates.data.reason.values, candidates.data.all_reason.values)
        self._unfinished = int((reasons == "max_iter").sum())
        result = candidates.refit(source, store=store, callbacks=self._all_callbacks)
        # As scikit-learn's estimators do.
        self._unfinished += result.reason == "max_iter"
        if self._unfinished:
            warn(
                f"{type(self).__name__}: {self._unfinished} of {len(reasons) + 1} fits took max_iter={self._steps()} "
                "steps without an end, see search_.data.reason. Raise max_iter or tol, or scale the features.",
                ConvergenceWarning,
            )
        return result

    def _with_score_weights(self, source: Source) -> Source:
        """Return rows to search, with weights of their own for scores where those of the fits are others."""
        return source

    def _set_attributes(self, result: FitResult, source: Source) -> None:
        super()._set_attributes(result, source)
        # The steps of the search come before those of the last fit.
        search_steps = int(self.search_.data.all_n_iter[self.search_.best_index])
        self.n_iter_ = search_steps + result.n_iter
        self.converged_ = result.converged and not self._unfinished

    def _grid(self) -> dict[str, Any]:
        """Return the candidates, as `search` takes them."""
        raise NotImplementedError

    def _scoring(self) -> Any:
        """Return the score that decides between candidates: a name, or a scorer of scikit-learn's kind."""
        raise NotImplementedError

    def _set_choice(self, candidates: SearchResult, best: dict[str, Any]) -> None:
        """Set the attributes that say which candidate is the best."""
        raise NotImplementedError


@dataclass(kw_only=True, repr=False, eq=False)
class PathCV(ByCoordinates, WithJobs, Verbose, SeveralTargets, Searched):
    """The base of estimators with a path of alphas of absolute values, which the mean squared error decides."""

    eps: float = 1e-3
    alphas: Any = 100
    n_alphas: int | None = None
    precompute: Any = "auto"
    positive: bool = False

    def constraints(self) -> dict[str, Any]:
        """Return what parameters may be."""
        return {
            "alphas": [*CONSTRAINTS["alphas"], None, Hidden(StrOptions({"warn"}))],
            "n_alphas": [ABOVE_0_WHOLE, None, Hidden(StrOptions({"deprecated"}))],
        }

    def _alphas(self) -> Any:
        """Return the alphas, or their number, of which ``n_alphas`` is the former name."""
        if isinstance(self.n_alphas, int | np.integer):
            return self.n_alphas
        # The defaults of former releases of scikit-learn.
        if self.alphas is None or isinstance(self.alphas, str):
            return 100
        return self.alphas

    def _ratios(self) -> list[float]:
        """Return the l1_ratios of the candidates."""
        raise NotImplementedError

    def _grid(self) -> dict[str, Any]:
        # Falling, as scikit-learn has them in ``alphas_``.
        alphas = self._alphas()
        if not isinstance(alphas, int | np.integer):
            alphas = -np.sort(-floats(alphas))
        return {
            "alphas": alphas,
            "l1_ratios": self._ratios(),
            "eps": self.eps,
            "positive": self.positive,
        }

    def _scoring(self) -> Any:
        return "neg_mean_squared_error"

    def _set_choice(self, candidates: SearchResult, best: dict[str, Any]) -> None:
        # Candidates are in the order of the l1_ratios, then of the alphas.
        ratios = len(self._ratios())
        folds = candidates.data.sizes["fold"]
        self.alphas_ = candidates.data.alpha.values.reshape(ratios, -1)
        # Axes of length 1 are left out, as in scikit-learn.
        self.mse_path_ = np.squeeze(-candidates.scores.values.reshape(ratios, -1, folds))
        # An axis of a single l1_ratio is left out, and alphas that are set are the same for each.
        if ratios == 1 or not isinstance(self._alphas(), int | np.integer):
            self.alphas_ = self.alphas_[0]
        self.alpha_ = best["alpha"]
        self.l1_ratio_ = best["l1_ratio"]


@dataclass(kw_only=True, repr=False, eq=False)
class LassoCV(PathCV):
    """`Lasso` with the alpha of the least mean squared error on rows held out.

    A single pass over the data serves all folds and alphas, and finds the largest alpha that is worth a trial. A hash
    decides the fold of each row, where scikit-learn takes consecutive rows, ``cv=dask_gd.Folds(5, by="block")``.

    Other parameters, and the attributes, are those of `dask_gd.estimators.base.Estimator` and
    `dask_gd.estimators.search.Searched`.

    Parameters
    ----------
    eps : float
        The least alpha over the largest.
    alphas : int or floats
        A number of alphas, evenly in logarithms from the least that makes every weight 0; or the alphas themselves.
    n_alphas : int, optional
        The number of alphas, as scikit-learn before 1.9 has it.
    positive : bool
        Keep the weights at 0 or above.

    Attributes
    ----------
    alpha_ : float
    alphas_ : array (alphas,)
        Falling.
    mse_path_ : array (alphas, folds)

    Examples
    --------
    >>> from dask_gd.estimators import LassoCV
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(200, 5))
    >>> model = LassoCV(alphas=20).fit(x, 3 * x[:, 0] + rng.normal(size=200))
    >>> model.mse_path_.shape, int((model.coef_ != 0).sum())
    ((20, 5), 1)
    """

    def _ratios(self) -> list[float]:
        return [1.0]


@dataclass(kw_only=True, repr=False, eq=False)
class ElasticNetCV(PathCV):
    """`ElasticNet` with the alpha and l1_ratio of the least mean squared error on rows held out.

    It is like `LassoCV`, with a path for each l1_ratio. With more than one l1_ratio ``mse_path_`` is (l1_ratios,
    alphas, folds) and ``alphas_`` is (l1_ratios, alphas), unless the alphas are set.

    Other parameters, and the attributes, are those of `dask_gd.estimators.base.Estimator` and
    `dask_gd.estimators.search.Searched`.

    Parameters
    ----------
    l1_ratio : float or floats
        Above 0, if ``alphas`` is a number of alphas.
    eps, alphas
        As for `LassoCV`.

    Attributes
    ----------
    alpha_, l1_ratio_ : float
    alphas_, mse_path_ : array

    Examples
    --------
    >>> from dask_gd.estimators import ElasticNetCV
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(200, 5))
    >>> model = ElasticNetCV(l1_ratio=[0.5, 0.9], alphas=20).fit(x, 3 * x[:, 0] + rng.normal(size=200))
    >>> model.l1_ratio_, model.mse_path_.shape
    (0.9, (2, 20, 5))
    """

    l1_ratio: Any = 0.5

    def constraints(self) -> dict[str, Any]:
        """Return what parameters may be."""
        return {**super().constraints(), "l1_ratio": [SHARE, "array-like"]}

    def _ratios(self) -> list[float]:
        return floats(self.l1_ratio).tolist()
