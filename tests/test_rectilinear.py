"""FOUND 15: rectilinear chunk grids, whose chunks have any edges along each dimension (zarr 3.4 and later)."""

from itertools import pairwise

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import dask_gd
from dask_gd.cli.doctor import reading
from dask_gd.errors import CorruptChunkError, MissingChunkError, NonFiniteError
from dask_gd.preprocessing import StandardScaler
from dask_gd.sources import as_source, partitions
from dask_gd.sources import zarr_column as streamed
from dask_gd.sources.grid import find, grouped, longest, overlapping

rectilinear = pytest.mark.skipif(
    not hasattr(zarr.Array, "write_chunk_sizes"), reason="this zarr has no rectilinear chunk grids"
)
N, P = 97, 5
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(N, P)), RNG.normal(size=N)
ROWS, COLUMNS = (10, 3, 40, 1, 43), (1, 3, 1)


@pytest.fixture(autouse=True)
def _short_windows(monkeypatch):
    """Windows and partitions of a few rows."""
    monkeypatch.setattr(streamed, "READ_BYTES", 16 * P * 8)
    monkeypatch.setattr(streamed, "READ_ROWS", 2)
    monkeypatch.setattr(partitions, "PARTITIONS", 4)


def in_grid(data, rows=ROWS, columns=COLUMNS, store=None, name=None, **options):
    """The data in chunks of these sizes."""
    with zarr.config.set({"array.rectilinear_chunks": True}):
        array = zarr.create_array(
            zarr.storage.MemoryStore() if store is None else store,
            name=name,
            shape=data.shape,
            chunks=(rows, columns)[: data.ndim],
            dtype=data.dtype,
            config={"write_empty_chunks": True},
            **options,
        )
        array[:] = data
    return array


def pieces(draw, total):
    """Chunk sizes that add up to the total."""
    cuts = draw(st.sets(st.integers(1, total - 1), max_size=8))
    return tuple(b - a for a, b in pairwise([0, *sorted(cuts), total]))


@st.composite
def grids(draw):
    return pieces(draw, N), pieces(draw, P), pieces(draw, N)


# Edges, which any zarr has


@given(side=st.integers(1, 40), chunks=st.integers(0, 50), most=st.integers(0, 300), fewest=st.integers(1, 300))
def test_runs_of_even_chunks_are_those_of_the_same_edges_written_out(side, chunks, most, fewest):
    edges = range(0, side * chunks + 1, side)
    cuts, written_out = grouped(edges, most, fewest), grouped(tuple(edges), most, fewest)
    assert [min(cut, edges[-1]) for cut in cuts] == list(written_out)


@given(st.data())
def test_a_run_is_as_long_as_it_may_be_and_no_shorter_than_it_must(data):
    sizes = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=30))
    most, fewest = data.draw(st.integers(0, 100)), data.draw(st.integers(1, 100))
    edges = (0, *np.cumsum(sizes).tolist())
    cuts = grouped(edges, most, fewest)
    assert cuts[0] == 0
    assert cuts[-1] == edges[-1]
    assert set(cuts) <= set(edges)
    for start, stop in pairwise(cuts):
        inside = [edge for edge in edges if start < edge <= stop]
        assert stop - start <= most or not any(edge - start >= fewest for edge in inside[:-1])
        assert stop - start >= fewest or stop == edges[-1]
        longer = edges[min(edges.index(stop) + 1, len(edges) - 1)]
        assert longer == stop or longer - start > most


@given(st.integers(0, 99), st.integers(1, 100))
def test_a_position_is_in_the_chunk_that_is_found(start, count):
    for edges in (range(0, 101, 10), (0, 1, 7, 50, 100)):
        stop = min(start + count, 100)
        i = find(edges, start)
        assert edges[i] <= start < edges[i + 1]
        found = overlapping(edges, start, stop)
        assert edges[found.start] <= start
        assert edges[found.stop - 1] < stop <= edges[found.stop]
    assert longest((0, 1, 7, 50, 100)) == 50


# Arrays


@rectilinear
@given(grid=grids())
def test_any_edges_give_the_rows_and_the_fit_of_the_data(grid):
    rows, columns, of_y = grid
    source = as_source(in_grid(X, rows, columns), in_grid(Y, of_y))
    assert source.bounds[0] == 0
    assert source.bounds[-1] == N
    assert set(source.bounds) <= {0, *np.cumsum(rows).tolist()}
    assert_array_equal(source.x.lazy.compute(), X)
    assert_array_equal(source.y.lazy.compute(), Y)
    read = [window.x.copy() for i in range(source.partitions) for _, window in source.reader((i,))]
    assert_array_equal(np.concatenate(read), X)
    assert source.plan().memory > 0


@rectilinear
@pytest.mark.parametrize("shards", [False, True])
def test_fit_predict_and_transform_read_them(tmp_path, shards):
    group = zarr.open_group(tmp_path / "data.zarr", mode="w")
    if shards:
        options = {"chunks": (4, P), "shards": ((8, 40, 4, 44), (P,))}
        with zarr.config.set({"array.rectilinear_chunks": True}):
            group.create_array("x", shape=(96, P), dtype=float, **options)[:] = X[:96]
    else:
        in_grid(X[:96], (10, 3, 40, 43), COLUMNS, group.store, "x")
    in_grid(Y[:96], (50, 46), (), group.store, "y")
    with zarr.config.set({"array.rectilinear_chunks": True}):
        source = dask_gd.open(tmp_path / "data.zarr", x="x", y="y")
        x = zarr.open_group(tmp_path / "data.zarr", mode="r")["x"]
    run, expected = dask_gd.fit(source), dask_gd.fit(X[:96], Y[:96])
    assert_allclose(run.weights, expected.weights, rtol=1e-10)
    assert_allclose(run.predict(x), expected.predict(X[:96]), rtol=1e-10)
    assert_allclose(StandardScaler().fit(x).mean_, X[:96].mean(axis=0), atol=1e-12)
    with zarr.config.set({"array.rectilinear_chunks": True}):
        part = dask_gd.open(tmp_path / "data.zarr", x="x", y="y", rows=slice(11, 60))
    assert_allclose(dask_gd.fit(part).weights, dask_gd.fit(X[11:60], Y[11:60]).weights, rtol=1e-10)


@rectilinear
def test_workers_read_them_without_zarrs_setting(tmp_path, two):
    x, y = (in_grid(a, store=zarr.storage.LocalStore(tmp_path / name)) for a, name in ((X, "x"), (Y, "y")))
    assert_allclose(dask_gd.fit(x, y).weights, dask_gd.fit(X, Y).weights, rtol=1e-10)


@rectilinear
def test_an_array_that_grows_or_shrinks_has_its_rows():
    x = in_grid(X)
    with zarr.config.set({"array.rectilinear_chunks": True}):
        for _ in range(3):
            x.append(X[:7])
    grown = np.vstack([X, X[:7], X[:7], X[:7]])
    assert_array_equal(as_source(x, grown[:, 0]).x.lazy.compute(), grown)
    with zarr.config.set({"array.rectilinear_chunks": True}):
        x.resize((60, P))
    assert_array_equal(as_source(x, X[:60, 0]).x.lazy.compute(), X[:60])


@rectilinear
def test_messages_name_the_chunk_by_its_own_edges():
    bad = X.copy()
    bad[30, 2] = np.nan
    with pytest.raises(NonFiniteError, match=r"row 30, column 2 .*chunk \(2, 1\), rows 13-52"):
        dask_gd.fit(in_grid(bad), in_grid(Y))


@rectilinear
def test_an_absent_chunk_is_named_before_the_first_task_and_by_the_task(tmp_path):
    x, y = in_grid(X, store=zarr.storage.LocalStore(tmp_path / "x")), in_grid(Y)
    source = as_source(x, y)
    (tmp_path / "x" / "c" / "2" / "1").unlink()
    with pytest.raises(MissingChunkError, match=r"chunk \(2, 1\).*rows 13-52"):
        as_source(x, y)
    with pytest.raises(MissingChunkError, match=r"chunk \(2, 1\), rows 13-52"):
        dask_gd.fit(source)


@rectilinear
def test_a_damaged_chunk_is_named(tmp_path):
    x, y = in_grid(X, store=zarr.storage.LocalStore(tmp_path / "x")), in_grid(Y)
    path = tmp_path / "x" / "c" / "4" / "0"
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(CorruptChunkError, match=r"chunk \(4, 0\), rows 54-96"):
        dask_gd.fit(x, y)


@rectilinear
def test_fingerprints_and_the_doctor_know_them(tmp_path):
    x, y = in_grid(X, store=zarr.storage.LocalStore(tmp_path / "x")), in_grid(Y)
    before = as_source(x, y).fingerprint()
    x[96, 4] += 1
    assert as_source(x, y).fingerprint()["x"] != before["x"]
    (chunks,) = [check for check in reading(x) if check.name == "chunks"]
    assert "chunks of at most (43, 3)" in chunks.found
