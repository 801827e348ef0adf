"""The order in which the sums of partitions are added up: a binary tree over the partitions of a pass.

The tree is fixed by their number. Which task adds up which part of it, and on which worker, makes no difference to the
bits: a task adds up what it has of the tree, and whoever gets its sums goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple


class Subtree(NamedTuple):
    """The sum over partitions ``number << level`` up to ``(number + 1) << level``, as far as there are so many."""

    level: int
    number: int
    sums: Any

    @property
    def parent(self) -> tuple[int, int]:
        """The level and the number of the subtree that this is half of."""
        return self.level + 1, self.number // 2

    def is_whole(self, count: int) -> bool:
        """Return whether it has all partitions."""
        return self.number == 0 and 1 << self.level >= count

    def is_alone(self, count: int) -> bool:
        """Return whether there are no partitions in the other half of its parent."""
        return self.number % 2 == 0 and (self.number + 1) << self.level >= count


def added_up(parts: Iterable[Subtree], count: int, add: Callable) -> list[Subtree]:
    """Return neighbouring subtrees of ``count`` partitions, in their order, with all those added up that make a larger.

    With all partitions there is one left.
    """
    found: list[Subtree] = []
    for subtree in parts:
        found.append(subtree)
        # A subtree is added to its neighbour as soon as both are there, and goes up alone where it has none.
        while not found[-1].is_whole(count):
            last = found[-1]
            if len(found) > 1 and found[-2].parent == last.parent:
                left = found[-2]
                found[-2:] = [Subtree(*last.parent, add(left.sums, last.sums))]
            elif last.is_alone(count):
                found[-1] = Subtree(*last.parent, last.sums)
            else:
                break
    return found
