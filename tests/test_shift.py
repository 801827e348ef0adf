"""Columns far from 0: coefficients, predictions and scores are those of float64 (FOUND 6, FAULTS 40, FAULTS 63)."""

import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from dask.distributed import Client

import dask_gd
from dask_gd import L1, L2, SGD, Adam, ElasticNet, GroupLasso, LocalSGD
from dask_gd.estimators import LinearRegression
from dask_gd.kernels.base import BOUND, EXACT, Request, sums_of_rows
from dask_gd.kernels.products import Near, linear
from dask_gd.kernels.shift import shifted, unshifted

N, FAR = 2000, 1e4
TRUTH = np.array([1.0, -0.5, 0.25, 0.0])


def features(n=N, far=FAR, seed=0):
    """Return float32 features of unit spread, with means that are ``far`` from 0 on either side."""
    x = np.random.default_rng(seed).normal(size=(n, len(TRUTH)))
    return (x + far * np.array([1.0, -1.0, 0.5, 1.0])).astype(np.float32)


def targets(x, loss, seed=1):
    """Return targets that depend on how far the features are from their means."""
    rng = np.random.default_rng(seed)
    x = x.astype(float)
    z = (x - x.mean(axis=0)) @ TRUTH
    if loss in ("logistic", "hinge", "squared_hinge"):
        return (rng.random(len(x)) < 1 / (1 + np.exp(-z))) * 1.0
    if loss == "softmax":
        return np.argmax(np.outer(z, [1, 0, -1]) + rng.gumbel(size=(len(x), 3)), axis=1) * 1.0
    if loss in ("poisson", "tweedie"):
        return rng.poisson(np.exp(0.5 * z)) * 1.0
    if loss == "gamma":
        return rng.gamma(2.0, np.exp(0.5 * z) / 2)
    return z + rng.normal(size=len(x))


def assert_same_model(single, double, x, atol=1e-4):
    """Check coefficients, and predictions at rows; an intercept far from the rows says nothing by itself."""
    np.testing.assert_allclose(single.weights, double.weights, atol=atol)
    np.testing.assert_allclose(single.predict(x), double.predict(x.astype(float)), rtol=atol, atol=10 * atol)


def both(y, x=None, tol=1e-6, **options):
    """Return the fits to features in float32 and to the same in float64."""
    x = features() if x is None else x
    single = dask_gd.fit(x, y, tol=tol, **options)
    double = dask_gd.fit(x.astype(float), y, tol=1e-8, **options)
    assert single.reason in ("converged", "precision")
    return single, double, x


LOSSES = [
    "squared", "logistic", "softmax", "poisson", "gamma", "tweedie", "huber", "quantile", "hinge", "squared_hinge",
]  # fmt: skip


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("loss", LOSSES)
def test_found_6_every_loss_has_the_coefficients_of_float64(loss, fit_intercept):
    assert_same_model(*both(targets(features(), loss), loss=loss, fit_intercept=fit_intercept))


@pytest.mark.parametrize("loss", ["squared", "logistic"])
@pytest.mark.parametrize(
    "solver", ["newton", "lbfgs", "gradient_descent", "momentum", "nesterov", "admm", Adam(0.05), LocalSGD(decay=1.0)]
)
def test_found_6_every_solver_has_the_coefficients_of_float64(solver, loss):
    """Also those that crawl where columns are far from 0."""
    x = features()
    y = targets(x, loss)
    options = {"max_iter": 500, "tol": 1e-6}
    if isinstance(solver, LocalSGD):
        # It ends near the minimum only.
        centre = x.astype(float).mean(axis=0)
        single = dask_gd.fit(x, y, loss=loss, solver=solver, max_iter=10)
        near = dask_gd.fit(x.astype(float) - centre, y, loss=loss, solver=solver, max_iter=10)
        np.testing.assert_allclose(single.weights, near.weights, atol=1e-3)
        return
    single = dask_gd.fit(x, y, loss=loss, solver=solver, **options)
    assert_same_model(single, dask_gd.fit(x.astype(float), y, loss=loss, tol=1e-9), x)


def test_found_6_sgd_takes_the_steps_that_it_takes_on_centred_columns():
    x = features()
    y = targets(x, "logistic")
    solver = SGD(learning_rate=0.5, batch=0.25, decay=0.1)
    chunks = {"chunks": (N // 8, -1)}
    single = dask_gd.fit(da.from_array(x, **chunks), y, loss="logistic", solver=solver, max_iter=200)
    centred = da.from_array(x.astype(float) - x.astype(float).mean(axis=0), **chunks)
    double = dask_gd.fit(centred, y, loss="logistic", solver=solver, max_iter=200)
    np.testing.assert_allclose(single.weights, double.weights, atol=0.01)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("loss", ["squared", "poisson"])
@pytest.mark.parametrize(
    "penalty", [L2(0.1), L1(0.05), ElasticNet(0.05, 0.5), GroupLasso(0.05, (0, 0, 1, 1))], ids=lambda p: p.name
)
def test_found_6_penalties_are_of_the_weights_asked_for(penalty, loss, fit_intercept):
    assert_same_model(*both(targets(features(), loss), loss=loss, penalty=penalty, fit_intercept=fit_intercept))


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_found_6_weights_offsets_and_several_targets(fit_intercept):
    rng = np.random.default_rng(2)
    x = features()
    y = np.stack([targets(x, "poisson", seed) for seed in range(3)], axis=1)
    given = {"sample_weight": rng.integers(0, 3, N) * 1.0, "offset": rng.normal(size=N), "loss": "poisson"}
    single = dask_gd.fit(x, y, fit_intercept=fit_intercept, **given)
    double = dask_gd.fit(x.astype(float), y, fit_intercept=fit_intercept, tol=1e-9, **given)
    np.testing.assert_allclose(single.weights, double.weights, atol=1e-4)


def test_found_6_targets_may_be_as_far_from_zero():
    """Of ``y = 2 x`` both are, and every solver ends at the same slopes."""
    x = features()
    y = x.astype(float) @ TRUTH + np.random.default_rng(3).normal(size=N)
    for solver in ("newton", "lbfgs", "nesterov", "admm"):
        single, double, _ = both(y, x, solver=solver)
        np.testing.assert_allclose(single.weights, double.weights, atol=1e-5)
        assert abs(single.weights.values - TRUTH).max() < 0.1


def test_found_6_the_start_may_be_given_and_its_loss_is_that_of_float64():
    x = features()
    y = targets(x, "squared")
    start = np.append(TRUTH, -(x.astype(float).mean(axis=0) @ TRUTH))
    losses = [dask_gd.fit(a, y, initial_weights=start, max_iter=0).history.loss.item() for a in (x, x.astype(float))]
    np.testing.assert_allclose(*losses, rtol=1e-6)


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
def test_found_6_sampled_starts(solver):
    """The shift is that of a sample, and of all rows where the sample's does not do."""
    x = features(4000)
    x[:, 3] = np.repeat(np.arange(40), 100) ** 2 + 1e4  # sorted by time
    y = targets(x, "logistic")
    chunks = {"chunks": (100, -1)}
    single = dask_gd.fit(da.from_array(x, **chunks), y, loss="logistic", solver=solver, tol=1e-6)
    assert (single.history.passes < 1).any()
    double = dask_gd.fit(x.astype(float), y, loss="logistic", tol=1e-9)
    np.testing.assert_allclose(single.weights * x.std(axis=0), double.weights * x.std(axis=0), atol=1e-4)


def test_found_6_search_scores_and_selects_as_in_float64():
    x = features()
    for loss, options in {
        "squared": {"scoring": "r2"},
        "logistic": {"scoring": "accuracy"},
        "softmax": {"solver": "lbfgs"},
    }.items():
        y = targets(x, loss)
        options = {"loss": loss, "alphas": [1e-3, 0.1, 1.0], "folds": 3, **options}
        single = dask_gd.search(x, y, tol=1e-6, **options)
        double = dask_gd.search(x.astype(float), y, tol=1e-8, **options)
        np.testing.assert_allclose(single.data.weights, double.data.weights, atol=1e-4)
        np.testing.assert_allclose(single.data.score, double.data.score, atol=2e-3)
        assert_same_model(single.refit(), double.refit(), x)


def test_found_6_alphas_of_a_path_begin_where_every_weight_is_zero():
    x = features()
    for loss in ("squared", "logistic"):
        y = targets(x, loss)
        options = {"loss": loss, "alphas": 4, "l1_ratios": [1.0], "folds": 2}
        single, double = (dask_gd.search(a, y, **options).data.alpha for a in (x, x.astype(float)))
        np.testing.assert_allclose(single, double, rtol=1e-4)


@pytest.mark.parametrize("kind", ["zarr", "dask", "dataset"])
def test_found_6_every_source(kind, tmp_path):
    x = features()
    y = targets(x, "logistic")
    options = {"loss": "logistic"}
    if kind == "zarr":
        store = zarr.create_array(str(tmp_path / "x.zarr"), data=x, chunks=(170, 4))
        run = dask_gd.fit(store, y, **options)
        predicted = run.predict(store).compute()
    elif kind == "dask":
        lazy = da.from_array(x, chunks=(170, 3))
        run = dask_gd.fit(lazy, y, **options)
        predicted = run.predict(lazy).compute()
    else:
        ds = xr.Dataset({f"x{i}": ("time", x[:, i]) for i in range(4)}).assign(y=("time", y))
        names = {"features": [f"x{i}" for i in range(4)], "target": "y", "sample_dims": "time"}
        run = dask_gd.fit(ds, **names, **options)
        predicted = run.predict(ds).values
    exact = dask_gd.fit(x.astype(float), y, tol=1e-9, **options)
    np.testing.assert_allclose(run.weights.values, exact.weights.values, atol=1e-4)
    np.testing.assert_allclose(predicted, exact.predict(x.astype(float)), atol=1e-3)


@pytest.mark.parametrize("solver", ["newton", "lbfgs", "nesterov"])
@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_found_6_resumed_is_uninterrupted_bit_for_bit(solver, loss, tmp_path):
    x = features()
    y = targets(x, loss)
    options = {"loss": loss, "solver": solver, "tol": 1e-12}
    whole = dask_gd.fit(x, y, max_iter=6, **options)
    dask_gd.fit(x, y, max_iter=2, store=tmp_path / "run", **options)
    resumed = dask_gd.fit(x, y, max_iter=6, store=tmp_path / "run", **options)
    np.testing.assert_array_equal(resumed.weights, whole.weights)
    np.testing.assert_array_equal(resumed.intercept, whole.intercept)
    np.testing.assert_array_equal(resumed.history.grad_norm, whole.history.grad_norm)
    assert dask_gd.load(tmp_path / "run").weights.identical(resumed.weights)


def test_found_6_a_resumed_search_has_the_same_bits(tmp_path):
    x = features()
    y = targets(x, "logistic")
    options = {"loss": "logistic", "alphas": [0.01, 0.1], "folds": 2, "solver": "lbfgs"}
    whole = dask_gd.search(x, y, **options)

    def interrupt(event):
        if isinstance(event, dask_gd.events.RoundEnded) and event.passes > 3:
            raise dask_gd.events.StopFit("enough")

    with pytest.raises(dask_gd.events.StopFit):
        dask_gd.search(x, y, store=tmp_path / "run", callbacks=[interrupt], **options)
    resumed = dask_gd.search(x, y, store=tmp_path / "run", **options)
    xr.testing.assert_identical(resumed.data, whole.data)


@pytest.mark.parametrize(
    ("case", "first"), [("constant", 1e4), ("zeros", 0.0), ("a sentinel", 1e8), ("another mean", -2e4)]
)
def test_found_6_a_first_partition_that_is_like_no_other_does_no_harm(case, first):
    """The shift is the mean of all rows, whatever their order."""
    x = features(4000)
    y = targets(x, "squared")
    x[:200, 1] = first
    if case == "constant":
        # Far from 0 in the first partition only.
        x[200:, 1] += np.float32(FAR)
    run = dask_gd.fit(da.from_array(x, chunks=(200, -1)), y)
    exact = dask_gd.fit(x.astype(float), y)
    np.testing.assert_allclose(run.weights * x.std(axis=0), exact.weights * x.std(axis=0), atol=1e-4)


def test_found_6_constant_columns_have_weight_zero_in_float32():
    x = features()
    x[:, 2] = 12345.678
    run = dask_gd.fit(x, targets(x, "squared"))
    assert run.reason == "converged"
    assert abs(run.weights.values[2]) < 1e-12


def test_columns_near_zero_take_no_pass_more():
    x = features(far=0.0)
    assert dask_gd.fit(x, targets(x, "squared")).history.passes.sum() == 1
    assert dask_gd.fit(x.astype(float), targets(x, "squared")).history.passes.sum() == 1


@pytest.mark.parametrize("loss", ["squared", "logistic", "poisson"])
def test_float64_columns_three_million_spreads_from_zero(loss):
    """FOUND 7, its second half."""
    x = np.random.default_rng(0).normal(size=(N, 4))
    y = targets(x, loss)
    for far in (3e6, 1e9):
        away = x + far
        run = dask_gd.fit(away, y, loss=loss)
        exact = dask_gd.fit(away - far, y, loss=loss)
        assert run.reason == exact.reason == "converged"
        np.testing.assert_allclose(run.weights, exact.weights, atol=1e-5)
        np.testing.assert_allclose(run.predict(away), exact.predict(away - far), atol=far * 1e-13)


def test_early_stopping_sees_the_loss_of_float64():
    x = features()
    y = targets(x, "logistic")
    found = []
    for a in (x, x.astype(float)):
        stopping = dask_gd.callbacks.EarlyStopping(a[1500:], y[1500:])
        dask_gd.fit(a[:1500], y[:1500], loss="logistic", callbacks=[stopping])
        found.append(stopping.losses[-1])
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_estimators_predict_and_score_as_in_float64():
    x = features()
    y = targets(x, "squared")
    single = LinearRegression().fit(x, y)
    double = LinearRegression().fit(x.astype(float), y)
    np.testing.assert_allclose(single.predict(x), double.predict(x.astype(float)), atol=2e-3)
    np.testing.assert_allclose(single.score(x, y), double.score(x.astype(float), y), atol=1e-5)


@pytest.mark.parametrize("curvature", [EXACT, BOUND, None])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("loss", [dask_gd.Squared(), dask_gd.Logistic(), dask_gd.Softmax(3)], ids=lambda x: x.name)
def test_a_shift_changes_no_sum_but_by_what_it_says(loss, fit_intercept, curvature):
    """In float64: with an intercept the sums are of the rows less it, without one of the rows as they are."""
    rng = np.random.default_rng(0)
    k = 3 if loss.name == "softmax" else 1
    x, shift = rng.normal(size=(500, 4)) + 3.0, np.array([3.0, 0.0, -1.0, 2.0])
    y = rng.integers(0, 2, (500, 1)) * 1.0
    s = rng.random(500)
    query = rng.normal(size=(4 + fit_intercept, k, 2))
    request = Request(curvature, moments=True, shift=shift)
    found = sums_of_rows(x, y, s, shifted(query, shift), loss, request)
    expected = sums_of_rows(
        x - shift if fit_intercept else x, y, s, shifted(query, shift), loss, request._replace(shift=None)
    )
    for name in ("loss", "gradient", "curvature"):
        if getattr(expected, name) is not None:
            np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-9, atol=1e-9)
    for a, b in zip(found.moments, expected.moments, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(unshifted(shifted(query, shift), shift), query, atol=1e-12)


@pytest.mark.parametrize("p", [1, 3, 100, 5000])
@pytest.mark.parametrize("n", [1, 7, 700])
def test_rows_less_a_shift_and_predictions_of_any_width(n, p):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, p)).astype(np.float32)
    shift = rng.normal(size=p).astype(np.float32).astype(float)
    near = Near(shift, x.dtype)
    np.testing.assert_array_equal(near(x), x - shift.astype(np.float32))
    np.testing.assert_array_equal(near(x[: n // 2]), x[: n // 2] - shift.astype(np.float32))
    w = rng.normal(size=(p, 2))
    np.testing.assert_allclose(linear(x, w, np.ones(2)), x.astype(float) @ w + 1.0, atol=1e-10)


def test_found_6_threads_and_workers_give_the_same_bits(clusters, tmp_path):
    """The shift is a sum in the order of the partitions, like all others."""
    x = features()
    y = targets(x, "logistic")
    store = zarr.create_array(str(tmp_path / "x.zarr"), data=x, chunks=(170, 4))
    threads = dask_gd.fit(store, y, loss="logistic")
    with Client(clusters(2)):
        workers = dask_gd.fit(store, y, loss="logistic")
        predicted = workers.predict(store).compute()
    assert threads.weights.identical(workers.weights)
    assert threads.intercept.identical(workers.intercept)
    np.testing.assert_array_equal(threads.predict(x), predicted)
