"""A loss of the user's own is fitted, stored and resumed like the others."""

from dataclasses import dataclass
from functools import partial

import dask.array as da
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import dask_gd
from dask_gd.errors import DataError, InvalidArgumentError, InvalidTypeError, StoreError
from dask_gd.model.losses import Custom, Logistic, Poisson
from dask_gd.passes.checks import bad_curvature


def problem(n=300, p=3):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, p))
    return x, x @ rng.normal(size=p) + 1 + rng.standard_t(3, size=n)


def pseudo_huber(z, y):
    return np.sqrt(1 + (z - y) ** 2) - 1


def pseudo_huber_slope(z, y):
    return (z - y) / np.sqrt(1 + (z - y) ** 2)


OWN = (pseudo_huber, pseudo_huber_slope)


@pytest.mark.parametrize("solver", ["auto", "lbfgs", dask_gd.GradientDescent(0.3)])
def test_a_pair_of_functions_is_minimised(solver):
    x, y = problem()
    run = dask_gd.fit(da.from_array(x, chunks=(50, 2)), y, loss=OWN, solver=solver, tol=1e-9, max_iter=3000)
    assert run.converged
    residual = run.predict(x) - y
    slope = residual / np.sqrt(1 + residual**2)
    assert_allclose(np.append(x.T @ slope, slope.sum()) / len(x), 0.0, atol=1e-8)


@pytest.mark.parametrize("name", ["squared", "logistic", "poisson"])
def test_a_known_loss_written_out_has_the_known_weights(name):
    x, y = problem()
    y = {"squared": y, "logistic": (y > 0) * 1.0, "poisson": np.floor(np.abs(y))}[name]
    known = dask_gd.losses.as_loss(name)
    own = (lambda z, y: known.value_and_slope(z, y)[0], lambda z, y: known.value_and_slope(z, y)[1])
    options = {"penalty": dask_gd.L2(0.01), "tol": 1e-10}
    assert_allclose(
        dask_gd.fit(x, y, loss=own, **options).weights, dask_gd.fit(x, y, loss=name, **options).weights, rtol=1e-8
    )


def test_the_curvature_is_the_slopes_difference():
    known, rng = Poisson(), np.random.default_rng(0)
    z, y = rng.normal(size=50) * 3, rng.poisson(3, 50).astype(float)
    own = Custom(lambda z, y: known.value_and_slope(z, y)[0], lambda z, y: known.value_and_slope(z, y)[1])
    assert_allclose(own.curvature(z, y), known.curvature(z, y), rtol=1e-7, atol=1e-9)


def test_a_stored_fit_goes_on_and_is_loaded_with_its_loss(tmp_path):
    x, y = problem()
    through = dask_gd.fit(x, y, loss=OWN)
    dask_gd.fit(x, y, loss=OWN, store=tmp_path, max_iter=2)
    run = dask_gd.fit(x, y, loss=OWN, store=tmp_path)
    assert_array_equal(run.weights, through.weights)
    with pytest.raises(InvalidArgumentError, match=r"loss 'custom', your own: load\(path, loss=...\)"):
        dask_gd.load(tmp_path)
    assert_array_equal(dask_gd.load(tmp_path, loss=OWN).predict(x), run.predict(x))
    with pytest.raises(StoreError, match="loss"):
        dask_gd.fit(x, y, loss=(pseudo_huber, np.subtract), store=tmp_path)


def scaled(by):
    return lambda z, y: by * pseudo_huber(z, y), lambda z, y: by * pseudo_huber_slope(z, y)


def partly(by):
    return partial(pseudo_huber_of, by), partial(pseudo_huber_slope_of, by)


def pseudo_huber_of(by, z, y):
    return by * pseudo_huber(z, y)


def pseudo_huber_slope_of(by, z, y):
    return by * pseudo_huber_slope(z, y)


class Scaled:
    def __init__(self, by, function):
        self.by, self.function = by, function

    def __call__(self, z, y):
        return self.by * self.function(z, y)


def objects(by):
    return Scaled(by, pseudo_huber), Scaled(by, pseudo_huber_slope)


@pytest.mark.parametrize("make", [scaled, partly, objects])
def test_functions_are_told_apart_by_what_they_hold(tmp_path, make):
    x, y = problem()
    options = {"penalty": dask_gd.L2(0.1), "store": tmp_path}
    run = dask_gd.fit(x, y, loss=make(2.0), **options)
    assert_array_equal(dask_gd.fit(x, y, loss=make(2.0), **options).weights, run.weights)
    with pytest.raises(StoreError, match="loss"):
        dask_gd.fit(x, y, loss=make(0.5), **options)


def test_a_function_cannot_change_what_others_read():
    def value(z, y):
        z -= y
        return z * z / 2

    with pytest.raises(ValueError, match="read-only"):
        dask_gd.fit(*problem(), loss=(value, np.subtract))


def test_an_object_that_is_a_loss_is_one():
    @dataclass(frozen=True)
    class Shifted:
        """Least squares of the target and a constant."""

        by: float
        name = "shifted"
        quadratic = True
        smooth = True
        curvature_bound = 1.0
        targets = "numbers"

        def value_and_slope(self, z, y):
            return 0.5 * (z - y - self.by) ** 2, z - y - self.by

        def curvature(self, z, y):
            return np.ones(np.broadcast_shapes(z.shape, y.shape))

        def inverse_link(self, z):
            return z

        def link(self, mean):
            return mean

        def bad_target(self, y):
            return None

        def check_target_mean(self, mean):
            pass

    x, y = problem()
    run = dask_gd.fit(x, y, loss=Shifted(2.0))
    assert run.loss == Shifted(2.0)
    assert_allclose(run.predict(x), dask_gd.fit(x, y).predict(x) + 2.0)


@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        ((pseudo_huber, "slope"), InvalidTypeError, "slope is a str; give two functions"),
        ((pseudo_huber,), InvalidArgumentError, "not known"),
        (
            (lambda z, y: np.sum(z - y), np.subtract),
            InvalidTypeError,
            r"value\(prediction, target\) returned shape \(\)",
        ),
    ],
)
def test_what_is_no_pair_of_functions_is_refused(loss, error, message):
    with pytest.raises(error, match=message):
        dask_gd.fit(*problem(), loss=loss)


def test_an_automatic_learning_rate_is_refused():
    with pytest.raises(InvalidArgumentError, match="no step is safe; give learning_rate a number"):
        dask_gd.fit(*problem(), loss=OWN, solver="gradient_descent")


@dataclass(frozen=True)
class Faulty(Logistic):
    """The logistic loss, with a wrong curvature of predictions above a limit."""

    wrong: float
    above: float
    bound: float | None = 0.25
    name = "faulty"

    @property
    def curvature_bound(self):
        return self.bound

    def curvature(self, z, y):
        return np.where(z > self.above, self.wrong, super().curvature(z, y))


@pytest.mark.parametrize("bound", [0.25, None], ids=["bounded", "unbounded"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -1.0])
def test_a_curvature_that_alone_is_not_finite_or_negative_is_refused_by_row(wrong, bound):
    x, y = problem()
    offset = np.zeros(len(x))
    offset[123] = 30.0
    loss = Faulty(wrong, above=20.0, bound=bound)
    with pytest.raises(DataError, match=f"faulty loss has a curvature of {wrong:g} in row 123, where its value"):
        dask_gd.fit(da.from_array(x, chunks=(50, 2)), (y > 0) * 1.0, offset=offset, loss=loss, solver="newton")


def test_a_curvature_that_turns_bad_in_the_middle_of_a_fit_is_refused():
    x, y = problem()
    loss = Faulty(np.nan, above=0.2)
    with pytest.raises(DataError, match="faulty loss has a curvature of nan in row"):
        dask_gd.fit(x, (y > 0) * 1.0, loss=loss, solver="newton")


def test_a_curvature_that_overflows_just_before_its_slope_is_no_fault():
    """It is of predictions far out, from which a solver goes back."""
    loss = Custom(lambda z, y: np.exp(z) - y * z, lambda z, y: np.exp(z) - y)
    z = np.array([[709.7826]])
    y = np.ones((1, 1))
    assert np.isfinite(loss.value_and_slope(z, y)).all()
    with np.errstate(over="ignore"):
        assert np.isinf(loss.curvature(z, y))
        assert bad_curvature(loss, z, y) is None
