"""Random numbers that belong to rows: a row's is the same however the data is chunked and whoever computes it."""

from __future__ import annotations

import numpy as np

#: The step of the generator's state: 2^64 divided by the golden ratio, made odd.
GOLDEN = 0x9E3779B97F4A7C15


def row_hashes(seed: int, start: int, stop: int) -> np.ndarray:
    """Return a random number for each of the rows ``start`` to ``stop``, uint64, uniform over all its values.

    Row i has the i-th number of SplitMix64 (Steele, Lea and Flood, 2014, "Fast splittable pseudorandom number
    generators"), which can be computed for any i at once; its state begins at the hash of the seed.
    Rows whose number is below ``share * 2**64`` are that share of all rows. To split the same rows for another purpose,
    take another seed.

    Examples
    --------
    >>> row_hashes(0, 0, 3)
    array([12035550249420947055, 12935080325729570654,  7141179953334974231],
          dtype=uint64)
    >>> row_hashes(0, 2, 3)
    array([7141179953334974231], dtype=uint64)
    """
    return hashes(seed, np.arange(start, stop, dtype=np.uint64))


def hashes(seed: int, numbers: np.ndarray) -> np.ndarray:
    """Return the numbers of `row_hashes` for rows of any numbers, 0 or more, (n,)."""
    golden = np.uint64(GOLDEN)
    with np.errstate(over="ignore"):
        seeded = np.array([seed % 2**64], np.uint64) + golden
        first = mixed(seeded)
        # The generator moves its state before it gives the first number.
        counts = numbers.astype(np.uint64) + np.uint64(1)
        return mixed(first + counts * golden)


def mixed(state: np.ndarray) -> np.ndarray:
    """Return the number that SplitMix64 makes of a state."""
    z = state ^ (state >> np.uint64(30))
    z = z * np.uint64(0xBF58476D1CE4E5B9)
    z = z ^ (z >> np.uint64(27))
    z = z * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
