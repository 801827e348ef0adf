"""Data that changed is never taken for that of a stored run, however large it is and wherever it changed."""

import json
import os
import shutil
import subprocess
import sys

import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr

import dask_gd
from dask_gd.errors import StoreMismatchError
from dask_gd.fitting import checkpoint as checkpoints
from dask_gd.fitting import unchanged
from dask_gd.sources import dask_column as dask_source
from dask_gd.sources import fingerprint

N, P = 6000, 4
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, P))
Y = (X @ [1.0, -2.0, 0.5, 0.0] + RNG.logistic(size=N) > 0.3).astype(float)
MIDDLE = N // 2 + 7


@pytest.fixture
def large(monkeypatch):
    """All data is as large as data that is not hashed whole, and of a chunk only the last bytes are looked at."""
    monkeypatch.setattr(fingerprint, "WHOLE_BYTES", 1000)
    monkeypatch.setattr(fingerprint, "TAIL_BYTES", 16)
    monkeypatch.setattr(dask_source, "WHOLE_BYTES", 1000)
    monkeypatch.setattr("dask_gd.sources.dataset_column.WHOLE_BYTES", 1000)


def to_zarr(a, path, chunk=1000, **options):
    array = zarr.create_array(
        store=path, shape=a.shape, dtype=a.dtype, chunks=(chunk, *a.shape[1:]), compressors=None, **options
    )
    array[...] = a
    return array


def as_zarr(path, x, y):
    for name, a in (("x", x), ("y", y)):
        shutil.rmtree(path / name, ignore_errors=True)
        to_zarr(a, path / name)
    return tuple(zarr.open_array(path / name, mode="r") for name in "xy")


def as_dask(path, x, y):
    return da.from_array(x, chunks=(500, P)).map_blocks(np.copy), da.from_array(y, chunks=500).map_blocks(np.copy)


KINDS = {"zarr": as_zarr, "dask": as_dask}

SOLVERS = {
    "newton": {},
    "lbfgs": {"solver": "lbfgs"},
    "adam": {"solver": "adam"},
    "squared": {"loss": "squared"},
    "least squares by descent": {"loss": "squared", "solver": "nesterov"},
    "sgd": {"solver": dask_gd.SGD(learning_rate=0.1, batch=1.0)},
    "local_sgd": {"solver": "local_sgd"},
    "admm": {"solver": "admm", "penalty": dask_gd.L2(1e-3)},
    "softmax": {"loss": "softmax"},
    "l1": {"penalty": dask_gd.L1(1e-3)},
    "nearly singular": {"loss": "squared", "penalty": None, "singular": True},
}


def fit(data, store, max_iter=3, **options):
    options = {"loss": "logistic", "tol": 1e-14, **options}
    options.pop("singular", None)
    return dask_gd.fit(*data, max_iter=max_iter, store=store, **options)


def columns(singular=False):
    x = X.copy()
    if singular:
        x[:, 3] = x[:, 0] + 1e-6 * x[:, 3]
    return x, Y.copy()


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SOLVERS)
def test_a_value_in_the_middle_that_changed_is_found(tmp_path, kind, name):
    """FOUND 30, FAULTS 9: whatever the solver has read last, in mid-fit and after the end; unchanged data goes on."""
    x, y = columns(SOLVERS[name].get("singular", False))
    expected = fit(KINDS[kind](tmp_path, x, y), None, 6, **SOLVERS[name])
    for steps in (0, 2, 6):
        run = fit(KINDS[kind](tmp_path, x, y), tmp_path / "run", steps, **SOLVERS[name])
    np.testing.assert_array_equal(run.weights, expected.weights)
    again = fit(KINDS[kind](tmp_path, x, y), tmp_path / "run", 6, **SOLVERS[name])
    np.testing.assert_array_equal(again.weights, run.weights)
    x[MIDDLE, 2] += 1e-3
    data = KINDS[kind](tmp_path, x, y)
    for steps in (6, 8):
        with pytest.raises(StoreMismatchError, match=r"other data.*(loss|slope|weight of the rows): stored"):
            fit(data, tmp_path / "run", steps, **SOLVERS[name])


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("steps", [0, 3])
def test_a_target_or_a_weight_that_changed_is_found(tmp_path, steps):
    """FOUND 30: also at the start, where weights of 0 predict the same whatever the features are."""
    weight = np.ones(N)
    for change in ("x", "y", "weight"):
        x, y, s = *columns(), weight.copy()
        where = tmp_path / change

        def go(x=x, y=y, s=s, where=where):
            data = KINDS["dask"](where, x, y)
            return fit(data, where, steps, sample_weight=da.from_array(s, chunks=500).map_blocks(np.copy))

        go()
        {"x": x[:, 0], "y": y, "weight": s}[change][MIDDLE] = 0.5 if change != "y" else 1 - y[MIDDLE]
        with pytest.raises(StoreMismatchError, match="other data"):
            go()


@pytest.mark.usefixtures("large")
def test_every_third_chunk_that_changed_is_found(tmp_path):
    """FOUND 30: of a store with more chunks than a fingerprint looks at, each with a checksum."""
    codec = [zarr.codecs.Crc32cCodec()]
    options = {"compressors": codec, "config": {"write_empty_chunks": True}}
    n = 3 * 1200
    x = zarr.create_array(store=tmp_path / "x", shape=(n, P), dtype=X.dtype, chunks=(3, P), **options)
    assert x.nchunks > fingerprint.SAMPLED_CHUNKS
    x[...] = X[:n]
    y = to_zarr(Y[:n], tmp_path / "y")
    fit((x, y), tmp_path / "run")
    assert fit((x, y), tmp_path / "run").n_iter == 3
    changed = X[:n].copy()
    changed[np.arange(n) // 3 % 3 == 1] *= 1.001
    zarr.open_array(tmp_path / "x", mode="r+")[...] = changed
    with pytest.raises(StoreMismatchError):
        fit((x, y), tmp_path / "run")


@pytest.mark.usefixtures("large")
def test_data_of_a_search_that_changed_is_found(tmp_path):
    """FOUND 30: from its first pass, which it takes anyway."""
    options = {"loss": "logistic", "alphas": [1e-3, 1e-1], "folds": 2, "store": tmp_path / "run"}
    x, y = columns()
    first = dask_gd.search(*as_dask(None, x, y), **options)
    np.testing.assert_array_equal(dask_gd.search(*as_dask(None, x, y), **options).data.score, first.data.score)
    x[MIDDLE, 1] += 1e-3
    with pytest.raises(StoreMismatchError, match="other data"):
        dask_gd.search(*as_dask(None, x, y), **options)


def test_small_data_of_any_kind_is_hashed_whole_and_takes_no_pass(tmp_path, monkeypatch):
    """FOUND 30: a block in the middle of a small Dask array, or a variable of a small Dataset, is seen."""

    def dataset(x):
        variables = {f"v{i}": ("row", da.from_array(x[:, i], chunks=500)) for i in range(P)}
        return xr.Dataset({**variables, "y": ("row", Y)})

    def of_dataset(x):
        options = {"features": [f"v{i}" for i in range(P)], "target": "y", "sample_dims": "row"}
        return dask_gd.fit(dataset(x), **options, loss="logistic", max_iter=2, tol=0.0, store=tmp_path / "dataset")

    def of_arrays(x):
        return fit(as_dask(None, x, Y), tmp_path / "dask", 2)

    for go, field in ((of_arrays, r"data\.x"), (of_dataset, r"data\.")):
        first = go(X)
        with monkeypatch.context() as patch:
            patch.setattr(dask_gd.passes, "evaluate", lambda *a, **k: pytest.fail("a pass was made"))
            np.testing.assert_array_equal(go(X).weights, first.weights)
            changed = X.copy()
            changed[MIDDLE, 3] += 1e-9
            with pytest.raises(StoreMismatchError, match=field):
                go(changed)


def test_a_copy_of_the_data_is_the_same_data(tmp_path):
    """FAULTS 36: with other times, in another place, of a large store too."""
    data = as_zarr(tmp_path, X, Y)
    first = fit(data, tmp_path / "run")
    shutil.copytree(tmp_path, tmp_path / "copy")
    copied = tuple(zarr.open_array(tmp_path / "copy" / name, mode="r") for name in "xy")
    np.testing.assert_array_equal(fit(copied, tmp_path / "copy" / "run", 3).weights, first.weights)


# Another processor


@pytest.mark.usefixtures("large")
def test_sums_of_another_processor_may_differ_by_rounding_and_no_more(tmp_path, monkeypatch, caplog):
    """FOUND 30: the message says why bits may differ where the data does not."""
    x, y = columns()
    first = fit(as_dask(None, x, y), tmp_path, 3)
    real = unchanged.summary
    monkeypatch.setattr(checkpoints, "summary", lambda sums: real(sums) * (1 + 1e-14))
    with pytest.raises(StoreMismatchError):
        fit(as_dask(None, x, y), tmp_path, 3)
    monkeypatch.setattr(unchanged.Processors, "known", lambda self, within=0.0: ["another"])
    np.testing.assert_array_equal(fit(as_dask(None, x, y), tmp_path, 3).weights, first.weights)
    assert "another kind of processor" in caplog.text
    monkeypatch.setattr(checkpoints, "summary", lambda sums: real(sums) * (1 + 1e-6))
    with pytest.raises(StoreMismatchError, match="by more than rounding on another processor does"):
        fit(as_dask(None, x, y), tmp_path, 3)


def test_threads_and_the_workers_of_this_machine_are_the_same_processor(two):
    assert unchanged.Processors().known(within=60.0) == [unchanged.processor()]


# Stores of the first format

OLD = "6da6959"


def test_a_store_of_the_first_format_loads_and_is_refused_by_name(tmp_path):
    """Written by the code of that commit, where its history is at hand; else the format is taken out of a store."""
    source = tmp_path / "old"
    root = os.path.dirname(os.path.dirname(__file__))
    archive = subprocess.run(["git", "-C", root, "archive", OLD, "dask_gd"], capture_output=True)
    script = (
        "import numpy as np, dask_gd; x = np.random.default_rng(0).normal(size=(300, 3)); "
        f"dask_gd.fit(x, x @ [1., 2., 3.], penalty=dask_gd.L2(0.1), max_iter=3, store={str(tmp_path / 'run')!r})"
    )
    environment = {**os.environ, "PYTHONPATH": root}
    if archive.returncode == 0:
        source.mkdir()
        subprocess.run(["tar", "-x", "-C", str(source)], input=archive.stdout, check=True)
        environment["PYTHONPATH"] = str(source)
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], env=environment, check=True, cwd=tmp_path)
    if archive.returncode != 0:
        without_format(tmp_path / "run")
    x = np.random.default_rng(0).normal(size=(300, 3))
    run = dask_gd.load(tmp_path / "run")
    assert run.reason == "converged"
    with pytest.raises(StoreMismatchError, match=r"format 1, .*goes on from format 2 .*initial_weights"):
        dask_gd.fit(x, x @ [1.0, 2.0, 3.0], penalty=dask_gd.L2(0.1), max_iter=3, store=tmp_path / "run")
    again = dask_gd.fit(x, x @ [1.0, 2.0, 3.0], penalty=dask_gd.L2(0.1), initial_weights=run, store=tmp_path / "new")
    np.testing.assert_allclose(again.weights, run.weights)


def without_format(path):
    """Make a store as the first format was."""
    from dask_gd.store.checkpoint_file import decode, encode

    store = dask_gd.Store(path)
    for iteration in store.iterations():
        found = decode(store.file(iteration), iteration)
        fields = json.loads(json.dumps(found.attributes))
        for name in ("format", "seen"):
            fields["dask_gd"].pop(name)
        arrays = {name: a for name, a in found.arrays.items() if not name.startswith("seen/")}
        store.file(iteration).write_bytes(encode(found._replace(attributes=fields, arrays=arrays)))
