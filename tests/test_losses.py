"""Losses agree with their definitions, at moderate predictions and at absurd ones."""

from dataclasses import asdict

import dask.array as da
import numpy as np
import pytest
from helpers import CLASSES, COUNTS, EVERY, REAL
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import mean_pinball_loss, mean_tweedie_deviance

from dask_gd import Hinge, Huber, Logistic, Quantile, Squared, Tweedie
from dask_gd.errors import DataError, InvalidArgumentError
from dask_gd.model.losses import LOSSES, Loss, as_loss

every_loss = pytest.mark.parametrize("loss", EVERY, ids=repr)
Z = np.linspace(-30.0, 30.0, 61)


def targets(loss):
    """Some that the loss takes."""
    some = {"logistic": [0.0, 1.0], "hinge": [0.0, 1.0], "squared_hinge": [0.0, 1.0], "tweedie": [0.0, 0.2, 1.0, 7.0]}
    return [y for y in some.get(loss.name, [-3.0, 0.0, 0.4]) if loss.name != "tweedie" or y > 0 or loss.power < 2]


@every_loss
def test_slope_and_curvature_are_the_derivatives(loss):
    z, h = np.random.default_rng(0).uniform(-4, 4, 50), 1e-5  # off the points where the curvature jumps
    for y in targets(loss):
        target = np.full(50, y)
        (above, slope_above), (below, slope_below) = (loss.value_and_slope(z + d, target) for d in (h, -h))
        assert_allclose(loss.value_and_slope(z, target)[1], (above - below) / (2 * h), rtol=1e-6, atol=1e-7)
        assert_allclose(loss.curvature(z, target), (slope_above - slope_below) / (2 * h), rtol=1e-6, atol=1e-7)


@every_loss
def test_curvature_is_never_negative_and_attains_its_bound(loss):
    z = np.linspace(-30.0, 30.0, 1201)
    curvature = np.array([loss.curvature(z, np.full_like(z, y)) for y in targets(loss)])
    assert (curvature >= 0).all()
    assert loss.curvature_bound is None or curvature.max() == loss.curvature_bound


@every_loss
def test_a_loss_is_least_where_its_prediction_is_the_target(loss):
    """Or beyond the margin; it is 0 there, and never negative."""
    for y in targets(loss):
        with np.errstate(divide="ignore"):
            best = {"logistic": 40.0, "hinge": 1.0, "squared_hinge": 1.0}.get(loss.name, 0.0) * (2 * y - 1)
            best = best or (loss.link(np.array(y)) if y or loss.curvature_bound else np.array(-100.0))
        z = np.append(best, np.random.default_rng(0).uniform(-9, 9, 99))
        value, slope = loss.value_and_slope(z, np.full(100, y))
        assert_allclose(value[0], 0.0, atol=1e-15)
        assert_allclose(slope[0], 0.0, atol=1e-15)
        assert (value >= 0).all()


@every_loss
def test_predictions_broadcast_against_targets(loss):
    z, y = np.zeros((5, 2, 3)), np.ones((5, 2, 1))
    assert [a.shape for a in loss.value_and_slope(z, y)] == [(5, 2, 3)] * 2
    assert np.broadcast_shapes(loss.curvature(z, y).shape, z.shape) == z.shape


@pytest.mark.parametrize("loss", COUNTS, ids=repr)
def test_losses_of_counts_are_half_the_deviance(loss):
    rng = np.random.default_rng(0)
    z, y = rng.uniform(-5, 5, 200), rng.gamma(1.0, 3.0, 200)
    if loss.power < 2:
        y[::3] = 0.0
    value, _ = loss.value_and_slope(z, y)
    assert_allclose(value.mean(), mean_tweedie_deviance(y, np.exp(z), power=loss.power) / 2, rtol=1e-12)
    assert_allclose(loss.inverse_link(loss.link(y[1:2])), y[1:2])


@pytest.mark.parametrize("loss", COUNTS, ids=repr)
def test_losses_of_counts_keep_their_digits_near_the_target(loss):
    """Half the deviance is about ``y^(2 - power) d^2 / 2`` for a prediction that is off by d."""
    y, d = 1e6, 1e-4
    value, slope = loss.value_and_slope(np.log([y]) + d, np.array([y]))
    assert_allclose(value, y ** (2 - loss.power) * d**2 / 2, rtol=1e-4)
    assert_allclose(slope, y ** (2 - loss.power) * d, rtol=1e-4)


@pytest.mark.parametrize("loss", REAL + CLASSES, ids=repr)
@pytest.mark.parametrize("z", [-1e4, 1e4])
def test_a_loss_whose_curvature_is_bounded_is_finite_at_absurd_predictions(loss, z):
    """And convex: it rises by its slope."""
    for y in targets(loss):
        (near, _), (far, slope) = (loss.value_and_slope(np.array([at]), np.array([y])) for at in (z, z + np.sign(z)))
        assert np.isfinite([near, far, slope]).all()
        assert abs(far - near) <= abs(slope) * (1 + 1e-12) + 1e-11


@pytest.mark.parametrize("loss", COUNTS, ids=repr)
@pytest.mark.parametrize("z", [-1e4, 1e4])
def test_losses_of_counts_grow_beyond_all_bounds_and_are_never_undefined(loss, z):
    with np.errstate(over="ignore"):
        for y in targets(loss):
            value, slope = loss.value_and_slope(np.array([z]), np.array([y]))
            assert value == np.inf or abs(value) <= 1e5 * max(y, 1.0)
            assert not np.isnan(slope)
            assert not np.isnan(loss.curvature(np.array([z]), np.array([y])))


@pytest.mark.parametrize("quantile", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("smoothing", [2.0, 0.1])
def test_the_quantile_loss_is_the_moreau_envelope_of_the_pinball_loss(quantile, smoothing):
    loss, residual = Quantile(quantile, smoothing), np.linspace(-6, 6, 25)
    value, _ = loss.value_and_slope(-residual, np.zeros(25))
    u = np.linspace(-10, 10, 200_001)
    pinball = np.where(u > 0, quantile * u, (quantile - 1) * u)
    assert_allclose(value, [(pinball + (r - u) ** 2 / (2 * smoothing)).min() for r in residual], atol=1e-8)
    exact = np.array([mean_pinball_loss([r], [0.0], alpha=quantile) for r in residual])
    assert (value <= exact + 1e-15).all()
    assert (value >= exact - smoothing * max(quantile, 1 - quantile) ** 2 / 2 - 1e-15).all()


@pytest.mark.parametrize("y", [0.0, 1.0])
def test_the_hinge_is_rounded_by_half_its_smoothing_at_most(y):
    value, _ = Hinge(0.4).value_and_slope(Z / 10, np.full_like(Z, y))
    exact = np.maximum(0.0, 1 - (2 * y - 1) * Z / 10)
    assert (value <= exact + 1e-15).all()
    assert (value >= exact - 0.2 - 1e-15).all()


def test_the_huber_loss_is_its_definition():
    value, _ = Huber(1.5).value_and_slope(Z, np.zeros_like(Z))
    assert_allclose(value, np.where(abs(Z) <= 1.5, Z**2 / 2, 1.5 * (abs(Z) - 0.75)))


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


@pytest.mark.parametrize("loss", COUNTS, ids=repr)
def test_losses_of_counts_know_their_targets(loss):
    assert_array_equal(loss.bad_target(np.array([-1.0, 0.0, 0.5, 3.0])), [1, loss.power == 2, 0, 0])
    loss.check_target_mean(np.array([0.1]))
    with pytest.raises(DataError, match="target above 0"):
        loss.check_target_mean(np.array([0.1, 0.0]))


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_found_by_name_or_is_itself(name):
    loss = as_loss(name)
    assert isinstance(loss, Loss)
    assert loss == LOSSES[name]()
    assert as_loss(loss) is loss


@pytest.mark.parametrize("loss", EVERY, ids=repr)
def test_a_loss_is_made_again_from_its_name_and_parameters(loss):
    assert LOSSES[loss.name](**asdict(loss)) == loss


@pytest.mark.parametrize("unknown", ["hinged", None, 3, Logistic], ids=repr)
def test_what_is_no_loss_is_refused_with_the_choices(unknown):
    with pytest.raises(InvalidArgumentError, match=r"loss=.*logistic, poisson, quantile, softmax, squared"):
        as_loss(unknown)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda value: Huber(delta=value), "delta"),
        (lambda value: Quantile(smoothing=value), "smoothing"),
        (lambda value: Hinge(smoothing=value), "smoothing"),
        (lambda value: Tweedie(power=value), "power"),
        (lambda value: Quantile(quantile=value), "quantile"),
    ],
)
@pytest.mark.parametrize("value", [np.nan, 0.0, -1.0, np.inf])
def test_an_impossible_parameter_is_refused_by_name(make, name, value):
    with pytest.raises(InvalidArgumentError, match=rf"{name}={value!r}"):
        make(value)


@pytest.mark.parametrize("loss", COUNTS, ids=repr)
def test_a_curvature_is_the_same_beside_a_prediction_that_overflows(loss):
    """Rows are taken in another way where one of them is absurd."""
    z = np.linspace(-600.0, 600.0, 49)
    with np.errstate(over="ignore"):
        for y in (*targets(loss), 1e-200, 1e200):
            alone = loss.curvature(z, np.full_like(z, y))
            beside = loss.curvature(np.append(z, 800.0), np.full(50, y))[:-1]
            assert_allclose(alone, beside, rtol=1e-12)
