"""Levels as whole numbers: `OrdinalEncoder`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import InvalidArgumentError
from ..sources.levels import level_of
from ..validate import one_of
from .leveled import LeveledTransformer, as_array, check_entries, level_table, sorted_levels


class OrdinalEncoder(LeveledTransformer):
    """Levels as the numbers of their places: scikit-learn's `OrdinalEncoder`, out of core.

    The levels are learnt in one reduction over the partitions. For a linear model such a number is a single feature,
    whose size counts: give the levels in their order. Levels with a coefficient each need no encoder, see
    `dask_gd.fit`.

    Parameters
    ----------
    categories : "auto" or list of lists
        "auto" finds the levels and sorts them. A list has the levels of each encoded column, in their order.
    columns : list of int or str, optional
        The columns to encode, by position or name. The other columns stay as they are, in their place. By default all.
    handle_unknown : "error" or "use_encoded_value"
    unknown_value : float, optional
        The number of levels that the fit did not have, with "use_encoded_value".
    encoded_missing_value : float
        The number of missing values.
    dtype : dtype

    Attributes
    ----------
    categories_ : list of arrays
        The levels of each encoded column; the last is NaN where values are missing.
    columns_ : array of int
        The encoded columns.
    n_features_in_ : int
    feature_names_in_ : array
        Where the data names its columns.

    Examples
    --------
    >>> import pandas as pd
    >>> from dask_gd.preprocessing import OrdinalEncoder
    >>> frame = pd.DataFrame({"size": ["small", "large", "medium"], "price": [1.0, 3.0, 2.0]})
    >>> encoder = OrdinalEncoder(categories=[["small", "medium", "large"]], columns=["size"])
    >>> encoder.fit_transform(frame)["size"].tolist()
    [0.0, 2.0, 1.0]
    """

    def __init__(
        self,
        *,
        categories="auto",
        columns=None,
        handle_unknown="error",
        unknown_value=None,
        encoded_missing_value=np.nan,
        dtype=np.float64,
    ):
        # Unchecked and unchanged, so that scikit-learn can clone the encoder; `fit` checks.
        self.categories = categories
        self.columns = columns
        self.handle_unknown = handle_unknown
        self.unknown_value = unknown_value
        self.encoded_missing_value = encoded_missing_value
        self.dtype = dtype

    def fit(self, X: Any, y: Any = None):
        """Find the levels: with "auto" in a reduction over the rows, else without reading any.

        Parameters
        ----------
        X : data frame or array (n, p)
            Of pandas, Dask, pyarrow or polars; or a NumPy or Dask array of strings or numbers.
        y : ignored

        Raises
        ------
        DataError, InvalidTypeError
            Naming a column whose values are no levels, or are strings and numbers.
        """
        self._check_parameters()
        frame = self._frame(X, reset=True)
        self.columns_ = self._positions(self.columns)
        # The levels are learnt from the rows, or set by the user.
        if isinstance(self.categories, str):
            census = self._census(frame)
            labels = [frame.columns[j] for j in self.columns_]
            levels = [sorted_levels(census.columns[label].counts) for label in labels]
        else:
            check_entries(self.categories, len(self.columns_))
            levels = [tuple(level_of(value)[0] for value in entry) for entry in self.categories]
        self._levels = levels
        self.categories_ = list(map(as_array, levels))
        return self

    def _check_parameters(self) -> None:
        """Refuse parameters that cannot be, or that do not go together."""
        one_of("handle_unknown", self.handle_unknown, ("error", "use_encoded_value"))
        if (self.handle_unknown == "error") != (self.unknown_value is None):
            raise InvalidArgumentError(
                f"unknown_value={self.unknown_value!r}: a number, with handle_unknown='use_encoded_value' only."
            )
        if isinstance(self.categories, str) and self.categories != "auto":
            raise InvalidArgumentError(f"categories={self.categories!r}: choose 'auto', or give a list of lists.")

    def transform(self, X: Any) -> Any:
        """Return the numbers of the levels, beside the other columns: a frame for a frame, lazy for lazy X.

        Raises
        ------
        DataError
            Naming a level that the fit did not have, with its column and row; of lazy X where it is computed.
        """
        self._refuse_loading(X)
        frame = self._frame(X)
        unknown = np.nan
        if self.unknown_value is not None:
            unknown = self.unknown_value
        tables = {}
        for j, levels in zip(self.columns_.tolist(), self._levels, strict=True):
            # A missing value is no level here, wherever it is in the categories.
            known = tuple(level for level in levels if level is not None)
            numbers = range(len(known))
            values = np.array([unknown, *numbers], float)
            tables[j] = level_table(
                frame.columns[j],
                known,
                values,
                refuses=self.handle_unknown == "error",
                missing=self.encoded_missing_value,
            )
        return self._transformed(X, frame, tables)
