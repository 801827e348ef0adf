"""Vectors of weights in blocks, which solvers use as they use arrays: see `solvers.vectors`."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from ..solvers import vectors
from .expression import Candidate, Cast, Node, Sum, applied, combined, constant

FLOAT32 = np.dtype(np.float32)


class Space(Protocol):
    """Where the blocks are: it computes what solvers need to know."""

    @property
    def features(self) -> int:
        """The number of weights of an output, without the intercept."""
        ...

    @property
    def outputs(self) -> int:
        """The number of outputs, k."""
        ...

    @property
    def fit_intercept(self) -> bool:
        """Whether there is an intercept."""
        ...

    @property
    def compact(self) -> str | None:
        """The dtype of vectors that are kept for long and need not be exact; None for float64."""
        ...

    @property
    def squares(self) -> bool:
        """Whether the squares of weights are asked for at each query."""
        ...

    #: Pairs of vectors whose sums are computed beside the next, as they will be asked for.
    expected: list[Pair]
    #: Vectors that are stored beside.
    to_store: list[BlockVector]
    #: The next query, see `vectors.foresee`.
    foreseen: BlockVector | None

    def compute(self, wanted: Sequence[Node], sums: Sequence[Sum]) -> list[np.ndarray]:
        """Store nodes where their blocks are, and return sums over all weights, (k, m) each."""
        ...


class BlockVector(np.lib.mixins.NDArrayOperatorsMixin):
    """Weights, or what solvers make of them: an expression of the blocks, and the intercepts, which are at hand.

    Nothing is computed until a solver asks for a number, or `BlockVector.space` is told to store it.
    """

    __hash__ = object.__hash__

    def __init__(self, space: Space, node: Node, constant: np.ndarray):
        self.space = space
        self.node = node
        #: The intercepts (1, k, m); 0 where there is none.
        self.constant = constant
        #: Sums of products that are known, by the other vector's id.
        self.known: dict[int, tuple[weakref.ref, np.ndarray]] = {}
        #: The largest component, (k, m), where it is known.
        self.largest: np.ndarray | None = None
        #: Of trial steps the start, the direction and the steps; predictions along them need no reading.
        self.line: tuple[BlockVector, BlockVector, np.ndarray] | None = None
        #: The predictions of the rows, where they are known; and the files that have them, where these are not what a
        #: pass at this vector would give to the last bit.
        self.predicted: Any = None
        self.predicted_files: list[Any] | None = None
        #: What has been asked for of the rows at this vector, and not yet been taken.
        self.asked: Any = None
        self.is_moved = False
        #: Where it was reached from along a line, and the way.
        self.way: tuple[weakref.ref, BlockVector] | None = None
        #: Its candidates, by number: the same object each time, so that what is found out of it stays known.
        self.taken: dict[int, BlockVector] = {}
        #: See `as_kept`.
        self.kept: BlockVector | None = None
        #: See `vector_free`: what the estimate of the inverse curvature begins with, of this vector.
        self.image: Any = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(q, k, m) of the array that it stands for."""
        k, m = self.node.shape
        return vectors.length(self), k, m

    @property
    def size(self) -> int:
        """The number of values."""
        q, k, m = self.shape
        return q * k * m

    @property
    def nbytes(self) -> int:
        """The bytes that the client holds: none beside the intercepts."""
        return self.constant.nbytes

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        if method != "__call__" or keywords:
            raise TypeError(f"{ufunc.__name__}.{method}({', '.join(keywords)}) of weights in blocks: elementwise only.")
        return _applied(ufunc, *inputs)

    def _refuse(self, *arguments: Any, **keywords: Any) -> Any:
        raise TypeError("Weights in blocks are no array.")

    __array__ = __array_function__ = __bool__ = __len__ = __iter__ = _refuse


def _space_of(values: Sequence[Any]) -> Space:
    """Return the space of the first vector among values."""
    return next(value.space for value in values if isinstance(value, BlockVector))


def _applied(function: Any, *inputs: Any) -> BlockVector:
    """Return a function of vectors, and of numbers that are the same for all weights."""
    nodes = []
    constants = []
    for value in inputs:
        if isinstance(value, BlockVector):
            nodes.append(value.node)
            constants.append(value.constant)
            continue
        value = np.asarray(value)
        if value.ndim == 3 and len(value) != 1:
            raise TypeError(f"An array {value.shape} has a value for each weight; weights in blocks take none.")
        nodes.append(constant(value))
        constants.append(value)
    with np.errstate(all="ignore"):
        at_intercept = np.asarray(function(*constants))
    node = applied(function, *_in_one_dtype(nodes))
    return BlockVector(_space_of(inputs), node, at_intercept.reshape((1, *at_intercept.shape[-2:])))


def _in_one_dtype(nodes: Sequence[Node]) -> list[Node]:
    """Return nodes whose constants have float32 where all vectors do, see `as_kept`."""
    kinds = {node.dtype for node in nodes if node.value is None}
    found = []
    for node in nodes:
        if kinds == {FLOAT32} and node.value is not None and node.dtype == float:
            with np.errstate(over="ignore"):
                node = constant(node.value.astype(FLOAT32))
        found.append(node)
    return found


#: Two vectors that are multiplied, or one whose largest component is meant, and None.
Pair = tuple[BlockVector, BlockVector | None]


def same(space: Space, value: float, at_intercept: float, shape: tuple[int, int] = (1, 1)) -> BlockVector:
    """Return a vector with one value for all weights, and another for the intercepts."""
    return BlockVector(space, constant(np.full(shape, value)), np.full((1, *shape), at_intercept))


def combination(factors: Sequence[Any], several: Sequence[BlockVector]) -> BlockVector:
    """Return the sum of multiples of vectors; factors are the same for all weights. In fewer steps than one by one."""
    at_intercept = sum(np.asarray(f) * v.constant for f, v in zip(factors, several, strict=True))
    arguments: list[Node] = []
    for factor, v in zip(factors, several, strict=True):
        node, multiple = multiple_of(v.node)
        arguments += [constant(factor * multiple), node]
    node = applied(combined, *_in_one_dtype(arguments))
    return BlockVector(_space_of(several), node, np.asarray(at_intercept))


def as_kept(v: BlockVector) -> BlockVector:
    """Return a vector in the dtype in which it is kept: what is computed of several such has as few digits."""
    node, factor = multiple_of(v.node)
    if node is v.node or np.any(factor != 1.0):
        return v
    # The same object each time, so that its products stay known.
    if v.kept is None or v.kept.node is not node:
        v.kept = BlockVector(v.space, node, v.constant)
    return v.kept


def multiple_of(node: Node) -> tuple[Node, np.ndarray]:
    """Return the node of which this is a multiple, as it is stored, and the factor; itself and 1 if it is none."""
    factor: Any = np.ones((1, 1, 1))
    while node.pieces is None and not node.is_wanted:
        if isinstance(node.function, Cast) and np.dtype(node.function.dtype) == float:
            [node] = node.arguments
        elif node.function is np.multiply and any(each.is_constant for each in node.arguments):
            first, second = node.arguments
            if second.is_constant:
                first, second = second, first
            factor = factor * first.value
            node = second
        else:
            break
    return node, factor


def expect(space: Space, pairs: Sequence[Pair]) -> None:
    """Have sums computed beside the next ones, as they will be asked for."""
    space.expected += [pair for pair in pairs if _known(*pair) is None]


def know_sums(space: Space, pairs: Sequence[Pair]) -> None:
    """Compute the sums of products over all weights, without the intercepts, of pairs whose sums are not known.

    What is expected to be asked for next is computed beside.
    """
    if all(_known(*pair) is not None for pair in pairs):
        return
    missing: dict[tuple[int, int], Pair] = {}
    for a, b in (*pairs, *space.expected):
        if _known(a, b) is None:
            missing.setdefault((id(a), id(b)), (a, b))
    wanted = [stored_node(v) for v in space.to_store]
    space.expected = []
    space.to_store = []
    several = list(missing.values())
    asked = [_sum_and_factor(a, b) for a, b in several]
    sums = space.compute(wanted, [each for each, _ in asked])
    for (a, b), (_, factor), found in zip(several, asked, sums, strict=True):
        found = factor * found
        if b is None:
            a.largest = found
        else:
            a.known[id(b)] = weakref.ref(b), found
            b.known[id(a)] = weakref.ref(a), found


def _sum_and_factor(a: BlockVector, b: BlockVector | None) -> tuple[Sum, float]:
    """Return the sum that a pair asks for, without numbers that one of them is multiplied by, and their product."""
    first, factor = _without_factor(a.node)
    if b is None:
        if factor > 0:
            return Sum(first), factor
        return Sum(a.node), 1.0
    second, other = _without_factor(b.node)
    if first.dtype != second.dtype:
        first, second = (applied(Cast("<f8"), each) for each in (first, second))
    return Sum(first, second), factor * other


def _without_factor(node: Node) -> tuple[Node, float]:
    """Return the node of which this is a multiple by a number, which is computed in its place, and the number."""
    factor = 1.0
    while node.function is np.multiply and node.pieces is None and not node.is_wanted:
        first, second = node.arguments
        if first.is_constant:
            first, second = second, first
        if not second.is_constant or second.value.size > 1 or first.is_constant:  # type: ignore[union-attr]
            break
        factor *= second.value.item()  # type: ignore[union-attr]
        node = first
    return node, factor


def sum_of(a: BlockVector, b: BlockVector) -> np.ndarray:
    """Return the sum of products over all weights, without the intercepts, for each output and candidate: (k, m)."""
    know_sums(a.space, [(a, b)])
    found = _known(a, b)
    assert found is not None
    return found


def dots(pairs: Sequence[tuple[BlockVector, BlockVector]]) -> list[np.ndarray]:
    """Return inner products (m,) of pairs of vectors, computed together."""
    know_sums(pairs[0][0].space, pairs)
    found = []
    for a, b in pairs:
        total = sum_of(a, b)
        # Without an intercept there is some number in its place.
        if a.space.fit_intercept:
            total = total + (a.constant * b.constant)[0]
        found.append(total.sum(axis=0))
    return found


def _known(a: BlockVector, b: BlockVector | None) -> np.ndarray | None:
    """Return the sum of products of two vectors, or the largest component of one and None, where it is known."""
    if b is None:
        return a.largest
    other, found = a.known.get(id(b), (None, None))
    # The number of a vector that is gone may be another's now.
    if other is not None and other() is b:
        return found
    return None


@vectors.length.register
def _(v: BlockVector) -> int:
    return v.space.features + bool(v.space.fit_intercept)


@vectors.count_candidates.register
def _(v: BlockVector) -> int:
    return v.node.shape[1]


@vectors.zeros_like.register
def _(v: BlockVector) -> BlockVector:
    return same(v.space, 0.0, 0.0, v.node.shape)


@vectors.zeros_by_weight.register
def _(v: BlockVector) -> BlockVector:
    return same(v.space, 0.0, 0.0)


@vectors.where.register
def _(condition: BlockVector, a: Any, b: Any) -> BlockVector:
    return _applied(np.where, condition, a, b)


@vectors.dot.register
def _(a: BlockVector, b: BlockVector) -> np.ndarray:
    return dots([(a, b)])[0]


@vectors.dots.register
def _(first: BlockVector, *others: BlockVector) -> list[np.ndarray]:
    several = (first, *others)
    return dots(list(zip(several[::2], several[1::2], strict=True)))


@vectors.largest.register
def _(v: BlockVector) -> np.ndarray:
    know_sums(v.space, [(v, None)])
    largest = v.largest
    assert largest is not None
    if v.space.fit_intercept:
        largest = np.maximum(largest, v.constant[0])
    return largest.max(axis=0)


@vectors.total.register
def _(v: BlockVector) -> float:
    one = same(v.space, 1.0, 1.0)
    [found] = dots([(v, one)])
    return float(found.sum())


@vectors.candidate.register
def _(v: BlockVector, i: int) -> BlockVector:
    if v.line is None and v.node.shape[1] == 1:
        return v
    if i not in v.taken:
        v.taken[i] = _candidate(v, i)
    return v.taken[i]


def _candidate(v: BlockVector, i: int) -> BlockVector:
    """Return candidate i alone, with its predictions where they are known."""
    if v.line is not None:
        start, direction, steps = v.line
        way = direction * steps[i : i + 1]
        taken = start + way
        taken.is_moved = True
        taken.way = (weakref.ref(start), way)
        if start.predicted is not None and direction.predicted is not None:
            taken.predicted = start.predicted.moved(direction.predicted, float(steps[i]))
        return taken
    taken = BlockVector(v.space, applied(Candidate(i), v.node), v.constant[:, :, i : i + 1])
    if v.predicted is not None:
        taken.predicted = v.predicted.candidate(i)
    return taken


@vectors.along.register
def _(start: BlockVector, direction: BlockVector, steps: np.ndarray) -> BlockVector:
    query = start + direction * steps
    query.line = (start, direction, steps)
    if start.space.squares:
        expect(start.space, squares_of(query))
    return query


@vectors.foresee.register
def _(query: BlockVector) -> BlockVector:
    # What is no line has its predictions from its own weights, which are not there yet.
    if query.line is not None:
        query.space.foreseen = query
    return query


def squares_of(query: BlockVector) -> list[Pair]:
    """Return the pairs of vectors from whose products the squares of a query's weights follow."""
    if query.line is None:
        return [(query, query)]
    start, direction, _ = query.line
    return [(start, start), (start, direction), (direction, direction)]


@vectors.intercept.register
def _(v: BlockVector) -> np.ndarray:
    return v.constant


@vectors.lower_intercept.register
def _(v: BlockVector, means: BlockVector) -> BlockVector:
    if not v.space.fit_intercept:
        return v
    return BlockVector(v.space, v.node, v.constant - sum_of(v, means))


@vectors.change.register
def _(before: BlockVector, after: BlockVector) -> BlockVector:
    # The way along a line needs no more than its direction.
    if after.way is not None and after.way[0]() is before:
        return after.way[1]
    return after - before


@vectors.most_trials.register
def _(v: BlockVector, most: int, on_line: bool) -> int:
    # Predictions along a line need no reading, and gradients of trials that are not taken none either.
    if on_line or vectors.length(v) <= vectors.WIDE:
        return most
    return 1


@vectors.compact.register
def _(v: BlockVector) -> BlockVector:
    # A multiple of what is stored takes no memory of its own.
    if v.node.is_constant or stored_node(v).pieces is not None:
        return v
    short = shortened(v)
    stored_node(short).is_apart = True
    return short


def shortened(v: BlockVector) -> BlockVector:
    """Return a vector to be stored with the next, in the dtype of what need not be exact."""
    dtype = v.space.compact
    if dtype is None:
        return vectors.at_hand(v)
    short = v.node
    if short.dtype != dtype:
        short = applied(Cast(dtype), short)
    return vectors.at_hand(BlockVector(v.space, applied(Cast("<f8"), short), v.constant))


@vectors.spent.register
def _(v: BlockVector, *made: BlockVector) -> None:
    node = stored_node(v)
    if any(stored_node(each) is node for each in made):
        return
    # One by one: what is stored together stays together, and these do not stay for as long.
    for each in made:
        v.space.compute([stored_node(each)], [])
    # Solvers that begin at zeros, and what stays for the run, keep it.
    if node.pieces is not None and not node.lasts:
        node.pieces = None
        node.is_spent = True


def stored_node(v: BlockVector) -> Node:
    """Return the node of a vector that is stored: of what is compact, or a multiple, it is another."""
    return multiple_of(v.node)[0]


@vectors.at_hand.register
def _(v: BlockVector) -> BlockVector:
    stored_node(v).is_wanted = True
    v.space.to_store.append(v)
    return v
