"""The data of blocks.py, written part by part: sparse rows, as hashed text and click logs have them, and dense ones.

Ranks of columns follow a power law and are scattered over all columns. Classes follow a linear model in which an eighth
of the columns have a coefficient, which a hash of the column gives, so that no vector of all columns is needed. A part
has a generator of its own: what is written depends on the sizes alone. Data that is already there is used again.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import dask.array as da
import numpy as np
import zarr
from scipy.sparse import csr_array

import dask_gd

#: The power of a uniform number that gives a rank: of 40 M entries in 2^24 columns 12.5 M columns have some.
POWER = 2.5
#: A prime: multiples of it scatter ranks, and no two ranks below the number of columns meet.
SCATTER = 2_654_435_761
MOST_PART_ROWS = 50_000


class Sizes(NamedTuple):
    """Rows, columns, and the entries of a row."""

    rows: int
    columns: int
    entries: int


def make_sparse_rows(directory: Path, sizes: Sizes) -> Path:
    """Return a group of sparse rows ``X`` of float32, stored row by row, and their classes ``y``."""
    path = directory / f"rows-{sizes.rows}x{sizes.columns}.zarr"
    if path.exists():
        return path
    part_rows = min(MOST_PART_ROWS, -(-sizes.rows // 4))
    starts = np.arange(0, sizes.rows, part_rows)
    heights = tuple(int(min(part_rows, sizes.rows - start)) for start in starts)
    number = da.arange(len(heights), chunks=1)
    meta = csr_array((0, 0), dtype=np.float32)
    x = number.map_blocks(
        lambda part: sparse_part(int(part[0]), heights[int(part[0])], sizes),
        chunks=(heights, (sizes.columns,)),
        new_axis=1,
        dtype=np.float32,
        meta=meta,
    )
    y = x.map_blocks(classes_of, drop_axis=1, chunks=(heights,), dtype=float, meta=np.empty(0))
    dask_gd.write_sparse(x, path, y=y)
    return path


def sparse_part(number: int, rows: int, sizes: Sizes) -> csr_array:
    """Return the rows of a part; columns ascend, and none is twice in a row."""
    rng = np.random.default_rng([7, number])
    ranks = (sizes.columns * rng.random((rows, sizes.entries)) ** POWER).astype(np.uint64)
    columns = ranks * np.uint64(SCATTER) % np.uint64(sizes.columns)
    columns = np.sort(columns.astype(np.int32), axis=1)
    is_new = np.ones(columns.shape, bool)
    is_new[:, 1:] = columns[:, 1:] != columns[:, :-1]
    indptr = np.concatenate([[0], np.cumsum(is_new.sum(axis=1))]).astype(np.int32)
    indices = columns[is_new]
    values = rng.uniform(0.5, 1.5, len(indices)).astype(np.float32)
    return csr_array((values, indices, indptr), shape=(rows, sizes.columns))


def coefficients_of(columns: np.ndarray) -> np.ndarray:
    """Return the true coefficients of columns: of seven in eight 0, of the others between -2 and 2."""
    mixed = (columns.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(32)
    mixed *= np.uint64(0xD1342543DE82EF95)
    mixed ^= mixed >> np.uint64(32)
    value = 4 * ((mixed >> np.uint64(11)) / 2.0**53 - 0.5)
    return np.where(mixed & np.uint64(7), 0.0, value)


def classes_of(x: csr_array) -> np.ndarray:
    """Return a class for each row, drawn by the true model."""
    if not x.shape[0]:
        return np.empty(0)
    terms = csr_array((x.data * coefficients_of(x.indices), x.indices, x.indptr), shape=x.shape)
    z = terms.sum(axis=1)
    rng = np.random.default_rng([8, int(x.indices[:64].sum())])
    return (z + rng.logistic(size=len(z)) > 0).astype(float)


def make_column_blocks(rows: Path) -> Path:
    """Return the same rows, stored by blocks of columns."""
    path = rows.with_name(f"blocks-{rows.name}")
    if not path.exists():
        dask_gd.block_columns(dask_gd.open(rows, x="X", y="y"), path)
    return path


def make_dense(directory: Path, rows: int, columns: int) -> Path:
    """Return a group of dense float32 ``x`` in chunks of some rows and some columns, and classes ``y``."""
    path = directory / f"dense-{rows}x{columns}.zarr"
    if path.exists() and zarr.open_group(path, mode="r").attrs.get("complete"):
        return path
    chunk = (max(1, rows // 10), max(1, columns // 4))
    group = zarr.open_group(path, mode="w")
    options = {"compressors": None, "config": {"write_empty_chunks": True}}
    x = group.create_array("x", shape=(rows, columns), chunks=chunk, dtype="f4", **options)
    y = group.create_array("y", shape=(rows,), chunks=(chunk[0],), dtype="f8", **options)
    w = np.random.default_rng(0).standard_normal(columns, dtype="f4") / np.sqrt(columns)
    for part, start in enumerate(range(0, rows, chunk[0])):
        rng = np.random.default_rng([1, part])
        band = rng.standard_normal((min(chunk[0], rows - start), columns), dtype="f4")
        x[start : start + chunk[0]] = band
        y[start : start + chunk[0]] = band @ w > rng.logistic(size=len(band)) / 4
    group.attrs["complete"] = True
    return path
