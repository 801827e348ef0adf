"""`fit` as its users see it: agreement with scikit-learn for any kind of data, and why it stopped."""

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from helpers import FLIGHTS, problem, sklearn_logistic, sklearn_ridge, to_zarr
from sklearn.linear_model import LinearRegression

import dask_gd
from dask_gd.errors import DivergenceWarning, InvalidArgumentError, NotFittedError


def parameters(run):
    return run.parameters[:, 0]


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize(("loss", "reference"), [("squared", sklearn_ridge), ("logistic", sklearn_logistic)])
@pytest.mark.parametrize("kind", ["numpy", "dask", "zarr"])
def test_coefficients_are_scikit_learns(solver, fit_intercept, weighted, loss, reference, kind, tmp_path):
    x, linear, binary = problem()
    y = linear if loss == "squared" else binary
    s = np.random.default_rng(1).integers(0, 3, len(y)).astype(float) if weighted else None
    expected = reference(x, y, 1e-3, s, fit_intercept)
    if kind == "dask":
        x, y, s = da.from_array(x, chunks=(97, 3)), da.from_array(y, chunks=250), s
    elif kind == "zarr":
        x, y = to_zarr(x, 97, tmp_path / "x"), to_zarr(y, 250, tmp_path / "y")
        s = s if s is None else to_zarr(s, 33, tmp_path / "s")
    run = dask_gd.fit(
        x,
        y,
        loss=loss,
        penalty=dask_gd.L2(1e-3),
        solver=solver,
        fit_intercept=fit_intercept,
        sample_weight=s,
        tol=1e-11,
        max_iter=300,
    )
    np.testing.assert_allclose(parameters(run), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("n", [1, 2, 10, 1000])
@pytest.mark.parametrize("chunk", [1, 7, 500])
def test_ridge_agrees_for_any_length_and_chunk(n, chunk):
    x, y, _ = problem(n)
    run = dask_gd.fit(da.from_array(x, chunks=(chunk, -1)), da.from_array(y, chunks=3), penalty=dask_gd.L2(0.1))
    np.testing.assert_allclose(parameters(run), sklearn_ridge(x, y, 0.1), rtol=1e-6, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "target"), [("logistic", "late"), ("squared", "delay")])
def test_flights_agree_with_scikit_learn(loss, target):
    group = zarr.open_group(FLIGHTS, mode="r")
    # Chunks of 10,000 rows, and a part of one.
    rows = slice(0, 65_000)
    x, y = group["X"][rows], group[target][rows]
    reference = sklearn_logistic if loss == "logistic" else sklearn_ridge
    run = dask_gd.fit(dask_gd.open(FLIGHTS, x="X", y=target, rows=rows), loss=loss, penalty=dask_gd.L2(1e-4), tol=1e-9)
    expected = reference(x, y, 1e-4)
    assert np.abs(parameters(run) - expected).max() <= 1e-6 * max(1, np.abs(expected).max())


def test_targets_with_columns_are_fitted_as_if_alone():
    x, a, _ = problem()
    y = np.stack([a, -2 * a**2, a[::-1]], axis=1)
    together = dask_gd.fit(x, y, penalty=dask_gd.L2(1e-2))
    assert together.weights.dims == ("feature", "output")
    for i in range(3):
        alone = dask_gd.fit(x, y[:, i], penalty=dask_gd.L2(1e-2))
        np.testing.assert_allclose(together.parameters[:, i], parameters(alone), rtol=1e-9)
    assert together.predict(x).shape == y.shape
    assert together.predict(da.from_array(x, chunks=100)).shape == y.shape


def test_a_column_target_is_a_flat_target():
    x, y, _ = problem()
    flat, column = dask_gd.fit(x, y), dask_gd.fit(x, y[:, None])
    assert column.weights.dims == ("feature",)
    np.testing.assert_array_equal(flat.weights, column.weights)
    assert column.predict(x).shape == y.shape


def test_weights_are_repetition():
    x, _, y = problem(200)
    s = np.random.default_rng(0).integers(0, 4, 200)
    weighted = dask_gd.fit(x, y, loss="logistic", penalty=dask_gd.L2(1e-2), sample_weight=s, tol=1e-10)
    repeated = dask_gd.fit(x.repeat(s, 0), y.repeat(s), loss="logistic", penalty=dask_gd.L2(1e-2), tol=1e-10)
    np.testing.assert_allclose(parameters(weighted), parameters(repeated), rtol=1e-8)


@pytest.mark.parametrize("solver", ["gradient_descent", "momentum", "nesterov", "adam"])
def test_statistics_give_the_iterates_that_passes_give(solver, monkeypatch):
    x, y, _ = problem()
    options = {"solver": solver, "penalty": dask_gd.L2(1e-2), "max_iter": 30, "tol": 0.0}
    once = dask_gd.fit(x, y, **options)
    monkeypatch.setattr(dask_gd.fitting.fit_track.FitTrack, "by_statistics", False)
    each = dask_gd.fit(x, y, **options)
    assert int(once.history.passes.sum()) == 1
    assert int(each.history.passes.sum()) == each.n_iter + 1
    # By the losses, in which rounding has not been amplified by thirty steps.
    np.testing.assert_allclose(once.history.loss[:15], each.history.loss[:15], rtol=1e-9)


def test_least_squares_is_one_step_and_exact():
    x, y, _ = problem()
    run = dask_gd.fit(x, y)
    model = LinearRegression().fit(x, y)
    np.testing.assert_allclose(run.weights, model.coef_, rtol=1e-10)
    assert run.n_iter <= 2


def test_collinear_columns_predict_as_if_one_were_absent():
    x, y, _ = problem()
    twice = np.hstack([x, x[:, :1]])
    np.testing.assert_allclose(dask_gd.fit(twice, y).predict(twice), dask_gd.fit(x, y).predict(x), rtol=1e-8)


def test_float32_is_near_float64():
    x, _, y = problem(5000, dtype=np.float32)
    narrow = dask_gd.fit(x, y, loss="logistic", penalty=dask_gd.L2(1e-3))
    wide = dask_gd.fit(x.astype(float), y, loss="logistic", penalty=dask_gd.L2(1e-3))
    np.testing.assert_allclose(parameters(narrow), parameters(wide), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("unit", [1e-9, 1e9])
def test_convergence_does_not_depend_on_units(unit):
    x, y, _ = problem()
    for solver in ("newton", "lbfgs"):
        base, scaled = (dask_gd.fit(x, y * u, solver=solver, tol=1e-8) for u in (1.0, unit))
        assert scaled.converged
        assert scaled.n_iter == base.n_iter
        np.testing.assert_allclose(scaled.weights, base.weights * unit, rtol=1e-6)


def test_the_reason_says_why_it_stopped():
    x, y, binary = problem()
    assert dask_gd.fit(x, y).reason == "converged"
    assert dask_gd.fit(x, y, solver="gradient_descent", max_iter=3).reason == "max_iter"
    first = dask_gd.fit(x, y, solver="adam", max_iter=0)
    assert (first.reason, first.n_iter, first.history.sizes["iteration"]) == ("max_iter", 0, 1)
    target = float(first.history.loss[0]) * 0.9
    hit = dask_gd.fit(x, y, solver="adam", target_loss=target)
    assert hit.reason == "target_loss"
    assert hit.converged
    assert hit.history.loss[-1] <= target < hit.history.loss[-2]
    assert dask_gd.fit(x, binary, loss="logistic", solver="lbfgs", tol=0.0, max_iter=500).reason == "precision"


def test_the_history_is_of_the_stored_weights():
    x, y, _ = problem()
    run = dask_gd.fit(x, y, solver="gradient_descent", penalty=dask_gd.L2(0.3), max_iter=5)
    residual = run.predict(x) - y
    expected = np.mean(residual**2) / 2 + 0.15 * float((run.weights**2).sum())
    np.testing.assert_allclose(run.history.loss[-1], expected)
    assert run.history.sizes["iteration"] == run.n_iter + 1


@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_divergence_is_said_with_a_safe_rate(loss):
    x, linear, binary = problem()
    y = linear if loss == "squared" else binary
    with pytest.warns(DivergenceWarning, match="safe for gradient descent") as caught:
        run = dask_gd.fit(x, y, loss=loss, solver=dask_gd.GradientDescent(learning_rate=1e3), max_iter=2000)
    assert run.reason == "diverged"
    assert not run.converged
    assert np.isfinite(run.parameters).all()
    safe = float(str(caught[0].message).split("learning rate of ")[1].split()[0])
    tame = dask_gd.fit(x, y, loss=loss, solver=dask_gd.GradientDescent(learning_rate=safe), max_iter=200)
    assert (np.diff(tame.history.loss) < 0).all()


def test_initial_weights_are_the_start():
    x, y, _ = problem()
    run = dask_gd.fit(x, y)
    again = dask_gd.fit(x, y, initial_weights=run)
    assert again.n_iter == 0
    np.testing.assert_array_equal(again.weights, run.weights)
    start = np.arange(7.0)
    zero = dask_gd.fit(x, y, initial_weights=start, max_iter=0, solver="adam")
    np.testing.assert_array_equal(zero.weights, start)
    for bad, what in ((np.ones(3), "shape"), (np.full(7, np.nan), "NaN")):
        with pytest.raises(InvalidArgumentError, match=what):
            dask_gd.fit(x, y, initial_weights=bad)


def test_prediction_is_of_the_kind_of_its_input(tmp_path):
    x, _, y = problem()
    names = [f"f{i}" for i in range(7)]
    table = xr.DataArray(x, dims=("time", "feature"), coords={"time": np.arange(600) * 2, "feature": names})
    run = dask_gd.fit(table, y, loss="logistic")
    assert run.weights.feature.values.tolist() == names
    expected = run.predict(x)
    assert isinstance(expected, np.ndarray)
    z = x @ run.weights.values + float(run.intercept)
    np.testing.assert_allclose(expected, 1 / (1 + np.exp(-z)))

    labelled = run.predict(table)
    assert labelled.dims == ("time",)
    xr.testing.assert_equal(labelled.time, table.time)
    np.testing.assert_array_equal(labelled, expected)

    with dask.config.set(scheduler=lambda *a, **k: pytest.fail("predict computed something")):
        lazy = run.predict(da.from_array(x, chunks=(100, 2)))
        stored = run.predict(to_zarr(x, 77, tmp_path / "x"))
        chunked = run.predict(table.chunk(time=50))
        source = run.predict(dask_gd.sources.as_source(to_zarr(x, 77, tmp_path / "x2"), y))
    for prediction in (lazy, stored, source):
        assert isinstance(prediction, da.Array)
        np.testing.assert_allclose(prediction.compute(), expected, rtol=1e-14)
    assert chunked.chunks is not None
    np.testing.assert_allclose(chunked, expected, rtol=1e-14)


def test_prediction_refuses_other_features():
    x, y, _ = problem()
    table = xr.DataArray(x, dims=("row", "feature"), coords={"feature": list("abcdefg")})
    run = dask_gd.fit(table, y)
    with pytest.raises(InvalidArgumentError, match=r"\(rows, 7\)"):
        run.predict(x[:, :5])
    with pytest.raises(InvalidArgumentError, match="named 'g'"):
        run.predict(table[:, ::-1])
    with pytest.raises(NotFittedError):
        dask_gd.load("data")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": "hinged"}, "choose one of gamma, .* logistic, .* squared"),
        (
            {"solver": "sag"},
            "choose one of adam, admm, auto, .*, newton, newton_schur, sgd",
        ),
        ({"penalty": "l1"}, "L2"),
        ({"max_iter": -1}, "max_iter"),
        ({"max_iter": 2.5}, "max_iter"),
        ({"tol": float("nan")}, "tol"),
        ({"tol": -1.0}, "tol"),
        ({"target_loss": float("nan")}, "target_loss"),
        ({"sample_weight": np.ones(3)}, "600 rows but sample_weight has 3"),
        ({"store": "s3://bucket/run"}, "local directory"),
    ],
)
def test_bad_arguments_are_refused_before_any_task(arguments, message):
    x, y, _ = problem()
    lazy = da.from_array(x).map_blocks(lambda block: pytest.fail("a task ran"), dtype=float, meta=np.empty((0, 0)))
    with pytest.raises(ValueError, match=message) as caught:
        dask_gd.fit(lazy, y, **arguments)
    assert isinstance(caught.value, dask_gd.DaskGDError)


def test_one_class_and_no_weight_are_refused():
    x, _, y = problem()
    with pytest.raises(ValueError, match="both classes"):
        dask_gd.fit(x, np.ones(600), loss="logistic")
    with pytest.raises(ValueError, match="weights sum to 0"):
        dask_gd.fit(x, y, sample_weight=np.zeros(600))


def test_callbacks_hear_every_iteration_in_order(tmp_path, capsys):
    x, y, _ = problem()
    heard = []
    run = dask_gd.fit(x, y, solver="adam", max_iter=5, callbacks=[heard.append, print], store=tmp_path)
    started, *iterations, ended = heard
    assert isinstance(started, dask_gd.events.FitStarted)
    assert [event.iteration for event in iterations] == list(range(6))
    assert [event.loss for event in iterations] == run.history.loss.values.tolist()
    assert ended == dask_gd.events.FitEnded("max_iter", 5, float(run.history.loss[-1]), started.run)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    assert "rows/s" in lines[1]
    assert "MB/s" in lines[1]


def test_a_callback_that_raises_loses_nothing(tmp_path):
    x, y, _ = problem()

    def raises(event):
        if getattr(event, "iteration", 0) == 3:
            raise RuntimeError("mine")
        heard.append(event)

    heard, others = [], []
    options = {"solver": "adam", "max_iter": 6}
    whole = dask_gd.fit(x, y, **options)
    with pytest.warns(dask_gd.errors.CallbackWarning, match=r"raises.* raised RuntimeError: mine; it is not"):
        run = dask_gd.fit(x, y, **options, callbacks=[raises, others.append])
    np.testing.assert_array_equal(run.weights, whole.weights)
    assert len(heard) == 4
    assert len(others) == 9
    # And where warnings are errors, what was committed is there.
    with pytest.raises(dask_gd.errors.CallbackWarning):
        dask_gd.fit(x, y, **options, store=tmp_path, callbacks=[raises])
    stored = dask_gd.load(tmp_path)
    assert (stored.n_iter, stored.reason) == (3, "interrupted")
    np.testing.assert_array_equal(dask_gd.fit(x, y, **options, store=tmp_path).weights, whole.weights)


def test_the_progress_line_shows_loss_gradient_and_speed(tmp_path):
    x, _, y = problem()
    with open(tmp_path / "progress", "w+") as file:
        dask_gd.fit(x, y, loss="logistic", callbacks=[dask_gd.Progress(file=file, mininterval=0, disable=False)])
        file.seek(0)
        text = file.read()
    for shown in ("loss 0.", "gradient", "rows/s", "MB/s", "converged"):
        assert shown in text


@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_lbfgs_fits_several_outputs_off_centre_as_if_alone(loss):
    rng = np.random.default_rng(0)
    x = np.array([30.0, -20.0, 100.0, 50.0]) + rng.standard_normal((500, 4))
    z = (x - x.mean(axis=0)) @ rng.standard_normal((4, 3)) + rng.logistic(size=(500, 3))
    y = z if loss == "squared" else (z > 0).astype(float)
    together = dask_gd.fit(x, y, loss=loss, penalty=dask_gd.L2(1e-2), solver="lbfgs", tol=1e-9)
    assert together.converged
    for i in range(3):
        alone = dask_gd.fit(x, y[:, i], loss=loss, penalty=dask_gd.L2(1e-2), tol=1e-10)
        np.testing.assert_allclose(together.parameters[:, i], parameters(alone), rtol=1e-5)


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
def test_convergence_does_not_depend_on_offsets(solver):
    x, _, y = problem()
    near, far = (dask_gd.fit(x + o, y, loss="logistic", solver=solver, tol=1e-7) for o in (0.0, 1000.0))
    assert far.converged
    np.testing.assert_allclose(far.weights, near.weights, rtol=1e-4)


def test_labelled_rows_that_differ_are_refused():
    x, y, _ = problem(10)
    rows = {"time": np.arange(10)}
    x, y = xr.DataArray(x, dims=("time", "feature"), coords=rows), xr.DataArray(y, dims="time", coords=rows)
    dask_gd.fit(x, y)
    with pytest.raises(InvalidArgumentError, match="different labels"):
        dask_gd.fit(x, y[::-1])


def test_numpy_scalars_are_arguments_like_others(tmp_path):
    x, y, _ = problem()
    solver = dask_gd.Momentum(learning_rate=np.float32(1e-3))
    for _ in range(2):
        run = dask_gd.fit(x, y, solver=solver, seed=np.int64(0), max_iter=np.int64(2), store=tmp_path)
    assert run.n_iter == 2
    for seed in (-1, None, 0.5):
        with pytest.raises(InvalidArgumentError, match="seed"):
            dask_gd.fit(x, y, seed=seed)


def test_chunks_outside_the_rows_in_use_may_be_missing(tmp_path):
    x, y, _ = problem(100)
    group = zarr.open_group(tmp_path / "growing", mode="w")
    for name, a in (("x", x), ("y", y)):
        group.create_array(name, shape=a.shape, dtype=float, chunks=(10, *a.shape[1:]))[:50] = a[:50]
    run = dask_gd.fit(dask_gd.open(tmp_path / "growing", x="x", y="y", rows=slice(0, 45)))
    np.testing.assert_allclose(run.weights, dask_gd.fit(x[:45], y[:45]).weights, rtol=1e-8)
    with pytest.raises(dask_gd.errors.MissingChunkError, match=r"chunk \(5, 0\)"):
        dask_gd.open(tmp_path / "growing", x="x", y="y", rows=slice(0, 55))
