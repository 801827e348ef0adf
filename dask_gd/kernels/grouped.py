"""The kernel that sums over groups of partitions too, beside all that a pass reads."""

from __future__ import annotations

from typing import Any, NamedTuple

from .base import make_kernel
from .sums import EXACT, KernelSpec, Part, PartitionKernel, Sums, copies_of


class Grouped(NamedTuple):
    """A request for the sums over each of some groups of partitions, beside those over all.

    Those over the groups have the exact curvature, also where the request asks for none of all partitions.
    """

    groups: tuple[tuple[int, ...], ...]
    #: The kernel whose sums these are; None for `Kernel`.
    kernel: KernelSpec | None = None

    def copies(self, m: int) -> int:
        """Return how many times the sums at a query are summed."""
        return (1 + len(self.groups)) * copies_of(self.kernel, m)

    def make(self, part: Part) -> GroupedKernel:
        """Return the kernel of a partition."""
        is_in = tuple(part.partition in group for group in self.groups)
        request = part.request._replace(kernel=self.kernel)
        part = part._replace(request=request)
        if any(is_in):
            part = part._replace(request=request._replace(curvature=EXACT))
        return GroupedKernel(make_kernel(part), is_in, has_curvature=request.curvature is not None)


class GroupedKernel:
    """The kernel of one partition."""

    def __init__(self, kernel: PartitionKernel, is_in: tuple[bool, ...], has_curvature: bool = True):
        self.kernel = kernel
        #: Whether the sums over all partitions have a curvature.
        self.has_curvature = has_curvature
        #: Whether the partition is in each of the groups.
        self.is_in = is_in

    @property
    def total(self) -> Sums:
        return self.kernel.total

    def add_rows(self, rows: Any) -> None:
        """Add rows to the sums."""
        self.kernel.add_rows(rows)

    def sums(self) -> GroupedSums:
        """Return the sums, and for each group the same or none."""
        sums = self.kernel.sums()
        assert isinstance(sums, Sums)
        of_groups: list[Sums | None] = []
        for is_in in self.is_in:
            of_groups.append(sums if is_in else None)
        if not self.has_curvature:
            sums = sums._replace(curvature=None)
        return GroupedSums(sums, tuple(of_groups))


class GroupedSums(NamedTuple):
    """The sums over all partitions, and those over the partitions of each group, None where there are none yet."""

    at_query: Sums
    groups: tuple[Sums | None, ...]

    def plus(self, other: GroupedSums) -> GroupedSums:
        """Return the sums over the rows of both."""
        groups = []
        for mine, theirs in zip(self.groups, other.groups, strict=True):
            if mine is None or theirs is None:
                groups.append(mine or theirs)
            else:
                groups.append(mine.plus(theirs))
        return GroupedSums(self.at_query.plus(other.at_query), tuple(groups))
