"""The names of features go with the rows, whatever holds them."""

import warnings

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.pipeline import make_pipeline

import dask_gd
from dask_gd.estimators import LogisticRegression, PoissonRegressor, Ridge
from dask_gd.preprocessing import OneHotEncoder, StandardScaler, train_test_split

N, NAMES = 90, ["dist", "car"]
OUT = ["dist", "car_0", "car_1", "car_2"]


@pytest.fixture
def x():
    rng = np.random.default_rng(0)
    return np.stack([rng.normal(100, 5, N), rng.integers(0, 3, N)], axis=1)


def holders(x, tmp_path):
    """Return the same named rows in all that may hold them."""
    frame = pd.DataFrame(x, columns=NAMES).astype({"car": int})
    array = xr.DataArray(x, dims=("row", "feature"), coords={"feature": NAMES}, name="x")
    group = zarr.open_group(tmp_path / "g.zarr", mode="w")
    group.create_array("x", data=x, chunks=(30, 2)).attrs["feature_names"] = NAMES
    return {
        "pandas": frame,
        "dask": dd.from_pandas(frame, npartitions=3),
        "DataArray": array,
        "lazy DataArray": array.chunk(row=30),
        "zarr": group["x"],
    }


KINDS = ["pandas", "dask", "DataArray", "lazy DataArray", "zarr"]


def names_of(data):
    return [str(name) for name in (data.columns if hasattr(data, "columns") else data.feature.values)]


@pytest.mark.parametrize("kind", KINDS)
def test_names_survive_split_scaler_encoder_and_pipeline_found_19(kind, x, tmp_path):
    data = holders(x, tmp_path)[kind]
    y = x[:, 0] / 5 + x[:, 1]
    train, test = train_test_split(data)
    assert names_of(train) == names_of(test) == NAMES
    plain_train, plain_test = train_test_split(x)
    assert_array_equal(np.asarray(test), plain_test)
    scaler = StandardScaler(columns=["dist"]).fit(train)
    scaled = scaler.transform(train)
    assert names_of(scaled) == NAMES
    assert scaler.feature_names_in_.tolist() == NAMES
    assert names_of(scaler.inverse_transform(scaled)) == NAMES
    encoder = OneHotEncoder(columns=["car"]).fit(scaled)
    wide = encoder.transform(scaled)
    assert names_of(wide) == OUT == encoder.get_feature_names_out().tolist()
    plain = OneHotEncoder(columns=[1]).fit_transform(StandardScaler(columns=[0]).fit_transform(plain_train))
    assert_allclose(np.asarray(wide), plain, rtol=1e-12)
    model = make_pipeline(StandardScaler(columns=["dist"]), OneHotEncoder(columns=["car"]), Ridge())
    model.fit(train, train_test_split(y)[0])
    assert model[-1].feature_names_in_.tolist() == OUT
    assert model[:-1].get_feature_names_out().tolist() == OUT
    assert len(np.asarray(model.predict(test))) == len(plain_test)
    run = dask_gd.fit(wide, train_test_split(y)[0], penalty=dask_gd.L2(1.0))
    assert run.weights.feature.values.tolist() == OUT


def test_parts_of_a_dask_frame_are_frames_with_their_index_and_dtypes_found_19(x):
    frame = pd.DataFrame(x, columns=NAMES).astype({"car": "Int64"}).assign(who="a")
    frame.index = frame.index + 1000
    lazy = dd.from_pandas(frame, npartitions=4)
    parts, own = train_test_split(lazy, lazy["car"]), train_test_split(frame, frame["car"])
    for part, expected in zip(parts, own, strict=True):
        found = part.compute()
        assert found.index.tolist() == expected.index.tolist()
        assert_array_equal(found.to_numpy(object), expected.to_numpy(object))
    # Which partitions are asked for does not change which rows these are.
    assert parts[0].partitions[2].compute().index.isin(own[0].index).all()
    assert len(parts[0].partitions[2]) + len(parts[1].partitions[2]) == len(lazy.partitions[2])


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_the_feature_coordinate_that_xarray_writes_is_read_by_open_found_19(zarr_format, x, tmp_path):
    ds = xr.Dataset({"x": (("row", "feature"), x), "y": ("row", x[:, 0])}, {"feature": NAMES})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr's, that strings have no specification yet
        ds.to_zarr(tmp_path / "d.zarr", zarr_format=zarr_format, consolidated=False)
    source = dask_gd.open(tmp_path / "d.zarr", x="x", y="y")
    assert source.feature_names == tuple(NAMES)
    assert dask_gd.fit(ds.x, ds.y).weights.feature.values.tolist() == NAMES


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32], ids=str)
def test_predictions_are_float32_for_float32_features_found_19(dtype, x, tmp_path):
    x = (x - 90).astype(dtype)
    expected = np.float32 if x.dtype.kind == "f" and x.itemsize <= 4 else np.float64
    y = (x[:, 1] > x[:, 1].mean() - 0.5) * 1
    lazy = da.from_array(x, chunks=(30, 2))
    stored = zarr.create_array(tmp_path / "x.zarr", data=x, chunks=(30, 2))
    ds = xr.Dataset({name: ("row", x[:, j]) for j, name in enumerate(NAMES)})
    labelled = xr.DataArray(x, dims=("row", "feature"), coords={"feature": NAMES})
    run = dask_gd.fit(labelled, y, loss="logistic", max_iter=3)
    for data in (x, lazy, stored, xr.DataArray(x), xr.DataArray(lazy), ds, ds.chunk(row=30)):
        prediction = run.predict(data)
        assert prediction.dtype == np.asarray(prediction).dtype == expected
    for data in (x, lazy, stored):
        prediction = run.predict(data, np.ones(N))
        assert prediction.dtype == np.asarray(prediction).dtype == expected
    model = LogisticRegression(max_iter=50, tol=1e-3).fit(lazy, y)
    for of in (model.predict_proba, model.predict_log_proba, model.decision_function):
        assert of(lazy).dtype == np.asarray(of(lazy)).dtype == expected
        if dtype is not np.float16:
            assert of(x).dtype == expected
    assert PoissonRegressor().fit(lazy, y).predict(lazy).compute().dtype == expected
