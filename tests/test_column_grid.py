"""Column blocks: together they are the features, each is read by itself, and every row once."""

import pickle
from itertools import pairwise

import numpy as np
import pytest
import zarr
from helpers import add_array, in_columns
from numpy.testing import assert_allclose, assert_array_equal

import dask_gd
from dask_gd.errors import CorruptChunkError, InvalidArgumentError, MissingChunkError
from dask_gd.sources import cache as cache_module
from dask_gd.sources import column_grid, sparse_layout
from dask_gd.sources.cache import cache
from dask_gd.sources.column_grid import grid_of, is_in_columns, segments_of

N = 700


@pytest.fixture
def small(monkeypatch):
    """Have segments and windows so small that a test has several."""
    monkeypatch.setattr(column_grid, "SEGMENT_ROWS", 100)
    monkeypatch.setattr(sparse_layout, "window_bytes", lambda features: 1500)


KINDS = ("sparse", "codes", "dense", "shards", "packed")


def windows_of(grid, j, keep=None):
    """Return the segment and the rows of a block's windows, each multiplied with the identity."""
    row_format = grid.formats[j]
    workspace = row_format.workspace(None)
    identity = workspace.weights(np.eye(row_format.features))
    found = []
    for s in range(len(grid.segments) - 1):
        for segment, rows in grid.reader(j)((s,), keep=keep):
            assert segment == s
            found.append((s, rows.start, workspace.block(rows.x).times(identity)))
    return found


@pytest.mark.parametrize("rows", [slice(None), slice(120, 650)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_blocks_are_the_features_and_each_has_every_row_once(tmp_path, small, kind, rows):
    source, x = in_columns(tmp_path / "g.zarr", kind, rows=rows)
    grid = pickle.loads(pickle.dumps(grid_of(source)))
    assert grid.edges[0] == 0
    assert grid.edges[-1] == x.shape[1]
    start, stop, _ = rows.indices(N)
    assert (grid.segments[0], grid.segments[-1]) == (start, stop)
    assert len(grid.segments) > 3
    assert len(grid.columns) >= 2
    for j, (first, last) in enumerate(pairwise(grid.edges)):
        assert grid.columns[j].shape == (N, last - first)
        position = start
        for segment, number, values in windows_of(grid, j):
            # Windows follow one another, and none reaches beyond its segment.
            assert number == position
            position += len(values)
            assert grid.segments[segment] <= number <= position <= grid.segments[segment + 1]
            assert_allclose(values, x[number:position, first:last], rtol=1e-6)
        assert position == stop


@pytest.mark.parametrize("kind", KINDS)
def test_products_of_blocks_add_up_to_those_of_the_features(tmp_path, small, kind):
    source, x = in_columns(tmp_path / "g.zarr", kind)
    grid = grid_of(source)
    rng = np.random.default_rng(0)
    w, r = rng.normal(size=(x.shape[1], 2)), rng.normal(size=(N, 2))
    predictions, gradient = np.zeros((N, 2)), np.zeros((x.shape[1], 2))
    for j, (first, last) in enumerate(pairwise(grid.edges)):
        workspace = grid.formats[j].workspace(None)
        weights = workspace.weights(w[first:last])
        for s in range(len(grid.segments) - 1):
            for _, rows in grid.reader(j)((s,)):
                block = workspace.block(rows.x)
                product = block.times(weights)
                part = slice(rows.start, rows.start + len(product))
                predictions[part] += product
                block.add_transposed_times(r[part], gradient[first:last])
    rtol = 1e-4 if source.dtype == np.float32 else 1e-12
    assert_allclose(predictions, x.astype(float) @ w, rtol=rtol, atol=rtol)
    assert_allclose(gradient, x.astype(float).T @ r, rtol=rtol, atol=10 * rtol)


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_that_one_process_keeps_have_the_same_bits_and_go_with_their_run(tmp_path, small, monkeypatch, kind):
    monkeypatch.setattr(cache_module, "memory_limit", lambda: 1 << 50)
    grid = grid_of(in_columns(tmp_path / "g.zarr", kind)[0])
    blocks = range(len(grid.columns))
    as_read = [windows_of(grid, j) for j in blocks]
    try:
        for step in (1, 2):
            for j in blocks:
                for one, other in zip(windows_of(grid, j, keep=("run", step)), as_read[j], strict=True):
                    assert one[:2] == other[:2]
                    assert_array_equal(one[2], other[2])
            assert len(cache.kept) == sum(map(len, as_read))
    finally:
        cache.drop("run")
    assert not cache.kept


def test_a_block_of_an_array_reads_no_chunk_but_its_own(tmp_path):
    source, x = in_columns(tmp_path / "g.zarr", "dense")
    grid = grid_of(source)
    # Without all chunks but those of the second block.
    for path in (tmp_path / "g.zarr" / "X" / "c").rglob("*"):
        if path.is_file() and path.name != "1":
            path.unlink()
    assert_allclose(np.vstack([values for *_, values in windows_of(grid, 1)]), x[:, 5:10])
    with pytest.raises(MissingChunkError, match=r"'X', chunk \(0, 2\), rows 0-49: it is not in the store"):
        windows_of(grid, 2)


@pytest.mark.parametrize("by_zarr", [False, True])
def test_what_is_wrong_with_a_chunk_is_said_with_its_place_in_the_array(tmp_path, monkeypatch, by_zarr):
    if by_zarr:
        monkeypatch.setattr(column_grid.ColumnSlice, "files", None)
    source, x = in_columns(tmp_path / "g.zarr", "dense", missing="fill")
    grid = grid_of(source)
    assert grid.columns[3].where(60, 2).endswith("chunk (1, 3), rows 50-99")
    assert_array_equal(np.vstack([values for *_, values in windows_of(grid, 3)]), x[:, 15:20])
    # An absent chunk is filled, and a damaged one refused.
    (tmp_path / "g.zarr" / "X" / "c" / "1" / "3").unlink()
    filled = np.vstack([values for *_, values in windows_of(grid, 3)])
    assert_array_equal(filled[50:100], 0.0)
    assert_array_equal(filled[100:], x[100:, 15:20])
    damaged = tmp_path / "g.zarr" / "X" / "c" / "2" / "3"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    with pytest.raises(CorruptChunkError, match=r"'X', chunk \(2, 3\), rows 100-149"):
        windows_of(grid, 3)
    assert_array_equal(np.vstack([values for *_, values in windows_of(grid, 4)]), x[:, 20:25])


def test_other_features_are_refused_before_anything_is_read(tmp_path):
    source, x = in_columns(tmp_path / "g.zarr", "dense")
    assert is_in_columns(source)
    add_array(zarr.open_group(tmp_path / "g.zarr"), "by_rows", x, (50, 33))
    by_rows = dask_gd.open(tmp_path / "g.zarr", x="by_rows", y="y")
    assert not is_in_columns(by_rows)
    with pytest.raises(InvalidArgumentError, match=r"x \('by_rows', 700 rows x 33 features\) is not stored by columns"):
        grid_of(by_rows)


@pytest.mark.parametrize(
    ("width", "p", "blocks"),
    [(1, 2, 2), (5, 33, 7), (10, 1000, 15), (1000, 1999, 2), (1, 17, 9), (1, 16, 16)],
)
def test_columns_of_an_array_are_cut_into_few_blocks_of_whole_chunks(tmp_path, width, p, blocks):
    group = zarr.open_group(tmp_path / "g.zarr", mode="w")
    add_array(group, "X", np.zeros((4, p)), (4, width))
    edges = grid_of(dask_gd.open(tmp_path / "g.zarr", x="X")).edges
    assert len(edges) == blocks + 1
    assert all(edge % width == 0 for edge in edges[:-1])
    assert (edges[0], edges[-1]) == (0, p)


def test_segments_are_few_and_long_and_follow_from_the_rows():
    for start, stop in ((0, 10**6), (5, 2**18 * 16), (17, 10**8), (0, 2**18 - 1), (3, 2**19 + 3)):
        for unit in (1, 1000, 2**17, 10**6):
            cuts = segments_of(range(0, stop + unit, unit), start, stop)
            assert (cuts[0], cuts[-1]) == (start, stop)
            assert len(cuts) <= 17
            assert len(cuts) == 2 or np.diff(cuts).min() >= 2**18
            assert all(cut % unit == 0 for cut in cuts[1:-1])
    assert len(segments_of(range(0, 2**22 + 1), 0, 2**22)) == 17
