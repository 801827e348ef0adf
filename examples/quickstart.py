"""The main job on real data: will a flight be 15 minutes late or more?

    python examples/quickstart.py [--store DIRECTORY]

Fits a logistic regression to the first 240,000 flights of data/flights.zarr on a cluster of processes on this machine,
with every iteration safe on disk; loads the stored run, predicts the 60,000 later flights that it has not seen, and
compares with scikit-learn, in memory, on the same rows.

The features are a number, the distance, and four categories. They are stored as codes, and stay codes: no column of 0
and 1 is ever made of them, but for scikit-learn, to compare.
"""

import tempfile
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import zarr
from dask.distributed import Client, LocalCluster
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.preprocessing import OneHotEncoder

import dask_gd

FLIGHTS = Path(__file__).parents[1] / "data" / "flights.zarr"
FACTORS = ["hour", "weekday", "origin", "destination"]
COLUMNS = ["distance", *FACTORS]
TRAIN, TEST = slice(0, 240_000), slice(240_000, None)
ALPHA = 1e-5


def indicators() -> tuple[sparse.csr_array, np.ndarray]:
    """The features as scikit-learn takes them, sparse columns of 0 and 1 beside the distance, and which were late."""
    flights = zarr.open_group(FLIGHTS, mode="r")
    codes = np.stack([flights[name][:] for name in FACTORS], axis=1)
    levels = [np.arange(len(flights[name].attrs["levels"])) for name in FACTORS]
    columns = OneHotEncoder(categories=levels, drop="first").fit_transform(codes)
    distance = flights["distance"][:].astype(float)
    return sparse.hstack([distance[:, None], columns], format="csr"), flights["late"][:]


def main(store: str) -> None:
    # Without a feature, the first level of a category is what the others are compared with: 6 o'clock, Monday, Chicago.
    train = dask_gd.open(FLIGHTS, x=COLUMNS, y="late", rows=TRAIN, drop="first")
    test = dask_gd.open(FLIGHTS, x=COLUMNS, y="late", rows=TEST, drop="first")
    print(train)

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        print(f"Dask's dashboard: {client.dashboard_link}\n")
        # Newton's method takes its first steps on some of the rows; the last are on all.
        dask_gd.fit(train, loss="logistic", penalty=dask_gd.L2(ALPHA), store=store, callbacks=[print])
        run = dask_gd.load(store)
        probability = run.predict(test).compute()

    print(f"\nThe run is stored in {store}; dask_gd.load() gives it back, and so does xarray:")
    print(f"  xarray.open_zarr(zarr.storage.ZipStore({str(dask_gd.Store(store).file(run.n_iter))!r}))\n")
    largest = run.weights.isel(feature=np.argsort(-abs(run.weights.values))[:8])
    print("The largest weights, in log odds of being late:")
    for name, weight in zip(largest.feature.values, largest.values, strict=True):
        print(f"  {name:20s} {weight:+.3f}")

    x, late = indicators()
    peer = LogisticRegression(C=1 / (ALPHA * TRAIN.stop), solver="newton-cholesky").fit(x[TRAIN], late[TRAIN])
    print(f"\non the {len(late) - TRAIN.stop:,} later flights   accuracy      AUC")
    for name, p in (("dask_gd", probability), ("scikit-learn", peer.predict_proba(x[TEST])[:, 1])):
        print(f"{name:31s} {accuracy_score(late[TEST], p >= 0.5):.4f}   {roc_auc_score(late[TEST], p):.4f}")
    print(f"{'always on time':31s} {np.mean(late[TEST] == 0):.4f}   0.5000")


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--store", help="where to keep the run (default: a temporary directory)")
    main(parser.parse_args().store or tempfile.mkdtemp(prefix="flights-run-"))
