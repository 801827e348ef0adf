"""Rows of numbers and codes for tests: a column in memory, and the same rows written out."""

from dataclasses import dataclass, field, replace

import dask.array as da
import numpy as np

from dask_gd.kernels.codes import CodedRows
from dask_gd.kernels.factors import Factor
from dask_gd.sources import as_source
from dask_gd.sources.dask_column import DaskColumn


@dataclass(frozen=True)
class CodedColumn(DaskColumn):
    """Columns of numbers and of codes, all as floats in one array."""

    coded: CodedRows = field(default_factory=lambda: CodedRows((None,)))

    @property
    def shape(self):
        return len(self.array), self.coded.features

    def row_format(self, dtype):
        return self.coded

    def nbytes(self, rows):
        return 8 * rows * self.array.shape[1]


def coded_source(numbers, codes, y, levels, chunk=None, drop_first=(), weight=None, offset=None):
    """Return a source of numbers (n, p) and codes (n, factors); ``drop_first`` has the factors without a first level.

    Rows are in partitions of ``chunk``.
    """
    columns = [None] * numbers.shape[1]
    columns += [Factor(count, f in drop_first) for f, count in enumerate(levels)]
    table = np.column_stack([numbers, codes]).astype(float)
    chunk = chunk or len(table)
    source = as_source(da.from_array(table, chunks=(chunk, -1)), y, weight, offset=offset)
    x = CodedColumn(source.x.array, "x", coded=CodedRows(tuple(columns)))
    return replace(source, by_role={**source.by_role, "x": x})


def written_out(source):
    """Return the rows as an array (n, p)."""
    return source.row_format.dense((source.x.array.compute(),))
