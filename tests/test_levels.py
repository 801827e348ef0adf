"""Factors of very many levels: Newton's method with the largest factor eliminated agrees with all that forms it."""

import logging

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import zarr
from coded_rows import coded_source, written_out
from dask.distributed import Client
from numpy.testing import assert_allclose, assert_array_equal

import dask_gd
import dask_gd.solvers.newton.elimination as elimination
from dask_gd import passes
from dask_gd.errors import DataError, InvalidArgumentError
from dask_gd.kernels.base import EXACT, Request
from dask_gd.kernels.curvature_parts import InParts
from dask_gd.solvers import LBFGS, Newton, NewtonSchur, as_solver

N = 800
LEVELS = (50, 7, 3)
LOSSES = ("squared", "logistic", "poisson")

#: The ways to solve for what is left beside the eliminated factor, by limits of `elimination` with which each is taken.
WAYS = {
    "dense": {},
    "band": {"NARROW": 0, "CHEAP": 0, "FEW_PRODUCTS": 1000},
    "iterative": {"NARROW": 0, "FEW_PRODUCTS": 0, "FEW_STEPS": 5000},
    "dense after iterative": {"NARROW": 0, "FEW_PRODUCTS": 0, "FEW_STEPS": 1},
    "iterative only": {"NARROW": 0, "DENSE": 0, "FEW_PRODUCTS": 0},
}


def rows(loss="squared", levels=LEVELS, n=N, seed=0, chunk=230, connected=None, **options):
    """Return a source of two numbers, the second far from 0, and a factor for each of ``levels``; and its target."""
    rng = np.random.default_rng(seed)
    codes = np.column_stack([rng.integers(0, count, n) for count in levels])
    if connected == "chain":
        per_level = levels[0] // levels[1]
        codes[:, 1] = np.clip(codes[:, 0] // per_level + rng.integers(-1, 2, n), 0, levels[1] - 1)
    if connected == "apart":
        codes[:, 1] -= (codes[:, 1] - codes[:, 0]) % 2
        codes[:, 1] %= levels[1]
    x = rng.normal(size=(n, 2))
    x[:, 1] += 30.0
    z = x @ [0.7, -0.5] + 15.0 + 0.5 * rng.normal(size=levels[0])[codes[:, 0]]
    y = z + rng.normal(size=n)
    if loss == "logistic":
        y = (rng.random(n) < 1 / (1 + np.exp(-z))).astype(float)
    if loss == "poisson":
        y = rng.poisson(np.exp(z)).astype(float)
    return coded_source(x, codes, y, levels, chunk=chunk, **options), y


def predicted(run, x):
    """Return linear predictions; NaN where a level is left out."""
    known = np.nan_to_num(run.weights.values)
    z = x @ known + float(run.intercept)
    z[x[:, np.isnan(run.weights.values)].any(axis=1)] = np.nan
    return z


def schur(source, loss="squared", **options):
    return dask_gd.fit(source, loss=loss, solver="newton_schur", **{"tol": 1e-9, **options})


@pytest.mark.parametrize("drop_first", [(), (0,), (0, 1, 2)])
@pytest.mark.parametrize("levels", [(50,), (50, 7), (7, 50, 3)])
def test_the_parts_solve_what_the_whole_curvature_solves(levels, drop_first, monkeypatch):
    weight = np.random.default_rng(1).integers(0, 3, N).astype(float)
    drop_first = tuple(f for f in drop_first if f < len(levels))
    source, _ = rows("logistic", levels, drop_first=drop_first, weight=weight)
    rng = np.random.default_rng(2)
    query = 0.01 * rng.normal(size=(source.shape[1] + 1, 1, 1))
    loss = dask_gd.Logistic()
    whole = passes.evaluate(source, query, loss, Request(EXACT), "whole", 1)
    found = passes.evaluate(source, query, loss, Request(kernel=InParts()), "parts", 1)
    # The sums at the query are not touched by what is summed beside them.
    assert_array_equal(found.at_query.gradient, whole.gradient)
    ridge = np.append(rng.uniform(0.5, 2.0, source.shape[1]), 0.0)
    right = rng.normal(size=(len(ridge), 2))
    expected = np.linalg.solve(whole.curvature[:, :, 0] + np.diag(ridge), right)
    for limits in WAYS.values():
        for name, value in limits.items():
            monkeypatch.setattr(elimination, name, value)
        system = elimination.Elimination(found.parts, ridge)
        assert_allclose(system.solve(right), expected, rtol=1e-6, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("penalty", [None, dask_gd.L2(1e-3)])
@pytest.mark.parametrize("loss", LOSSES)
def test_predictions_are_those_of_the_dense_fit(loss, penalty, fit_intercept):
    rng = np.random.default_rng(3)
    weight = rng.integers(0, 3, N).astype(float)
    offset = 0.1 * rng.normal(size=N)
    source, y = rows(loss, weight=weight, offset=offset)
    run = schur(source, loss, penalty=penalty, fit_intercept=fit_intercept)
    x = written_out(source)
    z = predicted(run, x)
    kept = ~np.isnan(z)
    assert run.converged
    assert kept.sum() > N // 2
    if penalty is not None or loss == "squared":
        assert kept.all()
    dense = dask_gd.fit(
        x[kept],
        y[kept],
        sample_weight=weight[kept],
        offset=offset[kept],
        loss=loss,
        penalty=penalty,
        fit_intercept=fit_intercept,
        solver="newton",
        tol=1e-10,
    )
    counted = weight[kept] > 0
    assert_allclose(z[kept][counted], predicted(dense, x[kept])[counted], atol=2e-6)
    if penalty is not None:
        assert_allclose(run.weights, dense.weights, atol=1e-6)
        assert_allclose(run.intercept, dense.intercept, atol=2e-5)


@pytest.mark.parametrize("connected", [None, "chain", "apart"])
@pytest.mark.parametrize("limits", WAYS.values(), ids=list(WAYS))
def test_badly_connected_factors_are_fitted_in_a_step_whichever_way_the_rest_is_solved(connected, limits, monkeypatch):
    for name, value in limits.items():
        monkeypatch.setattr(elimination, name, value)
    source, y = rows(levels=(120, 20), n=1200, chunk=600, connected=connected)
    run = schur(source)
    x = written_out(source)
    expected = x @ np.linalg.lstsq(x, y)[0]
    assert run.n_iter == 1
    assert_allclose(predicted(run, x), expected, atol=1e-7)


def test_a_coefficient_that_no_row_decides_stays_at_0_by_the_convention():
    """In each connected component the first level of the later factor is the reference, and there is no intercept."""
    source, _ = rows(levels=(60, 8), connected="apart")
    run = schur(source)
    later = run.weights.values[2 + 60 :]
    assert float(run.intercept) == 0.0
    assert_array_equal(np.flatnonzero(later == 0.0), [0, 1])
    # A level that does not occur has no curvature.
    table = source.x.array.compute()
    unused = coded_source(table[:, :2], table[:, 2:], source.y.array.compute(), (70, 8))
    assert_array_equal(schur(unused).weights.values[62:72], 0.0)


def test_a_number_that_follows_from_a_level_changes_no_prediction():
    source, y = rows(levels=(60, 8))
    table = source.x.array.compute()
    of_level = np.sin(table[:, 2])
    more = coded_source(np.column_stack([table[:, :2], of_level]), table[:, 2:], y, (60, 8))
    run = schur(more)
    assert_allclose(predicted(run, written_out(more)), predicted(schur(source), written_out(source)), atol=1e-8)


@pytest.mark.parametrize("factor", [0, 1])
@pytest.mark.parametrize("drop_first", [(), (0,), (0, 1)])
def test_a_number_that_follows_from_levels_stays_whichever_way_the_rest_is_solved(drop_first, factor, monkeypatch):
    """Neither it nor its standard error is made up, which only the intercept and the levels would pay for."""
    monkeypatch.setattr("dask_gd.results.inference_levels.WIDE", 10)
    source, y = rows("logistic", levels=(50, 7))
    table = source.x.array.compute()
    of_level = np.random.default_rng(1).normal(size=50)
    table[:, 1] = of_level[table[:, 2 + factor].astype(int)]
    without = coded_source(table[:, :1], table[:, 2:], y, (50, 7), drop_first=drop_first)
    expected = schur(without, "logistic")
    errors = dask_gd.infer(expected, without).table.standard_error
    source = coded_source(table[:, :2], table[:, 2:], y, (50, 7), drop_first=drop_first)
    for limits in WAYS.values():
        with monkeypatch.context() as patch:
            for name, value in limits.items():
                patch.setattr(elimination, name, value)
            run = schur(source, "logistic")
            inferred = dask_gd.infer(run, source).table
        assert run.weights[1] == 0
        assert_allclose(np.delete(run.weights, 1), expected.weights, atol=1e-6)
        found = inferred.standard_error.sel(parameter=["x0", "x1", "(intercept)"])
        assert_allclose(found, [errors[0], np.nan, errors[-1]], rtol=1e-6)


def test_several_outputs_of_a_squared_loss_are_each_fitted_as_alone():
    source, y = rows()
    table = source.x.array.compute()
    both = np.column_stack([y, np.cos(y)])
    run = schur(coded_source(table[:, :2], table[:, 2:], both, LEVELS))
    for j in range(2):
        alone = schur(coded_source(table[:, :2], table[:, 2:], both[:, j].copy(), LEVELS))
        assert_allclose(run.weights[:, j], alone.weights, atol=1e-9)


def separated_reference(codes, y, both_classes):
    """Return which rows are left, and which levels are not, of a single row or one kind of targets."""
    kept = np.ones(len(y), bool)
    gone = set()
    while True:
        before = kept.sum()
        for f in range(codes.shape[1]):
            for code in np.unique(codes[kept, f]):
                of_level = kept & (codes[:, f] == code)
                values = y[of_level]
                if len(values) == 1 or (values == 0).all() or (both_classes and (values == 1).all()):
                    gone.add((f + 2, code))
        for column, code in gone:
            kept &= codes[:, column - 2] != code
        if kept.sum() == before:
            return kept, gone


@pytest.mark.parametrize("loss", ["logistic", "poisson"])
def test_levels_that_separate_are_left_out_again_and_again_and_named(loss, caplog):
    source, y = rows(loss, levels=(250, 60), n=900)
    codes = source.x.array.compute()[:, 2:].astype(int)
    names = ("x0", "x1", *(f"worker={i}" for i in range(250)), *(f"firm={i}" for i in range(60)))
    source = dask_gd.Source(source.by_role, source.bounds, feature_names=names)
    with caplog.at_level(logging.WARNING, "dask_gd"):
        run = schur(source, loss)
    kept, gone = separated_reference(codes, y, loss == "logistic")
    assert {tuple(level) for level in run.dropped_levels.tolist()} == gone
    assert_array_equal(np.isnan(predicted(run, written_out(source))), ~kept)
    assert run.converged
    [record] = caplog.records
    first = min(gone)
    assert f"{(~kept).sum()} of 900 rows are left out" in record.getMessage()
    assert ("", "", "worker=", "firm=")[first[0]] + str(first[1]) in record.getMessage()
    # The same coefficients as without these rows.
    table = source.x.array.compute()[kept]
    without = schur(coded_source(table[:, :2], table[:, 2:], y[kept], (250, 60)), loss)
    assert_allclose(run.weights[:2], without.weights[:2], atol=1e-8)
    assert len(without.dropped_levels) == 0
    # A penalty keeps them all.
    assert len(schur(source, loss, penalty=dask_gd.L2(1e-3)).dropped_levels) == 0


def test_a_fit_of_which_no_row_is_left_is_refused():
    source, _ = rows("logistic", levels=(800,))
    table = source.x.array.compute()
    table[:, 2] = np.arange(N)
    with pytest.raises(DataError, match=r"No row is left.*level 0 of column 2.*Give a penalty"):
        schur(coded_source(table[:, :2], table[:, 2:], np.arange(N) % 2.0, (N,)), "logistic")


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("drop_first", [(), (0, 1)])
def test_standard_errors_beside_the_eliminated_factor_are_those_of_statsmodels(loss, drop_first, monkeypatch):
    monkeypatch.setattr("dask_gd.results.inference_levels.WIDE", 10)
    source, y = rows(loss, levels=(40, 6), drop_first=drop_first)
    run = schur(source, loss, tol=1e-10)
    x = written_out(source)
    kept = ~np.isnan(predicted(run, x))
    table = dask_gd.infer(run, source).table
    if drop_first:
        names = [f"x{i}" for i in [0, 1, *range(41, 46)]]
        design = np.column_stack([x[kept], np.ones(kept.sum())])
        places = [0, 1, *range(41, 47)]
    else:
        names = [f"x{i}" for i in [0, 1, *range(42, 48)]]
        design = np.delete(x[kept], 42, axis=1)
        places = [0, 1, *range(42, 47)]
    used = design.any(axis=0)
    model = sm.OLS(y[kept], design[:, used])
    if loss != "squared":
        family = {"logistic": sm.families.Binomial(), "poisson": sm.families.Poisson()}[loss]
        model = sm.GLM(y[kept], design[:, used], family=family)
    fitted = model.fit() if loss == "squared" else model.fit(tol=1e-13, maxiter=200)
    expected = np.full(design.shape[1], np.nan)
    expected[used] = fitted.bse
    assert table.parameter.values.tolist() == [*names, "(intercept)"]
    error = table.standard_error.values
    determined = ~np.isnan(error)
    assert_array_equal(determined, [True] * 8 if drop_first else [True, True, False, *[True] * 5, False])
    assert_allclose(error[determined], expected[places], rtol=1e-5)


def test_standard_errors_of_numbers_are_there_where_the_rest_is_too_wide_to_form(monkeypatch):
    source, _ = rows(levels=(600, 40), n=3000)
    run = schur(source)
    whole = dask_gd.infer(run, source).table.standard_error
    monkeypatch.setattr(elimination, "DENSE", 0)
    monkeypatch.setattr(elimination, "NARROW", 0)
    numbers = dask_gd.infer(run, source).table.standard_error
    assert numbers.parameter.values.tolist() == ["x0", "x1", "(intercept)"]
    assert_allclose(numbers[:2], whole[:2], rtol=1e-8)


def test_coefficients_away_from_the_optimum_have_no_standard_errors():
    source, _ = rows("logistic", levels=(600, 7), n=3000)
    run = schur(source, "logistic", max_iter=0)
    with pytest.raises(InvalidArgumentError, match="not at the optimum"):
        dask_gd.infer(run, source)


def test_auto_eliminates_where_rows_have_a_factor_too_wide_for_newton():
    wide = rows(levels=(3000, 7))[0].row_format
    narrow = rows()[0].row_format
    loss, none = dask_gd.Logistic(), dask_gd.L2(0.0)
    assert isinstance(as_solver("auto", loss, none, wide.features, wide), NewtonSchur)
    assert isinstance(as_solver("auto", loss, none, narrow.features, narrow), Newton)
    assert isinstance(as_solver("auto", loss, none, wide.features), LBFGS)
    assert isinstance(as_solver("auto", loss, dask_gd.L1(0.1), 5000, wide), LBFGS)
    assert isinstance(as_solver("auto", dask_gd.Hinge(), none, 5000, wide), LBFGS)
    assert isinstance(as_solver("auto", loss, none, 5000, wide, outputs=2), LBFGS)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"penalty": dask_gd.L1(0.1)}, "bends"),
        ({"loss": "hinge"}, "continuous curvature"),
    ],
)
def test_what_it_does_not_serve_is_refused_by_name(options, what):
    source, _ = rows("logistic")
    with pytest.raises(InvalidArgumentError, match=f"NewtonSchur.*{what}"):
        schur(source, **options)


def test_dense_rows_and_searches_are_refused_by_name():
    source, y = rows("logistic")
    with pytest.raises(InvalidArgumentError, match=r"NewtonSchur.*factors"):
        dask_gd.fit(written_out(source), y, solver="newton_schur")
    with pytest.raises(InvalidArgumentError, match=r"newton_schur.*search takes newton"):
        dask_gd.search(source, loss="logistic", alphas=[1e-3, 1e-2], folds=2, solver="newton_schur")
    wide, _ = rows(levels=(5000,))
    with pytest.raises(InvalidArgumentError, match="5,002 features"):
        dask_gd.search(wide, alphas=[1e-3, 1e-2], folds=2)


def test_a_search_of_wide_factors_chooses_as_fits_of_each_do():
    source, _ = rows("logistic", levels=(600, 7), n=1500, chunk=700)
    found = dask_gd.search(source, loss="logistic", alphas=[1e-3, 1e-1], folds=2, tol=1e-5)
    best = dask_gd.L2(found.best["alpha"])
    assert_allclose(found.refit().weights, schur(source, "logistic", penalty=best).weights, atol=1e-3)


@pytest.mark.parametrize("loss", ["logistic", "poisson"])
def test_a_resumed_fit_has_the_bits_of_an_uninterrupted_one(loss, tmp_path):
    source, _ = rows(loss, levels=(200, 30))
    whole = schur(source, loss)
    schur(source, loss, max_iter=2, store=tmp_path)
    resumed = schur(source, loss, store=tmp_path)
    assert len(whole.dropped_levels)
    assert_array_equal(resumed.weights, whole.weights)
    assert_array_equal(resumed.history.loss, whole.history.loss)
    assert_array_equal(dask_gd.load(tmp_path).dropped_levels, whole.dropped_levels)
    # Of the tables nothing is stored.
    size = max(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    assert size < 40 * 8 * len(whole.weights) + 40_000


def test_another_fit_begins_where_one_has_ended_with_levels_left_out():
    source, _ = rows("logistic", levels=(200, 30))
    run = schur(source, "logistic")
    again = schur(source, "logistic", initial_weights=run)
    assert again.n_iter == 0
    assert_array_equal(again.weights, run.weights)


def test_a_fit_goes_on_from_the_weights_of_another_without_beginning_anew():
    source, _ = rows("poisson", levels=(60, 8))
    penalty = dask_gd.L2(1e-3)
    near = schur(source, "poisson", penalty=penalty)
    further = schur(source, "poisson", penalty=dask_gd.L2(1.1e-3), initial_weights=near)
    assert further.n_iter <= 2
    assert_allclose(further.weights, schur(source, "poisson", penalty=dask_gd.L2(1.1e-3)).weights, atol=1e-8)


def test_codes_in_zarr_are_fitted_predicted_and_inferred_by_the_names_of_their_levels(tmp_path, clusters):
    rng = np.random.default_rng(5)
    n = 4000
    worker = rng.integers(0, 600, n, dtype=np.int16)
    firm = rng.integers(0, 40, n, dtype=np.uint8)
    x = rng.normal(size=n)
    z = x + rng.normal(size=600)[worker] + rng.normal(size=40)[firm]
    y = (rng.random(n) < 1 / (1 + np.exp(-z))).astype(float)
    group = zarr.open_group(tmp_path / "rows.zarr", mode="w")
    for name, values in {"x": x, "worker": worker, "firm": firm, "y": y}.items():
        group.create_array(name, data=values, chunks=(2000,), compressors=[zarr.codecs.Crc32cCodec()])
    group["worker"].attrs["levels"] = [f"w{i}" for i in range(600)]
    group["firm"].attrs["levels"] = [f"f{i}" for i in range(40)]
    source = dask_gd.open(tmp_path / "rows.zarr", x=["x", "worker", "firm"], y="y", drop=None)
    with Client(clusters(2)):
        run = dask_gd.fit(source, loss="logistic", tol=1e-9, store=tmp_path / "run")
    assert run.converged
    assert run.history.sizes["iteration"] < 10
    # The levels that are left out have no coefficients, and their rows no predictions.
    names = [f"worker=w{code}" for _, code in run.dropped_levels.tolist()]
    assert len(names) > 5
    assert np.isnan(run.weights.sel(feature=names)).all()
    prediction = run.predict(source).compute()
    assert_array_equal(np.isnan(prediction), np.isin(worker, run.dropped_levels[:, 1]))
    kept = ~np.isnan(prediction)
    assert_allclose(prediction[kept].mean(), y[kept].mean(), atol=1e-8)
    table = dask_gd.infer(dask_gd.load(tmp_path / "run"), source).table
    assert table.parameter.values.tolist() == ["x", *(f"firm=f{i}" for i in range(40)), "(intercept)"]
    assert_array_equal(np.isnan(table.standard_error), [False, True, *[False] * 39, True])


@pytest.mark.parametrize("unknown", ["error", "ignore"])
@pytest.mark.parametrize("drop", ["first", None])
def test_rows_of_a_reference_level_that_is_left_out_have_no_prediction(drop, unknown, caplog):
    """The reference has no coefficient that could be NaN, and what it is the reference of has no meaning for it."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"worker": rng.choice(["a", "b", "c", "d"], 400), "firm": rng.choice(["x", "y"], 400)})
    frame["number"] = rng.normal(size=400)
    frame["late"] = (rng.random(400) < 0.5).astype(int)
    frame.loc[frame.worker == "a", "late"] = 1
    options = dask_gd.Categories(drop=drop, handle_unknown=unknown)
    run = dask_gd.fit(frame, target="late", loss="logistic", solver="newton_schur", categorical=options)
    assert run.dropped_levels.tolist() == [[0, 0]]
    assert "(1): worker=a." in caplog.text
    for lazy in (False, True):
        rows = frame
        if lazy:
            rows = dd.from_pandas(frame, npartitions=3)
        prediction = np.asarray(run.predict(rows))
        assert_array_equal(np.isnan(prediction), frame.worker == "a")
    # The others are those of a fit without these rows.
    others = frame[frame.worker != "a"]
    without = dask_gd.fit(others, target="late", loss="logistic", categorical=options)
    assert_allclose(prediction[frame.worker != "a"], without.predict(others), atol=1e-6)


def test_the_number_of_workers_changes_no_bit(clusters):
    source, _ = rows("logistic", levels=(700, 30), n=3000, chunk=400)
    in_threads = schur(source, "logistic")
    with Client(clusters(2)):
        on_cluster = schur(source, "logistic")
    assert_array_equal(in_threads.weights, on_cluster.weights)
    assert_array_equal(in_threads.history.loss, on_cluster.history.loss)


def test_chunks_change_rounding_only():
    runs = [schur(rows("poisson", chunk=chunk)[0], "poisson") for chunk in (100, 333, 800)]
    for run in runs[1:]:
        assert_allclose(run.weights, runs[0].weights, atol=1e-8)


def test_a_code_that_is_no_level_is_named():
    source, y = rows()
    table = source.x.array.compute()
    table[17, 2] = 50
    with pytest.raises(DataError, match="row 17"):
        schur(coded_source(table[:, :2], table[:, 2:], y, LEVELS))
