"""Chunks read from files are those that zarr reads, and a damaged one is never read as data."""

import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numcodecs
import numpy as np
import pytest
import zarr
from numpy.testing import assert_array_equal
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, ZstdCodec
from zarr.storage import MemoryStore

from dask_gd.sources import chunk_files as files
from dask_gd.sources import zarr_column
from dask_gd.sources.chunk_files import ChunkError, chunk_files
from dask_gd.sources.zarr_column import ZarrColumn

N, P = 53, 6
COMPRESSORS = {
    "none": None,
    "crc32c": Crc32cCodec(),
    "blosc": BloscCodec(cname="lz4", shuffle="shuffle"),
    "blosc, crc32c": [BloscCodec(cname="zstd", shuffle="bitshuffle"), Crc32cCodec()],
    "zstd": ZstdCodec(level=1),
    "zstd with a checksum": ZstdCodec(level=3, checksum=True),
}
OLD_COMPRESSORS = {"none": None, "blosc": numcodecs.Blosc("zstd"), "zstd": numcodecs.Zstd(5)}
every_compressor = pytest.mark.parametrize("compressors", COMPRESSORS.values(), ids=COMPRESSORS)


def values(dtype="f8", shape=(N, P)):
    return np.random.default_rng(0).integers(0, 100, shape).astype(dtype)


def stored(path, data, **options):
    """``data`` in a Zarr array of files, every chunk written."""
    return zarr.create_array(path, data=data, config={"write_empty_chunks": True}, **{"chunks": (10, P), **options})


def read(array, start, stop, fill=None):
    out = np.full((stop - start, *array.shape[1:]), 99, array.dtype)
    found = chunk_files(array)
    assert found is not None
    found.read(start, out, fill)
    return out


def rows_read_everywhere(array, data):
    for start, stop in [(0, N), (0, 1), (N - 1, N), (10, 20), (7, 33), (49, N)]:
        assert_array_equal(read(array, start, stop), data[start:stop])


@every_compressor
@pytest.mark.parametrize("dtype", ["f8", "f4", "i2", "?"])
@pytest.mark.parametrize("chunks", [(10, P), (10, 4), (N, P), (2, 1), (100, 100)], ids=str)
def test_any_rows_of_any_chunks_are_those_of_the_array(tmp_path, compressors, dtype, chunks):
    data = values(dtype)
    rows_read_everywhere(stored(tmp_path / "x", data, compressors=compressors, chunks=chunks), data)


@every_compressor
@pytest.mark.parametrize("columns", [(P, P), (2, 4)], ids=str)
def test_any_rows_of_any_shards_are_those_of_the_array(tmp_path, compressors, columns):
    data, (chunk, shard) = values(), columns
    rows_read_everywhere(
        stored(tmp_path / "x", data, compressors=compressors, chunks=(5, chunk), shards=(20, shard)), data
    )


@pytest.mark.parametrize("compressors", OLD_COMPRESSORS.values(), ids=OLD_COMPRESSORS)
@pytest.mark.parametrize("chunks", [(10, P), (7, 4)], ids=str)
def test_any_rows_of_version_2_are_those_of_the_array(tmp_path, compressors, chunks):
    data = values()
    rows_read_everywhere(stored(tmp_path / "x", data, compressors=compressors, chunks=chunks, zarr_format=2), data)


@pytest.mark.parametrize("rows", [1, 200, 255, 256, 257, 70_000])
def test_every_length_that_a_zstd_frame_can_state_is_read(tmp_path, rows):
    data = np.arange(rows, dtype="u1")
    array = stored(tmp_path / "x", data, chunks=(rows,), compressors=ZstdCodec(level=1))
    assert_array_equal(read(array, 0, rows), data)


def test_one_dimensional_arrays_are_read(tmp_path):
    data = values(shape=(N,))
    rows_read_everywhere(stored(tmp_path / "y", data, chunks=(8,), compressors=None), data)


OTHERS = {
    "in memory": (MemoryStore, {}),
    "gzip": (None, {"compressors": GzipCodec()}),
    "big-endian": (None, {"serializer": BytesCodec(endian="big")}),
    "columns first": (None, {"zarr_format": 2, "order": "F"}),
    "compressed twice": (None, {"compressors": [BloscCodec(cname="lz4"), ZstdCodec()]}),
    "a checksum inside": (None, {"compressors": [Crc32cCodec(), ZstdCodec()]}),
    "big-endian version 2": (None, {"zarr_format": 2}),
    "filtered": (None, {"zarr_format": 2, "filters": [numcodecs.Delta("f8")]}),
    "lzma": (None, {"zarr_format": 2, "compressors": numcodecs.LZMA()}),
}


@pytest.mark.parametrize("installed", [True, False], ids=["zarrs", "no zarrs"])
@pytest.mark.parametrize("name", OTHERS)
def test_whatever_else_there_is_is_read_through_zarr(tmp_path, name, installed, monkeypatch):
    if not installed:
        monkeypatch.setitem(sys.modules, "zarrs.pipeline", None)
    make_store, options = OTHERS[name]
    data = values(">f8" if name == "big-endian version 2" else "f8")
    array = stored(make_store() if make_store else tmp_path / "x", data, **options)
    assert chunk_files(array) is None
    rows = ZarrColumn(array, "x")
    assert_array_equal(rows.read(7, 33), data[7:33])
    # zarrs is asked wherever it can be, and nowhere else.
    with_zarrs = installed and name not in ("in memory", "lzma", "filtered", "big-endian version 2")
    assert rows.reader == ("zarrs" if with_zarrs else "zarr")
    assert type(rows.marked.fast.async_array.codec_pipeline).__module__.startswith("zarrs") is with_zarrs
    assert type(array.async_array.codec_pipeline).__module__.startswith("zarr.")


def test_threads_that_read_through_zarrs_at_once_leave_zarr_as_it_was(tmp_path):
    data = values(shape=(400, P))
    array = stored(tmp_path / "x", data, compressors=GzipCodec())
    before = dict(zarr.config.get("codec_pipeline"))

    at_once = Barrier(8)

    def read(start):
        at_once.wait()
        return ZarrColumn(array, "x").read(start, start + 20).copy()

    starts = list(range(0, 400, 20)) * 10
    with ThreadPoolExecutor(8) as pool:
        for start, part in zip(starts, pool.map(read, starts), strict=True):
            assert_array_equal(part, data[start : start + 20])
    assert zarr.config.get("codec_pipeline") == before


@pytest.mark.parametrize("chunks", [(400, 4), (400, P)], ids=str)
def test_numbers_that_are_stored_as_they_are_need_no_memory_for_the_rest_of_their_chunk(tmp_path, chunks, monkeypatch):
    monkeypatch.setattr(zarr_column, "READ_BYTES", 1024)
    monkeypatch.setattr(zarr_column, "READ_ROWS", 1)
    data = values(shape=(400, P))
    column = ZarrColumn(stored(tmp_path / "x", data, compressors=None, chunks=chunks), "x")
    assert not column.worth_keeping
    assert column.buffer_bytes <= 2 * 1024
    read = [column.read(start, stop).copy() for start, stop in column.windows(0, 400)]
    assert len(read) > 10
    assert_array_equal(np.concatenate(read), data)


@every_compressor
@pytest.mark.parametrize(("first", "last"), [(0, 3), (1, 4), (2, 6), (3, 4), (5, 6)])
def test_any_columns_of_any_chunks_are_those_of_the_array(tmp_path, compressors, first, last):
    data = values()
    array = stored(tmp_path / "x", data, compressors=compressors, chunks=(10, 4))
    found = chunk_files(array)
    for start, stop in [(0, N), (7, 33), (N - 1, N)]:
        out = np.full((stop - start, last - first), 99.0)
        found.read(start, out, None, column=first)
        assert_array_equal(out, data[start:stop, first:last])


def test_an_absent_chunk_is_named_or_filled(tmp_path):
    array = stored(tmp_path / "x", values())
    (tmp_path / "x" / "c" / "2" / "0").unlink()
    with pytest.raises(ChunkError) as error:
        read(array, 0, N)
    assert (error.value.index, error.value.absent) == ((2, 0), True)
    expected = values()
    expected[20:30] = -1
    assert_array_equal(read(array, 0, N, fill=-1), expected)


def test_an_absent_chunk_of_version_2_without_a_fill_value_is_zeros(tmp_path):
    array = zarr.create_array(tmp_path / "x", shape=(N, P), chunks=(10, P), dtype="f8", zarr_format=2, fill_value=None)
    array[:20] = values()[:20]
    expected = np.where(np.arange(N)[:, None] < 20, values(), 0)
    assert_array_equal(ZarrColumn(array, "x", missing="fill").read(0, N), expected)


def test_a_chunk_absent_from_a_shard_is_named_or_filled(tmp_path):
    options = {"chunks": (5, P), "shards": (20, P), "dtype": "f8", "shape": (N, P)}
    array = zarr.create_array(tmp_path / "x", fill_value=0, config={"write_empty_chunks": False}, **options)
    data = values()
    data[25:30] = 0
    array[:] = data
    with pytest.raises(ChunkError) as error:
        read(array, 0, N)
    assert (error.value.index, error.value.absent) == ((5, 0), True)
    assert_array_equal(read(array, 0, N, fill=0), data)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("compressor", ["none", "blosc", "zstd"])
@pytest.mark.parametrize("left", [0, 3, 15, 16, 17, 0.5, 0.99])
def test_a_file_cut_short_is_never_data(tmp_path, zarr_format, compressor, left):
    compressors = (OLD_COMPRESSORS if zarr_format == 2 else COMPRESSORS)[compressor]
    array = stored(tmp_path / "x", values(), zarr_format=zarr_format, compressors=compressors)
    file = tmp_path / "x" / ("1.0" if zarr_format == 2 else "c/1/0")
    content = file.read_bytes()
    file.write_bytes(content[: int(left * len(content)) if isinstance(left, float) else left])
    with pytest.raises(ChunkError) as error:
        read(array, 0, N)
    assert (error.value.index, error.value.absent) == ((1, 0), False)


@pytest.mark.parametrize("compressor", ["none", "blosc", "zstd"])
def test_a_chunk_of_another_size_is_never_data(tmp_path, compressor):
    """A whole chunk of an array with fewer columns, put in this one's place."""
    compressors = COMPRESSORS[compressor]
    array = stored(tmp_path / "x", values(), compressors=compressors)
    stored(tmp_path / "other", values(shape=(N, 5)), chunks=(10, 5), compressors=compressors)
    (tmp_path / "other/c/1/0").replace(tmp_path / "x/c/1/0")
    with pytest.raises(ChunkError) as error:
        read(array, 0, N)
    assert error.value.index == (1, 0)


@pytest.mark.parametrize("byte", [0, 5, -1])
def test_a_flipped_bit_is_found_by_the_checksum(tmp_path, byte):
    array = stored(tmp_path / "x", values(), compressors=Crc32cCodec())
    file = tmp_path / "x/c/0/0"
    content = bytearray(file.read_bytes())
    content[byte] ^= 4
    file.write_bytes(content)
    with pytest.raises(ChunkError, match="checksum"):
        read(array, 0, N)


def test_a_thread_keeps_its_memory_for_as_long_as_it_is_large_enough():
    large = files.thread_buffer("test", (10, 3), np.dtype("f8"))
    small = files.thread_buffer("test", (5,), np.dtype("f4"))
    assert small.ctypes.data == large.ctypes.data
    assert files.thread_buffer("other", (5,), np.dtype("f4")).ctypes.data != large.ctypes.data
    assert files.thread_buffer("test", (11, 3), np.dtype("f8")).shape == (11, 3)
