"""Scores of predictions for rows held out, greater for better, with scikit-learn's names and definitions.

Most are means over rows, weighted as these are, which the passes of the fits have; R^2 is one less the quotient of two
such means. Others are made of what a pass after the fits sums: see `score_summaries`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..errors import InvalidArgumentError
from ..model.losses import Logistic, Loss, classes_of, is_log_loss, target_kind_of
from .score_errors import OF_AMOUNTS, OF_NUMBERS, Errors
from .score_order import Order
from .score_summaries import OfPredictions, Predictions, RowMeans, Summary
from .score_tables import Table, scores_of_tables

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


def log_loss(loss: Loss) -> OfRows:
    """Return the function that gives the negative of each row's loss."""

    def of_rows(y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Return the negative of the loss, the sum over outputs."""
        value, _ = loss.value_and_slope(z, y)
        return -value.sum(axis=1)

    return of_rows


#: The default, which every loss has: the negative of the mean loss, without the penalty.
LOSS = "neg_loss"

#: Scores that follow from the mean squared error.
OF_SQUARES = ("neg_mean_squared_error", "r2")


class Score(NamedTuple):
    """A score, and how its sums are taken: in the passes of the fits, or by a pass after these.

    The passes of the fits have the mean loss, from which some scores follow, and the mean of a function of rows.
    """

    name: str
    of_rows: OfRows | None = None
    summary: Summary | None = None
    #: In place of the means, where targets are so far from 0 that the sum of their squares has lost digits.
    if_far: Summary | None = None


def score_of(
    scoring: str | OfPredictions,
    loss: Loss,
    outputs: int,
    has_own_weights: bool = False,
) -> Score:
    """Return the score of a name, or of a function of all predictions of a fold; refuse those that do not suit.

    With ``has_own_weights`` scores are weighted by other weights than the fits.
    """
    if not isinstance(scoring, str):
        if not callable(scoring):
            raise InvalidArgumentError(
                f"scoring={scoring!r}: the name of a score, or a function of targets, linear predictions and weights."
            )
        return Score(name_of(scoring), summary=Predictions(scoring))
    means = _means(loss, outputs)
    summaries = _summaries(loss, outputs)
    if scoring not in {**means, **summaries}:
        raise InvalidArgumentError(
            f"scoring={scoring!r} does not suit the {loss.name} loss with {outputs} output(s); choose one of "
            f"{', '.join(sorted({*means, *summaries}))}."
        )
    # What the passes of the fits have needs no other, if their weights are those of the score.
    if scoring in means and not has_own_weights:
        if_far = None
        if scoring == "r2":
            if_far = summaries[scoring]
        return Score(scoring, of_rows=means[scoring], if_far=if_far)
    if scoring in summaries:
        return Score(scoring, summary=summaries[scoring])
    indicators = None
    if classes_of(loss):
        indicators = loss.indicators  # type: ignore[attr-defined]
    return Score(scoring, summary=RowMeans(means[scoring] or log_loss(loss), indicators))


def is_known(scoring: str) -> bool:
    """Return whether a name is that of a score of any loss."""
    of_classes = scores_of_tables(2)
    others = (LOSS, "accuracy", "neg_log_loss", "neg_brier_score", "roc_auc", "average_precision")
    return scoring in {*of_classes, *OF_NUMBERS, *OF_AMOUNTS, *others}


def name_of(scoring: Any) -> str:
    """Return the name of a score, or of a function that is one."""
    if isinstance(scoring, str):
        return scoring
    return getattr(scoring, "__name__", None) or repr(scoring)


def _means(loss: Loss, outputs: int) -> dict[str, OfRows | None]:
    """Return the scores that are means over rows, None where they follow from the mean loss."""
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
        # R^2 of several outputs needs the spread of each.
        if outputs == 1:
            known["r2"] = of_squares
    return known


def _summaries(loss: Loss, outputs: int) -> dict[str, Summary]:
    """Return the scores that take a pass after the fits."""
    kind = target_kind_of(loss)
    known: dict[str, Summary] = {}
    # Each of several outputs of two classes would have a score of its own.
    if kind == "classes" or (kind == "two classes" and outputs == 1):
        classes = classes_of(loss) or 2
        for name, of_table in scores_of_tables(classes).items():
            known[name] = Table(classes, of_table)
        if kind == "two classes":
            known["roc_auc"] = Order("roc_auc")
            known["average_precision"] = Order("average_precision")
    if kind in ("real", "amount"):
        of_errors = dict(OF_NUMBERS)
        if kind == "amount":
            of_errors |= OF_AMOUNTS
        for name, (of_sums, row_loss) in of_errors.items():
            known[name] = Errors(outputs, of_sums, loss.inverse_link, row_loss)
    return known
