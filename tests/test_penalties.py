"""Penalties agree with their derivatives, where they have some, and keep candidates apart."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

import dask_gd
from dask_gd import L1, L2, ElasticNet, GroupLasso
from dask_gd.errors import InvalidArgumentError, StoreMismatchError
from dask_gd.model.penalties import Penalty, as_penalty, check_features, nonsmooth
from dask_gd.model.prox import NonSmooth

every_penalty = pytest.mark.parametrize(
    "penalty",
    [
        L2(0.0),
        L2(0.7),
        L2([3, 0, 0.5, 1]),
        L1(0.4),
        L1([0.1, 0.0, 2.0, 0.4]),
        ElasticNet(0.4, 0.3),
        ElasticNet(2.0, 0.0),
        ElasticNet([0.4, 0.1, 0, 1], 0.3),
        GroupLasso(0.4, [1, 0, 1, 7]),
    ],
    ids=repr,
)


@pytest.fixture
def w():
    return np.random.default_rng(0).normal(size=(4, 2, 3))


@every_penalty
def test_gradient_and_curvature_are_the_derivatives(penalty, w):
    direction, h = np.random.default_rng(1).normal(size=w.shape), 1e-5
    above, below = w + h * direction, w - h * direction
    # No weight is near 0.
    slope = np.einsum("pkm,pkm->m", nonsmooth(penalty, 4, 4).steepest(w, penalty.gradient(w)), direction)
    assert_allclose(slope, (penalty.value(above) - penalty.value(below)) / (2 * h), atol=1e-8)
    change = (penalty.gradient(above) - penalty.gradient(below)) / (2 * h)
    assert_allclose(np.broadcast_to(penalty.curvature(), 4)[:, None, None] * direction, change, atol=1e-8)


@every_penalty
def test_candidates_together_equal_each_alone(penalty, w):
    for m in range(w.shape[2]):
        alone = w[:, :, m : m + 1]
        assert_allclose(penalty.value(w)[m : m + 1], penalty.value(alone), rtol=1e-15)
        assert_array_equal(penalty.gradient(w)[:, :, m : m + 1], penalty.gradient(alone))


def test_l2_is_half_alpha_times_the_squared_norm(w):
    assert_allclose(L2(0.5).value(w), 0.25 * (w**2).sum(axis=(0, 1)))


def test_an_elastic_net_lies_between_a_ridge_and_a_lasso(w):
    assert_allclose(ElasticNet(0.5, 0.0).value(w), L2(0.5).value(w))
    assert_allclose(L1(0.5).value(w), 0.5 * np.abs(w).sum(axis=(0, 1)))
    assert_allclose(ElasticNet(0.5, 0.2).value(w), 0.2 * L1(0.5).value(w) + 0.8 * L2(0.5).value(w))


def test_the_steepest_subgradient_is_the_least(w):
    """Of all between ``g - a`` and ``g + a`` where a weight is 0, and the only one elsewhere."""
    w[::2] = 0.0
    g, a = np.random.default_rng(1).normal(size=w.shape), np.array([0.5, 0.1, 2.0, 0.0])[:, None, None]
    found = NonSmooth(a, np.zeros(0, int)).steepest(w, g)
    every = g + a * np.linspace(-1, 1, 2001)[:, None, None, None]
    least = np.take_along_axis(every, np.abs(every).argmin(axis=0)[None], axis=0)[0]
    assert_allclose(found, np.where(w == 0, least, g + a * np.sign(w)), atol=2e-3)
    assert_array_equal(nonsmooth(L2(1.0), 4, 4).steepest(w, g), g)


@pytest.mark.parametrize("penalty", [L1([0.5, 0.0, 2.0, 0.1]), GroupLasso(0.5, list("abba"))], ids=repr)
@pytest.mark.parametrize("zero", [[], [0, 3], [0, 1, 2, 3]], ids=str)
def test_the_steepest_subgradient_is_the_fastest_way_down(penalty, zero, w):
    """Minus it is where the value falls fastest, by as much as its norm."""
    w[zero] = 0.0
    bent, g, h = nonsmooth(penalty, 4, 4), np.random.default_rng(1).normal(size=w.shape), 1e-7
    slope = bent.steepest(w, g)

    def rate(direction):
        norm = np.sqrt((direction**2).sum(axis=(0, 1)))
        change = (g * direction).sum(axis=(0, 1)) + (bent.value(w + h * direction) - bent.value(w)) / h
        return change / norm

    fastest = rate(-slope)
    assert_allclose(fastest, -np.sqrt((slope**2).sum(axis=(0, 1))), rtol=1e-5)
    for seed in range(50):
        other = -slope + 0.3 * np.random.default_rng(seed).normal(size=w.shape)
        assert (rate(other) >= fastest - 1e-5).all()


@pytest.mark.parametrize("penalty", [L1([0.5, 0.0, 2.0, 0.1]), GroupLasso(0.5, list("abba"))], ids=repr)
def test_the_proximal_point_is_the_least(penalty, w):
    bent, rate = nonsmooth(penalty, 4, 4), np.array([0.1, 1.0, 3.0])
    found = bent.prox(w, rate)

    def value(v):
        return 0.5 * ((v - w) ** 2).sum(axis=(0, 1)) + rate * bent.value(v)

    for seed in range(50):
        move = np.random.default_rng(seed).normal(size=w.shape)
        assert (value(found) <= value(found + 1e-3 * move)).all()
    assert (found[:, :, 2] == 0).any()


def test_groups_of_one_are_a_lasso_and_labels_may_be_anything(w):
    alone = GroupLasso(0.4, [3, 1, 2, 0])
    assert_allclose(alone.value(w), L1(0.4).value(w))
    assert_array_equal(GroupLasso(0.4, ["b", "a", "b", "c"]).value(w), GroupLasso(0.4, [9, 0, 9, 7]).value(w))


def test_an_intercept_never_bends():
    for penalty in (L1(0.4), GroupLasso(0.4, [0, 0, 1, 1])):
        bent = nonsmooth(penalty, 4, 5)
        u = np.ones((5, 2, 1))
        assert bent.prox(u, 100.0).ravel().tolist() == [0.0] * 8 + [1.0] * 2
        assert_allclose(bent.flat(2).value(u.reshape(10, 1, 1)), bent.value(u))


@pytest.mark.parametrize("penalty", [L2([1.0, 2.0]), L1([1.0, 2.0]), GroupLasso(1.0, [0, 1])], ids=repr)
def test_a_penalty_for_other_features_is_refused(penalty):
    check_features(penalty, 2)
    with pytest.raises(InvalidArgumentError, match=r"has 2 values, one for each feature, but there are 3"):
        check_features(penalty, 3)


def test_many_values_are_not_written_out():
    assert repr(L2(np.ones(1000))) == "L2(alpha=<1000 values>)"
    assert repr(L1([1, 2])) == "ElasticNet(alpha=(1.0, 2.0), l1_ratio=1.0)"


@pytest.mark.parametrize("groups", [[], 3, "abc", [[0, 1]], [[0, 1], [2]], [0, np.nan]], ids=str)
def test_what_is_no_grouping_is_refused(groups):
    with pytest.raises(InvalidArgumentError, match="a label for each feature"):
        GroupLasso(1.0, groups)


@pytest.mark.parametrize("groups", [["a", 1, "1"], pd.Series(["x", "y", "z"]), xr.DataArray([3, 2, 7])], ids=type)
def test_labels_are_kept_apart(groups, w):
    assert_allclose(GroupLasso(1.0, groups).value(w[:3]), L1(1.0).value(w[:3]))


class Plain:
    """A penalty that knows nothing of dask_gd."""

    name = "plain"

    def __init__(self, alpha):
        self.alpha = alpha

    def value(self, w):
        return self.alpha * (w**2).sum(axis=(0, 1)) / 2

    def gradient(self, w):
        return self.alpha * w

    def curvature(self):
        return self.alpha

    def absolute(self):
        return 0.0


def test_a_penalty_of_ones_own_is_stored_and_known_again(tmp_path):
    x, y = np.random.default_rng(0).normal(size=(50, 3)), np.arange(50.0)
    run = dask_gd.fit(x, y, penalty=Plain(0.1), store=tmp_path)
    assert_array_equal(run.weights, dask_gd.fit(x, y, penalty=Plain(0.1), store=tmp_path).weights)
    assert_allclose(run.weights, dask_gd.fit(x, y, penalty=L2(0.1)).weights)
    with pytest.raises(StoreMismatchError, match=r"penalty\.alpha: stored 0.1, now 0.2"):
        dask_gd.fit(x, y, penalty=Plain(0.2), store=tmp_path)


@pytest.mark.parametrize("l1_ratio", [-0.1, 1.1, np.nan, "all", None])
def test_an_impossible_ratio_is_refused_by_name(l1_ratio):
    with pytest.raises(InvalidArgumentError, match=r"ElasticNet\(l1_ratio=.*from 0 to 1"):
        ElasticNet(1.0, l1_ratio)


@pytest.mark.parametrize("alpha", [-1, -1e-9, np.nan, np.inf, "strong", "3", None, [], [1, -1], [[1], [1, 2]], 10**400])
def test_an_impossible_strength_is_refused_by_name(alpha):
    with pytest.raises(InvalidArgumentError, match=r"L2\(alpha=.*finite number, 0 or more"):
        L2(alpha)
    with pytest.raises(InvalidArgumentError, match=r"ElasticNet\(alpha=.*finite number, 0 or more"):
        L1(alpha)


def test_no_penalty_is_a_penalty_of_zero():
    assert isinstance(as_penalty(None), Penalty)
    assert as_penalty(None).curvature() == 0.0
    assert as_penalty(L2(0.3)) == L2(0.3)


@pytest.mark.parametrize("unknown", ["l2", 0.1, L2], ids=repr)
def test_what_is_no_penalty_is_refused_with_the_choices(unknown):
    with pytest.raises(InvalidArgumentError, match=r"penalty=.*L2\(alpha\)"):
        as_penalty(unknown)
