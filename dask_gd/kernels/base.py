"""What one pass computes: ``Sums``, sums over rows, and the one kernel that fills them from a block of rows.

Sums, never means: two Sums add up, whatever the number of rows behind each, and the division by the sum of the
row weights happens once, in `solvers.objective`. Ragged chunks, empty blocks and zero weights are therefore exact.

Shapes: n sample, p feature, k output, m candidate; q = p + 1 with an intercept, else p. A query is (q, k, m):
all candidate parameters, the intercept in the last row. The data never gets a column of ones.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np

from ..model.losses import Loss, Model, classes_of, pairs
from .products import BLOCK_BYTES, BLOCK_ROWS, Near, block_rows, narrow

#: Parameters up to which a (q, q) matrix is formed for a bound or for sufficient statistics: 8 MiB.
GRAM_LIMIT = 1024

#: Sums that are added up at a time. Fixed, like the partitions, so that the sums have one order. Fewer where they are
#: large, so that those a worker holds take no more than so many bytes (or two of them more).
FAN_IN, FAN_IN_BYTES = 16, 32 << 20

#: Weights of all the candidates of a first step together, or four times those of one.
WIDEST = 1 << 20

EXACT, BOUND = "exact", "bound"


class Request(NamedTuple):
    """What a pass must compute beside loss and gradient.

    ``curvature`` is None, "exact" (second derivatives at the first candidate) or "bound" (their upper bound, which
    does not depend on the query; exact where the loss has none). ``moments`` asks for the moments of features, slopes
    and targets, and for the checks of the targets' values; the first pass of a fit has it. ``kernel`` makes
    each partition's kernel, where that is not `Kernel`: see `own_steps` and `least_squares`. ``targets`` asks for the
    checks alone, of rows that no pass has read before. ``shift`` (p,) is subtracted from the rows before products are
    taken. With an intercept query and sums are those of the rows less the shift, see `shift`.
    """

    curvature: str | None = None
    moments: bool = False
    kernel: KernelSpec | None = None
    targets: bool = False
    shift: np.ndarray | None = None


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
    """

    rows: int
    weight: float
    loss: np.ndarray  # (m,)
    gradient: np.ndarray  # (q, k, m)
    curvature: np.ndarray | None
    moments: Moments | None

    @property
    def at_query(self) -> Sums:
        """The sums themselves, as the sums of other kernels have them beside their own."""
        return self

    def plus(self, other: Sums) -> Sums:
        """Return the sums over the rows of both."""
        curvature = None
        if self.curvature is not None and other.curvature is not None:
            curvature = self.curvature + other.curvature
        moments = None
        if self.moments is not None and other.moments is not None:
            moments = Moments(*(x + y for x, y in zip(self.moments, other.moments, strict=True)))
        return Sums(
            rows=self.rows + other.rows,
            weight=self.weight + other.weight,
            loss=self.loss + other.loss,
            gradient=self.gradient + other.gradient,
            curvature=curvature,
            moments=moments,
        )


class PartitionSums(Protocol):
    """What a kernel has summed over the rows of a partition: arrays, which are added up over all partitions.

    A kernel's own is a NamedTuple with `Sums` and what it sums beside them.
    """

    @property
    def at_query(self) -> Sums:
        """The loss and the gradient at the query, and what the request asked for beside them."""
        ...

    def plus(self, other: Any) -> Any:
        """Return the sums over the rows of both; those of this partition come first."""
        ...


class PartitionKernel(Protocol):
    """What sums over the rows of one partition, in a task."""

    @property
    def total(self) -> Sums:
        """The sums so far, which are looked at for what is not finite."""
        ...

    def add_rows(self, rows: Any) -> None:
        """Add rows, `sources.Rows`, which are valid until the next."""
        ...

    def sums(self) -> PartitionSums:
        """Return the sums when all rows have been added."""
        ...


class KernelSpec(Protocol):
    """What a request names as its kernel: it makes each partition's. It travels to the workers, and holds arrays only.

    A spec whose sums are larger than those at a query has a method ``copies(m)``, which says how many times.
    """

    def make(
        self, partition: int, query: np.ndarray, loss: Loss, request: Request, dtype: np.dtype, p: int
    ) -> PartitionKernel:
        """Return the kernel of a partition of rows (n, p) of this dtype."""
        ...


def copies_of(kernel: KernelSpec | None, m: int) -> int:
    """Return how many times the sums at a query of m candidates a kernel sums."""
    copies = getattr(kernel, "copies", None)
    if copies is None:
        return 1
    return copies(m)


def combine(a: Any, b: Any) -> Any:
    """Return what two parts of the rows sum together."""
    return a.plus(b)


def expand_class_pairs(sums: Sums, loss: Loss, request: Request) -> Sums:
    """Of a loss of several classes the exact curvature (q, q, pairs) as that of all weights, (q k, q k, 1).

    Weights are counted as they lie, feature by feature, and within each by class. What two classes share is the
    negative of their pair's matrix, and what a class has of its own is the sum of all its pairs'.
    """
    if not classes_of(loss) or request.curvature != EXACT or sums.curvature is None or sums.curvature.ndim > 3:
        return sums
    q, k, _ = sums.gradient.shape
    whole = np.zeros((q, k, q, k))
    for a, b, matrix in zip(*pairs(k), np.moveaxis(sums.curvature, 2, 0), strict=True):
        for own in (a, b):
            whole[:, own, :, own] += matrix
        whole[:, a, :, b] -= matrix
        whole[:, b, :, a] -= matrix
    return sums._replace(curvature=whole.reshape(q * k, q * k, 1))


def sums_bytes(q: int, k: int, m: int, curvatures: int) -> int:
    """The size of Sums with so many (q, q) curvatures."""
    return 8 * (q * k * m + q * q * curvatures)


def candidates(q: int) -> int:
    """Candidates that a first step may try at once: of wide weights fewer."""
    return max(4, min(16, WIDEST // q))


def fan_in(nbytes: int) -> int:
    """How many Sums of this size one task of the tree adds up."""
    return max(2, min(FAN_IN, FAN_IN_BYTES // nbytes))


def curvatures(k: int, loss: Loss, request: Request) -> int:
    """How many (q, q) curvatures a pass computes: one that all outputs share, one for each, or for each two classes."""
    if not request.curvature:
        return 0
    if classes_of(loss):
        if request.curvature == BOUND:
            return 1
        return k * (k - 1) // 2
    return 1 if loss.quadratic else k


def zero_sums(query: np.ndarray, loss: Loss, request: Request) -> Sums:
    """The sums over no rows, in the shapes the query and the needs ask for."""
    q, k, m = query.shape
    return Sums(
        0,
        0.0,
        np.zeros(m),
        np.zeros((q, k, m)),
        # Each matrix in one piece.
        np.zeros((curvatures(k, loss, request), q, q)).transpose(1, 2, 0) if request.curvature else None,
        Moments(*(np.zeros(size) for size in (q, q, k, k, 1, k))) if request.moments else None,
    )


def sums_of_rows(x, y, weight, query, loss: Loss, request: Request) -> Sums:
    """Sums over the given rows, swept in cache blocks.

    Parameters
    ----------
    x : (n, p) float32 or float64, C-contiguous
        Products are taken in this precision; everything is summed in float64.
    y : (n, k) float64, (n, 1) for a loss of several classes
    weight : (n,) float64 or None
        Row weights; None means 1 each.
    query : (q, k, m) float64
        Candidate parameters; q is p, or p + 1 with the intercept last.
    loss : Loss
    request : Request

    Returns
    -------
    Sums
        ``loss = sum_i s_i L(y_i, x_i w + b)`` for each candidate, its gradient, and what ``request`` asks for.
        A row of x with NaN or infinity makes the gradient or ``moments.features`` non-finite, even at w = 0.
    """
    kernel = Kernel(query, loss, request, x.dtype, x.shape[1])
    kernel.add(x, y, weight)
    return kernel.sums()


def make_kernel(
    partition: int, query: np.ndarray, loss: Loss, request: Request, dtype: np.dtype, p: int
) -> PartitionKernel:
    """Return what sums over the rows of one partition."""
    if request.kernel is not None:
        return request.kernel.make(partition, query, loss, request._replace(kernel=None), dtype, p)
    return Kernel(query, loss, request, dtype, p)


class Kernel:
    """`sums_of_rows` of rows that come some at a time: the sums so far, and what is computed once for them all."""

    def __init__(self, query: np.ndarray, loss: Loss, request: Request, dtype: np.dtype, p: int):
        self.query = query
        self.loss = loss
        self.request = request
        self.p = p
        self.classes = classes_of(loss)
        self.total = zero_sums(query, loss, request)
        self.scratch = None
        if isinstance(loss, Model):
            return
        # One flat product for all outputs and candidates.
        self.weights, self.unit = narrow(query[:p].reshape(p, query.shape[1] * query.shape[2]), dtype)
        self.step = block_rows(p, dtype.itemsize)
        if self.classes:
            # What a row has of each class, and of each two for the curvature, may be more than its features.
            each = 8 * max(query.shape[1] * query.shape[2], curvatures(query.shape[1], loss, request))
            self.step = min(self.step, max(BLOCK_ROWS, BLOCK_BYTES // each // 16 * 16))
        if self.total.curvature is not None:
            self.scratch = np.empty((self.step, p), dtype)
        if request.shift is None:
            self.near = None
        else:
            self.near = Near(request.shift, dtype)
        # Added to the predictions of all rows: the intercept, or what the shift has taken from them.
        self.constant: np.ndarray | None = None
        if len(query) > p:
            self.constant = query[p]
        elif request.shift is not None:
            self.constant = np.tensordot(request.shift, query, axes=1)

    def add_rows(self, rows: Any) -> None:
        """`add`, of the rows that a source gives."""
        self.add(rows.x, rows.y, rows.weight, rows.offset)

    def add(self, x, y, weight, offset=None) -> None:
        """Add the sums over some more rows."""
        if not len(x):
            return
        if weight is None:
            total = float(len(x))
        else:
            total = float(weight.sum())
        if isinstance(self.loss, Model):
            self._add_model(x, y, weight, total)
        else:
            for start in range(0, len(x), self.step):
                rows = slice(start, start + self.step)
                self._add_block(x[rows], y[rows], *(None if a is None else a[rows] for a in (weight, offset)))
        self.total = self.total._replace(rows=self.total.rows + len(x), weight=self.total.weight + total)

    def sums(self) -> Sums:
        """When all rows have been added."""
        return self.total

    def _add_model(self, x, y, weight, total: float) -> None:
        """What a model makes of some rows. Its scale is a block's largest mean slope, the same for all parameters."""
        _, _, loss_sum, gradient, _, moments, *_ = self.total
        for i in range(self.query.shape[2]):
            value, slope = self.loss.sums(self.query[:, 0, i], x, y, weight)  # type: ignore[attr-defined]
            loss_sum[i] += value
            gradient[:, 0, i] += slope
            if moments is not None and i == 0:
                moments.features[:] += total
                moments.slopes[:] += np.abs(slope).max() ** 2 / (total or 1.0)
                moments.curvatures[:] += total

    def _add_block(self, rows, target, s, offset) -> None:
        loss = self.loss
        shift = self.request.shift
        curvature = self.total.curvature
        moments = self.total.moments
        if self.classes:
            target = loss.indicators(target)  # type: ignore[attr-defined]
        intercept = len(self.query) > self.p
        block = self.shifted(rows)
        z = self.predicted(block, offset)
        value, slope = loss.value_and_slope(z, target[:, :, None])
        exact = None
        if moments is not None:
            if offset is not None:
                if s is None:
                    moments.offsets[:] += offset.sum()
                else:
                    moments.offsets[:] += s @ offset
            curved = None
            if loss.curvature_bound is None:
                curved = loss.curvature(z[:, :, 0], target)
            add_moments(moments, block if intercept else rows, target, slope[:, :, 0], curved, s)
            if loss.quadratic and block.dtype != float:
                # These sums describe the objective everywhere, also far from here.
                exact = block.astype(float)
        if curvature is not None:
            outputs = curvature.shape[2]
            if self.request.curvature == BOUND and loss.curvature_bound is not None:
                h = np.full((len(block), outputs), loss.curvature_bound)
            else:
                every = slice(None if self.classes else outputs)
                h = loss.curvature(z[:, every, 0], target[:, every])
            if s is not None:
                h = h * s[:, None]
            assert self.scratch is not None
            scratch = self.scratch[: len(block)]
            for output in range(outputs):
                add_curvature(curvature[:, :, output], block, h[:, output], scratch, intercept, shift, exact)
        if exact is not None:
            slope = self._add_mean_slope(exact, slope, s)
        if s is not None:
            value = s[:, None, None] * value
            slope = s[:, None, None] * slope
        self.total.loss[:] += value.sum(axis=(0, 1))
        self.add_gradient(block, slope)

    def _add_mean_slope(self, exact, slope, s) -> np.ndarray:
        """Add the gradient of the mean of slopes (rows, k, m), and return what is left of each of them.

        Targets far from 0 have slopes far from 0, of whose differences float32 would keep few digits.
        """
        if s is None:
            s = np.ones(len(exact))
        total = s.sum()
        if not total > 0:
            return slope
        mean = np.tensordot(s, slope, axes=1) / total
        sums = s @ exact
        if len(self.query) == self.p and self.request.shift is not None:
            sums = sums + total * self.request.shift
        self.total.gradient[: self.p] += np.multiply.outer(sums, mean)
        self.total.gradient[self.p :] += total * mean
        return slope - mean

    def shifted(self, block) -> np.ndarray:
        """Return the rows less the shift, which are valid until the next."""
        if self.near is None:
            return block
        return self.near(block)

    def predicted(self, block, offset) -> np.ndarray:
        """``x w + b`` and the offset, (rows, k, m) in float64, of rows that are `shifted`."""
        z = (block @ self.weights).astype(np.float64, copy=False).reshape(-1, *self.query.shape[1:])
        if self.unit != 1.0:
            z *= self.unit
        if self.constant is not None:
            z = z + self.constant
        if offset is None:
            return z
        return z + offset[:, None, None]

    def add_gradient(self, block, slope) -> None:
        """Add the gradient of weighted slopes (rows, k, m) over rows that are `shifted`."""
        p, (_, k, m), gradient = self.p, self.query.shape, self.total.gradient
        narrowed, unit = narrow(slope.reshape(-1, k * m), block.dtype)
        product = (block.T @ narrowed).reshape(p, k, m)
        if unit == 1.0:
            gradient[:p] += product
        else:
            gradient[:p] += product * unit
        if len(gradient) > p:
            gradient[p] += slope.sum(axis=0)
        elif self.request.shift is not None:
            gradient += self.request.shift[:, None, None] * slope.sum(axis=0)


def add_moments(moments: Moments, block, target, slope, curvature, s) -> None:
    """Add one block's moments.

    ``slope`` and ``curvature`` (rows, k) are unweighted, ``s`` is (rows,) or None; the curvature is None where it has a
    bound, which serves in its place.
    """
    p = block.shape[1]
    block = block.astype(np.float64, copy=False)
    # Without weights there is no need of a block of squares.
    if s is None:
        moments.features[:p] += np.einsum("ij,ij->j", block, block)
    else:
        moments.features[:p] += s @ (block * block)
    if s is None:
        s = np.ones(len(block))
    moments.sums[:p] += s @ block
    for moment in (moments.sums, moments.features):
        moment[p:] += s.sum()
    moments.slopes[:] += s @ slope**2
    moments.targets[:] += s @ target
    if curvature is not None:
        moments.curvatures[:] += s @ curvature


def add_curvature(total, block, h, scratch, intercept, shift, exact) -> None:
    """Add ``[x 1]^T diag(h) [x 1]`` of one block to ``total`` (q, q); the block is x less the shift, if there is one.

    Without an intercept it is ``x^T diag(h) x`` of the rows as they are. ``exact`` is the block in float64, or None.
    """
    p = block.shape[1]
    root, unit = narrow(np.sqrt(h), block.dtype)
    scaled = np.multiply(block, root[:, None], out=scratch)
    # numpy recognises A.T @ A and does half the work (a symmetric rank-k update).
    total[:p, :p] += (scaled.T @ scaled) * unit**2
    if not intercept and shift is None:
        return
    if exact is None:
        cross = (scaled.T @ root) * unit**2
    else:
        cross = h @ exact
    if intercept:
        total[:p, p] += cross
        total[p, :p] += cross
        total[p, p] += h.sum()
    else:
        half = np.outer(shift, cross + 0.5 * h.sum() * shift)
        total += half + half.T
