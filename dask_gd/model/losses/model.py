"""A model that the user writes: any function of parameters and a block of rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ...errors import InvalidArgumentError, InvalidTypeError
from .custom import OfFunctions, unchanging


class Model(OfFunctions):
    """A function ``(params, x, y, weight) -> (loss_sum, gradient_sum)`` of a block of rows; see `fit`'s ``loss``.

    `fit` minimises the sum of ``loss_sum`` over all blocks, divided by the sum of the row weights, by L-BFGS or a
    first-order method. It need not be convex; a fit then ends at a local minimum, or where the gradient vanishes.
    ``tol`` is a share of the size of blocks' mean gradients at the start (the root mean square of their largest
    components). Penalties are of all parameters. With a store the function is known by its content, as the functions of
    `Custom` are.

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

    # Of the function only its value and gradient are known. It is no pointwise loss: parameters are no weights of
    # features, and there is no prediction of a row. Where that matters the package asks for this class.
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
        # An array alone is kept as a dict of that array, so that there is one form only.
        self.named = isinstance(params, Mapping)
        by_name = params if self.named else {"params": params}
        arrays = {name: np.asarray(values, dtype=float) for name, values in by_name.items()}
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise InvalidArgumentError(f"Model(params=...): {name!r} holds NaN or infinity.")
        self.shapes = {name: array.shape for name, array in arrays.items()}
        # The solvers know the parameters as one array.
        self.start = np.empty(0)
        if arrays:
            self.start = np.concatenate([array.ravel() for array in arrays.values()])
        if not self.start.size:
            raise InvalidArgumentError("Model(params=...): there is no parameter; give an array or a dict of arrays.")
        # A callable object has no name but its class's.
        function_name = getattr(function, "__qualname__", type(function).__name__)
        self.name = f"model {function.__module__}.{function_name}"

    def __repr__(self) -> str:
        return f"Model({self.name.removeprefix('model ')}, {self.start.size:,} parameters)"

    def bad_target(self, y: np.ndarray) -> None:
        """Allow every finite target."""

    def check_target_mean(self, mean: np.ndarray) -> None:
        """Allow every mean."""

    def packed(self, params: Any) -> np.ndarray:
        """Return parameters, or their gradient, as one array (q,); refuse other shapes than those of the start."""
        arrays: Any = params if self.named else {"params": params}
        shapes: Any
        if isinstance(arrays, Mapping):
            shapes = {name: np.shape(array) for name, array in arrays.items()}
        else:
            shapes = np.shape(arrays)
        if shapes != self.shapes:
            raise InvalidTypeError(f"The model's gradient has the shapes {shapes}; its params have {self.shapes}.")
        # In the order of the start, whatever the order of the user's dict.
        parts = [np.asarray(arrays[name], dtype=float) for name in self.shapes]
        return np.concatenate([np.ravel(part) for part in parts])

    def unpacked(self, flat: np.ndarray) -> Any:
        """Return one array (q,) as parameters in the shapes of the start."""
        # The parameters lie one behind the other, in the order of their names in the start.
        sizes = [int(np.prod(shape)) for shape in self.shapes.values()]
        ends = np.cumsum(sizes)
        parts = np.split(np.asarray(flat), ends[:-1])
        arrays = {}
        for part, (name, shape) in zip(parts, self.shapes.items(), strict=True):
            arrays[name] = part.reshape(shape)
        if self.named:
            return arrays
        return arrays["params"]

    def sums(self, flat: np.ndarray, x: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> tuple:
        """Return the loss and the gradient (q,) of a block, at parameters (q,); y is (n, k)."""
        # The user's function takes a single target as (n,).
        if y.shape[1] == 1:
            y = y[:, 0]
        flat, x, y, weight = unchanging(flat, x, y, weight)
        result = self.function(self.unpacked(flat), x, y, weight)
        is_pair = isinstance(result, tuple) and len(result) == 2
        if not is_pair or np.shape(result[0]) != ():
            raise InvalidTypeError(
                f"{self!r} returned {result!r:.100}; it must return (loss_sum, gradient_sum), a number and what has "
                "the shapes of params."
            )
        loss_sum, gradient_sum = result
        return float(loss_sum), self.packed(gradient_sum)
