"""Sums of norms of groups of weights; absolute values are the simplest."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Norms(NamedTuple):
    """``sum_g strength_g ||u_g||``, over groups of weights; each output has groups of its own.

    Where each weight is a group by itself, norms are absolute values, and ``groups`` is empty.
    """

    # (q, 1, 1), the same within a group; 0 for a smooth weight.
    strength: np.ndarray
    # (q,) the number of each weight's group, or (0,).
    groups: np.ndarray

    @property
    def is_nonsmooth(self) -> bool:
        """True if any weight has a corner."""
        return bool(self.strength.any())

    @property
    def free(self) -> np.ndarray:
        """True for each weight that has no part in it, (q, 1, 1)."""
        return self.strength == 0

    @property
    def grouped(self) -> bool:
        """True if weights have groups."""
        return bool(self.groups.size)

    def norms(self, u: np.ndarray) -> np.ndarray:
        """Return ``||u_g||`` of each weight's group: (q, k, m) -> (q, k, m)."""
        if not self.grouped:
            return np.abs(u)
        number_of_groups = int(self.groups.max()) + 1
        squares = np.zeros((number_of_groups, *u.shape[1:]))
        np.add.at(squares, self.groups, u * u)
        return np.sqrt(squares)[self.groups]

    def directions(self, u: np.ndarray, norms: np.ndarray) -> np.ndarray:
        """Return ``u / norms``, 0 where the norms are 0."""
        if not self.grouped:
            return np.sign(u)
        # Weights far away may be infinite.
        with np.errstate(invalid="ignore"):
            return np.divide(u, norms, out=np.zeros_like(u), where=norms > 0)

    def value(self, u: np.ndarray) -> np.ndarray:
        """Return the sum over groups and outputs: (q, k, m) -> (m,)."""
        return self.shares(u).sum(axis=(0, 1))

    def shares(self, u: np.ndarray) -> np.ndarray:
        """Return the terms of `value`, each group's in equal shares of its weights: (q, k, m) -> (q, k, m)."""
        size = 1.0
        if self.grouped:
            sizes = np.bincount(self.groups)
            size = sizes[self.groups][:, None, None]
        return self.strength * self.norms(u) / size

    def prox(self, u: np.ndarray, rate: np.ndarray | float) -> np.ndarray:
        """Return the v of least ``||v - u||^2 / 2 + rate * value(v)``: (q, k, m), (m,) -> (q, k, m).

        Groups shrink by ``rate * strength``. Groups that are no larger than that become 0.
        """
        if not self.is_nonsmooth:
            return u
        norms = self.norms(u)
        shrunk = np.maximum(norms - rate * self.strength, 0.0)
        return self.directions(u, norms) * shrunk

    def steepest(self, u: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """Return the subgradient of least norm, 0 where the objective is least: (q, k, m), (q, k, m) -> (q, k, m).

        It is ``g_g + strength u_g / ||u_g||``. Where a group is 0, it is the part of ``g_g`` beyond the strength.
        """
        if not self.is_nonsmooth:
            return gradient
        norms = self.norms(u)
        # At a corner every slope within the strength is a subgradient; elsewhere there is one only.
        at_corners = self.prox(gradient, 1.0)
        elsewhere = gradient + self.strength * self.directions(u, norms)
        return np.where(norms == 0, at_corners, elsewhere)
