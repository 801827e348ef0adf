"""A model of the user's own: any function of parameters and a block of rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ...errors import InvalidArgumentError, InvalidTypeError
from .custom import OfFunctions, unchanging


class Model(OfFunctions):
    """A function ``(params, x, y, weight) -> (loss_sum, gradient_sum)`` of a block of rows; see `fit`'s ``loss``.

    `fit` minimises the sum of its first results over all blocks, divided by the sum of the row weights, by L-BFGS or a
    first-order method. It need not be convex; a fit then ends at a local minimum, or where the gradient vanishes.
    ``tol`` is a share of what blocks' mean gradients are at the start (the root mean square of their largest
    components). Penalties are of all parameters. With a store the function is known by its content, as `Custom`'s are.

    Parameters
    ----------
    function : callable
        Of ``params``, in the shapes given here; ``x`` (n, p), in float32 or float64; ``y`` (n,) or (n, k) float64;
        and ``weight`` (n,) float64, or None where each row counts once. It returns the weighted sum of the rows'
        losses, and its gradient in the shapes of ``params``. Sums, not means: blocks are of any length.
    params : array or dict of arrays
        The start. Draw it at random where zeros are a saddle point, as in a network.

    Examples
    --------
    >>> def growth(params, x, y, weight):
    ...     curve = np.exp(params["rate"] * x[:, 0])
    ...     residual = params["size"] * curve - y
    ...     slope = {"rate": residual @ (params["size"] * x[:, 0] * curve), "size": residual @ curve}
    ...     return residual @ residual / 2, slope
    >>> x = np.linspace(0.0, 1.0, 20)[:, None]
    >>> model = dask_gd.Model(growth, {"rate": 0.0, "size": 1.0})
    >>> run = dask_gd.fit(x, 3.0 * np.exp(0.7 * x[:, 0]), loss=model, tol=1e-9)
    >>> {name: round(float(value), 6) for name, value in run.params.items()}
    {'rate': 0.7, 'size': 3.0}
    """

    quadratic = False
    smooth = False
    curvature_bound = None
    targets = "finite numbers"

    def __init__(self, function: Callable, params: Any):
        if not callable(function):
            raise InvalidTypeError(
                f"Model(function=...): a {type(function).__name__}; give a function (params, x, y, weight) that "
                "returns the rows' loss and its gradient, both summed."
            )
        self.function = function
        self.named = isinstance(params, Mapping)
        arrays = {k: np.asarray(v, dtype=float) for k, v in (params if self.named else {"params": params}).items()}
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise InvalidArgumentError(f"Model(params=...): {name!r} holds NaN or infinity.")
        self.shapes = {name: array.shape for name, array in arrays.items()}
        if arrays:
            self.start = np.concatenate([array.ravel() for array in arrays.values()])
        else:
            self.start = np.empty(0)
        if not self.start.size:
            raise InvalidArgumentError("Model(params=...): there is no parameter; give an array or a dict of arrays.")
        self.name = f"model {function.__module__}.{getattr(function, '__qualname__', type(function).__name__)}"

    def __repr__(self) -> str:
        return f"Model({self.name.removeprefix('model ')}, {self.start.size:,} parameters)"

    def bad_target(self, y: np.ndarray) -> None:
        """Every finite target may do."""

    def check_target_mean(self, mean: np.ndarray) -> None:
        """Nothing is known of it."""

    def packed(self, params: Any) -> np.ndarray:
        """Parameters as one array, (q,)."""
        arrays: Any = params if self.named else {"params": params}
        named = isinstance(arrays, Mapping)
        if named:
            found = {name: np.shape(array) for name, array in arrays.items()}
        else:
            found = np.shape(arrays)
        if found != self.shapes:
            raise InvalidTypeError(f"The model's gradient has the shapes {found}; its params have {self.shapes}.")
        return np.concatenate([np.ravel(np.asarray(arrays[name], dtype=float)) for name in self.shapes])

    def unpacked(self, flat: np.ndarray) -> Any:
        """One array (q,) as the parameters' own."""
        sizes = [int(np.prod(shape)) for shape in self.shapes.values()]
        parts = np.split(np.asarray(flat), np.cumsum(sizes)[:-1])
        arrays = {n: part.reshape(shape) for part, (n, shape) in zip(parts, self.shapes.items(), strict=True)}
        if self.named:
            return arrays
        return arrays["params"]

    def sums(self, flat: np.ndarray, x: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> tuple:
        """Loss and gradient (q,) of a block, at parameters (q,); y is (n, k)."""
        flat, x, y, weight = unchanging(flat, x, y[:, 0] if y.shape[1] == 1 else y, weight)
        found = self.function(self.unpacked(flat), x, y, weight)
        if not isinstance(found, tuple) or len(found) != 2 or np.shape(found[0]) != ():
            raise InvalidTypeError(
                f"{self!r} returned {found!r:.100}; it must return (loss_sum, gradient_sum), a number and what has the "
                "shapes of params."
            )
        return float(found[0]), self.packed(found[1])
