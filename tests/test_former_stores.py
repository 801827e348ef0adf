"""Stores that former versions have written are gone on from to the same bits."""

from functools import partial

import dask.array as da
import numpy as np
import pytest
from helpers import problem, same_run, stop

import dask_gd
from dask_gd.store.checkpoint_file import decode, encode
from dask_gd.store.store import Store


def give_former_names(path):
    """Rewrite a store as it was when Newton's state had one flag "exact", and passes were not told from samples."""
    store = Store(path)
    for iteration in store.iterations():
        checkpoint = decode(store.file(iteration), iteration)
        arrays = {}
        for name, array in checkpoint.arrays.items():
            if not name.endswith(("refines", "full_passes")):
                arrays[name.replace("own_curvature", "exact")] = array
        assert arrays.keys() != checkpoint.arrays.keys()
        store.file(iteration).write_bytes(encode(checkpoint._replace(arrays=arrays)))


def logistic():
    x, _, y = problem(1000, 60)
    return x, y, {"loss": "logistic", "tol": 1e-14}


def corrected():
    """Steps on samples, and steps over all rows with a sample beside."""
    x, _, y = problem(16_000, 50)
    rows = da.from_array(x, chunks=(500, -1))
    return rows, y, {"loss": "logistic", "tol": 1e-6}


def nearly_collinear():
    """Least squares that are solved in an orthogonal basis."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(500, 6))
    x[:, 5] = x[:, 0] + 1e-7 * rng.normal(size=500)
    y = x @ rng.normal(size=6) + 1e-3 * rng.normal(size=500)
    return x, y, {"tol": 1e-15}


@pytest.mark.parametrize("case", [logistic, nearly_collinear, corrected])
def test_a_fit_goes_on_from_a_state_with_former_names(tmp_path, case):
    x, y, options = case()
    options |= {"solver": "newton"}
    expected = dask_gd.fit(x, y, **options)
    assert expected.n_iter > 1
    for n in range(min(expected.n_iter, 6)):
        path = tmp_path / str(n)
        stop(partial(dask_gd.fit, x, y, **options), path, n)
        give_former_names(path)
        found = dask_gd.fit(x, y, store=path, **options)
        same_run(found, expected)
        np.testing.assert_array_equal(found.history.full_passes, expected.history.full_passes)


def test_a_search_goes_on_from_trials_with_former_names(tmp_path):
    x, _, y = problem(600, 4)
    options = {"loss": "logistic", "solver": "newton", "alphas": [1e-3, 0.1], "folds": 3, "tol": 1e-10}
    expected = dask_gd.search(x, y, **options)
    dask_gd.search(x, y, store=tmp_path, max_iter=2, **options)
    give_former_names(tmp_path)
    found = dask_gd.search(x, y, store=tmp_path, **options)
    np.testing.assert_array_equal(found.scores, expected.scores)
