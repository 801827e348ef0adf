"""Sparse matrices whose entries lie near the diagonal in a suitable order, factorised as a band.

The Schur complement of factors that are connected like a chain is such a matrix, on which conjugate gradients take very
many steps. The order is that of Cuthill and McKee, reversed (1969, "Reducing the bandwidth of sparse symmetric
matrices").
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import LinAlgError, cho_solve_banded, cholesky_banded
from scipy.sparse import csr_array
from scipy.sparse.csgraph import reverse_cuthill_mckee

#: Numbers of a band at most, and operations of its factorisation.
MOST_NUMBERS = 1 << 25
MOST_OPERATIONS = 1e10


class Band:
    """The Cholesky factor of a matrix (n, n) as a band."""

    def __init__(self, factor: np.ndarray, order: np.ndarray):
        self.factor = factor
        self.order = order

    def solve(self, right: np.ndarray) -> np.ndarray:
        """Return ``S^-1 b`` of right sides (n, k)."""
        found = np.empty_like(right)
        found[self.order] = cho_solve_banded((self.factor, True), right[self.order], check_finite=False)
        return found


def band_of(matrix: csr_array, rounding: float) -> Band | None:
    """Return the factor of a symmetric matrix with a diagonal of about 1, or None where it is no narrow band.

    None too where a pivot is no more than ``rounding``.
    """
    n = matrix.shape[0]
    if not n:
        return None
    order = reverse_cuthill_mckee(matrix, symmetric_mode=True)
    place = np.empty(n, int)
    place[order] = np.arange(n)
    entries = matrix.tocoo()
    rows = place[entries.row]
    columns = place[entries.col]
    below = rows - columns
    width = int(below.max(initial=0))
    if n * (width + 1) > MOST_NUMBERS or n * (width + 1.0) ** 2 > MOST_OPERATIONS:
        return None
    # Each diagonal is a row of the band.
    band = np.zeros((width + 1, n))
    lower = below >= 0
    band[below[lower], columns[lower]] = entries.data[lower]
    try:
        factor = cholesky_banded(band, lower=True, check_finite=False)
    except LinAlgError:
        return None
    if (factor[0] ** 2).min() <= rounding:
        return None
    return Band(factor, order)
