"""Losses agree with their definitions, at moderate predictions and at absurd ones."""

import dask.array as da
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from dask_gd import Logistic, Squared
from dask_gd.errors import DataError, InvalidArgumentError
from dask_gd.losses import LOSSES, Loss, as_loss

every_loss = pytest.mark.parametrize("loss", [Squared(), Logistic()], ids=lambda loss: loss.name)
Z = np.linspace(-30.0, 30.0, 61)


@every_loss
@pytest.mark.parametrize("y", [0.0, 1.0])
def test_slope_and_curvature_are_the_derivatives(loss, y):
    z, h, target = np.linspace(-5, 5, 41), 1e-5, np.full(41, y)
    (above, slope_above), (below, slope_below) = (loss.value_and_slope(z + d, target) for d in (h, -h))
    assert_allclose(loss.value_and_slope(z, target)[1], (above - below) / (2 * h), atol=1e-8)
    assert_allclose(loss.curvature(z, target), (slope_above - slope_below) / (2 * h), atol=1e-8)


@every_loss
def test_curvature_lies_between_zero_and_its_bound_and_attains_it(loss):
    curvature = loss.curvature(Z, np.zeros_like(Z))
    assert (curvature >= 0).all()
    assert curvature.max() == loss.curvature_bound


@every_loss
def test_predictions_broadcast_against_targets(loss):
    z, y = np.zeros((5, 2, 3)), np.ones((5, 2, 1))
    assert [a.shape for a in loss.value_and_slope(z, y)] == [(5, 2, 3)] * 2


def test_the_squared_loss_is_half_the_square():
    value, slope = Squared().value_and_slope(np.array([3.0, -2.0]), np.array([1.0, 1.0]))
    assert_array_equal(value, [2.0, 4.5])
    assert_array_equal(slope, [2.0, -3.0])


@pytest.mark.parametrize("size", [1e4, 1e300, 1e308])
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("y", [0.0, 1.0])
def test_the_logistic_loss_is_exact_where_it_is_saturated(size, sign, y):
    z = np.array([sign * size])
    value, slope = Logistic().value_and_slope(z, np.array([y]))
    probability = float(sign > 0)
    assert value == size * abs(probability - y)
    assert slope == probability - y
    assert Logistic().curvature(z, np.array([y])) == 0.0
    assert Logistic().inverse_link(z) == probability


@pytest.mark.parametrize("y", [0.0, 1.0])
def test_the_logistic_loss_keeps_its_digits_in_the_tails(y):
    value, slope = Logistic().value_and_slope(Z, np.full_like(Z, y))
    assert_allclose(value, np.logaddexp(0.0, Z if y == 0 else -Z), rtol=1e-14)
    assert_allclose(slope, 1 / (1 + np.exp(-Z)) - y, atol=1e-15)


def test_the_inverse_link_keeps_the_digits_of_rare_classes():
    z = np.linspace(-700.0, 700.0, 141)
    assert_allclose(Logistic().inverse_link(z), 1 / (1 + np.exp(-z)), rtol=1e-13)
    assert_array_equal(Squared().inverse_link(z), z)


@every_loss
def test_the_inverse_link_is_lazy_for_dask_arrays(loss):
    lazy = loss.inverse_link(da.from_array(Z, chunks=7))
    assert isinstance(lazy, da.Array)
    assert lazy.chunks == da.from_array(Z, chunks=7).chunks
    assert_array_equal(lazy.compute(), loss.inverse_link(Z))


def test_the_logistic_loss_knows_its_targets():
    assert_array_equal(Logistic().bad_target(np.array([0, 1, -1, 2, 0.5, np.nan])), [0, 0, 1, 1, 1, 1])
    assert Squared().bad_target(np.array([-1.0, 1e9])) is None


@pytest.mark.parametrize(("mean", "what"), [(0.0, "weight is 0"), (1.0, "weight is 1")])
def test_one_class_is_refused_by_name(mean, what):
    with pytest.raises(DataError, match=what):
        Logistic().check_target_mean(np.array([0.5, mean]))


def test_two_classes_and_any_squared_mean_are_accepted():
    Logistic().check_target_mean(np.array([1e-9, 0.5]))
    Squared().check_target_mean(np.array([0.0, 1.0]))


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_found_by_name_or_is_itself(name):
    loss = as_loss(name)
    assert isinstance(loss, Loss)
    assert loss.name == name
    assert as_loss(loss) is loss


@pytest.mark.parametrize("unknown", ["hinge", None, 3, Logistic], ids=repr)
def test_what_is_no_loss_is_refused_with_the_choices(unknown):
    with pytest.raises(InvalidArgumentError, match=r"loss=.*logistic, squared"):
        as_loss(unknown)
