"""Ridge's errors where each row is left out in turn, of rows in memory, from one decomposition of the features.

The residual of a row that is left out is ``r_i / (1 - h_i)``, r being the residuals of the fit to all rows and h the
diagonal of the matrix that makes predictions of targets (Golub, Heath and Wahba, 1979, "Generalized cross-validation as
a method for choosing a good ridge parameter"). Both follow for any alpha from the singular values of the features.
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
    with np.errstate(divide="ignore"):
        unroot = np.where(root > 0, 1.0 / root, 0.0)

    # Columns about their means, times the roots of the weights; a fitted intercept is a direction by itself.
    mean = np.zeros(rows.x.shape[1])
    y_mean = np.zeros(y.shape[1])
    share = np.zeros(n)
    if fit_intercept:
        share = weight / weight.sum()
        mean = np.asarray(rows.x.T @ share).ravel()
        y_mean = y.T @ share
    target = root[:, None] * (y - y_mean)
    blocks, squares = _decomposed(rows.x, mean, root)
    inside = np.zeros((len(squares), y.shape[1]))
    for of_block, left in blocks():
        inside += left.T @ target[of_block]

    # What the vectors do not span stays in the residuals; they may span all but the intercept.
    spans_all = len(squares) >= n - fit_intercept
    for alpha in alphas:
        kept = alpha / (squares + alpha)
        errors = np.empty_like(target)
        for of_block, left in blocks():
            residual = left @ (kept[:, None] * inside)
            without = (left * left) @ kept
            if not spans_all:
                residual += target[of_block] - left @ inside
                without += 1.0 - (left * left).sum(axis=1) - share[of_block]
            errors[of_block] = residual / without[:, None]
        yield LeftOut(errors, y - unroot[:, None] * errors)


def _decomposed(x: Any, mean: np.ndarray, root: np.ndarray) -> tuple[Blocks, np.ndarray]:
    """Return the left singular vectors and the squares of the singular values of the features, where these are not 0.

    Features are those about their means, times the roots of the weights.
    """
    n, p = x.shape
    if not sparse.issparse(x):
        scaled = root[:, None] * (np.asarray(x, dtype=float) - mean)
        left, values, _ = np.linalg.svd(scaled, full_matrices=False)
        is_there = values > np.finfo(float).eps * max(n, p) * values.max(initial=0.0)
        return _whole(left[:, is_there]), values[is_there] ** 2
    x = x.astype(float)
    if n <= p:
        # The products of rows with one another, about the means.
        of_rows = np.asarray((x @ x.T).todense())
        with_mean = np.asarray(x @ mean).ravel()
        of_rows += mean @ mean - with_mean - with_mean[:, None]
        of_rows *= root * root[:, None]
        squares, left = np.linalg.eigh(of_rows)
        is_there = squares > np.finfo(float).eps * n * squares.max(initial=0.0)
        return _whole(left[:, is_there]), squares[is_there]

    # The products of columns with one another; vectors follow some rows at a time, and are never there as a whole.
    weighted = x.multiply((root * root)[:, None])
    of_columns = np.asarray((x.T @ weighted).todense())
    of_columns -= (root @ root) * np.outer(mean, mean)
    squares, right = np.linalg.eigh(of_columns)
    is_there = squares > np.finfo(float).eps * p * squares.max(initial=0.0)
    right = right[:, is_there] / np.sqrt(squares[is_there])

    def blocks() -> Iterator[tuple[slice, np.ndarray]]:
        """Give the vectors of some rows at a time."""
        for start in range(0, n, BATCH):
            of_block = slice(start, min(start + BATCH, n))
            product = np.asarray(x[of_block] @ right) - mean @ right
            yield of_block, root[of_block, None] * product

    return blocks, squares[is_there]


def _whole(left: np.ndarray) -> Blocks:
    """Return vectors that are all there, as a single block."""
    return lambda: iter([(slice(0, len(left)), left)])
