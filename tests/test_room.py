"""More levels, or features, than there is memory for are refused by name, before the first step."""

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import zarr
from dask.distributed import Client
from helpers import to_zarr

import dask_gd
from dask_gd.errors import DataError
from dask_gd.fitting import room as fitting_room
from dask_gd.fitting.room import need_of
from dask_gd.solvers import LBFGS, Newton, NewtonSchur
from dask_gd.sources import room
from dask_gd.sources.room import LEVEL_BYTES, NAME_BYTES, bytes_of_levels, in_words

N = 4000
IN_PROCESS = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": "127.0.0.1:0"}


@pytest.fixture
def memory(monkeypatch):
    """Say how much memory this process has."""

    def set_to(nbytes):
        for module in (room, fitting_room):
            monkeypatch.setattr(module, "memory_of_process", lambda: nbytes)

    return set_to


@pytest.fixture(scope="module")
def frame():
    """Each user has two rows."""
    rng = np.random.default_rng(0)
    user = np.char.add("user", (rng.permutation(N) // 2).astype(str))
    item = rng.integers(0, 5, N)
    return pd.DataFrame({"user": user, "item": item, "y": rng.normal(size=N)})


def coded(path, levels, n=N, declared=None):
    """Write codes with their categories as anndata does, of which none is stored if they are ``declared`` only."""
    group = zarr.open_group(path, mode="w")
    rng = np.random.default_rng(1)
    to_zarr(rng.permutation(np.arange(n) % levels).astype("int32"), 1000, path / "user" / "codes")
    to_zarr(rng.normal(size=n), 1000, path / "y")
    user = group.require_group("user")
    if declared is None:
        to_zarr(np.arange(levels), levels, path / "user" / "categories")
    else:
        user.create_array("categories", shape=(declared,), dtype="int64", chunks=(1 << 20,))
    return path


def test_levels_that_are_stored_are_refused_before_they_are_read(tmp_path):
    path = coded(tmp_path, 10, declared=10**13)
    with pytest.raises(DataError, match=r"Column 'user' has 10,000,000,000,000 lev.*take 1.5 PB.*min_frequency"):
        dask_gd.open(path, x=["user"], y="y")


@pytest.mark.parametrize("partitions", [0, 4], ids=["pandas", "dask"])
def test_levels_that_are_learnt_are_refused_where_their_count_leaves_no_room(partitions, frame, memory):
    data = frame
    if partitions:
        data = dd.from_pandas(frame, npartitions=partitions)
    counts = dict.fromkeys(frame.user, 2)
    # The levels of all rows do not fit twice, those of a partition do.
    memory(2 * bytes_of_levels(counts) - 1)
    with pytest.raises(DataError, match=r"Column 'user' has [12],[0-9]{3} levels or more.* kB.*hash_feat"):
        dask_gd.fit(data, features=["user"], target="y")
    with pytest.raises(DataError, match=r"Column 'user:item' has .* levels or more"):
        dask_gd.fit(data, features=["user:item"], target="y", categorical=["item"])


def test_combinations_that_do_not_occur_take_no_room(frame, memory):
    # There are as many combinations as rows, of four million that there could be.
    both = frame.assign(other=frame.user.to_numpy()[::-1])
    memory(64 << 20)
    run = dask_gd.fit(both, features=["user:other"], target="y", penalty=dask_gd.L2(0.1), max_iter=1)
    assert N // 2 <= run.weights.size <= N


def test_a_worker_that_runs_out_while_levels_are_counted_names_the_column(frame, memory):
    data = dd.from_pandas(frame, npartitions=4)
    # A limit below what this process takes at any rate would pause the worker.
    memory(200_000)
    with (
        Client(**IN_PROCESS),
        pytest.raises(DataError, match=r"'user' has .* or more.* wor"),
    ):
        dask_gd.fit(data, features=["user"], target="y")


def test_a_worker_that_has_no_room_for_a_step_is_named_before_the_first(tmp_path):
    source = dask_gd.open(coded(tmp_path, 3000), x=["user"], y="y")
    events = []
    with Client(memory_limit=100_000, **IN_PROCESS):
        message = "Column 'user' has 3,000 levels, of 3,000 features in all, .* worker inproc://.* has 100.0 kB.*min_f"
        with pytest.raises(DataError, match=message):
            dask_gd.fit(source, penalty=dask_gd.L2(0.1), callbacks=[events.append])
    assert not events


def test_what_the_client_needs_grows_with_the_outputs_and_the_solver(tmp_path, memory):
    source = dask_gd.open(coded(tmp_path, 1000), x=["user"], y="y")
    options = {"penalty": dask_gd.L2(0.1), "solver": "lbfgs", "max_iter": 1}
    need = need_of(dask_gd.Squared(), LBFGS(), 1001, 1, source.partitions)
    enough = sum(need) + (LEVEL_BYTES + NAME_BYTES) * 1000
    memory(enough)
    assert dask_gd.fit(source, **options).n_iter == 1
    memory(enough - 1)
    with pytest.raises(DataError, match=f"take {in_words(enough)} of memory at least; this process has"):
        dask_gd.fit(source, **options)
    # A matrix of all pairs of levels is another matter.
    memory(1 << 20)
    with pytest.raises(DataError, match=r"'user' has 1,000 levels.*matrix of all pairs of features: choose"):
        dask_gd.fit(source, penalty=dask_gd.L2(0.1), solver="newton")
    with pytest.raises(DataError, match="a search needs it for a squared loss"):
        dask_gd.search(source, alphas=[0.1], folds=3)
    assert dask_gd.fit(source, **options).n_iter == 1


def test_needs_follow_from_the_solver_and_the_partitions():
    logistic = dask_gd.Logistic()
    q = 10**6
    one = need_of(logistic, NewtonSchur(), q, 1, partitions=1)
    lean = need_of(logistic, NewtonSchur(), q, 1, partitions=9)
    assert one.task == 8 * q + 40 * q
    assert lean.task == 3 * 40 * q
    assert need_of(logistic, LBFGS(), q, 1, 9).task == 3 * 24 * q
    assert need_of(logistic, LBFGS(), q, 1, 9).client == lean.client + 20 * 8 * q
    assert need_of(logistic, Newton(), q, 1, 9).task == 3 * (24 * q + 8 * q * q)
    assert need_of(dask_gd.Softmax(4), Newton(), q, 4, 1).task == 4 * 16 * q + 16 * q + 6 * 8 * q * q


def test_rows_without_factors_name_their_features(memory):
    x = scipy.sparse.random_array((50, 1 << 20), density=1e-5, rng=np.random.default_rng(0), format="csr")
    memory(100 << 20)
    with pytest.raises(DataError, match=r"x has 1,048,576 features, which take .* MB.*Hash them to fewer"):
        dask_gd.fit(x, np.arange(50.0), penalty=dask_gd.L2(0.1), solver="lbfgs")
