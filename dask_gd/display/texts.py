"""Write numbers, times and states of fits for people."""

from __future__ import annotations

import numpy as np

#: Characters of a name, or of the description of a loss.
LONGEST = 80

#: How the state of a run that goes on begins, and no reason for which one has ended.
RUNNING = "running (last commit"

#: What is to be said of losses of which some are of samples.
NOT_COMPARABLE = "of a sample of the rows: not comparable with losses of other rows"


def is_sampled(passes: np.ndarray, full_passes: np.ndarray) -> np.ndarray:
    """Return for each step of a history, by its passes and those over all rows, whether it read samples only.

    The loss of such a step is that of these rows. A step over all rows may have read a sample beside them.

    Examples
    --------
    >>> is_sampled(np.array([0.125, 0.25, 1.0625, 2.0, 0.0]), np.array([0, 0, 1, 2, 0])).tolist()
    [True, True, False, False, False]
    """
    return (np.asarray(passes) > 0) & (np.asarray(full_passes) == 0)


def sampled(passes: float, full_passes: float) -> str:
    """Say of which rows the loss of a step is, by its passes; nothing where that is all of them.

    Examples
    --------
    >>> sampled(0.125, 0), sampled(1.0625, 1)
    ('of 12.5% of the rows, not comparable', '')
    """
    if not is_sampled(np.array(passes), np.array(full_passes)):
        return ""
    # The first step may have read its sample twice.
    if passes >= 1:
        return "of some of the rows, not comparable"
    return f"of {100 * passes:.3g}% of the rows, not comparable"


def readings(full_passes: float, passes: float) -> str:
    """Say how many passes over all rows there were, and what readings of samples came on top, of all ``passes``.

    Examples
    --------
    >>> readings(full_passes=2, passes=2.375), readings(full_passes=3, passes=3)
    ('2 passes over all rows, 0.375 in samples', '3 passes over all rows')
    """
    if not full_passes >= 0:
        # A search of a former version did not tell.
        return f"{passes:,.4g}"
    text = f"{full_passes:,.4g} {'pass' if full_passes == 1 else 'passes'} over all rows"
    samples = passes - full_passes
    # Sums of shares have rounding.
    if samples > 1e-9:
        text += f", {samples:,.3g} in samples"
    return text


def size(count: float) -> str:
    """Format a number of bytes for people."""
    if count >= 1e9:
        return f"{count / 1e9:,.2f} GB"
    if count >= 1e5:
        return f"{count / 1e6:,.1f} MB"
    return f"{count:,.0f} B"


def rounded(value: float) -> str:
    """Round to three digits; large numbers have zeros after them."""
    if value >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}"


def plural(count: int, noun: str) -> str:
    """Return the count with the noun, in the plural unless the count is 1."""
    if count == 1:
        return f"{count:,} {noun}"
    return f"{count:,} {noun}s"


def shortened(text: str) -> str:
    """Cut a text to the longest length, with dots at its end."""
    if len(text) <= LONGEST:
        return text
    return text[: LONGEST - 3] + "..."


def duration(seconds: float) -> str:
    """Format a number of seconds: ``8 s``, ``3 min``, ``2.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def ago(seconds: float) -> str:
    """Say how many seconds ago an event was."""
    return f"{duration(max(0.0, seconds))} ago"


def running_since(commit: float, now: float) -> str:
    """Say that a run goes on, and when its last commit was, both in seconds since the epoch.

    Examples
    --------
    >>> running_since(commit=100.0, now=103.2)
    'running (last commit 3 s ago)'
    """
    return f"{RUNNING} {ago(now - commit)})"


def is_running(reason: str) -> bool:
    """Return whether a reason says that the run goes on."""
    return reason.startswith(RUNNING)


def state(reason: str, count: int, noun: str) -> tuple[str, str]:
    """Return what is said of a run's end and its name: that it runs, or why and after how many steps it has ended.

    Examples
    --------
    >>> state("converged", 3, "step")
    ('ended', 'converged after 3 steps')
    >>> state("running (last commit 3 s ago)", 1, "step")
    ('state', 'running (last commit 3 s ago), 1 step so far')
    """
    if is_running(reason):
        return "state", f"{reason}, {plural(count, noun)} so far"
    return "ended", f"{reason} after {plural(count, noun)}"
