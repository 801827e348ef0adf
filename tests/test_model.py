"""A model of the user's own goes through the same passes, solvers and stores."""

import dask.array as da
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import dask_gd
from dask_gd.errors import InvalidArgumentError, InvalidTypeError, StoreError


def problem(n=300, p=3):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, p))
    return x, x @ rng.normal(size=p) + 1 + rng.normal(size=n)


def linear(params, x, y, weight):
    """Least squares, by hand."""
    residual = x @ params["w"] + params["b"] - y
    s = np.ones(len(x)) if weight is None else weight
    return (s * residual**2).sum() / 2, {"b": (s * residual).sum(), "w": x.T @ (s * residual)}


def start(p=3):
    return {"w": np.zeros(p), "b": 0.0}


MODEL = dask_gd.Model(linear, start())


@pytest.mark.parametrize("solver", ["auto", "lbfgs", dask_gd.GradientDescent(0.5), dask_gd.Adam(0.1)], ids=repr)
def test_a_linear_model_written_out_is_the_linear_fit(solver):
    x, y = problem()
    s = np.random.default_rng(1).uniform(0, 2, len(y))
    run = dask_gd.fit(da.from_array(x, chunks=(70, 2)), y, loss=MODEL, sample_weight=s, solver=solver, max_iter=5000)
    known = dask_gd.fit(x, y, sample_weight=s)
    assert run.converged
    assert_allclose(run.params["w"], known.weights, rtol=1e-4, atol=1e-5)
    assert run.params["b"].shape == ()
    assert_allclose(run.params["b"], known.intercept, rtol=1e-4)


def test_all_parameters_are_penalised():
    x, y = problem()
    wide = np.column_stack([x, np.ones(len(x))])
    run = dask_gd.fit(x, y, loss=MODEL, penalty=dask_gd.L2(0.5), tol=1e-9)
    known = dask_gd.fit(wide, y, penalty=dask_gd.L2(0.5), fit_intercept=False)
    assert_allclose(np.append(run.params["w"], run.params["b"]), known.weights, rtol=1e-6)


def test_parameters_may_be_one_array():
    x, y = problem()

    def matrix(params, x, y, weight):
        residual = x @ params.sum(axis=0) - y
        return residual @ residual / 2, np.broadcast_to(x.T @ residual, params.shape)

    run = dask_gd.fit(x, y, loss=dask_gd.Model(matrix, np.zeros((2, 3))), tol=1e-9)
    assert run.params.shape == (2, 3)
    assert_allclose(run.params.sum(axis=0), dask_gd.fit(x, y, fit_intercept=False).weights, rtol=1e-6)


def test_a_resumed_fit_has_the_bits_of_one_that_ran_through(tmp_path):
    x, y = problem()
    through = dask_gd.fit(x, y, loss=MODEL, tol=1e-9)
    dask_gd.fit(x, y, loss=MODEL, tol=1e-9, store=tmp_path, max_iter=2)
    run = dask_gd.fit(x, y, loss=MODEL, tol=1e-9, store=tmp_path)
    assert_array_equal(run.weights, through.weights)
    with pytest.raises(InvalidArgumentError, match="linear', your own"):
        dask_gd.load(tmp_path)
    assert_array_equal(dask_gd.load(tmp_path, loss=MODEL).params["w"], run.params["w"])


def test_a_fit_goes_on_from_another():
    x, y = problem()
    first = dask_gd.fit(x, y, loss=MODEL, tol=1e-9)
    again = dask_gd.fit(x, y, loss=MODEL, initial_weights=first, max_iter=0)
    assert again.history.loss[0] == first.history.loss[-1]
    assert_array_equal(again.params["w"], first.params["w"])


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda params, x, y, weight: 1.0, r"must return \(loss_sum, gradient_sum\)"),
        (lambda params, x, y, weight: (np.ones(3), params), r"must return \(loss_sum, gradient_sum\)"),
        (lambda params, x, y, weight: (1.0, {"w": params["w"]}), r"gradient has the shapes {'w': \(3,\)}; its params"),
        (lambda params, x, y, weight: (1.0, np.zeros(4)), "its params have"),
    ],
)
def test_what_a_function_returns_is_checked(function, message):
    with pytest.raises(InvalidTypeError, match=message):
        dask_gd.fit(*problem(), loss=dask_gd.Model(function, start()))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: dask_gd.Model("linear", start()), InvalidTypeError, "a str; give a function"),
        (lambda: dask_gd.Model(linear, {}), InvalidArgumentError, "there is no parameter"),
        (lambda: dask_gd.Model(linear, {"w": np.nan}), InvalidArgumentError, "'w' holds NaN"),
    ],
)
def test_what_is_no_model_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    "options", [{"solver": "newton"}, {"penalty": dask_gd.L1(0.1)}, {"solver": "nesterov"}], ids=repr
)
def test_what_needs_a_curvature_is_refused(options):
    with pytest.raises(InvalidArgumentError):
        dask_gd.fit(*problem(), loss=MODEL, **options)


def test_a_store_is_of_one_function_and_one_set_of_shapes(tmp_path):
    x, y = problem()

    def model(shapes):
        def function(params, x, y, weight):
            flat = np.concatenate([params[name] for name in shapes])
            residual = x @ flat - y
            slope = np.split(x.T @ residual, np.cumsum(list(shapes.values()))[:-1])
            return residual @ residual / 2, dict(zip(shapes, slope, strict=True))

        return dask_gd.Model(function, {name: np.zeros(size) for name, size in shapes.items()})

    run = dask_gd.fit(x, y, loss=model({"a": 2, "b": 1}), store=tmp_path)
    again = dask_gd.fit(x, y, loss=model({"a": 2, "b": 1}), store=tmp_path)
    assert_array_equal(again.weights, run.weights)
    with pytest.raises(StoreError, match="loss"):
        dask_gd.fit(x, y, loss=model({"a": 1, "b": 2}), store=tmp_path)


def test_parameters_may_be_where_to_begin():
    x, y = problem()
    first = dask_gd.fit(x, y, loss=MODEL)
    again = dask_gd.fit(x, y, loss=MODEL, initial_weights=first.params, max_iter=0)
    assert_array_equal(again.params["w"], first.params["w"])


def test_a_function_sees_no_block_without_rows():
    x, y = problem()
    x[:100] = np.nan

    def counted(params, x, y, weight):
        assert len(x)
        return linear(params, x, y, weight)

    blocks = da.from_array(x, chunks=(100, 3))
    run = dask_gd.fit(blocks, y, loss=dask_gd.Model(counted, start()), nan="drop")
    assert run.dropped == 100
    assert_allclose(run.params["w"], dask_gd.fit(x[100:], y[100:], loss=MODEL).params["w"], rtol=1e-5)


def test_a_function_cannot_change_what_others_read():
    def shifting(params, x, y, weight):
        x -= 0.5
        return linear(params, x, y, weight)

    with pytest.raises(ValueError, match="read-only"):
        dask_gd.fit(*problem(), loss=dask_gd.Model(shifting, start()))


def test_predictions_are_the_users():
    x, y = problem()
    run = dask_gd.fit(x, y, loss=MODEL)
    with pytest.raises(InvalidArgumentError, match=r"yours to say, from run\.params"):
        run.predict(x)
    with pytest.raises(AttributeError, match=r"dask_gd\.Model"):
        dask_gd.fit(x, y).params  # noqa: B018
