"""A store that is damaged in any way serves its newest whole iteration, or says what is wrong; nothing gets worse."""

import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import tracemalloc
import zipfile

import numpy as np
import pytest

import dask_gd
from dask_gd import Store
from dask_gd.errors import CorruptCheckpointWarning, StoreError
from dask_gd.store.checkpoint_file import DIGEST, _digest, decode, encode

pytestmark = pytest.mark.filterwarnings("ignore::dask_gd.errors.CorruptCheckpointWarning")

X = np.random.default_rng(0).normal(size=(300, 3))
Y = (X @ [1.0, -2.0, 0.5] > 0.3).astype(float)
OPTIONS = {"loss": "logistic", "penalty": dask_gd.L2(1e-3), "solver": "lbfgs", "tol": 1e-12}


def fit(store, max_iter, **options):
    return dask_gd.fit(X, Y, **{**OPTIONS, "max_iter": max_iter, **options}, store=store)


def numbers(path):
    return Store(path).iterations()


# Retention


def test_iterations_that_cannot_be_read_do_not_count_as_kept(tmp_path):
    """FOUND 31, FAULTS 37: of 0..8 with 4..8 damaged, one commit with keep=3 must leave some that can be read."""
    fit(Store(tmp_path, keep=None), 8)
    for number in range(4, 9):
        Store(tmp_path).file(number).write_bytes(b"PK")
    expected = fit(None, 4)
    fit(Store(tmp_path, keep=3), 4)
    assert set(numbers(tmp_path)) >= {2, 3, 4}
    for number in (2, 3, 4):
        assert decode(Store(tmp_path).file(number), number).iteration == number
    np.testing.assert_array_equal(decode(Store(tmp_path).file(4), 4).arrays["weights"][1], expected.weights)
    # Once enough are readable, the damaged ones that have been overtaken go.
    fit(Store(tmp_path, keep=3), 9)
    assert numbers(tmp_path) == [7, 8, 9]


def test_a_checkpoint_of_something_else_does_not_count_as_kept(tmp_path):
    """FAULTS 37: its checksum is right, but no fit can go on from it."""
    fit(Store(tmp_path, keep=None), 5)
    for number in (4, 5):
        write(tmp_path, number, lambda c: c.arrays.pop("weights"))
    fit(Store(tmp_path, keep=2), 4)
    assert set(numbers(tmp_path)) >= {3, 4}


# Content that no commit writes, under a checksum that is right


def write(path, number, change):
    """Rewrite an iteration with other content."""
    file = Store(path).file(number)
    checkpoint = decode(file, number)
    change(checkpoint)
    file.write_bytes(encode(checkpoint))


def rezip(path, number, change, compression=zipfile.ZIP_STORED):
    """Rewrite the entries of an iteration's zip, under a new checksum."""
    file = Store(path).file(number)
    with zipfile.ZipFile(file) as archive:
        keys = {name: archive.read(name) for name in archive.namelist()}
    change(keys)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in keys.items():
            archive.writestr(name, data)
        archive.comment = b"0" * DIGEST
    content = buffer.getvalue()[:-DIGEST]
    file.write_bytes(content + _digest(content))


def array(name, **values):
    """Change fields of an array's metadata."""

    def change(keys):
        metadata = json.loads(keys[f"{name}/zarr.json"])
        if "chunk_shape" in values:
            metadata["chunk_grid"]["configuration"]["chunk_shape"] = values["chunk_shape"]
        metadata |= {field: value for field, value in values.items() if field != "chunk_shape"}
        keys[f"{name}/zarr.json"] = json.dumps(metadata).encode()

    return change


def without(name):
    return lambda keys: [keys.pop(key) for key in list(keys) if key.startswith(name)]


def attribute(**values):
    return lambda checkpoint: checkpoint.attributes["dask_gd"].update(values)


def put(name, value, dims=None):
    def change(checkpoint):
        checkpoint.arrays[name] = dims or checkpoint.arrays[name][0], value

    return change


ENTRIES = {
    "a shape of terabytes": array("weights", shape=[10**12], chunk_shape=[10**12]),
    "a shape of terabytes in small chunks": array("weights", shape=[10**12]),
    "a chunk of terabytes": array("weights", chunk_shape=[10**12]),
    "a chunk of nothing": array("weights", chunk_shape=[0]),
    "a negative shape": array("weights", shape=[-1]),
    "a shape of text": array("weights", shape="many"),
    "a shape of fractions": array("weights", shape=[1.5]),
    "no shape": array("weights", shape=None),
    "as many dimensions as can be": array("weights", shape=[1] * 3000),
    "strings without end": array("loss", data_type="string", codecs=[{"name": "vlen-utf8"}], shape=[2**31]),
    "another data type": array("weights", data_type="complex128"),
    "no data type": array("weights", data_type={"name": "numpy.void"}),
    "codecs that unpickle": array("weights", codecs=[{"name": "numcodecs.pickle"}]),
    "weights without values": without("weights/c"),
    "no weights": without("weights"),
    "no metadata": without("zarr.json"),
    "nothing": dict.clear,
    "metadata nested without end": lambda keys: keys.update({"zarr.json": b"[" * 100_000}),
    "attributes nested without end": lambda keys: keys.update(
        {"zarr.json": b'{"attributes": {"dask_gd": ' + b'{"a":' * 100_000}
    ),
    "metadata that is a list": lambda keys: keys.update({"zarr.json": b"[]"}),
    "metadata that is no JSON": lambda keys: keys.update({"weights/zarr.json": b"\xff\xfe"}),
}

CONTENTS = {
    "no weights": lambda c: c.arrays.pop("weights"),
    "no intercept": lambda c: c.arrays.pop("intercept"),
    "no history": lambda c: c.arrays.pop("loss"),
    "a shorter history": put("loss", np.zeros(2)),
    "no state": lambda c: [c.arrays.pop(name) for name in list(c.arrays) if name.startswith("state/")],
    "a state of another width": put("state/query", np.zeros((7, 1, 1))),
    "a state of other dimensions": put("state/pairs", np.zeros(3), ("a",)),
    "weights of text": put("weights", np.array(["a", "b", "c"])),
    "weights in a table of three dimensions": put("weights", np.zeros((3, 1, 1)), ("feature", "output", "a")),
    "an intercept for many": put("intercept", np.zeros(5), ("output",)),
    "names of other weights": lambda c: c.arrays.update(feature=(("feature",), np.array(["a"]))),
    "no attributes": lambda c: c.attributes.clear(),
    "attributes of another kind": lambda c: c.attributes.update(dask_gd=[1]),
    "no spec": attribute(spec=None),
    "a spec without data": attribute(spec={"loss": {}}),
    "a loss that is none": attribute(loss={"name": "huber", "parameters": {"delta": -1.0}}),
    "a loss without a name": attribute(loss="logistic"),
    "a reason that is a number": attribute(reason=3),
    "trials that are none": attribute(trials=[[1]]),
}


def is_passed_over(path, expected):
    """Whatever is asked of the store, the iteration before the last one is used, with a warning."""
    tracemalloc.start()
    with pytest.warns(CorruptCheckpointWarning, match="is damaged"):
        found = dask_gd.load(path)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    assert (found.n_iter, found.reason) == (3, "interrupted")
    with pytest.warns(CorruptCheckpointWarning, match="is damaged"):
        resumed = fit(path, 4)
    np.testing.assert_array_equal(resumed.weights, expected.weights)
    np.testing.assert_array_equal(dask_gd.load(path).weights, expected.weights)


@pytest.fixture(scope="module")
def of_four(tmp_path_factory):
    """A fit of four steps and its store; `copied` is for a test to damage."""
    path = tmp_path_factory.mktemp("run")
    return path, fit(Store(path, keep=None), 4)


@pytest.fixture
def copied(of_four, tmp_path):
    shutil.copytree(of_four[0], tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize("name", ENTRIES)
def test_a_file_that_no_commit_writes_is_passed_over(copied, of_four, name):
    """FOUND 33, FAULTS 32 and 49: within a moment and little memory, whatever its metadata claim."""
    rezip(copied, 4, ENTRIES[name])
    is_passed_over(copied, of_four[1])


def test_a_file_that_unpacks_to_more_than_it_is_is_passed_over(copied, of_four):
    """FAULTS 49."""
    rezip(copied, 4, lambda keys: keys.update({"weights/c/0": bytes(10**8)}), zipfile.ZIP_DEFLATED)
    assert Store(copied).file(4).stat().st_size < 2e6
    is_passed_over(copied, of_four[1])


@pytest.mark.parametrize("name", CONTENTS)
def test_a_checkpoint_that_is_not_a_fits_is_passed_over(copied, of_four, name):
    """FOUND 33, FAULTS 32: never a KeyError, and never zeros where the weights are missing."""
    path, expected = copied, of_four[1]
    write(path, 4, CONTENTS[name])
    if "state" in name:
        # The model is there, and is served; a fit does not go on from it.
        assert dask_gd.load(path).n_iter == 4
        with pytest.warns(CorruptCheckpointWarning, match="state"):
            np.testing.assert_array_equal(fit(path, 4).weights, expected.weights)
        return
    is_passed_over(path, expected)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.arrays.pop("start"),
        lambda c: c.arrays.pop("trials/0-state-query"),
        put("trials/1-held", np.zeros(3)),
        put("trials/1-state-weights", np.zeros((9, 1, 1))),
        attribute(trials=[[99, 0, None, 0.0]]),
        attribute(trials=[[0, 99, None, 0.0]]),
        attribute(trials="all"),
    ],
)
def test_a_checkpoint_that_is_not_a_searchs_is_passed_over(tmp_path, change):
    """FOUND 33."""
    options = {"loss": "logistic", "alphas": [1e-3, 1e-1], "folds": 2, "store": Store(tmp_path, keep=None)}
    expected = dask_gd.search(X, Y, **options)
    write(tmp_path, numbers(tmp_path)[-1], change)
    with pytest.warns(CorruptCheckpointWarning, match="is damaged"):
        found = dask_gd.search(X, Y, **options)
    np.testing.assert_array_equal(found.data.score, expected.data.score)


@pytest.mark.parametrize("name", ["widths", "seen"])
def test_a_round_of_a_quantiles_search_that_lacks_an_array_is_passed_over(tmp_path, name):
    options = {"loss": "quantile", "alphas": [1e-3, 1e-1], "folds": 2, "store": Store(tmp_path, keep=None)}
    expected = dask_gd.search(X, Y, **options)
    write(tmp_path, numbers(tmp_path)[-1], lambda c: c.arrays.pop(name))
    with pytest.warns(CorruptCheckpointWarning, match=f"it has no {name}"):
        found = dask_gd.search(X, Y, **options)
    np.testing.assert_array_equal(found.data.score, expected.data.score)


def test_no_checkpoint_is_lost_to_the_checks(tmp_path):
    """All kinds of state that fits commit are read back: those of classes, trial steps and partitions are larger."""
    classes = np.arange(300) % 3
    for solver in ("newton", "lbfgs", "adam", "admm", "local_sgd", dask_gd.SGD(learning_rate=0.1, batch=0.5)):
        for loss, y in (("softmax", classes), ("squared", Y)):
            if loss == "softmax" and solver in ("admm", "local_sgd"):
                continue
            path = tmp_path / f"{solver if isinstance(solver, str) else 'sgd'}-{loss}"
            with np.errstate(all="ignore"):
                options = {"loss": loss, "solver": solver, "tol": 0.0}
                for steps in (2, 5):
                    fit_ = dask_gd.fit(X, y, max_iter=steps, store=path, **options)
                assert dask_gd.load(path).n_iter == fit_.n_iter


# Strict


def test_a_strict_store_raises_where_another_warns(copied):
    """FAULTS 32."""
    Store(copied).file(4).write_bytes(b"PK")
    strict = Store(copied, strict=True)
    with pytest.raises(StoreError, match=r"iteration-00000004.*is damaged .*checksum.*strict"):
        dask_gd.load(strict)
    with pytest.raises(StoreError, match="is damaged"):
        fit(strict, 6)
    assert dask_gd.load(copied).n_iter == 3
    with pytest.raises(dask_gd.errors.InvalidArgumentError, match="strict"):
        Store(copied, strict="yes")


def test_a_strict_store_that_is_whole_is_like_any_other(copied, of_four):
    strict = Store(copied, strict=True)
    np.testing.assert_array_equal(dask_gd.load(strict).weights, of_four[1].weights)
    assert fit(strict, 5).n_iter == 5


# What is left of others


def test_a_stale_directory_is_no_obstacle(tmp_path):
    """FOUND 34, FAULTS 33."""
    (tmp_path / ".x.tmp").mkdir()
    (tmp_path / ".y.tmp").mkdir()
    (tmp_path / ".y.tmp" / "mine").touch()
    (tmp_path / ".iteration-00000001.zarr.zip.tmp").mkdir()
    (tmp_path / ".iteration-00000001.zarr.zip.tmp" / "part").touch()
    (tmp_path / ".z.tmp").write_bytes(b"half")
    (tmp_path / ".broken.tmp").symlink_to(tmp_path / "nowhere")
    assert fit(tmp_path, 3).n_iter == 3
    assert [path.name for path in tmp_path.glob(".*")] == [".y.tmp"]


def test_a_directory_in_place_of_an_iteration_is_passed_over(tmp_path):
    """FAULTS 33."""
    fit(Store(tmp_path, keep=2), 3)
    (tmp_path / "iteration-00000009.zarr.zip").mkdir()
    with pytest.warns(CorruptCheckpointWarning):
        assert dask_gd.load(tmp_path).n_iter == 3
    with pytest.warns(CorruptCheckpointWarning):
        assert fit(Store(tmp_path, keep=2), 5).n_iter == 5


def test_an_error_while_the_store_opens_does_not_lock_it(tmp_path, monkeypatch):
    """FOUND 34: not even for this process."""
    store = Store(tmp_path)
    for name, error in (("_clear_unfinished", RuntimeError), ("_try_to_write", KeyboardInterrupt)):
        with monkeypatch.context() as patch:
            patch.setattr(Store, name, lambda self, error=error: (_ for _ in ()).throw(error("on purpose")))
            with pytest.raises(error, match="on purpose"):
                fit(store, 1)
        assert fit(store, 1).n_iter == 1


def test_the_lock_of_a_dead_process_does_not_count(tmp_path):
    """FAULTS 33."""
    (tmp_path / "lock").write_text(json.dumps({"process": 1, "host": socket.gethostname()}))
    assert fit(tmp_path, 1).n_iter == 1
    (tmp_path / "lock").write_bytes(b"\xff not ours")
    assert fit(tmp_path, 2).n_iter == 2


HOLDS = "import sys, dask_gd; store = dask_gd.Store(sys.argv[1]); store.__enter__(); print('held', flush=True); input()"


def test_the_lock_of_a_living_process_says_whose_it_is(tmp_path):
    """FAULTS 33 and 34."""
    other = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(StoreError, match=f"Another fit is writing to .*process {other.pid} on this machine"):
            fit(tmp_path, 1)
        other.kill()
    assert fit(tmp_path, 1).n_iter == 1


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can become somebody else")
def test_a_directory_that_cannot_be_written_is_said_before_the_first_pass(monkeypatch):
    """FAULTS 31: also where the lock in it can be."""
    path = tempfile.mkdtemp()
    os.chmod(path, 0o755)
    lock = os.path.join(path, "lock")
    open(lock, "w").close()
    os.chmod(lock, 0o666)
    monkeypatch.setattr(dask_gd.passes, "evaluate", lambda *a, **k: pytest.fail("a pass was made"))
    os.seteuid(65534)
    try:
        with pytest.raises(StoreError, match=re.escape(f"Cannot write the store {path}: Permission denied")):
            fit(path, 1)
    finally:
        os.seteuid(0)
        shutil.rmtree(path)
