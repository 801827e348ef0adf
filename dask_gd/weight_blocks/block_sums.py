"""Sums over all weights in blocks: inner products of vectors, and largest components, computed several at once.

What is known of two vectors stays known as long as both are there. Sums are fetched when they are asked for.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from .expression import Cast, Node, Sum, applied
from .vector import BlockVector, Pair, Space, stored_node


def expect(space: Space, pairs: Sequence[Pair]) -> None:
    """Have sums computed beside the next ones, as they will be asked for."""
    space.expected += [pair for pair in pairs if not is_known(*pair)]


def know_sums(space: Space, pairs: Sequence[Pair]) -> None:
    """Compute the sums of products over all weights, without the intercepts, of pairs whose sums are not known.

    What is expected to be asked for next is computed beside. Nothing is waited for.
    """
    if not all(is_known(*pair) for pair in pairs):
        _compute(space, [*pairs, *space.expected])


def settle(space: Space) -> None:
    """Store what is to be stored, and compute what is expected to be asked for. Nothing is waited for."""
    _compute(space, space.expected)


def _compute(space: Space, pairs: Sequence[Pair]) -> None:
    """Compute the sums of pairs that are not known, and store what is to be stored."""
    missing: dict[tuple[int, int], Pair] = {}
    for a, b in pairs:
        if not is_known(a, b):
            missing.setdefault((id(a), id(b)), (a, b))
    wanted = [stored_node(v) for v in space.to_store]
    space.expected = []
    space.to_store = []
    several = list(missing.values())
    asked = [_sum_and_factor(a, b) for a, b in several]
    sums = space.compute(wanted, [each for each, _ in asked])
    for number, ((a, b), (_, factor)) in enumerate(zip(several, asked, strict=True)):
        found = partial(_multiple, sums, number, factor)
        if b is None:
            a.known[id(None)] = (lambda: None), found
        else:
            a.known[id(b)] = weakref.ref(b), found
            b.known[id(a)] = weakref.ref(a), found


def _multiple(sums: Callable[[], list[np.ndarray]], number: int, factor: float) -> np.ndarray:
    """Return a multiple of one of several sums, which are waited for."""
    return factor * sums()[number]


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


def sum_of(a: BlockVector, b: BlockVector | None) -> np.ndarray:
    """Return the sum of products over all weights, without the intercepts, for each output and candidate: (k, m).

    Of one vector and None it is the largest component.
    """
    know_sums(a.space, [(a, b)])
    _, found = a.known[id(b)]
    return found()


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


def is_known(a: BlockVector, b: BlockVector | None) -> bool:
    """Return whether the sum of products of two vectors is known, or the largest component of one and None."""
    # The number of a vector that is gone may be another's now.
    return id(b) in a.known and a.known[id(b)][0]() is b


def squares_of(query: BlockVector) -> list[Pair]:
    """Return the pairs of vectors from whose products the squares of a query's weights follow."""
    if query.line is None:
        return [(query, query)]
    start, direction, _ = query.line
    return [(start, start), (start, direction), (direction, direction)]
