"""Passes over the data: sums over the rows, computed by Dask with a fixed shape, whatever the cluster."""

from .checks import check_values
from .evaluation import evaluate, in_threads, largest_target, passes_of, persist, release, unpersist
from .plan import draw_partitions, note_memory
from .task import pass_done

__all__ = [
    "check_values",
    "draw_partitions",
    "evaluate",
    "in_threads",
    "largest_target",
    "note_memory",
    "pass_done",
    "passes_of",
    "persist",
    "release",
    "unpersist",
]
