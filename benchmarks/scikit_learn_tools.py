"""Try scikit-learn's tools around these estimators, on each kind of input, beside scikit-learn's own estimators.

    python benchmarks/scikit_learn_tools.py [names of tools] [names of estimators] [--all]

Each tool is used around an estimator on rows of each kind, and around scikit-learn's estimator of the same name on the
same rows in NumPy. A cell of the table says for how many estimators the outcome is the same ("ok", and "ok, loads"
where scikit-learn made an array in memory of lazy rows), another, or an error; the errors are listed below the table.
"""

from __future__ import annotations

import sys
import warnings
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
from dask import config
from sklearn import (
    base,
    calibration,
    ensemble,
    feature_selection,
    inspection,
    linear_model,
    model_selection,
    multiclass,
    multioutput,
    pipeline,
    preprocessing,
    svm,
)
from sklearn.experimental import enable_halving_search_cv  # noqa: F401

from dask_gd import estimators

NAMES = ["a", "b", "c", "d"]
ROWS = 90

#: Parameters of each estimator, of both kinds alike, and those of scikit-learn's that solve to the last digits.
#: Estimators that choose their penalty are left out: their folds are others than scikit-learn's.
MODELS: dict[str, tuple[dict, dict]] = {
    "LinearRegression": ({}, {}),
    "Ridge": ({"alpha": 2.0}, {}),
    "Lasso": ({"alpha": 0.05}, {"tol": 1e-12, "max_iter": 100_000}),
    "ElasticNet": ({"alpha": 0.05}, {"tol": 1e-12, "max_iter": 100_000}),
    "HuberRegressor": ({"alpha": 0.1}, {"tol": 1e-10, "max_iter": 10_000}),
    "QuantileRegressor": ({"alpha": 0.01}, {}),
    "PoissonRegressor": ({"alpha": 0.1}, {"tol": 1e-10, "max_iter": 10_000}),
    "GammaRegressor": ({"alpha": 0.1}, {"tol": 1e-10, "max_iter": 10_000}),
    "TweedieRegressor": ({"alpha": 0.1, "power": 1.5}, {"tol": 1e-10, "max_iter": 10_000}),
    "LogisticRegression": ({"C": 0.5}, {"tol": 1e-10, "max_iter": 10_000}),
    "LinearSVC": ({"C": 0.5, "fit_intercept": False}, {"tol": 1e-10, "max_iter": 100_000}),
    "SGDClassifier": ({"loss": "log_loss", "alpha": 0.1}, {"tol": 1e-9, "max_iter": 10_000}),
}


def pair(name: str) -> tuple[Any, Any]:
    """Return the estimator of a name, and scikit-learn's."""
    same, closest = MODELS[name]
    ours = getattr(estimators, name)(**same)
    if name.startswith("SGD"):
        ours.set_params(batch=1.0, max_iter=300, tol=1e-6)
    module = svm if name == "LinearSVC" else linear_model
    return ours, getattr(module, name)(**same, **closest)


def data(model: Any, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return features, and targets that the model takes."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(ROWS, len(NAMES)))
    z = x @ np.array([1.0, -0.5, 0.0, 0.25])
    if base.is_classifier(model):
        return x, np.where(z + 0.5 * rng.logistic(size=ROWS) > 0, "yes", "no")
    if type(model).__name__ in ("PoissonRegressor", "GammaRegressor", "TweedieRegressor"):
        return x, np.exp(0.5 * z) * rng.gamma(2.0, 0.5, size=ROWS) + 0.1
    return x, z + 0.5 * rng.normal(size=ROWS)


def frame(x: np.ndarray) -> pd.DataFrame:
    """Return rows as a data frame."""
    return pd.DataFrame(x, columns=NAMES)


KINDS: dict[str, Callable] = {
    "NumPy": lambda x, y: (x, y),
    "pandas": lambda x, y: (frame(x), pd.Series(y)),
    "Dask": lambda x, y: (da.from_array(x, chunks=(40, 4)), da.from_array(y, chunks=40)),
    "Dask, y in NumPy": lambda x, y: (da.from_array(x, chunks=(40, 4)), y),
    "Dask frame": lambda x, y: (dd.from_pandas(frame(x), npartitions=2), dd.from_pandas(pd.Series(y), npartitions=2)),
}


# The tools: each returns numbers that tell whether the outcome is the same


def best(model: Any, x: Any, y: Any, search: Callable, **options: Any) -> Any:
    """Return the scores of a search."""
    name = next(name for name in ("alpha", "C") if name in model.get_params())
    found = search(model, {name: [0.01, 1.0, 100.0]}, cv=3, **options).fit(x, y)
    return np.append(found.cv_results_["mean_test_score"], found.predict(x) == found.best_estimator_.predict(x))


def is_classes(model: Any) -> bool:
    """Return whether the model is of classes."""
    return base.is_classifier(model)


TOOLS: dict[str, Callable] = {}


def tool(only: Callable = lambda model: True) -> Callable:
    """Add a tool to the table, for the models of which ``only`` is true."""

    def add(function: Callable) -> Callable:
        TOOLS[function.__name__] = (function, only)
        return function

    return add


@tool()
def pipeline_with_pandas_output(model: Any, x: Any, y: Any) -> Any:
    """Fit behind a scaler that returns frames."""
    steps = pipeline.make_pipeline(preprocessing.StandardScaler(), model).set_output(transform="pandas")
    return np.asarray(steps.fit(x, y)[-1].coef_)


@tool()
def cross_val_score(model: Any, x: Any, y: Any) -> Any:
    """Score on folds."""
    return model_selection.cross_val_score(model, x, y, cv=3, error_score="raise")


@tool()
def cross_val_predict(model: Any, x: Any, y: Any) -> Any:
    """Predict on folds."""
    return model_selection.cross_val_predict(model, x, y, cv=3)


@tool()
def cross_validate_named(model: Any, x: Any, y: Any) -> Any:
    """Score on folds by scikit-learn's scorers."""
    scoring = ["roc_auc", "f1_macro"] if is_classes(model) else ["r2", "neg_mean_absolute_error"]
    found = model_selection.cross_validate(model, x, y, cv=3, scoring=scoring, error_score="raise")
    return np.concatenate([found[f"test_{name}"] for name in scoring])


@tool()
def learning_curve(model: Any, x: Any, y: Any) -> Any:
    """Score by the number of rows."""
    return model_selection.learning_curve(model, x, y, cv=3, train_sizes=[0.5, 1.0], error_score="raise")[2]


def has_strength(model: Any) -> bool:
    """Return whether there is a penalty to search for."""
    return bool({"alpha", "C"} & set(model.get_params()))


@tool(has_strength)
def GridSearchCV(model: Any, x: Any, y: Any) -> Any:
    """Search a grid."""
    return best(model, x, y, model_selection.GridSearchCV, error_score="raise")


@tool(has_strength)
def HalvingGridSearchCV(model: Any, x: Any, y: Any) -> Any:
    """Search a grid on more and more rows."""
    return best(
        model,
        x,
        y,
        model_selection.HalvingGridSearchCV,
        factor=2,
        min_resources=40,
        random_state=0,
        error_score="raise",
    )


@tool()
def permutation_importance(model: Any, x: Any, y: Any) -> Any:
    """Score with permuted columns."""
    fitted = base.clone(model).fit(x, y)
    return inspection.permutation_importance(fitted, x, y, n_repeats=2, random_state=0).importances


@tool()
def SelectFromModel(model: Any, x: Any, y: Any) -> Any:
    """Select features by coefficients."""
    selector = feature_selection.SelectFromModel(model, threshold="median").fit(x, y)
    return np.append(selector.get_support(), np.asarray(selector.transform(x)).ravel())


@tool()
def RFE(model: Any, x: Any, y: Any) -> Any:
    """Leave out features one by one."""
    selector = feature_selection.RFE(model, n_features_to_select=2).fit(x, y)
    return np.append(selector.ranking_, np.asarray(selector.predict(x)) == np.asarray(selector.predict(x)))


@tool()
def RFECV(model: Any, x: Any, y: Any) -> Any:
    """Leave out features one by one, by folds."""
    selector = feature_selection.RFECV(model, cv=3).fit(x, y)
    return np.append(selector.ranking_, selector.cv_results_["mean_test_score"])


@tool()
def SequentialFeatureSelector(model: Any, x: Any, y: Any) -> Any:
    """Add features one by one."""
    return feature_selection.SequentialFeatureSelector(model, n_features_to_select=2, cv=3).fit(x, y).get_support()


@tool(is_classes)
def CalibratedClassifierCV(model: Any, x: Any, y: Any) -> Any:
    """Calibrate probabilities."""
    return calibration.CalibratedClassifierCV(model, cv=3).fit(x, y).predict_proba(x)


@tool(is_classes)
def CalibratedClassifierCV_without_ensemble(model: Any, x: Any, y: Any) -> Any:
    """Calibrate probabilities of predictions on folds."""
    return calibration.CalibratedClassifierCV(model, cv=3, ensemble=False).fit(x, y).predict_proba(x)


@tool(is_classes)
def FixedThresholdClassifier(model: Any, x: Any, y: Any) -> Any:
    """Predict by another threshold."""
    fitted = model_selection.FixedThresholdClassifier(model, threshold=0.3, pos_label="yes").fit(x, y)
    return fitted.predict(x) == "yes"


@tool(is_classes)
def TunedThresholdClassifierCV(model: Any, x: Any, y: Any) -> Any:
    """Predict by the best threshold."""
    return model_selection.TunedThresholdClassifierCV(model, cv=3).fit(x, y).best_threshold_


def three(x: Any, y: Any) -> Any:
    """Return labels of three classes, of the kind of y."""
    if isinstance(x, da.Array | np.ndarray):
        third = x[:, 1] > 0.5
        where = da.where if isinstance(y, da.Array) else np.where
        if not isinstance(y, da.Array):
            third = np.asarray(third)
        return where(third, "third", y)
    return y.mask(x["b"] > 0.5, "third")


@tool(is_classes)
def OneVsRestClassifier(model: Any, x: Any, y: Any) -> Any:
    """Separate three classes, each from the rest."""
    return multiclass.OneVsRestClassifier(model).fit(x, three(x, y)).decision_function(x)


@tool(is_classes)
def OneVsOneClassifier(model: Any, x: Any, y: Any) -> Any:
    """Separate three classes, each from each."""
    return multiclass.OneVsOneClassifier(model).fit(x, three(x, y)).decision_function(x)


@tool(is_classes)
def StackingClassifier(model: Any, x: Any, y: Any) -> Any:
    """Stack, with a last model of the same kind."""
    stack = ensemble.StackingClassifier(
        [("m", model), ("n", base.clone(model))], final_estimator=base.clone(model), cv=3
    )
    return stack.fit(x, y).decision_function(x)


@tool(is_classes)
def VotingClassifier(model: Any, x: Any, y: Any) -> Any:
    """Vote."""
    return ensemble.VotingClassifier([("m", model), ("n", base.clone(model))]).fit(x, y).predict(x) == "yes"


@tool(lambda model: not is_classes(model))
def StackingRegressor(model: Any, x: Any, y: Any) -> Any:
    """Stack, with a last model of the same kind."""
    stack = ensemble.StackingRegressor([("m", model)], final_estimator=linear_model.Ridge(), cv=3)
    return stack.fit(x, y).predict(x)


@tool(lambda model: not is_classes(model))
def VotingRegressor(model: Any, x: Any, y: Any) -> Any:
    """Take the mean."""
    return ensemble.VotingRegressor([("m", model), ("n", base.clone(model))]).fit(x, y).predict(x)


@tool()
def Bagging(model: Any, x: Any, y: Any) -> Any:
    """Fit to samples of rows."""
    kind = ensemble.BaggingClassifier if is_classes(model) else ensemble.BaggingRegressor
    fitted = kind(model, n_estimators=3, random_state=0).fit(x, y)
    return fitted.predict_proba(x) if is_classes(model) else fitted.predict(x)


@tool(lambda model: not is_classes(model))
def TransformedTargetRegressor(model: Any, x: Any, y: Any) -> Any:
    """Fit to the targets' roots."""
    from sklearn.compose import TransformedTargetRegressor

    return TransformedTargetRegressor(model, func=np.sqrt, inverse_func=np.square).fit(x, abs(y)).predict(x)


@tool(lambda model: not is_classes(model))
def MultiOutputRegressor(model: Any, x: Any, y: Any) -> Any:
    """Fit to two targets."""
    if isinstance(y, dd.Series):
        both = dd.concat([y, 2 * y], axis=1)
    elif isinstance(y, pd.Series):
        both = pd.concat([y, 2 * y], axis=1)
    else:
        both = (da if isinstance(y, da.Array) else np).stack([y, 2 * y], axis=1)
    return multioutput.MultiOutputRegressor(model).fit(x, both).predict(x)


@tool()
def partial_dependence(model: Any, x: Any, y: Any) -> Any:
    """Average predictions along a column."""
    fitted = base.clone(model).fit(x, y)
    return inspection.partial_dependence(fitted, x, [0], grid_resolution=5)["average"]


# The trials


def outcome(name: str, tool_name: str, kind: str) -> tuple[str, str]:
    """Return in a word what came of a tool, an estimator and a kind of rows, and details."""
    function, _ = TOOLS[tool_name]
    ours, peer = pair(name)
    x, y = data(ours)
    try:
        expected = np.asarray(function(peer, x, y), dtype=float)
    except Exception as error:
        return "refused by both", f"{type(error).__name__}: {error}"
    loaded: list[Any] = []
    whole = da.Array.__array__

    def watched(array: Any, *arguments: Any, **options: Any) -> Any:
        """Note that rows are made an array in memory."""
        if array.ndim == 2 and array.shape[1] == len(NAMES):
            loaded.append(array.shape)
        return whole(array, *arguments, **options)

    whole_frame = dd.DataFrame.__array__

    def watched_frame(frame: Any, *arguments: Any, **options: Any) -> Any:
        """Note that a frame is made an array in memory."""
        loaded.append(frame.columns)
        return whole_frame(frame, *arguments, **options)

    rows, targets = KINDS[kind](x, y)
    da.Array.__array__ = watched
    dd.DataFrame.__array__ = watched_frame
    try:
        with config.set(scheduler="sync"), warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            found = np.asarray(function(ours, rows, targets), dtype=float)
    except Exception as error:
        return "error", f"{type(error).__name__}: {error}"
    finally:
        da.Array.__array__ = whole
        dd.DataFrame.__array__ = whole_frame
    said = {f"{type(w.message).__name__}: {w.message}"[:150] for w in heard}
    if found.shape != expected.shape:
        return "other", f"shape {found.shape}, not {expected.shape}"
    tolerance = 0.02 if name == "QuantileRegressor" else 1e-4
    apart = np.abs(found - expected).max() / max(1.0, np.abs(expected).max())
    if not apart <= tolerance:
        return "other", f"apart by {apart:.1e}"
    word = "ok"
    if loaded:
        word += ", loads"
    if said:
        word += ", warns"
    return word, "; ".join(sorted(said))


def main() -> None:
    """Print the table."""
    wanted = [a for a in sys.argv[1:] if a in TOOLS] or list(TOOLS)
    names = [a for a in sys.argv[1:] if a in MODELS] or ["Ridge", "PoissonRegressor", "LogisticRegression", "LinearSVC"]
    if "--all" in sys.argv:
        names = list(MODELS)
    details: dict[tuple, list[str]] = defaultdict(list)
    print(f"| tool | {' | '.join(KINDS)} |\n|---|{'---|' * len(KINDS)}")
    for tool_name in wanted:
        cells = []
        for kind in KINDS:
            counts: dict[str, int] = defaultdict(int)
            for name in names:
                if not TOOLS[tool_name][1](pair(name)[0]):
                    continue
                word, detail = outcome(name, tool_name, kind)
                counts[word] += 1
                if detail:
                    details[tool_name, word, detail[:400]].append(f"{name} on {kind}")
            cells.append(", ".join(f"{count} {word}" for word, count in counts.items()))
        print(f"| {tool_name} | {' | '.join(cells)} |", flush=True)
    for (tool_name, word, detail), where in details.items():
        print(f"\n{tool_name}, {word}: {detail}\n    {', '.join(where)}")


if __name__ == "__main__":
    main()
