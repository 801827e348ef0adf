"""Dense rows that are mostly zeros: the sums of their entries, and fits whose curvature is made of these."""

from functools import partial

import dask
import dask.array as da
import numpy as np
import pytest
from dask.distributed import Client
from helpers import stopped_and_resumed, to_zarr
from numpy.testing import assert_allclose, assert_array_equal

import dask_gd
from dask_gd.errors import NonFiniteError
from dask_gd.fitting.track import has_few_products
from dask_gd.kernels import mostly_zero
from dask_gd.kernels.base import EXACT, Request, sums_of_rows
from dask_gd.model.losses import as_loss

LEVELS = (120, 90, 30)


def problem(n=12_000, seed=0, dtype=np.float32):
    """Return a number and categories written out, of which some are rare, and targets of 0 and 1."""
    rng = np.random.default_rng(seed)
    x = np.zeros((n, 1 + sum(LEVELS)), dtype)
    x[:, 0] = rng.normal(size=n)
    first = 1
    for levels in LEVELS:
        level = np.minimum(rng.zipf(1.3, size=n), levels + 1) - 1
        rows = np.flatnonzero(level < levels)
        x[rows, first + level[rows]] = 1.0
        first += levels
    z = x @ rng.normal(size=x.shape[1]) - 1.0
    return x, (z + rng.logistic(size=n) > 0).astype(float)


def sums(x, y, monkeypatch, loss="logistic", weight=None, fit_intercept=True, by_entries=True, **request):
    monkeypatch.setattr(mostly_zero, "FEATURES", 100 if by_entries else 10**9)
    query = 0.1 * np.random.default_rng(1).normal(size=(x.shape[1] + fit_intercept, 1, 1))
    return sums_of_rows(x, y[:, None], weight, query, as_loss(loss), Request(EXACT, **request))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"fit_intercept": False},
        {"moments": True},
        {"is_rough": True},
        {"loss": "poisson"},
        {"loss": "squared", "moments": True},
        {"weight": True, "moments": True},
        {"shift": 3.0, "moments": True},
        {"shift": 3.0, "fit_intercept": False, "moments": True},
    ],
)
def test_the_sums_are_those_of_all_values(dtype, options, monkeypatch):
    x, y = problem(3000, dtype=dtype)
    options = dict(options)
    if "weight" in options:
        options["weight"] = np.random.default_rng(2).integers(0, 3, len(y)).astype(float)
    if "shift" in options:
        x[:, 0] += options["shift"]
        options["shift"] = np.append(options["shift"], np.zeros(x.shape[1] - 1))
    found = sums(x, y, monkeypatch, **options)
    expected = sums(x, y, monkeypatch, by_entries=False, **options)
    assert found.products < expected.products / 4
    exact = dtype == np.float64 and not options.get("is_rough")
    size = np.abs(expected.curvature).max()
    assert_allclose(found.curvature, expected.curvature, atol=size * (1e-13 if exact else 1e-6))
    assert_array_equal(found.gradient, expected.gradient)
    if found.moments is not None:
        assert_allclose(found.moments.features, expected.moments.features, rtol=1e-12)
        assert_allclose(found.moments.sums, expected.moments.sums, rtol=1e-12, atol=1e-9)


def test_rows_of_both_kinds_add_up(monkeypatch):
    x, y = problem(6000, dtype=float)
    x[1000:3500] += np.random.default_rng(0).normal(size=(2500, x.shape[1]))
    x[5000:5100] = 1.0
    found = sums(x, y, monkeypatch)
    expected = sums(x, y, monkeypatch, by_entries=False)
    assert 0 < found.products < expected.products
    assert_allclose(found.curvature, expected.curvature, atol=1e-13 * np.abs(expected.curvature).max())


def test_what_products_cost_is_known():
    x, y = problem(3000)
    query = np.zeros((x.shape[1] + 1, 1, 1))
    loss = as_loss("logistic")
    few = sums_of_rows(x, y[:, None], None, query, loss, Request(EXACT))
    assert has_few_products(few, x.shape[1])
    assert not has_few_products(sums_of_rows(x, y[:, None], None, query, loss, Request()), x.shape[1])
    many = sums_of_rows(x + 1, y[:, None], None, query, loss, Request(EXACT))
    assert many.products == 3000 * x.shape[1] ** 2
    assert not has_few_products(many, x.shape[1])
    both = few.plus(many)
    assert both.products == few.products + many.products


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_named(bad):
    x, y = problem(2000)
    x[1234, 56] = bad
    with pytest.raises(NonFiniteError, match=r"1234.*56|56.*1234"):
        dask_gd.fit(da.from_array(x, chunks=(500, -1)), da.from_array(y, chunks=500), loss="logistic")


@pytest.mark.parametrize("kind", ["as it comes", "sorted", "sorted by target"])
@pytest.mark.parametrize("penalty", [None, dask_gd.L2(1e-3)])
def test_fits_end_at_the_same_optimum_after_no_more_passes(kind, penalty, monkeypatch):
    x, y = problem()
    order = np.arange(len(y))
    if kind == "sorted":
        order = np.argsort(x[:, 1:121].argmax(axis=1), kind="stable")
    if kind == "sorted by target":
        order = np.argsort(y, kind="stable")
    source = (da.from_array(x[order], chunks=(600, -1)), da.from_array(y[order], chunks=600))
    options = {"loss": "logistic", "solver": "newton", "penalty": penalty, "tol": 1e-6, "max_iter": 60}
    found = dask_gd.fit(*source, **options)
    monkeypatch.setattr(mostly_zero, "FEATURES", 10**9)
    expected = dask_gd.fit(*source, **options)
    assert found.converged
    assert expected.converged
    assert_allclose(found.history.loss[-1], expected.history.loss[-1], rtol=1e-7)
    assert float(found.history.passes.sum()) <= float(expected.history.passes.sum())


def test_the_bits_do_not_depend_on_workers_or_on_where_a_fit_was_stopped(four, clusters, tmp_path):
    x, y = problem()
    source = [to_zarr(x, 600, tmp_path / "x"), to_zarr(y, 600, tmp_path / "y")]
    options = {"loss": "logistic", "solver": "newton", "tol": 1e-4, "penalty": dask_gd.L2(1e-4)}
    whole = dask_gd.fit(*source, **options)
    with Client(clusters(2)):
        again = dask_gd.fit(*source, **options)
    with dask.config.set(scheduler="threads"):
        local = dask_gd.fit(*source, **options)
        for n in (0, whole.n_iter // 2, whole.n_iter - 1):
            resumed = stopped_and_resumed(partial(dask_gd.fit, *source, **options), tmp_path / f"run-{n}", n)
            assert_array_equal(resumed.parameters, whole.parameters)
    for run in (again, local):
        assert_array_equal(run.parameters, whole.parameters)
        assert_array_equal(run.history.loss, whole.history.loss)
