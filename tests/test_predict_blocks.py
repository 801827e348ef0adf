"""Predictions of weights in blocks: those of the same weights whole, and never two blocks in a task."""

import pickle
from dataclasses import replace
from functools import partial
from itertools import pairwise

import dask
import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp
import xarray as xr
import zarr
from click.testing import CliRunner
from helpers import add_array, in_columns
from numpy.testing import assert_allclose, assert_array_equal

import dask_gd
from dask_gd import L2
from dask_gd.cli import main, predictions
from dask_gd.cli.shown import weights_of, weights_table
from dask_gd.display.largest import largest_first, largest_of
from dask_gd.errors import DataError, InvalidArgumentError
from dask_gd.results import lazy_weights
from dask_gd.sources import column_grid, sparse_layout
from dask_gd.sources.column_grid import grid_of
from dask_gd.sources.opening import as_source

N = 700


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Have segments, windows, and weights that come together unasked, so small that a test has several."""
    monkeypatch.setattr(column_grid, "SEGMENT_ROWS", 100)
    monkeypatch.setattr(sparse_layout, "window_bytes", lambda features: 1500)
    monkeypatch.setattr(lazy_weights, "WHOLE_BYTES", 0)


def piece_of(array, log, block_info=None):
    """Return a chunk of an array, and note that it was made."""
    location = block_info[None]["array-location"]
    log.append(location[0])
    return array[tuple(slice(*span) for span in location)]


def in_blocks(run, edges, log=None):
    """Return a fit with the same weights, lazy in chunks that begin at these features, each made by a task."""
    values = run.weights.values
    make = partial(piece_of, values, [] if log is None else log)
    chunks = (tuple(np.diff(edges).tolist()), *((size,) for size in values.shape[1:]))
    lazy = da.map_blocks(make, chunks=chunks, dtype=float, meta=np.empty((0,) * values.ndim), name=f"w-{id(values)}")
    coords = {name: coord for name, coord in run.weights.coords.items() if name == "output"}
    return replace(run, weights=xr.DataArray(lazy, dims=run.weights.dims, coords=coords, name="weights"))


def fitted(source, edges=None, **options):
    """Return a fit, and the same with its weights in blocks."""
    run = dask_gd.fit(source, penalty=L2(0.1), max_iter=3, tol=0.5, **options)
    if edges is None:
        edges = grid_of(source).edges
    return run, in_blocks(run, edges)


def deepest(prediction):
    """Return the most chunks of weights that a task of a prediction takes, as Dask will run it."""
    (optimised,) = dask.optimize(prediction)
    graph = dict(optimised.__dask_graph__())
    counts = []
    for node in dask._task_spec.convert_legacy_graph(graph).values():
        counts.append(sum(str(key[0]).startswith("w-") for key in node.dependencies if isinstance(key, tuple)))
    return max(counts)


KINDS = ("sparse", "codes", "dense", "shards", "packed")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loss", ["logistic", "squared"])
def test_sources_in_columns_are_predicted_as_with_whole_weights(tmp_path, kind, loss):
    source, _ = in_columns(tmp_path / "g.zarr", kind)
    run, blocks = fitted(source, loss=loss)
    whole, ours = run.predict(source), blocks.predict(source)
    assert isinstance(ours, da.Array)
    assert (ours.shape, ours.dtype) == (whole.shape, whole.dtype)
    assert ours.numblocks[0] > 3
    assert_allclose(ours.compute(), whole.compute(), rtol=1e-6 if ours.dtype == np.float32 else 1e-12)
    assert deepest(ours) == 1


def test_each_chunk_of_the_weights_is_made_once(tmp_path):
    source, _ = in_columns(tmp_path / "g.zarr", "dense")
    run, _ = fitted(source)
    log = []
    prediction = in_blocks(run, grid_of(source).edges, log).predict(source)
    assert not log
    prediction.compute(scheduler="sync")
    assert sorted(log) == list(pairwise(grid_of(source).edges))


@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_only_some_rows_are_predicted_from_a_source_of_some_rows(tmp_path, kind):
    source, _ = in_columns(tmp_path / "g.zarr", kind)
    _, blocks = fitted(source)
    part, _ = in_columns(tmp_path / "g.zarr", kind, rows=slice(130, 555))
    assert_allclose(blocks.predict(part).compute(), blocks.predict(source).compute()[130:555], rtol=1e-6)


@pytest.mark.parametrize("kind", ["codes", "dense"])
def test_chunks_of_weights_may_begin_anywhere(tmp_path, kind):
    source, x = in_columns(tmp_path / "g.zarr", kind)
    run, _ = fitted(source)
    p = x.shape[1]
    blocks = in_blocks(run, [0, 1, 17, p])
    assert_allclose(blocks.predict(source).compute(), run.predict(source).compute(), rtol=1e-6)


def rows_in_memory(x):
    sparse = sp.csr_array(x)
    dask_rows = da.from_array(x, chunks=(90, 7))
    dask_sparse = da.from_array(x, chunks=(90, -1)).map_blocks(sp.csr_array, meta=sp.csr_array((0, x.shape[1])))
    return {
        "numpy": x,
        "float32": x.astype(np.float32),
        "scipy": sparse,
        "csc": sparse.tocsc(),
        "dask": dask_rows,
        "unknown sizes": dask_rows[da.from_array(np.ones(len(x), bool), chunks=90)],
        "sparse blocks": dask_sparse,
        "xarray": xr.DataArray(x, dims=("row", "feature"), coords={"row": np.arange(len(x))}),
    }


@pytest.mark.parametrize("kind", rows_in_memory(np.ones((3, 8))))
@pytest.mark.parametrize("outputs", [None, 2])
def test_rows_that_are_not_in_columns_are_cut_where_the_weights_are(kind, outputs):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(N, 23)) * (rng.random((N, 23)) < 0.4)
    y = x[:, 0] + rng.normal(size=N)
    if outputs:
        y = np.stack([y, 3 - y], axis=1)
    run, blocks = fitted(as_source(x, y), [0, 5, 6, 20, 23])
    rows = rows_in_memory(x)[kind]
    whole, ours = run.predict(rows), blocks.predict(rows)
    assert type(ours) is type(whole)
    assert ours.dtype == whole.dtype
    if isinstance(ours, da.Array):
        assert deepest(ours) == 1
    rtol = 1e-6 if kind == "float32" else 1e-12
    assert_allclose(np.asarray(ours), np.asarray(whole), rtol=rtol, atol=rtol)
    offset = np.linspace(-1, 1, N)
    if kind != "unknown sizes":
        assert_allclose(np.asarray(blocks.predict(rows, offset)), np.asarray(run.predict(rows, offset)), rtol=1e-5)


def test_sources_of_rows_and_arrays_in_zarr_are_cut_too(tmp_path):
    source, x = in_columns(tmp_path / "g.zarr", "dense")
    run, blocks = fitted(source)
    group = zarr.open_group(tmp_path / "g.zarr")
    add_array(group, "rows", x, (50, 33))
    for other in (dask_gd.open(tmp_path / "g.zarr", x="rows"), group["rows"], group["X"]):
        ours = blocks.predict(other)
        assert deepest(ours) == 1
        assert_allclose(ours.compute(), run.predict(other).compute(), rtol=1e-6)
    # Sparse rows in a single group.
    source, x = in_columns(tmp_path / "s.zarr", "sparse")
    group = zarr.open_group(tmp_path / "s.zarr")
    run, blocks = fitted(dask_gd.open(tmp_path / "s.zarr", x="a", y="y"), [0, 3, 29, 30])
    for other in (dask_gd.open(tmp_path / "s.zarr", x="a"), group["a"]):
        assert_allclose(blocks.predict(other).compute(), run.predict(other).compute(), rtol=1e-12)


def test_an_offset_is_added_before_the_inverse_link(tmp_path):
    source, x = in_columns(tmp_path / "g.zarr", "sparse")
    offset = np.linspace(-1, 1, len(x))
    add_array(zarr.open_group(tmp_path / "g.zarr"), "o", offset, (80,))
    source = dask_gd.open(tmp_path / "g.zarr", x=["a", "b"], y="y", offset="o")
    run, blocks = fitted(source, loss="logistic")
    assert_allclose(blocks.predict(source).compute(), run.predict(source).compute(), rtol=1e-12)
    assert_allclose(blocks.predict(source, -offset).compute(), run.predict(source, -offset).compute(), rtol=1e-12)


def test_classes_are_predicted_from_blocks(tmp_path):
    source, x = in_columns(tmp_path / "g.zarr", "sparse")
    y = np.random.default_rng(0).integers(0, 3, len(x)).astype(float)
    add_array(zarr.open_group(tmp_path / "g.zarr"), "classes", y, (80,))
    source = dask_gd.open(tmp_path / "g.zarr", x=["a", "b"], y="classes")
    run, blocks = fitted(source, loss=dask_gd.Softmax(3))
    assert_allclose(blocks.predict(source).compute(), run.predict(source).compute(), rtol=1e-12)


def test_workers_predict_the_same_bits_and_what_is_written_is_the_prediction(tmp_path, two):
    source, _ = in_columns(tmp_path / "g.zarr", "codes")
    _, blocks = fitted(source)
    prediction = blocks.predict(source)
    with dask.config.set(scheduler="sync"):
        here = prediction.compute()
    assert_array_equal(prediction.compute(), here)
    # Weights that are on the workers already.
    held = replace(blocks, weights=blocks.weights.persist())
    path = dask_gd.write(held.predict(source), tmp_path / "prediction.zarr")
    assert_array_equal(zarr.open_array(path, mode="r")[:], here)


def test_features_and_codes_that_are_not_those_of_the_fit_are_refused(tmp_path):
    source, _ = in_columns(tmp_path / "g.zarr", "codes")
    _, blocks = fitted(source)
    with pytest.raises(InvalidArgumentError, match=r"x must have shape \(rows, 45\), as in the fit; it has"):
        blocks.predict(dask_gd.open(tmp_path / "g.zarr", x=["a", "b"]))
    # A missing code is NaN in the prediction, and one that no level has an error.
    codes = zarr.open_group(tmp_path / "g.zarr")["colour"]
    codes[3] = -1
    assert np.flatnonzero(np.isnan(blocks.predict(source).compute())).tolist() == [3]
    codes[3] = 1
    codes[470] = 9
    with pytest.raises(DataError, match=r"predict\(x\): 9 in row 470 of .*colour.* is no code of a level"):
        blocks.predict(source).compute()


# What else is made of weights


def test_the_largest_weights_are_found_chunk_by_chunk():
    rng = np.random.default_rng(0)
    for trial in range(40):
        values = rng.integers(-9, 9, size=(30, 3)).astype(float)
        values[rng.random(values.shape) < 0.2 * (trial % 3)] = np.nan
        # Outputs without weights in some chunks, or in all.
        values[: rng.integers(0, 31), 1] = np.nan
        if trial % 4 == 0:
            values[:, 2] = np.nan
        array = xr.DataArray(values, dims=("feature", "output"))
        for nan_first in (True, False):
            whole = largest_of(array, 7, nan_first)
            ours = largest_of(array.chunk(feature=11, output=2), 7, nan_first)
            assert_array_equal(ours.indices, largest_first(values, nan_first)[:7])
            assert_array_equal(ours.values, values[ours.indices])
            assert_array_equal(ours.indices, whole.indices)
            assert (ours.note, ours.features) == (whole.note, 30)


def uncomputed(blocks):
    """Return the fit with weights that cannot be computed."""

    def load(chunk):
        raise AssertionError("the weights were computed")

    lazy = blocks.weights.data
    return replace(blocks, weights=blocks.weights.copy(data=lazy.map_blocks(load, dtype=float, meta=lazy._meta)))


def test_showing_a_fit_computes_no_weights(tmp_path):
    source, _ = in_columns(tmp_path / "g.zarr", "sparse")
    _, blocks = fitted(source)
    unseen = uncomputed(blocks)
    assert "dask.array" in repr(unseen)
    html = unseen._repr_html_()
    for text in ("feature: 41", "328 B", "2 of at most 240 B", "(intercept)"):
        assert text in html
    restored = pickle.loads(pickle.dumps(blocks))
    assert isinstance(restored.weights.data, da.Array)
    assert_array_equal(restored.weights, blocks.weights)


def test_a_report_and_the_command_line_show_the_largest(tmp_path):
    source, _ = in_columns(tmp_path / "g.zarr", "sparse")
    run, blocks = fitted(source)
    run = replace(run, weights=run.weights.drop_vars("feature"))
    expected = dask_gd.report(run, tmp_path / "r.html").read_text()
    assert dask_gd.report(blocks, tmp_path / "r.html").read_text() == expected
    assert weights_table(blocks, 5) == weights_table(run, 5)
    ours = weights_of(blocks)
    assert "weights" not in ours
    assert [each["weight"] for each in ours["largest_weights"]] == largest_of(run.weights, 10).values[:, 0].tolist()
    with pytest.raises(
        InvalidArgumentError, match="show --weights needs all weights in one process: 41 weights, 328 B"
    ):
        weights_table(blocks, None)


def test_what_needs_all_weights_refuses_unless_they_are_few(tmp_path, monkeypatch):
    source, _ = in_columns(tmp_path / "g.zarr", "dense")
    run = dask_gd.fit(source, loss="logistic")
    blocks = in_blocks(run, grid_of(source).edges)
    with pytest.raises(InvalidArgumentError, match=r"run.parameters needs all weights .* 264 B in 7 chunks"):
        _ = uncomputed(blocks).parameters
    with pytest.raises(InvalidArgumentError, match=r"infer: the fit has its weights in blocks, .* 34 x 34 values"):
        dask_gd.infer(uncomputed(blocks), source)
    monkeypatch.undo()
    assert_array_equal(blocks.parameters, run.parameters)
    ours, whole = dask_gd.infer(blocks, source), dask_gd.infer(run, source)
    assert_array_equal(ours.table.standard_error, whole.table.standard_error)
    assert_array_equal(blocks.predict(source), run.predict(source))


def test_the_command_line_predicts_from_groups_of_sparse_rows(tmp_path, monkeypatch):
    source, _ = in_columns(tmp_path / "g.zarr", "sparse")
    run, blocks = fitted(source, loss="logistic", store=tmp_path / "run")
    expected = run.predict(source).compute()
    arguments = [str(tmp_path / "run"), str(tmp_path / "g.zarr"), "-x", "a,b", "--overwrite", "--quiet"]
    for loaded in (predictions.load(tmp_path / "run"), blocks):
        monkeypatch.setattr(predictions, "load", lambda path, loaded=loaded: loaded)
        result = CliRunner().invoke(main, ["predict", *arguments, "--threads", "1", "-o", str(tmp_path / "out.zarr")])
        assert result.exit_code == 0, result.output
        assert_allclose(zarr.open_array(tmp_path / "out.zarr", mode="r")[:], expected, rtol=1e-12)
