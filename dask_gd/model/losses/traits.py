"""The traits of losses: what a loss says of itself beside its arithmetic, and what is assumed where it says nothing.

Who scores, assigns folds or infers asks for these, not for the name or the class of a loss. `Model` alone is known by
its class: it is no pointwise loss.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from .base import Loss, classes_of

#: What the targets are: any numbers, which the prediction z itself is to meet; numbers of 0 or more, of mean
#: ``exp(z)``; 0 and 1; or numbers of classes.
TargetKind = Literal["real", "amount", "two classes", "classes"]

#: How the likelihood of the targets is spread about their mean: the dispersion is 1, or follows from the residuals.
Likelihood = Literal["known dispersion", "estimated dispersion"]

#: The kinds of targets by the names of losses that say nothing. Before there were traits the name alone decided which
#: scores suit, of users' own losses too.
KINDS_BY_NAME: dict[str, TargetKind] = {
    "hinge": "two classes",
    "huber": "real",
    "logistic": "two classes",
    "quantile": "real",
    "squared": "real",
    "squared_hinge": "two classes",
}


def target_kind_of(loss: Loss) -> TargetKind | None:
    """Return what the targets of a loss are; None where that is not known."""
    default: TargetKind | None = KINDS_BY_NAME.get(loss.name)
    if classes_of(loss):
        default = "classes"
    return _stated(loss, "target_kind", get_args(TargetKind), default)


def likelihood_of(loss: Loss) -> Likelihood | None:
    """Return what is known of the dispersion of the likelihood that a loss is; None where it is none."""
    return _stated(loss, "likelihood", get_args(Likelihood), None)


def is_log_loss(loss: Loss) -> bool:
    """Return whether the loss is the negative logarithm of a class's probability."""
    if target_kind_of(loss) == "classes":
        return True
    # A user's own loss of this name need not say it, as `KINDS_BY_NAME` explains.
    is_likelihood = likelihood_of(loss) is not None or loss.name == "logistic"
    return target_kind_of(loss) == "two classes" and is_likelihood


def _stated(
    loss: Loss,
    trait: str,
    choices: tuple[str, ...],
    default: str | None,
) -> Any:
    """Return a trait as the loss states it; the default where it has none, or uses the name for something else."""
    value = getattr(loss, trait, default)
    is_trait = isinstance(value, str) and value in choices
    if is_trait or value is None:
        return value
    return default
