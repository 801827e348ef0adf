"""How far is a pass from the floor that the machine sets?

    python benchmarks/floor.py --repeat 5

One pass (loss and gradient) over 1,000,000 x 100 float64 in 20 chunks of 40 MB, on a cluster of 2 workers and on 2 of
Dask's threads, against the floor: 2 threads that read the same files into reused buffers, decode them into reused
buffers and take the gradient with two GEMV per block of rows that fits in the cache. Taken in turns, files in the page
cache, uncompressed and lz4. Then the same work as a partition's task does it, in this process on one thread: where its
time goes.

Target: a pass on 2 workers takes at most 1.5 times the floor.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import dask
import numpy as np
from common import arguments, cluster, finish, make_problem, scratch
from numcodecs import blosc
from threadpoolctl import threadpool_limits

import dask_gd
from dask_gd import passes
from dask_gd.kernels.base import Request, combine, sums_of_rows
from dask_gd.passes.checks import check
from dask_gd.passes.task import AtQuery, Work, sums_of_group
from dask_gd.sources import Source

HEADER = ("codec", "what", "median s", "GB/s", "ratio to the floor", "all s")
TARGET = 1.5
LOSS = dask_gd.Logistic()
REQUEST = Request()
BLOCK = 1250
FEATURES = 100
CHUNK_ROWS = 50_000
_buffers = threading.local()


def load(path: Path, codec: str, array: str, i: int, shape: tuple[int, ...]) -> np.ndarray:
    """One chunk straight from its file, in memory that the thread keeps."""
    file = path / array / "c" / "/".join(str(j) for j in (i, *(0,) * (len(shape) - 1)))
    if not hasattr(_buffers, array):
        size = int(np.prod(shape)) * 8
        setattr(_buffers, array, (np.empty(size, np.uint8), np.empty(size + (1 << 20), np.uint8)))
    decoded, raw = getattr(_buffers, array)
    into = decoded if codec == "none" else raw
    with open(file, "rb", buffering=0) as f:
        n = f.readinto(into)
    if codec != "none":
        blosc.decompress(raw[:n], decoded)
    return decoded.view(float).reshape(shape)


def read(path: Path, codec: str, i: int) -> tuple[np.ndarray, np.ndarray]:
    return load(path, codec, "x", i, (CHUNK_ROWS, FEATURES)), load(path, codec, "y", i, (CHUNK_ROWS,))


def gradient(x: np.ndarray, y: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Two GEMV per cache block."""
    total = np.zeros(len(w))
    for start in range(0, len(x), BLOCK):
        block = x[start : start + BLOCK]
        total += block.T @ (1 / (1 + np.exp(-(block @ w))) - y[start : start + BLOCK])
    return total


def floor(pool: ThreadPoolExecutor, path: Path, codec: str, chunks: int, w: np.ndarray) -> np.ndarray:
    """The whole gradient by two threads."""
    return sum(pool.map(lambda i: gradient(*read(path, codec, i), w), range(chunks)))


def seconds(function: Callable, *arguments) -> float:
    began = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - began


def breakdown(
    source: Source, path: Path, codec: str, chunks: int, query: np.ndarray
) -> dict[str, Callable[[], object]]:
    """The parts of the tasks' work, each over all the data on one thread."""
    groups = tuple((i,) for i in range(source.partitions))
    work = Work(source.reader, AtQuery(query, LOSS, REQUEST), groups, key="floor", add=combine)
    x, y = read(path, codec, 0)
    w = query[:, 0, 0]
    stats = sums_of_rows(x, y[:, None], None, query, LOSS, REQUEST)
    rows = next(source.reader((0,)))[1]
    columns = source.reader.bind(0, ())

    def whole_task() -> None:
        for i in range(source.partitions):
            sums_of_group(work, i)

    def reader() -> None:
        for _ in source.reader(tuple(range(source.partitions))):
            pass

    def reader_of_x() -> None:
        for start, stop in columns["x"].windows(0, source.shape[0]):
            columns["x"].read(start, stop)

    def arithmetic() -> None:
        for _ in range(chunks):
            sums_of_rows(x, y[:, None], None, query, LOSS, REQUEST)

    def check_and_combine() -> None:
        for _ in range(chunks):
            check(rows, stats, LOSS, REQUEST, lambda: columns)
            combine(stats, stats)

    def read_and_decode() -> None:
        for i in range(chunks):
            load(path, codec, "x", i, (CHUNK_ROWS, FEATURES))

    def floor_arithmetic() -> None:
        for _ in range(chunks):
            gradient(x, y, w)

    return {
        "task: all of it": whole_task,
        "task: reader (zarr read + decode, x and y)": reader,
        "task: reader, x only": reader_of_x,
        "task: arithmetic (sums_of_rows)": arithmetic,
        "task: check and combine": check_and_combine,
        "floor: read + decode": read_and_decode,
        "floor: arithmetic": floor_arithmetic,
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    blosc.use_threads = False
    table, verdicts = [], {}
    w = np.random.default_rng(1).normal(size=FEATURES) / 20
    query, chunks = w[:, None, None], args.rows // CHUNK_ROWS
    with scratch(args.directory) as directory, ThreadPoolExecutor(2) as pool, threadpool_limits(1, "blas"):
        for codec in ("none", "lz4"):
            path = make_problem(directory, args.rows, FEATURES, CHUNK_ROWS, codec)
            source = dask_gd.open(path, x="x", y="y")
            parts = breakdown(source, path, codec, chunks, query)
            times: dict[str, list[float]] = {}

            def note(what: str, s: float, times=times) -> None:
                times.setdefault(what, []).append(s)

            with cluster(2, "1GB"):
                for i in range(args.repeat + 1):
                    note("floor, 2 threads", seconds(floor, pool, path, codec, chunks, w))
                    note(
                        "pass, 2 workers", seconds(passes.evaluate, source, query, LOSS, REQUEST, f"cluster-{codec}", i)
                    )
                    with dask.config.set(scheduler="threads", num_workers=2):
                        note(
                            "pass, 2 threads",
                            seconds(passes.evaluate, source, query, LOSS, REQUEST, f"threads-{codec}", i),
                        )
                sums = passes.evaluate(source, query, LOSS, REQUEST, f"check-{codec}", 0)
                np.testing.assert_allclose(sums.gradient[:, 0, 0], floor(pool, path, codec, chunks, w), rtol=1e-8)
            for _ in range(args.repeat + 1):
                for what, part in parts.items():
                    note(f"1 thread, {what}", seconds(part))
            base = median(times["floor, 2 threads"][1:])  # the first of each is a warm-up
            for what, (_, *measured) in times.items():
                s = median(measured)
                shown = " ".join(f"{t:.2f}" for t in measured)
                table.append((codec, what, s, source.nbytes / 1e9 / s, s / base, shown))
            times_floor = median(times["pass, 2 workers"][1:]) / base
            verdicts[f"{codec}: {times_floor:.2f} times the floor, target <= {TARGET}"] = times_floor <= TARGET
    finish(f"One pass over {args.rows:,} x {FEATURES}", HEADER, table, verdicts, args.output)


if __name__ == "__main__":
    main()
