"""Penalties agree with their derivatives, where they have some, and keep candidates apart."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from dask_gd import L1, L2, ElasticNet
from dask_gd.errors import InvalidArgumentError
from dask_gd.penalties import Penalty, as_penalty, steepest

every_penalty = pytest.mark.parametrize(
    "penalty", [L2(0.0), L2(0.7), L2(3), L1(0.4), ElasticNet(0.4, 0.3), ElasticNet(2.0, 0.0)], ids=repr
)


@pytest.fixture
def w():
    return np.random.default_rng(0).normal(size=(4, 2, 3))


@every_penalty
def test_gradient_and_curvature_are_the_derivatives(penalty, w):
    direction, h = np.random.default_rng(1).normal(size=w.shape), 1e-5
    above, below = w + h * direction, w - h * direction
    bent = penalty.absolute() * np.sign(w)  # no weight is near 0
    slope = np.einsum("pkm,pkm->m", penalty.gradient(w) + bent, direction)
    assert_allclose(slope, (penalty.value(above) - penalty.value(below)) / (2 * h), atol=1e-8)
    change = (penalty.gradient(above) - penalty.gradient(below)) / (2 * h)
    assert_allclose(penalty.curvature() * direction, change, atol=1e-8)


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
    found = steepest(w, g, a)
    every = g + a * np.linspace(-1, 1, 2001)[:, None, None, None]
    least = np.take_along_axis(every, np.abs(every).argmin(axis=0)[None], axis=0)[0]
    assert_allclose(found, np.where(w == 0, least, g + a * np.sign(w)), atol=2e-3)
    assert_array_equal(steepest(w, g, np.zeros((4, 1, 1))), g)


@pytest.mark.parametrize("l1_ratio", [-0.1, 1.1, np.nan, "all", None])
def test_an_impossible_ratio_is_refused_by_name(l1_ratio):
    with pytest.raises(InvalidArgumentError, match=r"ElasticNet\(l1_ratio=.*from 0 to 1"):
        ElasticNet(1.0, l1_ratio)


@pytest.mark.parametrize("alpha", [-1, -1e-9, np.nan, np.inf, "strong", None])
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
