"""Rows of numbers and codes: what they are to the rows written out, where they come from, and what is refused."""

import dask
import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from helpers import EVERY, to_zarr
from numpy.testing import assert_allclose, assert_array_equal

import dask_gd
from dask_gd.cli import main
from dask_gd.errors import DataError, InvalidArgumentError, InvalidTypeError, NonFiniteError, StoreMismatchError
from dask_gd.kernels.base import BOUND, EXACT, Kernel, Part, Request
from dask_gd.kernels.codes import CodedRows
from dask_gd.kernels.dense import DenseRows
from dask_gd.kernels.factors import BLOCK, Factor
from dask_gd.passes import plan
from dask_gd.passes.evaluation import evaluate

N = 900
LEVELS = {"hour": [6, 0, 12, 18], "day": ["Mon", "Tue", "Sun"], "airport": [f"A{i}" for i in range(40)]}
NAMES = ["distance", "hour", "day", "height", "airport"]


def codes(n=N, seed=0):
    """Return the columns of rows, three of them codes; every level occurs."""
    rng = np.random.default_rng(seed)
    found = {"distance": rng.normal(size=n), "height": rng.normal(size=n) + 2}
    for name, levels in LEVELS.items():
        found[name] = rng.permutation(np.arange(n) % len(levels)).astype("uint8")
    return found


def written_out(columns, drop=None):
    """Return the same rows with an indicator for each level."""
    parts = []
    for name in NAMES:
        if name in LEVELS:
            every = np.arange(drop == "first", len(LEVELS[name]))
            parts.append((columns[name][:, None] == every).astype(float))
        else:
            parts.append(columns[name][:, None])
    return np.ascontiguousarray(np.hstack(parts))


def group_of(path, columns, y, chunks=(100, 130, 70), **others):
    """Write the columns to a group in the three ways in which codes may lie there."""
    group = zarr.open_group(path, mode="w")
    to_zarr(columns["distance"], chunks[0], path / "distance")
    to_zarr(columns["height"], chunks[0], path / "height")
    to_zarr(np.column_stack([columns["hour"], columns["day"]]).astype("int16"), chunks[1], path / "hour and day")
    group["hour and day"].attrs.update(levels=[LEVELS["hour"], LEVELS["day"]], feature_names=["hour", "day"])
    categorical = group.create_group("airport", attributes={"encoding-type": "categorical"})
    to_zarr(columns["airport"].astype("int8"), chunks[2], path / "airport" / "codes")
    names = np.array(LEVELS["airport"])
    categorical.create_array("categories", shape=names.shape, dtype=str, chunks=names.shape)[...] = names
    for name, values in {"y": y, **others}.items():
        to_zarr(np.asarray(values), 60, path / name)
    return path


X = ["distance", "hour and day", "height", "airport"]


def opened(path, loss=None, drop=None, seed=0, **others):
    """Return a source of codes and the same rows written out, with their targets."""
    columns = codes(seed=seed)
    x = written_out(columns, drop)
    z = x @ np.random.default_rng(1).normal(size=x.shape[1]) / 2
    rng = np.random.default_rng(2)
    if loss is None or loss.name in ("squared", "huber", "quantile"):
        y = z + rng.normal(size=N)
    elif loss.targets.startswith("0 and 1"):
        y = (z - z.mean() + rng.logistic(size=N) > 0).astype(float)
    else:
        y = rng.gamma(2.0, np.exp(z / 4))
        if loss.name == "poisson":
            y = rng.poisson(np.exp(z / 4)).astype(float)
    group_of(path / "g", columns, y, **others)
    names = {name: name for name in others}
    return dask_gd.open(path / "g", x=X, y="y", drop=drop, **names), x, y


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("m", [1, 3])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("loss", [dask_gd.Squared(), dask_gd.Logistic(), dask_gd.Softmax(classes=3)], ids=repr)
def test_sums_are_those_of_the_rows_written_out(loss, weighted, m, intercept):
    columns = codes(BLOCK + 500)
    factors = tuple(Factor(len(LEVELS[name]), name == "day") if name in LEVELS else None for name in NAMES)
    coded = CodedRows(factors)
    rows = coded.cast(tuple(columns[name] for name in NAMES), None)
    dense = coded.dense(rows)
    rng = np.random.default_rng(0)
    k = 3 if loss.name == "softmax" else 1
    query = rng.normal(size=(coded.features + intercept, k, m)) / 4
    y = rng.integers(0, k if k > 1 else 2, (len(dense), 1)).astype(float)
    weight = rng.random(len(y)) if weighted else None
    shift = np.where(coded.can_shift, 1.5, 0.0)
    for request in (Request(EXACT, moments=True), Request(BOUND, shift=shift), Request(EXACT, shift=shift)):
        found = []
        for row_format, x in ((coded, rows), (DenseRows(np.dtype(float), coded.features), dense)):
            kernel = Kernel(Part(0, query, loss, request, row_format))
            kernel.add(row_format.take(x, slice(0, 700)), y[:700], weight if weight is None else weight[:700])
            kernel.add(row_format.take(x, np.arange(700, len(y))), y[700:], weight if weight is None else weight[700:])
            sums = kernel.sums()
            found.append([sums.weight, sums.loss, sums.gradient, sums.curvature, *(sums.moments or ())])
        for ours, expected in zip(*found, strict=True):
            assert_allclose(ours, expected, rtol=1e-10, atol=1e-8)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", ">i2", "uint32", ">u4", "int64", ">i8", "float64"])
@pytest.mark.parametrize("levels", [(2, 2), (3, 300), (50, 50, 2)])
@pytest.mark.parametrize("in_runs", [False, True])
def test_codes_of_every_dtype_number_of_levels_and_order(dtype, levels, in_runs):
    rng = np.random.default_rng(0)
    rows = tuple(rng.integers(0, min(count, 120), 1000).astype(dtype) for count in levels)
    if in_runs:
        order = np.lexsort(rows)
        rows = tuple(column[order] for column in rows)
    coded = CodedRows(tuple(map(Factor, levels)))
    workspace = coded.workspace(None)
    dense = coded.dense(coded.cast(rows, None))
    assert_array_equal(dense.sum(axis=1), len(levels))
    w = rng.normal(size=(coded.features, 2))
    block = workspace.block(coded.cast(rows, None))
    assert_allclose(block.times(workspace.weights(w)), dense @ w, atol=1e-12)
    gram, sums, h = np.zeros((coded.features,) * 2), np.zeros(coded.features), rng.random(1000)
    adds = workspace.gram_sum(gram, sums)
    for _ in range(2):
        adds.add(block, h)
    adds.flush()
    assert_allclose(gram, 2 * dense.T @ (h[:, None] * dense), atol=1e-10)
    assert_allclose(sums, 2 * h @ dense, atol=1e-10)
    adds.flush()
    assert_allclose(sums, 2 * h @ dense, atol=1e-10)


@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_a_missing_code_is_none_of_very_many_levels(dtype):
    """As a number without a sign -1 would be the last level that such a number can be."""
    count = np.iinfo(f"u{dtype}").max + 1
    rows = (np.array([0, -1, 5], dtype), np.arange(3))
    coded = CodedRows((Factor(count), Factor(3)))
    workspace = coded.workspace(None)
    z = workspace.block(coded.cast(rows, None)).times(workspace.weights(np.ones((coded.features, 1))))
    assert np.isnan(z[:, 0]).tolist() == [False, True, False]
    assert coded.first_bad(coded.cast(rows, None)).row == 1


SMOOTH = [loss for loss in EVERY if loss.smooth]


@pytest.mark.parametrize("loss", SMOOTH, ids=repr)
def test_a_fit_to_codes_is_the_fit_to_the_rows_written_out(loss, tmp_path):
    source, x, y = opened(tmp_path, loss)
    options = {"loss": loss, "penalty": dask_gd.L2(1e-3), "tol": 1e-8}
    run, dense = dask_gd.fit(source, **options), dask_gd.fit(x, y, **options)
    assert run.converged
    assert dense.converged
    assert_allclose(run.parameters, dense.parameters, rtol=1e-5, atol=1e-6)
    assert run.weights.feature.values[:6].tolist() == ["distance", "hour=6", "hour=0", "hour=12", "hour=18", "day=Mon"]
    assert_allclose(run.predict(source).compute(), dense.predict(x), rtol=1e-5, atol=1e-6)


WAYS = {
    "no penalty": {"tol": 1e-6},
    "lasso": {"penalty": dask_gd.L1(1e-2)},
    "elastic net": {"penalty": dask_gd.ElasticNet(1e-2, 0.5)},
    "groups": {"penalty": dask_gd.GroupLasso(1e-2, ["d", *4 * ["h"], *3 * ["w"], "z", *40 * ["a"]])},
    "L-BFGS": {"penalty": dask_gd.L2(1e-2), "solver": "lbfgs"},
    "Nesterov": {"penalty": dask_gd.L2(1e-1), "solver": "nesterov", "max_iter": 2000, "tol": 1e-6},
    "ADMM": {"penalty": dask_gd.L2(1e-1), "solver": "admm", "max_iter": 200, "tol": 1e-5},
    "no intercept": {"penalty": dask_gd.L2(1e-2), "fit_intercept": False},
}


@pytest.mark.parametrize("drop", [None, "first"])
@pytest.mark.parametrize("way", WAYS)
def test_every_penalty_and_solver_takes_codes(way, drop, tmp_path):
    if way == "groups" and drop:
        pytest.skip("the groups are those of all levels")
    source, x, y = opened(tmp_path, dask_gd.Logistic(), drop)
    options = {"loss": "logistic", "tol": 1e-7, **WAYS[way]}
    run, dense = dask_gd.fit(source, **options), dask_gd.fit(x, y, **options)
    assert run.reason == dense.reason
    assert_allclose(run.history.loss[-1], dense.history.loss[-1], rtol=1e-8)
    # What codes leave undetermined without a penalty is determined for the predictions.
    assert_allclose(run.predict(source).compute(), dense.predict(x), atol=2e-5)


def test_weights_offsets_folds_and_inference(tmp_path):
    rng = np.random.default_rng(5)
    s, o = rng.uniform(0.5, 2, N), rng.normal(size=N)
    source, x, y = opened(tmp_path, dask_gd.Logistic(), "first", sample_weight=s, offset=o)
    run = dask_gd.fit(source, loss="logistic", tol=1e-9)
    dense = dask_gd.fit(x, y, sample_weight=s, offset=o, loss="logistic", tol=1e-9)
    assert_allclose(run.parameters, dense.parameters, atol=1e-6)
    ours, theirs = dask_gd.infer(run, source), dask_gd.infer(dense, x, y, sample_weight=s, offset=o)
    assert_allclose(ours.table.standard_error, theirs.table.standard_error, rtol=1e-6)
    assert "airport=A1" in ours.table.parameter
    options = {"loss": "logistic", "Cs": np.geomspace(1e-2, 1, 3), "folds": 3}
    found, expected = dask_gd.search(source, **options), dask_gd.search(x, y, sample_weight=s, offset=o, **options)
    assert_allclose(found.scores, expected.scores, atol=1e-9)
    assert_allclose(found.refit().predict(source).compute(), expected.refit().predict(x, offset=o), atol=1e-6)


def test_classes_take_codes(tmp_path):
    source, x, y = opened(tmp_path)
    classes = np.digitize(y, np.quantile(y, [0.3, 0.6])).astype(float)
    to_zarr(classes, 60, tmp_path / "g" / "classes")
    source = dask_gd.open(tmp_path / "g", x=X, y="classes")
    options = {"loss": "softmax", "penalty": dask_gd.L2(1e-3), "tol": 1e-8}
    assert_allclose(dask_gd.fit(source, **options).weights, dask_gd.fit(x, classes, **options).weights, atol=1e-5)


def test_ill_conditioned_least_squares_take_codes(tmp_path):
    """Where the normal equations lose digits rows are taken in another basis, some of them written out at a time."""
    columns = codes()
    columns["height"] = columns["distance"] + 1e-7 * columns["height"]
    y = columns["height"] * 3 + columns["hour"] + 0.1 * np.random.default_rng(0).normal(size=N)
    group_of(tmp_path / "g", columns, y)
    source = dask_gd.open(tmp_path / "g", x=X, y="y", drop="first")
    run, dense = dask_gd.fit(source, tol=1e-10), dask_gd.fit(written_out(columns, "first"), y, tol=1e-10)
    assert run.reason == dense.reason
    assert_allclose(run.predict(source).compute(), dense.predict(written_out(columns, "first")), atol=1e-6)


def test_curvatures_of_small_partitions_are_summed_as_one(tmp_path, monkeypatch):
    """However few rows a partition has, and however partitions share tasks."""
    n = 20_000
    columns = codes(n)
    y = (np.random.default_rng(2).random(n) < 0.4).astype(float)
    group_of(tmp_path / "g", columns, y, chunks=(500, 500, 500))
    source = dask_gd.open(tmp_path / "g", x=X, y="y")
    entries = (source.shape[1] + 1) ** 2
    together = plan.summed_together(source, source.partitions, entries)
    # More rows than entries, or as few sums as are allowed.
    assert together > 1
    sums = -(-source.partitions // together)
    assert plan.FEWEST_SUMS <= sums < 2 * plan.FEWEST_SUMS or together * n >= entries * source.partitions
    assert plan.summed_together(source, plan.FEWEST_SUMS, entries) == 1

    # The bits do not depend on the tasks, and the numbers not on the partitions.
    query = np.random.default_rng(0).normal(size=(source.shape[1] + 1, 1, 1)) / 4
    found = []
    for each in (1, 3, 64):
        monkeypatch.setattr(plan, "TASKS_EACH", each)
        for limit in (0, plan.LARGE_SUMS):
            monkeypatch.setattr(plan, "LARGE_SUMS", limit)
            found.append(evaluate(source, query, dask_gd.Logistic(), Request(EXACT), f"as-one-{each}-{limit}", 0))
    for other in found[1:]:
        assert_array_equal(other.gradient, found[0].gradient)
        assert_array_equal(other.curvature, found[0].curvature)
    assert found[0].rows == n
    x = written_out(columns)
    kernel = Kernel(Part(0, query, dask_gd.Logistic(), Request(EXACT), DenseRows(np.dtype(float), x.shape[1])))
    kernel.add(x, y[:, None], None)
    assert_allclose(found[0].curvature, kernel.sums().curvature, rtol=1e-10, atol=1e-10)


def test_workers_threads_and_chunks_change_no_bit(tmp_path, two):
    source, _, _ = opened(tmp_path, dask_gd.Logistic())
    options = {"loss": "logistic", "penalty": dask_gd.L2(1e-3), "tol": 1e-9}
    on_workers = dask_gd.fit(source, **options)
    assert source.partitions > 2
    with dask.config.set(scheduler="sync"):
        alone = dask_gd.fit(dask_gd.open(tmp_path / "g", x=X, y="y"), **options)
    assert_array_equal(on_workers.parameters, alone.parameters)


def test_a_run_is_resumed_and_loaded_with_its_levels(tmp_path):
    source, _, _ = opened(tmp_path, dask_gd.Logistic())
    options = {"loss": "logistic", "penalty": dask_gd.L2(1e-3), "tol": 1e-9}
    whole = dask_gd.fit(source, **options)
    dask_gd.fit(source, store=tmp_path / "run", max_iter=30, **options, callbacks=[stop_after(2)])
    resumed = dask_gd.fit(source, store=tmp_path / "run", **options)
    assert_array_equal(resumed.parameters, whole.parameters)
    loaded = dask_gd.load(tmp_path / "run")
    assert loaded.encoding == source.x.encoding
    assert_array_equal(loaded.predict(source).compute(), whole.predict(source).compute())


def stop_after(iteration):
    def stop(event):
        if getattr(event, "iteration", -1) >= iteration:
            raise dask_gd.events.StopFit("enough")

    return stop


@pytest.mark.parametrize(
    "change",
    [
        lambda columns: columns["hour"].__setitem__(17, 4),
        lambda columns: columns["day"].__setitem__(17, 200),
        lambda columns: columns["airport"].__setitem__(17, 40),
    ],
)
@pytest.mark.parametrize("solver", ["newton", "lbfgs", "sgd"])
def test_a_code_that_is_none_is_refused_by_its_row(change, solver, tmp_path):
    columns = codes()
    change(columns)
    group_of(tmp_path / "g", columns, columns["distance"] > 0)
    source = dask_gd.open(tmp_path / "g", x=X, y="y")
    with pytest.raises(NonFiniteError, match=r"row 17.*no code of a level; codes are 0 to"):
        dask_gd.fit(source, loss="logistic", penalty=dask_gd.L2(1e-3), solver=solver)
    run = dask_gd.fit(opened(tmp_path / "good", dask_gd.Logistic())[0], loss="logistic", penalty=dask_gd.L2(1e-3))
    with pytest.raises(DataError, match=r"no code of a level; the fit had"):
        run.predict(source).compute()


def test_rows_that_lack_a_level_are_refused_or_left_out(tmp_path):
    columns = codes()
    y = columns["distance"] + columns["hour"]
    airport = columns["airport"].astype("int8")
    airport[[3, 500]] = -1
    group_of(tmp_path / "g", {**columns, "airport": airport}, y)
    source = dask_gd.open(tmp_path / "g", x=X, y="y")
    with pytest.raises(NonFiniteError, match=r"nan in row (3|500).*'airport/codes'.*nan='drop'"):
        dask_gd.fit(source, penalty=dask_gd.L2(1e-3))
    run = dask_gd.fit(source, penalty=dask_gd.L2(1e-3), nan="drop")
    kept = np.delete(np.arange(N), [3, 500])
    dense = dask_gd.fit(written_out(columns)[kept], y[kept], penalty=dask_gd.L2(1e-3))
    assert run.dropped == 2
    assert_allclose(run.parameters, dense.parameters, atol=1e-6)
    assert np.flatnonzero(np.isnan(run.predict(source).compute())).tolist() == [3, 500]


def with_attribute(name, levels):
    return lambda group: group[name].attrs.update(levels=levels)


BAD = {
    "a list of levels for one column": (with_attribute("hour and day", [LEVELS["hour"]]), DataError, "2 columns"),
    "no list": (with_attribute("hour and day", ["a", "b"]), DataError, "must be a list"),
    "twice": (with_attribute("hour and day", [["a", "a"], ["b", "c"]]), DataError, "'a' more than once"),
    "1 and '1'": (with_attribute("hour and day", [[1, "1"], ["b", "c"]]), DataError, "'1' more than once"),
    "one": (with_attribute("hour and day", [["a"], ["b", "c"]]), DataError, "a single level, 'a'"),
    "none": (with_attribute("hour and day", [[], ["b", "c"]]), DataError, "at least one"),
    "numbers with levels": (with_attribute("distance", ["a", "b"]), InvalidTypeError, "float64; codes are whole"),
    "scaled": (lambda group: group["hour and day"].attrs.update(scale_factor=0.5), InvalidTypeError, "scale_factor"),
    "no number": (with_attribute("hour and day", [[1.0, float("nan")], ["b", "c"]]), DataError, "finite"),
    "missing": (with_attribute("hour and day", [[None, "missing"], ["b", "c"]]), DataError, "'missing' more than once"),
    "other levels": (with_attribute("hour and day", [[[1], [2]], ["b", "c"]]), DataError, "names or numbers"),
}


@pytest.mark.parametrize("fault", BAD)
def test_levels_that_cannot_be_are_refused_before_a_row_is_read(fault, tmp_path):
    change, error, message = BAD[fault]
    change(zarr.open_group(group_of(tmp_path / "g", codes(), np.zeros(N)), mode="a"))
    with pytest.raises(error, match=message):
        dask_gd.open(tmp_path / "g", x=X, y="y")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": []}, "list of such names"),
        ({"x": ["distance", "distance"]}, "occurs twice"),
        ({"x": ["distance", "nothing"]}, "no such array"),
        ({"x": [*X, "hour=6"]}, "Two features are named 'hour=6'"),
        ({"x": ["distance", "short"]}, "900 rows but 'short' has 10"),
        ({"x": X, "drop": "last"}, "'first' or None"),
    ],
)
def test_names_that_cannot_be_are_refused(arguments, message, tmp_path):
    group_of(tmp_path / "g", codes(), np.zeros(N))
    to_zarr(np.zeros(10), 10, tmp_path / "g" / "short")
    to_zarr(np.zeros(N), N, tmp_path / "g" / "hour=6")
    with pytest.raises(InvalidArgumentError, match=message):
        dask_gd.open(tmp_path / "g", **{"y": "y", **arguments})


def test_a_list_of_one_column_of_numbers_is_a_table_of_one(tmp_path):
    columns = codes()
    group_of(tmp_path / "g", columns, columns["distance"] + 1.0)
    run = dask_gd.fit(dask_gd.open(tmp_path / "g", x=["distance"], y="y"))
    assert run.weights.feature.values.tolist() == ["distance"]
    assert_allclose(run.parameters[:, 0], [1.0, 1.0])


def test_members_of_groups_are_named_by_their_paths(tmp_path):
    """As anndata writes columns that may lack values, whose mask must not be overlooked."""
    group = zarr.open_group(group_of(tmp_path / "g", codes(), np.zeros(N)), mode="a")
    counts = group.create_group("obs/counts")
    to_zarr(np.zeros(N), N, tmp_path / "g" / "obs" / "counts" / "values")
    to_zarr(np.zeros(N, bool), N, tmp_path / "g" / "obs" / "counts" / "mask")
    to_zarr(np.zeros(N), N, tmp_path / "g" / "obs" / "age")
    assert "values" in counts
    with pytest.raises(InvalidTypeError, match=r"its mask says where.*with NaN"):
        dask_gd.open(tmp_path / "g", x=["distance", "obs/counts"], y="y")
    with pytest.raises(InvalidArgumentError, match=r"no such array in .*; it has obs/age\."):
        dask_gd.open(tmp_path / "g", x=["distance", "obs/aeg"], y="y")


def test_codes_of_other_levels_are_not_predicted(tmp_path):
    run = dask_gd.fit(opened(tmp_path, dask_gd.Logistic())[0], loss="logistic", penalty=dask_gd.L2(1e-3))
    group = zarr.open_group(group_of(tmp_path / "other", codes(), np.zeros(N)), mode="a")
    group["hour and day"].attrs.update(levels=[[0, 6, 12, 18], LEVELS["day"]])
    with pytest.raises(InvalidArgumentError, match=r"'hour'.*code 0 is 0 where it was 6"):
        run.predict(dask_gd.open(tmp_path / "other", x=X, y="y"))
    # Nor are standard errors theirs, or a search's fit.
    run = dask_gd.fit(opened(tmp_path, dask_gd.Logistic())[0], loss="logistic")
    with pytest.raises(InvalidArgumentError, match=r"infer: column 'hour'.*code 0 is 0 where it was 6"):
        dask_gd.infer(run, dask_gd.open(tmp_path / "other", x=X, y="y"))
    swapped = [X[1], X[0], *X[2:]]
    with pytest.raises(InvalidArgumentError, match=r"infer: these data have the columns"):
        dask_gd.infer(run, dask_gd.open(tmp_path / "g", x=swapped, y="y"))
    found = dask_gd.search(dask_gd.open(tmp_path / "g", x=X, y="y"), loss="logistic", alphas=[0.1, 1.0], max_iter=5)
    with pytest.raises(InvalidArgumentError, match=r"refit: column 'hour'.*code 0 is 0 where it was 6"):
        found.refit(dask_gd.open(tmp_path / "other", x=X, y="y"))
    with pytest.raises(InvalidArgumentError, match=r"feature 0 is named 'height'"):
        run.predict(dask_gd.open(tmp_path / "g", x=["height", "hour and day", "distance", "airport"], y="y"))
    with pytest.raises(InvalidArgumentError, match="an array does not tell which level a number is"):
        run.predict(np.zeros((3, 5)))
    with pytest.raises(InvalidArgumentError, match="has numbers, but the fit had 4 levels"):
        run.predict(dask_gd.open(tmp_path / "g", x=["distance", "height"], y="y"))


def test_a_missing_chunk_of_codes_is_refused(tmp_path):
    group_of(tmp_path / "g", codes(), np.zeros(N))
    (tmp_path / "g" / "airport" / "codes" / "c" / "2").unlink()
    with pytest.raises(dask_gd.errors.MissingChunkError, match=r"airport/codes.*chunk \(2,\)"):
        dask_gd.open(tmp_path / "g", x=X, y="y")


def test_codes_that_are_overwritten_while_a_fit_reads_them_are_noticed(tmp_path):
    source, _, _ = opened(tmp_path, dask_gd.Logistic())
    codes_of_airports = zarr.open_group(tmp_path / "g", mode="a")["airport/codes"]

    def overwrite(event):
        if getattr(event, "iteration", None) == 1:
            codes_of_airports[:70] = 1

    with pytest.raises(DataError, match="overwritten"):
        dask_gd.fit(source, loss="logistic", penalty=dask_gd.L2(1e-3), callbacks=[overwrite])


def test_rows_without_a_target_are_predicted_and_not_fitted(tmp_path):
    source, _, _ = opened(tmp_path, dask_gd.Logistic())
    run = dask_gd.fit(source, loss="logistic", penalty=dask_gd.L2(1e-3))
    rows = dask_gd.open(tmp_path / "g", x=X)
    assert_array_equal(run.predict(rows).compute(), run.predict(source).compute())
    for refused in (
        lambda: dask_gd.fit(rows),
        lambda: dask_gd.search(rows, Cs=[1.0]),
        lambda: dask_gd.infer(dask_gd.fit(source, loss="logistic", tol=1e-4), rows),
    ):
        with pytest.raises(InvalidArgumentError, match="no target"):
            refused()
    assert "900 rows" in repr(rows)
    assert rows.plan().rows > 0


@pytest.mark.parametrize("drop", [[], ["--drop", "first"]])
def test_the_command_line_takes_columns_of_codes(drop, tmp_path):
    source, _, _ = opened(tmp_path, dask_gd.Logistic(), "first" if drop else None)
    group, columns = str(tmp_path / "g"), ",".join(X)
    fit = ["fit", group, "-x", columns, "-y", "y", "--loss", "logistic", "--penalty", "l2:1e-3", *drop]
    for command in (
        [*fit, "--store", str(tmp_path / "run")],
        ["predict", str(tmp_path / "run"), group, "-x", columns, "-o", str(tmp_path / "out.zarr")],
    ):
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 0, result.output
    run = dask_gd.fit(source, loss="logistic", penalty=dask_gd.L2(1e-3))
    assert_allclose(zarr.open_array(tmp_path / "out.zarr", mode="r")[:], run.predict(source).compute(), atol=1e-6)


def test_without_a_penalty_the_first_levels_are_the_references(tmp_path):
    """As of data frames; a search knows no other levels than its fits."""
    _, x, y = opened(tmp_path, dask_gd.Logistic(), "first")
    source = dask_gd.open(tmp_path / "g", x=X, y="y")
    run = dask_gd.fit(source, loss="logistic", tol=1e-9)
    dense = dask_gd.fit(x, y, loss="logistic", tol=1e-9)
    assert_allclose(run.parameters, dense.parameters, atol=1e-6)
    assert_allclose(dask_gd.infer(run, source).table.standard_error, dask_gd.infer(dense, x, y).table.standard_error)
    assert_allclose(run.predict(source).compute(), dense.predict(x), atol=1e-8)
    penalised = dask_gd.fit(source, loss="logistic", penalty=dask_gd.L2(1e-3))
    assert len(penalised.weights) == len(run.weights) + 3
    found = dask_gd.search(source, loss="logistic", Cs=[0.1, 1.0], folds=3)
    assert len(found.refit(source).weights) == len(penalised.weights)


def test_a_run_does_not_go_on_where_codes_stand_for_other_levels(tmp_path):
    source, _, _ = opened(tmp_path, dask_gd.Logistic())
    options = {"loss": "logistic", "penalty": dask_gd.L2(1e-3), "store": tmp_path / "run"}
    dask_gd.fit(source, **options, callbacks=[stop_after(1)])
    zarr.open_group(tmp_path / "g", mode="a")["hour and day"].attrs.update(levels=[[0, 6, 12, 18], LEVELS["day"]])
    with pytest.raises(StoreMismatchError, match=r"data\.x: stored"):
        dask_gd.fit(dask_gd.open(tmp_path / "g", x=X, y="y", drop=None), **options)
