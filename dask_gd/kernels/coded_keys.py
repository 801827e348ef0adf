"""The keys by which rows of codes are looked up in tables, and where a factor is among the features and in a table.

Tables have one entry more than their factor has levels. It stands for all codes that are none, and is NaN in a table of
weights: such a row makes the sums NaN, and the check that follows names it.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import numpy as np

from .factors import CodedColumns

#: Factors whose levels have no more combinations than this are looked up together, by one key.
MERGED = 256


class Place(NamedTuple):
    """Where a factor of a key is among the features, and in a table of the key."""

    features: slice
    #: The entries of the factor's table that have a feature.
    kept: slice
    #: The axes of the other factors in a table of the key.
    others: tuple[int, ...]


class Key(NamedTuple):
    """Factors that are looked up by one key: that of a row is made of its codes, the last the fastest."""

    #: The columns of the factors.
    columns: tuple[int, ...]
    #: The entries of each one's table: its levels, and the entry for codes that are none.
    entries: tuple[int, ...]
    #: The entries of a table for all combinations.
    size: int
    places: tuple[Place, ...]

    def table(self, columns: np.ndarray) -> np.ndarray:
        """Return the factors' weights, of those of all features (p, c), added up for each entry: (size, c)."""
        count = columns.shape[1]
        table = np.zeros((1, count))
        # Each factor repeats the table for each of its entries; codes that are none make it NaN.
        for place, entries in zip(self.places, self.entries, strict=True):
            of_factor = np.zeros((entries, count))
            of_factor[place.kept] = columns[place.features]
            of_factor[-1] = np.nan
            table = (table[:, None] + of_factor).reshape(-1, count)
        return table

    def by_factor(self, table: np.ndarray) -> list[tuple[slice, np.ndarray]]:
        """Return for each factor its features, and a table (size, ...) summed over the others' levels.

        Entries that have no feature are left out.
        """
        if len(self.places) == 1:
            [place] = self.places
            return [(place.features, table[place.kept])]
        of_levels = table.reshape(*self.entries, *table.shape[1:])
        return [(place.features, of_levels.sum(axis=place.others)[place.kept]) for place in self.places]


def make_key(row_format: CodedColumns, columns: tuple[int, ...]) -> Key:
    """Return the key of the factors of these columns."""
    entries = []
    places = []
    axes = range(len(columns))
    # The table of a key has an axis for each of its factors.
    for axis, i in enumerate(columns):
        factor = row_format.columns[i]
        assert factor is not None
        entries.append(factor.levels + 1)
        places.append(
            Place(
                features=slice(row_format.starts[i], row_format.starts[i + 1]),
                kept=slice(int(factor.drop_first), factor.levels),
                others=tuple(other for other in axes if other != axis),
            )
        )
    return Key(columns, tuple(entries), prod(entries), tuple(places))


def make_keys(row_format: CodedColumns) -> tuple[Key, ...]:
    """Return the keys by which factors are looked up: small factors, smallest first, share one as far as `MERGED`."""
    # Each factor joins the key before it while the two have few combinations.
    alone = [make_key(row_format, (i,)) for i in row_format.factors]
    keys: list[Key] = []
    for key in sorted(alone, key=lambda key: key.size):
        if keys and keys[-1].size * key.size <= MERGED:
            last = keys.pop()
            keys.append(make_key(row_format, (*last.columns, *key.columns)))
        else:
            keys.append(key)
    return tuple(keys)
