"""Predictions are written whole or not at all, and no chunk is lost without a word. FOUND 2, FOUND 26, FAULTS 58."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import warnings

import dask
import dask.array as da
import dask.dataframe as dd
import fsspec
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from click.testing import CliRunner
from helpers import until
from scipy.sparse import csr_array
from sklearn.feature_extraction.text import HashingVectorizer
from zarr.storage import LocalStore

import dask_gd
from dask_gd import cli
from dask_gd.errors import ClusterError, DataError, InvalidArgumentError, InvalidTypeError
from dask_gd.results import places

ROWS = 100


def fitted(outputs=None):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 3))
    y = x @ rng.normal(size=(3, outputs or 1))
    return dask_gd.fit(x, y if outputs else y[:, 0]), x


def keys_of(path):
    return sorted(os.path.relpath(os.path.join(d, f), path) for d, _, files in os.walk(path) for f in files)


def chunks_of(array):
    """Every chunk that the grid of a stored array promises is a file."""
    count = int(np.prod([-(-n // c) for n, c in zip(array.shape, array.chunks, strict=True)]))
    root = array.store.root / array.path / "c"
    assert len(keys_of(root)) == count
    return count


def dataset(time=12, lat=10):
    rng = np.random.default_rng(1)
    data = xr.Dataset(
        {"a": (("time", "lat"), rng.normal(size=(time, lat))), "b": ("time", rng.normal(size=time))},
        coords={
            "time": pd.date_range("2000-01-01", periods=time, freq="h"),
            "lat": np.linspace(-1.0, 1.0, lat),
            "season": ("time", np.array(["dry", "wet"])[np.arange(time) % 2]),
            "area": (("time", "lat"), rng.random((time, lat))),
            "run": 3,
        },
    )
    data["y"] = (2 * data.a - data.b).assign_attrs(units="K", long_name="temperature")
    return data


def fitted_to(data):
    return dask_gd.fit(data, features=["a", "b"], target="y", sample_dims=("time", "lat"))


# Any kind of prediction


@pytest.mark.parametrize("chunks", [None, 30, (7, 1, 50, 42), (100,), (0, 60, 40)])
@pytest.mark.parametrize("outputs", [None, 2])
def test_what_is_read_back_is_what_was_predicted_whatever_the_chunks(chunks, outputs, tmp_path):
    run, x = fitted(outputs)
    prediction = run.predict(x if chunks is None else da.from_array(x, chunks=(chunks, -1)))
    path = dask_gd.write(prediction, tmp_path / "out.zarr")
    assert path == str(tmp_path / "out.zarr")
    array = zarr.open_array(path, mode="r")
    np.testing.assert_array_equal(array[...], np.asarray(prediction))
    assert array.dtype == float
    assert "Crc32c" in repr(array.metadata.codecs)
    chunks_of(array)
    assert os.listdir(tmp_path) == ["out.zarr"]
    # What we have written can be read by us, with every chunk there.
    with contextlib.suppress(InvalidArgumentError):
        dask_gd.fit(x, array, max_iter=1)


def test_blocks_of_unknown_sizes_are_written(tmp_path):
    run, x = fitted()
    lazy = da.from_array(x, chunks=(30, -1))
    some = lazy[lazy[:, 0] > 0]
    prediction = run.predict(some)
    assert np.isnan(prediction.shape[0])
    array = zarr.open_array(dask_gd.write(prediction, tmp_path / "out.zarr"), mode="r")
    np.testing.assert_array_equal(array[...], run.predict(x[x[:, 0] > 0]))
    # The user's array is as it was.
    assert np.isnan(prediction.shape[0])


def test_a_chunk_of_the_fill_value_is_written_too(tmp_path):
    path = dask_gd.write(da.zeros(ROWS, chunks=10), tmp_path / "out.zarr")
    assert chunks_of(zarr.open_array(path, mode="r")) == 10
    path = dask_gd.write(np.zeros(ROWS), tmp_path / "memory.zarr")
    assert chunks_of(zarr.open_array(path, mode="r")) == 1
    path = dask_gd.write(xr.DataArray(da.full(ROWS, np.nan, chunks=10), dims="row"), tmp_path / "set.zarr")
    assert chunks_of(zarr.open_group(path, mode="r")["prediction"]) == 10


def test_no_rows_are_written_as_none(tmp_path):
    for empty in (np.zeros(0), da.zeros(0, chunks=5), np.zeros((0, 2))):
        path = dask_gd.write(empty, tmp_path / f"{len(os.listdir(tmp_path))}.zarr")
        assert zarr.open_array(path, mode="r").shape == empty.shape


@pytest.mark.parametrize("chunks", [None, {"time": 5}, {"time": (1, 4, 7), "lat": (3, 7)}])
def test_a_dataset_keeps_its_names_coordinates_and_attributes(chunks, tmp_path):
    data = dataset()
    run = fitted_to(data)
    lazy = data if chunks is None else data.chunk(chunks)
    prediction = run.predict(lazy)
    assert (chunks is None) == (prediction.chunks is None)
    path = dask_gd.write(prediction, tmp_path / "out.zarr")
    # FOUND 26: with consolidated metadata, so that xarray opens it without a warning.
    assert zarr.open_group(path, mode="r").metadata.consolidated_metadata is not None
    found = xr.open_zarr(path, consolidated=True)
    xr.testing.assert_identical(found.prediction.load(), run.predict(data))
    assert found.prediction.attrs["units"] == "K"
    group = zarr.open_group(path, mode="r")
    for name, array in group.arrays():
        assert "Crc32c" in repr(array.metadata.codecs), name
        if array.ndim:
            chunks_of(array)
    assert os.listdir(tmp_path) == ["out.zarr"]


def test_a_dataset_that_was_read_from_zarr_with_other_chunks_is_written(tmp_path):
    data = dataset()
    data.drop_vars("season").chunk(time=4).to_zarr(tmp_path / "in.zarr", consolidated=False)
    run = fitted_to(data)
    opened = xr.open_zarr(tmp_path / "in.zarr", consolidated=False, chunks={"time": 8, "lat": 10})
    found = xr.open_zarr(dask_gd.write(run.predict(opened), tmp_path / "out.zarr"))
    xr.testing.assert_allclose(found.prediction.load(), run.predict(data.drop_vars("season")))
    np.testing.assert_array_equal(found.area.values, data.area.values)


def test_a_dataset_of_several_predictions_is_written_in_one_pass(tmp_path):
    data = dataset().chunk(time=5)
    run = fitted_to(data)
    both = xr.Dataset({"low": run.predict(data) - 1.0, "high": run.predict(data) + 1.0}, attrs={"title": "bounds"})
    found = xr.open_zarr(dask_gd.write(both, tmp_path / "out.zarr"))
    np.testing.assert_allclose((found.high - found.low).values, 2.0)
    assert found.attrs["title"] == "bounds"


def test_masked_predictions_are_nan(tmp_path):
    masked = np.ma.masked_array(np.arange(6.0), mask=[0, 0, 1, 0, 0, 0])
    for given in (masked, da.ma.masked_array(da.arange(6.0, chunks=4), mask=masked.mask)):
        path = dask_gd.write(given, tmp_path / f"{len(os.listdir(tmp_path))}.zarr")
        np.testing.assert_array_equal(zarr.open_array(path, mode="r")[...], [0, 1, np.nan, 3, 4, 5])


def test_a_block_that_is_not_what_was_declared_is_refused_by_name(tmp_path):
    short = da.from_delayed(dask.delayed(np.zeros)(7), shape=(10,), dtype=float)
    blocks = da.concatenate([da.zeros(10, chunks=10), short])
    with pytest.raises(DataError, match=r"block \(1,\).*prediction"):
        dask_gd.write(blocks, tmp_path / "out.zarr")
    # A thread that was still writing removes what it has written.
    until(lambda: os.listdir(tmp_path) == [])


@pytest.mark.parametrize(
    ("prediction", "error", "message"),
    [
        ([1.0, 2.0], InvalidTypeError, "a list; give what predict gives"),
        (np.array([1.0, "a", None], dtype=object), InvalidTypeError, "Zarr cannot hold this prediction"),
        (xr.DataArray([1.0], dims="x", coords={"x": [0]}, name="x"), InvalidArgumentError, "rename one"),
        (xr.DataArray([1.0], dims=[0]), InvalidArgumentError, "no name for Zarr"),
        (xr.DataArray(np.eye(2), dims=("a", "b")).stack(s=("a", "b")), InvalidArgumentError, "a MultiIndex"),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_is_there(prediction, error, message, tmp_path):
    with pytest.raises(error, match=message):
        dask_gd.write(prediction, tmp_path / "deep" / "out.zarr")
    assert not (tmp_path / "deep").exists() or os.listdir(tmp_path / "deep") == []


# The place


def test_a_relative_path_is_absolute_before_anything_leaves_the_client(tmp_path, monkeypatch):
    run, x = fitted()
    monkeypatch.chdir(tmp_path)
    prediction = run.predict(da.from_array(x, chunks=(30, -1)))

    def moved(block):
        os.chdir("/")
        return block

    path = dask_gd.write(prediction.map_blocks(moved, meta=np.empty(0)), "out.zarr")
    assert path == str(tmp_path / "out.zarr")
    np.testing.assert_array_equal(zarr.open_array(path, mode="r")[...], run.predict(x))


def test_what_is_there_is_replaced_only_on_request_and_only_if_it_is_zarr(tmp_path):
    path = tmp_path / "out.zarr"
    dask_gd.write(np.zeros(3), path)
    with pytest.raises(InvalidArgumentError, match="overwrite=True replaces it"):
        dask_gd.write(np.ones(3), path)
    dask_gd.write(da.ones(5, chunks=2), path, overwrite=True)
    assert zarr.open_array(path, mode="r")[...].tolist() == [1.0] * 5
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "thesis").write_text("years of work")
    for place in ("papers", "papers/thesis"):
        with pytest.raises(InvalidArgumentError, match="is not Zarr"):
            dask_gd.write(np.ones(3), tmp_path / place, overwrite=True)
    assert (tmp_path / "papers" / "thesis").read_text() == "years of work"
    with pytest.raises(InvalidArgumentError, match="no name of a new directory"):
        dask_gd.write(np.ones(3), "/")


@pytest.mark.parametrize("name", ["write", "write_sparse", "write_table", "convert_svmlight", "hash_features"])
def test_a_place_that_is_taken_is_refused_by_the_function_that_was_called_before_it_reads(name, tmp_path):
    def read(block):
        raise AssertionError("rows were read")

    lazy = da.ones((4, 2), chunks=2).map_blocks(read, meta=np.ones((0, 2)))
    frame = dd.from_pandas(pd.DataFrame({"a": [1.0, 2.0]}), npartitions=1).map_partitions(read, meta={"a": float})
    svmlight = tmp_path / "rows.svm"
    svmlight.write_text("no svmlight")
    given = {
        "write": [lazy],
        "write_sparse": [lazy.map_blocks(csr_array, meta=csr_array((0, 2)))],
        "write_table": [frame],
        "convert_svmlight": [svmlight],
        "hash_features": [lazy[:, 0]],
    }
    place = tmp_path / "taken"
    place.mkdir()
    features = {"hash_features": [HashingVectorizer()]}
    with pytest.raises(InvalidArgumentError, match=f"^{name}: .*taken exists; overwrite=True replaces it"):
        getattr(dask_gd, name)(*given[name], place, *features.get(name, []))


def test_a_link_is_replaced_and_not_what_it_leads_to(tmp_path):
    dask_gd.write(np.zeros(3), tmp_path / "first.zarr")
    (tmp_path / "link.zarr").symlink_to(tmp_path / "first.zarr")
    dask_gd.write(np.ones(4), tmp_path / "link.zarr", overwrite=True)
    assert zarr.open_array(tmp_path / "first.zarr", mode="r")[...].tolist() == [0.0] * 3
    assert zarr.open_array(tmp_path / "link.zarr", mode="r")[...].tolist() == [1.0] * 4


@pytest.mark.parametrize("kind", ["zarr", "dask", "source", "dataset", "link", "coordinate"])
def test_what_the_prediction_is_read_from_is_never_replaced(kind, tmp_path, monkeypatch):
    run, x = fitted()
    monkeypatch.chdir(tmp_path)
    group = zarr.open_group("in.zarr", mode="w")
    group.create_array("x", data=x, chunks=(30, 3))
    group.create_array("y", data=x[:, 0], chunks=(30,))
    place = "in.zarr/x"
    if kind == "zarr":
        prediction = run.predict(zarr.open_group("in.zarr", mode="r")["x"])
    elif kind == "dask":
        prediction = run.predict(da.from_zarr("in.zarr", component="x"))
    elif kind == "source":
        prediction, place = run.predict(dask_gd.open("in.zarr", x="x", y="y")), "in.zarr"
    elif kind == "link":
        os.symlink("in.zarr", "other.zarr")
        prediction, place = run.predict(zarr.open_group("other.zarr", mode="r")["x"]), "in.zarr"
    else:
        data, place = dataset().drop_vars("season"), "set.zarr"
        data.chunk(time=5).to_zarr("set.zarr", consolidated=False)
        opened = xr.open_zarr("set.zarr", consolidated=False)
        opened = opened if kind == "dataset" else data.assign_coords(area=opened.area)
        prediction = fitted_to(data).predict(opened)
    before = keys_of(place)
    with pytest.raises(InvalidArgumentError, match=r"is read from .*; write elsewhere"):
        dask_gd.write(prediction, place, overwrite=True)
    assert keys_of(place) == before
    # But beside it, in the same group.
    dask_gd.write(prediction, "out.zarr")
    dask_gd.write(prediction, "out.zarr", overwrite=True)


def test_an_error_leaves_what_was_there(tmp_path):
    path = tmp_path / "out.zarr"
    dask_gd.write(np.zeros(3), path)

    def fails(block, block_id):
        if block_id == (3,):
            raise OSError("no space left")
        return block

    for ending in (path, tmp_path / "new.zarr"):
        with pytest.raises(OSError, match="no space left"):
            dask_gd.write(da.ones(50, chunks=10).map_blocks(fails, dtype=float), ending, overwrite=True)
    until(lambda: os.listdir(tmp_path) == ["out.zarr"])
    assert zarr.open_array(path, mode="r")[...].tolist() == [0.0] * 3


KILLED = """
import os, sys, time
import dask.array as da
import dask_gd

def slow(block, block_id):
    if block_id == (2,):
        print("writing", flush=True)
        time.sleep(60)
    return block

dask_gd.write(da.ones(50, chunks=10).map_blocks(slow, dtype=float), sys.argv[1], overwrite=True)
"""


@pytest.mark.parametrize("before", [False, True])
def test_a_killed_writer_leaves_what_was_there_and_is_not_in_the_way(before, tmp_path):
    path = tmp_path / "out.zarr"
    if before:
        dask_gd.write(np.zeros(3), path)
    writer = subprocess.Popen([sys.executable, "-c", KILLED, path], stdout=subprocess.PIPE, text=True)
    with writer:
        assert writer.stdout.readline() == "writing\n"
        # Another one of the same place goes on beside it, and spares what is its.
        left = [name for name in os.listdir(tmp_path) if name.endswith(".tmp")]
        assert len(left) == 1
        dask_gd.write(np.full(2, 5.0), path, overwrite=True)
        assert left[0] in os.listdir(tmp_path)
        writer.send_signal(signal.SIGKILL)
    assert zarr.open_array(path, mode="r")[...].tolist() == [5.0] * 2
    dask_gd.write(np.ones(4), path, overwrite=True)
    assert os.listdir(tmp_path) == ["out.zarr"]


def test_what_a_writer_had_put_aside_when_it_was_killed_is_put_back(tmp_path):
    path, temporary = tmp_path / "out.zarr", tmp_path / ".out.zarr.0123456789ab.tmp"
    dask_gd.write(np.zeros(3), path)
    temporary.mkdir()
    (temporary / "lock").touch()
    os.rename(path, temporary / "old")
    with pytest.raises(InvalidArgumentError, match="has appeared meanwhile"):
        dask_gd.write(np.ones(4), path)
    assert zarr.open_array(path, mode="r")[...].tolist() == [0.0] * 3
    assert os.listdir(tmp_path) == ["out.zarr"]


def test_a_place_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidArgumentError, match=r"Cannot write .*Choose a writable place"):
        dask_gd.write(np.ones(4), tmp_path / "file" / "out.zarr")


# Workers that see another disk


def test_workers_in_another_directory_write_to_the_clients_place(two, tmp_path, monkeypatch):
    # FOUND 2: a relative path.
    monkeypatch.chdir(tmp_path)
    home = two.run(os.getcwd)
    two.run(os.chdir, "/")
    try:
        run, x = fitted()
        path = dask_gd.write(run.predict(da.from_array(x, chunks=(30, -1))), "out.zarr")
        np.testing.assert_array_equal(zarr.open_array(path, mode="r")[...], run.predict(x))
        dask_gd.write(fitted_to(dataset()).predict(dataset().chunk(time=5)), "set.zarr")
        assert sorted(os.listdir(tmp_path)) == ["out.zarr", "set.zarr"]
    finally:
        for address, directory in home.items():
            two.run(os.chdir, directory, workers=[address])


def elsewhere(dask_worker, hidden):
    """In a worker: it sees nothing of a directory of the client."""
    exists = os.path.exists
    os.path.exists = lambda path: not str(path).startswith(hidden) and exists(path)
    dask_worker._exists = exists


def back(dask_worker):
    os.path.exists = dask_worker._exists


def test_a_worker_that_does_not_see_the_place_says_so_before_it_writes(two, tmp_path):
    run, x = fitted()
    prediction = run.predict(da.from_array(x, chunks=(10, -1)))
    two.run(elsewhere, hidden=str(tmp_path))
    try:
        with pytest.raises(
            ClusterError, match=rf"Worker tcp://\S+ does not see {tmp_path}/\.out.*that all workers share"
        ):
            dask_gd.write(prediction, tmp_path / "out.zarr")
    finally:
        two.run(back)
    until(lambda: os.listdir(tmp_path) == [])


def lost(dask_worker, other):
    """In a worker: what it writes goes to a disk of its own."""
    dask_worker._set, dask_worker._exists = LocalStore.set, LocalStore.exists

    async def set_elsewhere(self, key, value):
        await dask_worker._set(LocalStore(other), key, value)

    async def exists_elsewhere(self, key):
        return await dask_worker._exists(LocalStore(other), key)

    LocalStore.set, LocalStore.exists = set_elsewhere, exists_elsewhere


def found_again(dask_worker):
    LocalStore.set, LocalStore.exists = dask_worker._set, dask_worker._exists


@pytest.mark.parametrize("kind", ["array", "dataset"])
def test_chunks_that_this_client_does_not_see_are_an_error_that_names_the_worker(two, kind, tmp_path):
    run, x = fitted()
    prediction = run.predict(da.from_array(x, chunks=(10, -1)))
    if kind == "dataset":
        prediction = fitted_to(dataset()).predict(dataset().chunk(time=5))
    first = min(two.scheduler_info()["workers"])
    two.run(lost, other=str(tmp_path / "other"), workers=[first])
    try:
        with pytest.raises(ClusterError, match=rf"were written and are not there.*worker {first} wrote it to a disk"):
            dask_gd.write(prediction, tmp_path / "out.zarr")
    finally:
        two.run(found_again, workers=[first])
    until(lambda: os.listdir(tmp_path) == ["other"])


def run_command(*arguments, code=0):
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        result = CliRunner().invoke(cli.main, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    return result


@pytest.mark.parametrize("kind", ["array", "dataset"])
def test_the_command_line_writes_there_too_or_ends_with_an_error(two, kind, tmp_path, monkeypatch):
    # FOUND 2, as the command line has it: workers elsewhere, and a relative path.
    monkeypatch.chdir(tmp_path)
    x = fitted()[1]
    if kind == "array":
        zarr.open_group("in.zarr", mode="w").create_array("x", data=x, chunks=(10, 3))
        run, which = dask_gd.fit(x, x[:, 0], store="run"), ["-x", "x"]
        expected = run.predict(x)
    else:
        dataset().drop_vars("season").chunk(time=5).to_zarr("in.zarr", consolidated=False)
        options = {"features": ["a", "b"], "target": "y", "sample_dims": ("time", "lat")}
        run, which = dask_gd.fit(xr.open_zarr("in.zarr", consolidated=False), **options, store="run"), []
        expected = run.predict(dataset()).values
    address = two.scheduler.address
    arguments = ["predict", "run", tmp_path / "in.zarr", *which, "-o", "out.zarr", "--scheduler", address]
    two.run(elsewhere, hidden=f"{tmp_path}/.out")
    try:
        told = run_command(*arguments, code=1)
    finally:
        two.run(back)
    assert "does not see" in told.stderr
    assert "wrote" not in told.stderr
    assert not os.path.exists("out.zarr")
    assert f"wrote {tmp_path}/out.zarr, " in run_command(*arguments).stderr
    found = zarr.open_array("out.zarr") if kind == "array" else xr.open_zarr("out.zarr", consolidated=True).prediction
    np.testing.assert_array_equal(found[...], expected)
    until(lambda: not [name for name in os.listdir(tmp_path) if name.endswith(".tmp")])


def test_ctrl_c_leaves_nothing(two, tmp_path):
    run, x = fitted()

    def interrupt(block):
        time.sleep(0.2)
        return block

    def press(*_):
        raise KeyboardInterrupt

    prediction = run.predict(da.from_array(x, chunks=(5, -1))).map_blocks(interrupt, dtype=float)
    before = signal.signal(signal.SIGALRM, press)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.8)
        with pytest.raises(KeyboardInterrupt):
            dask_gd.write(prediction, tmp_path / "out.zarr")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert not (tmp_path / "out.zarr").exists()
    dask_gd.write(np.ones(3), tmp_path / "out.zarr")
    until(lambda: os.listdir(tmp_path) == ["out.zarr"] and not any(two.processing().values()))


# At a URL


@pytest.fixture
def memory():
    """A place in this process's memory."""
    yield "memory://dask_gd-test/out.zarr"
    fsspec.filesystem("memory").store.clear()


@pytest.mark.parametrize("kind", ["array", "memory", "dataset"])
def test_at_a_url_the_metadata_comes_last(memory, kind):
    run, x = fitted()
    prediction = run.predict(x if kind == "memory" else da.from_array(x, chunks=(30, -1)))
    if kind == "dataset":
        prediction = fitted_to(dataset()).predict(dataset().chunk(time=5))

    def fails(block, block_id):
        if any(block_id):
            raise OSError("no space left")
        return block

    if kind != "memory":
        broken = (
            prediction.copy(data=prediction.data.map_blocks(fails, dtype=float))
            if kind == "dataset"
            else prediction.map_blocks(fails, dtype=float)
        )
        with pytest.raises(OSError, match="no space left"):
            dask_gd.write(broken, memory)
        with pytest.raises(FileNotFoundError):
            zarr.open(memory, mode="r")
    assert dask_gd.write(prediction, memory) == memory
    if kind == "dataset":
        xr.testing.assert_identical(xr.open_zarr(memory).prediction.load(), prediction.load())
    else:
        np.testing.assert_array_equal(zarr.open_array(memory, mode="r")[...], np.asarray(prediction))
    with pytest.raises(InvalidArgumentError, match="there is something at"):
        dask_gd.write(prediction, memory)
    with pytest.raises(InvalidArgumentError, match="nothing at a URL is replaced"):
        dask_gd.write(prediction, memory, overwrite=True)


def test_what_a_killed_writer_left_at_a_url_is_not_in_the_way(memory, monkeypatch):
    async def dead(store, keys):
        pass

    def fails(block, block_id):
        if block_id == (3,):
            raise OSError("no space left")
        return block

    with monkeypatch.context() as patch, dask.config.set(scheduler="sync"):
        patch.setattr(places, "delete", dead)
        with pytest.raises(OSError, match="no space left"):
            dask_gd.write(da.ones(50, chunks=10).map_blocks(fails, dtype=float), memory)
    assert len(fsspec.filesystem("memory").find(memory)) > 1
    dask_gd.write(np.ones(3), memory)
    assert zarr.open_array(memory, mode="r")[...].tolist() == [1.0] * 3


def test_memory_of_other_processes_is_no_place(two, memory):
    with pytest.raises(ClusterError, match=r"are not there.*worker tcp://\S+ wrote it to a disk, or a memory"):
        dask_gd.write(da.ones(50, chunks=10), memory)


def test_a_path_that_is_no_url_any_more_is_refused():
    from pathlib import Path

    with pytest.raises(InvalidArgumentError, match="a Path is no URL"):
        dask_gd.write(np.ones(3), Path("s3://bucket/out.zarr"))
    with pytest.raises(InvalidArgumentError, match="is for URLs"):
        dask_gd.write(np.ones(3), "out.zarr", storage_options={})
