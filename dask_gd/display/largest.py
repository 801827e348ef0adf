"""Choose the weights to show first, and say which of them are no numbers.

Weights that are not in memory are looked at where their chunks are, and only the largest of each come here.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from .texts import plural


class Largest(NamedTuple):
    """The largest of some weights (p, k)."""

    indices: np.ndarray  # (m,) of the features, the largest first
    values: np.ndarray  # (m, k)
    features: int  # p
    nan: np.ndarray  # (k,) the number of weights that are NaN

    @property
    def note(self) -> str:
        """Say how many of all weights are NaN, and how many outputs have no other; nothing if none are.

        Examples
        --------
        >>> weights = xr.DataArray([[1.0, np.nan], [2.0, np.nan]], dims=("feature", "output"))
        >>> largest_of(weights, limit=1).note
        '1 of 2 outputs has no weights: its targets are NaN in all rows'
        """
        has_weights = _counted(self.nan < self.features)
        count = int(self.nan[has_weights].sum())
        of_outputs = self.features * int(has_weights.sum())
        notes = []
        if count:
            verb = "is" if count == 1 else "are"
            notes.append(f"{count:,} of {plural(of_outputs, 'weight')} {verb} NaN")
        without = int((~has_weights).sum())
        if without:
            verb = "has" if without == 1 else "have"
            whose = "its" if without == 1 else "their"
            outputs = plural(len(has_weights), "output")
            notes.append(f"{without:,} of {outputs} {verb} no weights: {whose} targets are NaN in all rows")
        return "; ".join(notes)


def largest_of(weights: xr.DataArray, limit: int, nan_first: bool = True) -> Largest:
    """Return the features with the largest weights, in memory or lazy, at most ``limit`` of them.

    Of lazy weights each chunk is looked at by itself, on the cluster if there is one.

    Examples
    --------
    >>> import dask.array as da
    >>> lazy = da.from_array(np.array([0.5, -2.0, 1.0]), chunks=2)
    >>> found = largest_of(xr.DataArray(lazy, dims="feature"), limit=2)
    >>> found.indices.tolist(), found.values.tolist()
    ([1, 2], [[-2.0], [1.0]])
    """
    if weights.chunks is None:
        parts = [_of_chunk(weights.values, limit, nan_first)]
        starts = [0]
    else:
        # The outputs of a feature are together.
        array = weights.data
        if array.ndim == 2:
            array = array.rechunk({1: -1})
        starts = list(accumulate(array.chunks[0], initial=0))[:-1]
        summaries = array.map_blocks(
            _as_block,
            limit,
            nan_first,
            chunks=tuple((1,) * count for count in array.numblocks),
            dtype=object,
            meta=np.empty((0,) * array.ndim, object),
        )
        parts = list(summaries.compute().reshape(-1))
    # The largest of all are among the largest of the chunks.
    nan = np.sum([part.nan for part in parts], axis=0)
    indices = np.concatenate([start + part.indices for start, part in zip(starts, parts, strict=True)])
    values = np.concatenate([part.values for part in parts])
    features = len(weights)
    has_weights = _counted(nan < features)
    order = _order(values[:, has_weights], nan_first)[:limit]
    return Largest(indices[order], values[order], features, nan)


def _as_block(chunk: np.ndarray, limit: int, nan_first: bool) -> np.ndarray:
    """Return the largest weights of a chunk as the single value of an array."""
    block = np.empty((1,) * chunk.ndim, object)
    block[(0,) * chunk.ndim] = _of_chunk(chunk, limit, nan_first)
    return block


def _of_chunk(chunk: Any, limit: int, nan_first: bool) -> Largest:
    """Return the weights of a chunk that may be among the largest of all, by ascending index."""
    values = chunk.reshape(len(chunk), -1)
    # Where an output has no weights in this chunk but in others, all features of the chunk are NaN: the first count.
    first = np.arange(min(limit, len(values)))
    indices = np.union1d(largest_first(values, nan_first)[:limit], first)
    return Largest(indices, values[indices], len(values), np.isnan(values).sum(axis=0))


def largest_first(values: np.ndarray, nan_first: bool = True) -> np.ndarray:
    """Return the indices of the features (p,) by the largest of their weights (p, k) in any output.

    Weights that are NaN come first, as they are what went wrong; or last, where they are those of levels that the fit
    has left out. An output whose weights are all NaN had no targets, and does not count.

    Examples
    --------
    >>> largest_first(np.array([[1.0, np.nan], [-3.0, np.nan], [np.nan, np.nan]])).tolist()
    [2, 1, 0]
    """
    return _order(values[:, _has_weights(values)], nan_first)


def _order(values: np.ndarray, nan_first: bool) -> np.ndarray:
    """Return the indices of the features by the largest of their weights in the outputs that count."""
    sizes = np.abs(values).max(axis=1, initial=0.0)
    if nan_first:
        place_of_nan = -np.inf
    else:
        place_of_nan = np.inf
    return np.argsort(np.where(np.isnan(sizes), place_of_nan, -sizes), kind="stable")


def _has_weights(values: np.ndarray) -> np.ndarray:
    """Return which of the outputs (k,) have weights that are not NaN; the only one always counts."""
    return _counted(~np.isnan(values).all(axis=0))


def _counted(has_weights: np.ndarray) -> np.ndarray:
    """Return which of the outputs count: those with weights, or all where none has."""
    if not has_weights.any():
        return np.ones(len(has_weights), bool)
    return has_weights
