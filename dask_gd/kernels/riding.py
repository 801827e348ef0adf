"""Kernels that ride on the reading of another: each row is read once, and every kernel sums over it."""

from __future__ import annotations

from typing import Any, NamedTuple

from .base import make_kernel
from .sums import KernelSpec, Part, PartitionKernel, PartitionSums, Sums, copies_of


class Riding(NamedTuple):
    """The sums of more kernels, the riders, beside those that a request would have without them.

    A solver sees the sums of the first kernel; the riders' sums are for whoever asked for them.
    """

    riders: tuple[KernelSpec, ...]
    #: The request's own kernel; None for `Kernel`.
    first: KernelSpec | None = None

    def copies(self, m: int) -> int:
        """Return how many times the sums at a query of m candidates there are in the largest kernel's."""
        return max(copies_of(kernel, m) for kernel in (self.first, *self.riders))

    def make(self, part: Part) -> RidingKernel:
        """Return the kernels of a partition as one kernel."""
        request_of_first = part.request._replace(kernel=self.first)
        first = make_kernel(part._replace(request=request_of_first))
        # Curvature and moments are summed once, by the first.
        plain = part.request._replace(curvature=None, moments=False)
        riders = [rider.make(part._replace(request=plain)) for rider in self.riders]
        return RidingKernel(first, riders)


class RidingKernel:
    """The kernels of one partition."""

    def __init__(self, first: PartitionKernel, riders: list[PartitionKernel]):
        self.first = first
        self.riders = riders

    @property
    def total(self) -> Sums:
        return self.first.total

    def add_rows(self, rows: Any) -> None:
        """Add rows to the sums of every kernel."""
        self.first.add_rows(rows)
        for rider in self.riders:
            rider.add_rows(rows)

    def sums(self) -> RidingSums:
        """Return the sums of every kernel."""
        first = self.first.sums()
        riders = tuple(rider.sums() for rider in self.riders)
        return RidingSums(first, riders)


class RidingSums(NamedTuple):
    """The sums of a request's own kernel, and those of its riders in their order."""

    first: PartitionSums
    riders: tuple[Any, ...]

    @property
    def at_query(self) -> Sums:
        return self.first.at_query

    def plus(self, other: RidingSums) -> RidingSums:
        """Return each kernel's sums over the rows of both."""
        first = self.first.plus(other.first)
        pairs = zip(self.riders, other.riders, strict=True)
        riders = tuple(mine.plus(theirs) for mine, theirs in pairs)
        return RidingSums(first, riders)
