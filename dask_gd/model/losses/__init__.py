"""Pointwise losses of (prediction, target): value, first and second derivative, inverse link.

They know nothing of X, chunks or weights, so that a loss is a few lines of array arithmetic and everything else
in the package works for it unchanged. ``z`` is the linear prediction ``x w + b``; ``y`` broadcasts against it.
"""

from __future__ import annotations

from dataclasses import asdict, is_dataclass
from typing import Any

from ...errors import choose
from ..identity import code_of, described
from .base import Loss, classes_of
from .classification import Hinge, Logistic, SquaredHinge
from .counts import Gamma, Poisson, Tweedie
from .custom import Custom
from .model import Model
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


def as_loss(loss: Any) -> Any:
    """A loss from its name, from a pair of functions, or itself."""
    if isinstance(loss, tuple) and len(loss) == 2:
        loss = Custom(*loss)
    if isinstance(loss, str):
        return choose("loss", loss, LOSSES)()
    if isinstance(loss, type) or not isinstance(loss, Loss | Model):
        choose("loss", repr(loss), LOSSES)
    return loss


def parameters_of(loss: Loss) -> dict[str, Any]:
    """What a stored run remembers of a loss beside its name, to know it again; functions themselves are not stored."""
    if isinstance(loss, Model):
        return {"function": described(loss.function), "shapes": {n: list(s) for n, s in loss.shapes.items()}}
    if type(loss) is LOSSES.get(loss.name) and is_dataclass(loss):
        return asdict(loss)
    values = {name: v if isinstance(v, str | float | int | None) else described(v) for name, v in vars(loss).items()}
    return {**values, **code_of(loss)}


def loss_of(stored: dict[str, Any]) -> Loss | None:
    """Return the loss that a stored run names, or None if it is the user's own, which is not stored."""
    if stored["name"] not in LOSSES or "code" in stored["parameters"]:
        return None
    return LOSSES[stored["name"]](**stored["parameters"])


__all__ = [
    "LOSSES",
    "Custom",
    "Gamma",
    "Hinge",
    "Huber",
    "Logistic",
    "Loss",
    "Model",
    "Poisson",
    "Quantile",
    "Softmax",
    "Squared",
    "SquaredHinge",
    "Tweedie",
    "as_loss",
    "classes_of",
    "loss_of",
    "pairs",
    "parameters_of",
]
