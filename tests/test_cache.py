"""Rows kept between passes: the same bits, within a share of the worker's memory, gone when the fit is."""

import threading

import dask
import numpy as np
import psutil
import pytest
from dask.distributed import Client
from helpers import cluster, problem, same_bits, to_zarr

import dask_gd
from dask_gd.sources import cache as module
from dask_gd.sources.cache import IDLE, KEEP, Cache, cache

MB = 1 << 20


@pytest.fixture
def memory(monkeypatch):
    """A process of which the limit and the memory in use are what the test says; what is kept comes on top."""
    memory = {"limit": 100 * MB, "others": 20 * MB, "cache": Cache()}

    def resident():
        return memory["others"] + sum(kept.rows.nbytes for kept in memory["cache"].kept.values())

    monkeypatch.setattr(module, "memory_limit", lambda: memory["limit"])
    monkeypatch.setattr(module, "resident", resident)
    return memory


def keep(cache, run, step, keys):
    """Read megabytes under these keys as a pass would; those that had been kept, and those that are now."""
    found, kept = [], []
    for key in keys:
        rows = cache.get(run, step, (key,))
        if rows is not None:
            assert (rows == key).all()
            found.append(key)
        elif (room := cache.room(run, step, (MB,), np.dtype("u1"))) is not None:
            room[:] = key
            cache.put(run, step, (key,), room)
            kept.append(key)
    return found, kept


def test_what_fits_is_kept_and_the_rest_is_read_again(memory):
    cache = memory["cache"]
    assert keep(cache, "run", 1, range(40)) == ([], list(range(30)))  # up to half of the limit
    for step in (2, 3):
        assert keep(cache, "run", step, range(40)) == (list(range(30)), [])


def test_without_a_limit_nothing_is_kept(memory):
    memory["limit"] = None
    assert keep(memory["cache"], "run", 1, range(3)) == ([], [])


def test_rows_that_went_to_another_worker_make_room(memory):
    cache = memory["cache"]
    keep(cache, "run", 1, range(30))
    keep(cache, "run", 2, range(20, 50))
    assert keep(cache, "run", 3, range(20, 50)) == (list(range(20, 30)), list(range(30, 50)))


def test_rows_of_a_fit_that_is_gone_expire(memory):
    cache = memory["cache"]
    keep(cache, "one", 1, range(30))
    keep(cache, "two", 1, range(30, 40))
    cache.expire()
    assert len(cache.kept) == 30
    for kept in list(cache.kept.values())[1:]:
        kept.used -= IDLE + 1
    cache.expire()
    assert len(cache.kept) == 30  # the fit has used one of them
    cache.kept["one", 0].used -= IDLE + 1
    cache.expire()
    assert not cache.kept


def test_threads_keep_and_drop_at_the_same_time(memory):
    cache, errors = memory["cache"], []
    memory["others"] = 45 * MB

    def work(number):
        try:
            for step in range(100):
                keep(cache, f"run {number}", step, range(10))
                cache.shrink()
                cache.drop(f"run {number}")
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_rows_are_dropped_when_memory_is_needed_or_the_fit_ends(memory):
    cache = memory["cache"]
    keep(cache, "one", 1, range(10))
    keep(cache, "two", 1, range(10, 20))
    cache.shrink()
    assert len(cache.kept) == 20
    memory["others"] = 45 * MB
    cache.shrink()
    assert keep(cache, "two", 2, range(20)) == ([10, 11, 12, 13, 14], [])
    cache.drop("one")
    assert len(cache.kept) == 5


def seen():
    """In a worker: spans kept, their bytes, how many the last pass used, those of features; the process's memory."""
    kept = cache.kept.values()
    last = max((k.step for k in kept), default=0)
    rows = sum(k.rows.nbytes for k in kept)
    of_features = sum(role == "x" for _, role, *_ in cache.kept)
    return len(kept), rows, sum(k.step == last for k in kept), of_features, psutil.Process().memory_info().rss


@pytest.mark.slow
@pytest.mark.parametrize("room", [1000, 24])
def test_a_fit_on_a_cluster_keeps_what_fits_and_has_the_same_bits(tmp_path, room):
    """28 MB in 56 chunks, on a worker that has room for all of them or for some."""
    x, _, y = problem(36_000, 100)
    x, y = to_zarr(x, 640, tmp_path / "x"), to_zarr(y, 36_000, tmp_path / "y")
    options = {"loss": "logistic", "penalty": dask_gd.L2(1e-3), "solver": "lbfgs", "max_iter": 10}
    with dask.config.set(scheduler="threads"):
        threads = dask_gd.fit(x, y, **options)
    with cluster(1) as one, Client(one) as client:
        dask_gd.fit(x, y, **{**options, "max_iter": 2})  # what the process needs anyway
        base = next(iter(client.run(seen).values()))[-1]
        limit = int((base + room * MB) / KEEP)
        client.run(set_limit, limit)
        states = []

        def watch(event):
            if hasattr(event, "iteration"):
                states.append(next(iter(client.run(seen).values())))

        same_bits(dask_gd.fit(x, y, **options, callbacks=[watch]), threads)
        numbers, sizes, used, of_features, resident = (np.array(column) for column in zip(*states, strict=True))
        assert numbers[0] == 0
        assert numbers[-1] == used[-1] > 0  # all that is kept is used
        assert (of_features[-1] < 56) == (room < 28)
        assert numbers[-1] > of_features[-1]  # targets too
        assert sizes.max() <= room * MB
        assert resident.max() < 0.6 * limit
        assert next(iter(client.run(seen).values()))[0] == 0


def set_limit(limit, dask_worker):
    dask_worker.memory_manager.memory_limit = limit
