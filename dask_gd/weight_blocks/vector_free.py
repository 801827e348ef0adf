"""The inverse curvature of L-BFGS from inner products alone (Chen, Wang and Zhou, 2014, "Large-scale L-BFGS using
MapReduce").

The two loops only add multiples of a few vectors. All inner products that they need are computed in one go, block by
block, and the loops run on the client on these numbers. The direction is then one linear combination.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..solvers import vectors
from ..solvers.lbfgs import announce, inverse_curvature
from .block_sums import expect, know_sums, sum_of
from .vector import BlockVector, Pair, as_kept, combination


@inverse_curvature.register
def _(
    v: BlockVector,
    pairs: Sequence[tuple[BlockVector, BlockVector]],
    diagonal: BlockVector,
    means: BlockVector,
) -> BlockVector:
    # The estimate H of the inverse curvature that the loops begin with: of centred features it is diagonal, so that
    # <a, H b> = <c(a), c(b) / diagonal> where c takes the means, times the intercept, from a.
    steps = [s for s, _ in pairs]
    changes = [y for _, y in pairs]
    products = _products(v, steps, changes, means, diagonal)

    # The loops of algorithm 7.4, on numbers.
    count = len(pairs)
    shares = np.zeros(count)
    for i in reversed(range(count)):
        along = products.steps_v[i] - sum(shares[j] * products.steps_changes[i, j] for j in range(i + 1, count))
        shares[i] = along / products.steps_changes[i, i]
    size = 1.0
    if count:
        size = products.steps_changes[-1, -1] / products.estimated[-1, -1]
    rests = np.zeros(count)
    for i in range(count):
        estimated = products.estimated_v[i] - sum(shares[j] * products.estimated[i, j] for j in range(count))
        along = size * estimated + sum(rests[j] * products.steps_changes[j, i] for j in range(i))
        rests[i] = shares[i] - along / products.steps_changes[i, i]

    # The vector: size H (v - sum shares y) + sum rests s. It need not be more exact than it is kept.
    rest = combination([1.0, *-shares], [v, *changes])
    shift = products.shift_v
    for share, own_shift in zip(shares, products.shifts, strict=True):
        shift = shift - share * own_shift
    step = (rest - as_kept(means) * vectors.intercept(rest)) / as_kept(diagonal)
    lowered = BlockVector(step.space, step.node, step.constant - shift)
    return combination([size, *rests], [lowered, *steps])


@announce.register
def _(
    v: BlockVector,
    pairs: Sequence[tuple[BlockVector, BlockVector]],
    diagonal: BlockVector,
    means: BlockVector,
) -> None:
    steps = [s for s, _ in pairs]
    changes = [y for _, y in pairs]
    expect(v.space, _needed(v, steps, changes, means, diagonal))


class _Products(NamedTuple):
    """Inner products of what the two loops add up: of the steps s, the changes y and the vector v."""

    steps_v: np.ndarray  # <s_i, v>
    steps_changes: np.ndarray  # <s_i, y_j>, for j from i on
    estimated_v: np.ndarray  # <y_i, H v>
    estimated: np.ndarray  # <y_i, H y_j>
    #: What H takes from the intercepts (1, k, 1): of v, and of each change.
    shift_v: np.ndarray
    shifts: list[np.ndarray]


def _products(
    v: BlockVector,
    steps: list[BlockVector],
    changes: list[BlockVector],
    means: BlockVector,
    diagonal: BlockVector,
) -> _Products:
    """Return the products, of which those that are new are computed together."""
    count = len(changes)
    know_sums(v.space, _needed(v, steps, changes, means, diagonal))

    images = [_image(a, means, diagonal) for a in (*changes, v)]
    shifts = [np.zeros((1, 1, 1)) for _ in images]
    if v.space.fit_intercept:
        shifts = [sum_of(*_as_short(means, image))[None] for image in images]

    def product(a: BlockVector, b: BlockVector) -> float:
        """Return <a, b>."""
        found = sum_of(*_as_short(a, b))
        if v.space.fit_intercept:
            found = found + (a.constant * b.constant)[0]
        return float(found.sum())

    def estimated(a: BlockVector, j: int) -> float:
        """Return <a, H b> of the j-th image's b."""
        lowered = images[j].constant - shifts[j]
        return float((sum_of(*_as_short(a, images[j])) + (a.constant * lowered)[0]).sum())

    steps_changes = np.zeros((count, count))
    of_changes = np.zeros((count, count))
    for j in range(count):
        for i in range(j + 1):
            steps_changes[i, j] = product(steps[i], changes[j])
            of_changes[i, j] = of_changes[j, i] = estimated(changes[i], j)
    return _Products(
        steps_v=np.array([product(s, v) for s in steps]),
        steps_changes=steps_changes,
        estimated_v=np.array([estimated(y, count) for y in changes]),
        estimated=of_changes,
        shift_v=shifts[-1],
        shifts=shifts[:-1],
    )


def _needed(
    v: BlockVector,
    steps: Sequence[BlockVector],
    changes: Sequence[BlockVector],
    means: BlockVector,
    diagonal: BlockVector,
) -> list[Pair]:
    """Return the pairs of vectors whose products are needed."""
    # Of each two changes the product with the image of the newer one: this alone is new.
    needed: list[Pair] = []
    for j, newer in enumerate((*changes, v)):
        image = _image(newer, means, diagonal)
        needed += [_as_short(s, newer) for s in steps[: j + 1]]
        needed += [_as_short(y, image) for y in changes[: j + 1]]
        if v.space.fit_intercept:
            needed.append(_as_short(means, image))
    return needed


def _as_short(a: BlockVector, b: BlockVector) -> tuple[BlockVector, BlockVector]:
    """Return two vectors as they are kept, if both have float32: their product is taken of these."""
    kept = as_kept(a), as_kept(b)
    if kept[0].node.dtype == kept[1].node.dtype:
        return kept
    return a, b


def _image(a: BlockVector, means: BlockVector, diagonal: BlockVector) -> BlockVector:
    """Return ``c(a) / diagonal``, the same object for the same vector, so that its products stay known."""
    of = (id(means), id(diagonal))
    if a.image is None or a.image[0] != of:
        short, means, diagonal = (as_kept(each) for each in (a, means, diagonal))
        a.image = (of, (short - means * vectors.intercept(a)) / diagonal)
    return a.image[1]
