"""Rows asked of a distant store before they are needed: the same rows, in order, and never too many at once."""

import functools
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import dask
import numpy as np
import pytest
import scipy.sparse
import zarr
from dask.distributed import Client
from helpers import cluster, problem, same_bits
from hypothesis import given
from hypothesis import strategies as st

import dask_gd
from dask_gd.errors import CorruptChunkError, MissingChunkError
from dask_gd.sources import sparse_group, sparse_layout
from dask_gd.sources import zarr_column as streamed
from dask_gd.sources.prefetch import Ahead


class Numbers:
    """A column whose row i holds i; the rows are there a moment later, the later spans sooner."""

    role, shape, dtype = "numbers", (1000,), np.dtype(float)

    def __init__(self, ahead):
        self.ahead, self.lock, self.reading, self.most, self.spans = ahead, threading.Lock(), 0, 0, []

    def nbytes(self, rows):
        return 8 * rows

    def room(self, rows, memory):
        return memory((rows,), self.dtype)

    def read(self, start, stop, out=None):
        with self.lock:
            self.spans.append((start, stop))
            self.reading += 1
            self.most = max(self.most, self.reading)
        time.sleep(0.002 * (1 - start / 1000))
        out = np.empty(stop - start) if out is None else out
        out[:] = np.arange(start, stop)
        with self.lock:
            self.reading -= 1
        return out


@given(
    ahead=st.integers(1, 4),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    passed_over=st.sets(st.integers(0, 11)),
    unasked=st.sets(st.integers(0, 11)),
    into=st.booleans(),
)
def test_whatever_is_asked_comes_and_stays_until_the_next(ahead, sizes, passed_over, unasked, into):
    edges = np.cumsum([0, *sizes]).tolist()
    spans = list(pairwise(edges))
    column = Numbers(ahead)
    foretold = [span for i, span in enumerate(spans) if i not in unasked]
    with Ahead(column, foretold) as rows:
        for start, stop in [span for i, span in enumerate(spans) if i not in passed_over]:
            out = np.empty(stop - start) if into else None
            found = rows.read(start, stop, out)
            time.sleep(0.005)  # for others to be read meanwhile
            np.testing.assert_array_equal(found, np.arange(start, stop))
            assert out is None or found is out
    assert column.most <= ahead + 1  # those ahead, and one that nobody had foretold
    assert len(column.spans) <= len(spans)  # none twice


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def far(tmp_path):
    """A group of Zarr arrays, and its address on a web server."""
    x, _, y = problem(2000, 5)
    group = zarr.open_group(tmp_path / "far.zarr", mode="w")
    codecs = {"compressors": zarr.codecs.Crc32cCodec(), "config": {"write_empty_chunks": True}}
    for name, data, chunk in (("x", x, 50), ("y", y, 130), ("s", np.linspace(0.5, 2, 2000), 2000)):
        group.create_array(name, data=data, chunks=(chunk, *data.shape[1:]), **codecs)
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield tmp_path / "far.zarr", f"http://127.0.0.1:{server.server_port}/far.zarr"
    server.shutdown()
    server.server_close()
    thread.join()


def fit(location, **options):
    source = dask_gd.open(location, x="x", y="y", sample_weight="s")
    return dask_gd.fit(source, loss="logistic", penalty=dask_gd.L2(1e-3), tol=1e-8, **options)


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
def test_a_distant_store_gives_the_same_bits(far, solver, monkeypatch):
    near, address = far
    monkeypatch.setattr(streamed, "READ_BYTES", 3000)
    source = dask_gd.open(address, x="x", y="y")
    assert source.x.ahead == streamed.AHEAD
    assert dask_gd.open(near, x="x", y="y").x.ahead == 0
    with dask.config.set(scheduler="threads"):
        same_bits(*(fit(location, solver=solver, max_iter=4) for location in (near, address)))


@pytest.mark.slow
def test_sparse_rows_of_a_distant_store_are_read_ahead_to_the_same_bits(far, monkeypatch):
    near, address = far
    monkeypatch.setattr(streamed, "READ_BYTES", 1000)
    monkeypatch.setattr(sparse_layout, "window_bytes", lambda features: 1500)
    rng = np.random.default_rng(0)
    x = scipy.sparse.random_array((2000, 30), density=0.1, rng=rng, format="csr")
    dask_gd.write_sparse(x, near.parent / "sparse.zarr", y=rng.integers(0, 2, 2000).astype(float))
    # The reading of a window, and the rows that are in use meanwhile.
    waited = []
    read_here = sparse_group.BoundGroup._read

    def read(self, start, stop):
        waited.append(threading.current_thread() is not threading.main_thread())
        return read_here(self, start, stop)

    monkeypatch.setattr(sparse_group.BoundGroup, "_read", read)
    with dask.config.set(scheduler="sync"):
        fits = []
        for location in (near.parent / "sparse.zarr", address.replace("far.zarr", "sparse.zarr")):
            waited.clear()
            source = dask_gd.open(location, x="X", y="y")
            assert len(source.x.cuts) > 10
            fits.append(dask_gd.fit(source, loss="logistic", penalty=dask_gd.L2(1e-3), tol=1e-8))
            assert set(waited) == {len(fits) == 2}
    same_bits(*fits)


def count_kept():
    from dask_gd.sources.cache import cache

    return len(cache.kept)


@pytest.mark.slow
def test_workers_keep_what_they_asked_for_ahead(far):
    """From the fourth pass on rows are kept; L-BFGS makes more than that."""
    near, address = far
    kept = []
    with dask.config.set(scheduler="threads"):
        expected = fit(near, solver="lbfgs", max_iter=6)
    with cluster(2, memory_limit="1GB") as two, Client(two) as client:

        def count(event):
            if getattr(event, "iteration", None) == 5:
                kept.extend(client.run(count_kept).values())

        same_bits(expected, fit(address, solver="lbfgs", max_iter=6, callbacks=[count]))
    assert sum(kept) >= dask_gd.open(address, x="x", y="y").partitions


def test_nothing_is_read_into_the_threads_memory_after_a_failure(far):
    """A task that fails is done with its buffers: the thread's next task may use them."""
    _, address = far
    reader = dask_gd.open(address, x="x", y="y").reader
    windows = reader((0, 1, 2))
    next(windows)
    threads = set(threading.enumerate())
    windows.close()
    assert threads - set(threading.enumerate())


def test_a_distant_store_has_its_bad_chunks_refused(far):
    near, address = far
    chunk = near / "x" / "c" / "3" / "0"
    content = bytearray(chunk.read_bytes())
    content[9] ^= 4
    chunk.write_bytes(content)
    with dask.config.set(scheduler="threads"), pytest.raises(CorruptChunkError, match=r"'x', chunk \(3, 0\)"):
        fit(address)
    chunk.unlink()
    with pytest.raises(MissingChunkError, match=r"'x' lacks chunk \(3, 0\)"):
        fit(address)


def test_the_plan_counts_what_is_asked_ahead(far):
    sources = [dask_gd.open(location, x="x", y="y") for location in far]
    window, count = sources[1].x.window_bytes, sources[1].x.ahead
    assert sources[1].plan().memory >= sources[0].plan().memory + count * window
