"""The base of all estimators: their parameters, the fit, and the linear prediction."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import _check_sample_weight, check_array, validate_data

from ..errors import InvalidArgumentError, warn
from ..events import Callback
from ..fitting.fit import fit
from ..model.losses import Squared
from ..model.penalties import Penalty
from ..results.fit_result import FitResult
from ..results.plain_state import plain_state, restored_state
from ..solvers import Solver
from ..sources import Source, as_source
from ..sources.coercion import checkable, numbers
from ..sources.lazy import is_lazy
from ..sources.targets import with_values
from ..store.store import Store
from ..validate import positive
from .callbacks import Adapter, CallbackSupportMixin, with_callbacks
from .frames import OfFrames, array_unless_lazy
from .lazy import source_of, total_weight
from .linear_prediction import DTYPES, LinearPrediction
from .of_rows import RowsInMemory
from .parameters import check_parameters, solver_of

#: The dtypes in which products are taken and coefficients returned, and the tolerance that suits each. With a smaller
#: tolerance float32 takes several times the passes, to no closer coefficients.
TOLERANCES = {
    np.dtype(np.float64): 1e-8,
    np.dtype(np.float32): 1e-6,
}

#: Steps at most, where ``max_iter`` is None.
MAX_ITER = 100


@dataclass(kw_only=True, repr=False, eq=False)
class Estimator(CallbackSupportMixin, LinearPrediction, OfFrames, BaseEstimator):
    """The base of all estimators; their parameters are the fields of a dataclass.

    Parameters
    ----------
    fit_intercept : bool
        The intercept is not penalised.
    max_iter : int, optional
        Steps at most; a `ConvergenceWarning` tells if they are not enough. None is 100.
    tol : float, optional
        As for `dask_gd.fit`: every component of the gradient is at most this share of its scale. By default 1e-8, and
        1e-6 for features of float32, whose precision allows no less. Coefficients then agree with the exact ones to
        about 1e-6 where features are not nearly collinear.
    warm_start : bool
        Begin where the last fit ended.
    solver : str or Solver
        As for `dask_gd.fit`; "auto" is Newton for narrow data, and L-BFGS. The names of scikit-learn's solvers are
        taken too, where scikit-learn's estimator takes them, see `dask_gd.estimators.parameters`.
    store : path or Store, optional
        A directory where every iteration is committed, and from which an interrupted fit goes on.
    callbacks : callables
        Each takes an event of `dask_gd.events`, see `dask_gd.fit`. scikit-learn's callbacks are set with
        ``set_callbacks``.
    categorical : names or Categories, optional
        As for `dask_gd.fit`: the columns of a data frame whose numbers are levels too, or options for all factors.

    Attributes
    ----------
    coef_, intercept_
        As scikit-learn's, in float32 for features of float32. Predictions are made with them, if they are changed too.
    n_iter_ : int
        Steps taken.
    n_features_in_ : int
    feature_names_in_ : array
        Where the data names its features. Those of a data frame are its columns; a column of levels has a coefficient
        in ``coef_`` for each, whose names are the coordinate "feature" of ``result_.weights``.
    converged_ : bool
        False also where rounding kept the gradient above ``tol``; ``result_.reason`` is then "precision".
        Where the fit stalled for another reason, a `dask_gd.errors.StalledWarning` was issued.
    history_ : xarray.Dataset
    result_ : FitResult
    """

    fit_intercept: bool = True
    max_iter: int | None = 100
    tol: float | None = None
    warm_start: bool = False
    solver: str | Solver = "auto"
    store: str | os.PathLike | Store | None = None
    callbacks: Iterable[Callback] = ()
    categorical: Any = None

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """Return parameters and attributes in plain arrays, which skops takes too."""
        return plain_state(super().__getstate__())

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Set parameters and attributes, of estimators pickled before this too."""
        super().__setstate__(restored_state(state))

    #: The names of scikit-learn's solvers that its estimator of this name takes.
    solvers_of_scikit_learn: ClassVar[tuple[str, ...]] = ()

    #: The rows of the present fit, if they are in memory.
    _rows = None  # type: RowsInMemory | None

    def constraints(self) -> dict[str, Any]:
        """Return what parameters may be, where it is not what `parameters.CONSTRAINTS` says."""
        return {}

    #: The check of the targets' values: they are numbers, or labels of classes.
    _target_values = staticmethod(numbers)

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None):
        """Fit to rows.

        Parameters
        ----------
        X : array-like (n, p), or Source
            Dask arrays and data frames, Zarr and DataArrays are never loaded whole. Sparse rows stay sparse. Datasets
            are for `dask_gd.fit`.
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
        """Fit to X, y, sample_weight and perhaps offset, within scikit-learn's callbacks."""
        check_parameters(self)
        try:
            # scikit-learn before 1.9 has no callbacks.
            if hasattr(self, "_init_callback_context"):
                return self._fit_in_context(*data)
            return self._fit_source(self._source(*data))
        finally:
            # A fitted estimator must not hold the rows.
            self._rows = None

    def _fit_in_context(self, *data: Any):
        """Fit to the data, and tell scikit-learn's callbacks of each iteration."""
        context = self._init_callback_context(max_subtasks=None)
        source = self._source(*data)
        adapter = Adapter(self, context, source, data)
        context.call_on_fit_task_begin(**adapter.options)
        # Without callbacks of scikit-learn no iteration need be passed on.
        self._adapters = (adapter,) if context._callbacks else ()
        try:
            return self._fit_source(source)
        finally:
            # An adapter leads to the rows too.
            del self._adapters
            context.call_on_fit_task_end(**adapter.options)

    @property
    def _all_callbacks(self) -> tuple[Callback, ...]:
        """The callbacks of a fit: those of the parameter, and the adapter to scikit-learn's."""
        return (*self.callbacks, *getattr(self, "_adapters", ()))

    def _fit_source(self, source: Source):
        """Fit to rows that are checked, from the last fit if it is a warm start."""
        start = None
        if self.warm_start:
            start = getattr(self, "result_", None)
        if start is not None:
            source = self._with_fitted_names(source)
            self._check_start(source, start)
        result = self._minimise(source, start, self.store)
        self._set_attributes(result, source)
        return self

    def _check_start(self, source: Source, start: FitResult) -> None:
        """Refuse to go on from a fit of other numbers of features, or of targets or classes."""
        outputs = source.outputs or 1
        # More than two classes have a column of coefficients each, whether the targets have or not.
        classes = len(getattr(self, "classes_", ()))
        if classes > 2:
            outputs = classes
        now = (source.shape[1], outputs)
        before = start.parameters.shape
        if source.present is None and now != (before[0] - 1, before[1]):
            raise InvalidArgumentError(
                f"{type(self).__name__}(warm_start=True) goes on from a fit of {before[0] - 1} features and "
                f"{before[1]} outputs (rows of coefficients); these rows have {now[0]} and {now[1]}. Give the same "
                "features, and targets of the same columns or classes, or set warm_start=False."
            )

    def _with_fitted_names(self, source: Source) -> Source:
        """Return the rows with the features' names of the last fit; refuse rows with other names."""
        fitted_names = getattr(self, "feature_names_in_", None)
        names = source.column_names
        if fitted_names is None:
            return source
        if names is not None and tuple(fitted_names) != names:
            raise InvalidArgumentError(
                f"{type(self).__name__} goes on from a fit whose features are named {list(fitted_names)}, and now they "
                f"are {list(names)}; select and order them as before."
            )
        if source.x.encoding is not None:
            return source
        return replace(source, feature_names=tuple(fitted_names))

    def _minimise(
        self,
        source: Source,
        start: FitResult | None,
        store: Any,
    ) -> FitResult:
        """Return a fit of the estimator's loss and penalty to rows; warn if it took ``max_iter`` steps."""
        tol = self._tolerance(source)
        # The sum of the weights may take a pass: only penalties that need it ask for it.
        total = partial(total_weight, source)
        result = fit(
            source,
            loss=self._loss(),
            penalty=self._penalty(total),
            solver=self._solver(),
            fit_intercept=self.fit_intercept,
            max_iter=self._steps(),
            tol=tol,
            initial_weights=start,
            store=store,
            callbacks=self._all_callbacks,
        )
        # As scikit-learn's estimators do.
        if result.reason == "max_iter":
            warn(
                f"{type(self).__name__} took max_iter={self._steps()} steps and the gradient is still "
                f"{float(result.history.grad_norm[-1]):.1e} of its scale, above tol={tol:g}. "
                "Raise max_iter or tol, or scale the features.",
                ConvergenceWarning,
            )
        return result

    def _steps(self) -> int:
        """Return the number of steps at most."""
        if self.max_iter is None:
            return MAX_ITER
        return self.max_iter

    def _solver(self) -> str | Solver:
        """Return the solver, in place of one of scikit-learn's."""
        return solver_of(self.solver)

    def _tolerance(self, source: Source) -> float:
        """Return ``tol``, by default that of the rows' dtype."""
        if self.tol is None:
            return TOLERANCES[source.dtype]
        return self.tol

    def _source(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        offset: Any = None,
        goes_on: bool = False,
    ) -> Source:
        """Return rows to fit, checked; if the fit goes on they must suit the rows that the estimator knows."""
        frame = self._frame_with_factors(X, goes_on)
        if frame is not None:
            return self._source_of_frame(frame, y, sample_weight, offset, goes_on)
        if not is_lazy(X, y, sample_weight, offset):
            x, y, weight, offset = self._validated(X, y, sample_weight, offset, goes_on)
            # Names are of no use to those who calculate with the rows.
            features = x
            if isinstance(x, xr.DataArray):
                features = x.data
            self._rows = RowsInMemory(features, y, weight)
        else:
            x = X
            y = array_unless_lazy(y)
            weight = array_unless_lazy(sample_weight)
            offset = array_unless_lazy(offset)
            if isinstance(X, Source):
                # The columns are part of the source from here on.
                x = as_source(X, y, weight, offset=offset)
                y = None
                weight = None
                offset = None
        y, weight = self._encoded(x, y, weight, goes_on)
        return with_values(source_of(x, y, weight, offset))

    def _validated(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        offset: Any,
        goes_on: bool,
    ) -> tuple:
        """Return arrays in memory, checked as scikit-learn checks them; features keep their names."""
        X = checkable(X, "X")
        y = checkable(y, "y", self._target_values)
        sample_weight = checkable(sample_weight, "sample_weight")
        offset = checkable(offset, "offset")
        # Features are compared with those of the last call only if the fit goes on from it.
        is_first = not (goes_on and hasattr(self, "coef_"))
        tags = self.__sklearn_tags__()
        x, y = validate_data(
            self,
            X,
            y,
            reset=is_first,
            dtype=DTYPES,
            accept_sparse="csr",
            multi_output=tags.target_tags.multi_output,
            y_numeric=tags.estimator_type == "regressor",
        )
        if sample_weight is not None:
            sample_weight = _check_sample_weight(
                sample_weight,
                x,
                dtype=x.dtype,
                ensure_non_negative=True,
            )
        if offset is not None:
            offset = check_array(offset, ensure_2d=False, input_name="offset")
        # Validation returns an array without names.
        if hasattr(self, "feature_names_in_"):
            x = xr.DataArray(
                x,
                dims=("row", "feature"),
                coords={"feature": self.feature_names_in_},
            )
        return x, y, sample_weight, offset

    def _encoded(self, x: Any, y: Any, weight: Any, goes_on: bool) -> tuple:
        """Return targets and weights as the loss takes them."""
        return y, weight

    def _loss(self) -> Any:
        """Return the loss that is minimised."""
        return Squared()

    def _penalty(self, total: Callable[[], float]) -> Penalty | None:
        """Return the penalty of the mean loss.

        ``total()`` returns the sum of the row weights, which takes a reduction where they are lazy.
        """
        return None

    def _set_attributes(self, result: FitResult, source: Source) -> None:
        """Set the attributes that end in an underscore, from a fit."""
        self.result_ = result
        self.history_ = result.history
        self.n_iter_: Any = result.n_iter
        self.converged_ = result.converged
        self.n_features_in_ = source.shape[1]
        # A column of levels is one column, of several features.
        names = source.column_names
        if source.x.encoding is not None:
            self.n_features_in_ = len(source.x.encoding.columns)
        # Names of an earlier fit must not outlive it.
        if names is not None:
            self.feature_names_in_ = np.array(names, dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        # A column for each output, the intercept last.
        dtype = source.dtype
        if self._rows is not None:
            dtype = self._rows.x.dtype
        parameters = result.parameters.astype(dtype)
        self._set_coefficients(parameters[:-1].T, parameters[-1], len(source.y.shape) == 2)

    def _set_coefficients(self, coef: np.ndarray, intercept: np.ndarray, is_table: bool) -> None:
        """Set coefficients (k, p) and intercepts (k,), as scikit-learn has them where targets are a table or not."""
        raise NotImplementedError


def strength(owner: Estimator, C: Any, total: Callable[[], float]) -> float:
    """Return the strength of the penalty of the mean loss for scikit-learn's C, the factor of the summed loss."""
    # No penalty needs no sum of weights.
    if C == np.inf:  # noqa: SIM300
        return 0.0
    positive(type(owner).__name__, C=C)
    # scikit-learn penalises the sum of the losses, and C multiplies it.
    return 1.0 / (C * total())
