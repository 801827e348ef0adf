"""Least squares whose normal equations have lost too many digits: passes in a basis in which they lose none.

With R from the Cholesky factorisation of the curvature, shifted so that it has one, the rows ``[x 1] R^-1`` are
orthogonal but for what the curvature could not tell, and the normal equations of these rows can (shifted Cholesky QR;
Fukaya et al., 2020, "Shifted Cholesky QR for computing the QR factorization of ill-conditioned matrices"). What
rounding of the rows leaves, by the square of the condition number times the residuals, a second pass takes away: its
gradient is summed with all the digits that the machine has (refinement; Björck, 1996, "Numerical Methods for Least
Squares Problems", section 2.9).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import LinAlgError, cholesky, solve_triangular

from .base import Kernel, take
from .block import dense_rows
from .products import block_rows
from .sums import Part, Sums

#: Smallest eigenvalue of the curvature, its diagonal scaled to 1, over the largest, below which these passes are worth
#: it: the normal equations have then lost half of their 16 digits.
ILL_CONDITIONED = 1e-8

#: The same of the curvature in the basis, without the directions that have none: above it the basis has shown no more
#: than that columns are collinear, and nothing is left to refine.
WELL_CONDITIONED = 0.1


def basis_of(curvature: np.ndarray) -> np.ndarray | None:
    """Return R (q, q), upper triangular, or None where the curvature (q, q) is well conditioned."""
    # Columns of any units get a diagonal of 1; those without curvature have no part in the condition.
    size = np.sqrt(np.diagonal(curvature))
    size = np.where(size > 0, size, 1.0)
    scaled = curvature / np.outer(size, size)
    used = np.diagonal(curvature) > 0
    values = np.linalg.eigvalsh(scaled[np.ix_(used, used)])
    if not used.any() or values[0] >= ILL_CONDITIONED * values[-1]:
        return None
    # Of shifts from rounding on, the first with which the matrix has a factorisation.
    shift = len(size) * np.finfo(float).eps * values[-1]
    while True:
        shift *= 4.0
        try:
            return cholesky(scaled + shift * np.eye(len(size))) * size
        except LinAlgError:
            continue


class Basis(NamedTuple):
    """The kernel that adds up sums in the basis beside those at the query, for each partition."""

    r: np.ndarray  # (q, q)
    refines: bool

    def make(self, part: Part) -> Kernel:
        return BasisKernel(self, part)


class OrthogonalSums(NamedTuple):
    """The sums at the query, and those of the rows in the basis: ``B^T B`` and ``B^T slopes``."""

    at_query: Sums
    basis: np.ndarray  # (q, q + k)

    def plus(self, other: OrthogonalSums) -> OrthogonalSums:
        """Return the sums over the rows of both."""
        sums = self.at_query.plus(other.at_query)
        return OrthogonalSums(sums, self.basis + other.basis)

    def finalize(self, weight: float) -> OrthogonalSums:
        """Return means in the basis."""
        return self._replace(basis=self.basis / weight)


class BasisKernel(Kernel):
    """Sums ``B^T B`` and ``B^T slopes``, (q, q + k), with ``B = [x 1] R^-1``.

    To refine, it sums the gradient too, in extended precision.
    """

    def __init__(self, spec: Basis, part: Part):
        super().__init__(part)
        q = len(spec.r)
        self.r = spec.r
        self.basis = np.zeros((q, q + part.query.shape[1]))
        self.gradient: np.ndarray | None = None
        if spec.refines:
            self.gradient = np.zeros(part.query.shape, np.longdouble)

    def add(self, x, y, weight, offset=None) -> None:
        """Add the sums over more rows, at the query and in the basis."""
        super().add(x, y, weight, offset)
        # Extended precision is for arrays alone: few rows are written out at a time.
        step = min(self.step, block_rows(self.p, np.dtype(float).itemsize))
        for start in range(0, len(y), step):
            rows = slice(start, start + step)
            of_step = self.row_format.take(x, rows)
            self._add_orthogonal(
                dense_rows(self.row_format, of_step, "Least squares of ill-conditioned features"),
                y[rows],
                weight=take(weight, rows),
                offset=take(offset, rows),
            )

    def _add_orthogonal(self, x, y, weight, offset) -> None:
        """Add the sums in the basis over the rows of one block."""
        # The rows ``[x 1]``, in extended precision where the gradient is refined.
        extended = x
        if self.gradient is not None:
            extended = x.astype(np.longdouble)
        if len(self.r) > self.p:
            # Without an intercept the sums are of the rows as they are.
            if self.request.shift is not None:
                extended = extended - self.request.shift
            extended = np.column_stack([extended, np.ones(len(extended), extended.dtype)])
        block = extended.astype(float, copy=False)

        # The slopes at the query, and their gradient.
        z = np.einsum("nq,qkm->nkm", extended, self.query)
        if offset is not None:
            z += offset[:, None, None]
        slope = self.loss.value_and_slope(z, y[:, :, None])[1]
        if weight is None:
            s = np.ones(len(block))
        else:
            s = weight
        if self.gradient is not None:
            self.gradient += np.einsum("nq,n,nkm->qkm", extended, s, slope)

        # The rows in the basis, ``B^T``, and their products with themselves and with the slopes.
        root = np.sqrt(s)[:, None]
        b = solve_triangular(self.r, (root * block).T, trans="T", check_finite=False)
        weighted_slope = (root * slope[:, :, 0]).astype(float)
        self.basis += b @ np.hstack([b.T, weighted_slope])

    def sums(self) -> OrthogonalSums:  # type: ignore[override]
        """Return the sums at the query, with the refined gradient if there is one, and those in the basis."""
        at_query = super().sums()
        if self.gradient is not None:
            at_query = at_query._replace(gradient=self.gradient)
        return OrthogonalSums(at_query, self.basis)


def to_orthogonal(r: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Return a gradient (q, k), or a summand of it, as that of the parameters ``R w``."""
    return solve_triangular(r, gradient.astype(float), trans="T")


def shortest_step(
    r: np.ndarray,
    sums: np.ndarray,
    slope: np.ndarray,
    ridge: np.ndarray,
    features: int,
) -> tuple[np.ndarray, bool]:
    """Return the move to the minimum, the shortest after scaling columns, (q, k); and whether it may be refined.

    ``sums`` (q, q + k) are those of `BasisKernel`, divided; ``slope`` (q, k) is the gradient in the basis, and
    ``ridge`` (q,) the curvature of the penalty.
    """
    q = len(r)
    inverse = solve_triangular(r, np.eye(q))
    # The curvature in the basis, with the penalty's, and its directions.
    h = sums[:, :q] + inverse.T @ (ridge[:, None] * inverse)
    values, vectors = np.linalg.eigh(h)
    is_flat = values <= q * np.finfo(float).eps * values[-1]
    curved = vectors[:, ~is_flat]
    flat = vectors[:, is_flat]
    # Newton's move within the directions that have curvature.
    along = (curved.T @ slope) / values[~is_flat, None]
    move = -inverse @ (curved @ along)
    smallest = values[~is_flat].min(initial=np.inf)
    refine = bool(smallest < WELL_CONDITIONED * values[-1])
    # Along the other directions any move is as good: the shortest is taken, with all columns scaled to the same size.
    size = np.sqrt((r * r).sum(axis=0))[:, None]
    scaled = shortest(size * move, size * (inverse @ flat), features)
    return scaled / size, refine


def shortest(moves: np.ndarray, flat: np.ndarray, features: int) -> np.ndarray:
    """Return moves (q, m), each with that combination of directions ``flat`` (q, directions) that makes it shortest.

    The length is that of the features' part. The objective is the same along the directions.
    """
    if not flat.shape[1]:
        return moves
    combination = np.linalg.lstsq(flat[:features], moves[:features])[0]
    return moves - flat @ combination
