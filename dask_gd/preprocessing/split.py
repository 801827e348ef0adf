"""Rows split in two."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
import xarray as xr

from ..errors import InvalidArgumentError, InvalidTypeError
from ..sources import Source
from ..sources.coercion import from_arrow, is_lazy_frame
from ..sources.columns import sized
from ..sources.dataset_column import decoded
from ..sources.gate import gated
from ..sources.lazy import LAZY, is_lazy, named, opened
from ..sources.row_hash import row_hashes

#: Rows hashed at a time, in the processor's cache.
STEP = 1 << 16


def train_test_split(*arrays: Any, test_size: float = 0.25, seed: int = 0) -> list:
    """Split arrays by rows, the same in all, into those to fit and those to test.

    A row is tested if the hash of its number and the seed says so, so that the split does not depend on chunks or
    workers, and rows that are added later leave the others where they were. The shares are met up to chance:
    of n rows ``n * test_size``, give or take ``sqrt(n * test_size * (1 - test_size))``.

    Parameters
    ----------
    arrays : array-likes with the same number of rows
        NumPy and pandas are split in memory. Dask arrays, Zarr arrays and lazy DataArrays stay lazy: nothing is read,
        the sizes of the chunks are known from the hashes, and a task leaves out the other rows of what it has read.
        So do Dask frames and Series, once the lengths of their partitions have been computed; the parts are frames and
        Series with the same columns. The parts of a Zarr array that names its features are DataArrays.
    test_size : float
        Between 0 and 1, the expected share.
    seed : int

    Returns
    -------
    list
        For each array the part to fit and the part to test, as scikit-learn's function gives them.

    Raises
    ------
    InvalidArgumentError
        Also where one of the parts has no row.

    Examples
    --------
    >>> from dask_gd.preprocessing import train_test_split
    >>> train_test_split(np.arange(8), test_size=0.4)
    [array([0, 1, 3, 4, 6]), array([2, 5, 7])]
    """
    if isinstance(test_size, bool) or not isinstance(test_size, int | float | np.number) or not 0 < test_size < 1:
        raise InvalidArgumentError(f"test_size={test_size!r}: a share of the rows, above 0 and below 1.")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise InvalidArgumentError(f"seed={seed!r}: a whole number, 0 or more.")
    if not arrays:
        raise InvalidArgumentError("train_test_split needs at least one array.")
    is_lazy(*arrays)  # which refuses Datasets
    if any(isinstance(a, Source) for a in arrays):
        raise InvalidTypeError("train_test_split was given a Source; give its arrays, such as group['X'], group['y'].")
    arrays = tuple(named(from_arrow(a), f"array {i}") for i, a in enumerate(arrays))
    arrays = tuple(decoded(a, f"array {i}") if isinstance(a, xr.DataArray) else a for i, a in enumerate(arrays))
    columns = [_rows(a, f"array {i}") for i, a in enumerate(arrays)]
    lengths = [column.shape[0] for column in columns]
    if len(set(lengths)) > 1:
        raise InvalidArgumentError(f"The arrays have {', '.join(map(str, lengths))} rows; they must agree.")
    n = lengths[0]
    tests = partial(tested, int(seed), int(float(test_size) * 2**64))
    stops = [np.cumsum(column.chunks[0]) for column in columns if isinstance(column, da.Array | Frame)]
    edges = np.unique(np.concatenate([*stops, np.arange(0, n, STEP), [0, n]]))
    # Tested rows before each edge: every row is hashed once for all the arrays.
    before = np.cumsum([0, *(int(tests(start, stop).sum()) for start, stop in pairwise(edges.tolist()))])
    count = int(before[-1])
    if not 0 < count < n:
        raise InvalidArgumentError(
            f"test_size={test_size} with seed={seed} leaves no row to {'fit' if count else 'test'} of {n}; "
            "take another of either."
        )
    parts = [_parts(column, tests, edges, before) for column in columns]
    return [
        _labelled(a, part, test, tests)
        for a, both in zip(arrays, parts, strict=True)
        for part, test in zip(both, (False, True), strict=True)
    ]


def tested(seed: int, threshold: int, start: int, stop: int) -> np.ndarray:
    """Which of the rows ``start`` to ``stop`` are tested."""
    return row_hashes(seed, start, stop) < np.uint64(threshold)


class Frame(NamedTuple):
    """A Dask frame or Series, and the lengths of its partitions."""

    data: Any
    lengths: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return (sum(self.lengths), *self.data.shape[1:])

    @property
    def chunks(self) -> tuple[tuple[int, ...]]:
        return (self.lengths,)

    def picked(self, tests: Any, test: bool, sizes: np.ndarray) -> Any:
        """Return the rows that are tested, or that are not, lazily."""
        from dask.dataframe import from_map

        # A frame of the partitions' first rows stays beside them, whichever of them Dask leaves out.
        firsts = np.cumsum([0, *self.lengths])[:-1].tolist()
        starts = from_map(_start, firsts, meta=_start(0))
        pick = partial(_pick_rows, tests=tests, test=test)
        return self.data.map_partitions(pick, starts, meta=self.data._meta, align_dataframes=False)


def _start(first: int) -> Any:
    """Return a partition's first row as a pandas Series of one number."""
    import pandas as pd

    return pd.Series([first])


def _ones(part: Any) -> Any:
    """Return as many ones as a partition has rows."""
    import pandas as pd

    return pd.Series(np.ones(len(part), np.int64))


def _pick_rows(part: Any, start: Any, tests: Any, test: bool) -> Any:
    """Return the rows of a pandas frame or Series that are tested, or that are not."""
    first = int(start.iloc[0])
    return part[tests(first, first + len(part)) == test]


def _rows(a: Any, name: str) -> Any:
    """Return Dask for what is lazy; else what indices select rows of."""
    if is_lazy_frame(a):
        # Of arrays of single numbers: Dask has none for all of pandas' dtypes.
        lengths = a.map_partitions(_ones, meta=_start(1)).to_dask_array()
        return Frame(a, tuple(map(int, sized(lengths, name).chunks[0])))
    if isinstance(a, LAZY):
        a = opened(a, name)
    elif not hasattr(a, "shape"):
        a = np.asarray(a)
    if not a.shape:
        raise InvalidArgumentError(f"{name} has no rows; it is a {type(a).__name__} of shape ().")
    if isinstance(a, da.Array):
        return sized(gated(a, name), name)
    return a


def _parts(column: Any, tests: Any, edges: np.ndarray, before: np.ndarray) -> tuple[Any, Any]:
    """Return rows that are not tested, and rows that are."""
    if not isinstance(column, da.Array | Frame):
        test = tests(0, column.shape[0])
        select = getattr(column, "iloc", column)
        return select[np.flatnonzero(~test)], select[np.flatnonzero(test)]
    if isinstance(column, Frame):
        pick = column.picked
    else:
        pick = partial(_picked, column)
    counts = np.diff(before[np.searchsorted(edges, np.cumsum([0, *column.chunks[0]]))])
    return pick(tests, False, column.chunks[0] - counts), pick(tests, True, counts)


def _picked(column: da.Array, tests: Any, test: bool, sizes: np.ndarray) -> da.Array:
    chunks = (tuple(sizes.tolist()), *column.chunks[1:])
    return da.map_blocks(pick, column, tests, test, chunks=chunks, dtype=column.dtype, meta=column._meta)


def pick(block: np.ndarray, tests: Any, test: bool, block_info: Any = None) -> np.ndarray:
    """The task: the rows of a block that are tested, or that are not."""
    return block[tests(*block_info[0]["array-location"][0]) == test]


def _labelled(a: Any, part: Any, test: bool, tests: Any) -> Any:
    """With the coordinates of its rows, if it is from a DataArray."""
    if not isinstance(a, xr.DataArray):
        return part
    coords: Any = a.coords
    if any(a.dims[0] in c.dims for c in coords.values()):
        chosen = np.flatnonzero(tests(0, a.shape[0]) == test)
        coords = coords.to_dataset().isel({a.dims[0]: chosen}).coords
    return xr.DataArray(part, dims=a.dims, coords=coords, name=a.name, attrs=a.attrs)
