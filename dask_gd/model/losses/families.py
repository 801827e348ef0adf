"""Families of distributions by their names in statsmodels and R, for the losses that are their likelihoods."""

from __future__ import annotations

from typing import Any

from ...errors import InvalidArgumentError
from ...validate import choose

#: The loss of each family. Its link is the loss's: identity, logit, log for the counts and amounts, softmax.
FAMILIES = {
    "binomial": "logistic",
    "gamma": "gamma",
    "gaussian": "squared",
    "multinomial": "softmax",
    "poisson": "poisson",
    "tweedie": "tweedie",
}


def loss_of_family(loss: Any, family: str | None) -> Any:
    """Return the loss that was asked for, by its own name or by that of a family; the squared loss by default.

    Raises
    ------
    InvalidArgumentError
        If both are given, or the family is none of these.
    """
    if family is None:
        if loss is None:
            return "squared"
        return loss
    if loss is not None:
        raise InvalidArgumentError(
            f"loss={loss!r} and family={family!r}: give one of them. A family is another name for a loss, and "
            "parameters are a loss's: loss=dask_gd.Tweedie(power=1.7)."
        )
    if isinstance(family, str):
        family = family.lower()
    return choose("family", family, FAMILIES)
