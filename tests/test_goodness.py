"""How well a fit fits, and tests of its coefficients: statsmodels' numbers and definitions."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from helpers import problem_of
from statsmodels_here import FAMILIES, G, N, fit, peer, same

import dask_gd
from dask_gd import Gamma, Logistic, Poisson, Squared, Tweedie
from dask_gd.errors import InvalidArgumentError

every_loss = pytest.mark.parametrize("loss", FAMILIES, ids=repr)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fit_intercept", [True, False])
@every_loss
def test_the_numbers_are_statsmodels(loss, fit_intercept, weighted):
    x, y = problem_of(loss, n=N)
    x = x + 100.0 if fit_intercept else x
    s = np.random.default_rng(1).integers(1, 4, N) if weighted else np.ones(N, int)
    run = fit(x, y, loss, fit_intercept=fit_intercept, sample_weight=s.astype(float))
    result = dask_gd.infer(run, x, y, s.astype(float))
    model = peer(loss, x.repeat(s, axis=0), y.repeat(s), fit_intercept=fit_intercept)
    if loss == Squared():
        same(result.null_deviance, model.centered_tss if fit_intercept else model.uncentered_tss)
        same(result.rsquared, model.rsquared)
        same(result.rsquared_adj, model.rsquared_adj)
        same(result.bic, model.bic)
    else:
        same(result.null_deviance, model.null_deviance)
        same(result.rsquared, 1 - model.deviance / model.null_deviance)
    if loss == Tweedie(1.5):
        assert np.isnan(result.log_likelihood)
        assert np.isnan(result.aic)
        return
    same(result.log_likelihood, model.llf)
    same(result.aic, model.aic)
    if loss != Squared():
        same(result.bic, model.bic_llf)
        same(result.null_log_likelihood, model.llnull)
        for kind in ("cs", "mcf"):
            same(result.pseudo_rsquared(kind), model.pseudo_rsquared(kind), rtol=1e-7)


def test_the_mean_may_be_far_from_0():
    x, y = problem_of(Squared(), n=N)
    near = dask_gd.infer(fit(x, y, Squared()), x, y)
    far = dask_gd.infer(fit(x + 1e5, y + 1e6, Squared()), x + 1e5, y + 1e6)
    same(far.rsquared, near.rsquared, rtol=1e-7)
    same(far.aic, near.aic, rtol=1e-7)


def test_what_is_not_known_is_nan():
    x, y = problem_of(Gamma(), n=N)
    s = np.random.default_rng(0).uniform(0.5, 2, N)
    weighted = dask_gd.infer(fit(x, y, Gamma(), sample_weight=s), x, y, s, weights="analytic")
    assert np.isnan(weighted.log_likelihood)
    same(weighted.null_deviance, peer(Gamma(), x, y, s).null_deviance)
    with_offset = dask_gd.infer(fit(x, y, Gamma(), offset=0.1 * s), x, y, offset=0.1 * s)
    assert np.isnan(with_offset.null_deviance)
    assert np.isfinite(with_offset.log_likelihood)
    x, y = problem_of(Poisson(), n=N)
    counts = dask_gd.infer(fit(x, y, Poisson(), sample_weight=s), x, y, s, weights="analytic")
    same(counts.log_likelihood, peer(Poisson(), x, y, s).llf)


@pytest.mark.parametrize("options", [{}, {"cov_type": "HC1"}, {"cov_type": "cluster", "groups": G, "use_t": True}])
@pytest.mark.parametrize("loss", [Squared(), Logistic()], ids=repr)
def test_wald_tests_and_contrasts_are_statsmodels(loss, options):
    x, y = problem_of(loss, n=N)
    result = dask_gd.infer(fit(x, y, loss), x, y, **options)
    kind = options.get("cov_type", "nonrobust")
    keywords = {"groups": G} if "groups" in options else None
    model = peer(loss, x, y, cov_type=kind, cov_kwds=keywords, use_t=options.get("use_t"))
    matrix = np.zeros((2, 7))
    matrix[0, [0, 3]] = 1.0, -1.0
    matrix[1, 5] = 2.0
    for hypothesis, rows, value in ((matrix, matrix, 0.0), (["x1", "x4"], np.eye(7)[[1, 4]], [0.1, 0.2])):
        found = result.wald_test(hypothesis, value)
        expected = model.wald_test((rows, np.broadcast_to(value, 2)), scalar=True)
        same(found.statistic, expected.statistic)
        same(found.p_value, expected.pvalue, rtol=1e-6)
        assert found.df == 2
    expected = model.t_test(matrix)
    found = result.contrast(matrix)
    same(found.coefficient, expected.effect)
    same(found.standard_error, expected.sd)
    same(found.p_value, expected.pvalue, rtol=1e-6)
    same(np.stack([found.lower, found.upper], axis=1), expected.conf_int(), rtol=1e-6)
    alone = result.contrast({"x0": 1, "x3": -1})
    xr.testing.assert_allclose(alone, found.isel(contrast=0))


def test_outputs_are_tested_as_if_alone():
    x, a = problem_of(Poisson(), n=N)
    y = np.stack([a, a[::-1]], axis=1)
    result = dask_gd.infer(fit(x, y, Poisson()), x, y)
    alone = dask_gd.infer(fit(x, a[::-1], Poisson()), x, a[::-1])
    for name in ("aic", "bic", "rsquared", "null_deviance", "log_likelihood"):
        same(getattr(result, name)[1], getattr(alone, name))
    same(result.wald_test(["x0", "x1"]).p_value[1], alone.wald_test(["x0", "x1"]).p_value, rtol=1e-7)
    same(result.contrast({"x0": 1, "x2": -1}).upper[1], alone.contrast({"x0": 1, "x2": -1}).upper, rtol=1e-7)
    frame = result.to_dataframe()
    assert isinstance(frame, pd.DataFrame)
    same(frame.loc[(1, "x3"), "standard_error"], alone.to_dataframe().loc["x3", "standard_error"])


def test_bad_hypotheses_are_refused():
    x, y = problem_of(Squared(), n=N)
    result = dask_gd.infer(fit(x, y, Squared()), x, y)
    for call, message in (
        (lambda: result.wald_test(["x9"]), "wald_test: there is no parameter 'x9'; there are x0, x1"),
        (lambda: result.wald_test(np.eye(3)), r"shape \(3, 3\); give finite ones for each of the 7 parameters"),
        (lambda: result.wald_test(["x0", "x0"]), "not positive definite: they depend on each other"),
        (lambda: result.wald_test(np.zeros(7)), "has no error"),
        (lambda: result.wald_test(["x0", "x1"], [1, 2, 3]), r"value=.*give a number, or 2 of them"),
        (lambda: result.contrast({"x9": 1}), "contrast: there is no parameter 'x9'"),
        (lambda: result.contrast([np.nan] * 7), "give finite ones"),
        (lambda: result.pseudo_rsquared("efron"), "kind='efron' is not known"),
    ):
        with pytest.raises(InvalidArgumentError, match=message):
            call()
    few = dask_gd.infer(fit(x, y, Squared()), x, y, cov_type="cluster", groups=np.arange(N) % 3)
    with pytest.raises(InvalidArgumentError, match="more of them than groups"):
        few.wald_test(["x0", "x1", "x2", "x3"])


def test_estimators_are_inferred_as_their_fits():
    from dask_gd.estimators import LinearRegression, PoissonRegressor

    x, y = problem_of(Poisson(), n=N)
    for estimator, loss in ((PoissonRegressor(alpha=0, tol=1e-12), Poisson()), (LinearRegression(), Squared())):
        expected = dask_gd.infer(fit(x, y, loss), x, y, cov_type="HC1")
        found = dask_gd.infer(estimator.fit(x, y), x, y, cov_type="HC1")
        same(found.table.standard_error, expected.table.standard_error, rtol=1e-6)
