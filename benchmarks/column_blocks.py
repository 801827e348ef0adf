"""What does a column block of sparse rows cost, beside SciPy's products of the same rows?

    python benchmarks/column_blocks.py

250,000 rows of 5 entries in 2^21 columns: an eighth of the columns of rows of 40 entries in 2^24. Columns are
scattered, evenly or by a power law. The rows are read through the grid of a source, and kept as a worker keeps them;
then products with weights and with slopes are taken, whole passes in turns with SciPy's, medians of 15, on one thread.

The floor: the entries, 12 bytes each, come from memory once for each of the two products, and the weights and the sum,
16 MB each, do not stay in the cache.

Target: 1.15 times SciPy's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import scipy.sparse
import zarr
from common import arguments, finish, scratch

import dask_gd
from dask_gd.sources import cache as kept_rows
from dask_gd.sources.column_grid import ColumnGrid, grid_of

HEADER = ("columns", "what", "ns/entry", "SciPy's", "ratio")
TARGET = 1.15
REPEAT = 15


def make_rows(directory: Path, law: str, rows: int, features: int, entries: int) -> Path:
    """Two groups of sparse rows side by side: the block, and a small one."""
    path = directory / f"blocks-{law}-{rows}x{features}.zarr"
    rng = np.random.default_rng(0)
    if law == "even":
        columns = rng.integers(0, features, (rows, entries))
    else:
        # Ranks whose logarithms are even.
        ranks = (features ** rng.random((rows, entries))).astype(np.int64)
        columns = rng.permutation(features + 1)[ranks] % features
    places = (np.repeat(np.arange(rows), entries), columns.ravel())
    block = scipy.sparse.csr_array((rng.normal(size=rows * entries), places), shape=(rows, features))
    block.sum_duplicates()
    small = scipy.sparse.random_array((rows, 100), density=0.01, rng=rng, format="csr")
    small.sum_duplicates()
    for name, x in (("block", block), ("small", small)):
        dask_gd.write_sparse(x, path / name, overwrite=True)
    # A group around both.
    zarr.open_group(path, mode="a")
    return path


def products(grid: ColumnGrid, rows: int) -> tuple[Callable[[], np.ndarray], Callable[[], np.ndarray]]:
    """Passes over the kept rows of the first block: predictions, and a gradient that is added to."""
    row_format = grid.formats[0]
    workspace = row_format.workspace(None)
    weights = workspace.weights(vector(row_format.features)[:, None])
    slopes = vector(rows)[:, None]
    total = np.zeros((row_format.features, 1))
    predictions = np.empty((rows, 1))
    reader = grid.reader(0)
    segments = tuple(range(len(grid.segments) - 1))

    def times() -> np.ndarray:
        for _, window in reader(segments, keep=("benchmark", 1)):
            product = workspace.block(window.x).times(weights)
            predictions[window.start : window.start + len(product)] = product
        return predictions[:, 0]

    def transposed_times() -> np.ndarray:
        for _, window in reader(segments, keep=("benchmark", 1)):
            own = slopes[window.start : window.start + len(window.y)]
            workspace.block(window.x).add_transposed_times(own, total)
        return total[:, 0]

    return times, transposed_times


def vector(size: int) -> np.ndarray:
    return np.random.default_rng(size).normal(size=size)


def in_turns(*functions: Callable[[], np.ndarray]) -> list[float]:
    """The median seconds of each."""
    seconds: list[list[float]] = [[] for _ in functions]
    for repeat in range(REPEAT + 1):
        for function, taken in zip(functions, seconds, strict=True):
            began = time.perf_counter()
            function()
            # The first time rows are read.
            if repeat:
                taken.append(time.perf_counter() - began)
    return list(map(median, seconds))


def measure(path: Path, law: str) -> list[tuple]:
    source = dask_gd.open(path, x=["block/X", "small/X"])
    times, transposed_times = products(grid_of(source), source.shape[0])
    stored = zarr.open_group(path / "block" / "X", mode="r")
    data, indices, indptr = (stored[name][:] for name in ("data", "indices", "indptr"))
    matrix = scipy.sparse.csr_array((data, indices.astype(np.int32), indptr.astype(np.int32)), stored.attrs["shape"])
    w, r = vector(matrix.shape[1]), vector(matrix.shape[0])
    ours, theirs, ours_transposed, theirs_transposed = in_turns(
        times, lambda: matrix @ w, transposed_times, lambda: matrix.T @ r
    )
    np.testing.assert_allclose(times(), matrix @ w, atol=1e-9)
    kept_rows.cache.drop("benchmark")
    pairs = {
        "X w": (ours, theirs),
        "X^T r": (ours_transposed, theirs_transposed),
        "both": (ours + ours_transposed, theirs + theirs_transposed),
    }
    return [(law, what, *(1e9 * s / matrix.nnz for s in pair), pair[0] / pair[1]) for what, pair in pairs.items()]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=250_000)
    parser.add_argument("--features", type=int, default=1 << 21)
    parser.add_argument("--entries", type=int, default=5)
    options = parser.parse_args()
    # A process that is no worker keeps nothing, as it has no limit.
    kept_rows.memory_limit = lambda: 1 << 40
    with scratch(options.directory) as directory:
        results = []
        for law in ("even", "power"):
            path = make_rows(directory, law, options.rows, options.features, options.entries)
            results += measure(path, law)
    verdicts = {}
    for law, what, *_, ratio in results:
        if what == "both":
            verdicts[f"columns scattered by the law {law!r}: at most {TARGET:g} times SciPy's"] = ratio <= TARGET
    finish("A column block", HEADER, results, verdicts, options.output)


if __name__ == "__main__":
    main()
