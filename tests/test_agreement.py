"""One table: of every loss and penalty that other packages have too, the coefficients are theirs to 1e-6."""

import dask.array as da
import numpy as np
import pytest
import sklearn.linear_model as sk
import statsmodels.api as sm
from glum import GeneralizedLinearRegressor, TweedieDistribution
from helpers import problem_of
from numpy.testing import assert_allclose

import dask_gd
from dask_gd import L1, L2, ElasticNet, Huber, Tweedie

A, N = 0.02, 400
PENALTIES = {"none": None, "l2": L2(A), "l1": L1(A), "elastic net": ElasticNet(A, 0.4)}
LOSSES = {
    "squared": dask_gd.Squared(),
    "logistic": dask_gd.Logistic(),
    "poisson": Tweedie(1.0),
    "tweedie": Tweedie(1.5),
    "gamma": Tweedie(2.0),
}


def both(model):
    return np.append(model.coef_, model.intercept_)


def glum(family):
    def fit(x, y, s, penalty):
        alpha, ratio = (penalty.alpha, getattr(penalty, "l1_ratio", 0.0)) if penalty else (0.0, 0.0)
        model = GeneralizedLinearRegressor(
            family=family, alpha=alpha, l1_ratio=ratio, gradient_tol=1e-11, max_iter=1000
        )
        return both(model.fit(x, y, sample_weight=s))

    return fit


def statsmodels(family):
    def fit(x, y, s, penalty):
        model = sm.GLM(y, np.column_stack([x, np.ones(len(x))]), family(), var_weights=s)
        return model.fit(tol=1e-14, maxiter=200).params

    return fit


def least_squares(x, y, s, penalty):
    exact = {"tol": 1e-14, "max_iter": 100_000}
    if penalty is None:
        model = sk.LinearRegression()
    elif isinstance(penalty, L2):
        model = sk.Ridge(alpha=penalty.alpha * s.sum())
    else:
        model = sk.ElasticNet(alpha=penalty.alpha, l1_ratio=penalty.l1_ratio, **exact)
    return both(model.fit(x, y, sample_weight=s))


def logistic(x, y, s, penalty):
    strength = {"C": 1 / (penalty.alpha * s.sum())} if penalty else {"C": np.inf}
    if isinstance(penalty, ElasticNet):
        model = sk.LogisticRegression(l1_ratio=penalty.l1_ratio, solver="saga", tol=1e-11, max_iter=100_000, **strength)
    else:
        model = sk.LogisticRegression(solver="newton-cholesky", tol=1e-12, max_iter=1000, **strength)
    return both(model.fit(x, y, sample_weight=s))


def regressor(make):
    def fit(x, y, s, penalty):
        model = make(alpha=penalty.alpha if penalty else 0.0, solver="newton-cholesky", tol=1e-12, max_iter=1000)
        return both(model.fit(x, y, sample_weight=s))

    return fit


log = sm.families.links.Log()
PEERS = {
    ("squared", "scikit-learn"): least_squares,
    ("squared", "statsmodels"): statsmodels(sm.families.Gaussian),
    ("squared", "glum"): glum("normal"),
    ("logistic", "scikit-learn"): logistic,
    ("logistic", "statsmodels"): statsmodels(sm.families.Binomial),
    ("logistic", "glum"): glum("binomial"),
    ("poisson", "scikit-learn"): regressor(sk.PoissonRegressor),
    ("poisson", "statsmodels"): statsmodels(sm.families.Poisson),
    ("poisson", "glum"): glum("poisson"),
    ("tweedie", "scikit-learn"): regressor(lambda **options: sk.TweedieRegressor(power=1.5, **options)),
    ("tweedie", "statsmodels"): statsmodels(lambda: sm.families.Tweedie(log, var_power=1.5)),
    ("tweedie", "glum"): glum(TweedieDistribution(1.5)),
    ("gamma", "scikit-learn"): regressor(sk.GammaRegressor),
    ("gamma", "statsmodels"): statsmodels(lambda: sm.families.Gamma(log)),
    ("gamma", "glum"): glum("gamma"),
}


def table():
    for (loss, peer), fit in PEERS.items():
        for name, penalty in PENALTIES.items():
            is_nonsmooth = isinstance(penalty, ElasticNet)
            generalised = loss in ("poisson", "tweedie", "gamma")
            if (peer == "statsmodels" and penalty) or (peer == "scikit-learn" and is_nonsmooth and generalised):
                continue  # they have no such penalty
            for solver in ("newton", "lbfgs") if peer == "scikit-learn" else ("newton",):
                yield pytest.param(loss, penalty, fit, solver, id=f"{loss}-{name}-{peer}-{solver}")


@pytest.mark.parametrize(("loss", "penalty", "peer", "solver"), list(table()))
def test_coefficients_are_theirs(loss, penalty, peer, solver):
    loss = LOSSES[loss]
    x, y = problem_of(loss, n=N, p=6)
    s = np.random.default_rng(1).uniform(0.5, 2.0, N)
    rows = da.from_array(x, chunks=(70, -1))
    tol = 1e-11 if solver == "newton" else 1e-9
    run = dask_gd.fit(rows, y, sample_weight=s, loss=loss, penalty=penalty, solver=solver, tol=tol, max_iter=1000)
    expected = peer(x, y, s, penalty)
    assert np.abs(run.parameters[:, 0] - expected).max() <= 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize("name", ["none", "l2", "l1", "elastic net"])
def test_softmax_coefficients_are_scikit_learns(name):
    penalty = PENALTIES[name]
    x, z = problem_of(dask_gd.Squared(), n=N, p=6)
    y = np.digitize(z, np.quantile(z, [0.3, 0.7]))
    run = dask_gd.fit(x, y, loss="softmax", penalty=penalty, tol=1e-11)
    strength = 1 / (A * N) if penalty else np.inf
    if isinstance(penalty, ElasticNet):
        options = {"solver": "saga", "l1_ratio": penalty.l1_ratio, "tol": 1e-11, "max_iter": 100_000}
    else:
        options = {"solver": "newton-cholesky", "tol": 1e-12, "max_iter": 1000}
    model = sk.LogisticRegression(C=strength, **options).fit(x, y)
    assert_allclose(run.weights.values.T, model.coef_, rtol=1e-6, atol=1e-6)


def test_softmax_without_a_penalty_is_statsmodels():
    x, z = problem_of(dask_gd.Squared(), n=N, p=6)
    y = np.digitize(z, np.quantile(z, [0.3, 0.7]))
    run = dask_gd.fit(x, y, loss="softmax", tol=1e-11)
    model = sm.MNLogit(y, np.column_stack([x, np.ones(N)])).fit(method="newton", tol=1e-14, maxiter=100, disp=0)
    assert_allclose(run.parameters[:, 1:] - run.parameters[:, :1], model.params, rtol=1e-6, atol=1e-6)


def test_huber_of_scikit_learns_scale_is_its():
    x, y = problem_of(Huber(), n=N, p=6)
    model = sk.HuberRegressor(epsilon=1.35, alpha=A * N, tol=1e-10, max_iter=10_000).fit(x, y)
    run = dask_gd.fit(x, y, loss=Huber(1.35 * model.scale_), penalty=L2(A * model.scale_), tol=1e-12)
    assert_allclose(run.parameters[:, 0], both(model), rtol=1e-5, atol=1e-5)  # as exact as its lbfgs is
