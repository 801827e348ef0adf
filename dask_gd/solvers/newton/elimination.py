"""Linear systems with a curvature in parts: the largest factor is eliminated exactly.

Let D be the diagonal block of that factor, R the block of all other features and C what they have in common, see
`arrangement`. With ``H = [[D, C], [C^T, R]]`` a system ``H u = b`` is one with the Schur complement
``S = R - C^T D^-1 C`` for the other features, and a division for the levels (Boyd and Vandenberghe, 2004, appendix
C.4). S is factorised where it is narrow, or a narrow band. Else conjugate gradients solve with it, which are fast where
factors are well connected, and it is never formed (Guimaraes and Portugal, 2010, "A simple feasible procedure to fit
models with high-dimensional fixed effects", on such systems); where they are not fast, it is factorised while that can
be done.

Without a penalty there are directions along which no prediction changes, for example a number added to all levels of a
factor and taken from the intercept. Along these nothing moves, by a convention that depends on the data only, see
`pinned_features`.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from scipy.linalg import LinAlgError, cho_solve, cholesky, lapack
from scipy.sparse import csr_array, diags_array

from ...kernels.curvature_parts import CurvatureParts
from .arrangement import arranged, features_of, sums_of_levels
from .banded import Band, band_of
from .iterative import conjugate_gradients
from .pins import following_numbers, pinned_features

#: Features beside the eliminated factor up to which their Schur complement is factorised at once; up to which it is if
#: it is cheap to form, see `FEW_PRODUCTS`; and up to which it is where conjugate gradients have not ended after
#: `FEW_STEPS`.
NARROW = 128
CHEAP = 1024
DENSE = 4096
FEW_STEPS = 100
MOST_STEPS = 5000

#: Products of two entries in the rows of C, for each entry, up to which a complement is cheap to form, as cheap as
#: some tens of steps of conjugate gradients.
FEW_PRODUCTS = 8

#: Pivots of the complement, its diagonal before the elimination scaled to 1, that are rounding.
ROUNDING = 1e-11


#: What is left of a right side, in units of its own scale, where a system has no solution.
UNSOLVED = 1e-4


class Elimination:
    """A curvature in parts with that of a penalty (q,), arranged for its Schur complement, see `Arrangement`."""

    def __init__(self, parts: CurvatureParts, ridge: np.ndarray):
        blocks = arranged(parts, ridge)
        self.blocks = blocks
        self.rest = blocks.rest
        self.width = blocks.width
        # What moves: not the pinned features, nor those that have no curvature at all.
        diagonal = blocks.rest_diagonal
        has_curvature = diagonal > 0
        is_pinned = pinned_features(parts, ridge)
        self.moves = ~is_pinned[self.rest] & has_curvature
        # Nor numbers that follow from the levels of a factor.
        sums = sums_of_levels(parts)
        diagonals = []
        for factor, of_factor in enumerate(sums):
            diagonals.append(of_factor[-1] + ridge[features_of(parts.columns, factor)])
        follows = following_numbers(parts, ridge, sums, diagonals, ROUNDING)
        numbers = len(self.rest) - self.width
        self.moves[self.width :] &= ~follows[:numbers]
        # The roots of the diagonal, by which the complement is scaled.
        self.unit = np.sqrt(np.where(has_curvature, diagonal, 1.0))
        # D^-1, which is 0 for levels without curvature.
        self.inverse_diagonal = np.zeros_like(blocks.diagonal)
        np.divide(
            1.0,
            blocks.diagonal,
            out=self.inverse_diagonal,
            where=blocks.diagonal > 0,
        )

    @property
    def is_dense(self) -> bool:
        """Return whether the Schur complement may be formed."""
        return len(self.rest) <= DENSE

    def solve(self, right: np.ndarray) -> np.ndarray:
        """Return ``H^-1 b`` of right sides b (q, k), 0 along what does not move."""
        inverse = self.inverse_diagonal[:, None]
        # Eliminate the levels from the right side.
        of_levels = right[self.blocks.levels]
        through_levels = self._transposed_coupling(inverse * of_levels)
        reduced = right[self.rest] - through_levels
        reduced[~self.moves] = 0.0
        # Solve for the rest.
        of_rest = self._solve_rest(reduced)
        # Divide for the levels.
        remaining = of_levels - self._coupling(of_rest)
        solution = np.zeros_like(right)
        solution[self.rest] = of_rest
        solution[self.blocks.levels] = inverse * remaining
        return solution

    def _solve_rest(self, right: np.ndarray) -> np.ndarray:
        """Return ``S^-1 b`` of right sides b (rest, k), by whichever way is fast."""
        # A narrow complement is factorised, and a wider one where it is cheap to form.
        widest = NARROW
        if self.is_cheap:
            widest = CHEAP
        if len(self.rest) <= widest:
            return self.solve_dense(right)
        # So is a band, whatever its length.
        if self.band is not None:
            return self._solve_banded(self.band, right)
        # For all others there are conjugate gradients, for as long as there is no better way.
        steps = MOST_STEPS
        if self.is_dense:
            steps = FEW_STEPS
        solutions = []
        for column in right.T:
            solution, is_exact = conjugate_gradients(
                self._times_complement,
                self._complement_diagonal,
                column,
                steps,
            )
            if self.is_dense and not is_exact:
                return self.solve_dense(right)
            solutions.append(solution)
        return np.stack(solutions, axis=1)

    def _coupling(self, u: np.ndarray) -> np.ndarray:
        """Return ``C u``, (levels, k)."""
        from_levels = self.blocks.coupling_levels @ u[: self.width]
        from_numbers = self.blocks.coupling_numbers @ u[self.width :]
        return from_levels + from_numbers

    def _transposed_coupling(self, v: np.ndarray) -> np.ndarray:
        """Return ``C^T v``, (rest, k)."""
        to_levels = self.blocks.coupling_levels.T @ v
        to_numbers = self.blocks.coupling_numbers.T @ v
        return np.concatenate([to_levels, to_numbers])

    # The complement as a matrix.

    @cached_property
    def _scaled_levels(self) -> csr_array:
        """The columns of levels in ``D^(-1/2) C``: both sides of a product with them are the same."""
        table = self.blocks.coupling_levels
        row_lengths = np.diff(table.indptr)
        root = np.sqrt(self.inverse_diagonal)
        scaled = np.repeat(root, row_lengths) * table.data
        return csr_array((scaled, table.indices, table.indptr), shape=table.shape)

    @cached_property
    def complement(self) -> np.ndarray:
        """The Schur complement of all of the rest, scaled by ``unit``."""
        # C is scaled by the root of D, so that the product with itself is symmetric.
        root = np.sqrt(self.inverse_diagonal)
        numbers = root[:, None] * self.blocks.coupling_numbers
        levels = self._scaled_levels
        transposed = levels.T.tocsr()
        # Each block of R, less the product of its columns in C.
        of_levels = (self.blocks.rest_levels - transposed @ levels).toarray()
        across = self.blocks.rest_across - transposed @ numbers
        of_numbers = self.blocks.rest_numbers - numbers.T @ numbers
        complement = np.empty((len(self.rest), len(self.rest)))
        complement[: self.width, : self.width] = of_levels
        complement[: self.width, self.width :] = across
        complement[self.width :, : self.width] = across.T
        complement[self.width :, self.width :] = of_numbers
        # In two divisions: their product would round otherwise.
        complement /= self.unit
        complement /= self.unit[:, None]
        return complement

    @cached_property
    def factor(self) -> tuple[np.ndarray, np.ndarray]:
        """The lower Cholesky factor of the complement, and the numbers of the rest that it is of.

        Where the complement is singular even so, those that come last by their pivots have no part.
        """
        return pivoted_factor(self.complement, np.flatnonzero(self.moves))

    def solve_dense(self, right: np.ndarray) -> np.ndarray:
        """Return ``S^-1 b`` of right sides b (rest, k)."""
        factor, kept = self.factor
        solution = np.zeros_like(right)
        solution[kept] = solve_factored(factor, right[kept], self.unit[kept])
        return solution

    @property
    def is_cheap(self) -> bool:
        """Return whether the complement takes few products to form."""
        row_lengths = np.diff(self.blocks.coupling_levels.indptr).astype(float)
        entries = row_lengths.sum()
        products = (row_lengths**2).sum()
        return bool(products <= FEW_PRODUCTS * entries)

    @property
    def rank(self) -> int:
        """The number of parameters that move, as far as is known without a factor."""
        of_levels = int(np.count_nonzero(self.blocks.diagonal > 0))
        if self.is_dense:
            _, kept = self.factor
            return of_levels + len(kept)
        return of_levels + int(self.moves.sum())

    def inverse(self) -> tuple[np.ndarray, np.ndarray]:
        """Return features, and the block of ``H^-1`` that is theirs, NaN along what does not move.

        They are the rest where the complement is dense, else numbers and the intercept.
        """
        # A dense complement has the inverse of all of the rest.
        if self.is_dense:
            factor, kept = self.factor
            identity = np.eye(len(kept))
            inverse = np.full((len(self.rest), len(self.rest)), np.nan)
            inverse[np.ix_(kept, kept)] = solve_factored(factor, identity, self.unit[kept])
            return self.rest, inverse
        # Else there is a system for each number, of which there are few.
        features = self.rest[self.width :]
        parameters = len(self.blocks.levels) + len(self.rest)
        right = np.zeros((parameters, len(features)))
        right[features, np.arange(len(features))] = 1.0
        solved = self.solve(right)
        inverse = solved[features]
        # What other factors leave open beyond that has no solution.
        moving = np.flatnonzero(self.moves)
        missing = np.zeros(len(features))
        for j, column in enumerate(solved[self.rest].T):
            residual = right[self.rest, j] - self._times_complement(column)
            scaled = np.abs(residual[moving] / self.unit[moving])
            missing[j] = scaled.max(initial=0.0) * self.unit[self.width + j]
        does_not_move = ~self.moves[self.width :] | (missing > UNSOLVED)
        inverse[does_not_move] = np.nan
        inverse[:, does_not_move] = np.nan
        return features, inverse

    # The complement as a band.

    @cached_property
    def band(self) -> Band | None:
        """The factor of the complement of the levels that move, where it is a narrow band."""
        if not self.is_cheap:
            return None
        levels = self._scaled_levels
        matrix = self.blocks.rest_levels - levels.T.tocsr() @ levels
        moving = np.flatnonzero(self.moves[: self.width])
        of_moving = matrix[moving][:, moving]
        scale = diags_array(1.0 / self.unit[moving])
        return band_of(csr_array(scale @ of_moving @ scale), ROUNDING)

    def _solve_banded(self, band: Band, right: np.ndarray) -> np.ndarray:
        """Return ``S^-1 b`` of right sides b (rest, k): the band is eliminated, too."""
        width = self.width
        moving = np.flatnonzero(self.moves[:width])
        unit = self.unit[moving, None]
        # The blocks of the complement that belong to numbers: across to the levels, and their own.
        across, of_numbers = self._complement_of_numbers
        scaled_across = across[moving] / unit
        scaled_right = right[moving] / unit
        # The band is eliminated from both sides at once.
        solved = band.solve(np.hstack([scaled_across, scaled_right]))
        count = scaled_across.shape[1]
        solved_across = solved[:, :count]
        solved_right = solved[:, count:]
        # What is left is as narrow as the numbers are few, and may be singular.
        left = of_numbers - scaled_across.T @ solved_across
        left_right = right[width:] - scaled_across.T @ solved_right
        unit_of_numbers = self.unit[width:]
        scaled_left = left / np.outer(unit_of_numbers, unit_of_numbers)
        moving_numbers = np.flatnonzero(self.moves[width:])
        factor, kept = pivoted_factor(scaled_left, moving_numbers)
        solution = np.zeros_like(right)
        solution[width + kept] = solve_factored(factor, left_right[kept], unit_of_numbers[kept])
        # The levels follow from the numbers.
        of_levels = solved_right - solved_across @ solution[width:]
        solution[moving] = of_levels / unit
        return solution

    @property
    def _complement_of_numbers(self) -> tuple[np.ndarray, np.ndarray]:
        """The blocks of the complement that belong to numbers: (levels, numbers), and (numbers, numbers)."""
        coupling = self.blocks.coupling_numbers
        divided = self.inverse_diagonal[:, None] * coupling
        across = self.blocks.rest_across - self.blocks.coupling_levels.T @ divided
        of_numbers = self.blocks.rest_numbers - coupling.T @ divided
        return across, of_numbers

    # The complement as a product.

    def _times_complement(self, u: np.ndarray) -> np.ndarray:
        """Return ``S u`` of u (rest,), 0 along what does not move."""
        blocks = self.blocks
        levels = u[: self.width]
        numbers = u[self.width :]
        # D^-1 C u, whose product with C^T the elimination subtracts.
        divided = self.inverse_diagonal * self._coupling(u)
        product = np.empty_like(u)
        product[: self.width] = (
            blocks.rest_levels @ levels + blocks.rest_across @ numbers - blocks.coupling_levels.T @ divided
        )
        product[self.width :] = (
            blocks.rest_across.T @ levels + blocks.rest_numbers @ numbers - blocks.coupling_numbers.T @ divided
        )
        product[~self.moves] = 0.0
        return product

    @cached_property
    def _complement_diagonal(self) -> np.ndarray:
        """The diagonal of the complement, and the curvature where it is rounding."""
        # The diagonal of C^T D^-1 C.
        squared_levels = self.blocks.coupling_levels.copy()
        squared_levels.data **= 2
        squared_numbers = self.blocks.coupling_numbers**2
        of_levels = squared_levels.T @ self.inverse_diagonal
        of_numbers = squared_numbers.T @ self.inverse_diagonal
        eliminated = np.concatenate([of_levels, of_numbers])
        before = self.unit**2
        after = before - eliminated
        return np.where(after > ROUNDING * before, after, before)


def pivoted_factor(matrix: np.ndarray, moving: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower Cholesky factor of some rows and columns of a matrix, and the numbers of those that it is of.

    The diagonal is 1 or less. Where the matrix is singular, those that come last by their pivots have no part.
    """
    matrix = matrix[np.ix_(moving, moving)]
    if not len(moving):
        return matrix, moving
    try:
        factor = cholesky(matrix, lower=True, check_finite=False)
        # The diagonal was 1 at most: a pivot near 0 is rounding.
        pivots = np.diagonal(factor) ** 2
        if pivots.min() > ROUNDING:
            return factor, moving
    except LinAlgError:
        pass
    # A singular matrix is factorised in the order of its pivots, which LAPACK counts from 1.
    factor, order, rank, _ = lapack.dpstrf(matrix, tol=ROUNDING, lower=1)
    kept = moving[order[:rank] - 1]
    return np.tril(factor[:rank, :rank]), kept


def solve_factored(factor: np.ndarray, right: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Return the solutions of right sides (n, k) with a matrix that is factorised after a division by units (n,)."""
    if not len(unit):
        return right
    scaled = right / unit[:, None]
    solved = cho_solve((factor, True), scaled, check_finite=False)
    return solved / unit[:, None]
