"""The gate for blocks of sparse rows: each stays sparse, and must be as its array declared."""

from __future__ import annotations

from typing import Any

import dask.array as da
from scipy.sparse import csr_array

from ..errors import DataError, InvalidTypeError
from .compressed import check_entries, check_indptr, csr_of, is_scipy, rows_of
from .gate import Declared, described, fits, is_convertible, kind_of
from .kinds import NUMBERS
from .stored_inside import check_seen, made_safe


def gated_rows(array: da.Array, role: str) -> da.Array:
    """Return an array of sparse blocks, each with all features of its rows, that have passed through `admit_rows`.

    Raises
    ------
    InvalidTypeError
        For blocks that are declared as another package's, or to hold no real numbers.
    """
    meta = array._meta
    if not is_scipy(meta):
        raise InvalidTypeError(
            f"{role} has sparse blocks ({kind_of(meta)}); dask_gd takes those of scipy.sparse: make them with "
            "array.map_blocks(lambda block: scipy.sparse.csr_array(block.tocsr()))."
        )
    if array.ndim != 2:
        raise InvalidTypeError(
            f"{role} has sparse blocks and the shape {array.shape}; rows and features are 2-D. If `map_blocks` makes "
            "them of texts (n,), it takes new_axis=1 and chunks=(texts.chunks[0], (features,))."
        )
    if array.dtype.kind not in NUMBERS:
        raise InvalidTypeError(f"{role} has sparse blocks of {array.dtype}; only real numbers can be fitted.")
    declared = Declared(
        role=role,
        chunks=array.chunks,
        dtype=array.dtype,
        seen_by=made_safe(array, role),
    )
    admitted = da.map_blocks(
        admit_rows,
        array,
        declared=declared,
        dtype=array.dtype,
        meta=csr_array((0, 0), dtype=array.dtype),
    )
    # A row is never split.
    return admitted.rechunk({1: -1})


def admit_rows(block: Any, declared: Declared, block_id: tuple[int, ...] = ()) -> csr_array:
    """Return a block as SciPy's csr_array, whose rows can be multiplied.

    Raises
    ------
    DataError
        If it is no sparse matrix of SciPy's, its shape or dtype is not the declared one, or its rows are out of order,
        out of range, or have a column more than once. The message names array, block, row and column.
    """
    # A worker that does not see the data would read fill values.
    name = declared.block(block_id)
    if declared.seen_by:
        check_seen(declared.seen_by, name)
    if not is_scipy(block):
        raise DataError(f"{name} is a {kind_of(block)}; declared is a sparse matrix of scipy.")
    shape = declared.shape(block_id)
    if not fits(block.shape, shape) or not is_convertible(block.dtype, declared.dtype):
        raise DataError(
            f"{name} is not what its array declares: declared {described(shape, declared.dtype)}, found "
            f"{described(block.shape, block.dtype)}. Give the array its true chunks and dtype where it is made."
        )

    # The numbers of rows in messages are those of the whole array.
    rows = rows_of(csr_of(block, name))
    check_indptr(rows.indptr, len(rows.indices), name)
    first_row = sum(declared.chunks[0][: block_id[0]])
    if first_row != first_row:
        first_row = 0
    check_entries(rows, block.shape[1], name, int(first_row))
    return rows.matrix(block.shape[1])
