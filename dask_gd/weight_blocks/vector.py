"""Vectors of weights in blocks, which solvers use as they use arrays: see `solvers.vectors`."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from ..solvers import vectors
from .expression import Cast, Node, Sum, applied, combined, constant

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

    def compute(self, wanted: Sequence[Node], sums: Sequence[Sum]) -> Callable[[], list[np.ndarray]]:
        """Store nodes where their blocks are, and return what waits for sums over all weights, (k, m) each."""
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
        #: Sums of products, and of None the largest component, by the other's id: see `block_sums`.
        self.known: dict[int, tuple[Callable[[], Any], Callable[[], np.ndarray]]] = {}
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
        return on_vectors(ufunc, *inputs)

    def _refuse(self, *arguments: Any, **keywords: Any) -> Any:
        raise TypeError("Weights in blocks are no array.")

    __array__ = __array_function__ = __bool__ = __len__ = __iter__ = _refuse


def _space_of(values: Sequence[Any]) -> Space:
    """Return the space of the first vector among values."""
    return next(value.space for value in values if isinstance(value, BlockVector))


def on_vectors(function: Any, *inputs: Any) -> BlockVector:
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


def stored_node(v: BlockVector) -> Node:
    """Return the node of a vector that is stored: of what is compact, or a multiple, it is another."""
    return multiple_of(v.node)[0]


def shortened(v: BlockVector) -> BlockVector:
    """Return a vector to be stored with the next, in the dtype of what need not be exact."""
    dtype = v.space.compact
    if dtype is None:
        return vectors.at_hand(v)
    short = v.node
    if short.dtype != dtype:
        short = applied(Cast(dtype), short)
    return vectors.at_hand(BlockVector(v.space, applied(Cast("<f8"), short), v.constant))
