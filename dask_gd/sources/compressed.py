"""Compressed sparse rows (CSR) from SciPy's matrices, checked: what multiplies them trusts their columns."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from scipy.sparse import csr_array, issparse

from ..errors import DataError, InvalidTypeError
from ..kernels.sparse_products import Compressed
from .kinds import NUMBERS

logger = logging.getLogger("dask_gd")

#: Rows whose entries are checked at a time.
CHECKED_ROWS = 1 << 16


def is_scipy(a: Any) -> bool:
    """Return whether this is a sparse matrix or a sparse array of SciPy."""
    return bool(issparse(a))


def rows_of(matrix: Any) -> Compressed:
    """Return the parts of a matrix in the format "csr", as they are."""
    return Compressed(matrix.data, matrix.indices, matrix.indptr)


def csr_of(matrix: Any, name: str) -> Any:
    """Return a SciPy matrix in the format "csr", whose values are real numbers; any other format is converted.

    Raises
    ------
    InvalidTypeError
        Naming the dtype of values that are no real numbers, or a number of dimensions other than 2.
    """
    if matrix.dtype.kind not in NUMBERS:
        raise InvalidTypeError(
            f"{name} is a sparse matrix of {matrix.dtype}; only real numbers can be fitted (float, int, uint, bool)."
        )
    if matrix.ndim != 2:
        raise InvalidTypeError(f"{name} is a sparse array of shape {matrix.shape}; rows and features are 2-D.")
    if matrix.format == "csr":
        return matrix
    return csr_array(matrix)


def memory_rows(matrix: Any, role: str) -> Compressed:
    """Return the rows of a SciPy matrix in memory, checked; other formats are converted, with a line in the log.

    Raises
    ------
    InvalidTypeError
        See `csr_of`.
    DataError
        See `check_entries`.
    """
    if matrix.format != "csr":
        logger.info("%s is a sparse matrix in the format %s, of which a copy in CSR is made.", role, matrix.format)
    rows = rows_of(csr_of(matrix, role))
    check_indptr(rows.indptr, len(rows.indices), role)
    if len(rows.data) != len(rows.indices):
        raise DataError(f"{role} has {len(rows.data)} values for {len(rows.indices)} columns; they must agree.")
    # Some rows at a time, so that what the checks need stays small.
    for start in range(0, rows.length, CHECKED_ROWS):
        part = rows._replace(indptr=rows.indptr[start : start + CHECKED_ROWS + 1])
        check_entries(part, matrix.shape[1], role, start)
    return rows


def check_indptr(indptr: np.ndarray, entries: int, name: str, first_row: int = 0) -> None:
    """Refuse positions of rows that do not ascend, or do not lie between 0 and the number of entries.

    ``first_row`` is the number of the first row, where these are not all rows.

    Raises
    ------
    DataError
        Naming the row.
    """
    if indptr.dtype.kind not in "iu":
        raise DataError(f"{name}: indptr has dtype {indptr.dtype}; the positions of rows are whole numbers.")
    descends = indptr[1:] < indptr[:-1]
    if descends.any():
        i = int(np.argmax(descends))
        raise DataError(
            f"{name}: indptr descends at row {first_row + i}, from {indptr[i]} to {indptr[i + 1]}; each row must begin "
            "where the row before it ends. Write the rows again."
        )
    if indptr[0] < 0 or indptr[-1] > entries or (first_row == 0 and indptr[0] != 0):
        raise DataError(
            f"{name}: indptr reaches from {indptr[0]} at row {first_row} to {indptr[-1]} after row "
            f"{first_row + len(indptr) - 2}; it begins with 0, and there are {entries} values. Write the rows again."
        )


def check_entries(rows: Compressed, features: int, name: str, first_row: int) -> None:
    """Refuse columns that are out of range, out of order, or twice in a row.

    ``first_row`` is the number of the first of the rows.

    Raises
    ------
    DataError
        Naming row and column.
    """
    own = rows.entries
    indices = rows.indices[own]
    if not len(indices):
        return
    if indices.dtype.kind not in "iu":
        raise DataError(f"{name}: indices have dtype {indices.dtype}; the columns of entries are whole numbers.")

    # As whole numbers without a sign those below 0 are the largest.
    unsigned = indices
    if indices.dtype.kind == "i":
        unsigned_dtype = np.dtype(f"u{indices.dtype.itemsize}")
        unsigned = indices.view(unsigned_dtype.newbyteorder(indices.dtype.byteorder))
    if unsigned.max() >= features:
        entry = int(np.argmax(unsigned >= features))
        row = _row_at(rows, own.start + entry, first_row)
        raise DataError(
            f"{name}: row {row} has a value in column {indices[entry]}; columns are 0 to {features - 1}. Write the "
            "rows again."
        )

    # Each column is above the one before it, but where a row begins.
    disorder = indices[1:] <= indices[:-1]
    begins = rows.indptr[1:-1] - (own.start + 1)
    disorder[begins[(begins >= 0) & (begins < len(disorder))]] = False
    if disorder.any():
        entry = int(np.argmax(disorder))
        row = _row_at(rows, own.start + entry, first_row)
        before, after = int(indices[entry]), int(indices[entry + 1])
        remedy = "SciPy's sum_duplicates() sorts the rows, and adds up what is there more than once."
        if before == after:
            raise DataError(f"{name}: row {row} has column {before} more than once. {remedy}")
        raise DataError(f"{name}: row {row} has column {after} after column {before}; columns must ascend. {remedy}")


def _row_at(rows: Compressed, entry: int, first_row: int) -> int:
    """Return the number of the row that has an entry."""
    return first_row + int(np.searchsorted(rows.indptr, entry, side="right")) - 1
