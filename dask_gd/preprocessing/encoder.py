"""Levels as indicator columns: those of integer codes made in the task that uses them, all others kept as codes."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from ..errors import DataError, InvalidArgumentError
from ..sources import Rows
from ..sources.categories import Categories
from ..sources.census import encoding_of_frame
from ..sources.coded_table import CodedTable
from ..sources.coercion import from_arrow, is_lazy_frame
from ..sources.column import TaskColumn
from ..sources.encoding import INFREQUENT, Encoding, FactorColumn
from ..sources.frame_source import coded_for_prediction
from ..sources.frames import empty_of, frame_of, kind_of
from ..sources.kinds import LARGEST_INTEGER, OBJECT, are_numbers, product_dtype
from ..sources.lazy import named
from ..sources.pandas_values import common_dtype
from ..validate import one_of
from .base import one_pass, transformed
from .leveled import LeveledTransformer, as_array, check_entries, sorted_levels

#: The largest size of a block of the result. Where the codes' chunks are longer it has at least half of this size.
EXPANDED_BYTES = 32 << 20

#: Arguments of scikit-learn's validation of arrays in memory.
CHECKS: dict[str, Any] = {"dtype": "numeric", "ensure_all_finite": False}


class OneHotEncoder(LeveledTransformer):
    """Columns of levels as indicators, one for each level: scikit-learn's `OneHotEncoder`, out of core.

    Columns of strings, and columns of a data frame of a categorical dtype, give a
    `dask_gd.sources.coded_table.CodedTable`, which has a code in place of a column's indicators. It stays so in a
    pipeline whose next step is an estimator of dask_gd, and is written out where an array is asked for (``np.asarray``,
    ``to_dask_array``). Columns of integer codes give an array, or a frame, of indicators.

    A column of integer codes is read as numbers and expanded in the task that uses the rows. The wide table is never
    stored: chunks of codes are cut so that an expanded block has 16 to 32 MiB. Time grows with the width, as with any
    dense features: group rare categories where there are many thousands.

    Parameters
    ----------
    categories : "auto" or list
        "auto" finds the codes in a pass. A list has an entry for each encoded column: a number K of categories, coded 0
        to K - 1, or an array of the codes, ascending.
    columns : list of int or str, optional
        The columns of codes, by position or name. The other columns stay as they are, in their place. By default all.
    drop : None or "first"
        Leave out each column's first category, which without a penalty follows from the others and the intercept.
    handle_unknown : "error", "ignore" or "infrequent_if_exist"
        With "ignore" a level that the fit did not have, and a code that is NaN, gives zeros; with the last it counts as
        infrequent, where there are such levels.
    min_frequency : int or float, optional
        Levels in fewer rows than this, or in a smaller share of them if it is below 1, share an indicator. Not for
        integer codes.
    dtype : dtype, optional
        The dtype of the result. By default it is float32 if all columns are codes. Else it also suits the other
        columns: float32 for float32 and float16, and float64 for all other dtypes.

    Attributes
    ----------
    categories_ : list of arrays
        The codes or levels of each encoded column; NaN, the last, where values are missing.
    encoding_ : Encoding or None
        What the columns are, where they are kept as codes.
    columns_ : array of int
        The encoded columns.
    n_features_in_ : int
    feature_names_in_ : array
        Where the data names its columns.

    Examples
    --------
    >>> import dask.array as da
    >>> from dask_gd.preprocessing import OneHotEncoder
    >>> x = da.from_array(np.array([[2, 10], [0, 20], [2, 30]]), chunks=(2, 2))
    >>> encoder = OneHotEncoder(columns=[0]).fit(x)
    >>> encoder.get_feature_names_out()
    array(['x0_0', 'x0_2', 'x1'], dtype=object)
    >>> encoder.transform(x).compute()
    array([[ 0.,  1., 10.],
           [ 1.,  0., 20.],
           [ 0.,  1., 30.]])
    """

    def __init__(
        self,
        categories="auto",
        *,
        columns=None,
        drop=None,
        handle_unknown="error",
        min_frequency=None,
        dtype=None,
    ):
        # Unchecked and unchanged, so that scikit-learn can clone the encoder; `fit` checks.
        self.categories = categories
        self.columns = columns
        self.drop = drop
        self.handle_unknown = handle_unknown
        self.min_frequency = min_frequency
        self.dtype = dtype

    def fit(self, X: Any, y: Any = None):
        """Find the categories: with "auto" in a pass, else without reading rows.

        Parameters
        ----------
        X : array-like (n, p)
            NumPy, pandas, Dask, Zarr or a DataArray, of integers, or of floats whose values are integers.
        y : ignored

        Raises
        ------
        DataError
            A code that is no integer, with row and column.
        """
        # Wrong parameters are refused before a row is read.
        one_of("drop", self.drop, (None, "first"))
        one_of("handle_unknown", self.handle_unknown, ("error", "ignore", "infrequent_if_exist"))
        self.encoding_: Encoding | None = None
        if self._has_levels(X):
            return self._fit_levels(X)
        if self.min_frequency is not None or self.handle_unknown == "infrequent_if_exist":
            raise InvalidArgumentError(
                f"min_frequency={self.min_frequency!r}, handle_unknown={self.handle_unknown!r}: integer codes are not "
                "pooled; of a data frame make them levels, frame[name].astype('category')."
            )
        x = self._rows(X, reset=True, **CHECKS)
        self.columns_ = self._positions(self.columns)
        # The categories are learnt from the rows, or set by the user.
        if isinstance(self.categories, str):
            if self.categories != "auto":
                raise InvalidArgumentError(f"categories={self.categories!r}: choose 'auto', or give a list.")
            summary = partial(codes_in_rows, coded=self.columns_)
            self.categories_ = one_pass(x, None, summary, unions)
        else:
            self.categories_ = checked_categories(self.categories, len(self.columns_))
        return self

    def _has_levels(self, X: Any) -> bool:
        """Return whether columns that are encoded hold something else than integer codes."""
        frame = frame_of(X)
        if frame is None:
            kind = getattr(getattr(X, "dtype", None), "kind", "")
            if not hasattr(X, "dtype") and isinstance(X, list):
                kind = np.asarray(X).dtype.kind
            if kind == "O" and isinstance(X, np.ndarray):
                return not are_numbers(X.ravel())
            return kind in ("U", "T")
        # Columns are encoded by position or name.
        dtypes = list(empty_of(frame).dtypes)
        names = [str(name) for name in empty_of(frame).columns]
        encoded = list(range(len(names)))
        if self.columns is not None:
            wanted = set(np.ravel(np.array(self.columns, dtype=object)).tolist())
            encoded = [j for j, name in enumerate(names) if j in wanted or name in wanted]
        return any(
            kind_of(dtypes[j]) == "factor" or (dtypes[j] == OBJECT and not is_lazy_frame(frame)) for j in encoded
        )

    def _fit_levels(self, X: Any):
        """Find the levels in a reduction over the partitions."""
        frame = self._frame(X, reset=True)
        self.columns_ = self._positions(self.columns)
        if self.categories != "auto":  # type: ignore[comparison-overlap]
            raise InvalidArgumentError(f"categories={self.categories!r:.60}: those of integer codes; of levels 'auto'.")
        labels = list(frame.columns)
        encoded = [labels[j] for j in self.columns_]
        options = Categories(
            encoded,
            handle_unknown=self.handle_unknown,
            min_frequency=self.min_frequency,
            missing="level",
            drop=self.drop,
        )
        # All other columns are numbers.
        others = [label for label in labels if label not in encoded]
        common_dtype(empty_of(frame)[others], "X")
        encoding, _ = encoding_of_frame(frame, labels, options, declared_order=False)
        assert encoding is not None
        self.encoding_ = encoding
        self.categories_ = [as_array(all_levels(encoding.columns[j])) for j in self.columns_]
        return self

    def transform(self, X: Any) -> Any:
        """Return the indicators, beside the columns that are no codes: lazy for lazy X.

        A pandas or Dask frame gives a frame, a DataArray or a Zarr array that names its columns a DataArray, any other
        input an array. Levels that are no integer codes give a `CodedTable`.

        Raises
        ------
        DataError
            A code or a level that is no category, with row and column. For lazy X it is raised where the result is
            computed.
        """
        self._refuse_loading(X)
        # A Zarr array that names its columns keeps the names as a DataArray.
        X = named(from_arrow(X), "X")
        check_is_fitted(self)
        if self.encoding_ is not None:
            array, encoding = coded_for_prediction(self._frame(X), self.encoding_, refuses_missing=True)
            return CodedTable(array, encoding, self._dtype(np.dtype(float)))
        rows = self._rows(X, lengths=False, **CHECKS)
        names = self.get_feature_names_out()
        dtype = self._dtype(rows.dtype)
        # Only these values go into the tasks, not the encoder.
        expand = partial(
            expanded,
            categories=self._by_column(),
            names=getattr(self, "feature_names_in_", range(self.n_features_in_)),
            dropped=self._dropped,
            ignore=self.handle_unknown == "ignore",
            dtype=dtype,
        )
        # Blocks are of bounded size, whatever the number of categories.
        row_bytes = max(1, len(names) * dtype.itemsize)
        most_rows = max(1, EXPANDED_BYTES // row_bytes)
        return transformed(
            X,
            rows,
            function=expand,
            names=names,
            dtype=dtype,
            most_rows=most_rows,
        )

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return ``column_code`` for each indicator, and the names of the other columns, in order."""
        check_is_fitted(self)
        names = _check_feature_names_in(self, input_features)
        if self.encoding_ is not None:
            return np.array(names_of(self.encoding_, names), dtype=object)
        # The indicators of a column are in its place.
        names_out: list[str] = []
        for name, categories in zip(names, self._by_column(), strict=True):
            if categories is None:
                names_out.append(name)
            else:
                names_out += [f"{name}_{code}" for code in categories[self._dropped :]]
        return np.array(names_out, dtype=object)

    def _dtype(self, rows_dtype: np.dtype) -> np.dtype:
        """Return the dtype of the result for rows of this dtype."""
        if self.dtype is not None:
            return np.dtype(self.dtype)
        # Indicators alone are exact in any dtype.
        if len(self.columns_) == self.n_features_in_:
            return np.dtype(np.float32)
        return product_dtype(rows_dtype)

    @property
    def _dropped(self) -> int:
        """The number of categories of each column that are left out, the first ones."""
        return int(self.drop == "first")

    def _by_column(self) -> list[np.ndarray | None]:
        """Return the categories of each column of X, None for a column that is no codes."""
        categories = dict(zip(self.columns_.tolist(), self.categories_, strict=True))
        return [categories.get(j) for j in range(self.n_features_in_)]


def all_levels(column: Any) -> tuple:
    """Return the levels of a factor, those that are pooled too, sorted, with a missing one at the end."""
    levels = column.levels
    if column.pooled:
        # The last is the name of those that are pooled.
        levels = column.levels[:-1]
    return sorted_levels([*levels, *column.pooled])


def names_of(encoding: Encoding, names: Any) -> list[str]:
    """Return the names of features as scikit-learn makes them: those of levels ``column_level``."""
    found: list[str] = []
    for name, column in zip(names, encoding.columns, strict=True):
        if not isinstance(column, FactorColumn):
            found.append(name)
            continue
        for level in column.levels[column.drop_first :]:
            text = str(level)
            if level is None:
                text = "nan"
            elif column.pooled and level == INFREQUENT:
                text = "infrequent_sklearn"
            found.append(f"{name}_{text}")
    return found


def checked_categories(entries: Any, count: int) -> list[np.ndarray]:
    """Return the codes of each column, from numbers of categories or arrays of codes; refuse other entries."""
    check_entries(entries, count)
    categories = []
    for entry in entries:
        # A number K stands for the codes 0 to K - 1.
        if isinstance(entry, int | np.integer):
            codes = np.arange(entry)
        else:
            codes = np.asarray(entry)
        # A code is found by a binary search, which takes ascending categories.
        are_integers = codes.ndim == 1 and codes.size and codes.dtype.kind in "iu"
        if not are_integers or (codes[1:] <= codes[:-1]).any():
            raise InvalidArgumentError(
                f"categories has the entry {entry!r}: a number of categories, or an array of integers, ascending."
            )
        categories.append(codes)
    return categories


def codes_in_rows(rows: Rows, columns: dict[str, TaskColumn], coded: np.ndarray) -> list[np.ndarray]:
    """Return the codes in each of the encoded columns: the summary of rows in the pass of `fit`."""
    codes = []
    for j in coded.tolist():
        values = np.unique(rows.x[:, j])
        # Floats are codes if they are integers, and so small that no two integers are the same float.
        if values.dtype.kind == "f":
            is_code = (np.abs(values) <= LARGEST_INTEGER) & (values == np.rint(values))
            if not is_code.all():
                # The first row without a code.
                has_code = np.isin(rows.x[:, j], values[is_code])
                row = int(np.argmin(has_code))
                number = rows.number(row)
                raise DataError(
                    f"{rows.x[row, j]} in row {number}, column {j} of {columns['x'].where(number, j)} is no code: "
                    "an integer. Name the columns that hold codes: OneHotEncoder(columns=[...])."
                )
        if values.dtype.kind not in "iu":
            values = values.astype(int)
        codes.append(values)
    return codes


def unions(a: list[np.ndarray], b: list[np.ndarray]) -> list[np.ndarray]:
    """Return the codes that are in either summary, for each column."""
    return [np.union1d(*pair) for pair in zip(a, b, strict=True)]


def expanded(
    block: np.ndarray,
    categories: list[np.ndarray | None],
    names: Any,
    dropped: int,
    ignore: bool,
    dtype: np.dtype,
    block_info: Any = None,
) -> np.ndarray:
    """Return a block with indicators in the place of its codes: the task of `transform`."""
    # A column of codes becomes a column for each category that is not dropped.
    widths = []
    for known in categories:
        if known is None:
            widths.append(1)
        else:
            widths.append(len(known) - dropped)
    out = np.zeros((len(block), sum(widths)), dtype)
    # The columns of the result that belong to a column of the block end at ``stop``.
    stops = np.cumsum(widths)
    for column, known, name, stop in zip(block.T, categories, names, stops, strict=True):
        if known is None:
            # The fit refuses infinity, and says where it is.
            with np.errstate(over="ignore"):
                out[:, stop - 1] = column
            continue
        # A code that is no category has the place of another code, which is not equal to it.
        index = np.minimum(np.searchsorted(known, column), len(known) - 1)
        is_known = known[index] == column
        if not ignore and not is_known.all():
            row = int(np.argmin(is_known))
            start = 0
            if block_info:
                start = block_info[0]["array-location"][0][0]
            raise DataError(
                f"Code {column[row]} in row {start + row} of column {name!r} is none of its {len(known)} categories, "
                f"{known[0]} to {known[-1]}. Fit the encoder to all codes, or make such rows zeros with "
                "handle_unknown='ignore'."
            )
        # A category that is dropped has no column: its rows stay zeros.
        rows = np.flatnonzero(is_known & (index >= dropped))
        out[rows, stop - len(known) + index[rows]] = 1
    return out
