"""The curvature of rows with factors of very many levels, in parts: no matrix of all features is formed.

Of a factor's own block only the diagonal is not 0, as a row has a single level of it. What two factors have in common
is a table with an entry for each pair of levels that occurs. What numbers have in common with anything is a row of sums
for each. `solvers.newton.elimination` solves with these parts.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from scipy.sparse import csr_array

from ..errors import InvalidTypeError
from ..model.losses import Loss
from .base import Kernel
from .block import RowFormat
from .factors import CodedColumns
from .likelihood import LikelihoodKernel, Statistics
from .sums import Part, Sums

#: Factors and numbers up to which the curvature is kept in parts.
MOST_FACTORS = 8
MOST_NUMBERS = 256

#: How many times the sums at a query the parts are, for the plan of a pass: sums by level for a few numbers, and pairs.
COPIES = 8


class CurvatureParts(NamedTuple):
    """The sums of ``[x 1]^T diag(h) [x 1]`` in parts, and of ``X^T r`` beside them.

    Numbers are those of the rows less the shift; the last of them is 1 in every row. An entry for codes that are none
    is the last of each factor.
    """

    columns: CodedColumns
    numbers: np.ndarray  # (numbers + 1, numbers + 1)
    levels: tuple[np.ndarray, ...]  # of each factor (numbers + 1, levels + 1)
    tables: tuple[csr_array, ...]  # of each pair of factors (levels + 1, levels + 1), see `pairs_of`

    def plus(self, other: CurvatureParts) -> CurvatureParts:
        """Return the sums over the rows of both."""
        return CurvatureParts(
            columns=self.columns,
            numbers=self.numbers + other.numbers,
            levels=tuple(mine + theirs for mine, theirs in zip(self.levels, other.levels, strict=True)),
            tables=tuple(mine + theirs for mine, theirs in zip(self.tables, other.tables, strict=True)),
        )

    def divided(self, weight: float) -> CurvatureParts:
        """Return means."""
        return self._replace(
            numbers=self.numbers / weight,
            levels=tuple(table / weight for table in self.levels),
            tables=tuple(table / weight for table in self.tables),
        )


class PartsSum(Protocol):
    """The sum of `CurvatureParts` over the blocks of a workspace."""

    def add(self, block: Any, h: np.ndarray) -> None:
        """Add a block's, for h (n,) of 0 or more."""
        ...

    def parts(self) -> CurvatureParts:
        """Return the sums over all blocks."""
        ...


def has_parts(row_format: Any) -> bool:
    """Return whether rows of a format have factors, and their curvature can be kept in parts."""
    if not hasattr(row_format, "parts_sum"):
        return False
    return 0 < len(row_format.factors) <= MOST_FACTORS and len(row_format.numbers) <= MOST_NUMBERS


def parts_sum(row_format: RowFormat, workspace: Any) -> PartsSum:
    """Return what adds up the parts of the curvature over the blocks of a workspace.

    Raises
    ------
    InvalidTypeError
        For rows of a format that has no factors.
    """
    if not has_parts(row_format):
        raise InvalidTypeError(
            f"The curvature of {type(row_format).__name__} cannot be kept in parts: that takes rows with 1 to "
            f"{MOST_FACTORS} factors and at most {MOST_NUMBERS} columns of numbers."
        )
    return row_format.parts_sum(workspace)  # type: ignore[attr-defined]


class InParts(NamedTuple):
    """A request for the exact curvature at the first candidate of a query, in parts.

    With ``from_targets``, for a loss without a bound of its curvature, it is that of the loss halfway between the
    predictions at the query and the targets, which is where iteratively reweighted least squares begin: a step from
    there is safe where the loss is an exponential.
    """

    from_targets: bool = False

    def copies(self, m: int) -> int:
        """Return how many times the sums at a query of m candidates this sums."""
        return COPIES

    def make(self, part: Part) -> PartsKernel:
        return PartsKernel(self, part)


class SumsInParts(NamedTuple):
    """The sums at the query, the curvature in parts, and what to add to the gradient with it, see `InParts`."""

    at_query: Sums
    parts: CurvatureParts
    correction: np.ndarray  # (q, k) 0 where the curvature is that at the query

    def plus(self, other: SumsInParts) -> SumsInParts:
        """Return the sums over the rows of both."""
        return SumsInParts(
            at_query=self.at_query.plus(other.at_query),
            parts=self.parts.plus(other.parts),
            correction=self.correction + other.correction,
        )

    def finalize(self, weight: float) -> SumsInParts:
        """Return means of the parts and of the correction."""
        return self._replace(parts=self.parts.divided(weight), correction=self.correction / weight)


class PartsKernel(Kernel):
    """The kernel of `InParts`."""

    def __init__(self, spec: InParts, part: Part):
        super().__init__(part)
        self.from_targets = spec.from_targets and part.loss.curvature_bound is None
        self.parts_sum = parts_sum(part.row_format, self.workspace)
        self.working_gradient = np.zeros(part.query.shape[:2])

    def _add_curvature(self, rows, block, target, z, s) -> None:
        """Add a block's curvature in parts."""
        first = z[:, :, 0]
        if self.from_targets:
            # The slope at z of the quadratic that touches the loss halfway to the target.
            working = halfway(self.loss, first, target)
            h = self.loss.curvature(working, target)
            slope = self.loss.value_and_slope(working, target)[1] + h * (first - working)
            if s is not None:
                slope = s[:, None] * slope
            block.add_transposed_times(slope, self.working_gradient[: self.p])
            self.working_gradient[self.p :] += slope.sum(axis=0)
        else:
            h = self.loss.curvature(first, target)
        # Several outputs have a squared loss, and the same curvature.
        h = h[:, 0]
        if s is not None:
            h = s * h
        self.parts_sum.add(block, h)

    def sums(self) -> SumsInParts:  # type: ignore[override]
        """Return the sums at the query, and the curvature in parts."""
        correction = np.zeros_like(self.working_gradient)
        if self.from_targets:
            correction = self.working_gradient - self.total.gradient[:, :, 0]
        return SumsInParts(self.total, self.parts_sum.parts(), correction)


def halfway(loss: Loss, z: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the predictions whose means are halfway between those of z and the targets; z where a loss has no link."""
    found = loss.link(0.5 * (loss.inverse_link(z) + target))
    return np.where(np.isfinite(found), found, z)


class LikelihoodInParts(NamedTuple):
    """A request for the information in parts, the deviance and Pearson's statistic at the first candidate."""

    def copies(self, m: int) -> int:
        """Return how many times the sums at a query of m candidates this sums."""
        return COPIES

    def make(self, part: Part) -> LikelihoodPartsKernel:
        return LikelihoodPartsKernel(part)


class LikelihoodSumsInParts(NamedTuple):
    """The sums at the first candidate, the information in parts, and statistics."""

    at_query: Sums
    parts: CurvatureParts
    statistics: Statistics

    def plus(self, other: LikelihoodSumsInParts) -> LikelihoodSumsInParts:
        """Return the sums over the rows of both."""
        return LikelihoodSumsInParts(
            at_query=self.at_query.plus(other.at_query),
            parts=self.parts.plus(other.parts),
            statistics=self.statistics.plus(other.statistics),
        )


class LikelihoodPartsKernel(LikelihoodKernel):
    """The kernel of `LikelihoodInParts`."""

    def __init__(self, part: Part):
        super().__init__(part)
        self.parts_sum = parts_sum(part.row_format, self.workspace)

    def _add_information(self, block, information, outputs, s) -> None:
        """Add a block's information in parts; there is one output."""
        h = information[:, 0]
        if s is not None:
            h = s * h
        self.parts_sum.add(block, h)

    def sums(self) -> LikelihoodSumsInParts:  # type: ignore[override]
        """Return the sums at the fit's parameters, and the information in parts."""
        plain = super().sums()
        return LikelihoodSumsInParts(plain.at_query, self.parts_sum.parts(), plain.statistics)
