"""Where column blocks begin: chosen by the number of entries of each column alone, counted in bins of columns."""

from __future__ import annotations

import numpy as np

#: Columns are counted in bins of 2^shift columns, at most as many bins as this, whatever the number of columns.
BINS = 1 << 16
#: Column blocks at most, by their width.
BLOCKS = 1 << 12
#: Blocks at least, and the number of columns from which on there are as many: so that there is something to share out.
FEWEST = 4
WIDE = 1 << 18
#: The entries of the largest block over those of a mean block for which blocks are not made more.
UNEVEN = 1.25


def shift_of(features: int) -> int:
    """Return the binary logarithm of the columns in a bin."""
    return max(0, (features - 1).bit_length() - (BINS - 1).bit_length())


def count_columns(indices: np.ndarray, shift: int) -> np.ndarray:
    """Return the number of entries in each bin of columns, up to the last that has any."""
    return np.bincount(indices >> shift)


def add_counts(total: np.ndarray, shift: int, counts: np.ndarray, counts_shift: int) -> None:
    """Add counts, whose bins are as wide or narrower, to a total (bins,) of wider bins."""
    bins = np.arange(len(counts)) >> (shift - counts_shift)
    np.add.at(total, bins, counts)


def choose_edges(counts: np.ndarray, shift: int, features: int, width: int) -> list[int]:
    """Return where column blocks begin, and the number of features.

    Blocks have at most ``width`` columns, and about equal numbers of entries. There are as few as that takes, and at
    most twice as many as the width alone takes.

    Parameters
    ----------
    counts : array (bins,)
        Entries in each bin of 2^shift columns.
    shift, features : int
    width : int
        At least one bin.
    """
    bins = -(-features >> shift)
    ends = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    most_bins = min(bins, max(1, width >> shift))
    fewest = -(-bins // most_bins)
    if features >= WIDE:
        fewest = max(FEWEST, fewest)
    heaviest = int(counts.max(initial=0))
    cuts = [0, bins]
    # More blocks only where fewer are uneven: columns that many rows have may stand close together.
    for count in (fewest, fewest + fewest // 2, 2 * fewest):
        entries = _fewest_entries(ends, most_bins, count, heaviest)
        cuts = _cuts(ends, most_bins, entries)
        if entries <= max(heaviest, UNEVEN * ends[-1] / count):
            break
    # Where a few columns have all entries, blocks with most columns are halved.
    while len(cuts) - 1 < min(fewest, bins):
        widths = np.diff(cuts)
        widest = int(np.argmax(widths))
        cuts.insert(widest + 1, cuts[widest] + int(widths[widest]) // 2)
    return [min(cut << shift, features) for cut in cuts]


def _fewest_entries(ends: np.ndarray, most_bins: int, count: int, heaviest: int) -> int:
    """Return the fewest entries of a block with which ``count`` blocks are enough."""
    low = max(heaviest, int(ends[-1]) // count)
    high = int(ends[-1])
    while low < high:
        middle = (low + high) // 2
        if len(_cuts(ends, most_bins, middle)) - 1 <= count:
            high = middle
        else:
            low = middle + 1
    return low


def _cuts(ends: np.ndarray, most_bins: int, entries: int) -> list[int]:
    """Return the bins where blocks begin, each as long as it has no more bins and entries than these, and the end."""
    bins = len(ends) - 1
    cuts = [0]
    while cuts[-1] < bins:
        start = cuts[-1]
        stop = int(np.searchsorted(ends, ends[start] + entries, side="right")) - 1
        cuts.append(max(start + 1, min(stop, start + most_bins, bins)))
    return cuts
