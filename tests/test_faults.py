"""What becomes of fits whose workers come and go, whose tasks run again, and who may talk to a cluster.

Numbers are lines of the list of faults that the package has to stand.
"""

import os
import random
import signal
import threading
import time
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import psutil
import pytest
from dask.distributed import Client, LocalCluster, Security
from helpers import problem, same_bits, same_run, to_zarr, until

import dask_gd
from dask_gd.cli.options import cluster_of
from dask_gd.events import IterationEnded
from dask_gd.fitting.engine import Engine
from dask_gd.kernels.grouped import Grouped
from dask_gd.passes import evaluation

N = 2000


@pytest.fixture
def fragile(clusters):
    """A client of a cluster of two worker processes, which start again when they are killed."""
    cluster = clusters("fragile")
    cluster.scale(2)
    # Tasks that Dask loses when a worker dies are asked for again after 10 s without a sign of life; 60 by default.
    with dask.config.set({"dask_gd.timeout": "10s"}), Client(cluster) as client:
        client.wait_for_workers(2, timeout=120)
        yield client
        cluster.scale(2)
        until(lambda: len(workers_of(client)) == 2)


def workers_of(client):
    return client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.workers))


def fit(x, y, **options):
    options = {"loss": "logistic", "penalty": dask_gd.L2(1e-3), "tol": 0.0, "max_iter": 10, **options}
    return dask_gd.fit(x, y, **options)


def slow(block):
    time.sleep(0.03)
    return block


def die_soon(seconds):
    """Kill this worker in the middle of whatever it does then."""
    threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
    return os.getpid()


def data(kind, path):
    x, _, y = problem(N, 9)
    if kind == "zarr":
        return to_zarr(x, 100, path / "x"), to_zarr(y, 99, path / "y")
    if kind == "dask":
        return da.from_array(x, chunks=(200, -1)).map_blocks(slow, dtype=float), y
    return x, y


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "solver"),
    [("dask", "nesterov"), ("zarr", "lbfgs"), ("numpy", "newton"), ("zarr", "admm"), ("zarr", "sgd")],
)
def test_workers_killed_again_and_again_change_no_bit(kind, solver, tmp_path, fragile):
    """FAULTS 16."""
    x, y = data(kind, tmp_path)
    with dask.config.set(scheduler="threads"):
        expected = fit(x, y, solver=solver)
    chance = random.Random(0)
    killed = set()

    def one_dies():
        """Return the process of the worker that will die, or None if it is dead already."""
        address = chance.choice(workers_of(fragile) or [""])
        pids = fragile.run(die_soon, chance.uniform(0, 0.02), workers=[address], on_error="ignore")
        return pids.get(address)

    def kill(event):
        """Let a worker die in one of the next passes; one at a time, since Dask gives up a task that kills four."""
        if isinstance(event, IterationEnded) and event.iteration in (1, 3, 5):
            killed.add(until(one_dies))

    same_bits(fit(x, y, solver=solver, callbacks=[kill]), expected)
    assert len(killed) == 3
    until(lambda: not any(psutil.pid_exists(pid) for pid in killed))


def holder_of(which, dask_scheduler):
    """Return the worker that alone has a task's result, for which other tasks wait."""
    for task in dask_scheduler.tasks.values():
        if which in str(task.key) and task.state == "memory" and task.waiters and len(task.who_has) == 1:
            return next(iter(task.who_has)).address
    return None


@pytest.mark.slow
def test_the_worker_that_holds_the_weights_dies_and_no_bit_changes(tmp_path, fragile, monkeypatch):
    """FAULTS 17."""
    x, y = data("dask", tmp_path)
    with dask.config.set(scheduler="threads"):
        expected = fit(x, y, solver="nesterov")
    # Weights of any size are a task's result, which a worker holds and others fetch.
    monkeypatch.setattr(evaluation, "LITERAL_BYTES", 0)
    results = []
    thread = threading.Thread(target=lambda: results.append(fit(x, y, solver="nesterov")))
    thread.start()
    killed = []
    try:
        while thread.is_alive() and len(killed) < 2:
            holder = fragile.run_on_scheduler(holder_of_weights)
            if holder is not None and holder not in killed:
                fragile.run(die_soon, 0, workers=[holder], on_error="ignore")
                killed.append(holder)
    finally:
        thread.join()
    assert len(killed) == 2
    same_bits(results[0], expected)


def holder_of_weights(dask_scheduler):
    return holder_of("gd-weights", dask_scheduler)


def once(path):
    """Return True the first time that it is asked for the path, in any process."""
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["the worker dies", "the block fails", "the sum dies"])
def test_a_task_that_is_run_again_counts_its_rows_once(fault, tmp_path, fragile):
    """FAULTS 26."""
    x, _, y = problem(N, 9)

    def faulty(block, block_info=None):
        number = block_info[0]["chunk-location"][0]
        with open(tmp_path / "blocks", "a") as file:
            file.write(f"{number}\n")
        if number == 3 and fault == "the worker dies" and once(tmp_path / "died"):
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 3 and fault == "the block fails" and once(tmp_path / "failed"):
            raise OSError("not today")
        if number == 9 and fault == "the sum dies" and once(tmp_path / "died"):
            # The others are done by then, and lost.
            time.sleep(0.5)
            os.kill(os.getpid(), signal.SIGKILL)
        return block

    lazy = da.from_array(x, chunks=(200, -1)).map_blocks(faulty, dtype=float, meta=np.empty((0, 0)))
    with dask.annotate(retries=2):
        run = fit(lazy, y, solver="newton", max_iter=2)
    with dask.config.set(scheduler="threads"):
        same_bits(run, fit(da.from_array(x, chunks=(200, -1)), y, solver="newton", max_iter=2))
    read = (tmp_path / "blocks").read_text().split()
    passed = int(run.history.passes.sum())
    assert len(read) > 10 * passed  # some of them more than once
    assert run.history.rows.sum() == N * passed


def reading_of(partitions, request, read_whole):
    """Return which reading of a fit by corrected steps a pass is, by what is asked of it."""
    if partitions is None and isinstance(request.kernel, Grouped):
        return "the corrected pass"
    if partitions is not None and read_whole:
        return "the correction"
    if partitions is not None:
        return "the sample"
    return "another pass"


@pytest.mark.slow
@pytest.mark.parametrize("when", ["the sample", "the corrected pass", "the correction"])
def test_a_worker_that_dies_in_the_middle_of_a_correction_changes_no_bit(when, tmp_path, fragile, monkeypatch):
    """FAULTS 16."""
    x, _, y = problem(16_000, 50)

    def faulty(block):
        if (tmp_path / "armed").exists() and once(tmp_path / "died"):
            os.kill(os.getpid(), signal.SIGKILL)
        return block

    lazy = da.from_array(x, chunks=(1000, -1)).map_blocks(faulty, dtype=float, meta=np.empty((0, 0)))
    options = {"solver": "newton", "tol": 1e-3, "max_iter": 30}
    with dask.config.set(scheduler="threads"):
        expected = fit(lazy, y, **options)
    read = Engine.read
    readings = []

    def armed(engine, query, request, partitions=None):
        reading = reading_of(partitions, request, "the corrected pass" in readings)
        readings.append(reading)
        if reading == when:
            (tmp_path / "armed").touch()
        return read(engine, query, request, partitions)

    monkeypatch.setattr(Engine, "read", armed)
    run = fit(lazy, y, **options)
    assert (tmp_path / "died").exists()
    assert readings.index("the sample") < readings.index("the corrected pass") < readings.index("the correction")
    same_run(run, expected)
    np.testing.assert_array_equal(run.history.full_passes, expected.history.full_passes)
    assert ((run.history.full_passes > 0) & (run.history.passes > run.history.full_passes)).any()


@pytest.mark.slow
def test_a_cluster_that_grows_and_shrinks_in_a_fit_changes_no_bit(tmp_path, fragile):
    """FAULTS 27."""
    x, y = data("zarr", tmp_path)
    with dask.config.set(scheduler="threads"):
        expected = fit(x, y, solver="lbfgs")
    seen = []

    def scale_to(workers):
        fragile.cluster.scale(workers)
        until(lambda: len(workers_of(fragile)) == workers)

    def scale(event):
        if isinstance(event, IterationEnded):
            if event.iteration in (3, 6):
                scale_to(4 if event.iteration == 3 else 2)
            seen.append(len(workers_of(fragile)))

    scale_to(1)
    same_bits(fit(x, y, solver="lbfgs", callbacks=[scale]), expected)
    assert seen == [1] * 3 + [4] * 3 + [2] * 5


# Who may talk to a cluster


def test_a_tls_cluster_gives_the_same_bits_and_refuses_plain_tcp_and_foreign_certificates():
    """FAULTS 50."""
    ours, foreign = Security.temporary(), Security.temporary()
    x, _, y = problem(N, 9)
    x = da.from_array(x, chunks=(200, -1))
    with dask.config.set(scheduler="threads"):
        expected = fit(x, y)
    options = {"processes": False, "n_workers": 1, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(host="127.0.0.1", protocol="tls", security=ours, **options) as cluster:
        with Client(cluster) as client:
            same_bits(fit(x, y), expected)
            (worker,) = workers_of(client)
        for address in (cluster.scheduler_address, worker):
            assert address.startswith("tls://127.0.0.1:")
            for other, security in ((address.replace("tls://", "tcp://"), None), (address, foreign)):
                with pytest.raises(OSError, match=r"Timed out|reset|closed|certificate"):
                    Client(other, security=security, timeout=1)


def test_clusters_that_the_command_line_starts_bind_to_loopback(capsys):
    """FAULTS 51."""
    before = listening()
    with cluster_of(None, 1, 1, None):
        found = listening() - before
    hosts = {host for host, _ in found}
    # A scheduler, its dashboard, a nanny and a worker.
    assert len(found) >= 4
    assert hosts <= {"127.0.0.1", "::1"}
    assert "dashboard http://127.0.0.1:" in capsys.readouterr().err
    # And nothing else of the package starts any.
    package = Path(dask_gd.__file__).parent
    starting = [file.name for file in package.rglob("*.py") if "LocalCluster(" in file.read_text()]
    assert starting == ["workers.py"]


def listening():
    """Return the addresses at which this process and its children wait for others."""
    this = psutil.Process()
    sockets = [each for process in (this, *this.children(recursive=True)) for each in process.net_connections("inet")]
    return {tuple(each.laddr) for each in sockets if each.status == psutil.CONN_LISTEN}
