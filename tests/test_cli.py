"""The command line does what the functions do, says so on the right stream, and ends as a shell expects."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
import warnings

import click
import dask
import numpy as np
import pytest
import xarray as xr
import zarr
from click.testing import CliRunner
from dask.distributed import LocalCluster
from helpers import FLIGHTS, problem, same_run

import dask_gd
from dask_gd import cli, events
from dask_gd.cli import predictions, terminal

TRAIN = [FLIGHTS, "-x", "X", "-y", "late", "--rows", "0:60000", "--loss", "logistic"]


def run(*arguments, code=0):
    """The command in this process, and its exit status."""
    with warnings.catch_warnings():
        # As in a process of its own, where they are lines on stderr.
        warnings.simplefilter("default")
        result = CliRunner().invoke(cli.main, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def command(*arguments):
    return [sys.executable, "-m", "dask_gd", *map(str, arguments)]


def started(*arguments):
    """A process that leads a group of its own, as a shell starts it."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    return subprocess.Popen(command(*arguments), **options)


def write_group(path, chunk=100, **arrays):
    group = zarr.open_group(path, mode="w")
    for name, a in arrays.items():
        options = {"compressors": [zarr.codecs.Crc32cCodec()], "config": {"write_empty_chunks": True}}
        target = group.create_array(name, shape=a.shape, dtype=a.dtype, chunks=(chunk, *a.shape[1:]), **options)
        target[...] = a
    return path


@pytest.fixture
def data(tmp_path):
    x, z, y = problem(3000, 5)
    s = np.random.default_rng(2).uniform(0.5, 2, len(x))
    return write_group(tmp_path / "data.zarr", x=x, y=y, z=z, s=s)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A fit to flights, and what it printed."""
    path = tmp_path_factory.mktemp("cli") / "run"
    done = subprocess.run(
        command("fit", *TRAIN, "--penalty", "l2:1e-4", "--store", path), capture_output=True, text=True, check=True
    )
    return path, done


@pytest.fixture
def no_pass(monkeypatch):
    monkeypatch.setattr(dask_gd.passes, "evaluate", lambda *a, **k: pytest.fail("a pass was made"))


# --- fit ---


def test_fit_is_the_functions_and_says_how_it_went(stored):
    path, done = stored
    source = dask_gd.open(FLIGHTS, x="X", y="late", rows=slice(0, 60000))
    expected = dask_gd.fit(source, loss="logistic", penalty=dask_gd.L2(1e-4))
    same_run(dask_gd.load(path), expected)
    assert done.stderr == ""  # no terminal, no progress
    assert f"converged after {expected.n_iter} iterations" in done.stdout
    assert f"{dask_gd.Store(path).file(expected.n_iter)}" in done.stdout
    largest = str(expected.weights.feature.values[np.argmax(abs(expected.weights.values))])
    assert largest in done.stdout
    assert "and 100 smaller ones" in done.stdout


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        (
            ["--loss", "huber:delta=2", "--penalty", "elasticnet:0.1,0.3"],
            {"loss": dask_gd.Huber(2), "penalty": dask_gd.ElasticNet(0.1, 0.3)},
        ),
        (["--penalty", "l1:alpha=0.2", "--no-intercept"], {"penalty": dask_gd.L1(0.2), "fit_intercept": False}),
        (["--solver", "lbfgs:memory=3", "--tol", "1e-8"], {"solver": dask_gd.LBFGS(memory=3), "tol": 1e-8}),
        (["--sample-weight", "s", "--rows", "500:"], {"sample_weight": "s", "rows": slice(500, None)}),
        (["--offset", "s", "--target-loss", "1e9"], {"offset": "s", "target_loss": 1e9}),
        (
            ["--solver", "sgd:batch=0.5", "--seed", "3", "--max-iter", "4"],
            {"solver": dask_gd.SGD(batch=0.5), "seed": 3, "max_iter": 4},
        ),
    ],
)
def test_options_are_the_functions_arguments(data, options, arguments):
    told = json.loads(run("fit", data, "--x", "x", "--y", "z", "--json", *options).stdout)
    opened = {name: arguments.pop(name) for name in ("sample_weight", "offset", "rows") if name in arguments}
    expected = dask_gd.fit(dask_gd.open(data, x="x", y="z", **opened), **arguments)
    assert [w["weight"] for w in told["weights"]] == expected.weights.values.tolist()
    assert told["intercept"] == expected.intercept.item()
    assert told["reason"] == expected.reason
    assert told["loss"] == expected.history.loss.values[-1]


def test_a_fit_that_is_not_at_its_end_exits_with_3(data):
    arguments = ["fit", data, "-x", "x", "-y", "y", "--loss", "logistic"]
    assert "max_iter after 1 iteration" in run(*arguments, "--max-iter", 1, code=3).stdout
    lost = run(*arguments[:-2], "--solver", "gradient_descent:learning_rate=1e150", "--max-iter", 20, "--json", code=3)
    assert json.loads(lost.stdout)["reason"] == "diverged"
    assert "dask-gd: warning:" in lost.stderr
    assert "A learning rate of" in lost.stderr


@pytest.mark.parametrize("suffix", ["zarr", "nc"])
def test_variables_of_a_dataset(tmp_path, suffix):
    rng = np.random.default_rng(0)
    ds = xr.Dataset(
        {"co2": ("time", rng.normal(size=40)), "area": ("lat", np.array([1.0, 2.0, 1.5, 1.0]))},
        coords={"lat": [0.0, 30.0, 60.0, 90.0], "time": np.arange(40.0)},
    )
    ds["t2m"] = 300 + 2 * ds.co2 - 0.5 * ds.lat + rng.normal(size=(40, 4))
    ds["t2m"].attrs["units"] = "K"
    source = tmp_path / f"field.{suffix}"
    if suffix == "zarr":
        ds.chunk(time=8).to_zarr(source, consolidated=False)
    else:
        ds.to_netcdf(source, engine="scipy")
    names = ["--features", "co2,lat", "--target", "t2m", "--sample-dims", "time,lat", "--sample-weight", "area"]
    run("fit", source, *names, "--nan", "drop", "--store", tmp_path / "run")
    fitted = dask_gd.load(tmp_path / "run")
    assert fitted.weights.feature.values.tolist() == ["co2", "lat"]
    assert "time, lat" in run("show", tmp_path / "run").stdout
    run("predict", tmp_path / "run", source, "-o", tmp_path / "out.zarr")
    found = xr.open_zarr(tmp_path / "out.zarr", consolidated=False).prediction
    xr.testing.assert_allclose(found.load(), fitted.predict(ds))
    assert found.attrs["units"] == "K"
    assert "leave --x" in run("predict", tmp_path / "run", source, "-x", "co2", "-o", tmp_path / "b", code=2).stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-x", "x"], "--x NAME --y NAME"),
        (["-x", "x", "-y", "y", "--features", "a"], "not beside --features"),
        (["--features", "a", "--target", "t"], "give all three"),
        (["-x", "x", "-y", "y", "--loss", "cubic"], "choose one of gamma"),
        (["-x", "x", "-y", "y", "--loss", "huber:width=2"], "huber takes delta"),
        (["-x", "x", "-y", "y", "--loss", "huber:delta=-2"], "above 0"),
        (["-x", "x", "-y", "y", "--penalty", "l2"], "alpha"),
        (["-x", "x", "-y", "y", "--penalty", "l2:1,alpha=2"], "each once"),
        (["-x", "x", "-y", "y", "--rows", "7"], "0:240000"),
        (["-x", "x", "-y", "y", "--keep", "1"], "2 or more, or all"),
        (["-x", "x", "-y", "y", "--memory", "4GB"], "--workers"),
        (["-x", "x", "-y", "y", "--workers", "2", "--memory", "much"], "such as 4GB"),
        (["-x", "x", "-y", "y", "--workers", "2", "--scheduler", "tcp://x:1"], "runs already"),
    ],
)
def test_arguments_that_cannot_be_exit_with_2_before_any_pass(data, no_pass, arguments, message):
    result = run("fit", data, *arguments, code=2)
    assert message in " ".join(result.stderr.split())
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "nowhere.zarr", "-x", "x", "-y", "y"], "nowhere.zarr: no such Zarr group"),
        (["fit", "nowhere.zarr", "--features", "a", "--target", "t", "--sample-dims", "d"], "nowhere.zarr"),
        (["fit", FLIGHTS, "-x", "XX", "-y", "late"], "it has X, delay, destination, distance"),
        (["fit", FLIGHTS, "-x", "X", "-y", "late", "--scheduler", "127.0.0.1:1"], "No Dask scheduler answers"),
        (["show", "nowhere"], "nowhere holds no finished iteration"),
        (["predict", "nowhere", FLIGHTS, "-x", "X", "-o", "out.zarr"], "nowhere holds no finished iteration"),
        (["doctor", FLIGHTS, "-x", "XX"], "it has X, delay, destination, distance"),
    ],
)
def test_errors_are_one_line_and_exit_with_1(no_pass, monkeypatch, arguments, message):
    monkeypatch.setattr("dask_gd.cli.options.ANSWER_WITHIN", "1s")
    result = run(*arguments, code=1)
    assert result.stderr.startswith("dask-gd: error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert result.stdout == ""


def test_debug_shows_where_an_error_comes_from():
    with pytest.raises(dask_gd.errors.InvalidArgumentError):
        run("fit", "nowhere.zarr", "-x", "x", "-y", "y", "--debug")


def test_damaged_data_and_unchecked_data_are_told_on_stderr(tmp_path):
    x, z, _ = problem(300, 3)
    x[7, 1] = np.nan
    path = write_group(tmp_path / "nan.zarr", x=x, z=z)
    assert "dask-gd: error: " in run("fit", path, "-x", "x", "-y", "z", code=1).stderr
    told = run("fit", path, "-x", "x", "-y", "z", "--nan", "drop", "--json")
    assert json.loads(told.stdout)["dropped"] == 1
    assert "dask-gd: warning: 1 of 300 rows hold NaN" in told.stderr


def test_progress_is_on_stderr_where_it_is_asked_for(data):
    result = run("fit", data, "-x", "x", "-y", "z", "--json", "--progress")
    assert json.loads(result.stdout)["converged"]
    assert "converged: " in result.stderr


# --- Ctrl-C ---

#: Takes long: a short step, many of them, each committed.
SLOW = ["--loss", "logistic", "--solver", "gradient_descent:learning_rate=1e-3", "--tol", "0"]
SLOW_ARGUMENTS = {"loss": "logistic", "solver": dask_gd.GradientDescent(learning_rate=1e-3), "tol": 0.0}


def interrupted(path, *arguments):
    """Ctrl-C, sent to all processes as a terminal does, once an iteration is stored."""
    with started(*arguments) as process:
        try:
            while not list(path.glob("iteration-*.zarr.zip")):
                assert process.poll() is None, process.communicate()
                time.sleep(0.01)
            os.killpg(process.pid, signal.SIGINT)
            out, err = process.communicate(timeout=240)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, out, err


@pytest.mark.parametrize("workers", [[], pytest.param(["--workers", "2"], marks=pytest.mark.slow)])
def test_ctrl_c_lets_the_iteration_end_and_the_command_goes_on_to_the_same_bits(data, tmp_path, workers):
    path = tmp_path / "a run"
    arguments = ["fit", data, "-x", "x", "-y", "y", *SLOW, "--store", path, *workers]
    code, out, err = interrupted(path, *arguments, "--max-iter", 5000)
    assert (code, out) == (130, "")
    assert "Traceback" not in err
    assert "ERROR" not in err
    cut = dask_gd.load(path)
    assert cut.reason == "interrupted"
    assert f"iteration {cut.n_iter} is safe in {path}" in err
    assert "died" not in err  # of workers
    assert shlex.split(err.splitlines()[-1]) == command(*arguments, "--max-iter", 5000)

    resumed = run(*arguments[: len(arguments) - len(workers)], "--max-iter", cut.n_iter + 5, code=3)
    assert f"resumed after iteration {cut.n_iter}" in resumed.stderr
    expected = dask_gd.fit(dask_gd.open(data, x="x", y="y"), max_iter=cut.n_iter + 5, **SLOW_ARGUMENTS)
    same_run(dask_gd.load(path), expected)


STARTED = events.FitStarted("a", "", "", "", "", 10, None)


def ended(store, *happening):
    """The exit status after events, and Ctrl-C where there is None."""
    with pytest.raises(click.exceptions.Exit) as stopped:
        tell(store, happening)
    return stopped.value.exit_code


def tell(store, happening):
    with terminal.CtrlC(store) as ctrl_c:
        for event in happening:
            ctrl_c(event) if event else signal.raise_signal(signal.SIGINT)


def test_ctrl_c_without_a_store_stops_at_once_and_says_that_nothing_is_kept(capsys):
    before = signal.getsignal(signal.SIGINT)
    assert ended(None, STARTED, None, AssertionError) == 130
    assert "nothing was stored" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_stops_at_once(tmp_path, capfd):
    assert ended(tmp_path, STARTED, None, None, AssertionError) == 130
    assert "Ctrl-C again to stop at once" in capfd.readouterr().err


def test_ctrl_c_ends_a_fit_after_the_iteration_and_a_search_after_the_round(tmp_path):
    iteration = events.IterationEnded(1, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    with pytest.raises(events.StopFit, match="interrupted"):
        tell(tmp_path, [STARTED, iteration, None, iteration])
    over = events.RoundEnded(1, 2, 3)
    assert ended(tmp_path, over, None, over, AssertionError) == 130
    # Before there is anything to be kept.
    assert ended(tmp_path, None, AssertionError) == 130


def test_a_callback_can_end_a_fit(tmp_path):
    def stop(event):
        if isinstance(event, events.IterationEnded) and event.iteration == 2:
            raise events.StopFit("enough")

    x, _, y = problem()
    seen = []
    options = {"loss": "logistic", "solver": "gradient_descent", "store": tmp_path}
    cut = dask_gd.fit(x, y, callbacks=[stop, seen.append], **options)
    assert (cut.reason, cut.n_iter, cut.converged) == ("enough", 2, False)
    assert isinstance(seen[-1], events.FitEnded)
    assert dask_gd.load(tmp_path).reason == "enough"
    same_run(dask_gd.fit(x, y, max_iter=6, **options), dask_gd.fit(x, y, max_iter=6, **options | {"store": None}))


# --- show, predict, search and the rest ---


def test_show(stored, tmp_path):
    path, _ = stored
    expected = dask_gd.load(path)
    text = run("show", path, "--last", 2).stdout
    assert "l2:alpha=0.0001" in text
    assert "(60000, 110) float32" in text
    assert f"{expected.history.loss.values[-2]:.10g}" in text
    assert f"{expected.history.loss.values[-3]:.10g}" not in text
    assert len(run("show", path, "--weights", "--last", 0).stdout.splitlines()) > 110
    told = json.loads(run("show", path, "--json").stdout)
    assert told["history"]["loss"] == expected.history.loss.values.tolist()
    assert {w["feature"]: w["weight"] for w in told["weights"]} == expected.weights.to_series().to_dict()
    assert told["reason"] == "converged"


def test_show_says_whether_a_run_goes_on(tmp_path):
    x, _, y = problem(300, 3)
    told = {}

    def look(event):
        if getattr(event, "iteration", None) == 2:
            told["text"] = run("show", tmp_path / "fit").stdout
            told["json"] = json.loads(run("show", tmp_path / "fit", "--json").stdout)["reason"]
            raise KeyboardInterrupt
        if isinstance(event, events.RoundEnded):
            told.setdefault("search", run("show", tmp_path / "search").stdout)

    options = {"loss": "logistic", "solver": "gradient_descent", "callbacks": [look]}
    with pytest.raises(KeyboardInterrupt):
        dask_gd.fit(x, y, store=tmp_path / "fit", **options)
    assert re.search(r"state +running \(last commit \d+ s ago\), 2 iterations so far\n", told["text"])
    assert told["json"] == "running"
    assert re.search(r"ended +interrupted after 2 iterations\n", run("show", tmp_path / "fit").stdout)
    # A lock that outlives its process, in a child of it, is nobody's.
    with dask_gd.Store(tmp_path / "fit"):
        assert "running (last" in run("show", tmp_path / "fit").stdout
        owner = json.loads((tmp_path / "fit" / "lock").read_text())
        (tmp_path / "fit" / "lock").write_text(json.dumps({**owner, "process": 2**30}))
        assert "interrupted after 2" in run("show", tmp_path / "fit").stdout
    dask_gd.search(x, y, store=tmp_path / "search", alphas=[0.1, 1.0], folds=2, **options)
    assert re.search(r"state +running \(last commit \d+ s ago\)\n", told["search"])
    assert re.search(r"state +ended\n", run("show", tmp_path / "search").stdout)


def test_to_look_at_a_store_stands_in_no_fits_way(tmp_path):
    """A look takes the lock for a moment."""
    store = dask_gd.Store(tmp_path)
    with store:
        pass
    ended = threading.Event()

    def look():
        while not ended.is_set():
            store.is_in_use()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(200):
            with dask_gd.Store(tmp_path):
                pass
    finally:
        ended.set()
        thread.join()


def test_show_marks_losses_of_samples(tmp_path):
    x, _, y = problem(4000, 3)
    path = write_group(tmp_path / "in.zarr", chunk=200, x=x, y=y)
    run(
        "fit", path, "-x", "x", "-y", "y", "--loss", "logistic", "--solver", "sgd:batch=0.25", "--store", tmp_path / "a"
    )
    text = run("show", tmp_path / "a", "--last", 1).stdout
    assert re.search(r"\n100 +0\.\d+\* ", text)
    assert "\n* of a sample of the rows: not comparable with losses of other rows\n" in text
    assert "of 25% of the rows, not comparable\n" in text
    assert "comparable" not in run("fit", path, "-x", "x", "-y", "y", "--loss", "logistic").stdout


def test_show_a_fit_with_a_loss_of_ones_own(tmp_path):
    x, z, _ = problem(300, 3)
    dask_gd.fit(x, z, loss=(lambda z, y: (z - y) ** 2, lambda z, y: 2 * (z - y)), store=tmp_path)
    assert "custom" in run("show", tmp_path).stdout.lower()


def test_a_closed_pipe_ends_it_without_a_word(stored):
    process = started("show", stored[0], "--weights", "--json")
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() != 0


def test_predict_writes_what_the_run_predicts_whole_or_not_at_all(stored, tmp_path, monkeypatch):
    fitted, out = dask_gd.load(stored[0]), tmp_path / "out.zarr"
    arguments = ["predict", stored[0], FLIGHTS, "-x", "X", "-o", out]
    rows = ["--rows", "65000:"]
    told = run(*arguments, *rows)
    assert (told.stdout, told.stderr) == ("", f"dask-gd: wrote {out}, 235000\n")
    found = zarr.open_array(out, mode="r")
    source = dask_gd.open(FLIGHTS, x="X", y="late")
    expected = fitted.predict(source).compute()
    np.testing.assert_array_equal(found[:], expected[65000:])
    assert "crc32c" in repr(found.metadata.codecs).lower()
    assert found.chunks == (10000,)
    assert "--overwrite" in run(*arguments, code=2).stderr

    def half(*_, **__):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(predictions.da, "store", half)
        run(*arguments, "--overwrite", code=1)
    np.testing.assert_array_equal(zarr.open_array(out, mode="r")[:], expected[65000:])
    run(*arguments, "--overwrite")
    np.testing.assert_array_equal(zarr.open_array(out, mode="r")[:], expected)
    assert os.listdir(tmp_path) == ["out.zarr"]
    (tmp_path / "papers").mkdir()
    for place, message in ((tmp_path / "papers", "is not Zarr"), (FLIGHTS, "write elsewhere")):
        assert message in run(*arguments[:-1], place, "--overwrite", code=2).stderr


def test_predict_adds_the_offset(data, tmp_path):
    arguments = ["-x", "x", "--offset", "s"]
    run("fit", data, *arguments, "-y", "y", "--loss", "poisson", "--store", tmp_path / "run")
    run("predict", tmp_path / "run", data, *arguments, "-o", tmp_path / "out.zarr", "--quiet")
    group = zarr.open_group(data, mode="r")
    expected = dask_gd.load(tmp_path / "run").predict(group["x"][:], offset=group["s"][:])
    np.testing.assert_allclose(zarr.open_array(tmp_path / "out.zarr", mode="r")[:], expected, rtol=1e-12)


def test_search(data, tmp_path):
    arguments = ["search", data, "-x", "x", "-y", "y", "--loss", "logistic", "--folds", 3, "--store", tmp_path / "s"]
    told = run(*arguments, "--alphas", "1e-4,1e-1", "--refit-store", tmp_path / "best")
    source = dask_gd.open(data, x="x", y="y")
    found = dask_gd.search(source, loss="logistic", alphas=[1e-4, 1e-1], folds=3)
    assert f"{found}" in told.stdout
    assert dask_gd.load(tmp_path / "best").converged
    shown = run("show", tmp_path / "s").stdout
    assert "search" in shown
    assert json.loads(run("show", tmp_path / "s", "--json").stdout)["running"] == 0
    told = json.loads(run(*arguments, "--alphas", "1e-4,1e-1", "--json").stdout)
    assert told["best"] == found.best
    np.testing.assert_allclose([c["scores"] for c in told["candidates"]], found.scores.values)
    assert "made otherwise" in run(*arguments, "--alphas", "1e-4", code=1).stderr


def test_search_of_a_path_and_of_nothing(data, no_pass):
    arguments = ["search", data, "-x", "x", "-y", "z"]
    assert "Which candidates?" in run(*arguments, code=2).stderr
    assert "l1_ratios" in run(*arguments, "--alphas", 20, code=1).stderr
    assert "numbers with commas" in run(*arguments, "--alphas", "a,b", code=2).stderr


def test_search_of_a_path(data):
    arguments = ["search", data, "-x", "x", "-y", "z", "--alphas", 4, "--l1-ratios", "0.5,1", "--scoring", "r2"]
    assert len(json.loads(run(*arguments, "--json").stdout)["candidates"]) == 8


def test_a_running_scheduler_and_its_dashboard(data):
    with LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        protocol="tcp",
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
    ) as cluster:
        address = cluster.scheduler_address
        link = cluster.dashboard_link
        expected = f"{link}\n{link.removesuffix('/status')}/gd\n"
        assert run("dashboard", "--scheduler", address).stdout == expected
        with dask.config.set({"scheduler-address": address}):
            assert run("dashboard").stdout == expected
        told = run("fit", data, "-x", "x", "-y", "z", "--scheduler", address, "--json")
        assert json.loads(told.stdout)["converged"]
        assert told.stderr == f"dask-gd: scheduler {address}, dashboard {link.replace('status', 'gd')}\n"


def test_dashboard_needs_a_scheduler():
    with dask.config.set({"scheduler-address": None}):
        assert "DASK_SCHEDULER_ADDRESS" in run("dashboard", code=2).stderr


def test_doctor(data, tmp_path):
    text = run("doctor").stdout
    for name in ("python", "zarr", "blas", "malloc", "codecs", "dashboard", "reading", "chunks"):
        assert f"\n{name} " in f"\n{text}"
    assert "the floor" in text
    told = {check["name"]: check for check in json.loads(run("doctor", data, "-x", "x", "--json").stdout)}
    assert told["reading"]["status"] in ("ok", "advice")
    assert "MB/s" in told["reading"]["found"]
    assert "go together" in run("doctor", data, code=2).stderr


def test_doctor_advises_about_chunks_and_tells_what_is_broken(tmp_path):
    x = np.zeros((400_000, 6))
    group = zarr.open_group(tmp_path / "g.zarr", mode="w")
    options = {"config": {"write_empty_chunks": True}, "compressors": None}
    group.create_array("small", data=x, chunks=(10_000, 3), **options)
    told = {c["name"]: c for c in json.loads(run("doctor", tmp_path / "g.zarr", "-x", "small", "--json").stdout)}
    for words in ("are small", "only some columns", "no checksums"):
        assert words in told["chunks"]["advice"]
    (tmp_path / "g.zarr" / "small" / "c" / "0" / "0").write_bytes(b"half")
    told = run("doctor", tmp_path / "g.zarr", "-x", "small", code=1).stdout
    assert "broken: reading: Cannot decode array 'small'" in told


def test_report(stored, tmp_path):
    assert run("report", stored[0], "-o", tmp_path / "a.html").stdout == f"{tmp_path / 'a.html'}\n"
    assert "<html" in (tmp_path / "a.html").read_text()


def test_help_names_every_command():
    text = run("--help").stdout
    for name in ("fit", "show", "predict", "search", "report", "dashboard", "doctor"):
        assert f"\n  {name} " in text
        assert "Usage:" in run(name, "--help").stdout
    assert dask_gd.__version__ in run("--version").stdout
