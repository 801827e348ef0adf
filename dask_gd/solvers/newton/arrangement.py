"""A curvature in parts, arranged in blocks: the largest factor's levels, and all other features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array, diags_array, hstack, vstack

from ...kernels.curvature_parts import CurvatureParts
from ...kernels.factors import CodedColumns
from ...kernels.pair_tables import pairs_of
from .pins import largest_factor


@dataclass(frozen=True, eq=False)
class Arrangement:
    """The blocks of ``H = [[D, C], [C^T, R]]``, where D is the diagonal block of the largest factor.

    The rest, all other features, is in this order: other factors' levels, numbers, and the intercept where there is
    one. Columns of levels are sparse, and columns of numbers are not; the intercept counts as a number.
    """

    #: The features of the largest factor, and those of the rest: their positions among all features.
    levels: np.ndarray
    rest: np.ndarray
    #: How many of the rest are levels.
    width: int
    #: D, (levels,).
    diagonal: np.ndarray
    #: C, in columns of other factors' levels and columns of numbers.
    coupling_levels: csr_array
    coupling_numbers: np.ndarray
    #: R: other factors' levels with each other, with numbers, and numbers with each other.
    rest_levels: csr_array
    rest_across: np.ndarray
    rest_numbers: np.ndarray

    @property
    def rest_diagonal(self) -> np.ndarray:
        """The diagonal of R."""
        return np.concatenate([self.rest_levels.diagonal(), np.diagonal(self.rest_numbers)])


def arranged(parts: CurvatureParts, ridge: np.ndarray) -> Arrangement:
    """Return the blocks of a curvature in parts with that of a penalty (q,)."""
    columns = parts.columns
    largest = largest_factor(columns)
    others = [factor for factor in range(len(columns.factors)) if factor != largest]

    # Where the features are among all of them.
    levels = features_of(columns, largest)
    numbers = number_features(columns, len(ridge))
    other_levels = [features_of(columns, factor) for factor in others]
    rest = np.concatenate([*other_levels, numbers]).astype(int)
    width = len(rest) - len(numbers)
    ridge_of_rest = ridge[rest]

    # The sums of each level: with each number, and in the last row its own.
    sums = sums_of_levels(parts)
    tables = tables_of_pairs(parts)
    rows_of_numbers = np.arange(len(numbers))
    diagonal = sums[largest][-1] + ridge[levels]
    coupling_levels = beside([tables[largest, factor] for factor in others], len(diagonal))
    coupling_numbers = sums[largest][rows_of_numbers].T

    # The block of the other levels is made of a row of tables for each factor, whose own table is a diagonal.
    rest_levels = csr_array((0, 0))
    rest_across = np.zeros((0, len(numbers)))
    if others:
        rows = []
        for factor, features in zip(others, other_levels, strict=True):
            tables[factor, factor] = diags_array(sums[factor][-1])
            row = [tables[factor, other] for other in others]
            rows.append(beside(row, len(features)))
        rest_levels = csr_array(vstack(rows)) + diags_array(ridge_of_rest[:width])
        with_numbers = [sums[factor][rows_of_numbers] for factor in others]
        rest_across = np.concatenate(with_numbers, axis=1).T
    square = np.ix_(rows_of_numbers, rows_of_numbers)
    rest_numbers = parts.numbers[square] + np.diag(ridge_of_rest[width:])

    return Arrangement(
        levels=levels,
        rest=rest,
        width=width,
        diagonal=diagonal,
        coupling_levels=coupling_levels,
        coupling_numbers=coupling_numbers,
        rest_levels=rest_levels,
        rest_across=rest_across,
        rest_numbers=rest_numbers,
    )


def features_of(columns: CodedColumns, factor: int) -> np.ndarray:
    """Return the features of a factor's levels, by its number among the factors."""
    column = columns.factors[factor]
    first = columns.starts[column]
    stop = columns.starts[column + 1]
    return np.arange(first, stop)


def number_features(columns: CodedColumns, parameters: int) -> list[int]:
    """Return the features that are numbers, and the intercept where there is one among the parameters."""
    features = [columns.starts[column] for column in columns.numbers]
    if parameters > columns.features:
        features.append(columns.features)
    return features


def levels_with_features(parts: CurvatureParts) -> list[slice]:
    """Return which entries of each factor are levels with a feature: not a reference level, nor codes that are none."""
    columns = parts.columns
    kept = []
    for column in columns.factors:
        factor = columns.columns[column]
        assert factor is not None
        kept.append(slice(factor.drop_first, -1))
    return kept


def sums_of_levels(parts: CurvatureParts) -> list[np.ndarray]:
    """Return the sums of each factor's levels that have a feature, (numbers + 1, levels)."""
    pairs = zip(parts.levels, levels_with_features(parts), strict=True)
    return [table[:, kept] for table, kept in pairs]


def tables_of_pairs(parts: CurvatureParts) -> dict[tuple[int, int], Any]:
    """Return the table of each pair of factors, in both orders, for the levels that have a feature."""
    kept = levels_with_features(parts)
    tables: dict[tuple[int, int], Any] = {}
    for (first, second), table in zip(pairs_of(len(kept)), parts.tables, strict=True):
        tables[first, second] = table[kept[first], kept[second]]
        tables[second, first] = tables[first, second].T
    return tables


def beside(tables: list, rows: int) -> csr_array:
    """Return sparse tables side by side; of none a table without columns."""
    if not tables:
        return csr_array((rows, 0))
    return csr_array(hstack(tables, format="csr"))
