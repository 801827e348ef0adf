"""Ctrl-C ends the command at any moment: exit status 130, no traceback, nothing left but what is committed.

FOUND 34, FAULTS 24. Signals are real, go to the whole process group as a terminal sends them, and come when something
is seen to happen.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time

import dask.array as da
import numpy as np
import psutil
import pytest
import zarr
from helpers import checkpoint, committed, problem, same_checkpoint, until

import dask_gd
from dask_gd.cli import workers
from dask_gd.reports import replace_file

# Many short steps, each committed.
FIT = ["fit", "in.zarr", "-x", "x", "-y", "y", "--loss", "logistic", "--solver", "gradient_descent:learning_rate=1e-3"]
FIT += ["--tol", "0", "--max-iter", "100000", "--store", "run"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The current directory, with data and an empty directory for temporary files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    # Where the code is, for a process that starts in another directory.
    monkeypatch.setenv("PYTHONPATH", os.path.dirname(os.path.dirname(dask_gd.__file__)))
    (tmp_path / "temporary").mkdir()
    x, _, y = problem()
    group = zarr.open_group("in.zarr", mode="w")
    for name, values in {"x": x, "y": y}.items():
        codecs = [zarr.codecs.Crc32cCodec()]
        array = group.create_array(
            name, shape=values.shape, dtype=float, chunks=(100, *values.shape[1:]), compressors=codecs
        )
        array[...] = values
    return tmp_path


class Started:
    """The command in a process group of its own, as a shell starts it."""

    def __init__(self, *arguments):
        command = [sys.executable, "-m", "dask_gd", *arguments]
        with open("errors", "w") as errors:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.group():
            process.kill()
        self.process.communicate()

    def group(self):
        """Return the processes that run in the group."""
        found = []
        for process in psutil.process_iter(["status"]):
            try:
                if os.getpgid(process.pid) == self.process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (ProcessLookupError, psutil.NoSuchProcess):
                continue
        return found

    def children(self):
        return [p for p in self.group() if p.pid != self.process.pid and "spawn_main" in " ".join(p.cmdline())]

    def has_loaded(self, library):
        with open(f"/proc/{self.process.pid}/maps") as maps:
            return library in maps.read()

    def said(self):
        with open("errors") as errors:
            return errors.read()

    def until(self, condition):
        def happened():
            assert self.process.poll() is None, self.said()
            return condition()

        until(happened)

    def press(self):
        os.killpg(self.process.pid, signal.SIGINT)

    def ended_by_ctrl_c(self):
        """Check how the process has ended, and what there is of it."""
        return self.ended_by(signal.SIGINT, "interrupted")

    def ended_by(self, number, word):
        out, _ = self.process.communicate(timeout=60)
        said = self.said()
        assert (self.process.returncode, out) == (128 + number, ""), said
        assert word in said
        for noise in ("Traceback", "ERROR", "leaked", "Exception ignored"):
            assert noise not in said
        # Python's own resource tracker ends when it sees that this has.
        until(lambda: not self.group(), 5)
        assert os.listdir("temporary") == []
        return said


def shown(store):
    command = [sys.executable, "-m", "dask_gd", "show", store]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_ctrl_c_while_python_imports(place):
    with Started(*FIT) as command:
        command.until(lambda: command.has_loaded("numpy"))
        command.press()
        assert command.ended_by_ctrl_c() == "dask-gd: interrupted\n"
    assert not os.path.exists("run")


def test_ctrl_c_while_workers_start(place):
    with Started(*FIT, "--workers", "1") as command:
        command.until(command.children)
        command.press()
        command.ended_by_ctrl_c()
    assert not os.path.exists("run")


def test_ctrl_c_twice_in_a_fit_on_workers_and_what_is_committed_is_shown(place):
    with Started(*FIT, "--workers", "1") as command:
        command.until(lambda: list(place.glob("run/iteration-*.zip")))
        # Each worker, and each that takes the place of one, is deaf from its first moment.
        for child in command.children():
            with open(f"/proc/{child.pid}/status") as status:
                [blocked] = [line.split()[1] for line in status if line.startswith("SigBlk")]
            assert int(blocked, 16) & 1 << (signal.SIGINT - 1)
        command.press()
        command.press()
        said = command.ended_by_ctrl_c()
    assert "is safe in run" in said
    assert not list(place.glob("run/.*"))
    assert "interrupted" in shown("run")


def test_sigterm_ends_a_fit_on_workers_as_ctrl_c_does(place):
    """FOUND 26: Slurm sends it to all processes of a job step."""
    with Started(*FIT, "--workers", "1") as command:
        command.until(lambda: list(place.glob("run/iteration-*.zip")))
        os.killpg(command.process.pid, signal.SIGTERM)
        said = command.ended_by(signal.SIGTERM, "terminated")
    [iteration] = re.findall(r"iteration (\d+) is safe in run. To go on:", said)
    assert not list(place.glob("run/.*"))
    assert dask_gd.load("run").n_iter == int(iteration)


@pytest.mark.slow
def test_sigterm_while_python_imports(place):
    with Started(*FIT) as command:
        command.until(lambda: command.has_loaded("numpy"))
        command.process.terminate()
        assert command.ended_by(signal.SIGTERM, "terminated") == "dask-gd: terminated\n"


@pytest.mark.parametrize("what", ["fit", "search"])
def test_sigterm_in_a_script_leaves_its_contexts_and_keeps_the_last_commit(what, tmp_path, caplog):
    x, _, y = problem()
    store = tmp_path / "run"
    heard = []
    left = []

    def terminate(event):
        heard.append(event)
        if isinstance(event, dask_gd.events.Stepped) and len(heard) == 4:
            signal.raise_signal(signal.SIGTERM)

    def script():
        options = {"loss": "logistic", "solver": "gradient_descent", "store": store, "callbacks": [terminate]}
        with contextlib.ExitStack() as stack:
            stack.callback(left.append, True)
            if what == "fit":
                dask_gd.fit(x, y, **options)
            else:
                dask_gd.search(x, y, alphas=[0.1, 1.0], folds=2, **options)

    with pytest.raises(SystemExit) as stopped:
        script()
    assert stopped.value.code == 128 + signal.SIGTERM
    assert left
    assert heard[-1].error == "Terminated: SIGTERM"
    newest = dask_gd.Store(store).iterations()[-1]
    assert f"SIGTERM ends the {what}. Iteration {newest} is committed in {store}" in caplog.text
    assert not dask_gd.Store(store).is_in_use()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_handler_of_the_users_own_stays(tmp_path):
    x, _, y = problem()
    heard = []

    def terminate(event):
        if getattr(event, "iteration", None) == 2:
            signal.raise_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, lambda *_: heard.append("mine"))
    try:
        run = dask_gd.fit(x, y, loss="logistic", callbacks=[terminate])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == ["mine"]
    assert run.converged


@pytest.mark.slow
def test_ctrl_c_again_while_the_workers_close(place):
    with Started(*FIT, "--workers", "1") as command:
        command.until(lambda: list(place.glob("run/iteration-*.zip")))
        command.press()
        command.until(lambda: "is safe in run" in command.said())
        command.press()
        command.ended_by_ctrl_c()
    assert dask_gd.load("run").reason == "interrupted"


def test_ctrl_c_while_a_prediction_is_written(place):
    run = dask_gd.fit(dask_gd.open("in.zarr", x="x", y="y"), loss="logistic", max_iter=1, store="run")
    assert run.n_iter == 1
    many = zarr.open_group("many.zarr", mode="w").create_array("x", shape=(20_000, 7), chunks=(10, 7), dtype=float)
    many[...] = 1.0
    with Started("predict", "run", "many.zarr", "-x", "x", "-o", "out.zarr") as command:
        command.until(lambda: list(place.glob(".out.zarr.*/new")))
        command.press()
        command.ended_by_ctrl_c()
    assert not [name for name in os.listdir() if "out.zarr" in name]


def test_an_interrupted_commit_leaves_no_file_but_the_last_commit(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    for call in ("fsync", "replace"):
        store = committed(tmp_path / call, 1)
        with store, monkeypatch.context() as patch:
            patch.setattr(os, call, interrupt)
            with pytest.raises(KeyboardInterrupt):
                store.commit(checkpoint(2))
            assert sorted(os.listdir(store.path)) == ["iteration-00000001.zarr.zip", "lock"]
        same_checkpoint(store.latest(), checkpoint(1))
    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        replace_file(tmp_path / "report.html", "text")
    assert not (tmp_path / "report.html").exists()
    assert not list(tmp_path.glob(".*"))


def test_the_main_thread_hears_ctrl_c_while_the_loop_does_not():
    runner = workers.deaf_loop()
    masks = []
    try:
        runner.run_sync(lambda: _append_mask(masks))
    finally:
        runner.stop()
    assert signal.SIGINT in masks[0]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


async def _append_mask(masks):
    masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, []))


def test_ctrl_c_in_a_pass_leaves_no_keys_on_the_cluster_and_the_store_intact(two, tmp_path):
    x, _, y = problem()

    def slow(block):
        time.sleep(0.02)
        return block

    rows = da.from_array(x, chunks=(100, -1)).map_blocks(slow, dtype=float)
    options = {"loss": "logistic", "solver": "gradient_descent", "tol": 0.0, "max_iter": 500, "store": tmp_path / "run"}

    def press():
        until(lambda: len(list(tmp_path.glob("run/iteration-*.zip"))) > 1)
        until(lambda: any(two.processing().values()))
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        dask_gd.fit(rows, y, **options)
    thread.join()
    until(lambda: not two.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.tasks)))
    stored = dask_gd.load(tmp_path / "run")
    assert not list(tmp_path.glob("run/.*"))
    options["max_iter"] = stored.n_iter + 2
    resumed = dask_gd.fit(rows, y, **options)
    expected = dask_gd.fit(rows, y, **{**options, "store": None})
    np.testing.assert_array_equal(resumed.parameters, expected.parameters)
