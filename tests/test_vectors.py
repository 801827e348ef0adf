"""Solvers run on any type of weights that has the operations of `solvers.vectors`, to the bits of NumPy arrays."""

from typing import NamedTuple

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from dask_gd import LBFGS, Adam, GradientDescent, Logistic, Momentum, Nesterov
from dask_gd.model.prox import NonSmooth
from dask_gd.solvers import vectors
from dask_gd.solvers.objective import Objective

ROUNDING = 16 * np.finfo(float).eps
#: Where the rows of the array (q, k, m) are: features in two blocks, and the intercept.
ROWS = {"first": slice(0, 3), "second": slice(3, 5), "intercept": slice(5, 6)}


class Blocks(np.lib.mixins.NDArrayOperatorsMixin):
    """Weights in blocks by name, which know the operations of `vectors` and nothing else."""

    def __init__(self, blocks):
        self.blocks = blocks

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        assert method == "__call__", f"{ufunc.__name__}.{method} is no elementwise operation"
        assert not kwargs

        def of_block(value, name):
            if isinstance(value, Blocks):
                return value.blocks[name]
            assert np.ndim(value) < 2 or len(value) == 1, "an array with a value for each weight"
            return value

        return Blocks({name: ufunc(*(of_block(value, name) for value in inputs)) for name in self.blocks})

    def refuse(self, *arguments, **keywords):
        raise TypeError("weights in blocks are no array")

    __array__ = __array_function__ = __bool__ = refuse


def split(array):
    return Blocks({name: array[rows] for name, rows in ROWS.items()})


def gather(blocks):
    """Return an array with the strides of the blocks, on which the order of sums depends."""
    parts = [blocks.blocks[name] for name in ROWS]
    rows, m = sum(map(len, parts)), parts[0].shape[2]
    apart = max(m, parts[0].strides[1] // parts[0].itemsize)
    array = np.empty((rows, parts[0].shape[1], apart), parts[0].dtype)[:, :, :m]
    return np.concatenate(parts, out=array)


def each(function, *several):
    """Apply a function to the blocks of the same name."""
    return Blocks({name: function(*(vector.blocks[name] for vector in several)) for name in ROWS})


@vectors.length.register
def _(v: Blocks):
    return sum(len(block) for block in v.blocks.values())


@vectors.count_candidates.register
def _(v: Blocks):
    return v.blocks["intercept"].shape[2]


@vectors.zeros_like.register
def _(v: Blocks):
    return each(np.zeros_like, v)


@vectors.zeros_by_weight.register
def _(v: Blocks):
    return each(lambda block: np.zeros((len(block), 1, 1)), v)


@vectors.where.register
def _(condition: Blocks, a, b):
    a, b = (value if isinstance(value, Blocks) else each(lambda _, value=value: value, condition) for value in (a, b))
    return each(np.where, condition, a, b)


@vectors.candidate.register
def _(v: Blocks, i):
    return each(lambda block: block[:, :, i : i + 1], v)


@vectors.intercept.register
def _(v: Blocks):
    return v.blocks["intercept"]


@vectors.lower_intercept.register
def _(v: Blocks, means):
    return split(vectors.lower_intercept(gather(v), gather(means)))


# Sums in the order of the array, so that they have its bits.
@vectors.dot.register
def _(a: Blocks, b):
    return vectors.dot(gather(a), gather(b))


@vectors.total.register
def _(v: Blocks):
    return vectors.total(gather(v))


@vectors.largest.register
def _(v: Blocks):
    return np.max([vectors.largest(block) for block in v.blocks.values()], axis=0)


class BlockProx(NamedTuple):
    """The absolute values of weights in blocks."""

    parts: dict

    @property
    def is_nonsmooth(self):
        return any(part.is_nonsmooth for part in self.parts.values())

    @property
    def free(self):
        return Blocks({name: part.free for name, part in self.parts.items()})

    def prox(self, u, rate):
        return Blocks({name: part.prox(u.blocks[name], rate) for name, part in self.parts.items()})

    def steepest(self, u, gradient):
        parts = self.parts.items()
        return Blocks({name: part.steepest(u.blocks[name], gradient.blocks[name]) for name, part in parts})


class Problem(NamedTuple):
    """Logistic regression of two outputs with a ridge and absolute values, evaluated block by block."""

    x: np.ndarray
    y: np.ndarray
    ridge: Blocks
    strength: Blocks

    def in_blocks(self, query):
        p = self.x.shape[1]
        rows = {"first": self.x[:, ROWS["first"]], "second": self.x[:, 3:p], "intercept": np.ones((len(self.x), 1))}
        z = sum(np.einsum("nq,qkm->nkm", rows[name], query.blocks[name]) for name in ROWS)
        loss, slope = Logistic().value_and_slope(z, self.y[:, :, None])
        data = Blocks({name: np.einsum("nq,nkm->qkm", rows[name], slope) / len(self.x) for name in ROWS})
        squares = {name: Logistic().curvature_bound * np.mean(rows[name] ** 2, axis=0)[:, None, None] for name in ROWS}
        means = {name: rows[name].mean(axis=0)[:, None, None] for name in ("first", "second")}
        prox = BlockProx({name: NonSmooth(self.strength.blocks[name], np.zeros(0, int)) for name in ROWS})
        values = [0.5 * self.ridge * query * query, self.strength * np.abs(query)]
        return Objective(
            loss=loss.sum(axis=(0, 1)) / len(self.x) + sum(gather(v).sum(axis=(0, 1)) for v in values),
            gradient=data + self.ridge * query,
            curvature=None,
            diagonal=Blocks(squares) + self.ridge,
            means=Blocks({**means, "intercept": np.zeros((1, 1, 1))}),
            nonsmooth=prox,
            ridge=self.ridge,
            features=p,
            quadratic=False,
        )

    def as_array(self, query):
        found = self.in_blocks(split(query))
        gathered = {name: gather(value) for name, value in found._asdict().items() if isinstance(value, Blocks)}
        return found._replace(**gathered, nonsmooth=NonSmooth(gather(self.strength), np.zeros(0, int)))


def problem(l1):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 5)) * [1.0, 10.0, 0.3, 1.0, 2.0] + [0.0, 3.0, 1.0, -2.0, 0.0]
    y = (x[:, :2] / [1.0, 10.0] + rng.normal(size=(60, 2)) > 0).astype(float)
    penalised = np.array([1.0, 1.0, 1.0, 1.0, 0.0, 0.0])[:, None, None]
    return Problem(x, y, split(0.01 * penalised), split(l1 * penalised))


def assert_same(blocks, array):
    if isinstance(blocks, Blocks):
        blocks = gather(blocks)
    if isinstance(blocks, tuple):  # pairs, of which the array has room for more
        array = vectors.newest_pairs(array, len(blocks))
        for pair, expected in zip(blocks, array, strict=True):
            assert_same(pair[0], expected[0])
            assert_same(pair[1], expected[1])
    else:
        assert_array_equal(blocks, array)


CASES = [
    (GradientDescent(), 0.0),
    (GradientDescent(decay=0.1), 0.05),
    (Momentum(), 0.0),
    (Nesterov(), 0.0),
    (Nesterov(learning_rate=0.03), 0.05),
    (Adam(), 0.0),
    (LBFGS(memory=3), 0.0),
    (LBFGS(memory=3), 0.05),
]


@pytest.mark.parametrize(("solver", "l1"), CASES, ids=repr)
def test_solvers_run_on_weights_in_blocks_to_the_bits_of_an_array(solver, l1):
    case = problem(l1)
    m = 1 if isinstance(solver, LBFGS) else 3
    start = np.random.default_rng(1).normal(size=(6, 2, m))
    array = solver.init(start, ROUNDING)
    blocks = solver.init(split(start), ROUNDING)
    first = array
    for _ in range(40):
        assert solver.request(blocks) == solver.request(array)
        array = solver.step(array, case.as_array(array.query))
        blocks = solver.step(blocks, case.in_blocks(blocks.query))
        assert type(array.weights) is np.ndarray
        assert type(blocks.weights) is Blocks
        for one, other in zip(blocks, array, strict=True):
            assert_same(one, other)
    assert np.isfinite(array.loss).all()
    assert (array.loss < case.as_array(first.weights).loss).all()


def test_lbfgs_ends_in_blocks_where_an_array_does():
    """So that the line search of a solver that can do no better is among what is tested."""
    case = problem(0.05)
    solver = LBFGS()
    state = solver.init(split(np.zeros((6, 2, 1))), ROUNDING)
    stalled = []
    for _ in range(80):
        state = solver.step(state, case.in_blocks(state.query))
        stalled.append(state.stalled[0])
    assert max(stalled) > 0
    weights = gather(state.weights)
    assert (weights == 0).any()
    part = case.as_array(weights)
    assert np.abs(part.nonsmooth.steepest(weights, part.gradient)).max() < 1e-7


@pytest.mark.parametrize(
    "touch",
    [np.asarray, len, list, bool, np.sum, np.linalg.norm, lambda v: v[0], lambda v: np.where(v, v, 0.0), np.add.reduce],
)
def test_weights_in_blocks_can_nothing_else(touch):
    with pytest.raises((TypeError, AssertionError)):
        touch(split(np.zeros((6, 1, 1))))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5])
def test_pairs_are_the_newest_whatever_the_vectors(count):
    rng = np.random.default_rng(0)
    array = vectors.no_pairs(np.zeros((6, 2, 1)), 3)
    blocks = vectors.no_pairs(split(np.zeros((6, 2, 1))), 3)
    assert array.shape == (2, 3, 6, 2)
    for _ in range(count):
        a, b = rng.normal(size=(2, 6, 2, 1))
        array = vectors.remember(array, a, b, 3)
        blocks = vectors.remember(blocks, split(a), split(b), 3)
    assert len(blocks) == min(count, 3)
    assert_same(blocks, array)
    assert_same(vectors.newest_pairs(blocks, 0), array)


@pytest.mark.parametrize("m", [1, 3])
def test_an_inner_product_is_of_each_candidate(m):
    a, b = np.random.default_rng(0).normal(size=(2, 5, 2, m))
    assert_array_equal(vectors.dot(a, b), np.einsum("qkm,qkm->m", a, b))
    shared = np.broadcast_to(b[:, :, :1], a.shape)
    assert_array_equal(vectors.dot(a, b[:, :, :1]), np.einsum("qkm,qkm->m", a, shared))


def test_the_intercept_takes_the_features_share_in_a_copy():
    v = np.random.default_rng(0).normal(size=(4, 2, 3))
    means = np.array([1.0, 2.0, 3.0, 0.0])[:, None, None]
    before = v.copy()
    lowered = vectors.lower_intercept(v, means)
    assert_array_equal(v, before)
    assert_array_equal(lowered[:3], v[:3])
    assert np.allclose(lowered[3], v[3] - v[0] - 2 * v[1] - 3 * v[2])
