"""Losses, under the name by which users import them; see `dask_gd.model.losses`."""

from .model.losses import (
    LOSSES,
    Custom,
    Gamma,
    Hinge,
    Huber,
    Logistic,
    Loss,
    Model,
    Poisson,
    Quantile,
    Softmax,
    Squared,
    SquaredHinge,
    Tweedie,
    as_loss,
    parameters_of,
)

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
    "parameters_of",
]
