"""Robust standard errors: statsmodels' and pyfixest's numbers, whatever the data's form; and what is refused."""

import contextlib
import io
import re
from pathlib import Path

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import statsmodels.api as sm
import xarray as xr
import zarr
from dask.distributed import Client
from helpers import problem_of, to_zarr
from statsmodels_here import FAMILIES, G, H, N, fit, peer, same

import dask_gd
from dask_gd import Gamma, Logistic, Poisson, Squared, Tweedie, passes
from dask_gd.errors import DataError, IndefiniteWarning, InvalidArgumentError, InvalidTypeError
from dask_gd.results import robust
from dask_gd.results.covariance_type import KINDS

every_loss = pytest.mark.parametrize("loss", FAMILIES, ids=repr)
#: Points in time.
T = np.arange(N) // 6

#: statsmodels' arguments of each kind.
EVERY = {
    "HC0": {},
    "HC1": {},
    "HC2": {},
    "HC3": {},
    "cluster": {"groups": G},
    "HAC": {"maxlags": 4},
    "hac-groupsum": {"time": T, "maxlags": 3},
}


def infer(run, x, y, kind, weight=None, **options):
    return dask_gd.infer(run, x, y, weight, cov_type=kind, **{**EVERY[kind], **options})


def grouped_problem(loss, n=N, seed=0):
    """Return features, and targets that depend on each other within both groupings."""
    x, y = problem_of(loss, n=n, seed=seed)
    if loss == Squared():
        rng = np.random.default_rng(seed)
        y = y + rng.normal(size=40)[G] + rng.normal(size=150)[H]
    return x, y


def asked_of_peer(kind, **more):
    arguments = EVERY[kind]
    return {"cov_type": kind, **({"cov_kwds": arguments} if arguments else {}), **more}


def assert_same_numbers(result, model, rtol=1e-8):
    same(result.table.coefficient, model.params, rtol=rtol, atol=1e-9)
    same(result.table.standard_error, model.bse, rtol=rtol)
    same(result.table.p_value, model.pvalues, rtol=1e-6, atol=1e-300)
    bounds = np.stack([result.table.lower, result.table.upper], axis=1)
    same(bounds, model.conf_int(0.05), rtol=1e-6, atol=1e-8)
    same(result.covariance, model.cov_params(), rtol=rtol, atol=rtol * abs(model.cov_params()).max())


def kinds_of_peer(loss):
    """Return the kinds that statsmodels has for a loss: of generalised linear models HC2 and HC3 are its HC0."""
    return [kind for kind in EVERY if loss == Squared() or kind not in ("HC2", "HC3")]


@pytest.mark.parametrize("fit_intercept", [True, False])
@every_loss
def test_the_numbers_are_statsmodels(loss, fit_intercept):
    x, y = problem_of(loss, n=N)
    run = fit(x, y, loss, fit_intercept=fit_intercept)
    for kind in kinds_of_peer(loss):
        result = infer(run, x, y, kind)
        assert_same_numbers(result, peer(loss, x, y, fit_intercept=fit_intercept, **asked_of_peer(kind)))
        assert result.statistic == "z"
        # Of points in time statsmodels counts the panels, where it should count the points.
        if fit_intercept and kind != "hac-groupsum":
            assert_same_numbers(infer(run, x, y, kind, use_t=True), peer(loss, x, y, **asked_of_peer(kind, use_t=True)))


@every_loss
def test_leverages_of_generalised_linear_models_are_those_of_the_observed_information(loss):
    x, y = problem_of(loss, n=N)
    run = fit(x, y, loss)
    design = np.column_stack([x, np.ones(N)])
    z = design @ run.parameters
    slope, h = loss.value_and_slope(z, y[:, None])[1], loss.curvature(z, y[:, None])
    inverse = np.linalg.inv(design.T @ (h * design))
    mean_curvature = loss.curvature(z, loss.inverse_link(z))
    leverage = mean_curvature[:, 0] * np.einsum("nq,qr,nr->n", design, inverse, design)
    for power, kind in ((1, "HC2"), (2, "HC3")):
        meat = (design * (slope[:, 0] ** 2 / (1 - leverage) ** power)[:, None]).T @ design
        covariance = inverse @ meat @ inverse
        same(infer(run, x, y, kind).covariance, covariance, atol=1e-9 * abs(covariance).max())


@pytest.mark.parametrize("correction", [True, False])
@pytest.mark.parametrize("kind", ["cluster", "HAC", "hac-groupsum"])
def test_the_factor_of_small_samples_can_be_left_out_as_in_statsmodels(kind, correction):
    x, y = problem_of(Squared(), n=N)
    word = "cluster" if kind == "hac-groupsum" and correction else correction
    keywords = {**EVERY[kind], "use_correction": word}
    model = peer(Squared(), x, y, cov_type=kind, cov_kwds=keywords)
    result = dask_gd.infer(fit(x, y, Squared()), x, y, cov_type=kind, cov_kwds=keywords)
    assert_same_numbers(result, model)


@every_loss
def test_two_groupings_are_statsmodels(loss):
    x, y = grouped_problem(loss)
    groups = np.column_stack([G, T])
    run = fit(x, y, loss)
    for use_t in (None, True):
        model = peer(loss, x, y, cov_type="cluster", cov_kwds={"groups": groups}, use_t=use_t)
        if np.linalg.eigvalsh(model.cov_params())[0] <= 0:
            with pytest.warns(IndefiniteWarning, match="errors of the coefficients are as they are"):
                result = dask_gd.infer(run, x, y, cov_type="cluster", groups=groups, use_t=use_t)
        else:
            result = dask_gd.infer(run, x, y, cov_type="cluster", groups=groups, use_t=use_t)
        assert_same_numbers(result, model)


# pyfixest


def made():
    """Return columns of 120 rows in 12 groups of 10, which no random numbers have a part in."""
    i = np.arange(120)
    g, h = i // 10, i % 10
    a, b = np.sin(1.0 + 7.1 * i), np.cos(3.3 * i**1.2)
    noise = np.sin(0.7 * i**1.5) * (1 + 0.5 * a**2) + 0.6 * np.sin(5.0 * g) + 0.4 * np.cos(4.0 * h)
    y = 1 + 0.2 * a - 0.3 * b + noise
    return pd.DataFrame({"g": g, "h": h, "a": a, "b": b, "y": y, "d": (y > 1) * 1.0, "c": np.round(2 * abs(y))})


#: Standard errors and p values of a, b and the intercept, by pyfixest 0.60.0: feols, feglm(family="logit") and fepois.
PYFIXEST = {
    ("y", "iid"): ([0.1387714816, 0.1320535892, 0.09846575013], [0.01141494254, 0.00199667771, 0.0]),
    ("y", "HC1"): ([0.1426066132, 0.1297972258, 0.09797945266], [0.01376019621, 0.001676494415, 0.0]),
    ("y", "HC2"): ([0.1446869007, 0.1316967374, 0.09924467209], [0.01514340057, 0.001943286856, 0.0]),
    ("y", "HC3"): ([0.1468014446, 0.133627038, 0.1005293867], [0.01662956277, 0.002244909681, 0.0]),
    ("y", "g"): ([0.1085624995, 0.1490807129, 0.1720667608], [0.00726167659, 0.01725167968, 7.150571279e-05]),
    ("y", "g+h"): ([0.07121389175, 0.1989022213, 0.1903167126], [0.000730247803, 0.06520185025, 0.000349477228]),
    ("y", "NW"): ([0.1307457318, 0.1470709908, 0.1139473493], [0.007335126897, 0.005323036737, 8.881784197e-16]),
    ("y", "DK"): ([0.1020459759, 0.1279882752, 0.1629911569], [0.005010905844, 0.007567855434, 4.437743257e-05]),
    ("d", "iid"): ([0.2814173064, 0.2637317514, 0.1949328807], [0.01092311607, 0.01565233295, 0.7187452132]),
    ("d", "HC1"): ([0.2725890106, 0.2642548954, 0.196077095], [0.008599507754, 0.01585927268, 0.7203173411]),
    ("d", "HC2"): ([0.2764194709, 0.2679336863, 0.1985567506], [0.009565113623, 0.01735878577, 0.7236660876]),
    ("d", "HC3"): ([0.2803098592, 0.2716689181, 0.2010731118], [0.01061255106, 0.01896036687, 0.7269851832]),
    ("d", "g"): ([0.2668146607, 0.27937382, 0.2967264066], [0.00726506161, 0.0225129674, 0.8129751284]),
    ("d", "g+h"): ([0.1866256329, 0.3445340176, 0.327226902], [0.000124095268, 0.06430042682, 0.8301280136]),
    ("d", "NW"): ([0.2545377226, 0.2679969332, 0.1997161797], [0.004894131725, 0.01738524289, 0.7252051303]),
    ("d", "DK"): ([0.2360343779, 0.2493701315, 0.2441591001], [0.002409258968, 0.01058474345, 0.7737086071]),
    ("c", "iid"): ([0.08058267699, 0.07877329772, 0.05939590245], [0.04452578976, 0.001709090329, 0.0]),
    ("c", "HC1"): ([0.08064863396, 0.08501984019, 0.06165930334], [0.04470029419, 0.003658883509, 0.0]),
    ("c", "HC2"): ([0.08185111895, 0.08624865463, 0.0624269713], [0.04793186932, 0.004173254709, 0.0]),
    ("c", "HC3"): ([0.08307375575, 0.08749743942, 0.06320624697], [0.05131200368, 0.004744712287, 0.0]),
    ("c", "g"): ([0.06847020241, 0.1040049866, 0.09964930145], [0.01805341291, 0.01751704599, 0.0]),
    ("c", "g+h"): ([0.04581674374, 0.1198801226, 0.1053276883], [0.0004099012753, 0.0392960703, 0.0]),
    ("c", "NW"): ([0.0732312732, 0.09729495207, 0.07045726691], [0.02705014406, 0.01110072599, 0.0]),
    ("c", "DK"): ([0.07952026794, 0.06124649816, 0.09339795001], [0.04175546577, 5.478456854e-05, 0.0]),
}
OF_VCOV = {
    "iid": {},
    "HC1": {"cov_type": "HC1"},
    "HC2": {"cov_type": "HC2"},
    "HC3": {"cov_type": "HC3"},
    "g": {"cov_type": "cluster", "groups": "g"},
    "g+h": {"cov_type": "cluster", "groups": ["g", "h"]},
    "NW": {"cov_type": "HAC", "maxlags": 3},
    "DK": {"cov_type": "HAC", "maxlags": 2, "time": "g"},
}


@pytest.mark.parametrize(("target", "vcov"), PYFIXEST)
def test_the_numbers_are_pyfixest(target, vcov):
    frame = made()
    loss = {"y": "squared", "d": "logistic", "c": "poisson"}[target]
    run = dask_gd.fit(frame, features=["a", "b"], target=target, loss=loss, tol=1e-13)
    table = dask_gd.infer(run, frame, small_sample="fixest", **OF_VCOV[vcov]).table
    errors, p_values = PYFIXEST[target, vcov]
    # Its fits of generalised linear models end a little earlier.
    same(table.standard_error, errors, rtol=1e-9 if target == "y" else 2e-6)
    same(table.p_value, p_values, rtol=1e-7 if target == "y" else 2e-4, atol=1e-12)


# Weights


@every_loss
def test_weights_of_frequency_repeat_their_rows(loss):
    x, y = problem_of(loss, n=N)
    s = np.random.default_rng(1).integers(0, 4, N)
    run = fit(x, y, loss, sample_weight=s)
    for kind in ("HC0", "HC1", "HC2", "HC3", "cluster"):
        groups = {"groups": G.repeat(s)} if kind == "cluster" else {}
        weighted = infer(run, x, y, kind, s)
        repeated = infer(run, x.repeat(s, axis=0), y.repeat(s), kind, **groups)
        xr.testing.assert_allclose(weighted.table, repeated.table, rtol=1e-9)
        assert weighted.n == s.sum()


def test_repeated_rows_are_in_one_group_of_two_groupings():
    x, y = grouped_problem(Squared())
    s = np.random.default_rng(1).integers(0, 3, N)
    run = fit(x, y, Squared(), sample_weight=s)
    weighted = dask_gd.infer(run, x, y, s, cov_type="cluster", groups=[G, H])
    repeated = dask_gd.infer(
        run, x.repeat(s, axis=0), y.repeat(s), cov_type="cluster", groups=[G.repeat(s), H.repeat(s)]
    )
    xr.testing.assert_allclose(weighted.table, repeated.table, rtol=1e-9)


@every_loss
@pytest.mark.filterwarnings("ignore:cov_type not fully supported")
def test_analytic_weights_are_statsmodels(loss):
    x, y = problem_of(loss, n=N)
    s = np.random.default_rng(1).uniform(0.5, 3, N)
    run = fit(x, y, loss, sample_weight=s)
    for kind in ("nonrobust", *kinds_of_peer(loss)):
        asked = {"cov_type": kind} if kind == "nonrobust" else asked_of_peer(kind)
        result = dask_gd.infer(run, x, y, s, weights="analytic", cov_type=kind, **EVERY.get(kind, {}))
        assert_same_numbers(result, peer(loss, x, y, s, **asked))
        assert result.n == N


# Forms of the data


@pytest.mark.parametrize("loss", [Squared(), Gamma()], ids=repr)
def test_any_form_of_the_data_gives_the_same(loss, tmp_path):
    x, y = problem_of(loss, n=N)
    x[np.abs(x) < 0.5] = 0.0
    run = fit(x, y, loss)
    stored = to_zarr(x, 70, tmp_path / "x")
    lazy = da.from_array(x, chunks=(97, 2))
    for kind in ("HC1", "HC3", "cluster", "HAC", "hac-groupsum"):
        expected = infer(run, x, y, kind)
        for data in (stored, lazy, sp.csr_array(x)):
            xr.testing.assert_allclose(infer(run, data, y, kind).table, expected.table, rtol=1e-9)


def test_factors_are_as_if_written_out():
    x, y = problem_of(Poisson(), n=N)
    frame = pd.DataFrame({"a": x[:, 0], "f": np.array(list("pqrs"))[G % 4], "y": y, "g": G})
    run = dask_gd.fit(frame, features=["a", "f"], target="y", loss="poisson", tol=1e-12)
    names = run.weights.feature.values[1:]
    written = np.column_stack([x[:, 0], *(frame.f == name.split("=")[1] for name in names)]).astype(float)
    run_of_written = fit(written, y, Poisson())
    for kind in ("HC1", "HC2", "cluster", "HAC"):
        options = {"groups": "g"} if kind == "cluster" else {}
        result = infer(run, frame, None, kind, **options)
        expected = infer(run_of_written, written, y, kind)
        same(result.table.standard_error, expected.table.standard_error)


@pytest.mark.parametrize("loss", [Squared(), Poisson()], ids=repr)
def test_targets_with_columns_are_inferred_as_if_alone(loss):
    x, a = problem_of(Poisson(), n=4000)
    groups = np.arange(4000) % 40
    # A block takes these outputs in several parts.
    y = np.stack([np.roll(a, i) for i in range(20)], axis=1)
    run = fit(x, y, loss)
    alone = {i: fit(x, y[:, i], loss) for i in (0, 17, 19)}
    for kind, options in (("HC3", {}), ("cluster", {"groups": groups}), ("HAC", {})):
        together = infer(run, x, y, kind, **options)
        for i, own in alone.items():
            expected = infer(own, x, y[:, i], kind, **options)
            for name in ("standard_error", "p_value", "upper"):
                same(together.table[name].isel(output=i), expected.table[name], rtol=1e-7)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_columns_far_from_0_keep_their_digits(fit_intercept):
    near, y = problem_of(Squared(), n=N)
    x = near + np.array([1e6, -1e5, 1e3, 0, 0, 1e6])
    if not fit_intercept:
        # With a constant column among the features, which is no intercept.
        x = np.column_stack([x, np.ones(N)])
    run = fit(x, y, Squared(), fit_intercept=fit_intercept)
    run_near = fit(near, y, Squared())
    for kind in EVERY:
        result = infer(run, x, y, kind)
        expected = infer(run_near, near, y, kind)
        same(result.table.standard_error[:6], expected.table.standard_error[:6], rtol=1e-6)


def test_units_of_features_are_those_of_their_coefficients():
    x, y = problem_of(Logistic(), n=N)
    unit = np.array([1e-6, 1e-3, 1.0, 1.0, 1e3, 1e6])
    run, run_scaled = fit(x, y, Logistic()), fit(x * unit, y, Logistic())
    for kind in EVERY:
        base = infer(run, x, y, kind).table
        scaled = infer(run_scaled, x * unit, y, kind).table
        same(scaled.standard_error[:-1] * unit, base.standard_error[:-1], rtol=1e-7)


def test_workers_make_no_difference_to_the_bits(tmp_path, clusters):
    x, y = grouped_problem(Squared())
    stored = to_zarr(x, 50, tmp_path / "x")
    run = fit(x, y, Squared())
    kinds = [{"groups": [G, H]}, {"maxlags": 60}]
    asked = [{"cov_type": name, **options} for name, options in zip(["cluster", "HAC"], kinds, strict=True)]
    found = {}
    for workers in (1, 2):
        with Client(clusters(workers)):
            found[workers] = [dask_gd.infer(run, stored, y, **options).table for options in asked]
    for one, two, options in zip(found[1], found[2], asked, strict=True):
        xr.testing.assert_identical(one, two)
        xr.testing.assert_allclose(dask_gd.infer(run, x, y, **options).table, one, rtol=1e-10)


@pytest.mark.parametrize("chunk", [1, 7, 59])
def test_lags_reach_across_partitions(chunk, tmp_path):
    x, y = problem_of(Squared(), n=60)
    run = fit(x, y, Squared())
    stored = to_zarr(x, chunk, tmp_path / "x")
    for maxlags in (0, 1, 5, 40):
        model = peer(Squared(), x, y, cov_type="HAC", cov_kwds={"maxlags": maxlags})
        result = dask_gd.infer(run, stored, y, cov_type="HAC", maxlags=maxlags)
        same(result.table.standard_error, model.bse)


@pytest.mark.parametrize(("kind", "passes_needed"), [("HC1", 1), ("cluster", 1), ("HAC", 1), ("HC2", 2), ("HC3", 2)])
def test_it_takes_one_pass_or_two_with_leverages(kind, passes_needed, monkeypatch):
    x, y = problem_of(Tweedie(1.5), n=N)
    run, taken = fit(x, y, Tweedie(1.5)), []
    evaluate = passes.evaluate
    monkeypatch.setattr(passes, "evaluate", lambda *args: taken.append(args) or evaluate(*args))
    infer(run, x, y, kind)
    assert len(taken) == passes_needed


def test_rows_left_out_of_the_fit_are_left_out():
    x, y = problem_of(Logistic(), n=N)
    x[::7, 1] = np.nan
    kept = np.isfinite(x).all(axis=1)
    run = fit(x, y, Logistic(), nan="drop")
    for kind in ("HC3", "HAC"):
        expected = infer(fit(x[kept], y[kept], Logistic()), x[kept], y[kept], kind)
        xr.testing.assert_allclose(infer(run, x, y, kind, nan="drop").table, expected.table, rtol=1e-8)
    expected = infer(fit(x[kept], y[kept], Logistic()), x[kept], y[kept], "cluster", groups=G[kept])
    xr.testing.assert_allclose(infer(run, x, y, "cluster", nan="drop").table, expected.table, rtol=1e-8)


# Groups


def covariance_by_groups(x, y, *columns):
    """Return the covariance of Cameron, Gelbach and Miller, by brute force."""
    design = np.column_stack([x, np.ones(len(x))])
    inverse = np.linalg.inv(design.T @ design)
    scores = design * (y - design @ inverse @ design.T @ y)[:, None]
    n, q = design.shape
    total = np.zeros((q, q))
    for chosen in range(1, 2 ** len(columns)):
        some = [column for i, column in enumerate(columns) if chosen >> i & 1]
        _, codes = np.unique(np.stack(some), axis=1, return_inverse=True)
        sums = np.stack([np.bincount(codes, weights=column) for column in scores.T], axis=1)
        groups = len(sums)
        factor = groups / (groups - 1) * (n - 1) / (n - q)
        total += (-1) ** (len(some) + 1) * factor * sums.T @ sums
    return inverse @ total @ inverse


@pytest.mark.parametrize("levels", [(9, 9), (40, 150), (300, 300), (9, 40, 150), (15, 16, 17), (9, 9, 9, 150)])
@pytest.mark.filterwarnings("ignore::dask_gd.errors.IndefiniteWarning")
def test_several_groupings_are_by_inclusion_and_exclusion(levels):
    x, y = problem_of(Squared(), n=N, p=2)
    rng = np.random.default_rng(5)
    columns = [rng.integers(0, size, N) for size in levels]
    # Rows depend on each other within each grouping, features as well, so that all variances are positive.
    for size, codes in zip(levels, columns, strict=True):
        y = y + 5 * rng.normal(size=size)[codes]
        x = x + 2 * rng.normal(size=(size, 2))[codes]
    expected = covariance_by_groups(x, y, *columns)
    assert (np.diagonal(expected) > 0).all()
    result = dask_gd.infer(fit(x, y, Squared()), x, y, cov_type="cluster", groups=columns)
    same(result.covariance, expected, atol=1e-9 * abs(expected).max())


@pytest.mark.parametrize(("many", "bits"), [(0, 20), (10**9, 20), (10**9, 1)])
def test_keys_are_looked_up_alike_however_many_and_of_whatever_hash(many, bits, monkeypatch):
    monkeypatch.setattr("dask_gd.sources.row_groups.MANY_KEYS", many)
    monkeypatch.setattr("dask_gd.sources.row_groups.HASH_BITS", bits)
    known, keys = np.array([2, 5, 9]), np.array([9, 1, 2, 2, 10, 5])
    assert dask_gd.sources.row_groups._places(known, keys).tolist() == [2, -1, 0, 0, -1, 1]


VALUES = {
    "negative": G - 20,
    "large": G.astype(np.int64) * (2**57) + 1,
    "floats": G / 7,
    "strings": np.char.add("airport ", G.astype(str)),
    "objects": np.char.add("airport ", G.astype(str)).astype(object),
    "dates": np.datetime64("2001-01-01", "ns") + G * np.timedelta64(1, "D"),
    "series": pd.Series(G, dtype="Int64"),
    "categories": pd.Series(pd.Categorical(np.char.add("a", G.astype(str)))),
    "bytes": G.astype("u1"),
    "lazy": da.from_array(np.char.add("a", G.astype(str)).astype(object), chunks=77),
    "lazy numbers": da.from_array(G, chunks=11),
    "list": G.tolist(),
    "list of strings": np.char.add("a", G.astype(str)).tolist(),
    "one column": G[:, None],
    "list of one": [G],
    "DataArray": xr.DataArray(G, dims="row"),
    "frame": pd.DataFrame({"g": G}),
}


@pytest.mark.parametrize("values", VALUES)
def test_groups_are_told_by_any_values(values):
    x, y = problem_of(Squared(), n=N)
    run = fit(x, y, Squared())
    expected = infer(run, x, y, "cluster")
    result = infer(run, x, y, "cluster", groups=VALUES[values])
    xr.testing.assert_allclose(result.table, expected.table, rtol=1e-10)


def test_groups_are_columns_of_frames_and_arrays_of_a_store_by_name(tmp_path):
    x, y = grouped_problem(Squared())
    expected = dask_gd.infer(fit(x, y, Squared()), x, y, cov_type="cluster", groups=[G, H]).table.standard_error
    names = list("abcdef")
    frame = pd.DataFrame(x, columns=names).assign(y=y, g=np.char.add("a", G.astype(str)), h=H)
    run = dask_gd.fit(frame, features=names, target="y")
    for data in (frame, dd.from_pandas(frame, npartitions=5)):
        result = dask_gd.infer(run, data, cov_type="cluster", groups=["g", "h"])
        same(result.table.standard_error, expected)
    # In a store, of which some rows are used.
    group = zarr.open_group(tmp_path / "store", mode="w")
    arrays = {"x": np.concatenate([x[:50], x, x]), "y": np.concatenate([y[:50], y, y])}
    arrays |= {"g": np.concatenate([G[:50], G, G]), "h": np.concatenate([H[:50], H, H])}
    for name, values in arrays.items():
        chunks = (32, *values.shape[1:])
        group.create_array(name, data=values, chunks=chunks, compressors=[zarr.codecs.Crc32cCodec()])
    source = dask_gd.open(tmp_path / "store", x="x", y="y", rows=slice(50, 350))
    result = dask_gd.infer(fit(x, y, Squared()), source, cov_type="cluster", groups=["g", "h"])
    same(result.table.standard_error, expected)
    result = dask_gd.infer(fit(x, y, Squared()), source, cov_type="cluster", groups=[group["g"], H])
    same(result.table.standard_error, expected)
    with pytest.raises(InvalidArgumentError, match=r"groups='airport': no such array.* it has g, h, x, y"):
        dask_gd.infer(fit(x, y, Squared()), source, cov_type="cluster", groups="airport")


def dataset(lazy=False):
    """Return a Dataset of 30 points in time and 10 places, with noise that depends on itself along both."""
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(2, 30, 10))
    y = a - b + 0.7 * rng.normal(size=(30, 1)).cumsum(axis=0) + rng.normal(size=10) + rng.normal(size=(30, 10))
    variables = {"a": (("time", "place"), a), "b": (("time", "place"), b), "y": (("time", "place"), y)}
    coords = {
        "time": pd.date_range("2000-01", periods=30, freq="MS"),
        "place": [f"p{i}" for i in range(10)],
        "country": ("place", list("uuvvwwxxzz")),
    }
    data = xr.Dataset(variables, coords=coords)
    return data.chunk(time=7, place=4) if lazy else data


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.filterwarnings("ignore::dask_gd.errors.IndefiniteWarning")
def test_groups_and_times_are_variables_of_a_dataset(lazy):
    data = dataset(lazy)
    flat = dataset().to_dataframe().reset_index()
    run = dask_gd.fit(data, features=["a", "b"], target="y", sample_dims=("time", "place"))
    model = sm.OLS(flat.y.values, np.column_stack([flat.a, flat.b, np.ones(len(flat))]))
    times = (flat.time.dt.year * 12 + flat.time.dt.month).values
    times = times - times.min()
    country = pd.factorize(flat.country)[0]
    place = pd.factorize(flat.place)[0]
    cases = [
        ({"cov_type": "HAC", "time": "time", "maxlags": 3}, "hac-groupsum", {"time": times, "maxlags": 3}),
        ({"cov_type": "cluster", "groups": "country"}, "cluster", {"groups": country}),
        ({"cov_type": "cluster", "groups": data.country}, "cluster", {"groups": country}),
        ({"cov_type": "cluster", "groups": "time.year"}, "cluster", {"groups": flat.time.dt.year.values}),
        ({"cov_type": "cluster", "groups": ["time", "place"]}, "cluster", {"groups": np.stack([times, place], 1)}),
    ]
    for asked, kind, keywords in cases:
        expected = model.fit(cov_type=kind, cov_kwds=keywords)
        same(dask_gd.infer(run, data, **asked).table.standard_error, expected.bse)
    # Pairs of countries and points in time have two rows each.
    groups = ["time", "country"]
    expected = covariance_by_groups(flat[["a", "b"]].values, flat.y.values, times, country)
    result = dask_gd.infer(run, data, cov_type="cluster", groups=groups)
    same(result.covariance, expected, atol=1e-9)
    with pytest.raises(InvalidArgumentError, match=r"\('time', 'place'\) and no order in time.* time='time'"):
        dask_gd.infer(run, data, cov_type="HAC", maxlags=2)


def test_a_negative_variance_is_set_to_0_with_a_warning():
    # Rows that are opposed to each other within each group, of both groupings.
    rng = np.random.default_rng(0)
    a = rng.normal(size=400)
    g = np.arange(400) // 20
    h = np.arange(400) % 20
    e = np.where((g + h) % 2, 1.0, -1.0)
    y = a + e
    run = fit(a[:, None], y, Squared())
    assert (np.diagonal(covariance_by_groups(a[:, None], y, g, h)) <= 0).any()
    with pytest.warns(IndefiniteWarning, match="negative eigenvalues were set to 0"):
        result = dask_gd.infer(run, a[:, None], y, cov_type="cluster", groups=[g, h])
    assert (result.table.standard_error.values >= 0).all()
    assert np.linalg.eigvalsh(result.covariance.values)[0] > -1e-12


# What is refused


@pytest.fixture(scope="module")
def refused():
    """Return what looks whether `infer` refuses arguments before any task."""
    x, y = problem_of(Squared(), n=N)
    run = fit(x, y, Squared())
    lazy = da.from_array(x).map_blocks(lambda block: pytest.fail("a task ran"), dtype=float, meta=np.empty((0, 0)))

    def check(message, error=InvalidArgumentError, **options):
        with pytest.raises(error, match=message):
            dask_gd.infer(run, lazy, y, **options)

    return check


def test_bad_arguments_are_refused_before_any_task(refused):
    refused(r"cov_type='HC4'\): choose one of 'nonrobust', 'HC0'", cov_type="HC4")
    refused(r"cov_type=1\): choose one of", cov_type=1)
    refused("groups goes with cov_type='cluster'", groups=G)
    refused("groups goes with cov_type='cluster'", groups=G, cov_type="HC1")
    refused("maxlags goes with cov_type='HAC'", maxlags=2, cov_type="cluster")
    refused("time goes with cov_type='HAC'", time=T, cov_type="HC1")
    refused("needs groups=", cov_type="cluster")
    refused("maxlags=None.*the largest lag", cov_type="HAC")
    refused("maxlags=-1", cov_type="HAC", maxlags=-1)
    refused("maxlags=1.5", cov_type="HAC", maxlags=1.5)
    refused("maxlags=300.*there are 300 rows", cov_type="HAC", maxlags=300)
    refused("maxlags=50.*there are 50 points in time", cov_type="HAC", maxlags=50, time=T)
    refused("small_sample='stata' is not known", small_sample="stata")
    refused("weights='importance' is not known", weights="importance")
    refused("use_t='yes'", use_t="yes")
    refused("cov_kwds='G'.*a dictionary of groups, maxlags", cov_kwds="G", cov_type="cluster")
    refused(r"'kernel'.*no such key; groups", cov_kwds={"kernel": "uniform"}, cov_type="HAC")
    refused("groups is given twice", cov_kwds={"groups": G}, groups=G, cov_type="cluster")
    refused("use_correction goes with", cov_kwds={"use_correction": False}, cov_type="HC1")
    refused("a single column of points in time", cov_type="HAC", maxlags=1, time=[T, G])
    refused("5 columns; at most 4", cov_type="cluster", groups=[G] * 5)


def test_bad_groups_are_refused_before_any_task(refused):
    refused("groups has 299 rows but the data has 300", cov_type="cluster", groups=G[1:])
    refused("all rows are in one group", cov_type="cluster", groups=np.zeros(N))
    refused("all rows are in one group", cov_type="cluster", groups=[G, np.zeros(N)])
    refused("'airport' is a name, and the data has none", cov_type="cluster", groups="airport")
    refused("groups is a single value", InvalidTypeError, cov_type="cluster", groups=1)
    refused("dtype complex128; groups are told by", InvalidTypeError, cov_type="cluster", groups=G * 1j)
    mixed = G.astype(object)
    mixed[3] = "a"
    refused("cannot be compared with each other, int and str", InvalidTypeError, cov_type="cluster", groups=mixed)
    cube = np.zeros((N, 2, 2))
    refused("must have shape", cov_type="cluster", groups=da.from_array(cube))
    for values, missing in (
        (G.astype(float), np.nan),
        (G.astype(object), None),
        (VALUES["dates"], np.datetime64("NaT", "ns")),
    ):
        bad = values.copy()
        bad[17] = missing
        refused("groups has no value in row 17", DataError, cov_type="cluster", groups=bad)
        lazy = da.from_array(bad, chunks=10)
        refused("groups has no value in row 17", DataError, cov_type="cluster", groups=lazy)


def test_groups_whose_sums_do_not_fit_are_refused_before_any_task(monkeypatch, refused):
    monkeypatch.setattr(robust, "MEMORY_LIMIT", 8 * 7 * 40 * 4 - 1)
    refused("the sums of 40 groups, 7 parameters for each of 1 outputs", cov_type="cluster", groups=G)


def test_weights_that_repeat_rows_have_no_order_in_time():
    x, y = problem_of(Squared(), n=N)
    run = fit(x, y, Squared(), sample_weight=np.ones(N))
    with pytest.raises(InvalidArgumentError, match=r"no order in time.*weights='analytic'"):
        dask_gd.infer(run, x, y, np.ones(N), cov_type="HAC", maxlags=2)


def test_a_row_that_alone_determines_a_coefficient_has_no_error_by_leverages():
    x, y = problem_of(Squared(), n=N)
    x[:, 0] = np.arange(N) == 5
    run = fit(x, y, Squared())
    for kind in ("HC2", "HC3"):
        with pytest.raises(InvalidArgumentError, match="a row has a leverage of 1"):
            infer(run, x, y, kind)
    infer(run, x, y, "HC1")


def test_coefficients_that_are_not_at_the_optimum_are_refused():
    x, y = problem_of(Gamma(), n=N)
    run = fit(x, y, Gamma())
    with pytest.raises(InvalidArgumentError, match=r"not at the optimum of these rows"):
        infer(run, x, y[::-1], "HC1")


def test_factors_that_are_eliminated_are_refused():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=3000), "f": rng.integers(0, 600, 3000).astype(str)})
    frame["y"] = frame.a + rng.normal(size=3000)
    run = dask_gd.fit(frame, features=["a", "f"], target="y")
    with pytest.raises(InvalidArgumentError, match=r"the largest factor is eliminated.*cov_type='nonrobust'"):
        dask_gd.infer(run, frame, cov_type="HC1")


def test_the_heading_says_what_the_errors_are_robust_to():
    x, y = problem_of(Squared(), n=N)
    run = fit(x, y, Squared())
    for kind in KINDS:
        if kind in EVERY:
            assert str(infer(run, x, y, kind)).splitlines()[1] == f"errors {KINDS[kind]}"


def test_late_flights_have_the_errors_that_the_docs_print():
    text = (Path(dask_gd.__file__).parent.parent / "docs" / "inference.md").read_text()
    code = next(part for part in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "flights.zarr" in part)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    table = text[text.index("Friday against Monday") : text.index("## How well")]
    rows = re.findall(r"^\| (?:of the model|HC1|by [a-z ]+) \| (.*) \|$", table, re.MULTILINE)
    expected = [list(map(float, row.split(" | "))) for row in rows]
    found = [list(map(float, line.strip("[]").split())) for line in printed.getvalue().splitlines()]
    np.testing.assert_allclose(found, expected, atol=0.0051)
    assert len(found) == 5
