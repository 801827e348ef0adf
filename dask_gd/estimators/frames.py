"""Rows of data frames whose columns may be factors, for estimators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.utils.validation import _check_sample_weight, check_array, check_X_y, validate_data

from ..errors import InvalidArgumentError, InvalidTypeError
from ..results.fit_result import FitResult
from ..sources import Source, as_source
from ..sources.coded_table import CodedTable
from ..sources.coercion import checkable
from ..sources.frames import frame_of, may_have_factors
from ..sources.lazy import is_lazy
from ..sources.targets import with_values


class OfFrames:
    """The part of an estimator that takes data frames with columns of strings and categories."""

    # What `dask_gd.estimators.base.Estimator` has.
    categorical: Any
    warm_start: bool
    result_: FitResult
    _target_values: Callable
    _encoded: Callable
    __sklearn_tags__: Callable

    def _frame_with_factors(self, X: Any, goes_on: bool) -> Any:
        """Return a frame of pandas or Dask whose columns may be factors, or a table of codes; None for all other data.

        A fit goes on with the factors that the first had.
        """
        frame = frame_of(X)
        if isinstance(X, CodedTable):
            return X
        if self.categorical is not None and frame is None:
            raise InvalidTypeError(
                f"{type(self).__name__}(categorical={self.categorical!r:.80}) is for data frames; X is a "
                f"{type(X).__name__}."
            )
        goes_on = goes_on and hasattr(self, "result_")
        if goes_on and self.result_.encoding is not None:
            if frame is None:
                raise self._no_frame(X)
            return frame
        if frame is None or (self.categorical is None and not may_have_factors(frame)):
            return None
        return frame

    def _no_frame(self, X: Any) -> InvalidTypeError:
        """Return the error about data without names and levels, where there are factors."""
        return InvalidTypeError(
            f"{type(self).__name__} has been fitted to a data frame with columns of levels, and takes such frames; X "
            f"is a {type(X).__name__}."
        )

    def _source_of_frame(self, frame: Any, y: Any, sample_weight: Any, offset: Any, goes_on: bool) -> Source:
        """Return the rows of a frame to fit, whose columns of strings and categories are factors."""
        encoding = None
        if (goes_on or self.warm_start) and hasattr(self, "result_"):
            encoding = self.result_.encoding
        if isinstance(frame, CodedTable):
            encoding = None
        elif encoding is not None:
            self._check_columns(frame)
        if not is_lazy(frame, y, sample_weight, offset):
            # scikit-learn looks at the names, and at all but the features.
            if not isinstance(frame, CodedTable):
                validate_data(self, frame, reset=encoding is None, skip_check_array=True)
            y, sample_weight, offset = self._validated_beside(len(frame), y, sample_weight, offset)
        else:
            y = array_unless_lazy(y)
            sample_weight = array_unless_lazy(sample_weight)
            offset = array_unless_lazy(offset)
        y, weight = self._encoded(frame, y, sample_weight, goes_on)
        if y is None:
            raise InvalidArgumentError("fit(X, y) needs a target y, or a Source.")
        source = as_source(
            frame,
            y,
            weight,
            offset=offset,
            categorical=self.categorical,
            encoding=encoding,
            # Levels that a later part of the rows has are treated as in a prediction.
            predicts=goes_on and encoding is not None,
        )
        return with_values(source)

    def _validated_beside(self, rows: int, y: Any, sample_weight: Any, offset: Any) -> tuple:
        """Return targets, weights and offsets in memory, checked as scikit-learn checks them."""
        tags = self.__sklearn_tags__()
        stand_in = np.zeros((rows, 1))
        if y is not None:
            _, y = check_X_y(
                stand_in,
                checkable(y, "y", self._target_values),
                multi_output=tags.target_tags.multi_output,
                y_numeric=tags.estimator_type == "regressor",
                estimator=self,
            )
        if sample_weight is not None:
            weight = checkable(sample_weight, "sample_weight")
            sample_weight = _check_sample_weight(weight, stand_in, ensure_non_negative=True)
        if offset is not None:
            offset = check_array(checkable(offset, "offset"), ensure_2d=False, input_name="offset")
        return y, sample_weight, offset

    def _check_columns(self, frame: Any) -> None:
        """Refuse a frame without the columns of the fit, or with others, or in another order: as scikit-learn does."""
        fitted = getattr(self, "feature_names_in_", None)
        names = tuple(map(str, frame.columns))
        if fitted is None or names == tuple(fitted):
            return
        for i, (name, of_fit) in enumerate(zip(names, fitted, strict=False)):
            if name != of_fit:
                raise InvalidArgumentError(
                    f"{type(self).__name__}: feature {i} is named {name!r} but the fit had {of_fit!r} there; select "
                    "and order the features as in the fit."
                )
        raise InvalidArgumentError(
            f"{type(self).__name__}: X has {len(names)} features, but {type(self).__name__} is expecting {len(fitted)} "
            "features as input; select the features as in the fit."
        )


def array_unless_lazy(column: Any) -> Any:
    """Return a list as an array; arrays, lazy ones too, and None stay as they are."""
    if column is None or hasattr(column, "__array__"):
        return column
    return np.asarray(column)
