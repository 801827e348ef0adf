"""What does a pass over codes cost, a row and thread?

    python benchmarks/codes.py
    python benchmarks/codes.py --flights flights-full.zarr

The logistic loss over flights: distance, and the codes of hour (24 levels), weekday (7), origin and destination (some
200 each), which are looked up by three keys, since hour and weekday share one. The loss and gradient, and these with
the curvature: by the kernels alone, over rows in memory; and by a partition's task, which reads and decodes chunks of
100,000 rows too. All in this process on one thread, in CPU time, of which the least of --repeat is taken: other
programs on the machine lengthen it little.

The floor is what cannot be left out, in NumPy, over a block of 32,768 rows that stays in the cache:

    gradient    the bytes: 9 a row stored (float32, four uint8, an int8), 56 a row decoded (a float64 and three keys of
                8 bytes, prediction, slope and target), read and written once each, in the cache
                three look-ups (take), three scattered additions (add.at), exp, log1p, a division, and four passes of
                one multiplication or addition (distance times weight, slope times distance, loss, slope)
    curvature   besides: six scattered additions (each key with distance, each pair of keys) and three keys of pairs,
                of a multiplication and an addition each

so that the floor is the sum of the measured times of these operations. Targets: 20 ns and 35 ns a row in the kernels,
50 ns with reading included.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from coded import COLUMNS, copy_rows
from common import arguments, finish, scratch

import dask_gd
from dask_gd.kernels.base import Part, Request, combine, make_kernel
from dask_gd.passes.plan import summed_together
from dask_gd.passes.task import AtQuery, Work, sums_of_group
from dask_gd.sources import Source
from dask_gd.worker_env import one_blas_thread

SMALL = Path(__file__).parents[1] / "data" / "flights.zarr"
HEADER = ("what", "gradient, ns a row", "with curvature, ns a row")
LOSS = dask_gd.Logistic()
REQUESTS = (Request(), Request(curvature="exact"))
#: Nanoseconds a row: of a gradient, and of one with curvature.
TARGETS = {"kernels": (20.0, 35.0), "reading and kernels": (50.0, 50.0)}
BLOCK, CHUNK = 1 << 15, 100_000


def least(function: Callable[[], object], repeat: int, rows: int) -> float:
    """The least CPU time of this thread in so many calls after a first, in nanoseconds a row."""
    times = []
    for _ in range(repeat + 1):
        began = time.thread_time()
        function()
        times.append(time.thread_time() - began)
    return min(times[1:]) / rows * 1e9


def floor(source: Source, repeat: int) -> dict[str, float]:
    """Nanoseconds a row of each operation that is needed, over a block in the cache."""
    rng = np.random.default_rng(0)
    levels = [factor.levels for factor in source.x.encoding.row_format.columns if factor is not None]
    entries = max(levels)
    keys = rng.integers(0, entries, BLOCK)
    pairs = rng.integers(0, entries * entries, BLOCK)
    values = rng.normal(size=BLOCK)
    out = np.empty(BLOCK)
    whole = np.empty(BLOCK, np.intp)
    table = rng.normal(size=entries)
    of_pairs = np.zeros(entries * entries)
    operations = {
        "take": lambda: np.take(table, keys, out=out, mode="clip"),
        "add.at": lambda: np.add.at(table, keys, values),
        "add.at, pairs": lambda: np.add.at(of_pairs, pairs, values),
        "key of a pair": lambda: np.add(np.multiply(keys, entries, out=whole), keys, out=whole),
        "exp": lambda: np.exp(values, out=out),
        "log1p": lambda: np.log1p(keys, out=out),
        "divide": lambda: np.divide(values, 2.0, out=out),
        "multiply": lambda: np.multiply(values, values, out=out),
    }
    return {name: least(operation, 20 * repeat, BLOCK) for name, operation in operations.items()}


def sums_of_floor(each: dict[str, float]) -> tuple[float, float]:
    """The floor of a gradient, and of one with curvature."""
    gradient = 3 * (each["take"] + each["add.at"]) + each["exp"] + each["log1p"] + each["divide"] + 4 * each["multiply"]
    curvature = 3 * (each["add.at"] + each["multiply"] + each["add.at, pairs"] + each["key of a pair"])
    return gradient, gradient + curvature


def measure(source: Source, repeat: int) -> list[tuple]:
    """The table's rows."""
    rows = source.shape[0]
    everything = tuple(range(source.partitions))
    rng = np.random.default_rng(1)
    query = rng.normal(size=(source.shape[1] + 1, 1, 1)) / 20
    row_format = source.reader.row_format

    # What a task would have read, window by window, in memory of its own.
    windows = []
    for _, read in source.reader(everything):
        windows.append((tuple(array.copy() for array in read.x), read.y.copy()))

    def kernels(request: Request) -> None:
        kernel = make_kernel(Part(0, query, LOSS, request, row_format))
        for x, y in windows:
            kernel.add(x, y, None)

    def task(request: Request) -> None:
        together = 1
        if request.curvature:
            together = summed_together(source, source.partitions, len(query) ** 2)
        summation = AtQuery(query, LOSS, request)
        key = f"{next(names)}"
        work = Work(source.reader, summation, (everything,), key=key, add=combine, together=together)
        sums_of_group(work, 0)

    def reading() -> None:
        for _ in source.reader(everything):
            pass

    names = itertools.count()
    found = [("floor: what cannot be left out", *sums_of_floor(floor(source, repeat)))]
    with one_blas_thread(), np.errstate(all="ignore"):
        of_reading = least(reading, repeat, rows)
        found.append(("kernels", *(least(lambda r=request: kernels(r), repeat, rows) for request in REQUESTS)))
        found.append(("reading", of_reading, of_reading))
        found.append(("reading and kernels", *(least(lambda r=request: task(r), repeat, rows) for request in REQUESTS)))
    return found


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--flights", type=Path, default=SMALL, help="a store of flights; default that of data/")
    parser.add_argument("--rows", type=int, default=300_000, help="the first so many of its rows; default %(default)s")
    parser.add_argument("--repeat", type=int, default=7)
    args = parser.parse_args()
    with scratch(args.directory) as directory:
        path = copy_rows(args.flights, directory / f"codes-{args.rows}.zarr", args.rows, chunk=CHUNK)
        source = dask_gd.open(path, x=list(COLUMNS), y="late", drop="first")
        rows = measure(source, args.repeat)
    verdicts = {}
    for name, *found in rows:
        for what, ns, target in zip(HEADER[1:], found, TARGETS.get(name, ()), strict=False):
            verdicts[f"{name}, {what}: {ns:.1f}, target <= {target:g}"] = ns <= target
    title = f"A pass over the codes of {args.rows:,} flights, one thread"
    finish(title, HEADER, rows, verdicts, args.output)


if __name__ == "__main__":
    main()
