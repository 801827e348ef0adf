"""Hashed features: the matrix of scikit-learn, whatever the partitions, complete or not there, and refused by name."""

import json
import os
import pickle
import signal
import time
from pathlib import Path

import dask
import dask.array as da
import dask.bag as db
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import zarr
from helpers import forked, until
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.feature_extraction import FeatureHasher
from sklearn.feature_extraction.text import HashingVectorizer

import dask_gd
import dask_gd.results.hash_features as writing
from dask_gd.errors import DataError, InvalidArgumentError, InvalidTypeError
from dask_gd.results import hash_parts, hash_rows, text_files

WORDS = np.array(["good", "bad", "not", "very", "so", "naïve", "food", "slow", "and", "ok"])
TEXT = HashingVectorizer(n_features=2**18, ngram_range=(1, 2), norm=None)


def texts(n=400, seed=0):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, size)) for size in rng.integers(0, 12, n)]


def frame(n=400):
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"text": texts(n), "hour": rng.integers(0, 24, n), "late": rng.integers(0, 2, n)})
    table["origin"] = pd.Categorical(rng.choice(["ATL", "JFK", "SFO"], n))
    return table


def stored(path, name="X"):
    """Return the rows as SciPy has them, made of the arrays alone."""
    group = zarr.open_group(path, mode="r")
    rows = group[name]
    assert dict(rows.attrs)["encoding-type"] == "csr_matrix"
    return sp.csr_array((rows["data"][:], rows["indices"][:], rows["indptr"][:]), shape=rows.attrs["shape"])


def files(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in Path(path).rglob("*") if file.is_file()}


def same_matrix(a, b):
    """Check that two matrices are the same to the last entry, those of 0 too."""
    assert a.shape == b.shape
    for name in ("indptr", "indices", "data"):
        assert_array_equal(getattr(a, name), getattr(b, name))
    assert a.dtype == b.dtype


def crossed(table):
    """Return the tokens of each row, made by hand."""
    return [
        [f"origin={origin}", f"hour={hour}", f"origin={origin} & hour={hour}"]
        for origin, hour in zip(table.origin, table.hour, strict=True)
    ]


# What is written


@pytest.mark.parametrize(
    "hasher",
    [
        HashingVectorizer(n_features=2**18),
        HashingVectorizer(
            n_features=2**26, analyzer="char_wb", ngram_range=(1, 4), alternate_sign=False, dtype=np.float32
        ),
        # So few columns that words meet in them, and signs cancel.
        HashingVectorizer(n_features=3, norm=None),
        HashingVectorizer(n_features=5, binary=True, norm="l1", stop_words=["so", "and"]),
    ],
)
def test_the_matrix_is_that_of_scikit_learn(tmp_path, hasher):
    rows = texts()
    path = dask_gd.hash_features(db.from_sequence(rows, npartitions=7), tmp_path / "a.zarr", hasher)
    same_matrix(stored(path), hasher.transform(rows))
    same_matrix(dask_gd.hash_rows(rows, like=path), hasher.transform(rows))


def test_whatever_holds_the_text_and_in_whatever_partitions_the_store_has_the_same_bytes(tmp_path, monkeypatch):
    rows = texts()
    monkeypatch.setattr(hash_rows, "ROWS_AT_ONCE", 64)
    monkeypatch.setattr(text_files, "PIECE_BYTES", 1000)
    expected = files(dask_gd.hash_features(rows, tmp_path / "list.zarr", TEXT))
    (tmp_path / "a.txt").write_text("".join(f"{row}\n" for row in rows[:150]))
    (tmp_path / "b.txt").write_bytes("\r\n".join(rows[150:]).encode())
    in_zarr = zarr.create_array(tmp_path / "texts.zarr", shape=(400,), dtype=str, chunks=(70,))
    in_zarr[:] = np.array(rows, object)
    forms = {
        "array": np.array(rows),
        "column": pd.Series(rows),
        "categories": pd.Series(rows, dtype="category"),
        "bag": db.from_sequence(rows, partition_size=33),
        "dask": da.from_array(np.array(rows, object), chunks=150),
        "lazy column": dd.from_pandas(pd.Series(rows), npartitions=5),
        "stored": in_zarr,
        "files": [tmp_path / "a.txt", tmp_path / "b.txt"],
    }
    for name, form in forms.items():
        assert files(dask_gd.hash_features(form, tmp_path / f"{name}.out", TEXT)) == expected, name
    assert not list(tmp_path.glob(".*"))


def test_columns_and_crosses_of_a_frame_stand_side_by_side(tmp_path):
    table = frame()
    hasher = FeatureHasher(n_features=2**20)
    features = {
        "text": TEXT,
        "origin": hasher,
        "hour": hasher,
        ("origin", "hour"): hasher,
        ("text",): FeatureHasher(64),
    }
    tokens = FeatureHasher(n_features=2**20, input_type="string").transform(crossed(table))
    whole = FeatureHasher(64).transform([{"text": text} for text in table.text])
    expected = sp.hstack([TEXT.transform(table.text), tokens, whole], format="csr")
    # Text is a word of a FeatureHasher only under another name.
    table["again"] = table.text
    features["again"] = features.pop(("text",))
    whole = FeatureHasher(64).transform([{"again": text} for text in table.text])
    expected = sp.hstack([TEXT.transform(table.text), tokens, whole], format="csr")

    table.to_parquet(tmp_path / "table.parquet", row_group_size=90)
    lazy = dd.from_pandas(table, npartitions=6)
    weight = np.linspace(1, 2, len(table))
    outputs = []
    for i, rows in enumerate((table, lazy, tmp_path / "table.parquet")):
        beside = {"y": "late", "weight": weight}
        path = dask_gd.hash_features(rows, tmp_path / f"{i}.zarr", features, **beside)
        outputs.append(files(path))
    same_matrix(stored(path), expected)
    group = zarr.open_group(path)
    assert_array_equal(group["y"][:], table.late)
    assert_array_equal(group["weight"][:], weight)
    assert group["y"].dtype == table.late.dtype
    assert outputs[0] == outputs[1] == outputs[2]


def test_rows_may_be_what_a_hasher_takes(tmp_path):
    rows = [{"dog": 1, "cat": 2.5}, {}, {"animal": "cat"}]
    path = dask_gd.hash_features(db.from_sequence(rows, npartitions=2), tmp_path / "a.zarr", FeatureHasher(2**18))
    same_matrix(stored(path), FeatureHasher(2**18).transform(rows))
    pairs = [[("a", 1), ("b", 2)], [("c", -1)]]
    hasher = FeatureHasher(32, input_type="pair", dtype=np.float32)
    path = dask_gd.hash_features(pairs, tmp_path / "b.zarr", hasher)
    same_matrix(stored(path), hasher.transform(pairs))


def test_workers_change_no_byte(two, tmp_path):
    rows = texts()
    y = np.arange(400.0)
    lazy = db.from_sequence(rows, npartitions=5)
    at_once = dask_gd.hash_features(lazy, tmp_path / "a.zarr", TEXT, y=y)
    in_memory = dask_gd.hash_features(rows, tmp_path / "b.zarr", TEXT, y=da.from_array(y, chunks=90))
    with dask.config.set(scheduler="synchronous"):
        alone = dask_gd.hash_features(lazy, tmp_path / "c.zarr", TEXT, y=y)
    assert files(at_once) == files(in_memory) == files(alone)


def test_a_fit_of_hashed_rows_is_that_of_the_matrix_and_new_rows_are_hashed_alike(tmp_path):
    rows = texts(600)
    y = np.array(["good" in row or "food" in row for row in rows], float)
    hasher = HashingVectorizer(n_features=2**12)
    path = dask_gd.hash_features(rows[:500], tmp_path / "a.zarr", hasher, y=y[:500])
    options = {"loss": "logistic", "penalty": dask_gd.L2(0.001), "tol": 1e-6}
    run = dask_gd.fit(dask_gd.open(path, x="X", y="y"), **options)
    x = hasher.transform(rows)
    assert_allclose(run.parameters, dask_gd.fit(x[:500], y[:500], **options).parameters, atol=1e-12)
    predicted = run.predict(x[500:])
    assert_array_equal(run.predict(dask_gd.hash_rows(rows[500:], like=path)), predicted)
    new = dask_gd.hash_features(rows[500:], tmp_path / "new.zarr", like=path)
    assert_array_equal(np.asarray(run.predict(dask_gd.open(new, x="X"))), predicted)
    assert np.mean((predicted > 0.5) == y[500:]) > 0.9


def test_settings_come_back_from_the_store(tmp_path):
    table = frame(30)
    features = {"text": TEXT, ("origin", "hour"): FeatureHasher(2**18, alternate_sign=False, dtype=np.float32)}
    path = dask_gd.hash_features(table, tmp_path / "a.zarr", features, missing="empty")
    settings = dict(zarr.open_group(path)["X"].attrs)["hash_features"]
    assert settings["missing"] == "empty"
    assert settings["groups"][0]["hasher"]["ngram_range"] == [1, 2]
    same_matrix(dask_gd.hash_rows(table, like=path), stored(path))
    assert pickle.loads(pickle.dumps(settings)) == json.loads(json.dumps(settings))


def test_partitions_without_rows_are_passed_over(tmp_path):
    lazy = dd.from_pandas(frame(), npartitions=4)
    some = lazy.map_partitions(lambda part: part[part.index >= 150])
    path = dask_gd.hash_features(some, tmp_path / "a.zarr", {"text": TEXT}, y="late")
    same_matrix(stored(path), TEXT.transform(frame().text[150:]))


# Missing values


def test_missing_values_are_refused_by_row_or_hash_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(hash_rows, "ROWS_AT_ONCE", 2)
    rows = ["good", "bad", "so", None, "not"]
    with pytest.raises(DataError, match="row 3 has no value"):
        dask_gd.hash_features(rows, tmp_path / "a.zarr", TEXT)
    with pytest.raises(DataError, match="row 1 of partition 1 has no value"):
        dask_gd.hash_features(db.from_sequence(rows, partition_size=2), tmp_path / "a.zarr", TEXT)
    assert not (tmp_path / "a.zarr").exists()
    path = dask_gd.hash_features([*rows, float("nan"), pd.NA], tmp_path / "a.zarr", TEXT, missing="empty")
    same_matrix(stored(path), TEXT.transform([*rows[:3], "", "not", "", ""]))

    table = frame(6)
    table.loc[4, "origin"] = None
    hasher = FeatureHasher(2**18)
    features = {"hour": hasher, ("origin", "hour"): hasher}
    with pytest.raises(DataError, match="row 4 has no value in the column 'origin'"):
        dask_gd.hash_features(table, tmp_path / "b.zarr", features)
    path = dask_gd.hash_features(table, tmp_path / "b.zarr", features, missing="empty")
    assert_array_equal(np.diff(stored(path).indptr), [2, 2, 2, 2, 1, 2])


# Writers that are killed


def waiting(text, gate):
    """Return a text; one of them for as long as the gate is there."""
    while text == "the last" and os.path.exists(gate):
        time.sleep(0.01)
    return text


def gated(directory):
    rows = [*texts(), "the last", *texts(50)]
    return db.from_sequence(rows, npartitions=9).map(waiting, str(directory / "gate"))


def write_until_killed(directory, kill_at_the_end):
    def kill(*_, **__):
        os.kill(os.getpid(), signal.SIGKILL)

    if kill_at_the_end:
        writing.write_blocks = kill
    with dask.config.set(scheduler="threads", num_workers=2):
        dask_gd.hash_features(gated(directory), directory / "a.zarr", TEXT, y=np.arange(451))


@pytest.mark.parametrize("at_the_end", [False, True])
def test_a_writer_that_was_killed_goes_on_to_the_same_bytes(request, tmp_path, caplog, at_the_end):
    parts = tmp_path / ".a.zarr.parts"
    if not at_the_end:
        (tmp_path / "gate").touch()
    process = forked(write_until_killed, tmp_path, at_the_end)
    request.addfinalizer(process.kill)
    if not at_the_end:
        until(lambda: len(list(parts.glob("*.npz"))) == 9)
        # Two writers at once would write the same parts.
        with pytest.raises(InvalidArgumentError, match="another process is writing"):
            dask_gd.hash_features(gated(tmp_path), tmp_path / "a.zarr", TEXT)
        process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "a.zarr").exists()
    with pytest.raises(FileNotFoundError):
        zarr.open_group(tmp_path / "a.zarr", mode="r")

    # A part that is not whole any more is made again.
    there = sorted(parts.glob("*.npz"))
    there[0].write_bytes(there[0].read_bytes()[:-30])
    damaged = bytearray(there[1].read_bytes())
    damaged[len(damaged) // 2] ^= 1
    there[1].write_bytes(damaged)
    (tmp_path / "gate").unlink(missing_ok=True)
    with caplog.at_level("INFO", "dask_gd"):
        path = dask_gd.hash_features(gated(tmp_path), tmp_path / "a.zarr", TEXT, y=np.arange(451))
    assert f"went on: {len(there) - 2} of 10 parts were there" in caplog.text
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.zarr"]
    other = dask_gd.hash_features(gated(tmp_path), tmp_path / "b.zarr", TEXT, y=np.arange(451))
    assert files(path) == files(other)


def interrupt(*_, **__):
    raise KeyboardInterrupt


def test_a_writer_goes_on_with_the_same_settings_only(tmp_path, monkeypatch):
    rows = texts()
    with monkeypatch.context() as patch:
        patch.setattr(writing, "write_blocks", interrupt)
        with pytest.raises(KeyboardInterrupt):
            dask_gd.hash_features(rows, tmp_path / "a.zarr", TEXT)
    wider = HashingVectorizer(n_features=2**19, ngram_range=(1, 2), norm=None)
    with pytest.raises(InvalidArgumentError, match=r"hasher.n_features = 262144 where this call has 524288.*resume=Fa"):
        dask_gd.hash_features(rows, tmp_path / "a.zarr", wider)
    path = dask_gd.hash_features(rows, tmp_path / "a.zarr", wider, resume=False)
    same_matrix(stored(path), wider.transform(rows))
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.zarr"]


def test_what_has_changed_since_is_hashed_again_and_only_that(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(hash_rows, "ROWS_AT_ONCE", 100)
    table = frame()
    features = {"text": TEXT, "hour": FeatureHasher(64)}
    with monkeypatch.context() as patch:
        patch.setattr(writing, "write_blocks", interrupt)
        with pytest.raises(KeyboardInterrupt):
            dask_gd.hash_features(table, tmp_path / "a.zarr", features, y="late")
    table.loc[120, "hour"] += 1
    table.loc[220, "late"] += 1
    table.loc[320, "text"] = None
    with pytest.raises(DataError, match="row 320 has no value in the column 'text'"):
        dask_gd.hash_features(table, tmp_path / "a.zarr", features, y="late")
    # A part without missing values serves whatever would be done about them.
    table.loc[130, "hour"] += 1
    table.loc[230, "late"] += 1
    with caplog.at_level("INFO", "dask_gd"):
        path = dask_gd.hash_features(table, tmp_path / "a.zarr", features, y="late", missing="empty")
    assert "went on: 1 of 4 parts were there" in caplog.text
    expected = dask_gd.hash_features(table, tmp_path / "b.zarr", features, y="late", missing="empty")
    assert files(path) == files(expected)


def test_a_task_of_a_killed_writer_that_ends_late_changes_nothing(tmp_path, monkeypatch):
    def late(hashed, hashing, file):
        hash_parts.make_part(*hashed.partitions[0], hashing, {}, str(file))

    # One of other settings writes another file.
    def of_other_settings(self, hashed, hashing):
        hash_all(self, hashed, hashing)
        other = writing.hashing_of(HashingVectorizer(n_features=4), "error")
        late(hashed, other, hash_parts.Parts(self.directory, "other", 1).file(0))

    hash_all = hash_parts.Parts.hash
    expected = files(dask_gd.hash_features(texts(), tmp_path / "a.zarr", TEXT))
    with monkeypatch.context() as patch:
        patch.setattr(hash_parts.Parts, "hash", of_other_settings)
        assert files(dask_gd.hash_features(texts(), tmp_path / "b.zarr", TEXT)) == expected

    # One of other rows is found out.
    def of_other_rows(self, hashed, hashing):
        hash_all(self, hashed, hashing)
        late(hash_rows.HashedRows([hash_rows.Partition(["other"] * 400, None)], 400, {}), hashing, self.file(0))

    monkeypatch.setattr(hash_parts.Parts, "hash", of_other_rows)
    with pytest.raises(DataError, match="written anew meanwhile"):
        dask_gd.hash_features(texts(), tmp_path / "c.zarr", TEXT)
    assert not (tmp_path / "c.zarr").exists()


def test_a_worker_that_does_not_see_the_directory_says_so(tmp_path):
    rows = hash_rows.HashedRows([hash_rows.Partition(["a"], None)], 1, {})
    hashing = writing.hashing_of(TEXT, "error")
    with pytest.raises(dask_gd.errors.ClusterError, match="does not see"):
        hash_parts.Parts(tmp_path / "elsewhere", "settings", 1).hash(rows, hashing)


# Bad input


class Own(HashingVectorizer):
    """A hasher whose settings do not say what it does."""


@pytest.mark.parametrize(
    ("rows", "features", "error", "says"),
    [
        (["a", 3], TEXT, InvalidTypeError, "row 1 has a int, '3'"),
        ([b"a"], TEXT, InvalidTypeError, "row 0 has a bytes"),
        ([], TEXT, InvalidArgumentError, "no rows"),
        ("nowhere.txt", TEXT, InvalidArgumentError, "is not there"),
        ("s3://bucket/a.parquet", TEXT, InvalidArgumentError, "read_parquet"),
        (np.array([["a"]]), TEXT, InvalidArgumentError, r"shape is \(1, 1\)"),
        ((text for text in "ab"), TEXT, InvalidTypeError, "a generator"),
        (["a"], {"text": TEXT}, InvalidArgumentError, "without columns"),
        (["a"], "text", InvalidTypeError, "is no hasher"),
        (["a"], Own(n_features=8), InvalidTypeError, "is no hasher"),
        (
            ["a"],
            HashingVectorizer(tokenizer=str.split, token_pattern=None),
            InvalidArgumentError,
            "tokenizer=.*function",
        ),
        (["a"], HashingVectorizer(n_features=2**31), InvalidArgumentError, "n_features"),
        (["a"], HashingVectorizer(input="filename"), InvalidArgumentError, "input='filename'"),
        (["a b"], FeatureHasher(8, input_type="string"), DataError, "does not take the rows of rows"),
        (frame(5), TEXT, InvalidArgumentError, "name its columns"),
        (frame(5), {}, InvalidArgumentError, "at least one column"),
        (frame(5), {"words": TEXT}, InvalidArgumentError, "no column 'words' in rows, but 'text', 'hour'"),
        (frame(5), {("text", "origin"): TEXT}, InvalidArgumentError, "text of one column"),
        (frame(5), {"text": TEXT, "origin": TEXT}, InvalidArgumentError, "text of one column"),
        (frame(5), {("text", "text"): FeatureHasher(8)}, InvalidArgumentError, "different names"),
        (frame(5), {"hour": TEXT}, InvalidTypeError, "row 0 has a int.*'hour'"),
        (frame(5).assign(hour=1.5), {"hour": FeatureHasher(8)}, InvalidTypeError, "'hour' has dtype float64.*Int64"),
        (
            frame(5),
            {"hour": FeatureHasher(2**30), "origin": FeatureHasher(2**30)},
            InvalidArgumentError,
            "2147483648 col",
        ),
        (frame(5), {"hour": FeatureHasher(8, input_type="pair")}, InvalidArgumentError, "pair"),
    ],
)
def test_what_cannot_be_hashed_is_refused(tmp_path, rows, features, error, says):
    with pytest.raises(error, match=says):
        dask_gd.hash_features(rows, tmp_path / "a.zarr", features)
    assert not list(tmp_path.iterdir())


def test_columns_beside_the_rows_are_checked(tmp_path):
    with pytest.raises(InvalidArgumentError, match=r"y has the shape \(3,\), and there are 2 rows"):
        dask_gd.hash_features(["a", "b"], tmp_path / "a.zarr", TEXT, y=np.ones(3))
    with pytest.raises(InvalidArgumentError, match="without columns; give an array"):
        dask_gd.hash_features(["a", "b"], tmp_path / "a.zarr", TEXT, y="late")
    with pytest.raises(InvalidTypeError, match="y has dtype category"):
        dask_gd.hash_features(frame(5), tmp_path / "a.zarr", {"text": TEXT}, y="origin")
    with pytest.raises(InvalidArgumentError, match="no column 'delay'"):
        dask_gd.hash_features(frame(5), tmp_path / "a.zarr", {"text": TEXT}, y="delay")
    twice = pd.concat([frame(5), frame(5)[["late"]]], axis=1)
    with pytest.raises(InvalidArgumentError, match="more than one column 'late'"):
        dask_gd.hash_features(twice, tmp_path / "a.zarr", {"text": TEXT}, y="late")
    lazy = dd.from_pandas(frame(40), npartitions=2)
    for late, declared in ((0.5, "float64"), (np.int64(2**40), "int64")):
        meta = lazy._meta.astype({"late": "int32"})
        untrue = lazy.map_partitions(lambda part, late=late: part.assign(late=late), meta=meta)
        with pytest.raises(DataError, match=rf"'late' has dtype {declared} in partition [01], .* declares int32"):
            dask_gd.hash_features(untrue, tmp_path / "c.zarr", {"text": TEXT}, y="late")
    # Of a bag the number of rows is known in the end, and what has been hashed is kept.
    bag = db.from_sequence(["a", "b"], npartitions=2)
    with pytest.raises(InvalidArgumentError, match="there are 2 rows"):
        dask_gd.hash_features(bag, tmp_path / "a.zarr", TEXT, y=np.ones(3))
    assert len(list((tmp_path / ".a.zarr.parts").glob("*.npz"))) == 2


def test_a_place_that_is_taken_is_left_as_it_is(tmp_path):
    path = dask_gd.hash_features(["a"], tmp_path / "a.zarr", TEXT)
    before = files(path)
    with pytest.raises(InvalidArgumentError, match="exists; overwrite=True"):
        dask_gd.hash_features(["b"], path, TEXT)
    assert files(path) == before
    assert files(dask_gd.hash_features(["other"], path, TEXT, overwrite=True)) != before
    with pytest.raises(InvalidArgumentError, match="files on a disk that all workers share"):
        dask_gd.hash_features(["b"], "s3://bucket/a.zarr", TEXT)


def test_like_takes_a_store_that_was_hashed(tmp_path):
    with pytest.raises(InvalidArgumentError, match="give features"):
        dask_gd.hash_rows(["a"])
    with pytest.raises(InvalidArgumentError, match="is no Zarr group"):
        dask_gd.hash_rows(["a"], like=tmp_path / "none.zarr")
    dask_gd.write_sparse(sp.csr_array(np.eye(2)), tmp_path / "a.zarr")
    with pytest.raises(InvalidArgumentError, match="has not been written by hash_features"):
        dask_gd.hash_rows(["a"], like=tmp_path / "a.zarr")
    with pytest.raises(InvalidTypeError, match="not in memory"):
        dask_gd.hash_rows(db.from_sequence(["a"]), TEXT)


def test_text_that_is_not_utf_8_is_named_by_its_file(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"good\nna\xefve\n")
    with pytest.raises(DataError, match=r"a\.txt.*0xef, 7 bytes after"):
        dask_gd.hash_features(tmp_path / "a.txt", tmp_path / "a.zarr", TEXT)
