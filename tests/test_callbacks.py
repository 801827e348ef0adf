"""Callbacks: what they hear, what they may do, and that none of them costs the run."""

import contextlib
import csv
import json
import pickle
import shutil

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.base import clone
from sklearn.callback import ScoringMonitor
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

import dask_gd
from dask_gd import estimators
from dask_gd.callbacks import Checkpoint, EarlyStopping, LogFile
from dask_gd.errors import CallbackWarning, DataError, InvalidArgumentError
from dask_gd.events import Failed, FitEnded, FitStarted, IterationEnded, RoundEnded, SearchEnded, SearchStarted, StopFit
from dask_gd.results.fit_result import HISTORY


def problem(n=300, p=40, seed=0, outputs=None):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p))
    y = x[:, :3].sum(axis=1) + 3 * rng.normal(size=n)
    return x, y if outputs is None else np.stack([y + i for i in range(outputs)], axis=1)


def same_bits(a, b):
    np.testing.assert_array_equal(a.parameters, b.parameters)
    for name in ("loss", "grad_norm", "step_size"):
        np.testing.assert_array_equal(a.history[name], b.history[name])


class Killed(BaseException):
    """What takes a client away."""


def killed_at(n):
    def callback(event):
        if getattr(event, "iteration", None) == n:
            raise Killed

    return callback


def test_a_callback_ends_a_fit_after_the_iteration_it_has_heard_of(tmp_path):
    x, y = problem()

    def stop(event):
        if getattr(event, "iteration", 0) == 4:
            raise StopFit("enough")

    heard = []
    run = dask_gd.fit(x, y, solver="adam", max_iter=9, store=tmp_path, callbacks=[stop, heard.append])
    assert (run.reason, run.n_iter, run.converged) == ("enough", 4, False)
    # The others hear of that iteration all the same.
    assert [event.iteration for event in heard if isinstance(event, IterationEnded)] == list(range(5))
    assert isinstance(heard[-1], FitEnded)
    assert heard[-1].reason == "enough"
    stored = dask_gd.load(tmp_path)
    assert stored.reason == "enough"
    same_bits(stored, dask_gd.fit(x, y, solver="adam", max_iter=4))
    # Without the callback it goes on.
    same_bits(
        dask_gd.fit(x, y, solver="adam", max_iter=9, store=tmp_path), dask_gd.fit(x, y, solver="adam", max_iter=9)
    )


def test_a_stop_that_comes_too_late_takes_nothing_away():
    x, y = problem()

    def stop(event):
        if not isinstance(event, FitStarted | SearchStarted) and getattr(event, "iteration", 5) >= 4:
            raise StopFit("time")

    run = dask_gd.fit(x, y, solver="adam", max_iter=9, callbacks=[stop])
    assert (run.reason, run.n_iter) == ("time", 4)
    heard = []

    def late(event):
        heard.append(event)
        if isinstance(event, SearchEnded):
            raise StopFit("time")

    assert dask_gd.search(x, y, alphas=[0.1, 1.0], callbacks=[late]).passes == 1
    assert not any(isinstance(event, Failed) for event in heard)


def test_a_stop_while_resuming_is_judged_by_what_is_asked_now(tmp_path):
    x, y = problem()

    class Memory:
        def __call__(self, event):
            if isinstance(event, IterationEnded) and self.stops:
                raise StopFit("mine")

        def state(self):
            return {"n": np.array(1)}

        def restore(self, arrays):
            assert int(arrays["n"]) == 1

    callback = Memory()
    callback.stops = False
    options = {"loss": "huber", "solver": "lbfgs", "store": tmp_path, "callbacks": [callback]}
    loose = dask_gd.fit(x, y, tol=0.5, **options)
    assert loose.reason == "converged"
    callback.stops = True
    again = dask_gd.fit(x, y, tol=1e-9, **options)
    assert (again.reason, again.converged, again.n_iter) == ("mine", False, loose.n_iter)


@pytest.mark.parametrize("state", ["idle", lambda: 1 / 0])
def test_what_looks_like_a_memory_does_not_cost_the_fit(tmp_path, state):
    x, y = problem()

    class Callback:
        def __call__(self, event):
            pass

        def restore(self, arrays):
            pass

    callback = Callback()
    callback.state = state
    context = pytest.warns(CallbackWarning, match="ZeroDivisionError") if callable(state) else contextlib.nullcontext()
    with context:
        run = dask_gd.fit(x, y, callbacks=[callback], store=tmp_path)
    same_bits(run, dask_gd.fit(x, y))


def test_estimators_with_callbacks_can_be_copied_after_a_fit(tmp_path):
    x, y = problem()
    callbacks = [
        dask_gd.Progress(disable=False),
        Checkpoint(tmp_path / "kept"),
        LogFile(tmp_path / "fit.csv"),
        EarlyStopping(x, y),
    ]
    model = estimators.Ridge(callbacks=callbacks).fit(x, y)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).coef_, model.coef_)
    assert clone(model).callbacks is not None


def test_a_fit_that_has_converged_is_not_said_to_have_been_stopped():
    x, y = problem()

    def stop(event):
        if getattr(event, "grad_norm", 1.0) <= 1e-6:
            raise StopFit("late")

    assert dask_gd.fit(x, y, callbacks=[stop]).reason == "converged"


def test_the_model_of_each_iteration_is_at_hand_while_its_callback_is_called():
    x, y = problem()
    seen, events = [], []

    def look(event):
        if isinstance(event, IterationEnded):
            seen.append(event.result)
            events.append(event)

    run = dask_gd.fit(x, y, solver="adam", max_iter=4, callbacks=[look])
    for n, model in enumerate(seen):
        assert model.n_iter == n
        shorter = dask_gd.fit(x, y, solver="adam", max_iter=n)
        np.testing.assert_array_equal(model.parameters, shorter.parameters)
    same_bits(seen[-1], run)
    with pytest.raises(InvalidArgumentError, match=r"The fit has left iteration 1: ask for event\.result while"):
        _ = events[1].result


def test_what_a_callback_raises_before_the_first_pass_is_the_fits_error():
    x, y = problem()

    def raises(event):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        dask_gd.fit(x, y, callbacks=[raises])
    with pytest.raises(RuntimeError, match="mine"):
        dask_gd.search(x, y, alphas=[1.0, 0.1], callbacks=[raises])


def test_callbacks_hear_of_a_fit_or_search_that_fails():
    x, y = problem()
    heard = []
    x[7, 3] = np.nan
    for call in (dask_gd.fit, lambda *a, **o: dask_gd.search(*a, alphas=[0.1, 1.0], **o)):
        with pytest.raises(DataError):
            call(x, y, callbacks=[heard.append])
        assert isinstance(heard[-1], Failed)
        assert heard[-1].error.startswith("NonFiniteError: nan in row 7")
        assert heard[-1].run == heard[0].run
        heard.clear()


def test_a_search_tells_its_course():
    x, y = problem()
    heard = []
    found = dask_gd.search(x, y > 0, loss="logistic", alphas=[0.01, 0.1, 1.0], folds=4, callbacks=[heard.append])
    started, *rounds, ended = heard
    assert isinstance(started, SearchStarted)
    assert (started.candidates, started.folds, started.fits) == (3, 4, 15)
    assert all(isinstance(event, RoundEnded) for event in rounds)
    running = [event.running for event in rounds]
    assert running == sorted(running, reverse=True)
    assert (rounds[-1].running, rounds[-1].candidates) == (0, 0)
    assert isinstance(ended, SearchEnded)
    assert str(found.best["alpha"]) in ended.best
    assert {event.run for event in heard} == {started.run}
    assert all(str(event) for event in heard)


# Early stopping


@pytest.mark.parametrize(
    ("loss", "of"),
    [
        ("squared", lambda y: y),
        ("logistic", lambda y: (y > 0).astype(float)),
        ("softmax", lambda y: np.digitize(y, [-1, 1])),
    ],
)
def test_the_loss_held_out_is_that_of_each_iterations_model(loss, of):
    x, y = problem()
    weight = np.random.default_rng(1).random(100)
    stopping = EarlyStopping(x[200:], of(y)[200:], patience=3, sample_weight=weight)
    options = {"loss": loss, "solver": "gradient_descent", "max_iter": 60, "tol": 0.0}
    run = dask_gd.fit(x[:200], of(y)[:200], **options, callbacks=[stopping])
    expected = []
    for n in range(run.n_iter + 1):
        model = dask_gd.fit(x[:200], of(y)[:200], **{**options, "max_iter": n})
        z = x[200:] @ model.weights.values + model.intercept.values
        t = of(y)[200:]
        if loss == "squared":
            each = (t - z) ** 2 / 2
        elif loss == "logistic":
            each = np.logaddexp(0, z) - t * z
        else:
            each = np.logaddexp.reduce(z, axis=1) - z[np.arange(100), t]
        expected.append(np.average(each, weights=weight))
    np.testing.assert_allclose(stopping.losses, expected, rtol=1e-12)
    assert stopping.best_iteration == int(np.argmin(expected))
    assert run.reason == "early_stopping"
    assert run.n_iter == stopping.best_iteration + 3
    assert stopping.best.n_iter == stopping.best_iteration
    best = dask_gd.fit(x[:200], of(y)[:200], **{**options, "max_iter": stopping.best_iteration})
    np.testing.assert_array_equal(stopping.best.parameters, best.parameters)
    np.testing.assert_array_equal(stopping.best.history.loss, best.history.loss)


def test_early_stopping_stops_before_overfitting():
    x, y = problem(n=60, p=50)
    stopping = EarlyStopping(x[50:], y[50:], patience=2)
    run = dask_gd.fit(x[:50], y[:50], solver="gradient_descent", max_iter=500, tol=0.0, callbacks=[stopping])
    assert run.reason == "early_stopping"
    assert 0 < run.n_iter < 500
    assert stopping.losses[stopping.best_iteration] == min(stopping.losses)
    # A second fit begins anew.
    again = dask_gd.fit(x[:50], y[:50], solver="gradient_descent", max_iter=500, tol=0.0, callbacks=[stopping])
    same_bits(run, again)
    # What is hardly better is not better.
    strict = EarlyStopping(x[50:], y[50:], patience=2, min_delta=1e9)
    assert dask_gd.fit(x[:50], y[:50], solver="gradient_descent", callbacks=[strict]).n_iter == 2


@pytest.mark.parametrize("after", [1, 3, 6])
def test_an_early_stopped_fit_that_was_interrupted_stops_where_it_would_have(tmp_path, after):
    x, y = problem(n=60, p=50)

    def options():
        stopping = EarlyStopping(x[50:], y[50:], patience=3)
        return stopping, {"solver": dask_gd.GradientDescent(learning_rate=0.02), "max_iter": 500, "tol": 0.0}

    whole, common = options()
    expected = dask_gd.fit(x[:50], y[:50], **common, callbacks=[whole])
    assert expected.n_iter > 6
    for order in (1, -1):
        first, _ = options()
        store = tmp_path / f"{order}"
        with pytest.raises(Killed):
            dask_gd.fit(x[:50], y[:50], **common, store=store, callbacks=[first, killed_at(after)][::order])
        second, _ = options()
        resumed = dask_gd.fit(x[:50], y[:50], **common, store=store, callbacks=[second, killed_at(-1)][::order])
        same_bits(resumed, expected)
        assert resumed.reason == "early_stopping"
        assert second.losses == whole.losses
        np.testing.assert_array_equal(second.best.parameters, whole.best.parameters)
        # Once more there is nothing left to do.
        third, _ = options()
        again = dask_gd.fit(x[:50], y[:50], **common, store=store, callbacks=[third, killed_at(-1)][::order])
        same_bits(again, expected)
        assert third.losses == whole.losses


def test_early_stopping_may_join_a_fit_that_was_begun_without_it(tmp_path):
    x, y = problem(n=60, p=50)
    options = {"solver": dask_gd.GradientDescent(learning_rate=0.02), "tol": 0.0, "store": tmp_path / "run"}
    dask_gd.fit(x[:50], y[:50], max_iter=4, **options)
    stopping = EarlyStopping(x[50:], y[50:], patience=3)
    run = dask_gd.fit(x[:50], y[:50], max_iter=500, **options, callbacks=[stopping])
    assert run.reason == "early_stopping"
    assert run.n_iter == stopping.best_iteration + 3
    # It hears of the fourth iteration, where the fit goes on.
    assert len(stopping.losses) == run.n_iter - 3
    assert stopping.best_iteration == 4 + int(np.argmin(stopping.losses))
    assert stopping.best.n_iter == stopping.best_iteration
    # One that has served before forgets that.
    stopping.patience = 1000
    shutil.rmtree(tmp_path / "run")
    dask_gd.fit(x[:50], y[:50], max_iter=2, **options)
    dask_gd.fit(x[:50], y[:50], max_iter=5, **options, callbacks=[stopping])
    assert len(stopping.losses) == 4


def test_rows_held_out_that_cannot_be_read_do_not_cost_the_fit():
    x, y = problem()
    bad = x.copy()
    bad[3] = np.nan
    for stopping, message in (
        (EarlyStopping(bad, y), "NonFiniteError"),
        (EarlyStopping(x, y, sample_weight=np.zeros(len(y))), "sum to 0"),
    ):
        with pytest.warns(CallbackWarning, match=message):
            run = dask_gd.fit(x, y, solver="adam", max_iter=4, callbacks=[stopping])
        assert run.n_iter == 4
        with pytest.raises(AttributeError, match="has not heard"):
            _ = stopping.best


def test_early_stopping_takes_datasets_targets_with_columns_and_models():
    x, y = problem(outputs=2)
    stopping = EarlyStopping(x[200:], y[200:])
    run = dask_gd.fit(x[:200], y[:200], solver="adam", max_iter=5, callbacks=[stopping])
    z = run.predict(x[200:])
    assert stopping.losses[-1] == pytest.approx(np.mean(((y[200:] - z) ** 2).sum(axis=1) / 2))
    names = {"features": ["a", "b"], "target": "t", "sample_dims": "row"}
    ds = xr.Dataset({name: ("row", column) for name, column in zip("abt", (*x[:, :2].T, y[:, 0]), strict=True)})
    stopping = EarlyStopping(ds.isel(row=slice(200, None)), **names)
    run = dask_gd.fit(ds.isel(row=slice(0, 200)), **names, callbacks=[stopping])
    assert len(stopping.losses) == run.n_iter + 1

    def value_and_gradient(params, x, y, weight):
        r = x @ params - y
        return r @ r / 2, x.T @ r

    model = dask_gd.Model(value_and_gradient, np.zeros(40))
    stopping = EarlyStopping(x[200:], y[200:, 0])
    run = dask_gd.fit(x[:200], y[:200, 0], loss=model, solver="lbfgs", max_iter=3, callbacks=[stopping])
    assert stopping.losses[-1] == pytest.approx(np.mean((x[200:] @ run.params - y[200:, 0]) ** 2 / 2))


def test_rows_held_out_have_the_levels_of_the_fit(tmp_path):
    """They may lack some, and codes must stand for the same."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"number": rng.normal(size=300), "letter": rng.choice(list("abc"), 300)})
    frame["target"] = frame.number + (frame.letter == "c") + rng.normal(size=300)
    names = {"features": ["letter", "number"], "target": "target"}
    train, test = frame[:200], frame[200:]
    for held_out in (test, test[test.letter != "b"], test[test.letter == "c"]):
        for penalty in (None, dask_gd.L2(0.1)):
            stopping = EarlyStopping(held_out, **names)
            run = dask_gd.fit(train, **names, penalty=penalty, solver="lbfgs", callbacks=[stopping])
            errors = held_out.target - run.predict(held_out)
            assert stopping.losses[-1] == pytest.approx(np.mean(errors**2) / 2)
    with pytest.warns(CallbackWarning, match="'letter' has 'z' in row 0"):
        dask_gd.fit(train, **names, callbacks=[EarlyStopping(test.assign(letter="z"), **names)])
    # Codes in Zarr.
    dask_gd.write_table(frame, tmp_path / "table.zarr")
    columns = {"x": ["letter", "number"], "y": "target"}
    stopping = EarlyStopping(dask_gd.open(tmp_path / "table.zarr", **columns, rows=slice(200, 300)))
    source = dask_gd.open(tmp_path / "table.zarr", **columns, rows=slice(0, 200))
    run = dask_gd.fit(source, solver="lbfgs", callbacks=[stopping])
    assert stopping.losses[-1] == pytest.approx(np.mean((test.target - run.predict(test)) ** 2) / 2)
    turned = frame.assign(letter=pd.Categorical(frame.letter, categories=list("cba")))
    other = EarlyStopping(dask_gd.open(dask_gd.write_table(turned, tmp_path / "turned.zarr"), **columns))
    with pytest.warns(CallbackWarning, match="code 0 is 'c' where it was 'a'"):
        dask_gd.fit(source, callbacks=[other])


def test_early_stopping_refuses_what_cannot_be_before_the_first_pass():
    x, y = problem()
    with pytest.raises(InvalidArgumentError, match="patience=0"):
        EarlyStopping(x, y, patience=0)
    with pytest.raises(InvalidArgumentError, match="min_delta=-1"):
        EarlyStopping(x, y, min_delta=-1)
    with pytest.raises(InvalidArgumentError, match="39 features and 1 outputs; those of the fit 40 and 1"):
        dask_gd.fit(x, y, callbacks=[EarlyStopping(x[:, 1:], y)])
    with pytest.raises(AttributeError, match="has not heard"):
        _ = EarlyStopping(x, y).best


# Files


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_log_has_the_history(tmp_path, suffix):
    x, y = problem()
    path = tmp_path / f"fit.{suffix}"
    for _ in range(2):  # The second begins anew.
        run = dask_gd.fit(x, y, solver="adam", max_iter=5, callbacks=[LogFile(path)])
        check_log(path, run)


def check_log(path, run):
    with open(path) as file:
        rows = list(csv.DictReader(file)) if path.suffix == ".csv" else [json.loads(line) for line in file]
    assert [int(row["iteration"]) for row in rows] == list(range(run.n_iter + 1))
    for name in HISTORY:
        if name != "seconds":
            np.testing.assert_array_equal([float(row[name]) for row in rows], run.history[name])


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
@pytest.mark.parametrize("order", [1, -1])
def test_the_log_of_a_fit_that_was_interrupted_has_each_iteration_once(tmp_path, suffix, order):
    x, y = problem()
    path, options = tmp_path / f"fit.{suffix}", {"solver": "adam", "max_iter": 6, "store": tmp_path / "run"}
    with pytest.raises(Killed):
        dask_gd.fit(x, y, **options, callbacks=[LogFile(path), killed_at(3)][::order])
    run = dask_gd.fit(x, y, **options, callbacks=[LogFile(path)])
    check_log(path, run)
    check_log(path, dask_gd.fit(x, y, **options, callbacks=[LogFile(path)]))


def test_a_log_that_another_version_has_begun_goes_on_in_its_columns(tmp_path):
    x, y = problem()
    path = tmp_path / "fit.csv"
    options = {"solver": "adam", "max_iter": 6, "store": tmp_path / "run"}
    with pytest.raises(Killed):
        dask_gd.fit(x, y, **options, callbacks=[LogFile(path), killed_at(3)])
    former = [line.rsplit(",", 1)[0] for line in path.read_text().splitlines()]
    path.write_text("".join(line + "\r\n" for line in former))
    dask_gd.fit(x, y, **options, callbacks=[LogFile(path)])
    lines = path.read_text().splitlines()
    assert len(lines) == 8
    assert {line.count(",") for line in lines} == {former[0].count(",")}


def test_a_search_is_logged_pass_by_pass(tmp_path):
    x, y = problem()
    path, heard = tmp_path / "search.jsonl", []
    callbacks = [LogFile(path), heard.append]
    dask_gd.search(x, y > 0, loss="logistic", alphas=[0.01, 0.1], solver="lbfgs", callbacks=callbacks)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rounds = [event for event in heard if isinstance(event, RoundEnded)]
    assert [row["passes"] for row in rows] == [event.passes for event in rounds]
    assert list(rows[0]) == ["passes", "running", "fits", "candidates", "seconds", "full_passes"]
    assert rows[-1]["running"] == 0


def test_the_log_of_a_search_that_was_interrupted_goes_on(tmp_path):
    x, y = problem()
    options = {"loss": "logistic", "alphas": [0.01, 0.1], "solver": "lbfgs", "folds": 3}
    whole, path, heard = tmp_path / "whole.csv", tmp_path / "search.csv", []
    dask_gd.search(x, y > 0, **options, callbacks=[LogFile(whole)])

    def kill(event):
        heard.append(event)
        if len(heard) == 4:
            raise Killed

    with pytest.raises(Killed):
        dask_gd.search(x, y > 0, **options, store=tmp_path / "run", callbacks=[LogFile(path), kill])
    dask_gd.search(x, y > 0, **options, store=tmp_path / "run", callbacks=[LogFile(path)])
    with open(whole) as a, open(path) as b:
        expected, found = list(csv.DictReader(a)), list(csv.DictReader(b))
    assert [row["running"] for row in found] == [row["running"] for row in expected]


def test_a_log_is_refused_where_it_cannot_be_written(tmp_path):
    with pytest.raises(InvalidArgumentError, match=r"end with \.csv or \.jsonl"):
        LogFile(tmp_path / "fit.txt")
    with pytest.raises(InvalidArgumentError, match="there is no directory"):
        LogFile(tmp_path / "nowhere" / "fit.csv")


def test_a_log_that_can_no_longer_be_written_does_not_cost_the_fit(tmp_path):
    x, y = problem()
    (tmp_path / "logs").mkdir()

    def remove(event):
        if getattr(event, "iteration", None) == 2:
            (tmp_path / "logs" / "fit.csv").unlink()
            (tmp_path / "logs").rmdir()

    with pytest.warns(CallbackWarning, match="FileNotFoundError"):
        run = dask_gd.fit(x, y, solver="adam", max_iter=5, callbacks=[LogFile(tmp_path / "logs" / "fit.csv"), remove])
    same_bits(run, dask_gd.fit(x, y, solver="adam", max_iter=5))


def test_checkpoints_are_kept(tmp_path):
    x, y = problem()
    keep = Checkpoint(tmp_path / "kept", every=3)
    run = dask_gd.fit(x, y, solver="adam", max_iter=7, callbacks=[keep], store=tmp_path / "run")
    assert keep.store.iterations() == [0, 3, 6, 7]
    same_bits(dask_gd.load(tmp_path / "kept"), run)
    assert dask_gd.load(tmp_path / "kept").reason == "max_iter"
    keep.store.file(7).unlink()
    assert dask_gd.load(tmp_path / "kept").n_iter == 6
    with pytest.raises(InvalidArgumentError, match="is the fit's store"):
        dask_gd.fit(x, y, solver="adam", callbacks=[Checkpoint(tmp_path / "run")], store=tmp_path / "run")
    with pytest.raises(InvalidArgumentError, match="every=0"):
        Checkpoint(tmp_path, every=0)


def test_checkpoints_of_a_fit_that_was_interrupted_are_the_same(tmp_path):
    x, y = problem()
    options = {"solver": "adam", "max_iter": 8}
    dask_gd.fit(x, y, **options, callbacks=[Checkpoint(tmp_path / "whole", every=3)])
    for after in (6, 8):
        own = {**options, "store": tmp_path / f"run-{after}"}
        with pytest.raises(Killed):
            dask_gd.fit(x, y, **own, callbacks=[killed_at(after), Checkpoint(tmp_path / f"{after}", every=3)])
        dask_gd.fit(x, y, **own, callbacks=[killed_at(-1), Checkpoint(tmp_path / f"{after}", every=3)])
        assert Checkpoint(tmp_path / f"{after}").store.iterations() == [0, 3, 6, 8]
        same_bits(dask_gd.load(tmp_path / f"{after}"), dask_gd.load(tmp_path / "whole"))


def test_checkpoints_of_two_fits_are_not_mixed(tmp_path):
    x, y = problem()
    keep = Checkpoint(tmp_path / "kept")
    dask_gd.fit(x, y, solver="adam", max_iter=30, callbacks=[keep])
    with pytest.raises(InvalidArgumentError, match="holds iterations of another fit"):
        dask_gd.fit(x, y, solver="adam", max_iter=5, callbacks=[keep])
    dask_gd.search(x, y > 0, loss="logistic", alphas=[0.1, 1.0], callbacks=[keep])
    assert keep.store.iterations() == [0, 10, 20, 30]


# scikit-learn's callbacks


class Recorder:
    """A callback of scikit-learn's that ends the fit after some tasks."""

    def __init__(self, stop_after=None):
        self.stop_after, self.calls, self.models = stop_after, [], []

    def setup(self, estimator, context):
        self.calls.append("setup")

    def teardown(self, estimator, context):
        self.calls.append("teardown")

    def on_fit_task_begin(self, estimator, context, *, X=None):
        self.calls.append(f"begin {context.task_name}")

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None):
        self.calls.append(f"end {context.task_name}")
        if fitted_estimator is not None:
            self.models.append((fitted_estimator, fitted_estimator.predict(X)))
        return len(self.models) == self.stop_after


def test_scikit_learns_callbacks_hear_of_every_iteration():
    x, y = problem()
    recorder = Recorder()
    model = estimators.Ridge(solver="adam", max_iter=5, tol=1e-3).set_callbacks(recorder)
    with pytest.warns(UserWarning, match="took max_iter=5"):
        model.fit(x, y)
    tasks = ["begin iteration", "end iteration"] * 6
    assert recorder.calls == ["setup", "begin fit", *tasks, "end fit", "teardown"]
    assert [there.n_iter_ for there, _ in recorder.models] == list(range(6))
    last, prediction = recorder.models[-1]
    np.testing.assert_array_equal(last.coef_, model.coef_)
    np.testing.assert_array_equal(prediction, model.predict(x))
    assert not hasattr(model, "_adapters")


def test_one_that_returns_true_ends_the_fit():
    x, y = problem()
    model = estimators.LogisticRegression(solver="lbfgs").set_callbacks(Recorder(stop_after=3)).fit(x, y > 0)
    assert (model.n_iter_, model.result_.reason) == (2, "callback")


@pytest.mark.parametrize("after", [1, 3])
def test_one_that_returns_true_ends_the_fits_at_all_scales(after):
    x, y = problem()
    recorder = Recorder(stop_after=after)
    model = estimators.HuberRegressor().set_callbacks(recorder).fit(x, y)
    assert len(recorder.models) == after
    assert not model.converged_


ALL = [
    estimators.LinearRegression(),
    estimators.Lasso(alpha=0.1),
    estimators.PoissonRegressor(),
    estimators.HuberRegressor(),
    estimators.SGDRegressor(max_iter=5, tol=None),
    estimators.RidgeCV(),
    estimators.LassoCV(),
]


@pytest.mark.parametrize("estimator", ALL, ids=repr)
def test_a_scoring_monitor_follows_each_kind_of_estimator(estimator):
    x, y = problem()
    monitor = ScoringMonitor(scoring="r2")
    model = clone(estimator).set_callbacks(monitor).fit(x, np.abs(y))
    plain = clone(estimator).fit(x, np.abs(y))
    np.testing.assert_array_equal(model.coef_, plain.coef_)
    logs = monitor.get_logs().data
    assert len(logs) >= 1
    if type(estimator).__name__ not in ("HuberRegressor", "SGDRegressor"):
        assert logs[-1]["r2"] == pytest.approx(r2_score(np.abs(y), plain.predict(x)))


def test_callbacks_of_a_pipeline_and_a_search_reach_our_estimators():
    x, y = problem()

    class Propagated(Recorder):
        max_propagation_depth = None

    recorder = Propagated()
    search = GridSearchCV(make_pipeline(estimators.Ridge()), {"ridge__alpha": [0.1, 1.0]}, cv=2)
    search.set_callbacks(recorder).fit(x, y)
    ours = [there for there, _ in recorder.models if isinstance(there, estimators.Ridge)]
    # Two penalties on two folds, and the best on all rows.
    assert len({(there.alpha, *there.coef_[:2]) for there in ours if there.converged_}) == 5


def test_a_scikit_learn_callback_that_raises_does_not_cost_the_fit():
    class Raises(Recorder):
        def on_fit_task_end(self, estimator, context):
            if context.task_name == "iteration":
                raise ValueError("mine")

    x, y = problem()
    with pytest.warns(CallbackWarning, match="ValueError: mine"):
        model = estimators.Ridge().set_callbacks(Raises()).fit(x, y)
    np.testing.assert_array_equal(model.coef_, estimators.Ridge().fit(x, y).coef_)


def test_events_of_a_fit_share_its_name():
    x, y = problem()
    heard = []
    dask_gd.fit(x, y, callbacks=[heard.append])
    assert isinstance(heard[0], FitStarted)
    assert {event.run for event in heard} == {heard[0].run}
