"""Least squares that are nearly singular keep their digits."""

from fractions import Fraction

import dask.array as da
import numpy as np
import pytest
from helpers import same_bits, to_zarr
from numpy.testing import assert_allclose, assert_array_equal

import dask_gd
from dask_gd.kernels.least_squares import basis_of, shortest


def exact(x, y, s=None, ridge=0.0, intercept=True):
    """The minimum in rational arithmetic, of the numbers as they are: (q, k)."""
    a = np.column_stack([x, np.ones(len(x))]) if intercept else x
    s = np.ones(len(a)) if s is None else s
    rows = [[Fraction(v) for v in row] for row in a.tolist()]
    both = [[Fraction(w) * v for v in (*r, *map(Fraction, t))] for w, r, t in zip(s.tolist(), rows, y.tolist())]  # noqa: B905
    q = a.shape[1]
    h = [[sum(r[i] * b[j] for r, b in zip(rows, both, strict=True)) for j in range(q + y.shape[1])] for i in range(q)]
    for i in range(x.shape[1]):
        h[i][i] += Fraction(ridge) * Fraction(float(s.sum()))
    for i in range(q):
        h[i] = [v / h[i][i] for v in h[i]]
        for j in range(q):
            if j != i:
                h[j] = [v - h[j][i] * u for v, u in zip(h[j], h[i], strict=True)]
    return np.array([[float(v) for v in row[q:]] for row in h])


def ill(condition, n=200, p=5, k=1, noise=1.0, seed=0):
    """Features of this condition number, each of size 1."""
    rng = np.random.default_rng(seed)
    u, v = np.linalg.qr(rng.normal(size=(n, p)))[0], np.linalg.qr(rng.normal(size=(p, p)))[0]
    x = u * np.geomspace(1.0, 1.0 / condition, p) @ v.T
    x *= np.sqrt(n) / np.linalg.norm(x, axis=0)
    return x, x @ rng.normal(size=(p, k)) + 0.5 + noise * rng.normal(size=(n, k))


def close(run, expected, rtol=1e-6):
    found = run.parameters[: len(expected)]
    assert np.abs(found - expected).max() <= rtol * np.abs(expected).max()


@pytest.mark.parametrize("condition", [1e3, 1e5, 1e7, 1e8])
@pytest.mark.parametrize("noise", [0.0, 1e-3, 1.0])
@pytest.mark.parametrize("rows", [33, 200])
def test_six_digits_are_right(condition, noise, rows):
    x, y = ill(condition, noise=noise)
    run = dask_gd.fit(da.from_array(x, chunks=(rows, -1)), y[:, 0])
    close(run, exact(x, y))
    assert run.converged
    assert run.history.passes.sum() <= 3


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("alpha", [0.0, 1e-14])
def test_so_they_are_for_several_outputs_with_weights_and_a_slight_penalty(fit_intercept, weighted, alpha):
    x, y = ill(1e7, k=2)
    s = np.random.default_rng(1).integers(0, 3, len(x)).astype(float) if weighted else None
    options = {"sample_weight": s, "penalty": dask_gd.L2(alpha), "fit_intercept": fit_intercept}
    run = dask_gd.fit(da.from_array(x, chunks=(60, -1)), y, **options)
    close(run, exact(x, y, s, alpha, fit_intercept))


def test_far_from_zero_too():
    """Features far from 0 are nearly collinear with the intercept."""
    x, y = ill(3.0)
    x = x + 1e6
    close(dask_gd.fit(x, y[:, 0]), exact(x, y))


def test_an_offset_is_no_obstacle():
    x, y = ill(1e7)
    o = np.random.default_rng(1).normal(size=len(x))
    close(dask_gd.fit(x, y[:, 0] + o, offset=o), exact(x, (y[:, 0] + o - o)[:, None]), 1e-5)


def test_the_start_does_not_matter():
    x, y = ill(1e7)
    close(dask_gd.fit(x, y[:, 0], initial_weights=np.full(5, 3.0)), exact(x, y))


def test_other_data_takes_one_pass():
    x, y = ill(100.0)
    for a in (x, np.column_stack([x, np.zeros(len(x))])):
        assert dask_gd.fit(a, y[:, 0]).history.passes.sum() == 1


def test_a_tolerance_that_cannot_be_had_ends_there():
    x, y = ill(1e7)
    run = dask_gd.fit(x, y[:, 0], tol=1e-300)
    assert run.reason == "precision"
    close(run, exact(x, y))


def test_float32_tells_no_more_than_its_curvature():
    x, y = ill(1e7)
    assert dask_gd.fit(x.astype(np.float32), y[:, 0], tol=1e-3).history.passes.sum() <= 2


@pytest.mark.parametrize("stopped", [0, 1, 2])
def test_a_resumed_fit_has_the_bits_of_one_that_ran_through(stopped, tmp_path):
    x, y = ill(1e7)
    x, y = to_zarr(x, 40, tmp_path / "x"), y[:, 0]
    dask_gd.fit(x, y, max_iter=stopped, store=tmp_path / "run")
    same_bits(dask_gd.fit(x, y), dask_gd.fit(x, y, store=tmp_path / "run"))


@pytest.mark.parametrize("stopped", [1, 2, 3])
def test_a_store_holds_the_pass_that_refines(tmp_path, stopped):
    """Its gradient has more digits than a store."""
    x = np.vander(np.linspace(0, 1, 400), 12)
    y = np.sin(7 * x[:, -2])
    whole = dask_gd.fit(x, y)
    assert whole.history.passes.sum() > 2
    dask_gd.fit(x, y, max_iter=stopped, store=tmp_path / "run")
    same_bits(whole, dask_gd.fit(x, y, store=tmp_path / "run"))


def test_the_shortest_of_all_moves():
    untold = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert_allclose(shortest(np.array([[3.0], [1.0], [9.0]]), untold, 2), [[1.0], [-1.0], [9.0]])
    assert_array_equal(shortest(np.ones((3, 1)), untold[:, :0], 2), np.ones((3, 1)))


def test_a_basis_is_made_only_where_digits_are_lost():
    x, _ = ill(1e2)
    assert basis_of(x.T @ x) is None
    x, _ = ill(1e7)
    r = basis_of(x.T @ x)
    assert_allclose(np.tril(r, -1), 0.0)
    assert np.linalg.cond(np.linalg.solve(r.T, x.T)) < 1e3
    assert basis_of(np.ones((3, 3))) is not None
