"""What do very wide rows cost?

    python benchmarks/wide.py

L-BFGS for a logistic loss on 1.6 GB of float32 in chunks of 40 MB, 10,000 to 1,000,000 features, on 2 workers of one
thread and 1 GB. "pass" is the median of the passes that try one step; several, as in a fit's first passes, take about
three times the arithmetic. "floor" is a loop in this process over the same rows with one thread: read, predict,
gradient. Memory is a worker's peak above what it held before, beside what `source.plan()` says.

Target: no worker takes more than planned, and 32 MB.
"""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

import numpy as np
import zarr
from common import arguments, cluster, finish, scratch
from memory import peak, resident

import dask_gd
from dask_gd.worker_env import one_blas_thread

BYTES, CHUNK_BYTES, SLACK = 1_600_000_000, 40_000_000, 32
HEADER = ("features", "rows", "pass s", "GB/s", "times the floor on 1 thread", "worker MB", "planned MB", "iterations")


def make_wide(directory: Path, features: int) -> Path:
    """Independent normal features, and classes that follow a linear model."""
    rows, chunk = BYTES // (4 * features), CHUNK_BYTES // (4 * features)
    path = directory / f"wide-{features}.zarr"
    if path.exists() and zarr.open_group(path, mode="r").attrs.get("complete"):
        return path
    group = zarr.open_group(path, mode="w")
    options = {"compressors": None, "config": {"write_empty_chunks": True}}
    x = group.create_array("x", shape=(rows, features), chunks=(chunk, features), dtype="f4", **options)
    y = group.create_array("y", shape=(rows,), chunks=(chunk,), dtype="f8", **options)
    rng = np.random.default_rng(0)
    w = rng.standard_normal(features, dtype="f4") / np.sqrt(features)
    for start in range(0, rows, chunk):
        block = rng.standard_normal((min(chunk, rows - start), features), dtype="f4")
        x[start : start + chunk] = block
        y[start : start + chunk] = block @ w > rng.logistic(size=len(block)) / 4
    group.attrs["complete"] = True
    return path


def floor(path: Path) -> float:
    """Seconds of the least that one thread has to do for a gradient."""
    x, y = (zarr.open_array(path / name, mode="r") for name in "xy")
    target, chunk, w = y[:], x.chunks, np.zeros(x.shape[1], "f4")
    memory, gradient = np.empty(chunk, "f4"), np.zeros(x.shape[1])
    began = time.perf_counter()
    with one_blas_thread():
        for i, start in enumerate(range(0, x.shape[0], chunk[0])):
            with open(path / "x" / "c" / str(i) / "0", "rb", buffering=0) as file:
                file.readinto(memory.data)
            slope = 1 / (1 + np.exp(-(memory @ w))) - target[start : start + chunk[0]]
            gradient += memory.T @ slope.astype("f4")
    return time.perf_counter() - began


def main() -> None:
    args = arguments(__doc__).parse_args()
    rows, verdicts = [], {}
    with scratch(args.directory) as directory:
        for features in (10_000, 100_000, 1_000_000):
            path = make_wide(directory, features)
            least = min(floor(path) for _ in range(3))
            with cluster(2, "1GB") as client:
                source = dask_gd.open(path, x="x", y="y")
                before = client.run(resident)
                penalty = dask_gd.L2(1e-3)
                run = dask_gd.fit(source, loss="logistic", solver="lbfgs", penalty=penalty, max_iter=24, tol=1e-7)
                grown = max(mark - before[worker] for worker, mark in client.run(peak).items())
            # The step before was 1: the pass tried one step, see LBFGS.
            full = run.history.passes.values == 1
            alone = np.flatnonzero(full & (np.roll(run.history.step_size.values, 1) == 1))
            seconds = median(run.history.seconds.values[alone])
            planned = source.plan().memory / 1e6
            speed = source.nbytes / 1e9 / seconds
            rows.append((features, source.shape[0], seconds, speed, seconds / least, grown, planned, run.n_iter))
            verdicts[f"{features:,} features: {grown:.0f} MB, planned {planned:.0f}"] = grown <= planned + SLACK
    finish("Wide rows", HEADER, rows, verdicts, args.output)


if __name__ == "__main__":
    main()
