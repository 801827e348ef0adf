"""The gate that every materialised block passes before it is used: what it is must be what its array declared.

Dask believes what the maker of an array says about its blocks. It pairs blocks by number, cuts rows that are too many
without a word, and NumPy ignores masks and drops imaginary parts. So each block is compared with the declared shape and
dtype before anything else happens to it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import dask.array as da
import numpy as np

from ..errors import DataError, InvalidTypeError
from .stored_inside import check_seen, made_safe

#: What to do about sparse blocks.
DENSE = "dask_gd takes dense rows: make them dense with array.map_blocks(lambda block: block.toarray())"


class Declared(NamedTuple):
    """What an array says about its blocks."""

    role: str
    chunks: tuple[tuple[float, ...], ...]
    dtype: np.dtype
    #: Files that a process which can read the array can see, see `stored_inside`.
    seen_by: tuple[str, ...] = ()

    def shape(self, block_id: tuple[int, ...]) -> tuple[float, ...]:
        """Return the shape of a block; NaN where the length is not known."""
        return tuple(sizes[i] for sizes, i in zip(self.chunks, block_id, strict=True))

    def block(self, block_id: tuple[int, ...]) -> str:
        """Return the name of a block for messages, with its rows where these are known."""
        name = f"block {block_id} of {self.role!r}"
        first = sum(self.chunks[0][: block_id[0]])
        last = first + self.chunks[0][block_id[0]] - 1
        if np.isnan(last):
            return name
        return f"{name} (declared as rows {first}-{last})"


def gated(array: da.Array, role: str) -> da.Array:
    """Return the array with every block passed through `admit`.

    Raises
    ------
    InvalidTypeError
        Where the array's meta tells that its blocks are sparse.
    """
    meta = array._meta
    if is_sparse(meta):
        raise InvalidTypeError(f"{role} has sparse blocks ({kind_of(meta)}); {DENSE}.")
    dtype = array.dtype
    if isinstance(meta, np.ma.MaskedArray):
        dtype = filled_dtype(dtype)
    declared = Declared(role, array.chunks, array.dtype, made_safe(array, role))
    return da.map_blocks(
        admit,
        array,
        declared=declared,
        dtype=dtype,
        meta=np.empty((0,) * array.ndim, dtype),
    )


def admit(block: Any, declared: Declared, block_id: tuple[int, ...] = ()) -> np.ndarray:
    """Return the block as a plain array, its masked values as NaN.

    Raises
    ------
    DataError
        If it is no array, or its shape or dtype is not what was declared. The message names array and block.
    """
    if declared.seen_by:
        check_seen(declared.seen_by, declared.block(block_id))
    if is_sparse(block):
        raise DataError(f"{declared.block(block_id)} is sparse ({kind_of(block)}); {DENSE}.")
    if not is_plain(block):
        raise DataError(
            f"{declared.block(block_id)} is a {kind_of(block)}; declared is a NumPy array of {declared.dtype}. "
            "Make arrays of the blocks, for example with array.map_blocks(np.asarray)."
        )
    shape = declared.shape(block_id)
    fits = block.ndim == len(shape) and all(n == m or np.isnan(m) for n, m in zip(block.shape, shape, strict=True))
    if not fits or not is_convertible(block.dtype, declared.dtype):
        raise DataError(
            f"{declared.block(block_id)} is not what its array declares: declared {described(shape, declared.dtype)}, "
            f"found {described(block.shape, block.dtype)}. Give the array its true chunks and dtype where it is made "
            "(da.from_delayed, map_blocks), or call compute_chunk_sizes()."
        )
    return without_mask(block)


def without_mask(array: np.ndarray) -> np.ndarray:
    """Return a plain array in which masked values are NaN; integers become floats where a value is masked."""
    if not isinstance(array, np.ma.MaskedArray):
        return array
    if not np.ma.is_masked(array):
        return array.data
    return np.ma.filled(array.astype(filled_dtype(array.dtype)), np.nan)


def filled_dtype(dtype: np.dtype) -> np.dtype:
    """Return the dtype that values of ``dtype`` and NaN have together."""
    if dtype.kind in "iub":
        return np.dtype(float)
    if dtype.kind in "fc":
        return dtype
    return np.dtype(object)


def is_plain(block: Any) -> bool:
    """Return whether NumPy's arithmetic means for this array what it means for a plain one."""
    return type(block) in (np.ndarray, np.memmap) or isinstance(block, np.ma.MaskedArray)


def is_sparse(block: Any) -> bool:
    """Return whether this is a sparse array or matrix, of scipy or the package sparse."""
    return not isinstance(block, np.ndarray) and any(hasattr(block, name) for name in ("todense", "toarray"))


def is_convertible(found: np.dtype, declared: np.dtype) -> bool:
    """Return whether values of the found dtype can stand for declared ones: real for real, never complex for real."""
    return np.can_cast(found, declared, casting="same_kind")


def described(shape: tuple[float, ...], dtype: np.dtype) -> str:
    """Return shape and dtype for messages."""
    sizes = ", ".join("?" if np.isnan(n) else str(int(n)) for n in shape)
    return f"shape ({sizes}{',' * (len(shape) == 1)}) of {dtype}"


def kind_of(block: Any) -> str:
    """Return the name of a block's class with its package."""
    cls = type(block)
    if cls.__module__ == "builtins":
        return cls.__name__
    return f"{cls.__module__.split('.')[0]} {cls.__name__}"
