"""Chunks that are overwritten while a fit or a search reads them are found before its end is committed."""

import logging
import os
import zipfile

import numpy as np
import pytest
import zarr
from helpers import problem
from zarr.codecs import GzipCodec
from zarr.storage import FsspecStore, LocalStore, MemoryStore, ObjectStore, WrapperStore, ZipStore

import dask_gd
from dask_gd.errors import DataError, StoreMismatchError
from dask_gd.events import IterationEnded, RoundEnded
from dask_gd.sources import stamps

N, P = 400, 3
X, _, Y = problem(N, P)
#: Who reads each: our own reader, zarr or zarrs, our own reader, zarr or zarrs.
KINDS = {
    "plain": {"compressors": None},
    "gzip": {"compressors": GzipCodec()},
    "shards": {"compressors": None, "shards": (100, P)},
    "shards, gzip": {"compressors": GzipCodec(), "shards": (100, P)},
    "2, plain": {"compressors": None, "zarr_format": 2},
}
SLOW = {"loss": "logistic", "solver": dask_gd.GradientDescent(), "max_iter": 8}


def write(store, **options):
    """Write features and a 0/1 target in chunks of 50 rows; return the group."""
    group = zarr.open_group(store, mode="w", zarr_format=options.get("zarr_format", 3))
    options.pop("zarr_format", None)
    group.create_array("x", data=X, chunks=(50, P), **options)
    group.create_array("y", data=Y, chunks=(50,))
    return group


def overwrite(array, rows=slice(150, 200)):
    """Write rows again, with other values that a logistic loss takes too."""
    array[rows] = 1 - array[rows]


def after(number, action, *arguments):
    """Return a callback that does something once an iteration or a round has ended."""

    def act(event):
        act.count += isinstance(event, IterationEnded | RoundEnded)
        if act.count == number:
            act.count += 1
            action(*arguments)

    act.count = 0
    return act


def reasons(path):
    """Return why trials of a stored search have ended."""
    stored = dask_gd.Store(path).latest()
    return [trial[2] for trial in stored.attributes["dask_gd"]["trials"]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stored", [True, False])
def test_a_fit_whose_data_was_overwritten_does_not_end_well(tmp_path, kind, stored):
    """FOUND 36; FAULTS 54."""
    group = write(tmp_path / "data", **KINDS[kind])
    source = dask_gd.open(tmp_path / "data", x="x", y="y")
    store = {"store": tmp_path / "run"} if stored else {}
    what = r"shard \(1, 0\), rows 100-199" if "shards" in kind else r"chunk \(3, 0\), rows 150-199"
    with pytest.raises(DataError, match=rf"'x', {what}: it was overwritten while the fit read .*not committed as fin"):
        dask_gd.fit(source, callbacks=[after(3, overwrite, group["x"])], **SLOW, **store)
    if not stored:
        return
    run = dask_gd.load(tmp_path / "run")
    assert (run.reason, run.n_iter) == ("interrupted", 7)
    with pytest.raises(StoreMismatchError):
        dask_gd.fit(source, **SLOW, **store)
    assert dask_gd.fit(source, **SLOW, store=tmp_path / "again").reason == "max_iter"


@pytest.mark.parametrize("kind", ["plain", "shards, gzip"])
def test_a_fit_by_processes_finds_it_too(tmp_path, two, kind):
    """FOUND 36; FAULTS 54: workers keep what they have read."""
    group = write(tmp_path / "data", **KINDS[kind])
    source = dask_gd.open(tmp_path / "data", x="x", y="y")
    with pytest.raises(DataError, match=r"'x', (chunk \(3|shard \(1), 0\), .* overwritten"):
        dask_gd.fit(source, callbacks=[after(6, overwrite, group["x"])], **SLOW, store=tmp_path / "run")
    assert dask_gd.load(tmp_path / "run").reason == "interrupted"


@pytest.mark.parametrize("reason", ["converged", "target_loss", "max_iter", "diverged", "asked to"])
def test_whatever_reason_it_would_have_had(tmp_path, reason):
    """FOUND 36; FAULTS 54."""
    group = write(tmp_path / "data")
    options = dict(SLOW)
    callbacks = [after(1, overwrite, group["x"])]
    if reason == "converged":
        options |= {"solver": "newton", "max_iter": 100}
    if reason == "target_loss":
        options |= {"target_loss": 0.65, "max_iter": 1000}
    if reason == "diverged":
        options |= {"loss": "squared", "solver": dask_gd.SGD(learning_rate=1e200)}
    if reason == "asked to":

        def leave():
            raise dask_gd.events.StopFit

        callbacks.append(after(3, leave))
    run = dask_gd.fit(group["x"], group["y"], callbacks=callbacks[1:], **options) if reason != "diverged" else None
    assert run is None or run.reason == (reason if reason != "asked to" else "stopped")
    with pytest.raises(DataError, match="overwritten while the fit"):
        dask_gd.fit(group["x"], group["y"], callbacks=callbacks, **options, store=tmp_path / "run")
    assert dask_gd.load(tmp_path / "run").reason == "interrupted"


@pytest.mark.parametrize(("kind", "solver"), [("plain", "newton"), ("shards, gzip", "sgd")])
def test_a_search_whose_data_was_overwritten_does_not_end_well(tmp_path, kind, solver):
    """FOUND 36; FAULTS 54."""
    group = write(tmp_path / "data", **KINDS[kind])
    source = dask_gd.open(tmp_path / "data", x="x", y="y")
    options = {"loss": "logistic", "alphas": [1e-3, 0.1], "folds": 2, "solver": solver, "max_iter": 4, "tol": 1e-12}
    with pytest.raises(DataError, match=r"'x', (chunk \(3|shard \(1), 0\), .* while the search read"):
        dask_gd.search(source, **options, callbacks=[after(2, overwrite, group["x"])], store=tmp_path / "run")
    assert None in reasons(tmp_path / "run")
    # Of a squared loss, where one pass is all.
    shared = {"alphas": [0.1, 1.0], "folds": 2}
    with pytest.raises(DataError, match="while the search read"):
        dask_gd.search(source, **shared, callbacks=[lambda event: overwrite(group["x"])], max_iter=5)


def test_scores_that_take_a_pass_after_the_last_round_are_of_the_same_data(tmp_path):
    """FOUND 36; FAULTS 54."""
    group = write(tmp_path / "data")
    options = {"loss": "logistic", "alphas": [1e-3, 0.1], "folds": 2, "solver": "sgd", "max_iter": 4}
    with pytest.raises(DataError, match="while the search read"):
        dask_gd.search(
            group["x"], group["y"], **options, callbacks=[lambda e: getattr(e, "running", 1) or overwrite(group["x"])]
        )


def stores(tmp_path):
    """Return stores that threads read, each with a way to open it anew."""
    import obstore

    held, objects = MemoryStore(), ObjectStore(obstore.store.MemoryStore())
    folder = tmp_path / "folder"
    folder.mkdir()
    return {
        "memory": lambda: held,
        "wrapped": lambda: WrapperStore(LocalStore(tmp_path / "wrapped")),
        "fsspec memory": lambda: FsspecStore.from_url("memory://overwritten/data"),
        "fsspec files": lambda: FsspecStore.from_url(f"file://{tmp_path}/f", storage_options={"auto_mkdir": True}),
        "obstore memory": lambda: objects,
        "obstore files": lambda: ObjectStore(obstore.store.LocalStore(folder)),
    }


@pytest.mark.parametrize(
    "kind", ["memory", "wrapped", "fsspec memory", "fsspec files", "obstore memory", "obstore files"]
)
def test_every_store_that_tells_is_asked(tmp_path, kind):
    """FOUND 36; FAULTS 54."""
    pytest.importorskip("obstore")
    opened = stores(tmp_path)[kind]
    group = write(opened(), compressors=GzipCodec())
    data = zarr.open_group(opened(), mode="r")
    with pytest.raises(DataError, match=r"'x', chunk \(2, 0\), rows 100-149: .* \(5 more changed too\)\. What"):
        dask_gd.fit(data["x"], data["y"], callbacks=[after(3, overwrite, group["x"], slice(100, N))], **SLOW)
    assert dask_gd.fit(data["x"], data["y"], **SLOW).reason == "max_iter"


def test_a_zip_file_that_is_replaced_is_found_by_its_content(tmp_path):
    """FOUND 36; FAULTS 54."""

    def zipped(name, x):
        with ZipStore(tmp_path / name, mode="w") as store:
            group = zarr.open_group(store, mode="w")
            group.create_array("x", data=x, chunks=(50, P))
            group.create_array("y", data=Y, chunks=(50,))
        return tmp_path / name

    path, same = zipped("data.zip", X), zipped("same.zip", X)
    changed = zipped("changed.zip", np.where(np.arange(N)[:, None] < 350, X, 0.5))
    group = zarr.open_group(ZipStore(path, mode="r"), mode="r")
    assert dask_gd.fit(group["x"], group["y"], callbacks=[after(3, os.replace, same, path)], **SLOW)
    with pytest.raises(DataError, match=r"'x', chunk \(7, 0\), rows 350-399"):
        dask_gd.fit(group["x"], group["y"], callbacks=[after(3, os.replace, changed, path)], **SLOW)
    assert zipfile.is_zipfile(path)


def test_a_target_and_weights_are_watched_as_features_are(tmp_path):
    """FOUND 36; FAULTS 54."""
    group = write(tmp_path / "data")
    weight = group.create_array("w", data=np.full(N, 0.7), chunks=(50,))
    source = dask_gd.open(tmp_path / "data", x="x", y="y", sample_weight="w")
    for name, values in (("w", weight), ("y", group["y"])):
        with pytest.raises(DataError, match=rf"Array '{name}', chunk \(3,\), rows 150-199"):
            dask_gd.fit(source, callbacks=[after(3, overwrite, values)], **SLOW)


@pytest.mark.parametrize("kind", KINDS)
def test_data_that_stays_as_it_is_raises_no_alarm(tmp_path, kind, caplog):
    group = write(tmp_path / "data", **KINDS[kind])
    source = dask_gd.open(tmp_path / "data", x="x", y="y", rows=slice(0, 250))

    def others():
        # Rows that are not in use, attributes, and another array.
        overwrite(group["x"], slice(300, 400))
        group["x"].attrs["note"] = "new"
        group.create_array("z", data=X, overwrite=True)
        for path, _, files in os.walk(tmp_path / "data"):
            for name in files:
                os.chmod(os.path.join(path, name), 0o640)

    with caplog.at_level(logging.WARNING, "dask_gd"):
        assert dask_gd.fit(source, callbacks=[after(3, others)], **SLOW).reason == "max_iter"
        options = {"loss": "logistic", "alphas": [0.1, 1.0], "folds": 2}
        dask_gd.search(source, **options, callbacks=[after(1, others)])
    assert "overwritten" not in caplog.text


def test_a_chunk_of_files_that_gets_another_time_counts_as_overwritten(tmp_path):
    """Nobody keeps its old bytes, to tell that they are the same."""
    group = write(tmp_path / "data")
    touch = after(3, os.utime, tmp_path / "data" / "x" / "c" / "3" / "0")
    with pytest.raises(DataError, match=r"chunk \(3, 0\)"):
        dask_gd.fit(group["x"], group["y"], callbacks=[touch], **SLOW)


def test_a_chunk_that_goes_or_comes_is_a_change(tmp_path):
    """FOUND 36; FAULTS 53, 54: where absent chunks are accepted, or rows are kept."""
    write(tmp_path / "data")
    source = dask_gd.open(tmp_path / "data", x="x", y="y", missing="fill")
    file = tmp_path / "data" / "x" / "c" / "3" / "0"
    data = file.read_bytes()
    with pytest.raises(DataError, match=r"chunk \(3, 0\), rows 150-199: it was removed"):
        dask_gd.fit(source, callbacks=[after(3, file.unlink)], **SLOW)
    with pytest.raises(DataError, match=r"chunk \(3, 0\), rows 150-199: it was overwritten"):
        dask_gd.fit(source, callbacks=[after(3, file.write_bytes, data)], **SLOW)


def test_what_is_overwritten_after_the_last_pass_is_nobodys_matter(tmp_path):
    group = write(tmp_path / "data")
    run = dask_gd.fit(group["x"], group["y"], callbacks=[after(9, overwrite, group["x"])], **SLOW)
    assert run.reason == "max_iter"


def test_of_many_files_some_are_asked(tmp_path, monkeypatch):
    """Evenly spaced ones: an array that is overwritten is found, a single chunk perhaps not."""
    monkeypatch.setattr(stamps, "MOST_FILES", 4)
    group = write(tmp_path / "data")
    assert list(stamps.chunks_of(group["x"], 0, N)) == [(0, 0), (2, 0), (4, 0), (6, 0)]
    with pytest.raises(DataError, match=r"chunk \(0, 0\).*\(3 more"):
        dask_gd.fit(group["x"], group["y"], callbacks=[after(3, overwrite, group["x"], slice(None))], **SLOW)


def test_a_store_that_fails_at_the_end_costs_a_warning_and_not_the_fit(tmp_path, monkeypatch, caplog):
    group = write(tmp_path / "data")

    def refused(path):
        raise PermissionError(13, "No.")

    act = after(3, monkeypatch.setattr, stamps, "_of_file", refused)
    with caplog.at_level(logging.WARNING, "dask_gd"):
        assert dask_gd.fit(group["x"], group["y"], callbacks=[act], **SLOW).reason == "max_iter"
    assert "'x': whether chunks have been overwritten in the fit could not be seen, since" in caplog.text


def test_a_store_of_another_kind_is_not_asked(tmp_path, monkeypatch):
    group = write(tmp_path / "data")
    monkeypatch.setattr(stamps, "LocalStore", type("Other", (), {}))
    assert stamps.stamps_of(group["x"], 0, N) == ()
    act = after(3, overwrite, group["x"])
    assert dask_gd.fit(group["x"], group["y"], callbacks=[act], **SLOW).reason == "max_iter"
