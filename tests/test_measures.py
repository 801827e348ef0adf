"""Measures of a fit on held-out rows are those of scikit-learn, from one pass, whatever the chunks."""

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from sklearn import metrics
from sklearn.calibration import calibration_curve

import dask_gd
from dask_gd.errors import DataError, InvalidArgumentError, InvalidTypeError
from dask_gd.fitting import score_order

N = 500
RNG = np.random.default_rng(5)
X = RNG.normal(size=(N, 3))
Z = X @ [0.5, -1.0, 0.2] + 0.3
WEIGHT = RNG.uniform(0.5, 2, N)
WEIGHT[:5] = 0.0
CLASS = (Z + RNG.logistic(size=N) > 0).astype(float)
COUNT = RNG.poisson(np.exp(Z)).astype(float)
AMOUNT = RNG.gamma(2, np.exp(Z) / 2)
NUMBER = Z + RNG.normal(size=N)
CLOSE = {"rtol": 1e-10, "atol": 1e-12}


def lazy(*arrays, rows=70):
    """Return arrays in chunks of some rows."""
    return [da.from_array(a, chunks=(rows, *a.shape[1:])) for a in arrays]


@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("far", [0.0, 1e7])
def test_of_numbers(weight, far):
    y = NUMBER + far
    run = dask_gd.fit(X, y)
    found = dask_gd.measure(run, X, y, weight)
    predicted = run.predict(X)
    options = {"sample_weight": weight}
    # Rounding of targets far from 0 is 1e-9 of their errors.
    close = {"rtol": 1e-10 if far == 0 else 1e-7}
    assert_allclose(found["r2"], metrics.r2_score(y, predicted, **options), **close)
    assert_allclose(found["d2"], found["r2"])
    assert_allclose(found["rmse"], metrics.root_mean_squared_error(y, predicted, **options), **close)
    assert_allclose(found["mae"], metrics.mean_absolute_error(y, predicted, **options), **close)
    assert_allclose(found["bias"], np.average(predicted - y, weights=weight), atol=1e-8)
    assert_allclose(found["mean_loss"], metrics.mean_squared_error(y, predicted, **options) / 2, **close)


@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize(("loss", "power", "y"), [("poisson", 1, COUNT), ("gamma", 2, AMOUNT), ("tweedie", 1.5, COUNT)])
def test_of_amounts(loss, power, y, weight):
    run = dask_gd.fit(X, y, loss=loss)
    found = dask_gd.measure(run, X, y, weight)
    predicted = run.predict(X)
    options = {"sample_weight": weight}
    assert_allclose(found["d2"], metrics.d2_tweedie_score(y, predicted, power=power, **options), **CLOSE)
    deviance = metrics.mean_tweedie_deviance(y, predicted, power=power, **options)
    assert_allclose(found["deviance"] / found.n, deviance, **CLOSE)
    assert_allclose(found["r2"], metrics.r2_score(y, predicted, **options), **CLOSE)


@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_of_two_classes(weight):
    run = dask_gd.fit(X, CLASS, loss="logistic")
    found = dask_gd.measure(run, X, CLASS, weight, bins=7)
    p = run.predict(X)
    options = {"sample_weight": weight}
    assert_allclose(found["log_loss"], metrics.log_loss(CLASS, p, **options), **CLOSE)
    assert_allclose(found["brier"], metrics.brier_score_loss(CLASS, p, **options), **CLOSE)
    assert_allclose(found["d2"], metrics.d2_log_loss_score(CLASS, p, **options), **CLOSE)
    assert_allclose(found["accuracy"], metrics.accuracy_score(CLASS, p > 0.5, **options), **CLOSE)
    assert_allclose(found["roc_auc"], metrics.roc_auc_score(CLASS, p, **options), **CLOSE)
    assert_allclose(found["average_precision"], metrics.average_precision_score(CLASS, p, **options), **CLOSE)
    assert found.errors == {"roc_auc": 0.0, "average_precision": 0.0}
    table = found.calibration
    assert table.rows.sum() == N
    if weight is None:
        observed, predicted = calibration_curve(CLASS, p, n_bins=7)
        assert_allclose(table.observed.dropna("bin"), observed, **CLOSE)
        assert_allclose(table.mean_predicted.dropna("bin"), predicted, **CLOSE)
    assert "area under the ROC curve" in str(found)


def test_of_several_classes():
    y = np.digitize(Z + RNG.logistic(size=N), [-1, 1]).astype(float)
    run = dask_gd.fit(X, y, loss="softmax")
    found = dask_gd.measure(run, X, y, WEIGHT)
    p = run.predict(X)
    assert_allclose(found["log_loss"], metrics.log_loss(y, p, sample_weight=WEIGHT), **CLOSE)
    assert_allclose(found["d2"], metrics.d2_log_loss_score(y, p, sample_weight=WEIGHT), **CLOSE)
    assert_allclose(found["accuracy"], metrics.accuracy_score(y, p.argmax(axis=1), sample_weight=WEIGHT), **CLOSE)


def test_losses_that_are_no_likelihood_have_fewer():
    for loss, y, names in (
        ("hinge", CLASS, {"mean_loss", "accuracy", "roc_auc", "average_precision"}),
        ("huber", NUMBER, {"mean_loss", "r2", "rmse", "mae", "bias"}),
    ):
        run = dask_gd.fit(X, y, loss=loss, penalty=dask_gd.L2(0.1))
        assert set(dask_gd.measure(run, X, y)) == names


def test_any_chunks_give_the_same():
    run = dask_gd.fit(X, CLASS, loss="logistic")
    whole = dask_gd.measure(run, X, CLASS, WEIGHT)
    for rows in (33, 200):
        parts = dask_gd.measure(run, *lazy(X, CLASS, WEIGHT, rows=rows))
        for name in whole:
            assert_allclose(parts[name], whole[name], rtol=1e-13)
        assert_allclose(parts.calibration.weight, whole.calibration.weight, rtol=1e-13)
        assert parts.rows == N


def test_joined_predictions_have_a_bound(monkeypatch):
    monkeypatch.setattr(score_order, "MOST", 20)
    run = dask_gd.fit(X, CLASS, loss="logistic")
    found = dask_gd.measure(run, X, CLASS)
    exact = metrics.roc_auc_score(CLASS, run.predict(X))
    assert 0 < abs(found["roc_auc"] - exact) <= found.errors["roc_auc"] < 0.1
    assert "within" in str(found)


def test_each_output_has_its_own():
    y = np.stack([NUMBER, -2 * NUMBER + X[:, 0]], axis=1)
    run = dask_gd.fit(X, y)
    found = dask_gd.measure(run, X, y)
    assert found["r2"].dims == ("output",)
    assert_allclose(found["r2"], metrics.r2_score(y, run.predict(X), multioutput="raw_values"), **CLOSE)
    both = np.stack([CLASS, 1 - CLASS], axis=1)
    run = dask_gd.fit(X, both, loss="logistic")
    areas = dask_gd.measure(run, X, both)
    assert_allclose(areas["roc_auc"], areas["roc_auc"][0])
    assert areas.calibration.observed.dims == ("bin", "output")


def test_frames_and_formulas_are_measured_by_their_columns():
    frame = pd.DataFrame(X, columns=list("abc")).assign(y=COUNT, group=RNG.choice(list("uvw"), N), size=WEIGHT + 1)
    held_out = dd.from_pandas(frame.iloc[300:], npartitions=3)
    named = {"features": ["a", "b", "group"], "target": "y", "sample_weight": "size", "loss": "poisson"}
    by_name = dask_gd.fit(frame.iloc[:300], **named)
    by_formula = dask_gd.fit("y ~ a + b + group", frame.iloc[:300], family="poisson", sample_weight="size")
    offset = dask_gd.fit("y ~ a + b + group + offset(0 * a)", frame.iloc[:300], family="poisson", sample_weight="size")
    expected = metrics.d2_tweedie_score(
        frame.y[300:], by_formula.predict(frame[300:]), power=1, sample_weight=frame["size"][300:]
    )
    for run in (by_name, by_formula, offset):
        assert_allclose(dask_gd.measure(run, held_out)["d2"], expected, rtol=1e-6)


def test_rows_that_cannot_be_measured_are_refused():
    run = dask_gd.fit(X, CLASS, loss="logistic")
    bad = X.copy()
    bad[7, 1] = np.nan
    with pytest.raises(DataError, match="row 7"):
        dask_gd.measure(run, bad, CLASS)
    assert dask_gd.measure(run, bad, CLASS, nan="drop").rows == N - 1
    with pytest.raises(DataError, match="takes targets"):
        dask_gd.measure(run, X, CLASS + 1)
    with pytest.raises(InvalidArgumentError, match="measure: the fit had 3 features"):
        dask_gd.measure(run, X[:, :2], CLASS)
    with pytest.raises(InvalidArgumentError, match="sum to 0"):
        dask_gd.measure(run, X, CLASS, np.zeros(N))
    with pytest.raises(InvalidArgumentError, match="bins"):
        dask_gd.measure(run, X, CLASS, bins=0)
    with pytest.raises(InvalidTypeError, match="FitResult"):
        dask_gd.measure(X, X, CLASS)
    with pytest.raises(InvalidArgumentError, match="there are mean_loss"):
        dask_gd.measure(run, X, CLASS)["r2"]


def test_a_summary_says_what_was_fitted_and_how_it_ended():
    frame = pd.DataFrame(X, columns=list("abc")).assign(y=CLASS, late=np.where(CLASS == 1, "yes", "no"))
    run = dask_gd.fit("late ~ a + b", frame, family="binomial")
    text = str(run.summary())
    assert text.startswith("Logistic() loss, no penalty, late ~ a + b\n500 rows, 3 parameters, 497 degrees of freedom")
    assert f"converged after {run.n_iter} step" in text
    assert "1 is 'yes', 0 is 'no'" in text
    assert text.splitlines()[-1].startswith("(intercept)")
    wide = dask_gd.fit(np.eye(100), np.arange(100.0), penalty=dask_gd.L2(1.0)).summary()
    assert "... and 40 more" in repr(wide)
    two = dask_gd.fit(X, np.stack([NUMBER, CLASS], axis=1), fit_intercept=False)
    assert "(intercept)" not in str(two.summary())
