"""Several classes together: the loss and its curvature, the fit against scikit-learn, and what is refused."""

from decimal import Decimal, localcontext

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import dask_gd
from dask_gd.errors import DataError, InvalidArgumentError
from dask_gd.kernels.base import (
    BLOCK_BYTES,
    EXACT,
    Kernel,
    Part,
    Request,
    curvatures,
    expand_class_pairs,
    sums_of_rows,
)
from dask_gd.kernels.dense import DenseRows
from dask_gd.model.losses import pairs
from dask_gd.solvers import as_solver

N, P, K = 600, 4, 3


def problem(n=N, p=P, classes=K, seed=0):
    """Features in different units and off centre, classes of different size, every one there."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p)) + 2.0
    z = x @ rng.normal(size=(p, classes)) / np.sqrt(p) + np.linspace(0, 1, classes)
    x *= np.geomspace(0.1, 10.0, p)
    y = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    y[:classes] = np.arange(classes)
    return x, y


def fit(x, y, **options):
    return dask_gd.fit(x, y, **{"loss": "softmax", "tol": 1e-9, "max_iter": 1000, **options})


def scikit_learn(x, y, alpha, l1_ratio=0.0):
    solver = "saga" if l1_ratio else "newton-cg"
    c = 1 / (alpha * len(x)) if alpha else np.inf
    return LogisticRegression(C=c, l1_ratio=l1_ratio, solver=solver, tol=1e-12, max_iter=200_000).fit(x, y)


def sums(query, x, y, request):
    loss = dask_gd.Softmax(query.shape[1])
    return expand_class_pairs(sums_of_rows(x, y[:, None].astype(float), None, query, loss, request), loss, request)


@given(st.integers(0, 1000), st.integers(2, 5), st.booleans())
def test_gradient_and_curvature_are_the_differences_of_loss_and_gradient(seed, classes, intercept):
    x, y = problem(n=50, classes=classes, seed=seed)
    query = 0.3 * np.random.default_rng(seed).normal(size=(P + intercept, classes, 1))
    found = sums(query, x, y, Request(EXACT))
    step = 1e-5
    for i in range(query.size):
        move = np.zeros(query.size)
        move[i] = step
        move = move.reshape(query.shape)
        above, below = (sums(query + sign * move, x, y, Request()) for sign in (1, -1))
        slope = (above.loss - below.loss)[0] / (2 * step)
        assert_allclose(found.gradient.ravel()[i], slope, rtol=1e-6, atol=1e-4)
        change = (above.gradient - below.gradient).ravel() / (2 * step)
        assert_allclose(found.curvature[:, i, 0], change, rtol=1e-5, atol=1e-3)


def test_predictions_far_out_neither_overflow_nor_lose_the_loss():
    loss = dask_gd.Softmax(3)
    z = np.array([[1e4, -1e4, 0.0], [-1e4, -1e4, 1e4]])[:, :, None]
    y = loss.indicators(np.array([[1.0], [2.0]]))[:, :, None]
    value, slope = loss.value_and_slope(z, y)
    assert value.ravel().tolist() == [2e4, 0.0]
    assert slope[0].ravel().tolist() == [1.0, -1.0, 0.0]
    assert loss.curvature(z[:, :, 0], y[:, :, 0]).tolist() == [[0.0] * 3] * 2
    assert [list(map(int, each)) for each in pairs(3)] == [[0, 0, 1], [1, 2, 2]]


@given(st.lists(st.integers(-300, 300), min_size=2, max_size=6), st.integers(0, 5))
def test_the_loss_keeps_its_digits_however_small_it_is(z, target):
    """A loss that is rounded to the digits of 1 has no step that lowers it, long before its gradient is 0."""
    target %= len(z)
    loss = dask_gd.Softmax(len(z))
    predictions = np.array([z], dtype=float)[:, :, None]
    value, slope = loss.value_and_slope(predictions, loss.indicators(np.array([[float(target)]]))[:, :, None])
    with localcontext(prec=300):
        over_target = [Decimal(each - z[target]).exp() for each in z]
        total = sum(over_target)
        assert value.item() == pytest.approx(float(total.ln()), rel=1e-14, abs=0.0)
        shares = np.array([float(each / total) for each in over_target])
    shares[target] -= 1.0
    assert_allclose(slope[0, :, 0], shares, rtol=1e-13, atol=3e-16)


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
@pytest.mark.parametrize("alpha", [0.0, 1e-3, 0.1])
def test_weights_are_those_of_scikit_learn(alpha, solver):
    x, y = problem()
    run, model = fit(x, y, penalty=dask_gd.L2(alpha), solver=solver), scikit_learn(x, y, alpha)
    size = np.abs(model.coef_).max()
    # Without a penalty only differences between classes are determined; both come out with the sum 0.
    assert_allclose(run.weights.values.T / size, model.coef_ / size, atol=1e-6)
    assert_allclose(run.intercept.values, model.intercept_ - model.intercept_.mean(), rtol=1e-6, atol=1e-6)
    assert_allclose(run.weights.values.sum(axis=1) / size, 0.0, atol=1e-6)
    assert_allclose(run.intercept.values.sum(), 0.0, atol=1e-6)
    assert_allclose(run.predict(x), model.predict_proba(x), atol=1e-6)


def test_restrained_steps_leave_no_number_added_to_all_classes():
    """Far from the solution Newton's steps are held back class by class, and would move them all."""
    x, y = load_digits(return_X_y=True)
    run = fit(x[:300] / 16, y[:300], penalty=dask_gd.L2(1e-3), solver="newton")
    assert_allclose(run.intercept.values.sum(), 0.0, atol=1e-9)
    assert_allclose(run.weights.values.sum(axis=1), 0.0, atol=1e-9)


@pytest.mark.parametrize("l1_ratio", [1.0, 0.5])
def test_absolute_values_give_scikit_learns_weights_and_zeros(l1_ratio):
    x, y = problem()
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    run = fit(x, y, penalty=dask_gd.ElasticNet(0.05, l1_ratio))
    model = scikit_learn(x, y, 0.05, l1_ratio)
    assert run.converged
    assert_allclose(run.weights.values.T, model.coef_, atol=1e-6)
    assert_array_equal(run.weights.values.T == 0, model.coef_ == 0)
    assert (model.coef_ == 0).any()


def test_two_classes_are_a_logistic_fit():
    x, y = problem(classes=2)
    both, one = fit(x, y, penalty=dask_gd.L2(0.1)), fit(x, y, loss="logistic", penalty=dask_gd.L2(0.05))
    assert_allclose(np.diff(both.weights.values)[:, 0], one.weights.values, rtol=1e-6)
    assert_allclose(both.predict(x)[:, 1], one.predict(x), rtol=1e-6)


@pytest.mark.parametrize("kind", ["dask", "zarr", "float32"])
def test_chunks_and_kinds_of_data_do_not_matter(tmp_path, kind):
    x, y = problem()
    # Gradients of 1e-9 leave the weights 1e-7 apart here.
    options = {"tol": 1e-12}
    whole = fit(x, y, **options)
    if kind == "zarr":
        root = zarr.open_group(tmp_path / "data.zarr", mode="w")
        root.create_array("x", data=x, chunks=(70, 3), config={"write_empty_chunks": True})
        root.create_array("y", data=y, chunks=(110,), config={"write_empty_chunks": True})
        run = fit(dask_gd.open(tmp_path / "data.zarr", x="x", y="y"), None, **options)
    elif kind == "dask":
        run = fit(da.from_array(x, chunks=(130, 2)), da.from_array(y, chunks=99), **options)
    else:
        run = fit(x.astype(np.float32), y)
    tolerance = 1e-5 if kind == "float32" else 1e-8
    assert_allclose(run.weights, whole.weights, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
def test_weights_of_rows_are_repetitions(solver):
    x, y = problem(n=200)
    times = np.random.default_rng(1).integers(0, 3, len(y))
    times[:K] = 1
    weighted = fit(x, y, sample_weight=times, solver=solver)
    repeated = fit(np.repeat(x, times, axis=0), np.repeat(y, times), solver=solver)
    assert_allclose(weighted.weights, repeated.weights, rtol=1e-6)


@pytest.mark.parametrize("solver", ["gradient_descent", "nesterov"])
def test_an_automatic_learning_rate_is_safe(solver):
    x, y = problem()
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    run = fit(x, y, solver=solver, penalty=dask_gd.L2(0.1), tol=1e-7, max_iter=3000)
    assert run.converged
    assert (np.diff(run.history.loss) < 1e-15).all() or solver == "nesterov"
    assert_allclose(run.weights, fit(x, y, penalty=dask_gd.L2(0.1)).weights, atol=1e-6)


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
@pytest.mark.parametrize("p", [4, 30])
def test_a_start_on_samples_ends_where_the_full_fit_does(solver, p):
    x, y = problem(n=20_000, p=p)
    chunked = da.from_array(x, chunks=(1000, p))
    run, plain = fit(chunked, y, solver=solver), fit(chunked, y, solver=solver, initial_weights=np.zeros((p, K)))
    assert 0 < float(run.history.passes[0]) < 1 == float(plain.history.passes[0])
    assert_allclose(run.weights, plain.weights, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
def test_a_resumed_fit_has_the_bits_of_one_that_ran_through(tmp_path, solver):
    x, y = problem()
    through = fit(x, y, solver=solver, store=tmp_path / "a")
    for max_iter in (1, 3, 1000):
        parts = fit(x, y, solver=solver, store=tmp_path / "b", max_iter=max_iter)
    assert_array_equal(through.weights, parts.weights)
    loaded = dask_gd.load(tmp_path / "a")
    assert loaded.loss == dask_gd.Softmax(K)
    assert_array_equal(loaded.predict(x), through.predict(x))


def test_probabilities_are_lazy_and_sum_to_one():
    x, y = problem()
    run = fit(x, y)
    found = run.predict(da.from_array(x, chunks=(100, 2)))
    assert isinstance(found, da.Array)
    assert (found.shape, run.weights.dims) == ((N, K), ("feature", "output"))
    assert_allclose(found.compute(), run.predict(x), rtol=1e-12)
    assert_allclose(found.sum(axis=1).compute(), 1.0)


def test_classes_are_counted_or_given():
    x, y = problem()
    assert fit(x, y).loss == dask_gd.Softmax(K)
    assert fit(da.from_array(x), da.from_array(y.astype(np.int8), chunks=50)).loss == dask_gd.Softmax(K)
    assert fit(x, y, loss=dask_gd.Softmax(K)).loss == dask_gd.Softmax(K)


@pytest.mark.parametrize(
    ("change", "loss", "error", "message"),
    [
        ({5: 1.5}, "softmax", DataError, r"whole numbers 0 to 2.*found 1.5 in row 5 of 'y'"),
        ({5: -1}, "softmax", DataError, r"found -1 in row 5"),
        ({5: 7}, dask_gd.Softmax(3), DataError, r"found 7 in row 5"),
        ({5: 5}, "softmax", DataError, r"6 classes needs rows of each; .*is 3, 4\."),
        ({5: 1e6}, "softmax", InvalidArgumentError, r"at most 10,000"),
        ({5: np.nan}, dask_gd.Softmax(3), DataError, r"nan in row 5 of 'y'"),
        ({0: np.nan}, "softmax", DataError, r"nan in row 0 of 'y'"),
    ],
)
def test_targets_that_are_no_classes_are_refused(change, loss, error, message):
    x, y = problem()
    y = y.astype(float)
    for row, value in change.items():
        y[row] = value
    with pytest.raises(error, match=message):
        fit(x, y, loss=loss)


@pytest.mark.parametrize("columns", [pd.DataFrame, lambda y: xr.DataArray(y, dims=("r", "o"), coords={"o": ["c"]})])
def test_the_name_of_a_column_of_classes_names_no_class(tmp_path, columns):
    x, y = problem()
    run = fit(x, columns(y[:, None]), store=tmp_path)
    assert_array_equal(run.weights.values, fit(x, y).weights.values)
    assert_array_equal(dask_gd.load(tmp_path).weights, run.weights)


@pytest.mark.parametrize(("classes", "solver"), [(24, "newton"), (25, "lbfgs")])
def test_many_classes_are_left_to_the_solver_without_a_curvature(classes, solver):
    assert as_solver("auto", dask_gd.Softmax(classes), dask_gd.L2(0.0), 3).name == solver


def test_blocks_are_so_short_that_classes_fill_no_more_than_features():
    request, query = Request(EXACT), np.zeros((3, 40, 1))
    kernel = Kernel(Part(0, query, dask_gd.Softmax(40), request, DenseRows(np.dtype(float), 2)))
    assert kernel.step * curvatures(40, dask_gd.Softmax(40), request) * 8 <= max(BLOCK_BYTES, 64 * 780 * 8)
    # The length of the blocks changes no more than the order of the sums.
    x, y = problem(classes=40, p=2)
    whole = sums(query, x, y, request)
    parts = [sums(query, x[i : i + 7], y[i : i + 7], request) for i in range(0, N, 7)]
    assert_allclose(whole.curvature, sum(part.curvature for part in parts), rtol=1e-9, atol=1e-9)


def test_the_classes_of_a_dataset_are_given():
    x, y = problem()
    data = xr.Dataset({f"x{i}": ("row", x[:, i]) for i in range(P)} | {"y": ("row", y)})
    names = {"features": [f"x{i}" for i in range(P)], "target": "y", "sample_dims": "row"}
    run = dask_gd.fit(data, **names, loss=dask_gd.Softmax(K), tol=1e-9)
    assert_allclose(run.weights.values, fit(x, y).weights.values, rtol=1e-8, atol=1e-8)
    assert run.predict(data).dims == ("row", "output")
    with pytest.raises(InvalidArgumentError, match=r"give Softmax\(classes=...\)"):
        dask_gd.fit(data, **names, loss="softmax")


def test_indicators_in_columns_are_refused():
    x, y = problem()
    with pytest.raises(InvalidArgumentError, match="y has 3 columns"):
        fit(x, np.eye(K)[y])


@pytest.mark.parametrize("classes", [1, 2.0, True, "3", 20_000])
def test_a_number_of_classes_that_is_none_is_refused(classes):
    with pytest.raises(InvalidArgumentError, match="Softmax"):
        dask_gd.Softmax(classes)
