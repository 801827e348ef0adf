"""Features in column blocks: what is opened is what was written, or refused by name."""

import os
import re
import resource
import signal
import time
from itertools import pairwise
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp
import zarr
from helpers import forked, to_zarr, until
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import dump_svmlight_file
from sklearn.feature_extraction.text import HashingVectorizer

import dask_gd
from dask_gd import L2
from dask_gd.errors import CorruptChunkError, DataError, InvalidArgumentError, InvalidTypeError, MissingChunkError
from dask_gd.results import column_edges, column_parts, dense_columns, row_partitions, text_files
from dask_gd.sources import sparse_layout

N, P = 1500, 60
OPTIONS = {"loss": "logistic", "penalty": L2(0.01), "tol": 1e-9}


def problem(n=N, p=P, seed=0):
    rng = np.random.default_rng(seed)
    x = sp.random_array((n, p), density=0.1, rng=rng, format="csr", data_sampler=rng.normal)
    x.sum_duplicates()
    y = (x @ rng.normal(size=p) + rng.logistic(size=n) > 0).astype(float)
    return x, y


def files(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in Path(path).rglob("*") if file.is_file()}


def stored(path, name="X"):
    """Return the matrix in a store, of what its blocks have by themselves."""
    group = zarr.open_group(path, mode="r")[name]
    n, p = group.attrs["shape"]
    edges = group.attrs["edges"]
    assert edges[0] == 0
    assert edges[-1] == p
    blocks = []
    for number, (start, stop) in enumerate(pairwise(edges)):
        block = group[str(number)]
        assert block.attrs["shape"] == [n, stop - start]
        data, indices, indptr = (block[part][:] for part in ("data", "indices", "indptr"))
        blocks.append(sp.csr_array((data, indices, indptr), shape=(n, stop - start)))
    return sp.csr_array(sp.hstack(blocks, format="csr"))


def same_matrix(a, b):
    """Check that two matrices are the same to the last entry, those of 0 too."""
    a, b = sp.csr_array(a), sp.csr_array(b)
    assert a.shape == b.shape
    for name in ("indptr", "indices", "data"):
        assert_array_equal(getattr(a, name), getattr(b, name))


def in_dask(x, chunk):
    """Return rows as a Dask array of sparse blocks."""
    starts = range(0, x.shape[0], chunk)
    meta = sp.csr_array((0, x.shape[1]))
    blocks = [
        da.from_delayed(dask.delayed(x[i : i + chunk], traverse=False), x[i : i + chunk].shape, x.dtype, meta=meta)
        for i in starts
    ]
    return da.concatenate(blocks)


@pytest.fixture
def small(monkeypatch):
    """Have so few entries in a partition that a test has many."""
    monkeypatch.setattr(row_partitions, "ENTRIES", 1000)
    monkeypatch.setattr(row_partitions, "AT_ONCE", 3)
    monkeypatch.setattr(sparse_layout, "window_bytes", lambda features: 3000)
    monkeypatch.setattr(sparse_layout, "PARTITION_BYTES", 20_000)
    monkeypatch.setattr(row_partitions, "window_bytes", lambda features: 3000)


# What is written


def test_every_kind_of_sparse_rows_gives_the_same_bytes(tmp_path, small, monkeypatch):
    x, y = problem(700)
    expected = files(dask_gd.block_columns(x, tmp_path / "memory.zarr", width=25, y=y))
    same_matrix(stored(tmp_path / "memory.zarr"), x)
    rowwise = dask_gd.write_sparse(x, tmp_path / "rows.zarr", y=y)
    kinds = {
        "csc": (sp.csc_array(x), {"y": y}),
        "dask": (in_dask(x, 400), {"y": da.from_array(y, chunks=70)}),
        "source": (dask_gd.open(rowwise, x="X", y="y"), {}),
        "group": (zarr.open_group(rowwise)["X"], {"y": zarr.open_group(rowwise)["y"]}),
        "blocks": (dask_gd.open(tmp_path / "memory.zarr", x="X", y="y"), {}),
    }
    for name, (rows, beside) in kinds.items():
        path = dask_gd.block_columns(rows, tmp_path / f"{name}.out", width=25, **beside)
        assert files(path) == expected, name
    # Text has the targets too.
    dump_svmlight_file(x, y, str(tmp_path / "rows.svm"), zero_based=False)
    monkeypatch.setattr(text_files, "PIECE_BYTES", 9001)
    read = dask_gd.convert_svmlight(tmp_path / "rows.svm", tmp_path / "converted.zarr")
    read = dask_gd.block_columns(dask_gd.open(read, x="X", y="y"), tmp_path / "a.out", width=25)
    assert files(dask_gd.block_columns([tmp_path / "rows.svm"], tmp_path / "b.out", width=25)) == files(read)
    assert len(list(tmp_path.glob(".*"))) == 0


def test_a_fit_of_whole_weights_is_that_of_the_rows(tmp_path, small):
    x, y = problem(1000)
    rng = np.random.default_rng(1)
    beside = {"y": y, "weight": rng.uniform(0.5, 2, 1000), "shift": rng.normal(size=1000)}
    rowwise = dask_gd.write_sparse(x, tmp_path / "rows.zarr", **beside)
    names = {"x": "X", "y": "y", "sample_weight": "weight", "offset": "shift"}
    path = dask_gd.block_columns(dask_gd.open(rowwise, **names), tmp_path / "blocks.zarr", width=17)
    names |= {"sample_weight": "sample_weight", "offset": "offset"}
    for rows in (slice(None), slice(100, 850)):
        blocks = dask_gd.open(path, **names, rows=rows)
        by_rows = dask_gd.open(rowwise, x="X", y="y", sample_weight="weight", offset="shift", rows=rows)
        assert blocks.feature_names is None
        # Partitions and windows do not depend on the blocks.
        assert blocks.bounds == by_rows.bounds
        assert_array_equal(blocks.x.cuts, by_rows.x.cuts)
        assert blocks.partitions > 3
        assert blocks.x.read_rows == by_rows.x.read_rows
        run, expected = dask_gd.fit(blocks, **OPTIONS), dask_gd.fit(by_rows, **OPTIONS)
        assert_allclose(run.parameters, expected.parameters, atol=1e-9)
        assert_allclose(run.predict(blocks), expected.predict(by_rows), atol=1e-9)
        assert_allclose(run.predict(x), expected.predict(x), atol=1e-9)
    # A source of some rows is written as these rows.
    some = dask_gd.block_columns(blocks, tmp_path / "some.zarr")
    same_matrix(stored(some), x[100:850])
    assert_array_equal(zarr.open_group(some)["offset"][:], beside["shift"][100:850])


def test_codes_numbers_and_sparse_rows_become_entries_of_their_features(tmp_path, small):
    x, y = problem(600)
    rng = np.random.default_rng(2)
    distance = rng.normal(size=600)
    distance[5] = 0.0
    codes = {"hour": rng.integers(0, 9, 600), "port": rng.integers(0, 4, 600)}
    dask_gd.write_sparse(x, tmp_path / "t.zarr", name="words", distance=distance, late=y, **codes)
    group = zarr.open_group(tmp_path / "t.zarr", mode="r+")
    for name, values in codes.items():
        group[name].attrs["levels"] = list(range(values.max() + 1))
    ones = [np.eye(values.max() + 1)[values] for values in codes.values()]
    table = np.column_stack([distance, *ones])
    for number, (columns, drop, expected) in enumerate(
        [
            (["distance", "hour", "port"], None, table),
            (["hour"], "first", ones[0][:, 1:]),
            (["distance", "hour", "port", "words"], "auto", np.column_stack([table, x.toarray()])),
        ]
    ):
        source = dask_gd.open(tmp_path / "t.zarr", x=columns, y="late", drop=drop)
        path = dask_gd.block_columns(source, tmp_path / f"{number}.out", width=9)
        same_matrix(stored(path), sp.csr_array(expected))
        run = dask_gd.fit(dask_gd.open(path, x="X", y="y"), **OPTIONS)
        assert_allclose(run.parameters, dask_gd.fit(source, **OPTIONS).parameters, atol=1e-8)


def test_hashed_features_are_written(tmp_path):
    texts = [f"word{i % 7} other{i % 11}" for i in range(300)]
    hasher = HashingVectorizer(n_features=2**18)
    hashed = dask_gd.hash_features(texts, tmp_path / "texts.zarr", hasher, y=np.arange(300.0))
    path = dask_gd.block_columns(dask_gd.open(hashed, x="X", y="y"), tmp_path / "a.out")
    same_matrix(stored(path), hasher.transform(texts))
    # Wide features have blocks to share out, and no names.
    source = dask_gd.open(path, x="X", y="y")
    assert len(source.x.side_by_side) >= 4
    other = dask_gd.block_columns(dask_gd.hash_rows(texts, hasher), tmp_path / "b.out", y=np.arange(300.0))
    assert files(other) == files(path)


def test_columns_beside_take_the_place_of_a_sources_own_or_leave_them_out(tmp_path):
    x, y = problem(200)
    source = dask_gd.open(dask_gd.write_sparse(x, tmp_path / "rows.zarr", y=y), x="X", y="y")
    path = dask_gd.block_columns(source, tmp_path / "a.out", name="words", y=None, two=np.ones((200, 2)))
    assert set(zarr.open_group(path).keys()) == {"words", "two"}
    path = dask_gd.block_columns(source, path, overwrite=True, y=-y)
    assert_array_equal(zarr.open_group(path)["y"][:], -y)


@pytest.mark.parametrize("chunks", [(700, 50), (97, 13)])
def test_dense_rows_are_chunked_by_columns(tmp_path, monkeypatch, chunks):
    monkeypatch.setattr(dense_columns, "CHUNK_BYTES", 4 * 25 * 200)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 50)).astype(np.float32)
    group = zarr.open_group(tmp_path / "d.zarr", mode="w")
    names = [f"f{i}" for i in range(50)]
    array = group.create_array("X", shape=x.shape, chunks=chunks, dtype="f4", attributes={"feature_names": names})
    array[:] = x
    to_zarr(x[:, 0], 300, tmp_path / "d.zarr" / "y")
    source = dask_gd.open(tmp_path / "d.zarr", x="X", y="y", rows=slice(100, N))
    path = dask_gd.block_columns(source, tmp_path / "a.out")
    written = zarr.open_group(path)["X"]
    assert written.chunks == (200, 25)
    assert_array_equal(written[:], x[100:])
    assert_array_equal(zarr.open_group(path)["y"][:], x[100:, 0])
    blocks = dask_gd.open(path, x="X", y="y")
    assert blocks.feature_names == tuple(names)
    assert_allclose(
        dask_gd.fit(blocks, penalty=L2(0.1)).parameters,
        dask_gd.fit(source, penalty=L2(0.1)).parameters,
        atol=1e-5,
    )
    assert zarr.open_group(dask_gd.block_columns(array, tmp_path / "b.out", width=7))["X"].chunks[1] == 7


# Where blocks begin


def skewed(features, entries, seed=0):
    """Return the entries of columns of which the first have most, and counts of these in bins."""
    rng = np.random.default_rng(seed)
    columns = np.minimum(rng.zipf(1.3, entries) - 1, features - 1)
    shift = column_edges.shift_of(features)
    counts = np.zeros(-(-features >> shift), np.int64)
    some = column_edges.count_columns(columns, shift)
    counts[: len(some)] = some
    return columns, shift, counts


@pytest.mark.parametrize(("features", "width"), [(1000, 300), (70_001, 9000), (2**18, 2**21), (2**24, 2**21), (5, 1)])
def test_blocks_tile_the_features_and_are_even(features, width):
    rng = np.random.default_rng(0)
    shift = column_edges.shift_of(features)
    even = rng.poisson(40, -(-features >> shift))
    columns, _, counts = skewed(features, 10**5)
    for bins in (even, counts, np.zeros_like(counts)):
        edges = column_edges.choose_edges(bins, shift, features, width)
        assert (edges[0], edges[-1]) == (0, features)
        widths = np.diff(edges)
        assert widths.min() > 0
        assert widths.max() <= width
        fewest = max(-(-features // width), 4 if features >= 2**18 else 1)
        assert fewest <= len(widths) <= 2 * fewest + 1
    if features == 2**24:
        assert column_edges.choose_edges(even, shift, features, width) == list(range(0, features + 1, width))
        assert len(counts) == 2**16
    # No block has much more than its part, or than the heaviest bin.
    edges = column_edges.choose_edges(counts, shift, features, width)
    entries = np.histogram(columns, edges)[0]
    if features < 2**24 and width > 1:
        assert entries.max() <= max(1.3 * len(columns) / (len(edges) - 1), 1.01 * counts.max())


def test_counts_add_up_in_wider_bins():
    rng = np.random.default_rng(0)
    columns = rng.integers(0, 2**18, 5000)
    total = np.zeros(2**14, np.int64)
    for shift, some in ((1, columns[:2000] // 8), (4, columns[2000:])):
        column_edges.add_counts(total, 4, column_edges.count_columns(some, shift), shift)
    expected = np.bincount(np.concatenate([columns[:2000] // 8, columns[2000:]]) >> 4, minlength=2**14)
    assert_array_equal(total, expected)


# Workers, and writers that are killed


def test_workers_change_no_byte(two, tmp_path, small):
    x, y = problem(700)
    lazy = in_dask(x, 333)
    rowwise = dask_gd.open(dask_gd.write_sparse(x, tmp_path / "rows.zarr", y=y), x="X", y="y")
    dense = to_zarr(x.toarray(), 400, tmp_path / "dense.zarr")
    sources = {"lazy": (lazy, {"y": y}), "memory": (x, {"y": y}), "rows": (rowwise, {}), "dense": (dense, {"y": y})}
    for name, (rows, beside) in sources.items():
        path = dask_gd.block_columns(rows, tmp_path / f"{name}.two", width=25, **beside)
        with dask.config.set(scheduler="sync"):
            alone = dask_gd.block_columns(rows, tmp_path / f"{name}.one", width=25, **beside)
        assert files(path) == files(alone), name


def test_a_block_is_written_anew_by_another_worker_where_one_has_died(tmp_path, monkeypatch):
    x, _ = problem()
    expected = files(dask_gd.block_columns(x, tmp_path / "a.zarr", width=25))
    write = column_parts.write_column_block

    def twice(parts, block, *arguments):
        with pytest.raises(DataError, match="rows were written of 7"):
            write(parts, block, *arguments[:2], 7, np.dtype(float))
        write(parts, block, *arguments)

    monkeypatch.setattr(column_parts, "write_column_block", twice)
    assert files(dask_gd.block_columns(x, tmp_path / "b.zarr", width=25)) == expected


def waiting(block, gate, number):
    """Return a block of rows; one of them for as long as the gate is there, once it has been counted."""
    counted = Path(f"{gate}.counted")
    if number == 4:
        while counted.exists() and os.path.exists(gate):
            time.sleep(0.01)
        counted.touch()
    return block


def gated(directory):
    x, y = problem()
    blocks = []
    for number, start in enumerate(range(0, N, 200)):
        part = x[start : start + 200]
        block = dask.delayed(waiting)(dask.delayed(part, traverse=False), str(directory / "gate"), number)
        blocks.append(da.from_delayed(block, part.shape, x.dtype, meta=sp.csr_array((0, P))))
    return da.concatenate(blocks), y


def write_until_killed(directory, where):
    def kill(*_, **__):
        os.kill(os.getpid(), signal.SIGKILL)

    rows, y = gated(directory)
    if where == "assembly":
        column_parts.write_column_block = kill
    if where == "dense":
        rows = zarr.open_array(directory / "dense.zarr", mode="r")
        write_band = dense_columns.write_band
        dense_columns.CHUNK_BYTES = 20 * 8 * 100
        dense_columns.write_band = lambda column, array, start, first: (
            kill() if first == 700 else write_band(column, array, start, first)
        )
    scheduler = {"scheduler": "sync"} if where == "dense" else {"scheduler": "threads", "num_workers": 2}
    with dask.config.set(scheduler):
        dask_gd.block_columns(rows, directory / "a.zarr", width=25, y=y)


@pytest.mark.parametrize("where", ["parts", "assembly", "dense"])
def test_a_writer_that_was_killed_goes_on_to_the_same_bytes(request, tmp_path, caplog, monkeypatch, where):
    parts = tmp_path / ".a.zarr.parts"
    x, _ = problem()
    dense = to_zarr(x.toarray(), 400, tmp_path / "dense.zarr")
    if where == "parts":
        (tmp_path / "gate").touch()
    process = forked(write_until_killed, tmp_path, where)
    request.addfinalizer(process.kill)
    if where == "parts":
        until(lambda: len(list(parts.glob("*.npz"))) == 7)
        process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "a.zarr").exists()
    (tmp_path / "gate").unlink(missing_ok=True)

    rows, y = gated(tmp_path)
    expected = "6 of 8 parts"
    if where == "assembly":
        expected = "7 of 8 parts"
    if where == "dense":
        monkeypatch.setattr(dense_columns, "CHUNK_BYTES", 20 * 8 * 100)
        rows = dense
        expected = r"\d+ of 15 bands"
    else:
        # A part that is damaged is made again.
        there = sorted(parts.glob("*.npz"))
        damaged = bytearray(there[1].read_bytes())
        damaged[len(damaged) // 2] ^= 1
        there[1].write_bytes(damaged)
    with caplog.at_level("INFO", "dask_gd"):
        path = dask_gd.block_columns(rows, tmp_path / "a.zarr", width=25, y=y)
    assert re.search(f"went on: {expected}", caplog.text)
    assert not parts.exists()
    other = dask_gd.block_columns(rows, tmp_path / "b.zarr", width=25, y=y)
    assert files(path) == files(other)
    assert not list(tmp_path.glob(".*"))


def test_a_writer_goes_on_with_the_same_arguments_only(tmp_path, monkeypatch):
    x, _ = problem()

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("dask_gd.results.block_columns.write_column_blocks", interrupt)
        with pytest.raises(KeyboardInterrupt):
            dask_gd.block_columns(x, tmp_path / "a.zarr", width=25)
    with pytest.raises(InvalidArgumentError, match=r"block_columns: .* with edges.*resume=False"):
        dask_gd.block_columns(x, tmp_path / "a.zarr", width=30)
    path = dask_gd.block_columns(x, tmp_path / "a.zarr", width=30, resume=False)
    same_matrix(stored(path), x)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.zarr"]


def test_rows_that_are_random_are_refused(tmp_path):
    def random_block(block):
        return sp.csr_array(np.random.default_rng().normal(size=block.shape))

    rows = da.zeros((30, 4), chunks=10).map_blocks(random_block, meta=sp.csr_array((0, 4)), dtype=float)
    with pytest.raises(DataError, match=r"not those that were counted.*write_sparse"):
        dask_gd.block_columns(rows, tmp_path / "a.zarr")


def write_and_measure(directory):
    """Write rows that are large beside what a task has, and note by how many MB memory grew at most."""
    row_partitions.ENTRIES = 1 << 17
    source = dask_gd.open(directory / "rows.zarr", x="X")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with dask.config.set(scheduler="sync"):
        dask_gd.block_columns(source, directory / "a.zarr")
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (directory / "grown").write_text(str((after - before) / 1024))


def test_memory_does_not_grow_with_the_rows_or_the_columns(tmp_path):
    """Write 60 MB of entries in 2^24 columns; a count for each column alone would take 128 MB."""
    rng = np.random.default_rng(0)
    n, row, p = 100_000, 50, 2**24
    step = p // row
    columns = rng.integers(0, step, (n, row), dtype=np.int32) + np.arange(0, p - step, step, dtype=np.int32)
    x = sp.csr_array((np.ones(n * row), columns.ravel(), np.arange(0, n * row + 1, row)), shape=(n, p))
    dask_gd.write_sparse(x, tmp_path / "rows.zarr")
    process = forked(write_and_measure, tmp_path)
    process.join()
    assert process.exitcode == 0
    assert float((tmp_path / "grown").read_text()) < 80
    group = zarr.open_group(tmp_path / "a.zarr")["X"]
    assert group.attrs["edges"] == list(range(0, p + 1, 2**21))
    assert group["0/indptr"][1000] == (columns[:1000] < 2**21).sum()


# What is refused


@pytest.fixture
def written(tmp_path):
    x, y = problem()
    return dask_gd.block_columns(x, tmp_path / "a.zarr", width=25, y=y)


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([0, 20, 30, 60], "block 'X/1' has 20 columns, and its edges 20 and 30 are 10 apart"),
        ([0, 30, 20, 60], r"edges\[2\] = 20 is not above edges\[1\] = 30.*block 1 overlaps"),
        ([5, 20, 40, 60], "edges begin with 5"),
        ([0, 20, 40, 50], "edges end with 50, and its shape has 60 features"),
        ([0, 20.5, 60], "no list of whole numbers"),
        (None, "no list of whole numbers"),
        ("all", "no list of whole numbers"),
    ],
)
def test_edges_that_do_not_tile_the_features_are_refused(written, edges, message):
    group = zarr.open_group(written, mode="r+")["X"]
    assert group.attrs["edges"] == [0, 20, 40, 60]
    group.attrs["edges"] = edges
    with pytest.raises(DataError, match=message):
        dask_gd.open(written, x="X", y="y")


def test_blocks_that_do_not_belong_together_are_refused_by_name(written):
    x, y = problem()
    group = zarr.open_group(written, mode="r+")
    edges = group["X"].attrs["edges"]
    # Another number of rows, and of columns.
    other = zarr.open_group(dask_gd.write_sparse(x[:700, : edges[1]], f"{written}.other"))
    for array in ("data", "indices", "indptr"):
        del group[f"X/0/{array}"]
        group["X/0"].create_array(array, data=other[f"X/{array}"][:])
    group["X/0"].attrs["shape"] = [700, edges[1]]
    with pytest.raises(DataError, match="Column block 'X/0' has 700 rows, and 'X' has 1500"):
        dask_gd.open(written, x="X")
    group["X/0"].attrs["encoding-type"] = "csc_matrix"
    with pytest.raises(DataError, match="Column block 'X/0' is no group of sparse rows"):
        dask_gd.open(written, x="X")
    del group["X/0"]
    with pytest.raises(DataError, match=r"Column block 'X/0', of the features 0 to .*, is not there"):
        dask_gd.open(written, x="X")
    path = dask_gd.block_columns(x, f"{written}.new", width=25, y=y)
    group = zarr.open_group(path, mode="r+")["X"]
    group.attrs["shape"] = [N, edges[2]]
    group.attrs["edges"] = edges[:3]
    with pytest.raises(DataError, match="edges of 2 column blocks, and a block 'X/2' after these"):
        dask_gd.open(path, x="X")
    group.attrs["encoding-version"] = "0.9"
    with pytest.raises(DataError, match=r"encoding-version '0\.9'"):
        dask_gd.open(path, x="X")


def test_chunks_that_are_not_there_or_damaged_are_named_with_their_block(written):
    chunk = Path(written) / "X" / "1" / "data" / "c" / "0"
    whole = bytearray(chunk.read_bytes())
    source = dask_gd.open(written, x="X", y="y")
    whole[10] ^= 1
    chunk.write_bytes(whole)
    with pytest.raises(CorruptChunkError, match="'X/1/data'"):
        dask_gd.fit(source, **OPTIONS)
    chunk.unlink()
    with pytest.raises(MissingChunkError, match="'X/1/data'"):
        dask_gd.open(written, x="X", y="y")
    with pytest.raises(MissingChunkError, match="'X/1/data'"):
        dask_gd.fit(source, **OPTIONS)


def test_columns_out_of_range_and_values_that_are_not_finite_are_named_with_their_block(written):
    group = zarr.open_group(written, mode="r+")
    edges = group["X"].attrs["edges"]
    width = edges[2] - edges[1]
    column = int(group["X/1/indices"][0])
    group["X/1/data"][0] = np.nan
    source = dask_gd.open(written, x="X", y="y")
    with pytest.raises(DataError, match=rf"'X/1', column {column} of the block \(the feature {edges[1] + column}\)"):
        dask_gd.fit(source, **OPTIONS)
    group["X/1/indices"][0] = width
    with pytest.raises(DataError, match=f"'X/1': row .* has a value in column {width}; columns are 0 to {width - 1}"):
        dask_gd.fit(source, **OPTIONS)
    group["X/2/indptr"][7] = 10**6
    with pytest.raises(DataError, match="'X/2': indptr descends at row 7"):
        dask_gd.open(written, x="X", y="y")


def test_what_cannot_be_written_is_refused_before_anything_is_read(tmp_path):
    x, y = problem(50)
    dense = to_zarr(x.toarray(), 20, tmp_path / "dense.zarr")
    rows = dask_gd.write_sparse(x, tmp_path / "rows.zarr", y=y)
    source = dask_gd.open(rows, x="X", y="y")
    place = tmp_path / "a.zarr"
    with pytest.raises(InvalidArgumentError, match="width=0"):
        dask_gd.block_columns(x, place, width=0)
    with pytest.raises(InvalidArgumentError, match=r"width=10.*more than 4,096 blocks; give 245 or more"):
        dask_gd.block_columns(sp.csr_array((3, 10**6)), place, width=10)
    with pytest.raises(InvalidArgumentError, match="y has the shape"):
        dask_gd.block_columns(x, place, y=np.ones(3))
    with pytest.raises(InvalidArgumentError, match=r"name='y'"):
        dask_gd.block_columns(source, place, name="y")
    with pytest.raises(InvalidArgumentError, match="exists; overwrite=True replaces it"):
        dask_gd.block_columns(source, rows)
    for data in (source, dense):
        with pytest.raises(InvalidArgumentError, match="written is read from"):
            dask_gd.block_columns(data, rows if data is source else tmp_path / "dense.zarr", overwrite=True)
    with pytest.raises(InvalidArgumentError, match="copy the store to the URL"):
        dask_gd.block_columns(x, "memory://a.zarr")
    with pytest.raises(InvalidTypeError, match="a ndarray; give sparse rows"):
        dask_gd.block_columns(x.toarray(), place)
    with pytest.raises(InvalidArgumentError, match=r"dask_gd.open\(path, x=..., y=...\)"):
        dask_gd.block_columns(rows, place)
    with pytest.raises(InvalidArgumentError, match="there is nothing to write"):
        dask_gd.block_columns(sp.csr_array((0, 4)), place)
    unsorted = sp.csr_array((np.ones(2), [1, 0], [0, 2]), shape=(1, 2))
    with pytest.raises(DataError, match="columns must ascend"):
        dask_gd.block_columns(unsorted, place)
    (tmp_path / "bad.svm").write_text("1 2:a\n")
    with pytest.raises(DataError, match=r"bad\.svm"):
        dask_gd.block_columns(tmp_path / "bad.svm", place)
    group = zarr.open_group(dask_gd.block_columns(x, tmp_path / "b.zarr"), mode="r+")
    group.create_array("other", data=y)
    with pytest.raises(InvalidArgumentError, match="'X' has its features in column blocks, which are not read beside"):
        dask_gd.open(tmp_path / "b.zarr", x=["X", "other"])
    assert not place.exists()
    assert not list(tmp_path.glob(".*"))
