"""Integer codes of categories as indicator columns, made in the task that uses them."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from ..errors import DataError, InvalidArgumentError
from ..sources import Rows
from ..sources.coercion import from_arrow
from ..sources.column import TaskColumn
from ..sources.kinds import product_dtype
from ..sources.lazy import named
from .base import Transformer, one_pass, transformed

#: A block of the result is at most so large, and at least half of it where the codes' chunks are longer.
EXPANDED_BYTES = 32 << 20

#: Integers up to this size are floats.
EXACT = 2.0**53

#: What scikit-learn checks of arrays in memory.
CHECKS: dict[str, Any] = {"dtype": "numeric", "ensure_all_finite": False}


class OneHotEncoder(Transformer):
    """Columns of integer codes as indicators, one for each category: scikit-learn's `OneHotEncoder`, out of core.

    A categorical column is read as one number and expanded in the task that takes the rows up. The wide table is
    nowhere: chunks of codes are cut so that an expanded block is 16 to 32 MiB. Time grows with the width, as with any
    dense features: group rare categories where there are many thousands.

    Parameters
    ----------
    categories : "auto" or list
        "auto" finds the codes in one pass. Else an entry for each encoded column: a number K of categories, coded 0 to
        K - 1, or an array of the codes, ascending.
    columns : list of int or str, optional
        Those that hold codes, by position or name; the others stay as they are, in their place. By default all.
    drop : None or "first"
        Leave out each column's first category, which without a penalty is told by the others and the intercept.
    handle_unknown : "error" or "ignore"
        "ignore" makes a code that is no category, or NaN, zeros.
    dtype : dtype, optional
        Of the result: by default float32 if all columns hold codes, else what holds the other columns too, float32 for
        float32 and float16 and float64 for all others.

    Attributes
    ----------
    categories_ : list of arrays
        Of each encoded column.
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

    def __init__(self, categories="auto", *, columns=None, drop=None, handle_unknown="error", dtype=None):
        self.categories = categories
        self.columns = columns
        self.drop = drop
        self.handle_unknown = handle_unknown
        self.dtype = dtype

    def fit(self, X: Any, y: Any = None):
        """Find the categories: with "auto" in one pass, else nothing is read.

        Parameters
        ----------
        X : array-like (n, p)
            NumPy, pandas, Dask, Zarr or a DataArray, of integers, or of floats that hold some.
        y : ignored

        Raises
        ------
        DataError
            A code that is no integer, with row and column.
        """
        for name, value, allowed in (
            ("drop", self.drop, (None, "first")),
            ("handle_unknown", self.handle_unknown, ("error", "ignore")),
        ):
            if value not in allowed:
                raise InvalidArgumentError(f"{name}={value!r}: choose {allowed[0]!r} or {allowed[1]!r}.")
        x = self._rows(X, reset=True, **CHECKS)
        self.columns_ = self._positions(self.columns)
        if isinstance(self.categories, str):
            if self.categories != "auto":
                raise InvalidArgumentError(f"categories={self.categories!r}: choose 'auto', or give a list.")
            self.categories_ = one_pass(x, None, partial(codes, coded=self.columns_), unions)
        else:
            self.categories_ = given_categories(self.categories, len(self.columns_))
        return self

    def transform(self, X: Any) -> Any:
        """The indicators, beside the columns that are no codes: lazy for lazy X.

        A pandas or Dask frame gives a frame, a DataArray or a Zarr array that names its columns a DataArray, all else
        an array.

        Raises
        ------
        DataError
            A code that is no category, with row and column; of lazy X where the result is computed.
        """
        X = named(from_arrow(X), "X")
        rows = self._rows(X, lengths=False, **CHECKS)
        names = self.get_feature_names_out()
        dtype = self._dtype(rows.dtype)
        expand = partial(
            expanded,
            categories=self._by_column(),
            names=getattr(self, "feature_names_in_", range(self.n_features_in_)),
            dropped=self._dropped,
            ignore=self.handle_unknown == "ignore",
            dtype=dtype,
        )
        most = max(1, EXPANDED_BYTES // max(1, len(names) * dtype.itemsize))
        return transformed(X, rows, expand, names, dtype, most)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """``column_code`` of each indicator, and the names of the other columns, in order."""
        check_is_fitted(self)
        names = _check_feature_names_in(self, input_features)
        out: list[str] = []
        for name, categories in zip(names, self._by_column(), strict=True):
            if categories is None:
                out += [name]
            else:
                out += [f"{name}_{code}" for code in categories[self._dropped :]]
        return np.array(out, dtype=object)

    def _dtype(self, given: np.dtype) -> np.dtype:
        if self.dtype is not None:
            return np.dtype(self.dtype)
        if len(self.columns_) == self.n_features_in_:
            return np.dtype(np.float32)
        return product_dtype(given)

    @property
    def _dropped(self) -> int:
        return int(self.drop == "first")

    def _by_column(self) -> list[np.ndarray | None]:
        """The categories of each column of X, None of those that are no codes."""
        found = dict(zip(self.columns_.tolist(), self.categories_, strict=True))
        return [found.get(j) for j in range(self.n_features_in_)]


def given_categories(given: Any, count: int) -> list[np.ndarray]:
    """The codes of each column, from numbers of categories or arrays of codes."""
    if len(given) != count:
        raise InvalidArgumentError(f"categories has {len(given)} entries for {count} encoded columns.")
    found = []
    for entry in given:
        if isinstance(entry, int | np.integer):
            codes = np.arange(entry)
        else:
            codes = np.asarray(entry)
        if codes.ndim != 1 or not codes.size or codes.dtype.kind not in "iu" or (codes[1:] <= codes[:-1]).any():
            raise InvalidArgumentError(
                f"categories has the entry {entry!r}: a number of categories, or an array of integers, ascending."
            )
        found.append(codes)
    return found


def codes(rows: Rows, columns: dict[str, TaskColumn], coded: np.ndarray) -> list[np.ndarray]:
    """The summary of some rows: the codes in each of the encoded columns."""
    found = []
    for j in coded.tolist():
        values = np.unique(rows.x[:, j])
        if values.dtype.kind == "f":
            good = (np.abs(values) <= EXACT) & (values == np.rint(values))
            if not good.all():
                row = int(np.argmax(~np.isin(rows.x[:, j], values[good])))
                number = rows.number(row)
                raise DataError(
                    f"{rows.x[row, j]} in row {number}, column {j} of {columns['x'].where(number, j)} is no code: "
                    "an integer. Name the columns that hold codes: OneHotEncoder(columns=[...])."
                )
        found.append(values if values.dtype.kind in "iu" else values.astype(int))
    return found


def unions(a: list[np.ndarray], b: list[np.ndarray]) -> list[np.ndarray]:
    """The codes in either."""
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
    """The task: a block with indicators in the place of its codes."""
    widths = [1 if known is None else len(known) - dropped for known in categories]
    out = np.zeros((len(block), sum(widths)), dtype)
    for column, known, name, stop in zip(block.T, categories, names, np.cumsum(widths), strict=True):
        if known is None:
            with np.errstate(over="ignore"):  # The fit refuses infinity, and says where it is.
                out[:, stop - 1] = column
            continue
        index = np.minimum(np.searchsorted(known, column), len(known) - 1)
        good = known[index] == column
        if not ignore and not good.all():
            row = int(np.argmin(good))
            start = 0
            if block_info:
                start = block_info[0]["array-location"][0][0]
            raise DataError(
                f"Code {column[row]} in row {start + row} of column {name!r} is none of its {len(known)} categories, "
                f"{known[0]} to {known[-1]}. Fit the encoder to all codes, or make such rows zeros with "
                "handle_unknown='ignore'."
            )
        rows = np.flatnonzero(good & (index >= dropped))
        out[rows, stop - len(known) + index[rows]] = 1
    return out
