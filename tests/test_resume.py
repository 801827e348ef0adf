"""A client killed at any moment resumes to the same bits as one that was never disturbed."""

import os
import random
import signal
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from helpers import forked, problem, same_run, to_zarr, until

import dask_gd
from dask_gd.errors import DivergenceWarning, StoreError, StoreMismatchError

SOLVERS = ["newton", "lbfgs", "gradient_descent", "momentum", "nesterov", "adam"]


def fit_and_die(path, options, module, name, count, when):
    """Fit, and be killed with SIGKILL just before or after the n-th call of a function in the main thread.

    Commits are made there; other threads read chunks.
    """
    warnings.simplefilter("error")
    calls = 0
    if name:
        owner = sys.modules[module]
        real = getattr(owner, name)

        def counted(*args, **kwargs):
            nonlocal calls
            if threading.current_thread() is not threading.main_thread():
                return real(*args, **kwargs)
            calls += 1
            if calls == count and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = real(*args, **kwargs)
            if calls == count and when == "after":
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(owner, name, counted)
    here(path, options, path / "run")


@pytest.fixture
def stored(tmp_path):
    x, _, y = problem(3000, 5)
    to_zarr(x, 300, tmp_path / "x")
    to_zarr(y, 300, tmp_path / "y")
    return tmp_path


def client(path, options, module="os", name="", count=0, when="before"):
    return forked(fit_and_die, path, options, module, name, count, when)


def ended(process):
    """Return how a process ended, once it has."""
    process.join(120)
    return process.exitcode


def here(path, options, store=None):
    x, y = (zarr.open_array(path / a, mode="r") for a in "xy")
    return dask_gd.fit(x, y, penalty=dask_gd.L2(1e-3), store=store, **options)


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", ["open", "fsync", "replace", "close"])
def test_killed_at_each_system_call_of_a_commit(stored, name, when):
    options = {"loss": "logistic", "solver": "lbfgs", "max_iter": 6}
    expected = here(stored, options)
    process = client(stored, options, name=name, count=7, when=when)
    assert ended(process) == -signal.SIGKILL
    same_run(here(stored, options, stored / "run"), expected)


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_killed_between_steps(stored, solver, loss):
    options = {"loss": loss, "solver": solver, "max_iter": 9}
    expected = here(stored, options)
    count = min(3, expected.n_iter)
    process = client(stored, options, "dask_gd.fitting.drive", "one_blas_thread", count=count)
    assert ended(process) == -signal.SIGKILL
    same_run(here(stored, options, stored / "run"), expected)


@pytest.mark.slow
def test_killed_again_and_again_at_any_moment(stored):
    options = {"loss": "logistic", "solver": "adam", "max_iter": 150, "tol": 0.0}
    expected = here(stored, options)
    chance = random.Random(0)
    kills = 0
    for _ in range(30):
        process = client(stored, options)
        until(lambda p=process: dask_gd.Store(stored / "run").iterations() or not p.is_alive())
        time.sleep(chance.uniform(0.0, 0.4))
        process.kill()
        kills += ended(process) == -signal.SIGKILL
        if process.exitcode == 0 or kills >= 3:
            break
    assert kills
    same_run(here(stored, options, stored / "run"), expected)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_interrupted_after_every_iteration_is_uninterrupted(stored, solver, loss):
    options = {"loss": loss, "solver": solver, "tol": 1e-9}
    expected = here(stored, {**options, "max_iter": 8})
    for n in range(9):
        resumed = here(stored, {**options, "max_iter": n}, stored / "run")
    same_run(resumed, expected)
    same_run(dask_gd.load(stored / "run"), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_newton_with_curvature_kept_between_passes_resumes_to_the_same_bits(tmp_path, loss, dtype):
    x, _, y = problem(3000, 60, dtype=dtype)
    to_zarr(x, 300, tmp_path / "x")
    to_zarr(y, 300, tmp_path / "y")
    options = {"loss": loss, "solver": "newton", "tol": 1e-15}
    expected = here(tmp_path, {**options, "max_iter": 14})
    for n in range(15):
        resumed = here(tmp_path, {**options, "max_iter": n}, tmp_path / "run")
    same_run(resumed, expected)


def test_a_finished_run_makes_no_pass(stored, monkeypatch):
    options = {"loss": "logistic"}
    first = here(stored, options, stored / "run")
    monkeypatch.setattr(dask_gd.passes, "evaluate", lambda *a: pytest.fail("a pass was made"))
    same_run(here(stored, options, stored / "run"), first)


@pytest.mark.parametrize("loss", ["squared", "logistic"])
@pytest.mark.parametrize("tol", [1e-2, 1e-4, 1e-6])
def test_a_run_continues_when_asked_for_more(stored, loss, tol):
    few = here(stored, {"loss": loss, "tol": tol}, stored / "run")
    more = here(stored, {"loss": loss, "tol": 1e-15}, stored / "run")
    assert few.n_iter <= more.n_iter
    assert few.history.passes.sum() < more.history.passes.sum()
    same_run(more, here(stored, {"loss": loss, "tol": 1e-15}))


def test_a_diverged_run_keeps_its_finite_weights_and_diverges_again(stored):
    options = {"solver": dask_gd.GradientDescent(learning_rate=1e150), "max_iter": 20}
    for _ in range(2):
        with pytest.warns(DivergenceWarning):
            run = here(stored, options, stored / "run")
        assert np.isfinite(run.parameters).all()
        assert dask_gd.load(stored / "run").reason == "diverged"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"loss": "squared"}, "loss"),
        ({"solver": "newton"}, "solver"),
        ({"solver": dask_gd.LBFGS(memory=3)}, "solver.memory: stored 10, now 3"),
        ({"penalty": dask_gd.L2(2.0)}, "penalty.alpha: stored 0.001, now 2.0"),
        ({"fit_intercept": False}, "fit_intercept"),
        ({"initial_weights": np.ones(5)}, "initial_weights"),
        ({"x": np.float32}, "data.dtype: stored float64, now float32"),
        ({"x": slice(0, 2999)}, "data.shape"),
        ({"x": "value"}, "data.x"),
        ({"y": "value"}, "data.y"),
        ({"sample_weight": np.ones(3000)}, "data.sample_weight"),
    ],
)
def test_a_run_made_otherwise_is_refused_by_field(change, field, tmp_path):
    x, _, y = problem(3000, 5)
    arguments = {"loss": "logistic", "solver": "lbfgs", "penalty": dask_gd.L2(1e-3), "max_iter": 2}
    first = dask_gd.fit(x, y, **arguments, store=tmp_path)
    how = change.pop("x", None), change.pop("y", None)
    if isinstance(how[0], slice):
        x, y = x[how[0]], y[how[0]]
    elif how[0] == "value":
        x = x.copy()
        x[1234, 2] += 1e-6
    elif how[0] is not None:
        x = x.astype(how[0])
    if how[1]:
        y = 1 - y
    with pytest.raises(StoreMismatchError, match=field):
        dask_gd.fit(x, y, **{**arguments, **change}, store=tmp_path)
    same_run(dask_gd.load(tmp_path), first)


def test_a_store_serves_one_fit_at_a_time(stored):
    def second(event):
        with pytest.raises(StoreError, match="Another fit"):
            here(stored, {}, stored / "run")

    here(stored, {"max_iter": 1}, stored / "run")
    here(stored, {"max_iter": 2, "callbacks": [second]}, stored / "run")


def test_a_store_that_cannot_be_written_fails_before_the_first_pass(stored, monkeypatch):
    monkeypatch.setattr(dask_gd.passes, "evaluate", lambda *a: pytest.fail("a pass was made"))
    (stored / "file").touch()
    with pytest.raises(StoreError, match="file"):
        here(stored, {}, stored / "file" / "run")


def test_xarray_opens_an_iteration_by_itself(tmp_path):
    x, y, _ = problem()
    table = xr.DataArray(x, dims=("row", "feature"), coords={"feature": list("abcdefg")})
    run = dask_gd.fit(table, y, store=tmp_path)
    with zarr.storage.ZipStore(dask_gd.Store(tmp_path).file(run.n_iter), mode="r") as file:
        found = xr.open_zarr(file, consolidated=False).load()
    assert found.feature.values.tolist() == list("abcdefg")
    np.testing.assert_array_equal(found.weights, run.weights)
    np.testing.assert_array_equal(found.loss, run.history.loss)
    assert not list(Path(tmp_path).glob(".*.tmp"))
    assert os.listdir(tmp_path)
