"""What a worker does to its blocks of columns: products with their rows, and expressions of their weights.

A task has a bundle of blocks, which it takes one after the other.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import NonFiniteError
from ..kernels.shift import FAR, shift_of_means
from ..kernels.sparse import SparseBlock
from ..passes.checks import check_values
from ..sources import Reader
from ..sources.cache import cache
from ..worker_env import mapped
from .program import Program, run
from .tasks import KEEP_UP_TO, Place, array_of, arrays_at, in_pairs, working

FLOAT = np.dtype(float)


class Columns(NamedTuple):
    """A block of columns, as its tasks read it."""

    reader: Reader
    run: str

    def keep(self, step: int) -> tuple[str, int] | None:
        """Return the run and the number of its reading, if rows are worth keeping for the next."""
        if not self.reader.keeps:
            return None
        cache.shares[self.run] = KEEP_UP_TO
        return self.run, step


def evaluate(program: Program, widths: Sequence[int], places: Sequence[Sequence[Place]], *given: Any) -> list:
    """Return for each block of a bundle the vectors that a program stores, and behind them a list of all sums."""
    stored = []
    sums = []
    for width, of_block in zip(widths, places, strict=True):
        with working():
            outputs, found = run(program, arrays_at(of_block, given), width)
        stored.append(outputs)
        sums.append(found)
    return [*stored, sums]


def outputs_of(stored: list, number: int) -> list[np.ndarray]:
    """Return one vector of each block from what `evaluate` has returned."""
    return [outputs[number] for outputs in stored[:-1]]


def forward(
    first: int,
    columns: Sequence[Columns],
    step: int,
    shifts: Sequence[np.ndarray | None],
    places: Sequence[Sequence[Place]],
    *given: Any,
) -> list[list[np.ndarray]]:
    """Return the `predictions` of the blocks of a bundle from ``first`` on, as `in_pairs` does.

    The weights are at places among those given.
    """
    return in_pairs(first, _predicted(columns, step, shifts, places, given))


def _predicted(
    columns: Sequence[Columns],
    step: int,
    shifts: Sequence[np.ndarray | None],
    places: Sequence[Sequence[Place]],
    given: Sequence[Any],
) -> Iterator[list[np.ndarray]]:
    """Yield the predictions of each block of a bundle."""
    room = None
    for of_block, shift, at in zip(columns, shifts, places, strict=True):
        [weights] = arrays_at(at, given)
        # Products are of float64. The memory is one for all blocks, and has huge pages.
        if weights.dtype != FLOAT:
            if room is None or room.shape != weights.shape:
                room = mapped(weights.shape, FLOAT)
            np.copyto(room, weights)
            weights = room
        yield predictions(of_block, step, shift, weights)


def predictions(columns: Columns, step: int, shift: np.ndarray | None, weights: np.ndarray) -> list[np.ndarray]:
    """Return ``(X - shift) w`` of a block of columns (p, k, m) for the rows of each segment: (n, k, m)."""
    reader = columns.reader
    row_format = reader.row_format
    bounds = reader.bounds
    products = [mapped((stop - start, *weights.shape[1:]), FLOAT) for start, stop in itertools.pairwise(bounds)]
    with working():
        workspace = row_format.workspace(shift)
        flat = weights.reshape(len(weights), -1)
        prepared_columns = flat.shape[1]
        prepared = workspace.weights(flat)
        segments = tuple(range(len(products)))
        with contextlib.closing(reader(segments, keep=columns.keep(step))) as windows:
            for segment, rows in windows:
                product = products[segment]
                start = rows.start - bounds[segment]
                for begin in range(0, len(rows.y), row_format.block_rows):
                    which = slice(begin, min(begin + row_format.block_rows, len(rows.y)))
                    block = workspace.block(row_format.take(rows.x, which))
                    total = product[start + which.start : start + which.stop].reshape(-1, prepared_columns)
                    # Sparse rows are added to what is there, without memory of their own.
                    if isinstance(block, SparseBlock):
                        block.add_times(prepared, total)
                    else:
                        total[:] = block.times(prepared)
                # The sum tells quickly, and may overflow.
                of_rows = product[start : start + len(rows.y)]
                if not np.isfinite(of_rows.sum()) and not np.isfinite(of_rows).all():
                    check_values(rows, reader.bind(segment, ()), drop=False)
    return products


class Moments(NamedTuple):
    """Weighted sums of the columns of a block, and of their squares, (p, 1, 1) each."""

    sums: np.ndarray
    squares: np.ndarray


def backward(
    columns: Columns,
    step: int,
    shift: np.ndarray | None,
    slopes: Sequence[np.ndarray],
    weights: Sequence[np.ndarray | None],
    with_moments: bool = False,
) -> tuple[np.ndarray, ...]:
    """Return ``(X - shift)^T r`` over the rows of all segments, for their slopes r (n, k, 1).

    With moments the sums of the columns and of their squares come behind it, with the rows' weights (n,).
    """
    reader = columns.reader
    row_format = reader.row_format
    k = slopes[0].shape[1]
    gradient = mapped((row_format.features, k), FLOAT)
    moments = Moments(*(mapped((row_format.features * with_moments, 1, 1), FLOAT) for _ in Moments._fields))
    with working():
        workspace = row_format.workspace(shift)
        segments = tuple(range(len(slopes)))
        with contextlib.closing(reader(segments, keep=columns.keep(step))) as windows:
            for segment, rows in windows:
                start = rows.start - reader.bounds[segment]
                for begin in range(0, len(rows.y), row_format.block_rows):
                    which = slice(begin, min(begin + row_format.block_rows, len(rows.y)))
                    of_segment = slice(start + which.start, start + which.stop)
                    block = workspace.block(row_format.take(rows.x, which))
                    block.add_transposed_times(slopes[segment][of_segment, :, 0], gradient)
                    if with_moments:
                        s = weights[segment]
                        sums, squares = block.sums_and_squares(s if s is None else s[of_segment])
                        moments.sums[:, 0, 0] += sums
                        moments.squares[:, 0, 0] += squares
                # At weights of 0 this is the first look at the values.
                if with_moments and not np.isfinite(moments.squares).all():
                    check_values(rows, reader.bind(segment, ()), drop=False)
                    x = reader.bind(segment, ())["x"]
                    number = int(np.argmin(np.isfinite(moments.squares))) + getattr(x, "first_column", 0)
                    raise NonFiniteError(f"The squares of column {number} of {x.name!r} overflow; scale it down.")
    gradient = gradient[:, :, None]
    if with_moments:
        return (gradient, *moments)
    return (gradient,)


def moments(
    columns: Sequence[Columns],
    step: int,
    shifts: Sequence[np.ndarray | None],
    slopes: Sequence[np.ndarray],
    weights: Sequence[np.ndarray | None],
) -> list[tuple[np.ndarray, ...]]:
    """Return for each block of a bundle what `backward` does with moments."""
    return [
        backward(of_block, step, shift, slopes, weights, True) for of_block, shift in zip(columns, shifts, strict=True)
    ]


def evaluate_behind(
    columns: Sequence[Columns],
    step: int,
    shifts: Sequence[np.ndarray | None],
    slopes: Sequence[np.ndarray],
    weights: Sequence[np.ndarray | None],
    program: Program,
    places: Sequence[Sequence[Place]],
    *given: Any,
) -> list:
    """Return what `evaluate` does, of a program whose leaf is what `backward` returns of the other arguments."""
    stored = []
    sums = []
    for of_block, shift, at in zip(columns, shifts, places, strict=True):
        [gradient] = backward(of_block, step, shift, slopes, weights)
        with working():
            outputs, found = run(program, [*arrays_at(at, given), gradient], len(gradient))
        stored.append(outputs)
        sums.append(found)
    return [*stored, sums]


def shift_of(columns: Columns, weight: float, found: Any, place: int) -> tuple[bool, np.ndarray]:
    """Return whether a column of a block is far from 0, and the shift that it should have then, see `kernels.shift`.

    The moments are those of the block in this place of what `moments` has returned.
    """
    _, sums, squares = found[place]
    row_format = columns.reader.row_format
    if row_format.dtype not in FAR or not row_format.can_shift.any():
        return False, np.zeros(row_format.features)
    with working():
        return shift_of_means(sums[:, 0, 0] / weight, squares[:, 0, 0] / weight, None, row_format, True)


def as_weights(shift: np.ndarray) -> np.ndarray:
    """Return a shift (p,) in the shape of weights, (p, 1, 1)."""
    return shift[:, None, None]


def as_shift(whole: Any, path: Sequence[int]) -> np.ndarray:
    """Return a shift (p,) from the shape of weights."""
    return array_of(whole, path)[:, 0, 0]
