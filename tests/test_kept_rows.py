"""Sparse rows that workers keep between passes are multiplied to the same bits as rows that are read each time."""

import numpy as np
import pytest
import scipy.sparse as sp
import zarr
from helpers import same_bits
from numpy.testing import assert_array_equal

import dask_gd
from dask_gd import L2, LBFGS, Logistic
from dask_gd.fitting import engine
from dask_gd.kernels import sparse, sparse_products
from dask_gd.kernels.base import EXACT, Kernel, Part, Request
from dask_gd.kernels.sparse import SparseRows
from dask_gd.passes.plan import HEAVY_SUMS, group_into_tasks
from dask_gd.solvers import vectors
from dask_gd.solvers.objective import Objective, nonsmooth
from dask_gd.sources.compressed import rows_of

#: More features than the second-level cache has room for.
WIDE = 140_000


def some_rows(n, p, entries, seed=0):
    """Return rows with entries in some columns only, far apart, and classes."""
    rng = np.random.default_rng(seed)
    columns = rng.choice(p, size=max(1, p // 7), replace=False)
    places = (np.repeat(np.arange(n), entries), rng.choice(columns, size=n * entries))
    x = sp.csr_array((rng.normal(size=n * entries), places), shape=(n, p))
    x.sum_duplicates()
    y = (x @ rng.normal(size=p) + rng.logistic(size=n) > 0).astype(float)
    return x, y


def same_arrays(one, other):
    for mine, theirs in zip(one, other, strict=True):
        if isinstance(mine, tuple):
            same_arrays(mine, theirs)
        elif mine is not None:
            assert_array_equal(mine, theirs)


@pytest.fixture
def narrow_counts(monkeypatch):
    """Have narrow rows kept as wide rows are."""
    monkeypatch.setattr(sparse, "NEAR_BYTES", 0)


# The arithmetic


@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (2, 2)])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("one_value", [False, True])
def test_sums_over_kept_rows_have_the_bits_of_the_same_rows_as_read(
    narrow_counts, monkeypatch, shape, weighted, one_value
):
    n, p = 400, 90
    x, y = some_rows(n, p, 3)
    if one_value:
        x.data[:] = 0.3
        monkeypatch.setattr(sparse_products, "REPEATED", 20)
    k, m = shape
    rng = np.random.default_rng(1)
    query = rng.normal(size=(p + 1, k, m))
    weight = rng.gamma(2.0, size=n) if weighted else None
    row_format = SparseRows(p, 3)
    found = []
    for keep in (False, True):
        request = Request(curvature=EXACT, moments=True)
        kernel = Kernel(Part(0, query, Logistic(), request, row_format))
        kernel.step = 64
        # Of two windows, each with columns of its own.
        for part in (slice(0, 250), slice(250, n)):
            rows = rows_of(x[part])
            if keep:
                rows = row_format.kept(rows, np.empty)
                assert len(rows.columns) < p
                assert rows.repeats == one_value
            kernel.add(
                row_format.cast(rows, np.empty),
                np.stack([y[part]] * k, axis=1),
                None if weight is None else weight[part],
            )
        found.append(kernel.sums())
    same_arrays(found[0], found[1])


@pytest.mark.parametrize("one_value", [False, True])
def test_kept_rows_are_taken_written_out_and_looked_through_as_the_rows_are(narrow_counts, one_value):
    x, _ = some_rows(60, 50, 4)
    if one_value:
        x.data[:] = 2.0
    row_format = SparseRows(50)
    kept = row_format.kept(rows_of(x), np.empty)
    assert kept.columns is not None
    assert_array_equal(row_format.dense(kept), x.toarray())
    assert_array_equal(kept.matrix(50).toarray(), x.toarray())
    for which in (slice(10, 30), np.array([3, 4, 40]), np.array([], int)):
        taken = row_format.take(kept, which)
        assert_array_equal(row_format.dense(taken), x.toarray()[which])
        assert_array_equal(row_format.dense(row_format.kept(taken, np.empty)), x.toarray()[which])
    # What is not finite has its own row and column.
    row = int(np.flatnonzero(np.diff(x.indptr))[5])
    x.data[x.indptr[row]] = np.nan
    bad = row_format.first_bad(row_format.kept(rows_of(x), np.empty))
    assert (bad.row, bad.column) == (row, x.indices[x.indptr[row]])


def test_rows_are_kept_in_one_piece_of_memory_or_not_at_all():
    x, _ = some_rows(50, WIDE, 5)
    asked = []

    def none(shape, dtype):
        asked.append(shape[0] * dtype.itemsize)

    assert SparseRows(WIDE).kept(rows_of(x), none) is None
    assert len(asked) == 1
    kept = SparseRows(WIDE).kept(rows_of(x), np.empty)
    assert sum(array.nbytes for array in kept) <= asked[0]


def test_rows_that_use_most_columns_are_kept_as_they_are(narrow_counts):
    x = sp.random_array((200, 30), density=0.5, rng=np.random.default_rng(0), format="csr")
    rows = SparseRows(30).kept(rows_of(x), np.empty)
    assert rows.columns is None
    assert_array_equal(rows.matrix(30).toarray(), x.toarray())
    assert SparseRows(30).kept(rows_of(x[:0]), np.empty).length == 0


@pytest.mark.parametrize("nbytes", [0, 1 << 20], ids=["with their own columns", "with all columns"])
@pytest.mark.parametrize("value", [1.0, -0.5])
def test_entries_of_one_value_are_kept_without_their_values(nbytes, value, monkeypatch):
    monkeypatch.setattr(sparse, "NEAR_BYTES", nbytes)
    x, _ = some_rows(60, 50, 4)
    x.data[:] = value
    row_format = SparseRows(50)
    asked = []

    def room(shape, dtype):
        asked.append(shape[0] * dtype.itemsize)
        return np.empty(shape, dtype)

    kept = row_format.kept(rows_of(x), room)
    assert kept.repeats
    assert row_format.cast(kept, np.empty).repeats
    assert asked[0] <= 4 * (x.nnz + 61) + 8 * 50
    assert_array_equal(row_format.dense(kept), x.toarray())
    # One other value, the last, and each has its own again.
    x.data[-1] = 2.0
    assert not row_format.kept(rows_of(x), room).repeats


@pytest.mark.parametrize("lengths", [[], [0, 0], [0, 3, 0, 50, 0, 0, 2, 7, 0], [1] * 40], ids=str)
@pytest.mark.parametrize("columns", [1, 3])
def test_rows_of_one_value_are_multiplied_as_they_are_with_many_values(lengths, columns, monkeypatch):
    monkeypatch.setattr(sparse_products, "REPEATED", 8)
    rng = np.random.default_rng(0)
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    indices = np.concatenate([np.sort(rng.choice(60, n, replace=False)) for n in [0, *lengths]]).astype(np.int32)
    data = np.full(len(indices), 0.7)
    weights, slopes = rng.normal(size=(60, columns)), rng.normal(size=(len(lengths), columns))
    found = []
    for values in (data, np.broadcast_to(0.7, len(data))):
        rows = sparse_products.Compressed(values, indices, indptr)
        product = np.zeros((len(lengths), columns))
        sparse_products.add_times(rows, weights, product)
        total = np.ones((60, columns))
        sparse_products.add_transposed_times(rows, slopes, total)
        found.append((product, total))
    same_arrays(*found)


@pytest.mark.parametrize("one_value", [False, True])
def test_products_of_kept_rows_are_the_same_without_the_routines_below_scipys_operators(
    narrow_counts, monkeypatch, one_value
):
    x, _ = some_rows(80, 50, 4)
    if one_value:
        x.data[:] = 0.2
    rng = np.random.default_rng(0)
    weights, slopes = rng.normal(size=(50, 2)), rng.normal(size=(80, 2))
    found = []
    for has_routines in (True, False):
        monkeypatch.setattr("dask_gd.kernels.sparse_products.HAS_ROUTINES", has_routines)
        row_format = SparseRows(50)
        block = row_format.workspace(None).block(row_format.kept(rows_of(x), np.empty))
        total = np.ones((50, 2))
        block.add_transposed_times(slopes, total)
        found.append((block.times(weights), total))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-12, atol=1e-14)


# Passes and fits


def kept_in_worker():
    """Return of the sparse rows that a worker keeps how many columns they have, and whether they have one value."""
    from dask_gd.sources.cache import cache

    # Beside a number they are the last of a tuple.
    found = [kept.rows for (_, role, *_), kept in cache.kept.items() if role == "x"]
    rows = [each if hasattr(each, "indptr") else each[-1] for each in found]
    return [(len(each.columns), each.repeats) for each in rows]


def watched(client, at):
    """Return a callback that looks at what each worker keeps at an iteration, and a list of what it sees."""
    seen = []

    def look(event):
        if getattr(event, "iteration", None) == at:
            seen.extend(client.run(kept_in_worker).values())

    return look, seen


@pytest.fixture(scope="module")
def wide_group(tmp_path_factory):
    """A store of wide sparse rows, the first half of one value, of numbers beside them, and of targets."""
    x, y = some_rows(20_000, WIDE, 80)
    x.data[: x.indptr[10_000]] = 1.0
    path = tmp_path_factory.mktemp("wide") / "wide.zarr"
    dask_gd.write_sparse(x, path, y=y)
    numbers = np.random.default_rng(5).normal(size=len(y))
    codecs = {"compressors": zarr.codecs.Crc32cCodec(), "config": {"write_empty_chunks": True}}
    zarr.open_group(path).create_array("number", data=numbers, chunks=(7001,), **codecs)
    return path


@pytest.mark.parametrize("columns", ["X", ["number", "X"]], ids=["alone", "beside a number"])
def test_fits_have_the_same_bits_whether_workers_keep_rows_or_read_them(two, wide_group, columns, monkeypatch):
    options = {"loss": "logistic", "penalty": L2(1e-4), "tol": 1e-12, "max_iter": 8, "solver": "lbfgs"}
    source = dask_gd.open(wide_group, x=columns, y="y")
    assert source.partitions == 4
    look, seen = watched(two, at=6)
    kept = dask_gd.fit(source, callbacks=[look], **options)
    # All workers have a share of the rows, though all tasks need one query.
    assert [len(of_worker) for of_worker in seen] == [2, 2]
    kept_rows = [rows for of_worker in seen for rows in of_worker]
    assert max(columns for columns, _ in kept_rows) < WIDE / 2
    assert sum(repeats for _, repeats in kept_rows) == 2
    assert not any(two.run(kept_in_worker).values())  # none after the fit
    monkeypatch.setattr(engine, "KEEP_AFTER", 1000)
    look, seen = watched(two, at=6)
    same_bits(kept, dask_gd.fit(source, callbacks=[look], **options))
    assert not any(seen)


@pytest.mark.parametrize(("threads", "sizes"), [(1, [4]), (2, [2, 2]), (4, [1] * 4), (100, [1] * 4)])
def test_partitions_with_heavy_sums_share_a_task_for_each_thread(wide_group, threads, sizes):
    source = dask_gd.open(wide_group, x="X", y="y")
    everything = tuple(range(4))
    groups = group_into_tasks(source, everything, threads, sums_bytes=HEAVY_SUMS)
    assert sum(groups, ()) == everything
    assert [len(group) for group in groups] == sizes
    # Lighter ones are shared out more evenly.
    assert len(group_into_tasks(source, everything, threads, sums_bytes=HEAVY_SUMS // 4)) == 4


# L-BFGS on wide weights


def test_pairs_are_remembered_without_touching_those_that_were_given_out():
    rng = np.random.default_rng(0)
    memory = 4
    newest = vectors.no_pairs(np.zeros((3, 2, 1)), memory)
    plain = np.zeros((2, memory, 3, 2))
    history = []
    for step in range(25):
        a, b = rng.normal(size=(2, 3, 2, 1))
        # Two branches from the same pairs, of which one goes on.
        other = vectors.remember(newest, b, a, memory)
        history.append((newest, plain.copy()))
        newest = vectors.remember(newest, a, b, memory)
        plain = np.concatenate([plain[:, 1:], np.stack([a, b])[:, None, :, :, 0]], axis=1)
        assert_array_equal(np.asarray(newest), plain)
        assert_array_equal(np.asarray(other)[:, -1], np.stack([b, a])[..., 0])
        # Pairs that come from a store have no room behind them.
        if step == 12:
            newest = np.array(newest)
    for given, expected in history:
        assert_array_equal(np.asarray(given), expected)


def quartic(query, scale):
    """Return the objective ``sum scale (w - 1)^2 / 2 + (w - 1)^4``."""
    away = query - 1.0
    return Objective(
        loss=(0.5 * scale * away**2 + away**4).sum(axis=(0, 1)),
        gradient=scale * away + 4.0 * away**3,
        curvature=None,
        diagonal=np.full((len(query), 1, 1), 1e-3),
        means=np.zeros((len(query), 1, 1)),
        nonsmooth=nonsmooth(L2(0.0), len(query), len(query)),
        ridge=np.zeros((len(query), 1, 1)),
        features=len(query),
        quadratic=False,
    )


def test_steps_of_very_wide_weights_are_tried_one_by_one(monkeypatch):
    monkeypatch.setattr(vectors, "WIDE", 5)
    scale = np.geomspace(1.0, 100.0, 6)[:, None, None]
    solver = LBFGS()
    state = solver.init(np.full((6, 1, 1), 9.0), 1e-15)
    tried = []
    for _ in range(60):
        tried.append(len(state.steps))
        state = solver.step(state, quartic(state.query, scale))
    # Several at the start, where the length is unknown; then one, shorter ones among them.
    first = tried.index(1, 1)
    assert max(tried[1:first]) > 1
    assert set(tried[first:]) == {1}
    np.testing.assert_allclose(state.weights, 1.0, atol=1e-6)
