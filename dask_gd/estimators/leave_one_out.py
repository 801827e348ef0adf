"""Ridge's errors where each row is left out in turn, of rows in memory, from one decomposition of the features.

The residual of a row that is left out is ``r_i / (1 - h_i)``, r being the residuals of the fit to all rows and h the
diagonal of the matrix that makes predictions of targets (Golub, Heath and Wahba, 1979, "Generalized cross-validation as
a method for choosing a good ridge parameter"). Both follow for any alpha from the singular values of the features.
`dask_gd.fitting.leave_one_out_passes` has the same for lazy rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from .of_rows import RowsInMemory

#: Rows of sparse features whose products with singular vectors are taken at once.
BATCH = 4096


class LeftOut(NamedTuple):
    """The errors and the predictions of rows that are left out, both (n, k)."""

    #: Times the roots of the row weights.
    errors: np.ndarray
    predictions: np.ndarray


#: The smaller of rows and features at most: its square is the size of the decomposition.
WIDEST = 10_000

#: Gives the left singular vectors some rows at a time: which rows, and theirs (b, r).
Blocks = Callable[[], Iterator[tuple[slice, np.ndarray]]]


class Decomposition(NamedTuple):
    """The left singular vectors and the squares of the singular values of the features, where these are not 0."""

    blocks: Blocks
    squares: np.ndarray  # (r,)


class Centre(NamedTuple):
    """What is subtracted from rows of features and targets, which are then multiplied by the roots of the weights."""

    features: np.ndarray  # (p,)
    targets: np.ndarray  # (k,)
    #: (n,) each row's part of the means; 0 without an intercept.
    share: np.ndarray


def leave_one_out(
    rows: RowsInMemory,
    alphas: np.ndarray,
    fit_intercept: bool,
) -> Iterator[LeftOut]:
    """Give for each alpha, of the sum of the losses, the errors of the rows that are left out."""
    n = len(rows.y)
    y = np.asarray(rows.y, dtype=float).reshape(n, -1)
    weight = np.ones(n)
    if rows.weight is not None:
        weight = rows.weight.astype(float)
    root = np.sqrt(weight)
    inverse_root = np.divide(1.0, root, out=np.zeros(n), where=root > 0)

    # The features' decomposition, and the targets along its vectors.
    centre = _centre(rows.x, y, weight, fit_intercept)
    target = root[:, None] * (y - centre.targets)
    decomposed = _decomposed(rows.x, centre.features, root)
    along = np.zeros((len(decomposed.squares), y.shape[1]))
    for of_block, left in decomposed.blocks():
        along += left.T @ target[of_block]

    # What the vectors do not span stays in the residuals; they may span all but the intercept.
    spans_all = len(decomposed.squares) >= n - fit_intercept
    for alpha in alphas:
        # The part of the targets along each vector that stays in the residuals.
        remains = alpha / (decomposed.squares + alpha)
        errors = np.empty_like(target)
        for of_block, left in decomposed.blocks():
            residual = left @ (remains[:, None] * along)
            one_less_leverage = left**2 @ remains
            if not spans_all:
                residual += target[of_block] - left @ along
                one_less_leverage += 1.0 - (left**2).sum(axis=1) - centre.share[of_block]
            errors[of_block] = residual / one_less_leverage[:, None]
        yield LeftOut(errors, y - inverse_root[:, None] * errors)


def _centre(x: Any, y: np.ndarray, weight: np.ndarray, fit_intercept: bool) -> Centre:
    """Return the weighted means of features and targets, which an intercept takes away; zeros without one."""
    n, p = x.shape
    if not fit_intercept:
        return Centre(np.zeros(p), np.zeros(y.shape[1]), np.zeros(n))
    share = weight / weight.sum()
    mean = np.asarray(x.T @ share).ravel()
    return Centre(mean, y.T @ share, share)


def _decomposed(x: Any, mean: np.ndarray, root: np.ndarray) -> Decomposition:
    """Return the decomposition of the features about their means, times the roots of the row weights."""
    n, p = x.shape
    if not sparse.issparse(x):
        return _of_dense(np.asarray(x, dtype=float), mean, root)
    x = x.astype(float)
    if n <= p:
        return _of_wide(x, mean, root)
    return _of_tall(x, mean, root)


def _of_dense(x: np.ndarray, mean: np.ndarray, root: np.ndarray) -> Decomposition:
    """Return the decomposition of an array, by its singular values."""
    scaled = root[:, None] * (x - mean)
    left, values, _ = np.linalg.svd(scaled, full_matrices=False)
    is_there = values > np.finfo(float).eps * max(x.shape) * values.max(initial=0.0)
    return Decomposition(_as_one_block(left[:, is_there]), values[is_there] ** 2)


def _of_wide(x: Any, mean: np.ndarray, root: np.ndarray) -> Decomposition:
    """Return the decomposition of no more sparse rows than features, by the products of rows with one another."""
    n = x.shape[0]
    products = np.asarray((x @ x.T).todense())
    # About the means, without a dense copy of the rows.
    with_mean = np.asarray(x @ mean).ravel()
    products += mean @ mean - with_mean - with_mean[:, None]
    products *= root * root[:, None]
    squares, left = np.linalg.eigh(products)
    is_there = squares > np.finfo(float).eps * n * squares.max(initial=0.0)
    return Decomposition(_as_one_block(left[:, is_there]), squares[is_there])


def _of_tall(x: Any, mean: np.ndarray, root: np.ndarray) -> Decomposition:
    """Return the decomposition of more sparse rows than features, by the products of features with one another.

    The vectors follow some rows at a time, and are never there as a whole.
    """
    n, p = x.shape
    weighted = x.multiply((root**2)[:, None])
    products = np.asarray((x.T @ weighted).todense())
    products -= (root @ root) * np.outer(mean, mean)
    squares, right = np.linalg.eigh(products)
    is_there = squares > np.finfo(float).eps * p * squares.max(initial=0.0)
    right = right[:, is_there] / np.sqrt(squares[is_there])

    def blocks() -> Iterator[tuple[slice, np.ndarray]]:
        """Give the vectors of some rows at a time."""
        for start in range(0, n, BATCH):
            of_block = slice(start, min(start + BATCH, n))
            along = np.asarray(x[of_block] @ right) - mean @ right
            yield of_block, root[of_block, None] * along

    return Decomposition(blocks, squares[is_there])


def _as_one_block(left: np.ndarray) -> Blocks:
    """Return vectors that are all there, as a single block."""
    return lambda: iter([(slice(0, len(left)), left)])
