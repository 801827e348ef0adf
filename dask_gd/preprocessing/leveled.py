"""The base of transformers that put numbers in the place of levels, and what they do to a part of the rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from sklearn.utils.validation import check_is_fitted

from ..errors import InvalidArgumentError, InvalidTypeError
from ..sources.census import Census, taken
from ..sources.coding import CodedFactor
from ..sources.coercion import is_lazy_frame
from ..sources.encoding import FactorColumn, Level
from ..sources.frames import empty_of, frame_of
from ..sources.lazy import LAZY
from ..sources.levels import Found, check_kinds
from .base import Transformer


@dataclass(frozen=True)
class LevelTable:
    """The values in the place of a column's levels."""

    factor: CodedFactor
    #: For unknown levels first, then for each of the levels: (levels + 1,).
    values: np.ndarray
    #: For missing values that are no level.
    missing: float = np.nan

    def __call__(self, column: Any, label: Any, where: str) -> np.ndarray:
        """Return the values of a pandas column, (n,)."""
        codes = self.factor.encoded(column, label, where)
        is_missing = np.isnan(codes)
        codes[is_missing] = 0
        out = self.values[codes.astype(np.intp)]
        out[is_missing] = self.missing
        return out


def level_table(name: Any, levels: tuple[Level, ...], values: np.ndarray, refuses: bool, missing: float) -> LevelTable:
    """Return the values of levels; unknown ones are refused, or have the first of the values."""
    column = FactorColumn(str(name), levels, unknown="ignore")
    factor = CodedFactor(column, predicts=True)
    if refuses:
        # Codes without a place for unknown levels; the first of the values is left out.
        factor = CodedFactor(FactorColumn(str(name), levels), predicts=True)
        values = values[1:]
    return LevelTable(factor, values, missing)


def with_values(part: Any, tables: dict[int, LevelTable], names: list[Any], dtype: np.dtype, where: str = "") -> Any:
    """Return a frame of pandas with values in the place of the levels of columns, by their positions."""
    columns = {}
    for j, label in enumerate(names):
        column = part.iloc[:, j]
        if j in tables:
            columns[label] = tables[j](column, label, where).astype(dtype)
        else:
            columns[label] = column
    return type(part)(columns, index=part.index)


class LeveledTransformer(Transformer):
    """A transformer of columns of levels: those of data frames, or of arrays of strings and numbers."""

    columns: Any
    dtype: Any

    def _frame(self, X: Any, reset: bool = False) -> Any:
        """Return X as a frame of pandas or Dask. Its width and names are learnt if ``reset``, else compared."""
        if not reset:
            check_is_fitted(self)
        owner = type(self).__name__
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
        if reset:
            self._learn_features(len(frame.columns), names)
        else:
            self._compare_features(len(frame.columns), names)
        return frame

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


def sorted_levels(found: Found, keep_missing: bool) -> tuple[Level, ...]:
    """Return the levels that occur, sorted; a missing value is the last, if it is kept."""
    levels: list[Level] = []
    levels += sorted(level for level in found.counts if level is not None)  # type: ignore[type-var]
    if keep_missing and None in found.counts:
        levels.append(None)
    return tuple(levels)


def as_array(levels: tuple[Level, ...]) -> np.ndarray:
    """Return levels as scikit-learn has them in ``categories_``: NaN in place of a missing value, at the end."""
    values: list[Any] = list(levels)
    if None in values:
        values[values.index(None)] = np.nan
    if any(isinstance(level, str) for level in levels):
        return np.array(values, dtype=object)
    return np.array(values)
