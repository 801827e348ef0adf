"""Targets without any value (FOUND 20): their coefficients are NaN, the others are what they are alone."""

import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from numpy.testing import assert_array_equal

import dask_gd
from dask_gd.errors import NonFiniteError
from dask_gd.estimators import LinearRegression, Ridge

N, ABSENT = 120, [1, 3]
PRESENT = [0, 2]


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 3))
    y = x @ rng.normal(size=(3, 4)) + rng.normal(size=(N, 4))
    y[:, ABSENT] = np.nan
    y[7, 0] = np.nan
    return x, y


def in_zarr(a, tmp_path, name):
    return zarr.create_array(tmp_path / name, data=a, chunks=(30, a.shape[1]))


@pytest.mark.parametrize("kind", ["numpy", "dask", "zarr"])
@pytest.mark.parametrize("loss", ["squared", "huber"])
def test_the_others_are_fitted_as_if_alone_found_20(loss, kind, problem, tmp_path, caplog):
    x, y = problem
    hold = {
        "numpy": lambda a, name: a,
        "dask": lambda a, name: da.from_array(a, chunks=(30, -1)),
        "zarr": lambda a, name: in_zarr(a, tmp_path, name),
    }[kind]
    rows = hold(x, "x")
    run = dask_gd.fit(rows, hold(y, "y"), loss=loss, nan="drop")
    alone = dask_gd.fit(rows, hold(np.ascontiguousarray(y[:, PRESENT]), "alone"), loss=loss, nan="drop")
    assert_array_equal(run.weights.values[:, PRESENT], alone.weights.values)
    assert_array_equal(run.intercept.values[PRESENT], alone.intercept.values)
    assert np.isnan(run.weights.values[:, ABSENT]).all()
    assert np.isnan(run.intercept.values[ABSENT]).all()
    # A row that lacks one of the others is left out for all.
    assert run.dropped == alone.dropped == 1
    assert "Targets 1, 3 are NaN in all rows" in caplog.text
    prediction = run.predict(x)
    assert_array_equal(prediction[:, PRESENT], alone.predict(x))
    assert np.isnan(prediction[:, ABSENT]).all()


def test_a_single_target_that_is_left_keeps_its_place(problem):
    x, y = problem
    y[:, 2] = np.nan
    run = dask_gd.fit(x, y, nan="drop")
    assert run.weights.shape == (3, 4)
    assert_array_equal(run.weights.values[:, 0], dask_gd.fit(x, y[:, 0], nan="drop").weights.values)


def test_a_map_of_the_land_is_fitted_from_a_dataset_found_20(caplog):
    rng = np.random.default_rng(0)
    t = np.arange(40.0)
    ds = xr.Dataset({"t": ("time", t)})
    for name, slope in (("land", 2.0), ("sea", np.nan)):
        ds[name] = ("time", slope * t + rng.normal(size=40))
    arguments = {"features": "t", "sample_dims": "time", "nan": "drop"}
    for data in (ds, ds.chunk(time=10)):
        run = dask_gd.fit(data, target=["land", "sea"], **arguments)
        alone = dask_gd.fit(data, target="land", **arguments)
        assert_array_equal(run.weights.sel(output="land"), alone.weights)
        assert np.isnan(run.weights.sel(output="sea")).all()
    assert "Targets 'sea' are NaN" in caplog.text


def test_a_store_and_a_start_hold_all_targets(problem, tmp_path):
    x, y = problem
    store = tmp_path / "run"
    whole = dask_gd.fit(x, y, nan="drop", loss="huber", store=tmp_path / "whole")
    dask_gd.fit(x, y, nan="drop", loss="huber", store=store, max_iter=2)
    resumed = dask_gd.fit(x, y, nan="drop", loss="huber", store=store)
    assert_array_equal(resumed.weights.values, whole.weights.values)
    assert dask_gd.load(store).weights.identical(resumed.weights)
    again = dask_gd.fit(x, y, nan="drop", loss="huber", initial_weights=whole)
    assert again.n_iter <= 1


def test_searches_inference_and_estimators_leave_them_out_too(problem):
    x, y = problem
    alone = np.ascontiguousarray(y[:, PRESENT])
    found = dask_gd.search(x, y, alphas=[0.1, 1.0], nan="drop", folds=3)
    assert_array_equal(found.scores, dask_gd.search(x, alone, alphas=[0.1, 1.0], nan="drop", folds=3).scores)
    for refitted in (found.refit(), found.refit(x, y, nan="drop")):
        assert refitted.weights.shape == (3, 4)
        assert np.isnan(refitted.weights.values[:, ABSENT]).all()
    run = dask_gd.fit(x, y, nan="drop")
    table = dask_gd.infer(run, x, y, nan="drop").table
    assert table.output.values.tolist() == PRESENT
    expected = dask_gd.infer(dask_gd.fit(x, alone, nan="drop"), x, alone, nan="drop").table
    assert_array_equal(table.standard_error, expected.standard_error)
    source, own = (dask_gd.sources.as_source(x, target, nan="drop") for target in (y, alone))
    for model in (Ridge(alpha=5.0), LinearRegression()):
        coef = model.fit(source).coef_.copy()
        assert_array_equal(coef[PRESENT], model.fit(own).coef_)
        assert np.isnan(coef[ABSENT]).all()


def test_where_no_target_has_a_value_the_fit_is_refused(problem):
    x, y = problem
    with pytest.raises(NonFiniteError, match="leaves none to fit"):
        dask_gd.fit(x, np.full_like(y, np.nan), nan="drop")
    with pytest.raises(NonFiniteError, match="row 0"):
        dask_gd.fit(x, y)
