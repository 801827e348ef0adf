"""A fit with weights in blocks finds what one with whole weights finds, and refuses what it cannot serve."""

import numpy as np
import pytest
import zarr
from blocks_here import N, here, opened, write
from helpers import add_array
from numpy.testing import assert_allclose, assert_array_equal

import dask_gd
from dask_gd import (
    L1,
    L2,
    Adam,
    ElasticNet,
    Gamma,
    GradientDescent,
    Hinge,
    Huber,
    Logistic,
    Model,
    Momentum,
    Nesterov,
    Poisson,
    Quantile,
    Squared,
    SquaredHinge,
    Tweedie,
)
from dask_gd.errors import DataError, InvalidArgumentError, NonFiniteError
from dask_gd.fitting import block_fit
from dask_gd.penalties import NonNegative
from dask_gd.weight_blocks import program, row_tasks, space

__all__ = ["here"]


def both(source, loss, **options):
    """Return a fit with whole weights, mostly by Newton's method, and one with weights in blocks."""
    options = {"penalty": L2(0.02), "tol": 1e-8, "max_iter": 200, **options}
    whole = dask_gd.fit(source, loss=loss, weights="whole", **options)
    blocks = dask_gd.fit(source, loss=loss, weights="blocks", **options)
    return whole, blocks


def is_softmax(run):
    """Return whether only differences of the intercepts mean anything."""
    return run.loss.name == "softmax"


def check_same(whole, blocks, of_weights=1e-6, of_loss=1e-10):
    assert blocks.reason in ("converged", "precision")
    assert whole.reason in ("converged", "precision")
    assert (blocks.weights.dims, blocks.weights.shape) == (whole.weights.dims, whole.weights.shape)
    assert (blocks.intercept.dims, blocks.intercept.shape) == (whole.intercept.dims, whole.intercept.shape)
    size = np.abs(whole.parameters).max()
    assert_allclose(blocks.weights.values, whole.weights.values, rtol=0, atol=of_weights * size)
    a, b = (run.intercept.values - is_softmax(run) * run.intercept.values.mean() for run in (whole, blocks))
    assert_allclose(b, a, rtol=0, atol=of_weights * size)
    assert_allclose(blocks.history.loss[-1], whole.history.loss[-1], rtol=of_loss)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Have pieces of weights and of rows so short that a block has several."""
    monkeypatch.setattr(program, "PIECE", 8)
    monkeypatch.setattr(row_tasks, "ROWS", 64)


@pytest.fixture(scope="module")
def sparse(tmp_path_factory):
    path = tmp_path_factory.mktemp("blocks") / "g.zarr"
    return path, write(path)


CASES = [
    (Logistic(), "binary", L2(0.02)),
    (Squared(), "real", L2(0.02)),
    (Huber(0.5), "real", L2(0.02)),
    (Hinge(0.5), "binary", L2(0.02)),
    (SquaredHinge(), "binary", L2(0.02)),
    (Quantile(0.3, 0.7), "real", L2(0.02)),
    (Poisson(), "count", L2(0.02)),
    (Gamma(), "positive", L2(0.02)),
    (Tweedie(1.5), "count", L2(0.02)),
    ("softmax", "classes", L2(0.02)),
    (Logistic(), "binary", L1(0.01)),
    (Squared(), "two", ElasticNet(0.02)),
    (Poisson(), "count", L1(0.01)),
    ("softmax", "classes", ElasticNet(0.02)),
]


@pytest.mark.parametrize(("loss", "y", "penalty"), CASES, ids=repr)
def test_the_minimum_is_that_of_whole_weights(sparse, here, loss, y, penalty):
    whole, blocks = both(opened(*sparse, y), loss, penalty=penalty)
    check_same(whole, blocks)
    if penalty.absolute():
        zeros = whole.weights.values == 0
        assert zeros.any()
        assert_array_equal(blocks.weights.values == 0, zeros)


@pytest.mark.parametrize(
    ("loss", "y", "beside", "fit_intercept"),
    [
        ("logistic", "binary", ("weight", "offset"), True),
        ("poisson", "count", ("weight", "offset"), True),
        ("poisson", "count", ("weight", "offset"), False),
        ("squared", "two", ("weight",), False),
        ("squared", "real", ("offset",), True),
        ("softmax", "classes", ("weight",), True),
        ("softmax", "classes", ("weight",), False),
    ],
)
def test_weights_of_rows_offsets_and_intercepts_are_taken_as_by_whole_weights(
    sparse, here, loss, y, beside, fit_intercept
):
    source = opened(*sparse, y, weight="weight" in beside, offset="offset" in beside)
    check_same(*both(source, loss, fit_intercept=fit_intercept))


@pytest.mark.parametrize("penalty", [L2(0.05), L1(0.02)], ids=repr)
@pytest.mark.parametrize("kind", ["sparse <f4", "codes", "dense", "dense <f4"])
def test_features_of_each_kind_are_fitted(tmp_path, here, kind, penalty):
    names = write(tmp_path / "g.zarr", kind)
    options = {}
    if kind == "codes":
        options["drop"] = None
    source = opened(tmp_path / "g.zarr", names, **options)
    if source.dtype == np.float32:
        check_same(*both(source, "logistic", penalty=penalty, tol=1e-6), of_weights=1e-4, of_loss=1e-7)
    else:
        check_same(*both(source, "logistic", penalty=penalty))


@pytest.mark.parametrize(
    ("loss", "penalty", "tol"),
    [("logistic", L2(1e-5), 1e-10), ("softmax", L2(1e-3), 1e-8), ("logistic", L1(1e-2), 1e-8)],
)
def test_changes_in_float32_cost_no_step_and_no_digit(sparse, here, monkeypatch, loss, penalty, tol):
    source = opened(*sparse, y="classes" if loss == "softmax" else "binary")
    whole, exact = both(source, loss, penalty=penalty, tol=tol)
    monkeypatch.setattr(space, "EXACT_UP_TO", 1)
    _, short = both(source, loss, penalty=penalty, tol=tol)
    assert short.reason == "converged"
    assert short.n_iter <= exact.n_iter + 1
    check_same(whole, short)


def test_more_rows_than_features_need_no_penalty(sparse, here):
    check_same(*both(opened(*sparse), "logistic", penalty=None), of_weights=1e-5)


@pytest.mark.parametrize(
    ("solver", "penalty", "fit_intercept"),
    [
        (GradientDescent(0.5), L2(0.1), False),
        (GradientDescent(0.5, decay=0.01), L2(0.1), True),
        (GradientDescent(0.5), L1(0.03), True),
        (Momentum(0.1), L2(0.1), False),
        (Nesterov(0.5), L2(0.1), True),
        (Nesterov(0.5), ElasticNet(0.05), False),
        (Adam(0.05), L2(0.1), True),
    ],
    ids=repr,
)
def test_solvers_take_the_steps_that_they_take_with_whole_weights(sparse, here, solver, penalty, fit_intercept):
    source = opened(*sparse)
    whole, blocks = both(
        source, "logistic", penalty=penalty, solver=solver, tol=0.0, max_iter=15, fit_intercept=fit_intercept
    )
    assert blocks.n_iter == whole.n_iter == 15
    assert_allclose(blocks.history.loss, whole.history.loss, rtol=1e-10)
    assert_allclose(blocks.history.grad_norm, whole.history.grad_norm, rtol=1e-7)
    assert_allclose(blocks.history.step_size, whole.history.step_size, rtol=1e-7)
    assert_allclose(blocks.parameters, whole.parameters, atol=1e-8)


def test_some_rows_of_a_store_are_fitted_alone(sparse, here):
    check_same(*both(opened(*sparse, rows=slice(37, 401)), "logistic"))


def test_a_start_is_given_as_to_whole_weights(sparse, here):
    source = opened(*sparse, "classes")
    p = source.shape[1]
    rng = np.random.default_rng(0)
    start = rng.normal(size=(p, 3)) / 9
    for given in (start, np.vstack([start, rng.normal(size=3)])):
        whole, blocks = both(source, "softmax", initial_weights=given, solver="lbfgs", max_iter=2, tol=0.0)
        assert_allclose(blocks.history.loss, whole.history.loss, rtol=1e-12)
    again = dask_gd.fit(source, loss="softmax", weights="blocks", penalty=L2(0.02), initial_weights=whole, max_iter=0)
    assert_allclose(again.history.loss[0], whole.history.loss[-1], rtol=1e-12)
    assert_array_equal(again.weights.values, whole.weights.values)
    # From a fit in blocks too.
    once = dask_gd.fit(source, loss="softmax", weights="blocks", penalty=L2(0.02), initial_weights=blocks, max_iter=0)
    assert_array_equal(once.weights.values, blocks.weights.values)


def test_rows_whose_targets_are_nan_are_left_out_where_that_is_asked(tmp_path, here):
    names = write(tmp_path / "g.zarr")
    group = zarr.open_group(tmp_path / "g.zarr")
    for name, row in (("binary", 5), ("weight", 300), ("offset", 170)):
        group[name][row] = np.nan
    source = opened(tmp_path / "g.zarr", names, weight=True, offset=True)
    whole, blocks = both(source, "logistic", nan="drop")
    check_same(whole, blocks)
    assert blocks.dropped == whole.dropped == 3


def test_a_fit_to_nothing_but_zeros_ends(tmp_path, here):
    """Weights that never leave 0, where the strength of the absolute values is above every slope."""
    source = opened(tmp_path / "g.zarr", write(tmp_path / "g.zarr"))
    whole, blocks = both(source, "logistic", penalty=L1(10.0))
    check_same(whole, blocks)
    assert not blocks.weights.values.any()


# What is refused, before the first task.


def refused(here, source, match, error=InvalidArgumentError, **options):
    before = here.tasks
    with pytest.raises(error, match=match):
        dask_gd.fit(source, **{"loss": "logistic", "weights": "blocks", **options})
    return here.tasks - before


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"weights": "nonsense"}, "weights='nonsense' is not known; choose one of auto, blocks, whole"),
        ({"solver": "newton"}, "solver=Newton.*needs all weights in one place; choose lbfgs"),
        ({"solver": "newton_schur"}, "newton_schur|NewtonSchur"),
        ({"solver": "sgd"}, "solver=SGD.*choose lbfgs"),
        ({"solver": "admm"}, "solver=ADMM.*choose lbfgs"),
        ({"solver": "local_sgd"}, "solver=LocalSGD.*choose lbfgs"),
        ({"loss": "quantile"}, "Quantile.*give it a smoothing"),
        ({"penalty": L2(np.ones(48))}, "one number for all features.*or weights='whole'"),
        ({"penalty": L1(np.ones(48))}, "one number for all features"),
        ({"penalty": dask_gd.GroupLasso(0.1, np.arange(48) // 2), "solver": "nesterov"}, "one number for all features"),
        ({"penalty": NonNegative(), "solver": "nesterov"}, "one number for all features"),
        ({"initial_weights": np.zeros(47)}, r"initial_weights has shape \(47,\); this fit has 48 features"),
        ({"initial_weights": np.zeros((48, 2))}, r"initial_weights has shape \(48, 2\)"),
        ({"initial_weights": np.zeros((2, 48))}, r"initial_weights has shape \(2, 48\)"),
        ({"initial_weights": np.zeros((49,)), "fit_intercept": False}, r"initial_weights has shape \(49,\)"),
        ({"initial_weights": np.full(48, np.nan)}, "initial_weights holds NaN or infinity"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_in_blocks_is_refused_before_the_first_task(sparse, here, options, match):
    y = "real" if options.get("loss") == "quantile" else "binary"
    assert refused(here, opened(*sparse, y), match, **options) == 0


@pytest.mark.parametrize("weights", ["blocks", "nonsense"])
def test_a_model_is_refused(tmp_path, here, weights):
    names = write(tmp_path / "g.zarr", "dense")
    model = Model(lambda params, x, y, weight: (0.0, params), {"a": 0.0})
    assert refused(here, opened(tmp_path / "g.zarr", names, "real"), "weights=", loss=model, weights=weights) == 0


def test_without_a_cluster_blocks_are_refused(sparse):
    with pytest.raises(InvalidArgumentError, match=r"there is none: start a dask.distributed.Client"):
        dask_gd.fit(opened(*sparse), weights="blocks")


def test_features_that_are_not_in_columns_are_refused_with_what_writes_them_so(tmp_path, here):
    write(tmp_path / "g.zarr")
    group = zarr.open_group(tmp_path / "g.zarr")
    add_array(group, "rows", np.ones((N, 4)), (50, 4))
    for x in ("rows", "f0"):
        source = opened(tmp_path / "g.zarr", x)
        assert refused(here, source, r"is not stored by columns.*dask_gd\.block_columns") == 0
    assert refused(here, np.ones((N, 3)), r"dask_gd\.block_columns", y=np.ones(N)) == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("nan", ["error", "drop"])
@pytest.mark.parametrize("start", [None, 0.5])
def test_a_value_of_a_feature_that_is_not_finite_is_named(tmp_path, here, value, nan, start):
    names = write(tmp_path / "g.zarr")
    group = zarr.open_group(tmp_path / "g.zarr")
    indptr = group["f2"]["indptr"][:]
    # The first row from 200 on that has an entry.
    row = 200 + int(np.argmax(np.diff(indptr)[200:] > 0))
    entry = indptr[row]
    group["f2"]["data"][entry] = value
    column = group["f2"]["indices"][entry]
    source = opened(tmp_path / "g.zarr", names)
    given = None if start is None else np.full(48, start)
    match = rf"{value:g}.* in row {row}, column {column} of .*f2"
    refused(here, source, match, error=DataError, initial_weights=given, nan=nan)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("role", ["binary", "weight", "offset"])
def test_a_value_beside_the_features_that_is_not_finite_is_named(tmp_path, here, value, role):
    names = write(tmp_path / "g.zarr")
    zarr.open_group(tmp_path / "g.zarr")[role][311] = value
    source = opened(tmp_path / "g.zarr", names, weight=True, offset=True)
    refused(here, source, f"{value} in row 311 of .*{role}", error=NonFiniteError)


def test_negative_weights_and_unknown_targets_are_named(tmp_path, here):
    names = write(tmp_path / "g.zarr")
    group = zarr.open_group(tmp_path / "g.zarr")
    group["weight"][250] = -1.0
    group["count"][123] = -2.0
    group["binary"][77] = 3.0
    path = tmp_path / "g.zarr"
    refused(
        here, opened(path, names, weight=True, y="real"), r"Negative weight -1.0 in row 250", DataError, loss="squared"
    )
    refused(
        here,
        opened(path, names, "count"),
        r"takes targets numbers of 0 or more; found -2 in row 123",
        DataError,
        loss="poisson",
    )
    refused(here, opened(path, names), r"logistic loss takes .* found 3 in row 77", DataError)
    group["weight"][:] = 0.0
    refused(here, opened(path, names, "real", weight=True, missing="fill"), "row weights sum to 0", loss="squared")


# Which is chosen.


def ways(monkeypatch):
    """Return a list that fills with the way of each fit."""
    taken = []
    real = block_fit.fit_in_blocks

    def noted(*arguments, **options):
        taken.append("blocks")
        return real(*arguments, **options)

    monkeypatch.setattr("dask_gd.fitting.fit.fit_in_blocks", noted)
    return taken


def test_weights_are_in_blocks_where_they_and_the_solver_exceed_a_quarter_of_the_memory(sparse, here, monkeypatch):
    taken = ways(monkeypatch)
    # Blocks of few weights need more than these limits.
    monkeypatch.setattr(block_fit, "_has_room", lambda *arguments: True)
    monkeypatch.setattr(block_fit, "check_block_room", lambda *arguments: None)
    source = opened(*sparse)
    options = {"loss": "logistic", "solver": "lbfgs", "penalty": L2(0.1), "max_iter": 0}
    # 2 x 10 + 6 vectors of 49 weights.
    needed = 4 * 26 * 8 * 49
    for limit, expected in ((needed, []), (needed - 1, ["blocks"])):
        here.limits["here://2"] = limit
        dask_gd.fit(source, **options)
        assert taken == expected
        taken.clear()
    # Of the client too.
    here.limits["here://2"] = 0  # none
    for limit, expected in ((needed, []), (needed - 1, ["blocks"])):
        monkeypatch.setattr(block_fit, "memory_of_process", lambda limit=limit: limit)
        dask_gd.fit(source, **options)
        assert taken == expected
        taken.clear()
    dask_gd.fit(source, **options, weights="whole")
    assert not taken
    # As many vectors as the solver has, and as many outputs.
    dask_gd.fit(source, **{**options, "solver": "nesterov"})
    assert not taken
    monkeypatch.setattr(block_fit, "memory_of_process", lambda: 3 * needed - 1)
    dask_gd.fit(opened(*sparse, "classes"), **{**options, "loss": "softmax"})
    assert taken == ["blocks"]


@pytest.mark.parametrize(
    "options",
    [
        {"penalty": NonNegative(), "solver": "nesterov"},
        {"penalty": L2(np.full(48, 0.1)), "solver": "lbfgs"},
        {"penalty": dask_gd.GroupLasso(0.1, np.arange(48) // 2), "solver": "nesterov"},
        {"solver": "newton"},
        {"loss": Quantile(0.5)},
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_in_blocks_is_whole_unless_asked(sparse, here, monkeypatch, options):
    taken = ways(monkeypatch)
    monkeypatch.setattr(block_fit, "SHARE", 0.0)
    options = {"loss": "squared", "penalty": L2(0.1), "max_iter": 60, "tol": 1e-3, **options}
    source = opened(*sparse, "real")
    run = dask_gd.fit(source, **options)
    assert not taken
    assert_array_equal(run.parameters, dask_gd.fit(source, **options, weights="whole").parameters)


def test_a_value_of_a_dense_feature_is_named_by_its_number_in_the_array(tmp_path, here):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 20))
    x[70, 13] = np.nan
    path = tmp_path / "dense.zarr"
    group = zarr.open_group(path, mode="w")
    add_array(group, "X", x, (30, 5))
    add_array(group, "y", rng.normal(size=90), (90,))
    with pytest.raises(NonFiniteError, match="nan in row 70, column 13 of 'X'"):
        dask_gd.fit(dask_gd.open(path, x="X", y="y"), weights="blocks")
