"""Sums over values from which transforms learn: moments, distinct values, and exact order statistics.

Order statistics of more distinct values than are kept are found by counting: the values' bits, as whole numbers in the
order of the values, are cut into intervals, of which those that hold a wanted rank are cut again until they hold a
single value. That takes five readings of the column at most, and what is found is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

#: Distinct values that are kept with their counts.
MOST = 1 << 18
#: Intervals that an interval is cut into.
CUTS = 1 << 14


class Spread(NamedTuple):
    """The moments of values, and the distinct values with their counts where these are few enough."""

    total: int = 0
    mean: float = 0.0
    #: The sum of squares about the mean.
    squares: float = 0.0
    low: float = np.inf
    high: float = -np.inf
    #: None: more than are kept, or not asked for.
    values: np.ndarray | None = None
    counts: np.ndarray | None = None

    def plus(self, other: Spread) -> Spread:
        """Return the spread of the values of both (Chan, Golub and LeVeque, 1983)."""
        if not self.total or not other.total:
            return max(self, other, key=lambda spread: spread.total)
        count = self.total + other.total
        difference = other.mean - self.mean
        mean = self.mean + difference * (other.total / count)
        squares = self.squares + other.squares + difference**2 * (self.total * other.total / count)
        values = counts = None
        if self.values is not None and other.values is not None:
            both = np.concatenate([self.values, other.values])
            of_both = np.concatenate([self.counts, other.counts])  # type: ignore[list-item]
            values, places = np.unique(both, return_inverse=True)
            counts = np.bincount(places, of_both).astype(np.int64)
            values, counts = _few(values, counts)
        low = min(self.low, other.low)
        high = max(self.high, other.high)
        return Spread(count, mean, squares, low, high, values, counts)


def spread_of(x: np.ndarray, keeps_values: bool) -> Spread:
    """Return the spread of the values (n,) that are finite."""
    x = x[np.isfinite(x)]
    if not len(x):
        if keeps_values:
            return Spread(values=np.empty(0), counts=np.empty(0, np.int64))
        return Spread()
    mean = float(x.mean())
    # The rounding of the mean is taken out again.
    about = x - mean
    mean += float(about.mean())
    about = x - mean
    values = counts = None
    if keeps_values:
        values, counts = _few(*np.unique(x, return_counts=True))
    return Spread(len(x), mean, float(about @ about), float(x.min()), float(x.max()), values, counts)


def _few(values: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return distinct values and counts, or None of each where there are too many."""
    if len(values) > MOST:
        return None, None
    return values, counts


def quantiles_of_counts(values: np.ndarray, counts: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return quantiles of ascending values that occur so often, by linear interpolation as NumPy's."""
    until = np.cumsum(counts)
    position = shares * (until[-1] - 1)
    ranks = np.floor(position).astype(np.int64)
    low = values[np.searchsorted(until, ranks, side="right")]
    high = values[np.searchsorted(until, np.minimum(ranks + 1, until[-1] - 1), side="right")]
    return between(low, high, position - ranks)


def between(low: np.ndarray, high: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return the values at a share of the way, as NumPy's quantiles round them."""
    step = high - low
    return np.where(share >= 0.5, high - step * (1 - share), low + step * share)


def keys_of(x: np.ndarray) -> np.ndarray:
    """Return whole numbers (n,) uint64 in the order of the values."""
    bits = (x + 0.0).view(np.uint64)
    sign = np.uint64(1 << 63)
    return np.where(bits & sign, ~bits, bits | sign)


def values_of(keys: np.ndarray) -> np.ndarray:
    """Return the values of keys."""
    sign = np.uint64(1 << 63)
    return np.where(keys & sign, keys ^ sign, ~keys).view(float)


class Interval(NamedTuple):
    """Keys from ``start`` on, ``cuts`` times ``width`` of them; ``before`` values have smaller keys."""

    start: int
    width: int
    before: int

    def cut(self, keys: np.ndarray) -> np.ndarray:
        """Return the number of each key's cut, `CUTS` or more beyond the interval."""
        return (keys - np.uint64(self.start)) // np.uint64(self.width)


class Counted(NamedTuple):
    """How many values lie in the cuts of each interval, (intervals, CUTS)."""

    counts: np.ndarray

    def plus(self, other: Counted) -> Counted:
        """Return the counts of the values of both."""
        return Counted(self.counts + other.counts)


@dataclass(frozen=True)
class Selection:
    """What is asked of values next: how many lie in the cuts of these intervals."""

    intervals: tuple[Interval, ...]

    def of(self, x: np.ndarray) -> Counted:
        """Return the counts of values."""
        keys = keys_of(x[np.isfinite(x)])
        counts = np.zeros((len(self.intervals), CUTS), np.int64)
        for found, interval in zip(counts, self.intervals, strict=True):
            cuts = interval.cut(keys[keys >= np.uint64(interval.start)])
            found += np.bincount(cuts[cuts < CUTS].astype(np.intp), minlength=CUTS)
        return Counted(counts)


def first_selection(low: float, high: float) -> Selection:
    """Return what is asked first of values between these."""
    start, end = (int(key) for key in keys_of(np.array([low, high])))
    return Selection((Interval(start, -(-(end - start + 1) // CUTS), 0),))


def selected(
    selection: Selection,
    counted: Counted,
    ranks: list[int],
) -> tuple[Selection | None, dict[int, float]]:
    """Return what is asked next, None if nothing is, and the values at those ranks that are known."""
    found: dict[int, float] = {}
    wanted: dict[Interval, None] = {}
    for rank in ranks:
        for interval, counts in zip(selection.intervals, counted.counts, strict=True):
            until = interval.before + np.cumsum(counts)
            if not interval.before <= rank < until[-1]:
                continue
            cut = int(np.searchsorted(until, rank, side="right"))
            start = interval.start + cut * interval.width
            if interval.width == 1:
                found[rank] = float(values_of(np.array([start], np.uint64))[0])
            else:
                before = int(until[cut] - counts[cut])
                wanted[Interval(start, -(-interval.width // CUTS), before)] = None
            break
    if not wanted:
        return None, found
    return Selection(tuple(wanted)), found
