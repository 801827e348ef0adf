"""Sparse rows: the numbers of the same rows written out, whatever is fitted, and the same bits wherever they lie."""

import dask
import numpy as np
import pytest
import scipy.sparse as sp
from helpers import CLASSES, EVERY, same_bits
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LogisticRegression, Ridge

import dask_gd
from dask_gd import L1, L2, ElasticNet, GroupLasso, Logistic, Poisson, Softmax, Squared
from dask_gd.errors import DataError, InvalidArgumentError, InvalidTypeError, NonFiniteError
from dask_gd.kernels import sparse_products
from dask_gd.kernels.base import BOUND, EXACT, Kernel, Part, Request, sums_of_rows
from dask_gd.kernels.sparse import SparseRows
from dask_gd.kernels.sparse_products import Compressed
from dask_gd.sources.compressed import rows_of
from dask_gd.sources.sparse_layout import layout_of, partition_count, window_bytes

N, P = 700, 24


def problem(n=N, p=P, seed=0, density=0.2, loss=None):
    """Return sparse rows, some of them empty and one column too, the same written out, and targets for the loss."""
    rng = np.random.default_rng(seed)
    dense = rng.normal(size=(n, p)) * (rng.random((n, p)) < density)
    dense[rng.integers(0, n, 9)] = 0.0
    dense[:, p // 2] = 0.0
    z = dense @ rng.normal(size=p) / 2 - 0.3
    if loss is None or loss in CLASSES:
        y = (z + rng.logistic(size=n) > 0).astype(float)
    elif loss in (Squared(),) or loss.name in ("squared", "huber", "quantile"):
        y = z + rng.normal(size=n)
    else:
        y = rng.gamma(2.0, np.exp(z) / 2) + 0.1
        if loss.name == "poisson":
            y = rng.poisson(y).astype(float)
    return sp.csr_array(dense), dense, y


def sums(loss, query, x, y, weight=None, offset=None, request=None, block=None):
    """Return the sums over sparse rows, in blocks of as many rows."""
    row_format = SparseRows(x.shape[1], 5)
    kernel = Kernel(Part(0, query, loss, request or Request(), row_format))
    if block is not None:
        kernel.step = block
    kernel.add(row_format.cast(rows_of(x), np.empty), y, weight, offset)
    return kernel.sums()


def same_sums(ours, theirs):
    """Check that all sums are the same but for rounding."""
    for name in ("rows", "weight", "loss", "gradient", "curvature"):
        assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-10, atol=1e-10)
    for mine, other in zip(ours.moments, theirs.moments, strict=True):
        assert_allclose(mine, other, rtol=1e-10, atol=1e-10)


# The arithmetic


@pytest.mark.parametrize("loss", EVERY, ids=str)
@pytest.mark.parametrize("intercept", [True, False])
def test_sums_over_sparse_rows_are_those_of_the_same_rows_written_out(loss, intercept):
    x, dense, y = problem(loss=loss)
    rng = np.random.default_rng(1)
    query = rng.normal(size=(P + intercept, 1, 3)) / 5
    weight = rng.uniform(0.0, 2.0, N)
    request = Request(EXACT if loss.curvature_bound is None else BOUND, moments=True)
    ours = sums(loss, query, x, y[:, None], weight, request=request, block=130)
    same_sums(ours, sums_of_rows(dense, y[:, None], weight, query, loss, request))


def test_sums_of_several_outputs_and_of_classes_are_those_of_the_same_rows_written_out():
    x, dense, _ = problem()
    rng = np.random.default_rng(2)
    for loss, y in ((Squared(), rng.normal(size=(N, 3))), (Softmax(3), rng.integers(0, 3, (N, 1)).astype(float))):
        query = rng.normal(size=(P + 1, 3, 2)) / 5
        request = Request(EXACT, moments=True)
        same_sums(
            sums(loss, query, x, y, request=request, block=99), sums_of_rows(dense, y, None, query, loss, request)
        )


def test_the_gradient_has_the_same_bits_in_blocks_of_any_size():
    x, _, y = problem()
    query = np.full((P + 1, 1, 1), 0.1)
    first = sums(Logistic(), query, x, y[:, None], block=16).gradient
    for block in (64, 333, 4096):
        assert_array_equal(sums(Logistic(), query, x, y[:, None], block=block).gradient[:P], first[:P])


def test_products_are_the_same_without_the_routines_below_scipys_operators(monkeypatch):
    x, _, y = problem()
    query = np.random.default_rng(3).normal(size=(P + 1, 1, 2))
    request = Request(EXACT, moments=True)
    with_routines = sums(Logistic(), query, x, y[:, None], request=request)
    monkeypatch.setattr(sparse_products, "HAS_ROUTINES", False)
    same_sums(sums(Logistic(), query, x, y[:, None], request=request), with_routines)


@pytest.mark.parametrize("index", [np.int32, np.int64, np.uint16])
@pytest.mark.parametrize("dtype", ["f8", "f4", "i2", "u1", "?"])
def test_values_and_indices_of_any_dtype_are_taken_for_what_they_are(dtype, index):
    x, _, _ = problem()
    stored = rows_of(x)
    stored = Compressed((stored.data * 3).astype(dtype), stored.indices.astype(index), stored.indptr)
    row_format = SparseRows(P)
    rows = row_format.cast(stored, np.empty)
    assert (rows.data.dtype, rows.indices.dtype) == (float, np.int32)
    dense = np.zeros((N, P))
    dense[np.repeat(np.arange(N), np.diff(stored.indptr)), stored.indices] = stored.data
    assert_array_equal(row_format.dense(rows), dense)


def test_rows_are_taken_by_slices_and_at_positions_and_written_out():
    x, dense, _ = problem()
    row_format = SparseRows(P)
    rows = rows_of(x)
    for which in (slice(3, 40), slice(600, 10_000), slice(5, 5), np.array([0, 4, 17, 699]), np.array([], int)):
        part = row_format.take(row_format.take(rows, slice(0, N)), which)
        assert part.length == len(dense[which])
        assert_array_equal(row_format.dense(part), dense[which])
    # Rows that lie among others: their own entries alone are looked at.
    middle = row_format.take(rows, slice(100, 300))
    again = row_format.take(middle, np.array([1, 5]))
    assert_array_equal(row_format.dense(again), dense[[101, 105]])


def test_values_that_are_not_finite_are_found_with_their_row_and_column():
    x, _, _ = problem()
    row_format = SparseRows(P)
    assert row_format.first_bad(rows_of(x)) is None
    entry = int(x.indptr[60])
    x.data[[entry, entry + 9]] = np.nan, np.inf
    part = row_format.take(rows_of(x), slice(50, 200))
    bad = row_format.first_bad(part)
    assert bad.row == np.searchsorted(x.indptr, entry, side="right") - 1 - 50
    assert bad.column == x.indices[entry]
    found = row_format.with_nan(part)
    assert np.flatnonzero(found).tolist() == [bad.row]


# Fits


PENALTIES = {
    "none": None,
    "L2": L2(0.01),
    "L1": L1(0.01),
    "elastic net": ElasticNet(0.01, 0.4),
    "groups": GroupLasso(0.01, [i // 3 for i in range(P)]),
}


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("solver", ["newton", "lbfgs", "nesterov"])
def test_a_fit_of_sparse_rows_is_that_of_the_same_rows_written_out(penalty, solver):
    if solver == "lbfgs" and penalty == "groups":
        pytest.skip("L-BFGS does not serve groups")
    x, dense, y = problem(density=0.4)
    rng = np.random.default_rng(4)
    given = {"sample_weight": rng.uniform(0.5, 2, N), "offset": rng.normal(size=N) / 4}
    options = {"loss": "logistic", "penalty": PENALTIES[penalty], "solver": solver, "tol": 1e-9, "max_iter": 3000}
    # A column without values has no coefficient of its own.
    ours = dask_gd.fit(x, y, **given, **options)
    theirs = dask_gd.fit(dense, y, **given, **options)
    assert ours.reason == theirs.reason == "converged"
    assert_allclose(ours.parameters, theirs.parameters, atol=1e-6)


@pytest.mark.parametrize("loss", [loss for loss in EVERY if loss.name not in ("hinge", "quantile")], ids=str)
def test_every_smooth_loss_is_fitted(loss):
    x, dense, y = problem(loss=loss)
    options = {"loss": loss, "penalty": L2(0.05), "tol": 1e-9}
    assert_allclose(dask_gd.fit(x, y, **options).parameters, dask_gd.fit(dense, y, **options).parameters, atol=1e-7)


@pytest.mark.parametrize("solver", ["gradient_descent", "adam", "sgd", "admm", "momentum"])
def test_other_solvers_take_sparse_rows(solver):
    x, dense, y = problem()
    options = {"loss": "logistic", "penalty": L2(0.05), "solver": solver, "max_iter": 20, "tol": 1e-14, "seed": 0}
    if solver in ("adam", "momentum"):
        chosen = {"adam": dask_gd.Adam(learning_rate=0.1), "momentum": dask_gd.Momentum(learning_rate=0.1)}
        options["solver"] = chosen[solver]
    ours = dask_gd.fit(x, y, **options)
    assert_allclose(ours.parameters, dask_gd.fit(dense, y, **options).parameters, atol=1e-8)


def test_the_fits_are_scikit_learns():
    x, _, y = problem()
    ours = dask_gd.fit(x, y, loss="logistic", penalty=L2(0.01), tol=1e-11)
    theirs = LogisticRegression(C=1 / (0.01 * N), tol=1e-12, max_iter=1000).fit(x, y)
    assert_allclose(ours.parameters[:, 0], np.append(theirs.coef_, theirs.intercept_), atol=1e-6)
    ours = dask_gd.fit(x, y, penalty=L2(0.01), tol=1e-11)
    theirs = Ridge(alpha=0.01 * N, tol=1e-12).fit(x.toarray(), y)
    assert_allclose(ours.parameters[:, 0], np.append(theirs.coef_, theirs.intercept_), atol=1e-9)


def test_columns_far_from_zero_are_right_as_far_as_float64_goes():
    rng = np.random.default_rng(5)
    dense = rng.normal(size=(N, 5)) + 1e4
    y = (dense - 1e4) @ [1.0, -1.0, 0.5, 2.0, 0.0] + 1e-3 * rng.normal(size=N)
    ours = dask_gd.fit(sp.csr_array(dense), y)
    centred = np.linalg.lstsq(np.column_stack([dense - 1e4, np.ones(N)]), y)[0]
    assert_allclose(ours.weights.values, centred[:5], atol=1e-7)


def test_collinear_columns_are_refined_a_few_rows_at_a_time(monkeypatch):
    rng = np.random.default_rng(6)
    dense = rng.normal(size=(N, 5))
    dense[:, 4] = dense[:, 3] + 1e-7 * rng.normal(size=N)
    y = dense @ [1.0, -1.0, 0.5, 2.0, 1.0] + 1e-3 * rng.normal(size=N)
    written = []
    dense_of = SparseRows.dense
    monkeypatch.setattr(SparseRows, "dense", lambda self, rows: written.append(rows.length) or dense_of(self, rows))
    ours = dask_gd.fit(sp.csr_array(dense), y)
    assert_allclose(dense @ ours.weights.values, dense @ np.linalg.lstsq(dense, y)[0], atol=1e-2)
    assert_allclose(ours.parameters, dask_gd.fit(dense, y).parameters, rtol=1e-6, atol=1e-8)
    assert written


def test_a_search_over_folds_is_that_of_the_same_rows_written_out():
    x, dense, y = problem()
    options = {"loss": "logistic", "alphas": [1.0, 0.1, 0.01], "folds": dask_gd.Folds(3), "tol": 1e-9}
    for ratio in (0.0, 0.5):
        ours = dask_gd.search(x, y, l1_ratios=[ratio], **options).data
        theirs = dask_gd.search(dense, y, l1_ratios=[ratio], **options).data
        assert_allclose(ours.score, theirs.score, atol=1e-6)
        assert_allclose(ours.weights, theirs.weights, atol=1e-6)


def test_inference_is_that_of_the_same_rows_written_out():
    x, dense, y = problem(density=0.5)
    keep = np.delete(np.arange(P), P // 2)
    x, dense = x[:, keep], dense[:, keep]
    options = {"loss": Poisson(), "tol": 1e-12}
    y = np.round(2 * y)
    ours = dask_gd.infer(dask_gd.fit(x, y, **options), x, y)
    theirs = dask_gd.infer(dask_gd.fit(dense, y, **options), dense, y)
    assert_allclose(ours.table.standard_error, theirs.table.standard_error, rtol=1e-6)


def test_a_model_of_ones_own_sees_some_rows_at_a_time():
    x, dense, y = problem(n=6000)
    seen = []

    def mean_square(w, x, y, weight):
        seen.append(len(x))
        residual = x @ w - y
        return (residual**2).sum() / 2, x.T @ residual

    ours = dask_gd.fit(x, y, loss=dask_gd.Model(mean_square, np.zeros(P)), tol=1e-9)
    assert_allclose(dense @ ours.params, dense @ np.linalg.lstsq(dense, y)[0], atol=1e-5)
    assert max(seen) < 6000


def test_rows_with_nan_are_left_out_where_that_is_asked():
    x, dense, y = problem()
    x.data[[3, 90]] = np.nan
    with pytest.raises(NonFiniteError, match=r"nan in row \d+, column \d+ of 'x'"):
        dask_gd.fit(x, y, loss="logistic", penalty=L2(0.1))
    ours = dask_gd.fit(x, y, loss="logistic", penalty=L2(0.1), nan="drop", tol=1e-10)
    keep = np.isfinite(x @ np.ones(P))
    theirs = dask_gd.fit(dense[keep], y[keep], loss="logistic", penalty=L2(0.1), tol=1e-10)
    assert ours.dropped == (~keep).sum() == 2
    assert_allclose(ours.parameters, theirs.parameters, atol=1e-9)


# Partitions and windows


def test_partitions_and_windows_follow_from_the_entries_and_not_from_how_positions_are_read():
    rng = np.random.default_rng(7)
    lengths = rng.integers(0, 4000, 5000)
    lengths[17] = 3_000_000
    ends = np.cumsum(lengths)
    given = {"start": 5, "rows": len(ends), "first": 0, "last": int(ends[-1]), "features": 100}
    whole = layout_of([ends], **given)
    pieces = layout_of(np.split(ends, [1, 100, 101, 2000]), **given)
    assert whole.bounds == pieces.bounds
    assert_array_equal(whole.cuts, pieces.cuts)
    assert whole.bounds[0] == 5
    assert whole.bounds[-1] == 5 + len(ends)
    assert set(whole.bounds) <= set(whole.cuts.tolist())
    assert len(whole.bounds) - 1 <= partition_count(len(ends), int(ends[-1]), 100)
    # No window has more than its bytes, but for a row that alone has.
    costs = np.concatenate([[0], 12 * ends + 8 * np.arange(1, len(ends) + 1)])
    sizes = np.diff(costs[whole.cuts - 5])
    assert (sizes <= window_bytes(100) + 12 * np.where(sizes > 12 * 3_000_000, 3_000_000, 4000) + 8).all()


def test_bits_do_not_depend_on_workers_or_on_blocks_in_memory(two):
    x, _, y = problem(n=30_000, density=0.3)
    options = {"loss": "logistic", "penalty": L2(0.01)}
    on_cluster = dask_gd.fit(x, y, **options)
    with dask.config.set(scheduler="threads"):
        same_bits(on_cluster, dask_gd.fit(x, y, **options))


# What is refused


def raw(data, indices, indptr, shape):
    """Return a matrix whose parts SciPy has not looked at."""
    matrix = sp.csr_array(shape)
    matrix.data, matrix.indices, matrix.indptr = (np.asarray(part) for part in (data, indices, indptr))
    return matrix


BAD = {
    "out of order": ([1.0, 2.0, 3.0], [0, 2, 1], [0, 1, 3], r"x: row 1 has column 1 after column 2"),
    "twice": ([1.0, 2.0, 3.0], [0, 1, 1], [0, 1, 3], r"x: row 1 has column 1 more than once.*sum_duplicates"),
    "too far": ([1.0, 2.0, 3.0], [0, 1, 3], [0, 1, 3], r"x: row 1 has a value in column 3; columns are 0 to 2"),
    "negative": ([1.0, 2.0, 3.0], [-1, 1, 2], [0, 1, 3], r"x: row 0 has a value in column -1"),
    "descending": ([1.0, 2.0, 3.0], [0, 1, 2], [0, 3, 2], r"x: indptr descends at row 1, from 3 to 2"),
    "beyond": ([1.0, 2.0, 3.0], [0, 1, 2], [0, 1, 9], r"x: indptr reaches .* to 9 .*there are 3 values"),
}


@pytest.mark.parametrize("bad", BAD)
def test_rows_that_are_not_in_order_are_refused_with_row_and_column(bad):
    *parts, message = BAD[bad]
    x = raw(*parts, (2, 3))
    before = [part.copy() for part in (x.data, x.indices, x.indptr)]
    with pytest.raises(DataError, match=message):
        dask_gd.fit(x, np.zeros(2))
    with pytest.raises(DataError, match=message):
        dask_gd.fit(np.eye(3), np.ones(3)).predict(x)
    for mine, part in zip(before, (x.data, x.indices, x.indptr), strict=True):
        assert_array_equal(mine, part)


def test_memory_that_must_not_be_written_is_read():
    x, _, y = problem()
    for part in (x.data, x.indices, x.indptr):
        part.flags.writeable = False
    for dtype in (float, "f4"):
        dask_gd.fit(x.astype(dtype, copy=False), y, loss="logistic", penalty=L2(0.1), solver="newton")


def test_only_features_of_numbers_are_sparse():
    x, _, y = problem()
    with pytest.raises(InvalidTypeError, match=r"sparse matrix of complex128; only real numbers"):
        dask_gd.fit(x.astype(complex), y)
    with pytest.raises(InvalidTypeError, match=r"y is sparse; only features x can be"):
        dask_gd.fit(x, x[:, [0]])
    with pytest.raises(InvalidArgumentError, match="x has 700 rows but y has 3"):
        dask_gd.fit(x, y[:3])


@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csc_array, sp.csc_matrix, sp.coo_array, sp.dok_array, sp.bsr_array])
def test_other_forms_are_converted_once_and_the_log_says_so(form, caplog):
    x, _, y = problem()
    options = {"loss": "logistic", "penalty": L2(0.1)}
    with caplog.at_level("INFO", "dask_gd"):
        same_bits(dask_gd.fit(form(x), y, **options), dask_gd.fit(x, y, **options))
    said = [record.message for record in caplog.records if "copy in CSR" in record.message]
    assert len(said) == (form is not sp.csr_matrix)
