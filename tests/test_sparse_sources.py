"""Sparse rows in Zarr, in Dask's blocks and in svmlight files: what is read is what was written, or refused by name."""

from itertools import pairwise
from pathlib import Path

import dask
import dask.array as da
import fsspec
import numpy as np
import pytest
import scipy.sparse as sp
import zarr
from helpers import same_bits
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import dump_svmlight_file

import dask_gd
from dask_gd import L2
from dask_gd.errors import CorruptChunkError, DataError, InvalidArgumentError, InvalidTypeError, MissingChunkError
from dask_gd.estimators import LogisticRegression, SGDClassifier
from dask_gd.results import sparse_store, text_files
from dask_gd.sources import sparse_layout, zarr_column

N, P = 3000, 40
OPTIONS = {"loss": "logistic", "penalty": L2(0.01), "tol": 1e-9}


def problem(n=N, p=P, seed=0):
    rng = np.random.default_rng(seed)
    x = sp.random_array((n, p), density=0.1, rng=rng, format="csr", data_sampler=rng.normal)
    x.sum_duplicates()
    y = (x @ rng.normal(size=p) + rng.logistic(size=n) > 0).astype(float)
    return x, y


def as_group(path, x, y, chunks=(500, 700, 300), **changes):
    """Write the layout of anndata by hand, in chunks of any size, with some of its parts changed."""
    group = zarr.open_group(path, mode="w")
    attributes = {"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": list(x.shape)}
    rows = group.create_group("X", attributes=attributes | changes.pop("attributes", {}))
    for name, chunk in zip(("data", "indices", "indptr"), chunks, strict=True):
        values = changes.get(name, getattr(x, name))
        array = rows.create_array(
            name,
            shape=values.shape,
            dtype=values.dtype,
            chunks=(chunk,),
            compressors=[zarr.codecs.ZstdCodec(), zarr.codecs.Crc32cCodec()],
            config={"write_empty_chunks": True},
        )
        array[...] = values
    group.create_array("y", data=y, chunks=(311,), compressors=[zarr.codecs.Crc32cCodec()])
    return group


@pytest.fixture
def small(monkeypatch):
    """Have windows and partitions so small that a test has many."""
    monkeypatch.setattr(sparse_layout, "window_bytes", lambda features: 3000)
    monkeypatch.setattr(sparse_layout, "PARTITION_BYTES", 20_000)
    monkeypatch.setattr(zarr_column, "READ_BYTES", 4000)


# What is read


@pytest.mark.parametrize("chunks", [(500, 700, 300), (999, 130, 101), (10**6, 10**6, 10**6)])
def test_a_group_is_fitted_as_the_rows_in_memory_are_to_the_same_bits(tmp_path, small, chunks):
    x, y = problem()
    as_group(tmp_path / "g.zarr", x, y, chunks)
    source = dask_gd.open(tmp_path / "g.zarr", x="X", y="y")
    assert source.partitions > 5
    assert len(list(source.x.for_tasks().bind(None, 0, 0).windows(*source.bounds[:2]))) > 2
    run = dask_gd.fit(source, **OPTIONS)
    same_bits(run, dask_gd.fit(x, y, **OPTIONS))
    assert_allclose(run.parameters, dask_gd.fit(x.toarray(), y, **OPTIONS).parameters, atol=1e-7)
    predicted = run.predict(source)
    assert isinstance(predicted, da.Array)
    assert_allclose(predicted.compute(), run.predict(x), rtol=1e-12)
    assert_array_equal(run.predict(zarr.open_group(tmp_path / "g.zarr")["X"]).compute(), predicted.compute())


def test_bytes_of_the_other_order_are_the_same_numbers(tmp_path):
    """Zarr of format 2 may have them."""
    x, y = problem()
    group = zarr.open_group(tmp_path / "g.zarr", mode="w", zarr_format=2)
    rows = group.create_group("X", attributes={"encoding-type": "csr_matrix", "shape": list(x.shape)})
    for name, dtype in (("data", ">f8"), ("indices", ">i4"), ("indptr", ">i8")):
        rows.create_array(name, data=getattr(x, name).astype(dtype), chunks=(1000,))
    group.create_array("y", data=y.astype(">f8"), chunks=(1000,), config={"write_empty_chunks": True})
    run = dask_gd.fit(dask_gd.open(tmp_path / "g.zarr", x="X", y="y"), **OPTIONS)
    same_bits(run, dask_gd.fit(x, y, **OPTIONS))


def test_bits_do_not_depend_on_workers(two, tmp_path, small):
    x, y = problem()
    as_group(tmp_path / "g.zarr", x, y)
    source = dask_gd.open(tmp_path / "g.zarr", x="X", y="y")
    on_cluster = dask_gd.fit(source, **OPTIONS)
    with dask.config.set(scheduler="synchronous"):
        same_bits(on_cluster, dask_gd.fit(source, **OPTIONS))


def test_a_chunk_is_decoded_once_in_a_partition(tmp_path, small, monkeypatch):
    x, y = problem()
    as_group(tmp_path / "g.zarr", x, y, (100, 100, 50))
    source = dask_gd.open(tmp_path / "g.zarr", x="X", y="y")
    read = []
    original = type(source.x.indptr).read

    def counted(self, start, stop, out=None):
        if self.role == "x data":
            read.append((start, stop))
        return original(self, start, stop, out)

    monkeypatch.setattr(type(source.x.indptr), "read", counted)
    rows = source.x.bind(None, 0, 0)
    start, stop = source.bounds[:2]
    for window in rows.windows(start, stop):
        rows.read(*window)
    # Each value was read once, in spans that follow one another.
    assert len(read) > 1
    assert all(before[1] == after[0] for before, after in pairwise(read))


def test_some_rows_of_a_group_are_those_rows(tmp_path, small):
    x, y = problem()
    as_group(tmp_path / "g.zarr", x, y)
    part = dask_gd.open(tmp_path / "g.zarr", x="X", y="y", rows=slice(700, 2100))
    run = dask_gd.fit(part, **OPTIONS)
    assert_allclose(run.parameters, dask_gd.fit(x[700:2100], y[700:2100], **OPTIONS).parameters, atol=1e-7)
    assert_allclose(run.predict(part).compute(), run.predict(x[700:2100]), rtol=1e-12)


def test_rows_of_very_different_lengths_are_cut_by_their_bytes(tmp_path, small):
    x, y = problem()
    dense = x.toarray()
    dense[:100] = np.random.default_rng(1).normal(size=(100, P))
    as_group(tmp_path / "g.zarr", sp.csr_array(dense), y)
    source = dask_gd.open(tmp_path / "g.zarr", x="X", y="y")
    first, *_, last = np.diff(source.bounds)
    assert last > 5 * first
    assert "MB read" in str(source.plan())


def test_names_of_features_are_those_of_the_group(tmp_path):
    x, y = problem()
    names = [f"word {i}" for i in range(P)]
    as_group(tmp_path / "g.zarr", x, y, attributes={"feature_names": names})
    run = dask_gd.fit(dask_gd.open(tmp_path / "g.zarr", x="X", y="y"), **OPTIONS)
    assert run.weights.coords["feature"].values.tolist() == names


def test_a_search_and_inference_read_a_group(tmp_path, small):
    x, y = problem()
    as_group(tmp_path / "g.zarr", x, y)
    source = dask_gd.open(tmp_path / "g.zarr", x="X", y="y")
    options = {"loss": "logistic", "alphas": [0.1, 0.01], "folds": dask_gd.Folds(3)}
    ours = dask_gd.search(source, **options).data
    theirs = dask_gd.search(x.toarray(), y, **options).data
    assert_allclose(ours.score, theirs.score, atol=1e-5)
    run = dask_gd.fit(source, loss="logistic", tol=1e-10)
    ours = dask_gd.infer(run, source)
    theirs = dask_gd.infer(run, x.toarray(), y)
    assert_allclose(ours.table.standard_error, theirs.table.standard_error, rtol=1e-6)


# Dask's blocks


@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csr_array, sp.csc_array])
@pytest.mark.parametrize("columns", [P, 17])
def test_blocks_stay_sparse_and_are_fitted(form, columns):
    x, y = problem()
    blocks = da.from_array(x.toarray(), chunks=(290, columns)).map_blocks(form, dtype=float)
    run = dask_gd.fit(blocks, da.from_array(y, chunks=400), **OPTIONS)
    assert_allclose(run.parameters, dask_gd.fit(x, y, **OPTIONS).parameters, atol=1e-7)
    predicted = run.predict(blocks)
    assert isinstance(predicted, da.Array)
    assert_allclose(predicted.compute(), run.predict(x), rtol=1e-12)


def test_small_blocks_are_put_together_and_unknown_sizes_are_computed():
    x, y = problem()
    blocks = da.from_array(x.toarray(), chunks=(60, P)).map_blocks(sp.csr_matrix, dtype=float)
    run = dask_gd.fit(blocks, y, **OPTIONS)
    assert_allclose(run.parameters, dask_gd.fit(x, y, **OPTIONS).parameters, atol=1e-7)
    unknown = blocks[:]
    unknown._chunks = ((np.nan,) * len(blocks.chunks[0]), blocks.chunks[1])
    same_bits(run, dask_gd.fit(unknown, y, **OPTIONS))


def lying(x, change):
    """Return sparse blocks, the second of which is not what is declared."""
    blocks = da.from_array(x.toarray(), chunks=(1000, P))
    meta = sp.csr_array((0, P))

    def block(values, block_id=None):
        made = sp.csr_array(values)
        return change(made) if block_id[0] == 1 else made

    return blocks.map_blocks(block, dtype=float, meta=meta)


def unsorted(block):
    block.indices[:2] = block.indices[1], block.indices[0]
    return block


def test_blocks_that_are_declared_to_have_no_features_are_refused(tmp_path):
    """What `map_blocks` makes of texts has one axis, unless it is told of another."""
    x, y = problem()
    texts = da.from_array(np.arange(N), chunks=1000)
    blocks = texts.map_blocks(lambda rows: x[rows], dtype=float, meta=sp.csr_array((0, P)))
    for refused in (lambda: dask_gd.fit(blocks, y), lambda: dask_gd.write_sparse(blocks, tmp_path / "g.zarr")):
        with pytest.raises(InvalidTypeError, match=r"the shape \(3000,\); rows and features are 2-D.*new_axis=1"):
            refused()
    chunks = (texts.chunks[0], (P,))
    told = texts.map_blocks(lambda rows: x[rows], new_axis=1, chunks=chunks, dtype=float, meta=sp.csr_array((0, P)))
    assert_allclose(dask_gd.fit(told, y, **OPTIONS).parameters, dask_gd.fit(x, y, **OPTIONS).parameters, atol=1e-7)


LIES = {
    "dense": (lambda block: block.toarray(), r"is a numpy ndarray; declared is a sparse matrix"),
    "more rows": (lambda block: sp.vstack([block, block[:2]]), r"found shape \(1002, 40\)"),
    "narrow": (lambda block: block[:, :9], r"found shape \(1000, 9\)"),
    "complex": (lambda block: block.astype(complex), "of complex128"),
    "unsorted": (unsorted, r"row 1000 has column \d+ after column"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_block_that_is_not_what_was_declared_is_refused(lie):
    x, y = problem()
    change, message = LIES[lie]
    with pytest.raises(DataError, match=rf"block \(1, 0\) of 'x' \(declared as rows 1000-1999\).*{message}"):
        dask_gd.fit(lying(x, change), y, **OPTIONS)


# What is refused of groups


def changed(values, position, value):
    values = values.copy()
    values[position] = value
    return values


def test_groups_that_do_not_belong_together_are_refused_before_a_task(tmp_path):
    x, y = problem()
    entries = x.nnz
    cases = {
        "shape": ({"attributes": {"shape": [N]}}, DataError, r"'X' has the attribute shape=\[3000\]"),
        "rows": ({"attributes": {"shape": [N + 1, P]}}, DataError, r"shape 3001 x 40, .*3001 positions of rows"),
        "values": ({"data": x.data[:-1]}, DataError, rf"{entries - 1} values, {entries} columns"),
        "end": ({"indptr": changed(x.indptr, N, entries + 5)}, DataError, rf"to {entries + 5} after row 2999; it must"),
        "begin": ({"indptr": changed(x.indptr, 0, 2)}, DataError, r"from 2 at row 0"),
        "order": ({"indptr": changed(x.indptr, 1500, 0)}, DataError, r"'X': indptr descends at row 1499"),
        "floats": ({"indices": x.indices.astype(float)}, DataError, r"'X/indices' has dtype float64"),
        "text": ({"data": x.data.astype(complex)}, InvalidTypeError, r"'X' has values of complex128"),
    }
    for case, (changes, error, message) in cases.items():
        as_group(tmp_path / f"{case}.zarr", x, y, **changes)
        with pytest.raises(error, match=message):
            dask_gd.open(tmp_path / f"{case}.zarr", x="X", y="y")


def test_entries_that_are_out_of_order_are_refused_with_row_and_column(tmp_path, small):
    x, y = problem()
    row = int(np.argmax(np.diff(x.indptr)))
    first = int(x.indptr[row])
    cases = {
        "far": (changed(x.indices, first, 40), rf"'X': row {row} has a value in column 40; columns are 0 to 39"),
        "negative": (changed(x.indices, first, -3), rf"'X': row {row} has a value in column -3"),
        "twice": (changed(x.indices, first + 1, x.indices[first]), rf"'X': row {row} has column \d+ more than once"),
    }
    for case, (indices, message) in cases.items():
        as_group(tmp_path / f"{case}.zarr", x, y, indices=indices)
        with pytest.raises(DataError, match=message):
            dask_gd.fit(dask_gd.open(tmp_path / f"{case}.zarr", x="X", y="y"), **OPTIONS)
    as_group(tmp_path / "nan.zarr", x, y, data=changed(x.data, first, np.nan))
    with pytest.raises(DataError, match=rf"nan in row {row}, column {x.indices[first]} of 'X'"):
        dask_gd.fit(dask_gd.open(tmp_path / "nan.zarr", x="X", y="y"), **OPTIONS)


@pytest.mark.parametrize("name", ["data", "indices", "indptr"])
def test_an_absent_chunk_is_refused_and_a_damaged_one(tmp_path, name):
    x, y = problem()
    as_group(tmp_path / "g.zarr", x, y)
    source = dask_gd.open(tmp_path / "g.zarr", x="X", y="y")
    file = tmp_path / "g.zarr" / "X" / name / "c" / "3"
    stored = file.read_bytes()
    file.write_bytes(stored[:-9] + b"x" + stored[-8:])
    with pytest.raises(CorruptChunkError, match=f"'X/{name}', chunk \\(3,\\)"):
        dask_gd.fit(source, **OPTIONS)
    file.unlink()
    with pytest.raises(MissingChunkError, match=f"'X/{name}' lacks chunk \\(3,\\)"):
        dask_gd.open(tmp_path / "g.zarr", x="X", y="y")
    # What fill values cannot be shows: positions descend, and a row has a column twice.
    if name != "data":
        with pytest.raises(DataError, match=r"(descends at row|more than once|after column)"):
            dask_gd.fit(dask_gd.open(tmp_path / "g.zarr", x="X", y="y", missing="fill"), **OPTIONS)


def test_chunks_of_zeros_that_a_writer_has_left_out_are_filled_where_that_is_asked(tmp_path):
    x, y = problem()
    x = sp.vstack([sp.csr_array((600, P)), x], format="csr")
    y = np.concatenate([np.zeros(600), y])
    as_group(tmp_path / "g.zarr", x, y)
    (tmp_path / "g.zarr" / "X" / "indptr" / "c" / "0").unlink()
    with pytest.raises(MissingChunkError, match="missing='fill'"):
        dask_gd.open(tmp_path / "g.zarr", x="X", y="y")
    filled = dask_gd.fit(dask_gd.open(tmp_path / "g.zarr", x="X", y="y", missing="fill"), **OPTIONS)
    same_bits(filled, dask_gd.fit(x, y, **OPTIONS))


def test_rows_that_are_overwritten_during_a_fit_are_noticed(tmp_path):
    x, y = problem()
    group = as_group(tmp_path / "g.zarr", x, y)

    def overwrite(event):
        group["X/data"][-1] = 7.0

    with pytest.raises(DataError, match=r"Array 'X/data', chunk \(\d+,\).*overwritten while the fit read"):
        dask_gd.fit(dask_gd.open(tmp_path / "g.zarr", x="X", y="y"), callbacks=[overwrite], **OPTIONS)


# What is written


def test_what_is_written_has_the_layout_that_anndata_reads(tmp_path, monkeypatch):
    monkeypatch.setattr(sparse_store, "CHUNK_ENTRIES", 1000)
    monkeypatch.setattr(sparse_store, "CHUNK_ROWS", 700)
    monkeypatch.setattr(sparse_store, "ROWS_AT_ONCE", 450)
    x, y = problem()
    blocks = da.from_array(x.toarray(), chunks=(290, P)).map_blocks(sp.csr_matrix, dtype=float)
    given = {"memory": x, "blocks": blocks, "csc": x.tocsc()}
    for case, rows in given.items():
        path = dask_gd.write_sparse(rows, tmp_path / f"{case}.zarr", y=da.from_array(y, chunks=800), w=y + 1)
        group = zarr.open_group(path, mode="r")
        assert dict(group["X"].attrs) == {
            "encoding-type": "csr_matrix",
            "encoding-version": "0.1.0",
            "shape": [N, P],
        }
        assert sorted(group["X"].array_keys()) == ["data", "indices", "indptr"]
        for name in ("data", "indices", "indptr"):
            array = group["X"][name]
            assert array.attrs["encoding-type"] == "array"
            assert_array_equal(array[:], getattr(x, name))
            assert "crc32c" in repr(array.metadata.codecs).lower()
        assert_array_equal(group["w"][:], y + 1)
        source = dask_gd.open(path, x="X", y="y")
        assert_allclose(dask_gd.fit(source, **OPTIONS).parameters, dask_gd.fit(x, y, **OPTIONS).parameters, atol=1e-9)
    # Values keep their dtype.
    path = dask_gd.write_sparse((10 * x).astype("i2"), tmp_path / "small.zarr", name="counts")
    assert zarr.open_group(path)["counts/data"].dtype == np.int16


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path):
    x, y = problem()
    path = tmp_path / "g.zarr"
    with pytest.raises(DataError, match=r"row 1000 has column"):
        dask_gd.write_sparse(lying(x, unsorted), path)
    assert list(tmp_path.iterdir()) == []
    dask_gd.write_sparse(x, path)
    with pytest.raises(InvalidArgumentError, match="exists; overwrite=True replaces it"):
        dask_gd.write_sparse(x, path)
    with pytest.raises(InvalidArgumentError, match=r"y has the shape \(3,\), and there are 3000 rows"):
        dask_gd.write_sparse(x, path, overwrite=True, y=y[:3])
    with pytest.raises(InvalidTypeError, match=r"a ndarray; give a sparse matrix of scipy"):
        dask_gd.write_sparse(x.toarray(), path)
    source = dask_gd.open(dask_gd.write_sparse(x, path, overwrite=True, y=y), x="X", y="y")
    with pytest.raises(InvalidArgumentError, match=r"read from .*write elsewhere"):
        dask_gd.write_sparse(source.x.lazy_rows(0, N), path, overwrite=True)


@pytest.fixture
def memory():
    """A place in this process's memory."""
    yield "memory://dask_gd-sparse/g.zarr"
    fsspec.filesystem("memory").store.clear()


def test_at_a_url_rows_are_the_same_and_appear_whole_or_not_at_all(tmp_path, memory, monkeypatch):
    monkeypatch.setattr(sparse_store, "CHUNK_ENTRIES", 1000)
    x, y = problem()
    blocks = da.from_array(x.toarray(), chunks=(290, P)).map_blocks(sp.csr_matrix, dtype=float)
    with pytest.raises(DataError, match=r"row 1000 has column"):
        dask_gd.write_sparse(lying(x, unsorted), memory)
    assert not fsspec.filesystem("memory").find(memory)
    assert dask_gd.write_sparse(blocks, memory, y=y) == memory
    local = dask_gd.write_sparse(x, tmp_path / "g.zarr", y=y)
    kept = {path.removeprefix("/dask_gd-sparse/g.zarr/") for path in fsspec.filesystem("memory").find(memory)}
    assert kept == {path.relative_to(local).as_posix() for path in Path(local).rglob("*") if path.is_file()}
    same_bits(*(dask_gd.fit(dask_gd.open(place, x="X", y="y"), **OPTIONS) for place in (memory, local)))
    with pytest.raises(InvalidArgumentError, match=r"write_sparse: there is something at"):
        dask_gd.write_sparse(x, memory)
    with pytest.raises(InvalidArgumentError, match=r"write_sparse.*nothing at a URL is replaced"):
        dask_gd.write_sparse(x, memory, overwrite=True)
    for write in (dask_gd.write_sparse, dask_gd.convert_svmlight):
        with pytest.raises(InvalidArgumentError, match=rf"{write.__name__}.*a Path is no URL"):
            write(x if write is dask_gd.write_sparse else [], Path(memory))
        with pytest.raises(InvalidArgumentError, match=rf"{write.__name__}.*is for URLs"):
            write(x if write is dask_gd.write_sparse else [], tmp_path / "other", storage_options={})


# svmlight


def test_svmlight_files_are_converted_to_a_url(tmp_path, memory):
    x, y = problem(100)
    dump_svmlight_file(x, y, str(tmp_path / "a.svm"), zero_based=False)
    group = zarr.open_group(dask_gd.convert_svmlight(tmp_path / "a.svm", memory, features=P), mode="r")
    assert_array_equal(group["X/indices"][:], x.indices)


@pytest.mark.parametrize("zero_based", [False, True])
def test_svmlight_files_become_the_rows_that_scikit_learn_reads(tmp_path, monkeypatch, zero_based):
    monkeypatch.setattr(text_files, "PIECE_BYTES", 7001)
    x, y = problem()
    for number, part in enumerate((slice(0, 1000), slice(1000, N))):
        dump_svmlight_file(x[part], y[part], str(tmp_path / f"{number}.svm"), zero_based=zero_based, comment="made")
    files = [tmp_path / "0.svm", tmp_path / "1.svm"]
    path = dask_gd.convert_svmlight(files, tmp_path / "g.zarr", zero_based=zero_based)
    group = zarr.open_group(path, mode="r")
    assert group["X"].attrs["shape"] == [N, P]
    assert_array_equal(group["X/indptr"][:], x.indptr)
    assert_array_equal(group["X/indices"][:], x.indices)
    assert_allclose(group["X/data"][:], x.data, rtol=1e-12)
    assert_array_equal(group["y"][:], y)


def test_text_that_is_no_svmlight_is_refused_with_its_file(tmp_path):
    file = tmp_path / "rows.svm"
    cases = {
        "1 2:0.5 1:3\n": "should be sorted",
        "1 0:0.5\n": "Invalid index 0",
        "one 1:2\n": "could not convert",
        "1 5000000000:1\n": "too large",
    }
    for text, message in cases.items():
        file.write_text(text)
        with pytest.raises(DataError, match=rf"rows.svm, in the lines that begin between the bytes 0 and .*{message}"):
            dask_gd.convert_svmlight(file, tmp_path / "g.zarr")
    file.write_text("1 1:1 9:2\n")
    with pytest.raises(DataError, match=r"features=5.*have 9 features, counted from 1"):
        dask_gd.convert_svmlight(file, tmp_path / "g.zarr", features=5)
    file.write_text("# nothing\n")
    with pytest.raises(InvalidArgumentError, match="0 rows"):
        dask_gd.convert_svmlight(file, tmp_path / "g.zarr")
    with pytest.raises(InvalidArgumentError, match="No such file"):
        dask_gd.convert_svmlight(tmp_path / "none.svm", tmp_path / "g.zarr")


# Estimators


def test_estimators_take_sparse_rows_of_all_kinds(tmp_path):
    x, y = problem()
    as_group(tmp_path / "g.zarr", x, y)
    source = dask_gd.open(tmp_path / "g.zarr", x="X", y="y")
    blocks = da.from_array(x.toarray(), chunks=(290, P)).map_blocks(sp.csr_matrix, dtype=float)
    dense = LogisticRegression().fit(x.toarray(), y)
    for given in (
        (x, y),
        (sp.csr_matrix(x), y),
        (source,),
        (blocks, y),
        (zarr.open_group(tmp_path / "g.zarr")["X"], y),
    ):
        model = LogisticRegression().fit(*given)
        assert_allclose(model.coef_, dense.coef_, atol=1e-5)
        assert_array_equal(np.asarray(model.predict(given[0])), dense.predict(x.toarray()))
        assert model.score(*given) == pytest.approx(dense.score(x.toarray(), y))
    assert_array_equal(SGDClassifier(max_iter=3, tol=None).fit(x, y).predict(x).shape, (N,))


# Beside other columns


def test_sparse_rows_stand_beside_numbers_and_codes_in_the_order_of_their_names(tmp_path, small):
    x, y = problem()
    rng = np.random.default_rng(2)
    group = as_group(tmp_path / "g.zarr", x, y)
    distance = rng.normal(size=N) + 5
    hour = rng.integers(0, 4, N).astype("i1")
    codec = [zarr.codecs.Crc32cCodec()]
    group.create_array("distance", data=distance, chunks=(270,), compressors=codec)
    group.create_array("hour", data=hour, chunks=(1100,), compressors=codec, attributes={"levels": list("abcd")})
    source = dask_gd.open(tmp_path / "g.zarr", x=["distance", "X", "hour"], y="y")
    dense = np.hstack([distance[:, None], x.toarray(), np.eye(4)[hour]])
    for options in (OPTIONS, OPTIONS | {"solver": "newton"}, OPTIONS | {"penalty": dask_gd.L1(0.01)}):
        run = dask_gd.fit(source, **options)
        assert_allclose(run.parameters, dask_gd.fit(dense, y, **options).parameters, atol=1e-6)
    names = run.weights.coords["feature"].values.tolist()
    assert names[:2] + names[-2:] == ["distance", "X[0]", "hour=c", "hour=d"]
    assert_allclose(run.predict(source).compute(), run.predict(dense), rtol=1e-9)
    # Without a penalty the first level is the reference, as it is without sparse rows.
    dense = np.hstack([distance[:, None], x.toarray(), np.eye(4)[hour][:, 1:]])
    for options in ({"fit_intercept": True}, {"fit_intercept": False}):
        with_all = dense
        if not options["fit_intercept"]:
            with_all = np.hstack([dense[:, :-3], np.eye(4)[hour]])
        run = dask_gd.fit(source, **options)
        expected = dask_gd.fit(with_all, y, **options)
        assert_allclose(run.parameters, expected.parameters, atol=1e-8)
        assert_allclose(run.predict(source).compute(), expected.predict(with_all), atol=1e-8)
        errors = dask_gd.infer(run, source).table.standard_error
        assert_allclose(errors, dask_gd.infer(expected, with_all, y).table.standard_error, rtol=1e-6)
    # Faults are named by their feature.
    group["hour"][77] = 9
    broken = dask_gd.open(tmp_path / "g.zarr", x=["distance", "X", "hour"], y="y")
    with pytest.raises(DataError, match=r"9 in row 77.*the feature 'hour=a' is no code of a level"):
        dask_gd.fit(broken, **OPTIONS)
    with pytest.raises(DataError, match=r"9 in row 77.*the feature 'hour=a' is no code of a level"):
        run.predict(broken).compute()
