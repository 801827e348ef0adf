"""What one pass over held-out rows sums for the measures of a fit: losses, errors, orders and bins of predictions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.special import entr, xlogy

from ..kernels.base import Kernel, Part, Request, Sums, take
from ..model.losses import Loss, Tweedie, classes_of, is_log_loss, target_kind_of
from .holdout_kernel import AT_ONCE_BYTES
from .score_errors import Errors, absolute, r2
from .score_order import Order
from .score_summaries import Summary, ones_unless


class TargetSums(NamedTuple):
    """Weights, losses, targets, and functions of them, by output; of several classes targets are by class."""

    weight: float
    losses: np.ndarray  # (k,) or (1,)
    targets: np.ndarray  # (k,) or (classes,)
    #: The part of the losses that depends on the targets alone, see `own_part`.
    own: np.ndarray
    #: Of classes: the rows that are right, and the squared errors of the probabilities.
    right: np.ndarray
    squared: np.ndarray

    def plus(self, other: TargetSums) -> TargetSums:
        """Return the sums over the rows of both."""
        pairs: Any = zip(self, other, strict=True)
        return TargetSums(*(mine + theirs for mine, theirs in pairs))


def own_part(loss: Loss, y: np.ndarray) -> np.ndarray:
    """Return the part of half the deviance that depends on the target alone.

    Half the deviance of rows about their mean is the sum of it less as many times its value at the mean: that of the
    model without features.
    """
    if isinstance(loss, Tweedie):
        power = loss.power
        if power == 1:
            return xlogy(y, y)
        if power == 2:
            return -np.log(y)
        return y ** (2 - power) / ((1 - power) * (2 - power))
    if is_log_loss(loss):
        return -entr(y) - entr(1 - y)
    return np.zeros_like(y)


@dataclass(frozen=True)
class Targets(Summary):
    """The sums of losses and targets."""

    loss: Loss
    outputs: int

    @property
    def classes(self) -> int | None:
        """The number of classes, None where there are not several."""
        return classes_of(self.loss)

    def begin(self) -> TargetSums:
        k = self.outputs
        if self.classes:
            return TargetSums(0.0, np.zeros(1), np.zeros(self.classes), np.zeros(1), np.zeros(1), np.zeros(1))
        return TargetSums(0.0, *(np.zeros(k) for _ in range(5)))

    def add(self, sums: TargetSums, y: np.ndarray, z: np.ndarray, weight: np.ndarray | None) -> TargetSums:
        loss: Any = self.loss
        s = ones_unless(weight, len(y))
        targets = y
        if self.classes:
            targets = loss.indicators(y)
        value, _ = loss.value_and_slope(z[:, :, None], targets[:, :, None])
        value = value[:, :, 0]
        right = squared = own = np.zeros_like(y)
        if self.classes:
            value = value.sum(axis=1, keepdims=True)
            predicted = loss.inverse_link(z)
            right = (z.argmax(axis=1) == y[:, 0])[:, None]
            squared = ((predicted - targets) ** 2).sum(axis=1, keepdims=True)
        elif target_kind_of(loss) == "two classes":
            right = (z > 0) == (y > 0.5)
            squared = (loss.inverse_link(z) - y) ** 2
        if has_deviance(loss) and not self.classes:
            own = own_part(loss, y)
        return sums.plus(TargetSums(float(s.sum()), s @ value, s @ targets, s @ own, s @ right, s @ squared))

    def score(self, sums: TargetSums) -> float:
        return float(sums.losses.sum() / sums.weight)

    def bytes_of_sums(self, rows: int, k: int) -> int:
        return 8 * (5 * k + 1)

    def null_deviance(self, sums: TargetSums) -> np.ndarray:
        """Return the deviances of predictions that are the mean of the targets, (k,)."""
        mean = sums.targets / sums.weight
        if self.classes:
            return np.array([2 * sums.weight * entr(mean).sum()])
        if target_kind_of(self.loss) == "two classes":
            return 2 * sums.weight * (entr(mean) + entr(1 - mean))
        return 2 * (sums.own - sums.weight * own_part(self.loss, mean))


def has_deviance(loss: Loss) -> bool:
    """Return whether twice the loss is the deviance of a likelihood, whose best constant is the mean of the targets."""
    return isinstance(loss, Tweedie) or is_log_loss(loss)


class BinSums(NamedTuple):
    """The weights of rows, their predictions and targets, by bin of the prediction."""

    weights: np.ndarray
    predicted: np.ndarray
    observed: np.ndarray
    rows: np.ndarray

    def plus(self, other: BinSums) -> BinSums:
        """Return the sums over the rows of both."""
        return BinSums(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


@dataclass(frozen=True)
class Bins(Summary):
    """The mean prediction and the mean target in bins of equal width of the probability."""

    bins: int
    inverse_link: Callable[[np.ndarray], np.ndarray]

    @property
    def edges(self) -> np.ndarray:
        """The bins' edges, from 0 to 1."""
        return np.linspace(0, 1, self.bins + 1)

    def begin(self) -> BinSums:
        return BinSums(*(np.zeros(self.bins) for _ in range(4)))

    def add(self, sums: BinSums, y: np.ndarray, z: np.ndarray, weight: np.ndarray | None) -> BinSums:
        s = ones_unless(weight, len(y))
        predicted = self.inverse_link(z[:, 0])
        number = np.searchsorted(self.edges[1:-1], predicted)
        counted = [np.bincount(number, each, self.bins) for each in (s, s * predicted, s * y[:, 0])]
        rows = np.bincount(number, minlength=self.bins).astype(float)
        return sums.plus(BinSums(counted[0], counted[1], counted[2], rows))

    def score(self, sums: BinSums) -> float:
        """Return the mean distance of predicted from observed shares, weighted by the rows' weights."""
        return float(np.abs(sums.predicted - sums.observed).sum() / sums.weights.sum())

    def bytes_of_sums(self, rows: int, k: int) -> int:
        return 32 * self.bins


def summaries_of(loss: Loss, outputs: int, bins: int) -> dict[str, Summary]:
    """Return what is summed for the measures of a loss, by name; "order" and "bins" for each output by itself."""
    kind = target_kind_of(loss)
    found: dict[str, Summary] = {"targets": Targets(loss, outputs)}
    if kind in ("real", "amount"):
        found["errors"] = Errors(outputs, r2, loss.inverse_link, absolute)
    if kind == "two classes":
        found["order"] = Order("roc_auc")
        if is_log_loss(loss):
            found["bins"] = Bins(bins, loss.inverse_link)
    return found


class Measured(NamedTuple):
    """A request for summaries of the predictions of all rows at the first candidate."""

    summaries: dict[str, Summary]
    #: How many times larger the sums are than those at the query.
    times: int

    def copies(self, m: int) -> int:
        """Return how many times larger the sums are than those at the query."""
        return self.times

    def make(self, part: Part) -> MeasureKernel:
        return MeasureKernel(self, part)


class MeasureSums(NamedTuple):
    """The sums at the query, without a gradient, and the summaries by name, of each output where they are of one."""

    at_query: Sums
    summaries: dict[str, Any]

    def plus(self, other: MeasureSums) -> MeasureSums:
        """Return the sums over the rows of both."""
        summaries: dict[str, Any] = {}
        for name, mine in self.summaries.items():
            theirs = other.summaries[name]
            if isinstance(mine, list):
                summaries[name] = [a.plus(b) for a, b in zip(mine, theirs, strict=True)]
            else:
                summaries[name] = mine.plus(theirs)
        return MeasureSums(self.at_query.plus(other.at_query), summaries)


#: Summaries that are of a single output.
OF_AN_OUTPUT = ("order", "bins")


class MeasureKernel(Kernel):
    """The kernel of `Measured`."""

    def __init__(self, spec: Measured, part: Part):
        super().__init__(part._replace(request=Request(shift=part.request.shift)))
        # There is no gradient.
        self.begin_sums(part.query[:1, :1, :1])
        self.spec = spec
        k = part.query.shape[1]
        self.found: dict[str, Any] = {}
        for name, summary in spec.summaries.items():
            if name in OF_AN_OUTPUT:
                self.found[name] = [summary.begin() for _ in range(k)]
            else:
                self.found[name] = summary.begin()

    def add_rows(self, rows: Any) -> None:
        n = len(rows.y)
        # As many blocks of the kernel together as their predictions have room for.
        blocks = max(1, AT_ONCE_BYTES // (8 * self.query.shape[1] * self.step))
        size = blocks * self.step
        for start in range(0, n, size):
            parts = []
            for first in range(start, min(start + size, n), self.step):
                of_block = slice(first, first + self.step)
                block = self.workspace.block(self.row_format.take(rows.x, of_block))
                parts.append(self.predicted(block, take(rows.offset, of_block))[:, :, 0])
            part = slice(start, start + size)
            self._summarise(rows.y[part], np.concatenate(parts), take(rows.weight, part))
        weight = float(n)
        if rows.weight is not None:
            weight = float(rows.weight.sum())
        self.total = self.total._replace(rows=self.total.rows + n, weight=self.total.weight + weight)

    def _summarise(self, y: np.ndarray, z: np.ndarray, weight: np.ndarray | None) -> None:
        """Add rows to the summaries."""
        # A prediction or a target that is not finite shows in the loss, and its row is looked for.
        self.total.loss[:] += z.sum() + y.sum()
        if not np.isfinite(self.total.loss).all():
            return
        for name, summary in self.spec.summaries.items():
            if name not in OF_AN_OUTPUT:
                self.found[name] = summary.add(self.found[name], y, z, weight)
                continue
            for output, sums in enumerate(self.found[name]):
                one = [output]
                self.found[name][output] = summary.add(sums, y[:, one], z[:, one], weight)

    def sums(self) -> MeasureSums:  # type: ignore[override]
        return MeasureSums(self.total, self.found)
