"""The gate that every materialised block passes before it is used: it must be as its array declared.

Dask trusts the maker of an array about its blocks. It pairs blocks by number, cuts rows that are too many without a
word, and NumPy ignores masks and drops imaginary parts. So each block is compared with the declared shape and dtype
before anything else happens to it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import dask.array as da
import numpy as np

from ..errors import DataError, InvalidTypeError
from .stored_inside import check_seen, made_safe

#: What to do about sparse blocks where dense ones are declared, or where only these can serve.
DENSE = (
    "make them dense with array.map_blocks(lambda block: block.toarray()), or for sparse features x of a fit declare "
    "sparse blocks, with meta=scipy.sparse.csr_array((0, p))"
)


class Declared(NamedTuple):
    """The declarations of an array about its blocks."""

    role: str
    chunks: tuple[tuple[float, ...], ...]
    dtype: np.dtype
    #: Files that a process which can read the array can see, see `stored_inside`.
    seen_by: tuple[str, ...] = ()

    def shape(self, block_id: tuple[int, ...]) -> tuple[float, ...]:
        """Return the shape of a block; NaN where the length is not known."""
        numbered = zip(self.chunks, block_id, strict=True)
        return tuple(sizes[i] for sizes, i in numbered)

    def block(self, block_id: tuple[int, ...]) -> str:
        """Return the name of a block for messages, with its rows where these are known."""
        name = f"block {block_id} of {self.role!r}"
        lengths = self.chunks[0]
        number = block_id[0]
        first = sum(lengths[:number])
        last = first + lengths[number] - 1
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
    # The meta is an empty block: it shows what can be refused before the first task.
    meta = array._meta
    if is_sparse(meta):
        raise InvalidTypeError(f"{role} has sparse blocks ({kind_of(meta)}); {DENSE}.")

    # Masked values become NaN.
    dtype = array.dtype
    if isinstance(meta, np.ma.MaskedArray):
        dtype = filled_dtype(dtype)
    # The declaration goes with each task, to where the block is.
    declared = Declared(
        role=role,
        chunks=array.chunks,
        dtype=array.dtype,
        seen_by=made_safe(array, role),
    )
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
        If it is no array, or its shape or dtype is not the declared one. The message names array and block.
    """
    # A worker that does not see the data would read fill values.
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
    if not fits(block.shape, shape) or not is_convertible(block.dtype, declared.dtype):
        raise DataError(
            f"{declared.block(block_id)} is not what its array declares: declared {described(shape, declared.dtype)}, "
            f"found {described(block.shape, block.dtype)}. Give the array its true chunks and dtype where it is made "
            "(da.from_delayed, map_blocks), or call compute_chunk_sizes()."
        )
    return without_mask(block)


def fits(found: tuple[int, ...], declared: tuple[float, ...]) -> bool:
    """Return whether a block has the declared shape. Nobody knows the lengths that are NaN."""
    if len(found) != len(declared):
        return False
    pairs = zip(found, declared, strict=True)
    return all(n == expected or np.isnan(expected) for n, expected in pairs)


def without_mask(array: np.ndarray) -> np.ndarray:
    """Return a plain array in which masked values are NaN; integers become floats where a value is masked."""
    if not isinstance(array, np.ma.MaskedArray):
        return array
    if not np.ma.is_masked(array):
        return array.data
    # Integers have no NaN.
    return np.ma.filled(array.astype(filled_dtype(array.dtype)), np.nan)


def filled_dtype(dtype: np.dtype) -> np.dtype:
    """Return the dtype that values of ``dtype`` and NaN have together."""
    if dtype.kind in "iub":
        return np.dtype(float)
    if dtype.kind in "fc":
        return dtype
    return np.dtype(object)


def is_plain(block: Any) -> bool:
    """Return whether NumPy's arithmetic means the same for this array as for a plain array."""
    return type(block) in (np.ndarray, np.memmap) or isinstance(block, np.ma.MaskedArray)


def is_sparse(block: Any) -> bool:
    """Return whether this is a sparse array or matrix, of scipy or the package sparse."""
    if isinstance(block, np.ndarray):
        return False
    return hasattr(block, "todense") or hasattr(block, "toarray")


def is_convertible(found: np.dtype, declared: np.dtype) -> bool:
    """Return whether values of a dtype can stand for those of the declared dtype: never complex for real."""
    return np.can_cast(found, declared, casting="same_kind")


def described(shape: tuple[float, ...], dtype: np.dtype) -> str:
    """Return shape and dtype for messages."""
    sizes = []
    for size in shape:
        if np.isnan(size):
            sizes.append("?")
        else:
            sizes.append(str(int(size)))
    comma = ""
    if len(shape) == 1:
        comma = ","
    return f"shape ({', '.join(sizes)}{comma}) of {dtype}"


def kind_of(block: Any) -> str:
    """Return the name of a block's class with its package."""
    cls = type(block)
    if cls.__module__ == "builtins":
        return cls.__name__
    package, _, _ = cls.__module__.partition(".")
    return f"{package} {cls.__name__}"
