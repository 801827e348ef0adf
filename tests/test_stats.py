"""The kernel's sums equal the textbook formula, and add up however the rows are cut."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from dask_gd import L2, Logistic, Poisson, Squared
from dask_gd.errors import DataError
from dask_gd.kernels import base, products
from dask_gd.kernels.base import BOUND, EXACT, Request, combine, sums_of_rows, zero_sums
from dask_gd.model.losses import Loss
from dask_gd.solvers.objective import Quadratic, gradient_cosine, objective

every_loss = pytest.mark.parametrize("loss", [Squared(), Logistic(), Poisson()], ids=lambda loss: loss.name)
every_intercept = pytest.mark.parametrize("intercept", [False, True], ids=["no intercept", "intercept"])
ALL = Request(EXACT, moments=True)


@pytest.fixture(autouse=True)
def _many_cache_blocks(monkeypatch):
    """Sixteen rows at a time, so that few rows make several sweeps."""
    for module in (base, products):
        monkeypatch.setattr(module, "BLOCK_BYTES", 1)
        monkeypatch.setattr(module, "BLOCK_ROWS", 16)
    assert products.block_rows(p=100, itemsize=8) == 16


class Case(NamedTuple):
    x: np.ndarray
    y: np.ndarray
    weight: np.ndarray | None
    query: np.ndarray
    loss: Loss

    def sums(self, request=ALL, rows=slice(None)):
        weight = None if self.weight is None else self.weight[rows]
        return sums_of_rows(self.x[rows], self.y[rows], weight, self.query, self.loss, request)

    def at(self, query):
        return self._replace(query=query)


def case(loss, *, intercept=True, n=50, p=4, k=1, m=1, weighted=True, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p)).astype(dtype)
    y = rng.integers(0, 2, (n, k)).astype(float)
    query = rng.normal(size=(p + intercept, k, m))
    return Case(x, y, rng.uniform(0.1, 2, n) if weighted else None, query, loss)


def dense(c, curvature):
    """The same sums in one line of mathematics each."""
    n, p = c.x.shape
    s = np.ones(n) if c.weight is None else c.weight
    x = np.hstack([c.x.astype(float), np.ones((n, len(c.query) - p))])
    z, y = np.einsum("nq,qkm->nkm", x, c.query), c.y[:, :, None]
    value, slope = c.loss.value_and_slope(z, y)
    unbounded = c.loss.curvature_bound is None
    h = (
        c.loss.curvature(z[:, :, 0], c.y)
        if curvature == EXACT or unbounded
        else np.full(c.y.shape, c.loss.curvature_bound)
    )
    return base.Sums(
        n,
        s.sum(),
        np.einsum("n,nkm->m", s, value),
        np.einsum("n,nq,nkm->qkm", s, x, slope),
        np.einsum("n,nk,nq,nr->qrk", s, h[:, :1] if c.loss.quadratic else h, x, x),
        base.Moments(s @ x, s @ x**2, s @ slope[:, :, 0] ** 2, s @ c.y, np.zeros(1), s @ (h if unbounded else 0 * h)),
    )


def assert_same(a, b, rtol=1e-12):
    assert a.rows == b.rows
    assert_allclose(a.weight, b.weight, rtol=rtol)
    for one, other in zip((*a[2:5], *(a.moments or ())), (*b[2:5], *(b.moments or ())), strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert_allclose(one, other, rtol=rtol, atol=rtol * np.abs(other).max(initial=0.0))


@every_loss
@every_intercept
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize(("k", "m"), [(1, 1), (3, 1), (1, 4), (2, 3)])
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-12), (np.float32, 2e-6)], ids=["float64", "float32"])
@pytest.mark.parametrize("curvature", [EXACT, BOUND])
def test_sums_equal_the_dense_formula(loss, intercept, weighted, k, m, dtype, rtol, curvature):
    c = case(loss, intercept=intercept, weighted=weighted, k=k, m=m, dtype=dtype)
    assert_same(c.sums(Request(curvature, moments=True)), dense(c, curvature), rtol)


@every_loss
def test_only_what_is_needed_is_computed(loss):
    sums = case(loss).sums(Request())
    assert sums.curvature is None
    assert sums.moments is None
    assert_same(sums, case(loss).sums(ALL)._replace(curvature=None, moments=None))


@every_loss
def test_the_inputs_are_left_alone(loss):
    c = case(loss, k=2, m=2)
    before = [a.copy() for a in c[:4]]
    c.sums()
    for a, b in zip(c[:4], before, strict=True):
        assert_array_equal(a, b)


@every_loss
@given(cuts=st.lists(st.integers(0, 50), max_size=6), seed=st.integers(0, 9))
def test_rows_cut_anywhere_add_up_to_the_whole(loss, cuts, seed):
    c = case(loss, k=2, m=2, seed=seed)
    edges = [0, *sorted(cuts), 50]
    total = zero_sums(c.query, loss, ALL)
    for a, b in pairwise(edges):
        total = combine(total, c.sums(rows=slice(a, b)))
    assert_same(total, c.sums())


@every_loss
def test_no_rows_are_neutral(loss):
    c = case(loss, k=2, m=2)
    nothing, sums = zero_sums(c.query, loss, ALL), c.sums()
    for total in (combine(nothing, sums), combine(sums, nothing), combine(c.sums(rows=slice(0, 0)), sums)):
        assert_same(total, sums, rtol=0)


@every_loss
@every_intercept
def test_candidates_together_equal_each_alone(loss, intercept):
    c = case(loss, intercept=intercept, k=2, m=5)
    together = c.sums(Request())
    for m in range(5):
        alone = c.at(c.query[:, :, m : m + 1]).sums(Request())
        assert_allclose(together.loss[m : m + 1], alone.loss, rtol=1e-13)
        assert_allclose(together.gradient[:, :, m : m + 1], alone.gradient, rtol=1e-11)


@every_loss
def test_weight_zero_is_an_absent_row_and_weight_two_the_row_twice(loss):
    c = case(loss, weighted=False, k=2, m=2)
    times = np.random.default_rng(1).integers(0, 3, len(c.x))
    repeated = Case(np.repeat(c.x, times, 0), np.repeat(c.y, times, 0), None, c.query, loss)
    weighted = c._replace(weight=times.astype(float)).sums()
    assert_same(weighted._replace(rows=times.sum()), repeated.sums())


@every_loss
@pytest.mark.parametrize("factor", [1e-60, 1e-30, 3.0, 1e30, 1e60])
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-11), (np.float32, 1e-5)], ids=["float64", "float32"])
def test_the_objective_has_no_unit_of_weight(loss, factor, dtype, rtol):
    c = case(loss, k=2, dtype=dtype)
    one, other = (
        objective(sums.sums(), c.query, L2(0.1), loss, 4) for sums in (c, c._replace(weight=factor * c.weight))
    )
    for a, b in zip(other[:5], one[:5], strict=True):
        assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max())


@every_intercept
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_sufficient_statistics_give_the_sums_at_any_query(intercept, dtype):
    c = case(Squared(), intercept=intercept, k=2, dtype=dtype)
    quadratic = Quadratic(c.query, c.sums())
    elsewhere = np.random.default_rng(2).normal(size=(*c.query.shape[:2], 3))
    evaluated, request = quadratic(elsewhere), Request()
    assert_same(
        evaluated._replace(curvature=None, moments=None),
        c.at(elsewhere).sums(request),
        1e-12 if dtype == np.float64 else 2e-6,
    )


@every_loss
@every_intercept
def test_the_objectives_derivatives_are_those_of_its_value(loss, intercept):
    c, penalty, h = case(loss, intercept=intercept), L2(0.3), 1e-5
    p, q = c.x.shape[1], len(c.query)

    def seen(query, request=ALL):
        return objective(c.at(query).sums(request), query, penalty, loss, p)

    offsets = h * np.eye(q)[:, None, :]
    above, below = seen(c.query + offsets), seen(c.query - offsets)
    here = seen(c.query)
    assert_allclose(here.gradient[:, 0, 0], (above.loss - below.loss) / (2 * h), atol=1e-8)
    assert_allclose(here.curvature[:, :, 0], (above.gradient - below.gradient)[:, 0, :] / (2 * h), atol=1e-8)
    if loss.curvature_bound is not None:
        assert (here.diagonal[:, 0, 0] >= np.diag(here.curvature[:, :, 0]) - 1e-12).all()


@every_loss
def test_the_intercept_is_never_penalised(loss):
    c = case(loss, k=2)
    plain, penalised = (objective(c.sums(), c.query, L2(alpha), loss, 4) for alpha in (0.0, 5.0))
    assert_allclose(penalised.loss - plain.loss, 2.5 * (c.query[:4] ** 2).sum())
    assert_allclose((penalised.gradient - plain.gradient)[:4], 5.0 * c.query[:4])
    assert_array_equal(penalised.gradient[4], plain.gradient[4])
    assert_array_equal(penalised.curvature[4], plain.curvature[4])
    assert penalised.diagonal[4] == plain.diagonal[4]


@every_loss
def test_the_exact_curvature_never_exceeds_the_bound(loss):
    c = case(loss)
    gap = c.sums(Request(BOUND)).curvature - c.sums(Request(EXACT)).curvature
    assert np.linalg.eigvalsh(gap[:, :, 0])[0] >= -1e-10


@every_loss
def test_no_component_of_the_gradient_exceeds_its_scale(loss):
    sums = case(loss, k=3).sums()
    gradient = sums.gradient[:, :, 0] / sums.weight
    for p in (len(gradient) - 1, len(gradient)):
        assert 0 < gradient_cosine(gradient, sums.moments, sums.weight, p) <= 1 + 1e-12


@pytest.mark.parametrize(("x_unit", "y_unit"), [([1e6, 1e-6, 1, 10], 1.0), ([1, 1, 1, 1], 1e5), ([2, 4, 8, 16], 1e-3)])
def test_the_gradient_over_its_scale_has_no_units(x_unit, y_unit):
    c = case(Squared())
    query = c.query * y_unit / np.array([*x_unit, 1])[:, None, None]
    cosines = []
    for one in (c, Case(c.x * x_unit, c.y * y_unit, c.weight * 7, query, c.loss)):
        sums = one.sums()
        cosines.append(gradient_cosine(sums.gradient[:, :, 0] / sums.weight, sums.moments, sums.weight, len(x_unit)))
    assert_allclose(*cosines, rtol=1e-10)


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_one_class_is_noticed_whatever_the_weights(target):
    for seed in range(50):
        c = case(Logistic(), n=97, seed=seed)
        sums = c._replace(y=np.full((97, 1), target)).sums()
        with pytest.raises(DataError, match="both classes"):
            Logistic().check_target_mean(sums.moments.targets / sums.weight)


@pytest.mark.parametrize("loss", [Squared(), Logistic()], ids=lambda loss: loss.name)
def test_extreme_predictions_keep_the_sums_finite(loss):
    c = case(loss)
    sums = c.at(np.full_like(c.query, 1e4)).sums()
    assert all(np.isfinite(a).all() for a in (*sums[1:5], *sums.moments))
