"""A split of rows in two, by a hash of their number."""

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
from ..sources.dask_frames import with_fixed_partitions
from ..sources.dataset_column import decoded
from ..sources.gate import gated
from ..sources.lazy import LAZY, is_lazy, named, opened
from ..sources.row_hash import row_hashes
from ..validate import is_whole

#: Number of rows that are hashed at a time, in the processor's cache.
STEP = 1 << 16


def train_test_split(*arrays: Any, test_size: float = 0.25, seed: int = 0) -> list:
    """Split arrays by rows, the same in all arrays, into rows to fit and rows to test.

    The hash of its number and the seed decides whether a row is tested. So the split does not depend on chunks or
    workers, and rows that are added later leave the others where they were. The shares are met up to chance:
    of n rows ``n * test_size``, give or take ``sqrt(n * test_size * (1 - test_size))``.

    Parameters
    ----------
    arrays : array-likes with the same number of rows
        NumPy and pandas are split in memory. Dask arrays, Zarr arrays and lazy DataArrays stay lazy: no row is read,
        the sizes of the chunks are known from the hashes, and each task leaves out the other rows of its chunk.
        Dask frames and Series stay lazy too, once the lengths of their partitions have been computed; the parts are
        frames and Series with the same columns. The parts of a Zarr array that names its features are DataArrays.
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
        Also where a part has no row.

    Examples
    --------
    >>> from dask_gd.preprocessing import train_test_split
    >>> train_test_split(np.arange(8), test_size=0.4)
    [array([0, 1, 3, 4, 6]), array([2, 5, 7])]
    """
    _check_arguments(arrays, test_size, seed)
    # Rows are selected from the columns; the parts have the labels of the arrays.
    roles = [f"array {i}" for i in range(len(arrays))]
    labelled = _with_labels(arrays, roles)
    columns = list(map(_rows, labelled, roles))
    lengths = [column.shape[0] for column in columns]
    if len(set(lengths)) > 1:
        raise InvalidArgumentError(f"The arrays have {', '.join(map(str, lengths))} rows; they must agree.")
    n = lengths[0]
    threshold = int(float(test_size) * 2**64)
    is_tested = partial(tested, int(seed), threshold)
    # Every row is hashed once for all the arrays, between edges that include those of all chunks.
    lazy_columns = [column for column in columns if isinstance(column, da.Array | Frame)]
    chunk_stops = [np.cumsum(column.chunks[0]) for column in lazy_columns]
    steps = np.arange(0, n, STEP)
    edges = np.unique(np.concatenate([*chunk_stops, steps, [0, n]]))
    counts = [int(is_tested(start, stop).sum()) for start, stop in pairwise(edges.tolist())]
    tested_before = np.cumsum([0, *counts])
    count = int(tested_before[-1])
    if not 0 < count < n:
        purpose = "fit" if count else "test"
        raise InvalidArgumentError(
            f"test_size={test_size} with seed={seed} leaves no row to {purpose} of {n}; take another of either."
        )
    # Each array has two parts: the rows to fit and the rows to test.
    parts = [_parts(column, is_tested, edges, tested_before) for column in columns]
    split = []
    for array, (fit_rows, test_rows) in zip(labelled, parts, strict=True):
        split.append(_labelled(array, fit_rows, for_test=False, is_tested=is_tested))
        split.append(_labelled(array, test_rows, for_test=True, is_tested=is_tested))
    return split


def _check_arguments(arrays: tuple, test_size: Any, seed: Any) -> None:
    """Refuse arguments of other types, or beyond their bounds."""
    is_number = isinstance(test_size, int | float | np.number) and not isinstance(test_size, bool)
    if not is_number or not 0 < test_size < 1:
        raise InvalidArgumentError(f"test_size={test_size!r}: a share of the rows, above 0 and below 1.")
    if not is_whole(seed, least=0):
        raise InvalidArgumentError(f"seed={seed!r}: a whole number, 0 or more.")
    if not arrays:
        raise InvalidArgumentError("train_test_split needs at least one array.")
    # This refuses Datasets.
    is_lazy(*arrays)
    if any(isinstance(array, Source) for array in arrays):
        raise InvalidTypeError("train_test_split was given a Source; give its arrays, such as group['X'], group['y'].")


def _with_labels(arrays: tuple, roles: list[str]) -> list:
    """Return the arrays with the labels that their parts have too; a Zarr array with names becomes a DataArray."""
    with_names = list(map(named, map(from_arrow, arrays), roles))
    labelled = []
    for array, role in zip(with_names, roles, strict=True):
        if isinstance(array, xr.DataArray):
            labelled.append(decoded(array, role))
        else:
            labelled.append(array)
    return labelled


def tested(seed: int, threshold: int, start: int, stop: int) -> np.ndarray:
    """Return which of the rows ``start`` to ``stop`` are tested."""
    return row_hashes(seed, start, stop) < np.uint64(threshold)


class Frame(NamedTuple):
    """A Dask frame or Series, and the lengths of its partitions."""

    data: Any
    lengths: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape, with the number of rows."""
        return (sum(self.lengths), *self.data.shape[1:])

    @property
    def chunks(self) -> tuple[tuple[int, ...]]:
        """The lengths of the partitions, as an array has its chunks."""
        return (self.lengths,)

    def picked(self, is_tested: Any, for_test: bool, sizes: np.ndarray) -> Any:
        """Return the rows that are tested, or the rows that are not, lazily."""
        # Dask frames need pandas, which other rows can do without.
        from dask.dataframe import from_map

        # A frame of the partitions' first rows stays beside them, whichever partitions Dask leaves out.
        firsts = np.cumsum([0, *self.lengths])[:-1].tolist()
        starts = from_map(_start, firsts, meta=_start(0))
        of_partition = partial(_pick_rows, is_tested=is_tested, for_test=for_test)
        return self.data.map_partitions(
            of_partition,
            starts,
            meta=self.data._meta,
            align_dataframes=False,
        )


def _start(first: int) -> Any:
    """Return the number of a partition's first row as a pandas Series."""
    import pandas as pd

    return pd.Series([first])


def _ones(part: Any) -> Any:
    """Return a Series of ones with as many rows as a partition."""
    import pandas as pd

    return pd.Series(np.ones(len(part), np.int64))


def _pick_rows(
    part: Any,
    start: Any,
    is_tested: Any,
    for_test: bool,
) -> Any:
    """Return the rows of a pandas frame or Series that are tested, or the rows that are not."""
    first = int(start.iloc[0])
    return part[is_tested(first, first + len(part)) == for_test]


def _rows(a: Any, name: str) -> Any:
    """Return Dask for lazy data, else an array or a pandas object whose rows indices select."""
    if is_lazy_frame(a):
        # Partitions whose lengths are counted must not be joined later.
        a = with_fixed_partitions(a)
        # The lengths of a Series of numbers: there are dtypes of pandas that Dask cannot make an array of.
        ones = a.map_partitions(_ones, meta=_start(1)).to_dask_array()
        lengths = sized(ones, name).chunks[0]
        return Frame(a, tuple(map(int, lengths)))
    if isinstance(a, LAZY):
        a = opened(a, name)
    elif not hasattr(a, "shape"):
        a = np.asarray(a)
    if not a.shape:
        raise InvalidArgumentError(f"{name} has no rows; it is a {type(a).__name__} of shape ().")
    # An opened DataArray may be in memory.
    if isinstance(a, da.Array):
        return sized(gated(a, name), name)
    return a


def _parts(
    column: Any,
    is_tested: Any,
    edges: np.ndarray,
    tested_before: np.ndarray,
) -> tuple[Any, Any]:
    """Return the rows that are not tested, and the rows that are.

    ``tested_before`` has the number of tested rows before each of the edges.
    """
    if not isinstance(column, da.Array | Frame):
        # Rows in memory are selected at once.
        mask = is_tested(0, column.shape[0])
        select = getattr(column, "iloc", column)
        return select[np.flatnonzero(~mask)], select[np.flatnonzero(mask)]
    if isinstance(column, Frame):
        pick_rows = column.picked
    else:
        pick_rows = partial(_picked, column)
    # The sizes of the chunks of both parts are known without reading a row.
    chunk_edges = np.cumsum([0, *column.chunks[0]])
    test_sizes = np.diff(tested_before[np.searchsorted(edges, chunk_edges)])
    fit_sizes = column.chunks[0] - test_sizes
    fit_part = pick_rows(is_tested, for_test=False, sizes=fit_sizes)
    test_part = pick_rows(is_tested, for_test=True, sizes=test_sizes)
    return fit_part, test_part


def _picked(
    column: da.Array,
    is_tested: Any,
    for_test: bool,
    sizes: np.ndarray,
) -> da.Array:
    """Return the rows of a Dask array that are tested, or the rows that are not, in chunks of these sizes."""
    chunks = (tuple(sizes.tolist()), *column.chunks[1:])
    return da.map_blocks(
        pick,
        column,
        is_tested,
        for_test,
        chunks=chunks,
        dtype=column.dtype,
        meta=column._meta,
    )


def pick(
    block: np.ndarray,
    is_tested: Any,
    for_test: bool,
    block_info: Any = None,
) -> np.ndarray:
    """Return the rows of a block that are tested, or the rows that are not: the task of a lazy split."""
    start, stop = block_info[0]["array-location"][0]
    return block[is_tested(start, stop) == for_test]


def _labelled(
    array: Any,
    part: Any,
    for_test: bool,
    is_tested: Any,
) -> Any:
    """Return a part with the coordinates of its rows, if it is from a DataArray."""
    if not isinstance(array, xr.DataArray):
        return part
    coords: Any = array.coords
    row = array.dims[0]
    # Only coordinates along the rows have to be selected, for which all rows are hashed again.
    if any(row in coordinate.dims for coordinate in coords.values()):
        chosen = np.flatnonzero(is_tested(0, array.shape[0]) == for_test)
        coords = coords.to_dataset().isel({row: chosen}).coords
    return xr.DataArray(
        part,
        dims=array.dims,
        coords=coords,
        name=array.name,
        attrs=array.attrs,
    )
