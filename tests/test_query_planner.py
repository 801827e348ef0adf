"""Arrays of Dask's query planner give the bits of classic ones (FOUND 16)."""

import os
import subprocess
import sys

FITS = """
import dask.array as da, numpy as np, xarray as xr, zarr, sys, hashlib
import dask_gd
rng = np.random.default_rng(0)
x = rng.normal(size=(3000, 5))
y = (x[:, 0] + rng.normal(size=3000) > 0).astype(float)
X, Y = da.from_array(x, chunks=(500, 3)), da.from_array(y, chunks=700)
dataset = xr.Dataset({"a": ("row", X[:, 0]), "b": ("row", X[:, 1]), "y": ("row", Y)})
found = [
    dask_gd.fit(X, Y, loss="logistic").parameters,
    dask_gd.fit(X, Y, loss="logistic", solver="sgd", max_iter=5).parameters,
    dask_gd.fit(dataset, features=["a", "b"], target="y", sample_dims="row").parameters,
    dask_gd.search(X, Y, alphas=[0.1, 1.0]).scores.values,
    dask_gd.fit(X, Y).predict(X).compute(),
    dask_gd.infer(dask_gd.fit(X, Y), X, Y).table.standard_error.values,
]
print(type(X).__module__)
print(hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in found)).hexdigest())
"""


def bits(planner):
    env = os.environ | {"DASK_ARRAY__QUERY_PLANNING": str(planner)}
    run = subprocess.run([sys.executable, "-c", FITS], env=env, capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


def test_arrays_of_the_query_planner_give_the_same_bits():
    classic, planned = bits(False), bits(True)
    assert classic[0] != planned[0]
    assert classic[1] == planned[1]
