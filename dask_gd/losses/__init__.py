"""Pointwise losses of (prediction, target): value, first and second derivative, inverse link.

They know nothing of X, chunks or weights, so that a loss is a few lines of array arithmetic and everything else
in the package works for it unchanged. ``z`` is the linear prediction ``x w + b``; ``y`` broadcasts against it.
"""

from __future__ import annotations

from typing import Any

from ..errors import choose
from .base import Loss, classes_of
from .classification import Hinge, Logistic, SquaredHinge
from .counts import Gamma, Poisson, Tweedie
from .multinomial import Softmax, pairs
from .regression import Huber, Quantile, Squared

#: By name: what makes the loss, with its parameters' defaults.
LOSSES: dict[str, Any] = {
    "gamma": Gamma,
    "hinge": Hinge,
    "huber": Huber,
    "logistic": Logistic,
    "poisson": Poisson,
    "quantile": Quantile,
    "softmax": Softmax,
    "squared": Squared,
    "squared_hinge": SquaredHinge,
    "tweedie": Tweedie,
}


def as_loss(loss: str | Loss) -> Loss:
    """A loss from its name or itself."""
    if isinstance(loss, str):
        return choose("loss", loss, LOSSES)()
    if isinstance(loss, type) or not isinstance(loss, Loss):
        choose("loss", repr(loss), LOSSES)
    return loss


__all__ = [
    "LOSSES",
    "Gamma",
    "Hinge",
    "Huber",
    "Logistic",
    "Loss",
    "Poisson",
    "Quantile",
    "Softmax",
    "Squared",
    "SquaredHinge",
    "Tweedie",
    "as_loss",
    "classes_of",
    "pairs",
]
