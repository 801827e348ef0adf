"""How large partitions are, and what a pass over a source will take, known before the first task."""

from __future__ import annotations

from dataclasses import dataclass

#: A partition, or some, is a task: large enough that the task's own cost is small beside it, small enough that
#: there are some tens of them to share out and to repeat after a worker's death.
PARTITION_BYTES = 128 << 20
PARTITIONS = 32
#: Blocks of Dask arrays are put together up to this size.
SMALL_BLOCK = 4 << 20


@dataclass(frozen=True)
class Plan:
    """What one pass over a source takes.

    Attributes
    ----------
    partitions : int
        Of consecutive rows, each of which has sums of its own.
    tasks : int
        At most: one for each partition, and those that add the sums up. Small partitions share tasks.
    rows : int
        Rows of the largest partition.
    bytes_read : int
        Decoded.
    chunk_bytes : int
        Of the features' chunks or blocks, decoded.
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
