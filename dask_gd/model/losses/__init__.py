"""Pointwise losses of (prediction, target): value, first and second derivative, inverse link.

They know nothing of X, chunks or weights. So a loss is a few lines of array arithmetic, and everything else in the
package works for it unchanged. ``z`` is the linear prediction ``x w + b``; ``y`` broadcasts against it.
"""

from __future__ import annotations

from dataclasses import asdict, is_dataclass
from typing import Any

from ...validate import choose
from ..identity import code_of, described
from .base import Loss, classes_of
from .classification import Hinge, Logistic, SquaredHinge
from .counts import Gamma, Poisson, Tweedie
from .custom import Custom
from .model import Model
from .multinomial import Softmax, pairs
from .regression import Huber, Quantile, Squared
from .traits import is_log_loss, likelihood_of, target_kind_of

#: For each name, a callable that makes the loss with the defaults of its parameters.
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
    """Return a loss from its name, from a pair of functions, or from itself."""
    if isinstance(loss, tuple) and len(loss) == 2:
        loss = Custom(*loss)
    if isinstance(loss, str):
        return choose("loss", loss, LOSSES)()
    if isinstance(loss, type) or not isinstance(loss, Loss | Model):
        # It is in no list of names, so that this raises the error that lists them.
        choose("loss", repr(loss), LOSSES)
    return loss


def parameters_of(loss: Loss) -> dict[str, Any]:
    """Return the parameters by which a stored run knows a loss again; functions are hashed and not stored."""
    if isinstance(loss, Model):
        shapes = {name: list(shape) for name, shape in loss.shapes.items()}
        return {"function": described(loss.function), "shapes": shapes}
    if type(loss) is LOSSES.get(loss.name) and is_dataclass(loss):
        return asdict(loss)
    # A loss that the user wrote is known by its attributes and by the code of its class.
    values: dict[str, Any] = {}
    for name, value in vars(loss).items():
        if isinstance(value, str | float | int | None):
            values[name] = value
        else:
            values[name] = described(value)
    return {**values, **code_of(loss)}


def loss_of(stored: dict[str, Any]) -> Loss | None:
    """Return the loss that a stored run names, or None if the user wrote it: such a loss is not stored."""
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
    "is_log_loss",
    "likelihood_of",
    "loss_of",
    "pairs",
    "parameters_of",
    "target_kind_of",
]
