"""The objective of a sample, corrected by the gradient and the curvature that all rows have at one point.

With J of all rows and S of a sample, at the centre c and with d = w - c,

    F(w) = S(w) + (J(c) - S(c)) + <J'(c) - S'(c), d> + <d, (J''(c) - S''(c)) d> / 2

has the value, the gradient and the curvature of J at c; only its third derivatives are the sample's. At its minimum
the gradient of J is half the error of these along d, twice. `docs/one_pass.md` has the method and what it reaches.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import LinAlgError, eigh

from ..objective import Objective
from ..vectors import dot


class Centre(NamedTuple):
    """The objective at one point: of all rows, of a sample of them, and of the halves of the sample."""

    weights: np.ndarray  # (q, k, 1)
    whole: Objective
    sample: Objective
    halves: tuple[Objective, Objective]
    has_curvature: bool = True  # of all rows; else that of the sample is in its place


def corrected(of_sample: Objective, query: np.ndarray, centre: Centre) -> Objective:
    """Return the objective of the sample at a query (q, k, m) as that of all rows, see above."""
    whole = centre.whole
    sample = centre.sample
    assert whole.curvature is not None
    assert sample.curvature is not None
    move = query - centre.weights
    curvature = whole.curvature - sample.curvature
    gradient = whole.gradient - sample.gradient
    change = curved(curvature, move)
    return of_sample._replace(
        loss=of_sample.loss + (whole.loss - sample.loss) + dot(move, gradient + 0.5 * change),
        gradient=of_sample.gradient + gradient + change,
        curvature=None if of_sample.curvature is None else of_sample.curvature + curvature,
    )


def curved(curvature: np.ndarray, move: np.ndarray) -> np.ndarray:
    """Return the products of curvatures (q, q, k or 1) with moves (q, k, m)."""
    q, k, _ = move.shape
    return np.einsum("qrk,rkm->qkm", np.broadcast_to(curvature, (q, q, k)), move)


def solved(curvature: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Return the moves (q, k, 1) whose products with curvatures (q, q, k or 1), not singular, are a gradient."""
    moves = np.empty_like(gradient)
    for j in range(gradient.shape[1]):
        moves[:, j] = np.linalg.solve(curvature[:, :, min(j, curvature.shape[2] - 1)], gradient[:, j])
    return moves


def beyond_quadratic(at: Objective, before: Objective, move: np.ndarray) -> np.ndarray:
    """Return the part of the gradient after a move (q, k, 1) that gradient and curvature before it do not foretell."""
    assert before.curvature is not None
    return at.gradient - before.gradient - curved(before.curvature, move)


def spread(curvature: np.ndarray, other: np.ndarray, ridge: np.ndarray) -> float:
    """Return how far a curvature is from another, as a share of it in the direction where that is most.

    Both are (q, q, k or 1), with the penalty's ``ridge`` (q, 1, 1) in them. Single features are compared without it:
    a feature that one of them lacks has the penalty's curvature in both. It is infinite where the other curvature is
    singular.
    """
    every = np.arange(len(curvature))
    largest = 0.0
    for j in range(curvature.shape[2]):
        of_rows = other[every, every, j] - ridge[:, 0, 0]
        share = (curvature[every, every, j] - ridge[:, 0, 0]) / np.where(of_rows > 0, of_rows, np.nan)
        if not np.isfinite(share).all():
            return np.inf
        root = np.sqrt(np.diagonal(other[:, :, j]))
        scale = np.outer(root, root)
        try:
            values = eigh(curvature[:, :, j] / scale, other[:, :, j] / scale, eigvals_only=True)
        except LinAlgError:
            return np.inf
        shares = np.concatenate([share, values])
        largest = max(largest, float(np.abs(shares - 1).max()))
    return largest
