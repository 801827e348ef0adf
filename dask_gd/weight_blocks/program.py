"""Programs: several expressions of a block at once, and sums over them, in pieces that stay in the cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..worker_env import mapped
from .expression import Candidate, Node, Sum

#: Values of a piece: some pieces of float64 stay in the last cache, and are long enough to come from memory fast.
PIECE = 1 << 16
#: Products of float32 that are added up in it: the sums of so many are added in float64.
SUMMED = 1 << 12


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

    #: Registers of the vectors that are given, the leaf's behind the others, and of constants.
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
    #: The output that is in the memory of the leaf.
    into: int | None


class Compiled(NamedTuple):
    """A program, the nodes of the vectors that it is given, and the nodes that it stores."""

    program: Program
    given: tuple[Node, ...]
    leaf: Node | None
    stored: tuple[Node, ...]


def compiled(wanted: Sequence[Node], sums: Sequence[Sum], width: int = 1) -> Compiled:
    """Return the program that stores the wanted nodes, and others that are marked so, and computes the sums.

    Pieces are of rows of so many values, whatever is computed of them: the bits of a sum depend on this alone. There is
    at most one leaf, see `leaves`.
    """
    order = _in_order(_roots(wanted, sums))
    given = [node for node in order if node.pieces is not None]
    of_leaf = [node for node in order if node.leaf is not None]
    assert len(of_leaf) <= 1
    constants = [node for node in order if node.is_constant]
    computed = [node for node in order if node.function is not None and node.pieces is None and not node.is_constant]
    asked = {id(node) for node in wanted}
    to_store = [node for node in (*of_leaf, *computed) if node.is_wanted or id(node) in asked]

    # Registers by node; those of constants and given vectors come first.
    register = {id(node): number for number, node in enumerate([*given, *of_leaf, *constants, *computed])}
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
    into = None
    for node in of_leaf:
        into = output.get(id(node), _in_place(node, computed, output, last_use))
    program = Program(
        given=len(given) + len(of_leaf),
        constants=tuple((register[id(node)], node.value) for node in constants),  # type: ignore[misc]
        instructions=tuple(instructions),
        registers=len(order),
        buffers=tuple(buffers),
        outputs=tuple((node.shape, node.dtype) for node in to_store),
        sums=tuple(pairs),
        width=width,
        into=into,
    )
    return Compiled(program, tuple(given), next(iter(of_leaf), None), tuple(to_store))


def leaves(wanted: Sequence[Node], sums: Sequence[Sum]) -> list[Node]:
    """Return the leaves of which nodes and sums are made."""
    return [node for node in _in_order(_roots(wanted, sums)) if node.leaf is not None]


def _roots(wanted: Sequence[Node], sums: Sequence[Sum]) -> list[Node]:
    """Return the nodes that are wanted, and those of sums."""
    return [*wanted, *(node for each in sums for node in each if node is not None)]


def _in_place(of: Node, computed: Sequence[Node], output: dict[int, int], last_use: dict[int, int]) -> int | None:
    """Return the output that a leaf's memory can have: the leaf is read by its instruction, and by none after it."""
    last = last_use.get(id(of), len(computed))
    if last == len(computed):
        return None
    node = computed[last]
    if (node.shape, node.dtype) != (of.shape, of.dtype):
        return None
    return output.get(id(node))


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


def run(
    program: Program,
    given: Sequence[np.ndarray],
    rows: int,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the stored vectors (rows, k, m) of a block, and the sums, (k, m) each, in pieces in the order of the rows.

    The sums' bits depend on the block and the program's shapes alone. The last of the given vectors may be changed,
    where the program has a leaf.
    """
    outputs = []
    for number, (shape, dtype) in enumerate(program.outputs):
        if number == program.into:
            outputs.append(given[-1])
        else:
            outputs.append(mapped((rows, *shape), dtype))
    step = max(1, PIECE // program.width)
    buffers = [np.empty((min(step, rows), *shape), dtype) for shape, dtype in program.buffers]
    registers: list[Any] = [None] * program.registers
    for number, value in program.constants:
        registers[number] = value
    operations = [instruction._replace(function=_writing(instruction.function)) for instruction in program.instructions]
    sums: list[Any] = [None] * len(program.sums)
    for start in range(0, rows, step):
        piece = slice(start, min(start + step, rows))
        count = piece.stop - piece.start
        if count < step:
            buffers = [buffer[:count] for buffer in buffers]
        registers[: program.given] = [array[piece] for array in given]
        for function, arguments, to, buffer, output in operations:
            values = [registers[number] for number in arguments]
            if output is not None:
                registers[to] = function(*values, out=outputs[output][piece])
            elif buffer is not None:
                registers[to] = function(*values, out=buffers[buffer])
            else:
                registers[to] = function(*values)
        for number, (first, second) in enumerate(program.sums):
            found = _sum_of(registers[first], registers, second, count)
            sums[number] = _added(sums[number], found, second is None)
    return outputs, [np.reshape(found, (1, 1)) if np.ndim(found) == 0 else found for found in sums]


def _writing(function: Any) -> Callable:
    """Return a function as it writes to the memory that it is given as ``out``."""
    if function is np.where:
        return _choose
    return function


def _choose(condition: np.ndarray, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Write a where the condition holds, else b."""
    np.copyto(out, b)
    np.copyto(out, a, where=condition)
    return out


def _sum_of(first: np.ndarray, registers: list[np.ndarray], second: int | None, count: int) -> Any:
    """Return the sum of products, or the largest, over the weights of a piece: (k, m), or a number for (1, 1)."""
    if second is None:
        return np.broadcast_to(first, (count, *first.shape[1:])).max(axis=0)
    other = registers[second]
    # Products of two columns without gaps are taken as such.
    if first.size == other.size == count == len(first) == len(other):
        return _product(first.reshape(-1), other.reshape(-1))
    shape = np.broadcast_shapes((count, 1, 1), first.shape, other.shape)
    several = (np.broadcast_to(first, shape), np.broadcast_to(other, shape))
    return np.einsum("qkm,qkm->km", *several, dtype=np.float64)


def _product(first: np.ndarray, second: np.ndarray) -> float:
    """Return an inner product in float64; of vectors in float32 the sums of some values have that."""
    if first.dtype != np.float32:
        return float(np.dot(first, second))
    whole = len(first) // SUMMED * SUMMED
    sums = np.matmul(first[:whole].reshape(-1, 1, SUMMED), second[:whole].reshape(-1, SUMMED, 1))
    return float(sums.sum(dtype=np.float64)) + float(np.dot(first[whole:], second[whole:]))


def _added(total: Any, found: Any, is_largest: bool) -> Any:
    """Return a sum, or the largest, with that of one more piece."""
    if total is None:
        return found
    if is_largest:
        return np.maximum(total, found)
    return total + found
