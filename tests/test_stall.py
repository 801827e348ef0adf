"""A solver that stalls hands over; "precision" is said only where the gradient is rounding."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.datasets import load_diabetes

import dask_gd
from dask_gd.errors import StalledWarning
from dask_gd.estimators import LogisticRegression, QuantileRegressor
from dask_gd.events import IterationEnded, StopFit

X, Y = load_diabetes(return_X_y=True)
#: So little smoothing that Newton's method stalls: few rows have any curvature, none along most directions.
HARD = dask_gd.Quantile(0.5, smoothing=1e-3 * float(Y.std()))


def no_relief(*_):
    return ()


def test_newton_hands_over_to_lbfgs_where_it_stalls():
    """FOUND 7, FAULTS 64."""
    run = dask_gd.fit(X, Y, loss=HARD, max_iter=400)
    assert run.reason == "converged"
    assert run.history.grad_norm[-1] <= 1e-6


def test_a_stall_that_nothing_helps_is_said(monkeypatch):
    """FOUND 7, FAULTS 64."""
    monkeypatch.setattr("dask_gd.fitting.fit_state.reliefs", no_relief)
    with pytest.warns(StalledWarning, match=r"Newton\(\) stalled at iteration .* the gradient is .* of its scale"):
        run = dask_gd.fit(X, Y, loss=HARD, max_iter=400)
    assert (run.reason, run.converged) == ("stalled", False)
    assert run.history.grad_norm[-1] > 1e-3


def test_an_estimator_says_it_too(monkeypatch):
    """FOUND 7."""
    monkeypatch.setattr("dask_gd.fitting.fit_state.reliefs", no_relief)
    with pytest.warns(StalledWarning):
        model = QuantileRegressor(alpha=0.0, smoothing=HARD.smoothing, max_iter=400).fit(X, Y)
    assert not model.converged_


def test_the_command_line_exits_with_3(monkeypatch, tmp_path):
    """FOUND 7."""
    import zarr
    from click.testing import CliRunner

    from dask_gd.cli import main

    group = zarr.create_group(tmp_path / "data.zarr")
    group.create_array("X", data=X)
    group.create_array("y", data=Y)
    monkeypatch.setattr("dask_gd.fitting.fit_state.reliefs", no_relief)
    # A loss of the command line has its defaults: give these the smoothing.
    monkeypatch.setitem(dask_gd.losses.LOSSES, "quantile", lambda: HARD)
    names = ["fit", str(tmp_path / "data.zarr"), "--x", "X", "--y", "y", "--loss", "quantile", "--max-iter", "400"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = CliRunner().invoke(main, names)
    assert found.exit_code == 3, found.output
    assert "stalled" in found.output


def test_fits_of_a_search_that_stall_are_said(monkeypatch):
    """FOUND 7: here their gradients are rounding, and are taken for more."""
    search = {"loss": "logistic", "alphas": [1e-2], "folds": 2, "tol": 0.0}
    found = dask_gd.search(X, Y > 150, **search)
    assert (found.data.reason == "precision").all()
    monkeypatch.setattr("dask_gd.fitting.track.is_rounding", lambda *_: False)
    monkeypatch.setattr("dask_gd.fitting.fold_track.UNTOLD", 0.0)
    with pytest.warns(StalledWarning, match="3 of 3 fits stalled"):
        found = dask_gd.search(X, Y > 150, **search)
    assert (found.data.reason == "stalled").all()


@pytest.mark.parametrize("stop", [10, 16, 17, 18, 25])
def test_a_fit_resumed_after_the_hand_over_goes_on_with_the_second_solver(tmp_path, stop):
    """FOUND 7: to the same bits."""

    def callback(event):
        if isinstance(event, IterationEnded) and event.iteration == stop:
            raise StopFit("enough")

    options = {"loss": HARD, "max_iter": 40}
    whole = dask_gd.fit(X, Y, **options)
    assert dask_gd.fit(X, Y, store=tmp_path, callbacks=[callback], **options).reason == "enough"
    run = dask_gd.fit(X, Y, store=tmp_path, **options)
    assert_array_equal(run.weights, whole.weights)
    assert_array_equal(run.history.loss, whole.history.loss)


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("loss", ["squared", "logistic", "poisson", "huber"])
def test_ordinary_problems_end_in_precision_without_a_warning(solver, dtype, loss):
    """FOUND 7: where more is asked than floating point gives."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1000, 5))
    z = x @ rng.normal(size=5)
    targets = {"logistic": z + rng.logistic(size=1000) > 0, "poisson": rng.poisson(np.exp(z / 2))}
    y = np.asarray(targets.get(loss, z + rng.standard_t(2, size=1000)), dtype=float)
    run = dask_gd.fit(x.astype(dtype), y, loss=loss, solver=solver, tol=0.0, max_iter=300)
    assert run.reason == "precision"
    assert run.history.grad_norm[-1] < (1e-5 if dtype == "f4" else 1e-14)


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
@pytest.mark.parametrize("off", [1e4, 3e6, 1e8])
def test_a_column_far_from_zero_is_no_excuse(solver, off):
    """FOUND 7: float64, as many spreads off."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 3))
    y = (x[:, 0] + rng.logistic(size=500) > 0).astype(float)
    exact = dask_gd.fit(x, y, loss="logistic", tol=1e-10)
    x[:, 0] += off
    run = dask_gd.fit(x, y, loss="logistic", solver=solver, max_iter=300)
    assert run.reason in ("converged", "precision")
    np.testing.assert_allclose(run.weights, exact.weights, rtol=1e-3, atol=1e-3)


def a_failing_callback(event):
    if isinstance(event, dask_gd.events.IterationEnded):
        raise ValueError("mine")


WARNING = {
    "a fit that diverges": lambda _: dask_gd.fit(X, Y, solver=dask_gd.GradientDescent(learning_rate=1e6)),
    "a callback that raises": lambda _: dask_gd.fit(X, Y, callbacks=[a_failing_callback]),
    "an estimator that takes too few steps": lambda _: LogisticRegression(max_iter=1).fit(X, Y.mean() < Y),
    "a damaged iteration": lambda path: damaged(path) and dask_gd.load(path),
}


def damaged(path):
    dask_gd.fit(X, Y, loss="huber", max_iter=3, store=path)
    newest = sorted(path.glob("iteration-*.zip"))[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    return True


@pytest.mark.parametrize("name", WARNING)
def test_a_warning_names_the_line_that_called_us(name, tmp_path):
    with pytest.warns() as found:
        WARNING[name](tmp_path)
    assert {warning.filename for warning in found} == {__file__}


@pytest.mark.parametrize("loss", ["logistic", "poisson", "huber"])
def test_few_rows_of_float32_end_where_their_gradients_do(loss):
    """Over few rows the roundings of products do not average out, and a loss that rises by them is no failed step."""
    for seed in range(45):
        rng = np.random.default_rng(seed)
        n = [50, 200, 1000][seed % 3]
        x = rng.normal(size=(n, 6)).astype(np.float32)
        z = x @ rng.normal(size=6)
        y = z + rng.standard_t(2, size=n)
        if loss == "logistic":
            y = (z + rng.logistic(size=n) > 0).astype(float)
        elif loss == "poisson":
            y = rng.poisson(np.exp(z / 3)).astype(float)
        run = dask_gd.fit(x, y, loss=loss, penalty=dask_gd.L2(1e-3), tol=1e-7)
        assert run.history.grad_norm[-1] < 1e-6, (seed, run.reason)
