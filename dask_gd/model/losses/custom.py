"""A loss of the user's own, from two functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import cloudpickle
import numpy as np

from ...errors import InvalidTypeError
from .regression import RealTargets

#: Of the prediction's size (and 1): where the slope's difference is as exact as it gets (Nocedal and Wright, 2006,
#: section 8.1).
STEP = float(np.finfo(float).eps) ** (1 / 3)


def unchanging(*arrays: Any) -> list[Any]:
    """Views that a user's function cannot write to: others read the same memory. None stays None."""
    views = [None if a is None else a.view() for a in arrays]
    for view in views:
        if view is not None:
            view.flags.writeable = False
    return views


class OfFunctions:
    """What is made of a user's functions: these travel by value where they cannot be imported, as lambdas cannot.

    A result has its loss, and is to be pickled like any other.
    """

    def __reduce__(self) -> tuple:
        return _restored, (type(self), cloudpickle.dumps(vars(self)))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict) -> Self:
        return self


def _restored(kind: type, state: bytes) -> Any:
    found: Any = object.__new__(kind)
    vars(found).update(cloudpickle.loads(state))
    return found


@dataclass(frozen=True)
class Custom(OfFunctions, RealTargets):
    """A pair of functions of (prediction, target), the loss and its derivative with respect to the prediction.

    `fit` makes one of ``loss=(value, slope)``. Both take two float64 arrays of one shape and return a third; they must
    know nothing of other rows. The loss must be convex in the prediction. Its curvature is the slope's difference, so
    that all solvers serve it, but for automatic learning rates. Predictions are ``x w + b`` as it is.

    An object that has all that `dask_gd.losses.Loss` asks for serves as well, and may have more.

    A fit goes on from a store only with the same functions. They are known by their code, defaults, closures and the
    globals that they read, arrays whole, which another version of Python may compile otherwise.

    Parameters
    ----------
    value, slope : callable

    Examples
    --------
    >>> log_cosh = Custom(lambda z, y: np.log(np.cosh(z - y)), lambda z, y: np.tanh(z - y))
    >>> x = np.array([[0.0], [1.0], [2.0]])
    >>> dask_gd.fit(x, np.array([1.0, 3.0, 5.0]), loss=log_cosh).weights.values.round(6).tolist()
    [2.0]
    """

    value: Callable
    slope: Callable
    name = "custom"
    quadratic = False
    smooth = False
    curvature_bound = None

    def __post_init__(self):
        for name in ("value", "slope"):
            if not callable(function := getattr(self, name)):
                raise InvalidTypeError(
                    f"loss: {name} is a {type(function).__name__}; give two functions of (prediction, target), the "
                    "loss and its derivative with respect to the prediction."
                )

    def value_and_slope(self, z, y):
        """What the two functions return."""
        z, y = unchanging(*np.broadcast_arrays(z, y))
        return self._checked("value", z, y), self._checked("slope", z, y)

    def _checked(self, name: str, z: np.ndarray, y: np.ndarray) -> np.ndarray:
        found = np.asarray(getattr(self, name)(z, y), dtype=float)
        if found.shape != z.shape:
            raise InvalidTypeError(
                f"loss: {name}(prediction, target) returned shape {found.shape} for arrays of shape {z.shape}; it must "
                "keep the shape, one number for each row."
            )
        return found

    def curvature(self, z, y):
        """The slope's central difference, at least 0."""
        z, y = unchanging(*np.broadcast_arrays(z, y))
        step = STEP * (1.0 + np.abs(z))
        above = z + step
        below = z - step
        return np.maximum((self._checked("slope", above, y) - self._checked("slope", below, y)) / (above - below), 0.0)

    def link(self, mean):
        """Unknown: the fit begins at zeros."""
        return np.full_like(mean, np.nan)
