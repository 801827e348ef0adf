"""Offsets are added to the predictions of estimators of counts, amounts and classes."""

import dask.array as da
import numpy as np
import pytest
import statsmodels.api as sm
import xarray as xr
import zarr
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.metrics import d2_tweedie_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import dask_gd
from dask_gd.errors import InvalidArgumentError
from dask_gd.estimators import GammaRegressor, LogisticRegression, PoissonRegressor, Ridge, TweedieRegressor
from dask_gd.sources import as_source

MODELS = [PoissonRegressor(alpha=0.1), GammaRegressor(alpha=0.1), TweedieRegressor(power=1.5, alpha=0.1)]
every_model = pytest.mark.parametrize("model", [*MODELS, TweedieRegressor(alpha=0.1)], ids=repr)


def problem(n=300, p=4):
    """Counts that grow with an exposure from 1 to 20; those of 0 have an amount added, for losses that take none."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, p))
    offset = rng.uniform(0, 3, size=n)
    return x, np.maximum(rng.poisson(np.exp(x @ np.linspace(-0.5, 0.5, p) + offset)), 0.5), offset


def parameters(model):
    return np.append(model.coef_, model.intercept_)


@every_model
def test_a_fit_is_that_of_the_library(model):
    x, y, offset = problem()
    s = np.random.default_rng(1).uniform(0.5, 2, len(y))
    model = clone(model).fit(x, y, sample_weight=s, offset=offset)
    loss, penalty = model._loss(), dask_gd.L2(0.1)
    run = dask_gd.fit(x, y, loss=loss, penalty=penalty, sample_weight=s, offset=offset, tol=1e-8)
    assert_allclose(parameters(model), run.parameters[:, 0], rtol=1e-10)
    assert_allclose(model.predict(x, offset=offset), run.predict(x, offset=offset), rtol=1e-10)
    assert_allclose(model.predict(x), run.predict(x), rtol=1e-10)
    assert np.abs(parameters(model) - parameters(clone(model).fit(x, y, s))).max() > 0.01


@pytest.mark.parametrize(
    ("model", "family"),
    [
        (PoissonRegressor(alpha=0), sm.families.Poisson()),
        (GammaRegressor(alpha=0), sm.families.Gamma(sm.families.links.Log())),
    ],
    ids=["poisson", "gamma"],
)
def test_coefficients_are_statsmodels(model, family):
    x, y, offset = problem()
    peer = sm.GLM(y, sm.add_constant(x), family, offset=offset).fit(tol=1e-12)
    model = clone(model).fit(x, y, offset=offset)
    assert_allclose(np.append(model.intercept_, model.coef_), peer.params, rtol=1e-6)
    assert_allclose(model.predict(x, offset), peer.predict(sm.add_constant(x), offset=offset), rtol=1e-6)


@every_model
def test_chunks_and_kinds_of_arrays_do_not_matter(model, tmp_path):
    x, y, offset = problem()
    expected = clone(model).fit(x, y, offset=offset)
    prediction, score = expected.predict(x, offset), expected.score(x, y, offset=offset)
    group = zarr.open_group(tmp_path, mode="w")
    for name, a in (("x", x), ("y", y), ("o", offset)):
        group.create_array(name, data=a, chunks=(70, *a.shape[1:]), config={"write_empty_chunks": True})
    blocks, named = da.from_array(x, chunks=(47, 2)), xr.DataArray(x, dims=("row", "feature"))
    for rows, added in (
        (blocks, offset),
        (blocks, offset.tolist()),
        (blocks, da.from_array(offset, chunks=90)),
        (x, da.from_array(offset, chunks=90)),
        (group["x"], group["o"]),
        (named, offset),
        (x.tolist(), offset.tolist()),
    ):
        found = clone(model).fit(rows, y, offset=added)
        assert_allclose(parameters(found), parameters(expected), rtol=1e-6)
        assert_allclose(np.asarray(found.predict(rows, offset=added)), prediction, rtol=1e-6)
        assert found.score(rows, y, offset=added) == pytest.approx(score)
    source = dask_gd.open(group, x="x", y="y", offset="o")
    found = clone(model).fit(source)
    assert_allclose(parameters(found), parameters(expected), rtol=1e-6)
    assert_allclose(found.predict(source).compute(), prediction, rtol=1e-6)
    assert found.score(source) == pytest.approx(score)
    beside = clone(model).fit(dask_gd.open(group, x="x", y="y"), offset=offset)
    assert_allclose(parameters(beside), parameters(expected), rtol=1e-6)


def test_classes_have_one_too():
    x, _, offset = problem()
    offset = offset - 1.5
    y = x @ np.linspace(-1, 1, 4) + offset + np.random.default_rng(2).logistic(size=len(x)) > 0
    model = LogisticRegression(C=np.inf).fit(x, y, offset=offset)
    peer = sm.GLM(y.astype(float), sm.add_constant(x), sm.families.Binomial(), offset=offset).fit(tol=1e-12)
    assert_allclose(np.append(model.intercept_, model.coef_), peer.params, rtol=1e-6)
    mean = peer.predict(sm.add_constant(x), offset=offset)
    rows = da.from_array(x, chunks=(47, 2))
    named = xr.DataArray(x, dims=("row", "feature"))
    lazy = LogisticRegression(C=np.inf).fit(rows, y, offset=da.from_array(offset, chunks=90))
    assert_allclose(lazy.coef_, model.coef_, rtol=1e-6)
    for data, added in ((x, offset), (rows, offset), (named, offset), (x, da.from_array(offset, chunks=90))):
        assert_allclose(np.asarray(model.predict_proba(data, offset=added))[:, 1], mean, rtol=1e-5)
        assert_allclose(np.asarray(model.predict_log_proba(data, added))[:, 1], np.log(mean), rtol=1e-5, atol=1e-9)
        assert_array_equal(np.asarray(model.predict(data, added)), mean > 0.5)
        assert model.score(data, y, offset=added) == np.mean((mean > 0.5) == y)
    with pytest.warns(UserWarning, match="score was given no offset"):
        assert model.score(x, y) < np.mean((mean > 0.5) == y)
    with pytest.raises(InvalidArgumentError, match="moves all 3 classes alike"):
        LogisticRegression().fit(x, np.arange(len(x)) % 3, offset=offset)


def test_the_score_is_of_predictions_with_the_offset():
    x, y, offset = problem()
    model = PoissonRegressor().fit(x, y, offset=offset)
    expected = d2_tweedie_score(y, model.predict(x, offset), power=1)
    assert model.score(x, y, offset=offset) == pytest.approx(expected)
    with pytest.warns(UserWarning, match="score was given no offset"):
        assert expected > model.score(x, y) + 0.1


def test_rows_without_an_offset_do_not_count_in_the_penalty():
    x, y, offset = problem()
    offset[::3] = np.nan
    kept = np.isfinite(offset)
    dropped = Ridge(alpha=30.0).fit(as_source(x, y, offset=offset, nan="drop"))
    expected = Ridge(alpha=30.0).fit(x[kept], y[kept] - offset[kept])
    assert_allclose(parameters(dropped), parameters(expected), rtol=1e-6)


def test_it_is_routed_through_pipelines_and_searches():
    x, y, offset = problem()
    with config_context(enable_metadata_routing=True):
        model = PoissonRegressor().set_fit_request(offset=True, sample_weight=True)
        model.set_predict_request(offset=True).set_score_request(offset=True, sample_weight=True)
        steps = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), model)
        s = np.random.default_rng(5).uniform(0.5, 2, len(y))
        pipeline = clone(steps).fit(x, y, sample_weight=s, offset=offset)
        search = GridSearchCV(clone(steps), {"poissonregressor__alpha": [0.01, 10.0]}, cv=3)
        search.fit(x, y, sample_weight=s, offset=offset)
        scaled = StandardScaler().fit_transform(x)
        alone = PoissonRegressor().fit(scaled, y, sample_weight=s, offset=offset)
        assert_allclose(parameters(pipeline[-1]), parameters(alone), rtol=1e-6)
        assert_allclose(pipeline.predict(x, offset=offset), alone.predict(scaled, offset), rtol=1e-6)
    assert search.best_params_ == {"poissonregressor__alpha": 0.01}
    assert search.best_score_ > 0.5


@pytest.mark.parametrize("offset", [np.zeros(299), np.zeros((300, 2))], ids=["short", "a matrix"])
@pytest.mark.parametrize("lazy", [False, True])
def test_what_is_no_column_is_refused(offset, lazy):
    x, y, _ = problem()
    rows = da.from_array(x, chunks=(50, 4)) if lazy else x
    with pytest.raises(InvalidArgumentError, match="offset"):
        PoissonRegressor().fit(rows, y, offset=offset)


def test_what_is_no_number_is_refused():
    x, y, offset = problem()
    offset[7] = np.nan
    with pytest.raises(ValueError, match="offset contains NaN"):
        PoissonRegressor().fit(x, y, offset=offset)
    with pytest.raises(dask_gd.errors.NonFiniteError, match="'offset'"):
        PoissonRegressor().fit(da.from_array(x), y, offset=offset)
