"""Features brought to mean 0 and variance 1."""

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

#: Features of other dtypes become the first.
FLOATS = [np.float64, np.float32]


class StandardScaler(OneToOneFeatureMixin, Transformer):
    """Features less their mean, divided by their standard deviation: scikit-learn's `StandardScaler`, out of core.

    Parameters
    ----------
    with_mean, with_std : bool
        Whether to subtract the mean, and to divide.
    columns : list of int or str, optional
        Those to scale, by position or name; the others, such as codes of categories, stay. By default all.

    Attributes
    ----------
    mean_, var_, scale_ : array (p,) float64, or None
        As scikit-learn's, to about 1e-15 of the mean and 1e-12 of the variance. A constant feature has scale 1: one
        whose standard deviation is no more than the rounding of its mean, for any number of rows. Columns
        that stay have 0, 1 and 1.
    n_samples_seen_ : int
        Rows, or the sum of their weights.
    n_features_in_ : int
    feature_names_in_ : array
        Where the data names its features.

    Notes
    -----
    One pass. Each partition sums weights, values and squared deviations, from its first row, which is close to the
    others where the mean is large beside the spread; pairs are combined in a fixed tree (Chan, Golub and LeVeque, 1983,
    "Algorithms for computing the sample variance"), all in float64.

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
        if sample_weight is not None and not is_lazy(X, sample_weight):
            sample_weight = _check_sample_weight(sample_weight, x.memory)  # type: ignore[union-attr]
        elif not hasattr(sample_weight, "__array__") and sample_weight is not None:
            sample_weight = np.asarray(sample_weight)
        weight = None
        if sample_weight is not None:
            weight = as_rows(sample_weight, "sample_weight")
        scaled = np.isin(np.arange(x.shape[1]), self._positions(self.columns))
        total = one_pass(x, weight, moments, together)
        if total.weight == 0:
            raise InvalidArgumentError("sample_weight: the weights sum to 0; at least one must be above.")
        finite = np.isfinite(total.squares) & np.isfinite(total.mean)
        if not finite.all():
            raise NonFiniteError(f"The squares of column {int(np.argmin(finite))} of 'X' overflow; scale it down.")
        mean = np.where(scaled, total.origin + total.mean, 0.0)
        var = np.where(scaled, total.squares / total.weight, 1.0)
        rounding = 10 * np.finfo(float).eps * np.abs(mean)
        self.mean_ = mean if self.with_mean or self.with_std else None
        self.var_ = var if self.with_std else None
        self.scale_ = None
        if self.with_std:
            self.scale_ = np.where(np.sqrt(var) <= rounding, 1.0, np.sqrt(var))
        if weight is None:
            self.n_samples_seen_ = total.rows
        else:
            self.n_samples_seen_ = total.weight
        return self

    def transform(self, X: Any) -> Any:
        """``(X - mean_) / scale_``: float32 for float32 and float16, else float64; lazy for lazy X.

        A pandas or Dask frame gives a frame, a DataArray or a Zarr array that names its features a DataArray, all else
        an array.
        """
        return self._mapped(X, standardized)

    def inverse_transform(self, X: Any) -> Any:
        """``X * scale_ + mean_``, lazy for lazy X."""
        return self._mapped(X, restored)

    def _mapped(self, X: Any, function: Any) -> Any:
        X = named(from_arrow(X), "X")
        rows = self._rows(X, lengths=False, dtype=FLOATS)
        dtype = product_dtype(rows.dtype)
        function = partial(
            function,
            mean=self.mean_ if self.with_mean else None,
            scale=self.scale_ if self.with_std else None,
            dtype=dtype,
        )
        return transformed(X, rows, function, self.get_feature_names_out(), dtype)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class ColumnMoments(NamedTuple):
    """Of some rows: their number and weight, and mean and sum of squared deviations, counted from an origin."""

    rows: int
    weight: float
    origin: np.ndarray  # (p,)
    mean: np.ndarray  # (p,)
    squares: np.ndarray  # (p,)


def together(a: ColumnMoments, b: ColumnMoments) -> ColumnMoments:
    """Of the rows of both."""
    if not a.weight or not b.weight:
        return (b if b.weight else a)._replace(rows=a.rows + b.rows)
    weight = a.weight + b.weight
    with np.errstate(all="ignore"):  # what overflows is refused in the end
        # Constant features have the same origins and means 0, so that their squares stay 0.
        moved = (b.origin - a.origin) + (b.mean - a.mean)
        mean = a.mean + moved * (b.weight / weight)
        squares = a.squares + b.squares + moved**2 * (a.weight * (b.weight / weight))
    return ColumnMoments(a.rows + b.rows, weight, a.origin, mean, squares)


def moments(rows: Rows, columns: dict[str, TaskColumn]) -> ColumnMoments:
    """The summary of some rows, swept in blocks that stay in the processor's cache."""
    x = rows.x
    weight = rows.weight
    with np.errstate(all="ignore"):
        first = 0
        if weight is not None:
            first = int(np.argmax(weight > 0))
        origin = x[first].astype(float)
        step = block_rows(x.shape[1], 8)
        total = ColumnMoments(0, 0.0, origin, np.zeros(x.shape[1]), np.zeros(x.shape[1]))
        good = True
        for a in range(0, len(x), step):
            d = x[a : a + step] - origin
            if weight is None:
                s = np.ones(len(d))
            else:
                s = weight[a : a + step]
            sum_s = float(s.sum())
            mean = s @ d / (sum_s or 1.0)
            good &= bool(np.isfinite(mean).all())
            d -= mean
            # What rounding left of the sum of deviations is taken out of their squares.
            squares = s @ np.square(d) - (s @ d) ** 2 / (sum_s or 1.0)
            total = together(total, ColumnMoments(len(d), sum_s, origin, mean, np.maximum(squares, 0)))
    good &= bool(np.isfinite(total.weight) and np.isfinite(total.squares).all())
    if not good or (weight is not None and (weight < 0).any()):
        check_values(rows, columns, drop=False)
        feature = int(np.argmin(np.isfinite(total.squares)))
        raise NonFiniteError(f"The squares of column {feature} of {columns['x'].name!r} overflow; scale it down.")
    return total


def standardized(x: np.ndarray, mean: np.ndarray | None, scale: np.ndarray | None, dtype: np.dtype) -> np.ndarray:
    """``(x - mean) / scale`` in ``dtype``; of the mean what float32 cannot hold is subtracted too."""
    if mean is None:
        out = x.astype(dtype)
    else:
        rounded = mean.astype(dtype)
        out = np.subtract(x, rounded, dtype=dtype)
        if (rounded != mean).any():
            out -= (mean - rounded).astype(dtype)
    if scale is not None:
        out /= scale.astype(dtype)
    return out


def restored(x: np.ndarray, mean: np.ndarray | None, scale: np.ndarray | None, dtype: np.dtype) -> np.ndarray:
    """``x * scale + mean`` in ``dtype``."""
    if scale is None:
        out = x.astype(dtype)
    else:
        out = np.multiply(x, scale.astype(dtype), dtype=dtype)
    if mean is not None:
        out += mean.astype(dtype)
    return out
