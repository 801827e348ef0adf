"""One model for each cell of a map, beside reading and decoding alone, xarray's polyfit and lstsq by block.

    python benchmarks/cells.py --directory DIR [--cells 500x1000] [--months 480] [--peers] [--wide]

Makes float32 maps (months, latitude, longitude) with 61 % land, Blosc zstd and shuffle, mantissas rounded to 12 bits,
in chunks of 24 x 250 x 500: "static", and "gaps", of which 5 % are missing too. Seven parameters: intercept, trend,
two harmonics and an index. Two workers of a thread and 1 GB.

Processor seconds are those of the workers, or of this process; walls are for comparison. Each is repeated in turns.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import numpy as np
import xarray as xr
import zarr
from common import arguments, cluster, scratch
from zarr.codecs import BloscCodec

import dask_gd
from dask_gd.sources.cell_variable import stored_in

FEATURES = ["trend", "s1", "c1", "s2", "c2", "index"]
CHUNKS = (24, 250, 500)


def series(months: int) -> dict[str, np.ndarray]:
    """The features, which all cells share."""
    t = np.arange(months)
    index = np.random.default_rng(1).normal(size=months)
    for i in range(1, months):
        index[i] += 0.8 * index[i - 1]
    angle = 2 * np.pi * t / 12
    values = (t / 120, np.sin(angle), np.cos(angle), np.sin(2 * angle), np.cos(2 * angle), index)
    return dict(zip(FEATURES, values, strict=True))


def make(directory: Path, months: int, shape: tuple[int, int]) -> Path:
    """Write the maps, unless they are there."""
    path = directory / f"cells-{months}x{shape[0]}x{shape[1]}.zarr"
    if path.exists() and zarr.open_group(path, mode="r").attrs.get("complete"):
        return path
    group = zarr.open_group(path, mode="w", zarr_format=3)
    shared = series(months)
    codec = BloscCodec(cname="zstd", clevel=3, shuffle="shuffle", typesize=4)
    options: dict[str, Any] = {
        "shape": (months, *shape),
        "chunks": CHUNKS,
        "dtype": "f4",
        "compressors": codec,
        "fill_value": np.nan,
        "dimension_names": ("time", "lat", "lon"),
    }
    static, gaps = (group.create_array(name, **options) for name in ("static", "gaps"))
    lat, lon = np.mgrid[: shape[0], : shape[1]] / max(shape)
    field = np.sin(17 * lat + 3) * np.cos(11 * lon + 1) + 0.4 * np.sin(31 * (lat + lon))
    sea = field > np.quantile(field, 0.61)
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(len(FEATURES), *shape)) * np.array([0.3, 8, 8, 2, 2, 0.5])[:, None, None]
    mean = 273 + 30 * np.cos(3 * (lat - 0.25))
    for first in range(0, months, CHUNKS[0]):
        part = slice(first, first + CHUNKS[0])
        x = np.stack([shared[name][part] for name in FEATURES], axis=1)
        block = mean + np.tensordot(x, weights, 1) + rng.normal(size=(len(x), *shape)) * 2
        block = (block.astype("f4").view("u4") & np.uint32(0xFFFFF800)).view("f4")
        block[:, sea] = np.nan
        static[part] = block
        block[rng.random(block.shape) < 0.05] = np.nan
        gaps[part] = block
    for name, values in shared.items():
        group.create_array(name, data=values, dimension_names=("time",))
    group.attrs["complete"] = True
    return path


def read_alone(path: Path, name: str) -> Callable[[], None]:
    """Read and decode all chunks, into memory that each thread keeps."""
    array = xr.open_zarr(path, consolidated=False)[name]

    def run() -> None:
        stored = stored_in(name, array.variable)
        columns = [(i, j) for i in range(0, array.shape[1], CHUNKS[1]) for j in range(0, array.shape[2], CHUNKS[2])]
        tasks = [dask.delayed(_read)(stored, i, j) for i, j in columns]
        dask.compute(*tasks)

    return run


def _read(stored: Any, i: int, j: int) -> float:
    from dask_gd.sources.chunk_files import thread_buffer
    from dask_gd.worker_env import keep_pages

    keep_pages()
    column = stored.column
    months, rows, columns = column.shape
    total = 0.0
    for first in range(0, months, CHUNKS[0]):
        shape = (min(CHUNKS[0], months - first), min(CHUNKS[1], rows - i), min(CHUNKS[2], columns - j))
        out = thread_buffer("benchmark", shape, column.array.dtype)
        (column.files or column.marked).read_box((first, i, j), out, 0)
        total += float(out[0, 0, 0])
    return total


def fit(path: Path, name: str) -> Callable[[], Any]:
    dataset = xr.open_zarr(path, consolidated=False)

    def run() -> Any:
        return dask_gd.fit(dataset, features=FEATURES, target=name, sample_dims="time", nan="drop")

    return run


def polyfit(path: Path, name: str) -> Callable[[], Any]:
    """xarray's, of the trend alone: two parameters."""
    dataset = xr.open_zarr(path, consolidated=False).assign_coords(time=series_time(path))

    def run() -> Any:
        return dataset[name].polyfit("time", 1, skipna=True).compute()

    return run


def series_time(path: Path) -> np.ndarray:
    return zarr.open_group(path, mode="r")["trend"][:]


def by_block(path: Path, name: str) -> Callable[[], Any]:
    """np.linalg.lstsq by block, after the maps are brought into chunks of all months: seven parameters, no errors."""
    dataset = xr.open_zarr(path, consolidated=False)
    x = np.column_stack([np.ones(dataset.sizes["time"]), *(dataset[name].values for name in FEATURES)])

    def solve(y: np.ndarray) -> np.ndarray:
        flat = y.reshape(-1, y.shape[-1]).T.astype(float)
        found = np.full((x.shape[1], flat.shape[1]), np.nan)
        whole = ~np.isnan(flat).any(axis=0)
        if whole.any():
            found[:, whole] = np.linalg.lstsq(x, flat[:, whole])[0]
        for i in np.flatnonzero(~whole & ~np.isnan(flat).all(axis=0)):
            rows = ~np.isnan(flat[:, i])
            found[:, i] = np.linalg.lstsq(x[rows], flat[rows, i])[0]
        return found.T.reshape(*y.shape[:-1], -1)

    def run() -> Any:
        return xr.apply_ufunc(
            solve,
            dataset[name].chunk(time=-1, lat=50, lon=100),
            input_core_dims=[["time"]],
            output_core_dims=[["parameter"]],
            dask="parallelized",
            output_dtypes=[float],
            dask_gufunc_kwargs={"output_sizes": {"parameter": x.shape[1]}},
        ).compute()

    return run


def seconds_of_process() -> float:
    return time.process_time()


def peak() -> float:
    """Return the most memory that this process has had, in MB; what its parent had does not count."""
    lines = Path("/proc/self/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def measured(client: Any, run: Callable[[], Any]) -> dict[str, float]:
    """Return wall and processor seconds of a call: those of the workers and of this process."""
    before = client.run(seconds_of_process)
    here = time.process_time()
    began = time.perf_counter()
    run()
    wall = time.perf_counter() - began
    after = client.run(seconds_of_process)
    workers = sum(after[address] - before[address] for address in before)
    return {"wall": wall, "cpu": workers, "client": time.process_time() - here}


def compare(path: Path, peers: bool, repeats: int, memory: str) -> dict[str, Any]:
    """Measure each in turns, on clusters of their own for their memory."""
    found: dict[str, Any] = {}
    calls: dict[str, Callable] = {"read alone": read_alone, "fit": fit}
    for name in ("static", "gaps"):
        with contextlib.ExitStack() as stack:
            clients = {what: stack.enter_context(cluster(2, memory)) for what in calls}
            runs: dict[str, list[dict[str, float]]] = {what: [] for what in calls}
            for repeat in range(repeats + 1):
                for what, make_call in calls.items():
                    with clients[what].as_current():
                        took = measured(clients[what], make_call(path, name))
                    # The first time imports and fills caches.
                    if repeat:
                        runs[what].append(took)
            for what, took_each in runs.items():
                best = {key: min(took[key] for took in took_each) for key in took_each[0]}
                best["peak_mb"] = max(clients[what].run(peak).values())
                found[f"{what}, {name}"] = best
                print(f"{what:12s} {name:8s}", {key: round(value, 2) for key, value in best.items()}, flush=True)
    if peers:
        for what, make_call, name in (
            ("polyfit", polyfit, "static"),
            ("lstsq by block", by_block, "static"),
            ("polyfit", polyfit, "gaps"),
        ):
            with cluster(2, "4GB") as client:
                took = measured(client, make_call(path, name))
                took["peak_mb"] = max(client.run(peak).values())
                found[f"{what}, {name}"] = took
                print(f"{what:12s} {name:8s}", {key: round(value, 2) for key, value in took.items()}, flush=True)
    return found


def wide(repeats: int) -> dict[str, float]:
    """A target of 120 rows and 100,000 cells in memory, beside np.linalg.lstsq."""
    rng = np.random.default_rng(0)
    shared = {name: ("time", values) for name, values in series(120).items()}
    dataset = xr.Dataset({"y": (("time", "cell"), rng.normal(size=(120, 100_000))), **shared})
    x = np.column_stack([np.ones(120), *(dataset[name].values for name in FEATURES)])
    best = {"fit": np.inf, "lstsq": np.inf, "fit cpu": np.inf, "lstsq cpu": np.inf}
    calls: dict[str, Callable] = {
        "fit": lambda: dask_gd.fit(dataset, features=FEATURES, target="y", sample_dims="time"),
        "lstsq": lambda: np.linalg.lstsq(x, dataset.y.values),
    }
    for _ in range(repeats + 1):
        for what, call in calls.items():
            began, cpu = time.perf_counter(), time.process_time()
            call()
            best[what] = min(best[what], time.perf_counter() - began)
            best[f"{what} cpu"] = min(best[f"{what} cpu"], time.process_time() - cpu)
    print("120 x 100,000 in memory", {key: round(value, 3) for key, value in best.items()})
    return best


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--cells", default="500x1000", help="latitudes x longitudes")
    parser.add_argument("--months", type=int, default=480)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory", default="1GB")
    parser.add_argument("--peers", action="store_true", help="xarray's polyfit and lstsq by block too")
    parser.add_argument("--wide", action="store_true", help="a wide target in memory only")
    options = parser.parse_args()
    lat, lon = map(int, options.cells.split("x"))
    if options.wide:
        result: dict[str, Any] = {"wide": wide(options.repeats)}
    else:
        with scratch(options.directory) as directory:
            path = make(directory, options.months, (lat, lon))
            result = compare(path, options.peers, options.repeats, options.memory)
        for name in ("static", "gaps"):
            ours, floor = result[f"fit, {name}"], result[f"read alone, {name}"]
            cpu, wall = (ours[key] / floor[key] for key in ("cpu", "wall"))
            print(f"{name}: {cpu:.2f} times the CPU of reading, {wall:.2f} times its wall")
    if options.output:
        options.output.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
