"""Sums over rows, and the contract of solvers and passes about them: requests, kernels, and the sums' sizes.

Sums, never means: two Sums add up, whatever the number of rows behind each, and the division by the sum of the
row weights happens once, in `solvers.objective`. Ragged chunks, empty blocks and zero weights are therefore exact.

Shapes: n sample, p feature, k output, m candidate; q = p + 1 with an intercept, else p. A query is (q, k, m):
all candidate parameters, the intercept in the last row. The data never gets a column of ones.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np

from ..model.losses import Loss, classes_of, pairs
from .block import RowFormat

#: Parameters up to which a (q, q) matrix is formed for a bound or for sufficient statistics: 8 MiB.
GRAM_LIMIT = 1024

#: Sums that are added up at a time. Fixed, like the partitions, so that the sums have one order.
FAN_IN = 16
#: Bytes of the sums that a worker adds up at a time. Of large sums there are fewer than `FAN_IN`, but at least two.
FAN_IN_BYTES = 32 << 20

#: Weights of all the candidates of a first step together, or four times those of one candidate.
WIDEST = 1 << 20

#: The curvatures that a request may ask for.
EXACT = "exact"
BOUND = "bound"


class Request(NamedTuple):
    """A solver's request for the sums that a pass computes beside loss and gradient.

    ``curvature`` is None, "exact" (second derivatives at the first candidate) or "bound" (their upper bound, which
    does not depend on the query; exact where the loss has none). ``moments`` asks for the moments of features, slopes
    and targets, and for the checks of the targets' values; the first pass of a fit has it. ``kernel`` makes
    each partition's kernel, where that is not `Kernel`: see `own_steps` and `least_squares`. ``targets`` asks for the
    checks alone, of rows that no pass has read before. ``shift`` (p,) is subtracted from the rows before products are
    taken. With an intercept query and sums are those of the rows less the shift, see `shift`. ``left_out`` marks levels
    of factors whose rows have no weight, see `level_counts`. ``is_rough``: six digits of the curvature are enough, so
    that dense rows are multiplied in float32 for it. ``thin`` asks for a curvature of about one row in so many, in
    place of all, see `thinning`.
    """

    curvature: str | None = None
    moments: bool = False
    kernel: KernelSpec | None = None
    targets: bool = False
    shift: np.ndarray | None = None
    left_out: np.ndarray | None = None
    is_rough: bool = False
    thin: int = 1


class Moments(NamedTuple):
    """Moments (sums) that make the tolerance free of units: see `gradient_cosine`."""

    sums: np.ndarray  # (q,)  sum s x; for the intercept sum s
    features: np.ndarray  # (q,)  sum s x^2; for the intercept sum s
    slopes: np.ndarray  # (k,)  sum s (dL/dz)^2 at the first candidate
    targets: np.ndarray  # (k,)  sum s y
    offsets: np.ndarray  # (1,)  sum s o, of the offsets
    curvatures: np.ndarray  # (k,)  sum s d2L/dz2 at the first candidate, if that has no bound, else 0


class Sums(NamedTuple):
    """Sums over rows at a query.

    ``curvature`` is (q, q, k), or (q, q, 1) where it is the same for every output, or (q, q, pairs), see `curvatures`.
    ``products`` of two features were taken for it, or as many as take the time, see `mostly_zero`; 0 where not known.
    """

    rows: int
    weight: float
    loss: np.ndarray  # (m,)
    gradient: np.ndarray  # (q, k, m)
    curvature: np.ndarray | None
    moments: Moments | None
    products: int = 0

    @property
    def at_query(self) -> Sums:
        """The sums themselves. Other kernels' sums have them under this name, beside the sums that they add."""
        return self

    def plus(self, other: Sums) -> Sums:
        """Return the sums over the rows of both."""
        # Both come from one request, so that either both have a part or neither has.
        curvature = None
        if self.curvature is not None and other.curvature is not None:
            curvature = self.curvature + other.curvature
        moments = None
        if self.moments is not None and other.moments is not None:
            pairs = zip(self.moments, other.moments, strict=True)
            moments = Moments(*(mine + theirs for mine, theirs in pairs))
        return Sums(
            rows=self.rows + other.rows,
            weight=self.weight + other.weight,
            loss=self.loss + other.loss,
            gradient=self.gradient + other.gradient,
            curvature=curvature,
            moments=moments,
            products=self.products + other.products,
        )


class Part(NamedTuple):
    """A partition's part in a pass: what its kernel is to sum, and over which rows."""

    partition: int
    query: np.ndarray  # (q, k, m)
    loss: Loss
    request: Request
    row_format: RowFormat


class PartitionSums(Protocol):
    """A kernel's sums over the rows of a partition: arrays, which are added up over all partitions.

    A kernel other than `Kernel` has a NamedTuple for them, with `Sums` and the sums that it adds.
    """

    @property
    def at_query(self) -> Sums:
        """The loss and the gradient at the query, and the parts that the request asked for beside them."""
        ...

    def plus(self, other: Any) -> Any:
        """Return the sums over the rows of both; those of this partition come first."""
        ...


class PartitionKernel(Protocol):
    """A kernel in a task: it sums over the rows of one partition."""

    @property
    def total(self) -> Sums:
        """The sums so far, in which a check looks for values that are not finite."""
        ...

    def add_rows(self, rows: Any) -> None:
        """Add rows, `sources.Rows`, which are valid until the next."""
        ...

    def sums(self) -> PartitionSums:
        """Return the sums when all rows have been added."""
        ...


class KernelSpec(Protocol):
    """A request's kernel: it makes each partition's. It travels to the workers, and holds arrays only.

    A spec whose sums are larger than those at a query has a method ``copies(m)``, which returns how many times.
    """

    def make(self, part: Part) -> PartitionKernel:
        """Return the kernel of a partition."""
        ...


def copies_of(kernel: KernelSpec | None, m: int) -> int:
    """Return how many times the sums at a query of m candidates a kernel sums."""
    copies = getattr(kernel, "copies", None)
    if copies is None:
        return 1
    return copies(m)


def combine(a: Any, b: Any) -> Any:
    """Return the sums of two parts of the rows together."""
    return a.plus(b)


def expand_class_pairs(sums: Sums, loss: Loss, request: Request) -> Sums:
    """Return the sums with the curvature of all weights, (q k, q k, 1), in place of that of pairs, (q, q, pairs).

    Only the exact curvature of a loss of several classes comes in pairs; all other sums are returned as they are.
    Weights are counted as they lie, feature by feature, and within each by class. The block that two classes share is
    the negative of their pair's matrix, and the block of a single class is the sum of the matrices of all its pairs.
    """
    if not classes_of(loss) or request.curvature != EXACT:
        return sums
    if sums.curvature is None or sums.curvature.ndim > 3:
        return sums
    # The softmax's second derivatives are p_a (1 - p_a) within a class and -p_a p_b between two, and 1 - p_a is the sum
    # of the others' probabilities.
    q, k, _ = sums.gradient.shape
    whole = np.zeros((q, k, q, k))
    matrices = np.moveaxis(sums.curvature, 2, 0)
    for a, b, matrix in zip(*pairs(k), matrices, strict=True):
        for single in (a, b):
            whole[:, single, :, single] += matrix
        whole[:, a, :, b] -= matrix
        whole[:, b, :, a] -= matrix
    return sums._replace(curvature=whole.reshape(q * k, q * k, 1))


def sums_bytes(q: int, k: int, m: int, curvatures: int) -> int:
    """Return the size of Sums with this number of (q, q) curvatures, in bytes."""
    return 8 * (q * k * m + q * q * curvatures)


def candidates(q: int) -> int:
    """Return how many candidates a first step may try at once: fewer where weights are wide."""
    return max(4, min(16, WIDEST // q))


def fan_in(nbytes: int) -> int:
    """Return how many Sums of this size a task of the tree adds up."""
    return max(2, min(FAN_IN, FAN_IN_BYTES // nbytes))


def curvatures(k: int, loss: Loss, request: Request) -> int:
    """Return how many (q, q) curvatures a pass computes.

    That is 1 where all outputs share it, else 1 for each output, or for each pair of classes.
    """
    if not request.curvature:
        return 0
    if classes_of(loss):
        if request.curvature == BOUND:
            return 1
        return k * (k - 1) // 2
    return 1 if loss.quadratic else k


def zero_sums(query: np.ndarray, loss: Loss, request: Request) -> Sums:
    """Return the sums over no rows, in the shapes that the query and the request ask for."""
    q, k, m = query.shape
    curvature = None
    if request.curvature:
        # The axis of the outputs lies first in memory, so that each matrix is in one piece.
        matrices = np.zeros((curvatures(k, loss, request), q, q))
        curvature = matrices.transpose(1, 2, 0)
    moments = None
    if request.moments:
        moments = Moments(
            sums=np.zeros(q),
            features=np.zeros(q),
            slopes=np.zeros(k),
            targets=np.zeros(k),
            offsets=np.zeros(1),
            curvatures=np.zeros(k),
        )
    return Sums(
        rows=0,
        weight=0.0,
        loss=np.zeros(m),
        gradient=np.zeros((q, k, m)),
        curvature=curvature,
        moments=moments,
    )
