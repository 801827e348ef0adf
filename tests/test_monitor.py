"""What Dask's dashboard shows of fits: the page `/gd`, spans, task names, metrics; and the bars in the terminal."""

import contextlib
import io
import logging
import os
import pty
import re
import subprocess
import sys
import termios
import threading
import time
from dataclasses import replace
from urllib.request import urlopen

import dask
import dask.array as da
import numpy as np
import pytest
import zarr
from dask.distributed import Client, get_task_stream
from dask.utils import key_split
from helpers import cluster, until

import dask_gd
from dask_gd.dashboard import plugin as boards
from dask_gd.dashboard import progress
from dask_gd.dashboard import table as tables
from dask_gd.dashboard.page import View
from dask_gd.dashboard.plugin import FITS, Board
from dask_gd.dashboard.progress import Progress
from dask_gd.dashboard.table import table
from dask_gd.dashboard.watched import POINTS, Watched
from dask_gd.display.texts import duration
from dask_gd.errors import DataError
from dask_gd.events import FitEnded, FitStarted, IterationEnded, StopFit


def problem(n=4000, p=6, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p))
    return x, (x @ rng.normal(size=p) + rng.normal(size=n) > 0).astype(float)


@pytest.fixture
def running(two):
    """A cluster that a user has started, and its client."""
    return two.cluster, two


@pytest.fixture
def board(running):
    """What the scheduler remembers, of this test alone."""
    two, _ = running
    dask_gd.fit(*problem(100), max_iter=0)
    found = two.scheduler.plugins["dask_gd"]
    found.watched.clear()
    return found


@pytest.fixture
def stored(tmp_path):
    x, y = problem()
    group = zarr.open_group(tmp_path / "data.zarr", mode="w")
    group.create_array("x", data=x, chunks=(100, 6), compressors=zarr.codecs.ZstdCodec())
    group.create_array("y", data=y, chunks=(1000,))
    return dask_gd.open(tmp_path / "data.zarr", x="x", y="y")


def get(link, page):
    with urlopen(link.replace("status", page), timeout=60) as answer:
        return answer.read().decode()


# The page


def test_the_page_is_served_and_in_the_navigation_of_the_others(running, board):
    link = running[0].dashboard_link
    for name in ("gd", "status", "workers"):
        assert 'href="gd">Gd</a>' in get(link, name), name
    # A second client asks for the page again, and there is still one.
    with Client(running[0], set_as_default=True) as second:
        dask_gd.fit(*problem(100), max_iter=0)
        assert second.status == "running"
    assert get(link, "status").count(">Gd</a>") == 1
    assert running[0].scheduler.plugins["dask_gd"] is board


def test_the_scheduler_hears_every_iteration(board, stored, tmp_path):
    run = dask_gd.fit(stored, loss="logistic", solver="adam", max_iter=7, store=tmp_path / "run")
    (watched,) = board.watched.values()
    assert watched.status == "max_iter"
    assert not watched.running
    assert watched.beginning.store == str(tmp_path / "run")
    for name in ("loss", "grad_norm", "step_size", "rows", "bytes_read", "seconds"):
        np.testing.assert_array_equal(watched.curves[name], run.history[name])
    newest = max((tmp_path / "run").glob("*.zip"), key=lambda file: file.stat().st_mtime)
    assert watched.committed == pytest.approx(newest.stat().st_mtime, abs=2)
    assert watched.seconds_left(time.time()) is None


def test_fits_at_the_same_time_are_told_apart(board, stored):
    results = {}

    def fit(rate):
        solver = dask_gd.GradientDescent(learning_rate=rate)
        results[rate] = dask_gd.fit(stored, loss="logistic", solver=solver, max_iter=6)

    threads = [threading.Thread(target=fit, args=(rate,)) for rate in (0.1, 0.5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = {w.beginning.solver: w.curves["loss"] for w in board.watched.values()}
    assert len(found) == 2
    for rate, run in results.items():
        (own,) = (losses for solver, losses in found.items() if f"learning_rate={rate}" in solver)
        np.testing.assert_array_equal(own, run.history.loss)


def test_the_page_shows_a_search_and_what_of_it_still_runs(board, stored):
    found = dask_gd.search(stored, loss="logistic", alphas=[1e-3, 1e-1, 10.0], folds=3, solver="lbfgs")
    (watched,) = (w for w in board.watched.values() if w.is_search)
    assert watched.beginning.fits == 12
    assert watched.curves["running"][-1] == 0
    assert watched.curves["candidates"][0] <= 3
    assert watched.status == f"best {found.best}"
    html = table(board, list(board.watched.values()), dict.fromkeys(board.watched, "red"))
    assert "0 of 12 fits run" in html


def test_a_fit_that_fails_or_whose_client_goes_does_not_run_for_ever(running, board, stored):
    x, y = problem()
    x[5] = np.nan
    with pytest.raises(DataError):
        dask_gd.fit(x, y, loss="logistic")
    assert next(iter(board.watched.values())).status.startswith("NonFiniteError: nan in row 5")
    board.watched.clear()
    code = (
        "import sys, os, numpy as np, dask_gd; from dask.distributed import Client\n"
        "client = Client(sys.argv[1])\n"
        "rng = np.random.default_rng(0); x = rng.normal(size=(500, 3))\n"
        "stop = lambda event: os._exit(0) if getattr(event, 'iteration', 0) == 2 else None\n"
        "dask_gd.fit(x, x[:, 0] > 0, loss='logistic', solver='adam', callbacks=[stop])\n"
    )
    subprocess.run([sys.executable, "-c", code, running[0].scheduler_address], check=True, timeout=240)
    (watched,) = board.watched.values()
    until(lambda: not watched.running)
    assert watched.status == "its client is gone"


def test_the_share_of_a_pass_that_is_done(running, board):
    x, y = problem(800)
    slow = da.from_array(x, chunks=(100, -1)).map_blocks(
        lambda block: (time.sleep(0.1), block)[1], meta=np.empty((0, 0))
    )
    seen, (_, client) = [], running

    async def done():
        """Ask where the page does, in the scheduler's thread: elsewhere a task may be counted in two states or none."""
        return [board.pass_done(run) for run in board.watched]

    def look():
        while not ended.wait(0.02):
            seen.extend(told for told in client.sync(done) if told is not None)

    ended = threading.Event()
    thread = threading.Thread(target=look)
    thread.start()
    dask_gd.fit(slow, y, loss="logistic", solver="adam", max_iter=2)
    ended.set()
    thread.join()
    numbers = [number for number, _ in seen]
    assert sorted(set(numbers)) == [1, 2, 3]
    assert numbers == sorted(numbers)
    for number in (1, 2, 3):
        shares = [share for n, share in seen if n == number]
        assert shares == sorted(shares)
        assert any(0 < share < 1 for share in shares)
    assert board.pass_done("none") is None


def test_reading_alone_is_measured_in_the_tasks(board, stored):
    dask_gd.fit(stored, loss="logistic", solver="adam", max_iter=3)
    (run,) = board.watched
    # Workers tell with their heartbeats.
    speed = until(lambda: board.reading_speed(run))
    watched = board.watched[run]
    whole = sum(watched.curves["bytes_read"]) / sum(watched.curves["seconds"])
    assert speed > whole


def test_searches_have_a_speed_too_and_what_is_kept_is_not_read(board, stored):
    dask_gd.search(stored, loss="logistic", alphas=[0.01, 0.1], folds=3, solver="lbfgs")
    dask_gd.fit(stored, loss="logistic", solver="adam", max_iter=30)
    time.sleep(1.5)  # Workers tell with their heartbeats.
    search = next(board.reading_speed(w.run) for w in board.watched.values() if w.is_search)
    fit = board.reading_speed(list(board.watched)[-1])
    assert search is not None
    assert fit is not None
    # From the fifth pass on rows come from memory: that is not reading, however fast.
    assert fit < 10 * search


def test_numpys_scalars_are_told_too(board, stored):
    run = dask_gd.fit(stored, loss="logistic", solver="adam", max_iter=np.int64(3), tol=np.float64(1e-3))
    (watched,) = board.watched.values()
    assert watched.last("iteration") == run.n_iter


@pytest.mark.parametrize("turned", ["off", "on"])
def test_configuration_turns_it_off(board, stored, turned):
    with dask.config.set({"dask_gd.dashboard": turned == "on"}):
        dask_gd.fit(stored, max_iter=0)
        dask_gd.search(stored, alphas=[0.1, 1.0])
    assert len(board.watched) == (2 if turned == "on" else 0)


def test_a_cluster_without_a_dashboard_is_fine(caplog):
    with cluster(1, scheduler_kwargs={"dashboard": False}) as one, Client(one):
        run = dask_gd.fit(*problem(200), loss="logistic")
        assert len(one.scheduler.plugins["dask_gd"].watched) == 1
    assert run.converged
    assert not [record for record in caplog.records if "/gd" in record.getMessage()]


@contextlib.contextmanager
def remote(directory, prelude="pass"):
    """A client of a scheduler and a worker that are other processes, started as from the command line."""
    file, quiet = directory / "scheduler.json", {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    options = ["--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0"]
    code = f"import sys; {prelude}; from distributed.cli.dask_scheduler import main; main()"
    scheduler = subprocess.Popen([sys.executable, "-c", code, *options, "--scheduler-file", str(file)], **quiet)
    worker = subprocess.Popen(
        [sys.executable, "-m", "dask", "worker", "--scheduler-file", str(file), "--nthreads", "1", "--no-dashboard"],
        **quiet,
    )
    try:
        until(lambda: file.exists() or scheduler.poll() is not None)
        assert scheduler.poll() is None
        with Client(scheduler_file=str(file), timeout=120) as client:
            client.wait_for_workers(1, timeout=120)
            yield client
    finally:
        for process in (worker, scheduler):
            process.terminate()
            process.wait(20)


def test_a_remote_scheduler_serves_the_page(tmp_path):
    with remote(tmp_path) as client:
        dask_gd.fit(*problem(200), loss="logistic")
        assert 'href="gd"' in get(client.dashboard_link, "gd")
        heard = client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.plugins["dask_gd"].watched))
        assert heard == 1


def test_a_scheduler_that_cannot_have_the_page_is_noted_and_the_fit_goes_on(tmp_path, caplog):
    """Bokeh is not there."""
    x, y = problem(200)
    expected = dask_gd.fit(x, y, loss="logistic")
    with remote(tmp_path, "sys.modules['bokeh'] = None"):
        for _ in range(2):
            run = dask_gd.fit(x, y, loss="logistic")
    np.testing.assert_array_equal(run.parameters, expected.parameters)
    (note,) = (record for record in caplog.records if "/gd could not be added" in record.getMessage())
    assert note.levelno == logging.WARNING
    assert "ModuleNotFoundError" in note.getMessage()


# What is remembered


def started(run="a", data="rows", store=None):
    return FitStarted(
        run=run,
        data=data,
        loss="Squared()",
        penalty="none",
        solver="adam",
        max_iter=100,
        resumed_from=None,
        store=store,
        tol=1e-6,
    )


def iteration(n, loss=1.0, grad_norm=1.0, run="a"):
    return IterationEnded(
        iteration=n,
        loss=loss,
        grad_norm=grad_norm,
        step_size=1.0,
        passes=1.0,
        rows=10.0,
        bytes_read=80.0,
        seconds=2.0,
        run=run,
    )


def log(board, event, time=0.0):
    """Have the board hear of an event as a client sends it."""
    board.log_event("dask_gd", {**event.as_message(), "client": "c", "time": time})


def test_time_left_follows_the_gradients_fall():
    watched = Watched(started(), "c", 0.0)
    for n in range(4):
        assert watched.seconds_left(0.0) is None or n >= 3
        watched.hear(iteration(n, grad_norm=10.0**-n), now=n)
    # From 1e-3 to 1e-6 at a factor of ten for each iteration, of 2 seconds each, of which 1 has gone by.
    assert watched.seconds_left(4.0) == pytest.approx(5.0)
    slow = Watched(started(), "c", 0.0)
    for n in range(4):
        slow.hear(iteration(n, grad_norm=1.0), now=n)
    assert slow.seconds_left(3.0) == pytest.approx(2.0 * 97)


def test_long_curves_are_thinned_and_old_fits_forgotten():
    board = Board()
    log(board, started())
    for n in range(3 * POINTS):
        log(board, iteration(n), time=n)
    curve = board.watched["a"].curves["iteration"]
    assert len(curve) <= POINTS
    assert curve[0] == 0
    assert np.all(np.diff(curve) > 0)
    assert board.watched["a"].count == 3 * POINTS
    # Those that have ended go first.
    for i in range(FITS + 5):
        log(board, started(f"b{i}"), time=i)
        log(board, FitEnded("converged", n_iter=1, loss=1.0, run=f"b{i}"), time=i)
    assert len(board.watched) == FITS
    assert "a" in board.watched
    assert "b0" not in board.watched
    board.log_event("another topic", {"run": "z"})
    log(board, iteration(0, run="never heard of"))
    assert len(board.watched) == FITS


def test_the_page_draws_the_newest_run_unless_another_is_asked_for():
    board = Board()
    for run in ("a", "b", "c"):
        log(board, started(run))
        log(board, iteration(0, run=run))
    log(board, FitEnded("converged", n_iter=0, loss=1.0, run="c"))
    board.pass_done = board.reading_speed = lambda run: None
    for asked, expected in {None: ["b"], "a": ["a"], "all": ["a", "b", "c"], "gone": ["b"]}.items():
        view = View(board, asked)
        view.update()
        assert view.curves.data["run"] == expected


def test_no_line_leads_to_the_loss_of_a_sample_and_the_table_says_of_how_many_rows_it_is():
    board = Board()
    board.pass_done = board.reading_speed = lambda run: None
    log(board, started())
    for n, (passes, full) in enumerate([(0.125, 0.0), (0.25, 0.0), (1.125, 1.0), (1.0, 1.0)]):
        log(board, replace(iteration(n, loss=4.0 - n), passes=passes, full_passes=full))
        if n == 1:
            assert "25% of the rows" in table(board, list(board.watched.values()), {"a": "red"})
        # Passes over all rows so far, and what was read of samples.
        read = ["0 full + 0.12", "0 full + 0.38", "1 full + 0.5", "2 full + 0.5"][n]
        assert f">{read}</div>" in table(board, list(board.watched.values()), {"a": "red"})
    view = View(board)
    view.update()
    np.testing.assert_array_equal(view.curves.data["loss"], [[np.nan, np.nan, 2.0, 1.0]])
    assert view.samples.data["loss"] == [4.0, 3.0]
    assert "not comparable" in view.caption.text
    assert "of the rows" not in view.table.text


def test_a_fit_that_ends_without_a_pass_shows_the_speed_of_its_last_one():
    board = Board()
    board.pass_done = board.reading_speed = lambda run: None
    log(board, started())
    log(board, iteration(0))
    log(board, replace(iteration(1), passes=0.0, rows=0.0, bytes_read=0.0, seconds=1e-5))
    log(board, FitEnded("converged", n_iter=1, loss=1.0, run="a"))
    assert board.watched["a"].speed == (5.0, 40e-6)
    assert ">5<" in table(board, list(board.watched.values()), {"a": "red"})


def test_fits_are_told_apart_by_their_store_and_their_data(stored, tmp_path):
    heard = []
    dask_gd.fit(stored, loss="logistic", max_iter=0, store=tmp_path / "runs" / "late", callbacks=[heard.append])
    assert heard[0].label == f"y from x in {tmp_path / 'data.zarr'}"
    board = Board()
    board.pass_done = board.reading_speed = lambda run: None
    log(board, heard[0])
    html = table(board, list(board.watched.values()), {heard[0].run: "red"})
    for shown in (">runs/late</a>", ">y from x in data.zarr<", "Logistic(), penalty none, "):
        assert shown in html


def test_the_table_escapes_what_it_shows(monkeypatch):
    board = Board()
    monkeypatch.setattr(board, "pass_done", lambda run: (1, 0.25))
    monkeypatch.setattr(board, "reading_speed", lambda run: 123e6)
    log(board, started(data="<script>alert(1)</script>", store="runs/a"))
    log(board, iteration(3, loss=0.5), time=3.0)
    monkeypatch.setattr(tables, "now", lambda: 203.0)
    html = table(board, list(board.watched.values()), {"a": "red"})
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    for shown in ("3 of 100", "0.5", "25%", "123", "3 min ago", "running"):
        assert shown in html
    assert "No fit" in table(board, [], {})
    assert [duration(s) for s in (8, 200, 9000)] == ["8 s", "3 min", "2.5 h"]


# Dask's own pages


@pytest.mark.parametrize("what", ["fit", "search"])
def test_all_tasks_have_readable_names_in_one_span(running, board, stored, what):
    two, client = running
    with get_task_stream(client) as stream:
        if what == "fit":
            dask_gd.fit(stored, loss="logistic", solver="adam", max_iter=3)
        else:
            dask_gd.search(stored, loss="logistic", alphas=[0.01, 0.1], folds=3)
    names = {key_split(task["key"]) for task in stream.data}
    assert names <= {"gd-gradient", "gd-sum", "gd-weights"}
    assert "gd-gradient" in names
    spans = two.scheduler.extensions["spans"].spans_search_by_tag
    (run,) = (w.run for w in board.watched.values() if w.is_search == (what == "search"))
    (span,) = {span.name[0]: span for span in spans[f"gd-{what}-{run}"]}.values()
    assert span.name[0] == f"gd-{what}-{run}"
    assert {group.prefix.name for group in span.traverse_groups()} == names


def test_blocks_of_dask_arrays_are_made_in_the_task_that_sums_them(running, board):
    x, y = problem(800)
    lazy = da.from_array(zarr.array(x, chunks=(100, 6)), chunks=(100, -1)).map_blocks(np.negative)
    with get_task_stream(running[1]) as stream:
        dask_gd.fit(lazy, da.from_array(zarr.array(y), chunks=100), loss="logistic", solver="adam", max_iter=2)
    # The last is the array itself, which Dask puts into a node of its own.
    assert {key_split(task["key"]) for task in stream.data} <= {"gd-gradient", "gd-sum", "original-array"}


def test_fine_performance_metrics_split_read_decode_and_compute(running, board, stored):
    dask_gd.fit(stored, loss="logistic", solver="adam", max_iter=3)
    (run,) = board.watched
    spans = running[0].scheduler.extensions["spans"].spans_search_by_tag[f"gd-fit-{run}"]
    wanted = {("execute", "gd-gradient", what, "seconds") for what in ("read", "decode", "compute")}

    def told():
        return {key: value for span in spans for key, value in span.cumulative_worker_metrics.items()}

    until(lambda: wanted <= told().keys())
    metrics = told()
    assert all(metrics[key] > 0 for key in wanted)


def test_prometheus_has_the_last_values(running, board, stored):
    pytest.importorskip("prometheus_client")
    run = dask_gd.fit(stored, loss="logistic", solver="adam", max_iter=3)
    (name,) = board.watched
    lines = dict(line.rsplit(" ", 1) for line in get(running[0].dashboard_link, "metrics").splitlines())
    assert float(lines[f'dask_gd_loss{{fit="{name}"}}']) == float(run.history.loss[-1])
    assert float(lines[f'dask_gd_iteration{{fit="{name}"}}']) == 3
    assert float(lines[f'dask_gd_rows_per_second{{fit="{name}"}}']) > 0
    boards.forget(name)
    assert f'fit="{name}"' not in get(running[0].dashboard_link, "metrics")


# Bars


def drawn(callbacks, **options):
    dask_gd.fit(*problem(), loss="logistic", callbacks=callbacks, **options)


def test_bars_are_silent_where_nobody_looks(capfd, monkeypatch):
    drawn([Progress()])
    assert capfd.readouterr() == ("", "")
    # A notebook's kernel has no terminal, but somebody looks.
    assert not progress.shown()
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    assert progress.shown()


@pytest.mark.parametrize("where", ["threads", "cluster"])
def test_bars_show_the_iterations_and_the_running_pass(where, request, monkeypatch):
    monkeypatch.setattr(progress, "INTERVAL", 0.1)
    x, y = problem(800)
    pause = da.from_array(x, chunks=(100, -1)).map_blocks(lambda b: (time.sleep(0.15), b)[1], meta=np.empty((0, 0)))
    if where == "cluster":
        request.getfixturevalue("board")
        context = request.getfixturevalue("running")[1].as_current()
    else:
        context = dask.config.set(scheduler="threads")
    file = io.StringIO()
    with context:
        options = {"file": file, "disable": False, "mininterval": 0, "ncols": 150}
        dask_gd.fit(pause, y, loss="logistic", solver="adam", max_iter=3, callbacks=[Progress(**options)])
    text = file.getvalue()
    for shown in ("max_iter: ", "3/3", "loss 0.", "gradient", "rows/s", "MB/s", "pass 2", "pass 3"):
        assert shown in text
    shares = {int(part.rpartition(" ")[2]) for part in text.split("%|")[:-1] if "pass" in part.rpartition("\r")[2]}
    assert len(shares & set(range(1, 100))) >= 2


def test_a_search_has_a_bar_too():
    file = io.StringIO()
    options = {"file": file, "disable": False, "mininterval": 0, "ncols": 150}
    x, y = problem()
    found = dask_gd.search(x, y, loss="logistic", alphas=[0.1, 1.0], folds=3, callbacks=[Progress(**options)])
    text = file.getvalue()
    assert "8/8" in text
    assert f"best {found.best}" in text


def test_fits_in_several_threads_have_bars_of_their_own():
    files = [io.StringIO() for _ in range(4)]

    def fit(file):
        callbacks = [Progress(file=file, disable=False, mininterval=0)]
        dask_gd.fit(*problem(), loss="logistic", solver="adam", max_iter=5, callbacks=callbacks)

    threads = [threading.Thread(target=fit, args=(file,)) for file in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all("5/5" in file.getvalue() for file in files)
    assert not [thread for thread in threading.enumerate() if "_follow" in thread.name]


@pytest.mark.parametrize("when", [0, 5, 20])
def test_a_terminal_that_goes_away_does_not_cost_the_fit(when):
    class Broken(io.StringIO):
        left = when

        def write(self, text):
            self.left -= 1
            if self.left < 0:
                raise BrokenPipeError
            return super().write(text)

    options = {"loss": "logistic", "solver": "adam", "max_iter": 8}
    expected = dask_gd.fit(*problem(), **options)
    callbacks = [Progress(file=Broken(), disable=False, mininterval=0)]
    run = dask_gd.fit(*problem(), **options, callbacks=callbacks)
    np.testing.assert_array_equal(run.parameters, expected.parameters)
    assert not [thread for thread in threading.enumerate() if "_follow" in thread.name]


def test_the_bar_of_a_fit_that_fails_says_so():
    x, y = problem()
    x[3] = np.nan
    file = io.StringIO()
    with pytest.raises(DataError):
        dask_gd.fit(x, y, callbacks=[Progress(file=file, disable=False)])
    # What the error says is said where it is raised.
    assert file.getvalue().count("failed, NonFiniteError: ") == 1
    assert "nan in row" not in file.getvalue()


def test_a_bar_says_which_losses_are_of_samples():
    file = io.StringIO()
    callbacks = [Progress(file=file, disable=False, mininterval=0, ncols=180)]
    x, y = problem()
    rows = da.from_array(x, chunks=(100, -1)), da.from_array(y, chunks=100)
    run = dask_gd.fit(*rows, loss="logistic", callbacks=callbacks)
    assert "of 10% of the rows, not comparable, gradient" in file.getvalue()
    # The last step takes no pass, and has the speed of the pass before.
    last = file.getvalue().splitlines()[-1]
    full = run.history.full_passes.sum().item()
    samples = run.history.passes.sum().item() - full
    assert f"{full:.0f} passes over all rows, {samples:.3g} in samples, " in last
    assert re.search(r"loss [\d.]+, gradient [\d.e-]+, \d pass.* in samples, [1-9][\d.e+]* rows/s", last)


def test_bars_are_drawn_in_a_terminal():
    code = (
        "import numpy as np, dask_gd; x = np.random.default_rng(0).normal(size=(500, 3))\n"
        "options = {'loss': 'logistic', 'solver': 'adam', 'max_iter': 3, 'callbacks': [dask_gd.Progress()]}\n"
        "dask_gd.fit(x, x[:, 0] > 0, **options)\n"
    )
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 150))
    process = subprocess.Popen([sys.executable, "-c", code], stderr=theirs, stdout=theirs)
    os.close(theirs)
    text = b""
    try:
        while part := os.read(ours, 4096):
            text += part
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    assert process.wait(60) == 0
    assert b"3/3" in text
    assert b"loss 0." in text


def test_events_cost_the_scheduler_one_message_each(board, stored):
    """So that the page cannot slow a fit by more than these, whatever is drawn."""
    heard = []
    original = board.log_event
    board.log_event = lambda topic, msg: (heard.append(topic) if topic == "dask_gd" else None, original(topic, msg))
    try:

        def stop(event):
            if getattr(event, "iteration", 0) == 5:
                raise StopFit

        dask_gd.fit(stored, loss="logistic", solver="adam", callbacks=[stop])
    finally:
        del board.log_event
    assert len(heard) == 1 + 6 + 1
