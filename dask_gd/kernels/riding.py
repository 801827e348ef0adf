"""Kernels that ride on the reading of another: each row is read once, and every kernel sums over it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..model.losses import Loss
from .base import KernelSpec, PartitionKernel, PartitionSums, Request, Sums, make_kernel


class Riding(NamedTuple):
    """Ask for the sums of more kernels beside those that a request would have without them.

    The sums of the first are those that a solver sees; the others' are for whoever asked for them.
    """

    riders: tuple[KernelSpec, ...]
    #: The request's kernel, if it has one of its own.
    first: KernelSpec | None = None

    def make(
        self, partition: int, query: np.ndarray, loss: Loss, request: Request, dtype: np.dtype, p: int
    ) -> RidingKernel:
        """Return the kernels of a partition as one."""
        plain = request._replace(curvature=None, moments=False)
        return RidingKernel(
            make_kernel(partition, query, loss, request._replace(kernel=self.first), dtype, p),
            [rider.make(partition, query, loss, plain, dtype, p) for rider in self.riders],
        )


class RidingKernel:
    """The kernels of one partition."""

    def __init__(self, first: PartitionKernel, riders: list[PartitionKernel]):
        self.first = first
        self.riders = riders

    @property
    def total(self) -> Sums:
        return self.first.total

    def add_rows(self, rows: Any) -> None:
        for kernel in (self.first, *self.riders):
            kernel.add_rows(rows)

    def sums(self) -> RidingSums:
        return RidingSums(self.first.sums(), tuple(rider.sums() for rider in self.riders))


class RidingSums(NamedTuple):
    """The sums of a request's own kernel, and those of its riders in their order."""

    first: PartitionSums
    riders: tuple[Any, ...]

    @property
    def at_query(self) -> Sums:
        return self.first.at_query

    def plus(self, other: RidingSums) -> RidingSums:
        """Return each kernel's sums over the rows of both."""
        riders = tuple(mine.plus(theirs) for mine, theirs in zip(self.riders, other.riders, strict=True))
        return RidingSums(self.first.plus(other.first), riders)
