"""Stores behind a network: what they refuse, lose, cut off or cannot list is said by its name."""

import threading
from collections import namedtuple
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import numpy as np
import pytest
import scipy.sparse as sp
import zarr
from numpy.testing import assert_allclose, assert_array_equal
from zarr.codecs import GzipCodec
from zarr.storage import FsspecStore

import dask_gd
from dask_gd.errors import CorruptChunkError, DataError, MissingChunkError, UnreachableStoreError, UnreadableChunkError
from dask_gd.sources import as_source, marked
from dask_gd.sources.zarr_column import ZarrColumn

obstore = pytest.importorskip("obstore")
s3fs = pytest.importorskip("s3fs")
moto = pytest.importorskip("moto.server")

N, WEIGHTS = 400, [1.0, 2.0, 3.0]
X = np.random.default_rng(0).normal(size=(N, 3))
Y = X @ WEIGHTS
#: What the server answers about a chunk in place of its bytes: status, error code of S3, body.
Answer = namedtuple("Answer", "status code body cut", defaults=("", b"", False))
NOT_FOUND, FORBIDDEN = Answer(404, "NoSuchKey"), Answer(403, "AccessDenied")
EXPIRED, BUSY = Answer(400, "ExpiredToken"), Answer(503, "SlowDown")
EMPTY, CUT = Answer(200), Answer(200, cut=True)
CHUNK = "/x/c/3/0"


class Rules(dict):
    """Answers by what the requested path contains, and how many times they are given."""

    def answer(self, path):
        for text, (answer, times) in list(self.items()):
            if text in path and times > 0:
                self[text] = answer, times - 1
                return answer
        return None

    def set(self, text, answer, times=10**9):
        self[text] = answer, times


def refusing(app, rules):
    """Return a WSGI application that follows the rules, and else asks another."""

    def asked(environ, start_response):
        listing = "list-type" in environ.get("QUERY_STRING", "")
        answer = rules.answer("LIST" if listing else environ["PATH_INFO"])
        if answer is None:
            return app(environ, start_response)
        body = answer.body
        if answer.code:
            body = f"<?xml version='1.0'?><Error><Code>{answer.code}</Code><Message>No.</Message></Error>".encode()
        if environ["REQUEST_METHOD"] == "HEAD":
            body = b""
        length = str(len(body) + 1000 * answer.cut)
        start_response(f"{answer.status} answer", [("Content-Length", length), ("Content-Type", "application/xml")])
        return [body]

    return asked


class Files(SimpleHTTPRequestHandler):
    """Files by plain HTTP: no listing, and no parts of files."""

    rules = Rules()

    def do_GET(self):
        answer = self.rules.answer(self.path)
        if answer is None:
            super().do_GET()
            return
        self.send_response(answer.status)
        self.send_header("Content-Length", str(1000 * answer.cut))
        self.end_headers()

    def list_directory(self, path):
        self.send_error(403)

    def log_message(self, *arguments):
        pass


def write(store):
    """Write features, in chunks and in shards, and a target."""
    group = zarr.open_group(store, mode="w")
    options = {"compressors": GzipCodec(), "chunks": (50, 3)}
    group.create_array("x", data=X, **options)
    group.create_array("shards", data=X, shards=(200, 3), **options)
    group.create_array("y", data=Y, chunks=(50,))


@pytest.fixture(scope="module")
def s3():
    """A server of S3's protocol, with the data in a bucket: its URL and its rules."""
    from werkzeug.serving import make_server

    rules = Rules()
    app = refusing(moto.DomainDispatcherApplication(moto.create_backend_app), rules)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    fs = fsspec.filesystem("s3", **s3_options(url))
    fs.mkdir("bucket")
    write(by_s3fs(url, read_only=False))
    yield url, rules
    server.shutdown()
    thread.join()


def s3_options(url):
    client = {"endpoint_url": url, "region_name": "eu-west-1"}
    return {"key": "k", "secret": "s", "client_kwargs": client, "config_kwargs": {"retries": {"max_attempts": 0}}}


def by_s3fs(url, read_only=True):
    return FsspecStore.from_url("s3://bucket/data", storage_options=s3_options(url), read_only=read_only)


def by_obstore(url):
    store = obstore.store.S3Store(
        "bucket",
        prefix="data",
        endpoint=url,
        access_key_id="key",
        secret_access_key="secret",
        region="eu-west-1",
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )
    return zarr.storage.ObjectStore(store, read_only=True)


@pytest.fixture(params=[by_s3fs, by_obstore])
def remote(request, s3):
    """The data on the S3 server, by one of two clients, and the server's rules."""
    url, rules = s3
    rules.clear()
    yield zarr.open_group(request.param(url), mode="r"), rules
    rules.clear()


@pytest.fixture
def http(tmp_path):
    """The data by plain HTTP, and the server's rules."""
    write(tmp_path / "data")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=tmp_path))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/data"
    Files.rules.clear()
    yield zarr.open_group(FsspecStore.from_url(url, read_only=True), mode="r"), Files.rules
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    """Ask again soon, and let s3fs itself ask once."""
    monkeypatch.setattr(marked, "WAITS", (0.01, 0.01))
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)


def read(group, missing="error", name="x"):
    rows = ZarrColumn(group[name], "x", missing)
    return np.concatenate([rows.read(i, i + 100).copy() for i in range(0, N, 100)])


def test_rows_are_read_from_s3(remote):
    group, _ = remote
    assert_array_equal(read(group), X)
    assert_array_equal(read(group, name="shards"), X)
    assert_allclose(dask_gd.fit(group["x"], group["y"]).weights.values, WEIGHTS, atol=1e-9)


def test_sparse_rows_are_written_to_s3_and_read_from_there(s3):
    url, rules = s3
    x = sp.csr_array(np.where(np.abs(X) > 1, X, 0))
    options = s3_options(url)
    place = "s3://bucket/sparse.zarr"
    # What the server refuses leaves nothing that a reader would find.
    rules.set("/sparse.zarr/X/indptr", FORBIDDEN)
    with pytest.raises(PermissionError):
        dask_gd.write_sparse(x, place, y=Y, storage_options=options)
    rules.clear()
    assert not fsspec.filesystem("s3", **options).find(place)
    assert dask_gd.write_sparse(x, place, y=Y, storage_options=options) == place
    store = FsspecStore.from_url(place, storage_options=options, read_only=True)
    group = zarr.open_group(store, mode="r")
    run = dask_gd.fit(dask_gd.open(group, x="X", y="y"))
    assert_array_equal(run.parameters, dask_gd.fit(x, Y).parameters)


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        (NOT_FOUND, MissingChunkError, "is not in the store"),
        (FORBIDDEN, UnreadableChunkError, "the store did not give it, Permission"),
        (EXPIRED, UnreadableChunkError, "did not give it, (PermissionError|.*ExpiredToken)"),
        (BUSY, UnreadableChunkError, "the store did not give it, "),
        (EMPTY, CorruptChunkError, "it has no bytes"),
        (CUT, UnreadableChunkError, "the store did not give it, "),
    ],
    ids=["404", "refused", "expired", "busy", "empty", "cut"],
)
def test_what_the_server_answers_is_said_by_its_name(remote, answer, kind, text):
    """FOUND 36, 38; FAULTS 53, 55, 56."""
    group, rules = remote
    source = as_source(group["x"], group["y"])
    rules.set(CHUNK, answer)
    with pytest.raises(kind, match=rf"(?s)'x', chunk \(3, 0\), rows 150-199: .*{text}") as raised:
        dask_gd.fit(source)
    assert ("damaged" in str(raised.value)) == (kind is CorruptChunkError)
    if answer is not NOT_FOUND:
        with pytest.raises(kind, match=text):
            read(group, "fill")


def test_a_store_that_is_busy_for_a_while_is_asked_again(remote):
    """FAULTS 55."""
    group, rules = remote
    rules.set(CHUNK, BUSY, times=2)
    assert_array_equal(read(group), X)
    rules.set(CHUNK, CUT, times=2)
    assert_array_equal(read(group), X)


def test_an_object_that_is_not_found_once_is_missing(remote):
    """FOUND 36; FAULTS 53."""
    group, rules = remote
    rules.set(CHUNK, NOT_FOUND, times=1)
    with pytest.raises(MissingChunkError, match=r"chunk \(3, 0\)"):
        read(group)
    expected = X.copy()
    expected[150:200] = 0
    rules.set(CHUNK, NOT_FOUND)
    assert_array_equal(read(group, "fill"), expected)


@pytest.mark.parametrize("missing", ["error", "fill"])
def test_a_store_that_is_deleted_is_not_read_as_zeros(remote, missing):
    """FOUND 36; FAULTS 52, 53."""
    group, rules = remote
    rows = ZarrColumn(group["x"], "x", missing)
    rules.set("/data/", NOT_FOUND)
    with pytest.raises(UnreachableStoreError, match=r"process \d+ cannot see .*s3|S3"):
        rows.read(0, N)


def test_a_bucket_that_may_not_be_listed_is_served(remote, tmp_path):
    """FOUND 38; FAULTS 57."""
    group, rules = remote
    listed = as_source(group["x"], group["y"]).fingerprint()
    rules.set("LIST", FORBIDDEN)
    run = dask_gd.fit(group["x"], group["y"], store=tmp_path / "run")
    assert_allclose(run.weights.values, WEIGHTS, atol=1e-9)
    assert as_source(group["x"], group["y"]).fingerprint() == listed


def test_a_file_server_that_lists_nothing_is_served(http, tmp_path):
    """FOUND 38; FAULTS 57."""
    group, rules = http
    run = dask_gd.fit(group["x"], group["y"], store=tmp_path / "run")
    assert_allclose(run.weights.values, WEIGHTS, atol=1e-9)
    assert_allclose(run.predict(group["x"]).compute(scheduler="threads"), Y, atol=1e-9)
    rules.set(CHUNK, NOT_FOUND)
    with pytest.raises(MissingChunkError, match=r"chunk \(3, 0\), rows 150-199"):
        dask_gd.fit(group["x"], group["y"])
    rules.set(CHUNK, FORBIDDEN)
    with pytest.raises(UnreadableChunkError, match=r"chunk \(3, 0\), rows 150-199: .*ClientResponseError: 403"):
        dask_gd.fit(group["x"], group["y"])


def test_a_server_that_gives_no_parts_of_a_shard_is_not_called_damaged(http):
    group, _ = http
    with pytest.raises(UnreadableChunkError, match="does not give parts of a shard"):
        ZarrColumn(group["shards"], "x").read(0, 50)


@pytest.mark.parametrize("answer", [NOT_FOUND, FORBIDDEN], ids=["404", "403"])
def test_workers_name_what_a_server_answers_in_mid_fit(two, s3, answer):
    """FOUND 36, 38; FAULTS 53, 55: through worker processes, and the fit does not go on."""
    url, rules = s3
    rules.clear()
    group = zarr.open_group(by_s3fs(url), mode="r")
    source = as_source(group["x"], group["y"])

    def refuse(event):
        if isinstance(event, dask_gd.events.IterationEnded) and event.iteration == 1:
            rules.set(CHUNK, answer)

    kind = MissingChunkError if answer is NOT_FOUND else UnreadableChunkError
    with pytest.raises(kind, match=r"'x', chunk \(3, 0\), rows 150-199"):
        dask_gd.fit(source, loss="huber", solver=dask_gd.GradientDescent(), callbacks=[refuse])
    rules.clear()


# Stores that are not sent to workers, and those that cannot list


@pytest.fixture
def repository(tmp_path):
    """An icechunk repository with the data committed, and its folder."""
    icechunk = pytest.importorskip("icechunk")
    repository = icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path / "ice")))
    session = repository.writable_session("main")
    write(session.store)
    session.commit("rows")
    return repository, tmp_path / "ice"


def test_a_store_that_cannot_be_sent_to_workers_is_refused_before_the_first_task(two, repository):
    """FOUND 16: a writable icechunk session, obstore's MemoryStore."""
    writable = zarr.open_group(repository[0].writable_session("main").store, mode="r+")
    memory = zarr.storage.ObjectStore(obstore.store.MemoryStore())
    write(memory)
    for group in (writable, zarr.open_group(memory, mode="r")):
        with pytest.raises(
            UnreachableStoreError, match=r"(?s)cannot be sent to the cluster's workers: .*readonly_session"
        ):
            dask_gd.fit(group["x"], group["y"])
    group = zarr.open_group(repository[0].readonly_session("main").store, mode="r")
    assert_allclose(dask_gd.fit(group["x"], group["y"]).weights.values, WEIGHTS, atol=1e-9)


def test_an_error_of_icechunk_names_array_chunk_and_rows(repository):
    """FOUND 16."""
    group = zarr.open_group(repository[0].readonly_session("main").store, mode="r")
    source = as_source(group["x"], group["y"])
    for file in (repository[1] / "chunks").iterdir():
        file.unlink()
    with pytest.raises((UnreadableChunkError, MissingChunkError), match=r"'x', chunk \(\d, 0\), rows \d+-\d+: .*Error"):
        dask_gd.fit(source)


def test_a_store_of_manifests_that_lists_nothing_is_served(tmp_path):
    """FOUND 16, 38; FAULTS 57."""
    parsers = pytest.importorskip("virtualizarr.parsers")
    registry = pytest.importorskip("obspec_utils.registry")
    write(tmp_path / "data")
    known = registry.ObjectStoreRegistry({"file://": obstore.store.LocalStore()})
    store = parsers.ZarrParser()(f"file://{tmp_path / 'data'}", known)
    group = zarr.open_group(store, mode="r")
    run = dask_gd.fit(group["x"], group["y"], store=tmp_path / "run")
    assert_allclose(run.weights.values, WEIGHTS, atol=1e-9)


def test_an_object_that_is_overwritten_in_mid_fit_is_found_by_one_listing_more(s3, remote):
    """FOUND 36; FAULTS 54. The same bytes have the same ETag, and are no change."""
    group, rules = remote
    source = as_source(group["x"], group["y"])
    options = {"loss": "huber", "solver": dask_gd.GradientDescent(), "max_iter": 4}
    writer = zarr.open_group(by_s3fs(s3[0], read_only=False))

    def again(factor, event):
        if isinstance(event, dask_gd.events.IterationEnded) and event.iteration == 2:
            # zstd gives the same bytes each time; gzip writes the time into them.
            writer["y"][150:200] = Y[150:200] * factor

    try:
        asked = []
        app_answer = rules.answer
        rules.answer = lambda path: asked.append(path) or app_answer(path)
        run = dask_gd.fit(source, **options, callbacks=[partial(again, 1)])
        assert run.reason == "max_iter"
        assert asked.count("LIST") == 4  # of two arrays, twice
        # Known from the listing, a chunk is read by one request.
        assert sum(path.endswith("/x/c/7/0") for path in asked) == run.history.passes.sum()
        with pytest.raises(DataError, match=r"'y', chunk \(3,\), rows 150-199: it was overwritten while the fit"):
            dask_gd.fit(source, **options, callbacks=[partial(again, 2)])
    finally:
        del rules.answer
        writer["y"][150:200] = Y[150:200]
