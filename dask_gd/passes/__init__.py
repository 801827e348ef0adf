"""Passes over the data: sums over the rows, computed by Dask with a fixed shape, whatever the cluster."""

from .checks import check_values
from .evaluation import evaluate, in_threads, largest_target, persist, release, unpersist
from .plan import draw_partitions, note_memory
from .reduction import passes_of, reduce_rows
from .task import PartitionRows, Work, pass_done

__all__ = [
    "PartitionRows",
    "Work",
    "check_values",
    "draw_partitions",
    "evaluate",
    "in_threads",
    "largest_target",
    "note_memory",
    "pass_done",
    "passes_of",
    "persist",
    "reduce_rows",
    "release",
    "unpersist",
]
