"""Clicks: which advertisement is clicked, where and by whom? From crossed categories, hashed into 2^24 columns.

    python examples/clicks.py [--rows 1000000] [--bits 24]

A row is an advertisement that was shown: its number and topic, the site, the reader, the device and the hour, drawn
here from a model in which topics suit some sites and some readers better than others. What suits what, only crossings
tell, and of these there are millions. So six columns and five crossings are hashed, out of core, into 2^24 columns,
and these are stored in blocks of columns.

A vector of 2^24 weights takes 134 MB. L-BFGS with two pairs of changes has ten of them at its peak, 1.3 GB: more than
each of the two workers here may take (1 GB), and than this process should. With ``weights="blocks"`` a worker has the
weights of its own columns, and all else that the solver keeps of them; the weights are in one place neither during the
fit nor after it.

The last fifth of the rows is held out. What crossings add is told by a fit without them, and by the share of clicks.
"""

import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dask.dataframe as dd
import numpy as np
import pandas as pd
import zarr
from dask.distributed import Client, LocalCluster
from sklearn.feature_extraction import FeatureHasher
from sklearn.metrics import log_loss, roc_auc_score

import dask_gd

LEVELS = {"site": 2_000, "reader": 300_000, "ad": 20_000, "device": 12, "hour": 24}
TOPICS = 20
COLUMNS = [*LEVELS, "topic"]
CROSSINGS = [("site", "topic"), ("reader", "topic"), ("ad", "device"), ("site", "ad"), ("reader", "site")]
#: How much of the log odds of a click each effect makes, as a standard deviation.
EFFECTS = {("site",): 0.5, ("reader",): 0.5, ("ad",): 0.3, ("site", "topic"): 1.3, ("reader", "topic"): 1.5}
PARTS = 20
#: A level's weight is moved towards 0 as if by so many rows that say nothing.
PENALTY_ROWS = 3


def effect(*levels: np.ndarray) -> np.ndarray:
    """A number for each row, of mean 0 and variance 1, that is the same wherever all levels are the same."""
    mixed = np.full(len(levels[0]), len(levels), np.uint64)
    for level in levels:
        mixed = (mixed ^ level.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return np.sqrt(12) * ((mixed >> np.uint64(11)) / 2.0**53 - 0.5)


def impressions(part: int, rows: int) -> pd.DataFrame:
    """The rows of a part: few sites, readers and advertisements are there often, and many seldom."""
    rng = np.random.default_rng([3, part])
    frame = pd.DataFrame({name: (n * rng.random(rows) ** 3).astype(np.int32) for name, n in LEVELS.items()})
    frame["topic"] = frame["ad"] % TOPICS
    odds = np.full(rows, -2.5)
    for names, size in EFFECTS.items():
        odds += size * effect(*(frame[name].to_numpy() for name in names))
    return frame.assign(click=(odds + rng.logistic(size=rows) > 0).astype(float))


def score(name: str, clicks: np.ndarray, probability: np.ndarray) -> None:
    """Print how well probabilities foretell clicks."""
    print(f"  {name:28s} log loss {log_loss(clicks, probability):.4f}   AUC {roc_auc_score(clicks, probability):.4f}")


@contextmanager
def workers() -> Iterator[None]:
    """Two fresh workers of 1 GB."""
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit="1GB", host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
    ):
        print(f"Dask's dashboard: {client.dashboard_link}")
        yield


def main(directory: Path, options: Namespace) -> None:
    rows = options.rows // PARTS
    table = dd.from_map(impressions, range(PARTS), rows=rows, meta=impressions(0, 1))
    train = slice(0, rows * (PARTS * 4 // 5))
    test = slice(train.stop, rows * PARTS)

    # Once, part by part on the workers. One hasher object for all: they share its columns.
    with workers():
        columns = dict.fromkeys([*COLUMNS, *CROSSINGS], FeatureHasher(n_features=2**options.bits))
        hashed = dask_gd.hash_features(table, directory / "hashed.zarr", columns, y="click")
        blocks = dask_gd.block_columns(dask_gd.open(hashed, x="X", y="y"), directory / "blocks.zarr")
        # The columns alone need no more than 2^20.
        columns = dict.fromkeys(COLUMNS, FeatureHasher(n_features=2**20))
        alone = dask_gd.hash_features(table, directory / "alone.zarr", columns, y="click")

    penalty = dask_gd.L2(PENALTY_ROWS / train.stop)
    arguments = {"loss": "logistic", "penalty": penalty, "solver": dask_gd.LBFGS(memory=2), "tol": options.tol}
    with workers():
        source = dask_gd.open(blocks, x="X", y="y", rows=train)
        run = dask_gd.fit(source, weights="blocks", store=directory / "run", callbacks=[print], **arguments)
        print(f"\n{run.weights}\n")
        crossed = run.predict(dask_gd.open(blocks, x="X", y="y", rows=test)).compute()

        run = dask_gd.fit(dask_gd.open(alone, x="X", y="y", rows=train), **arguments)
        single = run.predict(dask_gd.open(alone, x="X", y="y", rows=test)).compute()

    clicks = zarr.open_array(blocks, path="y", mode="r")[:]
    print(f"of {len(crossed):,} rows that no fit has seen")
    score("columns and crossings", clicks[test], crossed)
    score("columns alone", clicks[test], single)
    score("the share of clicks", clicks[test], np.full(len(crossed), clicks[train].mean()))


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--bits", type=int, default=24, help="features are hashed into 2^bits columns")
    parser.add_argument("--tol", type=float, default=1e-3)
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(temporary), parser.parse_args())
