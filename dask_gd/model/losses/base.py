"""What a loss is, to the kernel and the solvers."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np


def classes_of(loss: Loss) -> int | None:
    """How many predictions the loss takes together, of one target; None where each target has its own."""
    return getattr(loss, "classes", None)


@runtime_checkable
class Loss(Protocol):
    """A pointwise loss ``L(y, z)`` of a target and a linear prediction ``z = x w + b``, convex in z.

    Each column of the targets has its own prediction and loss. A loss of several classes has, of a single column, one
    prediction for each, and says so by ``classes`` and ``indicators``, see `Softmax`.

    Every method takes arrays that broadcast. The parameters of a loss are the fields of a frozen dataclass, so that a
    stored run can name them.
    """

    name: str
    #: What targets it takes, in words.
    targets: str
    #: The second derivative is 1 everywhere, so that one pass of sufficient statistics describes the objective.
    quadratic: bool
    #: The second derivative is continuous. Where it jumps, nobody can tell where a step ends without a look.
    smooth: bool
    #: Upper bound of the second derivative, or None where there is none.
    curvature_bound: float | None

    def value_and_slope(self, z: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The loss and its first derivative with respect to ``z``."""
        ...

    def curvature(self, z: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Its second derivative, 0 or more."""
        ...

    def inverse_link(self, z):
        """What is predicted, the mean of the target where the loss has one. Lazy for Dask arrays."""
        ...

    def link(self, mean: np.ndarray) -> np.ndarray:
        """The best prediction ``z`` without features, from the targets' mean; where a fit without a start begins.

        Only asked of losses without a bound of their curvature, which cannot begin just anywhere.
        """
        ...

    def bad_target(self, y: np.ndarray) -> np.ndarray | None:
        """Where a finite target is none of ``targets``; None if there is no such."""
        ...

    def check_target_mean(self, mean: np.ndarray) -> None:
        """Refuse targets whose mean, over all rows, has no finite prediction."""
        ...
