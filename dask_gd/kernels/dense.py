"""Dense rows: arrays, which NumPy multiplies."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .products import block_rows


class DenseRows(NamedTuple):
    """Rows that are an array (n, p) of the dtype in which products are taken."""

    dtype: np.dtype
    features: int

    @property
    def block_rows(self) -> int:
        """The rows of a cache block."""
        return block_rows(self.features, self.dtype.itemsize)
