"""Elementwise expressions of weights in blocks, and their evaluation in pieces that stay in the cache.

An expression is a tree of nodes, the same for all blocks. What solvers do to weights makes nodes and computes nothing.
A `Program` then computes several expressions of a block at once, and sums over them, so that each vector comes from
memory once: vectors of many millions of weights cost what their reading costs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..worker_env import mapped

#: Values of a piece: a few pieces of float64 stay in the second-level cache.
PIECE = 1 << 14


class Node:
    """An expression: a function of other nodes, a constant, or vectors that are there, a piece of memory a block.

    Shapes are those of `solvers.vectors` without the weights' axis: (k, m).
    """

    __slots__ = (
        "arguments",
        "dtype",
        "files",
        "function",
        "is_spent",
        "is_wanted",
        "lasts",
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
        #: The files that have it on disk, one for each block.
        self.files: list[Any] | None = None
        #: To be stored by the next program that computes it.
        self.is_wanted = False
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


def applied(function: Any, *arguments: Node) -> Node:
    """Return the node of a function of others; of constants it is computed."""
    # On one value each, to know shape and dtype.
    trial = [np.ones((1, *argument.shape), argument.dtype) for argument in arguments]
    with np.errstate(all="ignore"):
        result = function(*trial)
    if all(argument.is_constant for argument in arguments):
        return constant(function(*(argument.value for argument in arguments)))
    return Node(function, arguments, result.shape[1:], result.dtype)


class Candidate(NamedTuple):
    """The function that takes one candidate alone: (q, k, m) -> (q, k, 1)."""

    number: int

    def __call__(self, v: np.ndarray) -> np.ndarray:
        return v[:, :, self.number : self.number + 1]


class Cast(NamedTuple):
    """The function that takes values to another dtype."""

    dtype: str

    def __call__(self, v: np.ndarray) -> np.ndarray:
        return v.astype(self.dtype)


class Sum(NamedTuple):
    """A number for each output and candidate: of the products of two nodes the sum, or of one node the largest."""

    first: Node
    second: Node | None = None


class Instruction(NamedTuple):
    """A function of registers, whose values go to a register."""

    function: Any
    arguments: tuple[int, ...]
    to: int
    #: The buffer that holds the values: its number, None for the memory of an output or a view of the argument's.
    buffer: int | None
    output: int | None


class Program(NamedTuple):
    """What is to be computed of each block."""

    #: Registers of the vectors that are given, and of constants.
    given: int
    constants: tuple[tuple[int, np.ndarray], ...]
    instructions: tuple[Instruction, ...]
    registers: int
    #: Shape and dtype of each buffer and of each output.
    buffers: tuple[tuple[tuple[int, int], np.dtype], ...]
    outputs: tuple[tuple[tuple[int, int], np.dtype], ...]
    #: Registers of sums: products of two, or the largest of one and None.
    sums: tuple[tuple[int, int | None], ...]
    #: Values that a row of a piece is taken to have.
    width: int


class Compiled(NamedTuple):
    """A program, the nodes of the vectors that it is given, and the nodes that it stores."""

    program: Program
    given: tuple[Node, ...]
    stored: tuple[Node, ...]


def compiled(wanted: Sequence[Node], sums: Sequence[Sum], width: int = 1) -> Compiled:
    """Return the program that stores the wanted nodes, and others that are marked so, and computes the sums.

    Pieces are of rows of so many values, whatever is computed of them: the bits of a sum depend on this alone.
    """
    order = _in_order([*wanted, *(node for each in sums for node in each if node is not None)])
    given = [node for node in order if node.pieces is not None]
    constants = [node for node in order if node.is_constant]
    computed = [node for node in order if node.pieces is None and not node.is_constant]
    to_store = [node for node in computed if node.is_wanted or any(node is each for each in wanted)]

    # Registers by node; those of constants and given vectors come first.
    register = {id(node): number for number, node in enumerate([*given, *constants, *computed])}
    output = {id(node): number for number, node in enumerate(to_store)}
    last_use = _last_uses(computed, sums)
    pool: dict[tuple, list[int]] = {}
    buffers: list[tuple[tuple[int, int], np.dtype]] = []
    held: dict[int, int] = {}
    instructions = []
    for position, node in enumerate(computed):
        number = None
        is_view = isinstance(node.function, Candidate)
        if id(node) not in output and not is_view:
            kind = (node.shape, node.dtype)
            free = pool.setdefault(kind, [])
            if not free:
                buffers.append(kind)
                free.append(len(buffers) - 1)
            number = free.pop()
            held[id(node)] = number
        arguments = tuple(register[id(argument)] for argument in node.arguments)
        instructions.append(Instruction(node.function, arguments, register[id(node)], number, output.get(id(node))))
        # Buffers that nothing needs any more are for the next.
        for argument in computed[: position + 1]:
            if last_use.get(id(argument)) == position and id(argument) in held:
                pool[argument.shape, argument.dtype].append(held.pop(id(argument)))
    pairs = []
    for each in sums:
        second = None
        if each.second is not None:
            second = register[id(each.second)]
        pairs.append((register[id(each.first)], second))
    program = Program(
        given=len(given),
        constants=tuple((register[id(node)], node.value) for node in constants),  # type: ignore[misc]
        instructions=tuple(instructions),
        registers=len(order),
        buffers=tuple(buffers),
        outputs=tuple((node.shape, node.dtype) for node in to_store),
        sums=tuple(pairs),
        width=width,
    )
    return Compiled(program, tuple(given), tuple(to_store))


def _in_order(roots: Sequence[Node]) -> list[Node]:
    """Return the nodes that the roots are made of, each once and after its arguments; stored vectors end the search."""
    order: list[Node] = []
    seen: set[int] = set()
    # A node is put back below its arguments, and taken up once these are done.
    stack = [(root, False) for root in reversed(roots)]
    while stack:
        node, is_ready = stack.pop()
        if is_ready:
            order.append(node)
            continue
        if id(node) in seen:
            continue
        assert not node.is_spent, "A vector is used that its solver has given away."
        seen.add(id(node))
        stack.append((node, True))
        if node.pieces is None:
            stack.extend((argument, False) for argument in reversed(node.arguments))
    return order


def _last_uses(computed: Sequence[Node], sums: Sequence[Sum]) -> dict[int, int]:
    """Return the position of the last instruction that reads each node; one that is summed is read after all."""
    last: dict[int, int] = {}
    for position, node in enumerate(computed):
        for argument in node.arguments:
            last[id(argument)] = position
    # A view lives in the memory of what it is a part of.
    for node in reversed(computed):
        if isinstance(node.function, Candidate):
            of = id(node.arguments[0])
            last[of] = max(last.get(of, 0), last.get(id(node), 0))
    for each in sums:
        for summed in each:
            if summed is not None:
                _keep_to_end(summed, last, len(computed))
    return last


def _keep_to_end(node: Node, last: dict[int, int], end: int) -> None:
    """Have a node, and what it is a view of, last until the end."""
    last[id(node)] = end
    if isinstance(node.function, Candidate) and node.pieces is None:
        _keep_to_end(node.arguments[0], last, end)


def run(program: Program, given: Sequence[np.ndarray], rows: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the stored vectors (rows, k, m) of a block, and the sums, (k, m) each, in pieces in the order of the rows.

    The sums' bits depend on the block and the program's shapes alone.
    """
    outputs = [mapped((rows, *shape), dtype) for shape, dtype in program.outputs]
    sums: list[Any] = [None] * len(program.sums)
    step = max(1, PIECE // program.width)
    buffers = [np.empty((min(step, rows), *shape), dtype) for shape, dtype in program.buffers]
    registers: list[Any] = [None] * program.registers
    for number, value in program.constants:
        registers[number] = value
    for start in range(0, rows, step):
        piece = slice(start, min(start + step, rows))
        count = piece.stop - piece.start
        registers[: program.given] = [array[piece] for array in given]
        for function, arguments, to, buffer, output in program.instructions:
            values = [registers[number] for number in arguments]
            out = None
            if output is not None:
                out = outputs[output][piece]
            elif buffer is not None:
                out = buffers[buffer][:count]
            registers[to] = _apply(function, values, out)
        for number, (first, second) in enumerate(program.sums):
            found = _sum_of(registers[first], registers, second, count)
            sums[number] = _added(sums[number], found, second is None)
    return outputs, sums


def _apply(function: Callable, values: list[np.ndarray], out: np.ndarray | None) -> np.ndarray:
    """Return the values of a function, in the memory that is given."""
    if out is None:
        return function(*values)
    if function is np.where:
        condition, a, b = values
        np.copyto(out, b)
        np.copyto(out, a, where=condition)
        return out
    if isinstance(function, Candidate):
        np.copyto(out, function(*values))
        return out
    if isinstance(function, Cast):
        np.copyto(out, values[0], casting="same_kind")
        return out
    return function(*values, out=out)


def _sum_of(first: np.ndarray, registers: list[np.ndarray], second: int | None, count: int) -> np.ndarray:
    """Return the sum of products, or the largest, over the weights of a piece, (k, m)."""
    if second is None:
        return np.broadcast_to(first, (count, *first.shape[1:])).max(axis=0)
    other = registers[second]
    shape = np.broadcast_shapes((count, 1, 1), first.shape, other.shape)
    # Products of two columns without gaps are taken as such.
    if shape[1:] == (1, 1) and len(first) == len(other) == count:
        return np.dot(first.reshape(-1), other.reshape(-1)).reshape(1, 1)
    return np.einsum("qkm,qkm->km", np.broadcast_to(first, shape), np.broadcast_to(other, shape))


def _added(total: np.ndarray | None, found: np.ndarray, is_largest: bool) -> np.ndarray:
    """Return a sum, or the largest, with that of one more piece."""
    if total is None:
        return found
    if is_largest:
        return np.maximum(total, found)
    return total + found
