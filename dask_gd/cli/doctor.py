"""Examine the machine: what is installed, what dask_gd finds here, and how fast it reads, against plain reading."""

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

#: States of a check.
OK = "ok"
ADVICE = "advice"
BROKEN = "broken"

#: Packages without which dask_gd does not work, and packages that it uses if they are there.
NEEDED = ("dask", "distributed", "numpy", "zarr", "numcodecs", "xarray", "bokeh")
OPTIONAL = ("zarrs", "scikit-learn")

#: Codecs that a store may have; dask_gd reads most of them by itself.
CODECS: dict[str, list[Any]] = {
    "none": [],
    "crc32c": [Crc32cCodec()],
    "blosc": [BloscCodec(cname="lz4")],
    "zstd": [ZstdCodec()],
    "gzip": [GzipCodec()],
}

#: Decoded bytes of a chunk, below which reading is slower.
SMALL = 1 << 20
#: Decoded bytes of a chunk, above which reading needs much memory.
LARGE = 128 << 20
#: Decoded bytes that are read to measure the speed.
TESTED = 256 << 20
#: Decoded bytes that are read of a distant store.
FAR = 32 << 20
#: Decoded bytes of the store that is made to measure the speed.
MADE = 64 << 20
#: Times that reading may take as long as the floor without a piece of advice.
SLOW = 2.0


class Check(NamedTuple):
    """A part of the machine, its state, what was found, and what could be done about it."""

    name: str
    status: str
    found: str
    advice: str = ""


def examine(array: zarr.Array | None = None) -> list[Check]:
    """Examine everything, and how fast an array is read; without an array, a store made for that."""
    if array is None:
        return [*_here(), *_made_and_read()]
    return [*_here(), *reading(array)]


def _here() -> Iterator[Check]:
    """Examine the packages, the processor and the memory."""
    yield Check("python", OK, f"{platform.python_version()}, {platform.system()} {platform.machine()}")
    # Packages.
    for package in (*NEEDED, *OPTIONAL):
        try:
            yield Check(package, OK, version(package))
        except PackageNotFoundError:
            if package in NEEDED:
                yield Check(package, BROKEN, "not installed", f"pip install {package}")
            else:
                yield Check(package, OK, "not installed")
    # What the process may use, which may be less than the machine has.
    threads = dask.config.get("num_workers", None) or CPU_COUNT
    cores = f"{CPU_COUNT} of {os.cpu_count()}, {threads} of Dask's threads"
    if threads <= CPU_COUNT:
        yield Check("cores", OK, cores)
    else:
        yield Check("cores", ADVICE, cores, "more threads than cores take turns; lower Dask's num_workers")
    libraries = [info for info in threadpool_info() if info["user_api"] == "blas"]
    names = [f"{blas['internal_api']} {blas['version']}, {blas['num_threads']} threads" for blas in libraries]
    yield Check("blas", OK, f"{', '.join(names) or 'unknown'}; tasks hold it to one")
    free = psutil.virtual_memory().available
    yield Check("memory", OK, f"{MEMORY_LIMIT / 1e9:.1f} GB, {free / 1e9:.1f} GB of it free")
    yield _malloc()
    # Packages that are there may still not work.
    yield _codecs()
    yield _dashboard()


def _malloc() -> Check:
    """Examine whether the allocator keeps freed pages."""
    if keep_pages():
        return Check("malloc", OK, "glibc, told to keep the pages of freed chunks")
    return Check(
        "malloc",
        ADVICE,
        "not glibc, or it does not heed mallopt",
        "chunks are decoded into fresh pages each time, which costs time; nothing is wrong",
    )


def _codecs() -> Check:
    """Write and read a chunk with each codec."""
    # A codec works if a pass would read the values that zarr has written.
    data = np.arange(64.0).reshape(16, 4)
    working = []
    errors = []
    with tempfile.TemporaryDirectory() as directory:
        for name, codecs in CODECS.items():
            try:
                array = _write_array(Path(directory) / name, data, 8, codecs)
                rows = ZarrColumn(array, "x")
                if not np.array_equal(rows.read(0, 16), data):
                    raise ValueError("reads other values than were written")
                if rows.files:
                    working.append(name)
                else:
                    working.append(f"{name} (by {rows.reader})")
            except Exception as error:
                errors.append(f"{name}: {error}")
    status = BROKEN if errors else OK
    return Check("codecs", status, ", ".join(working), "; ".join(errors))


def _dashboard() -> Check:
    """Examine whether Dask's dashboard can be loaded."""
    if importlib.util.find_spec("bokeh") is None:
        return Check("dashboard", ADVICE, "not usable", "pip install bokeh where the scheduler runs")
    try:
        import distributed.dashboard.scheduler  # noqa: F401
    except Exception as error:
        return Check("dashboard", ADVICE, "not usable", f"Dask's dashboard cannot be loaded: {error}")
    return Check("dashboard", OK, "usable")


def _write_array(path: Path, data: np.ndarray, chunk_rows: int, codecs: list[Any]) -> zarr.Array:
    """Write an array in chunks of whole rows, and open it for reading."""
    array = zarr.create_array(
        path,
        shape=data.shape,
        chunks=(chunk_rows, data.shape[1]),
        dtype=data.dtype,
        compressors=codecs or None,
        config={"write_empty_chunks": True},
    )
    array[...] = data
    return zarr.open_array(path, mode="r")


def _made_and_read() -> list[Check]:
    """Make a store, examine how fast it is read, and remove it."""
    try:
        with tempfile.TemporaryDirectory() as directory:
            data = np.random.default_rng(0).normal(size=(MADE // 800, 100))
            codecs = [BloscCodec(cname="lz4", shuffle="shuffle"), Crc32cCodec()]
            array = _write_array(Path(directory) / "made.zarr", data, 10_000, codecs)
            return reading(array)
    except OSError as error:
        return [Check("reading", BROKEN, f"{error}", f"make room in, or rights to, {tempfile.gettempdir()}")]


def reading(array: zarr.Array) -> list[Check]:
    """Examine how fast the rows are read, on all cores, and what about the array's chunks could be better."""
    # Read the first rows as a pass does, and then as plainly as possible.
    try:
        rows = as_rows(array, "x")
        assert isinstance(rows, ZarrColumn)
        most_bytes = FAR if rows.ahead else TESTED
        stop = min(rows.shape[0], max(rows.read_rows, most_bytes // max(1, rows.nbytes(1))))
        rows.check_chunks(0, stop)
        first_seconds = _seconds(rows, stop)
        seconds = min(_seconds(rows, stop) for _ in range(2))
        read_plainly = floor(rows, stop)
        floor_seconds = None
        if read_plainly is not None:
            floor_seconds = min(read_plainly() for _ in range(2))
    except MissingChunkError as error:
        return [Check("reading", ADVICE, "not tried", f"{error}")]
    except (DaskGDError, OSError) as error:
        return [Check("reading", BROKEN, "failed", f"{error}")]
    # Say how fast it was, and against the floor where there is a floor.
    megabytes = rows.nbytes(stop) / 1e6
    speed = f"{megabytes:.0f} MB by {rows.reader}, {CPU_COUNT} threads: first {megabytes / first_seconds:,.0f} MB/s"
    speed += f", then {megabytes / seconds:,.0f} MB/s"
    status = OK
    advice = ""
    if floor_seconds is not None:
        speed += f"; the floor, plain reading and decoding, {megabytes / floor_seconds:,.0f} MB/s"
        speed += f", {seconds / floor_seconds:.2f} times"
        if seconds > SLOW * floor_seconds and rows.nbytes(stop) >= FAR:
            status = ADVICE
            advice = "slower than it should be; was the machine busy?"
    return [Check("reading", status, speed, advice), *_chunks(rows)]


def _seconds(rows: ZarrColumn, stop: int) -> float:
    """Return the seconds that the first rows take to be read, on all cores."""
    start = time.perf_counter()
    with ThreadPoolExecutor(CPU_COUNT) as pool:
        # Each window is dropped once it is read.
        for _ in pool.map(lambda window: rows.read(*window) is None, list(rows.windows(0, stop))):
            pass
    return time.perf_counter() - start


def floor(rows: ZarrColumn, stop: int) -> Callable[[], float] | None:
    """Return a function that measures the least time to read the first rows; None where that is not simple.

    It reads the same files into reused buffers and decodes them, no more, and returns the seconds.
    """
    # Only chunks in files of their own.
    files = rows.files
    if files is None or files.index is not None:
        return None
    codecs = _codec_names(rows.array)
    decoders = {"blosc": blosc.decompress, "zstd": zstd.decompress}
    decode = next((decoders[name] for name in codecs if name in decoders), None)
    has_checksum = "crc32c" in codecs
    checksum_bytes = 4 if has_checksum else 0
    # The files of the chunks.
    row_edges, *column_edges = rows.chunk_edges
    grid = [overlapping(row_edges, 0, stop), *map(all_of, column_edges)]
    paths = [os.path.join(files.directory, files.key(index)) for index in itertools.product(*grid)]
    buffers = threading.local()

    def read_chunk(path: str) -> None:
        # Each thread has buffers of its own, with room for data that compression has made longer.
        if not hasattr(buffers, "raw"):
            buffers.raw = np.empty(rows.chunk_bytes + rows.chunk_bytes // 8 + (1 << 16), np.uint8)
            buffers.decoded = np.empty(rows.chunk_bytes, np.uint8)
        with open(path, "rb", buffering=0) as file:
            size = file.readinto(buffers.raw)
        data = buffers.raw[: size - checksum_bytes]
        if has_checksum:
            checksum = int.from_bytes(buffers.raw[size - 4 : size], "little")
            if google_crc32c.value(data) != checksum:
                raise ValueError(f"{path} is damaged")
        if decode is not None:
            decode(data, buffers.decoded)

    def measure() -> float:
        # Blosc's threads would take turns with these.
        before = blosc.use_threads
        blosc.use_threads = False
        start = time.perf_counter()
        try:
            with ThreadPoolExecutor(CPU_COUNT) as pool:
                list(pool.map(read_chunk, paths))
        finally:
            blosc.use_threads = before
        return time.perf_counter() - start

    return measure


def _codec_names(array: zarr.Array) -> list[str]:
    """Return the names of the codecs of an array, of either format of Zarr."""
    codecs = [codec.to_dict()["name"] for codec in getattr(array.metadata, "codecs", ())]
    if codecs:
        return codecs
    compressor = array.metadata.compressor  # type: ignore[union-attr]
    if compressor is None:
        return []
    return [compressor.codec_id]


def _sides(rows: ZarrColumn) -> str:
    """Say the shape of the chunks, in words."""
    sides = tuple(map(longest, rows.chunk_edges))
    if is_regular(rows.array):
        return str(sides)
    return f"at most {sides}"


def _chunks(rows: ZarrColumn) -> Iterator[Check]:
    """Examine what about the chunks could be better."""
    array = rows.array
    size = rows.chunk_bytes
    codecs = [type(codec).__name__ for codec in getattr(array, "compressors", ())]
    description = f"{array.shape} {array.dtype} in chunks of {_sides(rows)}, {size / 1e6:.3g} MB"
    description += f"; {', '.join(codecs) or 'no codec'}"
    advice = []
    # Their size.
    if size < SMALL and rows.nbytes(rows.shape[0]) > 16 * SMALL:
        advice.append(f"chunks of {size / 1e6:.2g} MB are small; of 4 to 40 MB they read fast")
    if size > LARGE:
        need = CPU_COUNT * rows.buffer_bytes
        advice.append(
            f"chunks of {size / 1e6:,.0f} MB are large; {CPU_COUNT} threads may need {need / 1e9:.1f} GB to decode them"
        )
    # Their shape.
    if any(len(all_of(edges)) > 1 for edges in rows.chunk_edges[1:]):
        advice.append("chunks hold only some columns; whole rows read faster")
    # Their codecs.
    if "crc32c" not in repr(getattr(array.metadata, "codecs", ())).lower():
        advice.append("no checksums, so damage is read as data: add zarr.codecs.Crc32cCodec() to the compressors")
    if rows.files is None and not rows.ahead and importlib.util.find_spec("zarrs") is None:
        advice.append("its codecs are read by zarr; pip install zarrs may be faster, and Blosc or zstd are")
    status = ADVICE if advice else OK
    yield Check("chunks", status, description, "; ".join(advice))
