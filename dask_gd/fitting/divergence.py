"""Tell that a fit diverged: where, since when, and which learning rate would be safe."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..kernels.base import Kernel, Part, Request, Sums
from ..solvers.objective import objective
from .fit_state import FitState
from .track import BLOWN_UP, RISES

#: Partitions that a message lists at most.
LISTED = 5


def has_risen(track: FitState, losses: list[float]) -> bool:
    """Return whether the loss ended so far above the first that the fit has diverged.

    Losses of a batched solver are those of different rows. Where they have risen, the start is evaluated on the rows
    that were read last, and the loss there must be twice that of the start.
    """
    if len(losses) < 2 or not losses[-1] > losses[0]:
        return False
    first = losses[0]
    last = losses[-1]
    margin = 1e-9
    if track.batched:
        first, last = on_last_partitions(track)
        margin = 1.0
    if len(losses) <= RISES:
        margin = BLOWN_UP
    return last > first + margin * abs(first)


def on_last_partitions(track: FitState) -> tuple[float, float]:
    """Return the losses at the start and at the weights, on the partitions that the last step read."""
    query = np.concatenate([track.start, track.state.weights], axis=2)
    sums = track.engine.read(query, Request(), track.partitions_of(track.iteration))
    with np.errstate(all="ignore"):
        losses = objective(sums, query, track.penalty, track.engine.smoothed, track.engine.width).loss
    # Rows without weight tell nothing.
    first, last = np.nan_to_num(losses, posinf=np.inf).tolist()
    return first, last


class Finite(NamedTuple):
    """Asks of each partition whether its sums are finite, see `FiniteSums`."""

    def make(self, part: Part) -> Kernel:
        return FiniteKernel(part)


class FiniteKernel(Kernel):
    """Sums at the query, and whether they are finite."""

    def sums(self) -> FiniteSums:  # type: ignore[override]
        finite = np.isfinite(self.total.loss).all() and np.isfinite(self.total.gradient).all()
        return FiniteSums(self.total, (bool(finite),))


class FiniteSums(NamedTuple):
    """The sums at the query, and of each partition whether its own are finite."""

    at_query: Sums
    finite: tuple[bool, ...]

    def plus(self, other: FiniteSums) -> FiniteSums:
        """Add up the sums, and put the partitions side by side."""
        return FiniteSums(self.at_query.plus(other.at_query), self.finite + other.finite)


def not_finite(track: FitState, query: np.ndarray) -> str:
    """Return where the loss or its gradient is not finite at the query, in words; takes a pass over the rows."""
    partitions = track.partitions
    if partitions is None:
        read_from = list(range(track.source.partitions))
    else:
        read_from = list(partitions)
    found = track.engine.read(query, Request(kernel=Finite()), partitions)
    bad = [partition for partition, finite in zip(read_from, found.finite, strict=True) if not finite]
    if track.iteration < 0:
        step = "At the start"
    else:
        step = f"At step {track.iteration + 1}"
    return f"{step} the loss or its gradient is not finite, {_listed(track, bad, len(read_from))}."


def _listed(track: FitState, bad: list[int], count: int) -> str:
    """Return the partitions by number and rows."""
    if not bad:
        return "though it is in each partition: their sum overflows"
    bounds = track.source.bounds
    named = [f"{i} (rows {bounds[i]}-{bounds[i + 1] - 1})" for i in bad[:LISTED]]
    more = ""
    if len(bad) > LISTED:
        more = f" and {len(bad) - LISTED} others"
    word = "partition" if len(bad) == 1 else "partitions"
    return f"in {len(bad)} of the {count} partitions read: {word} {', '.join(named)}{more} of {track.source.x.name!r}"


def message(track: FitState) -> str:
    """Return how the fit diverged, which weights it keeps, and what to do."""
    last = track.losses[-1]
    if track.fault is None:
        found = f"The loss went from {track.losses[0]:.6g} to {last:.6g} in {track.iteration} iterations."
    else:
        found = track.fault
    kept = f"The weights kept are those of iteration {track.iteration}, with a loss of {last:.6g}."
    return f"{track.solver} diverged. {found} {kept} {remedy(track)}"


def remedy(track: FitState) -> str:
    """Return which learning rate is safe, or which solver needs none."""
    bound = track.engine.smoothed.curvature_bound
    bounded = bound is not None
    rate = ""
    if track.engine.moments is not None and bound is not None:
        curvature = bound * track.engine.moments.features.sum() / track.engine.weight
        curvature += np.max(track.penalty.curvature())
        rate = f"A learning rate of {1 / curvature:.3g} is safe for gradient descent on this data; "
    automatic = "learning_rate='auto' or " if bounded else ""
    return f"{rate}{automatic}solver='auto' need no choice."


def stall(track: FitState) -> str:
    """Return where the fit stalled, and what to do."""
    tried = " and then ".join(repr(solver) for solver in track.solvers[: track.turn + 1])
    return (
        f"{tried} stalled at iteration {track.iteration}: no step lowers the loss of {track.losses[-1]:.6g} any "
        f"more, and yet the gradient is {track.grad_norm:.1e} of its scale, which is no rounding. The "
        "weights may be far from the minimum. Scale and centre the features, add a penalty, or try another solver."
    )
