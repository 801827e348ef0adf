"""Steps corrected by a sample end at the same optimum, within the tolerance, after no more passes, to the same bits."""

from functools import partial
from types import SimpleNamespace

import dask
import dask.array as da
import numpy as np
import pytest
from dask.distributed import Client
from helpers import problem, problem_of, stopped_and_resumed, to_zarr

import dask_gd
from dask_gd import passes
from dask_gd.fitting import correction, prospect, stages
from dask_gd.kernels.base import EXACT, Request, sums_of_rows
from dask_gd.kernels.dense import DenseRows
from dask_gd.kernels.grouped import Grouped
from dask_gd.kernels.sums import Part
from dask_gd.model.losses import as_loss
from dask_gd.results.plain_state import plain_state
from dask_gd.solvers.newton.corrected import Centre, beyond_quadratic, corrected, spread
from dask_gd.solvers.newton.newton import Newton
from dask_gd.solvers.objective import gradient_cosine, objective

PARTITIONS = 32
GROUPS = tuple(i // 5 for i in range(50))


def rows_of(x, partitions=PARTITIONS):
    return da.from_array(x, chunks=(-(-len(x) // partitions), -1))


def at(x, y, loss, penalty, query, curvature=EXACT, **more):
    """Return the objective of these rows at a query (q, 1, 1)."""
    loss = as_loss(loss)
    sums = sums_of_rows(x, y[:, None], None, query, loss, Request(curvature=curvature, **more))
    return objective(sums, query, penalty, loss, x.shape[1])


def gradient_over_scale(x, y, loss, penalty, parameters):
    """Return the gradient's largest component over its scale, of all rows, as `fit` measures it."""
    loss = as_loss(loss)
    query = np.zeros((x.shape[1] + 1, 1, 1))
    if loss.curvature_bound is None:
        query[-1] = np.log(y.mean())
    first = sums_of_rows(x, y[:, None], None, query, loss, Request(moments=True))
    end = at(x, y, loss, penalty, parameters.reshape(query.shape), curvature=None)
    return gradient_cosine(end.gradient[:, :, 0], first.moments, first.weight, x.shape[1])


def unlucky(kind, x, y, rng):
    """Return rows of a kind that a sample may tell little of."""
    if kind == "sorted":
        order = np.argsort(x[:, 0])
    elif kind == "sorted by target":
        order = np.argsort(y + 0.5 * y.std() * rng.normal(size=len(y)))
    else:
        order = np.arange(len(y))
    if kind == "rare":
        x = np.hstack([x, (rng.random((len(x), 3)) < [3e-3, 1e-2, 0.1]).astype(float)])
    if kind == "heavy":
        x = x * np.minimum(np.abs(rng.standard_t(2.5, size=(len(x), 1))), 20)
    if kind == "badly scaled":
        x = (x + rng.normal(size=(len(x), 1))) * 10 ** rng.uniform(-3, 3, x.shape[1])
    return x[order], y[order]


KINDS = ["as it comes", "badly scaled", "rare", "heavy", "sorted", "sorted by target"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loss", ["logistic", "poisson", "gamma", "tweedie", "own"])
def test_fits_end_within_the_tolerance_after_no_more_passes(loss, kind, monkeypatch):
    rng = np.random.default_rng([KINDS.index(kind), len(loss)])
    if loss == "own":
        loss = dask_gd.losses.Custom(
            lambda z, y: np.logaddexp(0, z) - y * z,
            lambda z, y: 1 / (1 + np.exp(-z)) - y,
        )
        x, y = problem_of(dask_gd.Logistic(), n=8000, p=4)
    else:
        x, y = problem_of(as_loss(loss), n=8000, p=int(rng.integers(1, 8)), size=0.5)
        y = np.maximum(y, 1e-9) if loss == "gamma" else y
    x, y = unlucky(kind, x, y, rng)
    penalty = dask_gd.L2(1e-3)
    for tol in (1e-3, 1e-6):
        passes = []
        for corrects in (True, False):
            monkeypatch.setattr(Newton, "corrects", corrects)
            run = dask_gd.fit(rows_of(x), y, loss=loss, penalty=penalty, solver="newton", tol=tol)
            assert run.converged
            found = gradient_over_scale(x, y, loss, penalty, run.parameters)
            assert found <= tol
            if run.history.passes[-1] == 0:
                assert found <= run.history.grad_norm[-1]
            passes.append(float(run.history.passes.sum()))
        # A sample of two partitions may have been read in vain.
        assert passes[0] <= passes[1] + 2 / PARTITIONS + 1e-9


@pytest.mark.parametrize("loss", ["poisson", "gamma", "tweedie"])
def test_a_sample_that_leads_astray_costs_passes_and_no_digit(loss):
    """The rows of few partitions, of those sorted by target, fit weights to which all others are astronomic."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(6400, 12))
    z = x @ rng.normal(size=12) / 3
    y = rng.poisson(np.exp(z)).astype(float) if loss == "poisson" else rng.gamma(2.0, np.exp(z) / 2) + 1e-9
    order = np.argsort(y)
    x, y = x[order], y[order]
    penalty = dask_gd.L2(1e-4)
    for seed in range(12):
        run = dask_gd.fit(rows_of(x), y, loss=loss, penalty=penalty, solver="newton", tol=1e-6, seed=seed)
        assert run.converged
        assert gradient_over_scale(x, y, loss, penalty, run.parameters) <= 1e-6


@pytest.fixture(scope="module")
def wide():
    """Return rows whose curvature costs more than to read them, in an order that tells nothing: most gain here."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60_000, 50)) + 0.5 * rng.normal(size=(60_000, 1)) + rng.uniform(-1, 1, 50)
    z = (x - x.mean(axis=0)) @ rng.normal(size=50) / 10 - 0.5
    return x, (z + rng.logistic(size=len(z)) > 0).astype(float)


def test_a_fit_may_end_after_one_pass_over_all_rows(wide):
    x, y = wide
    run = dask_gd.fit(rows_of(x), y, loss="logistic", tol=1e-2)
    whole = run.history.rows.values >= len(y)
    assert whole.sum() == 1
    assert run.history.passes[-1] == 0
    assert float(run.history.passes.sum()) < 1.3
    assert gradient_over_scale(x, y, "logistic", dask_gd.L2(0.0), run.parameters) <= run.history.grad_norm[-1] <= 1e-2
    # Passes, rows and bytes are those over the sample too.
    np.testing.assert_allclose(run.history.rows, run.history.passes * len(y))
    np.testing.assert_allclose(run.history.bytes_read, run.history.passes * (x.nbytes + y.nbytes))
    # What was read of all rows is told from what was read of samples.
    np.testing.assert_array_equal(run.history.full_passes, whole)
    samples = float(run.history.passes.sum()) - 1
    assert f"; 1 pass over all rows, {samples:.3g} in samples, " in str(run)


def test_a_result_of_a_version_that_did_not_tell_samples_apart_is_loaded(wide):
    x, y = wide
    run = dask_gd.fit(rows_of(x), y, loss="logistic", tol=1e-2)
    state = {**vars(run), "history": run.history.drop_vars("full_passes")}
    former = object.__new__(dask_gd.FitResult)
    former.__setstate__(plain_state(state))
    assert str(former) == str(run)


@pytest.mark.parametrize(("q", "rows_each"), [(101, 10_000), (101, 150_000), (101, 100), (11, 10_000)])
def test_the_first_sample_has_no_more_rows_than_tell_something_new(q, rows_each):
    count = 640
    source = SimpleNamespace(partitions=count, bounds=np.arange(count + 1) * rows_each)
    track = SimpleNamespace(
        source=source, solver=Newton(), loss=as_loss("logistic"), smoothing=None, start=np.zeros((q, 1, 1)), seed=3
    )
    first, second = stages.plan_samples(track)
    assert set(first) <= set(second)
    assert len(second) == count // 4
    # Enough for its parameters where their curvature costs something, an even number of partitions; else a share.
    wanted = count / 16
    if q == 101:
        wanted = min(wanted, stages.ENOUGH_EACH * q / rows_each)
    assert len(first) % 2 == 0
    assert wanted <= len(first) < wanted + 2


def test_a_curvature_is_computed_where_the_sample_s_would_cost_passes():
    """With the sample's curvature each step leaves a share of the gradient, and not its square."""
    expected = prospect.Prospect(gradient=7.4e-3, third=1.9e-4, of_third=2.2e-5, of_curvature=5.4e-4)
    assert expected.looks_with_curvature(1e-4) == 1
    assert not expected.spares_curvature(1e-4)
    exact = expected._replace(of_curvature=2e-5)
    assert exact.spares_curvature(1e-4)


@pytest.mark.parametrize("loss", ["poisson", "own", "logistic"])
def test_a_look_that_only_tells_where_to_begin_has_no_curvature(loss, monkeypatch):
    x, y = problem_of(as_loss("poisson" if loss == "poisson" else "logistic"), n=800, p=3, size=0.5)
    if loss == "own":
        loss = dask_gd.losses.Custom(
            lambda z, y: np.logaddexp(0, z) - y * z,
            lambda z, y: 1 / (1 + np.exp(-z)) - y,
        )
    asked = []
    evaluate = passes.evaluate

    def noted(*arguments, **named):
        asked.append(named["request"].curvature)
        return evaluate(*arguments, **named)

    monkeypatch.setattr(passes, "evaluate", noted)
    run = dask_gd.fit(rows_of(x), y, loss=loss, solver="newton", tol=1e-6)
    assert run.converged
    assert asked[1] == EXACT
    assert asked[0] == (None if loss == "poisson" else EXACT)


def test_the_carried_curvature_is_that_at_the_end_of_the_step(wide, monkeypatch):
    x, y = wide
    runs = {}
    for corrects in (True, False):
        monkeypatch.setattr(Newton, "corrects", corrects)
        runs[corrects] = dask_gd.fit(rows_of(x), y, loss="logistic", tol=1e-7)
    assert float(runs[True].history.passes.sum()) < float(runs[False].history.passes.sum()) - 1.5
    np.testing.assert_allclose(runs[True].parameters, runs[False].parameters, atol=1e-6)


@pytest.mark.parametrize("penalty", [dask_gd.L1(1e-2), dask_gd.ElasticNet(1e-2, 0.5), dask_gd.GroupLasso(1e-2, GROUPS)])
def test_penalties_that_bend_are_served(wide, penalty, monkeypatch):
    x, y = wide
    runs = {}
    for corrects in (True, False):
        monkeypatch.setattr(Newton, "corrects", corrects)
        runs[corrects] = dask_gd.fit(rows_of(x), y, loss="logistic", penalty=penalty, solver="newton", tol=1e-7)
        assert runs[corrects].converged
    assert float(runs[True].history.passes.sum()) < float(runs[False].history.passes.sum())
    np.testing.assert_array_equal(runs[True].weights == 0, runs[False].weights == 0)
    np.testing.assert_allclose(runs[True].parameters, runs[False].parameters, atol=1e-6)


def test_row_weights_offsets_and_several_outputs_are_served(wide, monkeypatch):
    x, y = wide
    rng = np.random.default_rng(1)
    more = {"sample_weight": rng.integers(0, 3, len(y)).astype(float), "offset": 0.3 * rng.normal(size=len(y))}
    targets = np.stack([y, 1 - y, rng.integers(0, 2, len(y))], axis=1)
    runs = {}
    for corrects in (True, False):
        monkeypatch.setattr(Newton, "corrects", corrects)
        runs[corrects] = dask_gd.fit(rows_of(x), targets, loss="logistic", solver="newton", tol=1e-7, **more)
    assert float(runs[True].history.passes.sum()) < float(runs[False].history.passes.sum())
    np.testing.assert_allclose(runs[True].parameters, runs[False].parameters, atol=1e-6)


def test_columns_that_a_sample_lacks_cost_no_more_passes(wide, monkeypatch):
    """The curvature of the sample is singular, and less than nothing may be left of the correction's along a column."""
    x, y = wide
    rare = np.zeros((len(y), 3))
    for j in range(3):
        rare[100 + 19_000 * j : 400 + 19_000 * j, j] = 1.0
    x = np.hstack([x, rare])
    runs = {}
    for corrects in (True, False):
        monkeypatch.setattr(Newton, "corrects", corrects)
        runs[corrects] = dask_gd.fit(rows_of(x), y, loss="logistic", tol=1e-7)
        assert runs[corrects].converged
    assert float(runs[True].history.passes.sum()) <= float(runs[False].history.passes.sum())
    np.testing.assert_allclose(runs[True].parameters, runs[False].parameters, atol=1e-5)


@pytest.mark.parametrize("loss", ["poisson", "gamma"])
def test_a_singular_curvature_of_the_sample_is_no_hindrance(loss):
    x, y = problem_of(as_loss(loss), n=8000, p=4, size=0.5)
    x = np.hstack([x, np.zeros((8000, 2))])
    x[4000:4100, 4] = x[:300, 5] = 1.0
    run = dask_gd.fit(rows_of(x), y, loss=loss, tol=1e-8)
    assert run.converged
    assert gradient_over_scale(x, y, loss, dask_gd.L2(0.0), run.parameters) <= 1e-7


@pytest.mark.parametrize("loss", ["logistic", "poisson"])
def test_the_curvature_of_a_sample_may_do(wide, loss, monkeypatch):
    x, y = wide
    monkeypatch.setattr(prospect, "EXACT_ENOUGH", 1.0)
    monkeypatch.setattr(prospect, "VERY_EXACT", 1.0)
    for tol in (1e-3, 1e-7):
        run = dask_gd.fit(rows_of(x), y, loss=loss, penalty=dask_gd.L2(1e-3), tol=tol)
        assert run.converged
        assert gradient_over_scale(x, y, loss, dask_gd.L2(1e-3), run.parameters) <= tol


def test_the_bits_do_not_depend_on_workers(wide, tmp_path, four, clusters):
    x, y = wide
    source = [to_zarr(x, 1875, tmp_path / "x"), to_zarr(y, 1875, tmp_path / "y")]
    runs = [dask_gd.fit(*source, loss="logistic", tol=1e-5)]
    with Client(clusters(2)):
        runs.append(dask_gd.fit(*source, loss="logistic", tol=1e-5))
    with dask.config.set(scheduler="threads"):
        runs.append(dask_gd.fit(*source, loss="logistic", tol=1e-5))
    assert runs[0].history.passes[2] > 1
    for run in runs[1:]:
        np.testing.assert_array_equal(run.parameters, runs[0].parameters)
        np.testing.assert_array_equal(run.history.loss, runs[0].history.loss)


@pytest.mark.parametrize("spares", [False, True])
def test_a_fit_stopped_after_any_step_goes_on_to_the_same_bits(wide, tmp_path, monkeypatch, spares):
    x, y = wide
    if spares:
        # The sample's curvature in place of that of all rows.
        monkeypatch.setattr(prospect, "EXACT_ENOUGH", 1.0)
        monkeypatch.setattr(prospect, "VERY_EXACT", 1.0)
    source = [to_zarr(x, 1875, tmp_path / "x"), to_zarr(y, 1875, tmp_path / "y")]
    for tol in (1e-7, 1e-2):
        fit = partial(dask_gd.fit, *source, loss="logistic", tol=tol)
        whole = fit()
        for n in range(whole.n_iter + 1):
            resumed = stopped_and_resumed(fit, tmp_path / f"run-{tol}-{n}", n)
            np.testing.assert_array_equal(resumed.parameters, whole.parameters)
            for name in ("loss", "grad_norm", "rows", "passes", "full_passes"):
                np.testing.assert_array_equal(resumed.history[name], whole.history[name])


# The parts.


@pytest.fixture
def centre():
    """Return the objective at a point, of all rows and of a sample of them, and the sample's rows."""
    x, _, y = problem(4000, 5)
    penalty = dask_gd.L2(1e-2)
    weights = 0.1 * np.random.default_rng(2).normal(size=(6, 1, 1)) / np.append(x.std(axis=0), 1)[:, None, None]
    sample = slice(0, 500)
    halves = tuple(at(x[part], y[part], "logistic", penalty, weights) for part in (slice(0, 250), slice(250, 500)))
    whole = at(x, y, "logistic", penalty, weights)
    return Centre(weights, whole, at(x[sample], y[sample], "logistic", penalty, weights), halves), x[sample], y[sample]


def test_at_the_centre_a_corrected_sample_has_the_derivatives_of_all_rows(centre):
    centre, x, y = centre
    there = corrected(at(x, y, "logistic", dask_gd.L2(1e-2), centre.weights), centre.weights, centre)
    for name in ("loss", "gradient", "curvature"):
        np.testing.assert_allclose(getattr(there, name), getattr(centre.whole, name), rtol=1e-12, atol=1e-14)


def test_elsewhere_its_gradient_and_curvature_are_those_of_its_value(centre):
    centre, x, y = centre
    rng = np.random.default_rng(3)
    scale = 1 / np.append(x.std(axis=0), 1)[:, None, None]

    def there(query):
        return corrected(at(x, y, "logistic", dask_gd.L2(1e-2), query), query, centre)

    query = centre.weights + 0.3 * rng.normal(size=(6, 1, 1)) * scale
    step = 1e-4 * rng.normal(size=(6, 1, 1)) * scale
    ahead = there(query + step)
    behind = there(query - step)
    slope = (step * there(query).gradient).sum()
    np.testing.assert_allclose((ahead.loss - behind.loss) / 2, slope, rtol=1e-5)
    change = there(query).curvature[:, :, 0] @ step[:, :, 0]
    np.testing.assert_allclose((ahead.gradient - behind.gradient)[:, :, 0] / 2, change, rtol=1e-5, atol=1e-9)


def test_what_is_beyond_quadratic_falls_with_the_square_of_the_move(centre):
    centre, x, y = centre
    move = np.random.default_rng(4).normal(size=(6, 1, 1)) / np.append(x.std(axis=0), 1)[:, None, None]
    sizes = []
    for t in (1e-2, 5e-3):
        end = at(x, y, "logistic", dask_gd.L2(1e-2), centre.weights + t * move)
        sizes.append(np.abs(beyond_quadratic(end, centre.sample, t * move)).max())
    np.testing.assert_allclose(sizes[0] / sizes[1], 4, rtol=0.05)


def test_the_spread_of_curvatures_is_that_of_the_worst_direction():
    rng = np.random.default_rng(5)
    root = rng.normal(size=(4, 4)) * [1e-3, 1, 1, 1e3]
    curvature = (root.T @ root)[:, :, None]
    ridge = np.zeros((4, 1, 1))
    assert spread(1.25 * curvature, curvature, ridge) == pytest.approx(0.25)
    assert spread(curvature, curvature, ridge) == pytest.approx(0, abs=1e-9)
    wrong = curvature + 2 * np.outer(root[0], root[0])[:, :, None]
    assert spread(wrong, curvature, ridge) == pytest.approx(2)
    # A feature that is in one of them only, and a singular curvature.
    lacking = curvature.copy()
    lacking[1] = lacking[:, 1] = 0
    assert spread(curvature, lacking, ridge) == np.inf
    ridge[:, 0, 0] = lacking[1, 1, 0] = 1.0
    assert spread(lacking, curvature + np.eye(4)[:, :, None], ridge) >= 1


def test_groups_are_summed_beside_all_partitions():
    x, _, y = problem(600, 4)
    query = np.zeros((5, 1, 1))
    loss = as_loss("logistic")
    spec = Grouped(((0, 2), (1,)))
    found = []
    for partition in range(4):
        rows = slice(150 * partition, 150 * partition + 150)
        kernel = spec.make(Part(partition, query, loss, Request(curvature=EXACT), DenseRows(x.dtype, 4)))
        kernel.kernel.add(x[rows], y[rows, None], None)
        found.append(kernel.sums())
    total = found[0].plus(found[1]).plus(found[2].plus(found[3]))
    assert (total.at_query.rows, total.groups[0].rows, total.groups[1].rows) == (600, 300, 150)
    np.testing.assert_array_equal(total.groups[1].gradient, found[1].at_query.gradient)
    both = found[0].at_query.gradient + found[2].at_query.gradient
    np.testing.assert_array_equal(total.groups[0].gradient, both)
    assert found[3].groups == (None, None)


def test_groups_have_a_curvature_where_all_have_none():
    x, _, y = problem(600, 4)
    query = np.zeros((5, 1, 1))
    loss = as_loss("logistic")
    sums = []
    for partition in range(2):
        part = Part(partition, query, loss, Request(), DenseRows(x.dtype, 4))
        kernel = Grouped(((0,),)).make(part)
        kernel.kernel.add(x, y[:, None], None)
        sums.append(kernel.sums())
    total = sums[0].plus(sums[1])
    assert total.at_query.curvature is None
    expected = sums_of_rows(x, y[:, None], None, query, loss, Request(curvature=EXACT)).curvature
    np.testing.assert_array_equal(total.groups[0].curvature, expected)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("shift", [None, 3.0])
@pytest.mark.parametrize("loss", ["logistic", "poisson"])
def test_a_rough_curvature_has_six_digits_whatever_the_units(loss, fit_intercept, shift):
    rng = np.random.default_rng(0)
    units = 10.0 ** rng.uniform(-11, 11, 60)
    x = rng.normal(size=(3000, 60)) * units
    y = rng.integers(0, 2, 3000).astype(float)
    query = np.zeros((60 + fit_intercept, 1, 1))
    query[:60, 0, 0] = rng.normal(size=60) / units / 4
    request = Request(curvature=EXACT, shift=None if shift is None else shift * units)
    if shift is not None:
        x += shift * units
    exact, rough = (
        sums_of_rows(x, y[:, None], None, query, as_loss(loss), request._replace(is_rough=is_rough))
        for is_rough in (False, True)
    )
    root = np.sqrt(np.diagonal(exact.curvature[:, :, 0]))
    wrong = np.abs(rough.curvature - exact.curvature)[:, :, 0] / np.outer(root, root)
    assert 0 < wrong.max() < 1e-6
    # All else has the same bits.
    np.testing.assert_array_equal(rough.gradient, exact.gradient)
    np.testing.assert_array_equal(rough.loss, exact.loss)
    # Rows of float32 have no other products.
    short = x.astype(np.float32)
    same = [
        sums_of_rows(short, y[:, None], None, query, as_loss(loss), request._replace(is_rough=is_rough))
        for is_rough in (False, True)
    ]
    np.testing.assert_array_equal(same[0].curvature, same[1].curvature)


@pytest.mark.parametrize("unit", [1.0, 1e-30, 1e30])
def test_features_whose_squares_float32_has_not_are_multiplied_in_float64(wide, unit, monkeypatch):
    x, y = wide
    asked = []
    request_for = correction.request_for

    def noted(track, request):
        found = request_for(track, request)
        asked.append(found.is_rough)
        return found

    monkeypatch.setattr(correction, "request_for", noted)
    run = dask_gd.fit(rows_of(x * unit), y, loss="logistic", tol=1e-6)
    assert any(asked) == (unit == 1.0)
    # The first look knows no units; the sample after it, and then all rows.
    assert asked[:3] == [False, unit == 1.0, unit == 1.0]
    assert run.converged
    expected = dask_gd.fit(rows_of(x), y, loss="logistic", tol=1e-8)
    np.testing.assert_allclose(run.weights * unit, expected.weights, atol=1e-5)


def test_nothing_is_foretold_from_a_rough_curvature_that_corrects_nothing(wide, monkeypatch):
    x, y = wide
    monkeypatch.setattr(correction, "correct", lambda *arguments: correction.Extra())
    for tol in (1e-2, 1e-4, 1e-7):
        run = dask_gd.fit(rows_of(x), y, loss="logistic", tol=tol)
        assert run.converged
        found = gradient_over_scale(x, y, "logistic", dask_gd.L2(0.0), run.parameters)
        assert found <= min(tol, run.history.grad_norm[-1] * 1.01)


@pytest.mark.parametrize("zero", [0.0, -0.01, 1.0])
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_a_weight_that_grows_without_end_is_foretold(rows, zero):
    """It does where all of a feature's targets are alike: its gradient falls by a share that does not fall.

    What the other rows have in its place makes no difference.
    """
    rng = np.random.default_rng(rows)
    x = rng.normal(size=(20_000, 6))
    x[:, 5] = 0.0
    x[rng.permutation(len(x))[:rows], 5] = 1.0
    x = np.hstack([x, np.zeros((len(x), 1))])
    y = (x[:, :5] @ rng.normal(size=5) * 0.7 - 1 + rng.logistic(size=len(x)) > 0).astype(float)
    y[x[:, 5] > 0] = 0.0
    x[:, 5] += zero
    for tol in (1e-4, 3e-5, 1e-5):
        run = dask_gd.fit(rows_of(x, 4), y, loss="logistic", solver="newton", tol=tol)
        assert run.converged
        found = gradient_over_scale(x, y, "logistic", dask_gd.L2(0.0), run.parameters)
        assert found <= 1.1 * run.history.grad_norm[-1]
        assert found <= 1.01 * tol


@pytest.mark.parametrize("loss", [dask_gd.losses.Huber(1.0), "squared_hinge"])
def test_losses_whose_curvature_jumps_are_corrected_where_it_costs_much(loss, monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(24_000, 54)) + 0.5 * rng.normal(size=(24_000, 1))
    y = x @ rng.normal(size=54) / 5 + rng.standard_t(2, size=24_000)
    if loss == "squared_hinge":
        y = (y > 0) * 1.0
    options = {"loss": loss, "solver": "newton", "tol": 1e-5}
    found = dask_gd.fit(rows_of(x), y, **options)
    monkeypatch.setattr(Newton, "corrects", False)
    expected = dask_gd.fit(rows_of(x), y, **options)
    assert found.converged
    assert found.history.passes[-1] == 1
    assert float(found.history.passes.sum()) < float(expected.history.passes.sum())
    np.testing.assert_allclose(found.history.loss[-1], expected.history.loss[-1], rtol=1e-8)
