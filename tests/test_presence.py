"""An absent chunk, an empty one and a store that cannot be seen are told apart, where chunks are read."""

import os
import shutil
import sys

import numcodecs
import numpy as np
import pytest
import zarr
from helpers import problem
from numpy.testing import assert_allclose, assert_array_equal
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, ShardingCodec, TransposeCodec, ZstdCodec

import dask_gd
from dask_gd.errors import CorruptChunkError, MissingChunkError, UnreachableStoreError, UnreadableChunkError
from dask_gd.estimators import LogisticRegression
from dask_gd.preprocessing import StandardScaler
from dask_gd.sources import as_source
from dask_gd.sources.chunk_files import chunk_files
from dask_gd.sources.marked import MARKS, MarkedChunks
from dask_gd.sources.stores import place
from dask_gd.sources.zarr_column import ZarrColumn

N, P = 61, 3
# zarr's, about shards behind a codec.
pytestmark = pytest.mark.filterwarnings("ignore:Combining a `sharding_indexed` codec")


def shards(index=None, inner=None, **options):
    """Return the options of an array with shards of 20 rows and inner chunks of 10."""
    index = [BytesCodec(), Crc32cCodec()] if index is None else index
    inner = [BytesCodec(), GzipCodec()] if inner is None else inner
    codec = ShardingCodec(chunk_shape=(10, P), codecs=inner, index_codecs=index, **options)
    return {"chunks": (20, P), "serializer": codec, "compressors": None}


BIG = [BytesCodec(endian="big"), Crc32cCodec()]
NESTED = [ShardingCodec(chunk_shape=(5, P), codecs=[BytesCodec(), ZstdCodec()])]
#: Who reads each: our own reader, zarrs, zarr.
KINDS = {
    "plain": {"compressors": None},
    "blosc": {"compressors": BloscCodec()},
    "crc32c": {"compressors": Crc32cCodec()},
    "gzip": {"compressors": GzipCodec()},
    "big-endian": {"serializer": BytesCodec(endian="big")},
    "transposed": {"filters": TransposeCodec(order=(1, 0))},
    "2, zstd": {"zarr_format": 2, "compressors": numcodecs.Zstd()},
    "2, columns first": {"zarr_format": 2, "order": "F"},
    "2, filtered": {"zarr_format": 2, "filters": [numcodecs.Delta("f8")]},
    "2, lzma": {"zarr_format": 2, "compressors": numcodecs.LZMA()},
    "shards": shards(inner=[BytesCodec(), BloscCodec()]),
    "shards, gzip": shards(),
    "shards, index at the start": shards(index_location="start"),
    "shards, index without a checksum": shards(index=[BytesCodec()]),
    "shards, big-endian index": shards(index=BIG),
    "shards, all of it": shards(index=[BytesCodec(endian="big")], index_location="start"),
    "shards in shards": shards(inner=NESTED),
    "shards behind a codec": shards() | {"compressors": Crc32cCodec()},
}
every_kind = pytest.mark.parametrize("kind", KINDS)
sharded = pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith("shards")])


@pytest.fixture(params=["zarrs", "no zarrs"])
def zarrs(request, monkeypatch):
    """Run with the package zarrs and without."""
    if request.param == "no zarrs":
        monkeypatch.setitem(sys.modules, "zarrs.pipeline", None)


def values(dtype="f8"):
    return np.random.default_rng(0).integers(1, 100, (N, P)).astype(dtype)


def stored(path, kind, data, empty=True):
    """Return rows of a new array; ``empty``: write the chunks that hold the fill value."""
    options = {"chunks": (10, P), "fill_value": 0} | KINDS[kind]
    return zarr.create_array(path, data=data, config={"write_empty_chunks": empty}, overwrite=True, **options)


def file_of(path, array, row):
    """Return the file with a row, of a chunk or of a shard."""
    index = (row // (array.shards or array.chunks)[0], 0)
    return path / array.metadata.encode_chunk_key(index)


def named(array, row):
    """Return how errors name the chunk with a row."""
    size = array.chunks[0]
    first = row // size * size
    return rf"chunk \({row // size}, 0\), rows {first}-{first + size - 1}"


def read(array, missing="error"):
    """Read all rows as a task does, window by window."""
    rows = ZarrColumn(array, "x", missing)
    return np.concatenate([rows.read(*window).copy() for window in rows.windows(0, N)])


@every_kind
def test_what_is_there_is_read(tmp_path, kind, zarrs):
    data = values()
    assert_array_equal(read(stored(tmp_path / "x", kind, data)), data)


@every_kind
def test_a_chunk_that_goes_after_the_check_is_missing_at_the_read(tmp_path, kind, zarrs):
    """FOUND 1, 29, 36; FAULTS 1, 53."""
    array = stored(tmp_path / "x", kind, values())
    ZarrColumn(array, "x").check_chunks(0, N)
    file_of(tmp_path / "x", array, 40).unlink()
    with pytest.raises(MissingChunkError, match=f"{named(array, 40)}: it is not in the store") as raised:
        read(array)
    assert not isinstance(raised.value, UnreachableStoreError)
    assert "damaged" not in str(raised.value)


@every_kind
def test_an_absent_chunk_is_the_fill_value_if_that_is_accepted(tmp_path, kind, zarrs):
    """FAULTS 2."""
    data = values()
    array = stored(tmp_path / "x", kind, data)
    file_of(tmp_path / "x", array, 40).unlink()
    data[40 : 40 + (array.shards or array.chunks)[0]] = 0
    assert_array_equal(read(array, "fill"), data)


@every_kind
@pytest.mark.parametrize("missing", ["error", "fill"])
def test_an_empty_file_is_a_damaged_chunk(tmp_path, kind, missing, zarrs):
    """FOUND 29; FAULTS 6, 56."""
    array = stored(tmp_path / "x", kind, values())
    file_of(tmp_path / "x", array, 40).write_bytes(b"")
    with pytest.raises(CorruptChunkError, match=named(array, 40)):
        read(array, missing)


@every_kind
@pytest.mark.parametrize("missing", ["error", "fill"])
def test_a_store_that_is_gone_is_said_to_be_unseen(tmp_path, kind, missing, zarrs):
    """FOUND 1, 36; FAULTS 52, 53."""
    array = stored(tmp_path / "x", kind, values())
    shutil.rmtree(tmp_path / "x")
    with pytest.raises(UnreachableStoreError, match=f"cannot see {tmp_path / 'x'}; has it been moved"):
        read(array, missing)


@every_kind
def test_an_array_that_goes_from_its_group_is_missing_whatever_is_accepted(tmp_path, kind):
    format = KINDS[kind].get("zarr_format", 3)
    zarr.create_group(tmp_path / "data", zarr_format=format)
    stored(tmp_path / "data" / "x", kind, values())
    array = zarr.open_group(tmp_path / "data", mode="r")["x"]
    shutil.rmtree(tmp_path / "data" / "x")
    for missing in ("error", "fill"):
        with pytest.raises(MissingChunkError, match=r"chunk \(0, 0\)") as raised:
            read(array, missing)
        assert not isinstance(raised.value, UnreachableStoreError)


@sharded
def test_a_chunk_that_a_shard_leaves_out_is_missing(tmp_path, kind, zarrs):
    """FOUND 15; FAULTS 3."""
    data = values()
    data[30:40] = 0
    array = stored(tmp_path / "x", kind, data, empty=False)
    with pytest.raises(MissingChunkError, match=f"{named(array, 30)}: its shard leaves it out"):
        read(array)
    assert_array_equal(read(array, "fill"), data)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith("shards") and "in shards" not in kind])
def test_a_chunk_that_a_shard_leaves_out_is_missing_before_the_first_task(tmp_path, kind):
    """FOUND 15: where the index is at the start, big-endian, or has no checksum."""
    data = values()
    data[30:40] = 0
    rows = ZarrColumn(stored(tmp_path / "x", kind, data, empty=False), "x")
    if kind == "shards behind a codec":
        rows.check_chunks(0, N)  # which is found where it is read
        return
    with pytest.raises(MissingChunkError, match=r"lacks chunk \(3, 0\) \(rows 30-39\) and 0 more"):
        rows.check_chunks(0, N)
    rows.check_chunks(0, 30)


def test_chunks_of_shards_in_shards_that_lie_beyond_the_edge_need_not_be_there(tmp_path, zarrs):
    """The last shard holds one row of the array."""
    data = values()
    assert_array_equal(read(stored(tmp_path / "x", "shards in shards", data, empty=False)), data)


@pytest.mark.parametrize("kind", ["shards", "shards, index at the start", "shards, big-endian index"])
def test_our_own_reader_knows_the_usual_indices(tmp_path, kind):
    options = KINDS[kind]
    array = stored(tmp_path / "x", kind, values())
    assert (chunk_files(array) is not None) == (options["serializer"].codecs[-1].to_dict()["name"] == "blosc")


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i8", "u4", "i2", "u1", "i1", "?"])
@pytest.mark.parametrize("number", [0, 1])
def test_data_that_holds_the_mark_of_absent_chunks_is_data(tmp_path, dtype, number, zarrs):
    data = values(dtype)
    array = stored(tmp_path / "x", "shards, gzip", data)
    data[::7] = MarkedChunks(array).mark(number)
    data[20:35] = MarkedChunks(array).mark(number)
    array[...] = data
    for missing in ("error", "fill"):
        assert_array_equal(read(array, missing), data)
    assert len({float(MarkedChunks(array).mark(n)) for n in (0, 1)}) == 2
    assert np.isfinite(np.array(MARKS, "u8").view("f8")).all()
    file_of(tmp_path / "x", array, 20).unlink()
    with pytest.raises(MissingChunkError, match=r"chunk \(2, 0\)"):
        read(array)
    data[20:40] = 0
    assert_array_equal(read(array, "fill"), data)


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    """FAULTS 55."""
    array = stored(tmp_path / "x", "plain", values())

    def refused(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(UnreadableChunkError, match=r"chunk \(0, 0\), rows 0-9: the store did not give it, Perm"):
        read(array)


# On a cluster, through every entrance


def problem_on_disk(path, compressors):
    """Write features and a 0/1 target in chunks of 50 rows."""
    x, _, y = problem(400, P)
    group = zarr.open_group(path, mode="w")
    for name, a in (("x", x), ("y", y)):
        group.create_array(name, data=a, chunks=(50, *a.shape[1:]), compressors=compressors)
    return x, y


def doors(run, source, group):
    """Return every way in which rows are read, made while the store can be seen."""
    x, y = group["x"], group["y"]
    model = LogisticRegression().fit(x, y)
    scaler = StandardScaler().fit(x)
    lazy = {
        "predict": run.predict(source),
        "predict, estimator": model.predict(x),
        "transform": scaler.transform(x),
    }
    return {
        "fit": lambda: dask_gd.fit(source, loss="logistic"),
        "search": lambda: dask_gd.search(source, loss="logistic", alphas=[0.1, 1.0], folds=2),
        "infer": lambda: dask_gd.infer(run, source),
        "classes": lambda: LogisticRegression().fit(source),
        "largest class": lambda: dask_gd.fit(source, loss="softmax"),
        "scaler": lambda: StandardScaler().fit(source.x.array),
        "score": lambda: model.score(x, y),
        **{name: array.compute for name, array in lazy.items()},
    }


def each_refused(doors, kind, match, left_out=()):
    for name, door in doors.items():
        if name not in left_out:
            with pytest.raises(kind, match=match) as raised:
                door()
            assert "damaged" not in str(raised.value), name


@pytest.mark.parametrize(("missing", "compressors"), [("error", None), ("fill", GzipCodec())], ids=["error", "fill"])
def test_workers_that_cannot_see_the_store_say_so_at_every_entrance(tmp_path, two, missing, compressors, monkeypatch):
    """FOUND 1; FAULTS 52. What is looked at before the first task is left out, as it is on the client's own disk."""
    x, y = problem_on_disk(tmp_path / "data", compressors)
    source = dask_gd.open(tmp_path / "data", x="x", y="y", missing=missing)
    ways = doors(dask_gd.fit(x, y, loss="logistic"), source, zarr.open_group(tmp_path / "data", mode="r"))
    monkeypatch.setattr(ZarrColumn, "check_chunks", lambda *arguments: None)
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    text = rf"worker tcp://\S+ cannot see {tmp_path / 'data'}; is it on a disk that all workers share\?"
    each_refused(ways, UnreachableStoreError, text)


@pytest.mark.parametrize(
    ("scheduler", "compressors"), [("processes", None), ("threads", GzipCodec())], ids=["processes", "threads"]
)
def test_a_chunk_that_goes_is_missing_at_every_entrance(tmp_path, scheduler, compressors, request, monkeypatch):
    """FOUND 1, 29; FAULTS 1, 53."""
    if scheduler == "processes":
        request.getfixturevalue("two")
    x, y = problem_on_disk(tmp_path / "data", compressors)
    source = dask_gd.open(tmp_path / "data", x="x", y="y")
    ways = doors(dask_gd.fit(x, y, loss="logistic"), source, zarr.open_group(tmp_path / "data", mode="r"))
    monkeypatch.setattr(ZarrColumn, "check_chunks", lambda *arguments: None)
    (tmp_path / "data" / "x" / "c" / "3" / "0").unlink()
    each_refused(ways, MissingChunkError, r"'x', chunk \(3, 0\), rows 150-199", ("classes", "largest class"))
    (tmp_path / "data" / "y" / "c" / "3").unlink()
    for name in ("classes", "largest class"):
        with pytest.raises(MissingChunkError, match=r"'y', chunk \(3,\), rows 150-199"):
            ways[name]()


def test_a_damaged_chunk_is_named_at_every_entrance(tmp_path):
    """FOUND 29; FAULTS 4."""
    x, y = problem_on_disk(tmp_path / "data", [GzipCodec(), Crc32cCodec()])
    source = dask_gd.open(tmp_path / "data", x="x", y="y")
    ways = doors(dask_gd.fit(x, y, loss="logistic"), source, zarr.open_group(tmp_path / "data", mode="r"))
    for array, chunk in (("x", "3/0"), ("y", "3")):
        file = tmp_path / "data" / array / "c" / chunk
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    for door in ways.values():
        with pytest.raises(CorruptChunkError, match=r"'[xy]', chunk \(3,( 0)?\), rows 150-199: .*damaged"):
            door()


def test_a_chunk_that_goes_in_mid_fit_ends_it_and_what_was_stored_is_intact(tmp_path, two):
    """FOUND 1, 36; FAULTS 53."""
    # Not compressed, so that workers keep no rows.
    problem_on_disk(tmp_path / "data", None)
    source = dask_gd.open(tmp_path / "data", x="x", y="y")

    def unlink(event):
        if isinstance(event, dask_gd.events.IterationEnded) and event.iteration == 2:
            shutil.rmtree(tmp_path / "data" / "x" / "c" / "3")

    with pytest.raises(MissingChunkError, match=r"'x', chunk \(3, 0\)"):
        dask_gd.fit(
            source, loss="logistic", solver=dask_gd.GradientDescent(), callbacks=[unlink], store=tmp_path / "run"
        )
    assert len(dask_gd.load(tmp_path / "run").history) >= 2


@pytest.mark.parametrize("kind", ["group", "arrays", "zip", "wrapped"])
def test_a_relative_path_is_read_by_workers_in_another_directory(tmp_path, two, kind, monkeypatch):
    """FOUND 1; FAULTS 52."""
    monkeypatch.chdir(tmp_path)
    x, y = problem_on_disk("data.zarr", GzipCodec())
    expected = dask_gd.fit(x, y, loss="logistic").weights.values
    store = zarr.storage.LocalStore("data.zarr")
    if kind == "zip":
        with zarr.storage.ZipStore("data.zip", mode="w") as store:
            group = zarr.open_group(store, mode="w")
            for name, a in (("x", x), ("y", y)):
                group.create_array(name, data=a, chunks=(50, *a.shape[1:]))
        store = zarr.storage.ZipStore("data.zip", mode="r")
    if kind == "wrapped":
        store = zarr.storage.WrapperStore(store)
    group = zarr.open_group(store, mode="r")
    source = dask_gd.open("data.zarr", x="x", y="y") if kind == "group" else as_source(group["x"], group["y"])
    assert os.path.isabs(place(source.x.array))
    monkeypatch.chdir("/")
    assert_allclose(dask_gd.fit(source, loss="logistic").weights.values, expected, rtol=1e-9)


def test_what_one_process_holds_in_memory_is_refused_by_others(two):
    """FOUND 1; FAULTS 52: memory:// on processes, with missing="fill" too."""
    problem_on_disk("memory://presence/data.zarr", GzipCodec())
    for missing in ("error", "fill"):
        source = dask_gd.open("memory://presence/data.zarr", x="x", y="y", missing=missing)
        with pytest.raises(UnreachableStoreError, match=r"worker tcp://\S+ cannot see memory:///?presence/data.zarr"):
            dask_gd.fit(source, loss="logistic")


def test_a_memory_store_travels_to_workers(two):
    store = zarr.storage.MemoryStore()
    x, y = problem_on_disk(store, GzipCodec())
    group = zarr.open_group(store, mode="r")
    run = dask_gd.fit(group["x"], group["y"], loss="logistic")
    assert_allclose(run.weights.values, dask_gd.fit(x, y, loss="logistic").weights.values, rtol=1e-9)


def test_lazy_rows_are_cut_as_arrays_are(tmp_path):
    data = values()
    rows = ZarrColumn(stored(tmp_path / "x", "gzip", data), "x")
    lazy = rows.lazy
    for index in [np.s_[:], np.s_[7:33], np.s_[50:3:-4], np.s_[5], np.s_[:, 1], np.s_[3:40:7, 1:], np.s_[4:4]]:
        assert_array_equal(lazy[index].compute(scheduler="threads"), data[index])
    wanted = np.array([40, 3, 3])
    assert_array_equal(lazy[wanted].compute(scheduler="threads"), data[wanted])
    assert ZarrColumn(rows.array, "x").lazy.name == lazy.name
