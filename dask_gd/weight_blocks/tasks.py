"""The tasks of weights in blocks: what a worker does to its blocks of columns and its segments of rows.

All are pure. A column task walks all rows of a segment, or of all segments, in their order; a row task has the vectors
of a segment, with a value for each row.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import DataError, NonFiniteError
from ..kernels.dense import first_bad
from ..kernels.shift import FAR, shift_of_means
from ..kernels.sparse import SparseBlock
from ..model.losses import Loss, classes_of
from ..passes.checks import check_values
from ..sources import Reader
from ..sources.cache import cache
from ..sources.chunk_files import drop_thread_buffers
from ..worker_env import give_back_pages, keep_pages, mapped, one_blas_thread, peak, relieve
from .expression import Program, run

#: Rows whose losses are taken at a time, if they have one output: their vectors stay in the cache.
ROWS = 1 << 14

#: Share of a worker's memory limit up to which rows are kept: at 0.7 Dask begins to spill. The other memory of these
#: tasks is of blocks, whose sizes are known.
KEEP_UP_TO = 0.68

FLOAT = np.dtype(float)


@contextlib.contextmanager
def working() -> Iterator[None]:
    """Set up the process for a task, and give back its spare memory at the end."""
    keep_pages()
    # What is not finite is looked for.
    with one_blas_thread(), np.errstate(all="ignore"):
        yield
    peak.note()
    # What was needed to read rows is not needed where they are kept.
    if drop_thread_buffers():
        give_back_pages()
    relieve(KEEP_UP_TO)
    cache.shrink(KEEP_UP_TO)


# Column tasks.


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


def array_of(whole: Any, path: Sequence[int] = ()) -> np.ndarray:
    """Return an array that another task has returned, or that is in what it has, at the end of a path of positions."""
    for position in path:
        whole = whole[position]
    return whole


class Place(NamedTuple):
    """Where an array is among the arguments of a task."""

    argument: int
    path: tuple[int, ...]


def arrays_at(places: Sequence[Place], arguments: Sequence[Any]) -> list[np.ndarray]:
    """Return the arrays at places."""
    return [array_of(arguments[argument], path) for argument, path in places]


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


def itself(value: Any) -> Any:
    """Return what is given, which stays where it is from then on."""
    return value


def item(values: Any, number: int) -> Any:
    """Return a part of what another task has returned."""
    return values[number]


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


def in_pairs(first: int, blocks: Iterable[list[np.ndarray]]) -> list[list[np.ndarray]]:
    """Return the partial predictions of blocks from ``first`` on, of an even one and the next their sum."""
    found: list[list[np.ndarray]] = []
    for number, of_segments in enumerate(blocks, start=first):
        if number % 2 and number > first:
            found[-1] = [added(*parts) for parts in zip(found[-1], of_segments, strict=True)]
        else:
            found.append(of_segments)
    return found


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
    weight: float,
    slopes: Sequence[np.ndarray],
    weights: Sequence[np.ndarray | None],
    with_moments: bool = False,
) -> tuple[np.ndarray, ...]:
    """Return ``(X - shift)^T r / weight`` over the rows of all segments, for their slopes r (n, k, 1).

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
    gradient /= weight
    gradient = gradient[:, :, None]
    if with_moments:
        return (gradient, *moments)
    return (gradient,)


def moments(
    columns: Sequence[Columns],
    step: int,
    shifts: Sequence[np.ndarray | None],
    weight: float,
    slopes: Sequence[np.ndarray],
    weights: Sequence[np.ndarray | None],
) -> list[tuple[np.ndarray, ...]]:
    """Return for each block of a bundle what `backward` does with moments."""
    return [
        backward(of_block, step, shift, weight, slopes, weights, True)
        for of_block, shift in zip(columns, shifts, strict=True)
    ]


def evaluate_behind(
    columns: Sequence[Columns],
    step: int,
    shifts: Sequence[np.ndarray | None],
    weight: float,
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
        [gradient] = backward(of_block, step, shift, weight, slopes, weights)
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


# Row tasks.


class Values(NamedTuple):
    """What the rows of a segment have beside their features."""

    y: np.ndarray  # (n, k), or (n, 1) of classes
    weight: np.ndarray | None  # (n,)
    offset: np.ndarray | None  # (n,)
    dropped: int


class Looked(NamedTuple):
    """Sums over the rows of a segment at one candidate, (k,) each but the loss."""

    loss: float
    slopes: np.ndarray
    squares: np.ndarray
    curvatures: np.ndarray


class Totals(NamedTuple):
    """Sums over the rows of a segment that no weights change."""

    rows: int
    weight: float
    targets: np.ndarray  # (k,)
    offsets: float


def values_of(
    names: dict[str, str],
    loss: Loss,
    start: int,
    drop: bool,
    outputs: int,
    present: tuple[int, ...] | None,
    y: Any,
    weight: Any = None,
    offset: Any = None,
) -> Values:
    """Return the checked targets, weights and offsets of rows from ``start`` on; names are those of the arrays.

    Rows to drop have a weight of 0.
    """
    values = np.asarray(y, float)
    if present is not None:
        values = values[:, list(present)]
    values = values.reshape(len(values), outputs)
    others = {"weight": weight, "offset": offset}
    found: dict[str, np.ndarray] = {"y": values}
    for role, array in others.items():
        if array is not None:
            found[role] = np.array(array, float).reshape(-1)
    # Rows with NaN are left out, or refused.
    is_bad = np.zeros(len(values), bool)
    if drop:
        for array in found.values():
            is_bad |= np.isnan(array.reshape(len(array), -1)).any(axis=1)
    if is_bad.any():
        good = np.flatnonzero(~is_bad)
        values = values.copy()
        values[is_bad] = values[good[0]] if len(good) else 0.0
        found["y"] = values
        found["weight"] = np.where(is_bad, 0.0, found.get("weight", 1.0))
        if "offset" in found:
            found["offset"] = np.where(is_bad, 0.0, found["offset"])
    for role, array in found.items():
        bad = first_bad(array)
        if bad is not None:
            at = "" if bad.column is None else f", column {bad.column}"
            raise NonFiniteError(
                f"{bad.value} in row {start + bad.row}{at} of {names[role]!r}. Remove or fill it before fitting, or "
                "leave such rows out with nan='drop' where it is NaN."
            )
    weights = found.get("weight")
    if weights is not None and (weights < 0).any():
        row = int(np.argmax(weights < 0))
        raise DataError(f"Negative weight {weights[row]} in row {start + row} of {names['weight']!r}.")
    bad_target = loss.bad_target(found["y"])
    if bad_target is not None and bad_target.any():
        row, output = np.argwhere(bad_target)[0]
        raise DataError(
            f"The {loss.name} loss takes targets {loss.targets}; found {values[row, output]:g} "
            f"in row {start + row} of {names['y']!r}."
        )
    return Values(found["y"], weights, found.get("offset"), int(is_bad.sum()))


def weight_of(values: Values) -> np.ndarray | None:
    """Return the rows' weights, None where each is 1."""
    return values.weight


def totals(values: Values, loss: Loss) -> Totals:
    """Return the sums that no weights change."""
    s = values.weight
    if s is None:
        s = np.ones(len(values.y))
    y = values.y
    if classes_of(loss):
        y = loss.indicators(y)  # type: ignore[attr-defined]
    offsets = 0.0
    if values.offset is not None:
        offsets = float(s @ values.offset)
    return Totals(len(s) - values.dropped, float(s.sum()), s @ y, offsets)


def added(*parts: np.ndarray) -> np.ndarray:
    """Return the sum of partial predictions, in their order."""
    if len(parts) == 1:
        return parts[0]
    # The first sum has memory of its own.
    total = parts[0] + parts[1]
    for part in parts[2:]:
        total += part
    return total


def added_pairs(firsts: Sequence[int], *bundles: list[list[np.ndarray]]) -> list[np.ndarray]:
    """Return the sums of the partial predictions of adjacent blocks, for each segment, from those of their bundles.

    The sum is that of pairs of blocks, an even one and the next, whichever bundles these are in: its bits depend on
    the blocks alone. ``firsts`` are the first blocks of the bundles, see `in_pairs`.
    """
    pairs: list[list[np.ndarray]] = []
    for first, bundle in zip(firsts, bundles, strict=True):
        for number, of_segments in enumerate(bundle):
            # The second of a pair whose first is in the bundle before.
            if number == 0 and first % 2 and pairs:
                pairs[-1] = [added(*parts) for parts in zip(pairs[-1], of_segments, strict=True)]
            else:
                pairs.append(of_segments)
    return [added(*of_segment) for of_segment in zip(*pairs, strict=True)]


def zeros(values: Values, k: int) -> np.ndarray:
    """Return the predictions of weights of 0, (n, k, 1)."""
    return np.zeros((len(values.y), k, 1))


def losses(
    values: Values,
    loss: Loss,
    intercepts: np.ndarray,
    steps: np.ndarray | None,
    z: np.ndarray,
    direction: np.ndarray | None = None,
) -> np.ndarray:
    """Return the sums of the losses of m candidates, (m,), whose intercepts are (1, k, m).

    Their predictions without intercept and offset are z (n, k, m), or ``z + t direction`` for the steps t.
    """
    m = intercepts.shape[2]
    sums = np.zeros(m)
    with working():
        for which in _pieces(values, intercepts.shape[1]):
            for i in range(m):
                if direction is None:
                    at = z[which, :, i : i + 1].copy()
                else:
                    assert steps is not None
                    at = z[which] + steps[i] * direction[which]
                value, _ = _value_and_slope(values, loss, which, at, intercepts[:, :, i : i + 1])
                sums[i] += float(value.sum())
    return sums


def look(
    values: Values,
    loss: Loss,
    intercept: np.ndarray,
    step: float | None,
    number: int,
    with_moments: bool,
    z: np.ndarray,
    direction: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, Looked]:
    """Return the predictions (n, k, 1) of one candidate without intercept and offset, its slopes, and their sums.

    The slopes are weighted. The candidate is the one of this number of z (n, k, m), or ``z + step direction``.
    """
    k = intercept.shape[1]
    if direction is None:
        at_candidate = np.ascontiguousarray(z[:, :, number : number + 1])
    else:
        at_candidate = z + step * direction
    slopes = np.empty_like(at_candidate)
    total = Looked(0.0, np.zeros(k), np.zeros(k), np.zeros(k))
    with working():
        for which in _pieces(values, k):
            z_of_piece = at_candidate[which].copy()
            value, slope = _value_and_slope(values, loss, which, z_of_piece, intercept)
            s = values.weight[which, None, None] if values.weight is not None else None
            weighted = slope if s is None else s * slope
            slopes[which] = weighted
            total = total._replace(
                loss=total.loss + float(value.sum()),
                slopes=total.slopes + weighted[:, :, 0].sum(axis=0),
            )
            if with_moments:
                total = total._replace(squares=total.squares + (weighted * slope)[:, :, 0].sum(axis=0))
                if loss.curvature_bound is None:
                    curvature = loss.curvature(z_of_piece[:, :, 0], _targets(values, loss, which))
                    if s is not None:
                        curvature = np.where(s[:, :, 0] > 0, s[:, :, 0] * curvature, 0.0)
                    total = total._replace(curvatures=total.curvatures + curvature.sum(axis=0))
    return at_candidate, slopes, total


def _pieces(values: Values, k: int) -> Iterator[slice]:
    """Yield the rows whose losses are taken at a time."""
    step = max(16, ROWS // k)
    for start in range(0, len(values.y), step):
        yield slice(start, min(start + step, len(values.y)))


def _targets(values: Values, loss: Loss, which: slice) -> np.ndarray:
    """Return targets as the loss takes them, (n, k)."""
    y = values.y[which]
    if classes_of(loss):
        y = loss.indicators(y)  # type: ignore[attr-defined]
    return y


def _value_and_slope(
    values: Values,
    loss: Loss,
    which: slice,
    z: np.ndarray,
    intercept: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the weighted losses and the slopes at z (n, k, 1), to which intercept and offset are added in place."""
    z += intercept
    if values.offset is not None:
        z += values.offset[which, None, None]
    value, slope = loss.value_and_slope(z, _targets(values, loss, which)[:, :, None])
    if values.weight is not None:
        s = values.weight[which, None, None]
        value = s * value
        # Rows without weight count for nothing, also where they have no finite loss: they may be held out of a fit.
        if not s.all():
            value = np.where(s > 0, value, 0.0)
            slope = np.where(s > 0, slope, 0.0)
    return value, slope
