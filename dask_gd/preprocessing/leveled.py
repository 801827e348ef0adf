"""The base of transformers that put numbers in the place of levels, and what they do to a part of the rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from ..errors import InvalidArgumentError, InvalidTypeError
from ..sources.census import Census, taken
from ..sources.coding import CodedFactor
from ..sources.coercion import is_lazy_frame
from ..sources.encoding import FactorColumn, Level
from ..sources.frames import empty_of, frame_of
from ..sources.lazy import LAZY
from ..sources.levels import check_kinds
from .base import Transformer


@dataclass(frozen=True)
class LevelTable:
    """The values in the place of a column's levels."""

    factor: CodedFactor
    #: For unknown levels first, then for each of the levels: (levels + 1,), or (levels + 1, classes) where each class
    #: has a column. Both may have an axis of folds before these.
    values: np.ndarray
    #: For missing values that are no level: a number, or (classes,); both may be (folds, ...).
    missing: Any = np.nan
    #: The classes that have a column each.
    classes: tuple[Any, ...] | None = None

    def __call__(
        self,
        column: Any,
        label: Any,
        where: str,
        fold: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return the values of a pandas column, (n,) or (n, classes); with ``fold`` (n,) those of each row's fold."""
        codes = self.factor.encoded(column, label, where)
        # Missing values have no code: the first stands in for it until they have a value of their own.
        is_missing = np.isnan(codes)
        codes[is_missing] = 0
        positions = codes.astype(np.intp)
        if fold is None:
            out = self.values[positions]
            out[is_missing] = self.missing
        else:
            out = self.values[fold, positions]
            out[is_missing] = self.missing[fold[is_missing]]
        return out


def level_table(
    name: Any,
    levels: tuple[Level, ...],
    values: np.ndarray,
    refuses: bool,
    missing: Any,
    classes: tuple[Any, ...] | None = None,
) -> LevelTable:
    """Return the values of levels; unknown ones are refused, or have the first of the values."""
    # The code 0 is that of unknown levels.
    column = FactorColumn(str(name), levels, unknown="ignore")
    factor = CodedFactor(column, predicts=True)
    if refuses:
        # Codes without a place for unknown levels; the first of the values is left out.
        factor = CodedFactor(FactorColumn(str(name), levels), predicts=True)
        values = values[1:]
    return LevelTable(factor, values, missing, classes)


def with_values(
    part: Any,
    tables: dict[int, LevelTable],
    names: list[Any],
    dtype: np.dtype,
    where: str = "",
    fold: np.ndarray | None = None,
) -> Any:
    """Return a frame of pandas with values in the place of the levels of columns, by their positions.

    With ``fold``, the number of each row's fold, they are those of the folds.
    """
    columns = {}
    for j, label in enumerate(names):
        column = part.iloc[:, j]
        if j not in tables:
            columns[label] = column
            continue
        values = tables[j](column, label, where, fold).astype(dtype)
        classes = tables[j].classes
        if classes is None:
            columns[label] = values
        else:
            columns.update(zip(names_with_classes(label, classes), values.T, strict=True))
    return type(part)(columns, index=part.index)


def names_with_classes(name: Any, classes: tuple[Any, ...]) -> list[str]:
    """Return the names of a column's values for each class."""
    return [f"{name}_{each}" for each in classes]


def refuse_equal_names(names: list[str], owner: str) -> None:
    """Refuse columns of a result that have one name."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InvalidArgumentError(f"{owner}: two columns would be named {name!r}; rename a column of X.")
        seen.add(name)


class LeveledTransformer(Transformer):
    """A transformer of columns of levels: those of data frames, or of arrays of strings and numbers."""

    columns: Any
    dtype: Any

    def _frame(self, X: Any, reset: bool = False) -> Any:
        """Return X as a frame of pandas or Dask. Its width and names are learnt if ``reset``, else compared."""
        if not reset:
            check_is_fitted(self)
        owner = type(self).__name__
        # All lazy arrays but Dask's are of numbers.
        is_array_of_numbers = isinstance(X, LAZY) and not isinstance(X, da.Array)
        if is_array_of_numbers or isinstance(X, xr.Dataset):
            raise InvalidTypeError(
                f"{owner} takes data frames (pandas, Dask, pyarrow, polars) and NumPy and Dask arrays; X is a "
                f"{type(X).__name__}."
            )
        frame = frame_of(X)
        names: tuple[str, ...] | None = None
        if frame is None:
            frame = _frame_of_array(X, owner)
        elif all(isinstance(name, str) for name in frame.columns):
            names = tuple(frame.columns)
        # A fit learns the columns, all else has to have the same.
        if reset:
            self._learn_features(len(frame.columns), names)
        else:
            self._compare_features(len(frame.columns), names)
        return frame

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the columns, which stay the same."""
        check_is_fitted(self)
        return _check_feature_names_in(self, input_features)

    def _census(self, frame: Any) -> Census:
        """Return what occurs in the columns that are encoded."""
        labels = [frame.columns[j] for j in self.columns_]
        census = taken(frame, labels)
        for label in labels:
            check_kinds(census.columns[label], label)
        return census

    def _transformed(self, X: Any, frame: Any, tables: dict[int, LevelTable]) -> Any:
        """Return the rows with the values of tables in the place of levels, in the form of X."""
        names = list(frame.columns)
        dtype = np.dtype(self.dtype)
        if not is_lazy_frame(frame):
            return in_form_of(X, with_values(frame, tables, names, dtype))
        # Dask is told the columns of the result by a frame without rows.
        meta = empty_of(frame)
        meta = with_values(meta, tables, names, dtype)
        where = " of its partition"
        out = frame.map_partitions(with_values, tables, names, dtype, where, meta=meta)
        return in_form_of(X, out)


def _frame_of_array(X: Any, owner: str) -> Any:
    """Return an array of strings or numbers as a frame of pandas or Dask."""
    import pandas as pd

    array = X
    if not hasattr(X, "shape"):
        array = np.asarray(X)
    if array.ndim != 2:
        raise InvalidArgumentError(f"{owner}: X must be 2-D, (rows, features); it has shape {array.shape}.")
    if isinstance(array, da.Array):
        import dask.dataframe as dd

        return dd.from_dask_array(array.rechunk({1: -1}))
    return pd.DataFrame(np.asarray(array)).infer_objects()


def in_form_of(X: Any, frame: Any) -> Any:
    """Return a frame as it is, or as an array if X is one."""
    if frame_of(X) is not None:
        return frame
    if is_lazy_frame(frame):
        lengths = None
        if not np.isnan(X.shape[0]):
            lengths = X.chunks[0]
        return frame.to_dask_array(lengths=lengths)
    return frame.to_numpy()


def sorted_levels(found: Iterable[Level]) -> tuple[Level, ...]:
    """Return different levels, sorted; a missing value is the last."""
    every = set(found)
    levels: list[Level] = []
    levels += sorted(level for level in every if level is not None)  # type: ignore[type-var]
    if None in every:
        levels.append(None)
    return tuple(levels)


def check_entries(entries: Any, count: int) -> None:
    """Refuse categories that the user gives for another number of columns than are encoded."""
    if len(entries) != count:
        raise InvalidArgumentError(f"categories has {len(entries)} entries for {count} encoded columns.")


def as_array(levels: tuple[Level, ...]) -> np.ndarray:
    """Return levels as scikit-learn has them in ``categories_``: NaN in place of a missing value, at the end."""
    values: list[Any] = list(levels)
    if None in values:
        values[values.index(None)] = np.nan
    if any(isinstance(level, str) for level in levels):
        return np.array(values, dtype=object)
    return np.array(values)
