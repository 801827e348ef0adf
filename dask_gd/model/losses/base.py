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

    A loss may have two traits more, attributes of its class that decide what it serves for beside fits:

    ``target_kind``
        "real", any numbers, which z itself predicts: errors and R^2 are scores of it. "amount", numbers of 0 or more,
        of mean ``exp(z)``. "two classes", 0 and 1, the class being 1 where z is above 0; or "classes", their numbers,
        for a loss of several classes: the accuracy is a score, and folds may have the same shares of the classes. A
        loss without it has the mean loss as its only score, a loss of several classes those of classes.
    ``likelihood``
        "known dispersion" where the loss is the negative log-likelihood of the target, but for terms of y alone, and
        "estimated dispersion" where it is a multiple of that, to be estimated from the residuals. `dask_gd.infer` then
        serves it. The loss must be half the deviance, 0 for the best prediction of a target; the mean is
        ``inverse_link(z)``; and the second derivative is linear in y.
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
