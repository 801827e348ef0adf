"""A loss that the user writes, from two functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import cloudpickle
import numpy as np

from ...errors import InvalidTypeError
from .regression import RealTargets

#: Step of the slope's central difference, as a share of 1 plus the prediction's size, where the difference is most
#: exact (Nocedal and Wright, 2006, section 8.1).
STEP = float(np.finfo(float).eps) ** (1 / 3)


def unchanging(*arrays: Any) -> list[Any]:
    """Return views to which a user's function cannot write: others read the same memory. None stays None."""
    views: list[Any] = []
    for array in arrays:
        view = array
        if array is not None:
            view = array.view()
            view.flags.writeable = False
        views.append(view)
    return views


class OfFunctions:
    """The base of losses made of a user's functions, which are pickled by value where they cannot be imported.

    Lambdas cannot be imported, for example. A result has its loss, and must be picklable like any other result.
    """

    def __reduce__(self) -> tuple:
        # Pickle alone stores neither lambdas nor closures.
        return _restored, (type(self), cloudpickle.dumps(vars(self)))

    # It never changes, so that the object is as good as its copy.
    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict) -> Self:
        return self


def _restored(kind: type, state: bytes) -> Any:
    """Return the loss that was pickled; the parameters were checked when it was made."""
    loss: Any = object.__new__(kind)
    vars(loss).update(cloudpickle.loads(state))
    return loss


@dataclass(frozen=True)
class Custom(OfFunctions, RealTargets):
    """A pair of functions of (prediction, target), the loss and its derivative with respect to the prediction.

    `fit` makes it from ``loss=(value, slope)``. Both functions take two float64 arrays of the same shape and return a
    third; they must know nothing of other rows. The loss must be convex in the prediction. Its curvature is the slope's
    difference, so that all solvers serve it, but for automatic learning rates. Predictions are ``x w + b`` as it is.

    An object with all attributes and methods of `dask_gd.losses.Loss` serves as well, and may have more.

    A fit goes on from a store only with the same functions. They are known by their code, defaults, closures and the
    globals that they read, with whole arrays. Another version of Python may compile the code otherwise.

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
    # Of the functions only their values are known, and not that their prediction is to meet the target.
    target_kind = None
    quadratic = False
    smooth = False
    curvature_bound = None

    def __post_init__(self):
        for name in ("value", "slope"):
            function = getattr(self, name)
            if not callable(function):
                raise InvalidTypeError(
                    f"loss: {name} is a {type(function).__name__}; give two functions of (prediction, target), the "
                    "loss and its derivative with respect to the prediction."
                )

    def value_and_slope(self, z, y):
        """Return the results of the two functions."""
        z, y = unchanging(*np.broadcast_arrays(z, y))
        return self._checked("value", z, y), self._checked("slope", z, y)

    def _checked(self, name: str, z: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the result of the function of this name; refuse one of another shape."""
        function = getattr(self, name)
        result = np.asarray(function(z, y), dtype=float)
        if result.shape != z.shape:
            raise InvalidTypeError(
                f"loss: {name}(prediction, target) returned shape {result.shape} for arrays of shape {z.shape}; it "
                "must keep the shape, one number for each row."
            )
        return result

    def curvature(self, z, y):
        """Return the slope's central difference, at least 0."""
        z, y = unchanging(*np.broadcast_arrays(z, y))
        step = STEP * (1.0 + np.abs(z))
        above = z + step
        below = z - step
        difference = self._checked("slope", above, y) - self._checked("slope", below, y)
        # Divided by the step after rounding. The slope of a convex loss falls by rounding only.
        return np.maximum(difference / (above - below), 0.0)

    def link(self, mean):
        """Return NaN, as the link is unknown: the fit begins at zeros."""
        return np.full_like(mean, np.nan)
