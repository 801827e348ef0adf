"""Real clusters of processes: the same bits on any of them, and when workers are killed."""

import os
import signal
import threading
import time

import dask
import dask.array as da
import numpy as np
import pytest
from dask.distributed import Client, get_task_stream
from helpers import cluster, problem, same_bits, to_zarr

import dask_gd
from dask_gd import passes
from dask_gd.errors import ClusterError, DataError


@pytest.fixture
def data(tmp_path):
    """Zarr whose chunks of x, y and weights end at different rows, none of them evenly."""
    # Wide enough that BLAS would use several threads, and give other bits, if it were let.
    x, _, y = problem(2503, 100)
    s = np.random.default_rng(1).uniform(0, 2, 2503)
    return (*(to_zarr(a, chunk, tmp_path / name) for a, chunk, name in ((x, 210, "x"), (y, 400, "y"))), s)


def fit(x, y, s=None, **options):
    return dask_gd.fit(
        x,
        y,
        sample_weight=s,
        **{"loss": "logistic", "penalty": dask_gd.L2(1e-3), "tol": 1e-10, "max_iter": 5, **options},
    )


@pytest.mark.parametrize("solver", ["newton", "lbfgs", "nesterov", "admm", "local_sgd", "sgd"])
def test_threads_one_worker_and_four_give_the_same_bits(data, solver, four, clusters):
    with dask.config.set(scheduler="threads"):
        threads = fit(*data, solver=solver)
    with dask.config.set(scheduler="synchronous"):
        same_bits(fit(*data, solver=solver), threads)
    same_bits(fit(*data, solver=solver), threads)
    with Client(clusters(1)):
        same_bits(fit(*data, solver=solver), threads)


def test_materialised_blocks_give_the_same_bits(four):
    x, _, y = problem(3000, 20)
    lazy = da.from_array(x, chunks=(333, 7)), da.from_array(y, chunks=1000)
    with dask.config.set(scheduler="threads"):
        threads = fit(*lazy), fit(x, y)
    same_bits(fit(*lazy), threads[0])
    same_bits(fit(x, y), threads[1])


def test_tasks_have_readable_names_and_fresh_keys(data, four):
    with get_task_stream(four) as stream:
        for _ in range(2):
            fit(*data, max_iter=1)
    keys = [task["key"] for task in stream.data]
    assert {dask.utils.key_split(key) for key in keys} >= {"gd-gradient", "gd-sum"}
    gradients = [key for key in keys if "gd-gradient" in str(key)]
    # Two fits of two passes, and no key in common.
    assert len(set(gradients)) == len(gradients) == 4 * dask_gd.sources.as_source(*data).partitions


def test_two_fits_at_once_are_both_right(data, four):
    expected = [fit(*data), fit(*data, solver="lbfgs")]
    results = {}
    threads = [
        threading.Thread(target=lambda s=solver: results.update({s: fit(*data, solver=s)}))
        for solver in ("newton", "lbfgs")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    same_bits(results["newton"], expected[0])
    same_bits(results["lbfgs"], expected[1])


def test_numpy_data_travels_once(four):
    x, _, y = problem(20_000, 20)
    source = passes.persist(dask_gd.sources.as_source(x, y))
    graph = source.x.array.__dask_graph__()
    # Held blocks are futures; the pass's graph holds none of the data.
    assert all(isinstance(value, dask.distributed.Future) for value in dict(graph).values())


@pytest.mark.slow
def test_a_partition_that_kills_its_workers_is_named(tmp_path):
    x, _, y = problem(400, 3)

    # Dask blames what waits on a dying worker as much as what runs: the other thread has it all done by then.
    def deadly(block, block_info=None):
        if block_info[0]["chunk-location"][0] == 3:
            time.sleep(2)
            os.kill(os.getpid(), signal.SIGKILL)
        return block

    # The first pass must succeed, so that there is something stored to lose.
    fit(x, y, store=tmp_path, max_iter=1)
    lazy = da.from_array(x, chunks=(100, -1)).map_blocks(deadly, dtype=float, meta=np.empty((0, 0)))
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        cluster(1, threads=2) as one,
        Client(one),
        pytest.raises(ClusterError, match=r"Partition 3 \(rows 300-399\)"),
    ):
        fit(lazy, da.from_array(y, chunks=100))
    assert dask_gd.load(tmp_path).n_iter == 1


def test_a_fault_in_the_data_crosses_from_worker_to_client(data, four):
    x, y, _ = data
    x[1234, 5] = np.nan
    with pytest.raises(DataError, match=r"nan in row 1234, column 5 of .*chunk \(5, 0\), rows 1050-1259"):
        fit(x, y)
    with pytest.raises(DataError, match="found 3 in row 7 of"):
        fit(np.ones((10, 1)), np.array([0, 1, 0, 1, 0, 1, 0, 3, 0, 1]))
