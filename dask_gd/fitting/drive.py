"""The loop of fits and searches: evaluate the queries, take the steps, commit, until each track has a reason to end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from ..worker_env import give_back_pages, keep_pages, one_blas_thread
from .track import Stopping

#: Bytes of weights for which malloc would map memory anew each time.
WIDE_BYTES = 1 << 20


class Driven(Protocol):
    """A `track.Track` with a step of its own."""

    reason: str | None
    state: Any

    def advance(self, found: Any, stopping: Stopping) -> None:
        """Take a step from what was found at the query, `Evaluated`, and set the reason where it was the last."""
        ...


T = TypeVar("T", bound=Driven)


def drive(
    tracks: Sequence[T],
    evaluate: Callable[[list[T]], Sequence[Any]],
    stopping: Stopping,
    end_round: Callable[[], object] | None = None,
) -> None:
    """Take tracks to their end, round by round.

    Parameters
    ----------
    tracks : sequence of tracks
    evaluate : callable
        Returns the sums at the query of each of the tracks that still run, from a pass that they share.
    stopping : Stopping
    end_round : callable, optional
        Commits the round and tells of it. It may end other tracks, by giving them a reason.
    """
    # Wide weights are made and dropped many times in each step: their memory is kept for the next.
    are_wide = any(track.state.query.nbytes > WIDE_BYTES for track in tracks)
    if are_wide:
        keep_pages()
    while running := [track for track in tracks if track.reason is None]:
        evaluated = evaluate(running)
        with one_blas_thread():
            for track, found in zip(running, evaluated, strict=True):
                track.advance(found, stopping)
        if end_round is not None:
            end_round()
    if are_wide:
        give_back_pages()
