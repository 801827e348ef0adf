"""A transformer of features to mean 0 and variance 1."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import OneToOneFeatureMixin
from sklearn.utils.validation import _check_sample_weight

from ..errors import InvalidArgumentError, NonFiniteError
from ..kernels.base import block_rows
from ..passes import check_values
from ..sources import Rows
from ..sources.coercion import from_arrow
from ..sources.column import TaskColumn
from ..sources.columns import as_rows
from ..sources.kinds import product_dtype
from ..sources.lazy import is_lazy, named
from .base import Transformer, one_pass, transformed

#: The dtypes of features that are kept; features of other dtypes become the first.
FLOATS = [np.float64, np.float32]


class StandardScaler(OneToOneFeatureMixin, Transformer):
    """Features less their mean, divided by their standard deviation: scikit-learn's `StandardScaler`, out of core.

    Parameters
    ----------
    with_mean, with_std : bool
        Subtract the mean; divide by the standard deviation.
    columns : list of int or str, optional
        The columns to scale, by position or name. Other columns, such as codes of categories, stay. By default all.

    Attributes
    ----------
    mean_, var_, scale_ : array (p,) float64, or None
        As scikit-learn's, to about 1e-15 of the mean and 1e-12 of the variance. A constant feature has scale 1. A
        feature is constant if its standard deviation is no more than the rounding of its mean, for any number of rows.
        Columns that stay have 0, 1 and 1.
    n_samples_seen_ : int
        Rows, or the sum of their weights.
    n_features_in_ : int
    feature_names_in_ : array
        Where the data names its features.

    Notes
    -----
    It takes a single pass. Each partition sums weights, values and squared deviations from its first row, which is
    close to the others where the mean is large beside the spread. Pairs are combined in a fixed tree (Chan, Golub and
    LeVeque, 1983, "Algorithms for computing the sample variance"), all in float64.

    Examples
    --------
    >>> import dask.array as da
    >>> from dask_gd.preprocessing import StandardScaler
    >>> x = da.from_array(np.array([[0.0, 5.0], [2.0, 5.0]], dtype="float32"), chunks=(1, 2))
    >>> scaler = StandardScaler().fit(x)
    >>> scaler.mean_, scaler.scale_
    (array([1., 5.]), array([1., 1.]))
    >>> scaler.transform(x)
    dask.array<standardized, shape=(2, 2), dtype=float32, chunksize=(1, 2), chunktype=numpy.ndarray>
    """

    def __init__(self, *, with_mean=True, with_std=True, columns=None):
        # Unchecked and unchanged, so that scikit-learn can clone the scaler; `fit` checks.
        self.with_mean = with_mean
        self.with_std = with_std
        self.columns = columns

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None):
        """Learn means and variances.

        Parameters
        ----------
        X : array-like (n, p)
            NumPy, pandas, Dask, Zarr or a DataArray.
        y : ignored
        sample_weight : array-like (n,), optional

        Raises
        ------
        NonFiniteError
            NaN or infinity, with row and column.
        """
        x = self._rows(X, reset=True, dtype=FLOATS, ensure_all_finite=False)
        weight = None
        if sample_weight is not None:
            if not is_lazy(X, sample_weight):
                sample_weight = _check_sample_weight(sample_weight, x.memory)  # type: ignore[union-attr]
            elif not hasattr(sample_weight, "__array__"):
                sample_weight = np.asarray(sample_weight)
            weight = as_rows(sample_weight, "sample_weight")
        # Wrong names of columns are refused before the pass.
        positions = self._positions(self.columns)
        is_scaled = np.isin(np.arange(x.shape[1]), positions)
        total = one_pass(x, weight, moments_of_rows, combined)
        if total.weight == 0:
            raise InvalidArgumentError("sample_weight: the weights sum to 0; at least one must be above.")
        # Sums of finite parts may still overflow.
        is_finite = np.isfinite(total.squares) & np.isfinite(total.mean)
        if not is_finite.all():
            raise NonFiniteError(f"The squares of column {int(np.argmin(is_finite))} of 'X' overflow; scale it down.")
        mean = np.where(is_scaled, total.origin + total.mean, 0.0)
        var = np.where(is_scaled, total.squares / total.weight, 1.0)
        # scikit-learn has the mean of a scaler that only divides too.
        self.mean_ = None
        if self.with_mean or self.with_std:
            self.mean_ = mean
        self.var_ = None
        self.scale_ = None
        if self.with_std:
            rounding = 10 * np.finfo(float).eps * np.abs(mean)
            self.var_ = var
            deviation = np.sqrt(var)
            self.scale_ = np.where(deviation <= rounding, 1.0, deviation)
        # The number of rows is an integer, as scikit-learn's.
        if weight is None:
            self.n_samples_seen_ = total.rows
        else:
            self.n_samples_seen_ = total.weight
        return self

    def transform(self, X: Any) -> Any:
        """Return ``(X - mean_) / scale_``: float32 for float32 and float16, else float64; lazy for lazy X.

        A pandas or Dask frame gives a frame, a DataArray or a Zarr array that names its features a DataArray, any other
        input an array.
        """
        self._refuse_loading(X)
        return self._mapped(X, standardized)

    def inverse_transform(self, X: Any) -> Any:
        """Return ``X * scale_ + mean_``, lazy for lazy X."""
        return self._mapped(X, restored)

    def _mapped(self, X: Any, function: Any) -> Any:
        """Return a function of each row, the means and the scales, in the form of X."""
        # A Zarr array that names its features keeps the names as a DataArray.
        X = named(from_arrow(X), "X")
        rows = self._rows(X, lengths=False, dtype=FLOATS)
        dtype = product_dtype(rows.dtype)
        mean = None
        if self.with_mean:
            mean = self.mean_
        scale = None
        if self.with_std:
            scale = self.scale_
        # Only these values go into the tasks, not the scaler.
        of_block = partial(function, mean=mean, scale=scale, dtype=dtype)
        return transformed(X, rows, of_block, self.get_feature_names_out(), dtype)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class ColumnMoments(NamedTuple):
    """Moments of rows: their number and weight, and mean and sum of squared deviations, counted from an origin.

    ``origin``, ``mean`` and ``squares`` are (p,).
    """

    rows: int
    weight: float
    origin: np.ndarray
    mean: np.ndarray
    squares: np.ndarray


def combined(a: ColumnMoments, b: ColumnMoments) -> ColumnMoments:
    """Return the moments of the rows of both."""
    # Rows without a weight have no mean.
    if not a.weight or not b.weight:
        with_weight = a
        if b.weight:
            with_weight = b
        return with_weight._replace(rows=a.rows + b.rows)
    weight = a.weight + b.weight
    # An overflow is refused at the end of the pass.
    with np.errstate(all="ignore"):
        # Constant features have the same origins and means 0, so that their squares stay 0.
        moved = (b.origin - a.origin) + (b.mean - a.mean)
        mean = a.mean + moved * (b.weight / weight)
        squares = a.squares + b.squares + moved**2 * (a.weight * (b.weight / weight))
    return ColumnMoments(
        rows=a.rows + b.rows,
        weight=weight,
        origin=a.origin,
        mean=mean,
        squares=squares,
    )


def moments_of_rows(rows: Rows, columns: dict[str, TaskColumn]) -> ColumnMoments:
    """Return the moments of rows, taken in blocks that stay in the processor's cache: the summary of `fit`'s pass."""
    x = rows.x
    weight = rows.weight
    # An overflow is refused below, with the name of the column.
    with np.errstate(all="ignore"):
        # The first row that counts is the origin.
        first = 0
        if weight is not None:
            first = int(np.argmax(weight > 0))
        origin = x[first].astype(float)
        total = ColumnMoments(
            rows=0,
            weight=0.0,
            origin=origin,
            mean=np.zeros(x.shape[1]),
            squares=np.zeros(x.shape[1]),
        )
        is_finite = True
        step = block_rows(x.shape[1], 8)
        for start in range(0, len(x), step):
            deviations = x[start : start + step] - origin
            if weight is None:
                block_weight = np.ones(len(deviations))
            else:
                block_weight = weight[start : start + step]
            weight_sum = float(block_weight.sum())
            # The means of a block without weight are 0, not NaN.
            divisor = weight_sum or 1.0
            mean = block_weight @ deviations / divisor
            is_finite &= bool(np.isfinite(mean).all())
            deviations -= mean
            # The deviations do not sum to 0 because of rounding, which is taken out of their squares.
            squares = block_weight @ np.square(deviations) - (block_weight @ deviations) ** 2 / divisor
            block_moments = ColumnMoments(
                rows=len(deviations),
                weight=weight_sum,
                origin=origin,
                mean=mean,
                squares=np.maximum(squares, 0),
            )
            total = combined(total, block_moments)
    is_finite &= bool(np.isfinite(total.weight) and np.isfinite(total.squares).all())
    # The rows are looked at again only where there is an error to report.
    if not is_finite or (weight is not None and (weight < 0).any()):
        check_values(rows, columns, drop=False)
        feature = int(np.argmin(np.isfinite(total.squares)))
        raise NonFiniteError(f"The squares of column {feature} of {columns['x'].name!r} overflow; scale it down.")
    return total


def standardized(
    x: np.ndarray,
    mean: np.ndarray | None,
    scale: np.ndarray | None,
    dtype: np.dtype,
) -> np.ndarray:
    """Return ``(x - mean) / scale`` in ``dtype``; digits of the mean that float32 cannot hold are subtracted too."""
    if mean is None:
        out = x.astype(dtype)
    else:
        rounded = mean.astype(dtype)
        out = np.subtract(x, rounded, dtype=dtype)
        # The rest of the mean matters where it is large beside the spread.
        if (rounded != mean).any():
            out -= (mean - rounded).astype(dtype)
    if scale is not None:
        out /= scale.astype(dtype)
    return out


def restored(
    x: np.ndarray,
    mean: np.ndarray | None,
    scale: np.ndarray | None,
    dtype: np.dtype,
) -> np.ndarray:
    """Return ``x * scale + mean`` in ``dtype``."""
    if scale is None:
        out = x.astype(dtype)
    else:
        out = np.multiply(x, scale.astype(dtype), dtype=dtype)
    if mean is not None:
        out += mean.astype(dtype)
    return out
