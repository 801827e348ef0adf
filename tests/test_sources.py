"""The same rows give the same sums from every kind of array and chunking, and bad data is refused by its address."""

import shutil
from itertools import count
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, ZstdCodec
from zarr.storage import MemoryStore

import dask_gd
from dask_gd import Logistic, Squared
from dask_gd.errors import (
    CorruptChunkError,
    DataError,
    InvalidArgumentError,
    InvalidTypeError,
    MissingChunkError,
    NonFiniteError,
)
from dask_gd.kernels.base import EXACT, Request, sums_of_rows
from dask_gd.passes import evaluate
from dask_gd.sources import as_source, fingerprint
from dask_gd.sources import zarr_column as streamed
from dask_gd.sources.columns import as_rows

N, P = 61, 3
SQUARED = Squared()
FIRST_PASS = Request(EXACT, moments=True)
keys = (f"test-{i}" for i in count())


@pytest.fixture(autouse=True)
def _short_windows(monkeypatch):
    """A few rows at a time, so that short arrays are read in many windows."""
    monkeypatch.setattr(streamed, "READ_BYTES", 200)


def rows(n=N, p=P, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, p)), rng.integers(0, 2, n).astype(float), rng.uniform(0.1, 2, n)


def in_zarr(a, chunk, *, shards=None, zarr_format=3, columns=None):
    """``a`` in a Zarr array in memory, with ``chunk`` rows in each chunk."""
    rest = (columns or a.shape[1],) if a.ndim == 2 else ()
    return zarr.create_array(
        MemoryStore(),
        data=a,
        chunks=(chunk, *rest),
        shards=None if shards is None else (shards * chunk, *rest),
        zarr_format=zarr_format,
        config={"write_empty_chunks": True},
    )


KINDS = {
    "numpy": lambda a, chunk: a,
    "dask": lambda a, chunk: da.from_array(a, chunks=(chunk, *(-1,) * (a.ndim - 1))),
    "zarr": in_zarr,
    "zarr of version 2": lambda a, chunk: in_zarr(a, chunk, zarr_format=2),
    "sharded zarr": lambda a, chunk: in_zarr(a, chunk, shards=2),
    "xarray": lambda a, chunk: xr.DataArray(da.from_array(a, chunks=chunk)),
}
kinds, chunks = st.sampled_from(list(KINDS)), st.integers(1, N + 9)


def passed(source, *, loss=SQUARED, request=FIRST_PASS, query=None):
    """One pass on Dask's threads."""
    if query is None:
        query = np.zeros((source.shape[1] + 1, source.outputs or 1, 1))
    return evaluate(source, query, loss, request, next(keys), 0)


def assert_same_sums(source, x, y, weight, loss=SQUARED, rtol=1e-12):
    y = y[:, None] if y.ndim == 1 else y
    query = np.random.default_rng(1).normal(size=(x.shape[1] + 1, y.shape[1], 2))
    sums = passed(source, loss=loss, query=query)
    x = np.ascontiguousarray(x, dtype=source.dtype)
    expected = sums_of_rows(x, y.astype(float), weight, query, loss, FIRST_PASS)
    assert sums.rows == len(x)
    for a, b in zip((*sums[1:5], *sums.moments), (*expected[1:5], *expected.moments), strict=True):
        assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max())


@given(x_kind=kinds, y_kind=kinds, weight_kind=kinds, x_chunk=chunks, y_chunk=chunks, weight_chunk=chunks)
def test_every_kind_and_chunking_gives_the_same_sums(x_kind, y_kind, weight_kind, x_chunk, y_chunk, weight_chunk):
    x, y, weight = rows()
    source = as_source(KINDS[x_kind](x, x_chunk), KINDS[y_kind](y, y_chunk), KINDS[weight_kind](weight, weight_chunk))
    assert_same_sums(source, x, y, weight, Logistic())


@pytest.mark.parametrize("x_kind", ["dask", "zarr"])
@pytest.mark.parametrize("y_kind", KINDS)
@pytest.mark.parametrize(("x_chunk", "y_chunk"), [(1, 61), (61, 1), (7, 10)])
def test_targets_are_aligned_by_row_whatever_their_chunks(x_kind, y_kind, x_chunk, y_chunk):
    x, y, _ = rows()
    y = np.stack([y, 1 - y, np.arange(N)], axis=1)
    assert_same_sums(as_source(KINDS[x_kind](x, x_chunk), KINDS[y_kind](y, y_chunk)), x, y, None)


@given(chunk=chunks, shards=st.none() | st.integers(1, 5), columns=st.integers(1, P))
def test_partitions_are_runs_of_whole_chunks_that_hold_every_row_once(chunk, shards, columns):
    x, y, _ = rows()
    source = as_source(in_zarr(x, chunk, shards=shards, columns=columns), y)
    seen = [
        (r.start, r.x.copy())
        for i in range(source.partitions)
        for _, r in source.reader((i,), y[slice(*source.bounds[i : i + 2])])
    ]
    assert_array_equal(np.concatenate([a for _, a in seen]), x)
    assert_array_equal([start for start, _ in seen], np.cumsum([0, *(len(a) for _, a in seen)])[:-1])
    assert all(edge % (chunk * (shards or 1)) == 0 for edge in source.bounds[:-1])


def test_partitions_come_from_the_data_alone():
    x, y, _ = rows(400)
    assert as_source(in_zarr(x, 4), y).partitions == 100 // (100 // 25)
    assert as_source(in_zarr(x, 1), y).partitions == 400 // 16  # not so small that sums weigh more than rows
    assert as_source(in_zarr(x, 100), y).partitions == 4
    assert as_source(da.from_array(x, chunks=(70, 2)), y).bounds == (0, 70, 140, 210, 280, 350, 400)


@pytest.mark.parametrize("cut", [slice(0, 20), slice(20, None), slice(13, 14), slice(-7, None), slice(None)], ids=str)
@pytest.mark.parametrize("y_chunk", [4, 100])
def test_a_slice_of_rows_is_those_rows(tmp_path, cut, y_chunk):
    x, y, weight = rows()
    path = group(tmp_path, x=x, y=y, weight=weight, y_chunk=y_chunk)
    source = dask_gd.open(path, x="x", y="y", sample_weight="weight", rows=cut)
    assert source.shape == x[cut].shape
    assert_same_sums(source, x[cut], y[cut], weight[cut])


@pytest.mark.parametrize("cut", [slice(5, 5), slice(100, None), slice(None, None, 2), slice(None, None, -1)], ids=str)
def test_rows_that_are_none_or_not_consecutive_are_refused(tmp_path, cut):
    with pytest.raises(InvalidArgumentError, match=r"rows=.*consecutive"):
        dask_gd.open(group(tmp_path), x="x", y="y", rows=cut)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint8", "int64", "uint64", "float16", "float32", "float64", ">f4", ">f8", ">i2"]
)
def test_every_real_dtype_is_served(kind, dtype):
    x, y, _ = rows()
    x, y = np.abs(np.round(3 * x)).astype(dtype), y.astype(dtype)
    source = as_source(KINDS[kind](x, 10), KINDS[kind](y, 7))
    assert source.dtype == (np.float32 if dtype in ("float16", "float32", ">f4") else np.float64)
    assert_same_sums(source, x.astype(float), y.astype(float), None, Logistic(), 1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (40, 1)], ids=str)
def test_a_single_row_or_column_is_data(kind, shape):
    x, y, _ = rows(*shape)
    assert_same_sums(as_source(KINDS[kind](x, 9), KINDS[kind](y, 9)), x, y, None)


@pytest.mark.parametrize("shape", [(N,), (N, 1)], ids=str)
def test_a_target_with_one_column_is_one_output(shape):
    x, y, _ = rows()
    source = as_source(x, y.reshape(shape))
    assert source.outputs is None
    assert_same_sums(source, x, y, None)


def test_blocks_without_rows_change_nothing():
    x, y, weight = rows()
    cut = ((0, 20, 0, 0, 41, 0), (3,))
    source = as_source(da.from_array(x, chunks=cut), da.from_array(y, chunks=((31, 0, 30),)), weight)
    assert source.partitions == 2
    assert_same_sums(source, x, y, weight)


@pytest.mark.parametrize("x_chunks", [(10, 3), (10, 1), (N, 2), ((1, 50, 10), 2)], ids=str)
def test_misaligned_dask_chunks_are_aligned(x_chunks):
    x, y, weight = rows()
    parts = da.from_array(x, chunks=x_chunks), da.from_array(y, chunks=4), da.from_array(weight, chunks=(33, 28))
    assert_same_sums(as_source(*parts), x, y, weight)


def test_strided_and_fortran_arrays_give_the_bits_of_plain_ones():
    x, y, _ = rows()
    plain = passed(as_source(x, y))
    for other in (np.asfortranarray(x), np.repeat(x, 2, axis=0)[::2]):
        for a, b in zip(passed(as_source(other, y))[2:5], plain[2:5], strict=True):
            assert_array_equal(a, b)


# Refused before any task


BEFORE = {
    "shorter y": (lambda x, y, w: (x, y[:-1], None), InvalidArgumentError, "61 rows but y has 60"),
    "longer weights": (lambda x, y, w: (x, y, np.ones(62)), InvalidArgumentError, "61 rows but sample_weight has 62"),
    "1-D x": (lambda x, y, w: (y, y, None), InvalidArgumentError, "x must be 2-D"),
    "3-D x": (lambda x, y, w: (x[:, :, None], y, None), InvalidArgumentError, "x must be 2-D"),
    "0-D y": (lambda x, y, w: (x, y[0], None), InvalidArgumentError, "y must have shape"),
    "3-D y": (lambda x, y, w: (x, y[:, None, None], None), InvalidArgumentError, "y must have shape"),
    "2-D weights": (lambda x, y, w: (x, y, w[:, None]), InvalidArgumentError, "sample_weight must have shape"),
    "no rows": (lambda x, y, w: (x[:0], y[:0], None), InvalidArgumentError, "nothing to fit"),
    "no columns": (lambda x, y, w: (x[:, :0], y, None), InvalidArgumentError, "nothing to fit"),
    "no outputs": (lambda x, y, w: (x, np.ones((N, 0)), None), InvalidArgumentError, "nothing to fit"),
    "no y": (lambda x, y, w: (x, None, None), InvalidArgumentError, "needs a target y"),
    "bytes x": (lambda x, y, w: (x.astype("S5"), y, None), InvalidTypeError, r"x has dtype \|S5"),
    "complex x": (lambda x, y, w: (x + 0j, y, None), InvalidTypeError, "x has dtype complex128"),
    "datetime y": (lambda x, y, w: (x, y.astype("M8[s]"), None), InvalidTypeError, "y has dtype datetime64"),
    "string y": (lambda x, y, w: (x, y.astype("U3"), None), InvalidTypeError, "y has dtype <U3"),
    "complex weights": (lambda x, y, w: (x, y, w + 0j), InvalidTypeError, "sample_weight has dtype complex128"),
    "list": (lambda x, y, w: (x.tolist(), y, None), InvalidTypeError, "x is a list"),
    "nothing": (lambda x, y, w: (None, y, None), InvalidTypeError, "x is a NoneType"),
    "path": (lambda x, y, w: ("flights.zarr", y, None), InvalidTypeError, "dask_gd.open"),
}


@pytest.mark.parametrize("name", BEFORE)
def test_what_cannot_be_fitted_is_refused_before_any_task(name):
    make, error, message = BEFORE[name]
    with pytest.raises(error, match=message):
        as_source(*make(*rows()))


@pytest.mark.parametrize("kind", ["dask", "zarr"])
@pytest.mark.parametrize("name", ["shorter y", "1-D x", "2-D weights", "complex x"])
def test_lazy_arrays_are_refused_like_those_in_memory(kind, name):
    make, error, message = BEFORE[name]
    with pytest.raises(error, match=message):
        as_source(*(a if a is None else KINDS[kind](a, 10) for a in make(*rows())))


def test_unknown_dask_chunks_are_computed_and_that_is_said(caplog):
    x, y, _ = rows()
    lazy, good = da.from_array(x, chunks=10), x[:, 0] > 0
    unknown = lazy[lazy[:, 0] > 0]
    source = as_source(unknown, y[good])
    assert [r.getMessage()[:21] for r in caplog.records] == ["The chunk sizes of x "]
    assert np.isnan(unknown.shape[0])  # the user's array is left as it is
    assert_same_sums(source, x[good], y[good], None)
    with pytest.raises(InvalidArgumentError, match=f"{good.sum()} rows but y has 61"):
        as_source(unknown, y)


@pytest.mark.parametrize("lazy", [False, True], ids=["pandas", "dask"])
def test_data_frames_are_served_with_their_names(lazy, caplog):
    x, y, weight = rows()
    frame = pd.DataFrame(x, columns=["a", "b", "c"]).assign(y=y, weight=weight)
    if lazy:
        frame = pytest.importorskip("dask.dataframe").from_pandas(frame, npartitions=4)
    x_frame, y_frame = frame[["a", "b", "c"]], frame[["y"]]
    source = as_source(x_frame, frame["y"], frame["weight"])
    assert source.feature_names == ("a", "b", "c")
    assert_same_sums(source, x, y, weight)
    assert len(caplog.records) == (3 if lazy else 0)
    run = dask_gd.fit(x_frame, y_frame)
    assert run.weights.dims == ("feature",)
    with dask.config.set(scheduler=lambda *a, **k: pytest.fail("predict computed something")):
        prediction = run.predict(x_frame)
    assert isinstance(prediction, da.Array if lazy else np.ndarray)
    assert_allclose(np.asarray(prediction), run.predict(x), rtol=1e-12)
    assert dask_gd.fit(x_frame, frame[["y", "weight"]]).weights.output.values.tolist() == ["y", "weight"]


@pytest.mark.parametrize("lazy", [False, True], ids=["pandas", "dask"])
def test_frames_of_several_kinds_of_numbers_are_numbers(lazy):
    frame = pd.DataFrame({"float": [1.5, 2, 3], "bool": [True, False, True], "small": np.ones(3, "f4")})
    for dtype in ("Int64", "Float64", "boolean"):
        frame[dtype] = pd.array([1, None, 0], dtype=dtype)
    expected = np.array([[1.5, 1, 1, 1, 1, 1], [2, 0, 1, *[np.nan] * 3], [3, 1, 1, 0, 0, 0]])
    frames = pytest.importorskip("dask.dataframe").from_pandas(frame, npartitions=2) if lazy else frame
    assert_array_equal(as_rows(frames, "x").array.compute(), expected)
    assert_array_equal(as_rows(frames[["float", "bool"]], "x").array.compute(), expected[:, :2])
    assert_array_equal(as_rows(frames["Int64"], "y").array.compute(), expected[:, 3])
    assert as_rows(frames[["small"]], "x").dtype == np.float32
    words = frames.assign(word="a")
    with pytest.raises(InvalidTypeError, match=r"x: column 'word' \(str(ing)?\) holds no numbers"):
        as_rows(words, "x")


def test_weights_beside_a_source_are_checked_and_used(tmp_path):
    x, y, weight = rows()
    source = dask_gd.open(group(tmp_path, x=x, y=y), x="x", y="y")
    assert_same_sums(as_source(source, None, weight), x, y, weight)
    with pytest.raises(InvalidArgumentError, match="leave y out"):
        as_source(source, y)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [np.ones(N - 1), np.ones(N + 1), np.ones((N, 1))], ids=lambda a: str(a.shape))
def test_weights_of_the_wrong_shape_beside_a_source_are_refused(tmp_path, kind, bad):
    source = dask_gd.open(group(tmp_path), x="x", y="y")
    with pytest.raises(InvalidArgumentError, match="sample_weight"):
        as_source(source, None, KINDS[kind](bad, 10))


@pytest.mark.parametrize(
    ("names", "message"), [({"x": "X"}, "x='X'.*it has weight, x, y"), ({"y": "late"}, "y='late'")]
)
def test_a_name_that_is_not_there_is_refused_with_those_that_are(tmp_path, names, message):
    with pytest.raises(InvalidArgumentError, match=message):
        dask_gd.open(group(tmp_path), **{"x": "x", "y": "y", **names})


def test_a_place_without_a_group_is_refused(tmp_path):
    for path in (tmp_path / "nowhere", tmp_path, group(tmp_path) / "x"):
        with pytest.raises(InvalidArgumentError, match="group"):
            dask_gd.open(path, x="x", y="y")


def test_an_unknown_choice_for_missing_chunks_is_refused(tmp_path):
    with pytest.raises(InvalidArgumentError, match="choose 'error' or 'fill'"):
        dask_gd.open(group(tmp_path), x="x", y="y", missing="ignore")


# Damaged data


def group(
    tmp_path, *, x=None, y=None, weight=None, y_chunk=10, shards=None, columns=P, zarr_format=3, compressors=None
) -> Path:
    """A Zarr group on disk with arrays x, y and weight; chunks of 10 rows under a checksum."""
    plain = rows()
    path = tmp_path / "data.zarr"
    root = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    checksum = [Crc32cCodec()] if zarr_format == 3 else None
    for name, a, default, chunk in zip(("x", "y", "weight"), (x, y, weight), plain, (10, y_chunk, 10), strict=True):
        a = default if a is None else a
        rest = (columns,) if a.ndim == 2 else ()
        root.create_array(
            name,
            data=a,
            chunks=(chunk, *rest),
            shards=None if shards is None else (shards * chunk, *rest),
            compressors=compressors or checksum,
            config={"write_empty_chunks": True},
        )
    return path


def chunk_file(path, array, index):
    v3 = path / array / "c" / "/".join(map(str, index))
    return v3 if v3.exists() else path / array / ".".join(map(str, index))


def open_all(path, **options):
    return dask_gd.open(path, x="x", y="y", sample_weight="weight", **options)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    ("array", "index", "where"),
    [
        ("x", (2, 0), r"'x' .*\(2, 0\) \(rows 20-29\)"),
        ("y", (6,), r"'y' .*\(6,\) \(rows 60-60\)"),
        ("weight", (0,), "rows 0-9"),
    ],
)
def test_a_missing_chunk_is_refused_by_its_index_and_rows(tmp_path, zarr_format, array, index, where):
    path = group(tmp_path, zarr_format=zarr_format)
    chunk_file(path, array, index).unlink()
    with pytest.raises(MissingChunkError, match=where):
        open_all(path)


def test_a_missing_chunk_is_named_by_its_column_too(tmp_path):
    path = group(tmp_path, columns=1)
    chunk_file(path, "x", (3, 2)).unlink()
    with pytest.raises(MissingChunkError, match=r"\(3, 2\) \(rows 30-39\)"):
        open_all(path)


def test_a_missing_shard_is_refused(tmp_path):
    path = group(tmp_path, shards=2)
    chunk_file(path, "x", (1, 0)).unlink()
    with pytest.raises(MissingChunkError, match=r"\(1, 0\) \(rows 20-39\)"):
        open_all(path)


def test_a_chunk_missing_from_a_shard_is_refused(tmp_path):
    x, y, _ = rows()
    root = zarr.open_group(tmp_path / "data.zarr", mode="w")
    root.create_array("x", shape=x.shape, dtype=float, chunks=(10, P), shards=(20, P))[:10] = x[:10]
    root["x"][20:] = x[20:]
    root.create_array("y", data=y)
    with pytest.raises(MissingChunkError, match="rows 10-19"):
        passed(dask_gd.open(tmp_path / "data.zarr", x="x", y="y"))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_missing_chunk_may_be_taken_as_fill_value(tmp_path, zarr_format):
    path = group(tmp_path, zarr_format=zarr_format)
    chunk_file(path, "x", (2, 0)).unlink()
    x, y, weight = rows()
    x[20:30] = 0.0
    assert_same_sums(open_all(path, missing="fill"), x, y, weight)


def truncated(data):
    return data[: len(data) // 2]


def emptied(data):
    return b""


def flipped(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


COMPRESSORS = {
    "crc32c": [Crc32cCodec()],
    "zstd, crc32c": [ZstdCodec(), Crc32cCodec()],
    "blosc": [BloscCodec()],
    "gzip": [GzipCodec()],
    "zstd": [ZstdCodec()],
}


def damage(path, array, index, how):
    file = chunk_file(path, array, index)
    file.write_bytes(how(file.read_bytes()))


@pytest.mark.parametrize(
    ("how", "compressors"),
    # Without a checksum a flipped bit may be data, and so may half a chunk of Blosc.
    [
        (how, name)
        for name in COMPRESSORS
        for how in (truncated, emptied, flipped)
        if "crc" in name or how is emptied or (how is truncated and name != "blosc")
    ],
)
@pytest.mark.parametrize(
    ("array", "index", "where"),
    [("x", (3, 0), r"'x', chunk \(3, 0\), rows 30-39"), ("y", (6,), r"'y', chunk \(6,\), rows 60-60")],
)
def test_a_damaged_chunk_is_refused_by_its_index_and_rows(tmp_path, how, compressors, array, index, where):
    path = group(tmp_path, compressors=COMPRESSORS[compressors])
    damage(path, array, index, how)
    with pytest.raises(CorruptChunkError, match=where):
        passed(open_all(path))


@pytest.mark.parametrize("how", [truncated, emptied])
def test_a_damaged_chunk_of_version_2_is_refused(tmp_path, how):
    path = group(tmp_path, zarr_format=2)
    damage(path, "x", (3, 0), how)
    with pytest.raises(CorruptChunkError, match=r"chunk \(3, 0\), rows 30-39"):
        passed(open_all(path))


def test_a_damaged_chunk_is_named_by_its_column_too(tmp_path):
    path = group(tmp_path, columns=1)
    damage(path, "x", (3, 2), flipped)
    with pytest.raises(CorruptChunkError, match=r"chunk \(3, 2\), rows 30-39"):
        passed(open_all(path))


@pytest.mark.parametrize("how", [truncated, emptied, flipped])
def test_a_damaged_shard_is_refused(tmp_path, how):
    path = group(tmp_path, shards=2)
    damage(path, "x", (1, 0), how)
    with pytest.raises(CorruptChunkError, match=r"'x', chunk \([23], 0\), rows [23]0-[23]9"):
        passed(open_all(path))


# Bad values


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_value_in_x_that_is_not_finite_is_named_by_row_and_column(kind, value, dtype):
    x, y, _ = rows()
    x[47, 1] = value
    source = as_source(KINDS[kind](x.astype(dtype), 10), y)
    for loss in (Squared(), Logistic()):
        for request in (FIRST_PASS, Request(moments=True)):
            where = "" if kind == "numpy" else ", .*rows "
            with pytest.raises(NonFiniteError, match=rf"{value} in row 47, column 1 of 'x'{where}"):
                passed(source, loss=loss, request=request)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("role", ["y", "sample_weight"])
def test_a_target_or_weight_that_is_not_finite_is_named_by_row(kind, value, role):
    x, y, weight = rows()
    (y if role == "y" else weight)[23] = value
    source = as_source(x, KINDS[kind](y, 7), KINDS[kind](weight, 7))
    for loss in (Squared(), Logistic()):
        with pytest.raises(NonFiniteError, match=rf"{value} in row 23 of '{role}'"):
            passed(source, loss=loss)


def test_the_column_of_a_bad_target_is_named_where_there_are_several():
    x, y, _ = rows()
    y = np.stack([y, y], axis=1)
    y[5, 1] = np.nan
    with pytest.raises(NonFiniteError, match="row 5, column 1 of 'y'"):
        passed(as_source(x, y))


@pytest.mark.parametrize("asked", [FIRST_PASS, Request(moments=True), Request()], ids=["curvature", "scale", "later"])
def test_a_negative_weight_is_refused_by_row(asked):
    x, y, weight = rows()
    weight[31] = -0.5
    with pytest.raises(DataError, match=r"Negative weight -0\.5 in row 31 of 'sample_weight'"):
        passed(as_source(x, y, weight), request=asked)


@pytest.mark.parametrize("value", [2.0, -1.0, 0.5])
@pytest.mark.parametrize("kind", KINDS)
def test_a_target_that_the_loss_does_not_know_is_refused_by_row(kind, value):
    x, y, _ = rows()
    y[19] = value
    with pytest.raises(DataError, match=rf"takes targets 0 and 1.*found {value:g} in row 19 of 'y'"):
        passed(as_source(x, KINDS[kind](y, 8)), loss=Logistic())


def test_rows_are_numbered_in_the_whole_array_where_a_slice_is_read(tmp_path):
    x = rows()[0]
    x[47, 2] = np.nan
    with pytest.raises(NonFiniteError, match=r"row 47, column 2 of 'x', chunk \(4, 0\), rows 40-49"):
        passed(dask_gd.open(group(tmp_path, x=x), x="x", y="y", rows=slice(33, None)))


@pytest.mark.parametrize(("dtype", "size"), [(np.float32, 1e30), (np.float64, 1e200)])
def test_a_column_whose_squares_overflow_is_named(dtype, size):
    x, y, _ = rows()
    x[:, 2] *= size
    with pytest.raises(NonFiniteError, match="column 2 of 'x' overflow"):
        passed(as_source(x.astype(dtype), y), request=Request(EXACT, moments=True))


# Identity


def test_a_copied_directory_has_the_same_fingerprint(tmp_path):
    path = group(tmp_path)
    shutil.copytree(path, tmp_path / "copy")
    assert open_all(tmp_path / "copy").fingerprint() == open_all(path).fingerprint()


@pytest.mark.parametrize("array", ["x", "y", "weight"])
@pytest.mark.parametrize("shards", [None, 2])
def test_one_changed_value_changes_the_fingerprint_of_its_array_alone(tmp_path, array, shards):
    path = group(tmp_path, shards=shards)
    before = open_all(path).fingerprint()
    a = zarr.open_array(path / array)
    a[33] = a[33] + 1.0
    after = open_all(path).fingerprint()
    role = "sample_weight" if array == "weight" else array
    assert {field for field in before if before[field] != after[field]} == {role}


def test_a_large_array_is_sampled_to_its_last_byte(tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprint, "WHOLE_BYTES", 0)
    path = group(tmp_path)
    before = open_all(path).fingerprint()
    a = zarr.open_array(path / "x")
    a[33, 0] = a[33, 0] + 1.0
    assert open_all(path).fingerprint() != before


@pytest.mark.parametrize("kind", ["numpy", "dask", "zarr"])
def test_other_shapes_and_dtypes_are_other_data(kind):
    x, y, weight = rows()
    variants = [
        (x, y),
        (x[:-1], y[:-1]),
        (x[:, :2], y),
        (x.astype(np.float32), y),
        (x, y, weight),
        (x + 1, y),
        (x, 1 - y),
    ]
    prints = [as_source(*(KINDS[kind](a, 10) for a in variant)).fingerprint() for variant in variants]
    assert len({tuple(sorted(f.items())) for f in prints}) == len(variants)
    again = as_source(*(KINDS[kind](a.copy(), 10) for a in variants[0])).fingerprint()
    assert again == prints[0]


# Names


def test_features_are_named_by_the_zarr_attribute(tmp_path):
    path = group(tmp_path)
    assert open_all(path).feature_names is None
    zarr.open_array(path / "x").attrs["feature_names"] = ["a", "b", "c"]
    assert open_all(path).feature_names == ("a", "b", "c")
    zarr.open_array(path / "x").attrs["feature_names"] = ["a", "b"]
    with pytest.raises(DataError, match="2 feature names for 3 features"):
        open_all(path)


@pytest.mark.parametrize("lazy", [False, True])
def test_features_and_outputs_are_named_by_coordinates(lazy):
    x, y, _ = rows()
    x = xr.DataArray(da.from_array(x, chunks=10) if lazy else x, dims=("t", "f"), coords={"f": ["a", "b", "c"]})
    y = xr.DataArray(np.stack([y, y], axis=1), dims=("t", "o"), coords={"o": [10, 20]})
    source = as_source(x, y)
    assert source.feature_names == ("a", "b", "c")
    assert source.output_names == ("10", "20")
    assert as_source(x.drop_vars("f"), y.drop_vars("o")).feature_names is None


def test_a_data_array_opened_without_dask_is_not_read_whole(tmp_path):
    x, y, _ = rows()
    ds = xr.Dataset({"x": (("t", "f"), x), "y": ("t", y)}).chunk(t=10)
    ds.to_zarr(tmp_path / "ds.zarr", zarr_format=2, consolidated=False)
    ds = xr.open_zarr(tmp_path / "ds.zarr", chunks=None, consolidated=False)
    source = as_source(ds.x, ds.y)
    assert source.x.memory is None
    assert source.bounds == (*range(0, N, 10), N)
    assert_same_sums(source, x, y, None)
    prediction = dask_gd.fit(source).predict(ds.x)
    assert prediction.chunks == (tuple(np.diff(source.bounds)),)
    assert not ds.x.variable._in_memory


def test_features_are_named_by_the_columns_of_whatever_has_them():
    class Frame:
        """Neither pandas nor polars, but like both."""

        columns = ("a", "b", "c")
        shape = (N, P)

        def __array__(self, dtype=None, copy=None):
            return rows()[0]

    x, y, _ = rows()
    source = as_source(Frame(), y)
    assert source.feature_names == ("a", "b", "c")
    assert_same_sums(source, x, y, None)


# Security


def test_an_array_of_pickles_is_refused_and_never_loaded(tmp_path):
    path = group(tmp_path, zarr_format=2)
    (path / "x" / ".zarray").write_text(
        '{"zarr_format": 2, "shape": [61, 3], "chunks": [10, 3], "dtype": "|O", "fill_value": null, "order": "C", '
        '"compressor": null, "filters": [{"id": "pickle"}]}'
    )
    with pytest.raises((TypeError, ValueError)):
        open_all(path)


def test_corruption_that_cannot_be_detected_is_noted_once_for_each_array(tmp_path, caplog):
    path = group(tmp_path, compressors=[ZstdCodec()])
    for _ in range(2):
        open_all(path)
    assert len([r for r in caplog.records if "no checksums" in r.message]) == 3
    caplog.clear()
    open_all(group(tmp_path / "checked"))
    assert not caplog.records
