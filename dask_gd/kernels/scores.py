"""Sums of the products of rows' scores, from which robust standard errors follow: see `results.robust`.

The score of a row is the gradient of its loss, ``s slope [x 1]``. The *meat* of a sandwich is the sum of
``score score^T`` over rows (White, 1980), over the sums of groups (Liang and Zeger, 1986), or over pairs of rows that
are near each other in time (Newey and West, 1987). Each has a spec here, which makes its sums in a partition.

With weights that repeat rows, ``s`` rows have the score ``slope [x 1]`` each; an analytic weight is a factor of the
score of its only row.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np

from .block import Block, dense_rows
from .curvature_sum import CurvatureSum
from .dense import DenseBlock
from .keyed_sums import KeyedSums, KeyedTotal
from .likelihood import LikelihoodKernel, LikelihoodSums, Statistics
from .sums import Part, Sums

#: A row whose leverage is this near 1 alone determines a coefficient: its residual is rounding.
FULL_LEVERAGE = 1.0 - 1e-10


class Scores(NamedTuple):
    """The rows of a block, and what their scores are made of, for consecutive outputs."""

    block: Block
    outputs: slice
    slope: np.ndarray  # (n, outputs), without the weight
    information: np.ndarray  # (n, outputs or 1), without the weight
    weight: np.ndarray | None  # (n,)
    keys: dict[str, np.ndarray]  # by role, (n,)
    kernel: RobustKernel

    @property
    def weighted(self) -> np.ndarray:
        """The slopes with their weights, (n, outputs)."""
        if self.weight is None:
            return self.slope
        return self.weight[:, None] * self.slope

    def squares(self) -> np.ndarray:
        """Return the factor of ``[x 1] [x 1]^T`` in the products of rows with themselves, (n, outputs)."""
        if self.kernel.spec.analytic or self.weight is None:
            return self.weighted**2
        return self.weight[:, None] * self.slope**2


class MeatSpec(Protocol):
    """What is summed of the scores; it travels to the workers, and holds arrays only."""

    def make(self, kernel: RobustKernel) -> MeatTotal:
        """Return what sums over the blocks of a partition."""
        ...

    def nbytes(self, q: int, k: int) -> int:
        """Return the bytes of the sums of a partition, at most."""
        ...


class MeatTotal(Protocol):
    """The sums over the blocks of a partition."""

    def add(self, scores: Scores) -> None:
        """Add those of a block."""
        ...

    def result(self) -> Any:
        """Return the sums, which have a method `plus`."""
        ...


class RobustLikelihood(NamedTuple):
    """A request for the sums of `Likelihood`, whose curvature is the observed one, and for a meat."""

    meat: MeatSpec
    analytic: bool
    #: The meat's bytes as a multiple of the sums' at a query.
    times: int
    #: The keys that a meat sums by: partitions with fewer rows are summed together, see `passes.plan`.
    entries: int = 0

    def make(self, part: Part) -> RobustKernel:
        return RobustKernel(part, self)

    def copies(self, m: int) -> int:
        """Return how many times the sums at a query these are."""
        return 1 + self.times


class RobustSums(NamedTuple):
    """The sums of `LikelihoodSums` and a meat."""

    likelihood: LikelihoodSums
    meat: Any

    @property
    def at_query(self) -> Sums:
        """The loss and the gradient at the query, and the curvature."""
        return self.likelihood.at_query

    @property
    def statistics(self) -> Statistics:
        """What says how well the model fits."""
        return self.likelihood.statistics

    def plus(self, other: RobustSums) -> RobustSums:
        """Return the sums over the rows of both."""
        return RobustSums(self.likelihood.plus(other.likelihood), self.meat.plus(other.meat))


class RobustKernel(LikelihoodKernel):
    """The kernel of `RobustLikelihood`."""

    def __init__(self, part: Part, spec: RobustLikelihood):
        super().__init__(part)
        self.spec = spec
        #: The values of the roles that meats know, of the rows that are being added, and the first row of the block.
        self.others: dict[str, np.ndarray] = {}
        self.first = 0
        self.keys: dict[str, np.ndarray] = {}
        self.written: np.ndarray | None = None
        self.scratch = np.empty((0, part.row_format.features + 1))
        self.meat = spec.meat.make(self)

    def add_rows(self, rows: Any) -> None:
        """Add the sums over rows as a source reads them."""
        self.others = rows.others
        self.first = 0
        super().add_rows(rows)

    def _add_block(self, rows, target, s, offset) -> None:
        """Add the sums over the rows of one cache block."""
        which = slice(self.first, self.first + len(target))
        self.first = which.stop
        self.keys = {role: values[which] for role, values in self.others.items()}
        self.rows = rows
        self.written = None
        super()._add_block(rows, target, s, offset)

    def _summed_curvature(self, z, target, information) -> np.ndarray:
        """Return the observed second derivatives, at the targets themselves."""
        return self.loss.curvature(z, target)

    def _add_scores(self, block: Block, slope, outputs: slice, s, information) -> None:
        """Add to the meat."""
        scores = Scores(
            block=block,
            outputs=outputs,
            slope=slope,
            information=information,
            weight=s,
            keys=self.keys,
            kernel=self,
        )
        self.meat.add(scores)

    def written_out(self, block: Block) -> np.ndarray:
        """Return the rows of the block ``[x 1]`` as an array (n, q), less the shift; the same for all outputs."""
        if self.written is None:
            if isinstance(block, DenseBlock):
                features = block.rows
            else:
                features = dense_rows(self.row_format, self.rows, "infer: errors of groups")
                if self.request.shift is not None:
                    features = features - self.request.shift
            if len(self.scratch) < len(features):
                self.scratch = np.ones((len(features), self.p + 1))
            self.written = self.scratch[: len(features)]
            self.written[:, : self.p] = features
        return self.written

    def rows_of(self, scores: Scores, output: int) -> np.ndarray:
        """Return the scores of an output, by its number among those of ``scores``, (n, q)."""
        return self.written_out(scores.block) * scores.weighted[:, output, None]

    def sums(self) -> RobustSums:  # type: ignore[override]
        return RobustSums(super().sums(), self.meat.result())


class White(NamedTuple):
    """The sum of ``score score^T`` by ``(1 - leverage)^power``: power 0 for HC0 and HC1, 1 for HC2, 2 for HC3.

    ``root`` (q, r, k or 1), of the rows less the shift, has a product with its transpose that is the inverse of the
    curvature, so that the leverage of a row is ``h |[x 1] root|^2``.
    """

    power: int = 0
    root: np.ndarray | None = None

    def make(self, kernel: RobustKernel) -> WhiteTotal:
        return WhiteTotal(self, kernel)

    def nbytes(self, q: int, k: int) -> int:
        """Return the bytes of the matrices."""
        return 8 * k * q * q


class WhiteSums(NamedTuple):
    """The matrices, and the largest leverage."""

    matrix: np.ndarray  # (k, q, q)
    leverage: float

    def plus(self, other: WhiteSums) -> WhiteSums:
        """Return the sums over the rows of both."""
        return WhiteSums(self.matrix + other.matrix, max(self.leverage, other.leverage))


class WhiteTotal:
    """The sums of `White`."""

    def __init__(self, spec: White, kernel: RobustKernel):
        self.power = spec.power
        self.matrix = SquaresTotal(kernel)
        self.leverage = 0.0
        self.roots: list[tuple[Any, np.ndarray]] = []
        if spec.root is not None:
            # The leverages of an output are those of the columns of its root.
            for root in np.moveaxis(spec.root, 2, 0):
                self.roots.append((kernel.workspace.weights(np.ascontiguousarray(root[: kernel.p])), root[kernel.p]))

    def add(self, scores: Scores) -> None:
        """Add those of a block."""
        squares = scores.squares()
        for i, output in enumerate(range(*scores.outputs.indices(len(self.matrix.sums)))):
            h = squares[:, i]
            if self.power:
                h = h / self._complement(scores, i, output) ** self.power
            self.matrix.add(scores.block, output, h)

    def _complement(self, scores: Scores, i: int, output: int) -> np.ndarray:
        """Return 1 less the leverages of the rows, (n,)."""
        weights, constant = self.roots[min(output, len(self.roots) - 1)]
        projected = scores.block.times(weights) + constant
        leverage = np.einsum("nr,nr->n", projected, projected)
        leverage *= scores.information[:, min(i, scores.information.shape[1] - 1)]
        if scores.kernel.spec.analytic and scores.weight is not None:
            leverage *= scores.weight
        self.leverage = max(self.leverage, float(leverage.max(initial=0.0)))
        return np.maximum(1.0 - leverage, 1.0 - FULL_LEVERAGE)

    def result(self) -> WhiteSums:
        return WhiteSums(self.matrix.result(), self.leverage)


class SquaresTotal:
    """The sum of ``h [x 1] [x 1]^T`` for each output."""

    def __init__(self, kernel: RobustKernel):
        q, k, _ = kernel.query.shape
        self.matrix = np.zeros((k, q, q))
        self.sums = []
        for matrix in self.matrix:
            of_output = CurvatureSum(matrix, kernel.workspace, kernel.p, shift=kernel.request.shift, in_float64=False)
            self.sums.append(of_output)

    def add(self, block: Block, output: int, h: np.ndarray) -> None:
        """Add the rows of a block, with their h (n,)."""
        self.sums[output].add(block, h)

    def result(self) -> np.ndarray:
        """Return the matrices, (k, q, q)."""
        for of_output in self.sums:
            of_output.flush()
        return self.matrix


class Groups(NamedTuple):
    """The sums of scores by the key in a role; rows with a key of -1 are groups of their own, and are squared."""

    role: str
    size: int
    has_single: bool = False

    def make(self, kernel: RobustKernel) -> GroupTotal:
        return GroupTotal(self, kernel)

    def nbytes(self, q: int, k: int) -> int:
        """Return the bytes of the sums of all groups."""
        return 8 * k * q * (self.size + q)


class GroupSums(NamedTuple):
    """The sums by group, the squares of single rows (k, q, q), and the number of these."""

    by_key: KeyedSums
    squares: np.ndarray
    singles: int

    def plus(self, other: GroupSums) -> GroupSums:
        """Return the sums over the rows of both."""
        return GroupSums(
            by_key=self.by_key.plus(other.by_key),
            squares=self.squares + other.squares,
            singles=self.singles + other.singles,
        )

    @property
    def groups(self) -> int:
        """The number of groups that have rows."""
        return len(self.by_key.keys) + self.singles


class GroupTotal:
    """The sums of `Groups`."""

    def __init__(self, spec: Groups, kernel: RobustKernel):
        q, k, _ = kernel.query.shape
        self.spec = spec
        self.by_key = KeyedTotal(spec.size, k, q)
        self.squares = SquaresTotal(kernel)
        self.singles = 0

    def add(self, scores: Scores) -> None:
        """Add those of a block."""
        keys = scores.keys[self.spec.role].astype(np.int64)
        if scores.outputs.start == 0:
            self._count(keys, scores)
        rows = scores.kernel.written_out(scores.block)
        weighted = scores.weighted
        is_single = keys < 0
        if self.spec.has_single:
            together = np.flatnonzero(~is_single)
            keys = keys[together]
            rows = rows[together]
        for i, output in enumerate(range(*scores.outputs.indices(len(self.by_key.sums)))):
            weights = np.ascontiguousarray(weighted[:, i])
            if self.spec.has_single:
                self.squares.add(scores.block, output, np.where(is_single, weights**2, 0.0))
                weights = weights[together]
            if len(keys):
                self.by_key.add(output, keys, rows, weights)

    def _count(self, keys: np.ndarray, scores: Scores) -> None:
        """Count the groups that have rows; a weight of 0 that repeats its row leaves none."""
        if scores.weight is not None and not scores.kernel.spec.analytic:
            keys = keys[scores.weight > 0]
        if self.spec.has_single:
            self.singles += int((keys < 0).sum())
            keys = keys[keys >= 0]
        self.by_key.mark(keys)

    def result(self) -> GroupSums:
        return GroupSums(self.by_key.result(), self.squares.result(), self.singles)


class Several(NamedTuple):
    """Several meats in one pass."""

    parts: tuple[Groups, ...]

    def make(self, kernel: RobustKernel) -> SeveralTotal:
        return SeveralTotal([part.make(kernel) for part in self.parts])

    def nbytes(self, q: int, k: int) -> int:
        """Return the bytes of all."""
        return sum(part.nbytes(q, k) for part in self.parts)


class SeveralSums(NamedTuple):
    """The sums of each."""

    parts: tuple[GroupSums, ...]

    def plus(self, other: SeveralSums) -> SeveralSums:
        """Return the sums over the rows of both."""
        return SeveralSums(tuple(a.plus(b) for a, b in zip(self.parts, other.parts, strict=True)))


class SeveralTotal:
    """The sums of `Several`."""

    def __init__(self, parts: list[GroupTotal]):
        self.parts = parts

    def add(self, scores: Scores) -> None:
        """Add those of a block."""
        for part in self.parts:
            part.add(scores)

    def result(self) -> SeveralSums:
        return SeveralSums(tuple(part.result() for part in self.parts))
