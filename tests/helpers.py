"""What several test files use: problems, arrays on disk, references, clusters, comparisons."""

import multiprocessing
import multiprocessing.forkserver
import time

import numpy as np
import pytest
import scipy.sparse as sp
import zarr
from dask.distributed import LocalCluster
from sklearn.linear_model import LogisticRegression, Ridge

import dask_gd
from dask_gd import Gamma, Hinge, Huber, Logistic, Poisson, Quantile, Squared, SquaredHinge, Store, Tweedie
from dask_gd.store.store import Checkpoint

FLIGHTS = "data/flights.zarr"

REAL = [Squared(), Huber(), Huber(0.3), Quantile(0.2, 0.7), Quantile(0.5, 3.0)]
CLASSES = [Logistic(), SquaredHinge(), Hinge(), Hinge(0.2)]
COUNTS = [Poisson(), Tweedie(1.3), Tweedie(1.5), Gamma()]
EVERY = REAL + CLASSES + COUNTS


# Problems


def problem(n=600, p=7, seed=0, dtype=float):
    """Return features in different units and off centre, a linear target and a 0/1 target."""
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((n, p)) * rng.uniform(0.1, 10, p) + rng.uniform(-2, 2, p)).astype(dtype)
    w = rng.standard_normal(p) / x.std(axis=0).clip(0.1)
    z = x @ w - 0.5
    return x, z + rng.standard_normal(n), (z - z.mean() + rng.logistic(size=n) > 0).astype(float)


def problem_of(loss, n=1500, p=6, seed=0, size=1.0):
    """Return features off centre, and targets of ``size`` that the loss takes and that follow a linear model."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p)) + np.linspace(-1, 1, p)
    z = (x - x.mean(axis=0)) @ rng.normal(size=p) / np.sqrt(p)
    if loss.name == "tweedie":
        mean = size * np.exp(z)
        some = rng.random(n) < 0.8 if 1 < loss.power < 2 else 1.0
        return x, (rng.poisson(mean) if loss.power == 1 else some * rng.gamma(2.0, mean / 2)).astype(float)
    return x, size * (z + rng.standard_t(3, n)) if loss in REAL else (z + rng.logistic(size=n) / 2 > 0).astype(float)


def quadratic(q, rank, free, seed, units=0.0):
    """Return a positive semi-definite matrix, linear terms in its range, and what bends; the first ``free`` do not."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(rank, q)) * 10.0 ** np.linspace(-units, units, q) + rng.normal(size=(rank, 1))
    absolute = np.where(np.arange(q) < free, 0.0, rng.uniform(0.0, 1.5, q) * np.abs(root.T @ root).max(axis=0) / 5)
    return root.T @ root, root.T @ rng.normal(size=rank), absolute, rng.normal(size=q) * rng.integers(0, 2, q)


def to_zarr(a, chunk, path):
    """Write rows in chunks of ``chunk``, with checksums and whatever they hold."""
    array = zarr.create_array(
        store=path,
        shape=a.shape,
        dtype=a.dtype,
        chunks=(chunk, *a.shape[1:]),
        compressors=[zarr.codecs.Crc32cCodec()],
        config={"write_empty_chunks": True},
    )
    array[...] = a
    return array


def add_array(group, name, a, chunks, **options):
    """Write an array with checksums and whatever it holds."""
    array = group.create_array(
        name,
        shape=a.shape,
        dtype=a.dtype,
        chunks=chunks,
        compressors=[zarr.codecs.Crc32cCodec()],
        config={"write_empty_chunks": True},
        **options,
    )
    array[...] = a
    return array


def add_sparse(group, name, x):
    """Write sparse rows as a group within a group."""
    attributes = {"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": list(x.shape)}
    rows = group.create_group(name, attributes=attributes)
    for part in ("data", "indices", "indptr"):
        add_array(rows, part, getattr(x, part), (331,))


def sparse_rows(n, p, seed):
    rng = np.random.default_rng(seed)
    x = sp.random_array((n, p), density=0.2, rng=rng, format="csr", data_sampler=rng.normal)
    x.sum_duplicates()
    return x


def in_columns(path, kind, n=700, **options):
    """Write features of a kind, and return their source and the same features written out."""
    rng = np.random.default_rng(1)
    group = zarr.open_group(path, mode="w")
    add_array(group, "y", rng.integers(0, 2, n).astype(float), (97,))
    if kind == "dense":
        x = rng.normal(size=(n, 33)).astype(np.float32)
        add_array(group, "X", x, (50, 5))
        return dask_gd.open(path, x="X", y="y", **options), x
    if kind == "shards":
        x = rng.normal(size=(n, 33))
        add_array(group, "X", x, (10, 3), shards=(60, 6))
        return dask_gd.open(path, x="X", y="y", **options), x
    if kind == "packed":
        stored = rng.integers(-100, 100, (n, 33)).astype(np.int16)
        add_array(group, "X", stored, (50, 7), attributes={"scale_factor": 0.5, "add_offset": 3.0})
        return dask_gd.open(path, x="X", y="y", **options), stored * 0.5 + 3.0
    a, b = sparse_rows(n, 30, 2), sparse_rows(n, 11, 3)
    add_sparse(group, "a", a)
    add_sparse(group, "b", b)
    if kind == "sparse":
        return dask_gd.open(path, x=["a", "b"], y="y", **options), np.hstack([a.toarray(), b.toarray()])
    number = rng.normal(size=n)
    codes = rng.integers(0, 3, n).astype(np.int8)
    add_array(group, "number", number, (53,))
    add_array(group, "colour", codes, (71,), attributes={"levels": ["r", "g", "b"]})
    source = dask_gd.open(path, x=["number", "colour", "a", "b"], y="y", drop=None, **options)
    return source, np.hstack([number[:, None], np.eye(3)[codes], a.toarray(), b.toarray()])


# References


def sklearn_logistic(x, y, alpha, sample_weight=None, fit_intercept=True):
    total = len(y) if sample_weight is None else sample_weight.sum()
    model = LogisticRegression(
        C=1 / (alpha * total), tol=1e-13, max_iter=1000, solver="newton-cholesky", fit_intercept=fit_intercept
    )
    model.fit(x.astype(float), y, sample_weight=sample_weight)
    return np.append(model.coef_[0], model.intercept_)


def sklearn_ridge(x, y, alpha, sample_weight=None, fit_intercept=True):
    total = len(y) if sample_weight is None else sample_weight.sum()
    model = Ridge(alpha=alpha * total, tol=1e-13, fit_intercept=fit_intercept)
    model.fit(x.astype(float), y, sample_weight=sample_weight)
    return np.append(model.coef_, model.intercept_)


# Clusters and waiting


FORKSERVER = multiprocessing.get_context("forkserver")


def warm():
    """Start the process that others are forked from, unless it runs: it has loaded what they would load each."""
    FORKSERVER.set_forkserver_preload(["distributed", "dask_gd", "sklearn.linear_model", "xarray", "pytest", "psutil"])
    multiprocessing.forkserver.ensure_running()


def forked(function, *arguments):
    """Start a process of its own, which may be killed, that calls a function of a test file."""
    warm()
    process = FORKSERVER.Process(target=function, args=arguments)
    process.start()
    return process


def cluster(workers, threads=1, **options):
    """Start worker processes, on ports that nobody has; a test that harms no worker takes a fixture of conftest.py."""
    warm()
    options = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", **options}
    return LocalCluster(n_workers=workers, threads_per_worker=threads, **options)


def until(condition, seconds=120.0):
    """Return the first true value of ``condition()``; which may take long on a busy machine."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"not so within {seconds:g} s")


def stop(fit, store, after):
    """Stop ``fit(store=...)`` after a step, as if its process had been killed."""

    class Stop(BaseException):
        pass

    def interrupt(event):
        if getattr(event, "iteration", None) == after:
            raise Stop

    with pytest.raises(Stop):
        fit(store=store, callbacks=[interrupt])


def stopped_and_resumed(fit, store, after):
    """Return what ``fit(store=...)`` returns when it goes on from its store, after it was stopped after a step."""
    stop(fit, store, after)
    return fit(store=store)


# Comparisons


def same_bits(a, b):
    np.testing.assert_array_equal(a.parameters, b.parameters)
    np.testing.assert_array_equal(a.history.loss, b.history.loss)
    np.testing.assert_array_equal(a.history.grad_norm, b.history.grad_norm)


def same_run(a, b):
    """Check all but the clock."""
    np.testing.assert_array_equal(a.parameters, b.parameters)
    for name in ("loss", "grad_norm", "step_size"):
        np.testing.assert_array_equal(a.history[name], b.history[name])
    assert (a.reason, a.n_iter) == (b.reason, b.n_iter)


# Stores


def checkpoint(iteration, size=3):
    """Return one whose every array says which iteration it belongs to, so that a mixture would show."""
    arrays = {
        "weights": (("feature",), np.full(size, float(iteration))),
        "feature": (("feature",), np.array([f"x{i}" for i in range(size)], dtype=object)),
        "intercept": ((), np.array(float(iteration))),
        "state/query": (("a", "b"), np.full((2, 2), float(iteration))),
    }
    return Checkpoint(iteration, {"dask_gd": {"reason": None, "number": iteration}}, arrays)


def committed(path, *iterations, **options):
    store = Store(path, **options)
    with store:
        for iteration in iterations:
            store.commit(checkpoint(iteration))
    return store


def same_checkpoint(a, b):
    assert a.iteration == b.iteration
    assert a.attributes == b.attributes
    assert a.arrays.keys() == b.arrays.keys()
    for (dims, array), (other_dims, other) in zip(a.arrays.values(), (b.arrays[key] for key in a.arrays), strict=True):
        assert dims == other_dims
        assert array.shape == other.shape
        if array.dtype.kind in "OUT":
            assert array.tolist() == other.tolist()
        else:
            assert array.dtype.newbyteorder("=") == other.dtype.newbyteorder("=")
            assert array.tobytes() == other.astype(array.dtype).tobytes()
