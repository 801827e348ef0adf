"""Levels as the mean target of their rows: `TargetEncoder`."""

from __future__ import annotations

from functools import partial, reduce
from numbers import Real
from typing import Any, NamedTuple

import dask
import dask.array as da
import numpy as np
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from ..errors import DataError, InvalidArgumentError, NonFiniteError
from ..sources.census import total_of
from ..sources.coding import CodedFactor
from ..sources.coercion import is_lazy_frame
from ..sources.columns import sized
from ..sources.encoding import FactorColumn
from ..sources.kinds import is_plain
from ..sources.lazy import label_rows, rows, unique
from ..sources.row_hash import row_hashes
from ..validate import is_whole
from .leveled import LeveledTransformer, as_array, in_form_of, level_table, sorted_levels, with_values

#: So that folds and `train_test_split` with the same seed are independent of each other.
FOLD_SEED = 0x7A26E7


class TargetMoments(NamedTuple):
    """The number, the mean and the sum of squares about the mean of targets: (folds, levels) each."""

    rows: np.ndarray
    mean: np.ndarray
    squares: np.ndarray

    def plus(self, other: TargetMoments) -> TargetMoments:
        """Return those of the rows of both (Chan, Golub and LeVeque, "Updating formulae", 1979)."""
        total = self.rows + other.rows
        share = np.divide(other.rows, total, out=np.zeros_like(total), where=total > 0)
        apart = other.mean - self.mean
        mean = self.mean + share * apart
        squares = self.squares + other.squares + self.rows * share * apart**2
        return TargetMoments(total, mean, squares)


class TargetEncoder(LeveledTransformer):
    """Levels as the mean target of their rows, drawn to the mean of all: scikit-learn's `TargetEncoder`, out of core.

    A level with n rows, whose targets have the mean m, is ``(n m + smooth M) / (n + smooth)``, where M is the mean of
    all targets. ``smooth="auto"`` is scikit-learn's empirical Bayes estimate, ``s^2 / S^2`` with the variances of the
    level's targets and of all.

    `fit_transform` is cross-fitted: the target of a row has no part in its own number. The rows of a fold have the
    means of the other folds' rows; `transform` has those of all. The fold of a row follows from a hash of its number,
    whatever the partitions.

    Parameters
    ----------
    columns : list of int or str, optional
        The columns to encode, by position or name. The other columns stay as they are, in their place. By default all.
    target_type : {"auto", "continuous", "binary"}
        "binary" takes the second of two classes for 1 and the first for 0; "auto" does so for strings and booleans, and
        takes numbers as they are: counts are no classes.
    smooth : "auto" or float
        0 or more rows.
    cv : int
        The number of folds, 2 or more.
    random_state : int
        The seed of the folds.
    dtype : dtype

    Attributes
    ----------
    encodings_ : list of arrays
        The number of each level, of each encoded column.
    categories_ : list of arrays
        The levels, sorted; the last is NaN where values are missing.
    target_mean_ : float
        It is also the number of levels that the fit did not have.
    classes_ : array
        The two classes of a binary target.
    columns_ : array of int
    n_features_in_ : int
    feature_names_in_ : array
        Where the data names its columns.

    Examples
    --------
    >>> import pandas as pd
    >>> from dask_gd.preprocessing import TargetEncoder
    >>> frame = pd.DataFrame({"origin": ["ATL", "ATL", "BOS", "BOS"]})
    >>> encoder = TargetEncoder(smooth=0.0).fit(frame, [1.0, 3.0, 4.0, 6.0])
    >>> encoder.transform(frame)["origin"].tolist()
    [2.0, 2.0, 5.0, 5.0]
    """

    def __init__(
        self,
        *,
        columns=None,
        target_type="auto",
        smooth="auto",
        cv=5,
        random_state=0,
        dtype=np.float64,
    ):
        # Unchecked and unchanged, so that scikit-learn can clone the encoder; `fit` checks.
        self.columns = columns
        self.target_type = target_type
        self.smooth = smooth
        self.cv = cv
        self.random_state = random_state
        self.dtype = dtype

    def fit(self, X: Any, y: Any):
        """Find the levels and the means of their targets: a reduction for the levels, and one for the means.

        Parameters
        ----------
        X : data frame or array (n, p)
            Of pandas, Dask, pyarrow or polars; or a NumPy or Dask array of strings or numbers.
        y : array-like (n,)

        Raises
        ------
        DataError, InvalidTypeError
            Naming a column whose values are no levels; a target that is missing, with its row; rows of X and y that do
            not agree.
        """
        self._learn(X, y)
        return self

    def fit_transform(self, X: Any, y: Any) -> Any:
        """Fit, and return the rows with numbers that their own targets have no part in: lazy for lazy X."""
        self._refuse_loading(X)
        frame, lengths = self._learn(X, y)
        # Each fold has tables of its own.
        tables = []
        for fold in range(self.cv):
            encodings, mean = self._without(fold)
            tables.append(self._tables(frame, encodings, mean))
        names = list(frame.columns)
        crossed = partial(
            cross_fitted,
            tables=tables,
            names=names,
            dtype=np.dtype(self.dtype),
            seed=self._seed,
        )
        if not is_lazy_frame(frame):
            return in_form_of(X, crossed(frame, first_row(0)))
        # The number of its first row goes with each partition.
        from dask.dataframe import from_map

        firsts = np.cumsum([0, *lengths])[:-1].tolist()
        starts = from_map(first_row, firsts, meta=first_row(0))
        meta = crossed(frame._meta, first_row(0))
        out = frame.map_partitions(crossed, starts, meta=meta, align_dataframes=False)
        return in_form_of(X, out)

    def transform(self, X: Any) -> Any:
        """Return the numbers of the levels, beside the other columns: a frame for a frame, lazy for lazy X."""
        self._refuse_loading(X)
        frame = self._frame(X)
        return self._transformed(X, frame, self._tables(frame, self.encodings_, self.target_mean_))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the columns, which stay the same."""
        check_is_fitted(self)
        return _check_feature_names_in(self, input_features)

    @property
    def _seed(self) -> int:
        """The seed of the folds."""
        return int(self.random_state) ^ FOLD_SEED

    def _check_parameters(self) -> None:
        """Refuse parameters that cannot be."""
        if self.target_type not in ("auto", "continuous", "binary"):
            raise InvalidArgumentError(
                f"target_type={self.target_type!r}: choose 'auto', 'continuous' or 'binary'. Of several classes encode "
                "the indicator of each."
            )
        is_number = isinstance(self.smooth, Real) and 0 <= float(self.smooth) < np.inf
        if self.smooth != "auto" and not is_number:
            raise InvalidArgumentError(f"smooth={self.smooth!r}: 'auto', or a number of rows, 0 or more.")
        if not is_whole(self.cv, least=2):
            raise InvalidArgumentError(f"cv={self.cv!r}: a whole number of folds, 2 or more.")
        if not is_whole(self.random_state, least=0):
            raise InvalidArgumentError(f"random_state={self.random_state!r}: a whole number, 0 or more.")

    def _learn(self, X: Any, y: Any) -> tuple[Any, tuple[int, ...]]:
        """Learn levels and means; return X as a frame, and the numbers of rows of its partitions."""
        self._check_parameters()
        frame = self._frame(X, reset=True)
        self.columns_ = self._positions(self.columns)
        # The levels, in a reduction over the rows, and targets in blocks of the same rows.
        census = self._census(frame)
        labels = [frame.columns[j] for j in self.columns_]
        self._levels = [sorted_levels(census.columns[label], keep_missing=True) for label in labels]
        self.categories_ = list(map(as_array, self._levels))
        targets = self._targets(y, census.rows, is_lazy_frame(frame))

        # For each fold the moments of the targets of each level, those of all rows last.
        pairs = zip(labels, self._levels, strict=True)
        coders = [CodedFactor(FactorColumn(str(label), levels)) for label, levels in pairs]
        summary = partial(moments_of, coders=coders, folds=self.cv, seed=self._seed)
        if is_lazy_frame(frame):
            starts = np.cumsum([0, *census.rows]).tolist()
            of_targets = targets.to_delayed().ravel()
            pieces = zip(frame[labels].to_delayed(), of_targets, starts, strict=False)
            parts = [dask.delayed(summary)(part, piece, start) for part, piece, start in pieces]
            self._moments = total_of(parts, added, "the means of the targets of each level")
        else:
            self._moments = summary(frame[labels], targets, 0)
        self.encodings_, self.target_mean_ = self._encodings(range(self.cv))
        return frame, census.rows

    def _targets(self, y: Any, lengths: tuple[int, ...], is_lazy: bool) -> Any:
        """Return targets as numbers, in blocks of these lengths if the rows are a frame of Dask's."""
        # A single column of targets counts as (n,).
        values = label_rows(y)
        if values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        if values.ndim != 1:
            raise InvalidArgumentError(f"TargetEncoder: y must have shape (n,); it has {values.shape}.")
        # Two classes are 0 and 1; numbers are taken as they are.
        has_labels = not is_plain(values.dtype) or values.dtype.kind == "b"
        is_binary = self.target_type == "binary" or has_labels
        if self.target_type != "continuous" and is_binary:
            self.classes_ = unique(values)
            if len(self.classes_) != 2:
                raise InvalidArgumentError(
                    f"TargetEncoder: y has {len(self.classes_)} classes, {self.classes_[:5].tolist()}; two are served. "
                    "Of several encode the indicator of each."
                )
            values = values == self.classes_[1]
        else:
            values = rows(y, "y")
            values = values.reshape(-1)
        # Every row has a target, and lazy ones have it in a block of the same rows.
        n = sum(lengths)
        if isinstance(values, da.Array):
            values = sized(values, "y")
        if len(values) != n:
            raise DataError(f"TargetEncoder: X has {n} rows but y has {len(values)}; they must agree.")
        if is_lazy:
            return da.asarray(values).rechunk((lengths,))
        return np.asarray(values)

    def _encodings(self, folds: Any) -> tuple[list[np.ndarray], float]:
        """Return the numbers of each column's levels, from the rows of these folds, and the mean of their targets."""
        # The moments of these folds together, with those of all rows last.
        of_folds = [TargetMoments(*(values[fold] for values in self._moments)) for fold in folds]
        moments = reduce(TargetMoments.plus, of_folds)
        mean = float(moments.mean[-1])
        variance = moments.squares[-1] / moments.rows[-1]
        encodings = []
        start = 0
        # Each column has its levels in a piece of the moments.
        for levels in self._levels:
            piece = slice(start, start + len(levels))
            own = TargetMoments(*(values[piece] for values in moments))
            encodings.append(smoothed(own, mean, variance, self.smooth))
            start = piece.stop
        return encodings, mean

    def _without(self, fold: int) -> tuple[list[np.ndarray], float]:
        """Return what the rows of a fold are encoded by: the numbers that follow from all other rows."""
        others = [other for other in range(self.cv) if other != fold]
        return self._encodings(others)

    def _tables(
        self,
        frame: Any,
        encodings: list[np.ndarray],
        mean: float,
    ) -> dict[int, Any]:
        """Return the tables of the encoded columns, by position."""
        tables = {}
        columns = zip(self.columns_.tolist(), self._levels, encodings, strict=True)
        for j, levels, values in columns:
            with_unknown = np.append(mean, values)
            tables[j] = level_table(
                frame.columns[j],
                levels,
                with_unknown,
                refuses=False,
                missing=mean,
            )
        return tables


def moments_of(
    part: Any,
    y: Any,
    start: int,
    coders: list[CodedFactor],
    folds: int,
    seed: int,
) -> TargetMoments:
    """Return the moments of the targets of each level of each column, and of all rows last, for each fold."""
    y = np.asarray(y, float)
    if len(y) != len(part):
        raise DataError(f"TargetEncoder: rows {start} on of X are {len(part)}, of y {len(y)}; they must agree.")
    is_finite = np.isfinite(y)
    if not is_finite.all():
        row = int(np.argmin(is_finite))
        raise NonFiniteError(f"{y[row]} in row {start + row} of 'y'. Remove or fill it before fitting.")
    # A row counts for its fold and its level.
    fold = folds_of(seed, start, len(y), folds)
    found = []
    for i, coder in enumerate(coders):
        codes = coder.encoded(part.iloc[:, i], part.columns[i], "").astype(np.intp)
        levels = len(coder.column.levels)
        key = fold * levels + codes
        found.append(_by_key(key, y, folds, levels))
    # All rows, as of a column with a single level.
    found.append(_by_key(fold, y, folds, 1))
    joined = [np.concatenate(values, axis=1) for values in zip(*found, strict=True)]
    return TargetMoments(*joined)


def _by_key(key: np.ndarray, y: np.ndarray, folds: int, levels: int) -> TargetMoments:
    """Return the moments of the targets of each key, (folds, levels)."""
    size = folds * levels
    count = np.bincount(key, minlength=size).astype(float)
    total = np.bincount(key, y, size)
    mean = np.divide(total, count, out=np.zeros(size), where=count > 0)
    # About each mean, so that no large squares are subtracted.
    deviation = y - mean[key]
    squares = np.bincount(key, deviation**2, size)
    by_fold = [values.reshape(folds, levels) for values in (count, mean, squares)]
    return TargetMoments(*by_fold)


def added(*parts: TargetMoments) -> TargetMoments:
    """Return the moments of the rows of all parts."""
    return reduce(TargetMoments.plus, parts)


def folds_of(seed: int, start: int, count: int, folds: int) -> np.ndarray:
    """Return the fold of each of the rows from ``start`` on, (n,)."""
    hashes = row_hashes(seed, start, start + count)
    return (hashes % np.uint64(folds)).astype(np.intp)


def smoothed(own: TargetMoments, mean: float, variance: float, smooth: Any) -> np.ndarray:
    """Return the numbers of levels, (levels,): their means, drawn to the mean of all."""
    if smooth == "auto":
        with np.errstate(divide="ignore", invalid="ignore"):
            weight = variance * own.rows
            share = weight / (weight + own.squares / own.rows)
    else:
        with np.errstate(invalid="ignore"):
            share = own.rows / (own.rows + float(smooth))
    # A level without rows, and any where all targets are the same, has the mean of all.
    share = np.where(np.isfinite(share), share, 0.0)
    return share * own.mean + (1.0 - share) * mean


def first_row(number: int) -> Any:
    """Return the number of a partition's first row as a Series of pandas."""
    import pandas as pd

    return pd.Series([number])


def cross_fitted(
    part: Any,
    start: Any,
    tables: list[Any],
    names: list[Any],
    dtype: np.dtype,
    seed: int,
) -> Any:
    """Return a part of a frame, whose rows have the numbers of their folds."""
    fold = folds_of(seed, int(start.iloc[0]), len(part), len(tables))
    # All rows by the table of each fold, of which each row has that of its own.
    by_fold = [with_values(part, of_fold, names, dtype) for of_fold in tables]
    out = by_fold[0].copy()
    every = np.arange(len(part))
    for j in tables[0]:
        columns = np.stack([each.iloc[:, j].to_numpy() for each in by_fold])
        out.isetitem(j, columns[fold, every])
    return out
