"""Searches with weights in blocks: those of whole weights, a fit at a time; no fit that has ended is made again."""

import logging
import shutil
from itertools import pairwise

import numpy as np
import pytest
from click.testing import CliRunner
from dask.distributed import Client
from helpers import in_columns
from numpy.testing import assert_allclose, assert_array_equal

import dask_gd
from dask_gd import L2, Folds, GroupLasso
from dask_gd.cli import main
from dask_gd.errors import DataError, InvalidArgumentError, StoreError, StoreMismatchError
from dask_gd.events import Failed, RoundEnded, SearchEnded, SearchStarted, StopFit
from dask_gd.fitting import block_fit
from dask_gd.fitting.block_checkpoint import BlockCommits
from dask_gd.fitting.block_folds import folds_of, summarise, without_fold
from dask_gd.fitting.fold_assignment import assign_by_rows, fold_numbers
from dask_gd.fitting.folds import Assignment
from dask_gd.fitting.grid import strongest_first
from dask_gd.fitting.score_summaries import RowMeans
from dask_gd.fitting.scores import log_loss
from dask_gd.model.losses import Logistic
from dask_gd.sources import column_grid
from dask_gd.sources.columns import as_rows
from dask_gd.weight_blocks import row_tasks
from dask_gd.weight_blocks.owners import OwnerLost, Owners
from dask_gd.weight_blocks.row_tasks import Values

N = 300
#: A search that ends after a few steps, for what must have the same bits.
SHORT = {"loss": "logistic", "alphas": [1e-2, 1e-1], "folds": 2, "max_iter": 2, "tol": 0.0, "weights": "blocks"}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Have segments so small that a test has several."""
    monkeypatch.setattr(column_grid, "SEGMENT_ROWS", 120)


@pytest.fixture
def source(tmp_path):
    return in_columns(tmp_path / "g.zarr", "sparse", n=N)[0]


def weighted(tmp_path):
    """Return rows with weights, some of them 0, and offsets, which are in memory beside their features."""
    stored, _ = in_columns(tmp_path / "g.zarr", "sparse", n=N)
    rng = np.random.default_rng(0)
    weight = rng.integers(0, 3, N).astype(float)
    return stored.with_columns(
        weight=_column(stored, weight, "weight"), offset=_column(stored, 0.1 * rng.normal(size=N), "offset")
    )


def _column(source, values, role):
    return as_rows(values, role).aligned(source.bounds)


@pytest.fixture(scope="module")
def reference(clusters, tmp_path_factory):
    """Return a short search that nothing has disturbed."""
    with Client(clusters(2)), pytest.MonkeyPatch.context() as patch:
        patch.setattr(column_grid, "SEGMENT_ROWS", 120)
        source, _ = in_columns(tmp_path_factory.mktemp("g") / "g.zarr", "sparse", n=N)
        found = dask_gd.search(source, store=tmp_path_factory.mktemp("s"), **SHORT)
        return found.data.compute()


def assert_same_bits(found, reference):
    for name in ("score", "loss", "objective", "all_intercept", "all_weights"):
        assert_array_equal(found.data[name].values, reference[name].values)


def test_a_search_in_blocks_is_that_of_whole_weights(two, tmp_path):
    source = weighted(tmp_path)
    options = {"loss": "logistic", "alphas": [0.2, 0.8], "folds": 2, "scoring": "accuracy", "tol": 1e-7}
    whole = dask_gd.search(source, weights="whole", **options)
    blocks = dask_gd.search(source, weights="blocks", store=tmp_path / "s", **options)
    assert_allclose(blocks.scores.values, whole.scores.values, atol=1e-12)
    assert_allclose(blocks.data.loss.values, whole.data.loss.values, rtol=1e-6)
    assert blocks.best == whole.best
    assert_allclose(blocks.data.weights.compute().values, whole.data.weights.values, atol=1e-6)
    assert set(blocks.data.reason.values.ravel()) == {"converged"}

    # The best candidate's fit to all rows, lazy, and named.
    run = blocks.refit()
    assert run.weights.chunks == ((30, 11),)
    assert_array_equal(run.weights.feature, whole.refit().weights.feature)
    assert_allclose(run.weights.values, whole.refit().weights.values, atol=1e-6)
    assert_allclose(run.intercept.values, whole.refit().intercept.values, atol=1e-6)
    of_fold = blocks.fit_without(1, 0)
    assert_allclose(of_fold.weights.values, whole.fit_without(1, 0).weights.values, atol=1e-6)
    other = 1 - blocks.best_index
    with pytest.raises(InvalidArgumentError, match=f"Candidate {other} has not been fitted to all rows"):
        blocks._fit_of(other)

    # Given the rows, it goes on from there, in blocks.
    again = blocks.refit(source)
    assert again.n_iter == 0
    assert again.weights.chunks == ((30, 11),)
    assert "accuracy" in str(blocks)


def test_a_search_goes_on_where_it_was_stopped_or_died(two, source, tmp_path, monkeypatch, reference):
    store = tmp_path / "s"
    events = []
    commits = []
    commit = BlockCommits.commit

    def die(self):
        commits.append(commit(self))
        if len(commits) == 5:
            raise RuntimeError("the client dies")

    def stop(event):
        events.append(event)
        if len(events) == 3:
            raise StopFit("enough")

    def kinds():
        found = [type(event) for event in events]
        events.clear()
        return found

    # It dies in the second fit, and is stopped when two more have ended.
    monkeypatch.setattr(BlockCommits, "commit", die)
    with pytest.raises(RuntimeError, match="the client dies"):
        dask_gd.search(source, store=store, **SHORT)
    assert [path.name for path in (store / "fits").iterdir()] == ["0-0"]
    # The second fit begins where the first has ended, and says so if its weights are damaged.
    shutil.copytree(store, tmp_path / "damaged")
    for path in (tmp_path / "damaged" / "blocks").iterdir():
        path.write_bytes(b"")
    with pytest.raises(StoreError, match=r"The weights of candidate 1 without fold 0 in .* cannot be read"):
        dask_gd.search(source, store=tmp_path / "damaged", **SHORT)
    with pytest.raises(StopFit):
        dask_gd.search(source, store=store, callbacks=[stop], **SHORT)
    assert kinds() == [SearchStarted, RoundEnded, RoundEnded, Failed]
    found = dask_gd.search(source, store=store, callbacks=[events.append], **SHORT)
    assert events[0].resumed_from == 3
    assert kinds() == [SearchStarted, RoundEnded, RoundEnded, SearchEnded]
    # No iteration of the five fits was made again.
    assert len(commits) == 5 * 3
    assert_same_bits(found, reference)
    # What was needed to go on with a fit is gone, and its weights are there.
    assert not list((store / "fits").iterdir())
    assert len(list((store / "blocks").iterdir())) == 5 * 2

    # A search that has ended takes no fit, and other arguments are refused by name.
    found = dask_gd.search(source, store=store, callbacks=[events.append], **SHORT)
    assert kinds() == [SearchStarted, SearchEnded]
    assert_same_bits(found, reference)
    with pytest.raises(StoreMismatchError, match="candidates"):
        dask_gd.search(source, store=store, **{**SHORT, "alphas": [1e-3, 1.0]})
    with pytest.raises(StoreMismatchError, match="weights: stored blocks"):
        dask_gd.search(source, store=store, **{**SHORT, "weights": "whole", "solver": "lbfgs"})
    with pytest.raises(InvalidArgumentError, match="holds a search"):
        dask_gd.load(store)
    shown = CliRunner().invoke(main, ["show", str(store)]).output
    assert "ended" in shown


@pytest.mark.parametrize("stored", [True, False])
def test_a_worker_that_dies_takes_no_bit_with_it(two, source, tmp_path, monkeypatch, caplog, stored, reference):
    submit = Owners.submit
    passes = []

    def lose(self, submitted, *wanted):
        if str(submitted[0].key).count("gd-backward"):
            passes.append(1)
            # In the second fit of the first fold.
            if len(passes) == 5:
                raise OwnerLost("Worker tcp://x is gone.")
        return submit(self, submitted, *wanted)

    monkeypatch.setattr(Owners, "submit", lose)
    options = SHORT
    if stored:
        options = {**SHORT, "store": tmp_path / "s"}
    with caplog.at_level(logging.WARNING, "dask_gd"):
        found = dask_gd.search(source, **options)
    assert "Worker tcp://x is gone." in caplog.text
    assert_same_bits(found, reference)
    if not stored:
        with pytest.raises(InvalidArgumentError, match="give it store="):
            found.fit_without(0, 0)


def test_weights_that_are_too_wide_are_in_blocks_without_being_asked(two, source, monkeypatch):
    monkeypatch.setattr(block_fit, "SHARE", 1e-12)
    options = {"loss": "logistic", "alphas": [10.0], "folds": 2, "max_iter": 0, "solver": "lbfgs"}
    assert dask_gd.search(source, **options).refit().weights.chunks is not None
    monkeypatch.undo()
    assert dask_gd.search(source, **options).refit().weights.chunks is None


REFUSED = {
    "number of them": {"alphas": 5, "l1_ratios": [1.0]},
    "needs all weights in one place": {"solver": "newton"},
    "one number for all": {
        "alphas": None,
        "penalty_grid": [L2(1.0), GroupLasso(1.0, [0, 1] * 20 + [1])],
        "solver": "nesterov",
    },
    "take 2 searches": {"folds": [([0, 1, 2], [3, 4]), ([0, 1], [3, 5])]},
    "the name of a score": {"scoring": lambda y, z, s: 0.0, "nan": "drop"},
    "scoring='r2' does not suit": {"scoring": "r2"},
    "learning_rates are for": {"learning_rates": [0.1], "solver": "lbfgs"},
    "smoothed in stages": {"loss": "quantile"},
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_had_is_refused_before_the_first_task(two, source, monkeypatch, message):
    monkeypatch.setattr(Owners, "submit", None)
    options = {"loss": "logistic", "alphas": [0.1], **REFUSED[message]}
    with pytest.raises(InvalidArgumentError, match=message):
        dask_gd.search(source, weights="blocks", **options)


def test_features_that_are_not_in_columns_are_refused(two):
    with pytest.raises(InvalidArgumentError, match="not stored by columns"):
        dask_gd.search(np.ones((20, 2)), np.arange(20) % 2.0, loss="logistic", alphas=[0.1], weights="blocks")


def test_blocks_need_a_cluster(source):
    with pytest.raises(InvalidArgumentError, match="there is none: start a"):
        dask_gd.search(source, **SHORT)


def test_a_fold_without_rows_is_refused_by_name(two, source):
    folds = np.where(np.arange(N) < 100, 0, 2)
    with pytest.raises(DataError, match="Fold 1 of 3 holds no row"):
        dask_gd.search(source, folds=folds, **{name: v for name, v in SHORT.items() if name != "folds"})


@pytest.mark.parametrize("folds", [Folds(3), Folds(3, by="block"), Folds(3, by="class"), np.arange(N) % 4 - 1])
def test_the_folds_of_segments_are_those_of_all_rows(source, folds):
    with_column, assignment = assign_by_rows(source, folds, None, Logistic())
    y = np.asarray(dask_gd.sources.lazy.column(source, "y")).reshape(-1, 1)
    segments = (0, 70, 180, N)
    if assignment.before is not None:
        counts = [[(y[:start] == c).sum() for c in (0, 1)] for start in segments[:-1]]
        assignment = assignment._replace(before=np.array(counts))
    column = dask_gd.sources.lazy.column(with_column, "fold")
    found = []
    for s, (start, stop) in enumerate(pairwise(segments)):
        values = Values(y[start:stop], None, None, 0)
        fold = None if column is None else np.asarray(column[start:stop])
        found.append(folds_of(values, assignment, s, start, fold))
    assert_array_equal(
        np.concatenate(found), fold_numbers(with_column, assign_by_rows(source, folds, None, Logistic())[1])
    )


def test_rows_that_are_held_out_have_no_part_in_a_fit_even_without_a_finite_loss():
    poisson = dask_gd.losses.Poisson()
    y = np.array([[1.0], [2.0], [3.0]])
    z = np.array([0.5, 800.0, 0.1])[:, None, None]
    assignment = Assignment(Folds(2), 3, 0)
    values = without_fold(Values(y, None, None, 0), np.array([0, 1, 0]), assignment, 1)
    assert_array_equal(values.weight, [1, 0, 1])
    _, slopes, looked = row_tasks.look(values, poisson, 2.0, np.zeros((1, 1, 1)), None, 0, True, z)
    alone = Values(y[::2], np.ones(2), None, 0)
    _, expected, of_alone = row_tasks.look(alone, poisson, 2.0, np.zeros((1, 1, 1)), None, 0, True, z[::2])
    assert_array_equal(slopes[::2], expected)
    assert slopes[1] == 0
    for mine, theirs in zip(looked, of_alone, strict=True):
        assert_allclose(mine, theirs)


def test_rows_held_out_are_scored_with_offset_weight_and_step_along_a_line():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, (50, 1)).astype(float)
    z, direction = rng.normal(size=(2, 50, 1, 1))
    weight, offset = rng.random(50), rng.normal(size=50)
    folds = rng.integers(0, 3, 50)
    values = Values(y, np.where(folds == 1, 0.0, weight), offset, 0)
    loss = Logistic()
    summary = RowMeans(log_loss(loss))
    constant = np.full((1, 1, 1), 0.3)
    [sums] = summarise(values, weight, folds, 1, (summary,), constant, 0, 0.7, z, direction)
    at = (z + 0.7 * direction)[folds == 1, :, 0] + 0.3 + offset[folds == 1, None]
    value, _ = loss.value_and_slope(at[:, :, None], y[folds == 1][:, :, None])
    assert_allclose(-summary.score(sums), np.average(value.ravel(), weights=weight[folds == 1]))


def test_the_strongest_penalty_comes_first():
    penalties = [dask_gd.ElasticNet(0.1, 0.5), L2(10.0), dask_gd.L1(0.3), L2(100.0), L2(0.0)]
    assert strongest_first(penalties) == [3, 1, 2, 0, 4]
