"""Fit a quantile's pinball loss through a sequence of smoothed ones, each nearer to it.

The corner of the pinball loss is rounded over a width, one for each output. The first width is the spread of the
residuals. Where the smoothed loss is at its minimum, a pass over the residuals tells how far the pinball loss can be
above its own minimum: the slopes of the smoothed loss are a feasible point of the linear programme's dual, so that
the mean of ``pinball(r) + slope r`` bounds the distance (Boyd and Vandenberghe, 2004, section 5.5.1). As long as that
is too much, or the share of rows below the prediction is off, the width is divided and the fit goes on from its weights
(Chen, 2007, "A finite smoothing algorithm for quantile regression").
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..kernels.base import Kernel, Part, Sums
from ..model.losses import Loss, Quantile
from ..model.losses.regression import SmoothedPinball, pinball

#: Distance from the minimum that is left, as a share of the pinball loss, and of the share of rows below.
GAP, BIAS = 4e-4, 3e-3
#: Distance at which nothing else matters, where rows share their targets and no width gives each its place.
NEGLIGIBLE_GAP = 1e-7
#: What the width is divided by, and the least, as a share of the spread, in float64 and for float32.
SHRINK, LEAST, LEAST_SINGLE = 4.0, 1e-9, 1e-6
#: The width of solvers whose steps read some partitions, which cannot tell when to go on; a share of the spread.
FIXED = 0.25

#: What `ResidualsKernel` sums, each for every output.
SUMS = ("weight", "mean", "scatter", "size", "pinball", "gap", "bias", "within")


class Summary(NamedTuple):
    """What a pass tells of the residuals ``r = y - z``, (k,) each."""

    mean: np.ndarray
    spread: np.ndarray  # standard deviation
    size: np.ndarray  # mean of the targets' absolute values
    pinball: np.ndarray  # mean loss
    gap: np.ndarray  # bound of its distance to the minimum
    bias: np.ndarray  # how far the share of rows below is off
    within: np.ndarray  # rows where the corner is rounded


class Residuals(NamedTuple):
    """Asks for sums over the residuals at the query, see `ResidualSums`."""

    quantile: float
    widths: np.ndarray  # (k,)

    def make(self, part: Part) -> Kernel:
        return ResidualsKernel(self, part)


class ResidualsKernel(Kernel):
    """Sums over one partition's residuals."""

    def __init__(self, asked: Residuals, part: Part):
        super().__init__(part)
        self.quantile = asked.quantile
        self.smoothed = SmoothedPinball(asked.quantile, asked.widths)
        self.found = np.zeros((len(SUMS), part.query.shape[1], 1))

    def _add_block(self, rows, target, s, offset) -> None:
        z = self.predicted(self.workspace.block(rows), offset)[:, :, 0]
        if s is None:
            s = np.ones(len(z))
        residual = target - z
        loss = pinball(residual, self.quantile)
        _, slope = self.smoothed.value_and_slope(z, target)
        steep = np.where(residual > 0, -self.quantile, 1 - self.quantile)
        within = (self.smoothed.curvature(z, target) > 0) & (s > 0)[:, None]
        total = s.sum()
        mean = s @ residual / (total or 1.0)
        terms = (
            np.full(len(mean), total),
            mean,
            s @ (residual - mean) ** 2,
            s @ np.abs(target),
            s @ loss,
            s @ (loss + slope * residual),
            s @ (slope - steep),
            within.sum(axis=0),
        )
        self.found = merged(self.found, np.stack(terms)[:, :, None])
        # Where a value is not finite, this is not either, and the pass looks for it.
        self.total.loss[:] += loss.sum()

    def sums(self) -> ResidualSums:  # type: ignore[override]
        return ResidualSums(self.total, self.found)


class ResidualSums(NamedTuple):
    """The sums at the query, and those over the residuals of each partition, which `summary_of` puts together."""

    at_query: Sums
    residuals: np.ndarray  # (`SUMS`, k, partitions)

    def plus(self, other: ResidualSums) -> ResidualSums:
        """Add up the sums at the query, and put the partitions' residuals side by side."""
        residuals = np.concatenate([self.residuals, other.residuals], axis=2)
        return ResidualSums(self.at_query.plus(other.at_query), residuals)


def merged(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the sums over the rows of both, (sums, k, 1); mean and scatter by Chan, Golub and LeVeque (1983)."""
    total = a[0] + b[0]
    share = np.divide(b[0], total, out=np.zeros_like(total), where=total > 0)
    apart = b[1] - a[1]
    both = a + b
    both[1] = a[1] + share * apart
    both[2] += a[0] * share * apart**2
    return both


def summary_of(local: np.ndarray) -> Summary:
    """Return the means over all partitions, (`SUMS`, k, partitions)."""
    total = local[:, :, :1]
    for i in range(1, local.shape[2]):
        total = merged(total, local[:, :, i : i + 1])
    weight, mean, scatter, size, loss, gap, bias, within = total[:, :, 0]
    weight = np.where(weight > 0, weight, 1.0)
    return Summary(
        mean=mean,
        spread=np.sqrt(scatter / weight),
        size=size / weight,
        pinball=loss / weight,
        gap=gap / weight,
        bias=bias / weight,
        within=within,
    )


class Smoothing(NamedTuple):
    """Where a sequence of smoothed losses has come to; a checkpoint holds all but the quantile."""

    quantile: float
    widths: np.ndarray  # (k,) 0 before the residuals' spread is known
    least: np.ndarray  # (k,) widths below which nothing but rounding is to be had
    settled: np.ndarray  # () 1 if the widths are those to end with

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what a checkpoint holds."""
        return {"widths": self.widths, "least": self.least, "settled": self.settled}

    @property
    def begun(self) -> bool:
        """The widths are known."""
        return bool(self.widths.all())

    def loss(self) -> SmoothedPinball:
        """Return the loss that passes evaluate."""
        return SmoothedPinball(self.quantile, self.widths)

    def asked(self) -> Residuals:
        """Return what to ask a pass for."""
        widths = np.where(self.widths > 0, self.widths, 1.0)
        return Residuals(self.quantile, widths)

    def begin(
        self,
        residuals: Summary,
        centred: bool,
        dtype: np.dtype,
        batched: bool,
    ) -> Smoothing:
        """Return the first widths, from the residuals at the start; about their mean if that can be ``centred``."""
        spread = residuals.spread
        if not centred:
            spread = np.hypot(spread, residuals.mean)
        rounding = 16 * np.finfo(float).eps * residuals.size
        spread = np.maximum(spread, rounding)
        spread = np.where(spread > 0, spread, 1.0)
        widths = spread
        if batched:
            widths = spread * FIXED
        return self._replace(
            widths=widths,
            least=least_share(dtype) * spread + rounding,
            settled=np.array(float(batched)),
        )

    def again(self, widths: np.ndarray, dtype: np.dtype) -> Smoothing:
        """Return these widths, of a fit that ended with them."""
        return self._replace(widths=widths, least=least_share(dtype) * widths)

    def sharpen(self, residuals: Summary, parameters: int) -> Smoothing:
        """Return narrower widths of the outputs that need them, from the residuals at the smoothed loss's minimum."""
        # A minimum of the pinball loss may meet as many rows as there are parameters, which no width tells apart.
        is_negligible = residuals.gap <= NEGLIGIBLE_GAP * residuals.pinball
        is_placed = (np.abs(residuals.bias) <= BIAS) | (residuals.within <= 2 * parameters) | is_negligible
        is_near = residuals.gap <= GAP * residuals.pinball
        is_narrowest = self.widths <= self.least
        done = (is_near & is_placed) | is_narrowest
        narrower = np.maximum(self.widths / SHRINK, self.least)
        return self._replace(
            widths=np.where(done, self.widths, narrower),
            settled=np.array(float(done.all())),
        )


def least_share(dtype: np.dtype) -> float:
    """Return the least width as a share of the spread, for features of this dtype."""
    if dtype == np.float32:
        return LEAST_SINGLE
    return LEAST


def smoothing_of(loss: Loss, outputs: int) -> Smoothing | None:
    """Return how the loss is smoothed, if it is a quantile's without a smoothing of its own."""
    # Of this loss alone it is known how far a smoothed one is from it, see `Summary.gap`.
    if not isinstance(loss, Quantile) or loss.smoothing is not None:
        return None
    return Smoothing(loss.quantile, np.zeros(outputs), np.zeros(outputs), np.array(0.0))
