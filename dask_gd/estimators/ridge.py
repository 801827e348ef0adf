"""Ridge regression."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InvalidArgumentError
from ..model.penalties import L2, Penalty
from ..results.fit_result import FitResult
from ..sources import Source
from ..store.store import Store
from .base import Estimator
from .parameters import AT_LEAST_0, Copied, Seeded
from .regression import Penalised, SeveralTargets, bounded


class ByAlpha(SeveralTargets):
    """Least squares with squares of the weights, for each target those of its own alpha."""

    #: The alpha of the present fit.
    _alpha: float

    def _penalty(self, total: Callable[[], float]) -> Penalty | None:
        # scikit-learn's alpha is for the sum of the losses, not for their mean.
        return L2(self._alpha / total())

    def _minimise_by_alpha(
        self,
        source: Source,
        start: FitResult | None,
        store: Any,
        alphas: np.ndarray,
    ) -> FitResult:
        """Return the fit, put together of a fit for each alpha where targets have alphas of their own."""
        owner = type(self).__name__
        targets = source.outputs or 1
        if len(alphas) not in (1, targets):
            raise InvalidArgumentError(
                f"Number of targets and number of penalties do not correspond: {len(alphas)} != {targets}; give one "
                "alpha, or one for each target."
            )
        distinct = np.unique(alphas)
        if len(distinct) == 1:
            self._alpha = float(distinct[0])
            return Estimator._minimise(self, source, start, store)
        if isinstance(store, Store):
            raise InvalidArgumentError(f"{owner}(store=Store(...)): give its path, or one alpha for all targets.")

        # All targets are fitted with each alpha, and those that have it are kept.
        weights = np.empty((source.shape[1], targets))
        intercept = np.empty(targets)
        results = []
        for i, alpha in enumerate(distinct):
            self._alpha = float(alpha)
            fit_store = None
            if store is not None:
                fit_store = Path(store) / f"fit-{i:02}"
            result = Estimator._minimise(self, source, start, fit_store)
            has_it = alphas == alpha
            weights[:, has_it] = result.weights.values[:, has_it]
            intercept[has_it] = result.intercept.values[has_it]
            results.append(result)
        return replace(
            results[-1],
            weights=results[-1].weights.copy(data=weights),
            intercept=results[-1].intercept.copy(data=intercept),
            n_iter=sum(result.n_iter for result in results),
            converged=all(result.converged for result in results),
        )


@dataclass(kw_only=True, repr=False, eq=False)
class Ridge(Copied, Seeded, ByAlpha, Penalised):
    """Least squares with squares of the weights.

    It minimises ``sum s (y - x w - b)^2 + alpha sum(w^2)``; s are the row weights. That is ``L2(alpha / sum s)`` on the
    mean loss; the sum takes a reduction where the weights are lazy.

    Other parameters, and the attributes, are those of `dask_gd.estimators.base.Estimator`.

    Parameters
    ----------
    alpha : float or array-like (k,)
        A number for all targets, or a number for each. Each number takes a fit of its own; ``history_`` is then that of
        the last, and ``store`` a path, with a directory for each.
    positive : bool
        Keep the weights at 0 or above.

    Attributes
    ----------
    solver_ : str or Solver
        The parameter ``solver``.

    Examples
    --------
    >>> from dask_gd.estimators import Ridge
    >>> model = Ridge(alpha=1.0).fit([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0])
    >>> model.coef_.round(6).tolist()
    [1.333333]
    """

    positive: bool = False

    solvers_of_scikit_learn = ("svd", "cholesky", "lsqr", "sparse_cg", "sag", "saga", "lbfgs")

    def constraints(self) -> dict[str, Any]:
        """Return what parameters may be."""
        return {"alpha": [AT_LEAST_0, "array-like"]}

    def _penalty(self, total: Callable[[], float]) -> Penalty | None:
        return bounded(self, L2(self._alpha / total()))

    def _solver(self) -> Any:
        # scikit-learn's "lbfgs" is the one of its solvers that keeps a bound; here it is not.
        if self.positive and self.solver == "lbfgs":
            return "auto"
        return super()._solver()

    def _minimise(
        self,
        source: Source,
        start: FitResult | None,
        store: Any,
    ) -> FitResult:
        """Return the fit, with an alpha for all targets or one for each."""
        alphas = np.asarray(self.alpha, dtype=float).ravel()
        return self._minimise_by_alpha(source, start, store, alphas)

    def _set_attributes(self, result: FitResult, source: Source) -> None:
        super()._set_attributes(result, source)
        self.solver_ = self.solver
