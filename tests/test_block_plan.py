"""What weights in blocks take: planned before the fit, measured after it, and refused where there is no room."""

import os

import dask
import numpy as np
import pytest
import scipy.sparse
from dask.distributed import Client
from helpers import cluster

import dask_gd
from dask_gd.errors import DataError, InvalidArgumentError
from dask_gd.events import FitEnded, FitStarted, IterationEnded
from dask_gd.fitting import block_plan
from dask_gd.weight_blocks import space
from dask_gd.weight_blocks.owners import Owners, owner

N = 20_000
EACH = 8
#: A worker of this process has all of its memory, far more than any limit: it is neither paused nor does it spill.
UNMANAGED = {f"distributed.worker.memory.{what}": False for what in ("target", "spill", "pause", "terminate")}
IN_PROCESS = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": "127.0.0.1:0"}


def wide(path, p, blocks, n=N):
    """Write rows with a few entries each, in blocks of columns."""
    rng = np.random.default_rng(0)
    columns = np.sort(rng.integers(0, p // EACH, (n, EACH)) + np.arange(EACH) * (p // EACH), axis=1)
    data = rng.normal(size=n * EACH)
    x = scipy.sparse.csr_array((data, columns.ravel(), np.arange(n + 1) * EACH), shape=(n, p))
    y = (data.reshape(n, EACH).sum(axis=1) > 0).astype(float)
    dask_gd.block_columns(x, path, y=y, width=p // blocks)
    source = dask_gd.open(path, x="X", y="y")
    assert len(source.x.edges) == blocks + 1
    return source


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return wide(tmp_path_factory.mktemp("small") / "x.zarr", 1 << 12, 4, n=2000)


def test_memory_and_bytes_are_within_a_fifth_of_their_plan(tmp_path, small):
    source = wide(tmp_path / "x.zarr", 1 << 22, 4)
    events = []
    options = {"loss": "logistic", "solver": dask_gd.LBFGS(memory=2), "weights": "blocks", "tol": 0.0}
    options["penalty"] = dask_gd.L2(1e-6)
    with cluster(2, memory_limit=10**9) as two, Client(two):
        # What a process takes is not what the weights take.
        dask_gd.fit(small, **options, max_iter=1)
        plan = dask_gd.block_plan(source, loss="logistic", solver=options["solver"])
        run = dask_gd.fit(source, **options, max_iter=4, callbacks=[events.append])
    started, ended = events[0], events[-1]
    assert isinstance(started, FitStarted)
    assert isinstance(ended, FitEnded)
    assert (started.blocks, started.width, started.workers, started.memory) == (4, 1 << 20, 2, plan.memory)
    assert ended.memory == pytest.approx(plan.memory + plan.kept_bytes, rel=0.2)
    assert ended.bytes_moved == pytest.approx(plan.bytes_moved * run.n_iter, rel=0.2)
    # Most of it are vectors, of which each worker has half.
    assert plan.state_bytes == plan.vectors * 8 * (1 << 22) / 2
    assert plan.state_bytes > 0.8 * plan.memory


class Counted:
    """The tasks of each iteration, and the bytes of the files of blocks that it has written."""

    def __init__(self, store, monkeypatch):
        self.blocks = store / "blocks"
        self.tasks = [0]
        self.written = []
        self.known = set()
        submit = Owners.submit

        def counted(owners, tasks, wanted=None):
            self.tasks[-1] += len(tasks)
            return submit(owners, tasks, wanted)

        monkeypatch.setattr(Owners, "submit", counted)

    def __call__(self, event):
        if isinstance(event, IterationEnded):
            self.tasks.append(0)
            files = {file.path: file.stat().st_size for file in os.scandir(self.blocks)}
            self.written.append(sum(nbytes for path, nbytes in files.items() if path not in self.known))
            self.known.update(files)


@pytest.mark.parametrize("solver", [dask_gd.LBFGS(memory=2), "momentum", "adam"])
def test_tasks_and_bytes_on_disk_are_within_a_fifth_of_their_plan(two, small, tmp_path, monkeypatch, solver):
    counted = Counted(tmp_path / "run", monkeypatch)
    options = {"loss": "logistic", "penalty": dask_gd.L2(1e-3), "weights": "blocks", "solver": solver, "tol": 0.0}
    run = dask_gd.fit(small, **options, max_iter=4, store=tmp_path / "run", callbacks=[counted])
    plan = dask_gd.block_plan(small, loss="logistic", solver=solver)
    assert run.n_iter == 4
    assert np.mean(counted.tasks[2:-1]) == pytest.approx(plan.tasks, rel=0.2)
    assert np.mean(counted.written[2:]) == pytest.approx(plan.bytes_written, rel=0.2)


def test_what_is_remembered_of_wide_weights_has_float32_and_nothing_else(two, small, tmp_path, monkeypatch):
    exact = dask_gd.block_plan(small)
    for module in (space, block_plan):
        monkeypatch.setattr(module, "EXACT_UP_TO", 1)
    counted = Counted(tmp_path / "run", monkeypatch)
    options = {"loss": "logistic", "penalty": dask_gd.L2(1e-3), "weights": "blocks", "tol": 0.0}
    dask_gd.fit(small, **options, max_iter=3, store=tmp_path / "run", callbacks=[counted])
    plan = dask_gd.block_plan(small)
    assert plan.state_bytes == (2 * 8 + 25 * 4) * (1 << 12) / 2
    assert exact.state_bytes == 27 * 8 * (1 << 12) / 2
    # First gradient and direction, with means, spreads and curvature; then weights and changes too.
    assert counted.written[0] == pytest.approx(5 * 4 * (1 << 12), rel=0.05)
    assert np.mean(counted.written[1:]) == pytest.approx(plan.bytes_written, rel=0.05)


def test_a_worker_too_small_for_its_blocks_is_refused_by_name_before_the_first_task(small, tmp_path):
    events = []
    options = {"loss": "logistic", "penalty": dask_gd.L2(1e-3), "max_iter": 1, "callbacks": [events.append]}
    with dask.config.set(UNMANAGED), Client(memory_limit=130 << 20, **IN_PROCESS):
        message = r"Worker inproc://.* owns weights in blocks \(4 blocks of .* take .* MB .* has 136.3 MB. .*LBFGS\(mem"
        with pytest.raises(DataError, match=message):
            dask_gd.fit(small, weights="blocks", **options)
        assert not events
        # Whoever leaves it to the fit gets whole weights.
        assert not hasattr(dask_gd.fit(small, **options).weights.data, "dask")


def test_a_worker_that_will_write_to_disk_is_named_in_the_log(small, caplog):
    with dask.config.set(UNMANAGED), Client(memory_limit=200 << 20, **IN_PROCESS):
        dask_gd.fit(small, loss="logistic", penalty=dask_gd.L2(1e-3), weights="blocks", max_iter=0)
    assert "begins to write to disk at 70%" in caplog.text


def test_more_workers_have_less_each_and_all_have_what_there_is(small):
    plans = [dask_gd.block_plan(small, workers=workers) for workers in (1, 2, 4, 9)]
    states = [plan.state_bytes for plan in plans]
    assert states == [27 * 8 * (1 << 12) // share for share in (1, 2, 4, 4)]
    # Of one worker's blocks those that are added together share a task.
    assert plans[0].tasks < plans[1].tasks < plans[2].tasks == plans[3].tasks
    # One moves nothing; of two the second sends a vector for its two blocks, and gets the slopes.
    assert [plan.bytes_moved // (8 * 2000) for plan in plans[:3]] == [0, 2, 6]
    assert len(plans[3].memory_of_workers) == 9
    assert [owner(j, 4, 2) for j in range(4)] == [0, 0, 1, 1]


def test_classes_and_penalties_are_planned_for(small):
    one = dask_gd.block_plan(small, solver="nesterov")
    three = dask_gd.block_plan(small, loss=dask_gd.Softmax(classes=3), solver="nesterov")
    assert 2.5 < three.state_bytes / one.state_bytes <= 3
    assert three.bytes_moved == 3 * one.bytes_moved
    absolute = dask_gd.block_plan(small, penalty=dask_gd.L1(0.1))
    assert absolute.vectors > dask_gd.block_plan(small, penalty=dask_gd.L2(0.1)).vectors
    assert dask_gd.block_plan(small, store=False).bytes_written == 0
    assert "4 blocks of at most 1,024 features on 1 worker" in str(one)


def test_plans_that_cannot_be_are_refused(small):
    with pytest.raises(InvalidArgumentError, match=r"workers=0"):
        dask_gd.block_plan(small, workers=0)
    with pytest.raises(InvalidArgumentError, match="needs all weights in one place"):
        dask_gd.block_plan(small, solver="newton")
    with pytest.raises(InvalidArgumentError, match="how many classes"):
        dask_gd.block_plan(small, loss="softmax")
    with pytest.raises(InvalidArgumentError, match="not stored by columns"):
        dask_gd.block_plan(dask_gd.open("data/flights.zarr", x="X", y="late"))
