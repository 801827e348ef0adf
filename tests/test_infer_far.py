"""`infer` of columns far from 0, and what it takes from the fit (FOUND 18)."""

import dask.array as da
import numpy as np
import pytest
import statsmodels.api as sm
import xarray as xr

import dask_gd
from dask_gd.errors import InvalidArgumentError, InvalidTypeError

FAMILIES = {
    "squared": sm.families.Gaussian(),
    "logistic": sm.families.Binomial(),
    "poisson": sm.families.Poisson(),
}


def problem(loss, n=400, seed=0):
    """Return features near 0, of which the targets depend on the differences, and targets."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    z = x @ [0.5, -0.3, 0.2]
    if loss == "logistic":
        return x, (rng.random(n) < 1 / (1 + np.exp(-z))) * 1.0
    return x, rng.poisson(np.exp(z)) * 1.0 if loss == "poisson" else z + rng.normal(size=n)


def inferred(x, y, loss, tol=1e-10, **options):
    run = dask_gd.fit(x, y, loss=loss, tol=tol, **options)
    return dask_gd.infer(run, x, y, options.get("sample_weight"))


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("loss", FAMILIES)
def test_found_18_uncentred_columns_have_statsmodels_numbers(loss, fit_intercept):
    near, y = problem(loss)
    x = near + np.array([1e3, -1e3, 1e2])
    result = inferred(x, y, loss, fit_intercept=fit_intercept)
    design = np.column_stack([x, np.ones(len(x))]) if fit_intercept else x
    if loss == "squared":
        model = sm.OLS(y, design).fit()
    else:
        model = sm.GLM(y, design, family=FAMILIES[loss]).fit(tol=1e-14, maxiter=200)
    for ours, theirs in (("coefficient", model.params), ("standard_error", model.bse), ("p_value", model.pvalues)):
        np.testing.assert_allclose(result.table[ours], theirs, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(result.covariance, model.cov_params(), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("far", [1e6, 3e6])
@pytest.mark.parametrize("loss", FAMILIES)
def test_found_18_columns_a_million_spreads_from_zero_are_served(loss, far):
    """Slopes and their errors are those of the centred columns, which statsmodels has to 1e-6."""
    near, y = problem(loss)
    result = inferred(near + far, y, loss)
    design = np.column_stack([(near + far) - far, np.ones(len(y))])
    model = sm.GLM(y, design, family=FAMILIES[loss]).fit(tol=1e-14, maxiter=200)
    np.testing.assert_allclose(result.table.coefficient[:3], model.params[:3], rtol=1e-5)
    np.testing.assert_allclose(result.table.standard_error[:3], model.bse[:3], rtol=1e-6)
    back = np.append(np.full(3, -far), 1.0)
    error = np.sqrt(back @ model.cov_params() @ back)
    np.testing.assert_allclose(result.table.standard_error[3], error, rtol=1e-6)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_found_18_float32_columns_far_from_zero(fit_intercept):
    near, y = problem("squared")
    x = (near + 1e4).astype(np.float32)
    single, double = (inferred(a, y, "squared", tol=1e-6, fit_intercept=fit_intercept) for a in (x, x.astype(float)))
    np.testing.assert_allclose(single.table.coefficient[:3], double.table.coefficient[:3], atol=1e-4)
    np.testing.assert_allclose(single.table.standard_error, double.table.standard_error, rtol=1e-5)


def test_found_18_without_an_intercept_a_column_of_ones_serves_as_one():
    near, y = problem("squared")
    x = near + 1e5
    own = np.column_stack([x, np.ones(len(x))])
    a, b = inferred(own, y, "squared", fit_intercept=False), inferred(x, y, "squared")
    np.testing.assert_allclose(a.table.coefficient, b.table.coefficient, rtol=1e-6)
    np.testing.assert_allclose(a.table.standard_error, b.table.standard_error, rtol=1e-6)


def test_found_18_columns_that_are_collinear_far_from_zero_are_refused():
    near, y = problem("squared")
    x = np.column_stack([near, near[:, 0] + near[:, 1]]) + 1e5
    with pytest.raises(InvalidArgumentError, match="coefficients of x0, x1, x3: "):
        inferred(x, y, "squared")


def test_found_18_arguments_that_there_are_not_are_named_with_those_there_are():
    x, y = problem("squared")
    run = dask_gd.fit(x, y)
    with pytest.raises(InvalidTypeError, match=r"covtype.*mean 'cov_type'\? It takes .*sample_weight.*offset"):
        dask_gd.infer(run, x, y, covtype="HC3")
    with pytest.raises(InvalidTypeError, match=r"infer.ofset=.*Did you mean 'offset'"):
        dask_gd.infer(run, x, y, ofset=y)
    with pytest.raises(TypeError, match="there is no such argument"):
        dask_gd.infer(run, x, y, foo=1)


def test_found_18_an_offset_is_asked_for_where_the_fit_had_one(tmp_path):
    x, y = problem("poisson")
    offset = np.log(np.random.default_rng(1).uniform(1, 3, len(y)))
    run = dask_gd.fit(x, y, loss="poisson", offset=offset, store=tmp_path)
    for found in (run, dask_gd.load(tmp_path)):
        with pytest.raises(InvalidArgumentError, match=r"the fit had an offset.*offset="):
            dask_gd.infer(found, da.from_array(x), y)
        assert dask_gd.infer(found, x, y, offset=offset).n == len(y)
    with pytest.raises(InvalidArgumentError, match=r"not at the optimum.* The fit had no offset"):
        dask_gd.infer(dask_gd.fit(x, y, loss="poisson"), x, y, offset=offset)
    assert "offset" in dask_gd.infer.__doc__


def test_found_18_of_a_dataset_all_is_taken_from_the_fit():
    x, y = problem("poisson")
    columns = {"a": ("row", x[:, 0]), "b": ("row", x[:, 1]), "y": ("row", y), "z": ("row", y[::-1])}
    columns |= {"w": ("row", np.arange(len(y)) % 3 + 1.0), "o": ("row", x[:, 2])}
    ds = xr.Dataset(columns)
    names = {"features": ["a", "b"], "sample_dims": "row", "sample_weight": "w", "offset": "o"}
    for target in ("y", ["y", "z"]):
        run = dask_gd.fit(ds, **names, target=target, loss="poisson", tol=1e-9)
        given = dask_gd.infer(run, ds, **names, target=target)
        xr.testing.assert_identical(dask_gd.infer(run, ds).table, given.table)


def test_found_18_the_table_after_poisson_is_headed_poisson():
    x, y = problem("poisson")
    assert str(inferred(x, y, "poisson")).startswith("Poisson() loss, 400 observations")
    assert [repr(dask_gd.Gamma()), repr(dask_gd.Tweedie(1.5))] == ["Gamma()", "Tweedie(power=1.5)"]
