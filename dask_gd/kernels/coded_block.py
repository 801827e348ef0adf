"""Products of rows of numbers and codes, see `codes`: look-ups in tables by key, and sums by key, see `coded_keys`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .coded_keys import Key, make_keys
from .factors import CodedColumns, Factor

#: Rows that are sorted have one key for many rows, and a processor that adds to one entry again and again waits each
#: time for the sum before. Then so many entries take turns, of tables with at most this many of them.
TURNS = 4
MOST_IN_TURNS = 1024
#: The first rows of a block, of which more than half must have the key of the row before.
LOOKED_AT = 256


class CodedWeights(NamedTuple):
    """Weights (p, c) as blocks take them."""

    numbers: np.ndarray  # (c, numbers)
    tables: tuple[np.ndarray, ...]  # of each key (size, c)


class CodedWorkspace:
    """The memory for the numbers and keys of a block, and the places of features in tables."""

    def __init__(self, row_format: CodedColumns, shift: np.ndarray | None):
        self.row_format = row_format
        # Where keys and numbers are among the features.
        self.keys = make_keys(row_format)
        self.number_features = np.array([row_format.starts[i] for i in row_format.numbers], int)
        self.shift: np.ndarray | None = None
        if shift is not None and len(self.number_features):
            self.shift = shift[self.number_features]
        # Memory that all blocks use, one after the other.
        rows = row_format.block_rows
        self.number_memory = np.empty((len(self.number_features), rows))
        self.key_memory = [np.empty(rows, np.intp) for _ in self.keys]
        self.turn_memory: dict[int, np.ndarray] = {}
        self.found_memory = np.empty(0)

    def weights(self, columns: np.ndarray) -> CodedWeights:
        """Return weights (p, c), with a table for each key."""
        tables = tuple(key.table(columns) for key in self.keys)
        return CodedWeights(np.ascontiguousarray(columns[self.number_features].T), tables)

    def features_of(self, i: int) -> tuple[Factor, slice]:
        """Return the factor of a column, and its features."""
        factor = self.row_format.columns[i]
        assert factor is not None
        starts = self.row_format.starts
        return factor, slice(starts[i], starts[i + 1])

    def in_turns(self, number: int, keys: np.ndarray) -> np.ndarray | None:
        """Return keys (n,) with which rows add to `TURNS` entries in turns, or None where that is no use."""
        if self.keys[number].size > MOST_IN_TURNS:
            return None
        # The first rows show whether keys come in runs.
        first = keys[:LOOKED_AT]
        if 2 * np.count_nonzero(first[1:] == first[:-1]) <= len(first):
            return None
        if number not in self.turn_memory:
            self.turn_memory[number] = np.empty(self.row_format.block_rows, np.intp)
        found = self.turn_memory[number][: len(keys)]
        np.multiply(keys, TURNS, out=found)
        for turn in range(1, TURNS):
            found[turn::TURNS] += turn
        return found

    def found_of(self, count: int, columns: int) -> np.ndarray:
        """Return memory for the entries that are looked up in a table, (count, columns)."""
        if self.found_memory.size < count * columns:
            self.found_memory = np.empty(count * columns)
        return self.found_memory[: count * columns].reshape(count, columns)

    def block(self, rows: tuple[np.ndarray, ...]) -> CodedBlock:
        """Return rows as they are multiplied, valid until the next."""
        return CodedBlock(rows, self)

    def gram_sum(self, gram: np.ndarray, sums: np.ndarray | None) -> CodedGramSum:
        """Return what adds ``X^T diag(h) X`` and ``X^T h``."""
        return CodedGramSum(self, gram, sums)

    def numbers_of(self, rows: tuple[np.ndarray, ...]) -> np.ndarray:
        """Return the numbers of rows less the shift, (numbers, n)."""
        numbers = self.number_memory[:, : len(rows[0])]
        for j, i in enumerate(self.row_format.numbers):
            values = self.row_format.column(rows, i)
            if self.shift is None:
                numbers[j] = values
            else:
                np.subtract(values, self.shift[j], out=numbers[j])
        return numbers

    def keys_of(self, rows: tuple[np.ndarray, ...]) -> list[np.ndarray]:
        """Return each row's keys, (n,) each."""
        found = []
        for key, memory in zip(self.keys, self.key_memory, strict=True):
            out = memory[: len(rows[0])]
            keys = self.row_format.codes_of(rows, key.columns[0])
            # Small whole numbers are worked with as they are, and made indices at the end.
            if len(key.columns) > 1:
                keys = keys.astype(np.uint16)
            for i, entries in zip(key.columns[1:], key.entries[1:], strict=True):
                keys *= np.uint16(entries)
                keys += self.row_format.codes_of(rows, i).astype(np.uint16, copy=False)
            np.copyto(out, keys, casting="unsafe")
            found.append(out)
        return found


class CodedBlock:
    """Rows of numbers and codes, in float64."""

    def __init__(self, rows: tuple[np.ndarray, ...], workspace: CodedWorkspace):
        self.count = len(rows[0])
        self.rows = rows
        self.workspace = workspace
        self.numbers = workspace.numbers_of(rows)
        self.keys = workspace.keys_of(rows)
        self.turns = [workspace.in_turns(number, keys) for number, keys in enumerate(self.keys)]

    def add_by_key(self, table: np.ndarray, number: int, values: np.ndarray) -> None:
        """Add the values (n,) of rows to the entries of a key's table (size,)."""
        turns = self.turns[number]
        if turns is None:
            # An array that was unpickled passes on a dtype that is equal to NumPy's and not the same object, and
            # `np.add.at` then takes 40 times as long.
            np.add.at(table, self.keys[number], values.view(np.float64))
        else:
            sums = np.bincount(turns, values, len(table) * TURNS)
            table += sums.reshape(-1, TURNS).sum(axis=1)

    def codes_by_factor(self) -> list[np.ndarray]:
        """Return each row's codes for each factor, (n,) each; all that are none are the number of levels."""
        # A factor with a key of its own has its codes there.
        alone = {key.columns: codes for key, codes in zip(self.workspace.keys, self.keys, strict=True)}
        found = []
        for i in self.workspace.row_format.factors:
            codes = alone.get((i,))
            if codes is None:
                codes = self.workspace.row_format.codes_of(self.rows, i).astype(np.intp)
            found.append(codes)
        return found

    def times(self, weights: CodedWeights) -> np.ndarray:
        """Return ``X w``, (n, c)."""
        # A single number for each row is no product of matrices.
        if self.numbers.shape[0] == 1 and len(weights.numbers) == 1:
            product = (weights.numbers[0] * self.numbers[0])[:, None]
        else:
            product = np.ascontiguousarray((weights.numbers @ self.numbers).T)
        # The weights of the levels, looked up by key.
        found = self.workspace.found_of(*product.shape)
        for key, table in zip(self.keys, weights.tables, strict=True):
            product += np.take(table, key, axis=0, out=found, mode="clip")
        return product

    def add_transposed_times(self, slopes: np.ndarray, total: np.ndarray) -> None:
        """Add ``X^T s`` to a total (p, c)."""
        workspace = self.workspace
        # Numbers with all columns of slopes in one product.
        if len(workspace.number_features):
            total[workspace.number_features] += self.numbers @ slopes
        # A column at a time: sums of several at once are slower.
        for c in range(slopes.shape[1]):
            column = np.ascontiguousarray(slopes[:, c])
            sums = total[:, c]
            for number, key in enumerate(workspace.keys):
                table = np.zeros(key.size)
                self.add_by_key(table, number, column)
                for features, of_factor in key.by_factor(table):
                    sums[features] += of_factor

    def sums(self, s: np.ndarray) -> np.ndarray:
        """Return ``X^T s``, (p,)."""
        total = np.zeros((self.workspace.row_format.features, 1))
        self.add_transposed_times(s[:, None], total)
        return total[:, 0]

    def sums_and_squares(self, s: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Return the sums of the columns and of their squares, (p,) each: those of indicators are the same."""
        if s is None:
            s = np.ones(self.count)
        sums = self.sums(s)
        squares = sums.copy()
        squares[self.workspace.number_features] = self.numbers**2 @ s
        return sums, squares


class CodedGramSum:
    """The sums of ``X^T diag(h) X`` and ``X^T h``: tables for each pair of keys, until they are flushed."""

    def __init__(
        self,
        workspace: CodedWorkspace,
        gram: np.ndarray,
        sums: np.ndarray | None,
    ):
        self.workspace = workspace
        self.gram = gram
        self.sums = sums
        # Tables of numbers with keys, of numbers with each other, and of each pair of keys.
        sizes = [key.size for key in workspace.keys]
        numbers = len(workspace.number_features)
        self.with_numbers = [np.zeros((numbers, size)) for size in sizes]
        self.of_numbers = np.zeros((numbers, numbers))
        self.sums_of_numbers = np.zeros(numbers)
        self.of_pair: dict[tuple[int, int], np.ndarray] = {}
        for b in range(len(sizes)):
            for a in range(b):
                self.of_pair[a, b] = np.zeros(sizes[a] * sizes[b])
        # The sums for a key are those of its pair with another, if there is one.
        self.of_only_key: np.ndarray | None = None
        if len(sizes) == 1:
            self.of_only_key = np.zeros(sizes[0])
        self.pair_memory = np.empty(workspace.row_format.block_rows, np.intp)

    def add(self, block: CodedBlock, h: np.ndarray) -> None:
        """Add a block's."""
        # The numbers with each other, and with each key.
        weighted = block.numbers * h
        self.of_numbers += weighted @ block.numbers.T
        if not self.with_numbers:
            self.sums_of_numbers += weighted.sum(axis=1)
        for number, tables in enumerate(self.with_numbers):
            for table, values in zip(tables, weighted, strict=True):
                block.add_by_key(table, number, values)
        if self.of_only_key is not None:
            block.add_by_key(self.of_only_key, 0, h)
        # See `CodedBlock.add_by_key`.
        h = h.view(np.float64)
        # Each pair of keys, by the place of both in a table of all combinations.
        pair = self.pair_memory[: block.count]
        for (a, b), table in self.of_pair.items():
            np.multiply(block.keys[a], self.workspace.keys[b].size, out=pair)
            pair += block.keys[b]
            np.add.at(table, pair, h)

    def flush(self) -> None:
        """Add the tables to the sums, and begin anew."""
        self._flush_numbers()
        for a, key in enumerate(self.workspace.keys):
            self._flush_key(key, self._table_of_key(a))
        for (a, b), table in self.of_pair.items():
            self._flush_pair(self.workspace.keys[a], self.workspace.keys[b], table)
        # The tables begin anew at 0.
        for table in self.of_pair.values():
            table[:] = 0.0
        if self.of_only_key is not None:
            self.of_only_key[:] = 0.0

    def _flush_numbers(self) -> None:
        """Add the products of numbers with numbers, and with the factors of each key."""
        workspace = self.workspace
        numbers = workspace.number_features
        # Each row has an entry in the table of any key, so that a table's sum is that of all rows.
        for tables in self.with_numbers[:1]:
            self.sums_of_numbers += tables.sum(axis=1)
        # The numbers with each other.
        self.gram[np.ix_(numbers, numbers)] += self.of_numbers
        self.of_numbers[:] = 0.0
        if self.sums is not None:
            self.sums[numbers] += self.sums_of_numbers
        self.sums_of_numbers[:] = 0.0
        # The numbers with the levels of each factor, on both sides of the diagonal.
        for key, tables in zip(workspace.keys, self.with_numbers, strict=True):
            for features, of_factor in key.by_factor(tables.T):
                self.gram[features, numbers] += of_factor
                self.gram[numbers, features] += of_factor.T
            tables[:] = 0.0

    def _table_of_key(self, a: int) -> np.ndarray:
        """Return the sums of h for each entry of a key's table, (size,)."""
        if self.of_only_key is not None:
            return self.of_only_key
        # Any pair that has the key will do, summed over its other key.
        last = len(self.workspace.keys) - 1
        pair = (0, a)
        if a == 0:
            pair = (0, last)
        sizes = [self.workspace.keys[key].size for key in pair]
        table = self.of_pair[pair].reshape(sizes)
        return table.sum(axis=1 - pair.index(a))

    def _flush_key(self, key: Key, table: np.ndarray) -> None:
        """Add the products of a key's factors with themselves, on the diagonal, and with each other."""
        # The diagonal: a row has one level of a factor.
        for features, of_factor in key.by_factor(table):
            every = np.arange(features.start, features.stop)
            self.gram[every, every] += of_factor
            if self.sums is not None:
                self.sums[features] += of_factor
        # The key's factors with each other, summed over all others of the key.
        by_factor = table.reshape(key.entries)
        for b in range(len(key.columns)):
            for a in range(b):
                others = tuple(axis for axis in range(len(key.columns)) if axis not in (a, b))
                self._add_pair(key.columns[a], key.columns[b], by_factor.sum(axis=others))

    def _flush_pair(self, first: Key, second: Key, table: np.ndarray) -> None:
        """Add the products of one key's factors with another's."""
        by_factor = table.reshape(*first.entries, *second.entries)
        axes = range(by_factor.ndim)
        for a, i in enumerate(first.columns):
            for b, j in enumerate(second.columns, len(first.columns)):
                others = tuple(axis for axis in axes if axis not in (a, b))
                of_factors = by_factor
                if others:
                    of_factors = by_factor.sum(axis=others)
                self._add_pair(i, j, of_factors)

    def _add_pair(self, i: int, j: int, table: np.ndarray) -> None:
        """Add a table with an entry for each pair of entries of two columns' factors."""
        one, of_one = self.workspace.features_of(i)
        other, of_other = self.workspace.features_of(j)
        of_features = table[one.drop_first : -1, other.drop_first : -1]
        self.gram[of_one, of_other] += of_features
        self.gram[of_other, of_one] += of_features.T
