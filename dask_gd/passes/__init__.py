"""Passes over the data: sums over the rows, computed by Dask with a fixed shape, whatever the cluster."""

from .checks import check_values
from .evaluation import evaluate, hold, in_threads, largest_target, let_go, passes_of, release
from .plan import draw_partitions, note_memory
from .task import pass_done

__all__ = [
    "check_values",
    "draw_partitions",
    "evaluate",
    "hold",
    "in_threads",
    "largest_target",
    "let_go",
    "note_memory",
    "pass_done",
    "passes_of",
    "release",
]
