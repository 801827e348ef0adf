"""What all estimators share: their parameters, the fit, and the linear prediction."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from sklearn.base import BaseEstimator
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import _check_sample_weight, check_array, check_is_fitted, validate_data

from ..errors import InvalidArgumentError, positive
from ..events import Callback
from ..fitting.fit import fit
from ..model.losses import Squared
from ..model.penalties import Penalty
from ..results.fit_result import FitResult
from ..solvers import Solver
from ..sources import Source, as_source
from ..sources.coercion import checkable, numbers
from ..sources.targets import with_values
from ..store.store import Store
from .callbacks import Adapter
from .lazy import is_lazy, source_of, total_weight

#: In which products are taken and coefficients given, and the tolerance that suits it: with less of it float32 takes
#: several times the passes, to no closer coefficients.
TOLERANCES = {np.dtype(np.float64): 1e-8, np.dtype(np.float32): 1e-6}


@dataclass(kw_only=True, repr=False, eq=False)
class Estimator(CallbackSupportMixin, BaseEstimator):
    """Parameters and attributes that all estimators have; the parameters are the fields of a dataclass.

    Parameters
    ----------
    fit_intercept : bool
        The intercept is not penalised.
    max_iter : int
        Steps at most; a `ConvergenceWarning` tells if they are not enough.
    tol : float, optional
        Of `dask_gd.fit`: every component of the gradient is at most this share of its scale. By default 1e-8, and 1e-6
        for features of float32, in which no more is to be had; coefficients then agree with the exact ones to about
        1e-6 where features are not nearly collinear.
    warm_start : bool
        Begin where the last fit ended.
    solver : str or Solver
        Of `dask_gd.fit`; "auto" is Newton for narrow data, and L-BFGS.
    store : path or Store, optional
        A directory where every iteration is committed, and from which an interrupted fit goes on.
    callbacks : callables
        Each takes one event of `dask_gd.events`, see `dask_gd.fit`. scikit-learn's own callbacks are given with
        ``set_callbacks``.

    Attributes
    ----------
    coef_, intercept_
        As scikit-learn's, in float32 for features of float32.
    n_iter_ : int
        Steps taken.
    n_features_in_ : int
    feature_names_in_ : array
        Where the data names its features.
    converged_ : bool
        False too where rounding kept the gradient above ``tol``; ``result_.reason`` is then "precision".
        Where the fit stalled for another reason, a `dask_gd.errors.StalledWarning` has said so.
    history_ : xarray.Dataset
    result_ : FitResult
    """

    fit_intercept: bool = True
    max_iter: int = 100
    tol: float | None = None
    warm_start: bool = False
    solver: str | Solver = "auto"
    store: str | os.PathLike | Store | None = None
    callbacks: Iterable[Callback] = ()

    #: What targets are: numbers, or labels of classes.
    _target_values = staticmethod(numbers)

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None):
        """Fit to rows.

        Parameters
        ----------
        X : array-like (n, p), or Source
            Dask arrays and data frames, Zarr and DataArrays are never loaded whole. Datasets are for `dask_gd.fit`.
        y : array-like (n,), or (n, k) where several targets are taken
            Leave out with a Source.
        sample_weight : array-like (n,), optional

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight)

    @with_callbacks
    def _fit(self, *data: Any):
        """Of X, y, sample_weight and perhaps offset."""
        context = self._init_callback_context(max_subtasks=None)
        source = self._source(*data)
        adapter = Adapter(self, context, source, data)
        context.call_on_fit_task_begin(**adapter.options)
        self._adapters = (adapter,) if context._callbacks else ()
        try:
            return self._fit_source(source)
        finally:
            del self._adapters
            context.call_on_fit_task_end(**adapter.options)

    @property
    def _told(self) -> tuple[Callback, ...]:
        """The callbacks of its fits."""
        return (*self.callbacks, *getattr(self, "_adapters", ()))

    def _fit_source(self, source: Source):
        start = None
        if self.warm_start:
            start = getattr(self, "result_", None)
        if start is not None:
            source = self._as_before(source)
        self._take(self._minimise(source, start, self.store), source)
        return self

    def _as_before(self, source: Source) -> Source:
        """The rows, with the features' names of the fit that is gone on from, if they have no other."""
        known = getattr(self, "feature_names_in_", None)
        names = source.feature_names
        if known is None:
            return source
        if names is not None and tuple(known) != names:
            raise InvalidArgumentError(
                f"{type(self).__name__} goes on from a fit whose features are named {list(known)}, and now they are "
                f"{list(names)}; select and order them as before."
            )
        return replace(source, feature_names=tuple(known))

    def _minimise(self, source: Source, start: FitResult | None, store: Any) -> FitResult:
        tol = self._tolerance(source)
        result = fit(
            source,
            loss=self._loss(),
            penalty=self._penalty(partial(total_weight, source)),
            solver=self.solver,
            fit_intercept=self.fit_intercept,
            max_iter=self.max_iter,
            tol=tol,
            initial_weights=start,
            store=store,
            callbacks=self._told,
        )
        if result.reason == "max_iter":
            warnings.warn(
                f"{type(self).__name__} took max_iter={self.max_iter} steps and the gradient is still "
                f"{float(result.history.grad_norm[-1]):.1e} of its scale, above tol={tol:g}. "
                "Raise max_iter or tol, or scale the features.",
                ConvergenceWarning,
                stacklevel=4,
            )
        return result

    def _tolerance(self, source: Source) -> float:
        if self.tol is None:
            return TOLERANCES[source.dtype]
        return self.tol

    def _source(self, X: Any, y: Any, sample_weight: Any, offset: Any = None, more: bool = False) -> Source:
        """Rows to fit, checked; ``more`` of those that the estimator knows, where it is asked to go on."""
        if not is_lazy(X, y, sample_weight, offset):
            x, y, weight, offset = self._validated(X, y, sample_weight, offset, more)
        else:
            columns = (y, sample_weight, offset)
            y, weight, offset = (a if a is None or hasattr(a, "__array__") else np.asarray(a) for a in columns)
            x = X
            if isinstance(X, Source):
                x = as_source(X, y, weight, offset=offset)
                y = None
                weight = None
                offset = None
        y, weight = self._encoded(x, y, weight, more)
        return with_values(source_of(x, y, weight, offset))

    def _validated(self, X: Any, y: Any, sample_weight: Any, offset: Any, more: bool) -> tuple:
        """As scikit-learn checks arrays in memory; features keep their names."""
        X = checkable(X, "X")
        y = checkable(y, "y", self._target_values)
        sample_weight = checkable(sample_weight, "sample_weight")
        offset = checkable(offset, "offset")
        tags = self.__sklearn_tags__()
        reset = not (more and hasattr(self, "coef_"))
        several = tags.target_tags.multi_output
        numeric = tags.estimator_type == "regressor"
        x, y = validate_data(self, X, y, reset=reset, dtype=list(TOLERANCES), multi_output=several, y_numeric=numeric)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, x, dtype=x.dtype, ensure_non_negative=True)
        if offset is not None:
            offset = check_array(offset, ensure_2d=False, input_name="offset")
        if hasattr(self, "feature_names_in_"):
            x = xr.DataArray(x, dims=("row", "feature"), coords={"feature": self.feature_names_in_})
        return x, y, sample_weight, offset

    def _encoded(self, x: Any, y: Any, weight: Any, more: bool) -> tuple:
        """Targets and weights as the loss takes them."""
        return y, weight

    def _loss(self) -> Any:
        return Squared()

    def _penalty(self, total: Callable[[], float]) -> Penalty | None:
        """Of the mean loss; ``total()`` is the sum of the weights, a reduction where these are lazy."""
        return None

    def _take(self, result: FitResult, source: Source) -> None:
        """Attributes from a fit."""
        self.result_ = result
        self.history_ = result.history
        self.n_iter_ = result.n_iter
        self.converged_ = result.converged
        self.n_features_in_ = source.shape[1]
        if source.feature_names is not None:
            self.feature_names_in_ = np.array(source.feature_names, dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        several = source.outputs is not None or (getattr(self, "column_alone", False) and len(source.y.shape) == 2)
        parameters = result.parameters.astype(source.dtype)
        self._set_coefficients(parameters[:-1].T, parameters[-1], several)

    def _set_coefficients(self, coef: np.ndarray, intercept: np.ndarray, several: bool) -> None:
        """From (k, p) and (k,)."""
        self.coef_: np.ndarray = coef if several else coef[0]
        self.intercept_: Any = intercept if several else intercept[0]

    def _predicted(self, X: Any, loss: Any = None, offset: Any = None) -> Any:
        """The mean of the target for rows, or with the squared loss the linear prediction: lazy for lazy rows."""
        check_is_fitted(self)
        if not is_lazy(X):
            X = validate_data(self, checkable(X, "X"), reset=False, dtype=list(TOLERANCES))
        if offset is not None and not is_lazy(offset):
            offset = check_array(checkable(offset, "offset"), ensure_2d=False, input_name="offset")
        if loss is None:
            result = self.result_
        else:
            result = replace(self.result_, loss=loss)
        return result.predict(X, offset)


class TakesOffset(Estimator):
    """Its linear predictions may have an offset."""

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None, offset: Any = None):
        """Fit to rows.

        Parameters
        ----------
        X, y, sample_weight
            As of `dask_gd.estimators.base.Estimator.fit`.
        offset : array-like (n,), optional
            Added to the prediction ``x w + b`` of each row, as to one whose coefficient is 1: the log of the exposure
            where counts are modelled. Of classes two only. Beside a Source it takes the place of its own.

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, offset)


def strength(owner: Estimator, C: Any, total: Callable[[], float]) -> float:
    """scikit-learn's C, what the loss is multiplied with, as what the penalty of the mean loss is multiplied with."""
    if C == np.inf:  # noqa: SIM300
        return 0.0
    positive(type(owner).__name__, C=C)
    return 1.0 / (C * total())
