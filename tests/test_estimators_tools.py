"""scikit-learn's tools give around our estimators what they give around its own, or say what to do instead."""

import io
import pickle

import cloudpickle
import dask
import dask.array as da
import dask.dataframe as dd
import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context, linear_model
from sklearn.base import clone, is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import StackingClassifier, VotingRegressor
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_selection import RFE, SelectFromModel
from sklearn.inspection import permutation_importance
from sklearn.model_selection import HalvingGridSearchCV, cross_val_predict, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils.fixes import parse_version

from dask_gd import estimators, preprocessing
from dask_gd.errors import InvalidTypeError
from dask_gd.estimators import HuberRegressor, LogisticRegression, PoissonRegressor, Ridge, RidgeCV

NAMES = ["a", "b", "c", "d"]
PAIRS = {
    "Ridge": (Ridge(alpha=2.0), linear_model.Ridge(alpha=2.0)),
    "LogisticRegression": (
        LogisticRegression(C=0.5, tol=1e-10),
        linear_model.LogisticRegression(C=0.5, tol=1e-10, max_iter=10_000),
    ),
    "PoissonRegressor": (
        PoissonRegressor(alpha=0.1, tol=1e-10),
        linear_model.PoissonRegressor(alpha=0.1, tol=1e-10, max_iter=10_000),
    ),
}
KINDS = {
    "NumPy": lambda x, y: (x, y),
    "pandas": lambda x, y: (pd.DataFrame(x, columns=NAMES), pd.Series(y)),
    "Dask": lambda x, y: (da.from_array(x, chunks=(25, 4)), da.from_array(y, chunks=25)),
    "Dask, y in NumPy": lambda x, y: (da.from_array(x, chunks=(25, 4)), y),
}


@pytest.fixture(autouse=True)
def _in_this_thread():
    """Rows as few as these are not worth threads."""
    with dask.config.set(scheduler="sync"):
        yield


def problem(model, n=60):
    """Features, and targets that the model takes."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 4))
    z = x @ np.array([1.0, -0.5, 0.0, 0.25])
    if is_classifier(model):
        return x, np.where(z + 0.5 * rng.logistic(size=n) > 0, "yes", "no")
    if isinstance(model, PoissonRegressor | linear_model.PoissonRegressor):
        return x, rng.poisson(np.exp(z)).astype(float)
    return x, z + 0.5 * rng.normal(size=n)


def third(x, y):
    """The labels with a third class, in the kind of y."""
    is_third = x["b"] > 0.5 if isinstance(x, pd.DataFrame) else x[:, 1] > 0.5
    if isinstance(y, pd.Series):
        return y.mask(is_third, "third")
    if isinstance(y, np.ndarray):
        return np.where(np.asarray(is_third), "third", y)
    return da.where(is_third, "third", y)


# Each tool gives numbers in which a difference would be seen. ``with_weight`` has sample_weight, or nothing.


def halving(model, x, y, **with_weight):
    name = "C" if "C" in model.get_params() else "alpha"
    grid = {name: [0.01, 100.0]}
    found = HalvingGridSearchCV(
        model,
        grid,
        cv=2,
        factor=2,
        min_resources=30,
        random_state=0,
        error_score="raise",
    ).fit(x, y, **with_weight)
    return found.cv_results_["mean_test_score"]


def importance(model, x, y, **with_weight):
    fitted = clone(model).fit(x, y, **with_weight)
    return permutation_importance(fitted, x, y, n_repeats=2, random_state=0).importances


def scores(model, x, y, **with_weight):
    return cross_val_score(model, x, y, cv=3, params=with_weight, error_score="raise")


def selected(model, x, y, **with_weight):
    selector = SelectFromModel(model, threshold="median").fit(x, y, **with_weight)
    return np.append(selector.get_support(), selector.estimator_.coef_)


def eliminated(model, x, y, **with_weight):
    selector = RFE(model, n_features_to_select=2).fit(x, y, **with_weight)
    return np.append(selector.ranking_, selector.estimator_.coef_)


def calibrated(model, x, y, **with_weight):
    return CalibratedClassifierCV(model, cv=2).fit(x, y, **with_weight).predict_proba(x)


def one_vs_rest(model, x, y, **with_weight):
    return OneVsRestClassifier(model).fit(x, third(x, y), **with_weight).decision_function(x)


def stacked(model, x, y, **with_weight):
    stack = StackingClassifier([("m", model)], final_estimator=clone(model), cv=2)
    return stack.fit(x, y, **with_weight).decision_function(x)


OF_ANY = [scores, selected, eliminated, importance, halving]
OF_CLASSES = [calibrated, one_vs_rest, stacked]
TRIALS = [(tool, name) for tool in OF_ANY for name in ("Ridge", "LogisticRegression")]
TRIALS += [(tool, "LogisticRegression") for tool in OF_CLASSES]
every_trial = pytest.mark.parametrize(("tool", "name"), TRIALS, ids=lambda value: getattr(value, "__name__", value))


@every_trial
def test_tools_give_what_they_give_around_scikit_learns_estimators(tool, name):
    ours, peer = PAIRS[name]
    x, y = problem(ours)
    expected = np.asarray(tool(peer, x, y), dtype=float)
    for kind, of_kind in KINDS.items():
        if tool is calibrated and kind == "Dask":
            continue
        found = np.asarray(tool(ours, *of_kind(x, y)), dtype=float)
        assert_allclose(found, expected, rtol=1e-5, atol=1e-5, err_msg=kind)


@pytest.mark.skipif(parse_version(sklearn.__version__) < parse_version("1.9"), reason="of scikit-learn 1.9")
def test_calibration_takes_labels_in_memory_only_whatever_the_estimator():
    # Its own call of np.unique has an argument that Dask does not take.
    for model in PAIRS["LogisticRegression"]:
        x, y = problem(model)
        with pytest.raises(TypeError, match="equal_nan"):
            calibrated(model, x, da.from_array(y, chunks=25))


@pytest.mark.parametrize(
    ("tool", "name"),
    [
        (scores, "Ridge"),
        (halving, "Ridge"),
        (calibrated, "LogisticRegression"),
        (stacked, "LogisticRegression"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_levels_stay_levels_where_tools_hand_frames_on(tool, name):
    model = PAIRS[name][0]
    x, y = problem(model)
    levels = np.random.default_rng(3).choice(["u", "v", "w"], size=len(y))
    frame = pd.DataFrame(x, columns=NAMES).assign(level=levels)
    wide = np.hstack([x, (levels[:, None] == np.array(["u", "v", "w"])).astype(float)])
    assert_allclose(tool(model, frame, y), tool(model, wide, y), rtol=1e-5, atol=1e-6)


def test_levels_that_a_tool_makes_objects_of_are_refused():
    x, y = problem(Ridge())
    levels = pd.Series(np.tile(["u", "v", "w"], 20)).astype("category")
    frame = pd.DataFrame(x, columns=NAMES).assign(level=levels)
    with pytest.raises(InvalidTypeError, match=r"column 4 .* holds no numbers"):
        RFE(Ridge()).fit(frame, y)


# Metadata


@every_trial
def test_weights_are_routed(tool, name):
    ours, peer = PAIRS[name]
    x, y = problem(ours)
    weight = np.random.default_rng(1).uniform(0.1, 3.0, len(y))
    results = []
    with config_context(enable_metadata_routing=True):
        for model in (ours, peer):
            asking = clone(model).set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
            results.append(np.asarray(tool(asking, x, y, sample_weight=weight), dtype=float))
    assert_allclose(*results, rtol=1e-5, atol=1e-5)
    without = np.asarray(tool(ours, x, y), dtype=float)
    assert np.abs(results[0] - without).max() > 1e-3


def with_offset(model):
    """The model, asking for an offset in each method that takes one."""
    model = clone(model).set_fit_request(offset=True).set_predict_request(offset=True).set_score_request(offset=True)
    if is_classifier(model):
        model.set_decision_function_request(offset=True).set_predict_proba_request(offset=True)
    return model


@pytest.mark.parametrize("kind", ["NumPy", "Dask"])
def test_offsets_and_weights_are_routed_of_lazy_rows_too(kind):
    model = PAIRS["PoissonRegressor"][0]
    x, y = problem(model)
    rng = np.random.default_rng(2)
    offset = rng.normal(size=len(y))
    weight = rng.uniform(0.5, 2.0, len(y))
    expected = []
    for fold in range(3):
        out = np.arange(len(y)) // 20 == fold
        fitted = clone(model).fit(x[~out], y[~out], weight[~out], offset[~out])
        expected.append(fitted.score(x[out], y[out], weight[out], offset[out]))
    rows, targets = KINDS[kind](x, y)
    metadata = {"offset": offset, "sample_weight": weight}
    if kind == "Dask":
        metadata = {name: da.from_array(values, chunks=25) for name, values in metadata.items()}
    with config_context(enable_metadata_routing=True):
        asking = with_offset(model).set_fit_request(offset=True, sample_weight=True)
        asking.set_score_request(offset=True, sample_weight=True)
        found = cross_val_score(asking, rows, targets, cv=3, params=metadata, error_score="raise")
    assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("tool", "name", "method"),
    [
        (lambda m, x, y, **o: VotingRegressor([("m", m)]).fit(x, y, **o).predict(x), "PoissonRegressor", "predict"),
        (lambda m, x, y, **o: cross_val_predict(m, x, y, params=o), "PoissonRegressor", "predict"),
        (
            lambda m, x, y, **o: cross_val_score(m, x, y, scoring="r2", params=o, error_score="raise"),
            "PoissonRegressor",
            "predict",
        ),
        (importance, "PoissonRegressor", "score"),
        (calibrated, "LogisticRegression", "decision_function"),
    ],
    ids=["voting", "cross_val_predict", "a scorer", "permutation_importance", "calibration"],
)
def test_where_a_tool_leaves_the_offset_out_a_warning_says_so(tool, name, method):
    model = PAIRS[name][0]
    x, y = problem(model)
    offset = np.random.default_rng(2).normal(size=len(y))
    match = f"{name}.{method} was given no offset, and the fit had one"
    with config_context(enable_metadata_routing=True), pytest.warns(UserWarning, match=match):
        tool(with_offset(model), x, y, offset=offset)


def test_predictions_without_an_offset_that_are_meant_are_no_fault():
    model = PAIRS["PoissonRegressor"][0]
    x, y = problem(model)
    fitted = clone(model).fit(x, y, offset=np.ones(len(y)))
    rates = fitted.predict(x)
    with config_context(enable_metadata_routing=True):
        fitted.set_predict_request(offset=False)
        assert_array_equal(fitted.predict(x), rates)
        # Nothing is said where the fit had none.
        clone(model).fit(x, y).predict(x)


# set_output


def transformers():
    """Each of the transformers, with a column of levels."""
    return [
        preprocessing.StandardScaler(),
        preprocessing.OneHotEncoder(columns=[3]),
        preprocessing.OrdinalEncoder(columns=[3]),
        preprocessing.TargetEncoder(columns=[3]),
    ]


@pytest.mark.parametrize("transformer", transformers(), ids=lambda t: type(t).__name__)
def test_set_output_names_columns_and_never_loads_lazy_rows(transformer):
    rng = np.random.default_rng(0)
    x = np.hstack([rng.normal(size=(60, 3)), rng.integers(0, 3, size=(60, 1))])
    y = rng.normal(size=60)
    frame = pd.DataFrame(x, columns=NAMES, index=np.arange(60) + 5)
    plain = clone(transformer).fit_transform(x, y)
    named = clone(transformer).set_output(transform="pandas")
    for rows, index in ((x, np.arange(60)), (frame, frame.index)):
        found = clone(named).fit_transform(rows, y)
        assert isinstance(found, pd.DataFrame)
        assert list(found.columns) == list(clone(named).fit(rows, y).get_feature_names_out())
        assert_array_equal(found.index, index)
        assert_allclose(found.to_numpy(dtype=float), plain)
    lazy = da.from_array(x, chunks=(25, 4))
    for rows in (lazy, dd.from_pandas(frame, npartitions=2)):
        if isinstance(rows, da.Array):
            fitted = clone(named).fit(rows, y)
            with pytest.raises(InvalidTypeError, match=r"set to give a frame of pandas.*set_output\(transform='def"):
                fitted.transform(rows)
            with config_context(transform_output="pandas"), pytest.raises(InvalidTypeError, match="would load all"):
                clone(transformer).fit(rows, y).transform(rows)
        else:
            with pytest.raises(InvalidTypeError, match="a lazy DataFrame"):
                clone(named).fit(frame, y).transform(rows)
    assert isinstance(clone(named).set_output(transform="default").fit(x, y).transform(lazy), da.Array)


def test_data_arrays_in_memory_may_become_frames():
    x = np.random.default_rng(0).normal(size=(20, 4))
    named = preprocessing.StandardScaler().set_output(transform="pandas")
    found = named.fit_transform(xr.DataArray(x, dims=("row", "feature"), coords={"feature": NAMES}))
    assert list(found.columns) == NAMES


def test_pipelines_of_frames_give_names_to_the_model():
    x, y = problem(Ridge())
    frame = pd.DataFrame(x, columns=NAMES)
    steps = make_pipeline(preprocessing.StandardScaler(), Ridge()).set_output(transform="pandas").fit(frame, y)
    assert list(steps[-1].feature_names_in_) == NAMES


# Files


def by_joblib(model):
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    return joblib.load(file)


def by_cloudpickle(model):
    return pickle.loads(cloudpickle.dumps(model))


def by_skops(model):
    skops = pytest.importorskip("skops.io")
    content = skops.dumps(model)
    types = skops.get_untrusted_types(data=content)
    # Nothing but our own classes has to be trusted.
    assert types
    assert all(name.startswith("dask_gd.") for name in types)
    return skops.loads(content, trusted=types)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("through", [by_joblib, by_cloudpickle, by_skops])
@pytest.mark.parametrize("name", estimators.__all__)
def test_estimators_pass_through_files(name, through):
    model = getattr(estimators, name)()
    # The paths of searches are short.
    short = {"alphas": [0.1, 1.0], "Cs": [0.1, 1.0], "cv": 2}
    model.set_params(**{key: value for key, value in short.items() if key in model.get_params()})
    x, y = problem(model)
    y = y if is_classifier(model) else np.exp(y)
    levels = pd.Series(np.tile(["u", "v", "w"], 20)).astype("category")
    frame = pd.DataFrame(x, columns=NAMES).assign(level=levels)
    for rows in (x, frame):
        fitted = clone(model).fit(rows, y)
        again = through(fitted)
        assert_array_equal(again.predict(rows), fitted.predict(rows))
        xr.testing.assert_identical(again.history_, fitted.history_)
        xr.testing.assert_identical(again.result_.weights, fitted.result_.weights)
        assert repr(again.result_) == repr(fitted.result_)
        if hasattr(fitted, "search_"):
            xr.testing.assert_identical(again.search_.data, fitted.search_.data)
    assert through(model).get_params() == model.get_params()


def test_results_pickled_with_xarrays_own_classes_are_read():
    x, y = problem(Ridge())
    result = Ridge().fit(x, y).result_
    former = object.__new__(type(result))
    former.__setstate__(dict(vars(result)))
    assert_array_equal(former.predict(x), result.predict(x))


# What the tools brought to light


def test_ridge_is_chosen_by_rows_left_out_of_frames_too():
    x, y = problem(RidgeCV())
    expected = RidgeCV(alphas=[0.1, 1.0, 10.0]).fit(x, y)
    found = RidgeCV(alphas=[0.1, 1.0, 10.0]).fit(pd.DataFrame(x, columns=NAMES), y)
    assert found.alpha_ == expected.alpha_
    assert_array_equal(found.coef_, expected.coef_)


def test_huber_finds_its_scale_of_rows_with_levels():
    x, y = problem(HuberRegressor())
    levels = np.tile(["u", "v", "w"], 20)
    frame = pd.DataFrame(x, columns=NAMES).assign(level=pd.Series(levels).astype("category"))
    found = HuberRegressor(alpha=0.1).fit(frame, y)
    wide = np.hstack([x, (levels[:, None] == np.array(["u", "v", "w"])).astype(float)])
    expected = HuberRegressor(alpha=0.1).fit(wide, y)
    assert found.scale_ == pytest.approx(expected.scale_, rel=1e-6)
    assert_allclose(found.predict(frame), expected.predict(wide), rtol=1e-5)
