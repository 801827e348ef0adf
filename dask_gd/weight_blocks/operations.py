"""What solvers do to vectors, of weights in blocks: see `solvers.vectors`."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from ..solvers import vectors
from .block_sums import dots, expect, squares_of, sum_of
from .expression import Candidate, applied
from .vector import BlockVector, on_vectors, same, shortened, stored_node


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
    return on_vectors(np.where, condition, a, b)


@vectors.dot.register
def _(a: BlockVector, b: BlockVector) -> np.ndarray:
    return dots([(a, b)])[0]


@vectors.dots.register
def _(first: BlockVector, *others: BlockVector) -> list[np.ndarray]:
    several = (first, *others)
    return dots(list(zip(several[::2], several[1::2], strict=True)))


@vectors.largest.register
def _(v: BlockVector) -> np.ndarray:
    largest = sum_of(v, None)
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


@vectors.promised.register
def _(direction: BlockVector, slope: BlockVector) -> np.ndarray:
    # It tells when to go on to more rows, and there are none: nothing is waited for. The product comes with the next.
    expect(direction.space, [(direction, slope)])
    return np.full(1, np.inf)


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


@vectors.at_hand.register
def _(v: BlockVector) -> BlockVector:
    stored_node(v).is_wanted = True
    v.space.to_store.append(v)
    return v
