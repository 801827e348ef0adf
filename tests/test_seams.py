"""What users of the package's seams can do that the package does not do itself: each is a small one."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import dask.array as da
import numpy as np
import pytest
import zarr
from numpy.testing import assert_allclose, assert_array_equal

import dask_gd
from dask_gd import passes
from dask_gd.kernels.base import BOUND, EXACT, Request, Sums
from dask_gd.kernels.block import BadValue
from dask_gd.kernels.least_squares import Basis
from dask_gd.kernels.riding import Riding
from dask_gd.sources import as_source
from dask_gd.sources.columns import as_rows
from dask_gd.sources.dask_column import DaskColumn

N, P = 400, 3


def rows():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, P))
    y = (x @ [1.0, -1.0, 0.5] + rng.normal(size=N) > 0).astype(float)
    return x, y


def stored(array, chunk, path):
    found = zarr.create_array(path, shape=array.shape, chunks=(chunk, *array.shape[1:]), dtype=array.dtype)
    found[...] = array
    return found


KINDS = {
    "numpy": lambda array, chunk, path: array,
    "dask": lambda array, chunk, path: da.from_array(array, chunks=(chunk, *array.shape[1:])),
    "zarr": stored,
}


def arrays_of(sums):
    return [sums.rows, sums.weight, sums.loss, sums.gradient, sums.curvature, *sums.moments]


class Largest(NamedTuple):
    """A kernel with sums of its own: the largest value of each feature, and how many rows have it."""

    def make(self, part):
        return LargestKernel()


class LargestSums(NamedTuple):
    value: np.ndarray
    count: np.ndarray

    def plus(self, other):
        value = np.maximum(self.value, other.value)
        return LargestSums(value, self.count * (self.value == value) + other.count * (other.value == value))


class LargestKernel:
    def __init__(self):
        self.found = LargestSums(np.full(P, -np.inf), np.zeros(P, int))

    def add_rows(self, rows):
        value = rows.x.max(axis=0)
        self.found = self.found.plus(LargestSums(value, (rows.x == value).sum(axis=0)))

    def sums(self):
        return self.found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("curvature", [None, EXACT])
def test_a_kernel_with_sums_of_its_own_rides_on_a_pass(kind, curvature, tmp_path):
    x, y = rows()
    x[[5, 390], 1] = 9.0
    source = as_source(KINDS[kind](x, 70, tmp_path / "x"), KINDS[kind](y, 110, tmp_path / "y"))
    query = np.full((P + 1, 1, 2), 0.1)
    request = Request(curvature, moments=True)
    loss = dask_gd.Logistic()
    alone = passes.evaluate(source, query, loss, request, "alone", 1)
    together = passes.evaluate(source, query, loss, request._replace(kernel=Riding((Largest(),))), "together", 1)
    for a, b in zip(arrays_of(together.at_query), arrays_of(alone), strict=True):
        assert_array_equal(a, b)
    (largest,) = together.riders
    assert_array_equal(largest.value, x.max(axis=0))
    assert_array_equal(largest.count, [1, 2, 1])


def test_a_kernel_rides_beside_that_of_a_solver():
    x, y = rows()
    source = as_source(x, y)
    solver = dask_gd.LocalSGD(learning_rate=0.1)
    state = solver.init(np.zeros((P + 1, 1, 1)), 1e-15)._replace(loss=np.ones(1), step_size=np.full(1, 0.1))
    request = solver.request(state)
    own = passes.evaluate(source, state.query, dask_gd.Logistic(), request, "own", 1)
    riding = request._replace(kernel=Riding((Largest(),), first=request.kernel))
    together = passes.evaluate(source, state.query, dask_gd.Logistic(), riding, "riding", 1)
    assert_array_equal(together.first.ends, own.ends)
    assert_array_equal(together.riders[0].value, x.max(axis=0))


class ByCluster(NamedTuple):
    """A kernel that reads a role which the package does not know: how many rows each cluster has, and their slopes."""

    count: int

    def make(self, part):
        return ByClusterKernel(self.count, part.query, part.loss)


class ByClusterSums(NamedTuple):
    at_query: Sums
    rows: np.ndarray
    slopes: np.ndarray

    def plus(self, other):
        return ByClusterSums(self.at_query.plus(other.at_query), self.rows + other.rows, self.slopes + other.slopes)


class ByClusterKernel:
    def __init__(self, count, query, loss):
        self.query, self.loss = query, loss
        self.rows = np.zeros(count, int)
        self.slopes = np.zeros((count, P))
        self.total = Sums(0, 0.0, np.zeros(1), np.zeros_like(query), None, None)

    def add_rows(self, rows):
        cluster = rows.others["cluster"].astype(int)
        z = rows.x @ self.query[:P, 0] + self.query[P, 0]
        _, slope = self.loss.value_and_slope(z, rows.y)
        np.add.at(self.rows, cluster, 1)
        np.add.at(self.slopes, cluster, slope * rows.x)

    def sums(self):
        return ByClusterSums(self.total, self.rows, self.slopes)


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_has_a_role_of_a_users_own_with_a_value_for_each_row(kind, tmp_path):
    x, y = rows()
    cluster = np.arange(N) * 7 % 5
    source = as_source(KINDS[kind](x, 70, tmp_path / "x"), KINDS[kind](y, 110, tmp_path / "y"))
    column = as_rows(KINDS[kind](cluster, 90, tmp_path / "cluster"), "cluster")
    source = source.with_columns(cluster=column.aligned(source.bounds))
    query = np.full((P + 1, 1, 1), 0.1)
    loss = dask_gd.Logistic()
    found = passes.evaluate(source, query, loss, Request(kernel=ByCluster(5)), "clusters", 1)
    slope = loss.value_and_slope(x @ query[:P, 0] + 0.1, y[:, None])[1] * x
    assert_array_equal(found.rows, np.bincount(cluster))
    assert_allclose(found.slopes, [slope[cluster == c].sum(axis=0) for c in range(5)], rtol=1e-12)
    # A fit takes no notice of it, but for the fingerprint and the rows that it has dropped.
    without = source.with_columns(cluster=None)
    assert_array_equal(dask_gd.fit(source, loss="logistic").weights, dask_gd.fit(without, loss="logistic").weights)


def test_a_row_whose_value_of_such_a_role_is_missing_is_refused_by_name():
    x, y = rows()
    cluster = np.arange(N) % 5.0
    cluster[17] = np.nan
    source = as_source(x, y)
    source = source.with_columns(cluster=as_rows(cluster, "cluster").aligned(source.bounds))
    with pytest.raises(dask_gd.errors.NonFiniteError, match="row 17 of 'cluster'"):
        dask_gd.fit(source, loss="logistic")


@pytest.mark.parametrize("sizes", [(110, 90, 200), (100, 300), (100, 100, 201)])
def test_a_column_whose_blocks_are_others_is_refused(sizes):
    """Tasks would pair its blocks with those of the features by their number."""
    x, y = rows()
    source = as_source(da.from_array(x, chunks=((100, 100, 200), P)), y)
    cluster = as_rows(da.zeros(sum(sizes), chunks=(sizes,)), "cluster")
    with pytest.raises(dask_gd.errors.InvalidArgumentError, match=r"'cluster'.*other blocks"):
        source.with_columns(cluster=cluster)


def test_a_rider_leaves_the_curvature_of_classes_as_it_is_without():
    x, _ = rows()
    source = as_source(da.from_array(x, chunks=(70, P)), np.arange(N) % 3.0)
    query = np.full((P + 1, 3, 1), 0.1)
    request = Request(EXACT, moments=True)
    loss = dask_gd.Softmax(classes=3)
    alone = passes.evaluate(source, query, loss, request, "classes", 1)
    together = passes.evaluate(source, query, loss, request._replace(kernel=Riding((Largest(),))), "riding", 2)
    assert alone.curvature.shape == (3 * (P + 1), 3 * (P + 1), 1)
    for a, b in zip(arrays_of(together.at_query), arrays_of(alone), strict=True):
        assert_array_equal(a, b)


class Increments:
    """Rows of which all but the first are known by what they add to the row before: each is a sum of steps (n, p)."""

    def __init__(self, steps):
        self.steps = steps


class Differences(NamedTuple):
    """A row format that the package does not have, in which no row is ever formed."""

    dtype: np.dtype
    features: int
    block_rows = 48
    cheap_gram = False

    @property
    def can_shift(self):
        return np.ones(self.features, bool)

    def nbytes(self, count):
        return 8 * count * self.features

    def cast(self, stored, memory):
        return stored

    def take(self, rows, which, room=None):
        """Return rows, each of which adds to the one before what all steps between them have added."""
        if isinstance(which, slice):
            which = np.arange(len(rows.steps))[which]
        edges = [0, *(which[:-1] + 1)]
        return Increments(np.add.reduceat(rows.steps[: which[-1] + 1], edges, axis=0))

    def room(self, count):
        return None

    def with_nan(self, rows):
        return np.logical_or.accumulate(np.isnan(rows.steps).any(axis=1))

    def first_bad(self, rows):
        bad = np.argwhere(~np.isfinite(rows.steps))
        return BadValue(*bad[0].tolist(), rows.steps[tuple(bad[0])]) if len(bad) else None

    def workspace(self, shift):
        return DifferencesWorkspace(shift)


class DifferencesWorkspace:
    def __init__(self, shift):
        self.shift = shift

    def weights(self, columns):
        return columns

    def block(self, rows):
        steps = rows.steps.copy()
        if self.shift is not None:
            steps[0] -= self.shift
        return DifferencesBlock(steps)

    def gram_sum(self, gram, sums):
        return DifferencesGramSum(gram, sums)


class DifferencesGramSum:
    def __init__(self, gram, sums):
        self.gram, self.sums = gram, sums

    def add(self, block, h):
        self.gram += block.gram(h)
        if self.sums is not None:
            self.sums += block.sums(h)

    def flush(self):
        pass


class DifferencesBlock:
    def __init__(self, steps):
        self.steps = steps

    def times(self, weights):
        return np.cumsum(self.steps @ weights, axis=0)

    def add_transposed_times(self, slopes, total):
        total += self.sums(slopes)

    def gram(self, h):
        position = np.arange(len(h))
        following = np.cumsum(h[::-1])[::-1]
        both = following[np.maximum.outer(position, position)]
        return self.steps.T @ both @ self.steps

    def sums(self, s):
        # A step is in its own row and in all that follow.
        return self.steps.T @ np.cumsum(s[::-1], axis=0)[::-1]

    def sums_and_squares(self, s):
        if s is None:
            s = np.ones(len(self.steps))
        return self.sums(s), np.diagonal(self.gram(s))


@dataclass(frozen=True)
class DifferencesColumn(DaskColumn):
    """A column whose array has the steps; tasks get all of it, and read some rows at a time."""

    def row_format(self, dtype):
        return Differences(dtype, self.shape[1])

    def for_tasks(self, in_process=False):
        return StepsInTasks(self.array.compute())


class StepsInTasks(NamedTuple):
    steps: np.ndarray
    takes_block = worth_keeping = needs_zarr = False
    role = name = "steps"
    ahead = 0

    def bind(self, block, partition, start):
        return self

    def windows(self, start, stop):
        for first in range(start, stop, 256):
            yield first, min(first + 256, stop)

    def read(self, start, stop, out=None):
        first = self.steps[: start + 1].sum(axis=0, keepdims=True)
        return Increments(np.concatenate([first, self.steps[start + 1 : stop]]))

    def where(self, row, column=0):
        return f"the steps of {row}"


def walk(chunk=300):
    """Return a source of dense rows, and one of the same rows as steps, with row weights and offsets."""
    rng = np.random.default_rng(3)
    steps = rng.normal(size=(N, P))
    x = np.cumsum(steps, axis=0)
    y = (x @ [0.1, -0.1, 0.05] + rng.normal(size=N) > 0).astype(float)
    dense = as_source(da.from_array(x, chunks=(chunk, P)), y, rng.uniform(0.5, 2, N), offset=rng.normal(size=N))
    return dense, in_steps(dense, steps)


def in_steps(dense, steps):
    column = DifferencesColumn(da.from_array(steps), "x").aligned(dense.bounds)
    return dense.with_columns(x=column)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("shift", [None, np.array([3.0, 0.0, -5.0])])
@pytest.mark.parametrize("curvature", [EXACT, BOUND])
def test_rows_of_a_format_of_ones_own_have_the_sums_of_dense_rows(intercept, shift, curvature):
    query = np.random.default_rng(0).normal(size=(P + intercept, 1, 2)) * 0.1
    request = Request(curvature, moments=True, shift=shift)
    found = []
    for chunk in (300, 17):
        for source in walk(chunk):
            sums = passes.evaluate(source, query, dask_gd.Logistic(), request, "steps", len(found) + 1)
            found.append(arrays_of(sums))
    for others in found[1:]:
        for a, b in zip(others, found[0], strict=True):
            assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("loss", ["logistic", "squared"])
@pytest.mark.parametrize("solver", ["auto", "lbfgs", dask_gd.LocalSGD(), dask_gd.ADMM()], ids=str)
def test_rows_of_a_format_of_ones_own_are_fitted(loss, solver):
    dense, steps = walk()
    fits = [dask_gd.fit(s, loss=loss, penalty=dask_gd.L2(1e-2), solver=solver, max_iter=20) for s in (dense, steps)]
    assert fits[0].reason == fits[1].reason
    assert_allclose(fits[1].parameters, fits[0].parameters, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("loss", ["logistic", "squared"])
def test_rows_of_a_format_of_ones_own_are_searched(loss):
    scores = [dask_gd.search(s, loss=loss, alphas=[1e-3, 1e-1, 10.0], folds=4).data.score for s in walk()]
    assert_allclose(scores[1], scores[0], rtol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_in_rows_of_such_a_format_that_is_not_finite_is_refused_by_row_and_column(value):
    dense, source = walk()
    steps = source.x.array.compute()
    steps[370, 1] = value
    with pytest.raises(dask_gd.errors.NonFiniteError, match=r"(nan|inf) in row 370, column 1 of the steps of 370\."):
        dask_gd.fit(in_steps(dense, steps), loss="logistic")


def test_rows_after_a_missing_value_of_such_a_format_are_dropped():
    dense, source = walk()
    steps = source.x.array.compute()
    steps[360, 1] = np.nan
    fitted = dask_gd.fit(replace(in_steps(dense, steps), nan="drop"), loss="logistic")
    assert fitted.dropped == 40


def test_what_takes_rows_as_an_array_refuses_those_that_have_none():
    _, source = walk()
    query = np.zeros((P + 1, 1, 1))
    request = Request(kernel=Basis(np.eye(P + 1), refines=False))
    with pytest.raises(dask_gd.errors.InvalidTypeError, match=r"Least squares.*dense array; these are Differences"):
        passes.evaluate(source, query, dask_gd.Squared(), request, "basis", 1)
    model = dask_gd.Model(lambda params, x, y, weight: (0.0, params), np.zeros(P))
    with pytest.raises(dask_gd.errors.InvalidTypeError, match=r"Model\(.* takes rows as a dense array"):
        passes.evaluate(source, np.zeros((P, 1, 1)), model, Request(), "model", 1)
