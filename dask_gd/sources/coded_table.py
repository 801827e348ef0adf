"""Rows of numbers and codes in memory or of Dask's, with what the codes stand for: `CodedTable`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import dask.array as da
import numpy as np

from .encoding import Encoding


@dataclass(frozen=True, eq=False, repr=False)
class CodedTable:
    """Numbers and indicators of levels, an array (n, features) that has a code in place of each factor's indicators.

    Fits and predictions take it as it is. Wherever an array is asked for (``np.asarray``, `to_dask_array`) the
    indicators are written out.

    Attributes
    ----------
    codes : array (n, columns)
        NumPy or Dask, in float64.
    encoding : Encoding
        What the columns are.
    dtype : numpy.dtype
        That of the array of indicators.
    """

    codes: Any
    encoding: Encoding
    dtype: np.dtype

    ndim = 2

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and features."""
        return self.codes.shape[0], self.encoding.row_format.features

    @property
    def is_lazy(self) -> bool:
        """Return whether the codes are not computed yet."""
        return isinstance(self.codes, da.Array)

    def __len__(self) -> int:
        return len(self.codes)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield the indicators of each row, written out: a table is list-like, of which pandas makes a frame."""
        return iter(np.asarray(self))

    def __getitem__(self, rows: Any) -> CodedTable:
        """Return some of the rows."""
        return replace(self, codes=self.codes[rows])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return the indicators, written out."""
        out = self.written_out(np.asarray(self.codes))
        if dtype is not None:
            return out.astype(dtype, copy=False)
        return out

    def compute(self) -> np.ndarray:
        """Return the indicators, written out, as a NumPy array."""
        return np.asarray(self)

    def to_dask_array(self) -> da.Array:
        """Return the indicators, written out block by block where they are needed."""
        codes = self.codes
        if not self.is_lazy:
            codes = da.from_array(codes)
        codes = codes.rechunk({1: -1})
        chunks = (codes.chunks[0], (self.shape[1],))
        empty = np.empty((0, 0), self.dtype)
        return codes.map_blocks(self.written_out, dtype=self.dtype, chunks=chunks, meta=empty)

    def written_out(self, codes: np.ndarray) -> np.ndarray:
        """Return the indicators of some rows, (n, features)."""
        row_format = self.encoding.row_format
        return row_format.dense(row_format.cast(codes, np.empty)).astype(self.dtype, copy=False)

    def __repr__(self) -> str:
        n, p = self.shape
        return f"<dask_gd.CodedTable {n:,} rows x {p:,} features, {len(self.encoding.columns)} columns>"
