"""Vectors in blocks are to solvers what arrays are, to rounding; these blocks are pieces of arrays in this process."""

import pickle
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from dask_gd import LBFGS, Adam, GradientDescent, Logistic, Momentum, Nesterov
from dask_gd.model.prox import NonSmooth
from dask_gd.solvers import vectors
from dask_gd.solvers.lbfgs import inverse_curvature
from dask_gd.solvers.objective import Objective
from dask_gd.weight_blocks import program as programs
from dask_gd.weight_blocks.block_sums import dots, expect, sum_of
from dask_gd.weight_blocks.expression import stored
from dask_gd.weight_blocks.manifest import Manifest
from dask_gd.weight_blocks.owners import ADDED_TOGETHER, bundles_of, owner
from dask_gd.weight_blocks.program import compiled, run
from dask_gd.weight_blocks.prox import BlockProx
from dask_gd.weight_blocks.tasks import added_pairs, in_pairs
from dask_gd.weight_blocks.vector import BlockVector, same, stored_node

ROUNDING = 16 * np.finfo(float).eps
EDGES = (0, 3, 4, 11)


class LocalSpace:
    """Blocks of weights in this process, computed one after the other."""

    def __init__(self, edges=EDGES, outputs=1, fit_intercept=True, compact=None):
        self.edges = edges
        self.widths = np.diff(edges).tolist()
        self.features = edges[-1]
        self.outputs = outputs
        self.fit_intercept = fit_intercept
        self.compact = compact
        self.squares = True
        self.expected = []
        self.to_store = []
        self.computed = 0

    def compute(self, wanted, sums):
        wanted = [node for node in wanted if node.pieces is None and not node.is_constant]
        if not wanted and not sums:
            return list
        self.computed += 1
        program, given, _, to_store = compiled(wanted, sums)
        blocks = [run(program, [node.pieces[j] for node in given], width) for j, width in enumerate(self.widths)]
        for number, node in enumerate(to_store):
            node.pieces = [outputs[number] for outputs, _ in blocks]
            node.arguments = ()
        totals = blocks[0][1]
        for _, found in blocks[1:]:
            for number, each in enumerate(sums):
                add = np.maximum if each.second is None else np.add
                totals[number] = add(totals[number], found[number])
        return lambda: totals

    def split(self, array, instead=0.0):
        """Return the vector of an array; without an intercept there is some number in its place."""
        pieces = [array[start:stop] for start, stop in pairwise(self.edges)]
        constant = array[self.features :].copy()
        if not self.fit_intercept:
            constant = np.full((1, *array.shape[1:]), instead)
        return BlockVector(self, stored(pieces, array.shape[1:], array.dtype), constant)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(programs, "PIECE", 8)


def gather(v):
    """Return the array that a vector stands for."""
    space = v.space
    space.compute([v.node], [])
    if v.node.is_constant:
        features = np.broadcast_to(v.node.value, (space.features, *v.node.shape))
    else:
        features = np.concatenate(v.node.pieces)
    if not space.fit_intercept:
        return features
    return np.concatenate([features, v.constant])


class Problem:
    """Logistic regression with a ridge and absolute values, evaluated on arrays."""

    def __init__(self, l1, outputs, fit_intercept):
        rng = np.random.default_rng(0)
        p = EDGES[-1]
        self.x = rng.normal(size=(80, p)) * np.linspace(0.5, 4, p) + np.linspace(-1, 1, p)
        self.y = (self.x[:, :outputs] + rng.normal(size=(80, outputs)) > 0).astype(float)
        self.l1 = l1
        self.features = p
        self.penalised = np.ones((p, 1, 1))
        if fit_intercept:
            self.x = np.hstack([self.x, np.ones((80, 1))])
            self.penalised = np.concatenate([self.penalised, np.zeros((1, 1, 1))])
        self.means = self.penalised * self.x.mean(axis=0)[:, None, None] * fit_intercept

    def at(self, query):
        n = len(self.x)
        z = np.einsum("nq,qkm->nkm", self.x, query)
        loss, slope = Logistic().value_and_slope(z, self.y[:, :, None])
        ridge = 0.01 * self.penalised
        strengths = self.l1 * self.penalised
        values = 0.5 * ridge * query**2 + strengths * np.abs(query)
        squares = Logistic().curvature_bound * np.mean(self.x**2, axis=0)[:, None, None]
        return Objective(
            loss=loss.sum(axis=(0, 1)) / n + values.sum(axis=(0, 1)),
            gradient=np.einsum("nq,nkm->qkm", self.x, slope) / n + ridge * query,
            curvature=None,
            diagonal=squares + ridge,
            means=self.means,
            nonsmooth=NonSmooth(strengths, np.zeros(0, int)),
            ridge=ridge,
            features=self.features,
            quadratic=False,
        )

    def in_blocks(self, query):
        space = query.space
        found = self.at(gather(query))
        return found._replace(
            gradient=space.split(found.gradient),
            diagonal=space.split(found.diagonal, 1.0),
            means=space.split(found.means),
            nonsmooth=BlockProx(space, self.l1),
            ridge=same(space, 0.01, 0.0),
        )


def assert_close(blocks, array, rtol):
    if isinstance(blocks, BlockVector):
        assert blocks.shape == array.shape
        blocks = gather(blocks)
    assert_allclose(blocks, array, rtol=rtol, atol=rtol)


CASES = [
    (GradientDescent(), 0.0),
    (GradientDescent(decay=0.1), 0.05),
    (Momentum(), 0.0),
    (Nesterov(), 0.0),
    (Nesterov(learning_rate=0.03), 0.05),
    (Adam(), 0.0),
    (LBFGS(), 0.0),
    (LBFGS(memory=3), 0.0),
    (LBFGS(memory=3), 0.05),
]


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize(("solver", "l1"), CASES, ids=repr)
def test_solvers_take_the_steps_in_blocks_that_they_take_on_arrays(solver, l1, outputs, fit_intercept):
    problem = Problem(l1, outputs, fit_intercept)
    space = LocalSpace(outputs=outputs, fit_intercept=fit_intercept)
    m = 1 if isinstance(solver, LBFGS) else 2
    start = 0.1 * np.random.default_rng(1).normal(size=(len(problem.penalised), outputs, m))
    array = solver.init(start, ROUNDING)
    blocks = solver.init(space.split(start), ROUNDING)
    for _ in range(12):
        assert solver.request(blocks) == solver.request(array)
        array = solver.step(array, problem.at(array.query))
        blocks = solver.step(blocks, problem.in_blocks(blocks.query))
        assert_close(blocks.query, array.query, 1e-7)
        assert_close(blocks.weights, array.weights, 1e-7)
        assert_close(blocks.loss, array.loss, 1e-10)
        assert_close(blocks.step_size, array.step_size, 1e-10)
    assert array.loss.max() < problem.at(start).loss.min()


@pytest.mark.parametrize("l1", [0.0, 0.05])
def test_lbfgs_ends_in_blocks_at_the_minimum_where_it_can_do_no_better(l1):
    problem = Problem(l1, 2, True)
    space = LocalSpace(outputs=2)
    solver = LBFGS()
    state = solver.init(same(space, 0.0, 0.0, (2, 1)), ROUNDING)
    stalled = []
    for _ in range(80):
        state = solver.step(state, problem.in_blocks(state.query))
        stalled.append(state.stalled[0])
    assert max(stalled) > 0
    weights = gather(state.weights)
    assert (weights == 0).any() == (l1 > 0)
    part = problem.at(weights)
    assert np.abs(part.nonsmooth.steepest(weights, part.gradient)).max() < 1e-7


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 5, 10])
def test_vector_free_is_the_two_loops(count, outputs, fit_intercept):
    rng = np.random.default_rng(count)
    space = LocalSpace(outputs=outputs, fit_intercept=fit_intercept)
    q = EDGES[-1] + fit_intercept
    root = rng.normal(size=(q, q))
    curvature = root @ root.T + np.eye(q)
    steps = rng.normal(size=(count, q, outputs, 1))
    changes = np.einsum("ij,cjkm->cikm", curvature, steps)
    v = rng.normal(size=(q, outputs, 1))
    diagonal = rng.uniform(0.1, 3, (q, 1, 1))
    means = rng.normal(size=(q, 1, 1)) * fit_intercept
    means[EDGES[-1] :] = 0
    expected = inverse_curvature(v.copy(), list(zip(steps, changes, strict=True)), diagonal, means)
    pairs = [(space.split(s), space.split(y)) for s, y in zip(steps, changes, strict=True)]
    found = inverse_curvature(space.split(v), pairs, space.split(diagonal, 1.0), space.split(means))
    # All inner products in one go, and nothing else.
    assert space.computed <= 1
    assert_close(found, expected, 1e-9 * np.abs(expected).max())


def test_the_products_of_pairs_that_stay_are_not_computed_again():
    rng = np.random.default_rng(0)
    space = LocalSpace()
    diagonal, means = space.split(np.ones((12, 1, 1))), space.split(np.zeros((12, 1, 1)))
    pairs = []
    counts = []
    compute = space.compute
    space.compute = lambda wanted, sums: counts.append(len(sums)) or compute(wanted, sums)
    for _ in range(5):
        s = rng.normal(size=(12, 1, 1))
        pairs.append((space.split(s), space.split(2 * s)))
        inverse_curvature(space.split(s), pairs, diagonal, means)
    # Of the newest pair and of the vector, with each pair: four for each, but for what the two have in common.
    assert np.all(np.diff(counts, 2) == 0)
    assert counts[-1] <= 4 * len(pairs) + 4


# The operations.


@pytest.fixture(params=[True, False], ids=["with an intercept", "without"])
def space(request):
    return LocalSpace(outputs=2, fit_intercept=request.param)


def arrays_of(space, count, m=3, seed=0):
    rng = np.random.default_rng(seed)
    q = space.features + space.fit_intercept
    return list(rng.integers(-2, 3, (count, q, 2, m)).astype(float))


def test_each_operation_on_vectors_is_that_on_arrays(space):
    a, b, c = arrays_of(space, 3)
    start, direction = a[:, :, :1], b[:, :, :1]
    steps = np.array([1.0, 0.5])
    u, v, w = map(space.split, (a, b, c))
    assert vectors.length(u) == vectors.length(a)
    assert vectors.count_candidates(u) == 3
    assert u.size == a.size
    pairs = [
        (vectors.zeros_like(u), vectors.zeros_like(a)),
        (vectors.zeros_by_weight(u), vectors.zeros_by_weight(a)),
        (vectors.where(u > 0, v, 7.0), vectors.where(a > 0, b, 7.0)),
        (vectors.where(u > v, 0.0, w), vectors.where(a > b, 0.0, c)),
        (vectors.candidate(u, 1), vectors.candidate(a, 1)),
        (vectors.along(space.split(start), space.split(direction), steps), start + direction * steps),
        (
            vectors.candidate(vectors.along(space.split(start), space.split(direction), steps), 1),
            start + direction * 0.5,
        ),
        (vectors.add_multiple(vectors.candidate(u, 0), 2.0, vectors.candidate(v, 1)), start + 2.0 * b[:, :, 1:2]),
        (-u * steps[0] + np.abs(v) ** 2 / 3 - np.sign(w), -a + np.abs(b) ** 2 / 3 - np.sign(c)),
        (np.maximum(u, v) * np.array([1.0, 2.0, 3.0]), np.maximum(a, b) * np.array([1.0, 2.0, 3.0])),
        (vectors.compact(u + v), a + b),
        (vectors.at_hand(u * v), a * b),
    ]
    for blocks, array in pairs:
        assert_array_equal(gather(blocks), array)
    assert_array_equal(vectors.largest(u), vectors.largest(a))
    assert_array_equal(vectors.largest(-np.abs(u) - 1.0), vectors.largest(-np.abs(a) - 1.0))
    assert vectors.total(u) == vectors.total(a)
    assert vectors.total(vectors.zeros_like(u) + 2.0) == 2.0 * a.size
    assert_array_equal(vectors.dot(u, v), vectors.dot(a, b))
    assert_array_equal(vectors.dot(u, space.split(start)), vectors.dot(a, start))
    for found, expected in zip(vectors.dots(u, v, v, w, w, w), vectors.dots(a, b, b, c, c, c), strict=True):
        assert_array_equal(found, expected)
    if space.fit_intercept:
        assert_array_equal(vectors.intercept(u), vectors.intercept(a))
        means = arrays_of(space, 1, seed=1)[0][:, :1, :1]
        means[-1] = 0
        lowered = vectors.lower_intercept(u, space.split(means))
        assert_array_equal(gather(lowered), vectors.lower_intercept(a, means))


def test_an_inner_product_is_remembered_for_its_two_vectors_alone(space):
    a, b = arrays_of(space, 2)
    u, v = space.split(a), space.split(b)
    expected = np.einsum("qkm,qkm->km", a[: space.features], b[: space.features])
    assert_array_equal(sum_of(u, v), expected)
    assert_array_equal(sum_of(v, u), expected)
    assert space.computed == 1
    # Another vector that gets the memory, and so the number, of one that is gone.
    for seed in range(1, 20):
        v = None
        [b] = arrays_of(space, 1, seed=seed)
        v = space.split(b)
        assert_array_equal(sum_of(u, v), np.einsum("qkm,qkm->km", a[: space.features], b[: space.features]))


def test_values_that_are_the_same_for_all_weights_enter_inner_products(space):
    three = same(space, 3.0, 5.0)
    [found] = dots([(three, three)])
    assert found == 9.0 * space.features + 25.0 * space.fit_intercept
    [u] = arrays_of(space, 1)
    v = space.split(u)
    [found] = dots([(three, v)])
    of_features = 3.0 * u[: space.features].sum(axis=(0, 1))
    assert_array_equal(found, of_features + 5.0 * v.constant.sum(axis=(0, 1)) * space.fit_intercept)


def test_what_is_kept_for_long_has_float32_where_the_space_says_so():
    space = LocalSpace(compact="<f4")
    [a] = np.random.default_rng(0).normal(size=(1, 12, 1, 1))
    doubled = vectors.compact(space.split(a) + space.split(a))
    assert_array_equal(gather(doubled)[:-1], (2.0 * a[:-1]).astype(np.float32))
    # What is in memory is the short form, and what is computed with it is exact.
    [short] = doubled.node.arguments or [None]
    assert short is None or short.dtype == np.float32
    assert doubled.node.dtype == np.float64


def test_a_multiple_of_what_is_stored_takes_no_memory_and_is_not_dropped_with_it():
    for compact in (None, "<f4"):
        space = LocalSpace(compact=compact)
        rng = np.random.default_rng(0)
        direction = vectors.compact(space.split(rng.normal(size=(12, 1, 1))) + space.split(rng.normal(size=(12, 1, 1))))
        space.compute([stored_node(direction)], [])
        start = space.split(rng.normal(size=(12, 1, 1)))
        reached = vectors.candidate(vectors.along(start, direction, np.array([0.5, 2.0])), 1)
        way = vectors.compact(vectors.change(start, reached))
        computed = space.computed
        assert stored_node(way) is stored_node(direction)
        vectors.spent(direction, way)
        assert space.computed == computed
        assert_array_equal(gather(way + 0.0)[:-1], 2.0 * gather(direction + 0.0)[:-1])
        vectors.spent(way)
        with pytest.raises(AssertionError, match="given away"):
            gather(direction + 1.0)


def test_what_will_be_asked_for_is_computed_beside_what_is_asked_for():
    space = LocalSpace()
    a, b, c = (space.split(np.random.default_rng(seed).normal(size=(12, 1, 1))) for seed in range(3))
    expect(space, [(a, c), (a * b, None)])
    product = a * b
    expect(space, [(product, None)])
    later = vectors.at_hand(b + c)
    vectors.dot(a, b)
    assert space.computed == 1
    vectors.dot(a, c)
    vectors.largest(product)
    assert later.node.pieces is not None
    assert (space.computed, space.expected, space.to_store) == (1, [], [])
    # What is known is not expected.
    expect(space, [(a, c), (product, None)])
    assert space.expected == []


@given(st.integers(1, 20), st.integers(1, 7), st.integers(1, 3))
def test_bundles_are_of_a_worker_and_added_together_and_have_all_blocks(blocks, workers, threads):
    owners = [owner(j, blocks, workers) for j in range(blocks)]
    bundles = bundles_of(owners, dict.fromkeys(range(workers), threads))
    assert [j for bundle in bundles for j in bundle] == list(range(blocks))
    for bundle in bundles:
        assert len({owners[j] for j in bundle}) == len({j // ADDED_TOGETHER for j in bundle}) == 1
    # A bundle has no more than a thread's share of its worker's blocks.
    assert all(len(bundle) <= -(-owners.count(owners[bundle[0]]) // threads) for bundle in bundles)


@given(st.integers(1, 8), st.lists(st.integers(1, 7), max_size=4))
def test_partial_predictions_have_the_same_sum_whatever_the_bundles(blocks, cuts):
    rng = np.random.default_rng(0)
    parts = [[rng.normal(size=(5, 1, 1)), rng.normal(size=(3, 1, 1))] for _ in range(blocks)]

    def added(edges):
        bundles = [in_pairs(first, parts[first:stop]) for first, stop in pairwise(edges)]
        return [added_pairs(edges[:-1], segment, *bundles) for segment in range(2)]

    edges = sorted({0, blocks, *(cut for cut in cuts if cut < blocks)})
    for a, b in zip(added([0, blocks]), added(edges), strict=True):
        assert_array_equal(a, b)


@pytest.mark.parametrize(
    "touch",
    [
        np.asarray,
        len,
        list,
        bool,
        np.sum,
        np.linalg.norm,
        np.add.reduce,
        np.add.accumulate,
        lambda v: np.add.at(v, 0, 1.0),
        lambda v: v[0],
        lambda v: v.sum(),
        lambda v: v @ v,
        lambda v: np.where(v, v, 0.0),
        lambda v: np.add(v, v, out=np.empty((12, 2, 1))),
        lambda v: np.abs(v, where=np.ones(1, bool)),
        lambda v: v + np.ones((12, 1, 1)),
        lambda v: np.ones((11, 2, 1)) * v,
        lambda v: np.concatenate([v, v]),
    ],
)
def test_weights_in_blocks_can_nothing_that_a_vector_cannot(touch):
    v = LocalSpace(outputs=2).split(np.ones((12, 2, 1)))
    with pytest.raises((TypeError, AttributeError, ValueError)):
        touch(v)


# Descriptions.


def test_a_description_gives_the_vectors_back_to_the_bit(space):
    a, b = arrays_of(space, 2, m=1)
    u, v = space.split(a), space.split(b)
    along = vectors.along(u, v, np.array([1.0, 0.5]))
    vs = [u, v, u - v, vectors.candidate(along, 1), vectors.where(u > 0, v, 2.0), same(space, 3.0, 1.0, (2, 1)), along]
    # The files of a node stand for its pieces.
    manifest = Manifest(space, "there")
    numbers = [manifest.add(each) for each in vs]
    assert [manifest.add(each) for each in vs] == numbers
    files = {}
    for _, pieces, node in manifest._to_write:
        node.files = []
        for piece in pieces:
            name = f"{len(files)}.npy"
            files[name] = piece
            node.files.append((name, piece.nbytes + 128, 0, piece.shape, piece.dtype.str))
    described = pickle.loads(pickle.dumps(manifest.described()))

    class Read(Manifest):
        def _read(self, several, owner_of):
            return [SimpleNamespace(array=files[file.name]) for file in several]

    space.owners = SimpleNamespace(of_block=None)
    restored = Read(space, "there").restore(described)
    for number, v in zip(numbers, vs, strict=True):
        found = restored[number]
        for node in nodes_of(found.node):
            if node.pieces is not None:
                node.pieces = [getattr(piece, "handle", SimpleNamespace(array=piece)).array for piece in node.pieces]
        assert_array_equal(gather(found), gather(v))
        assert (found.line is None) == (v.line is None)
    assert len(files) == 2 * len(space.widths)


def nodes_of(node):
    return [node, *(each for argument in node.arguments for each in nodes_of(argument))]


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("nodes"),
        lambda d: d["nodes"].pop(),
        lambda d: d["vectors"][0].pop("node"),
        lambda d: d["vectors"][0].update(node=99),
        lambda d: d["vectors"][0].update(line=[7, 8, [1.0]]),
        lambda d: d["nodes"][-1].update(function="load"),
        lambda d: d["nodes"][-1].update(arguments=[99]),
        lambda d: d["nodes"][-1].update(arguments=None),
        lambda d: d.update(nodes=None),
    ],
)
def test_a_description_that_is_none_is_refused(change, space):
    described = {
        "nodes": [
            {"shape": [2, 1], "dtype": "<f8", "value": [[[3.0], [4.0]]]},
            {"shape": [2, 1], "dtype": "<f8", "function": "negative", "arguments": [0]},
        ],
        "vectors": [{"node": 1, "constant": [[[0.0], [1.0]]], "line": None}],
    }
    [v] = Manifest(space, "there").restore(described)
    assert_array_equal(gather(v)[: space.features], np.full((space.features, 2, 1), [[-3.0], [-4.0]]))
    change(described)
    with pytest.raises(ValueError, match=r"blocks are not described|has the function"):
        Manifest(space, "there").restore(described)
