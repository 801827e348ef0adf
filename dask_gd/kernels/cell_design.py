"""The rows that all cells share: features of the samples as an orthonormal basis, and the way back to coefficients.

Each cell of a target has a model of its own, and the features that vary with the samples alone are the same for all of
them. They are known before the target is read, so that they are centred, scaled and made orthonormal once. A cell
without gaps has then the identity as its matrix of products, whatever the units and however close to each other
features are; and of other cells the matrix is the identity less the products of their missing rows.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np

#: Features are collinear where so little of one is left, beside its length, once the features before it are taken out.
COLLINEAR = 1e-10
#: A feature is constant whose largest difference from its mean is this share of its largest value.
CONSTANT = 16 * np.finfo(float).eps


class DesignRows:
    """The rows of the design for some samples, and what sums over cells multiply."""

    def __init__(self, basis: np.ndarray, weights: np.ndarray | None, is_weighted: bool):
        self.basis = basis
        self.weights = weights
        self.is_weighted = is_weighted

    def __len__(self) -> int:
        return len(self.basis)

    @cached_property
    def plain(self) -> np.ndarray:
        """The basis, (q, rows)."""
        return np.ascontiguousarray(self.basis.T)

    @cached_property
    def weighted(self) -> np.ndarray:
        """The basis times the row weights, (q, rows)."""
        if self.weights is None:
            return self.plain
        return self.plain * self.weights

    @cached_property
    def counted(self) -> np.ndarray:
        """1 for each row that counts, (rows,)."""
        if self.weights is None:
            return np.ones(len(self))
        return (self.weights > 0).astype(float)

    @cached_property
    def products(self) -> np.ndarray:
        """Products of pairs of the basis, then the weight and the count, of each row: (pairs + 2, rows)."""
        q = len(self.plain)
        first, second = np.triu_indices(q)
        weight = self.counted
        if self.weights is not None:
            weight = self.weights
        return np.concatenate([self.weighted[first] * self.plain[second], [weight, self.counted]])

    @cached_property
    def totals(self) -> np.ndarray:
        """The sums of the products over the rows."""
        return self.products.sum(axis=1)


class Design(NamedTuple):
    """The shared part of the models of all cells, with k coefficients each.

    The model of a cell is ``y = basis @ a + varying @ b``, and its coefficients are ``back @ [a, b]``: those of the
    features in their order, then the intercept if there is one.
    """

    #: (n, q), orthonormal with the row weights; rows that are left out are 0.
    basis: np.ndarray
    #: Row weights (n,), 0 for rows that are left out; None where all are 1.
    weights: np.ndarray | None
    #: Whether weights are the user's, and not only 0 and 1.
    is_weighted: bool
    #: (k, q + number of features that vary by cell).
    back: np.ndarray
    #: The numbers of the features that vary by cell.
    varying: tuple[int, ...]
    fit_intercept: bool

    @property
    def width(self) -> int:
        """The columns of the basis, q."""
        return self.basis.shape[1]

    @property
    def parameters(self) -> int:
        """The coefficients of a cell, k."""
        return len(self.back)

    @property
    def ones(self) -> np.ndarray:
        """The combination of the basis that is 1 in every row, (q,), with an intercept."""
        return self.basis.T @ self.row_weights

    @property
    def row_weights(self) -> np.ndarray:
        """The weights of the rows, (n,)."""
        if self.weights is None:
            return np.ones(len(self.basis))
        return self.weights

    def aligned(self) -> Design:
        """Return the design as BLAS takes it: arrays that have come over a network are multiplied to other bits."""
        basis, back = (np.require(array, requirements=["C", "A"]) for array in (self.basis, self.back))
        return self._replace(basis=basis, back=back)

    def rows(self, index: np.ndarray | slice) -> DesignRows:
        """Return the rows of some samples."""
        weights = None
        if self.weights is not None:
            weights = self.weights[index]
        return DesignRows(self.basis[index], weights, self.is_weighted)


def design_of(
    features: np.ndarray,
    order: tuple[int, ...],
    varying: tuple[int, ...],
    weights: np.ndarray | None,
    fit_intercept: bool,
) -> Design:
    """Return the design of features that all cells share.

    Parameters
    ----------
    features : (n, p) float64
        NaN in rows that are left out.
    order : tuple of int
        The numbers of these features among all.
    varying : tuple of int
        The numbers of the features that vary by cell.
    weights : (n,), optional
        Row weights, 0 or more.
    fit_intercept : bool
    """
    n, p = features.shape
    kept = ~np.isnan(features).any(axis=1)
    is_weighted = weights is not None
    if weights is None:
        weights = np.ones(n)
    weights = np.where(kept, weights, 0.0)
    used = weights > 0

    # About their means, if there is an intercept to take these, and of one size.
    x = features[used]
    w = weights[used]
    shift = np.zeros(p)
    if fit_intercept and len(x):
        shift = (w @ x) / w.sum()
    before = np.abs(x).max(axis=0, initial=0.0)
    x = x - shift
    size = np.abs(x).max(axis=0, initial=0.0)
    # What is left of a constant is rounding.
    is_constant = size <= CONSTANT * before
    x[:, is_constant] = 0.0
    size[is_constant] = 1.0
    columns = x / size
    if fit_intercept:
        columns = np.column_stack([np.ones(len(x)), columns])

    basis, triangle = _orthonormal(columns, np.sqrt(w))
    whole = np.zeros((n, columns.shape[1]))
    whole[used] = basis
    back = _way_back(triangle, shift, size, order, varying, fit_intercept)
    if not is_weighted and used.all():
        return Design(whole, None, False, back, varying, fit_intercept)
    return Design(whole, weights, is_weighted, back, varying, fit_intercept)


def _orthonormal(columns: np.ndarray, root: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a basis that is orthonormal with the weights ``root**2``, and the triangle that makes the columns of it.

    The basis is 0 for a column that follows from those before it, which shows in the products of every cell.
    """
    n, q = columns.shape
    # Fewer rows have no such basis.
    if n < q or q == 0:
        return columns, np.eye(q)
    scaled = columns * root[:, None]
    orthonormal, triangle = np.linalg.qr(scaled)
    length = np.sqrt((scaled**2).sum(axis=0))
    is_collinear = np.abs(np.diagonal(triangle)) <= COLLINEAR * length
    basis = orthonormal / root[:, None]
    basis[:, is_collinear] = 0.0
    triangle = triangle.copy()
    triangle[is_collinear, is_collinear] = 1.0
    return basis, triangle


def _way_back(
    triangle: np.ndarray,
    shift: np.ndarray,
    size: np.ndarray,
    order: tuple[int, ...],
    varying: tuple[int, ...],
    fit_intercept: bool,
) -> np.ndarray:
    """Return the matrix that makes coefficients of those of the basis and of the features that vary by cell."""
    q = len(triangle)
    p = len(shift) + len(varying)
    # Coefficients of the columns: those of the features are divided by their size, and the intercept takes the shift.
    of_columns = np.zeros((p + fit_intercept, q))
    for position, feature in enumerate(order):
        of_columns[feature, position + fit_intercept] = 1.0 / size[position]
    if fit_intercept:
        of_columns[p, 0] = 1.0
        of_columns[p, 1:] = -shift / size
    back = np.zeros((p + fit_intercept, q + len(varying)))
    back[:, :q] = np.linalg.solve(triangle.T, of_columns.T).T
    for position, feature in enumerate(varying):
        back[feature, q + position] = 1.0
    return back
