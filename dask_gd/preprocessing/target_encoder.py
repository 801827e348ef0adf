"""Levels as the mean target of their rows: `TargetEncoder`."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial, reduce
from numbers import Real
from typing import Any

import dask
import dask.array as da
import numpy as np

from ..errors import DataError, InvalidArgumentError, NonFiniteError
from ..sources.census import total_of
from ..sources.coding import CodedFactor
from ..sources.coercion import is_lazy_frame
from ..sources.columns import sized
from ..sources.dask_frames import partitions_of, with_fixed_partitions
from ..sources.encoding import FactorColumn
from ..sources.kinds import is_plain
from ..sources.lazy import label_rows, rows, unique
from ..validate import is_whole, one_of
from .leveled import (
    LeveledTransformer,
    LevelTable,
    as_array,
    in_form_of,
    level_table,
    names_with_classes,
    refuse_equal_names,
    sorted_levels,
    with_values,
)
from .target_moments import TargetMoments, added, folds_of, moments_of, smoothed

#: So that folds and `train_test_split` with the same seed are independent of each other.
FOLD_SEED = 0x7A26E7


class TargetEncoder(LeveledTransformer):
    """Levels as the mean target of their rows, drawn to the mean of all: scikit-learn's `TargetEncoder`, out of core.

    A level with n rows, whose targets have the mean m, is ``(n m + smooth M) / (n + smooth)``, where M is the mean of
    all targets. ``smooth="auto"`` is scikit-learn's empirical Bayes estimate, ``s^2 / S^2`` with the variances of the
    level's targets and of all.

    `fit_transform` is cross-fitted: the target of a row has no part in its own number. The rows of a fold have the
    means of the other folds' rows; `transform` has those of all. The fold of a row follows from a hash of its number,
    whatever the partitions.

    Of several classes each has a column in the place of the encoded one, of the share of its rows, so that a column
    "origin" becomes "origin_a", "origin_b" and "origin_c".

    Parameters
    ----------
    columns : list of int or str, optional
        The columns to encode, by position or name. The other columns stay as they are, in their place. By default all.
    target_type : {"auto", "continuous", "binary", "multiclass"}
        "binary" takes the second of two classes for 1 and the first for 0; "multiclass" encodes each class. "auto"
        takes strings and booleans for classes, and numbers as they are: counts are no classes.
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
        The number of each level, of each encoded column; of several classes those of each class, column by column.
    categories_ : list of arrays
        The levels, sorted; the last is NaN where values are missing.
    target_mean_ : float, or array (classes,)
        It is also the number of levels that the fit did not have.
    target_type_ : str
        "continuous", "binary" or "multiclass".
    classes_ : array
        The classes of a binary or multiclass target.
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
        # For each fold the numbers that follow from all other rows.
        numbers = []
        means = []
        for fold in range(self.cv):
            of_columns, mean = self._encodings(other for other in range(self.cv) if other != fold)
            numbers.append(of_columns)
            means.append(mean)
        of_folds = [np.stack(of_column) for of_column in zip(*numbers, strict=True)]
        tables = self._tables(frame, of_folds, np.stack(means))
        names = list(frame.columns)
        crossed = partial(
            cross_fitted,
            tables=tables,
            names=names,
            dtype=np.dtype(self.dtype),
            seed=self._seed,
            folds=self.cv,
        )
        if not is_lazy_frame(frame):
            return in_form_of(X, crossed(frame, first_row(0)))
        # The number of its first row goes with each partition.
        from dask.dataframe import from_map

        firsts = np.cumsum([0, *lengths])[:-1].tolist()
        starts = from_map(first_row, firsts, meta=first_row(0))
        meta = crossed(frame._meta, first_row(0))
        fixed = with_fixed_partitions(frame)
        out = fixed.map_partitions(crossed, starts, meta=meta, align_dataframes=False)
        return in_form_of(X, out)

    def transform(self, X: Any) -> Any:
        """Return the numbers of the levels, beside the other columns: a frame for a frame, lazy for lazy X."""
        self._refuse_loading(X)
        frame = self._frame(X)
        outputs = np.size(self.target_mean_)
        numbers = []
        for start in range(0, len(self.encodings_), outputs):
            numbers.append(np.stack(self.encodings_[start : start + outputs]))
        means = np.reshape(self.target_mean_, outputs)
        return self._transformed(X, frame, self._tables(frame, numbers, means))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the columns, which stay the same; of several classes ``column_class`` for each class."""
        names = super().get_feature_names_out(input_features)
        return np.array(self._names_out(list(names)), dtype=object)

    def _names_out(self, names: list[Any]) -> list[Any]:
        """Return the names of the result's columns, for those of X."""
        found: list[Any] = []
        for j, name in enumerate(names):
            if self._suffixes is not None and j in self.columns_:
                found += names_with_classes(name, self._suffixes)
            else:
                found.append(name)
        return found

    @property
    def _suffixes(self) -> tuple[Any, ...] | None:
        """The classes that have a column each; None where there is a single number."""
        if self.target_type_ != "multiclass":
            return None
        return tuple(self.classes_.tolist())

    @property
    def _seed(self) -> int:
        """The seed of the folds."""
        return int(self.random_state) ^ FOLD_SEED

    def _check_parameters(self) -> None:
        """Refuse parameters that cannot be."""
        one_of("target_type", self.target_type, ("auto", "continuous", "binary", "multiclass"))
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
        self._levels = [sorted_levels(census.columns[label].counts) for label in labels]
        self.categories_ = list(map(as_array, self._levels))
        targets = self._targets(y, census.rows, is_lazy_frame(frame))
        refuse_equal_names(self._names_out([str(name) for name in frame.columns]), "TargetEncoder")

        # For each fold the moments of the targets of each level, those of all rows last.
        pairs = zip(labels, self._levels, strict=True)
        coders = [CodedFactor(FactorColumn(str(label), levels)) for label, levels in pairs]
        classes = None
        if self._suffixes is not None:
            classes = len(self._suffixes)
        summary = partial(
            moments_of,
            coders=coders,
            folds=self.cv,
            seed=self._seed,
            classes=classes,
        )
        if is_lazy_frame(frame):
            starts = np.cumsum([0, *census.rows]).tolist()
            of_targets = targets.to_delayed().ravel()
            pieces = zip(partitions_of(frame[labels]), of_targets, starts[:-1], strict=True)
            parts = [dask.delayed(summary)(part, piece, start) for part, piece, start in pieces]
            self._moments = total_of(parts, added, "the means of the targets of each level")
        else:
            self._moments = summary(frame[labels], targets, 0)
        numbers, means = self._encodings(range(self.cv))
        self.encodings_ = [of_output for of_column in numbers for of_output in of_column]
        self.target_mean_: Any = means
        if classes is None:
            self.target_mean_ = float(means[0])
        return frame, census.rows

    def _targets(self, y: Any, lengths: tuple[int, ...], is_lazy: bool) -> Any:
        """Return targets as numbers, in blocks of these lengths if the rows are a frame of Dask's."""
        # A single column of targets counts as (n,).
        values = label_rows(y)
        if values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        if values.ndim != 1:
            raise InvalidArgumentError(f"TargetEncoder: y must have shape (n,); it has {values.shape}.")
        # Classes are numbered; numbers are taken as they are.
        has_labels = not is_plain(values.dtype) or values.dtype.kind == "b"
        self.target_type_ = self.target_type
        if self.target_type == "auto" and not has_labels:
            self.target_type_ = "continuous"
        if self.target_type_ == "continuous":
            values = rows(y, "y").reshape(-1)
        else:
            self._learn_classes(values)
            values = in_classes(values, self.classes_)
        # Every row has a target, and lazy ones have it in a block of the same rows.
        n = sum(lengths)
        if isinstance(values, da.Array):
            values = sized(values, "y")
        if len(values) != n:
            raise DataError(f"TargetEncoder: X has {n} rows but y has {len(values)}; they must agree.")
        if is_lazy:
            return da.asarray(values).rechunk((lengths,))
        return np.asarray(values)

    def _learn_classes(self, labels: Any) -> None:
        """Learn the classes, and whether they are two or more."""
        self.classes_ = unique(labels)
        if self.classes_.dtype.kind == "f" and not np.isfinite(self.classes_).all():
            raise NonFiniteError("TargetEncoder: a label of y is NaN or infinite. Remove or fill it before fitting.")
        count = len(self.classes_)
        if count < 2:
            raise InvalidArgumentError(
                f"TargetEncoder: y has a single class, {self.classes_.tolist()}; there is nothing to tell apart."
            )
        if self.target_type == "auto":
            self.target_type_ = "binary"
            if count > 2:
                self.target_type_ = "multiclass"
        if self.target_type == "binary" and count > 2:
            raise InvalidArgumentError(
                f"TargetEncoder(target_type='binary'): y has {count} classes, {self.classes_[:5].tolist()}; choose "
                "'multiclass'."
            )

    def _encodings(self, folds: Iterable[int]) -> tuple[list[np.ndarray], np.ndarray]:
        """Return the numbers of each column's levels, (outputs, levels), and the means of all targets, (outputs,).

        They follow from the rows of these folds.
        """
        # The moments of these folds together, with those of all rows last.
        of_folds = [TargetMoments(*(values[:, fold] for values in self._moments)) for fold in folds]
        moments = reduce(TargetMoments.plus, of_folds)
        means = moments.mean[:, -1:]
        variances = moments.squares[:, -1:] / moments.rows[:, -1:]
        numbers = []
        start = 0
        # Each column has its levels in a piece of the moments.
        for levels in self._levels:
            piece = slice(start, start + len(levels))
            own = TargetMoments(*(values[:, piece] for values in moments))
            numbers.append(smoothed(own, means, variances, self.smooth))
            start = piece.stop
        return numbers, means[:, 0]

    def _tables(self, frame: Any, numbers: list[np.ndarray], means: np.ndarray) -> dict[int, LevelTable]:
        """Return the tables of the encoded columns, by position.

        Numbers of levels are (outputs, levels), and the mean, which is that of unknown levels, (outputs,); both may
        have an axis of folds before these.
        """
        tables = {}
        columns = zip(self.columns_.tolist(), self._levels, numbers, strict=True)
        for j, levels, values in columns:
            with_unknown = np.concatenate([means[..., None], values], axis=-1)
            # A table has its levels before the outputs, which it lacks where there is a single number.
            with_unknown = np.swapaxes(with_unknown, -1, -2)
            missing = means
            if self._suffixes is None:
                with_unknown = with_unknown[..., 0]
                missing = means[..., 0]
            tables[j] = level_table(
                frame.columns[j],
                levels,
                np.ascontiguousarray(with_unknown),
                refuses=False,
                missing=missing,
                classes=self._suffixes,
            )
        return tables


def in_classes(labels: Any, classes: np.ndarray) -> Any:
    """Return the number of each label's class, (n,), lazy for lazy labels."""
    if isinstance(labels, da.Array):
        return da.map_blocks(in_classes, labels, classes, dtype=float, meta=np.empty(0))  # type: ignore[arg-type]
    return np.searchsorted(classes, labels).astype(float)


def first_row(number: int) -> Any:
    """Return the number of a partition's first row as a Series of pandas."""
    import pandas as pd

    return pd.Series([number])


def cross_fitted(
    part: Any,
    start: Any,
    tables: dict[int, LevelTable],
    names: list[Any],
    dtype: np.dtype,
    seed: int,
    folds: int,
) -> Any:
    """Return a part of a frame, whose rows have the numbers of their folds."""
    fold = folds_of(seed, int(start.iloc[0]), len(part), folds)
    return with_values(part, tables, names, dtype, fold=fold)
