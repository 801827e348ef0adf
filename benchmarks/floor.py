"""How far is a pass from the floor that the machine sets?

    python benchmarks/floor.py --repeat 5
    python benchmarks/floor.py --codecs none lz4 zstd --cold

One pass (loss and gradient) over 1,000,000 x 100 float64 in 20 chunks of 40 MB, on a cluster of 2 workers and on 2 of
Dask's threads, against the floor: 2 threads that read the same files into reused buffers, decode them into reused
buffers and take the gradient with two GEMV per block of rows that fits in the cache. Plain chunks are read a few
megabytes at a time, which is faster than whole chunks. Taken in turns, files in the page cache; with ``--cold`` also
with the files out of it, which the system is asked to forget before each pass.

The floor itself in two parts, its reading and its arithmetic. Then the same work as a partition's task does it, in this
process on one thread: where its time goes.

Target: a pass on 2 workers takes at most 1.2 times the floor, uncompressed and warm, and 1.5 times otherwise.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import dask
import numcodecs.zstd
import numpy as np
from common import CODECS, arguments, cluster, finish, forget, make_problem, scratch
from numcodecs import blosc
from threadpoolctl import threadpool_limits

import dask_gd
from dask_gd import passes
from dask_gd.kernels.base import Part, Request, combine, sums_of_rows
from dask_gd.passes.checks import check
from dask_gd.passes.task import AtQuery, Work, sums_of_group
from dask_gd.sources import Source

HEADER = ("files", "what", "median s", "GB/s", "times the floor", "all s")
TARGETS = {"none, warm": 1.2}
TARGET = 1.5
LOSS = dask_gd.Logistic()
REQUEST = Request()
BLOCK = 1250
FEATURES = 100
CHUNK_ROWS = 50_000
#: Rows of a plain chunk that the floor reads at a time, 4 MB.
PIECE = 5_000
_buffers = threading.local()


def buffer(name: str, size: int) -> np.ndarray:
    """Return memory that the thread keeps under a name."""
    if not hasattr(_buffers, name):
        setattr(_buffers, name, np.empty(size, np.uint8))
    return getattr(_buffers, name)


def pieces(path: Path, codec: str, array: str, chunk: int, width: int, rows: int = PIECE) -> Iterator[np.ndarray]:
    """Yield the rows of a chunk straight from its file, in memory that the thread keeps; plain ones ``rows`` a time."""
    file = path / array / "c" / "/".join(str(j) for j in (chunk, *(0,) * (width > 1)))
    row_bytes = 8 * width
    if codec == "none":
        out = buffer(f"{array} {rows}", rows * row_bytes)
        with open(file, "rb", buffering=0) as f:
            for _ in range(0, CHUNK_ROWS, rows):
                f.readinto(out)
                yield out.view(float).reshape(rows, width)
        return
    stored = buffer(f"{array} stored", CHUNK_ROWS * row_bytes + (1 << 20))
    decoded = buffer(array, CHUNK_ROWS * row_bytes)
    with open(file, "rb", buffering=0) as f:
        n = f.readinto(stored)
    if codec == "zstd":
        numcodecs.zstd.decompress(stored[:n], decoded)
    else:
        blosc.decompress(stored[:n], decoded)
    yield decoded.view(float).reshape(CHUNK_ROWS, width)


def gradient(x: np.ndarray, y: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Return the gradient, two GEMV per cache block."""
    total = np.zeros(len(w))
    for start in range(0, len(x), BLOCK):
        block = x[start : start + BLOCK]
        total += block.T @ (1 / (1 + np.exp(-(block @ w))) - y[start : start + BLOCK])
    return total


class Floor:
    """The same gradient by two threads, and its parts."""

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        path: Path,
        codec: str,
        chunks: int,
        w: np.ndarray,
        rows: int = PIECE,
    ):
        self.pool = pool
        self.path = path
        self.codec = codec
        self.chunks = chunks
        self.w = w
        #: Rows of a plain chunk that are read at a time.
        self.rows = rows

    def __call__(self) -> np.ndarray:
        """Return the whole gradient."""
        return sum(self.pool.map(self._of_chunk, range(self.chunks)))

    def read(self) -> None:
        """Only read and decode."""
        list(self.pool.map(self._read_chunk, range(self.chunks)))

    def compute(self) -> None:
        """Only compute, as many times the same rows."""
        list(self.pool.map(self._compute, range(self.chunks)))

    def _targets(self, chunk: int) -> np.ndarray:
        return next(pieces(self.path, self.codec, "y", chunk, 1, CHUNK_ROWS))[:, 0]

    def _of_chunk(self, chunk: int) -> np.ndarray:
        y = self._targets(chunk)
        total = np.zeros(len(self.w))
        start = 0
        for x in pieces(self.path, self.codec, "x", chunk, FEATURES, self.rows):
            total += gradient(x, y[start : start + len(x)], self.w)
            start += len(x)
        return total

    def _read_chunk(self, chunk: int) -> None:
        self._targets(chunk)
        for _ in pieces(self.path, self.codec, "x", chunk, FEATURES, self.rows):
            pass

    def _compute(self, chunk: int) -> None:
        x = buffer("x in the cache", PIECE * FEATURES * 8).view(float).reshape(-1, FEATURES)
        y = np.zeros(len(x))
        for _ in range(0, CHUNK_ROWS, len(x)):
            gradient(x, y, self.w)


def seconds(function: Callable) -> float:
    """Return how long a call takes."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def breakdown(source: Source, query: np.ndarray) -> dict[str, Callable[[], object]]:
    """Return the parts of the tasks' work, each over all the data on one thread."""
    groups = tuple((i,) for i in range(source.partitions))
    work = Work(source.reader, AtQuery(query, LOSS, REQUEST), groups, key="floor", add=combine)
    x = np.random.default_rng(0).normal(size=(PIECE, FEATURES))
    y = np.zeros((PIECE, 1))
    windows = source.shape[0] // PIECE
    sums = sums_of_rows(x, y, None, query, LOSS, REQUEST)
    rows = next(source.reader((0,)))[1]
    columns = source.reader.bind(0, ())
    part = Part(0, query, LOSS, REQUEST, source.row_format)

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
        for _ in range(windows):
            sums_of_rows(x, y, None, query, LOSS, REQUEST)

    def check_and_combine() -> None:
        for _ in range(windows):
            check(rows, sums, part, lambda: columns)
            combine(sums, sums)

    return {
        "task: all of it": whole_task,
        "task: reader (read and decode, x and y)": reader,
        "task: reader, x only": reader_of_x,
        "task: arithmetic (sums_of_rows)": arithmetic,
        "task: check and combine": check_and_combine,
    }


def measured(
    functions: dict[str, Callable[[], object]],
    repeat: int,
    before: Callable[[], None],
) -> dict[str, list[float]]:
    """Return the seconds of each function, taken in turns after a warm-up, with ``before`` called before each."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(repeat + 1):
        for name, function in functions.items():
            before()
            taken = seconds(function)
            if turn:
                times[name].append(taken)
    return times


def passes_over(source: Source, query: np.ndarray, floor: Floor, name: str) -> dict[str, Callable[[], object]]:
    """Return what is compared: the floor, its parts, and passes on a cluster and on threads."""
    numbers = iter(range(1_000_000))

    def on_cluster() -> object:
        return passes.evaluate(source, query, LOSS, REQUEST, f"cluster-{name}", next(numbers))

    def on_threads() -> None:
        with dask.config.set(scheduler="threads", num_workers=2):
            passes.evaluate(source, query, LOSS, REQUEST, f"threads-{name}", next(numbers))

    compared: dict[str, Callable[[], object]] = {"floor, 2 threads": floor}
    if floor.codec == "none":
        whole_chunks = Floor(floor.pool, floor.path, floor.codec, floor.chunks, floor.w, CHUNK_ROWS)
        compared["floor that reads whole chunks"] = whole_chunks
    return compared | {
        "floor: read and decode": floor.read,
        "floor: arithmetic": floor.compute,
        "pass, 2 workers": on_cluster,
        "pass, 2 threads": on_threads,
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--codecs", nargs="+", choices=list(CODECS), default=["none", "lz4"])
    parser.add_argument("--cold", action=argparse.BooleanOptionalAction, default=False)
    args = parser.parse_args()
    blosc.use_threads = False
    table = []
    verdicts = {}
    w = np.random.default_rng(1).normal(size=FEATURES) / 20
    query = w[:, None, None]
    chunks = args.rows // CHUNK_ROWS
    with scratch(args.directory) as directory, ThreadPoolExecutor(2) as pool, threadpool_limits(1, "blas"):
        for codec in args.codecs:
            path = make_problem(directory, args.rows, FEATURES, CHUNK_ROWS, codec)
            source = dask_gd.open(path, x="x", y="y")
            floor = Floor(pool, path, codec, chunks, w)
            with cluster(2, "1GB"):
                compared = passes_over(source, query, floor, codec)
                times = {f"{codec}, warm": measured(compared, args.repeat, lambda: None)}
                if args.cold:
                    times[f"{codec}, cold"] = measured(compared, args.repeat, lambda path=path: forget(path))
                sums = compared["pass, 2 workers"]()
                np.testing.assert_allclose(sums.gradient[:, 0, 0], floor(), rtol=1e-8)
            parts = measured(breakdown(source, query), args.repeat, lambda: None)
            times[f"{codec}, warm"] |= {f"1 thread, {what}": each for what, each in parts.items()}
            for files, of_files in times.items():
                base = median(of_files["floor, 2 threads"])
                for what, each in of_files.items():
                    s = median(each)
                    shown = " ".join(f"{t:.2f}" for t in each)
                    table.append((files, what, s, source.nbytes / 1e9 / s, s / base, shown))
                target = TARGETS.get(files, TARGET)
                ratio = median(of_files["pass, 2 workers"]) / base
                verdicts[f"{files}: {ratio:.2f} times the floor, target <= {target}"] = ratio <= target
    finish(f"One pass over {args.rows:,} x {FEATURES}", HEADER, table, verdicts, args.output)


if __name__ == "__main__":
    main()
