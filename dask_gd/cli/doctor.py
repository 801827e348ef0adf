"""A look at the machine: what is installed, what dask_gd finds here, and how fast it reads, against plain reading."""

from __future__ import annotations

import importlib.util
import itertools
import os
import platform
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import dask
import google_crc32c
import numpy as np
import psutil
import zarr
from dask.system import CPU_COUNT
from distributed.system import MEMORY_LIMIT
from numcodecs import blosc, zstd
from threadpoolctl import threadpool_info
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, ZstdCodec

from ..errors import DaskGDError, MissingChunkError
from ..sources.columns import as_rows
from ..sources.grid import all_of, is_regular, longest, overlapping
from ..sources.zarr_column import ZarrColumn
from ..worker_env import keep_pages

OK, ADVICE, BROKEN = "ok", "advice", "broken"

NEEDED = ("dask", "distributed", "numpy", "zarr", "numcodecs", "xarray", "bokeh")
OPTIONAL = ("zarrs", "scikit-learn")

#: Codecs, most of which our own reader knows.
CODECS: dict[str, list[Any]] = {
    "none": [],
    "crc32c": [Crc32cCodec()],
    "blosc": [BloscCodec(cname="lz4")],
    "zstd": [ZstdCodec()],
    "gzip": [GzipCodec()],
}

#: Chunks of this many bytes read fast; far from that, decoded, reading is slower, or needs much memory.
SMALL, LARGE = 1 << 20, 128 << 20
#: Decoded bytes that a reading test reads, of a store elsewhere, and of the store made for it.
TESTED, FAR, MADE = 256 << 20, 32 << 20, 64 << 20
#: A reading this many times slower than the floor is worth a word.
SLOW = 2.0


class Check(NamedTuple):
    """One thing looked at, what was found, and what could be done about it."""

    name: str
    status: str
    found: str
    advice: str = ""


def examine(array: zarr.Array | None = None) -> list[Check]:
    """Everything, and how fast an array is read, or one made for it."""
    return [*_here(), *(_made_and_read() if array is None else reading(array))]


def _here() -> Iterator[Check]:
    yield Check("python", OK, f"{platform.python_version()}, {platform.system()} {platform.machine()}")
    for package in (*NEEDED, *OPTIONAL):
        try:
            yield Check(package, OK, version(package))
        except PackageNotFoundError:
            lacks = package in NEEDED
            yield Check(package, BROKEN if lacks else OK, "not installed", f"pip install {package}" if lacks else "")
    # What the process may use, not what the machine has.
    threads = dask.config.get("num_workers", None) or CPU_COUNT
    yield Check(
        "cores",
        OK if threads <= CPU_COUNT else ADVICE,
        f"{CPU_COUNT} of {os.cpu_count()}, {threads} of Dask's threads",
        "" if threads <= CPU_COUNT else "more threads than cores take turns; lower Dask's num_workers",
    )
    libraries = [info for info in threadpool_info() if info["user_api"] == "blas"]
    blas = ", ".join(f"{b['internal_api']} {b['version']}, {b['num_threads']} threads" for b in libraries)
    yield Check("blas", OK, f"{blas or 'unknown'}; tasks hold it to one")
    free = psutil.virtual_memory().available
    yield Check("memory", OK, f"{MEMORY_LIMIT / 1e9:.1f} GB, {free / 1e9:.1f} GB of it free")
    kept = keep_pages()
    yield Check(
        "malloc",
        OK if kept else ADVICE,
        "glibc, told to keep the pages of freed chunks" if kept else "not glibc, or it does not heed mallopt",
        "" if kept else "chunks are decoded into fresh pages each time, which costs time; nothing is wrong",
    )
    yield _codecs()
    yield _dashboard()


def _codecs() -> Check:
    """Write and read one chunk with each."""
    data = np.arange(64.0).reshape(16, 4)
    found = []
    wrong = []
    with tempfile.TemporaryDirectory() as directory:
        for name, codecs in CODECS.items():
            try:
                array = _written(Path(directory) / name, data, 8, codecs)
                rows = ZarrColumn(array, "x")
                if not np.array_equal(rows.read(0, 16), data):
                    raise ValueError("reads other values than were written")
                found.append(name if rows.files else f"{name} (by {rows.reader})")
            except Exception as error:
                wrong.append(f"{name}: {error}")
    return Check("codecs", BROKEN if wrong else OK, ", ".join(found), "; ".join(wrong))


def _dashboard() -> Check:
    if importlib.util.find_spec("bokeh") is None:
        return Check("dashboard", ADVICE, "not usable", "pip install bokeh where the scheduler runs")
    try:
        import distributed.dashboard.scheduler  # noqa: F401
    except Exception as error:
        return Check("dashboard", ADVICE, "not usable", f"Dask's dashboard cannot be loaded: {error}")
    return Check("dashboard", OK, "usable")


def _written(path: Path, data: np.ndarray, chunk: int, codecs: list[Any]) -> zarr.Array:
    options: dict[str, Any] = {"compressors": codecs or None, "config": {"write_empty_chunks": True}}
    array = zarr.create_array(path, shape=data.shape, chunks=(chunk, data.shape[1]), dtype=data.dtype, **options)
    array[...] = data
    return zarr.open_array(path, mode="r")


def _made_and_read() -> list[Check]:
    """Reading of a store that is made for it, and removed."""
    try:
        with tempfile.TemporaryDirectory() as directory:
            data = np.random.default_rng(0).normal(size=(MADE // 800, 100))
            codecs = [BloscCodec(cname="lz4", shuffle="shuffle"), Crc32cCodec()]
            return reading(_written(Path(directory) / "made.zarr", data, 10_000, codecs))
    except OSError as error:
        return [Check("reading", BROKEN, f"{error}", f"make room in, or rights to, {tempfile.gettempdir()}")]


def reading(array: zarr.Array) -> list[Check]:
    """How fast the rows are read, on all cores, and what about the array's chunks could be better."""
    try:
        rows = as_rows(array, "x")
        assert isinstance(rows, ZarrColumn)
        most = FAR if rows.ahead else TESTED
        stop = min(rows.shape[0], max(rows.read_rows, most // max(1, rows.nbytes(1))))
        rows.check_chunks(0, stop)
        first = _seconds(rows, stop)
        ours = min(_seconds(rows, stop) for _ in range(2))
        plain = floor(rows, stop)
        again = None
        if plain is not None:
            again = min(plain() for _ in range(2))
    except MissingChunkError as error:
        return [Check("reading", ADVICE, "not tried", f"{error}")]
    except (DaskGDError, OSError) as error:
        return [Check("reading", BROKEN, "failed", f"{error}")]
    megabytes = rows.nbytes(stop) / 1e6
    told = f"{megabytes:.0f} MB by {rows.reader}, {CPU_COUNT} threads: first {megabytes / first:,.0f} MB/s, then "
    told += f"{megabytes / ours:,.0f} MB/s"
    advice = ""
    if again is not None:
        told += f"; the floor, plain reading and decoding, {megabytes / again:,.0f} MB/s, {ours / again:.2f} times"
        if ours > SLOW * again and rows.nbytes(stop) >= FAR:
            advice = "slower than it should be; was the machine busy?"
    return [Check("reading", ADVICE if advice else OK, told, advice), *_chunks(rows)]


def _seconds(rows: ZarrColumn, stop: int) -> float:
    began = time.perf_counter()
    with ThreadPoolExecutor(CPU_COUNT) as pool:
        for _ in pool.map(lambda window: rows.read(*window) is None, list(rows.windows(0, stop))):
            pass
    return time.perf_counter() - began


def floor(rows: ZarrColumn, stop: int) -> Callable[[], float] | None:
    """Seconds of reading the same files into reused buffers and decoding them, no more; None if not so simple."""
    files = rows.files
    array = rows.array
    if files is None or files.index is not None:
        return None
    codecs = [c.to_dict()["name"] for c in getattr(array.metadata, "codecs", ())]
    if not codecs:
        compressor = array.metadata.compressor  # type: ignore[union-attr]
        codecs = []
        if compressor is not None:
            codecs = [compressor.codec_id]
    decode = {"blosc": blosc.decompress, "zstd": zstd.decompress}
    chosen = next((decode[name] for name in codecs if name in decode), None)
    summed = "crc32c" in codecs
    along, *columns = rows.chunk_edges
    grid = [overlapping(along, 0, stop), *map(all_of, columns)]
    paths = [os.path.join(files.directory, files.key(index)) for index in itertools.product(*grid)]
    kept = threading.local()

    def one(path: str) -> None:
        if not hasattr(kept, "raw"):
            kept.raw = np.empty(rows.chunk_bytes + rows.chunk_bytes // 8 + (1 << 16), np.uint8)
            kept.decoded = np.empty(rows.chunk_bytes, np.uint8)
        with open(path, "rb", buffering=0) as file:
            size = file.readinto(kept.raw)
        if summed and google_crc32c.value(kept.raw[: size - 4]) != int.from_bytes(kept.raw[size - 4 : size], "little"):
            raise ValueError(f"{path} is damaged")
        if chosen is not None:
            chosen(kept.raw[: size - 4 * summed], kept.decoded)

    def all_of_them() -> float:
        before = blosc.use_threads
        blosc.use_threads = False
        began = time.perf_counter()
        try:
            with ThreadPoolExecutor(CPU_COUNT) as pool:
                list(pool.map(one, paths))
        finally:
            blosc.use_threads = before
        return time.perf_counter() - began

    return all_of_them


def _sides(rows: ZarrColumn) -> str:
    """Return the shape of the chunks, in words."""
    sides = tuple(map(longest, rows.chunk_edges))
    if is_regular(rows.array):
        return str(sides)
    return f"at most {sides}"


def _chunks(rows: ZarrColumn) -> Iterator[Check]:
    """What about the chunks could be better."""
    array = rows.array
    size = rows.chunk_bytes
    codecs = [type(codec).__name__ for codec in getattr(array, "compressors", ())]
    found = f"{array.shape} {array.dtype} in chunks of {_sides(rows)}, {size / 1e6:.3g} MB"
    found += f"; {', '.join(codecs) or 'no codec'}"
    advice = []
    if size < SMALL and rows.nbytes(rows.shape[0]) > 16 * SMALL:
        advice.append(f"chunks of {size / 1e6:.2g} MB are small; of 4 to 40 MB they read fast")
    if size > LARGE:
        need = CPU_COUNT * rows.buffer_bytes
        advice.append(
            f"chunks of {size / 1e6:,.0f} MB are large; {CPU_COUNT} threads may need {need / 1e9:.1f} GB to decode them"
        )
    if any(len(all_of(edges)) > 1 for edges in rows.chunk_edges[1:]):
        advice.append("chunks hold only some columns; whole rows read faster")
    if "crc32c" not in repr(getattr(array.metadata, "codecs", ())).lower():
        advice.append("no checksums, so damage is read as data: add zarr.codecs.Crc32cCodec() to the compressors")
    if rows.files is None and not rows.ahead and importlib.util.find_spec("zarrs") is None:
        advice.append("its codecs are read by zarr; pip install zarrs may be faster, and Blosc or zstd are")
    yield Check("chunks", ADVICE if advice else OK, found, "; ".join(advice))
