"""What does a pass cost whose columns are shifted?

    python benchmarks/shift.py --repeat 15

One gradient pass of the logistic loss over 1,000,000 x 100 float32 whose columns have means of 10,000 spreads, in a
Zarr array without compression and with lz4, on 2 of Dask's threads; then the kernel alone, over rows in memory on one
thread. Each with the shift and without it, in turns. Passes over columns near 0 have no shift, and so none of this.

Target: the shift adds at most 3 %.
"""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from statistics import median

import dask
import numpy as np
import zarr
from common import CODECS, in_turns

import dask_gd
from dask_gd import passes
from dask_gd.kernels.base import Request, sums_of_rows
from dask_gd.worker_env import one_blas_thread

TARGET, ROWS, FEATURES, CHUNK_ROWS = 1.03, 1_000_000, 100, 50_000
TITLE = f"A gradient pass over {ROWS:,} x {FEATURES} float32, with a shift of its columns and without"
HEADER = ("pass", "without, median s", "with, median s", "ratio")
SHIFT, LOSS = np.full(FEATURES, 1e4), dask_gd.Logistic()


def stored(directory: Path, codec: str) -> dask_gd.sources.Source:
    """Return rows in a Zarr group, which is written unless it is there."""
    path = directory / f"far-{codec}.zarr"
    if not path.exists():
        rng = np.random.default_rng(0)
        group = zarr.open_group(path, mode="w", zarr_format=3)
        more = {"compressors": CODECS[codec]}
        x = group.create_array("x", shape=(ROWS, FEATURES), chunks=(CHUNK_ROWS, FEATURES), dtype="f4", **more)
        y = group.create_array("y", shape=(ROWS,), chunks=(CHUNK_ROWS,), dtype="f8", **more)
        for start in range(0, ROWS, CHUNK_ROWS):
            x[start : start + CHUNK_ROWS] = SHIFT + rng.standard_normal((CHUNK_ROWS, FEATURES))
            y[start : start + CHUNK_ROWS] = rng.integers(0, 2, CHUNK_ROWS)
    return dask_gd.open(path, x="x", y="y")


def measure(directory: Path, repeat: int) -> tuple[list[tuple], dict[str, bool]]:
    """Return the table's rows and the verdict."""
    query = np.zeros((FEATURES + 1, 1, 1))
    numbers = itertools.count()
    sources = {codec: stored(directory, codec) for codec in ("none", "lz4")}
    rng = np.random.default_rng(0)
    x = (SHIFT + rng.standard_normal((200_000, FEATURES))).astype(np.float32)
    y = rng.integers(0, 2, (len(x), 1)).astype(float)

    def one_pass(codec: str, shift: np.ndarray | None) -> None:
        passes.evaluate(sources[codec], query, LOSS, Request(shift=shift), "shift", next(numbers))

    def kernel(_: str, shift: np.ndarray | None) -> None:
        with one_blas_thread():
            sums_of_rows(x, y, None, query, LOSS, Request(shift=shift))

    rows, verdict = [], {}
    cases = {
        "Zarr, no compression": (one_pass, "none"),
        "Zarr, lz4": (one_pass, "lz4"),
        "kernel alone": (kernel, ""),
    }
    for name, (function, codec) in cases.items():
        seconds: dict[bool, list[float]] = {False: [], True: []}
        with dask.config.set(scheduler="threads", num_workers=2):
            for turn in range(repeat + 1):
                for shifted in (False, True):
                    began = time.perf_counter()
                    function(codec, SHIFT if shifted else None)
                    if turn:  # the first warms up
                        seconds[shifted].append(time.perf_counter() - began)
        without, with_ = median(seconds[False]), median(seconds[True])
        rows.append((name, without, with_, with_ / without))
        if function is one_pass:
            verdict[f"{name}: {with_ / without:.3f} times, target {TARGET}"] = with_ / without <= TARGET
    return rows, verdict


if __name__ == "__main__":
    in_turns(__doc__, TITLE, HEADER, measure, repeat=15)
