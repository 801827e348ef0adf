"""Elementwise expressions of weights in blocks, and their evaluation in pieces that stay in the cache.

An expression is a tree of nodes, the same for all blocks. What solvers do to weights makes nodes and computes nothing.
A `Program` then computes several expressions of a block at once, and sums over them, so that each vector comes from
memory once: vectors of many millions of weights cost what their reading costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Node:
    """An expression: a function of other nodes, a constant, or vectors that are there, a piece of memory a block.

    Shapes are those of `solvers.vectors` without the weights' axis: (k, m).
    """

    __slots__ = (
        "arguments",
        "dtype",
        "files",
        "function",
        "is_apart",
        "is_spent",
        "is_wanted",
        "lasts",
        "leaf",
        "pieces",
        "shape",
        "value",
    )

    def __init__(
        self,
        function: Any,
        arguments: tuple[Node, ...],
        shape: tuple[int, int],
        dtype: np.dtype,
    ):
        self.function = function
        self.arguments = arguments
        self.shape = shape
        self.dtype = dtype
        #: Of a constant (1, k, m).
        self.value: np.ndarray | None = None
        #: Of a vector that is there, whatever stands for its array of each block.
        self.pieces: list[Any] | None = None
        #: What computes its array of each block, where that is no expression; None once it is there.
        self.leaf: Any = None
        #: The files that have it on disk, one for each block.
        self.files: list[Any] | None = None
        #: To be stored by the next program that computes it.
        self.is_wanted = False
        #: Kept for longer than what is stored with it.
        self.is_apart = False
        #: Given away by its solver: it must not be used any more.
        self.is_spent = False
        #: Made of vectors only that stay for the whole run.
        self.lasts: bool = bool(arguments) and all(argument.lasts for argument in arguments)

    @property
    def is_constant(self) -> bool:
        """Whether it is the same for all weights."""
        return self.value is not None


def constant(value: Any) -> Node:
    """Return a node with the same values for all weights, (k, m) or what broadcasts to it."""
    value = np.asarray(value)
    value = value.reshape((1,) * (3 - value.ndim) + value.shape)
    node = Node(None, (), value.shape[1:], value.dtype)
    node.value = value
    node.lasts = True
    return node


def stored(pieces: Sequence[Any], shape: tuple[int, int], dtype: np.dtype, lasts: bool = False) -> Node:
    """Return a node of vectors that are there, one for each block."""
    node = Node(None, (), shape, dtype)
    node.pieces = list(pieces)
    node.lasts = lasts
    return node


def leaf(what: Any, shape: tuple[int, int], dtype: np.dtype) -> Node:
    """Return a node whose arrays are yet to be computed, by what is given, in one task with what is made of them."""
    node = Node(None, (), shape, dtype)
    node.leaf = what
    return node


def applied(function: Any, *arguments: Node) -> Node:
    """Return the node of a function of others; of constants it is computed."""
    # On one value each, to know shape and dtype.
    trial = [np.ones((1, *argument.shape), argument.dtype) for argument in arguments]
    with np.errstate(all="ignore"):
        result = function(*trial)
    # The opposite of a sum of multiples is a sum of others.
    if function is np.negative and arguments[0].function is combined and arguments[0].pieces is None:
        opposite = list(arguments[0].arguments)
        opposite[::2] = [applied(np.negative, factor) for factor in opposite[::2]]
        return Node(combined, tuple(opposite), result.shape[1:], result.dtype)
    if all(argument.is_constant for argument in arguments):
        return constant(function(*(argument.value for argument in arguments)))
    return Node(function, arguments, result.shape[1:], result.dtype)


class Candidate(NamedTuple):
    """The function that takes one candidate alone: (q, k, m) -> (q, k, 1)."""

    number: int

    def __call__(self, v: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        taken = v[:, :, self.number : self.number + 1]
        if out is None:
            return taken
        np.copyto(out, taken)
        return out


class Cast(NamedTuple):
    """The function that takes values to another dtype."""

    dtype: str

    def __call__(self, v: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        if out is None:
            return v.astype(self.dtype)
        np.copyto(out, v, casting="same_kind")
        return out


def combined(*several: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Return the sum of multiples of vectors, ``f1, v1, f2, v2, ...``, whose factors (1, k, m) are constants."""
    factors = several[::2]
    vectors = several[1::2]
    shape = vectors[0].shape
    if all(each.size == 1 for each in factors) and all(v.shape == shape for v in vectors):
        # By one product of a row and a matrix, which is in the cache.
        dtype = np.result_type(*several)
        together = np.empty((len(vectors), vectors[0].size), dtype)
        for number, v in enumerate(vectors):
            together[number] = v.reshape(-1)
        row = np.array([factor.item() for factor in factors], dtype)
        if out is not None:
            np.dot(row, together, out=out.reshape(-1))
            return out
        total = np.dot(row, together).reshape(shape)
    else:
        total = factors[0] * vectors[0]
        for factor, v in zip(factors[1:], vectors[1:], strict=True):
            total = total + factor * v
    if out is None:
        return total
    np.copyto(out, total)
    return out


class Sum(NamedTuple):
    """A number for each output and candidate: of the products of two nodes the sum, or of one node the largest."""

    first: Node
    second: Node | None = None
