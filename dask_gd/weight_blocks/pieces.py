"""What stages of weights in blocks hand on: handles, and where in them a block's or a segment's arrays are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from dask.typing import Key

from .handles import Handle
from .row_tasks import Looked
from .tasks import Place


class Piece(NamedTuple):
    """The array of a block: what a task has returned, or a part of it, by the positions that lead there."""

    handle: Handle
    path: tuple[int, ...] = ()


class Summands(NamedTuple):
    """Arrays that are added up, in this order, by the task that needs them."""

    pieces: tuple[Piece, ...]


class Part(NamedTuple):
    """A part of what a task returns: a function of it, and of a number."""

    function: Callable
    number: int


class Predicted(NamedTuple):
    """Predictions of all rows without intercepts and offsets: those of a point, or of one on a line through it."""

    #: Of each segment: (n, k, m), of which ``number`` is meant.
    pieces: list[Piece | Summands]
    number: int = 0
    #: Of each segment (n, k, 1), and how far along it the point is.
    direction: list[Piece | Summands] | None = None
    step: float | None = None

    def moved(self, direction: Predicted, step: float) -> Predicted:
        """Return the predictions of a point along a line, whose predictions are known."""
        return Predicted(self.pieces, self.number, direction.pieces, step)

    def candidate(self, number: int) -> Predicted:
        """Return the predictions of one candidate."""
        return Predicted(self.pieces, number)


class Slopes(NamedTuple):
    """The slopes of all rows at a point, and what was found there."""

    handles: list[Handle]
    predicted: Predicted
    looked: Looked


def arguments_of(
    of_nodes: Sequence[list[Piece]], bundle: Sequence[int]
) -> tuple[tuple[tuple[Place, ...], ...], list[Handle]]:
    """Return where the arrays of a bundle's blocks are, for each block, and what has them, each once."""
    wholes: list[Handle] = []
    numbers: dict[Key, int] = {}
    places = []
    for j in bundle:
        of_block = []
        for pieces in of_nodes:
            handle, path = pieces[j]
            if handle.key not in numbers:
                numbers[handle.key] = len(wholes)
                wholes.append(handle)
            of_block.append(Place(numbers[handle.key], path))
        places.append(tuple(of_block))
    return tuple(places), wholes
