"""What the tasks of weights in blocks have in common, and the sums of partial predictions.

A column task walks all rows of a block of columns, in their order; a row task has the vectors of a segment, with a
value for each row. All are pure.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..sources.cache import cache
from ..sources.chunk_files import drop_thread_buffers
from ..worker_env import give_back_pages, keep_pages, one_blas_thread, peak, relieve

#: Share of a worker's memory limit up to which rows are kept: at 0.7 Dask begins to spill. The other memory of these
#: tasks is of blocks, whose sizes are known.
KEEP_UP_TO = 0.68


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


def itself(value: Any) -> Any:
    """Return what is given, which stays where it is from then on."""
    return value


def item(values: Any, number: int) -> Any:
    """Return a part of what another task has returned."""
    return values[number]


def in_pairs(first: int, blocks: Iterable[list[np.ndarray]]) -> list[list[np.ndarray]]:
    """Return the partial predictions of blocks from ``first`` on, of an even one and the next their sum."""
    found: list[list[np.ndarray]] = []
    for number, of_segments in enumerate(blocks, start=first):
        if number % 2 and number > first:
            found[-1] = [added(*parts) for parts in zip(found[-1], of_segments, strict=True)]
        else:
            found.append(of_segments)
    return found


def added(*parts: np.ndarray) -> np.ndarray:
    """Return the sum of partial predictions, in their order."""
    if len(parts) == 1:
        return parts[0]
    # The first sum has memory of its own.
    total = parts[0] + parts[1]
    for part in parts[2:]:
        total += part
    return total


def added_pairs(firsts: Sequence[int], segment: int, *bundles: list[list[np.ndarray]]) -> np.ndarray:
    """Return the sum of the partial predictions of adjacent blocks for a segment, from those of their bundles.

    The sum is that of pairs of blocks, an even one and the next, whichever bundles these are in: its bits depend on
    the blocks alone. ``firsts`` are the first blocks of the bundles, see `in_pairs`.
    """
    pairs: list[np.ndarray] = []
    for first, bundle in zip(firsts, bundles, strict=True):
        for number, of_segments in enumerate(bundle):
            # The second of a pair whose first is in the bundle before.
            if number == 0 and first % 2 and pairs:
                pairs[-1] = added(pairs[-1], of_segments[segment])
            else:
                pairs.append(of_segments[segment])
    return added(*pairs)
