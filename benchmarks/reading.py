"""How fast are chunks read, and by whom?

    python benchmarks/reading.py --repeat 3

Two questions, over 200,000 and 1,000,000 x 100 float64 (160 and 800 MB) in chunks of 8 MB.

Local files, one thread, files in the page cache: dask_gd's own reader (of codecs that it knows, else zarr), zarr into
fresh arrays, zarr into a reused buffer, and the same with the package zarrs, which dask_gd too leaves unknown codecs
to. All with malloc told to keep its pages, as in dask_gd's tasks. GB/s are of decoded bytes.

A gradient pass of 2 workers that ask for the next chunks before they need them, or do not: of local files, in the page
cache and out of it, and of an HTTP server on this machine that waits before it answers (needs aiohttp). No rows are
kept between passes.

Target: nothing is faster than what dask_gd chooses, the first of each, by more than a tenth, the noise.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median

import numpy as np
import zarr
from common import arguments, cluster, finish, forget, make_problem, scratch
from zarr.buffer.cpu import NDBuffer
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

import dask_gd
from dask_gd import passes
from dask_gd.kernels.base import Request
from dask_gd.sources.marked import ZARRS
from dask_gd.sources.zarr_column import AHEAD_BYTES, ZarrColumn
from dask_gd.worker_env import keep_pages

ROWS, FEATURES, CHUNK = 200_000, 100, 10_000
PASS_ROWS = 1_000_000
HEADER = ("where", "codec", "reader", "median s", "GB/s", "times the first")
CODECS = {
    "none": None,
    "lz4": BloscCodec(cname="lz4", shuffle="shuffle"),
    "zstd": ZstdCodec(level=3),
    "gzip": GzipCodec(level=1),
}


def compressed(directory: Path, codec: str) -> zarr.Array:
    """The problem's features with one decimal, so that they compress."""
    path = directory / f"reading-{codec}.zarr"
    if not path.exists():
        x = zarr.open_group(make_problem(directory, ROWS, FEATURES, CHUNK), mode="r")["x"]
        options = {"chunks": x.chunks, "dtype": "f8", "compressors": CODECS[codec]}
        target = zarr.create_array(path, shape=x.shape, **options)
        for start in range(0, ROWS, CHUNK):
            target[start : start + CHUNK] = np.round(x[start : start + CHUNK], 1)
    return zarr.open_array(path, mode="r")


def readers(array: zarr.Array) -> dict[str, Callable[[], object]]:
    """By name: a reading of all rows."""
    rows = dask_gd.sources.columns.as_rows(array, "x")
    chosen = rows.reader
    buffer = np.empty((CHUNK, FEATURES))
    starts = range(0, ROWS, CHUNK)

    def into(array: zarr.Array) -> None:
        for start in starts:
            array.get_basic_selection(slice(start, start + CHUNK), out=NDBuffer.from_numpy_array(buffer))

    found: dict[str, Callable[[], object]] = {
        f"dask_gd ({chosen})": lambda: [rows.read(*w) for w in rows.windows(0, ROWS)],
        "zarr, fresh arrays": lambda: [array[start : start + CHUNK] for start in starts],
        "zarr, a reused buffer": lambda: into(array),
    }
    if importlib.util.find_spec("zarrs"):
        with zarr.config.set(ZARRS):
            through = zarr.open_array(array.store_path, mode="r")
        found["zarr with zarrs, a reused buffer"] = lambda: into(through)
    return found


def measured(
    functions: dict[str, Callable[[], object]],
    repeat: int,
    before: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Median seconds of each, taken in turns after a warm-up, with ``before`` called before each."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeat + 1):
        for name, function in functions.items():
            before()
            began = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - began)
    return {name: median(seconds[1:]) for name, seconds in times.items()}


class Slow(SimpleHTTPRequestHandler):
    """Serves files, each after a while."""

    protocol_version = "HTTP/1.1"
    latency = 0.0

    def do_GET(self) -> None:
        time.sleep(self.latency)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def served(directory: Path, latency: float) -> Iterator[str]:
    """The address of a process that serves the directory on this machine only."""
    command = [sys.executable, __file__, "--serve", str(directory), "--latency", str(latency)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def serve(directory: Path, latency: float) -> None:
    Slow.latency = latency
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Slow, directory=str(directory)))
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


def set_ahead(count: int) -> None:
    ZarrColumn.ahead = property(lambda rows: count)


def ahead(
    location: str,
    counts: dict[str, int],
    repeat: int,
    before: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Seconds of a gradient pass by 2 workers that ask for so many windows before they need them."""
    loss, query, step = dask_gd.Logistic(), np.zeros((FEATURES, 1, 1)), iter(range(1_000_000))
    with cluster(2, "1GB") as client:
        source = dask_gd.open(location, x="x", y="y")

        def one(count: int) -> None:
            client.run(set_ahead, count)
            passes.evaluate(source, query, loss, Request(), "reading", next(step))

        return measured({name: functools.partial(one, count) for name, count in counts.items()}, repeat, before)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--latency", type=float, default=0.05, help="seconds; default %(default)s")
    parser.add_argument("--serve", type=Path, help="only serve this directory")
    args = parser.parse_args()
    if args.serve is not None:
        serve(args.serve, args.latency)
    keep_pages()
    rows, verdicts = [], {}
    with scratch(args.directory) as directory:
        cases = {("local", codec): measured(readers(compressed(directory, codec)), args.repeat) for codec in CODECS}
        at_once = AHEAD_BYTES // (8 * CHUNK * FEATURES)
        counts = {"pass": 0, "pass, one ahead": 1}
        for codec in ("none", "lz4", "zstd"):
            path = make_problem(directory, PASS_ROWS, FEATURES, CHUNK, codec)
            cases["local", f"{codec}, y too"] = ahead(str(path), counts, args.repeat)
            cases["local, cold", f"{codec}, y too"] = ahead(
                str(path), counts, args.repeat, functools.partial(forget, path)
            )
        path = make_problem(directory, PASS_ROWS, FEATURES, CHUNK)
        counts = {f"pass, {at_once} ahead": at_once, "pass, one ahead": 1, "pass": 0}
        with served(directory, args.latency) as address:
            where = f"HTTP, {1000 * args.latency:g} ms"
            cases[where, "none, y too"] = ahead(f"{address}/{path.name}", counts, args.repeat)
        for (where, codec), times in cases.items():
            (ours, first), *others = times.items()
            count = ROWS
            if "pass" in times:
                count = PASS_ROWS
            for name, seconds in times.items():
                rows.append((where, codec, name, seconds, count * FEATURES * 8e-9 / seconds, seconds / first))
            best = min(others, key=lambda item: item[1])
            verdicts[f"{where}, {codec}: {ours} against {best[0]}, {best[1] / first:.2f} times as long"] = (
                best[1] > 0.9 * first
            )
    finish("Reading", HEADER, rows, verdicts, args.output)


if __name__ == "__main__":
    main()
