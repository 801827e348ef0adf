"""Weights in blocks on real clusters: the same bits on any of them, whatever dies, and nothing that is left behind."""

import gc
import hashlib
import os
import signal
import sys
import threading
import warnings

import dask
import numpy as np
import pytest
from blocks_here import WIDTHS, OwnersHere, here, opened, run_here, write
from dask.distributed import Client, Future
from helpers import forked, same_run, until

import dask_gd
from dask_gd import L1, L2
from dask_gd.errors import CorruptCheckpointWarning, DataError, StoreError
from dask_gd.events import IterationEnded
from dask_gd.fitting import block_track
from dask_gd.sources import column_grid
from dask_gd.weight_blocks import owners, space
from dask_gd.weight_blocks.owners import OwnerLost

__all__ = ["here"]

OPTIONS = {"loss": "logistic", "weights": "blocks", "penalty": L2(1e-2), "tol": 0.0, "max_iter": 4}


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setattr(column_grid, "SEGMENT_ROWS", 150)
    return opened(tmp_path / "g.zarr", write(tmp_path / "g.zarr"))


def fit(source, **options):
    return dask_gd.fit(source, **{**OPTIONS, **options})


def hash_of(run):
    """Return a hash of all that a fit has found."""
    found = [run.weights.values, run.intercept.values, run.history.loss.values, run.history.grad_norm.values]
    return hashlib.sha256(b"".join(np.ascontiguousarray(each).tobytes() for each in found)).hexdigest()


# One hash.


@pytest.mark.parametrize(("penalty", "numbers"), [(L2(1e-2), (1, 2, 4)), (L1(1e-2), (4,))], ids=repr)
def test_any_number_of_workers_and_none_give_the_same_bits(source, here, monkeypatch, clusters, penalty, numbers):
    expected = hash_of(fit(source, penalty=penalty, max_iter=2))
    monkeypatch.undo()
    monkeypatch.setattr(column_grid, "SEGMENT_ROWS", 150)
    for workers in numbers:
        with Client(clusters(workers)):
            assert hash_of(fit(source, penalty=penalty, max_iter=2)) == expected


SOLVERS = [
    ("logistic", "lbfgs", L2(1e-2)),
    ("softmax", "lbfgs", L2(1e-2)),
    ("softmax", "lbfgs", L1(1e-2)),
    ("logistic", dask_gd.Nesterov(0.5), L1(1e-2)),
    ("logistic", dask_gd.Momentum(0.1), L2(1e-2)),
    ("softmax", dask_gd.Adam(0.05), L2(1e-2)),
]


@pytest.mark.parametrize(("loss", "solver", "penalty"), SOLVERS, ids=repr)
def test_a_fit_that_is_resumed_has_the_bits_of_one_that_is_not(source, here, tmp_path, loss, solver, penalty):
    options = {"loss": loss, "solver": solver, "penalty": penalty, "max_iter": 6}
    if loss == "softmax":
        source = opened(tmp_path / "g.zarr", source_names(source), "classes")
    expected = fit(source, **options)
    whole = fit(source, store=tmp_path / "whole", **options)
    assert hash_of(whole) == hash_of(expected)
    for last in (0, 2, 5, 6):
        run = fit(source, store=tmp_path / "parts", **{**options, "max_iter": last})
        assert run.n_iter == last
    assert hash_of(run) == hash_of(expected)
    same_run(run, expected)
    # What is stored is what was found.
    for store in ("whole", "parts"):
        loaded = dask_gd.load(tmp_path / store)
        assert hash_of(loaded) == hash_of(expected)
        assert loaded.weights.chunks == run.weights.chunks


def source_names(source):
    return [f"f{j}" for j in range(len(source.x.side_by_side))]


def test_files_that_no_iteration_names_are_removed(source, here, tmp_path):
    blocks = tmp_path / "run" / "blocks"
    counts = []

    def count(event):
        if isinstance(event, IterationEnded):
            counts.append(len(list(blocks.iterdir())))

    store = dask_gd.Store(tmp_path / "run", keep=2)
    fit(source, store=store, solver=dask_gd.GradientDescent(0.1), max_iter=12, callbacks=[count])
    assert len(store.iterations()) == 2
    assert max(counts[6:]) == counts[-1]
    # In a process that has not written them, and that finds leftovers.
    for leftover in ("00000099-0-weights-0.npy", ".00000099-0-weights-0.tmp"):
        (blocks / leftover).write_bytes(b"?")
    fit(source, store=tmp_path / "run", solver=dask_gd.GradientDescent(0.1), max_iter=13)
    assert not [path.name for path in blocks.iterdir() if "99-" in path.name]


def test_a_run_made_otherwise_is_refused(source, here, tmp_path, monkeypatch):
    fit(source, store=tmp_path / "run", max_iter=1)
    with pytest.raises(StoreError, match=r"penalty\.alpha: stored 0\.01, now 0\.02"):
        fit(source, store=tmp_path / "run", penalty=L2(0.02))
    with pytest.raises(StoreError, match=r"holds a run made otherwise.*weights"):
        fit(source, store=tmp_path / "run", weights="whole", solver="lbfgs")
    monkeypatch.setattr(column_grid, "SEGMENT_ROWS", 100)
    with pytest.raises(StoreError, match=r"data.segments: stored \(0, 210, 420\), now"):
        fit(source, store=tmp_path / "run")


# Damage.


def flip(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 16
    path.write_bytes(content)


def flip_header(path):
    content = bytearray(path.read_bytes())
    content[30] ^= 1
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-8])


def empty(path):
    path.write_bytes(b"")


def others(path):
    """Replace a block by another of its size."""
    content = np.load(path) + 1.0
    np.save(path, content)


DAMAGES = [flip, flip_header, truncate, empty, others, os.unlink]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_block_costs_an_iteration_and_no_bit(source, here, tmp_path, damage):
    expected = hash_of(fit(source))
    store = dask_gd.Store(tmp_path / "run")
    fit(source, store=store, max_iter=3)
    newest = max((tmp_path / "run" / "blocks").glob("00000003-*-weights-3.npy"))
    damage(newest)
    with pytest.raises(StoreError, match=rf"iteration-00000003.*is damaged .*{newest.name}.*the store is strict"):
        fit(source, store=dask_gd.Store(tmp_path / "run", strict=True))
    steps = []
    with pytest.warns(
        CorruptCheckpointWarning, match=rf"iteration-00000003.*{newest.name}.*using the iteration before"
    ):
        run = fit(source, store=tmp_path / "run", callbacks=[steps.append])
    assert [step.iteration for step in steps if isinstance(step, IterationEnded)] == [3, 4]
    assert hash_of(run) == expected
    # It is whole again.
    assert hash_of(dask_gd.load(tmp_path / "run")) == expected
    assert hash_of(fit(source, store=dask_gd.Store(tmp_path / "run", strict=True))) == expected


def test_a_block_that_is_damaged_is_named_by_who_loads_it(source, here, tmp_path):
    fit(source, store=tmp_path / "run", max_iter=3)
    loaded = dask_gd.load(tmp_path / "run")
    good = loaded.weights.values
    for path in (tmp_path / "run" / "blocks").glob("*-weights-3.npy"):
        flip(path)
    loaded = dask_gd.load(tmp_path / "run")
    # The other blocks are there.
    np.testing.assert_array_equal(loaded.weights[:20].values, good[:20])
    with pytest.raises(DataError, match=r"weights-3\.npy.* is damaged: its checksum is another"):
        loaded.weights.compute()


def test_without_a_whole_iteration_a_store_is_refused(source, here, tmp_path):
    fit(source, store=tmp_path / "run", max_iter=3)
    for path in (tmp_path / "run" / "blocks").glob("*-weights-3.npy"):
        path.unlink()
    with (
        pytest.warns(CorruptCheckpointWarning, match="is not there, or this process does not see it"),
        pytest.raises(StoreError, match=r"None of the 3 iterations in .* is readable"),
    ):
        fit(source, store=tmp_path / "run")


# The client dies.


def fit_and_die(path, address, module, name, count):
    """Fit on a cluster, or without an address in this process, and be killed before the n-th call of a function."""
    warnings.simplefilter("error")
    column_grid.SEGMENT_ROWS = 150
    real = getattr(sys.modules[module], name)
    calls = 0

    def counted(*arguments, **keywords):
        nonlocal calls
        calls += threading.current_thread() is threading.main_thread()
        if calls == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **keywords)

    setattr(sys.modules[module], name, counted)
    source = opened(path / "g.zarr", [f"f{j}" for j in range(len(WIDTHS))])
    if address is None:
        run_here()
        fit(source, store=path / "run")
    else:
        with Client(address):
            fit(source, store=path / "run")


def killed(*arguments):
    process = forked(fit_and_die, *arguments)
    process.join(120)
    return process.exitcode == -signal.SIGKILL


def test_a_client_killed_between_blocks_and_iteration_goes_on_with_other_workers_to_the_same_bits(
    source, tmp_path, clusters, here, monkeypatch
):
    expected = hash_of(fit(source))
    monkeypatch.undo()
    monkeypatch.setattr(column_grid, "SEGMENT_ROWS", 150)
    # The blocks of iteration 2 are there, and it is not.
    address = clusters(2).scheduler_address
    assert killed(tmp_path, address, "dask_gd.weight_blocks.manifest", "sync", 3)
    assert dask_gd.Store(tmp_path / "run").iterations() == [0, 1]
    assert list((tmp_path / "run" / "blocks").glob("00000002-*"))
    with Client(clusters(4)):
        assert hash_of(fit(source, store=tmp_path / "run")) == expected


@pytest.mark.parametrize(
    ("name", "count"), [("replace", 3), ("replace", 28), ("fsync", 30), ("fsync", 41), ("unlink", 40)]
)
def test_a_client_killed_at_a_call_of_a_commit_goes_on_to_the_same_bits(source, here, tmp_path, name, count):
    expected = hash_of(fit(source))
    assert killed(tmp_path, None, "os", name, count)
    assert hash_of(fit(source, store=tmp_path / "run")) == expected
    assert hash_of(dask_gd.load(tmp_path / "run")) == expected


# Workers die.


@pytest.fixture
def fragile(clusters):
    """A client of a cluster of two worker processes, which start again when they are killed."""
    with dask.config.set({"dask_gd.timeout": "10s"}), Client(clusters("fragile")) as client:
        client.wait_for_workers(2, timeout=120)
        yield client


def die_soon(seconds):
    threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()


@pytest.mark.parametrize(
    ("stored", "is_done", "remembered"), [(True, False, 16), (True, False, 1), (False, False, 1), (False, True, 16)]
)
def test_a_worker_that_dies_takes_no_bit_with_it(
    source, here, monkeypatch, tmp_path, fragile, stored, is_done, remembered
):
    expected = hash_of(fit(source))
    monkeypatch.undo()
    monkeypatch.setattr(column_grid, "SEGMENT_ROWS", 150)
    monkeypatch.setattr(block_track, "REMEMBERED", remembered)
    steps = []

    def kill(event):
        if isinstance(event, IterationEnded):
            steps.append(event.iteration)
            if steps == [0, 1, 2]:
                # What the next step needs has been computed, and is lost; or it is not yet.
                if is_done:
                    until(lambda: not any(fragile.processing().values()))
                worker = sorted(fragile.scheduler_info()["workers"])[1]
                fragile.run(die_soon, 0.02, workers=[worker], on_error="ignore")

    store = tmp_path / "run" if stored else None
    run = fit(source, store=store, callbacks=[kill])
    assert hash_of(run) == expected
    # From the last commit, or from the start.
    last = 3 if stored else 0
    assert steps[:3] == [0, 1, 2]
    assert steps[-1] == 4
    assert last in steps[3:]
    if stored:
        assert steps == [0, 1, 2, 3, 4]


def test_values_that_the_cluster_has_lost_are_made_again_though_no_worker_is_gone(
    source, here, monkeypatch, tmp_path, two
):
    """A worker may have come back at its former address before anybody looked."""
    expected = hash_of(fit(source))
    monkeypatch.undo()
    monkeypatch.setattr(column_grid, "SEGMENT_ROWS", 150)
    monkeypatch.setattr(block_track, "REMEMBERED", 1)
    steps = []

    def lose(event):
        if isinstance(event, IterationEnded):
            steps.append(event.iteration)
            if steps == [0, 1, 2]:
                kept = [key for key in two.futures if str(key[0]).startswith("gd-kept-")]
                assert kept
                two.cancel([Future(key, two) for key in kept])

    assert hash_of(fit(source, store=tmp_path / "run", callbacks=[lose])) == expected
    assert steps == [0, 1, 2, 3, 4]


# What is left.


def left_on(client):
    """Return the tasks of fits that a scheduler still knows."""

    def tasks(dask_scheduler):
        return [str(key) for key in dask_scheduler.tasks if "gd-" in str(key)]

    return client.run_on_scheduler(tasks)


def test_nothing_is_left_on_the_cluster(source, two, tmp_path):
    run = fit(source, max_iter=2)
    weights = run.weights.values
    assert two.futures
    run = None
    until(lambda: not left_on(two), 10)
    assert not two.futures
    # With a store a result needs nothing but its files.
    run = fit(source, max_iter=2, store=tmp_path / "run")
    until(lambda: not left_on(two), 10)
    np.testing.assert_array_equal(run.weights.values, weights)
    # Nor does a run that has ended before, one that goes on, or a store that is kept.
    store = dask_gd.Store(tmp_path / "run")
    fit(source, max_iter=2, store=store)
    run = fit(source, max_iter=3, store=store)
    until(lambda: not left_on(two), 10)
    # And one that fails.
    with pytest.raises(StoreError, match="made otherwise"):
        fit(source, store=store, penalty=L2(0.5))
    until(lambda: not left_on(two), 10)
    assert not two.futures


def test_a_step_leaves_no_more_on_the_cluster_however_often_the_client_looks_at_it(source, two, monkeypatch):
    """Whatever waiting raises, and whoever keeps it, no frame of it may keep the vectors of a step."""
    monkeypatch.setattr(space, "EXACT_UP_TO", 1)
    monkeypatch.setattr(owners, "LOOK_EVERY", 1e-4)
    kept = []
    looks = []

    def count(event):
        if isinstance(event, IterationEnded):
            kept.append(len(two.futures))
            looks.append({key[0] for key in two.futures if "-slopes-" in str(key) and "-part-" not in str(key)})

    gc.collect()
    gc.disable()
    try:
        fit(source, solver=dask_gd.LBFGS(memory=4), max_iter=11, callbacks=[count])
    finally:
        gc.enable()
    assert len(kept) == 12
    # Futures are let go in another thread: some of the last step may still be there. Nothing is read ahead of the last.
    assert max(kept[6:-1]) - min(kept[6:-1]) <= 8, kept
    assert kept[-1] <= max(kept[6:-1])
    # The rows' vectors of the weights, and of the next step; none by what is known of the pairs that are remembered.
    assert max(map(len, looks)) <= 3


def remembered_by(client):
    """Return the number of tasks that the scheduler and its workers know."""
    on_scheduler = client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))
    return on_scheduler + sum(client.run(lambda dask_worker: len(dask_worker.state.tasks)).values())


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("solver", [dask_gd.Momentum(0.1), dask_gd.LBFGS(memory=3)], ids=repr)
def test_the_cluster_remembers_no_more_tasks_however_many_steps_there_are(
    source, two, here, monkeypatch, tmp_path, solver, stored
):
    options = {"solver": solver, "penalty": L2(1e-6), "max_iter": 36}
    expected = hash_of(fit(source, **options))
    monkeypatch.undo()
    monkeypatch.setattr(column_grid, "SEGMENT_ROWS", 150)
    monkeypatch.setattr(block_track, "REMEMBERED", 5)
    known = []

    def count(event):
        # Once all that was asked for is done.
        if isinstance(event, IterationEnded) and event.iteration % 5 == 1:
            until(lambda: not any(two.processing().values()))
            known.append(remembered_by(two))

    run = fit(source, store=tmp_path / "run" if stored else None, callbacks=[count], **options)
    assert len(known) >= 7
    # Where nothing is forgotten, three times as many steps leave three times as many tasks.
    assert max(known[3:]) < 1.6 * max(known[:3]), known
    assert hash_of(run) == expected


def test_a_step_is_two_graphs_and_nothing_is_read_ahead_of_the_last(source, two, monkeypatch):
    graphs = []

    def send(self, tasks, wanted):
        graphs.append({str(task.key[0]).split("-")[1] for task in tasks})
        return real(self, tasks, wanted)

    real = owners.Owners._send
    monkeypatch.setattr(owners.Owners, "_send", send)
    run = fit(source, max_iter=8)
    assert (run.history.step_size[3:] == 1.0).all()
    # The gradient and all that is made of it; the next direction, and what its step needs. The last step has none.
    step = [{"weights"}, {"weights", "forward", "slopes"}]
    assert graphs[-9:] == [*step, *step, *step, {"weights"}, {"weights"}, {"alone"}]
    assert sum("forward" in stages for stages in graphs) == 8


def test_a_worker_that_dies_while_blocks_are_read_is_no_damage_of_the_store(source, here, tmp_path, monkeypatch):
    expected = hash_of(fit(source))
    fit(source, store=tmp_path / "run", max_iter=2)
    lost = []

    def finished(owners, futures):
        if len(lost) < 2:
            lost.append(owners)
            raise OwnerLost("Worker here://1 is gone.")

    monkeypatch.setattr(OwnersHere, "finished", finished)
    assert hash_of(fit(source, store=dask_gd.Store(tmp_path / "run", strict=True))) == expected
    assert len(lost) == 2


# A store that not all see.


def limit_files(nbytes):
    """Have this process write no file longer than this; return what it was."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, before[1]))
    return before[0]


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's limits and /proc")
def test_a_store_that_not_all_workers_share_is_refused_before_the_first_pass(source, two, tmp_path):
    first, second = sorted(two.scheduler_info()["workers"])
    # A worker that cannot write.
    before = two.run(limit_files, 0, workers=[second])
    try:
        with pytest.raises(StoreError, match=rf"must share {tmp_path}/run. Worker {second} cannot write there"):
            fit(source, store=tmp_path / "run")
    finally:
        two.run(limit_files, before[second], workers=[second])
    # A path that is another directory for one worker.
    here = os.getcwd()
    back = two.run(os.getcwd)
    for name in ("a", "b"):
        (tmp_path / name / "run" / "blocks").mkdir(parents=True)
    try:
        os.chdir(tmp_path / "a")
        two.run(os.chdir, tmp_path / "a", workers=[first])
        two.run(os.chdir, tmp_path / "b", workers=[second])
        with pytest.raises(
            StoreError, match=r"must share /proc/self/cwd/run.* do not see each other there.*Give store="
        ):
            fit(source, store="/proc/self/cwd/run")
    finally:
        os.chdir(here)
        for worker, directory in back.items():
            two.run(os.chdir, directory, workers=[worker])
    assert not list((tmp_path / "a" / "run").glob("iteration*"))
    assert not list((tmp_path / "a" / "run" / "blocks").iterdir())
