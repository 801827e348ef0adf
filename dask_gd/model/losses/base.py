"""The protocol that the kernel and the solvers need of a loss."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np


def classes_of(loss: Loss) -> int | None:
    """Return the number of predictions that the loss takes together for a target; None where it takes a single one."""
    return getattr(loss, "classes", None)


@runtime_checkable
class Loss(Protocol):
    """A pointwise loss ``L(y, z)`` of a target and a linear prediction ``z = x w + b``, convex in z.

    Each column of the targets has its own prediction and loss. A loss of several classes has a prediction for each
    class, all for a single column of targets. It says so by ``classes`` and ``indicators``, see `Softmax`.

    Every method takes arrays that broadcast. The parameters of a loss are the fields of a frozen dataclass, so that a
    stored run can name them.
    """

    name: str
    #: The targets that it takes, in words.
    targets: str
    #: True if the second derivative is 1 everywhere, so that one pass of sufficient statistics describes the objective.
    quadratic: bool
    #: True if the second derivative is continuous. Where it jumps, only a pass can tell where a step ends.
    smooth: bool
    #: Upper bound of the second derivative, or None where there is no bound.
    curvature_bound: float | None

    def value_and_slope(self, z: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the loss and its first derivative with respect to ``z``."""
        ...

    def curvature(self, z: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the second derivative with respect to ``z``, 0 or more."""
        ...

    def inverse_link(self, z):
        """Return the predicted value, the mean of the target where the loss has a mean. Lazy for Dask arrays."""
        ...

    def link(self, mean: np.ndarray) -> np.ndarray:
        """Return the best prediction ``z`` without features, from the targets' mean.

        A fit without a start begins there. Only losses without a bound of their curvature are asked, because a fit of
        them cannot begin just anywhere.
        """
        ...

    def bad_target(self, y: np.ndarray) -> np.ndarray | None:
        """Return where a finite target is none of ``targets``; None if every finite target is allowed."""
        ...

    def check_target_mean(self, mean: np.ndarray) -> None:
        """Refuse targets whose mean, over all rows, has no finite prediction."""
        ...
