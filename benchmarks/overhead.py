"""What do many small chunks cost?

    python benchmarks/overhead.py --repeat 5

One pass (loss and gradient) over 2,000 Zarr chunks of 3 KB, through a cluster of 2 workers and on Dask's threads,
against a plain loop in one process: for each chunk read x and y with zarr, take the gradient in NumPy. Taken in turns.

Target: the cluster takes less than 3 times as long as the plain loop.
"""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

import dask
import numpy as np
import zarr
from common import cluster, in_turns, make_problem

import dask_gd
from dask_gd import passes
from dask_gd.kernels.base import Request

TARGET, CHUNKS, CHUNK_ROWS, FEATURES = 3.0, 2000, 96, 4
TITLE = f"One pass over {CHUNKS:,} chunks of 3 KB"
HEADER = ("pass", "partitions", "tasks at most", "median s", "ratio to the loop", "all s")


def plain(x: zarr.Array, y: zarr.Array, w: np.ndarray) -> tuple[float, np.ndarray]:
    """Loss and gradient of the logistic loss, one chunk at a time."""
    loss, gradient = 0.0, np.zeros(len(w))
    for start in range(0, x.shape[0], CHUNK_ROWS):
        block, target = x[start : start + CHUNK_ROWS], y[start : start + CHUNK_ROWS]
        z = block @ w
        loss += float((np.logaddexp(0.0, z) - target * z).sum())
        gradient += block.T @ (1 / (1 + np.exp(-z)) - target)
    return loss, gradient


def timed(function, *arguments) -> tuple[float, object]:
    began = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - began, result


def measure(directory: Path, repeat: int) -> tuple[list[tuple], dict[str, bool]]:
    """The table's rows and the verdict."""
    path = make_problem(directory, CHUNKS * CHUNK_ROWS, FEATURES, CHUNK_ROWS)
    group = zarr.open_group(path, mode="r")
    opening, source = timed(lambda: dask_gd.open(path, x="x", y="y"))
    w = np.linspace(-1.0, 1.0, FEATURES)

    def one_pass(key: str):
        return passes.evaluate(source, w[:, None, None], dask_gd.Logistic(), Request(), key, 0)

    seconds: dict[str, list[float]] = {"plain loop": [], "dask_gd, 2 workers": [], "dask_gd, threads": []}
    with cluster(2, "1GB"):
        one_pass("warm-cluster")
        with dask.config.set(scheduler="threads"):
            one_pass("warm-threads")
        for i in range(repeat):
            loop, (loss, gradient) = timed(plain, group["x"], group["y"], w)
            pass_, sums = timed(one_pass, f"cluster-{i}")
            np.testing.assert_allclose(sums.gradient[:, 0, 0], gradient, rtol=1e-9)
            np.testing.assert_allclose(sums.loss, loss, rtol=1e-9)
            with dask.config.set(scheduler="threads"):
                threads, _ = timed(one_pass, f"threads-{i}")
            for name, s in zip(seconds, (loop, pass_, threads), strict=True):
                seconds[name].append(s)
    medians = {name: median(times) for name, times in seconds.items()}
    loop = medians["plain loop"]
    rows = [("open the source", "", "", opening, opening / loop, "")]
    for name, times in seconds.items():
        counts = ("", "") if name == "plain loop" else (source.partitions, source.plan().tasks)
        rows.append((name, *counts, medians[name], medians[name] / loop, " ".join(f"{s:.2f}" for s in times)))
    ratio = medians["dask_gd, 2 workers"] / loop
    return rows, {f"2 workers take {ratio:.2f} times the plain loop, target < {TARGET}": ratio < TARGET}


if __name__ == "__main__":
    in_turns(__doc__, TITLE, HEADER, measure, repeat=5)
