"""Estimators that choose their penalty by cross-validation, all candidates and folds in shared passes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import InvalidArgumentError
from ..fitting.search import search
from ..fitting.search_result import SearchResult
from ..results.fit_result import FitResult
from ..sources import Source
from .base import Estimator
from .classification import OfProbabilities
from .regression import SeveralTargets


@dataclass(kw_only=True, repr=False, eq=False)
class Searched(Estimator):
    """What they share.

    Parameters
    ----------
    cv : int, Folds, array (n,) or splitter of scikit-learn
        As ``folds`` of `dask_gd.search`: a number of folds by a hash of the row's number, 5 by default; another
        `dask_gd.Folds`; each row's fold; or a splitter whose test sets are disjoint, for data in memory.

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

    def _minimise(self, source: Source, start: FitResult | None, store: Any) -> FitResult:
        found = search(
            source,
            loss=self._loss(),
            folds=5 if self.cv is None else self.cv,
            scoring=self._scoring(),
            solver=self.solver,
            fit_intercept=self.fit_intercept,
            max_iter=self.max_iter,
            tol=self._tolerance(source),
            initial_weights=start,
            **self._grid(),
        )
        self.search_: SearchResult = found
        self.best_score_ = float(found.scores[found.best_index].mean())
        self._chosen(found, found.best)
        return found.refit(source, store=store, callbacks=self._told)

    def _take(self, result: FitResult, source: Source) -> None:
        super()._take(result, source)
        self.n_iter_ = int(self.search_.data.all_n_iter[self.search_.best_index]) + result.n_iter

    def _grid(self) -> dict[str, Any]:
        """The candidates, as `search` takes them."""
        raise NotImplementedError

    def _scoring(self) -> str:
        raise NotImplementedError

    def _chosen(self, found: SearchResult, best: dict[str, Any]) -> None:
        """Attributes of the choice."""
        raise NotImplementedError


@dataclass(kw_only=True, repr=False, eq=False)
class RidgeCV(SeveralTargets, Searched):
    """`Ridge`, and its alpha, which has the best mean score over folds.

    One pass over the data serves all folds and alphas. Differs from scikit-learn's, which by default leaves out one row
    at a time; this has five folds. Of several targets all have the same alpha.

    Other parameters, and the attributes, are those of `dask_gd.estimators.base.Estimator` and
    `dask_gd.estimators.search.Searched`.

    Parameters
    ----------
    alphas : floats
        Above 0.
    scoring : str, optional
        Of `dask_gd.search`; by default "neg_mean_squared_error".

    Attributes
    ----------
    alpha_ : float

    Examples
    --------
    >>> from dask_gd.estimators import RidgeCV
    >>> x = np.arange(20.0)[:, None]
    >>> model = RidgeCV(alphas=(1.0, 100.0)).fit(x, 2 * x[:, 0] + np.tile([0.5, -0.5], 10))
    >>> model.alpha_
    1.0
    """

    alphas: Any = field(default=(0.1, 1.0, 10.0), kw_only=False)
    scoring: str | None = None

    def _grid(self) -> dict[str, Any]:
        alphas = np.atleast_1d(np.asarray(self.alphas, dtype=float))
        if not (alphas > 0).all():
            raise InvalidArgumentError(f"RidgeCV(alphas={self.alphas!r}): each must be above 0.")
        return {"Cs": 1 / alphas}

    def _scoring(self) -> str:
        return self.scoring or "neg_mean_squared_error"

    def _chosen(self, found: SearchResult, best: dict[str, Any]) -> None:
        self.alpha_ = float(np.atleast_1d(np.asarray(self.alphas, dtype=float))[found.best_index])


@dataclass(kw_only=True, repr=False, eq=False)
class PathCV(SeveralTargets, Searched):
    """A path of alphas with absolute values, by the mean squared error."""

    eps: float = 1e-3
    alphas: Any = 100

    def _ratios(self) -> list[float]:
        raise NotImplementedError

    def _grid(self) -> dict[str, Any]:
        alphas = self.alphas
        if not isinstance(alphas, int | np.integer):
            alphas = -np.sort(-np.atleast_1d(np.asarray(alphas, dtype=float)))
        return {"alphas": alphas, "l1_ratios": self._ratios(), "eps": self.eps}

    def _scoring(self) -> str:
        return "neg_mean_squared_error"

    def _chosen(self, found: SearchResult, best: dict[str, Any]) -> None:
        ratios = len(self._ratios())
        folds = found.data.sizes["fold"]
        alphas = found.data.alpha.values.reshape(ratios, -1)
        errors = -found.scores.values.reshape(ratios, -1, folds)
        own = not isinstance(self.alphas, int | np.integer)
        if ratios == 1 or own:
            self.alphas_ = alphas[0]
        else:
            self.alphas_ = alphas
        if ratios == 1:
            self.mse_path_ = errors[0]
        else:
            self.mse_path_ = errors
        self.alpha_ = best["alpha"]
        self.l1_ratio_ = best["l1_ratio"]


@dataclass(kw_only=True, repr=False, eq=False)
class LassoCV(PathCV):
    """`Lasso`, and its alpha, which has the least mean squared error on rows held out.

    One pass over the data serves all folds and alphas, and finds the largest alpha that is worth a trial. Rows are
    shared out to folds by a hash, where scikit-learn takes consecutive ones, ``cv=dask_gd.Folds(5, by="block")``.

    Other parameters, and the attributes, are those of `dask_gd.estimators.base.Estimator` and
    `dask_gd.estimators.search.Searched`.

    Parameters
    ----------
    eps : float
        The least alpha over the largest.
    alphas : int or floats
        So many, evenly in logarithms from the least that makes every weight 0; or these.

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
    """`ElasticNet`, and its alpha and l1_ratio, which have the least mean squared error on rows held out.

    As `LassoCV`, with a path for each l1_ratio. Of several l1_ratios ``alphas_`` is (l1_ratios, alphas), unless they
    are given, and ``mse_path_`` (l1_ratios, alphas, folds).

    Other parameters, and the attributes, are those of `dask_gd.estimators.base.Estimator` and
    `dask_gd.estimators.search.Searched`.

    Parameters
    ----------
    l1_ratio : float or floats
        Above 0, if alphas is a number of them.
    eps, alphas
        As `LassoCV`'s.

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

    def _ratios(self) -> list[float]:
        return np.atleast_1d(np.asarray(self.l1_ratio, dtype=float)).tolist()


@dataclass(kw_only=True, repr=False, eq=False)
class LogisticRegressionCV(Searched, OfProbabilities):
    """`LogisticRegression`, and its C, which has the best mean score over folds.

    All folds and values share each pass. Attributes have the shapes that scikit-learn gives them with
    ``use_legacy_attributes=False``. Rows are shared out to folds by a hash, whatever their class.

    Other parameters, and the attributes, are those of `dask_gd.estimators.base.Estimator`,
    `dask_gd.estimators.search.Searched`; and ``classes_``.

    Parameters
    ----------
    Cs : int or floats
        So many from 1e-4 to 1e4, evenly in logarithms; or these.
    l1_ratios : floats
    scoring : {"accuracy", "neg_log_loss"}
    class_weight : dict, "balanced" or None

    Attributes
    ----------
    C_, l1_ratio_ : float
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
    scoring: str = "accuracy"

    def _grid(self) -> dict[str, Any]:
        if isinstance(self.Cs, int | np.integer):
            Cs = np.geomspace(1e-4, 1e4, self.Cs)
        else:
            Cs = self.Cs
        return {"Cs": Cs, "l1_ratios": self.l1_ratios}

    def _scoring(self) -> str:
        return self.scoring

    def _chosen(self, found: SearchResult, best: dict[str, Any]) -> None:
        self.C_ = best["C"]
        self.l1_ratio_ = best["l1_ratio"]
        self.l1_ratios_ = np.atleast_1d(np.asarray(self.l1_ratios, dtype=float))
        data = found.data
        ratios = len(self.l1_ratios_)
        self.Cs_ = data.C.values[: data.sizes["candidate"] // ratios]

        def by_fold(a: np.ndarray) -> np.ndarray:
            """(candidates, folds, ...) as (folds, l1_ratios, Cs, ...)."""
            return np.moveaxis(a.reshape(ratios, len(self.Cs_), *a.shape[1:]), 2, 0)

        self.scores_ = by_fold(data.score.values)
        w = by_fold(data.weights.values)
        b = by_fold(data.intercept.values)
        if len(self.classes_) == 2:
            w = w[..., None]
            b = b[..., None]
        w = np.moveaxis(w, -1, -2)
        if self.fit_intercept:
            self.coefs_paths_ = np.concatenate([w, b[..., None]], axis=-1)
        else:
            self.coefs_paths_ = w
