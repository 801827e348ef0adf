"""Products of a block of rows: how many rows it has, in which precision they are multiplied, and less which shift."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.sparse import issparse

#: Bytes of rows that one sweep of the kernel handles at a time. They stay in the cache between the product that gives
#: the predictions and the one that gives the gradient; with half as many the calls of a block cost more than a smaller
#: cache does. A constant, not read from the machine: it decides the order of the sums, so the same data must give the
#: same bits everywhere.
BLOCK_BYTES = 1 << 20
#: Rows of a block at least. Wide rows fill more than a cache, and then share an update of the gradient, which is as
#: wide.
BLOCK_ROWS = 64


def block_rows(p: int, itemsize: int) -> int:
    """Return the rows of a cache block: a multiple of 16."""
    rows = BLOCK_BYTES // max(1, p * itemsize)
    return max(BLOCK_ROWS, rows // 16 * 16)


def narrow(a: np.ndarray, dtype: np.dtype) -> tuple[np.ndarray, float]:
    """Return ``a / unit`` in the products' precision, and ``unit``, a power of two of a's size.

    Weights, slopes and row weights may be of any size in float64. The range of float32 is narrow: rounded to it as
    they are, small values would become zero without a word. In float64 nothing is done.
    """
    if a.dtype == dtype:
        return np.ascontiguousarray(a), 1.0
    # A power of two changes no digit.
    largest = np.abs(a).max(initial=0.0)
    unit = 1.0
    if 0 < largest < np.inf:
        unit = 2.0 ** np.floor(np.log2(largest))
    narrowed = (a / unit).astype(dtype)
    return np.ascontiguousarray(narrowed), unit


def scaled_back(product: np.ndarray, unit: float) -> np.ndarray:
    """Return a product of `narrow` factors in float64, times their unit."""
    if unit == 1.0:
        return product.astype(np.float64, copy=False)
    return product * unit


def linear(x: Any, weights: np.ndarray, constant: np.ndarray) -> np.ndarray:
    """Return ``x w + b`` in float64 for rows (n, p) of any dtype, dense or SciPy's sparse: (n, k), or (n,).

    (n,) is for weights (p,).
    """
    if issparse(x):
        return x @ weights + constant
    predictions = np.empty((len(x), *weights.shape[1:]))
    # Block by block, so that rows of another dtype are never copied as a whole.
    step = block_rows(x.shape[1], predictions.itemsize)
    for start in range(0, len(x), step):
        rows = slice(start, start + step)
        block = x[rows].astype(float, copy=False)
        predictions[rows] = block @ weights + constant
    return predictions


#: Values that `Near` subtracts in a sweep: it takes narrow rows several at a time, which costs less.
TOGETHER = 8192


class Near:
    """Subtracts a shift (p,) from rows, into memory that stays in the processor's cache."""

    def __init__(self, shift: np.ndarray, dtype: np.dtype):
        self.shift = shift.astype(dtype)
        # Rows of a sweep, and the shift once for each of them.
        self.rows_together = max(1, TOGETHER // len(shift))
        self.repeated_shift = np.tile(self.shift, self.rows_together)
        self.buffer = np.empty((0, len(shift)), dtype)

    def __call__(self, block: np.ndarray) -> np.ndarray:
        """Return rows (n, p) less the shift, valid until the next call."""
        if len(self.buffer) < len(block):
            self.buffer = np.empty_like(block)
        out = self.buffer[: len(block)]
        # Rows that make up whole sweeps are taken together, and the rest one by one.
        whole = len(block) // self.rows_together * self.rows_together
        sweeps = (-1, len(self.repeated_shift))
        np.subtract(
            block[:whole].reshape(sweeps),
            self.repeated_shift,
            out=out[:whole].reshape(sweeps),
        )
        np.subtract(block[whole:], self.shift, out=out[whole:])
        return out


def rounding_of(dtype: np.dtype, rows: int) -> float:
    """Return the share of a loss that is rounding: sums of float32 products keep about nine digits over many rows.

    Over few rows the roundings of the products do not average out as far.
    """
    if dtype == np.float32:
        return max(1e-9, 2 * float(np.finfo(np.float32).eps) / math.sqrt(max(1, rows)))
    return 16 * float(np.finfo(float).eps)
