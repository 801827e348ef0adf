"""Standard errors: statsmodels' numbers, whatever the data's form; what is promised of them; and what is refused."""

import pickle
from functools import partial

import dask.array as da
import numpy as np
import pytest
import statsmodels.api as sm
import xarray as xr
from dask.distributed import Client
from helpers import problem_of, to_zarr
from scipy.special import stdtr
from statsmodels.genmod.families import links

import dask_gd
from dask_gd import Gamma, Logistic, Poisson, Squared, Tweedie, passes
from dask_gd.errors import DataError, InvalidArgumentError, InvalidTypeError
from dask_gd.kernels.base import EXACT, Part, Request
from dask_gd.kernels.dense import DenseRows
from dask_gd.kernels.likelihood import Likelihood
from dask_gd.results.hypotheses import MANY
from dask_gd.results.information import SINGULAR

FAMILIES = {
    Squared(): sm.families.Gaussian,
    Logistic(): sm.families.Binomial,
    Poisson(): sm.families.Poisson,
    Gamma(): partial(sm.families.Gamma, links.Log()),
    Tweedie(1.5): partial(sm.families.Tweedie, links.Log(), var_power=1.5),
}
every_loss = pytest.mark.parametrize("loss", FAMILIES, ids=repr)


def fit(x, y, loss, **options):
    return dask_gd.fit(x, y, loss=loss, **{"tol": 1e-10, **options})


def inferred(x, y, loss, sample_weight=None, **options):
    return dask_gd.infer(fit(x, y, loss, sample_weight=sample_weight, **options), x, y, sample_weight)


def assert_same(a, b, rtol):
    xr.testing.assert_allclose(a.table, b.table, rtol=rtol, atol=1e-300)
    for name in ("covariance", "dispersion", "deviance", "pearson"):
        xr.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=rtol)
    assert (a.n, a.degrees_of_freedom, a.level, a.loss) == (b.n, b.degrees_of_freedom, b.level, b.loss)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fit_intercept", [True, False])
@every_loss
def test_the_numbers_are_statsmodels(loss, fit_intercept, weighted):
    x, y = problem_of(loss, n=300)
    s = np.random.default_rng(1).integers(0, 4, len(y)).astype(float) if weighted else np.ones(len(y))
    run = fit(x, y, loss, fit_intercept=fit_intercept, sample_weight=s)
    result = dask_gd.infer(run, x, y, s, level=0.9)
    design = np.column_stack([x, np.ones(len(x))]) if fit_intercept else x
    options = {"tol": 1e-12, "tol_criterion": "params", "maxiter": 200}
    model = sm.GLM(y, design, family=FAMILIES[loss](), freq_weights=s).fit(**options)
    same = partial(np.testing.assert_allclose, rtol=1e-6)
    same(result.deviance, model.deviance)
    same(result.pearson, model.pearson_chi2)
    if loss == Squared():
        # Student's t, for which OLS has no weights of this kind.
        model = sm.OLS(y.repeat(s.astype(int)), design.repeat(s.astype(int), axis=0)).fit()
    same(result.table.coefficient, model.params, atol=1e-9)
    same(result.table.standard_error, model.bse)
    same(result.table.statistic, model.tvalues, atol=1e-8)
    same(result.table.p_value, model.pvalues)
    same(np.stack([result.table.lower, result.table.upper], axis=1), model.conf_int(0.1), atol=1e-9)
    same(result.covariance, model.cov_params(), atol=1e-6 * abs(model.cov_params()).max())
    same(result.dispersion, model.scale)
    assert (result.n, result.degrees_of_freedom) == (s.sum(), model.df_resid)


@every_loss
def test_any_form_of_the_data_gives_the_same(loss, tmp_path):
    x, y = problem_of(loss)
    run = fit(x, y, loss)
    expected = dask_gd.infer(run, x, y)
    source = dask_gd.sources.as_source(to_zarr(x, 70, tmp_path / "x"), to_zarr(y, 400, tmp_path / "y"))
    for data in ((da.from_array(x, chunks=(97, 2)), y), (source,), (da.from_array(x, chunks=1500), da.from_array(y))):
        assert_same(dask_gd.infer(run, *data), expected, rtol=1e-10)


@pytest.mark.parametrize("fit_intercept", [True, False])
@every_loss
def test_targets_with_columns_are_inferred_as_if_alone(loss, fit_intercept):
    x, a = problem_of(loss)
    y = np.stack([a, a[::-1], np.roll(a, 7)], axis=1)
    table = xr.DataArray(y, dims=("row", "what"), coords={"what": ["a", "b", "c"]})
    together = inferred(x, table, loss, fit_intercept=fit_intercept)
    assert together.table.coefficient.dims == ("parameter", "output")
    assert together.covariance.dims == ("parameter", "other_parameter", "output")
    for i, name in enumerate("abc"):
        alone = inferred(x, y[:, i], loss, fit_intercept=fit_intercept)
        xr.testing.assert_allclose(together.table.sel(output=name, drop=True), alone.table, rtol=1e-7, atol=1e-12)
        for total in ("covariance", "dispersion", "deviance", "pearson"):
            one = getattr(together, total).sel(output=name, drop=True)
            xr.testing.assert_allclose(one, getattr(alone, total), rtol=1e-7, atol=1e-12)
        assert f"output {name}, dispersion" in str(together)


@pytest.mark.parametrize("loss", [Squared(), Poisson()], ids=repr)
def test_many_targets_have_the_numbers_that_each_has_alone(loss):
    # A block takes these outputs in three parts, of which the last is shorter.
    rng = np.random.default_rng(0)
    n = 4096
    x = rng.normal(size=(n, 2))
    offset = 0.1 * rng.normal(size=n)
    s = rng.integers(0, 4, n).astype(float)
    predicted = x @ rng.normal(size=(2, 40)) + offset[:, None]
    if loss == Poisson():
        y = rng.poisson(np.exp(0.3 * predicted)).astype(float)
    else:
        y = predicted + rng.normal(size=predicted.shape)
    result = dask_gd.infer(fit(x, y, loss, sample_weight=s, offset=offset), x, y, s, offset=offset)
    for output in (0, 17, 39):
        run = fit(x, y[:, output], loss, sample_weight=s, offset=offset)
        alone = dask_gd.infer(run, x, y[:, output], s, offset=offset)
        same = partial(np.testing.assert_allclose, rtol=1e-9)
        for name in ("standard_error", "statistic", "lower", "upper"):
            same(result.table[name].isel(output=output), alone.table[name])
        for name in ("covariance", "dispersion", "deviance", "pearson"):
            whole = getattr(result, name).isel(output=output)
            same(whole, getattr(alone, name), atol=1e-9 * float(np.abs(whole).max()))


def test_p_values_of_many_targets_are_those_of_their_statistics():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 1))
    y = rng.normal(size=(30, MANY)) + x
    table = dask_gd.infer(dask_gd.fit(x, y), x, y).table
    np.testing.assert_array_equal(table.p_value, 2 * stdtr(28, -np.abs(table.statistic)))


@every_loss
def test_weights_are_repetition(loss):
    x, y = problem_of(loss, n=300)
    s = np.random.default_rng(0).integers(0, 4, len(y))
    weighted, repeated = inferred(x, y, loss, s), inferred(x.repeat(s, axis=0), y.repeat(s), loss)
    assert_same(weighted, repeated, rtol=1e-8)


@pytest.mark.parametrize("offset", [0.0, 30.0])
@every_loss
def test_float32_features_are_as_good_as_float64(loss, offset):
    """A few float32 roundings of z move a coefficient by some of its standard errors' millionths."""
    x, y = problem_of(loss)
    narrow = (x + offset).astype(np.float32)
    wide = inferred(narrow.astype(float), y, loss)
    result = inferred(narrow, y, loss)
    np.testing.assert_allclose(result.table.standard_error, wide.table.standard_error, rtol=1e-5)
    away = (result.table.coefficient - wide.table.coefficient) / wide.table.standard_error
    assert abs(away).max() < 1e-3


@every_loss
def test_units_of_features_are_those_of_their_coefficients(loss):
    x, y = problem_of(loss)
    unit = np.array([1e-6, 1e-3, 1.0, 1.0, 1e3, 1e6])
    base, scaled = inferred(x, y, loss).table, inferred(x * unit, y, loss).table
    np.testing.assert_allclose(scaled.standard_error[:-1] * unit, base.standard_error[:-1], rtol=1e-7)
    np.testing.assert_allclose(scaled.statistic, base.statistic, rtol=1e-6)


@pytest.mark.parametrize("loss", [Squared(), Poisson(), Gamma()], ids=repr)
def test_intervals_hold_the_truth_as_often_as_they_say(loss):
    """Of 1,000 targets, with few rows for the squared loss, where it takes Student's t."""
    rng = np.random.default_rng(0)
    n = 12 if loss == Squared() else 400
    x, truth = rng.normal(size=(n, 2)), np.array([0.3, 0.0, 1.0])
    z = np.repeat((np.column_stack([x, np.ones(n)]) @ truth)[:, None], 1000, axis=1)
    draw = {
        Squared(): rng.normal,
        Poisson(): lambda z: rng.poisson(np.exp(z)),
        Gamma(): lambda z: rng.gamma(3, np.exp(z)),
    }
    table = inferred(x, draw[loss](z).astype(float), loss, tol=1e-7).table
    truth += np.array([0.0, 0.0, np.log(3) if loss == Gamma() else 0.0])
    held = (table.lower.values <= truth[:, None]) & (truth[:, None] <= table.upper.values)
    # Three standard errors of a share of 1,000.
    np.testing.assert_allclose(held.mean(axis=1), 0.95, atol=0.021)
    np.testing.assert_allclose((table.p_value.values[1] < 0.2).mean(), 0.2, atol=0.038)


def test_it_takes_one_pass(monkeypatch):
    x, y = problem_of(Tweedie(1.5))
    run, taken = fit(x, y, Tweedie(1.5)), []
    evaluate = passes.evaluate
    monkeypatch.setattr(passes, "evaluate", lambda *args: taken.append(args) or evaluate(*args))
    dask_gd.infer(run, x, y)
    assert len(taken) == 1


def test_threads_and_a_cluster_give_the_same_bits(tmp_path, clusters):
    x, y = problem_of(Gamma())
    stored = to_zarr(x, 70, tmp_path / "x")
    run = fit(x, y, "gamma")
    threads = [dask_gd.infer(run, data, y) for data in (x, stored)]
    with Client(clusters(2)):
        for data, expected in zip((x, stored), threads, strict=True):
            xr.testing.assert_identical(dask_gd.infer(run, data, y).table, expected.table)


def test_what_tasks_are_sent_is_small_and_can_be_pickled():
    sent = pickle.dumps(Likelihood())
    assert len(sent) < 1000
    # A single row, with a weight.
    query = np.array([[[0.25]], [[0.0]]])
    part = Part(0, query, Poisson(), Request(EXACT), DenseRows(np.dtype(float), 1))
    kernel = pickle.loads(sent).make(part)
    kernel.add(np.array([[2.0]]), np.array([[2.0]]), np.array([3.0]))
    sums = kernel.sums()
    mean = np.exp(0.5)
    deviance = 2 * (2 * np.log(2 / mean) - 2 + mean)
    np.testing.assert_allclose(sums.statistics.deviance, 3 * deviance)
    np.testing.assert_allclose(sums.statistics.pearson, 3 * (2 - mean) ** 2 / mean)
    np.testing.assert_allclose(sums.at_query.gradient[:, 0, 0], 3 * (mean - 2) * np.array([2.0, 1.0]))
    np.testing.assert_allclose(sums.at_query.curvature[:, :, 0], 3 * mean * np.array([[4.0, 2.0], [2.0, 1.0]]))


def test_a_stored_run_is_inferred_like_a_live_one(tmp_path):
    x, y = problem_of(Poisson())
    run = fit(x, y, "poisson", fit_intercept=False, store=tmp_path)
    assert_same(dask_gd.infer(dask_gd.load(tmp_path), x, y), dask_gd.infer(run, x, y), rtol=1e-15)


def test_features_keep_their_names():
    x, y = problem_of(Squared())
    table = xr.DataArray(x, dims=("row", "feature"), coords={"feature": list("abcdef")})
    result = inferred(table, y, "squared")
    names = [*"abcdef", "(intercept)"]
    assert result.table.parameter.values.tolist() == result.covariance.other_parameter.values.tolist() == names
    lines = str(result).splitlines()
    assert len(lines) == 3 + len(names)
    assert len({len(line) for line in lines[2:]}) == 1
    assert [line.split()[0] for line in lines[3:]] == names
    np.testing.assert_allclose(float(lines[4].split()[2]), result.table.standard_error.sel(parameter="b"), rtol=1e-3)
    assert inferred(x, y, "squared").table.parameter.values.tolist()[:2] == ["x0", "x1"]


def test_an_intercept_of_exactly_0_is_an_intercept():
    x, y = np.array([[-2.0], [-1.0], [1.0], [2.0]]), np.array([-2.0, -1.5, 1.5, 2.0])
    run = fit(x, y, "squared")
    assert float(run.intercept) == 0.0
    assert dask_gd.infer(run, x, y).degrees_of_freedom == 2
    assert inferred(x, y, "squared", fit_intercept=False).degrees_of_freedom == 3


def test_targets_without_noise_have_no_standard_errors_to_speak_of():
    x, _ = problem_of(Squared())
    result = inferred(x, x @ np.arange(6.0) + 3.0, "squared")
    assert (result.table.standard_error < 1e-12).all()


def test_collinear_features_are_refused_by_name():
    x, y = problem_of(Poisson())
    copied = np.column_stack([x, x[:, 1] + 2 * x[:, 3] - 1])
    with pytest.raises(InvalidArgumentError, match=r"coefficients of x1, x3, x6, \(intercept\)"):
        inferred(copied, y, "poisson")
    with pytest.raises(InvalidArgumentError, match="coefficients of x2: "):
        inferred(x * [1, 1, 0, 1, 1, 1], y, "poisson")
    narrow = np.column_stack([x, x[:, 1] + x[:, 3]]).astype(np.float32)
    with pytest.raises(InvalidArgumentError, match="coefficients of x1, x3, x6: "):
        inferred(narrow, y, "poisson", tol=1e-4)


@every_loss
def test_nearly_collinear_features_keep_digits(loss):
    """Down to where they are refused: the coefficient of a difference is that of what is left."""
    x, y = problem_of(loss)
    little, rest = 10 * np.sqrt(SINGULAR), np.random.default_rng(2).normal(size=len(x))
    plain, nearly = (inferred(np.column_stack([x, last]), y, loss) for last in (rest, x[:, 1] + little * rest))
    np.testing.assert_allclose(nearly.table.standard_error[6] * little, plain.table.standard_error[6], rtol=1e-3)


def test_classes_that_a_plane_separates_have_coefficients_that_nothing_is_known_of():
    x, _ = problem_of(Logistic())
    run = fit(x, (x @ np.arange(6.0) > 3).astype(float), "logistic", tol=1e-7)
    result = dask_gd.infer(run, x, (x @ np.arange(6.0) > 3).astype(float))
    assert (result.table.p_value > 0.5).all()


def test_a_result_without_its_rows_is_refused():
    x = np.array([[0.0], [1.0], [2.0], [3.0]])
    with pytest.raises(dask_gd.errors.InvalidArgumentError, match="give the rows of the fit"):
        dask_gd.infer(dask_gd.fit(x, x[:, 0] ** 2))


@pytest.mark.parametrize("loss", ["huber", "quantile", "hinge", "squared_hinge"])
def test_losses_that_are_no_likelihoods_are_refused(loss):
    x, y = problem_of(Logistic(), n=50)
    with pytest.raises(InvalidArgumentError, match=r"tweedie losses; .* is no likelihood"):
        inferred(x, y, loss, max_iter=1)


@pytest.mark.parametrize("penalty", [dask_gd.L2(1e-9), dask_gd.L1(1e-3), dask_gd.ElasticNet(1e-3)])
def test_penalised_fits_are_refused(penalty, tmp_path):
    x, y = problem_of(Squared())
    run = fit(x, y, "squared", penalty=penalty, store=tmp_path)
    for penalised in (run, dask_gd.load(tmp_path)):
        with pytest.raises(InvalidArgumentError, match="penalty=None"):
            dask_gd.infer(penalised, x, y)
    inferred(x, y, "squared", penalty=dask_gd.L2(0.0))


@every_loss
def test_coefficients_that_are_not_at_the_optimum_are_refused(loss):
    x, y = problem_of(loss)
    with pytest.raises(InvalidArgumentError, match=r"by [\d.]+ standard errors. The fit ended with .*max_iter"):
        inferred(x, y, loss, max_iter=0)
    run, s = fit(x, y, loss), 1.0 + np.arange(len(y)) % 5
    for others in ((x[::-1], y), (x, y[::-1]), (x, y, s), (x[:700], y[:700])):
        with pytest.raises(InvalidArgumentError, match=r"not at the optimum of these rows.*'converged'. Give the rows"):
            dask_gd.infer(run, *others)


def test_rows_where_the_loss_overflows_are_refused():
    x, y = problem_of(Poisson())
    run = fit(x, y, "poisson")
    with pytest.raises(InvalidArgumentError, match="the loss is not finite"):
        dask_gd.infer(run, x * 1e4, y)


def test_as_many_parameters_as_observations_are_refused():
    x, y = problem_of(Squared(), n=7)
    with pytest.raises(InvalidArgumentError, match=r"7 observations .* for 7 parameters"):
        inferred(x, y, "squared")
    x, y = problem_of(Squared(), n=100)
    with pytest.raises(InvalidArgumentError, match=r"1 observations .* A row weight counts repetitions"):
        inferred(x, y, "squared", np.full(100, 0.01))


def test_other_data_is_refused_before_any_task():
    x, y = problem_of(Squared())
    table = xr.DataArray(x, dims=("row", "feature"), coords={"feature": list("abcdef")})
    run = fit(table, y, "squared")
    lazy = da.from_array(x).map_blocks(lambda block: pytest.fail("a task ran"), dtype=float, meta=np.empty((0, 0)))
    for arguments, message in (
        ((run, lazy[:, :5], y), "the fit had 6 features, these data have 5"),
        ((run, lazy, np.stack([y, y], axis=1)), "the fit had 1 columns of the target, these data have 2"),
        ((run, table[:, ::-1], y), "feature 0 is named 'f' but the fit had 'a'"),
        ((run, lazy), "needs a target"),
    ):
        with pytest.raises(InvalidArgumentError, match=message):
            dask_gd.infer(*arguments)
    for level in (0, 1, 95, float("nan")):
        with pytest.raises(InvalidArgumentError, match="between 0 and 1"):
            dask_gd.infer(run, lazy, y, level=level)
    with pytest.raises(InvalidTypeError, match="run is a ndarray"):
        dask_gd.infer(run.parameters, lazy, y)


def test_covariances_that_would_fill_the_memory_are_refused(monkeypatch):
    x, y = problem_of(Squared())
    run = fit(x, np.stack([y, y], axis=1), "squared")
    monkeypatch.setattr(dask_gd.results.inference, "LARGEST", 2 * 7 * 7 - 1)
    with pytest.raises(InvalidArgumentError, match="7 parameters for each of 2 outputs"):
        dask_gd.infer(run, x, np.stack([y, y], axis=1))


def test_bad_targets_are_named():
    x, y = problem_of(Gamma())
    run, bad = fit(x, y, "gamma"), y.copy()
    bad[17] = -1.0
    with pytest.raises(DataError, match="found -1 in row 17 of 'y'"):
        dask_gd.infer(run, x, bad)
    bad[17] = np.nan
    with pytest.raises(DataError, match="nan in row 17"):
        dask_gd.infer(run, x, bad)


def test_rows_left_out_of_the_fit_are_left_out():
    x, y = problem_of(Logistic())
    x[::7, 1] = np.nan
    kept = np.isfinite(x).all(axis=1)
    run = fit(x, y, Logistic(), nan="drop")
    assert_same(dask_gd.infer(run, x, y, nan="drop"), inferred(x[kept], y[kept], Logistic()), rtol=1e-8)


def test_a_dataset_is_named_as_in_the_fit():
    x, y = problem_of(Squared())
    names = {"features": [f"x{i}" for i in range(x.shape[1])], "target": "y", "sample_dims": "row"}
    data = xr.Dataset({name: ("row", x[:, i]) for i, name in enumerate(names["features"])} | {"y": ("row", y)})
    run = dask_gd.fit(data, **names, tol=1e-10)
    assert_same(dask_gd.infer(run, data, **names), inferred(x, y, Squared()), rtol=1e-8)
