"""The loss of several classes, which takes the predictions of all classes together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...errors import DataError, InvalidArgumentError
from ...validate import is_whole

#: A target with more classes is more likely a number than a class.
MOST_CLASSES = 10_000


def pairs(classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of every two classes, the smaller first: (pairs,) and (pairs,)."""
    return np.triu_indices(classes, 1)


@dataclass(frozen=True)
class Softmax:
    """Negative log-likelihood of a class, ``L(y, z) = log(sum_c exp(z_c)) - z_y``: multinomial logistic regression.

    Targets are the classes' numbers, 0 to ``classes - 1``, in one column. Weights have a column for each class, and any
    number may be added to all columns without changing the loss. Without a penalty or with L2 a fit from zeros ends
    where the columns sum to 0, as scikit-learn's do. With L1 alone and an even number of classes the weights of a
    feature are determined only up to a number that may be added to all of them.

    The largest prediction is subtracted before the exponentials are taken, which therefore cannot overflow. The second
    derivative is ``diag(s) - s s^T`` with s the softmax of z, and half the identity bounds it (Böhning, 1992,
    "Multinomial logistic regression algorithm").

    Parameters
    ----------
    classes : int, optional
        By default the largest target plus 1; `fit` reads the targets to find it.

    Examples
    --------
    >>> z, y = np.array([[[0.0], [0.0], [1e4]]]), np.array([[[0.0], [0.0], [1.0]]])
    >>> value, slope = Softmax(3).value_and_slope(z, y)
    >>> value.tolist(), slope.tolist()
    ([[[0.0]]], [[[0.0], [0.0], [0.0]]])
    """

    classes: int | None = None
    name = "softmax"
    target_kind = "classes"
    likelihood = "known dispersion"
    quadratic = False
    smooth = True
    curvature_bound = 0.5

    def __post_init__(self):
        if self.classes is None:
            return
        if not is_whole(self.classes, least=2):
            raise InvalidArgumentError(f"Softmax(classes={self.classes!r}): a whole number, 2 or more.")
        if self.classes > MOST_CLASSES:
            raise InvalidArgumentError(
                f"Softmax(classes={self.classes}): at most {MOST_CLASSES:,}; targets must be the classes' numbers, "
                "from 0 on without gaps."
            )
        object.__setattr__(self, "classes", int(self.classes))

    @property
    def targets(self):
        """The targets that are allowed, in words."""
        last = "the number of classes less 1"
        if self.classes is not None:
            last = str(self.classes - 1)
        return f"the whole numbers 0 to {last}, the classes' numbers (np.unique(y, return_inverse=True))"

    def indicators(self, y):
        """Return the classes' numbers (n, 1) as columns of 0 and 1, (n, classes), as the methods below take them."""
        assert self.classes is not None
        # NaN stays NaN.
        return (y == np.arange(self.classes)) + 0.0 * y

    def value_and_slope(self, z, y):
        """Return the loss (n, 1, m) and ``softmax(z) - y`` (n, classes, m).

        z is (n, classes, m), and y (n, classes, 1).
        """
        # With the classes first the sums over them are of whole columns. Targets have every candidate's column too, for
        # which NumPy takes less time than for a broadcast.
        z = np.ascontiguousarray(np.moveaxis(z, 1, 0))
        target = np.empty_like(z)
        target[:] = np.moveaxis(y, 1, 0)
        # The largest exponential is 1, which does not overflow.
        z -= z.max(axis=0)
        slope = np.exp(z)
        # In place: these are the largest arrays of a pass.
        z *= target
        own = z.sum(axis=0)
        # The sum of the exponentials less 1. Where the target is the largest class, its 1 is taken away before the
        # others are added up, so that a loss keeps its digits however small it is. Elsewhere it is log 2 at least.
        np.subtract(slope, target, out=z)
        beside = z.sum(axis=0)
        value = np.log1p(beside) - own
        beside += 1.0
        slope /= beside
        slope -= target
        return value[:, None], np.moveaxis(slope, 0, 1)

    def inverse_link(self, z):
        """Return the classes' probabilities, over the last axis. Lazy for Dask arrays."""
        small = np.exp(z - z.max(axis=-1, keepdims=True))
        return small / small.sum(axis=-1, keepdims=True)

    def link(self, mean):
        """Return the logarithms of the classes' shares."""
        return np.log(mean)

    def curvature(self, z, y):
        """Return ``s_a s_b`` of every two classes a < b, (n, pairs); z is (n, classes).

        These are the elements of the second derivative beside its diagonal, without the minus. An element of the
        diagonal is the sum of the elements in its row.
        """
        share = self.inverse_link(z)
        first, second = pairs(z.shape[1])
        return share[:, first] * share[:, second]

    def bad_target(self, y):
        """Return where the target is the number of no class."""
        is_fraction = y != np.floor(y)
        return is_fraction | (y < 0) | (y >= self.classes)

    def check_target_mean(self, mean):
        """Refuse a class without rows: its intercept would be infinite."""
        absent = np.flatnonzero(mean <= 0)
        if len(absent):
            # Five are enough to see the pattern.
            listed = ", ".join(map(str, absent[:5]))
            if len(absent) > 5:
                listed += " ..."
            raise DataError(
                f"The softmax loss of {self.classes} classes needs rows of each; no target with a positive weight is "
                f"{listed}. Number the classes from 0 on without gaps."
            )
