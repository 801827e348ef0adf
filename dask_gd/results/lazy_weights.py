"""Weights that are not in this process: a Dask array with a chunk for each column block of a fit.

Up to `WHOLE_BYTES` they are brought into a process where that is simpler. More of them never come together without
having been asked for: who needs all of them refuses, and says so.
"""

from __future__ import annotations

from math import prod

import dask.array as da
import numpy as np
import xarray as xr

from ..display.texts import plural, size
from ..errors import InvalidArgumentError

#: Bytes of weights that are brought into one process without having been asked for.
WHOLE_BYTES = 64 << 20


def is_lazy(weights: xr.DataArray) -> bool:
    """Return whether weights are a Dask array."""
    return isinstance(weights.variable._data, da.Array)


def is_in_blocks(weights: xr.DataArray) -> bool:
    """Return whether weights are a Dask array, and too large to be brought into one process unasked."""
    return is_lazy(weights) and weights.nbytes > WHOLE_BYTES


def described(weights: xr.DataArray) -> str:
    """Say how large lazy weights are, and in how many chunks they lie.

    Examples
    --------
    >>> import dask.array
    >>> described(xr.DataArray(dask.array.zeros(3_000_000, chunks=1_000_000), dims="feature"))
    '3,000,000 weights, 24.0 MB in 3 chunks'
    """
    chunks = prod(weights.data.numblocks)
    return f"{plural(weights.size, 'weight')}, {size(weights.nbytes)} in {plural(chunks, 'chunk')}"


def values_of(weights: xr.DataArray, what: str) -> np.ndarray:
    """Return weights as a NumPy array; ``what`` is what needs all of them at once.

    Raises
    ------
    InvalidArgumentError
        If they are lazy, and more than `WHOLE_BYTES`.
    """
    if is_in_blocks(weights):
        raise InvalidArgumentError(
            f"{what} needs all weights in one process: {described(weights)}. Up to {size(WHOLE_BYTES)} are brought "
            "there unasked. run.weights.compute() brings all of them; run.weights[start:stop].compute() some."
        )
    return weights.values
