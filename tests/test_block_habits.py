"""What users do around a fit does the same where its weights are in blocks: callbacks, starts, reports, the shell."""

import numpy as np
import pytest
import scipy.sparse
from click.testing import CliRunner
from helpers import until

import dask_gd
from dask_gd import callbacks
from dask_gd.cli import main
from dask_gd.dashboard.plugin import Board
from dask_gd.dashboard.table import table
from dask_gd.errors import InvalidArgumentError
from dask_gd.events import FitEnded, FitStarted, IterationEnded, StopFit
from dask_gd.results.lazy_weights import is_lazy

N, P = 1200, 60
OPTIONS = {"loss": "logistic", "penalty": dask_gd.L2(1e-2), "weights": "blocks"}


def rows(seed=0):
    rng = np.random.default_rng(seed)
    x = scipy.sparse.random_array((N, P), density=0.2, rng=rng, format="csr", data_sampler=rng.normal)
    return x, (x @ np.sin(np.arange(P)) + rng.normal(size=N) > 0.3).astype(float)


def written(path, width):
    x, y = rows()
    return dask_gd.open(dask_gd.block_columns(x, path, y=y, width=width), x="X", y="y")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("blocks")


@pytest.fixture(scope="module")
def source(folder):
    return written(folder / "x.zarr", 20)


def test_callbacks_hear_and_stop_as_of_whole_weights(two, source, tmp_path):
    x, y = rows(1)
    found = {}
    for weights in ("whole", "blocks"):
        stopping = callbacks.EarlyStopping(x, y, patience=1, min_delta=1e-3)
        keep = callbacks.Checkpoint(tmp_path / weights, every=2)
        log = callbacks.LogFile(tmp_path / f"{weights}.csv")
        options = {**OPTIONS, "weights": weights, "solver": "lbfgs", "callbacks": [stopping, keep, log]}
        run = dask_gd.fit(source, **options)
        assert run.reason == "early_stopping"
        found[weights] = (run, stopping, keep)
        assert len((tmp_path / f"{weights}.csv").read_text().splitlines()) == run.n_iter + 2
    whole, blocks = found["whole"], found["blocks"]
    assert whole[0].n_iter == blocks[0].n_iter
    assert whole[2].store.iterations() == blocks[2].store.iterations()
    np.testing.assert_allclose(blocks[1].best.parameters, whole[1].best.parameters, rtol=1e-6, atol=1e-8)
    np.testing.assert_array_equal(dask_gd.load(tmp_path / "blocks").weights, blocks[0].weights)


@pytest.mark.parametrize("kind", ["stopping", "checkpoint"])
def test_callbacks_that_need_all_weights_are_refused_before_the_first_pass(two, source, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(callbacks, "WHOLE_BYTES", 8 * P - 1)
    callback = callbacks.Checkpoint(tmp_path / "kept")
    if kind == "stopping":
        callback = callbacks.EarlyStopping(*rows(1))
    heard = []
    with pytest.raises(InvalidArgumentError, match=r"in this process.*3 blocks on the workers, 480 B.*StopFit"):
        dask_gd.fit(source, **OPTIONS, callbacks=[callback, heard.append])
    assert not any(isinstance(event, IterationEnded) for event in heard)


def test_a_fit_begins_at_another_ones_weights_whatever_its_blocks_are(two, source, folder):
    other = written(folder / "other.zarr", 17)
    run = dask_gd.fit(source, **OPTIONS, max_iter=2, store=folder / "stored")
    in_memory = dask_gd.fit(source, **OPTIONS, max_iter=2)
    for begun, rows_of in ((in_memory, source), (in_memory, other), (dask_gd.load(folder / "stored"), other)):
        assert is_lazy(begun.weights)
        again = dask_gd.fit(rows_of, **OPTIONS, initial_weights=begun, max_iter=0)
        np.testing.assert_array_equal(again.parameters, run.parameters)
        assert again.history.loss.item() == pytest.approx(run.history.loss[-1].item(), rel=1e-12)
    whole = {**OPTIONS, "weights": "whole", "solver": "lbfgs", "max_iter": 0}
    np.testing.assert_array_equal(dask_gd.fit(other, **whole, initial_weights=run).parameters, run.parameters)
    start = run.weights.values.copy()
    start[7] = np.nan
    with pytest.raises(InvalidArgumentError, match="initial_weights holds NaN or infinity"):
        dask_gd.fit(source, **OPTIONS, initial_weights=start)
    with pytest.raises(InvalidArgumentError, match=r"shape \(7,\); this fit has 60 features"):
        dask_gd.fit(source, **OPTIONS, initial_weights=start[:7])


def test_reports_and_commands_read_the_blocks_of_a_store(two, source, folder, tmp_path):
    run = dask_gd.fit(source, **OPTIONS, max_iter=2, store=tmp_path / "run")
    largest = np.abs(run.weights.values).max()
    assert f"{largest:.3f}"[:4] in dask_gd.report(tmp_path / "run", tmp_path / "run.html").read_text()
    for options in ([], ["--json"], ["--weights"]):
        shown = CliRunner().invoke(main, ["show", str(tmp_path / "run"), *options], catch_exceptions=False)
        assert shown.exit_code == 0
        assert "max_iter" in shown.output or options == ["--weights"]
        assert "intercept" in shown.output
    out = str(tmp_path / "predicted.zarr")
    arguments = ["predict", str(tmp_path / "run"), str(folder / "x.zarr"), "-x", "X", "-o", out]
    assert CliRunner().invoke(main, arguments, catch_exceptions=False).exit_code == 0


def test_a_fit_in_blocks_runs_from_the_shell(two, source, folder, tmp_path):
    arguments = ["fit", str(folder / "x.zarr"), "-x", "X", "-y", "y", "--loss", "logistic", "--penalty", "l2:0.01"]
    arguments += ["--weights", "blocks"]
    refused = CliRunner().invoke(main, arguments)
    assert refused.exit_code == 2
    assert "give --workers or --scheduler" in refused.output
    arguments += ["--scheduler", two.scheduler.address, "--quiet", "--max-iter", "2"]
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert done.exit_code == 3
    assert "after 2 iterations" in done.output
    assert "and 50 smaller ones" in done.output


def test_the_page_tells_of_blocks_and_of_the_memory_of_their_workers(two, source):
    seen = []

    def look(event):
        board = two.cluster.scheduler.plugins["dask_gd"]
        if isinstance(event, IterationEnded) and event.iteration == 1:
            seen.append(until(lambda: "memory of workers" in (html := html_of(board)) and html))
            raise StopFit

    def html_of(board):
        return table(board, list(board.watched.values()), dict.fromkeys(board.watched, "red"))

    run = dask_gd.fit(source, **OPTIONS, callbacks=[look])
    assert run.n_iter == 1
    assert "weights in 3 blocks of 20 on 2 workers" in seen[0]
    # Half a pass over all rows is no sample of them.
    assert "of the rows" not in seen[0]
    assert "planned to need" in seen[0]
    for worker in two.scheduler_info()["workers"]:
        assert worker in seen[0]
    # Whole weights have no such line, nor has a fit whose event comes from before there were blocks.
    board = Board()
    started = FitStarted("a", "rows", "Squared()", "none", "adam", 9, None)
    message = {**started.as_message(), "client": "c", "time": 0.0}
    for name in ("blocks", "width", "workers", "memory"):
        del message[name]
    board.log_event("dask_gd", message)
    board.log_event("dask_gd", {**FitEnded("converged", 1, 0.5, "a").as_message(), "client": "c", "time": 0.0})
    board.reading_speed = lambda run: None
    assert "blocks" not in html_of(board)
