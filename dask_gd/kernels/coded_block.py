"""Products of rows of numbers and codes, see `codes`: look-ups in tables by key, and sums by key, see `coded_keys`."""

from __future__ import annotations

from itertools import combinations
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
        self.look_up_memory = np.empty(0)

    def weights(self, columns: np.ndarray) -> CodedWeights:
        """Return weights (p, c), with a table for each key."""
        of_numbers = columns[self.number_features]
        return CodedWeights(
            numbers=np.ascontiguousarray(of_numbers.T),
            tables=tuple(key.table(columns) for key in self.keys),
        )

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
        is_repeated = first[1:] == first[:-1]
        if 2 * np.count_nonzero(is_repeated) <= len(first):
            return None
        # Each entry becomes `TURNS` entries, to which one row after the other adds.
        memory = self.turn_memory.get(number)
        if memory is None:
            memory = np.empty(self.row_format.block_rows, np.intp)
            self.turn_memory[number] = memory
        turns = memory[: len(keys)]
        np.multiply(keys, TURNS, out=turns)
        for turn in range(1, TURNS):
            turns[turn::TURNS] += turn
        return turns

    def memory_of_look_up(self, rows: int, columns: int) -> np.ndarray:
        """Return memory for the entries that rows look up in a table, (rows, columns)."""
        size = rows * columns
        if self.look_up_memory.size < size:
            self.look_up_memory = np.empty(size)
        return self.look_up_memory[:size].reshape(rows, columns)

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
        count = len(rows[0])
        found = []
        for key, memory in zip(self.keys, self.key_memory, strict=True):
            # Small whole numbers are worked with as they are, and made indices at the end.
            indices = memory[:count]
            np.copyto(indices, self._small_keys(key, rows), casting="unsafe")
            found.append(indices)
        return found

    def _small_keys(self, key: Key, rows: tuple[np.ndarray, ...]) -> np.ndarray:
        """Return the entries (n,) of a key's table that rows have, in a narrow dtype."""
        first, *others = key.columns
        keys = self.row_format.codes_of(rows, first)
        if not others:
            return keys
        # The codes of the factors are the digits of a number, the last the fastest.
        keys = keys.astype(np.uint16)
        for i, entries in zip(others, key.entries[1:], strict=True):
            codes = self.row_format.codes_of(rows, i)
            keys *= np.uint16(entries)
            keys += codes.astype(np.uint16, copy=False)
        return keys


class CodedBlock:
    """Rows of numbers and codes, in float64."""

    def __init__(self, rows: tuple[np.ndarray, ...], workspace: CodedWorkspace):
        self.count = len(rows[0])
        self.rows = rows
        self.workspace = workspace
        self.numbers = workspace.numbers_of(rows)
        self.keys = workspace.keys_of(rows)
        #: Of each key, None where its entries take no turns.
        self.turns: list[np.ndarray | None] = []
        for number, keys in enumerate(self.keys):
            self.turns.append(workspace.in_turns(number, keys))

    def add_by_key(self, table: np.ndarray, number: int, values: np.ndarray) -> None:
        """Add the values (n,) of rows to the entries of a key's table (size,)."""
        turns = self.turns[number]
        if turns is None:
            # An array that was unpickled passes on a dtype that is equal to NumPy's and not the same object, and
            # `np.add.at` then takes 40 times as long.
            np.add.at(table, self.keys[number], values.view(np.float64))
            return
        entries = len(table) * TURNS
        sums_by_turn = np.bincount(turns, values, entries).reshape(-1, TURNS)
        table += sums_by_turn.sum(axis=1)

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
            scaled = weights.numbers[0] * self.numbers[0]
            predictions = scaled[:, None]
        else:
            products = weights.numbers @ self.numbers
            predictions = np.ascontiguousarray(products.T)
        # The weights of the levels, looked up by key.
        found = self.workspace.memory_of_look_up(*predictions.shape)
        for keys, table in zip(self.keys, weights.tables, strict=True):
            np.take(table, keys, axis=0, out=found, mode="clip")
            predictions += found
        return predictions

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
        for a, b in combinations(range(len(sizes)), 2):
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
        entries = self.pair_memory[: block.count]
        for (a, b), table in self.of_pair.items():
            size_of_second = self.workspace.keys[b].size
            np.multiply(block.keys[a], size_of_second, out=entries)
            entries += block.keys[b]
            np.add.at(table, entries, h)

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
        if self.with_numbers:
            self.sums_of_numbers += self.with_numbers[0].sum(axis=1)
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
        keys = self.workspace.keys
        if a == 0:
            last = len(keys) - 1
            table = self.of_pair[0, last].reshape(keys[0].size, keys[last].size)
            return table.sum(axis=1)
        table = self.of_pair[0, a].reshape(keys[0].size, keys[a].size)
        return table.sum(axis=0)

    def _flush_key(self, key: Key, table: np.ndarray) -> None:
        """Add the products of a key's factors with themselves, on the diagonal, and with each other."""
        # The diagonal: a row has one level of a factor.
        for features, of_factor in key.by_factor(table):
            diagonal = np.arange(features.start, features.stop)
            self.gram[diagonal, diagonal] += of_factor
            if self.sums is not None:
                self.sums[features] += of_factor
        # The key's factors with each other, summed over all others of the key.
        by_factor = table.reshape(key.entries)
        for a, b in combinations(range(len(key.columns)), 2):
            self._add_pair(key.columns[a], key.columns[b], summed_over_others(by_factor, a, b))

    def _flush_pair(self, first: Key, second: Key, table: np.ndarray) -> None:
        """Add the products of one key's factors with another's."""
        # The table has an axis for each factor of the first key, and then for each of the second.
        by_factor = table.reshape(*first.entries, *second.entries)
        for a, i in enumerate(first.columns):
            for b, j in enumerate(second.columns, len(first.columns)):
                self._add_pair(i, j, summed_over_others(by_factor, a, b))

    def _add_pair(self, i: int, j: int, table: np.ndarray) -> None:
        """Add a table with an entry for each pair of entries of two columns' factors."""
        first, first_features = self.workspace.features_of(i)
        second, second_features = self.workspace.features_of(j)
        # Neither a reference level nor codes that are none have a feature.
        of_features = table[first.drop_first : -1, second.drop_first : -1]
        self.gram[first_features, second_features] += of_features
        self.gram[second_features, first_features] += of_features.T


def summed_over_others(by_factor: np.ndarray, a: int, b: int) -> np.ndarray:
    """Return a table with an axis for each factor, summed over all axes but two."""
    others = tuple(axis for axis in range(by_factor.ndim) if axis not in (a, b))
    if not others:
        return by_factor
    return by_factor.sum(axis=others)
