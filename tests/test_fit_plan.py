"""What `fit_plan` says before a fit is what the fit reads."""

import dask.array as da
import numpy as np
import pytest
from helpers import problem

import dask_gd
from dask_gd import passes
from dask_gd.losses import Custom
from dask_gd.sources import as_source


def source_of(rows=16_000, features=50, partitions=32, classes=2):
    x, _, y = problem(rows, features)
    if classes > 2:
        y = np.arange(rows) % classes
    return as_source(da.from_array(x, chunks=(-(-rows // partitions), -1)), y)


@pytest.fixture(scope="module")
def wide():
    return source_of()


@pytest.fixture
def unread(monkeypatch):
    """Nothing may be read."""
    monkeypatch.setattr(passes, "evaluate", lambda *a, **k: pytest.fail("a pass was made"))


@pytest.mark.parametrize("loss", ["logistic", "huber"])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_fit_reads_the_samples_of_its_plan(wide, loss, seed):
    plan = dask_gd.fit_plan(wide, loss=loss, solver="newton", seed=seed)
    run = dask_gd.fit(wide, loss=loss, solver="newton", seed=seed, tol=1e-5)
    assert plan.one_pass == wide.plan()
    assert [sample.partitions for sample in plan.samples] == [2, 8]
    whole = run.history.full_passes.values
    read = {int(rows) for rows in run.history.rows.values[whole == 0] if rows}
    assert read
    assert read <= {sample.rows for sample in plan.samples}
    share = plan.samples[0].rows / wide.shape[0]
    assert plan.samples[0].bytes_read == round(share * plan.one_pass.bytes_read)
    # The corrected steps have read a sample beside all rows.
    corrected = (whole > 0) & (run.history.passes.values > whole)
    assert plan.corrects
    assert corrected.any()
    assert plan.least_passes <= whole.sum()


def test_a_plan_says_all_in_words_and_reads_nothing(wide, unread):
    said = str(dask_gd.fit_plan(wide, loss="logistic"))
    assert said.startswith("Newton() begins on 2 partitions (1,000 rows, ")
    assert " and then on 8 partitions (4,000 rows, " in said
    assert "Samples are read from the source each time" in said
    assert "one at least, mostly two" in said
    assert "corrects the steps" in said


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"loss": "squared"}, "squared"),
        ({"loss": "logistic", "solver": "adam"}, "takes none"),
        ({"loss": "logistic", "initial_weights": np.zeros(50)}, "initial_weights"),
        ({"loss": "logistic", "max_iter": 24}, "max_iter is less than 25"),
        ({"loss": "logistic", "source": source_of(partitions=15)}, "fewer than 16 partitions"),
        ({"loss": "logistic", "source": source_of(rows=1_600)}, "fewer than 10 rows"),
    ],
)
def test_a_plan_says_why_a_fit_begins_on_all_rows(wide, unread, monkeypatch, options, why):
    options = dict(options)
    source = options.pop("source", wide)
    plan = dask_gd.fit_plan(source, **options)
    assert why in plan.why_whole
    assert why in str(plan)
    assert not plan.samples
    assert not plan.corrects
    monkeypatch.undo()
    run = dask_gd.fit(source, **{"tol": 1e-2, **options})
    np.testing.assert_array_equal(run.history.passes, run.history.full_passes)
    assert plan.least_passes <= run.history.full_passes.sum()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"loss": "logistic", "solver": "lbfgs"}, "no curvature of all rows"),
        ({"loss": "logistic", "source": source_of(features=192)}, "beyond 192 parameters"),
        ({"loss": dask_gd.Softmax(classes=3), "source": source_of(classes=3)}, "classes"),
        ({"loss": "quantile"}, "smoothed"),
        ({"loss": "huber", "source": source_of(features=40)}, "jumps"),
        ({"loss": "logistic", "penalty": dask_gd.L1(1e-3), "source": source_of(features=40)}, "bends"),
    ],
)
def test_a_plan_says_why_no_step_is_corrected(wide, unread, monkeypatch, options, why):
    options = {"solver": "newton", **options}
    source = options.pop("source", wide)
    plan = dask_gd.fit_plan(source, **options)
    assert plan.samples
    assert not plan.corrects
    assert why in plan.why_uncorrected
    assert why in str(plan)
    monkeypatch.undo()
    run = dask_gd.fit(source, **options, max_iter=25, tol=1e-2)
    whole = run.history.full_passes.values
    np.testing.assert_array_equal(run.history.passes.values[whole > 0], whole[whole > 0])


def test_steps_of_batches_are_told_from_passes_over_all_rows(wide):
    plan = dask_gd.fit_plan(wide, loss="logistic", solver=dask_gd.SGD(batch=0.25), max_iter=5)
    assert plan.least_passes == 0
    assert "0.25 of the rows" in str(plan)
    run = dask_gd.fit(wide, loss="logistic", solver=dask_gd.SGD(batch=0.25), max_iter=5)
    assert run.history.full_passes.sum() == 0
    assert run.history.passes.sum() > 1


def test_what_cannot_be_planned_is_refused(wide):
    with pytest.raises(dask_gd.errors.InvalidArgumentError, match="how many classes"):
        dask_gd.fit_plan(wide, loss="softmax")
    with pytest.raises(dask_gd.errors.InvalidArgumentError, match="max_iter"):
        dask_gd.fit_plan(wide, loss="logistic", max_iter=-1)


def test_a_loss_of_ones_own_is_corrected_by_the_larger_sample(wide, unread):
    own = Custom(lambda z, y: np.logaddexp(0, z) - y * z, lambda z, y: 1 / (1 + np.exp(-z)) - y)
    assert dask_gd.fit_plan(wide, loss=own, solver="newton").corrects
