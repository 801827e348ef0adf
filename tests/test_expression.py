"""Expressions of weights in blocks give what NumPy gives, whatever the pieces, and whatever is computed beside."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from dask_gd.weight_blocks import program as programs
from dask_gd.weight_blocks.expression import Candidate, Cast, Sum, applied, combined, constant, leaf, stored
from dask_gd.weight_blocks.manifest import function_named, name_of
from dask_gd.weight_blocks.program import PIECE, SUMMED, compiled, leaves, run

ONE = (np.negative, np.abs, np.sign, np.square, Cast("<f4"), Cast("<f8"))
TWO = (np.add, np.subtract, np.multiply, np.divide, np.maximum, np.minimum)
COMPARISONS = (np.greater, np.equal, np.less_equal)

UFUNCS = [function for function in vars(np).values() if isinstance(function, np.ufunc)]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Have pieces so short that a block of a few rows has several, of which the last is seldom whole."""
    monkeypatch.setattr(programs, "PIECE", 12)


@st.composite
def expressions(draw):
    """Return rows, the arrays of stored vectors, and nodes of these, each with the array that NumPy makes of it."""
    rows = draw(st.integers(1, 31))
    k = draw(st.integers(1, 3))
    m = draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    arrays = {}
    pairs = []
    for _ in range(draw(st.integers(1, 3))):
        shape = (draw(st.sampled_from([1, k])), draw(st.sampled_from([1, m])))
        dtype = draw(st.sampled_from([np.float64, np.float32]))
        # Whole numbers, so that comparisons hold as often as not.
        array = rng.integers(-3, 4, (rows, *shape)).astype(dtype)
        node = stored([array], shape, array.dtype)
        arrays[id(node)] = array
        pairs.append((node, array))
    for shape in ((), (m,), (k, 1)):
        value = rng.integers(1, 4, shape).astype(float)
        node = constant(value)
        pairs.append((node, np.broadcast_to(node.value, (rows, *node.shape))))

    for _ in range(draw(st.integers(1, 12))):
        kind = draw(st.sampled_from(["one", "two", "where", "candidate"]))
        if kind == "one":
            function = draw(st.sampled_from(ONE))
            operands = [draw(st.sampled_from(pairs))]
        elif kind == "two":
            function = draw(st.sampled_from(TWO))
            operands = [draw(st.sampled_from(pairs)) for _ in range(2)]
        elif kind == "where":
            function = np.where
            compared = [draw(st.sampled_from(pairs)) for _ in range(2)]
            operands = [computed(draw(st.sampled_from(COMPARISONS)), compared)]
            operands += [draw(st.sampled_from(pairs)) for _ in range(2)]
        else:
            operands = [draw(st.sampled_from(pairs))]
            function = Candidate(draw(st.integers(0, operands[0][0].shape[1] - 1)))
        pairs.append(computed(function, operands))
    return rows, arrays, pairs


def computed(function, operands):
    """Return the node of a function, and what NumPy makes of the arrays."""
    with np.errstate(all="ignore"):
        array = function(*(array for _, array in operands))
    return applied(function, *(node for node, _ in operands)), array


def evaluated(rows, arrays, wanted, sums):
    """Return the program, the arrays of the nodes that it stores by the node's id, and the sums."""
    program, given_nodes, _, to_store = compiled(wanted, sums)
    with np.errstate(all="ignore"):
        outputs, found = run(program, [arrays[id(node)] for node in given_nodes], rows)
    return program, {id(node): output for node, output in zip(to_store, outputs, strict=True)}, found


def summed(a, b):
    """Return the sums of products, and the sums of their sizes: rounding is a share of these."""
    with np.errstate(all="ignore"):
        products = (a * b).astype(float)
    return products.sum(axis=0), np.abs(products).sum(axis=0)


@settings(max_examples=100)
@given(expressions(), st.data())
def test_a_program_gives_what_numpy_gives(case, data):
    rows, arrays, pairs = case
    several = st.lists(st.integers(0, len(pairs) - 1), max_size=4)
    wanted = [pairs[i] for i in data.draw(several) if not (pairs[i][0].is_constant or pairs[i][0].pieces)]
    multiplied = [
        (pairs[i], pairs[j]) for i, j in data.draw(st.lists(st.tuples(*[st.integers(0, len(pairs) - 1)] * 2)))
    ]
    largest = [pairs[i] for i in data.draw(several)]
    if not (wanted or multiplied or largest):
        return
    sums = [Sum(a[0], b[0]) for a, b in multiplied] + [Sum(node) for node, _ in largest]
    for node, _ in pairs:
        node.is_wanted = not node.is_constant and node.pieces is None and data.draw(st.booleans())
    program, outputs, found = evaluated(rows, arrays, [node for node, _ in wanted], sums)

    # Vectors have NumPy's bits, and those that are marked are stored beside those that are asked for.
    assert outputs.keys() >= {id(node) for node, _ in wanted}
    for node, array in pairs:
        assert (node.shape, node.dtype) == (array.shape[1:], array.dtype)
        if id(node) in outputs:
            assert outputs[id(node)].dtype == array.dtype
            assert_array_equal(outputs[id(node)], array)
    # So has the largest; sums of products are NumPy's but for rounding.
    for (first, second), value in zip(multiplied, found, strict=False):
        expected, size = summed(first[1], second[1])
        good = np.isfinite(size)
        tolerance = 1e-13
        if np.result_type(first[1], second[1]) == np.float32:
            tolerance = 1e-5
        assert_array_equal(np.isfinite(value), good)
        assert np.all(np.abs(value[good] - expected[good]) <= tolerance * size[good])
    for (_, array), value in zip(largest, found[len(multiplied) :], strict=True):
        assert_array_equal(value, array.max(axis=0))
    check_buffers(program)


def check_buffers(program):
    """Check that no instruction writes to memory of a register that is read by it, or after it."""
    memory = {}
    for position, (function, arguments, to, buffer, output) in enumerate(program.instructions):
        if buffer is None and output is None:
            assert isinstance(function, Candidate)
            memory[to] = memory.get(arguments[0])
            continue
        # The registers that have to be as they are.
        live = set(arguments)
        for later in program.instructions[position + 1 :]:
            live.update(later.arguments)
        for pair in program.sums:
            live.update(number for number in pair if number is not None)
        assert all(memory.get(register) != buffer for register in live) or buffer is None
        memory[to] = buffer


@settings(max_examples=100)
@given(expressions(), st.data())
def test_a_sum_has_the_same_bits_whatever_other_sums_ride_along(case, data):
    rows, arrays, pairs = case
    # As wide as each other: how long pieces are follows from the widest, see `Program.width`.
    widest = max(np.prod(node.shape) for node, _ in pairs)
    anchor = next(node for node, _ in pairs if np.prod(node.shape) == widest)
    number = st.integers(0, len(pairs) - 1)
    first, second = (pairs[data.draw(number)][0] for _ in range(2))
    others = [Sum(pairs[i][0], pairs[j][0]) for i, j in data.draw(st.lists(st.tuples(number, number), max_size=5))]
    _, _, [alone, _] = evaluated(rows, arrays, [], [Sum(first, second), Sum(anchor)])
    *_, found = evaluated(rows, arrays, [], [*others, Sum(anchor), Sum(first, second)])
    assert_array_equal(alone, found[-1])


def test_values_that_are_the_same_for_all_weights_count_once_for_each():
    """The sums of products of constants, of which there is no vector with a row for each weight."""
    for shape in ((), (2, 1), (2, 3)):
        three = constant(np.full(shape, 3.0))
        for rows in (1, 12, 31):
            program, *_ = compiled([], [Sum(three, constant(2.0)), Sum(three)])
            _, [products, largest] = run(program, [], rows)
            assert_array_equal(products, np.full(three.shape, 6.0 * rows))
            assert_array_equal(largest, np.full(three.shape, 3.0))


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (2, 3)])
def test_sums_in_pieces_of_any_length_agree(shape, monkeypatch):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 1000, *shape))
    nodes = [stored([array], shape, array.dtype) for array in (a, b)]
    program, *_ = compiled([], [Sum(*nodes)])
    for piece in (1, 7, 999, 1 << 14):
        monkeypatch.setattr(programs, "PIECE", piece)
        [found] = run(program, [a, b], 1000)[1]
        assert_allclose(found, np.einsum("qkm,qkm->km", a, b), rtol=1e-12)


def test_an_expression_of_many_steps_needs_few_buffers():
    v = stored([np.ones((5, 1, 1))], (1, 1), np.dtype(float))
    node = v
    for _ in range(50):
        node = applied(np.add, node, v)
    program, *_ = compiled([node], [])
    assert len(program.buffers) == 2
    assert_array_equal(run(program, [np.ones((5, 1, 1))], 5)[0][0], np.full((5, 1, 1), 51.0))


def test_memory_is_not_used_again_while_a_view_of_it_is_read():
    rng = np.random.default_rng(0)
    array = rng.normal(size=(9, 1, 3))
    v = stored([array], (1, 3), array.dtype)
    doubled = applied(np.add, v, v)
    view = applied(Candidate(1), doubled)
    # Nothing but the view has need of the doubled values from here on.
    others = applied(np.square, applied(np.negative, applied(np.abs, v)))
    total = applied(np.add, applied(Candidate(0), others), view)
    for roots in ([total], [applied(np.multiply, view, total)]):
        program, *_ = compiled(roots, [Sum(view, total)])
        check_buffers(program)
    program, *_ = compiled([], [Sum(total, total)])
    check_buffers(program)
    # The order of instructions decides: the view comes first, and is read last.
    last = applied(np.add, view, applied(Candidate(0), others))
    program, *_ = compiled([last], [])
    check_buffers(program)
    [found], _ = run(program, [array], 9)
    assert_array_equal(found, (2 * array)[:, :, 1:2] + np.square(array)[:, :, :1])


def combination(nodes, factors):
    return applied(combined, *(each for f, node in zip(factors, nodes, strict=True) for each in (constant(f), node)))


@pytest.mark.parametrize("rows", [100, SUMMED, 3 * SUMMED + 1, PIECE + 7])
def test_products_of_float32_are_added_in_float64(rows):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, rows, 1, 1)).astype(np.float32)
    nodes = [stored([array], (1, 1), array.dtype) for array in (a, b)]
    program, *_ = compiled([], [Sum(*nodes)])
    _, [found] = run(program, [a, b], rows)
    size = np.linalg.norm(a.astype(float)) * np.linalg.norm(b.astype(float))
    assert abs(found.item() - np.vdot(a.astype(float), b.astype(float))) < 1e-7 * size


@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (2, 3)])
@pytest.mark.parametrize("of_outputs", [False, True])
def test_a_sum_of_multiples_is_that_of_numpy_and_its_opposite_too(shape, of_outputs):
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(31, *shape)).astype(dtype) for dtype in (float, np.float32, float)]
    nodes = [stored([array], shape, array.dtype) for array in arrays]
    factors = list(rng.normal(size=(3, shape[0], 1)) if of_outputs else rng.normal(size=3))
    expected = sum(factor * array for factor, array in zip(factors, arrays, strict=True))
    for node, sign in ((combination(nodes, factors), 1.0), (applied(np.negative, combination(nodes, factors)), -1.0)):
        program, *_ = compiled([node], [])
        assert [instruction.function for instruction in program.instructions] == [combined]
        [found], _ = run(program, arrays, 31)
        assert_allclose(found, sign * expected, rtol=1e-13, atol=1e-13)


@settings(max_examples=100)
@given(expressions(), st.data())
def test_what_is_made_of_a_leaf_is_what_is_made_of_a_stored_vector(case, data):
    rows, arrays, pairs = case
    number = st.integers(0, len(pairs) - 1)
    values = np.random.default_rng(1).normal(size=(rows, 1, 1))
    first, second, third = (pairs[data.draw(number)][0] for _ in range(3))
    found = {}
    for kind in ("stored", "leaf"):
        node = stored([values], (1, 1), values.dtype) if kind == "stored" else leaf("later", (1, 1), values.dtype)
        made = applied(np.add, applied(np.multiply, first, second), node)
        other = applied(np.multiply, made, third)
        made.is_wanted = True
        sums = [Sum(made, third), Sum(other)]
        if data.draw(st.booleans(), label="the leaf is read last"):
            sums.append(Sum(applied(np.square, node), third))
        wanted = [other]
        assert leaves(wanted, sums) == ([node] if kind == "leaf" else [])
        program, given_nodes, of_leaf, to_store = compiled(wanted, sums)
        given_arrays = [arrays.get(id(each), values) for each in given_nodes]
        if of_leaf is not None:
            given_arrays.append(values.copy())
        with np.errstate(all="ignore"):
            outputs, totals = run(program, given_arrays, rows)
        stored_by_node = {id(each): output for each, output in zip(to_store, outputs, strict=True)}
        found[kind] = [stored_by_node[id(made)], stored_by_node[id(other)], *totals[:2]]
        # The leaf's memory is taken by what alone is made of it.
        if kind == "leaf" and len(sums) == 2 and made.shape == (1, 1) and made.dtype == float:
            assert outputs[to_store.index(made)] is given_arrays[-1]
    for a, b in zip(*found.values(), strict=True):
        assert_array_equal(a, b)


@pytest.mark.parametrize("is_stored", [True, False])
def test_a_leaf_that_is_summed_keeps_its_memory(is_stored):
    values = np.arange(31.0).reshape(31, 1, 1)
    node = leaf("later", (1, 1), values.dtype)
    node.is_wanted = is_stored
    made = applied(np.negative, node)
    program, *_ = compiled([made], [Sum(node, node), Sum(node)])
    outputs, [squares, largest] = run(program, [values.copy()], 31)
    assert_array_equal(outputs[-1], -values)
    assert (squares.item(), largest.item()) == ((values**2).sum(), 30.0)
    assert len(outputs) == 1 + is_stored


def test_a_stored_node_is_a_leaf_of_what_is_computed_after_it():
    v = stored([np.ones((5, 1, 1))], (1, 1), np.dtype(float))
    doubled = applied(np.add, v, v)
    doubled.pieces = ["there"]
    program, given_nodes, *_ = compiled([applied(np.negative, doubled)], [])
    assert given_nodes == (doubled,)
    assert [instruction.function for instruction in program.instructions] == [np.negative]


@pytest.mark.parametrize(
    "function", [*UFUNCS, np.where, Cast("<f4"), Cast(">f8"), Candidate(0), Candidate(17)], ids=str
)
def test_the_name_of_a_function_is_that_of_no_other(function):
    assert function_named(name_of(function)) == function


@pytest.mark.parametrize(
    "name", ["load", "sum", "nonsense", "__doc__", "", "cast", "cast x", "candidate", "candidate x"]
)
def test_what_names_no_function_of_an_expression_is_refused(name):
    with pytest.raises((ValueError, TypeError)):
        function_named(name)
