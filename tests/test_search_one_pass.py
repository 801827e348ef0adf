"""Searches whose first steps a sample corrects: the fits that they would be alone, within the tolerance."""

import dask
import dask.array as da
import numpy as np
import pytest
from dask.distributed import Client
from helpers import problem, to_zarr

import dask_gd
from dask_gd.events import RoundEnded
from dask_gd.fitting import search_followers
from dask_gd.fitting.engine import Engine
from dask_gd.fitting.fold_kernels import HoldOut
from dask_gd.fitting.folds import Assignment, Folds, SplitFolds
from dask_gd.fitting.holdout_kernel import HoldOutOnly
from dask_gd.fitting.search_result import SearchResult
from dask_gd.kernels.base import EXACT, Request, sums_of_rows
from dask_gd.kernels.dense import DenseRows
from dask_gd.kernels.several_curvatures import SeveralCurvatures
from dask_gd.kernels.sums import Part
from dask_gd.model.losses import as_loss
from dask_gd.solvers.newton.newton import Newton
from dask_gd.solvers.objective import objective
from dask_gd.sources import Rows

FOLDS = 3
ALPHAS = np.geomspace(1e-7, 1e-2, 6)


def rows_of(x, partitions=32):
    return da.from_array(x, chunks=(-(-len(x) // partitions), -1))


def seen_by(fold, n):
    return Folds(FOLDS).of_rows(np.arange(n), n) != fold


@pytest.fixture(scope="module")
def wide():
    """Return rows whose curvature costs more than to read them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16_000, 50)) + 0.5 * rng.normal(size=(16_000, 1)) + rng.uniform(-1, 1, 50)
    z = (x - x.mean(axis=0)) @ rng.normal(size=50) / 10 - 0.5
    return x, (z + rng.logistic(size=len(z)) > 0).astype(float)


@pytest.fixture
def searched(monkeypatch):
    """Return a function that searches, and returns the result, its tracks, and the passes, those of samples counted."""
    seen = []
    passes = []
    of = SearchResult.of
    read = Engine.read

    def spied(tracks, engine, scoring):
        seen.append(tracks)
        return of(tracks, engine, scoring)

    def counted(engine, query, request, partitions=None):
        before = engine.passes
        sums = read(engine, query, request, partitions)
        passes.append(engine.passes - before)
        return sums

    monkeypatch.setattr(SearchResult, "of", spied)
    monkeypatch.setattr(Engine, "read", counted)

    def search(x, y, **options):
        passes.clear()
        found = dask_gd.search(x, y, **{"alphas": ALPHAS, "folds": FOLDS, "solver": "newton", **options})
        return found, seen[-1], sum(passes)

    return search


def check_ends(x, y, tracks, loss, tol):
    """Check the gradient of every fit, and its loss on the rows held out, where it has ended."""
    loss = as_loss(loss)
    for track in tracks:
        assert track.reason == "converged"
        seen = seen_by(track.fold, len(x))
        query = track.state.weights
        sums = sums_of_rows(x[seen], y[seen, None], None, query, loss, Request())
        gradient = objective(sums, query, track.penalty, loss, x.shape[1]).gradient
        assert track.norm(gradient) <= tol
        if track.fold >= 0:
            out = sums_of_rows(x[~seen], y[~seen, None], None, query, loss, Request())
            np.testing.assert_allclose(track.holdout[0], out.loss[0], rtol=2e-9)


@pytest.mark.parametrize("tol", [1e-3, 1e-6])
def test_fits_end_within_the_tolerance_after_fewer_passes(wide, searched, monkeypatch, tol):
    x, y = wide
    found, tracks, passes = searched(rows_of(x), y, loss="logistic", tol=tol)
    check_ends(x, y, tracks, "logistic", tol)
    assert all(track.correction is not None for track in tracks)
    # To a loose tolerance the first look is at the end.
    assert any(track.bound <= tol for track in tracks) == (tol < 1e-3)
    monkeypatch.setattr(Newton, "corrects", False)
    other, _, before = searched(rows_of(x), y, loss="logistic", tol=tol)
    assert passes < before
    np.testing.assert_allclose(found.scores, other.scores, rtol=tol)
    assert found.best == other.best


KINDS = ["as it comes", "rare", "sorted by target"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loss", ["logistic", "poisson"])
def test_nothing_is_foretold_that_does_not_come(searched, loss, kind):
    rng = np.random.default_rng([KINDS.index(kind), len(loss)])
    x = rng.normal(size=(4000, 5))
    if kind == "rare":
        x[:, :2] = rng.random((4000, 2)) < [3e-3, 2e-2]
    z = x @ rng.normal(size=5) / 2
    y = rng.poisson(np.exp(z)).astype(float)
    if loss == "logistic":
        y = (rng.random(len(z)) < 1 / (1 + np.exp(-z))).astype(float)
    if kind == "sorted by target":
        order = np.argsort(y + 0.5 * y.std() * rng.normal(size=len(y)))
        x = x[order]
        y = y[order]
    for partitions, tol in ((32, 1e-6), (4, 1e-8)):
        _, tracks, _ = searched(rows_of(x, partitions), y, loss=loss, tol=tol, alphas=ALPHAS[::2])
        check_ends(x, y, tracks, loss, tol)


def test_fits_nearby_share_a_look_and_end_where_they_do_alone(wide, searched, monkeypatch):
    x, y = wide
    together, tracks, _ = searched(rows_of(x), y, loss="logistic", tol=1e-4, alphas=ALPHAS[:3])
    assert any(track.blur > 0 for track in tracks)
    assert all(track.blur <= search_followers.SHARE * 1e-4 for track in tracks)
    check_ends(x, y, tracks, "logistic", 1e-4)
    monkeypatch.setattr(search_followers, "SHARE", 0.0)
    alone, tracks, _ = searched(rows_of(x), y, loss="logistic", tol=1e-4, alphas=ALPHAS[:3])
    assert not any(track.blur > 0 for track in tracks)
    np.testing.assert_allclose(together.scores, alone.scores, rtol=1e-6)


def test_sums_that_are_moved_are_those_at_the_end_of_the_move_where_nothing_bends():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3)) + 1.0
    y = rng.normal(size=(200, 2))
    query, move = rng.normal(size=(2, 4, 2, 1))
    squared = as_loss("squared")
    sums = sums_of_rows(x, y, None, query, squared, Request(curvature=EXACT))
    there = sums_of_rows(x, y, None, query + move, squared, Request())
    moved = search_followers.moved(sums, move, sums.curvature)
    np.testing.assert_allclose(moved.loss, there.loss, rtol=1e-12)
    np.testing.assert_allclose(moved.gradient, there.gradient, rtol=1e-10)


def test_a_score_that_is_not_the_loss_is_that_at_the_end(wide, searched):
    x, y = wide
    found, tracks, _ = searched(rows_of(x), y, loss="logistic", tol=1e-4, scoring="accuracy", alphas=ALPHAS[:2])
    assert any(track.bound <= 1e-4 for track in tracks)
    for c in range(2):
        for fold in range(FOLDS):
            out = ~seen_by(fold, len(x))
            trial = found.data.isel(candidate=c, fold=fold)
            right = (x[out] @ trial.weights.values + trial.intercept.item() > 0) == (y[out] > 0)
            np.testing.assert_allclose(trial.score, right.mean(), rtol=1e-12)
    check_ends(x, y, tracks, "logistic", 1e-4)


def test_weights_offsets_and_penalties_that_bend_are_served(wide, searched):
    x, y = wide
    rng = np.random.default_rng(1)
    more = {"sample_weight": rng.uniform(0.5, 2, len(y)), "offset": rng.normal(size=len(y)) / 4}
    grid = [dask_gd.L2(1e-4), dask_gd.ElasticNet(1e-3, 0.5)]
    found, tracks, _ = searched(rows_of(x), y, loss="logistic", alphas=None, penalty_grid=grid, tol=1e-6, **more)
    assert any(track.correction is not None for track in tracks)
    seen = seen_by(1, len(x))
    parts = {name: values[seen] for name, values in more.items()}
    for c, penalty in enumerate(grid):
        alone = dask_gd.fit(x[seen], y[seen], loss="logistic", penalty=penalty, tol=1e-9, **parts)
        np.testing.assert_allclose(found.data.weights[c, 1], alone.weights, atol=1e-5)


@pytest.fixture
def stored(wide, tmp_path):
    """Return the arguments of a search of rows on disk in 16 chunks."""
    x, y = wide
    source = {"x": to_zarr(x[:8000], 500, tmp_path / "x"), "y": to_zarr(y[:8000], 500, tmp_path / "y")}
    return {**source, "loss": "logistic", "alphas": ALPHAS[::4], "folds": 2, "solver": "newton", "tol": 1e-6}


def test_the_bits_do_not_depend_on_workers(stored, clusters):
    with Client(clusters(2)):
        found = dask_gd.search(**stored)
    with dask.config.set(scheduler="threads"):
        other = dask_gd.search(**stored)
    assert other.data.identical(found.data)


def test_a_search_stopped_after_any_round_goes_on_to_the_same_bits(stored, tmp_path):
    class Stop(BaseException):
        pass

    rounds = []
    whole = dask_gd.search(callbacks=[rounds.append], **stored)
    count = sum(isinstance(event, RoundEnded) for event in rounds)
    assert count > 1
    for n in range(count):
        left = [n]

        def interrupt(event, left=left):
            if isinstance(event, RoundEnded):
                left[0] -= 1
            if left[0] < 0:
                raise Stop

        store = tmp_path / f"search-{n}"
        with pytest.raises(Stop):
            dask_gd.search(store=store, callbacks=[interrupt], **stored)
        resumed = dask_gd.search(store=store, **stored)
        assert resumed.data.identical(whole.data)


# The parts.


@pytest.mark.parametrize("outputs", [1, 2])
def test_several_curvatures_are_those_of_single_candidates(outputs):
    x, _, y = problem(600, 4)
    y = np.column_stack([y, 1 - y])[:, :outputs]
    s = np.random.default_rng(1).uniform(0.5, 2, 600)
    query = np.random.default_rng(0).normal(size=(5, outputs, 4))
    loss = as_loss("logistic")
    part = Part(0, query, loss, Request(curvature=EXACT), DenseRows(x.dtype, 4))
    kernel = SeveralCurvatures((1, 3)).make(part)
    kernel.add(x, y, s)
    found = kernel.sums()
    for n, i in enumerate((1, 3)):
        expected = sums_of_rows(x, y, s, query[:, :, i, None], loss, Request(curvature=EXACT))
        of_candidate = slice(n * outputs, (n + 1) * outputs)
        np.testing.assert_allclose(found.curvature[:, :, of_candidate], expected.curvature, rtol=1e-12)
        np.testing.assert_allclose(found.gradient[:, :, i], expected.gradient[:, :, 0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("splits", [False, True])
def test_rows_held_out_are_summed_apart(splits):
    x, _, y = problem(900, 4)
    fold = np.random.default_rng(2).integers(-1, 2 + splits, 900).astype(float)
    s = np.random.default_rng(1).uniform(0.5, 2, 900)
    column = "splits" if splits else "folds"
    assignment = Assignment(SplitFolds(2) if splits else Folds(2), 900, 0, column=column)
    of = np.array([-2, 0, 0, 1])
    query = np.random.default_rng(0).normal(size=(5, 1, 4))
    loss = as_loss("logistic")

    def score(target, z):
        return (target * z).sum(axis=1)

    spec = HoldOut(assignment, of, score, has_slopes=True)
    part = Part(0, query, loss, Request(), DenseRows(x.dtype, 4))
    rows = Rows(x, y[:, None], {"fold": fold, "weight": s}, 0, part.row_format)
    kernels = [spec.make(part), HoldOutOnly(spec).make(part)]
    for kernel in kernels:
        kernel.add_rows(rows)
    found = kernels[0].sums()
    np.testing.assert_allclose(kernels[1].sums().holdout, np.where(of < 0, 0.0, found.holdout), rtol=1e-12)
    for i, f in enumerate(of):
        out = (fold == f) & (f >= 0)
        unseen = out | ((fold == 2) & (f >= 0))
        at = query[:, :, i, None]
        inside, held = (sums_of_rows(x[r], y[r, None], s[r], at, loss, Request()) for r in (~unseen, out))
        np.testing.assert_allclose(found.at_query.loss[i], inside.loss[0], rtol=1e-12)
        np.testing.assert_allclose(found.at_query.gradient[:, :, i], inside.gradient[:, :, 0], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(found.holdout[0, i], held.loss[0], rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(found.slopes[:, :, i], held.gradient[:, :, 0], rtol=1e-9, atol=1e-9)
        z = x[out] @ at[:4, 0] + at[4, 0]
        np.testing.assert_allclose(found.holdout[1, i], (s[out] * y[out]) @ z[:, 0], rtol=1e-9, atol=1e-9)
