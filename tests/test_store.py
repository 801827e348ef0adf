"""A commit is whole or absent, readable by zarr and xarray, and survives crashes, full disks and flipped bits."""

import os
import resource
import shutil
import subprocess
import sys
import warnings
import zipfile
from contextlib import contextmanager

import numpy as np
import pytest
import xarray as xr
import zarr
from helpers import checkpoint, committed, same_checkpoint
from numpy.testing import assert_array_equal
from zarr.storage import ZipStore

from dask_gd import Store
from dask_gd.errors import CorruptCheckpointWarning, InvalidArgumentError, StoreError, StoreMismatchError
from dask_gd.store.store import Checkpoint, check_same

ARRAYS = {
    "float": np.array([1.5, -0.0, np.nan, np.inf, 5e-324]),
    "float of other byte order": np.arange(3, dtype=">f8"),
    "float32": np.float32([[1, 2], [3, 4]]),
    "float16": np.float16([1, 2]),
    "bool": np.array([True, False]),
    "int8": np.array([-1], dtype=np.int8),
    "uint64": np.array([2**64 - 1], dtype=np.uint64),
    "0-d float": np.array(np.pi),
    "0-d int": np.array(-7),
    "no rows": np.zeros(0),
    "no columns": np.zeros((3, 0)),
    "4-d": np.random.default_rng(0).normal(size=(2, 3, 1, 2)),
    "transposed": np.arange(6.0).reshape(2, 3).T,
    "strided": np.arange(6.0)[::2],
    "text": np.array(["a", "", "längere Wörter", "日本"]),
    "text as objects": np.array(["a", "bc"], dtype=object),
    "no text": np.array([], dtype="U1"),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_every_array_comes_back_bit_for_bit(tmp_path, name):
    array = ARRAYS[name]
    saved = Checkpoint(7, {"n": 1, "text": "ü", "none": None}, {"state/a": (tuple("pqrs"[: array.ndim]), array)})
    with Store(tmp_path) as store:
        store.commit(saved)
    same_checkpoint(saved, Store(tmp_path).latest())


def test_the_newest_iteration_is_the_latest(tmp_path):
    same_checkpoint(committed(tmp_path, 0, 1, 2).latest(), checkpoint(2))
    same_checkpoint(committed(tmp_path, 3, 11).latest(), checkpoint(11))


def test_a_store_without_iterations_has_no_latest(tmp_path):
    assert Store(tmp_path).latest() is None
    assert Store(tmp_path / "nowhere").latest() is None
    assert not (tmp_path / "nowhere").exists()


def test_committing_again_replaces(tmp_path):
    store = committed(tmp_path, 4)
    with store:
        store.commit(checkpoint(4, size=5))
    assert store.iterations() == [4]
    same_checkpoint(store.latest(), checkpoint(4, size=5))


def test_zarr_and_xarray_open_an_iteration_by_themselves(tmp_path):
    file = committed(tmp_path, 5).file(5)
    with ZipStore(file, mode="r") as zipped:
        group = zarr.open_group(zipped, mode="r")
        assert_array_equal(group["state/query"][...], np.full((2, 2), 5.0))
        assert group.attrs["dask_gd"]["number"] == 5
    with ZipStore(file, mode="r") as zipped, xr.open_zarr(zipped, consolidated=False) as data:
        assert data.weights.dims == ("feature",)
        assert data.weights.sel(feature="x1") == 5.0
        assert data.intercept == 5.0


def test_nothing_is_pickled(tmp_path):
    with zipfile.ZipFile(committed(tmp_path, 1).file(1)) as archive:
        for name in archive.namelist():
            data = archive.read(name)
            assert b"pickle" not in data
            assert not (data.startswith(b"\x80") and data.endswith(b"."))


def test_the_same_checkpoint_is_the_same_file(tmp_path):
    one, other = committed(tmp_path / "a", 1).file(1), committed(tmp_path / "b", 1).file(1)
    assert one.read_bytes() == other.read_bytes()


def test_a_copied_store_loads_and_goes_on(tmp_path):
    committed(tmp_path / "here", 1, 2)
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    shutil.rmtree(tmp_path / "here")
    same_checkpoint(Store(tmp_path / "there").latest(), checkpoint(2))
    assert committed(tmp_path / "there", 3).iterations() == [1, 2, 3]


# Retention


@pytest.mark.parametrize(("keep", "left"), [(2, [3, 4]), (3, [2, 3, 4]), (None, [0, 1, 2, 3, 4])])
def test_as_many_iterations_are_kept_as_asked(tmp_path, keep, left):
    assert committed(tmp_path, *range(5), keep=keep).iterations() == left


@pytest.mark.parametrize("keep", [1, 0, -1, True, 2.5, "3"])
def test_keeping_fewer_than_two_is_refused(tmp_path, keep):
    with pytest.raises(InvalidArgumentError, match=r"Store\(keep="):
        Store(tmp_path, keep=keep)


def test_retention_never_removes_the_last_good_iteration(tmp_path):
    store = committed(tmp_path, 1, 2, 3, keep=3)
    for damaged in (2, 3):
        store.file(damaged).write_bytes(b"")
    with store:
        store.keep = 2
        store.commit(checkpoint(2))
    with pytest.warns(CorruptCheckpointWarning):
        same_checkpoint(store.latest(), checkpoint(2))


def test_other_files_in_the_directory_are_left_alone(tmp_path):
    for name in ("notes.txt", "iteration-00000001 (copy).zarr.zip", "iteration-last.zarr.zip"):
        (tmp_path / name).write_text("mine")
    store = committed(tmp_path, *range(4), keep=2)
    assert store.iterations() == [2, 3]
    same_checkpoint(store.latest(), checkpoint(3))
    assert (tmp_path / "notes.txt").read_text() == "mine"


# Who may write


def test_a_second_writer_is_refused_until_the_first_has_left(tmp_path):
    with Store(tmp_path) as first:
        with pytest.raises(StoreError, match="Another fit is writing"), Store(tmp_path):
            pass
        with pytest.raises(StoreError, match="Another fit is writing"), first:
            pass
        first.commit(checkpoint(1))
    same_checkpoint(committed(tmp_path, 2).latest(), checkpoint(2))


def test_a_reader_needs_no_leave_of_the_writer(tmp_path):
    with Store(tmp_path) as writer:
        writer.commit(checkpoint(1))
        same_checkpoint(Store(tmp_path).latest(), checkpoint(1))


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/dask_gd", "/dev/null/run"])
def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path, place):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"Cannot write the store .*Choose a writable"), Store(tmp_path / place):
        pass
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_url_is_refused():
    with pytest.raises(InvalidArgumentError, match="local directory"):
        Store("s3://bucket/run")


# Crashes


def test_unfinished_files_are_ignored_and_cleared_away(tmp_path):
    store = committed(tmp_path, 1)
    stale = tmp_path / f".{store.file(2).name}.tmp"
    stale.write_bytes(b"half")
    same_checkpoint(store.latest(), checkpoint(1))
    with store:
        assert not stale.exists()


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), OSError("without a number"), KeyboardInterrupt()]
)
def test_a_failing_system_call_leaves_the_last_commit(tmp_path, monkeypatch, call, error):
    def fail(*args):
        raise error

    store = committed(tmp_path, 1)
    expected = StoreError if isinstance(error, OSError) else KeyboardInterrupt
    with store, monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(expected, match="Cannot commit iteration 2" if expected is StoreError else None):
            store.commit(checkpoint(2))
    same_checkpoint(store.latest(), checkpoint(1))
    same_checkpoint(committed(tmp_path, 2).latest(), checkpoint(2))
    assert not list(tmp_path.glob(".*"))


def test_a_directory_that_cannot_be_flushed_is_said_and_nothing_is_lost(tmp_path, monkeypatch):
    store, fsync = committed(tmp_path, 1), os.fsync
    calls = []

    def second_fails(descriptor):
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(5, "Input/output error")
        fsync(descriptor)

    with store, monkeypatch.context() as patch:
        patch.setattr(os, "fsync", second_fails)
        with pytest.raises(StoreError, match="Input/output error"):
            store.commit(checkpoint(2))
    assert store.latest().iteration in (1, 2)


@contextmanager
def room_for(nbytes):
    """Files may grow to this size: what a full disk does to a write, anywhere in a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("part", [0, 0.01, 0.3, 0.6, 0.9, 0.99])
def test_a_full_disk_is_said_and_the_last_commit_loads(tmp_path, part):
    store = committed(tmp_path, 1)
    full = checkpoint(2, size=20_000)
    with store:
        with (
            room_for(int(part * 160_000)),
            pytest.raises(StoreError, match=r"Cannot commit iteration 2 to .*make room"),
        ):
            store.commit(full)
        same_checkpoint(store.latest(), checkpoint(1))
        assert not list(tmp_path.glob(".*.tmp"))
        store.commit(full)
    same_checkpoint(store.latest(), full)


#: A process that forks one child for each line of the commit's code, which dies there as if by SIGKILL.
KILLED_AT_EACH_LINE = """
import os, shutil, sys
from pathlib import Path
from dask_gd import Store
from helpers import checkpoint, committed, same_checkpoint

def die_at(line):
    seen = 0
    def trace(frame, event, argument):
        nonlocal seen
        if not frame.f_code.co_qualname.startswith("Store."):
            return None
        if event == "line":
            seen += 1
            if seen == line:
                os._exit(1)
        return trace
    sys.settrace(trace)

line, outcomes, root = 1, [], Path(sys.argv[1])
committed(root / "before", 1, 2, keep=2)
while True:
    path = shutil.copytree(root / "before", root / str(line))
    child = os.fork()
    if child == 0:
        with Store(path, keep=2) as store:
            die_at(line)
            store.commit(checkpoint(3))
            os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with Store(path) as store:
        latest = store.latest()
        same_checkpoint(latest, checkpoint(latest.iteration))
        assert len(store.iterations()) >= 2
        assert not list(path.glob(".*.tmp"))
    outcomes.append(latest.iteration)
    if status == 0:
        break
    line += 1
assert set(outcomes) == {2, 3}, outcomes
assert outcomes == sorted(outcomes), outcomes
print(len(outcomes))
"""


def test_a_commit_killed_at_any_line_leaves_the_old_or_the_new_iteration(tmp_path):
    here = os.path.dirname(__file__)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([here, os.path.dirname(here)])}
    command = [sys.executable, "-W", "ignore", "-c", KILLED_AT_EACH_LINE, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 30


# Damage


def is_intact_or_passed_over(store):
    """The newest iteration comes back whole, or the one before it with a warning; True if the latter."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        latest = store.latest()
    same_checkpoint(latest, checkpoint(latest.iteration))
    assert {w.category for w in caught} == ({CorruptCheckpointWarning} if latest.iteration == 1 else set())
    return latest.iteration == 1


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_is_never_believed(tmp_path, bit):
    store = committed(tmp_path, 1, 2)
    good = store.file(2).read_bytes()
    seed = np.random.default_rng(bit)
    positions = [*seed.choice(len(good), 25, replace=False), *(len(good) - 1 - seed.choice(500, 25, replace=False))]
    passed_over = 0
    for position in positions:
        bad = bytearray(good)
        bad[position] ^= 1 << bit
        store.file(2).write_bytes(bad)
        passed_over += is_intact_or_passed_over(store)
    assert passed_over > len(positions) // 4


@pytest.mark.parametrize("part", [0.0, 0.001, 0.25, 0.5, 0.9, 0.999])
def test_a_truncated_iteration_is_passed_over_with_a_warning(tmp_path, part):
    store = committed(tmp_path, 1, 2)
    data = store.file(2).read_bytes()
    store.file(2).write_bytes(data[: int(part * len(data))])
    with pytest.warns(CorruptCheckpointWarning, match="iteration-00000002.*is damaged"):
        same_checkpoint(store.latest(), checkpoint(1))


def test_a_flipped_bit_in_the_weights_is_noticed(tmp_path):
    store = committed(tmp_path, 1, 2)
    data = bytearray(store.file(2).read_bytes())
    data[data.index(np.full(3, 2.0).tobytes()) + 3] ^= 1
    store.file(2).write_bytes(data)
    with pytest.warns(CorruptCheckpointWarning, match="is damaged"):
        same_checkpoint(store.latest(), checkpoint(1))


@pytest.mark.filterwarnings("ignore::dask_gd.errors.CorruptCheckpointWarning")
def test_a_store_with_nothing_readable_is_refused(tmp_path):
    store = committed(tmp_path, 1, 2)
    for iteration in (1, 2):
        store.file(iteration).write_bytes(b"PK")
    with pytest.raises(StoreError, match="None of the 2 iterations"):
        store.latest()


def test_a_damaged_iteration_is_written_again(tmp_path):
    store = committed(tmp_path, 1, 2)
    store.file(2).write_bytes(b"")
    same_checkpoint(committed(tmp_path, 2).latest(), checkpoint(2))


# Resuming


def test_a_run_made_alike_goes_on():
    spec = {"loss": {"name": "squared"}, "data": {"x": "abc"}, "fit_intercept": True}
    check_same(spec, dict(spec), "run")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"loss": {"name": "logistic"}}, "loss.name: stored squared, now logistic"),
        ({"penalty": {"name": "l2", "alpha": 0.2}}, "penalty.alpha: stored 0.1, now 0.2"),
        ({"data": {"x": "abd"}}, "data.x: stored abc, now abd"),
        ({"data": {"x": "abc", "sample_weight": "w"}}, "data.sample_weight: stored None, now w"),
        ({"fit_intercept": False}, "fit_intercept: stored True, now False"),
    ],
)
def test_a_run_made_otherwise_is_refused_by_field(asked, message):
    stored = {
        "loss": {"name": "squared"},
        "penalty": {"name": "l2", "alpha": 0.1},
        "data": {"x": "abc"},
        "fit_intercept": True,
    }
    with pytest.raises(StoreMismatchError, match=message) as caught:
        check_same(stored, {**stored, **asked}, "run")
    assert str(caught.value).count("stored") == 1
