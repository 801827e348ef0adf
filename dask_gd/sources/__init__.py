"""Where rows come from. A `Source` has a shape, names, a fingerprint and fixed partitions of rows.

Features, targets and weights each are either streamed (Zarr: decoded inside the task, a few chunks at a time, into
a buffer that the thread keeps) or materialised (Dask blocks, NumPy arrays). The features decide the partitions and
the rest is aligned to them, by row and never by block number. Partitions come from the data, not from the cluster,
so that the sums, and with them the weights, have the same bits on any number of workers.
"""

from .opening import as_source, open
from .reader import Reader, Rows
from .source import Source

__all__ = ["Reader", "Rows", "Source", "as_source", "open"]
