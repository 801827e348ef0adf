"""What a penalty has that bends at 0: sums of norms of groups of weights, of which absolute values are the simplest."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class NonSmooth(NamedTuple):
    """``sum_g strength_g ||u_g||``, over groups of weights, of which each output has its own.

    Where each weight is a group by itself, so that these are absolute values, ``groups`` is empty.
    """

    strength: np.ndarray  # (q, 1, 1) the same within a group; 0 for what does not bend
    groups: np.ndarray  # (q,) the number of each weight's group, or (0,)

    @property
    def is_nonsmooth(self) -> bool:
        """Anywhere."""
        return bool(self.strength.any())

    @property
    def grouped(self) -> bool:
        return bool(self.groups.size)

    def flat(self, k: int) -> NonSmooth:
        """The same of k outputs in one column, feature by feature."""
        groups = (k * self.groups[:, None] + np.arange(k)).ravel()
        return NonSmooth(np.repeat(self.strength, k, axis=0), groups)

    def norms(self, u: np.ndarray) -> np.ndarray:
        """``||u_g||`` of each weight's group: (q, k, m) -> (q, k, m)."""
        if not self.grouped:
            return np.abs(u)
        squares = np.zeros((int(self.groups.max()) + 1, *u.shape[1:]))
        np.add.at(squares, self.groups, u * u)
        return np.sqrt(squares)[self.groups]

    def directions(self, u: np.ndarray, norms: np.ndarray) -> np.ndarray:
        """``u / norms``, 0 where these are 0."""
        if not self.grouped:
            return np.sign(u)
        with np.errstate(invalid="ignore"):  # far trials may be infinite
            return np.divide(u, norms, out=np.zeros_like(u), where=norms > 0)

    def value(self, u: np.ndarray) -> np.ndarray:
        """(q, k, m) -> (m,)."""
        return self.shares(u).sum(axis=(0, 1))

    def shares(self, u: np.ndarray) -> np.ndarray:
        """What the value is the sum of: a group's term, in equal shares of its weights. (q, k, m) -> (q, k, m)."""
        size = 1.0
        if self.grouped:
            size = np.bincount(self.groups)[self.groups][:, None, None]
        return self.strength * self.norms(u) / size

    def prox(self, u: np.ndarray, rate: np.ndarray | float) -> np.ndarray:
        """The v of least ``||v - u||^2 / 2 + rate * value(v)``: (q, k, m), (m,) -> (q, k, m).

        Groups shrink by ``rate * strength``, and are 0 if they are no larger.
        """
        if not self.is_nonsmooth:
            return u
        norms = self.norms(u)
        return self.directions(u, norms) * np.maximum(norms - rate * self.strength, 0.0)

    def steepest(self, u: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """The subgradient of least norm, 0 where the objective is least: (q, k, m), (q, k, m) -> (q, k, m).

        ``g_g + strength u_g / ||u_g||``, and where the group is 0 what the strength cannot make up for of ``g_g``.
        """
        if not self.is_nonsmooth:
            return gradient
        norms = self.norms(u)
        return np.where(norms == 0, self.prox(gradient, 1.0), gradient + self.strength * self.directions(u, norms))
