"""A cluster that is none: this process runs the tasks of weights in blocks, one after the other.

Real clusters are in `test_blocks_cluster.py`. There a task costs some milliseconds, here some microseconds.
"""

import contextlib
import itertools
from types import SimpleNamespace

import dask
import numpy as np
import pytest
import scipy.sparse as sp
import zarr
from dask._task_spec import TaskRef
from dask.delayed import Delayed
from helpers import add_array, add_sparse, sparse_rows

import dask_gd
from dask_gd.fitting import block_fit
from dask_gd.sources import column_grid
from dask_gd.weight_blocks import space
from dask_gd.weight_blocks.owners import bundles_of
from dask_gd.weight_blocks.pieces import Piece, Summands
from dask_gd.weight_blocks.tasks import added, array_of

ADDRESSES = ("here://1", "here://2")
#: Widths of the column blocks: more of them than are added up together, some of a single feature.
WIDTHS = (14, 1, 12, 9, 12)
N = 420


class ClientHere:
    """What weights in blocks need of a client."""

    def __init__(self):
        self.values = {}
        self.tasks = 0
        self.limits = dict.fromkeys(ADDRESSES, 8 << 30)

    def keep(self, value):
        """Return what stands for a value as a future does."""
        self.tasks += 1
        key = f"here-{len(self.values)}"
        self.values[key] = value
        return Delayed(key, {key: dask._task_spec.DataNode(key, value)})

    def value_of(self, argument, beside):
        if isinstance(argument, TaskRef):
            return beside[argument.key]
        if isinstance(argument, Delayed):
            return self.values[argument.key]
        if isinstance(argument, Piece):
            return array_of(self.value_of(argument.handle, beside), argument.path)
        if isinstance(argument, Summands):
            return added(*(self.value_of(piece, beside) for piece in argument.pieces))
        if isinstance(argument, list):
            return [self.value_of(each, beside) for each in argument]
        return argument

    def compute(self, collection, **placement):
        return self.keep(dask.compute(collection, scheduler="sync")[0])

    def run(self, function, *arguments, workers, on_error="raise"):
        return {each: function(*arguments, **_worker(function, each)) for each in workers}

    def nthreads(self):
        return dict.fromkeys(ADDRESSES, 1)

    def scheduler_info(self, n_workers=-1):
        return {"workers": {address: {"memory_limit": limit} for address, limit in self.limits.items()}}


def _worker(function, address):
    if "dask_worker" in getattr(getattr(function, "__code__", None), "co_varnames", ()):
        return {"dask_worker": SimpleNamespace(address=address, transfer_outgoing_bytes_total=0)}
    return {}


class OwnersHere:
    """`Owners` whose workers are this process."""

    def __init__(self, client, blocks, segments, run):
        self.client = client
        self.run = run
        self.workers = list(ADDRESSES)
        self.threads = dict.fromkeys(ADDRESSES, 2)
        self.blocks = blocks
        self.numbers = itertools.count()

    def of_block(self, j):
        return self.workers[0]

    of_segment = of_block

    def bundles(self):
        return bundles_of([self.of_block(j) for j in range(self.blocks)], self.threads)

    def name(self, stage):
        return f"{stage}-{next(self.numbers)}"

    def one_graph(self):
        return contextlib.nullcontext()

    def submit(self, tasks, wanted=None):
        beside = {}
        for key, _, function, arguments in tasks:
            assert key not in beside
            beside[key] = function(*(self.client.value_of(each, beside) for each in arguments))
        return [self.client.keep(beside[key]) for key in (beside if wanted is None else wanted)]

    handed_out = submit

    def compute(self, collection, worker, optimize_graph=True):
        return self.client.compute(collection)

    def forget_past(self):
        pass

    def later(self, futures):
        return SimpleNamespace(results=lambda: self.results(futures))

    def results(self, futures):
        return [self.client.values[future.key] for future in futures]

    def finished(self, futures):
        pass


@pytest.fixture
def here(monkeypatch):
    """Run weights in blocks in this process, with several segments of rows; returns the client."""
    return run_here(monkeypatch.setattr)


def run_here(change=setattr):
    """Run weights in blocks in this process; returns the client."""
    client = ClientHere()
    change(block_fit, "active_client", lambda: client)
    change(block_fit, "threads_of", lambda client, run: client.nthreads())
    change(space, "Owners", OwnersHere)
    change(column_grid, "SEGMENT_ROWS", 150)
    return client


# Data


def write(path, kind="sparse", widths=WIDTHS, n=N):
    """Write features of a kind in columns, and targets of all kinds; return the names of the features."""
    rng = np.random.default_rng(0)
    group = zarr.open_group(path, mode="w")
    names = [f"f{j}" for j in range(len(widths))]
    if kind.startswith("dense"):
        names = "X"
        x = rng.normal(size=(n, 34)) + np.linspace(-1, 1, 34)
        x = x.astype(kind.partition(" ")[2] or float)
        add_array(group, "X", x, (60, 5))
    else:
        parts = [sparse_rows(n, width, j) for j, width in enumerate(widths)]
        for name, part in zip(names, parts, strict=True):
            add_sparse(group, name, part.astype(kind.partition(" ")[2] or float))
        x = sp.hstack(parts)
        if kind == "codes":
            codes = rng.integers(0, 3, n).astype(np.int8)
            number = rng.normal(size=n)
            add_array(group, "colour", codes, (71,), attributes={"levels": ["r", "g", "b"]})
            add_array(group, "number", number, (53,))
            names = ["number", "colour", *names]
            x = sp.hstack([number[:, None], np.eye(3)[codes], x])
    z = x @ rng.normal(size=x.shape[1])
    z = (z - z.mean()) / z.std()
    targets = {
        "real": z + rng.normal(size=n),
        "two": np.stack([z + rng.normal(size=n), 3 - 2 * z + rng.normal(size=n)], axis=1),
        "classes": np.digitize(z + rng.normal(size=n), [-0.5, 0.5]).astype(float),
        "binary": (z + rng.logistic(size=n) > 0).astype(float),
        "count": rng.poisson(np.exp(z / 2)).astype(float),
        "positive": rng.gamma(2.0, np.exp(z / 2) / 2) + 0.01,
        "weight": rng.integers(0, 3, n).astype(float),
        "offset": rng.normal(size=n) / 4,
    }
    for name, target in targets.items():
        add_array(group, name, target, (97, *target.shape[1:]))
    return names


def opened(path, names, y="binary", weight=False, offset=False, **options):
    if weight:
        options["sample_weight"] = "weight"
    if offset:
        options["offset"] = "offset"
    return dask_gd.open(path, x=names, y=y, **options)
