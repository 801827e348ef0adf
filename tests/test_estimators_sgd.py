"""`SGDClassifier` and `SGDRegressor` approach scikit-learn's objectives, and go on where they ended."""

from itertools import pairwise

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context, linear_model
from sklearn.base import clone, is_classifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import dask_gd
from dask_gd.errors import DivergenceWarning, InvalidArgumentError, MissingChunkError
from dask_gd.estimators import LinearSVC, SGDClassifier, SGDRegressor
from dask_gd.estimators.stochastic_models import _each_over_sum
from dask_gd.sources import as_source


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks([SGDClassifier(loss="squared_hinge", max_iter=20, tol=0.3), SGDRegressor(max_iter=20)])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def problem(model, n=300, p=4, classes=2, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p)) * np.linspace(0.7, 1.4, p)
    z = x @ np.linspace(-1, 1, p) + 0.3
    if is_classifier(model):
        names = np.array(["early", "late", "never"])
        return x, names[np.digitize(z + 0.5 * rng.logistic(size=n), [0.0, 1.2][: classes - 1])]
    return x, z + rng.standard_t(3, size=n)


def parameters(model):
    return np.append(model.coef_, model.intercept_)


N, ALPHA = 300, 0.03
LEAST = {
    "log loss": (
        SGDClassifier(loss="log_loss"),
        linear_model.LogisticRegression(C=1 / (N * ALPHA), solver="newton-cholesky", tol=1e-10),
    ),
    "squared hinge": (SGDClassifier(loss="squared_hinge"), LinearSVC(C=1 / (N * ALPHA))),
    "hinge": (SGDClassifier(), LinearSVC(loss="hinge", C=1 / (N * ALPHA))),
    "squared error": (SGDRegressor(), linear_model.Ridge(alpha=N * ALPHA)),
    "without penalty": (SGDRegressor(penalty=None), linear_model.LinearRegression()),
    "l1": (SGDRegressor(penalty="l1"), linear_model.Lasso(alpha=ALPHA, tol=1e-12)),
    "elastic net": (
        SGDRegressor(penalty="elasticnet", l1_ratio=0.4),
        linear_model.ElasticNet(alpha=ALPHA, l1_ratio=0.4, tol=1e-12),
    ),
    "log loss, l1": (
        SGDClassifier(loss="log_loss", penalty="l1"),
        linear_model.LogisticRegression(C=1 / (N * ALPHA), l1_ratio=1.0, solver="saga", tol=1e-10, max_iter=10_000),
    ),
}


@pytest.mark.parametrize("name", LEAST)
def test_the_objective_is_scikit_learns(name):
    model, peer = LEAST[name]
    x, y = problem(model)
    model = clone(model).set_params(alpha=ALPHA, tol=1e-9, max_iter=5000, learning_rate="constant").fit(x, y)
    peer.fit(x, y)
    assert model.result_.reason == "converged"
    assert_allclose(parameters(model), parameters(peer), rtol=1e-5, atol=1e-6)
    assert model.score(x, y) == pytest.approx(peer.score(x, y), rel=1e-5)


def test_epsilon_is_where_the_loss_goes_on_straight():
    x, y = problem(SGDRegressor())
    model = SGDRegressor(loss="huber", epsilon=0.5, alpha=ALPHA, tol=1e-7, max_iter=2000, learning_rate="constant").fit(
        x, y
    )
    run = dask_gd.fit(x, y, loss=dask_gd.Huber(0.5), penalty=dask_gd.L2(ALPHA), tol=1e-9)
    assert_allclose(parameters(model), run.parameters[:, 0], rtol=1e-5)


def test_each_class_is_told_from_the_rest():
    model = SGDClassifier(loss="log_loss", alpha=ALPHA, tol=0.0, max_iter=100, learning_rate="constant")
    x, y = problem(model, classes=3)
    several = clone(model).fit(x, y)
    assert several.eta0_ == clone(model).fit(x, y == "late").eta0_
    for i, name in enumerate(several.classes_):
        one = clone(model).fit(x, y == name)
        assert_allclose(several.coef_[i], one.coef_[0], rtol=1e-9, atol=1e-9)
        assert_allclose(several.intercept_[i], one.intercept_[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("classes", [2, 3])
def test_probabilities_are_scikit_learns(classes):
    x, y = problem(SGDClassifier(), classes=classes)
    model = SGDClassifier(loss="log_loss").fit(x, y)
    peer = linear_model.SGDClassifier(loss="log_loss", random_state=0).fit(x, y)
    peer.coef_, peer.intercept_ = model.coef_, model.intercept_
    rows = da.from_array(x, chunks=(70, 4))
    for method in ("predict", "decision_function", "predict_proba", "predict_log_proba"):
        found, lazily = getattr(model, method)(x), getattr(model, method)(rows)
        assert isinstance(lazily, da.Array)
        assert lazily.shape == found.shape
        if method == "predict":
            assert_array_equal(found, peer.predict(x))
        else:
            assert_allclose(found, getattr(peer, method)(x), rtol=1e-10, atol=1e-12)
    assert_allclose(_each_over_sum(np.full((2, 3), -1e4)), 1 / 3)
    assert not hasattr(SGDClassifier(), "predict_proba")


BOTH = pytest.mark.parametrize("model", [SGDClassifier(loss="log_loss"), SGDRegressor()], ids=repr)


def blocks(x, y, size=15):
    """20 partitions."""
    return da.from_array(x, chunks=(size, x.shape[1])), y


@BOTH
def test_steps_on_some_rows_end_near_the_minimum(model):
    x, y = problem(model)
    exact = clone(model).set_params(alpha=ALPHA, tol=1e-4, max_iter=200, learning_rate="constant").fit(x, y)
    for rate in ("optimal", "invscaling"):
        near = clone(model).set_params(alpha=ALPHA, max_iter=10, learning_rate=rate).fit(*blocks(x, y))
        assert (near.t_, near.n_iter_, near.converged_) == (100, 10, False)
        assert_allclose(near.result_.history.passes, 0.1)
        assert_allclose(parameters(near), parameters(exact), atol=0.25)


@BOTH
def test_the_seed_decides(model):
    rows = blocks(*problem(model))
    one, other = (clone(model).set_params(max_iter=3, random_state=seed) for seed in (1, 2))
    assert_array_equal(parameters(clone(one).fit(*rows)), parameters(clone(one).fit(*rows)))
    assert np.abs(parameters(one.fit(*rows)) - parameters(other.fit(*rows))).max() > 1e-6


@pytest.mark.parametrize("rate", ["optimal", "invscaling", "constant"])
@BOTH
def test_going_on_takes_the_steps_of_one_fit(model, rate):
    """Of one partition, so that nothing is drawn."""
    x, y = problem(model)
    model = clone(model).set_params(learning_rate=rate, alpha=0.1, tol=0.0)
    through, classes = clone(model).set_params(max_iter=5).fit(x, y), {"classes": np.unique(y)}
    parts = clone(model)
    for i in range(5):
        parts.partial_fit(x, y, **classes if is_classifier(model) else {})
        assert (parts.t_, parts.n_iter_) == (i + 1, 1)
    assert parts.eta0_ == through.eta0_
    assert_allclose(parameters(parts), parameters(through), rtol=1e-12)
    after = clone(model).set_params(max_iter=4).fit(x, y).partial_fit(x, y)
    assert_allclose(parameters(after), parameters(through), rtol=1e-12)
    sizes = [*through.result_.history.step_size.values]
    expected = {"optimal": 1 / (1 / sizes[0] + 0.1 * np.arange(6)), "invscaling": sizes[0] / np.sqrt(1 + np.arange(6))}
    assert_allclose(sizes, expected.get(rate, sizes[0]), rtol=1e-12)


@pytest.mark.parametrize(("rate", "power"), [("optimal", 1.0), ("invscaling", 0.5), ("constant", 0.0)])
def test_steps_go_on_shrinking_and_drawing(rate, power):
    x, y = problem(SGDRegressor())
    model = SGDRegressor(learning_rate=rate, alpha=4.0, eta0=0.25)
    sizes = []
    for _ in range(3):
        history = model.partial_fit(*blocks(x, y)).result_.history
        sizes.extend(history.step_size.values[:-1])
    assert_allclose(sizes, 0.25 / (1 + np.arange(30)) ** power, rtol=1e-12)
    still = SGDRegressor(eta0=1e-12)
    first, second = (still.partial_fit(*blocks(x, y)).result_.history.loss.values for _ in range(2))
    assert set(first.round(6)) != set(second.round(6))


def test_the_first_step_is_found_once():
    x, y = problem(SGDRegressor())
    model = SGDRegressor().partial_fit(x, y)
    found = model.eta0_
    assert found == pytest.approx(1 / np.linalg.eigvalsh(np.cov(x.T, bias=True)).max(), rel=0.1)
    with pytest.warns(DivergenceWarning, match="partial_fit: the loss went from"):
        assert model.partial_fit(3 * x, y).eta0_ == found
    assert model.fit(3 * x, y).eta0_ < found / 4


@BOTH
def test_rows_that_come_in_parts_lead_to_the_minimum(model):
    """Some of the parts lack a class."""
    x, y = problem(model)
    order = np.argsort(y)
    x, y = x[order], y[order]
    exact = clone(model).set_params(alpha=ALPHA, tol=1e-4, max_iter=200, learning_rate="constant").fit(x, y)
    parts = np.random.default_rng(3).permutation([*pairwise(range(0, 301, 30))])
    model = clone(model).set_params(alpha=ALPHA, learning_rate="invscaling", eta0=0.5)
    for _ in range(8):
        for start, stop in parts:
            rows = slice(start, stop)
            model.partial_fit(x[rows], y[rows], **{"classes": exact.classes_} if is_classifier(model) else {})
    assert model.score(x, y) > exact.score(x, y) - 0.1
    assert model.t_ == 80


@BOTH
def test_it_goes_on_alike_on_all_kinds_of_arrays(model, tmp_path):
    x, y = problem(model)
    y = (y == "late") if is_classifier(model) else y
    first = {"classes": [False, True]} if is_classifier(model) else {}
    s = np.random.default_rng(3).uniform(0.5, 2, len(y))

    def steps(rows, targets, weights):
        found = clone(model).partial_fit(rows, targets, sample_weight=weights, **first)
        return parameters(found.partial_fit(rows, targets, sample_weight=weights))

    expected = steps(x, y, s)
    group = zarr.open_group(tmp_path, mode="w")
    for name, a in (("x", x), ("y", y), ("s", s)):
        group.create_array(name, data=a, chunks=a.shape)
    rows = da.from_array(x, chunks=(300, 2))
    for data in (
        (rows, y, s),
        (rows, da.from_array(y, chunks=70), da.from_array(s, chunks=90)),
        (group["x"], group["y"], group["s"]),
        (xr.DataArray(x, dims=("row", "feature")), y, s),
        (pd.DataFrame(x), pd.Series(y), pd.Series(s)),
        (as_source(x, y, s), None, None),
    ):
        assert_allclose(steps(*data), expected, rtol=1e-10)
    drawn = clone(model).partial_fit(*blocks(x, y), **first)
    assert (drawn.t_, drawn.n_iter_) == (10, 1)
    again = clone(model).partial_fit(*blocks(x, y), **first)
    assert_array_equal(parameters(again), parameters(drawn))
    assert again.partial_fit(*blocks(x, y)).t_ == 20


@BOTH
def test_weights_are_repetitions_and_none_is_no_row(model):
    x, y = problem(model)
    s = np.random.default_rng(2).integers(0, 3, len(y))
    repeated = clone(model).fit(np.repeat(x, s, axis=0), np.repeat(y, s))
    assert_allclose(parameters(clone(model).fit(x, y, sample_weight=s)), parameters(repeated), rtol=1e-7, atol=1e-9)


@BOTH
def test_a_warm_start_begins_where_the_last_fit_ended(model):
    x, y = problem(model)
    warm = clone(model).set_params(warm_start=True, tol=1e-5, max_iter=200).fit(x, y)
    coef = warm.coef_
    taken = warm.n_iter_
    assert warm.fit(x, y).n_iter_ < taken / 4
    assert_allclose(warm.coef_, coef, rtol=1e-4)


@BOTH
def test_an_interrupted_fit_goes_on_from_its_store(model, tmp_path):
    rows = blocks(*problem(model))
    model = clone(model).set_params(max_iter=2, store=tmp_path)
    stored = clone(model).fit(*rows)
    events = []
    again = clone(model).set_params(callbacks=(events.append,)).fit(*rows)
    assert events[0].resumed_from == stored.t_
    assert_array_equal(again.coef_, stored.coef_)


def test_classes_are_weighted():
    x, y = problem(SGDClassifier())
    model = SGDClassifier(max_iter=20, tol=None)
    s = np.where(y == "late", 3.0, 1.0)
    expected = parameters(clone(model).fit(x, y, sample_weight=s))
    assert_allclose(parameters(clone(model).set_params(class_weight={"late": 3.0}).fit(x, y)), expected, rtol=1e-10)
    one = clone(model).set_params(class_weight={"late": 3.0}).partial_fit(x, y, classes=["early", "late"])
    assert_allclose(parameters(one), parameters(clone(model).partial_fit(x, y, ["early", "late"], s)), rtol=1e-10)


def test_classes_have_to_be_known_before_parts_come():
    x, y = problem(SGDClassifier())
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        SGDClassifier().partial_fit(x, y)
    model = SGDClassifier().partial_fit(x[y == "late"], y[y == "late"], classes=["early", "late", "never"])
    assert model.coef_.shape == (3, 4)
    for targets in (np.where(x[:, 0] > 0, y, "soon"), da.from_array(np.where(x[:, 0] > 0, y, "soon"), chunks=50)):
        with pytest.raises(InvalidArgumentError, match=r"y holds \['soon'\]; the classes are \['early', "):
            model.partial_fit(x, targets)
    with pytest.raises(ValueError, match="not the same as on last call"):
        model.partial_fit(x, y, classes=["early", "late"])
    with pytest.raises(InvalidArgumentError, match="one class"):
        SGDClassifier().partial_fit(x, y, classes=["late"])
    with pytest.raises(InvalidArgumentError, match="balanced"):
        SGDClassifier(class_weight="balanced").partial_fit(x, y, classes=["early", "late"])


def test_features_have_to_stay_in_their_order():
    x, y = problem(SGDRegressor())
    named = xr.DataArray(x, dims=("row", "feature"), coords={"feature": list("abcd")})
    model = SGDRegressor().partial_fit(named, y)
    with pytest.raises(InvalidArgumentError, match="select and order them as before"):
        model.partial_fit(named[:, ::-1], y)
    with pytest.raises(InvalidArgumentError, match="features"):
        model.partial_fit(named[:, :3].drop_vars("feature"), y)
    with pytest.raises(ValueError, match="feature names should match"):
        model.partial_fit(pd.DataFrame(x, columns=list("abdc")), y)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (SGDClassifier(loss="modified_huber"), "choose one of hinge, log_loss, squared_hinge"),
        (SGDRegressor(loss="epsilon_insensitive"), "choose one of huber, squared_error"),
        (SGDRegressor(penalty="l3"), "The 'penalty' parameter of SGDRegressor must be"),
        (SGDRegressor(learning_rate="pa1"), "choose one of adaptive, constant, invscaling, optimal"),
        (SGDRegressor(power_t=0.3, learning_rate="invscaling"), r"power_t=0.3\) is not served"),
        (SGDRegressor(average=True, store="run"), "would not know the passes before"),
        (SGDRegressor(learning_rate="adaptive", store="run"), "would not know the passes before"),
        (SGDRegressor(eta0=0.0), "The 'eta0' parameter"),
        (SGDRegressor(batch=0.0), "The 'batch' parameter"),
        (SGDRegressor(alpha=-1.0), "alpha"),
        (SGDRegressor(penalty="elasticnet", l1_ratio=2.0), "l1_ratio"),
        (SGDRegressor(loss="huber", epsilon=0.0), "epsilon"),
        (SGDRegressor(random_state="a"), "random_state"),
        (SGDRegressor(max_iter=-1), "The 'max_iter' parameter"),
    ],
    ids=repr,
)
def test_parameters_are_checked_in_the_fit(model, message):
    with pytest.raises(InvalidArgumentError, match=message):
        model.fit([[1.0], [2.0]], [0, 1])


def test_in_a_pipeline_and_a_grid_search_with_routed_weights():
    x, y = problem(SGDClassifier())
    s = np.random.default_rng(5).uniform(0, 2, len(y))
    with config_context(enable_metadata_routing=True):
        model = SGDClassifier(max_iter=30, tol=None)
        model.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        steps = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), model)
        search = GridSearchCV(steps, {"sgdclassifier__alpha": [1e-4, 1e3]}, cv=3).fit(x, y, sample_weight=s)
    assert search.best_params_ == {"sgdclassifier__alpha": 1e-4}
    alone = clone(model).fit(StandardScaler().fit_transform(x), y, sample_weight=s)
    assert_allclose(parameters(search.best_estimator_[-1]), parameters(alone), rtol=1e-10)


def named(x, names):
    return xr.DataArray(x, dims=("row", "feature"), coords={"feature": list(names)})


def test_features_are_the_same_in_all_calls_even_where_some_have_no_names():
    x, y = problem(SGDRegressor())
    model = SGDRegressor().partial_fit(named(x, "abcd"), y).partial_fit(da.from_array(x), y)
    assert model.feature_names_in_.tolist() == list("abcd")
    with pytest.raises(InvalidArgumentError, match="goes on from a fit whose features are named"):
        model.partial_fit(named(x, "dcba"), y)
    again = SGDRegressor(warm_start=True).fit(named(x, "abcd"), y)
    with pytest.raises(InvalidArgumentError, match="goes on from a fit whose features are named"):
        again.fit(named(x, "dcba"), y)


@pytest.mark.parametrize("missing", ["y", "weight"])
def test_chunks_of_labels_or_weights_that_are_missing_are_refused(missing):
    x, y = problem(SGDClassifier())
    arrays = {
        "y": zarr.create_array(store={}, shape=(300,), chunks=(50,), dtype="i8"),
        "weight": zarr.create_array(store={}, shape=(300,), chunks=(50,), dtype="f8"),
    }
    for name, a in arrays.items():
        a[:] = np.where(y == y[0], -1, 1) if name == "y" else 1.0
    del arrays[missing].store_path.store._store_dict["c/2"]
    with pytest.raises(MissingChunkError, match=missing):
        SGDClassifier(class_weight="balanced").fit(x, arrays["y"], sample_weight=arrays["weight"])


def test_a_class_without_weight_cannot_be_balanced():
    x, y = problem(SGDClassifier())
    with pytest.raises(InvalidArgumentError, match=r"the rows of \['late'\] have no weight"):
        SGDClassifier(class_weight="balanced").fit(x, y, sample_weight=(y != "late").astype(float))


@pytest.mark.parametrize("labels", [[0.0, 1.0, 2.0], [10.0, 20.0, 30.0], ["a", "b", "c"], [False, True, True]])
def test_labels_of_any_kind_are_classes(labels):
    x = np.random.default_rng(0).normal(size=(300, 2))
    y = np.array(labels)[np.argmax(np.c_[x, np.zeros(300)], axis=1)]
    model = SGDClassifier(max_iter=20, tol=None).fit(x, y)
    assert set(model.classes_) == set(labels)
    assert model.score(x, y) > 0.8
