"""Sums over all blocks, which come from the workers with whatever is fetched next."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .expression import Sum
from .owners import Later


class Sums:
    """Sums over all blocks: the results of a program's tasks, or of the parts of these that have the sums."""

    def __init__(self, later: Later, sums: Sequence[Sum], are_wholes: bool):
        self.later = later
        # Not the nodes themselves, which have what they are made of.
        self.are_largest = [each.second is None for each in sums]
        self.are_wholes = are_wholes
        self.found: list[np.ndarray] | None = None

    def __call__(self) -> list[np.ndarray]:
        """Return the sums, (k, m) each; wait for them, if they have not come yet."""
        if self.found is None:
            of_bundles = self.later.results()
            if self.are_wholes:
                of_bundles = [results[-1] for results in of_bundles]
            of_blocks = [of_block for of_bundle in of_bundles for of_block in of_bundle]
            self.found = _added_up(of_blocks, self.are_largest)
        return self.found


def _added_up(of_blocks: Sequence[list[np.ndarray]], are_largest: Sequence[bool]) -> list[np.ndarray]:
    """Return the sums over all blocks, in their order, so that bits do not depend on the owners."""
    totals = list(of_blocks[0])
    for of_block in of_blocks[1:]:
        for number, is_largest in enumerate(are_largest):
            if is_largest:
                totals[number] = np.maximum(totals[number], of_block[number])
            else:
                totals[number] = totals[number] + of_block[number]
    return totals
