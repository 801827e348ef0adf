"""Estimators take scikit-learn's parameters and have its attributes; what they cannot do they refuse."""

import inspect
import pickle

import dask.array as da
import numpy as np
import pytest
from scipy import optimize, sparse
from sklearn import linear_model, svm
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import KFold
from sklearn.utils._param_validation import InvalidParameterError

import dask_gd
from dask_gd import estimators
from dask_gd.errors import DaskGDError, InvalidArgumentError
from dask_gd.estimators import (
    ElasticNet,
    ElasticNetCV,
    HuberRegressor,
    Lasso,
    LassoCV,
    LinearRegression,
    LinearSVC,
    LogisticRegression,
    LogisticRegressionCV,
    Ridge,
    RidgeCV,
    SGDClassifier,
    SGDRegressor,
)
from dask_gd.penalties import NonNegative

ALL = {name: getattr(estimators, name) for name in estimators.__all__}
# A value of each inert parameter that is not its default.
OTHERS = {
    "copy_X": False,
    "n_jobs": 2,
    "verbose": 1,
    "random_state": 3,
    "precompute": True,
    "selection": "random",
    "dual": True,
    "intercept_scaling": 2.0,
    "shuffle": False,
    "gcv_mode": "eigen",
    "solver_options": {"presolve": False},
    "validation_fraction": 0.2,
    "n_iter_no_change": 3,
    "use_legacy_attributes": False,
    "refit": True,
}


def peer_of(name):
    """scikit-learn's estimator of this name."""
    return getattr(svm if name == "LinearSVC" else linear_model, name)


def data(n=80, p=4, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p)) + 0.3
    y = x @ np.linspace(2.0, -1.0, p) + 1 + rng.normal(size=n)
    return x, y


def targets_for(name, y):
    if name.endswith(("SVC", "Classifier")) or name.startswith("Logistic"):
        return np.where(y > y.mean(), "late", "early")
    if name.startswith(("Gamma", "Poisson")):
        return np.exp(y / 4)
    return y


def small(name, **others):
    """A quick estimator of this name."""
    quick = {"alphas": 5} if name in ("LassoCV", "ElasticNetCV") else {}
    quick |= {"Cs": [1.0], "cv": 2} if name == "LogisticRegressionCV" else {}
    quick |= {"max_iter": 3, "tol": None} if name.startswith("SGD") else {}
    return ALL[name](**quick, **others)


# Parameters


@pytest.mark.parametrize("name", ALL)
def test_parameters_without_effect_have_scikit_learns_names_and_defaults(name):
    theirs = inspect.signature(peer_of(name)).parameters
    ours = inspect.signature(ALL[name]).parameters
    # Those of former and of later releases of scikit-learn differ.
    passing = {"use_legacy_attributes", "gcv_mode"}
    for parameter in OTHERS.keys() & ours.keys() - passing:
        assert parameter in theirs
        assert ours[parameter].default == theirs[parameter].default


@pytest.mark.parametrize("name", ALL)
def test_every_parameter_of_scikit_learn_is_known(name):
    # In some releases only, or deprecated there.
    passing = {"multi_class", "store_cv_values"}
    assert set(inspect.signature(peer_of(name)).parameters) - passing <= set(ALL[name]().get_params())


@pytest.mark.parametrize("name", ALL)
def test_parameters_without_effect_change_no_bit(name):
    x, y = data(n=40)
    y = targets_for(name, y)
    plain = small(name).fit(x, y)
    others = {key: value for key, value in OTHERS.items() if key in plain.get_params()}
    if name.startswith("SGD"):
        del others["random_state"]
    model = small(name, **others).fit(x, y)
    np.testing.assert_array_equal(model.coef_, plain.coef_)
    np.testing.assert_array_equal(model.intercept_, plain.intercept_)


BAD = {
    "alpha": [-1.0, "a", np.nan],
    "tol": [-1.0, "x"],
    "C": [0.0, -1.0, "a"],
    "fit_intercept": ["no", 2],
    "max_iter": [-1, 2.5, "many"],
    "l1_ratio": [-0.1, 1.1, "a"],
    "quantile": [0.0, 1.0, 2],
    "epsilon": [-1.0, "a"],
    "class_weight": ["all", 3],
    "copy_X": ["yes"],
    "n_jobs": [2.5],
    "random_state": ["a", -1.5],
    "selection": ["none"],
    "positive": ["no"],
    "loss": ["nothing"],
    "penalty": ["l3"],
    "solver": ["nothing", 3],
    "warm_start": ["no"],
    "link": ["logit"],
    "learning_rate": ["fast"],
    "eta0": [0.0, -1.0],
    "dual": [3.5],
    "multi_class": ["all"],
    "eps": [0.0],
}


@pytest.mark.parametrize("name", ALL)
def test_bad_values_are_refused_by_name_as_scikit_learn_refuses_them(name):
    x, y = data(n=10)
    y = targets_for(name, y)
    known = ALL[name]().get_params()
    for parameter, values in BAD.items():
        for value in values if parameter in known else ():
            with pytest.raises(InvalidParameterError, match=f"The '{parameter}' parameter of {name} must be") as error:
                small(name).set_params(**{parameter: value}).fit(x, y)
            assert isinstance(error.value, DaskGDError)


def test_what_is_not_served_is_refused_by_name():
    x, y = data(n=12)
    classes = y > 1
    for model, targets in (
        (SGDClassifier(learning_rate="pa1"), classes),
        (SGDClassifier(loss="modified_huber"), classes),
        (SGDRegressor(learning_rate="invscaling", power_t=0.25), y),
        (LinearSVC(multi_class="crammer_singer"), classes),
        (RidgeCV(cv=3, store_cv_results=True), y),
        (RidgeCV(cv=3, alpha_per_target=True), y),
        (LogisticRegressionCV(refit=False), classes),
    ):
        with pytest.raises(InvalidArgumentError):
            model.fit(x, targets)


@pytest.mark.parametrize(
    ("name", "solvers"),
    [
        ("Ridge", ["svd", "cholesky", "lsqr", "sparse_cg", "sag", "saga"]),
        ("LogisticRegression", ["lbfgs", "liblinear", "newton-cg", "newton-cholesky", "sag", "saga"]),
        ("PoissonRegressor", ["newton-cholesky", "lbfgs"]),
    ],
)
def test_scikit_learns_solvers_find_what_auto_finds(name, solvers):
    x, y = data()
    y = targets_for(name, y)
    expected = small(name).fit(x, y).coef_
    for solver in solvers:
        np.testing.assert_allclose(small(name, solver=solver).fit(x, y).coef_, expected, rtol=1e-5, atol=1e-7)
    with pytest.raises(InvalidParameterError):
        small(name, solver="highs").fit(x, y)


def test_former_names_of_penalties_mean_what_they_meant():
    x, y = data()
    y = y > 1
    for penalty, ratio, C in (("l1", 1.0, 0.5), ("l2", 0.0, 0.5), ("elasticnet", 0.3, 0.5)):
        named = LogisticRegression(penalty=penalty, l1_ratio=ratio, C=C).fit(x, y)
        np.testing.assert_array_equal(named.coef_, LogisticRegression(l1_ratio=ratio, C=C).fit(x, y).coef_)
    nothing = LogisticRegression(penalty=None).fit(x, y)
    np.testing.assert_array_equal(nothing.coef_, LogisticRegression(C=np.inf).fit(x, y).coef_)
    with pytest.raises(InvalidArgumentError, match="l1_ratio must be specified"):
        LogisticRegression(penalty="elasticnet", l1_ratio=None).fit(x, y)


# Attributes


@pytest.mark.parametrize("shape", ["(n,)", "(n, 1)", "(n, 2)"])
@pytest.mark.parametrize("name", ["LinearRegression", "Ridge", "Lasso", "ElasticNet"])
def test_coefficients_have_scikit_learns_shapes(name, shape):
    x, y = data(n=30)
    y = {"(n,)": y, "(n, 1)": y[:, None], "(n, 2)": np.stack([y, -y], axis=1)}[shape]
    for fit_intercept in (True, False):
        model = ALL[name](fit_intercept=fit_intercept).fit(x, y)
        peer = peer_of(name)(fit_intercept=fit_intercept).fit(x, y)
        assert model.coef_.shape == peer.coef_.shape
        assert np.shape(model.intercept_) == np.shape(peer.intercept_)
        np.testing.assert_allclose(model.predict(x).ravel(), peer.predict(x).ravel(), atol=1e-2)


def test_classifiers_and_descent_have_scikit_learns_shapes():
    x, y = data()
    assert LogisticRegression().fit(x, y > 1).n_iter_.shape == (1,)
    assert SGDRegressor(max_iter=2, tol=None).fit(x, y).intercept_.shape == (1,)
    assert SGDRegressor(max_iter=2, tol=None).fit(x, y).coef_.shape == (x.shape[1],)


@pytest.mark.parametrize("name", ["Ridge", "LogisticRegression", "LinearRegression", "SGDRegressor"])
def test_predictions_are_made_with_the_coefficients_that_there_are(name):
    x, y = data(n=30)
    model = small(name).fit(x, targets_for(name, y))
    before = model.predict(x)
    model.coef_[:] = 0
    after = model.predict(x)
    assert not np.array_equal(before, after)
    assert len(np.unique(after)) == 1
    np.testing.assert_array_equal(model.predict(da.from_array(x, chunks=(7, 4))), after)
    model.coef_ = np.zeros(9)
    with pytest.raises(InvalidArgumentError, match="9 values now"):
        model.predict(x)


def test_sparse_coefficients_predict_the_same():
    x, y = data()
    for model in (LogisticRegression(l1_ratio=1.0, C=0.05), LinearSVC(penalty="l1", C=0.01)):
        model.fit(x, y > 1)
        dense, before = model.coef_, model.decision_function(x)
        assert sparse.issparse(model.sparsify().coef_)
        np.testing.assert_array_equal(model.decision_function(x), before)
        np.testing.assert_array_equal(model.densify().coef_, dense)
    descent = SGDRegressor(max_iter=2, tol=None).fit(x, y)
    before = descent.predict(x)
    np.testing.assert_array_equal(descent.sparsify().predict(x), before)
    lasso = Lasso(alpha=0.5).fit(x, y)
    np.testing.assert_array_equal(lasso.sparse_coef_.toarray()[0], lasso.coef_)


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
def test_dual_gap_is_scikit_learns(kind, positive):
    """Of a point that is no minimum, as far as scikit-learn's is from its own."""
    x, y = data()
    s = np.random.default_rng(1).uniform(0.5, 2.0, len(y))
    options = {"alpha": 0.2, "l1_ratio": 0.5, "positive": positive}
    model = ElasticNet(**options).fit(kind(x), y, s)
    assert 0 <= abs(model.dual_gap_) <= 1e-9
    assert np.shape(ElasticNet(**options).fit(kind(x), np.stack([y, -y], axis=1)).dual_gap_) == (2,)
    # scikit-learn's own gap where it has taken a single step.
    peer = linear_model.ElasticNet(max_iter=1, tol=1e-12, **options)
    with pytest.warns(ConvergenceWarning):
        peer.fit(x, y)
    rows = estimators.of_rows.RowsInMemory(kind(x), y, None)
    gap = estimators.of_rows.dual_gap(rows, peer.coef_[None], np.array([peer.intercept_]), **options)
    assert gap[0] == pytest.approx(peer.dual_gap_, rel=1e-6)
    assert not hasattr(ElasticNet(**options).fit(da.from_array(x), y), "dual_gap_")


def test_huber_names_its_outliers():
    x, y = data()
    y[:6] += 40.0
    model = HuberRegressor().fit(x, y)
    assert model.outliers_[:6].all()
    residual = np.abs(y - model.predict(x))
    np.testing.assert_array_equal(model.outliers_, residual > model.epsilon * model.scale_)


def test_estimators_do_not_keep_rows():
    x, y = data(n=20_000)
    for model in (Lasso(), Ridge(), RidgeCV(), LassoCV(alphas=3), SGDRegressor(max_iter=1, tol=None)):
        assert len(pickle.dumps(model.fit(x, y))) < 50_000
    assert len(pickle.dumps(SGDRegressor().partial_fit(x, y))) < 50_000


# Weights at least 0


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    ("model", "peer"),
    [
        (LinearRegression(positive=True), linear_model.LinearRegression(positive=True)),
        (Ridge(alpha=3.0, positive=True, solver="lbfgs"), linear_model.Ridge(alpha=3.0, positive=True, tol=1e-12)),
        (Lasso(alpha=0.1, positive=True), linear_model.Lasso(alpha=0.1, positive=True, tol=1e-12)),
        (ElasticNet(alpha=0.1, positive=True), linear_model.ElasticNet(alpha=0.1, positive=True, tol=1e-12)),
    ],
    ids=["linear", "ridge", "lasso", "elastic net"],
)
def test_positive_coefficients_are_scikit_learns(model, peer, lazy):
    x, y = data(n=60, p=8, seed=2)
    s = np.random.default_rng(1).uniform(0.5, 2.0, len(y))
    ours = (da.from_array(x, chunks=(17, 8)), da.from_array(y, chunks=9), s) if lazy else (x, y, s)
    model.fit(*ours)
    peer.fit(x, y, s)
    assert (model.coef_ >= 0).all()
    assert (model.coef_ == 0).any()
    np.testing.assert_allclose(model.coef_, peer.coef_, atol=1e-5)
    np.testing.assert_allclose(model.intercept_, peer.intercept_, atol=1e-5)


def test_positive_paths_begin_where_weights_leave_0():
    x, y = data(n=60)
    model = ElasticNetCV(alphas=4, positive=True, cv=3).fit(x, y)
    assert (model.coef_ >= 0).all()
    largest = model.alphas_[0]
    assert not ElasticNet(alpha=1.001 * largest, positive=True).fit(x, y).coef_.any()
    assert ElasticNet(alpha=0.99 * largest, positive=True).fit(x, y).coef_.any()
    with pytest.raises(InvalidArgumentError, match="goes with alphas or Cs"):
        dask_gd.search(x, y, penalty_grid=[None], positive=True)


@pytest.mark.parametrize("shape", [(30, 6), (6, 30)])
def test_nonnegative_least_squares_are_scipys(shape):
    """Also where columns are repeated: the fit is the same, if not the weights."""
    rng = np.random.default_rng(3)
    for _ in range(20):
        a = rng.normal(size=shape)
        a[:, 2] = a[:, 1]
        b = rng.normal(size=shape[0])
        part = NonNegative().nonsmooth(shape[1], shape[1])
        found = part.minimise(a.T @ a, a.T @ b, np.zeros(shape[1]))
        expected, residual = optimize.nnls(a, b)
        assert (found >= 0).all()
        assert np.linalg.norm(a @ found - b) == pytest.approx(residual, rel=1e-6, abs=1e-6)
        again = part.minimise(a.T @ a, a.T @ b, expected)
        assert np.linalg.norm(a @ again - b) == pytest.approx(residual, rel=1e-6, abs=1e-6)


def test_nonnegative_outputs_in_one_column_have_the_same_part():
    rng = np.random.default_rng(0)
    part = NonNegative(0.3).nonsmooth(4, 5)
    u, g = rng.normal(size=(2, 5, 3, 2))
    u = part.prox(u, 0.5)
    flat = part.flat(3)
    column, slope = u.reshape(15, 1, 2), g.reshape(15, 1, 2)
    np.testing.assert_array_equal(flat.value(column), part.value(u))
    np.testing.assert_array_equal(flat.prox(slope, 0.5), part.prox(g, 0.5).reshape(15, 1, 2))
    np.testing.assert_array_equal(flat.steepest(column, slope), part.steepest(u, g).reshape(15, 1, 2))
    # So that three classes together have a minimum too.
    x, y = data()
    labels = np.digitize(y, [0.0, 2.5])
    run = dask_gd.fit(x, labels, loss="softmax", penalty=NonNegative(0.01), tol=1e-8)
    assert run.converged
    assert (run.weights.values >= 0).all()


def test_a_penalty_whose_prox_no_solver_would_call_is_refused():
    class Unheard(dask_gd.L2):
        def prox(self, u, rate):
            return u

    x, y = data()
    with pytest.raises(InvalidArgumentError, match=r"has a method prox.*nonsmooth\(p, q\)"):
        dask_gd.fit(x, y, penalty=Unheard(0.1))


def test_nonnegative_logistic_regression_is_at_its_minimum():
    x, y = data(p=6)
    run = dask_gd.fit(x, (y > 1) * 1.0, loss="logistic", penalty=NonNegative(0.01), tol=1e-9)
    assert run.converged
    w = run.weights.values
    p = 1 / (1 + np.exp(-(x @ w + run.intercept.item())))
    slope = x.T @ (p - (y > 1)) / len(y) + 0.01 * 0.5 * (1 + w)
    assert np.abs(slope[w > 0]).max() < 1e-8
    assert (slope[w == 0] >= -1e-8).all()
    assert (w == 0).any()


# Several alphas, rows left out, splits, several classes


@pytest.mark.parametrize("lazy", [False, True])
def test_ridge_takes_an_alpha_for_each_target(lazy, tmp_path):
    x, y = data()
    y = np.stack([y, -y, y**2], axis=1)
    alphas = [0.1, 50.0, 0.1]
    rows = (da.from_array(x, chunks=(17, 4)), da.from_array(y, chunks=(9, 3))) if lazy else (x, y)
    model = Ridge(alpha=alphas, store=tmp_path / "run").fit(*rows)
    peer = linear_model.Ridge(alpha=np.array(alphas)).fit(x, y)
    np.testing.assert_allclose(model.coef_, peer.coef_, rtol=1e-6)
    np.testing.assert_allclose(model.intercept_, peer.intercept_, rtol=1e-6)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["fit-00", "fit-01"]
    with pytest.raises(InvalidArgumentError, match="3 != 2; give one"):
        Ridge(alpha=alphas).fit(x, y[:, :2])


@pytest.mark.parametrize("shape", [(40, 4), (15, 30)])
@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
def test_ridge_leaves_rows_out_as_scikit_learn(kind, shape):
    x, y = data(*shape)
    x = kind(np.where(np.abs(x) > 0.5, x, 0.0))
    y = np.stack([y, np.random.default_rng(1).normal(size=len(y))], axis=1)
    weights = np.random.default_rng(2).uniform(0.5, 2.0, len(y))
    for s in (None, weights):
        for options in ({}, {"fit_intercept": False}, {"alpha_per_target": True}, {"scoring": "r2"}):
            grid = {"alphas": [0.1, 1.0, 10.0, 100.0], "store_cv_results": True, **options}
            model = RidgeCV(**grid).fit(x, y, s)
            peer = linear_model.RidgeCV(**grid).fit(x, y, sample_weight=s)
            np.testing.assert_array_equal(model.alpha_, peer.alpha_)
            np.testing.assert_allclose(model.best_score_, peer.best_score_, rtol=1e-7)
            np.testing.assert_allclose(model.cv_results_, peer.cv_results_, rtol=1e-6, atol=1e-9)
            np.testing.assert_allclose(model.coef_, peer.coef_, rtol=1e-5, atol=1e-7)


def test_rows_are_left_out_some_at_a_time(monkeypatch):
    x, y = data()
    x = sparse.csr_matrix(x)
    whole = RidgeCV(store_cv_results=True).fit(x, y)
    monkeypatch.setattr(estimators.leave_one_out, "BATCH", 7)
    parts = RidgeCV(store_cv_results=True).fit(x, y)
    np.testing.assert_allclose(parts.cv_results_, whole.cv_results_, rtol=1e-10)
    monkeypatch.setattr(estimators.ridge_search, "WIDEST", 3)
    with pytest.raises(InvalidArgumentError, match="Give cv=5"):
        RidgeCV().fit(x, y)
    assert RidgeCV(cv=5).fit(x, y).converged_


def test_the_number_of_alphas_has_its_former_name_too():
    x, y = data()
    former = LassoCV(n_alphas=5).fit(x, y)
    np.testing.assert_array_equal(former.alphas_, LassoCV(alphas=5).fit(x, y).alphas_)


def test_a_store_knows_weights_of_at_least_0_again(tmp_path):
    x, y = data()
    first = dask_gd.fit(x, y, penalty=NonNegative(0.1), store=tmp_path)
    again = dask_gd.fit(x, y, penalty=NonNegative(0.1), store=tmp_path)
    np.testing.assert_array_equal(first.parameters, again.parameters)
    with pytest.raises(dask_gd.errors.StoreMismatchError):
        dask_gd.fit(x, y, penalty=dask_gd.ElasticNet(0.1), store=tmp_path)


def test_splits_may_be_read_once():
    x, y = data()
    splits = KFold(4)
    once = LassoCV(alphas=5, cv=iter(list(splits.split(x)))).fit(x, y)
    np.testing.assert_array_equal(once.mse_path_, LassoCV(alphas=5, cv=splits).fit(x, y).mse_path_)


def test_several_classes_of_a_support_vector_machine_are_scikit_learns():
    x, y = data(n=150)
    labels = np.array(["late", "early", "never"])[np.digitize(y, [0.0, 2.5])]
    for penalty in ("l2", "l1"):
        model = LinearSVC(C=0.3, fit_intercept=False, penalty=penalty).fit(x, labels)
        peer = svm.LinearSVC(C=0.3, fit_intercept=False, penalty=penalty, dual=False, tol=1e-10, max_iter=100_000)
        peer.fit(x, labels)
        np.testing.assert_allclose(model.coef_, peer.coef_, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(model.predict(x), peer.predict(x))
    lazy = LinearSVC(C=0.3).fit(da.from_array(x, chunks=(40, 4)), da.from_array(labels, chunks=40))
    np.testing.assert_allclose(lazy.coef_, LinearSVC(C=0.3).fit(x, labels).coef_, rtol=1e-6, atol=1e-8)


# Stochastic descent


def test_descent_begins_where_it_is_told():
    x, y = data()
    least = LinearRegression().fit(x, y)
    model = SGDRegressor(max_iter=1, tol=None, eta0=1e-9, penalty=None)
    model.fit(x, y, coef_init=least.coef_, intercept_init=least.intercept_)
    np.testing.assert_allclose(model.coef_, least.coef_, rtol=1e-6)
    np.testing.assert_allclose(model.intercept_, least.intercept_, rtol=1e-6)
    with pytest.raises(InvalidArgumentError, match="Provided coef_init does not match dataset"):
        model.fit(x, y, coef_init=np.zeros(9))


def test_descent_that_ends_at_max_iter_says_so():
    x, y = data()
    with pytest.warns(ConvergenceWarning, match="took max_iter=2 passes"):
        assert not SGDRegressor(max_iter=2, tol=1e-6).fit(x, y).converged_
    # Without a tolerance nothing else is asked for.
    assert SGDRegressor(max_iter=2, tol=None).fit(x, y).n_iter_ == 2


def test_descent_takes_any_random_state():
    x, y = data()
    for state in (None, 3, np.random.RandomState(3)):
        SGDClassifier(random_state=state, max_iter=2, tol=None).fit(x, y > 1)


def test_searches_that_end_at_max_iter_say_so():
    x, y = data()
    with pytest.warns(ConvergenceWarning, match="fits took max_iter=1 steps"):
        model = LogisticRegressionCV(Cs=[1.0], cv=2, max_iter=1).fit(x, y > 1)
    assert not model.converged_


def test_classes_of_weight_0_are_refused_by_name():
    x, y = data()
    labels = np.where(y > 1, "late", "early")
    with pytest.raises(InvalidArgumentError, match=r"the rows of \['early'\] have the weight 0"):
        LogisticRegression(class_weight={"early": 0.0}).fit(x, labels)


@pytest.mark.skipif(
    "use_legacy_attributes" not in linear_model.LogisticRegressionCV().get_params(),
    reason="scikit-learn before 1.8 has the former shapes only",
)
@pytest.mark.parametrize("legacy", [False, True])
def test_search_has_scikit_learns_attributes(legacy):
    x, y = data()
    for labels in (y > 1, np.digitize(y, [0.0, 2.5])):
        grid = {"Cs": [0.1, 1.0], "l1_ratios": [0.0], "cv": KFold(3), "scoring": "accuracy"}
        model = LogisticRegressionCV(**grid, use_legacy_attributes=legacy).fit(x, labels)
        peer = linear_model.LogisticRegressionCV(**grid, use_legacy_attributes=legacy, tol=1e-10, max_iter=1000)
        peer.fit(x, labels)
        for name in ("C_", "l1_ratio_", "n_iter_"):
            assert np.shape(getattr(model, name)) == np.shape(getattr(peer, name))
        for name in ("scores_", "coefs_paths_"):
            ours, theirs = getattr(model, name), getattr(peer, name)
            if legacy:
                assert list(ours) == list(theirs)
                ours, theirs = np.array(list(ours.values())), np.array(list(theirs.values()))
            if name == "scores_":
                np.testing.assert_allclose(ours, theirs)
            else:
                np.testing.assert_allclose(ours[..., :-1], theirs[..., :-1], atol=1e-4)
