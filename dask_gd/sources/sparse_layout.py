"""Where partitions and windows of sparse rows begin: at bytes of stored entries, and not at numbers of rows.

They follow from the number of entries of each row and from the number of features alone. The same rows have the same
ones wherever they are, in memory or in chunks of any size, and with them sums of the same bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from .plan import PARTITION_BYTES, PARTITIONS
from .zarr_column import READ_BYTES

#: Bytes of an entry, a value and its column, and of a row, its position. Constants, whatever the dtypes in the store.
ENTRY_BYTES = 12
ROW_BYTES = 8
#: Bytes of a window for each feature: those of a block of the kernel, beside which what is as wide as the features,
#: such as the check of a gradient, is small. And the bytes of a window at most.
BYTES_A_FEATURE = 64
MOST_BYTES = 64 << 20
#: Bytes of a partition for each feature at least: its sums, which are as wide, are small beside it.
PARTITION_BYTES_A_FEATURE = 32


def window_bytes(features: int) -> int:
    """Return the bytes of rows that are read at a time."""
    return min(max(READ_BYTES, BYTES_A_FEATURE * features), MOST_BYTES)


def partition_count(rows: int, entries: int, features: int) -> int:
    """Return into how many partitions rows are cut, of nearly the same bytes each."""
    nbytes = ENTRY_BYTES * entries + ROW_BYTES * rows
    wide_bytes = min(PARTITION_BYTES, PARTITION_BYTES_A_FEATURE * features)
    fewest_bytes = max(1 << 20, wide_bytes)
    # At least as many as there are to share out, if they are not too small for it.
    to_share_out = min(nbytes // fewest_bytes, PARTITIONS)
    of_whole_size = -(-nbytes // PARTITION_BYTES)
    count = max(1, to_share_out, of_whole_size)
    # A few partitions are shared out evenly if they are a power of two.
    if count < PARTITIONS:
        count = 1 << (count.bit_length() - 1)
    return min(count, max(1, rows))


class Layout(NamedTuple):
    """The rows where partitions begin, with the end of the last, and so the rows where windows begin."""

    bounds: tuple[int, ...]
    cuts: np.ndarray

    def windows(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield the windows of the rows ``start`` to ``stop``."""
        return windows_of(self.cuts, start, stop)


def layout_of(
    pieces: Iterable[np.ndarray],
    start: int,
    rows: int,
    first: int,
    last: int,
    features: int,
) -> Layout:
    """Return where partitions and windows of consecutive rows begin.

    Parameters
    ----------
    pieces : iterable of array
        The positions where the rows end (``indptr[start + 1:]``), piece by piece.
    start, rows : int
        The number of the first row, and how many there are.
    first, last : int
        The positions of the first entry, and after the last.
    features : int
    """
    # Windows are all of nearly the same bytes, and a partition is some of them.
    total = ENTRY_BYTES * (last - first) + ROW_BYTES * rows
    count = partition_count(rows, last - first, features)
    in_partition = -(-total // (count * window_bytes(features)))
    windows = count * in_partition
    bounds = [start]
    cuts = [np.array([start])]
    done = 0
    before: int | None = None
    for piece in pieces:
        # A row is in the window in which its last byte is.
        entries_up_to = piece.astype(np.int64) - first
        rows_up_to = np.arange(done + 1, done + len(piece) + 1)
        bytes_up_to = ENTRY_BYTES * entries_up_to + ROW_BYTES * rows_up_to
        window = ((bytes_up_to - 1) * (windows / total)).astype(np.int64)
        window = np.minimum(window, windows - 1)
        if before is None:
            before = int(window[0])
        # Windows begin where their number changes, and partitions where theirs does.
        begins = np.flatnonzero(np.diff(window, prepend=before))
        cuts.append(start + done + begins)
        partition = window // in_partition
        begins = np.flatnonzero(np.diff(partition, prepend=before // in_partition))
        bounds.extend((start + done + begins).tolist())
        before = int(window[-1])
        done += len(piece)
    cuts.append(np.array([start + rows]))
    return Layout((*bounds, start + rows), np.concatenate(cuts))


def windows_of(cuts: np.ndarray, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield the windows of the rows ``start`` to ``stop``, cut at ``cuts``."""
    first_inside = np.searchsorted(cuts, start, side="right")
    last_inside = np.searchsorted(cuts, stop)
    edges = [start, *cuts[first_inside:last_inside].tolist(), stop]
    for first, end in pairwise(edges):
        if first < end:
            yield first, end
