"""Offsets are added to predictions, and to nothing else."""

import dask.array as da
import numpy as np
import pytest
import statsmodels.api as sm
import xarray as xr
import zarr
from helpers import EVERY, problem_of
from numpy.testing import assert_allclose, assert_array_equal

import dask_gd
from dask_gd import Poisson, Squared
from dask_gd.errors import DataError, InvalidArgumentError

LOSSES = [loss for loss in EVERY if loss.smooth]


def offset_of(n, seed=1):
    return np.random.default_rng(seed).normal(size=n) + 2.0


def fit(x, y, loss, **options):
    return dask_gd.fit(x, y, loss=loss, **{"tol": 1e-10, **options})


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_an_offset_is_a_feature_whose_coefficient_is_known(loss):
    """Fitted as a feature, and then taken out of the features, it leaves the others where they are."""
    x, y = problem_of(loss)
    offset = offset_of(len(x))
    free = fit(np.column_stack([x, offset]), y, loss)
    share = float(free.weights[-1])
    fixed = fit(x, y, loss, offset=share * offset)
    assert_allclose(fixed.weights, free.weights[:-1], rtol=1e-6, atol=1e-8)
    assert_allclose(fixed.intercept, free.intercept, rtol=1e-6, atol=1e-8)


def test_of_least_squares_it_is_taken_from_the_target():
    x, y = problem_of(Squared())
    offset = offset_of(len(x))
    for solver in ("newton", "lbfgs", "gradient_descent"):
        one, other = fit(x, y, Squared(), offset=offset, solver=solver), fit(x, y - offset, Squared(), solver=solver)
        assert_allclose(one.weights, other.weights, rtol=1e-6, atol=1e-8)


def test_a_constant_offset_is_taken_from_the_intercept():
    x, y = problem_of(Poisson())
    plain, moved = fit(x, y, Poisson()), fit(x, y, Poisson(), offset=np.full(len(x), 20.0))
    assert_allclose(moved.weights, plain.weights, rtol=1e-7)
    assert_allclose(moved.intercept, plain.intercept - 20.0, rtol=1e-7)


def test_coefficients_and_errors_are_statsmodels():
    x, y = problem_of(Poisson())
    exposure = np.exp(offset_of(len(x)))
    run = fit(x, y, Poisson(), offset=np.log(exposure))
    model = sm.GLM(y, sm.add_constant(x), sm.families.Poisson(), exposure=exposure).fit(tol=1e-12)
    assert_allclose(np.append(run.intercept, run.weights), model.params, rtol=1e-6)
    table = dask_gd.infer(run, x, y, offset=np.log(exposure)).table
    assert_allclose(np.roll(table.standard_error, 1), model.bse, rtol=1e-6)


def test_chunks_and_kinds_of_arrays_do_not_matter(tmp_path):
    x, y = problem_of(Poisson())
    offset = offset_of(len(x))
    expected = fit(x, y, Poisson(), offset=offset)
    group = zarr.open_group(tmp_path / "data.zarr", mode="w")
    for name, a, chunk in (("x", x, 100), ("y", y, 70), ("o", offset, 300)):
        chunks = (chunk, *a.shape[1:])
        group.create_array(name, data=a, chunks=chunks, config={"write_empty_chunks": True})
    source = dask_gd.open(tmp_path / "data.zarr", x="x", y="y", offset="o")
    rows = slice(100, 900)
    part = dask_gd.open(tmp_path / "data.zarr", x="x", y="y", offset="o", rows=rows)
    data = xr.Dataset({f"x{i}": ("row", x[:, i]) for i in range(x.shape[1])} | {"y": ("row", y), "o": ("row", offset)})
    names = {"features": [f"x{i}" for i in range(x.shape[1])], "target": "y", "sample_dims": "row"}
    mean = expected.predict(x, offset=offset)
    assert_allclose(mean, np.exp(x @ expected.weights.values + float(expected.intercept) + offset))
    blocks = da.from_array(x, chunks=(130, 3))
    for run, predicted in (
        (fit(blocks, y, Poisson(), offset=da.from_array(offset, chunks=90)), lambda run: run.predict(blocks, offset)),
        (fit(source, None, Poisson()), lambda run: run.predict(source)),
        (fit(group["x"], group["y"], Poisson(), offset=group["o"]), lambda run: run.predict(group["x"], group["o"])),
        (fit(data, None, Poisson(), offset="o", **names), lambda run: run.predict(data, offset="o")),
        (fit(data, None, Poisson(), offset=data.o, **names), lambda run: run.predict(data, offset=data.o)),
    ):
        assert_allclose(run.weights, expected.weights, rtol=1e-7)
        assert_allclose(np.asarray(predicted(run)), mean, rtol=1e-6)
    assert_allclose(expected.predict(part).compute(), mean[rows], rtol=1e-6)
    assert isinstance(expected.predict(blocks, offset), da.Array)


def test_rows_without_an_offset_can_be_left_out():
    x, y = problem_of(Poisson())
    offset = offset_of(len(x))
    offset[::5] = np.nan
    kept = np.isfinite(offset)
    run = fit(x, y, Poisson(), offset=offset, nan="drop")
    assert run.dropped == (~kept).sum()
    assert_allclose(run.weights, fit(x[kept], y[kept], Poisson(), offset=offset[kept]).weights, rtol=1e-8)
    with pytest.raises(DataError, match="nan in row 0 of 'offset'"):
        fit(x, y, Poisson(), offset=offset)


def test_a_resumed_fit_has_the_bits_of_one_that_ran_through(tmp_path):
    x, y = problem_of(Poisson())
    offset = offset_of(len(x))
    through = fit(x, y, Poisson(), offset=offset)
    fit(x, y, Poisson(), offset=offset, store=tmp_path, max_iter=2)
    assert_array_equal(fit(x, y, Poisson(), offset=offset, store=tmp_path).weights, through.weights)
    with pytest.raises(dask_gd.errors.StoreError, match="offset"):
        fit(x, y, Poisson(), offset=offset + 1, store=tmp_path)


@pytest.mark.parametrize("offset", [np.zeros(3), np.zeros((1500, 1))], ids=["short", "a matrix"])
def test_what_is_no_column_is_refused(offset):
    x, y = problem_of(Poisson())
    with pytest.raises(InvalidArgumentError, match="offset"):
        fit(x, y, Poisson(), offset=offset)


@pytest.mark.parametrize("lazy", [False, True])
def test_an_offset_of_another_length_is_refused_where_rows_are_predicted(lazy):
    x, y = np.arange(12.0).reshape(6, 2) % 5, np.arange(6.0)
    run = dask_gd.fit(x, y)
    for size in (1, 5):
        offset = np.zeros(size)
        with pytest.raises(InvalidArgumentError, match=r"offset the shape .*one for each row"):
            run.predict(da.from_array(x, chunks=2), da.from_array(offset)) if lazy else run.predict(x, offset)


@pytest.mark.parametrize("role", ["sample_weight", "offset"])
def test_rows_labelled_otherwise_are_refused(role):
    x, y = np.arange(12.0).reshape(6, 2) % 5, np.arange(6.0)
    labels = {"row": np.arange(6)}
    column = xr.DataArray(np.ones(6), dims="row", coords={"row": np.arange(6)[::-1]})
    with pytest.raises(InvalidArgumentError, match=f"The rows of y and {role} have different labels"):
        dask_gd.fit(
            xr.DataArray(x, dims=("row", "f"), coords=labels),
            xr.DataArray(y, dims="row", coords=labels),
            **{role: column},
        )
