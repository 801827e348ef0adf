"""Scores of predictions for rows held out, greater for better, with scikit-learn's names and definitions.

Each is a mean over rows, weighted as these are; R^2 is one less the quotient of two such means.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..errors import InvalidArgumentError
from ..model.losses import Logistic, Loss, is_log_loss, target_kind_of

#: Targets (n, k, 1), of several classes their indicators, and predictions z (n, k, m), to the rows' scores (n, m).
OfRows = Callable[[np.ndarray, np.ndarray], np.ndarray]


def accuracy(y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return 1 where the class is right and else 0, for two classes or more."""
    if y.shape[1] > 1:
        right = y.argmax(axis=1) == z.argmax(axis=1)
    else:
        right = ((z > 0) == (y > 0))[:, 0]
    return right * 1.0


def absolute(y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return the negative of the error's size, the mean over outputs."""
    return -np.abs(y - z).mean(axis=1)


def squared(y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return the negative of the error's square, the mean over outputs."""
    return -((y - z) ** 2).mean(axis=1)


def brier(y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return the negative of the squared error of the probability: of the second class, or summed over several."""
    if y.shape[1] == 1:
        return -((Logistic().inverse_link(z) - y) ** 2)[:, 0]
    shares = np.exp(z - z.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return -((shares - y) ** 2).sum(axis=1)


#: The default, which every loss has: the negative of the mean loss, without the penalty.
LOSS = "neg_loss"

#: Scores that follow from the mean squared error.
OF_SQUARES = ("neg_mean_squared_error", "r2")


def score_of_rows(scoring: str, loss: Loss, outputs: int) -> OfRows | None:
    """Return the function of rows whose mean is the score, or None where the score follows from the mean loss."""
    known: dict[str, OfRows | None] = {LOSS: None}
    kind = target_kind_of(loss)
    if kind in ("two classes", "classes"):
        known["accuracy"] = accuracy
        if is_log_loss(loss):
            known["neg_log_loss"] = None
            known["neg_brier_score"] = brier
    elif kind == "real":
        known["neg_mean_absolute_error"] = absolute
        of_squares: OfRows | None = squared
        if loss.quadratic:
            of_squares = None
        known["neg_mean_squared_error"] = of_squares
        # R^2 is for one output only.
        if outputs == 1:
            known["r2"] = of_squares
    if scoring not in known:
        raise InvalidArgumentError(
            f"scoring={scoring!r} does not suit the {loss.name} loss with {outputs} output(s); choose one of "
            f"{', '.join(sorted(known))}."
        )
    return known[scoring]
