"""What a pass takes is known before it: tasks, memory, and partitions of a sensible size for chunks of any size."""

import itertools
import logging
import re
import threading
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
import zarr
from dask.callbacks import Callback
from dask.distributed import Client
from dask.system import CPU_COUNT
from helpers import cluster, problem, same_bits
from sklearn.linear_model import LogisticRegression
from zarr.codecs import BloscCodec

import dask_gd
from dask_gd.kernels.base import FAN_IN, FAN_IN_BYTES, Request, fan_in
from dask_gd.passes import evaluate, evaluation, plan
from dask_gd.passes.plan import TASKS_EACH, group_into_tasks
from dask_gd.sources import as_source


def stored(path, x, y, chunk, **options):
    """A source of Zarr files with chunks of so many rows of x."""
    group = zarr.open_group(path, mode="w")
    for name, data in (("x", x), ("y", y)):
        rows = chunk if name == "x" else len(y)
        chunks = (rows, *data.shape[1:])
        group.create_array(name, data=data, chunks=chunks, config={"write_empty_chunks": True}, **options)
    return dask_gd.open(path, x="x", y="y")


class Tasks(Callback):
    """Counts the tasks of ours that Dask's threads run."""

    def _start(self, graph):
        self.names = []

    def _posttask(self, key, *rest):
        self.names.append(str(key))


@pytest.mark.parametrize("chunk", [1, 7, 100, 500])
def test_a_pass_takes_no_more_tasks_than_planned(tmp_path, chunk):
    x, _, y = problem(1000, 4)
    source = stored(tmp_path, x, y, chunk)
    with dask.config.set(scheduler="threads"), Tasks() as tasks:
        evaluate(source, np.zeros((5, 1, 1)), dask_gd.Logistic(), Request(), f"test-{chunk}", 0)
    taken = len([name for name in tasks.names if "gd-gradient" in name or "gd-sum" in name])
    assert min(source.partitions, CPU_COUNT) <= taken <= source.plan().tasks


def test_tasks_share_the_partitions_evenly_and_in_order(tmp_path):
    x, _, y = problem(8000, 4)
    source = stored(tmp_path, x, y, 16)
    for threads, count in itertools.product([1, 3, 1000], [1, 20, 500]):
        groups = group_into_tasks(source, tuple(range(count)), threads)
        assert sum(groups, ()) == tuple(range(count))
        assert len(groups) == min(count, TASKS_EACH * threads)
        sizes = [len(group) for group in groups]
        assert max(sizes) - min(sizes) <= 1


def test_a_cluster_without_workers_yet_is_waited_for(tmp_path):
    x, _, y = problem(800, 4)
    source = stored(tmp_path, x, y, 16)
    assert len(group_into_tasks(source, tuple(range(20)), 0)) == TASKS_EACH
    # Large sums are given on by whole parts of the tree over all partitions.
    groups = group_into_tasks(source, tuple(range(30)), 2, sums_bytes=1 << 20)
    assert [len(group) for group in groups] == [4, 4, 4, 4, 4, 4, 4, 2]
    with cluster(0) as none, Client(none):
        threading.Timer(1.0, none.scale, args=(1,)).start()
        assert dask_gd.fit(source, loss="logistic", penalty=dask_gd.L2(1e-3)).converged


def test_sums_do_not_depend_on_how_partitions_share_tasks(tmp_path, monkeypatch):
    x, _, y = problem(8000, 4)
    source = stored(tmp_path, x, y, 16)
    query = np.random.default_rng(0).standard_normal((5, 1, 2))
    found = []
    # Added up by the client, in one task, and in a tree of tasks.
    for each, limit, on_client in ((1, FAN_IN_BYTES, 64), (7, FAN_IN_BYTES, 64), (7, FAN_IN_BYTES, 0), (4, 0, 0)):
        monkeypatch.setattr(plan, "TASKS_EACH", each)
        monkeypatch.setattr(plan, "CLIENT_TASKS", on_client)
        monkeypatch.setattr(evaluation, "FAN_IN_BYTES", limit)
        found.append(evaluate(source, query, dask_gd.Logistic(), Request("exact", True), f"shared-{len(found)}", 0))
    for other in found[1:]:
        for a, b in zip((*found[0][:5], *found[0].moments), (*other[:5], *other.moments), strict=True):
            np.testing.assert_array_equal(a, b)


def test_thousands_of_tiny_chunks_are_tens_of_tasks(tmp_path):
    x, _, y = problem(2000, 3)
    # The plan needs no chunk, so that none of x is written.
    group = zarr.open_group(tmp_path, mode="w")
    group.create_array("x", shape=x.shape, chunks=(1, 3), dtype=float)
    group.create_array("y", data=y)
    assert dask_gd.open(tmp_path, x="x", y="y", missing="fill").plan().tasks < 100
    assert as_source(da.from_array(x, chunks=(1, 3)), y).plan().tasks < 100
    assert as_source(da.from_array(x, chunks=(1, 1)), da.from_array(y, chunks=1)).plan().tasks < 100


@pytest.mark.parametrize("lazy", ["x", "y", "xy", "xyw"])
def test_blocks_are_made_within_the_tasks_of_a_pass(lazy):
    """Results of their own would be kept, and sent about."""
    arrays = {"x": np.ones((4000, 3)), "y": np.arange(4000.0), "w": np.ones(4000)}
    rows = 500 if "x" in lazy else 4000  # the partitions are those of x
    arrays |= {role: da.from_array(arrays[role], chunks=rows).map_blocks(np.abs) for role in lazy}
    source, done = as_source(arrays["x"], arrays["y"], arrays["w"]), []
    with Callback(posttask=lambda key, *_: done.append(str(key))), dask.config.set(scheduler="threads"):
        evaluate(source, np.zeros((4, 1, 1)), dask_gd.Squared(), Request(), "within", 0)
    assert len([key for key in done if "gd-gradient" in key]) == len(done) - 1
    assert "gd-sum" in done[-1]


def test_blocks_are_put_together_only_where_they_are_small():
    rows = da.zeros((3_200_000, 100), chunks=(10_000, 100))  # 8 MB each
    assert as_source(rows, rows[:, 0]).partitions == 320


def test_tiny_blocks_give_the_weights_of_large_ones():
    x, _, y = problem(1500, 3)
    options = {"loss": "logistic", "penalty": dask_gd.L2(1e-2), "tol": 1e-12}
    large, tiny = (dask_gd.fit(da.from_array(x, chunks=(rows, 3)), y, **options) for rows in (300, 2))
    np.testing.assert_allclose(tiny.parameters, large.parameters, rtol=1e-9)


def test_large_sums_are_added_up_a_few_at_a_time():
    assert fan_in(1000) == FAN_IN
    assert fan_in(FAN_IN_BYTES // 4) == 4
    assert fan_in(100 * FAN_IN_BYTES) == 2


def test_the_plan_says_all_of_it(tmp_path):
    x, _, y = problem(3000, 4)
    said = str(stored(tmp_path, x, y, 100).plan())
    for part in ("30 partitions", "100 rows", "33 tasks", "0.1 MB read", "0.0032 MB", "MB of memory for each thread"):
        assert part in said


def resident():
    """The process's memory in bytes, which becomes its high-water mark."""
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def peak():
    return status("VmHWM")


def status(name):
    return int(re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) << 10


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measured through Linux's /proc")
@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
@pytest.mark.parametrize("compressors", [None, BloscCodec(cname="lz4")], ids=["plain", "lz4"])
def test_a_worker_takes_no_more_memory_than_planned(tmp_path, compressors, solver):
    """128 MB in chunks of 16 MB."""
    x, _, y = problem(160_000, 100)
    source = stored(tmp_path / "data", x, y, 20_000, compressors=compressors)
    tiny = stored(tmp_path / "tiny", x[:100], y[:100], 10, compressors=compressors)
    # So few passes that rows are not yet kept between them.
    options = {"loss": "logistic", "solver": solver, "max_iter": 2, "tol": 0.0}
    with cluster(1) as one, Client(one) as client:
        dask_gd.fit(tiny, **options)
        before = client.run(resident)
        dask_gd.fit(source, **options)
        grown = {worker: mark - before[worker] for worker, mark in client.run(peak).items()}
    slack = 8 << 20  # for what Dask records of its tasks
    assert max(grown.values()) < source.plan().memory + slack
    assert source.plan().memory < 100 << 20


def test_workers_that_may_lack_memory_are_named_before_the_first_task(tmp_path, caplog):
    x, _, y = problem(3000, 4)
    source = stored(tmp_path, x, y, 100)
    options = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": "127.0.0.1:0"}
    with Client(memory_limit=1 << 20, **options), caplog.at_level(logging.WARNING, "dask_gd"):
        dask_gd.passes.note_memory(source)
    assert "smaller chunks" in caplog.text
    caplog.clear()
    with Client(memory_limit=1 << 30, **options):
        dask_gd.passes.note_memory(source)
    assert not caplog.text


@pytest.mark.slow
def test_wide_rows_have_scikit_learns_weights_and_the_same_bits_everywhere(tmp_path, clusters, monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 10_000))
    y = (x[:, :50].sum(axis=1) + rng.logistic(size=300) > 0).astype(float)
    source = stored(tmp_path, x, y, 10)
    options = {"loss": "logistic", "penalty": dask_gd.L2(0.1), "tol": 1e-9}
    with dask.config.set(scheduler="threads"):
        threads = dask_gd.fit(source, **options)
    with Client(clusters(2)) as client:
        same_bits(dask_gd.fit(source, **options), threads)
        fetched = [key for keys in client.run(fetched_by).values() for key in keys if "gd-weights" in key]
    # Of few workers each gets the weights of a pass from the scheduler, and of many one, from which the others fetch.
    assert not fetched
    monkeypatch.setattr("dask_gd.passes.graph.MOST_COPIES", 1)
    with Client(clusters(2)) as client:
        same_bits(dask_gd.fit(source, **options), threads)
        fetched = [key for keys in client.run(fetched_by).values() for key in keys if "gd-weights" in key]
    assert fetched
    assert len(set(fetched)) == len(fetched)
    model = LogisticRegression(C=1 / (300 * 0.1), tol=1e-9, max_iter=10_000).fit(x, y)
    assert np.abs(threads.weights.values - model.coef_[0]).max() < 1e-6 * np.abs(model.coef_).max()


def fetched_by(dask_worker):
    return [str(key) for transfer in dask_worker.transfer_incoming_log for key in transfer["keys"]]
