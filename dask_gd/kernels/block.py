"""The seam between kernels and rows: a row format says how a task has its rows, and a block multiplies some of them.

Kernels know nothing else of rows, so that those of another format (sparse, coded, several side by side) need no other
kernels. `dense` has the format of arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..errors import InvalidTypeError

#: Gives memory of a shape and a dtype that a thread uses again for the next rows.
Memory = Callable[[tuple[int, ...], np.dtype], np.ndarray]


class BadValue(NamedTuple):
    """A value that is NaN or infinite, by its position in some rows."""

    row: int
    column: int | None  # None where there is a single one
    value: float
    why: str = ""  # what is wrong with a finite value


class RowFormat(Protocol):
    """The way in which a task has its rows of features. It travels to the workers, and holds no rows.

    Only the format knows what rows are: it takes them as a column reads them, and whoever has rows hands them back to
    it. A format that can write its rows out as an array has a method ``dense(rows)``, see `dense_rows`. A format whose
    rows are kept between passes in another form than they are read has a method ``kept(rows, memory)``, which returns
    a copy that `cast` knows, or None where ``memory`` returns none; its products have the same bits.
    """

    @property
    def dtype(self) -> np.dtype:
        """The dtype in which products are taken."""
        ...

    @property
    def features(self) -> int:
        """The number of features, p."""
        ...

    @property
    def can_shift(self) -> np.ndarray:
        """Which features the workspace can shift, (p,) bool; the others have a shift of 0."""
        ...

    @property
    def block_rows(self) -> int:
        """The rows of a block: a constant of the format, as it decides the order of the sums."""
        ...

    @property
    def cheap_gram(self) -> bool:
        """Whether ``X^T diag(h) X`` costs no more than reading the rows again, however many features there are."""
        ...

    def nbytes(self, count: int) -> int:
        """Return the bytes of memory that this number of rows takes."""
        ...

    def cast(self, stored: Any, memory: Memory) -> Any:
        """Return rows as they are multiplied from rows as a column reads them."""
        ...

    def take(self, rows: Any, which: slice | np.ndarray, room: Any = None) -> Any:
        """Return consecutive rows, or those at ascending positions, in ``room`` if it is given."""
        ...

    def room(self, count: int) -> Any:
        """Return memory into which up to this number of rows are taken; None where a format has no use for it."""
        ...

    def with_nan(self, rows: Any) -> np.ndarray:
        """Return which rows have NaN, (n,) bool."""
        ...

    def first_bad(self, rows: Any) -> BadValue | None:
        """Return the first value that is not finite, or None."""
        ...

    def workspace(self, shift: np.ndarray | None) -> Workspace:
        """Return what a kernel needs to multiply rows less a shift (p,)."""
        ...


class Workspace(Protocol):
    """Memory and constants of products, made once for the blocks of a partition, which come one after the other."""

    def weights(self, columns: np.ndarray) -> Any:
        """Return weights (p, c), of all blocks, as `Block.times` takes them."""
        ...

    def block(self, rows: Any) -> Block:
        """Return rows, less the shift, as they are multiplied; valid until the next."""
        ...

    def gram_sum(self, gram: np.ndarray, sums: np.ndarray | None) -> GramSum:
        """Return what adds ``X^T diag(h) X`` to ``gram`` (p, p) and ``X^T h`` to ``sums`` (p,), if there are any."""
        ...


class GramSum(Protocol):
    """The sum of ``X^T diag(h) X``, and of ``X^T h``, over blocks of a workspace."""

    def add(self, block: Any, h: np.ndarray) -> None:
        """Add a block's, for h (n,) of 0 or more."""
        ...

    def flush(self) -> None:
        """Bring gram and sums up to date: a format may add up several blocks before it does."""
        ...


class Block(Protocol):
    """Rows X (n, p), less a shift, that a kernel multiplies at once. All products are given in float64."""

    def times(self, weights: Any) -> np.ndarray:
        """Return ``X w``, (n, c), with weights that the workspace has prepared, in memory of its own."""
        ...

    def add_transposed_times(self, slopes: np.ndarray, total: np.ndarray) -> None:
        """Add ``X^T s`` of slopes (n, c) to a total (p, c), which may be a view."""
        ...

    def sums(self, s: np.ndarray) -> np.ndarray:
        """Return the columns' sums with row weights s (n,), ``X^T s``, taken in float64: (p,)."""
        ...

    def sums_and_squares(self, s: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Return the sums of the columns and of their squares with row weights s (n,), taken in float64: (p,) each."""
        ...


def dense_rows(row_format: RowFormat, rows: Any, purpose: str) -> np.ndarray:
    """Return rows as an array (n, p), for arithmetic that no block has.

    Raises
    ------
    InvalidTypeError
        For rows of a format that cannot be written out.
    """
    dense = getattr(row_format, "dense", None)
    if dense is None:
        raise InvalidTypeError(
            f"{purpose} takes rows as a dense array; these are {type(row_format).__name__}, which cannot be written "
            "out. Give the features as a dense array."
        )
    return dense(rows)
