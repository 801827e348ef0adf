"""Stochastic descent that averages its weights, slows down, or stops early: with scikit-learn's meaning."""

import pickle

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import linear_model
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit

from dask_gd import events
from dask_gd.errors import InvalidArgumentError
from dask_gd.estimators import SGDClassifier, SGDRegressor
from dask_gd.preprocessing import train_test_split
from dask_gd.sources import as_source


def data(n=400, p=3):
    rng = np.random.default_rng(n)
    x = rng.normal(size=(n, p))
    z = x @ rng.normal(size=p)
    return x, z + rng.normal(size=n), (z + rng.logistic(size=n) > 0).astype(int)


class Weights(events.Listener):
    """Keeps the weights after each step."""

    def __init__(self):
        self.seen = []

    def stepped(self, event):
        if event.iteration:
            self.seen.append(event.result.parameters)


# A single row has one order, and steps of a row are scikit-learn's


@pytest.mark.parametrize("average", [False, True, 1, 4, 30])
@pytest.mark.parametrize("learning_rate", ["constant", "adaptive"])
@pytest.mark.parametrize("penalty", ["l2", None])
def test_steps_on_a_single_row_are_scikit_learns(average, learning_rate, penalty):
    x, y = [[0.5, -1.0]], [2.0]
    options = {
        "average": average,
        "learning_rate": learning_rate,
        "penalty": penalty,
        "alpha": 0.1,
        "eta0": 0.3,
        # With an intercept a row less the mean of the rows would be nothing.
        "fit_intercept": False,
        "tol": 1e-3 if learning_rate == "adaptive" else None,
        "max_iter": 400 if learning_rate == "adaptive" else 20,
        "n_iter_no_change": 3,
    }
    peer = linear_model.SGDRegressor(**options).fit(x, y)
    model = SGDRegressor(**options).fit(x, y)
    assert model.n_iter_ == peer.n_iter_
    assert_allclose(model.coef_, peer.coef_, rtol=1e-9)
    assert_allclose(model.intercept_, peer.intercept_, rtol=1e-9)
    assert_allclose(model.predict(x), peer.predict(x), rtol=1e-9)


# Averages


@pytest.mark.parametrize("chunks", [400, 50])
@pytest.mark.parametrize("begin", [True, 1000])
@pytest.mark.parametrize("kind", ["regressor", "classifier"])
def test_coefficients_are_the_mean_of_those_after_each_step(chunks, begin, kind):
    x, y, classes = data()
    make = SGDRegressor if kind == "regressor" else SGDClassifier
    rows = da.from_array(x, chunks=(chunks, -1)), da.from_array(y if kind == "regressor" else classes, chunks=chunks)
    weights = Weights()
    options = {"max_iter": 6, "tol": None, "batch": 0.25}
    model = make(average=begin, callbacks=[weights], **options).fit(*rows)
    # Rows of a step: all of them, or those of two of eight partitions.
    rows_of_step = 400 if chunks == 400 else 100
    first = 0 if begin is True else -(-begin // rows_of_step) - 1
    mean = np.mean(weights.seen[first:], axis=0)
    assert_allclose(np.ravel(model.coef_), mean[:-1, 0], rtol=1e-12)
    assert_allclose(model.intercept_, mean[-1], rtol=1e-12)
    # The last weights are kept, and predictions are made with the mean.
    plain = make(**options).fit(*rows)
    assert_array_equal(model.result_.parameters, plain.result_.parameters)
    other = plain.fit(*rows)
    other.coef_[...] = model.coef_
    other.intercept_[...] = model.intercept_
    assert_array_equal(model.predict(x), other.predict(x))


def test_a_mean_that_does_not_begin_is_none():
    x, y, _ = data()
    plain = SGDRegressor(max_iter=5, tol=None).fit(x, y)
    assert_array_equal(SGDRegressor(max_iter=5, tol=None, average=10_000).fit(x, y).coef_, plain.coef_)


def test_partial_fits_go_on_from_the_last_weights_and_with_the_mean():
    x, y, _ = data()
    weights = Weights()
    model = SGDRegressor(average=True, callbacks=[weights], learning_rate="constant", eta0=0.05, tol=None)
    plain = SGDRegressor(learning_rate="constant", eta0=0.05)
    for part in np.array_split(np.arange(400), 5):
        model.partial_fit(x[part], y[part])
        plain.partial_fit(x[part], y[part])
        model = pickle.loads(pickle.dumps(model)).set_params(callbacks=[weights])
    assert_array_equal(model.result_.parameters, plain.result_.parameters)
    assert_allclose(model.coef_, np.mean(weights.seen, axis=0)[:-1, 0], rtol=1e-12)
    # A fit begins anew.
    assert_array_equal(model.fit(x, y).coef_, SGDRegressor(average=True, **rate(model)).fit(x, y).coef_)


def rate(model):
    return {"learning_rate": model.learning_rate, "eta0": model.eta0, "tol": None}


# Early stopping


def stopped(make, x, y, x_val, y_val, s=None, tol=1e-3, passes=3, **options):
    """Return the number of passes that scikit-learn's rule makes, and the coefficients, pass by pass."""
    best, without = -np.inf, 0
    for n in range(1, 200):
        model = make(max_iter=n, tol=None, **options).fit(x, y, sample_weight=s)
        score = model.score(x_val, y_val)
        without = without + 1 if score < best + tol else 0
        best = max(best, score)
        if without >= passes:
            return n, model.coef_
    raise AssertionError("it has not stopped")


@pytest.mark.parametrize("kind", ["regressor", "classifier"])
def test_early_stopping_is_scikit_learns_rule_on_its_split(kind):
    x, y, classes = data()
    make, y, splitter = (
        (SGDRegressor, y, ShuffleSplit) if kind == "regressor" else (SGDClassifier, classes, StratifiedShuffleSplit)
    )
    options = {"learning_rate": "constant", "eta0": 0.05}
    model = make(early_stopping=True, validation_fraction=0.3, random_state=7, n_iter_no_change=3, **options)
    model.fit(x, y)
    train, test = map(np.sort, next(splitter(test_size=0.3, random_state=7).split(x, y)))
    passes, coef = stopped(make, x[train], y[train], x[test], y[test], **options)
    assert model.n_iter_ == passes < 100
    assert_allclose(model.coef_, coef, rtol=1e-12)
    assert model.result_.reason == "no_change"
    assert model._validation is None


@pytest.mark.parametrize("batch", [0.1, 1.0])
def test_lazy_rows_are_split_by_their_numbers(batch):
    x, y, _ = data()
    options = {"learning_rate": "constant", "eta0": 0.05, "batch": batch}
    rows = da.from_array(x, chunks=(40, -1)), da.from_array(y, chunks=40)
    model = SGDRegressor(early_stopping=True, validation_fraction=0.2, n_iter_no_change=3, **options).fit(*rows)
    x_fit, x_val, y_fit, y_val = train_test_split(*rows, test_size=0.2, seed=0)
    passes, coef = stopped(SGDRegressor, x_fit, y_fit, x_val, y_val, **options)
    assert model.n_iter_ == passes
    assert_allclose(model.coef_, coef, rtol=1e-9)


def test_adaptive_steps_get_smaller_when_the_score_does_not_rise():
    x, y, _ = data()
    options = {"early_stopping": True, "eta0": 0.1, "random_state": 0, "n_iter_no_change": 2, "max_iter": 300}
    constant = SGDRegressor(learning_rate="constant", **options).fit(x, y)
    adaptive = SGDRegressor(learning_rate="adaptive", **options).fit(x, y)
    assert constant.n_iter_ < adaptive.n_iter_ < 300
    assert adaptive.eta0_ == 0.1
    assert adaptive.history_.step_size[-1] < 1e-6


def test_weights_are_split_with_the_rows_and_frames_keep_their_names():
    x, _, classes = data()
    s = np.where(np.arange(400) % 2, 1.0, 0.0)
    options = {"early_stopping": True, "random_state": 1, "eta0": 0.1, "learning_rate": "constant"}
    model = SGDClassifier(**options).fit(pd.DataFrame(x, columns=list("abc")), classes, sample_weight=s)
    plain = SGDClassifier(**options).fit(x, classes, sample_weight=s)
    assert_array_equal(model.coef_, plain.coef_)
    assert model.feature_names_in_.tolist() == list("abc")
    _, test = next(StratifiedShuffleSplit(test_size=0.1, random_state=1).split(x, classes))
    zero = np.ones(400)
    zero[test] = 0.0
    with pytest.raises(InvalidArgumentError, match="validation set are all zero"):
        SGDClassifier(**options).fit(x, classes, sample_weight=zero)


def test_what_ends_at_max_iter_is_warned_of_and_a_source_is_refused():
    x, y, _ = data()
    with pytest.warns(ConvergenceWarning, match="took max_iter=3 passes before n_iter_no_change=5"):
        model = SGDRegressor(learning_rate="adaptive", max_iter=3).fit(x, y)
    assert model.n_iter_ == 3
    with pytest.raises(InvalidArgumentError, match="a Source does not allow"):
        SGDRegressor(early_stopping=True).fit(as_source(x, y))
    with pytest.raises(InvalidArgumentError, match="early_stopping should be False"):
        SGDRegressor(early_stopping=True).partial_fit(x, y)
