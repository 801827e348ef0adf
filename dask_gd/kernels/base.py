"""The kernel that fills `Sums` from a block of rows: loss, gradient, curvature and moments at a query.

Shapes are those of `sums`, whose names are here too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..model.losses import Loss, Model, classes_of
from .block import Block, Workspace, dense_rows
from .curvature_sum import CurvatureSum
from .dense import DenseRows
from .products import BLOCK_BYTES, BLOCK_ROWS, block_rows
from .sums import (
    BOUND,
    EXACT,
    FAN_IN,
    FAN_IN_BYTES,
    GRAM_LIMIT,
    KernelSpec,
    Moments,
    Part,
    PartitionKernel,
    PartitionSums,
    Request,
    Sums,
    candidates,
    combine,
    copies_of,
    curvatures,
    expand_class_pairs,
    fan_in,
    sums_bytes,
    zero_sums,
)
from .thinning import Thinning

__all__ = [
    "BLOCK_BYTES",
    "BLOCK_ROWS",
    "BOUND",
    "EXACT",
    "FAN_IN",
    "FAN_IN_BYTES",
    "GRAM_LIMIT",
    "Kernel",
    "KernelSpec",
    "Moments",
    "Part",
    "PartitionKernel",
    "PartitionSums",
    "Request",
    "Sums",
    "add_moments_of_outputs",
    "block_rows",
    "candidates",
    "combine",
    "copies_of",
    "curvatures",
    "expand_class_pairs",
    "fan_in",
    "make_kernel",
    "sums_bytes",
    "sums_of_rows",
    "take",
    "zero_sums",
]


def sums_of_rows(x, y, weight, query, loss: Loss, request: Request) -> Sums:
    """Return the sums over these rows, which are swept in cache blocks.

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
    kernel = Kernel(Part(0, query, loss, request, DenseRows(x.dtype, x.shape[1])))
    kernel.add(x, y, weight)
    return kernel.sums()


def make_kernel(part: Part) -> PartitionKernel:
    """Return the kernel that sums over the rows of one partition."""
    spec = part.request.kernel
    if spec is None:
        return Kernel(part)
    without_spec = part.request._replace(kernel=None)
    return spec.make(part._replace(request=without_spec))


class Kernel:
    """`sums_of_rows` of rows that come a few chunks at a time: the sums so far, and constants for all of the rows."""

    thinning: Thinning | None = None
    #: Second derivatives (rows, k) of the loss in the block at hand, where its moments have them.
    second: np.ndarray | None = None

    def __init__(self, part: Part, workspace: Workspace | None = None):
        _, query, loss, request, row_format = part
        p = row_format.features
        self.part = part
        self.query = query
        self.loss = loss
        self.request = request
        self.row_format = row_format
        self.p = p
        self.classes = classes_of(loss)
        # Products are those of the rows less the shift, so that they keep their digits.
        if workspace is None:
            workspace = row_format.workspace(request.shift)
        self.workspace = workspace
        # The sums of a quadratic loss describe the objective everywhere, also far from here.
        self.sums_in_float64 = bool(request.moments and loss.quadratic and row_format.dtype != float)
        self.begin_sums(query)
        # A model takes its rows whole, and multiplies them itself.
        if isinstance(loss, Model):
            return
        # Without an intercept the moments are those of the rows as they are.
        self.unshifted_workspace = workspace
        if request.shift is not None and len(query) == p:
            self.unshifted_workspace = row_format.workspace(None)
        # All outputs and candidates are multiplied at once, as the columns of one matrix.
        _, k, m = query.shape
        self.weights = workspace.weights(query[:p].reshape(p, k * m))
        # Rows are multiplied in blocks that stay in the cache.
        self.step = row_format.block_rows
        if self.classes:
            # A row's values for each class, and for each pair of them in the curvature, may be more than its features.
            row_bytes = 8 * max(k * m, curvatures(k, loss, request))
            rows = BLOCK_BYTES // row_bytes // 16 * 16
            self.step = min(self.step, max(BLOCK_ROWS, rows))
        # Which rows' curvature is added, where that is not all of them, and the memory for these.
        if request.curvature and request.thin > 1:
            self.thinning = Thinning(request.thin, self.step, len(query))
            self.thinned_workspace = row_format.workspace(request.shift)
        # Added to the predictions of all rows: the intercept, or the part that the shift has taken from them.
        self.constant: np.ndarray | None = None
        if len(query) > p:
            self.constant = query[p]
        elif request.shift is not None:
            self.constant = np.tensordot(request.shift, query, axes=1)

    def begin_sums(self, query: np.ndarray) -> None:
        """Begin with sums of 0 at a query, which may have fewer candidates than the kernel's."""
        total = zero_sums(query, self.loss, self.request)
        self.total = total
        #: Adds up the curvature of each output that has a matrix.
        self.curvature_sums: list[CurvatureSum] = []
        if total.curvature is not None:
            for output in range(total.curvature.shape[2]):
                self.curvature_sums.append(
                    CurvatureSum(
                        total.curvature[:, :, output],
                        self.workspace,
                        self.p,
                        shift=self.request.shift,
                        in_float64=self.sums_in_float64,
                        is_rough=self.request.is_rough,
                    )
                )

    def add_rows(self, rows: Any) -> None:
        """Add the sums over rows as a source reads them."""
        self.add(rows.x, rows.y, rows.weight, rows.offset)

    def add(self, x, y, weight, offset=None) -> None:
        """Add the sums over more rows; ``x`` has them as the row format does, and the others are arrays."""
        if not len(y):
            return
        if self.request.left_out is not None:
            weight = self.row_format.without_levels(x, weight, self.request.left_out)  # type: ignore[attr-defined]
        if weight is None:
            total = float(len(y))
        else:
            total = float(weight.sum())
        # A model sums over all of the rows itself; a loss sees them block by block.
        if isinstance(self.loss, Model):
            self._add_rows_of_model(x, y, weight)
        else:
            for start in range(0, len(y), self.step):
                rows = slice(start, start + self.step)
                self._add_block(
                    self.row_format.take(x, rows),
                    y[rows],
                    take(weight, rows),
                    take(offset, rows),
                )
        self.total = self.total._replace(
            rows=self.total.rows + len(y),
            weight=self.total.weight + total,
        )

    def sums(self) -> Sums:
        """Return the sums when all rows have been added: until then the curvature may lack some of them."""
        for curvature_sum in self.curvature_sums:
            curvature_sum.flush()
        curvature = self.total.curvature
        if curvature is None:
            return self.total
        if self.thinning is not None:
            return self.total._replace(curvature=self.thinning.of_all_rows(curvature))
        return self.total._replace(products=sum(each.products for each in self.curvature_sums))

    def _add_rows_of_model(self, x, y, weight) -> None:
        """Add a model's sums over rows, which it takes as an array; those that are none are written out in parts."""
        step = len(y)
        if not isinstance(x, np.ndarray):
            step = block_rows(self.p, 8)
        for start in range(0, len(y), step):
            part = slice(start, start + step)
            array = dense_rows(self.row_format, self.row_format.take(x, part), repr(self.loss))
            self._add_model(array, y[part], take(weight, part))

    def _add_model(self, x: np.ndarray, y, weight) -> None:
        """Add a model's sums over rows. Its scale is a block's largest mean slope, the same for all parameters."""
        if weight is None:
            total = float(len(y))
        else:
            total = float(weight.sum())
        moments = self.total.moments
        for i in range(self.query.shape[2]):
            value, slope = self.loss.sums(self.query[:, 0, i], x, y, weight)  # type: ignore[attr-defined]
            self.total.loss[i] += value
            self.total.gradient[:, 0, i] += slope
            # Moments are those of the first candidate.
            if moments is not None and i == 0:
                moments.features[:] += total
                moments.slopes[:] += np.abs(slope).max() ** 2 / (total or 1.0)
                moments.curvatures[:] += total

    def _add_block(self, rows, target, s, offset) -> None:
        """Add the sums over the rows of one cache block; ``s`` (rows,) are their weights, or None."""
        loss = self.loss
        if self.classes:
            target = loss.indicators(target)  # type: ignore[attr-defined]
        block = self.workspace.block(rows)
        z = self.predicted(block, offset)
        value, slope = loss.value_and_slope(z, target[:, :, None])

        # Moments, and curvature where it is asked for, are those of the first candidate.
        if self.total.moments is not None:
            self._add_moments(rows, block, target, z, slope, s, offset)
        self._add_curvature(rows, block, target, z, s)

        # Loss and gradient are those of all candidates.
        if self.sums_in_float64:
            slope = self._add_mean_slope(block, slope, s)
        if s is not None:
            value = s[:, None, None] * value
            slope = s[:, None, None] * slope
        self.total.loss[:] += value.sum(axis=(0, 1))
        self.add_gradient(block, slope)

    def _add_moments(self, rows, block, target, z, slope, s, offset) -> None:
        """Add a block's moments."""
        assert self.total.moments is not None
        self._add_moments_of_features(rows, block, len(target), s, offset)
        # The bound of a curvature, where there is one, serves in its place.
        if self.loss.curvature_bound is None:
            self.second = self.loss.curvature(z[:, :, 0], target)
        add_moments_of_outputs(self.total.moments, target, slope=slope[:, :, 0], curvature=self.second, s=s)

    def _add_moments_of_features(self, rows, block: Block, count: int, s, offset) -> None:
        """Add the moments of the features of a block of ``count`` rows, and of its offsets.

        They are those of the rows less the shift, or without an intercept of the rows as they are.
        """
        moments = self.total.moments
        assert moments is not None
        features = block
        if self.unshifted_workspace is not self.workspace:
            features = self.unshifted_workspace.block(rows)
        sums, squares = features.sums_and_squares(s)
        p = self.p
        moments.sums[:p] += sums
        moments.features[:p] += squares

        # The intercept, if there is one, is a feature that is 1 in every row.
        weight = float(count)
        if s is not None:
            weight = s.sum()
        moments.sums[p:] += weight
        moments.features[p:] += weight
        # Offsets count towards the scale of the predictions.
        if offset is not None:
            if s is None:
                moments.offsets[:] += offset.sum()
            else:
                moments.offsets[:] += s @ offset

    def _add_curvature(self, rows, block: Block, target, z, s) -> None:
        """Add a block's curvature, or its bound, for each output that has a matrix, where there are any."""
        curvature = self.total.curvature
        if curvature is None:
            return
        outputs = curvature.shape[2]
        # The second derivatives (rows, outputs) of the loss in the predictions.
        if self.request.curvature == BOUND and self.loss.curvature_bound is not None:
            h = np.full((len(z), outputs), self.loss.curvature_bound)
        elif self.classes:
            h = self.loss.curvature(z[:, :, 0], target)
        elif self.second is not None:
            h = self.second[:, :outputs]
        else:
            h = self.loss.curvature(z[:, :outputs, 0], target[:, :outputs])
        if s is not None:
            h = h * s[:, None]
        if self.thinning is not None:
            if not self.thinning.takes(block, h):
                return
            first = slice(self.thinning.rows)
            block = self.thinned_workspace.block(self.row_format.take(rows, first))
            h = h[first]
        for output in range(outputs):
            self.curvature_sums[output].add(block, h[:, output])

    def _add_mean_slope(self, block: Block, slope, s) -> np.ndarray:
        """Add the gradient of the mean of slopes (rows, k, m), and return the slopes less the mean.

        Targets far from 0 have slopes far from 0, of whose differences float32 would keep few digits.
        """
        if s is None:
            s = np.ones(len(slope))
        total = s.sum()
        if not total > 0:
            return slope
        mean = np.tensordot(s, slope, axes=1) / total
        sums = block.sums(s)
        # Without an intercept the gradient is that of the rows as they are.
        if len(self.query) == self.p and self.request.shift is not None:
            sums = sums + total * self.request.shift
        self.total.gradient[: self.p] += np.multiply.outer(sums, mean)
        self.total.gradient[self.p :] += total * mean
        return slope - mean

    def predicted(self, block: Block, offset) -> np.ndarray:
        """Return ``x w + b`` and the offset, (rows, k, m) in float64."""
        z = block.times(self.weights).reshape(-1, *self.query.shape[1:])
        if self.constant is not None:
            z += self.constant
        if offset is not None:
            z += offset[:, None, None]
        return z

    def add_gradient(self, block: Block, slope, outputs: slice = slice(None), into: np.ndarray | None = None) -> None:
        """Add the gradient of weighted slopes (rows, k, m), of consecutive outputs, to the total or to another."""
        p = self.p
        if into is None:
            into = self.total.gradient
        gradient = into[:, outputs]
        columns = gradient[:p].reshape(p, -1)
        block.add_transposed_times(slope.reshape(len(slope), -1), columns)
        # The intercept has a gradient of its own; without one the shift's share is added back.
        if len(gradient) > p:
            gradient[p] += slope.sum(axis=0)
        elif self.request.shift is not None:
            gradient += self.request.shift[:, None, None] * slope.sum(axis=0)


def take(values: np.ndarray | None, rows: slice | np.ndarray) -> np.ndarray | None:
    """Return the values of these rows; None where there are no values."""
    if values is None:
        return None
    return values[rows]


def add_moments_of_outputs(moments: Moments, target, slope, curvature, s) -> None:
    """Add one block's moments of targets and slopes.

    ``slope`` and ``curvature`` (rows, k) are unweighted, ``s`` is (rows,) or None; the curvature is None where it has a
    bound, which serves in its place.
    """
    if s is None:
        s = np.ones(len(target))
    moments.slopes[:] += s @ slope**2
    moments.targets[:] += s @ target
    if curvature is not None:
        moments.curvatures[:] += s @ curvature
