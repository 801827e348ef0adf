"""Linear systems with a curvature in parts: the largest factor is eliminated exactly.

Let D be the diagonal block of that factor, R the block of all other features and C what they have in common. With
``H = [[D, C], [C^T, R]]`` a system ``H u = b`` is one with the Schur complement ``S = R - C^T D^-1 C`` for the other
features, and a division for the levels (Boyd and Vandenberghe, 2004, appendix C.4). S is factorised where it is narrow,
or a narrow band. Else conjugate gradients solve with it, which are fast where factors are well connected, and it is
never formed (Guimaraes and Portugal, 2010, "A simple feasible procedure to fit models with high-dimensional fixed
effects", on such systems); where they are not fast, it is factorised while that can be done.

Without a penalty there are directions along which no prediction changes, for example a number added to all levels of a
factor and taken from the intercept. Along these nothing moves, by a convention that depends on the data only, see
`pinned_features`.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from scipy.linalg import LinAlgError, cho_solve, cholesky, lapack
from scipy.sparse import csr_array, diags_array, hstack, vstack

from ...kernels.curvature_parts import CurvatureParts
from .banded import Band, band_of
from .iterative import conjugate_gradients
from .pins import following_numbers, largest_factor, pinned_features

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
    """A curvature in parts with that of a penalty (q,), arranged for its Schur complement.

    The rest, all features but those of the eliminated factor, is in this order: other factors' levels, numbers, and the
    intercept where there is one.
    """

    def __init__(self, parts: CurvatureParts, ridge: np.ndarray):
        columns = parts.columns
        starts = columns.starts
        p = columns.features
        has_intercept = len(ridge) > p
        largest = largest_factor(columns)
        others = [f for f in range(len(columns.factors)) if f != largest]

        # Where the features are among all of them.
        def features_of(f: int) -> np.ndarray:
            i = columns.factors[f]
            return np.arange(starts[i], starts[i + 1])

        number_features = [starts[i] for i in columns.numbers]
        if has_intercept:
            number_features.append(p)
        dense = np.arange(len(number_features))
        self.levels = features_of(largest)
        self.rest = np.concatenate([*map(features_of, others), number_features]).astype(int)
        self.width = len(self.rest) - len(dense)

        # The parts, without the entries for codes that are none and for levels that have no feature.
        kept = [slice(columns.columns[i].drop_first, -1) for i in columns.factors]  # type: ignore[union-attr]
        by_level = [table[:, each] for table, each in zip(parts.levels, kept, strict=True)]
        pairs = [(i, j) for j in range(len(kept)) for i in range(j)]
        tables = {}
        for (i, j), table in zip(pairs, parts.tables, strict=True):
            tables[i, j] = table[kept[i], kept[j]]
            tables[j, i] = tables[i, j].T

        # D, C and R, with C and R in columns of levels, which are sparse, and columns of numbers, which are not.
        self.d = by_level[largest][-1] + ridge[self.levels]
        self.c_levels = _beside([tables[largest, f] for f in others], len(self.d))
        self.c_numbers = by_level[largest][dense].T
        rows = []
        for f in others:
            # A factor's own levels are a diagonal.
            tables[f, f] = diags_array(by_level[f][-1])
            row = [tables[f, g] for g in others]
            rows.append(_beside(row, len(features_of(f))))
        self.r_levels = csr_array((0, 0))
        self.r_across = np.zeros((0, len(dense)))
        if others:
            self.r_levels = csr_array(vstack(rows)) + diags_array(ridge[self.rest[: self.width]])
            self.r_across = np.concatenate([by_level[f][dense] for f in others], axis=1).T
        self.r_numbers = parts.numbers[np.ix_(dense, dense)] + np.diag(ridge[self.rest[self.width :]])

        # What moves: not the pinned features, nor those that have no curvature at all.
        diagonal = np.concatenate([self.r_levels.diagonal(), np.diagonal(self.r_numbers)])
        is_pinned = pinned_features(parts, ridge)
        self.moves = ~is_pinned[self.rest] & (diagonal > 0)
        # Nor numbers that follow from the levels of a factor.
        diagonals = [table[-1] + ridge[features_of(f)] for f, table in enumerate(by_level)]
        follows = following_numbers(parts, ridge, by_level, diagonals, ROUNDING)
        self.moves[self.width :] &= ~follows[dense]
        self.unit = np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
        self.inverse_d = np.zeros_like(self.d)
        np.divide(1.0, self.d, out=self.inverse_d, where=self.d > 0)

    @property
    def is_dense(self) -> bool:
        """Return whether the Schur complement may be formed."""
        return len(self.rest) <= DENSE

    def solve(self, right: np.ndarray) -> np.ndarray:
        """Return ``H^-1 b`` of right sides b (q, k), 0 along what does not move."""
        # Eliminate the levels from the right side, solve for the rest, and divide for the levels.
        of_levels = right[self.levels]
        scaled = self.inverse_d[:, None] * of_levels
        reduced = right[self.rest] - self._c_transposed(scaled)
        reduced[~self.moves] = 0.0
        of_rest = self._solve_rest(reduced)
        remaining = of_levels - self._c(of_rest)
        solution = np.zeros_like(right)
        solution[self.rest] = of_rest
        solution[self.levels] = self.inverse_d[:, None] * remaining
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
            solution, is_exact = conjugate_gradients(self._times_complement, self._complement_diagonal, column, steps)
            if self.is_dense and not is_exact:
                return self.solve_dense(right)
            solutions.append(solution)
        return np.stack(solutions, axis=1)

    def _c(self, u: np.ndarray) -> np.ndarray:
        """Return ``C u``, (levels, k)."""
        return self.c_levels @ u[: self.width] + self.c_numbers @ u[self.width :]

    def _c_transposed(self, v: np.ndarray) -> np.ndarray:
        """Return ``C^T v``, (rest, k)."""
        return np.concatenate([self.c_levels.T @ v, self.c_numbers.T @ v])

    # The complement as a matrix.

    @cached_property
    def _scaled_levels(self) -> csr_array:
        """The columns of levels in ``D^(-1/2) C``: both sides of a product with them are the same."""
        table = self.c_levels
        each = np.repeat(np.sqrt(self.inverse_d), np.diff(table.indptr))
        return csr_array((each * table.data, table.indices, table.indptr), shape=table.shape)

    @cached_property
    def complement(self) -> np.ndarray:
        """The Schur complement of all of the rest, scaled by ``unit``."""
        # C is scaled by the root of D, so that the product with itself is symmetric.
        root = np.sqrt(self.inverse_d)
        numbers = root[:, None] * self.c_numbers
        levels = self._scaled_levels
        transposed = levels.T.tocsr()
        width = self.width
        # Each block of R, less the product of its columns in C.
        found = np.empty((len(self.rest), len(self.rest)))
        found[:width, :width] = (self.r_levels - transposed @ levels).toarray()
        found[:width, width:] = self.r_across - transposed @ numbers
        found[width:, :width] = found[:width, width:].T
        found[width:, width:] = self.r_numbers - numbers.T @ numbers
        found /= self.unit
        found /= self.unit[:, None]
        return found

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
        in_rows = np.diff(self.c_levels.indptr).astype(float)
        products = (in_rows**2).sum()
        entries = in_rows.sum()
        return bool(products <= FEW_PRODUCTS * entries)

    @property
    def rank(self) -> int:
        """The number of parameters that move, as far as is known without a factor."""
        of_levels = int(np.count_nonzero(self.d > 0))
        if self.is_dense:
            return of_levels + len(self.factor[1])
        return of_levels + int(self.moves.sum())

    def inverse(self) -> tuple[np.ndarray, np.ndarray]:
        """Return features, and the block of ``H^-1`` that is theirs, NaN along what does not move.

        They are the rest where the complement is dense, else numbers and the intercept.
        """
        # A dense complement has the inverse of all of the rest.
        if self.is_dense:
            factor, kept = self.factor
            found = np.full((len(self.rest), len(self.rest)), np.nan)
            found[np.ix_(kept, kept)] = solve_factored(factor, np.eye(len(kept)), self.unit[kept])
            return self.rest, found
        # Else there is a system for each number, of which there are few.
        features = self.rest[self.width :]
        right = np.zeros((len(self.d) + len(self.rest), len(features)))
        right[features, np.arange(len(features))] = 1.0
        solved = self.solve(right)
        found = solved[features]
        # What other factors leave open beyond that has no solution.
        moving = np.flatnonzero(self.moves)
        units = self.unit[moving, None]
        missing = np.zeros(len(features))
        for j, column in enumerate(solved[self.rest].T):
            residual = right[self.rest, j] - self._times_complement(column)
            missing[j] = np.abs(residual[moving] / units[:, 0]).max(initial=0.0) * self.unit[self.width + j]
        does_not_move = ~self.moves[self.width :] | (missing > UNSOLVED)
        found[does_not_move] = np.nan
        found[:, does_not_move] = np.nan
        return features, found

    # The complement as a band.

    @cached_property
    def band(self) -> Band | None:
        """The factor of the complement of the levels that move, where it is a narrow band."""
        if not self.is_cheap:
            return None
        moving = np.flatnonzero(self.moves[: self.width])
        levels = self._scaled_levels
        matrix = self.r_levels - levels.T.tocsr() @ levels
        of_moving = matrix[moving][:, moving]
        unit = diags_array(1.0 / self.unit[moving])
        scaled = csr_array(unit @ of_moving @ unit)
        return band_of(scaled, ROUNDING)

    def _solve_banded(self, band: Band, right: np.ndarray) -> np.ndarray:
        """Return ``S^-1 b`` of right sides b (rest, k): the band is eliminated, too."""
        width = self.width
        moving = np.flatnonzero(self.moves[:width])
        unit = self.unit[moving, None]
        # The blocks of the complement that belong to numbers: across to the levels, and their own.
        through = self.inverse_d[:, None] * self.c_numbers
        across = (self.r_across - self.c_levels.T @ through)[moving] / unit
        of_numbers = self.r_numbers - self.c_numbers.T @ through
        # The band is eliminated from both sides at once.
        scaled_right = right[moving] / unit
        solved = band.solve(np.hstack([across, scaled_right]))
        count = across.shape[1]
        solved_across = solved[:, :count]
        solved_right = solved[:, count:]
        # What is left is as narrow as the numbers are few, and may be singular.
        left = of_numbers - across.T @ solved_across
        left_right = right[width:] - across.T @ solved_right
        unit_of_numbers = self.unit[width:]
        units = np.outer(unit_of_numbers, unit_of_numbers)
        numbers = np.flatnonzero(self.moves[width:])
        factor, kept = pivoted_factor(left / units, numbers)
        solution = np.zeros_like(right)
        solution[width + kept] = solve_factored(factor, left_right[kept], unit_of_numbers[kept])
        # The levels follow from the numbers.
        of_levels = solved_right - solved_across @ solution[width:]
        solution[moving] = of_levels / unit
        return solution

    # The complement as a product.

    def _times_complement(self, u: np.ndarray) -> np.ndarray:
        """Return ``S u`` of u (rest,), 0 along what does not move."""
        levels = u[: self.width]
        numbers = u[self.width :]
        # D^-1 C u, whose product with C^T the elimination subtracts.
        through = self.inverse_d * (self.c_levels @ levels + self.c_numbers @ numbers)
        found = np.empty_like(u)
        found[: self.width] = self.r_levels @ levels + self.r_across @ numbers - self.c_levels.T @ through
        found[self.width :] = self.r_across.T @ levels + self.r_numbers @ numbers - self.c_numbers.T @ through
        found[~self.moves] = 0.0
        return found

    @cached_property
    def _complement_diagonal(self) -> np.ndarray:
        """The diagonal of the complement, and the curvature where it is rounding."""
        squares = self.c_levels.copy()
        squares.data **= 2
        of_levels = squares.T @ self.inverse_d
        of_numbers = (self.c_numbers**2).T @ self.inverse_d
        through = np.concatenate([of_levels, of_numbers])
        before = self.unit**2
        after = before - through
        return np.where(after > ROUNDING * before, after, before)


def _beside(tables: list, rows: int) -> csr_array:
    """Return sparse tables side by side; of none a table without columns."""
    if not tables:
        return csr_array((rows, 0))
    return csr_array(hstack(tables, format="csr"))


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
