"""Rows of several formats side by side: each part multiplies its own features, and the parts' products add up."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from scipy.sparse import csr_array, hstack

from .block import BadValue, Block, GramSum, Memory, Workspace
from .codes import CodedRows
from .sparse import SparseRows
from .sparse_products import Compressed, cross_product

#: A part: numbers and codes, or sparse rows.
PartFormat = CodedRows | SparseRows


@dataclass(frozen=True)
class SideBySide:
    """The format of rows whose features are those of its parts, one part after the other.

    Stored rows are a tuple with the rows of each part, as its format takes them.
    """

    parts: tuple[PartFormat, ...]

    dtype = np.dtype(float)

    @cached_property
    def features_of(self) -> tuple[slice, ...]:
        """The features of each part."""
        ends = list(accumulate((part.features for part in self.parts), initial=0))
        return tuple(slice(start, stop) for start, stop in pairwise(ends))

    @property
    def features(self) -> int:
        """The number of features, p."""
        return self.features_of[-1].stop

    @property
    def can_shift(self) -> np.ndarray:
        """Which features can be shifted, (p,) bool: those that their parts can shift."""
        return np.concatenate([part.can_shift for part in self.parts])

    @property
    def cheap_gram(self) -> bool:
        """Whether a gram costs little: no part's does."""
        return False

    @property
    def block_rows(self) -> int:
        """The rows of a block: those of the part that takes fewest."""
        return min(part.block_rows for part in self.parts)

    def nbytes(self, count: int) -> int:
        """Return the bytes of this number of rows."""
        return sum(part.nbytes(count) for part in self.parts)

    def cast(self, stored: tuple, memory: Memory) -> tuple:
        """Return each part's rows as it multiplies them."""
        found = []
        for number, (part, rows) in enumerate(zip(self.parts, stored, strict=True)):
            own_memory = _memory_of_part(number, memory)
            found.append(part.cast(rows, own_memory))
        return tuple(found)

    def kept(self, rows: tuple, memory: Memory) -> tuple | None:
        """Return a copy of each part's rows, for many products; None where there is no memory."""
        found = []
        for part, own in zip(self.parts, rows, strict=True):
            of_part: tuple | None
            if isinstance(part, SparseRows):
                of_part = part.kept(own, memory)
            else:
                of_part = _copied(own, memory)
            if of_part is None:
                return None
            found.append(of_part)
        return tuple(found)

    def take(self, rows: tuple, which: slice | np.ndarray, room: Any = None) -> tuple:
        """Return consecutive rows as they lie, or a copy of rows at ascending positions."""
        return tuple(part.take(own, which) for part, own in zip(self.parts, rows, strict=True))

    def room(self, count: int) -> None:
        """Return nothing: the parts have no use for it."""

    def with_nan(self, rows: tuple) -> np.ndarray:
        """Return which rows lack a value in any part, (n,) bool."""
        found = [part.with_nan(own) for part, own in zip(self.parts, rows, strict=True)]
        return np.logical_or.reduce(found)

    def first_bad(self, rows: tuple) -> BadValue | None:
        """Return the first value that is not finite, or the first code that is none, by its feature; or None."""
        first: BadValue | None = None
        for part, own, features in zip(self.parts, rows, self.features_of, strict=True):
            # The first row counts, and among those of one row the first part.
            found = part.first_bad(own)
            if found is None or (first is not None and first.row <= found.row):
                continue
            column = found.column or 0
            # A column of codes by the first of its features.
            if isinstance(part, CodedRows):
                column = part.starts[column]
            first = found._replace(column=features.start + column)
        return first

    def dense(self, rows: tuple) -> np.ndarray:
        """Return rows written out, (n, p): for a few of them."""
        return np.hstack([part.dense(own) for part, own in zip(self.parts, rows, strict=True)])

    def workspace(self, shift: np.ndarray | None) -> SideBySideWorkspace:
        """Return what a kernel needs to multiply rows less a shift (p,)."""
        return SideBySideWorkspace(self, shift)


def _copied(arrays: tuple[np.ndarray, ...], memory: Memory) -> tuple[np.ndarray, ...] | None:
    """Return copies of arrays; None where there is no memory for one of them."""
    found = []
    for array in arrays:
        copy = memory(array.shape, array.dtype)
        if copy is None:
            return None
        copy[...] = array
        found.append(copy)
    return tuple(found)


def _memory_of_part(number: int, memory: Memory) -> Memory:
    """Return what gives a part memory: its own, as the parts' rows are needed together."""
    if number == 0:
        return memory
    return np.empty


class SideBySideWorkspace:
    """The workspaces of the parts."""

    def __init__(self, row_format: SideBySide, shift: np.ndarray | None):
        self.row_format = row_format
        self.shift = shift
        # Each part has its own piece of the shift.
        self.parts: list[Workspace] = []
        for part, features in zip(row_format.parts, row_format.features_of, strict=True):
            own_shift = None
            if shift is not None:
                own_shift = shift[features]
            self.parts.append(part.workspace(own_shift))

    def weights(self, columns: np.ndarray) -> tuple:
        """Return each part's weights, as its blocks take them."""
        pairs = zip(self.parts, self.row_format.features_of, strict=True)
        return tuple(part.weights(columns[features]) for part, features in pairs)

    def block(self, rows: tuple) -> SideBySideBlock:
        """Return rows as they are multiplied, valid until the next."""
        return SideBySideBlock(rows, self)

    def gram_sum(self, gram: np.ndarray, sums: np.ndarray | None) -> SideBySideGramSum:
        """Return what adds ``X^T diag(h) X`` and ``X^T h``."""
        return SideBySideGramSum(self, gram, sums)


class SideBySideBlock:
    """The blocks of the parts."""

    def __init__(self, rows: tuple, workspace: SideBySideWorkspace):
        self.rows = rows
        self.workspace = workspace
        self.features_of = workspace.row_format.features_of
        self.parts: list[Block] = [part.block(own) for part, own in zip(workspace.parts, rows, strict=True)]

    def times(self, weights: tuple) -> np.ndarray:
        """Return ``X w``, (n, c): the sum of the parts' products."""
        products = (part.times(own) for part, own in zip(self.parts, weights, strict=True))
        # The first product is memory of its own, to which the others are added.
        total = next(products)
        for product in products:
            total += product
        return total

    def add_transposed_times(self, slopes: np.ndarray, total: np.ndarray) -> None:
        """Add ``X^T s`` to a total (p, c)."""
        for part, features in zip(self.parts, self.features_of, strict=True):
            part.add_transposed_times(slopes, total[features])

    def sums(self, s: np.ndarray) -> np.ndarray:
        """Return ``X^T s``, (p,)."""
        return np.concatenate([part.sums(s) for part in self.parts])

    def sums_and_squares(self, s: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Return the sums of the columns and of their squares, (p,) each."""
        sums, squares = zip(*(part.sums_and_squares(s) for part in self.parts), strict=True)
        return np.concatenate(sums), np.concatenate(squares)


class SideBySideGramSum:
    """The sums of ``X^T diag(h) X`` and ``X^T h``: each part's own, and the products of each two parts."""

    def __init__(
        self,
        workspace: SideBySideWorkspace,
        gram: np.ndarray,
        sums: np.ndarray | None,
    ):
        self.workspace = workspace
        self.gram = gram
        features_of = workspace.row_format.features_of
        # A part's own products go to its own square of the gram.
        self.parts: list[GramSum] = []
        for part, features in zip(workspace.parts, features_of, strict=True):
            own_sums = None
            if sums is not None:
                own_sums = sums[features]
            self.parts.append(part.gram_sum(gram[features, features], own_sums))
        # A part's products with all parts after it, (features, features after them).
        p = workspace.row_format.features
        shapes = [(features.stop - features.start, p - features.stop) for features in features_of[:-1]]
        self.crossed = [np.zeros(shape) for shape in shapes]

    def add(self, block: SideBySideBlock, h: np.ndarray) -> None:
        """Add a block's."""
        for part, own in zip(self.parts, block.parts, strict=True):
            part.add(own, h)
        # Each part with all after it, as sparse products.
        matrices = matrices_of(self.workspace.row_format, block.rows, self.workspace.shift)
        for number, total in enumerate(self.crossed):
            after = csr_array(hstack(matrices[number + 1 :], format="csr"))
            cross_product(matrices[number], h, after, total)

    def flush(self) -> None:
        """Add what has been added up, and begin anew."""
        for part in self.parts:
            part.flush()
        # Products of two parts lie on both sides of the diagonal.
        for features, total in zip(self.workspace.row_format.features_of, self.crossed, strict=False):
            self.gram[features, features.stop :] += total
            self.gram[features.stop :, features] += total.T
            total[:] = 0.0


def matrices_of(row_format: SideBySide, rows: tuple, shift: np.ndarray | None) -> list[csr_array]:
    """Return the parts of rows less a shift (p,) as sparse matrices: a row of codes has an entry for each column."""
    found = []
    for part, own, features in zip(row_format.parts, rows, row_format.features_of, strict=True):
        # Sparse rows are such a matrix already.
        if isinstance(part, SparseRows):
            found.append(own.matrix(part.features))
            continue
        own_shift = None
        if shift is not None:
            own_shift = shift[features]
        found.append(entries_of_codes(part, own, own_shift).matrix(part.features))
    return found


def matrix_of(row_format: SideBySide, rows: tuple, shift: np.ndarray | None) -> csr_array:
    """Return rows less a shift (p,) as one sparse matrix (n, p)."""
    return csr_array(hstack(matrices_of(row_format, rows, shift), format="csr"))


def entries_of_codes(part: CodedRows, rows: tuple[np.ndarray, ...], shift: np.ndarray | None) -> Compressed:
    """Return rows of numbers, less a shift (p,), and of codes, whose indicators are 1, as sparse rows.

    A row has an entry for each column; that of a code without a feature is 0, and NaN where the code is none.
    """
    count = len(rows[0])
    width = len(part.columns)
    data = np.ones((count, width))
    indices = np.empty((count, width), np.int32)
    for i, factor in enumerate(part.columns):
        values = part.column(rows, i)
        first = part.starts[i]
        if factor is None:
            data[:, i] = values
            if shift is not None:
                data[:, i] -= shift[first]
            indices[:, i] = first
            continue
        # Whatever is no code makes the sums NaN, and the check that follows names it.
        is_code = (values >= 0) & (values < factor.levels)
        known = np.where(is_code, values, 0)
        places = known.astype(np.int32) - np.int32(factor.drop_first)
        data[~is_code, i] = np.nan
        # The reference has no feature.
        is_reference = is_code & (places < 0)
        data[is_reference, i] = 0.0
        indices[:, i] = first + np.maximum(places, 0)
    # All rows have as many entries.
    indptr = np.arange(0, count * width + 1, width)
    return Compressed(data.reshape(-1), indices.reshape(-1), indptr)
