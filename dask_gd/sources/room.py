"""The memory that levels take beside the memory that there is: too many are refused, and their column is named.

What levels take is a lower bound: only what cannot go well is refused, where its size is known before it is read.
"""

from __future__ import annotations

import sys
from itertools import islice
from typing import Any

from ..errors import DataError
from ..worker_env import memory_of_process, process_name

#: Bytes that a level takes at least while levels are read: measured at 154 for numbers, 205 for names of 12 letters.
LEVEL_BYTES = 150
#: Bytes of the name of a feature, which a fit and its result have of each. With these, and the arrays of the solver, a
#: need is a half to two thirds of what fits were measured to take.
NAME_BYTES = 68

#: Levels that are looked at to learn the size of all of them.
SAMPLE = 1000

POOL = "Pool rare levels (dask_gd.Categories(min_frequency=...); of stored codes in dask_gd.write_table)"
HASH = "hash the column to fewer features (dask_gd.hash_features)"
#: What to do about too many levels: pooling needs all of them to be counted.
ADVICE = f"{POOL}, {HASH}, or leave it out."
ADVICE_BEFORE_COUNTING = f"{HASH[0].upper()}{HASH[1:]}, group its levels before, or leave it out."


def bytes_of_levels(counts: dict[Any, int]) -> int:
    """Return the bytes that levels with their counts take, by the size of the first of them."""
    sampled = list(islice(counts, SAMPLE))
    if not sampled:
        return 0
    each = sum(map(sys.getsizeof, sampled)) / len(sampled)
    return sys.getsizeof(counts) + int(each * len(counts))


def check_counted(name: Any, counts: dict[Any, int]) -> None:
    """Refuse levels that leave no room in this process, a worker or the client, for the next step with them.

    They are needed twice: levels are added up from those of two parts of the rows, and named from those that are known.

    Raises
    ------
    DataError
        Naming the column.
    """
    _check(
        f"Column {str(name)!r} has {len(counts):,} levels or more",
        needed=2 * bytes_of_levels(counts),
        advice=ADVICE_BEFORE_COUNTING,
    )


def check_stored(name: str, levels: int) -> None:
    """Refuse levels that are stored, and not read yet, for which this process has no room.

    Raises
    ------
    DataError
        Naming the column.
    """
    _check(f"Column {name!r} has {levels:,} levels", needed=LEVEL_BYTES * levels, advice=ADVICE)


def _check(what: str, needed: int, advice: str) -> None:
    """Refuse levels that need more memory than this process has; ``what`` says whose they are, and how many."""
    available = memory_of_process()
    if needed > available:
        raise too_many(
            what,
            needed=needed,
            available=available,
            where=process_name(),
            advice=advice,
        )


def too_many(what: str, *, needed: int, available: int, where: str, advice: str) -> DataError:
    """Return the error about features or levels that do not fit in the memory of a process."""
    return DataError(
        f"{what}, which take {in_words(needed)} of memory at least; {where} has {in_words(available)}. {advice}"
    )


def in_words(nbytes: float) -> str:
    """Return bytes in the unit that suits them."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if nbytes < 1000:
            return f"{nbytes:.1f} {unit}"
        nbytes /= 1000
    return f"{nbytes:,.1f} PB"
