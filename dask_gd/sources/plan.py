"""The size of partitions, and the costs of a pass over a source, known before the first task."""

from __future__ import annotations

from dataclasses import dataclass

#: Bytes of a partition, and the number of partitions to have at least. One or more partitions are a task: large enough
#: that the task's own cost is small beside it, small enough that there are tens of tasks to share out, and to repeat
#: after a worker's death.
PARTITION_BYTES = 128 << 20
PARTITIONS = 32
#: Blocks of Dask arrays are put together up to this size.
SMALL_BLOCK = 4 << 20


@dataclass(frozen=True)
class Plan:
    """The costs of one pass over a source.

    Attributes
    ----------
    partitions : int
        Pieces of consecutive rows, each with its own sums.
    tasks : int
        At most: a task for each partition, and the tasks that add the sums up. Small partitions share tasks.
    rows : int
        Rows of the largest partition.
    bytes_read : int
        Bytes that are read, decoded.
    chunk_bytes : int
        Bytes of a chunk or block of the features, decoded.
    memory : int
        Bytes that a worker's thread needs at most beside its process: buffers for the chunks it decodes, and the sums.
        Rows that are kept between passes come on top, up to half of the worker's limit in all, see `cache`.
    """

    partitions: int
    tasks: int
    rows: int
    bytes_read: int
    chunk_bytes: int
    memory: int

    def __str__(self) -> str:
        return (
            f"{self.partitions} partitions of at most {self.rows:,} rows, at most {self.tasks} tasks a pass, "
            f"{self.bytes_read / 1e6:,.1f} MB read in chunks of {self.chunk_bytes / 1e6:,.3g} MB, "
            f"at most {self.memory / 1e6:,.1f} MB of memory for each thread"
        )
