"""A curvature of some rows of classes: what is made up for, and fits that end at the same optimum, to the same bits."""

from functools import partial

import dask
import dask.array as da
import numpy as np
import pytest
from dask.distributed import Client
from helpers import stopped_and_resumed, to_zarr
from numpy.testing import assert_allclose, assert_array_equal

import dask_gd
from dask_gd.fitting import fit_track, thinning
from dask_gd.kernels.base import EXACT, Request, expand_class_pairs, sums_of_rows
from dask_gd.kernels.thinning import LEAST_ROWS, Thinning
from dask_gd.solvers.newton.smooth import anchored, solve

CLASSES = 6
PARTITIONS = 20


def problem(kind="", n=24_000, p=14, seed=0):
    """Return rows of a kind, and their classes."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p)) + 0.5 * rng.normal(size=(n, 1)) + 1.0
    if kind == "rare":
        x[:, -3:] = rng.random((n, 3)) < [1e-3, 1e-2, 0.1]
    if kind == "heavy":
        x *= np.minimum(np.abs(rng.standard_t(2.5, size=(n, 1))), 20)
    if kind == "badly scaled":
        x *= 10 ** rng.uniform(-3, 3, p)
    z = x / x.std(axis=0) @ rng.normal(size=(p, CLASSES)) / np.sqrt(p)
    y = (z + rng.gumbel(size=z.shape)).argmax(axis=1).astype(float)
    order = np.arange(n)
    if kind == "sorted":
        order = np.argsort(x[:, 0])
    if kind == "sorted by class":
        order = np.argsort(y, kind="stable")
    return x[order], y[order]


def sums(x, y, weight=None, dtype=float, shift=None, **request):
    query = 0.2 * np.random.default_rng(1).normal(size=(x.shape[1] + 1, CLASSES, 1))
    loss = dask_gd.Softmax(CLASSES)
    x = x.astype(dtype)
    return sums_of_rows(x, y[:, None], weight, query, loss, Request(EXACT, shift=shift, **request))


def fit(x, y, **options):
    source = (da.from_array(x, chunks=(len(x) // PARTITIONS, -1)), da.from_array(y, chunks=len(x) // PARTITIONS))
    return dask_gd.fit(*source, **{"loss": dask_gd.Softmax(CLASSES), "solver": "newton", "tol": 1e-6, **options})


@pytest.fixture
def asked(monkeypatch):
    """Have small data thinned too, by as much as it may be, and return of how many rows one was asked for."""
    monkeypatch.setattr(thinning, "CHEAP", 0.0)
    monkeypatch.setattr(thinning, "ROWS_EACH", 4)
    monkeypatch.setattr(thinning, "FASTER", 2)
    found = []

    def noted(track, request):
        request = thinning.thinned(track, request)
        if request.curvature:
            found.append(request.thin)
        return request

    monkeypatch.setattr(fit_track, "thinned", noted)
    return found


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("thin", [2, 7, 50, 1 << 20])
def test_each_feature_has_the_trace_of_all_rows(thin, dtype):
    x, y = problem(n=20_000)
    # None of the rows that are taken has the last feature.
    x[:, -1] = 0.0
    x[200:260, -1] = 1.0
    weight = np.random.default_rng(2).integers(0, 3, len(y)).astype(float)
    shift = np.append(np.ones(x.shape[1] - 1), 0.0)
    exact = sums(x, y, weight, dtype, shift)
    found = sums(x, y, weight, dtype, shift, thin=thin)
    traces = [np.einsum("jjk->j", each.curvature) for each in (found, exact)]
    assert_allclose(*traces, rtol=1e-5 if dtype == np.float32 else 1e-12)
    # What is not the curvature has the same bits.
    assert_array_equal(found.gradient, exact.gradient)
    assert_array_equal(found.loss, exact.loss)


def test_the_curvature_of_some_rows_is_about_that_of_all_and_no_less_than_nothing():
    x, y = problem(n=40_000)
    loss = dask_gd.Softmax(CLASSES)
    exact, found = (
        expand_class_pairs(sums(x, y, thin=thin), loss, Request(EXACT)).curvature[:, :, 0] for thin in (1, 8)
    )
    # A number added to a feature's weights of all classes has no curvature.
    common = np.kron(np.eye(15), np.ones((CLASSES, 1)))
    assert np.abs(found @ common).max() < 1e-9 * np.abs(found).max()
    assert np.linalg.eigvalsh(found)[0] > -1e-9 * np.abs(found).max()
    others = np.linalg.qr(np.hstack([common, np.random.default_rng(0).normal(size=(90, 75))]))[0][:, 15:]
    ratios = np.linalg.eigvals(np.linalg.solve(others.T @ exact @ others, others.T @ found @ others)).real
    assert ratios.min() > 0.6
    assert ratios.max() < 1.5


@pytest.mark.parametrize(("thin", "step"), [(2, 656), (56, 656), (7, 3264), (3, 64), (1 << 20, 656)])
def test_about_one_row_in_so_many_is_taken(thin, step):
    rows = Thinning(thin, step, 3)
    share = min(rows.rows, step) / (rows.every * step)
    assert 1 / thin <= share <= max(2 / thin, 1 / thin + LEAST_ROWS / step / rows.every)


@pytest.mark.parametrize("penalty", [None, dask_gd.L2(1e-3), dask_gd.L1(1e-3)])
@pytest.mark.parametrize("kind", ["", "sorted", "sorted by class", "rare", "heavy", "badly scaled"])
def test_the_optimum_is_that_of_exact_curvatures(kind, penalty, asked, monkeypatch):
    x, y = problem(kind)
    found = fit(x, y, penalty=penalty)
    assert max(asked) >= 8
    monkeypatch.setattr(thinning, "CHEAP", np.inf)
    exact = fit(x, y, penalty=penalty)
    assert found.converged
    assert exact.converged
    assert_allclose(found.history.loss[-1], exact.history.loss[-1], rtol=1e-8)
    # It costs few more passes, each of far less work.
    assert float(found.history.passes.sum()) <= float(exact.history.passes.sum()) + 4


def test_a_stage_that_takes_long_has_the_curvature_of_all_rows_in_the_end(asked):
    fit(*problem(n=4000), tol=0.0, max_iter=40, penalty=dask_gd.L2(1e-2))
    assert asked[0] > 1
    assert asked[-1] == 1 or len(asked) < 10


def test_rows_without_an_intercept_and_row_weights_are_served(asked, monkeypatch):
    x, y = problem()
    for options in ({"fit_intercept": False}, {"sample_weight": np.arange(len(y)) % 3 + 0.0}, {"offset": x[:, 0] / 9}):
        for columns in (x, x + 1e4):
            monkeypatch.setattr(thinning, "CHEAP", 0.0)
            found = fit(columns, y, **options)
            monkeypatch.setattr(thinning, "CHEAP", np.inf)
            exact = fit(columns, y, **options)
            assert_allclose(found.history.loss[-1], exact.history.loss[-1], rtol=1e-8)


def test_small_data_and_other_losses_have_all_rows(monkeypatch):
    found = []
    monkeypatch.setattr(fit_track, "thinned", lambda *asked: found.append(thinning.thinned(*asked)) or found[-1])
    x, y = problem(n=20_000)
    fit(x, y)
    monkeypatch.setattr(thinning, "CHEAP", 0.0)
    fit(x, (y > 2).astype(float), loss="logistic")
    assert {request.thin for request in found} == {1}


def test_the_bits_do_not_depend_on_workers(asked, tmp_path, four, clusters):
    x, y = problem()
    source = [to_zarr(x, 1200, tmp_path / "x"), to_zarr(y, 1200, tmp_path / "y")]
    options = {"loss": dask_gd.Softmax(CLASSES), "solver": "newton", "tol": 1e-6}
    runs = [dask_gd.fit(*source, **options)]
    with Client(clusters(2)):
        runs.append(dask_gd.fit(*source, **options))
    with dask.config.set(scheduler="threads"):
        runs.append(dask_gd.fit(*source, **options))
    assert max(asked) >= 8
    for run in runs[1:]:
        assert_array_equal(run.parameters, runs[0].parameters)
        assert_array_equal(run.history.loss, runs[0].history.loss)


def test_a_fit_stopped_after_any_step_goes_on_to_the_same_bits(asked, tmp_path):
    x, y = problem()
    source = [to_zarr(x, 1200, tmp_path / "x"), to_zarr(y, 1200, tmp_path / "y")]
    options = {"loss": dask_gd.Softmax(CLASSES), "solver": "newton", "tol": 1e-6}
    whole = dask_gd.fit(*source, **options)
    assert max(asked) >= 8
    for n in range(whole.n_iter + 1):
        resumed = stopped_and_resumed(partial(dask_gd.fit, *source, **options), tmp_path / f"run-{n}", n)
        assert_array_equal(resumed.parameters, whole.parameters)
        for name in ("loss", "grad_norm", "rows", "passes"):
            assert_array_equal(resumed.history[name], whole.history[name])


@pytest.mark.parametrize("strength", [0.0, 1e-9, 1e-2])
def test_an_anchored_step_is_that_of_least_norm(strength):
    """Steps of classes have no part along a number added to all of them, with a penalty on the features and without."""
    x, y = problem(n=3000, p=9)
    query = np.zeros((10, CLASSES, 1))
    loss = dask_gd.Softmax(CLASSES)
    found = expand_class_pairs(sums_of_rows(x, y[:, None], None, query, loss, Request(EXACT)), loss, Request(EXACT))
    ridge = np.append(np.full(9, strength), 0.0)[:, None, None]
    curvature = found.curvature[:, :, 0] / 3000 + np.diag(ridge[:, 0, 0].repeat(CLASSES))
    gradient = found.gradient.reshape(-1, 1, 1) / 3000
    diagonal = np.append((x**2).mean(axis=0), 1.0).repeat(CLASSES)[:, None, None] / 2
    least = np.linalg.lstsq(curvature, gradient[:, :, 0], rcond=1e-12)[0]
    step = solve(anchored(curvature[:, :, None], diagonal, ridge, CLASSES), gradient, diagonal, np.zeros(1), 54)
    assert_allclose(step[:, :, 0], least, rtol=1e-6, atol=1e-6)
