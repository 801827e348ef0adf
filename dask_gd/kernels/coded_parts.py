"""The curvature of rows of numbers and codes in parts, see `curvature_parts`, summed over blocks."""

from __future__ import annotations

import numpy as np

from .coded_block import CodedBlock, CodedWorkspace
from .curvature_parts import CurvatureParts
from .pair_tables import PairTables


class CodedPartsSum:
    """The sums of the parts over the blocks of a workspace."""

    def __init__(self, workspace: CodedWorkspace):
        row_format = workspace.row_format
        self.workspace = workspace
        self.sizes = tuple(workspace.features_of(i)[0].levels + 1 for i in row_format.factors)
        count = len(row_format.numbers)
        self.numbers = np.zeros((count + 1, count + 1))
        self.levels = tuple(np.zeros((count + 1, size)) for size in self.sizes)
        self.pair_tables = PairTables(self.sizes, row_format.block_rows)

    def add(self, block: CodedBlock, h: np.ndarray) -> None:
        """Add a block's, for h (n,) of 0 or more."""
        # See `coded_block.CodedGramSum.add`: `np.add.at` is slow for a dtype that was unpickled.
        h = h.view(np.float64)
        # The numbers among themselves, and with the constant.
        numbers = block.numbers
        weighted = numbers * h
        self.numbers[:-1, :-1] += weighted @ numbers.T
        self.numbers[-1, :-1] += weighted.sum(axis=1)
        self.numbers[-1, -1] += h.sum()
        # The factors' levels with numbers and with the constant, and with each other's.
        codes = block.codes_by_factor()
        for table, column in zip(self.levels, codes, strict=True):
            for row, values in zip(table, weighted, strict=False):
                np.add.at(row, column, values)
            np.add.at(table[-1], column, h)
        self.pair_tables.add(codes, h)

    def parts(self) -> CurvatureParts:
        """Return the sums over all blocks."""
        self.pair_tables.flush()
        self.numbers[:-1, -1] = self.numbers[-1, :-1]
        return CurvatureParts(
            columns=self.workspace.row_format,
            numbers=self.numbers,
            levels=self.levels,
            tables=tuple(self.pair_tables.tables),
        )
