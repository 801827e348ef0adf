"""A model for each cell of a target: agreement with peers cell by cell, whatever chunks, gaps and the cluster are."""

import json
import logging

import numpy as np
import pytest
import statsmodels.api as sm
import xarray as xr
from dask.distributed import Client
from helpers import cluster
from sklearn.linear_model import Ridge

import dask_gd
from dask_gd.errors import DataError, InvalidArgumentError, NonFiniteError
from dask_gd.kernels.cell_design import design_of
from dask_gd.kernels.cell_own_sums import make_sums
from dask_gd.kernels.cell_solution import estimates_of
from dask_gd.passes.cells import walk, work_of
from dask_gd.sources.cells import cell_source

T, LAT, LON = 120, 7, 9
FEATURES = ["trend", "s1", "index"]
NAMES = ("weights", "intercept", "standard_error", "dispersion", "loss", "rsquared", "nobs", "dof", "status")


def maps(gaps=0.05, offset=273.0, dtype="f4", seed=0):
    """Return a Dataset with sea, gaps, a nearly empty cell, and a cell in whose rows two features are collinear."""
    rng = np.random.default_rng(seed)
    t = np.arange(T)
    shared = {"trend": 1e4 + t / 10, "s1": np.where(t < 60, 0.0, np.sin(t)), "index": rng.normal(size=T)}
    x = np.stack(list(shared.values()), axis=1)
    values = (x - x.mean(axis=0)) @ rng.normal(size=(3, LAT * LON)) + rng.normal(size=(T, LAT * LON))
    values = (offset + values).astype(dtype).reshape(T, LAT, LON)
    values[rng.random(values.shape) < gaps] = np.nan
    values[:, :2, :4] = np.nan
    values[4:, 3, 3] = np.nan
    values[60:, 4, 4] = np.nan
    coords = {
        "time": t,
        "lat": np.linspace(-60, 60, LAT),
        "lon": np.arange(LON) * 40.0,
        "area": (("lat", "lon"), np.ones((LAT, LON))),
    }
    attrs = {"units": "K", "long_name": "temperature"}
    arrays = {"t2m": (("time", "lat", "lon"), values, attrs), **{name: ("time", v) for name, v in shared.items()}}
    return xr.Dataset(arrays, coords=coords)


def fitted(ds, **options):
    arguments = {"features": FEATURES, "target": "t2m", "sample_dims": "time", "nan": "drop", **options}
    return dask_gd.fit(ds, **arguments)


def same_bits(a, b):
    for name in a.table.data_vars:
        np.testing.assert_array_equal(a.table[name].values, b.table[name].values, err_msg=name)


def close(a, b, rtol=1e-9):
    for name in NAMES:
        left, right = a.table[name].transpose(*b.table[name].dims).values, b.table[name].values
        np.testing.assert_allclose(left, right, rtol=rtol, atol=rtol * np.nanmax(np.abs(right)), err_msg=name)


def stored(ds, path, chunks, **encoding):
    ds.to_zarr(path, encoding={"t2m": {"chunks": chunks, **encoding}}, consolidated=False)
    return xr.open_zarr(path, consolidated=False)


def by_dask(ds):
    """Have Dask make the target's blocks, with a step after reading."""
    return ds.assign(t2m=ds.t2m.copy(data=ds.t2m.data.map_blocks(np.copy)))


def test_each_cell_is_what_statsmodels_has_of_it():
    ds = maps()
    run = fitted(ds)
    table = dask_gd.infer(run)
    x = np.column_stack([ds[name] for name in FEATURES])
    compared = 0
    for i in range(LAT):
        for j in range(LON):
            y = ds.t2m.values[:, i, j].astype(float)
            rows = ~np.isnan(y)
            cell = {"lat": i, "lon": j}
            if rows.sum() == 0:
                assert run.status[cell] == 1
                assert run.weights[cell].isnull().all()
                assert run.nobs[cell] == 0
                continue
            if (i, j) in ((3, 3), (4, 4)):
                assert run.status[cell] == (2 if (i, j) == (3, 3) else 3)
                assert run.intercept[cell].isnull()
                assert run.nobs[cell] == rows.sum()
                continue
            # About their means, where statsmodels keeps its digits.
            centre = x[rows].mean(axis=0)
            peer = sm.OLS(y[rows], np.column_stack([x[rows] - centre, np.ones(rows.sum())])).fit()
            slopes = peer.params[:3]
            np.testing.assert_allclose(run.weights[cell], slopes, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(run.intercept[cell], peer.params[3] - slopes @ centre, rtol=1e-9)
            np.testing.assert_allclose(run.standard_error[cell][:3], peer.bse[:3], rtol=1e-9)
            np.testing.assert_allclose(run.rsquared[cell], peer.rsquared, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(run.dispersion[cell], peer.scale, rtol=1e-9)
            np.testing.assert_allclose(run.loss[cell], peer.ssr / peer.nobs / 2, rtol=1e-9)
            assert (run.nobs[cell], run.dof[cell]) == (peer.nobs, peer.df_resid)
            np.testing.assert_allclose(table.p_value[cell][:3], peer.pvalues[:3], rtol=1e-7, atol=1e-300)
            bounds = [table.lower[cell][:3], table.upper[cell][:3]]
            np.testing.assert_allclose(np.transpose(bounds), peer.conf_int()[:3], rtol=1e-8, atol=1e-9)
            compared += 1
    assert compared == LAT * LON - 8 - 2


def test_the_intercept_has_statsmodels_error():
    ds = maps(gaps=0.0)
    ds["trend"] = ds.trend - 1e4
    run = fitted(ds)
    x = np.column_stack([*(ds[name] for name in FEATURES), np.ones(T)])
    peer = sm.OLS(ds.t2m.values[:, 6, 6].astype(float), x).fit()
    np.testing.assert_allclose(run.standard_error[:, 6, 6], peer.bse, rtol=1e-9)
    without = fitted(ds, fit_intercept=False)
    peer = sm.OLS(ds.t2m.values[:, 6, 6].astype(float), x[:, :3]).fit()
    np.testing.assert_allclose(without.weights[:, 6, 6], peer.params, rtol=1e-9)
    np.testing.assert_allclose(without.standard_error[:, 6, 6], peer.bse, rtol=1e-9)
    assert float(without.rsquared[6, 6]) == pytest.approx(peer.rsquared, rel=1e-9)
    assert float(without.intercept) == 0


def test_results_have_the_targets_coordinates_and_flags():
    run = fitted(maps())
    assert run.weights.dims == ("feature", "lat", "lon")
    assert run.standard_error.dims == ("parameter", "lat", "lon")
    assert list(run.standard_error.parameter.values) == [*FEATURES, "(intercept)"]
    assert run.intercept.dims == ("lat", "lon")
    assert run.weights.area.dims == ("lat", "lon")
    assert "time" not in run.table.coords
    assert run.status.dtype == np.int8
    assert run.status.attrs["flag_meanings"].split() == ["ok", "no_values", "too_few", "collinear"]
    assert run.status.attrs["flag_values"].tolist() == [0, 1, 2, 3]
    assert "1 collinear" in repr(run)


@pytest.mark.parametrize("chunks", [(24, 3, 5), (120, 2, 2), (1, 7, 9), (50, 7, 1)], ids=str)
@pytest.mark.parametrize("order", ["samples first", "samples last"])
def test_chunks_change_nothing(tmp_path, chunks, order):
    ds = maps()
    whole = fitted(ds)
    if order == "samples last":
        ds["t2m"] = ds.t2m.transpose("lat", "time", "lon")
        chunks = (chunks[1], chunks[0], chunks[2])
    zarr = stored(ds, tmp_path / "t.zarr", chunks)
    close(fitted(zarr), whole)
    close(fitted(by_dask(zarr)), whole)
    close(fitted(xr.open_zarr(tmp_path / "t.zarr", consolidated=False, chunks=None)), whole)
    part = xr.open_zarr(tmp_path / "t.zarr", consolidated=False, chunks=None).isel(lat=slice(2, 6))
    close(fitted(part), fitted(ds.isel(lat=slice(2, 6))))


def test_the_cluster_changes_no_bit(tmp_path, clusters, monkeypatch):
    monkeypatch.setattr("dask_gd.sources.cell_grid.SEGMENT_BYTES", 1)
    monkeypatch.setattr("dask_gd.sources.cell_grid.FEWEST_CELLS", 4)
    ds = stored(maps(), tmp_path / "t.zarr", (8, 7, 5))
    here = fitted(ds)
    same_bits(fitted(by_dask(ds)), here)
    with Client(clusters(2)):
        same_bits(fitted(ds), here)
        same_bits(fitted(by_dask(ds)), here)
        close(fitted(maps()), here)


def test_a_dead_worker_changes_no_bit(tmp_path):
    ds = stored(maps(), tmp_path / "t.zarr", (8, 7, 5))
    alone = fitted(ds)
    slow = ds.assign(t2m=ds.t2m.copy(data=ds.t2m.data.map_blocks(_slowly, dtype="f4")))
    with cluster(2) as local, Client(local) as client:
        address = next(iter(client.scheduler_info()["workers"]))
        killer = _kill_later(client, address)
        same_bits(fitted(slow), alone)
        killer.join()


def _slowly(block):
    import time

    time.sleep(0.1)
    return block


def _kill_later(client, address):
    import os
    import signal
    import threading
    import time

    pid = client.run(os.getpid, workers=[address])[address]

    def kill():
        time.sleep(0.4)
        os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


@pytest.mark.parametrize("offset", [0.0, 273.0, 1e5])
def test_an_offset_costs_no_digit_of_the_residuals(offset):
    near = fitted(maps(offset=0.0, dtype=float))
    far = fitted(maps(offset=offset, dtype=float))
    np.testing.assert_allclose(far.dispersion, near.dispersion, rtol=1e-9)
    np.testing.assert_allclose(far.weights, near.weights, rtol=1e-7, atol=1e-9)


def test_float32_near_273_is_summed_in_float64():
    ds = maps(gaps=0.0)
    exact = fitted(ds.astype(float))
    close(fitted(ds), exact, rtol=1e-12)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_packed_numbers_are_what_xarray_decodes(tmp_path, zarr_format):
    ds = maps()
    packing = {"dtype": "i2", "scale_factor": 0.01, "add_offset": 270.0, "_FillValue": -32768}
    ds.to_zarr(
        tmp_path / "t.zarr",
        encoding={"t2m": {"chunks": (24, 4, 9), **packing}},
        consolidated=False,
        zarr_format=zarr_format,
    )
    zarr = xr.open_zarr(tmp_path / "t.zarr", consolidated=False)
    loaded = zarr.load().copy()
    zarr = xr.open_zarr(tmp_path / "t.zarr", consolidated=False)
    close(fitted(zarr), fitted(loaded))
    raw = xr.open_zarr(tmp_path / "t.zarr", consolidated=False, mask_and_scale=False)
    close(fitted(raw), fitted(loaded))


def test_members_and_times_are_samples_together():
    ds = maps(dtype=float)
    both = xr.concat([ds, maps(dtype=float, seed=1)], "member", data_vars=["t2m"], coords="minimal", compat="override")
    run = fitted(both, sample_dims=("time", "member"))
    stacked = both.stack(sample=("member", "time")).reset_index("sample").reset_coords(drop=True)
    flat = stacked.assign_coords(lat=both.lat, lon=both.lon, area=both.area)
    expected = fitted(flat, sample_dims="sample")
    close(run, expected)
    chunked = fitted(both.chunk(time=11, member=1, lat=3), sample_dims=("time", "member"))
    close(chunked, expected)
    assert run.predict(both).dims == both.t2m.dims


def test_features_may_vary_by_cell_too(tmp_path):
    ds = maps()
    rng = np.random.default_rng(5)
    rain = rng.normal(size=(T, LAT, LON)) + 50
    rain[rng.random(rain.shape) < 0.03] = np.nan
    ds["rain"] = (("time", "lat", "lon"), rain)
    features = ["trend", "rain", "index"]
    run = fitted(ds, features=features)
    for i, j in ((6, 8), (2, 5), (5, 0)):
        y = ds.t2m.values[:, i, j].astype(float)
        x = np.column_stack([ds.trend - 1e4, rain[:, i, j], ds["index"], np.ones(T)])
        rows = ~np.isnan(y) & ~np.isnan(x).any(axis=1)
        peer = sm.OLS(y[rows], x[rows]).fit()
        np.testing.assert_allclose(run.weights[:, i, j], peer.params[:3], rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(run.standard_error[:3, i, j], peer.bse[:3], rtol=1e-9)
        assert run.nobs[i, j] == rows.sum()
    zarr = stored(ds, tmp_path / "t.zarr", (24, 3, 5))
    close(fitted(zarr, features=features), run)
    close(fitted(zarr.assign(rain=ds.rain), features=features), run)
    close(fitted(ds.chunk(time=50, lon=4), features=features), run)
    # A shifted intercept is that of the same line.
    shifted = fitted(ds.assign(rain=ds.rain - 50), features=features)
    np.testing.assert_allclose(shifted.intercept, run.intercept + 50 * run.weights[1], rtol=1e-8)


@pytest.mark.parametrize("dims", [("time",), ("lat",), ("time", "lat"), ("time", "lat", "lon")], ids=str)
def test_weights_repeat_rows(dims):
    ds = maps()
    rng = np.random.default_rng(3)
    ds["s"] = (dims, rng.integers(0, 4, [ds.sizes[d] for d in dims]) + (dims == ("lat",)))
    run = fitted(ds, sample_weight="s")
    by_name = fitted(ds, sample_weight=ds.s)
    same_bits(run, by_name)
    for i, j in ((6, 8), (2, 5)):
        y = ds.t2m.values[:, i, j].astype(float)
        s = ds.s.broadcast_like(ds.t2m).values[:, i, j]
        rows = np.repeat(np.arange(T), np.where(np.isnan(y), 0, s))
        x = np.column_stack([*(ds[name] - ds[name].mean() for name in FEATURES), np.ones(T)])
        peer = sm.OLS(y[rows], x[rows]).fit()
        np.testing.assert_allclose(run.weights[:, i, j], peer.params[:3], rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(run.standard_error[:3, i, j], peer.bse[:3], rtol=1e-9)
        assert run.nobs[i, j] == len(rows)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_ridge_is_scikit_learns(fit_intercept):
    ds = maps()
    run = fitted(ds, penalty=dask_gd.L2(0.3), fit_intercept=fit_intercept)
    for i, j in ((6, 8), (2, 5)):
        y = ds.t2m.values[:, i, j].astype(float)
        rows = ~np.isnan(y)
        x = np.column_stack([ds[name] for name in FEATURES])[rows]
        peer = Ridge(alpha=0.3 * rows.sum(), fit_intercept=fit_intercept, tol=1e-12).fit(x, y[rows])
        np.testing.assert_allclose(run.weights[:, i, j], peer.coef_, rtol=1e-6, atol=1e-9)
        residual = y[rows] - peer.predict(x)
        objective = (residual**2).mean() / 2 + 0.15 * (peer.coef_**2).sum()
        assert float(run.loss[i, j]) == pytest.approx(objective, rel=1e-6)
    with pytest.raises(InvalidArgumentError, match="penalty"):
        _ = run.standard_error
    with pytest.raises(InvalidArgumentError, match="penalty"):
        dask_gd.infer(run)


def test_a_single_cell_is_the_ordinary_fit():
    ds = maps(gaps=0.0, dtype=float)
    one = ds.isel(lat=[6], lon=[8])
    run = fitted(one)
    ordinary = fitted(ds.isel(lat=6, lon=8), tol=1e-12)
    np.testing.assert_allclose(run.weights[:, 0, 0], ordinary.weights, rtol=1e-8)
    np.testing.assert_allclose(run.intercept[0, 0], ordinary.intercept, rtol=1e-8)
    prediction = run.predict(one)
    np.testing.assert_allclose(prediction[:, 0, 0], ordinary.predict(ds.isel(lat=6, lon=8)), rtol=1e-8)


def test_predictions_have_the_targets_dims_and_are_lazy_as_the_data_is(tmp_path):
    ds = maps()
    run = fitted(ds)
    here = run.predict(ds)
    assert here.dims == ("time", "lat", "lon")
    assert here.attrs == {"units": "K", "long_name": "temperature"}
    assert isinstance(here.data, np.ndarray)
    by_hand = run.intercept + (run.weights * xr.concat([ds[name] for name in FEATURES], "feature")).sum(
        "feature", skipna=False
    )
    np.testing.assert_allclose(here, by_hand.transpose(*here.dims), rtol=1e-9)
    assert here.area.dims == ("lat", "lon")
    zarr = stored(ds, tmp_path / "t.zarr", (24, 3, 5))
    lazy = run.predict(zarr)
    assert lazy.chunks == zarr.t2m.chunks
    np.testing.assert_array_equal(lazy.values, here.values)
    part = run.predict(ds.drop_vars("t2m").isel(lat=[5, 2]))
    np.testing.assert_array_equal(part.values, here.isel(lat=[5, 2]).values)
    with pytest.raises(InvalidArgumentError, match="lat"):
        run.predict(ds.assign_coords(lat=np.arange(LAT) + 0.5))


def test_a_result_goes_to_zarr_and_back(tmp_path):
    run = fitted(maps())
    path = run.to_zarr(tmp_path / "run.zarr")
    again = dask_gd.load(path)
    xr.testing.assert_identical(again.table.compute(), run.table)
    assert again.weights.chunks is not None
    np.testing.assert_array_equal(again.predict(maps()).values, run.predict(maps()).values)
    table, lazy = dask_gd.infer(run), dask_gd.infer(again)
    assert lazy.p_value.chunks is not None
    xr.testing.assert_allclose(lazy.compute(), table)
    with pytest.raises(InvalidArgumentError, match="exists"):
        run.to_zarr(path)
    assert xr.open_zarr(path).status.attrs["flag_meanings"].startswith("ok")


def test_a_stored_fit_goes_on_from_the_cells_that_are_done(tmp_path, monkeypatch):
    monkeypatch.setattr("dask_gd.sources.cell_grid.FEWEST_CELLS", 4)
    monkeypatch.setattr("dask_gd.passes.cells.BATCH_BYTES", 1)
    ds = stored(maps(), tmp_path / "t.zarr", (24, 3, 5))
    whole = fitted(ds)
    from dask_gd.passes import cells

    walked = []
    walk = cells.walk

    def stopping(work, column, *rest):
        walked.append(column)
        if len(walked) == 4:
            raise KeyboardInterrupt
        return walk(work, column, *rest)

    monkeypatch.setattr(cells, "walk", stopping)
    with pytest.raises(KeyboardInterrupt):
        fitted(ds, store=tmp_path / "run.zarr")
    assert not (tmp_path / "run.zarr").exists()
    run = fitted(ds, store=tmp_path / "run.zarr")
    assert sorted(walked[4:]) == [3, 4, 5]
    same_bits(run, whole)
    assert run.weights.chunks is not None
    # What has ended is not computed again, and nothing else is taken for it.
    count = len(walked)
    same_bits(fitted(ds, store=tmp_path / "run.zarr"), whole)
    assert len(walked) == count
    with pytest.raises(InvalidArgumentError, match="no fit by cell of the same data"):
        fitted(ds, store=tmp_path / "run.zarr", features=["trend"])
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("value", [np.inf, np.nan])
@pytest.mark.parametrize("where", ["t2m", "trend"])
def test_bad_values_are_named_by_variable_and_index(value, where):
    ds = maps(gaps=0.0, dtype=float).isel(lat=slice(2, None))
    ds["t2m"] = ds.t2m.fillna(0.0)
    index = {"time": 70, "lat": 3, "lon": 2} if where == "t2m" else {"time": 70}
    ds[where][index] = value
    place = ", ".join(f"{d}={i}" for d, i in index.items())
    with pytest.raises(NonFiniteError, match=f"{value} at (index )?{place} of (variable )?'{where}'"):
        fitted(ds, nan="error")
    if np.isinf(value):
        with pytest.raises(NonFiniteError, match=place):
            fitted(ds)
    else:
        fitted(ds)


def test_a_missing_feature_leaves_its_sample_out():
    ds = maps()
    ds["index"][[5, 50]] = np.nan
    close(fitted(ds), fitted(ds.isel(time=[t for t in range(T) if t not in (5, 50)])))


def test_negative_weights_are_refused():
    ds = maps()
    ds["s"] = ("time", np.where(np.arange(T) == 7, -1.0, 1.0))
    with pytest.raises(DataError, match=r"Negative weight -1 at time=7 of 's'"):
        fitted(ds, sample_weight="s")
    with pytest.raises(DataError, match=r"Negative weight -1 at index time=7, lat=0, lon=0"):
        fitted(ds.assign(s=ds.s.broadcast_like(ds.t2m)), sample_weight="s")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"loss": "logistic"}, "loss='squared'"),
        ({"penalty": dask_gd.L1(0.1)}, r"dask_gd\.L2"),
        ({"solver": "lbfgs"}, "take no solver"),
        ({"offset": "trend"}, "take no offset"),
        ({"weights": "blocks"}, "take no weights"),
        ({"features": ["lat"]}, "the same in all samples of a cell"),
        ({"features": ["t2m"]}, "is the target"),
        ({"features": ["nothing"]}, "no variable 'nothing'"),
        ({"sample_dims": ("time", "level")}, "no dimension 'level'"),
    ],
    ids=str,
)
def test_what_cannot_be_served_is_refused_before_the_first_task(options, says, monkeypatch):
    monkeypatch.setattr("dask_gd.passes.cells.walk", None)
    with pytest.raises(InvalidArgumentError, match=says):
        fitted(maps(), **options)


def test_a_column_that_no_worker_has_memory_for_is_refused(monkeypatch):
    monkeypatch.setattr("dask_gd.passes.cells.memory_of_process", lambda: 1000)
    with pytest.raises(InvalidArgumentError, match=r"this process has 1,000 B.*63 cells"):
        fitted(maps())


def test_a_constant_cell_has_no_rsquared():
    ds = maps(gaps=0.0, dtype=float)
    ds["t2m"][:, 6, 6] = 273.0
    run = fitted(ds)
    assert run.rsquared[6, 6].isnull()
    assert float(run.dispersion[6, 6]) == pytest.approx(0.0, abs=1e-20)
    assert run.status[6, 6] == 0


def test_collinear_features_mark_every_cell():
    ds = maps()
    run = fitted(ds.assign(twice=2 * ds.trend), features=["trend", "twice"])
    assert set(np.unique(run.status)) == {1, 3}
    assert run.weights.isnull().all()
    assert fitted(ds.assign(same=ds.trend * 0 + 0.1), features=["same"]).weights.isnull().all()
    for constant in np.random.default_rng(0).normal(size=50):
        design = design_of(np.full((97, 1), constant), (0,), (), None, True)
        assert not design.basis[:, 1].any()


def test_more_than_255_samples_are_counted():
    rng = np.random.default_rng(0)
    ds = xr.Dataset({"y": (("t", "c"), rng.normal(size=(700, 3))), "x": ("t", rng.normal(size=700))})
    assert fitted(ds, features="x", target="y", sample_dims="t").nobs.values.tolist() == [700] * 3


@pytest.mark.parametrize("varying", [0, 2])
def test_sums_of_two_parts_are_those_of_the_whole(varying):
    """Whatever value each part is about, and whichever cells have had none in one of them."""
    rng = np.random.default_rng(2)
    y = 1e4 + rng.normal(size=(90, 40))
    y[rng.random(y.shape) < 0.2] = np.nan
    y[:50, :10] = np.nan
    y[50:, 10:20] = np.nan
    y[:, 20:23] = np.nan
    own = [50 + rng.normal(size=y.shape) for _ in range(varying)]
    design = design_of(rng.normal(size=(90, 3)), (0, 1, 2), tuple(range(3, 3 + varying)), None, True)

    def sums(start, stop, step):
        total = make_sums(design, 40, True, has_own=varying > 0)
        for first in range(start, stop, step):
            part = slice(first, min(first + step, stop))
            # A task must leave the sums that it goes on from as they are: they may be asked for again.
            before, total = total, total.copied()
            unchanged = before.copied()
            total.add(design.rows(part), (y[part], *(values[part] for values in own)))
            for name, value in vars(unchanged).items():
                np.testing.assert_array_equal(getattr(before, name), value, err_msg=name)
        return total

    whole = estimates_of(sums(0, 90, 90), design, None)
    parts = sums(0, 20, 7).plus(sums(20, 50, 30), design).plus(sums(50, 90, 1), design)
    found = estimates_of(parts, design, None)
    for name, values in whole.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-9, atol=1e-9, err_msg=name)


def test_events_tell_of_the_fit(caplog):
    heard = []
    with caplog.at_level(logging.INFO, "dask_gd"):
        fitted(maps(), callbacks=[heard.append])
    assert [type(event).__name__ for event in heard] == ["FitStarted", "FitEnded"]
    assert "63 cells" in str(heard[0])
    json.dumps(heard[0].as_message())


@pytest.mark.parametrize("has_own", [False, True])
def test_a_task_leaves_the_sums_that_it_goes_on_from(has_own):
    ds = maps().chunk(time=30)
    if has_own:
        ds["rain"] = ds.t2m * 2 + ds.trend
    source = cell_source(ds, ["trend", "rain"][: 1 + has_own], "t2m", "time", None, drop=True)
    design = design_of(source.shared, source.order, source.varying, None, True)
    work = work_of(source, design, None)
    count = len(source.grid.pieces)
    given = [(tuple(array.blocks[i].compute() for array in source.arrays),) for i in range(count)]
    before = walk(work, 0, (0, 1), None, given[:1], False)
    once, again = (walk(work, 0, (1, count), before, given[1:], True) for _ in range(2))
    for name, values in once.items():
        np.testing.assert_array_equal(again[name], values, err_msg=name)
