"""Functions of labels, codes and predictions, applied to arrays in memory at once and to lazy arrays block by block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from ..errors import NonFiniteError
from ..model.losses import Logistic, Softmax


def rowwise(function: Callable, z: Any, dtype: Any, width: int | None = None) -> Any:
    """Return a function of values (n,) or (n, classes), applied to each block of lazy values.

    The function returns (n,), or (n, width) if a width is given.
    """
    if not isinstance(z, da.Array):
        return function(z)
    # Dask has to know which axis the function adds or takes away.
    axes = {}
    if z.ndim == 2 and width is None:
        axes = {"drop_axis": 1}
    elif z.ndim == 1 and width is not None:
        axes = {"new_axis": 1}
    chunks = z.chunks[:1]
    if width is not None:
        chunks = (z.chunks[0], (width,))
    return da.map_blocks(function, z, dtype=dtype, chunks=chunks, **axes)


def like(z: Any, data: Any, **columns: Any) -> Any:
    """Return ``data`` as a DataArray with the coordinates of the predictions ``z``, if these are a DataArray.

    ``columns`` names an axis of ``data`` after the rows, and its coordinate.
    """
    if not isinstance(z, xr.DataArray):
        return data
    # Classes take the place of a single output.
    row = z
    if "output" in z.dims:
        row = z.isel(output=0, drop=True)
    return xr.DataArray(
        data,
        dims=(*row.dims, *columns),
        coords={**row.coords, **columns},
        name="prediction",
    )


def in_doubles(function: Callable, z: np.ndarray) -> np.ndarray:
    """Return a function of predictions, evaluated in float64, in the dtype of the predictions."""
    return function(z.astype(float)).astype(z.dtype, copy=False)


def codes_of(labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return the places of labels among the classes. NaN stays NaN: the fit leaves out its row."""
    # Labels of a data frame may be numbers in an array of objects.
    if labels.dtype == object and classes.dtype.kind in "fiub":
        labels = labels.astype(classes.dtype)
    codes = np.searchsorted(classes, labels)
    if labels.dtype.kind == "f":
        return np.where(np.isnan(labels), np.nan, codes)
    return codes


def labels_of(z: np.ndarray, classes: np.ndarray, block_info: Any = None) -> np.ndarray:
    """Return the classes for linear predictions (n,) of two classes, or (n, classes); refuse rows without a prediction.

    No label says that there is none, and any other would be made up. ``block_info`` is what Dask says of the block.
    """
    is_finite = np.isfinite(z.reshape(len(z), -1)).all(axis=1)
    if not is_finite.all():
        _refuse_without_prediction(is_finite, block_info)
    if z.ndim == 2:
        return classes[z.argmax(axis=1)]
    return classes[(z > 0).astype(int)]


def _refuse_without_prediction(is_finite: np.ndarray, block_info: Any) -> None:
    """Raise `NonFiniteError` with the first row of X whose prediction is NaN or infinite."""
    first = int(is_finite.argmin())
    place = f"row {first} of X"
    # A block of a lazy array knows where it begins, if the sizes of those before it are known.
    if block_info:
        block = block_info[0]
        start = block["array-location"][0][0]
        place = f"row {first} of block {block['chunk-location'][0]} of X"
        if np.isfinite(start):
            place = f"row {int(start) + first} of X"
    raise NonFiniteError(
        f"There is no class for {place}: its prediction is NaN or infinite, because a feature is. Leave such rows out, "
        "or take decision_function, which is NaN there."
    )


def weights_of(class_weights: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return the weight of the class of each code, and 1 for NaN."""
    missing = len(class_weights)
    places = np.nan_to_num(codes, nan=missing).astype(int)
    return np.append(class_weights, 1.0)[places]


def probabilities(z: np.ndarray) -> np.ndarray:
    """Return the probabilities of the classes for linear predictions (n,) of two classes, or (n, classes)."""
    if z.ndim == 2:
        return Softmax().inverse_link(z)
    return two_classes(z)


def two_classes(z: np.ndarray) -> np.ndarray:
    """Return the probabilities of the first and the second class, (n,) -> (n, 2)."""
    # Not 1 less the other, which would lose the digits of a small probability.
    first = Logistic().inverse_link(-z)
    second = Logistic().inverse_link(z)
    return np.stack([first, second], axis=1)


def indicators(codes: np.ndarray, classes: int) -> np.ndarray:
    """Return 1 in the column of each row's class, else 0, (n, classes); NaN for a row whose code is NaN."""
    # The last of the possible rows is the row of NaN.
    row_of_nan = np.full(classes, np.nan)
    possible_rows = np.vstack([np.eye(classes), row_of_nan])
    places = np.nan_to_num(codes, nan=classes).astype(int)
    return possible_rows[places]
