"""The linear prediction of estimators, with the coefficients of their attributes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from ..errors import InvalidArgumentError
from ..results.fit_result import FitResult
from ..sources import Source
from ..sources.coded_table import CodedTable
from ..sources.coercion import checkable
from ..sources.frames import frame_of
from ..sources.lazy import is_lazy

#: The dtypes in which products are taken and coefficients returned.
DTYPES = [np.dtype(np.float64), np.dtype(np.float32)]


class LinearPrediction:
    """The part of an estimator that predicts."""

    # What `dask_gd.estimators.base.Estimator` has.
    coef_: Any
    intercept_: Any
    result_: FitResult
    _no_frame: Callable
    _check_columns: Callable

    def _result_of_attributes(self) -> FitResult:
        """Return the fit with the coefficients of the attributes, which may have been changed since."""
        result = self.result_
        coef = self.coef_
        if sparse.issparse(coef):
            coef = coef.toarray()  # type: ignore[attr-defined]
        pairs = (
            (result.weights, np.asarray(coef).T),
            (result.intercept, np.asarray(self.intercept_)),
        )
        changed = []
        for fitted, values in pairs:
            # A model without an intercept has a single 0 for all outputs.
            if values.size == 1 and fitted.size > 1:
                values = np.broadcast_to(values, fitted.shape)
            if values.size != fitted.size:
                raise InvalidArgumentError(
                    f"{type(self).__name__}: coef_ or intercept_ has {values.size} values now, and the fit has "
                    f"{fitted.size}; change their values only."
                )
            values = values.reshape(fitted.shape)
            is_same = np.array_equal(values, fitted.values.astype(values.dtype), equal_nan=True)
            changed.append(fitted if is_same else fitted.copy(data=values))
        if changed[0] is result.weights and changed[1] is result.intercept:
            return result
        return replace(result, weights=changed[0], intercept=changed[1])

    def _predicted(self, X: Any, loss: Any = None, offset: Any = None) -> Any:
        """Return the mean of the target, or with the squared loss the linear prediction. It is lazy for lazy rows."""
        check_is_fitted(self)
        frame = frame_of(X)
        if isinstance(X, CodedTable):
            pass
        elif self.result_.encoding is not None and not isinstance(X, Source):
            if frame is None:
                raise self._no_frame(X)
            if not is_lazy(frame):
                validate_data(self, frame, reset=False, skip_check_array=True)
            X = frame
        # Lazy columns are checked when they are read.
        elif not is_lazy(X):
            X = validate_data(self, checkable(X, "X"), reset=False, dtype=DTYPES, accept_sparse="csr")
        if offset is not None and not is_lazy(offset):
            offset = check_array(checkable(offset, "offset"), ensure_2d=False, input_name="offset")
        if frame is not None and is_lazy(frame):
            self._check_columns(frame)
        # The loss determines the inverse link.
        result = self._result_of_attributes()
        if loss is not None:
            result = replace(result, loss=loss)
        return result.predict(X, offset)


class SparseCoefficients:
    """The part of an estimator whose coefficients may be kept sparse, as in scikit-learn's."""

    coef_: Any

    def sparsify(self):
        """Keep ``coef_`` as a sparse matrix, which pays where more than about half of it is 0."""
        check_is_fitted(self)
        self.coef_ = sparse.csr_matrix(self.coef_)
        return self

    def densify(self):
        """Keep ``coef_`` as an array, as it is after a fit."""
        check_is_fitted(self)
        if sparse.issparse(self.coef_):
            self.coef_ = self.coef_.toarray()
        return self
