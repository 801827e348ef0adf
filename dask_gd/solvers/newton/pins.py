"""The convention for coefficients that rows with factors leave open: which of them stay where they are.

A row has a single level of each factor, so that the levels' indicators add up to the constant. Without a penalty a
number can be added to all levels of a factor and taken from the intercept, or from another factor, and no prediction
changes. The same holds within each connected component of two factors' levels, which are connected where a row has both
(Abowd, Creecy and Kramarz, 2002, "Computing person and firm effects using linked longitudinal employer-employee data").
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from ...kernels.curvature_parts import CurvatureParts
from ...kernels.factors import CodedColumns
from ...kernels.pair_tables import pairs_of


def largest_factor(columns: CodedColumns) -> int:
    """Return the number among the factors of that with the most features, the first of them."""
    sizes = [columns.columns[i].features for i in columns.factors]  # type: ignore[union-attr]
    return int(np.argmax(sizes))


def pinned_features(parts: CurvatureParts, ridge: np.ndarray) -> np.ndarray:
    """Return which features stay where they are, (q,) bool, for the curvature of a penalty (q,).

    The intercept stays, where a factor without a penalty has all of its levels as features. Of each other factor the
    first level in each connected component with the largest factor stays.
    """
    columns = parts.columns
    p = columns.features
    starts = columns.starts
    is_pinned = np.zeros(len(ridge), bool)
    largest = largest_factor(columns)
    # Which factors have no penalty, and whether one of these has the intercept among its levels.
    is_open = []
    for i in columns.factors:
        is_open.append(not ridge[starts[i] : starts[i + 1]].any())
        factor = columns.columns[i]
        assert factor is not None
        is_pinned[p:] |= is_open[-1] and not factor.drop_first
    if not is_open[largest]:
        return is_pinned

    # The components of each other factor with the largest.
    largest_drops = columns.columns[columns.factors[largest]].drop_first  # type: ignore[union-attr]
    for pair, table in zip(pairs_of(len(is_open)), parts.tables, strict=True):
        if largest not in pair:
            continue
        (other,) = set(pair) - {largest}
        if not is_open[other]:
            continue
        # The rows of the table are the levels of the largest factor.
        if other < largest:
            table = table.T.tocsr()
        i = columns.factors[other]
        other_drops = columns.columns[i].drop_first  # type: ignore[union-attr]
        staying = first_of_components(table, largest_drops, other_drops)
        is_pinned[starts[i] + staying - other_drops] = True
    return is_pinned


def following_numbers(
    parts: CurvatureParts,
    ridge: np.ndarray,
    by_level: list[np.ndarray],
    diagonals: list[np.ndarray],
    rounding: float,
) -> np.ndarray:
    """Return which numbers follow from the levels of a factor, the constant and the numbers before them.

    The last is the constant itself. They stay where they are: a step of all else does what a step of theirs would. It
    is a convention that no way to solve the system changes.

    Parameters
    ----------
    parts : CurvatureParts
    ridge : array (q,)
        The curvature of the penalty.
    by_level : list of arrays (numbers + 1, levels)
        For each factor what its levels, those with a feature, have in common with the numbers and the constant.
    diagonals : list of arrays (levels,)
        For each factor its own block of the curvature, with that of the penalty.
    rounding : float
        The share of its curvature below which what a number has left is rounding.
    """
    columns = parts.columns
    p = columns.features
    features = [columns.starts[i] for i in columns.numbers]
    constant = len(features)
    numbers = parts.numbers.copy()
    numbers[range(constant), range(constant)] += ridge[features]
    # The constant is the intercept, or the sum of all levels of a factor.
    order = list(range(constant))
    spans_constant = len(ridge) > p
    for i in columns.factors:
        is_open = not ridge[columns.starts[i] : columns.starts[i + 1]].any()
        spans_constant |= is_open and not columns.columns[i].drop_first  # type: ignore[union-attr]
    if spans_constant:
        order.insert(0, constant)
    # Eliminate the levels of a factor, and then each number from those after it.
    before = np.diagonal(numbers)
    found = np.zeros(len(numbers), bool)
    for across, diagonal in zip(by_level, diagonals, strict=True):
        inverse = np.zeros_like(diagonal)
        np.divide(1.0, diagonal, out=inverse, where=diagonal > 0)
        left = numbers - (across * inverse) @ across.T
        for i in order:
            pivot = left[i, i]
            if pivot <= rounding * before[i]:
                found[i] = True
            else:
                left -= np.outer(left[i], left[i]) / pivot
    return found


def components(table: csr_array) -> tuple[np.ndarray, np.ndarray]:
    """Return the connected component of each row and of each column of a table of pairs that occur."""
    rows, columns = table.shape
    # The graph's nodes are the rows and then the columns.
    nodes = rows + columns
    neighbours = table.indices + rows
    indptr = np.concatenate([table.indptr, np.full(columns, table.indptr[-1])])
    graph = csr_array((table.data, neighbours, indptr), shape=(nodes, nodes))
    _, labels = connected_components(graph, directed=False)
    return labels[:rows], labels[rows:]


def first_of_components(table: csr_array, largest_drops: bool, other_drops: bool) -> np.ndarray:
    """Return the columns that are the first of their component; none of a component that has a level without feature.

    Columns that do not occur are left out.
    """
    of_rows, of_columns = components(table)
    # The first column of each component, of those that occur.
    occurs = np.zeros(len(of_columns), bool)
    occurs[table.indices] = True
    present = np.flatnonzero(occurs)
    labels, first = np.unique(of_columns[present], return_index=True)
    # The level without a feature is the reference of its component.
    grounded = []
    if largest_drops:
        grounded.append(of_rows[0])
    if other_drops:
        grounded.append(of_columns[0])
    is_grounded = np.isin(labels, grounded)
    return present[first[~is_grounded]]
