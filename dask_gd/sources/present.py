"""The targets of a source that hold values."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Present(NamedTuple):
    """The columns of a target that hold values, the number of all its columns, and the names of all."""

    columns: tuple[int, ...]
    total: int
    names: tuple | None

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Return values (..., columns) of all targets, NaN for those that are left out."""
        out = np.full((*values.shape[:-1], self.total), np.nan)
        out[..., list(self.columns)] = values
        return out
