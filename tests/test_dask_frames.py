"""Frames of Dask keep their partitions, of which Dask would join some where few columns of Parquet are read."""

from itertools import pairwise

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import zarr
from numpy.testing import assert_allclose, assert_array_equal

import dask_gd
from dask_gd.preprocessing import TargetEncoder, train_test_split

N = 500
#: Where the files begin; they are of different lengths.
STARTS = (0, 80, 200, 220, 400, N)
FEATURES = ["distance", "origin"]

# A warning of pandas about Dask's reader of Parquet.
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword:pandas.errors.Pandas4Warning")

FRAMES = {
    "as read": lambda frame: frame,
    "with another column": lambda frame: frame.assign(twice=frame.distance * 2),
    "of some rows": lambda frame: frame[frame.distance > -99],
    "repartitioned": lambda frame: frame.repartition(npartitions=3),
}


@pytest.fixture(scope="module")
def flights():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"distance": rng.normal(size=N), "origin": rng.choice(["ATL", "BOS", "JFK", "SFO"], N)})
    # Columns that are not asked for, so that Dask joins the partitions of the others.
    for name in ("first", "second", "third"):
        frame[name] = rng.normal(size=N)
    frame["delay"] = frame.distance + (frame.origin == "JFK") + rng.normal(size=N)
    return frame


@pytest.fixture(scope="module", params=FRAMES)
def files(request, flights, tmp_path_factory):
    path = tmp_path_factory.mktemp("files")
    for i, (start, stop) in enumerate(pairwise(STARTS)):
        flights[start:stop].to_parquet(path / f"{i}.parquet")
    return FRAMES[request.param](dd.read_parquet(path))


def test_a_fit_and_its_predictions_are_those_of_the_frame_in_memory(flights, files):
    run = dask_gd.fit(flights, features=FEATURES, target="delay")
    other = dask_gd.fit(files, features=FEATURES, target="delay")
    assert_allclose(other.parameters, run.parameters, rtol=1e-9)
    assert_allclose(other.predict(files).compute(), run.predict(flights), rtol=1e-9)
    beside = dask_gd.fit(files[FEATURES], files["delay"])
    assert_allclose(beside.parameters, run.parameters, rtol=1e-9)


def test_an_encoder_and_a_split_know_the_rows_of_each_partition(flights, files):
    # The fold of a row follows from its number.
    columns = ["origin", "distance"]
    encoded = TargetEncoder(columns=["origin"]).fit_transform(files[columns], files["delay"])
    expected = TargetEncoder(columns=["origin"]).fit_transform(flights[columns], flights["delay"])
    assert_allclose(encoded.compute(), expected, rtol=1e-9)
    parts = train_test_split(files[FEATURES], files["delay"], seed=0)
    for part, of_memory in zip(parts, train_test_split(flights[FEATURES], flights["delay"], seed=0), strict=True):
        assert_array_equal(part.compute(), of_memory)
    # Rows that were split off are fitted as any others.
    run = dask_gd.fit(parts[0], parts[2])
    of_memory = train_test_split(flights[FEATURES], flights["delay"], seed=0)
    assert_allclose(run.parameters, dask_gd.fit(of_memory[0], of_memory[2]).parameters, rtol=1e-9)


def test_a_table_has_the_rows_of_the_frame(flights, files, tmp_path):
    group = zarr.open_group(dask_gd.write_table(files[FEATURES], tmp_path / "flights.zarr"), mode="r")
    assert_array_equal(group["distance"], flights["distance"])
    levels = np.array(group["origin"].attrs["levels"])
    assert_array_equal(levels[group["origin"][:]], flights["origin"])
