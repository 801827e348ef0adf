"""Fits of statsmodels beside ours, for tests of standard errors and of what else is known of a fit."""

from functools import partial

import numpy as np
import statsmodels.api as sm
from statsmodels.genmod.families import links

import dask_gd
from dask_gd import Gamma, Logistic, Poisson, Squared, Tweedie

FAMILIES = {
    Squared(): sm.families.Gaussian,
    Logistic(): sm.families.Binomial,
    Poisson(): sm.families.Poisson,
    Gamma(): partial(sm.families.Gamma, links.Log()),
    Tweedie(1.5): partial(sm.families.Tweedie, links.Log(), var_power=1.5),
}
N = 300
RNG = np.random.default_rng(0)
#: Groups of rows, and of another grouping.
G = RNG.integers(0, 40, N)
H = RNG.integers(0, 150, N)

same = partial(np.testing.assert_allclose, rtol=1e-8)


def fit(x, y, loss, **options):
    return dask_gd.fit(x, y, loss=loss, **{"tol": 1e-12, **options})


def peer(loss, x, y, weight=None, fit_intercept=True, **options):
    """Return statsmodels' fit."""
    design = np.column_stack([x, np.ones(len(x))]) if fit_intercept else x
    if loss == Squared():
        model = sm.OLS(y, design) if weight is None else sm.WLS(y, design, weights=weight)
        return model.fit(**options)
    model = sm.GLM(y, design, family=FAMILIES[loss](), var_weights=weight)
    return model.fit(tol=1e-13, tol_criterion="params", maxiter=200, **options)
