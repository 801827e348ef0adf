"""What users of scikit-learn do without a thought: warm starts, rows with NaN, scores of lazy rows."""

import inspect

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn import linear_model, svm
from sklearn.exceptions import UndefinedMetricWarning

import dask_gd
from dask_gd import estimators
from dask_gd.errors import DataError, InvalidArgumentError, NonFiniteError
from dask_gd.estimators import (
    ElasticNet,
    GammaRegressor,
    LassoCV,
    LinearRegression,
    LinearSVC,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
    SGDClassifier,
)
from dask_gd.penalties import NonNegative

ROWS = 60


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).normal(size=(ROWS, 3))


@pytest.fixture(scope="module")
def y(x):
    return x @ [1.0, -2.0, 0.5] + np.random.default_rng(1).normal(size=ROWS)


def lazy(a):
    return da.from_array(a, chunks=(20, *a.shape[1:]))


# Parameters


@pytest.mark.parametrize("name", estimators.__all__)
def test_what_scikit_learn_takes_by_position_is_taken_by_position(name):
    peer = getattr(linear_model, name, None) or getattr(svm, name)
    positional = inspect.Parameter.POSITIONAL_OR_KEYWORD
    ours, theirs = (
        [key for key, value in inspect.signature(cls).parameters.items() if value.kind is positional]
        for cls in (getattr(estimators, name), peer)
    )
    # An alpha may always be given by position.
    assert ours[: len(theirs)] == theirs


# Rows without a prediction have no class


@pytest.mark.parametrize(
    "model",
    [LogisticRegression(), LinearSVC(), SGDClassifier(tol=None, max_iter=3)],
    ids=lambda model: type(model).__name__,
)
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", ["dask", "frame", "xarray"])
def test_a_row_with_nan_has_no_class(model, classes, kind, x, y):
    labels = np.array(["a", "b", "c"])[np.digitize(y, [0.0, 1.5][: classes - 1])]
    broken = x.copy()
    broken[23, 1] = np.nan
    forms = {
        "dask": lazy,
        "frame": lambda a: pd.DataFrame(a, columns=list("abc")).assign(s=np.where(x[:, 0] > 0, "u", "v")),
        "xarray": lambda a: xr.DataArray(lazy(a), dims=("time", "feature")),
    }
    whole, rows = forms[kind](x), forms[kind](broken)
    model.fit(whole, labels)
    with pytest.raises(NonFiniteError, match="no class for row 23 of X"):
        np.asarray(model.predict(rows))
    with pytest.raises((NonFiniteError, ValueError), match=r"no class for row 23 of X|NaN"):
        model.score(rows, labels)
    # The other rows have one, and the decision of this row is NaN.
    assert np.isnan(np.asarray(model.decision_function(rows))[23]).all()
    np.testing.assert_array_equal(np.asarray(model.predict(rows[:20])), np.asarray(model.predict(whole[:20])))


def test_the_row_is_counted_in_its_block_where_blocks_have_no_known_sizes(x, y):
    model = LogisticRegression().fit(x, y > 0)
    broken = x.copy()
    broken[47] = np.nan
    rows = lazy(broken)
    with pytest.raises(NonFiniteError, match="row 7 of block 2 of X"):
        model.predict(rows[da.ones(ROWS, chunks=20, dtype=bool)]).compute()


def test_a_row_without_a_level_has_no_class(x, y):
    frame = pd.DataFrame({"x": x[:, 0], "s": np.where(x[:, 1] > 0, "u", "v")})
    model = LogisticRegression().fit(frame, y > 0)
    frame.loc[5, "s"] = None
    with pytest.raises(NonFiniteError, match="row 5"):
        model.predict(frame)


# Bounds


@pytest.mark.parametrize("form", [np.asarray, lazy], ids=["numpy", "dask"])
@pytest.mark.parametrize("model", [Ridge(0.1), ElasticNet(0.01), LinearRegression(), LassoCV(alphas=5)])
def test_positive_holds_after_a_warm_start_with_negative_weights(model, form, x, y):
    model.set_params(warm_start=True, positive=False).fit(form(x), y)
    assert model.coef_.min() < 0
    model.set_params(positive=True).fit(form(x), y)
    cold = type(model)(**{**model.get_params(), "warm_start": False}).fit(form(x), y)
    assert model.coef_.min() >= 0
    np.testing.assert_allclose(model.coef_, cold.coef_, atol=1e-6)


@pytest.mark.parametrize("loss", ["squared", "logistic"])
@pytest.mark.parametrize("solver", ["newton", "nesterov"])
def test_initial_weights_beyond_a_bound_are_brought_within(loss, solver, x, y):
    if loss == "logistic":
        y = (y > 0).astype(float)
    options = {"loss": loss, "penalty": NonNegative(0.01), "solver": solver, "max_iter": 3000, "tol": 1e-8}
    cold = dask_gd.fit(x, y, **options)
    warm = dask_gd.fit(x, y, initial_weights=np.array([-3.0, -3.0, 2.0]), **options)
    assert warm.weights.min() >= 0
    np.testing.assert_allclose(warm.weights, cold.weights, atol=1e-5)


@pytest.mark.parametrize("seed", range(8))
def test_bounded_weights_follow_the_units_of_their_columns(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(40, 4))
    y = x @ rng.normal(size=4) + rng.normal(size=40)
    units = 10.0 ** rng.choice([-12, -8, -1, 0, 5, 12], size=4)
    model = LinearRegression(positive=True).fit(x * units, y)
    peer = linear_model.LinearRegression(positive=True).fit(x, y)
    np.testing.assert_allclose(model.coef_ * units, peer.coef_, atol=1e-6)
    assert model.converged_


def test_a_bounded_elastic_net_is_scikit_learns_in_unlike_units(x, y):
    units = np.array([1e-3, 1e4, 1.0])
    model = ElasticNet(0.01, positive=True).fit(x * units, y)
    peer = linear_model.ElasticNet(0.01, positive=True, tol=1e-12, max_iter=100_000).fit(x * units, y)
    np.testing.assert_allclose(model.predict(x * units), peer.predict(x * units), atol=1e-6)


# Warm starts


@pytest.mark.parametrize(
    ("model", "first", "second", "shapes"),
    [
        (Ridge(), lambda y: y, lambda y: np.c_[y, y], "3 features and 1 outputs .* have 3 and 2"),
        (LogisticRegression(), lambda y: y > 0, lambda y: np.digitize(y, [-1, 1]), "have 3 and 3"),
        (LinearSVC(), lambda y: np.digitize(y, [-1, 1]), lambda y: y > 0, "have 3 and 1"),
    ],
)
def test_a_warm_start_from_other_shapes_says_that_it_is_one(model, first, second, shapes, x, y):
    model.set_params(warm_start=True).fit(x, first(y))
    with pytest.raises(InvalidArgumentError, match=rf"warm_start=True\) goes on .*{shapes}.*warm_start=False"):
        model.fit(x, second(y))
    with pytest.raises(InvalidArgumentError, match=r"warm_start=True\) goes on .* have 2 and"):
        model.fit(x[:, :2], first(y))


# Scores of lazy rows refuse what those of rows in memory refuse


@pytest.mark.parametrize(
    ("model", "bad"),
    [(PoissonRegressor(), -1.0), (GammaRegressor(), 0.0)],
    ids=["Poisson", "Gamma"],
)
def test_a_deviance_refuses_targets_that_have_none(model, bad, x, y):
    targets = np.exp(y)
    model.fit(x, targets)
    targets[31] = bad
    with pytest.raises(DataError, match="row 31 of 'y'"):
        model.score(lazy(x), targets)


@pytest.mark.parametrize("model", [Ridge(), PoissonRegressor(), LogisticRegression()])
def test_weights_that_sum_to_0_give_no_score(model, x, y):
    targets = (y > 0).astype(float)
    model.fit(x, targets)
    with pytest.raises(InvalidArgumentError, match="weights sum to 0"):
        model.score(lazy(x), targets, sample_weight=np.zeros(ROWS))


@pytest.mark.parametrize("model", [Ridge(), LogisticRegression()])
def test_no_rows_give_no_score(model, x, y):
    model.fit(x, y > 0)
    with pytest.raises(InvalidArgumentError, match="no rows"):
        model.score(lazy(x)[:0], lazy(y)[:0] > 0)


@pytest.mark.parametrize("form", [np.asarray, lazy], ids=["numpy", "dask"])
def test_a_single_row_has_no_share_explained(form, x, y):
    model = Ridge().fit(x, y)
    with pytest.warns(UndefinedMetricWarning, match="well-defined"):
        assert np.isnan(model.score(form(x[:1]), form(y[:1])))


@pytest.mark.parametrize("of_fit", [str, int])
@pytest.mark.parametrize("dtype", [None, object])
def test_labels_of_another_kind_are_no_errors_of_the_model(of_fit, dtype, x, y):
    numbers = (y > 0).astype(int)
    labels = {int: numbers, str: np.where(numbers, "yes", "no")}
    model = LogisticRegression().fit(x, labels[of_fit])
    right = labels[of_fit].astype(dtype or labels[of_fit].dtype)
    assert model.score(lazy(x), right) == model.score(x, labels[of_fit])
    [other] = [values for kind, values in labels.items() if kind is not of_fit]
    with pytest.raises(InvalidArgumentError, match="same kind"):
        model.score(lazy(x), other.astype(dtype or other.dtype))


@pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf])
def test_weights_of_classes_are_refused_as_such(weight, x, y):
    with pytest.raises(InvalidArgumentError, match="class_weight="):
        LogisticRegression(class_weight={0: weight, 1: 1.0}).fit(x, (y > 0).astype(int))
