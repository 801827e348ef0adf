"""Clusters that would keep a fit waiting: what is said, and what was committed (FOUND 32, 37; FAULTS 20 to 22, 28)."""

import contextlib
import importlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

import dask
import dask.array as da
import helpers
import numpy as np
import pytest
from dask.distributed import Client, default_client

import dask_gd
from dask_gd.cluster import compute
from dask_gd.errors import ClusterError
from dask_gd.passes import passes_of

#: Seconds without a sign of life that these tests allow; 60 by default.
PATIENCE = 6


@pytest.fixture
def impatient():
    with dask.config.set({"dask_gd.timeout": f"{PATIENCE}s"}):
        yield


@pytest.fixture
def reconnects_briefly():
    """Clients that try to find a scheduler that is gone for 3 s; 30 by default."""
    with dask.config.set({"distributed.comm.timeouts.connect": "3s"}):
        yield


@pytest.fixture
def data():
    x, _, y = helpers.problem(2000, 5)
    return da.from_array(x, chunks=(100, 5)), da.from_array(y, chunks=100)


@contextlib.contextmanager
def process(module, *arguments, packages=None):
    """Run a part of a cluster in a process of its own; packages from ``packages`` come before the installed ones."""
    if packages is None:
        run = helpers.forked(run_module, module, arguments)
        end = run.join
    else:
        paths = os.pathsep.join([str(packages), os.getcwd(), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, "-m", module, *arguments]
        # Not in this directory, where python -m would look for packages first.
        options = {"cwd": tempfile.gettempdir(), "stderr": subprocess.DEVNULL}
        run = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": paths}, **options)
        end = run.wait
    try:
        yield run
    finally:
        run.kill()
        end()


def run_module(module, arguments):
    """Do what ``python -m`` does, in a process that has loaded what it needs."""
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for as long as the process lives
    importlib.import_module(module).main(list(arguments), standalone_mode=False)


@contextlib.contextmanager
def scheduler(tmp_path, **options):
    """Run a scheduler, and give its process and the file that says where it is."""
    file = tmp_path / f"scheduler-{time.monotonic_ns()}.json"
    ports = "--port", "0", "--host", "127.0.0.1", "--no-dashboard"
    with process("distributed.cli.dask_scheduler", *ports, "--scheduler-file", str(file), **options) as run:
        while not file.exists():
            time.sleep(0.05)
        yield run, str(file)


def worker(file, **options):
    """Run a worker without a nanny."""
    return process("distributed.cli.dask_worker", "--scheduler-file", file, "--no-nanny", "--no-dashboard", **options)


@contextlib.contextmanager
def cluster(tmp_path, **options):
    """Run a scheduler and a worker, and give their processes; the client is active."""
    with contextlib.ExitStack() as stack:
        first, file = stack.enter_context(scheduler(tmp_path))
        second = stack.enter_context(worker(file, **options))
        client = stack.enter_context(Client(scheduler_file=file))
        client.wait_for_workers(1, timeout=60)
        yield first, second


def warm_up(client):
    """Have the workers import what a fit needs; they give no sign of life meanwhile."""
    client.run(importlib.import_module, "dask_gd.passes")


def fit(data, store=None, callbacks=(), **options):
    more = {"solver": "gradient_descent", "max_iter": 12, "tol": 0.0} | options
    return dask_gd.fit(*data, loss="logistic", store=store, callbacks=callbacks, **more)


def at(iteration, action):
    """A callback that acts once, when an iteration has been committed."""

    def callback(event):
        if getattr(event, "iteration", None) == iteration:
            action()

    return callback


@pytest.fixture
def uninterrupted(data):
    return fit(data)


def same(run, other):
    np.testing.assert_array_equal(run.parameters, other.parameters)


def test_without_workers_a_fit_ends_with_what_was_committed(data, tmp_path, uninterrupted, impatient):
    """FAULTS 21: and the same call goes on from there."""
    store = tmp_path / "run"
    with cluster(tmp_path) as (_, second):
        warm_up(default_client())
        began = time.monotonic()
        with pytest.raises(ClusterError, match=rf"no worker for pass .* for 6 s.*Iteration 4 is committed in {store}"):
            fit(data, store, [at(4, second.kill)])
        assert time.monotonic() - began < 60
    events = []
    same(fit(data, store, [events.append]), uninterrupted)
    assert events[0].resumed_from == 4


def test_a_killed_scheduler_is_named_with_what_was_committed(
    data, tmp_path, uninterrupted, reconnects_briefly, clusters
):
    """FAULTS 22: resumed on another cluster, the same bits."""
    store = tmp_path / "run"
    said = rf"scheduler at tcp://.* is gone.*Iteration 4 is committed in {store}"
    with cluster(tmp_path) as (first, _), pytest.raises(ClusterError, match=said):
        fit(data, store, [at(4, first.kill)])
    events = []
    with Client(clusters(2)):
        same(fit(data, store, [events.append]), uninterrupted)
    assert events[0].resumed_from == 4


def test_a_stopped_worker_is_named_while_the_fit_waits(data, tmp_path, uninterrupted, caplog, impatient):
    """FAULTS 20: and once it is replaced the fit goes on to the same bits."""
    with contextlib.ExitStack() as stack:
        _, file = stack.enter_context(scheduler(tmp_path))
        first = stack.enter_context(worker(file))
        stack.enter_context(worker(file))
        client = stack.enter_context(Client(scheduler_file=file))
        client.wait_for_workers(2, timeout=60)
        warm_up(client)

        def stop():
            os.kill(first.pid, signal.SIGSTOP)

        class Replace(logging.Handler):
            """End the stopped worker once it has been named."""

            def emit(self, record):
                if "has not been heard of" in record.getMessage():
                    first.kill()

        handler = Replace()
        logging.getLogger("dask_gd").addHandler(handler)
        stack.callback(logging.getLogger("dask_gd").removeHandler, handler)
        run = fit(data, tmp_path / "run", [at(4, stop)])
    same(run, uninterrupted)
    said = next(r.getMessage() for r in caplog.records if "has not been heard of" in r.getMessage())
    assert "Worker tcp://127.0.0.1" in said
    assert "Iteration 4 is committed" in said
    assert "worker-ttl" in said


def other_version(tmp_path, name, version):
    """Packages among which this one has another version."""
    folder = tmp_path / "packages" / f"{name}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return folder.parent


def without(tmp_path, name):
    """Packages that make an environment look as if this one were not installed."""
    folder = tmp_path / "packages"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        f"""
import importlib.metadata, sys
real = importlib.metadata.version
def version(name):
    if name == {name!r}:
        raise importlib.metadata.PackageNotFoundError(name)
    return real(name)
importlib.metadata.version = version
sys.modules[{name!r}] = None
"""
    )
    return folder


def test_a_worker_without_dask_gd_is_refused_before_the_first_task(data, tmp_path):
    """FOUND 32, 37: it would drop its tasks without a word."""
    said = r"Worker tcp://\S+ cannot import dask_gd; this process has "
    with cluster(tmp_path, packages=without(tmp_path, "dask_gd")), pytest.raises(ClusterError, match=said):
        fit(data)


@pytest.mark.parametrize("name", ["dask_gd", "zarr"])
def test_a_worker_with_another_version_is_refused_before_the_first_task(data, tmp_path, name):
    """FAULTS 28: it would compute something else, or could not load what it is sent."""
    stored = [helpers.to_zarr(a.compute(), 500, tmp_path / role) for a, role in zip(data, "xy", strict=True)]
    said = rf"Worker tcp://\S+ has {name} 0.0.1; this process has .*Install"
    packages = other_version(tmp_path, name, "0.0.1")
    with cluster(tmp_path, packages=packages), pytest.raises(ClusterError, match=said):
        fit(stored)


def test_a_scheduler_without_dask_gd_is_refused_before_the_first_task(data, tmp_path):
    """FOUND 37."""
    packages = without(tmp_path, "dask_gd")
    with scheduler(tmp_path, packages=packages) as (_, file), worker(file), Client(scheduler_file=file) as client:
        client.wait_for_workers(1, timeout=60)
        with pytest.raises(ClusterError, match="The scheduler cannot import dask_gd"):
            fit(data)


def test_a_long_pass_of_healthy_workers_is_not_remarked_on(two, caplog, impatient, tmp_path):
    warm_up(two)
    (tmp_path / "first pass").touch()

    def slow(block):
        if len(block) and (tmp_path / "first pass").exists():
            time.sleep(1.2 * PATIENCE)
            (tmp_path / "first pass").unlink(missing_ok=True)
        return block

    x = da.ones((100, 2), chunks=(50, 2)).map_blocks(slow, dtype=float)
    dask_gd.fit(x, np.arange(100.0), max_iter=1)
    assert not [record for record in caplog.records if "Waiting" in record.getMessage()]


@pytest.fixture
def lossy(two, monkeypatch):
    """A cluster whose scheduler loses the first tasks that it gives to workers, as may happen when workers die."""
    scheduler = two.cluster.scheduler
    send_all, lost = scheduler.send_all, []

    def losing(client_msgs, worker_msgs):
        if not lost and any(msg["op"] == "compute-task" for msgs in worker_msgs.values() for msg in msgs):
            lost.append(worker_msgs)
            worker_msgs = {}
        send_all(client_msgs, worker_msgs)

    monkeypatch.setattr(scheduler, "send_all", losing)
    return lost


def test_tasks_that_the_cluster_has_lost_are_asked_for_again(data, uninterrupted, lossy, two, caplog, impatient):
    """FAULTS 16: with each sum once."""
    warm_up(two)
    lossy.clear()
    same(fit(data), uninterrupted)
    assert lossy
    assert [r.getMessage() for r in caplog.records if "are asked for once more" in r.getMessage()]


def test_an_error_of_a_task_is_not_taken_for_a_lost_scheduler(two):
    """A task may raise what a lost connection raises."""

    def late():
        raise TimeoutError("the tape robot is late")

    with pytest.raises(TimeoutError, match="tape robot"):
        compute(dask.delayed(late)())


def test_results_of_lazy_and_known_values_come_in_their_order(two):
    assert compute(dask.delayed(1) + 1, 5, da.ones(3, chunks=1).sum()) == (2, 5, 3.0)


def test_nothing_stays_on_the_cluster_when_waiting_is_interrupted(two):
    """A kept traceback holds no futures."""
    event = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    event.start()
    with pytest.raises(KeyboardInterrupt) as kept:
        compute(dask.delayed(time.sleep)(3))
    helpers.until(lambda: not two.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.tasks)))
    assert kept.value.__traceback__ is not None


def test_what_a_pass_leaves_is_released_when_the_next_is_asked_for_and_at_the_end(two):
    """Not before: Dask would send what it has to say of it first."""

    def tasks():
        return two.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))

    with passes_of("fit", "mine", str):
        for i in range(3):
            assert compute(dask.delayed(abs)(-i, dask_key_name=f"mine-{i}"), run="mine") == (i,)
            helpers.until(lambda: tasks() == 1)
        with pytest.raises(ZeroDivisionError):
            compute(dask.delayed(divmod)(1, 0), run="mine")
        helpers.until(lambda: not tasks())
        assert compute(dask.delayed(abs)(-4), run="mine") == (4,)
    helpers.until(lambda: not tasks())
